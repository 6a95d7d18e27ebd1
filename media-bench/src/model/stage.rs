//! Publishers and viewers on a simulated network around the real engine: [`Stage`].
//!
//! Everybody's datagrams cross bottlenecks ([`Access`]), one each way, which several connections may share. Time jumps
//! from event to event. The same seed gives the same run: what the engine draws at random, ids and first numbers, has
//! no influence on time.

use std::time::{Duration, Instant};

use forwarding::rtp::NtpTime;
use media::{Delivery, Event, PeerId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::engine::clock::Clock;

use super::publisher::{Publisher, PublisherConfig};
use super::viewer::{Viewer, ViewerConfig};
use crate::network::{LinkConfig, LinkCounters};
use crate::simulation::{ClientId, PathId, Simulation};

/// Between samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// How somebody reaches the engine: a bottleneck up and one down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    up: PathId,
    down: PathId,
}

/// Handle of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherId(usize);

/// Handle of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewerId(usize);

/// What the engine told about an endpoint.
#[derive(Clone, Debug)]
pub struct EngineEvent {
    /// When.
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// A reading of one bottleneck towards viewers.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// What waits in front of it.
    pub queue: Duration,
    /// What it has done so far.
    pub counters: LinkCounters,
}

struct Watched {
    path: PathId,
    samples: Vec<Sample>,
}

enum Model {
    Publisher(usize),
    Viewer(usize),
}

struct Member {
    client: ClientId,
    model: Model,
    is_started: bool,
    told: Vec<EngineEvent>,
}

/// A play with its network.
pub struct Stage {
    /// The network and the engine.
    pub simulation: Simulation,
    began_at: Instant,
    random: StdRng,
    members: Vec<Member>,
    publishers: Vec<(Publisher, usize)>,
    viewers: Vec<(Viewer, usize)>,
    watched: Vec<Watched>,
    sample_at: Instant,
}

impl Stage {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self::with_workers(seed, 1)
    }

    /// An empty one around several engines. Publishers are on the first.
    pub fn with_workers(seed: u64, workers: usize) -> Self {
        let simulation = Simulation::with_workers(seed, workers);
        let now = simulation.now();
        Self {
            simulation,
            began_at: now,
            random: StdRng::seed_from_u64(seed ^ 0x5eed),
            members: Vec::new(),
            publishers: Vec::new(),
            viewers: Vec::new(),
            watched: Vec::new(),
            sample_at: now,
        }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.simulation.now() - self.began_at
    }

    /// When it began.
    pub fn began_at(&self) -> Instant {
        self.began_at
    }

    /// Adds a pair of bottlenecks, towards the engine and from it. The latter is sampled.
    pub fn add_access(&mut self, up: LinkConfig, down: LinkConfig) -> Access {
        let access = Access {
            up: self.simulation.add_path(up),
            down: self.simulation.add_path(down),
        };
        self.watched.push(Watched {
            path: access.down,
            samples: Vec::new(),
        });
        access
    }

    fn add_member(&mut self, client: ClientId, access: Access, model: Model) -> usize {
        self.simulation.set_paths(client, access.up, access.down);
        self.simulation.negotiate(client);
        self.members.push(Member {
            client,
            model,
            is_started: false,
            told: Vec::new(),
        });
        self.members.len() - 1
    }

    /// A publisher that connects from here on, and sends once it is.
    pub fn publish(&mut self, access: Access, config: PublisherConfig) -> PublisherId {
        let index = self.publishers.len();
        let client = self.simulation.add(config.peer(self.random.random()));
        let clock = self.clock();
        // Encoders of one publisher have numbers next to each other.
        let publisher = Publisher::new(config, 8 * index as u32, clock, self.random.random());
        let member = self.add_member(client, access, Model::Publisher(index));
        self.publishers.push((publisher, member));
        PublisherId(index)
    }

    /// A viewer that connects from here on. Viewers with the same participant share what the engine knows of their path.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn watch(
        &mut self,
        access: Access,
        publisher: PublisherId,
        config: ViewerConfig,
        participant: Option<PeerId>,
    ) -> ViewerId {
        self.watch_on(0, access, publisher, config, participant)
    }

    /// As [`Self::watch`], on a worker.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn watch_on(
        &mut self,
        worker: usize,
        access: Access,
        publisher: PublisherId,
        config: ViewerConfig,
        participant: Option<PeerId>,
    ) -> ViewerId {
        let index = self.viewers.len();
        let peer = config.peer(self.random.random());
        let client = self.simulation.add_member(worker, peer, participant);
        let viewer = Viewer::new(config, self.clock());
        let member = self.add_member(client, access, Model::Viewer(index));
        self.viewers.push((viewer, member));
        let source = self.members[self.publishers[publisher.0].1].client;
        self.simulation.connect(source, client, None);
        ViewerId(index)
    }

    /// A viewer is gone in an orderly way.
    pub fn leave(&mut self, viewer: ViewerId) {
        let client = self.members[self.viewers[viewer.0].1].client;
        self.simulation.release(client);
        self.simulation.vanish(client);
    }

    /// Has a viewer ask for another quality.
    ///
    /// # Panics
    ///
    /// If the viewer has left.
    #[expect(clippy::expect_used, reason = "a scenario that is wrong must fail")]
    pub fn wish(&mut self, viewer: ViewerId, delivery: Delivery) {
        let now = self.simulation.now();
        let element = self.simulation.element(self.client(viewer)).clone();
        let granted = self.simulation.engine.set_delivery(now, &element, delivery);
        granted.expect("the viewer has an endpoint");
    }

    fn clock(&self) -> Clock {
        Clock {
            at: self.began_at,
            ntp: NtpTime(0xe100_0000 << 32),
        }
    }

    /// A publisher.
    pub fn publisher(&self, id: PublisherId) -> &Publisher {
        &self.publishers[id.0].0
    }

    /// A publisher, to make it do something.
    pub fn publisher_mut(&mut self, id: PublisherId) -> &mut Publisher {
        &mut self.publishers[id.0].0
    }

    /// A viewer.
    pub fn viewer(&self, id: ViewerId) -> &Viewer {
        &self.viewers[id.0].0
    }

    /// Its endpoint, for the engine.
    pub fn client(&self, id: ViewerId) -> ClientId {
        self.members[self.viewers[id.0].1].client
    }

    /// The endpoint of a publisher, likewise.
    pub fn client_of(&self, id: PublisherId) -> ClientId {
        self.members[self.publishers[id.0].1].client
    }

    /// What the engine told about a viewer's endpoint.
    pub fn told(&self, id: ViewerId) -> &[EngineEvent] {
        &self.members[self.viewers[id.0].1].told
    }

    /// What the engine told about a publisher's endpoint.
    pub fn told_of(&self, id: PublisherId) -> &[EngineEvent] {
        &self.members[self.publishers[id.0].1].told
    }

    /// The readings of a bottleneck towards viewers.
    pub fn samples(&self, access: Access) -> &[Sample] {
        let watched = self.watched.iter().find(|it| it.path == access.down);
        watched.map_or(&[], |watched| &watched.samples)
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.elapsed() + duration);
    }

    /// Lets time pass until so much has since the beginning.
    pub fn run_until(&mut self, elapsed: Duration) {
        let end = self.began_at + elapsed;
        while self.simulation.now() < end {
            let due = self.members.iter().filter_map(|it| self.due_at(it)).min();
            let due = due.map_or(end, |at| at.min(end)).min(self.sample_at);
            self.simulation.step(due);
            for index in 0..self.members.len() {
                self.serve(index);
            }
            if self.simulation.now() >= self.sample_at {
                self.sample();
            }
        }
    }

    fn due_at(&self, member: &Member) -> Option<Instant> {
        match member.model {
            Model::Publisher(index) => self.publishers[index].0.poll_timeout(),
            Model::Viewer(index) => self.viewers[index].0.poll_timeout(),
        }
    }

    fn serve(&mut self, index: usize) {
        let now = self.simulation.now();
        let member = &mut self.members[index];
        let client = member.client;
        let is_connected = self.simulation.peer(client).is_connected();
        if !member.is_started && is_connected {
            member.is_started = true;
            match member.model {
                Model::Publisher(index) => {
                    let peer = self.simulation.peer(client);
                    self.publishers[index].0.start(now, peer);
                }
                Model::Viewer(index) => self.viewers[index].0.start(now),
            }
        }
        while let Some(received) = self.simulation.peer_mut(client).poll_received() {
            match member.model {
                Model::Publisher(index) => {
                    self.publishers[index].0.handle_received(now, &received);
                }
                Model::Viewer(index) => {
                    let peer = self.simulation.peer(client);
                    self.viewers[index].0.handle_received(now, &received, peer);
                }
            }
        }
        let peer = self.simulation.peer_mut(client);
        match member.model {
            Model::Publisher(index) => {
                let publisher = &mut self.publishers[index].0;
                if publisher.poll_timeout().is_some_and(|at| at <= now) {
                    publisher.handle_timeout(now, peer);
                }
            }
            Model::Viewer(index) => {
                let viewer = &mut self.viewers[index].0;
                if viewer.poll_timeout().is_some_and(|at| at <= now) {
                    viewer.handle_timeout(now, peer);
                }
            }
        }
    }

    fn sample(&mut self) {
        let now = self.simulation.now();
        self.sample_at = now + SAMPLE_INTERVAL;
        let at = now - self.began_at;
        for watched in &mut self.watched {
            watched.samples.push(Sample {
                at,
                queue: self.simulation.queue_delay(watched.path),
                counters: self.simulation.path_counters(watched.path),
            });
        }
        for member in &mut self.members {
            let told = self.simulation.take_told(member.client);
            member
                .told
                .extend(told.into_iter().map(|event| EngineEvent { at: now, event }));
        }
    }
}
