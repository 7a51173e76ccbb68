//! The server's line to the client process: starts it, asks it, hears why it failed, and ends it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Token;
use super::control::{ToClient, ToServer, write_frame};
use super::watch::{Supervisor, Watch};
use crate::error::{Error, Result};
use crate::sample::Side;

/// How long the client may take for what is no burst.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
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
    /// Something went wrong in the present instance: the client is not waited for long.
    failed: bool,
    /// The client was killed, because it did not answer; it may still be seen for a moment.
    killed: bool,
}

impl ClientProcess {
    /// Starts `program` as the client. It gets the control socket as its standard input, and a process
    /// group of its own, so that Ctrl-C reaches the server alone, which then ends it in good order.
    pub(super) fn open(program: &Path) -> Result<Self> {
        let (control, theirs) = UnixStream::pair().map_err(Error::call("socketpair(2)"))?;
        control
            .set_write_timeout(Some(ANSWER_LIMIT))
            .and_then(|()| control.set_read_timeout(Some(ANSWER_LIMIT)))
            .map_err(Error::call("setsockopt(2) SO_RCVTIMEO"))?;
        let child = Command::new(program)
            .arg("client")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|errno| Error::Refused {
                call: "execve(2) of the client process",
                errno,
                remedy: format!("{} is not the sendpath command; build it again", program.display()),
            })?;
        let watch = Arc::new(Watch::default());
        let supervisor = Supervisor::start(&control, &watch, Side::Client, |frame| match frame {
            ToServer::Failed { cause, echo: false } => {
                Some(Error::Peer { side: Side::Client, cause: cause.clone() })
            }
            _ => None,
        })?;
        Ok(Self { control, supervisor, watch, child, exit: None, failed: false, killed: false })
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

    /// Waits for the answer to the frame that was sent last.
    pub(super) fn answer(&mut self) -> Result<ToServer> {
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
                    break Error::Deadline { waiting_for, waited: ANSWER_LIMIT };
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
        if write_frame(&mut self.control, &ToClient::Close { token }).is_ok() {
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
        self.killed = true;
        drop(self.child.kill());
    }

    /// The client's exit, waited for, in words.
    fn how_it_ended(&mut self) -> String {
        match self.wait_exit() {
            None => String::new(),
            Some(status) => match status.signal().map(Signal::try_from) {
                Some(Ok(signal)) => format!(": killed by {signal}"),
                _ => format!(": {status}"),
            },
        }
    }

    fn wait_exit(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + EXIT_LIMIT;
        while self.exit.is_none() && Instant::now() < deadline {
            self.exit = self.child.try_wait().ok().flatten();
            if self.exit.is_none() {
                sleep(Duration::from_millis(1));
            }
        }
        self.exit
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // The end of the control socket is the client's sign to go.
        drop(self.control.shutdown(std::net::Shutdown::Both));
        if self.wait_exit().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
