//! Calls whose datagrams the system gives to other workers than those which own them.

use media::{MediaKind, MediaServer};
use media_bench::peer::PeerConfig;
use sfu::Config;
use sfu::metrics::Metrics;

use crate::bed::Bed;

const WORKERS: usize = 3;

/// Packets of video that must arrive for a call to count as good.
const ENOUGH: usize = 50;

#[tokio::test]
async fn call_succeeds_whichever_workers_its_datagrams_reach() {
    let mut bed = Bed::start(WORKERS, Config::default());
    let places = bed.places().await;
    let mut viewers = Vec::new();
    for place in &places {
        for (publisher_at, viewer_at) in [(0, 1), (1, 2), (2, 0)] {
            viewers.push(bed.call(place, publisher_at, viewer_at).await);
        }
    }
    bed.run_until(|bed| viewers.iter().all(|id| bed.received(*id) >= ENOUGH));

    for viewer in &viewers {
        let peer = &bed.clients[*viewer].peer;
        let video = peer.received(MediaKind::Video).unwrap();
        assert_eq!((video.corrupt, peer.counters().unauthentic), (0, 0));
    }
    for (worker, metrics) in bed.metrics().await.iter().enumerate() {
        let sockets = &metrics.sockets;
        // Two of three publishers whose datagrams reach a worker have their session elsewhere.
        assert!(sockets.handed_over as usize > 2 * ENOUGH, "{worker}");
        assert_eq!(sockets.handover_dropped, 0, "{worker}");
        assert_eq!(metrics.engine.transports_connected, 6, "{worker}");
    }
}

#[tokio::test]
async fn datagrams_that_reach_their_worker_are_not_handed_over() {
    let mut bed = Bed::start(WORKERS, Config::default());
    let places = bed.places().await;
    for place in &places {
        let viewer = bed.call(place, place.worker, place.worker).await;
        bed.run_for_packets(viewer, ENOUGH);
    }
    let metrics = bed.metrics().await;
    assert!(metrics.iter().all(|it| it.sockets.handed_over == 0));
}

#[tokio::test]
async fn forged_checks_do_not_divert_a_call() {
    let mut bed = Bed::start(WORKERS, Config::default());
    let places = bed.places().await;
    let viewer = bed.call(&places[0], 0, 1).await;
    // Sessions whose ufrags the forger knows.
    let other = bed.call(&places[2], 2, 2).await;
    bed.run_for_packets(viewer, ENOUGH);
    bed.run_for_packets(other, ENOUGH);
    let before = bed.metrics().await;

    for (publisher, worker) in [(viewer - 1, 0), (viewer, 0), (other, 2)] {
        let offer = bed.clients[publisher].peer.offer();
        let element = bed.clients[publisher].element.clone();
        let answer = bed.server.process_offer(&element, &offer).await.unwrap();
        let ufrag = attribute(&answer, "a=ice-ufrag:");
        assert_eq!(ufrag[..4], format!("{worker:04x}"));
        let remote = attribute(&offer, "a=ice-ufrag:");
        for victim in [viewer - 1, viewer] {
            for _ in 0..20 {
                let forged = check(&ufrag, &remote);
                bed.clients[victim].socket.send(&forged).unwrap();
            }
        }
    }
    bed.run_for_packets(viewer, ENOUGH);

    let [a, b] = [&before, &bed.metrics().await].map(|all| {
        let discarded = all.iter().map(|it| {
            let stun = sfu::engine::counters::Discard::Stun as usize;
            it.engine.discarded[stun]
        });
        discarded.sum::<u64>()
    });
    assert_eq!(b - a, 3 * 2 * 20, "every forged check is refused");
    // What the publisher sends still reaches its worker: only forged checks left worker 0.
    let handed = |metrics: &[Metrics]| metrics[0].sockets.handed_over;
    assert_eq!(handed(&bed.metrics().await) - handed(&before), 20);
}

#[tokio::test]
async fn session_on_another_worker_takes_the_port_of_a_former_one() {
    let mut bed = Bed::start(WORKERS, Config::default());
    let places = bed.places().await;
    // From the worker that the datagrams reach to another one, to a third one, and back.
    let socket = bed.socket_at(0).await;
    for (round, worker) in [0, 1, 2, 0, 0, 1].into_iter().enumerate() {
        let again = socket.try_clone().unwrap();
        let config = PeerConfig::publisher(round as u64);
        let publisher = bed.join(&places[worker], again, config).await;
        let viewer = bed.watch(&places[worker], publisher, worker).await;

        bed.run_for_packets(viewer, ENOUGH);

        bed.vanish();
        bed.vanish();
        while socket.recv(&mut [0; 2000]).is_ok() {}
    }
    assert_eq!(bed.metrics().await[0].sockets.handover_dropped, 0);
}

#[tokio::test]
async fn nothing_is_handed_over_for_a_session_that_ended() {
    let mut bed = Bed::start(WORKERS, Config::default());
    let places = bed.places().await;
    let viewer = bed.call(&places[0], 1, 2).await;
    bed.run_for_packets(viewer, ENOUGH);

    bed.server.release_pipeline(&places[0].pipeline);
    // The owner answers when it has told the others.
    let before = bed.metrics().await;
    for client in &bed.clients {
        client.socket.send(&[0x80; 100]).unwrap();
    }
    let handed = |metrics: &Metrics| metrics.sockets.handed_over;
    let received = |metrics: &Metrics| metrics.sockets.udp_received;
    let after = loop {
        let after = bed.metrics().await;
        if (1..WORKERS).all(|worker| received(&after[worker]) > received(&before[worker])) {
            break after;
        }
    };
    assert!(after.iter().map(handed).eq(before.iter().map(handed)));
}

fn attribute(description: &str, name: &str) -> String {
    let line = description.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().to_owned()
}

/// A connectivity check of somebody who does not know the password.
fn check(local: &str, remote: &str) -> Vec<u8> {
    use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USERNAME};
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

    let provider = rtc_crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.write_header();
    TransactionId::new().add_to(&mut message).unwrap();
    message.add(ATTR_USERNAME, format!("{local}:{remote}").as_bytes());
    message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
    message.add(ATTR_ICE_CONTROLLING, &[7; 8]);
    let password = "a password of twenty-four".to_owned();
    MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
        .add_to(&mut message)
        .unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}
