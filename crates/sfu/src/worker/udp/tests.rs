use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn port(ip: IpAddr) -> UdpPort {
    UdpPort::new(std::net::UdpSocket::bind((ip, 0)).unwrap()).unwrap()
}

fn peer() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn flow_to(port: &UdpPort, remote: SocketAddr) -> Flow {
    port.flow(remote, Some(Ipv4Addr::LOCALHOST.into())).unwrap()
}

fn send(
    port: &mut UdpPort,
    now: Instant,
    flow: &Flow,
    bytes: &[u8],
    segment_bytes: usize,
    counters: &mut SocketCounters,
) {
    let mut outbox = Outbox::default();
    outbox.push(*flow, bytes);
    let message = Message {
        flow: *flow,
        range: 0..bytes.len(),
        segment_bytes,
    };
    let mut batch = Batch::with_capacity(1);
    port.send(now, &outbox, &[message], &mut batch, counters);
}

#[test]
fn run_arrives_as_single_datagrams_in_order() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let bytes: Vec<u8> = (0..=255).collect();
    let mut counters = SocketCounters::default();

    send(&mut port, Instant::now(), &flow, &bytes, 100, &mut counters);

    let mut buffer = [0; 2000];
    for expected in bytes.chunks(100) {
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
        assert_eq!(from, flow.local);
    }
    assert_eq!((counters.udp_sent, counters.udp_sent_bytes), (3, 256));
}

#[test]
fn received_run_is_cut_into_datagrams_with_both_addresses() {
    let mut sender = port(Ipv4Addr::LOCALHOST.into());
    let mut receiver = port(Ipv4Addr::UNSPECIFIED.into());
    let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), receiver.local.port());
    let flow = flow_to(&sender, target);
    let mut counters = SocketCounters::default();
    send(
        &mut sender,
        Instant::now(),
        &flow,
        &[5; 1050],
        100,
        &mut counters,
    );

    let mut poll = mio::Poll::new().unwrap();
    receiver.register(poll.registry(), mio::Token(0)).unwrap();
    let mut batch = ReceiveBatch::new();
    let mut sizes = Vec::new();
    while sizes.len() < 11 {
        poll.poll(&mut mio::Events::with_capacity(1), Some(PATIENCE))
            .unwrap();
        receiver.handle_readable();
        while receiver.is_readable() {
            receiver.receive(&mut batch, &mut counters);
            for index in 0..batch.filled() {
                let (remote, local, datagrams) = batch.buffer(index);
                assert_eq!(receiver.flow(remote, local).unwrap().local, target);
                assert_eq!(remote.port(), sender.local.port());
                sizes.extend(datagrams.map(|datagram| datagram.len()));
            }
        }
    }

    assert_eq!(sizes, [[100; 10].as_slice(), &[50]].concat());
}

#[test]
fn packets_that_leave_do_not_wake_the_worker() {
    let mut port = port(Ipv4Addr::LOCALHOST.into());
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(1);
    let mut ready = |port: &mut UdpPort| {
        port.register(poll.registry(), mio::Token(0)).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    };
    ready(&mut port);

    let mut counters = SocketCounters::default();
    send(
        &mut port,
        Instant::now(),
        &flow,
        b"packet",
        6,
        &mut counters,
    );
    peer.recv(&mut [0; 10]).unwrap();
    assert!(!ready(&mut port));

    assert!(port.backlog.push(flow, b"waits", 5));
    assert!(ready(&mut port));
}

#[test]
fn peer_that_cannot_be_reached_does_not_cost_the_others_segmentation() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    let supported = port.segments_max();
    let gone = Flow {
        protocol: FlowProtocol::Udp,
        local: ([203, 0, 113, 1], port.local.port()).into(),
        remote: ([127, 0, 0, 1], 9).into(),
    };
    let mut counters = SocketCounters::default();
    let now = Instant::now();

    send(&mut port, now, &gone, &[0; 100], 100, &mut counters);
    send(&mut port, now, &gone, &[0; 300], 100, &mut counters);

    assert_eq!((counters.udp_refused, counters.udp_sent), (4, 0));
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let later = now + OFFLOAD_RESTORE_INTERVAL;
    send(&mut port, later, &flow, &[0; 100], 100, &mut counters);
    assert_eq!(port.segments_max(), supported);
    assert_eq!(counters.udp_sent, 1);
}

#[test]
fn addresses_that_cannot_be_answered_have_no_flow() {
    let port = port(Ipv4Addr::LOCALHOST.into());
    let check = |text: &str, expected: bool| {
        let flow = port.flow(text.parse().unwrap(), None);
        assert_eq!(flow.is_some(), expected, "{text}");
    };
    check("192.0.2.1:5000", true);
    check("192.0.2.1:0", false);
    check("0.0.0.0:5000", false);
    check("224.0.0.1:5000", false);
    check("255.255.255.255:5000", false);
    check("[ff02::1]:5000", false);
}

#[test]
fn port_serves_its_number_at_its_address_or_its_family() {
    let at = |ip: IpAddr, port: &UdpPort| SocketAddr::new(ip, port.local.port());
    let any = port(Ipv4Addr::UNSPECIFIED.into());
    assert!(any.serves(at(Ipv4Addr::new(10, 0, 0, 1).into(), &any)));
    assert!(!any.serves(at(Ipv6Addr::LOCALHOST.into(), &any)));
    let one = port(Ipv4Addr::LOCALHOST.into());
    assert!(one.serves(at(Ipv4Addr::LOCALHOST.into(), &one)));
    assert!(!one.serves(at(Ipv4Addr::LOCALHOST.into(), &any)));
    assert!(!one.serves(at(Ipv4Addr::new(10, 0, 0, 1).into(), &one)));
}

#[test]
fn what_waits_leaves_in_order_once_the_socket_takes_more() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let mut counters = SocketCounters::default();
    assert!(port.backlog.push(flow, b"onetwo", 3));

    send(&mut port, Instant::now(), &flow, b"three", 5, &mut counters);
    assert_eq!(counters.udp_sent, 0);
    port.handle_writable(Instant::now(), &mut counters);

    let mut buffer = [0; 100];
    for expected in ["one", "two", "three"] {
        let len = peer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected.as_bytes());
    }
    assert!(port.backlog.is_empty());
}

#[test]
fn message_that_is_refused_does_not_hold_up_those_behind_it() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    let peer = peer();
    let good = flow_to(&port, peer.local_addr().unwrap());
    let gone = Flow {
        local: ([203, 0, 113, 1], port.local.port()).into(),
        ..good
    };
    let mut outbox = Outbox::default();
    let mut messages = Vec::new();
    for (flow, bytes) in [(good, "one"), (gone, "lost"), (gone, "lost"), (good, "two")] {
        let start = outbox.len_bytes();
        outbox.push(flow, bytes.as_bytes());
        messages.push(Message {
            flow,
            range: start..outbox.len_bytes(),
            segment_bytes: bytes.len(),
        });
    }
    let mut counters = SocketCounters::default();
    let mut batch = Batch::with_capacity(4);

    port.send(
        Instant::now(),
        &outbox,
        &messages,
        &mut batch,
        &mut counters,
    );

    assert_eq!((counters.udp_sent, counters.udp_refused), (2, 2));
    let mut buffer = [0; 100];
    for expected in ["one", "two"] {
        let len = peer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected.as_bytes());
    }
}

#[test]
fn full_queue_of_the_device_is_tried_again_after_a_while() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let mut counters = SocketCounters::default();
    let now = Instant::now();
    let full = io::Error::from_raw_os_error(NOBUFS);
    assert!(is_full(&full));
    assert!(port.backlog.push(flow, b"waits", 5));

    port.note_full(now, &full);

    assert_eq!(port.poll_timeout(), Some(now + RETRY_INTERVAL));
    port.handle_writable(now + RETRY_INTERVAL, &mut counters);
    assert_eq!((port.poll_timeout(), counters.udp_sent), (None, 1));
}

#[test]
fn backlog_is_bounded_and_reuses_its_memory() {
    let port = port(Ipv4Addr::UNSPECIFIED.into());
    let flow = flow_to(&port, ([127, 0, 0, 1], 9).into());
    let mut backlog = Backlog::default();
    let mut queued: usize = 0;
    while backlog.push(flow, &[1; 1000], 1000) {
        queued += 1;
    }
    assert_eq!(queued, BACKLOG_BYTES_MAX / 1000);

    for _ in 0..3 * queued {
        backlog.advance(400);
        assert_eq!(backlog.first().unwrap().1.len(), 600);
        backlog.advance(600);
        assert!(backlog.push(flow, &[2; 1000], 1000));
        assert!(!backlog.push(flow, &[2; 1000], 1000));
    }
    assert!(backlog.arena.len() <= BACKLOG_BYTES_MAX);
}
