//! The asynchronous shell against a scripted server on a real socket.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use room_client::{
    CloseReason, Config, Error, Fingerprint, IceCandidate, Notice, Notification, Options, Peer,
    RoomConnection, RoomError, Tls,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

struct Server {
    listener: TcpListener,
    url: String,
}

impl Server {
    async fn new(scheme: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://localhost:{port}/room");
        Self { listener, url }
    }

    async fn accept(&self) -> Socket<tokio::net::TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        Socket(accept_async(stream).await.unwrap())
    }
}

struct Socket<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn request(&mut self) -> Value {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other}"),
            }
        }
    }

    async fn say(&mut self, message: Value) {
        let message = Message::text(message.to_string());
        self.0.send(message).await.unwrap();
    }

    /// Takes a request of `method` and answers it; returns its parameters.
    async fn answer(&mut self, method: &str, result: Value) -> Value {
        let request = self.request().await;
        assert_eq!(request["method"], method);
        self.say(json!({ "id": request["id"], "result": result, "jsonrpc": "2.0" }))
            .await;
        request["params"].clone()
    }
}

fn without_heartbeat() -> Options {
    Options {
        client: Config {
            heartbeat: None,
            ..Config::default()
        },
        ..Options::default()
    }
}

#[tokio::test]
async fn methods_ask_and_answer() {
    let server = Server::new("ws").await;
    let serving = async {
        let mut socket = server.accept().await;
        let ping = socket.answer("ping", json!({ "value": "pong" })).await;
        assert_eq!(ping, json!({ "interval": 3000 }));
        let peers = json!({ "value": [{ "id": "bob" }], "sessionId": "S" });
        let params = socket.answer("joinRoom", peers).await;
        let expected = json!({ "user": "alice", "room": "lab", "dataChannels": true });
        assert_eq!(params, expected);
        let empty = json!({ "sessionId": "S" });
        let answer = json!({ "sdpAnswer": "answer", "sessionId": "S" });
        socket.answer("publishVideo", answer.clone()).await;
        socket.answer("receiveVideoFrom", answer).await;
        socket.answer("onIceCandidate", empty.clone()).await;
        socket.answer("sendMessage", empty.clone()).await;
        let list = json!({ "value": [1, 2], "sessionId": "S" });
        let params = socket.answer("customRequest", list).await;
        assert_eq!(params, json!({ "token": "T" }));
        let params = socket.answer("unsubscribeFromVideo", empty.clone()).await;
        assert_eq!(params, json!({ "sender": "bob_webcam", "token": "T" }));
        let request = socket.request().await;
        let error = json!({ "code": 105, "message": "no", "sessionId": "S" });
        socket
            .say(json!({ "id": request["id"], "error": error, "jsonrpc": "2.0" }))
            .await;
        socket.answer("leaveRoom", empty).await;
    };
    let asking = async {
        let (connection, mut notices) = RoomConnection::connect(&server.url).await.unwrap();
        let peers = connection.join_room("lab", "alice", true).await.unwrap();
        assert_eq!(peers, [Peer::new("bob", false)]);
        let answer = connection.publish_video("offer", false).await.unwrap();
        assert_eq!(answer, "answer");
        let answer = connection.receive_video_from("bob_webcam", "offer").await;
        assert_eq!(answer.unwrap(), "answer");
        let candidate = IceCandidate {
            candidate: String::new(),
            sdp_mid: "0".to_owned(),
            sdp_m_line_index: 0,
        };
        connection
            .on_ice_candidate("alice", candidate)
            .await
            .unwrap();
        connection.send_message("lab", "alice", "hi").await.unwrap();
        let mut token = Map::new();
        token.insert("token".to_owned(), "T".into());
        connection.set_extra_params(token).await;
        let list = connection.custom_request(Map::new()).await.unwrap();
        assert_eq!(list, json!([1, 2]));
        connection
            .unsubscribe_from_video("bob_webcam")
            .await
            .unwrap();
        let refused = connection.unpublish_video().await.unwrap_err();
        assert!(matches!(refused, Error::Refused(error) if error == RoomError::new(105, "no")));
        connection.leave_room().await.unwrap();
        assert_eq!(
            notices.next().await,
            Some(Notice::Closed(CloseReason::Left))
        );
        assert_eq!(notices.next().await, None);
        connection.close().await;
        assert_eq!(connection.close_reason(), Some(CloseReason::Left));
        let late = connection.unpublish_video().await.unwrap_err();
        assert!(matches!(late, Error::Closed(CloseReason::Left)), "{late}");
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn broken_socket_is_replaced() {
    let server = Server::new("ws").await;
    let serving = async {
        let mut socket = server.accept().await;
        socket
            .answer("joinRoom", json!({ "value": [], "sessionId": "S" }))
            .await;
        socket.request().await;
        drop(socket);
        let mut socket = server.accept().await;
        let resumed = json!({ "value": "reconnection successful", "sessionId": "S" });
        let params = socket.answer("connect", resumed).await;
        assert_eq!(params, json!({ "sessionId": "S" }));
        let joined = json!({ "method": "participantJoined", "params": { "id": "bob" } });
        socket.say(joined).await;
        socket
            .answer("unpublishVideo", json!({ "sessionId": "S" }))
            .await;
        socket.answer("closeSession", json!("bye")).await;
    };
    let asking = async {
        let (connection, mut notices) =
            RoomConnection::connect_with(&server.url, without_heartbeat())
                .await
                .unwrap();
        connection.join_room("lab", "alice", false).await.unwrap();
        connection.unpublish_video().await.unwrap();
        drop(connection);
        let bob = Notification::ParticipantJoined {
            user: "bob".to_owned(),
        };
        for expected in [
            Notice::Reconnecting,
            Notice::Resumed,
            Notice::Notification(bob),
            Notice::Closed(CloseReason::Requested),
        ] {
            assert_eq!(notices.next().await, Some(expected));
        }
        assert_eq!(notices.next().await, None);
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn notices_nobody_takes_end_the_connection() {
    let server = Server::new("ws").await;
    let serving = async {
        let mut socket = server.accept().await;
        for name in ["a", "b", "c"] {
            let joined = json!({ "method": "participantJoined", "params": { "id": name } });
            socket.say(joined).await;
        }
        // Until the client has closed.
        while let Some(Ok(_)) = socket.0.next().await {}
    };
    let asking = async {
        let options = Options {
            notices_max: 2,
            ..without_heartbeat()
        };
        let (connection, mut notices) = RoomConnection::connect_with(&server.url, options)
            .await
            .unwrap();
        let unanswered = connection.unpublish_video().await.unwrap_err();
        let reason = CloseReason::NoticesUntaken;
        assert!(matches!(unanswered, Error::Closed(actual) if actual == reason));
        assert!(matches!(
            notices.next().await,
            Some(Notice::Notification(_))
        ));
        assert!(matches!(
            notices.next().await,
            Some(Notice::Notification(_))
        ));
        assert_eq!(notices.next().await, Some(Notice::Closed(reason)));
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn discarded_notices_are_no_reason_to_end() {
    let server = Server::new("ws").await;
    let serving = async {
        let mut socket = server.accept().await;
        let request = socket.request().await;
        for name in ["a", "b", "c"] {
            let joined = json!({ "method": "participantJoined", "params": { "id": name } });
            socket.say(joined).await;
        }
        socket
            .say(json!({ "id": request["id"], "result": {}, "jsonrpc": "2.0" }))
            .await;
        socket.answer("closeSession", json!("bye")).await;
    };
    let asking = async {
        let options = Options {
            notices_max: 1,
            ..without_heartbeat()
        };
        let connected = RoomConnection::connect_with(&server.url, options).await;
        let (connection, notices) = connected.unwrap();
        drop(notices);
        connection.unpublish_video().await.unwrap();
        connection.close().await;
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn first_attempt_reports_its_failure() {
    let server = Server::new("ws").await;
    let url = server.url.clone();
    drop(server);
    for url in [url.as_str(), "http://localhost", "nonsense", ""] {
        let failure = RoomConnection::connect(url).await.unwrap_err();
        assert!(matches!(failure, Error::Connect(_)), "{url}: {failure}");
    }
}

#[tokio::test]
async fn certificates_are_trusted_by_fingerprint_or_not_at_all() {
    let certified = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let pinned = Tls::pinned(Fingerprint::of(&certificate));
    let other = Tls::pinned(Fingerprint::of(b"other"));
    let anyone = Tls::danger_accept_any_certificate();
    for (tls, is_trusted) in [(pinned, true), (other, false), (anyone, true)] {
        let server = Server::new("wss").await;
        let serving = async {
            let (stream, _) = server.listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                assert!(!is_trusted);
                return;
            };
            let mut socket = Socket(accept_async(stream).await.unwrap());
            socket.answer("closeSession", json!("bye")).await;
        };
        let asking = async {
            let options = Options {
                tls,
                ..without_heartbeat()
            };
            match RoomConnection::connect_with(&server.url, options).await {
                Ok((connection, _)) => {
                    assert!(is_trusted);
                    connection.close().await;
                }
                Err(error) => {
                    assert!(!is_trusted, "{error}");
                    assert!(matches!(error, Error::Connect(_)), "{error}");
                }
            }
        };
        tokio::join!(serving, asking);
    }
}
