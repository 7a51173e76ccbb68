//! A simulated rig with a simulated clock, and many simulated sweeps of each kind: how often is a
//! sweep wrong? A thousand of each are the campaign (`experiments/simulations.sh`), of which
//! `cargo test` runs the first.
//!
//! Everything but the bursts is the real scheduler and the real analysis: which cell is visited, in
//! what order, when it stops, and what is then said of it. The noise is as it was measured on a
//! shared machine (docs/book/src/verdicts.md).

use std::cell::{Cell as Slot, RefCell};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, Normal};

use super::{Options, ROUNDS, Rig, Sweep};
use crate::case::{Case, Cell, Layout, SendPath, Series};
use crate::error::{Error, Result};
use crate::event::{Event, Reading};
use crate::results::analysis::{Analysis, SeriesOutcome, analyse};
use crate::results::crossing::{Crossing, Known, Place};
use crate::results::metric::Metric;
use crate::results::record::{Arm, Record};
use crate::results::store::Plan;
use crate::results::verdict::Verdict;
use crate::sample::{Sample, SideReport};

/// What a burst takes where nothing disturbs it.
pub(crate) const BURST: Duration = Duration::from_millis(4);

/// What a machine does to a burst's time, on the log scale.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Machine {
    /// Noise of 3 % sd that is correlated by one half with that of the burst before, drift of 5 %
    /// over the sweep, stretches of bursts that something else slows down by up to 30 %, and
    /// instances that differ by 0.2 % sd.
    Shared,
    /// The same, and for 10 to 30 % of the time, some tenths of a second at once, all is slower by
    /// 10 to 40 %, and the paths' ratios are shifted by [`SHIFT`].
    TwoStates,
    /// Noise of 0.1 % sd and nothing else.
    Quiet,
}

/// By how much, on the log scale, a path gains on the baseline while the machine is slow.
const SHIFT: f64 = 0.08;
/// How long the machine is slow at once, on average.
const SLOW: Duration = Duration::from_millis(400);

/// How an instance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It does not open.
    Open,
    /// Its n-th burst fails, from 0.
    Burst(u64),
    /// Its n-th burst fails, from 0, and the client process ends.
    Death(u64),
}

/// Which lives of an arm fail, and how. Lives are counted from 0.
type Script = Box<dyn Fn(Arm, u64) -> Option<Failure>>;

/// By how much an arm is faster than the baseline of its cell, as a logarithm.
type Truth = Box<dyn Fn(Case) -> f64>;

/// The machine's two states, as a sweep meets them.
struct Weather {
    slow_share: f64,
    slower: f64,
    is_slow: bool,
    until: Duration,
}

/// Pairs and a clock that exist in numbers alone.
pub(crate) struct SimulatedRig {
    machine: Machine,
    /// How long the sweep will take, which the drift goes by.
    limit: Duration,
    truth: Truth,
    failures: Script,
    /// What is added to the logarithm of an arm's times in one of its lives.
    unsteady: Box<dyn Fn(Arm, u64) -> f64>,
    rng: RefCell<ChaCha8Rng>,
    clock: Slot<Duration>,
    /// The last burst's noise, in units of its standard deviation.
    noise: Slot<f64>,
    weather: RefCell<Weather>,
    /// How many bursts to come are slowed down by something else.
    interference: Slot<u32>,
    events: Vec<Event>,
    lives: RefCell<HashMap<Arm, u64>>,
    alive: Slot<bool>,
    bursts: Slot<u64>,
    pub(super) restarts: u32,
}

pub(crate) struct SimulatedInstance {
    arm: Arm,
    log: f64,
    bursts: u64,
    failure: Option<Failure>,
}

impl SimulatedRig {
    pub(crate) fn new(
        seed: u64,
        machine: Machine,
        limit: Duration,
        truth: impl Fn(Case) -> f64 + 'static,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX); // the scheduler draws its orders from the other streams of this seed
        let weather = Weather {
            slow_share: rng.random_range(0.1..0.3),
            slower: rng.random_range(1.1_f64..1.4).ln(),
            is_slow: false,
            until: Duration::ZERO,
        };
        Self {
            machine,
            limit,
            truth: Box::new(truth),
            failures: Box::new(|_, _| None),
            unsteady: Box::new(|_, _| 0.0),
            rng: RefCell::new(rng),
            clock: Slot::default(),
            noise: Slot::default(),
            weather: RefCell::new(weather),
            interference: Slot::new(0),
            events: Vec::new(),
            lives: RefCell::default(),
            alive: Slot::new(true),
            bursts: Slot::new(0),
            restarts: 0,
        }
    }

    pub(crate) fn failing(self, failures: impl Fn(Arm, u64) -> Option<Failure> + 'static) -> Self {
        Self { failures: Box::new(failures), ..self }
    }

    pub(super) fn unsteady(self, unsteady: impl Fn(Arm, u64) -> f64 + 'static) -> Self {
        Self { unsteady: Box::new(unsteady), ..self }
    }

    /// How many bursts have run.
    pub(crate) fn bursts(&self) -> u64 {
        self.bursts.get()
    }

    fn draw(&self, sd: f64) -> f64 {
        Normal::new(0.0, sd).unwrap().sample(&mut *self.rng.borrow_mut())
    }

    /// What the machine adds to the logarithm of a burst's time.
    fn disturbance(&self, arm: Arm) -> f64 {
        if self.machine == Machine::Quiet {
            return self.draw(0.001);
        }
        let mut rng = self.rng.borrow_mut();
        if self.interference.get() == 0 && rng.random_bool(0.002) {
            self.interference.set(rng.random_range(1..40));
        }
        let hit = if self.interference.get() > 0 { rng.random_range(0.0..0.3) } else { 0.0 };
        drop(rng);
        self.interference.set(self.interference.get().saturating_sub(1));
        self.noise.set(0.5 * self.noise.get() + self.draw(0.75_f64.sqrt()));
        let time = self.clock.get().div_duration_f64(self.limit);
        hit + 0.05 * (time + 0.2 * (time * 40.0).sin()) + 0.03 * self.noise.get() + self.weather(arm)
    }

    /// What the machine's state adds.
    fn weather(&self, arm: Arm) -> f64 {
        if self.machine != Machine::TwoStates {
            return 0.0;
        }
        let (mut weather, mut rng) = (self.weather.borrow_mut(), self.rng.borrow_mut());
        while weather.until <= self.clock.get() {
            let share = weather.slow_share;
            weather.is_slow = !weather.is_slow;
            // The first is as likely slow as any.
            if weather.until.is_zero() {
                weather.is_slow = rng.random_bool(share);
            }
            let mean = if weather.is_slow { SLOW } else { SLOW.mul_f64((1.0 - share) / share) };
            weather.until += mean.mul_f64(Exp::new(1.0).unwrap().sample(&mut *rng));
        }
        if !weather.is_slow {
            return 0.0;
        }
        weather.slower - shift(arm.case)
    }
}

/// By how much a path gains while the machine is slow.
fn shift(case: Case) -> f64 {
    match case.path {
        SendPath::TwoCopy => 0.0,
        SendPath::OneCopy => SHIFT,
        _ => -SHIFT,
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
        let unsteady = (self.unsteady)(arm, *life);
        *life += 1;
        if failure == Some(Failure::Open) {
            return Err(failed());
        }
        let own = if self.machine == Machine::Quiet { 0.0 } else { self.draw(0.002) };
        Ok(SimulatedInstance { arm, log: own + unsteady - (self.truth)(arm.case), bursts: 0, failure })
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
        let elapsed = BURST.mul_f64((instance.log + self.disturbance(instance.arm)).exp());
        self.clock.set(self.clock.get() + elapsed);
        self.bursts.set(self.bursts.get() + 1);
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
        series: [SendPath::TwoCopy, SendPath::OneCopy].map(|path| Series::new(path, Layout::Heap)).into(),
        cells: (0..cells).map(cell).collect::<Vec<Cell>>(),
        only_in: Vec::new(),
    }
}

/// How long `lives` of so many cells with so many arms take.
pub(super) fn time_for(cells: usize, arms: usize, lives: u32) -> Duration {
    BURST * u32::try_from((cells * arms) as u64 * ROUNDS).unwrap() * lives
}

/// Cells, and arms in each: three paths and the control.
const CELLS: usize = 6;
const ARMS: usize = 4;
const SWEEPS: u64 = 1000;

/// Whether the whole campaign runs, which takes minutes.
fn is_campaign() -> bool {
    std::env::var_os("SENDPATH_TEST_CAMPAIGN").is_some()
}

/// How many run of so many simulations, which are seeded by their numbers.
pub(crate) fn first(all: u64) -> u64 {
    if is_campaign() { all } else { all / 5 }
}

/// How far a share of so many draws may lie beyond its bar, since it is of few of those for which
/// the bar was set: three standard errors. That of the campaign may not.
pub(crate) fn slack(bar: f64, draws: u64) -> f64 {
    if is_campaign() { 0.0 } else { 3.0 * (bar * (1.0 - bar) / draws as f64).sqrt() }
}

/// How many sweeps of so many lives are simulated.
fn sweeps(lives: u32) -> u64 {
    first(if lives == 48 { SWEEPS / 4 } else { SWEEPS })
}

/// The slack of a coverage: cells are independent of each other, the paths in a cell are not.
fn slack_of_coverage(bar: f64, lives: u32) -> f64 {
    slack(bar, sweeps(lives) * CELLS as u64)
}

/// A simulated sweep and what is said of it.
struct Simulated {
    plan: Plan,
    rig: SimulatedRig,
    records: Vec<Record>,
}

impl Simulated {
    /// Sweeps for `lives` of each cell, on average, at the end of which there may be time for more.
    fn run(seed: u64, machine: Machine, lives: u32, truth: impl Fn(Case) -> f64 + 'static) -> Self {
        let mut plan = plan(CELLS, seed);
        plan.series.push(Series::new(SendPath::ZeroCopy, Layout::Heap));
        plan.precision = 0.0; // it uses all of its time
        let rig = SimulatedRig::new(seed, machine, time_for(CELLS, ARMS, lives), truth);
        let mut simulated = Self { plan, rig, records: Vec::new() };
        simulated.go_on(lives);
        simulated
    }

    fn go_on(&mut self, lives: u32) {
        let options = Options { limit: time_for(CELLS, ARMS, lives), events: Vec::new() };
        let rig =
            std::mem::replace(&mut self.rig, SimulatedRig::new(0, Machine::Quiet, options.limit, |_| 0.0));
        let mut sweep = Sweep::new(&self.plan, &options, rig, &self.records);
        let mut more = Vec::new();
        let mut take = |records: &[Record]| {
            more.extend_from_slice(records);
            Ok(())
        };
        sweep.run(&mut take, &AtomicBool::new(false), &mut |_| {}).unwrap();
        self.rig = sweep.rig;
        self.records.append(&mut more);
    }

    fn analysis(&self, look: u32) -> Analysis {
        analyse(&self.plan, &self.records, look)
    }

    /// Every comparison with the baseline by throughput, with what it should come to: in the
    /// machine's usual state.
    fn outcomes(&self, analysis: &Analysis) -> Vec<(SeriesOutcome, f64)> {
        let comparisons = analysis.cells.iter().flat_map(|cell| &cell.comparisons);
        let with_baseline = comparisons.filter(|comparison| {
            comparison.metric == Metric::Throughput && comparison.baseline == self.plan.series[0]
        });
        with_baseline
            .map(|comparison| {
                let case = comparison.cell.case(comparison.series);
                (comparison.outcome.clone().unwrap(), (self.rig.truth)(case))
            })
            .collect()
    }
}

/// What many sweeps came to.
#[derive(Debug, Default)]
struct Tally {
    sweeps_with_a_call: usize,
    calls: usize,
    /// Of sweeps that called something, the shares of false calls, added up.
    false_shares: f64,
    intervals: usize,
    covering: usize,
    called_covering: usize,
}

impl Tally {
    fn add(&mut self, outcomes: &[(SeriesOutcome, f64)]) {
        let covers = |(outcome, truth): &&(SeriesOutcome, f64)| {
            (outcome.ratio.low..=outcome.ratio.high).contains(&truth.exp())
        };
        let called: Vec<_> = outcomes.iter().filter(|(outcome, _)| outcome.verdict.is_call()).collect();
        // A call is false where the truth is none, or the other one.
        let is_false = |(outcome, truth): &&&(SeriesOutcome, f64)| outcome.effect.log_mean * truth <= 0.0;
        self.sweeps_with_a_call += usize::from(!called.is_empty());
        self.calls += called.len();
        self.false_shares += called.iter().filter(is_false).count() as f64 / called.len().max(1) as f64;
        self.intervals += outcomes.len();
        self.covering += outcomes.iter().filter(covers).count();
        self.called_covering += called.iter().copied().filter(covers).count();
    }

    fn coverage(&self) -> f64 {
        self.covering as f64 / self.intervals as f64
    }

    fn coverage_of_called(&self) -> f64 {
        self.called_covering as f64 / self.calls.max(1) as f64
    }
}

fn simulate(machine: Machine, lives: u32, truth: impl Fn(Case) -> f64 + Copy + 'static) -> Tally {
    let mut tally = Tally::default();
    for seed in 0..sweeps(lives) {
        let simulated = Simulated::run(seed, machine, lives, truth);
        tally.add(&simulated.outcomes(&simulated.analysis(1)));
    }
    tally
}

/// A cell's number in the plan.
fn index(case: Case) -> u32 {
    (case.payload_bytes / 64).ilog2()
}

/// Differences of 3 to 30 %, as sweeps have them; of every third cell none, where `some_null` is
/// asked for.
fn differences(case: Case, some_null: bool) -> f64 {
    let size = f64::from(index(case) + 1) * 0.05;
    match case.path {
        SendPath::TwoCopy => 0.0,
        _ if some_null && index(case).is_multiple_of(3) => 0.0,
        SendPath::OneCopy => size,
        _ => -size,
    }
}

#[test]
fn of_sweeps_without_a_difference_at_most_5_percent_call_one() {
    for lives in [4, 12, 48] {
        let tally = simulate(Machine::Shared, lives, |_| 0.0);
        let share = tally.sweeps_with_a_call as f64 / sweeps(lives) as f64;
        println!(
            "nothing differs, {lives} lives: {share:.4} of the sweeps have a call; covered {:.4}",
            tally.coverage()
        );
        assert!(share <= 0.05 + slack(0.05, sweeps(lives)), "{lives} lives: {share}");
    }
}

#[test]
fn of_all_calls_at_most_5_percent_are_false_where_a_third_of_the_cells_is_null() {
    for lives in [4, 12, 48] {
        let tally = simulate(Machine::Shared, lives, |case| differences(case, true));
        let share = tally.false_shares / sweeps(lives) as f64;
        println!(
            "a third is null, {lives} lives: {share:.4} of the calls are false; covered {:.4}, of the called {:.4}",
            tally.coverage(),
            tally.coverage_of_called()
        );
        assert!(share <= 0.05 + slack(0.05, sweeps(lives)), "{lives} lives: {share}");
    }
}

#[test]
fn printed_intervals_cover_as_often_as_they_say() {
    for lives in [4, 8, 12, 48] {
        let tally = simulate(Machine::Shared, lives, |case| differences(case, false));
        println!("all differ, {lives} lives: covered {:.4}", tally.coverage());
        let (low, high) = (0.94, 0.965);
        let bars = low - slack_of_coverage(low, lives)..=high + slack_of_coverage(high, lives);
        assert!(bars.contains(&tally.coverage()), "{lives} lives: {tally:?}");
    }
}

#[test]
fn printed_intervals_cover_where_the_machine_has_two_states() {
    let mut coverages = Vec::new();
    for lives in [4, 8, 12, 48] {
        let tally = simulate(Machine::TwoStates, lives, |case| differences(case, false));
        println!("two states, {lives} lives: covered {:.4}", tally.coverage());
        coverages.push((lives, tally.coverage()));
    }
    let reaches = |&(lives, coverage): &(u32, f64)| coverage >= 0.92 - slack_of_coverage(0.92, lives);
    assert!(coverages.iter().all(reaches), "{coverages:?}");
}

#[test]
fn more_time_leaves_no_more_undecided() {
    let mut fewer = 0;
    let sweeps = first(SWEEPS / 2);
    for seed in 0..sweeps {
        let decided = |simulated: &Simulated| {
            let outcomes = simulated.outcomes(&simulated.analysis(1));
            outcomes.iter().filter(|(outcome, _)| outcome.verdict != Verdict::Undecided).count()
        };
        let mut simulated = Simulated::run(seed, Machine::Shared, 8, |case| differences(case, true) / 4.0);
        let before = decided(&simulated);
        simulated.go_on(8);
        fewer += u32::from(decided(&simulated) < before);
    }
    println!("{fewer} of {sweeps} sweeps decide less after twice the time");
    assert!(f64::from(fewer) <= (0.05 + slack(0.05, sweeps)) * sweeps as f64);
}

#[test]
fn who_resumes_until_something_is_called_finds_nothing_more_often_than_5_percent() {
    let mut called = 0;
    let sweeps = first(SWEEPS / 2);
    for seed in 0..sweeps {
        let mut simulated = Simulated::run(seed, Machine::Shared, 6, |_| 0.0);
        for look in 1..=4 {
            let mut tally = Tally::default();
            tally.add(&simulated.outcomes(&simulated.analysis(look)));
            if tally.calls > 0 {
                called += 1;
                break;
            }
            // Each time as much again as there was.
            simulated.go_on(6 << (look - 1));
        }
    }
    println!("{called} of {sweeps} sweeps that went on three times call something where nothing differs");
    assert!(f64::from(called) <= (0.05 + slack(0.05, sweeps)) * sweeps as f64);
}

#[test]
fn the_interval_of_a_planted_crossing_covers_it() {
    // Sizes are 64 B to 2 KiB; the paths cross at 300 bytes.
    let truth = |case: Case| match case.path {
        SendPath::OneCopy => 0.05 * (case.payload_bytes as f64 / 300.0).ln(),
        _ => 0.0,
    };
    let (mut covered, sweeps) = (0, first(2 * SWEEPS));
    for seed in 0..sweeps {
        let simulated = Simulated::run(seed, Machine::Shared, 8, truth);
        let analysis = simulated.analysis(1);
        let points: Vec<_> = analysis
            .cells
            .iter()
            .flat_map(|cell| &cell.comparisons)
            .filter(|comparison| {
                comparison.metric == Metric::Throughput && comparison.series.path == SendPath::OneCopy
            })
            .map(|found| {
                let bytes = found.cell.payload_bytes as f64;
                let ratio = found.outcome.as_ref().unwrap().effect.ratio();
                Known { bytes, ratio, other_ns: 5_000.0 + 0.1 * bytes }
            })
            .collect();
        let Crossing { low, high, .. } = Crossing::of(&points).unwrap();
        covered += u32::from(low <= Place::At(300.0) && Place::At(300.0) <= high);
    }
    let share = f64::from(covered) / sweeps as f64;
    println!("{share:.4} of the crossings' intervals cover what was planted");
    assert!(share >= 0.94 - slack(0.94, sweeps), "{share}");
}
