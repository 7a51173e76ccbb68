//! Puts the revision that is built into the program, so that each result can say what made it.

use std::path::Path;
use std::process::Command;

/// What the program is made of. It is dirty if one of these differs from the revision.
const SOURCES: [&str; 5] = ["src", "crates", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    // A package has no `crates`: they are dependencies there.
    for source in SOURCES.into_iter().filter(|source| Path::new(source).exists()) {
        println!("cargo::rerun-if-changed={source}");
    }
    // Each commit, checkout and reset is a line of logs/HEAD. The index is not watched: git
    // rewrites it for its own purposes (`git status` does), and what is staged makes no difference
    // to what is built. Outside a repository there is nothing to watch.
    if let Some(folder) = git(&["rev-parse", "--absolute-git-dir"]) {
        for file in ["HEAD", "logs/HEAD"] {
            let file = Path::new(&folder).join(file);
            // A file that does not exist counts as changed in every build.
            if file.exists() {
                println!("cargo::rerun-if-changed={}", file.display());
            }
        }
    }
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    // The files against the revision, past the index.
    let changed = git(&[&["diff", "--name-only", "HEAD", "--"][..], &SOURCES].concat());
    let added = git(&[&["ls-files", "--others", "--exclude-standard", "--"][..], &SOURCES].concat());
    let dirty = [changed, added].into_iter().flatten().any(|files| !files.is_empty());
    println!("cargo::rustc-env=SENDPATH_REVISION={revision}");
    println!("cargo::rustc-env=SENDPATH_DIRTY={dirty}");
}

/// What git prints; none outside a repository, where a package was unpacked, or without git.
fn git(arguments: &[&str]) -> Option<String> {
    // The repository of this folder, not one that contains it.
    if !Path::new(".git").exists() {
        return None;
    }
    // Without optional locks git does not rewrite the index.
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
