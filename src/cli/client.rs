//! `sendpath client`: the receiving end of a run.

use clap::Args;

use crate::doctor;
use crate::pair::client;

const AFTER_HELP: &str = "\
Examples, on the other machine or in the other namespace:
  sendpath run --peer 'ssh bob sendpath client'
  sendpath sweep --peer 'kubectl exec -i receiver -- sendpath client'
  sendpath run --peer 'nc 10.0.0.2 7000'    where bob runs: nc -l -p 7000 -e sendpath client

It reads the server's questions on standard input and writes its answers on standard output.
It makes its data connections to the address that it is told, and ends when its input does.
Both sides have to be of the same version. Whoever can write to its input can have it connect and
receive: let only the server reach it.

Exit codes: 0 the server is done, 1 the line broke or the server is of another version, 2 bad input.";

/// Be the receiving end of a run, for a server on another machine that is given --peer
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// End with the process that started this one; only the server gives this, to its own child
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Serves until the server closes the control line.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    client::main(options.with_parent, || serde_json::to_value(doctor::examine_alone()).unwrap_or_default())?;
    Ok(super::DONE)
}
