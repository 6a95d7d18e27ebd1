//! What can be wrong with a file.

use std::io;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemuxError {
    /// The file could not be read.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// Neither Matroska nor MP4.
    #[error("not a Matroska or MP4 file")]
    UnknownContainer,
    /// The container's structure is broken; says where.
    #[error("malformed file: {0}")]
    Malformed(&'static str),
    /// Something is larger than any honest file needs; says what.
    #[error("file exceeds a limit: {0}")]
    TooLarge(&'static str),
    /// No track is in a codec that can be sent as it is; names those that are there.
    #[error("no track can be sent without transcoding: {0}")]
    NoUsableTrack(String),
}
