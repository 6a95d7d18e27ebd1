//! Endpoints that negotiate: session descriptions, candidates, data channels, states.

mod transport;

use std::collections::BTreeMap;

use media::{DtlsState, ElementId, IceCandidate, IceState, OfferOptions};
use serde_json::{Value, json};

use super::Server;
use super::description;
use super::objects::Object;
use super::operations::done;
use super::requests::{Answer, Outcome, Step};
use super::view::View;
use super::work::{After, Call, ObjectKey, Reply};
use crate::fault::Fault;
use crate::model::marshal::{Arguments, register};
use crate::model::{elements, events};

/// Candidates kept of either side, to be shown in the descriptions and to wait for negotiation. A
/// host with many addresses has dozens.
const CANDIDATES_MAX: usize = 256;
/// The one transport of a bundled endpoint.
pub(super) const STREAM: &str = "1";

/// What negotiation and its transport have come to.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    negotiation: Negotiation,
    local: Option<String>,
    remote: Option<String>,
    local_candidates: Vec<IceCandidate>,
    remote_candidates: Vec<IceCandidate>,
    /// Came before there was a transport.
    early_candidates: Vec<IceCandidate>,
    gathers_early: bool,
    pub(super) connected: bool,
    pub(super) media_connected: bool,
    pub(super) ice: BTreeMap<u8, IceState>,
    pub(super) pairs: BTreeMap<u8, (String, String)>,
    pub(super) dtls: Option<DtlsState>,
    pub(super) channels_opened: u64,
    pub(super) channels_closed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Negotiation {
    #[default]
    Fresh,
    /// The media server is reading an offer, or was answered.
    OfferProcessed,
    OfferGenerated,
    AnswerProcessed,
}

impl Endpoint {
    pub(super) fn note_local_candidate(&mut self, candidate: &IceCandidate) {
        if self.local_candidates.len() < CANDIDATES_MAX {
            self.local_candidates.push(candidate.clone());
        }
    }

    /// A property of its state.
    pub(super) fn property(&self, name: &str) -> Value {
        let state = |connected| match connected {
            true => "CONNECTED".into(),
            false => "DISCONNECTED".into(),
        };
        match name {
            "mediaState" => state(self.media_connected),
            "connectionState" => state(self.connected),
            "ICECandidatePairs" => {
                let pairs = self.pairs.iter();
                pairs
                    .map(|(component, (local, remote))| pair(*component, local, remote))
                    .collect()
            }
            "IceConnectionState" => {
                let ice = self.ice.iter();
                ice.map(|(component, state)| {
                    let state = ice_name(*state);
                    let members =
                        json!({ "streamId": STREAM, "componentId": component, "state": state });
                    register("IceConnection", members)
                })
                .collect()
            }
            "DtlsConnectionState" => {
                let dtls = self.dtls.iter();
                dtls.map(|state| register("DtlsConnection", dtls_members(*state)))
                    .collect()
            }
            _ => Value::Null,
        }
    }

    /// Calls that had to wait for the transport.
    fn deferred_calls(&mut self, element: &ElementId) -> Vec<Call> {
        let mut calls = Vec::new();
        if std::mem::take(&mut self.gathers_early) {
            let element = element.clone();
            calls.push(Call::GatherCandidates { element });
        }
        let early = std::mem::take(&mut self.early_candidates);
        calls.extend(early.into_iter().map(|candidate| Call::AddIceCandidate {
            element: element.clone(),
            candidate,
        }));
        calls
    }
}

impl Server {
    pub(super) fn call_endpoint(
        &mut self,
        key: ObjectKey,
        method: &str,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        match method {
            "processOffer" => self.process_offer(key, arguments.text("offer")),
            "generateOffer" => self.generate_offer(key, arguments.value("options")),
            "processAnswer" => self.process_answer(key, arguments.text("answer")),
            "getLocalSessionDescriptor" => {
                let endpoint = self.endpoint(key)?;
                let local = endpoint
                    .local
                    .as_ref()
                    .ok_or_else(|| Fault::kurento(Fault::NO_LOCAL_SDP, "No local SDP"))?;
                let local = self.view(key).description(local);
                done(description::with_candidates(&local, &endpoint.local_candidates).into())
            }
            "getRemoteSessionDescriptor" => {
                let endpoint = self.endpoint(key)?;
                let remote = endpoint
                    .remote
                    .as_ref()
                    .ok_or_else(|| Fault::kurento(Fault::NO_REMOTE_SDP, "No remote SDP"))?;
                done(description::with_candidates(remote, &endpoint.remote_candidates).into())
            }
            "gatherCandidates" => self.gather_candidates(key),
            "addIceCandidate" => self.add_candidate(key, arguments.value("candidate")),
            "createDataChannel" => self.create_data_channel(key, arguments),
            "closeDataChannel" => self.close_data_channel(key, arguments),
            _ => {
                let element = self.element(key)?;
                self.call_if_sending(key, Call::RequestKeyFrame { element })
            }
        }
    }

    fn endpoint(&self, key: ObjectKey) -> Result<&Endpoint, Fault> {
        let endpoint = self.objects.known(key)?.endpoint.as_deref();
        endpoint.ok_or_else(|| Fault::object_not_found(self.objects.id(key)))
    }

    fn endpoint_mut(&mut self, key: ObjectKey) -> Result<&mut Endpoint, Fault> {
        let endpoint = self.objects.known_mut(key)?.endpoint.as_deref_mut();
        endpoint.ok_or_else(|| Fault::object_not_found(""))
    }

    pub(super) fn element(&self, key: ObjectKey) -> Result<ElementId, Fault> {
        let element = self.objects.known(key)?.input().cloned();
        element.ok_or_else(|| Fault::object_not_found(self.objects.id(key)))
    }

    fn process_offer(&mut self, key: ObjectKey, offer: &str) -> Result<Step, Fault> {
        if offer.is_empty() {
            return Err(Fault::kurento(Fault::SDP_PARSE, "Empty offer not valid"));
        }
        description::check(offer)?;
        let element = self.element(key)?;
        let limits = self.objects.known(key)?.bandwidth();
        let codec = self.pipeline_of(key).and_then(|it| it.video_codec.clone());
        let endpoint = self.endpoint_mut(key)?;
        endpoint.begin(Negotiation::OfferProcessed)?;
        endpoint.remote = Some(offer.to_owned());
        // The answer keeps the order of the offer.
        let offer = codec.map_or_else(
            || offer.to_owned(),
            |codec| description::preferring(offer, &codec),
        );
        let mut calls = vec![
            Call::SetBandwidth {
                element: element.clone(),
                limits,
            },
            Call::ProcessOffer {
                element: element.clone(),
                offer,
            },
        ];
        calls.extend(endpoint.deferred_calls(&element));
        let after = After::OfferProcessed(key);
        Ok(Step::Media { calls, after })
    }

    pub(super) fn offer_processed(
        &mut self,
        key: ObjectKey,
        replies: Vec<Result<Reply, media::Error>>,
    ) -> Answer {
        let outcome = description_in(replies);
        let view = self.view(key);
        let endpoint = self.endpoint_mut(key)?;
        match outcome {
            Ok(answer) => {
                endpoint.local = Some(answer.clone());
                let shown = view.description(&answer);
                let codec = description::video_codec(&answer, &["a=sendrecv", "a=recvonly"]);
                self.align_codecs(key, codec);
                self.negotiated(key);
                Ok(Outcome::Value(shown.into()))
            }
            Err(error) => {
                endpoint.reopen(Negotiation::Fresh);
                Err(refused(
                    error,
                    Fault::PROCESS_OFFER,
                    "Error processing offer",
                ))
            }
        }
    }

    fn generate_offer(&mut self, key: ObjectKey, options: Option<&Value>) -> Result<Step, Fault> {
        let element = self.element(key)?;
        let limits = self.objects.known(key)?.bandwidth();
        let endpoint = self.endpoint_mut(key)?;
        endpoint.begin(Negotiation::OfferGenerated)?;
        let option = |name| {
            let option = options.and_then(|options| options.get(name)?.as_bool());
            option.unwrap_or(true)
        };
        let options = OfferOptions {
            audio: option("offerToReceiveAudio"),
            video: option("offerToReceiveVideo"),
        };
        let mut calls = vec![
            Call::SetBandwidth {
                element: element.clone(),
                limits,
            },
            Call::GenerateOffer {
                element: element.clone(),
                options,
            },
        ];
        calls.extend(endpoint.deferred_calls(&element));
        let after = After::OfferGenerated(key);
        Ok(Step::Media { calls, after })
    }

    pub(super) fn offer_generated(
        &mut self,
        key: ObjectKey,
        replies: Vec<Result<Reply, media::Error>>,
    ) -> Answer {
        let outcome = description_in(replies);
        let object = self.objects.known(key)?;
        let (direction, view) = (object.offered_direction(), View::of(object));
        let endpoint = self.endpoint_mut(key)?;
        match outcome {
            Ok(offer) => {
                let offer = description::redirected(&offer, direction);
                let shown = view.description(&offer);
                endpoint.local = Some(offer);
                Ok(Outcome::Value(shown.into()))
            }
            Err(error) => {
                endpoint.reopen(Negotiation::Fresh);
                Err(refused(
                    error,
                    Fault::GENERATE_OFFER,
                    "Error generating offer",
                ))
            }
        }
    }

    fn process_answer(&mut self, key: ObjectKey, answer: &str) -> Result<Step, Fault> {
        if answer.is_empty() {
            return Err(Fault::kurento(Fault::SDP_PARSE, "Empty answer not valid"));
        }
        description::check(answer)?;
        let element = self.element(key)?;
        let endpoint = self.endpoint_mut(key)?;
        match endpoint.negotiation {
            Negotiation::OfferGenerated if endpoint.local.is_some() => {}
            Negotiation::AnswerProcessed => {
                let message = "Sdp Answer already processed";
                return Err(Fault::kurento(Fault::ANSWER_ALREADY_PROCESSED, message));
            }
            _ => {
                let message = "Offer not generated. It is not possible to process an answer.";
                return Err(Fault::kurento(Fault::OFFER_NOT_GENERATED, message));
            }
        }
        endpoint.negotiation = Negotiation::AnswerProcessed;
        endpoint.remote = Some(answer.to_owned());
        let answer = answer.to_owned();
        Ok(Step::Media {
            calls: vec![Call::ProcessAnswer { element, answer }],
            after: After::AnswerProcessed(key),
        })
    }

    pub(super) fn answer_processed(
        &mut self,
        key: ObjectKey,
        replies: Vec<Result<Reply, media::Error>>,
    ) -> Answer {
        let outcome = description_in(replies);
        let object = self.objects.known(key)?;
        let (direction, view) = (object.offered_direction(), View::of(object));
        let endpoint = self.endpoint_mut(key)?;
        match outcome {
            Ok(local) => {
                let local = description::redirected(&local, direction);
                let shown = view.description(&local);
                let shown = description::with_candidates(&shown, &endpoint.local_candidates);
                endpoint.local = Some(local);
                let remote = endpoint.remote.clone().unwrap_or_default();
                let codec = description::video_codec(&remote, &["a=sendrecv", "a=sendonly"]);
                self.align_codecs(key, codec);
                self.negotiated(key);
                Ok(Outcome::Value(shown.into()))
            }
            Err(error) => {
                endpoint.reopen(Negotiation::OfferGenerated);
                Err(refused(
                    error,
                    Fault::PROCESS_ANSWER,
                    "Error processing answer",
                ))
            }
        }
    }

    fn pipeline_of(&self, key: ObjectKey) -> Option<&Object> {
        self.objects.get(self.objects.get(key)?.pipeline?)
    }

    /// The first video of a pipeline decides what others send: viewers get the codec of their source, and one codec suits
    /// more of them than several.
    fn align_codecs(&mut self, key: ObjectKey, codec: Option<&str>) {
        let pipeline = self.objects.get(key).and_then(|object| object.pipeline);
        let pipeline = pipeline.filter(|_| self.config.align_video_codecs);
        if let Some(pipeline) = pipeline.and_then(|key| self.objects.get_mut(key))
            && pipeline.video_codec.is_none()
        {
            pipeline.video_codec = codec.map(ToOwned::to_owned);
        }
    }

    /// Both descriptions are known. Plain RTP needs no more to be connected.
    fn negotiated(&mut self, key: ObjectKey) {
        let object = self.objects.get(key);
        if object.is_some_and(|object| object.class.is(&elements::RTP_ENDPOINT)) {
            self.set_connected(key, true);
        }
        self.emit(key, &events::MEDIA_SESSION_STARTED, json!({}));
    }
}

impl Endpoint {
    /// An endpoint negotiates once.
    fn begin(&mut self, negotiation: Negotiation) -> Result<(), Fault> {
        if self.negotiation != Negotiation::Fresh {
            let message = "Endpoint already negotiated";
            return Err(Fault::kurento(Fault::ALREADY_NEGOTIATED, message));
        }
        self.negotiation = negotiation;
        Ok(())
    }

    /// A refused description may be followed by a better one.
    fn reopen(&mut self, negotiation: Negotiation) {
        self.negotiation = negotiation;
        self.remote = None;
    }
}

impl Object {
    /// The direction that the constructor asked for.
    fn offered_direction(&self) -> Option<&'static str> {
        match (self.flag("recvonly"), self.flag("sendonly")) {
            (true, false) => Some("recvonly"),
            (false, true) => Some("sendonly"),
            _ => None,
        }
    }
}

/// The description among the replies, or why there is none.
fn description_in(replies: Vec<Result<Reply, media::Error>>) -> Result<String, media::Error> {
    let mut failure = media::Error::Unavailable("no answer".to_owned());
    for reply in replies {
        match reply {
            Ok(Reply::Text(text)) => return Ok(text),
            Ok(_) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn refused(error: media::Error, code: i32, message: &str) -> Fault {
    match error {
        media::Error::Sdp(reason) => {
            tracing::debug!(reason, "a session description was refused");
            Fault::kurento(code, message)
        }
        error => Fault::of_media(&error),
    }
}

pub(super) fn pair(component: u8, local: &str, remote: &str) -> Value {
    let members = json!({
        "streamId": STREAM,
        // Version 6 spells them so.
        "streamID": STREAM,
        "componentId": component,
        "componentID": component,
        "localCandidate": local,
        "remoteCandidate": remote,
    });
    register("IceCandidatePair", members)
}

pub(super) fn ice_name(state: IceState) -> &'static str {
    match state {
        IceState::Disconnected => "DISCONNECTED",
        IceState::Gathering => "GATHERING",
        IceState::Connecting => "CONNECTING",
        IceState::Connected => "CONNECTED",
        IceState::Ready => "READY",
        IceState::Failed => "FAILED",
    }
}

pub(super) fn dtls_members(state: DtlsState) -> Value {
    let state = match state {
        DtlsState::New => "NEW",
        DtlsState::Connecting => "CONNECTING",
        DtlsState::Connected => "CONNECTED",
        DtlsState::Failed => "FAILED",
        DtlsState::Closed => "CLOSED",
    };
    json!({ "streamId": STREAM, "componentId": "1", "connectionId": STREAM, "state": state })
}
