//! `sendpath worker`: a process of a comparison, started by `sendpath ab`.

use clap::Args;

use super::{DONE, SetupOptions};
use crate::ab::worker;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    setup: SetupOptions,
}

/// Answers the questions on standard input until it ends.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    worker::serve(&options.setup.setup()?, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(DONE)
}
