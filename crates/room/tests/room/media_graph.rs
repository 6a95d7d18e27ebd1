//! What the media server is asked: chains, mutes, filters, candidates, limits of endpoints.

use media::{BandwidthLimits, Call, ElementId, ElementKind, Error, Kilobits, MediaKind, Script};
use room::protocol::{Request, RoomError};
use room::{FilterAction, Limits, MutedMedia};

use crate::world::{World, candidate, class, id};

fn filter(name: &str) -> ElementKind {
    ElementKind::Other(name.to_owned())
}

async fn element(world: &World, user: &str, name: &str) -> ElementId {
    world
        .rooms
        .create_element(&id(user), filter(name))
        .await
        .unwrap()
}

/// alice publishes, bob watches.
async fn pair() -> World {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    world.publish("alice").await;
    world.subscribe("bob", "alice").await;
    world.fake.forget_calls();
    world
}

/// The way of one kind from alice's endpoint to bob's, backwards from bob's.
fn path(world: &World, kind: MediaKind) -> Vec<String> {
    let mut at = world.endpoints()[1].clone();
    let mut classes = Vec::new();
    while let Some(source) = world.fake.source(&at, kind) {
        classes.push(class(&source).to_owned());
        at = source;
    }
    classes
}

#[tokio::test]
async fn every_endpoint_is_bounded() {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    world.publish("alice").await;
    world.subscribe("bob", "alice").await;
    let kilobits = |value| Some(Kilobits(value));
    let expected = BandwidthLimits {
        max_audio_recv: None,
        min_video_recv: kilobits(300),
        max_video_recv: kilobits(600),
        min_video_send: kilobits(300),
        max_video_send: kilobits(600),
    };
    let bounded =
        |call: &Call| matches!(call, Call::SetBandwidth { limits, .. } if *limits == expected);
    assert_eq!(world.fake.count(bounded), 2);
}

#[tokio::test]
async fn several_qualities_are_not_bounded() {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    let publish = Request::PublishVideo {
        sdp_offer: "v=0\r\na=simulcast:send q;h;f\r\n".to_owned(),
        loopback: false,
    };
    world.ask("alice", publish).await.unwrap();
    world.subscribe("bob", "alice").await;
    let free = BandwidthLimits::default();
    let freed = |call: &Call| matches!(call, Call::SetBandwidth { limits, .. } if *limits == free);
    assert_eq!(world.fake.count(freed), 2);
}

#[tokio::test]
async fn a_participants_endpoints_are_of_one_peer() {
    let world = World::new();
    for user in ["alice", "bob", "carol"] {
        world.join(user, "lab").await;
        world.publish(user).await;
    }
    world.subscribe("alice", "bob").await;
    world.subscribe("alice", "carol").await;
    let elements = world.fake.elements();
    let peers: Vec<_> = world
        .endpoints()
        .iter()
        .map(|endpoint| {
            let (_, kind) = elements.iter().find(|(id, _)| id == endpoint).unwrap();
            match kind {
                ElementKind::WebRtcEndpoint { peer, .. } => peer.expect("rooms know their people"),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let [alice, bob, carol, alice_to_bob, alice_to_carol] = peers[..] else {
        panic!("{peers:?}");
    };
    assert!(alice != bob && bob != carol && carol != alice);
    assert_eq!([alice_to_bob, alice_to_carol], [alice, alice]);
}

#[tokio::test]
async fn data_channels_reach_those_who_watch() {
    let world = World::new();
    let join = Request::JoinRoom {
        room: "lab".to_owned(),
        user: "alice".to_owned(),
        data_channels: true,
        media_events: false,
    };
    world.ask("alice", join).await.unwrap();
    world.join("bob", "lab").await;
    world.publish("alice").await;
    world.publish("bob").await;
    world.subscribe("bob", "alice").await;
    world.subscribe("alice", "bob").await;
    let kinds: Vec<_> = world
        .endpoints()
        .iter()
        .map(|endpoint| {
            let elements = world.fake.elements();
            let (_, kind) = elements.iter().find(|(id, _)| id == endpoint).unwrap();
            match kind {
                ElementKind::WebRtcEndpoint { data_channels, .. } => *data_channels,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(kinds, [true, false, true, false]);
    let bobs = &world.endpoints()[2];
    assert!(world.fake.source(bobs, MediaKind::Data).is_some());
}

#[tokio::test]
async fn mutes_of_one_kind_add_up() {
    let world = pair().await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    rooms
        .mute_published(&alice, MutedMedia::Audio)
        .await
        .unwrap();
    rooms
        .mute_published(&alice, MutedMedia::Video)
        .await
        .unwrap();
    assert_eq!(
        world.take_wiring(),
        [
            "disconnect WebRtcEndpoint → PassThrough Audio",
            "disconnect WebRtcEndpoint → PassThrough Video",
        ]
    );
    rooms
        .mute_published(&alice, MutedMedia::Audio)
        .await
        .unwrap();
    assert_eq!(world.take_wiring(), [""; 0], "muted already");
    rooms.mute_published(&alice, MutedMedia::All).await.unwrap();
    assert_eq!(
        world.take_wiring(),
        ["disconnect WebRtcEndpoint → PassThrough Data"]
    );
    rooms.unmute_published(&alice).await.unwrap();
    assert_eq!(
        world.take_wiring(),
        ["connect WebRtcEndpoint → PassThrough"]
    );
    rooms.unmute_published(&alice).await.unwrap();
    assert_eq!(world.take_wiring(), [""; 0], "not muted");
}

#[tokio::test]
async fn mutes_of_subscriptions_cut_only_that_leg() {
    let world = pair().await;
    let (rooms, bob) = (&world.rooms, id("bob"));
    rooms
        .mute_subscribed(&bob, "alice", MutedMedia::Video)
        .await
        .unwrap();
    assert_eq!(path(&world, MediaKind::Video), [""; 0]);
    assert_eq!(
        path(&world, MediaKind::Audio),
        ["PassThrough", "WebRtcEndpoint"]
    );
    rooms
        .mute_subscribed(&bob, "alice", MutedMedia::All)
        .await
        .unwrap();
    assert_eq!(path(&world, MediaKind::Audio), [""; 0]);
    rooms.unmute_subscribed(&bob, "alice").await.unwrap();
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "WebRtcEndpoint"]
    );
}

#[tokio::test]
async fn a_mute_that_fails_is_made_good_by_the_next() {
    let world = pair().await;
    world.fake.once(
        |call| matches!(call, Call::Disconnect { .. }),
        Script::fail(Error::Timeout),
    );
    world
        .rooms
        .mute_published(&id("alice"), MutedMedia::All)
        .await
        .unwrap();
    assert_eq!(
        path(&world, MediaKind::Audio).len(),
        2,
        "the server refused"
    );
    world
        .rooms
        .mute_published(&id("alice"), MutedMedia::Audio)
        .await
        .unwrap();
    assert_eq!(path(&world, MediaKind::Audio), ["PassThrough"]);
    assert_eq!(path(&world, MediaKind::Video), ["PassThrough"]);
}

#[tokio::test]
async fn a_chain_edited_while_muted_stays_muted() {
    let world = pair().await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    rooms
        .mute_published(&alice, MutedMedia::Audio)
        .await
        .unwrap();
    let first = element(&world, "alice", "F").await;
    rooms.add_element(&alice, &first, None).await.unwrap();
    assert_eq!(path(&world, MediaKind::Audio), ["PassThrough", "F"]);
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "F", "WebRtcEndpoint"]
    );
    rooms.remove_element(&alice, &first).await.unwrap();
    assert_eq!(path(&world, MediaKind::Audio), ["PassThrough"]);
    rooms.unmute_published(&alice).await.unwrap();
    assert_eq!(
        path(&world, MediaKind::Audio),
        ["PassThrough", "WebRtcEndpoint"]
    );
}

#[tokio::test]
async fn the_middle_of_a_chain_can_be_taken_out() {
    let world = pair().await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    let mut elements = Vec::new();
    for name in ["A", "B", "C"] {
        let added = element(&world, "alice", name).await;
        rooms.add_element(&alice, &added, None).await.unwrap();
        elements.push(added);
    }
    let whole = ["PassThrough", "C", "B", "A", "WebRtcEndpoint"];
    assert_eq!(path(&world, MediaKind::Video), whole);
    assert_eq!(rooms.elements(&alice).unwrap(), elements);
    world.fake.forget_calls();
    rooms.remove_element(&alice, &elements[1]).await.unwrap();
    assert_eq!(world.take_wiring(), ["connect A → C", "disconnect A → B"]);
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "C", "A", "WebRtcEndpoint"]
    );
    assert!(
        world
            .fake
            .elements()
            .iter()
            .all(|(id, _)| *id != elements[1]),
        "it is released"
    );
    let again = rooms.remove_element(&alice, &elements[1]).await;
    assert_eq!(
        again,
        Err(RoomError::unknown_element("alice", &elements[1]))
    );
}

#[tokio::test]
async fn an_element_keeps_its_kind_when_added_before_publishing() {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    let sound = element(&world, "alice", "Sound").await;
    let audio = Some(MediaKind::Audio);
    world
        .rooms
        .add_element(&id("alice"), &sound, audio)
        .await
        .unwrap();
    world.publish("alice").await;
    world.subscribe("bob", "alice").await;
    assert_eq!(
        path(&world, MediaKind::Audio),
        ["PassThrough", "Sound", "WebRtcEndpoint"]
    );
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "WebRtcEndpoint"]
    );
}

#[tokio::test]
async fn elements_given_with_the_publication_come_after_earlier_ones() {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    let early = element(&world, "alice", "Early").await;
    let late = element(&world, "alice", "Late").await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    rooms.add_element(&alice, &early, None).await.unwrap();
    let mut publish = crate::world::offering(None);
    publish.elements = vec![late.clone(), early.clone()];
    let error = rooms.publish(&alice, publish.clone()).await.unwrap_err();
    assert_eq!(error, RoomError::duplicate_element(&early));
    publish.elements = vec![late.clone()];
    rooms.publish(&alice, publish).await.unwrap();
    world.subscribe("bob", "alice").await;
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "Late", "Early", "WebRtcEndpoint"]
    );
    let again = rooms.add_element(&alice, &late, None).await.unwrap_err();
    assert_eq!(again, RoomError::duplicate_element(&late));
}

#[tokio::test]
async fn an_element_that_cannot_be_connected_is_not_in_the_chain() {
    let world = pair().await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    let bad = element(&world, "alice", "Bad").await;
    world.fake.once(
        |call| matches!(call, Call::Connect { sink, .. } if class(sink) == "PassThrough"),
        Script::fail(Error::DifferentPipelines),
    );
    let error = rooms.add_element(&alice, &bad, None).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (304, "Media elements do not share pipeline")
    );
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "WebRtcEndpoint"]
    );
    assert_eq!(rooms.elements(&alice).unwrap(), []);
    assert_eq!(world.fake.source(&bad, MediaKind::Video), None);
}

#[tokio::test]
async fn chains_are_bounded() {
    let world = World::with_limits(Limits {
        elements_per_participant: 1,
        ..Limits::default()
    });
    world.join("alice", "lab").await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    let (first, second) = (
        element(&world, "alice", "A").await,
        element(&world, "alice", "B").await,
    );
    rooms.add_element(&alice, &first, None).await.unwrap();
    let error = rooms.add_element(&alice, &second, None).await.unwrap_err();
    assert_eq!(error, RoomError::too_many_elements(1));
}

#[tokio::test]
async fn candidates_wait_for_their_endpoint() {
    let world = World::with_limits(Limits {
        buffered_candidates: 2,
        candidate_bytes: 100,
        ..Limits::default()
    });
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    let (rooms, alice, bob) = (&world.rooms, id("alice"), id("bob"));
    for at in 0..3 {
        let mut candidate = candidate();
        candidate.sdp_m_line_index = at;
        rooms
            .add_ice_candidate(&alice, "alice", candidate.clone())
            .await
            .unwrap();
        rooms
            .add_ice_candidate(&bob, "alice", candidate)
            .await
            .unwrap();
    }
    let added = |call: &Call| matches!(call, Call::AddIceCandidate { .. });
    assert_eq!(world.fake.count(added), 0);
    world.publish("alice").await;
    assert_eq!(world.fake.count(added), 2, "as many as may wait");
    world.subscribe("bob", "alice").await;
    assert_eq!(world.fake.count(added), 4);
    rooms
        .add_ice_candidate(&bob, "alice", candidate())
        .await
        .unwrap();
    assert_eq!(world.fake.count(added), 5);
    let mut long = candidate();
    long.candidate = "x".repeat(200);
    rooms.add_ice_candidate(&bob, "alice", long).await.unwrap();
    assert_eq!(world.fake.count(added), 5, "too long");
    world.rooms.unpublish(&alice).await.unwrap();
    world.publish("alice").await;
    assert_eq!(world.fake.count(added), 5, "each is used once");
}

#[tokio::test]
async fn publishing_again_works_every_time() {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    for _ in 0..50 {
        world.publish("alice").await;
        world.subscribe("bob", "alice").await;
        world.ask("alice", Request::UnpublishVideo).await.unwrap();
        assert_eq!(world.fake.elements(), []);
    }
}

#[tokio::test]
async fn filters_outlive_a_publication_and_never_hinder_leaving() {
    let world = pair().await;
    let (rooms, alice) = (&world.rooms, id("alice"));
    let apply = || FilterAction::Apply(filter("Marker"));
    rooms.set_filter(&alice, "marker", apply()).await.unwrap();
    let with = ["PassThrough", "Marker", "WebRtcEndpoint"];
    assert_eq!(path(&world, MediaKind::Video), with);
    let made = rooms.filter_element(&alice, "marker").unwrap();
    assert!(made.is_some());

    rooms.unpublish(&alice).await.unwrap();
    world.publish("alice").await;
    world.subscribe("bob", "alice").await;
    assert_eq!(path(&world, MediaKind::Video), with);
    assert_eq!(rooms.filter_element(&alice, "marker").unwrap(), made);

    rooms
        .set_filter(&alice, "marker", FilterAction::Disable)
        .await
        .unwrap();
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "WebRtcEndpoint"]
    );
    rooms.set_filter(&alice, "marker", apply()).await.unwrap();
    assert_eq!(
        rooms.filter_element(&alice, "marker").unwrap(),
        made,
        "the same element"
    );
    rooms
        .set_filter(&alice, "marker", FilterAction::Remove)
        .await
        .unwrap();
    assert_eq!(rooms.filter_element(&alice, "marker").unwrap(), None);
    rooms
        .set_filter(&alice, "marker", FilterAction::Remove)
        .await
        .unwrap();

    rooms.set_filter(&alice, "marker", apply()).await.unwrap();
    rooms.unpublish(&alice).await.unwrap();
    rooms.leave(&alice).unwrap();
    assert_eq!(world.fake.elements(), []);
    rooms.leave(&id("bob")).unwrap();
    world.assert_nothing_left();
}

#[tokio::test]
async fn room_filters_reach_everyone_and_newcomers_before_their_answer() {
    let world = pair().await;
    let set = |state: Option<&str>, action| {
        let state = state.map(str::to_owned);
        world
            .clients
            .filters
            .lock()
            .insert("marker".to_owned(), (state, action));
    };
    world.take_log();
    set(Some("0"), FilterAction::Apply(filter("Marker")));
    world.rooms.update_filter("lab", "marker").await.unwrap();
    world.join("carol", "lab").await;
    assert_eq!(
        world.transcript(),
        [
            r#"alice ← custonNotification {"state":"0"}"#,
            r#"bob ← custonNotification {"state":"0"}"#,
            r#"carol ← custonNotification {"state":"0"}"#,
            r#"alice ← participantJoined {"id":"carol"}"#,
            r#"bob ← participantJoined {"id":"carol"}"#,
            r#"carol ← result [{"id":"alice","streams":[{"id":"webcam"}]},{"id":"bob"}]"#,
        ]
    );
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "Marker", "WebRtcEndpoint"]
    );
    assert!(
        world
            .rooms
            .filter_element(&id("carol"), "marker")
            .unwrap()
            .is_some()
    );

    set(None, FilterAction::Disable);
    world.rooms.update_filter("lab", "marker").await.unwrap();
    assert_eq!(
        path(&world, MediaKind::Video),
        ["PassThrough", "WebRtcEndpoint"]
    );
    world.take_log();
    world.join("dave", "lab").await;
    let custom = |line: &String| line.contains("custonNotification");
    assert!(
        !world.transcript().iter().any(custom),
        "no state, nothing to tell"
    );
}

#[tokio::test]
async fn a_room_of_the_application_survives_failed_joins() {
    let world = World::new();
    world.rooms.create_room("lab").unwrap();
    world.fake.once(
        |call| matches!(call, Call::CreatePipeline),
        Script::fail(Error::Timeout),
    );
    let join = Request::JoinRoom {
        room: "lab".to_owned(),
        user: "alice".to_owned(),
        data_channels: false,
        media_events: false,
    };
    let error = world.ask("alice", join).await.unwrap_err();
    assert_eq!(error, RoomError::pipeline("lab"));
    assert_eq!(world.rooms.rooms(), ["lab"]);
    world.join("alice", "lab").await;
    world.rooms.leave(&id("alice")).unwrap();
    world.assert_nothing_left();
}
