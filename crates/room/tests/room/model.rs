//! Random actions. One at a time they are compared with a reference model, line by line; all at once,
//! with failures, delays and dropped requests, they are held to what must always be true.
//!
//! A failing seed is printed; add it to [`SEEDS_OF_PAST_FAILURES`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use media::{Call, Error, Script};
use room::MutedMedia;
use room::protocol::{Notification, Peer, Request, Response};

use crate::world::{Sent, World, id, publish, receive, unsubscribe};

const SEEDS_OF_PAST_FAILURES: [u64; 0] = [];
const SEQUENTIAL_SEEDS: u64 = 60;
const CONCURRENT_SEEDS: u64 = 60;
const ACTIONS: usize = 200;
const USERS: u64 = 6;
const ROOMS: u64 = 2;

/// SplitMix64 (Steele, Lea and Flood, 2014), shared by everything random in a run.
#[derive(Clone)]
struct Random(Arc<AtomicU64>);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// Below `bound`.
    fn below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn user(&self) -> String {
        format!("user{}", self.below(USERS))
    }

    fn room(&self) -> String {
        format!("room{}", self.below(ROOMS))
    }

    fn request(&self, user: &str) -> Request {
        match self.below(10) {
            0..=2 => Request::JoinRoom {
                room: self.room(),
                user: user.to_owned(),
                data_channels: self.one_in(2),
            },
            3 => Request::LeaveRoom,
            4 | 5 => publish(self.one_in(2)),
            6 => Request::UnpublishVideo,
            7 | 8 => receive(&self.user()),
            _ => unsubscribe(&self.user()),
        }
    }
}

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    SEEDS_OF_PAST_FAILURES.into_iter().chain(0..count)
}

/// Prints the seed if the run it lives through panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: {}", self.0);
        }
    }
}

/// What rooms are, without media, waiting or limits.
#[derive(Default)]
struct Model {
    rooms: BTreeMap<String, Vec<Member>>,
}

struct Member {
    name: String,
    publishing: bool,
    watching: BTreeSet<String>,
}

impl Model {
    /// What goes out because of a request, of which the media server fails the first call of `broken`.
    fn ask(&mut self, user: &str, request: &Request, broken: Option<Broken>) -> Vec<String> {
        let answer = |text: String| vec![format!("{user} ← {text}")];
        if let Request::JoinRoom { room, .. } = request {
            return self.join(user, room, broken);
        }
        let Some(room) = self.room_of(user) else {
            return answer(format!(
                "error 102 No participant with id '{user}' was found"
            ));
        };
        let members = self.rooms.get_mut(&room).unwrap();
        let others: Vec<_> = members
            .iter()
            .map(|member| member.name.clone())
            .filter(|name| name != user)
            .collect();
        let tell = |text: String| others.iter().map(move |other| format!("{other} ← {text}"));
        let at = members
            .iter()
            .position(|member| member.name == user)
            .unwrap();
        let sdp = r#"result {"sdpAnswer":"v=0 answer of the server"}"#;
        match request {
            Request::LeaveRoom => {
                self.remove(user, &room);
                let mut lines: Vec<_> =
                    tell(format!(r#"participantLeft {{"name":"{user}"}}"#)).collect();
                lines.push(format!("{user} ← result {{}}"));
                lines.push(format!("{user} closed"));
                lines
            }
            Request::PublishVideo { .. } => {
                let refused =
                    format!("error 302 Error generating SDP response for publishing user {user}");
                if members[at].publishing {
                    return answer(refused);
                }
                match broken {
                    Some(Broken::Create) => {
                        return answer("error 303 Unable to create publisher endpoint".to_owned());
                    }
                    Some(Broken::Negotiate) => return answer(refused),
                    Some(Broken::Connect | Broken::Gather) => {
                        return answer("error 304 media server is full: no".to_owned());
                    }
                    Some(Broken::Pipeline) | None => {}
                }
                members[at].publishing = true;
                let mut lines = answer(sdp.to_owned());
                lines.extend(tell(format!(
                    r#"participantPublished {{"id":"{user}","streams":[{{"id":"webcam"}}]}}"#
                )));
                lines
            }
            Request::UnpublishVideo => {
                if !members[at].publishing {
                    return answer(format!(
                        "error 105 Participant '{user}' is not streaming media"
                    ));
                }
                members[at].publishing = false;
                for member in members {
                    member.watching.remove(user);
                }
                let mut lines = answer("result {}".to_owned());
                lines.extend(tell(format!(
                    r#"participantUnpublished {{"name":"{user}"}}"#
                )));
                lines
            }
            Request::ReceiveVideoFrom { sender, .. } => {
                let remote = sender.strip_suffix("_webcam").unwrap();
                let Some(publisher) = members.iter().find(|member| member.name == remote) else {
                    return answer(format!(
                        "error 102 User '{remote} not found in room '{room}'"
                    ));
                };
                if !publisher.publishing {
                    return answer(format!(
                        "error 105 User '{remote} not streaming media in room '{room}'"
                    ));
                }
                if remote == user {
                    return answer("error 105 Can loopback only when publishing media".to_owned());
                }
                let refused = format!(
                    "error 302 Unable to generate SDP answer when subscribing '{user}' to '{remote}'"
                );
                if members[at].watching.contains(remote) {
                    return answer(refused);
                }
                match broken {
                    Some(Broken::Create) => {
                        return answer("error 303 Unable to create subscriber endpoint".to_owned());
                    }
                    Some(Broken::Negotiate | Broken::Connect | Broken::Gather) => {
                        return answer(refused);
                    }
                    Some(Broken::Pipeline) | None => {}
                }
                members[at].watching.insert(remote.to_owned());
                answer(sdp.to_owned())
            }
            Request::UnsubscribeFromVideo { sender } => {
                let remote = sender.strip_suffix("_webcam").unwrap();
                if members.iter().all(|member| member.name != remote) {
                    return answer(format!("error 102 User {remote} not found in room {room}"));
                }
                members[at].watching.remove(remote);
                answer("result {}".to_owned())
            }
            other => panic!("{other:?} is not modelled"),
        }
    }

    fn join(&mut self, user: &str, room: &str, broken: Option<Broken>) -> Vec<String> {
        if let Some(present) = self.room_of(user) {
            return vec![if present == room {
                format!("{user} ← error 104 User '{user}' already exists in room '{room}'")
            } else {
                format!(
                    "{user} ← error 101 Participant with id '{user}' is already in room '{present}' as '{user}'"
                )
            }];
        }
        if broken == Some(Broken::Pipeline) && !self.rooms.contains_key(room) {
            return vec![format!(
                "{user} ← error 204 Unable to create media pipeline for room '{room}'"
            )];
        }
        let members = self.rooms.entry(room.to_owned()).or_default();
        let mut lines: Vec<_> = members
            .iter()
            .map(|member| format!(r#"{} ← participantJoined {{"id":"{user}"}}"#, member.name))
            .collect();
        let peers = members
            .iter()
            .map(|member| Peer::new(&member.name, member.publishing));
        let peers = Response::Joined(peers.collect()).to_value();
        lines.push(format!("{user} ← result {peers}"));
        members.push(Member {
            name: user.to_owned(),
            publishing: false,
            watching: BTreeSet::new(),
        });
        lines
    }

    fn evict(&mut self, user: &str) -> Vec<String> {
        let Some(room) = self.room_of(user) else {
            return Vec::new();
        };
        self.remove(user, &room);
        let members = self.rooms.get(&room).into_iter().flatten();
        let mut lines: Vec<_> = members
            .map(|member| format!(r#"{} ← participantLeft {{"name":"{user}"}}"#, member.name))
            .collect();
        lines.push(format!("{user} ← participantEvicted {{}}"));
        lines
    }

    fn close(&mut self, room: &str) -> Vec<String> {
        let members = self.rooms.remove(room).unwrap_or_default();
        let told = members.iter();
        told.map(|member| format!(r#"{} ← roomClosed {{"room":"{room}"}}"#, member.name))
            .collect()
    }

    fn remove(&mut self, user: &str, room: &str) {
        let members = self.rooms.get_mut(room).unwrap();
        members.retain(|member| member.name != user);
        for member in members.iter_mut() {
            member.watching.remove(user);
        }
        if members.is_empty() {
            self.rooms.remove(room);
        }
    }

    fn room_of(&self, user: &str) -> Option<String> {
        let holds = |members: &Vec<Member>| members.iter().any(|member| member.name == user);
        self.rooms
            .iter()
            .find(|(_, members)| holds(members))
            .map(|(room, _)| room.clone())
    }

    /// An endpoint and a pass-through of each publisher, an endpoint of each subscription.
    fn element_count(&self) -> usize {
        let members = self.rooms.values().flatten();
        members
            .map(|member| 2 * usize::from(member.publishing) + member.watching.len())
            .sum()
    }

    fn compare(&self, world: &World) {
        assert!(world.rooms.rooms().iter().eq(self.rooms.keys()));
        for (room, members) in &self.rooms {
            let users = world.rooms.participants(room).unwrap();
            let users: Vec<_> = users
                .iter()
                .map(|user| (user.name.as_str(), user.streaming))
                .collect();
            let expected: Vec<_> = members
                .iter()
                .map(|member| (member.name.as_str(), member.publishing))
                .collect();
            assert_eq!(users, expected);
            for member in members {
                let peers = world.rooms.peer_publishers(&id(&member.name)).unwrap();
                let peers: BTreeSet<_> = peers.into_iter().map(|peer| peer.name).collect();
                assert_eq!(peers, member.watching);
            }
        }
        assert_eq!(world.fake.pipelines().len(), self.rooms.len());
        assert_eq!(world.fake.elements().len(), self.element_count());
    }
}

/// Which kind of call fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Pipeline,
    Create,
    Negotiate,
    Connect,
    Gather,
}

impl Broken {
    fn random(random: &Random) -> Option<Self> {
        match random.below(15) {
            0 => Some(Self::Pipeline),
            1 => Some(Self::Create),
            2 => Some(Self::Negotiate),
            3 => Some(Self::Connect),
            4 => Some(Self::Gather),
            _ => None,
        }
    }

    fn matches(self, call: &Call) -> bool {
        match self {
            Self::Pipeline => matches!(call, Call::CreatePipeline),
            Self::Create => matches!(call, Call::CreateElement { .. }),
            Self::Negotiate => matches!(call, Call::ProcessOffer { .. }),
            Self::Connect => matches!(call, Call::Connect { .. }),
            Self::Gather => matches!(call, Call::GatherCandidates { .. }),
        }
    }
}

#[tokio::test]
async fn one_at_a_time_rooms_do_what_the_model_does() {
    for seed in seeds(SEQUENTIAL_SEEDS) {
        let _seed = Seed(seed);
        let (random, world) = (Random::new(seed), World::new());
        let mut model = Model::default();
        for _ in 0..ACTIONS {
            let user = random.user();
            let expected = match random.below(30) {
                0 => {
                    let _ = world.rooms.evict(&id(&user));
                    model.evict(&user)
                }
                1 => {
                    let room = random.room();
                    let _ = world.rooms.close_room(&room);
                    model.close(&room)
                }
                2 => {
                    let _ = world
                        .rooms
                        .mute_published(&id(&user), MutedMedia::Audio)
                        .await;
                    Vec::new()
                }
                _ => {
                    let (request, broken) = (random.request(&user), Broken::random(&random));
                    world.fake.obey();
                    if let Some(broken) = broken {
                        let failure = Script::fail(Error::Full("no".to_owned()));
                        world.fake.once(move |call| broken.matches(call), failure);
                    }
                    let _ = world.ask(&user, request.clone()).await;
                    model.ask(&user, &request, broken)
                }
            };
            world.fake.obey();
            assert_eq!(world.transcript(), expected);
            model.compare(&world);
        }
        world.rooms.close();
        world.assert_nothing_left();
    }
}

/// What tasks do between two acts.
#[derive(Clone, Copy)]
enum Pause {
    /// On a paused clock.
    Sleep,
    /// On several threads.
    Yield,
}

impl Pause {
    async fn take(self, random: &Random) {
        match self {
            Self::Sleep => tokio::time::sleep(Duration::from_millis(random.below(300))).await,
            Self::Yield => tokio::task::yield_now().await,
        }
    }
}

/// A client that asks at random, and loses patience or its connection at random.
async fn live(world: World, random: Random, user: String, pause: Pause) {
    for _ in 0..40 {
        let request = random.request(&user);
        if random.one_in(10) {
            let patience = Duration::from_millis(random.below(400));
            let asked = tokio::time::timeout(patience, world.ask(&user, request)).await;
            if asked.is_err() {
                let _ = world.rooms.evict(&id(&user));
            }
        } else {
            let _ = world.ask(&user, request).await;
        }
        pause.take(&random).await;
    }
}

/// An application that interferes at random.
async fn interfere(world: World, random: Random, pause: Pause) {
    for _ in 0..60 {
        let (user, rooms) = (id(&random.user()), &world.rooms);
        match random.below(8) {
            0 => drop(rooms.evict(&user)),
            1 => drop(rooms.close_room(&random.room())),
            2 => drop(rooms.publish(&user, crate::world::answering(None)).await),
            3 => drop(rooms.unpublish(&user).await),
            4 => drop(rooms.mute_published(&user, MutedMedia::Video).await),
            5 => drop(
                rooms
                    .mute_subscribed(&user, &random.user(), MutedMedia::All)
                    .await,
            ),
            6 => drop(rooms.publish_offer(&user).await),
            _ => {
                let kind = media::ElementKind::Other("Filter".to_owned());
                if let Ok(element) = rooms.create_element(&user, kind).await {
                    if rooms.add_element(&user, &element, None).await.is_err() {
                        media::MediaServer::release_element(&world.fake, &element);
                    } else if random.one_in(2) {
                        drop(rooms.remove_element(&user, &element).await);
                    }
                }
            }
        }
        pause.take(&random).await;
    }
}

/// What a client believes about its room, from what it was told.
#[derive(Default)]
struct Belief(Option<BTreeMap<String, bool>>);

impl Belief {
    fn hear(&mut self, me: &str, sent: &Sent) {
        match sent {
            Sent::Answer(_, Ok(Response::Joined(peers))) => {
                assert!(self.0.is_none(), "{me} is in one room at a time");
                let peers = peers
                    .iter()
                    .map(|peer| (peer.id.clone(), peer.streams.is_some()));
                self.0 = Some(peers.collect());
            }
            Sent::Answer(..) => {}
            Sent::Closed(_) => self.0 = None,
            Sent::Notification(_, notification) => self.hear_notification(me, notification),
        }
    }

    fn hear_notification(&mut self, me: &str, notification: &Notification) {
        if matches!(
            notification,
            Notification::ParticipantEvicted | Notification::RoomClosed { .. }
        ) {
            assert!(self.0.take().is_some(), "{me} was in a room");
            return;
        }
        let peers = self.0.as_mut().expect("who is told of others is in a room");
        match notification {
            Notification::ParticipantJoined { user } => {
                assert_eq!(peers.insert(user.clone(), false), None, "{user} joins once");
            }
            Notification::ParticipantLeft { user } => {
                assert!(peers.remove(user).is_some(), "{user} was there");
            }
            Notification::ParticipantPublished { user, .. } => {
                assert_eq!(
                    peers.insert(user.clone(), true),
                    Some(false),
                    "{user} publishes once"
                );
            }
            Notification::ParticipantUnpublished { user } => {
                assert_eq!(
                    peers.insert(user.clone(), false),
                    Some(true),
                    "{user} did publish"
                );
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The clients' beliefs and the media server's elements agree with the rooms.
fn check(world: &World) {
    let mut beliefs: BTreeMap<String, Belief> = BTreeMap::new();
    for sent in world.take_log() {
        let (Sent::Answer(to, _) | Sent::Closed(to) | Sent::Notification(to, _)) = &sent;
        beliefs
            .entry(to.to_string())
            .or_default()
            .hear(to.as_str(), &sent);
    }
    let living: BTreeSet<_> = world
        .fake
        .elements()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let mut elements = 0;
    for room in world.rooms.rooms() {
        let users = world.rooms.participants(&room).unwrap();
        assert!(!users.is_empty(), "no empty room is left");
        for user in &users {
            let peers = users.iter().filter(|peer| peer.id != user.id);
            let peers: BTreeMap<_, _> = peers
                .map(|peer| (peer.name.clone(), peer.streaming))
                .collect();
            let belief = beliefs.remove(user.id.as_str()).and_then(|belief| belief.0);
            assert_eq!(belief, Some(peers), "{} in {room}", user.name);
            elements += 2 * usize::from(user.streaming);
            elements += world.rooms.peer_publishers(&user.id).unwrap().len();
            // The application may have added one of a room that is closed.
            let chain = world.rooms.elements(&user.id).unwrap();
            elements += chain
                .iter()
                .filter(|element| living.contains(element))
                .count();
        }
    }
    let offers = living.len() - elements;
    assert!(offers.is_multiple_of(2), "the rest are offers that are out");
    assert!(
        beliefs.values().all(|belief| belief.0.is_none()),
        "nobody believes to be in a room that is not"
    );
    assert_eq!(world.fake.pipelines().len(), world.rooms.rooms().len());
}

#[tokio::test(start_paused = true)]
async fn all_at_once_everyone_hears_the_truth_and_nothing_leaks() {
    for seed in seeds(CONCURRENT_SEEDS) {
        let _seed = Seed(seed);
        let (random, world) = (Random::new(seed), World::new());
        let dice = random.clone();
        world.fake.on_call(move |_| {
            let delay = match dice.below(60) {
                0 => Duration::from_secs(40),
                1..=20 => Duration::ZERO,
                _ => Duration::from_millis(dice.below(200)),
            };
            let failure = dice.one_in(20).then(|| Error::Full("no".to_owned()));
            let lag = Duration::from_millis(dice.below(100));
            Some(Script {
                delay,
                failure,
                lag,
            })
        });
        run_all(&world, &random, Pause::Sleep).await;
        check(&world);
        world.rooms.close();
        world.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_everyone_hears_the_truth() {
    for seed in seeds(CONCURRENT_SEEDS) {
        let _seed = Seed(seed);
        let (random, world) = (Random::new(seed), World::new());
        run_all(&world, &random, Pause::Yield).await;
        check(&world);
        world.rooms.close();
        world.assert_nothing_left();
    }
}

async fn run_all(world: &World, random: &Random, pause: Pause) {
    let mut tasks = tokio::task::JoinSet::new();
    for user in 0..USERS {
        let user = format!("user{user}");
        tasks.spawn(live(world.clone(), random.clone(), user, pause));
    }
    tasks.spawn(interfere(world.clone(), random.clone(), pause));
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
