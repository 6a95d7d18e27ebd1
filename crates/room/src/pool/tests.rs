//! The pool over scripted servers.

use media::{Call, Fake, Hold, MediaServer as _, Script};

use super::*;

const WEB: ElementKind = ElementKind::WebRtcEndpoint {
    data_channels: false,
    peer: None,
};

fn two(choice: Choice, rooms_max: usize) -> (Pool<Fake>, [Fake; 2]) {
    let fakes = [Fake::new(), Fake::with_ids_from(1_000)];
    let members = ["first", "second"].iter().zip(&fakes);
    let members = members.map(|(name, fake)| Member {
        name: (*name).to_owned(),
        group: "fakes".to_owned(),
        media: fake.clone(),
        rooms_max,
        filters: false,
    });
    let policy = Policy {
        choice,
        ..Policy::default()
    };
    (Pool::new(members.collect(), policy), fakes)
}

async fn pipeline(pool: &Pool<Fake>) -> PipelineId {
    let made = pool.create_pipeline(EventSender::discard()).await;
    made.unwrap()
}

fn rooms(pool: &Pool<Fake>) -> Vec<usize> {
    pool.states().iter().map(|state| state.rooms).collect()
}

#[tokio::test]
async fn a_pool_is_a_media_server() {
    let (pool, _) = two(Choice::RoundRobin, 100);
    media::conformance::check(&pool, "v=0").await;
    assert_eq!(rooms(&pool), [0, 0]);
}

#[tokio::test]
async fn everything_of_a_room_is_on_its_server() {
    let (pool, [first, second]) = two(Choice::RoundRobin, 100);
    let (one, other) = (pipeline(&pool).await, pipeline(&pool).await);
    let discard = EventSender::discard;
    let near = pool.create_element(&one, WEB, discard()).await.unwrap();
    let far = pool.create_element(&other, WEB, discard()).await.unwrap();
    assert_eq!((first.elements().len(), second.elements().len()), (1, 1));
    assert_eq!(pool.process_offer(&far, "v=0").await.unwrap(), Fake::ANSWER);
    assert_eq!(
        second.count(|call| matches!(call, Call::ProcessOffer { .. })),
        1
    );
    let connected = pool.connect(&near, &far, None).await;
    assert_eq!(connected, Err(Error::DifferentPipelines));
    pool.release_pipeline(&other);
    assert_eq!((rooms(&pool), second.pipelines().len()), (vec![1, 0], 0));
    pool.release_pipeline(&one);
    assert!(pool.0.homes.lock().of_element(&near).is_none());
}

#[tokio::test]
async fn a_server_that_is_down_gets_no_rooms() {
    let (pool, [first, second]) = two(Choice::Fixed, 100);
    first.set_up(false);
    pipeline(&pool).await;
    assert_eq!(rooms(&pool), [0, 1]);
    second.set_up(false);
    let refused = pool.create_pipeline(EventSender::discard()).await;
    assert_eq!(
        refused,
        Err(Error::Full("no media server is up".to_owned()))
    );
    assert!(!pool.is_up());
    first.set_up(true);
    pipeline(&pool).await;
    assert_eq!(rooms(&pool), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_reached_is_waited_for_a_while() {
    let (pool, [first, second]) = two(Choice::Fixed, 100);
    let hold = Hold::default();
    first.set_up(false);
    first.set_unknown(hold.clone());
    pipeline(&pool).await;
    assert_eq!(rooms(&pool), [0, 1], "others will do");

    second.set_up(false);
    first.set_unknown(hold.clone());
    let reach = async {
        hold.reached().await;
        first.set_up(true);
        hold.release();
    };
    tokio::join!(pipeline(&pool), reach);
    assert_eq!(rooms(&pool), [1, 1]);

    first.set_up(false);
    first.set_unknown(Hold::default());
    let start = tokio::time::Instant::now();
    let refused = pool.create_pipeline(EventSender::discard()).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    assert_eq!(start.elapsed(), FIRST_CONTACT_MAX);
}

#[tokio::test]
async fn servers_have_their_limits() {
    let (pool, _) = two(Choice::Fixed, 1);
    let first = pipeline(&pool).await;
    pipeline(&pool).await;
    assert_eq!(rooms(&pool), [1, 1]);
    let refused = pool.create_pipeline(EventSender::discard()).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    pool.release_pipeline(&first);
    pipeline(&pool).await;
    assert_eq!(rooms(&pool), [1, 1]);
}

#[tokio::test]
async fn a_server_that_fails_a_room_is_followed_by_the_next() {
    let (pool, [first, _]) = two(Choice::Fixed, 100);
    let is_pipeline = |call: &Call| *call == Call::CreatePipeline;
    first.once(
        is_pipeline,
        Script::fail(Error::Unavailable("gone".to_owned())),
    );
    pipeline(&pool).await;
    assert_eq!(rooms(&pool), [0, 1]);
    first.once(is_pipeline, Script::fail(Error::Timeout));
    let failed = pool.create_pipeline(EventSender::discard()).await;
    assert_eq!(
        failed,
        Err(Error::Timeout),
        "the user has waited long enough"
    );
    assert_eq!(rooms(&pool), [0, 1]);
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_behind() {
    let (pool, [first, _]) = two(Choice::Fixed, 100);
    let hold = Hold::default();
    first.once(
        |call| *call == Call::CreatePipeline,
        Script::hold(hold.clone()),
    );
    {
        let create = pool.create_pipeline(EventSender::discard());
        tokio::select! {
            biased;
            _ = create => panic!("it is held"),
            () = hold.reached() => {}
        }
    }
    assert_eq!((rooms(&pool), first.pipelines().len()), (vec![0, 0], 0));
}

#[tokio::test]
async fn an_element_of_a_pipeline_that_is_released_meanwhile_is_released() {
    let (pool, [first, _]) = two(Choice::Fixed, 100);
    let pipeline = pipeline(&pool).await;
    let hold = Hold::default();
    first.once(
        |call| matches!(call, Call::CreateElement { .. }),
        Script::hold(hold.clone()),
    );
    let create = pool.create_element(&pipeline, WEB, EventSender::discard());
    let release = async {
        hold.reached().await;
        pool.release_pipeline(&pipeline);
        hold.release();
    };
    let (made, ()) = tokio::join!(create, release);
    assert_eq!(made, Err(Error::PipelineNotFound(pipeline.clone())));
    assert_eq!(first.elements().len(), 0);
}
