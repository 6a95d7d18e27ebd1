//! The scripted media server by itself.

use super::*;

async fn endpoint(fake: &Fake) -> (PipelineId, ElementId) {
    let pipeline = fake.create_pipeline(EventSender::discard()).await.unwrap();
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: false,
        peer: None,
    };
    let element = fake
        .create_element(&pipeline, kind, EventSender::discard())
        .await
        .unwrap();
    (pipeline, element)
}

#[tokio::test]
async fn the_fake_is_a_media_server() {
    let fake = Fake::new();
    crate::conformance::check(&fake, "v=0").await;
    assert!(fake.pipelines().is_empty() && fake.elements().is_empty());
}

#[tokio::test]
async fn endpoints_negotiate_once() {
    let fake = Fake::new();
    let (_, element) = endpoint(&fake).await;
    assert_eq!(
        fake.process_answer(&element, "a").await,
        Err(Error::NoOffer)
    );
    fake.process_offer(&element, "o").await.unwrap();
    assert_eq!(
        fake.process_offer(&element, "o").await,
        Err(Error::AlreadyNegotiated)
    );
}

#[tokio::test]
async fn a_sink_has_one_source_of_each_kind() {
    let fake = Fake::new();
    let (pipeline, first) = endpoint(&fake).await;
    let create =
        || fake.create_element(&pipeline, ElementKind::PassThrough, EventSender::discard());
    let (second, sink) = (create().await.unwrap(), create().await.unwrap());
    fake.connect(&first, &sink, None).await.unwrap();
    fake.connect(&second, &sink, Some(MediaKind::Audio))
        .await
        .unwrap();
    assert_eq!(fake.source(&sink, MediaKind::Audio), Some(second.clone()));
    assert_eq!(fake.source(&sink, MediaKind::Video), Some(first));
    fake.release_element(&second);
    assert_eq!(fake.connection_count(), 2);
    fake.release_pipeline(&pipeline);
    assert_eq!((fake.elements().len(), fake.connection_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn scripts_delay_and_fail_the_calls_they_match() {
    let fake = Fake::new();
    fake.once(
        |call| matches!(call, Call::CreatePipeline),
        Script {
            delay: Duration::from_secs(40),
            failure: Some(Error::Timeout),
            ..Script::default()
        },
    );
    let start = tokio::time::Instant::now();
    assert_eq!(
        fake.create_pipeline(EventSender::discard()).await,
        Err(Error::Timeout)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(40));
    assert!(fake.create_pipeline(EventSender::discard()).await.is_ok());
}

#[tokio::test]
async fn held_calls_wait_for_their_release() {
    let (fake, hold) = (Fake::new(), Hold::default());
    fake.once(|_| true, Script::hold(hold.clone()));
    let release = async {
        hold.reached().await;
        assert!(fake.pipelines().is_empty());
        hold.release();
    };
    let (made, ()) = tokio::join!(fake.create_pipeline(EventSender::discard()), release);
    assert_eq!(fake.pipelines(), [made.unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_has_no_effect() {
    let fake = Fake::new();
    fake.on_call(|_| Some(Script::delay(Duration::from_secs(5))));
    let create = fake.create_pipeline(EventSender::discard());
    let late = tokio::time::timeout(Duration::from_secs(1), create).await;
    assert!(late.is_err());
    assert!(fake.pipelines().is_empty());
    assert_eq!(fake.calls(), [Call::CreatePipeline]);
}
