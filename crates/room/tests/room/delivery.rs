//! What subscribers are sent: their wishes, the room's selection, and who is told what became of it.
//!
//! Where time passes it is paused: `sleep` lets everything run that can, and then moves the clock.

use std::time::Duration;

use media::{
    Call, Delivery, ElementId, Error, Event, Hold, LayerDemand, MediaKind, PauseReason, Script,
    VideoDelivery, VideoLayer, VideoPriority,
};
use room::protocol::{Request, Response, RoomError};
use room::{Options, Selection};
use tokio::task::JoinHandle;

use crate::world::{World, id, unsubscribe, wish};

/// Long enough for whatever is under way, and shorter than anything that waits.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn run(world: &World) -> JoinHandle<()> {
    let rooms = world.rooms.clone();
    tokio::spawn(async move { rooms.run().await })
}

/// Everyone publishes and watches everyone else; the first of them is an old client.
async fn meeting(selection: Selection, users: &[&str]) -> (World, JoinHandle<()>) {
    let world = World::with(Options {
        selection,
        ..Options::default()
    });
    let running = run(&world);
    for (at, user) in users.iter().enumerate() {
        match at {
            0 => drop(world.join(user, "lab").await),
            _ => world.join_modern(user, "lab").await,
        }
        world.publish(user).await;
    }
    for user in users {
        for other in users.iter().filter(|other| *other != user) {
            world.subscribe(user, other).await;
        }
    }
    settle().await;
    world.take_log();
    world.fake.forget_calls();
    world.clients.changes.lock().clear();
    (world, running)
}

/// The endpoint with which `user` publishes, and those with which it watches others in their order.
fn endpoints(world: &World, users: &[&str], user: &str) -> (ElementId, Vec<ElementId>) {
    let all = world.endpoints();
    let at = users.iter().position(|other| *other == user).unwrap();
    let (own, watching) = all.split_at(users.len());
    let watching = watching.chunks(users.len() - 1).nth(at).unwrap();
    (own[at].clone(), watching.to_vec())
}

/// What the media server was told since the last call, in no order that matters.
fn deliveries(world: &World) -> Vec<(ElementId, Delivery)> {
    let calls = world.fake.calls();
    world.fake.forget_calls();
    let deliveries = calls.into_iter().filter_map(|call| match call {
        Call::SetDelivery { element, delivery } => Some((element, delivery)),
        _ => None,
    });
    let mut deliveries: Vec<_> = deliveries.collect();
    deliveries.sort_by(|(one, _), (other, _)| one.cmp(other));
    deliveries
}

fn sent(spatial: u8) -> Event {
    Event::VideoDeliveryChanged(VideoDelivery::Sent {
        layer: VideoLayer {
            spatial,
            temporal: 2,
        },
        spatial_layers: 3,
        height: 180 << spatial,
    })
}

fn paused(reason: PauseReason) -> Event {
    Event::VideoDeliveryChanged(VideoDelivery::Paused(reason))
}

const USERS: [&str; 4] = ["ann", "ben", "cat", "dan"];

#[tokio::test(start_paused = true)]
async fn wishes_reach_the_media_server() {
    let (world, _running) = meeting(Selection::default(), &USERS).await;
    let small = Delivery {
        height_max: Some(180),
        priority: VideoPriority::Low,
        ..Delivery::default()
    };
    assert_eq!(
        world.ask("ben", wish("cat", small)).await,
        Ok(Response::Empty)
    );
    let (_, bens) = endpoints(&world, &USERS, "ben");
    assert_eq!(deliveries(&world), [(bens[1].clone(), small)]);
    world.ask("ben", wish("cat", small)).await.unwrap();
    assert_eq!(deliveries(&world), [], "it knows");
    world
        .rooms
        .set_delivery(&id("ben"), "cat", Delivery::default())
        .await
        .unwrap();
    assert_eq!(deliveries(&world), [(bens[1].clone(), Delivery::default())]);
}

#[tokio::test]
async fn wishes_without_a_subscription_are_refused() {
    let world = World::new();
    world.join("ann", "lab").await;
    world.join("ben", "lab").await;
    world.publish("ann").await;
    let anything = Delivery::default();
    let check = async |user, of, error| {
        assert_eq!(world.ask(user, wish(of, anything)).await, Err(error));
    };
    check("ben", "ann", RoomError::not_subscribed("ben", "ann")).await;
    check("ann", "ann", RoomError::not_subscribed("ann", "ann")).await;
    check("ben", "eve", RoomError::user_not_found("eve", "lab")).await;
    check("eve", "ann", RoomError::participant_not_found("eve")).await;
    world.subscribe("ben", "ann").await;
    world.ask("ben", unsubscribe("ann")).await.unwrap();
    check("ben", "ann", RoomError::not_subscribed("ben", "ann")).await;
}

#[tokio::test]
async fn a_media_server_without_deliveries_is_tolerated() {
    let world = World::new();
    world.fake.on_call(|call| match call {
        Call::SetDelivery { element, .. } => Some(Script::fail(Error::Unsupported {
            element: element.clone(),
            operation: "setDelivery",
        })),
        _ => None,
    });
    world.join("ann", "lab").await;
    world.join("ben", "lab").await;
    world.publish("ann").await;
    world.subscribe("ben", "ann").await;
    let less = Delivery {
        video: false,
        ..Delivery::default()
    };
    assert_eq!(
        world.ask("ben", wish("ann", less)).await,
        Ok(Response::Empty)
    );
}

#[tokio::test]
async fn a_media_server_that_fails_is_told_to_who_asked() {
    let (world, _running) = meeting(Selection::default(), &USERS[..2]).await;
    let less = Delivery {
        video: false,
        ..Delivery::default()
    };
    let telling = |call: &Call| matches!(call, Call::SetDelivery { .. });
    let failure = Error::Unavailable("gone".to_owned());
    world.fake.once(telling, Script::fail(failure.clone()));
    assert_eq!(
        world.ask("ben", wish("ann", less)).await,
        Err(RoomError::endpoint(true, &failure))
    );
    world.ask("ben", wish("ann", less)).await.unwrap();
    assert_eq!(deliveries(&world).len(), 2, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_wish_dropped_half_way_blocks_nothing() {
    let (world, _running) = meeting(Selection::default(), &USERS[..2]).await;
    let height = |height| Delivery {
        height_max: Some(height),
        ..Delivery::default()
    };
    let hold = Hold::default();
    let telling = |call: &Call| matches!(call, Call::SetDelivery { .. });
    world.fake.once(telling, Script::hold(hold.clone()));
    tokio::select! {
        _ = world.ask("ben", wish("ann", height(90))) => panic!("it is held"),
        () = hold.reached() => {}
    }
    world.ask("ben", wish("ann", height(180))).await.unwrap();
    let told: Vec<_> = deliveries(&world);
    assert_eq!(told.last().unwrap().1, height(180));
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_videos_is_told_to_those_who_understand() {
    let (world, _running) = meeting(Selection::default(), &USERS[..2]).await;
    let (_, bens) = endpoints(&world, &USERS[..2], "ben");
    let (_, anns) = endpoints(&world, &USERS[..2], "ann");
    for endpoint in [&bens[0], &anns[0]] {
        world.fake.fire(endpoint, sent(2));
        settle().await;
        world.fake.fire(endpoint, sent(2));
        settle().await;
        world.fake.fire(endpoint, paused(PauseReason::Bandwidth));
        settle().await;
    }
    assert_eq!(
        world.transcript(),
        [
            r#"ben ← videoDelivery {"sender":"ann_webcam","spatialLayer":2,"temporalLayer":2,"spatialLayers":3,"height":720}"#,
            r#"ben ← videoDelivery {"sender":"ann_webcam","paused":"bandwidth"}"#,
        ],
        "once, and ann's client is an old one"
    );
    assert_eq!(
        *world.clients.changes.lock(),
        [
            "lab/ben videoDelivery",
            "lab/ben videoDelivery",
            "lab/ann videoDelivery",
            "lab/ann videoDelivery"
        ],
        "the application hears of all"
    );
}

#[tokio::test(start_paused = true)]
async fn news_from_before_the_answer_are_kept() {
    let world = World::new();
    let _running = run(&world);
    world.join("ann", "lab").await;
    world.join_modern("ben", "lab").await;
    world.publish("ann").await;
    let hold = Hold::default();
    let gathering = |call: &Call| matches!(call, Call::GatherCandidates { .. });
    world.fake.once(gathering, Script::hold(hold.clone()));
    let meanwhile = async {
        hold.reached().await;
        world.fake.fire(&world.endpoints()[1], sent(0));
        settle().await;
        hold.release();
    };
    world.take_log();
    tokio::join!(world.subscribe("ben", "ann"), meanwhile);
    settle().await;
    let last = world.transcript().pop().unwrap();
    assert!(last.starts_with("ben ← videoDelivery"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn publishers_are_told_which_layers_are_wanted() {
    let (world, _running) = meeting(Selection::default(), &USERS[..2]).await;
    let (bens, _) = endpoints(&world, &USERS[..2], "ben");
    let (anns, _) = endpoints(&world, &USERS[..2], "ann");
    let demand = |wanted| {
        let layer = |rid: &str, wanted| LayerDemand {
            rid: rid.to_owned(),
            wanted,
        };
        Event::LayerDemandChanged(vec![layer("q", true), layer("f", wanted)])
    };
    world.fake.fire(&bens, demand(false));
    world.fake.fire(&anns, demand(false));
    settle().await;
    // Only the last word counts.
    world.fake.fire(&bens, demand(true));
    world.fake.fire(&bens, demand(false));
    settle().await;
    assert_eq!(
        world.transcript(),
        [r#"ben ← layersWanted {"layers":[{"rid":"q","wanted":true},{"rid":"f","wanted":false}]}"#]
    );
}

#[tokio::test(start_paused = true)]
async fn who_speaks_is_told_to_those_who_understand() {
    let (world, _running) = meeting(Selection::default(), &USERS[..3]).await;
    let (cats, _) = endpoints(&world, &USERS[..3], "cat");
    world.fake.fire(&cats, Event::SpeakingChanged(true));
    settle().await;
    let speaking = r#"activeSpeakers {"speaking":["cat"]}"#;
    assert_eq!(
        world.transcript(),
        [format!("ben ← {speaking}"), format!("cat ← {speaking}")]
    );
    pass(1_000).await;
    let dominant = r#"activeSpeakers {"dominant":"cat","speaking":["cat"]}"#;
    assert_eq!(
        world.transcript(),
        [format!("ben ← {dominant}"), format!("cat ← {dominant}")]
    );
    world.fake.fire(&cats, Event::SpeakingChanged(false));
    settle().await;
    world.take_log();

    world.join_modern("eve", "lab").await;
    settle().await;
    let last = world.transcript().pop().unwrap();
    assert_eq!(
        last, r#"eve ← activeSpeakers {"dominant":"cat","speaking":[]}"#,
        "newcomers learn who has the floor"
    );
    world.ask("cat", Request::LeaveRoom).await.unwrap();
    pass(1_000).await;
    let last = world.transcript().pop().unwrap();
    assert_eq!(last, r#"eve ← activeSpeakers {"speaking":[]}"#);
}

#[tokio::test(start_paused = true)]
async fn a_busy_room_tells_at_intervals() {
    let (world, _running) = meeting(Selection::default(), &USERS[..2]).await;
    let (bens, _) = endpoints(&world, &USERS[..2], "ben");
    for at in 0..100 {
        world.fake.fire(&bens, Event::SpeakingChanged(at % 2 == 0));
        pass(10).await;
    }
    pass(1_000).await;
    let told = world.transcript();
    assert!((4..=7).contains(&told.len()), "{told:?}");
    assert_eq!(
        told.last().unwrap(),
        r#"ben ← activeSpeakers {"speaking":[]}"#
    );
}

fn held_video(delivery: &Delivery) -> bool {
    delivery.audio && !delivery.video
}

#[tokio::test(start_paused = true)]
async fn the_last_speakers_are_shown() {
    let selection = Selection {
        video_max: Some(1),
        ..Selection::default()
    };
    let (world, _running) = meeting(selection, &USERS).await;
    let (dans, watched) = endpoints(&world, &USERS, "dan");
    // Everyone was given the first publisher but themselves.
    world.fake.fire(&dans, Event::SpeakingChanged(true));
    pass(1_000).await;
    let told = deliveries(&world);
    let (_, anns) = endpoints(&world, &USERS, "ann");
    let (_, bens) = endpoints(&world, &USERS, "ben");
    let (_, cats) = endpoints(&world, &USERS, "cat");
    let mut expected = vec![
        (anns[2].clone(), true),
        (anns[0].clone(), false),
        (bens[2].clone(), true),
        (bens[0].clone(), false),
        (cats[2].clone(), true),
        (cats[0].clone(), false),
    ];
    expected.sort();
    let told: Vec<_> = told
        .into_iter()
        .map(|(endpoint, delivery)| (endpoint, !held_video(&delivery)))
        .collect();
    assert_eq!(told, expected, "dan still sees ann: {watched:?}");
}

#[tokio::test(start_paused = true)]
async fn pauses_of_client_and_room_add_up() {
    let selection = Selection {
        video_max: Some(1),
        ..Selection::default()
    };
    let (world, _running) = meeting(selection, &USERS[..3]).await;
    let (_, cats) = endpoints(&world, &USERS[..3], "cat");
    let pause = Delivery {
        video: false,
        ..Delivery::default()
    };
    // ben is not shown to cat, whatever cat says.
    world.fake.fire(&cats[1], paused(PauseReason::Wish));
    settle().await;
    world.ask("cat", wish("ben", pause)).await.unwrap();
    world
        .ask("cat", wish("ben", Delivery::default()))
        .await
        .unwrap();
    settle().await;
    assert_eq!(deliveries(&world), []);
    let room = r#"cat ← videoDelivery {"sender":"ben_webcam","paused":"room"}"#;
    let client = r#"cat ← videoDelivery {"sender":"ben_webcam","paused":"client"}"#;
    assert_eq!(
        world.transcript(),
        [room, client, "cat ← result {}", room, "cat ← result {}"]
    );
    // Until cat makes him large.
    let pin = Delivery {
        priority: VideoPriority::High,
        ..Delivery::default()
    };
    world.ask("cat", wish("ben", pin)).await.unwrap();
    settle().await;
    let told = deliveries(&world);
    let hidden = told.iter().filter(|(_, delivery)| held_video(delivery));
    assert_eq!(hidden.map(|(id, _)| id).next_back(), Some(&cats[0]));
    assert_eq!(told.last().unwrap(), &(cats[1].clone(), pin));
}

#[tokio::test(start_paused = true)]
async fn voices_are_selected_for_one_room_by_the_application() {
    let (world, _running) = meeting(Selection::default(), &USERS[..3]).await;
    let selection = Selection {
        audio_max: Some(1),
        ..Selection::default()
    };
    world.rooms.set_selection("lab", selection).unwrap();
    assert_eq!(
        world.rooms.set_selection("other", selection),
        Err(RoomError::room_not_found("other"))
    );
    settle().await;
    assert_eq!(deliveries(&world), [], "nobody was heard yet");
    let (anns, _) = endpoints(&world, &USERS[..3], "ann");
    let (bens, _) = endpoints(&world, &USERS[..3], "ben");
    let (_, cats) = endpoints(&world, &USERS[..3], "cat");
    world.fake.fire(&anns, Event::SpeakingChanged(true));
    pass(1_000).await;
    world.fake.fire(&bens, Event::SpeakingChanged(true));
    settle().await;
    let held = |element: &ElementId| {
        let delivery = Delivery {
            audio: false,
            ..Delivery::default()
        };
        (element.clone(), delivery)
    };
    assert_eq!(
        deliveries(&world),
        [held(&cats[1])],
        "who came first goes on"
    );
    world.fake.fire(&anns, Event::SpeakingChanged(false));
    settle().await;
    let mut expected = [held(&cats[0]), (cats[1].clone(), Delivery::default())];
    expected.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(deliveries(&world), expected, "at once");
    world
        .rooms
        .set_selection("lab", Selection::default())
        .unwrap();
    settle().await;
    assert_eq!(
        deliveries(&world),
        [(cats[0].clone(), Delivery::default())],
        "all are back"
    );
    assert!(world.fake.source(&cats[0], MediaKind::Audio).is_some());
}

#[tokio::test(start_paused = true)]
async fn rooms_that_end_leave_nothing_to_do() {
    let selection = Selection {
        video_max: Some(1),
        audio_max: Some(1),
    };
    let (world, running) = meeting(selection, &USERS).await;
    for user in USERS {
        let (own, _) = endpoints(&world, &USERS, USERS[0]);
        world.fake.fire(&own, Event::SpeakingChanged(true));
        world.ask(user, Request::LeaveRoom).await.unwrap();
        settle().await;
        if user == USERS[0] {
            break;
        }
    }
    world.rooms.close_room("lab").unwrap();
    pass(10_000).await;
    world.assert_nothing_left();
    running.abort();
}
