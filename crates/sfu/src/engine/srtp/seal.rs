//! Outgoing packets. Read [`Sealer`].

use super::keys::MasterKey;
use super::transform::{HMAC_TAG, Transform};
use super::{RTCP_ENCRYPTED, RTCP_HEADER, RTCP_INDEX, RTP_HEADER_MIN, ssrc_of_rtcp};

/// The number of SRTCP packets one master key may protect (RFC 3711, section 9.2).
pub(super) const RTCP_PACKETS_MAX: u32 = 1 << 31;

/// The number of RTP packets of one SSRC one master key may protect (RFC 3711, section 9.2).
const RTP_INDEX_END: u64 = 1 << 48;

/// Why an RTCP packet was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The packet ends before its sender SSRC.
    #[error("RTCP packet of {0} bytes is too short")]
    TooShort(usize),
    /// All 2^31 indices are used up: the transport needs new keys, that is, a new DTLS handshake.
    #[error("SRTCP index space is exhausted")]
    KeyExhausted,
}

/// Protects the outgoing packets of one transport.
///
/// **Invariant.** For AES-GCM a pair of SSRC and packet index must never protect two different packets: who breaks
/// this reveals the plaintext of both and the authentication key. RTP indices are the caller's; a retransmission is
/// therefore either byte-identical or on the SSRC of an RTX stream. SRTCP indices are made here.
pub struct Sealer {
    rtp: Transform,
    rtcp: Transform,
    /// One for all sender SSRCs, so that their number needs no state: a receiver minds no gaps.
    next_rtcp_index: u32,
}

impl Sealer {
    /// Derives the session keys from our own master key: [`KeyingMaterial::local`](super::KeyingMaterial::local).
    #[must_use]
    pub fn new(local: &MasterKey) -> Self {
        Self {
            rtp: Transform::rtp(local.profile(), &local.rtp_session_keys()),
            rtcp: Transform::rtcp(local.profile(), &local.rtcp_session_keys()),
            next_rtcp_index: 0,
        }
    }

    /// By how many bytes sealing lengthens an RTP packet.
    #[must_use]
    pub fn rtp_overhead(&self) -> usize {
        self.rtp.tag_len()
    }

    /// By how many bytes sealing lengthens an RTCP packet.
    #[must_use]
    pub fn rtcp_overhead(&self) -> usize {
        self.rtcp.tag_len() + RTCP_INDEX
    }

    /// Seals an RTP packet in place.
    ///
    /// `packet` has the length of the sealed packet: header (`header_len` bytes with CSRCs and extension, stays in
    /// the clear), payload, and [`rtp_overhead`](Self::rtp_overhead) bytes of room for the tag. `index` is the
    /// roll-over counter times 2^16 plus the sequence number in the header, below 2^48.
    ///
    /// # Panics
    /// If `packet` is shorter than header and tag: the caller wrote it.
    pub fn seal_rtp(&self, index: u64, ssrc: u32, header_len: usize, packet: &mut [u8]) {
        debug_assert_matches_header(index, ssrc, header_len, packet);
        let (message, tag) = packet.split_at_mut(packet.len() - self.rtp.tag_len());
        let (header, payload) = message.split_at_mut(header_len);
        match &self.rtp {
            Transform::Gcm(gcm) => tag.copy_from_slice(&gcm.seal(ssrc, index, header, payload)),
            Transform::CounterMode(counter_mode) => {
                counter_mode.apply_keystream(ssrc, index, payload);
                let full = counter_mode.tag(message, roll_over_counter(index));
                tag.copy_from_slice(&full[..tag.len()]);
            }
        }
    }

    /// Seals an RTP packet whose payload ends in `tail`, without copying `tail` first: the way from one shared
    /// plaintext to many subscribers.
    ///
    /// As [`seal_rtp`](Self::seal_rtp), but only the front of `packet` is written yet: the header and, where the
    /// start of the payload differs by subscriber (a VP8 descriptor), that start. `tail.len()` bytes and the tag
    /// follow.
    ///
    /// # Panics
    /// If `packet` is shorter than header, tail and tag.
    pub fn seal_rtp_from(
        &self,
        index: u64,
        ssrc: u32,
        header_len: usize,
        tail: &[u8],
        packet: &mut [u8],
    ) {
        debug_assert_matches_header(index, ssrc, header_len, packet);
        let (front, output) = packet.split_at_mut(packet.len() - self.rtp.tag_len() - tail.len());
        match &self.rtp {
            Transform::Gcm(gcm) => {
                let (header, start) = front.split_at_mut(header_len);
                gcm.seal_gather(ssrc, index, header, start, tail, output);
            }
            Transform::CounterMode(_) => {
                output[..tail.len()].copy_from_slice(tail);
                self.seal_rtp(index, ssrc, header_len, packet);
            }
        }
    }

    /// Seals a compound RTCP packet in place; it grows by [`rtcp_overhead`](Self::rtcp_overhead) bytes.
    ///
    /// # Errors
    /// Leaves the packet as it is, and it must not be sent.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), SealError> {
        if packet.len() < RTCP_HEADER {
            return Err(SealError::TooShort(packet.len()));
        }
        if self.next_rtcp_index >= RTCP_PACKETS_MAX {
            return Err(SealError::KeyExhausted);
        }
        let index = self.next_rtcp_index;
        self.next_rtcp_index += 1;
        let ssrc = ssrc_of_rtcp(packet);
        let word = RTCP_ENCRYPTED | index;
        match &self.rtcp {
            Transform::Gcm(gcm) => {
                let (header, text) = packet.split_at_mut(RTCP_HEADER);
                let tag = gcm.seal(
                    ssrc,
                    index.into(),
                    &rtcp_associated_data(header, word),
                    text,
                );
                packet.extend_from_slice(&tag);
                packet.extend_from_slice(&word.to_be_bytes());
            }
            Transform::CounterMode(counter_mode) => {
                counter_mode.apply_keystream(ssrc, index.into(), &mut packet[RTCP_HEADER..]);
                let tag: [u8; HMAC_TAG] = counter_mode.tag(packet, word);
                packet.extend_from_slice(&word.to_be_bytes());
                packet.extend_from_slice(&tag);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn with_session_keys(
        profile: super::Profile,
        keys: &super::keys::SessionKeys,
        rtcp_index: u32,
    ) -> Self {
        Self {
            rtp: Transform::rtp(profile, keys),
            rtcp: Transform::rtcp(profile, keys),
            next_rtcp_index: rtcp_index,
        }
    }
}

/// What AES-GCM authenticates but does not encrypt of an RTCP packet (RFC 7714, section 9.2).
pub(super) fn rtcp_associated_data(header: &[u8], word: u32) -> [u8; RTCP_HEADER + RTCP_INDEX] {
    let mut data = [0; RTCP_HEADER + RTCP_INDEX];
    data[..RTCP_HEADER].copy_from_slice(&header[..RTCP_HEADER]);
    data[RTCP_HEADER..].copy_from_slice(&word.to_be_bytes());
    data
}

pub(super) fn roll_over_counter(index: u64) -> u32 {
    (index >> 16) as u32
}

fn debug_assert_matches_header(index: u64, ssrc: u32, header_len: usize, packet: &[u8]) {
    debug_assert!(
        header_len >= RTP_HEADER_MIN,
        "RTP header of {header_len} bytes"
    );
    debug_assert!(
        index < RTP_INDEX_END,
        "packet index {index:#x} has more than 48 bits"
    );
    debug_assert_eq!(
        packet[2..4],
        (index as u16).to_be_bytes(),
        "sequence number of header and packet index"
    );
    debug_assert_eq!(
        packet[8..12],
        ssrc.to_be_bytes(),
        "SSRC of header and argument"
    );
}
