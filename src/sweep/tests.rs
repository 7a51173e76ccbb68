//! The scheduler's rules, on a simulated rig and its simulated clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::simulation::{Failure, Machine, SimulatedRig, plan, time_for};
use super::{Error, Options, ROUNDS, StopReason, Sweep, plan as planning};
use crate::case::SendPath;
use crate::error::Result;
use crate::event::Event;
use crate::results::record::{Arm, Record};
use crate::results::store::Plan;

/// A simulated sweep that was run.
struct Ran {
    records: Vec<Record>,
    reason: StopReason,
    restarts: u32,
}

/// A limit that no sweep of a quiet machine reaches.
const NEVER: Duration = Duration::from_hours(1);

fn quiet(seed: u64) -> SimulatedRig {
    SimulatedRig::new(seed, Machine::Quiet, NEVER, 0.0)
}

fn noisy(seed: u64) -> SimulatedRig {
    SimulatedRig::new(seed, Machine::Shared { states: None }, NEVER, 0.0)
}

fn run(plan: &Plan, rig: SimulatedRig, limit: Duration, events: &[Event], before: &[Record]) -> Ran {
    let options = Options { limit, events: events.to_vec() };
    let mut sweep = Sweep::new(plan, &options, rig, before);
    let mut records = Vec::new();
    let mut take = |taken: &[Record]| {
        records.extend_from_slice(taken);
        Ok(())
    };
    let reason = sweep.run(&mut take, &AtomicBool::new(false), &mut |_| {}).unwrap();
    Ran { records, reason, restarts: sweep.rig.restarts }
}

fn errors(records: &[Record], arm: Arm) -> Vec<u64> {
    let failed = |record: &&Record| record.arm == arm && record.outcome.is_err();
    records.iter().filter(failed).map(|record| record.generation).collect()
}

fn generations(records: &[Record], arm: Arm) -> BTreeSet<u64> {
    let measured = |record: &&Record| record.arm == arm && record.outcome.is_ok();
    records.iter().filter(measured).map(|record| record.generation).collect()
}

fn is_one_copy(arm: Arm) -> bool {
    arm.case.path == SendPath::OneCopy
}

#[test]
fn a_seed_repeats_the_order_and_another_seed_has_another() {
    let order = |seed| {
        let Ran { records, .. } = run(&plan(3, seed), noisy(1), time_for(3, 4), &[], &[]);
        assert!(records.len() > 3 * 3 * 10);
        records.iter().map(|record| record.arm).collect::<Vec<_>>()
    };
    assert_eq!(order(7), order(7));
    assert_ne!(order(7)[..90], order(8)[..90]);
}

#[test]
fn each_round_of_a_visit_has_every_arm_once_in_an_order_of_its_own() {
    let plan = plan(2, 1);
    let Ran { records, .. } = run(&plan, noisy(1), time_for(2, 4), &[], &[]);
    let rounds: Vec<_> = records
        .chunk_by(|a, b| {
            (a.generation, a.round, a.arm.case.cell()) == (b.generation, b.round, b.arm.case.cell())
        })
        .collect();
    let mut orders = BTreeSet::new();
    for round in &rounds {
        let arms = planning::arms(&plan, round[0].arm.case.cell());
        let order: Vec<_> =
            round.iter().map(|record| arms.iter().position(|arm| *arm == record.arm).unwrap()).collect();
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 3, "each arm once");
        assert!(round.iter().map(|record| record.position).eq(0..3));
        orders.insert(order);
    }
    assert_eq!(orders.len(), 6, "all orders of three arms occur in {} rounds", rounds.len());
}

#[test]
fn one_generation_in_six_carries_counters_and_is_not_timed() {
    let Ran { records, .. } = run(&plan(2, 1), noisy(1), time_for(2, 20), &[Event::TaskClock], &[]);
    assert!(records.iter().any(|record| record.generation == 13));
    for record in &records {
        let sample = record.outcome.as_ref().unwrap();
        assert_eq!(record.timed, record.generation % 6 != 1, "generation {}", record.generation);
        assert_eq!(record.timed, sample.server.counters.is_empty());
    }
}

#[test]
fn a_sweep_ends_when_all_is_precise_and_not_before_a_counted_generation() {
    let Ran { records, reason, .. } = run(&plan(2, 1), quiet(1), NEVER, &[Event::TaskClock], &[]);
    assert_eq!(reason, StopReason::Precise);
    assert_eq!(records.iter().map(|record| record.generation).max(), Some(6), "six timed and one counted");
    assert_eq!(records.len() as u64, 7 * 2 * 3 * ROUNDS);
}

#[test]
fn a_precise_cell_is_left_to_give_its_time_to_the_others() {
    let plan = plan(2, 1);
    let loud = plan.cells[0];
    // One of the two cells never becomes precise: its arm fails in every second generation.
    let rig = quiet(1).failing(move |arm, life| {
        (arm.case.cell() == loud && is_one_copy(arm) && life % 2 == 1).then_some(Failure::Open)
    });
    let Ran { records, reason, .. } = run(&plan, rig, NEVER, &[], &[]);
    assert_eq!(reason, StopReason::Precise);
    let last = |cell| {
        records.iter().filter(|record| record.arm.case.cell() == cell).map(|record| record.generation).max()
    };
    assert_eq!((last(loud), last(plan.cells[1])), (Some(10), Some(5)));
}

#[test]
fn a_sweep_ends_when_its_time_is_over_after_a_whole_visit() {
    let Ran { records, reason, .. } = run(&plan(2, 1), noisy(1), time_for(2, 3), &[], &[]);
    assert_eq!(reason, StopReason::Time);
    assert_eq!(records.len() as u64 % (3 * ROUNDS), 0);
}

#[test]
fn interrupted_it_ends_after_the_round() {
    let (plan, options) = (plan(2, 1), Options { limit: NEVER, events: Vec::new() });
    let interrupted = AtomicBool::new(false);
    let mut sweep = Sweep::new(&plan, &options, noisy(1), &[]);
    let mut records = 0;
    let mut take = |taken: &[Record]| {
        records += taken.len();
        interrupted.store(records == 3 * 3, Ordering::Relaxed);
        Ok(())
    };
    let reason = sweep.run(&mut take, &interrupted, &mut |_| {}).unwrap();
    assert_eq!((reason, records), (StopReason::Interrupted, 3 * 3), "three rounds of three arms");
}

#[test]
fn what_failed_once_is_tried_again_and_the_failure_stays_a_row() {
    for failure in [Failure::Open, Failure::Burst(0), Failure::Burst(4), Failure::Death(4)] {
        let plan = plan(1, 1);
        let fails = |life| matches!(life, 1 | 2 | 4 | 5);
        let rig = quiet(1).failing(move |arm, life| (is_one_copy(arm) && fails(life)).then_some(failure));
        let Ran { records, reason, restarts } = run(&plan, rig, NEVER, &[], &[]);
        let arms = planning::arms(&plan, plan.cells[0]);
        assert_eq!(errors(&records, arms[1]), [1, 2, 4, 5], "{failure:?}");
        assert!(generations(&records, arms[1]).is_superset(&[0, 3].into()), "{failure:?}");
        assert_eq!(reason, StopReason::Precise, "two failures in a row are not the end of an arm");
        assert_eq!(restarts, if matches!(failure, Failure::Death(_)) { 4 } else { 0 });
        assert_eq!(errors(&records, arms[0]), [0; 0], "{failure:?}");
        assert_eq!(errors(&records, arms[2]), [0; 0], "{failure:?}");
    }
}

#[test]
fn after_three_failures_in_a_row_an_arm_is_left_alone_and_the_others_go_on() {
    for failure in [Failure::Open, Failure::Burst(3), Failure::Death(0)] {
        let plan = plan(2, 1);
        let broken = plan.cells[1];
        let rig = quiet(1).failing(move |arm, life| {
            (is_one_copy(arm) && arm.case.cell() == broken && life > 0).then_some(failure)
        });
        let Ran { records, reason, .. } = run(&plan, rig, NEVER, &[], &[]);
        assert_eq!(reason, StopReason::Precise);
        let arms = planning::arms(&plan, broken);
        assert_eq!(errors(&records, arms[1]), [1, 2, 3], "{failure:?}");
        assert!(generations(&records, arms[0]).len() >= 6, "the others go on after {failure:?}");
        assert!(generations(&records, arms[2]).len() >= 6, "the others go on after {failure:?}");
        let whole = planning::arms(&plan, plan.cells[0]);
        assert!(whole.iter().all(|&arm| errors(&records, arm).is_empty()));
    }
}

#[test]
fn where_the_baseline_or_everything_else_fails_there_is_nothing_to_compare() {
    for baseline in [true, false] {
        let plan = plan(1, 1);
        let arms = planning::arms(&plan, plan.cells[0]);
        let first = arms[0];
        let rig = quiet(1).failing(move |arm, _| ((arm == first) == baseline).then_some(Failure::Open));
        let Ran { records, reason, .. } = run(&plan, rig, NEVER, &[], &[]);
        assert_eq!(reason, StopReason::Precise);
        assert_eq!(records.iter().map(|record| record.generation).max(), Some(2));
        assert_eq!(errors(&records, first).len(), if baseline { 3 } else { 0 });
    }
}

#[test]
fn going_on_takes_new_generations_and_tries_again_what_was_left_alone() {
    let plan = plan(1, 1);
    let arms = planning::arms(&plan, plan.cells[0]);
    let broken = quiet(1).failing(|arm, _| is_one_copy(arm).then_some(Failure::Open));
    let before = run(&plan, broken, NEVER, &[], &[]).records;
    assert_eq!(errors(&before, arms[1]), [0, 1, 2]);
    let last = before.iter().map(|record| record.generation).max().unwrap();
    let Ran { records, reason, .. } = run(&plan, quiet(1), NEVER, &[], &before);
    assert_eq!(reason, StopReason::Precise);
    assert!(records.iter().all(|record| record.generation > last));
    assert_eq!(generations(&records, arms[1]).len(), 6);
    // All is known already: there is nothing left to measure.
    let all: Vec<_> = before.into_iter().chain(records).collect();
    assert_eq!(run(&plan, quiet(1), NEVER, &[], &all).records, []);
}

#[test]
fn records_that_cannot_be_kept_end_the_sweep() {
    let (plan, options) = (plan(1, 1), Options { limit: NEVER, events: Vec::new() });
    let mut sweep = Sweep::new(&plan, &options, quiet(1), &[]);
    let mut full = |_: &[Record]| -> Result<()> { Err(Error::Setting("disk full".to_owned())) };
    let error = sweep.run(&mut full, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "disk full");
}
