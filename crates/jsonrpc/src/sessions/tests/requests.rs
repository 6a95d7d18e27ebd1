//! Order and repetition of requests.

use super::*;

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
