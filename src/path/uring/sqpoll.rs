//! The kernel's polling thread of a ring (`IORING_SETUP_SQPOLL`), and its CPU time. It makes the calls that the sender
//! would make else, so what it costs belongs to the sender.

use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Error, Result};

/// The folder of this process's threads.
const TASKS: &str = "/proc/self/task";
/// How the kernel names these threads.
const NAME: &str = "iou-sqp-";
/// How often the thread's id is asked for, and the pause before it is asked for again.
const ATTEMPTS: u32 = 100;
const RETRY: Duration = Duration::from_millis(1);

/// One polling thread.
#[derive(Debug)]
pub(super) struct PollThread {
    /// [`schedstat`](https://docs.kernel.org/scheduler/sched-stats.html): time on a CPU, time waited, turns.
    schedstat: PathBuf,
}

impl PollThread {
    /// The thread of the ring `fd`.
    ///
    /// # Errors
    /// The file that could not be read, or that did not say it.
    pub(super) fn of_ring(fd: RawFd) -> Result<Self> {
        let path = format!("/proc/self/fdinfo/{fd}");
        // The file says nothing of a ring that is busy at that moment.
        let mut own = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(RETRY);
            }
            let text = fs::read_to_string(&path).map_err(Error::file("open(2)", Path::new(&path)))?;
            let id = text.lines().find_map(|line| line.strip_prefix("SqThread:")).map(str::trim);
            own = id.map(|id| Path::new(TASKS).join(id)).filter(|task| is_polling(task));
            if own.is_some() {
                break;
            }
        }
        // In a namespace of process ids, the file says the id outside of it. There, one such thread is told by its name.
        let task = own.or_else(only_one).ok_or_else(|| Error::Data {
            path,
            problem: "it does not tell which thread polls the ring, so its CPU time cannot be counted"
                .to_owned(),
        })?;
        Ok(Self { schedstat: task.join("schedstat") })
    }

    /// How long it ran so far.
    ///
    /// # Errors
    /// The file that could not be read (a kernel without `CONFIG_SCHED_INFO` has none).
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.schedstat).map_err(Error::file("open(2)", &self.schedstat))?;
        let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
        first.ok_or_else(|| Error::Data {
            path: self.schedstat.display().to_string(),
            problem: format!("it does not begin with a time: {text:?}"),
        })
    }
}

fn is_polling(task: &Path) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(NAME))
}

/// The process's only polling thread.
fn only_one() -> Option<PathBuf> {
    let tasks = fs::read_dir(TASKS).ok()?.flatten().map(|entry| entry.path());
    let mut polling = tasks.filter(|task| is_polling(task));
    let first = polling.next()?;
    polling.next().is_none().then_some(first)
}
