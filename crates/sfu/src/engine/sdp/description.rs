//! A peer's description, read into structure. What is kept here is bounded and safe to copy into an answer.

use std::net::IpAddr;

use media::MediaKind;

use super::codec::{KnownCodec, fmtp_parameter};
use super::extension::Extension;
use super::lines::{Block, Lines, printable, token};
use super::sdes::Crypto;
use super::{
    Candidate, CodecDescription, DataDescription, Feedback, Fingerprint, IceCredentials,
    RemoteStream, SdpError,
};

/// Longest mid; Firefox and mediasoup stay below 40. It also travels in RTP, 16 bytes at most without two-byte headers.
const MID_BYTES_MAX: usize = 64;
/// Longest RID (RFC 8851 sets none; one-byte headers carry 16).
const RID_BYTES_MAX: usize = 16;
/// Longest `a=fmtp`; H.264 parameter sets take a few hundred bytes.
const FMTP_BYTES_MAX: usize = 1024;
/// Simulcast layers that are used. Browsers send three; more would be forwarded to nobody.
const RIDS_MAX: usize = 3;
/// Sources read from one section. Plan B has two for each track; only the first track is used.
const SSRCS_MAX: usize = 32;
/// Candidates read from one section. A browser on a laptop has about ten.
pub(super) const CANDIDATES_MAX: usize = 32;
/// Fingerprints read from one section: one for each hash function and a spare certificate.
const FINGERPRINTS_MAX: usize = 8;
/// SCTP port of old browsers, which name it in `m=`.
pub(super) const SCTP_PORT_DEFAULT: u16 = 5000;
/// Largest data-channel message of a peer that names none (RFC 8841, section 6.1).
const MESSAGE_SIZE_DEFAULT: u32 = 65_536;

/// A peer's description, read and bounded.
#[derive(Clone, Debug)]
pub struct Description {
    pub(super) msid_semantic: bool,
    pub(super) extmap_allow_mixed: bool,
    /// Mids of the first `BUNDLE` group.
    pub(super) bundle: Vec<String>,
    pub(super) ice_lite: bool,
    pub(super) sections: Vec<MediaSection>,
}

/// One `m=` section as the peer describes it.
#[derive(Clone, Debug)]
pub(super) struct MediaSection {
    /// The word after `m=`.
    pub(super) media: String,
    /// None of ours: always refused.
    pub(super) kind: Option<MediaKind>,
    pub(super) port: u16,
    pub(super) protocol: String,
    /// The formats of `m=`, to repeat them when refusing.
    pub(super) format_names: Vec<String>,
    pub(super) formats: Vec<Format>,
    pub(super) mid: Option<String>,
    pub(super) bundle_only: bool,
    pub(super) direction: Direction,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) extmap_allow_mixed: bool,
    pub(super) ice: Option<IceCredentials>,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) setup: Option<Setup>,
    pub(super) rtcp_mux: bool,
    pub(super) reduced_size: bool,
    pub(super) streams: Vec<RemoteStream>,
    pub(super) simulcast_rids: Vec<String>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) bandwidth_kbps: Option<u32>,
    pub(super) data: Option<OfferedData>,
    /// `a=ptime` and `a=maxptime`, in ms.
    pub(super) packet_times: Vec<(&'static str, u16)>,
    /// Of `c=`, here or at the session.
    pub(super) address: Option<IpAddr>,
    /// Port of `a=rtcp`.
    pub(super) rtcp_port: Option<u16>,
    /// `a=direction:active`: the peer's address is where its packets come from.
    pub(super) learn_address: bool,
    /// `a=crypto`: keys that the peer sends with, if SDES is used.
    pub(super) cryptos: Vec<Crypto>,
}

/// A format of `m=` that we can use.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    pub(super) encoding: Encoding,
    pub(super) fmtp: Option<String>,
    pub(super) feedback: Feedback,
}

/// What a format carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    Codec(&'static KnownCodec),
    /// Retransmissions of the format with this payload type.
    Rtx(u8),
}

/// Data channels as the peer describes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfferedData {
    pub(super) description: DataDescription,
    /// `DTLS/SCTP 5000` with `a=sctpmap`, before RFC 8841.
    pub(super) legacy: bool,
}

/// A known `a=extmap`.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) extension: Extension,
    /// Written behind the id; most have none.
    pub(super) direction: Option<Direction>,
}

/// Which way media may flow, from the describer's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// `a=setup` (RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    Actpass,
}

/// Profile of RTP in a protocol of `m=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RtpProfile {
    /// SRTP.
    pub(super) secure: bool,
    /// Feedback messages (AVPF).
    pub(super) feedback: bool,
}

impl Description {
    /// Reads an offer or answer.
    ///
    /// Fails on what is no description, is larger than any honest one, or names a mid twice. Unknown attributes and
    /// broken values of known ones are skipped, as if absent.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        let lines = Lines::parse(text)?;
        let session = &lines.session;
        let sections = lines
            .sections
            .iter()
            .map(|block| MediaSection::parse(block, session))
            .collect::<Result<Vec<_>, _>>()?;
        let mut mids: Vec<&str> = sections.iter().filter_map(|s| s.mid.as_deref()).collect();
        mids.sort_unstable();
        if mids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(SdpError::Malformed("mid used twice"));
        }
        let bundle = session
            .values("group")
            .find_map(|group| group.strip_prefix("BUNDLE"))
            .map(|mids| {
                mids.split_ascii_whitespace()
                    .filter(|mid| sections.iter().any(|s| s.mid.as_deref() == Some(*mid)))
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        Ok(Self {
            msid_semantic: session.attribute("msid-semantic").is_some(),
            extmap_allow_mixed: session.attribute("extmap-allow-mixed").is_some(),
            bundle,
            ice_lite: session.attribute("ice-lite").is_some(),
            sections,
        })
    }

    pub(super) fn is_bundled(&self, section: &MediaSection) -> bool {
        section
            .mid
            .as_ref()
            .is_some_and(|mid| self.bundle.contains(mid))
    }

    /// The section whose credentials and certificate count for this one: of bundled ones the first that has them
    /// (RFC 9143, section 7.2).
    pub(super) fn identity_of<'a>(&'a self, section: &'a MediaSection) -> Option<&'a MediaSection> {
        if self.is_bundled(section) {
            let is_source = |other: &&MediaSection| self.is_bundled(other) && other.has_identity();
            self.sections.iter().find(is_source)
        } else {
            Some(section).filter(|section| section.has_identity())
        }
    }
}

impl MediaSection {
    fn parse(block: &Block<'_>, session: &Block<'_>) -> Result<Self, SdpError> {
        let bad_line = SdpError::Malformed("m= line");
        let mut words = block.media.split_ascii_whitespace();
        let media = words.next().and_then(|w| token(w, 16)).ok_or(bad_line)?;
        let port = words.next().and_then(parse_port).ok_or(bad_line)?;
        let protocol = words.next().filter(|w| is_protocol(w)).ok_or(bad_line)?;
        let format_names = words
            .map(|word| token(word, 32).map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or(bad_line)?;
        if format_names.is_empty() {
            return Err(bad_line);
        }
        let kind = match media {
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            "application" => Some(MediaKind::Data),
            _ => None,
        };
        let mid = block
            .attribute("mid")
            .map(|mid| token(mid, MID_BYTES_MAX).ok_or(SdpError::Malformed("mid")))
            .transpose()?
            .map(str::to_owned);
        let either = |name| block.attribute(name).or_else(|| session.attribute(name));
        let fingerprints = parse_fingerprints(block);
        Ok(Self {
            media: media.to_owned(),
            kind,
            port,
            protocol: protocol.to_owned(),
            formats: parse_formats(&format_names, block),
            mid,
            bundle_only: block.attribute("bundle-only").is_some(),
            direction: parse_direction(block)
                .or_else(|| parse_direction(session))
                .unwrap_or(Direction::SendRecv),
            extensions: parse_extensions(block, session),
            extmap_allow_mixed: block.attribute("extmap-allow-mixed").is_some(),
            ice: either("ice-ufrag")
                .zip(either("ice-pwd"))
                .and_then(|(ufrag, pwd)| IceCredentials::new(ufrag, pwd)),
            fingerprints: if fingerprints.is_empty() {
                parse_fingerprints(session)
            } else {
                fingerprints
            },
            setup: either("setup").and_then(Setup::parse),
            rtcp_mux: block.attribute("rtcp-mux").is_some(),
            reduced_size: block.attribute("rtcp-rsize").is_some(),
            streams: parse_streams(block),
            simulcast_rids: parse_simulcast(block),
            candidates: block
                .values("candidate")
                .take(CANDIDATES_MAX)
                .filter_map(|line| Candidate::parse(line).ok())
                .collect(),
            bandwidth_kbps: block.bandwidths.iter().find_map(|b| parse_bandwidth(b)),
            data: (kind == Some(MediaKind::Data))
                .then(|| parse_data(&format_names, block))
                .flatten(),
            packet_times: ["ptime", "maxptime"]
                .into_iter()
                .filter_map(|name| Some((name, block.attribute(name)?.parse().ok()?)))
                .collect(),
            address: block
                .connection
                .or(session.connection)
                .and_then(parse_connection),
            rtcp_port: block
                .attribute("rtcp")
                .and_then(|value| value.split_ascii_whitespace().next())
                .and_then(|port| port.parse().ok()),
            learn_address: either("direction") == Some("active"),
            cryptos: Crypto::parse_all(block.values("crypto")),
            format_names,
        })
    }

    /// `None`: not RTP.
    pub(super) fn rtp_profile(&self) -> Option<RtpProfile> {
        let protocol = self.protocol.to_ascii_uppercase();
        let profile = |secure, feedback| Some(RtpProfile { secure, feedback });
        match protocol.as_str() {
            "RTP/AVP" => profile(false, false),
            "RTP/AVPF" => profile(false, true),
            "RTP/SAVP" | "UDP/TLS/RTP/SAVP" => profile(true, false),
            "RTP/SAVPF" | "UDP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVPF" | "TCP/DTLS/RTP/SAVPF" => {
                profile(true, true)
            }
            _ => None,
        }
    }

    pub(super) fn has_identity(&self) -> bool {
        self.ice.is_some() && !self.fingerprints.is_empty()
    }
}

impl Direction {
    pub(super) fn new(send: bool, receive: bool) -> Self {
        match (send, receive) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The describer may send.
    pub(super) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// The describer may receive.
    pub(super) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same, from the other side.
    pub(super) fn mirrored(self) -> Self {
        Self::new(self.receives(), self.sends())
    }
}

impl Setup {
    fn parse(value: &str) -> Option<Self> {
        match value {
            "active" => Some(Self::Active),
            "passive" => Some(Self::Passive),
            "actpass" => Some(Self::Actpass),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Actpass => "actpass",
        }
    }
}

/// `<port>` or `<port>/<count>`.
fn parse_port(word: &str) -> Option<u16> {
    word.split('/').next()?.parse().ok()
}

fn is_protocol(word: &str) -> bool {
    word.len() <= 32 && word.split('/').all(|part| token(part, 16).is_some())
}

fn parse_direction(block: &Block<'_>) -> Option<Direction> {
    block
        .attributes
        .iter()
        .find_map(|(name, _)| Direction::parse(name))
}

fn parse_fingerprints(block: &Block<'_>) -> Vec<Fingerprint> {
    block
        .values("fingerprint")
        .take(FINGERPRINTS_MAX)
        .filter_map(|value| value.parse().ok())
        .collect()
}

/// The usable formats, in the order of `m=`.
fn parse_formats(names: &[String], block: &Block<'_>) -> Vec<Format> {
    /// What the attributes say about one payload type.
    #[derive(Clone, Copy, Default)]
    struct Facts<'a> {
        listed: bool,
        encoding: Option<&'a str>,
        fmtp: Option<&'a str>,
        feedback: Feedback,
    }
    let mut facts = [Facts::default(); 128];
    let mut feedback_of_all = Feedback::default();
    for (name, value) in &block.attributes {
        let Some((format, value)) = value.split_once(' ') else {
            continue;
        };
        if *name == "rtcp-fb" && format == "*" {
            feedback_of_all.add(value.trim());
        }
        let Some(fact) = format
            .parse()
            .ok()
            .and_then(|payload_type: usize| facts.get_mut(payload_type))
        else {
            continue;
        };
        match *name {
            "rtpmap" => fact.encoding = Some(value.trim()),
            "fmtp" => fact.fmtp = Some(value.trim()),
            "rtcp-fb" => fact.feedback.add(value.trim()),
            _ => {}
        }
    }
    let mut formats = Vec::new();
    for name in names {
        let Ok(payload_type) = name.parse::<u8>() else {
            continue;
        };
        let Some(fact) = facts.get_mut(usize::from(payload_type)) else {
            continue;
        };
        if std::mem::replace(&mut fact.listed, true) {
            continue;
        }
        let fmtp = fact.fmtp.and_then(|text| printable(text, FMTP_BYTES_MAX));
        let encoding = match fact.encoding {
            None => KnownCodec::of_static_payload_type(payload_type).map(Encoding::Codec),
            Some(text) if text.eq_ignore_ascii_case("rtx/90000") => fmtp
                .and_then(|fmtp| fmtp_parameter(fmtp, "apt"))
                .and_then(|apt| apt.parse().ok())
                .map(Encoding::Rtx),
            Some(text) => KnownCodec::from_rtpmap(text).map(Encoding::Codec),
        };
        if let Some(encoding) = encoding {
            let mut feedback = fact.feedback;
            for value in feedback_of_all.values() {
                feedback.add(value);
            }
            formats.push(Format {
                payload_type,
                encoding,
                fmtp: fmtp.map(str::to_owned),
                feedback,
            });
        }
    }
    formats
}

impl Format {
    pub(super) fn codec(&self) -> Option<&'static KnownCodec> {
        match self.encoding {
            Encoding::Codec(known) => Some(known),
            Encoding::Rtx(_) => None,
        }
    }

    /// These are retransmissions of the other format.
    pub(super) fn repairs(&self, payload_type: u8) -> bool {
        let repairs = matches!(self.encoding, Encoding::Rtx(apt) if apt == payload_type);
        repairs && self.payload_type != payload_type
    }

    /// The format as both know it, without its retransmission format.
    pub(super) fn describe(&self, known: &KnownCodec, feedback: Feedback) -> CodecDescription {
        CodecDescription {
            feedback,
            ..known.describe(self.payload_type, self.fmtp.as_deref())
        }
    }
}

fn parse_extensions(block: &Block<'_>, session: &Block<'_>) -> Vec<OfferedExtension> {
    let mut extensions: Vec<OfferedExtension> = Vec::new();
    for value in block.values("extmap").chain(session.values("extmap")) {
        let Some(offered) = OfferedExtension::parse(value) else {
            continue;
        };
        let is_known = extensions
            .iter()
            .any(|known| known.id == offered.id || known.extension == offered.extension);
        if !is_known {
            extensions.push(offered);
        }
    }
    extensions
}

impl OfferedExtension {
    /// Reads `<id>[/<direction>] <uri> [attributes]`.
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let id = words.next()?;
        let extension = Extension::from_uri(words.next()?)?;
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, Some(Direction::parse(direction)?)),
            None => (id, None),
        };
        let id = id.parse().ok()?;
        // 15 is reserved in the one-byte form, 0 is padding (RFC 8285, section 4.2).
        let is_fit = !matches!(id, 0 | 15) && direction != Some(Direction::Inactive);
        is_fit.then_some(Self {
            id,
            extension,
            direction,
        })
    }
}

/// The first track's stream, or its simulcast layers. Retransmission sources are no streams of their own.
fn parse_streams(block: &Block<'_>) -> Vec<RemoteStream> {
    let mut sources: Vec<u32> = Vec::new();
    for value in block.values("ssrc") {
        let ssrc = value
            .split_ascii_whitespace()
            .next()
            .and_then(|ssrc| ssrc.parse().ok());
        if let Some(ssrc) = ssrc
            && !sources.contains(&ssrc)
            && sources.len() < SSRCS_MAX
        {
            sources.push(ssrc);
        }
    }
    let groups = |semantics: &'static str| {
        block
            .values("ssrc-group")
            .take(SSRCS_MAX)
            .filter_map(move |group| group.strip_prefix(semantics)?.strip_prefix(' '))
            .map(|members| {
                members
                    .split_ascii_whitespace()
                    .take(SSRCS_MAX)
                    .filter_map(|ssrc| ssrc.parse::<u32>().ok())
                    .collect::<Vec<_>>()
            })
    };
    let pairs: Vec<(u32, u32)> = groups("FID")
        .filter_map(|members| Some((*members.first()?, *members.get(1)?)))
        .filter(|(media, rtx)| media != rtx)
        .collect();
    let stream = |ssrc| RemoteStream {
        ssrc,
        rtx_ssrc: pairs
            .iter()
            .find(|(media, _)| *media == ssrc)
            .map(|(_, rtx)| *rtx),
    };
    let Some(first) = sources
        .iter()
        .find(|ssrc| pairs.iter().all(|(_, rtx)| rtx != *ssrc))
    else {
        return Vec::new();
    };
    groups("SIM")
        .find(|layers| layers.contains(first))
        .map(|mut layers| {
            layers.truncate(RIDS_MAX);
            layers
        })
        .unwrap_or_else(|| vec![*first])
        .into_iter()
        .map(stream)
        .collect()
}

/// RIDs of `a=simulcast:send`, the first of alternatives, that an `a=rid` declares.
fn parse_simulcast(block: &Block<'_>) -> Vec<String> {
    let Some(value) = block.attribute("simulcast") else {
        return Vec::new();
    };
    let mut words = value.split_ascii_whitespace();
    let list = loop {
        match (words.next(), words.next()) {
            (Some("send"), Some(list)) => break list,
            (Some(_), Some(_)) => {}
            _ => return Vec::new(),
        }
    };
    let is_declared = |rid: &&str| {
        block.values("rid").any(|value| {
            let mut words = value.split_ascii_whitespace();
            words.next() == Some(*rid) && words.next() == Some("send")
        })
    };
    let mut rids: Vec<String> = Vec::new();
    for layer in list.split(';') {
        let rid = layer.split(',').next().unwrap_or(layer);
        let rid = rid.strip_prefix('~').unwrap_or(rid);
        let is_fit = !rid.is_empty()
            && rid.len() <= RID_BYTES_MAX
            && rid
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if rids.len() < RIDS_MAX
            && is_fit
            && !rids.iter().any(|known| known == rid)
            && is_declared(&rid)
        {
            rids.push(rid.to_owned());
        }
    }
    // A single layer is no simulcast, and needs no RID to be recognised.
    if rids.len() < 2 { Vec::new() } else { rids }
}

/// `AS` is in kbit/s, `TIAS` in bit/s (RFC 3890).
fn parse_bandwidth(value: &str) -> Option<u32> {
    match value.split_once(':')? {
        ("AS", kbps) => kbps.trim().parse().ok(),
        ("TIAS", bps) => bps.trim().parse::<u32>().ok().map(|bps| bps / 1000),
        _ => None,
    }
}

fn parse_data(names: &[String], block: &Block<'_>) -> Option<OfferedData> {
    let name = names.first()?;
    let legacy = name != "webrtc-datachannel";
    let port = if legacy {
        name.parse().ok()?
    } else {
        block
            .attribute("sctp-port")
            .and_then(|port| port.trim().parse().ok())
            .unwrap_or(SCTP_PORT_DEFAULT)
    };
    let max_message_size = match block.attribute("max-message-size") {
        // Zero means any (RFC 8841, section 6), and so does what does not fit.
        Some(size) => match size.trim().parse() {
            Ok(0) | Err(_) => u32::MAX,
            Ok(size) => size,
        },
        None => MESSAGE_SIZE_DEFAULT,
    };
    (port != 0).then_some(OfferedData {
        description: DataDescription {
            sctp_port: port,
            max_message_size,
        },
        legacy,
    })
}

/// `IN IP4 <address>[/<ttl>]`.
fn parse_connection(value: &str) -> Option<IpAddr> {
    let address = value.split_ascii_whitespace().nth(2)?;
    address.split('/').next()?.parse().ok()
}
