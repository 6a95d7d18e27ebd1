//! What publishers change while their media crosses to another worker, and panics there.

use forwarding::rate::Bitrate;
use forwarding::rtcp::{SenderInfo, write_sender_report};
use media::{BandwidthLimits, Error, Kilobits, MediaKind};

use super::*;
use crate::engine::counters::RelayDrop;
use crate::engine::relay::{Parcel, RENEWALS_MAX};
use crate::engine::source::SourceKey;

/// Two workers with one pipeline.
struct Beds {
    near: Bed,
    far: Bed,
    /// What the near one has told the far one.
    controls: usize,
}

impl Beds {
    fn new() -> Self {
        let near = Bed::new();
        let far = near.beside(1);
        Self {
            near,
            far,
            controls: 0,
        }
    }

    /// Feeds somebody on the far worker.
    fn connect(&mut self, from: &Peer, to: &Peer) {
        self.far.connect(from, to);
        self.carry();
    }

    /// Carries everything that the engines have for each other. Returns the number of packets towards the far one.
    fn carry(&mut self) -> usize {
        self.carry_unless(|_| false)
    }

    /// The same, but packets for which there is no room.
    fn carry_unless(&mut self, is_full: impl Fn(&Parcel<'_>) -> bool) -> usize {
        let now = self.near.now;
        let mut packets = 0;
        for _ in 0..4 {
            let far = &mut self.far.engine;
            self.near.engine.poll_relayed(now, |to, parcel| {
                assert_eq!(to, 1);
                let is_packet = matches!(parcel, Parcel::Packet { .. });
                if is_packet && is_full(&parcel) {
                    return false;
                }
                packets += usize::from(is_packet);
                self.controls += usize::from(!is_packet);
                far.handle_relayed(now, 0, parcel);
                true
            });
            let near = &mut self.near.engine;
            self.far.engine.poll_relayed(now, |to, parcel| {
                assert_eq!(to, 0);
                near.handle_relayed(now, 1, parcel);
                true
            });
        }
        packets
    }

    fn send(&mut self, from: &Peer, ssrc: u32, seq: u16, payload_type: u8) -> usize {
        self.near.send(from, ssrc, seq, payload_type, &KEY_FRAME);
        self.carry()
    }

    fn run_for(&mut self, duration: Duration) {
        self.near.run_for(duration);
        self.far.now = self.near.now;
        self.carry();
    }

    fn layers(&self) -> usize {
        let sources = &self.far.engine.media.sources;
        sources.iter().map(|(_, source)| source.layers.len()).sum()
    }
}

/// As [`KEY_FRAME`], of a frame that refers to others.
const DELTA_FRAME: [u8; 11] = [0x10, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// One worker's payload types by the order of what a peer got.
fn payload_types(sent: &[Sent]) -> Vec<u8> {
    sent.iter()
        .map(|(_, _, payload_type)| *payload_type)
        .collect()
}

#[test]
fn publisher_may_change_codecs_and_negotiate_others() {
    let mut beds = Beds::new();
    let both = format!("{VP8_ONLY}{VP9_ALSO}");
    let publisher = beds.near.join("sendonly", &both);
    let viewer = beds.far.join("recvonly", &both);
    beds.connect(&publisher, &viewer);
    for (seq, payload_type) in [(1, VP8), (2, VP9), (3, VP8)] {
        let mut payload = KEY_FRAME.to_vec();
        if payload_type == VP9 {
            payload = vec![0x8a, 0, 0, 0];
        }
        beds.near.send(&publisher, 5, seq, payload_type, &payload);
    }
    beds.carry();
    let sent = beds.far.take_sent(&viewer);
    assert_eq!(payload_types(&sent), [VP8, VP9, VP8]);

    // What was sent before, in the meaning of the former description, comes first.
    beds.near.send(&publisher, 5, 4, VP8, &KEY_FRAME);
    beds.near.negotiate(&publisher.id, "sendonly", VP8_ONLY);
    beds.near.send(&publisher, 5, 5, VP8, &KEY_FRAME);
    beds.carry();
    assert_eq!(beds.far.take_sent(&viewer).len(), 2);
    beds.near.negotiate(&publisher.id, "inactive", VP8_ONLY);
    assert_eq!(beds.send(&publisher, 5, 6, VP8), 0);
    assert!(beds.far.engine.media.sources.is_empty());
    beds.near.negotiate(&publisher.id, "sendonly", VP8_ONLY);
    assert_eq!(beds.send(&publisher, 5, 7, VP8), 1);
    let after = beds.far.take_sent(&viewer);
    assert_eq!(after.len(), 1);
    assert_eq!((after[0].0, after[0].1), (sent[0].0, sent[0].1 + 5));
}

#[test]
fn only_the_layer_that_is_seen_crosses() {
    let mut beds = Beds::new();
    let simulcast = format!(
        "{VP8_ONLY}a=ssrc-group:SIM 11 12 13\na=ssrc:11 cname:c\na=ssrc:12 cname:c\na=ssrc:13 cname:c\n"
    );
    let publisher = beds.near.join("sendonly", &simulcast);
    let viewer = beds.far.join("recvonly", VP8_ONLY);
    beds.connect(&publisher, &viewer);
    let mut seq = 0;
    let mut send_for_3_seconds = |beds: &mut Beds, ssrcs: &[u32]| {
        let (mut crossed, mut forwarded) = (0, 0);
        for _ in 0..75 {
            seq += 1;
            for ssrc in ssrcs {
                let mut payload = KEY_FRAME.to_vec();
                payload.resize(50 * (*ssrc as usize - 10).pow(3), 0);
                // The layers' key frames are apart.
                payload[0] = if (seq + *ssrc as u16).is_multiple_of(10) {
                    0x10
                } else {
                    0
                };
                beds.near.send(&publisher, *ssrc, seq, VP8, &payload);
            }
            crossed += beds.carry();
            beds.run_for(SECOND / 25);
            forwarded += beds.far.take_sent(&viewer).len();
        }
        (crossed, forwarded)
    };
    send_for_3_seconds(&mut beds, &[11, 12, 13]);
    assert_eq!(send_for_3_seconds(&mut beds, &[11, 12, 13]), (75, 75));
    send_for_3_seconds(&mut beds, &[11, 12]);
    assert_eq!(send_for_3_seconds(&mut beds, &[11, 12]), (75, 75));
    assert_eq!(beds.layers(), 3);
}

#[test]
fn publisher_may_change_its_ssrc_any_number_of_times() {
    let mut beds = Beds::new();
    let publisher = beds.near.join("sendonly", VP8_ONLY);
    let mut viewer = beds.far.join("recvonly", VP8_ONLY);
    beds.connect(&publisher, &viewer);
    for restart in 0..30 {
        assert_eq!(beds.send(&publisher, 100 + restart, 1, VP8), 1);
        beds.run_for(SECOND / 10);
    }
    let sent = beds.far.take_sent(&viewer);
    assert_eq!(sent.len(), 30);
    assert!(beds.layers() <= 2);
    let (ssrc, last, _) = sent[29];
    beds.far.nack(&mut viewer, ssrc, &[last]);
    assert_eq!(beds.far.take_sent(&viewer), [sent[29]]);
}

#[test]
fn gap_is_closed_by_a_key_frame_once_there_is_room() {
    let mut beds = Beds::new();
    let publisher = beds.near.join("sendonly", VP8_ONLY);
    let viewer = beds.far.join("recvonly", VP8_ONLY);
    beds.connect(&publisher, &viewer);
    beds.send(&publisher, 5, 1, VP8);
    beds.run_for(2 * SECOND);
    let asked = beds.near.engine.counters().key_frames_requested;
    for seq in 2..10 {
        beds.near.send(&publisher, 5, seq, VP8, &KEY_FRAME);
        assert_eq!(beds.carry_unless(|_| true), 0);
        beds.run_for(SECOND);
    }
    let counters = beds.near.engine.counters();
    assert_eq!(counters.relay_dropped[RelayDrop::Full as usize], 8);
    assert_eq!(counters.key_frames_requested, asked);

    // From here on there is room at times, and the publisher answers.
    for round in 0..10 {
        for (seq, payload) in (10 + 3 * round..).zip([DELTA_FRAME, DELTA_FRAME, KEY_FRAME]) {
            beds.near.send(&publisher, 5, seq, VP8, &payload);
            let is_full = round > 0 && seq % 3 == 1;
            assert_eq!(beds.carry_unless(|_| is_full), usize::from(!is_full));
        }
        beds.run_for(Duration::from_millis(600));
    }

    // At once, and after pauses that become longer.
    let counters = beds.near.engine.counters();
    assert_eq!(counters.key_frames_requested, asked + 4);
    // Whom the publisher's worker asks.
    let counters = beds.far.engine.counters();
    assert_eq!(counters.key_frames_requested, 0);
}

#[test]
fn source_on_another_worker_gives_way_to_one_here_and_back() {
    let mut beds = Beds::new();
    let there = beds.near.join("sendonly", VP8_ONLY);
    let here = beds.far.join("sendonly", VP8_ONLY);
    let viewer = beds.far.join("recvonly", VP8_ONLY);
    for seq in 1..10 {
        let from = if seq % 2 == 0 { &there } else { &here };
        beds.connect(from, &viewer);
        assert_eq!(beds.send(&there, 5, seq, VP8), usize::from(seq % 2 == 0));
        beds.far.send(&here, 5, seq, VP8, &KEY_FRAME);
        assert_eq!(beds.far.take_sent(&viewer).len(), 1);
    }
    assert!(beds.near.engine.trunks.is_empty() && beds.far.engine.mirrors.is_empty());
}

/// A command on the engine where a publisher lives, or that of its viewer.
type Command = fn(&mut Engine, Instant, &ElementId, &ElementId) -> Result<(), Error>;

const FAR: [Command; 4] = [
    |engine, now, publisher, viewer| engine.connect(now, publisher, viewer, None),
    |engine, now, publisher, viewer| engine.disconnect(now, publisher, viewer, None),
    |engine, now, _, viewer| {
        engine.release_element(now, viewer);
        Ok(())
    },
    |engine, now, _, viewer| {
        let answer = engine.process_offer(now, viewer, &offer("inactive", VP8_ONLY));
        answer.map(|_| ())
    },
];

const NEAR: [Command; 3] = [
    |engine, now, publisher, _| {
        let answer = engine.process_offer(now, publisher, &offer("inactive", VP8_ONLY));
        answer.map(|_| ())
    },
    |engine, now, publisher, _| {
        engine.release_element(now, publisher);
        Ok(())
    },
    |engine, now, publisher, _| engine.disconnect(now, publisher, publisher, None),
];

/// Whatever leads to another worker, or from there, leads to something that exists, and back.
fn check_references(engine: &Engine) {
    let media = &engine.media;
    assert_eq!(media.trunks.len(), engine.trunks.len());
    assert_eq!(media.trunks.len(), engine.trunks_by_mirror.len());
    for (element, key) in &engine.trunks {
        let trunk = &media.trunks[key.0];
        assert_eq!(trunk.element, *element);
        assert!(engine.graph.feeder(*element, trunk.kind).is_some());
        if let Some(source) = trunk.source {
            assert!(media.sources[source.0].trunks.contains(key));
        }
    }
    for (key, source) in &media.sources {
        for trunk in &source.trunks {
            assert_eq!(media.trunks[trunk.0].source.unwrap().0, key);
        }
    }
    let mut listed = engine
        .endpoints
        .values()
        .flat_map(|endpoint| endpoint.mirrors);
    assert_eq!(listed.by_ref().flatten().count(), engine.mirrors.len());
    for (id, mirror) in &engine.mirrors {
        let endpoint = &engine.endpoints[&mirror.element];
        assert_eq!(endpoint.mirrors[mirror.kind as usize], Some(*id));
        if let Some(transport) = mirror.transport {
            assert_eq!(media.transports[transport.0].owner, mirror.element);
        }
    }
}

#[test]
fn workers_agree_again_after_a_panic_in_a_command() {
    let commands = FAR.map(|command| (command, true)).into_iter();
    for (index, (command, is_far)) in (0..).zip(commands.chain(NEAR.map(|it| (it, false)))) {
        for steps in 0.. {
            let mut beds = Beds::new();
            let publisher = beds.near.join("sendonly", VP8_ONLY);
            let viewer = beds.far.join("recvonly", VP8_ONLY);
            let bystander = beds.far.join("recvonly", VP8_ONLY);
            beds.connect(&publisher, &bystander);
            if index > 0 {
                beds.connect(&publisher, &viewer);
            }
            let (bed, subject) = match is_far {
                true => (&mut beds.far, &viewer),
                false => (&mut beds.near, &publisher),
            };
            bed.engine.steps_left.set(Some(steps));
            let subject = Subject::Element(subject.id.clone());
            let now = bed.now;
            let ended = bed.engine.contain(&subject, |engine| {
                command(engine, now, &publisher.id, &viewer.id)
            });
            bed.engine.steps_left.set(None);
            if ended.is_ok() {
                assert!(steps > 0, "command {index} has no steps");
                break;
            }
            for engine in [&beds.near.engine, &beds.far.engine] {
                check_references(engine);
            }
            beds.carry();
            for engine in [&beds.near.engine, &beds.far.engine] {
                check_references(engine);
            }
            let lives = beds.near.engine.graph.key(&publisher.id).is_ok();
            assert_eq!(lives, is_far);
            if lives {
                assert_eq!(beds.send(&publisher, 5, 1, VP8), 1);
                assert_eq!(beds.far.take_sent(&bystander).len(), 1, "{index} {steps}");
            }
            for bed in [&mut beds.near, &mut beds.far] {
                bed.engine.release_pipeline(bed.now, &bed.pipeline.clone());
            }
            beds.carry();
            for engine in [&beds.near.engine, &beds.far.engine] {
                assert_eq!(engine.graph.element_count(), 0);
                assert!(engine.media.trunks.is_empty() && engine.mirrors.is_empty());
                assert!(engine.media.transports.is_empty() && engine.endpoints.is_empty());
            }
        }
    }
}

/// What the far engine does that makes it tell the near one something.
type Cause = fn(&mut Engine, Instant, &ElementId, &ElementId);

const CAUSES: [Cause; 5] = [
    |engine, now, publisher, viewer| engine.connect(now, publisher, viewer, None).unwrap(),
    |engine, now, publisher, viewer| engine.disconnect(now, publisher, viewer, None).unwrap(),
    |engine, now, _, viewer| {
        let limits = BandwidthLimits {
            max_video_send: Some(Kilobits(300)),
            ..BandwidthLimits::default()
        };
        engine.set_bandwidth(now, viewer, limits).unwrap();
    },
    |engine, now, _, _| {
        let (key, source) = {
            let mut sources = engine.media.sources.iter();
            sources.find(|(_, it)| !it.subscribers.is_empty()).unwrap()
        };
        let wanted = source.levels.streams().last().unwrap();
        let media = &mut engine.media;
        media.request_key_frame_of(now, SourceKey(key), wanted);
    },
    |engine, _, _, _| engine.renew_mirrors(),
];

#[test]
fn panic_in_what_another_worker_says_costs_nobody_else() {
    for (index, cause) in CAUSES.into_iter().enumerate() {
        for steps in 0.. {
            let mut beds = Beds::new();
            let publisher = beds.near.join("sendonly", VP8_ONLY);
            let viewer = beds.far.join("recvonly", VP8_ONLY);
            // The other way round, by a mirror with the same number.
            let there = beds.far.join("sendonly", VP8_ONLY);
            let here = beds.near.join("recvonly", VP8_ONLY);
            beds.near.connect(&there, &here);
            beds.carry();
            if index > 0 {
                beds.connect(&publisher, &viewer);
                beds.run_for(SECOND);
                beds.send(&publisher, 5, 1, VP8);
                beds.far.take_sent(&viewer);
            }
            let now = beds.far.now;
            cause(&mut beds.far.engine, now, &publisher.id, &viewer.id);
            beds.near.engine.steps_left.set(Some(steps));
            beds.carry();
            beds.near.engine.steps_left.set(None);
            if beds.near.engine.counters().panics == 0 {
                assert!(steps > 0, "cause {index} makes it say nothing");
                break;
            }
            check_references(&beds.near.engine);
            check_references(&beds.far.engine);
            let watches = index != 1;
            let crossed = beds.send(&publisher, 5, 2, VP8);
            assert_eq!(crossed, usize::from(watches), "{index} {steps}");
            assert_eq!(beds.far.take_sent(&viewer).len(), crossed);
            beds.far.send(&there, 6, 1, VP8, &KEY_FRAME);
            beds.carry();
            assert_eq!(beds.near.take_sent(&here).len(), 1, "{index} {steps}");
            assert_eq!(beds.near.engine.trunks.len(), beds.far.engine.mirrors.len());
            assert_eq!(beds.far.engine.trunks.len(), beds.near.engine.mirrors.len());
        }
    }
}

/// Has the next thing that is done about the mirrored track of the far engine panic.
fn break_mirror(beds: &mut Beds) -> TransportKey {
    let mirror = beds.far.engine.mirrors.values();
    let mut transports = mirror.filter_map(|mirror| mirror.transport);
    let key = transports
        .find(|key| !beds.far.engine.media.transports[key.0].sources.is_empty())
        .unwrap();
    beds.far.engine.media.transports[key.0].sources[0] = SourceKey(9999);
    key
}

#[test]
fn bug_met_over_a_mirrored_track_costs_no_more_than_a_packet() {
    for by_time in [false, true] {
        let mut beds = Beds::new();
        let publisher = beds.near.join("sendonly", VP8_ONLY);
        let viewer = beds.far.join("recvonly", VP8_ONLY);
        beds.connect(&publisher, &viewer);
        beds.send(&publisher, 5, 1, VP8);
        for number in 1..=u16::from(RENEWALS_MAX) + 1 {
            assert_eq!(beds.far.take_sent(&viewer).len(), 1, "{number} {by_time}");
            let key = break_mirror(&mut beds);
            if by_time {
                let (engine, now) = (&mut beds.far.engine, beds.far.now);
                let armed = &mut engine.media.transports[key.0].armed;
                engine.timers.arm(key.0, armed, Some(now));
                engine.handle_timeout(now);
                beds.carry();
            } else {
                beds.send(&publisher, 5, 10 * number, VP8);
            }
            assert_eq!(beds.far.engine.counters().panics, u64::from(number));
            check_references(&beds.near.engine);
            check_references(&beds.far.engine);
            beds.send(&publisher, 5, 10 * number + 1, VP8);
        }
        // It cannot go on like this.
        assert_eq!(beds.far.take_sent(&viewer), []);
        let mut mirrors = beds.far.engine.mirrors.values();
        assert!(mirrors.all(|mirror| mirror.kind != MediaKind::Video));
        let trunks = &beds.near.engine.media.trunks;
        assert!(trunks.iter().all(|(_, it)| it.kind != MediaKind::Video));
        beds.connect(&publisher, &viewer);
        beds.send(&publisher, 5, 1000, VP8);
        assert_eq!(beds.far.take_sent(&viewer).len(), 1);
    }
}

#[test]
fn reports_by_the_thousand_cross_once_a_second() {
    let mut beds = Beds::new();
    let mut publisher = beds.near.join("sendonly", VP8_ONLY);
    let viewers = [0; 3].map(|_| beds.far.join("recvonly", VP8_ONLY));
    for viewer in &viewers {
        beds.connect(&publisher, viewer);
    }
    beds.send(&publisher, 5, 1, VP8);
    beds.run_for(2 * SECOND);
    let before = beds.controls;
    for _ in 0..100 {
        let mut compound = Vec::new();
        for number in 1..=40 {
            let info = SenderInfo {
                ntp: NtpTime(number << 32),
                timestamp: RtpTime(number as u32),
                packets: 1,
                octets: 1,
            };
            write_sender_report(&mut compound, Ssrc(5), &info, &[]);
        }
        publisher.sealer.seal_rtcp(&mut compound).unwrap();
        let (now, flow) = (beds.near.now, publisher.flow);
        beds.near.engine.handle_datagram(now, flow, &mut compound);
        beds.carry();
    }
    beds.run_for(SECOND);
    assert_eq!(beds.controls - before, 1);
    let sources = &beds.far.engine.media.sources;
    let (_, source) = sources.iter().next().unwrap();
    let reference = source.layers[0].receive.reference_point().unwrap();
    assert_eq!(reference.ntp, NtpTime(40 << 32));
}

#[test]
fn limit_is_said_again_with_everything_else() {
    let mut beds = Beds::new();
    let publisher = beds.near.join("sendonly", VP8_ONLY);
    let viewer = beds.far.join("recvonly", VP8_ONLY);
    beds.connect(&publisher, &viewer);
    let video = |beds: &Beds| {
        let mut trunks = beds.near.engine.media.trunks.iter();
        trunks
            .find(|(_, it)| it.kind == MediaKind::Video)
            .unwrap()
            .0
    };
    for limit in [Some(Kilobits(300)), None] {
        let limits = BandwidthLimits {
            max_video_send: limit,
            ..BandwidthLimits::default()
        };
        let (engine, now) = (&mut beds.far.engine, beds.far.now);
        engine.set_bandwidth(now, &viewer.id, limits).unwrap();
        beds.carry();
        let said = limit.map(|limit| Bitrate::from_kbps(limit.0.into()));
        let wrong = Some(Bitrate::from_kbps(5));
        for forgotten in [None, wrong] {
            let key = video(&beds);
            beds.near.engine.media.trunks[key].limit = forgotten;
            beds.far.engine.renew_mirrors();
            beds.carry();
            assert_eq!(beds.near.engine.media.trunks[key].limit, said);
        }
    }
}

#[test]
fn bug_met_while_a_packet_crosses_sends_no_other_in_its_place() {
    let mut beds = Beds::new();
    let publishers = [0; 2].map(|_| beds.near.join("sendonly", VP8_ONLY));
    let viewers = [0; 2].map(|_| beds.far.join("recvonly", VP8_ONLY));
    for (publisher, viewer) in publishers.iter().zip(&viewers) {
        beds.connect(publisher, viewer);
    }
    for publisher in &publishers {
        beds.send(publisher, 5, 1, VP8);
    }
    let near = &mut beds.near.engine;
    let source = near.media.transports[publishers[0].transport.0].sources[0];
    let stale = crate::engine::relay::TrunkKey(9999);
    near.media.sources[source.0].trunks.push(stale);
    let payloads = [1, 2].map(|last| {
        let mut payload = KEY_FRAME;
        payload[10] = last;
        payload
    });
    for (publisher, payload) in publishers.iter().zip(&payloads) {
        beds.near.send(publisher, 5, 2, VP8, payload);
    }
    assert_eq!(beds.near.engine.counters().panics, 1);
    let mut crossed = Vec::new();
    beds.near.engine.poll_relayed(beds.near.now, |_, parcel| {
        if let Parcel::Packet { payload, .. } = parcel {
            crossed.push(<[u8; 11]>::try_from(payload).unwrap());
        }
        true
    });
    assert_eq!(crossed, payloads);
}
