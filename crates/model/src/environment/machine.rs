//! A machine, as far as it bears on what is measured on it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Cpus;

/// The kernel, the CPU, and what limits a process there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's name; on ARM the numbers that stand for it.
    pub cpu_model: String,
    /// Whether cores run two threads at a time; none where the kernel does not say.
    #[serde(default)]
    pub smt: Option<bool>,
    /// What the process's cgroups allow.
    #[serde(default)]
    pub cgroup: CgroupLimits,
    /// Whether a thread's CPU time includes what it spent in softirqs, where the kernel receives
    /// packets and veth copies zero-copy data. Where it does not, or where that is not known
    /// (none), CPU times do not compare.
    #[serde(default)]
    pub softirq_in_cpu_time: Option<bool>,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: String,
    /// `RLIMIT_NOFILE`.
    pub open_files: String,
    /// Sysctls that bear on the paths, as the process's namespace has them.
    pub sysctls: Vec<(String, String)>,
    /// How it is set up otherwise; none where an earlier version did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
}

/// What else of a machine's set-up bears on the cost of sending. Nothing here changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// When the kernel joins pages to huge ones: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// `GLIBC_TUNABLES` of the process: with `glibc.malloc.hugetlb` its heap lies on huge pages.
    pub glibc_tunables: Option<String>,
    /// The frequency governors of the CPUs that are used, each once; empty where there are none.
    pub governors: Vec<String>,
    /// The CPU's vulnerabilities by name, and what the kernel says of each.
    pub vulnerabilities: BTreeMap<String, String>,
    /// How devices reach memory: the types of the IOMMU's groups, each once; empty where there is
    /// no IOMMU.
    pub iommu: Vec<String>,
    /// How many fragments a packet of zero-copy sends may have: the kernel's constant
    /// `MAX_SKB_FRAGS`.
    pub most_fragments: Option<u64>,
    /// `net.core.max_skb_frags`, the limit of the other paths. It says nothing of the constant.
    pub max_skb_frags: Option<u64>,
    /// Whether the CPUs may clock higher than their nominal frequency; none where no switch says
    /// so, or an earlier version did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turbo: Option<bool>,
    /// What the kernel reads the time from; none where it does not say, or an earlier version did
    /// not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_source: Option<String>,
}

impl Tuning {
    /// Each setting by name, in words; none of what was not recorded. What the kernel does not say
    /// is not known. Every field is taken here, so that a new one cannot be forgotten.
    pub(super) fn facts(&self) -> [(&'static str, Option<String>); 9] {
        let Self {
            transparent_huge_pages,
            glibc_tunables,
            governors,
            vulnerabilities,
            iommu,
            most_fragments,
            max_skb_frags,
            turbo,
            clock_source,
        } = self;
        let known = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
        let list = |values: &[String], none: &str| match values {
            [] => none.to_owned(),
            values => values.join(" and "),
        };
        let does = |(name, text): (&String, &String)| format!("{name}: {text}");
        let affected = vulnerabilities.iter().filter(|(_, text)| *text != "Not affected");
        [
            ("transparent huge pages", Some(known(transparent_huge_pages.clone()))),
            ("GLIBC_TUNABLES", Some(glibc_tunables.clone().unwrap_or_else(|| "not set".to_owned()))),
            ("governor", Some(list(governors, "not known"))),
            ("mitigations", Some(list(&affected.map(does).collect::<Vec<_>>(), "none needed"))),
            ("IOMMU", Some(list(iommu, "none"))),
            ("CONFIG_MAX_SKB_FRAGS", Some(known(most_fragments.map(|most| most.to_string())))),
            ("net.core.max_skb_frags", Some(known(max_skb_frags.map(|most| most.to_string())))),
            ("turbo", turbo.map(|on| if on { "on" } else { "off" }.to_owned())),
            ("clock source", clock_source.clone()),
        ]
    }
}

impl fmt::Display for Tuning {
    /// Of the vulnerabilities, the names of those that the kernel does something about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mitigated = self.vulnerabilities.iter().filter(|(_, text)| text.starts_with("Mitigation"));
        let mitigated: Vec<_> = mitigated.map(|(name, _)| name.as_str()).collect();
        let known = self.facts().into_iter().filter_map(|(name, value)| Some((name, value?)));
        let words = known.map(|(name, value)| match (name, &mitigated[..]) {
            ("mitigations", []) => "mitigations none".to_owned(),
            ("mitigations", names) => format!("mitigations {}", names.join(" ")),
            _ => format!("{name} {value}"),
        });
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

impl Machine {
    /// What limits the memory of zero-copy sends. Of the other limits, what they do is described
    /// elsewhere (the sockets' buffers), or bears on no number (open files).
    pub(super) fn pinned_memory(&self) -> String {
        let optmem = self.sysctls.iter().find(|(name, _)| name.ends_with("optmem_max"));
        format!("memlock {}, optmem_max {}", self.memlock, optmem.map_or("unknown", |(_, value)| value))
    }
}

/// A build of this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The git revision that it was built from, or `unknown`.
    pub revision: String,
    /// Whether its source had changes that were not committed.
    pub dirty: bool,
}

impl Program {
    /// The revision, with a mark if it is not all.
    pub fn name(&self) -> String {
        if self.dirty { format!("{}-dirty", self.revision) } else { self.revision.clone() }
    }
}

/// What the client runs on, as it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientMachine {
    /// The machine's name.
    pub host: String,
    /// The build of this program that the client is.
    pub program: Program,
    /// Whether it is the server's machine: the same boot of the same kernel.
    pub is_the_servers: bool,
    /// The CPUs that pairs' ends are dealt to there.
    pub cpus: Cpus,
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
}

impl ClientMachine {
    /// All that bears on what is measured, in words. The host's name does not.
    pub(super) fn in_full(&self) -> String {
        let Self { host: _, program, is_the_servers, cpus, machine } = self;
        // Its tuning is compared by itself.
        let Machine {
            kernel,
            cpu_model,
            smt,
            cgroup,
            softirq_in_cpu_time,
            memlock: _, // these three: see `pinned_memory`
            open_files: _,
            sysctls: _,
            tuning: _,
        } = machine;
        format!(
            "{}, {}, {cpu_model}, cpus {:?}, smt {}, {cgroup}, kernel {kernel}, softirq in CPU time {}, {}",
            if *is_the_servers { "the server's machine" } else { "another machine" },
            program.name(),
            cpus.numbers(),
            super::known(*smt, "on", "off"),
            super::known(*softirq_in_cpu_time, "yes", "no"),
            machine.pinned_memory(),
        )
    }
}

impl fmt::Display for ClientMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, program, is_the_servers, cpus, machine } = self;
        let Machine { kernel, cpu_model, cgroup, memlock, open_files, .. } = machine;
        let which = if *is_the_servers { "the server's machine" } else { "another machine" };
        let (program, cpus) = (program.name(), cpus.list());
        write!(f, "{host} ({which}), sendpath {program}, kernel {kernel}, cpus {cpus} of {cpu_model}")?;
        if cgroup.any() {
            write!(f, ", {cgroup}")?;
        }
        write!(f, ", memlock {memlock}, open files {open_files}")
    }
}

/// The smallest limits among a process's cgroup and those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// How many CPUs may be busy at a time, on average over a period; none where there is no limit.
    pub cpus: Option<f64>,
    /// Memory in bytes; none where there is no limit.
    pub memory_bytes: Option<u64>,
}

impl CgroupLimits {
    /// Whether there is a limit.
    pub fn any(&self) -> bool {
        self.cpus.is_some() || self.memory_bytes.is_some()
    }
}

impl fmt::Display for CgroupLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpus {
            Some(cpus) => write!(f, "CPU quota {cpus:.2} CPUs, ")?,
            None => f.write_str("no CPU quota, ")?,
        }
        match self.memory_bytes {
            Some(bytes) => write!(f, "memory limit {} MiB", bytes >> 20),
            None => f.write_str("no memory limit"),
        }
    }
}
