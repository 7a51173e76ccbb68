//! How much memory the kernel lets this process pin for sends, in numbers and in words.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// The soft limit of locked memory in bytes, which bounds what `MSG_ZEROCOPY` may pin without
/// `CAP_IPC_LOCK`; `u64::MAX` where there is none.
pub fn memlock_bytes() -> u64 {
    getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
}

/// Whether one send of so many bytes could be pinned if nothing else was: the kernel counts the
/// pages that so many bytes may touch (`mm_account_pinned_pages` in `net/core/skbuff.c`), and lets
/// `CAP_IPC_LOCK` pin more.
pub(crate) fn can_pin(bytes: usize) -> bool {
    let page_bytes = rustix::param::page_size();
    let pages = bytes / page_bytes + 2;
    pages as u64 <= memlock_bytes() / page_bytes as u64 || has_capability(CapabilitySet::IPC_LOCK)
}

/// Whether this process has a capability for the whole machine (see `capabilities(7)`). Root in a
/// user namespace has all of them there, and none for the machine. Asking takes no descriptor.
pub fn has_capability(capability: CapabilitySet) -> bool {
    const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD; // PROC_USER_INIT_INO in linux/proc_ns.h
    let whole = fs::metadata("/proc/self/ns/user").is_ok_and(|file| file.ino() == FIRST_USER_NAMESPACE);
    whole && capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// [`memlock_bytes`] in words.
pub fn memlock() -> String {
    match memlock_bytes() {
        u64::MAX => "unlimited".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}

/// A sysctl of the namespace this thread is in, by its path below `/proc/sys`.
pub fn sysctl(path: &str) -> String {
    match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        // Before Linux 6.8, for instance, optmem_max stands in the first namespace only.
        Err(error) => format!("unknown: /proc/sys/{path}: {error}"),
    }
}
