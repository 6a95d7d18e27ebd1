//! VP9 payload descriptor (RFC 9628, section 4.2), up to the layer indices.
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |I|P|L|F|B|E|V|Z|
//! I:  |M| picture id  |   15 bits over two bytes if M
//! L:  | TID |U| SID |D|
//! ```

use super::FrameInfo;

pub(super) fn inspect(payload: &[u8]) -> Option<FrameInfo> {
    let first = *payload.first()?;
    let inter_predicted = first & 0x40 != 0;
    let starts_layer_frame = first & 0x08 != 0;
    let mut at = 1;
    if first & 0x80 != 0 {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let layers = if first & 0x20 != 0 {
        Some(*payload.get(at)?)
    } else {
        None
    };
    let spatial_layer = layers.map(|byte| byte >> 1 & 0x07);
    // Upper spatial layers of a key picture are not inter-predicted either, but need the layer below.
    let base_layer = spatial_layer.unwrap_or(0) == 0;
    Some(FrameInfo {
        key_frame: !inter_predicted && starts_layer_frame && base_layer,
        starts_frame: starts_layer_frame && base_layer,
        temporal_layer: layers.map(|byte| byte >> 5),
        spatial_layer,
        ..FrameInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frame_is_the_first_packet_of_an_unpredicted_base_layer() {
        // (payload, key frame, starts frame, temporal, spatial)
        type Row<'a> = (&'a [u8], bool, bool, Option<u8>, Option<u8>);
        let rows: &[Row<'_>] = &[
            (&[0x08], true, true, None, None),
            (&[0x00], false, false, None, None),
            (&[0x48], false, true, None, None),
            (&[0x88, 0x7f], true, true, None, None),
            (&[0xa8, 0xff, 0xff, 0x20], true, true, Some(1), Some(0)),
            (&[0xa8, 0x7f, 0x03], false, false, Some(0), Some(1)),
            (&[0xa8, 0x7f, 0xe0], true, true, Some(7), Some(0)),
        ];
        for (payload, key_frame, starts_frame, temporal, spatial) in rows {
            let info = inspect(payload).unwrap();
            assert_eq!(
                (info.key_frame, info.starts_frame),
                (*key_frame, *starts_frame),
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
    fn truncated_descriptors_are_refused() {
        for payload in [&[][..], &[0x88], &[0xa8, 0x7f], &[0xa8, 0xff, 0xff]] {
            assert_eq!(inspect(payload), None, "{payload:?}");
        }
    }
}
