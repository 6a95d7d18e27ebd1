//! What the room SDK needs from whoever embeds it.

use media::ElementKind;

use crate::protocol::{Notification, RoomError};
use crate::{ParticipantId, UserParticipant};

/// The way out to the clients, and the decisions that are the application's.
///
/// Every method is called with the state of the rooms locked, on any thread, media threads included:
/// it must neither block nor call [`Rooms`](crate::Rooms). Failures to reach a client are the
/// application's to handle; they must not keep the others from being told.
pub trait Application: Send + Sync + 'static {
    /// Puts `notification` into the outbox of each of `receivers`, of which there is at least one.
    fn notify(&self, receivers: &[ParticipantId], notification: Notification);

    /// Closes the session once everything in its outbox is sent.
    fn close_session(&self, participant: &ParticipantId);

    /// Whether `user` may make `room` by joining it. An `Err` is what the user is told, usually
    /// [`RoomError::room_must_be_created`] or [`RoomError::creator_refused`].
    fn may_create_room(&self, room: &str, user: &str) -> Result<(), RoomError> {
        let _ = (room, user);
        Ok(())
    }

    /// Whether media is going to be changed in a room that `user` makes by joining it: it is then made on a media
    /// server that can, if there is one.
    fn needs_filters(&self, room: &str, user: &str) -> bool {
        let _ = (room, user);
        false
    }

    /// What became of the media of `participant`, or of the whole room: what clients are told for which
    /// [`Notification::needs_media_events`], whether there is such a client or not.
    fn media_changed(
        &self,
        room: &str,
        participant: Option<&ParticipantId>,
        change: &Notification,
    ) {
        let _ = (room, participant, change);
    }

    /// The state that follows `state` of a room-wide filter; `None` is no state, so that newcomers
    /// get nothing.
    fn next_filter_state(&self, room: &str, filter: &str, state: Option<&str>) -> Option<String> {
        let _ = (room, filter, state);
        None
    }

    /// What a state of a room-wide filter means for one participant: called for everyone when the
    /// state changes, and for a newcomer before it is answered.
    fn filter_changed(
        &self,
        room: &str,
        participant: &UserParticipant,
        filter: &str,
        state: Option<&str>,
    ) -> FilterChange {
        let _ = (room, participant, filter, state);
        FilterChange::default()
    }
}

/// The answer of [`Application::filter_changed`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterChange {
    /// For the participant.
    pub notification: Option<Notification>,
    /// For the participant's chain of media elements.
    pub action: FilterAction,
}

/// What to do with the element that stands for a filter in a participant's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterAction {
    /// Nothing.
    #[default]
    Keep,
    /// Puts the element in, and makes it first if there is none.
    Apply(ElementKind),
    /// Takes the element out and keeps it.
    Disable,
    /// Takes the element out and releases it.
    Remove,
}
