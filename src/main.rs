//! The `sendpath` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: sendpath::cli::Allocator = sendpath::cli::Allocator;

fn main() -> ExitCode {
    sendpath::cli::main()
}
