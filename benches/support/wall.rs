//! Wall-clock time.

use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{Criterion, Throughput};
use sendpath::case::{Case, ChartAxis, Matrix};
use sendpath::error::Result;
use sendpath::sample::Sample;

use super::{Meter, iterations_of};

/// Criterion's clock, over the window that the burst itself takes.
struct Wall;

impl Meter for Wall {
    type Measurement = WallTime;

    fn measurement(&self) -> WallTime {
        WallTime
    }

    fn measure(
        &self,
        x: ChartAxis,
        iterations: u64,
        burst: impl FnOnce() -> Result<Sample>,
    ) -> Result<(Duration, Sample)> {
        let sample = burst()?;
        let iteration_ns = match x {
            ChartAxis::PayloadBytes => sample.elapsed_ns as f64 / iterations_of(&sample),
            ChartAxis::Threads => sample.message_ns(),
        };
        Ok((Duration::from_nanos((iteration_ns * iterations as f64) as u64), sample))
    }

    fn throughput(&self, case: &Case, x: ChartAxis) -> Option<Throughput> {
        let bits = case.payload_bytes * case.threads * 8;
        (x == ChartAxis::PayloadBytes).then_some(Throughput::Bits(bits as u64))
    }
}

/// A wall-clock bench.
pub fn main(metric: &str, matrix: Matrix) -> ExitCode {
    super::main([matrix], |suite, matrices| {
        // Short, since there are many cases; what one run cannot settle, a longer one does.
        let criterion = Criterion::default()
            .sample_size(25)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(2))
            .nresamples(20_000);
        suite.run(criterion, &Wall, metric, &matrices[0]);
    })
}
