//! The second half of a packet's walk: from what was kept to the outbox.
//!
//! [`MediaPath::forward_run`] is the one loop over the subscribers. What may not leave yet ([`super::downlink`]) comes back
//! through [`MediaPath::send_paced`]; what was lost, through [`MediaPath::retransmit`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use forwarding::rtp::Seq;
use smallvec::SmallVec;

use super::downlink::{Paced, PacedPacket};
use super::media_path::MediaPath;
use super::route::{Arrival, Lanes, route};
use super::source::{Payload, SourceKey};
use super::subscriber::SubscriberKey;
use super::transport::TransportKey;
use super::waiting::WAITING_MAX;

/// Bytes in the outbox that are sent before more is sealed: they are still in the second-level cache when
/// the kernel copies them. Too low: short system calls. Too high: cache misses, and the first subscriber waits
/// while packets are sealed for the last.
pub(super) const OUTBOX_BYTES: usize = 160 * 1024;

/// Age, and a round trip, of a packet that is asked for from which its viewer will not wait for it much longer. Too low:
/// key frames where a repetition would do. Too high: pictures stand still for as long.
const LATE: Duration = Duration::from_millis(300);

/// No packet that is kept is older.
const AGE_MAX: Duration = Duration::from_secs(10);

/// What became of a packet that a subscriber missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// It is sent again.
    Sent,
    /// It does not come, or so late that its viewer will have given it up, and others refer to it.
    Lost,
}

impl MediaPath {
    /// Takes what waits to all subscribers, until all is done or the outbox is full.
    pub(super) fn forward(&mut self, now: Instant) {
        while let Some(source) = self.waiting.source() {
            if !self.forward_run(now, source) {
                return;
            }
            self.waiting.finish_source();
        }
    }

    /// As [`Self::forward`], however much there is: before something changes that waiting packets rely on.
    pub(super) fn forward_all(&mut self, now: Instant) {
        while self.waiting.source().is_some() {
            self.forward(now);
        }
    }

    /// The one loop over the subscribers: takes what waits of one source to each. Packets that came together for one
    /// subscriber leave together. False if the outbox was full before all had it.
    fn forward_run(&mut self, now: Instant, key: SourceKey) -> bool {
        let Some(source) = self.sources.get(key.0) else {
            return true;
        };
        let (run, subscribers_done) = self.waiting.run();
        let arrivals = run.iter().map(|waiting| {
            let kept = source.stored(&waiting.packet);
            Arrival {
                packet: kept.map_or(&waiting.packet, |(_, stored)| stored.packet),
                kept,
                codec: waiting.codec,
                padding: waiting.padding,
            }
        });
        let arrivals: SmallVec<[Arrival<'_>; WAITING_MAX]> = arrivals.collect();
        while let Some(&subscriber) = source.subscribers.get(*subscribers_done) {
            *subscribers_done += 1;
            let forwarded = catch_unwind(AssertUnwindSafe(|| {
                let mut route = route!(self, now, subscriber);
                for arrival in &arrivals {
                    route.forward(source, arrival);
                }
                self.unarmed.extend(route.settle());
            }));
            if forwarded.is_err() {
                let transport = self.subscribers.get(subscriber.0).map(|it| it.transport);
                self.broken.extend(transport);
            }
            // After at least one, since `forward_all` relies on progress.
            if self.outbox.len_bytes() >= OUTBOX_BYTES {
                return false;
            }
        }
        true
    }

    /// Shows a subscriber that waits for a key frame the last one and all since, if that is worth it. False if another
    /// should be asked for.
    pub(super) fn catch_up(&mut self, now: Instant, key: SubscriberKey) -> bool {
        let Some((source_key, position)) = self.awaited_layer(key) else {
            return false;
        };
        let source = &self.sources[source_key.0];
        let layer = &source.layers[position];
        if layer.last_key_frame.catch_up(now).is_none() {
            return false;
        }
        // Who cannot decode it would have us go through it again and again.
        let is_foreign = |codec| self.subscribers[key.0].mapping(codec).is_none();
        if source.codec.is_some_and(is_foreign) {
            return false;
        }
        // Who has seen more of this camera since would be shown the past.
        let sent_last = self.subscribers[key.0].subscription.rewriter.sent_last();
        if let Some((seen, at)) = sent_last
            && source.layer_of(seen).is_some()
            && layer.last_key_frame.began_at() < Some(at)
        {
            return false;
        }
        // What waits would come a second time.
        self.forward_all(now);
        let source = &self.sources[source_key.0];
        let layer = &source.layers[position];
        let Some(numbers) = layer.last_key_frame.catch_up(now) else {
            return false;
        };
        let mut route = route!(self, now, key);
        route.is_burst = true;
        // It comes again, under another number.
        route.subscriber.open_ended = None;
        route.subscriber.caught_up_at = Some(now);
        for stored in numbers.filter_map(|seq| layer.history.get(seq)) {
            if let Some(Payload::Media(codec)) = source.payload(stored.packet.payload_type) {
                let arrival = Arrival {
                    packet: stored.packet,
                    kept: Some((layer, stored)),
                    codec,
                    padding: 0,
                };
                route.forward(source, &arrival);
            }
        }
        let is_seen = route.subscriber.subscription.selector.current() == Some(layer.id);
        self.unarmed.extend(route.settle());
        is_seen
    }

    /// The layer of whose key frame a subscriber waits.
    fn awaited_layer(&self, key: SubscriberKey) -> Option<(SourceKey, usize)> {
        let subscriber = &self.subscribers[key.0];
        let awaited = subscriber.subscription.selector.awaits_key_frame()?;
        let source = subscriber.source?;
        let position = self.sources[source.0].layer_of(awaited)?;
        Some((source, position))
    }

    /// Sends a packet again that a subscriber missed. `None` if that is not due, or no use.
    pub(super) fn retransmit(
        &mut self,
        now: Instant,
        key: SubscriberKey,
        seq: Seq,
    ) -> Option<Repair> {
        let subscriber = &self.subscribers[key.0];
        let source = &self.sources[subscriber.source?.0];
        let origin = subscriber.subscription.rewriter.unmap(seq)?;
        if subscriber.open_ended.is_some_and(|held| held.is(origin)) {
            return None;
        }
        let layer = &source.layers[source.layer_of(origin.ssrc)?];
        let stored = layer.history.get(origin.seq)?;
        let Some(Payload::Media(codec)) = source.payload(stored.packet.payload_type) else {
            return None;
        };
        let layer_id = stored.packet.frame.layer();
        let selector = &subscriber.subscription.selector;
        let bounds = selector.bounds();
        let is_seen = selector.current() == Some(origin.ssrc);
        let is_base = layer_id.is_none_or(|layer| layer.temporal == 0);
        let is_admitted = layer_id.is_none_or(|layer| bounds.admit(layer));
        if is_seen && is_base && !is_admitted {
            // A picture is decoded whole, and others refer to it. What of its larger frames was lost is not worth
            // repairing on a path that has become too narrow for them, so there must be another to refer to.
            return Some(Repair::Lost);
        }
        let is_seen = is_seen && is_admitted;
        let mapping = subscriber.mapping(codec)?;
        let rewritten = subscriber.subscription.rewriter.replay(stored.packet)?;
        let has_stream = mapping.repair.is_some() && subscriber.repair_template.is_some();
        if !has_stream && !subscriber.may_repeat(rewritten.seq, &stored) {
            return None;
        }
        let is_late = is_seen && is_base && {
            let newest = layer.receive.highest_seq();
            let newest = newest.and_then(|newest| layer.history.get(newest));
            let age = newest.map_or(Duration::ZERO, |newest| {
                let ticks = newest.packet.timestamp.ticks_from(stored.packet.timestamp);
                mapping.clock_rate.duration(ticks)
            });
            let age = match subscriber.caught_up_at {
                Some(at) => age.min(now.saturating_duration_since(at)),
                None => age,
            };
            // Of a packet that is newer than the newest, which has come twice.
            age < AGE_MAX && age >= LATE + subscriber.send.rtt().unwrap_or_default()
        };
        let mut route = route!(self, now, key);
        let bytes = stored.payload.len();
        let may_repair = route.may_repair(is_seen, is_base);
        let wanted = match (may_repair, has_stream && route.is_lossy()) {
            (true, true) => 2,
            (true, false) => 1,
            (false, _) => 0,
        };
        let send = &mut route.subscriber.send;
        let copies = send.retransmit(now, rewritten.seq.seq(), bytes, wanted);
        if copies == 0 {
            return is_late.then_some(Repair::Lost);
        }
        let mut is_sent = true;
        for _ in 0..copies {
            is_sent &= route.hold_back_repair(seq, bytes)
                || (route.repeat(layer, &stored, rewritten, mapping)).is_some();
        }
        self.unarmed.extend(route.settle());
        is_sent.then_some(match is_late {
            true => Repair::Lost,
            false => Repair::Sent,
        })
    }

    /// Sends what had to wait. It may have become impossible since.
    pub(super) fn send_paced(&mut self, now: Instant, paced: &Paced) -> Option<usize> {
        let key = paced.subscriber;
        let subscriber = self.subscribers.get(key.0)?;
        if subscriber.ssrc != paced.ssrc {
            return None;
        }
        let source = &self.sources[subscriber.source?.0];
        let (layer, seq, rewritten) = match &paced.packet {
            PacedPacket::Media {
                layer,
                seq,
                rewritten,
            } => (*layer, *seq, Some(*rewritten)),
            PacedPacket::Repair(seq) => {
                let origin = subscriber.subscription.rewriter.unmap(*seq)?;
                if subscriber.open_ended.is_some_and(|held| held.is(origin)) {
                    return None;
                }
                (origin.ssrc, origin.seq, None)
            }
        };
        let layer = &source.layers[source.layer_of(layer)?];
        let stored = layer.history.get(seq)?;
        let Some(Payload::Media(codec)) = source.payload(stored.packet.payload_type) else {
            return None;
        };
        let mapping = subscriber.mapping(codec)?;
        let mut route = route!(self, now, key);
        let bytes = match rewritten {
            Some(rewritten) => {
                route.send(layer, &stored, rewritten, mapping, 0);
                None
            }
            None => {
                let rewriter = &route.subscriber.subscription.rewriter;
                let rewritten = rewriter.replay(stored.packet)?;
                route.repeat(layer, &stored, rewritten, mapping)
            }
        };
        self.unarmed.extend(route.settle());
        bytes
    }

    /// Sends about `bytes` that nobody needs on a transport, to see if they arrive: a packet that was sent shortly
    /// before, `back` before the last, or padding. False if its peer could not tell.
    pub(super) fn pad(&mut self, now: Instant, key: TransportKey, back: u16, bytes: usize) -> bool {
        let subscribers = self.transports[key.0].subscribers.clone();
        let can_pad = |subscriber: &SubscriberKey| {
            let subscriber = &self.subscribers[subscriber.0];
            subscriber.reports_arrivals && subscriber.repair_template.is_some()
        };
        let Some(subscriber) = subscribers.into_iter().find(can_pad) else {
            return false;
        };
        let it = &self.subscribers[subscriber.0];
        let next = it.subscription.rewriter.next_seq().seq();
        let repair = Paced {
            subscriber,
            ssrc: it.ssrc,
            packet: PacedPacket::Repair(Seq(next.0.wrapping_sub(1 + back))),
        };
        if self.send_paced(now, &repair).is_some() {
            return true;
        }
        let mut route = route!(self, now, subscriber);
        let is_padded = route.pad(bytes).is_some();
        self.unarmed.extend(route.settle());
        is_padded
    }
}
