//! The cost model: what a message costs whatever its size, and what each KiB adds. And from which size on one
//! series is better than another, by the model and by the ratios themselves.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::analysis::{Analysis, ArmResult, CellResult, Measure};
use super::crossing::Crossing;
use super::metric::Metric;
use super::stats::{Estimate, Verdict, degrees_of_freedom};
use crate::case::{Series, Situation, departures};

/// Draws that an interval of the model rests on.
const DRAWS: usize = 1000;
/// The draws' seed: the same data give the same intervals.
const SEED: u64 = 0x5e9d_9a7b;

/// Cells that differ in size alone, ascending.
#[derive(Clone, Debug)]
pub struct Ladder<'a> {
    /// What pairs do, where, and how the bytes are taken in.
    pub situation: Situation,
    /// How many pairs there are.
    pub threads: usize,
    /// The cells.
    pub cells: Vec<&'a CellResult>,
}

/// Cuts an analysis into ladders.
#[must_use]
pub fn ladders(analysis: &Analysis) -> Vec<Ladder<'_>> {
    let mut ladders: Vec<Ladder<'_>> = Vec::new();
    for result in &analysis.cells {
        let cell = result.cell;
        let key =
            |ladder: &Ladder<'_>| (ladder.situation, ladder.threads) == (cell.situation(), cell.threads);
        match ladders.iter().position(key) {
            Some(index) => ladders[index].cells.push(result),
            None => ladders.push(Ladder {
                situation: cell.situation(),
                threads: cell.threads,
                cells: vec![result],
            }),
        }
    }
    for ladder in &mut ladders {
        ladder.cells.sort_by_key(|result| result.cell.payload_bytes);
    }
    ladders
}

impl Ladder<'_> {
    /// What stands in every id of its cells: `rr/4T/paired`.
    #[must_use]
    pub fn name(&self) -> String {
        let Situation { workload, placement, receiver, source } = self.situation;
        format!("{workload}/{}T/{placement}{}", self.threads, departures(receiver, source))
    }

    /// A series' arm in each cell that measured it.
    pub fn arms(&self, series: Series) -> impl Iterator<Item = &ArmResult> {
        self.cells.iter().filter_map(move |cell| {
            cell.arms.iter().find(|arm| arm.arm.case.series() == series && !arm.arm.control)
        })
    }
}

/// How long a message takes on a pair, in nanoseconds: the pair's time by its messages. None before any was timed.
#[must_use]
pub fn message_ns(arm: &ArmResult) -> Option<Measure> {
    let case = arm.arm.case;
    let bits = (case.payload_bytes * 8 * case.threads) as f64;
    let gbps = arm.throughput_gbps?;
    let ns = |gbps: f64| bits / gbps;
    Some(Measure { value: ns(gbps.value), interval: gbps.interval.map(|(low, high)| (ns(high), ns(low))) })
}

/// A straight line through the times of one series in one ladder.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Nanoseconds of every message.
    pub fixed_ns: Measure,
    /// Nanoseconds of each KiB.
    pub ns_per_kib: Measure,
    /// How far each size's time is from the line: (bytes, time by line, whether its interval is clear of it).
    pub misfits: Vec<(usize, f64, bool)>,
    /// The line of each draw: (fixed, by byte).
    draws: Vec<(f64, f64)>,
    line: (f64, f64),
}

impl Fit {
    /// Fits `series`; none from fewer than three sizes.
    ///
    /// Least squares of *relative* distances, since times span decades. The intervals come from a thousand
    /// draws of each size's time by its own interval, so they hold what instances differ by, and not that a
    /// straight line is a simplification: `misfits` says that.
    #[must_use]
    pub fn of(ladder: &Ladder<'_>, series: Series) -> Option<Self> {
        let points: Vec<(usize, Measure, f64)> = ladder
            .arms(series)
            .filter_map(|arm| {
                Some((
                    arm.arm.case.payload_bytes,
                    message_ns(arm)?,
                    degrees_of_freedom(arm.instances as usize) as f64,
                ))
            })
            .collect();
        if points.len() < 3 {
            return None;
        }
        let line = straight(points.iter().map(|(bytes, ns, _)| (*bytes as f64, ns.value)))?;
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        // Independent of the other series' draws.
        rng.set_stream(series.0 as u64 * 2 + series.1 as u64);
        let mut draws = Vec::new();
        if points.iter().all(|(_, ns, degrees)| ns.interval.is_some() && *degrees >= 1.0) {
            for _ in 0..DRAWS {
                let draw = |&(bytes, ns, degrees): &(usize, Measure, f64)| {
                    let student = StudentsT::new(0.0, 1.0, degrees).ok()?;
                    let (low, high) = ns.interval?;
                    let standard_error = (high / low).ln() / 2.0 / student.inverse_cdf(0.975);
                    let t = student.inverse_cdf(rng.random_range(1e-6..1.0 - 1e-6));
                    Some((bytes as f64, ns.value * (standard_error * t).exp()))
                };
                let times: Option<Vec<_>> = points.iter().map(draw).collect();
                draws.extend(times.and_then(|times| straight(times.into_iter())));
            }
        }
        let misfits = points.iter().map(|(bytes, ns, _)| {
            let fitted = line.0 + line.1 * *bytes as f64;
            let clear = ns.interval.is_some_and(|(low, high)| fitted < low || fitted > high);
            (*bytes, ns.value / fitted, clear)
        });
        let misfits = misfits.filter(|(_, ratio, _)| ratio.is_finite() && *ratio > 0.0);
        let measure = |value: f64, of: fn(&(f64, f64)) -> f64| Measure {
            value,
            interval: middle(draws.iter().map(of).collect()),
        };
        Some(Self {
            fixed_ns: measure(line.0, |line| line.0),
            ns_per_kib: measure(line.1 * 1024.0, |line| line.1 * 1024.0),
            misfits: misfits.collect(),
            draws,
            line,
        })
    }

    /// The furthest that a size's time is from the line, as a ratio.
    #[must_use]
    pub fn worst_misfit(&self) -> f64 {
        let far =
            self.misfits.iter().map(|(_, ratio, _)| ratio).filter(|ratio| ratio.is_finite() && **ratio > 0.0);
        far.copied().max_by(|one, other| one.ln().abs().total_cmp(&other.ln().abs())).unwrap_or(1.0)
    }

    /// From which size on this line is below `other`'s, up to `most` bytes. An end of the interval is 0 where
    /// more than 2.5 % of the draws have it below from the start, and infinite where as many have it never so.
    #[must_use]
    pub fn crossover(&self, other: &Self, least: usize, most: usize) -> Crossover {
        let (least, most) = (least as f64, most as f64);
        let from = |ours: (f64, f64), theirs: (f64, f64)| {
            let below_at = |bytes: f64| ours.0 + ours.1 * bytes < theirs.0 + theirs.1 * bytes;
            match (below_at(least), below_at(most)) {
                (_, false) => f64::INFINITY,
                (true, true) => 0.0,
                (false, true) => (ours.0 - theirs.0) / (theirs.1 - ours.1),
            }
        };
        let value = from(self.line, other.line);
        let drawn = self.draws.iter().zip(&other.draws).map(|(ours, theirs)| from(*ours, *theirs));
        let interval = middle(drawn.collect());
        match interval {
            Some((low, _)) if low > most => Crossover::Never,
            Some((_, high)) if high < least => Crossover::Always,
            None if value > most => Crossover::Never,
            None if value < least => Crossover::Always,
            interval => Crossover::From(Measure { value, interval }),
        }
    }
}

/// From which size on one series is better than another.
#[derive(Clone, Debug, PartialEq)]
pub enum Crossover {
    /// At every size that was measured.
    Always,
    /// At none.
    Never,
    /// From about so many bytes on.
    From(Measure),
    /// Below so many bytes alone.
    UpTo(usize),
}

/// Weighted least squares of a straight line: (fixed, by byte).
fn straight(points: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in points {
        let weight = 1.0 / (y * y);
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    let determinant = w * wxx - wx * wx;
    let slope = (w * wxy - wx * wy) / determinant;
    (slope.is_finite()).then_some(((wy - slope * wx) / w, slope))
}

/// The middle 95 % of draws.
fn middle(mut draws: Vec<f64>) -> Option<(f64, f64)> {
    draws.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| draws.get((draws.len() as f64 * share) as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

/// How `series` stands against `baseline` at each size, by throughput.
#[must_use]
pub fn standing(
    ladder: &Ladder<'_>,
    series: Series,
    baseline: Series,
) -> Vec<(usize, Option<(Estimate, Verdict)>)> {
    let of = |cell: &&CellResult| {
        let direct = cell.comparisons.iter().find(|comparison| {
            comparison.metric == Metric::Throughput
                && !comparison.control
                && (comparison.series, comparison.baseline) == (series, baseline)
        });
        let outcome = direct.and_then(|comparison| comparison.outcome.as_ref().ok());
        (cell.cell.payload_bytes, outcome.map(|outcome| (outcome.effect.ratio(), outcome.verdict)))
    };
    ladder.cells.iter().map(of).collect()
}

/// Where a ratio that is below 1 at one size and above it at another passes 1, on logarithmic axes.
#[must_use]
pub fn passes_one((before_bytes, before): (usize, f64), (first_bytes, first): (usize, f64)) -> f64 {
    let share = before.ln() / (before.ln() - first.ln());
    (before_bytes as f64) * (first_bytes as f64 / before_bytes as f64).powf(share)
}

/// From which size on `series` is faster than `baseline`, by the ratios themselves, with an interval; none where a size
/// has no effect.
#[must_use]
pub fn crossing(ladder: &Ladder<'_>, series: Series, baseline: Series) -> Option<Crossing> {
    let effect = |cell: &&CellResult| {
        let found = cell.comparisons.iter().find(|comparison| {
            comparison.metric == Metric::Throughput
                && !comparison.control
                && (comparison.series, comparison.baseline) == (series, baseline)
        });
        Some((cell.cell.payload_bytes, found?.outcome.as_ref().ok()?.effect))
    };
    Crossing::of(&ladder.cells.iter().map(effect).collect::<Option<Vec<_>>>()?)
}

/// From which size on `series` is faster than `baseline`, by the verdicts: the smallest size from which on
/// every verdict says so. Where it lies is between the last size that does not and the first that does;
/// the value is where the ratio passes 1 between the two, on a logarithmic axis.
#[must_use]
pub fn crossover(ladder: &Ladder<'_>, series: Series, baseline: Series) -> Crossover {
    let standing = standing(ladder, series, baseline);
    let faster = |point: &(usize, Option<(Estimate, Verdict)>)| matches!(point.1, Some((_, Verdict::Faster)));
    let from = standing.iter().rposition(|point| !faster(point)).map_or(0, |last| last + 1);
    let Some(&(first_bytes, first)) = standing.get(from) else {
        return match standing.iter().position(|point| !faster(point)) {
            Some(end) if end > 0 => Crossover::UpTo(standing[end].0),
            _ => Crossover::Never,
        };
    };
    if from == 0 {
        return Crossover::Always;
    }
    // The last size at which it is clearly not faster bounds the place from below.
    let clear = |point: &&(usize, Option<(Estimate, Verdict)>)| {
        matches!(point.1, Some((_, Verdict::Slower | Verdict::NoDifference)))
    };
    let low = standing[..from].iter().rfind(clear).map(|point| point.0);
    let (before_bytes, before) = standing[from - 1];
    let value = match (before, first) {
        (Some((before, _)), Some((first, _))) if low.is_some() && before.value < 1.0 && first.value > 1.0 => {
            passes_one((before_bytes, before.value), (first_bytes, first.value))
        }
        _ => first_bytes as f64,
    };
    Crossover::From(Measure { value, interval: low.map(|low| (low as f64, first_bytes as f64)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(fixed: f64, by_byte: f64, spread: f64) -> Fit {
        let draws =
            (0..100).map(|i| (fixed * (1.0 + spread * (f64::from(i) - 50.0) / 50.0), by_byte)).collect();
        let measure = Measure { value: 0.0, interval: None };
        Fit { fixed_ns: measure, ns_per_kib: measure, misfits: Vec::new(), draws, line: (fixed, by_byte) }
    }

    #[test]
    fn a_line_goes_through_points_that_lie_on_one() {
        let (fixed, by_byte) =
            straight([64.0, 4096.0, 65536.0].map(|x| (x, 6000.0 + 0.1 * x)).into_iter()).unwrap();
        assert!((fixed - 6000.0).abs() < 1e-6 && (by_byte - 0.1).abs() < 1e-9, "{fixed} {by_byte}");
        assert_eq!(straight([(64.0, 1.0), (64.0, 2.0)].into_iter()), None, "one size makes no line");
    }

    #[test]
    fn lines_cross_where_they_do_and_not_outside_of_what_was_measured() {
        let plain = fit(6000.0, 0.2, 0.0);
        let Crossover::From(at) = fit(7000.0, 0.1, 0.01).crossover(&plain, 64, 65536) else { panic!() };
        assert!((at.value - 10_000.0).abs() < 1e-6, "{at:?}");
        let (low, high) = at.interval.unwrap();
        assert!(low < 10_000.0 && 10_000.0 < high, "{at:?}");
        assert_eq!(fit(7000.0, 0.1, 0.0).crossover(&plain, 64, 4096), Crossover::Never);
        assert_eq!(fit(5000.0, 0.1, 0.0).crossover(&plain, 64, 4096), Crossover::Always);
        assert_eq!(
            fit(5000.0, 0.4, 0.0).crossover(&plain, 64, 65536),
            Crossover::Never,
            "not at the largest"
        );
        // Half of the draws have it below from the start: the interval has no lower end.
        let Crossover::From(at) = fit(6000.0, 0.1, 0.1).crossover(&plain, 64, 65536) else { panic!() };
        assert_eq!(at.interval.map(|(low, _)| low), Some(0.0), "{at:?}");
    }
}
