//! The server's line to the client process: starts it, asks it, hears why it failed, and ends it.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::control::{ToClient, ToServer, greeting, write_frame};
use super::peer::{Client, Peer};
use super::watch::{Supervisor, Watch};
use super::{Token, client};
use crate::deadlines::{ANSWER_LIMIT, CAUSE_LIMIT, EXIT_LIMIT, KILLED_LIMIT};
use crate::error::{Error, Result};
use crate::host;
use crate::process::{Process, Said};
use crate::sample::Side;

/// The client process, and what is needed to talk to it.
pub(super) struct ClientProcess {
    control: UnixStream,
    process: Process,
    supervisor: Supervisor<ToServer>,
    pub(super) watch: Arc<Watch>,
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
    /// Starts the client. It gets the control line as its standard input and output, and a process
    /// group of its own, so that Ctrl-C reaches the server alone, which then ends it in good order.
    pub(super) fn open(client: &Client) -> Result<Self> {
        let (mut control, theirs) = UnixStream::pair().map_err(Error::call("socketpair(2)"))?;
        control.set_write_timeout(Some(ANSWER_LIMIT)).map_err(Error::call("setsockopt(2) SO_SNDTIMEO"))?;
        let duplicate =
            |line: &UnixStream| line.try_clone().map_err(Error::call("dup(2) of the control line"));
        let (stdin, stdout) = (duplicate(&theirs)?, theirs);
        let mut process = match client {
            Client::Child(program) => start_child(program, stdin.into(), stdout.into()),
            Client::Peer(Peer { command, .. }) => start_peer(command, stdin.into(), stdout.into()),
        }?;
        let said = process.child().stderr.take().map(Said::listen).transpose()?;
        let watch = Arc::new(Watch::default());
        let supervisor =
            Supervisor::start(duplicate(&control)?.into(), &watch, Side::Client, |frame| match frame {
                ToServer::Failed { cause, echo: false } => {
                    Some(Error::Peer { side: Side::Client, cause: cause.clone() })
                }
                _ => None,
            })?;
        // Where the client is gone already, asking it for something finds out, and why. Without a
        // greeting nothing else is to be said.
        if control.write_all(greeting(Side::Server).as_bytes()).is_err() {
            drop(control.shutdown(std::net::Shutdown::Both));
        }
        Ok(Self { control, process, supervisor, watch, said, early: None, failed: false, killed: false })
    }

    pub(super) fn client_pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        !self.killed && !matches!(self.process.exit(), Ok(Some(_)))
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

    /// What has come within so long: a frame, or the news that something went wrong.
    fn hear(&self, within: Duration) -> Option<Result<ToServer>> {
        match self.supervisor.frames.recv_timeout(within) {
            Ok(ToServer::Failed { cause, .. }) => {
                // The supervisor has reported the same cause, unless it is an echo: it is reported
                // once.
                drop(self.watch.take_cause());
                Some(Err(Error::Peer { side: Side::Client, cause }))
            }
            Ok(frame) => Some(Ok(frame)),
            Err(RecvTimeoutError::Timeout) => self.watch.take_cause().map(Err),
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(Error::PeerGone { side: Side::Client, how: String::new() }))
            }
        }
    }

    /// What has gone wrong since the client was asked for something, or goes wrong within `limit`;
    /// none so far.
    pub(super) fn trouble(&mut self, limit: Duration) -> Option<Error> {
        match self.hear(limit)? {
            Ok(frame) => {
                self.early = Some(frame);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Waits for the answer to the frame that was sent last.
    pub(super) fn answer(&mut self) -> Result<ToServer> {
        if let Some(frame) = self.early.take() {
            return Ok(frame);
        }
        let deadline = Instant::now() + ANSWER_LIMIT;
        let error = loop {
            match self.hear(Duration::from_millis(200)) {
                Some(Ok(frame)) => return Ok(frame),
                Some(Err(error)) => break error,
                None if Instant::now() > deadline => {
                    // It is not asked for anything again.
                    self.kill();
                    let error = Error::deadline("answer from the client process", ANSWER_LIMIT);
                    // What a peer's command wrote to its standard error may explain it.
                    break match self.said() {
                        said if said.is_empty() => error,
                        said => Error::Protocol(format!("{error}{said}")),
                    };
                }
                None => {}
            }
        };
        Err(self.root_cause(error))
    }

    /// What is behind `error`: itself, unless it only echoes that the client went away, and the
    /// client says why, or its exit status does.
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

    /// Has the client close an instance. If it does not, or is gone, there is no use for it any
    /// more.
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
        self.process.kill();
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
        how + &self.said()
    }

    /// What a peer's command has written to its standard error, in words.
    fn said(&self) -> String {
        self.said.as_ref().map_or_else(String::new, Said::in_words)
    }

    fn wait_exit(&mut self) -> Option<ExitStatus> {
        let limit = if self.killed { KILLED_LIMIT } else { EXIT_LIMIT };
        self.process.wait_for(limit).ok().flatten()
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
        _ => Err(out_of_turn()),
    }
}

/// The client has answered something else than what it was asked.
pub(super) fn out_of_turn() -> Error {
    Error::Protocol("the client sent another answer than the one that was expected".to_owned())
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // The end of the control line is the client's sign to go.
        drop(self.control.shutdown(std::net::Shutdown::Both));
        self.wait_exit();
    }
}

/// Starts the client as a child.
fn start_child(program: &Path, stdin: OwnedFd, stdout: OwnedFd) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(["client", client::WITH_PARENT]).stdin(stdin).stdout(stdout);
    let call = "fork(2) or execve(2) of the client process";
    Process::start(&mut command).map_err(|errno| {
        if program.starts_with("/proc") && !Path::new("/proc/self").exists() {
            let cause = "there is no /proc, by which the program finds itself: `mount -t proc proc /proc`";
            return Error::refused(call, errno, cause);
        }
        host::not_run(call, program, errno)
    })
}

/// Starts a peer's command without a terminal, so that nothing waits for a password that nobody is
/// asked for.
fn start_peer(command: &[String], stdin: OwnedFd, stdout: OwnedFd) -> Result<Process> {
    let (program, arguments) = command.split_first().ok_or_else(|| Error::Setting("no peer".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    let call = "fork(2) or execve(2) of the peer's command";
    Process::start_without_terminal(&mut command)
        .map(Process::ending_its_group)
        .map_err(|errno| host::not_run(call, Path::new(program), errno))
}
