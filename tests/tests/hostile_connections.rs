//! Attacks with TCP connections, thousands of them, by strangers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::bystanders::Bystanders;
use tests::deadline::{until, within};
use tests::stun::{BINDING_SUCCESS, Target};
use tests::{http, turn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const CONNECTIONS: usize = 10_000;

/// From each address. Below what the server allows, so that the number of all is what counts.
const CONNECTIONS_PER_ADDRESS: usize = 200;

const FRAGMENT: &str = "abcd";
const OFFER: &str = include_str!("../transcripts/publish.sdp");

/// Starts a call on a server that is started as a login shell would: with few open files allowed, and
/// leave to raise that.
async fn begin() -> Bystanders {
    const CUSTOMARY: u64 = 1024;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, CUSTOMARY.min(hard), hard).unwrap();
    let call = Bystanders::begin().await;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    call
}

/// Opens connections to `server` from many addresses of this machine, and keeps them.
async fn crowd(server: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let last = u8::try_from(2 + number / CONNECTIONS_PER_ADDRESS).expect("few addresses");
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((Ipv4Addr::new(127, 0, 0, last), 0).into())
            .unwrap();
        let connected = within("a connection", socket.connect(server)).await;
        connections.push(connected.unwrap());
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_at_the_start() {
    let _turn = turn::take().await;
    let call = begin().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", call.server.process_id())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let [soft, hard, ..] = line.unwrap().split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{limits}");
    };
    assert_eq!(soft, hard);
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_to_the_page_give_way_to_clients() {
    let _turn = turn::take().await;
    let call = begin().await;
    let crowd = crowd(call.server.address).await;
    // With those of the call they are more than the server takes by default.
    let mut requests = Vec::new();
    for _ in 0..100 {
        let answer = within("a page", http::get(call.server.address, "/healthz")).await;
        requests.push(answer.unwrap().status);
    }
    assert_eq!(requests, [200; 100]);
    let displaced = call.server.counter("tertulia_connections_displaced_total");
    assert!(displaced.await > 0, "the server was not full");
    let complaints = call.server.log().matches("too many connections").count();
    assert_eq!(complaints, 1, "{}", call.server.log());
    call.assert_unharmed().await;
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_to_the_media_port_give_way_to_peers() {
    let _turn = turn::take().await;
    let call = begin().await;
    let mut mallory = call.stranger().await;
    mallory.join("other", "mallory").await;
    let params =
        serde_json::json!({ "sdpOffer": OFFER.replace('\n', "\r\n"), "doLoopback": false });
    let answer = mallory.request("publishVideo", params).await.unwrap();
    let sdp = answer["sdpAnswer"].as_str().unwrap();
    let mut candidates = Vec::new();
    if !sdp.contains("a=candidate:") {
        let told = mallory.notification("iceCandidate").await;
        candidates.push(told["candidate"].as_str().unwrap().to_owned());
    }
    let target = Target::of_answer(sdp, &candidates);
    let crowd = crowd(target.address).await;
    until("the server has seen all of them", async || {
        let accepted = call.server.counter("tertulia_media_tcp_accepted_total");
        let rejected = call.server.counter("tertulia_media_tcp_rejected_total");
        (accepted.await + rejected.await >= CONNECTIONS as u64).then_some(())
    })
    .await;
    // Somebody without UDP is let in.
    let mut peer = TcpStream::connect(target.address).await.unwrap();
    let check = target.check(FRAGMENT);
    let length = u16::try_from(check.len()).unwrap().to_be_bytes();
    peer.write_all(&[&length[..], &check].concat())
        .await
        .unwrap();
    let mut answer = [0; 4];
    within("an answer over TCP", peer.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), BINDING_SUCCESS);
    call.assert_unharmed().await;
    drop(crowd);
}
