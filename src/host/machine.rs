//! Limits of the machine and its cgroups, and the errors that come of them.

use std::io;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use super::{cgroup, file, sysctl};
use crate::error::{Error, Result};

/// The soft limit of `resource`, in words.
pub(crate) fn soft(resource: Resource) -> String {
    getrlimit(resource).current.map_or_else(|| "unlimited".to_owned(), |soft| soft.to_string())
}

/// Memory that can be had without swapping, in bytes: what the kernel says that the machine has, or
/// what the process's cgroup leaves if that is less; read from the files below `root`. None where
/// neither is known.
///
/// # Errors
/// A file that could not be read at this moment.
pub fn available_memory_bytes(root: &Path) -> Result<Option<usize>> {
    let text = file::read(&root.join("proc/meminfo"))?.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let machine = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    let cgroup = cgroup::memory_left_bytes(root)?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok(machine.map(|kib| kib << 10).into_iter().chain(cgroup).min())
}

/// A sysctl that forbids user namespaces to ordinary users.
pub(crate) struct UserNamespaceSwitch {
    /// Its name, as `sysctl` takes it.
    pub(crate) name: &'static str,
    /// The value that forbids them.
    pub(crate) forbids: &'static str,
    /// A value that allows them.
    pub(crate) allows: &'static str,
}

impl UserNamespaceSwitch {
    /// The command that allows them.
    pub(crate) fn remedy(&self) -> String {
        format!("sudo sysctl -w {}={}", self.name, self.allows)
    }
}

const USER_NAMESPACE_SWITCHES: [UserNamespaceSwitch; 3] = [
    UserNamespaceSwitch { name: "kernel.apparmor_restrict_unprivileged_userns", forbids: "1", allows: "0" },
    UserNamespaceSwitch { name: "kernel.unprivileged_userns_clone", forbids: "0", allows: "1" },
    UserNamespaceSwitch { name: "user.max_user_namespaces", forbids: "0", allows: "10000" },
];

/// The first switch that forbids user namespaces, if one does; read from the files below `root`.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn forbids_user_namespaces(root: &Path) -> Result<Option<&'static UserNamespaceSwitch>> {
    for switch in &USER_NAMESPACE_SWITCHES {
        let path = root.join("proc/sys").join(switch.name.replace('.', "/"));
        if file::read(&path)?.is_some_and(|value| value == switch.forbids) {
            return Ok(Some(switch));
        }
    }
    Ok(None)
}

/// Whether the CPU's flags name a hypervisor, or the firmware names a virtual machine; read from
/// the files below `root`.
///
/// # Errors
/// A file that could not be read at this moment.
pub fn is_virtual_machine(root: &Path) -> Result<bool> {
    let product = file::read(&root.join("sys/class/dmi/id/product_name"))?.unwrap_or_default();
    let makers = ["QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google Compute"];
    Ok(file::cpu_info(root)?.has("hypervisor") || makers.iter().any(|name| product.contains(name)))
}

/// How many bytes this process may pin at a time; none where `RLIMIT_MEMLOCK` does not bind it.
/// `CAP_IPC_LOCK` counts for the whole machine alone: the kernel asks `capable()`, not
/// `ns_capable()`.
pub(crate) fn pinnable_bytes() -> Option<u64> {
    let limit = super::memlock_bytes();
    (limit != u64::MAX && !super::has_capability(CapabilitySet::IPC_LOCK)).then_some(limit)
}

/// The error of `call`, with the limit that caused it where the errno stands for one.
pub(crate) fn with_limit_remedy(call: &'static str, errno: io::Error) -> Error {
    let remedy = match errno.raw_os_error() {
        Some(libc::EMFILE) => {
            let soft = soft(Resource::Nofile);
            format!("RLIMIT_NOFILE is {soft}, and every pair takes a descriptor on each side: ulimit -n 4096")
        }
        Some(libc::EAGAIN) if call.starts_with("pthread") => format!(
            "RLIMIT_NPROC is {} and kernel.threads-max {} (a container may set pids.max lower): raise it, or run \
             fewer pairs",
            soft(Resource::Nproc),
            sysctl("kernel/threads-max")
        ),
        Some(libc::ETIMEDOUT) if call.starts_with("connect") => format!(
            "net.core.somaxconn is {}, and all pairs of a case connect at once: raise it to 256",
            sysctl("net/core/somaxconn")
        ),
        _ => return Error::call(call)(errno),
    };
    Error::refused(call, errno, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_the_machines_or_what_the_cgroup_leaves_if_that_is_less() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(available_memory_bytes(root.path()).unwrap(), None);
        write("proc/meminfo", "MemTotal:       8000 kB\nMemAvailable:   4000 kB\n");
        assert_eq!(available_memory_bytes(root.path()).unwrap(), Some(4000 << 10));
        write("proc/self/cgroup", "0::/a\n");
        write("proc/self/mountinfo", "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n");
        write("cg/a/memory.max", "3000\n");
        write("cg/a/memory.current", "1000\n");
        assert_eq!(available_memory_bytes(root.path()).unwrap(), Some(2000));
        write("cg/a/memory.max", "1073741824\n");
        assert_eq!(available_memory_bytes(root.path()).unwrap(), Some(4000 << 10));
    }

    #[test]
    fn an_errno_that_stands_for_a_limit_names_it() {
        for (call, errno, word) in [
            ("socket(2)", libc::EMFILE, "RLIMIT_NOFILE"),
            ("pthread_create(3)", libc::EAGAIN, "RLIMIT_NPROC"),
            ("connect(2)", libc::ETIMEDOUT, "net.core.somaxconn"),
        ] {
            let text = with_limit_remedy(call, io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.starts_with(call) && text.contains(word), "{text}");
        }
        let plain = with_limit_remedy("socket(2)", io::Error::from_raw_os_error(libc::EACCES));
        assert!(plain.to_string() == "socket(2): Permission denied (os error 13)", "{plain}");
    }
}
