//! Conversations in the room protocol, written down and replayed against the real server.
//!
//! A transcript is a text of lines; `#` begins a comment.
//!
//! ```text
//! C1→ {"jsonrpc":"2.0",…}     client 1 sends exactly this; its socket opens at its first line
//! C1← {"id":1,…}               the next frame that client 1 receives, those below left aside
//! C1⇠ {"method":"iceCandidate",…}   a candidate or media error that has come or will, in any order
//! C1← closed 1000             the server closes client 1's socket
//! C1→ closed                  client 1 drops its socket without a goodbye
//! C1→ reopened                client 1 opens another one
//! GET→ /close?room=lab         the REST interface is asked, and answers with status and body
//! GET← 200
//! POST→ /notify?room=lab {}    the same, with a body
//! ANYBODY→ does something      what the test that replays the transcript knows to do
//! ```
//!
//! Placeholders: `<S1>` a session id, the same wherever it is repeated · `<sdp>` any
//! text of a session description · `<answer>` one, and `<candidate>`, which may be repeated to
//! somebody · `<number>` · `<publish>`, `<publish-data>`, `<loopback>`, `<receive>` the offers in
//! `transcripts/*.sdp`, sent · `<given>` what somebody else gave last.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::http;
use crate::room_socket::{Arrival, RoomSocket};

/// The text of every transcript, with its name.
pub fn all() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory()).expect("the transcripts are there");
    let paths = entries.map(|entry| entry.expect("a readable directory").path());
    let transcripts = paths.filter(|path| path.extension().is_some_and(|kind| kind == "txt"));
    let mut all: Vec<_> = transcripts
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some((name, read(path.file_name()?.to_str()?)))
        })
        .collect();
    all.sort();
    all
}

/// Replays the transcript `name` of `tests/transcripts/` against the server at `address`.
/// `stagehand` is told who else does what, and may give a text in return.
pub async fn replay(
    address: SocketAddr,
    name: &str,
    mut stagehand: impl AsyncFnMut(&str, &str) -> Option<String>,
) {
    let mut replay = Replay {
        address,
        clients: HashMap::new(),
        known: HashMap::new(),
        got: String::new(),
    };
    let text = read(&format!("{name}.txt"));
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{name}.txt:{}", index + 1);
        let arrow = line
            .find(['→', '←', '⇠'])
            .unwrap_or_else(|| panic!("{place}: no arrow"));
        let (actor, rest) = line.split_at(arrow);
        let direction = rest
            .chars()
            .next()
            .expect("the line was split at a character");
        let frame = rest[direction.len_utf8()..].trim();
        match (direction, actor) {
            ('→', "GET" | "POST") => replay.call(actor, frame).await,
            ('←', "GET" | "POST") => assert_eq!(replay.got, frame, "{place}"),
            ('→', _) if !is_client(actor) => {
                let given = stagehand(actor, &replay.fill_known(frame)).await;
                let given = given.map(|text| ("given".to_owned(), escaped(text)));
                replay.known.extend(given);
            }
            ('→', _) => replay.send(actor, &fill_offers(frame), &place).await,
            ('←', _) => replay.receive(actor, frame, &place).await,
            _ => replay.receive_aside(actor, frame, &place).await,
        }
    }
    replay.finish(name).await;
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

fn read(file: &str) -> String {
    let path = directory().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_client(actor: &str) -> bool {
    let number = actor.strip_prefix('C');
    number.is_some_and(|number| number.parse::<u8>().is_ok())
}

struct Replay {
    address: SocketAddr,
    got: String,
    clients: HashMap<String, Client>,
    /// What placeholders stand for, as text within a JSON string.
    known: HashMap<String, String>,
}

struct Client {
    socket: RoomSocket,
    aside: Vec<String>,
}

impl Replay {
    async fn call(&mut self, method: &str, call: &str) {
        let (path, body) = call.split_once(' ').unwrap_or((call, ""));
        let answer = http::call(self.address, method, path, body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        self.got = format!("{} {}", answer.status, answer.body)
            .trim_end()
            .to_owned();
    }

    async fn send(&mut self, client: &str, frame: &str, place: &str) {
        if frame == "closed" {
            assert!(
                self.clients.remove(client).is_some(),
                "{place}: {client} is not open"
            );
            return;
        }
        if !self.clients.contains_key(client) || frame == "reopened" {
            let socket = RoomSocket::connect(&format!("ws://{}/room", self.address)).await;
            self.clients.insert(
                client.to_owned(),
                Client {
                    socket,
                    aside: Vec::new(),
                },
            );
        }
        if frame == "reopened" {
            return;
        }
        let text = self.fill_known(frame);
        let sent = self.client(client, place).socket.send_text(&text).await;
        assert!(sent, "{place}: the server has closed the socket");
    }

    async fn receive(&mut self, client: &str, expected: &str, place: &str) {
        let arrival = loop {
            let client = self.client(client, place);
            match client.socket.next().await {
                Arrival::Text(text) if is_of_media(&text) => client.aside.push(text),
                arrival => break arrival,
            }
        };
        match arrival {
            Arrival::Text(text) => {
                let matched = matches(expected, &text, &mut self.known);
                assert!(matched, "{place}:\nexpected {expected}\nreceived {text}");
            }
            Arrival::Closed(code) => {
                let text =
                    code.map_or_else(|| "closed".to_owned(), |code| format!("closed {code}"));
                assert_eq!(text, expected, "{place}");
                self.clients.remove(client);
            }
        }
    }

    async fn receive_aside(&mut self, client: &str, expected: &str, place: &str) {
        loop {
            let mut known = std::mem::take(&mut self.client(client, place).aside);
            let found = known
                .iter()
                .position(|text| matches(expected, text, &mut self.known));
            if let Some(found) = found {
                known.remove(found);
            }
            self.client(client, place).aside = known;
            if found.is_some() {
                return;
            }
            match self.client(client, place).socket.next().await {
                Arrival::Text(text) if is_of_media(&text) => {
                    self.client(client, place).aside.push(text);
                }
                arrival => panic!("{place}:\nexpected {expected}\nreceived {arrival:?}"),
            }
        }
    }

    /// Nothing may be left over: a ping that everybody sends is answered next. There may be more
    /// candidates than a transcript is interested in, as many as the machine has addresses.
    async fn finish(mut self, name: &str) {
        let clients: Vec<String> = self.clients.keys().cloned().collect();
        for client in clients {
            let place = format!("{name}.txt, at the end, {client}");
            self.send(
                &client,
                r#"{"jsonrpc":"2.0","method":"ping","id":987654}"#,
                &place,
            )
            .await;
            self.receive(
                &client,
                r#"{"id":987654,"result":{"value":"pong"},"jsonrpc":"2.0"}"#,
                &place,
            )
            .await;
            let aside = &self.client(&client, &place).aside;
            let unexpected = aside.iter().find(|text| !is_candidate(text));
            assert_eq!(unexpected, None, "{place}");
        }
    }

    fn client(&mut self, client: &str, place: &str) -> &mut Client {
        self.clients
            .get_mut(client)
            .unwrap_or_else(|| panic!("{place}: {client} is not open"))
    }

    fn fill_known(&self, frame: &str) -> String {
        let mut text = frame.to_owned();
        for (placeholder, value) in &self.known {
            text = text.replace(&format!("<{placeholder}>"), value);
        }
        text
    }
}

/// True for what the media server tells, when it likes.
fn is_of_media(text: &str) -> bool {
    is_candidate(text) || text.starts_with(r#"{"method":"mediaError","#)
}

fn is_candidate(text: &str) -> bool {
    text.starts_with(r#"{"method":"iceCandidate","#)
}

/// Puts the offers in, escaped as members of a JSON string.
fn fill_offers(frame: &str) -> String {
    let mut text = frame.to_owned();
    for offer in ["publish", "publish-data", "loopback", "receive"] {
        let placeholder = format!("<{offer}>");
        if text.contains(&placeholder) {
            let sdp = read(&format!("{offer}.sdp"))
                .replace("\r\n", "\n")
                .replace('\n', "\r\n");
            text = text.replace(&placeholder, &escaped(sdp));
        }
    }
    text
}

/// A text as it stands between the quotes of a JSON string.
fn escaped(text: String) -> String {
    let quoted = Value::String(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// True if `text` is `pattern` with its placeholders filled; what can be repeated later is noted.
fn matches(pattern: &str, text: &str, known: &mut HashMap<String, String>) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    loop {
        let (literal, placeholder, rest) = split_at_placeholder(pattern);
        let Some(remaining) = text.strip_prefix(literal) else {
            return false;
        };
        text = remaining;
        let Some(placeholder) = placeholder else {
            return text.is_empty();
        };
        let length = match placeholder {
            "number" => text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len()),
            "candidate" if !text.starts_with("candidate:") => 0,
            "sdp" | "answer" if !text.starts_with(r"v=0\r\n") => 0,
            "sdp" | "answer" | "candidate" => end_of_json_string(text),
            _ => text
                .find(|c: char| !matches!(c, '0'..='9' | 'a'..='v'))
                .unwrap_or(text.len()),
        };
        let (value, remaining) = text.split_at(length);
        let before = known.get(placeholder);
        let is_other_session = placeholder.starts_with('S') && before.is_some_and(|id| id != value);
        if value.is_empty() || is_other_session {
            return false;
        }
        known.insert(placeholder.to_owned(), value.to_owned());
        (pattern, text) = (rest, remaining);
    }
}

/// What comes before the first placeholder, the placeholder, and what follows it.
fn split_at_placeholder(pattern: &str) -> (&str, Option<&str>, &str) {
    let known = |name: &str| {
        matches!(name, "sdp" | "answer" | "candidate" | "number")
            || name
                .strip_prefix('S')
                .is_some_and(|number| number.parse::<u8>().is_ok())
    };
    for (start, _) in pattern.match_indices('<') {
        let Some(length) = pattern[start..].find('>') else {
            continue;
        };
        let name = &pattern[start + 1..start + length];
        if known(name) {
            return (
                &pattern[..start],
                Some(name),
                &pattern[start + length + 1..],
            );
        }
    }
    (pattern, None, "")
}

fn end_of_json_string(text: &str) -> usize {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            '"' if !escaped => return index,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_match_what_they_stand_for() {
        let mut known = HashMap::from([("S1".to_owned(), "abc".to_owned())]);
        let rows = [
            (r#"{"a":1}"#, r#"{"a":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":1} "#, false),
            (r#""<S1>""#, r#""abc""#, true),
            (r#""<S1>""#, r#""abd""#, false),
            (r#""<S2>","<S2>""#, r#""a1","a1""#, true),
            (r#""<S2>""#, r#""a2""#, false),
            (r#""<sdp>","b""#, r#""v=0\r\ns=\"","b""#, true),
            (r#""<sdp>""#, r#""v=1\r\n""#, false),
            ("<number>.", "12.", true),
            ("<b>", "<b>", true),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(
                matches(pattern, text, &mut known),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
