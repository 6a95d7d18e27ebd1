//! The steps of forwarding one by one, each beside its floor: the least that the same bytes can cost.
//!
//! `cargo bench -p media-bench` prints criterion's figures, which tell regressions, and at the end a table of
//! ratios, for which step and floor were measured in turns. A word on the command line selects by name.

mod beside;
mod forward;
mod governed;
mod handover;
mod packet;
mod runs;
mod srtp;
mod timers;

use std::time::Duration;

use criterion::Criterion;

use beside::Table;

/// Bytes of the packets, in the clear.
const PACKET_LEN: usize = 1_200;

#[expect(clippy::print_stdout, reason = "a bench reports on the terminal")]
fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let mut table = Table::from_arguments();
    srtp::run(&mut criterion, &mut table);
    packet::run(&mut criterion, &mut table);
    runs::run(&mut criterion, &mut table);
    forward::run(&mut criterion, &mut table);
    governed::run(&mut table);
    timers::run(&mut criterion, &mut table);
    handover::run(&mut criterion);
    criterion.final_summary();
    print!("{table}");
}
