//! A simulated rig with a simulated clock, and a thousand simulated sweeps: how often is a verdict wrong?
//!
//! Everything but the bursts is the real scheduler: which cell is visited, in what order, when it stops.

use std::cell::{Cell as Slot, RefCell};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::{Options, ROUNDS, Rig, Sweep};
use crate::case::{Case, Cell, Layout, SendPath};
use crate::error::{Error, Result};
use crate::event::{Event, Reading};
use crate::results::record::Arm;
use crate::results::stats::{Effect, MARGIN, Verdict, judge};
use crate::results::store::Plan;
use crate::sample::{Sample, SideReport};

/// What a burst takes where nothing disturbs it.
pub(super) const BURST: Duration = Duration::from_millis(4);

/// What a machine does to a burst's time, on the log scale.
#[derive(Clone, Copy)]
pub(super) enum Machine {
    /// Noise of 3 % sd, drift of 5 % over the sweep, and stretches of bursts that something else slows down by up to
    /// 30 %. Instances differ by 0.2 % sd, or sit in one of two states that are `states` apart.
    Shared { states: Option<f64> },
    /// Noise of 0.1 % sd and nothing else.
    Quiet,
}

/// How an instance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not open.
    Open,
    /// Its n-th burst fails, from 0.
    Burst(u64),
    /// Its n-th burst fails, from 0, and the client process ends.
    Death(u64),
}

/// Which lives of an arm fail, and how. Lives are counted from 0.
type Script = Box<dyn Fn(Arm, u64) -> Option<Failure>>;

/// Pairs and a clock that exist in numbers alone.
pub(super) struct SimulatedRig {
    machine: Machine,
    /// How long the sweep will take, which the drift goes by.
    limit: Duration,
    /// How much faster `one_copy` is than `two_copy`, as a logarithm.
    true_log: f64,
    failures: Script,
    rng: RefCell<ChaCha8Rng>,
    clock: Slot<Duration>,
    /// How many bursts to come are slowed down by something else.
    interference: Slot<u32>,
    events: Vec<Event>,
    lives: RefCell<HashMap<Arm, u64>>,
    alive: Slot<bool>,
    pub(super) restarts: u32,
}

pub(super) struct SimulatedInstance {
    log: f64,
    bursts: u64,
    failure: Option<Failure>,
}

impl SimulatedRig {
    pub(super) fn new(seed: u64, machine: Machine, limit: Duration, true_log: f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX); // the scheduler draws its orders from the other streams of this seed
        Self {
            machine,
            limit,
            true_log,
            failures: Box::new(|_, _| None),
            rng: RefCell::new(rng),
            clock: Slot::default(),
            interference: Slot::new(0),
            events: Vec::new(),
            lives: RefCell::default(),
            alive: Slot::new(true),
            restarts: 0,
        }
    }

    pub(super) fn failing(self, failures: impl Fn(Arm, u64) -> Option<Failure> + 'static) -> Self {
        Self { failures: Box::new(failures), ..self }
    }

    fn noise(&self, sd: f64) -> f64 {
        Normal::new(0.0, sd).unwrap().sample(&mut *self.rng.borrow_mut())
    }

    /// What the machine adds to the logarithm of a burst's time.
    fn disturbance(&self) -> f64 {
        let Machine::Shared { .. } = self.machine else { return self.noise(0.001) };
        let mut rng = self.rng.borrow_mut();
        if self.interference.get() == 0 && rng.random_bool(0.002) {
            self.interference.set(rng.random_range(1..40));
        }
        let hit = if self.interference.get() > 0 { rng.random_range(0.0..0.3) } else { 0.0 };
        drop(rng);
        self.interference.set(self.interference.get().saturating_sub(1));
        let time = self.clock.get().div_duration_f64(self.limit);
        hit + 0.05 * (time + 0.2 * (time * 40.0).sin()) + self.noise(0.03)
    }
}

fn failed() -> Error {
    Error::Protocol("simulated".to_owned())
}

impl Rig for SimulatedRig {
    type Instance<'rig> = SimulatedInstance;

    fn count(&mut self, events: &[Event]) {
        self.events = events.to_vec();
    }

    fn open(&self, arm: Arm) -> Result<SimulatedInstance> {
        assert!(self.alive.get(), "a dead rig was asked for an instance");
        let mut lives = self.lives.borrow_mut();
        let life = lives.entry(arm).or_insert(0);
        let failure = (self.failures)(arm, *life);
        *life += 1;
        if failure == Some(Failure::Open) {
            return Err(failed());
        }
        let own = match self.machine {
            Machine::Shared { states: Some(apart) } => {
                if self.rng.borrow_mut().random_bool(0.5) {
                    apart
                } else {
                    0.0
                }
            }
            Machine::Shared { states: None } => self.noise(0.002),
            Machine::Quiet => 0.0,
        };
        let path = if arm.case.path == SendPath::OneCopy { self.true_log } else { 0.0 };
        Ok(SimulatedInstance { log: own - path, bursts: 0, failure })
    }

    fn burst(&self, instance: &mut SimulatedInstance) -> Result<Sample> {
        assert!(self.alive.get(), "a dead rig was asked for a burst");
        let burst = instance.bursts;
        instance.bursts += 1;
        if instance.failure == Some(Failure::Death(burst)) {
            self.alive.set(false);
            return Err(failed());
        }
        if instance.failure == Some(Failure::Burst(burst)) {
            return Err(failed());
        }
        let elapsed = BURST.mul_f64((instance.log + self.disturbance()).exp());
        self.clock.set(self.clock.get() + elapsed);
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap();
        let counters = self
            .events
            .iter()
            .map(|&event| (event, Reading::Counted { value: 1, enabled_ns: 1, running_ns: 1 }));
        let server = SideReport { counters: counters.collect(), ..SideReport::default() };
        let client = SideReport { pairs_ns: elapsed_ns, ..SideReport::default() };
        Ok(Sample { elapsed_ns, messages: 1000, pairs: 1, server, client })
    }

    fn is_alive(&self) -> bool {
        self.alive.get()
    }

    fn restart(&mut self) -> Result<()> {
        self.alive.set(true);
        self.restarts += 1;
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.clock.get()
    }
}

/// `two_copy` and `one_copy` at so many sizes.
pub(super) fn plan(cells: usize, seed: u64) -> Plan {
    let cell = |index: usize| Case { payload_bytes: 64 << index, ..Case::default() }.cell();
    Plan {
        profile: "simulated".to_owned(),
        seed,
        precision: 0.01,
        series: vec![(SendPath::TwoCopy, Layout::Heap), (SendPath::OneCopy, Layout::Heap)],
        cells: (0..cells).map(cell).collect::<Vec<Cell>>(),
    }
}

/// How long `generations` of so many cells with two arms and a control take.
pub(super) fn time_for(cells: usize, generations: u32) -> Duration {
    BURST * u32::try_from(cells as u64 * 3 * ROUNDS).unwrap() * generations
}

const CELLS: usize = 4;
const SWEEPS: u64 = 1000;

/// What share of the comparisons was called faster and slower; and what share of all intervals, of comparisons and
/// controls, covers the truth.
struct Shares {
    faster: f64,
    slower: f64,
    covered: f64,
}

fn simulate(true_log: f64, generations: u32, states: Option<f64>) -> Shares {
    let (mut faster, mut slower, mut covered) = (0, 0, 0);
    let options = Options { limit: time_for(CELLS, generations), events: Vec::new() };
    let never = AtomicBool::new(false);
    for seed in 0..SWEEPS {
        let plan = plan(CELLS, seed);
        let rig = SimulatedRig::new(seed, Machine::Shared { states }, options.limit, true_log);
        let mut sweep = Sweep::new(&plan, &options, rig, &[]);
        sweep.run(&mut |_| Ok(()), &never, &mut |_| {}).unwrap();
        let effect = |cell: usize, arm: usize| Effect::of(&sweep.cells[cell].arms[arm].observations);
        let effects: Vec<_> = (0..CELLS).map(|cell| (effect(cell, 1).unwrap(), effect(cell, 2))).collect();
        for (verdict, (effect, control)) in judge(&effects, MARGIN).into_iter().zip(&effects) {
            faster += u32::from(verdict == Verdict::Faster);
            slower += u32::from(verdict == Verdict::Slower);
            for (effect, truth) in [(*effect, true_log), (control.unwrap(), 0.0)] {
                let ratio = effect.ratio();
                covered += u32::from((ratio.low..=ratio.high).contains(&truth.exp()));
            }
        }
    }
    let comparisons = SWEEPS as f64 * CELLS as f64;
    let share = |count: u32| f64::from(count) / comparisons;
    Shares { faster: share(faster), slower: share(slower), covered: share(covered) / 2.0 }
}

/// Holds sweeps without a true difference to at most 1 % of false calls, and to intervals that are as sure as they say.
fn assert_no_false_calls(generations: u32, states: Option<f64>) {
    let Shares { faster, slower, covered } = simulate(0.0, generations, states);
    println!("{generations} generations: called {:.4}, covered {covered:.4}", faster + slower);
    assert!(faster + slower <= 0.01, "called {}", faster + slower);
    assert!((0.93..=0.97).contains(&covered), "covered {covered}");
}

#[test]
fn of_1000_sweeps_without_a_difference_at_most_1_percent_is_called() {
    assert_no_false_calls(96, None);
}

#[test]
fn of_1000_short_sweeps_without_a_difference_at_most_1_percent_is_called() {
    assert_no_false_calls(12, None);
}

#[test]
fn of_1000_sweeps_a_true_1_percent_is_found_in_95_percent() {
    let Shares { faster, slower, covered } = simulate(0.01_f64.ln_1p(), 96, None);
    println!("found {faster:.4}, the wrong way {slower:.4}, covered {covered:.4}");
    assert!(faster >= 0.95, "found {faster}");
    assert!(slower <= 0.01, "called the wrong way {slower}");
    assert!((0.93..=0.97).contains(&covered), "covered {covered}");
}

#[test]
fn instances_in_two_states_do_not_make_false_calls() {
    for generations in [4, 12, 96] {
        assert_no_false_calls(generations, Some(0.015));
    }
}
