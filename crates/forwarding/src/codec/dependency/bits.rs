//! Fields that do not end at bytes, the most significant bit first.

/// Reads bits of a byte string.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bits read so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        Some(self.read(1)? != 0)
    }

    /// The next `count` bits, 0..=32.
    pub(super) fn read(&mut self, count: usize) -> Option<u32> {
        let end = self.position + count;
        if end > 8 * self.bytes.len() {
            return None;
        }
        let mut value = 0u64;
        for byte in &self.bytes[self.position / 8..end.div_ceil(8)] {
            value = value << 8 | u64::from(*byte);
        }
        let unread = end.div_ceil(8) * 8 - end;
        self.position = end;
        Some((value >> unread & ((1 << count) - 1)) as u32)
    }

    /// A number below `bound` that takes no more bits than needed: `ns(n)` of the specification.
    pub(super) fn read_below(&mut self, bound: u32) -> Option<u32> {
        let width = bound.checked_ilog2()? + 1;
        let short = (1 << width) - bound;
        let value = self.read(width as usize - 1)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.read(1)?)
    }
}

/// Writes bits into a byte string.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    bytes: &'a mut [u8],
    position: usize,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Writes the lower `count` bits of `value`, 0..=32; `None` if they do not fit.
    pub(super) fn write(&mut self, value: u32, count: usize) -> Option<()> {
        for index in (0..count).rev() {
            let byte = self.bytes.get_mut(self.position / 8)?;
            let bit = (value >> index & 1) as u8;
            if self.position.is_multiple_of(8) {
                *byte = 0;
            }
            *byte |= bit << (7 - self.position % 8);
            self.position += 1;
        }
        Some(())
    }

    /// Copies the bits `start..end` of `source`.
    pub(super) fn copy(&mut self, source: &[u8], start: usize, end: usize) -> Option<()> {
        let mut bits = BitReader::new(source);
        bits.position = start;
        while bits.position < end {
            let count = (end - bits.position).min(32);
            self.write(bits.read(count)?, count)?;
        }
        Some(())
    }

    /// Bytes written, the last filled with zeros.
    pub(super) fn finish(self) -> usize {
        self.position.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_numbers_take_fewer_bits() {
        // Numbers below five: 00, 01, 10, 110, 111 (specification, section A.8.2).
        let bytes = [0b0001_1011, 0b0111_0000];
        let mut bits = BitReader::new(&bytes);
        let values: Vec<_> = (0..5).map(|_| bits.read_below(5)).collect();
        assert_eq!(values, (0..5).map(Some).collect::<Vec<_>>());
        assert_eq!(bits.position(), 12);
        assert_eq!(BitReader::new(&[]).read_below(1), Some(0));
        assert_eq!(BitReader::new(&[]).read_below(0), None);
    }

    proptest! {
        #[test]
        fn written_bits_are_read_back(fields in proptest::collection::vec((any::<u32>(), 0usize..=32), 0..20)) {
            let mut bytes = [0xff; 80];
            let mut writer = BitWriter::new(&mut bytes);
            for (value, count) in &fields {
                writer.write(*value, *count).unwrap();
            }
            let len = writer.finish();
            let mut bits = BitReader::new(&bytes[..len]);
            for (value, count) in &fields {
                let mask = ((1u64 << count) - 1) as u32;
                prop_assert_eq!(bits.read(*count), Some(value & mask));
            }
            prop_assert_eq!(bits.read(8), None);
        }
    }
}
