//! Codecs: what a format line means, and which formats of two peers are the same.

/// Codecs that can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264 (RFC 6184).
    H264,
    /// AV1.
    Av1,
}

/// A format that both peers know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecDescription {
    /// RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// The codec.
    pub codec: Codec,
    /// RTP clock, in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 for video.
    pub channels: u8,
    /// What must be equal in two formats for one to be forwarded as the other.
    pub parameters: CodecParameters,
    /// The text of `a=fmtp`, without the payload type. Printable ASCII.
    pub fmtp: Option<String>,
    /// RTCP feedback.
    pub feedback: Feedback,
}

/// What must be equal in two formats of a codec for one to be forwarded as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecParameters {
    /// Nothing.
    None,
    /// Of H.264.
    H264 {
        /// Profile; the level may differ.
        profile: H264Profile,
        /// 0: single NAL units. 1: non-interleaved. 2: interleaved.
        packetization_mode: u8,
    },
    /// Of VP9.
    Vp9 {
        /// 0 to 3.
        profile_id: u8,
    },
    /// Of AV1.
    Av1 {
        /// 0 to 2.
        profile: u8,
    },
}

/// H.264 profile (RFC 6184, table 5), the meaning of the first two bytes of `profile-level-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H264Profile {
    /// What every browser can do.
    ConstrainedBaseline,
    /// Baseline.
    Baseline,
    /// Main.
    Main,
    /// High.
    High,
    /// High without interlacing and B frames.
    ConstrainedHigh,
    /// Any other: `profile_idc` and `profile-iop`.
    Other(u8, u8),
}

/// RTCP feedback that both peers know for a format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK (RFC 4585).
    pub nack: bool,
    /// Picture loss indication (RFC 4585).
    pub pli: bool,
    /// Full intra request (RFC 5104).
    pub fir: bool,
    /// Receiver estimated maximum bit rate.
    pub remb: bool,
    /// Transport-wide congestion control.
    pub transport_cc: bool,
}

/// The format of `sink` in which what flows as `source` can be forwarded unchanged.
pub fn codec_match<'a>(
    source: &CodecDescription,
    sink: &'a [CodecDescription],
) -> Option<&'a CodecDescription> {
    sink.iter()
        .find(|format| format.codec == source.codec && format.parameters == source.parameters)
}
