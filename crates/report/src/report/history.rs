//! The page of all stored sweeps: a line for each case over time, and where it stepped.
//!
//! Between two sweeps lies the machine's drift, which no interval inside a sweep holds. So the sweep is the unit of
//! replication here: a step is called where the sweeps after a point differ from those before it by more than
//! either differ among themselves, three of each at least, corrected for all points and cases.

use std::collections::BTreeMap;

use super::fleet;
use super::page::{Claim, Column, Entry, Figure, Kind, Line, Page, Point, Scale, Table, TableRow};
use super::words::{self, Copied};
use crate::case::{Case, Cell, Series};
use crate::format::{bytes, list};
use crate::results::analysis::Measure;
use crate::results::digest::Digest;
use crate::results::metric::Metric;
use crate::results::stats::Effect;

/// What stands on the x axis.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum By {
    /// The program's revisions, in the order of their first sweeps.
    Rev,
    /// The kernels, likewise.
    Kernel,
    /// Each sweep by itself.
    Date,
    /// The machines: which of them are out of the ordinary, among those that measured the same.
    Host,
}

/// Sweeps before a step, and after it, at least.
const MIN_SWEEPS: usize = 3;
/// And at most, of those nearest to it.
const NEAR: usize = 6;
/// The chance of a step where there is none, among all places of a line that were tried.
const STEP_ERROR: f64 = 0.01;
/// Steps that are smaller are not worth a word.
const MIN_STEP: f64 = 0.01;

/// A sweep, as one of many.
struct Stored<'a> {
    sweep: &'a Digest,
}

impl Stored<'_> {
    fn throughput(&self, case: &Case) -> Option<Measure> {
        self.sweep.case(case)?.measure(Metric::Throughput)
    }

    fn kernel(&self) -> String {
        let environment = self.sweep.manifest.environment.as_ref();
        environment.map_or_else(|| "unknown".to_owned(), |environment| environment.machine.kernel.clone())
    }

    /// What makes two sweeps those of one machine.
    fn machine(&self) -> String {
        let manifest = &self.sweep.manifest;
        let cpu = manifest.environment.as_ref().map_or_else(String::new, |environment| {
            let cpus = environment.effective.cpus.numbers().len();
            format!(", {cpus} CPUs of {}, {}", environment.machine.cpu_model, environment.effective.topology)
        });
        format!("{}{cpu}", manifest.host)
    }

    fn position(&self, by: By) -> String {
        match by {
            By::Rev => self.sweep.manifest.program.name(),
            By::Kernel => self.kernel(),
            By::Date | By::Host => self.sweep.manifest.started.clone(),
        }
    }
}

/// A step of one case.
struct LevelStep {
    case: Case,
    change: Effect,
    /// The last sweep before it, and the first after, by number.
    between: (usize, usize),
}

/// Works out the page of `sweeps`, in any order.
#[must_use]
pub fn history(sweeps: &[Digest], by: By) -> Page {
    if by == By::Host {
        return fleet::page(sweeps);
    }
    let mut stored: Vec<Stored<'_>> = sweeps.iter().map(|sweep| Stored { sweep }).collect();
    stored.sort_by(|one, other| one.sweep.manifest.started.cmp(&other.sweep.manifest.started));
    let mut machines: BTreeMap<String, Vec<Stored<'_>>> = BTreeMap::new();
    for one in stored {
        machines.entry(one.machine()).or_default().push(one);
    }
    let (mut verdict, mut figures, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut too_few = Vec::new();
    for (number, (machine, stored)) in machines.iter().enumerate() {
        let positions = positions(stored, by);
        rows.extend(
            stored.iter().enumerate().map(|(index, one)| row(number, machine, index, one, &positions, by)),
        );
        figures.extend(
            cells(stored.iter().map(|one| one.sweep))
                .into_iter()
                .map(|(cell, series)| figure(number, machine, cell, &series, stored, &positions, by)),
        );
        if stored.len() < 2 * MIN_SWEEPS {
            too_few.push(format!("{machine}: {} sweeps; a step needs {}", stored.len(), 2 * MIN_SWEEPS));
        }
        verdict.extend(steps(stored).into_iter().map(|step| claim(number, machine, &step, stored)));
    }
    let headline = match verdict.len() {
        0 => format!("{} sweeps of {} machines: no step.", sweeps.len(), machines.len()),
        1 => format!("{} sweeps of {} machines: one step.", sweeps.len(), machines.len()),
        steps => format!("{} sweeps of {} machines: {steps} steps.", sweeps.len(), machines.len()),
    };
    let column =
        |name: &str, about: &str, numeric| Column { name: name.to_owned(), about: about.to_owned(), numeric };
    Page {
        title: "sendpath: all stored sweeps".to_owned(),
        commands: vec![format!("sendpath history --by {by}")],
        headline,
        verdict,
        warnings: too_few,
        figures,
        cases: Table {
            columns: vec![
                column("machine", "sweeps of different machines are never in one line", false),
                column("x", "its place in the figures", true),
                column("measured", "when it began, UTC", false),
                column("revision", "of the program", false),
                column("kernel", "its release", false),
                column("profile", "which cases", false),
                column("folder", "the folder that sweep made", false),
            ],
            rows,
        },
        limits: vec![
            "Between sweeps the machine drifts: a step says that numbers changed and stayed changed, not what changed them. `sendpath \
             ab` compares two revisions without drift."
                .to_owned(),
        ],
        ..Page::default()
    }
}

/// The x axis: each position once, in the order of its first sweep.
fn positions(stored: &[Stored<'_>], by: By) -> Vec<String> {
    let mut positions: Vec<String> = Vec::new();
    for one in stored {
        let position = one.position(by);
        if !positions.contains(&position) {
            positions.push(position);
        }
    }
    positions
}

/// Every cell that some sweep measured, with every series.
pub(super) fn cells<'a>(sweeps: impl Iterator<Item = &'a Digest>) -> Vec<(Cell, Vec<Series>)> {
    let mut cells: Vec<(Cell, Vec<Series>)> = Vec::new();
    for plan in sweeps.map(|sweep| &sweep.manifest.plan) {
        for &cell in &plan.cells {
            let index = cells.iter().position(|(known, _)| *known == cell).unwrap_or_else(|| {
                cells.push((cell, Vec::new()));
                cells.len() - 1
            });
            for series in plan.series_of(cell) {
                if !cells[index].1.contains(&series) {
                    cells[index].1.push(series);
                }
            }
        }
    }
    cells
}

fn row_id(machine: usize, index: usize) -> String {
    format!("sweep-{machine}-{index}")
}

fn row(machine: usize, name: &str, index: usize, one: &Stored<'_>, positions: &[String], by: By) -> TableRow {
    let word = |text: &str| Entry { text: text.to_owned(), value: None, note: None };
    let manifest = &one.sweep.manifest;
    let at = positions.iter().position(|position| *position == one.position(by)).map_or(0, |at| at + 1);
    TableRow {
        id: row_id(machine, index),
        cells: vec![
            word(name),
            Entry { text: at.to_string(), value: Some(at as f64), note: None },
            word(&manifest.started),
            word(&manifest.program.name()),
            word(&one.kernel()),
            word(&manifest.plan.profile),
            word(&one.sweep.folder.display().to_string()),
        ],
    }
}

fn figure(
    number: usize,
    machine: &str,
    cell: Cell,
    series: &[Series],
    stored: &[Stored<'_>],
    positions: &[String],
    by: By,
) -> Figure {
    let all = series;
    let line = |&series: &Series| {
        let case = cell.case(series);
        let shares = stored.iter().filter_map(|one| one.sweep.case(&case)?.copied);
        let label = words::series(series, Copied::of_shares(shares));
        let points = positions.iter().enumerate().filter_map(|(index, position)| {
            let here = stored.iter().enumerate().filter(|(_, one)| one.position(by) == *position);
            let measures: Vec<(usize, Measure)> =
                here.filter_map(|(index, one)| Some((index, one.throughput(&case)?))).collect();
            let (first, measure) = match measures[..] {
                [] => return None,
                [(first, measure)] => (first, measure),
                [(first, _), ..] => {
                    let values: Vec<f64> = measures.iter().map(|(_, measure)| measure.value).collect();
                    (first, Measure::of(&values)?)
                }
            };
            Some(Point {
                x: (index + 1) as f64,
                y: measure.value,
                interval: measure.interval,
                text: format!("{position}: {} Gb/s, {} sweeps", words::measure(measure), measures.len()),
                row: row_id(number, first),
            })
        });
        Line {
            label,
            style: words::style(series, all),
            dashed: words::is_dashed(series),
            points: points.collect(),
        }
    };
    let lines: Vec<Line> = series.iter().map(line).collect();
    Figure {
        id: format!("history-{number}-{}", words::id(&cell.to_string())),
        title: format!(
            "Throughput of {} messages, {} ({})",
            bytes(cell.payload_bytes as f64),
            words::pairs(cell.threads),
            words::situation(cell.situation())
        ),
        caption: format!(
            "{machine}. Intervals (95 %) are over instances where a point is one sweep, and over sweeps where it is \
             several. The table says which sweeps stand at which x."
        ),
        x: Scale { label: by.to_string(), log: false, kind: Kind::Count },
        y: Scale { label: "Gb/s".to_owned(), log: false, kind: Kind::Number },
        lines,
        missing: Vec::new(),
    }
}

/// The steps of all cases of one machine.
fn steps(stored: &[Stored<'_>]) -> Vec<LevelStep> {
    let cases: Vec<Case> = cells(stored.iter().map(|one| one.sweep))
        .into_iter()
        .flat_map(|(cell, series)| series.into_iter().map(move |series| cell.case(series)))
        .collect();
    let tried = cases.len() * stored.len();
    let mut steps = Vec::new();
    for &case in &cases {
        let values: Vec<(usize, f64)> = stored
            .iter()
            .enumerate()
            .filter_map(|(index, one)| Some((index, one.throughput(&case)?.value.ln())))
            .collect();
        split(case, &values, tried, &mut steps);
    }
    steps
}

/// Finds the surest step in `values`, and then those before and after it.
fn split(case: Case, values: &[(usize, f64)], tried: usize, steps: &mut Vec<LevelStep>) {
    let logs = |part: &[(usize, f64)]| part.iter().map(|(_, log)| *log).collect::<Vec<_>>();
    let at = (MIN_SWEEPS..(values.len() + 1).saturating_sub(MIN_SWEEPS)).filter_map(|at| {
        // The neighbourhood alone: a step up and one back down cancel in the whole.
        let (before, after) = values.split_at(at);
        let (before, after) = (&before[before.len().saturating_sub(NEAR)..], &after[..after.len().min(NEAR)]);
        let change = Effect::of(&logs(after))?.minus(&Effect::of(&logs(before))?);
        Some((at, change))
    });
    let surest = at.min_by(|(_, one), (_, other)| one.p_value().total_cmp(&other.p_value()));
    let Some((at, change)) = surest.filter(|(_, change)| {
        change.p_value() * tried as f64 <= STEP_ERROR && change.log_mean.abs() >= MIN_STEP.ln_1p()
    }) else {
        return;
    };
    split(case, &values[..at], tried, steps);
    steps.push(LevelStep { case, change, between: (values[at - 1].0, values[at].0) });
    split(case, &values[at..], tried, steps);
}

fn claim(number: usize, machine: &str, step: &LevelStep, stored: &[Stored<'_>]) -> Claim {
    let (before, after) = (&stored[step.between.0], &stored[step.between.1]);
    let (old, new) = (&before.sweep.manifest, &after.sweep.manifest);
    let mut causes = Vec::new();
    if old.program.revision != new.program.revision {
        causes.push(format!("commits {}..{}", old.program.revision, new.program.revision));
    }
    if before.kernel() != after.kernel() {
        causes.push(format!("kernel {} to {}", before.kernel(), after.kernel()));
    }
    if causes.is_empty() {
        causes.push("neither the revision nor the kernel changed".to_owned());
    }
    Claim {
        text: format!(
            "{}: throughput {} between {} and {} ({}), on {machine}.",
            step.case,
            words::gain(step.change.ratio()),
            old.started,
            new.started,
            list(&causes)
        ),
        rows: vec![row_id(number, step.between.0), row_id(number, step.between.1)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Layout, Placement, SendPath, Workload};

    fn found(values: &[f64]) -> Vec<(usize, usize)> {
        let (workload, path, layout, placement) =
            (Workload::Rr, SendPath::OneCopy, Layout::Heap, Placement::Paired);
        let case = Case { workload, path, layout, payload_bytes: 64, placement, ..Case::default() };
        let numbered: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
        let mut steps = Vec::new();
        split(case, &numbered, values.len(), &mut steps);
        steps.into_iter().map(|step| step.between).collect()
    }

    #[test]
    fn a_step_is_found_where_it_is_and_noise_is_none() {
        let noise = [0.001, -0.002, 0.002, 0.0, -0.001, 0.001, -0.002, 0.0];
        assert_eq!(found(&noise), []);
        let stepped: Vec<f64> = noise.iter().map(|log| log - 0.05).collect();
        assert_eq!(found(&[&noise[..], &stepped].concat()), [(7, 8)]);
        let back = [&noise[..], &stepped, &noise].concat();
        assert_eq!(found(&back), [(7, 8), (15, 16)]);
        assert_eq!(found(&[0.0, 0.001, -0.05, -0.051]), [], "two sweeps of each are too few");
        assert_eq!(found(&[]), []);
    }
}
