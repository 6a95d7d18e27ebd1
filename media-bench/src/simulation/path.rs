//! Datagrams on a bottleneck.

use std::net::SocketAddr;

use forwarding::rtp::PacketKind;

/// Bytes of the headers of IPv4 and UDP, which a bottleneck carries too.
const HEADERS_BYTES: usize = 20 + 8;

/// Size that every datagram of a handshake counts as: the real one depends on certificates and signatures, which no
/// seed determines.
const HANDSHAKE_BYTES: usize = 600;

/// A datagram and where it goes.
#[derive(Clone, Debug)]
pub(super) struct OnPath {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) datagram: Vec<u8>,
}

impl OnPath {
    /// What it takes of a bottleneck.
    pub(super) fn size_bytes(&self) -> usize {
        let bytes = match PacketKind::of(&self.datagram) {
            PacketKind::Dtls => HANDSHAKE_BYTES,
            _ => self.datagram.len(),
        };
        bytes + HEADERS_BYTES
    }
}
