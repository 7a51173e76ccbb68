//! A parabola through log ratios over the logarithm of the size, and where it passes 0. Pure.

use std::sync::LazyLock;

use crate::results::crossing::{Place, last_zeros};
pub(super) use crate::results::stats::FAR;
use crate::results::stats::{Effect, MIN_ROBUST, spread_around, standard_errors};

/// What a fit takes at most: level, slope and bend.
const TERMS: usize = 3;
/// How often what lies far out is moved to the border and the fit made anew.
const REFITS: u32 = 4;
/// So many points of the curve are looked at, to find where it passes 0.
const STEPS: u32 = 128;

type Row = [f64; TERMS];

/// A parabola fitted to observations; a straight line where there are two sizes.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    centre: f64,
    terms: usize,
    coefficients: Row,
    /// The inverse of the normal equations' matrix: with the variance of one observation, the
    /// coefficients' covariance.
    inverse: [Row; TERMS],
    /// The variance of one observation around the curve.
    pub(super) variance: f64,
    /// Degrees of freedom of that variance.
    pub(super) degrees_of_freedom: f64,
}

/// Where a curve passes 0 for the last time, and from where to where it may.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Root {
    pub(super) at: f64,
    /// None: perhaps further down than was looked.
    pub(super) low: Option<f64>,
    /// None: perhaps further up.
    pub(super) high: Option<f64>,
}

impl Curve {
    /// Through observations (logarithm of the size, log ratio) by least squares, in which what lies
    /// far out counts as if it lay at the border. None of fewer than two sizes, or where nothing is
    /// left to tell the spread by.
    pub(super) fn through(points: &[(f64, f64)]) -> Option<Self> {
        let mut sizes: Vec<f64> = points.iter().map(|point| point.0).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.dedup();
        let terms = sizes.len().min(TERMS);
        if terms < 2 || points.len() <= terms {
            return None;
        }
        let centre = sizes.iter().sum::<f64>() / sizes.len() as f64;
        let inverse = inverse(points.iter().map(|point| row(point.0 - centre)), terms)?;
        let mut curve = Self {
            centre,
            terms,
            coefficients: Row::default(),
            inverse,
            variance: 0.0,
            degrees_of_freedom: (points.len() - terms) as f64,
        };
        let mut values: Vec<f64> = points.iter().map(|point| point.1).collect();
        curve.fit(points, &values);
        let mut kept = 1.0;
        if points.len() >= MIN_ROBUST {
            for _ in 0..REFITS {
                let residuals: Vec<f64> = points.iter().map(|point| point.1 - curve.at(point.0)).collect();
                let few = (points.len() as f64 / curve.degrees_of_freedom).sqrt();
                let border = FAR * spread_around(&residuals)? * few;
                kept = residuals.iter().filter(|value| value.abs() <= border).count() as f64
                    / points.len() as f64;
                for ((value, residual), point) in values.iter_mut().zip(&residuals).zip(points) {
                    *value = curve.at(point.0) + residual.clamp(-border, border);
                }
                curve.fit(points, &values);
            }
        }
        let squares: f64 =
            points.iter().zip(&values).map(|(point, value)| (value - curve.at(point.0)).powi(2)).sum();
        curve.variance = squares / curve.degrees_of_freedom / (kept * kept);
        Some(curve)
    }

    fn fit(&mut self, points: &[(f64, f64)], values: &[f64]) {
        let mut sums = Row::default();
        for (point, value) in points.iter().zip(values) {
            for (sum, factor) in sums.iter_mut().zip(row(point.0 - self.centre)) {
                *sum += factor * value;
            }
        }
        for (coefficient, inverse) in self.coefficients.iter_mut().zip(&self.inverse) {
            *coefficient = inverse[..self.terms].iter().zip(&sums).map(|(one, other)| one * other).sum();
        }
    }

    /// The log ratio at `x`.
    pub(super) fn at(&self, x: f64) -> f64 {
        row(x - self.centre).iter().zip(&self.coefficients).map(|(factor, by)| factor * by).sum()
    }

    /// The log ratio at `x` and how sure it is.
    pub(super) fn effect(&self, x: f64) -> Effect {
        let row = row(x - self.centre);
        let mut leverage = 0.0;
        for (one, inverse) in row.iter().zip(&self.inverse).take(self.terms) {
            for (other, entry) in row.iter().zip(inverse).take(self.terms) {
                leverage += one * entry * other;
            }
        }
        Effect {
            log_mean: self.at(x),
            standard_error: (leverage.max(0.0) * self.variance).sqrt(),
            instances: self.degrees_of_freedom as usize + self.terms,
            degrees_of_freedom: self.degrees_of_freedom,
        }
    }

    /// Where it passes 0 for the last time between `from` and `to`, with Fieller's interval; none
    /// where it does not.
    pub(super) fn root(&self, from: f64, to: f64) -> Option<Root> {
        let t = student(self.degrees_of_freedom);
        let point = |step: u32| {
            let x = from + (to - from) * f64::from(step) / f64::from(STEPS);
            let effect = self.effect(x);
            (x, effect.log_mean, t * effect.standard_error)
        };
        let curve: Vec<_> = (0..=STEPS).map(point).collect();
        let inside = |place: Place| if let Place::At(x) = place { Some(x) } else { None };
        let [at, low, high] = last_zeros(&curve).map(inside);
        Some(Root { at: at?, low, high })
    }
}

/// Student's t of a 95 % interval. It is asked for at every look, of the same few degrees of
/// freedom.
fn student(degrees_of_freedom: f64) -> f64 {
    static KNOWN: LazyLock<Vec<f64>> =
        LazyLock::new(|| (0..=100).map(|degrees| standard_errors(f64::from(degrees))).collect());
    KNOWN.get(degrees_of_freedom as usize).copied().unwrap_or_else(|| standard_errors(degrees_of_freedom))
}

fn row(x: f64) -> Row {
    [1.0, x, x * x]
}

/// The inverse of the normal equations' matrix, by Gauss and Jordan; none where it has none.
fn inverse(rows: impl Iterator<Item = Row>, terms: usize) -> Option<[Row; TERMS]> {
    let mut matrix = [[0.0; 2 * TERMS]; TERMS];
    for row in rows {
        for one in 0..terms {
            for other in 0..terms {
                matrix[one][other] += row[one] * row[other];
            }
        }
    }
    for (index, line) in matrix.iter_mut().enumerate() {
        line[TERMS + index] = 1.0;
    }
    for pivot in 0..terms {
        let largest = (pivot..terms)
            .max_by(|&one, &other| matrix[one][pivot].abs().total_cmp(&matrix[other][pivot].abs()))?;
        matrix.swap(pivot, largest);
        let by = matrix[pivot][pivot];
        if by.abs() < 1e-12 {
            return None;
        }
        matrix[pivot].iter_mut().for_each(|entry| *entry /= by);
        let solved = matrix[pivot];
        for (index, line) in matrix.iter_mut().enumerate().take(terms) {
            if index != pivot {
                let factor = line[pivot];
                line.iter_mut().zip(solved).for_each(|(entry, by)| *entry -= factor * by);
            }
        }
    }
    let mut inverse = [Row::default(); TERMS];
    for (line, solved) in inverse.iter_mut().zip(&matrix) {
        line[..terms].copy_from_slice(&solved[TERMS..TERMS + terms]);
    }
    Some(inverse)
}
