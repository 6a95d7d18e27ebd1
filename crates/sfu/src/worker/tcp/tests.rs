use std::net::{Ipv4Addr, Shutdown, TcpStream as Peer};

use mio::{Events, Poll};

use super::*;

const FIRST_TOKEN: usize = 10;

/// Limit of waiting for the kernel; nothing takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// TCP flows whose engine keeps what it gets and answers on demand.
struct Fixture {
    poll: Poll,
    flows: TcpFlows,
    counters: SocketCounters,
    address: SocketAddr,
    now: Instant,
    received: Vec<(Flow, Vec<u8>)>,
}

impl Fixture {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let flows = TcpFlows::new(vec![listener], poll.registry(), FIRST_TOKEN).unwrap();
        Self {
            poll,
            flows,
            counters: SocketCounters::default(),
            address,
            now: Instant::now(),
            received: Vec::new(),
        }
    }

    /// Connects a peer and waits until it has been admitted or rejected.
    fn connect(&mut self) -> Peer {
        let before = self.counters.tcp_accepted + self.counters.tcp_rejected;
        let peer = Peer::connect(self.address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        self.run_until(|this| this.counters.tcp_accepted + this.counters.tcp_rejected > before);
        peer
    }

    /// Runs turns of the loop until `done`.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(64);
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "nothing happened: {:?}",
                self.counters
            );
            let timeout = if self.flows.is_ready() {
                Duration::ZERO
            } else {
                PATIENCE
            };
            self.poll.poll(&mut events, Some(timeout)).unwrap();
            for event in &events {
                self.flows.handle_ready(
                    self.now,
                    event.token(),
                    FIRST_TOKEN,
                    event.is_readable(),
                    event.is_writable(),
                    &mut self.counters,
                );
            }
        }
    }

    fn turn(&mut self) {
        let (registry, counters) = (self.poll.registry(), &mut self.counters);
        self.flows.accept(self.now, registry, counters);
        let received = &mut self.received;
        for _ in 0..self.flows.readable() {
            self.flows.receive(self.now, counters, |flow, frame| {
                received.push((flow, frame.to_vec()));
            });
        }
        self.flows.flush(self.now, counters);
    }

    fn wait_for_frames(&mut self, count: usize) {
        self.run_until(|this| this.received.len() >= count);
    }

    fn answer(&mut self, flow: Flow, frame: &[u8]) {
        self.flows.send(&flow, frame, &mut self.counters);
        self.flows.flush(self.now, &mut self.counters);
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.flows.handle_timeout(self.now, &mut self.counters);
    }

    fn open(&self) -> u64 {
        self.counters.tcp_connections
    }
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    bytes
}

fn stun_request() -> Vec<u8> {
    let mut request = vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42];
    request.resize(20, 7);
    request
}

fn read_frame(peer: &mut Peer) -> Vec<u8> {
    let mut len = [0; 2];
    peer.read_exact(&mut len).unwrap();
    let mut frame = vec![0; usize::from(u16::from_be_bytes(len))];
    peer.read_exact(&mut frame).unwrap();
    frame
}

fn is_closed(peer: &mut Peer) -> bool {
    // Closing with unread bytes resets the connection.
    matches!(peer.read(&mut [0; 1]), Ok(0))
        || peer
            .read(&mut [0; 1])
            .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

#[test]
fn frames_travel_both_ways() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();
    let mut bytes = framed(&stun_request());
    bytes.extend(framed(b"media"));

    peer.write_all(&bytes).unwrap();
    fixture.wait_for_frames(2);
    let (flow, frame) = fixture.received[1].clone();
    fixture.answer(flow, b"answer");

    assert_eq!(frame, b"media");
    assert_eq!(flow.local, fixture.address);
    assert_eq!(flow.remote, peer.local_addr().unwrap());
    assert_eq!(read_frame(&mut peer), b"answer");
}

#[test]
fn stalled_connection_is_closed_before_its_first_frame() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();

    fixture.advance(FIRST_FRAME_TIMEOUT);
    assert_eq!(fixture.open(), 1);
    fixture.advance(SWEEP_INTERVAL);

    assert_eq!(fixture.open(), 0);
    assert!(is_closed(&mut peer));
    assert!(fixture.flows.poll_closed().is_some());
    assert_eq!(fixture.flows.poll_timeout(), None);
}

#[test]
fn trickled_bytes_do_not_prolong_a_connection() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();
    for byte in framed(&stun_request()).into_iter().take(6) {
        peer.write_all(&[byte]).unwrap();
        fixture.turn();
        fixture.advance(SWEEP_INTERVAL);
    }

    assert_eq!(fixture.open(), 0);
    assert!(fixture.received.is_empty());
}

#[test]
fn first_frame_must_be_stun() {
    for first in [
        &b"GET / HTTP/1.1\r\n"[..],
        &framed(&[0x80; 40]),
        &framed(&stun_request()[..19]),
    ] {
        let mut fixture = Fixture::new();
        let mut peer = fixture.connect();

        peer.write_all(first).unwrap();
        peer.write_all(&[0; 2000]).unwrap();
        fixture.run_until(|this| this.open() == 0);

        assert!(fixture.received.is_empty());
        assert_eq!(fixture.counters.tcp_expelled, 1);
    }
}

#[test]
fn peer_that_is_never_answered_is_closed_however_much_it_sends() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();
    for sent in 1..=16 {
        peer.write_all(&framed(&stun_request())).unwrap();
        fixture.wait_for_frames(sent);
        fixture.advance(SWEEP_INTERVAL);
    }

    assert_eq!(fixture.open(), 0);
}

#[test]
fn answered_peer_stays_while_it_sends_and_goes_when_it_is_silent() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();
    for sent in 1..=10 {
        peer.write_all(&framed(&stun_request())).unwrap();
        fixture.wait_for_frames(sent);
        fixture.answer(fixture.received[0].0, b"answer");
        fixture.advance(IDLE_TIMEOUT - SWEEP_INTERVAL);
        assert_eq!(fixture.open(), 1);
    }

    fixture.advance(2 * SWEEP_INTERVAL);

    assert_eq!(fixture.open(), 0);
}

#[test]
fn end_of_a_connection_is_reported() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();
    peer.write_all(&framed(&stun_request())).unwrap();
    fixture.wait_for_frames(1);
    let flow = fixture.received[0].0;

    peer.shutdown(Shutdown::Both).unwrap();
    fixture.run_until(|this| this.open() == 0);

    assert_eq!(fixture.flows.poll_closed(), Some(flow));
    assert_eq!(fixture.flows.poll_closed(), None);
    assert_eq!(fixture.counters.tcp_expelled, 0);
    fixture.answer(flow, b"late");
    assert_eq!(fixture.counters.tcp_dropped, 1);
}

#[test]
fn one_source_gets_a_share_of_the_connections() {
    let mut fixture = Fixture::new();
    fixture.flows.limits.per_source = 3;

    let mut peers: Vec<Peer> = (0..4).map(|_| fixture.connect()).collect();

    assert_eq!((fixture.open(), fixture.counters.tcp_rejected), (3, 1));
    assert!(is_closed(&mut peers[3]));

    peers.clear();
    fixture.run_until(|this| this.open() == 0);
    fixture.connect();
    assert_eq!(fixture.open(), 1);
}

#[test]
fn stranger_makes_room_but_an_answered_peer_does_not() {
    let mut fixture = Fixture::new();
    fixture.flows.limits.total = 2;
    let mut known = fixture.connect();
    known.write_all(&framed(&stun_request())).unwrap();
    fixture.wait_for_frames(1);
    fixture.answer(fixture.received[0].0, b"answer");
    let mut stranger = fixture.connect();

    let mut late = fixture.connect();

    assert!(is_closed(&mut stranger));
    late.write_all(&framed(&stun_request())).unwrap();
    fixture.wait_for_frames(2);
    fixture.answer(fixture.received[1].0, b"answer");
    let mut refused = fixture.connect();
    assert!(is_closed(&mut refused));
    assert_eq!(read_frame(&mut known), b"answer");
    assert_eq!(read_frame(&mut late), b"answer");
}

#[test]
fn slow_reader_loses_whole_frames_and_is_closed_if_it_never_reads() {
    let mut fixture = Fixture::new();
    let mut peer = fixture.connect();
    peer.write_all(&framed(&stun_request())).unwrap();
    fixture.wait_for_frames(1);
    let flow = fixture.received[0].0;
    while fixture.counters.tcp_dropped == 0 {
        let number = fixture.counters.tcp_sent.to_be_bytes().repeat(150);
        fixture.answer(flow, &number);
    }
    let queued = fixture.counters.tcp_sent;

    let reader = std::thread::spawn(move || {
        for number in 0..queued {
            assert_eq!(read_frame(&mut peer), number.to_be_bytes().repeat(150));
        }
        peer
    });
    fixture.run_until(|this| {
        this.flows
            .connections
            .values()
            .all(|connection| connection.writer.pending().is_empty())
    });
    let _peer = reader.join().unwrap();

    while fixture.counters.tcp_dropped < 2 {
        fixture.answer(flow, &[0; 1200]);
    }
    fixture.advance(STALL_TIMEOUT + SWEEP_INTERVAL);
    assert_eq!(fixture.open(), 0);
}

#[test]
fn ipv6_source_is_its_network() {
    let check = |a: &str, b: &str, same: bool| {
        let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(source(a) == source(b), same, "{a} {b}");
    };
    check("2001:db8:1:2::3", "2001:db8:1:2:ffff::9", true);
    check("2001:db8:1:2::3", "2001:db8:1:3::3", false);
    check("10.0.0.1", "10.0.0.2", false);
}
