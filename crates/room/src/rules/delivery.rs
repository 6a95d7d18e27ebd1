//! The rules of what subscribers are sent: their wishes, the room's, and what the media server makes of both.
//!
//! Read [`Terms`] first. The media server is told by flows, one call for each subscription at a time; here is
//! kept what it should be told and what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use media::{Delivery, ElementId, LayerDemand, MediaKind, VideoDelivery};

use super::participant::Participant;
use super::room::Room;
use super::selection::held;
use super::state::{MemberId, Seat, State};
use super::{Effects, Kinds, Remote, Scope};
use crate::protocol::{Notification, RoomError, STREAM_ID, SubscribedVideo};
use crate::{ParticipantId, Selection};

/// Who speaks is told no more often. Too low: a lively room of hundreds is busy telling itself who speaks. Too
/// high: the frame around who speaks lags behind the sound.
const FLOOR_INTERVAL: Duration = Duration::from_millis(200);
/// Too low: not everybody in a lively talk is seen to speak. Too high: clapping fills the network.
const SPEAKING_TOLD_MAX: usize = 8;

/// What a subscriber gets of a stream.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// What the subscriber wants.
    wish: Delivery,
    /// What the room holds back, whatever the subscriber wants.
    held: Kinds,
    /// What the media server was told last.
    told: Delivery,
    /// A flow is telling it something.
    is_telling: bool,
    /// The subscription waits in [`Attention`].
    is_due: bool,
    /// What the media server said last.
    video: Option<VideoDelivery>,
    /// What of that the subscriber knows.
    reported: Option<SubscribedVideo>,
}

impl Terms {
    /// Both have a say: each can pause, and nobody undoes the other's pause.
    fn due(&self) -> Delivery {
        Delivery {
            audio: self.wish.audio && !self.held.contains(MediaKind::Audio),
            video: self.wish.video && !self.held.contains(MediaKind::Video),
            ..self.wish
        }
    }

    /// What the subscriber does not know yet.
    fn report(&mut self) -> Option<SubscribedVideo> {
        let by_room = self.wish.video && self.held.contains(MediaKind::Video);
        let video = SubscribedVideo::new(self.video?, by_room);
        (self.reported.replace(video) != Some(video)).then_some(video)
    }
}

/// Who has the floor and who speaks, as everybody was told.
#[derive(Debug, Default)]
pub(super) struct Floor {
    dominant: Option<MemberId>,
    speaking: Vec<MemberId>,
    told_at: Option<Instant>,
}

/// What the flow that runs all the time must look at. Entries go with their rooms.
#[derive(Debug, Default)]
pub(super) struct Attention {
    is_wanted: bool,
    /// Rooms in which something happened.
    stale: BTreeSet<String>,
    /// Rooms in which something happens by itself.
    timers: BTreeSet<(Instant, String)>,
    /// Subscriptions of which the media server has to be told something.
    due: Vec<(Seat, MemberId)>,
}

impl Attention {
    pub(super) fn forget(&mut self, room: &Room) {
        self.stale.remove(&room.name);
        if let Some(at) = room.timer {
            self.timers.remove(&(at, room.name.clone()));
        }
        self.due.retain(|(seat, _)| seat.room() != room.name);
    }
}

/// What a media server says of one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct News {
    pub(crate) video: Option<VideoDelivery>,
    pub(crate) speaking: Option<bool>,
    pub(crate) layers: Option<Vec<LayerDemand>>,
}

impl State {
    // What the media server is told.

    /// A subscriber says what it wants, in place of what it said before. Returns whose stream it is.
    pub(crate) fn set_wish(
        &mut self,
        seat: &Seat,
        remote: Remote<'_>,
        wish: Delivery,
    ) -> Result<(MemberId, Effects), RoomError> {
        let publisher = self.remote(seat, remote)?;
        let room = self.room_mut(seat)?;
        let mut effects = Effects::default();
        let Some(terms) = room.terms_mut(seat.member, publisher) else {
            let name = room.members.get(&publisher).map(|member| &member.name);
            let name = name.ok_or_else(|| seat.gone())?;
            return Err(RoomError::not_subscribed(seat.user(), name));
        };
        terms.wish = wish;
        // What it gave priority may take the place of something else.
        self.select_for(seat, &mut effects);
        self.room_mut(seat)?
            .report(seat.member, publisher, &mut effects);
        Ok((publisher, effects))
    }

    /// Holds back what the room does not show to one participant.
    pub(super) fn select_for(&mut self, seat: &Seat, effects: &mut Effects) {
        if let Some(room) = self.rooms.get_mut(seat.room()) {
            room.select_for(seat.member, &mut self.attention.due, effects);
        }
        self.attention.is_wanted |= !self.attention.due.is_empty();
    }

    /// What the media server must be told of a subscription; `None` if it knows, or somebody is
    /// telling it. [`end_delivery`](Self::end_delivery) follows.
    pub(crate) fn begin_delivery(
        &mut self,
        seat: &Seat,
        publisher: MemberId,
    ) -> Option<(ElementId, Delivery)> {
        let participant = self.participant_mut(seat).ok()?;
        let subscription = participant.subscription_mut(publisher)?;
        let terms = &mut subscription.terms;
        let due = terms.due();
        if terms.is_telling || terms.told == due {
            return None;
        }
        terms.is_telling = true;
        Some((subscription.endpoint.id.clone(), due))
    }

    /// The media server was told, or could not be if `told` is `None`.
    pub(crate) fn end_delivery(
        &mut self,
        seat: &Seat,
        publisher: MemberId,
        endpoint: &ElementId,
        told: Option<Delivery>,
    ) {
        let participant = self.participant_mut(seat).ok();
        let subscription = participant.and_then(|watching| watching.subscription_mut(publisher));
        if let Some(subscription) = subscription.filter(|present| present.endpoint.id == *endpoint)
        {
            let terms = &mut subscription.terms;
            terms.is_telling = false;
            terms.told = told.unwrap_or(terms.told);
        }
    }

    /// A subscription of which the media server has to be told something.
    pub(crate) fn next_due(&mut self) -> Option<(Seat, MemberId)> {
        let (seat, publisher) = self.attention.due.pop()?;
        if let Ok(room) = self.room_mut(&seat)
            && let Some(terms) = room.terms_mut(seat.member, publisher)
        {
            terms.is_due = false;
        }
        Some((seat, publisher))
    }

    /// Which publishers the participants of a room get from here on.
    pub(crate) fn set_selection(
        &mut self,
        room: &str,
        selection: Selection,
    ) -> Result<((), Effects), RoomError> {
        self.room_by_name_mut(room)?.selection = selection;
        self.touch(room);
        Ok(((), Effects::default()))
    }

    // What the media server tells.

    /// The media server says something of an endpoint that is in use.
    pub(crate) fn handle_news(
        &mut self,
        now: Instant,
        seat: &Seat,
        scope: Scope,
        news: News,
    ) -> Effects {
        let mut effects = Effects::default();
        let Ok(room) = self.room_mut(seat) else {
            return effects;
        };
        match scope {
            Scope::Feed(publisher) => {
                if let Some(terms) = room.terms_mut(seat.member, publisher) {
                    terms.video = news.video;
                    room.report(seat.member, publisher, &mut effects);
                }
            }
            Scope::Publication => {
                room.publication_news(seat.member, &news, &mut effects);
                if let Some(speaking) = news.speaking {
                    room.speakers.handle_voice(now, seat.member, speaking);
                    self.touch(seat.room());
                }
            }
        }
        effects
    }

    // Time.

    /// Something happened in a room that [`handle_timeout`](Self::handle_timeout) looks at.
    pub(super) fn touch(&mut self, room: &str) {
        self.attention.is_wanted = true;
        if !self.attention.stale.contains(room) {
            self.attention.stale.insert(room.to_owned());
        }
    }

    /// Whether [`handle_timeout`](Self::handle_timeout) wants to be called now; asks once.
    pub(crate) fn take_attention(&mut self) -> bool {
        std::mem::take(&mut self.attention.is_wanted)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.attention.timers.first().map(|(at, _)| *at)
    }

    /// Follows what happened, and what time alone changes.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        self.attention.is_wanted = false;
        while let Some((at, room)) = self.attention.timers.pop_first() {
            if at > now {
                self.attention.timers.insert((at, room));
                break;
            }
            if let Some(known) = self.rooms.get_mut(&room) {
                known.timer = None;
            }
            self.attention.stale.insert(room);
        }
        for name in std::mem::take(&mut self.attention.stale) {
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            room.speakers.handle_timeout(now);
            let floor_due = room.tell_floor(now, &mut effects);
            room.select(&mut self.attention.due, &mut effects);
            let timer = [room.speakers.poll_timeout(), floor_due]
                .into_iter()
                .flatten()
                .min();
            if let Some(former) = std::mem::replace(&mut room.timer, timer) {
                self.attention.timers.remove(&(former, name.clone()));
            }
            if let Some(at) = timer {
                self.attention.timers.insert((at, name));
            }
        }
        effects
    }
}

impl Room {
    fn terms_mut(&mut self, subscriber: MemberId, publisher: MemberId) -> Option<&mut Terms> {
        let participant = self.members.get_mut(&subscriber)?;
        let subscription = participant.subscription_mut(publisher)?;
        Some(&mut subscription.terms)
    }

    /// Tells a subscriber what became of a video, if that is news.
    fn report(&mut self, subscriber: MemberId, publisher: MemberId, effects: &mut Effects) {
        let video = self
            .terms_mut(subscriber, publisher)
            .and_then(Terms::report);
        let subscriber = self.members.get(&subscriber);
        let publisher = self.members.get(&publisher);
        if let (Some(video), Some(subscriber), Some(publisher)) = (video, subscriber, publisher) {
            let sender = format!("{}_{STREAM_ID}", publisher.name);
            let change = Notification::VideoDelivery { sender, video };
            self.tell(subscriber, change, effects);
        }
    }

    /// Tells a publisher who of its layers is watched, and what comes back of a loopback.
    fn publication_news(&mut self, member: MemberId, news: &News, effects: &mut Effects) {
        let Some(participant) = self.members.get_mut(&member) else {
            return;
        };
        let sender = format!("{}_{STREAM_ID}", participant.name);
        let Some(published) = participant.published_mut() else {
            return;
        };
        let is_new = published.news.layers != news.layers;
        let layers = news.layers.clone().filter(|_| is_new);
        let is_new = published.news.video != news.video;
        let video = news.video.filter(|_| is_new);
        published.news = news.clone();
        let Some(participant) = self.members.get(&member) else {
            return;
        };
        if let Some(layers) = layers {
            self.tell(participant, Notification::LayersWanted { layers }, effects);
        }
        if let Some(video) = video {
            let video = SubscribedVideo::new(video, false);
            let change = Notification::VideoDelivery { sender, video };
            self.tell(participant, change, effects);
        }
    }

    /// Tells the application, and the client if it understands.
    fn tell(&self, participant: &Participant, change: Notification, effects: &mut Effects) {
        if participant.media_events {
            effects.notify(vec![participant.id.clone()], change.clone());
        }
        effects.observe(&self.name, Some(&participant.id), change);
    }

    /// Tells who speaks, if that is news. Returns when to come back because it is too early.
    fn tell_floor(&mut self, now: Instant, effects: &mut Effects) -> Option<Instant> {
        let dominant = self.speakers.dominant();
        let speaking: Vec<_> = self.speakers.speaking().take(SPEAKING_TOLD_MAX).collect();
        let is_new = self.floor.dominant != dominant || self.floor.speaking != speaking;
        let told_at = self.floor.told_at;
        if is_new
            && let Some(due) = told_at
                .map(|at| at + FLOOR_INTERVAL)
                .filter(|due| *due > now)
        {
            return Some(due);
        }
        let name = |member: &MemberId| Some(self.members.get(member)?.name.clone());
        let change = Notification::ActiveSpeakers {
            dominant: dominant.as_ref().and_then(name),
            speaking: speaking.iter().filter_map(name).collect(),
        };
        if is_new {
            self.floor = Floor {
                dominant,
                speaking,
                told_at: Some(now),
            };
        }
        let nothing_yet = self.floor.told_at.is_none();
        let receivers = self.members.values_mut().filter(|member| {
            member.media_events && (is_new || !member.knows_floor) && !nothing_yet
        });
        let receivers: Vec<ParticipantId> = receivers
            .map(|member| {
                member.knows_floor = true;
                member.id.clone()
            })
            .collect();
        effects.notify(receivers, change.clone());
        if is_new {
            effects.observe(&self.name, None, change);
        }
        None
    }

    /// Holds back what the room does not show, and nothing else.
    fn select(&mut self, due: &mut Vec<(Seat, MemberId)>, effects: &mut Effects) {
        let is_off = self.selection == Selection::default();
        if is_off && !std::mem::take(&mut self.is_selecting) {
            return;
        }
        self.is_selecting = !is_off;
        let members: Vec<_> = self.members.keys().copied().collect();
        for member in members {
            self.select_for(member, due, effects);
        }
    }

    /// [`select`](Self::select) for one participant.
    fn select_for(
        &mut self,
        subscriber: MemberId,
        due: &mut Vec<(Seat, MemberId)>,
        effects: &mut Effects,
    ) {
        let Some(participant) = self.members.get_mut(&subscriber) else {
            return;
        };
        let watched: BTreeMap<_, _> = participant
            .subscriptions_mut()
            .map(|(publisher, subscription)| (publisher, subscription.terms.wish.priority))
            .collect();
        let held = held(self.selection, &self.speakers, &watched);
        let seat = Seat::new(&self.name, subscriber, &participant.name);
        let mut changed = Vec::new();
        for (publisher, subscription) in participant.subscriptions_mut() {
            let terms = &mut subscription.terms;
            let kinds = held.get(&publisher).copied().unwrap_or_default();
            if std::mem::replace(&mut terms.held, kinds) == kinds {
                continue;
            }
            changed.push(publisher);
            if !std::mem::replace(&mut terms.is_due, true) {
                due.push((seat.clone(), publisher));
            }
        }
        for publisher in changed {
            self.report(subscriber, publisher, effects);
        }
    }
}
