//! Commands that panic anywhere in their middle.

use media::Error;

use super::*;
use crate::engine::graph::ElementKey;

/// A room with everything that commands are about, and another that they are not about.
struct Rooms {
    bed: Bed,
    publisher: Peer,
    viewer: Peer,
    bystander: Peer,
    /// Watches nobody yet.
    guest: Peer,
    /// Has not negotiated yet.
    newcomer: ElementId,
    /// Of another room.
    neighbours: [Peer; 2],
    packets: u16,
}

#[derive(Clone, Copy)]
enum Sender {
    Publisher,
    Neighbour,
}

/// Whom a command is about, and the command.
type Command = (
    fn(&Rooms) -> Subject,
    fn(&mut Engine, Instant, &Names) -> Result<(), Error>,
);

/// What commands name.
struct Names {
    pipeline: PipelineId,
    publisher: ElementId,
    viewer: ElementId,
    guest: ElementId,
    newcomer: ElementId,
}

impl Rooms {
    fn new() -> Self {
        let mut bed = Bed::new();
        let ours = bed.pipeline.clone();
        bed.pipeline = bed.engine.create_pipeline(bed.now, EventSender::discard());
        let neighbours = [
            bed.join("sendonly", VP8_ONLY),
            bed.join("recvonly", VP8_ONLY),
        ];
        bed.connect(&neighbours[0], &neighbours[1]);
        bed.pipeline = ours;
        let publisher = bed.join("sendonly", VP8_ONLY);
        let [viewer, bystander, guest] = [(); 3].map(|()| bed.join("recvonly", VP8_ONLY));
        bed.connect(&publisher, &viewer);
        bed.connect(&publisher, &bystander);
        let newcomer = create(&mut bed.engine, bed.now, &bed.pipeline).unwrap();
        Self {
            bed,
            publisher,
            viewer,
            bystander,
            guest,
            newcomer,
            neighbours,
            packets: 0,
        }
    }

    fn names(&self) -> Names {
        Names {
            pipeline: self.bed.pipeline.clone(),
            publisher: self.publisher.id.clone(),
            viewer: self.viewer.id.clone(),
            guest: self.guest.id.clone(),
            newcomer: self.newcomer.clone(),
        }
    }

    /// Makes a command panic after some steps. False if it ends before.
    fn interrupt(&mut self, (subject, command): Command, steps: usize) -> bool {
        let (names, subject, now) = (self.names(), subject(self), self.bed.now);
        let engine = &mut self.bed.engine;
        engine.steps_left.set(Some(steps));
        let result = engine.contain(&subject, |engine| command(engine, now, &names));
        engine.steps_left.set(None);
        let panicked = engine.counters().panics == 1;
        assert_eq!(result.is_err(), panicked);
        if let (true, Subject::Element(id)) = (panicked, &subject) {
            assert!(engine.graph.key(id).is_err(), "the subject is gone");
        }
        panicked
    }

    /// Who gets a packet: the viewer, the bystander, the guest, and the neighbour.
    fn reached(&mut self, sender: Sender) -> [bool; 4] {
        self.packets += 1;
        let from = match sender {
            Sender::Publisher => &self.publisher,
            Sender::Neighbour => &self.neighbours[0],
        };
        let (now, engine) = (self.bed.now, &mut self.bed.engine);
        while engine.poll_transmits(now).is_some() {}
        self.bed.send(from, 5, self.packets, VP8, &KEY_FRAME);
        let mut flows = Vec::new();
        while let Some(outbox) = self.bed.engine.poll_transmits(now) {
            let media = outbox
                .datagrams()
                .filter(|(_, bytes)| PacketKind::of(bytes) == PacketKind::Rtp && !is_rtcp(bytes));
            flows.extend(media.map(|(flow, _)| flow));
        }
        let watchers = [
            &self.viewer,
            &self.bystander,
            &self.guest,
            &self.neighbours[1],
        ];
        let mut known = flows.iter().map(|flow| {
            let mut watchers = watchers.iter();
            watchers.any(|watcher| watcher.flow == *flow)
        });
        assert!(known.all(|known| known));
        watchers.map(|watcher| flows.contains(&watcher.flow))
    }

    fn exists(&self, peer: &Peer) -> bool {
        self.bed.engine.graph.key(&peer.id).is_ok()
    }
}

fn create(engine: &mut Engine, now: Instant, pipeline: &PipelineId) -> Result<ElementId, Error> {
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: true,
        peer: None,
    };
    engine.create_element(now, pipeline, kind, EventSender::discard())
}

/// Everything that media follows leads to something that exists, is of the same room, and leads back.
fn check_references(engine: &Engine) {
    let media = &engine.media;
    let room = |key: ElementKey| &engine.graph.element(key).pipeline;
    let owned = engine.endpoints.values();
    assert_eq!(
        media.transports.len(),
        owned
            .map(|endpoint| endpoint.transports.len())
            .sum::<usize>()
    );
    for (key, source) in &media.sources {
        let owner = media.transports[source.transport.0].owner;
        assert_eq!(
            engine.endpoints[&owner]
                .tracks(source.kind)
                .source
                .unwrap()
                .0,
            key
        );
        for subscriber in &source.subscribers {
            let subscriber = &media.subscribers[subscriber.0];
            assert_eq!(subscriber.source.unwrap().0, key);
            let sink = media.transports[subscriber.transport.0].owner;
            assert_eq!(room(sink), room(owner));
        }
    }
    for (key, subscriber) in &media.subscribers {
        let owner = media.transports[subscriber.transport.0].owner;
        let tracks = engine.endpoints[&owner].tracks(subscriber.kind);
        assert_eq!(tracks.subscriber.unwrap().0, key);
        let source = subscriber.source.map(|source| &media.sources[source.0]);
        assert!(source.is_none_or(|source| {
            let mut subscribers = source.subscribers.iter();
            subscribers.any(|subscriber| subscriber.0 == key)
        }));
    }
    let mut keys = engine.ufrags.values().chain(engine.flows.values());
    assert!(keys.all(|key| media.transports.contains(key.0)));
}

const COMMANDS: [Command; 10] = [
    (
        |_| Subject::None,
        |engine, now, names| create(engine, now, &names.pipeline).map(|_| ()),
    ),
    (
        |rooms| Subject::Element(rooms.newcomer.clone()),
        |engine, now, names| negotiate(engine, now, &names.newcomer, "sendrecv"),
    ),
    (
        |rooms| Subject::Element(rooms.viewer.id.clone()),
        |engine, now, names| negotiate(engine, now, &names.viewer, "inactive"),
    ),
    (
        |rooms| Subject::Element(rooms.publisher.id.clone()),
        |engine, now, names| negotiate(engine, now, &names.publisher, "recvonly"),
    ),
    (
        |rooms| Subject::Element(rooms.publisher.id.clone()),
        |engine, now, names| {
            // Another bundle on the same line: the transport is replaced.
            let offer = offer("sendonly", VP8_ONLY)
                .replace("mid:0", "mid:1")
                .replace("BUNDLE 0", "BUNDLE 1")
                .replace("ufrag:peer", "ufrag:another");
            let answer = engine.process_offer(now, &names.publisher, &offer);
            answer.map(|_| ())
        },
    ),
    (
        |rooms| Subject::Element(rooms.guest.id.clone()),
        |engine, now, names| engine.connect(now, &names.publisher, &names.guest, None),
    ),
    (
        |rooms| Subject::Element(rooms.viewer.id.clone()),
        |engine, now, names| engine.disconnect(now, &names.publisher, &names.viewer, None),
    ),
    (
        |rooms| Subject::Element(rooms.viewer.id.clone()),
        |engine, now, names| {
            engine.release_element(now, &names.viewer);
            Ok(())
        },
    ),
    (
        |rooms| Subject::Element(rooms.publisher.id.clone()),
        |engine, now, names| {
            engine.release_element(now, &names.publisher);
            Ok(())
        },
    ),
    (
        |rooms| Subject::Pipeline(rooms.bed.pipeline.clone()),
        |engine, now, names| {
            engine.release_pipeline(now, &names.pipeline);
            Ok(())
        },
    ),
];

fn negotiate(
    engine: &mut Engine,
    now: Instant,
    id: &ElementId,
    direction: &str,
) -> Result<(), Error> {
    let answer = engine.process_offer(now, id, &offer(direction, VP8_ONLY));
    answer.map(|_| ())
}

#[test]
fn panic_in_a_command_costs_its_subject_and_nobody_else() {
    for (index, command) in COMMANDS.into_iter().enumerate() {
        let mut steps = 0;
        loop {
            let mut rooms = Rooms::new();
            assert_eq!(rooms.reached(Sender::Publisher), [true, true, false, false]);
            if !rooms.interrupt(command, steps) {
                break;
            }
            check_references(&rooms.bed.engine);
            // What is made next takes the places that became free, and must not be mistaken for what had them.
            let is_over = matches!((command.0)(&rooms), Subject::Pipeline(_));
            if is_over {
                let engine = &mut rooms.bed.engine;
                rooms.bed.pipeline = engine.create_pipeline(rooms.bed.now, EventSender::discard());
            }
            let next = rooms.bed.join("recvonly", VP8_ONLY);
            let lives = |peer: &Peer| !is_over && rooms.exists(peer);
            let (publishes, watches) = (lives(&rooms.publisher), lives(&rooms.bystander));
            assert!(is_over || watches, "the bystander is released");
            if publishes {
                let reached = rooms.reached(Sender::Publisher);
                assert!(reached[1], "command {index} after {steps} steps");
                assert!(!reached[3]);
            }
            assert_eq!(
                rooms.reached(Sender::Neighbour),
                [false, false, false, true]
            );
            assert_eq!(
                rooms.bed.engine.media.transports[next.transport.0]
                    .subscribers
                    .len(),
                1
            );
            check_references(&rooms.bed.engine);
            steps += 1;
        }
        assert!(steps > 0, "command {index} has no steps");
    }
}

#[test]
fn nothing_is_left_of_rooms_that_are_released_after_a_panic() {
    for command in COMMANDS {
        for steps in 0.. {
            let mut rooms = Rooms::new();
            if !rooms.interrupt(command, steps) {
                break;
            }
            let elements: Vec<_> = rooms.bed.engine.graph.keys().collect();
            let now = rooms.bed.now;
            let engine = &mut rooms.bed.engine;
            for key in elements {
                if engine.graph.contains(key) {
                    let pipeline = engine.graph.element(key).pipeline.clone();
                    engine.release_pipeline(now, &pipeline);
                }
            }
            let media = &engine.media;
            assert_eq!(engine.graph.element_count(), 0);
            assert!(engine.endpoints.is_empty() && media.transports.is_empty());
            assert!(media.sources.is_empty() && media.subscribers.is_empty());
            assert!(engine.ufrags.is_empty());
            assert_eq!(engine.poll_timeout(), None);
        }
    }
}
