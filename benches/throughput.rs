//! Wall-clock throughput by message size, at 1 and 4 pairs.
//!
//! A group is one chart, such as `throughput/rr/4T/paired`: sizes along the x axis, a line for each path with its layout.
//! An iteration is one message on every pair; `thrpt` counts payload bits over all pairs.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use sendpath::case::{Case, Matrix};
use sendpath::error::Result;
use sendpath::sample::Sample;
use support::{Burst, Pairs};

fn main() -> ExitCode {
    support::main([Matrix::by_size()], |pairs, matrices| {
        // Short, since there are many cases. What one run cannot settle, a longer one does: `--measurement-time`.
        let mut criterion = Criterion::default()
            .sample_size(25)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(2))
            .nresamples(20_000)
            .configure_from_args();
        pairs.record_or_check_baseline("throughput");
        // Over all pairs.
        let bits = |case: &Case| Some(Throughput::Bits((case.payload_bytes * case.threads * 8) as u64));
        for matrix in matrices {
            for group in Pairs::groups("throughput", matrix) {
                pairs.bench_group(&mut criterion, "throughput", matrix.x, &group, bits, window);
            }
        }
        criterion.final_summary();
    })
}

/// The time of all pairs together, from the first request to the last byte received.
fn window(iterations: u64, burst: Burst<'_>) -> Result<(Duration, Sample)> {
    let sample = burst()?;
    let iteration_ns = sample.elapsed_ns as f64 / support::iterations_of(&sample);
    Ok((Duration::from_nanos((iteration_ns * iterations as f64) as u64), sample))
}
