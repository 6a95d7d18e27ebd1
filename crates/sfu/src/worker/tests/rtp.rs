//! RTP endpoints with sockets of their own.

use std::sync::{Arc, Mutex};

use media::{Event, MediaState, OfferOptions};

use super::*;

/// A gateway on this machine: a socket for RTP of audio.
pub(super) struct Gateway {
    pub(super) rtp: UdpSocket,
    pub(super) endpoint: ElementId,
    /// Where the server receives.
    pub(super) server: SocketAddr,
}

impl Gateway {
    pub(super) async fn call(
        server: &NativeMediaServer,
        pipeline: &PipelineId,
        events: EventSender,
    ) -> Self {
        Self::call_from(Ipv4Addr::LOCALHOST.into(), server, pipeline, events).await
    }

    /// As [`Self::call`], from an address of this machine.
    async fn call_from(
        host: IpAddr,
        server: &NativeMediaServer,
        pipeline: &PipelineId,
        events: EventSender,
    ) -> Self {
        let ipv6 = host.is_ipv6();
        let kind = ElementKind::RtpEndpoint { sdes: None, ipv6 };
        let endpoint = server.create_element(pipeline, kind, events).await.unwrap();
        let rtp = UdpSocket::bind((host, 0)).unwrap();
        rtp.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = rtp.local_addr().unwrap().port();
        let address = format!("IN {} {host}", if ipv6 { "IP6" } else { "IP4" });
        let offer = format!(
            "v=0\r\no=- 1 1 {address}\r\ns=-\r\nc={address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 98\r\na=rtcp:9\r\na=rtpmap:98 opus/48000/2\r\n"
        );
        let answer = server.process_offer(&endpoint, &offer).await.unwrap();
        let mut line = answer
            .lines()
            .find(|line| line.starts_with("m=audio"))
            .unwrap()
            .split(' ');
        let port: u16 = line.nth(1).unwrap().parse().unwrap();
        assert_eq!(port % 2, 0);
        Self {
            rtp,
            endpoint,
            server: (host, port).into(),
        }
    }

    pub(super) fn send(&self, number: u16, payload: &[u8]) {
        let mut packet = vec![0x80, 98];
        packet.extend_from_slice(&number.to_be_bytes());
        packet.extend_from_slice(&(u32::from(number) * 960).to_be_bytes());
        packet.extend_from_slice(&7u32.to_be_bytes());
        packet.extend_from_slice(payload);
        self.rtp.send_to(&packet, self.server).unwrap();
    }

    /// The next payload, and who sent it.
    pub(super) fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut packet = [0; 2000];
        let (len, from) = self.rtp.recv_from(&mut packet).unwrap();
        (packet[12..len].to_vec(), from)
    }
}

pub(super) fn start_with(
    rtp_ports: std::ops::RangeInclusive<u16>,
    workers: usize,
) -> NativeMediaServer {
    let config = Config {
        udp_port: 0,
        rtp_ports,
        workers: NonZeroUsize::new(workers).unwrap(),
        ..Config::default()
    };
    NativeMediaServer::start(&config).unwrap()
}

#[tokio::test]
async fn gateways_hear_each_other_from_the_ports_they_were_told() {
    let server = start_with(0..=0, 1);
    let pipeline = server
        .create_pipeline(EventSender::discard())
        .await
        .unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let events = EventSender::new(move |event| sink.lock().unwrap().push(event));
    let speaker = Gateway::call(&server, &pipeline, events).await;
    let listener = Gateway::call(&server, &pipeline, EventSender::discard()).await;
    server
        .connect(&speaker.endpoint, &listener.endpoint, None)
        .await
        .unwrap();

    for number in 1..=50u16 {
        let payload = number.to_be_bytes().repeat(20);
        speaker.send(number, &payload);
        let (received, from) = listener.receive();
        assert_eq!((received, from), (payload, listener.server));
    }

    let connected = Event::MediaStateChanged(MediaState::Connected);
    assert!(told.lock().unwrap().contains(&connected));
}

#[tokio::test]
async fn gateways_of_ipv6_are_told_addresses_of_ipv6_and_heard_there() {
    let localhost: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    if UdpSocket::bind((localhost[1], 0)).is_err() {
        // This machine has no IPv6.
        return;
    }
    let config = Config {
        udp_port: 0,
        rtp_ports: 0..=0,
        workers: NonZeroUsize::MIN,
        listen: localhost.to_vec(),
        announce: localhost.to_vec(),
        ..Config::default()
    };
    let server = NativeMediaServer::start(&config).unwrap();
    let pipeline = server
        .create_pipeline(EventSender::discard())
        .await
        .unwrap();
    for (ipv6, told) in [(false, "c=IN IP4 127.0.0.1"), (true, "c=IN IP6 ::1")] {
        let kind = ElementKind::RtpEndpoint { sdes: None, ipv6 };
        let events = EventSender::discard();
        let endpoint = server.create_element(&pipeline, kind, events).await;
        let options = OfferOptions::default();
        let offer = server
            .generate_offer(&endpoint.unwrap(), options)
            .await
            .unwrap();
        assert!(offer.contains(told), "{offer}");
    }

    // One family may feed the other.
    let events = EventSender::discard;
    let speaker = Gateway::call_from(localhost[1], &server, &pipeline, events()).await;
    let listeners = [
        Gateway::call_from(localhost[1], &server, &pipeline, events()).await,
        Gateway::call_from(localhost[0], &server, &pipeline, events()).await,
    ];
    for listener in &listeners {
        let connected = server.connect(&speaker.endpoint, &listener.endpoint, None);
        connected.await.unwrap();
    }
    speaker.send(1, b"over IPv6");
    for listener in &listeners {
        assert_eq!(listener.receive(), (b"over IPv6".to_vec(), listener.server));
    }
}

#[tokio::test]
async fn sockets_of_a_released_endpoint_are_closed() {
    let probe = start_with(0..=0, 1);
    let pipeline = probe.create_pipeline(EventSender::discard()).await.unwrap();
    let gateway = Gateway::call(&probe, &pipeline, EventSender::discard()).await;
    let (port, rtcp_port) = (gateway.server.port(), gateway.server.port() + 1);
    let is_free = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    assert!(!is_free(port) && !is_free(rtcp_port));

    probe.release_element(&gateway.endpoint);
    probe.metrics().await;

    assert!(is_free(port) && is_free(rtcp_port));
}

#[tokio::test]
async fn endpoints_are_refused_when_no_port_is_left() {
    // One pair, where an endpoint needs two.
    let server = start_with(20_000..=20_001, 1);
    let pipeline = server
        .create_pipeline(EventSender::discard())
        .await
        .unwrap();

    let made = server
        .create_element(
            &pipeline,
            ElementKind::RtpEndpoint {
                sdes: None,
                ipv6: false,
            },
            EventSender::discard(),
        )
        .await;

    assert!(matches!(made, Err(Error::Full(_))), "{made:?}");
    // Other endpoints need none.
    assert!(element(&server, &pipeline).await.is_ok());
}
