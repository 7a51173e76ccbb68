//! What to say where a kernel refuses what these senders need of `io_uring`, with what lifts it.

use std::io;

use crate::path::error::Error;
use crate::pinning;

/// As [`setup`].
pub(super) fn ring(errno: i32) -> Error {
    setup(io::Error::from_raw_os_error(errno))
}

/// The ring cannot be made.
pub(super) fn setup(errno: io::Error) -> Error {
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
            pinning::sysctl("kernel/io_uring_disabled")
        ),
        Some(libc::ENOMEM) => format!(
            "the ring does not fit RLIMIT_MEMLOCK (now {}), which holds for rings before Linux 5.12: raise it \
             (`ulimit -l unlimited`), or leave the engine uring out",
            pinning::memlock()
        ),
        Some(libc::EINVAL) => {
            "this kernel's io_uring lacks what the sender needs (Linux 5.11): leave the engine uring out".to_owned()
        }
        Some(libc::EMFILE) => {
            "this process may have no more files open (RLIMIT_NOFILE), and a ring is one: raise it (`ulimit -n 4096`)"
                .to_owned()
        }
        _ => "no ring can be made; the engine uring alone fails".to_owned(),
    };
    Error::refused("io_uring_setup(2)", errno, remedy)
}

pub(super) fn zero_copy(errno: i32) -> Error {
    let remedy = "this kernel's io_uring has no zero-copy sendmsg (Linux 6.1): leave zero_copy with the engine \
                  uring out";
    Error::refused("io_uring IORING_OP_SENDMSG_ZC", io::Error::from_raw_os_error(errno), remedy)
}

pub(super) fn usage_report(errno: i32) -> Error {
    let remedy = "this kernel's io_uring does not say whether a zero-copy send was copied (Linux 6.2): leave \
                  zero_copy with the engine uring out";
    Error::refused("io_uring IORING_SEND_ZC_REPORT_USAGE", io::Error::from_raw_os_error(errno), remedy)
}

pub(super) fn registered_fields(errno: i32) -> Error {
    let remedy = "this kernel's io_uring sends one range of a registered buffer at a time, and these messages \
                  have several fields (Linux 6.15): leave the engine uring_fixed out, or send messages of one \
                  field";
    Error::refused("io_uring SENDMSG_ZC of a registered buffer", io::Error::from_raw_os_error(errno), remedy)
}

/// The buffer cannot be registered.
pub(super) fn registration(errno: io::Error, bytes: usize) -> Error {
    let remedy = match errno.raw_os_error() {
        Some(libc::ENOMEM) => format!(
            "{bytes} bytes cannot be locked under RLIMIT_MEMLOCK (now {}): raise it (`ulimit -l unlimited`), or \
             leave the engine uring_fixed out",
            pinning::memlock()
        ),
        _ => format!(
            "a registered buffer is memory of this process, mapped for writing, and at most 1 GiB of it (here \
             {bytes} bytes): send fewer or smaller messages, or leave the engine uring_fixed out"
        ),
    };
    Error::refused("io_uring_register(2) IORING_REGISTER_BUFFERS", errno, remedy)
}

/// Another thread than the ring's.
pub(super) fn other_thread(errno: io::Error) -> Error {
    let remedy = "a ring belongs to the thread that first sent by it: send from that thread alone, or make a \
                  sender for each";
    Error::refused("io_uring_enter(2)", errno, remedy)
}

/// The socket takes no zero-copy sends.
pub(super) fn socket(errno: io::Error) -> Error {
    let remedy = "sockets of this family take no zero-copy sends (TCP does): leave zero_copy out";
    Error::refused("io_uring IORING_OP_SENDMSG_ZC", errno, remedy)
}
