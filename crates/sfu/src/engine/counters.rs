//! What a worker counts. Plain numbers on the worker's own thread, copied out for metrics.

use forwarding::selector::DropCounters;

use super::srtp::{OpenError, Profile};

/// Why an incoming datagram was thrown away. All but the last few come before it could touch any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Its first byte belongs to no protocol we speak (RFC 7983).
    Unknown,
    /// STUN that is malformed, unauthenticated, or for nobody here.
    Stun,
    /// DTLS or media from a 5-tuple that ICE has not validated, or plain RTP from a stranger.
    NotValidated,
    /// Media before the DTLS handshake is done.
    NoKeys,
    /// An RTP or RTCP header that lies about its lengths.
    Malformed,
    /// SRTP or SRTCP that fails authentication.
    Unauthentic,
    /// SRTP or SRTCP seen before, or too old to tell.
    Replayed,
    /// RTP that belongs to no negotiated section, or one stream too many.
    UnknownStream,
    /// A payload type that was not negotiated.
    UnknownPayload,
    /// A retransmission of a packet that is not missing, or not yet known.
    UselessRetransmission,
    /// RTP so late, or so long, that the history has no place for it.
    TooLate,
    /// DTLS while too many handshakes go on.
    TooManyHandshakes,
}

impl From<OpenError> for Discard {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TooShort => Self::Malformed,
            OpenError::Replayed | OpenError::TooOld => Self::Replayed,
            OpenError::Unauthentic => Self::Unauthentic,
        }
    }
}

impl Discard {
    /// Every reason, in the order of [`Counters::discarded`].
    pub const ALL: [Self; 12] = [
        Self::Unknown,
        Self::Stun,
        Self::NotValidated,
        Self::NoKeys,
        Self::Malformed,
        Self::Unauthentic,
        Self::Replayed,
        Self::UnknownStream,
        Self::UnknownPayload,
        Self::UselessRetransmission,
        Self::TooLate,
        Self::TooManyHandshakes,
    ];

    /// Its name as a metrics label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stun => "stun",
            Self::NotValidated => "not_validated",
            Self::NoKeys => "no_keys",
            Self::Malformed => "malformed",
            Self::Unauthentic => "unauthentic",
            Self::Replayed => "replayed",
            Self::UnknownStream => "unknown_stream",
            Self::UnknownPayload => "unknown_payload",
            Self::UselessRetransmission => "useless_retransmission",
            Self::TooLate => "too_late",
            Self::TooManyHandshakes => "too_many_handshakes",
        }
    }
}

/// Why something on its way between workers was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayDrop {
    /// A packet for which the way was full, since the other worker did not keep up.
    Full,
    /// A message of an application, for the same reason.
    Message,
    /// A packet that arrived when nobody wanted it any more.
    Late,
}

impl RelayDrop {
    /// Every reason, in the order of [`Counters::relay_dropped`].
    pub const ALL: [Self; 3] = [Self::Full, Self::Message, Self::Late];

    /// Its name as a metrics label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Message => "message",
            Self::Late => "late",
        }
    }
}

/// Totals of one worker since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// RTP packets that were authenticated and belonged to a stream.
    pub rtp_received: u64,
    /// RTP packets sent to subscribers, retransmissions not included.
    pub rtp_forwarded: u64,
    /// RTP packets sent again because a subscriber missed them.
    pub rtp_retransmitted: u64,
    /// RTP packets that a subscriber did not get although it is connected (gated, muted…).
    pub rtp_withheld: u64,
    /// RTP packets passed on to other workers, for subscribers there.
    pub rtp_relayed: u64,
    /// RTP packets that other workers passed on to this one.
    pub rtp_relay_received: u64,
    /// What was lost on the way between workers, by [`RelayDrop`].
    pub relay_dropped: [u64; RelayDrop::ALL.len()],
    /// RTCP packets that were authenticated.
    pub rtcp_received: u64,
    /// RTCP packets sent.
    pub rtcp_sent: u64,
    /// Key frames asked of publishers.
    pub key_frames_requested: u64,
    /// STUN requests answered.
    pub stun_answered: u64,
    /// Packets asked of publishers by NACK.
    pub nacks_sent: u64,
    /// Transports that connected: by DTLS, or plain RTP that was heard.
    pub transports_connected: u64,
    /// Transports by SRTP profile, in the order of [`Profile::ALL`].
    pub srtp_profiles: [u64; Profile::ALL.len()],
    /// Transports closed because the peer fell silent.
    pub transports_expired: u64,
    /// Transports closed because their DTLS handshake failed.
    pub handshakes_failed: u64,
    /// Transports closed because handling one of their packets panicked, and commands that panicked.
    pub panics: u64,
    /// Data-channel messages passed on.
    pub messages_forwarded: u64,
    /// Transports that exist now.
    pub transports: u64,
    /// Elements that exist now.
    pub elements: u64,
    /// Stand-ins for elements of other workers that exist now, one for each kind of media.
    pub mirrors: u64,
    /// Ways to such stand-ins on other workers that exist now.
    pub trunks: u64,
    /// RTP packets left out for connected subscribers, by reason.
    pub dropped: DropCounters,
    /// Datagrams thrown away, by [`Discard`].
    pub discarded: [u64; Discard::ALL.len()],
}

impl Counters {
    pub(super) fn discard(&mut self, reason: Discard) {
        self.discarded[reason as usize] += 1;
    }

    pub(super) fn drop_relayed(&mut self, reason: RelayDrop) {
        self.relay_dropped[reason as usize] += 1;
    }
}
