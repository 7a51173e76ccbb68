//! What a bench measures: lives of given arms, interleaved as a sweep's, and handed out visit by
//! visit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::seq::SliceRandom;

use super::life::{Kind, Life};
use super::{Rig, plan};
use crate::error::Result;
use crate::in_order::grouped;
use crate::results::record::{Arm, ROUNDS_PER_VISIT, Record};
use crate::sample::Sample;

/// What one visit measured of an arm: a burst for each of its rounds.
pub type Visit = Vec<Sample>;

/// Lives of some arms, and no verdict: arms of the same cell share rounds, cells share visits. What
/// a visit measured of an arm is handed out once. An arm that fails is measured no more, and the
/// others go on.
pub struct Visits<'r, R> {
    rig: &'r mut R,
    arms: Vec<Arm>,
    seed: u64,
    lives: u64,
    /// What was not handed out yet.
    measured: HashMap<Arm, VecDeque<Visit>>,
    failed: HashMap<Arm, String>,
}

impl<'r, R: Rig> Visits<'r, R> {
    /// Of `arms` on `rig`. All orders are drawn from `seed`.
    pub fn new(rig: &'r mut R, arms: Vec<Arm>, seed: u64) -> Self {
        Self { rig, arms, seed, lives: 0, measured: HashMap::new(), failed: HashMap::new() }
    }

    /// How many visits of an arm can still be handed out.
    pub fn left(&self, arm: Arm) -> usize {
        self.measured.get(&arm).map_or(0, VecDeque::len)
    }

    /// What the arms run on.
    pub fn rig(&mut self) -> &mut R {
        self.rig
    }

    /// The arms that have failed, each with the reason, in order.
    pub fn failures(&self) -> impl Iterator<Item = (Arm, &str)> {
        self.arms.iter().filter_map(|arm| Some((*arm, self.failed.get(arm)?.as_str())))
    }

    /// Measures whole lives of all arms together, until each that has not failed has so many visits
    /// left.
    pub fn measure(&mut self, visits: usize) {
        while self.going().any(|arm| self.left(arm) < visits) {
            self.live();
        }
    }

    /// The visit of `arm` that is handed out next. Where none is left, all arms are measured for
    /// another life.
    ///
    /// # Errors
    /// Why the arm has failed.
    pub fn peek(&mut self, arm: Arm) -> std::result::Result<&Visit, String> {
        if !self.arms.contains(&arm) {
            self.arms.push(arm);
        }
        while self.left(arm) == 0 && !self.failed.contains_key(&arm) {
            self.live();
        }
        match self.failed.get(&arm) {
            Some(reason) => Err(reason.clone()),
            None => Ok(&self.measured[&arm][0]),
        }
    }

    /// Hands out a visit of `arm`. Where none is left, all arms are measured for another life.
    ///
    /// # Errors
    /// Why the arm has failed.
    pub fn next(&mut self, arm: Arm) -> std::result::Result<Visit, String> {
        self.peek(arm)?;
        Ok(self.measured.get_mut(&arm).and_then(VecDeque::pop_front).unwrap_or_default())
    }

    fn going(&self) -> impl Iterator<Item = Arm> {
        self.arms.iter().copied().filter(|arm| !self.failed.contains_key(arm))
    }

    /// One life of every arm that has not failed.
    fn live(&mut self) {
        let going: Vec<Arm> = self.going().collect();
        if let Err(error) = self.try_live(&going) {
            // Nothing can be opened any more.
            for arm in going {
                self.failed.entry(arm).or_insert_with(|| error.to_string());
            }
        }
    }

    fn try_live(&mut self, going: &[Arm]) -> Result<()> {
        let cells = grouped(going.iter().map(|arm| (arm.case.cell(), *arm)));
        let mut cells: Vec<Vec<Arm>> = cells.into_iter().map(|(_, arms)| arms).collect();
        let generation = self.lives;
        self.lives += 1;
        let mut orders = plan::orders(self.seed, generation);
        cells.shuffle(&mut orders);
        for cells in plan::groups(&cells, Vec::clone)? {
            self.rig.count(&[]);
            let life = Life {
                rig: &*self.rig,
                cells: &cells,
                generation,
                kind: Kind::Timed { until: Duration::MAX },
                orders: &mut orders,
                take: &mut |_| Ok(()),
                report: &mut |_, _, _| {},
                interrupted: &AtomicBool::new(false),
            };
            let visited = life.visit_in_turn()?;
            let mut visits: BTreeMap<u64, HashMap<Arm, Visit>> = BTreeMap::new();
            for Record { round, arm, outcome, .. } in visited.into_iter().flat_map(|cell| cell.records) {
                match outcome {
                    Ok(sample) => {
                        let visit = visits.entry(round / ROUNDS_PER_VISIT).or_default();
                        visit.entry(arm).or_default().push(sample);
                    }
                    Err(reason) => drop(self.failed.insert(arm, reason)),
                }
            }
            // A visit that was broken off is not handed out.
            let whole = |visit: &Visit| visit.len() as u64 == ROUNDS_PER_VISIT;
            for (arm, visit) in visits.into_values().flatten().filter(|(_, visit)| whole(visit)) {
                self.measured.entry(arm).or_default().push_back(visit);
            }
            if !self.rig.is_alive() {
                self.rig.restart()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::simulation::{Failure, Machine, SimulatedInstance, SimulatedRig};
    use super::super::{ROUNDS, VISITS_PER_LIFE};
    use super::*;
    use crate::case::{Case, Cell, SendPath};
    use crate::error::Error;
    use crate::event::Event;

    /// Numbers its bursts: the number is what a burst took. Writes down whose each was.
    struct Numbered {
        inner: SimulatedRig,
        bursts: RefCell<Vec<Arm>>,
        can_restart: bool,
    }

    impl Numbered {
        fn new(inner: SimulatedRig) -> Self {
            Self { inner, bursts: RefCell::default(), can_restart: true }
        }
    }

    impl Rig for Numbered {
        type Instance<'rig> = (Arm, SimulatedInstance);

        fn count(&mut self, events: &[Event]) {
            self.inner.count(events);
        }

        fn open(&self, arm: Arm) -> Result<Self::Instance<'_>> {
            Ok((arm, self.inner.open(arm)?))
        }

        fn burst(&self, (arm, instance): &mut Self::Instance<'_>) -> Result<Sample> {
            let sample = self.inner.burst(instance)?;
            let mut bursts = self.bursts.borrow_mut();
            bursts.push(*arm);
            Ok(Sample { elapsed_ns: bursts.len() as u64 - 1, ..sample })
        }

        fn is_alive(&self) -> bool {
            self.inner.is_alive()
        }

        fn restart(&mut self) -> Result<()> {
            if self.can_restart {
                return self.inner.restart();
            }
            Err(Error::Protocol("no more".to_owned()))
        }

        fn elapsed(&self) -> Duration {
            self.inner.elapsed()
        }
    }

    fn quiet() -> SimulatedRig {
        SimulatedRig::new(1, Machine::Quiet, Duration::from_hours(1), |_| 0.0)
    }

    /// Two paths at three sizes, and one at a fourth: what a filter might let through.
    fn arms() -> Vec<Arm> {
        let arm = |path, payload_bytes| Arm {
            case: Case { path, payload_bytes, ..Case::default() },
            control: false,
        };
        let paths = [SendPath::OneCopy, SendPath::ZeroCopy];
        let mut arms: Vec<Arm> =
            paths.iter().flat_map(|&path| [64, 256, 1024].map(|size| arm(path, size))).collect();
        arms.push(arm(SendPath::ZeroCopy, 4096));
        arms
    }

    /// The numbers of the bursts of all visits that are left of an arm.
    fn hand_out(visits: &mut Visits<'_, Numbered>, arm: Arm) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..visits.left(arm) {
            numbers.extend(visits.next(arm).unwrap().iter().map(|sample| sample.elapsed_ns));
        }
        numbers
    }

    #[test]
    fn each_burst_is_handed_out_once_and_to_its_own_arm() {
        let mut rig = Numbered::new(quiet());
        let mut visits = Visits::new(&mut rig, arms(), 1);
        visits.measure(12);
        let mut all = Vec::new();
        for arm in arms() {
            let numbers = hand_out(&mut visits, arm);
            assert_eq!(numbers.len() as u64, 3 * ROUNDS, "12 visits take 3 lives");
            let bursts = visits.rig.bursts.borrow();
            assert!(numbers.iter().all(|&number| bursts[usize::try_from(number).unwrap()] == arm));
            all.extend(numbers);
        }
        all.sort_unstable();
        let made = visits.rig.bursts.borrow().len() as u64;
        assert_eq!(all, (0..made).collect::<Vec<_>>(), "every burst, and no other");
    }

    #[test]
    fn where_none_is_left_all_are_measured_for_another_life() {
        let mut rig = Numbered::new(quiet());
        let mut visits = Visits::new(&mut rig, arms(), 1);
        let (first, last) = (arms()[0], arms()[6]);
        let mut numbers = Vec::new();
        for visit in 0..=2 * VISITS_PER_LIFE {
            let peeked = visits.peek(first).unwrap().clone();
            let handed = visits.next(first).unwrap();
            assert_eq!(handed, peeked, "visit {visit}");
            numbers.extend(handed.iter().map(|sample| sample.elapsed_ns));
        }
        assert!(numbers.is_sorted_by(|one, other| one < other), "none twice: {numbers:?}");
        assert_eq!(visits.left(last) as u64, 3 * VISITS_PER_LIFE);
        assert_eq!(visits.left(first) as u64, VISITS_PER_LIFE - 1);
    }

    #[test]
    fn the_arms_of_a_cell_share_rounds_and_the_cells_share_a_life() {
        let mut rig = Numbered::new(quiet());
        let mut visits = Visits::new(&mut rig, arms(), 1);
        visits.measure(1);
        let bursts = visits.rig.bursts.borrow();
        // A visit's bursts lie together, and between two visits of a cell lie the other cells'.
        let runs: Vec<Cell> = bursts
            .chunk_by(|one, other| one.case.cell() == other.case.cell())
            .map(|run| run[0].case.cell())
            .collect();
        assert!(runs.len() as u64 >= 3 * VISITS_PER_LIFE, "{} runs", runs.len());
        for round in bursts.iter().filter(|arm| arm.case.payload_bytes == 64).collect::<Vec<_>>().chunks(2) {
            assert_ne!(round[0], round[1], "each arm once in a round");
        }
    }

    #[test]
    fn an_arm_that_fails_leaves_the_others() {
        for failure in [Failure::Open, Failure::Burst(3), Failure::Death(3)] {
            let bad = arms()[1];
            let rig = quiet().failing(move |arm, life| (arm == bad && life == 1).then_some(failure));
            let mut rig = Numbered::new(rig);
            let mut visits = Visits::new(&mut rig, arms(), 1);
            visits.measure(20);
            assert!(visits.next(bad).unwrap_err().contains("simulated"), "{failure:?}");
            assert_eq!(visits.failures().map(|(arm, _)| arm).collect::<Vec<_>>(), [bad], "{failure:?}");
            for arm in arms().into_iter().filter(|&arm| arm != bad) {
                assert!(visits.left(arm) >= 20, "{failure:?}: {} visits of {:?}", visits.left(arm), arm.case);
            }
            let of_bad = visits.rig.bursts.borrow().iter().filter(|&&arm| arm == bad).count() as u64;
            assert!(of_bad < 2 * ROUNDS, "{failure:?}: it is not tried again");
        }
    }

    #[test]
    fn where_nothing_can_be_opened_any_more_all_fail_and_say_why() {
        let bad = arms()[1];
        let rig = quiet().failing(move |arm, _| (arm == bad).then_some(Failure::Death(0)));
        let mut rig = Numbered { can_restart: false, ..Numbered::new(rig) };
        let mut visits = Visits::new(&mut rig, arms(), 1);
        visits.measure(5);
        assert!(visits.next(bad).unwrap_err().contains("simulated"));
        assert!(visits.next(arms()[0]).unwrap_err().contains("no more"));
        assert_eq!(visits.failures().count(), arms().len());
    }
}
