//! Compares two builds of this program, case by case.
//!
//! A *block* starts three processes: the base, the change, and the base once more as the control.
//! One at a time runs a burst; the others wait. Each round has a burst of all three within
//! milliseconds, and the next round reverses their order (ABBA). At the end of the block all three
//! end. New processes have new addresses and new connections, so the block is the unit of
//! replication.

pub(crate) mod build;
pub(crate) mod format;
pub(crate) mod peer_copy;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, Workload};
use crate::error::{Error, Result};
use crate::results::comparison::{Comparison, Failure, Found, LeftOut, Outcome, read_together};
use crate::results::family::Family;
use crate::results::metric::Metric;
use crate::results::observation::{Replicates, Rounds};
use crate::results::verdict::Verdict;
use crate::sample::Sample;
use worker::{Build, Worker};

/// Rounds of each case in a block.
const ROUNDS: u64 = 10;
/// A verdict takes this many blocks.
const MIN_BLOCKS: usize = 3;
/// No case is settled before this many: a look at fewer would more often be wrong than it saves
/// time.
const MIN_BLOCKS_TO_SETTLE: usize = 8;

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
    /// Cases that are not among them, since a limit of this machine forbids them.
    pub left_out: Vec<LeftOut>,
    /// No case starts after this time.
    pub time: Duration,
    /// No block starts after so many.
    pub blocks: Option<usize>,
    /// How much worse a case may be, as far as the data can tell, without being a reason to object
    /// (0.02: 2 %).
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
/// A process that cannot be started, or has another [protocol](worker::PROTOCOL). A case that fails
/// is in the outcome.
pub fn run(
    base: &Build,
    change: &Build,
    plan: &BlockPlan,
    interrupted: &AtomicBool,
    progress: &mut dyn FnMut(BlockProgress),
) -> Result<Outcome> {
    let started = Instant::now();
    let plan = &mut plan.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut blocks: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
    let mut failures: BTreeMap<usize, String> = BTreeMap::new();
    let mut lengths: BTreeMap<usize, u64> = BTreeMap::new();
    let mut block = 0;
    let over = || started.elapsed() >= plan.time || interrupted.load(Ordering::Relaxed);
    let enough = |block| plan.blocks.is_some_and(|blocks| block >= blocks);
    while !over() && !enough(block) {
        let settled = settled(plan, &blocks);
        let mut order: Vec<usize> = (0..plan.cases.len())
            .filter(|case| !failures.contains_key(case) && !settled.contains(case))
            .collect();
        if order.is_empty() {
            break;
        }
        let mut starting = [(Role::Base, base), (Role::Change, change), (Role::Control, base)];
        starting.shuffle(&mut rng);
        let mut workers = BTreeMap::new();
        for (role, build) in starting {
            workers.insert(role, Worker::start(build)?);
        }
        plan.cpu_time_is_whole &= workers.values().all(Worker::cpu_time_is_whole);
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
        margin: plan.margin,
        comparisons: compare(plan, &blocks, FINAL_SHARE, &Metric::OF_AB),
        failures: failures
            .into_iter()
            .map(|(case, error)| Failure { case: plan.cases[case].to_string(), error })
            .collect(),
        left_out: plan.left_out.clone(),
        interrupted: interrupted.load(Ordering::Relaxed),
        cpu_time_is_whole: plan.cpu_time_is_whole,
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

/// What of the error the last look may spend; and what each look before, which leaves out settled
/// cases by throughput alone. Looks at mostly the same blocks agree, so that together they spend
/// little more than one.
const FINAL_SHARE: f64 = 0.9;
const EARLY_SHARE: f64 = 1.0 - FINAL_SHARE;

/// Cases of which no more blocks are needed: by throughput they are better, worse or the same, so
/// surely that looking again and again does not make it so.
fn settled(plan: &BlockPlan, blocks: &BTreeMap<usize, Vec<Block>>) -> Vec<usize> {
    if blocks.values().all(|blocks| blocks.len() < MIN_BLOCKS_TO_SETTLE) {
        return Vec::new();
    }
    let comparisons = compare(plan, blocks, EARLY_SHARE, &[Metric::Throughput]);
    let settled = comparisons.iter().filter(|comparison| comparison.verdict != Verdict::Undecided);
    let settled: Vec<&str> = settled.map(|comparison| comparison.case.as_str()).collect();
    let of_case = |&index: &usize| settled.contains(&plan.cases[index].to_string().as_str());
    let enough =
        |&index: &usize| blocks.get(&index).is_some_and(|blocks| blocks.len() >= MIN_BLOCKS_TO_SETTLE);
    (0..plan.cases.len()).filter(of_case).filter(enough).collect()
}

/// Compares all cases by all metrics. Their intervals are read together: in 95 of 100 runs where
/// nothing differs, none of them all excludes 1.
fn compare(
    plan: &BlockPlan,
    blocks: &BTreeMap<usize, Vec<Block>>,
    share: f64,
    metrics: &[Metric],
) -> Vec<Comparison> {
    let mut found = Vec::new();
    for (&index, blocks) in blocks {
        let case = plan.cases[index];
        if blocks.len() < MIN_BLOCKS {
            continue;
        }
        let replicates = Replicates::of(blocks);
        for &metric in metrics {
            let has_none = match metric {
                Metric::CpuPerByte => !plan.cpu_time_is_whole,
                _ => case.workload == Workload::Stream && metric.quantile().is_some(),
            };
            if !has_none && let Ok(change) = replicates.gain(metric, Role::Change, Role::Base) {
                let control = replicates.gain(metric, Role::Control, Role::Base).ok();
                let base = replicates.value(metric, Role::Base, &case);
                found.push(Found { case, metric, change, control, base });
            }
        }
    }
    let compared = found.len() * Metric::OF_AB.len() / metrics.len();
    read_together(found, Family::without_a_false_call(compared, share))
}
