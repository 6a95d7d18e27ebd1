//! Which workers the elements of a pipeline live on.

use std::time::Instant;

use super::*;
use crate::engine::ids::worker_of_element;

/// More than fit on one worker.
const MANY: usize = 300;

async fn pipeline(server: &NativeMediaServer) -> PipelineId {
    let made = server.create_pipeline(EventSender::discard());
    made.await.unwrap()
}

async fn elements(
    server: &NativeMediaServer,
    pipeline: &PipelineId,
    count: usize,
) -> Vec<ElementId> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(element(server, pipeline).await.unwrap());
    }
    made
}

/// How many elements each worker has.
fn by_worker(elements: &[ElementId], workers: usize) -> Vec<usize> {
    let on = |worker| {
        let mut places = elements.iter().map(worker_of_element);
        places
            .by_ref()
            .filter(|place| *place == Some(worker))
            .count()
    };
    (0..workers).map(on).collect()
}

async fn engine_elements(server: &NativeMediaServer) -> Vec<u64> {
    let metrics = server.metrics().await;
    metrics.iter().map(|it| it.engine.elements).collect()
}

#[tokio::test]
async fn small_rooms_stay_on_their_worker_and_large_ones_spread() {
    let server = start(3);
    let small = pipeline(&server).await;
    let made = elements(&server, &small, 60).await;
    assert_eq!(by_worker(&made, 3), [60, 0, 0]);

    let large = pipeline(&server).await;
    let made = elements(&server, &large, MANY).await;
    let spread = by_worker(&made, 3);
    assert!(spread.iter().all(|count| *count > 10), "{spread:?}");
    let loads = engine_elements(&server).await;
    let apart = loads.iter().max().unwrap() - loads.iter().min().unwrap();
    assert!(apart <= 20, "{loads:?}");

    server.release_pipeline(&large);
    server.metrics().await;
    assert_eq!(engine_elements(&server).await, [60, 0, 0]);
    let late = element(&server, &large).await;
    assert_eq!(late, Err(Error::PipelineNotFound(large)));
}

#[tokio::test]
async fn small_room_stays_together_however_busy_its_worker_is() {
    let server = start(2);
    let mut rooms = Vec::new();
    for _ in 0..8 {
        rooms.push(pipeline(&server).await);
    }
    // Every other one, so that all of these live on the first worker.
    for busy in rooms.iter().step_by(2).skip(1) {
        let made = elements(&server, busy, 40).await;
        assert_eq!(by_worker(&made, 2), [40, 0]);
    }
    let made = elements(&server, &rooms[0], 3).await;
    assert_eq!(by_worker(&made, 2), [3, 0]);
}

#[tokio::test]
async fn elements_that_pass_media_on_stay_at_home() {
    let server = start(2);
    let room = pipeline(&server).await;
    elements(&server, &room, MANY).await;
    for _ in 0..10 {
        let made = server.create_element(&room, ElementKind::PassThrough, EventSender::discard());
        assert_eq!(worker_of_element(&made.await.unwrap()), Some(0));
    }
}

#[tokio::test]
async fn connections_cross_workers_but_not_pipelines() {
    let server = start(2);
    let room = pipeline(&server).await;
    let made = elements(&server, &room, MANY).await;
    let on = |worker| made.iter().find(|id| worker_of_element(id) == Some(worker));
    let (near, far) = (on(0).unwrap(), on(1).unwrap());
    for (source, sink) in [(near, far), (far, near)] {
        assert_eq!(server.connect(source, sink, None).await, Ok(()));
        assert_eq!(server.disconnect(source, sink, None).await, Ok(()));
        assert_eq!(server.disconnect(source, sink, None).await, Ok(()));
        assert_eq!(server.connect(source, sink, None).await, Ok(()));
    }
    let (_, stranger) = endpoint(&server).await;
    for sink in [near, far] {
        let connected = server.connect(&stranger, sink, None).await;
        assert_eq!(connected, Err(Error::DifferentPipelines));
    }

    server.release_element(near);
    let gone = || Err(Error::ElementNotFound(near.clone()));
    assert_eq!(server.connect(near, far, None).await, gone());
    assert_eq!(server.disconnect(near, far, None).await, gone());
    assert_eq!(server.connect(far, near, None).await, gone());
    assert_eq!(
        server.stats(near).await,
        gone().map(|()| media::EndpointStats::default())
    );
}

#[tokio::test]
async fn release_of_a_pipeline_meanwhile_leaves_nothing() {
    let server = start(2);
    for _ in 0..20 {
        let room = pipeline(&server).await;
        let making = tokio::spawn({
            let (server, room) = (server.clone(), room.clone());
            async move { while element(&server, &room).await.is_ok() {} }
        });
        let deadline = Instant::now() + PATIENCE;
        while engine_elements(&server).await.contains(&0) {
            assert!(Instant::now() < deadline, "the room does not spread");
            tokio::task::yield_now().await;
        }
        server.release_pipeline(&room);
        making.await.unwrap();
        server.metrics().await;
        assert_eq!(engine_elements(&server).await, [0, 0]);
    }
}
