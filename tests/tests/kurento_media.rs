//! Elements of the Kurento protocol, with media of light peers on real sockets: what applications are told and what
//! flows where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use forwarding::codec::Codec;
use media::MediaKind::{Audio, Video};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::deadline::until;
use tests::kurento_socket::KurentoSocket;
use tests::light_peer::{Direction, LightPeer, Pace, Peer, PeerConfig, PeerEvent};
use tests::server::{Server, free_address};
use tests::turn;

/// A media server, and an application that has a pipeline there.
struct Bench {
    kurento: KurentoSocket,
    pipeline: String,
    _server: Server,
}

impl Bench {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With further arguments for the server.
    async fn with(arguments: &[&str]) -> Self {
        let address = free_address().to_string();
        let server = Server::start_with(&[&["--kurento", &address], arguments].concat()).await;
        let mut kurento = KurentoSocket::connect(&address).await;
        let pipeline = kurento.create("MediaPipeline", json!({})).await;
        Self {
            kurento,
            pipeline,
            _server: server,
        }
    }

    async fn create(&mut self, class: &str, mut parameters: Value) -> String {
        parameters["mediaPipeline"] = self.pipeline.clone().into();
        self.kurento.create(class, parameters).await
    }

    async fn element(&mut self, class: &str) -> String {
        self.create(class, json!({})).await
    }

    async fn port(&mut self, hub: &str) -> String {
        self.kurento.create("HubPort", json!({ "hub": hub })).await
    }

    async fn join(&mut self, source: &str, sink: &str) {
        self.kurento.connect_elements(source, sink).await;
    }

    async fn invoke(&mut self, object: &str, operation: &str, parameters: Value) -> Value {
        self.kurento.invoke(object, operation, parameters).await
    }

    /// An endpoint and who is at its other end.
    async fn peer(&mut self, config: PeerConfig) -> (String, LightPeer) {
        let endpoint = self.element("WebRtcEndpoint").await;
        let peer = LightPeer::of_endpoint(&mut self.kurento, &endpoint, config).await;
        (endpoint, peer)
    }
}

async fn flows(publisher: &LightPeer, viewer: &LightPeer) {
    for kind in [Audio, Video] {
        viewer.gets(publisher, kind).await;
    }
}

/// Whether what arrived last at `viewer` is of `publisher`, in both kinds.
fn shows(viewer: &LightPeer, publisher: &LightPeer) -> bool {
    let sources = [Audio, Video].map(|kind| publisher.see(|peer| peer.ssrc(kind)));
    viewer.see(|peer| {
        let last = peer.streams().filter_map(|stream| stream.last_stamp);
        let last: BTreeSet<_> = last.map(|stamp| Some(stamp.source)).collect();
        last == BTreeSet::from(sources)
    })
}

/// That nothing is missing for `viewer`, whose streams are as many as its kinds of media, whoever was shown.
fn assert_continuous(viewer: &LightPeer) {
    viewer.see(|peer| {
        let streams: Vec<_> = peer.streams().collect();
        assert_eq!(streams.len(), 2, "one stream for each kind");
        for stream in streams {
            assert_eq!((stream.missing(), stream.corrupt), (0, 0));
        }
    });
}

/// Members of statistics that only version 6 reads. The recorded server is of version 7.
fn members_of_version_6(class: &str) -> &'static [&'static str] {
    match class {
        "EndpointStats" => &[
            "timestamp",
            "inputAudioLatency",
            "inputVideoLatency",
            "audioE2ELatency",
            "videoE2ELatency",
        ],
        "ElementStats" => &["timestamp", "inputAudioLatency", "inputVideoLatency"],
        "MediaLatencyStat" => &[],
        _ => &["timestamp"],
    }
}

/// Types of members by name, by class, and values of `type`.
type Shapes = BTreeMap<String, BTreeMap<String, String>>;

/// Notes what has a class in a value and in what it is made of.
fn note_shapes(value: &Value, shapes: &mut Shapes) {
    let kind = |value: &Value| match value {
        Value::Null => "nothing",
        Value::Bool(_) => "flag",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    match value {
        Value::Object(members) => {
            let class = members.get("__type__").and_then(Value::as_str);
            if let Some(class) = class.filter(|class| class.contains("Stat")) {
                let shape = shapes.entry(class.to_owned()).or_default();
                for (name, value) in members {
                    shape.insert(name.clone(), kind(value).to_owned());
                }
                if class != "MediaLatencyStat" {
                    let symbol = members["type"].as_str().unwrap_or_default();
                    shape.insert("type".to_owned(), symbol.to_owned());
                }
            }
            members.values().for_each(|it| note_shapes(it, shapes));
        }
        Value::Array(items) => items.iter().for_each(|it| note_shapes(it, shapes)),
        _ => {}
    }
}

/// What statistics of a real media server look like.
fn recorded_shapes() -> Shapes {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/kurento/tests/data");
    let transcript = std::fs::read_to_string(data.join("kms-transcript.jsonl"));
    let mut shapes = Shapes::new();
    for line in transcript.expect("the recorded traffic").lines() {
        let entry: Value = serde_json::from_str(line).expect("an entry");
        let frame = entry["raw"].as_str().unwrap_or_default();
        if let Ok(frame) = serde_json::from_str::<Value>(frame) {
            note_shapes(&frame["result"]["value"], &mut shapes);
        }
    }
    shapes
}

fn counter(stats: &Value, kind: &str, member: &str) -> u64 {
    let stats = stats.as_object().expect("a map").values();
    let stats = stats.filter(|stats| stats["type"] == kind);
    stats.filter_map(|stats| stats[member].as_u64()).sum()
}

#[tokio::test]
async fn statistics_are_those_of_the_real_server() {
    let _turn = turn::take().await;
    let files = TempDir::with_prefix("recordings-").expect("a directory for recordings");
    let directory = files.path().to_str().expect("a name in UTF-8");
    let mut bench = Bench::with(&["--recordings", directory]).await;
    let latency = json!({ "latencyStats": true });
    let pipeline = bench.pipeline.clone();
    bench.invoke(&pipeline, "setLatencyStats", latency).await;
    let data = json!({ "useDataChannels": true });
    let endpoint = bench.create("WebRtcEndpoint", data).await;
    bench.join(&endpoint, &endpoint).await;
    let through = bench.element("PassThrough").await;
    bench.join(&endpoint, &through).await;
    let file = json!({ "uri": "x.webm" });
    let recorder = bench.create("RecorderEndpoint", file.clone()).await;
    let player = bench.create("PlayerEndpoint", file).await;
    let config = PeerConfig {
        audio: Some(Direction::SendRecv),
        video: Some(Direction::SendRecv),
        data: true,
        ..PeerConfig::new(1)
    };
    let peer = LightPeer::of_endpoint(&mut bench.kurento, &endpoint, config).await;
    flows(&peer, &peer).await;
    peer.until("the association is up", Peer::sctp_mark).await;
    let channel = peer.act(|peer, now| peer.open_channel(now, "chat")).await;
    let channel = channel.expect("data was negotiated");
    peer.event("the channel is open", |event| match event {
        PeerEvent::ChannelOpened { .. } => Some(()),
        _ => None,
    })
    .await;
    let sent = peer.act(|peer, now| peer.send_message(now, channel, false, b"hello"));
    assert!(sent.await);
    peer.event("the message is back", |event| match event {
        PeerEvent::Message { data, .. } if data == b"hello".as_slice() => Some(()),
        _ => None,
    })
    .await;

    let mut shapes = Shapes::new();
    for object in [&endpoint, &through, &recorder, &player] {
        let stats = bench.invoke(object, "getStats", json!({})).await;
        note_shapes(&stats, &mut shapes);
    }
    let recorded = recorded_shapes();
    assert_eq!(recorded.len(), 7, "{:?}", recorded.keys());
    for (class, shape) in recorded {
        let mut ours = shapes
            .remove(&class)
            .unwrap_or_else(|| panic!("no {class}"));
        for name in members_of_version_6(&class) {
            let kind = ours.remove(*name);
            assert_eq!(kind.as_deref(), Some("number"), "{name} of {class}");
        }
        assert_eq!(ours, shape, "{class}");
    }
    assert!(shapes.is_empty(), "the real server has no {shapes:?}");

    let stats = bench.invoke(&endpoint, "getStats", json!({})).await;
    for (kind, member, expected) in [
        ("datachannel", "messagesReceived", 1),
        ("datachannel", "messagesSent", 1),
        ("datachannel", "bytesReceived", 5),
        ("datachannel", "bytesSent", 5),
        ("session", "dataChannelsOpened", 1),
        ("session", "dataChannelsClosed", 0),
    ] {
        assert_eq!(counter(&stats, kind, member), expected, "{kind} {member}");
    }
    for (selector, expected) in [
        (
            "AUDIO",
            ["endpoint", "inboundrtp", "outboundrtp"].as_slice(),
        ),
        ("VIDEO", &["endpoint", "inboundrtp", "outboundrtp"]),
        ("DATA", &["datachannel", "endpoint", "session"]),
    ] {
        let selected = json!({ "mediaType": selector });
        let stats = bench.invoke(&endpoint, "getStats", selected).await;
        let stats = stats.as_object().expect("a map").values();
        let mut types: Vec<_> = stats.map(|it| it["type"].as_str().unwrap()).collect();
        types.sort_unstable();
        assert_eq!(types, expected, "{selector}");
    }
}

#[tokio::test]
async fn a_dispatcher_shows_each_port_what_it_is_told_to() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let hub = bench.element("Dispatcher").await;
    let mut ports = Vec::new();
    let mut publishers = Vec::new();
    for seed in [1, 2] {
        let (endpoint, peer) = bench.peer(PeerConfig::publisher(seed)).await;
        let port = bench.port(&hub).await;
        bench.join(&endpoint, &port).await;
        ports.push(port);
        publishers.push(peer);
    }
    let (endpoint, viewer) = bench.peer(PeerConfig::viewer(3)).await;
    let sink = bench.port(&hub).await;
    bench.join(&sink, &endpoint).await;

    for chosen in [0, 1, 0] {
        let route = json!({ "source": ports[chosen], "sink": sink });
        bench.invoke(&hub, "connect", route).await;
        flows(&publishers[chosen], &viewer).await;
        // What the others send meanwhile does not come.
        send(&publishers[1 - chosen]).await;
        publishers[1 - chosen].settle().await;
        flows(&publishers[chosen], &viewer).await;
        assert!(shows(&viewer, &publishers[chosen]));
        assert_continuous(&viewer);
    }
    // What a port is fed ends with it.
    bench.kurento.release(&ports[0]).await;
    goes_dark(&publishers[0], &viewer).await;
    assert!(shows(&viewer, &publishers[0]), "nobody else is shown");
    let route = json!({ "source": ports[1], "sink": sink });
    bench.invoke(&hub, "connect", route).await;
    flows(&publishers[1], &viewer).await;
}

/// Sends a frame of each kind.
async fn send(publisher: &LightPeer) {
    publisher
        .act(|peer, now| {
            peer.force_key_frame();
            peer.send_frame(now, Audio, &Pace::AUDIO);
            peer.send_frame(now, Video, &Pace::VIDEO);
        })
        .await;
}

#[tokio::test]
async fn a_dispatcher_one_to_many_shows_its_source_to_all() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let hub = bench.element("DispatcherOneToMany").await;
    let (mut ports, mut peers) = (Vec::new(), Vec::new());
    for seed in 1..=3 {
        let config = PeerConfig {
            audio: Some(Direction::SendRecv),
            video: Some(Direction::SendRecv),
            ..PeerConfig::new(seed)
        };
        let (endpoint, peer) = bench.peer(config).await;
        let port = bench.port(&hub).await;
        bench.join(&endpoint, &port).await;
        bench.join(&port, &endpoint).await;
        ports.push(port);
        peers.push(peer);
    }
    for chosen in [0, 1] {
        let source = json!({ "source": ports[chosen] });
        bench.invoke(&hub, "setSource", source).await;
        for peer in &peers {
            flows(&peers[chosen], peer).await;
        }
        send(&peers[2]).await;
        peers[2].settle().await;
        for peer in &peers {
            flows(&peers[chosen], peer).await;
            assert!(shows(peer, &peers[chosen]));
            assert_continuous(peer);
        }
    }
    // Who comes later sees the same.
    let (endpoint, viewer) = bench.peer(PeerConfig::viewer(9)).await;
    let port = bench.port(&hub).await;
    bench.join(&port, &endpoint).await;
    flows(&peers[1], &viewer).await;

    // The source's port goes, and with it what was shown; as by `removeSource`.
    bench.kurento.release(&ports[1]).await;
    goes_dark(&peers[1], &viewer).await;
    let source = json!({ "source": ports[0] });
    bench.invoke(&hub, "setSource", source).await;
    flows(&peers[0], &viewer).await;
    bench.invoke(&hub, "removeSource", json!({})).await;
    goes_dark(&peers[0], &viewer).await;
}

/// Waits until nothing of a publisher gets to a viewer: what is released ends a moment later.
async fn goes_dark(publisher: &LightPeer, viewer: &LightPeer) {
    /// Reports and answers to checks are less, frames are more.
    const BYTES_MAX: u64 = 1000;
    until("nothing arrives", async || {
        viewer.settle().await;
        let before = viewer.received_bytes();
        for _ in 0..3 {
            send(publisher).await;
            publisher.settle().await;
        }
        viewer.settle().await;
        (viewer.received_bytes() - before < BYTES_MAX).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_filter_passes_media_on_and_says_that_it_does_nothing() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    for (class, parameters) in [
        (
            "GStreamerFilter",
            json!({ "command": "videoflip method=4" }),
        ),
        ("FaceOverlayFilter", json!({})),
        ("ImageOverlayFilter", json!({})),
        ("ZBarFilter", json!({})),
    ] {
        let filter = bench.create(class, parameters).await;
        bench.kurento.subscribe(&filter, "Error").await;
        let (source, publisher) = bench.peer(PeerConfig::publisher(1)).await;
        let (sink, viewer) = bench.peer(PeerConfig::viewer(2)).await;
        bench.join(&source, &filter).await;
        bench.join(&filter, &sink).await;
        flows(&publisher, &viewer).await;
        let error = bench.kurento.event(&filter, "Error").await;
        assert_eq!(error["type"], "UNEXPECTED_ELEMENT_ERROR");
        let description = error["description"].as_str().unwrap_or_default();
        assert!(description.starts_with(class), "{description}");
    }
}

#[tokio::test]
async fn what_needs_transcoding_is_refused_if_the_server_is_told_to() {
    let _turn = turn::take().await;
    let mut bench = Bench::with(&["--kurento-unsupported", "reject"]).await;
    for (class, parameters) in [
        ("GStreamerFilter", json!({ "command": "videoflip" })),
        ("ZBarFilter", json!({})),
        ("Composite", json!({})),
        ("AlphaBlending", json!({})),
    ] {
        let mut parameters = parameters;
        parameters["mediaPipeline"] = bench.pipeline.clone().into();
        let refusal = bench.kurento.create_in_vain(class, parameters).await;
        assert_eq!(refusal.code, 40108, "{refusal:?}");
        assert_eq!(refusal.message, format!("Factory '{class}' not found"));
    }
    bench.element("Dispatcher").await;
}

#[tokio::test]
async fn a_viewer_without_the_codec_is_told_so_and_hears() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let with = |codec, config| PeerConfig {
        video_codecs: vec![codec],
        ..config
    };
    let vp8 = with(Codec::Vp8, PeerConfig::publisher(1));
    let (source, publisher) = bench.peer(vp8).await;
    let h264 = with(Codec::H264, PeerConfig::viewer(2));
    let (sink, viewer) = bench.peer(h264).await;
    bench.kurento.subscribe(&sink, "Error").await;
    bench.join(&source, &sink).await;
    for _ in 0..3 {
        send(&publisher).await;
    }
    let error = bench.kurento.event(&sink, "Error").await;
    assert_eq!(error["type"], "STREAM_ERROR_FAILED");
    assert_eq!(error["errorCode"], 1);
    let description = error["description"].as_str().unwrap_or_default();
    let expected = "source VP8, sink accepts H264: transcoding not available";
    assert!(description.ends_with(expected), "{description}");
    viewer.gets(&publisher, Audio).await;
    let transcodes = json!({ "mediaType": "VIDEO" });
    let transcodes = bench.invoke(&sink, "isMediaTranscoding", transcodes).await;
    assert_eq!(transcodes, false);
}

#[tokio::test]
async fn the_first_video_of_a_pipeline_decides_which_codec_answers_begin_with() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let with = |codecs: &[Codec], config| PeerConfig {
        video_codecs: codecs.to_vec(),
        ..config
    };
    let both = [Codec::Vp8, Codec::H264];
    let offer = LightPeer::offer(with(&both, PeerConfig::publisher(2)));
    let h264 = with(&[Codec::H264], PeerConfig::publisher(1));
    let (_, _publisher) = bench.peer(h264).await;
    let aligned = bench.pipeline.clone();
    let fresh = bench.kurento.create("MediaPipeline", json!({})).await;
    for (pipeline, codec) in [(fresh, "VP8"), (aligned, "H264")] {
        bench.pipeline = pipeline;
        let endpoint = bench.element("WebRtcEndpoint").await;
        let given = json!({ "offer": offer });
        let answer = bench.invoke(&endpoint, "processOffer", given).await;
        let video = answer
            .as_str()
            .and_then(|text| text.split("m=video ").nth(1));
        let video = video.expect("a section for video");
        let first = video.split(' ').nth(2).expect("a format");
        let mapping = format!("a=rtpmap:{first} {codec}/90000");
        assert!(video.contains(&mapping), "{codec} is not first:\n{video}");
    }
}

#[tokio::test]
async fn mixers_of_pictures_say_that_they_cannot() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let (source, _publisher) = bench.peer(PeerConfig::publisher(1)).await;
    for class in ["Composite", "AlphaBlending"] {
        let hub = bench.element(class).await;
        let port = bench.port(&hub).await;
        bench.kurento.subscribe(&port, "Error").await;
        bench.join(&source, &port).await;
        let error = bench.kurento.event(&port, "Error").await;
        assert_eq!(error["type"], "UNEXPECTED_ELEMENT_ERROR");
        let expected = format!("{class} mixing requires transcoding, not available");
        assert_eq!(error["description"], expected);
    }
    // One that only chooses works.
    let hub = bench.element("Mixer").await;
    let (port, sink) = (bench.port(&hub).await, bench.port(&hub).await);
    let (_, publisher) = (bench.join(&source, &port).await, &_publisher);
    let (endpoint, viewer) = bench.peer(PeerConfig::viewer(2)).await;
    bench.join(&sink, &endpoint).await;
    for media in ["AUDIO", "VIDEO"] {
        let route = json!({ "media": media, "source": port, "sink": sink });
        bench.invoke(&hub, "connect", route).await;
    }
    flows(publisher, &viewer).await;
}

#[tokio::test]
async fn flows_are_told_under_the_names_of_both_versions() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let (source, publisher) = bench.peer(PeerConfig::publisher(1)).await;
    let through = bench.element("PassThrough").await;
    let (sink, viewer) = bench.peer(PeerConfig::viewer(2)).await;
    bench.join(&source, &through).await;
    bench.join(&through, &sink).await;
    let events = [
        (&source, "MediaFlowOutStateChanged"),
        (&source, "MediaFlowOutStateChange"),
        (&through, "MediaFlowInStateChanged"),
        (&through, "MediaFlowOutStateChange"),
        (&sink, "MediaFlowInStateChanged"),
        (&sink, "MediaFlowInStateChange"),
    ];
    for (element, event) in events {
        bench.kurento.subscribe(element, event).await;
    }
    bench
        .kurento
        .subscribe(&sink, "MediaTranscodingStateChanged")
        .await;
    let both = ["AUDIO", "VIDEO"].map(str::to_owned);
    for expected in ["FLOWING", "NOT_FLOWING"] {
        if expected == "FLOWING" {
            flows(&publisher, &viewer).await;
        }
        for (element, event) in events {
            let mut kinds = BTreeSet::new();
            for _ in 0..2 {
                let told = bench.kurento.event(element, event).await;
                assert_eq!(told["state"], expected, "{event}");
                assert_eq!(
                    (&told["padName"], &told["type"]),
                    (&json!("default"), &json!(event))
                );
                kinds.insert(told["mediaType"].as_str().unwrap_or_default().to_owned());
            }
            assert_eq!(kinds, BTreeSet::from(both.clone()), "{event}");
        }
        for kind in ["AUDIO", "VIDEO"] {
            let asked = json!({ "mediaType": kind });
            let flowing = bench.invoke(&sink, "isMediaFlowingIn", asked).await;
            assert_eq!(flowing, expected == "FLOWING");
        }
    }
}

#[tokio::test]
async fn recorders_and_players_tell_their_states_as_kurento_s_do() {
    let _turn = turn::take().await;
    let files = TempDir::with_prefix("recordings-").expect("a directory for recordings");
    let directory = files.path().to_str().expect("a name in UTF-8");
    let mut bench = Bench::with(&["--recordings", directory]).await;
    let (source, publisher) = bench.peer(PeerConfig::publisher(1)).await;
    let file = json!({ "uri": "a.webm", "mediaProfile": "WEBM" });
    let recorder = bench.create("RecorderEndpoint", file.clone()).await;
    for event in ["UriEndpointStateChanged", "Recording", "Paused", "Stopped"] {
        bench.kurento.subscribe(&recorder, event).await;
    }
    bench.join(&source, &recorder).await;
    bench.invoke(&recorder, "record", json!({})).await;
    let state = bench.invoke(&recorder, "getState", json!({})).await;
    assert_eq!(state, "STOP", "nothing is written yet");

    publisher
        .set_pace(Some(Pace::AUDIO), Some(Pace::VIDEO))
        .await;
    let mut steps = vec![("", "START", "Recording")];
    steps.extend([
        ("pause", "PAUSE", "Paused"),
        ("record", "START", "Recording"),
    ]);
    steps.push(("stopAndWait", "STOP", "Stopped"));
    for (operation, expected, event) in steps {
        if operation == "pause" {
            // Too short a film is over before it can be paused.
            publisher
                .until("three seconds are sent", |peer| {
                    peer.packets_made(Audio).filter(|made| *made > 150)
                })
                .await;
        }
        if !operation.is_empty() {
            bench.invoke(&recorder, operation, json!({})).await;
        }
        let told = bench
            .kurento
            .event(&recorder, "UriEndpointStateChanged")
            .await;
        assert_eq!(told["state"], expected, "{operation}");
        bench.kurento.event(&recorder, event).await;
        let state = bench.invoke(&recorder, "getState", json!({})).await;
        assert_eq!(state, expected);
    }
    publisher.set_pace(None, None).await;

    let player = bench.create("PlayerEndpoint", file).await;
    for event in ["UriEndpointStateChanged", "EndOfStream"] {
        bench.kurento.subscribe(&player, event).await;
    }
    for (operation, expected) in [("play", "START"), ("pause", "PAUSE"), ("play", "START")] {
        bench.invoke(&player, operation, json!({})).await;
        let told = bench
            .kurento
            .event(&player, "UriEndpointStateChanged")
            .await;
        assert_eq!(told["state"], expected, "{operation}");
    }
    let told = bench
        .kurento
        .event(&player, "UriEndpointStateChanged")
        .await;
    assert_eq!(told["state"], "STOP");
    bench.kurento.event(&player, "EndOfStream").await;
    until("the player stands at the beginning", async || {
        let state = bench.invoke(&player, "getState", json!({})).await;
        (state == "STOP").then_some(())
    })
    .await;
}

#[tokio::test]
async fn flow_states_alternate_no_sooner_than_two_seconds_after_the_last_packet() {
    let _turn = turn::take().await;
    let mut bench = Bench::new().await;
    let (source, publisher) = bench.peer(PeerConfig::publisher(1)).await;
    bench
        .kurento
        .subscribe(&source, "MediaFlowOutStateChanged")
        .await;
    for expected in ["FLOWING", "NOT_FLOWING", "FLOWING"] {
        let begun = std::time::Instant::now();
        if expected == "FLOWING" {
            publisher
                .act(|peer, now| peer.send_frame(now, Audio, &Pace::AUDIO))
                .await;
        }
        let told = bench
            .kurento
            .event(&source, "MediaFlowOutStateChanged")
            .await;
        assert_eq!(
            (&told["state"], &told["mediaType"]),
            (&json!(expected), &json!("AUDIO"))
        );
        if expected == "NOT_FLOWING" {
            let after = begun.elapsed();
            assert!(after > Duration::from_millis(1800), "{after:?}");
        }
    }
}
