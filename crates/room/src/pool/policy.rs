//! Which media server a room gets. Pure.

use std::fmt;
use std::str::FromStr;

use media::Purpose;

/// How to choose among the servers of a [`Pool`](super::Pool).
///
/// Only servers that are up and not full count. A room whose media is going to be changed gets one that
/// can do so, if the pool has any; else the first rule that fits the room decides which may be used;
/// and among those that remain, the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The first that fits counts.
    pub rules: Vec<Rule>,
    /// Among what is left.
    pub choice: Choice,
}

/// How to choose among equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first in the order given; the next ones are for when it is down or full.
    #[default]
    Fixed,
    /// One after the other.
    RoundRobin,
    /// The one with the smallest part of the rooms that it may have.
    LeastLoaded,
}

/// Rooms that fit are made on the servers of a name: `room:party-*=kms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is looked at.
    pub subject: Subject,
    /// What it must look like.
    pub pattern: Pattern,
    /// The servers' [`name`](super::Member::name) or [`group`](super::Member::group).
    pub server: String,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The name of the room.
    Room,
    /// The name of who makes the room by joining it.
    User,
}

/// Text in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `text` fits. Takes time in proportion to its length for each star.
    pub fn fits(&self, text: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(inner) = text
            .strip_prefix(start)
            .and_then(|text| text.strip_suffix(end))
        else {
            return false;
        };
        // The leftmost place for each part leaves the most room for the others.
        let mut parts = middle.split('*').filter(|part| !part.is_empty());
        let found = parts.try_fold(inner, |text, part| Some(text.split_once(part)?.1));
        found.is_some()
    }
}

impl Rule {
    fn fits(&self, purpose: Purpose<'_>) -> bool {
        let text = match self.subject {
            Subject::Room => purpose.room,
            Subject::User => purpose.user,
        };
        self.pattern.fits(text)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (subject, rest) = text.split_once(':')?;
            let (pattern, server) = rest.split_once('=')?;
            let subject = match subject {
                "room" => Subject::Room,
                "user" => Subject::User,
                _ => return None,
            };
            (!server.is_empty()).then(|| Self {
                subject,
                pattern: Pattern::new(pattern),
                server: server.to_owned(),
            })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is no rule such as room:party-*=kms or user:admin=embedded")
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.subject {
            Subject::Room => "room",
            Subject::User => "user",
        };
        write!(f, "{subject}:{}={}", self.pattern.0, self.server)
    }
}

/// A server, as far as choosing goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) names: [&'a str; 2],
    /// Up, and not full.
    pub(super) is_open: bool,
    /// In comparison with others.
    pub(super) load: usize,
    pub(super) filters: bool,
}

/// The index of the server to use, if there is one. `turn` counts choices.
pub(super) fn choose(
    policy: &Policy,
    purpose: Purpose<'_>,
    places: &[Place<'_>],
    turn: usize,
) -> Option<usize> {
    let wants_filters = purpose.filters && places.iter().any(|place| place.filters);
    let rule = policy.rules.iter().find(|rule| rule.fits(purpose));
    let may_be_used = |place: &Place<'_>| match rule {
        _ if wants_filters => place.filters,
        Some(rule) => place.names.contains(&rule.server.as_str()),
        None => true,
    };
    let usable: Vec<_> = places
        .iter()
        .enumerate()
        .filter(|(_, place)| place.is_open && may_be_used(place))
        .collect();
    let chosen = match policy.choice {
        Choice::Fixed => usable.first(),
        Choice::RoundRobin => usable.get(turn % usable.len().max(1)),
        Choice::LeastLoaded => usable.iter().min_by_key(|(_, place)| place.load),
    };
    chosen.map(|(index, _)| *index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PURPOSE: Purpose<'_> = Purpose {
        room: "party-1",
        user: "ana",
        filters: false,
    };

    fn place(name: &str, load: usize) -> Place<'_> {
        Place {
            names: [name, "any"],
            is_open: true,
            load,
            filters: name == "kms",
        }
    }

    fn policy(choice: Choice, rules: &[&str]) -> Policy {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Policy { rules, choice }
    }

    #[test]
    fn choices() {
        let places = [place("embedded", 5), place("kms", 3), place("kms", 4)];
        let check = |choice, turn, expected| {
            let chosen = choose(&policy(choice, &[]), PURPOSE, &places, turn);
            assert_eq!(chosen, Some(expected), "{choice:?} {turn}");
        };
        check(Choice::Fixed, 1, 0);
        check(Choice::LeastLoaded, 0, 1);
        for (turn, expected) in [(0, 0), (1, 1), (2, 2), (3, 0), (usize::MAX, usize::MAX % 3)] {
            check(Choice::RoundRobin, turn, expected);
        }
    }

    #[test]
    fn servers_that_are_down_or_full_do_not_count() {
        let mut places = [place("embedded", 5), place("kms", 3)];
        places[0].is_open = false;
        for choice in [Choice::Fixed, Choice::RoundRobin, Choice::LeastLoaded] {
            assert_eq!(choose(&policy(choice, &[]), PURPOSE, &places, 0), Some(1));
        }
        places[1].is_open = false;
        for choice in [Choice::Fixed, Choice::RoundRobin, Choice::LeastLoaded] {
            assert_eq!(choose(&policy(choice, &[]), PURPOSE, &places, 0), None);
        }
    }

    #[test]
    fn first_rule_that_fits_decides() {
        let places = [place("embedded", 0), place("kms", 9)];
        for (rules, expected) in [
            (&["room:party-*=kms"][..], Some(1)),
            (&["user:ana=embedded", "room:*=kms"], Some(0)),
            (&["user:bob=embedded", "room:*=kms"], Some(1)),
            (&["room:lab=kms"], Some(0)),
            (&["room:*=any", "room:*=kms"], Some(0)),
            (&["room:*=elsewhere"], None),
        ] {
            let policy = policy(Choice::Fixed, rules);
            assert_eq!(choose(&policy, PURPOSE, &places, 0), expected, "{rules:?}");
        }
    }

    #[test]
    fn filters_need_a_server_that_has_them_whatever_rules_say() {
        let purpose = Purpose {
            filters: true,
            ..PURPOSE
        };
        let policy = policy(Choice::Fixed, &["room:*=embedded"]);
        let places = [place("embedded", 0), place("kms", 9)];
        assert_eq!(choose(&policy, purpose, &places, 0), Some(1));
        // Without one, media passes unchanged.
        assert_eq!(choose(&policy, purpose, &places[..1], 0), Some(0));
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("lab", "lab", true),
            ("lab", "lab2", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("*", "anything", true),
            ("party-*", "party-1", true),
            ("party-*", "xparty-1", false),
            ("*-vip", "a-vip", true),
            ("*-vip", "a-vip-", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*b*c", "abc", false),
            ("a**c", "abc", true),
            ("ñ*", "ñu", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).fits(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "",
            "room",
            "room:lab",
            "room:lab=",
            "host:lab=kms",
            "lab=kms",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rules_are_read_as_they_are_written(text in "(room|user):[a-z*:]{0,6}=[a-z:/=]{1,6}") {
            let rule: Rule = text.parse().unwrap();
            prop_assert_eq!(rule.to_string(), text);
        }

        #[test]
        fn any_text_fits_itself_with_stars_for_some_of_it(text in "[ab]{0,8}", from in 0..9usize, to in 0..9usize) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let pattern = format!("{}*{}", &text[..from.min(to)], &text[from.max(to)..]);
            prop_assert!(Pattern::new(pattern).fits(&text));
        }
    }
}
