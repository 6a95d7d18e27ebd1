//! One WebSocket after the other, as a source of events.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::Pin;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

/// Bytes of a message of the server. Too low: the peers of a huge room do not fit. Too high: a
/// hostile server fills the memory.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Nagle's algorithm would hold back candidates, which are small and urgent.
const DISABLE_NAGLE: bool = true;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Opening = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;

/// The socket of a connection, if there is one.
pub(super) struct Link {
    url: String,
    connector: Connector,
    state: State,
}

enum State {
    None,
    Opening(Opening),
    Open(Box<Open>),
}

struct Open {
    sink: SplitSink<Stream, Message>,
    stream: SplitStream<Stream>,
    unsent: VecDeque<String>,
    unflushed: bool,
}

/// What happened to the socket.
#[derive(Debug)]
pub(super) enum Happening {
    Opened,
    Text(Utf8Bytes),
    /// An error, unless the closing was orderly.
    Closed(Option<Error>),
}

impl Link {
    pub(super) fn new(url: String, connector: Connector) -> Self {
        Self {
            url,
            connector,
            state: State::None,
        }
    }

    pub(super) fn open(&mut self) {
        let url = self.url.clone();
        let connector = self.connector.clone();
        self.state = State::Opening(Box::pin(async move {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let connecting =
                connect_async_tls_with_config(url, Some(config), DISABLE_NAGLE, Some(connector));
            connecting.await.map(|(stream, _)| stream)
        }));
    }

    /// Queues a text frame; [`next`](Self::next) sends it.
    pub(super) fn send(&mut self, text: String) {
        if let State::Open(open) = &mut self.state {
            open.unsent.push_back(text);
        }
    }

    /// Closes at once: the session layer has said goodbye already, or the network is dead.
    pub(super) fn close(&mut self) {
        self.state = State::None;
    }

    /// Sends what is queued until something happens. May be dropped at any time; without a socket it
    /// waits for ever.
    pub(super) async fn next(&mut self) -> Happening {
        let outcome = match &mut self.state {
            State::None => pending().await,
            State::Opening(opening) => match opening.await {
                Ok(stream) => {
                    self.state = State::Open(Box::new(Open::new(stream)));
                    return Happening::Opened;
                }
                Err(error) => Err(error),
            },
            State::Open(open) => open.next().await,
        };
        match outcome {
            Ok(Some(text)) => Happening::Text(text),
            closed => {
                self.state = State::None;
                Happening::Closed(closed.err())
            }
        }
    }
}

impl Open {
    fn new(stream: Stream) -> Self {
        let (sink, stream) = stream.split();
        Self {
            sink,
            stream,
            unsent: VecDeque::new(),
            unflushed: false,
        }
    }

    /// The next text; `None` when the server closed the socket.
    async fn next(&mut self) -> Result<Option<Utf8Bytes>, Error> {
        let Self {
            sink,
            stream,
            unsent,
            unflushed,
        } = self;
        loop {
            let has_work = *unflushed || !unsent.is_empty();
            tokio::select! {
                sent = send_all(sink, unsent, unflushed), if has_work => sent?,
                message = stream.next() => match message.transpose()? {
                    None | Some(Message::Close(_)) => return Ok(None),
                    Some(Message::Text(text)) => return Ok(Some(text)),
                    Some(_) => {}
                },
            }
        }
    }
}

/// Dropping it between two frames loses none, because a frame leaves the queue as the sink takes it.
async fn send_all(
    sink: &mut SplitSink<Stream, Message>,
    unsent: &mut VecDeque<String>,
    unflushed: &mut bool,
) -> Result<(), Error> {
    loop {
        poll_fn(|context| sink.poll_ready_unpin(context)).await?;
        let Some(text) = unsent.pop_front() else {
            break;
        };
        *unflushed = true;
        sink.start_send_unpin(Message::text(text))?;
    }
    sink.flush().await?;
    *unflushed = false;
    Ok(())
}
