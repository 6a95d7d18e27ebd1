//! Writes descriptions.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use media::MediaKind;

use super::codec::KnownCodec;
use super::description::{Direction, MediaSection, OfferedExtension};
use super::lines::token;
use super::sdes::Crypto;
use super::{
    Candidate, CandidateAddress, CandidateTransport, CodecDescription, DataDescription,
    Fingerprint, IceCredentials, Section,
};

/// Port of `m=` before candidates are known: the "discard" port (RFC 9429, section 5.2.1).
const PORT_PLACEHOLDER: u16 = 9;
/// Streams of `a=sctpmap`, as old browsers wrote it.
const LEGACY_STREAMS: u16 = 1024;

/// A description in the making.
pub(super) struct Writer(String);

/// What the lines before the first `m=` say.
pub(super) struct SessionText<'a> {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) bundle: &'a [&'a str],
    pub(super) ice_lite: bool,
    pub(super) msid_semantic: bool,
    pub(super) extmap_allow_mixed: bool,
    /// Of the whole session; media of WebRTC have candidates instead.
    pub(super) address: Option<IpAddr>,
}

/// What an accepted section says beside its [`Section`].
pub(super) struct SectionText<'a> {
    pub(super) media: &'a str,
    pub(super) protocol: &'a str,
    pub(super) extensions: &'a [OfferedExtension],
    pub(super) extmap_allow_mixed: bool,
    /// `a=ptime` and `a=maxptime`, in ms.
    pub(super) packet_times: &'a [(&'static str, u16)],
    /// `b=AS`, in kbit/s.
    pub(super) kbps_max: Option<u32>,
    pub(super) transport: TransportText<'a>,
    /// Port and maximum message size of data channels.
    pub(super) data: Option<DataText>,
}

/// How a section is reached.
pub(super) enum TransportText<'a> {
    /// ICE and DTLS.
    Secure {
        ice: &'a IceCredentials,
        fingerprint: &'a Fingerprint,
        setup: &'static str,
    },
    /// Plain RTP at the session's address.
    Plain {
        rtp_port: u16,
        rtcp_port: u16,
        /// The peer opens the flow, so its address is learnt.
        passive: bool,
        /// What we send with.
        crypto: Option<&'a Crypto>,
    },
}

/// Data channels as we describe them.
#[derive(Clone, Copy)]
pub(super) struct DataText {
    pub(super) description: DataDescription,
    pub(super) legacy: bool,
}

impl Writer {
    pub(super) fn new(session: &SessionText<'_>) -> Self {
        let mut writer = Self(String::with_capacity(4096));
        let address = session.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let connection = Connection(address);
        writer.line(format_args!("v=0"));
        writer.line(format_args!(
            "o=- {} {} {connection}",
            session.id, session.version
        ));
        writer.line(format_args!("s=-"));
        if session.address.is_some() {
            writer.line(format_args!("c={connection}"));
        }
        writer.line(format_args!("t=0 0"));
        if !session.bundle.is_empty() {
            writer.line(format_args!("a=group:BUNDLE {}", session.bundle.join(" ")));
        }
        if session.ice_lite {
            writer.line(format_args!("a=ice-lite"));
        }
        if session.extmap_allow_mixed {
            writer.line(format_args!("a=extmap-allow-mixed"));
        }
        if session.msid_semantic {
            writer.line(format_args!("a=msid-semantic: WMS *"));
        }
        writer
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.0
            .write_fmt(line)
            .and_then(|()| self.0.write_str("\r\n"))
            .expect("writing to a string does not fail");
    }

    /// Refuses a section: port 0, its formats repeated (RFC 3264, section 6).
    pub(super) fn refused(&mut self, section: &MediaSection) {
        self.line(format_args!(
            "m={} 0 {} {}",
            section.media,
            section.protocol,
            section.format_names.join(" ")
        ));
        self.line(format_args!("c=IN IP4 0.0.0.0"));
        if let Some(mid) = &section.mid {
            self.line(format_args!("a=mid:{mid}"));
        }
        self.line(format_args!("a=inactive"));
    }

    pub(super) fn section(&mut self, text: &SectionText<'_>, section: &Section) {
        let is_rtp = section.kind != MediaKind::Data;
        self.media_line(text, section);
        if let Some(kbps) = text.kbps_max {
            self.line(format_args!("b=AS:{kbps}"));
        }
        self.transport(&text.transport, is_rtp);
        if let Some(mid) = &section.mid {
            self.line(format_args!("a=mid:{mid}"));
        }
        if is_rtp {
            self.rtp(text, section);
        }
        if let Some(data) = text.data {
            self.data(data);
        }
    }

    fn media_line(&mut self, text: &SectionText<'_>, section: &Section) {
        let port = match text.transport {
            TransportText::Secure { .. } => PORT_PLACEHOLDER,
            TransportText::Plain { rtp_port, .. } => rtp_port,
        };
        let mut formats = String::new();
        for codec in &section.codecs {
            let _ = write!(formats, " {}", codec.payload_type);
            if let Some(rtx) = codec.rtx_payload_type {
                let _ = write!(formats, " {rtx}");
            }
        }
        match text.data {
            Some(data) if data.legacy => {
                let _ = write!(formats, " {}", data.description.sctp_port);
            }
            Some(_) => formats.push_str(" webrtc-datachannel"),
            None => {}
        }
        self.line(format_args!(
            "m={} {port} {}{formats}",
            text.media, text.protocol
        ));
    }

    fn transport(&mut self, transport: &TransportText<'_>, is_rtp: bool) {
        match transport {
            TransportText::Secure {
                ice,
                fingerprint,
                setup,
            } => {
                self.line(format_args!("c=IN IP4 0.0.0.0"));
                if is_rtp {
                    self.line(format_args!("a=rtcp:{PORT_PLACEHOLDER} IN IP4 0.0.0.0"));
                }
                self.line(format_args!("a=ice-ufrag:{}", ice.ufrag()));
                self.line(format_args!("a=ice-pwd:{}", ice.pwd()));
                self.line(format_args!("a=fingerprint:{fingerprint}"));
                self.line(format_args!("a=setup:{setup}"));
            }
            // Kurento writes the port even where it is what RTP's implies.
            TransportText::Plain {
                rtcp_port,
                passive,
                crypto,
                ..
            } => {
                self.line(format_args!("a=rtcp:{rtcp_port}"));
                if let Some(crypto) = crypto {
                    self.line(format_args!("a=crypto:{crypto}"));
                }
                if *passive {
                    self.line(format_args!("a=direction:passive"));
                }
            }
        }
    }

    fn rtp(&mut self, text: &SectionText<'_>, section: &Section) {
        if text.extmap_allow_mixed {
            self.line(format_args!("a=extmap-allow-mixed"));
        }
        for offered in text.extensions {
            let uri = offered.extension.uri();
            match offered.direction {
                Some(direction) => {
                    let direction = direction.mirrored().name();
                    self.line(format_args!("a=extmap:{}/{direction} {uri}", offered.id));
                }
                None => self.line(format_args!("a=extmap:{} {uri}", offered.id)),
            }
        }
        let direction = Direction::new(section.send, section.receive);
        self.line(format_args!("a={}", direction.name()));
        if let Some((stream, track)) = &section.msid {
            self.line(format_args!("a=msid:{stream} {track}"));
        }
        if section.rtcp_mux {
            self.line(format_args!("a=rtcp-mux"));
        }
        if section.reduced_size {
            self.line(format_args!("a=rtcp-rsize"));
        }
        for codec in &section.codecs {
            self.codec(codec);
        }
        for (name, time_ms) in text.packet_times {
            self.line(format_args!("a={name}:{time_ms}"));
        }
        for rid in &section.simulcast_rids {
            self.line(format_args!("a=rid:{rid} recv"));
        }
        if !section.simulcast_rids.is_empty() {
            let layers = section.simulcast_rids.join(";");
            self.line(format_args!("a=simulcast:recv {layers}"));
        }
        if section.send {
            self.sources(section);
        }
    }

    fn codec(&mut self, codec: &CodecDescription) {
        let payload_type = codec.payload_type;
        if let Some(known) = KnownCodec::of(codec.codec) {
            self.line(format_args!("a=rtpmap:{payload_type} {}", known.rtpmap));
        }
        for value in codec.feedback.values() {
            self.line(format_args!("a=rtcp-fb:{payload_type} {value}"));
        }
        if let Some(fmtp) = &codec.fmtp {
            self.line(format_args!("a=fmtp:{payload_type} {fmtp}"));
        }
        if let Some(rtx) = codec.rtx_payload_type {
            self.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
            self.line(format_args!("a=fmtp:{rtx} apt={payload_type}"));
        }
    }

    /// Plan B clients learn the stream from here, unified-plan clients from `a=msid`.
    fn sources(&mut self, section: &Section) {
        let ssrc = section.local_ssrc;
        let rtx = section.local_rtx_ssrc;
        if let Some(rtx) = rtx {
            self.line(format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
        }
        for ssrc in std::iter::once(ssrc).chain(rtx) {
            self.line(format_args!("a=ssrc:{ssrc} cname:{}", section.cname));
            if let Some((stream, track)) = &section.msid {
                self.line(format_args!("a=ssrc:{ssrc} msid:{stream} {track}"));
            }
        }
    }

    fn data(&mut self, data: DataText) {
        let port = data.description.sctp_port;
        if data.legacy {
            self.line(format_args!(
                "a=sctpmap:{port} webrtc-datachannel {LEGACY_STREAMS}"
            ));
        } else {
            self.line(format_args!("a=sctp-port:{port}"));
        }
        let size = data.description.max_message_size;
        self.line(format_args!("a=max-message-size:{size}"));
    }
}

/// An address as `c=` and `o=` have it.
struct Connection(IpAddr);

impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.0.is_ipv4() { "IP4" } else { "IP6" };
        write!(formatter, "IN {family} {}", self.0)
    }
}

/// What of `text` may stand in an identifier; `-` if nothing.
pub(super) fn identifier(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .filter(|c| token(c.encode_utf8(&mut [0; 4]), 1).is_some())
        .collect();
    if cleaned.is_empty() {
        "-".to_owned()
    } else {
        cleaned
    }
}

/// Puts our candidates into a local description that was made here: every accepted section gets them and
/// `a=end-of-candidates`, and the first UDP address becomes that of `c=` and `m=`. Replaces those of an earlier call.
pub fn embed_candidates(local: &str, candidates: &[Candidate]) -> String {
    let udp = |candidate: &&Candidate| candidate.transport == CandidateTransport::Udp;
    let Some((address, port)) =
        candidates
            .iter()
            .find(udp)
            .or(candidates.first())
            .and_then(|candidate| match candidate.address {
                CandidateAddress::Ip(address) => Some((address, candidate.port)),
                CandidateAddress::Name(_) => None,
            })
    else {
        return local.to_owned();
    };
    let mut writer = Writer(String::with_capacity(local.len() + 256));
    let end_section = |writer: &mut Writer| {
        for candidate in candidates {
            writer.line(format_args!("a={candidate}"));
        }
        writer.line(format_args!("a=end-of-candidates"));
    };
    let mut accepted = false;
    for line in local.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            if accepted {
                end_section(&mut writer);
            }
            let words: Vec<&str> = media.splitn(3, ' ').collect();
            match words[..] {
                [media, old_port, rest] if old_port != "0" => {
                    accepted = true;
                    writer.line(format_args!("m={media} {port} {rest}"));
                }
                _ => {
                    accepted = false;
                    writer.line(format_args!("{line}"));
                }
            }
        } else if accepted && line.starts_with("c=") {
            writer.line(format_args!("c={}", Connection(address)));
        } else if accepted && line.starts_with("a=rtcp:") {
            writer.line(format_args!("a=rtcp:{port} {}", Connection(address)));
        } else if !line.starts_with("a=candidate:") && line != "a=end-of-candidates" {
            writer.line(format_args!("{line}"));
        }
    }
    if accepted {
        end_section(&mut writer);
    }
    writer.finish()
}
