//! Many comparisons that are read together: what each may borrow from the others, and what it owes
//! to their number.
//!
//! Borrowed is how noisy a comparison is: a few instances estimate their own spread badly, and the
//! spreads of all cells together say what is usual ([`moderate`], the empirical Bayes of Smyth,
//! *Linear models and empirical Bayes methods*, 2004).
//!
//! Owed is the width of the intervals. Who looks at many and picks those that exclude 1 picks some
//! that do so by chance. [`Family::of`] selects by Benjamini and Hochberg's procedure and prints
//! every interval at the confidence that Benjamini and Yekutieli's *False discovery rate-adjusted
//! multiple confidence intervals* (2005) takes for so many selected of so many: then exactly those
//! that were selected exclude 1, so that the verdict can be read off the interval. By one metric,
//! on average at most 5 % of a sweep's intervals that exclude 1 do so by chance, and 5 % of them do
//! not cover the truth; and where nothing differs, at most 5 % of sweeps have one.

use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};
use statrs::function::gamma::digamma;

use super::stats::Effect;

/// What share of a sweep's calls may be false, on average over sweeps; what share of `ab`'s runs
/// may call anything where nothing differs.
pub const ERROR: f64 = 0.05;

/// Comparisons that are read together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// The confidence that all their intervals are printed at.
    pub confidence: f64,
}

impl Family {
    /// Of effects at the `look`-th look at the same sweep, from 1: each resumption is another.
    pub fn of(effects: &[Effect], look: u32) -> Self {
        let mut p_values: Vec<f64> = effects.iter().map(Effect::p_value).collect();
        p_values.sort_unstable_by(f64::total_cmp);
        let each = error_of(look) / p_values.len().max(1) as f64;
        let selected = p_values.iter().enumerate().rposition(|(index, p)| *p <= (index + 1) as f64 * each);
        let selected = selected.map_or(1, |last| last + 1);
        Self { confidence: 1.0 - selected as f64 * each }
    }

    /// Of so many comparisons where not one false call is wanted among all of them in 95 of 100
    /// runs: Bonferroni's. Who looks more than once gives each look a `share` of the error.
    pub fn without_a_false_call(comparisons: usize, share: f64) -> Self {
        Self { confidence: 1.0 - share * ERROR / comparisons.max(1) as f64 }
    }
}

/// What of the error a look may spend. Who looks, and goes on where it is undecided, has as many
/// chances as looks: the first spends most, and later ones less and less. All of them together
/// spend no more than [`ERROR`], however many.
fn error_of(look: u32) -> f64 {
    /// The sum of one by the cube of each number is 1.202.
    const FIRST: f64 = 0.83;
    FIRST * ERROR / f64::from(look.max(1)).powi(3)
}

/// Moves each effect's standard error towards what is usual among them, as far as the few instances
/// of each leave it open, and adds to its degrees of freedom what that is worth: never more than
/// all of them have together.
pub fn moderate<'a>(effects: impl Iterator<Item = &'a mut Effect>) {
    let mut effects: Vec<&mut Effect> = effects.collect();
    let variance = |effect: &Effect| effect.standard_error.powi(2) * effect.instances as f64;
    // Numbers too coarse to have a spread say nothing of what is usual.
    let known = || effects.iter().filter(|effect| effect.standard_error > 0.0);
    let Some(prior) = Prior::of(known().map(|effect| (variance(effect), effect.degrees_of_freedom))) else {
        return;
    };
    let all_degrees: f64 = known().map(|effect| effect.degrees_of_freedom).sum();
    for effect in &mut effects {
        let degrees = effect.degrees_of_freedom;
        let own = variance(effect);
        let moderated = if prior.degrees.is_infinite() {
            prior.variance
        } else {
            (prior.degrees * prior.variance + degrees * own) / (prior.degrees + degrees)
        };
        effect.standard_error = (moderated / effect.instances as f64).sqrt();
        effect.degrees_of_freedom = (degrees + prior.degrees).min(all_degrees);
    }
}

/// What is usual among variances: a scaled inverse chi-squared distribution.
#[derive(Clone, Copy, Debug)]
struct Prior {
    variance: f64,
    /// How much it is worth, in degrees of freedom; infinite where the variances differ by no more
    /// than chance.
    degrees: f64,
}

impl Prior {
    /// Of variances with their degrees of freedom, by the moments of their logarithms; none of
    /// fewer than three.
    fn of(variances: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let points: Vec<(f64, f64)> = variances
            .map(|(variance, degrees)| {
                (variance.ln() - digamma(degrees / 2.0) + (degrees / 2.0).ln(), degrees)
            })
            .collect();
        if points.len() < 3 {
            return None;
        }
        let count = points.len() as f64;
        let mean = points.iter().map(|(log, _)| log).sum::<f64>() / count;
        let squares: f64 = points.iter().map(|(log, _)| (log - mean).powi(2)).sum();
        let by_chance = points.iter().map(|(_, degrees)| trigamma(degrees / 2.0)).sum::<f64>() / count;
        let beyond_chance = squares / (count - 1.0) - by_chance;
        if beyond_chance <= 0.0 {
            return Some(Self { variance: mean.exp(), degrees: f64::INFINITY });
        }
        let degrees = 2.0 * inverse_trigamma(beyond_chance);
        Some(Self { variance: (mean + digamma(degrees / 2.0) - (degrees / 2.0).ln()).exp(), degrees })
    }
}

/// The second derivative of the logarithm of the gamma function, of a positive number: by its
/// recurrence up to where the asymptotic series is exact (Abramowitz and Stegun, 6.4.6 and 6.4.12).
fn trigamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 8.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    sum + 1.0 / x + inverse / 2.0 + inverse / x * (1.0 / 6.0 - inverse * (1.0 / 30.0 - inverse / 42.0))
}

/// Of which positive number [`trigamma`] is `value`: by halving, since it falls.
fn inverse_trigamma(value: f64) -> f64 {
    let (mut low, mut high) = (1e-3_f64, 1e6_f64);
    for _ in 0..80 {
        let middle = (low * high).sqrt();
        if trigamma(middle) > value { low = middle } else { high = middle }
    }
    (low * high).sqrt()
}

/// What the control arms say of a sweep as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlCheck {
    /// Controls that were measured.
    pub controls: usize,
    /// How far they lie from 1, in units of what their own spread explains: 1 where all is well.
    pub scatter: f64,
    /// By what every interval is widened: `scatter`, where that is more than chance.
    pub widening: f64,
}

impl ControlCheck {
    /// Of the controls' effects, one for each cell.
    pub fn of(controls: &[Effect]) -> Self {
        let normal = Normal::standard();
        // As far out as a normal distribution has to be for a deviation as rare as this one.
        let score = |effect: &Effect| normal.inverse_cdf((effect.p_value() / 2.0).clamp(1e-300, 0.5));
        let squares: f64 = controls.iter().map(|effect| score(effect).powi(2)).sum();
        let scatter = if controls.is_empty() { 1.0 } else { (squares / controls.len() as f64).sqrt() };
        let by_chance =
            ChiSquared::new(controls.len().max(1) as f64).map_or(1.0, |chance| chance.sf(squares));
        let is_off = !controls.is_empty() && by_chance < 0.01;
        Self { controls: controls.len(), scatter, widening: if is_off { scatter.max(1.0) } else { 1.0 } }
    }

    /// Widens an effect's interval.
    pub fn widened(&self, effect: Effect) -> Effect {
        Effect { standard_error: effect.standard_error * self.widening, ..effect }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal as Noise};

    fn effect(log_mean: f64, standard_error: f64) -> Effect {
        Effect { log_mean, standard_error, instances: 30, degrees_of_freedom: 29.0 }
    }

    #[test]
    fn those_that_are_selected_are_exactly_those_whose_interval_excludes_1() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let noise = Noise::new(0.0, 1.0).unwrap();
        for _ in 0..200 {
            let effects: Vec<Effect> = (0..30)
                .map(|index| effect(noise.sample(&mut rng) * 0.01 + f64::from(index % 3) * 0.015, 0.01))
                .collect();
            let Family { confidence } = Family::of(&effects, 1);
            let excludes = |effect: &&Effect| effect.log_mean.abs() > effect.half_width(confidence);
            let called = effects.iter().filter(excludes).count();
            let each = 0.0415 / effects.len() as f64;
            let expected = 1.0 - called.max(1) as f64 * each;
            assert!((confidence - expected).abs() < 1e-12, "{called} called at {confidence}");
        }
    }

    #[test]
    fn each_resumption_has_less_to_spend() {
        let all = [effect(0.1, 0.01)];
        let confidences: Vec<f64> = (1..4).map(|look| Family::of(&all, look).confidence).collect();
        assert!(confidences.is_sorted(), "{confidences:?}");
        assert!((confidences[0] - 0.9585).abs() < 1e-12 && (confidences[1] - 0.994_812_5).abs() < 1e-12);
    }

    #[test]
    fn trigamma_is_what_the_tables_say() {
        // Abramowitz and Stegun, table 6.1: at 1 it is pi squared by 6, at one half pi squared by
        // 2.
        for (x, value) in [(1.0, 1.644_934_066_8), (0.5, 4.934_802_200_5), (10.0, 0.105_166_335_7)] {
            assert!((trigamma(x) - value).abs() < 1e-8, "{x}: {}", trigamma(x));
            assert!((inverse_trigamma(value) - x).abs() < 1e-6 * x, "{value}");
        }
    }

    #[test]
    fn spreads_that_are_alike_are_taken_together() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let noise = Noise::new(0.0, 0.02).unwrap();
        let of = |rng: &mut ChaCha8Rng| {
            Effect::of(&(0..5).map(|_| noise.sample(rng)).collect::<Vec<_>>()).unwrap()
        };
        let mut effects: Vec<Effect> = (0..60).map(|_| of(&mut rng)).collect();
        let before = effects.clone();
        moderate(effects.iter_mut());
        let truth = 0.02 / 5.0_f64.sqrt();
        let off = |effects: &[Effect]| -> f64 {
            effects.iter().map(|effect| (effect.standard_error / truth).ln().powi(2)).sum()
        };
        assert!(off(&effects) < 0.2 * off(&before), "{} of {}", off(&effects), off(&before));
        assert!(effects.iter().all(|effect| effect.degrees_of_freedom > 10.0), "{:?}", effects[0]);
    }

    #[test]
    fn a_spread_of_its_own_stays() {
        // Half of the cells are ten times as noisy as the others, over many instances.
        let mut effects: Vec<Effect> =
            (0..20).map(|index| effect(0.0, if index % 2 == 0 { 0.001 } else { 0.01 })).collect();
        moderate(effects.iter_mut());
        for (index, effect) in effects.iter().enumerate() {
            let own = if index % 2 == 0 { 0.001 } else { 0.01 };
            assert!((effect.standard_error / own).ln().abs() < 0.4, "{effect:?}");
        }
    }

    #[test]
    fn controls_that_are_off_widen_and_others_do_not() {
        let quiet: Vec<Effect> =
            (0..18).map(|index| effect(0.001 * f64::from(index % 3 - 1), 0.001)).collect();
        assert_eq!(ControlCheck::of(&quiet).widened(quiet[0]), quiet[0]);
        let off: Vec<Effect> =
            quiet.iter().map(|each| Effect { log_mean: each.log_mean * 5.0, ..*each }).collect();
        let check = ControlCheck::of(&off);
        assert!((2.5..5.0).contains(&check.widening), "{check:?}");
        assert!((check.widened(off[0]).standard_error / (0.001 * check.widening) - 1.0).abs() < 1e-12);
        assert_eq!(ControlCheck::of(&[]).widened(quiet[0]), quiet[0]);
    }
}
