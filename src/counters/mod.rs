//! What the CPU and the kernel can count of a thread, and how it is read: a [`ThreadCounters`]
//! holds the groups of one thread, and a [`Reading`](crate::event::Reading) is a number or the
//! reason why there is none. [`Frames`] are those that go by at an interface.

mod frames;
mod pmu;
mod reason;
mod thread;

use crate::event::Event;

pub use frames::{Frame, Frames};
pub use pmu::{CorePmu, Pmus};
pub use thread::ThreadCounters;

/// Counts a moment of work with one event, and says why that cannot be done. A PMU that says 0
/// where it cannot be (some hypervisors have one) counts as none.
///
/// # Errors
/// The reason, and what lifts it.
pub fn probe(event: Event) -> Result<(), String> {
    let mut counters = ThreadCounters::of_this_machine(&[event]);
    counters.start();
    std::hint::black_box((0..1_000_000_u64).map(std::hint::black_box).sum::<u64>());
    let readings = counters.stop();
    let Some(reading) = readings.get(&event) else { return Err("it was not read".to_owned()) };
    if let Some(reason) = reading.reason() {
        return Err(reason.to_owned());
    }
    let busy = [Event::Cycles, Event::Instructions, Event::RefCycles, Event::TaskClock].contains(&event);
    if busy && reading.value() == Some(0) {
        return Err(
            "it opens, and stays 0 while a thread runs: the hypervisor's PMU is an empty one".to_owned()
        );
    }
    Ok(())
}
