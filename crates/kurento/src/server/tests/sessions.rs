//! Sessions, what they hold, and their connections.

use super::*;

#[test]
fn the_session_of_the_connection_is_added_to_requests() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pong = desk.ask(connection, "ping", json!({}));
    assert_eq!(pong["result"], json!({ "value": "pong" }));
    let manager = json!({ "object": "manager_ServerManager" });
    let session = desk.ask(connection, "describe", manager)["result"]["sessionId"].clone();
    let created = desk.ask(connection, "create", json!({ "type": "MediaPipeline" }));
    assert_eq!(created["result"]["sessionId"], session);
    for params in [Value::Null, json!({}), json!({ "sessionId": {} })] {
        let pong = desk.ask(connection, "ping", params);
        assert_eq!(pong["result"]["sessionId"], session);
    }
}

#[test]
fn sessions_without_a_connection_die_after_one_to_two_periods() {
    let mut desk = Desk::new();
    let (watcher, connection) = (desk.open(), desk.open());
    desk.subscribe(watcher, "manager_ServerManager", "ObjectDestroyed");
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    desk.create(connection, "PassThrough", in_pipeline(&pipeline));
    desk.sleep(PERIOD * 3);
    assert_eq!(
        desk.server.objects(),
        3,
        "an open connection keeps its session"
    );
    desk.server.handle_closed(desk.now, connection);
    desk.sleep(PERIOD - Duration::from_secs(1));
    assert_eq!(desk.server.objects(), 3);
    desk.sleep(PERIOD + Duration::from_secs(1));
    assert_eq!(desk.server.objects(), 1);
    let destroyed: Vec<_> = desk
        .events(watcher)
        .into_iter()
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(destroyed, ["ObjectDestroyed", "ObjectDestroyed"]);
    assert_eq!((desk.server.sessions(), desk.released), (1, 2));
}

#[test]
fn objects_live_as_long_as_a_session_holds_them() {
    let mut desk = Desk::new();
    let (first, second) = (desk.open(), desk.open());
    let pipeline = desk.create(first, "MediaPipeline", json!({}));
    let element = desk.create(first, "PassThrough", in_pipeline(&pipeline));
    assert_eq!(
        desk.invoke(second, &element, "getId", json!({})),
        json!(element)
    );
    desk.ask(first, "closeSession", json!({}));
    assert_eq!(
        desk.invoke(second, &pipeline, "getId", json!({})),
        json!(pipeline)
    );
    let released = desk.ask(second, "closeSession", json!({ "release": true }));
    assert_eq!(released["result"], Value::Null);
    assert_eq!(desk.server.objects(), 1);
    assert_eq!(
        desk.invoke(second, &element, "getId", json!({})),
        json!(40101)
    );
}

#[test]
fn a_session_goes_on_over_a_new_connection() {
    let mut desk = Desk::new();
    let first = desk.open();
    let pipeline = desk.create(first, "MediaPipeline", json!({}));
    let session = desk.subscribe(first, &pipeline, "Error")["result"]["sessionId"].clone();
    desk.server.handle_closed(desk.now, first);
    let second = desk.open();
    let connected = desk.ask(second, "connect", json!({ "sessionId": session }));
    assert_eq!(connected["result"]["sessionId"], session);
    assert_eq!(connected["result"]["serverId"], json!(desk.server.id));
    let failure = Event::Error {
        kind: media::ErrorKind::StreamFailed,
        description: "broken".to_owned(),
        code: 1,
    };
    let Call::CreatePipeline { object } = desk.calls[0] else {
        panic!("the pipeline was not made first");
    };
    desk.server.handle_media_event(desk.now, object, failure);
    let events = desk.events(second);
    assert_eq!(events[0].1["type"], "STREAM_ERROR_FAILED");
    assert_eq!(events[0].1["timestampMillis"], "1700000000000");
}

#[test]
fn subscriptions_are_counted_down_with_their_objects() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let session = desk.subscribe(connection, &pipeline, "Error")["result"]["sessionId"].clone();
    let session: SessionName = session.as_str().unwrap().into();
    for _ in 0..3 {
        let element = desk.create(connection, "PassThrough", in_pipeline(&pipeline));
        desk.subscribe(connection, &element, "Error");
        desk.ask(connection, "release", json!({ "object": element }));
    }
    assert_eq!(
        desk.server
            .sessions
            .get_mut(&session)
            .unwrap()
            .subscriptions,
        1
    );
}

#[test]
fn a_pipeline_released_while_an_element_is_made_takes_it_along() {
    let mut desk = Desk::new();
    let (maker, other) = (desk.open(), desk.open());
    let pipeline = desk.create(maker, "MediaPipeline", json!({}));
    desk.holds = true;
    let create = json!({ "jsonrpc": "2.0", "id": 99, "method": "create", "params": {
        "type": "WebRtcEndpoint", "constructorParams": in_pipeline(&pipeline),
    } });
    desk.send(maker, &create.to_string());
    desk.ask(other, "release", json!({ "object": pipeline }));
    desk.release_held();
    assert_eq!(desk.messages(maker)[0]["error"]["code"], 40101);
    assert_eq!((desk.server.objects(), desk.released), (1, 2));
}
