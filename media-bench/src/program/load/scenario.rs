//! Who is in which room and sends what: [`Scenario`], by name.

use std::fmt;
use std::str::FromStr;

/// Participants that one run may have. More would need more file descriptors than most systems give.
const PARTICIPANTS_MAX: usize = 10_000;

/// Speakers of a webinar.
const SPEAKERS: usize = 10;

/// Viewers who are there when a join storm begins.
const STORM_BASE: usize = 100;

/// Joins per second of a join storm.
const STORM_RATE: u32 = 50;

/// What `all` runs.
pub(crate) const ALL: [&str; 11] = [
    "fanout-10",
    "fanout-100",
    "fanout-200",
    "fanout-500",
    "fanout-1000",
    "meeting-5x4",
    "meeting-20",
    "webinar-1000",
    "join-storm",
    "audio-200",
    "idle-1000",
];

/// What a publisher sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// A picture and speech.
    Full,
    /// Speech without a picture.
    Speech,
    /// A microphone in a quiet room: Opus sends a packet now and then (DTX).
    Quiet,
    /// Nothing.
    Mute,
}

/// A situation to put the server into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) rooms: usize,
    /// In each room.
    pub(crate) publishers: usize,
    /// In each room, who only watch.
    pub(crate) viewers: usize,
    /// Publishers watch each other.
    pub(crate) mutual: bool,
    /// What the first publisher of a room sends.
    pub(crate) first: Voice,
    /// What the others send.
    pub(crate) others: Voice,
    /// Viewers that come while the clock runs, per second.
    pub(crate) joins_per_second: u32,
}

impl Scenario {
    /// Streams received by all together when the measurement begins: transports towards the server.
    pub(crate) fn subscriptions(&self) -> usize {
        let watched = if self.mutual { self.publishers - 1 } else { 0 };
        self.rooms * (self.viewers * self.publishers + self.publishers * watched)
    }

    /// What publisher `number` of a room sends.
    pub(crate) fn voice(&self, number: usize) -> Voice {
        if number == 0 { self.first } else { self.others }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A name that means no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scenario: there are {known} with other numbers too, and all", known = ALL.join(", "))]
pub(crate) struct UnknownScenario(String);

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, UnknownScenario> {
        let unknown = || UnknownScenario(name.to_owned());
        let (kind, numbers) = name.split_once('-').ok_or_else(unknown)?;
        let number = |text: &str| {
            let number: usize = text.parse().ok()?;
            (1..=PARTICIPANTS_MAX).contains(&number).then_some(number)
        };
        let base = Self {
            name: name.to_owned(),
            rooms: 1,
            publishers: 1,
            viewers: 0,
            mutual: false,
            first: Voice::Full,
            others: Voice::Full,
            joins_per_second: 0,
        };
        if name == "join-storm" {
            return Ok(Self {
                viewers: STORM_BASE,
                joins_per_second: STORM_RATE,
                ..base
            });
        }
        if kind == "meeting" {
            let (rooms, size) = numbers.split_once('x').unwrap_or(("1", numbers));
            let (rooms, size) = number(rooms).zip(number(size)).ok_or_else(unknown)?;
            let fits = size >= 2 && rooms * size * size <= PARTICIPANTS_MAX;
            if !fits {
                return Err(unknown());
            }
            return Ok(Self {
                rooms,
                publishers: size,
                mutual: true,
                ..base
            });
        }
        let viewers = number(numbers).ok_or_else(unknown)?;
        let with = |publishers, first, others| Self {
            publishers,
            viewers,
            first,
            others,
            ..base
        };
        match kind {
            "fanout" => Ok(with(1, Voice::Full, Voice::Full)),
            "audio" => Ok(with(1, Voice::Speech, Voice::Speech)),
            "idle" => Ok(with(1, Voice::Mute, Voice::Mute)),
            "webinar" if viewers * SPEAKERS <= PARTICIPANTS_MAX => {
                Ok(with(SPEAKERS, Voice::Full, Voice::Quiet))
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_size() {
        for (name, subscriptions) in [
            ("fanout-10", 10),
            ("fanout-7", 7),
            ("meeting-5x4", 60),
            ("meeting-20", 380),
            ("webinar-1000", 10_000),
            ("join-storm", 100),
            ("audio-200", 200),
            ("idle-1000", 1_000),
        ] {
            let scenario: Scenario = name.parse().unwrap();
            assert_eq!(scenario.subscriptions(), subscriptions, "{name}");
            assert_eq!(scenario.to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "fanout",
            "fanout-",
            "fanout-0",
            "fanout-x",
            "fanout-99999",
            "meeting-1",
            "meeting-0x4",
            "meeting-4x",
            "webinar-2000",
            "all",
            "storm-5",
        ] {
            assert!(name.parse::<Scenario>().is_err(), "{name}");
        }
    }

    #[test]
    fn all_scenarios_exist() {
        assert!(ALL.iter().all(|name| name.parse::<Scenario>().is_ok()));
    }
}
