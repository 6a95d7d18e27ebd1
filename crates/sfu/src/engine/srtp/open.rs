//! Incoming packets. Read [`Opener`].

use super::keys::MasterKey;
use super::replay::{ReceiveIndex, ReplayWindow};
use super::seal::{roll_over_counter, rtcp_associated_data};
use super::transform::{GCM_TAG, HMAC_TAG, Transform};
use super::{RTCP_ENCRYPTED, RTCP_HEADER, RTCP_INDEX, RTP_HEADER_MIN, ssrc_of_rtcp};

/// How many RTCP sender SSRCs of one peer have a replay window. Too low → a peer that sends many streams evicts its
/// own windows, and an old report of theirs may be replayed; too high → memory and a longer scan, at the peer's will.
pub const MAX_RTCP_SENDERS: usize = 128;

/// Words of the replay window of an RTCP sender: 128 packets, many seconds of feedback.
const RTCP_WINDOW_WORDS: usize = 2;

/// Why a packet was not opened. None is a reason to end the session: any stranger can cause all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than its header and tag.
    #[error("packet is too short")]
    TooShort,
    /// The packet index was accepted before.
    #[error("packet index was received before")]
    Replayed,
    /// The packet index lies before the replay window, so nobody knows whether it was accepted before.
    #[error("packet index is older than the replay window")]
    TooOld,
    /// The tag does not fit the packet, or it is RTCP without encryption.
    #[error("packet is not authentic")]
    Unauthentic,
}

/// Authenticates and decrypts the incoming packets of one transport.
///
/// Packets are opened in place. After an error the content of the packet is unspecified, and no state has changed.
pub struct Opener {
    rtp: Transform,
    rtcp: Transform,
    /// Who was heard last comes first; at most [`MAX_RTCP_SENDERS`].
    rtcp_senders: Vec<RtcpSender>,
}

struct RtcpSender {
    ssrc: u32,
    window: ReplayWindow<RTCP_WINDOW_WORDS>,
}

impl Opener {
    /// Derives the session keys from the peer's master key: [`KeyingMaterial::remote`](super::KeyingMaterial::remote).
    #[must_use]
    pub fn new(remote: &MasterKey) -> Self {
        Self {
            rtp: Transform::rtp(remote.profile(), &remote.rtp_session_keys()),
            rtcp: Transform::rtcp(remote.profile(), &remote.rtcp_session_keys()),
            rtcp_senders: Vec::new(),
        }
    }

    /// Opens an RTP packet in place; the answer is the length of header and plaintext payload.
    ///
    /// `stream` is the state of the packet's SSRC, `header_len` the length of the header with CSRCs and extension.
    ///
    /// # Errors
    /// `stream` changes only when the packet is authentic: keep a fresh `stream` of an unknown SSRC only then, or
    /// strangers fill the memory.
    pub fn open_rtp(
        &self,
        stream: &mut ReceiveIndex,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, OpenError> {
        let header_len = header_len.max(RTP_HEADER_MIN);
        let opened_len = packet
            .len()
            .checked_sub(self.rtp.tag_len())
            .filter(|&opened_len| opened_len >= header_len)
            .ok_or(OpenError::TooShort)?;
        let index = stream.estimate(u16::from_be_bytes([packet[2], packet[3]]));
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        stream.check(index)?;
        let authentic = match &self.rtp {
            Transform::Gcm(gcm) => {
                let (header, text_and_tag) = packet.split_at_mut(header_len);
                gcm.open(ssrc, index, header, text_and_tag)
            }
            Transform::CounterMode(counter_mode) => {
                let (message, tag) = packet.split_at_mut(opened_len);
                let authentic = counter_mode.verify(message, roll_over_counter(index), tag);
                if authentic {
                    counter_mode.apply_keystream(ssrc, index, &mut message[header_len..]);
                }
                authentic
            }
        };
        if !authentic {
            return Err(OpenError::Unauthentic);
        }
        stream.accept(index);
        Ok(opened_len)
    }

    /// Opens a compound RTCP packet in place; the answer is the length of the plaintext packet.
    ///
    /// # Errors
    /// Nothing is remembered of a packet that is not authentic.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        let opened_len = packet
            .len()
            .checked_sub(self.rtcp.tag_len() + RTCP_INDEX)
            .filter(|&opened_len| opened_len >= RTCP_HEADER)
            .ok_or(OpenError::TooShort)?;
        let ssrc = ssrc_of_rtcp(packet);
        let word = self.rtcp_index_word(packet, opened_len);
        if word & RTCP_ENCRYPTED == 0 {
            return Err(OpenError::Unauthentic);
        }
        let index = u64::from(word & !RTCP_ENCRYPTED);
        let known = self
            .rtcp_senders
            .iter()
            .position(|sender| sender.ssrc == ssrc);
        if let Some(position) = known {
            self.rtcp_senders[position].window.check(index)?;
        }
        let authentic = match &self.rtcp {
            Transform::Gcm(gcm) => {
                let (header, text_and_tag) =
                    packet[..opened_len + GCM_TAG].split_at_mut(RTCP_HEADER);
                gcm.open(
                    ssrc,
                    index,
                    &rtcp_associated_data(header, word),
                    text_and_tag,
                )
            }
            Transform::CounterMode(counter_mode) => {
                let (message, trailer) = packet.split_at_mut(opened_len);
                let authentic = counter_mode.verify(message, word, &trailer[RTCP_INDEX..]);
                if authentic {
                    counter_mode.apply_keystream(ssrc, index, &mut message[RTCP_HEADER..]);
                }
                authentic
            }
        };
        if !authentic {
            return Err(OpenError::Unauthentic);
        }
        self.accept_rtcp(known, ssrc, index);
        Ok(opened_len)
    }

    /// AES-GCM puts the index word behind the tag, HMAC-SHA1 before it.
    fn rtcp_index_word(&self, packet: &[u8], opened_len: usize) -> u32 {
        let at = match &self.rtcp {
            Transform::Gcm(_) => opened_len + GCM_TAG,
            Transform::CounterMode(_) => packet.len() - HMAC_TAG - RTCP_INDEX,
        };
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    }

    fn accept_rtcp(&mut self, known: Option<usize>, ssrc: u32, index: u64) {
        let senders = &mut self.rtcp_senders;
        if let Some(position) = known {
            senders[..=position].rotate_right(1);
        } else {
            senders.truncate(MAX_RTCP_SENDERS - 1);
            senders.insert(
                0,
                RtcpSender {
                    ssrc,
                    window: ReplayWindow::default(),
                },
            );
        }
        senders[0].window.accept(index);
    }

    #[cfg(test)]
    pub(super) fn with_session_keys(
        profile: super::Profile,
        keys: &super::keys::SessionKeys,
    ) -> Self {
        Self {
            rtp: Transform::rtp(profile, keys),
            rtcp: Transform::rtcp(profile, keys),
            rtcp_senders: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn rtcp_sender_count(&self) -> usize {
        self.rtcp_senders.len()
    }
}
