//! Writing fragmented MP4: each fragment is complete in itself, so a file that was cut off plays up to the last one.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use forwarding::codec::Codec;

use super::boxes::{put, put_all, put_long, put_short, write_box, write_full_box};
use crate::muxer::{CUES_MAX, PART_BYTES_MAX, PART_TIME_MAX};
use crate::track::{Frame, TrackFormat, TrackKind};

/// What is kept of a sample besides its data, bytes, its own piece of the heap included.
const SAMPLE_BYTES: usize = 96;

/// Shortest time after which a key frame begins a fragment. Too low: fragments of screens that send key frames only.
/// Too high: nothing, up to [`PART_TIME_MAX`].
const FRAGMENT_TIME_MIN: Duration = Duration::from_secs(1);

/// Unit of the movie header's times.
const MOVIE_TIMESCALE: u32 = 1000;

/// Decoding can begin here: depends on nothing (`sample_depends_on` 2).
const FLAGS_KEY: u32 = 0x0200_0000;
/// Depends on others, and is no sync sample.
const FLAGS_INTER: u32 = 0x0101_0000;

/// `tfhd`: offsets count from the beginning of the fragment.
const BASE_IS_MOOF: u32 = 0x02_0000;
/// `trun`: what is said of the run and of each sample.
const OFFSET_DURATION_SIZE_FLAGS: u32 = 0x0701;

const MFRO_BYTES: usize = 16;

/// How long a frame is shown whose successor never came, by kind.
const LAST_VIDEO: Duration = Duration::from_millis(33);
const LAST_AUDIO: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Sample {
    ticks: u64,
    is_key: bool,
    data: Vec<u8>,
}

/// Where a key frame is.
#[derive(Clone, Copy, Debug)]
struct Fragment {
    ticks: u64,
    moof_at: u64,
    /// Of the track in the fragment, from 1.
    traf_number: u8,
}

#[derive(Debug)]
struct TrackState {
    id: u32,
    kind: TrackKind,
    timescale: u32,
    /// With their durations.
    samples: Vec<(Sample, u32)>,
    /// Lasts until the next one comes.
    pending: Option<Sample>,
    fragments: Vec<Fragment>,
    end: Duration,
}

/// An MP4 file that is being written.
#[derive(Debug)]
pub(crate) struct Mp4Writer<W> {
    out: W,
    len: u64,
    moov_at: u64,
    formats: Vec<TrackFormat>,
    tracks: Vec<TrackState>,
    sequence: u32,
    /// Time and bytes of the fragment being gathered.
    fragment_began: Option<Duration>,
    fragment_bytes: usize,
}

impl<W: Write + Seek> Mp4Writer<W> {
    pub(crate) fn new(out: W, formats: &[TrackFormat]) -> io::Result<Self> {
        let tracks = (1..).zip(formats).map(|(id, format)| TrackState {
            id,
            kind: format.kind(),
            timescale: match format.kind() {
                TrackKind::Video => 90_000,
                TrackKind::Audio => 48_000,
            },
            samples: Vec::new(),
            pending: None,
            fragments: Vec::new(),
            end: Duration::ZERO,
        });
        let mut writer = Self {
            out,
            len: 0,
            moov_at: 0,
            formats: formats.to_vec(),
            tracks: tracks.collect(),
            sequence: 0,
            fragment_began: None,
            fragment_bytes: 0,
        };
        let mut head = Vec::new();
        write_box(&mut head, b"ftyp", |out| {
            out.extend(b"iso5");
            put(out, 512);
            out.extend(b"iso5iso6mp41");
        });
        writer.moov_at = head.len() as u64;
        writer.write_movie(&mut head, Duration::ZERO);
        writer.append(&head)?;
        writer.out.flush()?;
        Ok(writer)
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len + self.fragment_bytes as u64
    }

    pub(crate) fn write_frame(&mut self, frame: &Frame) -> io::Result<()> {
        let Some(index) = self
            .tracks
            .iter()
            .position(|track| track.kind == frame.kind)
        else {
            return Ok(());
        };
        let track = &mut self.tracks[index];
        let ticks = ticks(frame.time, track.timescale);
        if let Some(pending) = track.pending.take() {
            let duration = ticks.saturating_sub(pending.ticks);
            let duration = u32::try_from(duration).unwrap_or(u32::MAX);
            track.samples.push((pending, duration));
        }
        let began = *self.fragment_began.get_or_insert(frame.time);
        let elapsed = frame.time.saturating_sub(began);
        let begins = frame.kind == TrackKind::Video && frame.is_key && elapsed >= FRAGMENT_TIME_MIN;
        let is_full = elapsed >= PART_TIME_MAX
            || self
                .fragment_bytes
                .saturating_add(frame.data.len() + SAMPLE_BYTES)
                > PART_BYTES_MAX;
        if begins || is_full {
            self.write_fragment()?;
            self.fragment_began = Some(frame.time);
        }
        self.fragment_bytes += frame.data.len() + SAMPLE_BYTES;
        let track = &mut self.tracks[index];
        track.end = track.end.max(frame.time);
        track.pending = Some(Sample {
            ticks,
            is_key: frame.is_key,
            data: frame.data.clone(),
        });
        Ok(())
    }

    fn write_fragment(&mut self) -> io::Result<()> {
        if self.tracks.iter().all(|track| track.samples.is_empty()) {
            return Ok(());
        }
        self.sequence += 1;
        let moof_at = self.len;
        // Offsets have a fixed width, so the first attempt tells the length.
        let mut head = Vec::new();
        self.write_moof(&mut head, 0);
        let data_offset = head.len() + 8;
        head.clear();
        self.write_moof(&mut head, data_offset);
        let mut bytes = 0;
        let mut traf_number = 0;
        for track in &mut self.tracks {
            let Some((first, _)) = track.samples.first() else {
                continue;
            };
            traf_number += 1;
            bytes += track.bytes();
            if first.is_key && track.fragments.len() < CUES_MAX {
                track.fragments.push(Fragment {
                    ticks: first.ticks,
                    moof_at,
                    traf_number,
                });
            }
        }
        let size = u32::try_from(bytes + 8).map_err(io::Error::other)?;
        head.extend(size.to_be_bytes());
        head.extend(b"mdat");
        self.append(&head)?;
        for index in 0..self.tracks.len() {
            for (sample, _) in std::mem::take(&mut self.tracks[index].samples) {
                self.append(&sample.data)?;
            }
        }
        self.fragment_bytes = 0;
        self.out.flush()
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        let mut duration = Duration::ZERO;
        for track in &mut self.tracks {
            let last = match track.kind {
                TrackKind::Video => LAST_VIDEO,
                TrackKind::Audio => LAST_AUDIO,
            };
            if let Some(pending) = track.pending.take() {
                let ticks = ticks(last, track.timescale) as u32;
                track.samples.push((pending, ticks));
                duration = duration.max(track.end + last);
            }
        }
        self.write_fragment()?;
        let mut bytes = Vec::new();
        self.write_index(&mut bytes);
        self.append(&bytes)?;
        bytes.clear();
        self.write_movie(&mut bytes, duration);
        self.out.seek(SeekFrom::Start(self.moov_at))?;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_moof(&self, out: &mut Vec<u8>, data_offset: usize) {
        let mut offset = data_offset;
        write_box(out, b"moof", |out| {
            write_full_box(out, b"mfhd", 0, 0, |out| put(out, self.sequence));
            for track in &self.tracks {
                let Some((first, _)) = track.samples.first() else {
                    continue;
                };
                write_box(out, b"traf", |out| {
                    write_full_box(out, b"tfhd", 0, BASE_IS_MOOF, |out| put(out, track.id));
                    write_full_box(out, b"tfdt", 1, 0, |out| put_long(out, first.ticks));
                    write_full_box(out, b"trun", 0, OFFSET_DURATION_SIZE_FLAGS, |out| {
                        put(out, track.samples.len() as u32);
                        put(out, offset as u32);
                        for (sample, duration) in &track.samples {
                            put(out, *duration);
                            put(out, sample.data.len() as u32);
                            put(
                                out,
                                if sample.is_key {
                                    FLAGS_KEY
                                } else {
                                    FLAGS_INTER
                                },
                            );
                        }
                    });
                });
                offset += track.bytes();
            }
        });
    }

    /// Where the key frames are (ISO/IEC 14496-12, section 8.8.9).
    fn write_index(&self, out: &mut Vec<u8>) {
        let start = out.len();
        write_box(out, b"mfra", |out| {
            for track in &self.tracks {
                write_full_box(out, b"tfra", 1, 0, |out| {
                    put(out, track.id);
                    // Numbers of fragments, runs and samples have a byte each.
                    put(out, 0);
                    put(out, track.fragments.len() as u32);
                    for fragment in &track.fragments {
                        put_long(out, fragment.ticks);
                        put_long(out, fragment.moof_at);
                        out.extend([fragment.traf_number, 1, 1]);
                    }
                });
            }
            let len = (out.len() - start + MFRO_BYTES) as u32;
            write_full_box(out, b"mfro", 0, 0, |out| put(out, len));
        });
    }

    fn write_movie(&self, out: &mut Vec<u8>, duration: Duration) {
        write_box(out, b"moov", |out| {
            write_full_box(out, b"mvhd", 0, 0, |out| {
                put_all(out, [0, 0, MOVIE_TIMESCALE, 0]);
                // Rate 1, volume 1.
                put(out, 0x0001_0000);
                put_short(out, 0x0100);
                out.extend([0; 10]);
                write_matrix(out);
                out.extend([0; 24]);
                put(out, self.tracks.len() as u32 + 1);
            });
            for (track, format) in self.tracks.iter().zip(&self.formats) {
                write_box(out, b"trak", |out| write_track(out, track, format));
            }
            write_box(out, b"mvex", |out| {
                let duration = ticks(duration, MOVIE_TIMESCALE);
                write_full_box(out, b"mehd", 1, 0, |out| put_long(out, duration));
                for track in &self.tracks {
                    write_full_box(out, b"trex", 0, 0, |out| {
                        put_all(out, [track.id, 1, 0, 0, 0]);
                    });
                }
            });
        });
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

fn ticks(time: Duration, timescale: u32) -> u64 {
    let ticks = time.as_nanos() * u128::from(timescale) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

impl TrackState {
    /// Of the samples of the fragment being gathered.
    fn bytes(&self) -> usize {
        let samples = self.samples.iter();
        samples.map(|(sample, _)| sample.data.len()).sum()
    }
}

/// Nothing is turned or scaled.
fn write_matrix(out: &mut Vec<u8>) {
    const ONE: u32 = 0x0001_0000;
    put_all(out, [ONE, 0, 0, 0, ONE, 0, 0, 0, 0x4000_0000]);
}

fn write_track(out: &mut Vec<u8>, track: &TrackState, format: &TrackFormat) {
    const ENABLED_IN_MOVIE: u32 = 3;
    let is_video = track.kind == TrackKind::Video;
    write_full_box(out, b"tkhd", 0, ENABLED_IN_MOVIE, |out| {
        put_all(out, [0, 0, track.id, 0, 0]);
        out.extend([0; 12]);
        put_short(out, if is_video { 0 } else { 0x0100 });
        put_short(out, 0);
        write_matrix(out);
        put(out, u32::from(format.width) << 16);
        put(out, u32::from(format.height) << 16);
    });
    write_box(out, b"mdia", |out| {
        write_full_box(out, b"mdhd", 0, 0, |out| {
            put_all(out, [0, 0, track.timescale, 0]);
            // Language "und".
            put_short(out, 0x55c4);
            put_short(out, 0);
        });
        write_full_box(out, b"hdlr", 0, 0, |out| {
            put(out, 0);
            out.extend(if is_video { b"vide" } else { b"soun" });
            out.extend([0; 12]);
            out.extend(if is_video { b"video\0" } else { b"audio\0" });
        });
        write_box(out, b"minf", |out| {
            if is_video {
                write_full_box(out, b"vmhd", 0, 1, |out| out.extend([0; 8]));
            } else {
                write_full_box(out, b"smhd", 0, 0, |out| out.extend([0; 4]));
            }
            write_box(out, b"dinf", |out| {
                write_full_box(out, b"dref", 0, 0, |out| {
                    put(out, 1);
                    write_full_box(out, b"url ", 0, 1, |_| {});
                });
            });
            write_box(out, b"stbl", |out| {
                write_full_box(out, b"stsd", 0, 0, |out| {
                    put(out, 1);
                    write_sample_entry(out, format);
                });
                write_full_box(out, b"stts", 0, 0, |out| put(out, 0));
                write_full_box(out, b"stsc", 0, 0, |out| put(out, 0));
                write_full_box(out, b"stsz", 0, 0, |out| out.extend([0; 8]));
                write_full_box(out, b"stco", 0, 0, |out| put(out, 0));
            });
        });
    });
}

fn write_sample_entry(out: &mut Vec<u8>, format: &TrackFormat) {
    let (kind, configuration) = match format.codec {
        Codec::Opus => return write_opus_entry(out, format),
        Codec::H264 => (b"avc1", b"avcC"),
        Codec::Av1 => (b"av01", b"av1C"),
        Codec::Vp8 => (b"vp08", b"vpcC"),
        _ => (b"vp09", b"vpcC"),
    };
    write_box(out, kind, |out| {
        out.extend([0; 6]);
        put_short(out, 1);
        out.extend([0; 16]);
        put_short(out, format.width);
        put_short(out, format.height);
        // 72 dots per inch, both ways.
        put_all(out, [0x0048_0000, 0x0048_0000, 0]);
        put_short(out, 1);
        out.extend([0; 32]);
        put_short(out, 24);
        put_short(out, u16::MAX);
        if configuration == b"vpcC" {
            // VP Codec ISO Media File Format Binding 1.0, section 2.2: 8 or 10 bits, 4:2:0, colours of BT.709.
            let depth = if format.profile >= 2 { 10 } else { 8 };
            write_full_box(out, configuration, 1, 0, |out| {
                out.extend([format.profile, 0, depth << 4 | 1 << 1, 1, 1, 1, 0, 0]);
            });
        } else {
            write_box(out, configuration, |out| out.extend(&format.configuration));
        }
    });
}

/// Encapsulation of Opus in ISO Base Media File Format, section 4.3.
fn write_opus_entry(out: &mut Vec<u8>, format: &TrackFormat) {
    write_box(out, b"Opus", |out| {
        out.extend([0; 6]);
        put_short(out, 1);
        out.extend([0; 8]);
        put_short(out, u16::from(format.channels));
        put_short(out, 16);
        put(out, 0);
        put(out, 48_000 << 16);
        write_box(out, b"dOps", |out| {
            out.extend([0, format.channels, 0, 0]);
            put(out, 48_000);
            out.extend([0; 3]);
        });
    });
}
