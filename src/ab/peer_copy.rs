//! Brings each build's own program over to the peer's machine, and takes it away again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::deadlines::COPY_LIMIT;
use crate::error::{Error, Result};
use crate::host;
use crate::pair::{Peer, remove_peers_program};
use crate::process::Process;
use crate::random;

/// What stands for the program's path, in the command that copies it and in the peer's.
pub const PLACEHOLDER: &str = "{}";
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A program that lies on both machines under one path, until this is dropped.
#[derive(Debug)]
pub struct PeerCopy {
    path: PathBuf,
    peer: Peer,
}

impl PeerCopy {
    /// Copies `program` to a new path in `/tmp` here, and by `copy` to the same path on the peer's
    /// machine: in both commands `{}` stands for that path.
    ///
    /// # Errors
    /// [`Refused`](crate::path::Error::Refused) where the command fails, takes more than a minute,
    /// or is interrupted.
    pub fn make(program: &Path, copy: &[String], peer: &Peer, interrupted: &AtomicBool) -> Result<Self> {
        let path = PathBuf::from(format!("/tmp/{}{:016x}", Peer::COPY_PREFIX, random::number()?));
        let words = |words: &[String]| -> Vec<String> {
            words.iter().map(|word| word.replace(PLACEHOLDER, &path.display().to_string())).collect()
        };
        let peer = Peer { command: words(&peer.command), ..peer.clone() };
        // From here on it is removed, whatever happens.
        let copied = Self { path: path.clone(), peer };
        fs::copy(program, &path).map_err(Error::file("copy_file_range(2)", &path))?;
        run(&words(copy), interrupted)?;
        Ok(copied)
    }

    /// The peer's command, with the path in it.
    pub(crate) fn peer_command(&self) -> String {
        shlex::try_join(self.peer.command.iter().map(String::as_str)).unwrap_or_default()
    }
}

impl Drop for PeerCopy {
    fn drop(&mut self) {
        // Only a program that was brought over can be asked to remove itself.
        if let Err(error) = remove_peers_program(&self.peer) {
            let path = self.path.display();
            // Where standard error cannot be written, there is no place left to say so.
            drop(writeln!(io::stderr(), "sendpath: {path} may be left on the peer's machine: {error}"));
        }
        drop(fs::remove_file(&self.path));
    }
}

/// Runs the command without a terminal: `scp` that needs a password fails, and does not wait for
/// one.
fn run(words: &[String], interrupted: &AtomicBool) -> Result<()> {
    let call = "fork(2) or execve(2) of the command of --peer-copy";
    let shown = || shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default();
    let refused = |errno: io::Error, remedy: String| Error::refused(call, errno, remedy);
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::Setting("no --peer-copy".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = Process::start_without_terminal(&mut command)
        .map_err(|errno| host::not_run(call, Path::new(program), errno))?;
    let began = Instant::now();
    let may_go_on = || began.elapsed() <= COPY_LIMIT && !interrupted.load(Ordering::Relaxed);
    match process.wait_while(LOOK_AGAIN, may_go_on).map_err(Error::call("wait4(2)"))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(refused(
            io::Error::other(status.to_string()),
            format!("`{}` has to copy the program to the peer's machine", shown()),
        )),
        None => Err(refused(
            io::Error::from(io::ErrorKind::TimedOut),
            format!("`{}` was not done after {} s", shown(), began.elapsed().as_secs()),
        )),
    }
}
