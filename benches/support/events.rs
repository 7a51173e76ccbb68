//! Events of the CPU, counted on the server's threads.

use criterion::measurement::Measurement;
use sendpath::error::Result;
use sendpath::event::Event;
use sendpath::sample::Sample;

use super::perf::EventMeter;
use super::{Burst, Pairs, iterations_of};

/// What is measured where an event that was asked for is missing.
const INSTEAD: [Event; 2] = [Event::TaskClock, Event::RefCycles];

impl Pairs {
    /// Opens what can be opened of `events`, and says what cannot. Where one is missing, what there is instead
    /// is opened too, under its own name.
    ///
    /// All are to be opened before the first case, which makes the server's other threads. The client and the
    /// supervisor, which are not to be counted, are there already.
    pub fn open_events(&mut self, events: &[Event]) -> Vec<(Event, EventMeter)> {
        self.counting = true;
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
}

/// The count of a burst, scaled to `iterations`.
pub fn count(meter: &EventMeter, iterations: u64, burst: Burst<'_>) -> Result<(u64, Sample)> {
    meter.start();
    let sample = burst();
    let count = meter.end(()); // also after a failure, so that the next sample starts from zero
    let sample = sample?;
    let scale = iterations as f64 / iterations_of(&sample);
    Ok(((count as f64 * scale).round() as u64, sample))
}
