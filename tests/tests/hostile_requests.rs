//! Attacks over the WebSocket while a call runs.

use std::time::{Duration, Instant};

use media::MediaKind::Video;
use serde_json::{Value, json};
use tests::bystanders::Bystanders;
use tests::deadline::{until, within};
use tests::light_peer::{LightPeer, Peer, PeerConfig};
use tests::room_socket::{Arrival, RoomSocket};
use tests::server::Server;
use tests::turn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const OFFER: &str = include_str!("../transcripts/publish.sdp");

/// True if the socket still answers.
async fn is_answered(socket: &mut RoomSocket) -> bool {
    if !socket
        .send_text(r#"{"jsonrpc":"2.0","method":"ping","id":4242}"#)
        .await
    {
        return false;
    }
    loop {
        match socket.next().await {
            Arrival::Text(text) if text.contains("4242") => return true,
            Arrival::Text(_) => {}
            Arrival::Closed(_) => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_cost_their_sender_only() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;

    // Ignored: the socket stays.
    let batch = format!(
        "[{}]",
        vec![r#"{"jsonrpc":"2.0","method":"ping","id":1}"#; 10_000].join(",")
    );
    let mut socket = call.stranger().await;
    for text in [
        String::new(),
        "\0".to_owned(),
        "[".repeat(100_000),
        r#"{"a":"#.repeat(100_000),
        format!(
            r#"{{"jsonrpc":"2.0","method":"joinRoom","params":{}1{},"id":1}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        ),
        batch,
        r#"{"jsonrpc":"2.0","method":"ping","id":1e400}"#.to_owned(),
        format!(
            r#"{{"jsonrpc":"2.0","method":"ping","id":{}}}"#,
            "9".repeat(10_000)
        ),
        r#"{"jsonrpc":"2.0","method":"ping","id":"\ud800"}"#.to_owned(),
    ] {
        assert!(socket.send_text(&text).await);
    }
    assert!(
        is_answered(&mut socket).await,
        "closed for what is to be ignored"
    );

    // In fragments, as good as in one piece; with control frames between them.
    let parts = [r#"{"jsonrpc":"2.0","#, r#""method":"ping","#, r#""id":77}"#];
    for (index, part) in parts.iter().enumerate() {
        let opcode = if index == 0 {
            Data::Text
        } else {
            Data::Continue
        };
        let frame = Frame::message(
            part.as_bytes().to_vec(),
            OpCode::Data(opcode),
            index == parts.len() - 1,
        );
        assert!(socket.send(Message::Frame(frame)).await);
        assert!(socket.send(Message::Ping(vec![1; 100].into())).await);
    }
    let expected = r#"{"id":77,"result":{"value":"pong"},"jsonrpc":"2.0"}"#;
    assert_eq!(socket.next().await, Arrival::Text(expected.to_owned()));

    // Refused: the socket is closed.
    let not_utf8 = Frame::message(vec![0xff, 0xfe, 0x80], OpCode::Data(Data::Text), true);
    let stray = Frame::message(b"stray".to_vec(), OpCode::Data(Data::Continue), true);
    let ten_megabytes = format!(
        r#"{{"jsonrpc":"2.0","method":"ping","x":"{}","id":1}}"#,
        "x".repeat(10_000_000)
    );
    let closing = [
        ("binary", Message::binary(vec![1, 2, 3])),
        ("not UTF-8", Message::Frame(not_utf8)),
        ("stray continuation", Message::Frame(stray)),
        ("ten megabytes", Message::text(ten_megabytes)),
    ];
    for (what, message) in closing {
        let mut socket = call.stranger().await;
        // A server that closes while it is sent to may be noticed already here.
        let _ = socket.send(message).await;
        let closed = until(format!("the server closes after: {what}"), async || {
            matches!(socket.next().await, Arrival::Closed(_)).then_some(())
        });
        closed.await;
    }

    // Endless fragments of an endless message.
    let mut socket = call.stranger().await;
    let mut sent = 0_usize;
    loop {
        let opcode = if sent == 0 {
            Data::Text
        } else {
            Data::Continue
        };
        let frame = Frame::message(vec![b'x'; 100_000], OpCode::Data(opcode), false);
        if !socket.send(Message::Frame(frame)).await {
            break;
        }
        sent += 100_000;
        assert!(sent < 100_000_000, "a message without an end is taken in");
    }
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_not_negotiated() {
    let server = Server::start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /room HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            within("the answer to a handshake", socket.read_u8())
                .await
                .unwrap(),
        );
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_a_wrong_type_is_answered() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let mut socket = call.stranger().await;
    socket.join("lab", "mallory").await;
    let methods = [
        (
            "joinRoom",
            json!({ "room": "lab", "user": "x", "dataChannels": false, "mediaEvents": true }),
        ),
        (
            "publishVideo",
            json!({ "sdpOffer": "v=0", "doLoopback": false }),
        ),
        (
            "receiveVideoFrom",
            json!({ "sender": "ana_webcam", "sdpOffer": "v=0" }),
        ),
        ("unsubscribeFromVideo", json!({ "sender": "ana_webcam" })),
        (
            "setSubscription",
            json!({
                "sender": "ana_webcam", "maxWidth": 1, "maxHeight": 1, "maxFrameRate": 1, "priority": "low",
                "pauseAudio": true, "pauseVideo": true, "spatialLayer": 0, "temporalLayer": 0,
            }),
        ),
        (
            "onIceCandidate",
            json!({ "endpointName": "ana", "candidate": "c", "sdpMid": "0", "sdpMLineIndex": 0 }),
        ),
        (
            "sendMessage",
            json!({ "message": "m", "userMessage": "mallory", "roomMessage": "lab" }),
        ),
        ("customRequest", json!({ "any": 1 })),
        ("unpublishVideo", json!({ "any": 1 })),
        ("connect", json!({ "sessionId": "0" })),
        ("ping", json!({ "interval": 5000 })),
    ];
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\r\na=evil:1\r\n"),
        json!("../../etc/passwd"),
        json!([]),
        json!([[[["deep"]]]]),
        json!([1, 2]),
        json!({ "a": { "b": [] } }),
    ];
    for (method, params) in &methods {
        let keys: Vec<&String> = params.as_object().unwrap().keys().collect();
        for key in keys {
            for value in &values {
                let mut changed = params.clone();
                changed[key.as_str()] = value.clone();
                // Whatever it is, there is an answer.
                let _ = socket.request(method, changed).await;
            }
        }
        for value in &values {
            let request = json!({ "jsonrpc": "2.0", "method": method, "params": value, "id": 1 });
            assert!(socket.send_text(&request.to_string()).await);
        }
    }
    assert!(is_answered(&mut socket).await);
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_descriptions_are_refused_or_survived() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let sound = OFFER.replace('\n', "\r\n");
    let (session, media) = sound.split_once("m=audio").unwrap();
    let media = format!("m=audio{media}");
    let lines =
        |line: &str, count: usize| format!("{sound}{}", format!("{line}\r\n").repeat(count));
    let many_ssrcs: String = (0..20_000)
        .map(|ssrc| format!("a=ssrc:{ssrc} cname:x\r\n"))
        .collect();
    let many_codecs: String = (0..9_000)
        .map(|n| format!("a=rtpmap:{} VP8/90000\r\n", n % 128))
        .collect();
    let many_rids: String = (0..5_000).map(|n| format!("a=rid:r{n} send\r\n")).collect();
    let offers = [
        (
            "10 000 media",
            format!(
                "{session}{}",
                "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(10_000)
            ),
        ),
        ("100 full media", format!("{session}{}", media.repeat(100))),
        (
            "10 000 candidates",
            lines("a=candidate:1 1 UDP 1 127.0.0.1 9 typ host", 10_000),
        ),
        (
            "10 000 fingerprints",
            lines("a=fingerprint:sha-256 AB:CD", 10_000),
        ),
        ("20 000 sources", format!("{sound}{many_ssrcs}")),
        ("9 000 codecs", format!("{sound}{many_codecs}")),
        (
            "5 000 encodings",
            format!("{sound}{many_rids}a=simulcast:send r1;r2\r\n"),
        ),
        (
            "5 000 extensions",
            lines("a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid", 5_000),
        ),
        ("the same mid", sound.replace("a=mid:1", "a=mid:0")),
        ("no credentials", sound.replace("a=ice-", "a=nice-")),
        (
            "no fingerprint",
            sound.replace("a=fingerprint", "a=footprint"),
        ),
        ("SHA-1", sound.replace("sha-256", "sha-1")),
        ("huge line", sound.replace("VP8", &"V".repeat(500_000))),
        ("NUL", sound.replace("stream", "str\0eam")),
        ("lone carriage returns", sound.replace("\r\n", "\r")),
        ("negative numbers", sound.replace("96", "-96")),
        ("huge numbers", sound.replace("96", "99999999999999999999")),
        (
            "group of strangers",
            sound.replace("BUNDLE 0 1", "BUNDLE 8 9"),
        ),
        ("active both", sound.replace("actpass", "passive")),
    ];
    for (what, offer) in offers {
        let mut socket = call.stranger().await;
        socket.join("other", "mallory").await;
        let params = json!({ "sdpOffer": offer, "doLoopback": false });
        let answer = within(what, socket.request("publishVideo", params)).await;
        if let Ok(answer) = answer {
            let length = answer["sdpAnswer"].as_str().unwrap().len();
            assert!(length < 300_000, "{what}: an answer of {length} bytes");
        }
        assert!(is_answered(&mut socket).await, "{what}");
        let _ = socket.request("leaveRoom", json!({})).await;
    }
    // Many candidates for what is not there.
    let mut socket = call.stranger().await;
    socket.join("other", "mallory").await;
    for index in 0..2_000 {
        let params = json!({
            "endpointName": format!("nobody{index}"),
            "candidate": format!("candidate:{index} 1 UDP 1 127.0.0.1 9 typ host"),
            "sdpMid": "0",
            "sdpMLineIndex": 0,
        });
        socket.request("onIceCandidate", params).await.unwrap();
    }
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_disconnected() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let mut deaf = call.stranger().await;
    deaf.join("talk", "deaf").await;
    let mut speaker = call.stranger().await;
    speaker.join("talk", "speaker").await;
    // Messages of which the deaf one takes none; those of the speaker itself are read.
    let message = "x".repeat(100_000);
    let params = json!({ "message": message, "userMessage": "speaker", "roomMessage": "talk" });
    for _ in 0..400 {
        speaker
            .request("sendMessage", params.clone())
            .await
            .unwrap();
        speaker.notification("sendMessage").await;
    }
    let closed = until("the server gives up", async || {
        match deaf.next_within(Duration::from_secs(5)).await {
            Some(Arrival::Closed(_)) => Some(()),
            _ => None,
        }
    });
    closed.await;
    assert!(is_answered(&mut speaker).await);
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_that_change_all_the_time_cost_their_sender_only() {
    /// Answered one by one, and then as many at once as the server takes.
    const WISHES: usize = 1_000;
    const FLOOD: usize = 20_000;
    /// Least time between two requests for key frames to one publisher.
    const INTERVAL: Duration = Duration::from_millis(500);
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let mut dan = call.stranger().await;
    dan.join("stage", "dan").await;
    let publisher = LightPeer::publish(&mut dan, "dan", PeerConfig::publisher(1)).await;
    let mut eve = call.stranger().await;
    eve.join("stage", "eve").await;
    let viewer = LightPeer::receive(&mut eve, "dan", PeerConfig::viewer(2)).await;
    viewer.gets(&publisher, Video).await;
    let wishes = [
        json!({ "sender": "dan_webcam", "pauseVideo": true }),
        json!({ "sender": "dan_webcam" }),
        json!({ "sender": "dan_webcam", "pauseAudio": true, "priority": "high" }),
        json!({ "sender": "dan_webcam", "maxHeight": 1, "maxFrameRate": 1 }),
        json!({ "sender": "dan_webcam", "spatialLayer": 0, "temporalLayer": 7 }),
    ];
    let asked = |peer: &Peer| {
        let feedback = peer.feedback(Video).expect("video is published");
        feedback.picture_losses + feedback.full_intra_requests
    };

    let (before, began) = (publisher.see(asked), Instant::now());
    for wish in wishes.iter().cycle().take(WISHES) {
        eve.request("setSubscription", wish.clone()).await.unwrap();
    }
    let requests = publisher.see(asked) - before;
    let intervals = began.elapsed().as_millis() / INTERVAL.as_millis();
    assert!(
        u128::from(requests) <= intervals + 1,
        "{requests} requests for key frames in {intervals} intervals"
    );
    let everything = json!({ "sender": "dan_webcam" });
    eve.request("setSubscription", everything).await.unwrap();
    viewer.gets(&publisher, Video).await;

    for (number, wish) in wishes.iter().cycle().take(FLOOD).enumerate() {
        let request = json!({ "jsonrpc": "2.0", "method": "setSubscription", "params": wish, "id": 100_000 + number });
        if !eve.send_text(&request.to_string()).await {
            break;
        }
    }
    assert!(is_answered(&mut dan).await);
    let mut fay = call.stranger().await;
    fay.join("stage", "fay").await;
    let other = LightPeer::receive(&mut fay, "dan", PeerConfig::viewer(3)).await;
    other.gets(&publisher, Video).await;
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_for_those_in_it() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let mut mallory = call.stranger().await;
    mallory.join("other", "mallory").await;
    // Another room's publisher cannot be received.
    let params = json!({ "sender": "ana_webcam", "sdpOffer": OFFER.replace('\n', "\r\n").replace("sendonly", "recvonly") });
    assert_eq!(
        mallory
            .request("receiveVideoFrom", params)
            .await
            .unwrap_err()
            .code,
        102
    );
    // A failed join with a victim's name leaves the victim alone.
    for _ in 0..20 {
        let mut impostor = call.stranger().await;
        let refusal = impostor
            .request(
                "joinRoom",
                json!({ "room": Bystanders::ROOM, "user": "ana" }),
            )
            .await
            .unwrap_err();
        assert_eq!(refusal.code, 104);
    }
    // Joining and leaving in a loop.
    for _ in 0..100 {
        let mut socket = call.stranger().await;
        socket.join("lab", "revolving").await;
        socket.request("leaveRoom", json!({})).await.unwrap();
    }
    // Publishing and unpublishing in a loop.
    for _ in 0..100 {
        let params = json!({ "sdpOffer": OFFER.replace('\n', "\r\n"), "doLoopback": false });
        mallory.request("publishVideo", params).await.unwrap();
        mallory.request("unpublishVideo", json!({})).await.unwrap();
    }
    call.assert_unharmed().await;
}
