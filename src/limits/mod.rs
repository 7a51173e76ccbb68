//! Limits of the process and the kernel that bear on what can be sent, in words.

#[cfg(feature = "cli")]
pub(crate) mod cgroup;
#[cfg(feature = "cli")]
mod description;
#[cfg(feature = "cli")]
pub(crate) mod file;
#[cfg(feature = "cli")]
mod machine;
#[cfg(feature = "cli")]
pub(crate) mod softirq;

use rustix::process::{Resource, getrlimit};

#[cfg(feature = "cli")]
pub use description::{boot_id, host_name};
#[cfg(feature = "cli")]
pub(crate) use description::{max_skb_frags, smt};
#[cfg(feature = "cli")]
pub use machine::{available_memory_bytes, has_capability, is_virtual_machine, pinnable_bytes, soft};
#[cfg(feature = "cli")]
pub(crate) use machine::{forbids_user_namespaces, with_limit_remedy};

/// The soft limit of locked memory in bytes, which bounds what `MSG_ZEROCOPY` may pin without
/// `CAP_IPC_LOCK`; `u64::MAX` where there is none.
#[must_use]
pub fn memlock_bytes() -> u64 {
    getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
}

/// [`memlock_bytes`] in words.
#[must_use]
pub fn memlock() -> String {
    match memlock_bytes() {
        u64::MAX => "unlimited".to_owned(),
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
