//! Reads what a machine is, as far as it bears on what is measured on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use once_cell::sync::OnceCell;
use rustix::process::Resource;

use super::{cgroup, file, memlock, soft, softirq, sysctl};
use crate::environment::{Machine, Tuning};
use crate::error::{Error, Result};
use crate::in_order::distinct;
use crate::limits;

const SYSCTLS: [&str; 3] = ["net/core/optmem_max", "net/core/wmem_max", "net/core/rmem_max"];

/// Reads this machine, and the limits of this process; sysctls as the calling thread's namespace
/// has them.
///
/// # Errors
/// A call that failed for a reason of this moment.
pub fn machine() -> Result<Machine> {
    let root = Path::new("/");
    let kernel = nix::sys::utsname::uname()
        .map_or_else(|errno| format!("unknown: {errno}"), |name| name.release().to_string_lossy().into());
    Ok(Machine {
        kernel,
        cpu_model: cpu_model(root)?,
        smt: smt(root)?,
        cgroup: cgroup::limits(root)?,
        softirq_in_cpu_time: softirq::in_cpu_time()?,
        memlock: memlock(),
        open_files: soft(Resource::Nofile),
        sysctls: SYSCTLS.iter().map(|name| ((*name).to_owned(), sysctl(name))).collect(),
        tuning: Some(tuning(root)?),
    })
}

/// What of the set-up bears on the cost of sending; read from the files below `root`.
fn tuning(root: &Path) -> Result<Tuning> {
    let each_once = |paths: Vec<PathBuf>| -> Result<Vec<String>> {
        let found: BTreeSet<String> =
            paths.iter().filter_map(|path| file::read(path).transpose()).collect::<Result<_>>()?;
        Ok(found.into_iter().collect())
    };
    let below = |folder: &str, file: &str| -> Result<Vec<PathBuf>> {
        Ok(file::entries(&root.join(folder))?.into_iter().map(|entry| entry.join(file)).collect())
    };
    let mode = file::read(&root.join("sys/kernel/mm/transparent_hugepage/enabled"))?;
    // All that there are, and the one that holds in brackets.
    let mode = mode.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned()));
    let cpus = limits::status(root, "Cpus_allowed_list:").and_then(|list| file::cpu_list(&list));
    let is_used = |cpu: &Path| {
        let number =
            cpu.file_name().and_then(|name| name.to_str()?.strip_prefix("cpu")?.parse::<usize>().ok());
        cpus.as_ref().is_none_or(|cpus| number.is_none_or(|number| cpus.contains(&number)))
    };
    let of_used = |file: &str| -> Result<Vec<String>> {
        let folders = file::entries(&root.join("sys/devices/system/cpu"))?;
        each_once(folders.into_iter().filter(|cpu| is_used(cpu)).map(|cpu| cpu.join(file)).collect())
    };
    Ok(Tuning {
        transparent_huge_pages: mode,
        glibc_tunables: std::env::var("GLIBC_TUNABLES").ok(),
        governors: of_used("cpufreq/scaling_governor")?,
        turbo: turbo(root, &of_used("cpufreq/boost")?)?,
        clock_source: file::read(&root.join(CLOCK_SOURCE))?,
        vulnerabilities: vulnerabilities(root)?,
        iommu: each_once(below("sys/kernel/iommu_groups", "type")?)?,
        most_fragments: file::most_fragments(root, rustix::param::page_size() as u64)?,
        max_skb_frags: max_skb_frags()?,
    })
}

const CLOCK_SOURCE: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Whether turbo is on: by the switch of the whole machine below `root`, or else by those of the
/// CPUs that are used.
fn turbo(root: &Path, of_cpus: &[String]) -> Result<Option<bool>> {
    for (switch, on) in [("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")] {
        if let Some(value) = file::read(&root.join("sys/devices/system/cpu").join(switch))? {
            return Ok(Some(value == on));
        }
    }
    Ok((!of_cpus.is_empty()).then(|| of_cpus.iter().any(|value| value != "0")))
}

/// What the kernel says of each vulnerability of the CPUs, by its name; read from the files below
/// `root`.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn vulnerabilities(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for path in file::entries(&root.join("sys/devices/system/cpu/vulnerabilities"))? {
        if let (Some(name), Some(text)) = (path.file_name(), file::read(&path)?) {
            found.insert(name.to_string_lossy().into_owned(), text);
        }
    }
    Ok(found)
}

/// `net.core.max_skb_frags`, which is the same for the whole machine and shown in its first network
/// namespace alone: so what was once read is kept.
///
/// # Errors
/// The file could not be read at this moment.
pub(crate) fn max_skb_frags() -> Result<Option<u64>> {
    static SEEN: OnceCell<u64> = OnceCell::new();
    if SEEN.get().is_none()
        && let Some(text) = file::read(Path::new("/proc/sys/net/core/max_skb_frags"))?
        && let Ok(most) = text.parse()
    {
        return Ok(Some(*SEEN.get_or_init(|| most)));
    }
    Ok(SEEN.get().copied())
}

/// The time of day in UTC, as files have it: `2026-11-30T16:47:00Z`.
///
/// # Errors
/// [`Error::Setting`] where the machine's clock is so wrong that it cannot be written so.
pub(crate) fn utc_now() -> Result<String> {
    utc(SystemTime::now())
}

fn utc(time: SystemTime) -> Result<String> {
    /// The first second of the year 10000.
    const NO_MORE: Duration = Duration::from_hours(70_389_528);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) if since < NO_MORE => Ok(humantime::format_rfc3339_seconds(time).to_string()),
        since => {
            let when = since.map_or("before 1970", |_| "after 9999");
            Err(Error::Setting(format!(
                "the clock of this machine is set to a time {when}: set it (date -u -s TIME)"
            )))
        }
    }
}

/// What tells one boot of a kernel from all others, a random number; empty where the kernel does
/// not say.
///
/// # Errors
/// The file could not be read at this moment.
pub fn boot_id() -> Result<String> {
    Ok(file::read(Path::new("/proc/sys/kernel/random/boot_id"))?.unwrap_or_default())
}

/// The machine's name: `SENDPATH_HOST`, since a container's own says nothing, or the kernel's.
pub(crate) fn host_name() -> String {
    let given = std::env::var("SENDPATH_HOST").ok().filter(|name| !name.is_empty());
    given.unwrap_or_else(|| nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned())
}

/// Whether cores run two threads at a time; none where the kernel does not say.
///
/// # Errors
/// The file could not be read at this moment.
pub(crate) fn smt(root: &Path) -> Result<Option<bool>> {
    let active = file::read(&root.join("sys/devices/system/cpu/smt/active"))?;
    Ok(active.map(|active| active == "1"))
}

/// The CPU's name from `/proc/cpuinfo`. ARM's has no name there: implementer and part stand for it,
/// those of every kind of core.
fn cpu_model(root: &Path) -> Result<String> {
    let cpu = file::cpu_info(root)?;
    if let Some(name) = cpu.values("model name").next() {
        return Ok(name.to_owned());
    }
    let kinds = cpu.values("CPU implementer").zip(cpu.values("CPU part"));
    let kinds = distinct(kinds.map(|(implementer, part)| format!("implementer {implementer} part {part}")));
    let architecture = std::env::consts::ARCH;
    Ok(match &kinds[..] {
        [] => architecture.to_owned(),
        kinds => format!("{architecture} {}", kinds.join(" and ")),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fake;

    fn model(cpuinfo: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/cpuinfo"), cpuinfo).unwrap();
        cpu_model(root.path()).unwrap()
    }

    #[test]
    fn a_cpu_goes_by_its_name_or_by_arms_numbers() {
        assert_eq!(model("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n"), "A CPU @ 2 GHz");
        let core = |part: &str| format!("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n");
        let one = model(&core("0xd0c"));
        assert!(one.ends_with(" implementer 0x41 part 0xd0c"), "{one}");
        assert_ne!(one, model(&core("0xd40")));
        let two = model(&[core("0xd05"), core("0xd0b"), core("0xd05")].concat());
        assert!(two.ends_with(" implementer 0x41 part 0xd05 and implementer 0x41 part 0xd0b"), "{two}");
        assert_eq!(model(""), std::env::consts::ARCH);
    }

    #[test]
    fn the_set_up_is_what_the_files_say_and_nothing_is_made_up() {
        let root = tempfile::tempdir().unwrap();
        let empty = tuning(root.path()).unwrap();
        assert_eq!((&empty.transparent_huge_pages, empty.most_fragments), (&None, None));
        assert!(empty.governors.is_empty() && empty.iommu.is_empty() && empty.vulnerabilities.is_empty());
        for (path, text) in [
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/vulnerabilities/retbleed", "Mitigation: IBRS\n"),
            ("sys/kernel/iommu_groups/0/type", "DMA-FQ\n"),
            ("sys/kernel/iommu_groups/1/type", "identity\n"),
        ] {
            fake::write(root.path(), path, text);
        }
        let write = |path: &str, text: &str| {
            fake::write(root.path(), path, text);
        };
        assert_eq!((empty.turbo, empty.clock_source), (None, None));
        write("sys/devices/system/cpu/cpu1/cpufreq/boost", "1\n");
        write("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n");
        write("proc/thread-self/status", "Cpus_allowed_list:\t0-1\n");
        write(CLOCK_SOURCE, "xen\n");
        let found = tuning(root.path()).unwrap();
        assert_eq!((found.turbo, found.clock_source.as_deref()), (Some(true), Some("xen")));
        write("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n");
        assert_eq!(tuning(root.path()).unwrap().turbo, Some(false));
        assert_eq!(found.transparent_huge_pages.as_deref(), Some("madvise"));
        assert_eq!(
            (&found.governors[..], &found.iommu[..]),
            (&["powersave".to_owned()][..], &["DMA-FQ".to_owned(), "identity".to_owned()][..])
        );
        assert_eq!(found.vulnerabilities["retbleed"], "Mitigation: IBRS");
    }

    #[test]
    fn a_clock_that_no_file_can_hold_is_an_error() {
        assert_eq!(utc(UNIX_EPOCH).unwrap(), "1970-01-01T00:00:00Z");
        let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert_eq!(utc(last).unwrap(), "9999-12-31T23:59:59Z");
        for (wrong, said) in [
            (UNIX_EPOCH - Duration::from_secs(1), "before 1970"),
            (last + Duration::from_secs(1), "after 9999"),
        ] {
            let error = utc(wrong).unwrap_err();
            assert!(error.is_bad_input() && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn smt_is_on_off_or_unknown() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(smt(root.path()).unwrap(), None);
        let folder = root.path().join("sys/devices/system/cpu/smt");
        fs::create_dir_all(&folder).unwrap();
        for (text, state) in [("1\n", true), ("0\n", false)] {
            fs::write(folder.join("active"), text).unwrap();
            assert_eq!(smt(root.path()).unwrap(), Some(state));
        }
    }
}
