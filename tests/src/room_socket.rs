//! The room protocol as bytes: what is sent is what the test wrote, what is received is what came.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::deadline::within;

/// What arrived on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A text frame.
    Text(String),
    /// The socket was closed; with a close frame, its code.
    Closed(Option<u16>),
}

/// A WebSocket to `/room`.
#[derive(Debug)]
pub struct RoomSocket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    notifications: VecDeque<Value>,
}

/// The `error` member of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// See the error catalogue of the room protocol.
    pub code: i64,
    /// The text that clients show.
    pub message: String,
}

impl RoomSocket {
    /// Connects to `url`.
    pub async fn connect(url: &str) -> Self {
        let connected = within(format!("connecting to {url}"), connect_async(url)).await;
        let (socket, _) = connected.unwrap_or_else(|error| panic!("{url}: {error}"));
        Self {
            socket,
            next_id: 0,
            notifications: VecDeque::new(),
        }
    }

    /// Sends one text frame; false if the server has closed the socket.
    pub async fn send_text(&mut self, text: &str) -> bool {
        self.send(Message::text(text)).await
    }

    /// Sends any frame; false if the server has closed the socket.
    pub async fn send(&mut self, message: Message) -> bool {
        within("sending a frame", self.socket.send(message))
            .await
            .is_ok()
    }

    /// What arrives next; pings are answered on the way.
    pub async fn next(&mut self) -> Arrival {
        within("a frame of the server", self.arrival()).await
    }

    /// What arrives within `limit`, if anything does.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Arrival> {
        tokio::time::timeout(limit, self.arrival()).await.ok()
    }

    async fn arrival(&mut self) -> Arrival {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Arrival::Text(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    // Sends the answer that closing needs.
                    let _ = self.socket.flush().await;
                    return Arrival::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Arrival::Closed(None),
            }
        }
    }

    /// Sends a request and gives its answer; notifications that arrive before it are kept.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": id });
        assert!(
            self.send_text(&request.to_string()).await,
            "the server closed the socket before {method}"
        );
        loop {
            let Arrival::Text(text) = self.next().await else {
                panic!("the server closed the socket instead of answering {method}");
            };
            let mut frame: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            if frame.get("method").is_some() {
                self.notifications.push_back(frame);
            } else if frame["id"] == id {
                return match frame.get_mut("result") {
                    Some(result) => Ok(result.take()),
                    None => Err(Refusal {
                        code: frame["error"]["code"].as_i64().unwrap_or_default(),
                        message: frame["error"]["message"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    }),
                };
            }
        }
    }

    /// Enters a room; the names of those who publish in it.
    pub async fn join(&mut self, room: &str, user: &str) -> Vec<String> {
        let answer = self
            .request("joinRoom", json!({ "room": room, "user": user }))
            .await;
        let answer =
            answer.unwrap_or_else(|refusal| panic!("{user} cannot join {room}: {refusal:?}"));
        let peers = answer["value"]
            .as_array()
            .expect("the answer lists the peers");
        let publishers = peers.iter().filter(|peer| peer.get("streams").is_some());
        publishers
            .filter_map(|peer| Some(peer["id"].as_str()?.to_owned()))
            .collect()
    }

    /// Waits for the parameters of a notification, those kept first.
    pub async fn notification(&mut self, method: &str) -> Value {
        let kept = self
            .notifications
            .iter()
            .position(|frame| frame["method"] == method);
        if let Some(mut frame) = kept.and_then(|index| self.notifications.remove(index)) {
            return frame["params"].take();
        }
        loop {
            let Arrival::Text(text) = self.next().await else {
                panic!("the server closed the socket instead of sending {method}");
            };
            let mut frame: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            if frame["method"] == method {
                return frame["params"].take();
            }
            self.notifications.push_back(frame);
        }
    }
}
