//! Session descriptions (SDP): from a peer's text to what the engine needs, and back.
//!
//! Read [`Negotiated`] first: it is what an offer and its answer agree on. [`answer()`] makes it from a
//! peer's offer; [`offer()`] and [`PendingOffer::accept_answer`] make it the other way round. All are pure functions.
//!
//! The accepted shapes are those of Chromium and Firefox today, and of their ancestors of 2016 (Plan B, no
//! `BUNDLE`, `DTLS/SCTP 5000`). An endpoint carries one audio, one video and one data section, as Kurento's do;
//! further sections are refused, which never fails the call.
//!
//! Deliberately absent: transport candidates' lifetime, timers, and `rtc-sdp`'s parser. The latter stops at the
//! first line out of its grammar's order (hand-written offers for gateways are full of them), keeps a bare CR inside
//! a value, which a copied value would turn into a line of its own, and joins codecs through an unordered map,
//! while the order of formats is meaning. It serves the tests as an independent reader of what is written here.

mod answer;
mod candidate;
mod codec;
mod description;
mod error;
mod extension;
mod lines;
mod model;
mod offer;
mod parameters;
mod plain;
mod plan;
mod sdes;
mod write;

#[cfg(test)]
mod tests;

pub use answer::answer;
pub use candidate::{
    Candidate, CandidateAddress, CandidateError, CandidateKind, CandidateTransport, TcpKind,
};
pub use codec::{
    CODECS, CodecDescription, CodecParameters, Feedback, H264Profile, codec_match, describe_local,
};
pub use description::Description;
pub use error::SdpError;
pub use extension::Extensions;
pub use model::{DataDescription, Negotiated, RemoteStream, Section, TransportDescription};
pub use offer::{OfferedSections, PendingOffer, offer};
pub use parameters::{LocalParameters, LocalSsrcs, TRANSPORTS_MAX};
pub use plain::{
    PendingPlainOffer, PlainNegotiated, PlainPorts, PlainTransport, answer_plain, offer_plain,
};
pub use sdes::CryptoKey;
pub use write::embed_candidates;

pub use super::certificate::Fingerprint;
pub use super::dtls::DtlsRole;
pub use super::ice::Credentials as IceCredentials;
pub use forwarding::codec::Codec;
