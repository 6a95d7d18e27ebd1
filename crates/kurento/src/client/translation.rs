//! The words of the protocol in those of the seam, and back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use media::{
    ChannelStats, Direction, DtlsState, ElementId, EndpointStats, Error, ErrorKind, Event,
    EventSender, FileState, IceCandidate, IceState, MediaKind, MediaState, Parameter, Parameters,
    PipelineId, Recording, Sdes, StreamStats,
};
use serde_json::{Map, Value, json};

use super::machine::OpenChannels;
use crate::fault::Fault;
use crate::model::{EventType, events};

/// An object whose events somebody wants.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) events: EventSender,
    channels: OpenChannels,
}

impl Watch {
    pub(super) fn new(events: EventSender) -> Self {
        let channels = OpenChannels::new();
        Self { events, channels }
    }
}

/// Events that every object is asked for.
pub(super) static OF_ALL: &[&EventType] = &[&events::ERROR];
/// Events of endpoints besides.
pub(super) static OF_ENDPOINTS: &[&EventType] = &[
    &events::ERROR,
    &events::CONNECTION_STATE_CHANGED,
    &events::FLOW_OUT_CHANGED,
];
/// Events of endpoints with ICE besides.
pub(super) static OF_WEB_ENDPOINTS: &[&EventType] = &[
    &events::ERROR,
    &events::CONNECTION_STATE_CHANGED,
    &events::FLOW_OUT_CHANGED,
    &events::ICE_CANDIDATE_FOUND,
    &events::ICE_GATHERING_DONE,
    &events::ICE_COMPONENT_STATE_CHANGED,
    &events::DTLS_CONNECTION_STATE_CHANGE,
    &events::NEW_CANDIDATE_PAIR_SELECTED,
    &events::DATA_CHANNEL_OPENED,
    &events::DATA_CHANNEL_CLOSED,
];

/// Events of players besides.
static OF_PLAYERS: &[&EventType] = &[
    &events::ERROR,
    &events::FLOW_OUT_CHANGED,
    &events::URI_ENDPOINT_STATE_CHANGED,
    &events::END_OF_STREAM,
];
/// Events of recorders besides.
static OF_RECORDERS: &[&EventType] = &[
    &events::ERROR,
    &events::URI_ENDPOINT_STATE_CHANGED,
    &events::RECORDING,
    &events::PAUSED,
    &events::STOPPED,
];

/// What is wanted of a class that only some media servers know.
pub(super) fn wanted(class: &str) -> &'static [&'static EventType] {
    match class {
        "PlayerEndpoint" => OF_PLAYERS,
        "RecorderEndpoint" => OF_RECORDERS,
        _ => OF_ALL,
    }
}

/// Reads an event under the name of either generation. `None`: it says nothing that the seam knows.
pub(super) fn event(watch: &mut Watch, kind: &str, data: &Map<String, Value>) -> Option<Event> {
    let named = |event: &&&'static EventType| event.names().any(|name| name == kind);
    let mut all = [OF_WEB_ENDPOINTS, OF_PLAYERS, OF_RECORDERS]
        .into_iter()
        .flatten();
    let known = all.find(named)?;
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    Some(match known.name {
        "Error" => Event::Error {
            kind: error_kind(text("type").unwrap_or_default()),
            description: text("description").unwrap_or_default().to_owned(),
            code: integer(data.get("errorCode")),
        },
        "ConnectionStateChanged" => Event::MediaStateChanged(match text("newState")? {
            "CONNECTED" => MediaState::Connected,
            _ => MediaState::Disconnected,
        }),
        // What flows out of an endpoint into the pipeline is what comes in from its peer.
        "MediaFlowOutStateChanged" => Event::MediaFlowInChanged {
            kind: kind_named(text("mediaType")?)?,
            flowing: text("state")? == "FLOWING",
        },
        "IceCandidateFound" => Event::IceCandidateFound(candidate(data.get("candidate")?)?),
        "IceGatheringDone" => Event::IceGatheringDone,
        "IceComponentStateChanged" => Event::IceStateChanged {
            component: component(data),
            state: ice_state(text("state")?)?,
        },
        "DtlsConnectionStateChange" => Event::DtlsStateChanged(dtls_state(text("state")?)?),
        "NewCandidatePairSelected" => {
            let pair = data.get("candidatePair")?.as_object()?;
            let text = |name: &str| pair.get(name).and_then(Value::as_str);
            Event::CandidatePairSelected {
                component: component(pair),
                local: text("localCandidate")?.to_owned(),
                remote: text("remoteCandidate")?.to_owned(),
            }
        }
        "DataChannelOpened" => {
            let stream = u16::try_from(integer(data.get("channelId"))).ok()?;
            let is_news = watch.channels.insert(stream);
            return is_news.then_some(Event::DataChannelOpened(stream));
        }
        "UriEndpointStateChanged" => Event::FileStateChanged(match text("state")? {
            "START" => FileState::Started,
            "PAUSE" => FileState::Paused,
            _ => FileState::Stopped,
        }),
        "Recording" => Event::RecordingChanged(Recording::Active),
        "Paused" => Event::RecordingChanged(Recording::Paused),
        "Stopped" => Event::RecordingChanged(Recording::Stopped),
        "EndOfStream" => Event::EndOfStream,
        _ => {
            let stream = u16::try_from(integer(data.get("channelId"))).ok()?;
            let is_news = watch.channels.remove(&stream);
            return is_news.then_some(Event::DataChannelClosed(stream));
        }
    })
}

fn integer(value: Option<&Value>) -> i32 {
    let number = value.and_then(Value::as_i64).unwrap_or(0);
    i32::try_from(number).unwrap_or(0)
}

fn component(data: &Map<String, Value>) -> u8 {
    u8::try_from(integer(data.get("componentId"))).unwrap_or(1)
}

fn error_kind(name: &str) -> ErrorKind {
    match name {
        "STREAM_ERROR_FAILED" => ErrorKind::StreamFailed,
        name => ErrorKind::Other(name.to_owned()),
    }
}

fn candidate(value: &Value) -> Option<IceCandidate> {
    let index = value.get("sdpMLineIndex")?.as_u64()?;
    Some(IceCandidate {
        candidate: value.get("candidate")?.as_str()?.to_owned(),
        sdp_mid: value.get("sdpMid")?.as_str()?.to_owned(),
        sdp_m_line_index: u16::try_from(index).ok()?,
    })
}

fn ice_state(name: &str) -> Option<IceState> {
    Some(match name {
        "DISCONNECTED" => IceState::Disconnected,
        "GATHERING" => IceState::Gathering,
        "CONNECTING" => IceState::Connecting,
        "CONNECTED" => IceState::Connected,
        "READY" => IceState::Ready,
        "FAILED" => IceState::Failed,
        _ => return None,
    })
}

fn dtls_state(name: &str) -> Option<DtlsState> {
    Some(match name {
        "NEW" => DtlsState::New,
        "CONNECTING" => DtlsState::Connecting,
        "CONNECTED" => DtlsState::Connected,
        "FAILED" => DtlsState::Failed,
        "CLOSED" => DtlsState::Closed,
        _ => return None,
    })
}

fn kind_named(name: &str) -> Option<MediaKind> {
    MediaKind::ALL
        .into_iter()
        .find(|kind| kind_name(*kind) == name)
}

pub(super) fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "AUDIO",
        MediaKind::Video => "VIDEO",
        MediaKind::Data => "DATA",
    }
}

/// What a refusal means at the seam; `params` are those of the request.
pub(super) fn error(params: &Map<String, Value>, fault: Fault) -> Error {
    let object = || {
        let named = params.get("object").or_else(|| {
            let constructor = params.get("constructorParams")?;
            constructor.get("mediaPipeline")
        });
        named.and_then(Value::as_str).unwrap_or_default()
    };
    match fault.code {
        Fault::OBJECT_NOT_FOUND if object().contains('/') => {
            Error::ElementNotFound(ElementId::new(object()))
        }
        Fault::OBJECT_NOT_FOUND => Error::PipelineNotFound(PipelineId::new(object())),
        Fault::CONNECT => Error::DifferentPipelines,
        Fault::ALREADY_NEGOTIATED | Fault::ANSWER_ALREADY_PROCESSED => Error::AlreadyNegotiated,
        Fault::OFFER_NOT_GENERATED => Error::NoOffer,
        Fault::SDP_CREATE..=Fault::PROCESS_ANSWER => Error::Sdp(fault.message),
        Fault::GATHER_CANDIDATES | Fault::ADD_CANDIDATE => Error::Candidate(fault.message),
        Fault::NOT_ENOUGH_RESOURCES => Error::Full(fault.message),
        // An operation that the class does not have, or not now.
        Fault::MALFORMED_TRANSACTION | Fault::OPERATION_NOT_SUPPORTED => Error::Unsupported {
            element: ElementId::new(object()),
            operation: "invoke",
        },
        code => Error::Refused {
            code,
            kind: fault.kind().unwrap_or_default().to_owned(),
            message: fault.message,
        },
    }
}

/// A candidate for the wire.
pub(super) fn candidate_value(candidate: &IceCandidate) -> Value {
    json!({
        "__module__": "kurento",
        "__type__": "IceCandidate",
        "candidate": candidate.candidate,
        "sdpMid": candidate.sdp_mid,
        "sdpMLineIndex": candidate.sdp_m_line_index,
    })
}

/// The constructor's parameter `crypto`.
pub(super) fn sdes_value(sdes: &Sdes) -> Value {
    let mut value = json!({
        "__module__": "kurento",
        "__type__": "SDES",
        "crypto": sdes.suite().name(),
    });
    if let Some(key) = sdes.key() {
        value["keyBase64"] = BASE64.encode(key).into();
    }
    value
}

/// Arguments for the wire.
pub(super) fn arguments(parameters: &Parameters) -> Map<String, Value> {
    let pairs = parameters.iter().map(|(name, parameter)| {
        let value = match parameter {
            Parameter::Text(text) => text.clone().into(),
            Parameter::Integer(number) => (*number).into(),
            Parameter::Real(number) => (*number).into(),
            Parameter::Flag(flag) => (*flag).into(),
        };
        (name.clone(), value)
    });
    pairs.collect()
}

/// What an operation told: the members of a register, or one value named as its accessor.
pub(super) fn values(operation: &str, told: &Value) -> Parameters {
    let parameter = |value: &Value| {
        Some(match value {
            Value::String(text) => Parameter::Text(text.clone()),
            Value::Bool(flag) => Parameter::Flag(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Parameter::Integer(whole),
                None => Parameter::Real(number.as_f64()?),
            },
            _ => return None,
        })
    };
    let Value::Object(members) = told else {
        let name = operation.strip_prefix("get").unwrap_or(operation);
        let mut name = name.to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        return parameter(told)
            .map(|value| (name, value))
            .into_iter()
            .collect();
    };
    let members = members.iter().filter(|(name, _)| !name.starts_with("__"));
    members
        .filter_map(|(name, value)| Some((name.clone(), parameter(value)?)))
        .collect()
}

/// Adds what the answer to `getStats` tells about one kind.
pub(super) fn count(kind: MediaKind, stats: &Value, counted: &mut EndpointStats) {
    for stats in stats.as_object().into_iter().flat_map(Map::values) {
        match kind {
            MediaKind::Data => counted.channels.extend(channel(stats)),
            kind => counted.streams.extend(stream(kind, stats)),
        }
    }
}

fn channel(stats: &Value) -> Option<ChannelStats> {
    let count = |name: &str| stats.get(name).and_then(Value::as_u64);
    let text = |name: &str| stats.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(ChannelStats {
        stream: count("datachannelid")?.try_into().ok()?,
        label: text("label").unwrap_or_default(),
        protocol: text("protocol").unwrap_or_default(),
        is_open: text("state")? == "open",
        messages_sent: count("messagesSent").unwrap_or(0),
        bytes_sent: count("bytesSent").unwrap_or(0),
        messages_received: count("messagesReceived").unwrap_or(0),
        bytes_received: count("bytesReceived").unwrap_or(0),
    })
}

fn stream(kind: MediaKind, stats: &Value) -> Option<StreamStats> {
    let direction = match stats.get("type")?.as_str()? {
        "inboundrtp" => Direction::Inbound,
        "outboundrtp" => Direction::Outbound,
        _ => return None,
    };
    let count = |name: &str| stats.get(name).and_then(Value::as_u64).unwrap_or(0);
    let real = |name: &str| stats.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let seconds = |name: &str| Duration::try_from_secs_f64(real(name)).unwrap_or_default();
    let (packets, bytes) = match direction {
        Direction::Inbound => ("packetsReceived", "bytesReceived"),
        Direction::Outbound => ("packetsSent", "bytesSent"),
    };
    let round_trip_time = seconds("roundTripTime");
    Some(StreamStats {
        kind,
        direction,
        ssrc: stats.get("ssrc")?.as_str()?.parse().ok()?,
        packets: count(packets),
        bytes: count(bytes),
        packets_lost: stats
            .get("packetsLost")
            .and_then(Value::as_i64)
            .unwrap_or(0),
        // Saturates, as a cast does.
        fraction_lost: real("fractionLost") as u8,
        jitter: seconds("jitter"),
        round_trip_time: (!round_trip_time.is_zero()).then_some(round_trip_time),
        pli_count: count("pliCount"),
        fir_count: count("firCount"),
        nack_count: count("nackCount"),
        remb_bps: Some(count("remb")).filter(|remb| *remb > 0),
        // Saturates, as a cast does.
        sent_bps: Some(real("targetBitrate") as u64).filter(|sent| *sent > 0),
    })
}
