//! MP4 (ISO/IEC 14496-12): fragmented when written, of either kind when read.

mod boxes;
mod reader;
mod writer;

pub(crate) use reader::Mp4Reader;
pub(crate) use writer::Mp4Writer;
