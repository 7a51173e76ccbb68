//! What the process's cgroup, and those above it, allow: CPU time and memory. Version 2
//! ([cgroup-v2](https://docs.kernel.org/admin-guide/cgroup-v2.html)), and version 1 where a
//! controller is mounted that way.

use std::path::{Path, PathBuf};

use super::file;
use crate::environment::CgroupLimits;
use crate::error::{Error, Result};

/// A v1 memory limit at or above this stands for no limit: the kernel rounds the largest number to
/// pages.
const NO_LIMIT_BYTES: u64 = 1 << 62;

/// The smallest limits on the way from the process's cgroup up to the root; read from the files
/// below `root`.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn limits(root: &Path) -> Result<CgroupLimits> {
    Ok(CgroupLimits {
        cpus: found(root, "cpu", Folder::cpus)?.into_iter().min_by(f64::total_cmp),
        memory_bytes: found(root, "memory", Folder::memory_bytes)?.into_iter().min(),
    })
}

/// What the memory limits leave in bytes; none where there is no limit.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn memory_left_bytes(root: &Path) -> Result<Option<u64>> {
    Ok(found(root, "memory", Folder::memory_left_bytes)?.into_iter().min())
}

/// Whether limits of `controller` on the process can be seen at all.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn is_visible(root: &Path, controller: &str) -> Result<bool> {
    Ok(folders(root, controller)?.iter().any(|folder| folder.path.is_dir()))
}

/// How many threads more the limits on them let the process have; none where there is no limit.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn threads_left(root: &Path) -> Result<Option<u64>> {
    Ok(found(root, "pids", Folder::threads_left)?.into_iter().min())
}

/// The CPUs that the process's cpuset leaves to it, as the kernel lists them; none where it has no
/// cpuset.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn cpuset(root: &Path) -> Result<Option<String>> {
    let nearest = folders(root, "cpuset")?;
    let list = |folder: &Folder| folder.read("cpuset.cpus.effective", "cpuset.effective_cpus").transpose();
    nearest.iter().find_map(list).transpose()
}

/// What `look` finds in each of the process's cgroups in which `controller` may have a limit.
fn found<T>(root: &Path, controller: &str, look: fn(&Folder) -> Result<Option<T>>) -> Result<Vec<T>> {
    folders(root, controller)?.iter().filter_map(|folder| look(folder).transpose()).collect()
}

/// The process's cgroups in which `controller` may have a limit, each from its own up to the mount
/// point: version 2's, and version 1's that has the controller.
fn folders(root: &Path, controller: &str) -> Result<Vec<Folder>> {
    let read = |path: &str| Ok::<_, Error>(file::read(&root.join(path))?.unwrap_or_default());
    let (cgroups, mounts) = (read("proc/self/cgroup")?, read("proc/self/mountinfo")?);
    let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    let has = |list: &str| list.split(',').any(|name| name == controller);
    // Each line is ID:CONTROLLERS:PATH. See cgroups(7).
    let hierarchy = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let version = match controllers {
            "" => 2,
            list if has(list) => 1,
            _ => return None,
        };
        let fits = |mount: &&Mount| match version {
            2 => mount.kind == "cgroup2",
            _ => mount.kind == "cgroup" && has(mount.options),
        };
        let mount = mounts.iter().find(fits)?;
        let top = root.join(mount.point.trim_start_matches('/'));
        // A container may see its own cgroup at the mount point, under a path that it cannot see.
        let below = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let own = top.join(below);
        let folders = own.ancestors().take_while(|folder| folder.starts_with(&top));
        Some(folders.map(|path| Folder { version, path: path.to_owned() }).collect::<Vec<_>>())
    };
    Ok(cgroups.lines().filter_map(hierarchy).flatten().collect())
}

/// A line of [`mountinfo`](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
struct Mount<'a> {
    /// Which folder of the tree is mounted.
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
        Some(Self {
            root: before.next()?,
            point: before.next()?,
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }
}

/// One cgroup's files.
struct Folder {
    version: u8,
    path: PathBuf,
}

impl Folder {
    fn read(&self, v2: &str, v1: &str) -> Result<Option<String>> {
        file::read(&self.path.join(if self.version == 2 { v2 } else { v1 }))
    }

    /// The quota over its period. A quota of `max` (version 2) or -1 (version 1) is none.
    fn cpus(&self) -> Result<Option<f64>> {
        let Some(mut text) = self.read("cpu.max", "cpu.cfs_quota_us")? else { return Ok(None) };
        if self.version == 1 {
            text = format!("{text} {}", self.read("", "cpu.cfs_period_us")?.unwrap_or_default());
        }
        let numbers = text.split_once(' ').and_then(|(quota, period)| {
            Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok().filter(|period| *period > 0)?))
        });
        Ok(numbers.map(|(quota, period)| quota as f64 / period as f64))
    }

    fn memory_bytes(&self) -> Result<Option<u64>> {
        let bytes = self.read("memory.max", "memory.limit_in_bytes")?.and_then(|text| text.parse().ok());
        Ok(bytes.filter(|bytes| *bytes < NO_LIMIT_BYTES))
    }

    fn threads_left(&self) -> Result<Option<u64>> {
        let number = |name| Ok::<_, Error>(self.read(name, name)?.and_then(|text| text.parse::<u64>().ok()));
        Ok(number("pids.max")?.zip(number("pids.current")?).map(|(most, now)| most.saturating_sub(now)))
    }

    /// The limit without what is in use. Pages of files that nobody used lately count as free: the
    /// kernel drops them when memory is asked for, as `MemAvailable` supposes too.
    fn memory_left_bytes(&self) -> Result<Option<u64>> {
        let used = self.read("memory.current", "memory.usage_in_bytes")?;
        let (limit, used) = (self.memory_bytes()?, used.and_then(|text| text.parse::<u64>().ok()));
        let (Some(limit), Some(used)) = (limit, used) else { return Ok(None) };
        let key = if self.version == 2 { "inactive_file " } else { "total_inactive_file " };
        let stat = self.read("memory.stat", "memory.stat")?.unwrap_or_default();
        let files = stat.lines().find_map(|line| line.strip_prefix(key)?.parse().ok()).unwrap_or(0);
        Ok(Some(limit.saturating_sub(used.saturating_sub(files))))
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fake;

    /// A root with `files`; the process is in `cgroup` of what `mounts` mount.
    fn root(cgroup: &str, mounts: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let own = [("proc/self/cgroup", cgroup), ("proc/self/mountinfo", mounts)];
        for (path, text) in files.iter().chain(&own) {
            fake::write(root.path(), path, text);
        }
        root
    }

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_smallest_limit_up_the_tree_counts() {
        let root = root(
            "0::/a/b/c\n",
            V2,
            &[
                ("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/cpu.max", "400000 100000\n"),
                ("sys/fs/cgroup/a/b/c/memory.max", "2147483648\n"),
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/a/b/c/memory.current", "1000000000\n"),
                ("sys/fs/cgroup/a/memory.current", "1073741000\n"),
                ("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 600\nactive_file 7\n"),
            ],
        );
        assert_eq!(
            limits(root.path()).unwrap(),
            CgroupLimits { cpus: Some(1.5), memory_bytes: Some(1 << 30) }
        );
        assert_eq!(memory_left_bytes(root.path()).unwrap(), Some(824 + 600));
    }

    #[test]
    fn the_cgroup_that_a_container_has_mounted_is_its_own() {
        let mounts = "31 23 0:28 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        for path in ["0::/docker/x\n", "0::/../y\n", "0::/\n"] {
            let root = root(path, mounts, &[("sys/fs/cgroup/cpu.max", "50000 100000\n")]);
            assert_eq!(limits(root.path()).unwrap().cpus, Some(0.5), "{path}");
        }
    }

    #[test]
    fn version_1_is_read_where_a_controller_is_mounted_that_way() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let root = root(
            "4:memory:/m\n1:cpu,cpuacct:/c\n0::/\n",
            mounts,
            &[
                ("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "200000\n"),
                ("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "4096000\n"),
                ("sys/fs/cgroup/memory/m/memory.usage_in_bytes", "96000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "96000\n"),
            ],
        );
        assert_eq!(
            limits(root.path()).unwrap(),
            CgroupLimits { cpus: Some(2.0), memory_bytes: Some(4_096_000) }
        );
        assert_eq!(memory_left_bytes(root.path()).unwrap(), Some(4_000_000));
    }

    #[test]
    fn where_there_is_no_cgroup_or_no_limit_there_is_none() {
        for root in [
            root("", "", &[]),
            root("0::/\n", V2, &[]),
            root("nonsense\n0::/a\n", V2, &[("sys/fs/cgroup/a/cpu.max", "x y\n")]),
        ] {
            assert_eq!(limits(root.path()).unwrap(), CgroupLimits::default());
            assert_eq!(memory_left_bytes(root.path()).unwrap(), None);
        }
    }
}
