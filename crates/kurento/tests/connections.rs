//! Single connections to the server half: what frames may be, and who is turned away.

use futures_util::{SinkExt as _, StreamExt as _};
use kurento::server::{ClientFrame, Config, Service};
use kurento::{Frame, Incoming, Link, Outgoing};
use media::Fake;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const PONG: &str = r#"{"id":1,"jsonrpc":"2.0","result":{"value":"pong"}}"#;

fn connect(service: &Service<Fake>) -> (Incoming, Outgoing) {
    let (ours, theirs) = Link::pair();
    let service = service.clone();
    tokio::spawn(async move { service.serve(theirs).await });
    ours.into_parts()
}

async fn closed(incoming: &mut Incoming) -> u16 {
    match incoming.next().await {
        Some(Ok(Frame::Close { code, .. })) => code,
        other => panic!("{other:?} is no close"),
    }
}

#[tokio::test]
async fn text_and_binary_frames_are_answered_by_text() {
    let service = Service::new(Fake::new(), Config::default());
    let (mut incoming, mut outgoing) = connect(&service);
    let binary = Frame::Binary(PING.into());
    for frame in [Frame::Text(PING.to_owned()), binary] {
        outgoing.send(frame).await.unwrap();
        let answer = incoming.next().await.unwrap();
        assert_eq!(answer, Ok(Frame::Text(PONG.to_owned())));
    }
    outgoing.send(Frame::Binary(vec![0xff; 3])).await.unwrap();
    let Some(Ok(Frame::Text(answer))) = incoming.next().await else {
        panic!("what is no text is not answered");
    };
    assert!(answer.contains("-32700"), "{answer}");
}

#[tokio::test]
async fn a_huge_frame_ends_its_connection_only() {
    let service = Service::new(Fake::new(), Config::default());
    let (mut bystander, mut asking) = connect(&service);
    let (mut incoming, mut outgoing) = connect(&service);
    let huge = "x".repeat(ClientFrame::BYTES_MAX + 1);
    outgoing.send(Frame::Text(huge)).await.unwrap();
    assert_eq!(closed(&mut incoming).await, 1009);
    assert_eq!(incoming.next().await, None);
    asking.send(Frame::Text(PING.to_owned())).await.unwrap();
    let answer = bystander.next().await.unwrap();
    assert_eq!(answer, Ok(Frame::Text(PONG.to_owned())));
}

#[tokio::test]
async fn connections_are_bounded_and_their_places_are_used_again() {
    let config = Config {
        connections_max: 1,
        ..Config::default()
    };
    let service = Service::new(Fake::new(), config);
    let (mut first, mut outgoing) = connect(&service);
    outgoing.send(Frame::Text(PING.to_owned())).await.unwrap();
    first.next().await.unwrap().unwrap();
    let (mut second, _outgoing) = connect(&service);
    assert_eq!(closed(&mut second).await, 1013);
    drop((first, outgoing));
    while service.load().0 > 0 {
        tokio::task::yield_now().await;
    }
    let (mut third, mut outgoing) = connect(&service);
    outgoing.send(Frame::Text(PING.to_owned())).await.unwrap();
    let answer = third.next().await.unwrap();
    assert_eq!(answer, Ok(Frame::Text(PONG.to_owned())));
}

#[tokio::test]
async fn other_paths_are_refused_after_the_handshake() {
    for (target, fits) in [
        ("/kurento", true),
        ("kurento", true),
        ("/kurento?access_token=x", true),
        ("/kurento/", false),
        ("//kurento", false),
        ("/", false),
        ("", false),
    ] {
        assert_eq!(
            Service::<Fake>::is_path(target, "kurento"),
            fits,
            "{target}"
        );
    }
    let (ours, theirs) = Link::pair();
    let (mut incoming, _outgoing) = ours.into_parts();
    Service::<Fake>::refuse_path(theirs).await;
    assert_eq!(closed(&mut incoming).await, 1002);
}

#[tokio::test]
async fn shutting_down_ends_connections_and_tasks() {
    let service = Service::new(Fake::new(), Config::default());
    let (mut incoming, mut outgoing) = connect(&service);
    outgoing.send(Frame::Text(PING.to_owned())).await.unwrap();
    incoming.next().await.unwrap().unwrap();
    service.shut_down().await;
    assert_eq!(closed(&mut incoming).await, 1001);
    assert_eq!(incoming.next().await, None);
}
