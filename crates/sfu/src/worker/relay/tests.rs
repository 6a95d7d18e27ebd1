use mio::{Events, Poll, Token, Waker};

use super::*;
use crate::engine::relay::samples::{controls, message, name, number, packet, subscribed_again};

/// Workers without engines.
struct Fixture {
    workers: Vec<Relay>,
    doorbells: Vec<Arc<Doorbell>>,
    polls: Vec<Poll>,
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
            workers: Relay::among(&doorbells),
            doorbells,
            polls,
        }
    }

    /// Sends from the first worker to the second.
    fn packet(&mut self, number: u64) -> bool {
        let payload = &payload(number);
        let head = packet(number);
        let parcel = Parcel::Packet { head, payload };
        self.workers[0].send(Instant::now(), 1, parcel)
    }

    fn control(&mut self, control: Control) -> bool {
        self.workers[0].send(Instant::now(), 1, Parcel::Control(control))
    }

    /// Has the second worker take at most so many parcels, and names them.
    fn take(&mut self, parcels_max: usize) -> Vec<String> {
        let mut taken = Vec::new();
        for _ in 0..parcels_max {
            let received = self.workers[1].receive(0, |parcel| {
                taken.push(match parcel {
                    Parcel::Packet {
                        head,
                        payload: bytes,
                    } => {
                        assert_eq!(bytes, payload(number(&head)));
                        number(&head).to_string()
                    }
                    Parcel::Control(control) => name(&control),
                });
            });
            if received.is_none() {
                break;
            }
        }
        taken
    }

    /// Sends packets from a number on until there is no room. Returns how many were taken.
    fn fill(&mut self, from: u64) -> u64 {
        (from..).take_while(|number| self.packet(*number)).count() as u64
    }

    fn is_woken(&mut self, worker: usize) -> bool {
        let mut events = Events::with_capacity(4);
        self.polls[worker]
            .poll(&mut events, Some(Duration::ZERO))
            .unwrap();
        !events.is_empty()
    }
}

fn payload(number: u64) -> Vec<u8> {
    vec![number as u8; number as usize % 1200]
}

#[test]
fn parcels_arrive_in_order() {
    let mut fixture = Fixture::new(2);
    let [subscribed, limited, ..] = controls(7);
    assert!(fixture.packet(1));
    assert!(fixture.control(subscribed));
    assert!(fixture.packet(2));
    assert!(fixture.control(limited));
    assert!(fixture.packet(3));
    let taken = fixture.take(10);
    assert_eq!(taken, ["1", "subscribed 7", "2", "limited 7", "3"]);
    assert!(!fixture.workers[1].is_pending());
    assert!(fixture.workers[1].receive(1, |_| {}).is_none());
    assert!(!Relay::alone().send(Instant::now(), 0, Parcel::Control(message(1))));
}

#[test]
fn worker_that_lags_behind_misses_packets_in_a_row() {
    let mut fixture = Fixture::new(2);
    let taken = fixture.fill(1);
    assert!(taken > 500);
    let some = taken as usize / 4;
    assert_eq!(fixture.take(some).len(), some);
    assert!(!fixture.packet(1), "it is not half empty");
    fixture.take(some * 2);
    assert!(fixture.packet(5000));
    assert_eq!(fixture.take(usize::MAX).last().unwrap(), "5000");
}

#[test]
fn what_must_not_be_lost_waits_and_is_not_overtaken() {
    let mut fixture = Fixture::new(2);
    let taken = fixture.fill(1) as usize;
    for mirror in 1..=3 {
        let [subscribed, limited, _, unsubscribed] = controls(mirror);
        let [_, other_limit, ..] = controls(mirror);
        let last = if mirror == 2 {
            unsubscribed
        } else {
            other_limit
        };
        for control in [subscribed, limited, last] {
            assert!(fixture.control(control));
        }
    }
    assert!(!fixture.packet(1));
    assert_eq!(fixture.workers[0].retry_interval(), Some(RETRY_INTERVAL));

    assert_eq!(fixture.take(usize::MAX).len(), taken);
    assert!(fixture.packet(5000));
    assert_eq!(fixture.workers[0].retry_interval(), None);
    let expected = [
        "subscribed 1",
        "limited 1",
        "subscribed 3",
        "limited 3",
        "5000",
    ];
    assert_eq!(fixture.take(usize::MAX), expected);
}

#[test]
fn backlog_goes_out_without_being_pushed_and_wakes_the_other() {
    let mut fixture = Fixture::new(2);
    fixture.fill(1);
    let [subscribed, ..] = controls(1);
    fixture.control(subscribed);
    fixture.workers[0].announce();
    fixture.take(usize::MAX);
    fixture.doorbells[1].fall_asleep();
    assert!(!fixture.workers[1].is_pending());

    fixture.workers[0].retry(Instant::now());
    fixture.workers[0].announce();

    assert!(fixture.is_woken(1));
    assert_eq!(fixture.take(usize::MAX), ["subscribed 1"]);
    assert_eq!(fixture.workers[0].retry_interval(), None);
}

#[test]
fn messages_under_way_are_bounded_by_their_bytes() {
    const LEN: usize = 256 * 1024;
    const MANY: usize = MESSAGE_BYTES_MAX / (LEN + MESSAGE_OVERHEAD_BYTES);
    let mut fixture = Fixture::new(2);
    for _ in 0..3 {
        let sent = (0..100).take_while(|_| fixture.control(message(LEN)));
        assert_eq!(sent.count(), MANY);
        assert!(fixture.packet(1), "media has room");
        assert_eq!(fixture.take(usize::MAX).len(), MANY + 1);
    }
}

#[test]
fn messages_wait_while_there_is_room_for_them_and_are_not_overtaken() {
    const MANY: usize = MESSAGE_BYTES_MAX / MESSAGE_OVERHEAD_BYTES;
    let mut fixture = Fixture::new(2);
    for _ in 0..2 {
        fixture.fill(1);
        let waiting = (0..).take_while(|_| fixture.control(message(0)));
        assert_eq!(waiting.count(), MANY);
        fixture.take(usize::MAX);
        let mut taken = Vec::new();
        for _ in 0..1000 {
            fixture.workers[0].retry(Instant::now());
            if fixture.packet(7000) {
                break;
            }
            taken.extend(fixture.take(usize::MAX));
        }
        taken.extend(fixture.take(usize::MAX));
        assert_eq!(taken.len(), MANY + 1);
        assert_eq!(taken.pop().as_deref(), Some("7000"));
        assert!(taken.iter().all(|name| name == "message 1"));
    }
}

#[test]
fn what_is_said_again_neither_moves_nor_begins_anything() {
    let cases: [(Vec<usize>, &[&str]); 6] = [
        (vec![0, 1, 4], &["subscribed 9", "limited 9"]),
        (vec![0, 1, 4, 1], &["subscribed 9", "limited 9"]),
        (vec![0, 4, 3], &[]),
        (vec![1, 4], &["limited 9", "subscribed 9"]),
        // The other engine may know of it already.
        (vec![4, 1, 3], &["unsubscribed 9"]),
        (vec![2, 2, 4], &["described 9", "subscribed 9"]),
    ];
    for (said, expected) in cases {
        let mut fixture = Fixture::new(2);
        fixture.fill(1);
        for index in said {
            let again = subscribed_again(9);
            let control = controls(9).into_iter().chain([again]).nth(index);
            assert!(fixture.control(control.unwrap()));
        }
        fixture.take(usize::MAX);
        fixture.workers[0].retry(Instant::now());
        assert_eq!(fixture.take(usize::MAX), expected);
    }
}

#[test]
fn backlog_of_many_mirrors_takes_its_time_once_for_each() {
    const MIRRORS: u64 = 50_000;
    let mut fixture = Fixture::new(2);
    fixture.fill(1);
    for _ in 0..3 {
        for mirror in 0..MIRRORS {
            let [_, limited, ..] = controls(mirror);
            assert!(fixture.control(limited));
        }
    }
    let mut backlog = std::mem::take(&mut outlet(&mut fixture).backlog);
    let mut count = 0;
    let is_through = backlog.drain(|_| {
        count += 1;
        Ok(())
    });
    assert!(is_through && backlog.is_empty());
    assert_eq!(count, MIRRORS);
}

fn outlet(fixture: &mut Fixture) -> &mut Outlet {
    fixture.workers[0].outlets[1].as_mut().unwrap()
}

#[test]
fn only_a_sleeping_worker_is_woken_and_once() {
    let mut fixture = Fixture::new(3);
    fixture.packet(1);
    fixture.workers[0].announce();
    assert!(!fixture.is_woken(1), "it is awake");
    fixture.take(usize::MAX);
    for worker in [1, 2] {
        fixture.doorbells[worker].fall_asleep();
    }
    fixture.packet(2);
    assert!(!fixture.is_woken(1), "the batch is not through");
    fixture.workers[0].announce();
    assert!(fixture.is_woken(1) && !fixture.is_woken(2));
    fixture.packet(3);
    fixture.workers[0].announce();
    assert!(!fixture.is_woken(1), "it was told already");
}
