//! What paths are compared by.

use serde::Serialize;

use super::stats::{Estimate, Verdict};
use crate::format;

/// What paths are compared by.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display, strum::VariantArray,
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
    /// CPU time of both sides' threads per payload byte. Of both: which side the kernel books a cost to depends on
    /// where the two run.
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

impl Metric {
    /// What paths are compared by in a sweep.
    pub const OF_A_SWEEP: [Self; 3] = [Self::Throughput, Self::P99, Self::CpuPerByte];
    /// What two builds, or two sweeps, are compared by, in the order in which they are shown.
    pub const OF_AB: [Self; 4] = [Self::Throughput, Self::P50, Self::P99, Self::CpuPerByte];

    /// Its name in a sentence or a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::P50 => "median round trip",
            Self::P99 => "p99 round trip",
            Self::CpuPerByte => "CPU time per byte",
        }
    }

    /// Its name in files and for services: the column of `summary.csv` that holds it, unit included.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Throughput => "throughput_gbps",
            Self::P50 => "rtt_p50_ns",
            Self::P99 => "rtt_p99_ns",
            Self::CpuPerByte => "cpu_ns_per_byte",
        }
    }

    /// The unit that its values are in.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "Gb/s",
            Self::P50 | Self::P99 | Self::CpuPerByte => "ns",
        }
    }

    /// Which way it gets better.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Throughput => Direction::More,
            Self::P50 | Self::P99 | Self::CpuPerByte => Direction::Less,
        }
    }

    /// The share of round trips that are not longer, of those metrics that are a quantile of them.
    #[must_use]
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P99 => Some(0.99),
            Self::Throughput | Self::CpuPerByte => None,
        }
    }

    /// What became of the value itself: a gain (above 1 is better) is a ratio above 1 of throughput, and one below 1
    /// of a time.
    #[must_use]
    pub fn change(self, gain: Estimate) -> Estimate {
        match self.direction() {
            Direction::More => gain,
            Direction::Less => gain.inverted(),
        }
    }

    /// A value with its unit, for people.
    #[must_use]
    pub fn value(self, value: f64) -> String {
        match self {
            Self::Throughput => format!("{} {}", format::number(value), self.unit()),
            Self::P50 | Self::P99 | Self::CpuPerByte => format::time(value),
        }
    }

    /// A verdict in words that fit the metric.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> &'static str {
        match (verdict, self) {
            (Verdict::NoDifference, _) => "no difference",
            (Verdict::TooNoisy, _) => "too noisy to say",
            (Verdict::Faster, Self::Throughput) => "faster",
            (Verdict::Slower, Self::Throughput) => "slower",
            (Verdict::Faster, Self::P50 | Self::P99) => "shorter",
            (Verdict::Slower, Self::P50 | Self::P99) => "longer",
            (Verdict::Faster, Self::CpuPerByte) => "less CPU",
            (Verdict::Slower, Self::CpuPerByte) => "more CPU",
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
