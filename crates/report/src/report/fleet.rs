//! The page of many machines: a line for each, and which of them are out of the ordinary.
//!
//! The rule is in [`results::fleet`](crate::results::fleet).

use super::history::cells;
use super::page::{Claim, Column, Entry, Figure, Kind, Line, Page, Point, Scale, Table, TableRow};
use super::words::{self, Copied};
use crate::case::{Cell, Series};
use crate::environment::Environment;
use crate::format::{bytes, distance, list};
use crate::results::digest::Digest;
use crate::results::fleet::{Deviation, Fleet, FleetCase, MIN_MACHINES, Machine, fleets};
use crate::results::metric::Metric;
use crate::results::stats::Estimate;

/// Works out the page of `sweeps`, in any order.
pub(super) fn page(sweeps: &[Digest]) -> Page {
    let fleets = fleets(sweeps);
    let (mut verdict, mut warnings, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    let (mut machines, mut marked) = (Vec::new(), Vec::new());
    for (number, fleet) in fleets.iter().enumerate() {
        if !fleet.can_tell() {
            warnings.push(too_few(fleet));
        }
        for (index, machine) in fleet.machines.iter().enumerate() {
            verdict.extend(claim(number, fleet, index, machine));
            machines.push(machine_row(number, fleet, index, machine));
        }
        marked.extend(marked_rows(number, fleet));
        let sweeps = fleet.machines.iter().flat_map(|machine| machine.sweeps.iter().copied());
        figures.extend(cells(sweeps).into_iter().map(|(cell, series)| figure(number, fleet, cell, &series)));
    }
    let machines_in_all: usize = fleets.iter().map(|fleet| fleet.machines.len()).sum();
    let column =
        |name: &str, about: &str, numeric| Column { name: name.to_owned(), about: about.to_owned(), numeric };
    Page {
        title: "sendpath: machines".to_owned(),
        commands: vec!["sendpath history --by host".to_owned()],
        headline: headline(sweeps.len(), machines_in_all, &fleets),
        verdict,
        warnings,
        figures,
        comparisons: Table {
            columns: vec![
                column("machine", "its name", false),
                column("case", "what it measured", false),
                column("by", "the metric", false),
                column("value", "the machine's own", true),
                column("median", "over the machines", true),
                column("difference", "of the machine from the median, with the interval that marks it: as wide as machines differ", true),
                column("spread", "how much machines differ: a standard deviation, by the median distance", true),
            ],
            rows: marked,
        },
        cases: Table {
            columns: vec![
                column("x", "its place in the figures", true),
                column("machine", "its name", false),
                column("sweeps", "how many it measured", true),
                column("marked", "in how many of its cases, by any metric, it is out of the ordinary", true),
                column("most", "where it is furthest out, with the interval that marks it", false),
                column("CPU", "its name, and how many are used", false),
                column("kernel", "its release", false),
                column("made", "how a marked machine differs from the one that is nearest to the medians", false),
                column("folders", "of its sweeps", false),
            ],
            rows: machines,
        },
        limits: vec![
            "Machines were not interleaved: the minute in which each was measured is in its numbers, and the differences between \
             minutes are in the spread. A machine is marked for what it measured, and the page does not know the cause."
                .to_owned(),
            format!(
                "In 19 of 20 fleets no machine is marked by chance. Where machines differ much, one that differs as much is not \
                 marked: that says nothing good of it. Half of the machines or more are never out of the ordinary. Fewer than \
                 {MIN_MACHINES} are not judged."
            ),
        ],
        ..Page::default()
    }
}

fn headline(sweeps: usize, machines: usize, fleets: &[Fleet<'_>]) -> String {
    let marked: usize = fleets.iter().map(|fleet| marked_machines(fleet).len()).sum();
    let found = match marked {
        _ if !fleets.iter().any(Fleet::can_tell) => "too few to say which is out of the ordinary",
        0 => "none is out of the ordinary",
        1 => "one is out of the ordinary",
        several => {
            return format!("{machines} machines, {sweeps} sweeps: {several} are out of the ordinary.");
        }
    };
    format!("{machines} machines, {sweeps} sweeps: {found}.")
}

/// Why nothing is said of a fleet.
#[must_use]
pub fn too_few(fleet: &Fleet<'_>) -> String {
    format!(
        "{} machines measured {}: to tell which is out of the ordinary takes {MIN_MACHINES}",
        fleet.machines.len(),
        fleet.link
    )
}

/// The machines that are out of the ordinary in a case, by their place.
fn marked_machines(fleet: &Fleet<'_>) -> Vec<usize> {
    let mut machines: Vec<usize> = fleet.marked().map(|(_, of)| of.machine).collect();
    machines.sort_unstable();
    machines.dedup();
    machines
}

fn machine_id(fleet: usize, machine: usize) -> String {
    format!("machine-{fleet}-{}", machine + 1)
}

fn marked_id(fleet: usize, number: usize) -> String {
    format!("marked-{fleet}-{}", number + 1)
}

/// The machine's difference from the median, in the metric's own direction: `-12.3 % [-14.0 %, -10.5 %]`.
#[must_use]
pub fn difference(metric: Metric, gain: Estimate) -> String {
    words::gain(metric.change(gain))
}

/// Where a machine is furthest out of the ordinary.
fn most<'a>(fleet: &'a Fleet<'_>, machine: usize) -> Option<(&'a FleetCase, &'a Deviation)> {
    let distance = |of: &Deviation| of.gain.map_or(0.0, |gain| gain.value.ln().abs());
    fleet
        .marked()
        .filter(|(_, of)| of.machine == machine)
        .max_by(|(_, one), (_, other)| distance(one).total_cmp(&distance(other)))
}

fn where_most(fleet: &Fleet<'_>, machine: usize) -> Option<String> {
    let (case, of) = most(fleet, machine)?;
    Some(format!("{}, {}: {}", case.case, case.metric.name(), difference(case.metric, of.gain?)))
}

fn environment<'a>(machine: &Machine<'a>) -> Option<&'a Environment> {
    machine.sweeps.last()?.manifest.environment.as_ref()
}

/// In what a machine is not as the most ordinary one.
fn differs(fleet: &Fleet<'_>, machine: &Machine<'_>) -> Option<String> {
    let ordinary = fleet.most_ordinary()?;
    let differences = environment(ordinary)?.differences(environment(machine)?);
    let host = &ordinary.host;
    Some(if differences.is_empty() {
        format!("as {host}, the most ordinary, in all that is recorded")
    } else {
        format!("unlike {host}, the most ordinary: {}", differences.join("; "))
    })
}

fn claim(number: usize, fleet: &Fleet<'_>, index: usize, machine: &Machine<'_>) -> Option<Claim> {
    let most = where_most(fleet, index)?;
    let cases = fleet.marked().filter(|(_, of)| of.machine == index).count();
    let all = fleet.cases.iter().flat_map(|case| &case.machines).filter(|of| of.machine == index).count();
    let why = differs(fleet, machine).map_or_else(String::new, |differs| format!(" It is {differs}."));
    Some(Claim {
        text: format!(
            "{}: out of the ordinary in {cases} of {all} comparisons, most in {most}.{why}",
            machine.host
        ),
        rows: vec![machine_id(number, index)],
    })
}

fn word(text: impl Into<String>) -> Entry {
    Entry { text: text.into(), value: None, note: None }
}

fn count(number: usize) -> Entry {
    Entry { text: number.to_string(), value: Some(number as f64), note: None }
}

fn machine_row(number: usize, fleet: &Fleet<'_>, index: usize, machine: &Machine<'_>) -> TableRow {
    let marked = fleet.marked().filter(|(_, of)| of.machine == index).count();
    let environment = environment(machine);
    let cpu = environment.map_or_else(String::new, |environment| {
        format!("{} of {}", environment.effective.cpus.numbers().len(), environment.machine.cpu_model)
    });
    let folders: Vec<String> =
        machine.sweeps.iter().map(|sweep| sweep.folder.display().to_string()).collect();
    TableRow {
        id: machine_id(number, index),
        cells: vec![
            count(index + 1),
            word(&machine.host),
            count(machine.sweeps.len()),
            if fleet.can_tell() {
                count(marked)
            } else {
                Entry { note: Some(too_few(fleet)), ..Entry::default() }
            },
            word(where_most(fleet, index).unwrap_or_default()),
            word(cpu),
            word(environment.map_or("unknown", |environment| &environment.machine.kernel)),
            word(if marked > 0 { differs(fleet, machine).unwrap_or_default() } else { String::new() }),
            word(list(&folders)),
        ],
    }
}

fn marked_rows(number: usize, fleet: &Fleet<'_>) -> impl Iterator<Item = TableRow> {
    fleet.marked().enumerate().filter_map(move |(index, (case, of))| {
        let metric = case.metric;
        let change = metric.change(of.gain?);
        let value = |value: f64| Entry { text: metric.value(value), value: Some(value), note: None };
        let spread = case.spread?;
        Some(TableRow {
            id: marked_id(number, index),
            cells: vec![
                word(&fleet.machines[of.machine].host),
                word(case.case.to_string()),
                word(metric.name()),
                value(of.measure.value),
                value(case.typical),
                Entry { text: words::gain(change), value: Some(change.value), note: None },
                Entry { text: distance(spread), value: Some(spread), note: None },
            ],
        })
    })
}

/// The throughput of one cell, machine by machine.
fn figure(number: usize, fleet: &Fleet<'_>, cell: Cell, all: &[Series]) -> Figure {
    let line = |&series: &Series| {
        let case = cell.case(series);
        let of_case = fleet.cases.iter().find(|of| of.case == case && of.metric == Metric::Throughput);
        let sweeps = || fleet.machines.iter().flat_map(|machine| &machine.sweeps);
        let shares = sweeps().filter_map(|sweep| sweep.case(&case)?.copied);
        let point = |of: &Deviation| {
            let marked = of.gain.filter(|_| of.verdict.is_call()).map_or_else(String::new, |gain| {
                format!(", out of the ordinary: {}", difference(Metric::Throughput, gain))
            });
            Point {
                x: (of.machine + 1) as f64,
                y: of.measure.value,
                interval: of.measure.interval,
                text: format!(
                    "{}: {} Gb/s{marked}",
                    fleet.machines[of.machine].host,
                    words::measure(of.measure)
                ),
                row: machine_id(number, of.machine),
            }
        };
        Line {
            label: words::series(series, Copied::of_shares(shares)),
            style: words::style(series, all),
            dashed: words::is_dashed(series),
            points: of_case.iter().flat_map(|of| &of.machines).map(point).collect(),
        }
    };
    Figure {
        id: format!("fleet-{number}-{}", words::id(&cell.to_string())),
        title: format!(
            "Throughput of {} messages, {} ({}), by machine",
            bytes(cell.payload_bytes as f64),
            words::pairs(cell.threads),
            words::situation(cell.situation())
        ),
        caption: format!(
            "Measured {}. Intervals (95 %) are over instances, and over sweeps where a machine has three or more. Which \
             machine stands at which x: see the table.",
            fleet.link
        ),
        x: Scale { label: "machine".to_owned(), log: false, kind: Kind::Count },
        y: Scale { label: "Gb/s".to_owned(), log: false, kind: Kind::Number },
        lines: all.iter().map(line).collect(),
        missing: Vec::new(),
    }
}
