//! `sendpath report`: a page, figures and answers from a sweep's folder.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;

use super::DONE;
use super::answer::{json, write_page};
use super::output::{note, print};
use super::sweep::parse_fragment_cost;
use crate::report::{self, Look};
use crate::results::analysis::analyse_stored;
use crate::results::{store, summary};

const AFTER_HELP: &str = "\
Examples:
  sendpath report target-reports/20261120T133000Z-0123456789ab-host
  sendpath report --open target-reports/reference
  sendpath report target-reports/reference --fragment-cost 80ns
  sendpath report --json target-reports/reference

Reads environment.json and samples.csv (or samples.csv.gz) and changes neither. Writes summary.csv,
report.html (one file, which needs no network) and each figure as SVG and PNG into the same folder;
earlier ones are replaced.

Exit codes: 0 written, 1 a file could not be written, 2 bad input: no sweep, another schema, a row that
cannot be read. A last line without an end, as a kill leaves it, is left out with a warning.";

/// Make a page of a sweep: the decision, figures, tables, six questions answered
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The folder that `sendpath sweep` made
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What your network card's driver takes for a fragment (80ns): moves what is said of the
    /// sender alone; summary.csv stays as measured
    #[arg(long, value_name = "TIME", value_parser = parse_fragment_cost)]
    fragment_cost: Option<f64>,
    /// A row for each case and each comparison in the page as well, and links to those that a
    /// sentence rests on
    #[arg(long)]
    full: bool,
    /// Print the decision as JSON
    #[arg(long)]
    json: bool,
    /// Show the page in a browser (by xdg-open)
    #[arg(long)]
    open: bool,
}

/// Reads, draws, writes.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let sweep = store::read(&options.folder)?;
    let analysis = analyse_stored(&sweep.manifest, &sweep.records);
    let fragment_ns = options.fragment_cost.unwrap_or_default();
    store::replace(&options.folder.join(summary::SUMMARY), &summary::csv(&sweep, &analysis)?)?;
    let page = report::page_with(&sweep, &analysis, fragment_ns);
    let path = write_page(&options.folder, &page, options.full)?;
    for figure in &page.figures {
        let svg = report::svg(figure, Look::File)?;
        store::replace(&options.folder.join(format!("{}.svg", figure.id)), svg.as_bytes())?;
        let path = options.folder.join(format!("{}.png", figure.id));
        store::replace_by(&path, |_, new| report::png(figure, new))?;
    }
    // After all is written: on a full disk the error comes first, since a torn line follows from
    // it.
    for warning in &sweep.warnings {
        note(&format!("sendpath: {warning}"));
    }
    print(&if options.json { json(&page)? } else { format!("{}page: {}\n", page.terminal, path.display()) })?;
    if options.open {
        let opened = Command::new("xdg-open")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = opened {
            note(&format!("sendpath: xdg-open: {error}: open the page by hand"));
        }
    }
    Ok(DONE)
}
