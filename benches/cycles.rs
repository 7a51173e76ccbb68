//! CPU cycles of the server's threads, per message and per byte.
//!
//! A group is one chart: by size at 1 and 4 pairs, such as `cyc/04`, or by number of pairs at 64
//! KiB. Where the machine has no PMU, the task clock and the time stamp counter are measured
//! instead, under their own names.
//!
//! Criterion compares a count with its own past: which path is the better, on both sides, says
//! `sendpath sweep`. Its intervals take all samples of a case for independent. It has no empty cell
//! with a reason: an event that cannot be counted is left out with a line.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Throughput;
use sendpath::case::Case;
use sendpath::event::Event;
use support::charts::{ChartAxis, Charts};
use support::events::counted;
use support::{Pairs, Sampling};

const EVENTS: [Event; 1] = [Event::Cycles];

/// Fewer samples than of time, since a count varies less; and longer ones, since what begins and
/// ends a burst is counted.
const SAMPLING: Sampling = Sampling { visits: 10, time: Duration::from_millis(120), resamples: 5_000 };

fn main() -> ExitCode {
    support::main([Charts::by_size(), Charts::by_threads()], |pairs, all_charts| {
        for (event, meter) in pairs.open_events(&EVENTS) {
            let metric = event.to_string();
            let mut criterion = pairs.criterion(SAMPLING, meter.clone());
            pairs.record_or_check_baseline(&metric);
            for charts in all_charts {
                let per_byte = |case: &Case| (charts.x == ChartAxis::PayloadBytes).then(|| bytes(case));
                for group in Pairs::groups(&metric, charts) {
                    pairs.bench_group(&mut criterion, &counted(event, &meter), charts.x, &group, per_byte);
                }
            }
            criterion.final_summary();
        }
    })
}

/// Payload bytes of an iteration, which is one message on every pair.
fn bytes(case: &Case) -> Throughput {
    Throughput::Bytes((case.payload_bytes * case.threads) as u64)
}
