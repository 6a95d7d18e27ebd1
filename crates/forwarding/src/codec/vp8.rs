//! VP8 payload descriptor (RFC 7741, section 4.2) and the patch that renumbers it.
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |X|R|N|S|R| PID |
//! X:  |I|L|T|K|  RSV  |
//! I:  |M| PictureID   |   15 bits over two bytes if M
//! L:  |   TL0PICIDX   |
//! T/K:|TID|Y| KEYIDX  |
//! ```

use super::FrameInfo;

/// A picture id and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// 0..=127 or 0..=32767.
    pub value: u16,
    /// True for the 15-bit form.
    pub long: bool,
    /// Offset of its first byte in the payload.
    pub at: u8,
}

impl PictureId {
    /// Reads the id at `at`, which both VP8 and VP9 write this way.
    #[inline]
    pub(super) fn read(payload: &[u8], at: usize) -> Option<Self> {
        let high = *payload.get(at)?;
        let long = high & 0x80 != 0;
        let value = if long {
            u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?])
        } else {
            u16::from(high)
        };
        Some(Self {
            value,
            long,
            at: u8::try_from(at).ok()?,
        })
    }

    /// Bytes it takes.
    #[inline]
    pub(super) fn len(self) -> usize {
        1 + usize::from(self.long)
    }

    /// Another id in the same place, as many bits of `value` as there is room for.
    #[inline]
    #[must_use]
    pub fn with_value(self, value: u16) -> Self {
        let mask = if self.long { 0x7fff } else { 0x7f };
        Self {
            value: value & mask,
            ..self
        }
    }
}

/// The fields of the descriptor that an SFU needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// Picture id, if present.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX and its offset in the payload, if present.
    pub tl0_picture_index: Option<(u8, u8)>,
    /// TID, 0..=3, if present.
    pub temporal_layer: Option<u8>,
    /// Y bit: the frame depends on the base layer only, so a receiver may step up here.
    pub layer_sync: bool,
    /// KEYIDX, 0..=31, if present.
    pub key_index: Option<u8>,
    /// N bit: no other frame refers to this one.
    pub non_reference: bool,
    /// S bit with partition 0: the first packet of a frame.
    pub starts_frame: bool,
    /// Length of the descriptor, 1..=6 bytes.
    pub len: u8,
}

impl Vp8Descriptor {
    /// Reads the descriptor at the start of `payload`; `None` if it does not fit.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut descriptor = Self {
            picture_id: None,
            tl0_picture_index: None,
            temporal_layer: None,
            layer_sync: false,
            key_index: None,
            non_reference: first & 0x20 != 0,
            starts_frame: first & 0x17 == 0x10,
            len: 1,
        };
        if first & 0x80 == 0 {
            return Some(descriptor);
        }
        let present = *payload.get(1)?;
        let mut at = 2;
        if present & 0x80 != 0 {
            let id = PictureId::read(payload, at)?;
            descriptor.picture_id = Some(id);
            at += id.len();
        }
        if present & 0x40 != 0 {
            descriptor.tl0_picture_index = Some((*payload.get(at)?, at as u8));
            at += 1;
        }
        if present & 0x30 != 0 {
            let byte = *payload.get(at)?;
            if present & 0x20 != 0 {
                descriptor.temporal_layer = Some(byte >> 6);
                descriptor.layer_sync = byte & 0x20 != 0;
            }
            if present & 0x10 != 0 {
                descriptor.key_index = Some(byte & 0x1f);
            }
            at += 1;
        }
        descriptor.len = at as u8;
        Some(descriptor)
    }
}

pub(super) fn inspect(payload: &[u8]) -> FrameInfo {
    let Some(descriptor) = Vp8Descriptor::parse(payload) else {
        return FrameInfo::default();
    };
    // Bit 0 of the frame header is the *inverse* key-frame flag (RFC 6386, section 9.1).
    let frame_header = payload.get(usize::from(descriptor.len));
    let key_frame = descriptor.starts_frame && frame_header.is_some_and(|byte| byte & 1 == 0);
    FrameInfo {
        key_frame,
        starts_frame: descriptor.starts_frame,
        temporal_layer: descriptor.temporal_layer,
        vp8: Some(descriptor),
        ..FrameInfo::default()
    }
}

/// New values for a descriptor of VP8, or of VP9, which has the same two fields within the same reach. They are
/// written over a copy of the payload; lengths stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Patch {
    /// The picture id to write, if the descriptor has one.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX to write and its offset, if the descriptor has one.
    pub tl0_picture_index: Option<(u8, u8)>,
}

impl Vp8Patch {
    /// Bytes of the payload that a patch can touch, counted from its start.
    pub const REACH: usize = 5;

    /// Writes the values over `payload`, or over its first [`Self::REACH`] bytes. What lies outside is left out.
    #[inline]
    pub fn apply(&self, payload: &mut [u8]) {
        if let Some(PictureId { value, long, at }) = self.picture_id {
            let at = usize::from(at);
            if !long {
                if let Some(byte) = payload.get_mut(at) {
                    *byte = (value & 0x7f) as u8;
                }
            } else if let Some(bytes) = payload.get_mut(at..at + 2) {
                bytes.copy_from_slice(&(value | 0x8000).to_be_bytes());
            }
        }
        if let Some((value, at)) = self.tl0_picture_index
            && let Some(byte) = payload.get_mut(usize::from(at))
        {
            *byte = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_form_of_the_descriptor() {
        // (payload, picture id, tl0, temporal layer, sync, key index, length, key frame)
        type Row<'a> = (
            &'a [u8],
            Option<u16>,
            Option<u8>,
            Option<u8>,
            bool,
            Option<u8>,
            u8,
            bool,
        );
        let rows: &[Row<'_>] = &[
            (&[0x10, 0x00], None, None, None, false, None, 1, true),
            (&[0x10, 0x01], None, None, None, false, None, 1, false),
            (&[0x00, 0x00], None, None, None, false, None, 1, false),
            (&[0x11, 0x00], None, None, None, false, None, 1, false),
            (
                &[0x90, 0x80, 0x7f, 0x00],
                Some(127),
                None,
                None,
                false,
                None,
                3,
                true,
            ),
            (
                &[0x90, 0x80, 0xff, 0xff, 0x00],
                Some(32767),
                None,
                None,
                false,
                None,
                4,
                true,
            ),
            (
                &[0x90, 0xe0, 0x80, 0x01, 9, 0x60, 0x01],
                Some(1),
                Some(9),
                Some(1),
                true,
                None,
                6,
                false,
            ),
            (
                &[0x90, 0xf0, 0x80, 0x01, 9, 0xdf, 0x00],
                Some(1),
                Some(9),
                Some(3),
                false,
                Some(31),
                6,
                true,
            ),
            (
                &[0x90, 0x10, 0x05, 0x00],
                None,
                None,
                None,
                false,
                Some(5),
                3,
                true,
            ),
            (&[0x90, 0x00, 0x00], None, None, None, false, None, 2, true),
            (&[0x10], None, None, None, false, None, 1, false),
        ];
        for (payload, picture_id, tl0, layer, sync, key_index, len, key_frame) in rows {
            let info = inspect(payload);
            let found = info.vp8.unwrap();
            assert_eq!(
                found.picture_id.map(|id| id.value),
                *picture_id,
                "{payload:?}"
            );
            assert_eq!(
                found.tl0_picture_index.map(|(value, _)| value),
                *tl0,
                "{payload:?}"
            );
            assert_eq!(
                (found.temporal_layer, found.layer_sync),
                (*layer, *sync),
                "{payload:?}"
            );
            assert_eq!(
                (found.key_index, found.len),
                (*key_index, *len),
                "{payload:?}"
            );
            assert_eq!(info.key_frame, *key_frame, "{payload:?}");
        }
    }

    #[test]
    fn truncated_descriptors_are_refused() {
        for payload in [
            &[][..],
            &[0x90],
            &[0x90, 0x80],
            &[0x90, 0x80, 0x80],
            &[0x90, 0xc0, 0x01],
            &[0x90, 0x20],
        ] {
            assert_eq!(Vp8Descriptor::parse(payload), None, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn patched_values_are_read_back(mut payload in proptest::collection::vec(any::<u8>(), 0..12), id: u16, tl0: u8) {
            if let Some(before) = Vp8Descriptor::parse(&payload) {
                let picture_id = before.picture_id.map(|old| old.with_value(id));
                let tl0_picture_index = before.tl0_picture_index.map(|(_, at)| (tl0, at));
                let reach = payload.len().min(Vp8Patch::REACH);
                Vp8Patch { picture_id, tl0_picture_index }.apply(&mut payload[..reach]);
                let after = Vp8Descriptor::parse(&payload).unwrap();
                prop_assert_eq!(after, Vp8Descriptor { picture_id, tl0_picture_index, ..before });
            } else {
                let patch = Vp8Patch {
                    picture_id: Some(PictureId { value: id, long: true, at: 2 }), tl0_picture_index: Some((tl0, 4)),
                };
                patch.apply(&mut payload);
            }
        }
    }
}
