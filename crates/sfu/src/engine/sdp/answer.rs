//! Answers to offers.

use super::{Description, LocalParameters, Negotiated, SdpError};

/// Answers an offer. `previous` is what this endpoint negotiated last: what goes on keeps its transport and SSRCs.
///
/// Returns the text of the answer and what was agreed. Sections that cannot be used are refused, which is no error.
pub fn answer(
    _offer: &Description,
    _local: &LocalParameters,
    _previous: Option<&Negotiated>,
) -> Result<(String, Negotiated), SdpError> {
    Err(SdpError::Unacceptable("no answer"))
}
