//! What waits on the side of the sender until there is room in the ring: [`Backlog`].

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::engine::relay::{Control, MirrorId, Urgency};

/// Controls, oldest first, without those that newer ones make superfluous.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: BTreeMap<u64, Control>,
    /// Where the controls about a mirror are that others may make superfluous: a handful for each, however long the
    /// other worker stalls, so that adding one costs the same in a large room.
    by_mirror: FxHashMap<MirrorId, SmallVec<[u64; 4]>>,
    /// For the next one.
    number: u64,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a control, unless what waits makes it superfluous.
    pub(super) fn push(&mut self, control: Control) {
        let mirror = control.mirror();
        let waiting = &mut self.waiting;
        if control.urgency() == Urgency::Message {
            // Every one counts.
        } else {
            let known = self.by_mirror.entry(mirror).or_default();
            let any = |is_so: fn(&Control, &Control) -> bool| {
                known.iter().any(|number| is_so(&control, &waiting[number]))
            };
            let (is_repetition, is_void) = (any(Control::repeats), any(Control::annuls));
            if is_repetition {
                return;
            }
            known.retain(|number| {
                let earlier = &waiting[number];
                let is_kept = !control.supersedes(earlier) && !control.annuls(earlier);
                if !is_kept {
                    waiting.remove(number);
                }
                is_kept
            });
            if is_void {
                if known.is_empty() {
                    self.by_mirror.remove(&mirror);
                }
                return;
            }
            known.push(self.number);
        }
        waiting.insert(self.number, control);
        self.number += 1;
    }

    /// Has `pass` take the controls, oldest first, until it gives one back. True if all are through.
    pub(super) fn drain(&mut self, mut pass: impl FnMut(Control) -> Result<(), Control>) -> bool {
        while let Some((number, control)) = self.waiting.pop_first() {
            let mirror = control.mirror();
            if let Err(control) = pass(control) {
                self.waiting.insert(number, control);
                return false;
            }
            if let Some(known) = self.by_mirror.get_mut(&mirror) {
                known.retain(|other| *other != number);
                if known.is_empty() {
                    self.by_mirror.remove(&mirror);
                }
            }
        }
        true
    }
}
