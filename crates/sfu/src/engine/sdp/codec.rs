//! Codecs: what a format line means, and which formats of two peers are the same.

use forwarding::codec::Codec;
use media::MediaKind;

/// What SDP says about a codec.
#[derive(Debug)]
pub(super) struct KnownCodec {
    pub(super) codec: Codec,
    pub(super) kind: MediaKind,
    /// Encoding, clock and channels as `a=rtpmap` has them.
    pub(super) rtpmap: &'static str,
    /// In Hz.
    pub(super) clock_rate: u32,
    /// 1 for video.
    pub(super) channels: u8,
    /// The payload type that needs no `a=rtpmap` (RFC 3551, section 6).
    pub(super) static_payload_type: Option<u8>,
    /// `a=fmtp` of our offers.
    pub(super) offered_fmtp: Option<&'static str>,
}

/// All codecs that can be negotiated, in the usual order of our offers: what every peer decodes comes first.
pub const CODECS: [Codec; 7] = [
    Codec::Opus,
    Codec::Pcmu,
    Codec::Pcma,
    Codec::Vp8,
    Codec::H264,
    Codec::Vp9,
    Codec::Av1,
];

const KNOWN: [KnownCodec; 7] = [
    KnownCodec {
        clock_rate: 48_000,
        channels: 2,
        offered_fmtp: Some("minptime=10;useinbandfec=1"),
        ..audio(Codec::Opus, "opus/48000/2")
    },
    KnownCodec {
        static_payload_type: Some(0),
        ..audio(Codec::Pcmu, "PCMU/8000")
    },
    KnownCodec {
        static_payload_type: Some(8),
        ..audio(Codec::Pcma, "PCMA/8000")
    },
    video(Codec::Vp8, "VP8/90000", None),
    video(
        Codec::H264,
        "H264/90000",
        Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    ),
    video(Codec::Vp9, "VP9/90000", Some("profile-id=0")),
    video(
        Codec::Av1,
        "AV1/90000",
        Some("level-idx=5;profile=0;tier=0"),
    ),
];

const fn audio(codec: Codec, rtpmap: &'static str) -> KnownCodec {
    KnownCodec {
        codec,
        kind: MediaKind::Audio,
        rtpmap,
        clock_rate: 8_000,
        channels: 1,
        static_payload_type: None,
        offered_fmtp: None,
    }
}

const fn video(
    codec: Codec,
    rtpmap: &'static str,
    offered_fmtp: Option<&'static str>,
) -> KnownCodec {
    KnownCodec {
        codec,
        kind: MediaKind::Video,
        rtpmap,
        clock_rate: 90_000,
        channels: 1,
        static_payload_type: None,
        offered_fmtp,
    }
}

impl KnownCodec {
    /// `None` for [`Codec::Other`].
    pub(super) fn of(codec: Codec) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.codec == codec)
    }

    /// Finds the codec of an `a=rtpmap` encoding. One channel may be written or not.
    pub(super) fn from_rtpmap(encoding: &str) -> Option<&'static Self> {
        let encoding = encoding.strip_suffix("/1").unwrap_or(encoding);
        KNOWN
            .iter()
            .find(|known| known.rtpmap.eq_ignore_ascii_case(encoding))
    }

    pub(super) fn of_static_payload_type(payload_type: u8) -> Option<&'static Self> {
        KNOWN
            .iter()
            .find(|known| known.static_payload_type == Some(payload_type))
    }

    /// A format of this codec without retransmission and feedback.
    pub(super) fn describe(&self, payload_type: u8, fmtp: Option<&str>) -> CodecDescription {
        CodecDescription {
            payload_type,
            rtx_payload_type: None,
            codec: self.codec,
            clock_rate: self.clock_rate,
            channels: self.channels,
            parameters: CodecParameters::parse(self.codec, fmtp.unwrap_or("")),
            fmtp: fmtp.map(str::to_owned),
            feedback: Feedback::default(),
        }
    }
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

impl CodecDescription {
    /// The encoding's name, as in `a=rtpmap`.
    pub fn name(&self) -> &'static str {
        KnownCodec::of(self.codec)
            .and_then(|known| known.rtpmap.split('/').next())
            .unwrap_or("unknown")
    }
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

impl CodecParameters {
    /// Reads what matters from the text of `a=fmtp`. Missing or broken values get the codec's defaults.
    pub fn parse(codec: Codec, fmtp: &str) -> Self {
        let number = |name| fmtp_parameter(fmtp, name).and_then(|value| value.parse().ok());
        match codec {
            Codec::H264 => Self::H264 {
                profile: fmtp_parameter(fmtp, "profile-level-id")
                    .and_then(H264Profile::parse)
                    .unwrap_or(H264Profile::ConstrainedBaseline),
                packetization_mode: number("packetization-mode").unwrap_or(0),
            },
            Codec::Vp9 => Self::Vp9 {
                profile_id: number("profile-id").unwrap_or(0),
            },
            Codec::Av1 => Self::Av1 {
                profile: number("profile").unwrap_or(0),
            },
            _ => Self::None,
        }
    }
}

/// The value of one parameter of `a=fmtp` (`name=value;name=value`).
pub(super) fn fmtp_parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then_some(value.trim())
    })
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

impl H264Profile {
    /// Reads the six hexadecimal digits of `profile-level-id`. The level, its last two, does not matter here.
    fn parse(profile_level_id: &str) -> Option<Self> {
        if profile_level_id.len() != 6 {
            return None;
        }
        let [_, profile, constraints, _level] = u32::from_str_radix(profile_level_id, 16)
            .ok()?
            .to_be_bytes();
        // Bits of the constraints, highest first: set0, set1, set2, set3, set4, set5, and two that are zero.
        Some(match (profile, constraints) {
            (0x42, c) if c & 0b0100_1111 == 0b0100_0000 => Self::ConstrainedBaseline,
            (0x4d, c) if c & 0b1000_1111 == 0b1000_0000 => Self::ConstrainedBaseline,
            (0x58, c) if c & 0b1100_1111 == 0b1100_0000 => Self::ConstrainedBaseline,
            (0x42, c) if c & 0b0100_1111 == 0 => Self::Baseline,
            (0x58, c) if c & 0b1100_1111 == 0b1000_0000 => Self::Baseline,
            (0x4d, c) if c & 0b1010_1111 == 0 => Self::Main,
            (0x64, 0) => Self::High,
            (0x64, 0b0000_1100) => Self::ConstrainedHigh,
            (profile, constraints) => Self::Other(profile, constraints),
        })
    }
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

impl Feedback {
    /// What both have.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            nack: self.nack && other.nack,
            pli: self.pli && other.pli,
            fir: self.fir && other.fir,
            remb: self.remb && other.remb,
            transport_cc: self.transport_cc && other.transport_cc,
        }
    }

    /// Adds a value of `a=rtcp-fb`, without the payload type. Unknown ones are skipped.
    pub(super) fn add(&mut self, value: &str) {
        match value {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "goog-remb" => self.remb = true,
            "transport-cc" => self.transport_cc = true,
            _ => {}
        }
    }

    /// The values of `a=rtcp-fb`, without the payload type.
    pub(super) fn values(self) -> impl Iterator<Item = &'static str> {
        [
            (self.remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
            (self.fir, "ccm fir"),
            (self.nack, "nack"),
            (self.pli, "nack pli"),
        ]
        .into_iter()
        .filter_map(|(present, value)| present.then_some(value))
    }
}

/// A format of a peer in this process, which knows one kind of feedback: picture loss. `None` for
/// [`Codec::Other`].
pub fn describe_local(
    payload_type: u8,
    codec: Codec,
    fmtp: Option<&str>,
) -> Option<CodecDescription> {
    let known = KnownCodec::of(codec)?;
    Some(CodecDescription {
        feedback: Feedback {
            pli: known.kind == MediaKind::Video,
            ..Feedback::default()
        },
        ..known.describe(payload_type, fmtp)
    })
}

/// The format of `sink` in which what flows as `source` can be forwarded unchanged, with its payload types.
///
/// H.264 needs the same profile and packetization mode, VP9 and AV1 the same profile; levels may differ. A side that
/// says nothing about its H.264 (cameras and gateways) is believed to mean the other's, but only if nothing matches
/// exactly.
pub fn codec_match<'a>(
    source: &CodecDescription,
    sink: &'a [CodecDescription],
) -> Option<&'a CodecDescription> {
    let same_codec = || sink.iter().filter(|format| format.codec == source.codec);
    let exact = same_codec().find(|format| format.parameters == source.parameters);
    let vague = || {
        same_codec().find(|format| {
            format.codec == Codec::H264 && (format.fmtp.is_none() || source.fmtp.is_none())
        })
    };
    exact.or_else(vague)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(payload_type: u8, codec: Codec, fmtp: Option<&str>) -> CodecDescription {
        KnownCodec::of(codec).unwrap().describe(payload_type, fmtp)
    }

    #[test]
    fn every_codec_is_known() {
        assert!(KNOWN.iter().map(|known| known.codec).eq(CODECS));
    }

    #[test]
    fn h264_profiles() {
        for (id, profile) in [
            ("42e01f", H264Profile::ConstrainedBaseline),
            ("42E034", H264Profile::ConstrainedBaseline),
            ("42c00a", H264Profile::ConstrainedBaseline),
            ("4d801f", H264Profile::ConstrainedBaseline),
            ("58c01f", H264Profile::ConstrainedBaseline),
            ("42001f", H264Profile::Baseline),
            ("42801f", H264Profile::Baseline),
            ("58801f", H264Profile::Baseline),
            ("4d001f", H264Profile::Main),
            ("4d401f", H264Profile::Main),
            ("64001f", H264Profile::High),
            ("640c1f", H264Profile::ConstrainedHigh),
            ("f4001f", H264Profile::Other(0xf4, 0)),
        ] {
            assert_eq!(H264Profile::parse(id), Some(profile), "{id}");
        }
        for id in [
            "",
            "42e01",
            "42e01f0",
            "zzzzzz",
            "+2e01f",
            "\u{e4}\u{e4}\u{e4}",
        ] {
            assert!(!matches!(
                H264Profile::parse(id),
                Some(H264Profile::ConstrainedBaseline)
            ));
        }
    }

    #[test]
    fn match_needs_profile_and_packetization_mode() {
        let sink = [
            format(96, Codec::Vp8, None),
            format(98, Codec::Vp9, Some("profile-id=2")),
            format(
                102,
                Codec::H264,
                Some("packetization-mode=0;profile-level-id=42e01f"),
            ),
            format(
                106,
                Codec::H264,
                Some("packetization-mode=1; profile-level-id=42e034"),
            ),
            format(45, Codec::Av1, None),
        ];
        let cases = [
            (Codec::Vp8, Some("max-fs=12288;max-fr=60"), Some(96)),
            (Codec::Vp9, None, None),
            (Codec::Vp9, Some("profile-id=2"), Some(98)),
            (
                Codec::H264,
                Some("profile-level-id=42e01f;packetization-mode=1"),
                Some(106),
            ),
            (Codec::H264, Some("profile-level-id=42e01f"), Some(102)),
            (
                Codec::H264,
                Some("profile-level-id=64001f;packetization-mode=1"),
                None,
            ),
            (Codec::H264, None, Some(102)),
            (Codec::Av1, Some("level-idx=5;profile=0;tier=0"), Some(45)),
            (Codec::Av1, Some("profile=1"), None),
            (Codec::Opus, None, None),
        ];
        for (codec, fmtp, expected) in cases {
            let found = codec_match(&format(100, codec, fmtp), &sink);
            assert_eq!(
                found.map(|f| f.payload_type),
                expected,
                "{codec:?} {fmtp:?}"
            );
        }
    }

    #[test]
    fn silent_gateway_takes_any_h264() {
        let gateway = [format(103, Codec::H264, None)];
        let browser = format(
            102,
            Codec::H264,
            Some("packetization-mode=1;profile-level-id=64001f"),
        );
        assert_eq!(
            codec_match(&browser, &gateway).map(|f| f.payload_type),
            Some(103)
        );
    }

    #[test]
    fn rtpmap_is_read_in_any_case() {
        let codec = |text| KnownCodec::from_rtpmap(text).map(|known| known.codec);
        assert_eq!(codec("OPUS/48000/2"), Some(Codec::Opus));
        assert_eq!(codec("pcmu/8000/1"), Some(Codec::Pcmu));
        assert_eq!(codec("vp8/90000"), Some(Codec::Vp8));
        assert_eq!(codec("opus/48000"), None);
        assert_eq!(codec("VP8/8000"), None);
    }
}
