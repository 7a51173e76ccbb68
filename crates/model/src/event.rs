//! What can be counted of a thread, and what was: plain data. The counters do
//! the counting.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

use crate::case::{Axis, CaseError};

/// Something that can be counted.
#[derive(Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "kebab-case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// CPU cycles, at whatever frequency the CPU runs.
    Cycles,
    /// Instructions retired.
    Instructions,
    /// Branches that were predicted wrongly.
    BranchMisses,
    /// Loads that missed the level 1 data cache.
    L1dLoadMisses,
    /// Loads that missed the last level cache.
    LlcLoadMisses,
    /// Accesses to the cache that the CPU's maker chose for this event, usually the last level.
    CacheReferences,
    /// Those of them that missed.
    CacheMisses,
    /// Loads that missed the data TLB.
    DtlbLoadMisses,
    /// The time stamp counter while the thread runs (`msr/tsc/`): cycles of constant rate. x86
    /// alone.
    RefCycles,
    /// CPU time, in nanoseconds.
    #[serde(rename = "task_clock_ns")]
    TaskClock,
    /// Times that the thread gave up a CPU, or lost it.
    ContextSwitches,
    /// Times that the thread went on on another CPU.
    CpuMigrations,
    /// Page faults.
    PageFaults,
}

/// Where an event is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterSource {
    /// By the PMU of the core; on hybrid CPUs by each kind of core's.
    Core,
    /// By the `msr` PMU, which reads the time stamp counter.
    Msr,
    /// By the kernel.
    Software,
}

impl Axis for Event {
    const NAME: &'static str = "counter";
}

impl Event {
    /// Where it is counted.
    pub fn source(self) -> CounterSource {
        match self {
            Self::TaskClock | Self::ContextSwitches | Self::CpuMigrations | Self::PageFaults => {
                CounterSource::Software
            }
            Self::RefCycles => CounterSource::Msr,
            _ => CounterSource::Core,
        }
    }

    /// Events that are related to each other share a group, so that they are counted over the same
    /// time; small groups find room on the PMU where large ones do not.
    pub fn companions(self) -> u8 {
        match self {
            Self::Cycles | Self::Instructions => 0,
            Self::CacheReferences | Self::CacheMisses => 1,
            Self::TaskClock | Self::ContextSwitches | Self::CpuMigrations | Self::PageFaults => 2,
            Self::BranchMisses => 3,
            Self::L1dLoadMisses => 4,
            Self::LlcLoadMisses => 5,
            Self::DtlbLoadMisses => 6,
            Self::RefCycles => 7,
        }
    }

    /// What one of them is called in the plural, with the unit where it has one.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::Instructions => "instructions",
            Self::BranchMisses => "branch misses",
            Self::L1dLoadMisses => "L1d load misses",
            Self::LlcLoadMisses => "LLC load misses",
            Self::CacheReferences => "cache references",
            Self::CacheMisses => "cache misses",
            Self::DtlbLoadMisses => "dTLB load misses",
            Self::RefCycles => "reference cycles",
            Self::TaskClock => "CPU ns",
            Self::ContextSwitches => "context switches",
            Self::CpuMigrations => "CPU migrations",
            Self::PageFaults => "page faults",
        }
    }

    /// Reads what `--counters` takes: `all`, `none`, or a comma list of events.
    ///
    /// # Errors
    /// [`CaseError::UnknownWord`], which lists the events there are; [`CaseError::EmptyList`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, CaseError> {
        match text {
            "all" => Ok(<Self as VariantArray>::VARIANTS.to_vec()),
            "none" => Ok(Vec::new()),
            "" => Err(CaseError::EmptyList),
            list => {
                list.split(',').map(|word| <Self as Axis>::parse(&word.trim().replace('_', "-"))).collect()
            }
        }
    }
}

/// What is known of one event over a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// It was counted.
    Counted {
        /// The count while the event was on the PMU.
        value: u64,
        /// For how long the event was meant to count, while its thread ran.
        enabled_ns: u64,
        /// For how long it did. Less, where more events were asked for than the PMU has counters.
        running_ns: u64,
    },
    /// It was not.
    Unavailable {
        /// Why, and what lifts it.
        reason: String,
    },
}

/// The events of one thread, of one side, or of several windows.
pub type Readings = BTreeMap<Event, Reading>;

impl Reading {
    /// The count, extrapolated to the whole time where it is [`scaled`](Self::is_scaled). None
    /// where it never got onto the PMU, though it reads as zero.
    pub fn value(&self) -> Option<u64> {
        match *self {
            Self::Counted { value, enabled_ns, running_ns } if running_ns < enabled_ns => (running_ns > 0)
                .then(|| (value as f64 * enabled_ns as f64 / running_ns as f64).round() as u64),
            Self::Counted { value, .. } => Some(value),
            Self::Unavailable { .. } => None,
        }
    }

    /// Whether the event had to share its counter, so that the value is an estimate.
    pub fn is_scaled(&self) -> bool {
        matches!(self, Self::Counted { enabled_ns, running_ns, .. } if running_ns < enabled_ns)
    }

    /// Why there is no value.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unavailable { reason } => Some(reason),
            Self::Counted { running_ns: 0, enabled_ns: 1.., .. } => Some(
                "the PMU never had a free counter for it: another user of the PMU (a profiler, the NMI watchdog) \
                 holds them: ask for fewer counters, or `sudo sysctl -w kernel.nmi_watchdog=0`",
            ),
            Self::Counted { .. } => None,
        }
    }

    /// Joins what several PMUs counted of one thread: it ran on one kind of core or the other,
    /// never on both at once, so the times that they counted for add up.
    #[must_use]
    pub fn across_pmus(self, other: Self) -> Self {
        self.joined(other, |(enabled, running), (e, r)| (enabled.max(e), (running + r).min(enabled.max(e))))
    }

    /// Joins what was counted of two threads, or over two windows.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.joined(other, |(enabled, running), (e, r)| (enabled + e, running + r))
    }

    /// Adds two counts up; `times` joins for how long each was enabled and running. What is missing
    /// of one is missing of both: a part is not the sum.
    fn joined(self, other: Self, times: impl FnOnce((u64, u64), (u64, u64)) -> (u64, u64)) -> Self {
        match (self, other) {
            (
                Self::Counted { value, enabled_ns, running_ns },
                Self::Counted { value: v, enabled_ns: e, running_ns: r },
            ) => {
                let (enabled_ns, running_ns) = times((enabled_ns, running_ns), (e, r));
                Self::Counted { value: value + v, enabled_ns, running_ns }
            }
            (unavailable @ Self::Unavailable { .. }, _) | (_, unavailable) => unavailable,
        }
    }
}

/// Adds one thread's or one window's readings to another's.
pub fn add(sum: &mut Readings, readings: Readings) {
    for (event, reading) in readings {
        let total = match sum.remove(&event) {
            Some(total) => total.plus(reading),
            None => reading,
        };
        sum.insert(event, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(value: u64, enabled_ns: u64, running_ns: u64) -> Reading {
        Reading::Counted { value, enabled_ns, running_ns }
    }

    fn missing() -> Reading {
        Reading::Unavailable { reason: "gone".to_owned() }
    }

    #[test]
    fn lists_take_words_with_hyphens_or_underscores() {
        assert_eq!(
            Event::parse_list("cycles,l1d_load_misses").unwrap(),
            [Event::Cycles, Event::L1dLoadMisses]
        );
        assert_eq!(Event::parse_list("all").unwrap().len(), 13);
        assert_eq!(Event::parse_list("none").unwrap(), []);
        let error = Event::parse_list("cycles,flops").unwrap_err().to_string();
        assert!(error.contains("flops") && error.contains("task-clock"), "{error}");
        assert!(Event::parse_list("").is_err() && Event::parse_list("cycles,").is_err());
    }

    #[test]
    fn a_multiplexed_count_is_extrapolated_and_marked() {
        let shared = counted(100, 1000, 400);
        assert_eq!((shared.value(), shared.is_scaled()), (Some(250), true));
        let whole = counted(100, 1000, 1000);
        assert_eq!((whole.value(), whole.is_scaled()), (Some(100), false));
    }

    #[test]
    fn a_count_that_never_ran_is_missing_and_not_zero() {
        let never = counted(0, 1000, 0);
        assert_eq!(never.value(), None);
        assert!(never.reason().unwrap().contains("nmi_watchdog"), "{never:?}");
        assert_eq!(counted(0, 0, 0).value(), Some(0), "a thread that did not run did nothing");
        // One thread whose group had no turn is no reason to lose the others' counts.
        let both = never.plus(counted(100, 1000, 1000));
        assert_eq!((both.value(), both.is_scaled()), (Some(200), true));
    }

    #[test]
    fn a_hybrid_count_is_the_sum_over_core_kinds_and_not_scaled() {
        // A thread that ran 600 ns on one kind of core, and 400 on the other.
        let both = counted(600, 1000, 600).across_pmus(counted(100, 1000, 400));
        assert_eq!((both.value(), both.is_scaled()), (Some(700), false));
    }

    #[test]
    fn a_part_is_not_the_sum() {
        assert_eq!(counted(1, 1, 1).plus(missing()), missing());
        assert_eq!(missing().plus(counted(1, 1, 1)), missing());
        assert_eq!(counted(1, 10, 5).plus(counted(2, 10, 10)), counted(3, 20, 15));
        assert_eq!(counted(1, 1, 1).across_pmus(missing()), missing());
    }
}
