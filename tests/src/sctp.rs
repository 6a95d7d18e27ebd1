//! SCTP packets as a hostile peer writes them (RFC 9260, section 3): no length or number is checked.

use crc::{CRC_32_ISCSI, Crc};

/// Both ports of associations in WebRTC, by custom.
const PORT: u16 = 5000;

static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Chunk types.
pub const INIT: u8 = 1;
/// A heartbeat, to be answered.
pub const HEARTBEAT: u8 = 4;
/// Asks for streams to be reset (RFC 6525).
pub const RECONFIG: u8 = 130;
/// Skips numbers (RFC 3758).
pub const FORWARD_TSN: u8 = 192;
const DATA: u8 = 0;

/// The first fragment of a message.
pub const BEGIN: u8 = 2;
/// The last fragment of a message.
pub const END: u8 = 1;

/// Payload protocol of the handshake of channels (RFC 8832).
pub const DCEP: u32 = 50;
/// Payload protocol of binary messages (RFC 8831).
pub const BINARY: u32 = 53;

/// A packet with the right checksum.
pub fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = [PORT.to_be_bytes(), PORT.to_be_bytes()].concat();
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    for chunk in chunks {
        packet.extend_from_slice(chunk);
    }
    let checksum = CHECKSUM.checksum(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// A chunk of the length that it has, padded.
pub fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).expect("tests send less");
    lying_chunk(kind, flags, len, value)
}

/// A chunk that claims to be `len` bytes long.
pub fn lying_chunk(kind: u8, flags: u8, len: u16, value: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend(len.to_be_bytes());
    chunk.extend_from_slice(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// A chunk of data; `flags` are [`BEGIN`], [`END`], both or none.
pub fn data(flags: u8, tsn: u32, stream: u16, protocol: u32, payload: &[u8]) -> Vec<u8> {
    let mut value = tsn.to_be_bytes().to_vec();
    value.extend(stream.to_be_bytes());
    // The number of the message within its stream: each stream is used for one.
    value.extend([0; 2]);
    value.extend(protocol.to_be_bytes());
    value.extend_from_slice(payload);
    chunk(DATA, flags, &value)
}

/// Asks for an association with any number of streams.
pub fn init(tag: u32, first_tsn: u32) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    value.extend((1_u32 << 20).to_be_bytes());
    value.extend([0xff; 4]);
    value.extend(first_tsn.to_be_bytes());
    chunk(INIT, 0, &value)
}

/// Opens an ordered, reliable channel named `label` (RFC 8832, section 5.1).
pub fn open(label: &str) -> Vec<u8> {
    let mut message = vec![3, 0, 1, 0, 0, 0, 0, 0];
    let len = u16::try_from(label.len()).expect("tests use short labels");
    message.extend(len.to_be_bytes());
    message.extend([0; 2]);
    message.extend_from_slice(label.as_bytes());
    message
}
