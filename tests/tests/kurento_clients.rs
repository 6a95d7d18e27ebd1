//! Applications as Kurento's tutorials have them, with the official clients of two generations: the real
//! binary is their media server.
//!
//! `kurento-clients/install` gets the packages; see there for `application.mjs`, which drives the media server, and
//! `page.html`, the other end in the browser.

use std::path::{Path, PathBuf};

use serde_json::Value;
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
        let url = format!("{}/?id={id}&role={role}", self.url);
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
        let stats = page.evaluate("call('stats')").await;
        let stats = stats.as_object().expect("a map");
        let inbound = stats.values().filter(|stats| stats["type"] == "inboundrtp");
        let bytes: u64 = inbound
            .filter_map(|stats| stats["bytesReceived"].as_u64())
            .sum();
        assert!(bytes > 0, "{stats:?}");
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
        tutorial.end(&page).await;
    }
}
