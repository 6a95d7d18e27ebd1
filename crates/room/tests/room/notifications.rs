//! What Kurento Room's `NotificationRoomManagerWithDefaultHandlerTest` asserts: who is answered and
//! notified, how often and with what.

use media::Event;
use room::protocol::{Request, Response};

use crate::world::{Sent, World, candidate, failure, id, pipeline_failure, unsubscribe};

const USERS: usize = 10;
const ROOMS: usize = 3;

/// Answers, of which none is an error, and notifications of one method since the last count.
fn count(world: &World, method: &str) -> (usize, usize) {
    let log = world.take_log();
    let answers = log.iter().filter(|sent| match sent {
        Sent::Answer(_, answer) => answer.is_ok() || panic!("{answer:?}"),
        _ => false,
    });
    let notifications = log.iter().filter(|sent| match sent {
        Sent::Notification(_, notification) => notification.method() == method,
        _ => false,
    });
    (answers.count(), notifications.count())
}

fn pairs(users: usize) -> usize {
    users * (users - 1) / 2
}

#[tokio::test]
async fn join_new_room() {
    let world = World::new();
    world.join("user0", "room").await;
    assert_eq!(count(&world, "participantJoined"), (1, 0));
}

#[tokio::test]
async fn join_many_users_one_room() {
    let world = World::new();
    world.join_many(USERS, "room").await;
    let log = world.take_log();
    let joined = log.iter().filter_map(|sent| match sent {
        Sent::Notification(to, notification) => Some((to, notification.params())),
        _ => None,
    });
    assert!(
        joined
            .clone()
            .all(|(to, params)| params["id"] != to.as_str())
    );
    assert_eq!(joined.count(), pairs(USERS));
    assert_eq!(log.len(), USERS + pairs(USERS));
}

#[tokio::test]
async fn join_many_users_many_rooms() {
    let world = World::new();
    for user in 0..USERS * ROOMS {
        world
            .join(&format!("user{user}"), &format!("room{}", user % ROOMS))
            .await;
    }
    let expected = (USERS * ROOMS, ROOMS * pairs(USERS));
    assert_eq!(count(&world, "participantJoined"), expected);
    assert_eq!(world.fake.pipelines().len(), ROOMS);
}

#[tokio::test]
async fn leave_room() {
    let world = World::new();
    let users = world.join_many(USERS + 1, "room").await;
    world.take_log();
    let leaver = &users[USERS];
    assert_eq!(
        world.ask(leaver, Request::LeaveRoom).await,
        Ok(Response::Empty)
    );
    let left = format!(r#"participantLeft {{"name":"{leaver}"}}"#);
    let mut expected: Vec<_> = users[..USERS]
        .iter()
        .map(|user| format!("{user} ← {left}"))
        .collect();
    expected.push(format!("{leaver} ← result {{}}"));
    expected.push(format!("{leaver} closed"));
    assert_eq!(world.transcript(), expected);
}

#[tokio::test]
async fn one_publisher() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.take_log();
    world.publish("user0").await;
    assert_eq!(count(&world, "participantPublished"), (1, USERS - 1));
    world.subscribe_all(&users).await;
    assert_eq!(count(&world, ""), (USERS - 1, 0));
    world.ask("user0", Request::UnpublishVideo).await.unwrap();
    assert_eq!(count(&world, "participantUnpublished"), (1, USERS - 1));
    for user in &users[1..] {
        let answer = world.ask(user, unsubscribe("user0")).await;
        assert_eq!(answer, Ok(Response::Empty), "also after unpublishing");
    }
    assert_eq!(world.counts("room"), (0, 0));
}

#[tokio::test]
async fn join_and_publish() {
    let world = World::new();
    for (at, user) in (0..USERS).map(|at| (at, format!("user{at}"))) {
        let peers = world.join(&user, "room").await;
        assert_eq!(peers.len(), at);
        let webcam = Some(vec!["webcam".to_owned()]);
        assert!(peers.iter().all(|peer| peer.streams == webcam));
        world.publish(&user).await;
    }
    let log = world.take_log();
    let notified = |method: &str| {
        let of_method = log.iter().filter(|sent| match sent {
            Sent::Notification(_, notification) => notification.method() == method,
            _ => false,
        });
        of_method.count()
    };
    assert_eq!(notified("participantJoined"), pairs(USERS));
    assert_eq!(notified("participantPublished"), pairs(USERS));
}

#[tokio::test]
async fn many_publishers() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    for user in &users {
        world.publish(user).await;
    }
    for (at, publisher) in users.iter().enumerate() {
        for user in users.iter().filter(|user| *user != publisher) {
            world.subscribe(user, publisher).await;
        }
        let subscribers = if at == 0 { USERS - 1 } else { USERS };
        assert_eq!(world.counts("room"), (USERS, subscribers));
    }
    for user in &users {
        let others: Vec<_> = users.iter().filter(|other| *other != user).collect();
        let names = |peers: Vec<room::UserParticipant>| -> Vec<String> {
            peers.into_iter().map(|peer| peer.name).collect()
        };
        assert!(
            names(world.rooms.peer_publishers(&id(user)).unwrap())
                .iter()
                .eq(others.clone())
        );
        assert!(
            names(world.rooms.peer_subscribers(&id(user)).unwrap())
                .iter()
                .eq(others)
        );
    }
    for (at, user) in users.iter().enumerate() {
        world.ask(user, Request::UnpublishVideo).await.unwrap();
        let subscribers = match USERS - 1 - at {
            0 => 0,
            1 => USERS - 1,
            _ => USERS,
        };
        assert_eq!(world.counts("room"), (USERS - 1 - at, subscribers));
    }
    assert_eq!(world.fake.elements(), []);
}

#[tokio::test]
async fn send_many_messages() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.take_log();
    for user in &users {
        let request = Request::SendMessage {
            message: format!("hello from {user}"),
            user: user.clone(),
            room: "room".to_owned(),
        };
        world.ask(user, request).await.unwrap();
        let message = format!(
            r#"sendMessage {{"room":"room","user":"{user}","message":"hello from {user}"}}"#
        );
        let mut expected = vec![format!("{user} ← result {{}}")];
        expected.extend(users.iter().map(|to| format!("{to} ← {message}")));
        assert_eq!(world.transcript(), expected);
    }
}

#[tokio::test]
async fn ice_candidate() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    world.subscribe_all(&users).await;
    world.take_log();
    world
        .fake
        .fire(&world.endpoints()[1], Event::IceCandidateFound(candidate()));
    assert_eq!(
        world.transcript(),
        [
            r#"user1 ← iceCandidate {"endpointName":"user0","sdpMLineIndex":1,"sdpMid":"audio","candidate":"1 candidate test"}"#
        ]
    );
    world.ask("user0", Request::UnpublishVideo).await.unwrap();
    world.ask("user1", unsubscribe("user0")).await.unwrap();
}

#[tokio::test]
async fn media_error() {
    let world = World::new();
    let users = world.join_many(USERS, "room").await;
    world.publish("user0").await;
    world.subscribe_all(&users).await;
    world.take_log();
    world.fake.fire(&world.endpoints()[0], failure());
    world.fake.fire(&world.endpoints()[1], failure());
    let error = r#"mediaError {"error":"TEST_ERR: Fake media error(errCode=101)"}"#;
    let expected = [format!("user0 ← {error}"), format!("user1 ← {error}")];
    assert_eq!(world.transcript(), expected);
}

#[tokio::test]
async fn pipeline_error() {
    let world = World::new();
    world.join_many(USERS, "room").await;
    world.take_log();
    world
        .fake
        .fire_pipeline(&world.fake.pipelines()[0], pipeline_failure());
    assert_eq!(count(&world, "mediaError"), (0, USERS));
}
