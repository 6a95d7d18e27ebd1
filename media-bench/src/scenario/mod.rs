//! Troubles of the network, and what must come of them: [`SCENARIOS`].
//!
//! A scenario builds a [`Stage`](crate::model::Stage) from a seed, lets it run, and measures. Each measure may have a
//! [`Budget`]; it is met if the median over seeds is within it. The same seed gives the same measures. `cargo test`
//! asserts budgets for [`FIXED_SEEDS`], `media-bench sim` searches others.

mod cases;
mod measure;
mod report;
mod runner;

use std::time::Duration;

use forwarding::codec::Codec;

use crate::model::VideoConfig;

pub use measure::Budget;
pub use report::{Row, Table};
pub use runner::run_all;

/// Seeds that the tests run. A seed that found something joins them.
pub const FIXED_SEEDS: [u64; 3] = [1, 2, 3];

/// Something measured in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What.
    pub metric: &'static str,
    /// Of the value; empty for shares and counts.
    pub unit: &'static str,
    /// Infinite if it never happened.
    pub value: f64,
    /// What it should be.
    pub budget: Budget,
}

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In the order of the table.
    pub measures: Vec<Measure>,
    /// What happened, a line each.
    pub timeline: Vec<String>,
}

/// A trouble of the network.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// For the command line.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    run: fn(u64) -> Outcome,
}

impl Scenario {
    /// Runs it.
    pub fn run(&self, seed: u64) -> Outcome {
        (self.run)(seed)
    }

    /// By its name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

macro_rules! scenarios {
    ($($name:literal, $run:expr, $about:literal;)*) => {
        /// All of them.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario { name: $name, about: $about, run: $run },)*];
    };
}

scenarios! {
    "steady-100k", |seed| cases::steady_small(seed, 100_000), "one camera over 100 kbit/s";
    "steady-300k", |seed| cases::steady_small(seed, 300_000), "one camera over 300 kbit/s";
    "steady-500k", |seed| cases::steady(seed, 500_000), "four cameras over 500 kbit/s";
    "steady-1m", |seed| cases::steady(seed, 1_000_000), "four cameras over 1 Mbit/s";
    "steady-2m", |seed| cases::steady(seed, 2_000_000), "four cameras over 2 Mbit/s";
    "steady-5m", |seed| cases::steady(seed, 5_000_000), "four cameras over 5 Mbit/s";
    "step-vp8", |seed| cases::step(seed, Codecs::Vp8), "3 Mbit/s, 300 kbit/s from 20 s, 3 Mbit/s from 40 s; VP8 simulcast";
    "step-vp9", |seed| cases::step(seed, Codecs::Vp9), "the same with VP9 SVC (L3T3_KEY)";
    "step-av1", |seed| cases::step(seed, Codecs::Av1), "the same with AV1 SVC (L3T3_KEY)";
    "loss-1", |seed| cases::loss(seed, 0.01), "1 % random loss towards the viewer, round trip 80 ms";
    "loss-5", |seed| cases::loss(seed, 0.05), "5 % random loss";
    "loss-10", |seed| cases::loss(seed, 0.10), "10 % random loss";
    "loss-20", |seed| cases::loss(seed, 0.20), "20 % random loss";
    "loss-10-both", cases::loss_both, "10 % random loss both ways: requests are lost, too";
    "loss-burst", cases::loss_burst, "bursts of five packets, 5 % in all";
    "loss-uplink", cases::loss_uplink, "5 % random loss from the publisher, three viewers";
    "jitter-200", cases::jitter, "200 ms of jitter, order kept";
    "reorder", cases::reorder, "5 % of the packets overtaken by those of 30 ms, 1 % doubled";
    "bufferbloat", cases::bufferbloat, "1 Mbit/s behind a queue of two seconds";
    "nine-streams", cases::nine_streams, "nine cameras over 3 Mbit/s, a connection each, one participant";
    "two-viewers", |seed| cases::two_viewers(seed, VideoConfig::simulcast()), "300 kbit/s and 5 Mbit/s watch together";
    "two-viewers-vp9", |seed| cases::two_viewers(seed, VideoConfig::small(Codec::Vp9)), "the same with VP9 SVC (L3T3_KEY) at 15 frames per second, of which the encoder leaves some out";
    "two-viewers-av1", |seed| cases::two_viewers(seed, VideoConfig::small(Codec::Av1)), "the same with AV1 SVC (L3T3_KEY)";
    "join-middle", cases::join_middle, "a viewer joins after ten seconds";
    "join-100", cases::join_storm, "a hundred viewers join in one second";
    "new-resolution", cases::new_resolution, "the publisher changes its resolution, and back";
    "layer-stops", cases::layer_stops, "the publisher stops its best layer, and goes on";
    "small-uplink", cases::small_uplink, "the publisher's own path falls to 500 kbit/s, and recovers";
    "feedback-lost", cases::feedback_lost, "30 % of what the viewer sends is lost";
    "cellular", cases::cellular, "a rate that changes twice a second between 0.4 and 3 Mbit/s";
    "switches", cases::switches, "4 Mbit/s and 700 kbit/s in turns, every ten seconds";
    "sizes-chosen", cases::sizes_chosen, "a viewer with 5 Mbit/s chooses another size every two seconds";
    "old-viewer", cases::old_viewer, "a viewer with REMB only over 1 Mbit/s";
}

/// How a camera is encoded in a scenario that exists for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codecs {
    Vp8,
    Vp9,
    Av1,
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
