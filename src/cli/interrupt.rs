//! The signals that end a command. The first Ctrl-C, SIGTERM or hang-up ends what is being
//! measured, the second one the process. What a limit sends is an error, and no death.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGXFSZ};
use signal_hook::flag;

use crate::error::{Error, Result};
use crate::limits;

/// Catches the signals from now on. The flag is set by the first one.
pub(super) fn catch() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    // nohup(1) has a command ignore the end of its terminal.
    let hang_up = (!is_ignored(Path::new("/"), SIGHUP)).then_some(SIGHUP);
    // RLIMIT_CPU sends the last one a while before it kills.
    for signal in [SIGINT, SIGTERM, SIGXCPU].into_iter().chain(hang_up) {
        // In this order: the default is restored by a signal that finds the flag set.
        flag::register_conditional_default(signal, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(Error::call("sigaction(2)"))?;
    }
    Ok(interrupted)
}

/// Has a write beyond `RLIMIT_FSIZE` fail with `EFBIG`, which is reported as any other error, and
/// not end the process without a word.
pub(super) fn let_large_files_fail() -> io::Result<()> {
    // A handler, and not SIG_IGN: the commands that this one starts would inherit that.
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Ends the process with an error once `RLIMIT_CPU` is used up: for commands that have nothing to
/// bring to an end.
pub(super) fn end_by_cpu_limit() -> io::Result<()> {
    const SAID: &[u8] = b"sendpath: RLIMIT_CPU is used up: raise it (ulimit -t unlimited)\n";
    let end = || {
        // SAFETY: both calls are async-signal-safe, and the text is static.
        unsafe {
            libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len());
            libc::_exit(1)
        }
    };
    // SAFETY: the handler makes two system calls that a signal handler may make.
    unsafe { signal_hook::low_level::register(SIGXCPU, end) }.map(drop)
}

/// Whether this process was started with the signal ignored; by the files below `root`.
fn is_ignored(root: &Path, signal: i32) -> bool {
    let mask = limits::status(root, "SigIgn:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_ignored_is_left_so() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/thread-self")).unwrap();
        std::fs::write(root.path().join("proc/thread-self/status"), "SigIgn:\t0000000000001001\n").unwrap();
        assert!(is_ignored(root.path(), SIGHUP) && !is_ignored(root.path(), SIGINT));
        assert!(!is_ignored(Path::new("/nowhere"), SIGHUP));
    }
}
