//! [`Kms`]: the client half on tokio.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::try_join_all;
use media::{
    BandwidthLimits, DataChannelOptions, ElementId, ElementKind, EndpointStats, Error, EventSender,
    IceCandidate, Kilobits, MediaKind, MediaServer, OfferOptions, Parameters, PipelineId,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, oneshot, watch};

use super::driver::{Shared, State, drive, now};
use super::machine::{Machine, Purpose, RequestId};
use super::translation::{self, OF_ALL, OF_ENDPOINTS, OF_WEB_ENDPOINTS};
use super::transport::Dial;
use crate::fault::Fault;
use crate::model::EventType;

/// A Kurento Media Server somewhere else. Clones are the same connection, which ends with the last.
///
/// It dials for ever: a server that comes back is used again. What a server kept over a lost
/// connection goes on; what it lost with a restart is told to the creators of pipelines as an
/// [`Error`](media::Event::Error) event.
#[derive(Clone)]
pub struct Kms(Arc<Shared>);

impl Kms {
    /// Begins to dial; see [`websocket`](super::websocket). `name` is what the log calls the server: its address
    /// without secrets. Needs a tokio runtime.
    pub fn new(name: &str, dial: Dial) -> Self {
        let wake = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                machine: Machine::new(now(), name),
                waiting: HashMap::new(),
            }),
            wake: wake.clone(),
            driver: Mutex::new(None),
            known: watch::Sender::new(false),
        });
        let driver = tokio::spawn(drive(Arc::downgrade(&shared), wake, dial));
        *shared.driver.lock() = Some(driver);
        Self(shared)
    }

    /// What the server said it is, when it was last there: `7.3.0`, say.
    pub fn version(&self) -> Option<String> {
        let state = self.0.state.lock();
        state.machine.version().map(ToOwned::to_owned)
    }

    /// Tells the server that its session is over, so that it need not find out. What other sessions
    /// hold stays.
    pub async fn shut_down(&self) -> Result<(), Error> {
        let mut params = Map::new();
        params.insert("release".to_owned(), false.into());
        self.call("closeSession", params).await.map(drop)
    }

    async fn call(&self, method: &'static str, params: Map<String, Value>) -> Result<Value, Error> {
        self.ask(method, params, Purpose::Call).await
    }

    async fn invoke_with(
        &self,
        object: &str,
        operation: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, Error> {
        let mut params = Map::new();
        params.insert("object".to_owned(), object.into());
        params.insert("operation".to_owned(), operation.into());
        if !arguments.is_empty() {
            params.insert("operationParams".to_owned(), arguments.into());
        }
        self.call("invoke", params).await
    }

    async fn command(&self, element: &ElementId, operation: &str) -> Result<(), Error> {
        let done = self.invoke_with(element.as_str(), operation, Map::new());
        done.await.map(drop)
    }

    async fn text(
        &self,
        element: &ElementId,
        operation: &str,
        arguments: Value,
    ) -> Result<String, Error> {
        let arguments = members(arguments);
        let value = self
            .invoke_with(element.as_str(), operation, arguments)
            .await?;
        match value {
            Value::String(text) => Ok(text),
            _ => Err(Error::Unavailable(format!("{operation} returned no text"))),
        }
    }

    /// Sends a request and waits. Dropped, it leaves nothing behind.
    async fn ask(
        &self,
        method: &'static str,
        params: Map<String, Value>,
        purpose: Purpose,
    ) -> Result<Value, Error> {
        let mut question = {
            let mut state = self.0.state.lock();
            let creates = matches!(purpose, Purpose::Create(_));
            let id = state.machine.request(now(), method, params, purpose)?;
            let (answer, answered) = oneshot::channel();
            state.waiting.insert(id, answer);
            Question {
                shared: &self.0,
                id,
                answered,
                creates,
                over: false,
            }
        };
        self.0.wake.notify_one();
        let answer = (&mut question.answered).await;
        question.over = true;
        answer.unwrap_or_else(|_| Err(Error::Unavailable("shut down".to_owned())))
    }

    /// Makes an object and asks for its events. Complete or not at all.
    async fn create(
        &self,
        class: &str,
        constructor: Map<String, Value>,
        events: EventSender,
        wanted: &'static [&'static EventType],
    ) -> Result<String, Error> {
        let mut params = Map::new();
        params.insert("type".to_owned(), class.into());
        params.insert("constructorParams".to_owned(), constructor.into());
        let made = self.ask("create", params, Purpose::Create(events)).await?;
        let Value::String(object) = made else {
            return Err(Error::Unavailable("create returned no id".to_owned()));
        };
        let mut made = Made {
            kms: self,
            object: Some(object.clone()),
        };
        try_join_all(wanted.iter().map(|event| self.subscribe(&object, event))).await?;
        made.object = None;
        Ok(object)
    }

    /// Asks for an event by its present name, then by those of older servers. One that the server
    /// does not have is done without.
    async fn subscribe(&self, object: &str, event: &'static EventType) -> Result<(), Error> {
        for name in event.names() {
            let mut params = Map::new();
            params.insert("object".to_owned(), object.into());
            params.insert("type".to_owned(), name.into());
            match self.call("subscribe", params).await {
                Err(Error::Refused { code, .. }) if code == Fault::EVENT_NOT_SUPPORTED => {}
                other => return other.map(drop),
            }
        }
        Ok(())
    }

    fn release(&self, object: &str) {
        self.0.state.lock().machine.release(now(), object);
        self.0.wake.notify_one();
    }

    async fn link(
        &self,
        operation: &str,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        let mut arguments = Map::new();
        arguments.insert("sink".to_owned(), sink.as_str().into());
        if let Some(kind) = kind {
            let kind = translation::kind_name(kind);
            arguments.insert("mediaType".to_owned(), kind.into());
        }
        let done = self.invoke_with(source.as_str(), operation, arguments);
        done.await.map(drop)
    }

    async fn set_limit(
        &self,
        element: &ElementId,
        property: &str,
        limit: Option<Kilobits>,
    ) -> Result<(), Error> {
        let mut first = property.chars();
        let capital = first.next().map(|first| first.to_ascii_uppercase());
        let operation: String = "set".chars().chain(capital).chain(first).collect();
        let mut arguments = Map::new();
        let kilobits = limit.map_or(0, |Kilobits(kilobits)| kilobits);
        arguments.insert(property.to_owned(), kilobits.into());
        let done = self.invoke_with(element.as_str(), &operation, arguments);
        done.await.map(drop)
    }
}

/// A request that somebody waits for.
struct Question<'a> {
    shared: &'a Shared,
    id: RequestId,
    answered: oneshot::Receiver<Result<Value, Error>>,
    creates: bool,
    over: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.shared.state.lock();
        state.waiting.remove(&self.id);
        // The answer may have come, and found nobody who reads it.
        match self.answered.try_recv() {
            Ok(Ok(Value::String(object))) if self.creates => {
                state.machine.release(now(), &object);
            }
            Ok(_) => {}
            Err(_) => state.machine.abandon(self.id),
        }
        self.shared.wake.notify_one();
    }
}

/// An object that is not ready to be handed out.
struct Made<'a> {
    kms: &'a Kms,
    object: Option<String>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Some(object) = &self.object {
            self.kms.release(object);
        }
    }
}

impl MediaServer for Kms {
    fn is_up(&self) -> bool {
        self.0.state.lock().machine.is_up()
    }

    async fn known(&self) {
        let mut known = self.0.known.subscribe();
        // Fails without a sender, which is ours.
        let _ = known.wait_for(|known| *known).await;
    }

    async fn create_pipeline(&self, events: EventSender) -> Result<PipelineId, Error> {
        let made = self.create("MediaPipeline", Map::new(), events, OF_ALL);
        made.await.map(PipelineId::new)
    }

    async fn create_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let mut constructor = Map::new();
        constructor.insert("mediaPipeline".to_owned(), pipeline.as_str().into());
        let wanted = match kind {
            ElementKind::WebRtcEndpoint { data_channels, .. } => {
                constructor.insert("useDataChannels".to_owned(), data_channels.into());
                OF_WEB_ENDPOINTS
            }
            ElementKind::RtpEndpoint { ref sdes, ipv6 } => {
                constructor.insert("useIpv6".to_owned(), ipv6.into());
                let crypto = sdes.as_ref().map(translation::sdes_value);
                constructor.extend(crypto.map(|crypto| ("crypto".to_owned(), crypto)));
                OF_ENDPOINTS
            }
            _ => OF_ALL,
        };
        let made = self.create(kind.class_name(), constructor, events, wanted);
        made.await.map(ElementId::new)
    }

    async fn create_custom_element(
        &self,
        pipeline: &PipelineId,
        class: &str,
        parameters: &Parameters,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let mut constructor = translation::arguments(parameters);
        constructor.insert("mediaPipeline".to_owned(), pipeline.as_str().into());
        let made = self.create(class, constructor, events, translation::wanted(class));
        made.await.map(ElementId::new)
    }

    async fn invoke(
        &self,
        element: &ElementId,
        operation: &'static str,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        let arguments = translation::arguments(parameters);
        let done = self.invoke_with(element.as_str(), operation, arguments);
        done.await.map(drop)
    }

    async fn query(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> Result<Parameters, Error> {
        let told = self.invoke_with(element.as_str(), operation, Map::new());
        Ok(translation::values(operation, &told.await?))
    }

    async fn process_offer(&self, element: &ElementId, offer: &str) -> Result<String, Error> {
        self.text(element, "processOffer", json!({ "offer": offer }))
            .await
    }

    async fn generate_offer(
        &self,
        element: &ElementId,
        options: OfferOptions,
    ) -> Result<String, Error> {
        // Older servers do not know the parameter, and need not be told what they do anyway.
        let arguments = if options == OfferOptions::default() {
            json!({})
        } else {
            json!({ "options": {
                "__module__": "kurento",
                "__type__": "OfferOptions",
                "offerToReceiveAudio": options.audio,
                "offerToReceiveVideo": options.video,
            } })
        };
        self.text(element, "generateOffer", arguments).await
    }

    async fn process_answer(&self, element: &ElementId, answer: &str) -> Result<String, Error> {
        self.text(element, "processAnswer", json!({ "answer": answer }))
            .await
    }

    async fn gather_candidates(&self, element: &ElementId) -> Result<(), Error> {
        self.command(element, "gatherCandidates").await
    }

    async fn add_ice_candidate(
        &self,
        element: &ElementId,
        candidate: IceCandidate,
    ) -> Result<(), Error> {
        let arguments = json!({ "candidate": translation::candidate_value(&candidate) });
        let done = self.invoke_with(element.as_str(), "addIceCandidate", members(arguments));
        done.await.map(drop)
    }

    async fn connect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        self.link("connect", source, sink, kind).await
    }

    async fn disconnect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        self.link("disconnect", source, sink, kind).await
    }

    async fn set_bandwidth(
        &self,
        element: &ElementId,
        limits: BandwidthLimits,
    ) -> Result<(), Error> {
        // Sent at once, and handled in this order. The server keeps each bound on its side of the
        // other, so an upper one below the present lower one is stored only the second time.
        let max = ("maxVideoSendBandwidth", limits.max_video_send);
        let all = [
            ("maxAudioRecvBandwidth", limits.max_audio_recv),
            ("maxVideoRecvBandwidth", limits.max_video_recv),
            ("minVideoRecvBandwidth", limits.min_video_recv),
            max,
            ("minVideoSendBandwidth", limits.min_video_send),
            max,
        ];
        let set = all.map(|(property, limit)| self.set_limit(element, property, limit));
        try_join_all(set).await.map(drop)
    }

    async fn stats(&self, element: &ElementId) -> Result<EndpointStats, Error> {
        let mut counted = EndpointStats::default();
        // A stream does not say of which kind it is; the question does.
        for kind in MediaKind::ALL {
            let arguments = json!({ "mediaType": translation::kind_name(kind) });
            let stats = self.invoke_with(element.as_str(), "getStats", members(arguments));
            translation::count(kind, &stats.await?, &mut counted);
        }
        Ok(counted)
    }

    async fn request_key_frame(&self, element: &ElementId) -> Result<(), Error> {
        self.command(element, "requestKeyframe").await
    }

    async fn create_data_channel(
        &self,
        element: &ElementId,
        options: DataChannelOptions,
    ) -> Result<(), Error> {
        let bound = |bound: Option<u16>| bound.map_or(-1, i32::from);
        let arguments = json!({
            "label": options.label,
            "ordered": options.ordered,
            "maxPacketLifeTime": bound(options.max_packet_life_time_ms),
            "maxRetransmits": bound(options.max_retransmits),
            "protocol": options.protocol,
        });
        let done = self.invoke_with(element.as_str(), "createDataChannel", members(arguments));
        done.await.map(drop)
    }

    async fn close_data_channel(&self, element: &ElementId, stream: u16) -> Result<(), Error> {
        let arguments = members(json!({ "channelId": stream }));
        let done = self.invoke_with(element.as_str(), "closeDataChannel", arguments);
        done.await.map(drop)
    }

    fn release_element(&self, element: &ElementId) {
        self.release(element.as_str());
    }

    fn release_pipeline(&self, pipeline: &PipelineId) {
        self.release(pipeline.as_str());
    }
}

fn members(arguments: Value) -> Map<String, Value> {
    match arguments {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kms")
    }
}
