//! CPU cycles of the server's threads, per message and per byte.
//!
//! A group is one chart: by size at 1 and 4 pairs, such as `cycles/rr/4T/paired`, or by number of pairs at 64 KiB. Where the
//! machine has no PMU, the task clock and the time stamp counter are measured instead, under their own names.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use sendpath::case::{Case, ChartAxis, Matrix};
use sendpath::event::Event;
use support::Pairs;
use support::events::count;

const EVENTS: [Event; 1] = [Event::Cycles];

fn main() -> ExitCode {
    support::main([Matrix::by_size(), Matrix::by_threads()], |pairs, matrices| {
        for (event, meter) in pairs.open_events(&EVENTS) {
            let metric = event.to_string();
            // Fewer samples than of time: a count varies less.
            let mut criterion = Criterion::default()
                .sample_size(10)
                .warm_up_time(Duration::from_millis(50))
                .measurement_time(Duration::from_millis(300))
                .nresamples(5_000)
                .with_measurement(meter.clone())
                .configure_from_args();
            pairs.record_or_check_baseline(&metric);
            for matrix in matrices {
                let per_byte = |case: &Case| (matrix.x == ChartAxis::PayloadBytes).then(|| bytes(case));
                for group in Pairs::groups(&metric, matrix) {
                    pairs.bench_group(
                        &mut criterion,
                        &metric,
                        matrix.x,
                        &group,
                        per_byte,
                        |iterations, burst| count(&meter, iterations, burst),
                    );
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
