//! Hundreds of sweeps at once, in time and memory: `cargo bench -p experiments --bench fleet`.
//!
//! It generates the sweeps, a quarter of a GiB of rows, in a temporary folder, and runs `compare`
//! and `history --by host` on them: with their summaries, as sweeps leave them, and some of them
//! without, so that the rows have to be read. Fails where it takes more memory than it may.

#[path = "../tests/common/fleet.rs"]
mod fleet;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use fleet::Size;
use nix::sys::resource::{UsageWho, getrusage};
use sendpath::error::{Error, Result};

const SWEEPS: u64 = 300;
/// A third of the rows of a sweep of a minute.
const SIZE: Size = Size { lives: 12, rounds: 10, bins: 60 };
const WITHOUT_SUMMARY: usize = 20;
const MOST_MIB: i64 = 500;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sendpath: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let into = tempfile::tempdir().map_err(Error::call("mkdtemp(3)"))?;
    let mut folders = Vec::new();
    for seed in 0..SWEEPS {
        let slower = if seed % 100 == 7 { 1.3 } else { 1.0 };
        folders.push(fleet::sweep(into.path(), &format!("node-{seed:03}"), slower, seed, SIZE)?);
    }
    let bytes: u64 = folders
        .iter()
        .filter_map(|folder| fs::metadata(folder.join("samples.csv")).ok())
        .map(|of| of.len())
        .sum();
    println!("{SWEEPS} sweeps, {} MiB of rows", bytes >> 20);
    println!("command                                 seconds  peak MiB so far");
    let page = into.path().join("fleet.html");
    let mut all_well = true;
    for without_summary in [0, WITHOUT_SUMMARY] {
        for folder in &folders[..without_summary] {
            let path = folder.join("summary.csv");
            fs::remove_file(&path).map_err(Error::file("unlink(2)", &path))?;
        }
        let of = format!("{without_summary} without a summary");
        all_well &= timed(&format!("compare, {of}"), Command::new(program()).arg("compare").args(&folders))?;
        let history = ["history", "--by", "host", "--out"];
        all_well &= timed(
            &format!("history, {of}"),
            Command::new(program()).args(history).arg(&page).args(&folders),
        )?;
    }
    println!("the page has {} KiB", fs::metadata(&page).map_or(0, |of| of.len() >> 10));
    Ok(all_well)
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_experiments"))
}

/// Runs a command and prints a line; whether it succeeded and took no more memory than it may.
fn timed(name: &str, command: &mut Command) -> Result<bool> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).status().map_err(Error::call("execve(2) of sendpath"))?;
    let seconds = begin.elapsed().as_secs_f64();
    // The largest of all children so far, so that the order of the commands does not hide one.
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(Error::call("getrusage(2)"))?;
    let peak_mib = usage.max_rss() >> 10;
    println!("{name:<40} {seconds:>6.2} {peak_mib:>16}");
    if !status.success() || peak_mib >= MOST_MIB {
        eprintln!("{name}: {status}, and it may take less than {MOST_MIB} MiB");
        return Ok(false);
    }
    Ok(true)
}
