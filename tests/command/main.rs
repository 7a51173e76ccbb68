//! What the command does, seen from outside: each subcommand, over real connections.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/fleet.rs"]
mod generated;

mod ab;
mod causes;
mod cli;
mod fleet;
mod paths;
mod peer;
mod sweep;
mod topology;
mod tune;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::of_modules([
        ("fleet", fleet::trials()),
        ("cli", cli::trials()),
        ("causes", causes::trials()),
        ("topology", topology::trials()),
        ("paths", paths::trials()),
        ("sweep", sweep::trials()),
        ("tune", tune::trials()),
        ("ab", ab::trials()),
        ("peer", peer::trials()),
    ])
}
