//! A sweep: every cell visited again and again, until the comparisons are precise or the time is
//! over.
//!
//! The instances of a cell's arms live for ten rounds, which are spent as five visits of two
//! rounds. Between two visits other cells are visited: what the machine does to a path for a second
//! at a time is then met five times in a life, and not once. In a round every arm runs one short
//! burst, in random order. Counters cost time, so that they are carried in one visit of each cell
//! at the end.
//!
//! What a round measures is on disk before the next begins. docs/book/src/verdicts.md says why it
//! is done so.

mod allocation;
mod life;
pub(crate) mod plan;
pub(crate) mod rig;
mod visits;

#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::event::Event;
use crate::results::metric::Metric;
use crate::results::observation::observe;
use crate::results::record::{Arm, Record};
use crate::results::stats::Effect;
use crate::results::store::Plan;
use life::{Kind, Life, Visited};

pub use life::{ROUNDS, VISITS_PER_LIFE};
pub use rig::{Bursts, Found, PairRig, Rig};
pub use visits::{Visit, Visits};

/// A failed arm is tried again in the next life, because the cause may pass: a shortage of memory,
/// a busy machine. After this many failures in a row it is left alone, because each may take a
/// deadline of some seconds, and the other arms need that time.
const MAX_FAILURES_IN_A_ROW: u32 = 3;

/// Counted visits may go on after the time is over, for as long as the time by this.
const COUNTING_MAY_TAKE: u32 = 10;

/// What a sweep needs to be told besides its plan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long it may take.
    pub limit: Duration,
    /// What is counted, in a visit of its own of each cell.
    pub events: Vec<Event>,
}

/// How an arm stands against the baseline.
pub type Standing = (Arm, Effect);

/// Where a sweep stands.
pub struct Progress<'a> {
    /// The generation, from 0. In each, the instances of the cells that it visits are made anew.
    pub generation: u64,
    /// The cell that is visited, by its number in the plan.
    pub cell: usize,
    /// The round of the instances' life, from 0.
    pub round: u64,
    /// Time that has been used.
    pub elapsed: Duration,
    /// Works out how each arm of the cell stands against the baseline by throughput, from this
    /// cell's rounds alone.
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
    /// Whether a visit with counters was made.
    counted: bool,
    /// Whether no more visits are needed.
    done: bool,
    /// Lives in which something was timed.
    lives: usize,
    /// What it costs.
    cost: Cost,
}

/// What is known of an arm so far. The first of a cell is the baseline, the last the control.
struct ArmState {
    arm: Arm,
    /// The log ratio of throughput to the baseline's, one for each life that was timed.
    observations: Vec<f64>,
    failures_in_a_row: u32,
}

impl ArmState {
    fn is_given_up(&self) -> bool {
        self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW
    }
}

/// What was spent on a cell by this run.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    lives: u32,
    opening: Duration,
    visits: u32,
    visiting: Duration,
}

impl Cost {
    /// Of a life that has so many visits; none before the first.
    fn of_life(&self, visits: u64) -> Option<Duration> {
        (self.lives > 0 && self.visits > 0)
            .then(|| self.opening / self.lives + (self.visiting / self.visits).mul_f64(visits as f64))
    }

    fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.opening += other.opening;
        self.visits += other.visits;
        self.visiting += other.visiting;
    }
}

/// Where the results go, and what ends it.
struct Outside<'o> {
    take: &'o mut dyn FnMut(&[Record]) -> Result<()>,
    interrupted: &'o AtomicBool,
    progress: &'o mut dyn FnMut(&Progress<'_>),
    /// When the run began, on the rig's clock.
    began: Duration,
}

impl Outside<'_> {
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl<'a, R: Rig> Sweep<'a, R> {
    /// A sweep on `rig`. `records` are of the same sweep, if it goes on.
    pub fn new(plan: &'a Plan, options: &'a Options, rig: R, records: &[Record]) -> Self {
        let state = |arm: Arm| ArmState { arm, observations: Vec::new(), failures_in_a_row: 0 };
        let cell_state = |cell| CellState {
            arms: plan::arms(plan, cell).into_iter().map(state).collect(),
            counted: options.events.is_empty(),
            done: false,
            lives: 0,
            cost: Cost::default(),
        };
        let cells = plan.cells.iter().copied().map(cell_state).collect();
        let generation = records.iter().map(|record| record.generation.saturating_add(1)).max().unwrap_or(0);
        let mut sweep = Self { plan, options, rig, cells, generation };
        let mut lives: BTreeMap<(u64, usize), Vec<Record>> = BTreeMap::new();
        for record in records {
            let cell = record.arm.case.cell();
            if let Some(index) = plan.cells.iter().position(|planned| *planned == cell) {
                lives.entry((record.generation, index)).or_default().push(record.clone());
            }
        }
        for ((_, cell), records) in &lives {
            sweep.learn(*cell, records);
        }
        // The cause of a former failure may have passed.
        for cell in &mut sweep.cells {
            cell.arms.iter_mut().for_each(|arm| arm.failures_in_a_row = 0);
        }
        sweep.update_done();
        sweep
    }

    /// Goes on until all comparisons are precise, the time is over, or `interrupted` is set; then
    /// the round is finished first. `take` is given the records of each round when it is over.
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
        let reason = self.run_timed(&mut outside)?;
        self.run_counted(&mut outside)?;
        Ok(if outside.is_interrupted() { StopReason::Interrupted } else { reason })
    }

    fn run_timed(&mut self, outside: &mut Outside<'_>) -> Result<StopReason> {
        loop {
            let left = self.left_for_times(outside);
            let mut cells = allocation::next_cells(&self.cells, left);
            if cells.is_empty() {
                return Ok(StopReason::Precise);
            }
            let mut orders = plan::orders(self.plan.seed, self.generation);
            cells.shuffle(&mut orders);
            for group in plan::groups(&cells, |&cell| plan::arms(self.plan, self.plan.cells[cell]))? {
                let left = self.left_for_times(outside);
                // Its instances are opened and visited once, whatever that takes.
                let least: Duration = group.iter().filter_map(|&cell| self.cells[cell].cost.of_life(1)).sum();
                if left.is_zero() || left < least || outside.is_interrupted() {
                    self.generation += 1; // what was begun of it stands
                    return Ok(StopReason::Time);
                }
                let until = self.rig.elapsed().saturating_add(left);
                self.live(&group, Kind::Timed { until }, &mut orders, outside)?;
            }
            self.update_done();
            self.generation += 1;
        }
    }

    /// The counted visits: one of each cell that has none.
    fn run_counted(&mut self, outside: &mut Outside<'_>) -> Result<()> {
        let mut orders = plan::orders(self.plan.seed, self.generation);
        let mut cells: Vec<usize> = (0..self.cells.len()).filter(|&cell| self.is_to_count(cell)).collect();
        cells.shuffle(&mut orders);
        // The time for them was kept free by an estimate: they may take somewhat longer.
        let limit = self.options.limit.saturating_add(self.options.limit / COUNTING_MAY_TAKE);
        for cell in cells {
            let is_over = self.rig.elapsed().saturating_sub(outside.began) >= limit;
            if is_over || outside.is_interrupted() {
                break;
            }
            self.live(&[cell], Kind::Counted, &mut orders, outside)?;
        }
        Ok(())
    }

    fn is_to_count(&self, cell: usize) -> bool {
        !self.cells[cell].counted && !self.cells[cell].arms.iter().all(ArmState::is_given_up)
    }

    /// How much of the time is left for what is timed: without what the counted visits are likely
    /// to take.
    fn left_for_times(&self, outside: &Outside<'_>) -> Duration {
        let counted = (0..self.cells.len()).filter(|&cell| self.is_to_count(cell));
        let counting: Duration = counted.filter_map(|cell| self.cells[cell].cost.of_life(1)).sum();
        let elapsed = self.rig.elapsed().saturating_sub(outside.began);
        self.options.limit.saturating_sub(counting).saturating_sub(elapsed)
    }

    /// One life of some cells' instances.
    fn live(
        &mut self,
        cells: &[usize],
        kind: Kind,
        orders: &mut ChaCha8Rng,
        outside: &mut Outside<'_>,
    ) -> Result<()> {
        self.rig.count(if matches!(kind, Kind::Timed { .. }) { &[] } else { &self.options.events });
        let tried = |&cell: &usize| -> Vec<Arm> {
            let arms = self.cells[cell].arms.iter().filter(|arm| !arm.is_given_up());
            arms.map(|arm| arm.arm).collect()
        };
        let mut report = |place: usize, round: u64, failed: Option<(Arm, &str)>| {
            let cell = cells[place];
            (outside.progress)(&Progress {
                generation: self.generation,
                cell,
                round,
                elapsed: self.rig.elapsed().saturating_sub(outside.began),
                standing: &|| self.cells[cell].standing(),
                failed,
                done_cells: self.cells.iter().filter(|cell| cell.done).count(),
            });
        };
        let life = Life {
            rig: &self.rig,
            cells: &cells.iter().map(tried).collect::<Vec<_>>(),
            generation: self.generation,
            kind,
            orders,
            take: &mut *outside.take,
            report: &mut report,
            interrupted: outside.interrupted,
        };
        let visited = life.visit_in_turn()?;
        for (&cell, Visited { records, cost }) in cells.iter().zip(&visited) {
            self.learn(cell, records);
            if matches!(kind, Kind::Timed { .. }) {
                self.cells[cell].cost.add(cost);
            }
        }
        if !self.rig.is_alive() {
            self.rig.restart()?;
        }
        Ok(())
    }

    /// Takes in what a life measured.
    fn learn(&mut self, cell: usize, records: &[Record]) {
        let state = &mut self.cells[cell];
        state.counted |= records.iter().any(|record| !record.timed && record.outcome.is_ok());
        state.lives += usize::from(records.iter().any(|record| record.timed && record.outcome.is_ok()));
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

    /// Works out of which cells more visits are needed.
    fn update_done(&mut self) {
        let precise = allocation::precise(&self.cells, self.plan.precision);
        for (cell, is_precise) in self.cells.iter_mut().zip(precise) {
            // Without the baseline, the others are still compared with each other, as long as there
            // is time.
            let baseline = &cell.arms[0];
            let left = cell.judged().chain([baseline]).filter(|arm| !arm.is_given_up()).count();
            cell.done = left < 2 || is_precise && !baseline.is_given_up();
        }
    }
}

impl CellState {
    /// The arms that are held against the baseline. Where there is one path alone, that is its
    /// control.
    fn judged(&self) -> impl Iterator<Item = &ArmState> {
        let control_alone = self.arms.len() == 2;
        self.arms.iter().skip(1).filter(move |arm| control_alone || !arm.arm.control)
    }

    fn standing(&self) -> Vec<Standing> {
        self.judged().filter_map(|arm| Some((arm.arm, Effect::robust(&arm.observations)?))).collect()
    }
}
