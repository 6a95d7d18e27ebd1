//! What happens while something else happens: leaving, closing and dropping in the middle of flows.
//!
//! Where time passes it is paused: `sleep` lets everything run that can, and then moves the clock.

use std::time::Duration;

use media::{Call, Error, ErrorKind, Event, Script};
use room::protocol::{Request, Response, RoomError};
use room::{Join, MutedMedia};
use tokio::time::{sleep, timeout};

use crate::world::{World, id, offering, publish, receive};

const SECOND: Duration = Duration::from_secs(1);

/// Every call of the media server takes a second.
fn slow(world: &World) {
    world.fake.on_call(|_| Some(Script::delay(SECOND)));
}

/// The next call of a kind takes ten seconds.
fn delay(world: &World, matches: fn(&Call) -> bool) {
    world.fake.once(matches, Script::delay(10 * SECOND));
}

fn is_pipeline(call: &Call) -> bool {
    matches!(call, Call::CreatePipeline)
}

fn is_offer(call: &Call) -> bool {
    matches!(call, Call::ProcessOffer { .. })
}

/// Does `act` while the request waits for the media server.
async fn meanwhile(
    world: &World,
    participant: &str,
    request: Request,
    act: impl FnOnce(),
) -> Result<Response, RoomError> {
    let (answer, ()) = tokio::join!(world.ask(participant, request), async {
        sleep(SECOND).await;
        act();
    });
    answer
}

fn join(user: &str) -> Request {
    Request::JoinRoom {
        room: "lab".to_owned(),
        user: user.to_owned(),
        data_channels: false,
        media_events: false,
    }
}

async fn two() -> World {
    let world = World::new();
    world.join("alice", "lab").await;
    world.join("bob", "lab").await;
    world.take_log();
    world
}

#[tokio::test(start_paused = true)]
async fn leaving_while_publishing_answers_once_and_publishes_nothing() {
    let world = two().await;
    delay(&world, is_offer);
    let evict = || world.rooms.evict(&id("alice")).unwrap();
    let answer = meanwhile(&world, "alice", publish(false), evict).await;
    assert_eq!(answer, Err(RoomError::participant_closed("alice")));
    assert_eq!(
        world.transcript(),
        [
            r#"bob ← participantLeft {"name":"alice"}"#,
            "alice ← participantEvicted {}",
            "alice ← error 103 Participant 'alice' has been closed",
        ]
    );
    assert_eq!(world.fake.elements(), []);
}

#[tokio::test(start_paused = true)]
async fn the_last_one_leaving_while_publishing_leaves_nothing() {
    let world = World::new();
    world.join("alice", "lab").await;
    slow(&world);
    let leave = || drop(world.rooms.leave(&id("alice")).unwrap());
    let answer = meanwhile(&world, "alice", publish(true), leave).await;
    assert_eq!(answer, Err(RoomError::participant_closed("alice")));
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_room_that_closes_while_a_publication_finishes_answers_once() {
    let world = two().await;
    delay(&world, |call| matches!(call, Call::GatherCandidates { .. }));
    let close = || drop(world.rooms.close_room("lab").unwrap());
    let answer = meanwhile(&world, "alice", publish(false), close).await;
    assert_eq!(answer, Err(RoomError::participant_closed("alice")));
    assert_eq!(world.take_log().len(), 3, "two are told, one is answered");
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn joining_again_while_the_old_publication_hangs_is_a_stay_of_its_own() {
    let world = two().await;
    delay(&world, is_offer);
    let again = async {
        sleep(SECOND).await;
        world.rooms.leave(&id("alice")).unwrap();
        world.join("alice", "lab").await;
    };
    let (answer, ()) = tokio::join!(world.ask("alice", publish(false)), again);
    assert_eq!(answer, Err(RoomError::participant_closed("alice")));
    assert_eq!(world.counts("lab"), (0, 0));
    assert_eq!(world.fake.elements(), []);
    world.publish("alice").await;
}

#[tokio::test(start_paused = true)]
async fn unpublishing_during_a_subscription_refuses_it() {
    let world = two().await;
    world.publish("alice").await;
    for request in [Request::UnpublishVideo, Request::LeaveRoom] {
        delay(&world, is_offer);
        let act = async {
            sleep(SECOND).await;
            world.ask("alice", request).await.unwrap();
        };
        let (answer, ()) = tokio::join!(world.ask("bob", receive("alice")), act);
        assert_eq!(answer, Err(RoomError::subscribe_answer("bob", "alice")));
        assert_eq!(world.fake.elements(), []);
        if world.rooms.participant(&id("alice")).is_ok() {
            world.publish("alice").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_is_replaced_during_a_subscription_refuses_it() {
    let world = two().await;
    world.publish("alice").await;
    delay(&world, is_offer);
    let act = async {
        sleep(SECOND).await;
        world.ask("alice", Request::UnpublishVideo).await.unwrap();
        world.publish("alice").await;
    };
    let (answer, ()) = tokio::join!(world.ask("bob", receive("alice")), act);
    assert_eq!(answer, Err(RoomError::subscribe_answer("bob", "alice")));
    assert_eq!(world.counts("lab"), (1, 0));
    assert_eq!(world.fake.elements().len(), 2, "the publisher's");
    world.subscribe("bob", "alice").await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_who_leaves_meanwhile_gets_its_answer() {
    let world = two().await;
    world.publish("alice").await;
    delay(&world, is_offer);
    let leave = || world.rooms.evict(&id("bob")).unwrap();
    let answer = meanwhile(&world, "bob", receive("alice"), leave).await;
    assert_eq!(answer, Err(RoomError::participant_closed("bob")));
    assert_eq!(world.fake.elements().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn joins_that_come_together_share_a_pipeline() {
    let world = World::new();
    delay(&world, is_pipeline);
    let joins = tokio::join!(
        world.ask("alice", join("alice")),
        world.ask("bob", join("bob")),
        world.ask("eve", join("alice")),
    );
    assert!(joins.0.is_ok() && joins.1.is_ok());
    assert_eq!(
        joins.2,
        Err(RoomError::user_exists("alice", "lab")),
        "the name is reserved"
    );
    assert_eq!(world.fake.count(is_pipeline), 1);
    assert_eq!(world.rooms.participants("lab").unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_fails_fails_all_who_wait_and_drops_the_room() {
    let world = World::new();
    let failing = Script {
        delay: SECOND,
        failure: Some(Error::Unavailable("no".to_owned())),
        ..Script::default()
    };
    world.fake.once(is_pipeline, failing);
    let joins = tokio::join!(
        world.ask("alice", join("alice")),
        world.ask("bob", join("bob")),
    );
    let error = RoomError::pipeline("lab");
    assert_eq!(joins, (Err(error.clone()), Err(error)));
    world.assert_nothing_left();
    world.join("alice", "lab").await;
}

#[tokio::test]
async fn a_lost_media_server_ends_its_rooms_and_the_next_join_makes_them_again() {
    let world = World::new();
    world.rooms.create_room("lab").unwrap();
    for user in ["alice", "bob"] {
        world.join(user, "lab").await;
        world.join(&format!("{user}2"), "other").await;
    }
    world.publish("alice").await;
    world.take_log();
    let lab = world.rooms.pipeline(&id("alice")).unwrap();
    let lost = Event::Error {
        kind: ErrorKind::ServerLost,
        description: "join again".to_owned(),
        code: 40007,
    };
    world.fake.fire_pipeline(&lab, lost);
    let error = r#"mediaError {"error":"MEDIA_SERVER_LOST: join again(errCode=40007)"}"#;
    let closed = r#"roomClosed {"room":"lab"}"#;
    let told = ["alice", "bob"].map(|user| format!("{user} ← {error}"));
    let closing = ["alice", "bob"].map(|user| format!("{user} ← {closed}"));
    assert_eq!(world.transcript(), [told, closing].concat());
    assert_eq!(world.rooms.participants("lab").unwrap(), []);
    assert_eq!(world.rooms.participants("other").unwrap().len(), 2);

    world.join("alice", "lab").await;
    world.publish("alice").await;
    assert_ne!(world.rooms.pipeline(&id("alice")).unwrap(), lab);
    assert!(!world.fake.pipelines().contains(&lab));
}

#[tokio::test]
async fn a_full_media_server_takes_no_more_rooms() {
    let world = World::new();
    let full = Error::Full("no media server is up".to_owned());
    world.fake.once(is_pipeline, Script::fail(full));
    let refused = world.ask("alice", join("alice")).await;
    assert_eq!(refused, Err(RoomError::no_resources()));
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn who_is_evicted_while_joining_does_not_arrive() {
    let world = World::new();
    delay(&world, is_pipeline);
    let evict = || world.rooms.evict(&id("alice")).unwrap();
    let answer = meanwhile(&world, "alice", join("alice"), evict).await;
    assert_eq!(answer, Err(RoomError::room_closed("lab")));
    world.assert_nothing_left();

    world.rooms.create_room("lab").unwrap();
    delay(&world, is_pipeline);
    let answer = meanwhile(&world, "alice", join("alice"), evict).await;
    assert_eq!(answer, Err(RoomError::participant_closed("alice")));
    assert_eq!(world.rooms.participants("lab").unwrap(), []);
    world.rooms.close();
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_room_that_closes_while_it_is_joined_keeps_nobody() {
    let world = World::new();
    delay(&world, is_pipeline);
    let close = || drop(world.rooms.close_room("lab").unwrap());
    let answer = meanwhile(&world, "alice", join("alice"), close).await;
    assert_eq!(answer, Err(RoomError::room_closed("lab")));
    world.assert_nothing_left();

    delay(&world, is_pipeline);
    let answer = meanwhile(&world, "alice", join("alice"), || world.rooms.close()).await;
    assert_eq!(answer, Err(RoomError::room_closed("lab")));
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_last_one_leaving_does_not_close_the_room_under_a_newcomer() {
    let world = World::new();
    world.rooms.create_room("lab").unwrap();
    delay(&world, is_pipeline);
    let second = async {
        sleep(SECOND).await;
        world.ask("bob", join("bob")).await
    };
    let first = async {
        world.ask("alice", join("alice")).await.unwrap();
        world.rooms.leave(&id("alice")).unwrap();
    };
    let ((), second) = tokio::join!(first, second);
    assert!(second.is_ok());
    world.publish("bob").await;
    world.rooms.leave(&id("bob")).unwrap();
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_dropped_passes_the_pipeline_on() {
    let world = World::new();
    delay(&world, is_pipeline);
    let dropped = timeout(SECOND, world.ask("alice", join("alice")));
    let (dropped, joined) = tokio::join!(dropped, world.ask("bob", join("bob")));
    assert!(dropped.is_err());
    assert_eq!(joined, Ok(Response::Joined(Vec::new())));
    assert_eq!(world.fake.pipelines().len(), 1);
    world.join("alice", "lab").await;
}

/// Drops a request after every possible number of calls, and expects it to be undone.
async fn dropped_anywhere(user: &str, request: fn() -> Request) {
    for seconds in 1.. {
        let world = World::new();
        world.join("alice", "lab").await;
        world.publish("alice").await;
        if user != "new" {
            world.join(user, "lab").await;
        }
        let before = (world.fake.elements(), world.fake.connection_count());
        slow(&world);
        let patience = seconds * SECOND - SECOND / 2;
        let outcome = timeout(patience, world.ask(user, request())).await;
        if outcome.is_ok() {
            assert!(seconds > 4, "the request made some calls");
            return;
        }
        assert_eq!(
            (world.fake.elements(), world.fake.connection_count()),
            before
        );
        world.fake.obey();
        world.ask(user, request()).await.unwrap();
        world.rooms.close();
        world.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_publication_is_undone() {
    dropped_anywhere("bob", || publish(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_is_undone() {
    dropped_anywhere("bob", || receive("alice")).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_first_join_leaves_no_room() {
    let world = World::new();
    slow(&world);
    let dropped = timeout(SECOND / 2, world.ask("alice", join("alice"))).await;
    assert!(dropped.is_err());
    world.assert_nothing_left();
    assert!(world.ask("alice", join("alice")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_media_server_that_hangs_is_given_up() {
    let forever = || Script::delay(1_000_000 * SECOND);
    let world = World::new();
    world.fake.once(is_pipeline, forever());
    let error = world.ask("alice", join("alice")).await.unwrap_err();
    assert_eq!(error, RoomError::pipeline("lab"));
    world.assert_nothing_left();

    let world = two().await;
    let creates = |call: &Call| matches!(call, Call::CreateElement { .. });
    world.fake.once(creates, forever());
    let error = world.ask("alice", publish(false)).await.unwrap_err();
    assert_eq!(error, RoomError::publisher_endpoint_timeout());
    world.publish("alice").await;
    world.fake.once(creates, forever());
    let error = world.ask("bob", receive("alice")).await.unwrap_err();
    assert_eq!(error, RoomError::subscriber_endpoint_timeout());
    let before = tokio::time::Instant::now();
    world.fake.once(is_offer, forever());
    let error = world.ask("bob", receive("alice")).await.unwrap_err();
    assert_eq!(error, RoomError::subscribe_answer("bob", "alice"));
    assert_eq!(before.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_participant_wait_for_each_other() {
    let world = two().await;
    slow(&world);
    let alice = id("alice");
    let (first, second, muted, unpublished) = tokio::join!(
        world.rooms.publish(&alice, offering(None)),
        world.rooms.publish(&alice, offering(None)),
        world.rooms.mute_published(&alice, MutedMedia::All),
        world.rooms.unpublish(&alice),
    );
    assert!(first.is_ok());
    assert_eq!(second, Err(RoomError::publish_answer("alice")));
    assert_eq!((muted, unpublished), (Ok(()), Ok(())));
    assert_eq!(world.fake.elements(), []);
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_media() {
    let world = two().await;
    slow(&world);
    let publishing = tokio::spawn({
        let world = world.clone();
        async move { world.ask("alice", publish(false)).await }
    });
    sleep(SECOND / 2).await;
    let before = tokio::time::Instant::now();
    world.ask("bob", Request::LeaveRoom).await.unwrap();
    world.rooms.close_room("lab").unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(publishing.await.unwrap().is_err());
    world.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn removing_an_element_twice_at_once_removes_it_once() {
    let world = two().await;
    let alice = id("alice");
    let kind = media::ElementKind::Other("Filter".to_owned());
    let element = world.rooms.create_element(&alice, kind).await.unwrap();
    world
        .rooms
        .add_element(&alice, &element, None)
        .await
        .unwrap();
    world.publish("alice").await;
    slow(&world);
    let (first, second) = tokio::join!(
        world.rooms.remove_element(&alice, &element),
        world.rooms.remove_element(&alice, &element),
    );
    assert_eq!(first, Ok(()));
    assert_eq!(second, Err(RoomError::unknown_element("alice", &element)));
}

#[tokio::test(start_paused = true)]
async fn an_rtp_participant_can_be_joined_by_the_application_meanwhile() {
    let world = World::new();
    delay(&world, is_pipeline);
    let gateway = Join {
        room: "lab".to_owned(),
        user: "gateway".to_owned(),
        data_channels: false,
        web: false,
        media_events: false,
    };
    let gateway_id = id("gateway");
    let (web, rtp) = tokio::join!(
        world.ask("alice", join("alice")),
        world.rooms.join(&gateway_id, gateway),
    );
    assert!(web.is_ok());
    assert_eq!(rtp.unwrap().len(), 1);
}
