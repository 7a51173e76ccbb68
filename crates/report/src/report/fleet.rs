//! The page of many machines: a line for each, and which of them are out of the ordinary.
//!
//! The rule is in [`results::fleet`](crate::results::fleet).

use super::columns::{self, Col, count, empty, numbers, value, word};
use super::figures::{self, cells};
use super::page::{Claim, Figure, Page, Point};
use super::words;
use crate::case::{Case, Cell, Series};
use crate::environment::Environment;
use crate::format::{distance, list};
use crate::in_order::ascending;
use crate::results::digest::Digest;
use crate::results::fleet::{Deviation, Fleet, FleetCase, MIN_MACHINES, Machine, fleets};
use crate::results::metric::Metric;
use crate::results::stats::Estimate;

/// Works out the page of `sweeps`, in any order.
pub(super) fn page(sweeps: &[Digest]) -> Page {
    let fleets = fleets(sweeps);
    let (mut verdict, mut warnings, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    let (mut machines, mut marked): (Vec<Of<'_>>, Vec<Marked<'_>>) = Default::default();
    for (number, fleet) in fleets.iter().enumerate() {
        if !fleet.can_tell() {
            warnings.push(too_few(fleet));
        }
        let all = fleet.machines.iter().enumerate();
        let of_fleet = all.map(|(index, machine)| Of { number, fleet, index, machine });
        machines.extend(of_fleet);
        marked.extend(fleet.marked().enumerate().filter_map(|(index, (case, of))| {
            let (gain, spread) = of.gain.zip(case.spread)?;
            Some(Marked { id: marked_id(number, index), fleet, case, of, gain, spread })
        }));
        let sweeps = fleet.machines.iter().flat_map(|machine| machine.sweeps.iter().copied());
        figures.extend(cells(sweeps).into_iter().map(|(cell, series)| figure(number, fleet, cell, &series)));
    }
    verdict.extend(machines.iter().filter_map(Of::claim));
    Page {
        title: "sendpath: machines".to_owned(),
        commands: vec!["sendpath history --by host".to_owned()],
        headline: headline(sweeps.len(), machines.len(), &fleets),
        verdict,
        warnings,
        figures,
        comparisons: columns::table(&marked, |marked| marked.id.clone(), marked_columns()),
        cases: columns::table(&machines, |of| machine_id(of.number, of.index), machine_columns()),
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
    let of_fleet = |fleet: &Fleet<'_>| ascending(fleet.marked().map(|(_, of)| of.machine)).len();
    let marked: usize = fleets.iter().map(of_fleet).sum();
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
pub fn too_few(fleet: &Fleet<'_>) -> String {
    format!(
        "{} machines measured {}: to tell which is out of the ordinary takes {MIN_MACHINES}",
        fleet.machines.len(),
        fleet.link
    )
}

fn machine_id(fleet: usize, machine: usize) -> String {
    format!("machine-{fleet}-{}", machine + 1)
}

fn marked_id(fleet: usize, number: usize) -> String {
    format!("marked-{fleet}-{}", number + 1)
}

/// The machine's difference from the median, in the metric's own direction: `-12.3 % [-14.0 %,
/// -10.5 %]`.
pub fn difference(metric: Metric, gain: Estimate) -> String {
    words::gain(metric.change(gain))
}

/// What is out of the ordinary: a case of a machine.
struct Marked<'a> {
    id: String,
    fleet: &'a Fleet<'a>,
    case: &'a FleetCase,
    of: &'a Deviation,
    gain: Estimate,
    spread: f64,
}

fn marked_columns<'a>() -> Vec<Col<'static, Marked<'a>>> {
    let own = |value: f64, metric: Metric| columns::value(metric.value(value), value);
    vec![
        columns::words("machine", "its name", |row: &Marked<'_>| {
            word(&row.fleet.machines[row.of.machine].host)
        }),
        columns::words("case", "what it measured", |row: &Marked<'_>| word(row.case.case)),
        columns::words("by", "the metric", |row: &Marked<'_>| word(row.case.metric.name())),
        numbers("value", "the machine's own", move |row: &Marked<'_>| {
            own(row.of.measure.value, row.case.metric)
        }),
        numbers("median", "over the machines", move |row: &Marked<'_>| {
            own(row.case.typical, row.case.metric)
        }),
        numbers(
            "difference",
            "of the machine from the median, with the interval that marks it: as wide as machines differ",
            |row: &Marked<'_>| {
                value(difference(row.case.metric, row.gain), row.case.metric.change(row.gain).value)
            },
        ),
        numbers(
            "spread",
            "how much machines differ: a standard deviation, by the median distance",
            |row: &Marked<'_>| value(distance(row.spread), row.spread),
        ),
    ]
}

/// A machine of a fleet.
struct Of<'a> {
    number: usize,
    fleet: &'a Fleet<'a>,
    index: usize,
    machine: &'a Machine<'a>,
}

fn machine_columns<'a>() -> Vec<Col<'static, Of<'a>>> {
    vec![
        numbers("x", "its place in the figures", |of: &Of<'_>| count(of.index as u64 + 1)),
        columns::words("machine", "its name", |of: &Of<'_>| word(&of.machine.host)),
        numbers("sweeps", "how many it measured", |of: &Of<'_>| count(of.machine.sweeps.len() as u64)),
        numbers(
            "marked",
            "in how many of its cases, by any metric, it is out of the ordinary",
            |of: &Of<'_>| {
                if of.fleet.can_tell() {
                    count(of.marked().count() as u64)
                } else {
                    empty(&too_few(of.fleet))
                }
            },
        ),
        columns::words("most", "where it is furthest out, with the interval that marks it", |of: &Of<'_>| {
            word(of.most().unwrap_or_default())
        }),
        columns::words("CPU", "its name, and how many are used", |of: &Of<'_>| {
            word(environment(of.machine).map_or_else(String::new, |environment| {
                let cpus = environment.effective.cpus.numbers().len();
                format!("{cpus} of {}", environment.machine.cpu_model)
            }))
        }),
        columns::words("kernel", "its release", |of: &Of<'_>| {
            word(environment(of.machine).map_or("unknown", |environment| &environment.machine.kernel))
        }),
        columns::words(
            "made",
            "how a marked machine differs from the one that is nearest to the medians",
            |of: &Of<'_>| {
                word(of.marked().next().and_then(|_| differs(of.fleet, of.machine)).unwrap_or_default())
            },
        ),
        columns::words("folders", "of its sweeps", |of: &Of<'_>| {
            let folders = of.machine.sweeps.iter().map(|sweep| sweep.folder.display().to_string());
            word(list(&folders.collect::<Vec<_>>()))
        }),
    ]
}

impl<'a> Of<'a> {
    /// In what it is out of the ordinary.
    fn marked(&self) -> impl Iterator<Item = (&'a FleetCase, &'a Deviation)> {
        let index = self.index;
        self.fleet.marked().filter(move |(_, of)| of.machine == index)
    }

    /// Where it is furthest out of the ordinary.
    fn most(&self) -> Option<String> {
        let distance = |of: &Deviation| of.gain.map_or(0.0, |gain| gain.value.ln().abs());
        let (case, of) =
            self.marked().max_by(|(_, one), (_, other)| distance(one).total_cmp(&distance(other)))?;
        Some(format!("{}, {}: {}", case.case, case.metric.name(), difference(case.metric, of.gain?)))
    }

    fn claim(&self) -> Option<Claim> {
        let Self { number, fleet, index, machine } = self;
        let (most, cases) = (self.most()?, self.marked().count());
        let all =
            fleet.cases.iter().flat_map(|case| &case.machines).filter(|of| of.machine == *index).count();
        let why = differs(fleet, machine).map_or_else(String::new, |differs| format!(" It is {differs}."));
        Some(Claim {
            text: format!(
                "{}: out of the ordinary in {cases} of {all} comparisons, most in {most}.{why}",
                machine.host
            ),
            rows: vec![machine_id(*number, *index)],
        })
    }
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

/// The throughput of one cell, machine by machine.
fn figure(number: usize, fleet: &Fleet<'_>, cell: Cell, all: &[Series]) -> Figure {
    let point = |of: &Deviation| {
        let marked = of.gain.filter(|_| of.verdict.is_call()).map_or_else(String::new, |gain| {
            format!(", out of the ordinary: {}", difference(Metric::Throughput, gain))
        });
        let host = &fleet.machines[of.machine].host;
        let text = format!("{host}: {} Gb/s{marked}", words::measure(of.measure));
        Point::new((of.machine + 1) as f64, of.measure, text, machine_id(number, of.machine))
    };
    let points = |case: &Case| {
        let of_case = fleet.cases.iter().find(|of| of.case == *case && of.metric == Metric::Throughput);
        of_case.iter().flat_map(|of| &of.machines).map(point).collect()
    };
    let sweeps: Vec<&Digest> = fleet.machines.iter().flat_map(|machine| &machine.sweeps).copied().collect();
    let hosts: Vec<String> = fleet.machines.iter().map(|machine| machine.host.clone()).collect();
    let drawn = figures::over_sweeps(cell, all, &sweeps, ("machine", &hosts), points);
    Figure {
        id: format!("fleet-{number}-{}", words::id(&cell.to_string())),
        title: format!("{}, by machine", drawn.title),
        caption: format!(
            "Measured {}. Intervals (95 %) are over instances, and over sweeps where a machine has three or more.",
            fleet.link
        ),
        ..drawn
    }
}
