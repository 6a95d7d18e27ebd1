//! Forwarding does not touch the heap once everything has its working size.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use media::MediaKind::{Audio, Video};
use media_bench::peer::{Pace, PeerConfig};
use media_bench::simulation::Simulation;

const VIEWERS: usize = 10;
const CONNECTING: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_millis(20);
/// Reports and transport-wide feedback come between the rounds: they are not per packet.
const TURNS_PER_ROUND: u32 = 4;
/// Until the histories have met every phase of their blocks: 20 seconds.
const ROUNDS_OF_WARM_UP: u32 = 250;
const ROUNDS: u32 = 25;

#[test]
fn forwarding_allocates_nothing_per_packet() {
    check(0);
}

#[test]
fn forwarding_on_another_worker_allocates_nothing_per_packet() {
    check(1);
}

/// With all viewers on one worker, and the publisher on the first.
fn check(worker: usize) {
    let mut simulation = Simulation::with_workers(1, worker + 1);
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|number| PeerConfig {
            // What is sent below does not arrive, so they would say that nothing does.
            transport_cc: false,
            ..PeerConfig::viewer(100 + number as u64)
        })
        .collect();
    let call = simulation.call_on(PeerConfig::publisher(1), worker, &viewers);
    simulation.run_for(CONNECTING);
    simulation.stop_media(call.publisher);
    simulation.run_for(TURN);

    let flow = simulation.flow(call.publisher);
    let (mut forwarded, mut allocations) = (0, 0);
    for round in 0..ROUNDS_OF_WARM_UP + ROUNDS {
        let mut batch: Vec<(Instant, Vec<u8>)> = Vec::new();
        let began = simulation.now();
        for turn in 0..TURNS_PER_ROUND {
            let now = began + TURN * turn;
            let peer = simulation.peer_mut(call.publisher);
            peer.send_frame(now, Audio, &Pace::AUDIO);
            if turn % 2 == 0 {
                peer.send_frame(now, Video, &Pace::VIDEO);
            }
            let datagrams = std::iter::from_fn(|| peer.poll_transmit());
            batch.extend(datagrams.map(|datagram| (now, datagram)));
        }
        let before = simulation.engine_on(worker).counters().rtp_forwarded;
        let (engine, others) = (&mut simulation.engine, &mut simulation.others);
        let heap = allocation_counter::measure(|| {
            for (now, datagram) in &mut batch {
                engine.handle_datagram(*now, flow, datagram);
                engine.poll_relayed(*now, |to, parcel| {
                    others[to - 1].handle_relayed(*now, 0, parcel);
                    true
                });
                while engine.poll_transmits(*now).is_some() {}
                for other in &mut *others {
                    while other.poll_transmits(*now).is_some() {}
                }
            }
        });
        if round >= ROUNDS_OF_WARM_UP {
            forwarded += simulation.engine_on(worker).counters().rtp_forwarded - before;
            allocations += heap.count_total;
        }
        simulation.run_for(TURN * TURNS_PER_ROUND);
    }
    let frames = u64::from(TURNS_PER_ROUND)
        + u64::from(TURNS_PER_ROUND / 2 * u32::from(Pace::VIDEO.packets));
    assert_eq!(forwarded, u64::from(ROUNDS) * frames * VIEWERS as u64);
    assert_eq!(allocations, 0, "for {forwarded} packets");
}

/// Time between the frames of what is reported.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);
/// Until every viewer gets everything, and what is remembered of it has its size: 40 seconds.
const FRAMES_OF_WARM_UP: u32 = 1_200;
const FRAMES: u32 = 90;

#[test]
fn forwarding_to_who_reports_allocates_nothing_per_packet() {
    let mut simulation = Simulation::new(1);
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|number| PeerConfig::viewer(100 + number as u64))
        .collect();
    let call = simulation.call_on(PeerConfig::publisher(1), 0, &viewers);
    simulation.run_for(CONNECTING);
    simulation.stop_media(call.publisher);
    let publisher = simulation.flow(call.publisher);
    let viewers = call.viewers.iter();
    let viewers: HashMap<_, _> = viewers
        .map(|viewer| (simulation.flow(*viewer), *viewer))
        .collect();
    let mut now = simulation.now();
    let (mut forwarded, mut reports, mut allocations) = (0, 0, 0);
    for frame in 0..FRAMES_OF_WARM_UP + FRAMES {
        now += FRAME_INTERVAL;
        let mut arriving = Vec::new();
        for (flow, viewer) in &viewers {
            let peer = simulation.peer_mut(*viewer);
            peer.handle_timeout(now);
            arriving.extend(std::iter::from_fn(|| peer.poll_transmit()).map(|it| (*flow, it)));
        }
        let said = arriving.len() as u64;
        let peer = simulation.peer_mut(call.publisher);
        peer.handle_timeout(now);
        peer.send_frame(now, Video, &Pace::VIDEO);
        arriving.extend(std::iter::from_fn(|| peer.poll_transmit()).map(|it| (publisher, it)));
        let mut leaving = Vec::new();
        let before = simulation.engine.counters().rtp_forwarded;
        let engine = &mut simulation.engine;
        let heap = allocation_counter::measure(|| {
            for (flow, datagram) in &mut arriving {
                engine.handle_datagram(now, *flow, datagram);
            }
            while let Some(outbox) = engine.poll_transmits(now) {
                allocation_counter::opt_out(|| {
                    let datagrams = outbox.datagrams();
                    leaving.extend(datagrams.map(|(flow, bytes)| (flow, bytes.to_vec())));
                });
            }
        });
        if frame >= FRAMES_OF_WARM_UP {
            forwarded += engine.counters().rtp_forwarded - before;
            reports += said;
            allocations += heap.count_total;
        }
        engine.handle_timeout(now);
        while let Some(outbox) = engine.poll_transmits(now) {
            let datagrams = outbox.datagrams();
            leaving.extend(datagrams.map(|(flow, bytes)| (flow, bytes.to_vec())));
        }
        for (flow, mut datagram) in leaving {
            let viewer = viewers.get(&flow).copied().unwrap_or(call.publisher);
            let peer = simulation.peer_mut(viewer);
            peer.handle_datagram(now, &mut datagram);
        }
    }
    let packets = u64::from(Pace::VIDEO.packets);
    assert_eq!(forwarded, u64::from(FRAMES) * packets * VIEWERS as u64);
    assert!(reports > VIEWERS as u64 * 10, "{reports}");
    assert_eq!(
        allocations, 0,
        "for {forwarded} packets and {reports} reports"
    );
}
