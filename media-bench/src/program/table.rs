//! Records as lines of a table on the terminal.

use crate::record::{Quantiles, Record};

/// Heading and width of each column.
const COLUMNS: [(&str, usize); 17] = [
    ("scenario", 13),
    ("subs", 7),
    ("pps", 8),
    ("ns/pkt", 8),
    ("x floor", 9),
    ("srv %", 7),
    ("media %", 9),
    ("delivered", 11),
    ("p50 ms", 9),
    ("p95", 9),
    ("p99", 9),
    ("max", 9),
    ("join50/95", 11),
    ("KB/sub", 8),
    ("PLI", 6),
    ("gen %", 7),
    ("other %", 9),
];

/// Prints the headings.
#[expect(clippy::print_stdout, reason = "the table is the output")]
pub(crate) fn print_head() {
    println!("{}", line(COLUMNS.map(|(heading, _)| heading.to_owned())));
}

/// Prints one record.
#[expect(clippy::print_stdout, reason = "the table is the output")]
pub(crate) fn print(record: &Record) {
    println!("{}", line(cells(record)));
    if record.generator_cpu_percent > GENERATOR_BUSY_PERCENT {
        println!(
            "  the generator used {:.0} % of a core: it may have been the bottleneck",
            record.generator_cpu_percent
        );
    }
    if record.faulty_packets > 0 {
        println!("  {} packets were wrong", record.faulty_packets);
    }
}

/// Above that the generator cannot be trusted to keep up.
const GENERATOR_BUSY_PERCENT: f64 = 90.0;

fn line(cells: [String; COLUMNS.len()]) -> String {
    let mut line = String::new();
    for (index, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
        line += &match index {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        };
    }
    line
}

fn cells(record: &Record) -> [String; COLUMNS.len()] {
    let number = |value: Option<f64>, decimals: usize| match value {
        Some(value) => format!("{value:.decimals$}"),
        None => "-".to_owned(),
    };
    let latency = |of: fn(&Quantiles) -> f64| {
        number(
            record
                .latency_us
                .as_ref()
                .map(|latency| of(latency) / 1_000.0),
            2,
        )
    };
    let join = match &record.join_ms {
        Some(join) => format!("{:.0}/{:.0}", join.p50, join.p95),
        None => "-".to_owned(),
    };
    [
        record.scenario.clone(),
        record.subscribers.to_string(),
        number(Some(record.forwarded_pps), 0),
        number(record.cpu_ns_per_forwarded_packet, 0),
        number(times_floor(record), 2),
        number(record.server_cpu_percent, 1),
        number(record.media_cpu_percent, 1),
        number(Some(record.delivered_ratio), 5),
        latency(|latency| latency.p50),
        latency(|latency| latency.p95),
        latency(|latency| latency.p99),
        latency(|latency| latency.max),
        join,
        number(
            record.rss_bytes_per_subscriber.map(|bytes| bytes / 1024.0),
            0,
        ),
        record.key_frame_requests.to_string(),
        number(Some(record.generator_cpu_percent), 1),
        number(record.other_cpu_percent, 1),
    ]
}

/// CPU time per packet by that of the bare loop.
pub(crate) fn times_floor(record: &Record) -> Option<f64> {
    let cpu = record.cpu_ns_per_forwarded_packet?;
    let floor = record.floor_ns.filter(|floor| *floor > 0.0)?;
    Some(cpu / floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let full = Record {
            scenario: "fanout-1000".to_owned(),
            subscribers: 1_000,
            forwarded_pps: 192_000.0,
            cpu_ns_per_forwarded_packet: Some(1_234.5),
            latency_us: Some(Quantiles::default()),
            join_ms: Some(Quantiles::default()),
            ..Record::default()
        };
        let head = line(COLUMNS.map(|(heading, _)| heading.to_owned()));
        for record in [full, Record::default()] {
            assert_eq!(line(cells(&record)).len(), head.len());
        }
    }
}
