//! Rooms on a media server of another process: it dies, hangs, comes back, and answers nonsense.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use media::MediaKind;
use serde_json::{Value, json};
use tests::deadline::until;
use tests::light_peer::{LightPeer, PeerConfig};
use tests::room_socket::{Arrival, RoomSocket};
use tests::server::{Server, free_address, kurento_url};
use tests::turn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

/// As long as a media server may be unheard before users notice more than a delay.
const PAUSE: Duration = Duration::from_secs(20);

/// A room server, and the media server that it uses.
struct Pair {
    rooms: Server,
    media: Server,
    kurento: String,
}

impl Pair {
    async fn start() -> Self {
        let kurento = free_address().to_string();
        let media = Server::start_with(&["--kurento", &kurento]).await;
        let rooms = rooms_over(&kurento_url(&kurento)).await;
        Self {
            rooms,
            media,
            kurento,
        }
    }

    async fn enter(&self, room: &str, user: &str) -> RoomSocket {
        let mut socket = RoomSocket::connect(&self.rooms.room_url()).await;
        socket.join(room, user).await;
        socket
    }
}

async fn rooms_over(url: &str) -> Server {
    Server::start_with(&["--media", "kms", "--kms-uri", url]).await
}

async fn wait_until_up(rooms: &Server, up: bool) {
    until(
        "the room server knows how its media server is",
        async || {
            let is_up = rooms.counter("tertulia_media_server_up").await == 1;
            (is_up == up).then_some(())
        },
    )
    .await;
}

async fn publish(socket: &mut RoomSocket, name: &str) -> LightPeer {
    LightPeer::publish(socket, name, PeerConfig::publisher(1)).await
}

async fn watch(socket: &mut RoomSocket, publisher: &str) -> LightPeer {
    LightPeer::receive(socket, publisher, PeerConfig::viewer(2)).await
}

async fn flows(publisher: &LightPeer, viewer: &LightPeer) {
    for kind in [MediaKind::Audio, MediaKind::Video] {
        viewer.gets(publisher, kind).await;
    }
}

#[tokio::test]
async fn rooms_of_a_media_server_that_was_killed_are_told_and_made_again() {
    let _turn = turn::take().await;
    let Pair {
        rooms,
        media,
        kurento,
    } = Pair::start().await;
    let mut ana = RoomSocket::connect(&rooms.room_url()).await;
    ana.join("lab", "ana").await;
    let _ana = publish(&mut ana, "ana").await;
    media.kill();
    wait_until_up(&rooms, false).await;
    let mut bob = RoomSocket::connect(&rooms.room_url()).await;
    let refusal = bob
        .request("joinRoom", json!({ "room": "other", "user": "bob" }))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, 204, "{refusal:?}");
    assert_eq!(refusal.message, "No resources left to create new room");

    let _media = Server::start_with(&["--kurento", &kurento]).await;
    let error = ana.notification("mediaError").await;
    let error = error["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("MEDIA_SERVER_LOST"), "{error}");
    let closed = ana.notification("roomClosed").await;
    assert_eq!(closed["room"], "lab");

    wait_until_up(&rooms, true).await;
    ana.join("lab", "ana").await;
    let publisher = publish(&mut ana, "ana").await;
    bob.join("lab", "bob").await;
    let viewer = watch(&mut bob, "ana").await;
    flows(&publisher, &viewer).await;
    // However often it was dialled.
    let log = rooms.log();
    let server = format!("server=\"{}\"", kurento_url(&kurento));
    let told = |what| {
        let lines = log.lines().filter(|line| line.contains(what));
        lines.filter(|line| line.contains(&server)).count()
    };
    assert_eq!(told("a Kurento Media Server is up"), 2, "{log}");
    assert_eq!(told("a Kurento Media Server is down"), 1, "{log}");
}

#[tokio::test]
async fn who_joins_before_the_media_server_has_answered_gets_in() {
    let _turn = turn::take().await;
    let kurento = free_address().to_string();
    let _media = Server::start_with(&["--kurento", &kurento]).await;
    // It is dialled, and nobody answers yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket").to_string();
    let rooms = rooms_over(&kurento_url(&address)).await;
    let mut ana = RoomSocket::connect(&rooms.room_url()).await;
    let join = json!({ "jsonrpc": "2.0", "id": 1, "method": "joinRoom",
        "params": { "room": "lab", "user": "ana" } });
    assert!(ana.send_text(&join.to_string()).await);
    let early = ana.next_within(Duration::from_millis(500)).await;
    assert_eq!(early, None);

    let _meddler = Meddler::serve(listener, kurento_url(&kurento));
    let Arrival::Text(answer) = ana.next().await else {
        panic!("no answer");
    };
    let answer: Value = serde_json::from_str(&answer).expect("an answer in JSON");
    assert!(answer["result"].is_object(), "{answer}");
}

#[tokio::test]
async fn rooms_of_a_media_server_that_hangs_go_on_after_it() {
    let _turn = turn::take().await;
    let pair = Pair::start().await;
    let mut ana = pair.enter("lab", "ana").await;
    let publisher = publish(&mut ana, "ana").await;
    let mut bob = pair.enter("lab", "bob").await;
    let viewer = watch(&mut bob, "ana").await;
    flows(&publisher, &viewer).await;

    pair.media.pause();
    let paused = Instant::now();
    let mut stranger = RoomSocket::connect(&pair.rooms.room_url()).await;
    while paused.elapsed() < PAUSE {
        let params = json!({ "room": "other", "user": "stranger" });
        let refusal = stranger.request("joinRoom", params).await.unwrap_err();
        assert_eq!(refusal.code, 204, "{refusal:?}");
        // What needs no media server is served as ever.
        let message = json!({ "message": "hello", "userMessage": "ana", "roomMessage": "lab" });
        ana.request("sendMessage", message).await.unwrap();
        bob.notification("sendMessage").await;
    }
    pair.media.resume();
    flows(&publisher, &viewer).await;
    wait_until_up(&pair.rooms, true).await;
    let mut carol = pair.enter("lab", "carol").await;
    let another = watch(&mut carol, "ana").await;
    flows(&publisher, &another).await;
    // Rooms that could not be made in time have left nothing there.
    until("only the room that is there has a pipeline", async || {
        let objects = pair.media.counter("tertulia_kurento_objects").await;
        // Manager, pipeline, publisher, pass-through, two viewers.
        (objects == 6).then_some(())
    })
    .await;
}

/// What becomes of the next answer to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mischief {
    None,
    /// It never comes.
    Lost,
    /// It is no JSON.
    Garbled,
    /// It has the id of no request.
    Misdirected,
    /// Its value is of another type.
    Mistyped,
    /// It comes twice.
    Doubled,
    /// The connection ends instead.
    Cut,
}

/// A media server that answers nonsense, in front of a real one.
struct Meddler {
    url: String,
    /// To which operation, and what.
    order: watch::Sender<(&'static str, Mischief)>,
    task: JoinHandle<()>,
}

impl Meddler {
    async fn start(url: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, url)
    }

    fn serve(listener: TcpListener, url: String) -> Self {
        let address = listener.local_addr().expect("a bound socket").to_string();
        let (order, ordered) = watch::channel(("", Mischief::None));
        let orders = order.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                meddle(stream, &url, &ordered, &orders).await;
            }
        });
        Self {
            url: kurento_url(&address),
            order,
            task,
        }
    }

    fn next(&self, operation: &'static str, mischief: Mischief) {
        self.order.send_replace((operation, mischief));
    }

    fn is_done(&self) -> bool {
        self.order.borrow().1 == Mischief::None
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes on frames of one connection, all but the answer that is ordered to be spoilt.
async fn meddle(
    stream: TcpStream,
    url: &str,
    ordered: &watch::Receiver<(&'static str, Mischief)>,
    orders: &watch::Sender<(&'static str, Mischief)>,
) {
    let client = accept_async(stream)
        .await
        .expect("the handshake of a client");
    let (server, _) = connect_async(url).await.expect("the server");
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    let mut spoilt = None;
    loop {
        tokio::select! {
            Some(Ok(message)) = from_client.next() => {
                let Message::Text(text) = &message else { continue };
                let request: Value = serde_json::from_str(text).expect("a request in JSON");
                let (operation, mischief) = *ordered.borrow();
                let is_meant = request["method"] == operation
                    || request["params"]["operation"] == operation;
                if is_meant && mischief != Mischief::None {
                    spoilt = Some((request["id"].clone(), mischief));
                    orders.send_replace(("", Mischief::None));
                }
                to_server.send(message).await.expect("the server");
            }
            Some(Ok(message)) = from_server.next() => {
                let Message::Text(text) = &message else { continue };
                let mut answer: Value = serde_json::from_str(text).expect("an answer in JSON");
                let id = answer["id"].clone();
                let mischief = match &spoilt {
                    Some((spoilt, mischief)) if *spoilt == id => *mischief,
                    _ => Mischief::None,
                };
                if mischief != Mischief::None {
                    spoilt = None;
                }
                let mut times = 1;
                match mischief {
                    Mischief::None => {}
                    Mischief::Lost => times = 0,
                    Mischief::Garbled => {
                        let garbled = text.as_str()[..text.len() / 2].to_owned();
                        to_client.send(Message::text(garbled)).await.expect("the client");
                        continue;
                    }
                    Mischief::Misdirected => answer["id"] = json!(999_999_999),
                    Mischief::Mistyped => answer["result"]["value"] = json!([{}]),
                    Mischief::Doubled => times = 2,
                    Mischief::Cut => return,
                }
                for _ in 0..times {
                    to_client.send(Message::text(answer.to_string())).await.expect("the client");
                }
            }
            else => return,
        }
    }
}

#[tokio::test]
async fn nonsense_of_a_media_server_costs_one_request() {
    let _turn = turn::take().await;
    let kurento = free_address().to_string();
    let media = Server::start_with(&["--kurento", &kurento]).await;
    let meddler = Meddler::start(kurento_url(&kurento)).await;
    let rooms = rooms_over(&meddler.url).await;
    let mut ana = RoomSocket::connect(&rooms.room_url()).await;
    ana.join("lab", "ana").await;
    let publisher = publish(&mut ana, "ana").await;
    for (number, (operation, mischief)) in [
        ("processOffer", Mischief::Garbled),
        ("processOffer", Mischief::Misdirected),
        ("create", Mischief::Lost),
        ("processOffer", Mischief::Mistyped),
        ("create", Mischief::Mistyped),
        ("processOffer", Mischief::Doubled),
        ("processOffer", Mischief::Cut),
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("viewer{number}");
        let mut socket = RoomSocket::connect(&rooms.room_url()).await;
        socket.join("lab", &user).await;
        meddler.next(operation, mischief);
        let offer = LightPeer::offer(PeerConfig::viewer(3));
        let params = json!({ "sender": "ana_webcam", "sdpOffer": offer });
        let answer = socket.request("receiveVideoFrom", params).await;
        assert!(meddler.is_done(), "{operation} {mischief:?}");
        // What is repeated or asked again does no harm.
        let is_harmless = matches!(mischief, Mischief::Doubled | Mischief::Cut);
        assert_eq!(answer.is_ok(), is_harmless, "{operation} {mischief:?}");
        if is_harmless {
            let params = json!({ "sender": "ana_webcam" });
            socket
                .request("unsubscribeFromVideo", params)
                .await
                .unwrap();
        }
        // The next request of the same user is served.
        let viewer = watch(&mut socket, "ana").await;
        flows(&publisher, &viewer).await;
        socket.request("leaveRoom", json!({})).await.unwrap();
    }
    // What a server has made and did not say can only go with the room.
    ana.request("leaveRoom", json!({})).await.unwrap();
    until("nothing is left of what failed", async || {
        let objects = media.counter("tertulia_kurento_objects").await;
        // The manager.
        (objects == 1).then_some(())
    })
    .await;
}
