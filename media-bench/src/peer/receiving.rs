//! What the peer does with media and reports that come in.

use std::time::Instant;

use forwarding::rtcp::{Packet, Packets};
use forwarding::rtp::{Header, Seq, Ssrc};
use media::MediaKind;
use sfu::engine::srtp::OpenError;

use super::bare::Received;
use super::incoming::{IncomingStream, Opened};
use super::outgoing::Outgoing;
use super::{Peer, STREAMS_MAX};

impl Peer {
    pub(super) fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) {
        let Ok(header) = Header::parse_protected(datagram) else {
            return;
        };
        let (ssrc, header_len) = (header.ssrc().0, header.header_len());
        if self.unopened_left > 0 && self.believe(now, &header) {
            self.unopened_left -= 1;
            return;
        }
        self.unopened_left = self.config.opens_every.saturating_sub(1);
        let Some(srtp) = &self.srtp else {
            return;
        };
        let mut index = self.indices.get(&ssrc).cloned().unwrap_or_default();
        let len = match srtp.opener.open_rtp(&mut index, header_len, datagram) {
            Ok(len) => len,
            Err(OpenError::Replayed | OpenError::TooOld) => {
                self.counters.replayed += 1;
                return;
            }
            Err(_) => {
                self.counters.unauthentic += 1;
                return;
            }
        };
        if self.indices.len() < STREAMS_MAX || self.indices.contains_key(&ssrc) {
            self.indices.insert(ssrc, index);
        }
        self.counters.rtp += 1;
        if self.config.bare {
            let received = Received::Rtp(datagram[..len].to_vec());
            return self.received.push_back(received);
        }
        let Ok(header) = Header::parse(&datagram[..len]) else {
            return;
        };
        let Some((kind, codec, repaired)) = self.formats[usize::from(header.payload_type().0)]
        else {
            self.counters.unknown += 1;
            return;
        };
        let extensions = self.config.extensions(kind);
        self.note_arrival(now, kind, &header);
        let (ssrc, seq, payload) = match repaired {
            false => (ssrc, header.seq(), header.payload()),
            true => {
                let media = self
                    .answer
                    .as_ref()
                    .and_then(|answer| answer.section(kind)?.ssrcs.first().copied());
                let split = header.payload().split_first_chunk::<2>();
                let (Some(media), Some((original, payload))) = (media, split) else {
                    self.counters.unknown += 1;
                    return;
                };
                (media, Seq(u16::from_be_bytes(*original)), payload)
            }
        };
        if self.incoming.len() >= STREAMS_MAX && !self.incoming.contains_key(&ssrc) {
            return;
        }
        let nack = kind == MediaKind::Video && self.config.sends_nacks;
        let stream = self
            .incoming
            .entry(ssrc)
            .or_insert_with(|| IncomingStream::new(kind, codec, ssrc, nack));
        let opened = Opened {
            header,
            codec,
            seq,
            payload,
            repaired,
        };
        let keep = self.config.keeps_packets;
        if !stream.handle_packet(now, &opened, &extensions, keep) {
            match repaired {
                true => self.counters.useless_repairs += 1,
                false => self.counters.duplicates += 1,
            }
        }
        self.last_stamp = stream.last_stamp;
    }

    /// Counts a packet of a known stream by its header alone; false if it must be opened.
    pub(super) fn believe(&mut self, now: Instant, header: &Header<'_>) -> bool {
        let Some((kind, _, false)) = self.formats[usize::from(header.payload_type().0)] else {
            return false;
        };
        let Some(stream) = self.incoming.get_mut(&header.ssrc().0) else {
            return false;
        };
        self.counters.unopened += 1;
        if !stream.handle_header(now, header) {
            self.counters.duplicates += 1;
        }
        self.note_arrival(now, kind, header);
        true
    }

    pub(super) fn note_arrival(&mut self, now: Instant, kind: MediaKind, header: &Header<'_>) {
        let id = self.config.extensions(kind).transport_seq;
        if let Some(seq) = id.and_then(|id| header.extension(id)?.first_chunk::<2>().copied()) {
            let seq = Seq(u16::from_be_bytes(seq));
            self.arrivals.handle_packet(now, seq);
        }
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8]) {
        let Some(srtp) = &mut self.srtp else {
            return;
        };
        let Ok(len) = srtp.opener.open_rtcp(datagram) else {
            self.counters.unauthentic += 1;
            return;
        };
        self.counters.rtcp += 1;
        if self.config.bare {
            let received = Received::Rtcp(datagram[..len].to_vec());
            return self.received.push_back(received);
        }
        for packet in Packets::new(&datagram[..len]).map_while(Result::ok) {
            self.handle_rtcp_packet(now, &packet);
        }
    }

    pub(super) fn handle_rtcp_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let blocks = match packet {
            Packet::SenderReport(report) => {
                if let Some(stream) = self.incoming.get_mut(&report.sender.0) {
                    stream.handle_sender_report(now, &report.info);
                }
                report.blocks
            }
            Packet::ReceiverReport(report) => report.blocks,
            Packet::Nack(nack) => return self.handle_nack(now, nack.media, nack.seqs()),
            Packet::PictureLoss(media) => {
                if let Some(stream) = self.outgoing_mut(*media) {
                    stream.feedback.picture_losses += 1;
                    stream.wants_key_frame = true;
                }
                return;
            }
            Packet::FullIntraRequest(request) => {
                for (media, _) in request.entries() {
                    if let Some(stream) = self.outgoing_mut(media) {
                        stream.feedback.full_intra_requests += 1;
                        stream.wants_key_frame = true;
                    }
                }
                return;
            }
            Packet::Remb(remb) => {
                self.remb = Some(remb.bitrate.0);
                return;
            }
            Packet::TransportFeedback(content) => {
                self.counters.transport_feedbacks += 1;
                if let Some([_, _, high, low]) = content.first_chunk() {
                    let count = u16::from_be_bytes([*high, *low]);
                    self.counters.transport_statuses += u64::from(count);
                }
                return;
            }
            _ => return,
        };
        for block in blocks {
            if let Some(stream) = self.outgoing_mut(block.ssrc) {
                stream.feedback.reports += 1;
                stream.feedback.report = Some(block);
                stream.send.handle_report(now, &block);
            }
        }
    }

    pub(super) fn outgoing_mut(&mut self, ssrc: Ssrc) -> Option<&mut Outgoing> {
        self.outgoing
            .iter_mut()
            .find(|stream| stream.ssrc == ssrc.0)
    }

    pub(super) fn handle_nack(
        &mut self,
        now: Instant,
        media: Ssrc,
        seqs: impl Iterator<Item = Seq>,
    ) {
        let sending = self.sending(now);
        let Some(stream) = self
            .outgoing
            .iter_mut()
            .find(|stream| stream.ssrc == media.0)
        else {
            return;
        };
        let seqs = stream.handle_nack(seqs);
        let Some(srtp) = self.srtp.as_ref().filter(|_| self.config.answers_nacks) else {
            return;
        };
        for seq in seqs {
            let again = stream.retransmit(&sending, seq, &mut self.transport_seq, &srtp.sealer);
            self.transmits.extend(again);
        }
    }
}
