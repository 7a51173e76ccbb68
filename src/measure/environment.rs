//! Reads the surroundings of a measurement.

use std::fs;
use std::path::Path;

use rustix::process::Resource;

use crate::case::{Placement, Receiver};
pub use crate::environment::Environment;
use crate::environment::{Effective, SinkLink};
use crate::error::Result;
use crate::limits::{self, cgroup};
use crate::measure::softirq;
use crate::pair::{Setup, Testbed};

const SYSCTLS: [&str; 3] = ["net/core/optmem_max", "net/core/wmem_max", "net/core/rmem_max"];

impl Environment {
    /// Reads the surroundings that the calling thread is in. `placements` are those to be measured.
    #[must_use]
    pub fn read(setup: &Setup, effective: &Effective, placements: &[Placement]) -> Self {
        let root = Path::new("/");
        let kernel = nix::sys::utsname::uname()
            .map_or_else(|errno| format!("unknown: {errno}"), |name| name.release().to_string_lossy().into());
        Self {
            kernel,
            cpu_model: cpu_model(root),
            smt: smt(root),
            cgroup: cgroup::limits(root),
            softirq_in_cpu_time: softirq::in_cpu_time(),
            memlock: limits::memlock(),
            open_files: limits::soft(Resource::Nofile),
            sysctls: SYSCTLS.iter().map(|name| ((*name).to_owned(), limits::sysctl(name))).collect(),
            placements: placements.iter().map(|&placement| effective.cpus.describe(placement)).collect(),
            asked_buffers: setup.socket.buffers.to_string(),
            effective: effective.clone(),
            sink: None,
        }
    }

    /// As [`read`](Self::read), for cases with `receivers`: with the sink's link where that is among them.
    ///
    /// # Errors
    /// Where nothing but a sink is asked for, and it cannot be made.
    pub fn read_for(
        setup: &Setup,
        testbed: &Testbed,
        placements: &[Placement],
        receivers: &[Receiver],
    ) -> Result<Self> {
        let mut environment = Self::read(setup, testbed.effective(), placements);
        if receivers.contains(&Receiver::Sink) {
            let is_alone = receivers.iter().all(|&receiver| receiver == Receiver::Sink);
            environment.sink = match testbed.sink_link() {
                Ok(sink) => Some(SinkLink { is_alone, ..sink }),
                Err(error) if is_alone => return Err(error),
                // The others can be measured, and each case of the sink says why it cannot.
                Err(_) => None,
            };
        }
        Ok(environment)
    }
}

/// Whether cores run two threads at a time; none where the kernel does not say.
pub(crate) fn smt(root: &Path) -> Option<bool> {
    let active = fs::read_to_string(root.join("sys/devices/system/cpu/smt/active")).ok()?;
    Some(active.trim() == "1")
}

/// The CPU's name from `/proc/cpuinfo`. ARM's has no name there: implementer and part stand for it, those of
/// every kind of core.
fn cpu_model(root: &Path) -> String {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let values = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    if let Some(name) = values("model name").next() {
        return name;
    }
    let mut kinds = Vec::new();
    for (implementer, part) in values("CPU implementer").zip(values("CPU part")) {
        let kind = format!("implementer {implementer} part {part}");
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let architecture = std::env::consts::ARCH;
    if kinds.is_empty() { architecture.to_owned() } else { format!("{architecture} {}", kinds.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(cpuinfo: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/cpuinfo"), cpuinfo).unwrap();
        cpu_model(root.path())
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
    fn smt_is_on_off_or_unknown() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(smt(root.path()), None);
        let folder = root.path().join("sys/devices/system/cpu/smt");
        fs::create_dir_all(&folder).unwrap();
        for (text, state) in [("1\n", true), ("0\n", false)] {
            fs::write(folder.join("active"), text).unwrap();
            assert_eq!(smt(root.path()), Some(state));
        }
    }
}
