//! The `sendpath` command, for the experiments to start.

use std::process::ExitCode;

fn main() -> ExitCode {
    sendpath::cli::main()
}
