//! What the kernel says of itself in files.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use super::check;
use super::finding::Finding;
use crate::check::Check;
use crate::counters::Pmus;
use crate::error::Result;
use crate::host::{self, cgroup, file, smt};
use crate::limits::Found;
use crate::message::page_bytes;

/// Rights that lift a limit for this process, whatever the limit says. By `capabilities(7)`.
#[expect(clippy::struct_excessive_bools, reason = "one for each right")]
pub(super) struct Rights {
    perfmon: bool,
    pub(super) ipc_lock: bool,
    net_admin: bool,
    sys_admin: bool,
}

impl Rights {
    pub(super) fn of_this_process() -> Self {
        let has = host::has_capability;
        Self {
            perfmon: has(CapabilitySet::PERFMON) || has(CapabilitySet::SYS_ADMIN),
            ipc_lock: has(CapabilitySet::IPC_LOCK),
            net_admin: has(CapabilitySet::NET_ADMIN),
            sys_admin: has(CapabilitySet::SYS_ADMIN),
        }
    }
}

/// The files that the kernel describes itself in. Tests look below another root.
pub(super) struct Files {
    pub(super) root: PathBuf,
    /// The CPUs that this process may use.
    pub(super) cpus: Vec<usize>,
    /// How long it takes to read the clock, and to read it by a system call, in nanoseconds.
    pub(super) clock_read_ns: [f64; 2],
}

/// What stands of a CPU in a file: each value once, with those that have it.
type ByValue = Vec<(String, Vec<usize>)>;

impl Files {
    fn read(&self, path: &str) -> Result<Option<String>> {
        file::read(&self.path(path))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    pub(super) fn checks(&self, rights: &Rights) -> Vec<Check> {
        CHECKS.iter().map(|(name, look)| check(name, look(self, rights))).collect()
    }

    fn paranoid(&self, rights: &Rights) -> Result<Finding> {
        let Some(value) = self.read("/proc/sys/kernel/perf_event_paranoid")? else {
            // Other files of that folder are always there.
            let is_shown = self.read("/proc/sys/kernel/osrelease")?.is_some();
            let found =
                if is_shown { "the kernel has no perf events" } else { "not known: /proc/sys is not shown" };
            return Ok(Finding::unavailable(found));
        };
        let found = format!("kernel.perf_event_paranoid is {value}");
        Ok(if rights.perfmon {
            Finding::ok(found + DOES_NOT_BIND)
        } else if value.parse().is_ok_and(|value: i32| value <= 1) {
            Finding::ok(found)
        } else {
            Finding::limited(found + ": events inside the kernel may not be counted")
                .lifted_by("sudo sysctl -w kernel.perf_event_paranoid=1")
        })
    }

    fn machine(&self) -> Result<Finding> {
        Ok(match host::is_virtual_machine(&self.root)? {
            Some(true) => Finding::limited(
                "virtual: other guests share the CPUs and caches, and few hypervisors offer a PMU",
            ),
            Some(false) => Finding::ok("no sign of a hypervisor"),
            None => Finding::unavailable(
                "whether it is virtual is not known: neither CPU, firmware nor devices tell (they never do on some \
                 ARM machines)",
            ),
        })
    }

    fn user_namespaces(&self, rights: &Rights) -> Result<Finding> {
        if rights.sys_admin {
            return Ok(Finding::ok("not needed: this process may make network namespaces without one"));
        }
        Ok(match host::forbids_user_namespaces(&self.root, None)? {
            None => Finding::ok("no chroot, switch or filter was found that forbids them to ordinary users"),
            Some(Found { what, remedy }) => Finding { remedy, ..Finding::limited(what) },
        })
    }

    /// A sysctl of `net.core` that should be at least `least`, since it does what `why` says.
    fn at_least(&self, sysctl: &str, least: u64, why: &str, is_forced: bool) -> Result<Finding> {
        let path = format!("/proc/sys/net/core/{sysctl}");
        let Some(value) = self.read(&path)?.and_then(|text| text.parse::<u64>().ok()) else {
            let found = format!("not known: net.core.{sysctl} is not shown in this namespace");
            return Ok(Finding::unavailable(found));
        };
        let found = format!("net.core.{sysctl} is {value}");
        Ok(if value >= least {
            Finding::ok(found)
        } else if is_forced {
            Finding::ok(found + DOES_NOT_BIND)
        } else {
            Finding::limited(format!("{found}: {why}"))
                .lifted_by(format!("sudo sysctl -w net.core.{sysctl}={least}"))
        })
    }

    fn buffers(&self, sysctl: &str, which: &str, rights: &Rights) -> Result<Finding> {
        let why = format!("caps the 2 MiB {which} buffers that are asked for");
        self.at_least(sysctl, 2 << 20, &why, rights.net_admin)
    }

    fn smt(&self) -> Result<Finding> {
        Ok(match smt(&self.root)? {
            Some(true) => Finding::limited(
                "on: CPUs share cores, and what one does slows its sibling; pairs fill cores before siblings",
            )
            .lifted_by("echo off | sudo tee /sys/devices/system/cpu/smt/control"),
            Some(false) => Finding::ok("off"),
            None => match self.of_each_cpu("topology/thread_siblings_list")? {
                lists if lists.iter().any(|(list, _)| list.contains([',', '-'])) => {
                    Finding::limited("on: CPUs share cores, and what one does slows its sibling")
                }
                lists if lists.is_empty() => Finding::unavailable("not known: the kernel lists no siblings"),
                _ => Finding::ok("no CPU that is used has a sibling"),
            },
        })
    }

    fn hybrid(&self) -> Result<Finding> {
        let pmus = Pmus::below(&self.path("/sys/bus/event_source/devices"))?;
        let of_pmu = |list: &str| -> Vec<usize> {
            let list = file::cpu_list(list).unwrap_or_default();
            self.cpus.iter().copied().filter(|cpu| list.contains(cpu)).collect()
        };
        let by_pmu: ByValue = match pmus.cores.len() {
            // One PMU may have no list, and stands for all.
            1 => vec![(pmus.cores[0].name.clone(), self.cpus.clone())],
            _ => pmus.cores.iter().map(|pmu| (pmu.name.clone(), of_pmu(&pmu.cpus))).collect(),
        };
        let by_pmu: ByValue = by_pmu.into_iter().filter(|(_, cpus)| !cpus.is_empty()).collect();
        // What ARM's kernels say of each core, with or without a PMU.
        let by_capacity = self.of_each_cpu("cpu_capacity")?;
        let kinds = if by_pmu.len() > 1 { by_pmu.clone() } else { by_capacity.clone() };
        let Some((_, last)) = kinds.last().filter(|_| kinds.len() > 1) else {
            return Ok(if by_pmu.is_empty() && by_capacity.is_empty() {
                Finding::unavailable("not known: neither a PMU nor a cpu_capacity tells kinds of core apart")
            } else {
                Finding::ok(
                    "all cores that are used are of one kind, as far as their PMUs and capacities say",
                )
            });
        };
        let found = format!("{}: pairs on different kinds of core do not compare", in_words(&kinds, "and"));
        Ok(Finding::limited(found).lifted_by(format!("taskset -c {} cargo bench", list_of(last))))
    }

    fn governor(&self) -> Result<Finding> {
        let found = self.of_each_cpu("cpufreq/scaling_governor")?;
        Ok(match &found[..] {
            [] => Finding::unavailable("no cpufreq here: the frequency cannot be read"),
            [(governor, _)] if governor == "performance" => Finding::ok(governor.clone()),
            governors => {
                let words = match governors {
                    [(governor, _)] => governor.clone(),
                    several => in_words(several, ","),
                };
                Finding::limited(words + ": the frequency follows the load").lifted_by(
                    "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
                )
            }
        })
    }

    fn turbo(&self) -> Result<Finding> {
        for (path, on, off) in [
            ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0", "1"),
            ("/sys/devices/system/cpu/cpufreq/boost", "1", "0"),
        ] {
            if let Some(value) = self.read(path)? {
                return Ok(if value == on {
                    Finding::limited("on: the frequency depends on heat and on the other cores")
                        .lifted_by(format!("echo {off} | sudo tee {path}"))
                } else {
                    Finding::ok("off")
                });
            }
        }
        // Since Linux 6.11 some drivers have a switch for each CPU.
        let found = self.of_each_cpu("cpufreq/boost")?;
        Ok(match &found[..] {
            [] => Finding::unavailable("no switch here: whether it is on is not known"),
            [(value, _)] if value == "0" => Finding::ok("off"),
            _ => Finding::limited("on: the frequency depends on heat and on the other cores")
                .lifted_by("echo 0 | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/boost"),
        })
    }

    /// What a file says of each of the CPUs that are used; nothing of those that have no such file.
    fn of_each_cpu(&self, file: &str) -> Result<ByValue> {
        let mut found: ByValue = Vec::new();
        for &cpu in &self.cpus {
            let Some(value) = self.read(&format!("/sys/devices/system/cpu/cpu{cpu}/{file}"))? else {
                continue;
            };
            match found.iter_mut().find(|(other, _)| *other == value) {
                Some((_, cpus)) => cpus.push(cpu),
                None => found.push((value, vec![cpu])),
            }
        }
        Ok(found)
    }

    fn load(&self) -> Result<Finding> {
        let text = self.read("/proc/loadavg")?.unwrap_or_default();
        let Some(load) = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()) else {
            return Ok(Finding::unavailable("no /proc/loadavg"));
        };
        let found = format!("{load:.2} over the last minute");
        Ok(if load < 0.3 {
            Finding::ok(found)
        } else {
            Finding::limited(found + ": other programs are running, or were until now: wait, or end them")
        })
    }

    fn mitigations(&self) -> Result<Finding> {
        let mut found = host::vulnerabilities(&self.root)?;
        if found.is_empty() {
            return Ok(Finding::unavailable("not known: the kernel lists no vulnerabilities"));
        }
        found.retain(|_, state| state.starts_with("Mitigation"));
        let active: Vec<String> = found.into_keys().collect();
        Ok(Finding::ok(match &active[..] {
            [] => "none active".to_owned(),
            active => format!("active, and part of the cost of every system call: {}", active.join(", ")),
        }))
    }

    fn clock_source(&self) -> Result<Finding> {
        let folder = "/sys/devices/system/clocksource/clocksource0";
        let source = self.read(&format!("{folder}/current_clocksource"))?;
        let source = source.unwrap_or_else(|| "not named by the kernel".to_owned());
        let [read_ns, call_ns] = self.clock_read_ns;
        let found = format!("{source}: a read takes {read_ns:.0} ns");
        // A read by the vDSO takes a small part of a call; one that falls back to the call,
        // somewhat more than it.
        if read_ns < call_ns / 2.0 {
            return Ok(Finding::ok(found));
        }
        let found = format!(
            "{found}, as long as a system call ({call_ns:.0} ns), and percentiles read it once a round trip"
        );
        let others = self.read(&format!("{folder}/available_clocksource"))?.unwrap_or_default();
        let has_tsc = source != "tsc" && others.split_whitespace().any(|other| other == "tsc");
        let remedy = has_tsc.then(|| format!("echo tsc | sudo tee {folder}/current_clocksource"));
        Ok(Finding { remedy, ..Finding::limited(found) })
    }

    /// Two limits: the constant is zero-copy's (`zerocopy_fill_skb_from_iter` in
    /// net/core/datagram.c), the sysctl that of sends that copy (`tcp_sendmsg_locked`) and of
    /// `splice(2)`. Neither says what the other is.
    fn fragments(&self) -> Result<Finding> {
        let sysctl = match self.read("/proc/sys/net/core/max_skb_frags")? {
            Some(most) => format!("net.core.max_skb_frags, {most}, is the limit of the other paths"),
            None => "net.core.max_skb_frags, the limit of the other paths, is not shown here".to_owned(),
        };
        Ok(match file::most_fragments(&self.root, page_bytes() as u64)? {
            Some(most) => {
                let cut = if most < 24 { "is cut in two" } else { "goes whole" };
                Finding::ok(format!(
                    "a packet of zero_copy has {most} fragments at the most (CONFIG_MAX_SKB_FRAGS): a 64 KiB message of \
                     the heap layout lies on up to 24, and {cut}. {sysctl}"
                ))
            }
            None => Finding::unavailable(format!(
                "how many fragments a packet of zero_copy may have is not known (CONFIG_MAX_SKB_FRAGS, 17 to 45): the \
                 kernel's configuration cannot be read. {sysctl}"
            )),
        })
    }

    fn cgroup_cpu(&self) -> Result<Finding> {
        Ok(match cgroup::limits(&self.root)?.cpus {
            None if !cgroup::is_visible(&self.root, "cpu")? => Finding::unavailable(CGROUP_NOT_SHOWN),
            None => Finding::ok("no CPU quota"),
            Some(cpus) => Finding::limited(format!(
                "the quota is {cpus:.2} CPUs: no more CPUs than that are used, at least one; what goes beyond it \
                 is stopped until the next period"
            )),
        })
    }

    fn cgroup_memory(&self) -> Result<Finding> {
        let left = cgroup::memory_left_bytes(&self.root)?;
        let Some(bytes) = cgroup::limits(&self.root)?.memory_bytes else {
            let is_shown = cgroup::is_visible(&self.root, "memory")?;
            return Ok(if is_shown {
                Finding::ok("no memory limit")
            } else {
                Finding::unavailable(CGROUP_NOT_SHOWN)
            });
        };
        let left = left.map_or_else(String::new, |left| format!(", of which {} MiB are left", left >> 20));
        let found = format!("the limit is {} MiB{left}: a case that needs more is refused", bytes >> 20);
        Ok(Finding::limited(found))
    }
}

const CGROUP_NOT_SHOWN: &str = "not known: the process's cgroup is not shown here";

/// Values with the CPUs that have them, in words.
fn in_words(values: &[(String, Vec<usize>)], between: &str) -> String {
    let words: Vec<_> =
        values.iter().map(|(value, cpus)| format!("{value} (CPUs {})", list_of(cpus))).collect();
    words.join(&if between == "," { ", ".to_owned() } else { format!(" {between} ") })
}

fn list_of(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

const DOES_NOT_BIND: &str = ", which does not bind this process";

type Look = fn(&Files, &Rights) -> Result<Finding>;

/// All of these checks by name, in the order in which they are listed.
pub(super) const CHECKS: [(&str, Look); 16] = [
    ("paranoid", Files::paranoid),
    ("machine", |files, _| files.machine()),
    ("user-namespaces", Files::user_namespaces),
    ("optmem", |files, _| {
        files.at_least("optmem_max", 65_536, "bounds the completions that wait unread", false)
    }),
    ("wmem", |files, rights| files.buffers("wmem_max", "send", rights)),
    ("rmem", |files, rights| files.buffers("rmem_max", "receive", rights)),
    ("smt", |files, _| files.smt()),
    ("hybrid", |files, _| files.hybrid()),
    ("governor", |files, _| files.governor()),
    ("turbo", |files, _| files.turbo()),
    ("load", |files, _| files.load()),
    ("mitigations", |files, _| files.mitigations()),
    ("clock-source", |files, _| files.clock_source()),
    ("fragments", |files, _| files.fragments()),
    ("cgroup-cpu", |files, _| files.cgroup_cpu()),
    ("cgroup-memory", |files, _| files.cgroup_memory()),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::check::State;
    use crate::fake;

    fn machine(files: &[(&str, &str)], every_right: bool) -> Vec<Check> {
        machine_with(files, every_right, (0..16).collect())
    }

    fn machine_with(files: &[(&str, &str)], every_right: bool, cpus: Vec<usize>) -> Vec<Check> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            fake::write(folder.path(), path, text);
        }
        let [perfmon, ipc_lock, net_admin, sys_admin] = [every_right; 4];
        let rights = Rights { perfmon, ipc_lock, net_admin, sys_admin };
        Files { root: folder.path().to_owned(), cpus, clock_read_ns: [25.0, 200.0] }.checks(&rights)
    }

    fn check<'a>(checks: &'a [Check], name: &str) -> &'a Check {
        checks.iter().find(|check| check.name == name).unwrap()
    }

    #[test]
    fn a_desktop_as_it_comes_is_limited_in_many_ways_each_with_its_remedy() {
        let checks = machine(
            &[
                ("proc/sys/kernel/perf_event_paranoid", "4\n"),
                ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
                ("proc/sys/net/core/wmem_max", "212992\n"),
                ("proc/sys/net/core/optmem_max", "20480\n"),
                ("proc/cpuinfo", "flags\t\t: fpu hypervisor\n"),
                ("proc/loadavg", "1.50 1.00 0.50 2/300 4000\n"),
                ("sys/devices/system/cpu/smt/active", "1\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
                ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n"),
                ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
                ("sys/bus/event_source/devices/cpu_core/type", "4"),
                ("sys/bus/event_source/devices/cpu_core/cpus", "0-7"),
                ("sys/bus/event_source/devices/cpu_atom/type", "10"),
                ("sys/bus/event_source/devices/cpu_atom/cpus", "8-15"),
            ],
            false,
        );
        for (name, remedy) in [
            ("paranoid", "perf_event_paranoid=1"),
            ("user-namespaces", "apparmor_restrict_unprivileged_userns=0"),
            ("wmem", "net.core.wmem_max=2097152"),
            ("optmem", "net.core.optmem_max=65536"),
            ("smt", "smt/control"),
            ("hybrid", "taskset"),
            ("governor", "echo performance"),
            ("turbo", "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"),
        ] {
            let check = check(&checks, name);
            assert_eq!(check.state, State::Limited, "{check:?}");
            assert!(check.remedy.as_ref().unwrap().contains(remedy), "{check:?}");
        }
        assert_eq!(check(&checks, "machine").state, State::Limited);
        assert_eq!(check(&checks, "load").state, State::Limited);
    }

    #[test]
    fn a_tuned_machine_is_ok_and_what_the_kernel_does_not_say_is_not_made_up() {
        let checks = machine(
            &[
                ("proc/sys/kernel/perf_event_paranoid", "1\n"),
                ("proc/loadavg", "0.00 0.00 0.00 1/300 4000\n"),
                ("proc/cpuinfo", "flags\t\t: fpu\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
                ("sys/devices/system/cpu/cpufreq/boost", "0\n"),
                ("sys/devices/system/cpu/smt/active", "0\n"),
                ("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n"),
                ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ],
            false,
        );
        for name in ["paranoid", "machine", "user-namespaces", "smt", "hybrid", "governor", "turbo", "load"] {
            assert_eq!(check(&checks, name).state, State::Ok, "{:?}", check(&checks, name));
        }
        let silent = machine(&[], false);
        for name in [
            "paranoid",
            "machine",
            "wmem",
            "smt",
            "hybrid",
            "governor",
            "turbo",
            "load",
            "mitigations",
            "fragments",
            "cgroup-cpu",
            "cgroup-memory",
        ] {
            assert_eq!(check(&silent, name).state, State::Unavailable, "{:?}", check(&silent, name));
        }
    }

    #[test]
    fn what_is_looked_at_are_the_cpus_that_are_used() {
        let governor = |cpu| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let (first, second) = (governor(0), governor(1));
        let files = [
            (&*first, "performance\n"),
            (&*second, "powersave\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/boost", "0\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/boost", "1\n"),
            ("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n"),
            ("sys/devices/system/cpu/cpu1/cpu_capacity", "400\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1-2\n"),
        ];
        for name in ["governor", "turbo", "hybrid", "smt"] {
            let state = |cpus: &[usize]| check(&machine_with(&files, false, cpus.to_vec()), name).state;
            assert_eq!(state(&[0]), State::Ok, "{name}");
            assert_eq!(state(&[0, 1]), State::Limited, "{name}");
        }
        let checks = machine_with(&files, false, vec![0, 1]);
        let found = &check(&checks, "governor").found;
        assert!(found.starts_with("performance (CPUs 0), powersave (CPUs 1): "), "{found}");
        assert_eq!(check(&machine_with(&files, false, vec![1]), "governor").state, State::Limited);
    }

    #[test]
    fn a_clock_is_slow_where_reading_it_takes_as_long_as_a_call_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sys/devices/system/clocksource/clocksource0");
        fs::create_dir_all(&path).unwrap();
        let of = |clock_read_ns| {
            Files { root: folder.path().to_owned(), cpus: vec![0], clock_read_ns }.clock_source().unwrap()
        };
        assert_eq!(of([25.0, 150.0]).state, State::Ok, "not named, and fast");
        for source in ["xen", "hyperv_clocksource_msr", "hpet", "kvm-clock"] {
            fs::write(path.join("current_clocksource"), source).unwrap();
            fs::write(path.join("available_clocksource"), format!("{source} acpi_pm")).unwrap();
            let slow = of([190.0, 180.0]);
            assert!(slow.state == State::Limited && slow.remedy.is_none(), "{slow:?}: there is no other");
            assert!(
                slow.found.starts_with(&format!("{source}: a read takes 190 ns, as long as")),
                "{slow:?}"
            );
            fs::write(path.join("available_clocksource"), format!("tsc {source} acpi_pm")).unwrap();
            assert!(of([190.0, 180.0]).remedy.unwrap().starts_with("echo tsc"));
            assert_eq!(of([25.0, 180.0]).state, State::Ok);
        }
    }

    #[test]
    fn what_bounds_a_zero_copy_packet_is_the_constant_and_never_the_sysctl() {
        let sysctl = ("proc/sys/net/core/max_skb_frags", "16\n");
        let release = ("proc/sys/kernel/osrelease", "6.8.0\n");
        let configuration = |text| ("boot/config-6.8.0", text);
        let unknown = machine(&[sysctl], false);
        let unknown = check(&unknown, "fragments");
        assert_eq!(unknown.state, State::Unavailable);
        assert!(unknown.found.contains("not known") && unknown.found.contains("max_skb_frags, 16"));
        for (text, found) in [
            ("CONFIG_NET=y\nCONFIG_MAX_SKB_FRAGS=17\n", "has 17 fragments at the most"),
            ("CONFIG_NET=y\nCONFIG_MAX_SKB_FRAGS=45\n", "goes whole"),
        ] {
            let known = machine(&[sysctl, release, configuration(text)], false);
            assert!(check(&known, "fragments").found.contains(found), "{:?}", check(&known, "fragments"));
        }
        let silent = machine(&[release, configuration("CONFIG_NET=y\nCONFIG_MAX_SKB_FRAGS=17\n")], false);
        assert!(check(&silent, "fragments").found.contains("is not shown here"));
    }

    #[test]
    fn a_cgroups_limits_are_said_and_no_limit_is_ok() {
        let place = [
            ("proc/self/cgroup", "0::/job\n"),
            ("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/job/cgroup.procs", "1\n"),
        ];
        let limits = [
            ("sys/fs/cgroup/job/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/job/memory.max", "536870912\n"),
            ("sys/fs/cgroup/job/memory.current", "134217728\n"),
        ];
        for (name, found) in [
            ("cgroup-cpu", "the quota is 1.50 CPUs"),
            ("cgroup-memory", "the limit is 512 MiB, of which 384 MiB are left"),
        ] {
            let checks = machine(&[&place[..], &limits[..]].concat(), true);
            let limited = check(&checks, name);
            assert_eq!(limited.state, State::Limited);
            assert!(limited.found.contains(found), "{limited:?}");
            assert_eq!(check(&machine(&place, true), name).state, State::Ok);
        }
    }

    #[test]
    fn limits_that_do_not_bind_a_process_are_ok_for_it() {
        let files = [
            ("proc/sys/kernel/perf_event_paranoid", "4"),
            ("proc/sys/net/core/wmem_max", "212992"),
            ("proc/sys/user/max_user_namespaces", "0"),
        ];
        let checks = machine(&files, true);
        for name in ["paranoid", "wmem", "user-namespaces"] {
            assert_eq!(check(&checks, name).state, State::Ok);
        }
    }
}
