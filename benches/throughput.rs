//! Wall-clock throughput by message size, at 1 and 4 pairs: the studies' first figure.
//!
//! An iteration is one message on every pair; `thrpt` counts payload bits over all pairs.

mod support;

use std::process::ExitCode;

use sendpath::case::Matrix;

fn main() -> ExitCode {
    support::wall::main("throughput", Matrix::by_size())
}
