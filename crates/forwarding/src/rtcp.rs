//! RTCP by hand: reading what peers send, writing what we send (RFC 3550 section 6, RFC 4585, RFC 5104).
//!
//! Read with [`Packets`], which yields views into the received bytes; write with the `write_*` functions, which append
//! to a buffer that the caller reuses. Extended reports and application packets are skipped.

mod read;
mod write;

pub use read::{
    FullIntraRequest, Goodbye, Nack, NackSeqs, Packet, Packets, ReceiverReport, Remb, ReportBlocks,
    RtcpError, SenderReport, Words,
};
pub(crate) use write::{begin, finish, put};
pub use write::{
    write_full_intra_request, write_goodbye, write_nacks, write_picture_loss,
    write_receiver_report, write_remb, write_sdes_cname, write_sender_report,
};

use crate::rtp::{NtpTime, RtpTime, Ssrc};

pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
pub(crate) const GOODBYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;

pub(crate) const FMT_NACK: u8 = 1;
pub(crate) const FMT_TRANSPORT_WIDE: u8 = 15;
pub(crate) const FMT_PICTURE_LOSS: u8 = 1;
pub(crate) const FMT_FULL_INTRA: u8 = 4;
pub(crate) const FMT_APPLICATION: u8 = 15;

/// Sender's part of a sender report (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall-clock time of the report.
    pub ntp: NtpTime,
    /// The same moment on the stream's RTP clock.
    pub timestamp: RtpTime,
    /// Packets sent, modulo 2^32.
    pub packets: u32,
    /// Payload bytes sent, modulo 2^32.
    pub octets: u32,
}

/// Report block (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: Ssrc,
    /// Loss since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Loss since the beginning, 24 bits signed: -2^23..2^23.
    pub cumulative_lost: i32,
    /// Roll-overs in the upper, sequence number in the lower 16 bits.
    pub highest_seq: u32,
    /// Interarrival jitter, ticks of the RTP clock.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the last sender report; 0 if there was none.
    pub last_sender_report: u32,
    /// Time since that report, in units of 2^-16 s.
    pub delay_since_last_sender_report: u32,
}

#[cfg(test)]
mod tests;
