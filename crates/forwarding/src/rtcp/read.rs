//! Reading RTCP compounds: [`Packets`]. Every length is checked against the bytes at hand.

use super::{
    FMT_APPLICATION, FMT_FULL_INTRA, FMT_NACK, FMT_PICTURE_LOSS, FMT_TRANSPORT_WIDE, GOODBYE,
    PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo,
    TRANSPORT_FEEDBACK,
};
use crate::rate::Bitrate;
use crate::rtp::{NtpTime, RtpTime, Seq, Ssrc};

const HEADER_LEN: usize = 4;
const BLOCK_LEN: usize = 24;
const REMB_NAME: [u8; 4] = *b"REMB";

/// Sequence numbers taken from one NACK packet. One that fills an MTU can name 6 000; a burst that long is not
/// repaired by retransmission. Too low → legitimate bursts wait a round trip; too high → one packet of a hostile peer
/// buys thousands of look-ups.
const NACK_SEQS_MAX: usize = 1_000;

/// Why a compound cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// A packet reaches past the end of the compound, or its content past the end of the packet.
    #[error("RTCP packet of type {0} is truncated")]
    Truncated(u8),
    /// Version other than 2, or fewer than four bytes left.
    #[error("no RTCP header")]
    NoHeader,
    /// The padding count is larger than the packet.
    #[error("RTCP padding does not fit")]
    Padding,
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// Sender report.
    SenderReport(SenderReport<'a>),
    /// Receiver report.
    ReceiverReport(ReceiverReport<'a>),
    /// Streams that end. The caller checks that they belong to the peer.
    Goodbye(Goodbye<'a>),
    /// Generic NACK (RFC 4585, section 6.2.1).
    Nack(Nack<'a>),
    /// Transport-wide congestion control feedback: the bytes behind the two SSRCs.
    TransportFeedback(&'a [u8]),
    /// Picture loss indication for this source (RFC 4585, section 6.3.1).
    PictureLoss(Ssrc),
    /// Full intra request (RFC 5104, section 4.3.1).
    FullIntraRequest(FullIntraRequest<'a>),
    /// Receiver-estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb(Remb<'a>),
    /// Source description; names are of no use to an SFU that writes its own.
    SourceDescription,
    /// Anything else, by packet type and count or format.
    Other {
        /// RTCP packet type.
        packet_type: u8,
        /// The five bits of the count or format field.
        format: u8,
    },
}

/// Iterator over the packets of a compound, or of a reduced-size packet (RFC 5506). Ends after the first error.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    /// Reads `compound`, in the clear.
    pub fn new(compound: &'a [u8]) -> Self {
        Self { rest: compound }
    }

    fn read(&mut self) -> Result<Packet<'a>, RtcpError> {
        let [first, packet_type, high, low] = *self
            .rest
            .first_chunk::<HEADER_LEN>()
            .ok_or(RtcpError::NoHeader)?;
        if first >> 6 != 2 {
            return Err(RtcpError::NoHeader);
        }
        let len = HEADER_LEN + 4 * usize::from(u16::from_be_bytes([high, low]));
        let truncated = RtcpError::Truncated(packet_type);
        let packet = self.rest.get(..len).ok_or(truncated)?;
        self.rest = &self.rest[len..];
        let mut body = &packet[HEADER_LEN..];
        if first & 0x20 != 0 {
            let padding = usize::from(*packet.last().ok_or(RtcpError::Padding)?);
            let kept = body
                .len()
                .checked_sub(padding)
                .filter(|_| padding > 0)
                .ok_or(RtcpError::Padding)?;
            body = &body[..kept];
        }
        parse_body(packet_type, first & 0x1f, body).ok_or(truncated)
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = self.read();
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

fn parse_body(packet_type: u8, format: u8, body: &[u8]) -> Option<Packet<'_>> {
    Some(match (packet_type, format) {
        (SENDER_REPORT, count) => Packet::SenderReport(SenderReport::parse(count, body)?),
        (RECEIVER_REPORT, count) => Packet::ReceiverReport(ReceiverReport {
            sender: ssrc_at(body, 0)?,
            blocks: blocks(count, body.get(4..)?)?,
        }),
        (GOODBYE, count) => Packet::Goodbye(Goodbye(Words {
            bytes: body.get(..4 * usize::from(count))?,
        })),
        (SOURCE_DESCRIPTION, _) => Packet::SourceDescription,
        (TRANSPORT_FEEDBACK, FMT_NACK) => Packet::Nack(Nack {
            media: ssrc_at(body, 4)?,
            pairs: body.get(8..)?,
        }),
        (TRANSPORT_FEEDBACK, FMT_TRANSPORT_WIDE) => Packet::TransportFeedback(body.get(8..)?),
        (PAYLOAD_FEEDBACK, FMT_PICTURE_LOSS) => Packet::PictureLoss(ssrc_at(body, 4)?),
        (PAYLOAD_FEEDBACK, FMT_FULL_INTRA) => Packet::FullIntraRequest(FullIntraRequest {
            entries: body.get(8..)?,
        }),
        (PAYLOAD_FEEDBACK, FMT_APPLICATION) if body.get(8..12)? == REMB_NAME => {
            Packet::Remb(Remb::parse(body)?)
        }
        _ => Packet::Other {
            packet_type,
            format,
        },
    })
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|word| u32::from_be_bytes(*word))
}

fn ssrc_at(bytes: &[u8], at: usize) -> Option<Ssrc> {
    word_at(bytes, at).map(Ssrc)
}

fn blocks(count: u8, bytes: &[u8]) -> Option<ReportBlocks<'_>> {
    bytes
        .get(..BLOCK_LEN * usize::from(count))
        .map(|bytes| ReportBlocks { bytes })
}

/// Sender report (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// The stream.
    pub sender: Ssrc,
    /// Its clocks and counters.
    pub info: SenderInfo,
    /// What the sender reports about streams it receives.
    pub blocks: ReportBlocks<'a>,
}

impl<'a> SenderReport<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let ntp = u64::from(word_at(body, 4)?) << 32 | u64::from(word_at(body, 8)?);
        let info = SenderInfo {
            ntp: NtpTime(ntp),
            timestamp: RtpTime(word_at(body, 12)?),
            packets: word_at(body, 16)?,
            octets: word_at(body, 20)?,
        };
        Some(Self {
            sender: ssrc_at(body, 0)?,
            info,
            blocks: blocks(count, body.get(24..)?)?,
        })
    }
}

/// Receiver report (RFC 3550, section 6.4.2).
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub sender: Ssrc,
    /// About which streams.
    pub blocks: ReportBlocks<'a>,
}

/// Iterator over report blocks, at most 31.
#[derive(Clone, Copy, Debug)]
pub struct ReportBlocks<'a> {
    /// A multiple of 24 bytes.
    bytes: &'a [u8],
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.bytes.split_first_chunk::<BLOCK_LEN>()?;
        self.bytes = rest;
        let lost = word_at(block, 4)?;
        Some(ReportBlock {
            ssrc: ssrc_at(block, 0)?,
            fraction_lost: (lost >> 24) as u8,
            // The shift up and down extends the sign of 24 bits.
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_seq: word_at(block, 8)?,
            jitter: word_at(block, 12)?,
            last_sender_report: word_at(block, 16)?,
            delay_since_last_sender_report: word_at(block, 20)?,
        })
    }
}

/// Iterator over SSRCs.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    bytes: &'a [u8],
}

impl Iterator for Words<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let ssrc = ssrc_at(self.bytes, 0)?;
        self.bytes = &self.bytes[4..];
        Some(ssrc)
    }
}

/// BYE (RFC 3550, section 6.6).
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a>(Words<'a>);

impl<'a> Goodbye<'a> {
    /// The streams, at most 31.
    pub fn ssrcs(&self) -> Words<'a> {
        self.0
    }
}

/// Generic NACK.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// The stream that misses packets.
    pub media: Ssrc,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    /// The missing numbers in the order of the packet, a thousand at most.
    pub fn seqs(&self) -> NackSeqs<'a> {
        NackSeqs {
            pairs: self.pairs,
            base: Seq(0),
            mask: 0,
            left: NACK_SEQS_MAX,
        }
    }
}

/// Iterator over the numbers of a NACK: each pair is a number and a mask of the 16 that follow.
#[derive(Clone, Debug)]
pub struct NackSeqs<'a> {
    pairs: &'a [u8],
    base: Seq,
    mask: u16,
    left: usize,
}

impl Iterator for NackSeqs<'_> {
    type Item = Seq;

    fn next(&mut self) -> Option<Seq> {
        self.left = self.left.checked_sub(1)?;
        if self.mask != 0 {
            let bit = self.mask.trailing_zeros() as u16;
            self.mask &= self.mask - 1;
            return Some(self.base.wrapping_add(bit + 1));
        }
        let ([p0, p1, m0, m1], rest) = self.pairs.split_first_chunk()?;
        self.pairs = rest;
        self.base = Seq(u16::from_be_bytes([*p0, *p1]));
        self.mask = u16::from_be_bytes([*m0, *m1]);
        Some(self.base)
    }
}

/// Full intra request; entries of 8 bytes.
#[derive(Clone, Copy, Debug)]
pub struct FullIntraRequest<'a> {
    entries: &'a [u8],
}

impl<'a> FullIntraRequest<'a> {
    /// The sources asked for a key frame, with the request's number.
    pub fn entries(&self) -> impl Iterator<Item = (Ssrc, u8)> + use<'a> {
        self.entries.chunks_exact(8).map(|entry| {
            let ssrc = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]);
            (Ssrc(ssrc), entry[4])
        })
    }
}

/// Receiver-estimated maximum bitrate.
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// For all the streams together; as large as 2^64 - 1 if the peer says so.
    pub bitrate: Bitrate,
    ssrcs: Words<'a>,
}

impl<'a> Remb<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let [count, high, middle, low] = *body.get(12..)?.first_chunk()?;
        let mantissa = u64::from(u32::from_be_bytes([0, high & 0x03, middle, low]));
        let exponent = u32::from(high >> 2);
        let fits = mantissa == 0 || exponent <= mantissa.leading_zeros();
        let bitrate = if fits {
            mantissa.checked_shl(exponent).unwrap_or(0)
        } else {
            u64::MAX
        };
        let bytes = body.get(16..16 + 4 * usize::from(count))?;
        Some(Self {
            bitrate: Bitrate(bitrate),
            ssrcs: Words { bytes },
        })
    }

    /// The streams, at most 255.
    pub fn ssrcs(&self) -> Words<'a> {
        self.ssrcs
    }
}
