//! Counters of endpoints.

use std::time::Duration;

use crate::MediaKind;

/// Which way a stream goes, seen from the media server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer.
    Inbound,
    /// To the peer.
    Outbound,
}

/// Counters of an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointStats {
    /// Of every RTP stream.
    pub streams: Vec<StreamStats>,
    /// Of every data channel that is open or being opened.
    pub channels: Vec<ChannelStats>,
}

/// Counters of one data channel since it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// Its SCTP stream.
    pub stream: u16,
    /// Its name; may be empty.
    pub label: String,
    /// The sub-protocol; may be empty.
    pub protocol: String,
    /// False: still being opened.
    pub is_open: bool,
    /// To the peer.
    pub messages_sent: u64,
    /// To the peer, without headers.
    pub bytes_sent: u64,
    /// From the peer.
    pub messages_received: u64,
    /// From the peer, without headers.
    pub bytes_received: u64,
}

/// Counters of one RTP stream since it began.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStats {
    /// Audio or video.
    pub kind: MediaKind,
    /// From or to the peer.
    pub direction: Direction,
    /// On the wire between server and peer.
    pub ssrc: u32,
    /// RTP packets, retransmissions included.
    pub packets: u64,
    /// RTP payload bytes.
    pub bytes: u64,
    /// RFC 3550 cumulative loss; negative if there were more duplicates than losses.
    pub packets_lost: i64,
    /// Loss of the last report interval, in 1/256.
    pub fraction_lost: u8,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Round trip time, once an RTCP report made it known.
    pub round_trip_time: Option<Duration>,
    /// PLI sent (inbound) or received (outbound).
    pub pli_count: u64,
    /// FIR sent (inbound) or received (outbound).
    pub fir_count: u64,
    /// Packets asked for by NACK sent (inbound) or received (outbound).
    pub nack_count: u64,
    /// Latest REMB sent (inbound) or received (outbound), in bit/s.
    pub remb_bps: Option<u64>,
    /// Sent in the last report interval, in bit/s of RTP payload. Unknown of what is received.
    pub sent_bps: Option<u64>,
}
