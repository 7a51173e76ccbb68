//! The `sendpath` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sendpath::cli::main()
}
