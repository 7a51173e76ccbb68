//! Child processes: each leads a process group of its own, is waited for within a deadline, and
//! does not outlive its owner.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::deadlines::LISTEN_LIMIT;
use crate::error::Result;
use crate::host;

/// How often a child is looked at that is waited for until a deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A child that leads a process group of its own, so that Ctrl-C reaches this process alone, which
/// then ends the child in good order. Dropped while it runs, it is killed, with its group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    exit: Option<ExitStatus>,
    /// Whether what is left of its group is killed also where it has ended by itself.
    ends_its_group: bool,
}

impl Process {
    /// Starts a command.
    ///
    /// # Errors
    /// That of `fork(2)` or `execve(2)`.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        Ok(Self { child, exit: None, ends_its_group: false })
    }

    /// The same without a terminal, so that nothing waits for a password that nobody is asked for.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn start_without_terminal(command: &mut Command) -> io::Result<Self> {
        // Not setsid(2): a session of its own is another group to a scheduler that groups by
        // session (autogroup, sched(7)), and then a client on this machine is woken later than the
        // built-in one: 6 % of a round trip of 64 bytes.
        // SAFETY: open(2), ioctl(2) and close(2) may be called between fork(2) and execve(2); the
        // path is a literal.
        unsafe {
            command.pre_exec(|| {
                give_up_terminal();
                Ok(())
            })
        };
        Self::start(command)
    }

    /// What is left of its group is to be killed, also where it has ended by itself.
    pub(crate) fn ending_its_group(mut self) -> Self {
        self.ends_its_group = true;
        self
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; none while it runs.
    ///
    /// # Errors
    /// That of `wait4(2)`.
    pub(crate) fn exit(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// Waits until it has ended, as long as `may_go_on` says; looks at it again after each `pause`.
    ///
    /// # Errors
    /// As [`exit`](Self::exit).
    pub(crate) fn wait_while(
        &mut self,
        pause: Duration,
        may_go_on: impl Fn() -> bool,
    ) -> io::Result<Option<ExitStatus>> {
        loop {
            let exit = self.exit()?;
            if exit.is_some() || !may_go_on() {
                return Ok(exit);
            }
            sleep(pause);
        }
    }

    /// Waits until it has ended, for `limit` at most.
    ///
    /// # Errors
    /// As [`exit`](Self::exit).
    pub(crate) fn wait_for(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        self.wait_while(LOOK_AGAIN, || Instant::now() < deadline)
    }

    /// Kills it, and its group.
    pub(crate) fn kill(&mut self) {
        if self.exit.is_some() && !self.ends_its_group {
            return;
        }
        // Nothing is left to kill where it is gone: that is what was wanted.
        drop(self.child.kill());
        // Never 0, which would be the caller's own group.
        if let Ok(group @ 1..) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let runs = matches!(self.exit(), Ok(None));
        if runs || self.ends_its_group {
            self.kill();
        }
        if runs {
            drop(self.child.wait());
        }
    }
}

/// Leaves the process without a controlling terminal, if it has one (`TIOCNOTTY`, `tty_ioctl(4)`).
/// Its children have none either, and as it leads no session, it can get no other.
fn give_up_terminal() {
    // SAFETY: the path ends in a zero byte; the descriptor is this function's own.
    unsafe {
        let terminal = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if terminal >= 0 {
            libc::ioctl(terminal, libc::TIOCNOTTY);
            libc::close(terminal);
        }
    }
}

/// What a child writes to its standard error, as far as it is kept.
pub(crate) struct Said {
    kept: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
}

impl Said {
    /// No more of it is kept.
    const MOST_BYTES: usize = 2048;

    /// Listens on a thread that ends when all who may write have closed their end.
    pub(crate) fn listen(mut stderr: ChildStderr) -> Result<Self> {
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&said);
        let listen = move || {
            let mut bytes = [0; 512];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&bytes[..count]);
                // The last words say why it ended.
                let surplus = kept.len().saturating_sub(Self::MOST_BYTES);
                kept.drain(..surplus);
            }
        };
        let listener = std::thread::Builder::new()
            .name("peer's stderr".to_owned())
            .spawn(listen)
            .map_err(|errno| host::refused("pthread_create(3)", errno))?;
        Ok(Self { kept: said, listener })
    }

    /// The last lines, behind a colon; empty if nothing was said.
    pub(crate) fn in_words(&self) -> String {
        // What a child wrote last may not have been read when it is seen to have ended.
        let deadline = Instant::now() + LISTEN_LIMIT;
        while !self.listener.is_finished() && Instant::now() < deadline {
            sleep(LOOK_AGAIN);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        // No control characters reach the user's terminal.
        let last = last.join("; ").replace(|letter: char| letter.is_control(), "?");
        if last.is_empty() { last } else { format!(": its standard error says: {last}") }
    }
}
