//! What one batch of received packets becomes: when it leaves, and in which order.

use std::time::Duration;

use forwarding::rtp::{PacketKind, is_rtcp};
use media::MediaKind::{Audio, Video};
use media_bench::peer::{Pace, PeerConfig};
use media_bench::simulation::{ClientId, Simulation};
use sfu::engine::flow::Flow;

const SECOND: Duration = Duration::from_secs(1);

/// Of a viewer's audio, as it is in `PeerConfig`.
const OPUS: u8 = 111;

/// A frame of a good camera.
const BURST: Pace = Pace {
    interval: SECOND,
    packets: 12,
    packet_bytes: 1_100,
};

/// A frame that sound may wait behind.
const SHORT: Pace = Pace {
    packets: 4,
    ..BURST
};

/// Receives a frame of video, and a packet of audio behind it, as one batch.
fn receive_batch(simulation: &mut Simulation, publisher: ClientId, frame: &Pace) {
    let (now, flow) = (simulation.now(), simulation.flow(publisher));
    let peer = simulation.peer_mut(publisher);
    peer.send_frame(now, Video, frame);
    peer.send_frame(now, Audio, &Pace::AUDIO);
    let datagrams: Vec<_> = std::iter::from_fn(|| peer.poll_transmit()).collect();
    for mut datagram in datagrams {
        simulation.engine.handle_datagram(now, flow, &mut datagram);
    }
}

/// Takes what the engine sends without any time passing: to whom, and whether it is audio.
fn take_media(simulation: &mut Simulation) -> Vec<(Flow, bool)> {
    let now = simulation.now();
    let mut media = Vec::new();
    while let Some(outbox) = simulation.engine.poll_transmits(now) {
        let packets = outbox
            .datagrams()
            .filter(|(_, bytes)| PacketKind::of(bytes) == PacketKind::Rtp && !is_rtcp(bytes))
            .map(|(flow, bytes)| (flow, bytes[1] & 0x7f == OPUS));
        media.extend(packets);
    }
    media
}

#[test]
fn batch_leaves_at_once_and_its_audio_before_its_video() {
    let mut simulation = Simulation::new(1);
    let viewers = [2, 3, 4].map(PeerConfig::viewer);
    let call = simulation.call(PeerConfig::publisher(1), &viewers);
    simulation.run_for(SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(SECOND);
    assert_eq!(take_media(&mut simulation), []);

    for _ in 0..10 {
        receive_batch(&mut simulation, call.publisher, &BURST);
        let media = take_media(&mut simulation);

        let per_viewer = 1 + usize::from(BURST.packets);
        assert_eq!(media.len(), viewers.len() * per_viewer);
        // The audio of all viewers, then video, each viewer's in one piece for the sake of runs.
        let (audio, video) = media.split_at(viewers.len());
        assert!(audio.iter().all(|(_, is_audio)| *is_audio));
        assert!(!video.iter().any(|(_, is_audio)| *is_audio));
        let pieces: Vec<_> = video
            .chunk_by(|(one, _), (two, _)| one == two)
            .map(<[_]>::len)
            .collect();
        assert_eq!(pieces, [usize::from(BURST.packets); 3]);
        simulation.run_for(SECOND / 10);
    }
}

#[test]
fn short_frame_leaves_together_with_the_audio_of_its_batch() {
    let mut simulation = Simulation::new(3);
    let viewers = [2, 3, 4].map(PeerConfig::viewer);
    let call = simulation.call(PeerConfig::publisher(1), &viewers);
    simulation.run_for(SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(SECOND);
    let now = simulation.now();
    receive_batch(&mut simulation, call.publisher, &SHORT);

    let outbox = simulation.engine.poll_transmits(now).unwrap();

    for (may_join, expected) in [(true, &[5; 3][..]), (false, &[1, 1, 1, 4, 4, 4])] {
        let sizes = outbox.departures(may_join).map(|it| it.datagrams());
        assert!(sizes.eq(expected.iter().copied()), "{may_join}");
    }
}

#[test]
fn batches_of_any_size_leave_completely() {
    let mut simulation = Simulation::new(2);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    simulation.stop_media(call.publisher);
    simulation.run_for(SECOND);
    // Up to more than a worker lets wait.
    for frames in [1, 2, 5, 20] {
        for _ in 0..frames {
            receive_batch(&mut simulation, call.publisher, &BURST);
        }
        let sent = take_media(&mut simulation).len();
        assert_eq!(sent, frames * (1 + usize::from(BURST.packets)));
        simulation.run_for(SECOND / 10);
    }
}
