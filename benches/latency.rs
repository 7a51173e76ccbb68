//! Wall-clock time of a round trip by number of pairs, at 64 KiB.
//!
//! A group is one chart, such as `latency/rr/65536B/paired`: pairs along the x axis, a line for each path with its layout.
//! An iteration is one round trip on every pair; its time is the mean over pairs, each from its own start to its own
//! end.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use sendpath::case::Matrix;
use sendpath::error::Result;
use sendpath::sample::Sample;
use support::{Burst, Pairs};

fn main() -> ExitCode {
    support::main([Matrix::by_threads()], |pairs, matrices| {
        // Short, since there are many cases. What one run cannot settle, a longer one does: `--measurement-time`.
        let mut criterion = Criterion::default()
            .sample_size(25)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(2))
            .nresamples(20_000)
            .configure_from_args();
        pairs.record_or_check_baseline("latency");
        for matrix in matrices {
            for group in Pairs::groups("latency", matrix) {
                pairs.bench_group(&mut criterion, "latency", matrix.x, &group, |_| None, round_trip);
            }
        }
        criterion.final_summary();
    })
}

/// The mean time of a round trip on its own pair.
fn round_trip(iterations: u64, burst: Burst<'_>) -> Result<(Duration, Sample)> {
    let sample = burst()?;
    Ok((Duration::from_nanos((sample.message_ns() * iterations as f64) as u64), sample))
}
