//! Reading MP4: the movie box and all fragments become one list of samples, then every frame is one read.
//!
//! Sizes and counts of the file are hints at most: what is kept is limited, and every place is checked against the
//! length of the file when it is read.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use forwarding::codec::Codec;

use super::boxes::{Boxes, entries, find, long_at, short_at, version, word_at};
use crate::error::DemuxError;
use crate::track::{FRAME_BYTES_MAX, Frame, TrackFormat, TrackKind};

/// Bytes of a movie or fragment box. Ten hours of sound and pictures have some 20 MB in one. Too low: long films are
/// refused. Too high: memory.
const BOX_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Samples of all tracks: ten hours at 30 frames and 50 packets of sound a second have 3 million. Too low: long films end
/// early. Too high: memory, 32 bytes each.
const SAMPLES_MAX: usize = 3_000_000;

/// Top-level boxes that are looked at. Too low: long fragmented files end early. Too high: opening takes long.
const BOXES_MAX: usize = 1_000_000;

/// Sample flag: not a place to begin (ISO/IEC 14496-12, section 8.8.3.1).
const NON_SYNC: u32 = 0x0001_0000;

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Where its bytes are.
    at: u64,
    size: u32,
    is_key: bool,
    kind: TrackKind,
    /// When it is decoded and shown, nanoseconds.
    decoded: u64,
    shown: u64,
}

/// An MP4 file that is being read.
#[derive(Debug)]
pub(crate) struct Mp4Reader<R> {
    input: R,
    len: u64,
    formats: Vec<TrackFormat>,
    others: Vec<String>,
    duration: Duration,
    samples: Vec<Sample>,
    next: usize,
}

struct Used {
    id: u32,
    kind: TrackKind,
    timescale: u32,
    /// From the edit list: media time that is shown first, in ticks.
    skipped: i64,
    /// Duration, size and flags of samples in fragments that do not say.
    defaults: [u32; 3],
    /// Where the next fragment begins if it does not say.
    next_ticks: u64,
}

impl<R: Read + Seek> Mp4Reader<R> {
    /// Reads everything but the media; `input` stands at the beginning.
    pub(crate) fn open(mut input: R) -> Result<Self, DemuxError> {
        let len = input.seek(SeekFrom::End(0))?;
        let mut reader = Self {
            input,
            len,
            formats: Vec::new(),
            others: Vec::new(),
            duration: Duration::ZERO,
            samples: Vec::new(),
            next: 0,
        };
        let mut used = Vec::new();
        let mut has_movie = false;
        let mut at = 0;
        for _ in 0..BOXES_MAX {
            let Some((kind, body_at, size)) = reader.head(at)? else {
                break;
            };
            match &kind {
                b"moov" if !has_movie => {
                    has_movie = true;
                    let body = reader.body(body_at, size)?;
                    used = reader.take_movie(&body);
                }
                b"moof" if has_movie && body_at.saturating_add(size) <= len => {
                    let body = reader.body(body_at, size)?;
                    reader.take_fragment(&body, at, &mut used);
                }
                _ => {}
            }
            at = body_at.saturating_add(size);
        }
        if !has_movie {
            return Err(DemuxError::Malformed("no movie box"));
        }
        reader
            .samples
            .sort_by_key(|sample| (sample.decoded, sample.kind));
        let end = reader.samples.iter().map(|sample| sample.shown).max();
        reader.duration = Duration::from_nanos(end.unwrap_or(0));
        Ok(reader)
    }

    pub(crate) fn formats(&self) -> &[TrackFormat] {
        &self.formats
    }

    pub(crate) fn others(&self) -> &[String] {
        &self.others
    }

    pub(crate) fn duration(&self) -> Duration {
        self.duration
    }

    /// Kind of the box at `at`, where its content begins, and how long that is. `None` at the end.
    fn head(&mut self, at: u64) -> Result<Option<([u8; 4], u64, u64)>, DemuxError> {
        if self.len.saturating_sub(at) < 8 {
            return Ok(None);
        }
        self.input.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        self.input.read_exact(&mut head)?;
        let [s0, s1, s2, s3, kind @ ..] = head;
        let mut size = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
        let mut head_len = 8;
        if size == 1 {
            let mut long = [0; 8];
            if self.len - at < 16 {
                return Ok(None);
            }
            self.input.read_exact(&mut long)?;
            size = u64::from_be_bytes(long);
            head_len = 16;
        } else if size == 0 {
            size = self.len - at;
        }
        let body = size
            .checked_sub(head_len)
            .ok_or(DemuxError::Malformed("box size"))?;
        Ok(Some((kind, at + head_len, body)))
    }

    fn body(&mut self, at: u64, size: u64) -> Result<Vec<u8>, DemuxError> {
        if size > BOX_BYTES_MAX {
            return Err(DemuxError::TooLarge("box"));
        }
        if at.saturating_add(size) > self.len {
            return Err(DemuxError::Malformed("box is cut off"));
        }
        let mut body = vec![0; size as usize];
        self.input.seek(SeekFrom::Start(at))?;
        self.input.read_exact(&mut body)?;
        Ok(body)
    }

    fn take_movie(&mut self, moov: &[u8]) -> Vec<Used> {
        let mut used: Vec<Used> = Vec::new();
        for (_, trak) in Boxes(moov).filter(|(kind, _)| kind == b"trak") {
            let Some(header) = TrackHeader::read(trak) else {
                continue;
            };
            let is_taken = |kind| used.iter().any(|track: &Used| track.kind == kind);
            let format = format(header.entry_kind, header.entry);
            let Some(format) = format.filter(|format| !is_taken(format.kind())) else {
                if header.is_media {
                    let name = String::from_utf8_lossy(&header.entry_kind);
                    self.others.push(name.into_owned());
                }
                continue;
            };
            let mut defaults = Boxes(find(moov, &[b"mvex"]).unwrap_or_default())
                .filter(|(kind, body)| kind == b"trex" && word_at(body, 4) == Some(header.id));
            let defaults = defaults.next().map_or([0; 3], |(_, body)| {
                [12, 16, 20].map(|at| word_at(body, at).unwrap_or(0))
            });
            let mut track = Used {
                id: header.id,
                kind: format.kind(),
                timescale: header.timescale,
                skipped: header.skipped,
                defaults,
                next_ticks: 0,
            };
            self.take_table(header.table, &mut track);
            self.formats.push(format);
            used.push(track);
        }
        used
    }

    /// The samples of a track that the movie box lists.
    fn take_table(&mut self, stbl: &[u8], track: &mut Used) {
        let table = |kind| find(stbl, &[kind]).unwrap_or_default();
        let stsz = table(b"stsz");
        let size_of_all = word_at(stsz, 4).unwrap_or(0);
        let mut sizes = entries(stsz, 8, 4);
        let mut left = word_at(stsz, 8).unwrap_or(0);
        let short = entries(table(b"stco"), 4, 4).filter_map(|entry| word_at(entry, 0));
        let long = entries(table(b"co64"), 4, 8).filter_map(|entry| long_at(entry, 0));
        let chunks = short.map(u64::from).chain(long);
        let mut durations = Run::new(entries(table(b"stts"), 4, 8));
        let ctts = table(b"ctts");
        let mut offsets = Run::new(entries(ctts, 4, 8));
        let is_signed = version(ctts) > 0;
        let keys = find(stbl, &[b"stss"]);
        let mut keys = keys.map(|stss| {
            let numbers = entries(stss, 4, 4).filter_map(|entry| word_at(entry, 0));
            numbers.peekable()
        });
        let first_of = |group: &[u8]| word_at(group, 0).unwrap_or(0);
        let mut groups = entries(table(b"stsc"), 4, 12).peekable();
        let mut per_chunk = 0;
        let mut number = 0u32;
        let mut ticks = 0u64;
        for (chunk_number, chunk) in (1u32..).zip(chunks) {
            while let Some(group) = groups.next_if(|group| first_of(group) <= chunk_number) {
                per_chunk = word_at(group, 4).unwrap_or(0);
            }
            let mut at = chunk;
            for _ in 0..per_chunk {
                let is_full = self.samples.len() >= SAMPLES_MAX || number as usize >= SAMPLES_MAX;
                if left == 0 || is_full {
                    track.next_ticks = ticks;
                    return;
                }
                left -= 1;
                number = number.saturating_add(1);
                let size = match size_of_all {
                    0 => sizes.next().and_then(|it| word_at(it, 0)).unwrap_or(0),
                    size => size,
                };
                let is_key = match &mut keys {
                    Some(keys) => {
                        while keys.next_if(|key| *key < number).is_some() {}
                        keys.peek() == Some(&number)
                    }
                    None => true,
                };
                let offset = signed(offsets.next().unwrap_or(0), is_signed);
                self.add(track, at, size, is_key, ticks, offset);
                at = at.saturating_add(u64::from(size));
                ticks = ticks.saturating_add(u64::from(durations.next().unwrap_or(0)));
            }
        }
        track.next_ticks = ticks;
    }

    /// ISO/IEC 14496-12, sections 8.8.4 to 8.8.8.
    fn take_fragment(&mut self, moof: &[u8], moof_at: u64, used: &mut [Used]) {
        for (_, traf) in Boxes(moof).filter(|(kind, _)| kind == b"traf") {
            let mut header = Fields::new(find(traf, &[b"tfhd"]).unwrap_or_default());
            let Some(id) = header.word() else { continue };
            let Some(track) = used.iter_mut().find(|track| track.id == id) else {
                continue;
            };
            let base = header.long_if(0x01).unwrap_or(moof_at);
            header.word_if(0x02);
            let [duration, size, flags] = track.defaults;
            let default_duration = header.word_if(0x08).unwrap_or(duration);
            let default_size = header.word_if(0x10).unwrap_or(size);
            let default_flags = header.word_if(0x20).unwrap_or(flags);
            let began = find(traf, &[b"tfdt"]).and_then(|tfdt| match version(tfdt) {
                0 => word_at(tfdt, 4).map(u64::from),
                _ => long_at(tfdt, 4),
            });
            let mut ticks = began.unwrap_or(track.next_ticks);
            let mut at = base;
            for (_, trun) in Boxes(traf).filter(|(kind, _)| kind == b"trun") {
                let is_signed = version(trun) > 0;
                let mut run = Fields::new(trun);
                let count = run.word().unwrap_or(0);
                if let Some(offset) = run.word_if(0x01) {
                    at = base.saturating_add_signed(i64::from(offset as i32));
                }
                let mut first_flags = run.word_if(0x04);
                let has_fields = run.flags & 0xf00 != 0;
                for _ in 0..count {
                    let is_over = has_fields && run.rest.is_empty() || at > self.len;
                    if is_over || self.samples.len() >= SAMPLES_MAX {
                        break;
                    }
                    let duration = run.word_if(0x100).unwrap_or(default_duration);
                    let size = run.word_if(0x200).unwrap_or(default_size);
                    let flags = run.word_if(0x400).or(first_flags.take());
                    let flags = flags.unwrap_or(default_flags);
                    let offset = signed(run.word_if(0x800).unwrap_or(0), is_signed);
                    if size == 0 && !has_fields {
                        // Nothing of it costs the file a byte, so the count may be anything.
                        break;
                    }
                    self.add(track, at, size, flags & NON_SYNC == 0, ticks, offset);
                    at = at.saturating_add(u64::from(size));
                    ticks = ticks.saturating_add(u64::from(duration));
                }
            }
            track.next_ticks = ticks;
        }
    }

    fn add(&mut self, track: &Used, at: u64, size: u32, is_key: bool, ticks: u64, offset: i64) {
        let is_there = at.saturating_add(u64::from(size)) <= self.len;
        if size == 0 || !is_there {
            return;
        }
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        let time = |ticks: i64| {
            let ticks = ticks.saturating_sub(track.skipped).max(0);
            let nanoseconds = i128::from(ticks) * 1_000_000_000 / i128::from(track.timescale);
            u64::try_from(nanoseconds).unwrap_or(u64::MAX)
        };
        self.samples.push(Sample {
            at,
            size,
            is_key: is_key || track.kind == TrackKind::Audio,
            kind: track.kind,
            decoded: time(ticks),
            shown: time(ticks.saturating_add(offset)),
        });
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, DemuxError> {
        let Some(sample) = self.samples.get(self.next).copied() else {
            return Ok(None);
        };
        self.next += 1;
        if sample.size as usize > FRAME_BYTES_MAX {
            return Err(DemuxError::TooLarge("frame"));
        }
        let mut data = vec![0; sample.size as usize];
        self.input.seek(SeekFrom::Start(sample.at))?;
        self.input.read_exact(&mut data)?;
        Ok(Some(Frame {
            kind: sample.kind,
            time: Duration::from_nanos(sample.shown),
            is_key: sample.is_key,
            data,
        }))
    }

    /// Goes to the last key frame before `to`; the sound goes on from there too.
    pub(crate) fn seek(&mut self, to: Duration) {
        let to = u64::try_from(to.as_nanos()).unwrap_or(u64::MAX);
        let video = self.formats.iter().any(|it| it.kind() == TrackKind::Video);
        let is_place = |sample: &Sample| {
            sample.is_key && (!video || sample.kind == TrackKind::Video) && sample.shown <= to
        };
        let behind = self.samples.partition_point(|sample| sample.decoded <= to);
        self.next = self.samples[..behind]
            .iter()
            .rposition(is_place)
            .unwrap_or(0);
    }
}

fn signed(value: u32, is_signed: bool) -> i64 {
    match is_signed {
        true => i64::from(value as i32),
        false => i64::from(value),
    }
}

/// Values that are each said once for several samples, in entries of a count and a value.
struct Run<I> {
    entries: I,
    left: u32,
    value: Option<u32>,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Run<I> {
    fn new(entries: I) -> Self {
        Self {
            entries,
            left: 0,
            value: None,
        }
    }

    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            let entry = self.entries.next()?;
            self.left = word_at(entry, 0)?;
            self.value = word_at(entry, 4);
        }
        self.left -= 1;
        self.value
    }
}

/// The fields of a full box, of which flags say which are there.
struct Fields<'a> {
    flags: u32,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self {
            flags: word_at(body, 0).unwrap_or(0) & 0x00ff_ffff,
            rest: body.get(4..).unwrap_or_default(),
        }
    }

    fn word(&mut self) -> Option<u32> {
        let value = word_at(self.rest, 0);
        self.rest = self.rest.get(4..).unwrap_or_default();
        value
    }

    fn word_if(&mut self, flag: u32) -> Option<u32> {
        if self.flags & flag == 0 {
            return None;
        }
        self.word()
    }

    fn long_if(&mut self, flag: u32) -> Option<u64> {
        if self.flags & flag == 0 {
            return None;
        }
        let (high, low) = (self.word()?, self.word()?);
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

/// What the boxes of a track say.
struct TrackHeader<'a> {
    id: u32,
    is_media: bool,
    timescale: u32,
    /// Ticks at the beginning that are not shown.
    skipped: i64,
    table: &'a [u8],
    entry_kind: [u8; 4],
    entry: &'a [u8],
}

impl<'a> TrackHeader<'a> {
    fn read(trak: &'a [u8]) -> Option<Self> {
        let tkhd = find(trak, &[b"tkhd"])?;
        let mdhd = find(trak, &[b"mdia", b"mdhd"])?;
        let handler = find(trak, &[b"mdia", b"hdlr"])?.get(8..12)?;
        let table = find(trak, &[b"mdia", b"minf", b"stbl"])?;
        let (entry_kind, entry) = Boxes(find(table, &[b"stsd"])?.get(8..)?).next()?;
        let is_long = |body: &[u8]| version(body) > 0;
        let timescale = word_at(mdhd, if is_long(mdhd) { 20 } else { 12 })?;
        let elst = find(trak, &[b"edts", b"elst"]).unwrap_or_default();
        let entry_bytes = if is_long(elst) { 20 } else { 12 };
        let starts = entries(elst, 4, entry_bytes).filter_map(|entry| match is_long(elst) {
            true => long_at(entry, 8).map(|time| time as i64),
            false => word_at(entry, 4).map(|time| i64::from(time as i32)),
        });
        // An edit that begins nowhere delays the track.
        let skipped = starts.filter(|time| *time >= 0).min().unwrap_or(0);
        Some(Self {
            id: word_at(tkhd, if is_long(tkhd) { 20 } else { 12 })?,
            is_media: matches!(handler, b"vide" | b"soun"),
            timescale: Some(timescale).filter(|timescale| *timescale > 0)?,
            skipped,
            table,
            entry_kind,
            entry,
        })
    }
}

/// The format of a sample entry. `None`: it would have to be transcoded.
fn format(kind: [u8; 4], entry: &[u8]) -> Option<TrackFormat> {
    /// Bytes of a visual sample entry before its boxes (ISO/IEC 14496-12, section 12.1.3).
    const VISUAL_BYTES: usize = 78;
    /// The same of an audio sample entry (section 12.2.3).
    const AUDIO_BYTES: usize = 28;
    if &kind == b"Opus" {
        let dops = find(entry.get(AUDIO_BYTES..)?, &[b"dOps"])?;
        let channels = dops
            .get(1)
            .copied()
            .filter(|count| (1..=2).contains(count))?;
        return Some(TrackFormat::opus(channels));
    }
    let boxes = entry.get(VISUAL_BYTES..)?;
    let (codec, configuration) = match &kind {
        b"avc1" | b"avc3" => (Codec::H264, find(boxes, &[b"avcC"])?),
        b"av01" => (Codec::Av1, find(boxes, &[b"av1C"])?),
        b"vp08" => (Codec::Vp8, &[][..]),
        b"vp09" => (Codec::Vp9, &[][..]),
        _ => return None,
    };
    Some(TrackFormat {
        codec,
        width: short_at(entry, 24)?,
        height: short_at(entry, 26)?,
        channels: 0,
        profile: match codec {
            Codec::Av1 => configuration.get(1).map_or(0, |byte| byte >> 5).min(2),
            // In the first frame; the demuxer looks there.
            _ => 0,
        },
        configuration: configuration.to_vec(),
    })
}
