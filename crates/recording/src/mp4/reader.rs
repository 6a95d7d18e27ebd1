//! Reading MP4: the movie box and all fragments become one list of samples, then every frame is one read.
//!
//! Sizes and counts of the file are hints at most: what is kept is limited, and every place is checked against the
//! length of the file when it is read.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use forwarding::codec::Codec;
use mp4_atom::{Atom, Encode, Moof, Moov, StszSamples, Trak, Trex};

use crate::error::DemuxError;
use crate::track::{FRAME_BYTES_MAX, Frame, TrackFormat, TrackKind};

/// Bytes of a movie or fragment box. A day of sound and pictures has some 50 MB in one. Too low: long films are
/// refused. Too high: memory.
const BOX_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Samples of all tracks: a day at 30 frames and 50 packets of sound a second has 7 million. Too low: long films end
/// early. Too high: memory, 32 bytes each.
const SAMPLES_MAX: usize = 8_000_000;

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
    /// When it is decoded and shown.
    decoded: Duration,
    shown: Duration,
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
    defaults: Option<Trex>,
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
                    let moov = Moov::decode_body(&mut &body[..])
                        .map_err(|_| DemuxError::Malformed("movie box"))?;
                    used = reader.take_movie(&moov);
                }
                b"moof" if has_movie && body_at + size <= len => {
                    let body = reader.body(body_at, size)?;
                    // What follows a broken fragment may be fine.
                    if let Ok(moof) = Moof::decode_body(&mut &body[..]) {
                        reader.take_fragment(&moof, at, &mut used);
                    }
                }
                _ => {}
            }
            at = body_at.saturating_add(size);
        }
        if !has_movie {
            return Err(DemuxError::Malformed("no movie box"));
        }
        let is_there = |sample: &Sample| sample.at.saturating_add(u64::from(sample.size)) <= len;
        reader.samples.retain(is_there);
        reader
            .samples
            .sort_by_key(|sample| (sample.decoded, sample.kind));
        reader.duration =
            (reader.samples.iter().map(|sample| sample.shown).max()).unwrap_or_default();
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

    fn take_movie(&mut self, moov: &Moov) -> Vec<Used> {
        let mut used: Vec<Used> = Vec::new();
        for trak in &moov.trak {
            let is_taken = |kind| used.iter().any(|track: &Used| track.kind == kind);
            let format = format(trak).filter(|format| !is_taken(format.kind()));
            let Some(format) = format.filter(|_| trak.mdia.mdhd.timescale > 0) else {
                if matches!(&<[u8; 4]>::from(trak.mdia.hdlr.handler), b"vide" | b"soun") {
                    self.others.push(codec_name(trak));
                }
                continue;
            };
            let edits = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
            let skipped = edits
                .and_then(|elst| {
                    let mut times = elst.entries.iter().map(|entry| entry.media_time);
                    times.find_map(|time| i64::try_from(time?).ok())
                })
                .filter(|time| *time < i64::from(u32::MAX))
                .unwrap_or(0);
            let mut track = Used {
                id: trak.tkhd.track_id,
                kind: format.kind(),
                timescale: trak.mdia.mdhd.timescale,
                skipped,
                defaults: moov.mvex.as_ref().and_then(|mvex| {
                    let mut all = mvex.trex.iter();
                    all.find(|trex| trex.track_id == trak.tkhd.track_id)
                        .cloned()
                }),
                next_ticks: 0,
            };
            self.take_table(trak, &mut track);
            self.formats.push(format);
            used.push(track);
        }
        used
    }

    /// The samples of a track that the movie box lists.
    fn take_table(&mut self, trak: &Trak, track: &mut Used) {
        let stbl = &trak.mdia.minf.stbl;
        let count = match &stbl.stsz.samples {
            StszSamples::Identical { count, .. } => *count as usize,
            StszSamples::Different { sizes } => sizes.len(),
        };
        let size = |index: usize| match &stbl.stsz.samples {
            StszSamples::Identical { size, .. } => *size,
            StszSamples::Different { sizes } => sizes.get(index).copied().unwrap_or(0),
        };
        let short = stbl.stco.iter().flat_map(|stco| &stco.entries);
        let long = stbl.co64.iter().flat_map(|co64| &co64.entries);
        let chunks = short.map(|at| u64::from(*at)).chain(long.copied());
        let mut durations = runs(&stbl.stts.entries, |entry| {
            (entry.sample_count, entry.sample_delta)
        });
        let offsets = stbl.ctts.iter().flat_map(|ctts| &ctts.entries);
        let mut offsets = Run::new(offsets.map(|entry| (entry.sample_count, entry.sample_offset)));
        let mut keys = stbl
            .stss
            .as_ref()
            .map(|stss| stss.entries.iter().peekable());
        let mut groups = stbl.stsc.entries.iter().peekable();
        let mut per_chunk = 0;
        let mut index = 0;
        let mut ticks = 0u64;
        for (number, chunk) in (1u32..).zip(chunks) {
            while let Some(group) = groups.next_if(|group| group.first_chunk <= number) {
                per_chunk = group.samples_per_chunk;
            }
            let mut at = chunk;
            for _ in 0..per_chunk {
                if index >= count || self.samples.len() >= SAMPLES_MAX {
                    return;
                }
                let number = index as u32 + 1;
                let is_key = match &mut keys {
                    Some(keys) => {
                        while keys.next_if(|key| **key < number).is_some() {}
                        keys.peek() == Some(&&number)
                    }
                    None => true,
                };
                let offset = offsets.next().unwrap_or(0);
                self.add(track, at, size(index), is_key, ticks, offset);
                at = at.saturating_add(u64::from(size(index)));
                ticks = ticks.saturating_add(u64::from(durations.next().unwrap_or(0)));
                index += 1;
            }
        }
        track.next_ticks = ticks;
    }

    fn take_fragment(&mut self, moof: &Moof, moof_at: u64, used: &mut [Used]) {
        for traf in &moof.traf {
            let header = &traf.tfhd;
            let Some(track) = used.iter_mut().find(|track| track.id == header.track_id) else {
                continue;
            };
            let defaults = track.defaults.clone().unwrap_or_default();
            let default_size = header
                .default_sample_size
                .unwrap_or(defaults.default_sample_size);
            let default_duration = header
                .default_sample_duration
                .unwrap_or(defaults.default_sample_duration);
            let default_flags = header
                .default_sample_flags
                .unwrap_or(defaults.default_sample_flags);
            let mut ticks = match &traf.tfdt {
                Some(tfdt) => tfdt.base_media_decode_time,
                None => track.next_ticks,
            };
            let base = header.base_data_offset.unwrap_or(moof_at);
            let mut at = base;
            for run in &traf.trun {
                if let Some(offset) = run.data_offset {
                    at = base.saturating_add_signed(i64::from(offset));
                }
                for index in 0..run.samples.len() {
                    if self.samples.len() >= SAMPLES_MAX {
                        return;
                    }
                    let Some(entry) = run.samples.get(index) else {
                        break;
                    };
                    let size = entry.size.unwrap_or(default_size);
                    let flags = entry.flags.unwrap_or(default_flags);
                    let offset = entry.cts.unwrap_or(0);
                    self.add(track, at, size, flags & NON_SYNC == 0, ticks, offset);
                    at = at.saturating_add(u64::from(size));
                    let duration = entry.duration.unwrap_or(default_duration);
                    ticks = ticks.saturating_add(u64::from(duration));
                }
            }
            track.next_ticks = ticks;
        }
    }

    fn add(&mut self, track: &Used, at: u64, size: u32, is_key: bool, ticks: u64, offset: i64) {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        let time = |ticks: i64| {
            let ticks = ticks.saturating_sub(track.skipped).max(0);
            let nanoseconds = i128::from(ticks) * 1_000_000_000 / i128::from(track.timescale);
            Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
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
            time: sample.shown,
            is_key: sample.is_key,
            data,
        }))
    }

    /// Goes to the last key frame before `to`; the sound goes on from there too.
    pub(crate) fn seek(&mut self, to: Duration) {
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

/// Values that are each said once for several samples.
struct Run<I, V> {
    entries: I,
    left: u32,
    value: Option<V>,
}

impl<I: Iterator<Item = (u32, V)>, V: Copy> Run<I, V> {
    fn new(entries: I) -> Self {
        Self {
            entries,
            left: 0,
            value: None,
        }
    }

    fn next(&mut self) -> Option<V> {
        while self.left == 0 {
            let (count, value) = self.entries.next()?;
            (self.left, self.value) = (count, Some(value));
        }
        self.left -= 1;
        self.value
    }
}

fn runs<'a, E, V: Copy + 'a>(
    entries: &'a [E],
    read: impl Fn(&E) -> (u32, V) + 'a,
) -> Run<impl Iterator<Item = (u32, V)> + 'a, V> {
    Run::new(entries.iter().map(read))
}

fn codec_name(trak: &Trak) -> String {
    let entry = trak.mdia.minf.stbl.stsd.codecs.first();
    let name = entry.map(|entry| match entry {
        mp4_atom::Codec::Mp4a(_) => "mp4a".to_owned(),
        mp4_atom::Codec::Hev1(_) | mp4_atom::Codec::Hvc1(_) => "hevc".to_owned(),
        mp4_atom::Codec::Unknown(kind, _) => kind.to_string(),
        _ => "another codec".to_owned(),
    });
    name.unwrap_or_else(|| "no codec".to_owned())
}

/// The content of an atom, as configuration records are kept.
fn body_of<A: Atom>(atom: &A) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes).ok()?;
    bytes.get(8..).map(<[u8]>::to_vec)
}

/// `None`: it would have to be transcoded.
fn format(trak: &Trak) -> Option<TrackFormat> {
    let video = |codec, visual: &mp4_atom::Visual, profile, configuration| TrackFormat {
        codec,
        width: visual.width,
        height: visual.height,
        channels: 0,
        profile,
        configuration,
    };
    match trak.mdia.minf.stbl.stsd.codecs.first()? {
        mp4_atom::Codec::Avc1(entry) => {
            let record = body_of(&entry.avcc)?;
            Some(video(Codec::H264, &entry.visual, 0, record))
        }
        mp4_atom::Codec::Avc3(entry) => {
            let record = body_of(&entry.avcc)?;
            Some(video(Codec::H264, &entry.visual, 0, record))
        }
        mp4_atom::Codec::Av01(entry) => {
            let record = body_of(&entry.av1c)?;
            let profile = entry.av1c.seq_profile.min(2);
            Some(video(Codec::Av1, &entry.visual, profile, record))
        }
        mp4_atom::Codec::Vp08(entry) => Some(video(Codec::Vp8, &entry.visual, 0, Vec::new())),
        mp4_atom::Codec::Vp09(entry) => {
            let profile = entry.vpcc.profile.min(3);
            Some(video(Codec::Vp9, &entry.visual, profile, Vec::new()))
        }
        mp4_atom::Codec::Opus(entry) if entry.dops.output_channel_count <= 2 => {
            Some(TrackFormat::opus(entry.dops.output_channel_count))
        }
        _ => None,
    }
}
