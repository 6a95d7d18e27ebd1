//! Matroska and WebM (RFC 9559).

mod element;
mod reader;
mod writer;

pub(crate) use reader::MatroskaReader;
pub(crate) use writer::MatroskaWriter;
