//! What to say where a kernel refuses what these senders need of `io_uring`, with what lifts it.

use std::io;
use std::path::Path;

use rustix::thread::CapabilitySet;

use crate::limits::{self, Filtered, Found};
use crate::path::error::Error;

/// As [`setup`].
pub(super) fn ring(errno: i32) -> Error {
    setup(io::Error::from_raw_os_error(errno))
}

/// The ring cannot be made.
pub(super) fn setup(errno: io::Error) -> Error {
    let root = Path::new("/");
    let (found, look_at) = match errno.raw_os_error() {
        Some(libc::ENOSYS) => (
            no_rings(root).or_else(|| limits::seccomp_filter(root, Filtered::RingSetup)),
            "whether the kernel has io_uring (CONFIG_IO_URING, Linux 5.11), and whether a seccomp filter hides it",
        ),
        Some(libc::EPERM | libc::EACCES) => (
            switched_off(root, limits::has_here(CapabilitySet::SYS_ADMIN))
                .or_else(|| limits::seccomp_filter(root, Filtered::RingSetup)),
            "the sysctls kernel.io_uring_disabled and kernel.io_uring_group, a seccomp filter, a security module; \
             before Linux 5.13 SQPOLL takes root",
        ),
        Some(libc::ENOMEM) => {
            // Since Linux 5.12 a ring counts for the cgroup, and not as locked memory.
            let counts = limits::kernel_is_before(root, (5, 12)) == Some(true);
            (
                if counts { limits::locked_memory(RING_BYTES) } else { None },
                "the memory that is left, to this process's cgroup too (memory.max), and before Linux 5.12 \
                 RLIMIT_MEMLOCK, together with all that this user has pinned",
            )
        }
        Some(libc::EINVAL) => {
            (limits::too_old(root, (5, 11)), "what of io_uring this kernel has (Linux 5.11 is needed)")
        }
        Some(libc::EMFILE) => (Some(limits::open_files()), ""),
        _ => (None, "the man page of io_uring_setup(2)"),
    };
    let cause = limits::said(found, look_at);
    Error::refused("io_uring_setup(2)", errno, format!("{cause}. The other engines do without a ring"))
}

/// More than a ring's pages.
const RING_BYTES: usize = 64 << 10;

/// A kernel without rings: its filter would else be to blame.
fn no_rings(root: &Path) -> Option<Found> {
    limits::too_old(root, (5, 1)).or_else(|| {
        let has_filter = limits::status(root, "Seccomp:").is_none_or(|mode| mode != "0");
        (!has_filter).then(|| Found::new("this kernel was built without io_uring (CONFIG_IO_URING)"))
    })
}

/// The sysctl, where it forbids rings to this process.
fn switched_off(root: &Path, is_admin: bool) -> Option<Found> {
    let path = root.join("proc/sys/kernel/io_uring_disabled");
    let value = std::fs::read_to_string(path).ok()?;
    let forbids = match value.trim() {
        "2" => "all",
        // Those of the group kernel.io_uring_group may, and would not have been refused.
        "1" if !is_admin => "all but root and a group",
        _ => return None,
    };
    let found =
        Found::new(format!("kernel.io_uring_disabled is {}, which forbids it to {forbids}", value.trim()));
    Some(found.lifted_by("sudo sysctl -w kernel.io_uring_disabled=0"))
}

/// What a kernel was found not to have, which came with Linux `version`; of another errno than that
/// of a kernel that does not know it, nothing is known.
fn lacking(call: &'static str, errno: i32, lacks: &str, look_at: &str) -> Error {
    let cause = if [libc::EINVAL, libc::EOPNOTSUPP].contains(&errno) {
        lacks.to_owned()
    } else {
        limits::said(None, look_at)
    };
    Error::refused(call, io::Error::from_raw_os_error(errno), cause)
}

/// What forbids a thing that the kernel may have.
const FORBIDS: &str = "a security module, or a seccomp filter";

pub(super) fn zero_copy(errno: i32) -> Error {
    let lacks = "this kernel's io_uring has no zero-copy sendmsg (Linux 6.1): leave zero_copy with the engine \
                 uring out";
    lacking("io_uring IORING_OP_SENDMSG_ZC", errno, lacks, FORBIDS)
}

pub(super) fn usage_report(errno: i32) -> Error {
    let lacks = "this kernel's io_uring does not say whether a zero-copy send was copied (Linux 6.2): leave \
                 zero_copy with the engine uring out";
    lacking("io_uring IORING_SEND_ZC_REPORT_USAGE", errno, lacks, FORBIDS)
}

pub(super) fn registered_fields(errno: i32) -> Error {
    let lacks = "this kernel's io_uring sends one range of a registered buffer at a time, and these messages \
                 have several fields (Linux 6.15): leave the engine uring_fixed out, or send messages of one \
                 field";
    lacking("io_uring SENDMSG_ZC of a registered buffer", errno, lacks, FORBIDS)
}

/// The buffer cannot be registered.
pub(super) fn registration(errno: io::Error, bytes: usize) -> Error {
    /// `io_uring_register(2)`.
    const MOST_BYTES: usize = 1 << 30;
    let (found, look_at) = match errno.raw_os_error() {
        Some(libc::ENOMEM) => (
            limits::locked_memory(bytes),
            "RLIMIT_MEMLOCK, which all processes of this user share, and the memory that is left",
        ),
        _ if bytes > MOST_BYTES => {
            let what = format!("a registered buffer has at most 1 GiB, and this one {bytes} bytes");
            (Some(Found::new(what)), "")
        }
        _ => (None, "whether it is memory of this process, mapped for writing, and of no file"),
    };
    let cause = limits::said(found, look_at);
    let cause = format!("{cause}. Fewer or smaller messages take less; the engine uring registers none");
    Error::refused("io_uring_register(2) IORING_REGISTER_BUFFERS", errno, cause)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_to_blame_only_where_it_forbids_rings_to_this_process() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(switched_off(root.path(), false), None);
        std::fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        for (value, is_admin, forbids) in
            [("0", false, false), ("1", false, true), ("1", true, false), ("2", true, true)]
        {
            std::fs::write(root.path().join("proc/sys/kernel/io_uring_disabled"), format!("{value}\n"))
                .unwrap();
            let found = switched_off(root.path(), is_admin);
            assert_eq!(found.is_some(), forbids, "{value} {is_admin}");
            assert!(found.is_none_or(|found| found.to_string().contains(&format!("disabled is {value}"))));
        }
    }

    #[test]
    fn a_kernel_without_rings_is_told_from_a_filter_that_hides_them() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/thread-self")).unwrap();
        for (mode, is_the_kernel) in [("0", true), ("2", false)] {
            std::fs::write(root.path().join("proc/thread-self/status"), format!("Seccomp:\t{mode}\n"))
                .unwrap();
            assert_eq!(no_rings(root.path()).is_some(), is_the_kernel, "{mode}");
        }
    }

    #[test]
    fn a_refusal_names_what_was_found_and_else_where_to_look() {
        let errno = io::Error::from_raw_os_error;
        let registered = |code, bytes| registration(errno(code), bytes).to_string();
        assert!(registered(libc::ENOMEM, usize::MAX / 2).contains("RLIMIT_MEMLOCK"));
        assert!(registered(libc::EFAULT, 2 << 30).contains("at most 1 GiB"));
        assert!(registered(libc::EFAULT, 4096).contains("not known"));
        assert!(setup(errno(libc::EIO)).to_string().contains("not known"));
        assert!(zero_copy(libc::EOPNOTSUPP).to_string().contains("Linux 6.1"));
        assert!(zero_copy(libc::EPERM).to_string().contains("not known"), "it may have it");
        assert!(usage_report(libc::EINVAL).to_string().contains("Linux 6.2"));
        assert!(registered_fields(libc::EINVAL).to_string().contains("Linux 6.15"));
    }
}
