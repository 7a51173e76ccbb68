//! Two builds of this program against each other: which of them is faster, case by case.
//!
//! A *block* starts a process of each build, and of the base once more as the control. They stay idle but for the one
//! that is told to run a burst, so that each round has a burst of all three within milliseconds, in an order
//! that the next round turns round (ABBA). Then all three end. New processes have new addresses and new
//! connections, so the block is the unit of replication.

pub mod build;
pub mod format;
pub mod stored;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::case::{Case, Workload};
use crate::error::{Error, Result};
use crate::results::metric::Metric;
use crate::results::observation::{Rounds, observation, value};
use crate::results::stats::{Effect, Estimate, Verdict, judge, median};
use crate::sample::Sample;
use worker::{Build, Worker};

/// Rounds of each case in a block.
const ROUNDS: u64 = 10;
/// Blocks before which nothing is said.
const MIN_BLOCKS: usize = 3;

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    /// The base.
    Base,
    /// What is held against it.
    Change,
    /// The base once more.
    Control,
}

/// What is compared, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cases.
    pub cases: Vec<Case>,
    /// How long to measure.
    pub limit: Duration,
    /// The difference that does not matter (0.01: 1 %).
    pub margin: f64,
    /// The seed of the random order of cases.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Blocks that were measured to their end.
    pub blocks: usize,
    /// A comparison for each case and metric.
    pub comparisons: Vec<Comparison>,
    /// Cases that could not be measured, and why.
    pub failures: Vec<Failure>,
    /// Whether it was told to end.
    pub interrupted: bool,
}

/// A case that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The case's id.
    pub case: String,
    /// Which process, and why.
    pub error: String,
}

/// The change against the base in one case, by one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The case's id.
    pub case: String,
    /// What is compared.
    pub metric: Metric,
    /// How much better the change is: above 1 is more throughput, shorter times, less CPU time. With the 95 %
    /// interval over blocks.
    pub gain: Estimate,
    /// The same of the control.
    pub control: Option<Estimate>,
    /// What that allows to be said.
    pub verdict: Verdict,
    /// The smallest difference that this run could have found, in 95 of 100 times (0.01: 1 %).
    pub smallest_effect: f64,
    /// The base's own value, in the metric's unit.
    pub base: Option<f64>,
}

/// Where a comparison stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The block, from 0.
    pub block: usize,
    /// The case in it, from 0.
    pub case: usize,
    /// Time that has been used.
    pub elapsed: Duration,
}

/// One block of one case: a sample of each arm in each round.
type Block = Rounds<Arm, Sample>;

/// Runs blocks until the time is over, or `interrupted` is set.
///
/// # Errors
/// A process that cannot be started, or does not speak this version's protocol. A case that fails is in the
/// outcome.
pub fn run(
    base: &Build,
    change: &Build,
    plan: &Plan,
    interrupted: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    let started = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut blocks: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
    let mut failures: BTreeMap<usize, String> = BTreeMap::new();
    let mut messages: BTreeMap<usize, u64> = BTreeMap::new();
    let mut block = 0;
    let over = || started.elapsed() >= plan.limit || interrupted.load(Ordering::Relaxed);
    while !over() && failures.len() < plan.cases.len() {
        let mut starting = [(Arm::Base, base), (Arm::Change, change), (Arm::Control, base)];
        starting.shuffle(&mut rng);
        let mut workers = BTreeMap::new();
        for (arm, build) in starting {
            workers.insert(arm, Worker::start(build)?);
        }
        let mut order: Vec<usize> =
            (0..plan.cases.len()).filter(|case| !failures.contains_key(case)).collect();
        order.shuffle(&mut rng);
        for (place, case) in order.into_iter().enumerate() {
            if over() {
                break;
            }
            progress(Progress { block, case: place, elapsed: started.elapsed() });
            match visit(&mut workers, plan.cases[case], messages.get(&case).copied(), &mut rng) {
                Ok((length, rounds)) => {
                    messages.insert(case, length);
                    blocks.entry(case).or_default().push(rounds);
                }
                Err((arm, error)) => {
                    failures.insert(case, format!("{}: {error}", name(arm)));
                    break; // the processes may be out of step: the next block has new ones
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

fn name(arm: Arm) -> &'static str {
    match arm {
        Arm::Base => "base",
        Arm::Change => "change",
        Arm::Control => "control",
    }
}

/// One case in one block: the length of its bursts, and the rounds.
fn visit(
    workers: &mut BTreeMap<Arm, Worker>,
    case: Case,
    length: Option<u64>,
    rng: &mut ChaCha8Rng,
) -> std::result::Result<(u64, Block), (Arm, Error)> {
    let mut order = [Arm::Base, Arm::Change, Arm::Control];
    order.shuffle(rng);
    let mut length = length;
    for arm in order {
        let Some(worker) = workers.get_mut(&arm) else { continue };
        let calibrated = worker.open(case).map_err(|error| (arm, error))?;
        length.get_or_insert(calibrated);
    }
    let length = length.unwrap_or(1);
    let mut rounds = Block::new();
    for round in 0..ROUNDS {
        // A new order, then the same turned round.
        if round % 2 == 0 {
            order.shuffle(rng);
        } else {
            order.reverse();
        }
        for arm in order {
            let Some(worker) = workers.get_mut(&arm) else { continue };
            let sample = worker.burst(length).map_err(|error| (arm, error))?;
            rounds.entry(round).or_default().insert(arm, sample);
        }
    }
    Ok((length, rounds))
}

/// Judges all cases and metrics together, so that the chance of a false call among them stays what it is.
fn compare(plan: &Plan, blocks: &BTreeMap<usize, Vec<Block>>) -> Vec<Comparison> {
    let mut found = Vec::new();
    for (&index, blocks) in blocks {
        let case = plan.cases[index];
        if blocks.len() < MIN_BLOCKS {
            continue;
        }
        for metric in Metric::OF_AB {
            if case.workload == Workload::Stream && metric.quantile().is_some() {
                continue;
            }
            let effect = |arm: Arm| {
                let observations: Vec<f64> =
                    blocks.iter().filter_map(|rounds| observation(rounds, metric, arm, Arm::Base)).collect();
                Effect::of(&observations)
            };
            if let Some(change) = effect(Arm::Change) {
                let mut values: Vec<f64> =
                    blocks.iter().filter_map(|rounds| value(rounds, metric, Arm::Base, &case)).collect();
                let base = median(&mut values);
                found.push((case, metric, change, effect(Arm::Control), base));
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
