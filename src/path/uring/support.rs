//! What a kernel's `io_uring` can do of what these senders need, and what to say where it cannot.
//!
//! A kernel tells which operations it has (`IORING_REGISTER_PROBE`), and not which flags of theirs.
//! So a send with the flag is tried, over two joined sockets of `AF_UNIX`: no network is needed.
//! They take no zero-copy sends, and a kernel that knows the flag says so (`EOPNOTSUPP`), or misses
//! the registered buffer first (`EFAULT`); one that does not know it says `EINVAL` before it looks
//! at either.
//!
//! An error that may be gone the next time (too many open files, too little memory) says nothing of
//! the kernel. It is returned, and what it would have told is asked for again the next time.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, cqueue, opcode};
use once_cell::sync::OnceCell;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::queues::{FIXED_BUFFER, REPORT_USAGE};
use super::refused;
use crate::path::error::{Error, Result};
use crate::path::socket::message_header;

/// `IORING_SETUP_SQPOLL` of the kernel's `io_uring.h`.
const SETUP_SQPOLL: u32 = 1 << 1;

type Refusal = fn(i32) -> Error;

/// What these senders need of the kernel, each looked for only where there is the one before: its
/// name, and what to say where it is missing by an errno.
const NEEDS: [(&str, Refusal); 4] = [
    ("io_uring", refused::ring),
    ("SENDMSG_ZC", refused::zero_copy),
    ("IORING_SEND_ZC_REPORT_USAGE", refused::usage_report),
    ("vectored sends from registered buffers", refused::registered_fields),
];

/// What was found, in the order of [`NEEDS`].
type Found = [Finding; NEEDS.len()];

/// One thing: there, or missing by this errno, one of [`LACKS`].
type Finding = std::result::Result<(), i32>;

/// What a kernel says that lacks a thing, or that forbids it.
const LACKS: [i32; 5] = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS, libc::EPERM, libc::EACCES];

/// What the answer to a probe says of the kernel.
fn finding(answer: io::Result<()>, call: impl FnOnce(io::Error) -> Error) -> Result<Finding> {
    match answer {
        Ok(()) => Ok(Ok(())),
        Err(errno) => match errno.raw_os_error().filter(|code| LACKS.contains(code)) {
            Some(code) => Ok(Err(code)),
            None => Err(call(errno)),
        },
    }
}

/// Whether this kernel has a thing.
#[derive(Debug)]
pub enum Support {
    /// It has.
    Has,
    /// It lacks it, or forbids it.
    Lacks(Error),
    /// It could not be asked at this moment.
    NotKnown(Error),
}

impl Support {
    fn of(found: Result<Finding>, refusal: Refusal) -> Self {
        match found {
            Ok(Ok(())) => Self::Has,
            Ok(Err(errno)) => Self::Lacks(refusal(errno)),
            Err(error) => Self::NotKnown(error),
        }
    }
}

/// What a sender needs of the kernel, by its place in [`NEEDS`]; and all that comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Zero-copy sends that say whether they were copied.
    UsageReport = 2,
    /// That, of several ranges in a registered buffer.
    RegisteredFields = 3,
}

/// Whether this kernel has it.
///
/// # Errors
/// [`Error::Refused`], which says what is missing; else the call that could not tell.
pub(super) fn check(need: Need) -> Result<()> {
    let mut needed = found()?.iter().zip(NEEDS).take(need as usize + 1);
    needed.try_for_each(|(finding, (_, refusal))| finding.map_err(refusal))
}

/// What these senders need of `io_uring`, by name, and whether this kernel has it. Found out once
/// in the life of the process.
#[must_use]
pub fn support() -> Vec<(&'static str, Support)> {
    /// Apart from the others, since it takes a process, which no sender is to make.
    static POLLING: OnceCell<Finding> = OnceCell::new();
    let needed = |place: usize| match found() {
        // Without a ring, nothing else was tried: that it lacks the ring is then said of each.
        Ok([ring @ Err(_), ..]) => Support::of(Ok(*ring), refused::ring),
        Ok(found) => Support::of(Ok(found[place]), NEEDS[place].1),
        Err(error) => Support::NotKnown(error),
    };
    let polling = match needed(0) {
        Support::Has => Support::of(POLLING.get_or_try_init(makes_a_polled_ring).copied(), refused::ring),
        other => other,
    };
    let needs = NEEDS.iter().enumerate().map(|(place, (name, _))| (*name, needed(place)));
    needs.chain([("IORING_SETUP_SQPOLL", polling)]).collect()
}

fn found() -> Result<&'static Found> {
    static FOUND: OnceCell<Found> = OnceCell::new();
    FOUND.get_or_try_init(find)
}

fn find() -> Result<Found> {
    let mut made = None;
    let ring = finding(IoUring::new(4).map(|ring| made = Some(ring)), refused::setup)?;
    let Some(mut made) = made else {
        return Ok([ring; NEEDS.len()]);
    };
    let mut probe = Probe::new();
    let answer = made.submitter().register_probe(&mut probe);
    let zero_copy = match finding(answer, Error::call("io_uring_register(2) IORING_REGISTER_PROBE"))? {
        Ok(()) if !probe.is_supported(opcode::SendMsgZc::CODE) => Err(libc::EOPNOTSUPP),
        finding => finding,
    };
    // Each is asked for only where there is the one before.
    let mut takes = |before: Finding, flags| match before {
        Ok(()) => takes(&mut made, flags),
        missing => Ok(missing),
    };
    let usage_report = takes(zero_copy, REPORT_USAGE)?;
    let registered_fields = takes(usage_report, REPORT_USAGE | FIXED_BUFFER)?;
    Ok([ring, zero_copy, usage_report, registered_fields])
}

/// Whether a ring can have a thread of the kernel. It is tried in a process of its own: the thread
/// counts as one of the process that made the ring, and goes some time after it, and `unshare(2)`
/// of an ordinary user, which a sweep needs next, fails with `EINVAL` while there is a second one.
fn makes_a_polled_ring() -> Result<Finding> {
    // struct io_uring_params, as numbers: flags is the third, sq_thread_idle the fifth.
    let mut params = [0_u32; 30];
    params[2] = SETUP_SQPOLL;
    params[4] = 1;
    // SAFETY: the child makes two system calls and nothing else: it neither allocates nor takes a
    // lock. The kernel writes within the 120 bytes of params, which are the child's own.
    unsafe {
        match libc::fork() {
            -1 => Err(Error::call("fork(2)")(io::Error::last_os_error())),
            0 => {
                let fd = libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr());
                libc::_exit(if fd < 0 { *libc::__errno_location() } else { 0 })
            }
            child => finding(exited(child)?, refused::setup),
        }
    }
}

/// Waits for the child; an errno is what it exits with.
fn exited(child: libc::pid_t) -> Result<io::Result<()>> {
    let ended = retry_on_intr(|| waitpid(Pid::from_raw(child), WaitOptions::empty()));
    let status = ended.map_err(Error::call("waitpid(2)"))?.map(|(_, status)| status);
    let code = match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(0), _)) => return Ok(Ok(())),
        Some((Some(code), _)) => code,
        Some((_, Some(libc::SIGSYS))) => libc::EPERM, // A seccomp filter may end who makes the call.
        _ => libc::EINTR,                             // By something else, for instance for want of memory.
    };
    Ok(Err(io::Error::from_raw_os_error(code)))
}

/// Whether zero-copy sends take these flags.
fn takes(ring: &mut IoUring, flags: u16) -> Result<Finding> {
    static BYTE: u8 = 0;
    let (socket, _peer) = UnixStream::pair().map_err(Error::call("socketpair(2)"))?;
    let mut slice = libc::iovec { iov_base: ptr::from_ref(&BYTE).cast_mut().cast(), iov_len: 1 };
    let mut header = message_header();
    header.msg_iov = ptr::from_mut(&mut slice);
    header.msg_iovlen = 1;
    let entry = opcode::SendMsgZc::new(Fd(socket.as_raw_fd()), &raw const header).ioprio(flags).build();
    // SAFETY: the kernel reads the header when it takes the entry, which is when it is entered
    // below, and the byte, if ever, is always there.
    unsafe { ring.submission().push(&entry) }
        .map_err(|_| Error::call("io_uring_enter(2)")(io::Error::from_raw_os_error(libc::EBUSY)))?;
    loop {
        match ring.submit_and_wait(1) {
            Err(errno) if errno.kind() == io::ErrorKind::Interrupted => {}
            Err(errno) => return finding(Err(errno), Error::call("io_uring_enter(2)")),
            Ok(_) => {}
        }
        // Notifications, of this send or of one before, are let pass.
        let answer = ring.completion().find(|completion| !cqueue::notif(completion.flags()));
        match answer.map(|completion| completion.result()) {
            Some(result) if result >= 0 || [libc::EOPNOTSUPP, libc::EFAULT].contains(&-result) => {
                return Ok(Ok(()));
            }
            Some(result) => {
                let errno = io::Error::from_raw_os_error(-result);
                return finding(Err(errno), Error::call("io_uring IORING_OP_SENDMSG_ZC"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_flag_is_told_from_a_known_one() {
        let Ok(mut ring) = IoUring::new(4) else {
            eprintln!("skipped: no io_uring here");
            return;
        };
        // A flag that no kernel has.
        assert!(takes(&mut ring, 1 << 15).unwrap().is_err());
        for (name, found) in support() {
            println!("{name}: {found:?}");
        }
    }

    #[test]
    fn an_error_of_the_moment_says_nothing_of_the_kernel() {
        let with = |code| finding(Err(io::Error::from_raw_os_error(code)), Error::call("io_uring_enter(2)"));
        for code in [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS, libc::EPERM, libc::EACCES] {
            assert_eq!(with(code).unwrap(), Err(code));
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR, libc::EAGAIN, libc::EBUSY] {
            let error = with(code).unwrap_err().with_cause();
            assert!(error.starts_with("io_uring_enter(2): "), "{error}");
        }
    }
}
