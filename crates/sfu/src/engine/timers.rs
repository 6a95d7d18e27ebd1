//! Deadlines of transports: a timer wheel.
//!
//! A transport has one deadline: the earliest of its ICE, DTLS, SCTP, RTCP and media ones. [`Timers`] hangs it into the
//! list of the tick that it falls into; whatever happens to it costs the same among ten transports and ten thousand, and
//! nothing is allocated for it. Deadlines are kept exactly: ticks only say where to look. What lies further
//! ahead than the wheel reaches hangs in its last tick, and again when that comes.
//! Deliberately absent: an order among deadlines of one tick.

use std::time::{Duration, Instant};

/// Logarithm of a tick's nanoseconds: 1.05 ms. Too low: the wheel reaches less far. Too high: much hangs in one tick, and
/// is looked at again before it is due.
const TICK_BITS: u32 = 20;

/// Ticks that the wheel reaches ahead, a little more than the second between reports. Too low: distant deadlines
/// are hung up again and again. Too high: memory, 16 bytes each.
const TICKS: usize = 1024;

/// The list of those who are due, behind the lists of the ticks.
const DUE: u32 = TICKS as u32;

/// No transport, no list.
const NONE: u32 = u32::MAX;

/// The deadline of every transport that has one.
#[derive(Debug)]
pub struct Timers {
    /// Nanoseconds are counted from here; what is earlier is due as if it were here.
    origin: Instant,
    /// By transport.
    hooks: Vec<Hook>,
    /// By the last bits of the tick; then [`DUE`].
    lists: Box<[List]>,
    /// A bit for each list of a tick: something hangs there.
    occupied: [u64; TICKS / 64],
    /// The tick of the latest time we heard of: everything before it is due.
    tick: u64,
}

/// One transport.
#[derive(Clone, Copy, Debug)]
struct Hook {
    at_ns: u64,
    previous: u32,
    next: u32,
    /// Where it hangs.
    list: u32,
}

/// Transports that hang one below the other.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    /// Nothing here needs attention before.
    earliest_ns: u64,
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        earliest_ns: u64::MAX,
    };
}

impl Timers {
    /// No deadlines yet, and none to come before `origin`.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            hooks: Vec::new(),
            lists: vec![List::EMPTY; TICKS + 1].into_boxed_slice(),
            occupied: [0; TICKS / 64],
            tick: 0,
        }
    }

    /// Moves the deadline of a transport, which is known by a small number; `armed` is the transport's own note of it.
    pub fn arm(
        &mut self,
        transport: usize,
        armed: &mut Option<Instant>,
        deadline: Option<Instant>,
    ) {
        if *armed == deadline {
            return;
        }
        *armed = deadline;
        if transport >= self.hooks.len() {
            let free = Hook {
                at_ns: 0,
                previous: NONE,
                next: NONE,
                list: NONE,
            };
            self.hooks.resize(transport + 1, free);
        }
        self.unhook(transport as u32);
        if let Some(at) = deadline {
            self.hooks[transport].at_ns = self.nanoseconds(at);
            self.place(transport as u32);
        }
    }

    /// When [`Self::pop`] should be called: not after the earliest deadline. It may be before it by less than a tick
    /// if that has been moved, and by more if it is distant.
    pub fn next(&self) -> Option<Instant> {
        let due = self.lists[DUE as usize].first;
        let at_ns = if due == NONE {
            let tick = self.occupied_from(self.tick)?;
            self.lists[tick as usize % TICKS].earliest_ns
        } else {
            self.hooks[due as usize].at_ns
        };
        Some(self.origin + Duration::from_nanos(at_ns))
    }

    /// Takes a transport whose deadline has come. Its note must be cleared by the caller.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        if self.lists[DUE as usize].first == NONE {
            self.turn(self.nanoseconds(now));
        }
        let transport = self.lists[DUE as usize].first;
        if transport == NONE {
            return None;
        }
        self.unhook(transport);
        Some(transport as usize)
    }

    /// Goes on to `now_ns`, collecting who is due.
    fn turn(&mut self, now_ns: u64) {
        let from = self.tick;
        self.tick = from.max(now_ns >> TICK_BITS);
        let last = self.tick.min(from + TICKS as u64 - 1);
        let mut tick = from;
        while let Some(found) = self.occupied_from(tick)
            && found <= last
        {
            self.collect(found as usize % TICKS, now_ns);
            tick = found + 1;
        }
    }

    /// Empties a list: who is not due yet hangs elsewhere afterwards, or here again.
    fn collect(&mut self, list: usize, now_ns: u64) {
        let mut next = std::mem::replace(&mut self.lists[list], List::EMPTY).first;
        self.occupied[list / 64] &= !(1 << (list % 64));
        while next != NONE {
            let transport = next;
            let hook = &self.hooks[transport as usize];
            next = hook.next;
            if hook.at_ns <= now_ns {
                self.hang(transport, DUE);
            } else {
                self.place(transport);
            }
        }
    }

    /// Hangs a transport where its deadline belongs.
    fn place(&mut self, transport: u32) {
        let at_ns = self.hooks[transport as usize].at_ns;
        let tick = at_ns >> TICK_BITS;
        if tick < self.tick {
            return self.hang(transport, DUE);
        }
        let tick = tick.min(self.tick + TICKS as u64 - 1);
        let list = tick as usize % TICKS;
        self.occupied[list / 64] |= 1 << (list % 64);
        let earliest_ns = &mut self.lists[list].earliest_ns;
        *earliest_ns = (*earliest_ns).min(at_ns).min((tick + 1) << TICK_BITS);
        self.hang(transport, list as u32);
    }

    fn hang(&mut self, transport: u32, list: u32) {
        let last = std::mem::replace(&mut self.lists[list as usize].last, transport);
        match self.hooks.get_mut(last as usize) {
            Some(last) => last.next = transport,
            None => self.lists[list as usize].first = transport,
        }
        let hook = &mut self.hooks[transport as usize];
        (hook.previous, hook.next, hook.list) = (last, NONE, list);
    }

    fn unhook(&mut self, transport: u32) {
        let hook = &mut self.hooks[transport as usize];
        let Hook { previous, next, .. } = *hook;
        let number = std::mem::replace(&mut hook.list, NONE) as usize;
        let Some(list) = self.lists.get_mut(number) else {
            return;
        };
        match self.hooks.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => list.first = next,
        }
        match self.hooks.get_mut(next as usize) {
            Some(next) => next.previous = previous,
            None => list.last = previous,
        }
        if list.first == NONE {
            *list = List::EMPTY;
            if let Some(word) = self.occupied.get_mut(number / 64) {
                *word &= !(1 << (number % 64));
            }
        }
    }

    /// The first tick from this one on in whose list something hangs.
    fn occupied_from(&self, tick: u64) -> Option<u64> {
        let words = self.occupied.len();
        let start = tick as usize % TICKS;
        let (first, bit) = (start / 64, start % 64);
        // The word that we start in comes twice: what it has before us is the farthest ahead.
        for step in 0..=words {
            let word = self.occupied[(first + step) % words];
            let word = match step {
                0 => word & (u64::MAX << bit),
                _ if step == words => word & !(u64::MAX << bit),
                _ => word,
            };
            if word != 0 {
                let ahead = step * 64 + word.trailing_zeros() as usize - bit;
                return Some(tick + ahead as u64);
            }
        }
        None
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        // 584 years.
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The same by a sorted set of exact deadlines.
    #[derive(Default)]
    struct Model(BTreeSet<(Instant, usize)>);

    impl Model {
        fn arm(&mut self, transport: usize, deadline: Option<Instant>) {
            self.0.retain(|(_, other)| *other != transport);
            self.0.extend(deadline.map(|at| (at, transport)));
        }

        fn next(&self) -> Option<Instant> {
            self.0.first().map(|(at, _)| *at)
        }

        /// All that are due, by their numbers.
        fn take(&mut self, now: Instant) -> Vec<usize> {
            let due = self.0.extract_if(.., |(at, _)| *at <= now);
            let mut due: Vec<_> = due.map(|(_, transport)| transport).collect();
            due.sort_unstable();
            due
        }
    }

    /// A wheel and the model of it, in step.
    struct Bed {
        timers: Timers,
        model: Model,
        notes: Vec<Option<Instant>>,
        now: Instant,
    }

    impl Bed {
        fn new(transports: usize) -> Self {
            let now = Instant::now();
            Self {
                timers: Timers::new(now),
                model: Model::default(),
                notes: vec![None; transports],
                now,
            }
        }

        fn arm(&mut self, transport: usize, deadline: Option<Instant>) {
            self.timers
                .arm(transport, &mut self.notes[transport], deadline);
            self.model.arm(transport, deadline);
            self.check_next();
        }

        fn take(&mut self) -> Vec<usize> {
            let mut due: Vec<_> = std::iter::from_fn(|| self.timers.pop(self.now)).collect();
            for transport in &due {
                self.notes[*transport] = None;
            }
            due.sort_unstable();
            assert_eq!(due, self.model.take(self.now));
            self.check_next();
            due
        }

        /// Never late, and never in vain for long.
        fn check_next(&self) {
            let (next, exact) = (self.timers.next(), self.model.next());
            assert_eq!(next.is_some(), exact.is_some());
            assert!(
                next <= exact.map(|at| at.max(self.now)),
                "{next:?} {exact:?}"
            );
        }

        /// Serves deadlines when it is told to until the last is through; the answer is how often.
        fn run_out(&mut self) -> usize {
            let mut turns = 0;
            while let Some(at) = self.timers.next() {
                self.now = self.now.max(at);
                self.take();
                turns += 1;
            }
            turns
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(usize, Duration),
        /// To a moment before the present.
        Late(usize, Duration),
        Disarm(usize),
        Wait(Duration),
        /// As long as we are told.
        Sleep,
    }

    fn span() -> impl Strategy<Value = Duration> {
        // Within a tick, within the wheel, beyond it.
        let spans = prop_oneof![
            0..2_000_000_u64,
            0..1_200_000_000_u64,
            0..10_000_000_000_u64
        ];
        spans.prop_map(Duration::from_nanos)
    }

    fn step() -> impl Strategy<Value = Step> {
        let transport = 0..20_usize;
        prop_oneof![
            4 => (transport.clone(), span()).prop_map(|(key, after)| Step::Arm(key, after)),
            1 => (transport.clone(), span()).prop_map(|(key, before)| Step::Late(key, before)),
            1 => transport.prop_map(Step::Disarm),
            2 => span().prop_map(Step::Wait),
            2 => Just(Step::Sleep),
        ]
    }

    proptest! {
        #[test]
        fn wheel_does_what_a_sorted_set_does(steps in vec(step(), 0..200)) {
            let mut bed = Bed::new(20);
            for step in steps {
                match step {
                    Step::Arm(transport, after) => bed.arm(transport, Some(bed.now + after)),
                    Step::Late(transport, before) => {
                        let at = bed.now.checked_sub(before).unwrap();
                        bed.arm(transport, Some(at));
                    }
                    Step::Disarm(transport) => bed.arm(transport, None),
                    Step::Wait(time) => {
                        bed.now += time;
                        bed.take();
                    }
                    Step::Sleep => {
                        bed.now = bed.now.max(bed.timers.next().unwrap_or(bed.now));
                        bed.take();
                    }
                }
            }
            bed.run_out();
        }
    }

    #[test]
    fn deadlines_are_kept_to_the_nanosecond() {
        let mut bed = Bed::new(2);
        let start = bed.now;
        bed.arm(0, Some(start + Duration::from_nanos(500)));
        bed.arm(1, Some(start + Duration::from_nanos(501)));
        assert_eq!(bed.timers.next(), Some(start + Duration::from_nanos(500)));
        bed.now = start + Duration::from_nanos(500);
        assert_eq!(bed.take(), [0]);
        assert_eq!(bed.timers.next(), Some(start + Duration::from_nanos(501)));
    }

    #[test]
    fn distant_deadline_wakes_us_once_a_revolution() {
        let mut bed = Bed::new(1);
        bed.arm(0, Some(bed.now + Duration::from_secs(30)));
        let revolution = Duration::from_nanos((TICKS as u64) << TICK_BITS);
        let expected = 30.0 / revolution.as_secs_f64();
        let turns = bed.run_out();
        assert!((turns as f64 - expected).abs() < 2.0, "{turns}");
    }

    #[test]
    fn those_who_wait_longest_are_served_first() {
        let mut bed = Bed::new(3);
        let start = bed.now;
        for (transport, after_ms) in [(2, 10), (0, 20), (1, 30)] {
            bed.arm(transport, Some(start + Duration::from_millis(after_ms)));
        }
        let now = start + Duration::from_secs(1);
        let served: Vec<_> = std::iter::from_fn(|| bed.timers.pop(now)).collect();
        assert_eq!(served, [2, 0, 1]);
    }
}
