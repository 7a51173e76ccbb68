//! From which size on one path is cheaper than another, with an interval.
//!
//! What is known at each size is a ratio with the interval that is printed. Between two sizes it is
//! interpolated twice: its logarithm straight over the logarithm of the size, and the time of a
//! message straight over its bytes. What a message costs is nearly straight in bytes, but bends, so
//! the interval between two sizes holds both, and the value is by bytes. The crossing's interval
//! holds the sizes at which the ratio, so interpolated, may be 1: it begins where the upper end of
//! the ratio's interval passes 1 for the last time, and ends where the lower end does. This is
//! Fieller's construction (*Some problems in interval estimation*, 1954): at the true crossing the
//! ratio is 1, and its interval there has 1 in it at least 95 times of 100.

use super::stats::Estimate;

/// So many places between two sizes are looked at.
pub(super) const STEPS: u32 = 32;

/// What is known of a path against another at a size.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The size of a message.
    pub bytes: f64,
    /// How many times as fast the path is, with the interval that is printed.
    pub ratio: Estimate,
    /// The time of a message by the other path, in nanoseconds.
    pub other_ns: f64,
}

/// What is to be expected at a size between two that are known.
pub(super) fn between(ends: [Known; 2], bytes: f64) -> Estimate {
    let [from, to] = ends.map(|end| end.bytes);
    if bytes <= from || from >= to {
        return ends[0].ratio;
    }
    if bytes >= to {
        return ends[1].ratio;
    }
    let logs = ends.map(|Known { ratio, .. }| [ratio.low, ratio.value, ratio.high].map(f64::ln));
    // By shares of the two ends: the value, and the root of the squares of what is uncertain.
    let mixed = |value: f64, shares: [f64; 2]| {
        let half = |end: usize| {
            let of = |at: usize| shares[at] * (logs[at][end] - logs[at][1]);
            of(0).hypot(of(1))
        };
        [value - half(0), value, value + half(2)]
    };
    let share = (bytes / from).ln() / (to / from).ln();
    let by_logarithm = mixed((1.0 - share) * logs[0][1] + share * logs[1][1], [1.0 - share, share]);
    let share = (bytes - from) / (to - from);
    let other_ns = [(1.0 - share) * ends[0].other_ns, share * ends[1].other_ns];
    let own_ns = [other_ns[0] / ends[0].ratio.value, other_ns[1] / ends[1].ratio.value];
    let (other_sum, own_sum) = (other_ns[0] + other_ns[1], own_ns[0] + own_ns[1]);
    let by_bytes = mixed((other_sum / own_sum).ln(), own_ns.map(|ns| ns / own_sum));
    Estimate {
        low: by_logarithm[0].min(by_bytes[0]).exp(),
        value: by_bytes[1].exp(),
        high: by_logarithm[2].max(by_bytes[2]).exp(),
    }
}

/// The size that is a share of the way from one to another, on a log scale.
pub(super) fn on_the_way(from: f64, to: f64, step: u32) -> f64 {
    from * (to / from).powf(f64::from(step) / f64::from(STEPS))
}

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
    /// Of what is known by ascending size, above 1 where the path is better; none of fewer than two
    /// sizes.
    pub fn of(points: &[Known]) -> Option<Self> {
        let last = points.last().filter(|_| points.len() >= 2)?;
        let steps = |pair: &[Known]| {
            let ends = [pair[0], pair[1]];
            (0..STEPS).map(move |step| {
                let at = on_the_way(ends[0].bytes, ends[1].bytes, step);
                (at, between(ends, at))
            })
        };
        let curve: Vec<(f64, Estimate)> =
            points.windows(2).flat_map(steps).chain([(last.bytes, last.ratio)]).collect();
        let curve = |of: fn(&Estimate) -> f64| -> Vec<(f64, f64)> {
            curve.iter().map(|(at, ratio)| (at.ln(), of(ratio).ln())).collect()
        };
        let bytes = |place: Place| if let Place::At(log) = place { Place::At(log.exp()) } else { place };
        Some(Self {
            value: bytes(last_zero(&curve(|ratio| ratio.value))),
            low: bytes(last_zero(&curve(|ratio| ratio.high))),
            high: bytes(last_zero(&curve(|ratio| ratio.low))),
        })
    }
}

/// From which place on a curve stays above 0: by its values, and by the upper and the lower ends of
/// their intervals. Of each point: where it is, its value, and half of its interval.
pub fn last_zeros(curve: &[(f64, f64, f64)]) -> [Place; 3] {
    [0.0, 1.0, -1.0].map(|side| {
        let side: Vec<(f64, f64)> = curve.iter().map(|&(x, value, half)| (x, value + side * half)).collect();
        last_zero(&side)
    })
}

/// From which place on a curve stays above 0: of each point, where it is and its value.
fn last_zero(curve: &[(f64, f64)]) -> Place {
    match curve.iter().rposition(|(_, value)| *value <= 0.0) {
        None => Place::Below,
        Some(last) if last + 1 == curve.len() => Place::Beyond,
        Some(last) => {
            let [(x0, y0), (x1, y1)] = [curve[last], curve[last + 1]];
            Place::At(x0 + (x1 - x0) * (-y0 / (y1 - y0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stats::Effect;
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    /// The other path takes 5 µs, and 0.1 ns a byte.
    fn known(bytes: f64, log_mean: f64, half: f64) -> Known {
        let [low, value, high] = [log_mean - half, log_mean, log_mean + half].map(f64::exp);
        Known { bytes, ratio: Estimate { value, low, high }, other_ns: 5_000.0 + 0.1 * bytes }
    }

    #[test]
    fn a_crossing_is_between_the_sizes_where_the_ratio_passes_1() {
        let of = |means: [f64; 3]| {
            let sizes = [1024.0, 4096.0, 16384.0];
            Crossing::of(
                &sizes.into_iter().zip(means).map(|(at, mean)| known(at, mean, 0.002)).collect::<Vec<_>>(),
            )
            .unwrap()
        };
        let Crossing { value: Place::At(value), low: Place::At(low), high: Place::At(high), .. } =
            of([-0.1, -0.05, 0.05])
        else {
            panic!("all three lie inside")
        };
        // Its own time is 277 ns longer at the one size and 324 ns shorter at the other.
        assert!((value - 9763.0).abs() < 30.0, "in bytes: {value}");
        // Half-way on a logarithmic axis lies 8192.
        assert!(7500.0 < low && low < 8192.0 && value < high && high < 10_500.0, "{low} {high}");
        assert_eq!(
            of([0.1, 0.2, 0.3]),
            Crossing { value: Place::Below, low: Place::Below, high: Place::Below }
        );
        assert_eq!(
            of([0.1, 0.2, -0.3]),
            Crossing { value: Place::Beyond, low: Place::Beyond, high: Place::Beyond }
        );
        assert_eq!(Crossing::of(&[known(64.0, 0.1, 0.1)]), None);
    }

    #[test]
    fn what_is_noise_near_the_smallest_size_may_lie_below_it() {
        let crossing = Crossing::of(&[known(1024.0, -0.001, 0.02), known(4096.0, 0.2, 0.02)]).unwrap();
        assert_eq!(crossing.low, Place::Below);
        assert!(matches!(crossing.high, Place::At(bytes) if bytes < 1500.0), "{crossing:?}");
    }

    #[test]
    fn costs_that_are_straight_in_bytes_cross_where_they_do() {
        // 5,000 + 0.1 a byte against 5,900 + 0.05: equal at 18,000 bytes, between sizes 16 times
        // apart.
        let at = |bytes: f64| {
            let other_ns = 5_000.0 + 0.1 * bytes;
            known(bytes, (other_ns / (5_900.0 + 0.05 * bytes)).ln(), 0.002)
        };
        let Crossing { value: Place::At(value), low, high, .. } =
            Crossing::of(&[at(4096.0), at(65536.0)]).unwrap()
        else {
            panic!("it lies inside")
        };
        assert!((value / 18_000.0 - 1.0).abs() < 0.01, "{value}");
        assert!(low <= Place::At(18_000.0) && Place::At(18_000.0) <= high, "{low:?} {high:?}");
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
                        let ratio = Effect::of(&visits).unwrap().ratio();
                        Known { bytes: bytes as f64, ratio, other_ns: 5_000.0 + 0.1 * bytes as f64 }
                    })
                    .collect();
                let crossing = Crossing::of(&points).unwrap();
                crossing.low <= Place::At(9000.0) && Place::At(9000.0) <= crossing.high
            })
            .count();
        assert!(covered >= 184, "{covered} of 200 intervals cover what was planted");
    }
}
