//! Every method, notification and error as it goes over the wire, and who gets what in which order.

use media::{Call, Delivery, Error, Fake, LayerDemand, Script, VideoLayer};
use room::protocol::{Notification, Pause, Request, Response, RoomError, SubscribedVideo};
use room::{Limits, MutedMedia, Options};
use serde_json::{Value, json};

use crate::world::{World, answering, candidate, failure, id, offering, pipeline_failure, publish};

const OFFER: &str = "v=0 offer of the client";

/// Sends a request as it is on the wire, and returns all that went out because of it.
async fn exchange(world: &World, participant: &str, method: &str, params: Value) -> Vec<String> {
    world.take_log();
    match Request::parse(method, Some(&params)) {
        Ok(request) => {
            let _ = world.ask(participant, request).await;
            world.transcript()
        }
        Err(error) => vec![format!(
            "{participant} ← error {} {}",
            error.code, error.message
        )],
    }
}

/// alice publishes, bob watches, carol does neither; all in `lab`.
async fn lab() -> World {
    let world = World::new();
    for user in ["alice", "bob", "carol"] {
        world.join(user, "lab").await;
    }
    world.publish("alice").await;
    world.subscribe("bob", "alice").await;
    world
}

fn is_create(call: &Call) -> bool {
    matches!(call, Call::CreateElement { .. })
}

fn is_offer(call: &Call) -> bool {
    matches!(call, Call::ProcessOffer { .. })
}

fn is_connect(call: &Call) -> bool {
    matches!(call, Call::Connect { .. })
}

fn is_gather(call: &Call) -> bool {
    matches!(call, Call::GatherCandidates { .. })
}

macro_rules! rows {
    ($world:expr, $($participant:literal $method:literal $params:tt => [$($line:expr),* $(,)?];)*) => {
        $(assert_eq!(
            exchange(&$world, $participant, $method, json!($params)).await,
            [$($line.to_string()),*],
            "{} by {}", $method, $participant
        );)*
    };
}

#[tokio::test]
async fn a_call_from_first_join_to_last_leave() {
    let world = World::new();
    rows! { world,
        "S1" "joinRoom" {"user": "alice", "room": "lab"} => ["S1 ← result []"];
        "S1" "publishVideo" {"sdpOffer": OFFER, "doLoopback": false} =>
            [r#"S1 ← result {"sdpAnswer":"v=0 answer of the server"}"#];
        "S1" "onIceCandidate" {"endpointName": "alice", "candidate": "candidate:1", "sdpMid": "audio", "sdpMLineIndex": "0"} =>
            ["S1 ← result {}"];
        "S2" "joinRoom" {"user": "bob", "room": "lab", "dataChannels": true} => [
            r#"S1 ← participantJoined {"id":"bob"}"#,
            r#"S2 ← result [{"id":"alice","streams":[{"id":"webcam"}]}]"#,
        ];
        "S3" "joinRoom" {"user": "carol", "room": "lab"} => [
            r#"S1 ← participantJoined {"id":"carol"}"#,
            r#"S2 ← participantJoined {"id":"carol"}"#,
            r#"S3 ← result [{"id":"alice","streams":[{"id":"webcam"}]},{"id":"bob"}]"#,
        ];
        "S2" "receiveVideoFrom" {"sender": "alice_webcam", "sdpOffer": OFFER} =>
            [r#"S2 ← result {"sdpAnswer":"v=0 answer of the server"}"#];
        "S2" "sendMessage" {"message": "hi", "userMessage": "bob", "roomMessage": "lab"} => [
            "S2 ← result {}",
            r#"S1 ← sendMessage {"room":"lab","user":"bob","message":"hi"}"#,
            r#"S2 ← sendMessage {"room":"lab","user":"bob","message":"hi"}"#,
            r#"S3 ← sendMessage {"room":"lab","user":"bob","message":"hi"}"#,
        ];
        "S3" "publishVideo" {"sdpOffer": OFFER, "doLoopback": true} => [
            r#"S3 ← result {"sdpAnswer":"v=0 answer of the server"}"#,
            r#"S1 ← participantPublished {"id":"carol","streams":[{"id":"webcam"}]}"#,
            r#"S2 ← participantPublished {"id":"carol","streams":[{"id":"webcam"}]}"#,
        ];
        "S2" "unsubscribeFromVideo" {"sender": "alice_webcam"} => ["S2 ← result {}"];
        "S1" "unpublishVideo" {} => [
            "S1 ← result {}",
            r#"S2 ← participantUnpublished {"name":"alice"}"#,
            r#"S3 ← participantUnpublished {"name":"alice"}"#,
        ];
        "S1" "leaveRoom" {} => [
            r#"S2 ← participantLeft {"name":"alice"}"#,
            r#"S3 ← participantLeft {"name":"alice"}"#,
            "S1 ← result {}",
            "S1 closed",
        ];
        "S3" "leaveRoom" {} => [
            r#"S2 ← participantLeft {"name":"carol"}"#,
            "S3 ← result {}",
            "S3 closed",
        ];
        "S2" "leaveRoom" {} => ["S2 ← result {}", "S2 closed"];
    }
    world.assert_nothing_left();
}

#[tokio::test]
async fn errors_of_joining() {
    let world = lab().await;
    rows! { world,
        "alice" "joinRoom" {"user": "alice", "room": "lab"} =>
            ["alice ← error 104 User 'alice' already exists in room 'lab'"];
        "alice" "joinRoom" {"user": "eve", "room": "lab"} =>
            ["alice ← error 101 Participant with id 'alice' is already in room 'lab' as 'alice'"];
        "alice" "joinRoom" {"user": "alice", "room": "other"} =>
            ["alice ← error 101 Participant with id 'alice' is already in room 'lab' as 'alice'"];
        "S9" "joinRoom" {"user": "alice", "room": "lab"} =>
            ["S9 ← error 104 User 'alice' already exists in room 'lab'"];
        "S9" "joinRoom" {"user": "", "room": "empty"} => ["S9 ← error 999 Empty user name is not allowed"];
        "S9" "joinRoom" {"user": "eve"} =>
            ["S9 ← error -1 java.lang.RuntimeException:Request element 'room' is missing"];
        "S9" "joinRoom" {"room": "lab"} =>
            ["S9 ← error -1 java.lang.RuntimeException:Request element 'user' is missing"];
        "S9" "joinRoom" {"room": "lab", "user": null} =>
            ["S9 ← error -1 java.lang.UnsupportedOperationException:JsonNull"];
    }
    world.clients.refused.lock().push("eve".to_owned());
    world.fake.once(
        |call| matches!(call, Call::CreatePipeline),
        Script::fail(Error::Unavailable("no".to_owned())),
    );
    rows! { world,
        "S9" "joinRoom" {"user": "eve", "room": "other"} =>
            ["S9 ← error 202 Room 'other' was not found, must be created before 'eve' can join"];
        "S9" "joinRoom" {"user": "dave", "room": "other"} =>
            ["S9 ← error 204 Unable to create media pipeline for room 'other'"];
    }
    assert_eq!(world.rooms.rooms(), ["lab"], "no empty room is left");
    assert_eq!(
        world.rooms.participants("lab").unwrap().len(),
        3,
        "alice stayed"
    );
    rows! { world, "S9" "joinRoom" {"user": "dave", "room": "other"} => ["S9 ← result []"]; }
    world.rooms.close();
    rows! { world,
        "S9" "joinRoom" {"user": "dave", "room": "other"} => ["S9 ← error 203 The room 'other' is closed"];
    }
}

#[tokio::test]
async fn everything_before_joining_is_refused() {
    let world = lab().await;
    let error = "S9 ← error 102 No participant with id 'S9' was found";
    rows! { world,
        "S9" "leaveRoom" {} => [error];
        "S9" "publishVideo" {"sdpOffer": OFFER, "doLoopback": false} => [error];
        "S9" "unpublishVideo" {} => [error];
        "S9" "receiveVideoFrom" {"sender": "alice_webcam", "sdpOffer": OFFER} => [error];
        "S9" "unsubscribeFromVideo" {"sender": "alice_webcam"} => [error];
        "S9" "onIceCandidate" {"endpointName": "alice", "candidate": "", "sdpMLineIndex": 0} => [error];
        "S9" "sendMessage" {"message": "hi", "userMessage": "bob", "roomMessage": "lab"} => [error];
        "S9" "customRequest" {"marker": 1} =>
            ["S9 ← error -1 java.lang.RuntimeException:Unsupported method"];
        "S9" "dance" {} => ["S9 ← error -32601 Method not found: dance"];
    }
}

#[tokio::test]
async fn errors_of_publishing() {
    let world = lab().await;
    rows! { world,
        "alice" "publishVideo" {"sdpOffer": OFFER, "doLoopback": false} =>
            ["alice ← error 302 Error generating SDP response for publishing user alice"];
        "bob" "publishVideo" {"doLoopback": false} =>
            ["bob ← error -1 java.lang.RuntimeException:Request element 'sdpOffer' is missing"];
        "bob" "unpublishVideo" {} => ["bob ← error 105 Participant 'bob' is not streaming media"];
    }
    let failures = [
        (
            is_create as fn(&Call) -> bool,
            Error::Full("no".to_owned()),
            "303 Unable to create publisher endpoint",
        ),
        (
            is_create,
            Error::Timeout,
            "303 Timeout reached while waiting for publisher endpoint to be ready",
        ),
        (
            is_offer,
            Error::Sdp("no m-line".to_owned()),
            "302 Error generating SDP response for publishing user bob",
        ),
        (
            is_connect,
            Error::DifferentPipelines,
            "304 Media elements do not share pipeline",
        ),
        (
            is_gather,
            Error::Unavailable("gone".to_owned()),
            "304 media server is not available: gone",
        ),
    ];
    let before = world.fake.elements();
    for (matches, error, text) in failures {
        world.fake.once(matches, Script::fail(error));
        let params = json!({"sdpOffer": OFFER, "doLoopback": false});
        let out = exchange(&world, "bob", "publishVideo", params).await;
        assert_eq!(out, [format!("bob ← error {text}")]);
        assert_eq!(
            world.fake.elements(),
            before,
            "{text} leaves nothing behind"
        );
    }
    world.publish("bob").await;
    assert!(world.rooms.participant(&id("alice")).unwrap().streaming);
}

#[tokio::test]
async fn errors_of_offering() {
    let world = lab().await;
    let error = world.rooms.publish_offer(&id("alice")).await.unwrap_err();
    assert_eq!(error, RoomError::publish_offer("alice"));
    let error = world
        .rooms
        .publish(&id("bob"), answering(None))
        .await
        .unwrap_err();
    assert_eq!(error, RoomError::publish_answer("bob"));
    let generates = |call: &Call| matches!(call, Call::GenerateOffer { .. });
    world.fake.once(generates, Script::fail(Error::Timeout));
    let error = world.rooms.publish_offer(&id("bob")).await.unwrap_err();
    assert_eq!(error, RoomError::publish_offer("bob"));

    world.rooms.publish_offer(&id("bob")).await.unwrap();
    let error = world
        .rooms
        .publish(&id("bob"), offering(None))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        RoomError::publish_answer("bob"),
        "an offer of ours is out"
    );
    let before = world.fake.elements().len();
    world.rooms.publish_offer(&id("bob")).await.unwrap();
    assert_eq!(
        world.fake.elements().len(),
        before,
        "the first offer is withdrawn"
    );
    let answers = |call: &Call| matches!(call, Call::ProcessAnswer { .. });
    world
        .fake
        .once(answers, Script::fail(Error::Sdp("bad".to_owned())));
    let error = world
        .rooms
        .publish(&id("bob"), answering(None))
        .await
        .unwrap_err();
    assert_eq!(error, RoomError::publish_answer("bob"));
    assert_eq!(world.fake.elements().len(), before - 2);
    world.publish("bob").await;
}

#[tokio::test]
async fn errors_of_subscribing() {
    let world = lab().await;
    let missing = "java.lang.RuntimeException:Request element 'sender' is missing";
    rows! { world,
        "carol" "receiveVideoFrom" {"sdpOffer": OFFER} => [format!("carol ← error -1 {missing}")];
        "carol" "receiveVideoFrom" {"sender": "dave_webcam", "sdpOffer": OFFER} =>
            ["carol ← error 102 User 'dave not found in room 'lab'"];
        "carol" "receiveVideoFrom" {"sender": "bob_webcam", "sdpOffer": OFFER} =>
            ["carol ← error 105 User 'bob not streaming media in room 'lab'"];
        "carol" "receiveVideoFrom" {"sender": "carol_webcam", "sdpOffer": OFFER} =>
            ["carol ← error 105 User 'carol not streaming media in room 'lab'"];
        "alice" "receiveVideoFrom" {"sender": "alice_webcam", "sdpOffer": OFFER} =>
            ["alice ← error 105 Can loopback only when publishing media"];
        "bob" "receiveVideoFrom" {"sender": "alice_webcam", "sdpOffer": OFFER} =>
            ["bob ← error 302 Unable to generate SDP answer when subscribing 'bob' to 'alice'"];
        "carol" "unsubscribeFromVideo" {"sender": "dave_webcam"} =>
            ["carol ← error 102 User dave not found in room lab"];
        "carol" "unsubscribeFromVideo" {"sender": "alice_webcam"} => ["carol ← result {}"];
    }
    let failures = [
        (
            is_create as fn(&Call) -> bool,
            Error::Full("no".to_owned()),
            "303 Unable to create subscriber endpoint",
        ),
        (
            is_create,
            Error::Timeout,
            "303 Timeout reached when creating subscriber endpoint",
        ),
        (
            is_offer,
            Error::Sdp("no m-line".to_owned()),
            "302 Unable to generate SDP answer when subscribing 'carol' to 'alice'",
        ),
        (
            is_gather,
            Error::Timeout,
            "302 Unable to generate SDP answer when subscribing 'carol' to 'alice'",
        ),
        (
            is_connect,
            Error::Timeout,
            "302 Unable to generate SDP answer when subscribing 'carol' to 'alice'",
        ),
    ];
    let before = world.fake.elements();
    for (matches, error, text) in failures {
        world.fake.once(matches, Script::fail(error));
        let params = json!({"sender": "alice_webcam", "sdpOffer": OFFER});
        let out = exchange(&world, "carol", "receiveVideoFrom", params).await;
        assert_eq!(out, [format!("carol ← error {text}")]);
        assert_eq!(
            world.fake.elements(),
            before,
            "{text} leaves nothing behind"
        );
    }
    world.subscribe("carol", "alice").await;
}

#[tokio::test]
async fn underscores_in_names_are_resolved_from_the_right() {
    let world = World::new();
    for user in ["my", "my_own", "_", "watcher"] {
        world.join(user, "a_room").await;
    }
    world.publish("my_own").await;
    rows! { world,
        "watcher" "receiveVideoFrom" {"sender": "my_own_webcam", "sdpOffer": OFFER} =>
            [r#"watcher ← result {"sdpAnswer":"v=0 answer of the server"}"#];
        "watcher" "unsubscribeFromVideo" {"sender": "my_own_webcam"} => ["watcher ← result {}"];
        "watcher" "receiveVideoFrom" {"sender": "my_own", "sdpOffer": OFFER} =>
            ["watcher ← error 105 User 'my not streaming media in room 'a_room'"];
        "watcher" "receiveVideoFrom" {"sender": "__webcam", "sdpOffer": OFFER} =>
            ["watcher ← error 105 User '_ not streaming media in room 'a_room'"];
        "watcher" "receiveVideoFrom" {"sender": "your_own_webcam", "sdpOffer": OFFER} =>
            ["watcher ← error 102 User 'your not found in room 'a_room'"];
        "watcher" "receiveVideoFrom" {"sender": "nobody", "sdpOffer": OFFER} =>
            ["watcher ← error 102 User 'nobody not found in room 'a_room'"];
        "watcher" "unsubscribeFromVideo" {"sender": "watcher"} => ["watcher ← result {}"];
    }
}

#[tokio::test]
async fn any_name_goes() {
    let world = World::new();
    for name in [
        " ",
        "Ünïcödé 名前",
        "🙂",
        "a\nb\u{0}",
        "\"quoted\"",
        "a/../b",
    ] {
        world.join(name, name).await;
        world.publish(name).await;
        assert_eq!(world.rooms.participants(name).unwrap()[0].name, name);
    }
    world.join("nobody", "").await;
    assert_eq!(world.rooms.room_of(&id("nobody")).unwrap(), "");
}

#[tokio::test]
async fn errors_of_messages_and_candidates() {
    let world = lab().await;
    world.join_rtp("gateway", "lab").await;
    rows! { world,
        "bob" "sendMessage" {"message": "hi", "userMessage": "eve", "roomMessage": "lab"} =>
            ["bob ← error 102 Provided username 'eve' differs from the participant's name"];
        "bob" "sendMessage" {"message": "hi", "userMessage": "bob", "roomMessage": "x"} =>
            ["bob ← error 202 Provided room name 'x' differs from the participant's room"];
        "bob" "sendMessage" {} =>
            ["bob ← error -1 java.lang.RuntimeException:Request element 'userMessage' is missing"];
        "gateway" "onIceCandidate" {"endpointName": "alice", "candidate": "c", "sdpMid": "a", "sdpMLineIndex": 0} =>
            ["gateway ← error 306 Operation not supported"];
        "bob" "onIceCandidate" {"endpointName": "nobody", "candidate": "c", "sdpMid": "a", "sdpMLineIndex": 0} =>
            ["bob ← result {}"];
        "bob" "onIceCandidate" {"endpointName": "alice", "candidate": "", "sdpMid": null, "sdpMLineIndex": 0} =>
            ["bob ← result {}"];
        "bob" "onIceCandidate" {"endpointName": "alice", "candidate": "c", "sdpMid": "a", "sdpMLineIndex": "abc"} =>
            [r#"bob ← error -1 java.lang.NumberFormatException:For input string: "abc""#];
    }
    let adds = |call: &Call| matches!(call, Call::AddIceCandidate { .. });
    world
        .fake
        .once(adds, Script::fail(Error::Candidate("bad".to_owned())));
    rows! { world,
        "bob" "onIceCandidate" {"endpointName": "alice", "candidate": "c", "sdpMid": "a", "sdpMLineIndex": 0} =>
            ["bob ← result {}"];
    }
}

#[tokio::test]
async fn eviction_tells_the_others_first_and_closes_no_session() {
    let world = lab().await;
    world.take_log();
    world.rooms.evict(&id("alice")).unwrap();
    assert_eq!(
        world.transcript(),
        [
            r#"bob ← participantLeft {"name":"alice"}"#,
            r#"carol ← participantLeft {"name":"alice"}"#,
            "alice ← participantEvicted {}",
        ]
    );
    let error = RoomError::participant_not_found("alice");
    assert_eq!(world.rooms.evict(&id("alice")), Err(error));
    rows! { world,
        "alice" "leaveRoom" {} => ["alice ← error 102 No participant with id 'alice' was found"];
        "bob" "unsubscribeFromVideo" {"sender": "alice_webcam"} =>
            ["bob ← error 102 User alice not found in room lab"];
    }
    world.join("alice", "lab").await;
}

#[tokio::test]
async fn a_user_is_evicted_by_name() {
    let world = lab().await;
    world.take_log();
    world.rooms.evict_user("lab", "carol").unwrap();
    assert_eq!(
        world.transcript(),
        [
            r#"alice ← participantLeft {"name":"carol"}"#,
            r#"bob ← participantLeft {"name":"carol"}"#,
            "carol ← participantEvicted {}",
        ]
    );
    for (room, user, error) in [
        ("lab", "carol", RoomError::user_not_found("carol", "lab")),
        ("bar", "alice", RoomError::room_not_found("bar")),
    ] {
        assert_eq!(world.rooms.evict_user(room, user), Err(error));
    }
}

#[tokio::test]
async fn a_room_can_be_told_anything() {
    let world = lab().await;
    world.take_log();
    let notification = || Notification::Custom {
        method: "custonNotification".to_owned(),
        params: json!({"MarkerFilterState": 1})
            .as_object()
            .cloned()
            .unwrap(),
    };
    world.rooms.notify("lab", notification()).unwrap();
    assert_eq!(
        world.transcript(),
        ["alice", "bob", "carol"]
            .map(|user| format!(r#"{user} ← custonNotification {{"MarkerFilterState":1}}"#))
    );
    let error = RoomError::room_not_found("bar");
    assert_eq!(world.rooms.notify("bar", notification()), Err(error));
}

#[tokio::test]
async fn a_closed_room_tells_its_former_participants_and_nothing_else() {
    let world = lab().await;
    world.take_log();
    let former = world.rooms.close_room("lab").unwrap();
    assert_eq!(former.len(), 3);
    assert_eq!(
        world.transcript(),
        ["alice", "bob", "carol"].map(|user| format!(r#"{user} ← roomClosed {{"room":"lab"}}"#))
    );
    world.assert_nothing_left();
    let error = RoomError::room_not_found("lab");
    assert_eq!(world.rooms.close_room("lab"), Err(error));
    assert!(
        world.join("alice", "lab").await.is_empty(),
        "its sessions may join again"
    );
}

#[tokio::test]
async fn shutting_down_tells_nobody() {
    let world = lab().await;
    world.take_log();
    world.rooms.close();
    assert!(world.rooms.is_closed());
    assert_eq!(world.transcript(), [""; 0]);
    world.assert_nothing_left();
}

#[tokio::test]
async fn the_application_is_refused_as_kurento_room_does() {
    let world = lab().await;
    let rooms = &world.rooms;
    let text = |error: RoomError| format!("{} {}", error.code, error.message);
    assert_eq!(
        text(rooms.create_room("lab").unwrap_err()),
        "204 Room 'lab' already exists"
    );
    assert_eq!(
        text(rooms.participants("x").unwrap_err()),
        "202 Room 'x' not found"
    );
    assert_eq!(
        text(rooms.publishers("x").unwrap_err()),
        "202 Room 'x' not found"
    );
    assert_eq!(
        text(rooms.subscribers("x").unwrap_err()),
        "202 Room 'x' not found"
    );
    let error = rooms.update_filter("x", "marker").await.unwrap_err();
    assert_eq!(text(error), "202 Room 'x' not found");
    assert_eq!(
        text(rooms.peer_subscribers(&id("bob")).unwrap_err()),
        "105 Participant with id 'bob' is not a publisher yet"
    );
    let error = rooms
        .mute_published(&id("bob"), MutedMedia::All)
        .await
        .unwrap_err();
    assert_eq!(text(error), "105 Participant 'bob' is not streaming media");
    let error = rooms
        .mute_subscribed(&id("bob"), "carol", MutedMedia::All)
        .await
        .unwrap_err();
    assert_eq!(
        text(error),
        "105 User 'carol not streaming media in room 'lab'"
    );
    let error = rooms
        .unmute_subscribed(&id("bob"), "dave")
        .await
        .unwrap_err();
    assert_eq!(text(error), "102 User dave not found in room lab");
    let silent = rooms
        .mute_subscribed(&id("carol"), "alice", MutedMedia::All)
        .await;
    assert_eq!(silent, Ok(()), "without a subscription nothing happens");
    let ghost = media::ElementId::new("ghost");
    let error = rooms
        .remove_element(&id("alice"), &ghost)
        .await
        .unwrap_err();
    assert_eq!(
        text(error),
        "303 This endpoint (alice) has no media element with id ghost"
    );
}

#[tokio::test]
async fn limits_are_kept() {
    let world = World::with_limits(Limits {
        rooms: 2,
        participants_per_room: 2,
        name_bytes: 5,
        message_bytes: 3,
        ..Limits::default()
    });
    rows! { world,
        "a" "joinRoom" {"user": "a", "room": "one"} => ["a ← result []"];
        "b" "joinRoom" {"user": "b", "room": "one"} =>
            [r#"a ← participantJoined {"id":"b"}"#, r#"b ← result [{"id":"a"}]"#];
        "c" "joinRoom" {"user": "c", "room": "one"} => ["c ← error 201 Room 'one' is full"];
        "c" "joinRoom" {"user": "c", "room": "two"} => ["c ← result []"];
        "d" "joinRoom" {"user": "d", "room": "three"} =>
            ["d ← error 204 No resources left to create new room"];
        "d" "joinRoom" {"user": "dddddd", "room": "two"} =>
            ["d ← error 999 User name is longer than 5 bytes"];
        "d" "joinRoom" {"user": "d", "room": "tttttt"} =>
            ["d ← error 999 Room name is longer than 5 bytes"];
        "c" "sendMessage" {"message": "four", "userMessage": "c", "roomMessage": "two"} =>
            ["c ← error 999 Message is longer than 3 bytes"];
    }
    assert_eq!(
        world.rooms.create_room("three"),
        Err(RoomError::no_resources())
    );
}

#[tokio::test]
async fn endpoints_are_counted_as_long_as_they_are_in_use() {
    let world = World::with_limits(Limits {
        endpoints: 1,
        ..Limits::default()
    });
    world.join("a", "one").await;
    world.join("b", "two").await;
    rows! { world,
        "a" "publishVideo" {"sdpOffer": "v=0", "doLoopback": false} =>
            [r#"a ← result {"sdpAnswer":"v=0 answer of the server"}"#];
        "b" "publishVideo" {"sdpOffer": "v=0", "doLoopback": false} =>
            ["b ← error 303 Unable to create publisher endpoint"];
        "a" "unpublishVideo" {} => ["a ← result {}"];
        "b" "publishVideo" {"sdpOffer": "v=0", "doLoopback": false} =>
            [r#"b ← result {"sdpAnswer":"v=0 answer of the server"}"#];
    }
    world.rooms.close_room("two").unwrap();
    world.fake.once(is_offer, Script::fail(Error::Timeout));
    let failed = world.ask("a", publish(false)).await;
    assert_eq!(failed, Err(RoomError::publish_answer("a")));
    world.publish("a").await;
}

#[tokio::test]
async fn streams_can_always_be_sent() {
    let world = World::with(Options {
        always_send_streams: true,
        ..Options::default()
    });
    rows! { world,
        "a" "joinRoom" {"user": "a", "room": "one"} => ["a ← result []"];
        "b" "joinRoom" {"user": "b", "room": "one"} =>
            [r#"a ← participantJoined {"id":"b"}"#, r#"b ← result [{"id":"a","streams":[]}]"#];
    }
}

#[tokio::test]
async fn errors_of_media_reach_their_owners() {
    let world = lab().await;
    world.take_log();
    let endpoints = world.endpoints();
    world.fake.fire(&endpoints[1], failure());
    world
        .fake
        .fire_pipeline(&world.fake.pipelines()[0], pipeline_failure());
    let late = world.fake.event_sender(&endpoints[1]).unwrap();
    world.ask("alice", Request::UnpublishVideo).await.unwrap();
    late.send(failure());
    let pipeline = r#"mediaError {"error":"TEST_PP_ERR: Fake pipeline error(errCode=505)"}"#;
    assert_eq!(
        world.transcript(),
        [
            r#"bob ← mediaError {"error":"TEST_ERR: Fake media error(errCode=101)"}"#.to_owned(),
            format!("alice ← {pipeline}"),
            format!("bob ← {pipeline}"),
            format!("carol ← {pipeline}"),
            "alice ← result {}".to_owned(),
            r#"bob ← participantUnpublished {"name":"alice"}"#.to_owned(),
            r#"carol ← participantUnpublished {"name":"alice"}"#.to_owned(),
        ],
        "an element that is out of use is silent"
    );
}

#[test]
fn requests_read_what_they_write() {
    let custom = json!({"hat": true}).as_object().cloned().unwrap();
    let requests = [
        Request::JoinRoom {
            room: "lab".to_owned(),
            user: "alice".to_owned(),
            data_channels: true,
            media_events: true,
        },
        Request::LeaveRoom,
        publish(true),
        Request::UnpublishVideo,
        crate::world::receive("alice"),
        crate::world::unsubscribe("alice"),
        crate::world::wish("alice", Delivery::default()),
        Request::OnIceCandidate {
            endpoint_name: "alice".to_owned(),
            candidate: candidate(),
        },
        Request::SendMessage {
            message: "hi".to_owned(),
            user: "alice".to_owned(),
            room: "lab".to_owned(),
        },
        Request::CustomRequest(custom),
    ];
    for request in requests {
        let params = request.params();
        assert_eq!(
            Request::parse(request.method(), params.as_ref()),
            Ok(request)
        );
    }
}

#[test]
fn notifications_read_what_they_write() {
    let user = || "alice".to_owned();
    let rows = [
        (
            Notification::ParticipantJoined { user: user() },
            r#"participantJoined {"id":"alice"}"#,
        ),
        (
            Notification::ParticipantLeft { user: user() },
            r#"participantLeft {"name":"alice"}"#,
        ),
        (Notification::ParticipantEvicted, "participantEvicted {}"),
        (
            Notification::published("alice"),
            r#"participantPublished {"id":"alice","streams":[{"id":"webcam"}]}"#,
        ),
        (
            Notification::ParticipantUnpublished { user: user() },
            r#"participantUnpublished {"name":"alice"}"#,
        ),
        (
            Notification::SendMessage {
                room: "lab".to_owned(),
                user: user(),
                message: "<hi> & \"bye\" é".to_owned(),
            },
            r#"sendMessage {"room":"lab","user":"alice","message":"<hi> & \"bye\" é"}"#,
        ),
        (
            Notification::IceCandidate {
                endpoint_name: user(),
                candidate: candidate(),
            },
            r#"iceCandidate {"endpointName":"alice","sdpMLineIndex":1,"sdpMid":"audio","candidate":"1 candidate test"}"#,
        ),
        (
            Notification::VideoDelivery {
                sender: "alice_webcam".to_owned(),
                video: SubscribedVideo::Sent {
                    layer: VideoLayer {
                        spatial: 1,
                        temporal: 2,
                    },
                    spatial_layers: 3,
                    height: 720,
                },
            },
            r#"videoDelivery {"sender":"alice_webcam","spatialLayer":1,"temporalLayer":2,"spatialLayers":3,"height":720}"#,
        ),
        (
            Notification::VideoDelivery {
                sender: "alice_webcam".to_owned(),
                video: SubscribedVideo::Paused(Pause::Bandwidth),
            },
            r#"videoDelivery {"sender":"alice_webcam","paused":"bandwidth"}"#,
        ),
        (
            Notification::LayersWanted {
                layers: vec![LayerDemand {
                    rid: "q".to_owned(),
                    wanted: true,
                }],
            },
            r#"layersWanted {"layers":[{"rid":"q","wanted":true}]}"#,
        ),
        (
            Notification::ActiveSpeakers {
                dominant: Some(user()),
                speaking: vec![user(), "bob".to_owned()],
            },
            r#"activeSpeakers {"dominant":"alice","speaking":["alice","bob"]}"#,
        ),
        (
            Notification::ActiveSpeakers {
                dominant: None,
                speaking: Vec::new(),
            },
            r#"activeSpeakers {"speaking":[]}"#,
        ),
        (
            Notification::RoomClosed {
                room: "lab".to_owned(),
            },
            r#"roomClosed {"room":"lab"}"#,
        ),
        (
            Notification::media_error(&media::ErrorKind::StreamFailed, "no codec", 1),
            r#"mediaError {"error":"STREAM_ERROR_FAILED: no codec(errCode=1)"}"#,
        ),
        (
            Notification::Custom {
                method: "custonNotification".to_owned(),
                params: json!({"MarkerFilterState": -1})
                    .as_object()
                    .cloned()
                    .unwrap(),
            },
            r#"custonNotification {"MarkerFilterState":-1}"#,
        ),
    ];
    for (notification, line) in rows {
        let params = notification.params();
        assert_eq!(format!("{} {params}", notification.method()), line);
        assert_eq!(
            Notification::parse(notification.method(), Some(&params)),
            Ok(notification)
        );
    }
}

#[test]
fn responses_are_written_as_kurento_room_does() {
    use room::protocol::Peer;
    let peers = vec![Peer::new("alice", true), Peer::new("carol", false)];
    let joined = Response::Joined(peers.clone()).to_value();
    assert_eq!(
        joined.to_string(),
        r#"[{"id":"alice","streams":[{"id":"webcam"}]},{"id":"carol"}]"#
    );
    let parsed: Vec<_> = joined
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Peer::parse)
        .collect();
    assert_eq!(parsed, peers);
    let answer = Response::SdpAnswer("v=0\r\n".to_owned()).to_value();
    assert_eq!(answer.to_string(), r#"{"sdpAnswer":"v=0\r\n"}"#);
    assert_eq!(Response::Empty.to_value().to_string(), "{}");
    assert_eq!(
        Response::SdpAnswer(Fake::ANSWER.to_owned()).to_value()["sdpAnswer"],
        Fake::ANSWER
    );
}
