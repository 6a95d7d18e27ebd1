//! How many connections there may be, and which give way when there are too many.
//!
//! Read [`Admission`] first. A connection costs whoever opens it nothing, and behind a proxy all come from
//! one address; so it is not counted who opens them. Deliberately absent: what is said on them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Between two lines of the log about a server that is full. Too low: whoever fills the server fills the
/// log. Too high: the operator learns of it late.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Limits the number of connections, before they cost a TLS handshake.
///
/// When it is reached, the oldest connection that has not become a WebSocket gives way: requests take
/// milliseconds, so that is one that idles. Nobody comes in only while all are WebSockets.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Mutex<Connections>>);

struct Connections {
    connections_max: usize,
    open: usize,
    /// Counts all since the beginning.
    admitted: u64,
    /// Those that may have to give way, the oldest first.
    yielding: BTreeMap<u64, Arc<Seat>>,
    /// The numbers of [`Self::yielding`].
    by_peer: HashMap<SocketAddr, u64>,
    complaint: Complaint,
}

/// How a connection learns that it has to give way.
#[derive(Default)]
struct Seat {
    is_lost: AtomicBool,
    task: AtomicWaker,
}

impl Admission {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Connections {
            connections_max,
            open: 0,
            admitted: 0,
            yielding: BTreeMap::new(),
            by_peer: HashMap::new(),
            complaint: Complaint::default(),
        })))
    }

    /// The connection from `peer` becomes a WebSocket: it stays, however many others come.
    pub(crate) fn keep(&self, peer: SocketAddr) {
        let mut connections = self.0.lock();
        if let Some(number) = connections.by_peer.remove(&peer) {
            connections.yielding.remove(&number);
        }
    }

    fn admit(&self, peer: SocketAddr) -> Option<(u64, Arc<Seat>)> {
        let mut connections = self.0.lock();
        let is_full = connections.open >= connections.connections_max;
        if is_full {
            let has_room = connections.make_room();
            if let Some(count) = connections.complaint.note(Instant::now()) {
                tracing::warn!(
                    count,
                    "too many connections: the oldest that are no WebSockets were closed, or new ones refused"
                );
            }
            if !has_room {
                metrics::counter!("tertulia_connections_refused_total").increment(1);
                return None;
            }
        }
        let number = connections.admitted;
        let seat = Arc::new(Seat::default());
        connections.admitted += 1;
        connections.open += 1;
        connections.yielding.insert(number, seat.clone());
        connections.by_peer.insert(peer, number);
        Some((number, seat))
    }
}

impl Connections {
    /// Closes the oldest connection that may be closed; false if there is none.
    fn make_room(&mut self) -> bool {
        let Some((_, seat)) = self.yielding.pop_first() else {
            return false;
        };
        self.open -= 1;
        seat.is_lost.store(true, Ordering::Release);
        seat.task.wake();
        metrics::counter!("tertulia_connections_displaced_total").increment(1);
        true
    }

    fn handle_closed(&mut self, number: u64, peer: SocketAddr, seat: &Seat) {
        self.yielding.remove(&number);
        if self.by_peer.get(&peer) == Some(&number) {
            self.by_peer.remove(&peer);
        }
        if !seat.is_lost.load(Ordering::Acquire) {
            self.open -= 1;
        }
    }
}

/// What happens too often to tell the log of each.
#[derive(Default)]
pub(crate) struct Complaint {
    told_at: Option<Instant>,
    count: u64,
}

impl Complaint {
    /// Notes that it happened; if it is time to tell the log, how often it did since that was told.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let is_due = self
            .told_at
            .is_none_or(|at| now.saturating_duration_since(at) >= COMPLAINT_INTERVAL);
        if !is_due {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl<S> Accept<TcpStream, S> for Admission {
    type Stream = Admitted;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Admitted, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admit = || {
            let peer = stream.peer_addr()?;
            let (number, seat) = self
                .admit(peer)
                .ok_or_else(|| io::Error::other("too many connections"))?;
            let admitted = Admitted {
                stream,
                number,
                peer,
                seat,
                connections: self.0.clone(),
            };
            admitted.stream.set_nodelay(true)?;
            Ok((admitted, service))
        };
        std::future::ready(admit())
    }
}

/// A connection that counts for as long as it lives, upgrades included.
pub(crate) struct Admitted {
    stream: TcpStream,
    number: u64,
    peer: SocketAddr,
    seat: Arc<Seat>,
    connections: Arc<Mutex<Connections>>,
}

impl Admitted {
    fn check_seat(&self, context: &Context<'_>) -> io::Result<()> {
        self.seat.task.register(context.waker());
        match self.seat.is_lost.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections
            .lock()
            .handle_closed(self.number, self.peer, &self.seat);
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_seat(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_seat(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_seat(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn close(admission: &Admission, port: u16, (number, seat): (u64, Arc<Seat>)) {
        admission.0.lock().handle_closed(number, peer(port), &seat);
    }

    fn is_lost((_, seat): &(u64, Arc<Seat>)) -> bool {
        seat.is_lost.load(Ordering::Acquire)
    }

    #[test]
    fn oldest_that_idles_gives_way() {
        let admission = Admission::new(2);
        let first = admission.admit(peer(1)).unwrap();
        let second = admission.admit(peer(2)).unwrap();
        admission.keep(peer(1));
        let third = admission.admit(peer(3)).unwrap();
        assert_eq!([&first, &second, &third].map(is_lost), [false, true, false]);
        admission.keep(peer(3));
        assert!(admission.admit(peer(4)).is_none());
        // Gone twice over, but counted once.
        close(&admission, 2, second);
        assert!(admission.admit(peer(4)).is_none());
        close(&admission, 1, first);
        let fourth = admission.admit(peer(4)).unwrap();
        assert!(!is_lost(&third) && !is_lost(&fourth));
    }

    #[test]
    fn peer_that_comes_again_before_it_is_missed_counts_twice() {
        let admission = Admission::new(2);
        let former = admission.admit(peer(1)).unwrap();
        let current = admission.admit(peer(1)).unwrap();
        close(&admission, 1, former);
        admission.keep(peer(1));
        let _other = admission.admit(peer(2)).unwrap();
        let _another = admission.admit(peer(3)).unwrap();
        assert!(!is_lost(&current));
    }

    #[test]
    fn log_gets_one_line_per_interval_with_the_count() {
        let mut complaint = Complaint::default();
        let begin = Instant::now();
        let notes = [0, 1, 59, 60, 61, 200].map(|seconds| {
            let now = begin + Duration::from_secs(seconds);
            complaint.note(now)
        });
        assert_eq!(notes, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
