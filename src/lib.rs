//! Ways to send a structured message over TCP on Linux, and what they cost on this machine.
//!
//! A server sends by a [`path::SendQueue`]: on a non-blocking socket it never waits, takes buffers
//! that the server made, and gives them back when the kernel has let go of them; `examples/` has a
//! server with `epoll` and one with tokio.
//!
//! The ways to send are in [`path`]. Each half, sender and receiver, is usable on its own over any
//! connected TCP socket:
//!
//! | use | when |
//! |---|---|
//! | [`two_copy`](path::MessageSender::two_copy) | messages are small, or their fields are: packing some KiB costs less than walking iovecs |
//! | [`one_copy`](path::MessageSender::one_copy) | fields are large and lie apart: it needs no pack buffer and no memcpy |
//! | [`zero_copy`](path::MessageSender::zero_copy) | sends are large (10 KB and more), leave through a network card with scatter-gather and checksum offload, and the buffers can wait for their completions |
//!
//! [`path::UringSender`] makes these three sends by `io_uring`.
//! [`hybrid`](path::MessageSender::hybrid) copies small fields and gathers large ones.
//! [`path::SpliceSender`] and [`path::FileSender`] hand pages on without a copy, to receivers that
//! say what they have.
//!
//! From which size on depends on the machine. The `sendpath` command and the benches of this
//! package measure it. Over veth and loopback the kernel copies what was sent with `MSG_ZEROCOPY`
//! after all, and says so: there they show what `MSG_ZEROCOPY` costs in that case. `sendpath run
//! --receiver sink` measures the sender alone, whose frames are dropped before anything copies
//! them.
//!
//! Every receiver takes in what any sender sends: a [`path::MessageReceiver`] into one buffer, into
//! the fields, into one buffer and from there into the fields, or nowhere;
//! [`path::MappedReceiver`] maps whole pages.
//!
//! # Example
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{MessageReceiver, MessageSender, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! // A key and a value, each in memory of its own.
//! let message = Message::with_field_bytes(&[5, 4096], Layout::Heap);
//! let mut sender = MessageSender::one_copy(server, vec![message]);
//! let mut message = sender.message()?;
//! message.field_mut(0).copy_from_slice(b"a key");
//! message.field_mut(1).fill(7);
//! sender.send()?;
//!
//! let mut receiver = MessageReceiver::buffer(client, vec![vec![5, 4096]]);
//! receiver.receive()?;
//! assert_eq!(receiver.bytes()[..5], *b"a key");
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! - `cli` (default): the `sendpath` command, and all that measures, judges and reports. A program
//!   that wants the paths alone sets `default-features = false`, and then builds `io-uring`,
//!   `libc`, `once_cell`, `rustix`, `sendpath-model` (the words), `strum` and `thiserror`.
//! - `bytes`: `bytes::Bytes` is one of the [`path::Buffers`].
//! - `serde`: `Serialize` and `Deserialize` for the words in [`case`] and the counts of [`path`].
//!   Part of `cli`.
//!
//! # The modules
//!
//! No two modules use each other, which `tests/source/architecture.rs` looks for. The plain data
//! lie in the crate `sendpath-model`, what judges and draws in `sendpath-report`.
//!
//! - [`case`]: the words in which a case is given, and (for the command) `Case`, `Cell` and
//!   `Matrix`.
//!   [`message`]: the fields. `pinning`: how much memory may be pinned. `limits`: why a call was
//!   refused. `deadlines`: how long anything may take.
//! - [`path`]: the three paths. `counts`: what a path counts of its own work.
//! - `event`, `sample`, `environment`: what can be counted, what a burst measured, and the
//!   surroundings of a measurement; plain data. `format`: how sizes, numbers and times are written
//!   for people.
//! - `fragments`: into how many packets and fragments the kernel cuts a message.
//! - `topology`: namespaces, veth, CPUs. `counters`: counts events of a thread. `process`: child
//!   processes.
//! - `pair`: the two processes, their threads and connections, and the bursts that they run.
//! - `settings`: what options and variables say, read once for every command and bench.
//! - `measure`: bursts become samples. `doctor`: what the machine can measure, and what it cannot.
//! - `results`: samples on disk, and what may be concluded from them.
//! - `sweep`: all cases, interleaved. `tune`: from which size on a path pays. `ab`: two builds,
//!   interleaved. `report`: a page of a sweep.
//! - `cli`: one file per subcommand of `sendpath`.

mod deadlines;
#[cfg(test)]
mod fake;
mod limits;
pub mod message;
pub mod path;
mod pinning;

#[doc(inline)]
pub use sendpath_model::case;
use sendpath_model::counts;
#[cfg(feature = "cli")]
use sendpath_model::in_order;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use sendpath_model::{check, environment, event, format, fragments, sample};
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use sendpath_report::{report, results};

// What the command is made of. These modules are public for `main.rs`, the benches, the experiments
// and the tests, which are crates of their own. They may change with any version, so the
// documentation leaves them out.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod ab;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod counters;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod doctor;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod error;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod host;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod measure;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod pair;
#[cfg(feature = "cli")]
mod process;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod program;
#[cfg(feature = "cli")]
mod random;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod settings;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod sweep;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod topology;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod tune;

pub use path::{Error, Result};
