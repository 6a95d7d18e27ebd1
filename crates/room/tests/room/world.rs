//! A process with rooms on a fake media server, and a log of everything that goes out to clients.

use std::collections::HashMap;
use std::sync::Arc;

use media::{Call, Delivery, ElementId, ElementKind, ErrorKind, Event, Fake, IceCandidate};
use parking_lot::Mutex;
use room::protocol::{Notification, Peer, Request, Response, RoomError};
use room::{
    Application, FilterAction, FilterChange, Join, Limits, Loopback, Options, ParticipantId,
    Publish, Rooms, Sdp, UserParticipant,
};

/// What a client offers.
pub(crate) const OFFER: &str = "v=0 offer of the client";

/// Rooms, the media server below them and the clients above.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rooms: Rooms<Fake>,
    pub(crate) fake: Fake,
    pub(crate) clients: Arc<Clients>,
}

/// Everything that went out, in order.
#[derive(Default)]
pub(crate) struct Clients {
    log: Mutex<Vec<Sent>>,
    /// What the application was told of media.
    pub(crate) changes: Mutex<Vec<String>>,
    /// Users who may not make rooms.
    pub(crate) refused: Mutex<Vec<String>>,
    /// What a filter's next state is, and what it does.
    pub(crate) filters: Mutex<HashMap<String, (Option<String>, FilterAction)>>,
}

/// Something a client got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    Notification(ParticipantId, Notification),
    Answer(ParticipantId, Result<Response, RoomError>),
    Closed(ParticipantId),
}

impl Sent {
    /// One line of a transcript: `bob ← participantJoined {"id":"carol"}`.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Notification(to, notification) => {
                format!("{to} ← {} {}", notification.method(), notification.params())
            }
            Self::Answer(to, Ok(response)) => format!("{to} ← result {}", response.to_value()),
            Self::Answer(to, Err(error)) => {
                format!("{to} ← error {} {}", error.code, error.message)
            }
            Self::Closed(to) => format!("{to} closed"),
        }
    }
}

impl Application for Clients {
    fn notify(&self, receivers: &[ParticipantId], notification: Notification) {
        assert!(!receivers.is_empty(), "{notification:?} is for nobody");
        let mut log = self.log.lock();
        for receiver in receivers {
            log.push(Sent::Notification(receiver.clone(), notification.clone()));
        }
    }

    fn close_session(&self, participant: &ParticipantId) {
        self.log.lock().push(Sent::Closed(participant.clone()));
    }

    fn media_changed(
        &self,
        room: &str,
        participant: Option<&ParticipantId>,
        change: &Notification,
    ) {
        assert!(change.needs_media_events());
        let participant = participant.map_or("*", ParticipantId::as_str);
        let line = format!("{room}/{participant} {}", change.method());
        self.changes.lock().push(line);
    }

    fn may_create_room(&self, room: &str, user: &str) -> Result<(), RoomError> {
        if self.refused.lock().iter().any(|refused| refused == user) {
            return Err(RoomError::room_must_be_created(room, user));
        }
        Ok(())
    }

    fn next_filter_state(&self, _room: &str, filter: &str, _state: Option<&str>) -> Option<String> {
        self.filters.lock().get(filter)?.0.clone()
    }

    fn filter_changed(
        &self,
        _room: &str,
        _participant: &UserParticipant,
        filter: &str,
        state: Option<&str>,
    ) -> FilterChange {
        let filters = self.filters.lock();
        let Some((_, action)) = filters.get(filter) else {
            return FilterChange::default();
        };
        let mut params = serde_json::Map::new();
        params.insert("state".to_owned(), state.into());
        FilterChange {
            notification: Some(Notification::Custom {
                method: "custonNotification".to_owned(),
                params,
            }),
            action: action.clone(),
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(Options {
            limits,
            ..Options::default()
        })
    }

    pub(crate) fn with(options: Options) -> Self {
        let (fake, clients) = (Fake::new(), Arc::<Clients>::default());
        let application: Arc<dyn Application> = clients.clone();
        Self {
            rooms: Rooms::new(fake.clone(), application, options),
            fake,
            clients,
        }
    }

    /// A request of a client, as its session would make it.
    pub(crate) async fn ask(
        &self,
        participant: &str,
        request: Request,
    ) -> Result<Response, RoomError> {
        let participant = id(participant);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (log, kept) = (self.clients.clone(), answers.clone());
        let to = participant.clone();
        self.rooms
            .handle(&participant, request, move |answer| {
                log.log.lock().push(Sent::Answer(to, answer.clone()));
                kept.lock().push(answer);
            })
            .await;
        let mut answers = std::mem::take(&mut *answers.lock());
        assert_eq!(answers.len(), 1, "exactly one answer");
        answers.remove(0)
    }

    pub(crate) async fn join(&self, user: &str, room: &str) -> Vec<Peer> {
        let request = Request::JoinRoom {
            room: room.to_owned(),
            user: user.to_owned(),
            data_channels: false,
            media_events: false,
        };
        match self.ask(user, request).await {
            Ok(Response::Joined(peers)) => peers,
            other => panic!("{user} joins {room}: {other:?}"),
        }
    }

    /// A client that understands what Kurento Room has not.
    pub(crate) async fn join_modern(&self, user: &str, room: &str) {
        let request = Request::JoinRoom {
            room: room.to_owned(),
            user: user.to_owned(),
            data_channels: false,
            media_events: true,
        };
        self.ask(user, request).await.unwrap();
    }

    pub(crate) async fn join_rtp(&self, user: &str, room: &str) -> Vec<UserParticipant> {
        let join = Join {
            room: room.to_owned(),
            user: user.to_owned(),
            data_channels: false,
            web: false,
            media_events: false,
        };
        self.rooms.join(&id(user), join).await.unwrap()
    }

    /// Users called `user0`… in one room.
    pub(crate) async fn join_many(&self, count: usize, room: &str) -> Vec<String> {
        let users: Vec<_> = (0..count).map(|at| format!("user{at}")).collect();
        for user in &users {
            self.join(user, room).await;
        }
        users
    }

    pub(crate) async fn publish(&self, user: &str) {
        let answer = self.ask(user, publish(false)).await;
        assert_eq!(answer, Ok(Response::SdpAnswer(Fake::ANSWER.to_owned())));
    }

    pub(crate) async fn subscribe(&self, user: &str, to: &str) {
        let answer = self.ask(user, receive(to)).await;
        assert_eq!(answer, Ok(Response::SdpAnswer(Fake::ANSWER.to_owned())));
    }

    /// Everyone but the first subscribes to the first.
    pub(crate) async fn subscribe_all(&self, users: &[String]) {
        for user in &users[1..] {
            self.subscribe(user, &users[0]).await;
        }
    }

    /// Everything since the last call.
    pub(crate) fn take_log(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.clients.log.lock())
    }

    /// Everything since the last call, as transcript.
    pub(crate) fn transcript(&self) -> Vec<String> {
        self.take_log().iter().map(Sent::line).collect()
    }

    /// Number of publishers and of subscribers.
    pub(crate) fn counts(&self, room: &str) -> (usize, usize) {
        let publishers = self.rooms.publishers(room).unwrap().len();
        (publishers, self.rooms.subscribers(room).unwrap().len())
    }

    /// Endpoints that are not released, in the order in which they were made.
    pub(crate) fn endpoints(&self) -> Vec<ElementId> {
        let mut endpoints: Vec<_> = self
            .fake
            .elements()
            .into_iter()
            .filter(|(_, kind)| {
                matches!(
                    kind,
                    ElementKind::WebRtcEndpoint { .. } | ElementKind::RtpEndpoint { .. }
                )
            })
            .map(|(id, _)| id)
            .collect();
        endpoints.sort_by_key(sequence);
        endpoints
    }

    /// Asserts that the media server is as if nothing had ever happened.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.fake.pipelines(), []);
        assert_eq!(self.fake.elements(), []);
        assert_eq!(self.fake.connection_count(), 0);
        assert_eq!(self.rooms.rooms(), [""; 0]);
    }

    /// Calls that connect or disconnect, as `connect WebRtcEndpoint → PassThrough audio`.
    pub(crate) fn take_wiring(&self) -> Vec<String> {
        let calls = self.fake.calls();
        self.fake.forget_calls();
        let lines = calls.into_iter().filter_map(|call| match call {
            Call::Connect { source, sink, kind } => Some(("connect", source, sink, kind)),
            Call::Disconnect { source, sink, kind } => Some(("disconnect", source, sink, kind)),
            _ => None,
        });
        lines
            .map(|(verb, source, sink, kind)| {
                let kind = kind.map_or(String::new(), |kind| format!(" {kind:?}"));
                format!("{verb} {} → {}{kind}", class(&source), class(&sink))
            })
            .collect()
    }
}

pub(crate) fn id(participant: &str) -> ParticipantId {
    ParticipantId::new(participant)
}

pub(crate) fn publish(loopback: bool) -> Request {
    Request::PublishVideo {
        sdp_offer: OFFER.to_owned(),
        loopback,
    }
}

pub(crate) fn receive(user: &str) -> Request {
    Request::ReceiveVideoFrom {
        sender: format!("{user}_webcam"),
        sdp_offer: OFFER.to_owned(),
    }
}

pub(crate) fn wish(user: &str, delivery: Delivery) -> Request {
    Request::SetSubscription {
        sender: format!("{user}_webcam"),
        delivery,
    }
}

pub(crate) fn unsubscribe(user: &str) -> Request {
    Request::UnsubscribeFromVideo {
        sender: format!("{user}_webcam"),
    }
}

pub(crate) fn offering(loopback: Option<Loopback>) -> Publish {
    Publish {
        sdp: Sdp::Offer(OFFER.to_owned()),
        loopback,
        elements: Vec::new(),
    }
}

pub(crate) fn answering(loopback: Option<Loopback>) -> Publish {
    Publish {
        sdp: Sdp::Answer("v=0 answer of the client".to_owned()),
        ..offering(loopback)
    }
}

pub(crate) fn candidate() -> IceCandidate {
    IceCandidate {
        candidate: "1 candidate test".to_owned(),
        sdp_mid: "audio".to_owned(),
        sdp_m_line_index: 1,
    }
}

pub(crate) fn failure() -> Event {
    Event::Error {
        kind: ErrorKind::Other("TEST_ERR".to_owned()),
        description: "Fake media error".to_owned(),
        code: 101,
    }
}

pub(crate) fn pipeline_failure() -> Event {
    Event::Error {
        kind: ErrorKind::Other("TEST_PP_ERR".to_owned()),
        description: "Fake pipeline error".to_owned(),
        code: 505,
    }
}

/// The class of an element, from its id.
pub(crate) fn class(element: &ElementId) -> &str {
    let (_, class) = element.as_str().rsplit_once("_kurento.").unwrap();
    class
}

fn sequence(element: &ElementId) -> u64 {
    let (_, own) = element.as_str().rsplit_once('/').unwrap();
    own.split_once('_').unwrap().0.parse().unwrap()
}
