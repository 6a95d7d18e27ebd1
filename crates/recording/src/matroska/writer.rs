//! Writing Matroska: clusters of unknown size, made known when they end; duration, cues and sizes when the file does.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use forwarding::codec::Codec;

use super::element::{
    TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, UNKNOWN_SIZE, id, long_size, write_bytes, write_float,
    write_id, write_master, write_size, write_uint, write_void,
};
use crate::muxer::{CUES_MAX, PART_BYTES_MAX, PART_TIME_MAX};
use crate::track::{Frame, TrackFormat, TrackKind};

/// Unit of all times: one millisecond, which every player expects of WebM.
const TIMESTAMP_SCALE_NS: u64 = 1_000_000;

/// Room for the seek head, which is written last.
const SEEK_HEAD_BYTES: usize = 96;

/// `DURATION` with an eight-byte float.
const DURATION_BYTES: usize = 11;

/// What Opus decoders need to hear before a seek point (RFC 7845, section 4.6), nanoseconds.
const OPUS_PRE_ROLL_NS: u64 = 80_000_000;

/// A key frame's place.
#[derive(Clone, Copy, Debug)]
struct Cue {
    time_ms: u64,
    track: u64,
    /// Of the cluster, from the beginning of the segment's content.
    position: u64,
}

#[derive(Debug)]
struct Cluster {
    /// Where its size stands.
    size_at: u64,
    time_ms: u64,
    has_video: bool,
}

/// A Matroska file that is being written.
#[derive(Debug)]
pub(crate) struct MatroskaWriter<W> {
    out: W,
    /// Bytes written, which is where the next one goes.
    len: u64,
    /// Where the segment's content begins.
    content_at: u64,
    info_at: u64,
    duration_at: u64,
    tracks_at: u64,
    /// By position, numbers from 1.
    tracks: Vec<TrackKind>,
    cluster: Option<Cluster>,
    cues: Vec<Cue>,
    end_ms: u64,
    /// Kept for its memory.
    scratch: Vec<u8>,
}

impl<W: Write + Seek> MatroskaWriter<W> {
    /// As [`Muxer::new`](crate::Muxer::new); `prefers_webm` if no codec forbids it.
    pub(crate) fn new(out: W, prefers_webm: bool, tracks: &[TrackFormat]) -> io::Result<Self> {
        let is_webm = prefers_webm && tracks.iter().all(|track| track.codec != Codec::H264);
        let mut head = Vec::new();
        write_master(&mut head, id::EBML, |out| {
            write_uint(out, id::EBML_VERSION, 1);
            write_uint(out, id::EBML_READ_VERSION, 1);
            write_uint(out, id::EBML_MAX_ID_LENGTH, 4);
            write_uint(out, id::EBML_MAX_SIZE_LENGTH, 8);
            let doc_type: &[u8] = if is_webm { b"webm" } else { b"matroska" };
            write_bytes(out, id::DOC_TYPE, doc_type);
            write_uint(out, id::DOC_TYPE_VERSION, 4);
            write_uint(out, id::DOC_TYPE_READ_VERSION, 2);
        });
        write_id(&mut head, id::SEGMENT);
        head.extend(UNKNOWN_SIZE);
        let content_at = head.len() as u64;
        write_void(&mut head, SEEK_HEAD_BYTES);
        let info_at = head.len() as u64;
        write_master(&mut head, id::INFO, |out| {
            write_uint(out, id::TIMESTAMP_SCALE, TIMESTAMP_SCALE_NS);
            write_bytes(out, id::MUXING_APP, b"tertulia");
            write_bytes(out, id::WRITING_APP, b"tertulia");
            // The duration takes its place.
            write_void(out, DURATION_BYTES);
        });
        let tracks_at = head.len() as u64;
        let duration_at = tracks_at - DURATION_BYTES as u64;
        write_master(&mut head, id::TRACKS, |out| {
            for (number, track) in (1..).zip(tracks) {
                write_master(out, id::TRACK_ENTRY, |out| write_track(out, number, track));
            }
        });
        let mut writer = Self {
            out,
            len: 0,
            content_at,
            info_at,
            duration_at,
            tracks_at,
            tracks: tracks.iter().map(TrackFormat::kind).collect(),
            cluster: None,
            cues: Vec::new(),
            end_ms: 0,
            scratch: Vec::new(),
        };
        writer.append(&head)?;
        writer.out.flush()?;
        Ok(writer)
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len
    }

    pub(crate) fn write_frame(&mut self, frame: &Frame) -> io::Result<()> {
        let position = self.tracks.iter().position(|kind| *kind == frame.kind);
        let Some(track) = position.map(|position| position as u64 + 1) else {
            return Ok(());
        };
        let time_ms = milliseconds(frame.time);
        let is_cue = frame.kind == TrackKind::Video && frame.is_key;
        let offset = self.cluster_for(time_ms, is_cue, frame.data.len())?;
        if let Some(cluster) = &mut self.cluster {
            let begins = match frame.kind {
                TrackKind::Video => is_cue && !std::mem::replace(&mut cluster.has_video, true),
                // Without pictures every cluster is a place to seek to.
                TrackKind::Audio => self.tracks.len() == 1 && offset == 0,
            };
            let position = cluster.size_at - 4 - self.content_at;
            let is_known = self
                .cues
                .last()
                .is_some_and(|cue| cue.position == position && cue.track == track);
            if begins && !is_known && self.cues.len() < CUES_MAX {
                self.cues.push(Cue {
                    time_ms,
                    track,
                    position,
                });
            }
        }
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        write_id(&mut head, id::SIMPLE_BLOCK);
        write_size(&mut head, 4 + frame.data.len());
        write_size(&mut head, track as usize);
        head.extend(offset.to_be_bytes());
        head.push(if frame.is_key { 0x80 } else { 0 });
        self.append(&head)?;
        self.scratch = head;
        self.append(&frame.data)?;
        self.end_ms = self.end_ms.max(time_ms);
        Ok(())
    }

    /// The time of a block in the open cluster, which may have to be opened for it.
    fn cluster_for(&mut self, time_ms: u64, is_cue: bool, bytes: usize) -> io::Result<i16> {
        if let Some(cluster) = &self.cluster {
            let elapsed = time_ms as i64 - cluster.time_ms as i64;
            let written = (self.len - cluster.size_at) as usize;
            let is_full = elapsed > milliseconds(PART_TIME_MAX) as i64
                || written.saturating_add(bytes) > PART_BYTES_MAX
                || is_cue && cluster.has_video;
            if let Ok(offset) = i16::try_from(elapsed)
                && !is_full
            {
                return Ok(offset);
            }
        }
        self.close_cluster()?;
        let mut head = Vec::new();
        write_id(&mut head, id::CLUSTER);
        let size_at = self.len + head.len() as u64;
        head.extend(UNKNOWN_SIZE);
        write_uint(&mut head, id::TIMESTAMP, time_ms);
        self.append(&head)?;
        self.cluster = Some(Cluster {
            size_at,
            time_ms,
            has_video: false,
        });
        Ok(0)
    }

    fn close_cluster(&mut self) -> io::Result<()> {
        if let Some(cluster) = self.cluster.take() {
            let size = self.len - cluster.size_at - UNKNOWN_SIZE.len() as u64;
            self.patch(cluster.size_at, &long_size(size))?;
            self.out.flush()?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.close_cluster()?;
        let cues_at = self.len;
        let mut cues = Vec::new();
        write_master(&mut cues, id::CUES, |out| {
            for cue in &self.cues {
                write_master(out, id::CUE_POINT, |out| {
                    write_uint(out, id::CUE_TIME, cue.time_ms);
                    write_master(out, id::CUE_TRACK_POSITIONS, |out| {
                        write_uint(out, id::CUE_TRACK, cue.track);
                        write_uint(out, id::CUE_CLUSTER_POSITION, cue.position);
                    });
                });
            }
        });
        let has_cues = !self.cues.is_empty();
        if has_cues {
            self.append(&cues)?;
        }
        let mut seek_head = Vec::new();
        write_master(&mut seek_head, id::SEEK_HEAD, |out| {
            let places = [
                (id::INFO, self.info_at),
                (id::TRACKS, self.tracks_at),
                (id::CUES, cues_at),
            ];
            for (target, at) in places.into_iter().take(if has_cues { 3 } else { 2 }) {
                write_master(out, id::SEEK, |out| {
                    write_bytes(out, id::SEEK_ID, &target.to_be_bytes());
                    write_uint(out, id::SEEK_POSITION, at - self.content_at);
                });
            }
        });
        let left = SEEK_HEAD_BYTES - seek_head.len();
        write_void(&mut seek_head, left);
        self.patch(self.content_at, &seek_head)?;
        let mut duration = Vec::new();
        write_float(&mut duration, id::DURATION, self.end_ms as f64);
        self.patch(self.duration_at, &duration)?;
        let size = self.len - self.content_at;
        self.patch(
            self.content_at - UNKNOWN_SIZE.len() as u64,
            &long_size(size),
        )?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn patch(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(at))?;
        self.out.write_all(bytes)?;
        self.out.seek(SeekFrom::Start(self.len))?;
        Ok(())
    }
}

fn write_track(out: &mut Vec<u8>, number: u64, track: &TrackFormat) {
    write_uint(out, id::TRACK_NUMBER, number);
    write_uint(out, id::TRACK_UID, number);
    write_uint(out, id::FLAG_LACING, 0);
    let codec: &[u8] = match track.codec {
        Codec::Opus => b"A_OPUS",
        Codec::Vp8 => b"V_VP8",
        Codec::Vp9 => b"V_VP9",
        Codec::Av1 => b"V_AV1",
        _ => b"V_MPEG4/ISO/AVC",
    };
    write_bytes(out, id::CODEC_ID, codec);
    if !track.configuration.is_empty() {
        write_bytes(out, id::CODEC_PRIVATE, &track.configuration);
    }
    match track.kind() {
        TrackKind::Video => {
            write_uint(out, id::TRACK_TYPE, TRACK_TYPE_VIDEO);
            write_master(out, id::VIDEO, |out| {
                write_uint(out, id::PIXEL_WIDTH, u64::from(track.width));
                write_uint(out, id::PIXEL_HEIGHT, u64::from(track.height));
            });
        }
        TrackKind::Audio => {
            write_uint(out, id::TRACK_TYPE, TRACK_TYPE_AUDIO);
            write_uint(out, id::SEEK_PRE_ROLL, OPUS_PRE_ROLL_NS);
            write_master(out, id::AUDIO, |out| {
                write_float(out, id::SAMPLING_FREQUENCY, 48_000.0);
                write_uint(out, id::CHANNELS, u64::from(track.channels));
            });
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
