//! The ways of media between the workers of a server.
//!
//! [`Relay`] is one worker's part; read it first. What an engine has for another ([`Parcel`]) travels by a
//! [`ring`](mod@super::ring) for every ordered pair of workers, payloads copied into its bytes. A packet that finds
//! the ring full is dropped, and so are all after it until half of the ring is free, so that a worker which lags behind
//! gets whole pictures with pauses between them, not a few packets of each.
//!
//! **Invariant.** What engines must not miss waits in a [`Backlog`] on the side of the sender, and no packet overtakes it:
//! there the ring is full for packets until the backlog is empty. News make older ones in the backlog superfluous
//! ([`Control::supersedes`]), so it is bounded by the number of mirrors of both engines; messages of applications, which
//! wait there too, have a limit of their own.
//!
//! Deliberately absent: what the parcels mean.

mod backlog;
mod exchange;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::backlog::Backlog;
use super::doorbell::Doorbell;
use super::ring::{Receiver, RingSize, Sender, ring};
use crate::engine::relay::{Control, PacketHead, Parcel, Urgency};

/// Some 20 ms of a hundred cameras. Too low: a worker that is busy for a moment misses packets. Too high: stale media
/// after a stall.
const RING_SIZE: RingSize = RingSize {
    bytes_max: 512 * 1024,
    bytes_min: 64 * 1024,
    bytes_per_worker: 4 * 1024 * 1024,
};

/// Bytes of applications' messages under way from one worker to one other; each may have 256 KiB. Too low: bursts of
/// files are torn. Too high: memory, if a worker stalls.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a message counts for besides its bytes, so that there may be 16 thousand. Too low: empty ones cost memory. Too
/// high: few small ones can wait.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Between attempts to pass a backlog on. Too low: a stalled worker keeps the others busy. Too high: media pauses for
/// longer than the stall.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

/// One worker's part in passing media on.
pub(super) struct Relay {
    /// The ways to the other workers by index; `None` to ourselves.
    outlets: Vec<Option<Outlet>>,
    /// The ways from them.
    inlets: Vec<Option<Inlet>>,
}

struct Outlet {
    sender: Sender<Head>,
    doorbell: Arc<Doorbell>,
    /// What did not fit into the ring and must not be lost.
    backlog: Backlog,
    /// The ring was full, and is not half empty yet.
    is_clogged: bool,
    /// The other worker does not know yet that there is something.
    is_fresh: bool,
    message_bytes: Arc<AtomicUsize>,
}

struct Inlet {
    receiver: Receiver<Head>,
    message_bytes: Arc<AtomicUsize>,
}

/// What is said of a parcel; a payload follows as bytes.
struct Head {
    /// When its batch was received.
    at: Instant,
    content: Content,
}

enum Content {
    Packet(PacketHead),
    Control(Box<Control>),
}

impl Relay {
    /// For the only worker.
    pub(super) fn alone() -> Self {
        Self {
            outlets: Vec::new(),
            inlets: Vec::new(),
        }
    }

    /// For workers by index, which `doorbells` wake.
    pub(super) fn among(doorbells: &[Arc<Doorbell>]) -> Vec<Self> {
        let count = doorbells.len();
        let mut all: Vec<Self> = (0..count)
            .map(|_| Self {
                outlets: (0..count).map(|_| None).collect(),
                inlets: (0..count).map(|_| None).collect(),
            })
            .collect();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let (sender, receiver) = ring(RING_SIZE, count - 1);
                let message_bytes = Arc::new(AtomicUsize::new(0));
                all[from].outlets[to] = Some(Outlet {
                    sender,
                    doorbell: Arc::clone(&doorbells[to]),
                    backlog: Backlog::default(),
                    is_clogged: false,
                    is_fresh: false,
                    message_bytes: Arc::clone(&message_bytes),
                });
                all[to].inlets[from] = Some(Inlet {
                    receiver,
                    message_bytes,
                });
            }
        }
        all
    }

    /// Leaves a parcel for a worker, which learns of it by [`Self::announce`]. False if it is lost.
    pub(super) fn send(&mut self, now: Instant, to: usize, parcel: Parcel<'_>) -> bool {
        let Some(Some(outlet)) = self.outlets.get_mut(to) else {
            return false;
        };
        match parcel {
            Parcel::Packet { head, payload } => outlet.send_packet(now, head, payload),
            Parcel::Control(control) => outlet.send_control(now, control),
        }
    }

    /// Tries again to pass on what had to wait.
    pub(super) fn retry(&mut self, now: Instant) {
        for outlet in self.outlets.iter_mut().flatten() {
            outlet.drain_backlog(now);
        }
    }

    /// When to [`retry`](Self::retry), from now; `None` if nothing waits.
    pub(super) fn retry_interval(&self) -> Option<Duration> {
        let mut outlets = self.outlets.iter().flatten();
        let waits = outlets.any(|outlet| !outlet.backlog.is_empty());
        waits.then_some(RETRY_INTERVAL)
    }

    /// Wakes whom parcels were left for since the last time.
    pub(super) fn announce(&mut self) {
        for outlet in self.outlets.iter_mut().flatten() {
            if std::mem::take(&mut outlet.is_fresh) {
                outlet.doorbell.ring();
            }
        }
    }

    /// The number of workers that parcels may come from, which [`Self::receive`] counts.
    pub(super) fn sources(&self) -> usize {
        self.inlets.len()
    }

    /// Passes the oldest parcel that a worker left for us to `handle`, and tells when that one received it; `None` if
    /// there is none.
    pub(super) fn receive(
        &mut self,
        from: usize,
        handle: impl FnOnce(Parcel<'_>),
    ) -> Option<Instant> {
        let inlet = self.inlets.get_mut(from)?.as_mut()?;
        let message_bytes = &inlet.message_bytes;
        inlet.receiver.pop(|Head { at, content }, payload| {
            handle(match content {
                Content::Packet(head) => Parcel::Packet { head, payload },
                Content::Control(control) => {
                    let cost = message_cost(&control);
                    if cost > 0 {
                        message_bytes.fetch_sub(cost, Ordering::Relaxed);
                    }
                    Parcel::Control(*control)
                }
            });
            at
        })
    }

    /// True if something was left for us.
    pub(super) fn is_pending(&self) -> bool {
        let mut inlets = self.inlets.iter().flatten();
        inlets.any(|inlet| !inlet.receiver.is_empty())
    }
}

impl Outlet {
    fn send_packet(&mut self, at: Instant, head: PacketHead, payload: &[u8]) -> bool {
        if self.is_clogged && !self.drain_backlog(at) {
            return false;
        }
        let content = Content::Packet(head);
        let is_sent = self.sender.push(Head { at, content }, payload, 0).is_ok();
        self.is_clogged = !is_sent;
        self.is_fresh |= is_sent;
        is_sent
    }

    fn send_control(&mut self, at: Instant, control: Control) -> bool {
        let cost = message_cost(&control);
        // Only we add to it, so the limit holds.
        if self.message_bytes.load(Ordering::Relaxed) + cost > MESSAGE_BYTES_MAX {
            return false;
        }
        let refused = match self.drain_backlog(at) {
            true => self.push_control(at, control).err(),
            false => Some(control),
        };
        if let Some(control) = refused {
            self.is_clogged = true;
            if control.urgency() == Urgency::Dispensable {
                return false;
            }
            self.backlog.push(control);
        }
        if cost > 0 {
            self.message_bytes.fetch_add(cost, Ordering::Relaxed);
        }
        true
    }

    /// Passes on what had to wait. True if everything is through and half of the ring is free.
    fn drain_backlog(&mut self, at: Instant) -> bool {
        if !self.is_clogged {
            return true;
        }
        if !self.sender.is_half_empty() {
            return false;
        }
        let mut backlog = std::mem::take(&mut self.backlog);
        let is_through = backlog.drain(|control| self.push_control(at, control));
        self.backlog = backlog;
        self.is_clogged = !is_through;
        is_through
    }

    fn push_control(&mut self, at: Instant, control: Control) -> Result<(), Control> {
        let content = Content::Control(Box::new(control));
        let refused = self.sender.push(Head { at, content }, &[], 0).err();
        match refused.map(|head| head.content) {
            Some(Content::Control(control)) => Err(*control),
            _ => {
                self.is_fresh = true;
                Ok(())
            }
        }
    }
}

/// What a control counts for in [`MESSAGE_BYTES_MAX`].
fn message_cost(control: &Control) -> usize {
    let bytes = control.message_bytes();
    bytes.map_or(0, |bytes| bytes + MESSAGE_OVERHEAD_BYTES)
}
