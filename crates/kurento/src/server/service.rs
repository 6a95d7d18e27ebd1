//! [`Service`]: the server half on tokio.

mod process;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use media::{Event, EventSender, MediaServer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    Call, ClientFrame, Close, Config, ConnectionId, Effect, ObjectKey, Outgoing, Reply, Server,
    Totals, Work,
};
use crate::link::{Frame, Link, LinkError};

/// How long one call to the media server may take. Clients wait 10 to 20 seconds for an answer.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take to read one message. Too low: phones on bad networks are cut. Too high:
/// messages pile up for nobody.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// How long a client may take to read that the server goes down.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// Events of the media server that wait to be told. Above it they are lost.
const EVENTS_WAITING_MAX: usize = 100_000;

/// Serves the Kurento protocol over a media server. Clones are the same service, which ends when the
/// last is dropped.
///
/// Whoever accepts WebSockets makes a [`Link`] of each, after it has looked at the path
/// ([`is_path`](Self::is_path)) and at who may connect: the protocol itself knows no authentication. It
/// should refuse messages above [`ClientFrame::BYTES_MAX`] while they are being read.
pub struct Service<M>(Arc<Inner<M>>);

struct Inner<M> {
    server: Mutex<Server>,
    media: M,
    /// Events in the order in which they happened. Emptied under the lock of `server`.
    events: Arc<Inbox>,
    connections: Mutex<HashMap<ConnectionId, Arc<Wakers>>>,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

#[derive(Default)]
struct Inbox {
    waiting: Mutex<VecDeque<(ObjectKey, Event)>>,
    arrived: Notify,
}

#[derive(Default)]
struct Wakers {
    readable: Notify,
    writable: Notify,
}

impl<M> Drop for Inner<M> {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

impl<M> Clone for Service<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: MediaServer> Service<M> {
    /// Starts to serve; connections come with [`serve`](Self::serve). Needs a tokio runtime.
    pub fn new(media: M, config: Config) -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let server = Server::new(config, now(), unix.unwrap_or_default());
        let inner = Arc::new(Inner {
            server: Mutex::new(server),
            media,
            events: Arc::default(),
            connections: Mutex::default(),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
        });
        let (weak, events) = (Arc::downgrade(&inner), inner.events.clone());
        let stopped = inner.stopped.clone();
        inner.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = pump(weak, events) => {}
            }
        });
        Self(inner)
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, link: Link) {
        let inner = &self.0;
        let opened = inner.server.lock().handle_opened(now());
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "a Kurento client was turned away");
                return refuse(link, 1013, "the server is full").await;
            }
        };
        tracing::info!(?connection, "a Kurento client connected");
        let wakers = Arc::new(Wakers::default());
        inner.connections.lock().insert(connection, wakers.clone());
        let guard = ConnectionGuard {
            service: self,
            connection,
        };
        let Link {
            incoming,
            mut outgoing,
        } = link;
        let stopped = tokio::select! {
            () = self.read(connection, incoming, &wakers) => false,
            () = self.write(connection, &mut outgoing, &wakers) => false,
            () = inner.stopped.cancelled() => true,
        };
        drop(guard);
        if stopped {
            say_goodbye(
                &mut outgoing,
                close_frame(Close::GOING_AWAY),
                LEAVE_DEADLINE,
            )
            .await;
        }
        tracing::info!(?connection, "a Kurento client disconnected");
    }

    /// Whether the target of a WebSocket's request is the configured path. A query is ignored, a
    /// trailing slash is not.
    pub fn is_path(target: &str, path: &str) -> bool {
        let target = target.split('?').next().unwrap_or_default();
        target.strip_prefix('/').unwrap_or(target) == path
    }

    /// Turns a connection away that asked for another path than the configured one. The real server
    /// does so only after the WebSocket is up.
    pub async fn refuse_path(link: Link) {
        refuse(link, Close::INVALID_PATH.code, Close::INVALID_PATH.reason).await;
    }

    /// Ends every connection and task. Objects stay with the media server, which ends with us.
    pub async fn shut_down(&self) {
        self.0.stopped.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Numbers for a monitor: open connections, sessions, objects.
    pub fn load(&self) -> (usize, usize, usize) {
        let server = self.0.server.lock();
        (server.connections(), server.sessions(), server.objects())
    }

    /// What was counted since the beginning.
    pub fn totals(&self) -> Totals {
        self.0.server.lock().totals()
    }

    async fn read(
        &self,
        connection: ConnectionId,
        mut incoming: impl futures_util::Stream<Item = Result<Frame, LinkError>> + Unpin,
        wakers: &Wakers,
    ) {
        loop {
            while !self.0.server.lock().wants_frames(connection) {
                wakers.readable.notified().await;
            }
            let text = match incoming.next().await {
                Some(Ok(Frame::Text(text))) => text,
                Some(Ok(Frame::Binary(bytes))) => String::from_utf8_lossy(&bytes).into_owned(),
                Some(Ok(Frame::Close { .. })) | None => return,
                Some(Err(LinkError::TooBig)) => {
                    self.refuse_size(connection);
                    continue;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, ?connection, "a Kurento client is gone");
                    return;
                }
            };
            if text.len() > ClientFrame::BYTES_MAX {
                self.refuse_size(connection);
                continue;
            }
            let frame = ClientFrame::parse(&text);
            let now = self::now();
            self.0.server.lock().handle_frame(now, connection, frame);
            Inner::act(&self.0);
        }
    }

    fn refuse_size(&self, connection: ConnectionId) {
        self.0.server.lock().close(connection, Close::TOO_BIG);
        Inner::act(&self.0);
    }

    async fn write(
        &self,
        connection: ConnectionId,
        mut outgoing: impl futures_util::Sink<Frame, Error = LinkError> + Unpin,
        wakers: &Wakers,
    ) {
        loop {
            let next = self.0.server.lock().poll_transmit(connection);
            let (frame, ends) = match next {
                None => {
                    wakers.writable.notified().await;
                    continue;
                }
                Some(Outgoing::Text(text)) => (Frame::Text(text), false),
                Some(Outgoing::Close(close)) => (close_frame(close), true),
            };
            match tokio::time::timeout(WRITE_DEADLINE, outgoing.send(frame)).await {
                Ok(Ok(())) if !ends => {}
                _ => return,
            }
        }
    }
}

/// Tells the state machine when a connection is gone, however its future ended.
struct ConnectionGuard<'a, M: MediaServer> {
    service: &'a Service<M>,
    connection: ConnectionId,
}

impl<M: MediaServer> Drop for ConnectionGuard<'_, M> {
    fn drop(&mut self) {
        let inner = &self.service.0;
        inner.connections.lock().remove(&self.connection);
        let now = self::now();
        inner.server.lock().handle_closed(now, self.connection);
        Inner::act(inner);
    }
}

/// Passes on events and keeps time.
async fn pump<M: MediaServer>(inner: Weak<Inner<M>>, events: Arc<Inbox>) {
    loop {
        let Some(due) = inner
            .upgrade()
            .map(|inner| inner.server.lock().poll_timeout())
        else {
            return;
        };
        tokio::select! {
            () = events.arrived.notified() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let now = self::now();
        {
            let mut server = inner.server.lock();
            inner.events.drain_into(&mut server, now);
            server.handle_timeout(now);
        }
        Inner::act(&inner);
    }
}

impl Inbox {
    fn sender(self: &Arc<Self>, object: ObjectKey) -> EventSender {
        let inbox = self.clone();
        EventSender::new(move |event| {
            let mut waiting = inbox.waiting.lock();
            if waiting.len() < EVENTS_WAITING_MAX {
                waiting.push_back((object, event));
                drop(waiting);
                inbox.arrived.notify_one();
            } else {
                tracing::error!(?object, "an event of the media server is lost");
            }
        })
    }

    fn drain_into(&self, server: &mut Server, now: Instant) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (object, event) in waiting {
            server.handle_media_event(now, object, event);
        }
    }
}

impl<M: MediaServer> Inner<M> {
    /// Does what the state machine wants done.
    fn act(inner: &Arc<Self>) {
        loop {
            let effect = inner.server.lock().poll_effect();
            match effect {
                None => return,
                Some(Effect::Transmit(connection)) => {
                    if let Some(wakers) = inner.connections.lock().get(&connection) {
                        wakers.writable.notify_one();
                        wakers.readable.notify_one();
                    }
                }
                Some(Effect::ReleaseElement(id)) => inner.media.release_element(&id),
                Some(Effect::ReleasePipeline(id)) => inner.media.release_pipeline(&id),
                Some(Effect::Work(work)) => {
                    let worker = inner.clone();
                    inner.tasks.spawn(async move {
                        tokio::select! {
                            () = worker.stopped.cancelled() => {}
                            () = Self::work(&worker, work) => {}
                        }
                    });
                }
            }
        }
    }

    async fn work(inner: &Arc<Self>, work: Work) {
        let mut replies = Vec::with_capacity(work.calls.len());
        for call in work.calls {
            let reply = tokio::time::timeout(CALL_DEADLINE, inner.make(call)).await;
            replies.push(reply.unwrap_or(Err(media::Error::Timeout)));
        }
        let now = self::now();
        {
            let mut server = inner.server.lock();
            // What happened before the answer is told before it.
            inner.events.drain_into(&mut server, now);
            server.handle_replies(now, work.job, replies);
        }
        Self::act(inner);
    }

    async fn make(&self, call: Call) -> Result<Reply, media::Error> {
        let media = &self.media;
        match call {
            Call::CreatePipeline { object } => {
                let events = self.events.sender(object);
                media.create_pipeline(events).await.map(Reply::Pipeline)
            }
            Call::CreateElement {
                object,
                pipeline,
                kind,
            } => {
                let events = self.events.sender(object);
                let created = media.create_element(&pipeline, kind, events);
                created.await.map(Reply::Element)
            }
            Call::CreateCustomElement {
                object,
                pipeline,
                class,
                parameters,
            } => {
                let events = self.events.sender(object);
                let created = media.create_custom_element(&pipeline, class, &parameters, events);
                created.await.map(Reply::Element)
            }
            Call::Query { element, operation } => {
                media.query(&element, operation).await.map(Reply::Values)
            }
            Call::ProcessOffer { element, offer } => {
                media.process_offer(&element, &offer).await.map(Reply::Text)
            }
            Call::GenerateOffer { element, options } => {
                let offer = media.generate_offer(&element, options);
                offer.await.map(Reply::Text)
            }
            Call::ProcessAnswer { element, answer } => {
                let local = media.process_answer(&element, &answer);
                local.await.map(Reply::Text)
            }
            Call::Stats { element } => media.stats(&element).await.map(Reply::Stats),
            Call::MeasureCpu { interval } => {
                Ok(Reply::CpuPercent(process::cpu_percent(interval).await))
            }
            Call::MeasureMemory => Ok(Reply::MemoryKib(process::memory_kib())),
            other => self.command(other).await.map(|()| Reply::Nothing),
        }
    }

    /// Calls that return nothing.
    async fn command(&self, call: Call) -> Result<(), media::Error> {
        let media = &self.media;
        match call {
            Call::GatherCandidates { element } => media.gather_candidates(&element).await,
            Call::Invoke {
                element,
                operation,
                parameters,
            } => media.invoke(&element, operation, &parameters).await,
            Call::AddIceCandidate { element, candidate } => {
                media.add_ice_candidate(&element, candidate).await
            }
            Call::Connect { source, sink, kind } => media.connect(&source, &sink, kind).await,
            Call::Disconnect { source, sink, kind } => media.disconnect(&source, &sink, kind).await,
            Call::SetBandwidth { element, limits } => media.set_bandwidth(&element, limits).await,
            Call::RequestKeyFrame { element } => media.request_key_frame(&element).await,
            Call::CreateDataChannel { element, options } => {
                media.create_data_channel(&element, options).await
            }
            Call::CloseDataChannel { element, stream } => {
                media.close_data_channel(&element, stream).await
            }
            _ => unreachable!("make() takes every call that returns something"),
        }
    }
}

/// By tokio's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn refuse(mut link: Link, code: u16, reason: &str) {
    let reason = reason.to_owned();
    let frame = Frame::Close { code, reason };
    say_goodbye(&mut link.outgoing, frame, WRITE_DEADLINE).await;
}

async fn say_goodbye(
    outgoing: &mut (impl futures_util::Sink<Frame, Error = LinkError> + Unpin),
    frame: Frame,
    deadline: Duration,
) {
    if tokio::time::timeout(deadline, outgoing.send(frame))
        .await
        .is_err()
    {
        tracing::debug!("a Kurento client does not even read that it is over");
    }
}

fn close_frame(close: Close) -> Frame {
    Frame::Close {
        code: close.code,
        reason: close.reason.to_owned(),
    }
}

impl<M> fmt::Debug for Service<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}
