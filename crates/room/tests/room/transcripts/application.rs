//! What the application around the rooms does and sets: evictions, closings, messages, limits.

use super::*;

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
