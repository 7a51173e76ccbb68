//! Which PMUs there are, from the kernel's event sources below
//! [`/sys/bus/event_source/devices`](https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-bus-event_source-devices).

use std::path::Path;

use once_cell::sync::OnceCell;

use crate::error::Result;
use crate::host::file;

/// Where the kernel lists its PMUs.
pub(super) const DEVICES: &str = "/sys/bus/event_source/devices";

/// The PMU of one kind of core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePmu {
    /// Its name, as in `cpu_core`, `cpu_atom` or `armv8_cortex_a72`.
    pub name: String,
    /// The number that stands for it in `perf_event_attr`.
    pub kind: u32,
    /// The CPUs that have it, as a list such as `0-7`; empty where it is every CPU's.
    pub cpus: String,
}

/// The PMUs that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pmus {
    /// Each kind of core's; empty where no core has one that can be seen.
    pub cores: Vec<CorePmu>,
    /// Type and config of `msr/tsc/`.
    pub tsc: Option<(u32, u64)>,
}

impl Pmus {
    /// Those of this machine, looked up once in the life of the process.
    ///
    /// # Errors
    /// A file that could not be read at this moment. It is read again the next time.
    pub fn of_this_machine() -> Result<&'static Self> {
        static PMUS: OnceCell<Pmus> = OnceCell::new();
        PMUS.get_or_try_init(|| Self::below(Path::new(DEVICES)))
    }

    /// Those that a device tree lists. A core's PMU is called `cpu`, or has a file `cpus` that says
    /// which CPUs are its (hybrid x86, ARM); what belongs to no core has a `cpumask` instead.
    ///
    /// # Errors
    /// As [`of_this_machine`](Self::of_this_machine).
    pub fn below(root: &Path) -> Result<Self> {
        let number =
            |path: &Path| -> Result<Option<u32>> { Ok(file::read(path)?.and_then(|text| text.parse().ok())) };
        let mut cores = Vec::new();
        for path in file::entries(root)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let cpus = file::read(&path.join("cpus"))?;
            if (name == "cpu" || cpus.is_some())
                && let Some(kind) = number(&path.join("type"))?
            {
                cores.push(CorePmu { name, kind, cpus: cpus.unwrap_or_default() });
            }
        }
        let msr = root.join("msr");
        let tsc = file::read(&msr.join("events/tsc"))?;
        let tsc = tsc.and_then(|text| u64::from_str_radix(text.strip_prefix("event=0x")?, 16).ok());
        Ok(Self { cores, tsc: number(&msr.join("type"))?.zip(tsc) })
    }

    /// Whether cores are of more than one kind, so that an event has to be opened for each.
    pub fn is_hybrid(&self) -> bool {
        self.cores.len() > 1
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fake;

    fn tree(files: &[(&str, &str)]) -> Pmus {
        let root = fake::tree(files);
        Pmus::below(root.path()).unwrap()
    }

    fn names(pmus: &Pmus) -> Vec<(&str, u32)> {
        pmus.cores.iter().map(|pmu| (pmu.name.as_str(), pmu.kind)).collect()
    }

    #[test]
    fn an_intel_hybrid_has_a_pmu_for_each_kind_of_core() {
        let pmus = tree(&[
            ("cpu_core/type", "4\n"),
            ("cpu_core/cpus", "0-7\n"),
            ("cpu_atom/type", "10\n"),
            ("cpu_atom/cpus", "8-15\n"),
            ("uncore_imc_0/type", "22\n"),
            ("uncore_imc_0/cpumask", "0\n"),
            ("msr/type", "9\n"),
            ("msr/events/tsc", "event=0x00\n"),
        ]);
        assert_eq!(names(&pmus), [("cpu_atom", 10), ("cpu_core", 4)]);
        assert!(pmus.is_hybrid());
        assert_eq!(pmus.tsc, Some((9, 0)));
    }

    #[test]
    fn arm_names_are_found_by_what_they_have() {
        let pmus = tree(&[
            ("armv8_cortex_a53/type", "8\n"),
            ("armv8_cortex_a53/cpus", "0-3\n"),
            ("armv8_cortex_a72/type", "9\n"),
            ("armv8_cortex_a72/cpus", "4-5\n"),
            ("arm_cmn_0/type", "11\n"),
        ]);
        assert_eq!(names(&pmus), [("armv8_cortex_a53", 8), ("armv8_cortex_a72", 9)]);
        assert_eq!(pmus.tsc, None);
    }

    #[test]
    fn one_kind_of_core_is_no_hybrid_and_none_is_none() {
        let pmus = tree(&[("cpu/type", "4\n")]);
        assert_eq!((names(&pmus), pmus.is_hybrid()), (vec![("cpu", 4)], false));
        assert_eq!(tree(&[("software/type", "1\n")]), Pmus::default());
        assert_eq!(Pmus::below(Path::new("/nonexistent")).unwrap(), Pmus::default());
    }
}
