//! The kernel's polling thread of a ring (`IORING_SETUP_SQPOLL`), and its CPU time. It makes the
//! calls that the sender would make else, so what it costs belongs to the sender.

use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::path::error::{Error, Result};

/// After so long without a send, the kernel's polling thread sleeps, and the next one wakes it by a
/// call. Far longer than a round trip, and short where nobody sends: until then it keeps a CPU
/// busy.
pub(super) const POLL_IDLE_MS: u32 = 2;
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
    /// [`schedstat`](https://docs.kernel.org/scheduler/sched-stats.html): time on a CPU, time
    /// waited, turns.
    schedstat: PathBuf,
}

impl PollThread {
    /// The thread of the ring `fd`.
    ///
    /// # Errors
    /// The file that could not be read, or that did not say it.
    pub(super) fn of_ring(fd: RawFd) -> Result<Self> {
        let path = format!("/proc/self/fdinfo/{fd}");
        // The file says nothing of a ring that is busy at that moment, and a thread takes its name
        // when it first runs.
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(RETRY);
            }
            let text = fs::read_to_string(&path).map_err(Error::file("open(2)", Path::new(&path)))?;
            let id = text.lines().find_map(|line| line.strip_prefix("SqThread:")).map(str::trim);
            let Some(id) = id.filter(|id| !id.starts_with('-')) else { continue };
            let task = Path::new(TASKS).join(id);
            if is_polling(&task) {
                return Ok(Self { schedstat: task.join("schedstat") });
            }
            if !task.exists() {
                break;
            }
        }
        // In a namespace of process ids, the file says the id outside of it. The threads of that
        // name do not say which ring is theirs.
        let problem = "it does not tell which thread polls the ring, so its CPU time cannot be counted: not in a \
                       namespace of process ids, such as a container's";
        Err(Error::Data { path, problem: problem.to_owned() })
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
