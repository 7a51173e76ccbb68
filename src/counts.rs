//! What a path counts of its own work: plain data.

use std::fmt;
use std::ops::AddAssign;

/// Payload bytes by who copied them. A path counts what it packed itself, what its calls returned, and what
/// the completions said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Copies {
    /// Packed or unpacked by this process.
    pub user_to_user_bytes: u64,
    /// Copied into the kernel before the call returned.
    pub user_to_kernel_bytes: u64,
    /// Sent with `MSG_ZEROCOPY`, and copied by the kernel later after all.
    pub deferred_bytes: u64,
    /// Copied out of the kernel.
    pub kernel_to_user_bytes: u64,
}

impl Copies {
    /// What was copied after `earlier` was read.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_to_user_bytes: self.user_to_user_bytes - earlier.user_to_user_bytes,
            user_to_kernel_bytes: self.user_to_kernel_bytes - earlier.user_to_kernel_bytes,
            deferred_bytes: self.deferred_bytes - earlier.deferred_bytes,
            kernel_to_user_bytes: self.kernel_to_user_bytes - earlier.kernel_to_user_bytes,
        }
    }
}

impl AddAssign for Copies {
    fn add_assign(&mut self, other: Self) {
        self.user_to_user_bytes += other.user_to_user_bytes;
        self.user_to_kernel_bytes += other.user_to_kernel_bytes;
        self.deferred_bytes += other.deferred_bytes;
        self.kernel_to_user_bytes += other.kernel_to_user_bytes;
    }
}

/// What `zero_copy` did, counted from the kernel's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ZeroCopyCounts {
    /// Successful `sendmsg` calls with `MSG_ZEROCOPY`. A short send makes two of one message.
    pub sends: u64,
    /// Bytes that those calls took.
    pub sent_bytes: u64,
    /// Calls whose completion arrived.
    pub completions: u64,
    /// Messages read from the error queue; each completes a range of calls.
    pub notifications: u64,
    /// Completions that say the kernel copied.
    pub copied: u64,
    /// Bytes of the calls that they complete.
    pub copied_bytes: u64,
    /// Calls that were refused with `ENOBUFS` and made again.
    pub enobufs: u64,
}

impl ZeroCopyCounts {
    /// The share of completions that say the kernel copied; none before the first completion.
    #[must_use]
    pub fn copied_share(&self) -> Option<f64> {
        (self.completions > 0).then(|| self.copied as f64 / self.completions as f64)
    }

    /// What was counted after `earlier` was.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sends: self.sends - earlier.sends,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            completions: self.completions - earlier.completions,
            notifications: self.notifications - earlier.notifications,
            copied: self.copied - earlier.copied,
            copied_bytes: self.copied_bytes - earlier.copied_bytes,
            enobufs: self.enobufs - earlier.enobufs,
        }
    }
}

impl fmt::Display for ZeroCopyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sends, completions, notifications, enobufs, .. } = self;
        write!(
            f,
            "{sends} sends, {completions} completions in {notifications} notifications, {enobufs} ENOBUFS"
        )
    }
}

impl AddAssign for ZeroCopyCounts {
    fn add_assign(&mut self, other: Self) {
        self.sends += other.sends;
        self.sent_bytes += other.sent_bytes;
        self.completions += other.completions;
        self.notifications += other.notifications;
        self.copied += other.copied;
        self.copied_bytes += other.copied_bytes;
        self.enobufs += other.enobufs;
    }
}
