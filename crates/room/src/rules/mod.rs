//! The rules: who may do what, and who is told. Pure: no media server, no waiting, no clock.
//!
//! Read [`State`] first. A change answers with [`Effects`], the ordered list of what must go out and
//! be released because of it. Flows fetch a draft, let the media server work, and come back with
//! what they made; a [`Seat`] that is gone by then is an answer like any other.

mod chain;
mod delivery;
mod effects;
mod participant;
mod publication;
mod room;
mod selection;
mod speakers;
mod state;
mod subscription;
mod types;
mod views;
mod wiring;

pub(crate) use delivery::News;
pub(crate) use effects::{Effects, Notice, Release};
pub(crate) use participant::{
    ChainElement, Endpoint, Gate, Published, Remote, Scope, publication_wish,
};
pub(crate) use publication::PublishDraft;
pub(crate) use state::{MemberId, Seat, State};
pub use types::{Join, Loopback, MutedMedia, ParticipantId, Publish, Sdp, UserParticipant};
pub(crate) use wiring::{Kinds, Step, Wiring};
