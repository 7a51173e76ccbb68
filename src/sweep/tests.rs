//! The scheduler's rules, on a simulated rig and its simulated clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::simulation::{BURST, Failure, Machine, SimulatedRig, plan, time_for};
use super::{Options, ROUNDS, StopReason, Sweep, plan as planning};
use crate::case::{Case, Layout, SendPath, Series};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::results::analysis::analyse;
use crate::results::metric::Metric;
use crate::results::record::{Arm, ROUNDS_PER_VISIT, Record};
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
    SimulatedRig::new(seed, Machine::Quiet, NEVER, |_| 0.0)
}

fn noisy(seed: u64) -> SimulatedRig {
    SimulatedRig::new(seed, Machine::Shared, NEVER, |_| 0.0)
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
        let Ran { records, .. } = run(&plan(3, seed), noisy(1), time_for(3, 3, 4), &[], &[]);
        assert!(records.len() > 3 * 3 * 10);
        records.iter().map(|record| record.arm).collect::<Vec<_>>()
    };
    assert_eq!(order(7), order(7));
    assert_ne!(order(7)[..90], order(8)[..90]);
}

#[test]
fn each_round_of_a_visit_has_every_arm_once_in_an_order_of_its_own() {
    let plan = plan(2, 1);
    let Ran { records, .. } = run(&plan, noisy(1), time_for(2, 3, 4), &[], &[]);
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
fn counters_are_carried_in_one_visit_of_each_cell_at_the_end() {
    let plan = plan(2, 1);
    let limit = time_for(2, 3, 12);
    let Ran { records, reason, .. } = run(&plan, noisy(1), limit, &[Event::TaskClock], &[]);
    assert_eq!(reason, StopReason::Time);
    let first = records.iter().position(|record| !record.timed).unwrap();
    let (timed, counted) = records.split_at(first);
    assert!(timed.iter().all(|record| record.outcome.as_ref().unwrap().server.counters.is_empty()));
    assert!(counted.iter().all(|record| !record.timed));
    assert!(counted.iter().all(|record| !record.outcome.as_ref().unwrap().server.counters.is_empty()));
    for &cell in &plan.cells {
        for arm in planning::arms(&plan, cell) {
            let of_arm = counted.iter().filter(|record| record.arm == arm);
            assert!(of_arm.map(|record| record.round).eq(0..ROUNDS_PER_VISIT), "{arm:?}");
        }
    }
    // The time for them is kept free: all of it is spent, and no more than a round beyond.
    let bursts = BURST * u32::try_from(records.len()).unwrap();
    assert!(bursts > limit.mul_f64(0.9) && bursts < limit.mul_f64(1.15), "{bursts:?} of {limit:?}");
}

#[test]
fn other_cells_are_visited_between_two_visits_of_one() {
    let Ran { records, .. } = run(&plan(4, 1), noisy(1), time_for(4, 3, 4), &[], &[]);
    let visits: Vec<_> = records
        .iter()
        .map(|record| (record.arm.case.cell(), record.generation, record.round / ROUNDS_PER_VISIT))
        .collect();
    let visits: Vec<_> = visits.chunk_by(|one, other| one == other).map(|visit| visit[0]).collect();
    let first: Vec<_> = visits.iter().filter(|visit| visit.1 == 0).collect();
    assert_eq!(first.len(), 4 * 5, "five visits of each, none torn");
    let in_a_row = first.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
    assert!(in_a_row <= 4, "{in_a_row} of 19: only where the order of two passes meets");
}

#[test]
fn after_four_lives_time_goes_to_what_spreads_and_every_cell_has_eight() {
    let plan = plan(8, 1);
    // Half of the cells have ten times the noise: every other life of theirs is off.
    let loud = |case: Case| case.payload_bytes >= 64 << 4;
    let rig = quiet(1).unsteady(
        move |arm, life| {
            if loud(arm.case) && is_one_copy(arm) && life % 2 == 0 { 0.05 } else { 0.0 }
        },
    );
    let Ran { records, .. } = run(&plan, rig, time_for(8, 3, 16), &[], &[]);
    let lives = |is_loud: bool| {
        let of = plan.cells.iter().map(|&cell| planning::arms(&plan, cell)[1]);
        let lives = of.filter(|arm| loud(arm.case) == is_loud).map(|arm| generations(&records, arm).len());
        lives.collect::<Vec<_>>()
    };
    let (calm, loud) = (lives(false), lives(true));
    assert!(calm.iter().chain(&loud).all(|&lives| lives >= 8), "{calm:?} {loud:?}");
    assert!(loud.iter().min() > calm.iter().max(), "{calm:?} {loud:?}");
}

#[test]
fn a_sweep_ends_when_all_is_precise_and_counted() {
    let Ran { records, reason, .. } = run(&plan(2, 1), quiet(1), NEVER, &[Event::TaskClock], &[]);
    assert_eq!(reason, StopReason::Precise);
    assert_eq!(records.iter().map(|record| record.generation).max(), Some(8), "eight timed and one counted");
    assert_eq!(records.len() as u64, 2 * 3 * (8 * ROUNDS + ROUNDS_PER_VISIT));
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
    assert_eq!((last(loud), last(plan.cells[1])), (Some(14), Some(7)));
}

#[test]
fn a_sweep_ends_when_its_time_is_over_after_a_whole_visit() {
    let Ran { records, reason, .. } = run(&plan(2, 1), noisy(1), time_for(2, 3, 3), &[], &[]);
    assert_eq!(reason, StopReason::Time);
    assert_eq!(records.len() as u64 % (3 * ROUNDS_PER_VISIT), 0);
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
        let mut plan = plan(2, 1);
        plan.series.push(Series::new(SendPath::ZeroCopy, Layout::Heap));
        let broken = plan.cells[1];
        let rig = quiet(1).failing(move |arm, life| {
            (is_one_copy(arm) && arm.case.cell() == broken && life > 0).then_some(failure)
        });
        let Ran { records, reason, .. } = run(&plan, rig, NEVER, &[], &[]);
        assert_eq!(reason, StopReason::Precise);
        let arms = planning::arms(&plan, broken);
        assert_eq!(errors(&records, arms[1]), [1, 2, 3], "{failure:?}");
        for other in [0, 2, 3] {
            assert!(generations(&records, arms[other]).len() >= 8, "the others go on after {failure:?}");
        }
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
fn without_the_baseline_the_others_are_still_compared() {
    let mut plan = plan(1, 1);
    plan.series.push(Series::new(SendPath::ZeroCopy, Layout::Heap));
    let rig = quiet(1).failing(|arm, _| (arm.case.path == SendPath::TwoCopy).then_some(Failure::Open));
    let Ran { records, reason, .. } = run(&plan, rig, time_for(1, 2, 12), &[], &[]);
    assert_eq!(reason, StopReason::Time);
    let arms = planning::arms(&plan, plan.cells[0]);
    assert_eq!(errors(&records, arms[0]).len(), 3);
    assert!(generations(&records, arms[1]).len() >= 12 && generations(&records, arms[2]).len() >= 12);
    let analysis = analyse(&plan, &records, 1);
    let throughput = analysis.cells[0].comparisons.iter().filter(|found| found.metric == Metric::Throughput);
    let known: Vec<_> = throughput.filter(|found| found.outcome.is_ok()).collect();
    assert_eq!(known.len(), 1, "zero_copy against one_copy");
    let paths = (known[0].series.path, known[0].baseline.path);
    assert_eq!(paths, (SendPath::ZeroCopy, SendPath::OneCopy));
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
    assert_eq!(generations(&records, arms[1]).len(), 8);
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
