//! Messages along the DATA connections of the graph, over DTLS and SCTP.

use std::time::Duration;

use media::MediaKind::Data;
use media::{ElementKind, EventSender};
use media_bench::peer::{PeerConfig, PeerEvent};
use media_bench::simulation::{ClientId, Simulation};

const SECOND: Duration = Duration::from_secs(1);

fn config(seed: u64) -> PeerConfig {
    PeerConfig {
        data: true,
        ..PeerConfig::new(seed)
    }
}

/// Opens a channel and waits until it can be used.
fn open(simulation: &mut Simulation, id: ClientId, label: &str) -> u16 {
    let now = simulation.now();
    let channel = simulation.peer_mut(id).open_channel(now, label);
    simulation.run_for(SECOND);
    channel.expect("data is negotiated")
}

fn send(simulation: &mut Simulation, id: ClientId, channel: u16, binary: bool, data: &[u8]) {
    let now = simulation.now();
    let peer = simulation.peer_mut(id);
    assert!(peer.send_message(now, channel, binary, data));
    simulation.run_for(SECOND);
}

fn messages(simulation: &mut Simulation, id: ClientId) -> Vec<(u16, bool, Vec<u8>)> {
    let events = simulation.take_events(id);
    let messages = events.into_iter().filter_map(|event| match event {
        PeerEvent::Message { id, binary, data } => Some((id, binary, data.to_vec())),
        _ => None,
    });
    messages.collect()
}

#[test]
fn messages_reach_every_receiver_on_the_channel_of_the_same_label() {
    let mut simulation = Simulation::new(1);
    let sender = simulation.join(config(1));
    let receivers = [2, 3].map(|seed| simulation.join(config(seed)));
    let channel = open(&mut simulation, sender, "chat");
    let mut channels = Vec::new();
    for receiver in receivers {
        open(&mut simulation, receiver, "other");
        channels.push(open(&mut simulation, receiver, "chat"));
        simulation.connect(sender, receiver, Some(Data));
    }
    send(&mut simulation, sender, channel, false, b"hello");
    send(&mut simulation, sender, channel, true, &[7; 50_000]);
    for (receiver, channel) in receivers.into_iter().zip(channels) {
        let expected = [
            (channel, false, b"hello".to_vec()),
            (channel, true, vec![7; 50_000]),
        ];
        assert_eq!(messages(&mut simulation, receiver), expected);
    }
    assert!(messages(&mut simulation, sender).is_empty());
    assert_eq!(simulation.engine.counters().messages_forwarded, 4);
}

#[test]
fn receiver_without_a_channel_is_offered_one() {
    let mut simulation = Simulation::new(2);
    let sender = simulation.join(config(1));
    let receiver = simulation.join(config(2));
    simulation.connect(sender, receiver, Some(Data));
    let channel = open(&mut simulation, sender, "chat");
    let opened: Vec<_> = simulation
        .take_events(receiver)
        .into_iter()
        .filter_map(|event| match event {
            PeerEvent::ChannelOpened { label, .. } => Some(label),
            _ => None,
        })
        .collect();
    assert_eq!(opened, ["chat"]);
    send(&mut simulation, sender, channel, false, b"hello");
    let received = messages(&mut simulation, receiver);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].2, b"hello");
}

#[test]
fn messages_pass_through_elements_between() {
    let mut simulation = Simulation::new(3);
    let sender = simulation.join(config(1));
    let receiver = simulation.join(config(2));
    let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
    let elements = [simulation.element(sender), simulation.element(receiver)].map(Clone::clone);
    let engine = &mut simulation.engine;
    let between = engine
        .create_element(
            now,
            &pipeline,
            ElementKind::PassThrough,
            EventSender::discard(),
        )
        .expect("the pipeline exists");
    let [from, to] = &elements;
    for (source, sink) in [(from, &between), (&between, to)] {
        engine
            .connect(now, source, sink, Some(Data))
            .expect("both exist");
    }
    let channel = open(&mut simulation, sender, "chat");
    send(&mut simulation, sender, channel, false, b"hello");
    assert_eq!(messages(&mut simulation, receiver).len(), 1);
}

#[test]
fn messages_survive_loss() {
    let mut simulation = Simulation::new(4);
    let sender = simulation.join(config(1));
    let receiver = simulation.join(config(2));
    simulation.connect(sender, receiver, Some(Data));
    let channel = open(&mut simulation, sender, "chat");
    for id in [sender, receiver] {
        let link = simulation.link_mut(id);
        (link.loss_up, link.loss_down) = (0.1, 0.1);
    }
    let sent: Vec<_> = (0..50u8).map(|number| vec![number; 300]).collect();
    for message in &sent {
        send(&mut simulation, sender, channel, true, message);
    }
    simulation.run_for(30 * SECOND);
    let received = messages(&mut simulation, receiver);
    let received: Vec<_> = received.into_iter().map(|(_, _, data)| data).collect();
    assert_eq!(received, sent);
}
