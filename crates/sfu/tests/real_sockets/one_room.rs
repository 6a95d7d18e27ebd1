//! A room that is larger than one worker.

use media::{ElementId, ElementKind, EventSender, MediaServer};
use media_bench::peer::PeerConfig;
use sfu::Config;

use crate::bed::{Bed, Place};

const WORKERS: usize = 2;
const PUBLISHERS: usize = 4;
const VIEWERS_EACH: usize = 4;

/// Endpoints without a peer that make a room large.
const IDLE: usize = 150;

/// Packets of video that must arrive for a call to count as good.
const ENOUGH: usize = 50;

fn worker_of(element: &ElementId) -> usize {
    let (_, name) = element.as_str().split_once('/').unwrap();
    usize::from_str_radix(&name[..4], 16).unwrap()
}

async fn large_room(bed: &Bed) -> Place {
    let place = bed.places().await.remove(0);
    for _ in 0..IDLE {
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: false,
            peer: None,
        };
        let events = EventSender::discard();
        let made = bed.server.create_element(&place.pipeline, kind, events);
        made.await.unwrap();
    }
    place
}

#[tokio::test]
async fn everybody_in_a_large_room_gets_everybody_whatever_their_worker() {
    let mut bed = Bed::start(WORKERS, Config::default());
    let place = large_room(&bed).await;
    let (mut publishers, mut viewers) = (Vec::new(), Vec::new());
    for seed in 0..PUBLISHERS as u64 {
        let socket = bed.socket_at(seed as usize % WORKERS).await;
        publishers.push(bed.join(&place, socket, PeerConfig::publisher(seed)).await);
    }
    for publisher in &publishers {
        for number in 0..VIEWERS_EACH {
            viewers.push(bed.watch(&place, *publisher, number % WORKERS).await);
        }
    }
    bed.run_until(|bed| viewers.iter().all(|id| bed.received(*id) >= ENOUGH));

    for viewer in &viewers {
        let stream = bed.clients[*viewer].peer.received(media::MediaKind::Video);
        assert_eq!(stream.unwrap().corrupt, 0);
    }
    for people in [&publishers, &viewers] {
        let workers = people.iter().map(|id| worker_of(&bed.clients[*id].element));
        let on_first = workers.filter(|worker| *worker == 0).count();
        assert!(
            (1..people.len()).contains(&on_first),
            "all are on one worker"
        );
    }
    for metrics in bed.metrics().await {
        let engine = metrics.engine;
        assert!(engine.rtp_relayed > 0 && engine.rtp_relay_received > 0);
        assert_eq!(engine.relay_dropped.iter().sum::<u64>(), 0);
        assert!(engine.transports_connected > 0);
        // Of the publishers on a worker each packet crosses once, not once for each viewer.
        assert!(engine.rtp_relayed <= engine.rtp_received);
    }

    bed.server.release_pipeline(&place.pipeline);
    // The first makes sure that the release is done, the second that what it caused elsewhere is.
    bed.metrics().await;
    for metrics in bed.metrics().await {
        let engine = metrics.engine;
        assert_eq!((engine.elements, engine.transports), (0, 0));
        assert_eq!((engine.mirrors, engine.trunks), (0, 0));
    }
}
