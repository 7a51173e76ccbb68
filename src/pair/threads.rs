//! The threads that pairs run on: made once, kept, and pinned anew for each burst.

use std::any::Any;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::recorder::Recorder;
use super::thread_cpu_ns;
use super::watch::Watch;
use crate::case::Case;
use crate::counters::ThreadCounters;
use crate::deadlines::ABORT_LIMIT;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host;
use crate::sample::{RoundTrips, Side, SideReport};
use crate::topology::affinity::pin;

/// What a pair's end owns, on either side.
pub(super) struct PairEnd<T> {
    pub(super) pair: usize,
    pub(super) connection: Arc<TcpStream>,
    pub(super) case: Case,
    cpus: Vec<usize>,
    /// What its thread counts of itself.
    events: Vec<Event>,
    /// A pair keeps to one thread, which opens them when its first burst runs.
    pub(super) counters: Option<ThreadCounters>,
    /// Made when round trips are first timed one by one.
    pub(super) round_trips: Option<Recorder>,
    /// The number of the next message.
    pub(super) next_sequence: u64,
    /// The path's half, and what belongs to it.
    pub(super) state: T,
}

impl<T> PairEnd<T> {
    pub(super) fn shared(
        pair: usize,
        connection: Arc<TcpStream>,
        case: Case,
        cpus: &[usize],
        events: &[Event],
        state: T,
    ) -> SharedEnd<T> {
        let (cpus, events) = (cpus.to_vec(), events.to_vec());
        let (counters, round_trips, next_sequence) = (None, None, 0);
        let end = Self { pair, connection, case, cpus, events, counters, round_trips, next_sequence, state };
        Arc::new(Mutex::new(end))
    }
}

pub(super) fn connections_of<T>(ends: &[SharedEnd<T>]) -> Vec<Arc<TcpStream>> {
    ends.iter().map(|end| Arc::clone(&locked(end).connection)).collect()
}

/// The round trips that all pairs have recorded, and begin to record anew.
pub(super) fn take_round_trips<T>(ends: &[SharedEnd<T>]) -> RoundTrips {
    let mut sum = Recorder::new();
    for end in ends {
        sum.take(locked(end).round_trips.as_mut());
    }
    sum.round_trips()
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

    /// Makes the threads that are missing. They inherit what the caller has: its namespaces, and
    /// any counter that is inherited.
    pub(super) fn grow(&mut self, count: usize) -> Result<()> {
        for number in self.workers.len()..count {
            let (sender, jobs) = channel::<Job>();
            let handle = std::thread::Builder::new()
                .name(format!("{}-{number}", self.side))
                .stack_size(256 << 10)
                .spawn(move || jobs.into_iter().for_each(|job| job()))
                .map_err(|errno| host::refused("pthread_create(3)", errno))?;
            self.workers.push((sender, handle));
        }
        Ok(())
    }

    /// Starts `work` on every end, a thread each.
    pub(super) fn start<T: Send + 'static, R: Send + 'static>(
        &mut self,
        ends: &[SharedEnd<T>],
        watch: &Arc<Watch>,
        work: &Arc<impl Fn(&mut PairEnd<T>, &Watch) -> Result<R> + Send + Sync + 'static>,
    ) -> Result<Running<R>> {
        self.grow(ends.len())?;
        let (sender, results) = channel();
        for ((worker, _), end) in self.workers.iter().zip(ends) {
            let (sender, side) = (sender.clone(), self.side);
            let (end, watch, work) = (Arc::clone(end), Arc::clone(watch), Arc::clone(work));
            // The result's receiver is gone only when the burst was given up.
            let job = move || drop(sender.send(guarded(side, &end, &watch, &*work)));
            worker.send(Box::new(job)).map_err(|_| Error::Protocol("a thread has ended".to_owned()))?;
        }
        Ok(Running { results, reports: Vec::new(), threads: ends.len() })
    }

    /// Drops every end on a thread of its own, and waits until all are gone: the kernel takes some
    /// 20 ms to close a packet socket (`packet_release` waits until no CPU can still see it), and
    /// closes many in the same time.
    pub(super) fn close<T: Send + 'static>(&self, ends: Vec<SharedEnd<T>>) {
        let (closing, closed) = channel::<()>();
        for ((worker, _), end) in self.workers.iter().zip(ends) {
            let closing = closing.clone();
            // A thread that has ended gives the job back, which drops the end as well.
            drop(worker.send(Box::new(move || drop((end, closing)))));
        }
        drop(closing);
        let _ = closed.recv(); // an error: all are gone
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

/// Work under way on other threads.
pub(super) struct Running<R> {
    results: Receiver<Result<R>>,
    reports: Vec<Result<R>>,
    threads: usize,
}

impl<R> Running<R> {
    /// Waits until `duration` has passed, or every thread is done.
    pub(super) fn wait_for(&mut self, duration: Duration) {
        let deadline = Instant::now() + duration;
        while self.reports.len() < self.threads {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(report) = self.results.recv_timeout(left) else { return };
            self.reports.push(report);
        }
    }

    /// Waits for every thread. Ends soon after `watch` has shut the connections down, whatever
    /// became of the threads.
    pub(super) fn wait(mut self, watch: &Watch) -> Vec<Result<R>> {
        loop {
            self.wait_for(Duration::from_secs(1));
            if self.reports.len() == self.threads {
                return self.reports;
            }
            let waited = watch.aborted_for();
            if waited > ABORT_LIMIT {
                let waiting_for = "end of the pairs' threads";
                self.reports.push(Err(Error::deadline(waiting_for, waited)));
                return self.reports;
            }
        }
    }
}

/// Lets threads go at once, when all have come. There is no time limit: how long they take depends
/// on the case, and a pair that does not come is a stall, which [`Watch`] notices.
pub(super) struct Gate {
    missing: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn new(threads: usize) -> Self {
        Self { missing: Mutex::new(threads), opened: Condvar::new() }
    }

    /// Comes to the gate, and waits until it opens.
    pub(super) fn pass(&self, watch: &Watch) -> Result<()> {
        let mut missing = locked(&self.missing);
        *missing -= 1;
        if *missing == 0 {
            self.opened.notify_all();
            return Ok(());
        }
        drop(missing);
        self.wait(watch)
    }

    /// Waits until it opens.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the burst was given up meanwhile.
    pub(super) fn wait(&self, watch: &Watch) -> Result<()> {
        let mut missing = locked(&self.missing);
        while *missing > 0 {
            if watch.is_aborted() {
                return Err(Error::Stopped);
            }
            let look_again = Duration::from_millis(100);
            (missing, _) =
                self.opened.wait_timeout(missing, look_again).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// What a lock guards, also where a thread has panicked with it: that is an error of its own.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on one end, on the calling thread. Whatever goes wrong, a panic included, shuts all
/// connections of the instance down, so that nobody waits for this pair.
pub(super) fn guarded<T, R>(
    side: Side,
    end: &Mutex<PairEnd<T>>,
    watch: &Watch,
    work: impl Fn(&mut PairEnd<T>, &Watch) -> Result<R>,
) -> Result<R> {
    let mut end = locked(end);
    let pair = end.pair;
    let result = catch_unwind(AssertUnwindSafe(|| {
        pin(&end.cpus)?;
        if end.counters.is_none() && !end.events.is_empty() {
            end.counters = Some(ThreadCounters::of_this_machine(&end.events));
        }
        work(&mut end, watch)
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

/// Measures the calling thread while it runs `work`, which says when its window began and ended,
/// and how many messages it had.
pub(super) fn metered(
    counters: &mut Option<ThreadCounters>,
    work: impl FnOnce() -> Result<SideReport>,
) -> Result<SideReport> {
    let before = thread_cpu_ns()?;
    if let Some(counters) = counters {
        counters.start();
    }
    let report = work()?;
    let counters = counters.as_mut().map(ThreadCounters::stop).unwrap_or_default();
    let after = thread_cpu_ns()?;
    Ok(SideReport {
        pairs_ns: report.end_ns - report.start_ns,
        user_ns: after.0.saturating_sub(before.0),
        system_ns: after.1.saturating_sub(before.1),
        counters,
        ..report
    })
}

/// Joins the threads' reports, or gives the most telling error: one that is no mere echo of the
/// other side's end, if there is one.
pub(super) fn joined<R>(reports: Vec<Result<R>>) -> Result<Vec<R>> {
    let mut echo = None;
    let mut fine = Vec::new();
    for report in reports {
        match report {
            Ok(report) => fine.push(report),
            Err(error) if error.is_echo() => echo = echo.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    echo.map_or(Ok(fine), Err)
}
