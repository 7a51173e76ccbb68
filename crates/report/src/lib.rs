//! What samples say: how they lie on disk, what may be concluded from them, and the page that shows
//! it.
//!
//! Nothing here opens a socket: this crate depends on none of those that could, and clippy refuses
//! std's.
//!
//! - [`error`]: what cannot be read or drawn.
//! - [`results`]: samples on disk, and what may be concluded from them.
//! - [`report`]: the pages and the figures.

// The tests' fixture page names the crate, here as in tests/.
#[cfg(test)]
extern crate self as sendpath;

pub mod error;
pub mod report;
pub mod results;

use sendpath_model::{case, check, environment, event, format, fragments, in_order, sample};
