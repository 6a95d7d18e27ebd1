//! Media from one peer to others through the engine: what changes on the way and what does not.

use std::time::Duration;

use media::MediaKind::{Audio, Video};
use media::{Event, MediaState};
use media_bench::peer::{Pace, PeerConfig, PeerEvent};
use media_bench::simulation::{ClientId, Simulation};
use sfu::engine::srtp::Profile;

const SECOND: Duration = Duration::from_secs(1);

/// A publisher that sends audio and video, and viewers of it.
fn call(viewers: &[PeerConfig]) -> (Simulation, ClientId, Vec<ClientId>) {
    let mut simulation = Simulation::new(1);
    let publisher = simulation.join(PeerConfig::publisher(1));
    let viewers: Vec<_> = viewers
        .iter()
        .map(|config| {
            let viewer = simulation.join(config.clone());
            simulation.connect(publisher, viewer, None);
            viewer
        })
        .collect();
    start(&mut simulation, publisher);
    (simulation, publisher, viewers)
}

fn start(simulation: &mut Simulation, publisher: ClientId) {
    let now = simulation.now();
    let peer = simulation.peer_mut(publisher);
    peer.set_pace(now, Audio, Some(Pace::AUDIO));
    peer.set_pace(now, Video, Some(Pace::VIDEO));
}

#[test]
fn peers_connect_with_the_fastest_cipher() {
    let mut simulation = Simulation::new(1);
    let id = simulation.join(PeerConfig::publisher(1));
    simulation.run_for(SECOND);
    assert_eq!(simulation.peer(id).profile(), Some(Profile::AeadAes128Gcm));
    assert_eq!(simulation.take_events(id), [PeerEvent::Connected]);
    let connected = Event::MediaStateChanged(MediaState::Connected);
    assert_eq!(simulation.take_told(id), [connected]);
    assert_eq!(simulation.engine.counters().transports_connected, 1);
}

#[test]
fn payloads_arrive_unchanged_and_numbers_without_a_gap() {
    let viewers = [1, 2, 3].map(|seed| PeerConfig::viewer(10 + seed));
    let (mut simulation, publisher, viewers) = call(&viewers);
    simulation.run_for(10 * SECOND);
    for viewer in viewers {
        for (kind, pace, clock_rate) in [(Audio, Pace::AUDIO, 48_000), (Video, Pace::VIDEO, 90_000)]
        {
            let peer = simulation.peer(viewer);
            let stream = peer.received(kind).expect("media arrives");
            assert_eq!((stream.corrupt, stream.stats().lost), (0, 0));
            let packets = &stream.packets;
            let expected = 9.5 / pace.interval.as_secs_f64() * f64::from(pace.packets);
            assert!(packets.len() as f64 > expected, "{}", packets.len());
            for pair in packets.windows(2) {
                let [one, two] = pair else { continue };
                assert_eq!(two.seq, one.seq.next());
                let [a, b] = [one, two].map(|packet| packet.stamp.unwrap());
                assert_eq!(b.number, a.number + 1);
                let elapsed = Duration::from_micros(b.sent_micros - a.sent_micros);
                let ticks = two.timestamp.ticks_from(one.timestamp);
                let expected = elapsed.as_micros() * clock_rate / 1_000_000;
                assert!(u128::from(ticks).abs_diff(expected) <= 1, "{ticks}");
            }
            let source = simulation.peer(publisher).ssrc(kind);
            assert_eq!(packets[0].stamp.map(|stamp| stamp.source), source);
        }
        assert_eq!(simulation.peer(viewer).counters().unauthentic, 0);
    }
}
