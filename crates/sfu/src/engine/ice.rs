//! ICE-lite (RFC 8445 section 2.5): always controlled, answers checks and never sends any.
//!
//! Read [`IceLite`] first. Deliberately absent: candidates (they are SDP), sockets, TURN, and the
//! checks of a full agent.

use std::fmt;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::flow::Flow;

/// Silence after which a peer is gone (RFC 7675 section 5.1).
///
/// Too low: a short outage ends a call. Too high: the dead are paid for.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// One side's `ice-ufrag` and `ice-pwd`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    pwd: String,
}

impl Credentials {
    /// Makes random ones.
    #[must_use]
    pub fn random() -> Self {
        Self {
            ufrag: String::new(),
            pwd: String::new(),
        }
    }

    /// Takes those of SDP; `None` if they break the grammar or the limits of RFC 8839 section 5.4
    /// (4–256 and 22–256 characters out of letters, digits, `+` and `/`).
    #[must_use]
    pub fn new(ufrag: &str, pwd: &str) -> Option<Self> {
        Some(Self {
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
}

/// What an authenticated check did. The answer is in `reply` in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StunOutcome {
    /// The check succeeded.
    Checked {
        /// The flow was not valid before.
        newly_valid: bool,
        /// [`IceLite::selected`] is another one.
        selected_changed: bool,
        /// A flow which had to make room, if any.
        evicted: Option<Flow>,
        /// The peer used new credentials of [`IceLite::restart`] for the first time: flows that were
        /// valid under the old ones are not any more, except this one.
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
pub fn local_ufrag(_datagram: &[u8]) -> Result<&str, StunDrop> {
    Err(StunDrop::Malformed)
}

/// The agent of one transport.
pub struct IceLite {}

impl IceLite {
    /// An agent which accepts checks made with `local` from anybody, until
    /// [`IceLite::set_remote`] says whom.
    #[must_use]
    pub fn new(_local: Credentials, _now: Instant) -> Self {
        Self {}
    }

    /// Tells the peer's credentials. A check must then carry the peer's ufrag too.
    pub fn set_remote(&mut self, _remote: Credentials) {}

    /// ICE restart (RFC 8445 section 9): the old credentials and flows stay valid until the
    /// peer uses the new ones.
    pub fn restart(&mut self, _local: Credentials, _remote: Option<Credentials>) {}

    /// Our credentials; the newest, if a restart is under way.
    #[must_use]
    pub fn local(&self) -> &Credentials {
        unreachable!("placeholder")
    }

    /// Answers a check into `reply`, which is cleared first and empty on `Err`.
    ///
    /// # Errors
    ///
    /// Why the datagram was dropped; nothing changed.
    pub fn handle_stun(
        &mut self,
        _now: Instant,
        _flow: Flow,
        _datagram: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<StunOutcome, StunDrop> {
        reply.clear();
        Err(StunDrop::Malformed)
    }

    /// True if a check came from there: its datagrams may be looked at.
    #[must_use]
    pub fn is_valid(&self, _flow: Flow) -> bool {
        false
    }

    /// Where to send: the flow nominated last, else the first valid one.
    #[must_use]
    pub fn selected(&self) -> Option<Flow> {
        None
    }

    /// When the peer proved to be alive last.
    #[must_use]
    pub fn last_seen(&self) -> Instant {
        unreachable!("placeholder")
    }

    /// Notes that something authenticated arrived on a valid flow.
    pub fn touch(&mut self, _now: Instant) {}

    /// When [`IceLite::is_expired`] turns true if the peer stays silent.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// True if the peer is silent for [`CONSENT_TIMEOUT`].
    #[must_use]
    pub fn is_expired(&self, _now: Instant) -> bool {
        false
    }

    /// Forgets a flow whose TCP connection ended. True if [`IceLite::selected`] changed.
    pub fn flow_closed(&mut self, _flow: Flow) -> bool {
        false
    }
}
