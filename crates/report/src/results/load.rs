//! What keeps a machine from being itself while something is measured on it, and from when on that
//! matters.

use serde::{Deserialize, Serialize};

/// From so many waiting threads for each CPU on, a machine is busy.
const BUSY_THREADS: f64 = 0.5;
/// From such a share of stolen time on, it is.
const BUSY_STOLEN: f64 = 0.02;
/// Where no CPU comes to such a share of its highest frequency, it is held back. With all cores at
/// work, processors stay above it by themselves.
const SLOW: f64 = 0.6;

/// What else a machine had to do, and how fast it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Threads of others that ran or wanted to, in the mean of the moments before the sweep
    /// (`proc_loadavg(5)`, the fourth field). The load average would have in it what has just
    /// ended.
    pub before: f64,
    /// CPUs of the machine, which they share.
    pub cpus: usize,
    /// What share of the CPUs' time the hypervisor gave to others while it was measured
    /// (`proc_stat(5)`, steal); none before it is known.
    pub stolen_share: Option<f64>,
    /// How often cores lowered their frequency for their heat while it was measured, summed over
    /// CPUs (`thermal_throttle/core_throttle_count`); none where the machine does not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u64>,
    /// The frequency of the fastest CPU at the end, as a share of its highest (`cpufreq`); none
    /// where the machine does not tell, as most virtual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_share: Option<f64>,
}

impl Load {
    /// What made the machine another than it is when it is quiet: `load 3.1 on 2 CPUs`; none where
    /// it was quiet.
    pub fn busy_with(&self) -> Option<String> {
        let all: Vec<String> = self.work().into_iter().chain(self.held_back()).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// What is to be done about it.
    pub fn remedy(&self) -> &'static str {
        if self.work().is_empty() {
            "Let the machine cool, set the governor to performance, and measure again"
        } else {
            "End what else runs and measure again: more time on a busy machine helps little"
        }
    }

    /// The work of others.
    fn work(&self) -> Vec<String> {
        let cpus = if self.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", self.cpus) };
        let is_loaded = self.before / self.cpus as f64 >= BUSY_THREADS;
        let loaded = is_loaded.then(|| format!("load {:.1} on {cpus}", self.before));
        let stolen = self.stolen_share.filter(|share| *share >= BUSY_STOLEN);
        let stolen = stolen.map(|share| format!("{:.0} % of the CPUs' time stolen", share * 100.0));
        loaded.into_iter().chain(stolen).collect()
    }

    /// What its frequency was.
    fn held_back(&self) -> Vec<String> {
        let throttled = self.throttled.filter(|times| *times > 0);
        let throttled = throttled.map(|_| "throttled for its heat".to_owned());
        let slow = self.frequency_share.filter(|share| *share < SLOW);
        let slow = slow.map(|share| format!("no CPU above {:.0} % of its frequency", share * 100.0));
        throttled.into_iter().chain(slow).collect()
    }

    /// Of two parts of a sweep that was resumed: the worse of each.
    #[must_use]
    pub(super) fn worse(self, other: Self) -> Self {
        let most = |one: Option<f64>, other| one.into_iter().chain(other).reduce(f64::max);
        Self {
            before: self.before.max(other.before),
            cpus: self.cpus,
            stolen_share: most(self.stolen_share, other.stolen_share),
            throttled: self.throttled.into_iter().chain(other.throttled).reduce(|one, other| one + other),
            frequency_share: self.frequency_share.into_iter().chain(other.frequency_share).reduce(f64::min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_and_its_remedy_fits() {
        let quiet = Load {
            before: 0.1,
            cpus: 2,
            stolen_share: Some(0.0),
            throttled: Some(0),
            frequency_share: Some(0.95),
        };
        assert_eq!(quiet.busy_with(), None);
        for (load, words, remedy) in [
            (Load { before: 3.1, ..quiet }, "load 3.1 on 2 CPUs", "End what else runs"),
            (
                Load { stolen_share: Some(0.25), ..quiet },
                "25 % of the CPUs' time stolen",
                "End what else runs",
            ),
            (Load { throttled: Some(7), ..quiet }, "throttled for its heat", "cool"),
            (Load { frequency_share: Some(0.41), ..quiet }, "no CPU above 41 % of its frequency", "governor"),
        ] {
            assert_eq!(load.busy_with().as_deref(), Some(words));
            assert!(load.remedy().contains(remedy), "{words}");
            assert_eq!(quiet.worse(load).busy_with(), load.busy_with());
        }
    }
}
