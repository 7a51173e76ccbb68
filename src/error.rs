//! What can go wrong in the command, named by the call that failed, its cause, and what lifts it.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::case::{CaseError, Side};
use crate::message::Mismatch;
use crate::path;

/// The error of the command, and of all that measures, judges and reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A send or a receive failed.
    #[error("{}", .0.with_cause())]
    Path(#[from] path::Error),
    /// A system call failed.
    #[error("{call}: {errno}")]
    Call {
        /// The call, as its man page names it, and what it was for.
        call: &'static str,
        /// Why. It stands in the message, so it is no `source` beside.
        errno: io::Error,
    },
    /// A system call failed for a reason that the user can lift.
    #[error("{call}: {errno}: {remedy}")]
    Refused {
        /// The call, as its man page names it, and what it was for.
        call: &'static str,
        /// Why. It stands in the message, so it is no `source` beside.
        errno: io::Error,
        /// What lifts it.
        remedy: String,
    },
    /// The other end closed the connection.
    #[error("the peer closed the connection {after_bytes} bytes into {of_bytes}")]
    Closed {
        /// Bytes that had been moved by then.
        after_bytes: usize,
        /// Bytes that were due.
        of_bytes: usize,
    },
    /// Something did not happen in time.
    #[error("no {waiting_for} after {} ms", .waited.as_millis())]
    Deadline {
        /// What was awaited, as it reads after "no".
        waiting_for: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// The burst was given up because something else in it failed.
    #[error("the burst was stopped because another pair failed")]
    Stopped,
    /// A received message is not what was sent.
    #[error("pair {pair}: {mismatch}")]
    Corrupt {
        /// The pair, from 0.
        pair: usize,
        /// Where it differs.
        mismatch: Mismatch,
    },
    /// A case or a setting that makes no sense. Nothing was set up.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// A setting that this machine or this topology cannot take. Nothing was set up.
    #[error("{0}")]
    Setting(String),
    /// What is stored cannot be read or written, or what is drawn of it cannot be drawn.
    #[error(transparent)]
    Stored(#[from] sendpath_report::error::Error),
    /// A file that cannot be read or written.
    #[error("{call} {path}: {errno}")]
    File {
        /// The call, as its man page names it.
        call: &'static str,
        /// The file or folder.
        path: String,
        /// Why. It stands in the message, so it is no `source` beside.
        errno: io::Error,
    },
    /// A revision that cannot be built.
    #[error("{what} does not build: {cause}")]
    Build {
        /// The revision.
        what: String,
        /// What git or the compiler said.
        cause: String,
    },
    /// The two ends have no network in common.
    #[error("{0}")]
    NoLink(String),
    /// The two processes do not understand each other.
    #[error("control protocol: {0}")]
    Protocol(String),
    /// One thread of a pair panicked.
    #[error("the {side} thread of pair {pair} panicked: {message}")]
    Panicked {
        /// Which end.
        side: Side,
        /// The pair, from 0.
        pair: usize,
        /// What the panic said.
        message: String,
    },
    /// The other process says that it failed.
    #[error("{side} process: {cause}")]
    Peer {
        /// Which end.
        side: Side,
        /// The error, as that process put it.
        cause: String,
    },
    /// The other process is gone.
    #[error("the {side} process ended during the run{how}")]
    PeerGone {
        /// Which end.
        side: Side,
        /// How it ended, where that is known, led by a colon.
        how: String,
    },
    /// No byte has moved on any pair for too long.
    #[error(
        "stalled: no byte moved on any pair for {} ms (is the {other} process stopped?)", .waited.as_millis()
    )]
    Stalled {
        /// For how long.
        waited: Duration,
        /// The process that is waited for.
        other: Side,
    },
    /// The sink's connection keeps bytes back, though everything that left was acknowledged.
    #[error(
        "the sink stalled: for {} ms a connection sent nothing, though all that it had sent was acknowledged (is the \
         sink's link down, were its acknowledgements dropped, or is RLIMIT_MEMLOCK too small for a zero_copy \
         message?)",
        .waited.as_millis()
    )]
    SinkStalled {
        /// For how long.
        waited: Duration,
    },
}

/// The command's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Names the call behind an I/O error; made for `map_err`.
    pub fn call<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |errno| Self::Call { call, errno: errno.into() }
    }

    /// Names the call and the file behind an I/O error; made for `map_err`.
    pub fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |errno| Self::File { call, path: path.display().to_string(), errno }
    }

    /// Whether the caller's input was refused before anything was set up.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Case(_) | Self::Setting(_) => true,
            Self::Stored(error) => error.is_bad_input(),
            _ => false,
        }
    }

    /// Whether this only echoes that the other end went away, so that a better cause may still come
    /// from there.
    pub(crate) fn is_echo(&self) -> bool {
        match self {
            Self::Closed { .. }
            | Self::PeerGone { .. }
            | Self::Stopped
            | Self::Path(path::Error::Closed { .. } | path::Error::Abandoned { .. }) => true,
            Self::Call { errno, .. } | Self::Path(path::Error::Call { errno, .. }) => matches!(
                errno.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::NotConnected
                    | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_says_what_is_missing_and_since_when() {
        let waited = Duration::from_secs(10);
        let error = Error::Deadline { waiting_for: "answer from the client process", waited };
        assert_eq!(error.to_string(), "no answer from the client process after 10000 ms");
    }
}
