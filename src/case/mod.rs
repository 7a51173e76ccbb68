//! The words in which a choice is made: a path, a layout, a receiver, and what else a measurement differs in.
//!
//! Pure: nothing here opens a socket, reads a file or needs a privilege.

#[cfg(feature = "cli")]
mod matrix;

use std::str::FromStr;

use strum::{Display, EnumString, VariantArray, VariantNames};

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use matrix::{
    Axes, Case, Cell, ChartAxis, Group, Matrix, Series, Situation, departures, parse_bytes, parse_list,
    parse_payload_bytes, parse_threads, series_id,
};

#[cfg(feature = "cli")]
#[doc(hidden)]
/// The smallest payload: one byte in each of the eight fields.
pub const MIN_PAYLOAD_BYTES: usize = 8;
#[cfg(feature = "cli")]
#[doc(hidden)]
/// The largest payload, 16 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
#[doc(hidden)]
/// The most pairs that one case may have.
pub const MAX_THREADS: usize = 256;

/// Declares one axis of a case whose values are words.
macro_rules! axis {
    ($(#[$doc:meta])* $name:ident = $word:literal { $($(#[$value_doc:meta])* $value:ident,)+ }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumString, VariantArray, VariantNames,
        )]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl Axis for $name {
            const NAME: &'static str = $word;
        }
    };
}

/// An axis whose values are words, such as [`SendPath`] or [`Layout`].
pub trait Axis: FromStr + VariantNames {
    /// What a message to the user calls the axis.
    const NAME: &'static str;

    /// Reads one of the axis's words.
    ///
    /// # Errors
    /// [`CaseError::UnknownWord`], which lists the words there are.
    fn parse(word: &str) -> Result<Self, CaseError> {
        word.parse().map_err(|_| CaseError::UnknownWord {
            axis: Self::NAME,
            found: word.to_owned(),
            expected: Self::VARIANTS,
        })
    }
}

axis! {
    /// How a message leaves the server.
    SendPath = "path" {
        /// Pack the fields into one buffer, `send`.
        TwoCopy,
        /// `sendmsg` with one iovec per field.
        OneCopy,
        /// `sendmsg` with one iovec per field and `MSG_ZEROCOPY`.
        ZeroCopy,
    }
}

axis! {
    /// Where the fields of a message lie in memory.
    Layout = "layout" {
        /// As the allocator gives them: a 64 KiB message may straddle 24 pages.
        Heap,
        /// Each field starts on a page of its own.
        Page,
    }
}

#[cfg(feature = "cli")]
axis! {
    #[doc(hidden)]
    /// What a pair does with its messages.
    Workload = "workload" {
        /// An 8-byte request, the whole message back; one in flight.
        Rr,
        /// Messages back to back; the client asks for more when half of what is in flight has arrived.
        Stream,
    }
}

#[cfg(feature = "cli")]
axis! {
    #[doc(hidden)]
    /// Which CPUs the two ends of a pair run on.
    Placement = "placement" {
        /// Both ends of a pair on one CPU, pairs dealt round-robin.
        Paired,
        /// Servers on one half of the cores, clients on the other.
        Split,
        /// Left to the scheduler.
        Free,
    }
}

axis! {
    /// How the client takes the bytes in: the same for every path that is compared, because how bytes are
    /// received has nothing to do with how they were sent.
    #[derive(Default)]
    Receiver = "receiver" {
        /// `recv` into one contiguous buffer.
        #[default]
        Buffer,
        /// `recvmsg` into eight fields.
        Fields,
        /// `recv` into one buffer, then unpacked into eight fields.
        Unpack,
        /// `recv` with `MSG_TRUNC`: the bytes are dropped in the kernel.
        Discard,
        /// As the sender sends, the protocol as a whole: `unpack` for `two_copy`, `fields` for the others.
        Matched,
        /// Nobody: the sender alone. Its frames are dropped uncopied, and acknowledged all the same.
        Sink,
    }
}

#[cfg(feature = "cli")]
axis! {
    #[doc(hidden)]
    /// Which messages are sent.
    #[derive(Default)]
    Source = "source" {
        /// A small set of messages, sent in turn: as many for every path.
        #[default]
        Hot,
        /// A set of more than twice the last-level cache, so that each message comes from memory.
        Cold,
    }
}

impl Receiver {
    /// What [`Matched`](Self::Matched) stands for where the sender is `path`; every other receiver is itself.
    #[must_use]
    pub fn for_path(self, path: SendPath) -> Self {
        match (self, path) {
            (Self::Matched, SendPath::TwoCopy) => Self::Unpack,
            (Self::Matched, _) => Self::Fields,
            (receiver, _) => receiver,
        }
    }
}

/// One of the two ends of a connection, and the process that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[strum(serialize_all = "snake_case")]
pub enum Side {
    /// Sends the payload.
    Server,
    /// Asks for it and receives.
    Client,
}

/// Why a case, or a list of cases, was refused. Found before anything is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// A word that names nothing on this axis.
    #[error("unknown {axis} {found:?}: expected {}", .expected.join(", "))]
    UnknownWord {
        /// The axis, as in `path`.
        axis: &'static str,
        /// What was given.
        found: String,
        /// Every word of the axis.
        expected: &'static [&'static str],
    },
    /// Not a size at all.
    #[error("size {found:?} is not a number of bytes such as 64, 4K or 1M")]
    NotASize {
        /// What was given.
        found: String,
    },
    /// A size that no message can have.
    #[error("size {found:?} is out of range: a message has 8 bytes (one per field) to 16M")]
    SizeOutOfRange {
        /// What was given.
        found: String,
    },
    /// A thread count that is no number, or out of range.
    #[error("threads {found:?} is not a number of pairs from 1 to {MAX_THREADS}")]
    Threads {
        /// What was given.
        found: String,
    },
    /// A comma list with nothing in it.
    #[error("the list is empty: give a comma list, or leave it out for the default")]
    EmptyList,
    /// An item that stands twice in a comma list.
    #[error("{found:?} stands twice")]
    Repeated {
        /// The item.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matched_is_the_only_receiver_that_follows_the_path() {
        let paths = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];
        let of = |receiver: Receiver| paths.map(|path| receiver.for_path(path));
        assert_eq!(of(Receiver::Matched), [Receiver::Unpack, Receiver::Fields, Receiver::Fields]);
        for receiver in [Receiver::Buffer, Receiver::Fields, Receiver::Unpack, Receiver::Discard] {
            assert_eq!(of(receiver), [receiver; 3]);
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!(
            SendPath::parse("three_copy").unwrap_err().to_string(),
            r#"unknown path "three_copy": expected two_copy, one_copy, zero_copy"#
        );
    }
}
