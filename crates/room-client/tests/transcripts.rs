//! Replays `transcripts/` against the state machine, in simulated time.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use room_client::{Client, CloseReason, Config, Error, Event, Notice, Output, Request};
use serde_json::Value;

/// Any seed must do: the transcripts wait for the longest possible back-off.
const SEEDS: u64 = 20;

const OPENS: &str = "opens a socket";
const DROPS: &str = "drops the socket";

#[test]
fn dialogue_of_two_clients() {
    replay("dialogue");
}

#[test]
fn every_request_and_its_answers() {
    replay("requests");
}

#[test]
fn every_notification() {
    replay("notifications");
}

#[test]
fn what_is_told_of_media() {
    replay("media_events");
}

#[test]
fn sessions_outlive_sockets() {
    replay("sessions");
}

#[test]
fn connections_end() {
    replay("closing");
}

fn replay(name: &str) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let text = std::fs::read_to_string(directory.join(format!("{name}.txt"))).unwrap();
    for seed in 0..SEEDS {
        let mut players = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                let context = format!("{name}.txt:{}: {line} (seed {seed})", index + 1);
                play(&mut players, line, seed, &context);
            }
        }
        for (client, player) in players {
            player.expect_silence(&format!("end of {name}.txt, {client}"));
        }
    }
}

fn play<'a>(players: &mut BTreeMap<&'a str, Player>, line: &'a str, seed: u64, context: &str) {
    let (client, rest) = line.split_at(2);
    if let Some(settings) = rest.strip_prefix("  starts") {
        let previous = players.insert(client, Player::new(settings, seed));
        assert!(previous.is_none(), "{context}");
        return;
    }
    let player = players.get_mut(client).expect(context);
    if let Some(frame) = rest.strip_prefix("→ ") {
        return player.expect_frame(frame, context);
    }
    if let Some(event) = rest.strip_prefix("! ") {
        let queue = match event {
            OPENS | DROPS => &mut player.socket,
            _ if is_outcome(event) => &mut player.outcomes,
            _ => &mut player.events,
        };
        assert_eq!(queue.pop_front().as_deref(), Some(event), "{context}");
        return;
    }
    player.expect_silence(context);
    if rest == "  stops" {
        players.remove(client);
        return;
    }
    if let Some(frame) = rest.strip_prefix("← ") {
        player.client.handle_text(frame);
    } else if let Some(text) = rest.strip_prefix("  asks ") {
        let id = player.client.request(player.now, &request(text)).get();
        assert!(text.ends_with(&format!("\"id\":{id}}}")), "{context}: {id}");
    } else if let Some(text) = rest.strip_prefix("  adds ") {
        let params = serde_json::from_str(text).expect(context);
        player.client.set_extra_params(params);
    } else if let Some(text) = rest.strip_prefix("  waits ") {
        player.wait(Duration::from_millis(text.parse().expect(context)));
    } else if rest == "  socket opens" {
        player.client.handle_opened(player.now);
    } else if rest.starts_with("  socket closed ") {
        player.client.handle_closed(player.now);
    } else if rest == "  closes" {
        player.client.close(player.now);
    } else {
        panic!("{context}");
    }
    player.collect();
}

struct Player {
    now: Instant,
    client: Client,
    frames: VecDeque<String>,
    /// What the client wants of its socket.
    socket: VecDeque<String>,
    outcomes: VecDeque<String>,
    events: VecDeque<String>,
}

impl Player {
    fn new(settings: &str, seed: u64) -> Self {
        let heartbeat = settings.strip_prefix(" heartbeat ");
        let heartbeat = heartbeat.map(|text| Duration::from_millis(text.parse().unwrap()));
        let now = Instant::now();
        let config = Config {
            heartbeat,
            ..Config::default()
        };
        let mut player = Self {
            now,
            client: Client::new(now, config, seed),
            frames: VecDeque::new(),
            socket: VecDeque::new(),
            outcomes: VecDeque::new(),
            events: VecDeque::new(),
        };
        player.collect();
        player
    }

    fn collect(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(frame) => self.frames.push_back(frame),
                Output::OpenSocket => self.socket.push_back(OPENS.to_owned()),
                Output::CloseSocket => self.socket.push_back(DROPS.to_owned()),
            }
        }
        while let Some(event) = self.client.poll_event() {
            let queue = match event {
                Event::Answer { .. } => &mut self.outcomes,
                Event::Notice(_) => &mut self.events,
            };
            queue.push_back(described(event));
        }
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn expect_frame(&mut self, frame: &str, context: &str) {
        if self.frames.is_empty() {
            self.client.request(self.now, &request(frame));
            self.collect();
        }
        let sent = self.frames.pop_front();
        assert_eq!(sent.as_deref(), Some(frame), "{context}");
    }

    fn expect_silence(&self, context: &str) {
        assert!(self.frames.is_empty(), "{context}: {:?}", self.frames);
        assert!(self.socket.is_empty(), "{context}: {:?}", self.socket);
        assert!(self.outcomes.is_empty(), "{context}: {:?}", self.outcomes);
        assert!(self.events.is_empty(), "{context}: {:?}", self.events);
    }
}

fn is_outcome(event: &str) -> bool {
    let words = [
        "answer",
        "error",
        "timeout",
        "lost",
        "closed",
        "malformed",
        "too large",
    ];
    words.iter().any(|word| {
        let rest = event
            .strip_prefix(word)
            .and_then(|rest| rest.strip_prefix(' '));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    })
}

/// What the application would have to ask for to send `frame`.
fn request(frame: &str) -> Request {
    let frame: Value = serde_json::from_str(frame).unwrap();
    let mut params = frame.get("params").cloned();
    if let Some(Value::Object(params)) = &mut params {
        params.shift_remove("sessionId");
    }
    Request::parse(frame["method"].as_str().unwrap(), params.as_ref()).unwrap()
}

fn described(event: Event) -> String {
    match event {
        Event::Answer { id, outcome } => {
            let id = id.get();
            match outcome {
                Ok(response) => format!("answer {id} {}", response.to_value()),
                Err(Error::Refused(error)) => {
                    format!("error {id} {} {}", error.code, error.message)
                }
                Err(Error::Timeout { .. }) => format!("timeout {id}"),
                Err(Error::SessionLost) => format!("lost {id}"),
                Err(Error::Closed(_)) => format!("closed {id}"),
                Err(Error::Malformed { .. }) => format!("malformed {id}"),
                Err(Error::TooLarge { .. }) => format!("too large {id}"),
                Err(other) => panic!("{other}"),
            }
        }
        Event::Notice(Notice::Notification(notification)) => {
            format!("{} {}", notification.method(), notification.params())
        }
        Event::Notice(Notice::Reconnecting) => "reconnecting".to_owned(),
        Event::Notice(Notice::Resumed) => "resumed".to_owned(),
        Event::Notice(Notice::SessionLost) => "session lost".to_owned(),
        Event::Notice(Notice::Closed(reason)) => match reason {
            CloseReason::Requested => "end requested".to_owned(),
            CloseReason::Left => "end left".to_owned(),
            CloseReason::Unreachable => "end unreachable".to_owned(),
            other => panic!("{other}"),
        },
    }
}
