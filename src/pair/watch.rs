//! Looks after a burst from outside: learns that the other process ended or failed, notices that no
//! byte moves any more, and shuts the connections down, so that no thread waits without end.
//!
//! Nothing of this is on the way of a message: the paths block in plain calls without a timeout (a
//! timeout on each costs a timer per wait, 2 % of a small round trip), and progress is read from
//! the kernel's own TCP counters once a second.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

use super::control::{read_frame, read_greeting};
use crate::error::{Error, Result};
use crate::host;
use crate::path::socket::get_option;
use crate::sample::Side;

const TICK_MS: u16 = 1000;

/// The state that a process's threads and its supervisor share.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<TcpStream>>,
    /// While a burst is under way: for how long no byte may move.
    stall: Option<Duration>,
    aborted: Option<Instant>,
    /// What the supervisor found, if it was the first to find something.
    cause: Option<Error>,
    /// The process at the other end of the line, once the line is cut. That is for good.
    gone: Option<Side>,
    /// Something was said on the line that is no frame, and nobody reads it any more: `cause` says
    /// what. That is for good.
    is_unreadable: bool,
    /// How many times it was armed: what was seen of one burst is not laid on the next.
    armed: u64,
}

impl State {
    fn abort(&mut self) {
        self.aborted.get_or_insert_with(Instant::now);
        for connection in &self.connections {
            // One that is down already says ENOTCONN, which is what was wanted.
            drop(connection.shutdown(Shutdown::Both));
        }
    }

    /// Cause and shutdown are one step: a burst that ends between the two would leave the next one
    /// with connections that are down, and no cause.
    fn fail(&mut self, cause: Error) {
        self.cause.get_or_insert(cause);
        self.abort();
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to look after a burst on these connections, of which no byte may move for so long; or
    /// after work that moves none.
    pub(super) fn arm(&self, stall: Option<Duration>, connections: Vec<Arc<TcpStream>>) {
        let mut state = self.state();
        let State { gone, is_unreadable, .. } = *state;
        let cause = state.cause.take().filter(|_| is_unreadable);
        let armed = state.armed + 1;
        *state = State { connections, stall, aborted: None, cause, gone, is_unreadable, armed };
        if gone.is_some() || is_unreadable {
            state.abort();
        }
    }

    /// The burst is over, with `result`. Where its connections were shut down it has failed, even
    /// if its threads were through by then: no other burst can run on them. What was found to be
    /// wrong can still be asked for.
    ///
    /// # Errors
    /// That of `result`; [`Error::Stopped`] where there is none, and the connections are down.
    pub(super) fn disarm<R>(&self, result: Result<R>) -> Result<R> {
        let mut state = self.state();
        (state.stall, state.connections) = (None, Vec::new());
        let is_aborted = state.aborted.is_some();
        result.and_then(|result| if is_aborted { Err(Error::Stopped) } else { Ok(result) })
    }

    /// Shuts every connection down: whoever is blocked on one returns.
    pub(super) fn abort(&self) {
        self.state().abort();
    }

    fn fail(&self, cause: Error) {
        self.state().fail(cause);
    }

    /// No byte has moved for too long in the burst that was the `armed`th. It may have ended since.
    fn stalled(&self, armed: u64, cause: Error) {
        let mut state = self.state();
        if state.stall.is_some() && state.armed == armed {
            state.fail(cause);
        }
    }

    /// How long ago the connections were shut down; zero if they were not.
    pub(super) fn aborted_for(&self) -> Duration {
        self.state().aborted.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the connections were shut down.
    pub(super) fn is_aborted(&self) -> bool {
        self.state().aborted.is_some()
    }

    /// What the supervisor found to be wrong.
    pub(super) fn take_cause(&self) -> Option<Error> {
        let mut state = self.state();
        let gone = state.gone.map(|side| Error::PeerGone { side, how: String::new() });
        state.cause.take().or(gone)
    }

    fn lose_the_line(&self, cause: Error) {
        let mut state = self.state();
        state.is_unreadable = true;
        state.fail(cause);
    }

    fn cut(&self, other: Side) {
        let mut state = self.state();
        state.gone = Some(other);
        state.abort();
    }

    /// What has moved so far, where a burst is under way.
    fn progress(&self) -> Option<Progress> {
        let state = self.state();
        let stall = state.stall.filter(|_| state.aborted.is_none())?;
        let moved_bytes = state.connections.iter().map(|connection| tcp_bytes(connection)).sum();
        Some(Progress { armed: state.armed, moved_bytes, stall })
    }
}

/// How far a burst is.
#[derive(Clone, Copy)]
struct Progress {
    /// Which burst.
    armed: u64,
    moved_bytes: u64,
    /// For how long no byte may move.
    stall: Duration,
}

/// A thread that reads one end of the control line, and watches over the bursts meanwhile.
pub(super) struct Supervisor<Frame> {
    pub(super) frames: Receiver<Frame>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<Frame: DeserializeOwned + Send + 'static> Supervisor<Frame> {
    /// Starts the thread. `other` is the process at the other end; `failure` finds in a frame the
    /// news that it failed.
    pub(super) fn start(
        line: OwnedFd,
        watch: &Arc<Watch>,
        other: Side,
        failure: fn(&Frame) -> Option<Error>,
    ) -> Result<Self> {
        let (stop, watch) = (Arc::new(AtomicBool::new(false)), Arc::clone(watch));
        let (sender, frames) = channel();
        let stopped = Arc::clone(&stop);
        let supervise = move || {
            let mut stalled = StallClock::default();
            let mut kept_waiting = KeptWaiting::default();
            let tick = || {
                match stalled.tick(Instant::now(), watch.progress()) {
                    None => kept_waiting = KeptWaiting::default(),
                    Some(_) if kept_waiting.may_be(runnable_threads()) => {}
                    Some((armed, waited)) => watch.stalled(armed, Error::Stalled { waited, other }),
                }
                !stopped.load(Ordering::Relaxed)
            };
            let mut reader = TickingReader { line: File::from(line), tick };
            let mut next = read_greeting(&mut reader, other).and_then(|()| read_frame::<Frame>(&mut reader));
            loop {
                match next {
                    Ok(Some(frame)) => {
                        if let Some(error) = failure(&frame) {
                            watch.fail(error);
                        }
                        if sender.send(frame).is_err() {
                            return;
                        }
                    }
                    Ok(None) => return watch.cut(other),
                    Err(error) if error.is_echo() => return watch.cut(other),
                    Err(error) => return watch.lose_the_line(error),
                }
                next = read_frame(&mut reader);
            }
        };
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(supervise)
            .map_err(|errno| host::refused("pthread_create(3)", errno))?;
        Ok(Self { frames, stop, thread: Some(thread) })
    }
}

impl<Frame> Drop for Supervisor<Frame> {
    /// The thread ends within a tick, or at once where the line has ended.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Reads a line, and does something else once a tick while nothing arrives, also within a frame.
struct TickingReader<Tick> {
    line: File,
    /// Whether to go on: if not, the line ends.
    tick: Tick,
}

impl<Tick: FnMut() -> bool> Read for TickingReader<Tick> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while !is_readable(&self.line)? {
            if !(self.tick)() {
                return Ok(0);
            }
        }
        self.line.read(bytes)
    }
}

/// Waits a tick for something to read.
fn is_readable(line: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(TICK_MS)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Notices that a burst has stood still.
#[derive(Default)]
struct StallClock {
    /// Which burst it saw last, with how many bytes.
    last: Option<(u64, u64)>,
    /// When it first saw that.
    since: Option<Instant>,
}

impl StallClock {
    /// Which burst has stood still, and for how long, once that is too long.
    fn tick(&mut self, now: Instant, progress: Option<Progress>) -> Option<(u64, Duration)> {
        let seen = progress.map(|progress| (progress.armed, progress.moved_bytes));
        if seen != self.last {
            *self = Self { last: seen, since: Some(now) };
        }
        let (progress, waited) = (progress?, now.duration_since(self.since?));
        (waited >= progress.stall).then_some((progress.armed, waited))
    }
}

/// Threads that the machine lets wait for a CPU. A burst whose threads do not run is no burst that
/// stands still.
#[derive(Default)]
struct KeptWaiting(Vec<Runnable>);

/// A thread that runs, or could.
#[derive(PartialEq, Eq)]
struct Runnable {
    thread_id: String,
    /// How often it has left a CPU.
    switches: Vec<String>,
}

impl KeptWaiting {
    /// Whether some of the threads that could run now may have waited for a CPU since the last
    /// tick: they could run then as well, and have not left a CPU since. Of one that was not seen
    /// then, the next tick tells.
    fn may_be(&mut self, runnable: Vec<Runnable>) -> bool {
        let is_first_look = self.0.is_empty() && !runnable.is_empty();
        let waited = runnable.iter().any(|thread| self.0.contains(thread));
        self.0 = runnable;
        is_first_look || waited
    }
}

/// The threads of this process, but for the calling one, that run or could; none where the kernel
/// does not say.
fn runnable_threads() -> Vec<Runnable> {
    let own = nix::unistd::gettid().to_string();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter_map(|thread| {
            let thread_id = thread.file_name().into_string().ok().filter(|thread_id| *thread_id != own)?;
            let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
            let is_runnable = status.lines().any(|line| line.starts_with("State:\tR"));
            let switches = status.lines().filter(|line| line.contains("ctxt_switches:"));
            is_runnable.then(|| Runnable { thread_id, switches: switches.map(str::to_owned).collect() })
        })
        .collect()
}

/// Payload bytes that a connection has had acknowledged and has received; 0 where the kernel does
/// not say.
fn tcp_bytes(connection: &TcpStream) -> u64 {
    // tcpi_bytes_acked and tcpi_bytes_received (Linux 4.1 and later).
    tcp_info(connection).map_or(0, |words| words[15].wrapping_add(words[16]))
}

/// Segments that a connection has sent more than once; none where the kernel does not say.
pub(super) fn retransmitted_segments(connection: &TcpStream) -> Option<u64> {
    tcp_info(connection).map(|words| {
        // tcpi_total_retrans is the second half of its word.
        let [.., a, b, c, d] = words[12].to_ne_bytes();
        u64::from(u32::from_ne_bytes([a, b, c, d]))
    })
}

/// Whether a connection's segments bear timestamps (RFC 7323).
pub(super) fn has_timestamps(connection: &TcpStream) -> bool {
    /// From <linux/tcp.h>.
    const TCPI_OPT_TIMESTAMPS: u8 = 1;
    // tcpi_options is the sixth byte.
    tcp_info(connection).is_some_and(|words| words[0].to_ne_bytes()[5] & TCPI_OPT_TIMESTAMPS != 0)
}

/// The kernel's view of a connection, from
/// [`TCP_INFO`](https://man7.org/linux/man-pages/man7/tcp.7.html): `struct tcp_info` of
/// <linux/tcp.h>, in words of eight bytes.
fn tcp_info(connection: &TcpStream) -> Option<[u64; 17]> {
    let mut words = [0_u64; 17];
    // SAFETY: words may be any.
    let answer = unsafe { get_option(connection, libc::IPPROTO_TCP, libc::TCP_INFO, &mut words) };
    answer.is_ok().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadlines::{STALL, STALL_SINK};

    #[test]
    fn what_made_the_line_unreadable_ends_the_next_burst_and_is_its_cause() {
        let watch = Watch::default();
        watch.lose_the_line(Error::Protocol("nonsense".to_owned()));
        watch.arm(Some(STALL), Vec::new());
        assert!(watch.is_aborted(), "nobody would watch over it");
        assert!(matches!(watch.take_cause(), Some(Error::Protocol(_))));
        watch.arm(Some(STALL), Vec::new());
        assert!(watch.is_aborted(), "that is for good");
        let watch = Watch::default();
        watch.fail(Error::Protocol("of one burst".to_owned()));
        watch.arm(Some(STALL), Vec::new());
        assert!(!watch.is_aborted() && watch.take_cause().is_none());
    }

    /// A thread that gets no CPU for seconds sends the last message of its burst after the watch
    /// has given up on it.
    #[test]
    fn a_burst_whose_threads_were_through_when_it_was_given_up_has_failed_with_its_cause() {
        let watch = Watch::default();
        watch.arm(Some(STALL_SINK), Vec::new());
        let progress = watch.progress().unwrap();
        watch.stalled(progress.armed, Error::SinkStalled { waited: progress.stall });
        let ended = watch.disarm(Ok(()));
        assert!(matches!(ended, Err(Error::Stopped)), "{ended:?}");
        assert!(matches!(watch.take_cause(), Some(Error::SinkStalled { .. })));
        // The threads' own error is kept, and a burst that nothing was wrong with is none.
        watch.arm(Some(STALL_SINK), Vec::new());
        assert!(watch.disarm(Ok(())).is_ok());
        let own = watch.disarm::<()>(Err(Error::Protocol("own".to_owned())));
        assert!(matches!(own, Err(Error::Protocol(_))), "{own:?}");
    }

    #[test]
    fn a_stall_of_one_burst_is_not_laid_on_another_that_has_begun_since() {
        let watch = Watch::default();
        watch.arm(Some(STALL_SINK), Vec::new());
        let first = watch.progress().unwrap();
        let stall = || Error::SinkStalled { waited: first.stall };
        watch.disarm(Ok(())).unwrap();
        watch.stalled(first.armed, stall());
        assert!(!watch.is_aborted(), "it is over");
        watch.arm(Some(STALL_SINK), Vec::new());
        watch.stalled(first.armed, stall());
        assert!(!watch.is_aborted() && watch.take_cause().is_none());
    }

    #[test]
    fn a_burst_stands_still_where_its_own_bytes_do() {
        let of = |armed, moved_bytes| Some(Progress { armed, moved_bytes, stall: STALL });
        let (mut clock, start) = (StallClock::default(), Instant::now());
        assert_eq!(clock.tick(start, of(1, 8)), None);
        assert_eq!(clock.tick(start + STALL, of(1, 16)), None, "a byte has moved");
        assert_eq!(clock.tick(start + STALL * 2, of(2, 16)), None, "another burst");
        assert_eq!(clock.tick(start + STALL * 3, of(2, 16)), Some((2, STALL)));
        assert_eq!(clock.tick(start + STALL * 4, None), None, "none is under way");
        assert_eq!(clock.tick(start + STALL * 5, of(2, 16)), None);
    }

    #[test]
    fn threads_that_the_machine_keeps_waiting_are_no_stall() {
        let thread = |thread_id: &str, switches: u32| Runnable {
            thread_id: thread_id.to_owned(),
            switches: vec![switches.to_string()],
        };
        let mut kept_waiting = KeptWaiting::default();
        assert!(!kept_waiting.may_be(Vec::new()), "all of them wait for something else");
        assert!(kept_waiting.may_be(vec![thread("7", 1)]), "the next tick tells");
        assert!(kept_waiting.may_be(vec![thread("7", 1), thread("8", 1)]));
        assert!(!kept_waiting.may_be(vec![thread("7", 2)]), "it has run since");
        assert!(!kept_waiting.may_be(vec![thread("9", 2)]), "another one");
    }

    #[test]
    fn a_thread_that_computes_is_runnable_and_one_that_waits_is_not() {
        let (is_over, started) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Barrier::new(3)));
        let (ids, found) = channel();
        let begin = |spins: bool| {
            let (is_over, started, ids) = (Arc::clone(&is_over), Arc::clone(&started), ids.clone());
            std::thread::spawn(move || {
                ids.send((nix::unistd::gettid().to_string(), spins)).unwrap();
                started.wait();
                while spins && !is_over.load(Ordering::Relaxed) {}
                started.wait();
            })
        };
        let threads = [begin(true), begin(false)];
        let ids: Vec<_> = found.iter().take(2).collect();
        started.wait();
        let is_runnable = |id: &str| runnable_threads().iter().any(|thread| thread.thread_id == id);
        for (id, spins) in ids {
            // On its way to where it waits, the second thread runs a little.
            while is_runnable(&id) != spins {
                std::thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        started.wait();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn segments_sent_again_are_where_they_are_looked_for() {
        assert_eq!(std::mem::offset_of!(libc::tcp_info, tcpi_total_retrans), 12 * 8 + 4);
    }
}
