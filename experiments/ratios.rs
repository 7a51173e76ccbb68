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

/// The median of some ratios, with its 95 % interval by their order: no more than that each is as
/// likely above the true median as below it is assumed (the sign test's interval).
#[derive(Clone, Copy)]
pub struct Median {
    pub low: f64,
    pub value: f64,
    pub high: f64,
}

impl Median {
    /// None of no ratio. Fewer than six have no such interval: it has no ends.
    pub fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let count = ratios.len();
        let median = *ratios.get(count.saturating_sub(1) / 2)?;
        let out = below(count);
        let (low, high) = match out.checked_sub(1) {
            Some(last) => (ratios[last], ratios[count - out]),
            None => (0.0, f64::INFINITY),
        };
        Some(Self { low, value: median, high })
    }
}

/// How many of so many sorted ratios may be left out at each end: the largest number that as few
/// heads of so many throws of a coin, or fewer than it, come up in 2.5 of 100 times at most.
fn below(count: usize) -> usize {
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut sum = 0.0;
    for heads in 0..count {
        sum += chance;
        if sum > 0.025 {
            return heads;
        }
        chance *= (count - heads) as f64 / (heads + 1) as f64;
    }
    0
}

impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} [{:.3} {:.3}]", self.value, self.low, self.high)
    }
}
