//! Makes the executables that are compared: revisions are checked out beside each other, and built with one cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Error, Result};

/// The checkouts and executables of a comparison. Dropped, all of it goes.
#[derive(Debug)]
pub struct RevisionBuilds {
    folder: PathBuf,
    /// The repository's top folder.
    repository: PathBuf,
    worktrees: Vec<PathBuf>,
}

impl RevisionBuilds {
    /// A builds for the repository that the present folder is in.
    ///
    /// # Errors
    /// [`Error::Setting`] outside of a git repository, or without git.
    pub fn open() -> Result<Self> {
        let repository = PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"]).map_err(|error| {
            Error::Setting(format!(
                "ab takes revisions of a git repository, and this folder is in none ({error}): give executables by \
                 --base-bin and --change-bin instead"
            ))
        })?);
        let folder = std::env::temp_dir().join(format!("sendpath-ab-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(Error::file("mkdir(2)", &folder))?;
        Ok(Self { folder, repository, worktrees: Vec::new() })
    }

    /// The full name of a revision.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is none.
    pub fn resolve(&self, revision: &str) -> Result<String> {
        let commit = format!("{revision}^{{commit}}");
        git(&self.repository, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])
            .map_err(|_| Error::Setting(format!("{revision:?} is no revision of this repository")))
    }

    /// Whether the working tree has changes that are not committed.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        git(&self.repository, &["status", "--porcelain"]).is_ok_and(|changes| !changes.is_empty())
    }

    /// Builds a revision, or the working tree as it is, and gives the executable.
    ///
    /// # Errors
    /// [`Error::Build`], with the compiler's last words.
    pub fn build(&mut self, revision: Option<&str>, name: &str, interrupted: &AtomicBool) -> Result<PathBuf> {
        let source = match revision {
            None => self.repository.clone(),
            Some(revision) => {
                let worktree = self.folder.join(format!("{name}-source"));
                let path = worktree.display().to_string();
                self.worktrees.push(worktree.clone());
                git(&self.repository, &["worktree", "add", "--detach", "--quiet", &path, revision])
                    .map_err(|cause| Error::Build { what: revision.to_owned(), cause })?;
                worktree
            }
        };
        let what = revision.unwrap_or("the working tree").to_owned();
        // One folder for both builds: what they have in common is compiled once, and again by nobody.
        let target = self.repository.join("target").join("ab");
        let failed = |cause: String| Error::Build { what: what.clone(), cause };
        let log = self.folder.join(format!("{name}.log"));
        let errors = File::create(&log).map_err(Error::file("open(2)", &log))?;
        let mut cargo = Command::new("cargo")
            .args(["build", "--release", "--locked", "--bin", "sendpath", "--target-dir"])
            .arg(&target)
            .current_dir(&source)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|errno| failed(format!("cargo: {errno}")))?;
        let status = loop {
            if let Some(status) = cargo.try_wait().map_err(Error::call("wait4(2) of cargo"))? {
                break status;
            }
            if interrupted.load(Ordering::Relaxed) {
                drop(cargo.kill());
                drop(cargo.wait());
                return Err(failed("interrupted".to_owned()));
            }
            sleep(Duration::from_millis(20));
        };
        if !status.success() {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let error = text.lines().find(|line| line.starts_with("error")).or(text.lines().last());
            return Err(failed(error.unwrap_or("cargo build failed").to_owned()));
        }
        let executable = self.folder.join(format!("sendpath-{name}"));
        std::fs::copy(target.join("release/sendpath"), &executable)
            .map_err(Error::file("copy_file_range(2)", &executable))?;
        Ok(executable)
    }
}

impl Drop for RevisionBuilds {
    fn drop(&mut self) {
        for worktree in &self.worktrees {
            let path = worktree.display().to_string();
            drop(git(&self.repository, &["worktree", "remove", "--force", &path]));
        }
        drop(std::fs::remove_dir_all(&self.folder));
        drop(git(&self.repository, &["worktree", "prune"]));
    }
}

fn git(folder: &Path, arguments: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|errno| format!("git: {errno}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().last().unwrap_or("git failed").to_owned())
}
