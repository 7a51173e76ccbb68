//! `sendpath compare`: compares two stored sweeps, or the machines of many.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{self, note, print};
use super::sweep::parse_percent;
use super::{DONE, FAILED, UNDECIDED, code_of};
use crate::ab::format::{self, conclude};
use crate::format::distance;
use crate::report::{difference, too_few};
use crate::results::digest::{self, Digest};
use crate::results::fleet::{Fleet, fleets};
use crate::results::{compare, store};

const AFTER_HELP: &str = "\
Examples:
  sendpath compare target-reports/20261101T… target-reports/20261120T…
  sendpath compare monday tuesday --table
  sendpath compare monday tuesday --margin 5% --json
  sendpath compare results/*    of many machines: which of them are out of the ordinary

Of two sweeps, the second is compared with the first. Of more, each machine is compared with the
median over machines in all that they measured; the sweeps of one host are one machine. A machine is
marked where it differs from that median by more than machines differ. That takes five machines.

Sweeps are not interleaved: a change of the machine between them is in every number, and of two
sweeps in no interval. So the exit code says nothing of what is found, unless --fail-on-regression
asks for it. To compare two revisions on one machine, use ab.

Exit codes: 0 compared, 2 bad input. With --fail-on-regression: 0 nothing is worse, 1 something is
worse, 3 undecided: a case may have lost more than --margin, or there are too few machines.";

/// Compare stored sweeps: two of them, or the machines of many
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The folders of the sweeps: two, of which the second is compared with the first, or more
    #[arg(value_name = "DIR", num_args = 2.., required = true)]
    folders: Vec<PathBuf>,
    /// How much worse a case's throughput may be, as far as the data can tell; of many machines,
    /// how much worse a marked one may be
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = parse_percent)]
    margin: f64,
    /// Exit with 1 where something is worse, and with 3 where it cannot be told
    #[arg(long)]
    fail_on_regression: bool,
    /// Print every comparison of two sweeps, and not those alone in which something was found
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads, compares, prints.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let found = match options.folders.as_slice() {
        [first, second] => two(first, second, options)?,
        _ => many(options)?,
    };
    Ok(if options.fail_on_regression { found } else { DONE })
}

/// Compares the second sweep with the first, and gives the exit code of what was found.
fn two(first_folder: &PathBuf, second_folder: &PathBuf, options: &Options) -> anyhow::Result<u8> {
    let (first, second) = (store::read(first_folder)?, store::read(second_folder)?);
    for warning in first.warnings.iter().chain(&second.warnings) {
        note(&format!("sendpath: {warning}"));
    }
    let compared = compare::compare(&first, &second, options.margin);
    let conclusion = if compared.outcome.comparisons.is_empty() {
        "Nothing was compared: the two have no case in common that both measured often enough.".to_owned()
    } else {
        format::sentence(&compared.outcome)
    };
    let text = if options.json {
        output::json(&json!({
            "schema": store::SCHEMA,
            "interleaved": false,
            "differences": compared.differences,
            "only_first": compared.only_first,
            "only_second": compared.only_second,
            "conclusion": conclusion,
            "outcome": compared.outcome,
        }))?
    } else {
        // What it comes to first.
        let mut text = format!(
            "{conclusion}\nNot interleaved: a change of the machine between the two is in these numbers.\n"
        );
        text.extend(compared.differences.iter().map(|difference| format!("  {difference}\n")));
        text +=
            &if options.table { format::text(&compared.outcome) } else { format::found(&compared.outcome) };
        for (folder, cases) in [(first_folder, &compared.only_first), (second_folder, &compared.only_second)]
        {
            text.extend(cases.iter().map(|case| format!("only in {}: {case}\n", folder.display())));
        }
        text
    };
    print(&text)?;
    Ok(code_of(conclude(&compared.outcome)))
}

/// Compares the machines of many sweeps, and gives the exit code of what was found.
fn many(options: &Options) -> anyhow::Result<u8> {
    let digests = digest::read_all(&options.folders).into_iter().collect::<Result<Vec<Digest>, _>>()?;
    for warning in digests.iter().flat_map(|digest| &digest.warnings) {
        note(&format!("sendpath: {warning}"));
    }
    let fleets = fleets(&digests);
    if options.json {
        let value = json!({
            "schema": store::SCHEMA,
            "interleaved": false,
            "fleets": fleets.iter().map(as_json).collect::<Vec<_>>(),
        });
        print(&output::json(&value)?)?;
    } else {
        print(&fleets.iter().map(as_text).collect::<Vec<_>>().join("\n"))?;
    }
    let is_worse = |fleet: &Fleet<'_>| {
        fleet.marked().any(|(_, of)| of.gain.is_some_and(|gain| gain.value < 1.0 - options.margin))
    };
    Ok(if fleets.iter().any(is_worse) {
        FAILED
    } else if fleets.iter().all(Fleet::can_tell) {
        DONE
    } else {
        UNDECIDED
    })
}

fn as_text(fleet: &Fleet<'_>) -> String {
    let sweeps: usize = fleet.machines.iter().map(|machine| machine.sweeps.len()).sum();
    let mut text =
        format!("{} machines, {sweeps} sweeps, {}. Not interleaved.\n\n", fleet.machines.len(), fleet.link);
    let width = fleet.cases.iter().map(|case| case.case.to_string().len()).max().unwrap_or(0).clamp(20, 80);
    let heads = ["case", "by", "median", "spread", "machines"].map(str::to_owned);
    let cells = fleet.cases.iter().map(|of| {
        let spread = of.spread.map_or_else(|| "-".to_owned(), distance);
        let (median, machines) = (of.metric.value(of.typical), of.machines.len().to_string());
        [of.case.to_string(), of.metric.name().to_owned(), median, spread, machines]
    });
    for [case, by, median, spread, machines] in [heads].into_iter().chain(cells) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{case:<width$}  {by:<17} {median:>12} {spread:>9} {machines:>9}");
    }
    text.push('\n');
    for (case, of) in fleet.marked() {
        let Some(gain) = of.gain else { continue };
        let _ = writeln!(
            text,
            "{} is out of the ordinary: {}, {}: {}, {}",
            fleet.machines[of.machine].host,
            case.case,
            case.metric.name(),
            case.metric.value(of.measure.value),
            difference(case.metric, gain)
        );
    }
    if !fleet.can_tell() {
        let _ = writeln!(text, "{}", too_few(fleet));
    } else if fleet.marked().next().is_none() {
        text += "no machine is out of the ordinary\n";
    }
    text
}

fn as_json(fleet: &Fleet<'_>) -> serde_json::Value {
    let machines = fleet.machines.iter().map(|machine| {
        json!({
            "host": machine.host,
            "folders": machine.sweeps.iter().map(|sweep| sweep.folder.display().to_string()).collect::<Vec<_>>(),
        })
    });
    let cases = fleet.cases.iter().map(|case| {
        let machines = case.machines.iter().map(|of| {
            json!({
                "host": fleet.machines[of.machine].host,
                "value": of.measure.value,
                "interval": of.measure.interval,
                "gain": of.gain,
                "marked": of.verdict.is_call(),
            })
        });
        json!({
            "case": case.case.to_string(),
            "metric": case.metric,
            "unit": case.metric.unit(),
            "median": case.typical,
            "spread": case.spread,
            "machines": machines.collect::<Vec<_>>(),
        })
    });
    json!({
        "link": fleet.link,
        "can_tell": fleet.can_tell(),
        "machines": machines.collect::<Vec<_>>(),
        "cases": cases.collect::<Vec<_>>(),
    })
}
