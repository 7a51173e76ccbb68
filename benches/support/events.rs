//! Events of the CPU, counted on the server's threads.

use sendpath::event::{Event, Reading};
use sendpath::sample::Sample;

use super::perf::EventMeter;
use super::{Metric, Pairs};

/// What is measured where an event that was asked for is missing.
const INSTEAD: [Event; 2] = [Event::TaskClock, Event::RefCycles];

impl Pairs<'_> {
    /// Opens what can be opened of `events`, and says what cannot. Where one is missing, what there
    /// is instead is opened too, under its own name.
    ///
    /// All are to be opened before the first case, which makes the server's other threads. The
    /// client and the supervisor, which are not to be counted, are there already.
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

/// What `meter` counts of `event`, by iteration.
pub fn counted(event: Event, meter: &EventMeter) -> Metric<'_, u64> {
    let count = move |sample: &Sample| sample.server.counters.get(&event).and_then(Reading::value);
    Metric {
        id: id(event),
        meter: Some((event, meter)),
        amount: Box::new(move |sample| count(sample).unwrap_or_default() as f64),
        value: |amount| amount.round() as u64,
    }
}

/// An event's name in ids, for which Criterion's charts have little room.
fn id(event: Event) -> &'static str {
    match event {
        Event::Cycles => "cyc",
        Event::L1dLoadMisses => "l1d",
        Event::LlcLoadMisses => "llc",
        Event::CacheMisses => "mis",
        Event::TaskClock => "clk",
        Event::RefCycles => "tsc",
        other => unreachable!("no bench measures {other}"),
    }
}
