//! What a burst measured: plain data, which every module may read and none needs a socket for.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::case::Receiver;
use crate::event::{self, Readings};
use crate::format;

pub use crate::case::Side;
use crate::counts::sums;
pub use crate::counts::{CopiedBound, Copies, ZeroCopyCounts};

/// One timed burst.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// From the first request to the last byte received, on the client's clock. What a path needs
    /// after that is the server's `drain_ns`.
    pub elapsed_ns: u64,
    /// Messages on all pairs together.
    pub messages: u64,
    /// Pairs.
    pub pairs: u64,
    /// What the server's threads saw.
    pub server: SideReport,
    /// What the client's threads saw.
    pub client: SideReport,
}

impl Sample {
    /// The mean time of a message on its own pair: of a round trip, where one is in flight.
    pub fn message_ns(&self) -> f64 {
        self.client.pairs_ns as f64 / self.messages as f64
    }
}

/// What the threads of one side saw of a burst.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// Messages that all pairs together sent or received.
    pub messages: u64,
    /// When the first pair began, on `CLOCK_MONOTONIC`, which both processes share. The client's
    /// start is that of the burst.
    pub start_ns: u64,
    /// When the last pair was done.
    pub end_ns: u64,
    /// The longest time that a pair took for what its path needs after the client has received the
    /// last byte: of `zero_copy`, its completions. The server's, on its own clock; no part of the
    /// timed window.
    pub drain_ns: u64,
    /// How long the pairs took, each from its own start to its own end, all together.
    pub pairs_ns: u64,
    /// CPU time in user mode, all pairs' threads together.
    pub user_ns: u64,
    /// CPU time in the kernel, all pairs' threads together.
    pub system_ns: u64,
    /// Why `user_ns` and `system_ns` are not all that this side's CPUs spent, where they are not: a
    /// thread of the kernel works for it, and its time is not told. They are no measurement then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_untold: Option<String>,
    /// What the kernel said of zero-copy sends; the server's, for that path alone.
    pub zero_copy: Option<ZeroCopyCounts>,
    /// What this side's end of the path copied.
    pub copies: Copies,
    /// TCP segments that the kernel sent more than once; the server's. None where that was not
    /// recorded.
    pub retransmitted_segments: Option<u64>,
    /// What the threads counted of themselves, where that was asked for; all pairs together.
    pub counters: Readings,
    /// The client's round trips, where each was timed.
    pub round_trips: Option<RoundTrips>,
    /// Messages of which every byte was checked.
    pub verified_messages: u64,
    /// What the client found in messages that were overwritten right after they were sent, where
    /// that was done.
    pub seen: Option<Seen>,
}

/// Round trip times, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// Their sum, exact.
    pub sum_ns: u64,
    /// How many there are.
    pub count: u64,
    /// The longest, exact.
    pub max_ns: u64,
    /// A histogram with three significant digits: (value, how many), ascending.
    pub histogram: Vec<(u64, u64)>,
}

impl RoundTrips {
    /// The mean, exact; none of nothing.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64)
    }

    /// The round trip that `share` of all (from 0 to 1) do not exceed, to three significant digits;
    /// none of nothing.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let value = self.histogram.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        value.map(|(value_ns, _)| (*value_ns).min(self.max_ns))
    }
}

impl AddAssign<&Self> for RoundTrips {
    fn add_assign(&mut self, other: &Self) {
        let mut histogram: BTreeMap<u64, u64> = self.histogram.iter().copied().collect();
        for (value_ns, count) in &other.histogram {
            *histogram.entry(*value_ns).or_default() += count;
        }
        self.histogram = histogram.into_iter().collect();
        self.sum_ns += other.sum_ns;
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

impl SideReport {
    /// CPU time, user and system, in nanoseconds; none where it is not told.
    pub fn cpu_ns(&self) -> Option<f64> {
        self.cpu_untold.is_none().then_some(self.user_ns as f64 + self.system_ns as f64)
    }

    /// Joins the reports of threads that ran side by side.
    pub fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        reports
            .into_iter()
            .reduce(|mut sum, report| {
                sum.messages += report.messages;
                sum.start_ns = sum.start_ns.min(report.start_ns);
                sum.end_ns = sum.end_ns.max(report.end_ns);
                sum.drain_ns = sum.drain_ns.max(report.drain_ns);
                sum.pairs_ns += report.pairs_ns;
                sum.user_ns += report.user_ns;
                sum.system_ns += report.system_ns;
                sum.cpu_untold = sum.cpu_untold.take().or(report.cpu_untold);
                sum.verified_messages += report.verified_messages;
                sum.copies += report.copies;
                let again = sum.retransmitted_segments.zip(report.retransmitted_segments);
                sum.retransmitted_segments = again.map(|(sum, segments)| sum + segments);
                event::add(&mut sum.counters, report.counters);
                if let (Some(sum), Some(counts)) = (&mut sum.zero_copy, report.zero_copy) {
                    *sum += counts;
                }
                if let (Some(sum), Some(seen)) = (&mut sum.seen, report.seen) {
                    *sum += seen;
                }
                sum
            })
            .unwrap_or_default()
    }
}

impl ZeroCopyCounts {
    /// The share with what it is.
    pub fn copied(&self) -> Option<CopiedShare> {
        Some(CopiedShare { share: self.copied_share()?, bound: self.copied_is_bound()? })
    }
}

/// A share of calls that the kernel copied, and what it is: a count or a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopiedShare {
    /// From 0 to 1.
    pub share: f64,
    /// What it is.
    pub bound: CopiedBound,
}

impl CopiedShare {
    /// Whether it is known that nothing was copied: it was counted, or no more than nothing was.
    pub fn is_none(self) -> bool {
        self.share == 0.0 && self.bound != CopiedBound::Either
    }
}

impl CopiedBound {
    /// What stands before a number of this kind.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Upper => "at most ",
            Self::Either => "about ",
        }
    }

    /// Why it is a bound; none of a count.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Exact => None,
            Self::Upper => Some(
                "an upper bound: io_uring says \"copied\" of a send that was added to another one's packet, whether it was \
                 copied or not",
            ),
            Self::Either => Some(
                "a bound, which may err on both sides: the kernel joins the notifications of neighbouring sends, and keeps \
                 what the first one says of copying",
            ),
        }
    }
}

impl fmt::Display for CopiedShare {
    /// `12 %`, `at most 12 %`, `about 100 %`, or `none` of what is at most nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() && self.bound == CopiedBound::Upper {
            return f.write_str("none");
        }
        write!(f, "{}{}", self.bound.prefix(), format::share(self.share))
    }
}

/// What a receiver found in messages whose every byte the sender changed right after the call that
/// sent them had returned. A test of whether they were copied that does not ask the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Bytes that came as they had been sent: they were copied, or read by a device, before they
    /// were changed.
    pub old_bytes: u64,
    /// Bytes that came as they had been changed to: until then, the memory was shared.
    pub new_bytes: u64,
    /// Of the latter, those of messages that the kernel had let go of before they were changed:
    /// none, if it keeps its word. It lets go by a completion, or on the other paths by the call's
    /// return.
    pub late_bytes: u64,
}

impl Seen {
    /// What contradicts the kernel's word on the sends of the same path, `None` for the paths
    /// without completions. `is_local`: from one end to the other, no device reads the sender's
    /// memory but CPUs of this machine.
    pub fn contradiction(&self, kernel: Option<&ZeroCopyCounts>, is_local: bool) -> Option<String> {
        let of_bytes = self.old_bytes + self.new_bytes;
        if self.late_bytes > 0 {
            return Some(format!(
                "the kernel let go of the messages, and {} of {of_bytes} bytes that were changed after that came as \
                 they were changed",
                self.late_bytes
            ));
        }
        // A device that reads the memory makes no copy.
        let is_denied = kernel.is_some_and(|counts| counts.completions > 0 && counts.copied == 0);
        (is_local && is_denied && self.old_bytes > 0).then(|| {
            format!(
                "no completion says that the kernel copied, and {} of {of_bytes} bytes that were overwritten after the \
                 call came as they were sent: a copy was made before",
                self.old_bytes
            )
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old_bytes, new_bytes, .. } = self;
        match (old_bytes, new_bytes) {
            (_, 0) => write!(
                f,
                "all of {old_bytes} overwritten bytes came as they were sent: they had been copied, or read by a device"
            ),
            (0, _) => {
                write!(f, "all of {new_bytes} overwritten bytes came as overwritten: the memory was shared")
            }
            _ => write!(
                f,
                "of the overwritten bytes, {old_bytes} came as they were sent, and {new_bytes} as overwritten"
            ),
        }
    }
}

sums!(Seen: old_bytes, new_bytes, late_bytes);

/// Why a case has no [`Seen`].
pub fn why_not_seen(receiver: Receiver) -> &'static str {
    match receiver {
        Receiver::Sink => "not looked at: nobody receives",
        Receiver::Discard => "not looked at: the receiver discards the bytes",
        _ => {
            "not looked at: of messages of more than 256 KiB, or a quarter of the socket buffers, or of 16 MiB on all \
              pairs together; or by a program that did not look"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_summed_round_trips_are_those_of_all_together() {
        let of = |histogram: &[(u64, u64)]| RoundTrips {
            sum_ns: histogram.iter().map(|(value, count)| value * count).sum(),
            count: histogram.iter().map(|(_, count)| count).sum(),
            max_ns: histogram.last().unwrap().0,
            histogram: histogram.to_vec(),
        };
        let mut sum = of(&[(10, 50), (30, 39)]);
        sum += &of(&[(20, 10), (30, 1)]);
        assert_eq!(sum, of(&[(10, 50), (20, 10), (30, 40)]));
        let quantiles = [0.0, 0.5, 0.501, 0.6, 0.601, 1.0].map(|share| sum.quantile_ns(share).unwrap());
        assert_eq!(quantiles, [10, 10, 20, 20, 30, 30]);
        assert_eq!(sum.mean_ns(), Some(19.0));
        assert_eq!((RoundTrips::default().quantile_ns(0.5), RoundTrips::default().mean_ns()), (None, None));
    }

    #[test]
    fn old_bytes_contradict_a_kernel_that_denies_every_copy_and_nothing_else() {
        let seen = Seen { old_bytes: 8, ..Seen::default() };
        let kernel =
            |completions, copied| ZeroCopyCounts { completions, copied, ..ZeroCopyCounts::default() };
        let is_denied = |counts, is_local| seen.contradiction(Some(&counts), is_local).is_some();
        assert!(is_denied(kernel(4, 0), true));
        assert!(!is_denied(kernel(4, 0), false), "a device may have read them");
        assert!(!is_denied(kernel(4, 1), true), "it may be these");
        assert!(!is_denied(kernel(4, 4), true));
        assert!(!is_denied(kernel(0, 0), true), "nothing was said");
        assert_eq!(seen.contradiction(None, true), None, "the call copied");
    }

    #[test]
    fn a_share_is_exact_only_where_each_call_has_a_notification_of_its_own() {
        let of = |completions, notifications, copied, stacked| {
            let counts =
                ZeroCopyCounts { completions, notifications, copied, stacked, ..ZeroCopyCounts::default() };
            counts.copied().map(|found| (found.bound, found.is_none(), found.to_string()))
        };
        let found = |bound, is_none, words: &str| Some((bound, is_none, words.to_owned()));
        assert_eq!(of(0, 0, 0, false), None);
        assert_eq!(of(16, 16, 0, false), found(CopiedBound::Exact, true, "0 %"));
        assert_eq!(of(16, 16, 4, false), found(CopiedBound::Exact, false, "25 %"));
        for (copied, words) in [(0, "about 0 %"), (4, "about 25 %"), (16, "about 100 %")] {
            assert_eq!(of(16, 15, copied, false), found(CopiedBound::Either, false, words));
        }
        assert_eq!(of(16, 16, 12, true), found(CopiedBound::Upper, false, "at most 75 %"));
        assert_eq!(of(16, 16, 0, true), found(CopiedBound::Upper, true, "none"));
        assert_eq!(of(16, 1, 0, true), found(CopiedBound::Either, false, "about 0 %"));
    }

    #[test]
    fn what_a_share_is_outlives_sums_and_differences() {
        let stacked =
            ZeroCopyCounts { completions: 1, notifications: 1, stacked: true, ..ZeroCopyCounts::default() };
        let mut sum = ZeroCopyCounts::default();
        sum += stacked;
        assert_eq!(sum.copied_is_bound(), Some(CopiedBound::Upper));
        assert_eq!(sum.since(&ZeroCopyCounts::default()).copied_is_bound(), Some(CopiedBound::Upper));
    }

    #[test]
    fn new_bytes_contradict_a_kernel_that_had_let_go_of_the_message() {
        let deferred = Seen { new_bytes: 8, ..Seen::default() };
        assert_eq!(deferred.contradiction(None, true), None);
        let late = Seen { late_bytes: 8, ..deferred };
        assert!(late.contradiction(None, false).is_some());
    }
}
