//! The client half against the server half over our own core, on a socket.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::time::Duration;

use kurento::Link;
use kurento::client::{Kms, websocket};
use kurento::server::{Config, Service};
use media::{ElementKind, Event, EventSender, MediaServer};
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
    let localhost = Ipv4Addr::LOCALHOST.into();
    let core = NativeMediaServer::start(&sfu::Config {
        udp_port: 0,
        rtp_ports: 0..=0,
        workers: NonZeroUsize::MIN,
        listen: vec![localhost],
        announce: vec![localhost],
        ..sfu::Config::default()
    });
    let service = Service::new(core.unwrap(), Config::default());
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
async fn our_core_behind_the_protocol_is_a_media_server() {
    let kms = Kms::new(websocket(start().await, None));
    media::conformance::check(&kms, OFFER).await;
}

#[tokio::test]
async fn candidates_of_our_core_come_as_events() {
    let kms = Kms::new(websocket(start().await, None));
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
