//! What needs no network; closed loops over simulated links are in `media-bench/tests/congestion.rs`.

use proptest::prelude::*;

use super::*;
use crate::rtcp::{Packet, Packets};
use crate::rtp::Ssrc;
use crate::transport_feedback::TransportFeedback;

const PATH: PathId = PathId(0);

fn kbps(kbps: u64) -> Bitrate {
    Bitrate::from_kbps(kbps)
}

/// An estimator and its receiver without anything between them.
struct Wire {
    now: Instant,
    estimator: SendEstimator,
    receiver: TransportFeedback,
    seq: u16,
}

impl Wire {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            estimator: SendEstimator::new(EstimatorConfig::default()),
            receiver: TransportFeedback::default(),
            seq: 0,
        }
    }

    fn send(&mut self, size_bytes: usize, arrives: bool) {
        let seq = Seq(self.seq);
        self.seq = self.seq.wrapping_add(1);
        let sizes = [size_bytes as u16];
        self.estimator.handle_sent(self.now, PATH, seq, &sizes);
        if arrives {
            self.receiver.handle_packet(self.now, seq);
        }
    }

    /// Sends at a rate in packets of 10 ms, with the padding that is asked for.
    fn run(&mut self, duration: Duration, rate: Bitrate, arrives: bool) {
        let end = self.now + duration;
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.estimator.handle_timeout(self.now);
            let is_due = (end - self.now).as_millis().is_multiple_of(10);
            if is_due {
                self.send((rate.0 / 800) as usize, arrives);
            }
            while let Some(size) = self.estimator.poll_padding(self.now) {
                self.send(size, arrives);
            }
            let mut out = Vec::new();
            self.receiver.poll(self.now, Ssrc(1), Ssrc(2), &mut out);
            for packet in Packets::new(&out) {
                let Packet::TransportFeedback(body) = packet.unwrap() else {
                    continue;
                };
                assert!(self.estimator.handle_feedback(self.now, PATH, body));
            }
        }
    }
}

#[test]
fn what_arrives_of_a_path_that_was_never_full_is_carried() {
    let mut wire = Wire::new();
    // Nothing is probed for.
    wire.estimator.set_demand(Bitrate(0));
    wire.run(Duration::from_millis(700), kbps(1_500), true);
    let Bitrate(estimate) = wire.estimator.bitrate();
    assert!((1_300_000..1_700_000).contains(&estimate), "{estimate}");
    let micros = wire.estimator.micros(wire.now);
    wire.estimator.decrease(micros, 100.0, 0.0);
    wire.estimator.phase = Phase::Growing;
    wire.estimator.capacity = Some(600_000.0);
    wire.estimator.set_bitrate(kbps(500));
    wire.run(Duration::from_millis(200), kbps(1_500), true);
    assert!(wire.estimator.bitrate() < kbps(700));
}

#[test]
fn what_arrives_raises_nothing_if_less_was_sent_or_it_was_a_burst() {
    let estimate = |interval_ms: u64, arrives_ms: f64, packets: u16| {
        let mut wire = Wire::new();
        wire.estimator.set_demand(Bitrate(0));
        let began_at = wire.now;
        for seq in 0..packets {
            let sent_at = began_at + Duration::from_millis(interval_ms * u64::from(seq));
            let sizes = [1_000];
            wire.estimator.handle_sent(sent_at, PATH, Seq(seq), &sizes);
            let after = arrives_ms * f64::from(seq);
            let arrives_at = began_at + Duration::from_secs_f64(after / 1_000.0);
            wire.receiver.handle_packet(arrives_at, Seq(seq));
            wire.now = sent_at;
        }
        wire.run(Duration::from_millis(150), Bitrate(0), false);
        wire.estimator.bitrate()
    };
    // A receiver claims that what was sent in a second came within 330 ms; 20 kB came within 60 ms.
    assert!(estimate(40, 13.0, 25) < kbps(350));
    assert!(estimate(3, 3.0, 20) < kbps(350));
    assert!(estimate(4, 4.0, 100) > kbps(1_500), "what is believed");
}

#[test]
fn remb_is_the_estimate_where_no_feedback_comes_and_a_bound_where_it_does() {
    let mut wire = Wire::new();
    assert_eq!(wire.estimator.bitrate(), kbps(300));
    wire.estimator.handle_remb(kbps(900));
    assert_eq!(wire.estimator.bitrate(), kbps(900));
    wire.estimator.handle_remb(Bitrate(0));
    assert_eq!(wire.estimator.bitrate(), EstimatorConfig::default().min);
    wire.estimator.handle_remb(kbps(500));
    wire.run(Duration::from_secs(5), kbps(400), true);
    assert_eq!(wire.estimator.bitrate(), kbps(500));
}

#[test]
fn probes_find_what_is_wanted_and_no_more() {
    let mut wire = Wire::new();
    wire.estimator.set_demand(kbps(2_000));
    wire.run(Duration::from_secs(5), kbps(100), true);
    let Bitrate(found) = wire.estimator.bitrate();
    assert!((1_950_000..2_300_000).contains(&found), "{found}");
    let probes = wire.estimator.stats().probes;
    wire.run(Duration::from_secs(20), kbps(100), true);
    assert_eq!(wire.estimator.stats().probes, probes, "nothing is missing");
    assert_eq!(wire.estimator.bitrate(), Bitrate(found));
}

#[test]
fn what_is_not_used_does_not_grow() {
    let mut wire = Wire::new();
    wire.estimator.set_demand(Bitrate(0));
    wire.run(Duration::from_secs(30), kbps(100), true);
    assert_eq!(wire.estimator.bitrate(), kbps(300));
}

#[test]
fn silence_brings_the_rate_down() {
    let mut wire = Wire::new();
    wire.run(Duration::from_secs(3), kbps(300), true);
    let before = wire.estimator.bitrate();
    wire.run(Duration::from_millis(400), kbps(300), false);
    assert_eq!(wire.estimator.bitrate(), before);
    wire.run(Duration::from_secs(10), kbps(300), false);
    assert!(wire.estimator.bitrate() < before.scaled(0.1));
    // A sender that sends nothing has nothing to hear.
    let mut idle = Wire::new();
    idle.run(Duration::from_secs(3), kbps(300), true);
    let before = idle.estimator.bitrate();
    idle.run(Duration::from_millis(200), Bitrate(0), true);
    assert!(idle.estimator.bitrate() >= before);
}

#[test]
fn paths_beyond_the_limit_are_left_out() {
    let now = Instant::now();
    let mut estimator = SendEstimator::new(EstimatorConfig::default());
    estimator.handle_sent(now, PathId(PATHS_MAX as u8), Seq(0), &[100]);
    assert_eq!(estimator.in_flight_bytes(), 0);
    assert!(estimator.handle_feedback(now, PathId(u8::MAX), &[0; 8]));
}

/// One of 300 kbit/s that has found this capacity and now gets this result of a probe.
fn take_in(estimator: &mut SendEstimator, kbit: u64, is_full: bool) {
    let rate = kbps(kbit);
    estimator.take_in_result(5_000_000, ProbeResult { rate, is_full });
}

#[test]
fn result_beyond_all_experience_is_found_twice_before_it_is_used() {
    /// What it finds, and whether the path is full then, with the estimate afterwards, all in kbit/s.
    type Found = (u64, bool, u64);
    // (capacity known, results)
    let rows: &[(Option<f64>, &[Found])] = &[
        // Nothing is known that it could contradict.
        (None, &[(2_000, false, 2_000)]),
        (Some(400.0), &[(480, false, 480)]),
        (Some(400.0), &[(481, false, 300), (481, false, 481)]),
        // No more than was found both times.
        (Some(400.0), &[(900, false, 300), (600, false, 600)]),
        (Some(400.0), &[(600, false, 300), (900, false, 600)]),
        // What was confirmed is experience.
        (
            Some(400.0),
            &[(600, false, 300), (600, false, 600), (1_200, false, 1_200)],
        ),
        // The next one says otherwise, and the one after that has to be confirmed again.
        (
            Some(900.0),
            &[
                (1_200, false, 300),
                (800, false, 800),
                (1_200, false, 800),
                (1_300, false, 1_200),
            ],
        ),
        // A full path cannot be mistaken for a faster one.
        (Some(400.0), &[(900, true, 900)]),
        (
            Some(400.0),
            &[(900, false, 300), (600, true, 600), (900, false, 600)],
        ),
        // Less than the estimate changes nothing.
        (Some(200.0), &[(250, false, 300), (250, false, 300)]),
    ];
    for (capacity, results) in rows {
        let mut estimator = SendEstimator::new(EstimatorConfig::default());
        estimator.capacity = capacity.map(|kbit| 1_000.0 * kbit);
        for (index, (found, is_full, expected)) in results.iter().enumerate() {
            take_in(&mut estimator, *found, *is_full);
            let estimate = estimator.bitrate();
            assert_eq!(
                estimate,
                kbps(*expected),
                "{capacity:?} {results:?} at {index}"
            );
        }
    }
}

#[test]
fn doubtful_result_is_confirmed_at_once_and_another_waits() {
    let mut estimator = SendEstimator::new(EstimatorConfig::default());
    estimator.capacity = Some(400_000.0);
    take_in(&mut estimator, 900, false);
    assert_eq!(estimator.probe_due, 5_000_000);
    take_in(&mut estimator, 250, false);
    assert_eq!(estimator.probe_due, 5_000_000 + PROBE_INTERVAL);
}

#[test]
fn doubtful_result_is_forgotten_with_the_path_that_it_was_measured_on() {
    type Change = fn(&mut Wire);
    let changes: &[(&str, Change)] = &[
        ("decrease", |wire| {
            let micros = wire.estimator.micros(wire.now);
            wire.estimator.decrease(micros, 100.0, 0.0);
        }),
        ("expiry", |wire| {
            let micros = wire.estimator.micros(wire.now);
            wire.estimator.prober.begin(micros, kbps(900));
            // Before the path counts as silent.
            wire.now += Duration::from_millis(301);
            wire.estimator.handle_timeout(wire.now);
        }),
        ("silence", |wire| {
            wire.run(Duration::from_secs(3), kbps(200), false);
        }),
        ("lost probe", |wire| {
            let micros = wire.estimator.micros(wire.now);
            wire.estimator.prober.begin(micros, kbps(900));
            for _ in 0..40 {
                wire.now += Duration::from_millis(1);
                wire.send(100, false);
            }
            wire.run(Duration::from_millis(200), kbps(200), true);
        }),
    ];
    for (name, change) in changes {
        let mut wire = Wire::new();
        wire.estimator.set_demand(Bitrate(0));
        wire.run(Duration::from_secs(2), kbps(200), true);
        wire.estimator.capacity = Some(400_000.0);
        take_in(&mut wire.estimator, 900, false);
        assert_eq!(wire.estimator.doubted, Some(kbps(900)));
        change(&mut wire);
        assert_eq!(wire.estimator.doubted, None, "{name}");
    }
}

#[test]
fn probe_that_is_lost_is_not_followed_by_the_next_at_once() {
    let mut wire = Wire::new();
    wire.estimator.set_demand(Bitrate(0));
    wire.run(Duration::from_secs(2), kbps(200), true);
    let micros = wire.estimator.micros(wire.now);
    wire.estimator.prober.begin(micros, kbps(900));
    for _ in 0..40 {
        wire.now += Duration::from_millis(1);
        wire.send(100, false);
    }
    assert!(wire.estimator.prober.is_busy());
    wire.run(Duration::from_millis(200), kbps(200), true);
    assert!(!wire.estimator.prober.is_busy());
    assert!(wire.estimator.probe_due > micros + PROBE_INTERVAL);
}

proptest! {
    #[test]
    fn hostile_feedback_keeps_the_estimate_in_its_bounds(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 8..40), 0..40),
        gaps in proptest::collection::vec(0u64..3000, 40),
    ) {
        let mut now = Instant::now();
        let mut estimator = SendEstimator::new(EstimatorConfig::default());
        let EstimatorConfig { min, max, .. } = EstimatorConfig::default();
        let mut seq = 0u16;
        for (mut body, gap) in bodies.into_iter().zip(gaps) {
            for _ in 0..10 {
                now += Duration::from_millis(gap / 10);
                estimator.handle_sent(now, PATH, Seq(seq), &[1000]);
                seq = seq.wrapping_add(1);
            }
            // About packets that were sent, so that it is believed.
            body[..2].copy_from_slice(&seq.wrapping_sub(10).to_be_bytes());
            body[2] = 0;
            body[3] %= 32;
            estimator.handle_feedback(now, PATH, &body);
            estimator.handle_timeout(now);
            estimator.poll_padding(now);
            prop_assert!((min..=max).contains(&estimator.bitrate()));
        }
    }
}
