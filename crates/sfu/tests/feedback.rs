//! RTCP through the engine: reports, key-frame requests, and what publishers are told to send.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::time::Duration;

use forwarding::rtcp::SenderInfo;
use media::MediaKind::{self, Audio, Video};
use media::{BandwidthLimits, Direction, Kilobits};
use media_bench::peer::{Feedback, PeerConfig};
use media_bench::simulation::{Call, ClientId, Simulation};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn feedback(simulation: &Simulation, call: &Call) -> Feedback {
    let peer = simulation.peer(call.publisher);
    peer.feedback(Video).unwrap().clone()
}

/// When a packet was captured, on the server's clock, by a sender report: seconds.
fn captured(report: &SenderInfo, timestamp: u32, kind: MediaKind) -> f64 {
    let rate = if kind == Video { 90_000.0 } else { 48_000.0 };
    let ticks = timestamp.wrapping_sub(report.timestamp.0) as i32;
    report.ntp.0 as f64 / 2f64.powi(32) + f64::from(ticks) / rate
}

fn clocks(simulation: &Simulation, viewer: ClientId, kind: MediaKind) -> Vec<f64> {
    let stream = simulation.peer(viewer).received(kind).unwrap();
    let (_, report) = stream.reports.last().unwrap();
    let packets = stream.packets.iter().rev().take(200);
    packets
        .map(|packet| {
            let sent = packet.stamp.unwrap().sent_micros as f64 / 1e6;
            captured(report, packet.timestamp.0, kind) - sent
        })
        .collect()
}

#[test]
fn sender_reports_keep_sound_and_picture_together() {
    let mut simulation = Simulation::new(1);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(6 * SECOND);
    let viewer = call.viewers[0];
    // The publisher's clock is some constant off the server's; the same for both kinds.
    let audio = clocks(&simulation, viewer, Audio);
    for offset in audio.iter().chain(&clocks(&simulation, viewer, Video)) {
        let off = (offset - audio[0]).abs();
        assert!(off < 0.002, "{off} s apart");
    }
    for kind in [Audio, Video] {
        let stream = simulation.peer(viewer).received(kind).unwrap();
        assert!(stream.reports.len() >= 4);
        for pair in stream.reports.windows(2) {
            let apart = pair[1].0 - pair[0].0;
            assert!(apart <= SECOND + 50 * MILLISECOND, "{apart:?}");
            assert!(pair[1].1.packets > pair[0].1.packets);
        }
    }
}

#[test]
fn sender_reports_follow_a_change_of_source() {
    let mut simulation = Simulation::new(2);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let second = simulation.join(PeerConfig::publisher(3));
    simulation.start_media(second);
    simulation.run_for(3 * SECOND);
    let viewer = call.viewers[0];
    simulation.connect(second, viewer, None);
    simulation.run_for(5 * SECOND);
    let audio = clocks(&simulation, viewer, Audio);
    let video = clocks(&simulation, viewer, Video);
    let off = (audio[0] - video[0]).abs();
    assert!(off < 0.002, "{off} s apart");
}

#[test]
fn round_trips_are_measured_on_both_sides() {
    let mut simulation = Simulation::new(3);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(5 * SECOND);
    let near = |time: Option<Duration>| {
        let time = time.expect("measured");
        assert!(
            time.abs_diff(20 * MILLISECOND) < 5 * MILLISECOND,
            "{time:?}"
        );
    };
    near(simulation.peer(call.publisher).round_trip_time(Video));
    let now = simulation.now();
    let element = simulation.element(call.viewers[0]).clone();
    let stats = simulation.engine.stats(now, &element).unwrap().streams;
    let outbound = stats
        .iter()
        .filter(|stream| stream.direction == Direction::Outbound);
    assert_eq!(outbound.clone().count(), 2);
    for stream in outbound {
        near(stream.round_trip_time);
        assert_eq!(stream.packets_lost, 0);
        assert!(stream.packets > 100);
    }
}

#[test]
fn statistics_tell_what_is_sent_at_present() {
    let mut simulation = Simulation::new(3);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let viewer = simulation.element(call.viewers[0]).clone();
    let sent = |simulation: &mut Simulation| {
        let now = simulation.now();
        let streams = simulation.engine.stats(now, &viewer).unwrap().streams;
        streams.iter().filter_map(|it| it.sent_bps).sum::<u64>()
    };
    let counted = |simulation: &mut Simulation| {
        let now = simulation.now();
        let streams = simulation.engine.stats(now, &viewer).unwrap().streams;
        streams.iter().map(|it| it.bytes).sum::<u64>()
    };
    simulation.run_for(3 * SECOND);
    let before = counted(&mut simulation);
    simulation.run_for(5 * SECOND);
    let mean = (counted(&mut simulation) - before) * 8 / 5;
    let told = sent(&mut simulation);
    assert!(told.abs_diff(mean) < mean / 5, "{told}, not {mean}");
    simulation.stop_media(call.publisher);
    simulation.run_for(3 * SECOND);
    assert_eq!(sent(&mut simulation), 0);
}

#[test]
fn publisher_hears_of_every_packet_in_transport_wide_feedback() {
    let mut simulation = Simulation::new(4);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    simulation.run_for(5 * SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(SECOND);
    let counters = simulation.peer(call.publisher).counters();
    assert_eq!(
        counters.transport_statuses,
        simulation.engine.counters().rtp_received
    );
    assert!(
        (40..=60).contains(&counters.transport_feedbacks),
        "{counters:?}"
    );
}

#[test]
fn limits_reach_the_publisher_by_remb() {
    let mut simulation = Simulation::new(5);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    assert!(simulation.peer(call.publisher).remb() > Some(1_000_000));
    let limit = |simulation: &mut Simulation, id, limits| {
        let (now, element) = (simulation.now(), simulation.element(id).clone());
        let engine = &mut simulation.engine;
        engine.set_bandwidth(now, &element, limits).unwrap();
        simulation.run_for(3 * SECOND);
    };
    let own = BandwidthLimits {
        max_video_recv: Some(Kilobits(600)),
        ..BandwidthLimits::default()
    };
    limit(&mut simulation, call.publisher, own);
    let remb = simulation.peer(call.publisher).remb().unwrap();
    assert!((590_000..=600_000).contains(&remb), "{remb}");
    let viewers = BandwidthLimits {
        max_video_send: Some(Kilobits(300)),
        ..BandwidthLimits::default()
    };
    limit(&mut simulation, call.viewers[0], viewers);
    let remb = simulation.peer(call.publisher).remb().unwrap();
    assert!((290_000..=300_000).contains(&remb), "{remb}");
}

#[test]
fn flood_of_key_frame_requests_is_throttled() {
    let mut simulation = Simulation::new(6);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    let before = feedback(&simulation, &call).picture_losses;
    for _ in 0..1000 {
        simulation.peer_mut(call.viewers[0]).send_picture_loss();
        simulation.run_for(MILLISECOND);
    }
    simulation.run_for(SECOND);
    let asked = feedback(&simulation, &call).picture_losses - before;
    assert!((2..=4).contains(&asked), "{asked} in a second");
    let now = simulation.now();
    let element = simulation.element(call.viewers[0]).clone();
    let stats = simulation.engine.stats(now, &element).unwrap().streams;
    assert!(stats.iter().any(|stream| stream.pli_count == 1000));
}

#[test]
fn full_intra_request_of_a_viewer_becomes_a_key_frame() {
    let mut simulation = Simulation::new(7);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    let viewer = call.viewers[0];
    let stream = simulation.peer(viewer).received(Video).unwrap();
    let before = stream.packets.len();
    simulation.peer_mut(viewer).send_full_intra_request();
    simulation.run_for(SECOND / 5);
    let stream = simulation.peer(viewer).received(Video).unwrap();
    let after = &stream.packets[before..];
    assert!(after.iter().any(|packet| packet.key_frame));
}

#[test]
fn unanswered_key_frame_request_is_repeated() {
    let mut simulation = Simulation::new(8);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    simulation.run_for(SECOND);
    let viewer = simulation.join(PeerConfig::viewer(2));
    // The first requests are lost.
    let mut requests = 0;
    simulation.link_mut(call.publisher).down = Some(Box::new(move |datagram| {
        let is_feedback = datagram
            .get(1)
            .is_some_and(|kind| (200..=206).contains(kind));
        requests += u32::from(is_feedback);
        !is_feedback || requests > 15
    }));
    simulation.connect(call.publisher, viewer, None);
    simulation.run_for(4 * SECOND);
    let stream = simulation.peer(viewer).received(Video).unwrap();
    assert!(stream.packets[0].key_frame);
}

#[test]
fn wishes_of_a_viewer_show_in_its_statistics() {
    let mut simulation = Simulation::new(9);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    simulation.peer_mut(call.viewers[0]).send_remb(1_250_000);
    simulation.run_for(SECOND);
    let now = simulation.now();
    let element = simulation.element(call.viewers[0]).clone();
    let stats = simulation.engine.stats(now, &element).unwrap().streams;
    let rembs: Vec<_> = stats.iter().filter_map(|stream| stream.remb_bps).collect();
    assert_eq!(rembs.len(), 1);
    assert!(rembs[0].abs_diff(1_250_000) < 1_250_000 / 100, "{rembs:?}");
}
