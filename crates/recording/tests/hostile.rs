//! Broken files cost an error at most: no panic, and no more memory than the file has bytes, within limits.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use recording::demuxer::Demuxer;

const NAMES: [&str; 5] = [
    "vp8.webm",
    "vp9.webm",
    "av1.webm",
    "h264.mp4",
    "h264-aac.mp4",
];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::read(path.join(name)).unwrap()
}

/// Reads all there is, and seeks.
fn read(bytes: &[u8]) {
    let Ok(mut demuxer) = Demuxer::open(Cursor::new(bytes)) else {
        return;
    };
    for _ in 0..10_000 {
        if !matches!(demuxer.next_frame(), Ok(Some(_))) {
            break;
        }
    }
    let _ = demuxer.seek(Duration::from_secs(1));
    let _ = demuxer.next_frame();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read_without_panic(
        name in prop::sample::select(NAMES.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        head in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = fixture(name);
        // Headers are at either end.
        let len = if head { 1500 } else { bytes.len() };
        for (at, byte) in damage {
            let at = at.index(len);
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
        read(&bytes);
    }

    #[test]
    fn damaged_ends_are_read_without_panic(
        name in prop::sample::select(NAMES.to_vec()),
        damage in prop::collection::vec((0usize..3000, any::<u8>()), 1..20),
    ) {
        let mut bytes = fixture(name);
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[len - 1 - at] = byte;
        }
        read(&bytes);
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        magic in prop::sample::select(vec![
            b"\x1a\x45\xdf\xa3".to_vec(), b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff".to_vec(),
            b"\0\0\0\x08ftyp".to_vec(), b"\0\0\x10\0moov".to_vec(),
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        read(&[magic, rest].concat());
    }
}
