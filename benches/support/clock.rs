//! Criterion's wall clock, which prints throughput as the field does: in Gb/s.

use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// As [`WallTime`], but for throughput. It is told payload bytes, so that Criterion's axis and what
/// reads its files has bytes.
pub struct WallClock;

impl Measurement for WallClock {
    type Intermediate = <WallTime as Measurement>::Intermediate;
    type Value = Duration;

    fn start(&self) -> Self::Intermediate {
        WallTime.start()
    }

    fn end(&self, began: Self::Intermediate) -> Duration {
        WallTime.end(began)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        WallTime.add(one, other)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for WallClock {
    fn scale_values(&self, typical_ns: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical_ns, values)
    }

    fn scale_throughputs(
        &self,
        typical_ns: f64,
        throughput: &Throughput,
        values_ns: &mut [f64],
    ) -> &'static str {
        let Throughput::Bytes(bytes) = throughput else {
            return WallTime.formatter().scale_throughputs(typical_ns, throughput, values_ns);
        };
        for value in values_ns {
            *value = (bytes * 8) as f64 / *value; // bits in a nanosecond
        }
        "Gb/s"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
