//! What a sweep runs on: the real pairs, or a simulation of them in tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::case::Receiver;
use crate::counters::Frames;
use crate::error::Result;
use crate::event::Event;
use crate::fragments::Told;
use crate::measure::burst::{
    probe_message_ns, short_duration, time, time_after_lead_in, time_short, warm_up,
};
use crate::pair::{Fault, FaultKind, Instance, Mode, Setup, Testbed};
use crate::results::manifest::{HeapPages, Injection};
use crate::results::record::Arm;
use crate::results::stats::median;
use crate::sample::{Sample, Seen, Side};

/// What the scheduler needs of the pairs and of the clock. There is one for the real pairs, and one
/// that tests simulate.
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
    /// Why there is no sample. The instance has failed; others can go on, unless the rig is no
    /// longer alive.
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

/// What the bursts of a [`PairRig`] are like. All are long enough for some messages on each pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bursts {
    /// A sweep's: short, after a lead-in, and with each round trip timed.
    #[default]
    Sweep,
    /// At least so long, after a lead-in, and timed as a whole.
    Whole(Duration),
    /// As `Whole`, but without a lead-in: for a counter that is started and ended around a burst.
    Bare(Duration),
}

/// What instances tell besides the samples: each thing once, of the first that tells it.
#[derive(Debug, Default)]
pub struct Found {
    /// What injections cost, in the cells that nobody receives.
    pub injections: Vec<Injection>,
    /// Where the allocator put the messages of the cases with the layout `heap`.
    pub heap_pages: Vec<HeapPages>,
    /// Packets and fragments of the cases, counted or worked out.
    pub fragments: BTreeMap<String, Told>,
    /// How many connections were closed because they did not say the token of the instance that was
    /// opened.
    pub strangers: u64,
}

/// The real pairs: a testbed, its instances, and the monotonic clock.
pub struct PairRig<'a> {
    setup: &'a Setup,
    testbed: Testbed,
    bursts: Bursts,
    planted: Option<FaultKind>,
    made: Instant,
    /// What a message of each arm takes on a pair, in nanoseconds: of its last life's bursts, and
    /// before the first of a few probes. A cell's bursts are as long as the slowest of its arms
    /// needs.
    message_ns: RefCell<HashMap<Arm, f64>>,
    found: Rc<RefCell<Found>>,
    /// Open while instances are opened whose frames are counted, and closed before the first burst.
    trace: RefCell<Option<Frames>>,
}

impl<'a> PairRig<'a> {
    /// Of a testbed that was started with `setup`.
    pub fn new(setup: &'a Setup, testbed: Testbed) -> Self {
        Self {
            setup,
            testbed,
            bursts: Bursts::default(),
            planted: None,
            made: Instant::now(),
            message_ns: RefCell::default(),
            found: Rc::default(),
            trace: RefCell::default(),
        }
    }

    /// The testbed.
    pub fn testbed(&self) -> &Testbed {
        &self.testbed
    }

    /// Sets what the bursts are like from now on.
    pub fn set_bursts(&mut self, bursts: Bursts) {
        self.bursts = bursts;
    }

    /// What was found out so far besides the samples.
    pub fn found(&self) -> Rc<RefCell<Found>> {
        Rc::clone(&self.found)
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
    rig: &'rig PairRig<'rig>,
    arm: Arm,
    instance: Instance<'rig>,
    message_ns: Vec<f64>,
    /// What the client saw of overwritten messages; the first burst's sample takes it along.
    seen: Option<Seen>,
}

impl Drop for Opened<'_> {
    /// The next life's bursts are as long as this one's would have had to be.
    fn drop(&mut self) {
        if let Some(message_ns) = median(&mut self.message_ns) {
            self.rig.message_ns.borrow_mut().insert(self.arm, message_ns);
        }
    }
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
        let strangers = self.testbed.strangers();
        let opened = self.testbed.open_with_fault(arm.case, fault);
        self.found.borrow_mut().strangers += self.testbed.strangers() - strangers;
        let mut instance = opened?;
        warm_up(&mut instance)?;
        let seen = if self.bursts == Bursts::Sweep { instance.overwrite()? } else { None };
        let (cell, case) = (arm.case.cell(), arm.case.to_string());
        let found = &mut *self.found.borrow_mut();
        if cell.receiver == Receiver::Sink && found.injections.iter().all(|known| known.cell != cell) {
            drop(self.trace.take());
            let injection_ns = instance.injection_ns()?;
            found.injections.extend(injection_ns.map(|injection_ns| Injection { cell, injection_ns }));
        }
        if self.bursts == Bursts::Sweep && !found.fragments.contains_key(&case) {
            let told = instance.fragments(&mut self.trace.borrow_mut())?;
            found.fragments.insert(case.clone(), told);
        }
        if found.heap_pages.iter().all(|heap| heap.case != case)
            && let Some(is_huge) = instance.heap_is_huge()?
        {
            found.heap_pages.push(HeapPages { case, is_huge });
        }
        if !self.message_ns.borrow().contains_key(&arm) {
            let probed_ns = probe_message_ns(&mut instance)?;
            self.message_ns.borrow_mut().insert(arm, probed_ns);
        }
        Ok(Opened { rig: self, arm, instance, message_ns: Vec::new(), seen })
    }

    fn burst(&self, opened: &mut Opened<'_>) -> Result<Sample> {
        drop(self.trace.take());
        let cell = opened.arm.case.cell();
        let slowest_ns = {
            let known = self.message_ns.borrow();
            let of_cell = known.iter().filter(|(arm, _)| arm.case.cell() == cell);
            of_cell.fold(0.0, |slowest: f64, (_, &message_ns)| slowest.max(message_ns))
        };
        let (instance, least) = (&mut opened.instance, short_duration(slowest_ns));
        let mut sample = match self.bursts {
            Bursts::Sweep => time_short(instance, least),
            Bursts::Whole(duration) => time_after_lead_in(instance, duration.max(least), Mode::Time),
            Bursts::Bare(duration) => time(instance, duration.max(least), Mode::Time),
        }?;
        opened.message_ns.push(sample.message_ns());
        sample.client.seen = opened.seen.take();
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
