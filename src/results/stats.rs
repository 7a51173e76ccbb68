//! What may be concluded from noisy numbers. Pure.
//!
//! An *observation* is the median over an instance's rounds of the logarithm of a ratio that was taken
//! inside one round: drift cancels in the ratio, interference in the median. Observations of different
//! instances are independent, so an [`Effect`] is their trimmed mean, with Student's t interval over instances
//! (never over rounds: those share what their connection was born with). Trimmed, because on a shared
//! machine some instances live through somebody else's work: of ten and more, a fifth at each end is left
//! out, and the interval is Yuen's (Wilcox, *Introduction to Robust Estimation and Hypothesis Testing*, 4.3).
//!
//! A comparison is *called* ([`Verdict::Faster`], [`Verdict::Slower`]) only if all of this holds:
//! - it is significant after [Holm's correction](https://www.jstor.org/stable/4615733) for all
//!   comparisons that are judged together (of a sweep: those by one metric), so that the chance of even one
//!   false call among them is at most [`FAMILY_ERROR`];
//! - it is larger than [`FLOOR`];
//! - it is clear of what the control arm shows, which is the baseline against itself.
//!
//! The tests of [`sweep`](crate::sweep) simulate sweeps and count how often that is wrong.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The chance that a false call is among comparisons that are judged together.
pub const FAMILY_ERROR: f64 = 0.01;
/// Ratios nearer to 1 than this are not worth a verdict, however sure.
pub const FLOOR: f64 = 0.005;
/// A whole interval within this of 1 is no difference.
pub const MARGIN: f64 = 0.01;
/// The confidence of the intervals that are shown.
pub const CONFIDENCE: f64 = 0.95;
/// Fewer instances say too little about the spread between them.
pub const MIN_INSTANCES: usize = 3;

/// The median; none of nothing. Sorts `values`.
#[must_use]
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len().is_multiple_of(2) {
        f64::midpoint(values[values.len() / 2 - 1], upper)
    } else {
        upper
    })
}

/// The share of observations that is left out at each end, where there are [`MIN_TRIMMED`].
const TRIM: f64 = 0.2;
/// Of fewer observations none is left out.
const MIN_TRIMMED: usize = 10;

/// The trimmed mean of observations on a log scale, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The mean logarithm.
    pub log_mean: f64,
    /// Its standard error, from the spread between instances.
    pub standard_error: f64,
    /// Instances.
    pub instances: usize,
    /// Degrees of freedom of Student's t: one less than the instances that were not left out.
    pub degrees_of_freedom: usize,
}

/// A number with the ends of its 95 % interval.
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
    /// The same with the two sides exchanged: the baseline against what was held against it, or time for speed.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self { value: 1.0 / self.value, low: 1.0 / self.high, high: 1.0 / self.low }
    }
}

impl Effect {
    /// Of observations, one for each instance; none of fewer than [`MIN_INSTANCES`].
    #[must_use]
    pub fn of(observations: &[f64]) -> Option<Self> {
        let instances = observations.len();
        if instances < MIN_INSTANCES {
            return None;
        }
        let cut = trimmed(instances);
        let mut sorted = observations.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let kept = instances - 2 * cut;
        let log_mean = mean(&sorted[cut..instances - cut]);
        // Winsorized: what is left out counts as the last that is not.
        let (low, high) = (sorted[cut], sorted[instances - cut - 1]);
        for value in &mut sorted {
            *value = value.clamp(low, high);
        }
        let centre = mean(&sorted);
        let squares: f64 = sorted.iter().map(|value| (value - centre).powi(2)).sum();
        let spread = (squares / (instances - 1) as f64).sqrt();
        let standard_error = spread * (instances as f64).sqrt() / kept as f64;
        Some(Self { log_mean, standard_error, instances, degrees_of_freedom: degrees_of_freedom(instances) })
    }

    /// The difference of two independent effects, by Welch: each keeps its own spread.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let square = |effect: &Self| effect.standard_error.powi(2);
        let (ours, theirs) = (square(self), square(other));
        let by_degrees = |part: f64, effect: &Self| part.powi(2) / effect.degrees_of_freedom.max(1) as f64;
        // Welch and Satterthwaite's, rounded down; where neither spreads, it does not matter.
        let degrees = (ours + theirs).powi(2) / (by_degrees(ours, self) + by_degrees(theirs, other));
        Self {
            log_mean: self.log_mean - other.log_mean,
            standard_error: (ours + theirs).sqrt(),
            instances: self.instances.min(other.instances),
            degrees_of_freedom: if degrees.is_finite() { (degrees as usize).max(1) } else { 1 },
        }
    }

    /// Student's t for the instances that there are.
    fn student(&self) -> StudentsT {
        // Location 0, scale 1 and a positive number of degrees of freedom are always accepted.
        StudentsT::new(0.0, 1.0, self.degrees_of_freedom as f64)
            .unwrap_or_else(|error| unreachable!("constant parameters: {error}"))
    }

    /// Half the interval's width, on the log scale, at a confidence between 0 and 1.
    #[must_use]
    pub fn half_width(&self, confidence: f64) -> f64 {
        self.student().inverse_cdf(f64::midpoint(1.0, confidence)) * self.standard_error
    }

    /// The ratio, with its 95 % interval.
    #[must_use]
    pub fn ratio(&self) -> Estimate {
        let half = self.half_width(CONFIDENCE);
        Estimate {
            value: self.log_mean.exp(),
            low: (self.log_mean - half).exp(),
            high: (self.log_mean + half).exp(),
        }
    }

    /// How likely an effect at least so large is where there is none (two-sided).
    #[must_use]
    pub fn p_value(&self) -> f64 {
        if self.standard_error == 0.0 {
            return 1.0; // numbers too coarse to have a spread cannot say what is beyond it
        }
        2.0 * self.student().cdf(-(self.log_mean / self.standard_error).abs())
    }

    /// Whether measuring may stop: the interval at the confidence that a verdict takes among
    /// `comparisons` is narrower, end to end, than `precision`.
    #[must_use]
    pub fn is_precise(&self, comparisons: usize, precision: f64) -> bool {
        2.0 * self.half_width(1.0 - FAMILY_ERROR / comparisons.max(1) as f64) <= precision.ln_1p()
    }

    /// The smallest ratio above 1 that this spread would let a single comparison among `comparisons` find in 95 of
    /// 100 runs, or [`FLOOR`], if that is larger.
    #[must_use]
    pub fn smallest_effect(&self, comparisons: usize) -> f64 {
        let power = self.student().inverse_cdf(0.95) * self.standard_error;
        let call = self.half_width(1.0 - FAMILY_ERROR / comparisons.max(1) as f64);
        (call + power).exp_m1().max(FLOOR)
    }

    /// Whether a control arm that shows this is noise that a verdict has to clear.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.p_value() < 0.01 && self.log_mean.abs() >= FLOOR.ln_1p()
    }

    /// The interval's end that is further from no effect.
    fn far_end(&self) -> f64 {
        self.log_mean.abs() + self.half_width(CONFIDENCE)
    }

    /// The interval's end that is nearer to no effect, or beyond it.
    fn near_end(&self) -> f64 {
        self.log_mean.abs() - self.half_width(CONFIDENCE)
    }
}

/// How many of so many observations are left out at each end.
fn trimmed(instances: usize) -> usize {
    if instances < MIN_TRIMMED { 0 } else { (instances as f64 * TRIM) as usize }
}

/// The degrees of freedom of an [`Effect`] of so many observations.
#[must_use]
pub fn degrees_of_freedom(instances: usize) -> usize {
    (instances - 2 * trimmed(instances)).saturating_sub(1)
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// The ratio is above 1.
    Faster,
    /// The ratio is below 1.
    Slower,
    /// The whole interval is within the margin around 1.
    NoDifference,
    /// None of the others can be said.
    TooNoisy,
}

impl Verdict {
    /// The same with the two sides exchanged.
    #[must_use]
    pub fn inverted(self) -> Self {
        match self {
            Self::Faster => Self::Slower,
            Self::Slower => Self::Faster,
            same => same,
        }
    }
}

/// Judges all comparisons of a sweep together. Each is an effect with that of its control arm; `margin` is
/// the difference that does not matter (0.01: 1 %). Without a control a comparison is judged by the
/// rest of the rules.
#[must_use]
pub fn judge(comparisons: &[(Effect, Option<Effect>)], margin: f64) -> Vec<Verdict> {
    let p_values: Vec<f64> = comparisons.iter().map(|(effect, _)| effect.p_value()).collect();
    let verdict = |((effect, control), significant): (&(Effect, Option<Effect>), bool)| {
        let noise = control.filter(Effect::is_significant).map_or(0.0, |control| control.far_end());
        if significant && effect.log_mean.abs() >= FLOOR.ln_1p() && effect.near_end() > noise {
            if effect.log_mean > 0.0 { Verdict::Faster } else { Verdict::Slower }
        } else if effect.far_end() <= margin.ln_1p() && noise == 0.0 {
            Verdict::NoDifference
        } else {
            Verdict::TooNoisy
        }
    };
    comparisons.iter().zip(holm(&p_values, FAMILY_ERROR)).map(verdict).collect()
}

/// Holm's step-down procedure: which of the hypotheses fall, with a chance of at most `family_error` that
/// a true one is among them.
#[must_use]
pub fn holm(p_values: &[f64], family_error: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut fall = vec![false; p_values.len()];
    for (rank, &index) in order.iter().enumerate() {
        if p_values[index] > family_error / (p_values.len() - rank) as f64 {
            break;
        }
        fall[index] = true;
    }
    fall
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(log_mean: f64, standard_error: f64) -> Effect {
        Effect { log_mean, standard_error, instances: 30, degrees_of_freedom: 29 }
    }

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
        assert_eq!(Effect::of(&[1.0, 2.0]), None, "too few to say");
    }

    #[test]
    fn outliers_among_ten_move_neither_the_mean_nor_the_interval() {
        let calm: Vec<f64> = (0..10).map(f64::from).collect();
        let mut hit = calm.clone();
        (hit[0], hit[9]) = (-1000.0, 500.0);
        assert_eq!(Effect::of(&hit), Effect::of(&calm));
        // By hand: winsorized to 2..=7 the standard deviation is 2.1731; times the root of 10, by 6.
        let effect = Effect::of(&calm).unwrap();
        assert!((effect.standard_error - 1.1453).abs() < 1e-4, "{effect:?}");
        assert_eq!((effect.log_mean, effect.degrees_of_freedom), (4.5, 5));
    }

    #[test]
    fn welch_keeps_each_side_s_own_spread() {
        // By hand: s1 = 0.001 on 9 degrees, s2 = 0.003 on 4: 1e-5^2 / (1e-12 / 9 + 81e-12 / 4) = 4.9.
        let of = |log_mean, standard_error, degrees_of_freedom| Effect {
            log_mean,
            standard_error,
            instances: degrees_of_freedom + 1,
            degrees_of_freedom,
        };
        let difference = of(0.05, 0.001, 9).minus(&of(0.02, 0.003, 4));
        assert!((difference.log_mean - 0.03).abs() < 1e-12);
        assert!((difference.standard_error - 0.003_162).abs() < 1e-6, "{difference:?}");
        assert_eq!((difference.degrees_of_freedom, difference.instances), (4, 5));
    }

    #[test]
    fn holm_steps_down_and_stops() {
        assert_eq!(holm(&[0.004, 0.2, 0.001], 0.01), [true, false, true]);
        assert_eq!(holm(&[0.006, 0.006], 0.01), [false, false], "neither is below half");
        assert_eq!(holm(&[], 0.01), [false; 0]);
    }

    #[test]
    fn a_call_needs_significance_and_the_floor_and_a_quiet_control() {
        let quiet = Some(effect(0.0002, 0.0005));
        let loud = Some(effect(0.012, 0.001));
        let cases = [
            (effect(0.02, 0.001), quiet, Verdict::Faster),
            (effect(-0.02, 0.001), quiet, Verdict::Slower),
            (effect(0.004, 0.0001), quiet, Verdict::NoDifference), // sure, and below the floor
            (effect(0.01, 0.004), quiet, Verdict::TooNoisy),
            (effect(0.013, 0.001), loud, Verdict::TooNoisy), // the control is as far from 1
            (effect(0.3, 0.001), loud, Verdict::Faster),     // clear of the control
            (effect(0.001, 0.001), None, Verdict::NoDifference),
            (effect(0.001, 0.001), loud, Verdict::TooNoisy),
            (effect(0.02, 0.0), quiet, Verdict::TooNoisy), // no spread at all is no evidence
        ];
        for (effect, control, verdict) in cases {
            assert_eq!(judge(&[(effect, control)], 0.01), [verdict], "{effect:?} {control:?}");
        }
    }
}
