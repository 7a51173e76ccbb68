//! Limits of the machine and its cgroups.

use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use super::{cgroup, file};
use crate::error::Result;

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
}
