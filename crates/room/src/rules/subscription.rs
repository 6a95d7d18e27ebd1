//! The rules of watching others, of candidates and of messages.

use media::{ElementId, IceCandidate, PipelineId};

use super::delivery::Terms;
use super::participant::Subscription;
use super::publication::muted;
use super::state::{MemberId, Seat, State};
use super::{Effects, Endpoint, Kinds, Remote, Scope, Step, Wiring};
use crate::protocol::{Notification, Response, RoomError};
use crate::{MutedMedia, ParticipantId};

/// What subscribing needs to know.
pub(crate) struct SubscribeDraft {
    pub(crate) pipeline: PipelineId,
    pub(crate) participant: ParticipantId,
    pub(crate) web: bool,
    /// The publisher's: what it sends by data channel reaches those who watch it.
    pub(crate) data_channels: bool,
    pub(crate) publisher: MemberId,
    pub(crate) publisher_name: String,
    /// The publisher's pass-through.
    pub(crate) source: ElementId,
    /// The publisher's.
    pub(crate) is_simulcast: bool,
    /// Candidates that came too early.
    pub(crate) candidates: Vec<IceCandidate>,
}

impl State {
    /// A subscription.
    pub(crate) fn draft_subscription(
        &mut self,
        seat: &Seat,
        remote: Remote<'_>,
    ) -> Result<SubscribeDraft, RoomError> {
        let room = self.room_mut(seat)?;
        let publisher = room
            .resolve(remote)
            .map_err(|name| RoomError::subscribe_user_not_found(name, seat.room()))?;
        let remote = room.members.get(&publisher).ok_or_else(|| seat.gone())?;
        let name = remote.name.clone();
        let Some(published) = remote.published() else {
            return Err(RoomError::remote_not_streaming(name, seat.room()));
        };
        if publisher == seat.member {
            return Err(RoomError::loopback_only_when_publishing());
        }
        let (source, data_channels) = (published.pass_through.id.clone(), remote.data_channels);
        let is_simulcast = published.is_simulcast;
        let pipeline = room.pipeline();
        let participant = self.participant_mut(seat)?;
        if participant.is_watching(publisher) {
            return Err(RoomError::subscribe_answer(seat.user(), name));
        }
        let feed = participant.feeds.remove(&publisher).unwrap_or_default();
        Ok(SubscribeDraft {
            pipeline,
            participant: participant.id.clone(),
            web: participant.web,
            data_channels,
            publisher,
            publisher_name: name,
            source,
            is_simulcast,
            candidates: feed.candidates,
        })
    }

    /// The subscription is made, unless its publisher ceased to publish meanwhile.
    pub(crate) fn subscribe(
        &mut self,
        seat: &Seat,
        draft: &SubscribeDraft,
        endpoint: Endpoint,
        wired: Wiring,
        answer: String,
    ) -> Result<((), Effects), RoomError> {
        let room = self.room_mut(seat)?;
        let publisher = room.members.get(&draft.publisher);
        let published = publisher.and_then(|publisher| publisher.published());
        if published.is_none_or(|published| published.pass_through.id != draft.source) {
            return Err(RoomError::subscribe_answer(
                seat.user(),
                &draft.publisher_name,
            ));
        }
        let participant = self.participant_mut(seat)?;
        let feed = participant.feeds.entry(draft.publisher).or_default();
        feed.subscription = Some(Subscription {
            endpoint,
            source: draft.source.clone(),
            muted: Kinds::NONE,
            wired,
            terms: Terms::default(),
        });
        let mut effects = Effects::reply(Response::SdpAnswer(answer));
        self.select_for(seat, &mut effects);
        Ok(((), effects))
    }

    /// The subscription ends, if there is one.
    pub(crate) fn unsubscribe(
        &mut self,
        seat: &Seat,
        remote: Remote<'_>,
    ) -> Result<((), Effects), RoomError> {
        let publisher = self.remote(seat, remote)?;
        let mut effects = Effects::reply(Response::Empty);
        self.participant_mut(seat)?
            .end_feed(publisher, &mut effects);
        self.touch(seat.room());
        Ok(((), effects))
    }

    /// Mutes what is watched, on top of what is muted already; `None` unmutes everything. Returns
    /// what to rewire, if anything.
    pub(crate) fn mute_subscribed(
        &mut self,
        seat: &Seat,
        remote: &str,
        media: Option<MutedMedia>,
    ) -> Result<Option<Scope>, RoomError> {
        let publisher = self.remote(seat, Remote::User(remote))?;
        let room = self.room_mut(seat)?;
        let streaming = room.members.get(&publisher);
        if streaming.is_none_or(|publisher| publisher.published().is_none()) {
            return Err(RoomError::remote_not_streaming(remote, seat.room()));
        }
        let participant = self.participant_mut(seat)?;
        let subscription = participant.subscription_mut(publisher);
        Ok(subscription.map(|subscription| {
            subscription.muted = muted(subscription.muted, media);
            Scope::Feed(publisher)
        }))
    }

    /// Which element a candidate of the client is for. Without one yet, the candidate is kept; for a
    /// user who is not in the room it is dropped.
    pub(crate) fn route_candidate(
        &mut self,
        seat: &Seat,
        endpoint_name: &str,
        candidate: &IceCandidate,
    ) -> Result<Option<ElementId>, RoomError> {
        let limits = self.limits().clone();
        let publisher = self.room_mut(seat)?.by_name(endpoint_name);
        let participant = self.participant_mut(seat)?;
        if !participant.web {
            return Err(RoomError::not_a_web_endpoint());
        }
        if candidate.candidate.len() + candidate.sdp_mid.len() > limits.candidate_bytes {
            return Ok(None);
        }
        let kept = if participant.name == endpoint_name {
            if let Some(endpoint) = participant.publisher_endpoint() {
                return Ok(Some(endpoint.clone()));
            }
            &mut participant.candidates
        } else {
            let Some(publisher) = publisher else {
                return Ok(None);
            };
            let feed = participant.feeds.entry(publisher).or_default();
            if let Some(subscription) = &feed.subscription {
                return Ok(Some(subscription.endpoint.id.clone()));
            }
            &mut feed.candidates
        };
        if kept.len() < limits.buffered_candidates {
            kept.push(candidate.clone());
        }
        Ok(None)
    }

    /// A message goes to everyone, its sender included, after the answer.
    pub(crate) fn send_message(
        &self,
        seat: &Seat,
        message: &str,
        user: &str,
        room: &str,
    ) -> Result<((), Effects), RoomError> {
        if user != seat.user() {
            return Err(RoomError::other_user(user));
        }
        if room != seat.room() {
            return Err(RoomError::other_room(room));
        }
        let limit = self.limits().message_bytes;
        if message.len() > limit {
            return Err(RoomError::too_long("Message", limit));
        }
        let mut effects = Effects::reply(Response::Empty);
        let notification = Notification::SendMessage {
            room: room.to_owned(),
            user: user.to_owned(),
            message: message.to_owned(),
        };
        effects.notify(self.room(room)?.everyone(), notification);
        Ok(((), effects))
    }

    /// The calls that bring a wiring to what it should be; none if it is gone.
    pub(crate) fn steps(&self, seat: &Seat, scope: Scope) -> Vec<Step> {
        let Ok(participant) = self.participant(seat) else {
            return Vec::new();
        };
        match scope {
            Scope::Publication => participant.published().map(|published| {
                let wish = participant.publication_wish(published);
                published.wired.steps_to(&wish)
            }),
            Scope::Feed(publisher) => participant
                .feeds
                .get(&publisher)
                .and_then(|feed| feed.subscription.as_ref())
                .map(|subscription| subscription.wired.steps_to(&subscription.wish())),
        }
        .unwrap_or_default()
    }

    /// One of [`steps`](Self::steps) was made.
    pub(crate) fn step_made(&mut self, seat: &Seat, scope: Scope, step: &Step) {
        let Ok(participant) = self.participant_mut(seat) else {
            return;
        };
        let wired = match scope {
            Scope::Publication => participant
                .published_mut()
                .map(|published| &mut published.wired),
            Scope::Feed(publisher) => participant
                .subscription_mut(publisher)
                .map(|subscription| &mut subscription.wired),
        };
        if let Some(wired) = wired {
            wired.apply(step);
        }
    }

    pub(super) fn remote(
        &mut self,
        seat: &Seat,
        remote: Remote<'_>,
    ) -> Result<MemberId, RoomError> {
        let found = self.room_mut(seat)?.resolve(remote);
        found.map_err(|name| RoomError::user_not_found(name, seat.room()))
    }
}
