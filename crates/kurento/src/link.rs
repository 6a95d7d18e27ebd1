//! One connection, whatever carries it.
//!
//! Read [`Link`]: both halves speak through one, so that tests connect them in memory, and a server
//! mounts the protocol on the WebSocket of its web framework. Deliberately absent: JSON.

use std::fmt;
use std::pin::Pin;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, sink, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Frames that one end of an in-memory link may be ahead of the other.
const IN_MEMORY_FRAMES_MAX: usize = 64;

/// What goes over a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// JSON.
    Text(String),
    /// JSON as well: some clients send nothing else.
    Binary(Vec<u8>),
    /// The end (RFC 6455, section 7.4).
    Close {
        /// The status.
        code: u16,
        /// For humans.
        reason: String,
    },
}

/// A link broke, or was never made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There was no connection in the first place.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing comes any more.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other end sent more than it may. It can still be told so.
    #[error("message is too big")]
    TooBig,
}

/// What comes over a link.
pub type Incoming = Pin<Box<dyn Stream<Item = Result<Frame, LinkError>> + Send>>;
/// Where frames for a link go.
pub type Outgoing = Pin<Box<dyn Sink<Frame, Error = LinkError> + Send>>;

/// Frames in and frames out.
pub struct Link {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
}

impl Link {
    /// A link over any stream and sink. The stream ends when the connection does.
    pub fn new(
        incoming: impl Stream<Item = Result<Frame, LinkError>> + Send + 'static,
        outgoing: impl Sink<Frame, Error = LinkError> + Send + 'static,
    ) -> Self {
        Self {
            incoming: Box::pin(incoming),
            outgoing: Box::pin(outgoing),
        }
    }

    /// Two ends of a connection in memory.
    pub fn pair() -> (Self, Self) {
        let (first_out, second_in) = mpsc::channel(IN_MEMORY_FRAMES_MAX);
        let (second_out, first_in) = mpsc::channel(IN_MEMORY_FRAMES_MAX);
        (
            Self::in_memory(first_in, first_out),
            Self::in_memory(second_in, second_out),
        )
    }

    /// What the link is made of.
    pub fn into_parts(self) -> (Incoming, Outgoing) {
        (self.incoming, self.outgoing)
    }

    fn in_memory(incoming: mpsc::Receiver<Frame>, outgoing: mpsc::Sender<Frame>) -> Self {
        let incoming = stream::unfold(incoming, |mut incoming| async {
            let frame = incoming.recv().await?;
            Some((Ok(frame), incoming))
        });
        let outgoing = sink::unfold(outgoing, |outgoing, frame| async {
            let gone = |_| LinkError::Lost("the other end is gone".to_owned());
            outgoing.send(frame).await.map_err(gone)?;
            Ok(outgoing)
        });
        Self::new(incoming, outgoing)
    }

    /// A link over a WebSocket. Control frames are answered below.
    pub fn over_websocket<S>(socket: WebSocketStream<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (outgoing, incoming) = socket.split();
        let broken =
            |error: tokio_tungstenite::tungstenite::Error| LinkError::Lost(error.to_string());
        let incoming = incoming.filter_map(move |message| {
            let frame = match message {
                Ok(message) => from_message(message).map(Ok),
                Err(error) => Some(Err(broken(error))),
            };
            std::future::ready(frame)
        });
        let outgoing = outgoing
            .sink_map_err(broken)
            .with(|frame| std::future::ready(Ok(to_message(frame))));
        Self::new(incoming, outgoing)
    }
}

fn from_message(message: Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(Frame::Text(text.as_str().to_owned())),
        Message::Binary(bytes) => Some(Frame::Binary(bytes.to_vec())),
        Message::Close(frame) => {
            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                (frame.code.into(), frame.reason.as_str().to_owned())
            });
            Some(Frame::Close { code, reason })
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
    }
}

fn to_message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text.into()),
        Frame::Binary(bytes) => Message::Binary(bytes.into()),
        Frame::Close { code, reason } => Message::Close(Some(CloseFrame {
            code: code.into(),
            reason: Utf8Bytes::from(reason),
        })),
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}
