//! Pictures whose upper layers an encoder leaves out: the last packet that a viewer gets of one is marked, though its
//! sender did not, and waits until something tells that it is the last.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::collections::HashMap;
use std::time::Duration;

use forwarding::codec::{Codec, Vp9Descriptor};
use forwarding::rtp::{Header, Seq};
use media::MediaKind::Video;
use media::{Delivery, VideoLayer, VideoPriority};
use media_bench::peer::{PeerConfig, Received};
use media_bench::simulation::{ClientId, Simulation};

const VP8: u8 = 96;
const VP9: u8 = 98;
const VP9_RTX: u8 = 99;
/// Between pictures.
const INTERVAL: Duration = Duration::from_millis(33);
/// On the way from the publisher to the viewer.
const WAY: Duration = Duration::from_millis(20);
/// After which a picture is over if nothing comes.
const HELD_MAX: Duration = Duration::from_millis(300);

/// No more than two of three spatial layers.
const TWO_LAYERS: Delivery = Delivery {
    audio: true,
    video: true,
    height_max: None,
    frame_rate_max: None,
    priority: VideoPriority::Normal,
    layer_max: Some(VideoLayer {
        spatial: 1,
        temporal: u8::MAX,
    }),
};

const PAUSED: Delivery = Delivery {
    video: false,
    ..TWO_LAYERS
};

/// A packet as the viewer got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Got {
    /// Its publisher's number.
    number: u16,
    marker: bool,
    /// It came as a retransmission.
    repaired: bool,
    /// Its number towards the viewer.
    seq: Seq,
}

/// A publisher of VP9 in three layers, packet by packet.
struct Camera {
    id: ClientId,
    ssrc: u32,
    next: u16,
    timestamp: u32,
    picture: u8,
}

/// What it is the packet of.
#[derive(Clone, Copy)]
struct Frame {
    spatial: u8,
    key: bool,
}

const fn delta(spatial: u8) -> Frame {
    Frame {
        spatial,
        key: false,
    }
}

impl Camera {
    fn join(simulation: &mut Simulation, seed: u64) -> Self {
        let config = PeerConfig {
            audio: None,
            video_codecs: vec![Codec::Vp9, Codec::Vp8],
            transport_cc: false,
            bare: true,
            ..PeerConfig::publisher(seed)
        };
        let id = simulation.join(config);
        Self {
            id,
            ssrc: simulation.peer(id).ssrc(Video).unwrap(),
            next: 1_000,
            timestamp: 0,
            picture: 0,
        }
    }

    fn begin_picture(&mut self) {
        self.timestamp += 3_000;
        self.picture = self.picture.wrapping_add(1) & 0x7f;
    }

    /// The next packet: all of a frame. As libvpx does, only the highest layer has the marker.
    fn packet(&mut self, frame: Frame) -> Vec<u8> {
        let Frame { spatial, key } = frame;
        let has_structure = key && spatial == 0;
        // I, L, B and E; P and V.
        let first = 0xac | u8::from(!key) << 6 | u8::from(has_structure) << 1;
        let mut payload = vec![first, self.picture, spatial << 1 | u8::from(spatial > 0), 0];
        if has_structure {
            payload.push(2 << 5 | 0x10);
            for height in [180_u16, 360, 720] {
                payload.extend_from_slice(&(height * 16 / 9).to_be_bytes());
                payload.extend_from_slice(&height.to_be_bytes());
            }
        }
        self.finish(VP9, spatial == 2, &payload)
    }

    fn finish(&mut self, payload_type: u8, marker: bool, beginning: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type | u8::from(marker) << 7];
        packet.extend_from_slice(&self.next.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(beginning);
        packet.extend_from_slice(&self.next.to_be_bytes());
        packet.extend_from_slice(&[7; 80]);
        self.next += 1;
        packet
    }
}

/// A camera and a viewer who gets two of its layers.
struct Bed {
    simulation: Simulation,
    camera: Camera,
    viewer: ClientId,
    latest: Option<Seq>,
}

impl Bed {
    fn new(rtx: bool) -> Self {
        let mut simulation = Simulation::new(1);
        let camera = Camera::join(&mut simulation, 1);
        let viewer = simulation.join(PeerConfig {
            audio: None,
            transport_cc: false,
            bare: true,
            rtx,
            ..PeerConfig::viewer(2)
        });
        simulation.connect(camera.id, viewer, None);
        let mut seen = HashMap::new();
        simulation.link_mut(viewer).down = Some(Box::new(move |datagram| {
            if matches!(datagram[0], 128..=191)
                && !(192..=223).contains(&datagram[1])
                && let Ok(header) = Header::parse_protected(datagram)
            {
                let index = (header.ssrc().0, header.seq().0);
                let first = seen.entry(index).or_insert_with(|| datagram.to_vec());
                // AES-GCM must not see two packets of one index.
                assert_eq!(first, datagram, "{index:?}");
            }
            true
        }));
        let mut bed = Self {
            simulation,
            camera,
            viewer,
            latest: None,
        };
        bed.wish(TWO_LAYERS);
        bed.whole_picture(true);
        for _ in 0..120 {
            bed.whole_picture(false);
        }
        let got = bed.take();
        let [.., lower, upper] = &got[..] else {
            panic!("nothing came");
        };
        assert_eq!((lower.marker, upper.marker), (false, true), "two layers");
        assert_eq!(lower.number + 1, upper.number);
        bed
    }

    fn wish(&mut self, delivery: Delivery) {
        let now = self.simulation.now();
        let element = self.simulation.element(self.viewer).clone();
        let engine = &mut self.simulation.engine;
        engine.set_delivery(now, &element, delivery).unwrap();
    }

    fn whole_picture(&mut self, key: bool) {
        self.camera.begin_picture();
        for spatial in 0..3 {
            let packet = self.camera.packet(Frame { spatial, key });
            self.post(&packet);
        }
        self.simulation.run_for(INTERVAL);
    }

    fn post(&mut self, packet: &[u8]) {
        let peer = self.simulation.peer_mut(self.camera.id);
        peer.send_rtp(12, packet);
    }

    /// Sends a frame and waits until it could have arrived. Its number.
    fn send(&mut self, frame: Frame) -> u16 {
        let number = self.camera.next;
        let packet = self.camera.packet(frame);
        self.post(&packet);
        self.simulation.run_for(WAY);
        number
    }

    /// Begins a picture of which only the base layer comes: it is held.
    fn hold(&mut self) -> u16 {
        self.camera.begin_picture();
        let number = self.send(delta(0));
        assert_eq!(self.take(), [], "it is not known if the picture goes on");
        number
    }

    /// Packets that the viewer was sent, as counted for statistics.
    fn packets_sent(&mut self) -> u64 {
        let now = self.simulation.now();
        let element = self.simulation.element(self.viewer).clone();
        let stats = self.simulation.engine.stats(now, &element).unwrap();
        stats.streams.iter().map(|stream| stream.packets).sum()
    }

    /// What came since the last call, oldest first.
    fn take(&mut self) -> Vec<Got> {
        let mut got = Vec::new();
        let peer = self.simulation.peer_mut(self.viewer);
        while let Some(received) = peer.poll_received() {
            let Received::Rtp(bytes) = received else {
                continue;
            };
            let header = Header::parse(&bytes).unwrap();
            let (repaired, seq, payload) = match header.payload_type().0 {
                VP9_RTX => {
                    let (seq, payload) = header.payload().split_first_chunk().unwrap();
                    (true, Seq(u16::from_be_bytes(*seq)), payload)
                }
                VP9 => (false, header.seq(), header.payload()),
                _ => continue,
            };
            let descriptor = Vp9Descriptor::parse(payload).unwrap();
            let number = &payload[usize::from(descriptor.len)..];
            got.push(Got {
                number: u16::from_be_bytes(*number.first_chunk().unwrap()),
                marker: header.marker(),
                repaired,
                seq,
            });
        }
        self.latest = got.last().map(|got| got.seq).or(self.latest);
        got
    }

    /// As [`Self::take`]: numbers and markers.
    fn take_markers(&mut self) -> Vec<(u16, bool)> {
        let got = self.take();
        assert!(got.iter().all(|got| !got.repaired), "{got:?}");
        got.iter().map(|got| (got.number, got.marker)).collect()
    }

    /// Has the viewer ask for the number after the latest.
    fn ask_for_next(&mut self) -> Seq {
        let seq = self.latest.unwrap().wrapping_add(1);
        self.ask_for(seq);
        seq
    }

    fn ask_for(&mut self, seq: Seq) {
        let peer = self.simulation.peer_mut(self.viewer);
        peer.send_nack(Video, &[seq]);
        self.simulation.run_for(WAY);
    }

    /// The pictures go on without a gap after the next number but so many.
    fn check_goes_on(&mut self, holes: u16) {
        let before = self.latest.unwrap();
        self.whole_picture(false);
        let got = self.take();
        let ends: Vec<_> = got.iter().map(|got| got.marker).collect();
        assert_eq!(ends, [false, true]);
        assert_eq!(got[0].seq, before.wrapping_add(1 + holes));
        assert_eq!(got[1].seq, before.wrapping_add(2 + holes));
        assert_eq!(self.simulation.engine.counters().panics, 0);
    }
}

#[test]
fn next_packet_tells_if_a_picture_is_over() {
    // Layer of the next packet of the same picture, if there is one.
    for (next, marker) in [(None, true), (Some(1), false), (Some(2), true)] {
        let mut bed = Bed::new(true);
        let held = bed.hold();
        let follower = match next {
            Some(spatial) => bed.send(delta(spatial)),
            None => {
                bed.camera.begin_picture();
                bed.send(delta(0))
            }
        };
        let mut expected = vec![(held, marker)];
        if next == Some(1) {
            expected.push((follower, true));
        }
        assert_eq!(bed.take_markers(), expected, "{next:?}");
    }
}

#[test]
fn what_is_held_is_not_sent_for_a_nack() {
    for rtx in [true, false] {
        let mut bed = Bed::new(rtx);
        let held = bed.hold();
        let seq = bed.ask_for_next();
        assert_eq!(bed.take(), [], "rtx {rtx}");
        bed.whole_picture(false);
        let got = bed.take();
        let first = (got[0].number, got[0].marker, got[0].seq);
        assert_eq!(first, (held, true, seq));
        assert_eq!(got.len(), 3);
        // Sent again it would be another packet if its marker changed: only on another SSRC.
        let before = bed.packets_sent();
        bed.ask_for(seq);
        let again: Vec<_> = rtx
            .then_some(Got {
                repaired: true,
                ..got[0]
            })
            .into_iter()
            .collect();
        assert_eq!(bed.take(), again);
        assert_eq!(bed.packets_sent() - before, again.len() as u64);
    }
}

#[test]
fn what_comes_late_leaves_before_what_is_held() {
    let mut bed = Bed::new(true);
    bed.camera.begin_picture();
    let late = bed.camera.next;
    let packet = bed.camera.packet(delta(0));
    let held = bed.hold();
    bed.post(&packet);
    bed.simulation.run_for(WAY);
    assert_eq!(bed.take_markers(), [(late, true)]);
    bed.camera.begin_picture();
    bed.send(delta(0));
    assert_eq!(bed.take_markers(), [(held, true)]);
}

#[test]
fn what_is_held_leaves_unmarked_if_the_next_packet_is_lost() {
    let mut bed = Bed::new(true);
    let held = bed.hold();
    bed.camera.packet(delta(1));
    bed.camera.begin_picture();
    bed.send(delta(0));
    assert_eq!(bed.take_markers(), [(held, false)]);
}

#[test]
fn picture_is_over_if_nothing_comes() {
    for rtx in [true, false] {
        let mut bed = Bed::new(rtx);
        let held = bed.hold();
        bed.simulation.run_for(HELD_MAX - WAY);
        assert_eq!(bed.take(), []);
        bed.simulation.run_for(WAY);
        assert_eq!(bed.take_markers(), [(held, true)]);
        bed.simulation.run_for(Duration::from_secs(10));
        assert_eq!(bed.take(), [], "once");
        bed.check_goes_on(0);
        // The next one waits as long.
        let held = bed.hold();
        bed.simulation.run_for(HELD_MAX - 2 * WAY);
        assert_eq!(bed.take(), []);
        bed.simulation.run_for(2 * WAY);
        assert_eq!(bed.take_markers(), [(held, true)]);
    }
}

#[test]
fn what_is_held_of_another_source_is_a_hole() {
    for rtx in [true, false] {
        let mut bed = Bed::new(rtx);
        bed.hold();
        let other = Camera::join(&mut bed.simulation, 3);
        let former = std::mem::replace(&mut bed.camera, other);
        let viewer = bed.viewer;
        bed.simulation.disconnect(former.id, viewer, None);
        bed.simulation.connect(bed.camera.id, viewer, None);
        let before = bed.latest.unwrap();
        bed.whole_picture(true);
        let got = bed.take();
        assert_eq!(got.first().map(|got| got.number), Some(1_000));
        assert_eq!(got[0].seq, before.wrapping_add(2));
        bed.ask_for(before.wrapping_add(1));
        bed.simulation.run_for(2 * HELD_MAX);
        assert_eq!(bed.take(), []);
    }
}

#[test]
fn what_is_held_of_a_replaced_stream_is_a_hole() {
    let mut bed = Bed::new(false);
    bed.hold();
    bed.camera.ssrc ^= 0x55;
    bed.camera.next = 30_000;
    let before = bed.latest.unwrap();
    bed.whole_picture(true);
    let got = bed.take();
    assert_eq!(got.first().map(|got| got.number), Some(30_000));
    assert_eq!(got[0].seq, before.wrapping_add(2));
    bed.ask_for(before.wrapping_add(1));
    bed.simulation.run_for(2 * HELD_MAX);
    assert_eq!(bed.take(), []);
}

#[test]
fn what_is_held_leaves_before_another_codec_begins() {
    for rtx in [true, false] {
        let mut bed = Bed::new(rtx);
        let held = bed.hold();
        bed.camera.begin_picture();
        // A key frame of VP8.
        let beginning = [0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1];
        let packet = bed.camera.finish(VP8, true, &beginning);
        bed.post(&packet);
        bed.simulation.run_for(WAY);
        let seq = bed.latest.unwrap().wrapping_add(1);
        assert_eq!(bed.take_markers(), [(held, false)]);
        assert_eq!(bed.latest, Some(seq));
        bed.ask_for(seq);
        bed.simulation.run_for(2 * HELD_MAX);
        assert!(bed.take().iter().all(|got| got.repaired));
        assert_eq!(bed.simulation.engine.counters().panics, 0);
    }
}

#[test]
fn last_picture_before_a_pause_is_whole() {
    let mut bed = Bed::new(false);
    let held = bed.hold();
    bed.wish(PAUSED);
    bed.whole_picture(false);
    assert_eq!(bed.take_markers(), [(held, true)]);
    bed.simulation.run_for(2 * HELD_MAX);
    bed.whole_picture(false);
    assert_eq!(bed.take(), []);
}

#[test]
fn cached_key_frame_is_followed_by_what_is_held() {
    for rtx in [true, false] {
        let mut bed = Bed::new(rtx);
        let held = bed.hold();
        bed.wish(PAUSED);
        let key = bed.camera.next;
        bed.whole_picture(true);
        assert_eq!(bed.take_markers(), [(held, true)]);
        bed.camera.begin_picture();
        let open = bed.send(delta(0));
        assert_eq!(bed.take(), []);
        bed.wish(TWO_LAYERS);
        bed.simulation.run_for(WAY);
        assert_eq!(bed.take_markers(), [(key, false), (key + 1, true)]);
        let seq = bed.ask_for_next();
        assert_eq!(bed.take(), []);
        bed.whole_picture(false);
        let got = bed.take();
        assert_eq!((got[0].number, got[0].marker), (open, true));
        assert_eq!((got[0].seq, got.len()), (seq, 3));
        bed.check_goes_on(0);
    }
}

#[test]
fn what_is_held_and_no_longer_kept_is_a_hole() {
    let mut bed = Bed::new(true);
    bed.hold();
    let before = bed.latest.unwrap();
    // Takes its place in the history.
    bed.camera.next += 1_023;
    bed.camera.begin_picture();
    bed.send(delta(0));
    assert_eq!(bed.take(), []);
    let upper = bed.send(delta(1));
    let got = bed.take();
    let upper_seq = before.wrapping_add(1_026);
    assert_eq!((got[1].number, got[1].marker), (upper, true));
    assert_eq!(got[1].seq, upper_seq);
    bed.ask_for(before.wrapping_add(1));
    assert_eq!(bed.take(), []);
    bed.check_goes_on(0);
}
