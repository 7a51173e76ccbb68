//! An event of the CPU or the kernel as Criterion's measurement: counted on the main thread, which
//! is server thread 0, and on every thread that it makes later, which are the other server threads.
//!
//! On x86-64 criterion-perf-events counts. It implements the measurement of Criterion 0.5, calls
//! every event "cycles", and panics where one is missing: so this adapter hands its start and its
//! end on to Criterion 0.8, gives each event its unit, and is made only after the event was seen to
//! open. What perfcnt cannot name (`msr/tsc/`), and all of it on other CPUs, is counted by
//! perf-event2.

use std::cell::RefCell;
use std::rc::Rc;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use perf_event::events::Event as Attributes;
use sendpath::counters::{Pmus, probe};
use sendpath::event::{CounterSource, Event};

/// Counts one event. Clones are the same counter.
#[derive(Clone)]
pub struct EventMeter {
    counter: Rc<Counter>,
    units: Units,
}

enum Counter {
    #[cfg(target_arch = "x86_64")]
    Perf(criterion_perf_events::Perf),
    /// One for each kind of core that counts the event.
    Inherited(RefCell<Vec<perf_event::Counter>>),
}

impl EventMeter {
    /// Opens the event for the calling thread, the main one, and for threads that it makes from now
    /// on.
    ///
    /// # Errors
    /// Why it cannot be counted, and what lifts that.
    pub fn open(event: Event) -> Result<Self, String> {
        probe(event)?;
        let pmus = Pmus::of_this_machine().map_err(|error| error.to_string())?;
        let counter = Self::counter(event, pmus).map_err(|error| format!("perf_event_open(2): {error}"))?;
        Ok(Self { counter: Rc::new(counter), units: Units::of(event) })
    }

    fn counter(event: Event, pmus: &Pmus) -> std::io::Result<Counter> {
        #[cfg(target_arch = "x86_64")]
        if !pmus.is_hybrid()
            && let Some(mut builder) = perfcnt_builder(event)
        {
            // `Perf::new` panics where this fails, so it is tried before, to the letter.
            let main_thread = i32::try_from(std::process::id()).unwrap_or_default();
            drop(builder.for_pid(main_thread).disable().finish()?);
            return Ok(Counter::Perf(criterion_perf_events::Perf::new(builder)));
        }
        let kinds: Vec<u32> = match event.source() {
            CounterSource::Core if pmus.is_hybrid() => pmus.cores.iter().map(|pmu| pmu.kind).collect(),
            _ => vec![0],
        };
        let counters = kinds.into_iter().map(|kind| {
            let mut builder = perf_event::Builder::new(Numbered::of(event, pmus));
            builder.attrs_mut().config |= u64::from(kind) << 32; // picks the kind of core
            let clock = event == Event::TaskClock;
            builder.inherit(true).exclude_kernel(clock).exclude_hv(clock).build()
        });
        Ok(Counter::Inherited(RefCell::new(counters.collect::<std::io::Result<_>>()?)))
    }
}

#[cfg(target_arch = "x86_64")]
fn perfcnt_builder(event: Event) -> Option<perfcnt::linux::PerfCounterBuilderLinux> {
    use perfcnt::linux::{
        CacheId, CacheOpId, CacheOpResultId, HardwareEventType as Hardware,
        PerfCounterBuilderLinux as Builder, SoftwareEventType as Software,
    };
    let load_misses = |cache| Builder::from_cache_event(cache, CacheOpId::Read, CacheOpResultId::Miss);
    let mut builder = match event {
        Event::Cycles => Builder::from_hardware_event(Hardware::CPUCycles),
        Event::CacheMisses => Builder::from_hardware_event(Hardware::CacheMisses),
        Event::L1dLoadMisses => load_misses(CacheId::L1D),
        Event::LlcLoadMisses => load_misses(CacheId::LL),
        Event::TaskClock => Builder::from_software_event(Software::TaskClock),
        _ => return None,
    };
    builder.inherit();
    if event == Event::TaskClock {
        // A clock counts the same without the right to count the kernel.
        builder.exclude_kernel().exclude_hv();
    }
    Some(builder)
}

/// An event by its numbers in `perf_event_attr`, from `<linux/perf_event.h>`.
struct Numbered(u32, u64);

impl Numbered {
    fn of(event: Event, pmus: &Pmus) -> Self {
        let (hardware, software, cache) = (0, 1, 3);
        let read_miss = |which: u64| which | 1 << 16;
        match event {
            Event::RefCycles => {
                pmus.tsc.map_or(Self(hardware, u64::MAX), |(kind, config)| Self(kind, config))
            }
            Event::Cycles => Self(hardware, 0),
            Event::CacheMisses => Self(hardware, 3),
            Event::L1dLoadMisses => Self(cache, read_miss(0)),
            Event::LlcLoadMisses => Self(cache, read_miss(2)),
            Event::TaskClock => Self(software, 1),
            other => unreachable!("no bench measures {other}"),
        }
    }
}

impl Attributes for Numbered {
    fn update_attrs(self, attr: &mut perf_event_open_sys::bindings::perf_event_attr) {
        (attr.type_, attr.config) = (self.0, self.1);
    }
}

impl Measurement for EventMeter {
    type Intermediate = ();
    type Value = u64;

    fn start(&self) {
        match &*self.counter {
            #[cfg(target_arch = "x86_64")]
            Counter::Perf(perf) => {
                criterion_0_5::measurement::Measurement::start(perf);
            }
            Counter::Inherited(counter) => {
                for counter in &mut *counter.borrow_mut() {
                    counter.reset().and_then(|()| counter.enable()).expect("an open counter can be started");
                }
            }
        }
    }

    fn end(&self, (): ()) -> u64 {
        match &*self.counter {
            #[cfg(target_arch = "x86_64")]
            Counter::Perf(perf) => criterion_0_5::measurement::Measurement::end(perf, 0),
            Counter::Inherited(counter) => {
                let read = |counter: &mut perf_event::Counter| {
                    counter.disable().and_then(|()| counter.read()).expect("an open counter can be read")
                };
                counter.borrow_mut().iter_mut().map(read).sum()
            }
        }
    }

    fn add(&self, v1: &u64, v2: &u64) -> u64 {
        v1 + v2
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &self.units
    }
}

/// What Criterion prints behind the numbers of an event.
#[derive(Clone, Copy)]
struct Units {
    plain: &'static str,
    per_byte: &'static str,
}

impl Units {
    fn of(event: Event) -> Self {
        // A few words for the life of the bench, in the form that Criterion asks for.
        Self { plain: event.unit(), per_byte: format!("{}/byte", event.unit()).leak() }
    }
}

impl ValueFormatter for Units {
    fn format_value(&self, value: f64) -> String {
        format!("{value:.1} {}", self.plain)
    }

    fn format_throughput(&self, throughput: &Throughput, value: f64) -> String {
        let mut values = [value];
        let unit = self.scale_throughputs(value, throughput, &mut values);
        format!("{:.4} {unit}", values[0])
    }

    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        self.plain
    }

    fn scale_throughputs(&self, _typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let Throughput::Bytes(bytes) = throughput else { return self.plain };
        for value in values {
            *value /= *bytes as f64;
        }
        self.per_byte
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        self.plain
    }
}
