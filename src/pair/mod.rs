//! Pairs: the two processes, their threads and connections, and the bursts that they run.
//!
//! The server process is the caller's own. A [`Testbed`] starts the client as a child process and
//! joins the two by a topology; an [`Instance`] is one life of a case's pairs: new connections, new
//! buffers, new pool. Every wait has a deadline, and wherever one side fails, the other ends with an
//! error that names the cause.

pub mod client;
mod client_process;
mod control;
mod fault;

mod options;
mod server;
mod threads;
mod watch;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::case::{Case, SendPath, Workload};
use crate::error::{Error, Result};
use crate::sample::Side;

pub use crate::environment::Effective;
pub use fault::{Fault, FaultKind};
pub use options::{Buffers, EffectiveSocket, SocketOptions};
pub use server::{Instance, Setup, Testbed};

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
        (SendPath::TwoCopy, _) => 2,
        (SendPath::ZeroCopy, Side::Server) => pool_messages(case.workload, case.payload_bytes),
        (SendPath::OneCopy, _) | (SendPath::ZeroCopy, Side::Client) => 1,
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
    fn a_hello_is_read_as_it_was_written() {
        assert_eq!(Hello::new(u64::MAX - 1, 255).read(), (u64::MAX - 1, 255));
    }
}
