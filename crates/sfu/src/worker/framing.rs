//! Frames on a TCP connection: a 16-bit big-endian length, then that many bytes (RFC 4571, section 2).
//!
//! [`FrameReader`] cuts frames out of what arrived, [`FrameWriter`] holds what has not left yet. Both
//! are bounded. Deliberately absent: sockets, and what the frames mean.

/// Longest frame accepted from a peer, in bytes. Too low: a peer with large DTLS records or jumbo RTP
/// packets is cut off. Too high: every connection may pin that much memory.
pub(super) const FRAME_BYTES_MAX: usize = 4096;

/// Bytes of one connection's read buffer: several packets of a video frame per system call.
const READ_BUFFER_BYTES: usize = 4 * FRAME_BYTES_MAX;

/// Bytes that may wait for a peer that reads slowly. Too low: a key frame does not fit. Too high:
/// what the peer gets is seconds old, and the bandwidth estimator learns too late.
const WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;

const LENGTH_BYTES: usize = 2;

/// The peer announced a frame longer than [`FRAME_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {0} bytes is too long")]
pub(super) struct FrameTooLong(usize);

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Where to read to. Never empty once [`next_frame`](Self::next_frame) has returned `None`.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Notes that `len` bytes were read into [`space`](Self::space).
    pub(super) fn advance(&mut self, len: usize) {
        self.end = (self.end + len).min(self.buffer.len());
    }

    /// The next complete frame. Empty frames are skipped.
    pub(super) fn next_frame(&mut self) -> Result<Option<&mut [u8]>, FrameTooLong> {
        loop {
            let &[high, low, ..] = &self.buffer[self.start..self.end] else {
                return Ok(None);
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > FRAME_BYTES_MAX {
                return Err(FrameTooLong(len));
            }
            let from = self.start + LENGTH_BYTES;
            if self.end - from < len {
                return Ok(None);
            }
            self.start = from + len;
            if len > 0 {
                return Ok(Some(&mut self.buffer[from..from + len]));
            }
        }
    }
}

/// Frames on their way out.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    buffer: Vec<u8>,
    written: usize,
}

impl FrameWriter {
    /// Queues a frame; false if it was dropped because it does not fit. A frame is queued whole or
    /// not at all, since half a frame would garble everything behind it.
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        let Ok(len) = u16::try_from(frame.len()) else {
            return false;
        };
        if self.pending().len() + LENGTH_BYTES + frame.len() > WRITE_BUFFER_BYTES_MAX {
            return false;
        }
        if self.buffer.len() + LENGTH_BYTES + frame.len() > WRITE_BUFFER_BYTES_MAX {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
        self.buffer.extend_from_slice(&len.to_be_bytes());
        self.buffer.extend_from_slice(frame);
        true
    }

    /// What to write next.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    /// Notes that the first `len` bytes of [`pending`](Self::pending) have been written.
    pub(super) fn advance(&mut self, len: usize) {
        self.written += len;
        if self.written >= self.buffer.len() {
            self.buffer.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(reader: &mut FrameReader, bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for part in bytes.chunks(chunk) {
            reader.space()[..part.len()].copy_from_slice(part);
            reader.advance(part.len());
            while let Some(frame) = reader.next_frame().unwrap() {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    #[test]
    fn empty_frames_are_skipped() {
        let mut reader = FrameReader::new();

        let frames = feed(&mut reader, &[0, 0, 0, 0, 0, 1, 9, 0, 0], 100);

        assert_eq!(frames, [vec![9]]);
    }

    #[test]
    fn frame_of_the_longest_length_fits_and_a_longer_one_is_refused() {
        let mut longest = u16::try_from(FRAME_BYTES_MAX)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        longest.resize(LENGTH_BYTES + FRAME_BYTES_MAX, 7);
        let mut reader = FrameReader::new();

        assert_eq!(feed(&mut reader, &longest, 1000).len(), 1);

        let len = FRAME_BYTES_MAX + 1;
        reader.space()[..2].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        reader.advance(2);
        assert_eq!(reader.next_frame(), Err(FrameTooLong(len)));
    }

    #[test]
    fn full_writer_drops_whole_frames_and_takes_more_once_drained() {
        let mut writer = FrameWriter::default();
        let frame = [3; 1000];
        let mut queued = 0;
        while writer.push(&frame) {
            queued += 1;
        }
        assert_eq!(writer.pending().len(), queued * 1002);

        writer.advance(1002);
        assert!(writer.push(&frame));
        assert!(!writer.push(&frame));
        assert_eq!(writer.pending()[..2], [0x03, 0xe8]);
        assert!(writer.buffer.len() <= WRITE_BUFFER_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1500), 1..20),
            chunk in 1_usize..4000,
        ) {
            let mut writer = FrameWriter::default();
            for frame in &frames {
                prop_assert!(writer.push(frame));
            }
            let stream = writer.pending().to_vec();

            prop_assert_eq!(feed(&mut FrameReader::new(), &stream, chunk), frames);
        }

        #[test]
        fn any_bytes_leave_room_to_read_or_end_the_connection(
            bytes in prop::collection::vec(any::<u8>(), 0..40_000),
            chunk in 1_usize..5000,
        ) {
            let mut reader = FrameReader::new();
            'connection: for part in bytes.chunks(chunk) {
                let mut rest = part;
                while !rest.is_empty() {
                    let space = reader.space();
                    prop_assert!(!space.is_empty());
                    let len = rest.len().min(space.len());
                    space[..len].copy_from_slice(&rest[..len]);
                    rest = &rest[len..];
                    reader.advance(len);
                    loop {
                        match reader.next_frame() {
                            Ok(Some(_)) => {}
                            Ok(None) => break,
                            Err(FrameTooLong(_)) => break 'connection,
                        }
                    }
                }
            }
        }
    }
}
