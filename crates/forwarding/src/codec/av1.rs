//! AV1 aggregation header (AV1 RTP payload specification, section 4.4) and the OBU elements behind it.
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |Z|Y| W |N|-|-|-|   then W elements (W = 0: each with its length)
//! ```

use super::FrameInfo;

const SEQUENCE_HEADER: u8 = 1;
/// LEB128 lengths of OBU elements never need more (AV1 bitstream specification, section 4.10.5).
const LEB128_LEN_MAX: usize = 8;
/// Elements looked at for a sequence header. Too low → one behind metadata is missed; too high → hostile packets of
/// tiny elements cost time.
const ELEMENTS_MAX: u8 = 8;

pub(super) fn inspect(payload: &[u8]) -> Option<FrameInfo> {
    let (aggregation, mut rest) = payload.split_first()?;
    let continues = aggregation & 0x80 != 0;
    let count = aggregation >> 4 & 0x03;
    let new_sequence = aggregation & 0x08 != 0;
    let mut info = FrameInfo {
        starts_frame: !continues,
        ..FrameInfo::default()
    };
    if continues {
        return Some(info);
    }
    info.key_frame = new_sequence;
    let limit = if count == 0 { ELEMENTS_MAX } else { count };
    for index in 1..=limit {
        // The last of W elements has no length field.
        let element = if index == count {
            std::mem::take(&mut rest)
        } else {
            sized_element(&mut rest)?
        };
        let Some(header) = element.first() else {
            break;
        };
        info.key_frame |= header >> 3 & 0x0f == SEQUENCE_HEADER;
        if header & 0x04 != 0 && info.temporal_layer.is_none() {
            let layers = element.get(1)?;
            info.temporal_layer = Some(layers >> 5);
            info.spatial_layer = Some(layers >> 3 & 0x03);
        }
        if rest.is_empty() {
            break;
        }
    }
    Some(info)
}

/// Takes a length and that many bytes.
fn sized_element<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut len = 0usize;
    for at in 0..LEB128_LEN_MAX {
        let byte = *rest.get(at)?;
        len |= usize::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            let start = at + 1;
            let end = start.checked_add(len)?;
            let element = rest.get(start..end)?;
            *rest = &rest[end..];
            return Some(element);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_new_coded_video_sequences() {
        // (payload, key frame, starts frame, temporal, spatial)
        type Row<'a> = (&'a [u8], bool, bool, Option<u8>, Option<u8>);
        let rows: &[Row<'_>] = &[
            (&[0x18, 0x0a, 1, 2], true, true, None, None),
            (&[0x10, 0x0a, 1, 2], true, true, None, None),
            (&[0x10, 0x32, 1, 2], false, true, None, None),
            (&[0x90, 0x0a, 1, 2], false, false, None, None),
            (&[0x98, 0x32], false, false, None, None),
            (&[0x20, 2, 0x2a, 0, 0x0a, 1], true, true, None, None),
            (&[0x00, 2, 0x2a, 0, 2, 0x0a, 1], true, true, None, None),
            (&[0x10, 0x36, 0x28, 9], false, true, Some(1), Some(1)),
            (&[0x10], false, true, None, None),
        ];
        for (payload, key_frame, starts_frame, temporal, spatial) in rows {
            let info = inspect(payload).unwrap_or_default();
            let start = if payload.len() > 1 {
                *starts_frame
            } else {
                info.starts_frame
            };
            assert_eq!(
                (info.key_frame, info.starts_frame),
                (*key_frame, start),
                "{payload:?}"
            );
            assert_eq!(
                (info.temporal_layer, info.spatial_layer),
                (*temporal, *spatial),
                "{payload:?}"
            );
        }
    }

    #[test]
    fn lying_lengths_are_refused() {
        for payload in [
            &[][..],
            &[0x00, 0xff],
            &[0x00, 9, 1],
            &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(inspect(payload), None, "{payload:?}");
        }
    }
}
