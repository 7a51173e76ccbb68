//! From which size on one path is cheaper than another, with an interval.
//!
//! What is known at each size is an [`Effect`]: the mean of log ratios, one for each life, and its
//! standard error. Between two sizes the log ratio is taken to be straight over the logarithm of
//! the size. The interval holds the sizes at which the ratio, so interpolated, may be 1: it begins
//! where the upper end of the ratio's interval passes 1 for the last time, and ends where the lower
//! end does. This is Fieller's construction (*Some problems in interval estimation*, 1954): at the
//! true crossing the ratio is 1, and its interval there has 1 in it 95 times of 100.

use super::stats::{CONFIDENCE, Effect};

/// So many points between two sizes, at which the ends of the interpolated ratio's interval are
/// worked out.
const STEPS: u32 = 32;

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
    /// Where a card's driver moves it to; none where nothing is known of that, or where it does not
    /// move up.
    pub moves: Option<Moves>,
}

/// From which cost of a fragment on a crossing lies above a size that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moves {
    /// The size that it passes first.
    pub past_bytes: usize,
    /// What a fragment costs then, in nanoseconds.
    pub fragment_ns: f64,
}

impl Crossing {
    /// Of effects by ascending size, above 0 where the path is better; none of fewer than two
    /// sizes.
    #[must_use]
    pub fn of(points: &[(usize, Effect)]) -> Option<Self> {
        if points.len() < 2 {
            return None;
        }
        let mut curve = Vec::new();
        for (index, (bytes, effect)) in points.iter().enumerate() {
            let (next_bytes, next) = points.get(index + 1).unwrap_or(&points[index]);
            // The last size is a point by itself.
            let steps = if index + 1 < points.len() { STEPS } else { 1 };
            for step in 0..steps {
                let share = f64::from(step) / f64::from(steps);
                let between = |from: f64, to: f64| from + share * (to - from);
                let at = between((*bytes as f64).ln(), (*next_bytes as f64).ln());
                let effect = interpolated(effect, next, share);
                curve.push((at, effect.log_mean, effect.half_width(CONFIDENCE)));
            }
        }
        let bytes = |place: Place| if let Place::At(log) = place { Place::At(log.exp()) } else { place };
        let [value, low, high] = last_zeros(&curve).map(bytes);
        Some(Self { value, low, high, moves: None })
    }
}

/// The effect between two sizes, a `share` of the way from the one to the other.
fn interpolated(one: &Effect, other: &Effect, share: f64) -> Effect {
    let errors = [(1.0 - share) * one.standard_error, share * other.standard_error];
    Effect {
        log_mean: (1.0 - share) * one.log_mean + share * other.log_mean,
        standard_error: errors[0].hypot(errors[1]),
        instances: one.instances.min(other.instances),
        degrees_of_freedom: one.degrees_of_freedom.min(other.degrees_of_freedom),
    }
}

/// From which place on a curve stays above 0: by its values, and by the upper and the lower ends of
/// their intervals. Of each point: where it is, its value, and half of its interval.
#[must_use]
pub fn last_zeros(curve: &[(f64, f64, f64)]) -> [Place; 3] {
    [0.0, 1.0, -1.0].map(|side| {
        let at = |&(x, value, half): &(f64, f64, f64)| (x, value + side * half);
        match curve.iter().rposition(|point| at(point).1 <= 0.0) {
            None => Place::Below,
            Some(last) if last + 1 == curve.len() => Place::Beyond,
            Some(last) => {
                let [(x0, y0), (x1, y1)] = [at(&curve[last]), at(&curve[last + 1])];
                Place::At(x0 + (x1 - x0) * (-y0 / (y1 - y0)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    fn effect(log_mean: f64, standard_error: f64) -> Effect {
        Effect { log_mean, standard_error, instances: 12, degrees_of_freedom: 11.0 }
    }

    #[test]
    fn a_crossing_is_between_the_sizes_where_the_ratio_passes_1() {
        let of = |means: [f64; 3]| {
            let sizes = [1024, 4096, 16384];
            let points: Vec<_> = sizes.into_iter().zip(means.map(|mean| effect(mean, 0.001))).collect();
            Crossing::of(&points).unwrap()
        };
        let Crossing { value: Place::At(value), low: Place::At(low), high: Place::At(high), .. } =
            of([-0.1, -0.05, 0.05])
        else {
            panic!("all three lie inside")
        };
        assert!((value - 8192.0).abs() < 1.0, "half-way on a logarithmic axis: {value}");
        assert!(7500.0 < low && low < 8192.0 && 8192.0 < high && high < 8950.0, "{low} {high}");
        assert_eq!(
            of([0.1, 0.2, 0.3]),
            Crossing { value: Place::Below, low: Place::Below, high: Place::Below, moves: None }
        );
        assert_eq!(
            of([0.1, 0.2, -0.3]),
            Crossing { value: Place::Beyond, low: Place::Beyond, high: Place::Beyond, moves: None }
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
