//! Media, reports and requests that the peer sends.

use std::time::Instant;

use forwarding::rate::Bitrate;
use forwarding::rtcp::{
    write_full_intra_request, write_nacks, write_picture_loss, write_receiver_report, write_remb,
    write_sdes_cname, write_sender_report,
};
use forwarding::rtp::{Seq, Ssrc};
use media::MediaKind;

use super::Peer;
use super::outgoing::{Pace, Sending};

impl Peer {
    pub(super) fn sending(&self, now: Instant) -> Sending {
        Sending {
            now,
            abs_send_time: self.clock.abs_send_time(now),
            sent_micros: now.saturating_duration_since(self.clock.at).as_micros() as u64,
        }
    }

    /// Sends a kind by itself from `now` on, or not any more.
    pub fn set_pace(&mut self, now: Instant, kind: MediaKind, pace: Option<Pace>) {
        if let Some(stream) = self.stream_mut(kind) {
            stream.set_pace(now, pace);
        }
    }

    /// Makes the next frame a key frame.
    pub fn force_key_frame(&mut self) {
        if let Some(stream) = self.stream_mut(MediaKind::Video) {
            stream.wants_key_frame = true;
        }
    }

    /// Sends one frame. Nothing before the peer is connected.
    pub fn send_frame(&mut self, now: Instant, kind: MediaKind, pace: &Pace) {
        let sending = self.sending(now);
        let stream = self.outgoing.iter_mut().find(|stream| stream.kind == kind);
        if let (Some(stream), Some(srtp)) = (stream, &self.srtp) {
            stream.send_frame(
                &sending,
                pace,
                &mut self.transport_seq,
                &srtp.sealer,
                &mut self.transmits,
            );
        }
    }

    /// Seals and sends a packet as it is: header of `header_len` bytes, and payload. The roll-over
    /// count is 0.
    ///
    /// # Panics
    /// As [`Self::seal_rtp`].
    pub fn send_rtp(&mut self, header_len: usize, packet: &[u8]) {
        let index = u64::from(u16::from_be_bytes([packet[2], packet[3]]));
        let sealed = self.seal_rtp(index, header_len, packet);
        self.transmits.extend(sealed);
    }

    /// Seals and sends RTCP.
    pub fn send_rtcp(&mut self, compound: Vec<u8>) {
        let sealed = self.seal_rtcp(compound);
        self.transmits.extend(sealed);
    }

    /// SSRC under which feedback is sent.
    pub(super) fn own_ssrc(&self) -> Ssrc {
        Ssrc(self.ssrcs[MediaKind::Video as usize][0])
    }

    pub(super) fn received_ssrc(&self, kind: MediaKind) -> Option<Ssrc> {
        let announced = self
            .answer
            .as_ref()
            .and_then(|answer| answer.section(kind)?.ssrcs.first().copied());
        announced
            .or_else(|| self.received(kind).map(|stream| stream.ssrc))
            .map(Ssrc)
    }

    /// Sends a PLI.
    pub fn send_picture_loss(&mut self) {
        if let Some(media) = self.received_ssrc(MediaKind::Video) {
            let mut compound = Vec::new();
            write_picture_loss(&mut compound, self.own_ssrc(), media);
            self.send_rtcp(compound);
        }
    }

    /// Sends a FIR.
    pub fn send_full_intra_request(&mut self) {
        if let Some(media) = self.received_ssrc(MediaKind::Video) {
            let mut compound = Vec::new();
            write_full_intra_request(&mut compound, self.own_ssrc(), media, self.fir_count);
            self.fir_count = self.fir_count.wrapping_add(1);
            self.send_rtcp(compound);
        }
    }

    /// Asks for packets again.
    pub fn send_nack(&mut self, kind: MediaKind, seqs: &[Seq]) {
        if let Some(media) = self.received_ssrc(kind) {
            let mut compound = Vec::new();
            write_nacks(&mut compound, self.own_ssrc(), media, seqs);
            self.send_rtcp(compound);
        }
    }

    /// Tells the server how much it may send, in bit/s.
    pub fn send_remb(&mut self, bits_per_second: u64) {
        if let Some(media) = self.received_ssrc(MediaKind::Video) {
            let mut compound = Vec::new();
            let bitrate = Bitrate(bits_per_second);
            write_remb(&mut compound, self.own_ssrc(), bitrate, &[media]);
            self.send_rtcp(compound);
        }
    }

    /// Asks for what is missing, and tells what arrived.
    pub(super) fn send_feedback(&mut self, now: Instant) {
        let ours = self.own_ssrc();
        let mut compound = Vec::new();
        let mut missing = Vec::new();
        for stream in self.incoming.values_mut() {
            missing.clear();
            stream.receive.poll_nacks(now, None, &mut missing);
            if !missing.is_empty() {
                write_nacks(&mut compound, ours, Ssrc(stream.ssrc), &missing);
            }
            if stream.receive.poll_key_frame_request() {
                write_picture_loss(&mut compound, ours, Ssrc(stream.ssrc));
            }
        }
        while self.arrivals.poll(now, ours, ours, &mut compound) {}
        if !compound.is_empty() {
            self.send_rtcp(compound);
        }
    }

    pub(super) fn send_reports(&mut self, now: Instant) {
        let ntp = self.clock.ntp(now);
        let ours = self.own_ssrc();
        let blocks: Vec<_> = self
            .incoming
            .values_mut()
            .filter_map(|stream| stream.receive.report(now))
            .collect();
        let mut compound = Vec::new();
        let mut told = false;
        for stream in &mut self.outgoing {
            if let Some(info) = stream.send.sender_report(now, ntp, None) {
                let blocks = if told { &[][..] } else { &blocks };
                write_sender_report(&mut compound, Ssrc(stream.ssrc), &info, blocks);
                told = true;
            }
        }
        if !told {
            write_receiver_report(&mut compound, ours, &blocks);
        }
        write_sdes_cname(&mut compound, ours, "peer");
        self.send_rtcp(compound);
    }
}
