//! Pairs: the two processes, their threads and connections, and the bursts that they run.
//!
//! The server process is the caller's own. A [`Testbed`] starts the client, as a child process or
//! by a peer's command, and joins the two by a topology; an [`Instance`] is one life of a case's
//! pairs: new connections, new messages, new buffers. Every wait has a deadline, and wherever one
//! side fails, the other ends with an error that names the cause.

pub mod client;
mod client_process;
mod control;
mod fault;
mod frame;
mod options;
mod peer;
mod recorder;
mod server;
mod sink;
mod source;
mod threads;
mod watch;

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Workload};
use crate::deadlines::{STALL, STALL_SINK, STALL_VERIFYING};
use crate::error::{Error, Result};
use crate::path::{self, recv_all, send_all};
use crate::random;

pub use client_process::remove_peers_program;
pub use control::{read_greeting, rewritten};
pub use fault::{Fault, FaultKind};
pub use options::{Buffers, SocketOptions};
pub use peer::{Client, Peer, parse_server_address};
pub use server::{Instance, Setup, Testbed};
#[doc(hidden)]
pub use sink::SinkParts;
pub(crate) use source::pin_problem;
pub use source::{buffer_bytes, in_flight_messages, source_messages};
use source::{hot_messages, most_in_flight, source_fields};

/// No burst is longer.
const MOST_BURST: Duration = Duration::from_hours(24);

/// The seed of every message's bytes inside a timed burst, where only the stamps change.
const TIMED_SEED: u64 = 0;

/// What one burst does on every pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// Messages on every pair that come first and are neither timed nor counted: they wake the
    /// threads and bring the buffers back into the caches, which would otherwise be part of a short
    /// burst's time.
    pub lead_in_messages: u64,
    /// How long it goes on.
    pub extent: Extent,
    /// What is looked at besides.
    pub mode: Mode,
}

impl Burst {
    /// Refuses what no server of this program asks for: a length that no clock counts to.
    fn check(&self) -> Result<()> {
        match self.extent {
            Extent::Time(duration) if duration > MOST_BURST => {
                Err(Error::Protocol(format!("a burst of {duration:?} is longer than {MOST_BURST:?}")))
            }
            Extent::Time(_) | Extent::Messages(_) => Ok(()),
        }
    }
}

/// How long a burst goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// So many messages on every pair. Not for timing: the slower pairs would finish alone.
    Messages(u64),
    /// Until a deadline that all pairs share, counted from when all were ready to begin. How many
    /// messages that were is what was done.
    Time(Duration),
}

/// What a burst looks at besides the time that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Every byte of every message is written anew and checked. Not for timing. Into the sink,
    /// where nobody can check them, each send has a completion of its own instead: one message is
    /// in flight.
    Verify,
    /// Every message is overwritten right after it was sent, and read only then: the client counts
    /// the bytes that came as they were sent, and those that did not. Not for timing; and the
    /// messages must fit the sockets' buffers.
    Overwrite,
    /// Nothing: the burst is timed as a whole. Each pair's last message is checked afterwards.
    Time,
    /// As `Time`, and the client reads the clock after each round trip, where there are any.
    TimeEach,
}

impl Mode {
    /// For how long no byte may move in a burst; less where a single process moves them.
    fn stall(self, into_sink: bool) -> Duration {
        match self {
            Self::Verify | Self::Overwrite => STALL_VERIFYING,
            Self::Time | Self::TimeEach if into_sink => STALL_SINK,
            Self::Time | Self::TimeEach => STALL,
        }
    }

    /// Whether every round trip is timed. A stream has none.
    fn times_each(self, case: &Case) -> bool {
        self == Self::TimeEach && case.workload == Workload::Rr
    }
}

/// What tells an instance's connections from all others: 128 random bits, which nobody can guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Token([u8; 16]);

impl Token {
    fn random() -> Result<Self> {
        random::bytes().map(Self)
    }

    /// Compares in a time that does not depend on where the two differ.
    fn matches(self, other: Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs)) == 0
    }
}

/// What a new connection begins with: the instance's token and the pair's number.
#[derive(Default)]
struct Hello([u8; 20]);

impl Hello {
    fn new(token: Token, pair: usize) -> Self {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&token.0);
        bytes[16..].copy_from_slice(&u32::try_from(pair).unwrap_or(u32::MAX).to_le_bytes());
        Self(bytes)
    }

    fn read(&self) -> (Token, usize) {
        let (mut token, mut pair) = ([0; 16], [0; 4]);
        token.copy_from_slice(&self.0[..16]);
        pair.copy_from_slice(&self.0[16..]);
        (Token(token), usize::try_from(u32::from_le_bytes(pair)).unwrap_or(usize::MAX))
    }
}

/// Asks, on a data connection, for so many more messages. 0 says that all that were asked for have
/// arrived and no more are wanted; it also carries the TCP acknowledgement of the last message.
#[inline]
fn send_request(connection: &TcpStream, messages: u64) -> Result<()> {
    Ok(send_all(connection, &messages.to_le_bytes())?)
}

/// What [`send_request`] sent.
#[inline]
fn receive_request(connection: &TcpStream) -> Result<u64> {
    let mut bytes = [0; 8];
    recv_all(connection, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// What follows a message that was overwritten, and says whether the kernel had let go of it
/// before.
const MARKER_BYTES: usize = 1;

/// The seed with which a message's bytes were written.
fn seed(mode: Mode, sequence: u64) -> u64 {
    match mode {
        Mode::Verify => sequence,
        Mode::Overwrite | Mode::Time | Mode::TimeEach => TIMED_SEED,
    }
}

/// `CLOCK_MONOTONIC`, in nanoseconds. The same in every process of a machine.
#[inline]
fn monotonic_ns() -> path::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(path::Error::call("clock_gettime(2)"))?;
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
        let token = Token::random().unwrap();
        assert_eq!(Hello::new(token, 255).read(), (token, 255));
    }

    #[test]
    fn a_burst_that_no_clock_counts_to_is_refused() {
        let of = |duration| Burst { lead_in_messages: 0, extent: Extent::Time(duration), mode: Mode::Time };
        of(MOST_BURST).check().unwrap();
        assert!(matches!(of(Duration::MAX).check(), Err(Error::Protocol(_))));
    }

    #[test]
    fn a_token_matches_itself_alone() {
        let token = Token::random().unwrap();
        assert!(token.matches(token));
        for bit in 0..128 {
            let mut other = token;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!token.matches(other), "bit {bit}");
        }
    }
}
