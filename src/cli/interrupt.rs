//! Ctrl-C and SIGTERM: the first one ends what is being measured, the second one the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Catches the signals from now on. The flag is set by the first one.
pub(super) fn catch() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the default is restored by a signal that finds the flag set.
        flag::register_conditional_default(signal, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(Error::call("sigaction(2)"))?;
    }
    Ok(interrupted)
}
