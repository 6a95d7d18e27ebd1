//! The benchmark program: what the media path costs, beside what it must cost at least.
//!
//! `media-bench --help` lists the commands; `floor` and `load` are the modules to read first.

mod compare;
mod floor;
mod load;
mod machine;
mod plot;
mod record;
mod report;
mod sim;
mod table;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use floor::Floor;
use machine::Machine;

/// Measures what forwarding media costs, beside what it must cost at least.
///
/// Build the server first (`cargo build --release`), leave the machine in peace, and begin with `floor`
/// and `load`. `media-bench/README.md` tells how each figure comes about.
#[derive(Debug, Parser)]
#[command(name = "media-bench", version, max_term_width = 100, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  media-bench floor
      What one forwarded packet costs on this machine at least.
  media-bench load --scenario fanout-100
      What it costs in the server, with 100 viewers of one publisher.
  media-bench load --scenario fanout-100 --scenario meeting-5x4 --repeat 3 --json before.jsonl
  (change the server, cargo build --release)
  media-bench load --scenario fanout-100 --scenario meeting-5x4 --repeat 3 --json after.jsonl
  media-bench compare before.jsonl after.jsonl
      Whether a change of the server is one, or chance.
  media-bench load --scenario all --html all.html
      Everything, as a page with plots. Takes some minutes.
  media-bench load --url wss://media.example.org:8443/room --seconds 60
      A server elsewhere. Its CPU time is unknown; delivery, latency and join times are not.
  media-bench sim --scenario step-vp8 --scenario loss-10 --seeds 20
      What viewers see when the network is in trouble, of 20 random courses of it.
  media-bench micro -- srtp
      The benches whose name contains `srtp`, each beside its floor.";

const SCENARIOS: &str = "\
Scenarios (N, R and P are numbers of your choice):
  fanout-N       one publisher, N viewers                       10, 100, 200, 500, 1000 in `all`
  meeting-RxP    R rooms of P participants, all publish and     5x4
                 watch each other
  meeting-P      one such room                                  20
  webinar-N      ten speakers, N viewers who watch all ten;     1000
                 one speaks, nine are quiet
  join-storm     fanout-100, and 50 more join per second
  audio-N        one speaker without a picture, N listeners     200
  idle-N         N viewers of somebody who sends nothing        1000

Columns: ns/pkt is CPU time of the server per packet that viewers received, x floor the same by what
a bare loop needs that opens, seals and sends the same packets at the same pace. srv %: CPU time of the whole
server, media %: of its media threads without signaling. delivered: share of packets that arrived. p50 to max:
latency from publisher to viewer. join50/95: ms from opening the WebSocket until media can flow.
gen %: CPU time of this program; near 100 it is the bottleneck. other %: that of everybody else on
the machine, which spoils the figures.";

#[derive(Debug, Subcommand)]
enum Command {
    /// The bare loop that no server can beat: open, rewrite, seal and send, in ns of CPU per packet.
    Floor(FloorOptions),
    /// A real server under the load of simulated participants.
    #[command(after_help = SCENARIOS)]
    Load(load::Options),
    /// What changed between two files of results, and whether it is more than chance.
    Compare {
        /// Written by `load --json` or `floor --json` before the change.
        old: PathBuf,
        /// The same after it.
        new: PathBuf,
    },
    /// A page with tables and plots of stored results.
    Report {
        /// Written by `load --json`.
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// Where to write the page.
        #[arg(long, value_name = "FILE")]
        html: PathBuf,
    },
    /// Simulated publishers and viewers around the real engine on troubled networks, in simulated time.
    #[command(after_long_help = sim::list())]
    Sim(sim::Options),
    /// The steps of forwarding one by one, each beside its floor: runs `cargo bench`.
    Micro {
        /// Handed to criterion: a part of the names to run, or its options.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct FloorOptions {
    /// Seconds for each line.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Receivers.
    #[arg(long, value_name = "N", default_value_t = 100)]
    subscribers: usize,
    /// Write one JSON object per line of the table into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[expect(clippy::print_stderr, reason = "a program reports errors there")]
fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Floor(options) => run_floor(&options),
        Command::Load(options) => load::command(&options),
        Command::Compare { old, new } => run_compare(&old, &new),
        Command::Report { results, html } => run_report(&results, &html),
        Command::Sim(options) => match sim::command(&options) {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other("a budget is missed")),
            Err(error) => Err(error),
        },
        Command::Micro { arguments } => run_micro(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("media-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn run_floor(options: &FloorOptions) -> io::Result<()> {
    machine::raise_open_files();
    let machine = Machine::here();
    machine::pin(&machine::cores()[..1]);
    println!(
        "CPU time in ns per forwarded packet of {} bytes to {} receivers on the loopback interface, AES-128-GCM",
        floor::PACKET_BYTES,
        options.subscribers
    );
    println!(
        "             total: median      min      p10      p90   not sent     seal   seal share"
    );
    let mut floors = Vec::new();
    for run in floor::RUNS {
        for whole in [false, true] {
            if run == 1 && whole {
                continue;
            }
            let floor = floor::measure(&floor::Config {
                machine: machine.clone(),
                run,
                subscribers: options.subscribers,
                whole,
                duration: Duration::try_from_secs_f64(options.seconds).map_err(io::Error::other)?,
            })?;
            print_floor(&floor);
            floors.push(floor);
        }
    }
    println!(
        "cut: the kernel cuts each run up at the receiver, as before a network card without segmentation offload.\n\
         whole: nobody cuts, as before a card that does it by itself; `load` receives like this unless told otherwise."
    );
    match &options.json {
        Some(path) => write_lines(path, &floors),
        None => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn print_floor(floor: &Floor) {
    println!(
        "{:<14}{:>13.0}{:>9.0}{:>9.0}{:>9.0}{:>11.0}{:>9.0}{:>11.0} %",
        floor.scenario,
        floor.total_ns.median,
        floor.total_ns.min,
        floor.total_ns.p10,
        floor.total_ns.p90,
        floor.user_ns.median,
        floor.seal_ns.median,
        floor.seal_ns.median / floor.total_ns.median * 100.0,
    );
}

#[expect(clippy::print_stdout, reason = "the comparison is the output")]
fn run_compare(old: &Path, new: &Path) -> io::Result<()> {
    let text = compare::compare(&record::read(old)?, &record::read(new)?);
    print!("{text}");
    Ok(())
}

fn run_report(results: &[PathBuf], html: &Path) -> io::Result<()> {
    let mut records = Vec::new();
    for path in results {
        records.extend(record::read(path)?);
    }
    fs::write(html, report::page(&records))
}

fn run_micro(arguments: &[String]) -> io::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = process::Command::new(cargo)
        .args(["bench", "-p", "media-bench", "--"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("cargo bench ended with {status}")))
}

fn write_lines<T: serde::Serialize>(path: &Path, lines: &[T]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        writeln!(file)?;
    }
    Ok(())
}
