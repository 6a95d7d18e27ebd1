//! Joining, leaving, and the life of rooms.

use std::sync::{Arc, Weak};

use media::{Error, ErrorKind, Event, EventSender, MediaServer, PipelineId, Purpose};

use super::{Inner, Reply, Rooms};
use crate::protocol::{Notification, RoomError};
use crate::rules::{Seat, State};
use crate::turn::PipelineCell;
use crate::{Join, ParticipantId, UserParticipant};

impl<M: MediaServer> Rooms<M> {
    /// Enters a room, which is made if need be. Returns who was there before. The others are told.
    ///
    /// Errors: 101 already in a room, 104 the name is taken, 201 the room is full, 203 it is closed,
    /// 204 it cannot be made, 999 the name cannot be; or what [`Application::may_create_room`] says.
    ///
    /// [`Application::may_create_room`]: crate::Application::may_create_room
    pub async fn join(
        &self,
        participant: &ParticipantId,
        join: Join,
    ) -> Result<Vec<UserParticipant>, RoomError> {
        self.join_as(participant, join, &mut Reply::nobody()).await
    }

    pub(super) async fn join_as(
        &self,
        participant: &ParticipantId,
        join: Join,
        reply: &mut Reply<'_>,
    ) -> Result<Vec<UserParticipant>, RoomError> {
        let application = &*self.0.application;
        let (seat, pipeline, filters) = {
            let mut state = self.0.state.lock();
            let (seat, pipeline) = state.begin_join(participant, join, application)?;
            let filters = application.needs_filters(seat.room(), seat.user());
            (seat, pipeline, filters)
        };
        let reservation = Reservation {
            rooms: self,
            seat: &seat,
        };
        let purpose = Purpose {
            room: seat.room(),
            user: seat.user(),
            filters,
        };
        let create = self.create_pipeline(purpose, &pipeline);
        let made = match pipeline.get_or_create(create).await {
            Ok(made) => made,
            Err(error) => {
                self.apply_effects(|state| state.fail_pipeline(&seat, &pipeline));
                return Err(error);
            }
        };
        let joined = self.apply(reply, |state| state.finish_join(&seat, application));
        drop(reservation);
        let joined = joined.inspect_err(|_| {
            if !self.0.state.lock().is_pipeline_used(seat.room(), &pipeline) {
                self.0.media.release_pipeline(&made);
            }
        })?;
        tracing::info!("participant joined");
        for (seat, filter, action) in joined.filters {
            self.follow_filter(&seat, &filter, action).await;
        }
        Ok(joined.before)
    }

    /// Takes a participant out of its room. Returns the others, who are told.
    pub fn leave(&self, participant: &ParticipantId) -> Result<Vec<UserParticipant>, RoomError> {
        let left = self.apply(&mut Reply::nobody(), |state| state.leave(participant))?;
        Ok(left.remaining)
    }

    /// Puts a participant out of its room: the others are told, then the participant. Also for
    /// sessions that are lost. One that is still joining does not arrive.
    pub fn evict(&self, participant: &ParticipantId) -> Result<(), RoomError> {
        self.apply(&mut Reply::nobody(), |state| state.evict(participant))?;
        Ok(())
    }

    /// [`evict`](Self::evict) by name. Errors: 202 no such room, 102 nobody of that name in it.
    pub fn evict_user(&self, room: &str, user: &str) -> Result<(), RoomError> {
        self.apply(&mut Reply::nobody(), |state| state.evict_user(room, user))?;
        Ok(())
    }

    /// Makes an empty room, which lasts until its last participant has left. Errors: 204.
    pub fn create_room(&self, room: &str) -> Result<(), RoomError> {
        self.apply(&mut Reply::nobody(), |state| state.create_room(room))
    }

    /// Closes a room. Returns who was in it; they are told, and their sessions stay open. Errors: 202.
    pub fn close_room(&self, room: &str) -> Result<Vec<UserParticipant>, RoomError> {
        self.apply(&mut Reply::nobody(), |state| state.close_room(room))
    }

    /// Closes all rooms for good, without telling anyone. Joins fail from here on.
    pub fn close(&self) {
        self.apply_effects(State::close);
    }

    async fn create_pipeline(
        &self,
        purpose: Purpose<'_>,
        pipeline: &PipelineCell,
    ) -> Result<PipelineId, RoomError> {
        let events = self.pipeline_events(purpose.room, pipeline);
        let create = self.0.media.create_pipeline_for(purpose, events);
        self.within_deadline(create).await.map_err(|error| {
            tracing::warn!(%error, "no pipeline for a room");
            match error {
                Error::Full(_) => RoomError::no_resources(),
                _ => RoomError::pipeline(purpose.room),
            }
        })
    }

    /// A failing pipeline is told to its whole room; one that is lost ends it. This takes the lock, on a thread of the media
    /// server: the list of participants is in there, and pipelines do not fail often.
    fn pipeline_events(&self, room: &str, pipeline: &PipelineCell) -> EventSender {
        let inner: Weak<Inner<M>> = Arc::downgrade(&self.0);
        let room = room.to_owned();
        let pipeline = pipeline.clone();
        EventSender::new(move |event| {
            let Event::Error {
                kind,
                description,
                code,
            } = event
            else {
                return;
            };
            if let Some(inner) = inner.upgrade() {
                let error = Notification::media_error(&kind, &description, code);
                let rooms = Self(inner);
                rooms.apply_effects(|state| {
                    let mut effects = state.pipeline_failed(&room, &pipeline, error);
                    if kind == ErrorKind::ServerLost {
                        state.lose_pipeline(&room, &pipeline, &mut effects);
                    }
                    effects
                });
            }
        })
    }
}

/// Gives the name back when joining ends, if it did not succeed.
struct Reservation<'a, M: MediaServer> {
    rooms: &'a Rooms<M>,
    seat: &'a Seat,
}

impl<M: MediaServer> Drop for Reservation<'_, M> {
    fn drop(&mut self) {
        self.rooms
            .apply_effects(|state| state.abandon_join(self.seat));
    }
}
