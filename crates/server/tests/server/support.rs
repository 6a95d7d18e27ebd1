//! A server in this process, and the clients that test it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use media::Fake;
use serde_json::Value;
use tertulia::Server;
use tertulia::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        http: true,
        ..Config::default()
    }
}

pub(crate) fn start(config: &Config) -> Server<Fake> {
    Server::start(config, Fake::default(), || {
        Box::pin(async { String::new() })
    })
    .unwrap()
}

/// The answer to a raw HTTP request.
pub(crate) async fn exchange(server: &Server<Fake>, request: &str) -> String {
    let mut stream = TcpStream::connect(server.listen()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let read = stream.read_to_end(&mut response);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    String::from_utf8(response).unwrap()
}

/// The answer to a GET with more headers, each ended by a line break.
pub(crate) async fn get_with(server: &Server<Fake>, path: &str, headers: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    exchange(server, &request).await
}

pub(crate) async fn get(server: &Server<Fake>, path: &str) -> String {
    get_with(server, path, "").await
}

pub(crate) fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

/// A client of the room protocol.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    requests: i64,
    notifications: VecDeque<Value>,
}

impl Client {
    pub(crate) async fn connect(server: &Server<Fake>) -> Self {
        let stream = TcpStream::connect(server.listen()).await.unwrap();
        Self::over(server, stream).await
    }

    pub(crate) async fn over(server: &Server<Fake>, stream: TcpStream) -> Self {
        let url = format!("ws://{}/room", server.listen());
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Self {
            socket,
            requests: 0,
            notifications: VecDeque::new(),
        }
    }

    pub(crate) async fn join(server: &Server<Fake>, user: &str, room: &str) -> Self {
        let mut client = Self::connect(server).await;
        let params = serde_json::json!({ "user": user, "room": room });
        let answer = client.ask("joinRoom", params).await;
        assert!(answer["result"]["value"].is_array(), "{answer}");
        client
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Sends a request; returns its id.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> i64 {
        self.requests += 1;
        let id = self.requests;
        let request =
            serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": id });
        self.send(Message::text(request.to_string())).await;
        id
    }

    /// Sends a request and waits for its response. Notifications before it are kept.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params).await;
        loop {
            let message = self.text().await;
            if message["id"] == id {
                return message;
            }
            self.notifications.push_back(message);
        }
    }

    /// The next notification.
    pub(crate) async fn notification(&mut self) -> Value {
        match self.notifications.pop_front() {
            Some(kept) => kept,
            None => self.text().await,
        }
    }

    pub(crate) async fn text(&mut self) -> Value {
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        tokio::time::timeout(PATIENCE, self.socket.next())
            .await
            .unwrap()
    }

    /// Code and reason of the close frame that comes next, other messages skipped.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    }
}
