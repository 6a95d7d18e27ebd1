//! What no sound client sends: the keys and numbers of a session, for packets of a test's own making.

use std::time::Instant;

use forwarding::rtp::ExtendedSeq;
use media::MediaKind;

use super::Peer;

/// What an SCTP packet needs to be taken for one of the peer's association (RFC 9260, section 8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpMark {
    /// The server's verification tag.
    pub tag: u32,
    /// Number of the peer's next DATA chunk.
    pub next_tsn: u32,
}

const COMMON_HEADER_LEN: usize = 12;
const DATA: u8 = 0;
const INIT: u8 = 1;

/// Follows the packets that the peer's own association sends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SctpTrace {
    tag: u32,
    next_tsn: u32,
}

impl SctpTrace {
    pub(super) fn note(&mut self, packet: &[u8]) {
        let word = |at: usize| {
            let bytes = packet.get(at..)?.first_chunk()?;
            Some(u32::from_be_bytes(*bytes))
        };
        self.tag = word(4).unwrap_or(self.tag);
        let mut at = COMMON_HEADER_LEN;
        while let Some(&[kind, _, high, low]) = packet.get(at..).and_then(<[u8]>::first_chunk::<4>)
        {
            match (kind, word(at + 4), word(at + 16)) {
                (INIT, _, Some(first_tsn)) => self.next_tsn = first_tsn,
                (DATA, Some(tsn), _) => {
                    let next = tsn.wrapping_add(1);
                    let is_newer = next.wrapping_sub(self.next_tsn) < 1 << 31;
                    self.next_tsn = if is_newer { next } else { self.next_tsn };
                }
                _ => {}
            }
            let len = usize::from(u16::from_be_bytes([high, low]));
            at += len.max(4).next_multiple_of(4);
        }
    }
}

impl Peer {
    /// Seals an RTP packet, which may be as unsound as it likes behind its first twelve bytes. `index` is
    /// the SRTP packet index, whose low half must be the number in the packet; `header_len` is what
    /// stays in the clear. `None` before the peer is connected.
    ///
    /// # Panics
    /// If the packet is shorter than `header_len`, or that than twelve.
    pub fn seal_rtp(&self, index: u64, header_len: usize, packet: &[u8]) -> Option<Vec<u8>> {
        let sealer = &self.srtp.as_ref()?.sealer;
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let mut sealed = packet.to_vec();
        sealed.resize(packet.len() + sealer.rtp_overhead(), 0);
        sealer.seal_rtp(index, ssrc, header_len, &mut sealed);
        Some(sealed)
    }

    /// Seals RTCP, which may be as unsound as it likes behind its first eight bytes. `None` before the
    /// peer is connected, or if it is shorter.
    pub fn seal_rtcp(&mut self, mut compound: Vec<u8>) -> Option<Vec<u8>> {
        let sealer = &mut self.srtp.as_mut()?.sealer;
        sealer.seal_rtcp(&mut compound).ok()?;
        Some(compound)
    }

    /// Takes the next number of a published stream: its own packets go on behind it.
    pub fn take_seq(&mut self, kind: MediaKind) -> Option<ExtendedSeq> {
        Some(self.stream_mut(kind)?.take_seq())
    }

    /// How many packets of synthetic media a published stream has made: one more than the number in the
    /// latest stamp.
    pub fn packets_made(&self, kind: MediaKind) -> Option<u32> {
        Some(self.stream(kind)?.packets_made())
    }

    /// Payload types of a published stream and of its retransmissions.
    pub fn payload_types(&self, kind: MediaKind) -> Option<(u8, Option<u8>)> {
        Some(self.stream(kind)?.payload_types())
    }

    /// SSRC of the retransmissions of a published stream, as announced.
    pub fn repair_ssrc(&self, kind: MediaKind) -> u32 {
        self.ssrcs[kind as usize][1]
    }

    /// SSRC under which the server announced to send a kind.
    pub fn announced_ssrc(&self, kind: MediaKind) -> Option<u32> {
        self.received_ssrc(kind).map(|ssrc| ssrc.0)
    }

    /// Sends DTLS application data; false if that is not possible.
    pub fn send_application_data(&mut self, now: Instant, data: &[u8]) -> bool {
        let sent = self
            .dtls
            .as_mut()
            .is_some_and(|dtls| dtls.write(now, data).is_ok());
        self.drive(now);
        sent
    }

    /// What packets of the association bear; `None` before it is up.
    pub fn sctp_mark(&self) -> Option<SctpMark> {
        let SctpTrace { tag, next_tsn } = self.sctp_trace;
        (tag != 0).then_some(SctpMark { tag, next_tsn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(tag: u32, chunks: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; COMMON_HEADER_LEN];
        packet[4..8].copy_from_slice(&tag.to_be_bytes());
        for (kind, value) in chunks {
            let len = u16::try_from(value.len() + 4).unwrap();
            packet.extend([*kind, 0]);
            packet.extend(len.to_be_bytes());
            packet.extend_from_slice(value);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    #[test]
    fn trace_follows_tag_and_numbers() {
        let mut init = [0; 16];
        init[12..].copy_from_slice(&7u32.to_be_bytes());
        let data = |tsn: u32| [&tsn.to_be_bytes()[..], &[0; 9]].concat();
        let mut trace = SctpTrace::default();
        for (packet, tag, next_tsn) in [
            (packet(0, &[(INIT, &init)]), 0, 7),
            (packet(5, &[(10, &[1, 2, 3]), (DATA, &data(7))]), 5, 8),
            (packet(5, &[(DATA, &data(8)), (DATA, &data(9))]), 5, 10),
            (packet(5, &[(DATA, &data(8))]), 5, 10),
            (vec![0; 3], 5, 10),
        ] {
            trace.note(&packet);
            assert_eq!((trace.tag, trace.next_tsn), (tag, next_tsn));
        }
    }
}
