//! What Kurento Room's `RoomManagerTest` asserts about its SDK.

use media::{Call, ElementKind, Error, Fake, MediaKind};
use room::{Join, Loopback, MutedMedia};

use crate::world::{
    OFFER, World, answering, candidate, class, failure, id, offering, pipeline_failure,
};

const USERS: usize = 10;
const ROOMS: usize = 3;

fn connects(world: &World, source: &str) -> usize {
    world
        .fake
        .count(|call| matches!(call, Call::Connect { source: from, .. } if class(from) == source))
}

fn disconnects(world: &World, source: &str) -> usize {
    world.fake.count(
        |call| matches!(call, Call::Disconnect { source: from, .. } if class(from) == source),
    )
}

fn pipelines_made(world: &World) -> usize {
    world
        .fake
        .count(|call| matches!(call, Call::CreatePipeline))
}

/// Publishes by the server's offer.
async fn publish_inverted(world: &World, user: &str, loopback: Option<Loopback>) {
    let offer = world.rooms.publish_offer(&id(user)).await.unwrap();
    assert_eq!(offer, Fake::OFFER);
    assert_eq!(world.counts("room").0, 0, "an offer is no publication");
    let local = world
        .rooms
        .publish(&id(user), answering(loopback))
        .await
        .unwrap();
    assert_eq!(local, Fake::UPDATED_OFFER);
    assert_eq!(world.counts("room").0, 1);
}

fn leave_first(world: &World, users: &[String]) {
    let remaining = world.rooms.leave(&id(&users[0])).unwrap();
    assert_eq!(remaining, world.rooms.participants("room").unwrap());
    assert!(remaining.iter().all(|user| user.name != users[0]));
    assert_eq!(remaining.len(), users.len() - 1);
    assert_eq!(world.counts("room"), (0, 0));
}

#[tokio::test]
async fn join_new_room() {
    let world = World::new();
    assert!(world.rooms.rooms().is_empty());
    let peers = world.join("user0", "room").await;
    assert!(peers.is_empty());
    assert_eq!(world.rooms.rooms(), ["room"]);
    let users = world.rooms.participants("room").unwrap();
    assert_eq!((users.len(), users[0].streaming), (1, false));
    assert_eq!(pipelines_made(&world), 1);
}

#[tokio::test]
async fn rtp_join_new_room() {
    let world = World::new();
    assert!(world.join_rtp("user0", "room").await.is_empty());
    assert_eq!(world.rooms.participants("room").unwrap().len(), 1);
    assert_eq!(pipelines_made(&world), 1);
}

#[tokio::test]
async fn join_fails_where_rooms_must_be_created_before() {
    let world = World::new();
    world.clients.refused.lock().push("user0".to_owned());
    let join = Join {
        room: "room".to_owned(),
        user: "user0".to_owned(),
        data_channels: false,
        web: true,
        media_events: false,
    };
    let error = world
        .rooms
        .join(&id("user0"), join.clone())
        .await
        .unwrap_err();
    assert!(error.message.contains("must be created before"));
    assert!(world.rooms.rooms().is_empty());
    world.rooms.create_room("room").unwrap();
    world.rooms.join(&id("user0"), join).await.unwrap();
}

#[tokio::test]
async fn join_many_users_one_room() {
    let world = World::new();
    for (at, user) in (0..USERS).map(|at| (at, format!("user{at}"))) {
        let peers = world.join(&user, "room").await;
        assert_eq!(peers.len(), at);
        assert!(peers.iter().all(|peer| peer.id != user));
        assert_eq!(world.rooms.participants("room").unwrap().len(), at + 1);
    }
    assert_eq!(pipelines_made(&world), 1);
}

#[tokio::test]
async fn join_many_web_users_and_one_rtp() {
    let world = World::new();
    world.join_many(USERS, "room").await;
    assert_eq!(world.join_rtp("rtp", "room").await.len(), USERS);
    assert_eq!(world.rooms.participants("room").unwrap().len(), USERS + 1);
}

#[tokio::test]
async fn join_many_users_many_rooms() {
    let world = World::new();
    for room in 0..ROOMS {
        world.rooms.create_room(&format!("room{room}")).unwrap();
    }
    for user in 0..USERS {
        let room = format!("room{}", user % ROOMS);
        let peers = world.join(&format!("user{user}"), &room).await;
        assert_eq!(peers.len(), user / ROOMS);
    }
    assert_eq!(pipelines_made(&world), ROOMS);
}

#[tokio::test]
async fn leave_room() {
    let world = World::new();
    let users = world.join_many(USERS + 1, "room").await;
    leave_first(&world, &users);
}

#[tokio::test]
async fn rtp_leave_room() {
    let world = World::new();
    world.join_many(USERS, "room").await;
    world.join_rtp("rtp", "room").await;
    let remaining = world.rooms.leave(&id("rtp")).unwrap();
    assert_eq!(remaining, world.rooms.participants("room").unwrap());
    assert_eq!(remaining.len(), USERS);
}

#[tokio::test]
async fn publisher_lifecycle() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    assert_eq!(world.counts("room"), (1, 0));
    world.subscribe_all(&users).await;
    assert_eq!(world.counts("room"), (1, USERS - 1));
    world.rooms.unpublish(&id("user0")).await.unwrap();
    assert_eq!(world.counts("room"), (0, 0));
    assert_eq!(world.fake.elements(), []);
}

#[tokio::test]
async fn rtp_publisher_lifecycle() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.join_rtp("rtp", "room").await;
    let answer = world
        .rooms
        .publish(&id("rtp"), offering(None))
        .await
        .unwrap();
    assert_eq!(answer, Fake::ANSWER);
    assert_eq!(world.counts("room"), (1, 0));
    let kinds: Vec<_> = world
        .fake
        .elements()
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert!(kinds.contains(&ElementKind::RtpEndpoint {
        sdes: None,
        ipv6: false
    }));
    assert_eq!(
        world
            .fake
            .count(|call| matches!(call, Call::GatherCandidates { .. })),
        0
    );
    for user in &users {
        world.subscribe(user, "rtp").await;
    }
    assert_eq!(world.counts("room"), (1, USERS));
    world.rooms.unpublish(&id("rtp")).await.unwrap();
    assert_eq!(world.counts("room"), (0, 0));
}

#[tokio::test]
async fn inverted_publisher_lifecycle() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    publish_inverted(&world, "user0", None).await;
    world.subscribe_all(&users).await;
    assert_eq!(world.counts("room"), (1, USERS - 1));
    world.rooms.unpublish(&id("user0")).await.unwrap();
    assert_eq!(world.counts("room"), (0, 0));
}

#[tokio::test]
async fn publish_and_leave() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    assert_eq!(
        (
            connects(&world, "WebRtcEndpoint"),
            connects(&world, "PassThrough")
        ),
        (1, 0)
    );
    world.subscribe_all(&users).await;
    assert_eq!(connects(&world, "WebRtcEndpoint"), 1);
    assert_eq!(connects(&world, "PassThrough"), USERS - 1);
    leave_first(&world, &users);
}

#[tokio::test]
async fn inverted_publish_and_leave() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    publish_inverted(&world, "user0", None).await;
    assert_eq!(
        (
            connects(&world, "WebRtcEndpoint"),
            connects(&world, "PassThrough")
        ),
        (1, 0)
    );
    world.subscribe_all(&users).await;
    assert_eq!(connects(&world, "PassThrough"), USERS - 1);
    leave_first(&world, &users);
}

#[tokio::test]
async fn publish_with_loopback_error() {
    let world = World::new();
    world.join_many(USERS, "room").await;
    world.fake.on_call(|call| {
        let looping =
            matches!(call, Call::Connect { source, .. } if class(source) == "PassThrough");
        let error = Error::Unavailable("Loopback connection error test".to_owned());
        looping.then(|| media::Script::fail(error))
    });
    let looping = offering(Some(Loopback::default()));
    let error = world
        .rooms
        .publish(&id("user0"), looping)
        .await
        .unwrap_err();
    assert_eq!(error.code, 304);
    assert!(error.message.contains("Loopback connection error test"));
    assert_eq!(world.counts("room"), (0, 0));
    assert_eq!(
        world.fake.elements(),
        [],
        "a failed publication leaves nothing"
    );
}

#[tokio::test]
async fn publish_with_loopback() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    let looping = offering(Some(Loopback::default()));
    world.rooms.publish(&id("user0"), looping).await.unwrap();
    assert_eq!(
        (
            connects(&world, "WebRtcEndpoint"),
            connects(&world, "PassThrough")
        ),
        (1, 1)
    );
    world.subscribe_all(&users).await;
    assert_eq!(connects(&world, "PassThrough"), USERS);
    assert_eq!(
        world.counts("room"),
        (1, USERS - 1),
        "a loopback is no subscription"
    );
    leave_first(&world, &users);
}

#[tokio::test]
async fn inverted_publish_with_loopback() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    publish_inverted(&world, "user0", Some(Loopback::default())).await;
    assert_eq!(
        (
            connects(&world, "WebRtcEndpoint"),
            connects(&world, "PassThrough")
        ),
        (1, 1)
    );
    world.subscribe_all(&users).await;
    assert_eq!(connects(&world, "PassThrough"), USERS);
    assert_eq!(world.counts("room"), (1, USERS - 1));
    leave_first(&world, &users);
}

async fn publish_with_alternative_source(kind: Option<MediaKind>) {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    let hub_port = ElementKind::Other("HubPort".to_owned());
    let source = world
        .rooms
        .create_element(&id("user0"), hub_port)
        .await
        .unwrap();
    let loopback = Loopback {
        source: Some(source.clone()),
        kind,
    };
    world
        .rooms
        .publish(&id("user0"), offering(Some(loopback)))
        .await
        .unwrap();
    assert_eq!(
        (
            connects(&world, "WebRtcEndpoint"),
            connects(&world, "PassThrough")
        ),
        (1, 0)
    );
    let looped = |call: &Call| matches!(call, Call::Connect { source: from, kind: as_kind, .. } if *from == source && *as_kind == kind);
    assert_eq!(world.fake.count(looped), 1);
    world.subscribe_all(&users).await;
    assert_eq!(connects(&world, "PassThrough"), USERS - 1);
    leave_first(&world, &users);
}

#[tokio::test]
async fn publish_with_alternative_loopback_source() {
    publish_with_alternative_source(None).await;
}

#[tokio::test]
async fn publish_with_alternative_loopback_source_audio_type() {
    publish_with_alternative_source(Some(MediaKind::Audio)).await;
}

#[tokio::test]
async fn mute_unmute_published() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    world.subscribe_all(&users).await;
    world.take_log();
    world
        .rooms
        .mute_published(&id("user0"), MutedMedia::All)
        .await
        .unwrap();
    assert_eq!(disconnects(&world, "WebRtcEndpoint"), 1);
    world.rooms.unmute_published(&id("user0")).await.unwrap();
    assert_eq!(connects(&world, "WebRtcEndpoint"), 2);
    assert_eq!(world.transcript(), [""; 0], "nobody is told of mutes");
    leave_first(&world, &users);
}

#[tokio::test]
async fn mute_unmute_subscribed() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    world.subscribe_all(&users).await;
    let (rooms, first) = (&world.rooms, id("user1"));
    rooms
        .mute_subscribed(&first, "user0", MutedMedia::All)
        .await
        .unwrap();
    assert_eq!(disconnects(&world, "PassThrough"), 1);
    rooms.unmute_subscribed(&first, "user0").await.unwrap();
    assert_eq!(connects(&world, "PassThrough"), USERS);
    leave_first(&world, &users);
}

#[tokio::test(start_paused = true)]
async fn add_media_filter_in_parallel() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    let filter = ElementKind::Other("FaceOverlayFilter".to_owned());
    let filter = world
        .rooms
        .create_element(&id("user0"), filter)
        .await
        .unwrap();
    world.fake.once(
        |call| matches!(call, Call::ProcessOffer { .. }),
        media::Script::delay(std::time::Duration::from_secs(1)),
    );
    let owner = id("user0");
    let (published, added) = tokio::join!(
        world.publish("user0"),
        world.rooms.add_element(&owner, &filter, None),
    );
    added.unwrap();
    let () = published;
    world.subscribe_all(&users).await;
    assert_eq!(connects(&world, "FaceOverlayFilter"), 1);
    let through = |call: &Call| matches!(call, Call::Connect { sink, .. } if *sink == filter);
    assert_eq!(world.fake.count(through), 1);
    leave_first(&world, &users);
}

#[tokio::test]
async fn add_media_filter_before_publishing() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    let filter = ElementKind::Other("FaceOverlayFilter".to_owned());
    let filter = world
        .rooms
        .create_element(&id("user0"), filter)
        .await
        .unwrap();
    world
        .rooms
        .add_element(&id("user0"), &filter, None)
        .await
        .unwrap();
    world.publish("user0").await;
    assert_eq!(
        world.take_wiring(),
        [
            "connect WebRtcEndpoint → FaceOverlayFilter",
            "connect FaceOverlayFilter → PassThrough",
        ]
    );
    world.subscribe_all(&users).await;
    leave_first(&world, &users);
    assert_eq!(world.fake.elements(), []);
}

#[tokio::test]
async fn ice_candidate() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    world.subscribe_all(&users).await;
    world.take_log();
    let last = world.endpoints().pop().unwrap();
    world
        .fake
        .fire(&last, media::Event::IceCandidateFound(candidate()));
    assert_eq!(
        world.transcript(),
        [
            r#"user9 ← iceCandidate {"endpointName":"user0","sdpMLineIndex":1,"sdpMid":"audio","candidate":"1 candidate test"}"#
        ]
    );
}

#[tokio::test]
async fn media_error() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    world.take_log();
    world.fake.fire(&world.endpoints()[0], failure());
    let error = r#"{"error":"TEST_ERR: Fake media error(errCode=101)"}"#;
    assert_eq!(world.transcript(), [format!("user0 ← mediaError {error}")]);
    world.subscribe_all(&users).await;
    world.take_log();
    world
        .fake
        .fire(&world.endpoints().pop().unwrap(), failure());
    assert_eq!(world.transcript(), [format!("user9 ← mediaError {error}")]);
}

#[tokio::test]
async fn pipeline_error() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.take_log();
    world
        .fake
        .fire_pipeline(&world.fake.pipelines()[0], pipeline_failure());
    let error = r#"mediaError {"error":"TEST_PP_ERR: Fake pipeline error(errCode=505)"}"#;
    let expected: Vec<_> = users
        .iter()
        .map(|user| format!("{user} ← {error}"))
        .collect();
    assert_eq!(world.transcript(), expected);
}

#[tokio::test]
async fn subscriptions_carry_the_clients_offer() {
    let world = World::new();
    world.join_many(2, "room").await;
    world.publish("user0").await;
    world.subscribe("user1", "user0").await;
    let offered = |call: &Call| matches!(call, Call::ProcessOffer { offer, .. } if offer == OFFER);
    assert_eq!(world.fake.count(offered), 2);
}
