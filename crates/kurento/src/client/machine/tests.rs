//! The client's protocol against a scripted server, in simulated time.

use media::IceCandidate;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;

use super::*;

/// The machine, and what the other side has seen of it.
struct Desk {
    machine: Machine,
    now: Instant,
    /// Sent and not answered: id, method, params.
    sent: VecDeque<(u64, String, Value)>,
    answers: Vec<(RequestId, Result<Value, Error>)>,
    happened: Arc<Mutex<Vec<Event>>>,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            machine: Machine::new(now, "tests"),
            now,
            sent: VecDeque::new(),
            answers: Vec::new(),
            happened: Arc::default(),
        }
    }

    /// Up, in the session `s`.
    fn up() -> Self {
        let mut desk = Self::new();
        assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
        desk.machine.handle_connected(desk.now);
        desk.greet("s");
        assert!(desk.machine.is_up());
        desk
    }

    fn greet(&mut self, session: &str) {
        self.expect("ping", json!({ "value": "pong" }));
        let info = json!({ "version": "6.18.0", "type": "KMS" });
        self.expect("invoke", json!({ "sessionId": session, "value": info }));
    }

    fn flush(&mut self) {
        while let Some(text) = self.machine.poll_transmit() {
            let mut message: Value = serde_json::from_str(&text).unwrap();
            let (id, params) = (message["id"].as_u64().unwrap(), message["params"].take());
            let method = message["method"].as_str().unwrap().to_owned();
            self.sent.push_back((id, method, params));
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Answered(id, result) => self.answers.push((id, result)),
                Output::Event(sender, event) => sender.send(event),
            }
        }
    }

    /// The next request, which must be of that method.
    fn next(&mut self, method: &str) -> (u64, Value) {
        self.flush();
        let (id, sent, params) = self.sent.pop_front().expect("something was sent");
        assert_eq!(sent, method);
        (id, params)
    }

    /// Answers the next request, which must be of that method. Returns its params.
    fn expect(&mut self, method: &str, result: Value) -> Value {
        let (id, params) = self.next(method);
        self.answer(id, result);
        params
    }

    fn answer(&mut self, id: u64, result: Value) {
        let text = json!({ "id": id, "jsonrpc": "2.0", "result": result }).to_string();
        self.machine.handle_frame(self.now, &text);
        self.flush();
    }

    fn refuse(&mut self, method: &str, code: i32) -> Value {
        let (id, params) = self.next(method);
        let error = json!({ "code": code, "message": "no", "data": { "type": "X" } });
        let text = json!({ "id": id, "jsonrpc": "2.0", "error": error }).to_string();
        self.machine.handle_frame(self.now, &text);
        self.flush();
        params
    }

    fn event(&mut self, object: &str, kind: &str, mut data: Value) {
        data["source"] = object.into();
        let value = json!({ "object": object, "type": kind, "data": data });
        let text = json!({ "jsonrpc": "2.0", "method": "onEvent", "params": { "value": value } });
        self.machine.handle_frame(self.now, &text.to_string());
        self.flush();
    }

    fn listen(&self) -> EventSender {
        let happened = self.happened.clone();
        EventSender::new(move |event| happened.lock().push(event))
    }

    fn create(&mut self) -> RequestId {
        let purpose = Purpose::Create(self.listen());
        let request = self
            .machine
            .request(self.now, "create", Map::new(), purpose);
        request.unwrap()
    }

    fn created(&mut self, object: &str) -> RequestId {
        let id = self.create();
        self.expect("create", json!({ "sessionId": "s", "value": object }));
        id
    }

    fn call(&mut self) -> Result<RequestId, Error> {
        self.machine
            .request(self.now, "invoke", Map::new(), Purpose::Call)
    }

    fn sleep(&mut self, duration: Duration) {
        self.now += duration;
        self.machine.handle_timeout(self.now);
        self.flush();
    }

    /// The connection breaks and is made again.
    fn reconnect(&mut self) {
        self.machine.handle_disconnected(self.now, "cut");
        self.sent.clear();
        self.now += PAUSE_AFTER_LOSS;
        assert_eq!(self.machine.poll_wish(self.now), Wish::Dial);
        self.machine.handle_connected(self.now);
    }
}

#[test]
fn requests_wait_for_the_greeting_and_name_its_session() {
    let mut desk = Desk::new();
    desk.call().unwrap();
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Nothing);
    desk.machine.handle_connected(desk.now);
    desk.greet("s");
    assert_eq!(desk.machine.version(), Some("6.18.0"));
    let params = desk.expect("invoke", json!({ "sessionId": "s", "value": 7 }));
    assert_eq!(params["sessionId"], "s");
    assert_eq!(desk.answers[0].1, Ok(json!(7)));
}

#[test]
fn a_kept_session_goes_on_with_what_was_under_way() {
    let mut desk = Desk::up();
    desk.created("p");
    desk.call().unwrap();
    let (id, _) = desk.next("invoke");
    desk.reconnect();
    desk.expect("ping", json!({ "value": "pong" }));
    let params = desk.expect("connect", json!({ "sessionId": "s", "serverId": "x" }));
    assert_eq!(params["sessionId"], "s");
    desk.expect(
        "invoke",
        json!({ "sessionId": "s", "value": { "version": "7.3.0" } }),
    );
    let (again, _) = desk.next("invoke");
    assert_eq!(again, id, "the server knows the request by its id");
    desk.answer(id, json!({ "sessionId": "s", "value": null }));
    assert_eq!(desk.answers.last().unwrap().1, Ok(Value::Null));
    desk.event(
        "p",
        "Error",
        json!({ "type": "X", "description": "", "errorCode": 3 }),
    );
    assert_eq!(desk.happened.lock().len(), 1);
}

#[test]
fn a_lost_session_fails_what_was_under_way_and_is_told_to_pipelines() {
    let mut desk = Desk::up();
    desk.created("p");
    desk.created("p/e");
    desk.call().unwrap();
    desk.next("invoke");
    desk.reconnect();
    desk.expect("ping", json!({ "value": "pong" }));
    desk.refuse("connect", 40007);
    let params = desk.expect("invoke", json!({ "sessionId": "t", "value": {} }));
    assert_eq!(
        params.get("sessionId"),
        None,
        "the old session is not named again"
    );
    assert!(matches!(
        desk.answers.last().unwrap().1,
        Err(Error::Unavailable(_))
    ));
    let happened = std::mem::take(&mut *desk.happened.lock());
    // Elements go with their pipelines.
    let [Event::Error { description, .. }] = &happened[..] else {
        panic!("{happened:?}");
    };
    assert!(description.ends_with("join again"), "{description}");
    // A pipeline is not only a room's.
    assert!(!description.contains("room"), "{description}");
    desk.call().unwrap();
    assert_eq!(desk.next("invoke").1["sessionId"], "t");
    assert!(desk.sent.is_empty());
}

#[test]
fn a_server_that_stays_away_has_lost_everything() {
    let mut desk = Desk::up();
    desk.created("p");
    desk.machine.handle_disconnected(desk.now, "cut");
    desk.sleep(SESSION_LIFE_MAX - Duration::from_secs(1));
    assert_eq!(*desk.happened.lock(), []);
    desk.sleep(Duration::from_secs(1));
    let happened = desk.happened.lock().clone();
    assert!(
        matches!(happened[..], [Event::Error { code: 40007, .. }]),
        "{happened:?}"
    );
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
    desk.machine.handle_connected(desk.now);
    // A session of its own, without `connect`.
    desk.greet("t");
    assert!(desk.machine.is_up());
    assert_eq!(desk.happened.lock().len(), 1);
}

#[test]
fn events_are_heard_from_the_answer_on_that_made_the_object() {
    let mut desk = Desk::up();
    let candidate = |line: &str| json!({ "candidate": { "candidate": line, "sdpMid": "0", "sdpMLineIndex": 1 } });
    desk.event("p/e", "IceCandidateFound", candidate("early"));
    desk.created("p/e");
    desk.event("p/e", "IceCandidateFound", candidate("new"));
    desk.event("p/e", "OnIceCandidate", candidate("old"));
    desk.event(
        "p/e",
        "MediaFlowOutStateChanged",
        json!({ "mediaType": "VIDEO", "state": "FLOWING" }),
    );
    desk.event("p/e", "Unheard", json!({}));
    desk.event("p/e", "IceCandidateFound", json!({ "candidate": 5 }));
    for _ in 0..2 {
        desk.event("p/e", "DataChannelOpened", json!({ "channelId": 1 }));
    }
    for _ in 0..2 {
        desk.event("p/e", "OnDataChannelClosed", json!({ "channelId": 1 }));
    }
    let found = |line: &str| {
        Event::IceCandidateFound(IceCandidate {
            candidate: line.to_owned(),
            sdp_mid: "0".to_owned(),
            sdp_m_line_index: 1,
        })
    };
    let expected = [
        found("new"),
        found("old"),
        Event::MediaFlowInChanged {
            kind: media::MediaKind::Video,
            flowing: true,
        },
        Event::DataChannelOpened(1),
        Event::DataChannelClosed(1),
    ];
    assert_eq!(*desk.happened.lock(), expected);
}

#[test]
fn released_objects_are_not_heard_any_more() {
    let mut desk = Desk::up();
    for object in ["p", "p/e", "q", "q/e"] {
        desk.created(object);
    }
    desk.machine.release(desk.now, "p");
    desk.machine.release(desk.now, "q/e");
    for object in ["p", "p/e", "q", "q/e"] {
        desk.event(object, "Error", json!({}));
    }
    assert_eq!(desk.happened.lock().len(), 1);
}

#[test]
fn calls_time_out_and_a_late_creation_is_released() {
    let mut desk = Desk::up();
    let (create, call) = (desk.create(), desk.call().unwrap());
    let (id, _) = desk.next("create");
    desk.next("invoke");
    desk.sleep(CALL_DEADLINE);
    let timeouts = [(create, Err(Error::Timeout)), (call, Err(Error::Timeout))];
    assert_eq!(desk.answers, timeouts);
    desk.answer(id, json!({ "sessionId": "s", "value": "p/e" }));
    let params = desk.expect("release", json!({ "sessionId": "s" }));
    assert_eq!(params["object"], "p/e");
    assert!(desk.machine.requests.is_empty() && desk.machine.deadlines.is_empty());
}

#[test]
fn an_abandoned_creation_is_released_or_never_sent() {
    let mut desk = Desk::up();
    let id = desk.create();
    let (sent, _) = desk.next("create");
    desk.machine.abandon(id);
    desk.answer(sent, json!({ "sessionId": "s", "value": "p/e" }));
    desk.expect("release", json!({ "sessionId": "s" }));
    let mut desk = Desk::new();
    let id = desk.create();
    desk.machine.abandon(id);
    assert!(desk.machine.requests.is_empty());
}

#[test]
fn a_silent_server_is_asked_and_then_left() {
    let mut desk = Desk::up();
    desk.sleep(PING_INTERVAL);
    desk.expect("ping", json!({ "sessionId": "s", "value": "pong" }));
    desk.sleep(PING_INTERVAL);
    desk.next("ping");
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Nothing);
    desk.sleep(PING_DEADLINE);
    let Wish::HangUp(reason) = desk.machine.poll_wish(desk.now) else {
        panic!("a dead connection is kept");
    };
    assert_eq!(reason, "it does not answer in time");
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Nothing);
    // The log has it once, from who hung up.
    assert_eq!(desk.machine.told, Told::Up);
    desk.machine.handle_disconnected(desk.now, &reason);
    assert_eq!(desk.machine.told, Told::Down);
}

#[test]
fn a_server_that_does_not_greet_is_left() {
    let mut desk = Desk::new();
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
    desk.machine.handle_connected(desk.now);
    desk.sleep(DIAL_DEADLINE);
    let wish = desk.machine.poll_wish(desk.now);
    assert!(matches!(wish, Wish::HangUp(_)), "{wish:?}");
    let mut desk = Desk::new();
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
    desk.machine.handle_connected(desk.now);
    desk.refuse("ping", -32601);
    let wish = desk.machine.poll_wish(desk.now);
    assert!(matches!(wish, Wish::HangUp(_)), "{wish:?}");
}

#[test]
fn attempts_become_rarer_and_never_stop() {
    let mut desk = Desk::new();
    let mut pauses = Vec::new();
    for _ in 0..100 {
        assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
        desk.machine.handle_disconnected(desk.now, "cut");
        let due = desk.machine.poll_timeout().unwrap();
        pauses.push(due - desk.now);
        desk.now = due;
    }
    assert_eq!(pauses[0], PAUSE_MIN);
    assert!(pauses.is_sorted());
    assert_eq!(pauses.last(), Some(&PAUSE_MAX));
}

#[test]
fn calls_fail_at_once_while_the_server_is_known_to_be_down_but_releases_wait() {
    let mut desk = Desk::up();
    desk.created("p");
    desk.machine.handle_disconnected(desk.now, "cut");
    assert!(desk.call().is_ok(), "it may be back in a moment");
    desk.now += PAUSE_AFTER_LOSS;
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
    desk.machine.handle_disconnected(desk.now, "cut");
    assert!(matches!(desk.call(), Err(Error::Unavailable(_))));
    desk.machine.release(desk.now, "p");
    desk.sleep(Duration::from_secs(400));
    assert_eq!(desk.machine.poll_wish(desk.now), Wish::Dial);
    desk.machine.handle_connected(desk.now);
    desk.expect("ping", json!({ "value": "pong" }));
    desk.expect("connect", json!({ "sessionId": "s" }));
    desk.expect("invoke", json!({ "sessionId": "s", "value": {} }));
    assert_eq!(desk.next("release").1["object"], "p");
}

#[test]
fn requests_are_bounded() {
    let mut desk = Desk::up();
    for _ in 0..REQUESTS_MAX {
        desk.call().unwrap();
    }
    assert!(matches!(desk.call(), Err(Error::Unavailable(_))));
}

#[test]
fn answers_to_nobody_are_ignored() {
    let mut desk = Desk::up();
    for text in [
        r#"{"id":99,"result":{"value":"x"}}"#,
        r#"{"id":null,"error":{"code":-32700,"message":"x"}}"#,
        r#"{"id":1,"result":{}}"#,
        "nonsense",
        "[]",
        "",
    ] {
        desk.machine.handle_frame(desk.now, text);
    }
    desk.flush();
    assert!(desk.answers.is_empty() && desk.machine.is_up());
}

proptest! {
    /// Whatever a server does, every call is answered once, at the latest at its deadline.
    #[test]
    fn every_call_ends(steps in prop::collection::vec((0..8u8, 0..40u64), 1..60)) {
        let mut desk = Desk::up();
        let mut asked = Vec::new();
        for (step, number) in steps {
            match step {
                0 | 1 => asked.extend(desk.call()),
                2 => asked.push(if desk.machine.is_up() { desk.create() } else { continue }),
                3 => desk.answer(number, json!({ "sessionId": "s", "value": "x" })),
                4 => desk.machine.handle_disconnected(desk.now, "cut"),
                5 => desk.sleep(Duration::from_millis(number * 100)),
                6 if desk.machine.poll_wish(desk.now) == Wish::Dial => {
                    desk.machine.handle_connected(desk.now);
                }
                _ => {
                    desk.flush();
                    if let Some((id, ..)) = desk.sent.pop_front() {
                        desk.answer(id, json!({ "sessionId": "s", "value": "x" }));
                    }
                }
            }
        }
        desk.sleep(CALL_DEADLINE);
        let mut answered: Vec<_> = desk.answers.iter().map(|(id, _)| *id).collect();
        answered.sort_unstable();
        prop_assert_eq!(answered, asked);
    }
}
