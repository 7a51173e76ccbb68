//! What paths are compared by.

use serde::Serialize;

use super::stats::Estimate;
use super::verdict::{self, Verdict};
use crate::format;

/// What paths are compared by.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::Display, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Metric {
    /// Payload bytes received, divided by the time.
    Throughput,
    /// The median round trip.
    P50,
    /// The round trip that 99 of 100 do not exceed.
    P99,
    /// CPU time of both sides' threads per payload byte. Of both: which side the kernel books a
    /// cost to depends on where the two run.
    CpuPerByte,
}

/// Which way a metric gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    More,
    /// Less is better.
    Less,
}

impl Direction {
    /// What a value is multiplied by, where it got better by `gain`.
    pub fn of_gain(self, gain: f64) -> f64 {
        match self {
            Self::More => gain,
            Self::Less => 1.0 / gain,
        }
    }
}

impl Metric {
    /// What paths are compared by in a sweep.
    pub const OF_A_SWEEP: [Self; 3] = [Self::Throughput, Self::P99, Self::CpuPerByte];
    /// What two builds, or two sweeps, are compared by, in the order in which they are shown.
    pub const OF_AB: [Self; 4] = [Self::Throughput, Self::P50, Self::P99, Self::CpuPerByte];

    /// Its name in a sentence or a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::P50 => "median round trip",
            Self::P99 => "p99 round trip",
            Self::CpuPerByte => "CPU time per byte",
        }
    }

    /// Its name in files and for services: the column of `summary.csv` that holds it, unit
    /// included.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Throughput => "throughput_gbps",
            Self::P50 => "rtt_p50_ns",
            Self::P99 => "rtt_p99_ns",
            Self::CpuPerByte => "cpu_ns_per_byte",
        }
    }

    /// The unit that its values are in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "Gb/s",
            Self::P50 | Self::P99 | Self::CpuPerByte => "ns",
        }
    }

    /// Which way it gets better.
    pub fn direction(self) -> Direction {
        match self {
            Self::Throughput => Direction::More,
            Self::P50 | Self::P99 | Self::CpuPerByte => Direction::Less,
        }
    }

    /// The share of round trips that are not longer, of those metrics that are a quantile of them.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P99 => Some(0.99),
            Self::Throughput | Self::CpuPerByte => None,
        }
    }

    /// What became of the value itself: a gain (above 1 is better) is a ratio above 1 of
    /// throughput, and one below 1 of a time.
    pub fn change(self, gain: Estimate) -> Estimate {
        match self.direction() {
            Direction::More => gain,
            Direction::Less => gain.inverted(),
        }
    }

    /// A value with its unit, for people.
    pub fn value(self, value: f64) -> String {
        match self {
            Self::Throughput => format!("{} {}", format::number(value), self.unit()),
            Self::P50 | Self::P99 | Self::CpuPerByte => format::time(value),
        }
    }

    /// The difference that does not matter in a sweep (0.02: 2 %). Tails vary more, and nobody
    /// chooses a path for a tenth of them.
    pub fn margin(self) -> f64 {
        match self {
            Self::P99 => verdict::SAME_P99,
            Self::Throughput | Self::P50 | Self::CpuPerByte => verdict::SAME,
        }
    }

    /// The difference that does not matter between two builds: a gate says of everything above it
    /// that it is worse, if the data do.
    pub fn least_difference(self) -> f64 {
        match self {
            Self::P99 => verdict::SAME_BUILD_P99,
            Self::Throughput | Self::P50 | Self::CpuPerByte => verdict::SAME_BUILD,
        }
    }

    /// A verdict in words that fit the metric, read off the interval of a gain: `faster`,
    /// `same within 2 %`, `undecided: -5.0 % to +6.0 %`.
    pub fn verdict(self, verdict: Verdict, gain: Estimate, margin: f64) -> String {
        match (verdict, self) {
            (Verdict::Same, _) => format!("same within {} %", format::significant(margin * 100.0, 3)),
            (Verdict::Undecided, _) => {
                let change = self.change(gain);
                format!(
                    "undecided: {} to {}",
                    format::rough_difference(change.low),
                    format::rough_difference(change.high)
                )
            }
            (Verdict::Faster, Self::Throughput) => "faster".to_owned(),
            (Verdict::Slower, Self::Throughput) => "slower".to_owned(),
            (Verdict::Faster, Self::P50 | Self::P99) => "shorter".to_owned(),
            (Verdict::Slower, Self::P50 | Self::P99) => "longer".to_owned(),
            (Verdict::Faster, Self::CpuPerByte) => "less CPU".to_owned(),
            (Verdict::Slower, Self::CpuPerByte) => "more CPU".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn a_gain_is_more_throughput_and_less_time() {
        let gain = Estimate { value: 2.0, low: 1.0, high: 4.0 };
        assert_eq!(Metric::Throughput.change(gain), gain);
        let less = Estimate { value: 0.5, low: 0.25, high: 1.0 };
        for metric in [Metric::P50, Metric::P99, Metric::CpuPerByte] {
            assert_eq!(metric.change(gain), less, "{metric}");
        }
    }

    #[test]
    fn verdicts_are_put_in_numbers() {
        let of = |metric: Metric, low, high| {
            let gain = Estimate { value: f64::midpoint(low, high), low, high };
            metric.verdict(Verdict::of(gain, metric.margin()), gain, metric.margin())
        };
        assert_eq!(of(Metric::Throughput, 0.99, 1.01), "same within 2 %");
        assert_eq!(of(Metric::P99, 0.95, 1.01), "same within 10 %");
        assert_eq!(of(Metric::Throughput, 0.95, 1.06), "undecided: -5.0 % to +6.0 %");
        assert_eq!(of(Metric::CpuPerByte, 1.05, 1.06), "less CPU");
    }

    #[test]
    fn names_and_slugs_tell_metrics_apart() {
        let of = |word: fn(Metric) -> &'static str| {
            let mut words: Vec<_> = Metric::VARIANTS.iter().map(|&metric| word(metric)).collect();
            words.sort_unstable();
            words.dedup();
            words.len()
        };
        assert_eq!([of(Metric::name), of(Metric::slug)], [Metric::VARIANTS.len(); 2]);
    }
}
