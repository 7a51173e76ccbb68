//! How a look at the machine came out, before it has the name under which it is listed.

use crate::check::{Check, State};
use crate::error::Error;
use crate::limits;

/// What was found, and how good that is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) state: State,
    pub(super) found: String,
    /// The command that lifts it, where there is one.
    pub(super) remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self { state: State::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn limited(found: impl Into<String>) -> Self {
        Self { state: State::Limited, ..Self::ok(found) }
    }

    pub(super) fn unavailable(found: impl Into<String>) -> Self {
        Self { state: State::Unavailable, ..Self::ok(found) }
    }

    /// What failed with a text that may name the command that lifts it: the first in backticks.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        let text = text.into();
        let remedy = text.split('`').nth(1).map(str::to_owned);
        Self { remedy, ..Self::unavailable(text) }
    }

    /// What could not be looked at, for a reason that says nothing of the machine.
    pub(super) fn not_looked_at(error: &Error) -> Self {
        let remedy = (error.errno() == Some(libc::EMFILE)).then(|| limits::open_files().remedy).flatten();
        Self { remedy, ..Self::unavailable(format!("not looked at: {error}")) }
    }

    pub(super) fn lifted_by(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    pub(super) fn named(self, name: &str) -> Check {
        let Self { state, found, remedy } = self;
        Check { name: name.to_owned(), state, found, remedy }
    }
}
