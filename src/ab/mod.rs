//! Compares two builds of this program, case by case.
//!
//! A *block* starts three processes: the base, the change, and the base once more as the control. One at a time
//! runs a burst; the others wait. Each round has a burst of all three within milliseconds, and the next round
//! reverses their order (ABBA). At the end of the block all three end. New processes have new addresses and
//! new connections, so the block is the unit of replication.

pub(crate) mod build;
pub(crate) mod format;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, Workload};
use crate::error::{Error, Result};
use crate::results::comparison::{Comparison, Failure, Outcome};
use crate::results::metric::Metric;
use crate::results::observation::{Rounds, observation, value};
use crate::results::stats::{Effect, judge, median};
use crate::sample::Sample;
use worker::{Build, Worker};

/// Rounds of each case in a block.
const ROUNDS: u64 = 10;
/// A verdict takes this many blocks.
const MIN_BLOCKS: usize = 3;

/// One of a block's three processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// The base.
    Base,
    /// The change, which is compared with the base.
    Change,
    /// The base once more: its difference from the base is noise.
    Control,
}

/// What the blocks measure, and when they end.
#[derive(Clone, Debug)]
pub struct BlockPlan {
    /// The cases.
    pub cases: Vec<Case>,
    /// No case starts after this time.
    pub time: Duration,
    /// No block starts after so many.
    pub blocks: Option<usize>,
    /// The difference that does not matter (0.01: 1 %).
    pub margin: f64,
    /// Whether the threads' CPU time has the softirqs in it. If not, nothing is compared by it.
    pub cpu_time_is_whole: bool,
    /// The seed of the random order of cases.
    pub seed: u64,
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug)]
pub struct BlockProgress {
    /// The block, from 0.
    pub block: usize,
    /// The case in it, from 0.
    pub case: usize,
    /// The time since the start.
    pub elapsed: Duration,
}

/// One block of one case: a sample of each process in each round.
type Block = Rounds<Role, Sample>;

/// Runs blocks until the plan's time or number of blocks is reached, or `interrupted` is set.
///
/// # Errors
/// A process that cannot be started, or has another [protocol](worker::PROTOCOL). A case that fails is in the
/// outcome.
pub fn run(
    base: &Build,
    change: &Build,
    plan: &BlockPlan,
    interrupted: &AtomicBool,
    progress: &mut dyn FnMut(BlockProgress),
) -> Result<Outcome> {
    let started = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut blocks: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
    let mut failures: BTreeMap<usize, String> = BTreeMap::new();
    let mut lengths: BTreeMap<usize, u64> = BTreeMap::new();
    let mut block = 0;
    let over = || started.elapsed() >= plan.time || interrupted.load(Ordering::Relaxed);
    let enough = |block| plan.blocks.is_some_and(|blocks| block >= blocks);
    while !over() && !enough(block) && failures.len() < plan.cases.len() {
        let mut starting = [(Role::Base, base), (Role::Change, change), (Role::Control, base)];
        starting.shuffle(&mut rng);
        let mut workers = BTreeMap::new();
        for (role, build) in starting {
            workers.insert(role, Worker::start(build)?);
        }
        let mut order: Vec<usize> =
            (0..plan.cases.len()).filter(|case| !failures.contains_key(case)).collect();
        order.shuffle(&mut rng);
        for (place, case) in order.into_iter().enumerate() {
            if over() {
                break;
            }
            progress(BlockProgress { block, case: place, elapsed: started.elapsed() });
            match visit(&mut workers, plan.cases[case], lengths.get(&case).copied(), &mut rng) {
                Ok((length, rounds)) => {
                    lengths.insert(case, length);
                    blocks.entry(case).or_default().push(rounds);
                }
                Err((role, error)) => {
                    failures.insert(case, format!("{role}: {error}"));
                    break; // the protocol may be out of step: the next block has new processes
                }
            }
        }
        block += 1;
    }
    let measured = blocks.values().map(Vec::len).max().unwrap_or(0);
    Ok(Outcome {
        blocks: measured,
        comparisons: compare(plan, &blocks),
        failures: failures
            .into_iter()
            .map(|(case, error)| Failure { case: plan.cases[case].to_string(), error })
            .collect(),
        interrupted: interrupted.load(Ordering::Relaxed),
    })
}

/// One case in one block: how long its bursts are, in nanoseconds, and the rounds.
fn visit(
    workers: &mut BTreeMap<Role, Worker>,
    case: Case,
    length: Option<u64>,
    rng: &mut ChaCha8Rng,
) -> std::result::Result<(u64, Block), (Role, Error)> {
    let mut order = [Role::Base, Role::Change, Role::Control];
    order.shuffle(rng);
    let mut length = length;
    for role in order {
        let Some(worker) = workers.get_mut(&role) else { continue };
        let calibrated = worker.open(case).map_err(|error| (role, error))?;
        length.get_or_insert(calibrated);
    }
    let length = length.unwrap_or(1);
    let mut rounds = Block::new();
    for round in 0..ROUNDS {
        // Every second round reverses the order of the one before.
        if round % 2 == 0 {
            order.shuffle(rng);
        } else {
            order.reverse();
        }
        for role in order {
            let Some(worker) = workers.get_mut(&role) else { continue };
            let sample = worker.burst(length).map_err(|error| (role, error))?;
            rounds.entry(round).or_default().insert(role, sample);
        }
    }
    Ok((length, rounds))
}

/// Judges all cases and metrics together: the verdicts are corrected for their number.
fn compare(plan: &BlockPlan, blocks: &BTreeMap<usize, Vec<Block>>) -> Vec<Comparison> {
    let mut found = Vec::new();
    for (&index, blocks) in blocks {
        let case = plan.cases[index];
        if blocks.len() < MIN_BLOCKS {
            continue;
        }
        for metric in Metric::OF_AB {
            let has_none = match metric {
                Metric::CpuPerByte => !plan.cpu_time_is_whole,
                _ => case.workload == Workload::Stream && metric.quantile().is_some(),
            };
            if has_none {
                continue;
            }
            let effect = |role: Role| {
                let observations: Vec<f64> = blocks
                    .iter()
                    .filter_map(|rounds| observation(rounds, metric, role, Role::Base))
                    .collect();
                Effect::of(&observations)
            };
            if let Some(change) = effect(Role::Change) {
                let mut values: Vec<f64> =
                    blocks.iter().filter_map(|rounds| value(rounds, metric, Role::Base, &case)).collect();
                let base = median(&mut values);
                found.push((case, metric, change, effect(Role::Control), base));
            }
        }
    }
    let effects: Vec<_> = found.iter().map(|(_, _, change, control, _)| (*change, *control)).collect();
    let verdicts = judge(&effects, plan.margin);
    let comparisons = found.len();
    found
        .into_iter()
        .zip(verdicts)
        .map(|((case, metric, change, control, base), verdict)| Comparison {
            case: case.to_string(),
            metric,
            gain: change.ratio(),
            control: control.map(|control| control.ratio()),
            verdict,
            smallest_effect: change.smallest_effect(comparisons),
            base,
        })
        .collect()
}
