//! One line of a result file: [`Record`].

use std::fs;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// The outcome of one run of one scenario. Field names are a format that other programs read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) scenario: String,
    /// Which run of the scenario, from 1.
    pub(crate) repeat: u32,
    /// Length of the measurement.
    pub(crate) seconds: f64,
    /// Streams sent to the server, audio and video of one participant counted as one.
    pub(crate) publishers: usize,
    /// The same towards participants, at the end: transports of viewers.
    pub(crate) subscribers: usize,
    /// Packets per second that publishers sent.
    pub(crate) published_pps: f64,
    /// Packets per second that viewers received.
    pub(crate) forwarded_pps: f64,
    /// CPU time of the whole server divided by the packets that viewers received.
    pub(crate) cpu_ns_per_forwarded_packet: Option<f64>,
    /// What the bare loop needs per packet for the same traffic on the same processors.
    pub(crate) floor_ns: Option<f64>,
    /// CPU time of the server; 100 is one core.
    pub(crate) server_cpu_percent: Option<f64>,
    /// CPU time of its media threads alone: the rest is signaling, which a viewer's pings keep busy.
    pub(crate) media_cpu_percent: Option<f64>,
    /// Share of what viewers should have received, 1 for all.
    pub(crate) delivered_ratio: f64,
    /// From a publisher's frame to the arrival of its packets at a viewer's socket.
    pub(crate) latency_us: Option<Quantiles>,
    /// From opening the WebSocket to the connection of the last transport.
    pub(crate) join_ms: Option<Quantiles>,
    /// Memory that the server grew by, divided by `subscribers`.
    pub(crate) rss_bytes_per_subscriber: Option<f64>,
    /// Memory of the server at the end.
    pub(crate) rss_bytes: Option<u64>,
    /// PLIs and FIRs that publishers got.
    pub(crate) key_frame_requests: u64,
    /// NACK packets that publishers got.
    pub(crate) nacks: u64,
    /// Packets with a wrong byte, or that were not authentic.
    pub(crate) faulty_packets: u64,
    /// CPU time of this program; 100 is one core, and all of it when it is the bottleneck.
    pub(crate) generator_cpu_percent: f64,
    /// CPU time of everybody else on the machine; disturbs all other figures.
    pub(crate) other_cpu_percent: Option<f64>,
    /// Of 1, 5 and 15 minutes, at the end.
    pub(crate) load_average: [f64; 3],
    /// Processors of the server; empty if it was not pinned.
    pub(crate) server_cores: Vec<usize>,
    /// Processors of this program; empty if it was not pinned.
    pub(crate) generator_cores: Vec<usize>,
    /// Media threads of the server, if it was started here.
    pub(crate) workers: Option<usize>,
    /// The kernel hands runs of packets to viewers as a whole.
    pub(crate) receives_whole_runs: bool,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Counts of latencies by their upper limit in microseconds, for plots.
    pub(crate) latency_histogram: Vec<(u64, u64)>,
}

/// Of some measured times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// Those of a histogram of microseconds, divided by `unit_us`; `None` if it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>, unit_us: f64) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit_us;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        })
    }
}

/// Steps of a stored histogram for each doubling.
const STEPS_PER_DOUBLING: u32 = 4;

/// The histogram in steps that grow with the value: upper limit and count, empty ones at the ends left out.
pub(crate) fn steps(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let growth = 2f64.powf(1.0 / f64::from(STEPS_PER_DOUBLING));
    let steps = histogram.iter_log(8, growth).map(|step| {
        let limit = step.value_iterated_to();
        (limit, step.count_since_last_iteration())
    });
    let steps: Vec<_> = steps.skip_while(|(_, count)| *count == 0).collect();
    let last = steps.iter().rposition(|(_, count)| *count > 0);
    steps[..last.map_or(0, |last| last + 1)].to_vec()
}

/// Reads a file of one record per line.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Record>> {
    let wrong = |error: serde_json::Error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    };
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).map_err(wrong))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        for value in values {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn quantiles_are_in_the_wanted_unit() {
        let quantiles = Quantiles::of(&histogram((1..=100).map(|ms| ms * 1_000)), 1_000.0);
        let quantiles = quantiles.unwrap();
        let is_near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.01;
        assert!(is_near(quantiles.p50, 50.0) && is_near(quantiles.p95, 95.0));
        assert!(is_near(quantiles.p99, 99.0) && is_near(quantiles.max, 100.0));
        assert_eq!(Quantiles::of(&histogram([]), 1.0), None);
    }

    #[test]
    fn steps_hold_every_value() {
        let steps = steps(&histogram([3, 100, 100, 5_000]));
        assert_eq!(steps.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert!(steps.first().is_some_and(|step| step.1 > 0));
        assert!(
            steps
                .last()
                .is_some_and(|step| step.1 > 0 && step.0 >= 5_000)
        );
        assert!(steps.is_sorted());
        assert_eq!(super::steps(&histogram([])), []);
    }

    #[test]
    fn names_that_others_rely_on() {
        let record = Record {
            latency_us: Some(Quantiles::default()),
            join_ms: Some(Quantiles::default()),
            ..Record::default()
        };
        let json = serde_json::to_value(&record).unwrap();
        for name in [
            "scenario",
            "forwarded_pps",
            "cpu_ns_per_forwarded_packet",
            "delivered_ratio",
            "rss_bytes_per_subscriber",
            "load_average",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["p50", "p95", "p99", "max"] {
            assert!(json["latency_us"].get(name).is_some(), "{name}");
        }
        for name in ["p50", "p95"] {
            assert!(json["join_ms"].get(name).is_some(), "{name}");
        }
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
    }
}
