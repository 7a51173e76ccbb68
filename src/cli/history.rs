//! `sendpath history`: one page of all stored sweeps.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::answer::write_front;
use super::output::{note, print};
use super::{DONE, word};
use crate::error::Error;
use crate::report::{By, HOME, history, render};
use crate::results::{digest, store};

const AFTER_HELP: &str = "\
Examples:
  sendpath history                          target-reports/history.html, of all sweeps in target-reports
  sendpath history --by kernel target-reports/*-server1
  sendpath history --by host results/*      of many machines: those out of the ordinary marked
  sendpath history --out nightly.html

Exit codes: 0 written, 1 a file could not be written, 2 bad input. A folder that is no sweep, or of another
schema, is left out with a message.";

/// Make one page of all stored sweeps: steps marked, or machines out of the ordinary
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// Folders of sweeps [default: all in target-reports]
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// What stands on the x axis
    #[arg(long, value_parser = word::<By>(), value_name = "NAME", default_value_t = By::Rev)]
    by: By,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "target-reports/history.html")]
    out: PathBuf,
}

/// Reads, draws, writes.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let folders = if options.folders.is_empty() { stored()? } else { options.folders.clone() };
    let mut sweeps = Vec::new();
    for read in digest::read_all(&folders) {
        match read {
            Ok(sweep) => sweeps.push(sweep),
            Err(error) => note(&format!("sendpath: left out: {error}")),
        }
    }
    if sweeps.is_empty() {
        return Err(
            Error::Setting("there is no sweep to show: make one with `sendpath sweep`".to_owned()).into()
        );
    }
    let page = history(&sweeps, options.by);
    store::replace(&options.out, render(&page, true)?.as_bytes())?;
    write_front(&options.out, None)?;
    // Where two are compared, the largest change is the first claim.
    let largest = page.verdict.first().filter(|_| !page.dots.is_empty());
    let largest = largest.map_or_else(String::new, |claim| format!("{}\n", claim.text));
    print(&format!("{}\n{largest}{}\n", page.headline, options.out.display()))?;
    Ok(DONE)
}

/// The folders in target-reports that have a manifest.
fn stored() -> Result<Vec<PathBuf>, Error> {
    let home = Path::new(HOME);
    let entries = fs::read_dir(home).map_err(Error::file("opendir(3)", home))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("environment.json").is_file());
    folders.sort();
    Ok(folders)
}
