//! An effect and how sure it is, from noisy numbers. Pure.
//!
//! An *observation* is the median over an instance's rounds of the logarithm of a ratio that was
//! taken inside one round: drift cancels in the ratio, interference in the median. Observations of
//! different instances are independent, so an [`Effect`] is their mean, with Student's t interval
//! over instances (never over rounds: those share what their connection was born with). Of a sweep,
//! instances that lie far out count less. What many effects allow to be said together is
//! [`family`](super::family)'s.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The confidence of an interval that stands alone.
pub const CONFIDENCE: f64 = 0.95;
/// Fewer instances say too little about the spread between them.
pub const MIN_INSTANCES: usize = 3;

/// Of fewer observations it cannot be told which lie far out.
pub const MIN_ROBUST: usize = 8;
/// How many spreads from the median are far out.
pub const FAR: f64 = 3.0;

/// Why there is no effect of so many instances.
pub(super) fn too_few(instances: usize) -> String {
    format!("{instances} independent observations: an interval needs {MIN_INSTANCES}")
}

/// The median; none of nothing. Sorts `values`.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len().is_multiple_of(2) {
        f64::midpoint(values[values.len() / 2 - 1], upper)
    } else {
        upper
    })
}

/// The median, and the standard deviation of a normal distribution by the median distance to it:
/// neither moves much for what lies far out. The last factor is for few observations (Croux and
/// Rousseeuw, *Time-efficient algorithms for two highly robust estimators of scale*, 1992).
pub fn centre_and_spread(observations: &[f64]) -> Option<(f64, f64)> {
    let centre = median(&mut observations.to_vec())?;
    let distances: Vec<f64> = observations.iter().map(|value| value - centre).collect();
    let count = observations.len() as f64;
    Some((centre, spread_around(&distances)? * count / (count - 0.8)))
}

/// The standard deviation of a normal distribution by the median distance of many observations to
/// its centre.
pub fn spread_around(distances: &[f64]) -> Option<f64> {
    Some(1.4826 * median(&mut distances.iter().map(|distance| distance.abs()).collect::<Vec<_>>())?)
}

/// Student's t for so many degrees of freedom.
fn student(degrees_of_freedom: f64) -> StudentsT {
    // Location 0, scale 1 and a positive number of degrees of freedom are always accepted. Beyond a
    // million the normal distribution is the same to all digits that are shown.
    StudentsT::new(0.0, 1.0, degrees_of_freedom.clamp(1.0, 1e6))
        .unwrap_or_else(|error| unreachable!("constant parameters: {error}"))
}

/// Half the width of a 95 % interval, in standard errors.
pub fn standard_errors(degrees_of_freedom: f64) -> f64 {
    student(degrees_of_freedom).inverse_cdf(f64::midpoint(1.0, CONFIDENCE))
}

/// The mean of observations on a log scale, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The mean logarithm.
    pub log_mean: f64,
    /// Its standard error, from the spread between instances.
    pub standard_error: f64,
    /// Instances.
    pub instances: usize,
    /// Degrees of freedom of Student's t; infinite where the spread is as good as known.
    pub degrees_of_freedom: f64,
}

/// A number with the ends of its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Estimate {
    /// The same with the two sides exchanged: the baseline against what was held against it, or
    /// time for speed.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self { value: 1.0 / self.value, low: 1.0 / self.high, high: 1.0 / self.low }
    }
}

impl Effect {
    /// Of observations, one for each instance; none of fewer than [`MIN_INSTANCES`].
    pub fn of(observations: &[f64]) -> Option<Self> {
        let instances = observations.len();
        if instances < MIN_INSTANCES {
            return None;
        }
        let log_mean = observations.iter().sum::<f64>() / instances as f64;
        let squares: f64 = observations.iter().map(|value| (value - log_mean).powi(2)).sum();
        let degrees_of_freedom = (instances - 1) as f64;
        let standard_error = (squares / degrees_of_freedom / instances as f64).sqrt();
        Some(Self { log_mean, standard_error, instances, degrees_of_freedom })
    }

    /// The same where some instances lived through somebody else's work, as on a shared machine:
    /// what lies further from the median than three times the spread counts as if it lay there
    /// (Huber's estimator of location in one step from the median, with its standard error; Huber,
    /// *Robust Statistics*, 1981, 6.7). Where all is well it is as precise as the mean, and where
    /// one in seven instances is eight times as noisy its interval is narrower by a fifth at
    /// twelve. Fewer than [`MIN_ROBUST`] are not enough to tell who lies far out: theirs is the
    /// plain mean.
    pub fn robust(observations: &[f64]) -> Option<Self> {
        let instances = observations.len() as f64;
        let (centre, spread) = centre_and_spread(observations)?;
        if observations.len() < MIN_ROBUST || spread == 0.0 {
            return Self::of(observations);
        }
        let clipped: Vec<f64> =
            observations.iter().map(|value| (value - centre).clamp(-FAR * spread, FAR * spread)).collect();
        let kept = clipped.iter().filter(|value| value.abs() < FAR * spread).count() as f64 / instances;
        let effect = Self::of(&clipped)?;
        Some(Self {
            log_mean: centre + effect.log_mean / kept,
            standard_error: effect.standard_error / kept,
            ..effect
        })
    }

    /// The difference of two independent effects, by Welch: each keeps its own spread.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let square = |effect: &Self| effect.standard_error.powi(2);
        let (ours, theirs) = (square(self), square(other));
        let by_degrees = |part: f64, effect: &Self| part.powi(2) / effect.degrees_of_freedom;
        // Welch and Satterthwaite's; where neither spreads, it does not matter.
        let degrees = (ours + theirs).powi(2) / (by_degrees(ours, self) + by_degrees(theirs, other));
        Self {
            log_mean: self.log_mean - other.log_mean,
            standard_error: (ours + theirs).sqrt(),
            instances: self.instances.min(other.instances),
            degrees_of_freedom: if degrees.is_nan() { 1.0 } else { degrees },
        }
    }

    /// Student's t for the degrees of freedom that there are.
    fn student(&self) -> StudentsT {
        student(self.degrees_of_freedom)
    }

    /// The point of Student's t below which a share of it lies: for draws, the logarithm that a
    /// draw gives.
    pub fn quantile(&self, share: f64) -> f64 {
        self.log_mean + self.student().inverse_cdf(share) * self.standard_error
    }

    /// Half the interval's width, on the log scale, at a confidence between 0 and 1.
    pub fn half_width(&self, confidence: f64) -> f64 {
        self.student().inverse_cdf(f64::midpoint(1.0, confidence)) * self.standard_error
    }

    /// The ratio, with its interval at a confidence between 0 and 1.
    pub fn ratio_at(&self, confidence: f64) -> Estimate {
        let half = self.half_width(confidence);
        Estimate {
            value: self.log_mean.exp(),
            low: (self.log_mean - half).exp(),
            high: (self.log_mean + half).exp(),
        }
    }

    /// The ratio, with its 95 % interval: where it stands alone.
    pub fn ratio(&self) -> Estimate {
        self.ratio_at(CONFIDENCE)
    }

    /// The ratio that the true one is not below, with 95 % confidence.
    pub fn lower_bound(&self) -> f64 {
        self.quantile(1.0 - CONFIDENCE).exp()
    }

    /// How likely an effect at least so large is where there is none (two-sided).
    pub fn p_value(&self) -> f64 {
        if self.standard_error == 0.0 {
            return 1.0; // numbers too coarse to have a spread cannot say what is beyond it
        }
        2.0 * self.student().cdf(-(self.log_mean / self.standard_error).abs())
    }

    /// The smallest difference (0.01: 1 %) that this spread would let a comparison whose interval
    /// has this confidence find in 95 of 100 runs.
    pub fn smallest_effect(&self, confidence: f64) -> f64 {
        let power = self.student().inverse_cdf(0.95) * self.standard_error;
        (self.half_width(confidence) + power).exp_m1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn an_interval_is_student_s_over_instances() {
        // By hand: mean 3, standard deviation 1.5811, t(4, 97.5 %) = 2.7764, standard error 0.7071.
        let effect = Effect::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert!((effect.half_width(0.95) - 1.9632).abs() < 1e-3, "{}", effect.half_width(0.95));
        // By hand: t = 4.2426 on 4 degrees of freedom.
        assert!((effect.p_value() - 0.01324).abs() < 1e-4, "{}", effect.p_value());
        // By hand: t(4, 95 %) = 2.1318.
        assert!((effect.lower_bound().ln() - (3.0 - 2.1318 * 0.5_f64.sqrt())).abs() < 1e-3, "{effect:?}");
        assert_eq!(Effect::of(&[1.0, 2.0]), None, "too few to say");
    }

    #[test]
    fn what_lies_far_out_counts_as_if_it_lay_at_the_border() {
        // By hand: median 4.5, median distance 2.5, spread 2.5 * 1.4826 * 10 / 9.2 = 4.0288:
        // nothing is further than 12.09.
        let calm: Vec<f64> = (0..10).map(f64::from).collect();
        let plain = Effect::of(&calm).unwrap();
        let robust = Effect::robust(&calm).unwrap();
        assert!((robust.log_mean - plain.log_mean).abs() < 1e-12, "{robust:?}");
        assert!((robust.standard_error - plain.standard_error).abs() < 1e-12, "{robust:?}");
        let hit: Vec<f64> = calm.iter().map(|&value| if value > 8.5 { 1000.0 } else { value }).collect();
        let robust = Effect::robust(&hit).unwrap();
        // By hand: the last counts as 12.0864 above the median: (-4.5 * 9 + 36 + 12.0864) / 10 /
        // 0.9 + 4.5 = 5.3429.
        assert!((robust.log_mean - 5.3429).abs() < 1e-3, "{robust:?}");
        assert!(robust.standard_error < 2.0 * plain.standard_error, "{robust:?}");
        assert_eq!(Effect::robust(&hit[5..]), Effect::of(&hit[5..]), "five are too few");
        assert_eq!(Effect::robust(&[0.02; 8]), Effect::of(&[0.02; 8]));
        assert_eq!(Effect::robust(&[]), None);
    }

    #[test]
    fn robust_intervals_cover_and_are_narrower_where_there_are_outliers() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let noise = Normal::new(0.0, 0.01).unwrap();
        for (outliers, width) in [(0.0, 0.97..1.03), (1.0 / 7.0, 0.4..0.9)] {
            for lives in [8, 12, 48] {
                let (mut covered, mut widths) = (0, Vec::new());
                for _ in 0..2000 {
                    let life = |_| noise.sample(&mut rng) * if rng.random_bool(outliers) { 8.0 } else { 1.0 };
                    let lives: Vec<f64> = (0..lives).map(life).collect();
                    let effect = Effect::robust(&lives).unwrap();
                    covered += u32::from(effect.log_mean.abs() <= effect.half_width(0.95));
                    widths.push(effect.standard_error / Effect::of(&lives).unwrap().standard_error);
                }
                assert!((1880..1950).contains(&covered), "{lives} lives, {outliers}: {covered} of 2000");
                // Outliers are rare, and few lives may have none.
                widths.sort_unstable_by(f64::total_cmp);
                let median = widths[1000];
                assert!(lives < 12 || width.contains(&median), "{lives} lives, {outliers}: {median}");
            }
        }
    }

    #[test]
    fn no_spread_at_all_is_no_evidence() {
        let effect = Effect::of(&[0.02; 5]).unwrap();
        assert!(effect.p_value() > 0.999, "{effect:?}");
    }

    #[test]
    fn welch_keeps_each_side_s_own_spread() {
        // By hand: s1 = 0.001 on 9 degrees, s2 = 0.003 on 4: 1e-5^2 / (1e-12 / 9 + 81e-12 / 4) =
        // 4.911.
        let of = |log_mean, standard_error, degrees_of_freedom: f64| Effect {
            log_mean,
            standard_error,
            instances: degrees_of_freedom as usize + 1,
            degrees_of_freedom,
        };
        let difference = of(0.05, 0.001, 9.0).minus(&of(0.02, 0.003, 4.0));
        assert!((difference.log_mean - 0.03).abs() < 1e-12);
        assert!((difference.standard_error - 0.003_162).abs() < 1e-6, "{difference:?}");
        assert!((difference.degrees_of_freedom - 4.911).abs() < 1e-2, "{difference:?}");
        assert_eq!(difference.instances, 5);
    }
}
