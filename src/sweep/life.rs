//! One life of some cells' instances: opened together, visited in turn, closed together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ArmState, Cost, Outside, Progress, Rig, Sweep, VISITS_PER_LIFE, plan};
use crate::error::{Error, Result};
use crate::results::record::{Arm, ROUNDS_PER_VISIT, Record};

/// What a life is for.
pub(super) enum Kind {
    /// Times: five visits, none of which begins after `until` on the rig's clock but the first.
    Timed { until: Duration },
    /// Counts: one visit.
    Counted,
}

/// What a life measured of a cell.
#[derive(Default)]
pub(super) struct Visited {
    pub(super) records: Vec<Record>,
    pub(super) cost: Cost,
}

/// A cell whose life it is, and where its results go.
struct Stop<'v> {
    cell: usize,
    timed: bool,
    visited: &'v mut Visited,
}

/// A cell's instances that are open, by the arm's number.
type Open<I> = BTreeMap<usize, I>;

impl<R: Rig> Sweep<'_, R> {
    /// Opens an instance of every arm of `cells`, and visits the cells in turn.
    pub(super) fn visit_in_turn(
        &self,
        cells: &[usize],
        kind: &Kind,
        orders: &mut plan::Orders,
        outside: &mut Outside<'_>,
    ) -> Result<Vec<Visited>> {
        let timed = matches!(kind, Kind::Timed { .. });
        let mut visited: Vec<Visited> = cells.iter().map(|_| Visited::default()).collect();
        let mut open: Vec<Open<R::Instance<'_>>> = cells.iter().map(|_| Open::new()).collect();
        for (place, &cell) in cells.iter().enumerate() {
            let began = self.rig.elapsed();
            let mut stop = Stop { cell, timed, visited: &mut visited[place] };
            self.open_arms(&mut stop, &mut open[place], orders, outside)?;
            visited[place].cost.lives += 1;
            visited[place].cost.opening += self.rig.elapsed().saturating_sub(began);
        }
        let mut places: Vec<usize> = (0..cells.len()).collect();
        let visits = if timed { VISITS_PER_LIFE } else { 1 };
        for visit in 0..visits {
            orders.shuffle(&mut places);
            for &place in &places {
                let began = self.rig.elapsed();
                let is_over = matches!(*kind, Kind::Timed { until } if began >= until);
                if visit > 0 && is_over || outside.is_interrupted() || !self.rig.is_alive() {
                    return Ok(visited);
                }
                let mut stop = Stop { cell: cells[place], timed, visited: &mut visited[place] };
                self.visit(&mut stop, visit, &mut open[place], orders, outside)?;
                visited[place].cost.visits += 1;
                visited[place].cost.visiting += self.rig.elapsed().saturating_sub(began);
            }
        }
        Ok(visited)
    }

    /// Opens an instance of every arm of a cell that is not given up.
    fn open_arms<'s>(
        &'s self,
        stop: &mut Stop<'_>,
        open: &mut Open<R::Instance<'s>>,
        orders: &mut plan::Orders,
        outside: &mut Outside<'_>,
    ) -> Result<()> {
        let arms = &self.cells[stop.cell].arms;
        let mut order: Vec<usize> = (0..arms.len()).filter(|&arm| !arms[arm].is_given_up()).collect();
        orders.shuffle(&mut order);
        for arm in order {
            if !self.rig.is_alive() || outside.is_interrupted() {
                break;
            }
            match self.rig.open(arms[arm].arm) {
                Ok(instance) => drop(open.insert(arm, instance)),
                Err(error) => self.fail(stop, &arms[arm], &error, outside)?,
            }
        }
        Ok(())
    }

    /// The rounds of one visit.
    fn visit(
        &self,
        stop: &mut Stop<'_>,
        visit: u64,
        open: &mut Open<R::Instance<'_>>,
        orders: &mut plan::Orders,
        outside: &mut Outside<'_>,
    ) -> Result<()> {
        let arms = &self.cells[stop.cell].arms;
        for round in visit * ROUNDS_PER_VISIT..(visit + 1) * ROUNDS_PER_VISIT {
            if open.is_empty() || outside.is_interrupted() && round > 0 {
                break;
            }
            self.report(stop.cell, round, None, outside);
            let mut order: Vec<usize> = open.keys().copied().collect();
            orders.shuffle(&mut order);
            let (mut records, mut failures) = (Vec::new(), Vec::new());
            for (position, arm) in order.into_iter().enumerate() {
                let Some(instance) = open.get_mut(&arm) else { continue };
                match self.rig.burst(instance) {
                    Ok(sample) => records.push(Record {
                        generation: self.generation,
                        round,
                        position: position as u64,
                        arm: arms[arm].arm,
                        timed: stop.timed,
                        outcome: Ok(sample),
                    }),
                    Err(error) => {
                        open.remove(&arm);
                        failures.push((arm, error));
                        // Without the client no other arm can go on; they have not failed.
                        if !self.rig.is_alive() {
                            open.clear();
                        }
                    }
                }
            }
            (outside.take)(&records)?;
            stop.visited.records.append(&mut records);
            for (arm, error) in failures {
                self.fail(stop, &arms[arm], &error, outside)?;
            }
        }
        Ok(())
    }

    /// Writes down a failure, once in a life of the arm: its instance is gone.
    fn fail(
        &self,
        stop: &mut Stop<'_>,
        arm: &ArmState,
        error: &Error,
        outside: &mut Outside<'_>,
    ) -> Result<()> {
        let error = error.to_string();
        self.report(stop.cell, 0, Some((arm.arm, &error)), outside);
        let record = Record {
            generation: self.generation,
            round: 0,
            position: 0,
            arm: arm.arm,
            timed: stop.timed,
            outcome: Err(error),
        };
        (outside.take)(std::slice::from_ref(&record))?;
        stop.visited.records.push(record);
        Ok(())
    }

    fn report(&self, cell: usize, round: u64, failed: Option<(Arm, &str)>, outside: &mut Outside<'_>) {
        let elapsed = self.rig.elapsed().saturating_sub(outside.began);
        let standing = &|| self.cells[cell].standing();
        let done_cells = self.cells.iter().filter(|cell| cell.done).count();
        let generation = self.generation;
        (outside.progress)(&Progress { generation, cell, round, elapsed, standing, failed, done_cells });
    }
}
