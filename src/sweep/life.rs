//! One life of some cells' instances: opened together, visited in turn, closed together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Cost, Rig};
use crate::error::{Error, Result};
use crate::results::record::{Arm, ROUNDS_PER_VISIT, Record};
use crate::sample::Sample;

/// Visits that the instances of a cell live for.
pub const VISITS_PER_LIFE: u64 = 5;
/// Rounds that the instances of a cell live for.
pub const ROUNDS: u64 = ROUNDS_PER_VISIT * VISITS_PER_LIFE;

/// What a life is for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Times: five visits, none of which begins after `until` on the rig's clock but the first.
    Timed { until: Duration },
    /// Counts: one visit.
    Counted,
}

/// Takes the place of a cell, a round, and what has failed.
type Report<'l> = &'l mut dyn FnMut(usize, u64, Option<(Arm, &str)>);

/// A life that is to be had. Cells are told by their place in it.
pub(super) struct Life<'l, R> {
    pub(super) rig: &'l R,
    /// The arms of each cell that are tried.
    pub(super) cells: &'l [Vec<Arm>],
    pub(super) generation: u64,
    pub(super) kind: Kind,
    pub(super) orders: &'l mut ChaCha8Rng,
    /// Takes the records of a round when it is over, and of each failure.
    pub(super) take: &'l mut dyn FnMut(&[Record]) -> Result<()>,
    /// Is told which round of which cell begins, and which arm has failed.
    pub(super) report: Report<'l>,
    /// Has the life end with the round that has begun.
    pub(super) interrupted: &'l AtomicBool,
}

/// What a life measured of a cell.
#[derive(Default)]
pub(super) struct Visited {
    pub(super) records: Vec<Record>,
    pub(super) cost: Cost,
}

/// A cell in its life: its instances that are open, by the arm's number, and what was measured.
struct Stop<I> {
    place: usize,
    open: BTreeMap<usize, I>,
    visited: Visited,
}

impl<'l, R: Rig> Life<'l, R> {
    /// Opens an instance of every arm, and visits the cells in turn.
    pub(super) fn visit_in_turn(mut self) -> Result<Vec<Visited>> {
        let stop = |place| Stop { place, open: BTreeMap::new(), visited: Visited::default() };
        let mut stops: Vec<Stop<R::Instance<'l>>> = (0..self.cells.len()).map(stop).collect();
        for stop in &mut stops {
            let began = self.rig.elapsed();
            self.open_arms(stop)?;
            stop.visited.cost.lives += 1;
            stop.visited.cost.opening += self.rig.elapsed().saturating_sub(began);
        }
        let mut places: Vec<usize> = (0..stops.len()).collect();
        let visits = if self.is_timed() { VISITS_PER_LIFE } else { 1 };
        'life: for visit in 0..visits {
            places.shuffle(self.orders);
            for &place in &places {
                let began = self.rig.elapsed();
                let is_over = matches!(self.kind, Kind::Timed { until } if began >= until);
                if visit > 0 && is_over || self.is_interrupted() || !self.rig.is_alive() {
                    break 'life;
                }
                let stop = &mut stops[place];
                self.visit(stop, visit)?;
                stop.visited.cost.visits += 1;
                stop.visited.cost.visiting += self.rig.elapsed().saturating_sub(began);
            }
        }
        Ok(stops.into_iter().map(|stop| stop.visited).collect())
    }

    /// Opens an instance of every arm of a cell.
    fn open_arms(&mut self, stop: &mut Stop<R::Instance<'l>>) -> Result<()> {
        let arms = &self.cells[stop.place];
        let mut order: Vec<usize> = (0..arms.len()).collect();
        order.shuffle(self.orders);
        for arm in order {
            if !self.rig.is_alive() || self.is_interrupted() {
                break;
            }
            match self.rig.open(arms[arm]) {
                Ok(instance) => drop(stop.open.insert(arm, instance)),
                Err(error) => self.fail(stop, arms[arm], &error)?,
            }
        }
        Ok(())
    }

    /// The rounds of one visit.
    fn visit(&mut self, stop: &mut Stop<R::Instance<'l>>, visit: u64) -> Result<()> {
        let arms = &self.cells[stop.place];
        for round in visit * ROUNDS_PER_VISIT..(visit + 1) * ROUNDS_PER_VISIT {
            if stop.open.is_empty() || self.is_interrupted() && round > 0 {
                break;
            }
            (self.report)(stop.place, round, None);
            let mut order: Vec<usize> = stop.open.keys().copied().collect();
            order.shuffle(self.orders);
            let (mut records, mut failures) = (Vec::new(), Vec::new());
            for (position, arm) in order.into_iter().enumerate() {
                let Some(instance) = stop.open.get_mut(&arm) else { continue };
                match self.rig.burst(instance) {
                    Ok(sample) => records.push(Record {
                        position: position as u64,
                        ..self.record(arms[arm], round, Ok(sample))
                    }),
                    Err(error) => {
                        stop.open.remove(&arm);
                        failures.push((arms[arm], error));
                        // Without the client no other arm can go on; they have not failed.
                        if !self.rig.is_alive() {
                            stop.open.clear();
                        }
                    }
                }
            }
            (self.take)(&records)?;
            stop.visited.records.append(&mut records);
            for (arm, error) in failures {
                self.fail(stop, arm, &error)?;
            }
        }
        Ok(())
    }

    /// Writes down a failure, once in a life of the arm: its instance is gone.
    fn fail(&mut self, stop: &mut Stop<R::Instance<'l>>, arm: Arm, error: &Error) -> Result<()> {
        let error = error.to_string();
        (self.report)(stop.place, 0, Some((arm, &error)));
        let record = self.record(arm, 0, Err(error));
        (self.take)(std::slice::from_ref(&record))?;
        stop.visited.records.push(record);
        Ok(())
    }

    fn record(&self, arm: Arm, round: u64, outcome: std::result::Result<Sample, String>) -> Record {
        Record { generation: self.generation, round, position: 0, arm, timed: self.is_timed(), outcome }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn is_timed(&self) -> bool {
        matches!(self.kind, Kind::Timed { .. })
    }
}
