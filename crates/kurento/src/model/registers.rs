//! Every structure that is passed by value.

use super::table::{default, optional, required};
use super::{Kind, Parameter, Register, core, enumerations as e};

macro_rules! registers {
    ($($constant:ident = $name:literal $(: $base:ident)? $properties:expr;)*) => {
        $(pub(crate) static $constant: Register = Register {
            name: $name,
            extends: registers!(@base $($base)?),
            properties: $properties,
        };)*
        /// Every register, bases before what extends them.
        pub(crate) static ALL: &[&Register] = &[$(&$constant),*];
    };
    (@base) => { None };
    (@base $base:ident) => { Some(&$base) };
}

const TEXT: Kind = Kind::Text;
const NONE: &[Parameter] = &[];

registers! {
    MODULE_INFO = "ModuleInfo" &[
        required("version", TEXT), required("name", TEXT), required("generationTime", TEXT),
        required("factories", Kind::List(&TEXT))];
    SERVER_INFO = "ServerInfo" &[
        required("version", TEXT), required("modules", Kind::List(&Kind::Register(&MODULE_INFO))),
        required("type", Kind::Enumeration(&e::SERVER_TYPE)), required("capabilities", Kind::List(&TEXT))];
    FRACTION = "Fraction" &[required("numerator", Kind::Integer), required("denominator", Kind::Integer)];
    AUDIO_CAPS = "AudioCaps" &[
        required("codec", Kind::Enumeration(&e::AUDIO_CODEC)), required("bitrate", Kind::Integer)];
    VIDEO_CAPS = "VideoCaps" &[
        required("codec", Kind::Enumeration(&e::VIDEO_CODEC)), required("framerate", Kind::Register(&FRACTION))];
    ELEMENT_CONNECTION_DATA = "ElementConnectionData" &[
        required("source", Kind::Object(&core::MEDIA_ELEMENT)), required("sink", Kind::Object(&core::MEDIA_ELEMENT)),
        required("type", Kind::Enumeration(&e::MEDIA_TYPE)), required("sourceDescription", TEXT),
        required("sinkDescription", TEXT)];
    TAG = "Tag" &[required("key", TEXT), required("value", TEXT)];
    MEDIA_LATENCY_STAT = "MediaLatencyStat" &[
        required("name", TEXT), required("type", Kind::Enumeration(&e::MEDIA_TYPE)), required("avg", Kind::Double)];
    STATS = "Stats" &[
        required("id", TEXT), required("type", Kind::Enumeration(&e::STATS_TYPE)),
        required("timestampMillis", Kind::Long)];
    ELEMENT_STATS = "ElementStats": STATS &[
        required("inputLatency", Kind::List(&Kind::Register(&MEDIA_LATENCY_STAT)))];
    ENDPOINT_STATS = "EndpointStats": ELEMENT_STATS &[
        required("E2ELatency", Kind::List(&Kind::Register(&MEDIA_LATENCY_STAT)))];
    RTC_STATS = "RTCStats": STATS NONE;
    RTC_RTP_STREAM_STATS = "RTCRTPStreamStats": RTC_STATS &[
        required("ssrc", TEXT), required("associateStatsId", TEXT), required("isRemote", Kind::Flag),
        required("mediaTrackId", TEXT), required("transportId", TEXT), required("codecId", TEXT),
        required("firCount", Kind::Long), required("pliCount", Kind::Long), required("nackCount", Kind::Long),
        required("sliCount", Kind::Long), required("remb", Kind::Long), required("packetsLost", Kind::Long),
        required("fractionLost", Kind::Double)];
    RTC_INBOUND_STATS = "RTCInboundRTPStreamStats": RTC_RTP_STREAM_STATS &[
        required("packetsReceived", Kind::Long), required("bytesReceived", Kind::Long),
        required("jitter", Kind::Double)];
    RTC_OUTBOUND_STATS = "RTCOutboundRTPStreamStats": RTC_RTP_STREAM_STATS &[
        required("packetsSent", Kind::Long), required("bytesSent", Kind::Long),
        required("targetBitrate", Kind::Double), required("roundTripTime", Kind::Double)];
    RTC_PEER_CONNECTION_STATS = "RTCPeerConnectionStats": RTC_STATS &[
        required("dataChannelsOpened", Kind::Long), required("dataChannelsClosed", Kind::Long)];
    RTC_DATA_CHANNEL_STATS = "RTCDataChannelStats": RTC_STATS &[
        required("label", TEXT), required("protocol", TEXT), required("datachannelid", Kind::Long),
        required("state", Kind::Enumeration(&e::RTC_DATA_CHANNEL_STATE)), required("messagesSent", Kind::Long),
        required("bytesSent", Kind::Long), required("messagesReceived", Kind::Long),
        required("bytesReceived", Kind::Long)];
    CODEC_CONFIGURATION = "CodecConfiguration" &[optional("name", TEXT), optional("properties", Kind::Map(&TEXT))];
    REMB_PARAMS = "RembParams" &[
        default("packetsRecvIntervalTop", Kind::Integer, "100"), default("exponentialFactor", Kind::Float, "0.04"),
        default("linealFactorMin", Kind::Integer, "50"), default("linealFactorGrade", Kind::Float, "30.0"),
        default("decrementFactor", Kind::Float, "0.5"), default("thresholdFactor", Kind::Float, "0.8"),
        default("upLosses", Kind::Integer, "12"), default("rembOnConnect", Kind::Integer, "300000")];
    OFFER_OPTIONS = "OfferOptions" &[
        default("offerToReceiveAudio", Kind::Flag, "true"), default("offerToReceiveVideo", Kind::Flag, "true")];
    SDES = "SDES" &[
        optional("key", TEXT), optional("keyBase64", TEXT), optional("crypto", Kind::Enumeration(&e::CRYPTO_SUITE))];
    VIDEO_INFO = "VideoInfo" &[
        required("isSeekable", Kind::Flag), required("seekableInit", Kind::Long), required("seekableEnd", Kind::Long),
        required("duration", Kind::Long)];
    ICE_CANDIDATE = "IceCandidate" &[
        required("candidate", TEXT), required("sdpMid", TEXT), required("sdpMLineIndex", Kind::Integer)];
    ICE_CANDIDATE_PAIR = "IceCandidatePair" &[
        required("streamId", TEXT), required("componentId", Kind::Integer), required("localCandidate", TEXT),
        required("remoteCandidate", TEXT)];
    ICE_CONNECTION = "IceConnection" &[
        required("streamId", TEXT), required("componentId", Kind::Integer),
        required("state", Kind::Enumeration(&e::ICE_COMPONENT_STATE))];
    DTLS_CONNECTION = "DtlsConnection" &[
        required("streamId", TEXT), required("componentId", TEXT), required("connectionId", TEXT),
        required("state", Kind::Enumeration(&e::DTLS_CONNECTION_STATE))];
}
