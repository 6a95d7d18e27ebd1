//! Which simulcast streams anybody watches, so that a publisher need not encode the rest: [`Demand`].
//!
//! Whoever could see a stream that sleeps asks for it in advance: what a way carries is divided a second time as if all
//! streams were sent ([`MediaPath::hopes`]), by what they cost when they were sent last. The smallest stream is always
//! wanted, since it is what everybody begins with, and so is one that was never measured. A publisher may ignore all of
//! this, or stop a stream for reasons of its own: what is sent can be had, whatever was said about it.
//!
//! Deliberately absent: the message to the publisher, which is the application's.

use std::time::{Duration, Instant};

use forwarding::allocation::{self, Grant, Request, allocate};
use forwarding::rate::Bitrate;
use forwarding::rtp::Ssrc;
use media::{Event, LayerDemand};
use smallvec::SmallVec;

use super::delivery::{Claim, request};
use super::media_path::MediaPath;
use super::source::{LAYERS_MAX, Source, SourceKey};
use super::transport::Session;

/// Time for which nobody wants a stream before its publisher is told; bounds how often viewers make encoders start. Too
/// low: who leaves a full screen and returns waits for a key frame. Too high: publishers encode what nobody sees.
const HOLD: Duration = Duration::from_secs(5);

/// Time in which a stream that was asked for should come. Too low: its viewers give up on it while its publisher still
/// tries its path. Too high: for as long, they probe their own for a stream that may never come.
const WAKING: Duration = Duration::from_secs(10);

/// What the publisher of one track was told, by its streams.
#[derive(Debug, Default)]
pub(super) struct Demand {
    streams: SmallVec<[Stream; LAYERS_MAX]>,
}

/// One simulcast stream that has come.
#[derive(Debug)]
struct Stream {
    rid: String,
    is_wanted: bool,
    wanted_at: Instant,
    /// When it was asked for after it was not wanted.
    woken_at: Option<Instant>,
}

impl Stream {
    /// Draws the conclusion from whether anybody wants it. True if that is news.
    fn settle(&mut self, now: Instant, is_wanted: bool) -> bool {
        if is_wanted {
            self.wanted_at = now;
            if !self.is_wanted {
                self.woken_at = Some(now);
            }
            return !std::mem::replace(&mut self.is_wanted, true);
        }
        let is_over = now.saturating_duration_since(self.wanted_at) >= HOLD;
        is_over && std::mem::take(&mut self.is_wanted)
    }

    /// True if it is silent because of what was told, if it is silent.
    fn may_sleep(&self, now: Instant) -> bool {
        let is_waking = |at: Instant| now.saturating_duration_since(at) < WAKING;
        !self.is_wanted || self.woken_at.is_some_and(is_waking)
    }
}

/// What would be given if all streams were sent.
pub(super) struct Hopes {
    /// By claim.
    streams: SmallVec<[Option<Ssrc>; 8]>,
    /// What all would take at their best.
    pub(super) demand: Bitrate,
    /// Not everybody has that.
    pub(super) is_wanting: bool,
}

impl MediaPath {
    /// Divides `budget` as if all streams were sent. `None` if all are.
    pub(super) fn hopes(&self, budget: Bitrate, claims: &[Claim]) -> Option<Hopes> {
        let levels_of = |claim: &Claim| &self.sources[claim.source.0].levels;
        if !claims.iter().any(|claim| levels_of(claim).has_sleepers()) {
            return None;
        }
        let requests = claims.iter().map(|claim| {
            let source = &self.sources[claim.source.0];
            let subscriber = &self.subscribers[claim.subscriber.0];
            request(subscriber, source, source.levels.all())
        });
        let requests: SmallVec<[Request<'_>; 8]> = requests.collect();
        let mut grants = Vec::with_capacity(requests.len());
        allocate(budget, &requests, &mut grants);
        let is_best = |(request, grant): (&Request<'_>, &Grant)| grant.level() == request.best();
        let streams = claims.iter().zip(&grants).map(|(claim, grant)| {
            let levels = levels_of(claim);
            levels.stream_of(levels.all().get(grant.level()?)?)
        });
        Some(Hopes {
            streams: streams.collect(),
            demand: allocation::demand(&requests),
            is_wanting: !requests.iter().zip(&grants).all(is_best),
        })
    }

    /// Has the streams sent that are hoped for.
    pub(super) fn hope(&mut self, now: Instant, claims: &[Claim], hopes: Option<Hopes>) {
        let Some(hopes) = hopes else {
            for claim in claims {
                self.subscribers[claim.subscriber.0].hoped = None;
            }
            return;
        };
        for (claim, hoped) in claims.iter().zip(hopes.streams) {
            let former = std::mem::replace(&mut self.subscribers[claim.subscriber.0].hoped, hoped);
            if let Some(stream) = hoped.filter(|_| hoped != former) {
                self.want(claim.source, stream);
                self.settle_demand(now, claim.source);
            }
        }
    }

    /// True if somebody here or behind another worker sees a layer, should see it, or hopes to.
    pub(super) fn is_wanted(&self, source: &Source, layer: Ssrc) -> bool {
        let here = source.subscribers.iter().any(|subscriber| {
            let subscriber = &self.subscribers[subscriber.0];
            let selector = &subscriber.subscription.selector;
            let streams = [selector.target(), selector.current(), subscriber.hoped];
            streams.contains(&Some(layer))
        });
        let mut trunks = source.trunks.iter();
        here || trunks.any(|trunk| self.trunks[trunk.0].takes(layer))
    }

    /// Tells the application which streams of a track its publisher need not send, if that is news.
    pub(super) fn settle_demand(&mut self, now: Instant, key: SourceKey) {
        let source = &self.sources[key.0];
        let transport = &self.transports[source.transport.0];
        if source.section.simulcast_rids.is_empty()
            || matches!(transport.session, Session::Mirror { .. })
        {
            return;
        }
        let smallest = source.levels.streams().next();
        let mut is_news = false;
        for position in 0..self.sources[key.0].layers.len() {
            let source = &self.sources[key.0];
            let layer = &source.layers[position];
            let is_known = source.levels.streams().any(|id| id == layer.id);
            let is_kept = !is_known || smallest == Some(layer.id);
            let is_wanted = is_kept || self.is_wanted(source, layer.id);
            let source = &mut self.sources[key.0];
            let layer = &mut source.layers[position];
            let Some(rid) = &layer.rid else {
                continue;
            };
            let stream = source.demand.stream(now, rid);
            is_news |= stream.settle(now, is_wanted);
            let may_sleep = stream.may_sleep(now);
            layer.meter.may_sleep = may_sleep;
        }
        if is_news {
            let source = &self.sources[key.0];
            let layers = source.demand.list(&source.section.simulcast_rids);
            let events = &self.transports[source.transport.0].events;
            events.send(Event::LayerDemandChanged(layers));
        }
    }
}

impl Demand {
    /// Forgets streams that are not among those agreed on.
    pub(super) fn keep(&mut self, rids: &[String]) {
        self.streams.retain(|stream| rids.contains(&stream.rid));
    }

    /// What was told of a stream, by its RID, of which there are no more than layers.
    fn stream(&mut self, now: Instant, rid: &str) -> &mut Stream {
        let known = self.streams.iter().position(|stream| stream.rid == rid);
        let position = known.unwrap_or(self.streams.len());
        if known.is_none() {
            self.streams.push(Stream {
                rid: rid.to_owned(),
                is_wanted: true,
                wanted_at: now,
                woken_at: None,
            });
        }
        &mut self.streams[position]
    }

    /// All streams that were agreed on. What has not come yet is wanted.
    fn list(&self, rids: &[String]) -> Vec<LayerDemand> {
        let is_wanted = |rid: &String| {
            let known = self.streams.iter().find(|stream| stream.rid == *rid);
            known.is_none_or(|stream| stream.is_wanted)
        };
        let describe = |rid: &String| LayerDemand {
            rid: rid.clone(),
            wanted: is_wanted(rid),
        };
        rids.iter().map(describe).collect()
    }
}
