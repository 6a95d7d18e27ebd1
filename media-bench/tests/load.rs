//! The load generator against the real server: everybody gets everything, and the report says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The release binary, as for the tests in `tests`.
fn server() -> PathBuf {
    match std::env::var_os("TERTULIA_BIN") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tertulia"),
    }
}

#[test]
fn small_fan_out_delivers_and_reports() {
    let server = server();
    assert!(
        server.is_file(),
        "{} is missing: run `cargo build --release` or tests/run, or name a binary in TERTULIA_BIN",
        server.display()
    );
    let json = std::env::temp_dir().join(format!("media-bench-test-{}.jsonl", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_media-bench"))
        .args([
            "load",
            "--scenario",
            "fanout-10",
            "--seconds",
            "2",
            "--no-pin",
        ])
        .arg("--server")
        .arg(&server)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = std::fs::read_to_string(&json).unwrap();
    std::fs::remove_file(&json).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let record: Value = serde_json::from_str(&text).unwrap();

    assert_eq!(record["scenario"], "fanout-10");
    assert_eq!(record["subscribers"], 10);
    assert_eq!(record["faulty_packets"], 0);
    for pointer in [
        "/forwarded_pps",
        "/cpu_ns_per_forwarded_packet",
        "/delivered_ratio",
        "/latency_us/p50",
        "/latency_us/p95",
        "/latency_us/p99",
        "/latency_us/max",
        "/join_ms/p50",
        "/join_ms/p95",
        "/rss_bytes_per_subscriber",
        "/load_average/0",
    ] {
        let value = record.pointer(pointer).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value >= 0.0), "{pointer}: {text}");
    }
    // Nearly: on a machine that has no time for it, a socket may overflow; and what the server repeats to try what
    // the path carries counts twice.
    let delivered = record["delivered_ratio"].as_f64();
    assert!(
        delivered.is_some_and(|ratio| ratio > 0.9 && ratio <= 1.05),
        "{text}"
    );
    assert!(record["forwarded_pps"].as_f64() > Some(100.0), "{text}");
}
