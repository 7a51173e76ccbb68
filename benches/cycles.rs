//! CPU cycles of the server's threads, per message and per byte: the studies' fifth figure.
//!
//! Where the machine has no PMU, the task clock and the time stamp counter stand in, under their own names.

mod support;

use sendpath::event::Event;
use std::process::ExitCode;

fn main() -> ExitCode {
    support::counted::main(&[Event::Cycles])
}
