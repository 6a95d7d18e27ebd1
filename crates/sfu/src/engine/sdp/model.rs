//! What two peers agreed on.

use media::MediaKind;

use super::{Candidate, CodecDescription, DtlsRole, Extensions, Fingerprint, IceCredentials};

/// What an offer and its answer agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The audio, video and data sections in the order of their lines, refused ones included. Sections of other
    /// kinds (`m=text`, `m=image`) are always refused and not listed, so look at [`Section::index`].
    pub sections: Vec<Section>,
    /// One for all bundled sections, and one for each other accepted section.
    pub transports: Vec<TransportDescription>,
    /// Version of our description (`o=`), growing with each renegotiation.
    pub version: u64,
}

impl Negotiated {
    /// The accepted section of a kind. There is at most one.
    pub fn accepted(&self, kind: MediaKind) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.accepted && section.kind == kind)
    }

    /// The transport, as an index into [`transports`](Self::transports), that a trickled candidate is for.
    ///
    /// The line's index wins, as in Kurento; the mid is tried when the index is out of range.
    /// `None`: no such section. `Some(None)`: a refused section, so the candidate is to be ignored.
    pub fn transport_for(&self, m_line_index: usize, mid: &str) -> Option<Option<usize>> {
        let by_index = |section: &&Section| section.index == m_line_index;
        let by_mid = |section: &&Section| section.mid.as_deref() == Some(mid);
        let section = self
            .sections
            .iter()
            .find(by_index)
            .or_else(|| self.sections.iter().find(by_mid))?;
        Some(section.accepted.then_some(section.transport))
    }
}

/// One media section (`m=`), seen from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Position of the `m=` line, from 0.
    pub index: usize,
    /// `a=mid`; old peers may have none.
    pub mid: Option<String>,
    /// What flows in it.
    pub kind: MediaKind,
    /// Index into [`Negotiated::transports`]. Without meaning unless `accepted`.
    pub transport: usize,
    /// False: refused or disabled (port 0). Nothing below has meaning then.
    pub accepted: bool,
    /// We may send.
    pub send: bool,
    /// The peer may send.
    pub receive: bool,
    /// All codecs that both sides know, most preferred first. Empty for data.
    pub codecs: Vec<CodecDescription>,
    /// Ids of the RTP header extensions.
    pub extensions: Extensions,
    /// The peer's announced stream; several only for simulcast by SSRC (`a=ssrc-group:SIM`), smallest first.
    /// Empty if none was announced, and with RIDs: then learn it from RID, MID or the payload type.
    pub remote: Vec<RemoteStream>,
    /// RIDs that the peer may send, in its order. Empty without simulcast.
    pub simulcast_rids: Vec<String>,
    /// SSRC of what we send, and of our RTCP even when we send no media.
    pub local_ssrc: u32,
    /// SSRC of our retransmissions, if a codec has a retransmission format.
    pub local_rtx_ssrc: Option<u32>,
    /// Canonical name of our streams (RFC 3550, section 6.5.1).
    pub cname: String,
    /// Stream and track identifier of what we send (RFC 8830), if we send.
    pub msid: Option<(String, String)>,
    /// RTP and RTCP share a port. If false, the peer's RTCP comes to a component that we do not have.
    pub rtcp_mux: bool,
    /// RTCP may be of reduced size (RFC 5506).
    pub reduced_size: bool,
    /// The peer's wish for the rate of what we send (`b=AS` or `b=TIAS`), in kbit/s.
    pub bandwidth_kbps: Option<u32>,
    /// For data only.
    pub data: Option<DataDescription>,
}

/// A stream that the peer announced by `a=ssrc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteStream {
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrc: Option<u32>,
}

/// Data channels over SCTP over DTLS (RFC 8841).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataDescription {
    /// SCTP port of the peer. Ours is the same after its offer, and 5000 after ours.
    pub sctp_port: u16,
    /// The largest message that the peer takes, in bytes.
    pub max_message_size: u32,
}

/// One ICE and DTLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportDescription {
    /// The session of the previous negotiation that goes on here, as an index into its
    /// [`Negotiated::transports`]; no two name the same. `None`: a new one begins.
    pub continues: Option<usize>,
    /// Ours. New ones after an ICE restart.
    pub local_ice: IceCredentials,
    /// The peer's.
    pub remote_ice: IceCredentials,
    /// The peer's ICE is a lite implementation, so it sends no checks.
    pub remote_ice_lite: bool,
    /// The peer restarted ICE (RFC 8445, section 9): both credentials are new, DTLS goes on unless `dtls_restarted`.
    pub ice_restarted: bool,
    /// Hashes of the peer's certificate; one must match. Never empty.
    pub remote_fingerprints: Vec<Fingerprint>,
    /// Our role in the DTLS handshake.
    pub dtls_role: DtlsRole,
    /// The peer's certificate or the role changed, so a new handshake is due (RFC 8842, section 4).
    pub dtls_restarted: bool,
    /// The peer's candidates so far.
    pub candidates: Vec<Candidate>,
}
