//! The processes of a block: one side starts them and tells them what to do, the other is `sendpath worker`.
//!
//! Frames are lines of JSON: questions on the worker's standard input, answers on its standard output. The first
//! line is the worker's, and says which program it is.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::error::{Error, Result};
use crate::measure::burst::{calibrate_short, time_short, warm_up};
use crate::pair::{Setup, Testbed};
use crate::results::store::{Program, SCHEMA};
use crate::sample::Sample;

/// How long a worker may take to answer: longer than any burst, and than the deadlines inside it.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
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
enum Question {
    /// Opens an instance of a case, in place of the one before.
    Open { case: Case },
    /// Runs a burst on it.
    Burst { duration: Duration },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready { schema: u32, program: Program },
    Opened { duration: Duration },
    Done(Box<Sample>),
    Failed(String),
}

/// A worker process, from outside. Dropped, it ends.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    questions: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Worker {
    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Refused`] where it cannot be started or is no such program; what it failed with itself.
    pub fn start(build: &Build) -> Result<Self> {
        let refused = |errno: std::io::Error, remedy: String| Error::Refused {
            call: "execve(2) of a worker",
            errno,
            remedy,
        };
        let shown = build.program.display().to_string();
        let mut child = Command::new(&build.program)
            .arg("worker")
            .args(&build.arguments)
            .envs(build.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C reaches the one who compares, who ends the others in good order.
            .process_group(0)
            .spawn()
            .map_err(|errno| refused(errno, format!("{shown} cannot be run")))?;
        let (Some(questions), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for");
        };
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
            // Its last words, for whoever waits: what a program says that has no such subcommand.
            let mut words = String::new();
            drop(stderr.read_to_string(&mut words));
            let last: VecDeque<&str> = words.lines().collect();
            let last = last.back().copied().unwrap_or("it ended without a word").to_owned();
            drop(serde_json::to_string(&Answer::Failed(last)).map(|line| sender.send(line)));
        });
        let mut worker = Self { child, questions: Some(questions), answers };
        match worker.answer() {
            Ok(Answer::Ready { schema: SCHEMA, .. }) => Ok(worker),
            Ok(Answer::Ready { schema, program }) => Err(refused(
                std::io::Error::other("another schema"),
                format!(
                    "{shown} (revision {}) has schema {schema}, this one {SCHEMA}: they cannot be compared",
                    program.name()
                ),
            )),
            Ok(_) => Err(Error::Protocol(format!("{shown} did not say that it is ready"))),
            Err(Error::Peer { cause, .. }) => Err(refused(
                std::io::Error::other(cause),
                format!("is {shown} a sendpath from before `ab`? It has to have the subcommand worker"),
            )),
            Err(error) => Err(error),
        }
    }

    /// Opens an instance of `case`; gives the length of burst that it finds right.
    ///
    /// # Errors
    /// What the worker failed with, or a deadline.
    pub fn open(&mut self, case: Case) -> Result<Duration> {
        match self.ask(&Question::Open { case })? {
            Answer::Opened { duration } => Ok(duration),
            _ => Err(out_of_turn()),
        }
    }

    /// Runs a burst on the instance that is open.
    ///
    /// # Errors
    /// What the worker failed with, or a deadline.
    pub fn burst(&mut self, duration: Duration) -> Result<Sample> {
        match self.ask(&Question::Burst { duration })? {
            Answer::Done(sample) => Ok(*sample),
            _ => Err(out_of_turn()),
        }
    }

    fn ask(&mut self, question: &Question) -> Result<Answer> {
        let line =
            serde_json::to_string(question).map_err(|error| Error::Protocol(error.to_string()))? + "\n";
        if let Some(pipe) = &mut self.questions {
            // One that is gone says why on the other pipe.
            drop(pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush()));
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = match self.answers.recv_timeout(ANSWER_LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::Deadline { waiting_for: "answer from a worker", waited: ANSWER_LIMIT });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Protocol("a worker has ended".to_owned()));
            }
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(cause)) => Err(Error::Peer { side: crate::sample::Side::Server, cause }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Error::Protocol(format!("a worker's answer: {error}"))),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input is its sign to go.
        drop(self.questions.take());
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn out_of_turn() -> Error {
    Error::Protocol("a worker's answer was not the one that was due".to_owned())
}

/// `sendpath worker`: does what the lines on `input` say, until they end.
///
/// # Errors
/// What keeps it from starting, or from answering. What a case fails with is an answer.
pub fn serve(setup: &Setup, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut say = |answer: &Answer| -> Result<()> {
        let line = serde_json::to_string(answer).map_err(|error| Error::Protocol(error.to_string()))?;
        writeln!(output, "{line}").and_then(|()| output.flush()).map_err(Error::call("write(2) of an answer"))
    };
    let testbed = Testbed::start(setup)?;
    say(&Answer::Ready { schema: SCHEMA, program: Program::this() })?;
    let mut open = None;
    for line in input.lines() {
        let line = line.map_err(Error::call("read(2) of a question"))?;
        let question: Question =
            serde_json::from_str(&line).map_err(|error| Error::Protocol(error.to_string()))?;
        let answer = match question {
            Question::Open { case } => {
                open = None; // closed before the next is opened
                testbed.open(case).and_then(|mut instance| {
                    warm_up(&mut instance)?;
                    let duration = calibrate_short(&mut instance)?;
                    open = Some(instance);
                    Ok(Answer::Opened { duration })
                })
            }
            Question::Burst { duration } => match &mut open {
                None => Err(Error::Protocol("a burst without an instance".to_owned())),
                Some(instance) => time_short(instance, duration).map(|sample| Answer::Done(Box::new(sample))),
            },
        };
        say(&answer.unwrap_or_else(|error| Answer::Failed(error.to_string())))?;
    }
    Ok(())
}
