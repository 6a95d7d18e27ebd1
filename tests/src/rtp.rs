//! RTP and RTCP as a hostile peer writes them: no length is checked against another.

/// Length of a header without CSRCs and extensions.
pub const HEADER_LEN: usize = 12;

/// Transport-layer feedback (RFC 4585, section 6.2).
pub const TRANSPORT_FEEDBACK: u8 = 205;
/// Payload-specific feedback (RFC 4585, section 6.3).
pub const PAYLOAD_FEEDBACK: u8 = 206;

/// An RTP packet without CSRCs and extensions (RFC 3550, section 5.1). `first` is its first byte,
/// 0x80 if it does not lie.
pub fn packet(first: u8, payload_type: u8, seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![first, payload_type];
    packet.extend(seq.to_be_bytes());
    packet.extend(u32::from(seq).wrapping_mul(900).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// How long the header of `packet` says it is, with CSRCs and extension; at most all of it.
pub fn claimed_header_len(packet: &[u8]) -> usize {
    let mut len = HEADER_LEN + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 != 0
        && let Some(&[_, _, high, low]) = packet.get(len..).and_then(<[u8]>::first_chunk)
    {
        len += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    len.min(packet.len())
}

/// An RTCP packet (RFC 3550, section 6.4): `count` is the report count or format, `words` the length that
/// it claims, `sender` its first SSRC, `rest` all behind.
pub fn control(count: u8, kind: u8, words: u16, sender: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80 | count, kind];
    packet.extend(words.to_be_bytes());
    packet.extend(sender.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

/// As [`control`], with the length that it has.
pub fn sound_control(count: u8, kind: u8, sender: u32, rest: &[u8]) -> Vec<u8> {
    let words = u16::try_from(1 + rest.len() / 4).expect("tests send less");
    control(count, kind, words, sender, rest)
}

/// The body of a generic NACK for `media` (RFC 4585, section 6.2.1), which names 17 packets with each
/// of `blocks`, beginning with `first`.
pub fn nack(media: u32, first: u16, blocks: u16) -> Vec<u8> {
    let mut body = media.to_be_bytes().to_vec();
    for block in 0..blocks {
        body.extend(first.wrapping_add(block.wrapping_mul(17)).to_be_bytes());
        body.extend([0xff; 2]);
    }
    body
}
