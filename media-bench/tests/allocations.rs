//! Forwarding does not touch the heap once everything has its working size.

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
