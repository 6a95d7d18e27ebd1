//! Identities of media objects, in Kurento's textual form.

use std::fmt;
use std::sync::Arc;

/// A media pipeline: elements can only be connected inside one.
///
/// Text such as `6c8bba11_kurento.MediaPipeline`; opaque to everyone but the server that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId(Arc<str>);

/// A media element (an endpoint, a pass-through…).
///
/// Text such as `6c8bba11_kurento.MediaPipeline/0f3d_kurento.WebRtcEndpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElementId(Arc<str>);

impl PipelineId {
    /// Wraps the text form.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ElementId {
    /// Wraps the text form.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ElementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
