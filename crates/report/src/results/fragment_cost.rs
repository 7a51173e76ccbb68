//! What a network card's driver adds to a message, which the sink has not: it works by the
//! fragment, and the ways to send differ in that most of all.
//!
//! A time per message becomes `time + cost × fragments`, in the cells that nobody receives. Their
//! comparisons change with it: a ratio, and each end of its interval, is a ratio of two such sums.

use super::analysis::{Analysis, CellResult, SeriesOutcome};
use super::ladder::{Ladder, message_ns};
pub use super::manifest::fragments_of;
use super::metric::Metric;
use super::stats::{Effect, Estimate};
use super::verdict::Verdict;
use crate::case::{Receiver, Series};

/// What a message takes by two series of a cell, of which the first is `ratio` times as fast.
#[derive(Clone, Copy, Debug)]
pub struct Both {
    /// By the baseline, in nanoseconds.
    pub baseline_ns: f64,
    /// Fragments of a message: of the series, and of the baseline.
    pub fragments: [f64; 2],
}

impl Both {
    fn of(cell: &CellResult, series: Series, baseline: Series) -> Option<Self> {
        let (ours, theirs) = (cell.arm(series)?, cell.arm(baseline)?);
        Some(Self {
            baseline_ns: message_ns(theirs)?.value,
            fragments: [ours.fragments_per_message?, theirs.fragments_per_message?],
        })
    }

    /// What `ratio` becomes where a fragment costs so much.
    fn ratio_at(&self, ratio: f64, fragment_ns: f64) -> f64 {
        let [ours, theirs] = self.fragments.map(|fragments| fragments * fragment_ns);
        (self.baseline_ns + theirs) / (self.baseline_ns / ratio + ours)
    }

    /// The same of an effect: a small change of the log ratio is one of the sum by the share that
    /// the time has of it.
    fn effect_at(&self, effect: Effect, fragment_ns: f64) -> Effect {
        let ratio = effect.log_mean.exp();
        let own_ns = self.baseline_ns / ratio;
        let share = own_ns / (own_ns + self.fragments[0] * fragment_ns);
        Effect {
            log_mean: self.ratio_at(ratio, fragment_ns).ln(),
            standard_error: effect.standard_error * share,
            ..effect
        }
    }

    /// The cost of a fragment at which `ratio` becomes 1; infinite where the series has no more
    /// fragments than the baseline.
    pub fn bearable_ns(&self, ratio: f64) -> f64 {
        let [ours, theirs] = self.fragments;
        let saved_ns = self.baseline_ns - self.baseline_ns / ratio;
        if ours > theirs { saved_ns / (ours - theirs) } else { f64::INFINITY }
    }
}

/// What an analysis says where a card's driver takes `fragment_ns` nanoseconds for each fragment:
/// throughput and its comparisons change in the cells that nobody receives, and what else was
/// measured stays as it was. Where fragments are not known, there is no comparison.
pub fn with_fragment_cost(analysis: &Analysis, fragment_ns: f64) -> Analysis {
    let mut with = analysis.clone();
    let pairs = with.cells.iter_mut().zip(&analysis.cells);
    // As it was measured, where a fragment costs nothing: not even rounded.
    for (cell, before) in pairs.filter(|(cell, _)| fragment_ns > 0.0 && cell.cell.receiver == Receiver::Sink)
    {
        cell.fragment_ns += fragment_ns;
        for arm in &mut cell.arms {
            let ns = message_ns(arm).zip(arm.fragments_per_message);
            let change = |ns: f64, fragments: f64| ns / (ns + fragments * fragment_ns);
            // Its interval stays as wide as its own lives make it.
            arm.throughput_gbps = arm
                .throughput_gbps
                .zip(ns)
                .map(|(gbps, (ns, fragments))| gbps.scaled(change(ns.value, fragments)));
        }
        for found in &mut cell.comparisons {
            let Ok(outcome) = &mut found.outcome else { continue };
            if found.metric != Metric::Throughput {
                continue;
            }
            let Some(both) = Both::of(before, found.series, found.baseline) else {
                found.outcome = Err("the fragments of its messages are not known".to_owned());
                continue;
            };
            let SeriesOutcome { effect, ratio, .. } = *outcome;
            let Estimate { value, low, high } = ratio;
            let [value, low, high] = [value, low, high].map(|ratio| both.ratio_at(ratio, fragment_ns));
            outcome.effect = both.effect_at(effect, fragment_ns);
            outcome.ratio = Estimate { value, low, high };
            outcome.verdict = Verdict::of(outcome.ratio, found.metric.margin());
        }
    }
    with
}

/// What a fragment may cost at each size until `series` is no longer ahead of `baseline`: with the
/// 95 % interval.
pub fn bearable(ladder: &Ladder<'_>, series: Series, baseline: Series) -> Vec<(usize, Estimate)> {
    let of_cell = |cell: &&CellResult| {
        let effect = cell.comparison(Metric::Throughput, series, baseline)?.outcome.as_ref().ok()?.effect;
        let both = Both::of(cell, series, baseline)?;
        let Estimate { value, low, high } = effect.ratio();
        let [value, low, high] = [value, low, high].map(|ratio| cell.fragment_ns + both.bearable_ns(ratio));
        Some((cell.cell.payload_bytes, Estimate { value, low, high }))
    };
    ladder.cells.iter().filter_map(of_cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By docs/book/src/ways.md: `zero_copy` saves 1.16 µs of a message of 64 KiB, which lies in 14
    /// fragments more.
    const SAVES: Both = Both { baseline_ns: 19_330.0, fragments: [17.0, 3.0] };

    #[test]
    fn at_the_bearable_cost_the_two_take_the_same() {
        let ratio = 19_330.0 / (19_330.0 - 1_160.0);
        let bearable_ns = SAVES.bearable_ns(ratio);
        assert!((bearable_ns - 1_160.0 / 14.0).abs() < 0.1, "{bearable_ns}");
        assert!((SAVES.ratio_at(ratio, bearable_ns) - 1.0).abs() < 1e-9);
        assert!((SAVES.ratio_at(ratio, 0.0) - ratio).abs() < 1e-12, "a driver that costs nothing");
        let huge = Both { fragments: [2.0, 3.0], ..SAVES };
        assert!(huge.bearable_ns(ratio).is_infinite() && huge.ratio_at(ratio, 1000.0) > ratio);
    }

    #[test]
    fn an_interval_moves_as_its_ends_do() {
        let effect =
            Effect { log_mean: 0.06, standard_error: 0.001, instances: 12, degrees_of_freedom: 11.0 };
        let moved = SAVES.effect_at(effect, 50.0);
        let ends = effect.ratio();
        let expected = [ends.low, ends.high].map(|ratio| SAVES.ratio_at(ratio, 50.0));
        let found = [moved.ratio().low, moved.ratio().high];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        }
    }
}
