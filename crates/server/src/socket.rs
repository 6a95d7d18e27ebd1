//! One WebSocket: text frames in, the outbox of its session out.
//!
//! Read [`serve`] first. Reading and writing do not wait for each other; a peer that stalls either is
//! dropped.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use jsonrpc::{Close, CloseCode, Frame, Outgoing, SocketId};
use media::MediaServer;
use parking_lot::Mutex;
use room::Rooms;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::admission::Complaint;
use crate::control;
use crate::gateway::Gateway;

/// Bytes of one message, as in the original server. Larger ones close the socket with 1009.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1_000_000;

/// How long the peer may take to accept one frame. Too low: a megabyte on a slow line does not pass.
/// Too high: a dead peer holds its socket, though no more memory than its outbox.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);

/// How often a silent peer is asked for a sign of life, which also keeps address translators from
/// forgetting the connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// Silence after which the peer is gone. Every WebSocket implementation answers probes by itself, so
/// this covers clients that never send the protocol's own pings.
const SILENCE_MAX: Duration = Duration::from_secs(65);

/// How long the peer may take to answer a close frame. Dropping the connection earlier may destroy the
/// close frame on its way (RFC 6455, section 7.1.1).
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What a socket needs of the server.
pub(crate) struct Context<M> {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) rooms: Rooms<M>,
    pub(crate) tasks: TaskTracker,
    /// Of sockets that were one too many.
    pub(crate) complaint: Mutex<Complaint>,
}

/// Serves a socket until it is closed.
pub(crate) async fn serve<M: MediaServer>(context: Arc<Context<M>>, socket: WebSocket) {
    let _running = context.tasks.token();
    let (sink, stream) = socket.split();
    let (id, wake) = match context.gateway.open() {
        Ok(opened) => opened,
        Err(error) => {
            let now = std::time::Instant::now();
            if let Some(count) = context.complaint.lock().note(now) {
                tracing::warn!(%error, count, "sockets refused");
            }
            let close = Close::new(CloseCode::TryAgainLater, "the server is full");
            return say_goodbye(sink, stream, close_frame(close)).await;
        }
    };
    let span = tracing::info_span!("socket", %id);
    run(&context, id, &wake, sink, stream)
        .instrument(span)
        .await;
    context.gateway.closed(id);
}

async fn run<M: MediaServer>(
    context: &Context<M>,
    id: SocketId,
    wake: &Notify,
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
) {
    tracing::debug!("socket opened");
    let silence = Silence::default();
    let end = tokio::select! {
        end = read(context, id, &mut stream, &silence) => end,
        end = write(&context.gateway, id, wake, &mut sink, &silence) => end,
    };
    match end {
        End::Lost(reason) => tracing::debug!(reason, "socket lost"),
        End::Close(close) => {
            tracing::debug!(code = close.code, reason = %close.reason, "closing socket");
            // The session need not wait for the handshake.
            context.gateway.closed(id);
            say_goodbye(sink, stream, close).await;
        }
    }
}

/// Why a socket ends.
enum End {
    /// There is nobody to talk to.
    Lost(&'static str),
    /// The peer is told why.
    Close(CloseFrame),
}

/// When the peer was last heard.
struct Silence(parking_lot::Mutex<Instant>);

impl Default for Silence {
    fn default() -> Self {
        Self(parking_lot::Mutex::new(Instant::now()))
    }
}

impl Silence {
    fn interrupt(&self) {
        *self.0.lock() = Instant::now();
    }

    fn is_deadly(&self) -> bool {
        self.0.lock().elapsed() > SILENCE_MAX
    }
}

async fn read<M: MediaServer>(
    context: &Context<M>,
    id: SocketId,
    stream: &mut SplitStream<WebSocket>,
    silence: &Silence,
) -> End {
    while let Some(message) = stream.next().await {
        silence.interrupt();
        match message {
            Ok(Message::Text(text)) => receive(context, id, text),
            Ok(Message::Binary(_)) => return close(1003, "only text messages are understood"),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return End::Lost("closed by the peer"),
            Err(error) => return refusal(&error),
        }
    }
    End::Lost("end of stream")
}

fn receive<M: MediaServer>(context: &Context<M>, id: SocketId, text: Utf8Bytes) {
    let frame = Frame::parse(text.as_str());
    if let Some(reason) = frame.ignored() {
        tracing::debug!(%reason, size_bytes = text.len(), "frame ignored");
    }
    if let Some(session) = context.gateway.receive(id, frame) {
        let gateway = context.gateway.clone();
        let task = control::run_session(gateway, context.rooms.clone(), session);
        context.tasks.spawn(task);
    }
}

/// What the peer did wrong, if it did; the connection may as well be lost.
fn refusal(error: &axum::Error) -> End {
    use tungstenite::Error;

    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::Capacity(_)) => close(1009, "message too long"),
        Some(Error::Utf8(_)) => close(1007, "text is not UTF-8"),
        Some(Error::Protocol(_)) => close(1002, "not WebSocket"),
        _ => End::Lost("connection failed"),
    }
}

async fn write(
    gateway: &Gateway,
    id: SocketId,
    wake: &Notify,
    sink: &mut SplitSink<WebSocket, Message>,
    silence: &Silence,
) -> End {
    let mut probe = tokio::time::interval(PROBE_INTERVAL);
    probe.reset();
    loop {
        while let Some(outgoing) = gateway.poll_transmit(id) {
            let text = match outgoing {
                Outgoing::Text(text) => text,
                Outgoing::Close(close) => return End::Close(close_frame(close)),
            };
            if !send(sink, Message::text(&*text)).await {
                return End::Lost("the peer does not read");
            }
        }
        tokio::select! {
            () = wake.notified() => {}
            _ = probe.tick() => {
                if silence.is_deadly() {
                    return End::Lost("the peer is silent");
                }
                if !send(sink, Message::Ping(axum::body::Bytes::new())).await {
                    return End::Lost("the peer does not read");
                }
            }
        }
    }
}

/// False if the peer did not take the message.
async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> bool {
    matches!(
        timeout(WRITE_DEADLINE, sink.send(message)).await,
        Ok(Ok(()))
    )
}

/// The closing handshake, as far as the peer takes part.
async fn say_goodbye(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    close: CloseFrame,
) {
    let deadline = Instant::now() + CLOSE_DEADLINE;
    let handshake = async {
        if sink.send(Message::Close(Some(close))).await.is_err() {
            return;
        }
        loop {
            match stream.next().await {
                Some(Ok(Message::Close(_))) | None => return,
                Some(Ok(_)) => {}
                // What the peer still sends cannot be read, but it may still read the close frame.
                Some(Err(_)) => return tokio::time::sleep_until(deadline).await,
            }
        }
    };
    // A peer that takes no part is dropped all the same.
    let _ = tokio::time::timeout_at(deadline, handshake).await;
}

fn close(code: u16, reason: &'static str) -> End {
    End::Close(CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    })
}

fn close_frame(close: Close) -> CloseFrame {
    CloseFrame {
        code: close.code.as_u16(),
        reason: Utf8Bytes::from(&*close.reason),
    }
}
