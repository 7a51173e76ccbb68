//! Puts the revision that is built into the program, so that each result can say what made it.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for source in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={source}");
    }
    // A commit and a checkout move these; outside a repository there is nothing to watch.
    if let Some(folder) = git(&["rev-parse", "--absolute-git-dir"]) {
        for file in ["HEAD", "index", "logs/HEAD"] {
            let file = Path::new(&folder).join(file);
            if file.exists() {
                println!("cargo::rerun-if-changed={}", file.display());
            }
        }
    }
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock", "build.rs"]);
    let dirty = changed.is_some_and(|changed| !changed.is_empty());
    println!("cargo::rustc-env=SENDPATH_REVISION={revision}");
    println!("cargo::rustc-env=SENDPATH_DIRTY={dirty}");
}

/// What git says; none outside a repository, where a package was unpacked, or without git.
fn git(arguments: &[&str]) -> Option<String> {
    // The repository of this very folder, not one that happens to lie around it.
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
