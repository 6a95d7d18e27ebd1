//! What can go wrong at the seam.

use crate::{ElementId, PipelineId};

/// Why a media server refused or could not finish a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline was never made or has been released.
    #[error("pipeline {0} not found")]
    PipelineNotFound(PipelineId),
    /// The element was never made or has been released.
    #[error("element {0} not found")]
    ElementNotFound(ElementId),
    /// The operation does not exist for this kind of element, as ICE on a plain RTP endpoint.
    #[error("{operation} is not supported by {element}")]
    Unsupported {
        /// The element asked.
        element: ElementId,
        /// The operation, by its method name.
        operation: &'static str,
    },
    /// An endpoint negotiates once (Kurento error 40208).
    #[error("Endpoint already negotiated")]
    AlreadyNegotiated,
    /// An answer without an offer of ours (Kurento error 40209).
    #[error("Offer not generated")]
    NoOffer,
    /// The session description cannot be understood or accepted; says why.
    #[error("{0}")]
    Sdp(String),
    /// The candidate cannot be parsed; says why.
    #[error("{0}")]
    Candidate(String),
    /// Source and sink belong to different pipelines (Kurento error 40004).
    #[error("Media elements do not share pipeline")]
    DifferentPipelines,
    /// The server has no capacity left.
    #[error("media server is full: {0}")]
    Full(String),
    /// The server did not answer in time.
    #[error("media server did not answer in time")]
    Timeout,
    /// A media server behind a network refused in its own words, for a reason not listed here.
    #[error("{message}")]
    Refused {
        /// Kurento's number of the refusal.
        code: i32,
        /// Kurento's name of the refusal, such as `MARSHALL_ERROR`; may be empty.
        kind: String,
        /// For humans.
        message: String,
    },
    /// The server is gone or shutting down.
    #[error("media server is not available: {0}")]
    Unavailable(String),
}

impl Error {
    /// The code a Kurento Media Server gives for the same condition.
    pub fn kurento_code(&self) -> i32 {
        match self {
            Self::PipelineNotFound(_) | Self::ElementNotFound(_) => 40101,
            Self::Unsupported { .. } => 40111,
            Self::AlreadyNegotiated => 40208,
            Self::NoOffer => 40209,
            Self::Sdp(_) => 40201,
            Self::Candidate(_) => 40401,
            Self::DifferentPipelines => 40004,
            Self::Full(_) => 40001,
            Self::Refused { code, .. } => *code,
            Self::Timeout | Self::Unavailable(_) => 40000,
        }
    }
}
