//! The REST calls, pages and metrics of a running server.

use std::collections::HashSet;

use crate::support::{Client, body, config, exchange, get, get_with, start};
use serde_json::{Value, json};
use tertulia::config::Config;

fn json_body(response: &str) -> Value {
    serde_json::from_str(body(response)).unwrap()
}

#[tokio::test]
async fn health_is_ok() {
    let server = start(&config());
    assert!(get(&server, "/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn rooms_are_listed() {
    let server = start(&config());
    assert_eq!(json_body(&get(&server, "/getAllRooms").await), json!([]));
    let _alice = Client::join(&server, "alice", "a room").await;
    let post = "POST /getAllRooms HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(json_body(&exchange(&server, post).await), json!(["a room"]));
}

#[tokio::test]
async fn browser_settings_are_told() {
    let server = start(&Config {
        speaker_threshold_db: -40,
        ..config()
    });
    assert_eq!(
        body(&get(&server, "/getClientConfig").await),
        r#"{"loopbackRemote":true,"loopbackAndLocal":false,"filterRequestParam":"marker"}"#
    );
    assert_eq!(
        body(&get(&server, "/getUpdateSpeakerInterval").await),
        "1800"
    );
    assert_eq!(body(&get(&server, "/getThresholdSpeaker").await), "-40");
}

#[tokio::test]
async fn closing_a_room_tells_its_participants() {
    let server = start(&config());
    let mut alice = Client::join(&server, "alice", "a b").await;
    let response = get(&server, "/close?room=a%20b").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(body(&response), "");
    assert_eq!(
        alice.notification().await,
        json!({"method": "roomClosed", "params": {"room": "a b"}, "jsonrpc": "2.0"})
    );
    let response = get(&server, "/close?room=a%20b").await;
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    assert_eq!(body(&response), "Room 'a b' not found");
    assert!(get(&server, "/close").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn administration_is_refused_to_others() {
    let server = start(&Config {
        admin_token: Some("0123456789abcdef".to_owned()),
        ..config()
    });
    let forwarded = "x-forwarded-for: 192.0.2.1\r\n";
    for path in [
        "/close?room=r",
        "/evict?room=r&user=u",
        "/notify?room=r",
        "/metrics",
    ] {
        let response = get_with(&server, path, forwarded).await;
        assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
        let token = format!("{forwarded}authorization: Bearer 0123456789abcdef\r\n");
        let response = get_with(&server, path, &token).await;
        assert!(!response.starts_with("HTTP/1.1 401 "), "{response}");
    }
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let server = start(&config());
    let _alice = Client::join(&server, "alice", "r").await;
    let page = get(&server, "/metrics").await;
    for name in [
        "tertulia_sockets",
        "tertulia_rooms",
        "tertulia_requests_total{method=\"joinRoom\"",
    ] {
        assert!(page.contains(name), "{name} in {page}");
    }
}

#[tokio::test]
async fn every_metric_says_what_it_is() {
    let server = start(&config());
    let _alice = Client::join(&server, "alice", "r").await;
    let page = get(&server, "/metrics").await;
    let mut told = HashSet::new();
    for line in body(&page).lines().filter(|line| !line.is_empty()) {
        match line.split_once(' ').unwrap() {
            ("#", comment) => {
                let words: Vec<_> = comment.splitn(3, ' ').collect();
                assert!(words[2].len() > 3, "{line}");
                told.insert((words[0].to_owned(), words[1].to_owned()));
            }
            (sample, _) => {
                let name = sample.split('{').next().unwrap().to_owned();
                for kind in ["HELP", "TYPE"] {
                    assert!(
                        told.contains(&(kind.to_owned(), name.clone())),
                        "{kind} of {name}"
                    );
                }
            }
        }
    }
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total"] {
        assert!(page.contains(&format!("\n{name} ")), "{name} in {page}");
    }
}

#[tokio::test]
async fn pages_are_served_with_safe_headers_and_cached_by_content() {
    let server = start(&config());
    let page = get(&server, "/").await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    assert!(body(&page).contains("<!doctype html>"));
    for header in [
        "content-type: text/html",
        "content-security-policy: default-src 'self'",
        "x-content-type-options: nosniff",
        "cache-control: no-cache",
    ] {
        assert!(page.contains(header), "{header} in {page}");
    }
    let etag = page
        .lines()
        .find(|line| line.starts_with("etag: "))
        .unwrap();
    let condition = etag.replace("etag", "if-none-match") + "\r\n";
    let again = get_with(&server, "/", &condition).await;
    assert!(again.starts_with("HTTP/1.1 304 "), "{again}");
}

#[tokio::test]
async fn client_library_is_served_as_javascript() {
    let server = start(&config());
    let script = get(&server, "/js/KurentoRoom.js").await;
    assert!(script.contains("content-type: text/javascript"), "{script}");
    assert!(body(&script).trim_end().ends_with("})(globalThis);"));
    let module = get(&server, "/js/tertulia-room.js").await;
    assert!(
        module.contains("access-control-allow-origin: *"),
        "{module}"
    );
    for path in [
        "/js/tests/fakes.mjs",
        "/js/../Cargo.toml",
        "/js/package.json",
        "/nothing",
        "/..%2fCargo.toml",
    ] {
        assert!(
            get(&server, path).await.starts_with("HTTP/1.1 404 "),
            "{path}"
        );
    }
}
