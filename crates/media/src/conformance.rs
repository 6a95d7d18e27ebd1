//! What every [`MediaServer`] must do, whatever runs behind it.
//!
//! Read [`check`]: a server's own tests call it. It panics where the server falls short.
//! Deliberately absent: media, and session descriptions of its own.

use crate::{
    BandwidthLimits, ElementId, ElementKind, EndpointStats, Error, EventSender, Kilobits,
    MediaKind, MediaServer, OfferOptions, PipelineId,
};

const WEB: ElementKind = ElementKind::WebRtcEndpoint {
    data_channels: false,
    peer: None,
};

/// Asks a server everything. `offer` is one that its endpoints accept.
pub async fn check(server: &impl MediaServer, offer: &str) {
    elements_live_in_pipelines(server).await;
    endpoints_answer_offers(server, offer).await;
    endpoints_make_one_offer(server).await;
    answers_need_an_offer(server, offer).await;
    connections_stay_in_a_pipeline(server).await;
    sinks_have_one_source_of_each_kind(server).await;
    elements_refuse_what_they_cannot_do(server, offer).await;
    endpoints_take_limits_and_count(server).await;
    released_elements_are_gone(server).await;
    released_pipelines_take_their_elements_along(server).await;
    unknown_ids_are_released_quietly(server).await;
}

async fn pipeline(server: &impl MediaServer) -> PipelineId {
    let made = server.create_pipeline(EventSender::discard()).await;
    made.expect("a pipeline can be made")
}

async fn element(server: &impl MediaServer, pipeline: &PipelineId, kind: ElementKind) -> ElementId {
    let made = server.create_element(pipeline, kind, EventSender::discard());
    made.await.expect("an element can be made in a pipeline")
}

async fn elements_live_in_pipelines(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let first = element(server, &pipeline, WEB).await;
    let second = element(server, &pipeline, ElementKind::PassThrough).await;
    assert_ne!(first, second);
    server.release_pipeline(&pipeline);
    let events = EventSender::discard();
    let made = server.create_element(&pipeline, WEB, events).await;
    assert!(made.is_err(), "{made:?} was made in a released pipeline");
}

async fn endpoints_answer_offers(server: &impl MediaServer, offer: &str) {
    let pipeline = pipeline(server).await;
    let endpoint = element(server, &pipeline, WEB).await;
    let answer = server.process_offer(&endpoint, offer).await;
    assert!(answer.expect("the offer is acceptable").starts_with("v=0"));
    server
        .gather_candidates(&endpoint)
        .await
        .expect("candidates can be gathered after negotiation");
    let offered = server.generate_offer(&endpoint, OfferOptions::default());
    assert_eq!(offered.await, Err(Error::AlreadyNegotiated));
    server.release_pipeline(&pipeline);
}

async fn endpoints_make_one_offer(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let endpoint = element(server, &pipeline, WEB).await;
    let options = OfferOptions::default();
    let offer = server.generate_offer(&endpoint, options).await;
    assert!(offer.expect("an offer can be made").starts_with("v=0"));
    let again = server.generate_offer(&endpoint, options).await;
    assert_eq!(again, Err(Error::AlreadyNegotiated));
    server.release_pipeline(&pipeline);
}

async fn answers_need_an_offer(server: &impl MediaServer, answer: &str) {
    let pipeline = pipeline(server).await;
    let endpoint = element(server, &pipeline, WEB).await;
    let local = server.process_answer(&endpoint, answer).await;
    assert_eq!(local, Err(Error::NoOffer));
    server.release_pipeline(&pipeline);
}

async fn connections_stay_in_a_pipeline(server: &impl MediaServer) {
    let (one, other) = (pipeline(server).await, pipeline(server).await);
    let source = element(server, &one, WEB).await;
    let near = element(server, &one, ElementKind::PassThrough).await;
    let far = element(server, &other, ElementKind::PassThrough).await;
    assert_eq!(server.connect(&source, &near, None).await, Ok(()));
    assert_eq!(server.connect(&source, &source, None).await, Ok(()));
    let connected = server.connect(&source, &far, None).await;
    assert_eq!(connected, Err(Error::DifferentPipelines));
    server.release_pipeline(&one);
    server.release_pipeline(&other);
}

async fn sinks_have_one_source_of_each_kind(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let first = element(server, &pipeline, WEB).await;
    let second = element(server, &pipeline, WEB).await;
    let sink = element(server, &pipeline, ElementKind::PassThrough).await;
    let video = Some(MediaKind::Video);
    for (source, kind) in [(&first, None), (&second, video), (&second, video)] {
        assert_eq!(server.connect(source, &sink, kind).await, Ok(()));
    }
    for (source, kind) in [(&first, video), (&second, video), (&second, None)] {
        assert_eq!(server.disconnect(source, &sink, kind).await, Ok(()));
    }
    server.release_pipeline(&pipeline);
}

async fn elements_refuse_what_they_cannot_do(server: &impl MediaServer, offer: &str) {
    let pipeline = pipeline(server).await;
    let element = element(server, &pipeline, ElementKind::PassThrough).await;
    let gathered = server.gather_candidates(&element).await;
    assert!(matches!(gathered, Err(Error::Unsupported { .. })));
    let answer = server.process_offer(&element, offer).await;
    assert!(matches!(answer, Err(Error::Unsupported { .. })));
    server.release_pipeline(&pipeline);
}

async fn endpoints_take_limits_and_count(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let endpoint = element(server, &pipeline, WEB).await;
    let limits = BandwidthLimits {
        max_video_recv: Some(Kilobits(600)),
        max_video_send: Some(Kilobits(50)),
        ..BandwidthLimits::default()
    };
    assert_eq!(server.set_bandwidth(&endpoint, limits).await, Ok(()));
    assert_eq!(server.stats(&endpoint).await, Ok(EndpointStats::default()));
    server.release_pipeline(&pipeline);
}

async fn released_elements_are_gone(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let released = element(server, &pipeline, WEB).await;
    let kept = element(server, &pipeline, WEB).await;
    server.release_element(&released);
    let gone = Err(Error::ElementNotFound(released.clone()));
    assert_eq!(server.connect(&released, &kept, None).await, gone);
    assert_eq!(
        server
            .set_bandwidth(&released, BandwidthLimits::default())
            .await,
        gone
    );
    assert_eq!(server.stats(&kept).await, Ok(EndpointStats::default()));
    server.release_pipeline(&pipeline);
}

async fn released_pipelines_take_their_elements_along(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let endpoint = element(server, &pipeline, WEB).await;
    server.release_pipeline(&pipeline);
    let stats = server.stats(&endpoint).await;
    assert_eq!(stats, Err(Error::ElementNotFound(endpoint)));
}

async fn unknown_ids_are_released_quietly(server: &impl MediaServer) {
    let pipeline = pipeline(server).await;
    let element = element(server, &pipeline, WEB).await;
    for _ in 0..2 {
        server.release_element(&element);
        server.release_pipeline(&pipeline);
    }
}
