//! What a kernel's `io_uring` can do of what these senders need, and what to say where it cannot.
//!
//! A kernel tells which operations it has (`IORING_REGISTER_PROBE`), and not which flags of theirs. So a send with the
//! flag is tried, over two joined sockets of `AF_UNIX`: no network is needed. They take no zero-copy sends, and a
//! kernel that knows the flag says so (`EOPNOTSUPP`), or misses the registered buffer first (`EFAULT`); one that does
//! not know it says `EINVAL` before it looks at either.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::OnceLock;

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, cqueue, opcode};

use super::queues::{FIXED_BUFFER, REPORT_USAGE};
use crate::error::{Error, Result};

/// `IORING_SETUP_SQPOLL` of the kernel's `io_uring.h`.
const SETUP_SQPOLL: u32 = 1 << 1;

/// What was found; an errno where it is missing.
#[derive(Clone, Copy, Debug)]
struct Found {
    ring: Finding,
    zero_copy: Finding,
    usage_report: Finding,
    registered_fields: Finding,
}

/// One thing: there, or missing by this errno.
type Finding = std::result::Result<(), i32>;

/// What a sender needs of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Zero-copy sends that say whether they were copied.
    UsageReport,
    /// That, of several ranges in a registered buffer.
    RegisteredFields,
}

/// Whether this kernel has it.
///
/// # Errors
/// [`Error::Refused`], which says what is missing.
pub(super) fn check(need: Need) -> Result<()> {
    let found = found();
    found.ring.map_err(|errno| refused::setup(io::Error::from_raw_os_error(errno)))?;
    found.zero_copy.map_err(refused::zero_copy)?;
    found.usage_report.map_err(refused::usage_report)?;
    match need {
        Need::UsageReport => Ok(()),
        Need::RegisteredFields => found.registered_fields.map_err(refused::registered_fields),
    }
}

/// What these senders need of `io_uring`, by name, and what is missing here. Tried once in the life of the process.
#[must_use]
pub fn support() -> Vec<(&'static str, std::result::Result<(), String>)> {
    /// Apart from the others, since it takes a process, which no sender is to make.
    static POLLING: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let found = found();
    let setup = |errno| refused::setup(io::Error::from_raw_os_error(errno));
    let polling = || POLLING.get_or_init(|| makes_a_polled_ring().map_err(|error| error.to_string())).clone();
    let say = |it: Finding, refusal: fn(i32) -> Error| match found.ring {
        // Without a ring, nothing else was tried.
        Err(errno) => Err(setup(errno).to_string()),
        Ok(()) => it.map_err(|errno| refusal(errno).to_string()),
    };
    vec![
        ("io_uring", say(found.ring, setup)),
        ("SENDMSG_ZC", say(found.zero_copy, refused::zero_copy)),
        ("IORING_SEND_ZC_REPORT_USAGE", say(found.usage_report, refused::usage_report)),
        ("vectored sends from registered buffers", say(found.registered_fields, refused::registered_fields)),
        ("IORING_SETUP_SQPOLL", say(found.ring, setup).and_then(|()| polling())),
    ]
}

fn found() -> Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    *FOUND.get_or_init(find)
}

fn find() -> Found {
    let mut ring = match IoUring::new(4) {
        Ok(ring) => ring,
        Err(errno) => {
            let missing = Err(code(&errno));
            return Found {
                ring: missing,
                zero_copy: missing,
                usage_report: missing,
                registered_fields: missing,
            };
        }
    };
    let mut probe = Probe::new();
    let zero_copy = match ring.submitter().register_probe(&mut probe) {
        Ok(()) if probe.is_supported(opcode::SendMsgZc::CODE) => Ok(()),
        Ok(()) => Err(libc::EOPNOTSUPP),
        Err(errno) => Err(code(&errno)),
    };
    let usage_report = zero_copy.and_then(|()| takes(&mut ring, REPORT_USAGE));
    let registered_fields = usage_report.and_then(|()| takes(&mut ring, REPORT_USAGE | FIXED_BUFFER));
    Found { ring: Ok(()), zero_copy, usage_report, registered_fields }
}

/// Whether a ring can have a thread of the kernel. It is tried in a process of its own: the thread counts as one of the
/// process that made the ring, and goes some time after it, and `unshare(2)` of an ordinary user, which a sweep needs
/// next, fails with `EINVAL` while there is a second one.
fn makes_a_polled_ring() -> Result<()> {
    // struct io_uring_params, as numbers: flags is the third, sq_thread_idle the fifth.
    let mut params = [0_u32; 30];
    params[2] = SETUP_SQPOLL;
    params[4] = 1;
    // SAFETY: the child makes two system calls and nothing else: it neither allocates nor takes a lock. The kernel
    // writes within the 120 bytes of params, which are the child's own.
    unsafe {
        match libc::fork() {
            -1 => Err(Error::call("fork(2)")(io::Error::last_os_error())),
            0 => {
                let fd = libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr());
                libc::_exit(if fd < 0 { *libc::__errno_location() } else { 0 })
            }
            child => exit_code(child).map_err(|errno| refused::setup(io::Error::from_raw_os_error(errno))),
        }
    }
}

/// Waits for the child; an errno is what it exits with.
fn exit_code(child: libc::pid_t) -> Finding {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        let errno = io::Error::last_os_error();
        if errno.kind() != io::ErrorKind::Interrupted {
            return Err(code(&errno));
        }
    }
    match libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)) {
        Some(0) => Ok(()),
        Some(errno) => Err(errno),
        // A seccomp filter may end who makes the call.
        None => Err(libc::EPERM),
    }
}

fn code(errno: &io::Error) -> i32 {
    errno.raw_os_error().unwrap_or(libc::EIO)
}

/// Whether zero-copy sends take these flags.
fn takes(ring: &mut IoUring, flags: u16) -> Finding {
    static BYTE: u8 = 0;
    let (socket, _peer) = UnixStream::pair().map_err(|errno| code(&errno))?;
    let mut slice = libc::iovec { iov_base: ptr::from_ref(&BYTE).cast_mut().cast(), iov_len: 1 };
    // SAFETY: all of msghdr's fields are integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = ptr::from_mut(&mut slice);
    header.msg_iovlen = 1;
    let entry = opcode::SendMsgZc::new(Fd(socket.as_raw_fd()), &raw const header).ioprio(flags).build();
    // SAFETY: the kernel reads the header when it takes the entry, which is when it is entered below, and the byte,
    // if ever, is always there.
    unsafe { ring.submission().push(&entry) }.map_err(|_| libc::EBUSY)?;
    loop {
        match ring.submit_and_wait(1) {
            Err(errno) if errno.kind() == io::ErrorKind::Interrupted => {}
            Err(errno) => return Err(code(&errno)),
            Ok(_) => {}
        }
        // Notifications, of this send or of one before, are let pass.
        let answer = ring.completion().find(|completion| !cqueue::notif(completion.flags()));
        match answer.map(|completion| completion.result()) {
            Some(result) if result >= 0 => return Ok(()),
            Some(result) => match -result {
                libc::EOPNOTSUPP | libc::EFAULT => return Ok(()),
                errno => return Err(errno),
            },
            None => {}
        }
    }
}

/// The errors, with what lifts them.
pub(super) mod refused {
    use super::{Error, io};
    use crate::limits;

    fn refused(call: &'static str, errno: io::Error, remedy: impl Into<String>) -> Error {
        Error::Refused { call, errno, remedy: remedy.into() }
    }

    /// The ring cannot be made.
    pub(in super::super) fn setup(errno: io::Error) -> Error {
        let remedy = match errno.raw_os_error() {
            Some(libc::ENOSYS) => {
                "this kernel has no io_uring (Linux 5.11 is needed), or a seccomp filter hides it, as those of \
                 containers do: leave the engine uring out, or allow io_uring_setup, io_uring_enter and \
                 io_uring_register"
                    .to_owned()
            }
            Some(libc::EPERM | libc::EACCES) => format!(
                "io_uring is forbidden here: by the sysctl kernel.io_uring_disabled (now {}), which \
                 `sysctl kernel.io_uring_disabled=0` lifts, or by a seccomp filter; SQPOLL also needs root before \
                 Linux 5.13. The engine uring alone fails",
                limits::sysctl("kernel/io_uring_disabled")
            ),
            Some(libc::ENOMEM) => format!(
                "the ring does not fit RLIMIT_MEMLOCK (now {}), which holds for rings before Linux 5.12: raise it \
                 (`ulimit -l unlimited`), or leave the engine uring out",
                limits::memlock()
            ),
            Some(libc::EINVAL) => {
                "this kernel's io_uring lacks what the sender needs (Linux 5.11): leave the engine uring out".to_owned()
            }
            _ => "no ring can be made; the engine uring alone fails".to_owned(),
        };
        refused("io_uring_setup(2)", errno, remedy)
    }

    pub(in super::super) fn zero_copy(errno: i32) -> Error {
        let remedy = "this kernel's io_uring has no zero-copy sendmsg (Linux 6.1): leave zero_copy with the engine \
                      uring out";
        refused("io_uring IORING_OP_SENDMSG_ZC", io::Error::from_raw_os_error(errno), remedy)
    }

    pub(in super::super) fn usage_report(errno: i32) -> Error {
        let remedy = "this kernel's io_uring does not say whether a zero-copy send was copied (Linux 6.2): leave \
                      zero_copy with the engine uring out";
        refused("io_uring IORING_SEND_ZC_REPORT_USAGE", io::Error::from_raw_os_error(errno), remedy)
    }

    pub(in super::super) fn registered_fields(errno: i32) -> Error {
        let remedy = "this kernel's io_uring sends one range of a registered buffer at a time, and these messages \
                      have several fields (Linux 6.15): leave the engine uring_fixed out, or send messages of one \
                      field";
        refused("io_uring SENDMSG_ZC of a registered buffer", io::Error::from_raw_os_error(errno), remedy)
    }

    /// The buffer cannot be registered.
    pub(in super::super) fn registration(errno: io::Error, bytes: usize) -> Error {
        let remedy = match errno.raw_os_error() {
            Some(libc::ENOMEM) => format!(
                "{bytes} bytes cannot be locked under RLIMIT_MEMLOCK (now {}): raise it (`ulimit -l unlimited`), or \
                 leave the engine uring_fixed out",
                limits::memlock()
            ),
            _ => format!(
                "a registered buffer is memory of this process, mapped for writing, and at most 1 GiB of it (here \
                 {bytes} bytes): send fewer or smaller messages, or leave the engine uring_fixed out"
            ),
        };
        refused("io_uring_register(2) IORING_REGISTER_BUFFERS", errno, remedy)
    }

    /// Another thread than the ring's.
    pub(in super::super) fn other_thread(errno: io::Error) -> Error {
        let remedy = "a ring belongs to the thread that first sent by it: send from that thread alone, or make a \
                      sender for each";
        refused("io_uring_enter(2)", errno, remedy)
    }

    /// The socket takes no zero-copy sends.
    pub(in super::super) fn socket(errno: io::Error) -> Error {
        let remedy = "sockets of this family take no zero-copy sends (TCP does): leave zero_copy out";
        refused("io_uring IORING_OP_SENDMSG_ZC", errno, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_is_missing() {
        let setup = |errno| refused::setup(io::Error::from_raw_os_error(errno)).to_string();
        assert!(setup(libc::ENOSYS).contains("seccomp"));
        assert!(setup(libc::EPERM).contains("kernel.io_uring_disabled=0"));
        assert!(refused::zero_copy(libc::EOPNOTSUPP).to_string().contains("Linux 6.1"));
        assert!(refused::usage_report(libc::EINVAL).to_string().contains("Linux 6.2"));
        assert!(refused::registered_fields(libc::EINVAL).to_string().contains("Linux 6.15"));
        let memlock = refused::registration(io::Error::from_raw_os_error(libc::ENOMEM), 4096).to_string();
        assert!(memlock.contains("RLIMIT_MEMLOCK") && memlock.contains("4096 bytes"), "{memlock}");
    }

    #[test]
    fn an_unknown_flag_is_told_from_a_known_one() {
        let Ok(mut ring) = IoUring::new(4) else {
            eprintln!("skipped: no io_uring here");
            return;
        };
        // A flag that no kernel has.
        assert!(takes(&mut ring, 1 << 15).is_err());
        for (name, found) in support() {
            println!("{name}: {found:?}");
        }
    }
}
