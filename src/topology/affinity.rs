//! Which CPUs this process may use, and which one each thread is pinned to.

use std::path::Path;

use nix::errno::Errno;

pub use crate::environment::Cpus;
use crate::error::{Error, Result};
use crate::host::cgroup;
use crate::host::file::{self, cpu_list};
use crate::limits::{self, Found};
use crate::topology::cores::cores;

/// The largest CPU mask that is asked for: 512 Ki CPUs.
const MOST_CPUS: usize = 512 << 10;
/// The kernel's masks consist of `unsigned long`s.
type Word = libc::c_ulong;
const WORD_BITS: usize = Word::BITS as usize;

/// The CPUs that the calling thread is allowed
/// ([`sched_getaffinity(2)`](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html)), so
/// that `taskset` and containers are obeyed; and of those no more than the cgroup's CPU quota
/// keeps busy.
///
/// # Errors
/// The call's errno; a file of the kernel's that could not be read at this moment.
pub fn allowed_cpus() -> Result<Cpus> {
    let allowed = affinity().map_err(Error::call("sched_getaffinity(2)"))?;
    usable(Path::new("/"), &allowed)
}

/// The CPUs among those that are allowed which the files below `root` leave to use.
fn usable(root: &Path, allowed: &[usize]) -> Result<Cpus> {
    let cpus = Cpus::from(cores(root, allowed)?);
    Ok(match cgroup::limits(root)?.cpus {
        Some(quota) => cpus.at_most(quota as usize),
        None => cpus,
    })
}

/// Pins the calling thread to `cpus`
/// ([`sched_setaffinity(2)`](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html)).
///
/// # Errors
/// The call's errno.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let words = mask(cpus);
    // SAFETY: the kernel reads as many bytes as the slice has.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&*words), words.as_ptr()) };
    Errno::result(result).map(drop).map_err(|errno| match errno {
        Errno::EINVAL => {
            let look_at = "the cpuset of this process's cgroup, and which CPUs are online";
            let cause = limits::said(lost_cpus(Path::new("/"), cpus), look_at);
            Error::refused("sched_setaffinity(2)", errno, cause)
        }
        errno => Error::call("sched_setaffinity(2)")(errno),
    })
}

/// That none of `cpus` is left to this process, where the cpuset or the machine is found to have
/// lost them; from the files below `root`.
fn lost_cpus(root: &Path, cpus: &[usize]) -> Option<Found> {
    let asked = || cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let has_none = |list: &str| cpu_list(list).is_some_and(|left| cpus.iter().all(|cpu| !left.contains(cpu)));
    let cpuset = cgroup::cpuset(root).ok().flatten();
    let online = file::read(&root.join("sys/devices/system/cpu/online")).ok().flatten();
    let what = if let Some(left) = cpuset.filter(|list| has_none(list)) {
        format!("the cpuset of this process's cgroup has the CPUs {left} now, and none of {}", asked())
    } else if let Some(left) = online.filter(|list| has_none(list)) {
        format!("the CPUs {left} are online now, and none of {}", asked())
    } else {
        return None;
    };
    (!cpus.is_empty()).then(|| Found::new(format!("{what}: what begins now takes those that are left")))
}

/// The calling thread's CPUs, in ascending order.
fn affinity() -> nix::Result<Vec<usize>> {
    // nix's, rustix's and glibc's fixed masks end at CPU 1023. The kernel refuses a mask that is
    // shorter than its own with EINVAL.
    let mut words = vec![0; 1024 / WORD_BITS];
    loop {
        let bytes = size_of_val(&*words);
        // SAFETY: the kernel writes at most as many bytes as the words have.
        let result = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, words.as_mut_ptr()) };
        match Errno::result(result) {
            Ok(_) => return Ok(numbers(&words)),
            Err(Errno::EINVAL) if words.len() * WORD_BITS < MOST_CPUS => words.resize(words.len() * 2, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// The mask with the bits of `cpus`, as long as the highest of them needs.
fn mask(cpus: &[usize]) -> Vec<Word> {
    let mut words = vec![0; cpus.iter().max().map_or(1, |most| most / WORD_BITS + 1)];
    for cpu in cpus {
        words[cpu / WORD_BITS] |= 1 << (cpu % WORD_BITS);
    }
    words
}

/// The numbers of the bits that are set.
fn numbers(words: &[Word]) -> Vec<usize> {
    let is_set = |cpu: &usize| words[cpu / WORD_BITS] >> (cpu % WORD_BITS) & 1 == 1;
    (0..words.len() * WORD_BITS).filter(is_set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn a_mask_has_the_bits_of_its_cpus_beyond_1024_too() {
        for cpus in [&[0][..], &[63, 64], &[0, 1023, 1024, 4095]] {
            assert_eq!(numbers(&mask(cpus)), cpus);
        }
        assert_eq!(mask(&[4095]).len(), 4096 / WORD_BITS);
    }

    #[test]
    fn a_thread_is_pinned_where_it_is_told_and_no_cpu_is_refused() {
        std::thread::spawn(|| {
            let all = affinity().unwrap();
            let last = *all.last().unwrap();
            pin(&[last]).unwrap();
            assert_eq!(affinity().unwrap(), [last]);
            assert_eq!(allowed_cpus().unwrap().numbers(), [last]);
            // The kernel leaves out the CPUs that it does not have, as it does with a short mask's.
            pin(&[last, 4095]).unwrap();
            assert_eq!(affinity().unwrap(), [last]);
            let error = pin(&[]).unwrap_err().to_string();
            assert!(error.starts_with("sched_setaffinity(2)"), "{error}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn cpus_that_were_taken_away_are_named_and_an_empty_set_has_lost_none() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            fake::write(root.path(), path, text);
        };
        assert_eq!(lost_cpus(root.path(), &[1]), None);
        write("sys/devices/system/cpu/online", "0,2-3\n");
        assert!(lost_cpus(root.path(), &[1]).unwrap().what.starts_with("the CPUs 0,2-3 are online now"));
        assert_eq!(lost_cpus(root.path(), &[1, 2]), None);
        assert_eq!(lost_cpus(root.path(), &[]), None);
        write("proc/self/cgroup", "3:cpuset:/a\n");
        write("proc/self/mountinfo", "31 23 0:28 / /cg rw - cgroup cgroup rw,cpuset\n");
        write("cg/a/cpuset.effective_cpus", "0\n");
        assert!(lost_cpus(root.path(), &[2]).unwrap().what.contains("has the CPUs 0 now, and none of 2"));
    }

    #[test]
    fn a_cpu_quota_leaves_as_many_cpus_as_it_keeps_busy_cores_before_siblings() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            fake::write(root.path(), path, text);
        };
        for (cpu, siblings) in [(0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")] {
            write(&format!("sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"), siblings);
        }
        assert_eq!(usable(root.path(), &[0, 1, 2, 3]).unwrap().numbers(), [0, 2, 1, 3]);
        write("proc/self/cgroup", "0::/a\n");
        write("proc/self/mountinfo", "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n");
        for (quota, cpus) in [("290000", &[0, 2][..]), ("50000", &[0]), ("900000", &[0, 2, 1, 3])] {
            write("cg/a/cpu.max", &format!("{quota} 100000\n"));
            assert_eq!(usable(root.path(), &[0, 1, 2, 3]).unwrap().numbers(), cpus, "{quota}");
        }
    }

    #[test]
    fn the_cpus_that_are_used_are_among_those_that_are_allowed() {
        let allowed = affinity().unwrap();
        let used = allowed_cpus().unwrap();
        assert!(!used.numbers().is_empty());
        assert!(used.numbers().iter().all(|cpu| allowed.contains(cpu)), "{used:?} of {allowed:?}");
    }
}
