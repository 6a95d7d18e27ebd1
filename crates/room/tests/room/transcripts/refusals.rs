//! What participants are refused, by each request, and what becomes of it if the media server fails.

use super::*;

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
