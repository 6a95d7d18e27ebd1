//! Placeholder: the scripted media server.

/// Placeholder.
pub struct Fake;
/// Placeholder.
pub struct Call;
/// Placeholder.
pub struct Script;
