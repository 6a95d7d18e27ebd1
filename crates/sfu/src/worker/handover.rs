//! One port for all workers: what the system gives to the wrong one is handed over.
//!
//! Every worker has a socket of its own on the same port, and the system chooses among them by a hash of
//! the 5-tuple: not knowing who owns a session, but always the same one. [`Handover`] is one worker's part
//! in putting that right; read it first. A STUN check goes to the worker that our ufrag in it names.
//! Everything else stays, unless the owner of its flow has claimed it, which it does only when ICE has
//! validated the flow: nobody can divert the datagrams of another by forging addresses. Answers need no
//! hand-over, since the owner sends from the same port by its own socket.
//!
//! Datagrams travel by a [`ring`](mod@super::ring) for every ordered pair of workers, notes about flows by a [`Mailbox`]
//! of the worker which they are for. An owner posts its claim before its answer to the check leaves, and
//! whoever receives reads its notes after each receive: so the claim is known before what the peer sends
//! upon the answer.
//!
//! A hand-over costs some 290 ns of CPU, both workers together, for a datagram of 1200 bytes that comes in a
//! run of 50: 558 ns (median of five runs, 543 to 860) against 268 ns (247 to 811) without it, on a virtual
//! machine of two cores that was busy with other things, by `media-bench micro -- handover`.
//!
//! The kernel could be made to choose better, and is not. A classic BPF program (`SO_ATTACH_REUSEPORT_CBPF`, for which
//! `nix` has a call) sees one datagram and remembers nothing: it would find the worker in checks, which name it, but not
//! in media, which are the many. The CPU that received a datagram (`SO_INCOMING_CPU`) tells nothing about who owns its
//! session, and is always the same one behind a network card with one queue. A connected socket for each flow costs a
//! descriptor, and receives in common. An eBPF program with a table of flows would do it, for privileges (`CAP_BPF`), a
//! second compiler, and a table to keep true. It would save one or two per cent: of W workers' datagrams, (W − 1) / W
//! change hands, which is for each of N subscribers 290 / N ns for a publisher's packet and some 20 ns for the
//! subscriber's own feedback (13 datagrams for 180 packets in a second), beside 1200 to 2500 ns for forwarding it.
//!
//! TCP connections are not handed over frame by frame; they move (`tcp::transfer`).
//!
//! Deliberately absent: the sockets, and the engine, to which the [`Worker`](super::Worker) speaks (`exchange`).

mod exchange;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use forwarding::rtp::PacketKind;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::doorbell::Doorbell;
use super::ring::{Receiver, RingSize, Sender, ring};
use super::tcp::Transfer;
use crate::engine::flow::Flow;
use crate::engine::ice::{local_ufrag, worker_of};
use crate::metrics::SocketCounters;

/// Notes that may wait for a worker before claims and connections are refused. A claim is made again with the
/// next check. The notes which end a claim are always taken: there is at most one of each kind for every
/// claim that was. Too low: sessions begin late on a busy server. Too high: memory and descriptors, if a
/// worker stalls.
const NOTES_WAITING_MAX: usize = 1024;

/// Too low: a burst that the other worker takes a moment to fetch is lost. Too high: stale media after a stall. With
/// very many workers, room for a key frame of a good camera remains.
const RING_SIZE: RingSize = RingSize {
    bytes_max: 128 * 1024,
    bytes_min: 32 * 1024,
    bytes_per_worker: 2 * 1024 * 1024,
};

/// Share of a ring that is left to datagrams of validated flows, one in so many. A check must be handed
/// over before anybody knows whether it is worth anything, and a flood of them must not displace media.
const RESERVED_SHARE: usize = 2;

/// What is said of a datagram that is handed over.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    at: Instant,
    flow: Flow,
}

/// One worker's part in sharing the port.
pub(super) struct Handover {
    worker: usize,
    /// Those of all workers by index, our own among them; empty if we have the port alone.
    mailboxes: Vec<Arc<Mailbox>>,
    /// The ways to the other workers by index; `None` for ourselves.
    outlets: Vec<Option<Outlet>>,
    /// The ways from them.
    inlets: Vec<Option<Receiver<Arrived>>>,
    /// Who owns the flows that arrive here and belong elsewhere. As many as owners have claimed, hence at
    /// most as many as ICE keeps for each of their transports.
    foreign: FxHashMap<Flow, usize>,
    /// The flow looked up before: datagrams come in bursts.
    last: Option<(Flow, Option<usize>)>,
    /// Flows of our engine that arrive at another worker, and at which.
    claims: FxHashMap<Flow, usize>,
    /// Kept for its memory.
    notes: Vec<Note>,
}

struct Outlet {
    sender: Sender<Arrived>,
    /// The other worker does not know yet that there is something.
    is_fresh: bool,
}

/// What one worker tells another.
enum Note {
    /// From the owner of a flow to whom it arrives at: it is validated.
    Claimed { flow: Flow, by: usize },
    /// It is not any more.
    Released { flow: Flow, by: usize },
    /// From whom a flow arrives at to its former owner: another one has validated it since.
    Lost { flow: Flow },
    /// A connection that belongs to the receiver of the note.
    Moved(Box<Transfer>),
}

/// What a worker must do about a note.
pub(super) enum Task {
    /// The engine does not own the flow any more, if it did.
    GiveUp(Flow),
    /// Serve the connection from now on.
    Adopt(Box<Transfer>),
}

/// Where the other workers leave notes for one.
struct Mailbox {
    notes: Mutex<Vec<Note>>,
    /// Spares looking into an empty box the lock.
    has_notes: AtomicBool,
    doorbell: Arc<Doorbell>,
}

impl Mailbox {
    fn new(doorbell: Arc<Doorbell>) -> Self {
        Self {
            notes: Mutex::default(),
            has_notes: AtomicBool::new(false),
            doorbell,
        }
    }

    /// False if `limit` notes wait already.
    fn post(&self, note: Note, limit: usize) -> bool {
        {
            let mut notes = self.notes.lock();
            if notes.len() >= limit {
                return false;
            }
            notes.push(note);
            self.has_notes.store(true, Ordering::Release);
        }
        self.doorbell.ring();
        true
    }
}

impl Handover {
    /// For a worker that has its port alone.
    pub(super) fn alone() -> Self {
        Self {
            worker: 0,
            mailboxes: Vec::new(),
            outlets: Vec::new(),
            inlets: Vec::new(),
            foreign: FxHashMap::default(),
            last: None,
            claims: FxHashMap::default(),
            notes: Vec::new(),
        }
    }

    /// For workers that share a port, by index. `doorbells` wake them.
    pub(super) fn among(doorbells: impl IntoIterator<Item = Arc<Doorbell>>) -> Vec<Self> {
        let mailboxes: Vec<_> = doorbells
            .into_iter()
            .map(|doorbell| Arc::new(Mailbox::new(doorbell)))
            .collect();
        let count = mailboxes.len();
        let mut all: Vec<Self> = (0..count)
            .map(|worker| Self {
                worker,
                mailboxes: mailboxes.clone(),
                outlets: (0..count).map(|_| None).collect(),
                inlets: (0..count).map(|_| None).collect(),
                ..Self::alone()
            })
            .collect();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let (sender, receiver) = ring(RING_SIZE, count - 1);
                all[from].outlets[to] = Some(Outlet {
                    sender,
                    is_fresh: false,
                });
                all[to].inlets[from] = Some(receiver);
            }
        }
        all
    }

    /// The other worker that a datagram belongs to; `None` if it is for our engine, be it to refuse it.
    pub(super) fn owner(&mut self, flow: Flow, datagram: &[u8]) -> Option<usize> {
        if self.mailboxes.is_empty() {
            return None;
        }
        if PacketKind::of(datagram) == PacketKind::Stun {
            return self.addressee(datagram);
        }
        if let Some((last, owner)) = self.last
            && last == flow
        {
            return owner;
        }
        let owner = self.foreign.get(&flow).copied();
        self.last = Some((flow, owner));
        owner
    }

    /// The other worker whose ufrag a check names.
    pub(super) fn addressee(&self, check: &[u8]) -> Option<usize> {
        let named = worker_of(local_ufrag(check).ok()?)?;
        (named != self.worker && named < self.mailboxes.len()).then_some(named)
    }

    /// Leaves a datagram for the worker it belongs to, which learns of it by [`Self::announce`].
    pub(super) fn send(
        &mut self,
        now: Instant,
        to: usize,
        flow: Flow,
        datagram: &[u8],
        counters: &mut SocketCounters,
    ) {
        let is_proven = self.foreign.get(&flow) == Some(&to);
        let Some(Some(outlet)) = self.outlets.get_mut(to) else {
            return;
        };
        let reserved = if is_proven { 0 } else { RESERVED_SHARE };
        let arrived = Arrived { at: now, flow };
        if outlet.sender.push(arrived, datagram, reserved).is_ok() {
            outlet.is_fresh = true;
            counters.handed_over += 1;
        } else {
            counters.handover_dropped += 1;
        }
    }

    /// Wakes whom datagrams were left for since the last time.
    pub(super) fn announce(&mut self) {
        for (outlet, mailbox) in self.outlets.iter_mut().zip(&self.mailboxes) {
            if let Some(outlet) = outlet
                && std::mem::take(&mut outlet.is_fresh)
            {
                mailbox.doorbell.ring();
            }
        }
    }

    /// Passes a connection to the worker it belongs to; false if that one is overloaded.
    pub(super) fn send_connection(&self, to: usize, transfer: Transfer) -> bool {
        let note = Note::Moved(Box::new(transfer));
        self.mailboxes[to].post(note, NOTES_WAITING_MAX)
    }

    /// The number of workers that datagrams may come from, which [`Self::receive`] counts.
    pub(super) fn sources(&self) -> usize {
        self.inlets.len()
    }

    /// Passes the oldest datagram that a worker left for us to `handle`, and tells when that one received it;
    /// `None` if there is none.
    pub(super) fn receive(
        &mut self,
        from: usize,
        handle: impl FnOnce(Flow, &mut [u8]),
    ) -> Option<Instant> {
        self.inlets
            .get_mut(from)?
            .as_mut()?
            .pop(|Arrived { at, flow }, datagram| {
                handle(flow, datagram);
                at
            })
    }

    /// Takes note that our engine has handled a check that came by `from`, or without hand-over, and whether
    /// it owns the flow. That it did before this check is as good: it is the truth.
    pub(super) fn handle_checked(&mut self, flow: Flow, from: Option<usize>, is_ours: bool) {
        if !is_ours {
            return;
        }
        let Some(from) = from else {
            // What was claimed by another was for an older session.
            if let Some(former) = self.foreign.remove(&flow) {
                self.last = None;
                self.post(former, Note::Lost { flow });
            }
            return;
        };
        if self.claims.get(&flow) == Some(&from) {
            return;
        }
        let claim = Note::Claimed {
            flow,
            by: self.worker,
        };
        if self.mailboxes[from].post(claim, NOTES_WAITING_MAX)
            && let Some(former) = self.claims.insert(flow, from)
        {
            let by = self.worker;
            self.post(former, Note::Released { flow, by });
        }
    }

    /// Takes note that our engine does not own a flow any more.
    pub(super) fn handle_forgotten(&mut self, flow: Flow) {
        if let Some(receiver) = self.claims.remove(&flow) {
            let by = self.worker;
            self.post(receiver, Note::Released { flow, by });
        }
    }

    /// Takes the notes of the other workers, and passes what remains to be done to `handle`.
    pub(super) fn take_notes(&mut self, mut handle: impl FnMut(Task)) {
        let Some(mailbox) = self.mailboxes.get(self.worker) else {
            return;
        };
        if !mailbox.has_notes.load(Ordering::Acquire) {
            return;
        }
        let mut notes = std::mem::take(&mut self.notes);
        {
            let mut waiting = mailbox.notes.lock();
            std::mem::swap(&mut notes, &mut waiting);
            mailbox.has_notes.store(false, Ordering::Relaxed);
        }
        self.last = None;
        for note in notes.drain(..) {
            match note {
                Note::Claimed { flow, by } => match self.foreign.insert(flow, by) {
                    Some(former) if former != by => self.post(former, Note::Lost { flow }),
                    Some(_) => {}
                    None => handle(Task::GiveUp(flow)),
                },
                Note::Released { flow, by } => {
                    if self.foreign.get(&flow) == Some(&by) {
                        self.foreign.remove(&flow);
                    }
                }
                Note::Lost { flow } => handle(Task::GiveUp(flow)),
                Note::Moved(transfer) => handle(Task::Adopt(transfer)),
            }
        }
        self.notes = notes;
    }

    /// True if something was left for us.
    pub(super) fn is_pending(&self) -> bool {
        let has_notes = |mailbox: &Arc<Mailbox>| mailbox.has_notes.load(Ordering::Acquire);
        self.mailboxes.get(self.worker).is_some_and(has_notes)
            || self.inlets.iter().flatten().any(|inlet| !inlet.is_empty())
    }

    fn post(&self, to: usize, note: Note) {
        self.mailboxes[to].post(note, usize::MAX);
    }
}
