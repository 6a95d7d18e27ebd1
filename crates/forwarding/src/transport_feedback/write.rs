//! The feedback packet (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
//!
//! ```text
//! |V=2|P| FMT=15 |    PT=205     |           length             |
//! |                     SSRC of packet sender                   |
//! |                      SSRC of media source                   |
//! |     base sequence number     |     packet status count      |
//! |         reference time (64 ms)             | fb pkt. count  |
//! |         packet chunks …      |  deltas (250 µs) … | padding |
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use crate::rtcp::{self, FMT_TRANSPORT_WIDE, TRANSPORT_FEEDBACK};
use crate::rtp::{Seq, Ssrc};

/// Numbers in one feedback: with two bytes of delta each and the worst chunks it stays below 1200 bytes.
const STATUS_COUNT_MAX: usize = 450;
const TICK_MICROS: u128 = 250;
/// Ticks in one unit of the reference time, 64 ms.
const REFERENCE_TICKS: i64 = 256;
/// Run-length chunks count to 2^13 - 1, which [`STATUS_COUNT_MAX`] stays below.
const RUN_LEN_WORTHWHILE: usize = 7;
const ONE_BIT_SYMBOLS: usize = 14;
const TWO_BIT_SYMBOLS: usize = 7;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// The fields around the statuses.
pub(super) struct Feedback {
    pub(super) sender: Ssrc,
    pub(super) media: Ssrc,
    pub(super) base: Seq,
    pub(super) count: u8,
    pub(super) epoch: Instant,
}

/// Writes as many of the arrivals as fit one packet, at least one, and returns how many.
pub(super) fn write(
    out: &mut Vec<u8>,
    feedback: &Feedback,
    arrivals: &VecDeque<Option<Instant>>,
) -> usize {
    let ticks = |at: Instant| {
        (at.saturating_duration_since(feedback.epoch).as_micros() / TICK_MICROS) as i64
    };
    let reference = arrivals
        .iter()
        .flatten()
        .next()
        .map_or(0, |at| ticks(*at) / REFERENCE_TICKS);

    let mut symbols = [NOT_RECEIVED; STATUS_COUNT_MAX];
    let mut deltas = [0i16; STATUS_COUNT_MAX];
    let mut count = 0;
    let mut last = reference * REFERENCE_TICKS;
    for arrival in arrivals.iter().take(STATUS_COUNT_MAX) {
        if let Some(at) = arrival {
            // A delta that does not fit begins another packet, with another reference time.
            let Ok(delta) = i16::try_from(ticks(*at) - last) else {
                break;
            };
            last = ticks(*at);
            deltas[count] = delta;
            symbols[count] = if (0..=255).contains(&delta) {
                SMALL_DELTA
            } else {
                LARGE_DELTA
            };
        }
        count += 1;
    }

    let start = rtcp::begin(out, TRANSPORT_FEEDBACK, FMT_TRANSPORT_WIDE);
    rtcp::put(out, feedback.sender.0);
    rtcp::put(out, feedback.media.0);
    rtcp::put(out, u32::from(feedback.base.0) << 16 | count as u32);
    rtcp::put(out, (reference as u32) << 8 | u32::from(feedback.count));
    put_chunks(out, &symbols[..count]);
    for (symbol, delta) in symbols[..count].iter().zip(&deltas) {
        match *symbol {
            SMALL_DELTA => out.push(*delta as u8),
            LARGE_DELTA => out.extend_from_slice(&delta.to_be_bytes()),
            _ => {}
        }
    }
    rtcp::finish(out, start);
    count
}

/// Run length where symbols repeat, else a vector of one-bit symbols, or of two-bit symbols if a large delta is near.
fn put_chunks(out: &mut Vec<u8>, symbols: &[u8]) {
    let mut rest = symbols;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|symbol| *symbol == first).count();
        let near = &rest[..rest.len().min(ONE_BIT_SYMBOLS)];
        let (chunk, taken) = if run > RUN_LEN_WORTHWHILE && run >= near.len() {
            (u16::from(*first) << 13 | run as u16, run)
        } else if near.contains(&LARGE_DELTA) {
            let taken = near.len().min(TWO_BIT_SYMBOLS);
            (0xc000 | vector(&near[..taken], 2), taken)
        } else {
            (0x8000 | vector(near, 1), near.len())
        };
        out.extend_from_slice(&chunk.to_be_bytes());
        rest = &rest[taken..];
    }
}

/// The symbols in 14 bits, the first in the highest; unused ones are zero.
fn vector(symbols: &[u8], bits: usize) -> u16 {
    let shifted = symbols
        .iter()
        .enumerate()
        .map(|(index, symbol)| u16::from(*symbol) << (14 - bits * (index + 1)));
    shifted.fold(0, |vector, symbol| vector | symbol)
}
