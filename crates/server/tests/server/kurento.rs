//! `/kurento`: who is let in, and how connections end.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use kurento::server::ClientFrame;
use media::Fake;
use tertulia::config::Config;
use tertulia::kms::Listener;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{config, get, start};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const PONG: &str = r#"{"id":1,"jsonrpc":"2.0","result":{"value":"pong"}}"#;
const TOKEN: &str = "0123456789abcdef";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn kurento_config() -> Config {
    Config {
        kurento: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..config()
    }
}

fn listen(config: &Config) -> Listener<Fake> {
    Listener::start(config, Fake::new()).unwrap().unwrap()
}

async fn connect_to(
    listener: &Listener<Fake>,
    target: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, u16> {
    let url = format!("ws://{}{target}", listener.address().unwrap());
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

async fn connect(listener: &Listener<Fake>) -> Socket {
    connect_to(listener, "/kurento", &[]).await.unwrap()
}

async fn assert_alive(socket: &mut Socket) {
    socket.send(Message::text(PING)).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::text(PONG));
}

async fn closed(socket: &mut Socket) -> u16 {
    match socket.next().await {
        Some(Ok(Message::Close(Some(frame)))) => frame.code.into(),
        other => panic!("{other:?} is no close"),
    }
}

#[tokio::test]
async fn kurento_is_not_served_unless_told() {
    assert!(Listener::start(&config(), Fake::new()).unwrap().is_none());
}

#[tokio::test]
async fn text_and_binary_are_answered() {
    let listener = listen(&kurento_config());
    let mut socket = connect(&listener).await;
    assert_alive(&mut socket).await;
    socket.send(Message::binary(PING)).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::text(PONG));
    listener.shut_down().await;
}

#[tokio::test]
async fn clients_are_told_what_the_operator_says() {
    let listener = listen(&Config {
        kurento_version: "openvidu/mediasoup-controller:1".to_owned(),
        kurento_metadata: r#"{"rack":7}"#.to_owned(),
        ..kurento_config()
    });
    let mut socket = connect(&listener).await;
    for (operation, expected) in [
        ("getInfo", r#""version":"openvidu/mediasoup-controller:1""#),
        ("getMetadata", r#""value":"{\"rack\":7}""#),
    ] {
        let params = format!(r#"{{"object":"manager_ServerManager","operation":"{operation}"}}"#);
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":"{operation}","method":"invoke","params":{params}}}"#
        );
        socket.send(Message::text(request)).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        let answer = answer.to_text().unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn other_paths_are_closed_and_plain_requests_refused() {
    let listener = listen(&kurento_config());
    for target in ["/", "/kurento/", "/room"] {
        let mut socket = connect_to(&listener, target, &[]).await.unwrap();
        assert_eq!(closed(&mut socket).await, 1002, "{target}");
    }
    let mut stream = TcpStream::connect(listener.address().unwrap())
        .await
        .unwrap();
    let request = b"GET /kurento HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request)
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    listener.shut_down().await;
}

#[tokio::test]
async fn strangers_need_the_token() {
    let listener = listen(&kurento_config());
    let page = [("origin", "https://evil.example")];
    let refused = connect_to(&listener, "/kurento", &page).await;
    assert_eq!(refused.err(), Some(401), "a page of somebody else");
    listener.shut_down().await;

    let listener = listen(&Config {
        kurento_token: Some(TOKEN.to_owned()),
        ..kurento_config()
    });
    let bearer = format!("Bearer {TOKEN}");
    for (target, headers, expected) in [
        ("/kurento", vec![], Some(401)),
        ("/kurento?access_token=wrong", vec![], Some(401)),
        (
            "/kurento?access_token=0123456789abcdef",
            vec![("origin", "https://app.example")],
            None,
        ),
        ("/kurento", vec![("authorization", bearer.as_str())], None),
    ] {
        let outcome = connect_to(&listener, target, &headers).await;
        assert_eq!(outcome.err(), expected, "{target} {headers:?}");
    }
    listener.shut_down().await;
}

#[tokio::test]
async fn listening_everywhere_is_listening_to_ipv4_too() {
    let listener = listen(&Config {
        kurento: Some(SocketAddr::from(([0; 8], 0))),
        kurento_token: Some(TOKEN.to_owned()),
        ..kurento_config()
    });
    let port = listener.address().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}/kurento?access_token={TOKEN}");
    let (mut socket, _) = connect_async(url).await.unwrap();
    assert_alive(&mut socket).await;
}

#[tokio::test]
async fn message_that_is_too_long_ends_its_connection_only() {
    let listener = listen(&kurento_config());
    let mut bystander = connect(&listener).await;
    let mut socket = connect(&listener).await;
    let huge = "x".repeat(ClientFrame::BYTES_MAX + 1);
    // The server may have closed before all is written.
    let _ = socket.send(Message::text(huge)).await;
    match socket.next().await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1009),
        Some(Err(_)) | None => {}
        other => panic!("{other:?}"),
    }
    assert_alive(&mut bystander).await;
    listener.shut_down().await;
}

#[tokio::test]
async fn nested_and_broken_json_is_answered_with_an_error() {
    let listener = listen(&kurento_config());
    let mut socket = connect(&listener).await;
    let nested = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"transaction","params":{{"operations":{}"newref:0"{}}}}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let texts = [
        "[".repeat(1_000_000),
        r#"{"a":"#.repeat(100_000),
        nested,
        String::new(),
        r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"\ud800"}"#.to_owned(),
    ];
    for text in texts {
        let start: String = text.chars().take(20).collect();
        socket.send(Message::text(text)).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        let answer = answer.to_text().unwrap();
        assert!(answer.contains(r#""error":"#), "{start}: {answer}");
    }
    assert_alive(&mut socket).await;
    listener.shut_down().await;
}

#[tokio::test]
async fn who_does_not_read_is_disconnected() {
    /// More than the server keeps for one client, and what sockets hold beside that.
    const UNREAD_BYTES: usize = 64 << 20;
    let listener = listen(&kurento_config());
    let mut bystander = connect(&listener).await;
    let mut deaf = connect(&listener).await;
    let invoke = |id: usize, operation: &str, parameters: &str| {
        Message::text(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"invoke","params":{{"object":"manager_ServerManager","operation":"{operation}","operationParams":{{{parameters}}}}}}}"#
        ))
    };
    let value = "x".repeat(1_000);
    for key in 0..60 {
        let tag = format!(r#""key":"{key}","value":"{value}""#);
        deaf.send(invoke(key, "addTag", &tag)).await.unwrap();
        deaf.next().await.unwrap().unwrap();
    }
    let answer_bytes = 60 * value.len();
    for number in 0..UNREAD_BYTES / answer_bytes {
        // The server may have closed before all is written.
        if deaf
            .send(invoke(1_000 + number, "getTags", ""))
            .await
            .is_err()
        {
            break;
        }
    }
    assert_alive(&mut bystander).await;
    let mut read_bytes = 0;
    loop {
        match deaf.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1008);
                break;
            }
            Some(Ok(message)) => read_bytes += message.len(),
            Some(Err(_)) | None => break,
        }
    }
    assert!(read_bytes < UNREAD_BYTES / 2, "{read_bytes} were kept");
    assert_alive(&mut bystander).await;
    listener.shut_down().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let listener = listen(&Config {
        kurento_max_connections: 1,
        ..kurento_config()
    });
    let mut first = connect(&listener).await;
    assert_alive(&mut first).await;
    let refused = connect_to(&listener, "/kurento", &[]).await;
    assert_eq!(refused.err(), Some(503));
    assert_alive(&mut first).await;
    listener.shut_down().await;
}

#[tokio::test]
async fn clients_are_told_of_the_end() {
    let listener = listen(&kurento_config());
    let mut socket = connect(&listener).await;
    assert_alive(&mut socket).await;
    let address = listener.address().unwrap();
    let (code, ()) = tokio::join!(closed(&mut socket), listener.shut_down());
    assert_eq!(code, 1001);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn clients_are_counted() {
    let server = start(&config());
    let listener = listen(&kurento_config());
    let count = listener.publish_metrics();
    let mut socket = connect(&listener).await;
    assert_alive(&mut socket).await;
    count();
    let page = get(&server, "/metrics").await;
    for line in [
        "tertulia_kurento_connections 1",
        "tertulia_kurento_requests_total 1",
        "tertulia_kurento_errors_total 0",
        "# HELP tertulia_kurento_sessions ",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    listener.shut_down().await;
    server.shut_down().await;
}
