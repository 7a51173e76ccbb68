//! The main thread's stack, which grows as far as the limit has it at that moment.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What every subcommand gets by with.
const ENOUGH_BYTES: u64 = 1 << 20;

/// Raises `RLIMIT_STACK` where it is too small for this program.
///
/// # Errors
/// What to do, where the hard limit is too small.
pub(super) fn grow() -> Result<(), String> {
    let limit = getrlimit(Resource::Stack);
    let Some(soft) = limit.current.filter(|soft| *soft < ENOUGH_BYTES) else { return Ok(()) };
    // Root may raise the hard limit, too.
    let maximum = limit.maximum.map(|hard| hard.max(ENOUGH_BYTES));
    setrlimit(Resource::Stack, Rlimit { current: Some(ENOUGH_BYTES), maximum }).map_err(|errno| {
        let (soft, enough) = (soft >> 10, ENOUGH_BYTES >> 10);
        format!(
            "setrlimit(2): {errno}: RLIMIT_STACK is {soft} KiB, and this program takes up to {enough} KiB of stack: \
             raise it, the hard limit too: `ulimit -s {enough}`"
        )
    })
}
