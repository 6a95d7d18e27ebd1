//! Keeping the deadlines of transports: the engine's timer wheel, and a sorted set for comparison, each beside the
//! least there is to do.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sfu::engine::timers::Timers;

use super::beside::Table;

/// Transports of a worker.
const TRANSPORTS: [usize; 3] = [100, 1_000, 10_000];

/// How far ahead deadlines lie, as feedback and reports do.
const AHEAD: Duration = Duration::from_secs(1);

/// Moves and distances drawn beforehand.
const DRAWS: usize = 1 << 14;

pub(super) fn run(criterion: &mut Criterion, table: &mut Table) {
    let mut group = criterion.benchmark_group("timers");
    for transports in TRANSPORTS {
        let draws = draw(transports);
        let origin = Instant::now();

        let (mut wheel, mut set) = (Bed::new(Timers::new(origin)), Bed::new(Sorted::default()));
        wheel.fill(origin, transports, &draws);
        set.fill(origin, transports, &draws);
        let mut plain = vec![origin; transports];
        let (mut wheel_at, mut set_at, mut plain_at) = (0, 0, 0);
        let mut move_wheel = || wheel.move_one(origin, next(&draws, &mut wheel_at));
        group.bench_function(BenchmarkId::new("move", transports), |bencher| {
            bencher.iter(&mut move_wheel);
        });
        let mut move_plain = || {
            let (transport, ahead) = next(&draws, &mut plain_at);
            plain[transport] = black_box(origin + ahead);
        };
        let name = format!("timers/move, {transports}");
        table.measure(&name, "a store", &mut move_wheel, &mut move_plain);
        let name = format!("timers/move, {transports}, sorted set");
        let mut move_set = || set.move_one(origin, next(&draws, &mut set_at));
        table.measure(&name, "a store", &mut move_set, &mut move_plain);

        let (mut wheel, mut set) = (Bed::new(Timers::new(origin)), Bed::new(Sorted::default()));
        wheel.fill(origin, transports, &draws);
        set.fill(origin, transports, &draws);
        let (mut wheel_at, mut set_at) = (0, 0);
        let mut serve_wheel = || wheel.serve_one(&draws, &mut wheel_at);
        group.bench_function(BenchmarkId::new("serve", transports), |bencher| {
            bencher.iter(&mut serve_wheel);
        });
        let name = format!("timers/serve, {transports}");
        table.measure(&name, "a store", &mut serve_wheel, &mut move_plain);
        let name = format!("timers/serve, {transports}, sorted set");
        let mut serve_set = || set.serve_one(&draws, &mut set_at);
        table.measure(&name, "a store", &mut serve_set, &mut move_plain);
    }
    group.finish();
}

/// A transport, and how far ahead its deadline lies.
type Draw = (usize, Duration);

fn draw(transports: usize) -> Vec<Draw> {
    let mut random = SmallRng::seed_from_u64(1);
    let draws = (0..DRAWS).map(|_| {
        let ahead = random.random_range(Duration::from_millis(1)..AHEAD);
        (random.random_range(0..transports), ahead)
    });
    draws.collect()
}

fn next(draws: &[Draw], at: &mut usize) -> Draw {
    *at = (*at + 1) % draws.len();
    draws[*at]
}

/// What keeps deadlines.
trait Deadlines {
    fn arm(&mut self, transport: usize, armed: &mut Option<Instant>, deadline: Instant);
    fn next(&self) -> Option<Instant>;
    fn pop(&mut self, now: Instant) -> Option<usize>;
}

impl Deadlines for Timers {
    fn arm(&mut self, transport: usize, armed: &mut Option<Instant>, deadline: Instant) {
        self.arm(transport, armed, Some(deadline));
    }

    fn next(&self) -> Option<Instant> {
        self.next()
    }

    fn pop(&mut self, now: Instant) -> Option<usize> {
        self.pop(now)
    }
}

/// The other way to do it.
#[derive(Default)]
struct Sorted(BTreeSet<(Instant, usize)>);

impl Deadlines for Sorted {
    fn arm(&mut self, transport: usize, armed: &mut Option<Instant>, deadline: Instant) {
        if let Some(at) = armed.replace(deadline) {
            self.0.remove(&(at, transport));
        }
        self.0.insert((deadline, transport));
    }

    fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    fn pop(&mut self, now: Instant) -> Option<usize> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_first().map(|(_, transport)| transport)
    }
}

/// Deadlines and the transports' notes of them.
struct Bed<D> {
    deadlines: D,
    notes: Vec<Option<Instant>>,
}

impl<D: Deadlines> Bed<D> {
    fn new(deadlines: D) -> Self {
        Self {
            deadlines,
            notes: Vec::new(),
        }
    }

    fn fill(&mut self, origin: Instant, transports: usize, draws: &[Draw]) {
        self.notes = vec![None; transports];
        for transport in 0..transports {
            let (_, ahead) = draws[transport % draws.len()];
            self.move_one(origin, (transport, ahead));
        }
    }

    /// As when a packet brings a deadline forward.
    fn move_one(&mut self, origin: Instant, (transport, ahead): Draw) {
        let note = &mut self.notes[transport];
        self.deadlines.arm(transport, note, origin + ahead);
    }

    /// As when a worker wakes up for the next deadline, and sets another.
    fn serve_one(&mut self, draws: &[Draw], at: &mut usize) {
        let now = self.deadlines.next().expect("all have a deadline");
        while let Some(transport) = self.deadlines.pop(now) {
            self.notes[transport] = None;
            let (_, ahead) = next(draws, at);
            self.move_one(now, (transport, ahead));
        }
    }
}
