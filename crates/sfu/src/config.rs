//! How the native media server is set up.
//!
//! Read [`Config`] first. Without addresses to announce, those of the network interfaces are taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread;

use crate::engine::sdp::Codec;

/// Addresses announced at most. Every one costs each peer a connectivity check per transport, and a
/// host full of containers has dozens. Too low: the one that works is missing.
const ANNOUNCED_MAX: usize = 16;

/// Set-up of a [`NativeMediaServer`](crate::NativeMediaServer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The one port, UDP and TCP, for all media but plain RTP. Where the system cannot share a port among
    /// workers (all but Linux), each worker has its own: `udp_port..udp_port + workers`.
    /// 0 lets the system choose, which [`NativeMediaServer::ports`](crate::NativeMediaServer::ports)
    /// then tells.
    ///
    /// The default 7100 needs no privilege and lies below the ranges from which systems pick ports for
    /// outgoing connections (Linux from 32768, others from 49152). The registered 3478 is left to
    /// the TURN server that often shares the machine.
    pub udp_port: u16,
    /// UDP ports for RTP endpoints, whose peers need ports of their own: two pairs of an even port and
    /// the next one for each, so 1000 ports are good for 250 endpoints. `0..=0` lets the system choose.
    ///
    /// The default 20000 to 20999 lies below the ranges of outgoing connections, as `udp_port` does.
    pub rtp_ports: RangeInclusive<u16>,
    /// Worker threads. Default: one per core.
    pub workers: NonZeroUsize,
    /// Whether each worker stays on one CPU. Default: if there are as many as CPUs that this process may use.
    pub pin_workers: Pinning,
    /// Addresses to listen on. A missing IPv6 is tolerated for `::`. Default: `0.0.0.0` and `::`.
    pub listen: Vec<IpAddr>,
    /// Addresses told to peers, such as the public address of a host behind a 1:1 NAT. Empty: those of
    /// the network interfaces.
    pub announce: Vec<IpAddr>,
    /// Tell the loopback address too, for peers on this machine that refuse all others. It is told anyway
    /// when there is nothing else.
    pub announce_loopback: bool,
    /// Accept ICE over TCP on the same port number, for peers whose network blocks UDP.
    pub ice_tcp: bool,
    /// What to use of the system's ways to move many UDP datagrams at once, as far as they work. Default: all.
    pub udp_offload: UdpOffload,
    /// Put first in descriptions, whatever the peer prefers, so that all endpoints of a pipeline agree.
    /// `None`: keep the order of the peer.
    pub preferred_video_codec: Option<Codec>,
    /// The directory below which files may be recorded and played. `None`: no file at all.
    pub recordings: Option<PathBuf>,
}

/// Whether a worker stays on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// If there are several, and exactly as many as CPUs which this process may use and keep busy. Fewer leave CPUs
    /// free, and the system knows better which; more would wait for each other.
    #[default]
    Auto,
    /// Always; more workers than CPUs share them.
    On,
    /// Never.
    Off,
}

/// Ways to move many UDP datagrams at the cost of one. What the system does not do is left out by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpOffload {
    /// Generic segmentation offload (`UDP_SEGMENT`, Linux 4.18): datagrams of one length for one peer go to the
    /// system as one message. Worth more than all else.
    pub gso: bool,
    /// Generic receive offload (`UDP_GRO`, Linux 5.0): such datagrams come from the system as one.
    pub gro: bool,
    /// Messages for several peers by one system call (`sendmmsg`, Linux 3.0).
    pub sendmmsg: bool,
}

impl UdpOffload {
    /// All of them.
    pub const ALL: Self = Self {
        gso: true,
        gro: true,
        sendmmsg: true,
    };

    /// None of them: one system call for each datagram that leaves.
    pub const NONE: Self = Self {
        gso: false,
        gro: false,
        sendmmsg: false,
    };

    /// What both have.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            gso: self.gso && other.gso,
            gro: self.gro && other.gro,
            sendmmsg: self.sendmmsg && other.sendmmsg,
        }
    }

    /// True if a run that lies in two places leaves as one message; otherwise it would be cut at once.
    pub(crate) fn may_join(self) -> bool {
        self.gso && self.sendmmsg
    }

    /// Each by its name, and whether it is chosen.
    pub fn parts(self) -> [(&'static str, bool); 3] {
        [
            ("gso", self.gso),
            ("gro", self.gro),
            ("sendmmsg", self.sendmmsg),
        ]
    }
}

impl fmt::Display for UdpOffload {
    /// `gso,sendmmsg`, or `off`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = self.parts().into_iter().filter(|(_, chosen)| *chosen);
        let names: Vec<_> = chosen.map(|(name, _)| name).collect();
        match names.is_empty() {
            true => f.write_str("off"),
            false => f.write_str(&names.join(",")),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            udp_port: 7100,
            rtp_ports: 20_000..=20_999,
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            listen: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            announce: Vec::new(),
            announce_loopback: false,
            ice_tcp: true,
            pin_workers: Pinning::Auto,
            udp_offload: UdpOffload::ALL,
            preferred_video_codec: None,
            recordings: None,
        }
    }
}

impl Config {
    /// The addresses to tell peers, given those of the network interfaces and those that a socket
    /// listens on. Best first, without duplicates.
    pub(crate) fn announced(&self, interfaces: &[IpAddr], listening: &[IpAddr]) -> Vec<IpAddr> {
        if !self.announce.is_empty() {
            return unique(self.announce.iter().copied());
        }
        let reachable = |address: &IpAddr| {
            listening.iter().any(|socket| {
                socket == address
                    || socket.is_unspecified() && socket.is_ipv4() == address.is_ipv4()
            })
        };
        let candidates: Vec<IpAddr> = interfaces
            .iter()
            .copied()
            .filter(|address| is_announceable(*address) && reachable(address))
            .collect();
        let (loopback, mut announced): (Vec<IpAddr>, Vec<IpAddr>) =
            candidates.into_iter().partition(IpAddr::is_loopback);
        if announced.is_empty() || self.announce_loopback {
            announced.extend(loopback);
        }
        unique(announced)
    }
}

/// Addresses of all network interfaces that are up.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces
            .into_iter()
            .filter(if_addrs::Interface::is_oper_up)
            .map(|interface| interface.ip())
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot list network interfaces; announcing loopback only");
            vec![Ipv4Addr::LOCALHOST.into()]
        }
    }
}

/// False for addresses that mean nothing without naming an interface, which SDP cannot do.
fn is_announceable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

fn unique(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !kept.contains(&address) && kept.len() < ANNOUNCED_MAX {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: [&str; 2] = ["0.0.0.0", "::"];

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn check(config: &Config, interfaces: &[&str], listening: &[&str], expected: &[&str]) {
        let announced = config.announced(&addresses(interfaces), &addresses(listening));
        assert_eq!(
            announced,
            addresses(expected),
            "{interfaces:?} on {listening:?}"
        );
    }

    #[test]
    fn interface_addresses_are_announced_without_loopback_and_link_local() {
        let config = Config::default();
        check(
            &config,
            &[
                "127.0.0.1",
                "10.0.0.5",
                "::1",
                "fe80::1",
                "2001:db8::7",
                "10.0.0.5",
                "169.254.3.4",
            ],
            &ANY,
            &["10.0.0.5", "2001:db8::7"],
        );
    }

    #[test]
    fn loopback_is_announced_if_wanted_or_alone() {
        let wanted = Config {
            announce_loopback: true,
            ..Config::default()
        };
        check(
            &wanted,
            &["127.0.0.1", "10.0.0.5"],
            &ANY,
            &["10.0.0.5", "127.0.0.1"],
        );
        check(
            &Config::default(),
            &["127.0.0.1", "fe80::1"],
            &ANY,
            &["127.0.0.1"],
        );
    }

    #[test]
    fn only_addresses_that_a_socket_serves_are_announced() {
        let config = Config::default();
        check(
            &config,
            &["10.0.0.5", "2001:db8::7"],
            &["0.0.0.0"],
            &["10.0.0.5"],
        );
        check(
            &config,
            &["10.0.0.5", "10.1.0.5"],
            &["10.1.0.5"],
            &["10.1.0.5"],
        );
        check(
            &config,
            &["127.0.0.1", "10.0.0.5"],
            &["127.0.0.1"],
            &["127.0.0.1"],
        );
    }

    #[test]
    fn configured_addresses_replace_all_others() {
        let config = Config {
            announce: addresses(&["203.0.113.9"]),
            ..Config::default()
        };
        check(&config, &["10.0.0.5"], &ANY, &["203.0.113.9"]);
    }

    #[test]
    fn number_of_announced_addresses_is_bounded() {
        let many: Vec<IpAddr> = (0..100)
            .map(|n| Ipv4Addr::new(10, 0, 0, n).into())
            .collect();
        let announced = Config::default().announced(&many, &addresses(&ANY));
        assert_eq!(announced.len(), ANNOUNCED_MAX);
    }

    #[test]
    fn this_machine_has_an_address() {
        assert!(!interface_addresses().is_empty());
    }
}
