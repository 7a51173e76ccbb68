//! A sweep: every cell visited again and again, each time with new instances of all its arms, which then
//! run short bursts in turn, in random order, until the comparisons are precise or the time is over.
//!
//! What a visit measures is on disk before the next round begins. METHODOLOGY.md says why it is done so.

pub(crate) mod plan;
pub(crate) mod rig;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::results::metric::Metric;
use crate::results::observation::observe;
use crate::results::record::{Arm, Record};
use crate::results::stats::{Effect, MARGIN, Verdict, judge};
use crate::results::store::Plan;

pub use rig::{PairRig, Rig};

/// Rounds that the instances of a cell live for.
pub const ROUNDS: u64 = 10;
/// One generation in this many carries the counters.
const COUNTED_EVERY: u64 = 6;
/// No comparison is precise before this many generations: fewer say too little about their own spread.
const MIN_GENERATIONS: usize = 6;
/// A failed arm is tried again in the next generation, because the cause may pass: a shortage of memory, a busy
/// machine. After this many failures in a row it is left alone, because each may take a deadline of some
/// seconds, and the other arms need that time.
const MAX_FAILURES_IN_A_ROW: u32 = 3;

/// What a sweep needs to be told besides its plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long it may take.
    pub limit: Duration,
    /// What is counted, in generations of its own.
    pub events: Vec<Event>,
}

/// How an arm stands against the baseline.
pub type Standing = (Arm, Effect, Verdict);

/// Where a sweep stands.
pub struct Progress<'a> {
    /// The generation, from 0.
    pub generation: u64,
    /// The cell that is visited, by its number in the plan.
    pub cell: usize,
    /// The round, from 0.
    pub round: u64,
    /// Time that has been used.
    pub elapsed: Duration,
    /// Works out how each arm of the cell stands against the baseline by throughput, from this cell's rounds alone.
    pub standing: &'a dyn Fn() -> Vec<Standing>,
    /// An arm that has just failed, and why.
    pub failed: Option<(Arm, &'a str)>,
    /// Cells of which no more visits are needed.
    pub done_cells: usize,
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

/// Runs a sweep on a [`Rig`].
pub struct Sweep<'a, R> {
    plan: &'a Plan,
    options: &'a Options,
    rig: R,
    cells: Vec<CellState>,
    generation: u64,
}

/// What is known of a cell so far.
struct CellState {
    arms: Vec<ArmState>,
    /// Whether a generation with counters was measured.
    counted: bool,
    /// Whether no more visits are needed.
    done: bool,
}

/// What is known of an arm so far. The first of a cell is the baseline, the last the control.
struct ArmState {
    arm: Arm,
    /// The log ratio of throughput to the baseline's, one for each generation that was timed.
    observations: Vec<f64>,
    failures_in_a_row: u32,
}

impl ArmState {
    fn is_given_up(&self) -> bool {
        self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW
    }
}

/// What a visit is told, and where its results go.
struct Outside<'o> {
    take: &'o mut dyn FnMut(&[Record]) -> Result<()>,
    interrupted: &'o AtomicBool,
    progress: &'o mut dyn FnMut(&Progress<'_>),
    /// When the run began, on the rig's clock.
    began: Duration,
}

impl<'a, R: Rig> Sweep<'a, R> {
    /// A sweep on `rig`. `records` are of the same sweep, if it goes on.
    #[must_use]
    pub fn new(plan: &'a Plan, options: &'a Options, rig: R, records: &[Record]) -> Self {
        let state = |arm: Arm| ArmState { arm, observations: Vec::new(), failures_in_a_row: 0 };
        let cell_state = |cell| CellState {
            arms: plan::arms(plan, cell).into_iter().map(state).collect(),
            counted: options.events.is_empty(),
            done: false,
        };
        let cells = plan.cells.iter().copied().map(cell_state).collect();
        let generation = records.iter().map(|record| record.generation.saturating_add(1)).max().unwrap_or(0);
        let mut sweep = Self { plan, options, rig, cells, generation };
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
        // The cause of a former failure may have passed.
        for cell in &mut sweep.cells {
            cell.arms.iter_mut().for_each(|arm| arm.failures_in_a_row = 0);
        }
        (0..sweep.cells.len()).for_each(|cell| sweep.update_done(cell));
        sweep
    }

    /// Goes on until all comparisons are precise, the time is over, or `interrupted` is set; then the round is
    /// finished first. `take` is given the records of each round when it is over.
    ///
    /// # Errors
    /// What keeps the sweep as a whole from going on. The failure of an arm is a record.
    pub fn run(
        &mut self,
        take: &mut dyn FnMut(&[Record]) -> Result<()>,
        interrupted: &AtomicBool,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<StopReason> {
        let mut outside = Outside { take, interrupted, progress, began: self.rig.elapsed() };
        loop {
            let mut cells: Vec<usize> =
                (0..self.cells.len()).filter(|&cell| !self.cells[cell].done).collect();
            if cells.is_empty() {
                return Ok(StopReason::Precise);
            }
            let mut orders = plan::orders(self.plan, self.generation);
            orders.shuffle(&mut cells);
            for cell in cells {
                if self.rig.elapsed().saturating_sub(outside.began) >= self.options.limit {
                    return Ok(StopReason::Time);
                }
                if interrupted.load(Ordering::Relaxed) {
                    return Ok(StopReason::Interrupted);
                }
                self.visit(cell, &mut orders, &mut outside)?;
            }
            self.generation += 1;
        }
    }

    fn is_counted(&self) -> bool {
        !self.options.events.is_empty() && self.generation % COUNTED_EVERY == 1
    }

    /// Opens an instance of every arm, and runs the rounds.
    fn visit(&mut self, cell: usize, orders: &mut plan::Orders, outside: &mut Outside<'_>) -> Result<()> {
        let timed = !self.is_counted();
        self.rig.count(if timed { &[] } else { &self.options.events });
        let (generation, state, rig) = (self.generation, &self.cells[cell], &self.rig);
        let arms: Vec<Arm> = state.arms.iter().map(|arm| arm.arm).collect();
        let mut order: Vec<usize> = (0..arms.len()).filter(|&arm| !state.arms[arm].is_given_up()).collect();
        let mut visited = Vec::new();
        let mut failures: Vec<(usize, Error)> = Vec::new();
        let done_cells = self.cells.iter().filter(|cell| cell.done).count();
        let (began, progress) = (outside.began, &mut outside.progress);
        let mut report = |round, failed: Option<(Arm, &str)>| {
            let elapsed = rig.elapsed().saturating_sub(began);
            let standing = &|| state.standing();
            progress(&Progress { generation, cell, round, elapsed, standing, failed, done_cells });
        };

        orders.shuffle(&mut order);
        let mut open = BTreeMap::new();
        for &arm in &order {
            match rig.open(arms[arm]) {
                Ok(instance) => drop(open.insert(arm, instance)),
                Err(error) => {
                    failures.push((arm, error));
                    if !rig.is_alive() {
                        open.clear();
                        break;
                    }
                }
            }
        }
        for round in 0..ROUNDS {
            if open.is_empty() || outside.interrupted.load(Ordering::Relaxed) && round > 0 {
                break;
            }
            report(round, None);
            orders.shuffle(&mut order);
            let mut records = Vec::new();
            for (position, &arm) in order.iter().enumerate() {
                let Some(instance) = open.get_mut(&arm) else { continue };
                let position = position as u64;
                match rig.burst(instance) {
                    Ok(sample) => {
                        let (arm, outcome) = (arms[arm], Ok(sample));
                        records.push(Record { generation, round, position, arm, timed, outcome });
                    }
                    Err(error) => {
                        open.remove(&arm);
                        failures.push((arm, error));
                        // Without the client no other arm can go on; they have not failed.
                        if !rig.is_alive() {
                            open.clear();
                        }
                    }
                }
            }
            (outside.take)(&records)?;
            visited.append(&mut records);
        }
        drop(open);
        for (arm, error) in failures {
            let (arm, error) = (arms[arm], error.to_string());
            report(0, Some((arm, &error)));
            let record = Record { generation, round: 0, position: 0, arm, timed, outcome: Err(error) };
            (outside.take)(std::slice::from_ref(&record))?;
            visited.push(record);
        }
        self.learn(cell, &visited);
        self.update_done(cell);
        if !self.rig.is_alive() {
            self.rig.restart()?;
        }
        Ok(())
    }

    /// Takes in what a visit measured.
    fn learn(&mut self, cell: usize, records: &[Record]) {
        let state = &mut self.cells[cell];
        state.counted |= records.iter().any(|record| !record.timed && record.outcome.is_ok());
        let baseline = state.arms[0].arm;
        for (index, state) in state.arms.iter_mut().enumerate() {
            let mut own = records.iter().filter(|record| record.arm == state.arm).peekable();
            if own.peek().is_none() {
                continue; // it was not tried
            }
            state.failures_in_a_row =
                if own.any(|record| record.outcome.is_err()) { state.failures_in_a_row + 1 } else { 0 };
            if index > 0 {
                state.observations.extend(observe(records, Metric::Throughput, state.arm, baseline));
            }
        }
    }

    /// Works out whether more visits of a cell are needed.
    fn update_done(&mut self, cell: usize) {
        let state = &self.cells[cell];
        // As many as are judged together: every two series, and the control.
        let series = self.plan.series.len();
        let comparisons = self.plan.cells.len() * (series * (series - 1) / 2 + 1);
        let is_precise = |arm: &ArmState| {
            arm.observations.len() >= MIN_GENERATIONS
                && Effect::of(&arm.observations)
                    .is_some_and(|effect| effect.is_precise(comparisons, self.plan.precision))
        };
        let (baseline, others) = (&state.arms[0], &state.arms[1..]);
        let nothing_to_compare = baseline.is_given_up() || others.iter().all(ArmState::is_given_up);
        let done = nothing_to_compare
            || state.counted && others.iter().all(|arm| arm.is_given_up() || is_precise(arm));
        self.cells[cell].done = done;
    }
}

impl CellState {
    fn standing(&self) -> Vec<Standing> {
        let effect = |arm: &ArmState| Effect::of(&arm.observations);
        let (control, arms) =
            self.arms.split_last().map_or((None, &[][..]), |(last, arms)| (effect(last), arms));
        let found: Vec<(Arm, Effect)> =
            arms.iter().skip(1).filter_map(|arm| Some((arm.arm, effect(arm)?))).collect();
        let verdicts = judge(&found.iter().map(|(_, effect)| (*effect, control)).collect::<Vec<_>>(), MARGIN);
        found.into_iter().zip(verdicts).map(|((arm, effect), verdict)| (arm, effect, verdict)).collect()
    }
}
