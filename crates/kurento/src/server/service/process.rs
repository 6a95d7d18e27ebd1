//! What this process uses, as Linux tells it; zero elsewhere.

use std::time::Duration;

/// Clock ticks in which `/proc` counts: 100 a second on every Linux (`proc_pid_stat(5)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Percent of one core that is used during the next `interval`.
pub(super) async fn cpu_percent(interval: Duration) -> f64 {
    let before = cpu_seconds();
    tokio::time::sleep(interval).await;
    if interval.is_zero() {
        return 0.0;
    }
    (cpu_seconds() - before) / interval.as_secs_f64() * 100.0
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in parentheses, which may contain anything.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// Resident memory in KiB.
pub(super) fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
