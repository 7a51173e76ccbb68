//! Wall-clock time of a round trip by number of pairs, at 64 KiB: the studies' second figure.
//!
//! An iteration is one round trip on every pair, so its time is the mean round trip of a pair.

mod support;

use std::process::ExitCode;

use sendpath::case::Matrix;

fn main() -> ExitCode {
    support::main("latency", Matrix::by_threads())
}
