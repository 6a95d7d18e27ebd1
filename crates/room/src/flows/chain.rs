//! Elements in a publisher's chain: filters and the like, put there by the application.

use media::{ElementId, ElementKind, Error, MediaKind, MediaServer, PipelineId};

use super::guard::ElementGuard;
use super::{Reply, Rooms};
use crate::protocol::RoomError;
use crate::rules::{Scope, Seat};
use crate::{FilterAction, ParticipantId};

impl<M: MediaServer> Rooms<M> {
    /// Makes an element in the pipeline of the participant's room, for
    /// [`add_element`](Self::add_element) or as source of a loopback. Its failures are told to the
    /// participant. It lasts until it is released or the room is closed. Errors: 303.
    pub async fn create_element(
        &self,
        participant: &ParticipantId,
        kind: ElementKind,
    ) -> Result<ElementId, RoomError> {
        let seat = self.seat(participant)?;
        let pipeline = self.0.state.lock().pipeline(&seat)?;
        let mut guard = ElementGuard::new(&self.0.media);
        let id = self
            .create_chain_element(&seat, participant, &pipeline, kind, &mut guard)
            .await?;
        // The room may have been closed meanwhile, and its pipeline with it.
        self.0.state.lock().user(&seat)?;
        guard.hand_over();
        Ok(id)
    }

    /// Puts an element at the end of the participant's chain, for one kind of media or all. If nothing
    /// is published yet, it is there when something is. From here on the element belongs to the chain.
    /// Errors: 304 it is in the chain already, cannot be connected, or the chain is full.
    pub async fn add_element(
        &self,
        participant: &ParticipantId,
        element: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        {
            let mut state = self.0.state.lock();
            state.add_element(&seat, element.clone(), kind)?;
        }
        let Err(error) = self.rewire(&seat, Scope::Publication).await else {
            return Ok(());
        };
        let error = self.unless_gone(&seat, RoomError::endpoint(true, &error));
        if self.0.state.lock().remove_element(&seat, element).is_ok() {
            self.rewire_logging(&seat, Scope::Publication).await;
        }
        Err(error)
    }

    /// Takes an element out of the participant's chain and releases it. Errors: 303 it is not in
    /// there.
    pub async fn remove_element(
        &self,
        participant: &ParticipantId,
        element: &ElementId,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        self.remove_and_release(&seat, element).await
    }

    /// The elements of the participant's chain, from its endpoint on.
    pub fn elements(&self, participant: &ParticipantId) -> Result<Vec<ElementId>, RoomError> {
        let state = self.0.state.lock();
        state.elements(&state.seat(participant)?)
    }

    /// The element that stands for a filter of the participant.
    pub fn filter_element(
        &self,
        participant: &ParticipantId,
        filter: &str,
    ) -> Result<Option<ElementId>, RoomError> {
        let state = self.0.state.lock();
        Ok(state
            .filter_plan(&state.seat(participant)?, filter)?
            .element)
    }

    /// Changes the element that stands for a filter of the participant. A filter outlives a
    /// publication: it is in the chain of the next one. Errors: 303, 304.
    pub async fn set_filter(
        &self,
        participant: &ParticipantId,
        filter: &str,
        action: FilterAction,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        self.act_on_filter(&seat, filter, action).await
    }

    /// Moves a room-wide filter to its next state, as [`Application::next_filter_state`] says, and
    /// everyone in the room with it, as [`Application::filter_changed`] says. Returns when all
    /// elements are changed; failures of single ones are only logged. Errors: 202.
    ///
    /// [`Application::next_filter_state`]: crate::Application::next_filter_state
    /// [`Application::filter_changed`]: crate::Application::filter_changed
    pub async fn update_filter(&self, room: &str, filter: &str) -> Result<(), RoomError> {
        let application = &*self.0.application;
        let actions = self.apply(&mut Reply::nobody(), |state| {
            state.update_filter(room, filter, application)
        })?;
        for (seat, action) in actions {
            self.follow_filter(&seat, filter, action).await;
        }
        Ok(())
    }

    /// Does to one participant what a room-wide filter wants.
    pub(super) async fn follow_filter(&self, seat: &Seat, filter: &str, action: FilterAction) {
        if action == FilterAction::Keep {
            return;
        }
        let Ok(turn) = self.0.state.lock().turn(seat) else {
            return;
        };
        let _turn = turn.take().await;
        if let Err(error) = self.act_on_filter(seat, filter, action).await {
            tracing::debug!(%error, "filter not changed");
        }
    }

    async fn act_on_filter(
        &self,
        seat: &Seat,
        filter: &str,
        action: FilterAction,
    ) -> Result<(), RoomError> {
        let plan = self.0.state.lock().filter_plan(seat, filter)?;
        match (action, plan.element) {
            (FilterAction::Keep, _) | (FilterAction::Disable | FilterAction::Remove, None) => {
                Ok(())
            }
            (FilterAction::Apply(_), Some(element)) => {
                self.0.state.lock().enable_element(seat, &element, true);
                self.rewire_logging(seat, Scope::Publication).await;
                Ok(())
            }
            (FilterAction::Disable, Some(element)) => {
                self.0.state.lock().enable_element(seat, &element, false);
                self.rewire_logging(seat, Scope::Publication).await;
                Ok(())
            }
            (FilterAction::Remove, Some(element)) => self.remove_and_release(seat, &element).await,
            (FilterAction::Apply(kind), None) => {
                let mut guard = ElementGuard::new(&self.0.media);
                let id = self
                    .create_chain_element(seat, &plan.participant, &plan.pipeline, kind, &mut guard)
                    .await?;
                self.0.state.lock().add_filter(seat, filter, id)?;
                guard.hand_over();
                self.rewire_logging(seat, Scope::Publication).await;
                Ok(())
            }
        }
    }

    /// Makes an element that may outlive a publication, so its events are never silenced.
    async fn create_chain_element(
        &self,
        seat: &Seat,
        owner: &ParticipantId,
        pipeline: &PipelineId,
        kind: ElementKind,
        guard: &mut ElementGuard<'_, M>,
    ) -> Result<ElementId, RoomError> {
        let events = self.element_events(owner, seat.user(), || true);
        let create = self.0.media.create_element(pipeline, kind, events);
        let created = self.within_deadline(create).await;
        let id =
            created.map_err(|error| self.unless_gone(seat, RoomError::element_creation(error)))?;
        guard.adopt(id.clone());
        Ok(id)
    }

    async fn remove_and_release(&self, seat: &Seat, element: &ElementId) -> Result<(), RoomError> {
        // Released last, and also if this is dropped half-way: out of the chain, it is nobody else's.
        let mut guard = ElementGuard::new(&self.0.media);
        self.0.state.lock().remove_element(seat, element)?;
        guard.adopt(element.clone());
        self.rewire_logging(seat, Scope::Publication).await;
        self.0.state.lock().forget_links(seat, element);
        Ok(())
    }

    /// Brings a wiring to what it should be. A step that fails does not keep the others from being
    /// made, and is tried again next time; the first failure is returned.
    async fn rewire(&self, seat: &Seat, scope: Scope) -> Result<(), Error> {
        let steps = self.0.state.lock().steps(seat, scope);
        let mut outcome = Ok(());
        for step in steps {
            match self.make(&step).await {
                Ok(()) => self.0.state.lock().step_made(seat, scope, &step),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// [`rewire`](Self::rewire) for changes that stand whatever the media server says.
    pub(super) async fn rewire_logging(&self, seat: &Seat, scope: Scope) {
        if let Err(error) = self.rewire(seat, scope).await {
            tracing::debug!(%error, "media not rewired");
        }
    }
}
