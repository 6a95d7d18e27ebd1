//! Writing RTP headers: everything that is the same for all packets of a subscriber's stream is laid out
//! once in a [`HeaderTemplate`], a packet copies it and patches a few bytes.

use super::{AbsSendTime, ExtensionId, PayloadType, RtpTime, Seq, Ssrc};

/// Longest media identification (`a=mid`) that is sent: the limit of a one-byte element.
pub const MID_LEN_MAX: usize = 16;

/// Room that [`HeaderTemplate::write`] needs when no raw extension is copied; one that is copied needs its length + 2,
/// and the block up to 3 bytes of padding.
pub const HEADER_LEN_MAX: usize = TEMPLATE_LEN_MAX + 2 * 3 + 3;

/// Fixed header 12, block header 4, mid 2 + 16, abs-send-time 2 + 3, transport-wide number 2 + 2.
const TEMPLATE_LEN_MAX: usize = 12 + 4 + 18 + 5 + 4;

const EXTENSION_START: usize = 16;

/// Which extensions the subscriber has negotiated, by id; `None` is not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NegotiatedExtensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<ExtensionId>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    pub abs_send_time: Option<ExtensionId>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_seq: Option<ExtensionId>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    pub audio_level: Option<ExtensionId>,
    /// `urn:3gpp:video-orientation`.
    pub video_orientation: Option<ExtensionId>,
}

/// What differs from packet to packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields<'a> {
    /// Sequence number.
    pub seq: Seq,
    /// Timestamp.
    pub timestamp: RtpTime,
    /// Marker bit.
    pub marker: bool,
    /// Payload type in the subscriber's numbering.
    pub payload_type: PayloadType,
    /// Ignored unless negotiated.
    pub abs_send_time: AbsSendTime,
    /// Transport-wide sequence number; ignored unless negotiated.
    pub transport_seq: u16,
    /// The publisher's audio-level byte (voice flag and -dBov, RFC 6464); ignored unless negotiated.
    pub audio_level: Option<u8>,
    /// The publisher's video-orientation byte; ignored unless negotiated.
    pub video_orientation: Option<u8>,
    /// Elements copied as they are, under the subscriber's ids.
    pub raw: &'a [RawExtension<'a>],
}

/// A header extension that passes through unread, such as a dependency descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawExtension<'a> {
    /// Id in the subscriber's numbering.
    pub id: ExtensionId,
    /// At most 255 bytes; a longer one is left out.
    pub data: &'a [u8],
}

/// The constant part of one outgoing stream's headers.
#[derive(Clone, Debug)]
pub struct HeaderTemplate {
    bytes: [u8; TEMPLATE_LEN_MAX],
    len: u8,
    /// Offset of the value in `bytes`; 0 if not negotiated.
    abs_send_time_at: u8,
    transport_seq_at: u8,
    audio_level: Option<ExtensionId>,
    video_orientation: Option<ExtensionId>,
    two_byte: bool,
}

impl HeaderTemplate {
    /// Lays out the headers of `ssrc`. A `mid` longer than [`MID_LEN_MAX`] is not sent.
    ///
    /// Extensions with ids above 14 put the whole stream into the two-byte form; otherwise only packets
    /// with a raw extension that needs it use that form.
    pub fn new(ssrc: Ssrc, mid: &[u8], negotiated: &NegotiatedExtensions) -> Self {
        let ids = [
            negotiated.mid,
            negotiated.abs_send_time,
            negotiated.transport_seq,
            negotiated.audio_level,
            negotiated.video_orientation,
        ];
        let mut template = Self {
            bytes: [0; TEMPLATE_LEN_MAX],
            len: EXTENSION_START as u8,
            abs_send_time_at: 0,
            transport_seq_at: 0,
            audio_level: negotiated.audio_level,
            video_orientation: negotiated.video_orientation,
            two_byte: ids.into_iter().flatten().any(|id| id.0 > 14),
        };
        template.bytes[0] = 0x80;
        template.bytes[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
        if let Some(id) = negotiated.mid
            && !mid.is_empty()
            && mid.len() <= MID_LEN_MAX
        {
            template.append(id, mid);
        }
        if let Some(id) = negotiated.abs_send_time {
            template.abs_send_time_at = template.append(id, &[0; 3]);
        }
        if let Some(id) = negotiated.transport_seq {
            template.transport_seq_at = template.append(id, &[0; 2]);
        }
        template
    }

    /// Appends an element, returns where its data starts.
    fn append(&mut self, id: ExtensionId, data: &[u8]) -> u8 {
        let mut block = Block {
            out: &mut self.bytes,
            len: usize::from(self.len),
            two_byte: self.two_byte,
        };
        let end = block
            .push(id, data)
            .expect("TEMPLATE_LEN_MAX is the sum of all elements in the longer form");
        self.len = end as u8;
        (end - data.len()) as u8
    }

    /// Writes one header to the start of `out` and returns its length in bytes, a multiple of 4;
    /// `None` if `out` is too short (see [`HEADER_LEN_MAX`]).
    #[inline]
    pub fn write(&self, out: &mut [u8], fields: &HeaderFields<'_>) -> Option<usize> {
        if !self.two_byte && fields.raw.iter().any(|raw| !fits_one_byte(raw)) {
            return self.write_two_byte(out, fields);
        }
        let len = usize::from(self.len);
        // A copy of constant size is two or three vector moves; one of variable size is a call.
        out.get_mut(..TEMPLATE_LEN_MAX)?
            .copy_from_slice(&self.bytes);
        if self.abs_send_time_at != 0 {
            let at = usize::from(self.abs_send_time_at);
            out.get_mut(at..at + 3)?
                .copy_from_slice(&fields.abs_send_time.to_bytes());
        }
        if self.transport_seq_at != 0 {
            let at = usize::from(self.transport_seq_at);
            out.get_mut(at..at + 2)?
                .copy_from_slice(&fields.transport_seq.to_be_bytes());
        }
        self.finish(
            Block {
                out,
                len,
                two_byte: self.two_byte,
            },
            fields,
        )
    }

    /// The rare packet whose raw extension does not fit the one-byte form: re-lays the constant part.
    #[cold]
    fn write_two_byte(&self, out: &mut [u8], fields: &HeaderFields<'_>) -> Option<usize> {
        out.get_mut(..EXTENSION_START)?
            .copy_from_slice(&self.bytes[..EXTENSION_START]);
        let mut block = Block {
            out,
            len: EXTENSION_START,
            two_byte: true,
        };
        let constant = &self.bytes[EXTENSION_START..usize::from(self.len)];
        let mut at = 0;
        while at < constant.len() {
            let (id, len) = (
                ExtensionId(constant[at] >> 4),
                usize::from(constant[at] & 0x0f) + 1,
            );
            let data_at = EXTENSION_START + at + 1;
            if data_at == usize::from(self.abs_send_time_at) {
                block.push(id, &fields.abs_send_time.to_bytes())?;
            } else if data_at == usize::from(self.transport_seq_at) {
                block.push(id, &fields.transport_seq.to_be_bytes())?;
            } else {
                block.push(id, &constant[at + 1..at + 1 + len])?;
            }
            at += 1 + len;
        }
        self.finish(block, fields)
    }

    /// Writes the elements and fields that differ from packet to packet.
    #[inline]
    fn finish(&self, mut block: Block<'_>, fields: &HeaderFields<'_>) -> Option<usize> {
        if let (Some(id), Some(level)) = (self.audio_level, fields.audio_level) {
            block.push(id, &[level])?;
        }
        if let (Some(id), Some(orientation)) = (self.video_orientation, fields.video_orientation) {
            block.push(id, &[orientation])?;
        }
        for raw in fields.raw {
            if raw.data.len() <= 255 && raw.id.0 != 0 {
                block.push(raw.id, raw.data)?;
            }
        }
        let (out, len) = block.close()?;
        out[1] = fields.payload_type.0 & 0x7f | u8::from(fields.marker) << 7;
        out[2..4].copy_from_slice(&fields.seq.0.to_be_bytes());
        out[4..8].copy_from_slice(&fields.timestamp.0.to_be_bytes());
        Some(len)
    }
}

fn fits_one_byte(raw: &RawExtension<'_>) -> bool {
    matches!(raw.data.len(), 1..=16) && raw.id.0 <= 14
}

/// An extension block being written; `len` counts from the start of the packet.
struct Block<'a> {
    out: &'a mut [u8],
    len: usize,
    two_byte: bool,
}

impl<'a> Block<'a> {
    /// Appends an element and returns where it ends.
    #[inline]
    fn push(&mut self, id: ExtensionId, data: &[u8]) -> Option<usize> {
        let head_len = 1 + usize::from(self.two_byte);
        let end = self.len + head_len + data.len();
        let element = self.out.get_mut(self.len..end)?;
        if self.two_byte {
            element[0] = id.0;
            element[1] = data.len() as u8;
        } else {
            element[0] = id.0 << 4 | (data.len() as u8).wrapping_sub(1) & 0x0f;
        }
        element[head_len..].copy_from_slice(data);
        self.len = end;
        Some(end)
    }

    /// Pads to a word and writes the block's own header, or takes the empty block back.
    #[inline]
    fn close(self) -> Option<(&'a mut [u8], usize)> {
        let out = self.out;
        if self.len == EXTENSION_START {
            *out.first_mut()? = 0x80;
            return Some((out, 12));
        }
        let padded = self.len.next_multiple_of(4);
        out.get_mut(self.len..padded)?.fill(0);
        out[0] = 0x90;
        let profile: u16 = if self.two_byte { 0x1000 } else { 0xbede };
        out[12..14].copy_from_slice(&profile.to_be_bytes());
        let words = ((padded - EXTENSION_START) / 4) as u16;
        out[14..16].copy_from_slice(&words.to_be_bytes());
        Some((out, padded))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Header;
    use super::*;

    const ALL: NegotiatedExtensions = NegotiatedExtensions {
        mid: Some(ExtensionId(4)),
        abs_send_time: Some(ExtensionId(2)),
        transport_seq: Some(ExtensionId(3)),
        audio_level: Some(ExtensionId(1)),
        video_orientation: Some(ExtensionId(13)),
    };

    fn fields() -> HeaderFields<'static> {
        HeaderFields {
            seq: Seq(0xfffe),
            timestamp: RtpTime(0xdead_beef),
            marker: true,
            payload_type: PayloadType(96),
            abs_send_time: AbsSendTime(0x01_0203),
            transport_seq: 0x0405,
            audio_level: None,
            video_orientation: None,
            raw: &[],
        }
    }

    fn check(negotiated: &NegotiatedExtensions, mid: &[u8], fields: &HeaderFields<'_>) -> usize {
        let template = HeaderTemplate::new(Ssrc(77), mid, negotiated);
        let mut out = [0xaa; 600];
        let len = template.write(&mut out, fields).unwrap();
        let header = Header::parse(&out[..len]).unwrap();
        assert_eq!(header.header_len(), len);
        assert_eq!(header.ssrc(), Ssrc(77));
        assert_eq!(header.seq(), fields.seq);
        assert_eq!(header.timestamp(), fields.timestamp);
        assert_eq!(header.marker(), fields.marker);
        assert_eq!(header.payload_type(), fields.payload_type);
        let value = |id: Option<ExtensionId>| id.and_then(|id| header.extension(id));
        let sent_mid = negotiated
            .mid
            .filter(|_| (1..=MID_LEN_MAX).contains(&mid.len()));
        assert_eq!(value(negotiated.mid), sent_mid.map(|_| mid));
        assert_eq!(
            value(negotiated.abs_send_time),
            negotiated.abs_send_time.map(|_| &[1u8, 2, 3][..])
        );
        assert_eq!(
            value(negotiated.transport_seq),
            negotiated.transport_seq.map(|_| &[4u8, 5][..])
        );
        let level = fields
            .audio_level
            .filter(|_| negotiated.audio_level.is_some());
        assert_eq!(
            value(negotiated.audio_level),
            level.as_ref().map(std::slice::from_ref)
        );
        let orientation = fields
            .video_orientation
            .filter(|_| negotiated.video_orientation.is_some());
        assert_eq!(
            value(negotiated.video_orientation),
            orientation.as_ref().map(std::slice::from_ref)
        );
        for raw in fields.raw {
            assert_eq!(header.extension(raw.id), Some(raw.data));
        }
        len
    }

    #[test]
    fn header_without_extensions_is_twelve_bytes() {
        assert_eq!(check(&NegotiatedExtensions::default(), b"0", &fields()), 12);
    }

    #[test]
    fn header_holds_what_is_negotiated() {
        assert_eq!(check(&ALL, b"audio0", &fields()), 16 + 16);
        assert_eq!(
            check(
                &ALL,
                b"",
                &HeaderFields {
                    audio_level: Some(0x85),
                    ..fields()
                }
            ),
            16 + 12
        );
        assert_eq!(
            check(
                &ALL,
                &[b'm'; 16],
                &HeaderFields {
                    video_orientation: Some(1),
                    ..fields()
                }
            ),
            16 + 28
        );
        check(&ALL, &[b'm'; 17], &fields());
        let only_level = NegotiatedExtensions {
            audio_level: Some(ExtensionId(1)),
            ..Default::default()
        };
        assert_eq!(check(&only_level, b"", &fields()), 12);
        assert_eq!(
            check(
                &only_level,
                b"",
                &HeaderFields {
                    audio_level: Some(0),
                    ..fields()
                }
            ),
            20
        );
    }

    #[test]
    fn large_raw_extension_uses_the_two_byte_form() {
        let long = [9; 60];
        let raw = [RawExtension {
            id: ExtensionId(8),
            data: &long,
        }];
        check(
            &ALL,
            b"video0",
            &HeaderFields {
                raw: &raw,
                ..fields()
            },
        );
        let raw = [RawExtension {
            id: ExtensionId(8),
            data: &[],
        }];
        check(
            &ALL,
            b"video0",
            &HeaderFields {
                raw: &raw,
                ..fields()
            },
        );
        let raw = [RawExtension {
            id: ExtensionId(8),
            data: &[1, 2, 3],
        }];
        check(
            &ALL,
            b"video0",
            &HeaderFields {
                raw: &raw,
                ..fields()
            },
        );
    }

    #[test]
    fn high_ids_use_the_two_byte_form() {
        let high = NegotiatedExtensions {
            mid: Some(ExtensionId(200)),
            ..ALL
        };
        check(
            &high,
            &[b'm'; 16],
            &HeaderFields {
                audio_level: Some(3),
                ..fields()
            },
        );
    }

    #[test]
    fn longest_header_fits_the_stated_room() {
        let high = NegotiatedExtensions {
            mid: Some(ExtensionId(200)),
            ..ALL
        };
        let template = HeaderTemplate::new(Ssrc(1), &[b'm'; 16], &high);
        let fields = HeaderFields {
            audio_level: Some(1),
            video_orientation: Some(1),
            ..fields()
        };
        assert!(template.write(&mut [0; HEADER_LEN_MAX], &fields).is_some());
        assert!(template.write(&mut [0; 11], &fields).is_none());
    }

    proptest! {
        #[test]
        fn written_headers_are_read_back(
            mid in proptest::collection::vec(any::<u8>(), 0..20),
            ids in proptest::sample::subsequence((1u8..=20).collect::<Vec<_>>(), 6),
            seq: u16, timestamp: u32, marker: bool, payload_type in 0u8..128,
            audio_level: Option<u8>, video_orientation: Option<u8>,
            data in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let id = |at: usize| Some(ExtensionId(ids[at]));
            let negotiated = NegotiatedExtensions {
                mid: id(0), abs_send_time: id(1), transport_seq: id(2), audio_level: id(3), video_orientation: id(4),
            };
            let raw = [RawExtension { id: ExtensionId(ids[5]), data: &data }];
            check(&negotiated, &mid, &HeaderFields {
                seq: Seq(seq), timestamp: RtpTime(timestamp), marker, payload_type: PayloadType(payload_type),
                audio_level, video_orientation, raw: &raw, ..fields()
            });
        }
    }
}
