//! SRTP and SRTCP (RFC 3711, RFC 7714) for the path every packet takes.
//!
//! Read [`Sealer`] for what goes out and [`Opener`] for what comes in. Both work in buffers of the caller and do not
//! allocate per packet. Nothing is looked up per packet either: the caller makes the outgoing packet indices and owns
//! one [`ReceiveIndex`] per incoming SSRC.
//!
//! Deliberately absent: re-keying and key derivation rates (RFC 3711, section 4.3.1), the master key identifier,
//! SRTCP without encryption, and header encryption (RFC 9335). DTLS-SRTP as browsers speak it uses none of them, and
//! of SDES what would need them is not accepted.

mod keys;
mod open;
mod replay;
mod seal;
#[cfg(test)]
mod tests;
mod transform;

pub use keys::{KeyingMaterial, MasterKey, Profile};
pub use open::{MAX_RTCP_SENDERS, OpenError, Opener};
pub use replay::ReceiveIndex;
pub use seal::{SealError, Sealer};

/// The fixed part of the RTP header (RFC 3550, section 5.1), in bytes: the least `header_len` there is.
const RTP_HEADER_MIN: usize = 12;

/// The part of an RTCP packet that stays in the clear, in bytes: first word and sender SSRC (RFC 3711, section 3.4).
const RTCP_HEADER: usize = 8;

/// The trailer word of SRTCP, in bytes: E flag and 31-bit index.
const RTCP_INDEX: usize = 4;

/// The E flag: the packet is encrypted.
const RTCP_ENCRYPTED: u32 = 1 << 31;

fn ssrc_of_rtcp(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]])
}
