//! Publishers with layers, one subscriber whose target changes at random, loss and reordering before us: a model of its
//! decoder must never get a frame whose references it lacks, nor miss a packet that we had.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

#[path = "layers/stream.rs"]
mod stream;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use forwarding::codec::dependency::{DEPENDENCY_GROWTH_MAX, DependencyReader};
use forwarding::codec::{LayerId, Vp8Descriptor, Vp8Patch, Vp9Descriptor, inspect};
use forwarding::keyframe::LastKeyFrame;
use forwarding::packet::SourcePacket;
use forwarding::rewriter::{Rewriter, Rewritten};
use forwarding::rtp::{ClockRate, ExtendedSeq, PayloadType, RtpTime, Seq, Ssrc};
use forwarding::selector::{Selector, Target};
use forwarding::subscription::Subscription;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stream::{Frame, Mode, Publisher, Sent};

const PICTURES: usize = 240;

/// A scenario; the seed decides the rest.
#[derive(Clone, Copy, Debug)]
struct Plan {
    mode: Mode,
    /// Simulcast streams.
    streams: usize,
    /// Share of packets that come late, by up to 20 packets, or never.
    disturbed: f64,
    lost: f64,
    seed: u64,
}

/// What came out.
struct Received {
    stream: usize,
    frame: usize,
    empty: bool,
    out: Rewritten,
    payload: Vec<u8>,
    frame_number: Option<u16>,
}

struct World {
    plan: Plan,
    random: StdRng,
    now: Instant,
    publishers: Vec<Publisher>,
    readers: Vec<DependencyReader>,
    /// All that arrived from the publishers, by stream and number.
    arrived: Vec<HashMap<u64, (SourcePacket, Sent)>>,
    /// Delayed packets with the time, in packets, at which they come.
    delayed: VecDeque<(usize, usize, Sent)>,
    clock: usize,
    subscription: Subscription,
    /// By outgoing number.
    received: BTreeMap<u64, Received>,
    checked: u64,
    key_wanted: Vec<bool>,
    target: Target,
    last_key_frames: Vec<LastKeyFrame>,
    /// Nothing is forwarded before.
    has_joined: bool,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut selector = Selector::new(plan.mode.codec());
        let target = Target {
            source: Ssrc(0),
            rank: 0,
            limit: LayerId::HIGHEST,
        };
        selector.aim(Some(target));
        Self {
            plan,
            random: StdRng::seed_from_u64(plan.seed),
            now: Instant::now(),
            publishers: (0..plan.streams)
                .map(|number| Publisher::new(plan.mode, number as u64))
                .collect(),
            readers: vec![DependencyReader::default(); plan.streams],
            arrived: vec![HashMap::new(); plan.streams],
            delayed: VecDeque::new(),
            clock: 0,
            subscription: Subscription::new(
                selector,
                Rewriter::new(ClockRate::VIDEO, Seq(65_000), RtpTime(7)),
            ),
            received: BTreeMap::new(),
            checked: 65_000,
            key_wanted: vec![false; plan.streams],
            target,
            last_key_frames: vec![LastKeyFrame::default(); plan.streams],
            has_joined: true,
        }
    }

    fn run(&mut self) {
        for picture in 0..PICTURES {
            if self.random.random_bool(0.08) {
                self.change_target();
            }
            for stream in 0..self.plan.streams {
                let key = std::mem::take(&mut self.key_wanted[stream]) && picture > 0;
                let packets_per_frame = self.random.random_range(1..4);
                for sent in self.publishers[stream].picture(key, packets_per_frame) {
                    self.travel(stream, sent);
                }
            }
            self.now += Duration::from_millis(33);
            let selector = &self.subscription.selector;
            let wanted = selector
                .awaits_key_frame()
                .or(selector.wants_spatial_layer());
            if let Some(Ssrc(stream)) = wanted
                && self.random.random_bool(0.3)
            {
                self.key_wanted[stream as usize] = true;
            }
            if picture % 3 == 0 {
                self.repair();
            }
        }
        while let Some((_, stream, sent)) = self.delayed.pop_front() {
            self.arrive(stream, sent);
        }
        // What is missing shows when more comes.
        for stream in 0..self.plan.streams {
            for sent in self.publishers[stream].picture(false, 1) {
                self.arrive(stream, sent);
            }
        }
        self.repair();
    }

    fn change_target(&mut self) {
        let stream = self.random.random_range(0..self.plan.streams) as u32;
        let limit = match self.random.random_bool(0.25) {
            true => LayerId::HIGHEST,
            false => LayerId::new(
                self.random.random_range(0..3),
                self.random.random_range(0..3),
            )
            .unwrap(),
        };
        self.target = Target {
            source: Ssrc(stream),
            rank: stream as u8,
            limit,
        };
        self.subscription.selector.aim(Some(self.target));
    }

    /// Through the network before us.
    fn travel(&mut self, stream: usize, sent: Sent) {
        self.clock += 1;
        if self.random.random_bool(self.plan.disturbed) {
            if !self.random.random_bool(self.plan.lost) {
                let until = self.clock + self.random.random_range(1..20);
                self.delayed.push_back((until, stream, sent));
            }
        } else {
            self.arrive(stream, sent);
        }
        while let Some(due) = self
            .delayed
            .iter()
            .position(|(until, ..)| *until <= self.clock)
        {
            let (_, stream, sent) = self.delayed.remove(due).unwrap();
            self.arrive(stream, sent);
        }
    }

    fn arrive(&mut self, stream: usize, sent: Sent) {
        let frame = inspect(self.plan.mode.codec(), &sent.payload);
        let dependency = match sent.descriptor.is_empty() {
            true => None,
            false => self.readers[stream].read(&sent.descriptor),
        };
        let packet = SourcePacket {
            ssrc: Ssrc(stream as u32),
            seq: ExtendedSeq(sent.seq),
            timestamp: RtpTime(sent.timestamp),
            marker: sent.marker,
            payload_type: PayloadType(96),
            frame: frame.with_dependency(dependency),
            audio_level: None,
            video_orientation: None,
        };
        self.arrived[stream].insert(sent.seq, (packet, sent.clone()));
        self.last_key_frames[stream].handle_packet(self.now, &packet, 500);
        if self.has_joined {
            self.forward(stream, &packet, &sent);
        }
    }

    fn forward(&mut self, stream: usize, packet: &SourcePacket, sent: &Sent) {
        if let Some(out) = self.subscription.handle_packet(self.now, packet) {
            self.deliver(stream, packet, sent, out);
        }
    }

    /// The subscriber joins, and gets what there is since the last key frame.
    fn join(&mut self) {
        self.has_joined = true;
        let stream = self.target.source.0 as usize;
        let Some(numbers) = self.last_key_frames[stream].catch_up(self.now) else {
            return;
        };
        for number in numbers {
            if let Some((packet, sent)) = self.arrived[stream].get(&number.0).cloned() {
                self.forward(stream, &packet, &sent);
            }
        }
    }

    fn deliver(&mut self, stream: usize, packet: &SourcePacket, sent: &Sent, out: Rewritten) {
        let mut payload = sent.payload.clone();
        if let Some(patch) = out.vp8 {
            let reach = payload.len().min(Vp8Patch::REACH);
            patch.apply(&mut payload[..reach]);
        }
        let frame_number = out.dependency.map(|patch| {
            let mut bytes = vec![0; sent.descriptor.len() + DEPENDENCY_GROWTH_MAX];
            let dependency = packet.frame.dependency.as_ref().unwrap();
            let reader = &self.readers[stream];
            let len = reader
                .write(dependency, &patch, &sent.descriptor, &mut bytes)
                .unwrap();
            assert!(len >= 3);
            u16::from_be_bytes([bytes[1], bytes[2]])
        });
        let received = Received {
            stream,
            frame: sent.frame,
            empty: out.empty,
            out,
            payload,
            frame_number,
        };
        let former = self.received.insert(out.seq.0, received);
        assert!(former.is_none(), "outgoing number {} used twice", out.seq.0);
    }

    /// The receiver's NACKs: what it misses and we had must be repairable.
    fn repair(&mut self) {
        let end = self.subscription.rewriter.next_seq().0;
        for number in self.checked..end {
            if self.received.contains_key(&number) {
                continue;
            }
            let origin = self.subscription.rewriter.unmap(ExtendedSeq(number).seq());
            let origin = origin.unwrap_or_else(|| panic!("gap of our making at {number}"));
            let stream = origin.ssrc.0 as usize;
            let Some((mut packet, sent)) = self.arrived[stream].get(&origin.seq.0).cloned() else {
                continue;
            };
            if packet.frame.dependency.is_none() {
                let dependency = self.readers[stream].read_again(&sent.descriptor);
                packet.frame = packet.frame.with_dependency(dependency);
            }
            let out = self.subscription.rewriter.replay(&packet);
            let out = out.unwrap_or_else(|| panic!("{number} was had but cannot be sent"));
            assert_eq!(out.seq.0, number);
            self.deliver(stream, &packet, &sent, out);
        }
        // What the network before us still holds may come within this time.
        self.checked = end.saturating_sub(40).max(self.checked);
    }

    /// True if the frame and all it needs came to us whole.
    fn was_had(
        &self,
        stream: usize,
        frame: usize,
        known: &mut HashMap<(usize, usize), bool>,
    ) -> bool {
        if let Some(had) = known.get(&(stream, frame)) {
            return *had;
        }
        let Frame {
            references,
            packets,
            ..
        } = &self.publishers[stream].frames[frame];
        let whole = packets
            .iter()
            .all(|seq| self.arrived[stream].contains_key(seq));
        let had = whole
            && references
                .clone()
                .iter()
                .all(|it| self.was_had(stream, *it, known));
        known.insert((stream, frame), had);
        had
    }

    /// True if a packet came before the structure that its descriptor needs.
    fn was_obscure(&self, stream: usize, frame: &Frame) -> bool {
        frame.packets.iter().any(|seq| {
            let (packet, sent) = &self.arrived[stream][seq];
            !sent.descriptor.is_empty() && packet.frame.dependency.is_none()
        })
    }

    /// True if another source's key frame follows: that takes the place of a frame in progress.
    fn ends_source(&self, stream: usize, frame: usize) -> bool {
        let is_this = |it: &&Received| (it.stream, it.frame) == (stream, frame);
        let (number, _) = self.received.iter().rfind(|(_, it)| is_this(it)).unwrap();
        let after = self.received.range(number + 1..).next().map(|(_, it)| it);
        after.is_some_and(|it| it.stream != stream)
    }

    fn check_decoder(&self) -> usize {
        let mut packets: HashMap<(usize, usize), usize> = HashMap::new();
        for received in self.received.values().filter(|it| !it.empty) {
            *packets
                .entry((received.stream, received.frame))
                .or_default() += 1;
        }
        let mut known = HashMap::new();
        let mut decoded = HashSet::new();
        let mut frames: Vec<_> = packets.into_iter().collect();
        frames.sort_unstable();
        for ((stream, index), count) in frames {
            let frame = &self.publishers[stream].frames[index];
            if !self.was_had(stream, index, &mut known) {
                continue;
            }
            if count != frame.packets.len() {
                let excused = self.ends_source(stream, index) || self.was_obscure(stream, frame);
                assert!(
                    excused,
                    "frame {index} of stream {stream} was cut: {frame:?}"
                );
                continue;
            }
            for reference in &frame.references {
                assert!(
                    decoded.contains(&(stream, *reference)),
                    "frame {index} of stream {stream} lacks {reference}: {frame:?}"
                );
            }
            decoded.insert((stream, index));
        }
        decoded.len()
    }

    /// What holds if the network before us does nothing.
    fn check_numbers(&self) {
        let mut last: Option<&Received> = None;
        for (number, received) in &self.received {
            assert!(!received.empty, "{number} was sent for nothing");
            let (this, frame) = (
                received,
                &self.publishers[received.stream].frames[received.frame],
            );
            let Some(before) = last.replace(received) else {
                continue;
            };
            assert!(
                self.received.contains_key(&(number - 1)),
                "gap before {number}"
            );
            let step = this.out.timestamp.ticks_from(before.out.timestamp);
            assert!(step < 90_000 * 10, "timestamp jumps by {step} at {number}");
            let new_picture = step > 0;
            assert_eq!(
                before.out.marker, new_picture,
                "marker before {number}: {:?}",
                self.plan
            );
            if let (Some(this), Some(before)) = (
                Vp8Descriptor::parse(&this.payload),
                Vp8Descriptor::parse(&before.payload),
            ) && self.plan.mode == Mode::Vp8
            {
                let step = this
                    .picture_id
                    .unwrap()
                    .value
                    .wrapping_sub(before.picture_id.unwrap().value);
                assert_eq!(
                    step & 0x7fff,
                    u16::from(new_picture),
                    "picture id at {number}"
                );
                let step = this
                    .tl0_picture_index
                    .unwrap()
                    .0
                    .wrapping_sub(before.tl0_picture_index.unwrap().0);
                assert_eq!(
                    step,
                    u8::from(new_picture && frame.temporal == 0),
                    "TL0PICIDX at {number}"
                );
            }
            if let (Some(this), Some(before)) = (
                Vp9Descriptor::parse(&this.payload),
                Vp9Descriptor::parse(&before.payload),
            ) && self.plan.mode == Mode::Vp9Key
            {
                let step = this
                    .picture_id
                    .unwrap()
                    .value
                    .wrapping_sub(before.picture_id.unwrap().value)
                    & 0x7fff;
                assert_eq!(step > 0, new_picture, "picture id at {number}");
                assert!(step < 16, "picture id at {number}");
            }
            if let (Some(this), Some(before)) = (this.frame_number, before.frame_number) {
                assert!(this.wrapping_sub(before) < 64, "frame number at {number}");
            }
        }
    }
}

fn run(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.run();
    world
}

const SCENARIOS: [(Mode, usize); 6] = [
    (Mode::Vp8, 1),
    (Mode::Vp8, 3),
    (Mode::H264, 3),
    (Mode::Vp9Key, 1),
    (Mode::Av1, 1),
    (Mode::Av1Key, 1),
];

#[test]
fn without_loss_nothing_is_missing_and_numbers_continue() {
    for (mode, streams) in SCENARIOS {
        for seed in 0..20 {
            let world = run(Plan {
                mode,
                streams,
                disturbed: 0.0,
                lost: 0.0,
                seed,
            });
            let decoded = world.check_decoder();
            assert!(
                decoded > PICTURES / 8,
                "{mode:?} {streams} {seed}: {decoded} frames"
            );
            world.check_numbers();
        }
    }
}

#[test]
fn target_is_reached_soon_and_left_at_once() {
    for (mode, streams) in SCENARIOS {
        let mut world = run(Plan {
            mode,
            streams,
            disturbed: 0.0,
            lost: 0.0,
            seed: 7,
        });
        for (spatial, temporal) in [(2, 2), (0, 0), (2, 0), (1, 1), (0, 2), (2, 2)] {
            let limit = LayerId::new(spatial, temporal).unwrap();
            let before = world.subscription.selector.bounds();
            world.subscription.selector.aim(Some(Target {
                source: Ssrc(0),
                rank: 0,
                limit,
            }));
            let next = world.subscription.rewriter.next_seq().0;
            for picture in 0..9 {
                // Temporal layers come by themselves; a spatial one needs a key frame.
                let key = picture == 3 && world.subscription.selector.awaits_key_frame().is_some()
                    || world.subscription.selector.wants_spatial_layer().is_some();
                for stream in 0..streams {
                    for sent in world.publishers[stream].picture(key, 2) {
                        world.arrive(stream, sent);
                    }
                }
            }
            assert!(
                world.subscription.selector.has_arrived(),
                "{mode:?} {limit:?} from {before:?}"
            );
            let seen = world
                .received
                .range(next..)
                .filter(|(_, it)| it.stream == 0);
            for (number, received) in seen {
                let frame = &world.publishers[0].frames[received.frame];
                let within = frame.spatial <= spatial && frame.temporal <= temporal;
                assert!(
                    within || mode == Mode::H264,
                    "{mode:?} {limit:?} at {number}"
                );
            }
        }
        world.check_decoder();
        world.check_numbers();
    }
}

#[test]
fn late_joiner_starts_at_once_from_a_recent_key_frame() {
    for (mode, streams) in SCENARIOS {
        for (pictures, starts_at_once) in [(10, true), (40, false)] {
            let mut world = World::new(Plan {
                mode,
                streams,
                disturbed: 0.0,
                lost: 0.0,
                seed: 1,
            });
            world.target.limit = LayerId::new(1, 1).unwrap();
            world.subscription.selector.aim(Some(world.target));
            world.has_joined = false;
            for picture in 0..pictures + 20 {
                if picture == pictures {
                    world.join();
                    assert_eq!(world.received.is_empty(), !starts_at_once, "{mode:?}");
                }
                for stream in 0..streams {
                    for sent in world.publishers[stream].picture(false, 2) {
                        world.arrive(stream, sent);
                    }
                }
                world.now += Duration::from_millis(33);
            }
            assert_eq!(world.check_decoder() > 0, starts_at_once, "{mode:?}");
            world.check_numbers();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn decoder_gets_nothing_it_cannot_decode(
        scenario in 0..SCENARIOS.len(), seed: u64, disturbed in 0.0..0.2f64, lost in 0.0..0.5f64,
    ) {
        let (mode, streams) = SCENARIOS[scenario];
        run(Plan { mode, streams, disturbed, lost, seed }).check_decoder();
    }
}
