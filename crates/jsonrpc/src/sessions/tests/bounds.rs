//! What clients can make a server keep, and its end.

use super::*;

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
