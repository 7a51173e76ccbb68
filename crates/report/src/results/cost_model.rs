//! The cost model: what a message costs whatever its size, and what each KiB adds.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::analysis::{CellResult, Measure};
use super::ladder::{Ladder, message_ns};
use super::metric::Metric;
use super::stats::Effect;
use crate::case::{Layout, SendPath, Series};

/// Draws that an interval of the model rests on.
const DRAWS: usize = 1000;
/// The draws' seed: the same data give the same intervals.
const SEED: u64 = 0x5e9d_9a7b;

/// Where a measured time is further than this from the line (0.1: 10 %), the line is not what a
/// message costs, and has no interval.
pub const MISFIT: f64 = 0.1;

/// Whether a time, by the line, is further from it than [`MISFIT`].
fn misses(ratio: f64) -> bool {
    (ratio - 1.0).abs() > MISFIT
}

/// A straight line through the times of one series in one ladder.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Nanoseconds of every message.
    pub fixed_ns: Measure,
    /// Nanoseconds of each KiB.
    pub ns_per_kib: Measure,
    /// How far each size's time is from the line: (bytes, time by line).
    pub misfits: Vec<(usize, f64)>,
    /// The line of each draw: (fixed, by byte). None where there is no interval.
    draws: Vec<(f64, f64)>,
    line: (f64, f64),
}

impl Fit {
    /// Fits `series`; none from fewer than three sizes.
    ///
    /// Least squares of *relative* distances, since times span decades. The intervals come from a
    /// thousand draws. A draw's times are the baseline's, drawn by their own spread and the same
    /// for every series, by a ratio that is drawn by the spread of the paired ratios: so what moves
    /// all paths alike cancels in the difference of two. They hold what lives differ by, and not
    /// that a straight line is a simplification: `misfits` says that, and where one is above
    /// [`MISFIT`] there is no interval.
    pub fn of(ladder: &Ladder<'_>, series: Series) -> Option<Self> {
        let points: Vec<Point> = ladder.cells.iter().filter_map(|cell| Point::of(cell, series)).collect();
        if points.len() < 3 {
            return None;
        }
        let line = straight(points.iter().map(|point| (point.bytes as f64, point.ns)))?;
        let misfit = |point: &Point| (point.bytes, point.ns / (line.0 + line.1 * point.bytes as f64));
        let misfits: Vec<(usize, f64)> =
            points.iter().map(misfit).filter(|(_, ratio)| ratio.is_finite() && *ratio > 0.0).collect();
        // A line that is not above 0 at a size has no ratio there, and misses it.
        let is_straight = misfits.len() == points.len() && misfits.iter().all(|(_, ratio)| !misses(*ratio));
        let draws = if is_straight { draws(&points, series) } else { Vec::new() };
        let measure = |value: f64, of: fn(&(f64, f64)) -> f64| Measure {
            value,
            interval: middle(draws.iter().map(of).collect()),
        };
        Some(Self {
            fixed_ns: measure(line.0, |line| line.0),
            ns_per_kib: measure(line.1 * 1024.0, |line| line.1 * 1024.0),
            misfits,
            draws,
            line,
        })
    }

    /// The size whose time is furthest from the line, with its time by the line.
    pub fn worst_misfit(&self) -> Option<(usize, f64)> {
        let far = |(_, ratio): &(usize, f64)| (ratio - 1.0).abs();
        self.misfits.iter().copied().max_by(|one, other| far(one).total_cmp(&far(other)))
    }

    /// The same where it is further from the line than [`MISFIT`], so that the line is not what a
    /// message costs.
    pub fn missed(&self) -> Option<(usize, f64)> {
        self.worst_misfit().filter(|(_, ratio)| misses(*ratio))
    }

    /// By what this line's fixed cost, and its cost of a KiB, exceed those of another series in the
    /// same ladder, in nanoseconds.
    pub fn minus(&self, other: &Self) -> (Measure, Measure) {
        let difference = |of: fn((f64, f64)) -> f64| Measure {
            value: of(self.line) - of(other.line),
            interval: middle(
                self.draws.iter().zip(&other.draws).map(|(ours, theirs)| of(*ours) - of(*theirs)).collect(),
            ),
        };
        (difference(|line| line.0), difference(|line| line.1 * 1024.0))
    }
}

/// What a message of one size takes on a pair by one series.
struct Point {
    bytes: usize,
    ns: f64,
    /// The logarithm of the baseline's time, which all series of the cell share; none of fewer
    /// lives than an interval takes.
    baseline: Option<Effect>,
    /// The ratio to the baseline; none of the baseline itself.
    gain: Option<Effect>,
}

impl Point {
    fn of(cell: &CellResult, series: Series) -> Option<Self> {
        let arm = cell.arm(series)?;
        let baseline = cell.arms.first()?;
        let is_baseline = baseline.arm == arm.arm;
        let gain = cell.comparison(Metric::Throughput, series, baseline.arm.case.series());
        let gain = gain.and_then(|comparison| Some(comparison.outcome.as_ref().ok()?.effect));
        Some(Self {
            bytes: cell.cell.payload_bytes,
            ns: message_ns(arm)?.value,
            baseline: baseline.throughput_log.filter(|_| is_baseline || gain.is_some()),
            gain,
        })
    }
}

/// The number of a series' own random draws, from 1.
fn stream_of(series: Series) -> u64 {
    let Series { path, layout, .. } = series;
    let is_studied = SendPath::STUDIED.contains(&path) && layout != Layout::Huge;
    if is_studied && series == Series::new(path, layout) {
        return 1 + path as u64 * 2 + layout as u64;
    }
    // Of the others by their name, beyond those: a number of some twenty bits.
    let by_name = |sum: u64, byte: u8| (sum * 31 + u64::from(byte)) % (1 << 20);
    64 + series.to_string().bytes().fold(0, by_name)
}

/// Lines through drawn times.
fn draws(points: &[Point], series: Series) -> Vec<(f64, f64)> {
    if points.iter().any(|point| point.baseline.is_none()) {
        return Vec::new();
    }
    // The baseline's draws at a size are those of every other series there, the ratios' are
    // independent of theirs.
    let stream = |bytes: usize, of: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        rng.set_stream((of << 40) + bytes as u64);
        rng
    };
    let own = stream_of(series);
    let mut streams: Vec<_> =
        points.iter().map(|point| (stream(point.bytes, 0), stream(point.bytes, own))).collect();
    let deviation = |effect: &Effect, rng: &mut ChaCha8Rng| {
        effect.quantile(rng.random_range(1e-6..1.0 - 1e-6)) - effect.log_mean
    };
    let mut draw = || {
        let times: Vec<(f64, f64)> = points
            .iter()
            .zip(&mut streams)
            .map(|(point, (shared, own))| {
                // More throughput is less time.
                let baseline = point.baseline.as_ref().map_or(0.0, |effect| deviation(effect, shared));
                let gain = point.gain.as_ref().map_or(0.0, |effect| deviation(effect, own));
                (point.bytes as f64, point.ns * (-baseline - gain).exp())
            })
            .collect();
        straight(times.into_iter())
    };
    (0..DRAWS).filter_map(|_| draw()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_points_that_lie_on_one() {
        let (fixed, by_byte) =
            straight([64.0, 4096.0, 65536.0].map(|x| (x, 6000.0 + 0.1 * x)).into_iter()).unwrap();
        assert!((fixed - 6000.0).abs() < 1e-6 && (by_byte - 0.1).abs() < 1e-9, "{fixed} {by_byte}");
        assert_eq!(straight([(64.0, 1.0), (64.0, 2.0)].into_iter()), None, "one size makes no line");
    }

    fn effect(log_mean: f64, standard_error: f64) -> Effect {
        Effect { log_mean, standard_error, instances: 12, degrees_of_freedom: 11.0 }
    }

    #[test]
    fn what_moves_all_paths_alike_cancels_in_the_difference_of_two() {
        let sizes = [64_usize, 1024, 8192, 65536];
        let fit = |series: Series, gain: Option<f64>| {
            let points: Vec<Point> = sizes
                .iter()
                .map(|&bytes| {
                    let plain = 6000.0 + 0.1 * bytes as f64;
                    Point {
                        bytes,
                        ns: plain / gain.unwrap_or(1.0),
                        baseline: Some(effect(0.0, 0.05)),
                        gain: gain.map(|gain| effect(gain.ln(), 0.002)),
                    }
                })
                .collect();
            let line = straight(points.iter().map(|point| (point.bytes as f64, point.ns))).unwrap();
            let none = Measure { value: 0.0, interval: None };
            let draws = draws(&points, series);
            Fit { fixed_ns: none, ns_per_kib: none, misfits: Vec::new(), draws, line }
        };
        let two_copy = fit(Series::new(SendPath::TwoCopy, Layout::Heap), None);
        let zero_copy = fit(Series::new(SendPath::ZeroCopy, Layout::Heap), Some(0.9));
        let width = |measure: Measure| measure.interval.map(|(low, high)| high - low).unwrap();
        let (fixed, _) = zero_copy.minus(&two_copy);
        let (low, high) = fixed.interval.unwrap();
        assert!(low < 666.7 && 666.7 < high, "{fixed:?}");
        let own = middle(zero_copy.draws.iter().map(|line| line.0).collect()).unwrap();
        assert!(width(fixed) < 0.3 * (own.1 - own.0), "{fixed:?} beside {own:?}");
    }
}
