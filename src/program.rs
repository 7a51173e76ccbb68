//! This build of the program.

use crate::environment::Program;

/// The version and the revision of this build.
pub fn this() -> Program {
    Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: env!("SENDPATH_REVISION").to_owned(),
        dirty: env!("SENDPATH_DIRTY") == "true",
    }
}
