//! The words in which a choice is made: a path, a layout, a receiver, and what else a measurement
//! differs in.
//!
//! Pure: nothing here opens a socket, reads a file or needs a privilege.

#[cfg(feature = "full")]
mod matrix;
mod series;
#[cfg(feature = "full")]
mod shape;

use std::str::FromStr;

use strum::{Display, EnumString, VariantArray, VariantNames};

#[cfg(feature = "full")]
#[doc(hidden)]
pub use matrix::{
    Axes, Case, Cell, MAX_PAYLOAD_BYTES, MIN_PAYLOAD_BYTES, Matrix, Situation, parse_bytes, parse_copy_below,
    parse_list, parse_payload_bytes, parse_threads,
};
pub use series::{DEFAULT_COPY_BELOW_BYTES, Series};
#[cfg(feature = "full")]
#[doc(hidden)]
pub use shape::Shape;

/// The most fields that a message may have.
pub const MAX_FIELDS: usize = 64;

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
        /// Fields below a threshold are copied into one buffer, larger ones gathered: `sendmsg`.
        Hybrid,
        /// As `hybrid`, with `MSG_ZEROCOPY`. A message without a larger field is copied.
        HybridZero,
        /// `vmsplice` of the fields into a pipe, `splice` from it to the socket. Nothing says when
        /// the kernel has let go of the memory: the receiver's word alone does.
        Splice,
        /// `sendfile` from a memfd in which the fields lie one after the other. As for `splice`,
        /// the receiver's word alone says when the memory may be written again.
        File,
    }
}

axis! {
    /// Where the fields of a message lie in memory.
    Layout = "layout" {
        /// As the allocator gives them: a 64 KiB message may straddle 24 pages.
        Heap,
        /// Each field starts on a page of its own.
        Page,
        /// As `page`, and the pages are parts of huge ones.
        Huge,
    }
}

#[cfg(feature = "full")]
axis! {
    #[doc(hidden)]
    /// What a pair does with its messages.
    Workload = "workload" {
        /// An 8-byte request, the whole message back; one in flight.
        Rr,
        /// Messages back to back; the client asks for more when half of what is in flight has
        /// arrived.
        Stream,
    }
}

#[cfg(feature = "full")]
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
    /// How a path's call is made.
    #[derive(Default)]
    Engine = "engine" {
        /// By a system call of its own.
        #[default]
        Syscall,
        /// By `io_uring`: `SEND`, `SENDMSG`, `SENDMSG_ZC`.
        Uring,
        /// By `io_uring`, from registered buffers, which are not pinned anew for each send:
        /// `zero_copy` alone.
        UringFixed,
        /// By `io_uring`, whose kernel thread takes the sends from the queue: no system call hands
        /// them over.
        UringSqpoll,
    }
}

axis! {
    /// How the client takes the bytes in: the same for every path that is compared, because how
    /// bytes are received has nothing to do with how they were sent.
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
        /// `TCP_ZEROCOPY_RECEIVE`: whole pages are mapped, what else there is is copied.
        Mmap,
        /// As the sender sends, the protocol as a whole: `unpack` for `two_copy`, `fields` for the
        /// others.
        Matched,
        /// Nobody: the sender alone. Its frames are dropped uncopied, and acknowledged all the
        /// same.
        Sink,
    }
}

#[cfg(feature = "full")]
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

#[cfg(feature = "full")]
impl Workload {
    /// In words that need no glossary.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Rr => "request/response",
            Self::Stream => "stream of messages",
        }
    }
}

#[cfg(feature = "full")]
impl Source {
    /// In words that need no glossary.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Hot => "data in cache",
            Self::Cold => "data from memory",
        }
    }
}

impl Receiver {
    /// Who receives, where it is not said how: `sender alone`, `receiver buffer`.
    pub fn in_words(self) -> String {
        if self == Self::Sink { "sender alone".to_owned() } else { format!("receiver {self}") }
    }

    /// What [`Matched`](Self::Matched) stands for where the sender is `path`; every other receiver
    /// is itself.
    #[must_use]
    pub fn for_path(self, path: SendPath) -> Self {
        match (self, path) {
            (Self::Matched, SendPath::TwoCopy) => Self::Unpack,
            (Self::Matched, _) => Self::Fields,
            (receiver, _) => receiver,
        }
    }
}

impl SendPath {
    /// The three paths that the studies compare, and that are measured unless others are asked for.
    pub const STUDIED: [Self; 3] = [Self::TwoCopy, Self::OneCopy, Self::ZeroCopy];

    /// Whether it copies the fields below a size, and not those above.
    pub fn has_threshold(self) -> bool {
        matches!(self, Self::Hybrid | Self::HybridZero)
    }

    /// Whether its sends bear `MSG_ZEROCOPY`, so that the kernel says of each whether it copied
    /// after all.
    pub fn is_zero_copy(self) -> bool {
        matches!(self, Self::ZeroCopy | Self::HybridZero)
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

/// Why a case, or a list of cases, was refused. Found before anything is set up. A text alone is
/// what was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// A placement, and no CPU.
    #[error("this process is allowed no CPU")]
    NoCpu,
    /// A placement that takes two CPUs, and one.
    #[error("placement split needs two CPUs, and this process is allowed one: use paired or free")]
    OneCpu,
    /// A word that names nothing on this axis.
    #[error("unknown {axis} {found:?}{}: expected {}", did_you_mean(found, expected), .expected.join(", "))]
    UnknownWord {
        /// The axis, as in `path`.
        axis: &'static str,
        /// What was given.
        found: String,
        /// Every word of the axis.
        expected: &'static [&'static str],
    },
    /// Not a size at all.
    #[error("size {0:?} is not a number of bytes such as 64, 4K or 1M")]
    NotASize(String),
    /// A size that no message can have.
    #[error("size {0:?} is out of range: a message has 8 bytes (one per field) to 16M")]
    SizeOutOfRange(String),
    /// A thread count that is no number, or out of range.
    #[error("threads {0:?} is not a number of pairs from 1 to {MAX_THREADS}")]
    Threads(String),
    /// Not a threshold of the hybrid paths.
    #[error("threshold {0:?} is not a number of bytes from 1 to 16M")]
    Threshold(String),
    /// A threshold, and no path that has one.
    #[error("only the paths hybrid and hybrid_zero copy the fields below a size: name one of them as a path")]
    NoHybrid,
    /// Not a shape.
    #[error(
        "shape {0:?} is none of: equal, header, fields:N (1 to 64), sizes such as 24,512K (at most 64 fields, 16M in \
         all), or a trace such as 97x64|3x24,512K (at most 32 lists)"
    )]
    NotAShape(String),
    /// A trace in which a list would be sent too seldom to be measured.
    #[error(
        "shape {0:?}: a list has less than 1/512 of the weights, and would never be sent: join rare lists"
    )]
    RareList(String),
    #[cfg(feature = "full")]
    /// A payload that a shape cannot have.
    #[error("a payload of {payload_bytes} bytes has not the shape {shape}, which takes {least_bytes} bytes{}",
        if shape.own_payload_bytes().is_some() { "" } else { " or more" })]
    ShapeAndSize {
        /// The shape.
        shape: Shape,
        /// The payload.
        payload_bytes: usize,
        /// What it should be, or the least that it may be.
        least_bytes: usize,
    },
    /// A path whose sends an engine does not make.
    #[error("path {path} has no engine {engine}: {}", match engine {
        Engine::UringFixed => "the kernel sends from registered buffers with zero_copy alone",
        _ => "io_uring makes the sends of two_copy, one_copy and zero_copy",
    })]
    Engine {
        /// The path.
        path: SendPath,
        /// The engine.
        engine: Engine,
    },
    /// A path whose messages cannot lie so.
    #[error(
        "path {path} has no layout {layout}: its fields lie one after the other in a file, which is layout heap"
    )]
    Layout {
        /// The path.
        path: SendPath,
        /// The layout.
        layout: Layout,
    },
    /// A comma list with nothing in it.
    #[error("the list is empty: give a comma list, or leave it out for the default")]
    EmptyList,
    /// An item that stands twice in a comma list.
    #[error("{0:?} stands twice")]
    Repeated(String),
}

/// The word that was meant, if one is near.
fn did_you_mean(found: &str, expected: &[&str]) -> String {
    #[cfg(feature = "full")]
    {
        let near = expected.iter().map(|word| (strsim::jaro(found, word), word));
        let nearest = near.max_by(|(one, _), (other, _)| one.total_cmp(other));
        // As clap has it.
        if let Some((_, word)) = nearest.filter(|(likeness, _)| *likeness > 0.7) {
            return format!(" (did you mean {word}?)");
        }
    }
    #[cfg(not(feature = "full"))]
    let _ = (found, expected);
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matched_is_the_only_receiver_that_follows_the_path() {
        let of = |receiver: Receiver| SendPath::STUDIED.map(|path| receiver.for_path(path));
        assert_eq!(of(Receiver::Matched), [Receiver::Unpack, Receiver::Fields, Receiver::Fields]);
        for receiver in [Receiver::Buffer, Receiver::Fields, Receiver::Unpack, Receiver::Discard] {
            assert_eq!(of(receiver), [receiver; 3]);
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let likely = if cfg!(feature = "full") { " (did you mean zero_copy?)" } else { "" };
        assert_eq!(
            SendPath::parse("zerocopy").unwrap_err().to_string(),
            format!(
                r#"unknown path "zerocopy"{likely}: expected two_copy, one_copy, zero_copy, hybrid, hybrid_zero, splice, file"#
            )
        );
        assert!(SendPath::parse("quick").unwrap_err().to_string().starts_with(r#"unknown path "quick": "#));
    }
}
