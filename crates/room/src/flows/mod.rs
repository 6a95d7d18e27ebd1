//! The flows: look up, await the media server, apply the rule.
//!
//! Read [`Rooms`] first. The state is locked for the rule only, never while the media server works;
//! what the media server made belongs to a guard until the rule takes it over, so that a failure, a
//! dropped future or a participant who left meanwhile releases it.

mod chain;
mod delivering;
mod guard;
mod joining;
mod publishing;
mod subscribing;
mod views;

use std::fmt;
use std::sync::Arc;

use media::{
    BandwidthLimits, ElementId, ElementKind, Error, Event, EventSender, IceCandidate, MediaServer,
    PipelineId,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::news::{Inbox, Slot};
use crate::protocol::{Notification, Request, Response, RoomError};
use crate::rules::{Effects, Endpoint, Gate, Notice, Release, Remote, Scope, Seat, State, Step};
use crate::{Application, Join, Loopback, Options, ParticipantId, Publish, Sdp};
use guard::ElementGuard;

/// All rooms of a process. Cheap to clone.
///
/// Every operation on a participant fails with 102 if it is in no room, and with 103 if it leaves
/// while the operation lasts. Media operations of one participant are served one at a time,
/// in order; leaving and closing do not wait for them.
pub struct Rooms<M>(Arc<Inner<M>>);

struct Inner<M> {
    media: M,
    application: Arc<dyn Application>,
    options: Options,
    /// Permits for endpoints.
    places: Arc<Semaphore>,
    state: Mutex<State>,
    inbox: Arc<Inbox>,
}

impl<M: MediaServer> Rooms<M> {
    /// No rooms yet.
    pub fn new(media: M, application: Arc<dyn Application>, options: Options) -> Self {
        let state = State::new(&options);
        let inbox = Inbox::new(options.limits.endpoints);
        let places = options.limits.endpoints.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            media,
            application,
            options,
            places: Arc::new(Semaphore::new(places)),
            state: Mutex::new(state),
            inbox: Arc::new(inbox),
        }))
    }

    /// The media server.
    pub fn media(&self) -> &M {
        &self.0.media
    }

    /// Serves a request of a client; `answer` is called once, in its place among the notifications.
    ///
    /// The requests of one client should be passed one at a time, in their order. If the future
    /// is dropped before it is ready, the request is undone or, if it was past that, answered already.
    pub async fn handle(
        &self,
        participant: &ParticipantId,
        request: Request,
        answer: impl FnOnce(Result<Response, RoomError>) + Send,
    ) {
        let mut answer = Some(answer);
        let mut reply = |response| {
            if let Some(answer) = answer.take() {
                answer(Ok(response));
            }
        };
        let outcome = self
            .serve(participant, request, Reply(Some(&mut reply)))
            .await;
        if let (Err(error), Some(answer)) = (outcome, answer) {
            answer(Err(error));
        }
    }

    async fn serve(
        &self,
        participant: &ParticipantId,
        request: Request,
        mut reply: Reply<'_>,
    ) -> Result<(), RoomError> {
        let reply = &mut reply;
        match request {
            Request::JoinRoom {
                room,
                user,
                data_channels,
                media_events,
            } => {
                let join = Join {
                    room,
                    user,
                    data_channels,
                    web: true,
                    media_events,
                };
                self.join_as(participant, join, reply).await?;
            }
            Request::LeaveRoom => {
                self.apply(reply, |state| state.leave_and_close(participant))?;
            }
            Request::PublishVideo {
                sdp_offer,
                loopback,
            } => {
                let publish = Publish {
                    sdp: Sdp::Offer(sdp_offer),
                    loopback: loopback.then(Loopback::default),
                    elements: Vec::new(),
                };
                self.publish_as(participant, publish, reply).await?;
            }
            Request::UnpublishVideo => self.unpublish_as(participant, reply).await?,
            Request::ReceiveVideoFrom { sender, sdp_offer } => {
                let remote = Remote::Sender(&sender);
                self.subscribe_as(participant, remote, &sdp_offer, reply)
                    .await?;
            }
            Request::UnsubscribeFromVideo { sender } => {
                let remote = Remote::Sender(&sender);
                self.unsubscribe_as(participant, remote, reply).await?;
            }
            Request::SetSubscription { sender, delivery } => {
                let remote = Remote::Sender(&sender);
                self.set_delivery_as(participant, remote, delivery, reply)
                    .await?;
            }
            Request::OnIceCandidate {
                endpoint_name,
                candidate,
            } => {
                self.add_candidate_as(participant, &endpoint_name, candidate, reply)
                    .await?;
            }
            Request::SendMessage {
                message,
                user,
                room,
            } => {
                self.apply(reply, |state| {
                    let seat = state.seat(participant)?;
                    state.send_message(&seat, &message, &user, &room)
                })?;
            }
            Request::CustomRequest(_) => return Err(RoomError::unsupported_custom_request()),
        }
        Ok(())
    }

    /// Makes a change and does what follows from it: notices under the lock, so that theirs is the
    /// order of the changes; releases after it, because a media server may take locks of its own.
    fn apply<T>(
        &self,
        reply: &mut Reply<'_>,
        rule: impl FnOnce(&mut State) -> Result<(T, Effects), RoomError>,
    ) -> Result<T, RoomError> {
        let (value, releases) = {
            let mut state = self.0.state.lock();
            let (value, effects) = rule(&mut state)?;
            for notice in effects.notices {
                match notice {
                    Notice::Reply(response) => reply.send(response),
                    // The application ends sessions itself.
                    Notice::CloseSession(_) if reply.is_nobody() => {}
                    Notice::CloseSession(participant) => {
                        self.0.application.close_session(&participant);
                    }
                    Notice::Notify(receivers, notification) => {
                        self.0.application.notify(&receivers, notification);
                    }
                    Notice::Observe(room, participant, change) => {
                        let application = &self.0.application;
                        application.media_changed(&room, participant.as_ref(), &change);
                    }
                }
            }
            if state.take_attention() {
                self.0.inbox.wake();
            }
            (value, effects.releases)
        };
        for release in releases {
            match release {
                Release::Element(element) => self.0.media.release_element(&element),
                Release::Pipeline(pipeline) => self.0.media.release_pipeline(&pipeline),
            }
        }
        Ok(value)
    }

    /// [`apply`](Self::apply) for changes that cannot fail and answer nobody.
    fn apply_effects(&self, rule: impl FnOnce(&mut State) -> Effects) {
        // An infallible rule leaves nothing to handle.
        let _ = self.apply(&mut Reply::nobody(), |state| Ok(((), rule(state))));
    }

    fn seat(&self, participant: &ParticipantId) -> Result<Seat, RoomError> {
        self.0.state.lock().seat(participant)
    }

    /// Waits until no other media operation of the participant is under way.
    async fn take_turn(
        &self,
        participant: &ParticipantId,
    ) -> Result<(Seat, OwnedMutexGuard<()>), RoomError> {
        let (seat, turn) = {
            let state = self.0.state.lock();
            let seat = state.seat(participant)?;
            let turn = state.turn(&seat)?;
            (seat, turn)
        };
        Ok((seat, turn.take().await))
    }

    /// Puts the deadline on a call of the media server.
    async fn within_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let call = tokio::time::timeout(self.0.options.media_deadline, call);
        call.await.unwrap_or(Err(Error::Timeout))
    }

    /// Makes an element of a publication or subscription and gives it to the guard.
    async fn create_own_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        gate: Gate,
        events: EventSender,
        guard: &mut ElementGuard<'_, M>,
    ) -> Result<Endpoint, Error> {
        let create = self.0.media.create_element(pipeline, kind, events);
        let id = self.within_deadline(create).await?;
        guard.adopt(id.clone());
        Ok(Endpoint {
            id,
            slot: None,
            _gate: gate,
            _place: None,
        })
    }

    /// Makes an endpoint with its bounds and the candidates that came before it.
    async fn create_endpoint(
        &self,
        draft: EndpointDraft<'_>,
        guard: &mut ElementGuard<'_, M>,
    ) -> Result<Endpoint, Error> {
        let place = Arc::clone(&self.0.places).try_acquire_owned();
        let place = place.map_err(|_| Error::Full("all endpoints are in use".to_owned()))?;
        let gate = Gate::open();
        let slot = Slot::new(draft.seat.clone(), draft.scope, gate.watch());
        let slot = Arc::new(slot);
        let events = self.endpoint_events(&draft, gate.watch(), Arc::clone(&slot));
        let endpoint = Endpoint {
            slot: Some(slot),
            _place: Some(place),
            ..self
                .create_own_element(draft.pipeline, draft.kind, gate, events, guard)
                .await?
        };
        self.set_bounds(&endpoint.id, draft.is_simulcast).await?;
        for candidate in draft.candidates {
            self.add_candidate(&endpoint.id, candidate).await;
        }
        Ok(endpoint)
    }

    /// Several qualities at once do not fit the bounds that are meant for one.
    async fn set_bounds(&self, endpoint: &ElementId, is_simulcast: bool) -> Result<(), Error> {
        let limits = if is_simulcast {
            BandwidthLimits::default()
        } else {
            self.0.options.bandwidth
        };
        let set = self.0.media.set_bandwidth(endpoint, limits);
        self.within_deadline(set).await
    }

    /// A candidate the media server refuses concerns nobody: others may do.
    async fn add_candidate(&self, element: &ElementId, candidate: IceCandidate) {
        let add = self.0.media.add_ice_candidate(element, candidate);
        if let Err(error) = self.within_deadline(add).await {
            tracing::debug!(%element, %error, "candidate refused");
        }
    }

    async fn make(&self, step: &Step) -> Result<(), Error> {
        let media = &self.0.media;
        match step {
            Step::Connect(source, sink, kind) => {
                self.within_deadline(media.connect(source, sink, *kind))
                    .await
            }
            Step::Disconnect(source, sink, kind) => {
                self.within_deadline(media.disconnect(source, sink, *kind))
                    .await
            }
        }
    }

    /// What the media server tells of an endpoint, on threads of its own: passed on without the lock.
    fn endpoint_events(
        &self,
        draft: &EndpointDraft<'_>,
        in_use: impl Fn() -> bool + Send + Sync + 'static,
        slot: Arc<Slot>,
    ) -> EventSender {
        // Not the rooms themselves: they hold the media server, which holds this.
        let inbox = Arc::clone(&self.0.inbox);
        let others = self.element_events(draft.owner, draft.name, in_use);
        EventSender::new(move |event| match event {
            Event::VideoDeliveryChanged(video) => inbox.put(&slot, |news| news.video = Some(video)),
            Event::SpeakingChanged(speaking) => {
                inbox.put(&slot, |news| news.speaking = Some(speaking));
            }
            Event::LayerDemandChanged(layers) => {
                inbox.put(&slot, |news| news.layers = Some(layers));
            }
            other => others.send(other),
        })
    }

    /// What the media server tells of any element, likewise.
    fn element_events(
        &self,
        owner: &ParticipantId,
        endpoint_name: &str,
        in_use: impl Fn() -> bool + Send + Sync + 'static,
    ) -> EventSender {
        let application = Arc::clone(&self.0.application);
        let owner = [owner.clone()];
        let endpoint_name = endpoint_name.to_owned();
        EventSender::new(move |event| {
            let notification = match event {
                Event::IceCandidateFound(candidate) => Notification::IceCandidate {
                    endpoint_name: endpoint_name.clone(),
                    candidate,
                },
                Event::Error {
                    kind,
                    description,
                    code,
                } => Notification::media_error(&kind, &description, code),
                _ => return,
            };
            if in_use() {
                application.notify(&owner, notification);
            }
        })
    }

    /// What was told of an endpoint before it was anybody's is told again.
    fn repeat_news(&self, slot: Option<Arc<Slot>>) {
        if let Some(slot) = slot {
            self.0.inbox.repeat(&slot);
        }
    }
}

impl<M> Clone for Rooms<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Rooms<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rooms")
    }
}

/// What making an endpoint needs to know.
struct EndpointDraft<'a> {
    seat: &'a Seat,
    /// Where it belongs once it is made.
    scope: Scope,
    owner: &'a ParticipantId,
    /// Whose stream it carries, as its owner is told.
    name: &'a str,
    pipeline: &'a PipelineId,
    kind: ElementKind,
    /// The stream comes in several qualities.
    is_simulcast: bool,
    candidates: Vec<IceCandidate>,
}

/// Where the response of a request goes: to a client, or to nobody if the application itself acts.
struct Reply<'a>(Option<&'a mut (dyn FnMut(Response) + Send)>);

impl Reply<'_> {
    fn nobody() -> Self {
        Self(None)
    }

    fn is_nobody(&self) -> bool {
        self.0.is_none()
    }

    fn send(&mut self, response: Response) {
        if let Some(reply) = &mut self.0 {
            reply(response);
        }
    }
}
