//! The benchmark program: what the media path costs, beside what it must cost at least.
//!
//! `media-bench --help` lists the commands; `floor` and `load` are the modules to read first.

mod floor;
mod load;
mod machine;
mod record;
mod table;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use floor::Floor;
use machine::Machine;

#[derive(Debug, Parser)]
#[command(name = "media-bench", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The bare loop that no server can beat: open, rewrite, seal and send, in ns of CPU per packet.
    Floor(FloorOptions),
    /// A real server under the load of simulated participants.
    Load(load::Options),
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
        Command::Load(options) => load::command(&options).map(drop),
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

fn write_lines<T: serde::Serialize>(path: &Path, lines: &[T]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        writeln!(file)?;
    }
    Ok(())
}
