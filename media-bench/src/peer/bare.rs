//! A peer whose media is its owner's: what was agreed, and what arrives in the clear.

use forwarding::codec::Codec;
use forwarding::rtp::{ExtendedSeq, ExtensionId, NegotiatedExtensions, Ssrc};
use media::MediaKind;

use super::Peer;

/// Media of the server in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// An RTP packet.
    Rtp(Vec<u8>),
    /// A compound of RTCP.
    Rtcp(Vec<u8>),
}

/// What was agreed about one kind of media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The codec that this peer would send.
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: u8,
    /// Payload type of its retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// Extensions that the server takes.
    pub extensions: NegotiatedExtensions,
    /// Value of MID.
    pub mid: &'static str,
    /// The server's SSRCs of media and of retransmissions, as far as announced.
    pub ssrcs: Vec<Ssrc>,
    extension_ids: Vec<u8>,
}

impl Negotiated {
    /// True if the server takes an extension.
    pub fn has(&self, id: ExtensionId) -> bool {
        self.extension_ids.contains(&id.0)
    }
}

impl Peer {
    /// What was agreed about a kind; `None` before the answer, or if it was refused.
    pub fn negotiated(&self, kind: MediaKind) -> Option<Negotiated> {
        let section = self.answer.as_ref()?.section(kind)?;
        let taken = |payload_type: u8| section.payload_types.contains(&payload_type);
        let formats = self.config.formats(kind);
        let format = formats.iter().find(|format| taken(format.payload_type))?;
        Some(Negotiated {
            codec: format.codec,
            payload_type: format.payload_type,
            rtx_payload_type: format.rtx_payload_type.filter(|number| taken(*number)),
            extensions: section.taken(self.config.extensions(kind)),
            mid: self.config.numbering.mid(kind),
            ssrcs: section.ssrcs.iter().copied().map(Ssrc).collect(),
            extension_ids: section.extension_ids.clone(),
        })
    }

    /// Kind and codec of a payload type, and whether it is that of retransmissions.
    pub fn format(&self, payload_type: u8) -> Option<(MediaKind, Codec, bool)> {
        *self.formats.get(usize::from(payload_type))?
    }

    /// What arrived, oldest first.
    pub fn poll_received(&mut self) -> Option<Received> {
        self.received.pop_front()
    }

    /// Seals a packet of the owner's numbering and sends it: header of `header_len` bytes, and payload. Nothing before
    /// the peer is connected.
    ///
    /// # Panics
    /// As [`Self::seal_rtp`].
    pub fn send_rtp_at(&mut self, index: ExtendedSeq, header_len: usize, packet: &[u8]) {
        let sealed = self.seal_rtp(index.0, header_len, packet);
        self.transmits.extend(sealed);
    }

    /// SSRC under which a receiver sends feedback.
    pub fn feedback_ssrc(&self) -> Ssrc {
        self.own_ssrc()
    }
}
