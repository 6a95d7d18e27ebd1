//! The sans-I/O media core.

pub mod certificate;
pub mod dtls;
pub mod flow;
pub mod ice;
pub mod sctp;
pub mod sdp;
pub mod srtp;
