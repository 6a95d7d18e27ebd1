//! The client against the server's session layer, on a network that breaks, in simulated time.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jsonrpc::{Frame, Outgoing, Sessions, SocketId, Work};
use proptest::prelude::*;
use room_client::{
    Client, CloseReason, Config, Error, Event, Notice, Output, Request, RequestId, Response,
};
use serde_json::{Map, Value};

/// The server remembers an answer for so long, should the client not have got it.
const RETRANSMISSION_WINDOW: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(10);

struct World {
    now: Instant,
    client: Client,
    sessions: Sessions,
    /// The socket as the client sees it, which may be dead to the server.
    socket: Option<SocketId>,
    sockets: u64,
    lost_at: Instant,
    /// Time without a socket, in all.
    outage: Duration,
    reachable: bool,
    to_server: VecDeque<String>,
    to_client: VecDeque<String>,
    work: VecDeque<Work>,
    executions: BTreeMap<i64, u32>,
    answers: BTreeMap<RequestId, Result<Response, Error>>,
    notices: Vec<Notice>,
    asked: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            client: Client::new(now, Config::default(), seed),
            sessions: Sessions::new(jsonrpc::Config::default()),
            socket: None,
            sockets: 0,
            lost_at: now,
            outage: Duration::ZERO,
            reachable: true,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            work: VecDeque::new(),
            executions: BTreeMap::new(),
            answers: BTreeMap::new(),
            notices: Vec::new(),
            asked: 0,
        };
        world.settle();
        world
    }

    /// Asks the application for a number of its own.
    fn ask(&mut self) -> RequestId {
        let mut params = Map::new();
        params.insert("n".to_owned(), self.asked.into());
        self.asked += 1;
        let request = Request::CustomRequest(params);
        let id = self.client.request(self.now, &request);
        self.take_out();
        id
    }

    /// The network loses everything that is under way.
    fn break_socket(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        if let Some(socket) = self.socket.take() {
            self.lost_at = self.now;
            self.sessions.handle_closed(self.now, socket);
            self.client.handle_closed(self.now);
        }
        self.take_out();
    }

    /// One frame to the server.
    fn deliver_to_server(&mut self) {
        if let (Some(text), Some(socket)) = (self.to_server.pop_front(), self.socket) {
            self.sessions
                .handle_frame(self.now, socket, Frame::parse(text));
        }
        self.take_out();
    }

    /// One frame to the client.
    fn deliver_to_client(&mut self) {
        if let Some(text) = self.to_client.pop_front() {
            self.client.handle_text(&text);
        }
        self.take_out();
    }

    /// The server carries out one request.
    fn execute(&mut self) {
        if let Some(work) = self.work.pop_front() {
            let key = work.key;
            let number = work.into_request().params.int("n").unwrap();
            *self.executions.entry(number.into()).or_default() += 1;
            self.sessions.answer(self.now, key, &Ok(number.into()));
            self.sessions.finish(key);
        }
        self.take_out();
    }

    fn settle(&mut self) {
        self.take_out();
        while !(self.to_server.is_empty() && self.to_client.is_empty() && self.work.is_empty()) {
            self.deliver_to_server();
            self.execute();
            self.deliver_to_client();
        }
    }

    /// Time passes on a network that works, or is known to be broken.
    fn wait(&mut self, duration: Duration) {
        self.settle();
        let end = self.now + duration;
        loop {
            let timers = [self.client.poll_timeout(), self.sessions.poll_timeout()];
            let Some(due) = timers.into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.sessions.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn take_out(&mut self) {
        while let Some(event) = self.sessions.poll_event() {
            match event {
                jsonrpc::Event::Work(work) => self.work.push_back(work),
                jsonrpc::Event::Ended { key, .. } => self.work.retain(|work| work.key != key),
                _ => {}
            }
        }
        while let Some(output) = self.socket.and_then(|s| self.sessions.poll_transmit(s)) {
            match output {
                Outgoing::Text(text) => self.to_client.push_back(text.to_string()),
                Outgoing::Close(_) => {
                    // What was sent before the close frame arrives before it.
                    while let Some(text) = self.to_client.pop_front() {
                        self.client.handle_text(&text);
                    }
                    self.break_socket();
                }
            }
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Notice(notice) => self.notices.push(notice),
                Event::Answer { id, outcome } => {
                    let twice = self.answers.insert(id, outcome);
                    assert!(twice.is_none(), "{id:?} is answered twice");
                }
            }
        }
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(frame) => self.to_server.push_back(frame),
                Output::CloseSocket => {
                    self.to_server.clear();
                    self.to_client.clear();
                    if let Some(socket) = self.socket.take() {
                        self.lost_at = self.now;
                        self.sessions.handle_closed(self.now, socket);
                    }
                }
                Output::OpenSocket if self.reachable => {
                    let socket = SocketId(self.sockets);
                    self.sockets += 1;
                    self.sessions.handle_opened(socket).unwrap();
                    self.socket = Some(socket);
                    self.outage += self.now - self.lost_at;
                    self.client.handle_opened(self.now);
                    return self.take_out();
                }
                Output::OpenSocket => {
                    self.client.handle_closed(self.now);
                    return self.take_out();
                }
            }
        }
    }

    fn answered(&self, id: RequestId) -> Option<i64> {
        match self.answers.get(&id)? {
            Ok(Response::Custom(Value::Number(number))) => number.as_i64(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn short_outage_resumes_the_session() {
    let mut world = World::new(1);
    let first = world.ask();
    world.settle();
    let session = world.client.session_id().map(str::to_owned);
    assert!(session.is_some());
    world.break_socket();
    let second = world.ask();
    world.wait(Duration::from_secs(1));
    assert_eq!(world.answered(first), Some(0));
    assert_eq!(world.answered(second), Some(1));
    assert_eq!(world.notices, [Notice::Reconnecting, Notice::Resumed]);
    assert_eq!(world.client.session_id(), session.as_deref());
    assert_eq!(world.sessions.sessions(), 1);
}

#[test]
fn long_outage_loses_the_session() {
    let mut world = World::new(1);
    world.ask();
    world.settle();
    let session = world.client.session_id().map(str::to_owned);
    world.reachable = false;
    world.break_socket();
    world.wait(GRACE);
    world.reachable = true;
    world.wait(Duration::from_secs(5));
    assert_eq!(world.notices, [Notice::Reconnecting, Notice::SessionLost]);
    let again = world.ask();
    world.settle();
    assert_eq!(world.answered(again), Some(1));
    assert_ne!(world.client.session_id(), session.as_deref());
}

#[test]
fn answer_lost_on_the_way_comes_after_resumption_without_a_second_execution() {
    let mut world = World::new(1);
    world.ask();
    world.settle();
    let id = world.ask();
    world.deliver_to_server();
    world.execute();
    world.break_socket();
    world.wait(Duration::from_secs(1));
    assert_eq!(world.answered(id), Some(1));
    assert_eq!(world.executions[&1], 1);
}

#[test]
fn answer_made_during_a_long_outage_is_not_asked_for_again() {
    let mut world = World::new(1);
    world.ask();
    world.settle();
    let id = world.ask();
    world.deliver_to_server();
    world.reachable = false;
    world.break_socket();
    world.execute();
    world.wait(RETRANSMISSION_WINDOW + Duration::from_millis(500));
    world.reachable = true;
    world.wait(Duration::from_secs(4));
    assert_eq!(world.notices, [Notice::Reconnecting, Notice::Resumed]);
    assert_eq!(world.answered(id), Some(1));
    assert_eq!(world.executions[&1], 1);
}

#[test]
fn silent_client_is_not_cut_off_thanks_to_its_heartbeat() {
    let mut world = World::new(1);
    world.ask();
    world.wait(Duration::from_secs(3600));
    assert_eq!(world.notices, []);
    assert_eq!(world.sessions.sessions(), 1);
}

#[test]
fn closing_ends_the_session_at_once() {
    let mut world = World::new(1);
    world.ask();
    world.settle();
    world.client.close(world.now);
    world.settle();
    assert_eq!(world.notices, [Notice::Closed(CloseReason::Requested)]);
    assert_eq!(world.sessions.sessions(), 0);
    assert_eq!(world.sessions.sockets(), 0);
}

#[test]
fn server_that_accepts_only_to_close_is_not_flooded() {
    let start = Instant::now();
    let mut now = start;
    let mut client = Client::new(now, Config::default(), 1);
    let mut openings = 0;
    while now < start + Duration::from_secs(100) {
        while let Some(output) = client.poll_output() {
            if output == Output::OpenSocket {
                openings += 1;
                client.handle_opened(now);
                client.handle_closed(now);
            }
        }
        now = client.poll_timeout().unwrap();
        client.handle_timeout(now);
    }
    // After the first few, every 2.5 to 5 seconds.
    assert!((20..50).contains(&openings), "{openings}");
}

#[test]
fn requests_have_limits() {
    let mut world = World::new(1);
    let mut params = Map::new();
    params.insert("text".to_owned(), "x".repeat(1_000_000).into());
    let request = Request::CustomRequest(params);
    let id = world.client.request(world.now, &request);
    world.settle();
    assert!(matches!(world.answers[&id], Err(Error::TooLarge { .. })));
    let refused = (0..10_000).filter(|_| {
        let id = world.ask();
        matches!(world.answers.get(&id), Some(Err(Error::TooManyRequests(_))))
    });
    assert!(refused.count() > 5_000);
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    ToServer,
    Execute,
    ToClient,
    Break,
    Unreachable(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Ask),
        4 => Just(Step::ToServer),
        4 => Just(Step::Execute),
        4 => Just(Step::ToClient),
        2 => Just(Step::Break),
        1 => any::<bool>().prop_map(Step::Unreachable),
        2 => (0..4_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn requests_are_done_once_on_any_network(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new(seed);
        let mut asked = Vec::new();
        for step in steps {
            match step {
                Step::Ask => asked.push(world.ask()),
                Step::ToServer => world.deliver_to_server(),
                Step::Execute => world.execute(),
                Step::ToClient => world.deliver_to_client(),
                Step::Break => world.break_socket(),
                Step::Unreachable(unreachable) => world.reachable = !unreachable,
                Step::Wait(ms) => world.wait(Duration::from_millis(ms)),
            }
        }
        world.reachable = true;
        world.wait(Duration::from_secs(60));

        prop_assert_eq!(world.client.closed(), None);
        for (number, id) in (0_i64..).zip(asked) {
            let executions = world.executions.get(&number).copied().unwrap_or_default();
            match world.answers.get(&id) {
                Some(Ok(response)) => {
                    prop_assert_eq!(response, &Response::Custom(number.into()));
                    prop_assert!(executions >= 1);
                }
                Some(Err(Error::SessionLost | Error::Timeout { .. })) => {}
                other => prop_assert!(false, "{:?}", other),
            }
            if world.outage < RETRANSMISSION_WINDOW {
                prop_assert!(executions <= 1, "{} executions of {}", executions, number);
            }
        }
    }

    #[test]
    fn any_frame_is_taken_without_panic(frames in prop::collection::vec(frame(), 0..40)) {
        let mut world = World::new(0);
        for frame in frames {
            world.ask();
            world.client.handle_text(&frame);
            while world.client.poll_event().is_some() {}
        }
    }
}

/// Frames from noise to nearly right.
fn frame() -> impl Strategy<Value = String> {
    let methods = "participantJoined|participantPublished|iceCandidate|sendMessage|x";
    prop_oneof![
        any::<String>(),
        "[-0-9.\"a-z:,\\[\\]{}]{0,40}",
        (0..50_i64, "[-0-9.\"a-z:,\\[\\]{}]{0,12}")
            .prop_map(|(id, result)| format!(r#"{{"id":{id},"result":{result}}}"#)),
        (0..50_i64, "[-0-9.\"a-z:,\\[\\]{}]{0,12}")
            .prop_map(|(id, error)| format!(r#"{{"id":{id},"error":{{"code":{error}}}}}"#)),
        (
            methods,
            r#"(\{("(id|name|streams|sdpMLineIndex)":([0-9]{1,3}|"x"|\[\]|null),?){0,3}\}|\[\]|5)"#
        )
            .prop_map(|(method, params)| format!(r#"{{"method":"{method}","params":{params}}}"#)),
    ]
}
