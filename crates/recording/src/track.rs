//! What files hold: tracks and frames.

use std::time::Duration;

use forwarding::codec::Codec;

/// Bytes of one frame. A key frame of 4K video has some 100 kB. Too low: frames of lossless screens are dropped. Too
/// high: a hostile file or publisher makes us hold as much.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Sound or pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl TrackKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Audio, Self::Video];

    /// The kind of a codec's track; `None` for codecs that files of ours cannot hold.
    pub fn of(codec: Codec) -> Option<Self> {
        match codec {
            Codec::Opus => Some(Self::Audio),
            Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::H264 => Some(Self::Video),
            _ => None,
        }
    }
}

/// What a file says about a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFormat {
    /// One that [`TrackKind::of`] knows.
    pub codec: Codec,
    /// Pixels; 0 for audio.
    pub width: u16,
    /// Pixels; 0 for audio.
    pub height: u16,
    /// Channels; 0 for video.
    pub channels: u8,
    /// Codec profile, where RTP tells profiles apart: VP9 and AV1, 0 to 3. Otherwise 0.
    pub profile: u8,
    /// What decoders need beside the frames: `AVCDecoderConfigurationRecord`, `AV1CodecConfigurationRecord` or
    /// `OpusHead`. Empty for VP8 and VP9.
    pub configuration: Vec<u8>,
}

impl TrackFormat {
    /// Opus as browsers send it. `OpusHead` is that of RFC 7845, section 5.1.
    pub fn opus(channels: u8) -> Self {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(channels);
        // No pre-skip: recording begins in the middle of a stream.
        head.extend([0, 0]);
        head.extend(48_000u32.to_le_bytes());
        head.extend([0, 0, 0]);
        Self {
            codec: Codec::Opus,
            width: 0,
            height: 0,
            channels,
            profile: 0,
            configuration: head,
        }
    }

    /// Sound or pictures.
    pub fn kind(&self) -> TrackKind {
        match self.codec {
            Codec::Opus => TrackKind::Audio,
            _ => TrackKind::Video,
        }
    }
}

/// One coded picture, or one packet of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of the track.
    pub kind: TrackKind,
    /// When it is shown, from the beginning of the file.
    pub time: Duration,
    /// Decoding can begin here. Always true for audio.
    pub is_key: bool,
    /// As Matroska has it: H.264 as NAL units behind their lengths of four bytes, AV1 as OBUs with sizes and without
    /// temporal delimiters.
    pub data: Vec<u8>,
}
