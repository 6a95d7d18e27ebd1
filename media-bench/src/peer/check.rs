//! The controlling side of ICE towards an ICE-lite server: connectivity checks on one 5-tuple.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use sfu::engine::ice::Credentials;

/// Between checks that are not answered yet. Too short: a server far away is flooded. Too long: calls
/// begin late.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Between checks that keep the consent (RFC 7675, section 5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// Checks whose answers still count. Too low: a slow path never connects. Too high: memory.
const PENDING_MAX: usize = 16;

/// Priority of a peer-reflexive candidate made from a host candidate (RFC 8445, section 5.1.2).
const PRIORITY: u32 = 0x6e00_01ff;

/// Sends checks until one is answered, and from then on to keep the consent.
pub(super) struct Checks {
    provider: Arc<dyn RTCCryptoProvider>,
    tie_breaker: [u8; 8],
    local: Credentials,
    remote: Option<Credentials>,
    pending: Vec<TransactionId>,
    next_at: Option<Instant>,
    succeeded: bool,
    /// Checks that were answered.
    pub(super) answered: u64,
}

impl Checks {
    pub(super) fn new(random: &mut StdRng) -> Self {
        Self {
            provider: rtc_crypto::default_provider().expect("the provider is compiled in"),
            tie_breaker: random.random(),
            local: credentials(random),
            remote: None,
            pending: Vec::new(),
            next_at: None,
            succeeded: false,
            answered: 0,
        }
    }

    pub(super) fn local(&self) -> &Credentials {
        &self.local
    }

    /// Draws new credentials; the next answer begins anew (RFC 8445, section 9).
    pub(super) fn restart(&mut self, random: &mut StdRng) {
        self.local = credentials(random);
    }

    /// Begins to check, or to check anew after a restart.
    pub(super) fn start(&mut self, now: Instant, remote: Credentials) {
        if self.remote.as_ref() == Some(&remote) {
            return;
        }
        self.remote = Some(remote);
        self.pending.clear();
        self.succeeded = false;
        self.next_at = Some(now);
    }

    /// Checks at once, as after a change of address.
    pub(super) fn check_now(&mut self, now: Instant) {
        self.next_at = self.remote.is_some().then_some(now);
    }

    /// True once a check was answered.
    pub(super) fn succeeded(&self) -> bool {
        self.succeeded
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// The check that is due, if one is.
    pub(super) fn poll_check(&mut self, now: Instant, random: &mut StdRng) -> Option<Vec<u8>> {
        let remote = self.remote.as_ref()?;
        if self.next_at? > now {
            return None;
        }
        let interval = if self.succeeded {
            CONSENT_INTERVAL
        } else {
            RETRY_INTERVAL
        };
        self.next_at = Some(now + interval);
        let id = TransactionId(random.random());
        let check = self.write(remote, id)?;
        if self.pending.len() == PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(id);
        Some(check)
    }

    fn write(&self, remote: &Credentials, id: TransactionId) -> Option<Vec<u8>> {
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.write_header();
        id.add_to(&mut message).ok()?;
        let username = format!("{}:{}", remote.ufrag(), self.local.ufrag());
        message.add(ATTR_USERNAME, username.as_bytes());
        message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
        message.add(ATTR_ICE_CONTROLLING, &self.tie_breaker);
        // The server is lite and has one candidate: every check nominates.
        message.add(ATTR_USE_CANDIDATE, &[]);
        MessageIntegrity::new_short_term_integrity_with_provider(
            remote.pwd().to_owned(),
            self.provider.crypto(),
        )
        .add_to(&mut message)
        .ok()?;
        FINGERPRINT.add_to(&mut message).ok()?;
        Some(message.raw)
    }

    /// Takes an answer. True if it is the first one since the start.
    pub(super) fn handle_answer(&mut self, datagram: &[u8]) -> bool {
        let Some(remote) = &self.remote else {
            return false;
        };
        let mut message = Message::new();
        if message.unmarshal_binary(datagram).is_err() || message.typ != BINDING_SUCCESS {
            return false;
        }
        let Some(position) = self
            .pending
            .iter()
            .position(|id| *id == message.transaction_id)
        else {
            return false;
        };
        let authentic = MessageIntegrity::check(
            &mut message,
            remote.pwd().as_bytes(),
            self.provider.crypto(),
        );
        if authentic.is_err() || FINGERPRINT.check(&message).is_err() {
            return false;
        }
        self.pending.remove(position);
        self.answered += 1;
        let first = !std::mem::replace(&mut self.succeeded, true);
        if first && let Some(at) = &mut self.next_at {
            *at += CONSENT_INTERVAL - RETRY_INTERVAL;
        }
        first
    }
}

fn credentials(random: &mut StdRng) -> Credentials {
    let ufrag = format!("{:08x}", random.random::<u32>());
    let pwd = format!("{:032x}", random.random::<u128>());
    Credentials::new(&ufrag, &pwd).expect("letters and digits, long enough")
}
