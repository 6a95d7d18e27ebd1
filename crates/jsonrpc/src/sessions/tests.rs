//! Sessions in simulated time.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::config::{PING_INTERVAL_MAX, RETRANSMISSION_WINDOW};
use super::*;
use crate::reply::notification;

const A: SocketId = SocketId(1);
const B: SocketId = SocketId(2);

/// A server with a clock of its own, and a log of what it did.
struct Server {
    sessions: Sessions,
    now: Instant,
    work: Vec<(SessionKey, Request)>,
    opened: Vec<(SessionKey, String)>,
    ended: Vec<(SessionKey, EndReason)>,
}

impl Server {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let mut server = Self {
            sessions: Sessions::new(Config {
                limits,
                ..Config::default()
            }),
            now: Instant::now(),
            work: vec![],
            opened: vec![],
            ended: vec![],
        };
        for socket in [A, B] {
            server.sessions.handle_opened(socket).unwrap();
        }
        server
    }

    fn drain(&mut self) {
        while let Some(event) = self.sessions.poll_event() {
            match event {
                Event::Opened { key, id } => self.opened.push((key, id.as_str().to_owned())),
                Event::Work(work) => self.work.push((work.key, work.into_request())),
                Event::Ended { key, reason, .. } => self.ended.push((key, reason)),
                Event::Transmit(_) => {}
            }
        }
    }

    fn receive(&mut self, socket: SocketId, text: &str) {
        let frame = Frame::parse(text);
        self.sessions.handle_frame(self.now, socket, frame);
        self.drain();
    }

    fn reconnect(&mut self, socket: SocketId, id: &str) -> Vec<String> {
        let text = format!(r#"{{"method":"connect","params":{{"sessionId":"{id}"}},"id":9}}"#);
        self.receive(socket, &text);
        self.sent(socket)
    }

    fn lose(&mut self, socket: SocketId) {
        self.sessions.handle_closed(self.now, socket);
        self.drain();
    }

    fn open(&mut self, socket: SocketId) {
        self.sessions.handle_opened(socket).unwrap();
    }

    /// Lets time pass, with every timeout at its exact time.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.sessions.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.sessions.handle_timeout(self.now);
        }
        self.now = end;
        self.drain();
    }

    fn respond(&mut self, key: SessionKey, reply: Reply) {
        self.sessions.answer(self.now, key, &reply);
        self.sessions.finish(key);
        self.drain();
    }

    fn leave(&mut self, key: SessionKey) {
        self.sessions.answer(self.now, key, &Ok(json!({})));
        let close = Close::new(CloseCode::Normal, "");
        self.sessions.close_session(key, close);
        self.sessions.finish(key);
        self.drain();
    }

    fn notify(&mut self, key: SessionKey, name: &str) {
        self.sessions.notify(key, &notification(name, &json!({})));
        self.drain();
    }

    /// Everything on its way to a socket.
    fn outgoing(&mut self, socket: SocketId) -> Vec<Outgoing> {
        std::iter::from_fn(|| self.sessions.poll_transmit(socket)).collect()
    }

    fn sent(&mut self, socket: SocketId) -> Vec<String> {
        let texts = self
            .outgoing(socket)
            .into_iter()
            .filter_map(|out| match out {
                Outgoing::Text(text) => Some(text.to_string()),
                Outgoing::Close(_) => None,
            });
        texts.collect()
    }

    /// A session on `socket` with an answered request.
    fn join(&mut self, socket: SocketId) -> (SessionKey, String) {
        self.receive(socket, r#"{"method":"joinRoom","id":1}"#);
        let (key, id) = self.opened.last().unwrap().clone();
        self.respond(key, Ok(json!([])));
        self.sent(socket);
        self.work.clear();
        (key, id)
    }

    fn methods(&self) -> Vec<&str> {
        self.work
            .iter()
            .map(|(_, request)| request.method.as_str())
            .collect()
    }
}

fn closed(code: CloseCode, reason: &'static str) -> Outgoing {
    Outgoing::Close(Close::new(code, reason))
}

fn method(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value["method"].as_str().unwrap().to_owned()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn ping_is_answered_without_a_session() {
    let mut server = Server::new();
    server.receive(
        A,
        r#"{"jsonrpc":"2.0","method":"ping","params":{"interval":3000},"id":1}"#,
    );
    server.receive(
        A,
        r#"{"method":"ping","params":{"sessionId":"SID"},"id":11}"#,
    );
    server.receive(A, r#"{"method":"ping","params":null,"id":12}"#);
    server.receive(A, r#"{"method":"ping"}"#);
    assert_eq!(
        server.sent(A),
        [
            r#"{"id":1,"result":{"value":"pong"},"jsonrpc":"2.0"}"#,
            r#"{"id":11,"result":{"value":"pong","sessionId":"SID"},"jsonrpc":"2.0"}"#,
            r#"{"id":12,"result":{"value":"pong"},"jsonrpc":"2.0"}"#,
        ]
    );
    assert_eq!(server.sessions.sessions(), 0);
}

#[test]
fn connect_opens_one_session_per_socket() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"connect","id":2}"#);
    server.receive(A, r#"{"method":"connect","id":3,"params":{}}"#);
    let (_, id) = server.opened[0].clone();
    assert_eq!(server.opened.len(), 1);
    assert_eq!(
        server.sent(A),
        [2, 3].map(|request| format!(
            r#"{{"id":{request},"result":{{"value":"OK","sessionId":"{id}"}},"jsonrpc":"2.0"}}"#
        ))
    );
}

#[test]
fn connect_with_unknown_session_is_refused() {
    let mut server = Server::new();
    let sent = server.reconnect(A, "dvpb740svi5eq59h1e79s02130");
    assert_eq!(
        sent,
        [r#"{"id":9,"error":{"code":40007,"message":"reconnection error"},"jsonrpc":"2.0"}"#]
    );
    assert_eq!(server.sessions.sessions(), 0);
}

#[test]
fn params_that_are_no_object_fail_at_once() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"joinRoom","params":[],"id":1}"#);
    assert_eq!(
        server.sent(A),
        [
            r#"{"id":1,"error":{"code":-1,"message":"com.google.gson.JsonSyntaxException:Expected a com.google.gson.JsonObject but was com.google.gson.JsonArray; at path $"},"jsonrpc":"2.0"}"#
        ]
    );
    assert!(server.work.is_empty());
}

#[test]
fn requests_of_a_session_run_one_at_a_time_in_order() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"a","id":1}"#);
    server.receive(A, r#"{"method":"b","id":2}"#);
    server.receive(A, r#"{"method":"c"}"#);
    server.receive(B, r#"{"method":"other","id":1}"#);
    assert_eq!(server.methods(), ["a", "other"]);
    let key = server.work[0].0;
    server.respond(key, Ok(json!({})));
    assert_eq!(server.methods(), ["a", "other", "b"]);
    server.respond(key, Err(RpcError::handled(102, "x")));
    assert_eq!(server.methods(), ["a", "other", "b", "c"]);
    server.respond(key, Ok(json!({})));
    server.respond(key, Ok(json!("a second answer is lost")));
    let id = server.opened[0].1.clone();
    assert_eq!(
        server.sent(A),
        [
            format!(r#"{{"id":1,"result":{{"sessionId":"{id}"}},"jsonrpc":"2.0"}}"#),
            format!(
                r#"{{"id":2,"error":{{"code":102,"message":"x","sessionId":"{id}"}},"jsonrpc":"2.0"}}"#
            ),
        ]
    );
}

#[test]
fn ping_overtakes_a_slow_request() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"publishVideo","id":1}"#);
    server.receive(A, r#"{"method":"ping","id":2}"#);
    assert_eq!(server.sent(A).len(), 1);
}

#[test]
fn replies_and_notifications_keep_their_order() {
    let mut server = Server::new();
    let (key, _) = server.join(A);
    server.receive(A, r#"{"method":"sendMessage","id":2}"#);
    server.notify(key, "iceCandidate");
    server.respond(key, Ok(json!({})));
    server.notify(key, "sendMessage");
    let sent = server.sent(A);
    assert_eq!(method(&sent[0]), "iceCandidate");
    assert!(sent[1].starts_with(r#"{"id":2"#));
    assert_eq!(method(&sent[2]), "sendMessage");
}

#[test]
fn silent_socket_is_closed_after_three_intervals() {
    for (ping, expected) in [
        (
            r#"{"method":"ping","params":{"interval":3000},"id":1}"#,
            seconds(9),
        ),
        (
            r#"{"method":"ping","params":{"interval":"3000"},"id":1}"#,
            seconds(9),
        ),
        (r#"{"method":"ping","id":1}"#, seconds(60)),
        (
            r#"{"method":"ping","params":{"interval":0},"id":1}"#,
            seconds(60),
        ),
        (
            r#"{"method":"ping","params":{"interval":-5},"id":1}"#,
            seconds(60),
        ),
        (
            r#"{"method":"ping","params":{"interval":{}},"id":1}"#,
            seconds(60),
        ),
        (
            r#"{"method":"ping","params":{"interval":1},"id":1}"#,
            seconds(3),
        ),
        (
            r#"{"method":"ping","params":{"interval":2000000000},"id":1}"#,
            PING_INTERVAL_MAX * 3,
        ),
    ] {
        let mut server = Server::new();
        server.join(A);
        server.receive(A, ping);
        server.sent(A);
        server.pass(expected - Duration::from_millis(1));
        assert_eq!(server.outgoing(A), [], "{ping}");
        server.pass(Duration::from_millis(1));
        let close = closed(CloseCode::Normal, "Close for not receive ping from client");
        assert_eq!(server.outgoing(A), [close], "{ping}");
        assert!(server.ended.is_empty());
        server.pass(seconds(10));
        assert_eq!(server.ended.len(), 1);
    }
}

#[test]
fn first_ping_fixes_the_interval_and_every_ping_rearms() {
    let mut server = Server::new();
    server.join(A);
    for interval in [2_000, 100_000, 1] {
        let ping =
            format!(r#"{{"method":"ping","params":{{"interval":{interval}}},"id":{interval}}}"#);
        server.receive(A, &ping);
        server.sent(A);
        server.pass(seconds(5));
        assert_eq!(server.outgoing(A), []);
    }
    server.pass(seconds(1));
    assert_eq!(server.outgoing(A).len(), 1);
}

#[test]
fn socket_without_session_is_not_watched() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"ping","params":{"interval":1000},"id":1}"#);
    server.sent(A);
    server.pass(seconds(1000));
    assert_eq!(server.outgoing(A), []);
    server.join(A);
    server.receive(A, r#"{"method":"ping","id":2}"#);
    server.sent(A);
    server.pass(seconds(3));
    assert_eq!(server.outgoing(A).len(), 1);
}

#[test]
fn client_that_never_pings_is_not_watched() {
    let mut server = Server::new();
    server.join(A);
    server.pass(seconds(100_000));
    assert_eq!(server.outgoing(A), []);
}

#[test]
fn session_ends_when_its_client_stays_away() {
    let mut server = Server::new();
    let (key, id) = server.join(A);
    server.lose(A);
    server.pass(Duration::from_millis(9_999));
    assert!(server.ended.is_empty());
    server.pass(Duration::from_millis(1));
    assert_eq!(server.ended, [(key, EndReason::GraceExpired)]);
    let sent = server.reconnect(B, &id);
    assert!(sent[0].contains("40007"));
}

#[test]
fn reconnecting_client_gets_what_it_missed_in_order() {
    let mut server = Server::new();
    let (key, id) = server.join(A);
    server.receive(A, r#"{"method":"publishVideo","id":2}"#);
    server.notify(key, "unsent");
    server.receive(A, r#"{"method":"ping","id":3}"#);
    server.lose(A);
    server.notify(key, "first");
    server.respond(key, Ok(json!({"sdpAnswer": "v=0"})));
    server.notify(key, "second");
    server.pass(seconds(9));
    let sent = server.reconnect(B, &id);
    assert_eq!(
        sent[0],
        format!(
            r#"{{"id":9,"result":{{"value":"reconnection successful","sessionId":"{id}"}},"jsonrpc":"2.0"}}"#
        )
    );
    assert_eq!(method(&sent[1]), "unsent");
    assert_eq!(method(&sent[2]), "first");
    assert!(sent[3].contains("sdpAnswer"));
    assert_eq!(method(&sent[4]), "second");
    assert_eq!(sent.len(), 5);
    server.pass(seconds(30));
    assert!(server.ended.is_empty());
    server.notify(key, "third");
    assert_eq!(method(&server.sent(B)[0]), "third");
}

#[test]
fn reconnect_before_the_old_socket_is_known_lost_closes_it() {
    let mut server = Server::new();
    let (key, id) = server.join(A);
    server.notify(key, "unsent");
    let sent = server.reconnect(B, &id);
    assert_eq!(method(&sent[1]), "unsent");
    assert!(matches!(server.outgoing(A)[..], [Outgoing::Close(_)]));
    server.lose(A);
    server.pass(seconds(100));
    assert!(server.ended.is_empty());
}

#[test]
fn connect_on_the_same_socket_changes_nothing() {
    let mut server = Server::new();
    let (key, id) = server.join(A);
    assert!(server.reconnect(A, &id)[0].contains("reconnection successful"));
    server.notify(key, "m");
    assert_eq!(server.sent(A).len(), 1);
}

#[test]
fn session_displaced_by_another_waits_for_its_client() {
    let mut server = Server::new();
    let (first, _) = server.join(A);
    let (second, id) = server.join(B);
    server.lose(B);
    server.notify(first, "of the first");
    assert_eq!(server.reconnect(A, &id).len(), 1);
    server.pass(seconds(10));
    assert_eq!(server.ended, [(first, EndReason::GraceExpired)]);
    server.notify(second, "m");
    assert_eq!(server.sent(A).len(), 1);
}

#[test]
fn watchdog_moves_with_the_session() {
    let mut server = Server::new();
    let (_, id) = server.join(A);
    server.receive(A, r#"{"method":"ping","params":{"interval":3000},"id":2}"#);
    server.lose(A);
    server.reconnect(B, &id);
    server.pass(seconds(8));
    assert_eq!(server.outgoing(B), []);
    server.receive(B, r#"{"method":"ping","params":{"interval":5000},"id":3}"#);
    server.sent(B);
    server.pass(seconds(14));
    assert_eq!(server.outgoing(B), []);
    server.pass(seconds(1));
    assert_eq!(server.outgoing(B).len(), 1);
}

#[test]
fn foreign_session_id_is_refused_outside_connect() {
    let mut server = Server::new();
    let (_, id) = server.join(A);
    let text = format!(r#"{{"method":"leaveRoom","params":{{"sessionId":"{id}"}},"id":5}}"#);
    server.receive(B, &text);
    assert!(server.sent(B)[0].contains(r#""code":40007"#));
    assert!(server.work.is_empty());
    server.receive(A, &text);
    assert_eq!(server.methods(), ["leaveRoom"]);
    server.receive(
        B,
        &format!(r#"{{"method":"closeSession","params":{{"sessionId":"{id}"}},"id":5}}"#),
    );
    assert!(server.ended.is_empty());
}

#[test]
fn expired_session_id_opens_one_new_session() {
    let mut server = Server::new();
    for id in 1..=3 {
        let text = format!(r#"{{"method":"m","params":{{"sessionId":"gone"}},"id":{id}}}"#);
        server.receive(A, &text);
    }
    assert_eq!(server.opened.len(), 1);
    assert_ne!(server.opened[0].1, "gone");
}

#[test]
fn close_session_ends_at_once_even_behind_a_slow_request() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"publishVideo","id":1}"#);
    server.receive(A, r#"{"jsonrpc":"2.0","method":"closeSession","id":3}"#);
    assert_eq!(
        server.outgoing(A),
        [
            Outgoing::Text(r#"{"id":3,"result":"bye","jsonrpc":"2.0"}"#.into()),
            closed(CloseCode::Normal, ""),
        ]
    );
    let key = server.opened[0].0;
    assert_eq!(server.ended, [(key, EndReason::Closed)]);
    server.respond(key, Ok(json!({})));
    server.receive(A, r#"{"method":"ping","id":4}"#);
    assert_eq!(server.outgoing(A), []);
}

#[test]
fn close_session_without_session_is_answered() {
    let mut server = Server::new();
    server.receive(A, r#"{"method":"closeSession","id":3}"#);
    assert_eq!(server.outgoing(A).len(), 2);
    assert!(server.opened.is_empty());
}

#[test]
fn leaving_answers_then_closes() {
    let mut server = Server::new();
    let (key, id) = server.join(A);
    server.receive(A, r#"{"method":"leaveRoom","id":4}"#);
    server.receive(A, r#"{"method":"tooLate","id":5}"#);
    server.leave(key);
    let answer = format!(r#"{{"id":4,"result":{{"sessionId":"{id}"}},"jsonrpc":"2.0"}}"#);
    assert_eq!(
        server.outgoing(A),
        [Outgoing::Text(answer.into()), closed(CloseCode::Normal, "")]
    );
    assert_eq!(server.methods(), ["leaveRoom"]);
    assert_eq!(server.ended, [(key, EndReason::Closed)]);
}

#[test]
fn retransmitted_request_runs_once() {
    let publish = r#"{"id":2,"method":"publishVideo","params":{"sdpOffer":"v=0"}}"#;
    let mut server = Server::new();
    let (key, _) = server.join(A);
    server.receive(A, publish);
    server.receive(A, publish);
    server.respond(key, Ok(json!({"sdpAnswer": "v=0"})));
    let answer = server.sent(A);
    assert_eq!(answer.len(), 1);
    server.pass(seconds(4));
    server.receive(A, publish);
    assert_eq!(server.sent(A), answer);
    assert_eq!(server.methods(), ["publishVideo"]);
    server.pass(RETRANSMISSION_WINDOW);
    server.receive(A, publish);
    assert_eq!(server.methods(), ["publishVideo", "publishVideo"]);
}

#[test]
fn request_repeated_after_a_long_outage_runs_once() {
    let message = r#"{"id":2,"method":"sendMessage","params":{"message":"hi"}}"#;
    let mut server = Server::new();
    let (key, id) = server.join(A);
    server.receive(A, message);
    server.respond(key, Ok(json!({})));
    let answer = server.sent(A);
    server.pass(RETRANSMISSION_WINDOW + seconds(2));
    server.lose(A);
    server.pass(seconds(6));
    server.reconnect(B, &id);
    server.receive(B, message);
    assert_eq!(server.sent(B), answer);
    assert_eq!(server.methods(), ["sendMessage"]);
}

#[test]
fn request_answered_but_not_finished_holds_up_the_next() {
    let mut server = Server::new();
    let (key, _) = server.join(A);
    let first = r#"{"method":"a","id":2}"#;
    server.receive(A, first);
    server.receive(A, r#"{"method":"b","id":3}"#);
    server.sessions.answer(server.now, key, &Ok(json!({})));
    server
        .sessions
        .answer(server.now, key, &Ok(json!("a second answer")));
    server.receive(A, first);
    server.drain();
    assert_eq!(server.methods(), ["a"]);
    let sent = server.sent(A);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], sent[1]);
    server.sessions.finish(key);
    server.drain();
    assert_eq!(server.methods(), ["a", "b"]);
}

#[test]
fn same_id_with_other_content_is_another_request() {
    let mut server = Server::new();
    server.join(A);
    for index in 0..3 {
        let text = format!(r#"{{"method":"onIceCandidate","params":{{"n":{index}}},"id":7}}"#);
        server.receive(A, &text);
        server.receive(A, &text);
    }
    let key = server.opened[0].0;
    for _ in 0..3 {
        server.respond(key, Ok(json!({})));
    }
    assert_eq!(server.work.len(), 3);
    assert_eq!(server.sent(A).len(), 3);
}

#[test]
fn requests_without_id_are_never_taken_for_repetitions() {
    let mut server = Server::new();
    let (key, _) = server.join(A);
    for _ in 0..2 {
        server.receive(A, r#"{"method":"sendMessage","params":{"message":"hi"}}"#);
        server.respond(key, Ok(json!({})));
    }
    assert_eq!(server.work.len(), 2);
    assert!(server.sent(A).is_empty());
}

#[test]
fn stored_answers_are_bounded() {
    let limits = Limits {
        answers: 2,
        answers_bytes: 1_000,
        ..Limits::default()
    };
    let mut server = Server::with(limits);
    let (key, _) = server.join(A);
    let request = |id: i32| format!(r#"{{"method":"m","id":{id}}}"#);
    for id in 2..5 {
        server.receive(A, &request(id));
        server.respond(key, Ok(json!({})));
    }
    server.receive(A, &request(4));
    assert_eq!(server.work.len(), 3);
    server.receive(A, &request(2));
    assert_eq!(server.work.len(), 4);
    server.respond(key, Ok(json!({"big": "x".repeat(1_001)})));
    server.receive(A, &request(2));
    assert_eq!(server.work.len(), 5);
}

#[test]
fn client_that_does_not_read_is_closed_and_hurts_nobody() {
    for limits in [
        Limits {
            outbox_frames: 10,
            ..Limits::default()
        },
        Limits {
            outbox_bytes: 600,
            ..Limits::default()
        },
    ] {
        let mut server = Server::with(limits);
        let (slow, _) = server.join(A);
        let (other, _) = server.join(B);
        let mut received = 0;
        for _ in 0..50 {
            server.notify(slow, "m");
            server.notify(other, "m");
            received += server.sent(B).len();
        }
        assert_eq!(received, 50);
        assert_eq!(server.ended, [(slow, EndReason::SlowReader)]);
        let close = closed(
            CloseCode::Policy,
            "the client does not read what it is sent",
        );
        assert_eq!(server.outgoing(A), [close]);
        server.lose(A);
        assert_eq!(server.ended.len(), 1);
    }
}

#[test]
fn pings_that_are_not_read_are_bounded_too() {
    let limits = Limits {
        outbox_frames: 10,
        ..Limits::default()
    };
    let mut server = Server::with(limits);
    for id in 0..11 {
        server.receive(A, &format!(r#"{{"method":"ping","id":{id}}}"#));
    }
    assert!(matches!(server.outgoing(A)[..], [Outgoing::Close(_)]));
}

#[test]
fn client_that_missed_too_much_has_to_join_again() {
    let limits = Limits {
        outbox_frames: 3,
        ..Limits::default()
    };
    let mut server = Server::with(limits);
    let (key, id) = server.join(A);
    server.lose(A);
    for _ in 0..3 {
        server.notify(key, "m");
    }
    assert_eq!(server.reconnect(B, &id).len(), 4);
    server.lose(B);
    for _ in 0..4 {
        server.notify(key, "m");
    }
    assert!(server.ended.is_empty());
    server.open(SocketId(3));
    let sent = server.reconnect(SocketId(3), &id);
    assert_eq!(
        sent,
        [
            r#"{"id":9,"error":{"code":40007,"message":"reconnection error: too many messages were missed, join again"},"jsonrpc":"2.0"}"#
        ]
    );
    assert_eq!(server.ended, [(key, EndReason::MissedTooMuch)]);
}

#[test]
fn queue_of_requests_is_bounded() {
    for limits in [
        Limits {
            queue_requests: 5,
            ..Limits::default()
        },
        Limits {
            queue_bytes: 120,
            ..Limits::default()
        },
    ] {
        let mut server = Server::with(limits);
        for id in 1..10 {
            server.receive(A, &format!(r#"{{"method":"m","id":{id}}}"#));
        }
        assert_eq!(server.ended[0].1, EndReason::TooManyRequests);
        let close = closed(CloseCode::Policy, "too many requests are waiting");
        assert_eq!(server.outgoing(A), [close]);
    }
}

#[test]
fn sockets_and_sessions_are_bounded() {
    let limits = Limits {
        sockets: 2,
        sessions: 1,
        ..Limits::default()
    };
    let mut server = Server::with(limits);
    let refused = server.sessions.handle_opened(SocketId(3));
    assert_eq!(refused, Err(TooManySockets(2)));
    server.join(A);
    server.receive(B, r#"{"method":"joinRoom","id":1}"#);
    assert!(server.sent(B)[0].contains(r#""code":-32000"#));
    server.receive(B, r#"{"method":"connect","id":2}"#);
    assert!(server.sent(B)[0].contains(r#""code":-32000"#));
}

#[test]
fn shutdown_sends_what_is_queued_and_closes_everything() {
    let mut server = Server::new();
    let (key, _) = server.join(A);
    server.notify(key, "roomClosed");
    server.sessions.shut_down("the server goes down");
    server.drain();
    let out = server.outgoing(A);
    assert!(matches!(out[0], Outgoing::Text(_)));
    let close = closed(CloseCode::GoingAway, "the server goes down");
    assert_eq!(out[1], close);
    assert_eq!(server.outgoing(B), [close]);
    assert_eq!(server.ended, [(key, EndReason::Shutdown)]);
    assert_eq!(server.sessions.poll_timeout(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    Lose(u64),
    Frame(u64, String),
    Connect(u64, usize),
    Respond(usize),
    Leave(usize),
    Notify(usize),
    Read(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let socket = 0..6_u64;
    let frame = prop_oneof![
        Just(r#"{"method":"m","id":1}"#.to_owned()),
        Just(r#"{"method":"ping","params":{"interval":1000},"id":2}"#.to_owned()),
        Just(r#"{"method":"connect","id":3}"#.to_owned()),
        Just(r#"{"method":"closeSession","id":4}"#.to_owned()),
        (0..9).prop_map(|id| format!(r#"{{"method":"m","id":{id}}}"#)),
    ];
    prop_oneof![
        socket.clone().prop_map(Step::Open),
        socket.clone().prop_map(Step::Lose),
        (socket.clone(), frame).prop_map(|(socket, text)| Step::Frame(socket, text)),
        (socket.clone(), any::<usize>()).prop_map(|(socket, pick)| Step::Connect(socket, pick)),
        any::<usize>().prop_map(Step::Respond),
        any::<usize>().prop_map(Step::Leave),
        any::<usize>().prop_map(Step::Notify),
        socket.prop_map(Step::Read),
        (0..20_000_u64).prop_map(Step::Pass),
    ]
}

fn run(steps: Vec<Step>) {
    let mut server = Server::with(Limits {
        outbox_frames: 4,
        queue_requests: 3,
        sockets: 4,
        sessions: 5,
        ..Limits::default()
    });
    let mut generation = 10;
    let mut sockets: HashMap<u64, SocketId> = HashMap::new();
    for step in steps {
        let pick = |index: usize, server: &Server| {
            let opened = &server.opened;
            (!opened.is_empty()).then(|| opened[index % opened.len()].clone())
        };
        match step {
            Step::Open(slot) => {
                generation += 1;
                let socket = SocketId(generation);
                if !sockets.contains_key(&slot) && server.sessions.handle_opened(socket).is_ok() {
                    sockets.insert(slot, socket);
                }
            }
            Step::Lose(slot) => {
                if let Some(socket) = sockets.remove(&slot) {
                    server.lose(socket);
                }
            }
            Step::Frame(slot, text) => {
                let socket = sockets.get(&slot).copied().unwrap_or(A);
                server.receive(socket, &text);
            }
            Step::Connect(slot, index) => {
                if let (Some(socket), Some((_, id))) = (sockets.get(&slot), pick(index, &server)) {
                    server.reconnect(*socket, &id);
                }
            }
            Step::Respond(index) => {
                if let Some((key, _)) = pick(index, &server) {
                    server.respond(key, Ok(json!({})));
                }
            }
            Step::Leave(index) => {
                if let Some((key, _)) = pick(index, &server) {
                    server.leave(key);
                    server.drain();
                }
            }
            Step::Notify(index) => {
                if let Some((key, _)) = pick(index, &server) {
                    server.notify(key, "m");
                }
            }
            Step::Read(slot) => {
                if let Some(socket) = sockets.get(&slot) {
                    server.outgoing(*socket);
                }
            }
            Step::Pass(milliseconds) => server.pass(Duration::from_millis(milliseconds)),
        }
        check(&server.sessions);
    }
    // Whatever happened, nothing stays once everybody is gone.
    for socket in sockets.into_values().chain([A, B]) {
        server.lose(socket);
    }
    server.pass(seconds(10));
    assert_eq!(server.sessions.sessions(), 0);
    assert_eq!(server.sessions.sockets(), 0);
    assert!(server.sessions.keys.is_empty());
    assert_eq!(server.sessions.poll_timeout(), None);
    assert_eq!(server.opened.len(), server.ended.len());
}

/// What holds between any two calls.
fn check(sessions: &Sessions) {
    let limits = &sessions.config.limits;
    assert!(sessions.sockets.len() <= limits.sockets);
    assert!(sessions.sessions.len() <= limits.sessions);
    assert_eq!(sessions.sessions.len(), sessions.keys.len());
    for (key, session) in &sessions.sessions {
        match &session.attachment {
            Attachment::Socket(socket) => {
                assert_eq!(sessions.sockets[socket].session, Some(*key));
            }
            Attachment::Lost(lost) => {
                assert!(
                    sessions
                        .timers
                        .contains(&(lost.deadline, Timer::Grace(*key)))
                );
            }
        }
    }
    for (socket, state) in &sessions.sockets {
        assert!(state.session.is_none() || state.close.is_none());
        if let Some(key) = state.session {
            assert_eq!(sessions.socket_of(key), Some(*socket));
        }
    }
}

proptest! {
    #[test]
    fn any_course_of_events_leaves_nothing_behind(steps in prop::collection::vec(step(), 0..120)) {
        run(steps);
    }

    #[test]
    fn any_text_is_handled(text in any::<String>()) {
        let mut server = Server::new();
        server.receive(A, &text);
    }
}
