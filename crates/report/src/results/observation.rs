//! What one visit says of two arms: which samples belong together, and what follows from them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::metric::Metric;
use super::record::{Arm, Record};
use super::stats::median;
use crate::case::Case;
use crate::sample::Sample;

/// Samples by round and by arm, whatever tells arms apart.
pub type Rounds<Arm, Sample> = BTreeMap<u64, HashMap<Arm, Sample>>;

/// The observation that one life of some instances makes of two arms: how much better `arm` is than
/// `baseline`, on a log scale. None where they have no round in common, or where the metric is a
/// quantile: those are pooled over lives, by [`tail`](super::tail).
pub fn observation<K: Copy + Eq + Hash, S: Borrow<Sample>>(
    rounds: &Rounds<K, S>,
    metric: Metric,
    arm: K,
    baseline: K,
) -> Option<f64> {
    median(&mut log_ratios(rounds, metric, arm, baseline).map(|(_, log)| log).collect::<Vec<_>>())
}

/// How much better `arm` is than `baseline` in each round that has both, on a log scale, with the
/// round's number.
pub fn log_ratios<K: Copy + Eq + Hash, S: Borrow<Sample>>(
    rounds: &Rounds<K, S>,
    metric: Metric,
    arm: K,
    baseline: K,
) -> impl Iterator<Item = (u64, f64)> {
    let cost = move |round: &HashMap<K, S>, arm| cost_ns_per_message(metric, round.get(&arm)?.borrow());
    rounds
        .iter()
        .filter_map(move |(&at, round)| Some((at, (cost(round, baseline)? / cost(round, arm)?).ln())))
}

/// What one arm is by itself: Gb/s, or nanoseconds; of a quantile none, as above.
pub fn value<K: Copy + Eq + Hash, S: Borrow<Sample>>(
    rounds: &Rounds<K, S>,
    metric: Metric,
    arm: K,
    case: &Case,
) -> Option<f64> {
    let cost = |round: &HashMap<K, S>| cost_ns_per_message(metric, round.get(&arm)?.borrow());
    let cost_ns = median(&mut rounds.values().filter_map(cost).collect::<Vec<_>>())?;
    Some(match metric {
        Metric::Throughput => case.payload_bytes as f64 * 8.0 / cost_ns,
        Metric::CpuPerByte => cost_ns / case.payload_bytes as f64,
        _ => cost_ns,
    })
}

/// What a message costs by `metric`, in nanoseconds; none where it was not measured.
pub(super) fn cost_ns_per_message(metric: Metric, sample: &Sample) -> Option<f64> {
    let cost_ns = match metric {
        Metric::CpuPerByte => sample.server.cpu_ns()? + sample.client.cpu_ns()?,
        Metric::Throughput => sample.elapsed_ns as f64,
        Metric::P50 | Metric::P99 => return None,
    };
    (cost_ns > 0.0).then(|| cost_ns / sample.messages as f64)
}

/// The timed samples of some records of one cell, by generation.
#[must_use]
pub fn lives<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<u64, Rounds<Arm, &'a Sample>> {
    let mut lives: BTreeMap<u64, Rounds<Arm, &Sample>> = BTreeMap::new();
    for record in records.into_iter().filter(|record| record.timed) {
        if let Ok(sample) = &record.outcome {
            let rounds = lives.entry(record.generation).or_default();
            rounds.entry(record.round).or_default().insert(record.arm, sample);
        }
    }
    lives
}

/// As [`observation`], of records of one generation and cell.
#[must_use]
pub fn observe(records: &[Record], metric: Metric, arm: Arm, baseline: Arm) -> Option<f64> {
    observation(lives(records).values().next()?, metric, arm, baseline)
}
