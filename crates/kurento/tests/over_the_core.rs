//! The client half against the server half over our own core, on a socket.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod our_core;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kurento::Link;
use kurento::client::{Kms, websocket};
use kurento::server::{Config, Service};
use media::{
    BandwidthLimits, ElementId, ElementKind, Event, EventSender, FileState, Kilobits, MediaServer,
    OfferOptions, Parameter, Parameters, PipelineId, Recording,
};
use sfu::NativeMediaServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// After that long something is not late, it is missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// As a browser offers sound and pictures.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
a=ice-ufrag:aB3d\r\na=ice-pwd:3TnRP3mWsBMnMrvSmf1kHxyz\r\n\
a=fingerprint:sha-256 0B:30:55:7A:9F:C4:E9:0E:33:58:7D:A2:C7:EC:11:36:5B:80:A5:CA:EF:14:39:5E:83:A8:CD:F2:17:3C:61:86\r\n\
a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
a=ice-ufrag:aB3d\r\na=ice-pwd:3TnRP3mWsBMnMrvSmf1kHxyz\r\n\
a=fingerprint:sha-256 0B:30:55:7A:9F:C4:E9:0E:33:58:7D:A2:C7:EC:11:36:5B:80:A5:CA:EF:14:39:5E:83:A8:CD:F2:17:3C:61:86\r\n\
a=setup:actpass\r\na=mid:1\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n";

/// Our core behind the Kurento protocol, and its address.
async fn start() -> String {
    serve(None).await
}

/// As [`start`], with a directory for recordings.
async fn serve(recordings: Option<PathBuf>) -> String {
    let config = Config {
        default_path: recordings
            .iter()
            .map(|directory| format!("file://{}/", directory.display()))
            .collect(),
        ..Config::default()
    };
    behind_the_protocol(our_core::start(recordings), config).await
}

async fn behind_the_protocol(core: NativeMediaServer, config: Config) -> String {
    let service = Service::new(core, config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            tokio::spawn(async move { service.serve(Link::over_websocket(socket)).await });
        }
    });
    format!("ws://{address}/kurento")
}

#[tokio::test]
async fn our_core_is_a_media_server() {
    media::conformance::check(&our_core::start(None), OFFER).await;
}

#[tokio::test]
async fn our_core_behind_the_protocol_is_a_media_server() {
    let kms = Kms::new("kms", websocket(start().await, None));
    media::conformance::check(&kms, OFFER).await;
}

/// As Kurento, whose agent goes through the media that are offered and finds nothing to refuse (`SdpEndpointImpl.cpp` and
/// `kmssdpagent.c` of kms-core).
#[tokio::test]
async fn an_offer_without_media_is_answered_without_media() {
    let kms = Kms::new("kms", websocket(start().await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: true,
        peer: None,
    };
    for offer in ["v=0", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"] {
        let endpoint = kms.create_element(&pipeline, kind.clone(), EventSender::discard());
        let endpoint = endpoint.await.unwrap();
        let answer = kms.process_offer(&endpoint, offer).await.unwrap();
        assert!(answer.starts_with("v=0\r\n"), "{answer}");
        assert!(!answer.contains("m="), "{answer}");
        // It is negotiated, once and for all.
        let again = kms.process_offer(&endpoint, OFFER).await;
        assert_eq!(again, Err(media::Error::AlreadyNegotiated));
    }
}

#[tokio::test]
async fn candidates_of_our_core_come_as_events() {
    let kms = Kms::new("kms", websocket(start().await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let (sender, mut happened) = mpsc::unbounded_channel();
    let events = EventSender::new(move |event| {
        let _ = sender.send(event);
    });
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: true,
        peer: None,
    };
    let endpoint = kms.create_element(&pipeline, kind, events).await.unwrap();
    let answer = kms.process_offer(&endpoint, OFFER).await.unwrap();
    assert!(answer.contains("m=video"));
    kms.gather_candidates(&endpoint).await.unwrap();
    let found = async {
        loop {
            if let Event::IceCandidateFound(candidate) = happened.recv().await.unwrap() {
                return candidate;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await.unwrap();
    assert!(found.candidate.contains("127.0.0.1"));
}

#[tokio::test]
async fn addresses_of_our_core_are_shown_as_the_application_wants_them() {
    let kms = Kms::new("kms", websocket(start().await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    for answers in [true, false] {
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: false,
            peer: None,
        };
        let endpoint = kms.create_element(&pipeline, kind, EventSender::discard());
        let endpoint = endpoint.await.unwrap();
        for (operation, property, value) in [
            (
                "setExternalIPv4",
                "externalIPv4",
                Parameter::Text("203.0.113.7".to_owned()),
            ),
            ("setIceTcp", "iceTcp", Parameter::Flag(false)),
        ] {
            let parameters = [(property.to_owned(), value)].into();
            kms.invoke(&endpoint, operation, &parameters).await.unwrap();
        }
        let told = match answers {
            true => kms.process_offer(&endpoint, OFFER).await,
            false => kms.generate_offer(&endpoint, OfferOptions::default()).await,
        };
        kms.gather_candidates(&endpoint).await.unwrap();
        let later = kms.query(&endpoint, "getLocalSessionDescriptor").await;
        let later = later.unwrap().into_values().next().unwrap();
        let Parameter::Text(later) = later else {
            panic!("{later:?}");
        };
        for text in [told.unwrap(), later] {
            assert!(!text.contains("127.0.0.1"), "{text}");
            assert!(!text.to_lowercase().contains(" tcp "), "{text}");
            assert!(text.contains("203.0.113.7"), "{text}");
        }
    }
}

/// A directory with a file to play, gone afterwards.
struct Shelf(PathBuf);

impl Shelf {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("kurento-files-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recording/tests/fixtures");
        fs::copy(fixtures.join("vp8.webm"), path.join("vp8.webm")).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct File {
    element: ElementId,
    happened: mpsc::UnboundedReceiver<Event>,
}

impl File {
    async fn make(kms: &Kms, pipeline: &PipelineId, class: &str, uri: &str) -> Self {
        let (sender, happened) = mpsc::unbounded_channel();
        let events = EventSender::new(move |event| {
            let _ = sender.send(event);
        });
        let parameters = [("uri".to_owned(), Parameter::Text(uri.to_owned()))].into();
        let made = kms.create_custom_element(pipeline, class, &parameters, events);
        let element = made.await.unwrap();
        Self { element, happened }
    }

    async fn wait_for(&mut self, expected: Event) {
        let waiting = async { while self.happened.recv().await.unwrap() != expected {} };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("no {expected:?}"));
    }
}

#[tokio::test]
async fn files_are_played_and_recorded_over_the_protocol() {
    let shelf = Shelf::new();
    let kms = Kms::new("kms", websocket(serve(Some(shelf.0.clone())).await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let nothing = Parameters::new();
    let mut player = File::make(&kms, &pipeline, "PlayerEndpoint", "vp8.webm").await;
    let mut recorder = File::make(&kms, &pipeline, "RecorderEndpoint", "made/copy.webm").await;
    kms.connect(&player.element, &recorder.element, None)
        .await
        .unwrap();
    kms.invoke(&recorder.element, "record", &nothing)
        .await
        .unwrap();
    kms.invoke(&player.element, "play", &nothing).await.unwrap();
    player
        .wait_for(Event::FileStateChanged(FileState::Started))
        .await;
    recorder
        .wait_for(Event::RecordingChanged(Recording::Active))
        .await;
    player.wait_for(Event::EndOfStream).await;
    let info = kms.query(&player.element, "getPosition").await.unwrap();
    assert_eq!(info.get("position"), Some(&Parameter::Integer(0)));

    kms.invoke(&recorder.element, "stopAndWait", &nothing)
        .await
        .unwrap();
    recorder
        .wait_for(Event::RecordingChanged(Recording::Stopped))
        .await;

    let copy = format!("file://{}/made/copy.webm", shelf.0.display());
    let copy = File::make(&kms, &pipeline, "PlayerEndpoint", &copy).await;
    let info = kms.query(&copy.element, "getVideoInfo").await.unwrap();
    let Some(Parameter::Integer(duration)) = info.get("duration") else {
        panic!("{info:?}");
    };
    assert!((2000..3500).contains(duration), "{duration} ms");
}

#[tokio::test]
async fn files_are_refused_where_no_directory_is_set_up() {
    let kms = Kms::new("kms", websocket(start().await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let nothing = Parameters::new();
    for (class, operation, uri, expected) in [
        (
            "RecorderEndpoint",
            "record",
            "file:///tmp/x.webm",
            "RESOURCE_ERROR_OPEN",
        ),
        (
            "PlayerEndpoint",
            "play",
            "file:///etc/passwd",
            "INVALID_URI",
        ),
        (
            "PlayerEndpoint",
            "play",
            "http://localhost/x.webm",
            "INVALID_URI",
        ),
    ] {
        let mut file = File::make(&kms, &pipeline, class, uri).await;
        kms.invoke(&file.element, operation, &nothing)
            .await
            .unwrap();
        let event = tokio::time::timeout(PATIENCE, file.happened.recv());
        let Some(Event::Error {
            kind, description, ..
        }) = event.await.unwrap()
        else {
            panic!("{uri} is not refused");
        };
        assert_eq!(kind.as_str(), expected);
        let names = if uri.starts_with("http:") {
            "scheme http"
        } else {
            "--recordings"
        };
        assert!(description.contains(names), "{description}");
    }
}

#[tokio::test]
async fn answers_hold_what_both_know_or_what_kurento_does() {
    let modern = "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:5 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
a=rtcp-fb:96 transport-cc\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtcp-rsize\r\n\
a=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l\r\n";
    let kurento = "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\na=rtcp-fb:96 goog-remb\r\n";
    let offer = OFFER.replace("SAVPF 96", "SAVPF 96 97") + kurento + modern;
    let core = our_core::start(None);
    for (core, is_strict) in [(core.clone(), false), (core.strict(), true)] {
        let kms = Kms::new(
            "kms",
            websocket(behind_the_protocol(core, Config::default()).await, None),
        );
        let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: false,
            peer: None,
        };
        let endpoint = kms.create_element(&pipeline, kind, EventSender::discard());
        let endpoint = endpoint.await.unwrap();
        let answer = kms.process_offer(&endpoint, &offer).await.unwrap();
        for words in ["abs-send-time", "96 goog-remb", "96 nack pli", "a=mid:1"] {
            assert!(answer.contains(words), "{words}: {answer}");
        }
        for words in [
            "transport-wide-cc",
            "sdes:mid",
            "96 transport-cc",
            "rtx/90000",
            "a=rtcp-rsize",
            "a=simulcast:recv h;l",
            "a=msid:",
        ] {
            assert_eq!(answer.contains(words), !is_strict, "{words}: {answer}");
        }
    }
}

#[tokio::test]
async fn descriptions_tell_what_peers_may_send() {
    let kms = Kms::new("kms", websocket(start().await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: false,
        peer: None,
    };
    let endpoint = kms.create_element(&pipeline, kind, EventSender::discard());
    let endpoint = endpoint.await.unwrap();
    let limits = BandwidthLimits {
        max_audio_recv: Some(Kilobits(40)),
        max_video_recv: Some(Kilobits(700)),
        ..BandwidthLimits::default()
    };
    kms.set_bandwidth(&endpoint, limits).await.unwrap();
    let answer = kms.process_offer(&endpoint, OFFER).await.unwrap();
    let (audio, video) = answer.split_once("m=video").unwrap();
    assert!(audio.contains("b=AS:40\r\n"), "{answer}");
    assert!(video.contains("b=AS:700\r\n"), "{answer}");
}

#[tokio::test]
async fn plain_rtp_is_of_the_family_that_the_application_asks_for() {
    let kms = Kms::new("kms", websocket(start().await, None));
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let families = ["IN IP4 127.0.0.1", "IN IP6 ::1"];
    // A machine without IPv6 does what it can.
    for (ipv6, told) in [
        (false, families[0]),
        (true, families[our_core::localhost().len() - 1]),
    ] {
        let kind = ElementKind::RtpEndpoint { sdes: None, ipv6 };
        let endpoint = kms.create_element(&pipeline, kind, EventSender::discard());
        let endpoint = endpoint.await.unwrap();
        let offer = kms.generate_offer(&endpoint, OfferOptions::default());
        let offer = offer.await.unwrap();
        for line in ["o=", "c="] {
            let line = offer.lines().find(|text| text.starts_with(line)).unwrap();
            assert!(line.ends_with(told), "{offer}");
        }
    }
}
