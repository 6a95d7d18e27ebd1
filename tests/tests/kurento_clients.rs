//! Applications as Kurento's tutorials have them, with the official clients of two generations: the real
//! binary is their media server.
//!
//! `kurento-clients/install` gets the packages; see there for `application.mjs`, which drives the media server, and
//! `page.html`, the other end in the browser.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use tests::browser::Page;
use tests::chromium::{Chromium, ChromiumPage};
use tests::process::Process;
use tests::server::{Server, free_address, kurento_url};
use tests::turn;
use tokio::process::Command;

/// The newest of each generation that applications use.
const VERSIONS: [&str; 2] = ["6.18.0", "7.3.0"];

/// Enough to know that they keep coming.
const FLOWS: &str = "received().then(({ frames, sound }) => frames > 10 && sound > 10)";

/// Members of every statistic.
const STATS: [&str; 3] = ["id", "type", "timestampMillis"];
/// Members of those of RTP streams.
const RTP_STATS: [&str; 13] = [
    "ssrc",
    "associateStatsId",
    "isRemote",
    "mediaTrackId",
    "transportId",
    "codecId",
    "firCount",
    "pliCount",
    "nackCount",
    "sliCount",
    "remb",
    "packetsLost",
    "fractionLost",
];
const INBOUND_STATS: [&str; 3] = ["packetsReceived", "bytesReceived", "jitter"];
const OUTBOUND_STATS: [&str; 4] = ["packetsSent", "bytesSent", "targetBitrate", "roundTripTime"];
const SESSION_STATS: [&str; 2] = ["dataChannelsOpened", "dataChannelsClosed"];
const CHANNEL_STATS: [&str; 8] = [
    "label",
    "protocol",
    "datachannelid",
    "state",
    "messagesSent",
    "bytesSent",
    "messagesReceived",
    "bytesReceived",
];
/// What marks values, and what version 6 has besides.
const STATS_BESIDES: [&str; 3] = ["__module__", "__type__", "timestamp"];

/// A media server, an application that drives it, and a browser.
struct Tutorial {
    // Dropped in this order: who leaves last is the media server.
    browser: Chromium,
    application: Process,
    url: String,
    _server: Server,
}

impl Tutorial {
    async fn begin(version: &str) -> Self {
        Self::begin_with(version, &[]).await
    }

    /// With further arguments for the media server.
    async fn begin_with(version: &str, arguments: &[&str]) -> Self {
        let kurento = free_address().to_string();
        let server = Server::start_with(&[&["--kurento", &kurento], arguments].concat()).await;
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let packages = packages(version);
        let mut command = Command::new("node");
        command
            .arg(here.join("kurento-clients/application.mjs"))
            .arg(&packages)
            .arg(kurento_url(&kurento));
        let application = Process::spawn(command);
        let url = application
            .line_after(&format!("kurento-client {version} at "))
            .await;
        Self {
            browser: Chromium::launch().await,
            application,
            url,
            _server: server,
        }
    }

    /// Opens a page that takes part as `role`, and waits until it has its answer.
    async fn enter(&self, id: &str, role: &str) -> ChromiumPage {
        self.enter_with(id, role, "").await
    }

    /// With further parameters, which begin with `&`.
    async fn enter_with(&self, id: &str, role: &str, more: &str) -> ChromiumPage {
        let url = format!("{}/?id={id}&role={role}{more}", self.url);
        let page = self.browser.open(id, &url).await;
        page.wait_for("state.error !== null || state.ready").await;
        let error = page.evaluate("state.error").await;
        let log = self.application.output();
        assert_eq!(error, Value::Null, "{id}; the application said:\n{log}");
        page
    }

    /// Releases everything the application made.
    async fn end(self, page: &ChromiumPage) {
        let left = page.evaluate("call('end')").await;
        assert_eq!(left["pipelines"], 0, "all pipelines are released");
    }
}

fn packages(version: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let packages = target.join("kurento-clients").join(version);
    assert!(
        packages.join("node_modules/kurento-client").is_dir(),
        "{} is missing: run tests/kurento-clients/install or tests/run",
        packages.display()
    );
    packages
}

async fn told(page: &ChromiumPage, types: &[&str]) {
    let events = page.evaluate("call('events')").await;
    let events = events.as_array().expect("a list");
    for wanted in types {
        let happened = events.iter().any(|event| event["type"] == **wanted);
        assert!(happened, "{wanted} is not among {events:?}");
    }
}

/// Statistics by type. Each has the members that the real server's have, and no others.
async fn stats(page: &ChromiumPage) -> BTreeMap<String, Vec<Value>> {
    let all = page.evaluate("call('stats')").await;
    let mut by_type = BTreeMap::<String, Vec<Value>>::new();
    for stats in all.as_object().expect("a map").values() {
        let kind = stats["type"].as_str().expect("a type");
        let own: &[&[&str]] = match kind {
            "inboundrtp" => &[&RTP_STATS, &INBOUND_STATS],
            "outboundrtp" => &[&RTP_STATS, &OUTBOUND_STATS],
            "session" => &[&SESSION_STATS],
            "datachannel" => &[&CHANNEL_STATS],
            other => panic!("statistics of type {other}"),
        };
        let expected: BTreeSet<_> = own.concat().into_iter().chain(STATS).collect();
        let members = stats.as_object().expect("members").keys();
        let members = members.map(String::as_str);
        let members: BTreeSet<_> = members.filter(|it| !STATS_BESIDES.contains(it)).collect();
        assert_eq!(members, expected, "{kind}");
        by_type
            .entry(kind.to_owned())
            .or_default()
            .push(stats.clone());
    }
    by_type
}

/// A counter, summed up.
fn sum(stats: &[Value], member: &str) -> u64 {
    let counters = stats.iter().filter_map(|stats| stats[member].as_u64());
    counters.sum()
}

#[tokio::test]
async fn hello_world_shows_oneself() {
    let _turn = turn::take().await;
    for version in VERSIONS {
        let tutorial = Tutorial::begin(version).await;
        let page = tutorial.enter("ana", "loopback").await;
        page.wait_for(FLOWS).await;
        let info = page.evaluate("call('info')").await;
        assert_eq!(
            info["modules"],
            serde_json::json!(["core", "elements", "filters"])
        );
        let state = page
            .wait_for("call('state').then((state) => state.flowing && state)")
            .await;
        assert_eq!(state["media"], "CONNECTED");
        assert_eq!(state["connection"], "CONNECTED");
        assert_eq!(state["pairs"].as_array().map(Vec::len), Some(1));
        let events = [
            "MediaStateChanged",
            "ConnectionStateChanged",
            "NewCandidatePairSelected",
        ];
        told(&page, &events).await;
        let stats = stats(&page).await;
        for (kind, member) in [
            ("inboundrtp", "bytesReceived"),
            ("inboundrtp", "packetsReceived"),
            ("outboundrtp", "bytesSent"),
            ("outboundrtp", "packetsSent"),
        ] {
            assert_eq!(stats[kind].len(), 2, "{stats:?}");
            assert!(sum(&stats[kind], member) > 0, "{stats:?}");
        }
        tutorial.end(&page).await;
    }
}

#[tokio::test]
async fn media_flow_by_answers_as_kurento_gives_them() {
    let _turn = turn::take().await;
    for version in VERSIONS {
        let tutorial = Tutorial::begin_with(version, &["--kurento-answers", "strict"]).await;
        let page = tutorial.enter("ana", "loopback").await;
        page.wait_for(FLOWS).await;
        tutorial.end(&page).await;
    }
}

#[tokio::test]
async fn one_to_one_call_is_seen_and_heard_on_both_sides() {
    let _turn = turn::take().await;
    for version in VERSIONS {
        let tutorial = Tutorial::begin(version).await;
        let caller = tutorial.enter("caller", "caller").await;
        let callee = tutorial.enter("callee", "callee").await;
        callee.wait_for(FLOWS).await;
        caller.wait_for(FLOWS).await;
        tutorial.end(&caller).await;
    }
}

#[tokio::test]
async fn viewers_of_a_broadcast_come_and_go() {
    let _turn = turn::take().await;
    for version in VERSIONS {
        let tutorial = Tutorial::begin(version).await;
        let presenter = tutorial.enter("presenter", "presenter").await;
        let first = tutorial.enter("first", "viewer").await;
        first.wait_for(FLOWS).await;
        let second = tutorial.enter("second", "viewer").await;
        second.wait_for(FLOWS).await;
        first.evaluate("call('leave')").await;
        let third = tutorial.enter("third", "viewer").await;
        third.wait_for(FLOWS).await;
        // Who stays sees no end of it.
        second
            .evaluate("received().then(({ frames }) => { globalThis.before = frames; })")
            .await;
        second
            .wait_for("received().then(({ frames }) => frames > before + 10)")
            .await;
        tutorial.end(&presenter).await;
    }
}

#[tokio::test]
async fn data_channel_messages_come_back() {
    let _turn = turn::take().await;
    for version in VERSIONS {
        let tutorial = Tutorial::begin(version).await;
        let page = tutorial.enter("ana", "data").await;
        page.wait_for("state.open").await;
        page.evaluate("peer.send('text ñ')").await;
        page.wait_for("state.received.includes('text ñ')").await;
        let opened = match version.starts_with('6') {
            true => "DataChannelOpen",
            false => "DataChannelOpened",
        };
        told(&page, &[opened]).await;
        let stats = stats(&page).await;
        assert_eq!(sum(&stats["session"], "dataChannelsOpened"), 1);
        let channel = &stats["datachannel"];
        assert_eq!((channel.len(), &channel[0]["state"]), (1, &"open".into()));
        for member in ["messagesSent", "messagesReceived"] {
            assert_eq!(sum(channel, member), 1, "{channel:?}");
        }
        let bytes = "text ñ".len() as u64;
        for member in ["bytesSent", "bytesReceived"] {
            assert_eq!(sum(channel, member), bytes, "{channel:?}");
        }
        tutorial.end(&page).await;
    }
}

#[tokio::test]
async fn what_a_browser_sends_is_recorded_and_played_back() {
    let _turn = turn::take().await;
    for version in VERSIONS {
        let files = TempDir::with_prefix("recordings-").expect("a directory for recordings");
        let directory = files.path().to_str().expect("a name in UTF-8");
        let tutorial = Tutorial::begin_with(version, &["--recordings", directory]).await;
        let uri = "&uri=meeting/ana.webm&mediaProfile=WEBM";
        let ana = tutorial.enter_with("ana", "recorded", uri).await;
        operate(&ana, "record", "").await;
        happens(&ana, "Recording").await;
        record_pictures(&ana).await;
        operate(&ana, "pause", "").await;
        happens(&ana, "Paused").await;
        operate(&ana, "record", "").await;
        record_pictures(&ana).await;
        operate(&ana, "stopAndWait", "").await;
        let recording = files.path().join("meeting/ana.webm");
        let (pictures, sounds) = decode(&recording).await;
        assert!(pictures > PICTURES, "{pictures} pictures");
        assert!(sounds > 100, "{sounds} sounds");
        happens(&ana, "Stopped").await;
        assert_eq!(operate(&ana, "getState", "").await, "STOP");

        let bob = tutorial
            .enter_with("bob", "audience", "&uri=meeting/ana.webm")
            .await;
        bob.wait_for("peer.peerConnection.connectionState === 'connected'")
            .await;
        // What is not heard has no energy.
        bob.evaluate("void (document.querySelector('#remote').muted = false)")
            .await;
        operate(&bob, "play", "").await;
        let plays = "received().then(({ frames, energy }) => frames > 20 && energy > 0)";
        bob.wait_for(plays).await;
        let info = operate(&bob, "getVideoInfo", "").await;
        let duration = info["duration"].as_i64().unwrap_or_default();
        assert!(info["isSeekable"] == true && duration > 1500, "{info}");
        operate(&bob, "pause", "").await;
        assert_eq!(operate(&bob, "getState", "").await, "PAUSE");
        operate(&bob, "setPosition", "1000").await;
        assert_eq!(operate(&bob, "getPosition", "").await, 1000);
        operate(&bob, "play", "").await;
        happens(&bob, "EndOfStream").await;
        tutorial.end(&ana).await;
    }
}

#[tokio::test]
async fn files_elsewhere_are_refused() {
    let _turn = turn::take().await;
    let version = VERSIONS[1];
    let files = TempDir::with_prefix("recordings-").expect("a directory for recordings");
    let outside = TempDir::with_prefix("outside-").expect("another directory");
    std::os::unix::fs::symlink(outside.path(), files.path().join("link")).expect("a link");
    let directory = files.path().to_str().expect("a name in UTF-8");
    let elsewhere = outside.path().to_str().expect("a name in UTF-8");
    let tutorial = Tutorial::begin_with(version, &["--recordings", directory]).await;
    let uris = [
        "http://localhost/x.webm".to_owned(),
        "../x.webm".to_owned(),
        "link/x.webm".to_owned(),
        format!("file://{elsewhere}/x.webm"),
    ];
    for (id, uri) in uris.iter().enumerate() {
        let (id, options) = (id.to_string(), format!("&uri={uri}&mediaProfile=WEBM"));
        let page = tutorial.enter_with(&id, "recorded", &options).await;
        operate(&page, "record", "").await;
        let error = happens(&page, "Error").await;
        assert_eq!(error["type"], "RESOURCE_ERROR_OPEN", "{uri}");
        let page = tutorial
            .enter_with(&format!("play-{id}"), "audience", &options)
            .await;
        operate(&page, "play", "").await;
        let error = happens(&page, "Error").await;
        assert_eq!(error["type"], "INVALID_URI", "{uri}");
    }
    let mut left = std::fs::read_dir(outside.path()).expect("it is still there");
    assert!(left.next().is_none(), "nothing was written there");
}

/// Pictures that are recorded before and after the pause, in some three seconds. Too low: no key frame need be among
/// them. Too high: the test takes long.
const PICTURES: usize = 40;

/// Waits until the browser has sent so many more.
async fn record_pictures(page: &ChromiumPage) {
    page.evaluate("sent().then((count) => { globalThis.before = count; })")
        .await;
    page.wait_for(&format!(
        "sent().then((count) => count > before + {PICTURES})"
    ))
    .await;
}

/// Calls an operation of the page's recorder or player.
async fn operate(page: &ChromiumPage, operation: &str, values: &str) -> Value {
    let call = format!("call('file', {{ operation: '{operation}', values: [{values}] }})");
    page.evaluate(&call).await
}

/// Waits for an event of the page's recorder or player.
async fn happens(page: &ChromiumPage, event: &str) -> Value {
    let find = format!("events.find((it) => it.event === '{event}')");
    page.wait_for(&format!("call('events').then((events) => {find})"))
        .await
}

/// Has a file decoded by somebody else: its pictures and pieces of sound.
async fn decode(file: &Path) -> (usize, usize) {
    let file = file.to_str().expect("a name in UTF-8");
    // Time as it is written in the file: by default it is counted in frames of a rate that ffmpeg guesses, and two that
    // came in quick succession would share a number.
    let output = ["-enc_time_base", "-1", "-f", "null", "-"];
    let decoded = run(
        "ffmpeg",
        &[&["-v", "error", "-i", file][..], &output].concat(),
    )
    .await;
    let complaints = String::from_utf8_lossy(&decoded.stderr);
    assert!(
        decoded.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    let mut counts = [0; 2];
    for (stream, count) in ["v:0", "a:0"].into_iter().zip(&mut counts) {
        let entry = "stream=nb_read_frames";
        let arguments = ["-v", "error", "-count_frames", "-select_streams", stream];
        let output = ["-show_entries", entry, "-of", "csv=p=0", file];
        let counted = run("ffprobe", &[&arguments[..], &output].concat()).await;
        let text = String::from_utf8_lossy(&counted.stdout);
        *count = text.trim().trim_end_matches(',').parse().expect("a number");
    }
    (counts[0], counts[1])
}

async fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output
        .await
        .expect("ffmpeg must be installed: run tests/run")
}
