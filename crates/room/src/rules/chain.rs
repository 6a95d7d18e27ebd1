//! The rules of the elements between a publisher's endpoint and its pass-through.

use media::{ElementId, MediaKind, PipelineId};

use super::publication::add_to_chain;
use super::state::{Seat, State};
use super::{ChainElement, Effects};
use crate::protocol::RoomError;
use crate::{Application, FilterAction, ParticipantId};

/// What applying a filter needs to know.
pub(crate) struct FilterPlan {
    pub(crate) pipeline: PipelineId,
    pub(crate) participant: ParticipantId,
    /// The element that stands for the filter already.
    pub(crate) element: Option<ElementId>,
}

impl State {
    /// Appends an element; with nothing published yet, it is there when something is.
    pub(crate) fn add_element(
        &mut self,
        seat: &Seat,
        element: ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), RoomError> {
        let limits = self.limits().clone();
        let participant = self.participant_mut(seat)?;
        let element = ChainElement::new(element, kind);
        add_to_chain(&mut participant.chain, element, &limits)
    }

    /// Takes an element out.
    pub(crate) fn remove_element(
        &mut self,
        seat: &Seat,
        element: &ElementId,
    ) -> Result<(), RoomError> {
        let participant = self.participant_mut(seat)?;
        let chain = &mut participant.chain;
        let at = chain.iter().position(|present| present.id == *element);
        let at = at.ok_or_else(|| RoomError::unknown_element(&participant.name, element))?;
        chain.remove(at);
        Ok(())
    }

    /// A removed element is about to be released, and its links with it.
    pub(crate) fn forget_links(&mut self, seat: &Seat, element: &ElementId) {
        let participant = self.participant_mut(seat).ok();
        if let Some(published) = participant.and_then(|participant| participant.published_mut()) {
            published.wired.forget(element);
        }
    }

    /// Where a filter of a participant stands.
    pub(crate) fn filter_plan(&self, seat: &Seat, filter: &str) -> Result<FilterPlan, RoomError> {
        let participant = self.participant(seat)?;
        Ok(FilterPlan {
            pipeline: self.room(seat.room())?.pipeline(),
            participant: participant.id.clone(),
            element: participant
                .chain
                .iter()
                .find(|element| element.filter.as_deref() == Some(filter))
                .map(|element| element.id.clone()),
        })
    }

    /// Appends the element that stands for a filter.
    pub(crate) fn add_filter(
        &mut self,
        seat: &Seat,
        filter: &str,
        element: ElementId,
    ) -> Result<(), RoomError> {
        let limits = self.limits().clone();
        let participant = self.participant_mut(seat)?;
        let element = ChainElement {
            filter: Some(filter.to_owned()),
            ..ChainElement::new(element, None)
        };
        add_to_chain(&mut participant.chain, element, &limits)
    }

    /// Puts an element in or out of the way of media without taking it out of the chain.
    pub(crate) fn enable_element(&mut self, seat: &Seat, element: &ElementId, enabled: bool) {
        let participant = self.participant_mut(seat).ok();
        let chain = participant
            .into_iter()
            .flat_map(|participant| &mut participant.chain);
        for present in chain.filter(|present| present.id == *element) {
            present.enabled = enabled;
        }
    }

    /// Moves a room-wide filter to its next state: everyone is told what the application says.
    /// Returns what it wants of each participant's media.
    pub(crate) fn update_filter(
        &mut self,
        room: &str,
        filter: &str,
        application: &dyn Application,
    ) -> Result<(Vec<(Seat, FilterAction)>, Effects), RoomError> {
        let room = self.room_by_name_mut(room)?;
        let old = room.filters.get(filter).map(String::as_str);
        let state = application.next_filter_state(&room.name, filter, old);
        let mut effects = Effects::default();
        let mut actions = Vec::new();
        for (member, participant) in &room.members {
            let user = participant.user();
            let change = application.filter_changed(&room.name, &user, filter, state.as_deref());
            if let Some(notification) = change.notification {
                effects.notify(vec![participant.id.clone()], notification);
            }
            actions.push((
                Seat::new(&room.name, *member, &participant.name),
                change.action,
            ));
        }
        match state {
            Some(state) => room.filters.insert(filter.to_owned(), state),
            None => room.filters.remove(filter),
        };
        Ok((actions, effects))
    }
}
