//! The counters of one thread: perf-event2 groups, opened by the thread itself.

use std::collections::BTreeMap;
use std::io;

use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Event as Attributes, Hardware, Software};
use perf_event::{Builder, Counter, Group, ReadFormat};

use super::Pmus;
use super::reason::{Refusal, explain};
use crate::event::{CounterSource, Event, Reading, Readings};

/// Counts the thread that opened it, kernel included.
pub struct ThreadCounters {
    groups: Vec<PmuGroup>,
    refused: Readings,
}

/// Events that are on the PMU together or not at all.
struct PmuGroup {
    /// Which PMU: events of two cannot share a group.
    pmu: u32,
    leader: (Event, Group),
    members: Vec<(Event, Counter)>,
    /// Enabled and running time when it was read last: a reset leaves them as they are.
    read_ns: (u64, u64),
}

/// An event of a PMU that has no name in perf-event2.
struct Numbered {
    kind: u32,
    config: u64,
}

impl Attributes for Numbered {
    fn update_attrs(self, attr: &mut perf_event_open_sys::bindings::perf_event_attr) {
        attr.type_ = self.kind;
        attr.config = self.config;
    }
}

impl ThreadCounters {
    /// As [`open`](Self::open), with this machine's PMUs. Where they cannot be looked up at this
    /// moment, no event is counted, for that reason.
    pub fn of_this_machine(events: &[Event]) -> Self {
        match Pmus::of_this_machine() {
            Ok(pmus) => Self::open(events, pmus),
            Err(error) => {
                let reading = Reading::Unavailable { reason: format!("not tried: {error}") };
                let refused = events.iter().map(|event| (*event, reading.clone())).collect();
                Self { groups: Vec::new(), refused }
            }
        }
    }

    /// Opens `events` for the calling thread, each in the first group of its PMU that has room.
    /// What cannot be opened is remembered with the reason.
    pub fn open(events: &[Event], pmus: &Pmus) -> Self {
        let mut counters = Self { groups: Vec::new(), refused: BTreeMap::new() };
        for &event in events {
            if let Err(errno) = counters.add(event, pmus) {
                let reason = Refusal::on_this_machine(event, errno, pmus).map_or_else(
                    |error| format!("not opened, and why could not be looked up: {error}"),
                    |refusal| explain(&refusal),
                );
                counters.refused.insert(event, Reading::Unavailable { reason });
            }
        }
        counters
    }

    /// Starts from zero.
    pub fn start(&mut self) {
        for group in &mut self.groups {
            // A group that cannot be started reads as never having run, and so as unavailable.
            drop(group.leader.1.reset().and_then(|()| group.leader.1.enable()));
        }
    }

    /// Stops, and reads what was counted since the start.
    pub fn stop(&mut self) -> Readings {
        for group in &mut self.groups {
            // As for the start: the reading tells.
            drop(group.leader.1.disable());
        }
        let mut readings = self.refused.clone();
        for (event, reading) in self.groups.iter_mut().flat_map(PmuGroup::read) {
            if self.refused.contains_key(&event) {
                continue; // counted by one kind of core, refused by the other
            }
            let reading = match readings.remove(&event) {
                Some(other) => other.across_pmus(reading),
                None => reading,
            };
            readings.insert(event, reading);
        }
        readings
    }

    /// Opens one event on every PMU that has to count it. The error is the errno; none where there
    /// is no PMU to ask.
    fn add(&mut self, event: Event, pmus: &Pmus) -> Result<(), Option<i32>> {
        let open = |counters: &mut Self, pmu, builder: &mut Builder<'static>| {
            counters.place(event, pmu, builder).map_err(|error| error.raw_os_error().or(Some(libc::EINVAL)))
        };
        match event.source() {
            CounterSource::Msr => {
                let (kind, config) = pmus.tsc.ok_or(None)?;
                open(self, kind, &mut Builder::new(Numbered { kind, config }))
            }
            CounterSource::Software => {
                open(self, SOFTWARE, &mut builder(event)).or_else(|errno| match (event, errno) {
                    // The task clock is a clock: it does not look at the mode, so that without the
                    // right to count the kernel it counts the same.
                    (Event::TaskClock, Some(libc::EACCES | libc::EPERM)) => {
                        let mut builder = builder(event);
                        builder.exclude_kernel(true).exclude_hv(true);
                        self.lead(event, SOFTWARE, &mut builder)
                            .map_err(|error| error.raw_os_error().or(Some(libc::EINVAL)))
                    }
                    _ => Err(errno),
                })
            }
            CounterSource::Core if pmus.is_hybrid() => pmus.cores.iter().try_for_each(|pmu| {
                let mut builder = builder(event);
                // The PMU's number in the upper half picks the kind of core (Linux 5.13).
                builder.attrs_mut().config |= u64::from(pmu.kind) << 32;
                open(self, pmu.kind, &mut builder)
            }),
            CounterSource::Core => open(self, CORE, &mut builder(event)),
        }
    }

    fn place(&mut self, event: Event, pmu: u32, builder: &mut Builder<'static>) -> io::Result<()> {
        builder.include_kernel().include_hv();
        for group in self.groups.iter_mut().filter(|group| group.takes(event, pmu)) {
            match group.leader.1.add(builder) {
                Ok(counter) => {
                    group.members.push((event, counter));
                    return Ok(());
                }
                // The group has more than the PMU can hold at once: on to the next.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(error),
            }
        }
        self.lead(event, pmu, builder)
    }

    fn lead(&mut self, event: Event, pmu: u32, builder: &mut Builder<'static>) -> io::Result<()> {
        builder.read_format(
            ReadFormat::GROUP
                | ReadFormat::TOTAL_TIME_ENABLED
                | ReadFormat::TOTAL_TIME_RUNNING
                | ReadFormat::ID,
        );
        let leader = (event, builder.build_group()?);
        self.groups.push(PmuGroup { pmu, leader, members: Vec::new(), read_ns: (0, 0) });
        Ok(())
    }
}

impl PmuGroup {
    fn takes(&self, event: Event, pmu: u32) -> bool {
        self.pmu == pmu && self.leader.0.companions() == event.companions()
    }

    fn read(&mut self) -> Vec<(Event, Reading)> {
        let (leader_event, group) = &mut self.leader;
        // Not by `Group::read`, which leaves the leader out.
        let data = match group.as_counter_mut().read_group() {
            Ok(data) => data,
            Err(error) => {
                let reading = Reading::Unavailable { reason: format!("read(2) of the counters: {error}") };
                let events = self.members.iter().map(|(event, _)| *event);
                return events.chain([*leader_event]).map(|event| (event, reading.clone())).collect();
            }
        };
        let ns = |time: Option<std::time::Duration>| time.map_or(0, |time| time.as_nanos() as u64);
        let now_ns = (ns(data.time_enabled()), ns(data.time_running()));
        let (enabled_ns, running_ns) = (now_ns.0 - self.read_ns.0, now_ns.1 - self.read_ns.1);
        self.read_ns = now_ns;
        let ids = self.members.iter().map(|(event, counter)| (*event, counter.id()));
        ids.chain([(*leader_event, group.id())])
            .map(|(event, id)| {
                let reading = match data.iter().find(|entry| entry.id() == id) {
                    Some(entry) => Reading::Counted { value: entry.value(), enabled_ns, running_ns },
                    None => {
                        Reading::Unavailable { reason: "the group's read has no entry for it".to_owned() }
                    }
                };
                (event, reading)
            })
            .collect()
    }
}

/// What stands for a PMU that is not picked by number.
const CORE: u32 = u32::MAX;
const SOFTWARE: u32 = u32::MAX - 1;

fn builder(event: Event) -> Builder<'static> {
    let load_misses =
        |which| Builder::new(Cache { which, operation: CacheOp::READ, result: CacheResult::MISS });
    match event {
        Event::Cycles => Builder::new(Hardware::CPU_CYCLES),
        Event::Instructions => Builder::new(Hardware::INSTRUCTIONS),
        Event::BranchMisses => Builder::new(Hardware::BRANCH_MISSES),
        Event::CacheReferences => Builder::new(Hardware::CACHE_REFERENCES),
        Event::CacheMisses => Builder::new(Hardware::CACHE_MISSES),
        Event::L1dLoadMisses => load_misses(CacheId::L1D),
        Event::LlcLoadMisses => load_misses(CacheId::LL),
        Event::DtlbLoadMisses => load_misses(CacheId::DTLB),
        // Opened by number; this is what the number would be called.
        Event::RefCycles => Builder::new(Hardware::REF_CPU_CYCLES),
        Event::TaskClock => Builder::new(Software::TASK_CLOCK),
        Event::ContextSwitches => Builder::new(Software::CONTEXT_SWITCHES),
        Event::CpuMigrations => Builder::new(Software::CPU_MIGRATIONS),
        Event::PageFaults => Builder::new(Software::PAGE_FAULTS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::Instant;

    fn spin() {
        let started = Instant::now();
        while started.elapsed().as_millis() < 20 {
            black_box(0);
        }
    }

    #[test]
    fn the_task_clock_counts_this_thread_between_start_and_stop_alone() {
        let mut counters = ThreadCounters::open(&[Event::TaskClock], &Pmus::default());
        let cpu_ns = || {
            let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            std::time::Duration::from(time).as_nanos() as f64
        };
        spin(); // not counted: before the start
        counters.start();
        let began = cpu_ns();
        spin();
        let own_ns = cpu_ns() - began;
        std::thread::spawn(spin).join().unwrap(); // not counted: another thread
        let readings = counters.stop();
        spin(); // not counted: after the stop
        let counted_ns = readings[&Event::TaskClock].value().expect("the kernel always counts this") as f64;
        assert!((0.8..1.5).contains(&(counted_ns / own_ns)), "{counted_ns} of {own_ns}");
        counters.start();
        let again_ns = counters.stop()[&Event::TaskClock].value().unwrap() as f64;
        assert!(again_ns < own_ns / 2.0, "each window starts from zero: {again_ns}");
        let Reading::Counted { enabled_ns, running_ns, .. } = counters.stop()[&Event::TaskClock] else {
            panic!("the kernel always counts this")
        };
        assert_eq!((enabled_ns, running_ns), (0, 0), "and so do its times");
    }

    #[test]
    fn every_event_is_a_number_or_a_reason() {
        let all = Event::parse_list("all").unwrap();
        let mut counters = ThreadCounters::of_this_machine(&all);
        counters.start();
        spin();
        let readings = counters.stop();
        assert_eq!(readings.len(), all.len());
        for (event, reading) in readings {
            match &reading {
                Reading::Unavailable { reason } => assert!(!reason.is_empty(), "{event}"),
                Reading::Counted { value, .. } => {
                    let busy = matches!(
                        event,
                        Event::Cycles | Event::Instructions | Event::RefCycles | Event::TaskClock
                    );
                    assert!(!busy || *value > 0, "{event} is 0 though the thread ran");
                }
            }
        }
    }

    #[test]
    fn a_pmu_that_does_not_exist_is_a_reason() {
        let pmus = Pmus { cores: Vec::new(), tsc: Some((9999, 0)) };
        let readings = ThreadCounters::open(&[Event::RefCycles], &pmus).stop();
        assert!(readings[&Event::RefCycles].reason().is_some(), "{readings:?}");
        let readings = ThreadCounters::open(&[Event::RefCycles], &Pmus::default()).stop();
        assert!(readings[&Event::RefCycles].reason().unwrap().contains("msr PMU"), "{readings:?}");
    }
}
