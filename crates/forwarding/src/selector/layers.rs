//! Which layers of one stream a subscriber gets: [`LayerGate`].
//!
//! Down at once, at the next picture. Up only where what follows can be decoded with what was sent:
//!
//! * at a key frame, every layer;
//! * VP8: one temporal layer more, at its frame with the Y bit (RFC 7741, section 4.2: it refers to the base layer
//!   only);
//! * VP9: temporal layers at a picture with the U bit (RFC 9628, section 4.2);
//! * with a dependency descriptor, where it has a switch indication and every frame referred to was sent.
//!
//! No layer is added to a picture whose lower layers are sent already: the last of them had the marker bit.
//!
//! Lower spatial layers are always sent with an upper one, also where it does without them between key frames (K-SVC):
//! a quarter more bits, but only so is a step down possible without a key frame.

use crate::codec::dependency::Dependency;
use crate::codec::{FrameInfo, LayerBounds, LayerId, Vp8Descriptor, Vp9Descriptor};
use crate::packet::SourcePacket;
use crate::rtp::RtpTime;

/// Pictures after which every layer of a stream has been seen: two cycles of the usual patterns. Too low → a layer that
/// was left out unseen is taken for one that does not exist; too high → packets are looked at for longer than needed.
const PICTURES_MIN: u8 = 8;

/// Decides packet by packet of one stream, in order; late packets follow the bounds of their time
/// ([`crate::rewriter`] keeps them).
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerGate {
    /// What should be seen.
    limit: LayerId,
    /// The same as bounds.
    wanted: LayerBounds,
    /// What is seen.
    bounds: LayerBounds,
    /// Timestamp of the picture in progress; `None` if it is not known to have been seen from its start.
    picture: Option<RtpTime>,
    /// The highest layer that came, forwarded or not: above it nothing can have been left out.
    seen: LayerId,
    /// Pictures that `seen` is about.
    pictures: u8,
    /// Packets with layers came.
    is_layered: bool,
    sent: SentFrames,
}

impl LayerGate {
    /// A gate that lets everything pass.
    pub(super) const OPEN: Self = Self {
        limit: LayerId::HIGHEST,
        wanted: LayerBounds::UNLIMITED,
        bounds: LayerBounds::UNLIMITED,
        picture: None,
        seen: LayerId::BASE,
        pictures: 0,
        is_layered: false,
        sent: SentFrames::ALL,
    };

    pub(super) fn limit(&self) -> LayerId {
        self.limit
    }

    pub(super) fn bounds(&self) -> LayerBounds {
        self.bounds
    }

    /// True if nothing is left out and nothing will be: packets need not be shown to it.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.bounds == LayerBounds::UNLIMITED && self.wanted == LayerBounds::UNLIMITED
    }

    /// True if what is seen is what should be.
    #[inline]
    pub(super) fn has_arrived(&self) -> bool {
        self.bounds == self.wanted
    }

    /// Sets what should be seen.
    pub(super) fn set_limit(&mut self, limit: LayerId) {
        if self.is_open() && limit != self.limit {
            // Packets were not looked at, all were sent.
            self.picture = None;
            self.seen = LayerId::BASE;
            self.pictures = 0;
            self.sent = SentFrames::ALL;
        }
        self.limit = limit;
        self.wanted = LayerBounds::up_to(limit);
    }

    /// Begins at a key frame.
    pub(super) fn start(&mut self, packet: &SourcePacket, limit: LayerId) {
        *self = Self {
            limit,
            wanted: LayerBounds::up_to(limit),
            bounds: LayerBounds::up_to(limit),
            picture: Some(packet.timestamp),
            seen: LayerId::BASE,
            pictures: 0,
            is_layered: packet.frame.layer().is_some(),
            sent: SentFrames::NONE,
        };
        if let Some(dependency) = &packet.frame.dependency {
            self.sent.note(dependency.frame_number, true);
        }
    }

    /// Takes note of a late packet, about which was decided before.
    pub(super) fn handle_late(&mut self, packet: &SourcePacket) {
        if let Some(layer) = packet.frame.layer() {
            self.see(layer);
        }
    }

    /// True if a packet in order is forwarded.
    #[inline]
    pub(super) fn admit(&mut self, packet: &SourcePacket) -> bool {
        let frame = &packet.frame;
        let Some(layer) = frame.layer() else {
            if !self.is_layered {
                self.bounds = self.wanted;
            }
            return true;
        };
        self.see(layer);
        let begins = match self.picture {
            Some(picture) => picture != packet.timestamp,
            None => frame.starts_frame,
        };
        // Packets may come that are the rest of a picture whose beginning was sent with more layers.
        if begins {
            self.pictures = self.pictures.saturating_add(1);
            self.bounds = self.bounds.and(self.wanted);
        }
        self.picture = Some(packet.timestamp);
        if !self.has_arrived() {
            self.raise(frame, layer);
        }
        let admitted = self.bounds.admit(layer);
        if let Some(dependency) = &frame.dependency {
            self.sent.note(dependency.frame_number, admitted);
        }
        admitted
    }

    #[inline]
    fn see(&mut self, layer: LayerId) {
        self.is_layered = true;
        self.seen.spatial = self.seen.spatial.max(layer.spatial);
        self.seen.temporal = self.seen.temporal.max(layer.temporal);
    }

    fn raise(&mut self, frame: &FrameInfo, layer: LayerId) {
        let before = self.bounds;
        if frame.key_frame {
            self.bounds = self.wanted;
            return;
        }
        match frame {
            FrameInfo {
                dependency: Some(dependency),
                ..
            } => self.raise_by_dependency(dependency),
            FrameInfo { vp9: Some(vp9), .. } => self.raise_by_vp9(vp9, layer),
            FrameInfo { vp8: Some(vp8), .. } => self.raise_by_vp8(vp8, layer),
            _ => {}
        }
        let is_marked = layer.spatial > 0;
        if is_marked && self.bounds.top(layer.temporal) != before.top(layer.temporal) {
            self.bounds = before;
            return;
        }
        let sought = self.wanted.and(LayerBounds::up_to(self.seen));
        if self.pictures >= PICTURES_MIN && self.bounds.and(sought) == sought {
            self.bounds = self.bounds.or(self.wanted);
        }
    }

    fn raise_by_vp8(&mut self, vp8: &Vp8Descriptor, layer: LayerId) {
        let next = self.bounds.temporal(0).map_or(0, |temporal| temporal + 1);
        if vp8.starts_frame
            && vp8.layer_sync
            && layer.temporal == next
            && layer.temporal <= self.limit.temporal
        {
            self.bounds.raise(0, layer.temporal);
        }
    }

    fn raise_by_vp9(&mut self, vp9: &Vp9Descriptor, layer: LayerId) {
        let is_point = vp9.starts_frame && vp9.switching_up_point;
        if is_point && layer.spatial <= self.limit.spatial && self.bounds.admit(layer) {
            self.bounds.raise(layer.spatial, self.limit.temporal);
        }
    }

    fn raise_by_dependency(&mut self, dependency: &Dependency) {
        if !dependency.starts_frame || dependency.switches == 0 || !self.sent.has_all(dependency) {
            return;
        }
        for spatial in 0..=self.limit.spatial {
            let switching = (0..=self.limit.temporal).rev().find(|temporal| {
                let target = LayerId {
                    spatial,
                    temporal: *temporal,
                };
                dependency.switches >> target.index() & 1 != 0
            });
            if let Some(temporal) = switching {
                self.bounds.raise(spatial, temporal);
            }
        }
    }
}

/// Which of the last 64 frames were sent, by frame number.
#[derive(Clone, Copy, Debug)]
struct SentFrames {
    newest: Option<u16>,
    /// Bit i: the frame i numbers before `newest`.
    mask: u64,
}

impl SentFrames {
    const ALL: Self = Self {
        newest: None,
        mask: u64::MAX,
    };
    const NONE: Self = Self {
        newest: None,
        mask: 0,
    };

    fn note(&mut self, frame_number: u16, sent: bool) {
        let ahead = match self.newest {
            None => 1,
            Some(newest) => frame_number.wrapping_sub(newest),
        };
        match ahead {
            0 => {}
            1..0x8000 => {
                self.mask = self.mask.checked_shl(u32::from(ahead)).unwrap_or(0);
                self.newest = Some(frame_number);
            }
            _ => return,
        }
        self.mask |= u64::from(sent);
    }

    /// True if every frame that a new frame refers to was sent.
    fn has_all(&self, dependency: &Dependency) -> bool {
        let ahead = match self.newest {
            None => 1,
            Some(newest) => dependency.frame_number.wrapping_sub(newest),
        };
        // Bit i of the shifted mask: the frame i + 1 numbers before the new one.
        let sent = match ahead {
            0 => self.mask >> 1,
            1..=64 => self.mask.checked_shl(u32::from(ahead) - 1).unwrap_or(0),
            _ => return dependency.references == 0 && !dependency.refers_far,
        };
        !dependency.refers_far && dependency.references & !sent == 0
    }
}
