//! The numbers that decide how a [`SendEstimator`](super::SendEstimator) behaves. Those of its parts are with them.

use crate::rate::Bitrate;

/// Of the rate that arrives while the queue is full, what is sent on. Too low → capacity is wasted at every decrease;
/// too high → queues drain slowly.
pub(super) const DECREASE: f64 = 0.85;
/// A queue of this length is still drained by [`DECREASE`] alone, ms; a longer one costs another
/// hundredth per [`DRAIN_MS_PER_PERCENT`], down to [`DECREASE_MIN`].
pub(super) const QUEUE_SHORT_MS: f64 = 50.0;
pub(super) const DRAIN_MS_PER_PERCENT: f64 = 4.0;
pub(super) const DECREASE_MIN: f64 = 0.1;

/// Queue without which a growing delay is noise, ms.
pub(super) const QUEUE_GROWING_MS: f64 = 20.0;
/// Of what the bottleneck lets through, the rate up to which a growing queue is a burst's. Too low → each key frame costs
/// a decrease; too high → queues grow.
pub(super) const BURST: f64 = 0.95;
/// Queue that is too long even if it does not grow, ms, besides the noise of the path.
pub(super) const QUEUE_STANDING_MS: f64 = 45.0;
/// Queue that is too long at once, ms, besides the noise of the path.
pub(super) const QUEUE_LONG_MS: f64 = 100.0;
/// A usual packet, and the longest that it counts for. Too low → large packets on slow paths look like a queue; too high →
/// queues on slow paths are found late.
pub(super) const PACKET_BYTES: f64 = 1_000.0;
pub(super) const PACKET_MS_MAX: f64 = 40.0;
/// Queue that counts as drained, ms.
pub(super) const QUEUE_DRAINED_MS: f64 = 10.0;

/// What is left of a queue after a round trip without making another decrease necessary. Too low → it drains slowly; too
/// high → the rate falls with what arrives, and what arrives with the rate.
pub(super) const DRAIN_PROGRESS: f64 = 0.8;
/// Time that a queue has to drain, as a factor. Too low → one that drains is called noise; too high → paths that vary
/// stay narrow for as long.
pub(super) const DRAIN_PATIENCE: f64 = 2.0;
/// Longest time to wait for a queue to drain. If it stands longer, it is others' or the path's.
pub(super) const DRAIN_MICROS_MAX: i64 = 3_000_000;

/// Where the rate returns to after draining, of the capacity found. Too low → capacity is unused; too high → flows that
/// share a bottleneck keep what they had when they met.
pub(super) const RETURN: f64 = 0.92;

/// Of the rate after draining, what a rate is while a short queue drains. Too low → what is too much waits long in the
/// pacer; too high → pictures become worse for each short queue, and better again at the cost of a key frame.
pub(super) const DRAIN_SHORT: f64 = 0.85;

/// Packets that wait leave faster than the estimate by this factor, and by this if the bottleneck is known to be no
/// faster. Too low → every frame waits until the next; too high → bursts queue at the bottleneck instead.
pub(super) const PACE: f64 = 1.5;
pub(super) const PACE_MIN: f64 = 1.05;

/// Growth per second: far below the known capacity, close to it, beyond it or where none is known. Too low → capacity
/// is unused; too high → queues.
pub(super) const GROWTH_BELOW: f64 = 0.25;
pub(super) const GROWTH_NEAR: f64 = 0.02;
pub(super) const GROWTH_BEYOND: f64 = 0.10;
/// Rate at which [`GROWTH_NEAR`] holds, bits per second; it is more for smaller ones.
pub(super) const GROWTH_NEAR_AT: f64 = 1_000_000.0;
/// Shares of the known capacity where "close" begins and ends.
pub(super) const NEAR_FROM: f64 = 0.92;
pub(super) const NEAR_TO: f64 = 1.08;
/// Growth per second at least.
pub(super) const GROWTH_MIN: Bitrate = Bitrate(4_000);

/// Share of the rate that must be used for it to grow beyond the capacity that was found. Too low → it grows where nothing
/// is tried; too high → it stays where a path has become better.
pub(super) const USED: f64 = 0.75;

/// The rate exceeds what arrives by no more than this factor by growth alone: what is not used is not known.
pub(super) const UNUSED: f64 = 1.5;

/// Loss of the path itself that is made up for at most.
pub(super) const LOSS_FLOOR_MAX: f64 = 0.5;

/// First probes, as factors of the start, and the factor of each that follows a success.
pub(super) const PROBE_FIRST: [f64; 2] = [3.0, 6.0];
pub(super) const PROBE_NEXT: f64 = 2.0;
/// A probe's result that exceeds the known capacity by this factor must be found twice. Too low → a path that has become
/// better is used later; too high → packets that came together by chance are taken for a fast path, which floods a slow one.
pub(super) const DOUBTED_FROM: f64 = 1.2;
/// Time between probes, µs: from the first on, growing while they find nothing. Too low → each that fails leaves a
/// short queue; too high → a path that has become better is not noticed.
pub(super) const PROBE_INTERVAL: i64 = 2_000_000;
pub(super) const PROBE_INTERVAL_MAX: i64 = 4_500_000;
pub(super) const PROBE_INTERVAL_GROWTH: f64 = 1.5;
/// Time after a probe in which a short queue is of its making, µs.
pub(super) const PROBE_ECHO: i64 = 150_000;
/// Longest queue of a probe's making, ms.
pub(super) const PROBE_ECHO_MS: f64 = 80.0;

/// Silence of the receivers, while packets are in flight, after which the rate falls, µs, and by what. Too low →
/// feedback that is lost now and then costs quality; too high → a dead path is flooded.
pub(super) const SILENCE_MICROS: i64 = 500_000;
pub(super) const SILENCE_FACTOR: f64 = 0.7;

/// Time that receivers collect reports, ms (libwebrtc: 50 to 250).
pub(super) const REPORT_MS: f64 = 100.0;

/// Round trips believed at most, µs.
pub(super) const RTT_MICROS_MAX: i64 = 2_000_000;
pub(super) const RTT_MICROS_START: i64 = 100_000;
