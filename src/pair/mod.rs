//! Pairs: the two processes, their threads and connections, and the bursts that they run.
//!
//! The server process is the caller's own. A [`Testbed`] starts the client as a child process and
//! joins the two by a topology; an [`Instance`] is one life of a case's pairs: new connections, new
//! buffers, new pool. Every wait has a deadline, and wherever one side fails, the other ends with an
//! error that names the cause.

pub mod client;
mod control;
mod fault;
mod line;
mod options;
mod server;
mod threads;
mod watch;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Path, Workload};
use crate::counters::{self, Readings};
use crate::error::{Error, Result, Side};
use crate::path::{Copies, ZeroCopyCounts};

pub use fault::{Fault, FaultKind};
pub use options::{Buffers, EffectiveSocket, SocketOptions};
pub use server::{Effective, Instance, Setup, Testbed};

/// The seed of every message's bytes inside a timed burst, where only the stamps change.
const TIMED_SEED: u64 = 0;

/// What one burst does on every pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// Messages on every pair that come first and are neither timed nor counted: they wake the threads and
    /// bring the buffers back into the caches, which a short burst would else be charged for.
    pub lead_in: u64,
    /// Messages on every pair.
    pub messages: u64,
    /// What is looked at besides.
    pub mode: Mode,
}

/// What a burst looks at besides the time that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Every byte of every message is written anew and checked. Not for timing.
    Verify,
    /// Nothing: the burst is timed as a whole. Each pair's last message is checked afterwards.
    Time,
    /// As `Time`, and the client reads the clock after each round trip.
    TimeEach,
}

/// What the threads of one side saw of a burst.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// When the first pair began, on `CLOCK_MONOTONIC`, which both processes share. The client's
    /// start is that of the burst.
    pub start_ns: u64,
    /// When the last pair was done.
    pub end_ns: u64,
    /// How long the pairs took, each from its own start to its own end, all together.
    pub pairs_ns: u64,
    /// CPU time in user mode, all pairs' threads together.
    pub user_ns: u64,
    /// CPU time in the kernel, all pairs' threads together.
    pub system_ns: u64,
    /// What the kernel said of zero-copy sends; the server's, for that path alone.
    pub zero_copy: Option<ZeroCopyCounts>,
    /// What this side's end of the path copied.
    pub copies: Copies,
    /// What the threads counted of themselves, where that was asked for; all pairs together.
    pub counters: Readings,
    /// The client's round trips, where each was timed.
    pub round_trips: Option<RoundTrips>,
    /// Messages of which every byte was checked.
    pub verified_messages: u64,
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
    #[must_use]
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64)
    }

    /// The round trip that `share` of all (from 0 to 1) do not exceed, to three significant digits;
    /// none of nothing.
    #[must_use]
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
    /// Joins the reports of threads that ran side by side.
    fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        reports
            .into_iter()
            .reduce(|mut sum, report| {
                sum.start_ns = sum.start_ns.min(report.start_ns);
                sum.end_ns = sum.end_ns.max(report.end_ns);
                sum.pairs_ns += report.pairs_ns;
                sum.user_ns += report.user_ns;
                sum.system_ns += report.system_ns;
                sum.verified_messages += report.verified_messages;
                sum.copies += report.copies;
                counters::add(&mut sum.counters, report.counters);
                if let (Some(sum), Some(counts)) = (&mut sum.zero_copy, report.zero_copy) {
                    *sum += counts;
                }
                sum
            })
            .unwrap_or_default()
    }
}

/// What a new connection begins with: the instance's token and the pair's number.
#[derive(Default)]
struct Hello([u8; 12]);

impl Hello {
    fn new(token: u64, pair: usize) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&token.to_le_bytes());
        bytes[8..].copy_from_slice(&u32::try_from(pair).unwrap_or(u32::MAX).to_le_bytes());
        Self(bytes)
    }

    fn read(self) -> (u64, usize) {
        let (token, pair) = self.0.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        (number(token), usize::try_from(number(pair)).unwrap_or(usize::MAX))
    }
}

/// The seed with which a message's bytes were written.
fn seed(mode: Mode, sequence: u64) -> u64 {
    match mode {
        Mode::Verify => sequence,
        Mode::Time | Mode::TimeEach => TIMED_SEED,
    }
}

/// How many messages `zero_copy` keeps in flight at most.
///
/// In `rr` the request for the next message says that the last one arrived, so its completion is
/// due: two let one notification cover both. In `stream` the pool is what keeps the connection busy: 16
/// messages, or fewer where those would be more than 32 MiB.
#[must_use]
pub fn pool_messages(workload: Workload, payload_bytes: usize) -> usize {
    match workload {
        Workload::Rr => 2,
        Workload::Stream => ((32 << 20) / payload_bytes).clamp(2, 16),
    }
}

/// Bytes of buffers that a case takes on each side: fields, pack buffer, pool.
#[must_use]
pub fn buffer_bytes(case: &Case, side: Side) -> usize {
    let messages = match (case.path, side) {
        (Path::TwoCopy, _) => 2,
        (Path::ZeroCopy, Side::Server) => pool_messages(case.workload, case.payload_bytes),
        (Path::OneCopy, _) | (Path::ZeroCopy, Side::Client) => 1,
    };
    case.threads * case.payload_bytes * messages
}

/// `CLOCK_MONOTONIC`, in nanoseconds. The same in every process of a machine.
fn monotonic_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(Error::call("clock_gettime(2)"))?;
    Ok(now.num_nanoseconds().unsigned_abs())
}

/// User and system time of the calling thread, in nanoseconds (`getrusage(2)`).
fn thread_cpu_ns() -> Result<(u64, u64)> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(Error::call("getrusage(2)"))?;
    let ns = |time: nix::sys::time::TimeVal| time.num_nanoseconds().unsigned_abs();
    Ok((ns(usage.user_time()), ns(usage.system_time())))
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
    fn a_hello_is_read_as_it_was_written() {
        assert_eq!(Hello::new(u64::MAX - 1, 255).read(), (u64::MAX - 1, 255));
    }
}
