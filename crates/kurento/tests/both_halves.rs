//! The client half against the server half: everything that a media server must do, over the
//! protocol, and what happens when the connection or the server is lost.
//!
//! Where time passes it is paused: `sleep` lets everything run that can, and then moves the clock.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kurento::Link;
use kurento::client::{Dial, Kms, websocket};
use kurento::server::{Config, Service};
use media::{
    BandwidthLimits, Call, ElementKind, Error, Event, EventSender, Fake, Hold, IceCandidate,
    Kilobits, MediaKind, MediaServer, MediaState, Parameter, Parameters, Script,
};
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A server half that can be restarted and cut off.
#[derive(Clone)]
struct World {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

struct State {
    service: Option<Service<Fake>>,
    connections: Vec<JoinHandle<()>>,
    dialled: usize,
}

impl World {
    fn new() -> Self {
        let fake = Fake::new();
        let state = State {
            service: Some(Service::new(fake.clone(), Config::default())),
            connections: Vec::new(),
            dialled: 0,
        };
        let state = Arc::new(Mutex::new(state));
        Self { fake, state }
    }

    fn dial(&self) -> Dial {
        let state = self.state.clone();
        Arc::new(move || {
            let mut state = state.lock();
            state.dialled += 1;
            let Some(service) = state.service.clone() else {
                let refused = kurento::LinkError::Unreachable("nobody is there".to_owned());
                return async move { Err(refused) }.boxed();
            };
            let (ours, theirs) = Link::pair();
            let serving = tokio::spawn(async move { service.serve(theirs).await });
            state.connections.push(serving);
            async move { Ok(ours) }.boxed()
        })
    }

    fn cut(&self) {
        for connection in self.state.lock().connections.drain(..) {
            connection.abort();
        }
    }

    /// The server ends; what it had made is released by nobody, as after a crash.
    fn crash(&self) {
        self.state.lock().service = None;
        self.cut();
    }

    fn start(&self) {
        let service = Service::new(self.fake.clone(), Config::default());
        self.state.lock().service = Some(service);
    }

    fn objects(&self) -> usize {
        let state = self.state.lock();
        let (_, _, objects) = state.service.as_ref().unwrap().load();
        objects
    }

    fn dialled(&self) -> usize {
        self.state.lock().dialled
    }
}

fn listen() -> (EventSender, mpsc::UnboundedReceiver<Event>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let events = EventSender::new(move |event| {
        let _ = sender.send(event);
    });
    (events, receiver)
}

const WEB: ElementKind = ElementKind::WebRtcEndpoint {
    data_channels: true,
    peer: None,
};

/// Waits until releases, which nobody waits for, have arrived.
async fn settle(world: &World, objects: usize) {
    for _ in 0..1000 {
        if world.objects() == objects {
            return;
        }
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_micros(10)).await;
    }
    panic!("{} objects are left", world.objects());
}

#[tokio::test]
async fn a_remote_media_server_does_what_a_local_one_does() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    media::conformance::check(&kms, "v=0").await;
    kms.shut_down().await.unwrap();
}

#[tokio::test]
async fn websockets_carry_the_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service::new(Fake::new(), Config::default());
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            serve(service.clone(), stream).await;
        }
    });
    let kms = Kms::new("kms", websocket(format!("ws://{address}/kurento"), None));
    media::conformance::check(&kms, "v=0").await;
    assert_eq!(kms.version().as_deref(), Some("7.3.0"));
    accepting.abort();
}

async fn serve<S>(service: Service<Fake>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Who does not trust us hangs up.
    if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
        tokio::spawn(async move { service.serve(Link::over_websocket(socket)).await });
    }
}

/// A server half behind TLS, its port, and the trust in its certificate, which is for `localhost`.
struct Secure {
    port: u16,
    trust: Arc<ClientConfig>,
    /// Handshakes that came to an end, and whether it was a good one.
    handshakes: mpsc::UnboundedReceiver<bool>,
}

impl Secure {
    async fn start() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = certified.signing_key.serialize_der().try_into().unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = Service::new(Fake::new(), Config::default());
        let (done, handshakes) = mpsc::unbounded_channel();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = acceptor.accept(stream).await;
                let _ = done.send(stream.is_ok());
                if let Ok(stream) = stream {
                    serve(service.clone(), stream).await;
                }
            }
        });
        Self {
            port,
            trust: trusting([certificate]),
            handshakes,
        }
    }

    fn uri(&self, host: &str) -> String {
        format!("wss://{host}:{}/kurento", self.port)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn trusting(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn tls_carries_the_protocol() {
    let server = Secure::start().await;
    let dial = websocket(server.uri("localhost"), Some(server.trust));
    media::conformance::check(&Kms::new("kms", dial), "v=0").await;
}

#[tokio::test]
async fn a_server_that_nobody_certifies_is_not_talked_to() {
    let mut server = Secure::start().await;
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trusts_another = trusting([stranger.cert.der().clone()]);
    for (host, trust) in [
        ("localhost", trusts_another),
        // Certified, but not by that name.
        ("127.0.0.1", server.trust.clone()),
    ] {
        let kms = Kms::new("kms", websocket(server.uri(host), Some(trust)));
        assert_eq!(server.handshakes.recv().await, Some(false), "{host}");
        let refused = kms.create_pipeline(EventSender::discard()).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        assert!(!kms.is_up());
    }
}

#[tokio::test]
async fn events_arrive_in_order() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let (events, mut happened) = listen();
    let endpoint = kms.create_element(&pipeline, WEB, events).await.unwrap();
    kms.process_offer(&endpoint, "v=0").await.unwrap();
    let (element, _) = world.fake.elements()[0].clone();
    let candidate = IceCandidate {
        candidate: "candidate:1 1 UDP 1 192.0.2.1 1 typ host".to_owned(),
        sdp_mid: "0".to_owned(),
        sdp_m_line_index: 0,
    };
    world
        .fake
        .fire(&element, Event::IceCandidateFound(candidate.clone()));
    world
        .fake
        .fire(&element, Event::MediaStateChanged(MediaState::Connected));
    let flowing = Event::MediaFlowInChanged {
        kind: MediaKind::Video,
        flowing: true,
    };
    world.fake.fire(&element, flowing.clone());
    world.fake.fire(&element, Event::DataChannelOpened(3));
    let mut got = Vec::new();
    while got.last() != Some(&Event::DataChannelOpened(3)) {
        got.push(happened.recv().await.unwrap());
    }
    let expected = [
        Event::IceCandidateFound(candidate),
        Event::MediaStateChanged(MediaState::Connected),
        flowing,
    ];
    got.retain(|event| expected.contains(event));
    assert_eq!(got, expected);
}

#[tokio::test]
async fn bounds_arrive_whatever_was_set_before() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let endpoint = kms.create_element(&pipeline, WEB, EventSender::discard());
    let endpoint = endpoint.await.unwrap();
    let kilobits = |kilobits| Some(Kilobits(kilobits));
    for (min, max) in [(600, 700), (20, 50), (0, 0), (100, 500)] {
        let limits = BandwidthLimits {
            min_video_send: kilobits(min).filter(|_| min > 0),
            max_video_send: kilobits(max).filter(|_| max > 0),
            ..BandwidthLimits::default()
        };
        kms.set_bandwidth(&endpoint, limits).await.unwrap();
        let last = world
            .fake
            .calls()
            .into_iter()
            .rev()
            .find_map(|call| match call {
                Call::SetBandwidth { limits, .. } => Some(limits),
                _ => None,
            });
        assert_eq!(last, Some(limits));
    }
}

#[tokio::test]
async fn custom_elements_are_made_with_their_parameters() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let text = |text: &str| Parameter::Text(text.to_owned());
    let parameters = Parameters::from([("command".to_owned(), text("videoflip"))]);
    let create = |parameters: Parameters| {
        let (kms, pipeline) = (kms.clone(), pipeline.clone());
        async move {
            let events = EventSender::discard();
            kms.create_custom_element(&pipeline, "GStreamerFilter", &parameters, events)
                .await
        }
    };
    let filter = create(parameters).await.unwrap();
    assert!(filter.as_str().ends_with("_kurento.GStreamerFilter"));
    let refused = create(Parameters::new()).await.unwrap_err();
    assert_eq!(refused.kurento_code(), 40001);
    let property = Parameters::from([
        ("propertyName".to_owned(), text("method")),
        ("propertyValue".to_owned(), text("rotate-180")),
    ]);
    kms.invoke(&filter, "setElementProperty", &property)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_creation_leaves_nothing_behind() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let hold = Hold::default();
    world.fake.once(
        |call| matches!(call, Call::CreateElement { .. }),
        Script::hold(hold.clone()),
    );
    let making = tokio::spawn({
        let (kms, pipeline) = (kms.clone(), pipeline.clone());
        async move {
            kms.create_element(&pipeline, WEB, EventSender::discard())
                .await
        }
    });
    hold.reached().await;
    making.abort();
    assert!(making.await.unwrap_err().is_cancelled());
    hold.release();
    // The manager and the pipeline.
    settle(&world, 2).await;
    while !world.fake.elements().is_empty() {
        tokio::task::yield_now().await;
    }
    kms.release_pipeline(&pipeline);
    settle(&world, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_and_nothing_is_lost() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let (events, mut happened) = listen();
    let pipeline = kms.create_pipeline(events).await.unwrap();
    world.cut();
    let made = kms
        .create_element(&pipeline, WEB, EventSender::discard())
        .await;
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(world.dialled(), 2);
    let (id, _) = (world.fake.pipelines()[0].clone(), ());
    let failure = Event::Error {
        kind: media::ErrorKind::StreamFailed,
        description: "broken".to_owned(),
        code: 1,
    };
    world.fake.fire_pipeline(&id, failure.clone());
    assert_eq!(happened.recv().await, Some(failure));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_under_way_is_not_run_twice() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    let hold = Hold::default();
    world.fake.once(
        |call| matches!(call, Call::CreateElement { .. }),
        Script::hold(hold.clone()),
    );
    let making = tokio::spawn({
        let (kms, pipeline) = (kms.clone(), pipeline.clone());
        async move {
            kms.create_element(&pipeline, WEB, EventSender::discard())
                .await
        }
    });
    hold.reached().await;
    world.cut();
    while world.dialled() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    hold.release();
    making.await.unwrap().unwrap();
    let created = |call: &Call| matches!(call, Call::CreateElement { .. });
    assert_eq!(world.fake.count(created), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_tried_a_while_before_it_counts_as_down() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    assert!(!kms.is_up());
    kms.known().await;
    assert!(kms.is_up());

    world.crash();
    // Started at the same time, and a little slower.
    let other = Kms::new("kms", world.dial());
    let start = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.start();
    };
    tokio::join!(other.known(), start);
    assert!(other.is_up());

    world.crash();
    let begun = tokio::time::Instant::now();
    let absent = Kms::new("kms", world.dial());
    absent.known().await;
    assert!(!absent.is_up());
    assert!(begun.elapsed() < Duration::from_secs(3));
    // What came later changes nothing about what was known.
    kms.known().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_is_used_again_and_what_it_lost_is_told() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let (events, mut happened) = listen();
    let pipeline = kms.create_pipeline(events).await.unwrap();
    world.crash();
    // The first attempt is made at once; then callers are told without delay.
    while kms.is_up() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Not so long that it is given up.
    tokio::time::sleep(Duration::from_secs(400)).await;
    let start = tokio::time::Instant::now();
    let refused = kms.create_pipeline(EventSender::discard()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(start.elapsed() < Duration::from_millis(10));
    world.start();
    let Some(Event::Error { kind, code, .. }) = happened.recv().await else {
        panic!("the creator of a lost pipeline is not told");
    };
    assert_eq!((kind.as_str(), code), ("MEDIA_SERVER_LOST", 40007));
    let gone = kms
        .create_element(&pipeline, WEB, EventSender::discard())
        .await;
    assert_eq!(gone, Err(Error::PipelineNotFound(pipeline)));
    assert!(kms.create_pipeline(EventSender::discard()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_have_a_deadline() {
    let world = World::new();
    let kms = Kms::new("kms", world.dial());
    let pipeline = kms.create_pipeline(EventSender::discard()).await.unwrap();
    world.fake.on_call(|call| {
        matches!(call, Call::CreateElement { .. }).then(|| Script::delay(Duration::from_secs(60)))
    });
    let start = tokio::time::Instant::now();
    let made = kms
        .create_element(&pipeline, WEB, EventSender::discard())
        .await;
    assert!(made.is_err(), "{made:?}");
    assert!(start.elapsed() <= Duration::from_secs(11));
    assert!(kms.is_up());
}
