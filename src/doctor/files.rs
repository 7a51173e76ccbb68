//! What the kernel says of itself in files.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use super::not_looked_at;
use crate::check::{Check, State};
use crate::counters::Pmus;
use crate::error::Result;
use crate::host::{self, cgroup, file, smt};
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
}

impl Files {
    fn read(&self, path: &str) -> Result<Option<String>> {
        file::read(&self.path(path))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn number(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.read(path)?.and_then(|text| text.parse().ok()))
    }

    pub(super) fn checks(&self, rights: &Rights) -> Vec<Check> {
        let forced = rights.net_admin;
        let at_least = |sysctl, least, why, forced| self.at_least(sysctl, least, why, forced);
        let looked = [
            ("paranoid", self.paranoid(rights.perfmon)),
            ("machine", self.machine()),
            ("user-namespaces", self.user_namespaces(rights.sys_admin)),
            ("optmem", at_least("optmem", 65_536, "bounds the completions that wait unread", false)),
            ("wmem", at_least("wmem", 2 << 20, "caps the 2 MiB send buffers that are asked for", forced)),
            ("rmem", at_least("rmem", 2 << 20, "caps the 2 MiB receive buffers that are asked for", forced)),
            ("smt", self.smt()),
            ("hybrid", Pmus::below(&self.path("/sys/bus/event_source/devices")).map(|pmus| hybrid(&pmus))),
            ("governor", self.governor()),
            ("turbo", self.turbo()),
            ("load", self.load()),
            ("mitigations", self.mitigations()),
            ("clock-source", self.clock_source()),
            ("fragments", self.fragments()),
            ("cgroup-cpu", self.cgroup_cpu()),
            ("cgroup-memory", self.cgroup_memory()),
        ];
        let check = |(name, looked): (&str, Result<Check>)| {
            looked.unwrap_or_else(|error| not_looked_at(name, &error))
        };
        looked.into_iter().map(check).collect()
    }

    fn paranoid(&self, perfmon: bool) -> Result<Check> {
        let name = "paranoid";
        Ok(match self.read("/proc/sys/kernel/perf_event_paranoid")? {
            None => Check::new(name, State::Unavailable, "the kernel has no perf events", None),
            Some(value) if perfmon => Check::ok(
                name,
                format!("kernel.perf_event_paranoid is {value}, which does not bind this process"),
            ),
            Some(value) if value.parse().is_ok_and(|value: i32| value <= 1) => {
                Check::ok(name, format!("kernel.perf_event_paranoid is {value}"))
            }
            Some(value) => Check::new(
                name,
                State::Limited,
                format!("kernel.perf_event_paranoid is {value}: events inside the kernel may not be counted"),
                Some("sudo sysctl -w kernel.perf_event_paranoid=1"),
            ),
        })
    }

    fn machine(&self) -> Result<Check> {
        Ok(if host::is_virtual_machine(&self.root)? {
            let found = "virtual: other guests share the CPUs and caches, and few hypervisors offer a PMU";
            Check::new("machine", State::Limited, found, None)
        } else {
            Check::ok("machine", "no sign of a hypervisor")
        })
    }

    fn user_namespaces(&self, sys_admin: bool) -> Result<Check> {
        let name = "user-namespaces";
        if sys_admin {
            return Ok(Check::ok(name, "not needed: this process may make network namespaces without one"));
        }
        Ok(match host::forbids_user_namespaces(&self.root)? {
            Some(switch) => Check::new(
                name,
                State::Limited,
                format!("{} is {}: only root can make namespaces", switch.name, switch.forbids),
                Some(&switch.remedy()),
            ),
            None => Check::ok(name, "no switch forbids them to ordinary users"),
        })
    }

    fn at_least(&self, name: &str, least: u64, why: &str, forced: bool) -> Result<Check> {
        let sysctl = format!("{name}_max");
        let value = self.number(&format!("/proc/sys/net/core/{sysctl}"))?;
        let found = |value: u64| format!("net.core.{sysctl} is {value}");
        Ok(match value {
            None => Check::ok(name, format!("net.core.{sysctl} is not shown in this namespace")),
            Some(value) if value >= least => Check::ok(name, found(value)),
            Some(value) if forced => {
                Check::ok(name, format!("{}, which does not bind this process", found(value)))
            }
            Some(value) => Check::new(
                name,
                State::Limited,
                format!("{}: {why}", found(value)),
                Some(&format!("sudo sysctl -w net.core.{sysctl}={least}")),
            ),
        })
    }

    fn smt(&self) -> Result<Check> {
        Ok(match smt(&self.root)? {
            Some(true) => Check::new(
                "smt",
                State::Limited,
                "on: CPUs share cores, and what one does slows its sibling; pairs fill cores before siblings",
                Some("echo off | sudo tee /sys/devices/system/cpu/smt/control"),
            ),
            Some(false) => Check::ok("smt", "off"),
            None => Check::ok("smt", "the kernel lists no siblings"),
        })
    }

    fn governor(&self) -> Result<Check> {
        let name = "governor";
        Ok(match self.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")? {
            None => {
                Check::new(name, State::Unavailable, "no cpufreq here: the frequency cannot be read", None)
            }
            Some(governor) if governor == "performance" => Check::ok(name, governor),
            Some(governor) => Check::new(
                name,
                State::Limited,
                format!("{governor}: the frequency follows the load"),
                Some("echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"),
            ),
        })
    }

    fn turbo(&self) -> Result<Check> {
        let name = "turbo";
        let found = "on: the frequency depends on heat and on the other cores";
        for (path, on, off) in [
            ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0", "1"),
            ("/sys/devices/system/cpu/cpufreq/boost", "1", "0"),
        ] {
            if let Some(value) = self.read(path)? {
                return Ok(if value == on {
                    Check::new(name, State::Limited, found, Some(&format!("echo {off} | sudo tee {path}")))
                } else {
                    Check::ok(name, "off")
                });
            }
        }
        Ok(Check::new(name, State::Unavailable, "no switch here: whether it is on is not known", None))
    }

    fn load(&self) -> Result<Check> {
        let text = self.read("/proc/loadavg")?.unwrap_or_default();
        Ok(match text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()) {
            Some(load) if load < 0.3 => Check::ok("load", format!("{load:.2} over the last minute")),
            Some(load) => Check::new(
                "load",
                State::Limited,
                format!(
                    "{load:.2} over the last minute: other programs are running, or were until now: wait, or end them"
                ),
                None,
            ),
            None => Check::new("load", State::Unavailable, "no /proc/loadavg", None),
        })
    }

    fn mitigations(&self) -> Result<Check> {
        let mut active = Vec::new();
        for path in file::entries(&self.path("/sys/devices/system/cpu/vulnerabilities"))? {
            if file::read(&path)?.is_some_and(|text| text.starts_with("Mitigation")) {
                active.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        let found = match &active[..] {
            [] => "none active".to_owned(),
            active => format!("active, and part of the cost of every system call: {}", active.join(", ")),
        };
        Ok(Check::ok("mitigations", found))
    }

    fn clock_source(&self) -> Result<Check> {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        Ok(match self.read(path)? {
            None => Check::new("clock-source", State::Unavailable, "the kernel does not say", None),
            Some(slow) if ["hpet", "acpi_pm", "jiffies", "refined-jiffies"].contains(&slow.as_str()) => {
                Check::new(
                    "clock-source",
                    State::Limited,
                    format!(
                        "{slow}: reading it takes a system call, and percentiles read it once a round trip"
                    ),
                    Some(&format!("echo tsc | sudo tee {path}")),
                )
            }
            Some(source) => Check::ok("clock-source", source),
        })
    }

    /// Two limits: the constant is zero-copy's (`zerocopy_fill_skb_from_iter` in
    /// net/core/datagram.c), the sysctl that of sends that copy (`tcp_sendmsg_locked`) and of
    /// `splice(2)`. Neither says what the other is.
    fn fragments(&self) -> Result<Check> {
        let name = "fragments";
        let sysctl = match self.read("/proc/sys/net/core/max_skb_frags")? {
            Some(most) => format!("net.core.max_skb_frags, {most}, is the limit of the other paths"),
            None => "net.core.max_skb_frags, the limit of the other paths, is not shown here".to_owned(),
        };
        Ok(match file::most_fragments(&self.root, page_bytes() as u64)? {
            Some(most) => {
                let cut = if most < 24 { "is cut in two" } else { "goes whole" };
                let found = format!(
                    "a packet of zero_copy has {most} fragments at the most (CONFIG_MAX_SKB_FRAGS): a 64 KiB message of \
                     the heap layout lies on up to 24, and {cut}. {sysctl}"
                );
                Check::ok(name, found)
            }
            None => Check::new(
                name,
                State::Unavailable,
                format!(
                    "how many fragments a packet of zero_copy may have is not known (CONFIG_MAX_SKB_FRAGS, 17 to 45): the \
                     kernel's configuration cannot be read. {sysctl}"
                ),
                None,
            ),
        })
    }

    fn cgroup_cpu(&self) -> Result<Check> {
        let name = "cgroup-cpu";
        Ok(match cgroup::limits(&self.root)?.cpus {
            None => Check::ok(name, "no CPU quota"),
            Some(cpus) => Check::new(
                name,
                State::Limited,
                format!(
                    "the quota is {cpus:.2} CPUs: no more CPUs than that are used, at least one; what goes beyond it \
                     is stopped until the next period"
                ),
                None,
            ),
        })
    }

    fn cgroup_memory(&self) -> Result<Check> {
        let name = "cgroup-memory";
        let left = cgroup::memory_left_bytes(&self.root)?;
        Ok(match cgroup::limits(&self.root)?.memory_bytes {
            None => Check::ok(name, "no memory limit"),
            Some(bytes) => {
                let left =
                    left.map_or_else(String::new, |left| format!(", of which {} MiB are left", left >> 20));
                let found =
                    format!("the limit is {} MiB{left}: a case that needs more is refused", bytes >> 20);
                Check::new(name, State::Limited, found, None)
            }
        })
    }
}

fn hybrid(pmus: &Pmus) -> Check {
    if pmus.is_hybrid() {
        let kinds: Vec<_> = pmus.cores.iter().map(|pmu| format!("{} ({})", pmu.name, pmu.cpus)).collect();
        let found = format!("{}: pairs on different kinds of core do not compare", kinds.join(" and "));
        let last = &pmus.cores[pmus.cores.len() - 1].cpus;
        Check::new("hybrid", State::Limited, found, Some(&format!("taskset -c {last} cargo bench")))
    } else {
        Check::ok("hybrid", "all cores are of one kind, as far as their PMUs say")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn machine(files: &[(&str, &str)], every_right: bool) -> Vec<Check> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let [perfmon, ipc_lock, net_admin, sys_admin] = [every_right; 4];
        let rights = Rights { perfmon, ipc_lock, net_admin, sys_admin };
        Files { root: folder.path().to_owned() }.checks(&rights)
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
            ("clock-source", "echo tsc"),
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
                ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ],
            false,
        );
        for name in ["paranoid", "machine", "user-namespaces", "smt", "hybrid", "governor", "turbo", "load"] {
            assert_eq!(check(&checks, name).state, State::Ok, "{:?}", check(&checks, name));
        }
        let silent = machine(&[], false);
        for name in ["paranoid", "governor", "turbo", "load", "clock-source"] {
            assert_eq!(check(&silent, name).state, State::Unavailable, "{:?}", check(&silent, name));
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
