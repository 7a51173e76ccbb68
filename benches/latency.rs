//! Wall-clock time of a round trip by number of pairs, at 64 KiB: the studies' second figure.
//!
//! An iteration is one round trip on every pair; its time is the mean over pairs, each from its own start
//! to its own end.

mod support;

use std::process::ExitCode;

use sendpath::case::Matrix;

fn main() -> ExitCode {
    support::wall::main("latency", Matrix::by_threads())
}
