//! What one visit says of two arms: which samples belong together, and what follows from them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::metric::Metric;
use super::record::{Arm, Record};
use super::stats::median;
use crate::case::Case;
use crate::sample::{Sample, SideReport};

/// Samples by round and by arm, whatever tells arms apart.
pub type Rounds<Arm, Sample> = BTreeMap<u64, HashMap<Arm, Sample>>;

/// The observation that one life of some instances makes of two arms: how much better `arm` is than `baseline`, on
/// a log scale. None where they have no round in common, or too few round trips for a quantile.
pub fn observation<K: Copy + Eq + Hash, S: Borrow<Sample>>(
    rounds: &Rounds<K, S>,
    metric: Metric,
    arm: K,
    baseline: K,
) -> Option<f64> {
    if let Some(share) = metric.quantile() {
        return Some((quantile_of(rounds, share, baseline)? / quantile_of(rounds, share, arm)?).ln());
    }
    let cost = |round: &HashMap<K, S>, arm| cost_ns_per_message(metric, round.get(&arm)?.borrow());
    let ratio = |round: &HashMap<K, S>| Some((cost(round, baseline)? / cost(round, arm)?).ln());
    median(&mut rounds.values().filter_map(ratio).collect::<Vec<_>>())
}

/// What one arm is by itself: Gb/s, or nanoseconds.
pub fn value<K: Copy + Eq + Hash, S: Borrow<Sample>>(
    rounds: &Rounds<K, S>,
    metric: Metric,
    arm: K,
    case: &Case,
) -> Option<f64> {
    if let Some(share) = metric.quantile() {
        return quantile_of(rounds, share, arm);
    }
    let cost = |round: &HashMap<K, S>| cost_ns_per_message(metric, round.get(&arm)?.borrow());
    let cost_ns = median(&mut rounds.values().filter_map(cost).collect::<Vec<_>>())?;
    Some(match metric {
        Metric::Throughput => case.payload_bytes as f64 * 8.0 / cost_ns,
        Metric::CpuPerByte => cost_ns / case.payload_bytes as f64,
        _ => cost_ns,
    })
}

fn quantile_of<K: Copy + Eq + Hash, S: Borrow<Sample>>(
    rounds: &Rounds<K, S>,
    share: f64,
    arm: K,
) -> Option<f64> {
    let mut batch = Batches::new(share);
    rounds.values().filter_map(|round| round.get(&arm)).for_each(|sample| batch.add(sample.borrow()));
    batch.take()
}

/// What a message costs by `metric`, in nanoseconds; none where it was not measured.
fn cost_ns_per_message(metric: Metric, sample: &Sample) -> Option<f64> {
    let cost_ns = match metric {
        Metric::CpuPerByte => cpu_ns(&sample.server) + cpu_ns(&sample.client),
        Metric::Throughput | Metric::P50 | Metric::P99 => sample.elapsed_ns as f64,
    };
    (cost_ns > 0.0).then(|| cost_ns / sample.messages as f64)
}

/// As [`observation`], of records of one generation and cell.
#[must_use]
pub fn observe(records: &[Record], metric: Metric, arm: Arm, baseline: Arm) -> Option<f64> {
    let mut rounds = Rounds::new();
    for record in records.iter().filter(|record| record.timed) {
        if let Ok(sample) = &record.outcome {
            rounds.entry(record.round).or_insert_with(HashMap::new).insert(record.arm, sample);
        }
    }
    observation(&rounds, metric, arm, baseline)
}

/// CPU time of one side, user and system.
pub(super) fn cpu_ns(side: &SideReport) -> f64 {
    side.user_ns as f64 + side.system_ns as f64
}

/// Round trips, collected until they are enough for a quantile.
pub(super) struct Batches {
    share: f64,
    count: u64,
    histogram: BTreeMap<u64, u64>,
}

impl Batches {
    pub(super) fn new(share: f64) -> Self {
        Self { share, count: 0, histogram: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, sample: &Sample) {
        for (value_ns, count) in sample.client.round_trips.iter().flat_map(|trips| &trips.histogram) {
            *self.histogram.entry(*value_ns).or_default() += count;
            self.count += count;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= enough_round_trips(self.share)
    }

    /// The quantile, once there are enough; starts over. Between the bins of the histogram it is interpolated:
    /// else a bin's width would be the least difference that could be seen, or be seen where there is none.
    pub(super) fn take(&mut self) -> Option<f64> {
        if !self.is_full() {
            return None;
        }
        let histogram = std::mem::take(&mut self.histogram);
        let rank = std::mem::take(&mut self.count) as f64 * self.share;
        // Half of a bin's round trips are below its middle.
        let mut below = 0.0;
        let mut last: Option<(f64, f64)> = None;
        for (value_ns, count) in histogram {
            let (middle, value_ns) = (below + count as f64 / 2.0, value_ns as f64);
            if middle >= rank {
                return Some(last.map_or(value_ns, |(before, before_ns)| {
                    before_ns + (value_ns - before_ns) * (rank - before) / (middle - before)
                }));
            }
            below += count as f64;
            last = Some((middle, value_ns));
        }
        last.map(|(_, value_ns)| value_ns)
    }
}

/// Round trips that a quantile of `share` has to rest on: three beyond it.
pub(super) fn enough_round_trips(share: f64) -> u64 {
    (3.0 / (1.0 - share)).ceil() as u64
}
