//! What a decoder would take a frame to refer to, by the numbers on the wire: [`References`].
//!
//! In the manner of libwebrtc's reference finders. They see gaps in numbers that do not matter to the codec, and wait
//! for frames that never come; so a forwarder must close its own.

use std::collections::VecDeque;

use super::assembly::Wire;

/// Frames remembered.
const DECODED_MAX: usize = 256;

/// The numbers of what one stream's decoder has.
#[derive(Clone, Debug, Default)]
pub(super) struct References {
    /// VP9: picture id and spatial layer. Dependency descriptor: frame number and 0.
    decoded: VecDeque<(u16, u8)>,
    base: Option<Vp8Base>,
}

/// The latest picture of VP8's base layer.
#[derive(Clone, Copy, Debug)]
struct Vp8Base {
    tl0_picture_index: u8,
    picture_id: u16,
    /// The latest picture of the middle layer, or of the base if there is none.
    middle: u16,
    /// The latest picture up to which none is missing since the base, and since the middle layer.
    whole_since_base: u16,
    whole_since_middle: u16,
}

impl References {
    /// True if a decoder that has all it was told is [decoded](Self::handle_decoded) would go on with this frame.
    pub(super) fn admit(&self, wire: &Wire) -> bool {
        if wire.is_key() {
            return true;
        }
        match *wire {
            Wire::Vp8 {
                picture_id,
                tl0_picture_index,
                temporal,
                is_sync,
                ..
            } => self.base.is_some_and(|base| {
                let before = picture_id.wrapping_sub(1) & 0x7fff;
                match temporal {
                    0 => tl0_picture_index == base.tl0_picture_index.wrapping_add(1),
                    _ if tl0_picture_index != base.tl0_picture_index => false,
                    _ if is_sync => true,
                    1 => base.whole_since_middle == before,
                    _ => base.whole_since_base == before && base.whole_since_middle == before,
                }
            }),
            Wire::Vp9 {
                picture_id,
                spatial,
                differences,
                is_inter_picture,
                is_inter_layer,
            } => {
                let differences = differences.iter().filter(|difference| **difference > 0);
                let mut refers = differences.map(|difference| {
                    (
                        picture_id.wrapping_sub(u16::from(*difference)) & 0x7fff,
                        spatial,
                    )
                });
                (!is_inter_picture || refers.all(|it| self.decoded.contains(&it)))
                    && (!is_inter_layer
                        || spatial > 0 && self.decoded.contains(&(picture_id, spatial - 1)))
            }
            Wire::Dependency(dependency) => (0..64)
                .filter(|bit| dependency.references >> bit & 1 != 0)
                .all(|bit| {
                    let number = dependency.frame_number.wrapping_sub(bit + 1);
                    self.decoded.contains(&(number, 0))
                }),
        }
    }

    /// Takes note that a frame was decoded.
    pub(super) fn handle_decoded(&mut self, wire: &Wire) {
        match *wire {
            Wire::Vp8 {
                is_key,
                picture_id,
                tl0_picture_index,
                temporal,
                ..
            } => {
                let Some(base) = self.base.as_mut().filter(|_| !is_key) else {
                    self.base = Some(Vp8Base {
                        tl0_picture_index,
                        picture_id,
                        middle: picture_id,
                        whole_since_base: picture_id,
                        whole_since_middle: picture_id,
                    });
                    return;
                };
                let before = picture_id.wrapping_sub(1) & 0x7fff;
                if temporal == 0 {
                    base.tl0_picture_index = tl0_picture_index;
                    base.picture_id = picture_id;
                    base.whole_since_base = picture_id;
                } else if base.whole_since_base == before {
                    base.whole_since_base = picture_id;
                }
                if temporal == 1 {
                    base.middle = picture_id;
                    base.whole_since_middle = picture_id;
                } else if base.whole_since_middle == before {
                    base.whole_since_middle = picture_id;
                }
            }
            Wire::Vp9 {
                picture_id,
                spatial,
                ..
            } => self.remember((picture_id, spatial)),
            Wire::Dependency(dependency) => self.remember((dependency.frame_number, 0)),
        }
    }

    fn remember(&mut self, decoded: (u16, u8)) {
        if self.decoded.len() == DECODED_MAX {
            self.decoded.pop_front();
        }
        self.decoded.push_back(decoded);
    }
}
