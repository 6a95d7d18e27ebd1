//! Reading files, whatever their container.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use forwarding::codec::Codec;

use crate::error::DemuxError;
use crate::matroska::MatroskaReader;
use crate::mp4::Mp4Reader;
use crate::stream_header::format_of;
use crate::track::{Frame, TrackFormat, TrackKind};

/// Frames that are read to learn what only the first picture says. Too low: a file that begins with seconds of sound
/// is taken for one of profile 0. Too high: opening takes long.
const LOOK_AHEAD_FRAMES: usize = 500;

/// A file that is being read: at most one track of each kind, the first that needs no transcoding.
#[derive(Debug)]
pub struct Demuxer<R> {
    reader: Reader<R>,
    formats: Vec<TrackFormat>,
}

#[derive(Debug)]
enum Reader<R> {
    Matroska(MatroskaReader<R>),
    Mp4(Mp4Reader<R>),
}

impl<R: Read + Seek> Demuxer<R> {
    /// Reads the headers of a file.
    ///
    /// # Errors
    ///
    /// If it is no media file, or none that can be sent without transcoding.
    pub fn open(mut input: R) -> Result<Self, DemuxError> {
        let mut magic = Vec::new();
        input.seek(SeekFrom::Start(0))?;
        input.by_ref().take(8).read_to_end(&mut magic)?;
        input.seek(SeekFrom::Start(0))?;
        let is_mp4 = |kind: &[u8]| matches!(kind, b"ftyp" | b"moov" | b"free" | b"mdat" | b"styp");
        let reader = if magic.get(4..8).is_some_and(is_mp4) {
            Reader::Mp4(Mp4Reader::open(input)?)
        } else {
            Reader::Matroska(MatroskaReader::open(input)?)
        };
        let (formats, others) = match &reader {
            Reader::Matroska(reader) => (reader.formats(), reader.others()),
            Reader::Mp4(reader) => (reader.formats(), reader.others()),
        };
        if formats.is_empty() {
            let names = others.join(", ");
            return Err(DemuxError::NoUsableTrack(names));
        }
        let mut demuxer = Self {
            formats: formats.to_vec(),
            reader,
        };
        demuxer.look_ahead()?;
        Ok(demuxer)
    }

    fn look_ahead(&mut self) -> Result<(), DemuxError> {
        let of_video = |format: &&mut TrackFormat| format.codec == Codec::Vp9;
        if self.formats.iter_mut().find(of_video).is_none() {
            return Ok(());
        }
        for _ in 0..LOOK_AHEAD_FRAMES {
            let Some(frame) = self.next_frame()? else {
                break;
            };
            if frame.kind == TrackKind::Video {
                if let Some(format) = self.formats.iter_mut().find(of_video)
                    && let Some(seen) = format_of(Codec::Vp9, &frame.data)
                {
                    format.profile = seen.profile;
                }
                break;
            }
        }
        self.seek(Duration::ZERO)
    }

    /// The tracks.
    pub fn formats(&self) -> &[TrackFormat] {
        &self.formats
    }

    /// Codecs of the tracks that are left out.
    pub fn others(&self) -> &[String] {
        match &self.reader {
            Reader::Matroska(reader) => reader.others(),
            Reader::Mp4(reader) => reader.others(),
        }
    }

    /// How long it is, if the file says so.
    pub fn duration(&self) -> Option<Duration> {
        match &self.reader {
            Reader::Matroska(reader) => reader.duration(),
            Reader::Mp4(reader) => Some(reader.duration()),
        }
    }

    /// The next frame in the order of decoding; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the file is broken here. Reading on may be possible after [`Self::seek`].
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DemuxError> {
        match &mut self.reader {
            Reader::Matroska(reader) => reader.next_frame(),
            Reader::Mp4(reader) => reader.next_frame(),
        }
    }

    /// Goes to a key frame not after `to`. Frames up to `to` may follow, for decoders to get there.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn seek(&mut self, to: Duration) -> Result<(), DemuxError> {
        match &mut self.reader {
            Reader::Matroska(reader) => reader.seek(to),
            Reader::Mp4(reader) => {
                reader.seek(to);
                Ok(())
            }
        }
    }
}
