//! Records round trips one by one.

use hdrhistogram::Histogram;
use hdrhistogram::iterators::IterationValue;

use crate::sample::RoundTrips;

/// The longest round trip that the histogram tells apart.
const LONGEST_ROUND_TRIP_NS: u64 = 60_000_000_000;

/// Records one pair's round trips without allocating.
pub(super) struct Recorder {
    histogram: Histogram<u32>,
    sum_ns: u64,
    max_ns: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        // The bounds are constants that the histogram accepts.
        let histogram = Histogram::new_with_bounds(1, LONGEST_ROUND_TRIP_NS, 3)
            .unwrap_or_else(|error| unreachable!("constant bounds: {error}"));
        Self { histogram, sum_ns: 0, max_ns: 0 }
    }

    #[inline]
    pub(super) fn record(&mut self, round_trip_ns: u64) {
        self.histogram.saturating_record(round_trip_ns);
        self.sum_ns += round_trip_ns;
        self.max_ns = self.max_ns.max(round_trip_ns);
    }

    /// Adds what `other` recorded, and empties it.
    pub(super) fn take(&mut self, other: Option<&mut Self>) {
        let Some(other) = other else { return };
        // Equal bounds, so there is a place for every value.
        let _ = self.histogram.add(&other.histogram);
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        other.histogram.reset();
        (other.sum_ns, other.max_ns) = (0, 0);
    }

    pub(super) fn round_trips(&self) -> RoundTrips {
        let entry = |step: IterationValue<u32>| (step.value_iterated_to(), step.count_since_last_iteration());
        RoundTrips {
            sum_ns: self.sum_ns,
            count: self.histogram.len(),
            max_ns: self.max_ns,
            histogram: self.histogram.iter_recorded().map(entry).collect(),
        }
    }
}
