//! Writing RTCP packets. Each function appends whole packets; a caller builds a compound by calling several.

use super::{
    FMT_APPLICATION, FMT_FULL_INTRA, FMT_NACK, FMT_PICTURE_LOSS, GOODBYE, PAYLOAD_FEEDBACK,
    RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo,
    TRANSPORT_FEEDBACK,
};
use crate::rate::Bitrate;
use crate::rtp::{Seq, Ssrc};

/// The count field has five bits.
const COUNT_MAX: usize = 31;
/// Pairs in one NACK packet: 1000 bytes, below every MTU.
const NACK_PAIRS_MAX: usize = 250;
const CNAME_LEN_MAX: usize = 255;
const SDES_CNAME: u8 = 1;
const REMB_SSRCS_MAX: usize = 255;
const REMB_MANTISSA_BITS: u32 = 18;

/// Starts a packet; [`finish`] fills in its length.
pub(crate) fn begin(out: &mut Vec<u8>, packet_type: u8, count_or_format: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count_or_format, packet_type, 0, 0]);
    start
}

/// Pads the packet that began at `start` to a word with zeros and writes its length.
pub(crate) fn finish(out: &mut Vec<u8>, start: usize) {
    let len = (out.len() - start).next_multiple_of(4);
    out.resize(start + len, 0);
    let words = (len / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

pub(crate) fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

/// Sender report; blocks beyond the first 31 go into receiver reports behind it.
pub fn write_sender_report(
    out: &mut Vec<u8>,
    sender: Ssrc,
    info: &SenderInfo,
    blocks: &[ReportBlock],
) {
    let (first, rest) = blocks.split_at(blocks.len().min(COUNT_MAX));
    let start = begin(out, SENDER_REPORT, first.len() as u8);
    put(out, sender.0);
    out.extend_from_slice(&info.ntp.0.to_be_bytes());
    put(out, info.timestamp.0);
    put(out, info.packets);
    put(out, info.octets);
    put_blocks(out, first);
    finish(out, start);
    if !rest.is_empty() {
        write_receiver_report(out, sender, rest);
    }
}

/// Receiver reports, one per 31 blocks; an empty one if there is no block, to begin a compound with.
pub fn write_receiver_report(out: &mut Vec<u8>, sender: Ssrc, blocks: &[ReportBlock]) {
    let mut rest = blocks;
    loop {
        let (these, others) = rest.split_at(rest.len().min(COUNT_MAX));
        let start = begin(out, RECEIVER_REPORT, these.len() as u8);
        put(out, sender.0);
        put_blocks(out, these);
        finish(out, start);
        rest = others;
        if rest.is_empty() {
            return;
        }
    }
}

fn put_blocks(out: &mut Vec<u8>, blocks: &[ReportBlock]) {
    for block in blocks {
        put(out, block.ssrc.0);
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        put(out, u32::from(block.fraction_lost) << 24 | lost);
        put(out, block.highest_seq);
        put(out, block.jitter);
        put(out, block.last_sender_report);
        put(out, block.delay_since_last_sender_report);
    }
}

/// Source description with the canonical name only (RFC 3550, section 6.5.1), cut to 255 bytes.
pub fn write_sdes_cname(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let len = (0..=cname.len().min(CNAME_LEN_MAX))
        .rev()
        .find(|at| cname.is_char_boundary(*at))
        .unwrap_or(0);
    let name = &cname.as_bytes()[..len];
    let start = begin(out, SOURCE_DESCRIPTION, 1);
    put(out, ssrc.0);
    out.extend_from_slice(&[SDES_CNAME, name.len() as u8]);
    out.extend_from_slice(name);
    // The item list ends with at least one zero, also where the word is full already.
    out.push(0);
    finish(out, start);
}

/// BYE for up to 31 streams.
pub fn write_goodbye(out: &mut Vec<u8>, ssrcs: &[Ssrc]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(COUNT_MAX)];
    let start = begin(out, GOODBYE, ssrcs.len() as u8);
    for ssrc in ssrcs {
        put(out, ssrc.0);
    }
    finish(out, start);
}

/// Generic NACKs for numbers in ascending order (on the circle); numbers within 16 of each other share a pair.
/// Nothing is written for an empty list.
pub fn write_nacks(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc, seqs: &[Seq]) {
    let mut rest = seqs;
    while !rest.is_empty() {
        let start = begin(out, TRANSPORT_FEEDBACK, FMT_NACK);
        put(out, sender.0);
        put(out, media.0);
        for _ in 0..NACK_PAIRS_MAX {
            let Some((base, others)) = rest.split_first() else {
                break;
            };
            let steps = |seq: &Seq| seq.steps_from(*base);
            let shared = others
                .iter()
                .take_while(|seq| (1..=16).contains(&steps(seq)))
                .count();
            let mask = others[..shared]
                .iter()
                .fold(0u16, |mask, seq| mask | 1 << (steps(seq) - 1));
            put(out, u32::from(base.0) << 16 | u32::from(mask));
            rest = &others[shared..];
        }
        finish(out, start);
    }
}

/// Picture loss indication.
pub fn write_picture_loss(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc) {
    let start = begin(out, PAYLOAD_FEEDBACK, FMT_PICTURE_LOSS);
    put(out, sender.0);
    put(out, media.0);
    finish(out, start);
}

/// Full intra request for one source. `number` goes up by one with each new request and stays for a repetition.
pub fn write_full_intra_request(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc, number: u8) {
    let start = begin(out, PAYLOAD_FEEDBACK, FMT_FULL_INTRA);
    put(out, sender.0);
    // Unused, zero (RFC 5104, section 4.3.1.2).
    put(out, 0);
    put(out, media.0);
    put(out, u32::from(number) << 24);
    finish(out, start);
}

/// Receiver-estimated maximum bitrate for up to 255 streams, rounded down to 18 significant bits.
pub fn write_remb(out: &mut Vec<u8>, sender: Ssrc, bitrate: Bitrate, ssrcs: &[Ssrc]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(REMB_SSRCS_MAX)];
    let exponent = (u64::BITS - bitrate.0.leading_zeros()).saturating_sub(REMB_MANTISSA_BITS);
    let mantissa = (bitrate.0 >> exponent) as u32;
    let start = begin(out, PAYLOAD_FEEDBACK, FMT_APPLICATION);
    put(out, sender.0);
    put(out, 0);
    out.extend_from_slice(b"REMB");
    put(
        out,
        (ssrcs.len() as u32) << 24 | exponent << REMB_MANTISSA_BITS | mantissa,
    );
    for ssrc in ssrcs {
        put(out, ssrc.0);
    }
    finish(out, start);
}
