//! One pipeline on several workers: what reaches subscribers that live on another worker than their publisher.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use forwarding::codec::Codec;
use media::MediaKind::{Audio, Data, Video};
use media::{
    BandwidthLimits, ElementId, ElementKind, Error, ErrorKind, Event, EventSender, Kilobits,
    MediaKind,
};
use media_bench::peer::{Direction, PeerConfig, PeerEvent, ReceivedPacket};
use media_bench::simulation::{ClientId, Simulation};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::engine::counters::{Counters, Discard, RelayDrop};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(5);
/// Payload type of video in the offers of peers.
const VP8: u8 = 96;

fn packets(simulation: &Simulation, id: ClientId, kind: MediaKind) -> &[ReceivedPacket] {
    let stream = simulation.peer(id).received(kind);
    stream.map_or(&[], |stream| &stream.packets)
}

fn counters(simulation: &mut Simulation, worker: usize) -> Counters {
    simulation.engine_on(worker).counters()
}

fn dropped(simulation: &mut Simulation, worker: usize, reason: RelayDrop) -> u64 {
    counters(simulation, worker).relay_dropped[reason as usize]
}

fn picture_losses(simulation: &Simulation, id: ClientId) -> u64 {
    simulation.peer(id).feedback(Video).unwrap().picture_losses
}

/// Every number once, none missing, all payloads intact, timestamps never back.
fn check_continuity(packets: &[ReceivedPacket]) {
    for pair in packets.windows(2) {
        let [one, two] = pair else { continue };
        assert_eq!(two.seq, one.seq.next());
        assert!(two.timestamp == one.timestamp || two.timestamp.is_after(one.timestamp));
    }
    assert!(packets.iter().all(|packet| packet.stamp.is_some()));
}

/// Loses video packets by their position, counted from 0.
fn lose_video(positions: &'static [u32]) -> media_bench::simulation::Filter {
    let mut position = 0;
    Box::new(move |datagram| {
        let is_rtp = matches!(datagram.first(), Some(128..=191)) && datagram[1] & 0x7f == VP8;
        position += u32::from(is_rtp);
        !(is_rtp && positions.contains(&(position - 1)))
    })
}

/// Nothing is left on any worker.
fn check_empty(simulation: &mut Simulation, workers: usize) {
    for worker in 0..workers {
        let counters = counters(simulation, worker);
        assert_eq!((counters.elements, counters.transports), (0, 0), "{worker}");
        assert_eq!((counters.mirrors, counters.trunks), (0, 0), "{worker}");
        assert_eq!(simulation.engine_on(worker).poll_timeout(), None);
    }
}

#[test]
fn packet_crosses_once_for_all_subscribers_of_a_worker() {
    let mut simulation = Simulation::with_workers(1, 3);
    let publisher = simulation.join(PeerConfig::publisher(1));
    let places = [0, 1, 1, 1, 2, 2];
    let viewers: Vec<_> = (10..)
        .zip(places)
        .map(|(seed, worker)| {
            let viewer = simulation.join_on(worker, PeerConfig::viewer(seed));
            simulation.connect(publisher, viewer, None);
            viewer
        })
        .collect();
    simulation.start_media(publisher);
    simulation.run_for(5 * SECOND);

    for viewer in viewers {
        for (kind, least) in [(Audio, 240), (Video, 370)] {
            let stream = simulation.peer(viewer).received(kind).unwrap();
            assert_eq!((stream.corrupt, stream.missing()), (0, 0));
            assert!(stream.packets.len() > least, "{}", stream.packets.len());
            check_continuity(&stream.packets);
            for pair in stream.packets.windows(2) {
                let [a, b] = [&pair[0], &pair[1]].map(|packet| packet.stamp.unwrap().number);
                assert_eq!(b, a + 1);
            }
            let level = (kind == Audio).then_some(0x80 | 30);
            assert_eq!(stream.packets[0].audio_level, level);
        }
        assert!(packets(&simulation, viewer, Video)[0].key_frame);
    }
    let [near, far, farther] = [0, 1, 2].map(|worker| counters(&mut simulation, worker));
    assert_eq!(far.rtp_relay_received, near.rtp_received);
    assert_eq!(farther.rtp_relay_received, near.rtp_received);
    assert_eq!(near.rtp_relayed, 2 * near.rtp_received);
    assert_eq!(far.rtp_forwarded, 3 * far.rtp_relay_received);
    for counters in [near, far, farther] {
        assert_eq!(counters.relay_dropped, [0; RelayDrop::ALL.len()]);
        assert_eq!(counters.discarded, [0; Discard::ALL.len()]);
    }
    // What stands for others is nobody's element, and no session.
    assert_eq!((far.elements, far.transports), (3, 3));
    assert_eq!((near.elements, near.transports), (2, 2));
    // One for each kind of media, and each worker.
    assert_eq!((far.mirrors, farther.mirrors, near.mirrors), (3, 3, 0));
    assert_eq!((far.trunks, farther.trunks, near.trunks), (0, 0, 6));
}

#[test]
fn video_of_a_late_viewer_starts_at_a_key_frame_that_was_asked_for() {
    let mut simulation = Simulation::with_workers(2, 2);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    simulation.run_for(3 * SECOND);
    let viewers: Vec<_> = (0..20)
        .map(|seed| simulation.join_on(1, PeerConfig::viewer(100 + seed)))
        .collect();
    let before = picture_losses(&simulation, call.publisher);
    for viewer in &viewers {
        simulation.connect(call.publisher, *viewer, None);
        simulation.run_for(TICK);
    }
    simulation.run_for(SECOND);
    for viewer in viewers {
        let video = packets(&simulation, viewer, Video);
        assert!(video[0].key_frame);
        check_continuity(video);
    }
    let asked = picture_losses(&simulation, call.publisher) - before;
    assert!((1..=2).contains(&asked), "{asked} requests");
}

#[test]
fn request_that_the_publisher_did_not_get_is_repeated() {
    let mut simulation = Simulation::with_workers(3, 2);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    simulation.run_for(SECOND);
    let viewer = simulation.join_on(1, PeerConfig::viewer(2));
    let mut requests = 0;
    simulation.link_mut(call.publisher).down = Some(Box::new(move |datagram| {
        let is_feedback = matches!(datagram.get(1), Some(200..=206));
        requests += u32::from(is_feedback);
        !is_feedback || requests > 15
    }));
    simulation.connect(call.publisher, viewer, None);
    simulation.run_for(4 * SECOND);
    assert!(packets(&simulation, viewer, Video)[0].key_frame);
}

#[test]
fn what_a_viewer_missed_comes_from_its_own_worker() {
    for rtx in [true, false] {
        let mut simulation = Simulation::with_workers(4, 2);
        let viewer = PeerConfig {
            rtx,
            // Without probes, which send packets again too.
            transport_cc: false,
            ..PeerConfig::viewer(2)
        };
        let call = simulation.call_on(PeerConfig::publisher(1), 1, &[viewer]);
        simulation.link_mut(call.viewers[0]).down = Some(lose_video(&[5, 9, 10, 30]));
        simulation.run_for(2 * SECOND);
        simulation.stop_media(call.publisher);
        simulation.run_for(3 * SECOND);
        let stream = simulation.peer(call.viewers[0]).received(Video).unwrap();
        assert_eq!((stream.corrupt, stream.missing()), (0, 0));
        let sent_again = [0, 1].map(|worker| counters(&mut simulation, worker).rtp_retransmitted);
        assert_eq!(sent_again, [0, 4]);
        let feedback = simulation.peer(call.publisher).feedback(Video).unwrap();
        assert_eq!(feedback.nacks, 0);
    }
}

#[test]
fn what_was_lost_before_the_publishers_worker_is_repaired_beyond_it() {
    let mut simulation = Simulation::with_workers(5, 2);
    let call = simulation.call_on(PeerConfig::publisher(1), 1, &[PeerConfig::viewer(2)]);
    simulation.link_mut(call.publisher).up = Some(lose_video(&[4, 20, 21, 50]));
    simulation.run_for(2 * SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(3 * SECOND);
    let stream = simulation.peer(call.viewers[0]).received(Video).unwrap();
    assert_eq!((stream.corrupt, stream.missing()), (0, 0));
}

/// When packets of a kind were captured by the latest sender report, less when they were: seconds.
fn clock(simulation: &Simulation, viewer: ClientId, kind: MediaKind) -> f64 {
    let rate = if kind == Video { 90_000.0 } else { 48_000.0 };
    let stream = simulation.peer(viewer).received(kind).unwrap();
    let (_, report) = stream.reports.last().unwrap();
    let packet = stream.packets.last().unwrap();
    let ticks = packet.timestamp.ticks_from(report.timestamp) as i32;
    let captured = report.ntp.0 as f64 / 2f64.powi(32) + f64::from(ticks) / rate;
    captured - packet.stamp.unwrap().sent_micros as f64 / 1e6
}

#[test]
fn sound_and_picture_stay_together_on_every_worker() {
    let mut simulation = Simulation::with_workers(6, 2);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let far = simulation.join_on(1, PeerConfig::viewer(3));
    simulation.connect(call.publisher, far, None);
    simulation.run_for(6 * SECOND);
    let offset = clock(&simulation, call.viewers[0], Audio);
    for viewer in [call.viewers[0], far] {
        for kind in [Audio, Video] {
            let off = (clock(&simulation, viewer, kind) - offset).abs();
            assert!(off < 0.002, "{off} s apart");
            let stream = simulation.peer(viewer).received(kind).unwrap();
            assert!(stream.reports.len() >= 4);
        }
    }
    // One that comes later knows the clocks from the beginning.
    let late = simulation.join_on(1, PeerConfig::viewer(4));
    simulation.disconnect(call.publisher, far, None);
    simulation.connect(call.publisher, late, None);
    simulation.run_until(2 * SECOND, |simulation| {
        let reports = [Audio, Video].map(|kind| {
            let stream = simulation.peer(late).received(kind);
            stream.is_some_and(|stream| !stream.reports.is_empty())
        });
        reports == [true; 2]
    });
    for kind in [Audio, Video] {
        let off = (clock(&simulation, late, kind) - offset).abs();
        assert!(off < 0.002, "{off} s apart");
    }
}

#[test]
fn limits_of_viewers_reach_the_publisher() {
    let mut simulation = Simulation::with_workers(7, 2);
    let call = simulation.call_on(PeerConfig::publisher(1), 1, &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    let unlimited = simulation.peer(call.publisher).remb();
    assert!(unlimited > Some(1_000_000));
    let limits = BandwidthLimits {
        max_video_send: Some(Kilobits(300)),
        ..BandwidthLimits::default()
    };
    let (now, element) = (
        simulation.now(),
        simulation.element(call.viewers[0]).clone(),
    );
    let engine = simulation.engine_on(1);
    engine.set_bandwidth(now, &element, limits).unwrap();
    simulation.run_for(3 * SECOND);
    let remb = simulation.peer(call.publisher).remb().unwrap();
    assert!((290_000..=300_000).contains(&remb), "{remb}");

    let other = simulation.join_on(1, PeerConfig::viewer(3));
    simulation.connect(call.publisher, other, None);
    simulation.release(call.viewers[0]);
    simulation.run_for(10 * SECOND);
    assert!(simulation.peer(call.publisher).remb() > Some(600_000));
}

#[test]
fn codec_that_a_viewer_lacks_is_told_once() {
    let mut simulation = Simulation::with_workers(8, 2);
    let publisher = PeerConfig {
        video_codecs: vec![Codec::H264],
        ..PeerConfig::publisher(1)
    };
    let viewer = PeerConfig {
        video_codecs: vec![Codec::Vp8],
        ..PeerConfig::viewer(2)
    };
    let call = simulation.call_on(publisher, 1, &[viewer]);
    simulation.run_for(3 * SECOND);
    let told = simulation.take_told(call.viewers[0]);
    let errors = told.iter().filter(|event| {
        let kind = ErrorKind::StreamFailed;
        matches!(event, Event::Error { kind: told, .. } if *told == kind)
    });
    assert_eq!(errors.count(), 1);
    assert!(packets(&simulation, call.viewers[0], Audio).len() > 100);
}

#[test]
fn connect_before_the_negotiation_is_as_good() {
    let mut simulation = Simulation::with_workers(9, 2);
    let publisher = simulation.add(PeerConfig::publisher(1));
    let viewer = simulation.add_on(1, PeerConfig::viewer(2));
    simulation.connect(publisher, viewer, None);
    simulation.negotiate(viewer);
    simulation.run_for(SECOND);
    simulation.negotiate(publisher);
    simulation.start_media(publisher);
    simulation.run_for(2 * SECOND);
    for kind in [Audio, Video] {
        assert!(packets(&simulation, viewer, kind).len() > 40, "{kind:?}");
    }
    assert!(packets(&simulation, viewer, Video)[0].key_frame);
}

#[test]
fn stream_goes_on_when_its_source_moves_between_workers() {
    let mut simulation = Simulation::with_workers(11, 3);
    let viewer = simulation.join_on(2, PeerConfig::viewer(9));
    let publishers = [0, 1, 2].map(|worker| {
        let publisher = simulation.join_on(worker, PeerConfig::publisher(worker as u64));
        simulation.start_media(publisher);
        publisher
    });
    let order = [0, 1, 2, 0];
    for place in order {
        simulation.connect(publishers[place], viewer, None);
        simulation.run_for(2 * SECOND);
    }

    assert_eq!(simulation.peer(viewer).streams().count(), 2);
    for kind in [Audio, Video] {
        let packets = packets(&simulation, viewer, kind);
        check_continuity(packets);
        let sources = packets.iter().map(|packet| packet.stamp.unwrap().source);
        let mut sources: Vec<_> = sources.collect();
        sources.dedup();
        let expected = order.map(|place| simulation.peer(publishers[place]).ssrc(kind).unwrap());
        assert_eq!(sources, expected, "{kind:?}");
    }
    // Nothing crosses that nobody wants any more.
    let crossing = counters(&mut simulation, 1).rtp_relayed;
    simulation.run_for(SECOND);
    assert_eq!(counters(&mut simulation, 1).rtp_relayed, crossing);
}

#[test]
fn kinds_connect_and_cross_one_by_one() {
    let mut simulation = Simulation::with_workers(12, 2);
    let publisher = simulation.join(PeerConfig::publisher(1));
    let viewer = simulation.join_on(1, PeerConfig::viewer(2));
    simulation.start_media(publisher);
    simulation.connect(publisher, viewer, Some(Audio));
    simulation.run_for(SECOND);
    let crossed = counters(&mut simulation, 0).rtp_relayed;
    let heard = packets(&simulation, viewer, Audio).len() as u64;
    assert!(crossed - heard <= 1, "{crossed} crossed, {heard} arrived");
    simulation.connect(publisher, viewer, Some(Video));
    simulation.disconnect(publisher, viewer, Some(Audio));
    simulation.run_for(TICK * 4);
    let heard = packets(&simulation, viewer, Audio).len();
    simulation.run_for(SECOND);
    assert_eq!(packets(&simulation, viewer, Audio).len(), heard);
    assert!(packets(&simulation, viewer, Video).len() > 50);
}

fn pass_through(simulation: &mut Simulation) -> ElementId {
    let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
    let (kind, events) = (ElementKind::PassThrough, EventSender::discard());
    let engine = &mut simulation.engine;
    engine.create_element(now, &pipeline, kind, events).unwrap()
}

fn link(simulation: &mut Simulation, worker: usize, from: &ElementId, to: &ElementId) {
    let now = simulation.now();
    let engine = simulation.engine_on(worker);
    engine.connect(now, from, to, None).unwrap();
}

#[test]
fn media_crosses_twice_through_an_element_at_home() {
    let mut simulation = Simulation::with_workers(13, 3);
    let publishers = [1, 2].map(|worker| {
        let publisher = simulation.join_on(worker, PeerConfig::publisher(worker as u64));
        simulation.start_media(publisher);
        publisher
    });
    let viewers = [0, 1, 2].map(|worker| simulation.join_on(worker, PeerConfig::viewer(7)));
    let between = pass_through(&mut simulation);
    for (worker, viewer) in viewers.into_iter().enumerate() {
        let sink = simulation.element(viewer).clone();
        link(&mut simulation, worker, &between, &sink);
    }
    for publisher in publishers {
        let source = simulation.element(publisher).clone();
        link(&mut simulation, 0, &source, &between);
        simulation.run_for(2 * SECOND);
        for viewer in viewers {
            for kind in [Audio, Video] {
                let packets = packets(&simulation, viewer, kind);
                check_continuity(packets);
                let source = packets.last().unwrap().stamp.unwrap().source;
                assert_eq!(simulation.peer(publisher).ssrc(kind), Some(source));
                let age = simulation.now() - packets.last().unwrap().at;
                assert!(age < Duration::from_millis(50), "{age:?}");
            }
        }
    }
    let now = simulation.now();
    simulation.engine.release_element(now, &between);
    for client in publishers.into_iter().chain(viewers) {
        simulation.release(client);
    }
    simulation.run_for(TICK);
    check_empty(&mut simulation, 3);
}

#[test]
fn stalled_worker_hurts_only_its_own_subscribers() {
    let mut simulation = Simulation::with_workers(14, 2);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let far = simulation.join_on(1, PeerConfig::viewer(3));
    simulation.connect(call.publisher, far, None);
    simulation.run_for(2 * SECOND);
    let (seen, asked) = (
        packets(&simulation, far, Video).len(),
        picture_losses(&simulation, call.publisher),
    );
    simulation.stall(1, Some(30));
    simulation.run_for(3 * SECOND);
    assert_eq!(packets(&simulation, far, Video).len(), seen);
    assert_eq!(picture_losses(&simulation, call.publisher), asked);
    let lost = dropped(&mut simulation, 0, RelayDrop::Full);
    assert!(lost > 300, "{lost}");

    simulation.stall(1, None);
    simulation.run_for(2 * SECOND);

    check_continuity(packets(&simulation, call.viewers[0], Video));
    // For the gap, and for the viewer that finds out about it.
    let asked = picture_losses(&simulation, call.publisher) - asked;
    assert!((1..=2).contains(&asked), "{asked} requests");
    let after = &packets(&simulation, far, Video)[seen..];
    let recovered = after.iter().position(|packet| packet.key_frame).unwrap();
    assert!(after.len() - recovered > 100);
    assert!(after.iter().all(|packet| packet.stamp.is_some()));
    assert_eq!(dropped(&mut simulation, 0, RelayDrop::Full), lost);
}

#[test]
fn nothing_is_left_in_whichever_order_things_end() {
    // By index: the publisher, the viewer, the connection, the pipeline on either worker.
    for first in 0..5 {
        for second in (0..5).filter(|second| *second != first) {
            for stalls in [false, true] {
                let mut simulation = Simulation::with_workers(15, 2);
                let call =
                    simulation.call_on(PeerConfig::publisher(1), 1, &[PeerConfig::viewer(2)]);
                simulation.run_for(SECOND);
                let viewer = call.viewers[0];
                for step in [first, second, 3, 4] {
                    if stalls {
                        simulation.stall(step % 2, Some(5));
                    }
                    let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
                    let [source, sink] =
                        [call.publisher, viewer].map(|id| simulation.element(id).clone());
                    match step {
                        0 => simulation.release(call.publisher),
                        1 => simulation.release(viewer),
                        2 => {
                            // Either may be gone.
                            let far = simulation.engine_on(1);
                            let _ = far.disconnect(now, &source, &sink, None);
                        }
                        worker => simulation
                            .engine_on(worker - 3)
                            .release_pipeline(now, &pipeline),
                    }
                    simulation.run_for(TICK);
                    simulation.stall(step % 2, None);
                    simulation.run_for(TICK);
                    if matches!(step, 0 | 2) {
                        let crossed = counters(&mut simulation, 0).rtp_relayed;
                        simulation.run_for(SECOND / 10);
                        assert_eq!(counters(&mut simulation, 0).rtp_relayed, crossed);
                    }
                }
                check_empty(&mut simulation, 2);
            }
        }
    }
}

#[test]
fn connections_to_nothing_end() {
    let mut simulation = Simulation::with_workers(16, 2);
    let viewer = simulation.join_on(1, PeerConfig::viewer(2));
    let gone = simulation.add(PeerConfig::publisher(1));
    simulation.release(gone);
    simulation.connect(gone, viewer, None);
    simulation.run_for(TICK);
    simulation.disconnect(gone, viewer, None);

    let now = simulation.now();
    let sink = simulation.element(viewer).clone();
    let stranger = ElementId::new("0000ffff_kurento.MediaPipeline/00001_kurento.WebRtcEndpoint");
    let connected = simulation.engine_on(1).connect(now, &stranger, &sink, None);
    assert_eq!(connected, Err(Error::DifferentPipelines));
    simulation.release(viewer);
    simulation.run_for(TICK);
    check_empty(&mut simulation, 2);
}

#[test]
fn messages_reach_receivers_on_every_worker() {
    let config = |seed| PeerConfig {
        data: true,
        ..PeerConfig::new(seed)
    };
    let mut simulation = Simulation::with_workers(17, 3);
    let sender = simulation.join(config(1));
    let receivers = [0, 1, 1, 2].map(|worker| {
        let receiver = simulation.join_on(worker, config(2));
        simulation.connect(sender, receiver, Some(Data));
        receiver
    });
    let now = simulation.now();
    let channel = simulation.peer_mut(sender).open_channel(now, "chat");
    simulation.run_for(SECOND);
    for (binary, data) in [(false, b"hello".to_vec()), (true, vec![7; 50_000])] {
        let now = simulation.now();
        let peer = simulation.peer_mut(sender);
        assert!(peer.send_message(now, channel.unwrap(), binary, &data));
        simulation.run_for(SECOND);
    }
    for receiver in receivers {
        let events = simulation.take_events(receiver);
        let opened = events.iter().filter_map(|event| match event {
            PeerEvent::ChannelOpened { label, .. } => Some(label.as_str()),
            _ => None,
        });
        assert_eq!(opened.collect::<Vec<_>>(), ["chat"]);
        let messages = events.iter().filter_map(|event| match event {
            PeerEvent::Message { binary, data, .. } => Some((*binary, data.to_vec())),
            _ => None,
        });
        let expected = [(false, b"hello".to_vec()), (true, vec![7; 50_000])];
        assert_eq!(messages.collect::<Vec<_>>(), expected);
    }
}

/// Who is fed by whom, and nothing else.
#[derive(Default)]
struct Model {
    /// By the index of the sink and the kind.
    feeders: BTreeMap<(usize, MediaKind), usize>,
    released: Vec<usize>,
}

impl Model {
    fn connect(&mut self, source: usize, sink: usize, kind: MediaKind) {
        self.feeders.insert((sink, kind), source);
    }

    fn disconnect(&mut self, source: usize, sink: usize, kind: MediaKind) {
        if self.feeders.get(&(sink, kind)) == Some(&source) {
            self.feeders.remove(&(sink, kind));
        }
    }

    fn release(&mut self, element: usize) {
        let feeders = &mut self.feeders;
        feeders.retain(|(sink, _), source| *sink != element && *source != element);
        self.released.push(element);
    }

    /// The peer whose media a sink gets. Those from `peers` on are pass-through elements.
    fn origin(&self, sink: usize, kind: MediaKind, peers: usize) -> Option<usize> {
        let mut at = sink;
        for _ in 0..10 {
            at = *self.feeders.get(&(at, kind))?;
            if at < peers {
                return Some(at);
            }
        }
        None
    }
}

#[test]
fn everybody_gets_what_the_connections_say() {
    const WORKERS: usize = 3;
    const PEERS: usize = 9;
    const ELEMENTS: usize = PEERS + 2;
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut simulation = Simulation::with_workers(seed, WORKERS);
        let clients: Vec<_> = (0..PEERS)
            .map(|index| {
                let config = PeerConfig {
                    audio: Some(Direction::SendRecv),
                    video: Some(Direction::SendRecv),
                    ..PeerConfig::new(index as u64)
                };
                let client = simulation.join_on(index % WORKERS, config);
                simulation.start_media(client);
                client
            })
            .collect();
        let mut elements: Vec<_> = clients
            .iter()
            .map(|client| simulation.element(*client).clone())
            .collect();
        elements.extend([(); 2].map(|()| pass_through(&mut simulation)));
        let worker = |element: usize| {
            if element < PEERS {
                element % WORKERS
            } else {
                0
            }
        };
        let mut model = Model::default();
        for _ in 0..12 {
            if random.random_bool(0.3) {
                simulation.stall(random.random_range(0..WORKERS), Some(10));
            }
            for _ in 0..random.random_range(1..8) {
                let now = simulation.now();
                let [source, sink] = [(); 2].map(|()| random.random_range(0..ELEMENTS));
                let kinds: &[MediaKind] = match random.random_range(0..3) {
                    0 => &[Audio],
                    1 => &[Video],
                    _ => &[Audio, Video],
                };
                let alive = |element| !model.released.contains(element);
                if ![source, sink].iter().all(alive) {
                    continue;
                }
                let engine = simulation.engine_on(worker(sink));
                let (from, to) = (&elements[source], &elements[sink]);
                match random.random_range(0..20) {
                    0 => {
                        engine.release_element(now, to);
                        model.release(sink);
                    }
                    1..6 => {
                        for kind in kinds {
                            engine.disconnect(now, from, to, Some(*kind)).unwrap();
                            model.disconnect(source, sink, *kind);
                        }
                    }
                    _ => {
                        for kind in kinds {
                            engine.connect(now, from, to, Some(*kind)).unwrap();
                            model.connect(source, sink, *kind);
                        }
                    }
                }
                if random.random_bool(0.5) {
                    simulation.run_for(TICK);
                }
            }
            for worker in 0..WORKERS {
                simulation.stall(worker, None);
            }
            simulation.run_for(2 * SECOND);
            let recent = simulation.now() - Duration::from_millis(200);
            for (sink, client) in clients.iter().enumerate() {
                if model.released.contains(&sink) {
                    continue;
                }
                for kind in [Audio, Video] {
                    let origin = model.origin(sink, kind, PEERS);
                    let expected = origin.map(|source| simulation.peer(clients[source]).ssrc(kind));
                    let packets = packets(&simulation, *client, kind).iter().rev();
                    let recent = packets.take_while(|packet| packet.at > recent);
                    let mut sources: Vec<_> =
                        recent.map(|packet| packet.stamp.unwrap().source).collect();
                    sources.dedup();
                    let expected: Vec<_> = expected.flatten().into_iter().collect();
                    assert_eq!(sources, expected, "seed {seed}, sink {sink}, {kind:?}");
                }
            }
        }
        let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
        for worker in [1, 0, 2] {
            simulation
                .engine_on(worker)
                .release_pipeline(now, &pipeline);
        }
        simulation.run_for(TICK);
        check_empty(&mut simulation, WORKERS);
        for worker in 0..WORKERS {
            assert_eq!(counters(&mut simulation, worker).panics, 0);
        }
    }
}
