//! RTCP: what peers report and ask for, and what we report and ask of them.
//!
//! [`MediaPath::handle_rtcp`] takes compounds in; [`MediaPath::handle_due`] sends what is due on a
//! transport: reports, loss and key-frame requests, transport-wide feedback. A NACK or key-frame
//! request of a subscriber is answered here from the shared history or passed on, coalesced, to the
//! publisher.

use std::time::{Duration, Instant};

use forwarding::rate::Bitrate;
use forwarding::rtcp::{
    Packet, Packets, ReportBlock, write_full_intra_request, write_goodbye, write_nacks,
    write_picture_loss, write_receiver_report, write_remb, write_sdes_cname, write_sender_report,
};
use forwarding::rtp::Ssrc;
use media::{Event, MediaKind};
use slab::Slab;
use smallvec::SmallVec;

use super::counters::Discard;
use super::downlink::Membership;
use super::forward::Repair;
use super::media_path::MediaPath;
use super::source::SourceKey;
use super::subscriber::{Subscriber, SubscriberKey};
use super::transport::{Protection, Session, Transport, TransportKey};

/// Between reports of one transport. Too short: RTCP traffic that nobody needs. Too long: peers learn
/// of loss, round trip and lip sync late.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Reports without a packet, after which media no longer flows: 2 to 3 s, as Kurento takes 2 to 4. Too low: a pause of the
/// network is told as an end. Too high: the end is told late.
const QUIET_REPORTS_MAX: u8 = 2;

/// Moments in a [`REPORT_INTERVAL`] at which reports leave; each transport keeps to one. Too few: bursts of reports. Too
/// many: a wake-up for each.
const REPORT_SLOTS: u32 = 20;

/// Bytes of a datagram of RTCP that is read. Peers keep to what a path carries whole. Too high: one datagram, sent in
/// fragments, has us work for many.
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// What one datagram may ask for. Too low: a burst of loss is repaired in part only. Too high: one datagram has us search
/// for a long time.
const BUDGET: Budget = Budget {
    nacked: 512,
    feedbacks: 8,
    key_frames: 16,
};

/// What a datagram may still ask for, and what waits until it is read.
struct Budget {
    /// Numbers that its NACKs name.
    nacked: usize,
    /// Pieces of transport-wide feedback.
    feedbacks: usize,
    /// Requests for key frames.
    key_frames: usize,
}

impl MediaPath {
    /// Takes one RTCP packet of a transport's peer.
    pub(super) fn handle_rtcp(
        &mut self,
        now: Instant,
        key: TransportKey,
        datagram: &mut [u8],
    ) -> Result<(), Discard> {
        let transport = &mut self.transports[key.0];
        let Some(protection) = &mut transport.protection else {
            return Err(Discard::NoKeys);
        };
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Discard::Malformed);
        }
        let len = protection.open_rtcp(datagram)?;
        transport.touch(now);
        self.counters.rtcp_received += 1;
        let (mut budget, mut remb) = (BUDGET, None);
        let mut read = Ok(());
        for packet in Packets::new(&datagram[..len]) {
            match packet {
                // The last counts: each may have what the way carries divided anew.
                Ok(Packet::Remb(latest)) => remb = Some(latest.bitrate),
                Ok(packet) => self.handle_packet(now, key, &packet, &mut budget),
                Err(_) => read = Err(Discard::Malformed),
            }
        }
        if let Some(remb) = remb {
            self.handle_estimate(now, key, remb);
        }
        read
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        key: TransportKey,
        packet: &Packet<'_>,
        budget: &mut Budget,
    ) {
        match packet {
            Packet::SenderReport(report) => {
                if let Some((source, layer)) = self.incoming(key, report.sender) {
                    let receive = &mut self.sources[source.0].layers[layer].receive;
                    receive.handle_sender_report(now, &report.info);
                    let local = self.clock.ntp(now);
                    let clock = &mut self.transports[key.0].publisher_clock;
                    clock.handle_sender_report(local, report.info.ntp);
                }
                self.handle_blocks(now, key, report.blocks);
            }
            Packet::ReceiverReport(report) => self.handle_blocks(now, key, report.blocks),
            Packet::Nack(nack) => {
                let Some(subscriber) = self.outgoing(key, nack.media) else {
                    return;
                };
                let mut is_lost = false;
                for seq in nack.seqs().take(budget.nacked) {
                    budget.nacked -= 1;
                    let repair = self.retransmit(now, subscriber, seq);
                    is_lost |= repair == Some(Repair::Lost);
                }
                // Its viewer would ask itself, but only after seconds without a picture.
                if is_lost {
                    self.grant_key_frame(now, subscriber, budget);
                }
            }
            Packet::PictureLoss(media) => {
                if let Some(subscriber) = self.outgoing(key, *media) {
                    self.subscribers[subscriber.0].pli_count += 1;
                    self.grant_key_frame(now, subscriber, budget);
                }
            }
            Packet::FullIntraRequest(request) => {
                for (media, _) in request.entries() {
                    if let Some(subscriber) = self.outgoing(key, media) {
                        self.subscribers[subscriber.0].fir_count += 1;
                        self.grant_key_frame(now, subscriber, budget);
                    }
                }
            }
            Packet::TransportFeedback(feedback) if budget.feedbacks > 0 => {
                budget.feedbacks -= 1;
                self.handle_arrivals(now, key, feedback);
            }
            Packet::Goodbye(goodbye) => {
                let is_gone = |ssrc: Ssrc| goodbye.ssrcs().any(|gone| gone == ssrc);
                self.transports[key.0].handle_goodbye(is_gone);
            }
            _ => {}
        }
    }

    fn grant_key_frame(&mut self, now: Instant, key: SubscriberKey, budget: &mut Budget) {
        if budget.key_frames > 0 {
            budget.key_frames -= 1;
            self.request_key_frame(now, key);
        }
    }

    /// Takes note of what a peer estimates that the way to it carries. Nobody is believed who has not agreed to say so, or
    /// whom anybody can pretend to be.
    fn handle_estimate(&mut self, now: Instant, key: TransportKey, estimate: Bitrate) {
        let transport = &self.transports[key.0];
        if !matches!(transport.protection, Some(Protection::Keys { .. })) {
            return;
        }
        let mut is_believed = false;
        for subscriber in &transport.subscribers {
            let subscriber = &mut self.subscribers[subscriber.0];
            if subscriber.reports_estimates() {
                subscriber.remb_bps = Some(estimate.0);
                is_believed = true;
            }
        }
        if is_believed {
            self.handle_remb(now, key, estimate);
        }
    }

    fn handle_blocks(
        &mut self,
        now: Instant,
        key: TransportKey,
        blocks: impl Iterator<Item = ReportBlock>,
    ) {
        for block in blocks {
            if let Some(subscriber) = self.outgoing(key, block.ssrc) {
                let send = &mut self.subscribers[subscriber.0].send;
                send.handle_report(now, &block);
            }
        }
    }

    /// The layer that an SSRC of the peer carries.
    fn incoming(&mut self, key: TransportKey, ssrc: Ssrc) -> Option<(SourceKey, usize)> {
        let transport = &mut self.transports[key.0];
        let position = transport.inbound_of(ssrc)?;
        let stream = &transport.inbound[position];
        (!stream.repair).then_some((stream.source, stream.layer))
    }

    /// The track that an SSRC of ours carries towards this peer.
    fn outgoing(&self, key: TransportKey, ssrc: Ssrc) -> Option<SubscriberKey> {
        let subscribers = &self.transports[key.0].subscribers;
        subscribers
            .iter()
            .copied()
            .find(|subscriber| self.subscribers[subscriber.0].ssrc == ssrc)
    }

    /// Asks the publisher of what `subscriber` sees, or should see, for a key frame.
    pub(super) fn request_key_frame(&mut self, now: Instant, key: SubscriberKey) {
        let subscriber = &self.subscribers[key.0];
        let Some(source) = subscriber.source else {
            return;
        };
        // One that came before the subscriber can receive would be lost on it, and the throttle would hold
        // back the one it can use. Connecting asks again.
        if !self.transports[subscriber.transport.0].reaches_peer() {
            return;
        }
        let selector = &subscriber.subscription.selector;
        let Some(wanted) = selector.target() else {
            return;
        };
        let is_new = selector.awaits_key_frame() == Some(wanted);
        if !(is_new && self.catch_up(now, key)) {
            self.request_key_frame_of(now, source, wanted);
        }
    }

    /// As [`Self::request_key_frame`], to see more than what is seen.
    pub(super) fn wish_for_key_frame(&mut self, now: Instant, key: SubscriberKey) {
        let subscriber = &self.subscribers[key.0];
        let (Some(source_key), Some(wanted)) =
            (subscriber.source, subscriber.subscription.selector.target())
        else {
            return;
        };
        let source = &mut self.sources[source_key.0];
        let Some(layer) = source.layer_of(wanted) else {
            return;
        };
        let asked_at = source
            .layers
            .iter()
            .map(|layer| layer.key_frames.asked_at());
        let asked_at = asked_at.max().flatten();
        self.unarmed.push(source.transport);
        if source.layers[layer].key_frames.handle_wish(now, asked_at) {
            self.send_request(source_key, layer);
        }
    }

    /// As [`Self::request_key_frame`], for the layer with `id`.
    pub(super) fn request_key_frame_of(&mut self, now: Instant, key: SourceKey, id: Ssrc) {
        let source = &mut self.sources[key.0];
        let transport = source.transport;
        let Some(layer) = source.layer_of(id) else {
            return;
        };
        let is_watched = source.kind == MediaKind::Video && source.is_watched();
        self.unarmed.push(transport);
        if is_watched && source.layers[layer].key_frames.handle_request(now) {
            self.send_request(key, layer);
        }
    }

    fn send_request(&mut self, key: SourceKey, layer: usize) {
        let transport = self.sources[key.0].transport;
        self.begin_feedback(transport);
        self.ask_for_key_frame(key, layer);
        self.send_rtcp(transport);
    }

    /// Appends the request in the form that the publisher understands.
    fn ask_for_key_frame(&mut self, key: SourceKey, layer: usize) {
        let source = &self.sources[key.0];
        if self.want_key_frame(source.transport, source.layers[layer].ssrc) {
            return;
        }
        let source = &self.sources[key.0];
        let Some(codec) = source.codec.or(Some(0)) else {
            return;
        };
        let Some(description) = source.section.codecs.get(usize::from(codec)) else {
            return;
        };
        let (ours, theirs) = (Ssrc(source.section.local_ssrc), source.layers[layer].ssrc);
        let transport = &mut self.transports[source.transport.0];
        let asked_for = description.feedback.fir || description.feedback.pli;
        if !asked_for && matches!(transport.session, Session::Plain(_)) {
            // The peer speaks the profile without feedback (RFC 3551).
            return;
        }
        let rtcp = &mut transport.rtcp;
        // PLI unless only FIR was negotiated: FIR makes some encoders reset their rate.
        if description.feedback.fir && !description.feedback.pli {
            let number = source.layers[layer].key_frames.requests() as u8;
            write_full_intra_request(rtcp, ours, theirs, number);
        } else {
            write_picture_loss(rtcp, ours, theirs);
        }
        self.counters.key_frames_requested += 1;
    }

    /// Sends everything that is due on a transport.
    pub(super) fn handle_due(&mut self, now: Instant, key: TransportKey) {
        // Others share the way, and need not wait for this one's handshake.
        self.serve_downlink(now, key);
        if self.transports[key.0].protection.is_none() {
            return;
        }
        if self.transports[key.0]
            .held_until
            .is_some_and(|at| at <= now)
        {
            self.release_held(now, key);
        }
        self.send_feedback(now, key);
        if self.transports[key.0]
            .reports_at
            .is_some_and(|at| at <= now)
        {
            self.send_reports(now, key);
            let offset = REPORT_INTERVAL / REPORT_SLOTS * (key.0 as u32 % REPORT_SLOTS);
            let next = self.clock.next_slot(now, REPORT_INTERVAL, offset);
            self.transports[key.0].reports_at = Some(next);
        }
    }

    /// Loss and key-frame requests and transport-wide feedback to a publisher.
    pub(super) fn send_feedback(&mut self, now: Instant, key: TransportKey) {
        self.begin_feedback(key);
        let empty = self.transports[key.0].rtcp.len();
        for source_key in self.transports[key.0].sources.clone() {
            for layer in 0..self.sources[source_key.0].layers.len() {
                if self.sources[source_key.0].layers[layer]
                    .key_frames
                    .poll(now)
                {
                    self.ask_for_key_frame(source_key, layer);
                }
                self.ask_for_missing(now, source_key, layer);
            }
        }
        let transport = &mut self.transports[key.0];
        if let Some(source) = transport.sources.first() {
            let source = &self.sources[source.0];
            let ours = Ssrc(source.section.local_ssrc);
            let theirs = source.layers.first().map_or(ours, |layer| layer.ssrc);
            while transport
                .feedback
                .poll(now, ours, theirs, &mut transport.rtcp)
            {}
        }
        if transport.rtcp.len() > empty {
            self.send_rtcp(key);
        } else {
            self.transports[key.0].rtcp.clear();
        }
    }

    fn ask_for_missing(&mut self, now: Instant, key: SourceKey, layer: usize) {
        let source = &mut self.sources[key.0];
        let rtt = source_rtt(&self.transports[source.transport.0], &self.subscribers);
        let ours = Ssrc(source.section.local_ssrc);
        let is_watched = source.kind == MediaKind::Video && source.is_watched();
        let stream = &mut source.layers[layer];
        self.missing.clear();
        stream.receive.poll_nacks(now, rtt, &mut self.missing);
        if !self.missing.is_empty() {
            let rtcp = &mut self.transports[source.transport.0].rtcp;
            write_nacks(rtcp, ours, stream.ssrc, &self.missing);
            self.counters.nacks_sent += self.missing.len() as u64;
        }
        let lost_for_good = stream.receive.poll_key_frame_request();
        if lost_for_good && is_watched && stream.key_frames.handle_request(now) {
            self.ask_for_key_frame(key, layer);
        }
    }

    /// Sender reports for what we send, receiver reports and REMB for what we get.
    fn send_reports(&mut self, now: Instant, key: TransportKey) {
        self.transports[key.0].listen_for_silence(now);
        // Not at once: a peer may report a thousand times a second.
        self.relay_reports(key);
        self.tell_silence(key);
        self.listen(now, key);
        self.divide_for(now, key);
        for source in self.transports[key.0].sources.clone() {
            self.settle_demand(now, source);
        }
        for subscriber in self.transports[key.0].subscribers.clone() {
            self.tell_delivery(subscriber);
        }
        let ntp = self.clock.ntp(now);
        let blocks = self.report_blocks(now, key);
        let mut sent_blocks = false;
        for subscriber_key in self.transports[key.0].subscribers.clone() {
            let subscriber = &mut self.subscribers[subscriber_key.0];
            if !subscriber.section.send {
                continue;
            }
            subscriber.measure(now);
            let reference = subscriber.source.and_then(|source| {
                let source = &self.sources[source.0];
                let seen = subscriber.subscription.selector.current()?;
                let point = source.layers[source.layer_of(seen)?]
                    .receive
                    .reference_point()?;
                let clock = &self.transports[source.transport.0].publisher_clock;
                let offset = subscriber.subscription.rewriter.timestamp_offset()?;
                Some(clock.to_local(&point)?.shifted(offset))
            });
            let Some(info) = subscriber.send.sender_report(now, ntp, reference.as_ref()) else {
                continue;
            };
            let rtcp = &mut self.transports[key.0].rtcp;
            let blocks: &[ReportBlock] = if sent_blocks { &[] } else { &blocks };
            write_sender_report(rtcp, subscriber.ssrc, &info, blocks);
            write_sdes_cname(rtcp, subscriber.ssrc, &subscriber.section.cname);
            sent_blocks = true;
        }
        if !sent_blocks && !blocks.is_empty() {
            self.begin_compound(key, &blocks);
        }
        self.write_rembs(now, key);
        self.send_rtcp(key);
    }

    /// Tells the application of media that ceased to arrive. Of the first packet it hears at once.
    fn tell_silence(&mut self, key: TransportKey) {
        let transport = &self.transports[key.0];
        for source in &transport.sources {
            let source = &mut self.sources[source.0];
            source.quiet_reports = source.quiet_reports.saturating_add(1);
            if source.flowing && source.quiet_reports > QUIET_REPORTS_MAX {
                source.flowing = false;
                let (kind, flowing) = (source.kind, false);
                let event = Event::MediaFlowInChanged { kind, flowing };
                transport.events.send(event);
            }
        }
    }

    fn report_blocks(&mut self, now: Instant, key: TransportKey) -> SmallVec<[ReportBlock; 4]> {
        let mut blocks = SmallVec::new();
        for source in &self.transports[key.0].sources {
            for layer in &mut self.sources[source.0].layers {
                blocks.extend(layer.receive.report(now));
            }
        }
        blocks
    }

    /// Tells the publisher how much it may send: within the limits of its endpoint and of those who
    /// watch it.
    fn write_rembs(&mut self, now: Instant, key: TransportKey) {
        for source in self.transports[key.0].sources.clone() {
            if let Some(bitrate) = self.remb(now, source, true) {
                self.write_remb(source, bitrate);
            }
        }
    }

    /// Tells the publisher at once if it may send less than it was told, because its viewers can take less.
    pub(super) fn hurry_remb(&mut self, now: Instant, key: SourceKey) {
        let transport = self.sources[key.0].transport;
        if self.transports[transport.0].protection.is_some()
            && let Some(bitrate) = self.remb(now, key, false)
        {
            self.begin_feedback(transport);
            self.write_remb(key, bitrate);
            self.send_rtcp(transport);
        }
    }

    /// What the publisher of a track should be told that it may send, if it is time and it understands.
    fn remb(&mut self, now: Instant, key: SourceKey, is_report: bool) -> Option<Bitrate> {
        let source = &self.sources[key.0];
        let feedback = &source
            .section
            .codecs
            .get(usize::from(source.codec?))?
            .feedback;
        if source.kind != MediaKind::Video || !feedback.remb {
            return None;
        }
        let has_own_estimate = feedback.transport_cc;
        let viewers = self.viewers_limit(source);
        let ceiling = self.viewers_ceiling(source).limit();
        let source = &mut self.sources[key.0];
        let viewers = viewers.into_iter().chain(ceiling).min();
        source.estimate.set_viewers(viewers);
        // Who learns what arrives knows better what the way here carries.
        if is_report && !has_own_estimate {
            let streams = source.layers.iter_mut().map(|layer| &mut layer.receive);
            let (mut fraction_lost, mut received) = (0, Bitrate(0));
            for stream in streams {
                fraction_lost = fraction_lost.max(stream.stats().fraction_lost);
                received.0 = received.0.saturating_add(stream.bitrate(now).0);
            }
            source.estimate.handle_report(now, fraction_lost, received);
        }
        source.estimate.poll(now)
    }

    fn write_remb(&mut self, key: SourceKey, bitrate: Bitrate) {
        let source = &self.sources[key.0];
        let ours = Ssrc(source.section.local_ssrc);
        let streams: SmallVec<[Ssrc; 4]> = source.layers.iter().map(|layer| layer.ssrc).collect();
        let rtcp = &mut self.transports[source.transport.0].rtcp;
        write_remb(rtcp, ours, bitrate, &streams);
    }

    /// Begins a compound for feedback: an empty receiver report, unless reduced size was negotiated
    /// (RFC 5506).
    fn begin_feedback(&mut self, key: TransportKey) {
        let reduced = self.transports[key.0]
            .sources
            .iter()
            .all(|source| self.sources[source.0].section.reduced_size);
        if !reduced {
            self.begin_compound(key, &[]);
        }
    }

    fn begin_compound(&mut self, key: TransportKey, blocks: &[ReportBlock]) {
        let transport = &mut self.transports[key.0];
        let section = match (transport.sources.first(), transport.subscribers.first()) {
            (Some(source), _) => &self.sources[source.0].section,
            (None, Some(subscriber)) => &self.subscribers[subscriber.0].section,
            (None, None) => return,
        };
        let ours = Ssrc(section.local_ssrc);
        write_receiver_report(&mut transport.rtcp, ours, blocks);
        write_sdes_cname(&mut transport.rtcp, ours, &section.cname);
    }

    /// Ends what we send to a plain peer (RFC 3550, section 6.6).
    pub(super) fn send_goodbye(&mut self, key: TransportKey) {
        let Some(subscriber) = self.transports[key.0].subscribers.first() else {
            return;
        };
        let ours = self.subscribers[subscriber.0].ssrc;
        self.begin_compound(key, &[]);
        write_goodbye(&mut self.transports[key.0].rtcp, &[ours]);
        self.send_rtcp(key);
    }

    fn send_rtcp(&mut self, key: TransportKey) {
        if self.transports[key.0].send_rtcp(&mut self.outbox) {
            self.counters.rtcp_sent += 1;
        }
    }

    /// The earliest moment at which [`Self::handle_due`] has something to send.
    pub(super) fn due_at(&self, key: TransportKey) -> Option<Instant> {
        let transport = &self.transports[key.0];
        let downlink_at = transport.downlink.and_then(|Membership { downlink, .. }| {
            let downlink = &self.downlinks[downlink.0];
            downlink.poll_timeout(key)
        });
        if transport.protection.is_none() {
            return downlink_at;
        }
        // Without a source there is nobody to report arrivals for: they stay, and must not be waited for.
        let feedback_at = transport
            .feedback
            .poll_timeout()
            .filter(|_| !transport.sources.is_empty());
        transport
            .sources
            .iter()
            .map(|source| self.sources[source.0].poll_timeout())
            .chain([transport.reports_at, transport.held_until])
            .chain([feedback_at, downlink_at])
            .flatten()
            .min()
    }
}

/// Round trip to a publisher, if it also receives from us and reports on that.
fn source_rtt(transport: &Transport, subscribers: &Slab<Subscriber>) -> Option<Duration> {
    transport
        .subscribers
        .iter()
        .find_map(|key| subscribers[key.0].send.rtt())
}
