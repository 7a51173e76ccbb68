//! Why a call was refused. An errno alone names no cause, since most errnos have several. So each
//! function here looks at one limit, and gives it with what lifts it only where it is the cause.
//! Where none is found, [`said`] tells what else can be looked at.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use crate::pinning;

/// A limit that was looked at and found to be the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What limits, with its value.
    pub(crate) what: String,
    /// The command that lifts it, where there is one.
    pub(crate) remedy: Option<String>,
}

impl Found {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None }
    }

    pub(crate) fn lifted_by(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, remedy } = self;
        f.write_str(what)?;
        remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; lift it with `{remedy}`"))
    }
}

/// The cause that was found, in words; where none was, what can be looked at.
pub(crate) fn said(found: Option<Found>, look_at: &str) -> String {
    found.map_or_else(
        || format!("the cause is not known; what can be looked at: {look_at}"),
        |found| found.to_string(),
    )
}

/// The limit of open files, which alone makes a call fail with `EMFILE`.
pub(crate) fn open_files() -> Found {
    /// A pair takes a descriptor on each side, and each counter one per thread.
    const ENOUGH: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.map_or_else(|| "unlimited".to_owned(), |soft| soft.to_string());
    let found = Found::new(format!(
        "RLIMIT_NOFILE is {soft}, and every pair takes a descriptor on each side, every counter one per thread"
    ));
    match limit.maximum {
        Some(hard) if limit.current.is_none_or(|soft| soft >= hard) => {
            found.lifted_by(format!("sudo prlimit --nofile={} --pid $$", ENOUGH.max(hard.saturating_mul(2))))
        }
        hard => found.lifted_by(format!("ulimit -n {}", hard.unwrap_or(ENOUGH).min(ENOUGH))),
    }
}

/// `RLIMIT_MEMLOCK`, where so many bytes by themselves are more than it lets this process pin.
pub(crate) fn locked_memory(bytes: usize) -> Option<Found> {
    (!pinning::can_pin(bytes)).then(|| {
        Found::new(format!(
            "{bytes} bytes are more than RLIMIT_MEMLOCK lets it pin (now {})",
            pinning::memlock()
        ))
        .lifted_by("sudo prlimit --memlock=unlimited --pid $$")
    })
}

/// The limits of the address space: their names, what the kernel says is in use, what raises them.
const ADDRESS_SPACE: [(Resource, &str, &str, &str); 2] = [
    (Resource::As, "RLIMIT_AS", "VmSize:", "ulimit -v unlimited"),
    (Resource::Data, "RLIMIT_DATA", "VmData:", "ulimit -d unlimited"),
];

/// `RLIMIT_AS` or `RLIMIT_DATA`, where so many bytes more do not fit in it; by the files below
/// `root`.
pub(crate) fn address_space(root: &Path, bytes: u64) -> Option<Found> {
    ADDRESS_SPACE.into_iter().find_map(|(resource, name, key, remedy)| {
        let what = full(root, name, key, bytes, getrlimit(resource).current?)?;
        Some(Found::new(what).lifted_by(remedy))
    })
}

/// What `RLIMIT_AS` and `RLIMIT_DATA` leave of this process's address space, in bytes; none where
/// there is no limit. By the files below `root`.
#[cfg(feature = "cli")]
pub(crate) fn address_space_left_bytes(root: &Path) -> Option<u64> {
    let left = |(resource, _, key, _): (Resource, &str, &str, &str)| {
        Some(getrlimit(resource).current?.saturating_sub(in_use(root, key)?))
    };
    ADDRESS_SPACE.into_iter().filter_map(left).min()
}

fn in_use(root: &Path, key: &str) -> Option<u64> {
    Some(status(root, key)?.trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

fn full(root: &Path, name: &str, key: &str, bytes: u64, limit_bytes: u64) -> Option<String> {
    let used_bytes = in_use(root, key)?;
    (used_bytes.saturating_add(bytes) > limit_bytes)
        .then(|| format!("{name} is {} KiB, of which {} KiB are in use", limit_bytes >> 10, used_bytes >> 10))
}

/// That no huge pages are to be had for so many bytes: the pool that was set aside has fewer, and
/// the kernel joins none. From the files below `root`.
pub(crate) fn huge_pages(root: &Path, bytes: u64) -> Option<Found> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let number = |key| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let Some(page_kib) = number("Hugepagesize:") else {
        return Some(Found::new("this kernel has no huge pages"));
    };
    let free = number("HugePages_Free:")?;
    let mode = fs::read_to_string(root.join("sys/kernel/mm/transparent_hugepage/enabled")).ok();
    let joins = mode.is_some_and(|mode| !mode.contains("[never]"));
    let pool_bytes = free.saturating_mul(page_kib << 10);
    (pool_bytes < bytes && !joins).then(|| {
        let what = format!(
            "{free} huge pages of {page_kib} KiB are set aside and free, and the kernel joins no pages to huge ones \
             (/sys/kernel/mm/transparent_hugepage/enabled)"
        );
        Found::new(what).lifted_by("sudo sysctl vm.nr_hugepages=64")
    })
}

/// What the kernel says of the calling thread behind `key`, below `root`.
pub(crate) fn status(root: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/thread-self/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
}

/// Whether the running kernel is older than `version`; none where it does not say. From the files
/// below `root`.
pub(crate) fn kernel_is_before(root: &Path, version: (u32, u32)) -> Option<bool> {
    let release = release(root)?;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?) < version)
}

/// The running kernel's release, below `root`.
pub(crate) fn release(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok()?;
    Some(text.trim().to_owned())
}

/// The kernel's age, where it lacks what came with Linux `version`.
pub(crate) fn too_old(root: &Path, version: (u32, u32)) -> Option<Found> {
    kernel_is_before(root, version)?.then(|| {
        let (major, minor) = version;
        Found::new(format!(
            "Linux {major}.{minor} has it, and this kernel is {}",
            release(root).unwrap_or_default()
        ))
    })
}

/// Whether this process has a capability in its own user namespace.
pub(crate) fn has_here(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// A call that a container's seccomp filter often forbids.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(any(feature = "cli", test)),
    expect(dead_code, reason = "the paths alone count nothing, and make no namespaces")
)]
pub(crate) enum Filtered {
    /// `unshare(2)`.
    Unshare,
    /// `io_uring_setup(2)`.
    RingSetup,
    /// `perf_event_open(2)`.
    PerfEventOpen,
}

impl Filtered {
    fn name(self) -> &'static str {
        match self {
            Self::Unshare => "unshare(2)",
            Self::RingSetup => "io_uring_setup(2)",
            Self::PerfEventOpen => "perf_event_open(2)",
        }
    }

    /// Makes the call with an argument that the kernel refuses before it looks at anything else,
    /// whoever asks. A filter comes before the kernel, and has another errno.
    fn refused_by_all(self) -> (libc::c_long, i32) {
        const NO_FLAG: libc::c_int = 1;
        // SAFETY: each of these calls fails before it changes or reads anything: by a flag that
        // there is not, or by a null pointer.
        let result = unsafe {
            match self {
                Self::Unshare => libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER | NO_FLAG),
                Self::RingSetup => libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()),
                Self::PerfEventOpen => {
                    let flags = !0_u64;
                    libc::syscall(libc::SYS_perf_event_open, std::ptr::null::<u8>(), 0, -1, -1, flags)
                }
            }
        };
        (result, io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

/// A seccomp filter, where it forbids `call` to this process, which has one by the files below
/// `root`. What the kernel itself may refuse by this errno is for the caller to rule out before.
pub(crate) fn seccomp_filter(root: &Path, call: Filtered) -> Option<Found> {
    let has_filter = status(root, "Seccomp:")? == "2";
    let (result, errno) = call.refused_by_all();
    let is_a_filters = [libc::EPERM, libc::EACCES, libc::ENOSYS].contains(&errno);
    (has_filter && result < 0 && is_a_filters).then(|| {
        Found::new(format!(
            "a seccomp filter of this process forbids {}, as those of containers do: start the container with `{}`",
            call.name(),
            match call {
                Filtered::Unshare => "--privileged",
                Filtered::RingSetup => "--security-opt seccomp=unconfined",
                Filtered::PerfEventOpen => "--cap-add PERFMON",
            }
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::tree as root;

    #[test]
    fn a_cause_is_said_with_what_lifts_it_and_none_is_made_up() {
        assert_eq!(said(Some(Found::new("a is 1").lifted_by("b")), "c"), "a is 1; lift it with `b`");
        let unknown = said(None, "c, d");
        assert!(unknown.contains("not known") && unknown.ends_with("looked at: c, d"), "{unknown}");
    }

    #[test]
    fn an_address_space_is_to_blame_only_where_it_is_full() {
        let root = root(&[("proc/thread-self/status", "Name:\tx\nVmSize:\t    1000 kB\n")]);
        let of = |bytes| full(root.path(), "RLIMIT_AS", "VmSize:", bytes, 1024 << 10);
        assert_eq!(of(30 << 10).unwrap(), "RLIMIT_AS is 1024 KiB, of which 1000 KiB are in use");
        assert_eq!(of(20 << 10), None);
        assert_eq!(full(Path::new("/nowhere"), "RLIMIT_AS", "VmSize:", 1, 1), None);
    }

    #[test]
    fn huge_pages_are_missing_only_where_there_is_neither_a_pool_nor_joining() {
        let of = |free: u32, mode: &str| {
            let meminfo = format!("HugePages_Free:  {free}\nHugepagesize:    2048 kB\n");
            let enabled = "sys/kernel/mm/transparent_hugepage/enabled";
            huge_pages(root(&[("proc/meminfo", &meminfo), (enabled, mode)]).path(), 4 << 20)
        };
        let none = of(1, "always madvise [never]\n").unwrap();
        assert_eq!(none.remedy.as_deref(), Some("sudo sysctl vm.nr_hugepages=64"));
        assert_eq!(of(2, "always madvise [never]\n"), None);
        assert_eq!(of(0, "always [madvise] never\n"), None);
        let kernel = root(&[("proc/meminfo", "MemTotal: 1 kB\n")]);
        assert!(huge_pages(kernel.path(), 1).unwrap().what.contains("no huge pages"));
        assert_eq!(huge_pages(Path::new("/nowhere"), 1), None);
    }

    #[test]
    fn a_kernel_is_too_old_only_where_it_says_so() {
        for (release, is_old) in [
            ("4.13.9-generic\n", Some(true)),
            ("4.14.0\n", Some(false)),
            ("5.4.0-1.el8\n", Some(false)),
            ("10.0\n", Some(false)),
            ("unknown\n", None),
        ] {
            let root = root(&[("proc/sys/kernel/osrelease", release)]);
            assert_eq!(kernel_is_before(root.path(), (4, 14)), is_old, "{release}");
            assert_eq!(too_old(root.path(), (4, 14)).is_some(), is_old == Some(true));
        }
    }

    #[test]
    fn without_a_filter_none_is_to_blame() {
        if status(Path::new("/"), "Seccomp:").as_deref() == Some("0") {
            for call in [Filtered::Unshare, Filtered::RingSetup, Filtered::PerfEventOpen] {
                assert_eq!(seccomp_filter(Path::new("/"), call), None);
            }
        }
    }

    #[test]
    fn memory_is_too_much_only_for_who_may_not_pin_it() {
        assert_eq!(locked_memory(usize::MAX / 2).is_some(), !pinning::can_pin(usize::MAX / 2));
        assert_eq!(locked_memory(0).is_some(), !pinning::can_pin(0));
    }
}
