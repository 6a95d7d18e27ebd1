//! Sockets come and go; sessions stay, move, or end.

use super::*;

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
