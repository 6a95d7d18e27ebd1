//! Records as one HTML page that needs no other file: [`page`].

use std::fmt::Write as _;

use crate::plot::{Axis, Chart, Series, escape};
use crate::record::Record;
use crate::table::times_floor;

const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left; white-space: nowrap }
.wide { overflow-x: auto }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.5rem; margin: 2rem 0 }
svg { width: 100%; height: auto }
svg text { font-size: 11px; fill: currentColor }
svg .title { font-size: 14px; font-weight: 600 }
svg line { stroke: #8884 }
svg polyline { fill: none; stroke-width: 2 }
.bad { color: #d55e00; font-weight: 600 }
";

/// Latency plots hold this many scenarios; more cannot be told apart.
const LATENCY_SERIES_MAX: usize = 16;

/// Delivery below this is shown as bad.
const DELIVERED_GOOD: f64 = 0.999;

/// The page.
pub(crate) fn page(records: &[Record]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>media-bench</title><style>{STYLE}</style>\n<h1>media-bench</h1>\n"
    );
    page += &circumstances(records);
    page += "<div class=\"charts\">\n";
    for chart in charts(records) {
        page += &chart.to_svg();
    }
    page += "</div>\n<div class=\"wide\"><table><thead><tr>";
    for (heading, _) in COLUMNS {
        page += &format!("<th>{}", escape(heading));
    }
    page += "<tbody>\n";
    for record in records {
        page += "<tr>";
        for (_, cell) in COLUMNS {
            page += &format!("<td>{}", cell(record));
        }
        page += "\n";
    }
    page += "</table></div>\n";
    page += NOTES;
    page
}

const NOTES: &str = "<p>ns per packet: CPU time of the whole server by packets that viewers received, the kernel's \
work included. × floor: by what a bare loop needs that opens, seals and sends the same packets at the same pace. Latency: from the publisher's frame to the arrival at a viewer's socket, whole microseconds. \
Join: from opening the WebSocket until media can flow. Other CPU: of everybody else on the machine, which \
disturbs all figures.</p>\n";

/// Heading and content of each column.
type Column = (&'static str, fn(&Record) -> String);

const COLUMNS: [Column; 18] = [
    ("scenario", |record| escape(&record.scenario)),
    ("run", |record| record.repeat.to_string()),
    ("subscribers", |record| record.subscribers.to_string()),
    ("packets/s", |record| format!("{:.0}", record.forwarded_pps)),
    ("ns per packet", |record| {
        number(record.cpu_ns_per_forwarded_packet, 0)
    }),
    ("× floor", |record| number(times_floor(record), 2)),
    ("server CPU %", |record| {
        number(record.server_cpu_percent, 1)
    }),
    ("delivered", |record| {
        let text = format!("{:.5}", record.delivered_ratio);
        match record.delivered_ratio < DELIVERED_GOOD {
            true => format!("<span class=\"bad\">{text}</span>"),
            false => text,
        }
    }),
    ("p50 µs", |record| {
        number(record.latency_us.map(|us| us.p50), 0)
    }),
    ("p95 µs", |record| {
        number(record.latency_us.map(|us| us.p95), 0)
    }),
    ("p99 µs", |record| {
        number(record.latency_us.map(|us| us.p99), 0)
    }),
    ("max µs", |record| {
        number(record.latency_us.map(|us| us.max), 0)
    }),
    ("join p50 ms", |record| {
        number(record.join_ms.map(|ms| ms.p50), 1)
    }),
    ("join p95 ms", |record| {
        number(record.join_ms.map(|ms| ms.p95), 1)
    }),
    ("KB/subscriber", |record| {
        number(kilobytes_per_subscriber(record), 0)
    }),
    ("generator CPU %", |record| {
        format!("{:.1}", record.generator_cpu_percent)
    }),
    ("other CPU %", |record| number(record.other_cpu_percent, 1)),
    ("load", |record| format!("{:.2}", record.load_average[0])),
];

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

fn kilobytes_per_subscriber(record: &Record) -> Option<f64> {
    record.rss_bytes_per_subscriber.map(|bytes| bytes / 1024.0)
}

/// Machine and placement, once for each combination.
fn circumstances(records: &[Record]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for record in records {
        let place = |cores: &[usize]| match cores {
            [] => "not pinned".to_owned(),
            cores => format!("on core {cores:?}"),
        };
        let mut line = format!(
            "{}, {} cores, Linux {}; server {}, generator {}",
            escape(&record.machine.processor),
            record.machine.cores,
            escape(&record.machine.kernel),
            place(&record.server_cores),
            place(&record.generator_cores)
        );
        if let Some(workers) = record.workers {
            write!(line, "; media threads: {workers}").expect("a String takes everything");
        }
        if !record.receives_whole_runs {
            line += "; runs of packets cut up by the kernel at receivers";
        }
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
        .iter()
        .map(|line| format!("<p>{line}.</p>\n"))
        .collect()
}

fn charts(records: &[Record]) -> [Chart; 3] {
    let axis = |label, logarithmic| Axis { label, logarithmic };
    [
        Chart {
            title: "Latency: share of packets",
            x: axis("µs", true),
            y: axis("% of packets in a step", false),
            series: latency_series(records),
        },
        Chart {
            title: "Server CPU per forwarded packet",
            x: axis("subscribers", true),
            y: axis("ns", false),
            series: by_subscribers(records, |record| record.cpu_ns_per_forwarded_packet),
        },
        Chart {
            title: "Server memory per subscriber",
            x: axis("subscribers", true),
            y: axis("KB", false),
            series: by_subscribers(records, kilobytes_per_subscriber),
        },
    ]
}

/// One line for each scenario, all its runs together.
fn latency_series(records: &[Record]) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for record in records {
        let known = series.iter().position(|one| one.name == record.scenario);
        let index = known.unwrap_or_else(|| {
            series.push(Series {
                name: record.scenario.clone(),
                points: Vec::new(),
                is_joined: true,
            });
            series.len() - 1
        });
        for (limit, count) in &record.latency_histogram {
            let points = &mut series[index].points;
            let limit = *limit as f64;
            match points.iter_mut().find(|point| point.0 == limit) {
                Some(point) => point.1 += *count as f64,
                None => points.push((limit, *count as f64)),
            }
        }
    }
    for one in &mut series {
        let sum: f64 = one.points.iter().map(|point| point.1).sum();
        one.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        for point in &mut one.points {
            point.1 *= 100.0 / sum;
        }
    }
    series.retain(|one| !one.points.is_empty());
    series.truncate(LATENCY_SERIES_MAX);
    series
}

/// One series for each kind of scenario, one point for each run; fan-outs are joined.
fn by_subscribers(records: &[Record], of: impl Fn(&Record) -> Option<f64>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for record in records {
        let Some(value) = of(record) else {
            continue;
        };
        let kind = record.scenario.split('-').next().unwrap_or_default();
        let point = (record.subscribers as f64, value);
        match series.iter_mut().find(|one| one.name == kind) {
            Some(one) => one.points.push(point),
            None => series.push(Series {
                name: kind.to_owned(),
                points: vec![point],
                is_joined: kind == "fanout",
            }),
        }
    }
    for one in &mut series {
        one.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |scenario: &str, subscribers, cpu| Record {
            scenario: scenario.to_owned(),
            subscribers,
            cpu_ns_per_forwarded_packet: cpu,
            rss_bytes_per_subscriber: Some(50_000.0),
            latency_histogram: vec![(100, 30), (200, 10)],
            ..Record::default()
        };
        vec![
            record("fanout-100", 100, Some(2_000.0)),
            record("fanout-10", 10, Some(4_000.0)),
            record("fanout-10", 10, Some(4_100.0)),
            record("idle-<5>", 5, None),
        ]
    }

    #[test]
    fn page_has_all_runs_and_charts_and_needs_nothing_else() {
        let page = page(&records());
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<tr>").count(), 1 + 4);
        assert!(page.contains("idle-&lt;5&gt;") && !page.contains("idle-<5>"));
        assert!(!page.contains("http") && !page.contains("src="));
    }

    #[test]
    fn runs_of_a_scenario_share_a_latency_line() {
        let series = latency_series(&records());
        assert_eq!(series.len(), 3);
        assert_eq!(series[1].points, [(100.0, 75.0), (200.0, 25.0)]);
    }

    #[test]
    fn kinds_of_scenarios_are_series() {
        let series = by_subscribers(&records(), |record| record.cpu_ns_per_forwarded_packet);
        assert_eq!(series.len(), 1);
        let fanout = &series[0];
        assert!(fanout.is_joined && fanout.points.is_sorted());
        assert_eq!(fanout.points.len(), 3);
    }

    #[test]
    fn no_records_make_a_page_too() {
        assert_eq!(page(&[]).matches("<svg").count(), 0);
    }
}
