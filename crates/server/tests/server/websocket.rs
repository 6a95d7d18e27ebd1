//! The WebSocket of a running server: what transports may do to it, and what rooms do through it.

use crate::support::{Client, PATIENCE, config, exchange, get, start};
use serde_json::json;
use tertulia::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};

#[tokio::test]
async fn request_without_upgrade_is_told_to_upgrade() {
    let server = start(&config());
    let response = get(&server, "/room").await;
    assert!(response.starts_with("HTTP/1.1 426 "), "{response}");
    assert!(response.contains("upgrade: websocket"), "{response}");
    let post = "POST /room HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    let response = exchange(&server, post).await;
    assert!(response.starts_with("HTTP/1.1 426 "), "{response}");
}

#[tokio::test]
async fn any_origin_and_subprotocol_may_connect() {
    let server = start(&config());
    let mut stream = TcpStream::connect(server.listen()).await.unwrap();
    let request = "GET /room HTTP/1.1\r\nhost: localhost\r\norigin: https://elsewhere.example\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 101");
}

#[tokio::test]
async fn protocol_ping_is_answered() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    client
        .send(Message::text(
            r#"{"method":"ping","params":{"interval":3000},"id":1}"#,
        ))
        .await;
    assert_eq!(
        client.text().await,
        json!({"id": 1, "result": {"value": "pong"}, "jsonrpc": "2.0"})
    );
}

#[tokio::test]
async fn websocket_ping_is_answered() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    client
        .send(Message::Ping(Bytes::from_static(b"mark")))
        .await;
    let answer = client.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong(Bytes::from_static(b"mark")));
}

#[tokio::test]
async fn what_is_no_request_is_ignored() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    for text in ["", "{", "[]", "null", r#"{"id":1,"result":{}}"#] {
        client.send(Message::text(text)).await;
    }
    let answer = client.ask("ping", json!({})).await;
    assert_eq!(answer["result"]["value"], "pong");
}

#[tokio::test]
async fn binary_message_closes_with_1003() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    client.send(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(client.closed().await.0, 1003);
}

#[tokio::test]
async fn longest_message_is_read_and_a_longer_one_closes_with_1009() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    let request = |length: usize| {
        let head = r#"{"method":"ping","id":1,"x":""#;
        format!("{head}{}\"}}", "x".repeat(length - head.len() - 2))
    };
    client.send(Message::text(request(1_000_000))).await;
    assert_eq!(client.text().await["result"]["value"], "pong");
    client.send(Message::text(request(1_000_001))).await;
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn message_that_grows_too_long_in_fragments_closes_with_1009() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    for opcode in [Data::Text, Data::Continue, Data::Continue] {
        let fragment = Frame::message(vec![b'x'; 400_000], OpCode::Data(opcode), false);
        client.send(Message::Frame(fragment)).await;
    }
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_1007() {
    let server = start(&config());
    let mut client = Client::connect(&server).await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    client.send(Message::Frame(frame)).await;
    assert_eq!(client.closed().await.0, 1007);
}

#[tokio::test]
async fn idle_connections_give_way_to_those_who_come() {
    let server = start(&Config {
        max_connections: 2,
        ..config()
    });
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(TcpStream::connect(server.listen()).await.unwrap());
    }
    let mut client = Client::connect(&server).await;
    let [oldest, _] = &mut idle[..] else {
        unreachable!("two were opened")
    };
    // Reset or closed: either way without an answer.
    let mut nothing = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, oldest.read_to_end(&mut nothing))
        .await
        .unwrap();
    assert!(nothing.is_empty());
    // The one that is a WebSocket stays.
    for _ in 0..5 {
        idle.push(TcpStream::connect(server.listen()).await.unwrap());
    }
    assert_eq!(
        client.ask("ping", json!({})).await["result"]["value"],
        "pong"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_dropped() {
    let server = start(&Config {
        max_connections: 1,
        ..config()
    });
    let mut first = Client::connect(&server).await;
    let mut second = TcpStream::connect(server.listen()).await.unwrap();
    let mut nothing = Vec::new();
    // Reset or closed: either way without an answer.
    let _ = tokio::time::timeout(PATIENCE, second.read_to_end(&mut nothing))
        .await
        .unwrap();
    assert!(nothing.is_empty());
    assert_eq!(
        first.ask("ping", json!({})).await["result"]["value"],
        "pong"
    );
}

#[tokio::test]
async fn client_that_does_not_read_is_thrown_out_and_others_go_on() {
    let server = start(&config());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.listen()).await.unwrap();
    let mut slow = Client::over(&server, stream).await;
    slow.ask("joinRoom", json!({"user": "slow", "room": "r"}))
        .await;
    let mut fast = Client::join(&server, "fast", "r").await;
    let text = "x".repeat(900_000);
    // What the kernel buffers on the way is some megabytes, then the outbox fills.
    for _ in 0..60 {
        let message = json!({"message": text, "userMessage": "fast", "roomMessage": "r"});
        fast.request("sendMessage", message).await;
        loop {
            let seen = fast.text().await;
            if seen["method"] == "participantLeft" {
                assert_eq!(seen["params"]["name"], "slow");
                return;
            }
            if seen["method"] == "sendMessage" {
                break;
            }
        }
    }
    panic!("the slow client is still in the room");
}

#[tokio::test]
async fn join_is_told_to_those_present_before_it_is_answered() {
    let server = start(&config());
    let mut alice = Client::join(&server, "alice", "lab").await;
    let mut bob = Client::connect(&server).await;
    let answer = bob
        .ask(
            "joinRoom",
            json!({"user": "bob", "room": "lab", "dataChannels": "true"}),
        )
        .await;
    assert_eq!(answer["result"]["value"], json!([{"id": "alice"}]));
    let seen = alice.notification().await;
    assert_eq!(
        seen,
        json!({"method": "participantJoined", "params": {"id": "bob"}, "jsonrpc": "2.0"})
    );
}

#[tokio::test]
async fn message_reaches_the_sender_after_its_response() {
    let server = start(&config());
    let mut alice = Client::join(&server, "alice", "lab").await;
    let params = json!({"message": "hi", "userMessage": "alice", "roomMessage": "lab"});
    let id = alice.request("sendMessage", params).await;
    assert_eq!(alice.text().await["id"], id);
    let seen = alice.text().await;
    assert_eq!(
        seen["params"],
        json!({"room": "lab", "user": "alice", "message": "hi"})
    );
}

#[tokio::test]
async fn leaving_is_told_answered_and_then_the_socket_closed() {
    let server = start(&config());
    let mut alice = Client::join(&server, "alice", "lab").await;
    let mut bob = Client::join(&server, "bob", "lab").await;
    bob.send(Message::text(
        r#"{"jsonrpc":"2.0","method":"leaveRoom","id":4}"#,
    ))
    .await;
    let answer = bob.text().await;
    assert_eq!(answer["id"], 4);
    assert!(answer["result"]["sessionId"].is_string());
    assert_eq!(bob.closed().await.0, 1000);
    assert_eq!(alice.notification().await["method"], "participantJoined");
    assert_eq!(alice.notification().await["params"], json!({"name": "bob"}));
}

#[tokio::test]
async fn closing_the_session_evicts_at_once() {
    let server = start(&config());
    let mut alice = Client::join(&server, "alice", "lab").await;
    let mut bob = Client::join(&server, "bob", "lab").await;
    assert_eq!(bob.ask("closeSession", json!({})).await["result"], "bye");
    assert_eq!(bob.closed().await.0, 1000);
    assert_eq!(alice.notification().await["method"], "participantJoined");
    assert_eq!(alice.notification().await["method"], "participantLeft");
}

#[tokio::test]
async fn lost_client_comes_back_to_its_room_and_hears_what_it_missed() {
    let server = start(&config());
    let mut alice = Client::connect(&server).await;
    let answer = alice
        .ask("joinRoom", json!({"user": "alice", "room": "lab"}))
        .await;
    let session = answer["result"]["sessionId"].clone();
    drop(alice);
    let mut bob = Client::join(&server, "bob", "lab").await;
    let mut alice = Client::connect(&server).await;
    let answer = alice.ask("connect", json!({ "sessionId": session })).await;
    assert_eq!(answer["result"]["value"], "reconnection successful");
    assert_eq!(alice.notification().await["params"], json!({"id": "bob"}));
    let params = json!({"message": "hi", "userMessage": "bob", "roomMessage": "lab"});
    bob.ask("sendMessage", params).await;
    assert_eq!(alice.notification().await["method"], "sendMessage");
}

#[tokio::test]
async fn lost_client_leaves_its_room_after_the_grace_period() {
    let server = start(&Config {
        grace_seconds: 0,
        ..config()
    });
    let mut alice = Client::join(&server, "alice", "lab").await;
    let bob = Client::join(&server, "bob", "lab").await;
    drop(bob);
    assert_eq!(alice.notification().await["method"], "participantJoined");
    assert_eq!(alice.notification().await["method"], "participantLeft");
}

#[tokio::test]
async fn errors_have_the_codes_of_the_protocol() {
    let server = start(&config());
    let _alice = Client::join(&server, "alice", "lab").await;
    let mut client = Client::connect(&server).await;
    for (method, params, code, message) in [
        (
            "joinRoom",
            json!({"user": "alice", "room": "lab"}),
            104,
            "User 'alice' already exists in room 'lab'",
        ),
        (
            "joinRoom",
            json!({"user": "x"}),
            -1,
            "java.lang.RuntimeException:Request element 'room' is missing",
        ),
        (
            "customRequest",
            json!({"x": 1}),
            -1,
            "java.lang.RuntimeException:Unsupported method",
        ),
        ("fly", json!({}), -32601, "Method not found: fly"),
    ] {
        let answer = client.ask(method, params).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer["error"]["message"], message, "{answer}");
        assert_eq!(
            answer["error"]["sessionId"].is_string(),
            code > 0,
            "{answer}"
        );
    }
}

#[tokio::test]
async fn shutdown_tells_rooms_and_closes_sockets_with_1001() {
    let server = start(&config());
    let mut alice = Client::join(&server, "alice", "lab").await;
    let mut idle = Client::connect(&server).await;
    let clients = async {
        // Clients of the original show errors, and do not know of closed rooms.
        let error = alice.notification().await;
        assert_eq!(error["method"], "mediaError");
        let text = error["params"]["error"].as_str().unwrap();
        assert!(text.contains("the server is shutting down"), "{text}");
        let closed = alice.notification().await;
        assert_eq!(
            closed,
            json!({"method": "roomClosed", "params": {"room": "lab"}, "jsonrpc": "2.0"})
        );
        assert_eq!(alice.closed().await.0, 1001);
        assert_eq!(idle.closed().await.0, 1001);
    };
    tokio::join!(server.shut_down(), clients);
}
