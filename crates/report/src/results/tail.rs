//! Quantiles of round trips: of all of an arm's together, with an interval over its lives.
//!
//! A quantile of each life by itself, and then a mean of those, would understate the tail: what is
//! rare happens in few lives, and moves the quantile of those alone. So all round trips are pooled,
//! and the interval is that of a bootstrap over lives (Efron and Tibshirani, *An Introduction to
//! the Bootstrap*, 8): a life's round trips belong together.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stats::{Effect, MIN_INSTANCES, too_few};

/// Draws of a bootstrap: enough for a standard error, which varies by 5 % from one seed to the
/// next.
const DRAWS: usize = 200;

/// How often each round trip was seen in one life of an arm: nanoseconds and number.
pub type Histogram = BTreeMap<u64, u64>;

/// The pooled round trips of an arm, by life.
#[derive(Debug)]
pub struct Pool {
    values_ns: Vec<u64>,
    /// Of each life, how often each of `values_ns` was seen.
    counts: Vec<Vec<u64>>,
}

impl Pool {
    /// Of the histograms of an arm's lives.
    pub fn new(lives: &[Histogram]) -> Self {
        let mut values_ns: Vec<u64> = lives.iter().flat_map(BTreeMap::keys).copied().collect();
        values_ns.sort_unstable();
        values_ns.dedup();
        let counts = lives
            .iter()
            .map(|life| values_ns.iter().map(|value| life.get(value).copied().unwrap_or(0)).collect())
            .collect();
        Self { values_ns, counts }
    }

    /// The quantile of all lives together, in nanoseconds; none of too few round trips.
    pub fn quantile_ns(&self, share: f64) -> Option<f64> {
        self.weighted_quantile_ns(share, &vec![1; self.counts.len()])
    }

    /// The same, with each life so many times.
    fn weighted_quantile_ns(&self, share: f64, times: &[u64]) -> Option<f64> {
        let mut counts = vec![0; self.values_ns.len()];
        for (life, times) in self.counts.iter().zip(times).filter(|(_, times)| **times > 0) {
            counts.iter_mut().zip(life).for_each(|(sum, count)| *sum += count * times);
        }
        let all: u64 = counts.iter().sum();
        if all < enough_round_trips(share) {
            return None;
        }
        // Between the bins of the histogram it is interpolated: else a bin's width would be the
        // least difference that could be seen, or be seen where there is none. Half of a bin's
        // round trips are below its middle.
        let rank = all as f64 * share;
        let mut below = 0.0;
        let mut last: Option<(f64, f64)> = None;
        for (&value_ns, &count) in self.values_ns.iter().zip(&counts).filter(|(_, count)| **count > 0) {
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

    /// The logarithm of the quantile, with its spread over lives.
    pub fn effect(&self, share: f64) -> Option<Effect> {
        spread(self.counts.len(), self.quantile_ns(share)?.ln(), |times| {
            Some(self.weighted_quantile_ns(share, times)?.ln())
        })
    }

    /// By what the quantile is smaller than that of `baseline`, on the log scale. The two have the
    /// same lives, in the same order.
    ///
    /// # Errors
    /// Why there is none.
    pub fn gain_over(&self, baseline: &Self, share: f64) -> Result<Effect, String> {
        let gain = |times: &[u64]| {
            let theirs = baseline.weighted_quantile_ns(share, times)?;
            Some((theirs / self.weighted_quantile_ns(share, times)?).ln())
        };
        let lives = self.counts.len();
        let whole = gain(&vec![1; lives]).ok_or_else(|| {
            format!("a quantile of {share} needs {} round trips, each timed", enough_round_trips(share))
        })?;
        spread(lives, whole, gain).ok_or_else(|| too_few(lives))
    }
}

/// The effect of which `whole` is the value, and `of` what a draw of lives gives: how often each is
/// in it.
fn spread(lives: usize, whole: f64, of: impl Fn(&[u64]) -> Option<f64>) -> Option<Effect> {
    if lives < MIN_INSTANCES {
        return None;
    }
    // Seeded, so that the same samples give the same interval.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let draw = |_| {
        let mut times = vec![0; lives];
        (0..lives).for_each(|_| times[rng.random_range(0..lives)] += 1);
        of(&times)
    };
    let draws: Vec<f64> = (0..DRAWS).filter_map(draw).collect();
    let count = draws.len() as f64;
    let mean = draws.iter().sum::<f64>() / count;
    let variance = draws.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // The bootstrap's variance is short by one life of those that there are.
    let degrees_of_freedom = (lives - 1) as f64;
    let standard_error = (variance * lives as f64 / degrees_of_freedom).sqrt();
    standard_error.is_finite().then_some(Effect {
        log_mean: whole,
        standard_error,
        instances: lives,
        degrees_of_freedom,
    })
}

/// Round trips that a quantile of `share` has to rest on: three beyond it.
pub(super) fn enough_round_trips(share: f64) -> u64 {
    (3.0 / (1.0 - share)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, LogNormal};

    #[test]
    fn a_quantile_is_interpolated_between_bins_and_needs_three_beyond_it() {
        let life: Histogram = [(100, 50), (200, 50)].into();
        let pool = Pool::new(&[life.clone(), life]);
        assert_eq!(pool.quantile_ns(0.5), Some(150.0));
        assert_eq!(pool.quantile_ns(0.99), None, "200 of 300 round trips");
    }

    #[test]
    fn what_is_rare_in_a_life_is_in_the_pooled_quantile() {
        // One life in ten has a long tail. The mean of each life's p99 would be a tenth of the way
        // there.
        let calm: Histogram = [(100, 1000)].into();
        let hit: Histogram = [(100, 700), (1000, 300)].into();
        let lives: Vec<Histogram> =
            (0..10).map(|life| if life == 0 { hit.clone() } else { calm.clone() }).collect();
        assert_eq!(Pool::new(&lives).quantile_ns(0.99).map(|ns| ns > 900.0), Some(true));
    }

    #[test]
    fn intervals_of_a_tail_cover_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let trips = LogNormal::new(9.0, 0.5).unwrap();
        let life = |rng: &mut ChaCha8Rng| {
            let mut histogram = Histogram::new();
            (0..400).for_each(|_| *histogram.entry(trips.sample(rng) as u64).or_default() += 1);
            histogram
        };
        let covered = (0..200)
            .filter(|_| {
                let arms = [(); 2].map(|()| (0..12).map(|_| life(&mut rng)).collect::<Vec<_>>());
                let gain = Pool::new(&arms[0]).gain_over(&Pool::new(&arms[1]), 0.99).unwrap();
                gain.log_mean.abs() <= gain.half_width(0.95)
            })
            .count();
        assert!((184..=200).contains(&covered), "{covered} of 200");
    }
}
