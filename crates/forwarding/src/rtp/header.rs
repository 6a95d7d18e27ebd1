//! Reading RTP headers written by others. [`Header`] is a view: nothing is copied, nothing trusted.

use super::{ExtensionId, PayloadType, RtpTime, Seq, Ssrc};

const FIXED_LEN: usize = 12;
const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILES: std::ops::RangeInclusive<u16> = 0x1000..=0x100f;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The fixed header, the CSRC list or the extension block reaches past the end.
    #[error("packet of {len} bytes ends inside its header")]
    Truncated {
        /// Size of the packet, bytes.
        len: usize,
    },
    /// Version other than 2.
    #[error("RTP version {0} instead of 2")]
    Version(u8),
    /// The padding count is zero or larger than the payload.
    #[error("padding of {0} bytes does not fit")]
    Padding(u8),
}

/// View of one RTP packet (RFC 3550, section 5.1).
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// |V=2|P|X|  CC   |M|     PT      |       sequence number         |
/// |                           timestamp                           |
/// |                             SSRC                              |
/// |                      CSRC (0 to 15 words)                     |
/// |  extension profile            |  extension length (words)     |  if X
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    packet: &'a [u8],
    extensions: Extensions<'a>,
    header_len: usize,
    payload_end: usize,
}

impl<'a> Header<'a> {
    /// Reads a packet in the clear, padding included.
    pub fn parse(packet: &'a [u8]) -> Result<Self, HeaderError> {
        let mut header = Self::parse_protected(packet)?;
        if packet[0] & 0x20 != 0 {
            let padding = packet[packet.len() - 1];
            let payload_len = packet.len() - header.header_len;
            if padding == 0 || usize::from(padding) > payload_len {
                return Err(HeaderError::Padding(padding));
            }
            header.payload_end -= usize::from(padding);
        }
        Ok(header)
    }

    /// Reads only what SRTP leaves in the clear. [`Self::payload`] is then everything behind the
    /// header: ciphertext, encrypted padding and tag.
    #[inline]
    pub fn parse_protected(packet: &'a [u8]) -> Result<Self, HeaderError> {
        let truncated = HeaderError::Truncated { len: packet.len() };
        let first = *packet.first().ok_or(truncated)?;
        if first >> 6 != 2 {
            return Err(HeaderError::Version(first >> 6));
        }
        let mut header_len = FIXED_LEN + 4 * usize::from(first & 0x0f);
        let mut extensions = Extensions::NONE;
        if first & 0x10 != 0 {
            let [p0, p1, l0, l1] = *packet
                .get(header_len..)
                .and_then(<[u8]>::first_chunk)
                .ok_or(truncated)?;
            let start = header_len + 4;
            header_len = start + 4 * usize::from(u16::from_be_bytes([l0, l1]));
            let block = packet.get(start..header_len).ok_or(truncated)?;
            extensions = Extensions::new(u16::from_be_bytes([p0, p1]), block);
        }
        if packet.len() < header_len {
            return Err(truncated);
        }
        Ok(Self {
            packet,
            extensions,
            header_len,
            payload_end: packet.len(),
        })
    }

    /// Payload type.
    #[inline]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType(self.packet[1] & 0x7f)
    }

    /// Marker bit: end of a frame for video, start of a talk spurt for audio.
    #[inline]
    pub fn marker(&self) -> bool {
        self.packet[1] & 0x80 != 0
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> Seq {
        Seq(u16::from_be_bytes([self.packet[2], self.packet[3]]))
    }

    /// Timestamp.
    #[inline]
    pub fn timestamp(&self) -> RtpTime {
        RtpTime(self.word(4))
    }

    /// Synchronisation source.
    #[inline]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(self.word(8))
    }

    /// Bytes up to the payload: fixed part, CSRC list and extension block.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The payload without padding; see [`Self::parse_protected`] for a packet that is still encrypted.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.packet[self.header_len..self.payload_end]
    }

    /// The first extension element with this id.
    #[inline]
    pub fn extension(&self, id: ExtensionId) -> Option<&'a [u8]> {
        self.extensions
            .clone()
            .find(|(found, _)| *found == id)
            .map(|(_, data)| data)
    }

    /// All extension elements in order of appearance.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        self.extensions
    }

    #[inline]
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([
            self.packet[at],
            self.packet[at + 1],
            self.packet[at + 2],
            self.packet[at + 3],
        ])
    }
}

/// Iterator over extension elements, `(id, data)` (RFC 8285, sections 4.2 and 4.3).
///
/// A block of an unknown profile has no elements; an element that reaches past its block ends the iteration.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    two_byte: bool,
    rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    const NONE: Self = Self {
        two_byte: false,
        rest: &[],
    };

    fn new(profile: u16, block: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE_PROFILE => Self {
                two_byte: false,
                rest: block,
            },
            profile if TWO_BYTE_PROFILES.contains(&profile) => Self {
                two_byte: true,
                rest: block,
            },
            _ => Self::NONE,
        }
    }

    fn take(&mut self, id: u8, header_len: usize, len: usize) -> Option<(ExtensionId, &'a [u8])> {
        let data = self.rest.get(header_len..header_len + len)?;
        self.rest = &self.rest[header_len + len..];
        Some((ExtensionId(id), data))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (ExtensionId, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while let [0, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let element = match (self.two_byte, self.rest) {
            (true, [id, len, ..]) => self.take(*id, 2, usize::from(*len)),
            // Id 15, and id 0 with a length, end a one-byte block (RFC 8285, section 4.2).
            (false, [head, ..]) if matches!(head >> 4, 1..=14) => {
                self.take(head >> 4, 1, usize::from(head & 0x0f) + 1)
            }
            _ => None,
        };
        if element.is_none() {
            self.rest = &[];
        }
        element
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(first: u8, after_fixed: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | 96, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend_from_slice(after_fixed);
        bytes
    }

    #[test]
    fn reads_the_fixed_fields() {
        let bytes = packet(0x80, &[9, 9]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.payload_type(), PayloadType(96));
        assert!(header.marker());
        assert_eq!(header.seq(), Seq(0x1234));
        assert_eq!(header.timestamp(), RtpTime(0x0102_0304));
        assert_eq!(header.ssrc(), Ssrc(0x0506_0708));
        assert_eq!(header.payload(), [9, 9]);
        assert_eq!(header.extensions().count(), 0);
    }

    #[test]
    fn lies_about_length_are_refused() {
        let rows: &[(Vec<u8>, HeaderError)] = &[
            (vec![], HeaderError::Truncated { len: 0 }),
            (vec![0x80; 11], HeaderError::Truncated { len: 11 }),
            (packet(0x40, &[]), HeaderError::Version(1)),
            (packet(0x81, &[1, 2, 3]), HeaderError::Truncated { len: 15 }),
            (packet(0x8f, &[0; 59]), HeaderError::Truncated { len: 71 }),
            (
                packet(0x90, &[0xbe, 0xde, 0]),
                HeaderError::Truncated { len: 15 },
            ),
            (
                packet(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0]),
                HeaderError::Truncated { len: 19 },
            ),
            (
                packet(0x90, &[0xbe, 0xde, 0xff, 0xff]),
                HeaderError::Truncated { len: 16 },
            ),
            (packet(0xa0, &[1, 0]), HeaderError::Padding(0)),
            (packet(0xa0, &[1, 3]), HeaderError::Padding(3)),
            (packet(0xa0, &[]), HeaderError::Padding(8)),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Header::parse(bytes).unwrap_err(), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn padding_is_cut_only_in_the_clear() {
        let bytes = packet(0xa0, &[7, 7, 0, 2]);
        assert_eq!(Header::parse(&bytes).unwrap().payload(), [7, 7]);
        assert_eq!(
            Header::parse_protected(&bytes).unwrap().payload(),
            [7, 7, 0, 2]
        );
        let only_padding = packet(0xa0, &[0, 0, 3]);
        assert!(Header::parse(&only_padding).unwrap().payload().is_empty());
    }

    #[test]
    fn finds_extensions_in_both_forms() {
        // (block after the fixed header, expected elements)
        type Row<'a> = (&'a [u8], &'a [(u8, &'a [u8])]);
        let rows: &[Row<'_>] = &[
            (&[0xbe, 0xde, 0, 1, 0x10, 7, 0, 0], &[(1, &[7])]),
            (
                &[0xbe, 0xde, 0, 2, 0x11, 1, 2, 0, 0, 0x20, 9, 0],
                &[(1, &[1, 2]), (2, &[9])],
            ),
            (&[0xbe, 0xde, 0, 1, 0x10, 7, 0xf0, 1], &[(1, &[7])]),
            (&[0xbe, 0xde, 0, 1, 0x1f, 7, 0, 0], &[]),
            (&[0xbe, 0xde, 0, 0], &[]),
            (
                &[0x10, 0x00, 0, 2, 1, 0, 0, 15, 2, 8, 9, 0],
                &[(1, &[]), (15, &[8, 9])],
            ),
            (&[0x10, 0x0f, 0, 1, 1, 9, 0, 0], &[]),
            (&[0x10, 0x0f, 0, 1, 0, 0, 0, 5], &[]),
            (&[0x12, 0x34, 0, 1, 0x10, 7, 0, 0], &[]),
        ];
        for (block, expected) in rows {
            let bytes = packet(0x90, block);
            let header = Header::parse(&bytes).unwrap();
            let found: Vec<_> = header.extensions().map(|(id, data)| (id.0, data)).collect();
            assert_eq!(found, *expected, "{block:?}");
            for (id, data) in *expected {
                assert_eq!(header.extension(ExtensionId(*id)), Some(*data));
            }
        }
    }

    #[test]
    fn csrc_list_comes_before_the_extension() {
        let bytes = packet(0x91, &[1, 1, 1, 1, 0xbe, 0xde, 0, 1, 0x30, 5, 0, 0, 42]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.header_len(), 24);
        assert_eq!(header.extension(ExtensionId(3)), Some(&[5][..]));
        assert_eq!(header.payload(), [42]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), force: bool) {
            if force && !bytes.is_empty() {
                bytes[0] = bytes[0] & 0x3f | 0x80;
            }
            if let Ok(header) = Header::parse_protected(&bytes) {
                let total: usize = header.extensions().map(|(_, data)| data.len()).sum();
                prop_assert!(total <= bytes.len());
                prop_assert!(header.header_len() <= bytes.len());
            }
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert!(header.header_len() + header.payload().len() <= bytes.len());
                header.extension(ExtensionId(3));
            }
        }
    }
}
