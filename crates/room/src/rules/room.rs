//! One room: who is in it, and whom a name means.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use media::PipelineId;

use super::delivery::Floor;
use super::participant::Participant;
use super::speakers::Speakers;
use super::state::MemberId;
use super::{Effects, Release, Remote};
use crate::protocol::RoomError;
use crate::turn::PipelineCell;
use crate::{Join, ParticipantId, Selection, UserParticipant};

pub(super) struct Room {
    pub(super) name: String,
    /// Made by the application, so that a join that fails does not take it away.
    pub(super) permanent: bool,
    pub(super) pipeline: PipelineCell,
    /// In the order in which they joined.
    pub(super) members: BTreeMap<MemberId, Participant>,
    /// Those waiting for the pipeline. Their names are taken.
    pub(super) joining: BTreeMap<MemberId, (ParticipantId, Join)>,
    pub(super) names: HashMap<String, MemberId>,
    /// State of every room-wide filter.
    pub(super) filters: BTreeMap<String, String>,
    pub(super) speakers: Speakers,
    pub(super) floor: Floor,
    /// Which publishers everybody gets.
    pub(super) selection: Selection,
    /// Something may be held back.
    pub(super) is_selecting: bool,
    /// When something happens by itself.
    pub(super) timer: Option<Instant>,
}

impl Room {
    pub(super) fn new(name: String, permanent: bool, selection: Selection) -> Self {
        Self {
            name,
            permanent,
            pipeline: PipelineCell::default(),
            members: BTreeMap::new(),
            joining: BTreeMap::new(),
            names: HashMap::new(),
            filters: BTreeMap::new(),
            speakers: Speakers::default(),
            floor: Floor::default(),
            selection,
            is_selecting: false,
            timer: None,
        }
    }

    pub(super) fn pipeline(&self) -> PipelineId {
        let pipeline = self.pipeline.pipeline().cloned();
        pipeline.expect("a room has a pipeline before it has members")
    }

    pub(super) fn users(&self) -> Vec<UserParticipant> {
        self.members.values().map(Participant::user).collect()
    }

    pub(super) fn everyone(&self) -> Vec<ParticipantId> {
        let members = self.members.values();
        members.map(|member| member.id.clone()).collect()
    }

    pub(super) fn others(&self, member: MemberId) -> Vec<ParticipantId> {
        let others = self.members.iter().filter(|(other, _)| **other != member);
        others.map(|(_, other)| other.id.clone()).collect()
    }

    /// The member of that name, unless it is still joining.
    pub(super) fn by_name(&self, name: &str) -> Option<MemberId> {
        let member = self.names.get(name)?;
        self.members.contains_key(member).then_some(*member)
    }

    /// Who has taken a name, be it that of a member or of somebody still joining.
    pub(super) fn owner_of_name(&self, name: &str) -> Option<&ParticipantId> {
        let member = self.names.get(name)?;
        let joining = || self.joining.get(member).map(|(participant, _)| participant);
        let member = self.members.get(member).map(|member| &member.id);
        member.or_else(joining)
    }

    /// Whom `remote` means; the name to complain about if nobody.
    ///
    /// A user name may contain `_` itself, so the longest one that exists wins. Kurento Room cuts at
    /// the first `_`, and its text for a failure is kept.
    pub(super) fn resolve<'a>(&self, remote: Remote<'a>) -> Result<MemberId, &'a str> {
        let sender = match remote {
            Remote::User(name) => return self.by_name(name).ok_or(name),
            Remote::Sender(sender) => sender,
        };
        let prefixes = sender.rmatch_indices('_').map(|(at, _)| &sender[..at]);
        let found = prefixes
            .chain([sender])
            .find_map(|prefix| self.by_name(prefix));
        found.ok_or_else(|| sender.split_once('_').map_or(sender, |(user, _)| user))
    }

    /// Takes a member out, and everyone's subscription to it.
    pub(super) fn remove(&mut self, member: MemberId, effects: &mut Effects) -> Option<String> {
        let participant = self.members.remove(&member)?;
        let name = participant.name.clone();
        self.names.remove(&name);
        self.speakers.remove(member);
        participant.end(effects);
        self.end_feeds(member, effects);
        Some(name)
    }

    /// Ends everyone's subscription to `publisher`.
    pub(super) fn end_feeds(&mut self, publisher: MemberId, effects: &mut Effects) {
        for participant in self.members.values_mut() {
            participant.end_feed(publisher, effects);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.joining.is_empty()
    }

    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.members.len() + self.joining.len() >= limit
    }

    /// Ends the room. The pipeline takes all elements along.
    pub(super) fn end(self, effects: &mut Effects) {
        for participant in self.members.into_values() {
            participant.end(effects);
        }
        if let Some(pipeline) = self.pipeline.pipeline() {
            effects.releases.push(Release::Pipeline(pipeline.clone()));
        }
    }
}

/// Refuses names that cannot be.
pub(super) fn check_names(join: &Join, limit: usize) -> Result<(), RoomError> {
    if join.user.is_empty() {
        return Err(RoomError::empty_user_name());
    }
    if join.user.len() > limit {
        return Err(RoomError::too_long("User name", limit));
    }
    check_room_name(&join.room, limit)
}

pub(super) fn check_room_name(room: &str, limit: usize) -> Result<(), RoomError> {
    if room.len() > limit {
        return Err(RoomError::too_long("Room name", limit));
    }
    Ok(())
}
