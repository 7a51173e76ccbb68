//! Wall-clock throughput by message size, at 1 and 4 pairs.
//!
//! A group is one chart, such as `bw/04`: sizes along the x axis, a line for each path with its
//! layout. An iteration is one message on every pair; `thrpt` is of the payload of all pairs.
//!
//! Criterion compares a case with its own past: which path is the better, with an interval, says
//! `sendpath sweep`. Its intervals take all samples of a case for independent. Its charts draw the
//! mean, and no spread.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Throughput;
use sendpath::case::Case;
use support::charts::Charts;
use support::clock::WallClock;
use support::{Pairs, Sampling, timed};

/// Short, since there are many cases. What one run cannot settle, a longer one does:
/// `--sample-size`.
const SAMPLING: Sampling = Sampling { visits: 80, time: Duration::from_millis(640), resamples: 20_000 };

fn main() -> ExitCode {
    support::main([Charts::by_size()], |pairs, all_charts| {
        let mut criterion = pairs.criterion(SAMPLING, WallClock);
        pairs.record_or_check_baseline("throughput");
        // The time of all pairs together, from the first request to the last byte received.
        let window = timed("bw", |sample| sample.elapsed_ns as f64);
        // Over all pairs.
        let bytes = |case: &Case| Some(Throughput::Bytes((case.payload_bytes * case.threads) as u64));
        for charts in all_charts {
            for group in Pairs::groups("throughput", charts) {
                pairs.bench_group(&mut criterion, &window, charts.x, &group, bytes);
            }
        }
        criterion.final_summary();
    })
}
