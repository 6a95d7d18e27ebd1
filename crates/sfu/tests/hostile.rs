//! Peers that lie, flood and replay; also those who hold valid keys.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forwarding::rtp::is_rtcp;
use media::MediaKind::Video;
use media_bench::peer::{Direction, PeerConfig};
use media_bench::simulation::{Call, Simulation};
use proptest::prelude::*;
use sfu::engine::counters::Discard;

const SECOND: Duration = Duration::from_secs(1);
const VP8: u8 = 96;

fn discarded(simulation: &Simulation, reason: Discard) -> u64 {
    simulation.engine.counters().discarded[reason as usize]
}

/// A call of two who both send and receive, under way.
fn running(seed: u64) -> (Simulation, Call) {
    let mut simulation = Simulation::new(seed);
    let publisher = PeerConfig {
        audio: Some(Direction::SendRecv),
        video: Some(Direction::SendRecv),
        data: true,
        ..PeerConfig::new(1)
    };
    let call = simulation.call(publisher, &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    (simulation, call)
}

/// Media still reaches the viewer, and nothing of ours broke.
fn check_alive(simulation: &mut Simulation, call: &Call) {
    let count = |simulation: &Simulation| {
        let stream = simulation.peer(call.viewers[0]).received(Video).unwrap();
        (stream.packets.len(), stream.corrupt)
    };
    let (packets, corrupt) = count(simulation);
    simulation.run_for(2 * SECOND);
    let (packets_after, corrupt_after) = count(simulation);
    assert!(packets_after > packets + 50);
    assert_eq!(corrupt_after, corrupt);
    assert_eq!(simulation.engine.counters().panics, 0);
}

fn rtp_packet(ssrc: u32, seq: u16, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    packet[2..4].copy_from_slice(&seq.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn replayed_packets_go_nowhere() {
    let (mut simulation, call) = running(1);
    let seen = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let record = Arc::clone(&seen);
    simulation.link_mut(call.publisher).up = Some(Box::new(move |datagram| {
        if matches!(datagram.first(), Some(128..=191)) {
            record.lock().unwrap().push(datagram.to_vec());
        }
        true
    }));
    simulation.run_for(SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(SECOND / 10);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let media = seen.iter().filter(|datagram| !is_rtcp(datagram)).count();
    let before = simulation.engine.counters();
    let flow = simulation.flow(call.publisher);
    for datagram in &seen {
        simulation.inject(flow, datagram);
    }
    let after = simulation.engine.counters();
    assert!(media > 100);
    assert_eq!(discarded(&simulation, Discard::Replayed), seen.len() as u64);
    assert_eq!(after.rtp_forwarded, before.rtp_forwarded);
    assert_eq!(after.rtcp_received, before.rtcp_received);
    simulation.start_media(call.publisher);
    check_alive(&mut simulation, &call);
    assert_eq!(simulation.peer(call.viewers[0]).counters().duplicates, 0);
}

#[test]
fn storm_of_unknown_streams_is_bounded() {
    let (mut simulation, call) = running(2);
    for ssrc in 0..5_000u32 {
        let packet = rtp_packet(0x7000_0000 + ssrc, 9, VP8, &[0x10, 0, 0, 0]);
        simulation.peer_mut(call.publisher).send_rtp(12, &packet);
    }
    simulation.run_for(SECOND);
    let now = simulation.now();
    let element = simulation.element(call.publisher).clone();
    let streams = simulation
        .engine
        .stats(now, &element)
        .unwrap()
        .streams
        .len();
    assert!(streams <= 8, "{streams} streams");
    check_alive(&mut simulation, &call);
}

#[test]
fn payload_types_that_were_not_negotiated_are_counted() {
    let (mut simulation, call) = running(3);
    let ssrc = simulation.peer(call.publisher).ssrc(Video).unwrap();
    let next = simulation.peer(call.publisher).next_seq(Video).unwrap();
    for payload_type in [0x7f, 0x50] {
        let packet = rtp_packet(ssrc, next.0.wrapping_add(100), payload_type, &[1; 20]);
        let peer = simulation.peer_mut(call.publisher);
        peer.send_rtp(12, &packet);
        simulation.run_for(SECOND / 10);
    }
    let reasons = [Discard::UnknownPayload, Discard::Replayed];
    let count: u64 = reasons
        .map(|reason| discarded(&simulation, reason))
        .iter()
        .sum();
    assert_eq!(count, 2);
}

#[test]
fn forged_packets_of_a_known_flow_are_unauthentic() {
    let (mut simulation, call) = running(4);
    let flow = simulation.flow(call.publisher);
    let ssrc = simulation.peer(call.publisher).ssrc(Video).unwrap();
    for seq in 0..100 {
        simulation.inject(flow, &rtp_packet(ssrc, seq, VP8, &[1; 100]));
    }
    let counted =
        [Discard::Unauthentic, Discard::Replayed].map(|reason| discarded(&simulation, reason));
    assert_eq!(counted.iter().sum::<u64>(), 100);
    check_alive(&mut simulation, &call);
}

/// First bytes of every protocol, and of none.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![0..4u8, 20..64u8, 128..192u8, any::<u8>()];
    let second = prop_oneof![Just(VP8), Just(97), Just(111), 200..207u8, any::<u8>()];
    let rest = proptest::collection::vec(any::<u8>(), 0..300);
    (first, second, rest).prop_map(|(first, second, rest)| [&[first, second], &rest[..]].concat())
}

/// RTP headers whose lengths may lie, with the SSRCs that count.
fn plain_rtp(ssrcs: [u32; 2]) -> impl Strategy<Value = Vec<u8>> {
    let payload_type = prop_oneof![Just(VP8), Just(97), Just(111), any::<u8>()];
    let ssrc = prop_oneof![Just(ssrcs[0]), Just(ssrcs[1]), any::<u32>()];
    let rest = proptest::collection::vec(any::<u8>(), 0..60);
    (0x80..0xc0u8, payload_type, any::<u16>(), ssrc, rest).prop_map(
        |(first, payload_type, seq, ssrc, rest)| {
            let mut packet = rtp_packet(ssrc, seq, payload_type, &rest);
            packet[0] = first;
            packet
        },
    )
}

/// RTCP packets of every kind, their lengths right or not.
fn plain_rtcp() -> impl Strategy<Value = Vec<u8>> {
    let packet = (
        0x80..0xc0u8,
        199..208u8,
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 4..120),
    );
    let packet = packet.prop_map(|(first, kind, right, mut rest)| {
        rest.truncate(rest.len() / 4 * 4);
        let words = (rest.len() / 4) as u8;
        let words = if right { words } else { rest[0] };
        [&[first, kind, 0, words], &rest[..]].concat()
    });
    proptest::collection::vec(packet, 1..4).prop_map(|packets| packets.concat())
}

#[test]
fn no_datagram_of_a_stranger_or_a_peer_breaks_anything() {
    let (mut simulation, call) = running(5);
    let state = std::cell::RefCell::new(&mut simulation);
    let strategy = proptest::collection::vec((any::<bool>(), datagrams()), 1..20);
    proptest!(ProptestConfig::with_cases(300), |(batch in strategy)| {
        let simulation = &mut *state.borrow_mut();
        let flow = simulation.flow(call.publisher);
        for (is_peer, datagram) in &batch {
            let mut from = flow;
            from.remote.set_port(if *is_peer { flow.remote.port() } else { 9 });
            simulation.inject(from, datagram);
        }
        prop_assert_eq!(simulation.engine.counters().panics, 0);
    });
    // Alerts in the clear must not end the session either.
    check_alive(&mut simulation, &call);
}

#[test]
fn nothing_that_a_peer_seals_breaks_anything() {
    let (mut simulation, call) = running(6);
    let [audio, video] = [media::MediaKind::Audio, Video]
        .map(|kind| simulation.peer(call.publisher).ssrc(kind).unwrap());
    let state = std::cell::RefCell::new(&mut simulation);
    let strategy = proptest::collection::vec((plain_rtp([audio, video]), plain_rtcp()), 1..20);
    proptest!(ProptestConfig::with_cases(300), |(batch in strategy)| {
        let simulation = &mut *state.borrow_mut();
        for (rtp, rtcp) in batch {
            let peer = simulation.peer_mut(call.publisher);
            peer.send_rtp(12, &rtp);
            peer.send_rtcp(rtcp.clone());
            simulation.peer_mut(call.viewers[0]).send_rtcp(rtcp);
        }
        simulation.run_for(Duration::from_millis(50));
        prop_assert_eq!(simulation.engine.counters().panics, 0);
    });
    simulation.run_for(SECOND);
    assert_eq!(simulation.engine.counters().panics, 0);
}

#[test]
fn changed_bits_of_real_datagrams_break_nothing() {
    let (mut simulation, call) = running(7);
    let flow = simulation.flow(call.publisher);
    let seen = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let record = Arc::clone(&seen);
    simulation.link_mut(call.publisher).up = Some(Box::new(move |datagram| {
        record.lock().unwrap().push(datagram.to_vec());
        true
    }));
    let (now, id) = (simulation.now(), call.publisher);
    simulation.peer_mut(id).check_path(now);
    simulation.peer_mut(id).open_channel(now, "chat");
    simulation.run_for(6 * SECOND);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let state = std::cell::RefCell::new(&mut simulation);
    proptest!(ProptestConfig::with_cases(500), |(which in any::<prop::sample::Index>(), bits in proptest::collection::vec(any::<prop::sample::Index>(), 1..4), cut in any::<bool>())| {
        let mut datagram = which.get(&seen).clone();
        for bit in &bits {
            let bit = bit.index(datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        if cut {
            datagram.truncate(bits[0].index(datagram.len()));
        }
        let simulation = &mut *state.borrow_mut();
        simulation.inject(flow, &datagram);
        prop_assert_eq!(simulation.engine.counters().panics, 0);
    });
    check_alive(&mut simulation, &call);
}
