//! What settings are made of, and how it is written.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Ports from the first to the last, both included; `20000-20999` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ports = text.split_once('-').and_then(|(first, last)| {
            let first = first.trim().parse().ok()?;
            let last = last.trim().parse().ok()?;
            (first <= last).then_some(Self { first, last })
        });
        ports.ok_or_else(|| format!("`{text}` is no range of ports such as 20000-20999"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(ports: PortRange) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A video codec, by its name in session descriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPER")]
pub enum VideoCodec {
    /// Every browser has it.
    Vp8,
    /// Many phones have it in hardware.
    H264,
    /// Better than VP8 at the same rate.
    Vp9,
    /// The best at low rates, and the most work.
    Av1,
}

/// Which media servers rooms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MediaServers {
    /// The one in this process.
    Embedded,
    /// Kurento Media Servers.
    Kms,
    /// All of them.
    Pool,
}

impl MediaServers {
    /// Rooms may use the one in this process.
    pub fn embedded(self) -> bool {
        self != Self::Kms
    }

    /// Rooms may use Kurento Media Servers.
    pub fn kms(self) -> bool {
        self != Self::Embedded
    }
}

/// How a room's media server is chosen among several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MediaPolicy {
    /// The first that is up and not full: the embedded one, then the others in their order.
    #[default]
    Fixed,
    /// In turn.
    RoundRobin,
    /// The one with the smallest part of its rooms in use.
    LeastLoaded,
}

impl From<MediaPolicy> for room::pool::Choice {
    fn from(policy: MediaPolicy) -> Self {
        match policy {
            MediaPolicy::Fixed => Self::Fixed,
            MediaPolicy::RoundRobin => Self::RoundRobin,
            MediaPolicy::LeastLoaded => Self::LeastLoaded,
        }
    }
}

/// What becomes of Kurento's classes that need decoded media, such as mixers, and of uploads over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Unsupported {
    /// They can be made, and an `Error` event says that they do nothing.
    #[default]
    Declare,
    /// They cannot be made.
    Reject,
}

/// What answers to the offers of Kurento's clients hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// All that both sides know.
    #[default]
    Modern,
    /// What Kurento's own answers hold.
    Strict,
}

/// Whether media threads stay on one CPU each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PinWorkers {
    /// If there are as many as CPUs.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What may be used to move many UDP datagrams at once: `auto`, `off`, or a list such as `gso,sendmmsg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UdpOffload(pub sfu::config::UdpOffload);

impl UdpOffload {
    /// All that the system does.
    pub const AUTO: Self = Self(sfu::config::UdpOffload::ALL);
}

impl FromStr for UdpOffload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut chosen = sfu::config::UdpOffload::NONE;
        match text {
            "auto" => return Ok(Self::AUTO),
            "off" => return Ok(Self(chosen)),
            _ => {}
        }
        for name in text.split(',') {
            match name.trim() {
                "gso" => chosen.gso = true,
                "gro" => chosen.gro = true,
                "sendmmsg" => chosen.sendmmsg = true,
                _ => {
                    return Err(format!(
                        "`{text}` is neither auto, nor off, nor a list of gso, gro and sendmmsg"
                    ));
                }
            }
        }
        Ok(Self(chosen))
    }
}

impl TryFrom<String> for UdpOffload {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UdpOffload> for String {
    fn from(offload: UdpOffload) -> Self {
        offload.to_string()
    }
}

impl fmt::Display for UdpOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AUTO => f.write_str("auto"),
            Self(offload) => offload.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_read_as_they_are_written() {
        let range: PortRange = "20000 - 20999".parse().unwrap();
        let expected = PortRange {
            first: 20_000,
            last: 20_999,
        };
        assert_eq!(range, expected);
        assert_eq!(range.to_string().parse(), Ok(range));
        for text in ["", "20000", "-", "2-1", "1-65536", "a-b", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn udp_offload_is_read_as_it_is_written() {
        let check = |text: &str, gso, gro, sendmmsg, written: &str| {
            let offload: UdpOffload = text.parse().unwrap();
            let expected = sfu::config::UdpOffload { gso, gro, sendmmsg };
            assert_eq!(offload.0, expected, "{text}");
            assert_eq!(offload.to_string(), written);
            assert_eq!(written.parse(), Ok(offload));
        };
        check("auto", true, true, true, "auto");
        check("off", false, false, false, "off");
        check("gso", true, false, false, "gso");
        check("sendmmsg, gro", false, true, true, "gro,sendmmsg");
        check("gso,gro,sendmmsg", true, true, true, "auto");
        for text in ["", "on", "gso,", "gso gro", "auto,gso", "GSO"] {
            assert!(text.parse::<UdpOffload>().is_err(), "{text}");
        }
    }
}
