//! The processes of a block, and the protocol between them. `sendpath ab` starts each process and
//! asks; the process is `sendpath worker`, and answers.
//!
//! Each message is a line of JSON: questions on the worker's standard input, answers on its
//! standard output. The first line comes from the worker and gives its [`PROTOCOL`].

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::deadlines::{WORKER_BURST_LIMIT, WORKER_END_LIMIT, WORKER_OPEN_LIMIT};
use crate::environment::Program;
use crate::error::{Error, Result};
use crate::host;
use crate::measure::burst::{probe_message_ns, short_duration, time_short, warm_up};
use crate::measure::environment;
use crate::pair::{Fault, FaultKind, Setup, Testbed};
use crate::process::Process;
use crate::program;
use crate::sample::{Sample, Side};

/// The version of this protocol. Two builds are compared only if both have the same one. It is
/// raised whenever a line changes its form: a request, an answer, or the case or the sample in it.
/// The files' layout has a version of its own ([`SCHEMA`](crate::results::store::SCHEMA)), which
/// may differ between the two builds.
///
/// 2: a case has shape, engine and threshold. A worker of protocol 1 would leave them out and
///    measure another case.
pub const PROTOCOL: u32 = 2;

/// No line of a worker is longer: the longest is a sample, of some kilobytes for each pair.
const MOST_LINE_BYTES: u64 = 1 << 20;
/// No more is read of what a worker says on stderr: its last line is looked for.
const MOST_STDERR_BYTES: u64 = 1 << 20;

/// A build of this program, and what to run it with.
#[derive(Clone, Debug)]
pub struct Build {
    /// The executable.
    pub program: PathBuf,
    /// Arguments for the link and the sockets.
    pub arguments: Vec<OsString>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Close the instance that is open, and open one of this case.
    Open { case: Case },
    /// Run a burst on the instance that is open.
    Burst { burst_ns: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// The first line. A build from before [`PROTOCOL`] sends none: that is 0.
    Ready {
        #[serde(default)]
        protocol: u32,
        program: Program,
        /// Whether CPU time has the softirqs in it, on both sides; a build whose client always was
        /// a child of its own does not say, and need not.
        #[serde(default)]
        cpu_time_is_whole: Option<bool>,
    },
    /// An instance is open. A burst of this length takes about as long as a burst should.
    Opened { burst_ns: u64 },
    /// What the burst measured.
    Done(Box<Sample>),
    /// Why the request could not be answered.
    Failed(String),
}

/// A worker process, as `ab` holds it. The process ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    questions: Option<ChildStdin>,
    answers: Receiver<Result<String>>,
    cpu_time_is_whole: bool,
}

impl Worker {
    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// [`Refused`](crate::path::Error::Refused) where it cannot be started, has no subcommand
    /// `worker`, or has another [`PROTOCOL`].
    pub fn start(build: &Build) -> Result<Self> {
        const CALL: &str = "sendpath worker";
        let refused = |errno: std::io::Error, remedy: String| Error::refused(CALL, errno, remedy);
        let shown = build.program.display().to_string();
        let mut command = Command::new(&build.program);
        command
            .arg("worker")
            .args(&build.arguments)
            .envs(build.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process =
            Process::start(&mut command).map_err(|errno| host::not_run(CALL, &build.program, errno))?;
        let child = process.child();
        let (Some(questions), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for");
        };
        let (sender, answers) = channel();
        let listen = move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(line) = read_line(&mut stdout).transpose() {
                let is_torn = line.is_err();
                if sender.send(line).is_err() || is_torn {
                    return;
                }
            }
            // The worker has closed its output. Its last line on stderr says why: a program without
            // this subcommand prints its usage there.
            let mut text = Vec::new();
            drop(stderr.take(MOST_STDERR_BYTES).read_to_end(&mut text));
            let text = String::from_utf8_lossy(&text);
            let cause = text.lines().last().unwrap_or("it ended and printed no error").to_owned();
            drop(serde_json::to_string(&Answer::Failed(cause)).map(|line| sender.send(Ok(line))));
        };
        let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(listen);
        thread.map_err(|errno| host::refused("pthread_create(3)", errno))?;
        let mut worker = Self { process, questions: Some(questions), answers, cpu_time_is_whole: false };
        match worker.answer(WORKER_OPEN_LIMIT) {
            Ok(Answer::Ready { protocol: PROTOCOL, cpu_time_is_whole, .. }) => {
                worker.cpu_time_is_whole = cpu_time_is_whole != Some(false);
                Ok(worker)
            }
            Ok(Answer::Ready { protocol, program, .. }) => Err(refused(
                std::io::Error::other(format!("protocol {protocol}, and this sendpath has {PROTOCOL}")),
                other_protocol(&format!("{shown} (revision {})", program.name()), protocol),
            )),
            Ok(_) => Err(Error::Protocol(format!("the first line of {shown} is not Ready"))),
            Err(Error::Peer { cause, .. }) => {
                let tried = "was started with the subcommand worker, and ended before it was ready";
                let remedy = format!("{shown} {tried}");
                Err(refused(std::io::Error::other(cause), remedy))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether CPU time has the softirqs in it, on both of its sides.
    pub(super) fn cpu_time_is_whole(&self) -> bool {
        self.cpu_time_is_whole
    }

    /// Opens an instance of `case`, and gives how long a burst of it should be, in nanoseconds.
    ///
    /// # Errors
    /// What the worker failed with, or a deadline.
    pub fn open(&mut self, case: Case) -> Result<u64> {
        match self.ask(&Request::Open { case }, WORKER_OPEN_LIMIT)? {
            Answer::Opened { burst_ns } => Ok(burst_ns),
            _ => Err(wrong_answer()),
        }
    }

    /// Runs a burst on the instance that is open.
    ///
    /// # Errors
    /// What the worker failed with, or a deadline.
    pub fn burst(&mut self, burst_ns: u64) -> Result<Sample> {
        match self.ask(&Request::Burst { burst_ns }, WORKER_BURST_LIMIT)? {
            Answer::Done(sample) => Ok(*sample),
            _ => Err(wrong_answer()),
        }
    }

    fn ask(&mut self, request: &Request, limit: Duration) -> Result<Answer> {
        let line = serde_json::to_string(request).map_err(|error| Error::Protocol(error.to_string()))? + "\n";
        if let Some(pipe) = &mut self.questions {
            // If the worker has ended, the cause comes as its answer.
            drop(pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush()));
        }
        self.answer(limit)
    }

    fn answer(&mut self, limit: Duration) -> Result<Answer> {
        let line = match self.answers.recv_timeout(limit) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::deadline("answer from a worker", limit));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Protocol("a worker ended between two questions".to_owned()));
            }
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(cause)) => Err(Error::Peer { side: Side::Server, cause }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Error::Protocol(format!("a worker's answer: {error}"))),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker ends when its input ends.
        drop(self.questions.take());
        drop(self.process.wait_for(WORKER_END_LIMIT));
    }
}

/// A line, without its end; none at the end of `answers`.
fn read_line(answers: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = Vec::new();
    let mut bounded = answers.take(MOST_LINE_BYTES);
    bounded.read_until(b'\n', &mut line).map_err(Error::call("read(2) of an answer"))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == MOST_LINE_BYTES {
        return Err(Error::Protocol(format!("a worker's line is longer than {MOST_LINE_BYTES} bytes")));
    } else if line.is_empty() {
        return Ok(None);
    }
    let no_text = |_| Error::Protocol("a worker's line is no UTF-8".to_owned());
    String::from_utf8(line).map(Some).map_err(no_text)
}

fn wrong_answer() -> Error {
    Error::Protocol("a worker's answer does not belong to the request".to_owned())
}

/// Which of the two is older, and the remedy.
fn other_protocol(worker: &str, protocol: u32) -> String {
    if protocol < PROTOCOL {
        format!("{worker} is older than this sendpath: compare with a revision that has protocol {PROTOCOL}")
    } else {
        format!("{worker} is newer than this sendpath: run ab from a build that has protocol {protocol}")
    }
}

/// `sendpath worker`: answers the questions on `input` until it ends. Every case pays `planted` on
/// its first pair, so that a campaign can see whether `ab` finds a known cost.
///
/// # Errors
/// What keeps it from starting, from reading or from answering. A case that fails is an answer, not
/// an error.
pub fn serve(
    setup: &Setup,
    planted: Option<FaultKind>,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<()> {
    let mut say = |answer: &Answer| -> Result<()> {
        let line = serde_json::to_string(answer).map_err(|error| Error::Protocol(error.to_string()))?;
        writeln!(output, "{line}").and_then(|()| output.flush()).map_err(Error::call("write(2) of an answer"))
    };
    let testbed = Testbed::start(setup)?;
    let fault = planted.map(|kind| Fault { side: Side::Server, pair: 0, at_message: 0, kind });
    let environment = environment::read(setup, testbed.effective(), &[])?;
    let cpu_time_is_whole = Some(environment.softirq_in_cpu_time() == Some(true));
    say(&Answer::Ready { protocol: PROTOCOL, program: program::this(), cpu_time_is_whole })?;
    let mut open = None;
    for line in input.lines() {
        let line = line.map_err(Error::call("read(2) of a request"))?;
        let request: Request =
            serde_json::from_str(&line).map_err(|error| Error::Protocol(error.to_string()))?;
        let answer = match request {
            Request::Open { case } => {
                open = None; // closed before the next is opened
                testbed.open_with_fault(case, fault).and_then(|mut instance| {
                    warm_up(&mut instance)?;
                    let burst_ns = short_duration(probe_message_ns(&mut instance)?).as_nanos() as u64;
                    open = Some(instance);
                    Ok(Answer::Opened { burst_ns })
                })
            }
            Request::Burst { burst_ns } => match &mut open {
                None => Err(Error::Protocol("a burst was asked for, and no instance is open".to_owned())),
                Some(instance) => time_short(instance, Duration::from_nanos(burst_ns))
                    .map(|sample| Answer::Done(Box::new(sample))),
            },
        };
        say(&answer.unwrap_or_else(|error| Answer::Failed(error.to_string())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_line_has_a_bound() {
        let mut answers = &b"first\n\nlast"[..];
        for line in ["first", "", "last"] {
            assert_eq!(read_line(&mut answers).unwrap().as_deref(), Some(line));
        }
        assert_eq!(read_line(&mut answers).unwrap(), None);
        let mut endless = BufReader::new(std::io::repeat(b'a'));
        assert!(read_line(&mut endless).unwrap_err().to_string().contains("longer than"));
        assert!(read_line(&mut &[0xff, b'\n'][..]).unwrap_err().to_string().contains("UTF-8"));
    }
}
