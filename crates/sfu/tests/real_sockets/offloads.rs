//! Calls without some of the ways to move many datagrams at once.

use std::time::Duration;

use media::MediaKind::{self, Audio, Video};
use media_bench::peer::Pace;
use sfu::Config;
use sfu::config::UdpOffload;

use crate::bed::Bed;

const FRAMES: usize = 60;

/// A frame large enough for runs, and short enough that sound may close them.
const BURST: Pace = Pace {
    interval: Duration::from_millis(40),
    packets: 8,
    packet_bytes: 1_100,
};

/// All that was sent has arrived, each packet once, as it was, and in order.
fn check_complete(bed: &Bed, publisher: usize, viewer: usize, kind: MediaKind) {
    let sender = &bed.clients[publisher].peer;
    let stream = bed.clients[viewer].peer.received(kind).unwrap();
    assert_eq!((stream.corrupt, stream.missing()), (0, 0));
    for pair in stream.packets.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.next());
        let [one, two] = [0, 1].map(|at| pair[at].stamp.unwrap());
        assert_eq!(two.number, one.number + 1);
    }
    let last = stream.packets.last().unwrap().stamp.unwrap();
    assert_eq!(Some(last.number + 1), sender.packets_made(kind));
    assert_eq!(Some(last.source), sender.ssrc(kind));
}

fn is_complete(bed: &Bed, publisher: usize, viewer: usize) -> bool {
    [Audio, Video].into_iter().all(|kind| {
        let stream = bed.clients[viewer].peer.received(kind);
        let last = stream.and_then(|stream| stream.packets.last()?.stamp);
        last.map(|last| last.number + 1) == bed.clients[publisher].peer.packets_made(kind)
    })
}

/// Publisher and viewers reach one worker, and their sessions live on the other.
async fn check(mode: UdpOffload) {
    let config = Config {
        udp_offload: mode,
        ..Config::default()
    };
    let mut bed = Bed::start(2, config);
    let places = bed.places().await;
    let first = bed.call(&places[0], 1, 1).await;
    let publisher = first - 1;
    let second = bed.watch(&places[0], publisher, 0).await;
    let viewers = [first, second];
    for viewer in viewers {
        bed.run_for_packets(viewer, 10);
    }
    bed.stop_media(publisher);
    bed.run_until(|bed| viewers.iter().all(|id| is_complete(bed, publisher, *id)));
    let before = bed.metrics().await;

    for _ in 0..FRAMES {
        bed.clients[publisher].send_frame(Video, &BURST);
        bed.clients[publisher].send_frame(Audio, &Pace::AUDIO);
        bed.run_until(|bed| viewers.iter().all(|id| is_complete(bed, publisher, *id)));
    }

    for viewer in viewers {
        check_complete(&bed, publisher, viewer, Audio);
        check_complete(&bed, publisher, viewer, Video);
        let counters = bed.clients[viewer].peer.counters();
        assert_eq!((counters.unauthentic, counters.duplicates), (0, 0));
    }
    let after = bed.metrics().await;
    for metrics in &after {
        assert_eq!(metrics.offload, mode);
        let sockets = &metrics.sockets;
        assert_eq!(sockets.udp_refused + sockets.udp_backlog_dropped, 0);
        assert_eq!(sockets.handover_dropped + sockets.udp_runs_refused, 0);
        assert_eq!(
            (metrics.engine.nacks_sent, metrics.engine.rtp_retransmitted),
            (0, 0)
        );
    }
    // What the owner sent in the meantime: mostly frames.
    let [a, b] = [&before[0].sockets, &after[0].sockets];
    let calls = b.udp_send_calls - a.udp_send_calls;
    let runs =
        b.udp_runs.counts[1..].iter().sum::<u64>() - a.udp_runs.counts[1..].iter().sum::<u64>();
    let single = b.udp_runs.counts[0] - a.udp_runs.counts[0];
    let frames = (FRAMES * viewers.len()) as u64;
    if mode.gso {
        // A frame may have come in two batches.
        assert!(runs >= frames, "{runs} runs for {frames} frames");
    } else {
        assert_eq!(runs, 0);
        assert!(single >= frames * u64::from(BURST.packets));
    }
    if mode.sendmmsg {
        assert!(calls < runs + single, "{calls} calls, {mode}");
    } else {
        assert_eq!(calls, runs + single);
    }
}

#[tokio::test]
async fn media_passes_with_everything() {
    check(UdpOffload::ALL).await;
}

#[tokio::test]
async fn media_passes_without_gso() {
    check(UdpOffload {
        gso: false,
        ..UdpOffload::ALL
    })
    .await;
}

#[tokio::test]
async fn media_passes_without_gro() {
    check(UdpOffload {
        gro: false,
        ..UdpOffload::ALL
    })
    .await;
}

#[tokio::test]
async fn media_passes_without_sendmmsg() {
    check(UdpOffload {
        sendmmsg: false,
        ..UdpOffload::ALL
    })
    .await;
}

#[tokio::test]
async fn media_passes_without_anything() {
    check(UdpOffload::NONE).await;
}

/// Commands are taken at the end of a turn: what they see has left, or never will.
#[tokio::test]
async fn no_packet_waits_for_another_turn() {
    let mut bed = Bed::start(1, Config::default());
    let places = bed.places().await;
    let viewer = bed.call(&places[0], 0, 0).await;
    let second = bed.watch(&places[0], viewer - 1, 0).await;
    bed.run_for_packets(viewer, 10);
    bed.stop_media(viewer - 1);
    // What a viewer gets to catch up may wait.
    bed.run_until(|bed| {
        [viewer, second]
            .iter()
            .all(|id| is_complete(bed, viewer - 1, *id))
    });
    let balance = |engine: &sfu::engine::counters::Counters| {
        let decided = engine.rtp_forwarded + engine.rtp_withheld;
        decided as i64 - 2 * engine.rtp_received as i64
    };
    let caught_up = balance(&bed.metrics().await[0].engine);
    let mut seen = 0;
    for _ in 0..FRAMES {
        for _ in 0..5 {
            bed.clients[viewer - 1].send_frame(Video, &BURST);
            bed.clients[viewer - 1].send_frame(Audio, &Pace::AUDIO);
        }
        loop {
            let engine = bed.metrics().await[0].engine;
            assert_eq!(balance(&engine), caught_up);
            if engine.rtp_received >= seen + 5 * (u64::from(BURST.packets) + 1) {
                seen = engine.rtp_received;
                break;
            }
        }
        bed.run_until(|bed| is_complete(bed, viewer - 1, viewer));
    }
    let metrics = bed.metrics().await[0];
    let timed: u64 = metrics.hop.counts.iter().sum::<u64>() + metrics.hop.above;
    // Those shown again to catch up came earlier.
    assert!(timed.abs_diff(metrics.engine.rtp_forwarded) < 100);
}
