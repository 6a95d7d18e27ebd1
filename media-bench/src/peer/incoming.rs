//! What a peer receives: one stream, checked packet by packet.

use std::time::Instant;

use forwarding::codec::{Codec, inspect};
use forwarding::receive::{Arrival, ReceiveConfig, ReceiveStats, ReceiveStream};
use forwarding::rtcp::SenderInfo;
use forwarding::rtp::{ExtendedSeq, Header, NegotiatedExtensions, RtpTime, Seq, Ssrc};
use media::MediaKind;

use crate::payload::{self, Stamp};

/// Packets and reports kept for tests.
const KEPT_MAX: usize = 100_000;

/// One received packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// When.
    pub at: Instant,
    /// Its number, or the number that its retransmission names.
    pub seq: ExtendedSeq,
    /// RTP timestamp.
    pub timestamp: RtpTime,
    /// Marker bit.
    pub marker: bool,
    /// Payload type on the wire.
    pub payload_type: u8,
    /// MID extension.
    pub mid: Option<String>,
    /// Audio level byte.
    pub audio_level: Option<u8>,
    /// It has a send time and a transport-wide number.
    pub has_send_times: bool,
    /// It came as a retransmission (RFC 4588).
    pub repaired: bool,
    /// The first packet of a key frame.
    pub key_frame: bool,
    /// Who sent it, if every byte of it is right.
    pub stamp: Option<Stamp>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// One received stream.
pub struct IncomingStream {
    /// Audio or video.
    pub kind: MediaKind,
    /// Its SSRC.
    pub ssrc: u32,
    pub(super) receive: ReceiveStream,
    /// Packets whose payload is not what a peer sent.
    pub corrupt: u64,
    /// Packets that came as retransmissions and were missing.
    pub repaired: u64,
    /// Stamp of the latest packet.
    pub last_stamp: Option<Stamp>,
    /// All packets in order of arrival, if the peer keeps them.
    pub packets: Vec<ReceivedPacket>,
    /// Sender reports with their times of arrival.
    pub reports: Vec<(Instant, SenderInfo)>,
}

/// An opened packet of a stream.
pub(super) struct Opened<'a> {
    pub(super) header: Header<'a>,
    pub(super) codec: Codec,
    pub(super) seq: Seq,
    pub(super) payload: &'a [u8],
    pub(super) repaired: bool,
}

impl IncomingStream {
    pub(super) fn new(kind: MediaKind, codec: Codec, ssrc: u32, nack: bool) -> Self {
        Self {
            kind,
            ssrc,
            receive: ReceiveStream::new(ReceiveConfig {
                ssrc: Ssrc(ssrc),
                clock_rate: codec.clock_rate(),
                nack,
            }),
            corrupt: 0,
            repaired: 0,
            last_stamp: None,
            packets: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Packets that never came, in whatever form.
    pub fn missing(&self) -> i64 {
        let stats = self.receive.stats();
        // Retransmissions do not count as received (RFC 4588), but duplicates do (RFC 3550).
        stats.lost + stats.duplicates as i64 - stats.recovered as i64
    }

    /// Totals as receiver reports count them.
    pub fn stats(&self) -> ReceiveStats {
        self.receive.stats()
    }

    /// The packets sorted by number.
    pub fn in_order(&self) -> Vec<&ReceivedPacket> {
        let mut packets: Vec<_> = self.packets.iter().collect();
        packets.sort_by_key(|packet| packet.seq);
        packets
    }

    /// Takes a packet; false if it was there before.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        opened: &Opened<'_>,
        extensions: &NegotiatedExtensions,
        keep: bool,
    ) -> bool {
        let header = &opened.header;
        let size_bytes = opened.payload.len();
        let arrival = match opened.repaired {
            false => self
                .receive
                .handle_packet(now, opened.seq, header.timestamp(), size_bytes),
            true => self
                .receive
                .handle_retransmission(now, opened.seq, size_bytes),
        };
        let Arrival::New(seq) = arrival else {
            return false;
        };
        let stamp = payload::verify(opened.codec, opened.payload);
        self.corrupt += u64::from(stamp.is_none());
        self.repaired += u64::from(opened.repaired);
        self.last_stamp = stamp.or(self.last_stamp);
        if !keep || self.packets.len() == KEPT_MAX {
            return true;
        }
        let extension = |id: Option<_>| id.and_then(|id| header.extension(id));
        self.packets.push(ReceivedPacket {
            at: now,
            seq,
            timestamp: header.timestamp(),
            marker: header.marker(),
            payload_type: header.payload_type().0,
            mid: extension(extensions.mid).map(|mid| String::from_utf8_lossy(mid).into_owned()),
            audio_level: extension(extensions.audio_level).and_then(|data| data.first().copied()),
            has_send_times: extension(extensions.abs_send_time).is_some()
                && extension(extensions.transport_seq).is_some(),
            repaired: opened.repaired,
            key_frame: inspect(opened.codec, opened.payload).key_frame,
            stamp,
            payload: opened.payload.to_vec(),
        });
        true
    }

    /// Takes a packet that stays sealed; false if it was there before.
    pub(super) fn handle_header(&mut self, now: Instant, header: &Header<'_>) -> bool {
        let size_bytes = header.payload().len();
        let arrival = self
            .receive
            .handle_packet(now, header.seq(), header.timestamp(), size_bytes);
        matches!(arrival, Arrival::New(_))
    }

    pub(super) fn handle_sender_report(&mut self, now: Instant, info: &SenderInfo) {
        self.receive.handle_sender_report(now, info);
        if self.reports.len() < KEPT_MAX {
            self.reports.push((now, *info));
        }
    }
}
