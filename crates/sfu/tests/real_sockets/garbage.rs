//! A call in the midst of datagrams that mean nothing.

use std::net::{Ipv4Addr, UdpSocket};

use media::MediaKind::Video;
use media_bench::peer::Pace;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sfu::Config;
use sfu::config::UdpOffload;

use crate::bed::Bed;

/// Datagrams before each packet of the call, from its publisher and from a stranger. Too high: the sockets' buffers
/// overflow, and what is lost is no fault of the server.
const NOISE_PER_PACKET: usize = 12;
/// So many packets that ten thousand datagrams lie between them.
const FRAMES: usize = 150;

/// The longest that UDP over IPv4 carries.
const LEN_MAX: usize = 65_507;

fn noise(random: &mut StdRng) -> Vec<u8> {
    let len = match random.random_range(0..400) {
        0 => random.random_range(0..=LEN_MAX),
        1 => LEN_MAX - random.random_range(0..3),
        2..80 => random.random_range(0..30),
        _ => random.random_range(0..1500),
    };
    let mut noise = vec![0; len];
    random.fill_bytes(&mut noise);
    // Of each kind that RFC 7983 tells apart by the first byte.
    if let Some(first) = noise.first_mut() {
        *first = [0, 1, 3, 20, 22, 63, 64, 80, 128, 129, 144, 191, 255][random.random_range(0..13)];
    }
    noise
}

async fn check(mode: UdpOffload) {
    let config = Config {
        udp_offload: mode,
        ..Config::default()
    };
    let mut bed = Bed::start(2, config);
    let places = bed.places().await;
    // A hand-over has no room for as much noise as a socket, and drops what is good with it.
    let viewer = bed.call(&places[0], 0, 1).await;
    let publisher = viewer - 1;
    bed.run_for_packets(viewer, 10);
    bed.stop_media(publisher);
    let made = |bed: &Bed| bed.clients[publisher].peer.packets_made(Video);
    let arrived = |bed: &Bed| {
        let stream = bed.clients[viewer].peer.received(Video).unwrap();
        let last = stream.packets.last().and_then(|packet| packet.stamp);
        last.map(|stamp| stamp.number + 1) == made(bed)
    };
    bed.run_until(arrived);

    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut sent = 0;
    for _ in 0..FRAMES {
        let client = &mut bed.clients[publisher];
        client
            .peer
            .send_frame(std::time::Instant::now(), Video, &Pace::VIDEO);
        while let Some(packet) = client.peer.poll_transmit() {
            for _ in 0..NOISE_PER_PACKET {
                client.socket.send(&noise(&mut random)).unwrap();
                stranger.send_to(&noise(&mut random), bed.address).unwrap();
                sent += 2;
            }
            client.socket.send(&packet).unwrap();
        }
        bed.run_until(arrived);
    }

    assert!(sent >= 10_000, "{sent}");
    let stream = bed.clients[viewer].peer.received(Video).unwrap();
    assert_eq!((stream.corrupt, stream.missing()), (0, 0));
    assert!(
        stream
            .packets
            .windows(2)
            .all(|pair| pair[1].seq == pair[0].seq.next())
    );
    for metrics in bed.metrics().await {
        assert_eq!((metrics.udp_overflowed, metrics.engine.panics), (0, 0));
    }
}

#[tokio::test]
async fn ten_thousand_datagrams_of_garbage_between_good_ones_harm_nothing() {
    check(UdpOffload::ALL).await;
}

#[tokio::test]
async fn the_same_garbage_harms_nothing_without_offloads() {
    check(UdpOffload::NONE).await;
}
