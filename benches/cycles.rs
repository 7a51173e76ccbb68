//! CPU cycles of the server's threads, per message and per byte: the studies' fifth figure.
//!
//! Where the machine has no PMU, the task clock and the time stamp counter stand in, under their own names.

mod support;

use std::process::ExitCode;

use sendpath::counters::Event;

fn main() -> ExitCode {
    support::counted::main(&[Event::Cycles])
}
