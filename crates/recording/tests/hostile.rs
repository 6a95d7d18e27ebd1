//! Broken files cost an error at most: no panic, and no more memory than the file has bytes, within limits.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use recording::demuxer::Demuxer;
use recording::{Container, Frame, Muxer, TrackFormat, TrackKind};

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

fn frames(bytes: &[u8]) -> usize {
    let mut demuxer = Demuxer::open(Cursor::new(bytes)).unwrap();
    std::iter::from_fn(|| demuxer.next_frame().unwrap()).count()
}

/// Where the contents of all boxes of a kind begin.
fn contents_of(bytes: &[u8], kind: &[u8; 4]) -> Vec<usize> {
    let places = bytes.windows(4).enumerate();
    let found = places.filter(|(_, word)| word == kind);
    found.map(|(at, _)| at + 4).collect()
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// A box of MP4 that holds words.
fn words(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
    let content = words.iter().flat_map(|word| word.to_be_bytes());
    boxed(kind, &content.collect::<Vec<_>>())
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + content.len()).unwrap();
    [&size.to_be_bytes(), kind.as_slice(), content].concat()
}

/// The boxes that are in no other.
fn count_boxes(bytes: &[u8], wanted: &[u8; 4]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(head) = bytes.get(at..at + 8) {
        count += usize::from(&head[4..] == wanted);
        at += u32::from_be_bytes(*head.first_chunk().unwrap()) as usize;
    }
    count
}

#[test]
fn what_a_table_claims_beyond_the_file_is_not_counted_to_the_end() {
    let mut bytes = fixture("h264.mp4");
    // As many samples of one byte as can be said, all in the first chunk, which is nowhere: 2^32 steps. None is a frame
    // either way, so that they are not taken shows only as time: milliseconds, not minutes.
    for (kind, place, value) in [
        (b"stsz", 4, 1),
        (b"stsz", 8, u32::MAX),
        (b"stsc", 12, u32::MAX),
        (b"stco", 8, u32::MAX),
    ] {
        let contents = contents_of(&bytes, kind);
        assert!(!contents.is_empty());
        for at in contents {
            put(&mut bytes, at + place, value);
        }
    }
    assert_eq!(frames(&bytes), 0);
}

#[test]
fn what_a_fragment_claims_without_a_byte_is_not_counted() {
    const DEFAULT_SIZE: u32 = 0x10;
    let bytes = fixture("h264.mp4");
    // 2^32 samples without size, duration or flags of their own. Shows only as time too.
    let header = words(b"tfhd", &[DEFAULT_SIZE, 1, 0]);
    let run = words(b"trun", &[0, u32::MAX]);
    let fragment = boxed(b"moof", &boxed(b"traf", &[header, run].concat()));
    let count = frames(&bytes);
    assert!(count > 10);
    assert_eq!(frames(&[bytes, fragment].concat()), count);
}

#[test]
fn tiny_frames_are_not_gathered_for_long() {
    const COUNT: u32 = 100_000;
    let file = Cursor::new(Vec::new());
    let mut muxer = Muxer::new(file, Container::Mp4, &[TrackFormat::opus(2)]).unwrap();
    for number in 0..COUNT {
        let frame = Frame {
            kind: TrackKind::Audio,
            time: Duration::from_micros(number.into()),
            is_key: true,
            data: vec![1],
        };
        muxer.write_frame(&frame).unwrap();
    }
    let bytes = muxer.finish().unwrap().into_inner();
    // Of a tenth of a second, and a hundred kilobytes of sound.
    assert!(count_boxes(&bytes, b"moof") >= 3);
    assert_eq!(frames(&bytes), COUNT as usize);
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
