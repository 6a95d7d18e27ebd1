//! Which quality of each video a participant gets: [`MediaPath::divide`].
//!
//! One budget for all that goes down one way ([`super::downlink`]). It is divided when the estimate changes, when what
//! can be had or what is wanted does, and once a second. Deliberately absent: the rules ([`forwarding::allocation`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use forwarding::allocation::{
    self, Grant, Level, PauseReason as Reason, Priority, Request, Wishes, allocate,
};
use forwarding::codec::{Codec, LayerId};
use forwarding::rate::Bitrate;
use media::{Event, MediaKind, PauseReason, VideoDelivery, VideoLayer, VideoPriority};
use smallvec::SmallVec;

use super::downlink::{DownlinkKey, Membership};
use super::media_path::MediaPath;
use super::source::{Source, SourceKey};
use super::subscriber::{Subscriber, SubscriberKey};
use super::transport::TransportKey;

/// Share of the rate of a video's least level at which it is sent although it does not fit. Too low: slow paths are
/// flooded. Too high: pictures stop that would soon have fitted, or that the estimate has missed by little.
const BEARABLE: f64 = 0.6;

/// A subscription that wants a share.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) subscriber: SubscriberKey,
    pub(super) source: SourceKey,
}

impl MediaPath {
    /// Divides what a way carries among its subscriptions.
    pub(super) fn divide(&mut self, now: Instant, key: DownlinkKey) {
        let mut claims: SmallVec<[Claim; 8]> = SmallVec::new();
        let mut reports = false;
        for member in self.downlinks[key.0].members() {
            for subscriber in &self.transports[member.0].subscribers {
                let Some(it) = self.subscribers.get(subscriber.0) else {
                    continue;
                };
                reports |= it.reports_arrivals || it.reports_estimates();
                if let Some(source) = it.source.filter(|_| it.section.send) {
                    let subscriber = *subscriber;
                    claims.push(Claim { subscriber, source });
                }
            }
        }
        for claim in &claims {
            self.sources[claim.source.0].measure(now);
        }
        let mut requests: SmallVec<[Request<'_>; 8]> = SmallVec::new();
        for claim in &claims {
            let source = &self.sources[claim.source.0];
            let subscriber = &self.subscribers[claim.subscriber.0];
            requests.push(request(subscriber, source, source.levels.list()));
        }
        let downlink = &self.downlinks[key.0];
        let is_settled = downlink.is_settled(now);
        let mut grants = std::mem::take(&mut self.grants);
        let budget = downlink.budget(now, reports);
        allocate(budget, &requests, &mut grants);
        let sustained = downlink.sustained(budget);
        let given = requests.iter().zip(&grants);
        let given = given.filter_map(|(request, grant)| request.levels.get(grant.level()?));
        let mut granted = given.fold(0, |sum: u64, level| sum.saturating_add(level.bitrate.0));
        let mut is_wanting = false;
        for (request, grant) in requests.iter().zip(&mut grants) {
            if let Grant::Paused(Reason::NoRoom) = grant
                && let Some(worst) = request.worst()
                && let Bitrate(bitrate) = request.levels[worst].bitrate
                && (!is_settled || is_bearable(granted, bitrate, sustained))
            {
                *grant = Grant::Level(worst);
                granted = granted.saturating_add(bitrate);
            }
            is_wanting |= grant.level() != request.best();
        }
        let mut demand = allocation::demand(&requests);
        drop(requests);
        let hopes = self.hopes(budget, &claims);
        if let Some(hopes) = &hopes {
            demand = demand.max(hopes.demand);
            is_wanting |= hopes.is_wanting;
        }
        self.make_room(now, key, sustained, &claims);
        let downlink = &mut self.downlinks[key.0];
        downlink.handle_division(now, Bitrate(granted), demand, is_wanting);
        for (claim, grant) in claims.iter().zip(&grants) {
            self.give(now, *claim, *grant);
        }
        self.grants = grants;
        self.hope(now, &claims, hopes);
    }

    /// As [`Self::divide`], for the way that a transport belongs to.
    pub(super) fn divide_for(&mut self, now: Instant, key: TransportKey) {
        if let Some(Membership { downlink, .. }) = self.transports[key.0].downlink {
            self.divide(now, downlink);
            self.wake(downlink);
        }
    }

    /// As [`Self::divide`], for all who watch a source, here and elsewhere: what can be had of it has changed.
    pub(super) fn divide_all(&mut self, now: Instant, key: SourceKey) {
        self.describe_layers(key);
        for subscriber in self.sources[key.0].subscribers.clone() {
            let transport = self.subscribers.get(subscriber.0).map(|it| it.transport);
            let transports = &self.transports;
            let Some(transport) = transport.filter(|key| transports.contains(key.0)) else {
                continue;
            };
            // A bug that one of them brings about must not cost the publisher.
            let divided = catch_unwind(AssertUnwindSafe(|| self.divide_for(now, transport)));
            if divided.is_err() {
                self.broken.push(transport);
            }
        }
    }

    fn give(&mut self, now: Instant, claim: Claim, grant: Grant) {
        let source = &self.sources[claim.source.0];
        let subscriber = &mut self.subscribers[claim.subscriber.0];
        let selector = &mut subscriber.subscription.selector;
        let target = match grant {
            Grant::Level(level) => source.levels.list().get(level).and_then(|level| {
                let stream = source.levels.stream_of(level)?;
                Some(level.target(stream))
            }),
            // It may be a still picture, which goes on where it was.
            Grant::Paused(Reason::NoLevel) => return,
            Grant::Paused(Reason::Wish | Reason::NoRoom) => None,
        };
        let reason = match grant {
            Grant::Paused(Reason::Wish) => Some(PauseReason::Wish),
            Grant::Paused(_) => Some(PauseReason::Bandwidth),
            Grant::Level(_) => None,
        };
        let was = (selector.target(), selector.limit());
        if target.map(|target| (Some(target.source), target.limit)) != Some(was) {
            selector.aim(target);
        }
        let is_missing = selector
            .awaits_key_frame()
            .or(selector.wants_spatial_layer());
        let is_patient = selector.is_patient();
        subscriber.paused = reason;
        if let Some(target) = target {
            self.want(claim.source, target.source);
        }
        match is_missing {
            Some(_) if is_patient => self.wish_for_key_frame(now, claim.subscriber),
            Some(_) => self.request_key_frame(now, claim.subscriber),
            None => {}
        }
    }

    /// Tells the application of a video that comes otherwise than it was told last.
    pub(super) fn tell_delivery(&mut self, key: SubscriberKey) {
        let subscriber = &self.subscribers[key.0];
        let Some(source) = subscriber.source else {
            return;
        };
        if subscriber.kind != MediaKind::Video || !subscriber.section.send {
            return;
        }
        let source = &self.sources[source.0];
        let delivery = match subscriber.paused {
            Some(reason) => Some(VideoDelivery::Paused(reason)),
            None => sent(subscriber, source),
        };
        let subscriber = &mut self.subscribers[key.0];
        if let Some(delivery) = delivery
            && subscriber.told != Some(delivery)
        {
            subscriber.told = Some(delivery);
            let event = Event::VideoDeliveryChanged(delivery);
            subscriber.events.send(event);
        }
    }
}

/// True if the least of a video is sent besides what is `granted` although it does not fit: its sender may follow, and
/// what is lost is repaired.
fn is_bearable(granted: u64, worst: u64, budget: Bitrate) -> bool {
    let least = Bitrate(worst).scaled(BEARABLE);
    granted.saturating_add(least.0) <= budget.0
}

/// What a subscriber sees of a source.
fn sent(subscriber: &Subscriber, source: &Source) -> Option<VideoDelivery> {
    let selector = &subscriber.subscription.selector;
    let current = selector.current()?;
    let bounds = selector.bounds();
    let is_seen =
        |level: &&Level| source.levels.stream_of(level) == Some(current) && bounds.admit(level.top);
    let level = source.levels.list().iter().rfind(is_seen)?;
    Some(VideoDelivery::Sent {
        layer: VideoLayer {
            spatial: level.size(),
            temporal: level.top.temporal,
        },
        spatial_layers: source.levels.sizes(),
        height: level.height,
    })
}

/// What a subscription wants of `levels`, which are those of its source.
pub(super) fn request<'a>(
    subscriber: &Subscriber,
    source: &Source,
    levels: &'a [Level],
) -> Request<'a> {
    let selector = &subscriber.subscription.selector;
    let target = selector.target();
    let wanted = &subscriber.delivery;
    Request {
        priority: match (subscriber.kind, wanted.priority) {
            (MediaKind::Audio | MediaKind::Data, _) => Priority::Audio,
            (_, VideoPriority::High) => Priority::High,
            (_, VideoPriority::Normal) => Priority::Normal,
            (_, VideoPriority::Low) => Priority::Low,
        },
        wishes: wishes(subscriber, source),
        levels,
        current: target.and_then(|target| source.levels.position(levels, target, selector.limit())),
    }
}

fn wishes(subscriber: &Subscriber, source: &Source) -> Wishes {
    let delivery = &subscriber.delivery;
    let limit = subscriber.limits.max_video_send;
    match subscriber.kind {
        MediaKind::Audio | MediaKind::Data => Wishes {
            paused: !delivery.audio,
            ..Wishes::default()
        },
        MediaKind::Video => Wishes {
            paused: !delivery.video,
            height_max: delivery.height_max,
            frame_rate_max: delivery.frame_rate_max,
            top_max: delivery.layer_max.map(|layer| LayerId {
                spatial: layer.spatial,
                temporal: layer.temporal,
            }),
            bitrate_max: limit.map(|limit| Bitrate::from_kbps(u64::from(limit.0))),
            // Nothing else tells a receiver of AV1 which frames make up a picture.
            flat: source.codec_sent() == Some(Codec::Av1)
                && subscriber
                    .section
                    .extensions
                    .dependency_descriptor
                    .is_none(),
        },
    }
}
