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

mod application;
mod messages;
mod refusals;

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
