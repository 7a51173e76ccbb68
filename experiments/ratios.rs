//! Ratios of two measurements that ran one after the other, round by round.

use std::fmt;

use sendpath::error::Result;

/// What `of` measures divided by what `to` does. Every second round begins with the other one, so
/// that neither gains from its place.
pub fn ratio<T: Copy>(round: usize, of: T, to: T, mut measure: impl FnMut(T) -> Result<f64>) -> Result<f64> {
    if round.is_multiple_of(2) {
        let of = measure(of)?;
        Ok(of / measure(to)?)
    } else {
        let to = measure(to)?;
        Ok(measure(of)? / to)
    }
}

/// The median of some ratios, and their quartiles.
#[derive(Clone, Copy)]
pub struct Quartiles {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Quartiles {
    /// None of no ratio.
    pub fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            ratios.get((ratios.len().saturating_sub(1) as f64 * share).round() as usize).copied()
        };
        Some(Self { low: quantile(0.25)?, median: quantile(0.5)?, high: quantile(0.75)? })
    }
}

impl fmt::Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} [{:.3} {:.3}]", self.median, self.low, self.high)
    }
}
