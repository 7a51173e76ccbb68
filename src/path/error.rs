//! What can go wrong with a send or a receive, named by the call that failed, its cause, and what
//! lifts it.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The error of the ways to send and to receive.
///
/// What the kernel said is the [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{call}")]
    Call {
        /// The call, as its man page names it, and what it was for.
        call: &'static str,
        /// Why.
        #[source]
        errno: io::Error,
    },
    /// A system call failed for a reason that the user can lift.
    #[error("{call}: {remedy}")]
    Refused {
        /// The call, as its man page names it, and what it was for.
        call: &'static str,
        /// Why.
        #[source]
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
    /// The connection went down with zero-copy sends outstanding, and they did not complete.
    #[error("the connection is down, and {outstanding} zero-copy sends have not completed")]
    Abandoned {
        /// How many.
        outstanding: u64,
    },
    /// A message is to be written again that the receiver may not have, on a path where nothing
    /// else says when.
    #[error(
        "message {message} is to be written again, and the receiver has said that it has {received} messages: tell the \
         sender what was received, or give it more messages to send in turn"
    )]
    NotReceived {
        /// Which of all that were sent, from 0.
        message: u64,
        /// How many the receiver has, as far as it said.
        received: u64,
    },
    /// `ENOBUFS` with nothing outstanding: this message can never be pinned.
    #[error(
        "sendmsg(2) with MSG_ZEROCOPY: ENOBUFS while no completion is outstanding: {cause}; or send less than these \
         {payload_bytes} bytes at a time"
    )]
    PinLimit {
        /// The size of the message.
        payload_bytes: usize,
        /// The limit that was found to be the cause, or those that can be looked at.
        cause: String,
    },
    /// A file that cannot be read.
    #[error("{call} {path}")]
    File {
        /// The call, as its man page names it.
        call: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        errno: io::Error,
    },
    /// A file that does not say what was looked for.
    #[error("{path}: {problem}")]
    Data {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The error queue said something that no send accounts for.
    #[error("error queue")]
    Completion(#[from] CompletionError),
}

/// What the error queue should not have said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompletionError {
    /// No extended error among the control messages.
    #[error("a message without an extended error ({bytes} bytes of control data)")]
    NoExtendedError {
        /// Length of the control data.
        bytes: usize,
    },
    /// An extended error of another origin: an ICMP error, a timestamp.
    #[error("an extended error that is no zero-copy notification: origin {origin}, errno {errno}")]
    Foreign {
        /// `ee_origin`.
        origin: u8,
        /// `ee_errno`.
        errno: u32,
    },
    /// A range that covers calls which were never made, or had completed before.
    #[error("calls {first} to {last} completed, of which {unknown} were not outstanding")]
    NotOutstanding {
        /// The first call of the range.
        first: u32,
        /// The last call of the range.
        last: u32,
        /// Calls of the range that no send in flight accounts for.
        unknown: u64,
    },
    /// After such a range, nothing that the queue says is believed.
    #[error("completions are no longer believed, since one did not fit the calls that were made")]
    Distrusted,
}

/// The result of the ways to send and to receive.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Names the call behind an I/O error; made for `map_err`.
    pub(crate) fn call<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |errno| Self::Call { call, errno: errno.into() }
    }

    /// Names the call and the file behind an I/O error; made for `map_err`.
    pub(crate) fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |errno| Self::File { call, path: path.display().to_string(), errno }
    }

    /// A call that failed for a reason that the user can lift, and what lifts it.
    pub(crate) fn refused(
        call: &'static str,
        errno: impl Into<io::Error>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Refused { call, errno: errno.into(), remedy: remedy.into() }
    }

    /// The error in one line, with what the kernel said.
    #[must_use]
    pub fn with_cause(&self) -> String {
        match (self, self.source()) {
            (Self::Refused { call, errno, remedy }, _) => format!("{call}: {errno}: {remedy}"),
            (_, Some(cause)) => format!("{self}: {cause}"),
            (_, None) => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_source_and_stands_in_one_line_where_it_is_asked_for() {
        let error = Error::call("send(2)")(io::Error::from_raw_os_error(libc::EPIPE));
        assert_eq!(error.to_string(), "send(2)");
        assert_eq!(error.source().unwrap().to_string(), "Broken pipe (os error 32)");
        assert_eq!(error.with_cause(), "send(2): Broken pipe (os error 32)");
    }
}
