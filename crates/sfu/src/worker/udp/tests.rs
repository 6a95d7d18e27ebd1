use std::net::{Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::faults::{Fault, Faults};
use super::*;
use crate::worker::transmit::messages;

const PATIENCE: Duration = Duration::from_secs(10);

fn port(ip: IpAddr) -> UdpPort {
    port_with(ip, UdpOffload::ALL)
}

fn port_with(ip: IpAddr, wanted: UdpOffload) -> UdpPort {
    UdpPort::new(std::net::UdpSocket::bind((ip, 0)).unwrap(), wanted).unwrap()
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
        closing: 0..0,
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
    assert!(supported > 1);
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
    assert_eq!(port.segments_max(), supported);
    assert_eq!(counters.udp_runs_refused, 0);
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
            closing: 0..0,
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

const INVALID: i32 = 22;
const TOO_LONG: i32 = 90;
const FORBIDDEN: i32 = 1;
const MISSING: i32 = 38;
const FULL: i32 = 11;

/// Sends all of `outbox` as a worker does.
fn send_all(port: &mut UdpPort, outbox: &Outbox, counters: &mut SocketCounters) {
    let leaving = outbox.departures(port.offload().may_join());
    let all: Vec<_> = leaving
        .flat_map(|leaving| messages(leaving, port.segments_max()))
        .collect();
    let mut batch = Batch::with_capacity(all.len());
    port.send(Instant::now(), outbox, &all, &mut batch, counters);
}

#[track_caller]
fn assert_received<'a>(peer: &std::net::UdpSocket, expected: impl IntoIterator<Item = &'a [u8]>) {
    let mut buffer = [0; 2000];
    for expected in expected {
        let len = peer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
    }
}

#[test]
fn device_that_does_not_cut_runs_gets_single_datagrams_from_then_on() {
    for sendmmsg in [true, false] {
        for code in [EIO, INVALID] {
            let wanted = UdpOffload {
                sendmmsg,
                ..UdpOffload::ALL
            };
            let mut port = port_with(Ipv4Addr::UNSPECIFIED.into(), wanted);
            port.faults.get_mut().of_runs = Some(code);
            let (one, two) = (peer(), peer());
            let flows = [&one, &two].map(|peer| flow_to(&port, peer.local_addr().unwrap()));
            let mut outbox = Outbox::default();
            for (flow, bytes) in [
                (0, "a1"),
                (0, "a2"),
                (1, "alone"),
                (1, "b1"),
                (1, "b2"),
                (0, "a3"),
                (0, "a4"),
                (0, "5"),
            ] {
                outbox.push(flows[flow], bytes.as_bytes());
            }
            let mut counters = SocketCounters::default();

            send_all(&mut port, &outbox, &mut counters);

            for (flow, peer) in flows.iter().zip([&one, &two]) {
                let of_flow = outbox.datagrams().filter(|(to, _)| to == flow);
                assert_received(peer, of_flow.map(|(_, bytes)| bytes));
            }
            assert_eq!((counters.udp_sent, counters.udp_refused), (8, 0));
            let expected = UdpOffload {
                gso: false,
                ..wanted
            };
            assert_eq!(port.offload(), expected);
            // Those of the batch that had found out.
            assert!((1..=3).contains(&counters.udp_runs_refused));

            let before = counters.udp_runs_refused;
            send_all(&mut port, &outbox, &mut counters);
            assert_eq!(counters.udp_sent, 16);
            assert_eq!(counters.udp_runs_refused, before);
        }
    }
}

/// Linux cuts no runs for sockets without checksums (`udp_send_skb`, net/ipv4/udp.c).
#[cfg(target_os = "linux")]
#[test]
fn kernel_that_refuses_runs_gets_single_datagrams_from_then_on() {
    #[derive(Clone)]
    struct NoChecksum;
    nix::setsockopt_impl!(
        NoChecksum,
        libc::SOL_SOCKET,
        libc::SO_NO_CHECK,
        bool,
        nix::sys::socket::sockopt::SetBool
    );
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    nix::sys::socket::setsockopt(&port.socket, NoChecksum, &true).unwrap();
    let peer = peer();
    let mut outbox = Outbox::default();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    for number in 0..10 {
        outbox.push(flow, &[number; 100]);
    }
    let mut counters = SocketCounters::default();

    send_all(&mut port, &outbox, &mut counters);
    send_all(&mut port, &outbox, &mut counters);

    let sent = || outbox.datagrams().map(|(_, bytes)| bytes);
    assert_received(&peer, sent().chain(sent()));
    assert_eq!((counters.udp_sent, counters.udp_runs_refused), (20, 1));
    assert!(!port.offload().gso);
}

#[test]
fn refusals_that_say_nothing_about_runs_leave_segmentation_on() {
    // What the run, and each of its datagrams, gets; the last is shorter.
    for (run, singles, refused) in [
        // Too long for the way there.
        (INVALID, [TOO_LONG, TOO_LONG, 0], 2),
        (TOO_LONG, [TOO_LONG, TOO_LONG, 0], 2),
        // A firewall that drops some.
        (FORBIDDEN, [0, FORBIDDEN, 0], 1),
        // An address that is gone.
        (INVALID, [INVALID; 3], 3),
    ] {
        let mut port = port(Ipv4Addr::UNSPECIFIED.into());
        let peer = peer();
        let flow = flow_to(&port, peer.local_addr().unwrap());
        let codes = [run, run].into_iter().chain(singles);
        port.faults.get_mut().script = codes
            .map(|code| {
                if code == 0 {
                    Fault::None
                } else {
                    Fault::Fails(code)
                }
            })
            .collect();
        let mut counters = SocketCounters::default();

        let now = Instant::now();
        send(&mut port, now, &flow, &[7; 250], 100, &mut counters);

        assert!(port.offload().gso, "{run} {singles:?}");
        assert_eq!(
            (counters.udp_sent, counters.udp_refused),
            (3 - refused, refused)
        );
    }
}

#[test]
fn system_without_sendmmsg_gets_a_call_for_each_message() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    port.faults.get_mut().of_batches = Some(MISSING);
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let mut outbox = Outbox::default();
    for len in [10, 20, 20, 5, 30] {
        outbox.push(flow, &vec![len as u8; len]);
    }
    let mut counters = SocketCounters::default();

    send_all(&mut port, &outbox, &mut counters);
    let calls = counters.udp_send_calls;
    send_all(&mut port, &outbox, &mut counters);

    let sent = || outbox.datagrams().map(|(_, bytes)| bytes);
    assert_received(&peer, sent().chain(sent()));
    // Messages of one, three and one datagrams, and the call that found out.
    assert_eq!((calls, counters.udp_send_calls), (4, 7));
    let expected = UdpOffload {
        sendmmsg: false,
        ..UdpOffload::ALL
    };
    assert_eq!(port.offload(), expected);
}

/// Sound for two peers, and a picture of two datagrams for either.
fn sounds_and_pictures(flows: [Flow; 2]) -> Outbox {
    let mut outbox = Outbox::default();
    let sounds = flows.map(|flow| {
        outbox.push(flow, b"sound");
        outbox.place()
    });
    for (flow, sound) in flows.into_iter().zip(sounds) {
        outbox.push(flow, b"picture 1");
        outbox.join(sound);
        outbox.push(flow, b"picture 2");
    }
    outbox
}

#[test]
fn device_that_cuts_nothing_is_found_out_by_two_datagrams() {
    let mut port = port_with(Ipv4Addr::UNSPECIFIED.into(), UdpOffload::ALL);
    let peer = peer();
    let flow = flow_to(&port, peer.local_addr().unwrap());
    let mut outbox = Outbox::default();
    outbox.push(flow, b"sound");
    let sound = outbox.place();
    outbox.push(flow, b"picture");
    outbox.join(sound);
    port.faults.get_mut().of_runs = Some(EIO);
    let mut counters = SocketCounters::default();

    send_all(&mut port, &outbox, &mut counters);
    assert!(!port.offload().gso);
    assert_eq!(counters.udp_runs_refused, 1);
    send_all(&mut port, &outbox, &mut counters);
    assert_eq!(counters.udp_runs_refused, 1);

    let apart = ["sound", "picture"].map(str::as_bytes);
    assert_received(&peer, [apart, apart].concat());
}

#[test]
fn closed_runs_leave_whatever_the_calls_answer() {
    const JOINED: [&str; 3] = ["picture 1", "picture 2", "sound"];
    const APART: [&str; 3] = ["sound", "picture 1", "picture 2"];
    let with = |offload, script: &[Fault]| (offload, None, None, script.to_vec());
    let all = UdpOffload::ALL;
    let without_gso = UdpOffload { gso: false, ..all };
    let without_sendmmsg = UdpOffload {
        sendmmsg: false,
        ..all
    };
    for ((offload, of_runs, of_batches, script), expected, calls, runs) in [
        (with(all, &[]), [JOINED, JOINED], 1, [0, 0, 2]),
        (
            with(all, &[Fault::Takes(1)]),
            [JOINED, JOINED],
            2,
            [0, 0, 2],
        ),
        // The first by itself.
        (with(all, &[Fault::Takes(0)]), [APART, JOINED], 4, [1, 1, 1]),
        (with(without_gso, &[]), [APART, APART], 1, [6, 0, 0]),
        (with(without_sendmmsg, &[]), [APART, APART], 4, [2, 2, 0]),
        // A system that is found to have no `sendmmsg`, and a device that is found to cut nothing: of the first picture.
        (
            (all, None, Some(MISSING), vec![]),
            [APART, APART],
            5,
            [2, 2, 0],
        ),
        ((all, Some(EIO), None, vec![]), [APART, APART], 9, [6, 0, 0]),
        // Full: what waits leaves run by run later.
        (
            with(all, &[Fault::Fails(FULL)]),
            [APART, APART],
            5,
            [2, 2, 0],
        ),
        (
            with(all, &[Fault::Takes(1), Fault::Fails(NOBUFS)]),
            [JOINED, APART],
            4,
            [1, 1, 1],
        ),
        // Full behind the sound of the first, and within its picture.
        (
            with(all, &[Fault::Takes(0), Fault::None, Fault::Fails(FULL)]),
            [APART, APART],
            6,
            [2, 2, 0],
        ),
        (
            with(all, &[Fault::Takes(0), Fault::Fails(FULL)]),
            [APART, APART],
            6,
            [2, 2, 0],
        ),
    ] {
        let case = format!("{offload} {of_runs:?} {of_batches:?} {script:?}");
        let mut port = port_with(Ipv4Addr::UNSPECIFIED.into(), offload);
        let peers = [peer(), peer()];
        let flows = [0, 1].map(|at: usize| flow_to(&port, peers[at].local_addr().unwrap()));
        let outbox = sounds_and_pictures(flows);
        *port.faults.get_mut() = Faults {
            script: script.into(),
            of_runs,
            of_batches,
        };
        let mut counters = SocketCounters::default();

        send_all(&mut port, &outbox, &mut counters);
        port.handle_writable(Instant::now(), &mut counters);

        for (peer, expected) in peers.iter().zip(expected) {
            assert_received(peer, expected.map(str::as_bytes));
        }
        assert_eq!(counters.udp_send_calls, calls, "{case}");
        assert_eq!(counters.udp_runs.counts[..3], runs, "{case}");
        let bytes = outbox.len_bytes() as u64;
        assert_eq!((counters.udp_sent, counters.udp_sent_bytes), (6, bytes));
        assert_eq!((counters.udp_refused, counters.udp_backlog_dropped), (0, 0));
    }
}

#[test]
fn closed_run_that_is_refused_counts_each_datagram() {
    let mut port = port(Ipv4Addr::UNSPECIFIED.into());
    let peer = peer();
    let good = flow_to(&port, peer.local_addr().unwrap());
    let gone = Flow {
        local: ([203, 0, 113, 1], port.local.port()).into(),
        ..good
    };
    let mut counters = SocketCounters::default();

    send_all(&mut port, &sounds_and_pictures([gone, good]), &mut counters);

    assert_received(
        &peer,
        ["picture 1", "picture 2", "sound"].map(str::as_bytes),
    );
    assert_eq!((counters.udp_sent, counters.udp_refused), (3, 3));
    assert!(port.offload().gso);
}

/// Calls that take a part, a full socket, a full device, a device that begins to refuse runs, and a system that begins
/// to refuse `sendmmsg`, in all orders.
#[test]
fn nothing_is_lost_or_overtaken_whatever_the_calls_answer() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let wanted = UdpOffload {
            gso: random.random(),
            gro: true,
            sendmmsg: random.random(),
        };
        let mut port = port_with(Ipv4Addr::UNSPECIFIED.into(), wanted);
        let peers = [peer(), peer(), peer()];
        // For each of them, of sound and of pictures.
        let mut expected: [[Vec<Vec<u8>>; 2]; 3] = Default::default();
        let mut counters = SocketCounters::default();
        for round in 0..10_u8 {
            port.faults.get_mut().script = (0..random.random_range(0..8))
                .map(|_| match random.random_range(0..6) {
                    0 => Fault::Fails(FULL),
                    1 => Fault::Fails(NOBUFS),
                    2 | 3 => Fault::Takes(random.random_range(0..4)),
                    _ => Fault::None,
                })
                .collect();
            if random.random_bool(0.05) {
                port.faults.get_mut().of_runs = Some(EIO);
            }
            if random.random_bool(0.05) {
                port.faults.get_mut().of_batches = Some(MISSING);
            }
            let mut outbox = Outbox::default();
            let mut sounds = [None; 3];
            for number in 0..random.random_range(0..12_u8) {
                let peer = random.random_range(0..peers.len());
                let is_sound = random.random_bool(0.3);
                let lengths = match is_sound {
                    true => [60, 100],
                    false => [100, 200],
                };
                let mut bytes = vec![0; *lengths.choose(&mut random).unwrap()];
                bytes[..3].copy_from_slice(&[round, number, is_sound.into()]);
                let flow = flow_to(&port, peers[peer].local_addr().unwrap());
                outbox.push(flow, &bytes);
                if is_sound {
                    sounds[peer] = Some(outbox.place());
                } else if let Some(sound) = sounds[peer].take() {
                    outbox.join(sound);
                }
                expected[peer][usize::from(is_sound)].push(bytes);
            }
            send_all(&mut port, &outbox, &mut counters);
            if random.random() {
                port.handle_writable(Instant::now(), &mut counters);
            }
        }
        port.faults.get_mut().script.clear();
        port.handle_writable(Instant::now(), &mut counters);

        assert_eq!(port.backlog_bytes(), 0, "seed {seed}");
        let total: usize = expected.iter().flatten().map(Vec::len).sum();
        assert_eq!(counters.udp_sent, total as u64, "seed {seed}");
        assert_eq!((counters.udp_refused, counters.udp_backlog_dropped), (0, 0));
        for (peer, expected) in peers.iter().zip(&expected) {
            let mut received: [Vec<Vec<u8>>; 2] = Default::default();
            for _ in expected.iter().flatten() {
                let mut bytes = vec![0; 2000];
                let len = peer.recv(&mut bytes).unwrap();
                bytes.truncate(len);
                received[usize::from(bytes[2])].push(bytes);
            }
            assert!(received == *expected, "seed {seed}");
        }
    }
}

/// What arrives at `receiver` until `count` datagrams have, and in how many buffers.
fn receive_all(receiver: &mut UdpPort, count: usize) -> (Vec<Vec<u8>>, usize) {
    let mut poll = mio::Poll::new().unwrap();
    receiver.register(poll.registry(), mio::Token(0)).unwrap();
    let (mut batch, mut counters) = (ReceiveBatch::new(), SocketCounters::default());
    let (mut received, mut buffers) = (Vec::new(), 0);
    while received.len() < count {
        let mut events = mio::Events::with_capacity(1);
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "{} of {count} arrived", received.len());
        receiver.handle_readable();
        while receiver.is_readable() {
            receiver.receive(&mut batch, &mut counters);
            buffers += batch.filled();
            for index in 0..batch.filled() {
                let (_, _, datagrams) = batch.buffer(index);
                received.extend(datagrams.map(|datagram| datagram.to_vec()));
            }
        }
    }
    poll.registry().deregister(&mut receiver.socket).unwrap();
    receiver.registered = None;
    (received, buffers)
}

#[test]
fn runs_come_as_one_buffer_only_if_wanted() {
    for gro in [true, false] {
        let wanted = UdpOffload {
            gro,
            ..UdpOffload::ALL
        };
        let mut receiver = port_with(Ipv4Addr::LOCALHOST.into(), wanted);
        assert_eq!(receiver.offload(), wanted);
        let mut sender = port(Ipv4Addr::LOCALHOST.into());
        let flow = flow_to(&sender, receiver.local);
        let mut outbox = Outbox::default();
        // One that lies elsewhere closes them.
        outbox.push(flow, &[0; 90]);
        let sound = outbox.place();
        for number in 1..=5 {
            outbox.push(flow, &[number; 1200]);
            outbox.join(sound);
        }
        outbox.push(flow, &[9; 1201]);

        send_all(&mut sender, &outbox, &mut SocketCounters::default());

        let (received, buffers) = receive_all(&mut receiver, 7);
        let expected: Vec<_> = [1200; 5].into_iter().chain([90, 1201]).collect();
        assert!(received.iter().map(Vec::len).eq(expected));
        assert!(outbox.datagrams().map(|(_, bytes)| bytes).eq(&received));
        assert_eq!(buffers, if gro { 2 } else { 7 });
    }
}

#[test]
fn socket_is_asked_again_only_while_it_fills_batches() {
    let wanted = UdpOffload {
        gro: false,
        ..UdpOffload::ALL
    };
    for sent in [1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1] {
        let mut expected = vec![BATCH_SIZE; sent / BATCH_SIZE];
        expected.push(sent % BATCH_SIZE);
        let mut receiver = port_with(Ipv4Addr::LOCALHOST.into(), wanted);
        let sender = peer();
        for _ in 0..sent {
            sender.send_to(b"datagram", receiver.local).unwrap();
        }
        let (mut batch, mut counters) = (ReceiveBatch::new(), SocketCounters::default());
        let mut calls = Vec::new();
        while receiver.is_readable() {
            receiver.receive(&mut batch, &mut counters);
            calls.push(batch.filled());
        }
        assert_eq!(calls, expected, "{sent} sent");
    }
}

#[test]
fn datagrams_of_every_length_are_received_whole() {
    // What UDP over IPv4 can carry.
    const LEN_MAX: usize = 65_507;
    for wanted in [UdpOffload::ALL, UdpOffload::NONE] {
        let mut receiver = port_with(Ipv4Addr::LOCALHOST.into(), wanted);
        let sender = peer();
        let lengths = (1..1600)
            .chain((1600..LEN_MAX).step_by(997))
            .chain([LEN_MAX - 1, LEN_MAX]);
        for len in lengths {
            let bytes: Vec<u8> = (0..len).map(|at| (at ^ len) as u8).collect();
            sender.send_to(&bytes, receiver.local).unwrap();
            let (received, _) = receive_all(&mut receiver, 1);
            assert!(received == [bytes], "{len}");
        }
        // An empty one is none of ours, and stops nothing.
        sender.send_to(&[], receiver.local).unwrap();
        sender.send_to(b"next", receiver.local).unwrap();
        assert_eq!(receive_all(&mut receiver, 1).0, [b"next"]);
    }
}
