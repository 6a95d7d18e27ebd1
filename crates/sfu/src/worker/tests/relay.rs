//! Media that crosses between workers, one of which stalls.

use std::sync::mpsc;
use std::time::Instant;

use super::rtp::{Gateway, start_with};
use super::*;
use crate::engine::counters::RelayDrop;
use crate::engine::ids::worker_of_element;

/// Endpoints that make the room larger than one worker takes.
const IDLE: usize = 150;

/// Endpoints of which some come to each worker.
const GATEWAYS_MAX: usize = 100;

/// More than fit between two workers.
const FLOOD: u16 = 6000;

/// A speaker, one who hears it on the same worker, and one on another.
struct Talk {
    server: NativeMediaServer,
    speaker: Gateway,
    near: Gateway,
    far: Gateway,
    sent: u16,
}

impl Talk {
    async fn begin() -> Self {
        let server = start_with(0..=0, 2);
        let made = server.create_pipeline(EventSender::discard()).await;
        let pipeline = made.unwrap();
        for _ in 0..IDLE {
            element(&server, &pipeline).await.unwrap();
        }
        let mut gateways: [Vec<Gateway>; 2] = Default::default();
        for _ in 0..GATEWAYS_MAX {
            if gateways[0].len() >= 2 && !gateways[1].is_empty() {
                break;
            }
            let gateway = Gateway::call(&server, &pipeline, EventSender::discard()).await;
            let worker = worker_of_element(&gateway.endpoint).unwrap();
            gateways[worker].push(gateway);
        }
        let [mut here, mut there] = gateways;
        let (speaker, near, far) = (
            here.pop().unwrap(),
            here.pop().unwrap(),
            there.pop().unwrap(),
        );
        for listener in [&near, &far] {
            server
                .connect(&speaker.endpoint, &listener.endpoint, None)
                .await
                .unwrap();
        }
        let patience = Duration::from_millis(5);
        far.rtp.set_read_timeout(Some(patience)).unwrap();
        Self {
            server,
            speaker,
            near,
            far,
            sent: 0,
        }
    }

    /// The speaker speaks and is heard on its own worker.
    fn speak(&mut self) -> Vec<u8> {
        self.sent += 1;
        let payload = self.sent.to_be_bytes().repeat(50);
        self.speaker.send(self.sent, &payload);
        assert_eq!(self.near.receive().0, payload);
        payload
    }

    /// Speaks until it is heard on the other worker.
    fn reach_far(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let payload = self.speak();
            let mut packet = [0; 2000];
            while let Ok(len) = self.far.rtp.recv(&mut packet) {
                if packet[12..len] == payload {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "nothing gets through");
        }
    }

    async fn dropped(&self) -> u64 {
        let metrics = self.server.metrics().await;
        metrics[0].engine.relay_dropped[RelayDrop::Full as usize]
    }
}

#[tokio::test]
async fn stalled_worker_costs_its_own_listeners_only() {
    let mut talk = Talk::begin().await;
    talk.reach_far();
    assert_eq!(talk.dropped().await, 0);

    let (entered, enters) = mpsc::channel();
    let (resume, resumes) = mpsc::channel::<()>();
    let stall = move || {
        entered.send(()).unwrap();
        // Until the test goes on, or fails.
        let _ = resumes.recv();
    };
    talk.server.queues()[1]
        .call(Box::new(move |_, _, _| stall()))
        .unwrap();
    enters.recv().unwrap();
    for _ in 0..FLOOD {
        talk.speak();
    }
    drop(resume);

    talk.reach_far();
    assert!(talk.dropped().await > 0);
    let before = talk.server.metrics().await;
    for _ in 0..20 {
        talk.reach_far();
    }
    let after = talk.server.metrics().await;
    assert_eq!(talk.dropped().await, before[0].engine.relay_dropped[0]);
    let relayed = |metrics: &[crate::metrics::Metrics]| metrics[0].engine.rtp_relayed;
    assert!(relayed(&after) >= relayed(&before) + 20);
}
