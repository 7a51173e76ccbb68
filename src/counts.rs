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
    /// Received by mapping the pages that they came in: copied by nobody.
    pub mapped_bytes: u64,
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
            mapped_bytes: self.mapped_bytes - earlier.mapped_bytes,
        }
    }

    /// The share of the bytes received that were mapped; none where nothing was received.
    #[must_use]
    pub fn mapped_share(&self) -> Option<f64> {
        let received_bytes = self.mapped_bytes + self.kernel_to_user_bytes;
        (received_bytes > 0).then(|| self.mapped_bytes as f64 / received_bytes as f64)
    }
}

impl AddAssign for Copies {
    fn add_assign(&mut self, other: Self) {
        self.user_to_user_bytes += other.user_to_user_bytes;
        self.user_to_kernel_bytes += other.user_to_kernel_bytes;
        self.deferred_bytes += other.deferred_bytes;
        self.kernel_to_user_bytes += other.kernel_to_user_bytes;
        self.mapped_bytes += other.mapped_bytes;
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
    ///
    /// Strictly between 0 and 1 it is no exact count where there are fewer notifications than completions: the kernel
    /// joins neighbouring ranges without comparing what they say of copying (`skb_zerocopy_notify_extend`).
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

#[cfg(feature = "cli")]
/// What a receiver found in messages whose every byte the sender changed right after the call that sent them had
/// returned. A test of whether they were copied that does not ask the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Seen {
    /// Bytes that came as they had been sent: they were copied, or read by a device, before they were changed.
    pub old_bytes: u64,
    /// Bytes that came as they had been changed to: until then, the memory was shared.
    pub new_bytes: u64,
    /// Of the latter, those of messages that the kernel had let go of before they were changed: none, if it keeps
    /// its word. It lets go by a completion, or on the other paths by the call's return.
    pub late_bytes: u64,
}

#[cfg(feature = "cli")]
impl Seen {
    /// What contradicts the kernel's word on the sends of the same path, `None` for the paths without completions.
    /// `is_local`: from one end to the other, no device reads the sender's memory but CPUs of this machine.
    #[must_use]
    pub fn contradiction(&self, kernel: Option<&ZeroCopyCounts>, is_local: bool) -> Option<String> {
        let of_bytes = self.old_bytes + self.new_bytes;
        if self.late_bytes > 0 {
            return Some(format!(
                "the kernel let go of the messages, and {} of {of_bytes} bytes that were changed after that came as \
                 they were changed",
                self.late_bytes
            ));
        }
        // A share between 0 and 1 is a bound, and a device that reads the memory makes no copy.
        let is_denied = kernel.is_some_and(|counts| counts.completions > 0 && counts.copied == 0);
        (is_local && is_denied && self.old_bytes > 0).then(|| {
            format!(
                "the kernel says that it copied nothing, and {} of {of_bytes} bytes that were overwritten after the \
                 call came as they were sent: a copy was made before",
                self.old_bytes
            )
        })
    }
}

#[cfg(feature = "cli")]
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

#[cfg(feature = "cli")]
impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.old_bytes += other.old_bytes;
        self.new_bytes += other.new_bytes;
        self.late_bytes += other.late_bytes;
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

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn old_bytes_contradict_a_kernel_that_denies_every_copy_and_nothing_else() {
        let seen = Seen { old_bytes: 8, ..Seen::default() };
        let kernel =
            |completions, copied| ZeroCopyCounts { completions, copied, ..ZeroCopyCounts::default() };
        let is_denied = |counts, is_local| seen.contradiction(Some(&counts), is_local).is_some();
        assert!(is_denied(kernel(4, 0), true));
        assert!(!is_denied(kernel(4, 0), false), "a device may have read them");
        assert!(!is_denied(kernel(4, 1), true), "a bound");
        assert!(!is_denied(kernel(4, 4), true));
        assert!(!is_denied(kernel(0, 0), true), "nothing was said");
        assert_eq!(seen.contradiction(None, true), None, "the call copied");
    }

    #[test]
    fn new_bytes_contradict_a_kernel_that_had_let_go_of_the_message() {
        let deferred = Seen { new_bytes: 8, ..Seen::default() };
        assert_eq!(deferred.contradiction(None, true), None);
        let late = Seen { late_bytes: 8, ..deferred };
        assert!(late.contradiction(None, false).is_some());
    }
}
