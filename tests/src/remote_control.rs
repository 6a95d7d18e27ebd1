//! The connection that drives a browser: requests with ids over a WebSocket, and events.
//!
//! The Chrome DevTools Protocol and WebDriver BiDi differ in their methods, not in this.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::deadline::within;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// One connection to a browser.
#[derive(Debug)]
pub struct RemoteControl {
    sender: tokio::sync::Mutex<SplitSink<Socket, Message>>,
    waiting: Waiting,
    next_id: AtomicU64,
    reader: JoinHandle<()>,
}

impl RemoteControl {
    /// Connects to `url`; every message that answers no request goes to `events`.
    pub async fn connect(url: &str, events: mpsc::UnboundedSender<Value>) -> Self {
        // A screenshot is one message of several megabytes.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let (socket, _) = within(
            format!("connecting to {url}"),
            connect_async_with_config(url, Some(config), true),
        )
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
        let (sender, receiver) = socket.split();
        let waiting = Waiting::default();
        let reader = tokio::spawn(read(receiver, waiting.clone(), events));
        Self {
            sender: sender.into(),
            waiting,
            next_id: AtomicU64::new(1),
            reader,
        }
    }

    /// The result, or the browser's error message. `session` is a session of the DevTools protocol.
    pub async fn call(
        &self,
        method: &str,
        params: Value,
        session: Option<&str>,
    ) -> Result<Value, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        let (answer_sender, answer) = oneshot::channel();
        self.waiting
            .lock()
            .expect("no panic while locked")
            .insert(id, answer_sender);
        let sent = self
            .sender
            .lock()
            .await
            .send(Message::text(request.to_string()))
            .await;
        sent.map_err(|error| format!("the browser is gone: {error}"))?;
        let mut answer = answer.await.map_err(|_| "the browser is gone".to_owned())?;
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(answer.to_string()),
        }
    }
}

impl Drop for RemoteControl {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut receiver: SplitStream<Socket>,
    waiting: Waiting,
    events: mpsc::UnboundedSender<Value>,
) {
    while let Some(Ok(message)) = receiver.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let Ok(value) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let answered = value["id"]
            .as_u64()
            .and_then(|id| waiting.lock().expect("no panic while locked").remove(&id));
        // A receiver that is gone has stopped waiting.
        match answered {
            Some(answer) => drop(answer.send(value)),
            None => drop(events.send(value)),
        }
    }
    waiting.lock().expect("no panic while locked").clear();
}
