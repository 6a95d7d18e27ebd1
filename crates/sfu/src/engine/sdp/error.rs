//! Why a description cannot be used.

/// Why a description cannot be used. The texts of the first three are what Kurento's clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// The offer is empty.
    #[error("Empty offer not valid")]
    Empty,
    /// The answer is empty.
    #[error("Empty answer not valid")]
    EmptyAnswer,
    /// The text is no session description, or is larger than any honest one. Carries the reason, for logs.
    #[error("Error parsing SDP")]
    Malformed(&'static str),
    /// The text is well formed but does not fit what was negotiated before. Carries the reason.
    #[error("{0}")]
    Unacceptable(&'static str),
}
