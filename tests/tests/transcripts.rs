//! The room protocol, byte by byte, against the real binary. The conversations are in `transcripts/`.

use std::cmp::Reverse;
use std::net::{Ipv4Addr, SocketAddr};

use media::{
    Call, ElementId, ElementKind, Error, ErrorKind, Event, Fake, Hold, LayerDemand, PauseReason,
    Script, VideoDelivery, VideoLayer,
};
use room::{Join, ParticipantId};
use tertulia::config::Config;
use tests::deadline::within;
use tests::peer::{Participant, Viewer};
use tests::server::Server;
use tests::transcript::{self, replay};

async fn check(name: &str) {
    check_with(name, &[]).await;
}

async fn check_with(name: &str, arguments: &[&str]) {
    let server = Server::start_with(arguments).await;
    replay(server.address, name, nobody_else).await;
}

async fn nobody_else(actor: &str, act: &str) -> Option<String> {
    panic!("nobody is {actor}, to do this: {act}");
}

#[tokio::test]
async fn two_people_meet_talk_and_part() {
    check("dialogue").await;
}

#[tokio::test]
async fn sessions_outlive_their_sockets() {
    check("sessions").await;
}

#[tokio::test]
async fn the_lost_and_the_silent_are_given_up() {
    check("lost").await;
}

#[tokio::test]
async fn without_a_room_nothing_can_be_done() {
    check("before_joining").await;
}

#[tokio::test]
async fn joining_is_refused_with_the_known_errors() {
    check("joining").await;
}

#[tokio::test]
async fn publishing_is_refused_and_repeated() {
    check("publishing").await;
}

#[tokio::test]
async fn subscribing_is_refused_and_repeated() {
    check("subscribing").await;
}

#[tokio::test]
async fn messages_reach_their_room_only() {
    check("messages").await;
}

#[tokio::test]
async fn a_closed_room_lets_its_people_go_on() {
    check("closed_room").await;
}

#[tokio::test]
async fn applications_put_people_out_and_tell_rooms_things() {
    check("moderated").await;
}

#[tokio::test]
async fn limits_are_told_as_errors() {
    let limits = ["--max-rooms", "2", "--max-participants", "2"];
    check_with("limits", &[&limits[..], &["--max-endpoints", "1"]].concat()).await;
}

#[tokio::test]
async fn oddities_of_the_original_can_be_had() {
    check_with(
        "original_bytes",
        &["--strict-bytes", "--always-send-streams"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_without_the_codec_are_told() {
    let server = Server::start().await;
    let (mut ana, mut bob) = (None, None);
    let stagehand = async |actor: &str, act: &str| {
        match (actor, act.split_once(" the ").unwrap_or((act, ""))) {
            ("ANA", ("publishes in lab", _)) => {
                let (mut entered, _) = Participant::enter(&server.room_url(), "lab", "ana").await;
                entered.publish().await;
                ana = Some(entered);
            }
            ("ANA", ("leaves", _)) => ana.take().expect("she publishes").leave().await,
            ("BOB", ("offers to receive Opus and H264", _)) => {
                let (viewer, offer) = Viewer::without_vp8().await;
                bob = Some(viewer);
                return Some(offer);
            }
            ("BOB", ("takes", given)) => {
                let viewer = bob.as_ref().expect("he has offered");
                let (what, text) = given.split_once(' ').expect("something is given");
                let text = serde_json::from_str(&format!("\"{text}\"")).expect("a JSON string");
                match what {
                    "answer" => viewer.take_answer(text).await,
                    _ => viewer.take_candidate(text).await,
                }
            }
            ("BOB", ("hangs up", _)) => bob.take().expect("he has offered").close().await,
            _ => return nobody_else(actor, act).await,
        }
        None
    };
    replay(server.address, "codecs", stagehand).await;
}

#[tokio::test]
async fn failures_of_media_are_told_as_errors() {
    check_scripted("failing_media").await;
}

#[tokio::test]
async fn only_those_who_understand_are_told_of_media() {
    check_scripted("media_events").await;
}

#[tokio::test]
async fn requests_overtaken_by_events_are_answered_once() {
    check_scripted("meanwhile").await;
}

#[tokio::test]
async fn participants_with_plain_rtp_have_errors_of_their_own() {
    check_scripted("rtp_participants").await;
}

/// Replays a transcript against the same server in this process, for what our own media server does
/// not do, or not when a test wants it: failing and hanging.
async fn check_scripted(name: &str) {
    let config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        http: true,
        ..Config::default()
    };
    let media = Fake::new();
    let server =
        tertulia::Server::start(&config, media.clone(), || Box::pin(async { String::new() }));
    let server = server.expect("the system chooses a free port");
    let hold = Hold::default();
    let stagehand = async |actor: &str, act: &str| {
        match actor {
            "MEDIA" => direct(&media, &hold, act).await,
            "APPLICATION" => apply(&server, act).await,
            _ => return nobody_else(actor, act).await,
        }
        None
    };
    replay(server.listen(), name, stagehand).await;
    server.shut_down().await;
    assert!(media.pipelines().is_empty(), "{name}: all rooms are closed");
}

/// Tells the media server what to do.
async fn direct(media: &Fake, hold: &Hold, act: &str) {
    let is = |method: &str| {
        let method = method.to_owned();
        move |call: &Call| format!("{call:?}").split(' ').next() == Some(&method)
    };
    let failure = |kind: &str, description: &str, code| Event::Error {
        kind: ErrorKind::Other(kind.to_owned()),
        description: description.to_owned(),
        code,
    };
    if let Some((method, error)) = act
        .strip_prefix("fails at ")
        .and_then(|rest| rest.split_once(": "))
    {
        let error = match error {
            "full" => Error::Full("no".to_owned()),
            "late" => Error::Timeout,
            text => Error::Unavailable(text.to_owned()),
        };
        return media.once(is(method), Script::fail(error));
    }
    if let Some(method) = act.strip_prefix("hangs at ") {
        return media.once(is(method), Script::hold(hold.clone()));
    }
    match act {
        "is asked" => within("the media server is asked", hold.reached()).await,
        "goes on" => hold.release(),
        "has no elements" => assert_eq!(media.elements(), []),
        "loses its newest endpoint" => {
            let event = failure("TEST_ERR", "Fake media error", 101);
            assert!(media.fire(&endpoints(media)[0], event));
        }
        "sends the newest endpoint layer 1 of 3" => {
            let sent = VideoDelivery::Sent {
                layer: VideoLayer {
                    spatial: 1,
                    temporal: 2,
                },
                spatial_layers: 3,
                height: 360,
            };
            assert!(media.fire(&endpoints(media)[0], Event::VideoDeliveryChanged(sent)));
        }
        "holds back the newest endpoint's video" => {
            let paused = VideoDelivery::Paused(PauseReason::Bandwidth);
            assert!(media.fire(&endpoints(media)[0], Event::VideoDeliveryChanged(paused)));
        }
        "wants q of the oldest endpoint, but not f" => {
            let layers = [("q", true), ("f", false)].map(|(rid, wanted)| LayerDemand {
                rid: rid.to_owned(),
                wanted,
            });
            let event = Event::LayerDemandChanged(layers.to_vec());
            let oldest = endpoints(media).pop().expect("somebody publishes");
            assert!(media.fire(&oldest, event));
        }
        "hears the oldest endpoint" => {
            let oldest = endpoints(media).pop().expect("somebody publishes");
            assert!(media.fire(&oldest, Event::SpeakingChanged(true)));
        }
        "loses its pipeline" => {
            let event = failure("TEST_PP_ERR", "Fake pipeline error", 505);
            assert!(media.fire_pipeline(&media.pipelines()[0], event));
        }
        _ => drop(nobody_else("MEDIA", act).await),
    }
}

/// The WebRTC endpoints, the newest first.
fn endpoints(media: &Fake) -> Vec<ElementId> {
    let elements = media.elements().into_iter();
    let mut endpoints: Vec<_> = elements
        .filter(|(_, kind)| matches!(kind, ElementKind::WebRtcEndpoint { .. }))
        .map(|(id, _)| id)
        .collect();
    endpoints.sort_by_key(|id| Reverse(sequence(id.as_str())));
    endpoints
}

/// The number of an element by its id, `PIPELINE/NUMBER_CLASS`.
fn sequence(id: &str) -> u64 {
    let name = id.rsplit('/').next().expect("a split has a part");
    let number = name.split('_').next().expect("a split has a part");
    number.parse().expect("the fake numbers its elements")
}

/// Does what an application around the room SDK does.
async fn apply(server: &tertulia::Server<Fake>, act: &str) {
    let joins = act
        .strip_prefix("joins ")
        .and_then(|rest| rest.split_once(" as "));
    let Some((session, user)) = joins else {
        return drop(nobody_else("APPLICATION", act).await);
    };
    let join = Join {
        room: "lab".to_owned(),
        user: user.to_owned(),
        data_channels: false,
        web: false,
        media_events: false,
    };
    let participant = ParticipantId::new(session);
    let joined = server.rooms().join(&participant, join).await;
    joined.expect("the name is free");
}

/// What clients send.
const METHODS: [&str; 13] = [
    "ping",
    "connect",
    "closeSession",
    "joinRoom",
    "leaveRoom",
    "publishVideo",
    "unpublishVideo",
    "receiveVideoFrom",
    "unsubscribeFromVideo",
    "setSubscription",
    "onIceCandidate",
    "sendMessage",
    "customRequest",
];

/// What clients are told.
const NOTIFICATIONS: [&str; 13] = [
    "participantJoined",
    "participantLeft",
    "participantEvicted",
    "participantPublished",
    "participantUnpublished",
    "sendMessage",
    "iceCandidate",
    "roomClosed",
    "mediaError",
    "videoDelivery",
    "layersWanted",
    "activeSpeakers",
    "custonNotification",
];

/// Numbers of errors that a server sends.
const CODES: [i32; 18] = [
    999, 306, 305, 304, 303, 302, 204, 203, 202, 201, 105, 104, 103, 102, 101, -1, -32601, 40007,
];

/// Numbers of the protocol's catalogue that no server sends, and why.
const UNSENT: [(i32, &str); 5] = [
    (803, "client libraries report a lost connection by it"),
    (802, "client libraries report a malformed answer by it"),
    (801, "client libraries report a malformed request by it"),
    (
        307,
        "only applications mute, by calling the room SDK, whose types exclude both of its causes",
    ),
    (301, "the original never throws it"),
];

#[test]
fn every_method_notification_and_error_is_in_a_transcript() {
    let transcripts = transcript::all();
    let occurs = |arrows: &[&str], part: &str| {
        let lines = transcripts.iter().flat_map(|(_, text)| text.lines());
        lines
            .filter(|line| arrows.iter().any(|arrow| line.contains(arrow)))
            .any(|line| line.contains(part))
    };
    let missing = |arrows: &[&str], parts: Vec<String>| {
        let missing: Vec<_> = parts
            .into_iter()
            .filter(|part| !occurs(arrows, part))
            .collect();
        assert_eq!(missing, [""; 0], "in no transcript");
    };
    let code = |code: &i32| format!(r#""error":{{"code":{code},"#);
    let method = |name: &&str| format!(r#""method":"{name}""#);
    missing(&["→ {"], METHODS.iter().map(method).collect());
    let received = ["← {", "⇠ {"];
    missing(&received, NOTIFICATIONS.iter().map(method).collect());
    missing(&received, CODES.iter().map(code).collect());
    for (number, reason) in UNSENT {
        assert!(!occurs(&received, &code(&number)), "{number}: {reason}");
    }
}

#[test]
fn every_transcript_is_replayed() {
    let tests = include_str!("transcripts.rs");
    for (name, _) in transcript::all() {
        assert!(tests.contains(&format!("\"{name}\"")), "{name}.txt");
    }
}
