//! Classes of the module `elements`.

use super::core::{BASE_RTP_ENDPOINT, HUB, HUB_PORT, IN_PIPELINE, SESSION_ENDPOINT, URI_ENDPOINT};
use super::table::{class, computed, default, method, optional, required, stored};
use super::{Class, Kind, Parameter, Property, enumerations as e, events, registers as r};

/// Bases before what derives from them.
pub(crate) static CLASSES: &[&Class] = &[
    &WEB_RTC_ENDPOINT,
    &RTP_ENDPOINT,
    &PLAYER_ENDPOINT,
    &RECORDER_ENDPOINT,
    &HTTP_ENDPOINT,
    &HTTP_POST_ENDPOINT,
    &DISPATCHER,
    &DISPATCHER_ONE_TO_MANY,
    &MIXER,
    &COMPOSITE,
    &ALPHA_BLENDING,
];

const TEXT: Kind = Kind::Text;
const PORT: Kind = Kind::Object(&HUB_PORT);
const MIX: &[Parameter] = &[
    required("media", Kind::Enumeration(&e::MEDIA_TYPE)),
    required("source", PORT),
    required("sink", PORT),
];

pub(crate) static WEB_RTC_ENDPOINT: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        default("recvonly", Kind::Flag, "false"),
        default("sendonly", Kind::Flag, "false"),
        default("useDataChannels", Kind::Flag, "false"),
        default(
            "certificateKeyType",
            Kind::Enumeration(&e::CERTIFICATE_KEY_TYPE),
            r#""RSA""#,
        ),
        default(
            "qosDscp",
            Kind::Enumeration(&e::DSCP_VALUE),
            r#""NO_VALUE""#,
        ),
    ]),
    properties: &[
        stored("networkInterfaces", TEXT, r#""""#),
        stored("iceTcp", Kind::Flag, "true"),
        stored("stunServerAddress", TEXT, r#""""#),
        stored("stunServerPort", Kind::Integer, "3478"),
        stored("turnUrl", TEXT, r#""""#),
        Property {
            aliases: &["externalAddress"],
            ..stored("externalIPv4", TEXT, r#""""#)
        },
        stored("externalIPv6", TEXT, r#""""#),
        computed(
            "ICECandidatePairs",
            Kind::List(&Kind::Register(&r::ICE_CANDIDATE_PAIR)),
        ),
        // Its accessor has a capital letter whatever the property has.
        computed(
            "IceConnectionState",
            Kind::List(&Kind::Register(&r::ICE_CONNECTION)),
        ),
        computed(
            "DtlsConnectionState",
            Kind::List(&Kind::Register(&r::DTLS_CONNECTION)),
        ),
    ],
    methods: &[
        method("gatherCandidates", &[], None),
        method(
            "addIceCandidate",
            &[required("candidate", Kind::Register(&r::ICE_CANDIDATE))],
            None,
        ),
        method(
            "createDataChannel",
            &[
                default("label", TEXT, r#""""#),
                default("ordered", Kind::Flag, "true"),
                default("maxPacketLifeTime", Kind::Integer, "-1"),
                default("maxRetransmits", Kind::Integer, "-1"),
                default("protocol", TEXT, r#""""#),
            ],
            None,
        ),
        method(
            "closeDataChannel",
            &[required("channelId", Kind::Integer)],
            None,
        ),
    ],
    events: &[
        &events::ICE_CANDIDATE_FOUND,
        &events::ICE_GATHERING_DONE,
        &events::ICE_COMPONENT_STATE_CHANGED,
        &events::DTLS_CONNECTION_STATE_CHANGE,
        &events::DATA_CHANNEL_OPENED,
        &events::DATA_CHANNEL_CLOSED,
        &events::NEW_CANDIDATE_PAIR_SELECTED,
    ],
    ..class("WebRtcEndpoint", &BASE_RTP_ENDPOINT)
};

pub(crate) static RTP_ENDPOINT: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        optional("crypto", Kind::Register(&r::SDES)),
        default("useIpv6", Kind::Flag, "false"),
    ]),
    events: &[&events::ON_KEY_SOFT_LIMIT],
    ..class("RtpEndpoint", &BASE_RTP_ENDPOINT)
};

pub(crate) static PLAYER_ENDPOINT: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        required("uri", TEXT),
        default("useEncodedMedia", Kind::Flag, "false"),
        default("networkCache", Kind::Integer, "2000"),
    ]),
    properties: &[
        computed("videoInfo", Kind::Register(&r::VIDEO_INFO)),
        computed("elementGstreamerDot", TEXT),
        stored("position", Kind::Long, "0"),
    ],
    methods: &[method("play", &[], None)],
    events: &[&events::END_OF_STREAM],
    ..class("PlayerEndpoint", &URI_ENDPOINT)
};

pub(crate) static RECORDER_ENDPOINT: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        required("uri", TEXT),
        default(
            "mediaProfile",
            Kind::Enumeration(&e::MEDIA_PROFILE),
            r#""WEBM""#,
        ),
        default("stopOnEndOfStream", Kind::Flag, "false"),
    ]),
    methods: &[
        method("record", &[], None),
        method("stopAndWait", &[], None),
    ],
    events: &[&events::RECORDING, &events::PAUSED, &events::STOPPED],
    ..class("RecorderEndpoint", &URI_ENDPOINT)
};

pub(crate) static HTTP_ENDPOINT: Class = Class {
    methods: &[method("getUrl", &[], Some(TEXT))],
    ..class("HttpEndpoint", &SESSION_ENDPOINT)
};

pub(crate) static HTTP_POST_ENDPOINT: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        default("disconnectionTimeout", Kind::Integer, "2"),
        default("useEncodedMedia", Kind::Flag, "false"),
    ]),
    events: &[&events::END_OF_STREAM],
    ..class("HttpPostEndpoint", &HTTP_ENDPOINT)
};

pub(crate) static DISPATCHER: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    methods: &[method(
        "connect",
        &[required("source", PORT), required("sink", PORT)],
        None,
    )],
    ..class("Dispatcher", &HUB)
};

pub(crate) static DISPATCHER_ONE_TO_MANY: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    methods: &[
        method("setSource", &[required("source", PORT)], None),
        method("removeSource", &[], None),
    ],
    ..class("DispatcherOneToMany", &HUB)
};

pub(crate) static MIXER: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    methods: &[
        method("connect", MIX, None),
        method("disconnect", MIX, None),
    ],
    ..class("Mixer", &HUB)
};

pub(crate) static COMPOSITE: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        default("width", Kind::Integer, "800"),
        default("height", Kind::Integer, "600"),
        default("framerate", Kind::Integer, "15"),
    ]),
    ..class("Composite", &HUB)
};

pub(crate) static ALPHA_BLENDING: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    methods: &[
        method(
            "setMaster",
            &[required("source", PORT), required("zOrder", Kind::Integer)],
            None,
        ),
        method(
            "setPortProperties",
            &[
                required("relativeX", Kind::Float),
                required("relativeY", Kind::Float),
                required("zOrder", Kind::Integer),
                required("relativeWidth", Kind::Float),
                required("relativeHeight", Kind::Float),
                required("port", PORT),
            ],
            None,
        ),
    ],
    ..class("AlphaBlending", &HUB)
};
