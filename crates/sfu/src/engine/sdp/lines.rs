//! Lines of a description.
