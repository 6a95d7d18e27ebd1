//! Recording RTP into files and playing files as RTP, without touching a coded picture.
//!
//! Start with [`recorder::Recorder`] and [`player::Player`]: state machines that take packets or time and leave bytes
//! or packets, so that a day of recording is a test of milliseconds. [`io`] runs each on a thread of its own, and
//! [`place::Place`] says which files they may touch. Files are WebM, Matroska or fragmented MP4; codecs are VP8, VP9,
//! AV1, H.264 and Opus. Deliberately absent: decoding and encoding, sockets, and who sends the packets.

mod bits;
pub mod demuxer;
mod error;
pub mod io;
mod matroska;
mod mp4;
mod muxer;
pub mod place;
pub mod player;
pub mod recorder;
pub mod rtp;
mod stream_header;
mod track;

pub use error::DemuxError;
pub use muxer::{Container, Muxer};
pub use track::{FRAME_BYTES_MAX, Frame, TrackFormat, TrackKind};
