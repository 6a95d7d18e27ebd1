//! An endpoint, WebRTC or plain RTP: one negotiation with one peer, and the tracks and transports it made.
//!
//! [`Endpoint`] is bookkeeping; [`Engine`](super::Engine) applies what [`sdp`](super::sdp) agreed on.

use media::{BandwidthLimits, Delivery, IceCandidate, MediaKind, PeerId};
use smallvec::SmallVec;

use super::RtpPorts;
use super::relay::MirrorId;
use super::sdp::{Candidate, CryptoKey, Negotiated, PendingOffer, PendingPlainOffer};
use super::source::SourceKey;
use super::subscriber::SubscriberKey;
use super::transport::TransportKey;

/// How far the negotiation of an endpoint has come.
#[derive(Debug, Default)]
pub(super) enum Negotiation {
    /// Nothing was offered yet.
    #[default]
    Fresh,
    /// We offered, and wait for the answer.
    Offered(Box<PendingOffer>),
    /// Both sides agreed.
    Done(Box<Negotiated>),
    /// As `Offered`, on an RTP endpoint.
    OfferedPlain(Box<PendingPlainOffer>),
    /// As `Done`, on an RTP endpoint, where it is for good.
    DonePlain,
}

/// State of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    /// Of an RTP endpoint; `None`: a WebRTC endpoint.
    pub(super) ports: Option<RtpPorts>,
    /// What an RTP endpoint sends with, if its media are secured.
    pub(super) key: Option<CryptoKey>,
    pub(super) data_channels: bool,
    /// See [`LocalParameters::strict`](super::sdp::LocalParameters::strict).
    pub(super) strict: bool,
    pub(super) negotiation: Negotiation,
    /// Credentials and SSRCs that all its descriptions share.
    pub(super) session: u64,
    pub(super) local_description: String,
    /// By the index that the negotiation gives them.
    pub(super) transports: SmallVec<[TransportKey; 1]>,
    pub(super) audio: Tracks,
    pub(super) video: Tracks,
    pub(super) limits: BandwidthLimits,
    /// What its peer wants to be sent.
    pub(super) delivery: Delivery,
    /// Whose it is.
    pub(super) peer: Option<PeerId>,
    /// Candidates are wanted as soon as there is a transport.
    pub(super) gather: bool,
    /// Data channels that are open or being opened, oldest first.
    pub(super) channels: Vec<Channel>,
    /// By kind, if it stands in for an element of another worker.
    pub(super) mirrors: [Option<MirrorId>; 3],
}

/// What flows in one kind of media.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tracks {
    /// From the peer.
    pub(super) source: Option<SourceKey>,
    /// To the peer.
    pub(super) subscriber: Option<SubscriberKey>,
}

/// A data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) id: u16,
    pub(super) label: String,
}

impl Endpoint {
    pub(super) fn tracks(&self, kind: MediaKind) -> Tracks {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
            MediaKind::Data => Tracks::default(),
        }
    }

    pub(super) fn tracks_mut(&mut self, kind: MediaKind) -> Option<&mut Tracks> {
        match kind {
            MediaKind::Audio => Some(&mut self.audio),
            MediaKind::Video => Some(&mut self.video),
            MediaKind::Data => None,
        }
    }

    /// Our candidates as signaling carries them: once for each transport, on its first section.
    pub(super) fn signaled_candidates(&self, candidates: &[Candidate]) -> Vec<IceCandidate> {
        let sections = match &self.negotiation {
            Negotiation::Done(negotiated) => &negotiated.sections[..],
            Negotiation::Offered(pending) => pending.sections(),
            _ => return Vec::new(),
        };
        let mut seen: SmallVec<[usize; 3]> = SmallVec::new();
        let mut signaled = Vec::new();
        for section in sections {
            if !section.accepted || seen.contains(&section.transport) {
                continue;
            }
            seen.push(section.transport);
            signaled.extend(candidates.iter().map(|candidate| IceCandidate {
                candidate: candidate.to_string(),
                sdp_mid: section.mid.clone().unwrap_or_default(),
                sdp_m_line_index: section.index as u16,
            }));
        }
        signaled
    }
}
