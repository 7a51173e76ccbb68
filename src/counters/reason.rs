//! Why an event cannot be opened, in words, with what lifts it. See `perf_event_open(2)`, "ERRORS".

use std::path::Path;

use nix::errno::Errno;
use once_cell::sync::OnceCell;

use super::Pmus;
use crate::error::Result;
use crate::event::{CounterSource, Event};
use crate::host::{self, file};
use crate::limits::{self, Filtered};

/// What is known when an event is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The event.
    pub event: Event,
    /// The errno of `perf_event_open(2)`; none where the event was not even tried.
    pub errno: Option<i32>,
    /// `kernel.perf_event_paranoid`.
    pub paranoid: String,
    /// What is known of the machine.
    pub machine: Facts,
}

/// What the reason depends on besides the errno.
#[expect(clippy::struct_excessive_bools, reason = "one for each fact")]
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether the CPU says that it is a virtual one.
    pub is_virtual: bool,
    /// Whether the kernel drives a PMU of its cores.
    pub has_pmu: bool,
    /// Whether it is one of AMD's Zen, or Hygon's after it.
    pub is_zen: bool,
    /// Whether a seccomp filter was found to forbid the call.
    pub is_filtered: bool,
}

impl Refusal {
    /// # Errors
    /// What is known of the machine could not be read at this moment. It is read again the next
    /// time.
    pub(super) fn on_this_machine(event: Event, errno: Option<i32>, pmus: &Pmus) -> Result<Self> {
        static FACTS: OnceCell<(String, Facts)> = OnceCell::new();
        let root = Path::new("/");
        let look = || -> Result<_> {
            let paranoid = file::read(&root.join("proc/sys/kernel/perf_event_paranoid"))?;
            let has_pmu = !pmus.cores.is_empty();
            let is_virtual = host::is_virtual_machine(root)? == Some(true);
            let is_filtered = limits::seccomp_filter(root, Filtered::PerfEventOpen).is_some();
            let machine = Facts { is_virtual, has_pmu, is_zen: is_zen(root)?, is_filtered };
            Ok((paranoid.unwrap_or_else(|| "unknown".to_owned()), machine))
        };
        let (paranoid, machine) = FACTS.get_or_try_init(look)?.clone();
        Ok(Self { event, errno, paranoid, machine })
    }
}

/// Whether `/proc/cpuinfo` below `root` is of an AMD Zen: family 17h or later, or Hygon's 18h.
fn is_zen(root: &Path) -> Result<bool> {
    let cpu = file::cpu_info(root)?;
    let family = cpu.values("cpu family").next().and_then(|family| family.parse::<u32>().ok()).unwrap_or(0);
    let vendor = cpu.values("vendor_id").next();
    Ok(matches!(vendor, Some("AuthenticAMD" | "HygonGenuine")) && family >= 0x17)
}

/// The reason in words, and the command or the change that lifts it.
pub(crate) fn explain(refusal: &Refusal) -> String {
    let Refusal { event, errno, paranoid, machine } = refusal;
    match (errno, event.source()) {
        (None, _) => "there is no msr PMU: x86 alone has one (in a container: is /sys mounted?)".to_owned(),
        (Some(libc::EACCES | libc::EPERM | libc::ENOSYS), _) if machine.is_filtered => {
            "a seccomp filter of this process forbids perf_event_open(2), as those of containers do: start the \
             container with `--cap-add PERFMON`"
                .to_owned()
        }
        (Some(libc::EACCES | libc::EPERM), _) if paranoid.parse().is_ok_and(|level: i32| level <= 1) => {
            limits::said(None, "a security module (SELinux: perf_event); kernel.perf_event_paranoid would allow it")
        }
        (Some(libc::EACCES | libc::EPERM), _) => format!(
            "not allowed: kernel.perf_event_paranoid is {paranoid}, and counting the kernel's part takes 1 or less, or \
             CAP_PERFMON: `sudo sysctl -w kernel.perf_event_paranoid=1`"
        ),
        (Some(libc::ENOSYS), _) => "the kernel has no perf_event_open(2) (CONFIG_PERF_EVENTS)".to_owned(),
        (Some(errno @ (libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV)), source) => {
            let errno = format!("{:?}", Errno::from_raw(*errno));
            match (source, machine) {
                // The kernel's table of cache events has none of the last level for these CPUs
                // (amd_hw_cache_event_ids_f17h in arch/x86/events/amd/core.c).
                (CounterSource::Core, Facts { is_zen: true, has_pmu: true, .. })
                    if *event == Event::LlcLoadMisses =>
                {
                    format!(
                        "AMD's CPUs since Zen do not count it for a thread ({errno}): the L3 has a PMU of its own \
                         (amd_l3), which counts for all cores that share it; cache-misses are those of the L2 there"
                    )
                }
                (CounterSource::Core, Facts { is_virtual: true, has_pmu: true, .. }) => format!(
                    "this virtual machine has a PMU, which does not count it ({errno}): the CPU lacks it, or the \
                     hypervisor leaves it out"
                ),
                (CounterSource::Core, Facts { is_virtual: true, has_pmu: false, .. }) => format!(
                    "this virtual machine has no PMU ({errno}): run on bare metal, or have the hypervisor give it one \
                     (QEMU: -cpu host,pmu=on)"
                ),
                (CounterSource::Core, Facts { has_pmu: false, .. }) => {
                    format!("the kernel drives no PMU of this CPU's cores ({errno})")
                }
                _ => format!("this CPU's PMU does not count it ({errno})"),
            }
        }
        (Some(libc::EMFILE), _) => limits::open_files().to_string(),
        (Some(errno), _) => {
            format!("perf_event_open(2): {}", std::io::Error::from_raw_os_error(*errno))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTUAL: Facts = Facts { is_virtual: true, has_pmu: false, is_zen: false, is_filtered: false };
    const REAL: Facts = Facts { is_virtual: false, ..VIRTUAL_WITH_PMU };
    const VIRTUAL_WITH_PMU: Facts = Facts { has_pmu: true, ..VIRTUAL };

    fn why(event: Event, errno: i32, machine: Facts) -> String {
        explain(&Refusal { event, errno: Some(errno), paranoid: "2".to_owned(), machine })
    }

    #[test]
    fn each_errno_is_explained_with_what_lifts_it() {
        for (errno, word) in [
            (libc::EACCES, "perf_event_paranoid is 2"),
            (libc::EPERM, "sysctl -w kernel.perf_event_paranoid=1"),
            (libc::ENOSYS, "CONFIG_PERF_EVENTS"),
            (libc::ENOENT, "pmu=on"),
            (libc::EOPNOTSUPP, "pmu=on"),
            (libc::EMFILE, "RLIMIT_NOFILE is"),
            (libc::EBUSY, "busy"),
        ] {
            let text = why(Event::Cycles, errno, VIRTUAL);
            assert!(text.contains(word), "{errno}: {text}");
        }
    }

    #[test]
    fn a_filter_is_to_blame_only_where_it_was_found() {
        let why = |is_filtered, errno| {
            explain(&Refusal {
                event: Event::Cycles,
                errno: Some(errno),
                paranoid: "-1".to_owned(),
                machine: Facts { is_filtered, ..REAL },
            })
        };
        for errno in [libc::EPERM, libc::ENOSYS] {
            assert!(why(true, errno).contains("`--cap-add PERFMON`"), "{errno}");
            assert!(!why(false, errno).contains("filter"), "{errno}");
        }
        assert!(why(false, libc::EPERM).contains("not known"), "the switch allows it");
    }

    #[test]
    fn a_machine_is_told_to_ask_its_hypervisor_for_a_pmu_only_where_that_is_what_it_lacks() {
        let lacks = |event, machine| why(event, libc::ENOENT, machine);
        assert!(!lacks(Event::LlcLoadMisses, REAL).contains("virtual"));
        assert!(lacks(Event::Cycles, Facts { has_pmu: false, ..REAL }).contains("no PMU"));
        assert!(!lacks(Event::TaskClock, VIRTUAL).contains("virtual"), "the kernel counts that one");
        let with_pmu = lacks(Event::LlcLoadMisses, Facts { has_pmu: true, ..VIRTUAL });
        assert!(with_pmu.contains("has a PMU") && !with_pmu.contains("bare metal"), "{with_pmu}");
    }

    #[test]
    fn what_zen_lacks_no_hypervisor_gives() {
        for is_virtual in [true, false] {
            let zen = Facts { is_virtual, is_zen: true, ..REAL };
            let text = why(Event::LlcLoadMisses, libc::ENOENT, zen.clone());
            assert!(text.contains("amd_l3") && !text.contains("bare metal"), "{text}");
            assert!(!why(Event::DtlbLoadMisses, libc::ENOENT, zen).contains("amd_l3"));
        }
        let without = Facts { is_zen: true, ..VIRTUAL };
        assert!(why(Event::LlcLoadMisses, libc::ENOENT, without).contains("pmu=on"), "it has none at all");
    }

    #[test]
    fn zen_is_known_by_vendor_and_family() {
        for (vendor, family, expected) in [
            ("AuthenticAMD", 0x17, true),
            ("AuthenticAMD", 0x1a, true),
            ("AuthenticAMD", 0x15, false),
            ("HygonGenuine", 0x18, true),
            ("GenuineIntel", 0x19, false),
        ] {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join("proc")).unwrap();
            let text = format!("vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 1\n");
            std::fs::write(root.path().join("proc/cpuinfo"), text).unwrap();
            assert_eq!(is_zen(root.path()).unwrap(), expected, "{vendor} {family}");
        }
        assert!(!is_zen(Path::new("/nonexistent")).unwrap());
    }
}
