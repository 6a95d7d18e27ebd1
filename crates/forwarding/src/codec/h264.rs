//! H264 NAL units in RTP (RFC 6184, section 5): single units, STAP, and fragments (FU).

use super::FrameInfo;

const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const FU_A: u8 = 28;
const FU_B: u8 = 29;

pub(super) fn inspect(payload: &[u8]) -> FrameInfo {
    let Some(first) = payload.first() else {
        return FrameInfo::default();
    };
    let (starts_frame, key_frame) = match first & 0x1f {
        STAP_A => (true, aggregates_key_unit(&payload[1..])),
        // The decoding order number comes before the units.
        STAP_B => (true, payload.get(3..).is_some_and(aggregates_key_unit)),
        FU_A | FU_B => match payload.get(1) {
            Some(fragment) if fragment & 0x80 != 0 => (true, starts_key_frame(fragment & 0x1f)),
            _ => (false, false),
        },
        unit => (true, starts_key_frame(unit)),
    };
    FrameInfo {
        key_frame,
        starts_frame,
        ..FrameInfo::default()
    }
}

/// Parameter sets come in front of the IDR slice, so the first of the two opens the gate.
fn starts_key_frame(unit: u8) -> bool {
    matches!(unit, IDR_SLICE | SPS)
}

/// Units of an aggregate: 16-bit size, then the unit. Each turn consumes at least two bytes.
fn aggregates_key_unit(mut units: &[u8]) -> bool {
    while let [high, low, rest @ ..] = units {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(unit) = rest.get(..size) else {
            return false;
        };
        if unit
            .first()
            .is_some_and(|header| starts_key_frame(header & 0x1f))
        {
            return true;
        }
        units = &rest[size..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_key_frames_in_every_packetisation() {
        // (payload, key frame, starts frame)
        let rows: &[(&[u8], bool, bool)] = &[
            (&[0x65, 0x88], true, true),
            (&[0x67, 0x42], true, true),
            (&[0x68], false, true),
            (&[0x41, 0x9a], false, true),
            (&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68], true, true),
            (&[0x78, 0, 1, 0x06, 0, 1, 0x65], true, true),
            (&[0x78, 0, 1, 0x41], false, true),
            (&[0x78, 0, 9, 0x67], false, true),
            (&[0x78, 0, 0, 0, 0, 0, 1, 0x65], true, true),
            (&[0x78], false, true),
            (&[0x79, 0, 0, 0, 1, 0x67], true, true),
            (&[0x79, 0], false, true),
            (&[0x7c, 0x85, 0], true, true),
            (&[0x7c, 0x05, 0], false, false),
            (&[0x7c, 0x45, 0], false, false),
            (&[0x7c, 0x81, 0], false, true),
            (&[0x7c], false, false),
        ];
        for (payload, key_frame, starts_frame) in rows {
            let info = inspect(payload);
            assert_eq!(
                (info.key_frame, info.starts_frame),
                (*key_frame, *starts_frame),
                "{payload:?}"
            );
        }
    }
}
