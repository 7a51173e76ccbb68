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
    /// A send, a receive or another call failed, or something did not happen in time. The cause
    /// stands in the message, so it is no `source` beside.
    #[error("{}", .0.with_cause())]
    Path(path::Error),
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

impl From<path::Error> for Error {
    fn from(error: path::Error) -> Self {
        Self::Path(error)
    }
}

impl Error {
    /// Names the call behind an I/O error; made for `map_err`.
    pub fn call<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |errno| Self::Path(path::Error::call(call)(errno))
    }

    /// Names the call and the file behind an I/O error; made for `map_err`.
    pub fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |errno| Self::Path(path::Error::file(call, path)(errno))
    }

    /// A call that failed for a reason that was looked for, and what lifts it or where to look.
    pub(crate) fn refused(
        call: &'static str,
        errno: impl Into<io::Error>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Path(path::Error::refused(call, errno, remedy))
    }

    /// `waiting_for`, as it reads after "no", did not happen in time.
    pub(crate) fn deadline(waiting_for: &'static str, waited: Duration) -> Self {
        Self::Path(path::Error::Deadline { waiting_for, waited })
    }

    /// Adds why to a call that failed by this errno.
    pub(crate) fn explained(self, code: i32, why: impl FnOnce() -> String) -> Self {
        match self {
            Self::Path(path::Error::Call { call, errno }) if errno.raw_os_error() == Some(code) => {
                Self::refused(call, errno, why())
            }
            error => error,
        }
    }

    /// What the kernel said.
    pub(crate) fn errno(&self) -> Option<i32> {
        let Self::Path(error) = self else { return None };
        std::error::Error::source(error)?.downcast_ref::<io::Error>()?.raw_os_error()
    }

    /// Whether the caller's input was refused before anything was set up.
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
            Self::PeerGone { .. }
            | Self::Stopped
            | Self::Path(path::Error::Closed { .. } | path::Error::Abandoned { .. }) => true,
            Self::Path(path::Error::Call { errno, .. }) => matches!(
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
        let error = Error::deadline("answer from the client process", waited);
        assert_eq!(error.to_string(), "no answer from the client process after 10000 ms");
    }
}
