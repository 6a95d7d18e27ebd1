//! Stands in for the engine while that is built: echoes STUN binding requests.
#![expect(
    dead_code,
    unreachable_pub,
    clippy::needless_pass_by_ref_mut,
    reason = "the engine will use all of it"
)]

use crate::engine::certificate::Certificate;
use crate::engine::flow::{self, Flow};
use media::*;
use std::net::SocketAddr;
use std::time::Instant;

#[path = "../engine/counters.rs"]
pub(crate) mod counters;
#[path = "../engine/outbox.rs"]
pub(crate) mod outbox;

pub(crate) struct EngineConfig {
    pub(crate) certificate: Certificate,
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) ice_tcp: bool,
    pub(crate) preferred_video_codec: Option<crate::engine::sdp::Codec>,
}
pub(crate) struct Engine {
    outbox: outbox::Outbox,
    counters: counters::Counters,
    worker: usize,
    made: usize,
    pub(crate) timeout: Option<Instant>,
}
impl Engine {
    pub(crate) fn new(_: EngineConfig, worker: usize) -> Self {
        Self {
            outbox: Default::default(),
            counters: Default::default(),
            worker,
            made: 0,
            timeout: None,
        }
    }
    pub(crate) fn handle_datagram(&mut self, _: Instant, flow: Flow, datagram: &mut [u8]) {
        if datagram.starts_with(&[0, 1]) {
            datagram[0] = 1;
            self.outbox.push(flow, datagram);
        } else if datagram.starts_with(b"die") {
            panic!("die");
        } else {
            self.counters.discarded[0] += 1;
        }
    }
    pub(crate) fn handle_flow_closed(&mut self, _: Instant, _: Flow) {}
    pub(crate) fn handle_timeout(&mut self, _: Instant) {
        self.timeout = None;
    }
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }
    pub(crate) fn transmits(&self) -> &outbox::Outbox {
        &self.outbox
    }
    pub(crate) fn clear_transmits(&mut self) {
        self.outbox.clear();
    }
    pub(crate) fn counters(&self) -> &counters::Counters {
        &self.counters
    }
    pub(crate) fn create_pipeline(&mut self, _: Instant, _: EventSender) -> PipelineId {
        self.made += 1;
        PipelineId::new(format!(
            "{:04x}{:04x}_kurento.MediaPipeline",
            self.worker, self.made
        ))
    }
    pub(crate) fn create_element(
        &mut self,
        _: Instant,
        p: &PipelineId,
        _: ElementKind,
        _: EventSender,
    ) -> Result<ElementId, Error> {
        self.made += 1;
        self.counters.elements += 1;
        Ok(ElementId::new(format!(
            "{p}/{:04x}_kurento.WebRtcEndpoint",
            self.made
        )))
    }
    pub(crate) fn process_offer(
        &mut self,
        _: Instant,
        e: &ElementId,
        _: &str,
    ) -> Result<String, Error> {
        Err(Error::ElementNotFound(e.clone()))
    }
    pub(crate) fn generate_offer(
        &mut self,
        _: Instant,
        _: &ElementId,
        _: OfferOptions,
    ) -> Result<String, Error> {
        Ok("a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
"
        .to_owned())
    }
    pub(crate) fn process_answer(
        &mut self,
        _: Instant,
        e: &ElementId,
        _: &str,
    ) -> Result<String, Error> {
        Err(Error::ElementNotFound(e.clone()))
    }
    pub(crate) fn gather_candidates(&mut self, _: Instant, e: &ElementId) -> Result<(), Error> {
        Err(Error::ElementNotFound(e.clone()))
    }
    pub(crate) fn add_ice_candidate(
        &mut self,
        _: Instant,
        e: &ElementId,
        _: IceCandidate,
    ) -> Result<(), Error> {
        Err(Error::ElementNotFound(e.clone()))
    }
    pub(crate) fn connect(
        &mut self,
        _: Instant,
        _: &ElementId,
        _: &ElementId,
        _: Option<MediaKind>,
    ) -> Result<(), Error> {
        Ok(())
    }
    pub(crate) fn disconnect(
        &mut self,
        _: Instant,
        _: &ElementId,
        _: &ElementId,
        _: Option<MediaKind>,
    ) -> Result<(), Error> {
        Ok(())
    }
    pub(crate) fn set_bandwidth(
        &mut self,
        _: Instant,
        _: &ElementId,
        _: BandwidthLimits,
    ) -> Result<(), Error> {
        Ok(())
    }
    pub(crate) fn stats(&mut self, _: Instant, _: &ElementId) -> Result<Vec<StreamStats>, Error> {
        Ok(vec![])
    }
    pub(crate) fn release_element(&mut self, _: Instant, _: &ElementId) {
        self.counters.elements -= 1;
    }
    pub(crate) fn release_pipeline(&mut self, _: Instant, _: &PipelineId) {}
}
