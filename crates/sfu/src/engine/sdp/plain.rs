//! Plain RTP towards gateways and cameras (Kurento's `RtpEndpoint`): no ICE, no DTLS, no bundling; each section has
//! a port of its own, with RTCP on the next one. Either all sections are secured by SDES ([`CryptoKey`]) or none:
//! the others are refused, so that nothing leaves in the clear that should not.

use std::net::{IpAddr, SocketAddr};

use media::MediaKind;

use super::answer::{Security, describe_section, keep};
use super::description::MediaSection;
use super::offer::{accept_section, offered_sections};
use super::sdes::Crypto;
use super::write::{SectionText, SessionText, TransportText, Writer};
use super::{CryptoKey, Description, LocalParameters, OfferedSections, SdpError, Section};

/// Where we receive plain RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainPorts {
    /// Our address, as the peer sees it.
    pub address: IpAddr,
    /// RTP port of audio. RTCP comes to the next one.
    pub audio: u16,
    /// RTP port of video. RTCP comes to the next one.
    pub video: u16,
}

/// What a plain offer and its answer agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainNegotiated {
    /// As [`Negotiated::sections`](super::Negotiated::sections), but `transport` is an index into `transports` here.
    pub sections: Vec<Section>,
    /// One for each accepted section.
    pub transports: Vec<PlainTransport>,
}

/// Where the peer receives the RTP of one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainTransport {
    /// For RTP. `None`: the peer named no usable address, so it must be learnt.
    pub rtp: Option<SocketAddr>,
    /// For RTCP.
    pub rtcp: Option<SocketAddr>,
    /// Send to where the peer's packets come from (`a=direction:active`), whatever the addresses say.
    pub learn_address: bool,
    /// What the peer sends with, if media are secured.
    pub key: Option<CryptoKey>,
}

/// The tag of the only key that we offer.
const OFFERED_TAG: u32 = 1;

/// An offer of ours that waits for its answer.
#[derive(Clone, Debug)]
pub struct PendingPlainOffer {
    sections: Vec<Section>,
    crypto: Option<Crypto>,
}

/// Answers an offer of plain RTP, secured if there is a `key` of ours. What is not alike is refused.
pub fn answer_plain(
    offer: &Description,
    local: &LocalParameters,
    ports: &PlainPorts,
    key: Option<&CryptoKey>,
) -> (String, PlainNegotiated) {
    let local = &plain_parameters(local);
    let security = key.map_or(Security::None, |_| Security::Sdes);
    let kept = keep(offer, local, security);
    let mut writer = plain_writer(local, ports);
    let mut negotiated = PlainNegotiated {
        sections: Vec::new(),
        transports: Vec::new(),
    };
    for (index, (offered, kept)) in offer.sections.iter().zip(&kept).enumerate() {
        let theirs = key.and_then(|key| Crypto::choose(&offered.cryptos, key));
        let kept = kept.as_ref().filter(|_| key.is_none() || theirs.is_some());
        let Some(mut section) = describe_section(index, offered, kept, local, None) else {
            writer.refused(offered);
            continue;
        };
        section.rtcp_mux = false;
        if let Some(kept) = kept {
            section.transport = negotiated.transports.len();
            let peer = PlainTransport::of(offered, theirs);
            negotiated.transports.push(peer);
            let ours = theirs.zip(key).map(|(theirs, key)| Crypto {
                tag: theirs.tag,
                key: key.clone(),
            });
            let text = SectionText {
                media: &offered.media,
                protocol: &offered.protocol,
                extensions: &kept.extensions,
                extmap_allow_mixed: false,
                packet_times: &offered.packet_times,
                kbps_max: local.kbps_max(section.kind),
                transport: ports.text(section.kind, offered.learn_address, ours.as_ref()),
                data: None,
            };
            writer.section(&text, &section);
        } else {
            writer.refused(offered);
        }
        negotiated.sections.push(section);
    }
    (writer.finish(), negotiated)
}

/// Makes an offer of plain RTP, secured if there is a `key` of ours.
pub fn offer_plain(
    local: &LocalParameters,
    offered: OfferedSections,
    ports: &PlainPorts,
    key: Option<&CryptoKey>,
) -> (String, PendingPlainOffer) {
    let local = &plain_parameters(local);
    let crypto = key.map(|key| Crypto {
        tag: OFFERED_TAG,
        key: key.clone(),
    });
    let mut sections = offered_sections(local, offered);
    let mut writer = plain_writer(local, ports);
    for section in &mut sections {
        section.rtcp_mux = false;
        section.extensions = super::Extensions::default();
        let is_audio = section.kind == MediaKind::Audio;
        let text = SectionText {
            media: if is_audio { "audio" } else { "video" },
            protocol: if crypto.is_some() {
                "RTP/SAVPF"
            } else {
                "RTP/AVPF"
            },
            extensions: &[],
            extmap_allow_mixed: false,
            packet_times: &[],
            kbps_max: local.kbps_max(section.kind),
            transport: ports.text(section.kind, false, crypto.as_ref()),
            data: None,
        };
        writer.section(&text, section);
    }
    (writer.finish(), PendingPlainOffer { sections, crypto })
}

impl PendingPlainOffer {
    /// Applies the peer's answer.
    pub fn accept_answer(&self, answer: &str) -> Result<PlainNegotiated, SdpError> {
        if answer.is_empty() {
            return Err(SdpError::EmptyAnswer);
        }
        let answer = Description::parse(answer)?;
        let is_same = |(ours, theirs): (&Section, &MediaSection)| theirs.kind == Some(ours.kind);
        if answer.sections.len() != self.sections.len()
            || !self.sections.iter().zip(&answer.sections).all(is_same)
        {
            return Err(SdpError::Unacceptable("answer with other media sections"));
        }
        let mut negotiated = PlainNegotiated {
            sections: Vec::new(),
            transports: Vec::new(),
        };
        for (offered, answered) in self.sections.iter().zip(&answer.sections) {
            let profile = answered.rtp_profile();
            let alike = profile.is_some_and(|profile| profile.secure == self.crypto.is_some());
            let mut section = accept_section(offered, answered, alike);
            section.rtcp_mux = false;
            if section.accepted {
                let ours = self.crypto.as_ref();
                let theirs = ours
                    .map(|ours| ours.answered(&answered.cryptos))
                    .transpose()?;
                section.transport = negotiated.transports.len();
                let peer = PlainTransport::of(answered, theirs);
                negotiated.transports.push(peer);
            }
            negotiated.sections.push(section);
        }
        Ok(negotiated)
    }
}

impl PlainPorts {
    fn text<'a>(
        &self,
        kind: MediaKind,
        peer_is_active: bool,
        crypto: Option<&'a Crypto>,
    ) -> TransportText<'a> {
        let rtp_port = if kind == MediaKind::Audio {
            self.audio
        } else {
            self.video
        };
        TransportText::Plain {
            rtp_port,
            rtcp_port: rtp_port.saturating_add(1),
            passive: peer_is_active,
            crypto,
        }
    }
}

impl PlainTransport {
    fn of(section: &MediaSection, crypto: Option<&Crypto>) -> Self {
        let address = section
            .address
            .filter(|address| !address.is_unspecified() && !address.is_multicast());
        let rtcp_port = section.rtcp_port.or(section.port.checked_add(1));
        Self {
            rtp: address.map(|address| SocketAddr::new(address, section.port)),
            rtcp: address
                .zip(rtcp_port)
                .map(|(address, port)| SocketAddr::new(address, port)),
            learn_address: section.learn_address || address.is_none(),
            key: crypto.map(|crypto| crypto.key.clone()),
        }
    }
}

/// Gateways get what Kurento gave them.
fn plain_parameters(local: &LocalParameters) -> LocalParameters {
    LocalParameters {
        strict: true,
        data_channels: false,
        ice_lite: false,
        ..local.clone()
    }
}

fn plain_writer(local: &LocalParameters, ports: &PlainPorts) -> Writer {
    Writer::new(&SessionText {
        id: local.session_id,
        version: 1,
        bundle: &[],
        ice_lite: false,
        msid_semantic: false,
        extmap_allow_mixed: false,
        address: Some(ports.address),
    })
}
