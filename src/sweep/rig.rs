//! What a sweep runs on: the real pairs, or a simulation of them in tests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::case::{Cell, Receiver};
use crate::error::Result;
use crate::event::Event;
use crate::measure::burst::{calibrate_short, time_short, warm_up};
use crate::pair::{Fault, FaultKind, Instance, Setup, Testbed};
use crate::results::manifest::Injection;
use crate::results::record::Arm;
use crate::sample::{Sample, Seen, Side};

/// What the scheduler needs of the pairs and of the clock. There is one for the real pairs, and one that tests simulate.
pub trait Rig {
    /// One life of an arm's pairs. Dropped, it is closed.
    type Instance<'rig>
    where
        Self: 'rig;

    /// Has the threads of both sides count `events`, in every instance opened from now on.
    fn count(&mut self, events: &[Event]);

    /// Opens an instance of `arm` that is ready for its first burst.
    ///
    /// # Errors
    /// Why there is none. Other instances can go on, unless the rig is no longer alive.
    fn open(&self, arm: Arm) -> Result<Self::Instance<'_>>;

    /// Runs one short burst.
    ///
    /// # Errors
    /// Why there is no sample. The instance has failed; others can go on, unless the rig is no longer alive.
    fn burst(&self, instance: &mut Self::Instance<'_>) -> Result<Sample>;

    /// Whether instances can be opened and run. If not, [`restart`](Self::restart) is due.
    fn is_alive(&self) -> bool;

    /// Starts anew what the instances run on.
    ///
    /// # Errors
    /// What keeps the sweep as a whole from going on.
    fn restart(&mut self) -> Result<()>;

    /// The time since the rig was made.
    fn elapsed(&self) -> Duration;
}

/// The real pairs: a testbed, its instances, and the monotonic clock.
pub struct PairRig<'a> {
    setup: &'a Setup,
    testbed: Testbed,
    planted: Option<FaultKind>,
    made: Instant,
    /// How long a burst is, by cell: the longest that an arm of its first visit needs. Settled once a burst has run.
    burst_durations: RefCell<HashMap<Cell, (Duration, bool)>>,
    injections: Rc<RefCell<Vec<Injection>>>,
}

impl<'a> PairRig<'a> {
    /// Of a testbed that was started with `setup`.
    #[must_use]
    pub fn new(setup: &'a Setup, testbed: Testbed) -> Self {
        Self {
            setup,
            testbed,
            planted: None,
            made: Instant::now(),
            burst_durations: RefCell::default(),
            injections: Rc::default(),
        }
    }

    /// What injections cost in the cells that nobody receives, once measured: each once, on its first instance.
    #[must_use]
    pub fn injections(&self) -> Rc<RefCell<Vec<Injection>>> {
        Rc::clone(&self.injections)
    }

    /// Plants a cost in the control arm, to see whether the sweep finds it.
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted_cost(self, kind: FaultKind) -> Self {
        Self { planted: Some(kind), ..self }
    }
}

/// An instance of the real pairs.
pub struct Opened<'rig> {
    instance: Instance<'rig>,
    /// What the client saw of overwritten messages; the first burst's sample takes it along.
    seen: Option<Seen>,
}

impl Rig for PairRig<'_> {
    type Instance<'rig>
        = Opened<'rig>
    where
        Self: 'rig;

    fn count(&mut self, events: &[Event]) {
        self.testbed.count(events);
    }

    fn open(&self, arm: Arm) -> Result<Opened<'_>> {
        let planted = self.planted.filter(|_| arm.control);
        let fault = planted.map(|kind| Fault { side: Side::Server, pair: 0, at_message: 0, kind });
        let mut instance = self.testbed.open_with_fault(arm.case, fault)?;
        warm_up(&mut instance)?;
        let seen = instance.overwrite()?;
        let cell = arm.case.cell();
        let has_injection =
            |injections: &[Injection]| injections.iter().any(|injection| injection.cell == cell);
        if cell.receiver == Receiver::Sink
            && !has_injection(&self.injections.borrow())
            && let Some(injection_ns) = instance.injection_ns()?
        {
            self.injections.borrow_mut().push(Injection { cell, injection_ns });
        }
        let known = self.burst_durations.borrow().get(&cell).copied();
        if let None | Some((_, false)) = known {
            let duration = calibrate_short(&mut instance)?;
            let longest = known.map_or(duration, |(longest, _)| longest.max(duration));
            self.burst_durations.borrow_mut().insert(cell, (longest, false));
        }
        Ok(Opened { instance, seen })
    }

    fn burst(&self, Opened { instance, seen }: &mut Opened<'_>) -> Result<Sample> {
        let mut durations = self.burst_durations.borrow_mut();
        let (duration, settled) = durations.entry(instance.case().cell()).or_default();
        *settled = true;
        let mut sample = time_short(instance, *duration)?;
        sample.client.seen = seen.take();
        Ok(sample)
    }

    fn is_alive(&self) -> bool {
        self.testbed.is_alive()
    }

    fn restart(&mut self) -> Result<()> {
        self.testbed = Testbed::start(self.setup)?;
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.made.elapsed()
    }
}
