//! The server's line to the client process: starts it, asks it, hears why it failed, and ends it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::control::{ToClient, ToServer, greeting, write_frame};
use super::peer::{Client, Peer};
use super::watch::{Supervisor, Watch};
use super::{Token, client};
use crate::error::{Error, Result};
use crate::host;
use crate::sample::Side;

/// How long the client may take for what is no burst. With the limits below, whatever happens is said within 10 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(7);
/// How long an error that only echoes the other side's end waits for a better one from there.
const CAUSE_LIMIT: Duration = Duration::from_secs(2);
/// How long the client may take to go, before it is killed.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// The client process, and what is needed to talk to it.
pub(super) struct ClientProcess {
    control: UnixStream,
    supervisor: Supervisor<ToServer>,
    pub(super) watch: Arc<Watch>,
    child: Child,
    exit: Option<ExitStatus>,
    /// Of a peer's command: what it has written to its standard error.
    said: Option<Said>,
    /// A frame that came while something else was waited for.
    early: Option<ToServer>,
    /// Something went wrong in the present instance: the client is not waited for long.
    failed: bool,
    /// The client was killed, because it did not answer; it may still be seen for a moment.
    killed: bool,
}

impl ClientProcess {
    /// Starts the client. It gets the control line as its standard input and output, and a process group of its own, so
    /// that Ctrl-C reaches the server alone, which then ends it in good order.
    pub(super) fn open(client: &Client) -> Result<Self> {
        let (mut control, theirs) = UnixStream::pair().map_err(Error::call("socketpair(2)"))?;
        control.set_write_timeout(Some(ANSWER_LIMIT)).map_err(Error::call("setsockopt(2) SO_SNDTIMEO"))?;
        let duplicate =
            |line: &UnixStream| line.try_clone().map_err(Error::call("dup(2) of the control line"));
        let (stdin, stdout) = (duplicate(&theirs)?, theirs);
        let started = match client {
            Client::Child(program) => Command::new(program)
                .args(["client", client::WITH_PARENT])
                .stdin(OwnedFd::from(stdin))
                .stdout(OwnedFd::from(stdout))
                .process_group(0)
                .spawn()
                .map_err(|errno| Error::Refused {
                    call: "execve(2) of the client process",
                    errno,
                    remedy: if Path::new("/proc/self").exists() {
                        format!("{} is not the sendpath command; build it again", program.display())
                    } else {
                        "there is no /proc, by which the program finds itself: `mount -t proc proc /proc`"
                            .to_owned()
                    },
                }),
            Client::Peer(Peer { command, .. }) => start_peer(command, stdin.into(), stdout.into()),
        };
        let mut child = Started(Some(started?));
        let said = child.stderr().map(Said::listen).transpose()?;
        let watch = Arc::new(Watch::default());
        let supervisor =
            Supervisor::start(duplicate(&control)?.into(), &watch, Side::Client, |frame| match frame {
                ToServer::Failed { cause, echo: false } => {
                    Some(Error::Peer { side: Side::Client, cause: cause.clone() })
                }
                _ => None,
            })?;
        // Where the client is gone already, asking it for something finds out, and why. Without a greeting nothing else
        // is to be said.
        if control.write_all(greeting(Side::Server).as_bytes()).is_err() {
            drop(control.shutdown(std::net::Shutdown::Both));
        }
        let child = child.keep()?;
        let (exit, early) = (None, None);
        Ok(Self { control, supervisor, watch, child, exit, said, early, failed: false, killed: false })
    }

    pub(super) fn client_pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit.is_none() && !self.killed
    }

    /// Sends a frame and waits for its answer.
    pub(super) fn ask(&mut self, frame: &ToClient) -> Result<ToServer> {
        self.tell(frame)?;
        self.answer()
    }

    /// Sends a frame.
    pub(super) fn tell(&mut self, frame: &ToClient) -> Result<()> {
        let sent = write_frame(&mut self.control, frame);
        sent.map_err(|error| self.root_cause(error))
    }

    /// What has gone wrong since the client was asked for something; none so far.
    pub(super) fn trouble(&mut self) -> Option<Error> {
        match self.supervisor.frames.try_recv() {
            Ok(ToServer::Failed { cause, .. }) => {
                drop(self.watch.take_cause());
                Some(Error::Peer { side: Side::Client, cause })
            }
            Ok(frame) => {
                self.early = Some(frame);
                None
            }
            Err(TryRecvError::Empty) => self.watch.take_cause(),
            Err(TryRecvError::Disconnected) => {
                Some(Error::PeerGone { side: Side::Client, how: String::new() })
            }
        }
    }

    /// Waits for the answer to the frame that was sent last.
    pub(super) fn answer(&mut self) -> Result<ToServer> {
        if let Some(frame) = self.early.take() {
            return Ok(frame);
        }
        let deadline = Instant::now() + ANSWER_LIMIT;
        let error = loop {
            match self.supervisor.frames.recv_timeout(Duration::from_millis(200)) {
                Ok(ToServer::Failed { cause, .. }) => {
                    // The supervisor has reported the same cause, unless it is an echo: it is reported once.
                    drop(self.watch.take_cause());
                    break Error::Peer { side: Side::Client, cause };
                }
                Ok(frame) => return Ok(frame),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    let waiting_for = "answer from the client process";
                    // It is not asked for anything again.
                    self.kill();
                    break self.with_what_was_said(Error::Deadline { waiting_for, waited: ANSWER_LIMIT });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(cause) = self.watch.take_cause() {
                        break cause;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    break Error::PeerGone { side: Side::Client, how: String::new() };
                }
            }
        };
        Err(self.root_cause(error))
    }

    /// What is behind `error`: itself, unless it only echoes that the client went away, and the client
    /// says why, or its exit status does.
    pub(super) fn root_cause(&mut self, error: Error) -> Error {
        self.failed = true;
        if !error.is_echo() {
            return error;
        }
        let deadline = Instant::now() + CAUSE_LIMIT;
        let cause = loop {
            if let Some(cause) = self.watch.take_cause() {
                break cause;
            }
            match self.supervisor.frames.recv_timeout(Duration::from_millis(20)) {
                // Both ends only know that the connection is lost: what the client was about says more than its end.
                Ok(ToServer::Failed { echo: true, cause }) if matches!(error, Error::Closed { .. }) => {
                    return Error::Peer { side: Side::Client, cause };
                }
                Ok(ToServer::Failed { echo: true, .. }) => return error,
                _ if Instant::now() > deadline => return error,
                // The line is cut, and the cause is on its way.
                Err(RecvTimeoutError::Disconnected) => sleep(Duration::from_millis(1)),
                _ => {}
            }
        };
        match cause {
            Error::PeerGone { side, .. } => Error::PeerGone { side, how: self.how_it_ended() },
            cause => cause,
        }
    }

    /// Has the client close an instance. If it does not, or is gone, there is no use for it any more.
    pub(super) fn close(&mut self, token: Token) {
        if !self.killed && write_frame(&mut self.control, &ToClient::Close { token }).is_ok() {
            let limit = if self.failed { CAUSE_LIMIT } else { ANSWER_LIMIT };
            let deadline = Instant::now() + limit;
            let left = || deadline.saturating_duration_since(Instant::now());
            while let Ok(frame) = self.supervisor.frames.recv_timeout(left()) {
                if matches!(frame, ToServer::Closed) {
                    self.failed = false;
                    return;
                }
            }
        }
        self.kill();
    }

    /// Ends the client, and with a peer's command what that has started.
    fn kill(&mut self) {
        self.killed = true;
        if self.exit.is_none() {
            drop(self.child.kill());
        }
        if self.said.is_some() {
            kill_group(&self.child);
        }
    }

    /// The client's exit, waited for, in words; and what a peer's command said last.
    fn how_it_ended(&mut self) -> String {
        let how = match self.wait_exit() {
            None => String::new(),
            Some(status) => match status.signal().map(Signal::try_from) {
                Some(Ok(signal)) => format!(": killed by {signal}"),
                _ => format!(": {status}"),
            },
        };
        how + &self.said.as_ref().map_or_else(String::new, Said::in_words)
    }

    /// Puts what a peer's command wrote to its standard error behind an error that it may explain.
    fn with_what_was_said(&self, error: Error) -> Error {
        match self.said.as_ref().map(Said::in_words) {
            Some(said) if !said.is_empty() => Error::Protocol(format!("{error}{said}")),
            _ => error,
        }
    }

    fn wait_exit(&mut self) -> Option<ExitStatus> {
        let limit = if self.killed { Duration::from_millis(100) } else { EXIT_LIMIT };
        let deadline = Instant::now() + limit;
        while self.exit.is_none() && Instant::now() < deadline {
            self.exit = self.child.try_wait().ok().flatten();
            if self.exit.is_none() {
                sleep(Duration::from_millis(1));
            }
        }
        self.exit
    }
}

/// Has a peer's client remove the program that it runs from, which was brought over for it.
///
/// # Errors
/// Where it cannot be reached, or its program is no such copy.
pub fn remove_peers_program(peer: &Peer) -> Result<()> {
    let mut client_process = ClientProcess::open(&Client::Peer(peer.clone()))?;
    match client_process.ask(&ToClient::RemoveProgram)? {
        ToServer::Removed => Ok(()),
        _ => Err(Error::Protocol("the client sent another answer than the one that was expected".to_owned())),
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // The end of the control line is the client's sign to go.
        drop(self.control.shutdown(std::net::Shutdown::Both));
        let gone = self.wait_exit().is_some();
        // What a peer's command has started may be there without it.
        if !gone || self.said.is_some() {
            self.kill();
        }
        if !gone {
            drop(self.child.wait());
        }
    }
}

/// A client that has just been started. Dropped, it is ended, and with it what a peer's command has started.
struct Started(Option<Child>);

impl Started {
    fn stderr(&mut self) -> Option<ChildStderr> {
        self.0.as_mut()?.stderr.take()
    }

    fn keep(mut self) -> Result<Child> {
        self.0.take().ok_or_else(|| Error::Protocol("the client process is kept twice".to_owned()))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            kill_group(child);
            drop(child.wait());
        }
    }
}

/// Ends a process that leads its group, and the group.
pub(crate) fn kill_group(child: &Child) {
    // A group of nobody is not there any more.
    let group = i32::try_from(child.id()).unwrap_or_default();
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
}

/// Starts a peer's command without a terminal, so that nothing waits for a password that nobody is asked for.
fn start_peer(command: &[String], stdin: OwnedFd, stdout: OwnedFd) -> Result<Child> {
    let (program, arguments) = command.split_first().ok_or_else(|| Error::Setting("no peer".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    stand_alone(&mut command);
    command.spawn().map_err(|errno| {
        let is_no_program = matches!(errno.raw_os_error(), Some(libc::ENOENT | libc::EACCES | libc::ENOEXEC));
        if !is_no_program {
            return host::with_limit_remedy("fork(2) or execve(2) of the peer's command", errno);
        }
        Error::Refused {
            call: "execve(2) of the peer's command",
            errno,
            remedy: format!("{program} has to be a program; a line for a shell is given as sh -c '...'"),
        }
    })
}

/// Has a command lead a process group of its own, and have no terminal to ask for a password at.
pub(crate) fn stand_alone(command: &mut Command) {
    command.process_group(0);
    // Not setsid(2): a session of its own is another group to a scheduler that groups by session (autogroup, sched(7)), and
    // then a client on this machine is woken later than the built-in one: 6 % of a round trip of 64 bytes.
    // SAFETY: open(2), ioctl(2) and close(2) may be called between fork(2) and execve(2); the path is a literal.
    unsafe {
        command.pre_exec(|| {
            give_up_terminal();
            Ok(())
        })
    };
}

/// Leaves the process without a controlling terminal, if it has one (`TIOCNOTTY`, `tty_ioctl(4)`). Its children have none
/// either, and as it leads no session, it can get no other.
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

/// What a peer's command writes to its standard error, as far as it is kept.
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// No more of it is kept.
    const MOST_BYTES: usize = 2048;

    /// Listens on a thread that ends when all who may write have closed their end.
    fn listen(mut stderr: ChildStderr) -> Result<Self> {
        let said = Self(Arc::default());
        let kept = Arc::clone(&said.0);
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
        std::thread::Builder::new()
            .name("peer's stderr".to_owned())
            .spawn(listen)
            .map_err(Error::call("pthread_create(3)"))?;
        Ok(said)
    }

    /// The last lines, behind a colon; empty if nothing was said.
    fn in_words(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        // No control characters reach the user's terminal.
        let last = last.join("; ").replace(|letter: char| letter.is_control(), "?");
        if last.is_empty() { last } else { format!(": its standard error says: {last}") }
    }
}
