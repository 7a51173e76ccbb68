//! The threads that pairs run on: made once, kept, and pinned anew for each burst.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::watch::Watch;
use super::{monotonic_ns, thread_cpu_ns};
use crate::counters::{Pmus, ThreadCounters};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::limits;
use crate::sample::{Side, SideReport};
use crate::topology::affinity::pin;

/// What a pair's end owns, wherever it runs.
pub(super) struct PairEnd<T> {
    pub(super) pair: usize,
    pub(super) cpus: Vec<usize>,
    pub(super) state: T,
    pub(super) counting: Counting,
}

/// What a pair's thread counts of itself. A pair keeps to one thread, which opens the counters when its
/// first burst runs.
pub(super) struct Counting {
    events: Vec<Event>,
    counters: Option<ThreadCounters>,
}

impl Counting {
    pub(super) fn of(events: &[Event]) -> Self {
        Self { events: events.to_vec(), counters: None }
    }

    fn open(&mut self) {
        if self.counters.is_none() && !self.events.is_empty() {
            self.counters = Some(ThreadCounters::open(&self.events, Pmus::of_this_machine()));
        }
    }
}

/// An end that the main thread keeps between bursts and a worker borrows during one.
pub(super) type SharedEnd<T> = Arc<Mutex<PairEnd<T>>>;

type Job = Box<dyn FnOnce() + Send>;

/// Threads by number. Dropped, they end.
pub(super) struct Threads {
    side: Side,
    workers: Vec<(Sender<Job>, JoinHandle<()>)>,
}

impl Threads {
    pub(super) fn new(side: Side) -> Self {
        Self { side, workers: Vec::new() }
    }

    /// Makes the threads that are missing. They inherit what the caller has: its namespaces, and any
    /// counter that is inherited.
    pub(super) fn grow(&mut self, count: usize) -> Result<()> {
        for number in self.workers.len()..count {
            let (sender, jobs) = channel::<Job>();
            let handle = std::thread::Builder::new()
                .name(format!("{}-{number}", self.side))
                .stack_size(256 << 10)
                .spawn(move || jobs.into_iter().for_each(|job| job()))
                .map_err(|errno| limits::with_limit_remedy("pthread_create(3)", errno))?;
            self.workers.push((sender, handle));
        }
        Ok(())
    }

    /// Starts `work` on every end, a thread each.
    pub(super) fn start<T: Send + 'static>(
        &mut self,
        ends: &[SharedEnd<T>],
        watch: &Arc<Watch>,
        work: &Arc<impl Fn(&mut PairEnd<T>) -> Result<SideReport> + Send + Sync + 'static>,
    ) -> Result<Running> {
        self.grow(ends.len())?;
        let (sender, results) = channel();
        for ((worker, _), end) in self.workers.iter().zip(ends) {
            let (sender, side) = (sender.clone(), self.side);
            let (end, watch, work) = (Arc::clone(end), Arc::clone(watch), Arc::clone(work));
            // The result's receiver is gone only when the burst was given up.
            let job = move || drop(sender.send(guarded(side, &end, &watch, &*work)));
            worker.send(Box::new(job)).map_err(|_| Error::Protocol("a thread has ended".to_owned()))?;
        }
        Ok(Running { results, outstanding: ends.len() })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for (jobs, handle) in self.workers.drain(..) {
            drop(jobs);
            // A job catches its panics, so there is none to hand on.
            drop(handle.join());
        }
    }
}

/// A burst under way on other threads.
pub(super) struct Running {
    results: Receiver<Result<SideReport>>,
    outstanding: usize,
}

impl Running {
    /// Waits for every thread. Ends soon after `watch` has shut the connections down, whatever became
    /// of the threads.
    pub(super) fn wait(mut self, watch: &Watch) -> Vec<Result<SideReport>> {
        let mut reports = Vec::new();
        while self.outstanding > 0 {
            match self.results.recv_timeout(Duration::from_secs(1)) {
                Ok(report) => {
                    reports.push(report);
                    self.outstanding -= 1;
                }
                Err(_) if watch.aborted_for() < Duration::from_secs(6) => {}
                Err(_) => {
                    let waited = watch.aborted_for();
                    reports.push(Err(Error::Deadline { waiting_for: "end of the pairs' threads", waited }));
                    break;
                }
            }
        }
        reports
    }
}

/// Lets threads go at once, when all have come; or none, if one does not come in time.
pub(super) struct Gate {
    missing: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn new(threads: usize) -> Self {
        Self { missing: Mutex::new(threads), opened: Condvar::new() }
    }

    pub(super) fn wait(&self) -> Result<()> {
        let limit = Duration::from_secs(2);
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing -= 1;
        if *missing == 0 {
            self.opened.notify_all();
            return Ok(());
        }
        let (missing, _) = self
            .opened
            .wait_timeout_while(missing, limit, |missing| *missing > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if *missing > 0 {
            return Err(Error::Deadline { waiting_for: "start of the other pairs", waited: limit });
        }
        Ok(())
    }
}

/// Runs `work` on one end, on the calling thread. Whatever goes wrong, a panic included, shuts all
/// connections of the instance down, so that nobody waits for this pair.
pub(super) fn guarded<T>(
    side: Side,
    end: &Mutex<PairEnd<T>>,
    watch: &Watch,
    work: impl Fn(&mut PairEnd<T>) -> Result<SideReport>,
) -> Result<SideReport> {
    let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
    let pair = end.pair;
    let result = catch_unwind(AssertUnwindSafe(|| {
        pin(&end.cpus)?;
        end.counting.open();
        work(&mut end)
    }))
    .unwrap_or_else(|panic| Err(Error::Panicked { side, pair, message: panic_message(&*panic) }));
    if result.is_err() {
        watch.abort();
    }
    result
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Measures the calling thread while it runs `work`. The clock starts when `work` says so, by the
/// time that it returns.
pub(super) fn metered(counting: &mut Counting, work: impl FnOnce() -> Result<u64>) -> Result<SideReport> {
    let before = thread_cpu_ns()?;
    if let Some(counters) = &mut counting.counters {
        counters.start();
    }
    let start_ns = work()?;
    let end_ns = monotonic_ns()?;
    let counters = counting.counters.as_mut().map(ThreadCounters::stop).unwrap_or_default();
    let after = thread_cpu_ns()?;
    Ok(SideReport {
        start_ns,
        end_ns,
        pairs_ns: end_ns - start_ns,
        user_ns: after.0.saturating_sub(before.0),
        system_ns: after.1.saturating_sub(before.1),
        counters,
        ..SideReport::default()
    })
}

/// Joins the threads' reports, or gives the most telling error: one that is no mere echo of the other
/// side's end, if there is one.
pub(super) fn joined(reports: Vec<Result<SideReport>>) -> Result<SideReport> {
    let mut echo = None;
    let mut fine = Vec::new();
    for report in reports {
        match report {
            Ok(report) => fine.push(report),
            Err(error) if error.is_echo() => echo = echo.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    echo.map_or_else(|| Ok(SideReport::merge(fine)), Err)
}
