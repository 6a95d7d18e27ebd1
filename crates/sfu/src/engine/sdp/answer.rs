//! Answers to offers.

use media::MediaKind;

use super::description::{CANDIDATES_MAX, Description, MediaSection, OfferedExtension, Setup};
use super::extension::Extension;
use super::plan::{Plan, PlannedTransport};
use super::write::{DataText, SectionText, SessionText, TransportText, Writer, identifier};
use super::{
    CodecDescription, DataDescription, DtlsRole, Extensions, Feedback, IceCredentials,
    LocalParameters, Negotiated, SdpError, Section, TransportDescription,
};

/// Answers an offer. `previous` is what this endpoint negotiated last: what goes on keeps its transport and SSRCs,
/// what was refused in between begins anew.
///
/// Returns the text of the answer and what was agreed. Sections that cannot be used are refused, which is no error;
/// fewer sections than before are one (RFC 3264, section 8).
pub fn answer(
    offer: &Description,
    local: &LocalParameters,
    previous: Option<&Negotiated>,
) -> Result<(String, Negotiated), SdpError> {
    let last = previous.and_then(|previous| previous.sections.last());
    if last.is_some_and(|section| section.index >= offer.sections.len()) {
        return Err(SdpError::Unacceptable("fewer media sections than before"));
    }
    let kept = keep(offer, local, Security::Dtls);
    let plan = Plan::new(offer, &kept, previous);
    let transports: Vec<TransportDescription> = plan
        .transports
        .iter()
        .zip(&local.ice)
        .map(|(planned, fresh_ice)| describe_transport(planned, fresh_ice, offer, previous))
        .collect();
    let sections: Vec<Section> = offer
        .sections
        .iter()
        .zip(&kept)
        .enumerate()
        .filter_map(|(index, (offered, kept))| {
            let transport = plan.transport_of[index].unwrap_or(0);
            // On another transport a stream of ours begins anew, hence with another SSRC.
            let goes_on = |before: &&Section| {
                let planned = plan.transports.get(transport);
                planned.is_some_and(|planned| planned.continues == Some(before.transport))
            };
            let before = offered
                .kind
                .and_then(|kind| previous?.accepted(kind))
                .filter(goes_on);
            let section = describe_section(index, offered, kept.as_ref(), local, before)?;
            Some(Section {
                transport,
                ..section
            })
        })
        .collect();
    let negotiated = Negotiated {
        sections,
        transports,
        version: previous.map_or(1, |previous| previous.version + 1),
    };
    let text = write(offer, &kept, &negotiated, local);
    Ok((text, negotiated))
}

/// What is kept of an accepted section.
pub(super) struct Kept {
    pub(super) codecs: Vec<CodecDescription>,
    pub(super) extensions: Vec<OfferedExtension>,
}

/// How media are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// ICE, DTLS and SRTP.
    Dtls,
    /// Plain RTP.
    None,
    /// Keys in the descriptions.
    Sdes,
}

/// Decides about every section: the first usable one of each kind is kept.
pub(super) fn keep(
    offer: &Description,
    local: &LocalParameters,
    security: Security,
) -> Vec<Option<Kept>> {
    let mut taken: Vec<MediaKind> = Vec::new();
    offer
        .sections
        .iter()
        .map(|section| {
            let kind = section.kind.filter(|kind| !taken.contains(kind))?;
            let is_alive = section.port != 0 || (section.bundle_only && offer.is_bundled(section));
            let is_reachable = security != Security::Dtls || offer.identity_of(section).is_some();
            if !is_alive || !is_reachable {
                return None;
            }
            let kept = match kind {
                MediaKind::Data => keep_data(section, local)?,
                MediaKind::Audio | MediaKind::Video => {
                    let profile = section.rtp_profile()?;
                    if profile.secure != (security != Security::None) {
                        return None;
                    }
                    keep_rtp(section, kind, local, offer.extmap_allow_mixed)?
                }
            };
            taken.push(kind);
            Some(kept)
        })
        .collect()
}

fn keep_data(section: &MediaSection, local: &LocalParameters) -> Option<Kept> {
    let protocol = section.protocol.to_ascii_uppercase();
    let fits = matches!(
        protocol.as_str(),
        "DTLS/SCTP" | "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP"
    );
    (fits && local.data_channels && section.data.is_some()).then(|| Kept {
        codecs: Vec::new(),
        extensions: Vec::new(),
    })
}

fn keep_rtp(
    section: &MediaSection,
    kind: MediaKind,
    local: &LocalParameters,
    allow_mixed: bool,
) -> Option<Kept> {
    let allow_mixed = allow_mixed || section.extmap_allow_mixed;
    let extensions: Vec<OfferedExtension> = section
        .extensions
        .iter()
        .filter(|offered| {
            let wanted = match offered.extension {
                Extension::AbsSendTime => true,
                Extension::TransportCc => local.transport_cc && !local.strict,
                _ => !local.strict,
            };
            // Ids above 14 need the two-byte form (RFC 8285, section 4.3).
            wanted && offered.extension.suits(kind) && (offered.id <= 14 || allow_mixed)
        })
        .copied()
        .collect();
    let has_transport_cc = extensions
        .iter()
        .any(|offered| offered.extension == Extension::TransportCc);
    let codecs = keep_codecs(section, kind, local, has_transport_cc);
    (!codecs.is_empty()).then_some(Kept { codecs, extensions })
}

/// The codecs that both know, in the offer's order but for the preferred one.
fn keep_codecs(
    section: &MediaSection,
    kind: MediaKind,
    local: &LocalParameters,
    has_transport_cc: bool,
) -> Vec<CodecDescription> {
    let with_feedback = section
        .rtp_profile()
        .is_some_and(|profile| profile.feedback);
    let rtx_of = |payload_type| {
        section
            .formats
            .iter()
            .find(|format| format.repairs(payload_type))
            .map(|format| format.payload_type)
    };
    let mut codecs: Vec<CodecDescription> = section
        .formats
        .iter()
        .filter_map(|format| {
            let known = format.codec()?;
            if known.kind != kind || !local.codecs.contains(&known.codec) {
                return None;
            }
            let mut feedback = if with_feedback {
                format.feedback
            } else {
                Feedback::default()
            };
            feedback.transport_cc &= has_transport_cc;
            let retransmits = kind == MediaKind::Video && feedback.nack && !local.strict;
            Some(CodecDescription {
                rtx_payload_type: rtx_of(format.payload_type).filter(|_| retransmits),
                ..format.describe(known, feedback)
            })
        })
        .collect();
    codecs.sort_by_key(|format| Some(format.codec) != local.preferred_video_codec);
    codecs
}

fn describe_transport(
    planned: &PlannedTransport,
    fresh_ice: &IceCredentials,
    offer: &Description,
    previous: Option<&Negotiated>,
) -> TransportDescription {
    let identity = planned.identity(offer);
    let remote_ice = identity
        .ice
        .clone()
        .expect("an identity has ICE credentials");
    let before = planned
        .continues
        .and_then(|before| previous?.transports.get(before));
    let dtls_role = match identity.setup {
        Some(Setup::Passive) => DtlsRole::Client,
        Some(Setup::Active) => DtlsRole::Server,
        // The peer leaves it to us; a running association keeps its roles (RFC 8842, section 5.3).
        Some(Setup::Actpass) | None => before.map_or(DtlsRole::Server, |before| before.dtls_role),
    };
    let ice_restarted = before.is_some_and(|before| before.remote_ice != remote_ice);
    let mut candidates: Vec<_> = planned
        .members
        .iter()
        .flat_map(|member| offer.sections[*member].candidates.iter().cloned())
        .collect();
    candidates.truncate(CANDIDATES_MAX);
    TransportDescription {
        continues: planned.continues,
        local_ice: before
            .filter(|_| !ice_restarted)
            .map_or(fresh_ice, |before| &before.local_ice)
            .clone(),
        remote_ice,
        remote_ice_lite: offer.ice_lite,
        ice_restarted,
        dtls_restarted: before.is_some_and(|before| {
            before.remote_fingerprints != identity.fingerprints || before.dtls_role != dtls_role
        }),
        remote_fingerprints: identity.fingerprints.clone(),
        dtls_role,
        candidates,
    }
}

/// `before`: the section whose streams of ours go on. `None` comes out for a section of no kind of ours. The transport
/// is filled in by the caller.
pub(super) fn describe_section(
    index: usize,
    offered: &MediaSection,
    kept: Option<&Kept>,
    local: &LocalParameters,
    before: Option<&Section>,
) -> Option<Section> {
    let kind = offered.kind?;
    let codecs = kept.map_or_else(Vec::new, |kept| kept.codecs.clone());
    let mut extensions = Extensions::default();
    for offered in kept.iter().flat_map(|kept| &kept.extensions) {
        extensions.set(offered.extension, offered.id);
    }
    let is_rtp = kind != MediaKind::Data;
    let send = kept.is_some() && is_rtp && offered.direction.receives();
    let receive = kept.is_some() && is_rtp && offered.direction.sends();
    let simulcast = receive && extensions.rid.is_some();
    let simulcast_rids = if simulcast {
        offered.simulcast_rids.clone()
    } else {
        Vec::new()
    };
    let remote = if receive && simulcast_rids.is_empty() {
        offered.streams.clone()
    } else {
        Vec::new()
    };
    let has_rtx = codecs.iter().any(|codec| codec.rtx_payload_type.is_some());
    let rtx_ssrc = || {
        before
            .and_then(|before| before.local_rtx_ssrc)
            .unwrap_or(local.ssrcs.video_rtx)
    };
    Some(Section {
        index,
        mid: offered.mid.clone(),
        kind,
        transport: 0,
        accepted: kept.is_some(),
        send,
        receive,
        codecs,
        extensions,
        remote,
        simulcast_rids,
        local_ssrc: before.map_or(local.ssrcs.of(kind), |before| before.local_ssrc),
        local_rtx_ssrc: has_rtx.then(rtx_ssrc),
        cname: identifier(&local.cname),
        msid: (send && !local.strict).then(|| local.msid(kind)),
        rtcp_mux: offered.rtcp_mux,
        reduced_size: offered.reduced_size && !local.strict,
        bandwidth_kbps: offered.bandwidth_kbps,
        data: offered
            .data
            .filter(|_| kept.is_some())
            .map(|data| data.description),
    })
}

fn write(
    offer: &Description,
    kept: &[Option<Kept>],
    negotiated: &Negotiated,
    local: &LocalParameters,
) -> String {
    let bundle: Vec<&str> = offer
        .sections
        .iter()
        .zip(kept)
        .filter(|(section, kept)| kept.is_some() && offer.is_bundled(section))
        .filter_map(|(section, _)| section.mid.as_deref())
        .collect();
    let mut writer = Writer::new(&SessionText {
        id: local.session_id,
        version: negotiated.version,
        bundle: &bundle,
        ice_lite: local.ice_lite,
        msid_semantic: offer.msid_semantic,
        extmap_allow_mixed: offer.extmap_allow_mixed,
        address: None,
    });
    for (index, (offered, kept)) in offer.sections.iter().zip(kept).enumerate() {
        let is_this = |section: &&Section| section.index == index && section.accepted;
        let (Some(kept), Some(section)) = (kept, negotiated.sections.iter().find(is_this)) else {
            writer.refused(offered);
            continue;
        };
        let transport = &negotiated.transports[section.transport];
        writer.section(
            &SectionText {
                media: &offered.media,
                protocol: &offered.protocol,
                extensions: &kept.extensions,
                extmap_allow_mixed: offered.extmap_allow_mixed,
                packet_times: &offered.packet_times,
                kbps_max: local.kbps_max(section.kind),
                transport: TransportText::Secure {
                    ice: &transport.local_ice,
                    fingerprint: &local.fingerprint,
                    setup: match transport.dtls_role {
                        DtlsRole::Server => Setup::Passive.name(),
                        DtlsRole::Client => Setup::Active.name(),
                    },
                },
                data: offered.data.map(|data| DataText {
                    description: DataDescription {
                        max_message_size: local.max_message_size,
                        ..data.description
                    },
                    legacy: data.legacy,
                }),
            },
            section,
        );
    }
    writer.finish()
}
