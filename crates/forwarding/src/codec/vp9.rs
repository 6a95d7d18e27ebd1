//! VP9 payload descriptor (RFC 9628, section 4.2).
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |I|P|L|F|B|E|V|Z|
//! I:  |M| picture id  |   15 bits over two bytes if M
//! L:  | TID |U| SID |D|
//!     |  TL0PICIDX    |   if L and not F
//! P,F:| P_DIFF      |N|   up to three
//! V:  | scalability structure: | N_S |Y|G|-|-|-| …
//! ```

use super::{FrameInfo, LayerId, PictureId};

/// References of a picture in flexible mode.
const REFERENCES_MAX: usize = 3;

/// The fields of the descriptor that an SFU needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// Picture id, if present. All layers of a picture have the same.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX and its offset in the payload: with layers, and not in flexible mode.
    pub tl0_picture_index: Option<(u8, u8)>,
    /// The layer, if present: TID 0..=7 and SID, of which the highest told apart is 3.
    pub layer: Option<LayerId>,
    /// P bit: the layer frame refers to earlier pictures.
    pub inter_picture: bool,
    /// U bit: from here on, higher temporal layers refer to this picture and later ones only.
    pub switching_up_point: bool,
    /// D bit: the layer frame refers to the spatial layer below, of the same picture.
    pub inter_layer: bool,
    /// Z bit: no upper spatial layer refers to it.
    pub not_for_upper_layers: bool,
    /// F bit: references are named by the difference of picture ids.
    pub flexible: bool,
    /// B bit: first packet of the layer frame.
    pub starts_frame: bool,
    /// E bit: last packet of the layer frame.
    pub ends_frame: bool,
    /// Spatial layers by the scalability structure, if it comes with this packet, 1..=8.
    pub spatial_layers: Option<u8>,
    /// Where that begins in the payload.
    pub structure_at: Option<u8>,
    /// Length of the descriptor, bytes.
    pub len: u8,
}

impl Vp9Descriptor {
    /// Reads the descriptor at the start of `payload`; `None` if it does not fit.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let flexible = first & 0x10 != 0;
        let mut descriptor = Self {
            picture_id: None,
            tl0_picture_index: None,
            layer: None,
            inter_picture: first & 0x40 != 0,
            switching_up_point: false,
            inter_layer: false,
            not_for_upper_layers: first & 0x01 != 0,
            flexible,
            starts_frame: first & 0x08 != 0,
            ends_frame: first & 0x04 != 0,
            spatial_layers: None,
            structure_at: None,
            len: 1,
        };
        let mut at = 1;
        if first & 0x80 != 0 {
            let id = PictureId::read(payload, at)?;
            at += id.len();
            descriptor.picture_id = Some(id);
        }
        if first & 0x20 != 0 {
            let byte = *payload.get(at)?;
            at += 1;
            descriptor.layer = Some(LayerId {
                spatial: (byte >> 1 & 0x07).min(LayerId::HIGHEST.spatial),
                temporal: byte >> 5,
            });
            descriptor.switching_up_point = byte & 0x10 != 0;
            descriptor.inter_layer = byte & 0x01 != 0;
            if !flexible {
                descriptor.tl0_picture_index = Some((*payload.get(at)?, at as u8));
                at += 1;
            }
        }
        if flexible && descriptor.inter_picture {
            for _ in 0..REFERENCES_MAX {
                let byte = *payload.get(at)?;
                at += 1;
                if byte & 0x01 == 0 {
                    break;
                }
            }
        }
        if first & 0x02 != 0 {
            let byte = *payload.get(at)?;
            descriptor.spatial_layers = Some((byte >> 5) + 1);
            descriptor.structure_at = Some(u8::try_from(at).ok()?);
            at += structure_len(payload.get(at..)?)?;
        }
        descriptor.len = u8::try_from(at).ok()?;
        Some(descriptor)
    }

    /// True for the first packet of a picture from which a receiver can start.
    pub fn starts_key_picture(&self) -> bool {
        // Upper spatial layers of a key picture are not inter-predicted either, but need the layer below.
        self.starts_frame && !self.inter_picture && self.is_base()
    }

    fn is_base(&self) -> bool {
        self.layer.is_none_or(|layer| layer.spatial == 0)
    }
}

/// Length of the scalability structure at the start of `bytes`, which may be cut off.
fn structure_len(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let mut len = 1;
    if first & 0x10 != 0 {
        len += 4 * (usize::from(first >> 5) + 1);
    }
    if first & 0x08 != 0 {
        let pictures = *bytes.get(len)?;
        len += 1;
        for _ in 0..pictures {
            let references = bytes.get(len)? >> 2 & 0x03;
            len += 1 + usize::from(references);
        }
    }
    (len <= bytes.len()).then_some(len)
}

pub(super) fn inspect(payload: &[u8]) -> Option<FrameInfo> {
    let descriptor = Vp9Descriptor::parse(payload)?;
    Some(FrameInfo {
        key_frame: descriptor.starts_key_picture(),
        starts_frame: descriptor.starts_frame && descriptor.is_base(),
        temporal_layer: descriptor.layer.map(|layer| layer.temporal),
        spatial_layer: descriptor.layer.map(|layer| layer.spatial),
        vp9: Some(descriptor),
        ..FrameInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Vp8Patch;

    #[test]
    fn key_frame_is_the_first_packet_of_an_unpredicted_base_layer() {
        // (payload, key frame, starts frame, temporal, spatial)
        type Row<'a> = (&'a [u8], bool, bool, Option<u8>, Option<u8>);
        let rows: &[Row<'_>] = &[
            (&[0x08], true, true, None, None),
            (&[0x00], false, false, None, None),
            (&[0x48], false, true, None, None),
            (&[0x88, 0x7f], true, true, None, None),
            (&[0xa8, 0xff, 0xff, 0x20, 0], true, true, Some(1), Some(0)),
            (&[0xa8, 0x7f, 0x03, 0], false, false, Some(0), Some(1)),
            (&[0xa8, 0x7f, 0xe0, 0], true, true, Some(7), Some(0)),
            (&[0xa8, 0x7f, 0x0f, 0], false, false, Some(0), Some(3)),
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
    fn fields_are_where_the_rfc_puts_them() {
        // Non-flexible: I L B E, 15-bit id 0x1234, TID 2 U SID 1 D, TL0PICIDX 9.
        let found = Vp9Descriptor::parse(&[0xac, 0x92, 0x34, 0x53, 9]).unwrap();
        let id = found.picture_id.unwrap();
        assert_eq!((id.value, id.long, id.at), (0x1234, true, 1));
        assert_eq!(found.tl0_picture_index, Some((9, 4)));
        assert_eq!(found.layer, LayerId::new(1, 2));
        assert!(found.switching_up_point && found.inter_layer && !found.inter_picture);
        assert!(found.starts_frame && found.ends_frame && !found.flexible);
        assert_eq!(found.len, 5);

        // Flexible: P L F, no id, TID 0 SID 0, two P_DIFFs.
        let found = Vp9Descriptor::parse(&[0x71, 0x00, 0x03, 0x04, 0xaa]).unwrap();
        assert!(found.flexible && found.inter_picture && found.not_for_upper_layers);
        assert_eq!((found.tl0_picture_index, found.len), (None, 4));

        // A structure of two layers with sizes, and one picture with one reference.
        let structure = [0x0a, 0x38, 0, 160, 0, 90, 1, 64, 0, 180, 1, 0x04, 2, 0xaa];
        let found = Vp9Descriptor::parse(&structure).unwrap();
        assert_eq!((found.spatial_layers, found.len), (Some(2), 13));
    }

    #[test]
    fn truncated_descriptors_are_refused() {
        let payloads = [
            &[][..],
            &[0x88],
            &[0xa8, 0x7f],
            &[0xa8, 0xff, 0xff],
            &[0xa8, 0x7f, 0x00],
            &[0x50],
            &[0x50, 0x03],
            &[0x02],
            &[0x02, 0x10, 0, 0, 0],
            &[0x02, 0x08],
            &[0x02, 0x08, 1],
            &[0x02, 0x08, 1, 0x04],
        ];
        for payload in payloads {
            assert_eq!(Vp9Descriptor::parse(payload), None, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn patched_values_are_read_back(mut payload in proptest::collection::vec(any::<u8>(), 0..40), id: u16, tl0: u8) {
            if let Some(before) = Vp9Descriptor::parse(&payload) {
                let picture_id = before.picture_id.map(|old| old.with_value(id));
                let tl0_picture_index = before.tl0_picture_index.map(|(_, at)| (tl0, at));
                let reach = payload.len().min(Vp8Patch::REACH);
                Vp8Patch { picture_id, tl0_picture_index }.apply(&mut payload[..reach]);
                let after = Vp9Descriptor::parse(&payload);
                prop_assert_eq!(after, Some(Vp9Descriptor { picture_id, tl0_picture_index, ..before }));
            }
        }
    }
}
