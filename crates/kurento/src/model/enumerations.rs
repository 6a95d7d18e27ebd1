//! Every enumeration.

use super::Enumeration;

macro_rules! enumerations {
    ($($constant:ident = $name:literal [$($symbol:literal)*];)*) => {
        $(pub(crate) static $constant: Enumeration = Enumeration {
            name: $name,
            symbols: &[$($symbol),*],
        };)*
    };
}

enumerations! {
    URI_ENDPOINT_STATE = "UriEndpointState" ["STOP" "START" "PAUSE"];
    SERVER_TYPE = "ServerType" ["KMS" "KCS"];
    GSTREAMER_DOT_DETAILS = "GstreamerDotDetails" ["SHOW_MEDIA_TYPE" "SHOW_CAPS_DETAILS" "SHOW_NON_DEFAULT_PARAMS"
        "SHOW_STATES" "SHOW_FULL_PARAMS" "SHOW_ALL" "SHOW_VERBOSE"];
    MEDIA_STATE = "MediaState" ["DISCONNECTED" "CONNECTED"];
    MEDIA_FLOW_STATE = "MediaFlowState" ["FLOWING" "NOT_FLOWING"];
    MEDIA_TRANSCODING_STATE = "MediaTranscodingState" ["TRANSCODING" "NOT_TRANSCODING"];
    CONNECTION_STATE = "ConnectionState" ["DISCONNECTED" "CONNECTED"];
    MEDIA_TYPE = "MediaType" ["AUDIO" "DATA" "VIDEO"];
    FILTER_TYPE = "FilterType" ["AUDIO" "AUTODETECT" "VIDEO"];
    VIDEO_CODEC = "VideoCodec" ["H265" "AV1" "VP9" "VP8" "H264" "RAW"];
    AUDIO_CODEC = "AudioCodec" ["OPUS" "PCMU" "PCMA" "RAW"];
    STATS_TYPE = "StatsType" ["inboundrtp" "outboundrtp" "session" "datachannel" "track" "transport" "candidatepair"
        "localcandidate" "remotecandidate" "element" "endpoint"];
    RTC_DATA_CHANNEL_STATE = "RTCDataChannelState" ["connecting" "open" "closing" "closed"];
    CRYPTO_SUITE = "CryptoSuite" ["AES_128_CM_HMAC_SHA1_32" "AES_128_CM_HMAC_SHA1_80" "AES_256_CM_HMAC_SHA1_32"
        "AES_256_CM_HMAC_SHA1_80"];
    MEDIA_PROFILE = "MediaProfileSpecType" ["WEBM" "MKV" "MP4" "WEBM_VIDEO_ONLY" "WEBM_AUDIO_ONLY" "MKV_VIDEO_ONLY"
        "MKV_AUDIO_ONLY" "MP4_VIDEO_ONLY" "MP4_AUDIO_ONLY" "JPEG_VIDEO_ONLY" "KURENTO_SPLIT_RECORDER" "FLV"];
    ICE_COMPONENT_STATE = "IceComponentState" ["DISCONNECTED" "GATHERING" "CONNECTING" "CONNECTED" "READY" "FAILED"];
    DTLS_CONNECTION_STATE = "DtlsConnectionState" ["NEW" "CLOSED" "FAILED" "CONNECTING" "CONNECTED"];
    CERTIFICATE_KEY_TYPE = "CertificateKeyType" ["RSA" "ECDSA"];
    DSCP_VALUE = "DSCPValue" ["NO_DSCP" "NO_VALUE" "AUDIO_VERYLOW" "AUDIO_LOW" "AUDIO_MEDIUM" "AUDIO_HIGH"
        "VIDEO_VERYLOW" "VIDEO_LOW" "VIDEO_MEDIUM" "VIDEO_MEDIUM_THROUGHPUT" "VIDEO_HIGH" "VIDEO_HIGH_THROUGHPUT"
        "DATA_VERYLOW" "DATA_LOW" "DATA_MEDIUM" "DATA_HIGH" "CHROME_HIGH" "CHROME_MEDIUM" "CHROME_LOW" "CHROME_VERYLOW"
        "CS0" "CS1" "CS2" "CS3" "CS4" "CS5" "CS6" "CS7" "AF11" "AF12" "AF13" "AF21" "AF22" "AF23" "AF31" "AF32" "AF33"
        "AF41" "AF42" "AF43" "EF" "VOICEADMIT" "LE"];
}

/// Those of the module `core`.
pub(crate) static CORE: &[&Enumeration] = &[
    &URI_ENDPOINT_STATE,
    &SERVER_TYPE,
    &GSTREAMER_DOT_DETAILS,
    &MEDIA_STATE,
    &MEDIA_FLOW_STATE,
    &MEDIA_TRANSCODING_STATE,
    &CONNECTION_STATE,
    &MEDIA_TYPE,
    &FILTER_TYPE,
    &VIDEO_CODEC,
    &AUDIO_CODEC,
    &STATS_TYPE,
    &RTC_DATA_CHANNEL_STATE,
];

/// Those of the module `elements`.
pub(crate) static ELEMENTS: &[&Enumeration] = &[
    &CRYPTO_SUITE,
    &MEDIA_PROFILE,
    &ICE_COMPONENT_STATE,
    &DTLS_CONNECTION_STATE,
    &CERTIFICATE_KEY_TYPE,
    &DSCP_VALUE,
];
