//! Where a datagram came from and where its answer goes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How datagrams travel between a peer and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowProtocol {
    /// One datagram each.
    Udp,
    /// Framed by RFC 4571 on a connection which the peer opened (RFC 6544, passive candidates).
    Tcp,
    /// The peer is in this process: a recorder or a player. Its addresses are [`Flow::local_peer`]'s.
    Local,
}

/// A 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// UDP or TCP.
    pub protocol: FlowProtocol,
    /// Our address: the one the peer sent to.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

impl Flow {
    /// The flow of the peer in this process that has this number.
    pub fn local_peer(number: u64) -> Self {
        Self {
            protocol: FlowProtocol::Local,
            local: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            remote: SocketAddr::new(Ipv6Addr::from_bits(number.into()).into(), 0),
        }
    }

    /// The number of [`Self::local_peer`]; `None` for others.
    pub fn local_number(&self) -> Option<u64> {
        match (self.protocol, self.remote.ip()) {
            (FlowProtocol::Local, IpAddr::V6(ip)) => Some(ip.to_bits() as u64),
            _ => None,
        }
    }
}
