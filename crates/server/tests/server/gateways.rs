//! Participants of a room that speak plain RTP, on our own media server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;

use room::protocol::Notification;
use room::{Application, Join, Options, ParticipantId, Publish, Rooms, Sdp};
use sfu::NativeMediaServer;

use crate::support::PATIENCE;

struct Nobody;

impl Application for Nobody {
    fn notify(&self, _: &[ParticipantId], _: Notification) {}
    fn close_session(&self, _: &ParticipantId) {}
}

fn offer(socket: &UdpSocket, direction: &str) -> String {
    let port = socket.local_addr().unwrap().port();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na={direction}\r\n"
    )
}

/// Where the answer wants audio.
fn port_of(answer: &str) -> u16 {
    let mut lines = answer.lines();
    let line = lines.find_map(|line| line.strip_prefix("m=audio "));
    line.unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn gateway_hears_another_in_its_room() {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let media = NativeMediaServer::start(&sfu::Config {
        udp_port: 0,
        rtp_ports: 0..=0,
        workers: NonZeroUsize::MIN,
        listen: vec![localhost],
        announce: vec![localhost],
        ..sfu::Config::default()
    })
    .unwrap();
    let rooms = Rooms::new(media, Arc::new(Nobody), Options::default());
    let [speaker, listener] = ["speaker", "listener"].map(ParticipantId::new);
    for user in [&speaker, &listener] {
        let join = Join {
            room: "room".to_owned(),
            user: user.to_string(),
            data_channels: false,
            web: false,
            media_events: false,
        };
        rooms.join(user, join).await.unwrap();
    }
    let microphone = UdpSocket::bind((localhost, 0)).unwrap();
    let loudspeaker = UdpSocket::bind((localhost, 0)).unwrap();
    loudspeaker.set_read_timeout(Some(PATIENCE)).unwrap();
    let publish = Publish {
        sdp: Sdp::Offer(offer(&microphone, "sendonly")),
        loopback: None,
        elements: Vec::new(),
    };
    let to = port_of(&rooms.publish(&speaker, publish).await.unwrap());
    let offer = offer(&loudspeaker, "recvonly");
    let answer = rooms.subscribe(&listener, "speaker", &offer).await.unwrap();

    let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    packet.extend_from_slice(&[0x55; 160]);
    microphone.send_to(&packet, (localhost, to)).unwrap();

    let mut heard = [0; 2000];
    let (len, from) = loudspeaker.recv_from(&mut heard).unwrap();
    assert_eq!(from, SocketAddr::new(localhost, port_of(&answer)));
    assert_eq!(heard[12..len], packet[12..]);
}
