//! How long anything may take before it is given up: every such limit, from the inmost to the
//! outmost. Each has to be shorter than the one that it lies in, or that one speaks first and says
//! less.

use std::time::Duration;

// The paths, of which each call may wait.

/// How long a path waits for a non-blocking socket, or for a completion, before it gives up.
pub const WAIT_LIMIT: Duration = Duration::from_secs(8);
/// Within it: how long a message that cannot be pinned is tried again, while other connections may
/// hold the memory.
pub(crate) const PIN_LIMIT: Duration = Duration::from_secs(4);
/// How long a sender that is dropped waits for what is outstanding, before it leaks that.
pub(crate) const DROP_LIMIT: Duration = Duration::from_secs(1);
/// How long completions are awaited on a connection that is down.
pub(crate) const HUNG_UP_LIMIT: Duration = Duration::from_millis(500);
/// How long the kernel may take to unlock what a ring has locked that was closed before.
pub(crate) const UNLOCK_LIMIT: Duration = Duration::from_secs(1);

#[cfg(feature = "cli")]
pub(crate) use command::*;

#[cfg(feature = "cli")]
mod command {
    use super::Duration;

    // What is set up before anything is measured.

    /// How long the kernel may take to answer a request by netlink, which it does at once.
    pub(crate) const NETLINK_LIMIT: Duration = Duration::from_secs(2);
    /// How long a link that was made may take until it takes frames.
    pub(crate) const LINK_LIMIT: Duration = Duration::from_secs(4);
    /// How long a connection may take to be made.
    pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
    /// How long a newcomer may take to say whose it is.
    pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(2);
    /// Around both: how long the client may take to make its connections.
    pub(crate) const ACCEPT_LIMIT: Duration = Duration::from_secs(7);

    // A burst.

    /// No byte for so long on any pair is a stall.
    pub(crate) const STALL: Duration = Duration::from_secs(4);
    /// The same where nobody receives: there is no other process whose pace has to be allowed for.
    pub(crate) const STALL_SINK: Duration = Duration::from_secs(2);
    /// The same for a burst that writes and compares every byte of every message, which takes its
    /// time.
    pub(crate) const STALL_VERIFYING: Duration = Duration::from_secs(5);
    /// How long a message may take to arrive that was overwritten.
    pub(crate) const OVERWRITTEN_LIMIT: Duration = Duration::from_secs(4);
    /// How long threads may take to end, once their connections are shut down.
    pub(crate) const ABORT_LIMIT: Duration = Duration::from_secs(6);

    // The client. With these limits, whatever happens is said within 10 s.

    /// How long it may take for what is no burst.
    pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(7);
    /// How long an error that only echoes the other side's end waits for a better one from there.
    pub(crate) const CAUSE_LIMIT: Duration = Duration::from_secs(2);
    /// How long it may take to go, before it is killed.
    pub(crate) const EXIT_LIMIT: Duration = Duration::from_secs(2);
    /// How long one that was killed may still be seen.
    pub(crate) const KILLED_LIMIT: Duration = Duration::from_millis(100);
    /// How long the last words of a child are waited for, where others may still write to its
    /// standard error.
    pub(crate) const LISTEN_LIMIT: Duration = Duration::from_millis(100);

    // A comparison of two builds.

    /// How long a copy to the peer's machine may take.
    pub(crate) const COPY_LIMIT: Duration = Duration::from_mins(1);
    /// How long a worker may take to be ready, and to open a case: the peer's command may be slow,
    /// and the memory large.
    pub(crate) const WORKER_OPEN_LIMIT: Duration = Duration::from_mins(1);
    /// How long it may take for a burst: longer than the deadlines inside it, so that the worker
    /// says what was late.
    pub(crate) const WORKER_BURST_LIMIT: Duration = Duration::from_secs(9);
    /// How long it may take to end once its input has ended.
    pub(crate) const WORKER_END_LIMIT: Duration = Duration::from_secs(5);
}
