//! Offers, and what their answers agree to.

use super::{LocalParameters, Negotiated, SdpError};

/// Which sections an offer has, and which way media may flow in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedSections {
    /// An audio section.
    pub audio: bool,
    /// A video section.
    pub video: bool,
    /// We may send.
    pub send: bool,
    /// The peer may send.
    pub receive: bool,
}

/// An offer of ours that waits for its answer.
#[derive(Clone, Debug)]
pub struct PendingOffer {}

/// Makes an offer: audio, video and, if `local` has data channels, data, all bundled on transport 0.
pub fn offer(_local: &LocalParameters, _sections: OfferedSections) -> (String, PendingOffer) {
    (String::new(), PendingOffer {})
}

impl PendingOffer {
    /// Applies the peer's answer.
    pub fn accept_answer(&self, _answer: &str) -> Result<Negotiated, SdpError> {
        Err(SdpError::Unacceptable("no answer"))
    }
}
