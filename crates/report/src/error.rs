//! What cannot be read, written or drawn.

use std::io;
use std::path::Path;

/// The error of what is stored and of what is drawn of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stored data that cannot be read, or must not be written over. Nothing was changed.
    #[error("{path}: {problem}")]
    Data {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error("{call} {path}: {errno}")]
    File {
        /// The call, as its man page names it.
        call: &'static str,
        /// The file or folder.
        path: String,
        /// Why. It stands in the message, so it is no `source` beside.
        errno: io::Error,
    },
    /// A page or a figure that cannot be made of the data.
    #[error("{what}: {cause}")]
    Report {
        /// What was to be made.
        what: String,
        /// Why it could not be.
        cause: String,
    },
}

/// The result of what is stored and drawn.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Names the call and the file behind an I/O error; made for `map_err`.
    pub fn file(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |errno| Self::File { call, path: path.display().to_string(), errno }
    }

    /// Whether the caller's input was refused before anything was set up.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Data { .. })
    }
}
