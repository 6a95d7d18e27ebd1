//! What the application can ask about rooms and participants.

use media::{ElementId, PipelineId};

use super::Effects;
use super::participant::Participant;
use super::state::{Seat, State};
use crate::UserParticipant;
use crate::protocol::{Notification, RoomError};
use crate::turn::PipelineCell;

impl State {
    pub(crate) fn participants(&self, room: &str) -> Result<Vec<UserParticipant>, RoomError> {
        Ok(self.room(room)?.users())
    }

    /// Those who watch someone. A loopback does not count.
    pub(crate) fn subscribers(&self, room: &str) -> Result<Vec<UserParticipant>, RoomError> {
        let members = self.room(room)?.members.values();
        let watching = members.filter(|member| {
            let mut feeds = member.feeds.values();
            feeds.any(|feed| feed.subscription.is_some())
        });
        Ok(watching.map(Participant::user).collect())
    }

    /// Those whom the participant watches.
    pub(crate) fn peer_publishers(&self, seat: &Seat) -> Result<Vec<UserParticipant>, RoomError> {
        let participant = self.participant(seat)?;
        let members = self.room(seat.room())?.members.iter();
        let watched = members.filter(|(member, _)| participant.is_watching(**member));
        Ok(watched.map(|(_, member)| member.user()).collect())
    }

    /// Those who watch the participant.
    pub(crate) fn peer_subscribers(&self, seat: &Seat) -> Result<Vec<UserParticipant>, RoomError> {
        let participant = self.participant(seat)?;
        if participant.published().is_none() {
            return Err(RoomError::not_a_publisher(&participant.id));
        }
        let members = self.room(seat.room())?.members.values();
        let watching = members.filter(|member| member.is_watching(seat.member));
        Ok(watching.map(Participant::user).collect())
    }

    pub(crate) fn user(&self, seat: &Seat) -> Result<UserParticipant, RoomError> {
        Ok(self.participant(seat)?.user())
    }

    pub(crate) fn pipeline(&self, seat: &Seat) -> Result<PipelineId, RoomError> {
        self.participant(seat)?;
        Ok(self.room(seat.room())?.pipeline())
    }

    pub(crate) fn elements(&self, seat: &Seat) -> Result<Vec<ElementId>, RoomError> {
        let chain = &self.participant(seat)?.chain;
        Ok(chain.iter().map(|element| element.id.clone()).collect())
    }

    /// A pipeline failed: its room is told, if there is one still.
    pub(crate) fn pipeline_failed(
        &self,
        room: &str,
        pipeline: &PipelineCell,
        error: Notification,
    ) -> Effects {
        let mut effects = Effects::default();
        match self.room(room) {
            Ok(room) if room.pipeline.is(pipeline) => effects.notify(room.everyone(), error),
            Ok(_) | Err(_) => {}
        }
        effects
    }
}
