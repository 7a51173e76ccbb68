//! A sweep: every cell visited again and again, each time with new instances of all its arms, which then
//! run short bursts in turn, in random order, until the comparisons are precise or the time is over.
//!
//! What a visit measures is on disk before the next round begins. See METHODOLOGY.md for why it is done so.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::counters::Event;
use crate::error::{Error, Result};
use crate::measure::burst::{Sample, calibrate_short, time_short, warm_up};
use crate::pair::{Fault, FaultKind, Instance, Setup, Testbed};
use crate::results::analysis::{Metric, observe};
use crate::results::record::{Arm, Record};
use crate::results::stats::Effect;
use crate::results::store::{Plan, Store};

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
    /// How each arm of the cell stands against the baseline, where that can be said: throughput.
    pub effects: Vec<(Arm, Option<Effect>)>,
    /// An arm that has just failed, and why.
    pub failed: Option<(Arm, &'a str)>,
    /// Cells that are precise.
    pub precise_cells: usize,
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
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
        let generation = records.iter().map(|record| record.generation + 1).max().unwrap_or(0);
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
    ) -> Result<End> {
        let started = Instant::now();
        loop {
            let mut cells: Vec<usize> =
                (0..self.plan.cells.len()).filter(|&cell| !self.is_done(cell)).collect();
            if cells.is_empty() {
                return Ok(End::Precise);
            }
            let mut orders = plan::orders(self.plan, self.generation);
            orders.shuffle(&mut cells);
            for cell in cells {
                if started.elapsed() >= self.options.limit {
                    return Ok(End::Time);
                }
                if interrupted.load(Ordering::Relaxed) {
                    return Ok(End::Interrupted);
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
        let comparisons = self.plan.cells.len() * (arms.len() - 1);
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
        let mut report = |round, effects, failed: Option<(Arm, &str)>, precise_cells| {
            let elapsed = started.elapsed();
            progress(&Progress { generation, cell, round, elapsed, effects, failed, precise_cells });
        };
        let precise_cells = (0..self.plan.cells.len()).filter(|&cell| self.is_done(cell)).count();
        report(0, self.effects(cell), None, precise_cells);

        orders.shuffle(&mut order);
        let mut open = BTreeMap::new();
        for &arm in &order {
            match self.open(arms[arm]) {
                Ok(instance) => drop(open.insert(arm, instance)),
                Err(error) => failures.push((arm, error)),
            }
            if failures.last().is_some_and(is_gone) {
                break;
            }
        }
        let mut messages = self.state[cell].messages;
        for round in 0..ROUNDS {
            orders.shuffle(&mut order);
            let mut records = Vec::new();
            for (position, arm) in order.iter().enumerate() {
                let Some(instance) = open.get_mut(arm) else { continue };
                match burst(instance, &mut messages) {
                    Ok(sample) => records.push(Record {
                        generation,
                        round,
                        position: position as u64,
                        arm: arms[*arm],
                        timed,
                        outcome: Ok(sample),
                    }),
                    Err(error) => {
                        open.remove(arm);
                        failures.push((*arm, error));
                    }
                }
            }
            store.append(&records)?;
            visited.append(&mut records);
            if interrupted.load(Ordering::Relaxed) || open.is_empty() || failures.last().is_some_and(is_gone)
            {
                break;
            }
        }
        drop(open);
        self.state[cell].messages = messages;
        if failures.last().is_some_and(is_gone) {
            self.testbed = Testbed::start(self.setup)?;
        }
        for (arm, error) in failures {
            let error = error.to_string();
            report(0, Vec::new(), Some((arms[arm], &error)), precise_cells);
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
            side: crate::error::Side::Server,
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

    fn effects(&self, cell: usize) -> Vec<(Arm, Option<Effect>)> {
        let arms = plan::arms(self.plan, self.plan.cells[cell]);
        let effect = |(index, arm): (usize, &Arm)| {
            (*arm, self.state[cell].observations.get(&index).and_then(|all| Effect::of(all)))
        };
        arms.iter().enumerate().skip(1).map(effect).collect()
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

/// Whether the client process is gone, and with it every instance.
fn is_gone((_, error): &(usize, Error)) -> bool {
    matches!(error, Error::PeerGone { .. })
}
