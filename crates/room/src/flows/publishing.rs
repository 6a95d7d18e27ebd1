//! Publishing.

use media::{ElementKind, Error, MediaServer, OfferOptions, PeerId};

use super::guard::ElementGuard;
use super::{EndpointDraft, Reply, Rooms};
use crate::protocol::RoomError;
use crate::rules::{
    Endpoint, Gate, Kinds, News, PublishDraft, Published, Scope, Seat, Wiring, publication_wish,
};
use crate::{MutedMedia, ParticipantId, Publish, Sdp};

impl<M: MediaServer> Rooms<M> {
    /// Publishes. Returns the answer to the client's offer or, if the client answered ours, the
    /// local description as it became. The others are told.
    ///
    /// Errors: 302 published already, no offer of ours is out, or the description is refused; 303 no
    /// endpoint; 304, 305 an element or connection failed. Whatever fails, nothing remains: an offer of
    /// ours has to be asked for again.
    pub async fn publish(
        &self,
        participant: &ParticipantId,
        publish: Publish,
    ) -> Result<String, RoomError> {
        self.publish_as(participant, publish, &mut Reply::nobody())
            .await
    }

    pub(super) async fn publish_as(
        &self,
        participant: &ParticipantId,
        publish: Publish,
        reply: &mut Reply<'_>,
    ) -> Result<String, RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        let mut draft = {
            let mut state = self.0.state.lock();
            match publish.sdp {
                Sdp::Offer(_) => state.draft_publication(&seat, &publish.elements)?,
                Sdp::Answer(_) => state.draft_answered_publication(&seat, &publish.elements)?,
            }
        };
        let is_simulcast = publish.sdp.is_simulcast();
        let mut guard = ElementGuard::new(&self.0.media);
        let (endpoint, pass_through) = match draft.offered.take() {
            Some((endpoint, pass_through)) => {
                guard.adopt(endpoint.id.clone());
                guard.adopt(pass_through.id.clone());
                if is_simulcast {
                    self.set_bounds(&endpoint.id, true)
                        .await
                        .map_err(|error| self.publisher_error(&seat, &error))?;
                }
                (endpoint, pass_through)
            }
            None => self
                .create_publisher(&seat, &mut draft, is_simulcast, &mut guard)
                .await
                .map_err(|error| self.publisher_error(&seat, &error))?,
        };
        let published = self
            .wire_publisher(&draft, &publish, endpoint, pass_through)
            .await
            .map_err(|error| self.unless_gone(&seat, RoomError::endpoint(draft.web, &error)))?;

        let element = &published.endpoint.id;
        let answer = match &publish.sdp {
            Sdp::Offer(offer) => {
                self.within_deadline(self.0.media.process_offer(element, offer))
                    .await
            }
            Sdp::Answer(answer) => {
                self.within_deadline(self.0.media.process_answer(element, answer))
                    .await
            }
        };
        let answer = answer.map_err(|error| {
            tracing::debug!(%error, "publisher's description refused");
            self.unless_gone(&seat, RoomError::publish_answer(&draft.user))
        })?;
        if draft.web {
            let gather = self.0.media.gather_candidates(element);
            self.within_deadline(gather)
                .await
                .map_err(|error| self.unless_gone(&seat, RoomError::endpoint(true, &error)))?;
        }
        let answered = answer.clone();
        let slot = published.endpoint.slot.clone();
        self.apply(reply, |state| {
            state.publish(&seat, published, draft.chain, answered)
        })?;
        guard.hand_over();
        self.repeat_news(slot);
        Ok(answer)
    }

    /// Makes an offer for the participant's client, to be completed by [`publish`](Self::publish).
    /// One that is out already is withdrawn. Errors: 302 published already or no offer, 303 no
    /// endpoint.
    pub async fn publish_offer(&self, participant: &ParticipantId) -> Result<String, RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        let mut draft = self.apply(&mut Reply::nobody(), |state| state.draft_offer(&seat))?;
        let mut guard = ElementGuard::new(&self.0.media);
        let pair = self
            .create_publisher(&seat, &mut draft, false, &mut guard)
            .await
            .map_err(|error| self.publisher_error(&seat, &error))?;
        let generate = self
            .0
            .media
            .generate_offer(&pair.0.id, OfferOptions::default());
        let offer = self.within_deadline(generate).await.map_err(|error| {
            tracing::debug!(%error, "no offer for a publisher");
            self.unless_gone(&seat, RoomError::publish_offer(&draft.user))
        })?;
        self.0.state.lock().offer(&seat, pair)?;
        guard.hand_over();
        Ok(offer)
    }

    /// Ends the publication and all subscriptions to it; the others are told. The chain's elements are
    /// released, except those that stand for filters. Errors: 105.
    pub async fn unpublish(&self, participant: &ParticipantId) -> Result<(), RoomError> {
        self.unpublish_as(participant, &mut Reply::nobody()).await
    }

    pub(super) async fn unpublish_as(
        &self,
        participant: &ParticipantId,
        reply: &mut Reply<'_>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        self.apply(reply, |state| state.unpublish(&seat))
    }

    /// Mutes what the participant publishes, on top of what is muted already. Nobody is told.
    /// Errors: 105.
    pub async fn mute_published(
        &self,
        participant: &ParticipantId,
        media: MutedMedia,
    ) -> Result<(), RoomError> {
        self.set_published_mute(participant, Some(media)).await
    }

    /// Unmutes all that the participant publishes. Errors: 105.
    pub async fn unmute_published(&self, participant: &ParticipantId) -> Result<(), RoomError> {
        self.set_published_mute(participant, None).await
    }

    async fn set_published_mute(
        &self,
        participant: &ParticipantId,
        media: Option<MutedMedia>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        self.0.state.lock().mute_published(&seat, media)?;
        self.rewire_logging(&seat, Scope::Publication).await;
        Ok(())
    }

    async fn create_publisher(
        &self,
        seat: &Seat,
        draft: &mut PublishDraft,
        is_simulcast: bool,
        guard: &mut ElementGuard<'_, M>,
    ) -> Result<(Endpoint, Endpoint), Error> {
        let candidates = std::mem::take(&mut draft.candidates);
        let (owner, user, pipeline) = (&draft.participant, &draft.user, &draft.pipeline);
        let endpoint = EndpointDraft {
            seat,
            scope: Scope::Publication,
            owner,
            name: user,
            pipeline,
            kind: endpoint_kind(draft.web, draft.data_channels, seat.peer()),
            is_simulcast,
            candidates,
        };
        let endpoint = self.create_endpoint(endpoint, guard).await?;
        let gate = Gate::open();
        let events = self.element_events(owner, user, gate.watch());
        let pass_through = self
            .create_own_element(pipeline, ElementKind::PassThrough, gate, events, guard)
            .await?;
        Ok((endpoint, pass_through))
    }

    /// Connects endpoint, chain and pass-through, and the way back if there is one.
    async fn wire_publisher(
        &self,
        draft: &PublishDraft,
        publish: &Publish,
        endpoint: Endpoint,
        pass_through: Endpoint,
    ) -> Result<Published, Error> {
        let wish = publication_wish(
            &endpoint.id,
            &draft.chain,
            &pass_through.id,
            publish.loopback.as_ref(),
            Kinds::NONE,
        );
        for step in Wiring::default().steps_to(&wish) {
            self.make(&step).await?;
        }
        Ok(Published {
            endpoint,
            pass_through,
            loopback: publish.loopback.clone(),
            is_simulcast: publish.sdp.is_simulcast(),
            muted: Kinds::NONE,
            wired: wish,
            news: News::default(),
        })
    }

    fn publisher_error(&self, seat: &Seat, error: &Error) -> RoomError {
        tracing::debug!(%error, "no publisher endpoint");
        let error = match error {
            Error::Timeout => RoomError::publisher_endpoint_timeout(),
            _ => RoomError::publisher_endpoint(),
        };
        self.unless_gone(seat, error)
    }

    /// The error to answer: a participant who left made the media server fail.
    pub(super) fn unless_gone(&self, seat: &Seat, error: RoomError) -> RoomError {
        match self.0.state.lock().user(seat) {
            Ok(_) => error,
            Err(gone) => gone,
        }
    }
}

/// What web and other participants have.
pub(super) fn endpoint_kind(web: bool, data_channels: bool, peer: PeerId) -> ElementKind {
    if web {
        ElementKind::WebRtcEndpoint {
            data_channels,
            peer: Some(peer),
        }
    } else {
        ElementKind::RtpEndpoint {
            sdes: None,
            ipv6: false,
        }
    }
}
