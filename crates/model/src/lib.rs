//! The plain data that all of `sendpath` names: what is measured, what was counted, and in what
//! surroundings.
//!
//! Nothing here opens a socket or asks the kernel. Each module may use those above it.
//!
//! - [`case`]: the words in which a case is given, and `Case`, `Cell` and `Matrix`.
//!   [`format`](mod@format): how sizes, numbers and times are written for people.
//!   [`in_order`]: lists without repetition.
//! - [`counts`]: what a path counts of its own work. [`fragments`]: into how many packets and
//!   fragments the kernel cuts a message. [`event`]: what a processor or the kernel can count.
//! - [`sample`]: what a burst measured. [`environment`]: the surroundings of a measurement.
//!   [`check`]: what a look at the machine found.

pub mod case;
#[cfg(feature = "full")]
pub mod check;
pub mod counts;
#[cfg(feature = "full")]
pub mod environment;
#[cfg(feature = "full")]
pub mod event;
#[cfg(feature = "full")]
pub mod format;
#[cfg(feature = "full")]
pub mod fragments;
#[cfg(feature = "full")]
pub mod in_order;
#[cfg(feature = "full")]
pub mod sample;
