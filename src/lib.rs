//! Which of Linux's ways to send a structured message is the cheapest, from which size, on this machine?
//!
//! `sendpath` measures three of them over TCP, between two network namespaces. The paths are in
//! [`path`], each usable on its own in a server of yours:
//!
//! | use | when |
//! |---|---|
//! | [`path::TwoCopySender`] | messages are small, or their fields are: packing some KiB costs less than walking iovecs |
//! | [`path::OneCopySender`] | fields are large and lie apart: spares the pack buffer and its memcpy |
//! | [`path::ZeroCopySender`] | sends are large (10 KB and more), leave through a network card with scatter-gather and checksum offload, and the buffers can wait for their completions |
//!
//! From which size on is what the suite measures: the answer is the machine's. Over veth and loopback
//! `MSG_ZEROCOPY` is always copied after all (the kernel says so, and so does every result here): what
//! these links can show is what it costs then.
//!
//! # Modules
//!
//! Each module may use only what stands to its left. `tests/architecture.rs` has the whole table, and holds every file
//! to it.
//!
//! [`case`], [`message`] → [`environment`] → [`path`] → [`topology`] → [`counters`] → [`pair`] → [`measure`] →
//! [`doctor`] → [`results`] → [`sweep`], [`ab`], [`report`] → [`cli`]
//!
//! - [`case`]: what can be measured, pure. [`message`]: the eight fields. [`path`]: the three paths.
//! - [`environment`]: the surroundings of a measurement, as plain data.
//! - [`topology`]: namespaces, veth, CPUs. [`counters`]: what a thread can count of itself.
//!   [`pair`]: the two processes, their threads, their bursts.
//! - [`measure`]: bursts become samples. [`doctor`]: what the machine can measure. [`results`]: samples on disk, and what may be concluded from them.
//! - [`sweep`]: all cases, interleaved. [`ab`]: two builds, interleaved. [`report`]: a page of it. [`cli`]: the `sendpath` command.
//!
//! [`event`] and [`sample`] are what was counted and measured, as plain data. [`error`], [`limits`] and [`mod@format`]
//! serve all of these.

// The tests' fixture page names the crate, here as in tests/.
#[cfg(test)]
extern crate self as sendpath;

pub mod ab;
pub mod case;
pub mod cli;
pub mod counters;
pub mod doctor;
pub mod environment;
pub mod error;
pub mod event;
pub mod format;
pub mod limits;
pub mod measure;
pub mod message;
pub mod pair;
pub mod path;
pub mod report;
pub mod results;
pub mod sample;
pub mod settings;
pub mod sweep;
pub mod topology;

pub use error::{Error, Result};
