//! A connection over WebSocket, with a method per request.
//!
//! Read [`RoomConnection`] first. One task owns the socket and the state machine; the methods send
//! it commands. Everything the protocol knows is in [`Client`].

mod link;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use media::{Delivery, IceCandidate};
use room::protocol::{Peer, Request, Response};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::Connector;
use tracing::Instrument as _;

pub use tls::{Fingerprint, InvalidFingerprint, Tls};

use crate::client::{Client, CloseReason, Config, Event, Notice, Output, RequestId};
use crate::error::Error;
use link::{Happening, Link};

/// Commands on their way to the task; a caller waits for a place.
const COMMANDS_MAX: usize = 64;
/// The end is told even to an application that took no notice.
const RESERVED_FOR_END: usize = 1;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Timing.
    pub client: Config,
    /// Whom to trust behind `wss`.
    pub tls: Tls,
    /// Notices kept for an application that does not take them; one more ends the connection with
    /// [`CloseReason::NoticesUntaken`]. Too low: the candidates of a big room end it while the
    /// application awaits an answer. Too high: memory.
    pub notices_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client: Config::default(),
            tls: Tls::default(),
            notices_max: 4096,
        }
    }
}

/// An open connection to a room server. Clones share it.
///
/// When the network fails it comes back by itself; see [`Notice`]. When all clones are gone the
/// session is closed as by [`close`](Self::close). A method whose future is dropped has asked
/// nevertheless.
#[derive(Clone, Debug)]
pub struct RoomConnection {
    commands: mpsc::Sender<Command>,
    /// Set before `commands` closes.
    closed: Arc<OnceLock<CloseReason>>,
}

/// What the server tells unasked, in its order. Dropping it discards them.
#[derive(Debug)]
pub struct Notices {
    notices: mpsc::Receiver<Notice>,
    /// Ends by itself: after the last clone of the connection, or when the connection is over.
    _task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Request(Request, oneshot::Sender<Result<Response, Error>>),
    ExtraParams(Map<String, Value>),
    Close,
}

impl RoomConnection {
    /// Connects to `url`, as `wss://example.org/room`, with default [`Options`].
    pub async fn connect(url: &str) -> Result<(Self, Notices), Error> {
        Self::connect_with(url, Options::default()).await
    }

    /// Connects to `url`, a `wss` or `ws` address. A first attempt that fails is not repeated.
    pub async fn connect_with(url: &str, options: Options) -> Result<(Self, Notices), Error> {
        let is_secure = url
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("wss:"));
        let connector = if is_secure {
            Connector::Rustls(Arc::new(options.tls.client_config()?))
        } else {
            Connector::Plain
        };
        let (notices_in, notices) = mpsc::channel(options.notices_max.max(1) + RESERVED_FOR_END);
        let (commands, commands_out) = mpsc::channel(COMMANDS_MAX);
        let mut task = Task {
            client: Client::new(Instant::now(), options.client, rand::random()),
            link: Link::new(url.to_owned(), connector),
            waiting: HashMap::new(),
            notices: notices_in,
        };
        task.open().await?;
        let closed = Arc::new(OnceLock::new());
        let span = tracing::debug_span!("room_connection");
        let run = task.run(commands_out, closed.clone());
        let task = tokio::spawn(run.instrument(span));
        let notices = Notices {
            notices,
            _task: task,
        };
        Ok((Self { commands, closed }, notices))
    }

    /// Enters `room` as `user` and returns who was there before. `data_channels`: on what this user
    /// publishes.
    pub async fn join_room(
        &self,
        room: &str,
        user: &str,
        data_channels: bool,
    ) -> Result<Vec<Peer>, Error> {
        let request = Request::JoinRoom {
            room: room.to_owned(),
            user: user.to_owned(),
            data_channels,
            media_events: false,
        };
        self.join(request).await
    }

    /// [`join_room`](Self::join_room), and wants to be told what becomes of the videos it gets, which of its own layers
    /// are wanted, and who speaks. A server other than Tertulia tells nothing of it.
    pub async fn join_room_with_media_events(
        &self,
        room: &str,
        user: &str,
        data_channels: bool,
    ) -> Result<Vec<Peer>, Error> {
        let request = Request::JoinRoom {
            room: room.to_owned(),
            user: user.to_owned(),
            data_channels,
            media_events: true,
        };
        self.join(request).await
    }

    async fn join(&self, request: Request) -> Result<Vec<Peer>, Error> {
        match self.request(request).await? {
            Response::Joined(peers) => Ok(peers),
            other => Err(unexpected("joinRoom", &other)),
        }
    }

    /// Leaves the room, which closes the connection.
    pub async fn leave_room(&self) -> Result<(), Error> {
        self.request(Request::LeaveRoom).await.map(drop)
    }

    /// Publishes this user's stream and returns the server's answer to `sdp_offer`. `loopback`: get
    /// the stream back on the same peer connection.
    pub async fn publish_video(&self, sdp_offer: &str, loopback: bool) -> Result<String, Error> {
        let sdp_offer = sdp_offer.to_owned();
        let request = Request::PublishVideo {
            sdp_offer,
            loopback,
        };
        self.negotiate(request).await
    }

    /// Ends the publication.
    pub async fn unpublish_video(&self) -> Result<(), Error> {
        self.request(Request::UnpublishVideo).await.map(drop)
    }

    /// Subscribes to `sender`, as `bob_webcam`, and returns the server's answer to `sdp_offer`.
    pub async fn receive_video_from(&self, sender: &str, sdp_offer: &str) -> Result<String, Error> {
        let request = Request::ReceiveVideoFrom {
            sender: sender.to_owned(),
            sdp_offer: sdp_offer.to_owned(),
        };
        self.negotiate(request).await
    }

    /// Ends the subscription to `sender`, as `bob_webcam`.
    pub async fn unsubscribe_from_video(&self, sender: &str) -> Result<(), Error> {
        let sender = sender.to_owned();
        let request = Request::UnsubscribeFromVideo { sender };
        self.request(request).await.map(drop)
    }

    /// Says what to send of the subscription to `sender`, as `bob_webcam`, in place of what was said before. The answer
    /// comes when the media server knows. Servers other than Tertulia refuse it.
    pub async fn set_subscription(&self, sender: &str, delivery: Delivery) -> Result<(), Error> {
        let sender = sender.to_owned();
        let request = Request::SetSubscription { sender, delivery };
        self.request(request).await.map(drop)
    }

    /// Passes on a local candidate. `endpoint_name`: the own user name for the publication, another's
    /// for the subscription to it.
    pub async fn on_ice_candidate(
        &self,
        endpoint_name: &str,
        candidate: IceCandidate,
    ) -> Result<(), Error> {
        let request = Request::OnIceCandidate {
            endpoint_name: endpoint_name.to_owned(),
            candidate,
        };
        self.request(request).await.map(drop)
    }

    /// Sends a text to everyone in `room`, oneself included. `user` and `room` must be one's own.
    pub async fn send_message(&self, room: &str, user: &str, message: &str) -> Result<(), Error> {
        let request = Request::SendMessage {
            room: room.to_owned(),
            user: user.to_owned(),
            message: message.to_owned(),
        };
        self.request(request).await.map(drop)
    }

    /// Asks what the server's application defines. The answer comes without the session id; an array
    /// or a primitive without the `value` around it.
    pub async fn custom_request(&self, params: Map<String, Value>) -> Result<Value, Error> {
        match self.request(Request::CustomRequest(params)).await? {
            Response::Custom(value) => Ok(value),
            other => Err(unexpected("customRequest", &other)),
        }
    }

    /// Makes any request.
    pub async fn request(&self, request: Request) -> Result<Response, Error> {
        let (sender, answer) = oneshot::channel();
        let command = Command::Request(request, sender);
        let is_taken = self.commands.send(command).await.is_ok();
        match answer.await {
            Ok(outcome) if is_taken => outcome,
            _ => Err(Error::Closed(
                self.close_reason().unwrap_or(CloseReason::Requested),
            )),
        }
    }

    /// Adds parameters to each following request, as a token that the server's application wants.
    pub async fn set_extra_params(&self, params: Map<String, Value>) {
        // A closed connection makes no requests.
        let _ = self.commands.send(Command::ExtraParams(params)).await;
    }

    /// Ends the session, so that others see the participant leave at once, and returns when the
    /// connection is closed.
    pub async fn close(&self) {
        let _ = self.commands.send(Command::Close).await;
        self.commands.closed().await;
    }

    /// Why the connection is over, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.closed.get().copied()
    }

    async fn negotiate(&self, request: Request) -> Result<String, Error> {
        let method = request.method();
        match self.request(request).await? {
            Response::SdpAnswer(answer) => Ok(answer),
            other => Err(unexpected(method, &other)),
        }
    }
}

fn unexpected(method: &'static str, response: &Response) -> Error {
    let answer = response.to_value().to_string();
    Error::Malformed { method, answer }
}

impl Notices {
    /// The next notice; `None` after [`Notice::Closed`].
    pub async fn next(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }
}

/// Owns the socket.
struct Task {
    client: Client,
    link: Link,
    waiting: HashMap<RequestId, oneshot::Sender<Result<Response, Error>>>,
    notices: mpsc::Sender<Notice>,
}

impl Task {
    /// The first attempt, whose failure the caller wants to see.
    async fn open(&mut self) -> Result<(), Error> {
        self.act();
        let deadline = self.client.poll_timeout().unwrap_or_else(Instant::now);
        match tokio::time::timeout_at(deadline.into(), self.link.next()).await {
            Ok(Happening::Closed(Some(error))) => Err(Error::Connect(Box::new(error))),
            Ok(happening) => {
                self.handle(happening);
                Ok(())
            }
            Err(_) => Err(Error::ConnectTimeout),
        }
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        closed: Arc<OnceLock<CloseReason>>,
    ) {
        let mut is_wanted = true;
        self.act();
        let reason = loop {
            if let Some(reason) = self.client.closed() {
                break reason;
            }
            let deadline = self.client.poll_timeout();
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                happening = self.link.next() => self.handle(happening),
                command = commands.recv(), if is_wanted => {
                    is_wanted = command.is_some();
                    self.obey(command);
                }
                () = timer => self.client.handle_timeout(Instant::now()),
            }
            self.act();
        };
        // Whoever waits on `commands` may look at the reason.
        closed.get_or_init(|| reason);
    }

    fn handle(&mut self, happening: Happening) {
        let now = Instant::now();
        match happening {
            Happening::Opened => self.client.handle_opened(now),
            Happening::Text(text) => self.client.handle_text(&text),
            Happening::Closed(error) => {
                tracing::debug!(error = error.map(tracing::field::display), "socket closed");
                self.client.handle_closed(now);
            }
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        let now = Instant::now();
        match command {
            Some(Command::Request(request, sender)) => {
                let id = self.client.request(now, &request);
                self.waiting.insert(id, sender);
            }
            Some(Command::ExtraParams(params)) => self.client.set_extra_params(params),
            Some(Command::Close) | None => self.client.close(now),
        }
    }

    /// Does what the state machine wants.
    fn act(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Answer { id, outcome } => {
                    if let Some(sender) = self.waiting.remove(&id) {
                        // Whoever asked may have ceased to wait.
                        let _ = sender.send(outcome);
                    }
                }
                Event::Notice(notice) => self.tell(notice),
            }
        }
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::OpenSocket => self.link.open(),
                Output::Send(text) => self.link.send(text),
                Output::CloseSocket => self.link.close(),
            }
        }
    }

    fn tell(&mut self, notice: Notice) {
        let is_end = matches!(notice, Notice::Closed(_));
        if !is_end && !self.notices.is_closed() && self.notices.capacity() <= RESERVED_FOR_END {
            return self.client.abort(CloseReason::NoticesUntaken);
        }
        // An application may have no interest in notices.
        let _ = self.notices.try_send(notice);
    }
}
