//! The caches that the kernel describes, below
//! [`/sys/devices/system/cpu/cpu*/cache`](https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-devices-system-cpu).

use std::collections::BTreeSet;
use std::path::Path;

use once_cell::sync::OnceCell;

use crate::error::Result;
use crate::host::file;

/// What is assumed of the last-level caches together where the kernel does not describe them: more
/// than most machines of one socket have.
const ASSUMED_BYTES: usize = 256 << 20;

/// Bytes of all last-level caches of the machine together. Looked up once in the life of the
/// process.
///
/// # Errors
/// A file that could not be read at this moment: that is no cache without a description.
pub(crate) fn last_level_bytes() -> Result<usize> {
    static KNOWN: OnceCell<usize> = OnceCell::new();
    let look = || Ok(below(Path::new("/sys/devices/system/cpu"))?.unwrap_or(ASSUMED_BYTES));
    KNOWN.get_or_try_init(look).copied()
}

/// The same of the CPUs described below `root`; none where no cache is described.
fn below(root: &Path) -> Result<Option<usize>> {
    // Each cache once: by its level, the CPUs that share it, and its size.
    let mut caches: BTreeSet<(u32, String, usize)> = BTreeSet::new();
    for cpu in file::entries(root)? {
        for index in file::entries(&cpu.join("cache"))? {
            let read = |name: &str| file::read(&index.join(name));
            let (Some(kind), Some(level), Some(size), Some(shared)) =
                (read("type")?, read("level")?, read("size")?, read("shared_cpu_list")?)
            else {
                continue;
            };
            let kib = size.strip_suffix('K').and_then(|kib| kib.parse::<usize>().ok());
            if let (Ok(level), Some(kib)) = (level.parse(), kib)
                && kind != "Instruction"
            {
                caches.insert((level, shared, kib << 10));
            }
        }
    }
    let last = caches.iter().map(|(level, ..)| *level).max();
    Ok(last.map(|last| caches.iter().filter(|(level, ..)| *level == last).map(|(.., bytes)| bytes).sum()))
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert_eq!(below(root.path()).unwrap(), Some(32 << 20));
        assert_eq!(below(&root.path().join("cpu0")).unwrap(), None);
    }
}
