//! What else the machine has to do while something is measured on it.

use std::path::Path;

use super::file;
use crate::error::Result;
use crate::results::manifest::Load;

/// Looked at before a measurement, and once more after it.
pub(crate) struct LoadWatch {
    before: f64,
    cpus: usize,
    ticks: Option<Ticks>,
}

/// Of all CPUs together since the machine was started, in `USER_HZ`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl LoadWatch {
    /// None where /proc/loadavg is not to be had.
    ///
    /// # Errors
    /// A file that could not be read at this moment.
    pub(crate) fn begin() -> Result<Option<Self>> {
        let Some(text) = file::read(Path::new("/proc/loadavg"))? else { return Ok(None) };
        let before = text.split_whitespace().next().and_then(|first| first.parse().ok());
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let ticks = ticks()?;
        Ok(before.map(|before| Self { before, cpus, ticks }))
    }

    /// What is known so far.
    ///
    /// # Errors
    /// A file that could not be read at this moment.
    pub(crate) fn so_far(&self) -> Result<Load> {
        let stolen_share = self.ticks.zip(ticks()?).and_then(|(then, now)| {
            let passed = now.all.checked_sub(then.all).filter(|passed| *passed > 0)?;
            Some(now.stolen.saturating_sub(then.stolen) as f64 / passed as f64)
        });
        Ok(Load { before: self.before, cpus: self.cpus, stolen_share })
    }
}

fn ticks() -> Result<Option<Ticks>> {
    Ok(file::read(Path::new("/proc/stat"))?.and_then(|text| Ticks::of(&text)))
}

impl Ticks {
    /// The first line of `proc_stat(5)`: user, nice, system, idle, iowait, irq, softirq, steal. Time
    /// of guests is in that of users.
    fn of(text: &str) -> Option<Self> {
        let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<u64> = numbers.take(8).map_while(|number| number.parse().ok()).collect();
        Some(Self { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_ticks_are_the_eighth() {
        let text = "cpu  10 20 30 40 50 60 70 80 5 5\ncpu0 1 2 3\n";
        assert_eq!(Ticks::of(text), Some(Ticks { all: 360, stolen: 80 }));
        assert_eq!(Ticks::of("cpu  1 2 3"), None, "a kernel that does not tell of it");
    }

    #[test]
    fn this_machine_is_looked_at() {
        let watch = LoadWatch::begin().unwrap().expect("Linux has /proc/loadavg");
        let load = watch.so_far().unwrap();
        assert!(load.before >= 0.0 && load.cpus > 0, "{load:?}");
    }
}
