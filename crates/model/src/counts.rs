//! What a path counts of its own work: plain data.

use std::fmt;
use std::ops::AddAssign;

#[cfg(feature = "full")]
use crate::format;

/// Counts that are added up, and told apart by when they were read. Behind the semicolon: what
/// holds of both where it holds of one.
macro_rules! sums {
    ($name:ident: $($count:ident),+ $(; $flag:ident)?) => {
        impl $name {
            /// What was counted after `earlier` was read.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($count: self.$count - earlier.$count,)+ $($flag: self.$flag)? }
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$count += other.$count;)+
                $(self.$flag |= other.$flag;)?
            }
        }
    };
}

/// Payload bytes by who copied them. A path counts what it packed itself, what its calls returned,
/// and what the completions said.
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
    /// The share of the bytes received that were mapped; none where nothing was received.
    #[must_use]
    pub fn mapped_share(&self) -> Option<f64> {
        let received_bytes = self.mapped_bytes + self.kernel_to_user_bytes;
        (received_bytes > 0).then(|| self.mapped_bytes as f64 / received_bytes as f64)
    }
}

sums!(Copies: user_to_user_bytes, user_to_kernel_bytes, deferred_bytes, kernel_to_user_bytes, mapped_bytes);

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
    /// Messages read from the error queue, each of which completes a range of calls; or
    /// notifications of `io_uring`.
    pub notifications: u64,
    /// Completions that say the kernel copied.
    pub copied: u64,
    /// Bytes of the calls that they complete.
    pub copied_bytes: u64,
    /// Calls that were refused with `ENOBUFS` and made again.
    pub enobufs: u64,
    /// Whether the kernel stacks the notifications, as `io_uring`'s does from Linux 6.10 on. A send
    /// that is added to a packet which another one began then says *copied*, whether it was copied
    /// or not (`io_link_skb`).
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub stacked: bool,
}

/// What the share of completions that say *copied* is to the share of calls that the kernel copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display, strum::EnumString)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[strum(serialize_all = "snake_case")]
pub enum CopiedBound {
    /// The same: each call has a notification of its own, which is right.
    Exact,
    /// No less: notifications that say *not copied* are right, and some that say *copied* are not.
    Upper,
    /// It may be more or less.
    Either,
}

impl ZeroCopyCounts {
    /// The share of completions that say the kernel copied; none before the first completion. It is
    /// a count or a bound: see [`copied_is_bound`](Self::copied_is_bound).
    #[must_use]
    pub fn copied_share(&self) -> Option<f64> {
        (self.completions > 0).then(|| self.copied as f64 / self.completions as f64)
    }

    /// Whether [`copied_share`](Self::copied_share) is a bound, and on which side; none before the
    /// first completion.
    ///
    /// The kernel joins the notifications of neighbouring calls that wait in the error queue
    /// without comparing what they say of copying, and keeps what the first one says
    /// (`skb_zerocopy_notify_extend`). So where there are fewer notifications than completions, any
    /// share may err on both sides, and 0 and 1 as well.
    #[must_use]
    pub fn copied_is_bound(&self) -> Option<CopiedBound> {
        let bound = match self {
            _ if self.notifications < self.completions => CopiedBound::Either,
            _ if self.stacked => CopiedBound::Upper,
            _ => CopiedBound::Exact,
        };
        (self.completions > 0).then_some(bound)
    }

    /// The share with what it is.
    #[cfg(feature = "full")]
    #[must_use]
    pub fn copied(&self) -> Option<CopiedShare> {
        Some(CopiedShare { share: self.copied_share()?, bound: self.copied_is_bound()? })
    }
}

sums!(
    ZeroCopyCounts: sends, sent_bytes, completions, notifications, copied, copied_bytes, enobufs; stacked
);

/// A share of calls that the kernel copied, and what it is: a count or a bound.
#[cfg(feature = "full")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopiedShare {
    /// From 0 to 1.
    pub share: f64,
    /// What it is.
    pub bound: CopiedBound,
}

#[cfg(feature = "full")]
impl CopiedShare {
    /// Whether it is known that nothing was copied: it was counted, or no more than nothing was.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.share == 0.0 && self.bound != CopiedBound::Either
    }
}

#[cfg(feature = "full")]
impl CopiedBound {
    /// What stands before a number of this kind.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Upper => "at most ",
            Self::Either => "about ",
        }
    }

    /// Why it is a bound; none of a count.
    #[must_use]
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

#[cfg(feature = "full")]
impl fmt::Display for CopiedShare {
    /// `12 %`, `at most 12 %`, `about 100 %`, or `none` of what is at most nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() && self.bound == CopiedBound::Upper {
            return f.write_str("none");
        }
        write!(f, "{}{}", self.bound.prefix(), format::share(self.share))
    }
}

#[cfg(feature = "full")]
/// What a receiver found in messages whose every byte the sender changed right after the call that
/// sent them had returned. A test of whether they were copied that does not ask the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

#[cfg(feature = "full")]
impl Seen {
    /// What contradicts the kernel's word on the sends of the same path, `None` for the paths
    /// without completions. `is_local`: from one end to the other, no device reads the sender's
    /// memory but CPUs of this machine.
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

#[cfg(feature = "full")]
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

#[cfg(feature = "full")]
sums!(Seen: old_bytes, new_bytes, late_bytes);

impl fmt::Display for ZeroCopyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sends, completions, notifications, enobufs, .. } = self;
        write!(
            f,
            "{sends} sends, {completions} completions in {notifications} notifications, {enobufs} ENOBUFS"
        )
    }
}

#[cfg(all(test, feature = "full"))]
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
