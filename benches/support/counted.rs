//! Events of the CPU, on the server's threads.

use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::Measurement;
use criterion::{Criterion, Throughput};
use sendpath::case::{Case, ChartAxis, Matrix};
use sendpath::error::Result;
use sendpath::event::Event;
use sendpath::sample::Sample;

use super::perf::EventMeter;
use super::{Meter, iterations_of};

/// What is measured where an event that was asked for is missing.
const INSTEAD: [Event; 2] = [Event::TaskClock, Event::RefCycles];

impl Meter for EventMeter {
    type Measurement = Self;

    fn measurement(&self) -> Self {
        self.clone()
    }

    fn measure(
        &self,
        _x: ChartAxis,
        iterations: u64,
        burst: impl FnOnce() -> Result<Sample>,
    ) -> Result<(u64, Sample)> {
        self.start();
        let sample = burst();
        let count = self.end(()); // also after a failure, so that the next sample starts from zero
        let sample = sample?;
        let scale = iterations as f64 / iterations_of(&sample);
        Ok(((count as f64 * scale).round() as u64, sample))
    }

    fn throughput(&self, case: &Case, x: ChartAxis) -> Option<Throughput> {
        let bytes = case.payload_bytes * case.threads;
        (x == ChartAxis::PayloadBytes).then_some(Throughput::Bytes(bytes as u64))
    }
}

/// A bench of `events`: by size at 1 and 4 pairs, and by number of pairs at 64 KiB.
pub fn main(events: &[Event]) -> ExitCode {
    super::main([Matrix::by_size(), Matrix::by_threads()], |suite, matrices| {
        // All are opened now: before the first case, which makes the server's other threads, and after
        // the client and the supervisor, which are not to be counted.
        suite.counting = true;
        for (event, meter) in open(events) {
            for matrix in matrices {
                let criterion = Criterion::default()
                    .sample_size(10)
                    .warm_up_time(Duration::from_millis(50))
                    .measurement_time(Duration::from_millis(300))
                    .nresamples(5_000);
                suite.run(criterion, &meter, &event.to_string(), matrix);
            }
        }
    })
}

/// Opens what can be opened of `events`, and says what cannot. Where one is missing, what there is
/// instead comes besides, under its own name.
fn open(events: &[Event]) -> Vec<(Event, EventMeter)> {
    let mut meters = Vec::new();
    let mut add = |event| match EventMeter::open(event) {
        Ok(meter) => {
            meters.push((event, meter));
            true
        }
        Err(reason) => {
            eprintln!("{event}: not counted: {reason}");
            false
        }
    };
    let missing = events.iter().filter(|&&event| !add(event)).count();
    if missing > 0 {
        let there: Vec<_> = INSTEAD.into_iter().filter(|&event| add(event)).collect();
        let names: Vec<_> = there.iter().map(ToString::to_string).collect();
        match &names[..] {
            [] => eprintln!("nothing can be counted here: `sendpath doctor` says what would lift that"),
            names => eprintln!("measured instead, under their own names: {}\n", names.join(", ")),
        }
    }
    meters
}
