//! A scripted media server for tests: obeys, remembers what it was asked, and forwards nothing.
//!
//! Read [`Fake`] first. Deliberately absent: real session descriptions and any timing of its own.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    BandwidthLimits, DataChannelOptions, Delivery, ElementId, ElementKind, EndpointStats, Error,
    Event, EventSender, IceCandidate, MediaKind, MediaServer, OfferOptions, Parameters, PipelineId,
};

/// A media server that does what it is told, unless a [`Script`] says otherwise. Clones share state.
///
/// It checks what every media server checks: ids, pipelines, one negotiation per endpoint. A call takes
/// effect after its delay; if its future is dropped before, it has none.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    reactions: Vec<Reaction>,
    ids: u64,
    down: bool,
    first_contact: Option<Hold>,
    pipelines: BTreeMap<PipelineId, EventSender>,
    elements: BTreeMap<ElementId, Element>,
    /// Source of each kind, by sink.
    sources: BTreeMap<(ElementId, MediaKind), ElementId>,
}

type Reaction = Box<dyn FnMut(&Call) -> Option<Script> + Send>;

struct Element {
    pipeline: PipelineId,
    kind: ElementKind,
    events: EventSender,
    offered: bool,
    negotiated: bool,
}

/// A call the fake got, in the words of [`MediaServer`].
#[expect(
    missing_docs,
    reason = "fields are the arguments of the method of the same name"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// [`MediaServer::create_pipeline`]
    CreatePipeline,
    /// [`MediaServer::create_element`]
    CreateElement {
        pipeline: PipelineId,
        kind: ElementKind,
    },
    /// [`MediaServer::process_offer`]
    ProcessOffer { element: ElementId, offer: String },
    /// [`MediaServer::generate_offer`]
    GenerateOffer { element: ElementId },
    /// [`MediaServer::process_answer`]
    ProcessAnswer { element: ElementId, answer: String },
    /// [`MediaServer::gather_candidates`]
    GatherCandidates { element: ElementId },
    /// [`MediaServer::add_ice_candidate`]
    AddIceCandidate {
        element: ElementId,
        candidate: IceCandidate,
    },
    /// [`MediaServer::connect`]
    Connect {
        source: ElementId,
        sink: ElementId,
        kind: Option<MediaKind>,
    },
    /// [`MediaServer::disconnect`]
    Disconnect {
        source: ElementId,
        sink: ElementId,
        kind: Option<MediaKind>,
    },
    /// [`MediaServer::set_bandwidth`]
    SetBandwidth {
        element: ElementId,
        limits: BandwidthLimits,
    },
    /// [`MediaServer::set_delivery`]
    SetDelivery {
        element: ElementId,
        delivery: Delivery,
    },
    /// [`MediaServer::stats`]
    Stats { element: ElementId },
    /// [`MediaServer::invoke`]
    Invoke {
        element: ElementId,
        operation: &'static str,
    },
    /// [`MediaServer::query`]
    Query {
        element: ElementId,
        operation: &'static str,
    },
    /// [`MediaServer::request_key_frame`]
    RequestKeyFrame { element: ElementId },
    /// [`MediaServer::create_data_channel`]
    CreateDataChannel {
        element: ElementId,
        options: DataChannelOptions,
    },
    /// [`MediaServer::close_data_channel`]
    CloseDataChannel { element: ElementId, stream: u16 },
    /// [`MediaServer::release_element`]
    ReleaseElement { element: ElementId },
    /// [`MediaServer::release_pipeline`]
    ReleasePipeline { pipeline: PipelineId },
}

/// What a call does instead of succeeding at once.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// It takes that long, by tokio's clock.
    pub delay: Duration,
    /// Then it waits until the hold is released.
    pub hold: Option<Hold>,
    /// Then it fails.
    pub failure: Option<Error>,
}

/// A call that a test stops half-way. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<HoldInner>);

#[derive(Debug, Default)]
struct HoldInner {
    reached: Notify,
    released: Notify,
}

impl Hold {
    /// Waits until the call is made, once.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
    }

    /// Lets the call go on, be it made already or not.
    pub fn release(&self) {
        self.0.released.notify_one();
    }

    async fn wait(&self) {
        self.0.reached.notify_one();
        self.0.released.notified().await;
    }
}

impl Script {
    /// Succeeds late.
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Fails at once.
    pub fn fail(error: Error) -> Self {
        Self {
            failure: Some(error),
            ..Self::default()
        }
    }

    /// Succeeds when `hold` is released.
    pub fn hold(hold: Hold) -> Self {
        Self {
            hold: Some(hold),
            ..Self::default()
        }
    }
}

impl Fake {
    /// The answer to every offer.
    pub const ANSWER: &str = "v=0 answer of the server";
    /// Every offer.
    pub const OFFER: &str = "v=0 offer of the server";
    /// The local description after every answer.
    pub const UPDATED_OFFER: &str = "v=0 offer of the server, updated";

    /// Obeys everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Obeys everything. Ids are numbers from `first` on, so that those of several fakes differ.
    pub fn with_ids_from(first: u64) -> Self {
        let fake = Self::new();
        fake.0.lock().ids = first;
        fake
    }

    /// Makes it say from here on whether it is there. Calls succeed all the same.
    pub fn set_up(&self, up: bool) {
        self.0.lock().down = !up;
    }

    /// Makes it unknown whether it is there until `hold` is released, for who asks next.
    pub fn set_unknown(&self, hold: Hold) {
        self.0.lock().first_contact = Some(hold);
    }

    /// Asks `react` about every call; `None` leaves the call to what was said earlier, or to success.
    pub fn on_call(&self, react: impl FnMut(&Call) -> Option<Script> + Send + 'static) {
        self.0.lock().reactions.push(Box::new(react));
    }

    /// Applies `script` to the next call that matches.
    pub fn once(&self, matches: impl Fn(&Call) -> bool + Send + 'static, script: Script) {
        let mut script = Some(script);
        self.on_call(move |call| if matches(call) { script.take() } else { None });
    }

    /// Obeys everything again.
    pub fn obey(&self) {
        self.0.lock().reactions.clear();
    }

    /// Every call so far, releases included, in the order in which they were made.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    /// Number of calls so far that match.
    pub fn count(&self, matches: impl Fn(&Call) -> bool) -> usize {
        let inner = self.0.lock();
        inner.calls.iter().filter(|call| matches(call)).count()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.0.lock().calls.clear();
    }

    /// Pipelines that are not released.
    pub fn pipelines(&self) -> Vec<PipelineId> {
        self.0.lock().pipelines.keys().cloned().collect()
    }

    /// Elements that are not released.
    pub fn elements(&self) -> Vec<(ElementId, ElementKind)> {
        let inner = self.0.lock();
        let elements = inner.elements.iter();
        elements
            .map(|(id, element)| (id.clone(), element.kind.clone()))
            .collect()
    }

    /// Who feeds `sink` with `kind`.
    pub fn source(&self, sink: &ElementId, kind: MediaKind) -> Option<ElementId> {
        let inner = self.0.lock();
        inner.sources.get(&(sink.clone(), kind)).cloned()
    }

    /// Number of connections, each kind counted.
    pub fn connection_count(&self) -> usize {
        self.0.lock().sources.len()
    }

    /// Lets something happen to an element. False if it was released.
    pub fn fire(&self, element: &ElementId, event: Event) -> bool {
        let inner = self.0.lock();
        let events = inner.elements.get(element);
        let events = events.map(|element| element.events.clone());
        drop(inner);
        events.inspect(|events| events.send(event)).is_some()
    }

    /// Lets something happen to a pipeline. False if it was released.
    pub fn fire_pipeline(&self, pipeline: &PipelineId, event: Event) -> bool {
        let events = self.0.lock().pipelines.get(pipeline).cloned();
        events.inspect(|events| events.send(event)).is_some()
    }

    /// Where the events of an element go, for firing them after its release.
    pub fn event_sender(&self, element: &ElementId) -> Option<EventSender> {
        let inner = self.0.lock();
        let element = inner.elements.get(element)?;
        Some(element.events.clone())
    }

    /// Records a call and lives through what is scripted for it.
    async fn begin(&self, call: Call) -> Result<(), Error> {
        let script = {
            let mut inner = self.0.lock();
            let mut reactions = inner.reactions.iter_mut().rev();
            let script = reactions.find_map(|react| react(&call));
            inner.calls.push(call);
            script.unwrap_or_default()
        };
        if !script.delay.is_zero() {
            tokio::time::sleep(script.delay).await;
        }
        if let Some(hold) = script.hold {
            hold.wait().await;
        }
        script.failure.map_or(Ok(()), Err)
    }
}

impl MediaServer for Fake {
    fn is_up(&self) -> bool {
        !self.0.lock().down
    }

    async fn known(&self) {
        let hold = self.0.lock().first_contact.take();
        if let Some(hold) = hold {
            hold.wait().await;
        }
    }

    async fn create_pipeline(&self, events: EventSender) -> Result<PipelineId, Error> {
        self.begin(Call::CreatePipeline).await?;
        let mut inner = self.0.lock();
        let pipeline = PipelineId::new(format!("{}_kurento.MediaPipeline", inner.next_id()));
        inner.pipelines.insert(pipeline.clone(), events);
        Ok(pipeline)
    }

    async fn create_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        self.begin(Call::CreateElement {
            pipeline: pipeline.clone(),
            kind: kind.clone(),
        })
        .await?;
        let mut inner = self.0.lock();
        if !inner.pipelines.contains_key(pipeline) {
            return Err(Error::PipelineNotFound(pipeline.clone()));
        }
        let id = inner.next_id();
        let class = kind.class_name();
        let element = ElementId::new(format!("{pipeline}/{id}_kurento.{class}"));
        inner.elements.insert(
            element.clone(),
            Element {
                pipeline: pipeline.clone(),
                kind,
                events,
                offered: false,
                negotiated: false,
            },
        );
        Ok(element)
    }

    async fn process_offer(&self, element: &ElementId, offer: &str) -> Result<String, Error> {
        self.begin(Call::ProcessOffer {
            element: element.clone(),
            offer: offer.to_owned(),
        })
        .await?;
        let mut inner = self.0.lock();
        let endpoint = inner.endpoint(element, "processOffer")?;
        if endpoint.offered || endpoint.negotiated {
            return Err(Error::AlreadyNegotiated);
        }
        endpoint.negotiated = true;
        Ok(Self::ANSWER.to_owned())
    }

    async fn generate_offer(
        &self,
        element: &ElementId,
        _options: OfferOptions,
    ) -> Result<String, Error> {
        self.begin(Call::GenerateOffer {
            element: element.clone(),
        })
        .await?;
        let mut inner = self.0.lock();
        let endpoint = inner.endpoint(element, "generateOffer")?;
        if endpoint.offered || endpoint.negotiated {
            return Err(Error::AlreadyNegotiated);
        }
        endpoint.offered = true;
        Ok(Self::OFFER.to_owned())
    }

    async fn process_answer(&self, element: &ElementId, answer: &str) -> Result<String, Error> {
        self.begin(Call::ProcessAnswer {
            element: element.clone(),
            answer: answer.to_owned(),
        })
        .await?;
        let mut inner = self.0.lock();
        let endpoint = inner.endpoint(element, "processAnswer")?;
        if !endpoint.offered {
            return Err(Error::NoOffer);
        }
        if endpoint.negotiated {
            return Err(Error::AlreadyNegotiated);
        }
        endpoint.negotiated = true;
        Ok(Self::UPDATED_OFFER.to_owned())
    }

    async fn gather_candidates(&self, element: &ElementId) -> Result<(), Error> {
        self.begin(Call::GatherCandidates {
            element: element.clone(),
        })
        .await?;
        self.0.lock().web_endpoint(element, "gatherCandidates")
    }

    async fn add_ice_candidate(
        &self,
        element: &ElementId,
        candidate: IceCandidate,
    ) -> Result<(), Error> {
        self.begin(Call::AddIceCandidate {
            element: element.clone(),
            candidate,
        })
        .await?;
        self.0.lock().web_endpoint(element, "addIceCandidate")
    }

    async fn connect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        self.begin(Call::Connect {
            source: source.clone(),
            sink: sink.clone(),
            kind,
        })
        .await?;
        let mut inner = self.0.lock();
        if inner.element(source)?.pipeline != inner.element(sink)?.pipeline {
            return Err(Error::DifferentPipelines);
        }
        for kind in kinds(kind) {
            inner.sources.insert((sink.clone(), kind), source.clone());
        }
        Ok(())
    }

    async fn disconnect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        self.begin(Call::Disconnect {
            source: source.clone(),
            sink: sink.clone(),
            kind,
        })
        .await?;
        let mut inner = self.0.lock();
        inner.element(source)?;
        inner.element(sink)?;
        for kind in kinds(kind) {
            let link = (sink.clone(), kind);
            if inner.sources.get(&link) == Some(source) {
                inner.sources.remove(&link);
            }
        }
        Ok(())
    }

    async fn set_bandwidth(
        &self,
        element: &ElementId,
        limits: BandwidthLimits,
    ) -> Result<(), Error> {
        self.begin(Call::SetBandwidth {
            element: element.clone(),
            limits,
        })
        .await?;
        self.0
            .lock()
            .endpoint(element, "setMaxVideoRecvBandwidth")?;
        Ok(())
    }

    async fn stats(&self, element: &ElementId) -> Result<EndpointStats, Error> {
        self.begin(Call::Stats {
            element: element.clone(),
        })
        .await?;
        self.0.lock().element(element)?;
        Ok(EndpointStats::default())
    }

    async fn set_delivery(&self, element: &ElementId, delivery: Delivery) -> Result<(), Error> {
        self.begin(Call::SetDelivery {
            element: element.clone(),
            delivery,
        })
        .await?;
        self.0.lock().endpoint(element, "setDelivery")?;
        Ok(())
    }

    async fn invoke(
        &self,
        element: &ElementId,
        operation: &'static str,
        _parameters: &Parameters,
    ) -> Result<(), Error> {
        self.begin(Call::Invoke {
            element: element.clone(),
            operation,
        })
        .await?;
        self.0.lock().custom(element, operation)
    }

    async fn query(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> Result<Parameters, Error> {
        self.begin(Call::Query {
            element: element.clone(),
            operation,
        })
        .await?;
        self.0.lock().custom(element, operation)?;
        Ok(Parameters::new())
    }

    async fn request_key_frame(&self, element: &ElementId) -> Result<(), Error> {
        self.begin(Call::RequestKeyFrame {
            element: element.clone(),
        })
        .await?;
        self.0.lock().endpoint(element, "requestKeyframe")?;
        Ok(())
    }

    async fn create_data_channel(
        &self,
        element: &ElementId,
        options: DataChannelOptions,
    ) -> Result<(), Error> {
        self.begin(Call::CreateDataChannel {
            element: element.clone(),
            options,
        })
        .await?;
        self.0.lock().web_endpoint(element, "createDataChannel")
    }

    async fn close_data_channel(&self, element: &ElementId, stream: u16) -> Result<(), Error> {
        self.begin(Call::CloseDataChannel {
            element: element.clone(),
            stream,
        })
        .await?;
        self.0.lock().web_endpoint(element, "closeDataChannel")
    }

    fn release_element(&self, element: &ElementId) {
        let mut inner = self.0.lock();
        inner.calls.push(Call::ReleaseElement {
            element: element.clone(),
        });
        inner.remove(element);
    }

    fn release_pipeline(&self, pipeline: &PipelineId) {
        let mut inner = self.0.lock();
        inner.calls.push(Call::ReleasePipeline {
            pipeline: pipeline.clone(),
        });
        inner.pipelines.remove(pipeline);
        let elements = inner.elements.iter();
        let inside: Vec<_> = elements
            .filter(|(_, element)| element.pipeline == *pipeline)
            .map(|(id, _)| id.clone())
            .collect();
        for element in inside {
            inner.remove(&element);
        }
    }
}

impl Inner {
    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn element(&self, id: &ElementId) -> Result<&Element, Error> {
        let element = self.elements.get(id);
        element.ok_or_else(|| Error::ElementNotFound(id.clone()))
    }

    fn endpoint(&mut self, id: &ElementId, operation: &'static str) -> Result<&mut Element, Error> {
        let element = self.elements.get_mut(id);
        let element = element.ok_or_else(|| Error::ElementNotFound(id.clone()))?;
        match element.kind {
            ElementKind::WebRtcEndpoint { .. } | ElementKind::RtpEndpoint { .. } => Ok(element),
            ElementKind::PassThrough | ElementKind::Other(_) => Err(Error::Unsupported {
                element: id.clone(),
                operation,
            }),
        }
    }

    fn web_endpoint(&self, id: &ElementId, operation: &'static str) -> Result<(), Error> {
        match self.element(id)?.kind {
            ElementKind::WebRtcEndpoint { .. } => Ok(()),
            _ => Err(Error::Unsupported {
                element: id.clone(),
                operation,
            }),
        }
    }

    fn custom(&self, id: &ElementId, operation: &'static str) -> Result<(), Error> {
        match self.element(id)?.kind {
            ElementKind::Other(_) => Ok(()),
            _ => Err(Error::Unsupported {
                element: id.clone(),
                operation,
            }),
        }
    }

    fn remove(&mut self, element: &ElementId) {
        self.elements.remove(element);
        self.sources
            .retain(|(sink, _), source| sink != element && source != element);
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

fn kinds(kind: Option<MediaKind>) -> Vec<MediaKind> {
    kind.map_or_else(|| MediaKind::ALL.to_vec(), |kind| vec![kind])
}
