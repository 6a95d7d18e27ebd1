//! The rules of publishing.

use media::{ElementId, IceCandidate, MediaKind, PipelineId};

use super::participant::{Participant, PublisherPair, Stage};
use super::state::{Seat, State};
use super::{ChainElement, Effects, Kinds, Published};
use crate::protocol::{Notification, Response, RoomError};
use crate::{Limits, MutedMedia, ParticipantId};

/// What publishing needs to know.
pub(crate) struct PublishDraft {
    pub(crate) pipeline: PipelineId,
    pub(crate) participant: ParticipantId,
    pub(crate) user: String,
    pub(crate) web: bool,
    pub(crate) data_channels: bool,
    /// As it will be, the elements to add included.
    pub(crate) chain: Vec<ChainElement>,
    /// The endpoints of the offer that is being answered.
    pub(crate) offered: Option<PublisherPair>,
    /// Candidates that came too early.
    pub(crate) candidates: Vec<IceCandidate>,
}

impl State {
    /// A publication that answers the client's offer, with `elements` at the end of its chain.
    pub(crate) fn draft_publication(
        &mut self,
        seat: &Seat,
        elements: &[ElementId],
    ) -> Result<PublishDraft, RoomError> {
        let limits = self.limits().clone();
        let participant = self.participant_mut(seat)?;
        let Stage::Idle = participant.stage else {
            return Err(RoomError::publish_answer(seat.user()));
        };
        let chain = longer_chain(participant, elements, &limits)?;
        self.draft(seat, chain)
    }

    /// A publication that completes our offer. The offer's endpoints are the flow's from here on.
    pub(crate) fn draft_answered_publication(
        &mut self,
        seat: &Seat,
        elements: &[ElementId],
    ) -> Result<PublishDraft, RoomError> {
        let limits = self.limits().clone();
        let participant = self.participant_mut(seat)?;
        let Stage::Offered(_) = participant.stage else {
            return Err(RoomError::publish_answer(seat.user()));
        };
        let chain = longer_chain(participant, elements, &limits)?;
        let mut draft = self.draft(seat, chain)?;
        let stage = &mut self.participant_mut(seat)?.stage;
        if let Stage::Offered(pair) = std::mem::replace(stage, Stage::Idle) {
            draft.offered = Some(pair);
        }
        Ok(draft)
    }

    /// An offer of ours. One that is out already is withdrawn.
    pub(crate) fn draft_offer(
        &mut self,
        seat: &Seat,
    ) -> Result<(PublishDraft, Effects), RoomError> {
        let participant = self.participant_mut(seat)?;
        if participant.published().is_some() {
            return Err(RoomError::publish_offer(seat.user()));
        }
        let mut effects = Effects::default();
        participant.end_stage(&mut effects);
        Ok((self.draft(seat, Vec::new())?, effects))
    }

    /// Our offer is made.
    pub(crate) fn offer(&mut self, seat: &Seat, pair: PublisherPair) -> Result<(), RoomError> {
        self.participant_mut(seat)?.stage = Stage::Offered(pair);
        Ok(())
    }

    /// The publication is made: its publisher is answered, then the others are told.
    pub(crate) fn publish(
        &mut self,
        seat: &Seat,
        published: Published,
        chain: Vec<ChainElement>,
        answer: String,
    ) -> Result<((), Effects), RoomError> {
        let participant = self.participant_mut(seat)?;
        participant.stage = Stage::Streaming(published);
        participant.chain = chain;
        let mut effects = Effects::reply(Response::SdpAnswer(answer));
        let room = self.room_mut(seat)?;
        room.speakers.add(seat.member);
        let others = room.others(seat.member);
        effects.notify(others, Notification::published(seat.user()));
        Ok(((), effects))
    }

    /// The publication ends, and every subscription to it: its publisher is answered, then the
    /// others are told.
    pub(crate) fn unpublish(&mut self, seat: &Seat) -> Result<((), Effects), RoomError> {
        let participant = self.participant_mut(seat)?;
        if participant.published().is_none() {
            return Err(RoomError::not_streaming(seat.user()));
        }
        let mut effects = Effects::reply(Response::Empty);
        participant.end_publication(&mut effects);
        let room = self.room_mut(seat)?;
        room.end_feeds(seat.member, &mut effects);
        room.speakers.remove(seat.member);
        let user = seat.user().to_owned();
        effects.notify(
            room.others(seat.member),
            Notification::ParticipantUnpublished { user },
        );
        self.touch(seat.room());
        Ok(((), effects))
    }

    /// Mutes what is published, on top of what is muted already; `None` unmutes everything.
    pub(crate) fn mute_published(
        &mut self,
        seat: &Seat,
        media: Option<MutedMedia>,
    ) -> Result<(), RoomError> {
        let published = self.participant_mut(seat)?.published_mut();
        let published = published.ok_or_else(|| RoomError::not_streaming(seat.user()))?;
        published.muted = muted(published.muted, media);
        Ok(())
    }

    fn draft(&mut self, seat: &Seat, chain: Vec<ChainElement>) -> Result<PublishDraft, RoomError> {
        let pipeline = self.room_mut(seat)?.pipeline();
        let participant = self.participant_mut(seat)?;
        Ok(PublishDraft {
            pipeline,
            participant: participant.id.clone(),
            user: participant.name.clone(),
            web: participant.web,
            data_channels: participant.data_channels,
            chain,
            offered: None,
            candidates: std::mem::take(&mut participant.candidates),
        })
    }
}

/// What is muted after `media` was muted too, or after everything was unmuted.
pub(super) fn muted(before: Kinds, media: Option<MutedMedia>) -> Kinds {
    match media {
        None => Kinds::NONE,
        Some(MutedMedia::All) => Kinds::ALL,
        Some(MutedMedia::Audio) => before.with(Kinds::of(Some(MediaKind::Audio))),
        Some(MutedMedia::Video) => before.with(Kinds::of(Some(MediaKind::Video))),
    }
}

fn longer_chain(
    participant: &Participant,
    elements: &[ElementId],
    limits: &Limits,
) -> Result<Vec<ChainElement>, RoomError> {
    let mut chain = participant.chain.clone();
    for element in elements {
        add_to_chain(&mut chain, ChainElement::new(element.clone(), None), limits)?;
    }
    Ok(chain)
}

/// Appends to a chain what is not in it yet.
pub(super) fn add_to_chain(
    chain: &mut Vec<ChainElement>,
    element: ChainElement,
    limits: &Limits,
) -> Result<(), RoomError> {
    if element.id.as_str().is_empty() {
        return Err(RoomError::element_without_id());
    }
    if chain.iter().any(|present| present.id == element.id) {
        return Err(RoomError::duplicate_element(&element.id));
    }
    let limit = limits.elements_per_participant;
    if chain.len() >= limit {
        return Err(RoomError::too_many_elements(limit));
    }
    chain.push(element);
    Ok(())
}
