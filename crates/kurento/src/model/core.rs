//! Classes of the module `core`.

use super::table::{aliased, class, computed, fixed, method, optional, required, stored};
use super::{Class, Kind, Method, Parameter, Property, enumerations as e, events, registers as r};

/// Bases before what derives from them.
pub(crate) static CLASSES: &[&Class] = &[
    &MEDIA_OBJECT,
    &SERVER_MANAGER,
    &MEDIA_PIPELINE,
    &MEDIA_ELEMENT,
    &PASS_THROUGH,
    &HUB,
    &HUB_PORT,
    &ENDPOINT,
    &SESSION_ENDPOINT,
    &SDP_ENDPOINT,
    &BASE_RTP_ENDPOINT,
    &URI_ENDPOINT,
    &FILTER,
];

const TEXT: Kind = Kind::Text;
const MEDIA_TYPE: Kind = Kind::Enumeration(&e::MEDIA_TYPE);
// A `static`, as a constant would have to know the class that uses it.
static CONNECTIONS: Kind = Kind::List(&Kind::Register(&r::ELEMENT_CONNECTION_DATA));
const DOT_DETAILS: &[Parameter] = &[optional(
    "details",
    Kind::Enumeration(&e::GSTREAMER_DOT_DETAILS),
)];
pub(super) const DOT: Method = method("getGstreamerDot", DOT_DETAILS, Some(TEXT));
pub(super) const DUMP_DOT: Method = method("dumpGstreamerDot", DOT_DETAILS, None);
static CONNECT: [Parameter; 4] = [
    required("sink", Kind::Object(&MEDIA_ELEMENT)),
    optional("mediaType", MEDIA_TYPE),
    optional("sourceMediaDescription", TEXT),
    optional("sinkMediaDescription", TEXT),
];
const CONNECTION_FILTER: &[Parameter] = &[
    optional("mediaType", MEDIA_TYPE),
    optional("description", TEXT),
];
/// The one constructor parameter of most elements.
pub(super) const IN_PIPELINE: Parameter = required("mediaPipeline", Kind::Object(&MEDIA_PIPELINE));

pub(crate) static MEDIA_OBJECT: Class = Class {
    name: "MediaObject",
    parent: None,
    constructor: None,
    properties: &[
        computed("mediaPipeline", Kind::Object(&MEDIA_PIPELINE)),
        computed("parent", Kind::Object(&MEDIA_OBJECT)),
        computed("id", TEXT),
        Property {
            aliases: &["childs"],
            ..computed("children", Kind::List(&Kind::Object(&MEDIA_OBJECT)))
        },
        Property {
            initial: None,
            ..stored("name", TEXT, "")
        },
        stored("sendTagsInEvents", Kind::Flag, "false"),
        computed("creationTime", Kind::Integer),
    ],
    methods: &[
        method(
            "addTag",
            &[required("key", TEXT), required("value", TEXT)],
            None,
        ),
        method("removeTag", &[required("key", TEXT)], None),
        method("getTag", &[required("key", TEXT)], Some(TEXT)),
        method("getTags", &[], Some(Kind::List(&Kind::Register(&r::TAG)))),
    ],
    events: &[&events::ERROR],
};

pub(crate) static SERVER_MANAGER: Class = Class {
    properties: &[
        computed("info", Kind::Register(&r::SERVER_INFO)),
        computed("pipelines", Kind::List(&Kind::Object(&MEDIA_PIPELINE))),
        computed("sessions", Kind::List(&TEXT)),
        computed("metadata", TEXT),
    ],
    methods: &[
        method("getKmd", &[required("moduleName", TEXT)], Some(TEXT)),
        method("getCpuCount", &[], Some(Kind::Integer)),
        method(
            "getUsedCpu",
            &[required("interval", Kind::Integer)],
            Some(Kind::Float),
        ),
        method("getUsedMemory", &[], Some(Kind::Long)),
    ],
    events: &[&events::OBJECT_CREATED, &events::OBJECT_DESTROYED],
    ..class("ServerManager", &MEDIA_OBJECT)
};

pub(crate) static MEDIA_PIPELINE: Class = Class {
    constructor: Some(&[]),
    properties: &[stored("latencyStats", Kind::Flag, "false")],
    methods: &[DOT, DUMP_DOT],
    ..class("MediaPipeline", &MEDIA_OBJECT)
};

pub(crate) static MEDIA_ELEMENT: Class = Class {
    properties: &[
        aliased(
            "encoderBitrate",
            Kind::Integer,
            "300000",
            &["outputBitrate"],
        ),
        aliased(
            "minEncoderBitrate",
            Kind::Integer,
            "0",
            &["minOuputBitrate", "minOutputBitrate"],
        ),
        // The real server says so; its documents say 0, which means the same.
        aliased(
            "maxEncoderBitrate",
            Kind::Integer,
            "2147483647",
            &["maxOuputBitrate", "maxOutputBitrate"],
        ),
    ],
    methods: &[
        method("getSourceConnections", CONNECTION_FILTER, Some(CONNECTIONS)),
        method("getSinkConnections", CONNECTION_FILTER, Some(CONNECTIONS)),
        method("connect", &CONNECT, None),
        method("disconnect", &CONNECT, None),
        method(
            "setAudioFormat",
            &[required("caps", Kind::Register(&r::AUDIO_CAPS))],
            None,
        ),
        method(
            "setVideoFormat",
            &[required("caps", Kind::Register(&r::VIDEO_CAPS))],
            None,
        ),
        DUMP_DOT,
        DOT,
        method(
            "getStats",
            &[optional("mediaType", MEDIA_TYPE)],
            Some(Kind::Map(&Kind::Register(&r::STATS))),
        ),
        method(
            "isMediaFlowingIn",
            &[
                required("mediaType", MEDIA_TYPE),
                optional("sinkMediaDescription", TEXT),
            ],
            Some(Kind::Flag),
        ),
        method(
            "isMediaFlowingOut",
            &[
                required("mediaType", MEDIA_TYPE),
                optional("sourceMediaDescription", TEXT),
            ],
            Some(Kind::Flag),
        ),
        method(
            "isMediaTranscoding",
            &[required("mediaType", MEDIA_TYPE), optional("binName", TEXT)],
            Some(Kind::Flag),
        ),
    ],
    events: &[
        &events::ELEMENT_CONNECTED,
        &events::ELEMENT_DISCONNECTED,
        &events::FLOW_OUT_CHANGED,
        &events::FLOW_IN_CHANGED,
        &events::TRANSCODING_CHANGED,
    ],
    ..class("MediaElement", &MEDIA_OBJECT)
};

pub(crate) static PASS_THROUGH: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    ..class("PassThrough", &MEDIA_ELEMENT)
};

pub(crate) static HUB: Class = Class {
    methods: &[DOT, DUMP_DOT],
    ..class("Hub", &MEDIA_OBJECT)
};

pub(crate) static HUB_PORT: Class = Class {
    constructor: Some(&[required("hub", Kind::Object(&HUB))]),
    ..class("HubPort", &MEDIA_ELEMENT)
};

pub(crate) static ENDPOINT: Class = class("Endpoint", &MEDIA_ELEMENT);

pub(crate) static SESSION_ENDPOINT: Class = Class {
    events: &[
        &events::MEDIA_SESSION_TERMINATED,
        &events::MEDIA_SESSION_STARTED,
    ],
    ..class("SessionEndpoint", &ENDPOINT)
};

pub(crate) static SDP_ENDPOINT: Class = Class {
    properties: &[
        stored("maxAudioRecvBandwidth", Kind::Integer, "0"),
        stored("maxVideoRecvBandwidth", Kind::Integer, "0"),
    ],
    methods: &[
        method(
            "generateOffer",
            &[optional("options", Kind::Register(&r::OFFER_OPTIONS))],
            Some(TEXT),
        ),
        method("processOffer", &[required("offer", TEXT)], Some(TEXT)),
        method("processAnswer", &[required("answer", TEXT)], Some(TEXT)),
        method("getLocalSessionDescriptor", &[], Some(TEXT)),
        method("getRemoteSessionDescriptor", &[], Some(TEXT)),
    ],
    ..class("SdpEndpoint", &SESSION_ENDPOINT)
};

pub(crate) static BASE_RTP_ENDPOINT: Class = Class {
    properties: &[
        stored("minVideoRecvBandwidth", Kind::Integer, "0"),
        stored("minVideoSendBandwidth", Kind::Integer, "100"),
        stored("maxVideoSendBandwidth", Kind::Integer, "500"),
        computed("mediaState", Kind::Enumeration(&e::MEDIA_STATE)),
        computed("connectionState", Kind::Enumeration(&e::CONNECTION_STATE)),
        stored("mtu", Kind::Integer, "1200"),
        stored("rembParams", Kind::Register(&r::REMB_PARAMS), REMB_DEFAULTS),
    ],
    methods: &[method("requestKeyframe", &[], None)],
    events: &[
        &events::MEDIA_STATE_CHANGED,
        &events::CONNECTION_STATE_CHANGED,
    ],
    ..class("BaseRtpEndpoint", &SDP_ENDPOINT)
};

const REMB_DEFAULTS: &str = r#"{"packetsRecvIntervalTop":100,"exponentialFactor":0.04,"linealFactorMin":50,"linealFactorGrade":30.0,"decrementFactor":0.5,"thresholdFactor":0.8,"upLosses":12,"rembOnConnect":300000,"__module__":"kurento","__type__":"RembParams"}"#;

pub(crate) static URI_ENDPOINT: Class = Class {
    properties: &[
        fixed("uri", TEXT),
        computed("state", Kind::Enumeration(&e::URI_ENDPOINT_STATE)),
    ],
    methods: &[method("pause", &[], None), method("stop", &[], None)],
    events: &[&events::URI_ENDPOINT_STATE_CHANGED],
    ..class("UriEndpoint", &ENDPOINT)
};

pub(crate) static FILTER: Class = class("Filter", &MEDIA_ELEMENT);
