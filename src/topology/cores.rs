//! Which CPUs are siblings of one core, and which cores are on one NUMA node, from
//! [sysfs](https://docs.kernel.org/admin-guide/cputopology.html).

use std::collections::BTreeMap;
use std::path::Path;

use crate::environment::Core;
use crate::error::Result;
use crate::host::file::{self, cpu_list};

/// The cores of `cpus`, each with those of its CPUs that are among them; read from the files below
/// `root`. A CPU of which the kernel says nothing is a core of its own.
///
/// # Errors
/// A file that could not be read at this moment.
pub(super) fn cores(root: &Path, cpus: &[usize]) -> Result<Vec<Core>> {
    let nodes = nodes(root)?;
    let mut cores: BTreeMap<usize, Core> = BTreeMap::new();
    for &cpu in cpus {
        let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        let read = |name: &str| file::read(&topology.join(name));
        // The second is the first's name before Linux 5.3.
        let siblings = match read("core_cpus_list")? {
            None => read("thread_siblings_list")?,
            found => found,
        };
        let siblings = siblings.and_then(|text| cpu_list(&text)).unwrap_or_default();
        let first = siblings.into_iter().min().unwrap_or(cpu);
        let package = read("physical_package_id")?.and_then(|text| text.parse().ok());
        let node = nodes.get(&cpu).copied().or(package).unwrap_or(0);
        cores.entry(first).or_insert_with(|| Core { node, cpus: Vec::new() }).cpus.push(cpu);
    }
    let mut cores: Vec<_> = cores.into_values().collect();
    for core in &mut cores {
        core.cpus.sort_unstable();
    }
    Ok(cores)
}

/// The node of each CPU; empty where the kernel knows no nodes.
fn nodes(root: &Path) -> Result<BTreeMap<usize, usize>> {
    let mut nodes = BTreeMap::new();
    for entry in file::entries(&root.join("sys/devices/system/node"))? {
        let name = entry.file_name().unwrap_or_default();
        let number = name.to_str().and_then(|name| name.strip_prefix("node")?.parse::<usize>().ok());
        let Some(number) = number else { continue };
        let cpus = file::read(&entry.join("cpulist"))?.and_then(|text| cpu_list(&text));
        nodes.extend(cpus.into_iter().flatten().map(|cpu| (cpu, number)));
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fake;

    fn machine(files: &[(&str, &str)], cpus: &[usize]) -> Vec<(usize, Vec<usize>)> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            fake::write(&root.path().join("sys/devices/system"), path, text);
        }
        cores(root.path(), cpus).unwrap().into_iter().map(|core| (core.node, core.cpus)).collect()
    }

    #[test]
    fn siblings_make_a_core_whether_they_are_numbered_apart_or_side_by_side() {
        let apart = [
            ("cpu/cpu0/topology/core_cpus_list", "0,2\n"),
            ("cpu/cpu1/topology/core_cpus_list", "1,3\n"),
            ("cpu/cpu2/topology/core_cpus_list", "0,2\n"),
            ("cpu/cpu3/topology/core_cpus_list", "1,3\n"),
            ("node/node0/cpulist", "0-3\n"),
        ];
        assert_eq!(machine(&apart, &[0, 1, 2, 3]), [(0, vec![0, 2]), (0, vec![1, 3])]);
        // By the older name, and without one of the CPUs: its sibling is still there.
        let adjacent = [
            ("cpu/cpu0/topology/thread_siblings_list", "0-1\n"),
            ("cpu/cpu1/topology/thread_siblings_list", "0-1\n"),
            ("cpu/cpu2/topology/thread_siblings_list", "2-3\n"),
            ("cpu/cpu3/topology/thread_siblings_list", "2-3\n"),
        ];
        assert_eq!(machine(&adjacent, &[1, 2, 3]), [(0, vec![1]), (0, vec![2, 3])]);
    }

    #[test]
    fn a_core_is_on_the_node_that_lists_it_or_else_in_its_package() {
        let nodes =
            [("node/node0/cpulist", "0,2\n"), ("node/node1/cpulist", "1,3\n"), ("node/online", "0-1\n")];
        let on = |node, cpu| (node, vec![cpu]);
        assert_eq!(machine(&nodes, &[0, 1, 2, 3]), [on(0, 0), on(1, 1), on(0, 2), on(1, 3)]);
        let packages = [("cpu/cpu1/topology/physical_package_id", "1\n")];
        assert_eq!(machine(&packages, &[0, 1]), [on(0, 0), on(1, 1)]);
    }

    #[test]
    fn without_sysfs_each_cpu_is_a_core_of_its_own() {
        assert_eq!(machine(&[], &[0, 5]), [(0, vec![0]), (0, vec![5])]);
        assert_eq!(machine(&[("cpu/cpu0/topology/core_cpus_list", "none\n")], &[0]), [(0, vec![0])]);
    }
}
