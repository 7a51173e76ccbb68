//! What a path counts of its own work: plain data.

use std::fmt;
use std::ops::AddAssign;

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
#[cfg(feature = "full")]
pub(crate) use sums;

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
    pub fn copied_is_bound(&self) -> Option<CopiedBound> {
        let bound = match self {
            _ if self.notifications < self.completions => CopiedBound::Either,
            _ if self.stacked => CopiedBound::Upper,
            _ => CopiedBound::Exact,
        };
        (self.completions > 0).then_some(bound)
    }
}

sums!(
    ZeroCopyCounts: sends, sent_bytes, completions, notifications, copied, copied_bytes, enobufs; stacked
);

impl fmt::Display for ZeroCopyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sends, completions, notifications, enobufs, .. } = self;
        write!(
            f,
            "{sends} sends, {completions} completions in {notifications} notifications, {enobufs} ENOBUFS"
        )
    }
}
