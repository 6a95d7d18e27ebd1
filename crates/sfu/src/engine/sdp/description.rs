//! A peer's description, read.

use super::SdpError;

/// A peer's description, read and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {}

impl Description {
    /// Reads an offer or answer.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.is_empty() {
            Err(SdpError::Empty)
        } else {
            Ok(Self {})
        }
    }
}
