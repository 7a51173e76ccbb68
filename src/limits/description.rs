//! Reads what a machine is, as far as it bears on what is measured on it.

use std::fs;
use std::path::Path;

use rustix::process::Resource;

use super::{cgroup, file, memlock, soft, softirq, sysctl};
use crate::environment::Machine;
use crate::error::Result;

const SYSCTLS: [&str; 3] = ["net/core/optmem_max", "net/core/wmem_max", "net/core/rmem_max"];

impl Machine {
    /// Reads this machine, and the limits of this process; sysctls as the calling thread's namespace has them.
    ///
    /// # Errors
    /// A call that failed for a reason of this moment.
    pub fn read() -> Result<Self> {
        let root = Path::new("/");
        let kernel = nix::sys::utsname::uname()
            .map_or_else(|errno| format!("unknown: {errno}"), |name| name.release().to_string_lossy().into());
        Ok(Self {
            kernel,
            cpu_model: cpu_model(root)?,
            smt: smt(root)?,
            cgroup: cgroup::limits(root)?,
            softirq_in_cpu_time: softirq::in_cpu_time()?,
            memlock: memlock(),
            open_files: soft(Resource::Nofile),
            sysctls: SYSCTLS.iter().map(|name| ((*name).to_owned(), sysctl(name))).collect(),
        })
    }
}

/// What tells one boot of a kernel from all others, a random number; empty where the kernel does not say.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The machine's name: `SENDPATH_HOST`, since a container's own says nothing, or the kernel's.
#[must_use]
pub fn host_name() -> String {
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

/// The CPU's name from `/proc/cpuinfo`. ARM's has no name there: implementer and part stand for it, those of
/// every kind of core.
fn cpu_model(root: &Path) -> Result<String> {
    let text = file::read(&root.join("proc/cpuinfo"))?.unwrap_or_default();
    let values = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    if let Some(name) = values("model name").next() {
        return Ok(name);
    }
    let mut kinds = Vec::new();
    for (implementer, part) in values("CPU implementer").zip(values("CPU part")) {
        let kind = format!("implementer {implementer} part {part}");
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let architecture = std::env::consts::ARCH;
    Ok(match &kinds[..] {
        [] => architecture.to_owned(),
        kinds => format!("{architecture} {}", kinds.join(" and ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
