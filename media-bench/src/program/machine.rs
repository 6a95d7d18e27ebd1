//! What the figures depend on beside the program: processors, clocks of CPU time, other load.
//!
//! All of it is read from Linux, mostly from `/proc`; what cannot be read is `None` or 0.

use std::fs;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Ticks per second of the times in `/proc`: fixed in the Linux ABI.
const TICKS_PER_SECOND: u64 = 100;

/// Where the figures were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As the processor calls itself.
    pub(crate) processor: String,
    /// Logical processors that this program may use.
    pub(crate) cores: usize,
    /// Version of the kernel.
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores().len(),
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// The logical processors that this program may use.
pub(crate) fn cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|core| set.is_set(*core).unwrap_or(false))
        .collect()
}

/// Keeps the calling thread, and all it starts from here on, on these processors; false if the system
/// refuses.
pub(crate) fn pin(cores: &[usize]) -> bool {
    let mut set = CpuSet::new();
    let known = cores.iter().all(|core| set.set(*core).is_ok());
    known && !cores.is_empty() && sched_setaffinity(Pid::from_raw(0), &set).is_ok()
}

/// Allows as many open files as the system ever would; returns that number.
pub(crate) fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// CPU time of the calling thread, the kernel's work for it included.
pub(crate) fn thread_cpu() -> Duration {
    cpu_clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this program.
pub(crate) fn program_cpu() -> Duration {
    cpu_clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_clock(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// Load averages of 1, 5 and 15 minutes.
pub(crate) fn load_average() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut words = text.split(' ').map_while(|word| word.parse().ok());
    std::array::from_fn(|_| words.next().unwrap_or(0.0))
}

/// Time that all processors together have worked, for whomever, and time that the host took away.
pub(crate) fn machine_cpu() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(&text).map_or(Duration::ZERO, ticks)
}

/// `cpu  user nice system idle iowait irq softirq steal …`
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
    let [user, nice, system, _, _, interrupts, soft_interrupts, steal] = *numbers.first_chunk()?;
    Some(user + nice + system + interrupts + soft_interrupts + steal)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// Another process, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

impl Process {
    /// CPU time of all its threads: in nanoseconds by the scheduler's count, or else in ticks of 10 ms.
    pub(crate) fn cpu(self) -> Option<Duration> {
        self.scheduled_cpu().or_else(|| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).ok()?;
            process_ticks(&stat).map(ticks)
        })
    }

    fn scheduled_cpu(self) -> Option<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).ok()?;
        let mut sum = 0;
        for task in tasks {
            // A thread may have ended meanwhile.
            let path = task.ok()?.path().join("schedstat");
            let Ok(text) = fs::read_to_string(path) else {
                continue;
            };
            sum += text.split(' ').next()?.parse::<u64>().ok()?;
        }
        (sum > 0).then(|| Duration::from_nanos(sum))
    }

    /// CPU time of the threads whose name begins with `prefix`, in nanoseconds by the scheduler's count.
    pub(crate) fn cpu_of_threads(self, prefix: &str) -> Option<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).ok()?;
        let nanos = tasks.flatten().filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanos: u64 = times.split(' ').next()?.parse().ok()?;
            name.starts_with(prefix).then_some(nanos)
        });
        Some(Duration::from_nanos(nanos.sum()))
    }

    /// Memory that is really in use.
    pub(crate) fn resident_bytes(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).ok()?;
        resident_bytes(&status)
    }
}

/// User and system time: the 14th and 15th field, counted behind the name, which may hold anything.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_read() {
        assert_eq!(
            busy_ticks("cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 1"),
            Some(63)
        );
        assert_eq!(busy_ticks("cpu  1 2"), None);
        let stat = "7 (a ) b) S 1 7 7 0 -1 0 10 0 0 0 250 40 0 0 20 0 3 0 100";
        assert_eq!(process_ticks(stat), Some(290));
        assert_eq!(process_ticks("7 (a"), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn own_process_has_used_time_and_memory() {
        let own = Process {
            id: std::process::id(),
        };
        assert!(own.cpu().is_some());
        assert!(own.resident_bytes().is_some_and(|bytes| bytes > 0));
        assert!(!cores().is_empty());
    }
}
