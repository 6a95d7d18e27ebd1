//! All rooms of a process, and the changes of who is in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use media::PeerId;

use super::delivery::Attention;
use super::participant::Participant;
use super::room::{Room, check_names, check_room_name};
use super::{Effects, Notice};
use crate::protocol::{Notification, Peer, Response, RoomError};
use crate::turn::{PipelineCell, Turn};
use crate::{
    Application, FilterAction, Join, Limits, Options, ParticipantId, Selection, UserParticipant,
};

/// Every room. One value under one lock: a participant is in one room at a time, which is a rule over
/// all rooms, and changes take microseconds.
pub(crate) struct State {
    limits: Limits,
    always_send_streams: bool,
    selection: Selection,
    closed: bool,
    last_member: u64,
    pub(super) rooms: BTreeMap<String, Room>,
    seats: HashMap<ParticipantId, Seat>,
    pub(super) attention: Attention,
}

/// A stay of a participant in a room. Whoever leaves and joins again is another member, so a flow that
/// finishes late finds its member gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(u64);

#[cfg(test)]
impl MemberId {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// Where a participant is.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(super) room: Arc<str>,
    pub(super) member: MemberId,
    pub(super) user: Arc<str>,
}

impl Seat {
    pub(crate) fn new(room: &str, member: MemberId, user: &str) -> Self {
        Self {
            room: room.into(),
            member,
            user: user.into(),
        }
    }

    pub(crate) fn gone(&self) -> RoomError {
        RoomError::participant_closed(&self.user)
    }

    pub(crate) fn room(&self) -> &str {
        &self.room
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// What all endpoints of this stay share.
    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.member.0)
    }
}

impl State {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            limits: options.limits.clone(),
            always_send_streams: options.always_send_streams,
            selection: options.selection,
            closed: false,
            last_member: 0,
            rooms: BTreeMap::new(),
            seats: HashMap::new(),
            attention: Attention::default(),
        }
    }

    // Joining, in three acts: reserve the name, have a pipeline, take the seat.

    /// Reserves a name. Everything that can be refused is refused here.
    pub(crate) fn begin_join(
        &mut self,
        participant: &ParticipantId,
        join: Join,
        application: &dyn Application,
    ) -> Result<(Seat, PipelineCell), RoomError> {
        if self.closed {
            return Err(RoomError::room_closed(&join.room));
        }
        check_names(&join, self.limits.name_bytes)?;
        if let Some(seat) = self.seats.get(participant) {
            let same = *seat.room == *join.room && *seat.user == *join.user;
            return Err(if same {
                RoomError::user_exists(&join.user, &join.room)
            } else {
                RoomError::already_joined(participant, &seat.user, &seat.room)
            });
        }
        match self.rooms.get(&join.room) {
            None => {
                self.check_room_count()?;
                application.may_create_room(&join.room, &join.user)?;
            }
            Some(room) if room.names.contains_key(&join.user) => {
                return Err(RoomError::user_exists(&join.user, &join.room));
            }
            Some(room) if room.is_full(self.limits.participants_per_room) => {
                return Err(RoomError::room_full(&join.room));
            }
            Some(_) => {}
        }
        let room = self
            .rooms
            .entry(join.room.clone())
            .or_insert_with(|| Room::new(join.room.clone(), false, self.selection));
        self.last_member += 1;
        let seat = Seat::new(&join.room, MemberId(self.last_member), &join.user);
        room.names.insert(join.user.clone(), seat.member);
        room.joining
            .insert(seat.member, (participant.clone(), join));
        self.seats.insert(participant.clone(), seat.clone());
        Ok((seat, room.pipeline.clone()))
    }

    /// Takes the seat: the newcomer hears of filters, the others of the newcomer, then it is answered.
    /// Returns who was there before, and what filters want of the newcomer's media.
    pub(crate) fn finish_join(
        &mut self,
        seat: &Seat,
        application: &dyn Application,
    ) -> Result<(Joined, Effects), RoomError> {
        let always_send_streams = self.always_send_streams;
        let room = self
            .rooms
            .get_mut(&*seat.room)
            .ok_or_else(|| RoomError::room_closed(&seat.room))?;
        let (id, join) = room
            .joining
            .remove(&seat.member)
            .ok_or_else(|| seat.gone())?;
        let newcomer = Participant::new(id.clone(), &join);

        let mut effects = Effects::default();
        let mut filters = Vec::new();
        for (filter, state) in &room.filters {
            let change =
                application.filter_changed(&room.name, &newcomer.user(), filter, Some(state));
            if let Some(notification) = change.notification {
                effects.notify(vec![id.clone()], notification);
            }
            filters.push((seat.clone(), filter.clone(), change.action));
        }
        let before = room.users();
        effects.notify(
            room.everyone(),
            Notification::ParticipantJoined { user: join.user },
        );
        let peers = before.iter().map(|user| {
            let mut peer = Peer::new(&user.name, user.streaming);
            if always_send_streams {
                peer.streams.get_or_insert_default();
            }
            peer
        });
        let reply = Response::Joined(peers.collect());
        effects.notices.push(Notice::Reply(reply));
        room.members.insert(seat.member, newcomer);
        // It does not know who speaks.
        self.touch(&seat.room);
        Ok((Joined { before, filters }, effects))
    }

    /// Gives a reserved name back. A room that was made for it goes.
    pub(crate) fn abandon_join(&mut self, seat: &Seat) -> Effects {
        let mut effects = Effects::default();
        let Some(room) = self.rooms.get_mut(&*seat.room) else {
            return effects;
        };
        if let Some((participant, join)) = room.joining.remove(&seat.member) {
            room.names.remove(&join.user);
            self.seats.remove(&participant);
            if room.is_empty() && !room.permanent {
                self.end_room(&seat.room, &mut effects);
            }
        }
        effects
    }

    /// Drops the room whose pipeline could not be made, with everyone waiting for it. One that the
    /// application made stays, and the next join tries again.
    pub(crate) fn fail_pipeline(&mut self, seat: &Seat, pipeline: &PipelineCell) -> Effects {
        let mut effects = Effects::default();
        let Some(room) = self.rooms.get_mut(&*seat.room) else {
            return effects;
        };
        if !room.pipeline.is(pipeline) {
            return effects;
        }
        let (permanent, selection) = (room.permanent, room.selection);
        self.end_room(&seat.room, &mut effects);
        if permanent {
            let room = Room::new(seat.room.to_string(), true, selection);
            self.rooms.insert(seat.room.to_string(), room);
        }
        effects
    }

    /// Whether a room still uses the pipeline; if not, whoever made it releases it.
    pub(crate) fn is_pipeline_used(&self, room: &str, pipeline: &PipelineCell) -> bool {
        let room = self.rooms.get(room);
        room.is_some_and(|room| room.pipeline.is(pipeline))
    }

    // Leaving.

    /// Takes a participant out; the others are told. Returns its name and the others.
    pub(crate) fn leave(
        &mut self,
        participant: &ParticipantId,
    ) -> Result<(Left, Effects), RoomError> {
        let seat = self.seat(participant)?;
        let mut effects = Effects::default();
        let room = self.room_mut(&seat)?;
        let name = room.remove(seat.member, &mut effects);
        let user = name.ok_or_else(|| RoomError::participant_not_found(participant))?;
        let remaining = room.users();
        let notification = Notification::ParticipantLeft { user: user.clone() };
        effects.notify(room.everyone(), notification);
        if room.is_empty() {
            self.end_room(&seat.room, &mut effects);
        } else {
            self.touch(&seat.room);
        }
        self.seats.remove(participant);
        Ok((Left { remaining }, effects))
    }

    /// [`leave`](Self::leave) at a client's wish: its session ends.
    pub(crate) fn leave_and_close(
        &mut self,
        participant: &ParticipantId,
    ) -> Result<(Left, Effects), RoomError> {
        let (left, mut effects) = self.leave(participant)?;
        effects.notices.push(Notice::Reply(Response::Empty));
        effects
            .notices
            .push(Notice::CloseSession(participant.clone()));
        Ok((left, effects))
    }

    /// [`leave`](Self::leave) at the application's wish: the participant is told after the others.
    /// One that is still joining does not arrive.
    pub(crate) fn evict(
        &mut self,
        participant: &ParticipantId,
    ) -> Result<(Left, Effects), RoomError> {
        if let Some(seat) = self.joining_seat(participant) {
            let left = Left {
                remaining: Vec::new(),
            };
            return Ok((left, self.abandon_join(&seat)));
        }
        let (left, mut effects) = self.leave(participant)?;
        effects.notify(vec![participant.clone()], Notification::ParticipantEvicted);
        Ok((left, effects))
    }

    /// [`evict`](Self::evict) by name.
    pub(crate) fn evict_user(
        &mut self,
        room: &str,
        user: &str,
    ) -> Result<(Left, Effects), RoomError> {
        let participant = self.room(room)?.owner_of_name(user);
        let participant = participant.ok_or_else(|| RoomError::user_not_found(user, room))?;
        self.evict(&participant.clone())
    }

    // Rooms.

    /// Makes a room at the application's wish.
    pub(crate) fn create_room(&mut self, room: &str) -> Result<((), Effects), RoomError> {
        check_room_name(room, self.limits.name_bytes)?;
        if self.closed {
            return Err(RoomError::room_closed(room));
        }
        if self.rooms.contains_key(room) {
            return Err(RoomError::room_exists(room));
        }
        self.check_room_count()?;
        let made = Room::new(room.to_owned(), true, self.selection);
        self.rooms.insert(room.to_owned(), made);
        Ok(((), Effects::default()))
    }

    /// Closes a room at the application's wish. Returns who was in it.
    pub(crate) fn close_room(
        &mut self,
        room: &str,
    ) -> Result<(Vec<UserParticipant>, Effects), RoomError> {
        let users = self.room(room)?.users();
        let mut effects = Effects::default();
        self.close_with(room, &users, &mut effects);
        Ok((users, effects))
    }

    /// Closes the room whose pipeline is gone: whoever joins next makes another. One that the application made
    /// stays, without anybody in it.
    pub(crate) fn lose_pipeline(
        &mut self,
        room: &str,
        pipeline: &PipelineCell,
        effects: &mut Effects,
    ) {
        let Some(lost) = self
            .rooms
            .get(room)
            .filter(|lost| lost.pipeline.is(pipeline))
        else {
            return;
        };
        let (users, permanent, selection) = (lost.users(), lost.permanent, lost.selection);
        self.close_with(room, &users, effects);
        if permanent {
            let made = Room::new(room.to_owned(), true, selection);
            self.rooms.insert(room.to_owned(), made);
        }
    }

    fn close_with(&mut self, room: &str, users: &[UserParticipant], effects: &mut Effects) {
        self.end_room(room, effects);
        let former = users.iter().map(|user| user.id.clone()).collect();
        let room = room.to_owned();
        effects.notify(former, Notification::RoomClosed { room });
    }

    /// Tells everyone in a room.
    pub(crate) fn notify(
        &self,
        room: &str,
        notification: Notification,
    ) -> Result<((), Effects), RoomError> {
        let mut effects = Effects::default();
        effects.notify(self.room(room)?.everyone(), notification);
        Ok(((), effects))
    }

    /// Closes everything for good; nobody is told.
    pub(crate) fn close(&mut self) -> Effects {
        self.closed = true;
        self.attention = Attention::default();
        self.seats.clear();
        let mut effects = Effects::default();
        for room in std::mem::take(&mut self.rooms).into_values() {
            room.end(&mut effects);
        }
        effects
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    // Looking up.

    /// Where a participant is. One that is still joining is nowhere.
    pub(crate) fn seat(&self, participant: &ParticipantId) -> Result<Seat, RoomError> {
        let seat = self.seats.get(participant);
        let seat = seat.filter(|seat| self.participant(seat).is_ok()).cloned();
        seat.ok_or_else(|| RoomError::participant_not_found(participant))
    }

    pub(crate) fn turn(&self, seat: &Seat) -> Result<Turn, RoomError> {
        Ok(self.participant(seat)?.turn.clone())
    }

    pub(crate) fn room_names(&self) -> Vec<String> {
        self.rooms.keys().cloned().collect()
    }

    pub(super) fn room(&self, name: &str) -> Result<&Room, RoomError> {
        let room = self.rooms.get(name);
        room.ok_or_else(|| RoomError::room_not_found(name))
    }

    pub(super) fn room_by_name_mut(&mut self, name: &str) -> Result<&mut Room, RoomError> {
        let room = self.rooms.get_mut(name);
        room.ok_or_else(|| RoomError::room_not_found(name))
    }

    pub(super) fn room_mut(&mut self, seat: &Seat) -> Result<&mut Room, RoomError> {
        let room = self.rooms.get_mut(&*seat.room);
        room.ok_or_else(|| seat.gone())
    }

    pub(super) fn participant(&self, seat: &Seat) -> Result<&Participant, RoomError> {
        let room = self.rooms.get(&*seat.room);
        let participant = room.and_then(|room| room.members.get(&seat.member));
        participant.ok_or_else(|| seat.gone())
    }

    pub(super) fn participant_mut(&mut self, seat: &Seat) -> Result<&mut Participant, RoomError> {
        let room = self.rooms.get_mut(&*seat.room);
        let participant = room.and_then(|room| room.members.get_mut(&seat.member));
        participant.ok_or_else(|| seat.gone())
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn joining_seat(&self, participant: &ParticipantId) -> Option<Seat> {
        let seat = self.seats.get(participant)?;
        let room = self.rooms.get(&*seat.room)?;
        room.joining
            .contains_key(&seat.member)
            .then(|| seat.clone())
    }

    fn check_room_count(&self) -> Result<(), RoomError> {
        if self.rooms.len() >= self.limits.rooms {
            return Err(RoomError::no_resources());
        }
        Ok(())
    }

    fn end_room(&mut self, room: &str, effects: &mut Effects) {
        if let Some(room) = self.rooms.remove(room) {
            self.attention.forget(&room);
            let waiting = room.joining.values().map(|(participant, _)| participant);
            for participant in room
                .members
                .values()
                .map(|member| &member.id)
                .chain(waiting)
            {
                self.seats.remove(participant);
            }
            room.end(effects);
        }
    }
}

/// The outcome of joining.
pub(crate) struct Joined {
    pub(crate) before: Vec<UserParticipant>,
    pub(crate) filters: Vec<(Seat, String, FilterAction)>,
}

/// The outcome of leaving.
pub(crate) struct Left {
    pub(crate) remaining: Vec<UserParticipant>,
}
