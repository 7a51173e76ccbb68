//! What one visit says of two arms: which samples belong together, and what follows from them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::metric::{Direction, Metric};
use super::record::{Arm, Record};
use super::stats::{Effect, median, too_few};
use super::tail::{Histogram, Pool};
use crate::case::Case;
use crate::sample::Sample;

/// Samples by round and by arm, whatever tells arms apart.
pub type Rounds<Arm, Sample> = BTreeMap<u64, HashMap<Arm, Sample>>;

/// The observation that one life of some instances makes of two arms: how much better `arm` is than
/// `baseline`, on a log scale. None where they have no round in common, or where the metric is a
/// quantile: those are pooled, by [`Replicates`].
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

/// What was measured again and again: the lives of a sweep, or the blocks of a comparison.
pub struct Replicates<'r, K, S>(Vec<&'r Rounds<K, S>>);

impl<'r, K: Copy + Eq + Hash, S: Borrow<Sample>> Replicates<'r, K, S> {
    /// Of each one's rounds.
    pub fn of(rounds: impl IntoIterator<Item = &'r Rounds<K, S>>) -> Self {
        Self(rounds.into_iter().collect())
    }

    /// How much better `arm` is than `baseline`, on a log scale.
    ///
    /// # Errors
    /// Why there is no effect.
    pub fn gain(&self, metric: Metric, arm: K, baseline: K) -> Result<Effect, String> {
        if let Some(share) = metric.quantile() {
            let pool = |of: K| self.round_trips(of, &[arm, baseline]);
            return pool(arm).gain_over(&pool(baseline), share);
        }
        let each = self.0.iter().filter_map(|rounds| observation(rounds, metric, arm, baseline));
        let observations: Vec<f64> = each.collect();
        Effect::of(&observations).ok_or_else(|| too_few(observations.len()))
    }

    /// How good `arm` is by itself, on a log scale. More is better.
    pub fn level(&self, metric: Metric, arm: K, case: &Case) -> Option<Effect> {
        let sign = if metric.direction() == Direction::More { 1.0 } else { -1.0 };
        if let Some(share) = metric.quantile() {
            let effect = self.round_trips(arm, &[]).effect(share)?;
            return Some(Effect { log_mean: sign * effect.log_mean, ..effect });
        }
        let values = self.values(metric, arm, case);
        Effect::of(&values.iter().map(|value| sign * value.ln()).collect::<Vec<_>>())
    }

    /// What `arm` is by itself: Gb/s, or nanoseconds.
    pub fn value(&self, metric: Metric, arm: K, case: &Case) -> Option<f64> {
        match metric.quantile() {
            Some(share) => self.round_trips(arm, &[]).quantile_ns(share),
            None => median(&mut self.values(metric, arm, case)),
        }
    }

    /// The same of each by itself; of a quantile none.
    fn values(&self, metric: Metric, arm: K, case: &Case) -> Vec<f64> {
        let cost = |round: &HashMap<K, S>| cost_ns_per_message(metric, round.get(&arm)?.borrow());
        let of_one = |rounds: &&Rounds<K, S>| {
            let cost_ns = median(&mut rounds.values().filter_map(cost).collect::<Vec<_>>())?;
            Some(match metric {
                Metric::Throughput => case.payload_bytes as f64 * 8.0 / cost_ns,
                Metric::CpuPerByte => cost_ns / case.payload_bytes as f64,
                _ => cost_ns,
            })
        };
        self.0.iter().filter_map(of_one).collect()
    }

    /// An arm's round trips, of those in which all of `present` were measured.
    pub fn round_trips(&self, arm: K, present: &[K]) -> Pool {
        let has_all = |rounds: &&&Rounds<K, S>| {
            present.iter().all(|arm| rounds.values().any(|round| round.contains_key(arm)))
        };
        let of_one = |rounds: &&Rounds<K, S>| {
            let mut histogram = Histogram::new();
            let samples = rounds.values().filter_map(|round| Some(round.get(&arm)?.borrow()));
            for trips in samples.filter_map(|sample: &Sample| sample.client.round_trips.as_ref()) {
                for (value_ns, count) in &trips.histogram {
                    *histogram.entry(*value_ns).or_default() += count;
                }
            }
            histogram
        };
        Pool::new(&self.0.iter().filter(has_all).map(of_one).collect::<Vec<_>>())
    }
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
pub fn observe(records: &[Record], metric: Metric, arm: Arm, baseline: Arm) -> Option<f64> {
    observation(lives(records).values().next()?, metric, arm, baseline)
}
