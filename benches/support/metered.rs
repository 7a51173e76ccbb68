//! The pairs as the benches run them: as a sweep's, with a counter around each burst where one is
//! given.

use std::time::Duration;

use criterion::measurement::Measurement;
use sendpath::error::Error;
use sendpath::error::Result;
use sendpath::event::{Event, Reading};
use sendpath::results::record::Arm;
use sendpath::sample::Sample;
use sendpath::sweep::Rig;

use super::perf::EventMeter;

/// The pairs, and what counts around each of their bursts. The count is put down as the server's,
/// in the sample.
pub struct Metered<'m, R> {
    pub rig: &'m mut R,
    pub meter: Option<(Event, &'m EventMeter)>,
    /// Whether a counter is open that a new client process would inherit.
    pub counting: bool,
}

impl<R: Rig> Rig for Metered<'_, R> {
    type Instance<'rig>
        = R::Instance<'rig>
    where
        Self: 'rig;

    fn count(&mut self, events: &[Event]) {
        self.rig.count(events);
    }

    fn open(&self, arm: Arm) -> Result<Self::Instance<'_>> {
        self.rig.open(arm)
    }

    fn burst(&self, instance: &mut R::Instance<'_>) -> Result<Sample> {
        let Some((event, meter)) = self.meter else { return self.rig.burst(instance) };
        meter.start();
        let sample = self.rig.burst(instance);
        let value = meter.end(()); // also after a failure, so that the next burst starts from zero
        let mut sample = sample?;
        let reading = Reading::Counted { value, enabled_ns: 0, running_ns: 0 };
        sample.server.counters.insert(event, reading);
        Ok(sample)
    }

    fn is_alive(&self) -> bool {
        self.rig.is_alive()
    }

    fn restart(&mut self) -> Result<()> {
        if self.counting {
            let cause = "the client process is gone, and a new one would be counted with the server";
            return Err(Error::Protocol(cause.to_owned()));
        }
        self.rig.restart()
    }

    fn elapsed(&self) -> Duration {
        self.rig.elapsed()
    }
}
