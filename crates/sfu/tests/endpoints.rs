//! What an application asks of a single endpoint, and what it is told.

use std::time::Duration;

use media::MediaKind::Video;
use media::{
    ChannelStats, DataChannelOptions, DtlsState, ElementKind, Error, Event, IceState, MediaState,
    OfferOptions,
};
use media_bench::peer::{PeerConfig, PeerEvent};
use media_bench::simulation::{ClientId, SERVER, Simulation};

const SECOND: Duration = Duration::from_secs(1);

fn options(label: &str) -> DataChannelOptions {
    DataChannelOptions {
        label: label.to_owned(),
        ordered: true,
        max_packet_life_time_ms: None,
        max_retransmits: Some(3),
        protocol: String::new(),
    }
}

fn channel_events(simulation: &mut Simulation, id: ClientId) -> Vec<Event> {
    let mut told = simulation.take_told(id);
    told.retain(|event| {
        matches!(
            event,
            Event::DataChannelOpened(_) | Event::DataChannelClosed(_)
        )
    });
    told
}

#[test]
fn path_and_handshake_are_told_in_their_order() {
    let mut simulation = Simulation::new(1);
    let client = simulation.join(PeerConfig::publisher(1));
    let address = simulation.flow(client).remote;
    let mut told = simulation.take_told(client);
    told.retain(|event| {
        matches!(
            event,
            Event::CandidatePairSelected { .. }
                | Event::IceStateChanged { .. }
                | Event::DtlsStateChanged(_)
                | Event::MediaStateChanged(_)
        )
    });
    let Event::CandidatePairSelected { local, remote, .. } = told.remove(0) else {
        panic!("{told:?}");
    };
    let place = |ip, port| format!(" {ip} {port} typ ");
    assert!(
        local.contains(&place(SERVER.ip(), SERVER.port())),
        "{local}"
    );
    assert!(
        remote.contains(&place(address.ip(), address.port())),
        "{remote}"
    );
    let expected = [
        Event::IceStateChanged {
            component: 1,
            state: IceState::Connected,
        },
        Event::DtlsStateChanged(DtlsState::Connecting),
        Event::DtlsStateChanged(DtlsState::Connected),
        Event::MediaStateChanged(MediaState::Connected),
    ];
    assert_eq!(told, expected);
}

#[test]
fn application_opens_and_closes_data_channels() {
    let mut simulation = Simulation::new(2);
    let client = simulation.join(PeerConfig {
        data: true,
        ..PeerConfig::new(1)
    });
    simulation.run_for(SECOND);
    let (element, now) = (simulation.element(client).clone(), simulation.now());
    let engine = &mut simulation.engine;
    engine
        .create_data_channel(now, &element, options("news"))
        .unwrap();
    simulation.run_for(SECOND);
    let opened = simulation.take_events(client).into_iter();
    let opened: Vec<_> = opened
        .filter_map(|event| match event {
            PeerEvent::ChannelOpened { id, label } => Some((id, label)),
            _ => None,
        })
        .collect();
    let [(stream, label)] = &opened[..] else {
        panic!("{opened:?}");
    };
    assert_eq!(label, "news");
    let told = channel_events(&mut simulation, client);
    assert_eq!(told, [Event::DataChannelOpened(*stream)]);

    let now = simulation.now();
    let engine = &mut simulation.engine;
    let open = ChannelStats {
        stream: *stream,
        label: "news".to_owned(),
        is_open: true,
        ..ChannelStats::default()
    };
    assert_eq!(engine.stats(now, &element).unwrap().channels, [open]);
    for _ in 0..2 {
        engine.close_data_channel(now, &element, *stream).unwrap();
    }
    simulation.run_for(SECOND);
    let told = channel_events(&mut simulation, client);
    assert_eq!(told, [Event::DataChannelClosed(*stream)]);
}

#[test]
fn channels_of_the_peer_are_told() {
    let mut simulation = Simulation::new(3);
    let client = simulation.join(PeerConfig {
        data: true,
        ..PeerConfig::new(1)
    });
    let now = simulation.now();
    let channel = simulation.peer_mut(client).open_channel(now, "chat");
    simulation.run_for(SECOND);
    let told = channel_events(&mut simulation, client);
    assert_eq!(told, [Event::DataChannelOpened(channel.unwrap())]);
}

#[test]
fn data_channels_need_a_connection_that_has_them() {
    let mut simulation = Simulation::new(4);
    let without = simulation.join(PeerConfig::publisher(1));
    let unconnected = simulation.add(PeerConfig {
        data: true,
        ..PeerConfig::new(2)
    });
    let now = simulation.now();
    let mut create = |id| {
        let element = simulation.element(id).clone();
        let engine = &mut simulation.engine;
        engine.create_data_channel(now, &element, options(""))
    };
    assert!(matches!(create(without), Err(Error::Unsupported { .. })));
    let refused = create(unconnected);
    assert!(
        matches!(refused, Err(Error::Refused { code: 40003, .. })),
        "{refused:?}"
    );
}

#[test]
fn application_asks_for_a_key_frame() {
    let mut simulation = Simulation::new(5);
    let call = simulation.call(PeerConfig::publisher(1), &[PeerConfig::viewer(2)]);
    simulation.run_for(3 * SECOND);
    let viewer = call.viewers[0];
    let before = simulation
        .peer(viewer)
        .received(Video)
        .unwrap()
        .packets
        .len();
    let (element, now) = (simulation.element(viewer).clone(), simulation.now());
    simulation.engine.request_key_frame(now, &element).unwrap();
    simulation.run_for(SECOND / 5);
    let stream = simulation.peer(viewer).received(Video).unwrap();
    let mut after = stream.packets[before..].iter();
    assert!(after.any(|packet| packet.key_frame));

    let unconnected = simulation.add(PeerConfig::new(3));
    let element = simulation.element(unconnected).clone();
    let refused = simulation.engine.request_key_frame(now, &element);
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
}

#[test]
fn offering_endpoint_tells_its_candidates_before_the_answer_and_once() {
    let mut simulation = Simulation::new(6);
    let client = simulation.add(PeerConfig::new(1));
    let (element, now) = (simulation.element(client).clone(), simulation.now());
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: false,
        peer: None,
    };
    let pipeline = simulation.pipeline().clone();
    let engine = &mut simulation.engine;
    let offer = engine
        .generate_offer(now, &element, OfferOptions::default())
        .unwrap();
    engine.gather_candidates(now, &element).unwrap();
    // Another endpoint answers, in the place of a peer. It cannot be controlled either, but its words will do.
    let other = engine
        .create_element(now, &pipeline, kind, media::EventSender::discard())
        .unwrap();
    let answer = engine
        .process_offer(now, &other, &offer.replace("a=ice-lite\r\n", ""))
        .unwrap();
    let count = |told: Vec<Event>| {
        let done = told
            .iter()
            .filter(|event| **event == Event::IceGatheringDone);
        let found = told.iter().filter(|event| match event {
            Event::IceCandidateFound(found) => {
                assert_eq!(found.candidate.matches("candidate:").count(), 1);
                found.sdp_mid == "audio0"
            }
            _ => false,
        });
        (found.count(), done.count())
    };
    let (found, done) = count(simulation.take_told(client));
    assert!(found > 0);
    assert_eq!(done, 1);
    let answer = answer.replace("a=ice-lite\r\n", "");
    simulation
        .engine
        .process_answer(now, &element, &answer)
        .unwrap();
    assert_eq!(count(simulation.take_told(client)), (0, 0));
}

#[test]
fn applications_are_told_of_peers_that_are_not_heard() {
    let mut simulation = Simulation::new(1);
    let publisher = simulation.join(PeerConfig::publisher(1));
    let viewer = simulation.add(PeerConfig {
        reports: false,
        transport_cc: false,
        ..PeerConfig::viewer(2)
    });
    simulation.negotiate(viewer);
    simulation.connect(publisher, viewer, None);
    simulation.run_for(Duration::from_secs(2));
    simulation.peer_mut(viewer).send_picture_loss();
    let heard = |told: Vec<Event>| {
        let told = told.into_iter().filter_map(|event| match event {
            Event::PeerHeard(heard) => Some(heard),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    simulation.run_for(Duration::from_secs(24));
    assert_eq!(heard(simulation.take_told(viewer)), []);
    simulation.run_for(Duration::from_secs(4));
    assert_eq!(heard(simulation.take_told(viewer)), [false]);
    simulation.peer_mut(viewer).send_picture_loss();
    simulation.run_for(Duration::from_secs(1));
    assert_eq!(heard(simulation.take_told(viewer)), [true]);
    assert_eq!(heard(simulation.take_told(publisher)), []);
}
