use std::net::Ipv4Addr;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use super::*;
use crate::engine::flow::FlowProtocol;

/// Workers without engines.
struct Fixture {
    workers: Vec<Handover>,
    doorbells: Vec<Arc<Doorbell>>,
    polls: Vec<Poll>,
    counters: SocketCounters,
}

impl Fixture {
    fn new(count: usize) -> Self {
        let polls: Vec<Poll> = (0..count).map(|_| Poll::new().unwrap()).collect();
        let doorbells = polls.iter().map(|poll| {
            let waker = Waker::new(poll.registry(), Token(0)).unwrap();
            Arc::new(Doorbell::new(Arc::new(waker)))
        });
        let doorbells: Vec<_> = doorbells.collect();
        Self {
            workers: Handover::among(doorbells.clone()),
            doorbells,
            polls,
            counters: SocketCounters::default(),
        }
    }

    /// Who gets media that arrives at a worker.
    fn owner(&mut self, at: usize, flow: Flow) -> Option<usize> {
        self.workers[at].owner(flow, &[0x80; 100])
    }

    /// ICE of `owner` validates a flow that arrives at another worker, which takes note.
    fn claim(&mut self, owner: usize, at: usize, flow: Flow) -> Vec<Flow> {
        self.workers[owner].handle_checked(flow, Some(at), true);
        self.given_up(at)
    }

    /// Has a worker read its notes. Returns what its engine must give up.
    fn given_up(&mut self, worker: usize) -> Vec<Flow> {
        let mut flows = Vec::new();
        self.workers[worker].take_notes(|task| match task {
            Task::GiveUp(flow) => flows.push(flow),
            Task::Adopt(_) => panic!("there is no connection"),
        });
        flows
    }

    fn is_woken(&mut self, worker: usize) -> bool {
        let mut events = Events::with_capacity(4);
        self.polls[worker]
            .poll(&mut events, Some(Duration::ZERO))
            .unwrap();
        !events.is_empty()
    }

    fn hand_over(&mut self, from: usize, to: usize, datagram: &[u8]) {
        let now = Instant::now();
        self.workers[from].send(now, to, flow(1), datagram, &mut self.counters);
    }
}

fn flow(port: u16) -> Flow {
    Flow {
        protocol: FlowProtocol::Udp,
        local: (Ipv4Addr::LOCALHOST, 7100).into(),
        remote: (Ipv4Addr::LOCALHOST, port).into(),
    }
}

/// A connectivity check for `ufrag`, which proves nothing.
fn check(ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:peer");
    let value_len = username.len().next_multiple_of(4);
    let mut bytes = vec![0x00, 0x01, 0x00, 4 + value_len as u8];
    bytes.extend(0x2112_a442_u32.to_be_bytes());
    bytes.extend([7; 12]);
    bytes.extend([0x00, 0x06, 0x00, username.len() as u8]);
    bytes.extend(username.bytes());
    bytes.resize(24 + value_len, 0);
    bytes
}

#[test]
fn checks_go_to_the_worker_that_they_name() {
    let mut fixture = Fixture::new(3);
    for (ufrag, owner) in [
        ("0000abcdefgh", Some(0)),
        ("0001abcdefgh", None),
        ("0002abcdefgh", Some(2)),
        ("0003abcdefgh", None),
        ("ffffabcdefgh", None),
        ("000", None),
        ("xyzzabcdefgh", None),
        ("", None),
        ("ääää", None),
    ] {
        let found = fixture.workers[1].owner(flow(1), &check(ufrag));
        assert_eq!(found, owner, "{ufrag}");
    }
    assert_eq!(fixture.workers[1].owner(flow(1), &[0; 3]), None);
    let mut alone = Handover::alone();
    assert_eq!(alone.owner(flow(1), &check("0002abcdefgh")), None);
}

#[test]
fn media_follows_its_claim_until_the_claim_ends() {
    let mut fixture = Fixture::new(3);
    assert_eq!(fixture.owner(0, flow(1)), None);

    assert_eq!(fixture.claim(2, 0, flow(1)), [flow(1)]);
    assert_eq!(fixture.owner(0, flow(1)), Some(2));
    assert_eq!(fixture.owner(0, flow(2)), None);

    fixture.workers[2].handle_forgotten(flow(1));
    assert_eq!(fixture.given_up(0), []);
    assert_eq!(fixture.owner(0, flow(1)), None);
    let traces = |handover: &Handover| handover.foreign.len() + handover.claims.len();
    assert_eq!(fixture.workers.iter().map(traces).sum::<usize>(), 0);
}

#[test]
fn check_that_proves_nothing_claims_nothing() {
    let mut fixture = Fixture::new(2);

    fixture.workers[1].handle_checked(flow(1), Some(0), false);

    assert_eq!(fixture.given_up(0), []);
    assert_eq!(fixture.owner(0, flow(1)), None);

    fixture.claim(1, 0, flow(2));
    fixture.workers[0].handle_checked(flow(2), None, false);
    assert_eq!(fixture.owner(0, flow(2)), Some(1));
}

#[test]
fn newer_session_on_a_third_worker_takes_the_flow() {
    let mut fixture = Fixture::new(3);
    fixture.claim(1, 0, flow(1));

    assert_eq!(fixture.claim(2, 0, flow(1)), []);

    assert_eq!(fixture.owner(0, flow(1)), Some(2));
    assert_eq!(fixture.given_up(1), [flow(1)]);
    // The former owner says that it forgot the flow: too late to matter.
    fixture.workers[1].handle_forgotten(flow(1));
    fixture.given_up(0);
    assert_eq!(fixture.owner(0, flow(1)), Some(2));
    // Its peer is still there after all.
    fixture.claim(1, 0, flow(1));
    assert_eq!(fixture.owner(0, flow(1)), Some(1));
    assert_eq!(fixture.given_up(2), [flow(1)]);
}

#[test]
fn newer_session_here_takes_the_flow_back() {
    let mut fixture = Fixture::new(2);
    fixture.claim(1, 0, flow(1));
    assert_eq!(fixture.owner(0, flow(1)), Some(1));

    fixture.workers[0].handle_checked(flow(1), None, true);

    assert_eq!(fixture.owner(0, flow(1)), None);
    assert_eq!(fixture.given_up(1), [flow(1)]);
}

#[test]
fn flow_that_arrives_elsewhere_is_claimed_there_too() {
    let mut fixture = Fixture::new(3);
    fixture.claim(2, 0, flow(1));

    fixture.claim(2, 1, flow(1));

    fixture.given_up(0);
    assert_eq!(fixture.owner(0, flow(1)), None);
    assert_eq!(fixture.owner(1, flow(1)), Some(2));
}

#[test]
fn stalled_worker_is_not_flooded_with_claims() {
    let mut fixture = Fixture::new(2);
    let claims = NOTES_WAITING_MAX as u16;
    for port in 1..=claims + 1 {
        fixture.workers[1].handle_checked(flow(port), Some(0), true);
        // Nobody is told a second time.
        fixture.workers[1].handle_checked(flow(port.min(claims)), Some(0), true);
    }
    fixture.workers[1].handle_forgotten(flow(1));
    fixture.workers[1].handle_forgotten(flow(claims + 1));

    assert_eq!(fixture.given_up(0).len(), NOTES_WAITING_MAX);
    assert_eq!(fixture.owner(0, flow(1)), None);
    assert_eq!(fixture.owner(0, flow(claims)), Some(1));
    assert_eq!(fixture.owner(0, flow(claims + 1)), None);

    fixture.claim(1, 0, flow(claims + 1));
    assert_eq!(fixture.owner(0, flow(claims + 1)), Some(1));
}

#[test]
fn only_a_sleeping_worker_is_woken_and_once() {
    let mut fixture = Fixture::new(2);
    fixture.hand_over(0, 1, b"media");
    fixture.workers[0].announce();
    assert!(!fixture.is_woken(1), "it is awake");
    assert!(fixture.workers[1].is_pending());

    assert!(
        fixture.workers[1]
            .receive(0, |_, bytes| assert_eq!(bytes, b"media"))
            .is_some()
    );
    fixture.doorbells[1].fall_asleep();
    assert!(!fixture.workers[1].is_pending());
    fixture.hand_over(0, 1, b"media");
    assert!(!fixture.is_woken(1), "the batch is not through");
    fixture.workers[0].announce();
    assert!(fixture.is_woken(1));
    fixture.workers[0].announce();
    fixture.hand_over(0, 1, b"media");
    fixture.workers[0].announce();
    assert!(!fixture.is_woken(1), "it was told already");

    fixture.doorbells[1].fall_asleep();
    fixture.workers[0].handle_checked(flow(1), Some(1), true);
    assert!(fixture.is_woken(1));
    fixture.doorbells[1].fall_asleep();
    fixture.doorbells[1].wake_up();
    fixture.hand_over(0, 1, b"media");
    fixture.workers[0].announce();
    assert!(!fixture.is_woken(1), "it woke up by itself");
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    const DATAGRAMS: u32 = 20_000;
    let mut fixture = Fixture::new(2);
    let mut receiver = fixture.workers.pop().unwrap();
    let mut sender = fixture.workers.pop().unwrap();
    let mut poll = fixture.polls.pop().unwrap();
    let doorbell = fixture.doorbells.pop().unwrap();
    let sending = std::thread::spawn(move || {
        let mut counters = SocketCounters::default();
        let mut number = 0_u32;
        while number < DATAGRAMS {
            let before = counters.handed_over;
            sender.send(
                Instant::now(),
                1,
                flow(1),
                &number.to_be_bytes(),
                &mut counters,
            );
            sender.announce();
            if counters.handed_over > before {
                number += 1;
            }
            std::hint::spin_loop();
        }
        counters
    });

    let mut events = Events::with_capacity(4);
    let mut expected = 0_u32;
    while expected < DATAGRAMS {
        doorbell.fall_asleep();
        if !receiver.is_pending() {
            let patience = Some(Duration::from_secs(10));
            poll.poll(&mut events, patience).unwrap();
            assert!(!events.is_empty(), "nobody woke the worker");
        }
        doorbell.wake_up();
        while receiver
            .receive(0, |_, bytes| assert_eq!(bytes, expected.to_be_bytes()))
            .is_some()
        {
            expected += 1;
        }
    }
    assert_eq!(sending.join().unwrap().handed_over, u64::from(DATAGRAMS));
}

#[test]
fn overflow_is_counted() {
    let mut fixture = Fixture::new(2);
    for _ in 0..500 {
        fixture.hand_over(0, 1, &[0; 1200]);
    }
    let counters = fixture.counters;
    assert_eq!(counters.handed_over + counters.handover_dropped, 500);
    assert!(counters.handed_over > 0 && counters.handover_dropped > 0);
}
