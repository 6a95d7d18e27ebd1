//! Reading bits, highest first.

/// A position in bytes. Every read past the end is `None`.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// At most 32 bits.
    pub(crate) fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    fn leading_zeros(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(zeros)
    }

    /// Unsigned exponential Golomb code (H.264, section 9.1; `uvlc` of AV1 is the same).
    pub(crate) fn golomb(&mut self) -> Option<u32> {
        let zeros = self.leading_zeros()?;
        let rest = self.read(zeros)?;
        Some((1u32 << zeros) - 1 + rest)
    }

    /// Signed exponential Golomb code (H.264, section 9.1.1).
    pub(crate) fn signed_golomb(&mut self) -> Option<i32> {
        let code = self.golomb()?;
        let half = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code % 2 == 1 { half } else { -half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golomb_codes() {
        // 1 | 010 | 011 | 00100 and their signed meanings.
        let bytes = [0b1010_0110, 0b0100_0000];
        let mut bits = Bits::new(&bytes);
        let codes = [(); 4].map(|()| bits.golomb().unwrap());
        assert_eq!(codes, [0, 1, 2, 3]);
        let mut bits = Bits::new(&bytes);
        let codes = [(); 4].map(|()| bits.signed_golomb().unwrap());
        assert_eq!(codes, [0, 1, -1, 2]);
        assert_eq!(Bits::new(&[0; 8]).golomb(), None);
        assert_eq!(Bits::new(&[0xff]).read(9), None);
    }
}
