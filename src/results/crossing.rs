//! From which size on one path is cheaper than another, with an interval.
//!
//! What is known at each size is an [`Effect`]: the mean of log ratios, one for each visit, and its standard error.
//! Between two sizes the log ratio is taken to be straight over the logarithm of the size. The interval is that of
//! draws: each size's effect is drawn from Student's t around its mean, the crossing of the drawn curve is found, and
//! the middle 95 % of all crossings is the interval. Sizes are measured apart, so that they are drawn apart.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::stats::{CONFIDENCE, Effect};

/// So many draws leave 50 on each side of a 95 % interval.
const DRAWS: usize = 2000;

/// Where a path becomes the cheaper one.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Place {
    /// Below the smallest size that was measured: it is cheaper at all of them.
    Below,
    /// At about so many bytes.
    At(f64),
    /// Beyond the largest size that was measured: there it is not cheaper yet.
    Beyond,
}

/// The size from which on a path is cheaper, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// By the means.
    pub value: Place,
    /// The interval's lower end.
    pub low: Place,
    /// The interval's upper end.
    pub high: Place,
}

impl Crossing {
    /// Of effects by ascending size, above 0 where the path is better; none of fewer than two sizes.
    #[must_use]
    pub fn of(points: &[(usize, Effect)]) -> Option<Self> {
        if points.len() < 2 {
            return None;
        }
        let means: Vec<(f64, f64)> =
            points.iter().map(|(bytes, effect)| ((*bytes as f64).ln(), effect.log_mean)).collect();
        // Seeded, so that the same samples give the same interval.
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut drawn = means.clone();
        let mut places: Vec<Place> = (0..DRAWS)
            .map(|_| {
                for ((drawn, mean), (_, effect)) in drawn.iter_mut().zip(&means).zip(points) {
                    drawn.1 = mean.1 + effect.standard_error * student(effect.degrees_of_freedom, &mut rng);
                }
                place(&drawn)
            })
            .collect();
        places.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        let outside = (DRAWS as f64 * (1.0 - CONFIDENCE) / 2.0) as usize;
        Some(Self { value: place(&means), low: places[outside], high: places[DRAWS - 1 - outside] })
    }
}

/// A draw from Student's t.
fn student(degrees_of_freedom: usize, rng: &mut impl Rng) -> f64 {
    // Location 0, scale 1 and a positive number of degrees of freedom are always accepted.
    let t = StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1) as f64)
        .unwrap_or_else(|error| unreachable!("constant parameters: {error}"));
    t.inverse_cdf(rng.random_range(1e-9..1.0 - 1e-9))
}

/// From which place on the curve (logarithm of the size, log ratio) stays above 0.
fn place(curve: &[(f64, f64)]) -> Place {
    match curve.iter().rposition(|point| point.1 <= 0.0) {
        None => Place::Below,
        Some(last) if last + 1 == curve.len() => Place::Beyond,
        Some(last) => {
            let [(x0, y0), (x1, y1)] = [curve[last], curve[last + 1]];
            Place::At((x0 + (x1 - x0) * (-y0 / (y1 - y0))).exp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, Normal};

    fn effect(log_mean: f64, standard_error: f64) -> Effect {
        Effect { log_mean, standard_error, instances: 12, degrees_of_freedom: 11 }
    }

    #[test]
    fn a_crossing_is_between_the_sizes_where_the_ratio_passes_1() {
        let of = |means: [f64; 3]| {
            let sizes = [1024, 4096, 16384];
            let points: Vec<_> = sizes.into_iter().zip(means.map(|mean| effect(mean, 0.001))).collect();
            Crossing::of(&points).unwrap()
        };
        let Crossing { value: Place::At(value), low: Place::At(low), high: Place::At(high) } =
            of([-0.1, -0.05, 0.05])
        else {
            panic!("all three lie inside")
        };
        assert!((value - 8192.0).abs() < 1.0, "half-way on a logarithmic axis: {value}");
        assert!(7500.0 < low && low < 8192.0 && 8192.0 < high && high < 8950.0, "{low} {high}");
        assert_eq!(
            of([0.1, 0.2, 0.3]),
            Crossing { value: Place::Below, low: Place::Below, high: Place::Below }
        );
        assert_eq!(
            of([0.1, 0.2, -0.3]),
            Crossing { value: Place::Beyond, low: Place::Beyond, high: Place::Beyond }
        );
        assert_eq!(Crossing::of(&[(64, effect(0.1, 0.1))]), None);
    }

    #[test]
    fn what_is_noise_near_the_smallest_size_may_lie_below_it() {
        let points = [(1024, effect(-0.001, 0.01)), (4096, effect(0.2, 0.01))];
        let crossing = Crossing::of(&points).unwrap();
        assert_eq!(crossing.low, Place::Below);
        assert!(matches!(crossing.high, Place::At(bytes) if bytes < 1400.0), "{crossing:?}");
    }

    #[test]
    fn the_interval_of_a_planted_crossing_covers_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let normal = Normal::new(0.0, 0.03).unwrap();
        let sizes = [64_usize, 1024, 4096, 16384, 65536];
        // The log ratio is straight over the logarithm of the size, and 0 at 9,000 bytes.
        let truth = |bytes: usize| 0.05 * (bytes as f64 / 9000.0).ln();
        let covered = (0..200)
            .filter(|_| {
                let points: Vec<_> = sizes
                    .into_iter()
                    .map(|bytes| {
                        let visits: Vec<f64> =
                            (0..12).map(|_| truth(bytes) + normal.sample(&mut rng)).collect();
                        (bytes, Effect::of(&visits).unwrap())
                    })
                    .collect();
                let crossing = Crossing::of(&points).unwrap();
                crossing.low <= Place::At(9000.0) && Place::At(9000.0) <= crossing.high
            })
            .count();
        assert!(covered >= 184, "{covered} of 200 intervals cover what was planted");
    }
}
