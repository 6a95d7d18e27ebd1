//! Reading Matroska: one pass from cluster to cluster, and back to a key frame by the cues, or by counting through.
//!
//! Nothing is believed about sizes: what is kept is limited, the rest is skipped where it stands.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use forwarding::codec::Codec;

use super::element::{TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, id};
use crate::error::DemuxError;
use crate::muxer::CUES_MAX;
use crate::track::{FRAME_BYTES_MAX, Frame, TrackFormat, TrackKind};

/// Tracks of a file that are looked at. Too low: a film's sound in many languages hides its picture. Too high: work.
const TRACKS_MAX: usize = 64;

/// Bytes of one header element (info, tracks): codec data and names. Too low: rich files are refused. Too high: memory.
const HEADER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of the cues, all of which are read at once.
const CUES_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Frames in one block. More than 256 cannot be told (RFC 9559, section 10.3).
const LACES_MAX: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Track {
    number: u64,
    kind: TrackKind,
}

/// The head of an element.
#[derive(Clone, Copy, Debug)]
struct Head {
    id: u32,
    /// `None`: up to the next element of its level.
    size: Option<u64>,
}

/// A Matroska file that is being read.
#[derive(Debug)]
pub(crate) struct MatroskaReader<R> {
    input: R,
    /// Where the next byte is read.
    at: u64,
    /// Length of the file.
    len: u64,
    content_at: u64,
    clusters_at: u64,
    scale_ns: u64,
    duration: Option<Duration>,
    used: Vec<Track>,
    formats: Vec<TrackFormat>,
    others: Vec<String>,
    /// Times and places of clusters, by time.
    cues: Vec<(Duration, u64)>,
    cluster_time: u64,
    frames: VecDeque<Frame>,
}

impl<R: Read + Seek> MatroskaReader<R> {
    /// Reads up to the first cluster; `input` stands at the beginning.
    pub(crate) fn open(mut input: R) -> Result<Self, DemuxError> {
        let len = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let mut reader = Self {
            input,
            at: 0,
            len,
            content_at: 0,
            clusters_at: 0,
            scale_ns: 1_000_000,
            duration: None,
            used: Vec::new(),
            formats: Vec::new(),
            others: Vec::new(),
            cues: Vec::new(),
            cluster_time: 0,
            frames: VecDeque::new(),
        };
        reader.read_headers()?;
        Ok(reader)
    }

    pub(crate) fn formats(&self) -> &[TrackFormat] {
        &self.formats
    }

    /// Codec ids of the tracks that are not used.
    pub(crate) fn others(&self) -> &[String] {
        &self.others
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.duration
    }

    fn read_headers(&mut self) -> Result<(), DemuxError> {
        let head = self.head()?.ok_or(DemuxError::UnknownContainer)?;
        if head.id != id::EBML {
            return Err(DemuxError::UnknownContainer);
        }
        self.skip(head.size.ok_or(DemuxError::Malformed("EBML header"))?)?;
        loop {
            let head = self.head()?.ok_or(DemuxError::Malformed("no segment"))?;
            if head.id == id::SEGMENT {
                break;
            }
            self.skip(head.size.ok_or(DemuxError::Malformed("no segment"))?)?;
        }
        self.content_at = self.at;
        let mut cues_at = None;
        let mut duration_units = None;
        loop {
            let start = self.at;
            let Some(head) = self.head()? else { break };
            let size = match (head.id, head.size) {
                (id::CLUSTER, _) => {
                    self.seek_to(start)?;
                    break;
                }
                (_, Some(size)) => size,
                (_, None) => return Err(DemuxError::Malformed("element without size")),
            };
            match head.id {
                id::INFO => {
                    let content = self.content(size, HEADER_BYTES_MAX)?;
                    for (id, value) in Elements(&content) {
                        match id {
                            id::TIMESTAMP_SCALE => self.scale_ns = uint(value).max(1),
                            id::DURATION => duration_units = float(value),
                            _ => {}
                        }
                    }
                }
                id::TRACKS => {
                    let content = self.content(size, HEADER_BYTES_MAX)?;
                    self.read_tracks(&content);
                }
                id::SEEK_HEAD => {
                    let content = self.content(size, HEADER_BYTES_MAX)?;
                    cues_at = cues_at.or(find_cues(&content));
                }
                id::CUES => {
                    let content = self.content(size, CUES_BYTES_MAX)?;
                    self.read_cues(&content);
                }
                _ => self.skip(size)?,
            }
        }
        self.clusters_at = self.at;
        self.duration = duration_units
            .map(|units| units * self.scale_ns as f64 / 1e9)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if let (Some(at), true) = (cues_at, self.cues.is_empty()) {
            // Files that were cut off point behind their end.
            let _ = self.load_cues(at);
            self.seek_to(self.clusters_at)?;
        }
        Ok(())
    }

    fn load_cues(&mut self, position: u64) -> Result<(), DemuxError> {
        let at = self.content_at.saturating_add(position);
        if at >= self.len {
            return Ok(());
        }
        self.seek_to(at)?;
        if let Some(Head {
            id: id::CUES,
            size: Some(size),
        }) = self.head()?
        {
            let content = self.content(size, CUES_BYTES_MAX)?;
            self.read_cues(&content);
        }
        Ok(())
    }

    fn read_tracks(&mut self, content: &[u8]) {
        for (_, entry) in Elements(content)
            .filter(|(id, _)| *id == id::TRACK_ENTRY)
            .take(TRACKS_MAX)
        {
            let entry = TrackEntry::read(entry);
            let kind = match entry.kind {
                TRACK_TYPE_VIDEO => TrackKind::Video,
                TRACK_TYPE_AUDIO => TrackKind::Audio,
                _ => continue,
            };
            let is_taken = self.used.iter().any(|track| track.kind == kind);
            match entry.format(kind) {
                Some(format) if !is_taken => {
                    self.used.push(Track {
                        number: entry.number,
                        kind,
                    });
                    self.formats.push(format);
                }
                _ => self.others.push(entry.codec.to_owned()),
            }
        }
    }

    fn read_cues(&mut self, content: &[u8]) {
        let video = self
            .used
            .iter()
            .find(|track| track.kind == TrackKind::Video);
        let wanted = video.or(self.used.first()).map(|track| track.number);
        let points = Elements(content).filter(|(id, _)| *id == id::CUE_POINT);
        for (_, point) in points.take(CUES_MAX) {
            let time = Elements(point).find(|(id, _)| *id == id::CUE_TIME);
            let Some(time) = time.map(|(_, value)| self.time(uint(value) as i64)) else {
                continue;
            };
            for (_, place) in Elements(point).filter(|(id, _)| *id == id::CUE_TRACK_POSITIONS) {
                let value = |wanted| Elements(place).find(|(id, _)| *id == wanted);
                let track = value(id::CUE_TRACK).map(|(_, value)| uint(value));
                let Some((_, position)) = value(id::CUE_CLUSTER_POSITION) else {
                    continue;
                };
                let at = self.content_at.saturating_add(uint(position));
                if track == wanted && (self.content_at..self.len).contains(&at) {
                    self.cues.push((time, at));
                    break;
                }
            }
        }
        self.cues.sort_unstable();
    }

    /// The next frame of a used track; `None` at the end.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, DemuxError> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            let Some(head) = self.head()? else {
                return Ok(None);
            };
            match (head.id, head.size) {
                // Their content follows.
                (id::CLUSTER | id::SEGMENT, _) => {}
                (_, None) => return Err(DemuxError::Malformed("element without size")),
                // Of a file that was cut off the last element is short.
                (_, Some(size)) if size > self.len.saturating_sub(self.at) => return Ok(None),
                (id::TIMESTAMP, Some(size)) => {
                    self.cluster_time = uint(&self.content(size, 8)?);
                }
                (id::SIMPLE_BLOCK, Some(size)) => {
                    let content = self.content(size, FRAME_BYTES_MAX as u64)?;
                    self.read_block(&content, None);
                }
                (id::BLOCK_GROUP, Some(size)) => {
                    let content = self.content(size, FRAME_BYTES_MAX as u64)?;
                    let mut refers = false;
                    let mut block = None;
                    for (id, value) in Elements(&content) {
                        match id {
                            id::BLOCK => block = Some(value),
                            id::REFERENCE_BLOCK => refers = true,
                            _ => {}
                        }
                    }
                    if let Some(block) = block {
                        self.read_block(block, Some(!refers));
                    }
                }
                (_, Some(size)) => self.skip(size)?,
            }
        }
    }

    fn read_block(&mut self, block: &[u8], is_key: Option<bool>) {
        let Some((number, rest)) = read_vint(block) else {
            return;
        };
        let Some(track) = self.used.iter().find(|track| track.number == number) else {
            return;
        };
        let kind = track.kind;
        let [t0, t1, flags, data @ ..] = rest else {
            return;
        };
        let offset = i64::from(i16::from_be_bytes([*t0, *t1]));
        let time = self.time((self.cluster_time as i64).saturating_add(offset));
        let is_key = kind == TrackKind::Audio || is_key.unwrap_or(flags & 0x80 != 0);
        let Some(laces) = split_laces(*flags, data) else {
            return;
        };
        for (number, lace) in (0..).zip(laces) {
            // Laced packets do not say their times; 20 ms is what Opus has by far most.
            let time = time + Duration::from_millis(20) * number;
            self.frames.push_back(Frame {
                kind,
                time,
                is_key,
                data: lace.to_vec(),
            });
        }
    }

    /// Goes to the last place before `to` at which a cluster begins with what can be decoded; the caller reads on from
    /// there.
    pub(crate) fn seek(&mut self, to: Duration) -> Result<(), DemuxError> {
        let behind = self.cues.partition_point(|(time, _)| *time <= to);
        let at = match behind.checked_sub(1) {
            Some(cue) => self.cues[cue].1,
            None => self.clusters_at,
        };
        self.frames.clear();
        self.seek_to(at)
    }

    fn time(&self, units: i64) -> Duration {
        let nanoseconds = i128::from(units.max(0)) * i128::from(self.scale_ns);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// The head of the next element; `None` at the end of the file.
    fn head(&mut self) -> Result<Option<Head>, DemuxError> {
        let mut bytes = [0; 12];
        let filled = self.peek(&mut bytes)?;
        let Some(first) = bytes[..filled].first() else {
            return Ok(None);
        };
        let id_len = first.leading_zeros() as usize + 1;
        if id_len > 4 {
            return Err(DemuxError::Malformed("element id"));
        }
        let Some(size_first) = bytes[..filled].get(id_len) else {
            return Ok(None);
        };
        let size_len = size_first.leading_zeros() as usize + 1;
        if size_len > 8 {
            return Err(DemuxError::Malformed("element size"));
        }
        let Some(size_bytes) = bytes[..filled].get(id_len..id_len + size_len) else {
            return Ok(None);
        };
        let id = bytes[..id_len]
            .iter()
            .fold(0, |all, byte| all << 8 | u32::from(*byte));
        let marked = size_bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
        let mask = (1u64 << (7 * size_len)) - 1;
        let size = Some(marked & mask).filter(|size| *size != mask);
        self.seek_to(self.at + (id_len + size_len) as u64)?;
        Ok(Some(Head { id, size }))
    }

    /// Reads without going on; the answer is how much there was.
    fn peek(&mut self, bytes: &mut [u8]) -> Result<usize, DemuxError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    fn content(&mut self, size: u64, max: u64) -> Result<Vec<u8>, DemuxError> {
        if size > max {
            return Err(DemuxError::TooLarge("element"));
        }
        if size > self.len.saturating_sub(self.at) {
            return Err(DemuxError::Malformed("element is cut off"));
        }
        let mut content = vec![0; size as usize];
        self.input.read_exact(&mut content)?;
        self.at += size;
        Ok(content)
    }

    fn skip(&mut self, size: u64) -> Result<(), DemuxError> {
        let to = self.at.checked_add(size).filter(|to| *to <= self.len);
        self.seek_to(to.unwrap_or(self.len))
    }

    fn seek_to(&mut self, at: u64) -> Result<(), DemuxError> {
        self.input.seek(SeekFrom::Start(at))?;
        self.at = at;
        Ok(())
    }
}

#[derive(Default)]
struct TrackEntry<'a> {
    number: u64,
    kind: u64,
    codec: &'a str,
    private: &'a [u8],
    width: u64,
    height: u64,
    channels: u64,
    is_encoded: bool,
}

impl<'a> TrackEntry<'a> {
    fn read(content: &'a [u8]) -> Self {
        let mut entry = Self {
            channels: 1,
            ..Self::default()
        };
        for (id, value) in Elements(content) {
            match id {
                id::TRACK_NUMBER => entry.number = uint(value),
                id::TRACK_TYPE => entry.kind = uint(value),
                id::CODEC_ID => {
                    let text = std::str::from_utf8(value).unwrap_or("unknown");
                    entry.codec = text.trim_end_matches('\0');
                }
                id::CODEC_PRIVATE => entry.private = value,
                id::CONTENT_ENCODINGS => entry.is_encoded = true,
                id::VIDEO => {
                    for (id, value) in Elements(value) {
                        match id {
                            id::PIXEL_WIDTH => entry.width = uint(value),
                            id::PIXEL_HEIGHT => entry.height = uint(value),
                            _ => {}
                        }
                    }
                }
                id::AUDIO => {
                    let channels = Elements(value).find(|(id, _)| *id == id::CHANNELS);
                    entry.channels = channels.map_or(1, |(_, value)| uint(value));
                }
                _ => {}
            }
        }
        entry
    }

    /// `None`: it would have to be transcoded.
    fn format(&self, kind: TrackKind) -> Option<TrackFormat> {
        let codec = match self.codec {
            "V_VP8" => Codec::Vp8,
            "V_VP9" => Codec::Vp9,
            "V_AV1" => Codec::Av1,
            "V_MPEG4/ISO/AVC" => Codec::H264,
            "A_OPUS" => Codec::Opus,
            _ => return None,
        };
        if self.is_encoded || TrackKind::of(codec) != Some(kind) {
            return None;
        }
        let channels = u8::try_from(self.channels).unwrap_or(u8::MAX);
        if codec == Codec::Opus && channels > 2 {
            return None;
        }
        Some(TrackFormat {
            codec,
            width: u16::try_from(self.width).unwrap_or(0),
            height: u16::try_from(self.height).unwrap_or(0),
            channels: if codec == Codec::Opus { channels } else { 0 },
            profile: match codec {
                Codec::Av1 => self.private.get(1).map_or(0, |byte| byte >> 5).min(2),
                // In the first frame; the demuxer looks there.
                _ => 0,
            },
            configuration: self.private.to_vec(),
        })
    }
}

/// The position of the cues by a seek head.
fn find_cues(seek_head: &[u8]) -> Option<u64> {
    Elements(seek_head)
        .filter(|(id, _)| *id == id::SEEK)
        .find_map(|(_, seek)| {
            let value = |wanted| Elements(seek).find(|(id, _)| *id == wanted);
            let (_, target) = value(id::SEEK_ID)?;
            let (_, position) = value(id::SEEK_POSITION)?;
            (uint(target) == u64::from(id::CUES)).then(|| uint(position))
        })
}

/// The elements in a piece of memory: ids and values. Ends at the first that does not fit.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.0.first()?;
        let id_len = first.leading_zeros() as usize + 1;
        let (id, rest) = self.0.split_at_checked(id_len).filter(|_| id_len <= 4)?;
        let (size, rest) = read_vint(rest)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        self.0 = rest;
        let id = id.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
        Some((id, value))
    }
}

/// A number whose length is told by its leading zeros.
fn read_vint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = bytes.first()?.leading_zeros() as usize + 1;
    let (number, rest) = bytes.split_at_checked(len).filter(|_| len <= 8)?;
    let marked = number
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte));
    Some((marked & ((1 << (7 * len)) - 1), rest))
}

fn uint(value: &[u8]) -> u64 {
    let bytes = value.iter().take(8);
    bytes.fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn float(value: &[u8]) -> Option<f64> {
    match value.len() {
        4 => Some(f64::from(f32::from_be_bytes(value.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// The frames of a block (RFC 9559, section 10.3).
fn split_laces(flags: u8, data: &[u8]) -> Option<Vec<&[u8]>> {
    let lacing = flags >> 1 & 3;
    if lacing == 0 {
        return Some(vec![data]);
    }
    let (count, mut rest) = data.split_first()?;
    let count = usize::from(*count) + 1;
    debug_assert!(count <= LACES_MAX);
    let mut sizes = Vec::with_capacity(count);
    match lacing {
        1 => {
            for _ in 1..count {
                let mut size = 0;
                loop {
                    let (byte, behind) = rest.split_first()?;
                    rest = behind;
                    size += usize::from(*byte);
                    if *byte < 255 {
                        break;
                    }
                }
                sizes.push(size);
            }
        }
        2 => {
            if rest.len() % count != 0 {
                return None;
            }
            sizes = vec![rest.len() / count; count - 1];
        }
        _ => {
            let mut size = 0i64;
            for number in 1..count {
                let len = rest.first()?.leading_zeros() as usize + 1;
                let (value, behind) = read_vint(rest)?;
                rest = behind;
                let value = i64::try_from(value).ok()?;
                size = match number {
                    1 => value,
                    // The difference to the one before, around the middle of what its length can say.
                    _ => size.checked_add(value - ((1i64 << (7 * len - 1)) - 1))?,
                };
                sizes.push(usize::try_from(size).ok()?);
            }
        }
    }
    let mut laces = Vec::with_capacity(count);
    for size in sizes {
        let (lace, behind) = rest.split_at_checked(size)?;
        laces.push(lace);
        rest = behind;
    }
    laces.push(rest);
    Some(laces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laces_are_split() {
        let check = |flags, data: &[u8], expected: &[&[u8]]| {
            assert_eq!(split_laces(flags, data).unwrap(), expected, "{flags:#x}");
        };
        check(0x00, &[1, 2], &[&[1, 2]]);
        check(0x02, &[1, 2, 9, 9, 8], &[&[9, 9], &[8]]);
        check(0x04, &[1, 9, 8], &[&[9], &[8]]);
        // Sizes 1, then 1 more than before, then the rest.
        check(0x06, &[2, 0x81, 0xc0, 9, 8, 8, 7], &[&[9], &[8, 8], &[7]]);
        assert_eq!(split_laces(0x02, &[200, 255]), None);
    }
}
