//! Every event.

use std::fmt;

use super::table::required;
use super::{Kind, Parameter, core, enumerations as e, registers};

/// A kind of event.
pub(crate) struct EventType {
    /// Its name since version 7.
    pub(crate) name: &'static str,
    /// Its names in version 6.
    pub(crate) former_names: &'static [&'static str],
    /// Whether its data repeats the name as `type`.
    pub(crate) names_itself: bool,
    /// What its data has beside source, time and tags.
    pub(crate) properties: &'static [Parameter],
}

impl EventType {
    /// Every name a client may subscribe to.
    pub(crate) fn names(&'static self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.former_names.iter().copied())
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! events {
    ($($constant:ident = $name:literal [$($former:literal)*] $properties:expr;)*) => {
        $(pub(crate) static $constant: EventType = EventType {
            name: $name,
            former_names: &[$($former),*],
            names_itself: true,
            properties: $properties,
        };)*
    };
}

const NONE: &[Parameter] = &[];
const MEDIA_TYPE: Kind = Kind::Enumeration(&e::MEDIA_TYPE);
const MEDIA_STATE: Kind = Kind::Enumeration(&e::MEDIA_STATE);
const CONNECTION_STATE: Kind = Kind::Enumeration(&e::CONNECTION_STATE);
const FLOW: &[Parameter] = &[
    required("state", Kind::Enumeration(&e::MEDIA_FLOW_STATE)),
    required("padName", Kind::Text),
    required("mediaType", MEDIA_TYPE),
];
// A `static`, as a constant would have to know the classes that have the event.
static LINK: [Parameter; 4] = [
    required("sink", Kind::Object(&core::MEDIA_ELEMENT)),
    required("mediaType", MEDIA_TYPE),
    required("sourceMediaDescription", Kind::Text),
    required("sinkMediaDescription", Kind::Text),
];
const CHANNEL: &[Parameter] = &[required("channelId", Kind::Integer)];

/// `type` of its data is the failure's name, not the event's.
pub(crate) static ERROR: EventType = EventType {
    name: "Error",
    former_names: &[],
    names_itself: false,
    properties: &[
        required("description", Kind::Text),
        required("errorCode", Kind::Integer),
        required("type", Kind::Text),
    ],
};
pub(crate) static OBJECT_CREATED: EventType = EventType {
    name: "ObjectCreated",
    former_names: &[],
    names_itself: false,
    properties: &[required("object", Kind::Object(&core::MEDIA_OBJECT))],
};
pub(crate) static OBJECT_DESTROYED: EventType = EventType {
    name: "ObjectDestroyed",
    former_names: &[],
    names_itself: false,
    properties: &[required("objectId", Kind::Text)],
};

events! {
    MEDIA_SESSION_TERMINATED = "MediaSessionTerminated" [] NONE;
    MEDIA_SESSION_STARTED = "MediaSessionStarted" [] NONE;
    MEDIA_STATE_CHANGED = "MediaStateChanged" []
        &[required("oldState", MEDIA_STATE), required("newState", MEDIA_STATE)];
    CONNECTION_STATE_CHANGED = "ConnectionStateChanged" []
        &[required("oldState", CONNECTION_STATE), required("newState", CONNECTION_STATE)];
    FLOW_OUT_CHANGED = "MediaFlowOutStateChanged" ["MediaFlowOutStateChange"] FLOW;
    FLOW_IN_CHANGED = "MediaFlowInStateChanged" ["MediaFlowInStateChange"] FLOW;
    TRANSCODING_CHANGED = "MediaTranscodingStateChanged" ["MediaTranscodingStateChange"] &[
        required("state", Kind::Enumeration(&e::MEDIA_TRANSCODING_STATE)), required("binName", Kind::Text),
        required("mediaType", MEDIA_TYPE)];
    ELEMENT_CONNECTED = "ElementConnected" [] &LINK;
    ELEMENT_DISCONNECTED = "ElementDisconnected" [] &LINK;
    URI_ENDPOINT_STATE_CHANGED = "UriEndpointStateChanged" []
        &[required("state", Kind::Enumeration(&e::URI_ENDPOINT_STATE))];
    ON_KEY_SOFT_LIMIT = "OnKeySoftLimit" [] &[required("mediaType", MEDIA_TYPE)];
    RECORDING = "Recording" [] NONE;
    PAUSED = "Paused" [] NONE;
    STOPPED = "Stopped" [] NONE;
    END_OF_STREAM = "EndOfStream" [] NONE;
    ICE_CANDIDATE_FOUND = "IceCandidateFound" ["OnIceCandidate"]
        &[required("candidate", Kind::Register(&registers::ICE_CANDIDATE))];
    ICE_GATHERING_DONE = "IceGatheringDone" ["OnIceGatheringDone"] NONE;
    ICE_COMPONENT_STATE_CHANGED = "IceComponentStateChanged" ["OnIceComponentStateChanged" "IceComponentStateChange"] &[
        required("streamId", Kind::Integer), required("componentId", Kind::Integer),
        required("state", Kind::Enumeration(&e::ICE_COMPONENT_STATE))];
    DTLS_CONNECTION_STATE_CHANGE = "DtlsConnectionStateChange" [] &[
        required("streamId", Kind::Text), required("componentId", Kind::Text), required("connectionId", Kind::Text),
        required("state", Kind::Enumeration(&e::DTLS_CONNECTION_STATE))];
    DATA_CHANNEL_OPENED = "DataChannelOpened" ["OnDataChannelOpened" "DataChannelOpen"] CHANNEL;
    DATA_CHANNEL_CLOSED = "DataChannelClosed" ["OnDataChannelClosed" "DataChannelClose"] CHANNEL;
    NEW_CANDIDATE_PAIR_SELECTED = "NewCandidatePairSelected" []
        &[required("candidatePair", Kind::Register(&registers::ICE_CANDIDATE_PAIR))];
    CODE_FOUND = "CodeFound" [] &[required("codeType", Kind::Text), required("value", Kind::Text)];
}
