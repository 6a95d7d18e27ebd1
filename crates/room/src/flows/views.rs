//! What an application can ask.

use media::{MediaServer, PipelineId};

use super::Rooms;
use crate::protocol::RoomError;
use crate::{ParticipantId, UserParticipant};

impl<M: MediaServer> Rooms<M> {
    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.0.state.lock().is_closed()
    }

    /// Names of all rooms, sorted.
    pub fn rooms(&self) -> Vec<String> {
        self.0.state.lock().room_names()
    }

    /// Who is in a room, in the order in which they joined. Errors: 202.
    pub fn participants(&self, room: &str) -> Result<Vec<UserParticipant>, RoomError> {
        self.0.state.lock().participants(room)
    }

    /// Who publishes in a room. Errors: 202.
    pub fn publishers(&self, room: &str) -> Result<Vec<UserParticipant>, RoomError> {
        let mut users = self.participants(room)?;
        users.retain(|user| user.streaming);
        Ok(users)
    }

    /// Who watches someone in a room. Errors: 202.
    pub fn subscribers(&self, room: &str) -> Result<Vec<UserParticipant>, RoomError> {
        self.0.state.lock().subscribers(room)
    }

    /// Whom the participant watches.
    pub fn peer_publishers(
        &self,
        participant: &ParticipantId,
    ) -> Result<Vec<UserParticipant>, RoomError> {
        let state = self.0.state.lock();
        state.peer_publishers(&state.seat(participant)?)
    }

    /// Who watches the participant. Errors: 105 it does not publish.
    pub fn peer_subscribers(
        &self,
        participant: &ParticipantId,
    ) -> Result<Vec<UserParticipant>, RoomError> {
        let state = self.0.state.lock();
        state.peer_subscribers(&state.seat(participant)?)
    }

    /// Name and whether it publishes.
    pub fn participant(&self, participant: &ParticipantId) -> Result<UserParticipant, RoomError> {
        let state = self.0.state.lock();
        state.user(&state.seat(participant)?)
    }

    /// Name of the participant's room.
    pub fn room_of(&self, participant: &ParticipantId) -> Result<String, RoomError> {
        Ok(self.seat(participant)?.room().to_owned())
    }

    /// The pipeline of the participant's room, for elements of the application.
    pub fn pipeline(&self, participant: &ParticipantId) -> Result<PipelineId, RoomError> {
        let state = self.0.state.lock();
        state.pipeline(&state.seat(participant)?)
    }
}
