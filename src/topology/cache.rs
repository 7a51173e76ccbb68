//! The caches that the kernel describes, below
//! [`/sys/devices/system/cpu/cpu*/cache`](https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-devices-system-cpu).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What is assumed of the last-level caches together where the kernel does not describe them: more than most
/// machines of one socket have.
const ASSUMED_BYTES: usize = 256 << 20;

/// Bytes of all last-level caches of the machine together.
#[must_use]
pub(crate) fn last_level_bytes() -> usize {
    below(Path::new("/sys/devices/system/cpu")).unwrap_or(ASSUMED_BYTES)
}

/// The same of the CPUs described below `root`; none where no cache is described.
fn below(root: &Path) -> Option<usize> {
    // Each cache once: by its level, the CPUs that share it, and its size.
    let mut caches: BTreeSet<(u32, String, usize)> = BTreeSet::new();
    for cpu in fs::read_dir(root).ok()?.flatten() {
        for index in fs::read_dir(cpu.path().join("cache")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(index.path().join(name)).ok();
            let (Some(kind), Some(level), Some(size), Some(shared)) =
                (read("type"), read("level"), read("size"), read("shared_cpu_list"))
            else {
                continue;
            };
            let level = level.trim().parse().ok();
            let kib = size.trim().strip_suffix('K').and_then(|kib| kib.parse::<usize>().ok());
            if let (Some(level), Some(kib)) = (level, kib)
                && kind.trim() != "Instruction"
            {
                caches.insert((level, shared.trim().to_owned(), kib << 10));
            }
        }
    }
    let last = caches.iter().map(|(level, ..)| *level).max()?;
    Some(caches.iter().filter(|(level, ..)| *level == last).map(|(.., bytes)| bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_last_level_cache_counts_once_and_the_others_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        for (cpu, shared) in [(0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")] {
            for (index, kind, level, size, shared) in [
                (0, "Data", 1, "32K", cpu.to_string()),
                (1, "Instruction", 1, "64K", cpu.to_string()),
                (3, "Unified", 3, "16384K", shared.to_owned()),
            ] {
                let folder = root.path().join(format!("cpu{cpu}/cache/index{index}"));
                fs::create_dir_all(&folder).unwrap();
                for (name, text) in [
                    ("type", kind),
                    ("level", &level.to_string()),
                    ("size", size),
                    ("shared_cpu_list", &shared),
                ] {
                    fs::write(folder.join(name), format!("{text}\n")).unwrap();
                }
            }
        }
        assert_eq!(below(root.path()), Some(32 << 20));
        assert_eq!(below(&root.path().join("cpu0")), None);
    }
}
