//! Builds the executables that are compared. Both builds share one target folder, so that what they
//! depend on is compiled once.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::Process;

/// How often a build is checked for its end, and for an interruption.
const POLL: Duration = Duration::from_millis(20);

/// The executables of a comparison. They are removed when this is dropped.
#[derive(Debug)]
pub(crate) struct RevisionBuilds {
    /// A temporary folder for checkouts, logs and executables.
    folder: PathBuf,
    /// The repository's top folder.
    repository: PathBuf,
}

impl RevisionBuilds {
    /// Prepares builds of the repository that the current folder is in.
    ///
    /// # Errors
    /// [`Error::Setting`] outside a git repository, or without git.
    pub(crate) fn open() -> Result<Self> {
        let here = Path::new(".");
        let repository = git(here, &["rev-parse", "--show-toplevel"]).map_err(|refused| {
            let why = if refused.is_missing {
                "git is not to be found"
            } else if is_in_a_repository(here) {
                "git refuses this one"
            } else {
                "this folder is not in one"
            };
            Error::Setting(format!(
                "ab takes revisions of a git repository, and {why} ({refused}): mend that, or give executables by \
                 --base-bin and --change-bin instead"
            ))
        })?;
        let repository = PathBuf::from(repository);
        let folder = std::env::temp_dir().join(format!("sendpath-ab-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(Error::file("mkdir(2)", &folder))?;
        Ok(Self { folder, repository })
    }

    /// The full name of a revision.
    ///
    /// # Errors
    /// [`Error::Setting`] where this repository has no such revision.
    pub(crate) fn resolve(&self, revision: &str) -> Result<String> {
        let commit = format!("{revision}^{{commit}}");
        git(&self.repository, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).map_err(
            |refused| match refused.text.as_str() {
                // What `--quiet` leaves of a name that there is not.
                SILENT => Error::Setting(format!("{revision:?} is not a revision of this repository")),
                text => Error::Setting(format!("revision {revision:?}: {text}")),
            },
        )
    }

    /// Whether the working tree has changes that are not committed.
    pub(crate) fn is_dirty(&self) -> bool {
        git(&self.repository, &["status", "--porcelain"]).is_ok_and(|changes| !changes.is_empty())
    }

    /// Builds a revision, or the working tree as it is, and gives the executable.
    ///
    /// # Errors
    /// [`Error::Build`], with the compiler's first error; [`Error::Setting`] while another `ab`
    /// builds here.
    pub(crate) fn build(
        &self,
        revision: Option<&str>,
        name: &str,
        interrupted: &AtomicBool,
    ) -> Result<PathBuf> {
        let failed = |cause| Error::Build { what: revision.unwrap_or("the working tree").to_owned(), cause };
        // Kept for the next run. It is not target/release itself, where a build of another revision
        // would take the place of the user's own.
        let target = self.repository.join("target").join("ab");
        std::fs::create_dir_all(&target).map_err(Error::file("mkdir(2)", &target))?;
        // Until the executable is copied, no other build may put its own in that place.
        let _lock = lock(&target)?;
        let checkout =
            |revision| Worktree::add(&self.repository, self.folder.join(format!("{name}-source")), revision);
        let worktree = revision.map(checkout).transpose().map_err(failed)?;
        let source = worktree.as_ref().map_or(&self.repository, |worktree| &worktree.folder);
        let log = self.folder.join(format!("{name}.log"));
        let cargo = |arguments: &[&str]| cargo(source, &target, &log, arguments, interrupted).map_err(failed);
        // Cargo does not tell one checkout of a package from another (the folder's name is in
        // neither the hash nor the fingerprint), and takes what is older than the last build for
        // built. Without this the working tree would get the executable of the base.
        cargo(&["clean", "--workspace"])?;
        cargo(&["build", "--bin", "sendpath"])?;
        let executable = self.folder.join(format!("sendpath-{name}"));
        std::fs::copy(target.join("release/sendpath"), &executable)
            .map_err(Error::file("copy_file_range(2)", &executable))?;
        Ok(executable)
    }
}

impl Drop for RevisionBuilds {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A checkout of a revision. It is removed when this is dropped.
struct Worktree<'a> {
    repository: &'a Path,
    folder: PathBuf,
}

impl<'a> Worktree<'a> {
    fn add(repository: &'a Path, folder: PathBuf, revision: &str) -> std::result::Result<Self, String> {
        // Before the call, so that a checkout that fails half-way is removed as well.
        let worktree = Self { repository, folder };
        let path = worktree.folder.display().to_string();
        git(repository, &["worktree", "add", "--detach", "--quiet", &path, revision])
            .map_err(|refused| refused.text)?;
        Ok(worktree)
    }
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        let path = self.folder.display().to_string();
        drop(git(self.repository, &["worktree", "remove", "--force", &path]));
        drop(std::fs::remove_dir_all(&self.folder));
        drop(git(self.repository, &["worktree", "prune"]));
    }
}

/// Locks the target folder. The lock is released when the file is dropped.
fn lock(target: &Path) -> Result<File> {
    let path = target.join("sendpath-ab.lock");
    let file = File::create(&path).map_err(Error::file("open(2)", &path))?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Error::Setting(format!(
            "another ab is building in {}: start this one when that build has ended",
            target.display()
        )),
        TryLockError::Error(errno) => Error::file("flock(2)", &path)(errno),
    })?;
    Ok(file)
}

/// Runs a cargo command in release mode; the error is the compiler's first.
fn cargo(
    source: &Path,
    target: &Path,
    log: &Path,
    arguments: &[&str],
    interrupted: &AtomicBool,
) -> std::result::Result<(), String> {
    let errors = File::create(log).map_err(|errno| format!("open(2) {}: {errno}", log.display()))?;
    let mut command = Command::new("cargo");
    command
        .args(arguments)
        .args(["--release", "--locked", "--target-dir"])
        .arg(target)
        // The user may have set another folder for what cargo cleans here.
        .env("CARGO_BUILD_BUILD_DIR", target)
        .current_dir(source)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors);
    let mut cargo = Process::start(&mut command).map_err(|errno| format!("cargo: {errno}"))?;
    // An interruption ends the compilers with it.
    let exit = cargo.wait_while(POLL, || !interrupted.load(Ordering::Relaxed));
    let status = exit.map_err(|errno| format!("wait4(2) of cargo: {errno}"))?.ok_or("interrupted")?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let error = text.lines().find(|line| line.starts_with("error")).or(text.lines().last());
    Err(error.unwrap_or("cargo failed and printed no error").to_owned())
}

/// What git says that prints nothing.
const SILENT: &str = "git failed and printed no error";

/// Why git did not do it.
#[derive(Debug)]
struct Refused {
    /// Whether there is no git.
    is_missing: bool,
    /// Its last line.
    text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether there is a repository at or above `folder`, whatever git makes of it.
fn is_in_a_repository(folder: &Path) -> bool {
    std::env::var_os("GIT_DIR").is_some()
        || folder.canonicalize().is_ok_and(|path| path.ancestors().any(|above| above.join(".git").exists()))
}

fn git(folder: &Path, arguments: &[&str]) -> std::result::Result<String, Refused> {
    // Without optional locks `git status` leaves the index of the user's repository as it is.
    let output = Command::new("git")
        .arg("--no-optional-locks")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|errno| Refused {
        is_missing: errno.kind() == ErrorKind::NotFound,
        text: format!("git: {errno}"),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    // Of several lines the first says what is wrong, and the others what to do.
    let line = text.lines().find(|line| line.starts_with("fatal:")).or(text.lines().last());
    Err(Refused { is_missing: false, text: line.unwrap_or(SILENT).to_owned() })
}
