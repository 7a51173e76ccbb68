//! `sendpath client`: the other process of a run. Not for the command line.

/// Serves until the server closes the control socket.
pub(super) fn run() -> anyhow::Result<u8> {
    crate::pair::client::main()?;
    Ok(super::DONE)
}
