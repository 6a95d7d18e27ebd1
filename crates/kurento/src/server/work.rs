//! Calls to the media server, and what is done with their results.

use std::time::Duration;

use media::{
    BandwidthLimits, DataChannelOptions, ElementId, ElementKind, EndpointStats, IceCandidate,
    MediaKind, OfferOptions, Parameters, PipelineId,
};

use super::hubs::Route;
use super::lifecycle::NewObject;
use super::wiring::Link;

/// A request that waits for the media server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub(super) u64);

/// An object of the server, shorter than its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(pub(super) u64);

/// Calls that belong to one request. They are made in order, up to the first that fails.
#[derive(Debug)]
pub struct Work {
    /// Where the results go.
    pub job: JobId,
    /// Never empty.
    pub calls: Vec<Call>,
}

/// A method of [`MediaServer`](media::MediaServer), or a question about this process.
#[expect(
    missing_docs,
    reason = "fields are the arguments of the method of the same name"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Its events go to [`Server::handle_media_event`](super::Server::handle_media_event).
    CreatePipeline {
        object: ObjectKey,
    },
    /// As [`CreatePipeline`](Self::CreatePipeline).
    CreateElement {
        object: ObjectKey,
        pipeline: PipelineId,
        kind: ElementKind,
    },
    /// As [`CreatePipeline`](Self::CreatePipeline).
    CreateCustomElement {
        object: ObjectKey,
        pipeline: PipelineId,
        class: &'static str,
        parameters: Parameters,
    },
    Invoke {
        element: ElementId,
        operation: &'static str,
        parameters: Parameters,
    },
    Query {
        element: ElementId,
        operation: &'static str,
    },
    ProcessOffer {
        element: ElementId,
        offer: String,
    },
    GenerateOffer {
        element: ElementId,
        options: OfferOptions,
    },
    ProcessAnswer {
        element: ElementId,
        answer: String,
    },
    GatherCandidates {
        element: ElementId,
    },
    AddIceCandidate {
        element: ElementId,
        candidate: IceCandidate,
    },
    Connect {
        source: ElementId,
        sink: ElementId,
        kind: Option<MediaKind>,
    },
    Disconnect {
        source: ElementId,
        sink: ElementId,
        kind: Option<MediaKind>,
    },
    SetBandwidth {
        element: ElementId,
        limits: BandwidthLimits,
    },
    Stats {
        element: ElementId,
    },
    RequestKeyFrame {
        element: ElementId,
    },
    CreateDataChannel {
        element: ElementId,
        options: DataChannelOptions,
    },
    CloseDataChannel {
        element: ElementId,
        stream: u16,
    },
    /// How much of one core this process uses, over a while.
    MeasureCpu {
        interval: Duration,
    },
    /// Memory of this process.
    MeasureMemory,
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The call returns nothing.
    Nothing,
    /// Of [`Call::CreatePipeline`].
    Pipeline(PipelineId),
    /// Of [`Call::CreateElement`] and [`Call::CreateCustomElement`].
    Element(ElementId),
    /// A session description.
    Text(String),
    /// Of [`Call::Query`].
    Values(Parameters),
    /// Of [`Call::Stats`].
    Stats(EndpointStats),
    /// Of [`Call::MeasureCpu`]: percent of one core, which can exceed 100.
    CpuPercent(f64),
    /// Of [`Call::MeasureMemory`], in KiB.
    MemoryKib(u64),
}

/// What is done with the results of a request's calls.
#[derive(Debug)]
pub(super) enum After {
    /// The request has no value and no effect of its own.
    Nothing,
    /// As [`Nothing`](Self::Nothing), whatever came of the calls.
    Regardless,
    Create(NewObject),
    OfferProcessed(ObjectKey),
    OfferGenerated(ObjectKey),
    AnswerProcessed(ObjectKey),
    Gathered,
    CandidateAdded,
    Connected(Vec<Link>),
    Disconnected(Vec<Link>),
    /// A hub's routes: sink port, kind, source port or none.
    Routed(Vec<Route>),
    /// A sound was connected to a port of a mixer, or disconnected from it; what the port gets of it.
    Mixed {
        source: ObjectKey,
        route: Route,
    },
    Stats {
        object: ObjectKey,
        kind: Option<MediaKind>,
    },
    KeyFrameRequested,
    DataChannel,
    /// A property of a player, by its name.
    Played(&'static str),
    /// Recordings below an object are complete, so it can go.
    Completed(ObjectKey),
    Measured,
}
