//! `sendpath compare`: compares two stored sweeps.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::print;
use super::sweep::parse_percent;
use super::{DONE, FAILED, UNDECIDED};
use crate::ab::format::{self, Conclusion, conclude};
use crate::results::{compare, store};

const AFTER_HELP: &str = "\
Examples:
  sendpath compare target-reports/20261101T… target-reports/20261120T…
  sendpath compare monday tuesday --margin 5% --json

The second sweep is compared with the first. The two were not interleaved: a change of the machine
between them is in every number and in no interval. So the exit code says nothing of what is found,
unless --fail-on-regression asks for it. To compare two revisions on one machine, use ab.

Exit codes: 0 compared, 2 bad input. With --fail-on-regression: 0 nothing is worse, 1 something is
worse, 3 undecided: a case may have lost more than --margin.";

/// Compare two stored sweeps: other days, kernels or machines
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The folder of the first sweep
    #[arg(value_name = "DIR_A")]
    first: PathBuf,
    /// The folder of the second sweep, which is compared with the first
    #[arg(value_name = "DIR_B")]
    second: PathBuf,
    /// How much worse a case's throughput may be, as far as the data can tell
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = parse_percent)]
    margin: f64,
    /// Exit with 1 where something is worse, and with 3 where it cannot be told
    #[arg(long)]
    fail_on_regression: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads, compares, prints.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let (first, second) = (store::read(&options.first)?, store::read(&options.second)?);
    for warning in first.warnings.iter().chain(&second.warnings) {
        eprintln!("sendpath: {warning}");
    }
    let compared = compare::compare(&first, &second, options.margin);
    let text = if options.json {
        let value = json!({
            "schema": store::SCHEMA,
            "interleaved": false,
            "differences": compared.differences,
            "only_first": compared.only_first,
            "only_second": compared.only_second,
            "conclusion": format::sentence(&compared.outcome),
            "outcome": compared.outcome,
        });
        serde_json::to_string_pretty(&value)? + "\n"
    } else {
        let mut text =
            String::from("Not interleaved: a change of the machine between the two is in these numbers.\n");
        for difference in &compared.differences {
            text = format!("{text}  {difference}\n");
        }
        text += &format::text(&compared.outcome);
        for (folder, cases) in
            [(&options.first, &compared.only_first), (&options.second, &compared.only_second)]
        {
            for case in cases {
                text = format!("{text}only in {}: {case}\n", folder.display());
            }
        }
        text
    };
    print(&text)?;
    Ok(match conclude(&compared.outcome) {
        _ if !options.fail_on_regression => DONE,
        Conclusion::None => DONE,
        Conclusion::Regression => FAILED,
        Conclusion::Undecided | Conclusion::Nothing => UNDECIDED,
    })
}
