//! Media from one peer to others through the engine: what changes on the way and what does not.

use std::collections::BTreeSet;
use std::time::Duration;

use forwarding::codec::Codec;
use media::MediaKind::{Audio, Video};
use media::{ErrorKind, Event, MediaKind, MediaState};
use media_bench::payload::picture_numbers;
use media_bench::peer::{Direction, Numbering, Pace, PeerConfig, PeerEvent, ReceivedPacket};
use media_bench::simulation::{ClientId, Simulation};
use sfu::engine::counters::Discard;
use sfu::engine::srtp::Profile;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(5);

fn packets(simulation: &Simulation, id: ClientId, kind: MediaKind) -> &[ReceivedPacket] {
    let stream = simulation.peer(id).received(kind);
    stream.map_or(&[], |stream| &stream.packets)
}

fn picture_losses(simulation: &Simulation, id: ClientId) -> u64 {
    let feedback = simulation.peer(id).feedback(Video);
    feedback.expect("the peer sends video").picture_losses
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

#[test]
fn peers_connect_with_the_fastest_cipher() {
    let mut simulation = Simulation::new(1);
    let id = simulation.join(PeerConfig::viewer(1));
    simulation.run_for(SECOND);
    assert_eq!(simulation.peer(id).profile(), Some(Profile::AeadAes128Gcm));
    assert_eq!(simulation.take_events(id), [PeerEvent::Connected]);
    let connected = Event::MediaStateChanged(MediaState::Connected);
    assert_eq!(simulation.take_told(id).last(), Some(&connected));
    assert_eq!(simulation.engine.counters().transports_connected, 1);
}

#[test]
fn payloads_arrive_unchanged_and_numbers_without_a_gap() {
    let mut simulation = Simulation::new(2);
    let viewers = [1, 2, 3].map(|seed| PeerConfig::viewer(10 + seed));
    let call = simulation.call(PeerConfig::publisher(1), &viewers);
    simulation.run_for(10 * SECOND);
    for viewer in call.viewers {
        for (kind, pace, clock_rate) in [(Audio, Pace::AUDIO, 48_000), (Video, Pace::VIDEO, 90_000)]
        {
            let stream = simulation.peer(viewer).received(kind).unwrap();
            assert_eq!((stream.corrupt, stream.missing()), (0, 0));
            let packets = &stream.packets;
            let expected = 9.5 / pace.interval.as_secs_f64() * f64::from(pace.packets);
            assert!(packets.len() as f64 > expected, "{}", packets.len());
            check_continuity(packets);
            for pair in packets.windows(2) {
                let [one, two] = pair else { continue };
                let [a, b] = [one, two].map(|packet| packet.stamp.unwrap());
                assert_eq!(b.number, a.number + 1);
                let elapsed = Duration::from_micros(b.sent_micros - a.sent_micros);
                let ticks = two.timestamp.ticks_from(one.timestamp);
                let expected = elapsed.as_micros() * clock_rate / 1_000_000;
                assert!(u128::from(ticks).abs_diff(expected) <= 1, "{ticks}");
            }
            let source = simulation.peer(call.publisher).ssrc(kind);
            assert_eq!(packets[0].stamp.map(|stamp| stamp.source), source);
        }
        assert_eq!(simulation.peer(viewer).counters().unauthentic, 0);
    }
    assert_eq!(
        simulation.engine.counters().discarded,
        [0; Discard::ALL.len()]
    );
}

#[test]
fn headers_speak_the_numbers_of_each_viewer() {
    let mut simulation = Simulation::new(3);
    let firefox = PeerConfig {
        numbering: Numbering::Firefox,
        ..PeerConfig::viewer(3)
    };
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2), firefox]);
    simulation.run_for(SECOND);
    // (payload types, mids) of audio and video
    let rows = [
        ([111, 96], ["0", "1"]),
        ([109, 120], ["sdparta_0", "sdparta_1"]),
    ];
    let mut ssrcs = BTreeSet::new();
    for (viewer, (payload_types, mids)) in call.viewers.into_iter().zip(rows) {
        for (index, kind) in [Audio, Video].into_iter().enumerate() {
            let stream = simulation.peer(viewer).received(kind).unwrap();
            assert!(ssrcs.insert(stream.ssrc), "each has SSRCs of its own");
            assert_ne!(
                Some(stream.ssrc),
                simulation.peer(call.publisher).ssrc(kind)
            );
            for packet in &stream.packets {
                assert_eq!(packet.payload_type, payload_types[index]);
                assert_eq!(packet.mid.as_deref(), Some(mids[index]));
                assert!(packet.has_send_times);
                let level = (kind == Audio).then_some(0x80 | 30);
                assert_eq!(packet.audio_level, level);
            }
        }
        assert_eq!(simulation.peer(viewer).counters().unknown, 0);
    }
}

#[test]
fn markers_survive() {
    let mut simulation = Simulation::new(4);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    for packet in packets(&simulation, call.viewers[0], Video) {
        let number = packet.stamp.unwrap().number;
        assert_eq!(packet.marker, number % 3 == 2, "packet {number}");
    }
}

#[test]
fn video_of_a_late_viewer_starts_at_a_key_frame_that_was_asked_for() {
    let mut simulation = Simulation::new(5);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    simulation.run_for(3 * SECOND);
    let before = picture_losses(&simulation, call.publisher);
    let viewer = simulation.join(PeerConfig::viewer(2));
    simulation.connect(call.publisher, viewer, None);
    simulation.run_for(SECOND / 2);
    let video = packets(&simulation, viewer, Video);
    assert!(video[0].key_frame, "the first packet is one of a key frame");
    assert!(packets(&simulation, viewer, Audio)[0].at < video[0].at);
    check_continuity(video);
    assert_eq!(picture_losses(&simulation, call.publisher), before + 1);
}

#[test]
fn twenty_viewers_at_once_cost_few_key_frames() {
    let mut simulation = Simulation::new(6);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    simulation.run_for(2 * SECOND);
    let viewers: Vec<_> = (0..20)
        .map(|seed| simulation.join(PeerConfig::viewer(100 + seed)))
        .collect();
    let before = picture_losses(&simulation, call.publisher);
    for viewer in &viewers {
        simulation.connect(call.publisher, *viewer, None);
        simulation.run_for(TICK);
    }
    simulation.run_for(SECOND);
    for viewer in viewers {
        assert!(packets(&simulation, viewer, Video)[0].key_frame);
    }
    let asked = picture_losses(&simulation, call.publisher) - before;
    assert!((1..=2).contains(&asked), "{asked} requests");
}

#[test]
fn connect_before_the_negotiation_is_as_good() {
    let mut simulation = Simulation::new(7);
    let publisher = simulation.add(PeerConfig::publisher(1));
    let viewer = simulation.add(PeerConfig::viewer(2));
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
fn stream_goes_on_when_its_source_changes() {
    let mut simulation = Simulation::new(8);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let second = simulation.join(PeerConfig::publisher(3));
    simulation.start_media(second);
    let viewer = call.viewers[0];
    simulation.run_for(2 * SECOND);
    simulation.disconnect(call.publisher, viewer, None);
    simulation.run_for(SECOND);
    simulation.connect(second, viewer, None);
    simulation.run_for(2 * SECOND);
    simulation.connect(call.publisher, viewer, None);
    simulation.run_for(2 * SECOND);

    assert_eq!(simulation.peer(viewer).streams().count(), 2);
    for kind in [Audio, Video] {
        let packets = packets(&simulation, viewer, kind);
        check_continuity(packets);
        let sources = packets.iter().map(|packet| packet.stamp.unwrap().source);
        let mut sources: Vec<_> = sources.collect();
        sources.dedup();
        let [one, two] = [call.publisher, second].map(|id| simulation.peer(id).ssrc(kind).unwrap());
        assert_eq!(sources, [one, two, one], "{kind:?}");
        // Time goes on by the clock of the wall, not by that of the source.
        for pair in packets.windows(2) {
            let elapsed = pair[1].at - pair[0].at;
            let rate = if kind == Video { 90.0 } else { 48.0 };
            let ticks = pair[1].timestamp.ticks_from(pair[0].timestamp);
            let millis = f64::from(ticks) / rate;
            let off = (millis - elapsed.as_secs_f64() * 1000.0).abs();
            assert!(off < 60.0, "{millis} ms of media in {elapsed:?}");
        }
    }
    let video = packets(&simulation, viewer, Video);
    for pair in video.windows(2) {
        let [(id, index), (next_id, next_index)] =
            [&pair[0], &pair[1]].map(|packet| picture_numbers(&packet.payload).unwrap());
        let step = u16::from(pair[0].marker);
        assert_eq!(next_id, id.wrapping_add(step) & 0x7fff);
        assert_eq!(next_index, index.wrapping_add(step as u8));
        let [a, b] = [&pair[0], &pair[1]].map(|packet| packet.stamp.unwrap().source);
        assert!(a == b || pair[1].key_frame, "switches at a key frame");
    }
}

#[test]
fn peer_hears_itself_in_a_loopback() {
    let mut simulation = Simulation::new(9);
    let config = PeerConfig {
        audio: Some(Direction::SendRecv),
        video: Some(Direction::SendRecv),
        ..PeerConfig::new(1)
    };
    let id = simulation.join(config);
    simulation.connect(id, id, None);
    simulation.start_media(id);
    simulation.run_for(2 * SECOND);
    for (kind, count) in [(Audio, 90), (Video, 130)] {
        let packets = packets(&simulation, id, kind);
        assert!(packets.len() > count, "{}", packets.len());
        check_continuity(packets);
    }
    simulation.release(id);
    simulation.run_for(SECOND);
    assert_eq!(simulation.engine.counters().transports, 0);
}

#[test]
fn kinds_connect_one_by_one() {
    let mut simulation = Simulation::new(10);
    let publisher = simulation.join(PeerConfig::publisher(1));
    let viewer = simulation.join(PeerConfig::viewer(2));
    simulation.start_media(publisher);
    simulation.connect(publisher, viewer, Some(Audio));
    simulation.run_for(SECOND);
    assert!(packets(&simulation, viewer, Video).is_empty());
    simulation.connect(publisher, viewer, Some(Video));
    simulation.disconnect(publisher, viewer, Some(Audio));
    simulation.run_for(TICK * 4);
    let heard = packets(&simulation, viewer, Audio).len();
    simulation.run_for(SECOND);
    assert_eq!(packets(&simulation, viewer, Audio).len(), heard);
    assert!(packets(&simulation, viewer, Video).len() > 50);
}

#[test]
fn codec_that_a_viewer_lacks_is_told_once() {
    let mut simulation = Simulation::new(11);
    let publisher = PeerConfig {
        video_codecs: vec![Codec::H264],
        ..PeerConfig::publisher(1)
    };
    let viewer = PeerConfig {
        video_codecs: vec![Codec::Vp8],
        ..PeerConfig::viewer(2)
    };
    let call = simulation.call(publisher, &[viewer]);
    simulation.run_for(3 * SECOND);
    let viewer = call.viewers[0];
    let errors: Vec<_> = simulation
        .take_told(viewer)
        .into_iter()
        .filter_map(|event| match event {
            Event::Error {
                kind, description, ..
            } => Some((kind, description)),
            _ => None,
        })
        .collect();
    let [(kind, description)] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!(*kind, ErrorKind::StreamFailed);
    assert!(description.contains("H264") && description.contains("VP8"));
    assert!(packets(&simulation, viewer, Video).is_empty());
    assert!(packets(&simulation, viewer, Audio).len() > 100);
}

#[test]
fn streams_without_announced_ssrcs_are_found_by_mid_and_by_payload_type() {
    for numbering in [Numbering::Chromium, Numbering::Firefox] {
        let mut simulation = Simulation::new(12);
        let publisher = PeerConfig {
            announces_ssrcs: false,
            numbering,
            ..PeerConfig::publisher(1)
        };
        let call = simulation.call(publisher, &[PeerConfig::viewer(2)]);
        simulation.run_for(SECOND);
        for kind in [Audio, Video] {
            assert!(packets(&simulation, call.viewers[0], kind).len() > 30);
        }
    }
}

#[test]
fn application_hears_when_media_begins_and_ceases() {
    let mut simulation = Simulation::new(13);
    let call = simulation.call(PeerConfig::publisher(1), &[]);
    let flows = |simulation: &mut Simulation| {
        let told = simulation.take_told(call.publisher).into_iter();
        let flows = told.filter_map(|event| match event {
            Event::MediaFlowInChanged { kind, flowing } => Some((kind, flowing)),
            _ => None,
        });
        let mut flows: Vec<_> = flows.collect();
        flows.sort();
        flows
    };
    simulation.run_for(SECOND / 10);
    let begun = [(Audio, true), (Video, true)];
    assert_eq!(flows(&mut simulation), begun);
    simulation.run_for(SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(SECOND * 19 / 10);
    assert_eq!(flows(&mut simulation), []);
    simulation.run_for(2 * SECOND);
    assert_eq!(flows(&mut simulation), [(Audio, false), (Video, false)]);
    simulation.start_media(call.publisher);
    simulation.run_for(SECOND / 10);
    assert_eq!(flows(&mut simulation), begun);
}

#[test]
fn application_hears_who_speaks() {
    let mut simulation = Simulation::with_workers(14, 2);
    let call = simulation.call_on(PeerConfig::publisher(1), 1, &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    let publisher = call.publisher;
    let is_about_speech = |event: &Event| matches!(event, Event::SpeakingChanged(_));
    let speech = |simulation: &mut Simulation| {
        let mut told = simulation.take_told(publisher);
        told.retain(is_about_speech);
        told
    };
    assert_eq!(speech(&mut simulation), [Event::SpeakingChanged(true)]);
    simulation.stop_media(publisher);
    simulation.run_for(3 * SECOND);
    assert_eq!(speech(&mut simulation), [Event::SpeakingChanged(false)]);
    simulation.start_media(publisher);
    simulation.run_for(SECOND);
    assert_eq!(speech(&mut simulation), [Event::SpeakingChanged(true)]);
    let now = simulation.now();
    simulation.peer_mut(publisher).close(now);
    simulation.run_for(SECOND);
    assert_eq!(speech(&mut simulation), [Event::SpeakingChanged(false)]);
    let told = simulation.take_told(call.viewers[0]);
    assert!(!told.iter().any(is_about_speech));
}

/// Payload types that [`PeerConfig::publisher`] offers.
const AUDIO: u8 = 111;
const VIDEO_REPAIR: u8 = 97;

/// A packet that the publisher sealed under an SSRC it did not announce.
fn unannounced(
    simulation: &mut Simulation,
    publisher: ClientId,
    payload_type: u8,
    ssrc: u32,
) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type, 0, 1];
    packet.extend([0; 4]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0, 1, 2]);
    let peer = simulation.peer_mut(publisher);
    peer.send_rtp(12, &packet);
    std::iter::from_fn(|| peer.poll_transmit())
        .last()
        .expect("the peer is connected")
}

#[test]
fn recorded_packets_do_not_bring_a_replaced_stream_back() {
    let mut simulation = Simulation::new(1);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let publisher = call.publisher;
    simulation.run_for(SECOND);
    let flow = simulation.flow(publisher);
    let recorded = unannounced(&mut simulation, publisher, AUDIO, 7);
    let forwarded = |simulation: &Simulation| simulation.engine.counters().rtp_forwarded;
    let before = forwarded(&simulation);
    simulation.inject(flow, &recorded);
    assert_eq!(forwarded(&simulation), before + 1);

    simulation.run_for(SECOND);
    let before = forwarded(&simulation);
    simulation.inject(flow, &recorded);
    assert_eq!(forwarded(&simulation), before);
}

#[test]
fn streams_that_come_and_go_leave_room_for_announced_ones() {
    let mut simulation = Simulation::new(1);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let publisher = call.publisher;
    simulation.run_for(SECOND);
    let flow = simulation.flow(publisher);
    for ssrc in 0..100 {
        let payload_type = [AUDIO, VIDEO_REPAIR][ssrc as usize % 2];
        let packet = unannounced(&mut simulation, publisher, payload_type, ssrc);
        simulation.inject(flow, &packet);
    }
    let heard = |simulation: &Simulation| {
        let stream = simulation.peer(call.viewers[0]).received(Audio);
        stream.expect("audio arrived before").packets.len()
    };
    let before = heard(&simulation);
    simulation.run_for(SECOND);
    assert!(heard(&simulation) >= before + 40);
}
