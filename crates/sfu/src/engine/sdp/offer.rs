//! Offers, and what their answers agree to.

use forwarding::codec::Codec;
use media::MediaKind;

use super::codec::KnownCodec;
use super::description::{
    CANDIDATES_MAX, Description, Direction, Format, MediaSection, OfferedExtension,
    SCTP_PORT_DEFAULT, Setup,
};
use super::extension::Extension;
use super::write::{DataText, SectionText, SessionText, TransportText, Writer, identifier};
use super::{
    CodecDescription, DataDescription, DtlsRole, Extensions, Feedback, IceCredentials,
    LocalParameters, Negotiated, SdpError, Section, TransportDescription,
};

/// First dynamic payload type (RFC 3551, section 6). The formats of one offer stay below 128.
const DYNAMIC_PAYLOAD_TYPE: u8 = 96;

/// Which RTP sections an offer has, and which way media may flow in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedSections {
    /// An audio section.
    pub audio: bool,
    /// A video section.
    pub video: bool,
    /// We may send.
    pub send: bool,
    /// The peer may send.
    pub receive: bool,
}

/// An offer of ours that waits for its answer.
#[derive(Clone, Debug)]
pub struct PendingOffer {
    sections: Vec<Section>,
    local_ice: IceCredentials,
}

impl PendingOffer {
    /// What is offered.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }
}

/// Makes the first offer of an endpoint: audio, video and, if `local` has data channels, data, all bundled on
/// transport 0. The mids are Kurento's: `audio0`, `video0`, `application0`.
pub fn offer(local: &LocalParameters, offered: OfferedSections) -> (String, PendingOffer) {
    let sections = offered_sections(local, offered);
    let mids: Vec<&str> = sections.iter().filter_map(|s| s.mid.as_deref()).collect();
    let mut writer = Writer::new(&SessionText {
        id: local.session_id,
        version: 1,
        bundle: &mids,
        ice_lite: local.ice_lite,
        msid_semantic: !local.strict,
        extmap_allow_mixed: !local.strict,
        address: None,
    });
    for section in &sections {
        let (media, protocol) = match section.kind {
            MediaKind::Audio => ("audio", rtp_protocol(local)),
            MediaKind::Video => ("video", rtp_protocol(local)),
            MediaKind::Data => ("application", "UDP/DTLS/SCTP"),
        };
        let text = SectionText {
            media,
            protocol,
            extensions: &offered_extensions(section.extensions),
            extmap_allow_mixed: false,
            packet_times: &[],
            kbps_max: local.kbps_max(section.kind),
            transport: TransportText::Secure {
                ice: &local.ice[0],
                fingerprint: &local.fingerprint,
                setup: Setup::Actpass.name(),
            },
            data: section.data.map(|description| DataText {
                description,
                legacy: false,
            }),
        };
        writer.section(&text, section);
    }
    let pending = PendingOffer {
        local_ice: local.ice[0].clone(),
        sections,
    };
    (writer.finish(), pending)
}

/// Kurento writes the protocol as browsers did before RFC 5764 was settled.
fn rtp_protocol(local: &LocalParameters) -> &'static str {
    if local.strict {
        "RTP/SAVPF"
    } else {
        "UDP/TLS/RTP/SAVPF"
    }
}

pub(super) fn offered_sections(local: &LocalParameters, offered: OfferedSections) -> Vec<Section> {
    let kinds = [
        (MediaKind::Audio, "audio0", offered.audio),
        (MediaKind::Video, "video0", offered.video),
        (MediaKind::Data, "application0", local.data_channels),
    ];
    let mut payload_types = DYNAMIC_PAYLOAD_TYPE..;
    let mut sections = Vec::new();
    for (kind, mid, wanted) in kinds {
        if !wanted {
            continue;
        }
        let is_rtp = kind != MediaKind::Data;
        let codecs = offered_codecs(kind, local, &mut payload_types);
        if is_rtp && codecs.is_empty() {
            continue;
        }
        let has_rtx = codecs.iter().any(|codec| codec.rtx_payload_type.is_some());
        let send = is_rtp && offered.send;
        sections.push(Section {
            index: sections.len(),
            mid: Some(mid.to_owned()),
            kind,
            transport: 0,
            accepted: true,
            send,
            receive: is_rtp && offered.receive,
            codecs,
            extensions: own_extensions(kind, local),
            remote: Vec::new(),
            simulcast_rids: Vec::new(),
            local_ssrc: local.ssrcs.of(kind),
            local_rtx_ssrc: has_rtx.then_some(local.ssrcs.video_rtx),
            cname: identifier(&local.cname),
            msid: (send && !local.strict).then(|| local.msid(kind)),
            rtcp_mux: is_rtp,
            reduced_size: is_rtp && !local.strict,
            bandwidth_kbps: None,
            data: (!is_rtp).then_some(DataDescription {
                sctp_port: SCTP_PORT_DEFAULT,
                max_message_size: local.max_message_size,
            }),
        });
    }
    sections
}

fn offered_codecs(
    kind: MediaKind,
    local: &LocalParameters,
    payload_types: &mut impl Iterator<Item = u8>,
) -> Vec<CodecDescription> {
    let mut codecs: Vec<&KnownCodec> = Vec::new();
    for known in local.codecs.iter().copied().filter_map(KnownCodec::of) {
        if known.kind == kind && !codecs.iter().any(|other| other.codec == known.codec) {
            codecs.push(known);
        }
    }
    codecs.sort_by_key(|known| Some(known.codec) != local.preferred_video_codec);
    let is_video = kind == MediaKind::Video;
    let feedback = Feedback {
        nack: is_video,
        pli: is_video,
        fir: is_video,
        remb: is_video,
        transport_cc: local.transport_cc && !local.strict,
    };
    codecs
        .into_iter()
        .filter_map(|known| {
            let payload_type = known.static_payload_type.or_else(|| payload_types.next())?;
            let retransmits = is_video && !local.strict;
            // Kurento offers Opus without parameters, and takes no REMB for H.264.
            let fmtp = known.offered_fmtp.filter(|_| is_video || !local.strict);
            let remb = feedback.remb && !(local.strict && known.codec == Codec::H264);
            Some(CodecDescription {
                rtx_payload_type: retransmits.then(|| payload_types.next()).flatten(),
                feedback: Feedback { remb, ..feedback },
                ..known.describe(payload_type, fmtp)
            })
        })
        .collect()
}

/// The extensions of our offers, their ids being their positions in the list of all.
fn own_extensions(kind: MediaKind, local: &LocalParameters) -> Extensions {
    let mut extensions = Extensions::default();
    for (extension, id) in Extension::ALL.into_iter().zip(1..) {
        let wanted = match extension {
            Extension::AbsSendTime => true,
            Extension::TransportCc => local.transport_cc && !local.strict,
            // Nothing is repaired or sent in layers before an offer of the peer says so.
            Extension::Rid | Extension::RepairedRid => false,
            _ => !local.strict,
        };
        if wanted && extension.suits(kind) {
            extensions.set(extension, id);
        }
    }
    extensions
}

fn offered_extensions(extensions: Extensions) -> Vec<OfferedExtension> {
    let offered = |extension| {
        extensions.get(extension).map(|id| OfferedExtension {
            id,
            extension,
            direction: None::<Direction>,
        })
    };
    Extension::ALL.into_iter().filter_map(offered).collect()
}

impl PendingOffer {
    /// Applies the peer's answer. What the answer refuses is not accepted; an answer that has other sections than the
    /// offer, or does not bundle them, is an error.
    pub fn accept_answer(&self, answer: &str) -> Result<Negotiated, SdpError> {
        if answer.is_empty() {
            return Err(SdpError::EmptyAnswer);
        }
        let answer = Description::parse(answer)?;
        let sections = self.accept_sections(&answer)?;
        let accepted: Vec<&MediaSection> = sections
            .iter()
            .filter(|section| section.accepted)
            .map(|section| &answer.sections[section.index])
            .collect();
        let is_bundled = |section: &&MediaSection| answer.is_bundled(section);
        if accepted.len() > 1 && !accepted.iter().all(is_bundled) {
            return Err(SdpError::Unacceptable("answer without BUNDLE"));
        }
        let transports = accepted
            .first()
            .and_then(|first| answer.identity_of(first))
            .and_then(|identity| self.describe_transport(&answer, identity, &accepted))
            .into_iter()
            .collect();
        Ok(Negotiated {
            sections,
            transports,
            version: 1,
        })
    }

    /// The offered sections as far as an answer accepts them.
    pub(super) fn accept_sections(&self, answer: &Description) -> Result<Vec<Section>, SdpError> {
        if answer.sections.len() != self.sections.len() {
            return Err(SdpError::Unacceptable("answer with other media sections"));
        }
        self.sections
            .iter()
            .zip(&answer.sections)
            .map(|(offered, answered)| {
                if answered.kind != Some(offered.kind) {
                    return Err(SdpError::Unacceptable("answer with other media sections"));
                }
                let secure = answered.rtp_profile().is_none_or(|profile| profile.secure);
                let reachable = secure && answer.identity_of(answered).is_some();
                Ok(accept_section(offered, answered, reachable))
            })
            .collect()
    }

    fn describe_transport(
        &self,
        answer: &Description,
        identity: &MediaSection,
        accepted: &[&MediaSection],
    ) -> Option<TransportDescription> {
        let mut candidates: Vec<_> = accepted
            .iter()
            .flat_map(|section| section.candidates.iter().cloned())
            .collect();
        candidates.truncate(CANDIDATES_MAX);
        Some(TransportDescription {
            continues: None,
            local_ice: self.local_ice.clone(),
            remote_ice: identity.ice.clone()?,
            remote_ice_lite: answer.ice_lite,
            ice_restarted: false,
            remote_fingerprints: identity.fingerprints.clone(),
            dtls_role: match identity.setup {
                Some(Setup::Passive) => DtlsRole::Client,
                Some(Setup::Active | Setup::Actpass) | None => DtlsRole::Server,
            },
            dtls_restarted: false,
            candidates,
        })
    }
}

pub(super) fn accept_section(
    offered: &Section,
    answered: &MediaSection,
    reachable: bool,
) -> Section {
    let is_rtp = offered.kind != MediaKind::Data;
    let codecs = accept_codecs(offered, answered);
    let has_content = if is_rtp {
        !codecs.is_empty()
    } else {
        answered.data.is_some()
    };
    let accepted = answered.port != 0 && reachable && has_content;
    let mut extensions = Extensions::default();
    for answer in &answered.extensions {
        if offered.extensions.get(answer.extension) == Some(answer.id) {
            extensions.set(answer.extension, answer.id);
        }
    }
    let has_rtx = codecs.iter().any(|codec| codec.rtx_payload_type.is_some());
    let receive = accepted && offered.receive && answered.direction.sends();
    Section {
        index: offered.index,
        mid: offered.mid.clone(),
        kind: offered.kind,
        transport: 0,
        accepted,
        send: accepted && offered.send && answered.direction.receives(),
        receive,
        codecs,
        extensions,
        remote: if receive {
            answered.streams.clone()
        } else {
            Vec::new()
        },
        simulcast_rids: Vec::new(),
        local_ssrc: offered.local_ssrc,
        local_rtx_ssrc: offered.local_rtx_ssrc.filter(|_| has_rtx),
        cname: offered.cname.clone(),
        msid: offered.msid.clone(),
        rtcp_mux: answered.rtcp_mux,
        reduced_size: offered.reduced_size && answered.reduced_size,
        bandwidth_kbps: answered.bandwidth_kbps,
        data: answered.data.map(|data| data.description),
    }
}

/// What of our formats the answer keeps, in its order.
fn accept_codecs(offered: &Section, answered: &MediaSection) -> Vec<CodecDescription> {
    let with_feedback = answered
        .rtp_profile()
        .is_some_and(|profile| profile.feedback);
    let accept = |format: &Format| {
        let known = format.codec()?;
        let ours = offered
            .codecs
            .iter()
            .find(|ours| ours.payload_type == format.payload_type && ours.codec == known.codec)?;
        let repairs = |other: &Format| {
            other.repairs(format.payload_type) && Some(other.payload_type) == ours.rtx_payload_type
        };
        let feedback = if with_feedback {
            ours.feedback.and(format.feedback)
        } else {
            Feedback::default()
        };
        Some(CodecDescription {
            rtx_payload_type: ours
                .rtx_payload_type
                .filter(|_| answered.formats.iter().any(repairs)),
            ..format.describe(known, feedback)
        })
    };
    answered.formats.iter().filter_map(accept).collect()
}
