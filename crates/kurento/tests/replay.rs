//! Recorded traffic of a real Kurento Media Server, replayed against the server half.
//!
//! `data/kms-transcript.jsonl` holds one frame a line, `data/official-client.jsonl` what the official
//! JavaScript client sends and gets. Every request is sent again, the ids in it
//! replaced, and must be answered in the same shape: same members, types, codes and texts. What
//! differs on purpose is listed in `data/differences.json`, by the number of the request. Session descriptions are
//! compared with those of our core, see `data/description-differences.json`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod our_core;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{SinkExt as _, StreamExt as _};
use kurento::server::{Config, Service};
use kurento::{Frame, Link};
use media::{Fake, MediaServer};
use serde_json::Value;
use sfu::NativeMediaServer;

/// Members that only one generation of clients reads. The recorded server is of the other.
const EXTRA: [&str; 9] = [
    "timestamp",
    "streamID",
    "componentID",
    "inputAudioLatency",
    "inputVideoLatency",
    "audioE2ELatency",
    "videoE2ELatency",
    "jsonrpc",
    "id",
];

struct Replay<M: MediaServer> {
    start: fn() -> M,
    service: Option<Service<M>>,
    links: HashMap<String, Client>,
    /// Recorded UUID to ours.
    uuids: HashMap<String, String>,
    /// By the number of the request.
    differences: BTreeMap<u64, Vec<String>>,
    /// Shapes of event data by type: recorded, and ours.
    recorded_events: BTreeMap<String, BTreeSet<String>>,
    our_events: BTreeMap<String, BTreeSet<String>>,
    /// By the number of the request: recorded, and ours.
    descriptions: BTreeMap<u64, [String; 2]>,
}

struct Client {
    incoming: futures_util::stream::BoxStream<'static, Frame>,
    outgoing: std::pin::Pin<Box<dyn futures_util::Sink<Frame, Error = kurento::LinkError> + Send>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn every_request_is_answered_in_the_recorded_shape() {
    let replay = replay(Fake::new, include_str!("data/kms-transcript.jsonl"), 800).await;
    replay.check(include_str!("data/differences.json"));
    for kind in [
        "ObjectCreated",
        "ObjectDestroyed",
        "ElementConnected",
        "ElementDisconnected",
    ] {
        assert!(replay.our_events.contains_key(kind), "no {kind} was sent");
    }
}

/// A call in which a player feeds one endpoint, which feeds another, which is recorded.
#[tokio::test]
async fn the_official_client_is_answered_in_the_recorded_shape() {
    let replay = replay(Fake::new, include_str!("data/official-client.jsonl"), 70).await;
    replay.check(r#"{ "The fake has no media, so nothing to count": [183] }"#);
}

/// Our core, answering as Kurento does.
fn strict_core() -> NativeMediaServer {
    our_core::start(None).strict()
}

#[tokio::test]
async fn descriptions_say_what_the_real_server_s_say() {
    let replay = replay(strict_core, include_str!("data/kms-transcript.jsonl"), 800).await;
    let mut differences = BTreeMap::new();
    for (number, [recorded, ours]) in &replay.descriptions {
        // Which payload type stands for what is up to who offers.
        let by_name = recorded.contains("a=setup:actpass");
        let [recorded, ours] = [recorded, ours].map(|text| described(text, by_name));
        let missing = recorded.difference(&ours).map(|line| format!("-{line}"));
        let more = ours.difference(&recorded).map(|line| format!("+{line}"));
        let found: Vec<_> = missing.chain(more).collect();
        if !found.is_empty() {
            differences.insert(*number, found);
        }
    }
    let compared = replay.descriptions.len();
    assert!(compared > 30, "only {compared} were compared");
    let listed = include_str!("data/description-differences.json");
    check_listed(&differences, listed);
}

/// The lines of a session description by their section, without what is drawn at random and what is ours on purpose:
/// addresses, ICE, DTLS, and AV1, which the recorded server was built without.
fn described(text: &str, by_name: bool) -> BTreeSet<String> {
    let text = text.replace('\r', "");
    let mut sections = text.split("\nm=");
    let session = sections.next().unwrap_or_default().lines();
    let groups = session.filter(|line| line.starts_with("a=group:BUNDLE "));
    let mut lines: BTreeSet<_> = groups.map(|line| line.trim().to_owned()).collect();
    for (index, section) in sections.enumerate() {
        let own = describe_section(section, by_name).into_iter();
        lines.extend(own.map(|line| format!("{index} {line}")));
    }
    lines
}

fn describe_section(text: &str, by_name: bool) -> Vec<String> {
    const KEPT: [&str; 13] = [
        "b=AS:",
        "a=fmtp:",
        "a=rtcp-fb:",
        "a=extmap:",
        "a=mid:",
        "a=sendrecv",
        "a=sendonly",
        "a=recvonly",
        "a=inactive",
        "a=rtcp-mux",
        "a=ptime:",
        "a=maxptime:",
        "a=crypto:",
    ];
    let mappings = text.lines().filter_map(|line| {
        let mapping = line.strip_prefix("a=rtpmap:")?;
        mapping.split_once(' ')
    });
    let mut codecs: BTreeMap<_, _> = mappings.collect();
    codecs.extend([("0", "PCMU/8000"), ("8", "PCMA/8000")]);
    let head = text.lines().next().unwrap_or_default();
    let mut head = head.split(' ').map(str::trim);
    let (media, port) = (head.next().unwrap_or_default(), head.next());
    let protocol = head.next().unwrap_or_default();
    let is_known = |number: &str| {
        codecs
            .get(number)
            .is_none_or(|name| !name.starts_with("AV1"))
    };
    let shown = |number: &str| {
        let codec = codecs.get(number).copied().unwrap_or(number);
        match by_name {
            true => codec.to_owned(),
            false => format!("{number} {codec}"),
        }
    };
    let formats: Vec<_> = head.filter(|number| is_known(number)).collect();
    if port == Some("0") || formats.is_empty() {
        let mid = text.lines().find(|line| line.starts_with("a=mid:"));
        let mid = mid.unwrap_or_default();
        return vec![format!("{media} refused {protocol} {mid}")];
    }
    let formats: Vec<_> = formats.into_iter().map(shown).collect();
    let mut lines = vec![format!("{media} {protocol} {}", formats.join(" "))];
    let kept = text
        .lines()
        .filter(|line| KEPT.iter().any(|kept| line.starts_with(kept)));
    for line in kept {
        match line.split_once(':') {
            Some((kind @ ("a=fmtp" | "a=rtcp-fb"), rest)) => {
                let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                if is_known(number) {
                    lines.push(format!("{kind}:{} {rest}", shown(number)));
                }
            }
            // Keys are drawn.
            Some(("a=crypto", _)) => lines.extend(line.split(" inline:").next().map(str::to_owned)),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Replays a transcript of at least so many requests.
async fn replay<M: MediaServer>(start: fn() -> M, transcript: &str, least: usize) -> Replay<M> {
    let entries: Vec<Value> = transcript
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut replay = Replay {
        start,
        service: None,
        links: HashMap::new(),
        uuids: HashMap::new(),
        differences: BTreeMap::new(),
        recorded_events: recorded_events(),
        our_events: BTreeMap::new(),
        descriptions: BTreeMap::new(),
    };
    replay.restart();
    let mut requests = 0;
    for (index, entry) in entries.iter().enumerate() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        if text("note").starts_with("fresh server") {
            replay.restart();
        }
        match text("kind") {
            "ws-open" => replay.open(text("conn")),
            "ws-close" => drop(replay.links.remove(text("conn"))),
            "request" | "raw" => {
                let recorded = answer_in(&entries[index + 1..], text("conn"), text("raw"));
                replay.request(entry, recorded).await;
                requests += 1;
            }
            _ => {}
        }
    }
    assert!(requests > least, "only {requests} requests were replayed");
    replay
}

/// The shapes of every event that was ever recorded.
fn recorded_events() -> BTreeMap<String, BTreeSet<String>> {
    let mut shapes = BTreeMap::new();
    let lines = include_str!("data/kms-transcript.jsonl").lines();
    for line in lines.chain(include_str!("data/official-client.jsonl").lines()) {
        let entry: Value = serde_json::from_str(line).unwrap();
        if entry["kind"] == "event" {
            let event: Value = serde_json::from_str(entry["raw"].as_str().unwrap()).unwrap();
            note_event(&mut shapes, &event);
        }
    }
    shapes
}

/// The recorded answer to a request: the next frame that is no event and has its id.
fn answer_in(rest: &[Value], conn: &str, request: &str) -> Option<Value> {
    let id = serde_json::from_str::<Value>(request).ok();
    let id = id.and_then(|request| request.get("id").cloned());
    let own = rest.iter().filter(|entry| entry["conn"] == conn);
    for entry in own {
        match entry["kind"].as_str().unwrap_or_default() {
            "response" | "error" => {
                let answer: Value = serde_json::from_str(entry["raw"].as_str()?).ok()?;
                let id = id.as_ref();
                if answer["id"].is_null() || id.is_none_or(|id| *id == answer["id"]) {
                    return Some(answer);
                }
            }
            // The official client does not wait for answers.
            "request" => {}
            "event" => {}
            _ => return None,
        }
    }
    None
}

impl<M: MediaServer> Replay<M> {
    fn restart(&mut self) {
        self.links.clear();
        let config = Config {
            align_video_codecs: false,
            ..Config::default()
        };
        self.service = Some(Service::new((self.start)(), config));
    }

    fn open(&mut self, conn: &str) {
        let service = self.service.clone().unwrap();
        let (ours, theirs) = Link::pair();
        let task = tokio::spawn(async move { service.serve(theirs).await });
        let (incoming, outgoing) = ours.into_parts();
        let incoming = incoming.map(|frame| frame.unwrap()).boxed();
        let client = Client {
            incoming,
            outgoing,
            task,
        };
        self.links.insert(conn.to_owned(), client);
    }

    async fn request(&mut self, entry: &Value, recorded: Option<Value>) {
        let conn = entry["conn"].as_str().unwrap();
        let number = entry["seq"].as_u64().unwrap();
        // The real server dropped some connections; ours are still there or are opened again.
        if !self.links.contains_key(conn) {
            self.open(conn);
        }
        let mut text = entry["raw"].as_str().unwrap().to_owned();
        for (recorded, ours) in &self.uuids {
            text = text.replace(recorded, ours);
        }
        let client = self.links.get_mut(conn).unwrap();
        client.outgoing.send(Frame::Text(text)).await.unwrap();
        let answer = loop {
            match client.incoming.next().await {
                Some(Frame::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["method"] == "onEvent" {
                        note_event(&mut self.our_events, &message);
                    } else {
                        break message;
                    }
                }
                other => panic!("request {number} was answered by {other:?}"),
            }
        };
        let mut found = Vec::new();
        match recorded {
            Some(recorded) => {
                let descriptions = [&recorded, &answer].map(|answer| &answer["result"]["value"]);
                if let [Value::String(recorded), Value::String(ours)] = descriptions
                    && recorded.starts_with("v=0")
                {
                    let both = [recorded, ours].map(ToOwned::to_owned);
                    self.descriptions.insert(number, both);
                }
                self.learn(&recorded, &answer);
                self.compare(&recorded, &answer, "", &mut found);
            }
            None => found.push("the real server does not answer".to_owned()),
        }
        if !found.is_empty() {
            self.differences.insert(number, found);
        }
    }

    /// Learns which of our ids stand for which recorded ones.
    fn learn(&mut self, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::String(recorded), Value::String(ours)) => {
                let (recorded, ours) = (uuids(recorded), uuids(ours));
                if recorded.len() == ours.len() {
                    for (recorded, ours) in recorded.into_iter().zip(ours) {
                        self.uuids.entry(recorded).or_insert(ours);
                    }
                }
            }
            (Value::Object(recorded), Value::Object(ours)) => {
                for (name, value) in recorded {
                    if let Some(ours) = ours.get(name) {
                        self.learn(value, ours);
                    }
                }
            }
            (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
                for (recorded, ours) in recorded.iter().zip(ours) {
                    self.learn(recorded, ours);
                }
            }
            _ => {}
        }
    }

    fn compare(&self, recorded: &Value, ours: &Value, path: &str, found: &mut Vec<String>) {
        match (recorded, ours) {
            (Value::Object(recorded), Value::Object(ours)) => {
                let is_map = recorded
                    .keys()
                    .chain(ours.keys())
                    .any(|key| !uuids(key).is_empty());
                if is_map {
                    let kinds = |map: &serde_json::Map<String, Value>| -> BTreeSet<String> {
                        map.values()
                            .map(|item| item["__type__"].to_string())
                            .collect()
                    };
                    if kinds(recorded) != kinds(ours) {
                        found.push(format!(
                            "{path}: {:?} became {:?}",
                            kinds(recorded),
                            kinds(ours)
                        ));
                    }
                    return;
                }
                for (name, value) in recorded {
                    match ours.get(name) {
                        Some(own) => self.compare(value, own, &format!("{path}/{name}"), found),
                        None => found.push(format!("{path}/{name} is missing")),
                    }
                }
                for name in ours.keys() {
                    if !recorded.contains_key(name) && !EXTRA.contains(&name.as_str()) {
                        found.push(format!("{path}/{name} is not recorded"));
                    }
                }
            }
            (Value::Array(recorded), Value::Array(ours)) => {
                // Sessions of the real server begin with empty ones, which is a defect.
                match (recorded.last(), ours.last()) {
                    (Some(recorded), Some(last)) => {
                        let path = format!("{path}/-");
                        let fits = |ours: &Value| {
                            let mut found = Vec::new();
                            self.compare(recorded, ours, &path, &mut found);
                            found.is_empty()
                        };
                        // Connections are listed in no particular order.
                        if !ours.iter().any(fits) {
                            self.compare(recorded, last, &path, found);
                        }
                    }
                    (None, None) => {}
                    _ => found.push(format!(
                        "{path}: {} items became {}",
                        recorded.len(),
                        ours.len()
                    )),
                }
            }
            (Value::Number(one), Value::Number(other)) => {
                if path.ends_with("/code") && one != other {
                    found.push(format!("{path}: {one} became {other}"));
                }
            }
            (Value::String(one), Value::String(other)) => {
                let mut one = one.clone();
                for (recorded, ours) in &self.uuids {
                    one = one.replace(recorded, ours);
                }
                let fixed = [
                    "/message",
                    "/type",
                    "/__type__",
                    "/__module__",
                    "Type",
                    "/hierarchy/-",
                ];
                if fixed.iter().any(|end| path.ends_with(end)) && one != *other {
                    found.push(format!("{path}: {one} became {other}"));
                }
            }
            (Value::Bool(_), Value::Bool(_)) | (Value::Null, Value::Null) => {}
            _ => found.push(format!("{path}: {recorded} became {ours}")),
        }
    }

    fn check(&self, listed: &str) {
        check_listed(&self.differences, listed);
        for (kind, shapes) in &self.our_events {
            let kind = match kind.as_str() {
                "IceComponentStateChange" | "OnIceComponentStateChanged" => {
                    "IceComponentStateChanged"
                }
                kind => kind,
            };
            let recorded = self.recorded_events.get(kind).cloned().unwrap_or_default();
            // Which events media causes depends on media, which the fake has none of.
            let strange: Vec<_> = shapes.difference(&recorded).collect();
            assert!(
                strange.is_empty(),
                "{kind} has the shape {strange:?}, not {recorded:?}"
            );
        }
    }
}

/// Checks that what differs is what is listed, by reason.
fn check_listed(differences: &BTreeMap<u64, Vec<String>>, listed: &str) {
    let listed: BTreeMap<String, Vec<u64>> = serde_json::from_str(listed).unwrap();
    let listed: BTreeSet<u64> = listed.into_values().flatten().collect();
    let unlisted: Vec<_> = differences
        .iter()
        .filter(|(number, _)| !listed.contains(number))
        .collect();
    assert!(unlisted.is_empty(), "differs without reason: {unlisted:#?}");
    let vanished: Vec<_> = listed
        .iter()
        .filter(|number| !differences.contains_key(number))
        .collect();
    assert!(
        vanished.is_empty(),
        "listed and no longer different: {vanished:?}"
    );
}

fn note_event(shapes: &mut BTreeMap<String, BTreeSet<String>>, message: &Value) {
    let event = &message["params"]["value"];
    let mut shape = String::new();
    for (name, value) in event["data"].as_object().unwrap() {
        if name != "timestamp" {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "flag",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "list",
                Value::Object(members) => members["__type__"].as_str().unwrap(),
            };
            shape.push_str(&format!("{name}: {kind}, "));
        }
    }
    let mut members: Vec<_> = shape.split(", ").collect();
    members.sort_unstable();
    let kind = event["type"].as_str().unwrap().to_owned();
    shapes.entry(kind).or_default().insert(members.join(", "));
}

/// Every UUID in a text.
fn uuids(text: &str) -> Vec<String> {
    let is_uuid = |text: &[u8]| {
        text.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let windows = text.as_bytes().windows(36);
    let found = windows.filter(|window| is_uuid(window));
    found
        .map(|window| String::from_utf8(window.to_vec()).unwrap())
        .collect()
}
