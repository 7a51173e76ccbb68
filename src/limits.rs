//! Limits of the process and the kernel that bear on what can be sent, as words for a person.

use nix::sys::resource::{Resource, getrlimit};

/// The soft limit of locked memory in bytes, which bounds what `MSG_ZEROCOPY` may pin without
/// `CAP_IPC_LOCK`. Where the kernel does not say, there is none.
#[must_use]
pub fn memlock_bytes() -> u64 {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(libc::RLIM_INFINITY, |(soft_bytes, _)| soft_bytes)
}

/// [`memlock_bytes`] in words.
#[must_use]
pub fn memlock() -> String {
    match memlock_bytes() {
        libc::RLIM_INFINITY => "unlimited".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}

/// A sysctl of the namespace this thread is in, by its path below `/proc/sys`.
#[must_use]
pub fn sysctl(path: &str) -> String {
    match std::fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        // Before Linux 6.8, for instance, optmem_max stands in the first namespace only.
        Err(error) => format!("unknown: /proc/sys/{path}: {error}"),
    }
}
