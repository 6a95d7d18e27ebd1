//! Watching others, candidates and messages.

use media::{IceCandidate, MediaServer};

use super::guard::ElementGuard;
use super::publishing::endpoint_kind;
use super::{EndpointDraft, Reply, Rooms};
use crate::protocol::{Notification, Response, RoomError};
use crate::rules::{Effects, Remote, Scope, Step, Wiring};
use crate::{MutedMedia, ParticipantId};

impl<M: MediaServer> Rooms<M> {
    /// Subscribes to the stream of the user called `remote`. Returns the answer to the client's offer.
    ///
    /// Errors: 102 no such user, 105 it does not publish or is the participant itself, 302 subscribed
    /// already or the offer is refused, 303 no endpoint.
    pub async fn subscribe(
        &self,
        participant: &ParticipantId,
        remote: &str,
        offer: &str,
    ) -> Result<String, RoomError> {
        let remote = Remote::User(remote);
        self.subscribe_as(participant, remote, offer, &mut Reply::nobody())
            .await
    }

    pub(super) async fn subscribe_as(
        &self,
        participant: &ParticipantId,
        remote: Remote<'_>,
        offer: &str,
        reply: &mut Reply<'_>,
    ) -> Result<String, RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        let mut draft = self.0.state.lock().draft_subscription(&seat, remote)?;
        let mut guard = ElementGuard::new(&self.0.media);
        let candidates = std::mem::take(&mut draft.candidates);
        let endpoint = EndpointDraft {
            seat: &seat,
            scope: Scope::Feed(draft.publisher),
            owner: &draft.participant,
            name: &draft.publisher_name,
            pipeline: &draft.pipeline,
            kind: endpoint_kind(draft.web, draft.data_channels, seat.peer()),
            is_simulcast: draft.is_simulcast,
            candidates,
        };
        let endpoint = self
            .create_endpoint(endpoint, &mut guard)
            .await
            .map_err(|error| {
                tracing::debug!(%error, "no subscriber endpoint");
                let error = match error {
                    media::Error::Timeout => RoomError::subscriber_endpoint_timeout(),
                    _ => RoomError::subscriber_endpoint(),
                };
                self.unless_gone(&seat, error)
            })?;
        let connect = Step::Connect(draft.source.clone(), endpoint.id.clone(), None);
        let answer = async {
            let process = self.0.media.process_offer(&endpoint.id, offer);
            let answer = self.within_deadline(process).await?;
            if draft.web {
                let gather = self.0.media.gather_candidates(&endpoint.id);
                self.within_deadline(gather).await?;
            }
            self.make(&connect).await?;
            Ok(answer)
        };
        let answer = answer.await.map_err(|error: media::Error| {
            tracing::debug!(%error, "subscription refused");
            let error = RoomError::subscribe_answer(seat.user(), &draft.publisher_name);
            self.unless_gone(&seat, error)
        })?;
        let mut wired = Wiring::default();
        wired.apply(&connect);
        let answered = answer.clone();
        let slot = endpoint.slot.clone();
        self.apply(reply, |state| {
            state.subscribe(&seat, &draft, endpoint, wired, answered)
        })?;
        guard.hand_over();
        self.repeat_news(slot);
        Ok(answer)
    }

    /// Ends the subscription to the user called `remote`, if there is one. Errors: 102 no such user.
    pub async fn unsubscribe(
        &self,
        participant: &ParticipantId,
        remote: &str,
    ) -> Result<(), RoomError> {
        let remote = Remote::User(remote);
        self.unsubscribe_as(participant, remote, &mut Reply::nobody())
            .await
    }

    pub(super) async fn unsubscribe_as(
        &self,
        participant: &ParticipantId,
        remote: Remote<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        self.apply(reply, |state| state.unsubscribe(&seat, remote))
    }

    /// Passes on a candidate of the client: for its publication if `endpoint_name` is its own name,
    /// else for its subscription to that user. It may come before the endpoint exists. What the media
    /// server says is only logged. Errors: 306 plain RTP.
    pub async fn add_ice_candidate(
        &self,
        participant: &ParticipantId,
        endpoint_name: &str,
        candidate: IceCandidate,
    ) -> Result<(), RoomError> {
        let reply = &mut Reply::nobody();
        self.add_candidate_as(participant, endpoint_name, candidate, reply)
            .await
    }

    pub(super) async fn add_candidate_as(
        &self,
        participant: &ParticipantId,
        endpoint_name: &str,
        candidate: IceCandidate,
        reply: &mut Reply<'_>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        let element = {
            let mut state = self.0.state.lock();
            state.route_candidate(&seat, endpoint_name, &candidate)?
        };
        if let Some(element) = element {
            self.add_candidate(&element, candidate).await;
        }
        self.apply(reply, |_| Ok(((), Effects::reply(Response::Empty))))
    }

    /// Sends a message to everyone in the participant's room, itself included. Errors: 102 `user` is not
    /// its name, 202 `room` is not its room, 999 too long.
    pub fn send_message(
        &self,
        participant: &ParticipantId,
        message: &str,
        user: &str,
        room: &str,
    ) -> Result<(), RoomError> {
        self.apply(&mut Reply::nobody(), |state| {
            let seat = state.seat(participant)?;
            state.send_message(&seat, message, user, room)
        })
    }

    /// Tells everyone in a room something of the application's own, as [`Notification::Custom`].
    /// Errors: 202.
    pub fn notify(&self, room: &str, notification: Notification) -> Result<(), RoomError> {
        self.apply(&mut Reply::nobody(), |state| {
            state.notify(room, notification)
        })
    }

    /// Mutes what the participant gets from the user called `remote`, on top of what is muted
    /// already. Nobody is told. Without a subscription nothing happens. Errors: 102, 105.
    pub async fn mute_subscribed(
        &self,
        participant: &ParticipantId,
        remote: &str,
        media: MutedMedia,
    ) -> Result<(), RoomError> {
        self.set_subscribed_mute(participant, remote, Some(media))
            .await
    }

    /// Unmutes all that the participant gets from the user called `remote`. Errors: 102, 105.
    pub async fn unmute_subscribed(
        &self,
        participant: &ParticipantId,
        remote: &str,
    ) -> Result<(), RoomError> {
        self.set_subscribed_mute(participant, remote, None).await
    }

    async fn set_subscribed_mute(
        &self,
        participant: &ParticipantId,
        remote: &str,
        media: Option<MutedMedia>,
    ) -> Result<(), RoomError> {
        let (seat, _turn) = self.take_turn(participant).await?;
        let scope: Option<Scope> = {
            let mut state = self.0.state.lock();
            state.mute_subscribed(&seat, remote, media)?
        };
        if let Some(scope) = scope {
            self.rewire_logging(&seat, scope).await;
        }
        Ok(())
    }
}
