//! What else the machine has to do while something is measured on it, and how fast it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::file;
use crate::error::Result;
use crate::results::load::Load;

/// Looked at before a measurement, and once more after it.
pub(crate) struct LoadWatch {
    before: f64,
    ticks: Ticks,
    throttled: Option<u64>,
}

const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Of `3.01 2.50 2.20 4/512 1234`: 4 are runnable, one of which is this thread.
fn others_running(text: &str) -> Option<f64> {
    let running: f64 = text.split_whitespace().nth(3)?.split_once('/')?.0.parse().ok()?;
    Some((running - 1.0).max(0.0))
}

/// Of all CPUs together since the machine was started, in `USER_HZ`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    all: u64,
    stolen: u64,
    /// How many CPUs are online.
    cpus: usize,
}

impl LoadWatch {
    /// Looks for a fifth of a second. None where /proc has not what it takes.
    ///
    /// # Errors
    /// A file that could not be read at this moment.
    pub(crate) fn begin() -> Result<Option<Self>> {
        let mut running = Vec::new();
        for _ in 0..LOOKS {
            let Some(text) = file::read(Path::new("/proc/loadavg"))? else { return Ok(None) };
            running.extend(others_running(&text));
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let before = running.iter().sum::<f64>() / running.len().max(1) as f64;
        let ticks = ticks()?;
        let throttled = throttled(Path::new("/"))?;
        Ok(ticks.filter(|_| !running.is_empty()).map(|ticks| Self { before, ticks, throttled }))
    }

    /// What is known so far.
    ///
    /// # Errors
    /// A file that could not be read at this moment.
    pub(crate) fn so_far(&self) -> Result<Load> {
        let then = self.ticks;
        let stolen_share = ticks()?.and_then(|now| {
            let passed = now.all.checked_sub(then.all).filter(|passed| *passed > 0)?;
            Some(now.stolen.saturating_sub(then.stolen) as f64 / passed as f64)
        });
        let throttled = throttled(Path::new("/"))?.zip(self.throttled);
        Ok(Load {
            before: self.before,
            cpus: then.cpus,
            stolen_share,
            throttled: throttled.map(|(now, then)| now.saturating_sub(then)),
            frequency_share: None,
        })
    }

    /// The same when the work is done, and how fast the CPUs were by then: at rest they may be
    /// slow.
    ///
    /// # Errors
    /// As [`so_far`](Self::so_far).
    pub(crate) fn at_end(&self) -> Result<Load> {
        Ok(Load { frequency_share: frequency_share(Path::new("/"))?, ..self.so_far()? })
    }
}

/// How often cores have lowered their frequency for their heat since the machine was started. Of a
/// core with two threads it is counted twice.
fn throttled(root: &Path) -> Result<Option<u64>> {
    let counts = of_cpus(root, "thermal_throttle/core_throttle_count")?;
    Ok((!counts.is_empty()).then(|| counts.values().sum()))
}

/// The frequency of the CPU that is nearest to its highest, as a share of that.
fn frequency_share(root: &Path) -> Result<Option<f64>> {
    let now = of_cpus(root, "cpufreq/scaling_cur_freq")?;
    let most = of_cpus(root, "cpufreq/cpuinfo_max_freq")?;
    // A CPU that is offline has the second alone.
    let shares = now.iter().filter_map(|(cpu, now)| Some(*now as f64 / *most.get(cpu)?.max(&1) as f64));
    Ok(shares.reduce(f64::max))
}

/// The number in a file that each CPU has; of those that have it.
fn of_cpus(root: &Path, name: &str) -> Result<BTreeMap<usize, u64>> {
    let mut numbers = BTreeMap::new();
    for cpu in 0.. {
        let folder = root.join(format!("sys/devices/system/cpu/cpu{cpu}"));
        if !folder.exists() {
            break;
        }
        let number = file::read(&folder.join(name))?.and_then(|text| text.parse().ok());
        numbers.extend(number.map(|number| (cpu, number)));
    }
    Ok(numbers)
}

fn ticks() -> Result<Option<Ticks>> {
    Ok(file::read(Path::new("/proc/stat"))?.and_then(|text| Ticks::of(&text)))
}

impl Ticks {
    /// The first line of `proc_stat(5)`: user, nice, system, idle, iowait, irq, softirq, steal.
    /// Time of guests is in that of users.
    fn of(text: &str) -> Option<Self> {
        let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let is_cpu = |line: &&str| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|one: char| one.is_ascii_digit()))
        };
        let cpus = text.lines().filter(is_cpu).count();
        let ticks: Vec<u64> = numbers.take(8).map_while(|number| number.parse().ok()).collect();
        Some(Self { all: ticks.iter().sum(), stolen: *ticks.get(7)?, cpus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn stolen_ticks_are_the_eighth() {
        let text = "cpu  10 20 30 40 50 60 70 80 5 5\ncpu0 1 2 3\n";
        assert_eq!(Ticks::of(text), Some(Ticks { all: 360, stolen: 80, cpus: 1 }));
        assert_eq!(Ticks::of("cpu  1 2 3"), None, "a kernel that does not tell of it");
    }

    #[test]
    fn this_thread_is_not_another() {
        assert_eq!(others_running("3.01 2.50 2.20 4/512 1234\n"), Some(3.0));
        assert_eq!(others_running("3.01 2.50"), None);
    }

    #[test]
    fn a_frequency_is_a_share_of_the_highest_and_heat_is_counted() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((throttled(root.path()).unwrap(), frequency_share(root.path()).unwrap()), (None, None));
        for (cpu, now, count) in [(0, "1200000\n", "3\n"), (1, "1800000\n", "4\n")] {
            let folder = root.path().join(format!("sys/devices/system/cpu/cpu{cpu}"));
            for (name, text) in [
                ("thermal_throttle/core_throttle_count", count),
                ("cpufreq/scaling_cur_freq", now),
                ("cpufreq/cpuinfo_max_freq", "3600000\n"),
            ] {
                fake::write(&folder, name, text);
            }
        }
        assert_eq!(
            (throttled(root.path()).unwrap(), frequency_share(root.path()).unwrap()),
            (Some(7), Some(0.5))
        );
    }

    #[test]
    fn this_machine_is_looked_at() {
        let watch = LoadWatch::begin().unwrap().expect("Linux has /proc/loadavg");
        let load = watch.so_far().unwrap();
        assert!(load.before >= 0.0 && load.cpus > 0, "{load:?}");
    }
}
