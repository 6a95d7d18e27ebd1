//! Which CPU each worker runs on: [`plan`].
//!
//! A worker that stays finds its sessions and their keys in the caches of its core, and the system does not put two
//! workers on one core while another idles. That holds if each has a core for itself: with fewer workers than CPUs,
//! the system knows better which are free; with more, or less time than CPUs (a quota of the control group),
//! pinned ones wait for each other, and for other containers that count their CPUs from the same end.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use crate::config::Pinning;

/// The CPU of each worker by index; empty if they run wherever the system likes.
pub(crate) fn plan(pinning: Pinning, workers: usize) -> Vec<usize> {
    if pinning == Pinning::Off {
        return Vec::new();
    }
    match allowed() {
        Ok(cpus) => {
            let share = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            choose(pinning, workers, &cpus, share)
        }
        Err(error) if pinning == Pinning::On => {
            tracing::warn!(%error, "cannot tell which CPUs there are; media threads are not pinned");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// `cpus` are those that this process may use, `share` how many of them it may keep busy.
fn choose(pinning: Pinning, workers: usize, cpus: &[usize], share: usize) -> Vec<usize> {
    let has_one_each = workers == cpus.len() && workers == share;
    let pins = match pinning {
        Pinning::Auto => has_one_each && workers > 1,
        Pinning::On => true,
        Pinning::Off => false,
    };
    let cpus = cpus.iter().copied().cycle();
    cpus.take(if pins { workers } else { 0 }).collect()
}

/// Keeps the calling thread on `cpu`. That it cannot be kept is logged, and costs some performance only.
pub(super) fn pin(cpu: usize) {
    if let Err(error) = try_pin(cpu) {
        tracing::warn!(%error, cpu, "cannot pin a media thread to its CPU");
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn allowed() -> io::Result<Vec<usize>> {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let is_allowed = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_allowed).collect())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn try_pin(cpu: usize) -> io::Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allowed() -> io::Result<Vec<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn try_pin(_cpu: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(workers: usize, cpus: &[usize], share: usize, auto: &[usize], on: &[usize]) {
        assert_eq!(choose(Pinning::Auto, workers, cpus, share), auto);
        assert_eq!(choose(Pinning::On, workers, cpus, share), on);
        assert!(choose(Pinning::Off, workers, cpus, share).is_empty());
    }

    #[test]
    fn workers_are_pinned_by_themselves_if_each_has_a_cpu() {
        check(2, &[0, 1], 2, &[0, 1], &[0, 1]);
        check(3, &[1, 4, 6], 3, &[1, 4, 6], &[1, 4, 6]);
        // The system knows better which CPU is free.
        check(1, &[0], 1, &[], &[0]);
        check(2, &[0, 1, 2], 3, &[], &[0, 1]);
        // They would wait for each other.
        check(5, &[2, 3], 2, &[], &[2, 3, 2, 3, 2]);
        check(2, &[0, 1, 2, 3], 2, &[], &[0, 1]);
        check(4, &[0, 1, 2, 3], 2, &[], &[0, 1, 2, 3]);
        check(2, &[], 2, &[], &[]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn thread_stays_where_it_is_pinned() {
        let cpus = allowed().unwrap();
        let last = *cpus.last().unwrap();
        let pinned = thread::spawn(move || {
            pin(last);
            allowed().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(allowed().unwrap(), cpus);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cpu_that_does_not_exist_leaves_the_thread_as_it_was() {
        let (before, after) = thread::spawn(|| {
            let before = allowed().unwrap();
            pin(usize::MAX);
            (before, allowed().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(before, after);
    }
}
