//! ICE-lite (RFC 8445 section 2.5): always controlled, answers checks and never sends any.
//!
//! Read [`IceLite`] first; the wire format is in `stun`. Deliberately absent: candidates (they are SDP), sockets, TURN, and the
//! checks of a full agent.

mod stun;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use smallvec::SmallVec;
use thiserror::Error;

use super::flow::Flow;
use stun::{Request, TransactionId};

/// Silence after which a peer is gone (RFC 7675 section 5.1).
///
/// Too low: a short outage ends a call. Too high: the dead are paid for.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Without a check in that time an application is told that the peer cannot reach us. Browsers give up after some 15 s.
/// Too low: slow signaling is taken for a blocked network. Too high: users wait for what will not come.
pub const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// Flows of one peer that count as valid at a time. Too low: a peer with many interfaces pushes its
/// own flows out. Too high: a peer makes us remember 5-tuples for nothing.
const FLOWS_MAX: usize = 16;

/// Transaction ids remembered. Too low: a captured check can be replayed soon after, from another
/// address. Too high: memory and a longer scan per check. A browser sends one check in 0.5–5 s.
const TRANSACTIONS_MAX: usize = 128;

/// Characters our ufrag begins with: the number of the worker, in hexadecimal as in the ids of elements.
/// Any worker can thus tell whose a check is that the system gave to the wrong one.
const UFRAG_WORKER_LENGTH: usize = 4;
/// Characters of our ufrag behind those: 47 random bits, so that it cannot be guessed within a call, and
/// collisions among a million transports are unlikely (RFC 8445 section 5.3 asks for 24 bits).
const UFRAG_RANDOM_LENGTH: usize = 8;
/// Characters of our password: 142 random bits (RFC 8445 section 5.3 asks for 128).
const PWD_LENGTH: usize = 24;

/// One side's `ice-ufrag` and `ice-pwd`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    pwd: String,
}

impl Credentials {
    /// Makes random ones, but for the beginning of the ufrag, which names the worker: its index, below
    /// 65536.
    #[must_use]
    pub fn random(worker: usize) -> Self {
        Self {
            ufrag: format!(
                "{worker:0UFRAG_WORKER_LENGTH$x}{}",
                random_text(UFRAG_RANDOM_LENGTH)
            ),
            pwd: random_text(PWD_LENGTH),
        }
    }

    /// Takes those of SDP; `None` if they break the grammar or the limits of RFC 8839 section 5.4
    /// (4–256 and 22–256 characters out of letters, digits, `+` and `/`).
    #[must_use]
    pub fn new(ufrag: &str, pwd: &str) -> Option<Self> {
        let is_valid = |text: &str, length_min: usize| {
            (length_min..=256).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        };
        (is_valid(ufrag, 4) && is_valid(pwd, 22)).then(|| Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        })
    }

    /// `ice-ufrag`
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// `ice-pwd`
    #[must_use]
    pub fn pwd(&self) -> &str {
        &self.pwd
    }
}

fn random_text(length: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// Why a STUN datagram was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum StunDrop {
    /// Not STUN, or its lengths do not add up.
    #[error("malformed STUN message")]
    Malformed,
    /// FINGERPRINT is wrong or not last.
    #[error("wrong FINGERPRINT")]
    Fingerprint,
    /// Not a Binding request: we sent nothing that could be answered.
    #[error("not a Binding request")]
    NotARequest,
    /// No USERNAME, or one without a colon.
    #[error("no USERNAME")]
    NoUsername,
    /// USERNAME names nobody here.
    #[error("unknown USERNAME")]
    UnknownUsername,
    /// No MESSAGE-INTEGRITY, or a wrong one.
    #[error("wrong MESSAGE-INTEGRITY")]
    Integrity,
    /// Its transaction id was used on another flow.
    #[error("replayed check")]
    Replayed,
}

/// What an authenticated check did. The answer is in `reply` in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StunOutcome {
    /// The check succeeded.
    Checked {
        /// The flow was not valid before.
        newly_valid: bool,
        /// [`IceLite::selected`] is another one.
        selected_changed: bool,
        /// Flows that are not valid any more: one that had to make room, or those
        /// from before an ICE restart.
        dropped: SmallVec<[Flow; 1]>,
        /// The peer used the credentials of [`IceLite::restart`] for the first time. The
        /// ufrag from before the restart may be forgotten.
        restarted: bool,
    },
    /// Refused with an error response; nothing changed.
    Refused,
}

/// A quick look at a datagram: the local half of its USERNAME, to find the agent with.
///
/// Nothing is authenticated yet. Allocates nothing.
///
/// # Errors
///
/// Why the datagram is to be dropped.
pub fn local_ufrag(datagram: &[u8]) -> Result<&str, StunDrop> {
    let (local, _) = Request::parse(datagram)?.user_fragments()?;
    Ok(local)
}

/// The index of the worker that made a ufrag of ours. A stranger may write anything there.
#[must_use]
pub fn worker_of(ufrag: &str) -> Option<usize> {
    usize::from_str_radix(ufrag.get(..UFRAG_WORKER_LENGTH)?, 16).ok()
}

/// The agent of one transport.
pub struct IceLite {
    current: Generation,
    /// The credentials of a restart which the peer has not used yet.
    next: Option<Generation>,
    /// In the order in which they were validated.
    flows: SmallVec<[ValidFlow; 4]>,
    nominated: Option<Flow>,
    transactions: TransactionLog,
    last_seen: Instant,
    next_serial: u32,
    is_failure_told: bool,
}

/// The credentials between two ICE restarts.
struct Generation {
    local: Credentials,
    /// `local.pwd`, prepared for MESSAGE-INTEGRITY in both directions.
    key: hmac::Key,
    remote: Option<Credentials>,
}

impl Generation {
    fn new(local: Credentials, remote: Option<Credentials>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, local.pwd.as_bytes());
        Self { local, key, remote }
    }

    /// True if a USERNAME addresses these credentials.
    fn is_addressed(&self, local: &str, remote: &str) -> bool {
        self.local.ufrag == local
            && self
                .remote
                .as_ref()
                .is_none_or(|known| known.ufrag == remote)
    }
}

struct ValidFlow {
    flow: Flow,
    /// Tells this flow from others in the transaction log.
    serial: u32,
    checked_at: Instant,
    /// Validated with the credentials from before a restart.
    is_stale: bool,
}

/// The last transactions and the flows they came on.
struct TransactionLog {
    /// A ring; the next entry goes to `at`.
    entries: Vec<(TransactionId, u32)>,
    at: usize,
}

impl TransactionLog {
    fn find(&self, id: &TransactionId) -> Option<u32> {
        let entry = self.entries.iter().find(|(known, _)| known == id)?;
        Some(entry.1)
    }

    fn push(&mut self, id: TransactionId, serial: u32) {
        if self.entries.len() < TRANSACTIONS_MAX {
            self.entries.push((id, serial));
        } else {
            self.entries[self.at] = (id, serial);
            self.at = (self.at + 1) % TRANSACTIONS_MAX;
        }
    }
}

impl IceLite {
    /// An agent which accepts checks made with `local` from anybody, until
    /// [`IceLite::set_remote`] says whom.
    #[must_use]
    pub fn new(local: Credentials, now: Instant) -> Self {
        Self {
            current: Generation::new(local, None),
            next: None,
            flows: SmallVec::new(),
            nominated: None,
            transactions: TransactionLog {
                entries: Vec::new(),
                at: 0,
            },
            last_seen: now,
            next_serial: 0,
            is_failure_told: false,
        }
    }

    /// Tells the peer's credentials: those that belong to [`IceLite::local`]. A check must then
    /// carry the peer's ufrag too.
    pub fn set_remote(&mut self, remote: Credentials) {
        self.next.as_mut().unwrap_or(&mut self.current).remote = Some(remote);
    }

    /// ICE restart (RFC 8445 section 9): the old credentials stay valid until the peer
    /// uses the new ones, and the old flows until it nominates one with them. Returns ours of an
    /// earlier restart that the peer has not followed: they are void.
    pub fn restart(
        &mut self,
        local: Credentials,
        remote: Option<Credentials>,
    ) -> Option<Credentials> {
        let unused = self.next.replace(Generation::new(local, remote));
        unused.map(|generation| generation.local)
    }

    /// Our credentials; the newest, if a restart is under way.
    #[must_use]
    pub fn local(&self) -> &Credentials {
        &self.next.as_ref().unwrap_or(&self.current).local
    }

    /// Our user name fragments that checks may name: one, or two during a restart.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        let generations = [Some(&self.current), self.next.as_ref()];
        generations
            .into_iter()
            .flatten()
            .map(|generation| generation.local.ufrag())
    }

    /// The user name fragment that is void once the peer follows a restart, if one is under way.
    #[must_use]
    pub fn expiring_ufrag(&self) -> Option<&str> {
        self.next.as_ref().map(|_| self.current.local.ufrag())
    }

    /// Answers a check into `reply`, which is cleared first and empty on `Err`.
    ///
    /// The check is authenticated before anything else, so that only the peer can change the
    /// state or learn anything.
    ///
    /// # Errors
    ///
    /// Why the datagram was dropped; nothing changed.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        flow: Flow,
        datagram: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<StunOutcome, StunDrop> {
        reply.clear();
        let request = Request::parse(datagram)?;
        let (local, remote) = request.user_fragments()?;
        let is_next = self
            .next
            .as_ref()
            .is_some_and(|next| next.is_addressed(local, remote));
        let generation = match &self.next {
            Some(next) if is_next => next,
            _ if self.current.is_addressed(local, remote) => &self.current,
            _ => return Err(StunDrop::UnknownUsername),
        };
        request.authenticate(&generation.key)?;

        let known = self.flows.iter().find(|valid| valid.flow == flow);
        let is_repeated = match self.transactions.find(&request.transaction_id) {
            Some(serial) if known.is_some_and(|valid| valid.serial == serial) => true,
            // A check is meant for one pair. Whoever captured it must not divert the media.
            Some(_) => return Err(StunDrop::Replayed),
            None => false,
        };

        if !request.unknown.is_empty() {
            stun::write_unknown_attributes(&request, &generation.key, reply);
            return Ok(StunOutcome::Refused);
        }
        if request.is_controlled {
            stun::write_role_conflict(&request, &generation.key, reply);
            return Ok(StunOutcome::Refused);
        }
        stun::write_success(&request, &generation.key, flow.remote, reply);
        if is_repeated {
            return Ok(StunOutcome::Checked {
                newly_valid: false,
                selected_changed: false,
                dropped: SmallVec::new(),
                restarted: false,
            });
        }
        Ok(self.accept(now, flow, &request, is_next))
    }

    /// Applies an authenticated check.
    fn accept(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request<'_>,
        is_next: bool,
    ) -> StunOutcome {
        let selected = self.selected();
        if is_next && let Some(next) = self.next.take() {
            self.current = next;
            for valid in &mut self.flows {
                valid.is_stale = true;
            }
        }
        self.last_seen = self.last_seen.max(now);
        let mut dropped = SmallVec::new();
        let known = self.flows.iter_mut().find(|valid| valid.flow == flow);
        let newly_valid = known.is_none();
        let serial = match known {
            Some(valid) => {
                valid.checked_at = now;
                valid.is_stale = false;
                valid.serial
            }
            None => {
                dropped.extend(self.make_room());
                self.add_flow(now, flow)
            }
        };
        self.transactions.push(request.transaction_id, serial);
        if request.use_candidate {
            self.nominated = Some(flow);
            dropped.extend(
                self.flows
                    .iter()
                    .filter(|valid| valid.is_stale)
                    .map(|valid| valid.flow),
            );
            self.flows.retain(|valid| !valid.is_stale);
        }
        StunOutcome::Checked {
            newly_valid,
            selected_changed: self.selected() != selected,
            dropped,
            restarted: is_next,
        }
    }

    fn add_flow(&mut self, now: Instant, flow: Flow) -> u32 {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        self.flows.push(ValidFlow {
            flow,
            serial,
            checked_at: now,
            is_stale: false,
        });
        serial
    }

    /// Removes the flow that was checked longest ago, if there are too many.
    fn make_room(&mut self) -> Option<Flow> {
        if self.flows.len() < FLOWS_MAX {
            return None;
        }
        let selected = self.selected();
        let (index, _) = self
            .flows
            .iter()
            .enumerate()
            .filter(|(_, valid)| Some(valid.flow) != selected)
            .min_by_key(|(_, valid)| valid.checked_at)?;
        Some(self.flows.remove(index).flow)
    }

    /// True if a check came from there: its datagrams may be looked at.
    #[must_use]
    pub fn is_valid(&self, flow: Flow) -> bool {
        self.flows.iter().any(|valid| valid.flow == flow)
    }

    /// Where checks came from, at most `FLOWS_MAX`.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.flows.iter().map(|valid| valid.flow)
    }

    /// Where to send: the flow nominated last (RFC 8445 section 8.1.1; browsers nominate again when
    /// a better path appears), else the first valid one.
    #[must_use]
    pub fn selected(&self) -> Option<Flow> {
        self.nominated
            .or_else(|| self.flows.first().map(|valid| valid.flow))
    }

    /// When the peer proved to be alive last.
    #[must_use]
    pub fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// Notes that something authenticated arrived on a valid flow.
    pub fn touch(&mut self, now: Instant) {
        self.last_seen = self.last_seen.max(now);
    }

    /// When [`IceLite::poll_failure`] turns true if no check comes. `None` once one has come, or it was told.
    #[must_use]
    pub fn poll_failure_timeout(&self) -> Option<Instant> {
        let waits = self.next_serial == 0 && !self.is_failure_told;
        waits.then(|| self.last_seen + FIRST_CHECK_TIMEOUT)
    }

    /// True once, if no check has come for [`FIRST_CHECK_TIMEOUT`]. The peer may come all the same.
    pub fn poll_failure(&mut self, now: Instant) -> bool {
        let fails = self.poll_failure_timeout().is_some_and(|at| now >= at);
        self.is_failure_told |= fails;
        fails
    }

    /// When [`IceLite::is_expired`] turns true if the peer stays silent. `None` before its first
    /// check: how long to wait for a peer that never came is for the caller to say.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.next_serial > 0).then(|| self.last_seen + CONSENT_TIMEOUT)
    }

    /// True if the peer is silent for [`CONSENT_TIMEOUT`].
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| now >= at)
    }

    /// Forgets a flow whose TCP connection ended. True if [`IceLite::selected`] changed.
    pub fn flow_closed(&mut self, flow: Flow) -> bool {
        let selected = self.selected();
        self.flows.retain(|valid| valid.flow != flow);
        self.nominated = self.nominated.filter(|nominated| *nominated != flow);
        self.selected() != selected
    }
}
