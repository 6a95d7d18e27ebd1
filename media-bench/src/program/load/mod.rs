//! The `load` command: a real server under the load of simulated participants.
//!
//! Read [`run::run`] for the course of one measurement, [`traffic::Traffic`] for the media.

mod floor;
mod run;
mod scenario;
mod server;
mod signaling;
mod source;
mod traffic;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::machine::{self, Machine, Process};
use crate::record::Record;
use crate::{report, table};
use floor::Cores;
use run::Setting;
use scenario::{ALL, Scenario};
use server::Target;

/// File descriptors that a participant needs at most, beside those for transports.
const FILES_PER_PARTICIPANT: u64 = 2;

/// How long the floor of a scenario is measured at most. Too short: one disturbance is the result. Too long: the
/// user waits.
const FLOOR_TIME_MAX: Duration = Duration::from_secs(3);

/// Options of `load`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// What to run: a name of the list below, with other numbers if you like, or `all`. May be repeated.
    #[arg(long = "scenario", value_name = "NAME", default_value = "fanout-100")]
    scenarios: Vec<String>,
    /// Length of each measurement, after a warm-up of two seconds.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Video of each publisher in bit/s.
    #[arg(long, value_name = "N", default_value_t = 1_200_000)]
    bitrate: u32,
    /// Runs of each scenario, each against a fresh server. `compare` needs several to know the spread.
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
    /// Server binary to start [default: `tertulia` beside this program].
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    server: Option<PathBuf>,
    /// Media threads of the server [default: one per core that is left to it].
    #[arg(long, value_name = "N", conflicts_with = "url")]
    workers: Option<usize>,
    /// Load a server that runs already, as wss://HOST:8443/room. Its certificate is not checked.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Its process on this machine, for figures of CPU time and memory.
    #[arg(long, value_name = "PID", requires = "url")]
    pid: Option<u32>,
    /// Let the system place server and generator. Else the last core is the generator's, and all others
    /// are the server's.
    #[arg(long)]
    no_pin: bool,
    /// Let the kernel cut runs of packets up at the receivers, in CPU time that counts as the server's:
    /// like a network card without segmentation offload. Without this flag runs arrive whole, like those
    /// that a card with it takes over.
    #[arg(long)]
    cut_runs: bool,
    /// Write one JSON object per run into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with tables and plots into this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command; one line of the table per run.
pub(crate) fn command(options: &Options) -> io::Result<()> {
    let scenarios = scenarios(&options.scenarios)?;
    let setting = setting(options)?;
    let files = machine::raise_open_files();
    let mut json = options.json.as_ref().map(File::create).transpose()?;
    let mut records: Vec<Record> = Vec::new();
    table::print_head();
    for scenario in &scenarios {
        let needed = scenario.subscriptions() as u64
            + FILES_PER_PARTICIPANT * (scenario.rooms * scenario.viewers) as u64;
        if needed > files {
            return Err(io::Error::other(format!(
                "{scenario} needs {needed} open files, and the system allows {files} (see ulimit -n)"
            )));
        }
        for repeat in 1..=options.repeat {
            let bar = progress(scenario, setting.duration);
            bar.set_message("measuring the floor");
            let record = floor::measure(
                scenario,
                setting.video_bits_per_second,
                setting.whole,
                &setting.cores,
                setting.duration.min(FLOOR_TIME_MAX),
            )
            .and_then(|floor_ns| run::run(&setting, scenario, repeat, floor_ns, &bar));
            bar.finish_and_clear();
            let record = record?;
            table::print(&record);
            if let Some(json) = &mut json {
                serde_json::to_writer(&mut *json, &record)?;
                writeln!(json)?;
            }
            records.push(record);
            // After each run: the last scenarios of `all` take long, and may fail.
            if let Some(html) = &options.html {
                fs::write(html, report::page(&records))?;
            }
        }
    }
    Ok(())
}

fn scenarios(names: &[String]) -> io::Result<Vec<Scenario>> {
    let names = names.iter().flat_map(|name| match name.as_str() {
        "all" => ALL.to_vec(),
        name => vec![name],
    });
    names
        .map(|name| {
            name.parse()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
        })
        .collect()
}

fn setting(options: &Options) -> io::Result<Setting> {
    let cores = machine::cores();
    let (server_cores, own_cores) = match cores.split_last() {
        Some((last, rest)) if !rest.is_empty() && !options.no_pin => (rest.to_vec(), vec![*last]),
        _ => (Vec::new(), Vec::new()),
    };
    let target = match &options.url {
        Some(url) => Target::Running {
            url: url.clone(),
            process: options.pid.map(|id| Process { id }),
        },
        None => Target::Binary {
            path: binary(options)?,
            workers: options.workers.unwrap_or(server_cores.len().max(1)),
            cores: server_cores.clone(),
        },
    };
    // Before pinning, which leaves fewer cores to see.
    let machine = Machine::here();
    machine::pin(&own_cores);
    Ok(Setting {
        target,
        cores: Cores {
            server: server_cores,
            generator: own_cores,
        },
        machine,
        duration: Duration::try_from_secs_f64(options.seconds).map_err(io::Error::other)?,
        video_bits_per_second: options.bitrate,
        whole: !options.cut_runs,
    })
}

fn binary(options: &Options) -> io::Result<PathBuf> {
    let path = match &options.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("tertulia"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!(
            "{} is missing: build it with `cargo build --release`, or name one by --server",
            path.display()
        ),
    ))
}

fn progress(scenario: &Scenario, duration: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(duration.as_millis() as u64)
        .with_style(style)
        .with_prefix(scenario.name.clone())
}
