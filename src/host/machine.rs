//! Limits of the machine and its cgroups.

use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use super::{cgroup, file};
use crate::error::{Error, Result};
use crate::limits;

/// The soft limit of `resource`, in words.
pub(crate) fn soft(resource: Resource) -> String {
    getrlimit(resource).current.map_or_else(|| "unlimited".to_owned(), |soft| soft.to_string())
}

/// Memory that can be had without swapping, in bytes: what the kernel says that the machine has, or
/// what the process's cgroup or its own limits leave if that is less; read from the files below
/// `root`. None where neither is known.
///
/// # Errors
/// A file that could not be read at this moment.
pub fn available_memory_bytes(root: &Path) -> Result<Option<usize>> {
    let text = file::read(&root.join("proc/meminfo"))?.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let machine = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    let machine = machine.map(|kib| kib << 10);
    let left = [cgroup::memory_left_bytes(root)?, limits::address_space_left_bytes(root)];
    let left = left.into_iter().flatten().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok(left.chain(machine).min())
}

/// What makers of virtual machines write into the firmware.
const MAKERS: [&str; 17] = [
    "QEMU",
    "KVM",
    "VMware",
    "VirtualBox",
    "innotek",
    "Xen",
    "Amazon EC2",
    "Google Compute",
    "OpenStack",
    "Alibaba",
    "Virtual Machine",
    "Virtual Platform",
    "Parallels",
    "Bochs",
    "BHYVE",
    "HVM domU",
    "Tencent Cloud",
];

/// Whether this is a virtual machine, by the CPU's flags, the firmware, the device tree and the
/// devices; none where nothing tells. Read from the files below `root`.
///
/// # Errors
/// A file that could not be read at this moment.
pub fn is_virtual_machine(root: &Path) -> Result<Option<bool>> {
    let read = |path: &str| Ok::<_, Error>(file::read(&root.join(path))?.unwrap_or_default());
    let cpu = file::cpu_info(root)?;
    let (maker, product) = (read("sys/class/dmi/id/sys_vendor")?, read("sys/class/dmi/id/product_name")?);
    // The same makers name what has no hypervisor: c7g.metal.
    if product.contains(".metal") || product.contains("BareMetal") {
        return Ok(Some(cpu.has("hypervisor")));
    }
    let named = |text: &str| MAKERS.iter().any(|name| text.contains(name));
    let device_tree = ["compatible", "hypervisor/compatible", "model"]
        .map(|name| read(&format!("proc/device-tree/{name}")));
    let [tree, hypervisor, model] = device_tree;
    let (tree, hypervisor, model) = (tree?, hypervisor?, model?);
    let has_devices = |path: &str| file::entries(&root.join(path)).map(|found| !found.is_empty());
    // What only a hypervisor has: its own folder, virtio's and Hyper-V's buses.
    let is_guest = cpu.has("hypervisor")
        || named(&maker)
        || named(&product)
        || tree.contains("dummy-virt")
        || !hypervisor.is_empty()
        || named(&model)
        || !read("sys/hypervisor/type")?.is_empty()
        || has_devices("sys/bus/virtio/devices")?
        || has_devices("sys/bus/vmbus/devices")?;
    // On x86 a hypervisor sets the flag, unless it hides. Other CPUs have no such flag.
    let has_flags = cpu.values("flags").next().is_some();
    Ok(if is_guest { Some(true) } else { has_flags.then_some(false) })
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
    use crate::fake;

    #[test]
    fn a_virtual_machine_is_known_by_any_sign_and_what_tells_nothing_is_not_known() {
        const X86: (&str, &str) = ("proc/cpuinfo", "flags\t\t: fpu\n");
        const ARM: (&str, &str) = ("proc/cpuinfo", "Features\t: fp asimd\nCPU implementer\t: 0x41\n");
        for (files, expected) in [
            (&[][..], None),
            (&[X86][..], Some(false)),
            (&[("proc/cpuinfo", "flags\t\t: fpu hypervisor\n")], Some(true)),
            (&[ARM], None),
            (&[ARM, ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n")], Some(true)),
            (
                &[
                    ARM,
                    ("sys/class/dmi/id/sys_vendor", "Amazon EC2"),
                    ("sys/class/dmi/id/product_name", "c7g.metal"),
                ],
                Some(false),
            ),
            (&[ARM, ("sys/class/dmi/id/product_name", "Virtual Machine\n")], Some(true)),
            (&[ARM, ("sys/class/dmi/id/product_name", "Alibaba Cloud ECS\n")], Some(true)),
            (&[ARM, ("sys/class/dmi/id/product_name", "OpenStack Nova\n")], Some(true)),
            (&[ARM, ("sys/class/dmi/id/product_name", "PowerEdge R760\n")], None),
            (&[ARM, ("proc/device-tree/compatible", "linux,dummy-virt")], Some(true)),
            (&[ARM, ("sys/bus/virtio/devices/virtio0/vendor", "0x1af4")], Some(true)),
            (&[ARM, ("sys/hypervisor/type", "xen\n")], Some(true)),
        ] {
            let root = fake::tree(files);
            assert_eq!(is_virtual_machine(root.path()).unwrap(), expected, "{files:?}");
        }
    }

    #[test]
    fn available_memory_is_the_machines_or_what_the_cgroup_leaves_if_that_is_less() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            fake::write(root.path(), path, text);
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
