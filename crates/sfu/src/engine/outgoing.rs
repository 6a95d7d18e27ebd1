//! One packet as it leaves for one subscriber: [`Outgoing`].
//!
//! Everything is known by then: numbers, layers, keys. Here it becomes bytes in the outbox.

use forwarding::codec::Vp8Patch;
use forwarding::packet::SourcePacket;
use forwarding::rtp::{
    AbsSendTime, ExtendedSeq, HEADER_LEN_MAX, HeaderFields, HeaderTemplate, PayloadType,
    RawExtension, RtpTime, Seq, Ssrc,
};

use super::flow::Flow;
use super::outbox::Outbox;
use super::transport::Protection;

/// Tells in the first byte of a header that padding ends the packet (RFC 3550, section 5.1).
const PADDING_BIT: u8 = 0x20;

/// What of a payload is copied where it begins differently for each subscriber: whole blocks of the cipher, which is slow
/// where it has to go on within one.
const FRONT_LEN: usize = 16;
const _: () = assert!(FRONT_LEN >= Vp8Patch::REACH);

/// Length of the original sequence number in a retransmission.
const ORIGINAL_LEN: usize = 2;

/// The longest element of a header extension with its id and length, and what fills its block up.
const RAW_OVERHEAD: usize = 2 + 3;

/// A packet about to be written for one subscriber.
pub(super) struct Outgoing<'a> {
    pub(super) template: &'a HeaderTemplate,
    pub(super) ssrc: Ssrc,
    /// Number on the wire, with roll-overs: the SRTP packet index.
    pub(super) index: ExtendedSeq,
    /// In a retransmission, the number that was lost (RFC 4588, section 4).
    pub(super) original: Option<Seq>,
    pub(super) payload_type: PayloadType,
    pub(super) abs_send_time: AbsSendTime,
    pub(super) transport_seq: u16,
    /// As it came; `None` for padding.
    pub(super) packet: Option<&'a SourcePacket>,
    pub(super) timestamp: RtpTime,
    pub(super) marker: bool,
    /// New picture numbers.
    pub(super) patch: Option<Vp8Patch>,
    /// What describes the frame, as the subscriber should read it.
    pub(super) descriptor: Option<RawExtension<'a>>,
    pub(super) payload: &'a [u8],
    /// Bytes that make the packet as long as others of its run (RFC 3550, section 5.1).
    pub(super) padding: u8,
}

impl Outgoing<'_> {
    /// Writes the header and seals the payload straight into the outbox. Only the few bytes of the
    /// payload that differ by subscriber are copied. Returns the length on the wire.
    pub(super) fn seal(
        &self,
        protection: &Protection,
        flow: &Flow,
        outbox: &mut Outbox,
    ) -> Option<usize> {
        let fields = HeaderFields {
            seq: self.index.seq(),
            timestamp: self.timestamp,
            marker: self.marker,
            payload_type: self.payload_type,
            abs_send_time: self.abs_send_time,
            transport_seq: self.transport_seq,
            audio_level: self.packet.and_then(|packet| packet.audio_level),
            video_orientation: self.packet.and_then(|packet| packet.video_orientation),
            raw: self.descriptor.as_slice(),
        };
        let overhead = protection.rtp_overhead();
        let padding = usize::from(self.padding);
        let described = (self.descriptor).map_or(0, |raw| raw.data.len() + RAW_OVERHEAD);
        let header_max = HEADER_LEN_MAX + described;
        let room = header_max + ORIGINAL_LEN + self.payload.len() + padding + overhead;
        let mut len = 0;
        let is_written = outbox.push_with(flow, room, |out| {
            let header_len = self.template.write(out, &fields)?;
            let mut front = header_len;
            if let Some(Seq(original)) = self.original {
                out[front..front + ORIGINAL_LEN].copy_from_slice(&original.to_be_bytes());
                front += ORIGINAL_LEN;
            }
            let mut tail = self.payload;
            if let Some(patch) = self.patch {
                let (start, rest) = tail.split_at(tail.len().min(FRONT_LEN));
                out[front..front + start.len()].copy_from_slice(start);
                patch.apply(&mut out[front..front + start.len()]);
                front += start.len();
                tail = rest;
            }
            if padding > 0 {
                out[0] |= PADDING_BIT;
                out[front..front + tail.len()].copy_from_slice(tail);
                front += tail.len();
                out[front..front + padding].fill(0);
                front += padding;
                out[front - 1] = self.padding;
                tail = &[];
            }
            len = front + tail.len() + overhead;
            protection.seal_rtp_from(self.index, self.ssrc, header_len, tail, &mut out[..len]);
            Some(len)
        });
        is_written.then_some(len)
    }
}
