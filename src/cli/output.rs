//! Standard output, which has a command's result, and standard error, which has all else.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// Prints `text` as it is.
///
/// # Errors
/// The call, as on a full disk. Nobody reading any more, as after `| head`, is no error.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(errno) if errno.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::call("write(2) to standard output")),
    }
}

/// A value as JSON for people to read.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Protocol(error.to_string()))?;
    Ok(text + "\n")
}

/// Prints a line on standard error.
pub(super) fn note(line: &str) {
    // Where standard error cannot be written, there is no place left to say so, and what is
    // measured still counts. Standard error is not buffered: one write is one piece.
    drop(io::stderr().write_all(format!("{line}\n").as_bytes()));
}
