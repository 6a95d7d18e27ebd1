//! Where a datagram came from and where its answer goes.

use std::net::SocketAddr;

/// How datagrams travel between a peer and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowProtocol {
    /// One datagram each.
    Udp,
    /// Framed by RFC 4571 on a connection which the peer opened (RFC 6544, passive candidates).
    Tcp,
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
