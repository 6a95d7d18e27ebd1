//! The peer of a plain RTP session: where its packets come from and where ours go.
//!
//! [`PlainPeer`] follows what the description says. Plain RTP proves nothing: its source address is
//! all there is to tell the peer from others, unless SDES gives keys. A peer that names its address is believed to send from
//! there, though from any port: many gateways send from another than they receive on. One that wants
//! to be found by its packets (COMEDIA, `a=direction:active`) is whoever sends media first, and nobody
//! else from then on. Deliberately absent: looking at packets.

use std::net::SocketAddr;

use super::flow::{Flow, FlowProtocol};
use super::sdp::PlainTransport;

/// What arrives where: each session has a port for either, RTCP on the odd one (RFC 3550, section 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Rtp,
    Rtcp,
}

impl Part {
    /// What arrives on a port of ours.
    pub(super) fn of_port(port: u16) -> Self {
        if port.is_multiple_of(2) {
            Self::Rtp
        } else {
            Self::Rtcp
        }
    }
}

/// What the source of a datagram says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Peer,
    /// May be the peer; [`PlainPeer::learn`] decides.
    Unknown,
    Stranger,
}

/// The other side of a plain session.
#[derive(Debug)]
pub(super) struct PlainPeer {
    /// Our socket for RTP; the one for RTCP has the next port.
    local: SocketAddr,
    rtp: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
    learns: bool,
    /// Number of a peer in this process.
    here: Option<u64>,
}

impl PlainPeer {
    /// The peer in this process that has this number.
    pub(super) fn here(number: u64) -> Self {
        Self {
            local: Flow::local_peer(number).local,
            rtp: None,
            rtcp: None,
            learns: false,
            here: Some(number),
        }
    }

    pub(super) fn new(local: SocketAddr, description: &PlainTransport) -> Self {
        let known = !description.learn_address;
        Self {
            local,
            rtp: description.rtp.filter(|_| known),
            rtcp: description.rtcp.filter(|_| known),
            learns: description.learn_address,
            here: None,
        }
    }

    /// Who sent a datagram.
    pub(super) fn origin(&self, remote: SocketAddr, part: Part) -> Origin {
        let known = match part {
            Part::Rtp => self.rtp,
            Part::Rtcp => self.rtcp,
        };
        let same_host = self
            .rtp
            .or(self.rtcp)
            .map(|address| address.ip() == remote.ip());
        match (self.learns, known, same_host) {
            (true, Some(known), _) if known == remote => Origin::Peer,
            (true, None, None | Some(true)) => Origin::Unknown,
            (false, _, Some(true)) => Origin::Peer,
            _ => Origin::Stranger,
        }
    }

    /// Takes the sender of a datagram of [`Origin::Unknown`] for the peer.
    pub(super) fn learn(&mut self, remote: SocketAddr, part: Part) {
        match part {
            Part::Rtp => self.rtp = Some(remote),
            Part::Rtcp => self.rtcp = Some(remote),
        }
    }

    /// Our port for RTP.
    pub(super) fn local_port(&self) -> u16 {
        self.local.port()
    }

    /// Where RTP is sent, once that is known.
    pub(super) fn rtp_flow(&self) -> Option<Flow> {
        self.flow(self.local.port(), self.rtp)
    }

    /// Where RTCP is sent, once that is known.
    pub(super) fn rtcp_flow(&self) -> Option<Flow> {
        self.flow(self.local.port() | 1, self.rtcp)
    }

    fn flow(&self, port: u16, remote: Option<SocketAddr>) -> Option<Flow> {
        if let Some(number) = self.here {
            return Some(Flow::local_peer(number));
        }
        Some(Flow {
            protocol: FlowProtocol::Udp,
            local: SocketAddr::new(self.local.ip(), port),
            remote: remote?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(learn_address: bool) -> PlainPeer {
        let description = PlainTransport {
            rtp: Some(address("192.0.2.7:5000")),
            rtcp: Some(address("192.0.2.7:5001")),
            learn_address,
            key: None,
        };
        PlainPeer::new(address("198.51.100.1:20000"), &description)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn check(peer: &PlainPeer, expected: &[(&str, Part, Origin)]) {
        for (remote, part, origin) in expected {
            assert_eq!(peer.origin(address(remote), *part), *origin, "{remote}");
        }
    }

    #[test]
    fn named_peer_may_send_from_any_port_and_is_sent_to_where_it_says() {
        let peer = peer(false);
        check(
            &peer,
            &[
                ("192.0.2.7:5000", Part::Rtp, Origin::Peer),
                ("192.0.2.7:41234", Part::Rtp, Origin::Peer),
                ("192.0.2.7:5001", Part::Rtcp, Origin::Peer),
                ("192.0.2.8:5000", Part::Rtp, Origin::Stranger),
                ("192.0.2.8:5001", Part::Rtcp, Origin::Stranger),
            ],
        );
        let flows = [peer.rtp_flow().unwrap(), peer.rtcp_flow().unwrap()];
        let ports = flows.map(|flow| (flow.local.port(), flow.remote.port()));
        assert_eq!(ports, [(20_000, 5000), (20_001, 5001)]);
    }

    #[test]
    fn active_peer_is_who_sends_first() {
        let mut peer = peer(true);
        assert!(peer.rtp_flow().is_none() && peer.rtcp_flow().is_none());
        check(&peer, &[("203.0.113.5:9", Part::Rtp, Origin::Unknown)]);

        peer.learn(address("203.0.113.5:700"), Part::Rtp);

        assert_eq!(peer.rtp_flow().unwrap().remote, address("203.0.113.5:700"));
        check(
            &peer,
            &[
                ("203.0.113.5:700", Part::Rtp, Origin::Peer),
                ("203.0.113.5:701", Part::Rtp, Origin::Stranger),
                ("192.0.2.7:5000", Part::Rtp, Origin::Stranger),
                ("192.0.2.7:5001", Part::Rtcp, Origin::Stranger),
                ("203.0.113.5:900", Part::Rtcp, Origin::Unknown),
            ],
        );
        assert!(peer.rtcp_flow().is_none(), "its RTCP has not come yet");
        peer.learn(address("203.0.113.5:900"), Part::Rtcp);
        check(&peer, &[("203.0.113.5:901", Part::Rtcp, Origin::Stranger)]);
    }
}
