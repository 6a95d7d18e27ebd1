//! The peer's session descriptions: an offer like a browser's, and what matters of its answer.
//!
//! Read independently of the server's own reader, so that the two check each other.

use std::fmt::Write as _;
use std::net::SocketAddr;

use forwarding::codec::dependency::DEPENDENCY_DESCRIPTOR_URI;
use forwarding::rtp::NegotiatedExtensions;
use media::MediaKind;
use sfu::engine::certificate::Fingerprint;
use sfu::engine::ice::Credentials;

use super::config::{PeerConfig, layer_extensions};

/// What an offer is made of, beside the configuration.
pub(super) struct OfferParts<'a> {
    pub(super) version: u64,
    pub(super) ice: &'a Credentials,
    pub(super) fingerprint: &'a Fingerprint,
    /// Media and retransmission SSRC by kind.
    pub(super) ssrcs: [[u32; 2]; 2],
}

/// Why an answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// A line that every answer of a WebRTC server has.
    #[error("answer has no usable {0}")]
    Missing(&'static str),
}

/// What the peer needs of an answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) ice: Credentials,
    pub(super) fingerprint: Fingerprint,
    /// The server waits for our ClientHello.
    pub(super) passive: bool,
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) sections: Vec<AnswerSection>,
}

/// One accepted section.
#[derive(Clone, Debug)]
pub(super) struct AnswerSection {
    pub(super) kind: MediaKind,
    pub(super) port: u16,
    /// The server takes what we send.
    pub(super) receives: bool,
    /// Media and retransmission SSRC of the server, as far as announced.
    pub(super) ssrcs: Vec<u32>,
    /// Payload types in the server's order.
    pub(super) payload_types: Vec<u8>,
    pub(super) extension_ids: Vec<u8>,
    pub(super) sctp_port: Option<u16>,
    pub(super) max_message_size: u32,
}

const KINDS: [(MediaKind, &str); 3] = [
    (MediaKind::Audio, "audio"),
    (MediaKind::Video, "video"),
    (MediaKind::Data, "application"),
];

/// Writes an offer.
pub(super) fn offer(config: &PeerConfig, parts: &OfferParts<'_>) -> String {
    let present: Vec<_> = KINDS
        .into_iter()
        .filter(|(kind, _)| match kind {
            MediaKind::Data => config.data,
            _ => config.direction(*kind).is_some(),
        })
        .collect();
    let mids: Vec<_> = present
        .iter()
        .map(|(kind, _)| config.numbering.mid(*kind))
        .collect();
    let mut lines = Lines::default();
    lines.push("v=0");
    lines.push(format_args!(
        "o=- 4611731400430051336 {} IN IP4 127.0.0.1",
        parts.version
    ));
    lines.push("s=-\r\nt=0 0");
    lines.push(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    lines.push("a=msid-semantic: WMS *");
    for (kind, name) in present {
        match config.direction(kind) {
            Some(_) => write_media(&mut lines, config, parts, kind, name),
            None => {
                lines.push("m=application 9 UDP/DTLS/SCTP webrtc-datachannel");
                write_transport(&mut lines, config, parts, kind);
                lines.push("a=sctp-port:5000\r\na=max-message-size:262144");
            }
        }
    }
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, line: impl std::fmt::Display) {
        write!(self.0, "{line}\r\n").expect("a String takes everything");
    }
}

fn write_transport(
    lines: &mut Lines,
    config: &PeerConfig,
    parts: &OfferParts<'_>,
    kind: MediaKind,
) {
    lines.push("c=IN IP4 0.0.0.0");
    lines.push(format_args!("a=ice-ufrag:{}", parts.ice.ufrag()));
    lines.push(format_args!("a=ice-pwd:{}", parts.ice.pwd()));
    lines.push("a=ice-options:trickle");
    lines.push(format_args!("a=fingerprint:{}", parts.fingerprint));
    lines.push("a=setup:actpass");
    lines.push(format_args!("a=mid:{}", config.numbering.mid(kind)));
}

fn write_media(
    lines: &mut Lines,
    config: &PeerConfig,
    parts: &OfferParts<'_>,
    kind: MediaKind,
    name: &str,
) {
    let formats = config.formats(kind);
    let numbers: Vec<_> = formats
        .iter()
        .flat_map(|format| [Some(format.payload_type), format.rtx_payload_type])
        .flatten()
        .map(|number| number.to_string())
        .collect();
    lines.push(format_args!(
        "m={name} 9 UDP/TLS/RTP/SAVPF {}",
        numbers.join(" ")
    ));
    write_transport(lines, config, parts, kind);
    let extensions = config.extensions(kind);
    let uris = [
        (
            extensions.audio_level,
            "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        ),
        (
            extensions.abs_send_time,
            "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        ),
        (
            extensions.transport_seq,
            "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        ),
        (extensions.mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
        (extensions.video_orientation, "urn:3gpp:video-orientation"),
    ];
    for (id, uri) in uris {
        if let Some(id) = id {
            lines.push(format_args!("a=extmap:{} {uri}", id.0));
        }
    }
    if config.bare && kind == MediaKind::Video {
        for (id, uri) in [
            (
                layer_extensions::RID,
                "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            ),
            (
                layer_extensions::REPAIRED_RID,
                "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            ),
            (layer_extensions::DEPENDENCY, DEPENDENCY_DESCRIPTOR_URI),
        ] {
            lines.push(format_args!("a=extmap:{} {uri}", id.0));
        }
    }
    let direction = config.direction(kind).expect("media sections have one");
    lines.push(format_args!("a={}", direction.as_str()));
    lines.push("a=rtcp-mux\r\na=rtcp-rsize");
    for format in &formats {
        let number = format.payload_type;
        lines.push(format_args!("a=rtpmap:{number} {}", format.name));
        if config.transport_cc {
            lines.push(format_args!("a=rtcp-fb:{number} transport-cc"));
        }
        if kind == MediaKind::Video {
            for feedback in ["goog-remb", "ccm fir", "nack", "nack pli"] {
                lines.push(format_args!("a=rtcp-fb:{number} {feedback}"));
            }
        }
        if !format.parameters.is_empty() {
            lines.push(format_args!("a=fmtp:{number} {}", format.parameters));
        }
        if let Some(repair) = format.rtx_payload_type {
            lines.push(format_args!("a=rtpmap:{repair} rtx/90000"));
            lines.push(format_args!("a=fmtp:{repair} apt={number}"));
        }
    }
    let is_simulcast = kind == MediaKind::Video && !config.simulcast.is_empty();
    if is_simulcast {
        for rid in &config.simulcast {
            lines.push(format_args!("a=rid:{rid} send"));
        }
        let rids = config.simulcast.join(";");
        lines.push(format_args!("a=simulcast:send {rids}"));
    }
    if direction.sends() && config.announces_ssrcs && !is_simulcast {
        let [media, repair] = parts.ssrcs[kind as usize];
        let repair = (kind == MediaKind::Video && config.rtx).then_some(repair);
        if let Some(repair) = repair {
            lines.push(format_args!("a=ssrc-group:FID {media} {repair}"));
        }
        for ssrc in [Some(media), repair].into_iter().flatten() {
            lines.push(format_args!(
                "a=ssrc:{ssrc} cname:peer\r\na=ssrc:{ssrc} msid:s {name}"
            ));
        }
    }
}

impl AnswerSection {
    /// Those extensions that the server takes too.
    pub(super) fn taken(&self, mut extensions: NegotiatedExtensions) -> NegotiatedExtensions {
        for id in [
            &mut extensions.mid,
            &mut extensions.abs_send_time,
            &mut extensions.transport_seq,
            &mut extensions.audio_level,
            &mut extensions.video_orientation,
        ] {
            *id = id.filter(|id| self.extension_ids.contains(&id.0));
        }
        extensions
    }
}

impl Answer {
    /// Reads an answer; the transport is that of the first section (BUNDLE).
    pub(super) fn parse(text: &str) -> Result<Self, AnswerError> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix("a=")?.strip_prefix(name))
        };
        let ice = value("ice-ufrag:")
            .zip(value("ice-pwd:"))
            .and_then(|(ufrag, pwd)| Credentials::new(ufrag, pwd))
            .ok_or(AnswerError::Missing("ICE credentials"))?;
        let fingerprint = value("fingerprint:")
            .and_then(|text| text.parse().ok())
            .ok_or(AnswerError::Missing("fingerprint"))?;
        let passive = match value("setup:") {
            Some("passive") => true,
            Some("active") => false,
            _ => return Err(AnswerError::Missing("setup")),
        };
        let mut candidates: Vec<SocketAddr> = text.lines().filter_map(udp_candidate).collect();
        candidates.dedup();
        let blocks: Vec<_> = text.split("\r\nm=").skip(1).collect();
        Ok(Self {
            ice,
            fingerprint,
            passive,
            candidates,
            sections: blocks.iter().filter_map(|block| section(block)).collect(),
        })
    }

    pub(super) fn section(&self, kind: MediaKind) -> Option<&AnswerSection> {
        self.sections
            .iter()
            .find(|section| section.kind == kind && section.port != 0)
    }
}

/// `a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host`
fn udp_candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.strip_prefix("a=candidate:")?.split(' ');
    let protocol = words.nth(2)?;
    let address = words.nth(1)?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    protocol
        .eq_ignore_ascii_case("udp")
        .then_some(SocketAddr::new(address, port))
}

/// Reads a section that begins behind its `m=`.
fn section(block: &str) -> Option<AnswerSection> {
    let mut lines = block.lines();
    let mut words = lines.next()?.split(' ');
    let name = words.next()?;
    let (kind, _) = KINDS.into_iter().find(|(_, known)| *known == name)?;
    let mut section = AnswerSection {
        kind,
        port: words.next()?.parse().ok()?,
        receives: true,
        ssrcs: Vec::new(),
        payload_types: words.skip(1).filter_map(|word| word.parse().ok()).collect(),
        extension_ids: Vec::new(),
        sctp_port: None,
        max_message_size: 65_536,
    };
    for line in lines.filter_map(|line| line.strip_prefix("a=")) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let number = || value.split([' ', '/']).next()?.parse::<u32>().ok();
        match name {
            "sendonly" | "inactive" => section.receives = false,
            "ssrc-group" => {
                section.ssrcs = value
                    .split(' ')
                    .filter_map(|word| word.parse().ok())
                    .collect();
            }
            "ssrc" if section.ssrcs.is_empty() => section.ssrcs.extend(number()),
            "extmap" => section
                .extension_ids
                .extend(number().and_then(|id| u8::try_from(id).ok())),
            "sctp-port" => {
                section.sctp_port = number().and_then(|port| u16::try_from(port).ok());
            }
            "max-message-size" => {
                section.max_message_size = number().unwrap_or(section.max_message_size);
            }
            _ => {}
        }
    }
    Some(section)
}
