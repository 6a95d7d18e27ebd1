//! EBML elements (RFC 8794): ids, sizes, and values, to be written into memory.

/// Ids as they stand in files, length marker included.
pub(super) mod id {
    pub(in super::super) const EBML: u32 = 0x1A45_DFA3;
    pub(in super::super) const EBML_VERSION: u32 = 0x4286;
    pub(in super::super) const EBML_READ_VERSION: u32 = 0x42F7;
    pub(in super::super) const EBML_MAX_ID_LENGTH: u32 = 0x42F2;
    pub(in super::super) const EBML_MAX_SIZE_LENGTH: u32 = 0x42F3;
    pub(in super::super) const DOC_TYPE: u32 = 0x4282;
    pub(in super::super) const DOC_TYPE_VERSION: u32 = 0x4287;
    pub(in super::super) const DOC_TYPE_READ_VERSION: u32 = 0x4285;
    pub(in super::super) const VOID: u32 = 0xEC;
    pub(in super::super) const SEGMENT: u32 = 0x1853_8067;
    pub(in super::super) const SEEK_HEAD: u32 = 0x114D_9B74;
    pub(in super::super) const SEEK: u32 = 0x4DBB;
    pub(in super::super) const SEEK_ID: u32 = 0x53AB;
    pub(in super::super) const SEEK_POSITION: u32 = 0x53AC;
    pub(in super::super) const INFO: u32 = 0x1549_A966;
    pub(in super::super) const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
    pub(in super::super) const DURATION: u32 = 0x4489;
    pub(in super::super) const MUXING_APP: u32 = 0x4D80;
    pub(in super::super) const WRITING_APP: u32 = 0x5741;
    pub(in super::super) const TRACKS: u32 = 0x1654_AE6B;
    pub(in super::super) const TRACK_ENTRY: u32 = 0xAE;
    pub(in super::super) const TRACK_NUMBER: u32 = 0xD7;
    pub(in super::super) const TRACK_UID: u32 = 0x73C5;
    pub(in super::super) const TRACK_TYPE: u32 = 0x83;
    pub(in super::super) const FLAG_LACING: u32 = 0x9C;
    pub(in super::super) const CODEC_ID: u32 = 0x86;
    pub(in super::super) const CODEC_PRIVATE: u32 = 0x63A2;
    pub(in super::super) const SEEK_PRE_ROLL: u32 = 0x56BB;
    pub(in super::super) const CONTENT_ENCODINGS: u32 = 0x6D80;
    pub(in super::super) const VIDEO: u32 = 0xE0;
    pub(in super::super) const PIXEL_WIDTH: u32 = 0xB0;
    pub(in super::super) const PIXEL_HEIGHT: u32 = 0xBA;
    pub(in super::super) const AUDIO: u32 = 0xE1;
    pub(in super::super) const SAMPLING_FREQUENCY: u32 = 0xB5;
    pub(in super::super) const CHANNELS: u32 = 0x9F;
    pub(in super::super) const CLUSTER: u32 = 0x1F43_B675;
    pub(in super::super) const TIMESTAMP: u32 = 0xE7;
    pub(in super::super) const SIMPLE_BLOCK: u32 = 0xA3;
    pub(in super::super) const BLOCK_GROUP: u32 = 0xA0;
    pub(in super::super) const BLOCK: u32 = 0xA1;
    pub(in super::super) const REFERENCE_BLOCK: u32 = 0xFB;
    pub(in super::super) const CUES: u32 = 0x1C53_BB6B;
    pub(in super::super) const CUE_POINT: u32 = 0xBB;
    pub(in super::super) const CUE_TIME: u32 = 0xB3;
    pub(in super::super) const CUE_TRACK_POSITIONS: u32 = 0xB7;
    pub(in super::super) const CUE_TRACK: u32 = 0xF7;
    pub(in super::super) const CUE_CLUSTER_POSITION: u32 = 0xF1;
}

/// `TrackType` of a video track.
pub(super) const TRACK_TYPE_VIDEO: u64 = 1;
/// `TrackType` of an audio track.
pub(super) const TRACK_TYPE_AUDIO: u64 = 2;

/// The size that is not known yet, in eight bytes.
pub(super) const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

pub(super) fn write_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
    out.extend(&bytes[skipped..]);
}

/// A size in eight bytes, so that it can take the place of [`UNKNOWN_SIZE`].
pub(super) fn long_size(size: u64) -> [u8; 8] {
    (size | 1 << 56).to_be_bytes()
}

pub(super) fn write_size(out: &mut Vec<u8>, size: usize) {
    let size = size as u64;
    for length in 1..8u32 {
        // All ones would mean that the size is not known.
        if size < (1 << (7 * length)) - 1 {
            let marked = size | 1 << (7 * length);
            out.extend(&marked.to_be_bytes()[8 - length as usize..]);
            return;
        }
    }
    out.extend(long_size(size));
}

pub(super) fn write_bytes(out: &mut Vec<u8>, id: u32, value: &[u8]) {
    write_id(out, id);
    write_size(out, value.len());
    out.extend(value);
}

pub(super) fn write_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let bytes = value.to_be_bytes();
    let skipped = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    write_bytes(out, id, &bytes[skipped..]);
}

pub(super) fn write_float(out: &mut Vec<u8>, id: u32, value: f64) {
    write_bytes(out, id, &value.to_be_bytes());
}

/// An element that holds what `fill` writes.
pub(super) fn write_master(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    fill(&mut content);
    write_bytes(out, id, &content);
}

/// Fills `len` bytes, at least 2, with an element that says nothing.
pub(super) fn write_void(out: &mut Vec<u8>, len: usize) {
    write_id(out, id::VOID);
    if len < 10 {
        write_size(out, len - 2);
        out.resize(out.len() + len - 2, 0);
    } else {
        out.extend(long_size(len as u64 - 9));
        out.resize(out.len() + len - 9, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_as_few_bytes_as_they_may() {
        for (size, expected) in [
            (0, &[0x80][..]),
            (126, &[0xfe]),
            (127, &[0x40, 0x7f]),
            (16_382, &[0x7f, 0xfe]),
            (16_383, &[0x20, 0x3f, 0xff]),
        ] {
            let mut out = Vec::new();
            write_size(&mut out, size);
            assert_eq!(out, expected, "{size}");
        }
    }

    #[test]
    fn void_fills_exactly() {
        for len in [2, 9, 10, 11, 200] {
            let mut out = Vec::new();
            write_void(&mut out, len);
            assert_eq!(out.len(), len);
        }
    }
}
