//! Every system call that either side makes fails once, at each place where it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Tally;
use super::injector::{self, CLIENT, Call, FORK, Made, SERVER};
use super::place::{Ended, Folder, LIMIT, Place};
use super::stored::{lost, whole_lines};

/// Which runs are taken apart.
const RUNS: [&str; 3] = [
    "run --size 64 --duration 20ms --server-address 10.79.0.1",
    "run --size 64K --path zero_copy --layout page --workload stream --duration 20ms",
    SWEEP,
];
/// Its client is that of `run`: only its own side is taken apart.
const SWEEP: &str =
    "sweep --size 64 --threads 1 --path two_copy --receiver buffer --counters none --time 100ms";
/// Places of one thread's call: the first ones, and the last ones.
const FIRST: u64 = 12;
const LAST: u64 = 3;
/// How long the kernel may take to hand over what has ended.
const GONE: Duration = Duration::from_secs(1);

macro_rules! calls {
    ($($(#[$attribute:meta])? $name:ident $errno:ident,)*) => {
        &[$($(#[$attribute])? Call {
            name: stringify!($name),
            number: libc::$name,
            errno: Errno::$errno,
        }),*]
    };
}

/// The calls that can fail, each with an error that it may have. Left out are those that cannot as
/// they are made here (`exit`, `getpid`, `futex`, `rt_sigprocmask`, `getrandom`, `prlimit64` of a
/// process's own limits), `close`, since one that is kept from happening leaves the descriptor
/// open, as no failure does, and `brk`, which fails without an error number.
const CALLS: &[Call] = calls![
    SYS_read EIO,
    SYS_write EIO,
    SYS_writev EIO,
    SYS_pread64 EIO,
    SYS_openat EMFILE,
    SYS_newfstatat EACCES,
    SYS_fstat EIO,
    SYS_statx EACCES,
    SYS_readlinkat EACCES,
    SYS_getdents64 EIO,
    SYS_lseek ESPIPE,
    SYS_fcntl EINVAL,
    SYS_ioctl ENOTTY,
    SYS_mmap ENOMEM,
    SYS_mprotect ENOMEM,
    SYS_munmap ENOMEM,
    SYS_madvise ENOMEM,
    SYS_mlock ENOMEM,
    SYS_clone EAGAIN,
    SYS_clone3 EAGAIN,
    SYS_wait4 ECHILD,
    SYS_waitid ECHILD,
    SYS_execve EACCES,
    SYS_kill EPERM,
    SYS_prctl EPERM,
    SYS_setpgid EPERM,
    SYS_setsid EPERM,
    SYS_setns EPERM,
    SYS_unshare EPERM,
    SYS_getrusage EINVAL,
    SYS_uname EFAULT,
    SYS_statfs EIO,
    SYS_sched_getaffinity EINVAL,
    SYS_sched_setaffinity EPERM,
    SYS_rt_sigaction EINVAL,
    SYS_sigaltstack ENOMEM,
    SYS_clock_nanosleep EINTR,
    SYS_perf_event_open EACCES,
    SYS_pipe2 EMFILE,
    SYS_dup ENOMEM,
    SYS_dup3 EBUSY,
    SYS_ppoll ENOMEM,
    SYS_socket EMFILE,
    SYS_socketpair ENFILE,
    SYS_bind EADDRINUSE,
    SYS_listen EADDRINUSE,
    SYS_accept4 EMFILE,
    SYS_connect ETIMEDOUT,
    SYS_getsockname ENOBUFS,
    SYS_getpeername ENOBUFS,
    SYS_setsockopt EINVAL,
    SYS_getsockopt ENOPROTOOPT,
    SYS_sendto ECONNRESET,
    SYS_recvfrom ECONNRESET,
    SYS_sendmsg ECONNRESET,
    SYS_recvmsg ECONNRESET,
    SYS_shutdown ENOTCONN,
    SYS_mkdirat ENOSPC,
    SYS_renameat EIO,
    SYS_renameat2 EIO,
    SYS_unlinkat EACCES,
    SYS_getcwd ENOENT,
    SYS_io_uring_setup ENOMEM,
    SYS_io_uring_register EINVAL,
    SYS_io_uring_enter EINVAL,
    #[cfg(target_arch = "x86_64")]
    SYS_mkdir ENOSPC,
    #[cfg(target_arch = "x86_64")]
    SYS_rename EIO,
    #[cfg(target_arch = "x86_64")]
    SYS_unlink EACCES,
    #[cfg(target_arch = "x86_64")]
    SYS_rmdir EACCES,
    #[cfg(target_arch = "x86_64")]
    SYS_open EMFILE,
    #[cfg(target_arch = "x86_64")]
    SYS_access EACCES,
    #[cfg(target_arch = "x86_64")]
    SYS_readlink EACCES,
    #[cfg(target_arch = "x86_64")]
    SYS_poll ENOMEM,
    #[cfg(target_arch = "x86_64")]
    SYS_dup2 EBUSY,
    #[cfg(target_arch = "x86_64")]
    SYS_pipe EMFILE,
    #[cfg(target_arch = "x86_64")]
    SYS_fork EAGAIN,
    #[cfg(target_arch = "x86_64")]
    SYS_vfork EAGAIN,
];

/// A place that is left out: the standard library reads there, from a socket pair of its own,
/// whether the peer's command could be executed. It waits for the command's end where it cannot
/// read that, which does not happen.
const LEFT_OUT: (&str, &str, libc::c_long, u64) = (SERVER, "sendpath", libc::SYS_recvfrom, 1);

/// A thread's call.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    side: &'static str,
    thread: String,
    number: libc::c_long,
}

/// How often each thread has made each call since its program began to run itself.
#[derive(Default)]
struct Counts {
    made: BTreeMap<Key, u64>,
    begun: BTreeSet<(&'static str, u32)>,
}

impl Counts {
    /// Which of its kind a call is, from 1; none where it is the loader's, or Rust's own at the
    /// start of the program or of a thread: what cannot start ends as these have it, by SIGABRT.
    fn count(&mut self, made: &Made) -> Option<(Key, u64)> {
        if !made.thread.ends_with(FORK) && !self.begun.contains(&(made.side, made.tid)) {
            // The last call that Rust makes before a thread's own code gives it a stack for
            // signals.
            if made.number == libc::SYS_sigaltstack && made.argument != 0 {
                self.begun.insert((made.side, made.tid));
            }
            return None;
        }
        let key = Key { side: made.side, thread: made.thread.clone(), number: made.number };
        let count = self.made.entry(key.clone()).or_default();
        *count += 1;
        Some((key, *count))
    }
}

/// Fails every call once at each place.
pub fn fail_each(place: &Place) -> anyhow::Result<Vec<Tally>> {
    let mut tallies = Vec::new();
    // What one run was taken apart for is not looked at in the next again.
    let mut known: BTreeMap<Key, u64> = BTreeMap::new();
    for run in RUNS {
        println!("calls of `sendpath {run}`");
        let sides = if run == SWEEP { &[SERVER][..] } else { &[SERVER, CLIENT] };
        if run == SWEEP {
            known.clear();
        }
        let mut counts = Counts::default();
        let (ended, _) = once(place, run, CALLS, &mut |made| {
            counts.count(made);
            None
        })?;
        anyhow::ensure!(ended.status.is_some_and(|status| status.success()), "{}", ended.in_words());
        for &side in sides {
            let mut tally = Tally::new(format!("a failed call of the {side}, `{run}`"));
            for (key, &count) in counts.made.iter().filter(|(key, _)| key.side == side) {
                let before = known.get(key).copied().unwrap_or_default();
                if count > before {
                    fail_call(place, run, key, count, before, &mut tally)?;
                    known.insert(key.clone(), count);
                }
            }
            tallies.push(tally);
        }
    }
    Ok(tallies)
}

/// Fails one thread's call at each of its places but those that are known.
fn fail_call(
    place: &Place,
    run: &str,
    key: &Key,
    count: u64,
    known: u64,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let Some(call) = CALLS.iter().find(|call| call.number == key.number) else { return Ok(()) };
    let first = (known + 1).min(FIRST + 1)..=count.min(FIRST);
    let last = (FIRST + 1).max((count + 1).saturating_sub(LAST))..=count;
    let (mut times, mut went_on) = (0, 0);
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    for nth in first.chain(last) {
        if (key.side, key.thread.as_str(), key.number, nth) == LEFT_OUT {
            continue;
        }
        let (mut counts, mut is_struck) = (Counts::default(), false);
        // The call that tells where a thread's own code begins has to be seen.
        let stacks = CALLS.iter().filter(|other| other.number == libc::SYS_sigaltstack);
        let stacks = stacks.filter(|other| other.number != call.number);
        let calls: Vec<Call> = std::iter::once(call).chain(stacks).copied().collect();
        let (ended, rows) = once(place, run, &calls, &mut |made| {
            let is_it = counts.count(made).is_some_and(|(made, count)| made == *key && count == nth);
            is_struck |= is_it;
            is_it.then_some(call.errno)
        })?;
        if !is_struck {
            continue; // a burst makes more calls one time and fewer the next
        }
        times += 1;
        let is_success = ended.status.is_some_and(|status| status.success());
        went_on += u64::from(is_success);
        tally.hangs += u64::from(ended.status.is_none());
        tally.leftovers += u64::from(!ended.left.is_empty());
        tally.lost_rounds += u64::from(rows.is_some());
        let has_cause = is_success || ended.has_cause() && ended.names(call.name, call.errno);
        tally.without_cause += u64::from(ended.status.is_some() && !has_cause);
        if !is_success {
            *said.entry(ended.in_words()).or_default() += 1;
        }
        if ended.status.is_none() || !ended.left.is_empty() || !has_cause || rows.is_some() {
            println!(
                "  FOUND: {} {} of {count} on {} {}: {}",
                call.name, nth, key.side, key.thread, ended.text
            );
            ended.left.iter().for_each(|left| println!("    left behind: {left}"));
            if let Some(rows) = rows {
                println!("    lost: {rows}");
            }
        }
    }
    tally.times += times;
    let name = call.name.trim_start_matches("SYS_");
    println!(
        "  {:<6} {:<20} {name:<18} {:<12} {times:>3} times, went on {went_on:>3}",
        key.side,
        key.thread,
        call.errno.to_string()
    );
    for (said, times) in said {
        println!("    {times:>3} × {said}");
    }
    Ok(())
}

/// One run, with `answer` for each of its calls: how it ended, and what is wrong with the rows that
/// it stored.
fn once(
    place: &Place,
    run: &str,
    calls: &[Call],
    answer: &mut dyn FnMut(&Made) -> Option<Errno>,
) -> anyhow::Result<(Ended, Option<String>)> {
    let folder = Folder::make()?;
    let sweep = folder.path("sweep");
    let out = if run == SWEEP { format!(" --out {}", sweep.display()) } else { String::new() };
    let command = place.command(&format!("{run}{out}"), &folder)?;
    let (status, mut left) = injector::run(command, calls, LIMIT, answer)?;
    left.extend(place.left(&folder, Instant::now() + GONE)?);
    // Rows that are there can be read, and one that says it measured has rows.
    let is_success = status.is_some_and(|status| status.success());
    let is_stored = whole_lines(&sweep).is_some();
    let lost = if is_stored { lost(&sweep, Some(&[])) } else { None };
    let nothing = || (run == SWEEP && is_success && !is_stored).then(|| "it stored nothing".to_owned());
    Ok((folder.ended(status, left), lost.or_else(nothing)))
}
