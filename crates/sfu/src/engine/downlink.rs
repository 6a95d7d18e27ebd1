//! The way to one participant: what it carries, and sending no faster than that.
//!
//! A [`Downlink`] is shared by all connections of one [`PeerId`](media::PeerId), for clients that have one for each
//! stream: their feedback makes one estimate, which [`super::delivery`] divides. A connection of nobody in particular
//! has one of its own. Until its peer has said what arrives, little is held back; peers that never do are sent what
//! they ask for.
//!
//! Packets that may not leave at once wait in the pacer, as numbers; their payload is in the history. Deliberately
//! absent: how the estimate is made ([`forwarding::congestion`]).

use std::time::{Duration, Instant};

use forwarding::congestion::{EstimatorConfig, PATHS_MAX, PathId, SendEstimator};
use forwarding::pacer::Pacer;
use forwarding::rate::Bitrate;
use forwarding::rewriter::Rewritten;
use forwarding::rtp::{ExtendedSeq, Seq, Ssrc};
use media::{PeerId, PipelineId};
use smallvec::SmallVec;

use super::Engine;
use super::media_path::MediaPath;
use super::subscriber::SubscriberKey;
use super::transport::TransportKey;

/// Time in which peers that can report should have done so. Too low: on slow paths more is sent than fits. Too high:
/// peers that do not report, though they said they would, get small pictures for as long.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Time from the first report until the estimate is believed when it says that nothing fits: probes take that long.
/// Too low: who joins sees nothing at first. Too high: slow paths are flooded for as long.
const SETTLING: Duration = Duration::from_secs(2);

/// Growth of the estimate for which it is divided anew at once. Too low: divided with every report. Too high: better
/// pictures come late, with the next regular division.
const GROWTH: f64 = 1.05;

/// Time from one division to the next that the estimate asks for. Too low: a peer whose estimates jump has us divide
/// with every report. Too high: less is sent too late.
const DIVISION_INTERVAL: Duration = Duration::from_millis(10);

/// Packets that a repair of the newest is chosen from, where a probe needs padding. Too low: always the same. Too high:
/// old ones, which are of no use to anybody.
const PADDING_PACKETS: u16 = 16;

/// Packets of padding at one time. Too low: a probe takes longer than it should. Too high: one wrong length of time
/// costs as many.
const PADDING_BURST_MAX: usize = 32;

/// Wait of what is sent already to which repairs of upper layers are added. Too low: loss that comes in bursts costs
/// pictures. Too high: what a full queue has lost keeps it full.
const REPAIR_WAIT_MAX: Duration = Duration::from_millis(100);

/// Share of packets lost from which repairs are sent twice. Too low: bytes for nothing. Too high: who misses a packet
/// asks again and again, while its picture stands still.
const REPAIR_TWICE_FROM: f64 = 0.06;

/// Handle of a downlink; valid while a transport belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DownlinkKey(pub(super) usize);

/// What a transport is to its downlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) downlink: DownlinkKey,
    pub(super) path: PathId,
}

/// Endpoints of one participant.
pub(super) type Group = (PipelineId, PeerId);

/// A packet that waits until it may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paced {
    pub(super) subscriber: SubscriberKey,
    /// Of the subscriber, whose place another may have taken since.
    pub(super) ssrc: Ssrc,
    pub(super) packet: PacedPacket,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PacedPacket {
    /// The packet of a layer of the subscriber's source.
    Media {
        layer: Ssrc,
        seq: ExtendedSeq,
        rewritten: Rewritten,
    },
    /// A repetition, by its number towards the subscriber.
    Repair(Seq),
}

/// The way to one participant.
pub(super) struct Downlink {
    group: Option<Group>,
    /// By [`PathId`].
    paths: SmallVec<[Option<TransportKey>; 1]>,
    pub(super) estimator: SendEstimator,
    pub(super) pacer: Pacer<Paced>,
    /// The first packet was sent.
    sent_at: Option<Instant>,
    /// The first report came.
    known_at: Option<Instant>,
    divided_at: Option<Instant>,
    /// The estimate that was divided last, and what was given of it.
    divided: Bitrate,
    granted: Bitrate,
    /// More could be used.
    is_wanting: bool,
    padding_cursor: u16,
}

impl Downlink {
    fn new(group: Option<Group>) -> Self {
        let config = EstimatorConfig::default();
        Self {
            group,
            paths: SmallVec::new(),
            estimator: SendEstimator::new(config),
            pacer: Pacer::new(config.start),
            sent_at: None,
            known_at: None,
            divided_at: None,
            divided: Bitrate(0),
            granted: Bitrate(0),
            is_wanting: false,
            padding_cursor: 0,
        }
    }

    /// Takes note that something is sent.
    pub(super) fn touch(&mut self, now: Instant) {
        self.sent_at.get_or_insert(now);
    }

    /// The transports that belong to it.
    pub(super) fn members(&self) -> impl Iterator<Item = TransportKey> + '_ {
        self.paths.iter().copied().flatten()
    }

    /// The transport whose deadline is this one's.
    pub(super) fn lead(&self) -> Option<TransportKey> {
        self.members().next()
    }

    /// What can be divided. `reports` tells if its peer has said that it will report.
    pub(super) fn budget(&self, now: Instant, reports: bool) -> Bitrate {
        let waited = self
            .sent_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if self.estimator.is_known() || reports && waited < SILENCE_MAX {
            self.estimator.allotted()
        } else {
            Bitrate(u64::MAX)
        }
    }

    /// True if the estimate is believed when it says that nothing fits.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.known_at
            .is_some_and(|at| now.saturating_duration_since(at) >= SETTLING)
    }

    /// True if packets have to wait for their turn: where not all fits, bursts would stand in a queue. Where it does, they
    /// leave as they came, spread by their publisher already, and cheaply in runs.
    pub(super) fn is_paced(&self) -> bool {
        self.is_wanting && self.known_at.is_some() || !self.pacer.is_empty()
    }

    /// What will be carried once a queue has drained, if less is sent until then.
    pub(super) fn sustained(&self, budget: Bitrate) -> Bitrate {
        budget.max(self.estimator.sustained())
    }

    /// True if what was lost may be sent again. Where not all fits, what was seen before a switch is not worth it, and
    /// what nothing refers to only if there is little to send.
    pub(super) fn may_repair(&self, is_seen: bool, is_base: bool) -> bool {
        !self.is_paced() || is_seen && (is_base || self.pacer.delay() <= REPAIR_WAIT_MAX)
    }

    /// True if so much is lost that repairs should be sent twice.
    pub(super) fn is_lossy(&self) -> bool {
        self.estimator.loss() >= REPAIR_TWICE_FROM
    }

    /// Takes note of how the budget was divided. `demand` is what to probe for, `is_wanting` tells if it was not enough.
    pub(super) fn handle_division(
        &mut self,
        now: Instant,
        granted: Bitrate,
        demand: Bitrate,
        is_wanting: bool,
    ) {
        self.divided_at = Some(now);
        self.divided = self.estimator.allotted();
        self.granted = granted;
        self.is_wanting = is_wanting;
        self.estimator.set_demand(demand);
    }

    /// When the estimate should be divided anew, if it has changed enough for that.
    fn division_due(&self) -> Option<Instant> {
        let estimate = self.estimator.allotted();
        let is_outdated = estimate < self.granted && estimate < self.divided
            || self.is_wanting && estimate >= self.divided.scaled(GROWTH);
        let divided_at = self.divided_at.filter(|_| is_outdated)?;
        Some(divided_at + DIVISION_INTERVAL)
    }

    /// When [`MediaPath::serve_downlink`] has something to do, if `key` is the one that asks.
    pub(super) fn poll_timeout(&self, key: TransportKey) -> Option<Instant> {
        if self.lead() != Some(key) {
            return None;
        }
        let deadlines = [
            self.estimator.poll_timeout(),
            self.pacer.poll_timeout(),
            self.division_due(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

impl Engine {
    /// Has a transport share the way to its participant, or gives it one of its own.
    pub(super) fn join_downlink(&mut self, key: TransportKey) {
        let owner = self.media.transports[key.0].owner;
        let peer = self.endpoints.get(&owner).and_then(|owner| owner.peer);
        let group = peer.map(|peer| (self.graph.element(owner).pipeline.clone(), peer));
        let shared = group.as_ref().and_then(|group| self.groups.get(group));
        let shared = shared.copied().filter(|shared| {
            let paths = &self.media.downlinks[shared.0].paths;
            paths.len() < PATHS_MAX || paths.contains(&None)
        });
        let downlink = match shared {
            Some(shared) => shared,
            None => {
                let made = Downlink::new(group.clone());
                let made = DownlinkKey(self.media.downlinks.insert(made));
                if let Some(group) = group {
                    self.groups.insert(group, made);
                }
                made
            }
        };
        let paths = &mut self.media.downlinks[downlink.0].paths;
        let free = paths.iter().position(Option::is_none);
        let path = free.unwrap_or(paths.len());
        match paths.get_mut(path) {
            Some(slot) => *slot = Some(key),
            None => paths.push(Some(key)),
        }
        self.media.transports[key.0].downlink = Some(Membership {
            downlink,
            // Below PATHS_MAX.
            path: PathId(path as u8),
        });
    }

    /// Makes the ways to participants anew, without what is known of them; see [`Engine::contain`].
    pub(super) fn mend_downlinks(&mut self) {
        self.groups.clear();
        self.media.downlinks.clear();
        self.media.unarmed.clear();
        let mut joining = Vec::new();
        for (key, transport) in &mut self.media.transports {
            if transport.downlink.take().is_some() {
                joining.push(TransportKey(key));
            }
        }
        for key in joining {
            self.join_downlink(key);
        }
    }

    /// Removes a transport, and its downlink with the last of its members.
    pub(super) fn remove_transport(&mut self, key: TransportKey) {
        let transport = self.media.transports.remove(key.0);
        let Some(Membership { downlink, path }) = transport.downlink else {
            return;
        };
        let it = &mut self.media.downlinks[downlink.0];
        if let Some(slot) = it.paths.get_mut(usize::from(path.0)) {
            *slot = None;
        }
        it.estimator.forget_path(path);
        match it.lead() {
            Some(lead) => self.arm(lead),
            None => {
                let ended = self.media.downlinks.remove(downlink.0);
                if let Some(group) = ended.group
                    && self.groups.get(&group) == Some(&downlink)
                {
                    self.groups.remove(&group);
                }
            }
        }
    }
}

impl MediaPath {
    /// Takes note of what a peer says about the arrival of packets.
    pub(super) fn handle_arrivals(&mut self, now: Instant, key: TransportKey, feedback: &[u8]) {
        if let Some(Membership { downlink, path }) = self.transports[key.0].downlink {
            let estimator = &mut self.downlinks[downlink.0].estimator;
            estimator.handle_feedback(now, path, feedback);
            self.follow_estimate(now, downlink, key);
        }
    }

    /// Takes note of a peer's own estimate.
    pub(super) fn handle_remb(&mut self, now: Instant, key: TransportKey, remb: Bitrate) {
        if let Some(Membership { downlink, .. }) = self.transports[key.0].downlink {
            self.downlinks[downlink.0].estimator.handle_remb(remb);
            self.follow_estimate(now, downlink, key);
        }
    }

    /// `told_by` has its deadline looked at in any case.
    fn follow_estimate(&mut self, now: Instant, key: DownlinkKey, told_by: TransportKey) {
        let downlink = &mut self.downlinks[key.0];
        if !downlink.estimator.is_known() {
            return;
        }
        let is_first = downlink.known_at.is_none();
        downlink.known_at.get_or_insert(now);
        downlink.set_pace();
        if is_first || downlink.division_due().is_some_and(|at| at <= now) {
            self.divide(now, key);
        }
        let lead = self.downlinks[key.0].lead();
        self.unarmed.extend(lead.filter(|lead| *lead != told_by));
    }

    /// Has the deadline of a downlink looked at again.
    pub(super) fn wake(&mut self, key: DownlinkKey) {
        self.unarmed.extend(self.downlinks[key.0].lead());
    }

    /// Does what is due by time on the way that `key` is a part of.
    pub(super) fn serve_downlink(&mut self, now: Instant, key: TransportKey) {
        let Some(Membership { downlink, .. }) = self.transports[key.0].downlink else {
            return;
        };
        let it = &mut self.downlinks[downlink.0];
        if it.lead() != Some(key) {
            return;
        }
        it.estimator.handle_timeout(now);
        it.set_pace();
        if it.division_due().is_some_and(|at| at <= now) {
            self.divide(now, downlink);
        }
        while let Some(paced) = self.downlinks[downlink.0].pacer.poll(now) {
            self.send_paced(now, &paced);
        }
        for _ in 0..PADDING_BURST_MAX {
            let it = &mut self.downlinks[downlink.0];
            let Some(bytes) = it.estimator.poll_padding(now) else {
                break;
            };
            it.padding_cursor = (it.padding_cursor + 1) % PADDING_PACKETS;
            let back = it.padding_cursor;
            let members: SmallVec<[TransportKey; 4]> = it.members().collect();
            let is_sent = members
                .into_iter()
                .any(|member| self.pad(now, member, back, bytes));
            if !is_sent {
                break;
            }
        }
    }
}

impl Downlink {
    fn set_pace(&mut self) {
        self.pacer.set_rate(self.estimator.pace());
    }
}
