//! What the media server counts, summed outside the packet path.
//!
//! A worker adds to plain numbers of its own; [`Metrics`] is the copy it hands out when asked.

use crate::worker::stand_in::counters::Counters;

/// Totals of the sockets of one worker since it began, and its open TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// UDP datagrams received.
    pub udp_received: u64,
    /// Bytes of the UDP datagrams received.
    pub udp_received_bytes: u64,
    /// UDP datagrams handed to the kernel.
    pub udp_sent: u64,
    /// Bytes of the UDP datagrams handed to the kernel.
    pub udp_sent_bytes: u64,
    /// System calls that sent the UDP datagrams; the fewer per datagram, the better segmentation
    /// offload works.
    pub udp_send_calls: u64,
    /// UDP datagrams dropped because the socket did not take them and the backlog was full.
    pub udp_backlog_dropped: u64,
    /// UDP datagrams that the system refused to send, as to an unreachable network.
    pub udp_refused: u64,
    /// Failures to receive from a UDP socket.
    pub udp_receive_errors: u64,
    /// Datagrams from addresses that cannot be answered, such as port 0 or multicast.
    pub udp_unanswerable: u64,
    /// TCP connections open at the moment.
    pub tcp_connections: u64,
    /// TCP connections accepted.
    pub tcp_accepted: u64,
    /// TCP connections closed at once because of a limit on their number.
    pub tcp_rejected: u64,
    /// TCP connections closed because the peer broke the framing, began without STUN, or was too slow.
    pub tcp_expelled: u64,
    /// Frames received over TCP.
    pub tcp_received: u64,
    /// Frames queued for sending over TCP.
    pub tcp_sent: u64,
    /// Frames dropped because the peer reads too slowly or its connection is gone.
    pub tcp_dropped: u64,
}

/// A snapshot of one worker, or the sum of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    /// Sockets.
    pub sockets: SocketCounters,
    /// Media.
    pub engine: Counters,
}
