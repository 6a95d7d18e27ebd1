//! What a packet truly is, written into its payload where no one but the models looks: [`Truth`].
//!
//! ```text
//! magic 4 | source 4 | picture 4 | spatial 1 | temporal 1 | height 2 | captured, µs 8 | packet 2 | packets 2 |
//! references 1 | 4 × (picture 4, spatial 1)                                              all big endian
//! ```

const MAGIC: [u8; 4] = *b"trut";

/// References of one frame at most.
pub const REFERENCES_MAX: usize = 4;

/// Bytes that it takes.
pub const TRUTH_LEN: usize = 4 + 4 + 4 + 1 + 1 + 2 + 8 + 2 + 2 + 1 + REFERENCES_MAX * 5;

/// A frame as its encoder knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId {
    /// The encoder: one of a publisher's simulcast streams.
    pub source: u32,
    /// Its pictures, counted from 0.
    pub picture: u32,
    /// Spatial layer within the picture.
    pub spatial: u8,
}

/// What a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Its frame.
    pub frame: FrameId,
    /// Temporal layer.
    pub temporal: u8,
    /// Pixels.
    pub height: u16,
    /// When the picture was taken, µs since the beginning of the stage.
    pub captured_micros: u64,
    /// Place of the packet in its frame, from 0.
    pub packet: u16,
    /// Packets of the frame.
    pub packets: u16,
    references: [(u32, u8); REFERENCES_MAX],
    references_len: u8,
}

impl Truth {
    /// What is true of a frame's first packet.
    pub fn new(
        frame: FrameId,
        temporal: u8,
        height: u16,
        captured_micros: u64,
        references: &[FrameId],
    ) -> Self {
        let mut truth = Self {
            frame,
            temporal,
            height,
            captured_micros,
            packet: 0,
            packets: 1,
            references: [(0, 0); REFERENCES_MAX],
            references_len: 0,
        };
        for (place, reference) in truth.references.iter_mut().zip(references) {
            *place = (reference.picture, reference.spatial);
            truth.references_len += 1;
        }
        truth
    }

    /// Frames of the same source that its own cannot be decoded without.
    pub fn references(&self) -> impl Iterator<Item = FrameId> + '_ {
        let references = &self.references[..usize::from(self.references_len)];
        references.iter().map(|(picture, spatial)| FrameId {
            source: self.frame.source,
            picture: *picture,
            spatial: *spatial,
        })
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.frame.source.to_be_bytes());
        out.extend_from_slice(&self.frame.picture.to_be_bytes());
        out.extend_from_slice(&[self.frame.spatial, self.temporal]);
        out.extend_from_slice(&self.height.to_be_bytes());
        out.extend_from_slice(&self.captured_micros.to_be_bytes());
        out.extend_from_slice(&self.packet.to_be_bytes());
        out.extend_from_slice(&self.packets.to_be_bytes());
        out.push(self.references_len);
        for (picture, spatial) in self.references {
            out.extend_from_slice(&picture.to_be_bytes());
            out.push(spatial);
        }
    }

    /// Reads it from behind the descriptors of a payload, whose length is only known to be short.
    pub fn find(payload: &[u8]) -> Option<Self> {
        let reach = payload.len().min(64);
        let at = payload[..reach]
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)?;
        let mut rest = payload.get(at + MAGIC.len()..at + TRUTH_LEN)?;
        let mut take = |len: usize| {
            let (head, tail) = rest.split_at(len);
            rest = tail;
            head.iter()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let frame = FrameId {
            source: take(4) as u32,
            picture: take(4) as u32,
            spatial: take(1) as u8,
        };
        let mut truth = Self {
            frame,
            temporal: take(1) as u8,
            height: take(2) as u16,
            captured_micros: take(8),
            packet: take(2) as u16,
            packets: take(2) as u16,
            references_len: (take(1) as u8).min(REFERENCES_MAX as u8),
            references: [(0, 0); REFERENCES_MAX],
        };
        for reference in &mut truth.references {
            *reference = (take(4) as u32, take(1) as u8);
        }
        Some(truth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_found_behind_any_descriptor() {
        let frame = |picture| FrameId {
            source: 7,
            picture,
            spatial: 1,
        };
        let truth = Truth {
            packet: 2,
            packets: 3,
            ..Truth::new(frame(9), 2, 360, 123_456_789, &[frame(8), frame(5)])
        };
        for descriptor in [0, 1, 16] {
            let mut payload = vec![0x90; descriptor];
            truth.write(&mut payload);
            assert_eq!(payload.len(), descriptor + TRUTH_LEN);
            payload.extend_from_slice(&[0; 20]);
            assert_eq!(Truth::find(&payload), Some(truth));
            assert_eq!(Truth::find(&payload[..descriptor + TRUTH_LEN - 1]), None);
        }
        assert!(truth.references().eq([frame(8), frame(5)]));
    }
}
