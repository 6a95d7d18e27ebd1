//! How sessions begin, move, renew and end while media flows.

use std::time::Duration;

use media::MediaKind::{self, Audio, Video};
use media::{Event, IceState, MediaState};
use media_bench::peer::{PeerConfig, PeerEvent, ReceivedPacket};
use media_bench::simulation::{ClientId, SERVER, Simulation};
use sfu::engine::counters::Discard;
use sfu::engine::flow::{Flow, FlowProtocol};

const SECOND: Duration = Duration::from_secs(1);
const DISCONNECTED: Event = Event::MediaStateChanged(MediaState::Disconnected);
const FAILED: Event = Event::IceStateChanged {
    component: 1,
    state: IceState::Failed,
};

fn packets(simulation: &Simulation, id: ClientId, kind: MediaKind) -> &[ReceivedPacket] {
    let stream = simulation.peer(id).received(kind);
    stream.map_or(&[], |stream| &stream.packets)
}

fn discarded(simulation: &Simulation, reason: Discard) -> u64 {
    simulation.engine.counters().discarded[reason as usize]
}

#[test]
fn peer_that_falls_silent_is_lost_after_thirty_seconds() {
    let mut simulation = Simulation::new(1);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let viewer = call.viewers[0];
    simulation.run_for(10 * SECOND);
    simulation.vanish(viewer);
    simulation.take_told(viewer);
    simulation.run_for(29 * SECOND);
    assert!(!simulation.take_told(viewer).contains(&DISCONNECTED));
    simulation.run_for(2 * SECOND);
    assert_eq!(simulation.take_told(viewer), [FAILED, DISCONNECTED]);
    assert_eq!(simulation.engine.counters().transports_expired, 1);
    let forwarded = simulation.engine.counters().rtp_forwarded;
    simulation.run_for(SECOND);
    assert_eq!(simulation.engine.counters().rtp_forwarded, forwarded);
    assert!(!simulation.take_told(call.publisher).contains(&DISCONNECTED));
    simulation.release(viewer);
    assert_eq!(simulation.engine.counters().transports, 1);
}

#[test]
fn peer_that_cannot_reach_us_is_told_of_once() {
    let mut simulation = Simulation::new(1);
    let id = simulation.add(PeerConfig::viewer(1));
    simulation.link_mut(id).up = Some(Box::new(|_| false));
    simulation.negotiate(id);
    simulation.run_for(29 * SECOND);
    assert!(!simulation.take_told(id).contains(&FAILED));
    simulation.run_for(60 * SECOND);
    assert_eq!(simulation.take_told(id), [FAILED]);
}

#[test]
fn idle_peer_stays_by_its_consent_checks() {
    let mut simulation = Simulation::new(2);
    let quiet = PeerConfig {
        reports: false,
        ..PeerConfig::viewer(1)
    };
    let id = simulation.join(quiet);
    simulation.run_for(300 * SECOND);
    assert!(!simulation.take_told(id).contains(&DISCONNECTED));
    assert!(simulation.peer(id).checks_answered() >= 50);
}

#[test]
fn goodbye_of_a_peer_ends_its_session_at_once() {
    let mut simulation = Simulation::new(3);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    simulation.take_told(call.publisher);
    let now = simulation.now();
    simulation.peer_mut(call.publisher).close(now);
    simulation.run_for(SECOND);
    assert!(simulation.take_told(call.publisher).contains(&DISCONNECTED));
    assert!(
        !simulation
            .take_told(call.viewers[0])
            .contains(&DISCONNECTED)
    );
}

#[test]
fn peer_hears_when_its_endpoint_is_released() {
    let mut simulation = Simulation::new(4);
    let id = simulation.join(PeerConfig::viewer(1));
    simulation.take_events(id);
    simulation.release(id);
    simulation.run_for(SECOND);
    assert_eq!(simulation.take_events(id), [PeerEvent::Closed]);
}

#[test]
fn media_flows_on_through_an_ice_restart() {
    let mut simulation = Simulation::new(5);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    for id in [call.publisher, call.viewers[0]] {
        let checks = simulation.peer(id).checks_answered();
        simulation.peer_mut(id).restart_ice();
        simulation.negotiate(id);
        simulation.run_for(2 * SECOND);
        assert_eq!(simulation.peer(id).checks_answered(), checks + 1);
        // To another address, as when a phone leaves its wireless network.
        simulation.peer_mut(id).restart_ice();
        simulation.change_address(id);
        simulation.negotiate(id);
        simulation.run_for(2 * SECOND);
    }
    let viewer = call.viewers[0];
    for kind in [Audio, Video] {
        let packets = packets(&simulation, viewer, kind);
        let last = packets.last().unwrap();
        assert!(simulation.now() - last.at < SECOND / 5, "{kind:?} flows");
        assert!(packets.iter().all(|packet| packet.stamp.is_some()));
    }
    assert_eq!(simulation.engine.counters().transports_connected, 2);
    assert!(!simulation.take_told(viewer).contains(&DISCONNECTED));
}

#[test]
fn renegotiation_of_the_same_media_changes_nothing() {
    let mut simulation = Simulation::new(6);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    for _ in 0..3 {
        simulation.run_for(SECOND);
        simulation.negotiate(call.publisher);
        simulation.negotiate(call.viewers[0]);
    }
    simulation.run_for(SECOND);
    let stream = simulation.peer(call.viewers[0]).received(Video).unwrap();
    assert_eq!((stream.missing(), stream.corrupt), (0, 0));
    assert_eq!(simulation.peer(call.viewers[0]).streams().count(), 2);
}

#[test]
fn media_from_an_unchecked_address_waits_for_its_check() {
    let mut simulation = Simulation::new(7);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    // Consent checks come every five seconds: change right behind one.
    simulation.run_until(10 * SECOND, |simulation| {
        simulation.peer(call.publisher).checks_answered() == 3
    });
    let viewer = call.viewers[0];
    simulation.change_address(call.publisher);
    simulation.run_for(SECOND / 10);
    let heard = packets(&simulation, viewer, Audio).len();
    simulation.run_for(2 * SECOND);
    assert_eq!(packets(&simulation, viewer, Audio).len(), heard);
    assert!(discarded(&simulation, Discard::NotValidated) > 200);

    let now = simulation.now();
    simulation.peer_mut(call.publisher).check_path(now);
    simulation.run_for(SECOND);
    assert!(packets(&simulation, viewer, Audio).len() > heard + 40);
}

#[test]
fn media_follows_a_viewer_to_the_address_it_nominates() {
    let mut simulation = Simulation::new(8);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let viewer = call.viewers[0];
    simulation.run_until(10 * SECOND, |simulation| {
        simulation.peer(viewer).checks_answered() == 3
    });
    simulation.change_address(viewer);
    simulation.run_for(SECOND / 10);
    let before = packets(&simulation, viewer, Video).len();
    simulation.run_for(SECOND);
    assert_eq!(packets(&simulation, viewer, Video).len(), before);
    let now = simulation.now();
    simulation.peer_mut(viewer).check_path(now);
    simulation.run_for(SECOND);
    assert!(packets(&simulation, viewer, Video).len() > before + 50);
}

#[test]
fn certificate_that_the_offer_did_not_name_gets_no_keys() {
    let mut simulation = Simulation::new(9);
    let id = simulation.add(PeerConfig::publisher(1));
    let offer = simulation.peer_mut(id).offer();
    let forged: String = offer
        .lines()
        .map(|line| match line.strip_prefix("a=fingerprint:sha-256 ") {
            Some(value) => {
                let first = if value.starts_with("00") { "11" } else { "00" };
                format!("a=fingerprint:sha-256 {first}{}\r\n", &value[2..])
            }
            None => format!("{line}\r\n"),
        })
        .collect();
    let (now, element) = (simulation.now(), simulation.element(id).clone());
    let answer = simulation.engine.process_offer(now, &element, &forged);
    simulation
        .peer_mut(id)
        .handle_answer(now, &answer.unwrap())
        .unwrap();
    simulation.run_for(60 * SECOND);
    let counters = simulation.engine.counters();
    assert_eq!(
        (counters.handshakes_failed, counters.transports_connected),
        (1, 0)
    );
    let told = simulation.take_told(id);
    assert!(told.contains(&DISCONNECTED), "{told:?}");
    let is_error = |event: &Event| matches!(event, Event::Error { .. });
    assert_eq!(told.iter().filter(|event| is_error(event)).count(), 1);
}

#[test]
fn strangers_are_dropped_and_counted() {
    let mut simulation = Simulation::new(10);
    simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(SECOND);
    let stranger = Flow {
        protocol: FlowProtocol::Udp,
        local: SERVER,
        remote: "203.0.113.9:9".parse().unwrap(),
    };
    let before = simulation.engine.counters();
    for first in [20, 22, 128, 144, 191] {
        let mut datagram = vec![first; 100];
        datagram[1] = 96;
        simulation.inject(stranger, &datagram);
    }
    simulation.inject(stranger, &[64; 100]);
    simulation.inject(stranger, &[]);
    simulation.inject(stranger, &[0; 20]);
    assert_eq!(discarded(&simulation, Discard::NotValidated), 5);
    assert_eq!(discarded(&simulation, Discard::Unknown), 2);
    assert_eq!(discarded(&simulation, Discard::Stun), 1);
    let after = simulation.engine.counters();
    assert_eq!(after.rtp_received, before.rtp_received);
    let now = simulation.now();
    assert!(
        simulation.engine.poll_transmits(now).is_none(),
        "no answer to strangers"
    );
}

#[test]
fn release_while_media_flows_leaves_nothing() {
    for publisher_first in [true, false] {
        let mut simulation = Simulation::new(11);
        let viewers = [2, 3, 4].map(PeerConfig::viewer);
        let call = simulation.call(PeerConfig::publisher(1), &viewers);
        simulation.run_for(2 * SECOND);
        let mut order = [&[call.publisher], &call.viewers[..]].concat();
        if !publisher_first {
            order.reverse();
        }
        for id in order {
            simulation.release(id);
            simulation.run_for(SECOND / 10);
        }
        simulation.run_for(2 * SECOND);
        let counters = simulation.engine.counters();
        assert_eq!((counters.transports, counters.elements), (0, 0));
        assert_eq!(counters.panics, 0);
        assert_eq!(simulation.engine.poll_timeout(), None);
    }
}

#[test]
fn released_pipeline_takes_all_its_elements_along() {
    let mut simulation = Simulation::new(12);
    let viewers = [2, 3].map(PeerConfig::viewer);
    simulation.call(PeerConfig::publisher(1), &viewers);
    simulation.run_for(SECOND);
    let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
    simulation.engine.release_pipeline(now, &pipeline);
    simulation.run_for(SECOND);
    let counters = simulation.engine.counters();
    assert_eq!((counters.transports, counters.elements), (0, 0));
    assert_eq!(simulation.engine.poll_timeout(), None);
}

#[test]
fn viewer_outlives_its_publisher_and_gets_another() {
    let mut simulation = Simulation::new(13);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    let viewer = call.viewers[0];
    simulation.run_for(2 * SECOND);
    simulation.release(call.publisher);
    simulation.run_for(2 * SECOND);
    let second = simulation.join(PeerConfig::publisher(3));
    simulation.connect(second, viewer, None);
    simulation.start_media(second);
    simulation.run_for(2 * SECOND);
    let stream = simulation.peer(viewer).received(Video).unwrap();
    assert_eq!((stream.missing(), stream.corrupt), (0, 0));
    let source = simulation.peer(second).ssrc(Video);
    assert_eq!(stream.last_stamp.map(|stamp| stamp.source), source);
}

/// Offers each of `peers` on a transport of its own to the endpoint of `element`; `None` disables the line.
fn negotiate_unbundled(
    simulation: &mut Simulation,
    element: ClientId,
    peers: [Option<ClientId>; 2],
) {
    let split = |text: String| {
        let (session, sections) = text.split_once("m=").expect("it has sections");
        let sections: Vec<_> = sections.split("\r\nm=").map(str::to_owned).collect();
        (session.to_owned(), sections)
    };
    let mut offer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    for (line, peer) in peers.into_iter().enumerate() {
        let section = match peer {
            Some(peer) => split(simulation.peer_mut(peer).offer()).1[0]
                .trim_end()
                .to_owned(),
            None => {
                let name = ["audio", "video"][line];
                format!("{name} 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:{line}")
            }
        };
        offer += &format!("m={section}\r\n");
    }
    let (now, element) = (simulation.now(), simulation.element(element).clone());
    let answer = simulation.engine.process_offer(now, &element, &offer);
    let (session, sections) = split(answer.expect("the offer is good"));
    for (peer, section) in peers.into_iter().zip(sections) {
        if let Some(peer) = peer {
            let answer = format!("{session}m={section}\r\n");
            simulation
                .peer_mut(peer)
                .handle_answer(now, &answer)
                .expect("the answer is good");
        }
    }
}

#[test]
fn media_that_is_dropped_and_brought_back_on_its_own_transport_connects_again() {
    let mut simulation = Simulation::new(14);
    let only = |kind, seed| {
        let mut config = PeerConfig::publisher(seed);
        match kind {
            Audio => config.video = None,
            _ => config.audio = None,
        }
        config
    };
    let audio = simulation.add(only(Audio, 1));
    let video = simulation.add(only(Video, 2));
    let viewer = simulation.join(PeerConfig::viewer(3));
    negotiate_unbundled(&mut simulation, audio, [Some(audio), Some(video)]);
    simulation.connect(audio, viewer, None);
    simulation.run_for(SECOND);
    assert_eq!(simulation.engine.counters().transports, 3);
    simulation.start_media(audio);
    simulation.start_media(video);
    simulation.run_for(2 * SECOND);
    assert!(packets(&simulation, viewer, Audio).len() > 90);

    negotiate_unbundled(&mut simulation, audio, [None, Some(video)]);
    simulation.run_for(2 * SECOND);
    let counters = simulation.engine.counters();
    assert_eq!((counters.transports, counters.panics), (2, 0));
    assert!(simulation.take_events(audio).contains(&PeerEvent::Closed));
    let heard = packets(&simulation, viewer, Audio).len();

    let returned = simulation.add(only(Audio, 4));
    negotiate_unbundled(&mut simulation, audio, [Some(returned), Some(video)]);
    simulation.run_for(SECOND);
    assert!(simulation.peer(returned).is_connected());
    simulation.start_media(returned);
    simulation.run_for(2 * SECOND);
    assert!(packets(&simulation, viewer, Audio).len() > heard + 90);
    let stream = simulation.peer(viewer).received(Video).unwrap();
    assert_eq!((stream.missing(), stream.corrupt), (0, 0));
    let mut pairs = stream.packets.windows(2);
    assert!(pairs.all(|pair| pair[1].at - pair[0].at < SECOND / 5));
    let last = stream.packets.last().unwrap();
    assert!(simulation.now() - last.at < SECOND / 5, "video never stops");
    let counters = simulation.engine.counters();
    assert_eq!((counters.transports, counters.transports_connected), (3, 4));
}
