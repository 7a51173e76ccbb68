//! What this machine can and cannot measure, and what would make its numbers lie.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::case::{Case, Layout, Matrix, Placement, SendPath};
use crate::counters::{Pmus, probe};
use crate::event::Event;
use crate::limits;
use crate::measure::burst::{time, verify};
use crate::pair::{Mode, Setup, Testbed};
use crate::path::Socket;
use crate::topology::Topology;
use crate::topology::affinity::Cpus;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but numbers suffer, or a part of the matrix does.
    Limited,
    /// It cannot be had.
    Unavailable,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at; an event's own name for an event.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// The command that lifts it, where there is one.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &str, state: State, found: impl Into<String>, remedy: Option<&str>) -> Self {
        Self { name: name.to_owned(), state, found: found.into(), remedy: remedy.map(str::to_owned) }
    }

    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found, None)
    }
}

/// The names of all checks, in the order of [`examine`].
#[must_use]
pub fn names() -> Vec<String> {
    let events = <Event as VariantArray>::VARIANTS.iter().map(ToString::to_string);
    let others = OTHERS.iter().map(|name| (*name).to_owned());
    events.chain(others).collect()
}

const OTHERS: [&str; 19] = [
    "paranoid",
    "machine",
    "user-namespaces",
    "memlock",
    "optmem",
    "wmem",
    "rmem",
    "cpus",
    "smt",
    "hybrid",
    "governor",
    "turbo",
    "load",
    "mitigations",
    "clock-source",
    "zerocopy",
    "fragments",
    "namespaces",
    "veth-copy",
];

/// Looks at everything. The last checks try what they speak of: they run a burst between two namespaces.
#[must_use]
pub fn examine(setup: &Setup) -> Vec<Check> {
    let mut checks = events();
    let files = Files { root: PathBuf::from("/") };
    checks.extend(files.checks(&Rights::of_this_process()));
    checks.extend([zero_copy_socket(), fragments(&files)]);
    checks.extend(namespaces(setup));
    checks
}

/// Counts a moment of work with each event, one at a time: together they might not fit the PMU.
fn events() -> Vec<Check> {
    let check = |event: &Event| match probe(*event) {
        Ok(()) => Check::ok(&event.to_string(), "counted, kernel included"),
        Err(reason) => Check::new(&event.to_string(), State::Unavailable, &reason, command_in(&reason)),
    };
    <Event as VariantArray>::VARIANTS.iter().map(check).collect()
}

/// The first command that a text has in backticks.
fn command_in(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// Rights that lift a limit for this process, whatever the limit says. By `capabilities(7)`.
#[expect(clippy::struct_excessive_bools, reason = "one for each right")]
struct Rights {
    perfmon: bool,
    ipc_lock: bool,
    net_admin: bool,
    sys_admin: bool,
}

impl Rights {
    fn of_this_process() -> Self {
        let (net_admin, ipc_lock, sys_admin, perfmon) = (12, 14, 21, 38);
        Self {
            perfmon: limits::has_capability(perfmon) || limits::has_capability(sys_admin),
            ipc_lock: limits::has_capability(ipc_lock),
            net_admin: limits::has_capability(net_admin),
            sys_admin: limits::has_capability(sys_admin),
        }
    }
}

/// The files that the kernel describes itself in. Tests look below another root.
struct Files {
    root: PathBuf,
}

impl Files {
    fn read(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.path(path)).ok()?.trim().to_owned())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    fn checks(&self, rights: &Rights) -> Vec<Check> {
        let forced = rights.net_admin;
        vec![
            self.paranoid(rights.perfmon),
            self.machine(),
            self.user_namespaces(rights.sys_admin),
            memlock(rights.ipc_lock),
            self.at_least("optmem", "optmem_max", 65_536, "bounds the completions that wait unread", false),
            self.at_least(
                "wmem",
                "wmem_max",
                2 << 20,
                "caps the 2 MiB send buffers that are asked for",
                forced,
            ),
            self.at_least(
                "rmem",
                "rmem_max",
                2 << 20,
                "caps the 2 MiB receive buffers that are asked for",
                forced,
            ),
            cpus(),
            self.smt(),
            hybrid(&Pmus::below(&self.path("/sys/bus/event_source/devices"))),
            self.governor(),
            self.turbo(),
            self.load(),
            self.mitigations(),
            self.clock_source(),
        ]
    }

    fn paranoid(&self, perfmon: bool) -> Check {
        let name = "paranoid";
        match self.read("/proc/sys/kernel/perf_event_paranoid") {
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
                format!("kernel.perf_event_paranoid is {value}: the kernel's part may not be counted"),
                Some("sudo sysctl -w kernel.perf_event_paranoid=1"),
            ),
        }
    }

    fn machine(&self) -> Check {
        if limits::is_virtual_machine(&self.root) {
            let found = "virtual: other guests share the CPUs and caches, and few hypervisors lend a PMU";
            Check::new("machine", State::Limited, found, None)
        } else {
            Check::ok("machine", "no hypervisor that the CPU knows of")
        }
    }

    fn user_namespaces(&self, sys_admin: bool) -> Check {
        let name = "user-namespaces";
        if sys_admin {
            return Check::ok(name, "not needed: this process may make network namespaces without one");
        }
        for (switch, forbids) in [
            ("kernel.apparmor_restrict_unprivileged_userns", "1"),
            ("kernel.unprivileged_userns_clone", "0"),
            ("user.max_user_namespaces", "0"),
        ] {
            let value = self.read(&format!("/proc/sys/{}", switch.replace('.', "/")));
            if value.as_deref() == Some(forbids) {
                let lift = match forbids {
                    "1" => "0",
                    _ if switch.starts_with("user.") => "10000",
                    _ => "1",
                };
                return Check::new(
                    name,
                    State::Limited,
                    format!("{switch} is {forbids}: only root gets namespaces"),
                    Some(&format!("sudo sysctl -w {switch}={lift}")),
                );
            }
        }
        Check::ok(name, "open to ordinary users, as far as the switches say")
    }

    fn at_least(&self, name: &str, sysctl: &str, least: u64, why: &str, forced: bool) -> Check {
        let value = self.number(&format!("/proc/sys/net/core/{sysctl}"));
        let found = |value: u64| format!("net.core.{sysctl} is {value}");
        match value {
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
        }
    }

    fn smt(&self) -> Check {
        match self.read("/sys/devices/system/cpu/smt/active").as_deref() {
            Some("1") => Check::new(
                "smt",
                State::Limited,
                "on: two of the CPUs share a core, and what one does slows the other",
                Some("echo off | sudo tee /sys/devices/system/cpu/smt/control"),
            ),
            Some(_) => Check::ok("smt", "off"),
            None => Check::ok("smt", "the kernel says nothing of siblings"),
        }
    }

    fn governor(&self) -> Check {
        let name = "governor";
        match self.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
            None => Check::new(
                name,
                State::Unavailable,
                "no cpufreq here: the frequency is not ours to see",
                None,
            ),
            Some(governor) if governor == "performance" => Check::ok(name, governor),
            Some(governor) => Check::new(
                name,
                State::Limited,
                format!("{governor}: the frequency follows the load"),
                Some("echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"),
            ),
        }
    }

    fn turbo(&self) -> Check {
        let name = "turbo";
        let found = "on: the frequency depends on heat and on the other cores";
        for (path, on, off) in [
            ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0", "1"),
            ("/sys/devices/system/cpu/cpufreq/boost", "1", "0"),
        ] {
            if let Some(value) = self.read(path) {
                return if value == on {
                    Check::new(name, State::Limited, found, Some(&format!("echo {off} | sudo tee {path}")))
                } else {
                    Check::ok(name, "off")
                };
            }
        }
        Check::new(name, State::Unavailable, "no switch here: whether it is on is not ours to see", None)
    }

    fn load(&self) -> Check {
        let text = self.read("/proc/loadavg").unwrap_or_default();
        match text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()) {
            Some(load) if load < 0.3 => Check::ok("load", format!("{load:.2} over the last minute")),
            Some(load) => Check::new(
                "load",
                State::Limited,
                format!("{load:.2} over the last minute: something else runs, or did: wait, or end it"),
                None,
            ),
            None => Check::new("load", State::Unavailable, "no /proc/loadavg", None),
        }
    }

    fn mitigations(&self) -> Check {
        let entries = fs::read_dir(self.path("/sys/devices/system/cpu/vulnerabilities"));
        let mut active: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("Mitigation")))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        active.sort();
        let found = match &active[..] {
            [] => "none active".to_owned(),
            active => format!("active, and part of every system call's price: {}", active.join(", ")),
        };
        Check::ok("mitigations", found)
    }

    fn clock_source(&self) -> Check {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        match self.read(path) {
            None => Check::new("clock-source", State::Unavailable, "the kernel does not say", None),
            Some(slow) if ["hpet", "acpi_pm", "jiffies", "refined-jiffies"].contains(&slow.as_str()) => {
                Check::new(
                    "clock-source",
                    State::Limited,
                    format!("{slow}: reading it is a system call, which percentiles pay once a round trip"),
                    Some(&format!("echo tsc | sudo tee {path}")),
                )
            }
            Some(source) => Check::ok("clock-source", source),
        }
    }
}

fn memlock(ipc_lock: bool) -> Check {
    let found = format!("RLIMIT_MEMLOCK is {}", limits::memlock());
    if ipc_lock {
        return Check::ok("memlock", format!("{found}, which does not bind this process"));
    }
    if limits::memlock_bytes() >= 1 << 30 {
        return Check::ok("memlock", found);
    }
    let found =
        format!("{found}: zero_copy may pin no more at a time, all of this user's connections together");
    let remedy = format!("sudo prlimit --memlock=unlimited --pid {}", "$$");
    Check::new("memlock", State::Limited, found, Some(&remedy))
}

fn cpus() -> Check {
    let most = Matrix::by_threads().threads.into_iter().max().unwrap_or(1);
    match Cpus::allowed() {
        Err(error) => Check::new("cpus", State::Unavailable, error.to_string(), None),
        Ok(cpus) if cpus.numbers().len() == 1 => Check::new(
            "cpus",
            State::Limited,
            "1 is allowed: placement split is impossible, and all pairs share it",
            None,
        ),
        Ok(cpus) if cpus.numbers().len() < most => {
            let count = cpus.numbers().len();
            let found = format!("{count} are allowed: the {most} pairs of the default matrix share them");
            Check::new("cpus", State::Limited, found, None)
        }
        Ok(cpus) => Check::ok("cpus", format!("{} are allowed", cpus.numbers().len())),
    }
}

fn hybrid(pmus: &Pmus) -> Check {
    if pmus.is_hybrid() {
        let kinds: Vec<_> = pmus.cores.iter().map(|pmu| format!("{} ({})", pmu.name, pmu.cpus)).collect();
        let found = format!("{}: pairs on unlike cores are unlike", kinds.join(" and "));
        let last = &pmus.cores[pmus.cores.len() - 1].cpus;
        Check::new("hybrid", State::Limited, found, Some(&format!("taskset -c {last} cargo bench")))
    } else {
        Check::ok("hybrid", "all cores are of one kind, as far as their PMUs say")
    }
}

fn zero_copy_socket() -> Check {
    let tried = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?))
        .and_then(|socket| Socket::enable_zero_copy(&socket));
    match tried {
        Ok(()) => Check::ok("zerocopy", "the kernel takes SO_ZEROCOPY"),
        Err(error) => Check::new(
            "zerocopy",
            State::Unavailable,
            format!("setsockopt(2) SO_ZEROCOPY: {error}: TCP has it since Linux 4.14"),
            None,
        ),
    }
}

fn fragments(files: &Files) -> Check {
    let most = files.number("/proc/sys/net/core/max_skb_frags").unwrap_or(17);
    let found = format!(
        "{most} pieces of pages to a packet: a 64 KiB message of the heap layout lies on up to 24, and is cut in two"
    );
    Check::ok("fragments", found)
}

/// Tries namespaces, and whether a zero-copy send between them is copied.
fn namespaces(setup: &Setup) -> [Check; 2] {
    let untried = |why: &str| Check::new("veth-copy", State::Unavailable, format!("not tried: {why}"), None);
    if setup.topology == Topology::Loopback {
        let found = "not tried: loopback was asked for";
        return [
            Check::new("namespaces", State::Unavailable, found, None),
            untried("loopback was asked for"),
        ];
    }
    let testbed = match Testbed::start(setup) {
        Ok(testbed) => testbed,
        Err(error) => {
            let text = error.to_string();
            let refused = Check::new("namespaces", State::Unavailable, &text, command_in(&text));
            return [refused, untried("there are no namespaces")];
        }
    };
    let made = Check::ok("namespaces", format!("tried: {}", setup.topology));
    let case = Case {
        path: SendPath::ZeroCopy,
        layout: Layout::Page,
        placement: Placement::Free,
        ..Case::default()
    };
    let share = testbed.open(case).and_then(|mut instance| {
        verify(&mut instance)?;
        let counts = time(&mut instance, Duration::from_millis(2), Mode::Time)?.server.zero_copy;
        Ok(counts.and_then(|counts| counts.copied_share()))
    });
    let copied = match share {
        Err(error) => untried(&error.to_string()),
        Ok(None) => untried("no completion arrived"),
        Ok(Some(share)) if share > 0.0 => Check::new(
            "veth-copy",
            State::Limited,
            format!(
                "tried: the kernel copied {:.0} % of MSG_ZEROCOPY sends after all: what zero_copy saves cannot be \
                 seen here, only what it costs; two real network ports show it",
                share * 100.0
            ),
            Some("sudo ./netns-setup.sh up --nic IF_S IF_C"),
        ),
        Ok(Some(_)) => Check::ok("veth-copy", "tried: no send was copied"),
    };
    [made, copied]
}

#[cfg(test)]
mod tests {
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
    fn limits_that_do_not_bind_a_process_are_ok_for_it() {
        let files = [("proc/sys/kernel/perf_event_paranoid", "4"), ("proc/sys/net/core/wmem_max", "212992")];
        let checks = machine(&files, true);
        for name in ["paranoid", "wmem", "memlock"] {
            assert_eq!(check(&checks, name).state, State::Ok);
        }
    }
}
