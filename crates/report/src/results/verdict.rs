//! What a comparison says: read off the interval that is printed, and nothing else.

use serde::Serialize;

use super::stats::Estimate;

/// Two paths are the same where they differ by less; in p99 by less than [`SAME_P99`].
pub(super) const SAME: f64 = 0.02;
/// The 99th percentile is seldom known better.
pub(super) const SAME_P99: f64 = 0.1;
/// Two builds are the same where they differ by less; in p99 by less than [`SAME_BUILD_P99`].
pub(super) const SAME_BUILD: f64 = 0.005;
/// As of two paths.
pub(super) const SAME_BUILD_P99: f64 = 0.02;

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is above 1.
    Faster,
    /// The whole interval is below 1.
    Slower,
    /// The whole interval is within the margin around 1.
    Same,
    /// The interval has 1 in it and reaches beyond the margin.
    Undecided,
}

impl Verdict {
    /// Reads it off a printed interval. One without a width, of numbers too coarse to differ, calls
    /// nothing. `margin` is the difference that does not matter (0.02: 2 %), upwards; downwards it
    /// is as far on the log scale, so that the verdict is the same, exchanged, when the two sides
    /// are.
    ///
    /// ```
    /// use sendpath_report::results::stats::Estimate;
    /// use sendpath_report::results::verdict::Verdict;
    ///
    /// let of = |low, high| Verdict::of(Estimate { value: (low + high) / 2.0, low, high }, 0.02);
    /// assert_eq!(of(1.03, 1.06), Verdict::Faster);
    /// assert_eq!(of(1.003, 1.012), Verdict::Same);
    /// assert_eq!(of(0.95, 1.06), Verdict::Undecided);
    /// ```
    pub fn of(interval: Estimate, margin: f64) -> Self {
        let Estimate { low, high, .. } = interval;
        if low >= 1.0 / (1.0 + margin) && high <= 1.0 + margin {
            Self::Same
        } else if low >= high {
            Self::Undecided
        } else if low > 1.0 {
            Self::Faster
        } else if high < 1.0 {
            Self::Slower
        } else {
            Self::Undecided
        }
    }

    /// Whether it calls one of the two the better.
    pub fn is_call(self) -> bool {
        matches!(self, Self::Faster | Self::Slower)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exchanged_sides_exchange_the_verdict(log in -0.5..0.5_f64, half in 0.001..0.5_f64, margin in 0.0..0.2_f64) {
            let interval = Estimate { value: log.exp(), low: (log - half).exp(), high: (log + half).exp() };
            // Beside the borders, where rounding decides.
            let borders = [0.0, margin.ln_1p(), -margin.ln_1p()];
            prop_assume!(borders.iter().all(|border| [log - half, log + half].iter().all(|end| (end - border).abs() > 1e-9)));
            prop_assert_eq!(Verdict::of(interval.inverted(), margin), Verdict::of(interval, margin).inverted());
        }
    }

    #[test]
    fn an_interval_with_no_width_at_1_is_the_same() {
        assert_eq!(Verdict::of(Estimate { value: 1.0, low: 1.0, high: 1.0 }, 0.0), Verdict::Same);
        assert_eq!(Verdict::of(Estimate { value: 1.1, low: 1.1, high: 1.1 }, 0.02), Verdict::Undecided);
    }
}
