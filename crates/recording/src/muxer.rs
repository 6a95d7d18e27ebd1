//! Writing files, whatever their container.
//!
//! A [`Muxer`] writes so that a file whose writer died plays up to the last few seconds; [`Muxer::finish`] adds what
//! makes it seekable.

use std::io::{self, Seek, Write};
use std::time::Duration;

use crate::matroska::MatroskaWriter;
use crate::mp4::Mp4Writer;
use crate::track::{Frame, TrackFormat};

/// Longest part of a file that is written at once: what a crash may cost. Too low: files grow by their headers. Too
/// high: a crash costs more.
pub(crate) const PART_TIME_MAX: Duration = Duration::from_secs(4);

/// Bytes of such a part. Too low: headers. Too high: memory.
pub(crate) const PART_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Places to seek to that are written down. Too low: long files seek coarsely. Too high: memory, some 24 bytes each.
pub(crate) const CUES_MAX: usize = 100_000;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// Matroska's subset for the web; Matroska itself if a track is in a codec that WebM does not have.
    WebM,
    /// Matroska.
    Matroska,
    /// Fragmented MP4.
    Mp4,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Muxer<W> {
    writer: Writer<W>,
}

#[derive(Debug)]
enum Writer<W> {
    Matroska(MatroskaWriter<W>),
    Mp4(Mp4Writer<W>),
}

impl<W: Write + Seek> Muxer<W> {
    /// Begins a file, at the beginning of `out`, with at most one track of each kind.
    ///
    /// # Errors
    ///
    /// If `out` refuses it.
    pub fn new(out: W, container: Container, tracks: &[TrackFormat]) -> io::Result<Self> {
        let writer = match container {
            Container::WebM => Writer::Matroska(MatroskaWriter::new(out, true, tracks)?),
            Container::Matroska => Writer::Matroska(MatroskaWriter::new(out, false, tracks)?),
            Container::Mp4 => Writer::Mp4(Mp4Writer::new(out, tracks)?),
        };
        Ok(Self { writer })
    }

    /// Adds a frame. Times of one track must not decrease; frames of a kind without a track are ignored.
    ///
    /// # Errors
    ///
    /// If the file refuses it, as when the disk is full.
    pub fn write_frame(&mut self, frame: &Frame) -> io::Result<()> {
        match &mut self.writer {
            Writer::Matroska(writer) => writer.write_frame(frame),
            Writer::Mp4(writer) => writer.write_frame(frame),
        }
    }

    /// Bytes written so far.
    pub fn len_bytes(&self) -> u64 {
        match &self.writer {
            Writer::Matroska(writer) => writer.len_bytes(),
            Writer::Mp4(writer) => writer.len_bytes(),
        }
    }

    /// Completes the file: duration, and where the key frames are.
    ///
    /// # Errors
    ///
    /// If the file refuses it; it plays all the same.
    pub fn finish(self) -> io::Result<W> {
        match self.writer {
            Writer::Matroska(writer) => writer.finish(),
            Writer::Mp4(writer) => writer.finish(),
        }
    }
}
