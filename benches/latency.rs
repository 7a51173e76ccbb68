//! Wall-clock time of a round trip by number of pairs, at 64 KiB.
//!
//! A group is one chart, such as `rtt/K064`: pairs along the x axis, a line for each path with its
//! layout. An iteration is one round trip on every pair; its time is the mean over pairs, each from
//! its own start to its own end.
//!
//! Criterion knows means and medians of samples, and no percentile of round trips: p50 and p99 are
//! `sendpath sweep`'s, as is which path is the better. Its intervals take all samples of a case for
//! independent.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use support::charts::Charts;
use support::{Pairs, Sampling, iterations_of, timed};

/// Short, since there are many cases. What one run cannot settle, a longer one does:
/// `--sample-size`.
const SAMPLING: Sampling = Sampling { visits: 80, time: Duration::from_millis(640), resamples: 20_000 };

fn main() -> ExitCode {
    support::main([Charts::by_threads()], |pairs, all_charts| {
        let mut criterion = pairs.criterion(SAMPLING, WallTime);
        pairs.record_or_check_baseline("latency");
        // Each on its own pair.
        let round_trips = timed("rtt", |sample| sample.message_ns() * iterations_of(sample));
        for charts in all_charts {
            for group in Pairs::groups("latency", charts) {
                pairs.bench_group(&mut criterion, &round_trips, charts.x, &group, |_| None);
            }
        }
        criterion.final_summary();
    })
}
