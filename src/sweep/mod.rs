//! A sweep: every cell visited again and again, each time with new instances of all its arms, which then
//! run short bursts in turn, in random order, until the comparisons are precise or the time is over.
//!
//! What a visit measures is on disk before the next round begins. See METHODOLOGY.md for why it is done so.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::measure::burst::{calibrate_short, time_short, warm_up};
use crate::pair::{Fault, FaultKind, Instance, Setup, Testbed};
use crate::results::metric::Metric;
use crate::results::observation::observe;
use crate::results::record::{Arm, Record};
use crate::results::stats::{Effect, MARGIN, Verdict, judge};
use crate::results::store::{Plan, Store};
use crate::sample::Sample;

/// Rounds that the instances of a cell live for.
pub const ROUNDS: u64 = 10;
/// One generation of so many carries the counters.
const COUNTED_EVERY: u64 = 6;
/// Generations before which nothing is held to be precise: fewer say too little of their own spread.
const MIN_GENERATIONS: usize = 6;

/// What a sweep needs to be told besides its plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long it may take.
    pub limit: Duration,
    /// What is counted, in generations of its own.
    pub events: Vec<Event>,
    /// A cost that is planted in the control arm, to see whether it is found.
    #[doc(hidden)]
    pub planted: Option<FaultKind>,
}

/// Where a sweep stands.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The generation, from 0.
    pub generation: u64,
    /// The cell that is visited, by its number in the plan.
    pub cell: usize,
    /// The round, from 0.
    pub round: u64,
    /// Time that has been used.
    pub elapsed: Duration,
    /// How each arm of the cell stands against the baseline by throughput, as far as this cell's own rounds say.
    pub standing: Vec<(Arm, Effect, Verdict)>,
    /// An arm that has just failed, and why.
    pub failed: Option<(Arm, &'a str)>,
    /// Cells that are precise.
    pub precise_cells: usize,
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Every comparison is precise.
    Precise,
    /// The time is over.
    Time,
    /// It was told to.
    Interrupted,
}

/// Runs a sweep.
pub struct Sweep<'a> {
    setup: &'a Setup,
    plan: &'a Plan,
    options: &'a Options,
    testbed: Testbed,
    state: Vec<CellState>,
    generation: u64,
}

/// What is known of a cell so far.
#[derive(Default)]
struct CellState {
    /// Messages on every pair in a burst.
    messages: Option<u64>,
    /// An observation of throughput from each generation that was timed.
    observations: BTreeMap<usize, Vec<f64>>,
    counted: bool,
    failed: BTreeSet<usize>,
}

impl<'a> Sweep<'a> {
    /// A sweep on a testbed that was started with `setup`. `records` are of the same sweep, if it goes on.
    #[must_use]
    pub fn new(
        setup: &'a Setup,
        plan: &'a Plan,
        options: &'a Options,
        testbed: Testbed,
        records: &[Record],
    ) -> Self {
        let state = plan.cells.iter().map(|_| CellState::default()).collect();
        let generation = records.iter().map(|record| record.generation.saturating_add(1)).max().unwrap_or(0);
        let mut sweep = Self { setup, plan, options, testbed, state, generation };
        let mut visits: BTreeMap<(u64, usize), Vec<Record>> = BTreeMap::new();
        for record in records {
            let cell = record.arm.case.cell();
            if let Some(index) = plan.cells.iter().position(|planned| *planned == cell) {
                visits.entry((record.generation, index)).or_default().push(record.clone());
            }
        }
        for ((_, cell), records) in &visits {
            sweep.learn(*cell, records);
            // What failed then may do now.
            sweep.state[*cell].failed.clear();
        }
        sweep
    }

    /// Goes on until all is precise, the time is over, or `interrupted` is set; the last ends the round first.
    ///
    /// # Errors
    /// What keeps the sweep as a whole from going on. What a case fails with is a record.
    pub fn run(
        &mut self,
        store: &mut Store,
        interrupted: &AtomicBool,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<StopReason> {
        let started = Instant::now();
        loop {
            let mut cells: Vec<usize> =
                (0..self.plan.cells.len()).filter(|&cell| !self.is_done(cell)).collect();
            if cells.is_empty() {
                return Ok(StopReason::Precise);
            }
            let mut orders = plan::orders(self.plan, self.generation);
            orders.shuffle(&mut cells);
            for cell in cells {
                if started.elapsed() >= self.options.limit {
                    return Ok(StopReason::Time);
                }
                if interrupted.load(Ordering::Relaxed) {
                    return Ok(StopReason::Interrupted);
                }
                self.visit(cell, &mut orders, store, interrupted, started, progress)?;
            }
            self.generation += 1;
        }
    }

    fn is_counted(&self) -> bool {
        !self.options.events.is_empty() && self.generation % COUNTED_EVERY == 1
    }

    /// Whether more visits of a cell are of no use.
    fn is_done(&self, cell: usize) -> bool {
        let state = &self.state[cell];
        let arms = plan::arms(self.plan, self.plan.cells[cell]);
        // As many as are judged together: every two series, and the control.
        let series = arms.len() - 1;
        let comparisons = self.plan.cells.len() * (series * (series - 1) / 2 + 1);
        let precise = |arm: usize| {
            let observations = state.observations.get(&arm).map_or(&[][..], Vec::as_slice);
            observations.len() >= MIN_GENERATIONS
                && Effect::of(observations)
                    .is_some_and(|effect| effect.is_precise(comparisons, self.plan.precision))
        };
        let nothing_to_compare = state.failed.contains(&0) || state.failed.len() + 1 >= arms.len();
        let counted = state.counted || self.options.events.is_empty();
        nothing_to_compare
            || (1..arms.len()).all(|arm| state.failed.contains(&arm) || precise(arm)) && counted
    }

    /// Opens an instance of every arm, and runs the rounds.
    fn visit(
        &mut self,
        cell: usize,
        orders: &mut plan::Orders,
        store: &mut Store,
        interrupted: &AtomicBool,
        started: Instant,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<()> {
        let timed = !self.is_counted();
        self.testbed.count(if timed { &[] } else { &self.options.events });
        let arms = plan::arms(self.plan, self.plan.cells[cell]);
        let mut order: Vec<usize> =
            (0..arms.len()).filter(|arm| !self.state[cell].failed.contains(arm)).collect();
        let mut visited = Vec::new();
        let mut failures: Vec<(usize, Error)> = Vec::new();
        let generation = self.generation;
        let precise_cells = (0..self.plan.cells.len()).filter(|&cell| self.is_done(cell)).count();
        let standing = self.standing(cell);
        let mut report = |round, failed: Option<(Arm, &str)>| {
            let (elapsed, standing) = (started.elapsed(), standing.clone());
            progress(&Progress { generation, cell, round, elapsed, standing, failed, precise_cells });
        };

        orders.shuffle(&mut order);
        let mut open = BTreeMap::new();
        for &arm in &order {
            match self.open(arms[arm]) {
                Ok(instance) => drop(open.insert(arm, instance)),
                Err(error) => {
                    failures.push((arm, error));
                    if !self.testbed.is_alive() {
                        open.clear();
                        break;
                    }
                }
            }
        }
        let mut messages = self.state[cell].messages;
        for round in 0..ROUNDS {
            if open.is_empty() || interrupted.load(Ordering::Relaxed) && round > 0 {
                break;
            }
            report(round, None);
            orders.shuffle(&mut order);
            let mut records = Vec::new();
            for (position, &arm) in order.iter().enumerate() {
                let Some(instance) = open.get_mut(&arm) else { continue };
                let position = position as u64;
                match burst(instance, &mut messages) {
                    Ok(sample) => {
                        let (arm, outcome) = (arms[arm], Ok(sample));
                        records.push(Record { generation, round, position, arm, timed, outcome });
                    }
                    Err(error) => {
                        open.remove(&arm);
                        failures.push((arm, error));
                        // Without the client no other arm can go on, and none of them is to blame.
                        if !self.testbed.is_alive() {
                            open.clear();
                        }
                    }
                }
            }
            store.append(&records)?;
            visited.append(&mut records);
        }
        drop(open);
        self.state[cell].messages = messages;
        if !self.testbed.is_alive() {
            self.testbed = Testbed::start(self.setup)?;
        }
        for (arm, error) in failures {
            let error = error.to_string();
            report(0, Some((arms[arm], &error)));
            let arm = arms[arm];
            let record = Record { generation, round: 0, position: 0, arm, timed, outcome: Err(error) };
            store.append(std::slice::from_ref(&record))?;
            visited.push(record);
        }
        self.learn(cell, &visited);
        Ok(())
    }

    /// Opens an instance, and brings it to where its bursts are alike.
    fn open(&self, arm: Arm) -> Result<Instance<'_>> {
        let fault = self.options.planted.filter(|_| arm.control).map(|kind| Fault {
            side: crate::sample::Side::Server,
            pair: 0,
            at_message: 0,
            kind,
        });
        let mut instance = self.testbed.open_with_fault(arm.case, fault)?;
        warm_up(&mut instance)?;
        Ok(instance)
    }

    /// Takes in what a visit measured.
    fn learn(&mut self, cell: usize, records: &[Record]) {
        let arms = plan::arms(self.plan, self.plan.cells[cell]);
        let state = &mut self.state[cell];
        for record in records {
            match (&record.outcome, arms.iter().position(|arm| *arm == record.arm)) {
                (Err(_), Some(arm)) => drop(state.failed.insert(arm)),
                (Ok(sample), _) => {
                    state.messages.get_or_insert(sample.messages / sample.pairs);
                    state.counted |= !record.timed;
                }
                _ => {}
            }
        }
        for (index, arm) in arms.iter().enumerate().skip(1) {
            if let Some(observation) = observe(records, Metric::Throughput, *arm, arms[0]) {
                state.observations.entry(index).or_default().push(observation);
            }
        }
    }

    fn standing(&self, cell: usize) -> Vec<(Arm, Effect, Verdict)> {
        let arms = plan::arms(self.plan, self.plan.cells[cell]);
        let effect = |arm: usize| Effect::of(self.state[cell].observations.get(&arm)?);
        let control = effect(arms.len() - 1);
        let found: Vec<(Arm, Effect)> =
            (1..arms.len() - 1).filter_map(|arm| Some((arms[arm], effect(arm)?))).collect();
        let verdicts = judge(&found.iter().map(|(_, effect)| (*effect, control)).collect::<Vec<_>>(), MARGIN);
        found.into_iter().zip(verdicts).map(|((arm, effect), verdict)| (arm, effect, verdict)).collect()
    }
}

/// One burst of the cell's length, which the first instance finds for all.
fn burst(instance: &mut Instance<'_>, messages: &mut Option<u64>) -> Result<Sample> {
    let length = match *messages {
        Some(length) => length,
        None => *messages.insert(calibrate_short(instance)?),
    };
    time_short(instance, length)
}
