//! The page of all stored sweeps: a line for each case over time, and where it stepped.
//!
//! Between two sweeps lies the machine's drift, which no interval inside a sweep holds. So the
//! sweep is the unit of replication here: a step is called where the sweeps after a point differ
//! from those before it by more than either differ among themselves, three of each at least,
//! corrected for all points and cases.

use std::collections::BTreeMap;

use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use super::columns::{self, count, numbers, word};
use super::dots;
use super::figures::{self, cells};
use super::fleet;
use super::headline;
use super::page::{Claim, DotPlot, Figure, Page, Point};
use super::words;
use crate::case::{Case, Cell, Series};
use crate::format::list;
use crate::in_order::distinct;
use crate::results::analysis::Measure;
use crate::results::comparison::{Comparison, Found, read_together};
use crate::results::digest::Digest;
use crate::results::family::Family;
use crate::results::metric::Metric;
use crate::results::stats::Effect;
use crate::results::verdict::Verdict;

/// What stands on the x axis.
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

fn throughput(sweep: &Digest, case: &Case) -> Option<Measure> {
    sweep.case(case)?.measure(Metric::Throughput)
}

fn kernel(sweep: &Digest) -> &str {
    sweep.manifest.environment.as_ref().map_or("unknown", |environment| &environment.machine.kernel)
}

/// What makes two sweeps those of one machine.
fn machine(Digest { manifest, .. }: &Digest) -> String {
    let cpu = manifest.environment.as_ref().map_or_else(String::new, |environment| {
        let cpus = environment.effective.cpus.numbers().len();
        format!(", {cpus} CPUs of {}, {}", environment.machine.cpu_model, environment.effective.topology)
    });
    format!("{}{cpu}", manifest.host)
}

/// What stands on the x axis where a sweep does.
fn position(sweep: &Digest, by: By) -> String {
    match by {
        By::Rev => sweep.manifest.program.name(),
        By::Kernel => kernel(sweep).to_owned(),
        By::Date | By::Host => sweep.manifest.started.clone(),
    }
}

/// A row of the table: a sweep of a machine.
struct Row<'a> {
    id: String,
    machine: &'a str,
    at: usize,
    sweep: &'a Digest,
}

/// A step of one case.
struct LevelStep {
    case: Case,
    change: Effect,
    /// The last sweep before it, and the first after, by number.
    between: (usize, usize),
}

/// Works out the page of `sweeps`, in any order.
pub fn history(sweeps: &[Digest], by: By) -> Page {
    if by == By::Host {
        return fleet::page(sweeps);
    }
    let mut stored: Vec<&Digest> = sweeps.iter().collect();
    stored.sort_by(|one, other| one.manifest.started.cmp(&other.manifest.started));
    let mut machines: BTreeMap<String, Vec<&Digest>> = BTreeMap::new();
    for one in stored {
        machines.entry(machine(one)).or_default().push(one);
    }
    let (mut verdict, mut figures, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut step_count = 0;
    let (mut too_few, mut against, mut dots) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (machine, stored)) in machines.iter().enumerate() {
        // Each position once, in the order of its first sweep.
        let positions = distinct(stored.iter().map(|sweep| position(sweep, by)));
        let place =
            |sweep| positions.iter().position(|one| *one == position(sweep, by)).map_or(0, |at| at + 1);
        rows.extend(stored.iter().enumerate().map(|(index, sweep)| Row {
            id: row_id(number, index),
            machine,
            at: place(sweep),
            sweep,
        }));
        let cells = cells(stored.iter().copied()).into_iter();
        figures.extend(
            cells.map(|(cell, series)| figure(number, machine, cell, &series, stored, &positions, by)),
        );
        if let [.., before, after] = &positions[..]
            && by != By::Date
        {
            let of = |at: &str| -> Vec<&Digest> {
                stored.iter().copied().filter(|sweep| position(sweep, by) == at).collect()
            };
            let title = format!("{by} {after} against {before}");
            let found = compared(&title, machine, &of(before), &of(after));
            against.push(found.headline);
            verdict.extend(found.largest);
            dots.extend(found.dots);
        }
        if stored.len() < 2 * MIN_SWEEPS {
            too_few.push(format!("{machine}: {} sweeps; a step needs {}", stored.len(), 2 * MIN_SWEEPS));
        }
        let steps = steps(stored);
        step_count += steps.len();
        verdict.extend(steps.iter().map(|step| claim(number, machine, step, stored)));
    }
    let steps = match step_count {
        0 => "no step".to_owned(),
        1 => "one step".to_owned(),
        steps => format!("{steps} steps"),
    };
    let of =
        if machines.len() == 1 { "one machine".to_owned() } else { format!("{} machines", machines.len()) };
    let all = format!("{} sweeps of {of}: {steps}.", sweeps.len());
    let columns = vec![
        columns::words("machine", "sweeps of different machines are never in one line", |row: &Row<'_>| {
            word(row.machine)
        }),
        numbers("x", "its place in the figures", |row: &Row<'_>| count(row.at as u64)),
        columns::words("measured", "when it began, UTC", |row: &Row<'_>| word(&row.sweep.manifest.started)),
        columns::words("revision", "of the program", |row: &Row<'_>| word(row.sweep.manifest.program.name())),
        columns::words("kernel", "its release", |row: &Row<'_>| word(kernel(row.sweep))),
        columns::words("profile", "which cases", |row: &Row<'_>| word(&row.sweep.manifest.plan.profile)),
        columns::words("folder", "the folder that sweep made", |row: &Row<'_>| {
            word(row.sweep.folder.display())
        }),
    ];
    Page {
        title: "sendpath: all stored sweeps".to_owned(),
        commands: vec![format!("sendpath history --by {by}")],
        headline: if against.is_empty() { all } else { format!("{} {all}", against.join(" ")) },
        verdict,
        dots,
        warnings: too_few,
        figures,
        cases: columns::table(&rows, |row| row.id.clone(), columns),
        limits: vec![
            "Between sweeps the machine drifts: a step says that numbers changed and stayed changed, not what changed them. `sendpath \
             ab` compares two revisions without drift."
                .to_owned(),
        ],
        ..Page::default()
    }
}

/// What [`compared`] gives.
struct Compared {
    /// How many cases are slower and faster.
    headline: String,
    /// The largest change.
    largest: Option<Claim>,
    /// Each case.
    dots: Option<DotPlot>,
}

/// Compares the sweeps of the last place on the x axis with those of the one before it, on one
/// machine, case by case. A sweep is one observation: measured in turns
/// (A, B, A, B, …), the machine's drift is in the spread of both and so in the intervals.
fn compared(of: &str, machine: &str, before: &[&Digest], after: &[&Digest]) -> Compared {
    let logs = |sweeps: &[&Digest], case: &Case| -> Vec<f64> {
        sweeps.iter().filter_map(|sweep| Some(throughput(sweep, case)?.value.ln())).collect()
    };
    let found: Vec<Found> = cases(after)
        .filter_map(|case| {
            let [then, now] = [logs(before, &case), logs(after, &case)];
            if then.len().min(now.len()) < MIN_SWEEPS {
                return None;
            }
            let change = Effect::of(&now)?.minus(&Effect::of(&then)?);
            Some(Found { case, metric: Metric::Throughput, change, control: None, base: None })
        })
        .collect();
    let family = Family::without_a_false_call(found.len(), 1.0);
    let mut compared = read_together(found, family);
    compared.sort_by(|one, other| one.gain.value.total_cmp(&other.gain.value));
    let count = |verdict| compared.iter().filter(|one| one.verdict == verdict).count();
    if compared.is_empty() {
        let headline = format!("{of}: a comparison needs {MIN_SWEEPS} sweeps of each.");
        return Compared { headline, largest: None, dots: None };
    }
    let [slower, faster, undecided] = [Verdict::Slower, Verdict::Faster, Verdict::Undecided].map(count);
    let all = compared.len();
    let headline = format!("{of}: {slower} of {all} cases slower, {faster} faster, {undecided} undecided.");
    let far = |one: &&Comparison| one.gain.value.ln().abs();
    let sure = compared.iter().filter(|one| matches!(one.verdict, Verdict::Slower | Verdict::Faster));
    let largest = sure.max_by(|one, other| far(one).total_cmp(&far(other))).map(|one| {
        let gain = words::gain(one.gain);
        headline::claim(format!("The largest change: {}: throughput {gain}, on {machine}.", one.case))
    });
    Compared { headline, largest, dots: Some(dots::plot(&format!("{of}, {machine}"), &compared)) }
}

/// Every case that some sweep measured.
fn cases(sweeps: &[&Digest]) -> impl Iterator<Item = Case> {
    let of_cell = |(cell, series): (Cell, Vec<Series>)| series.into_iter().map(move |one| cell.case(one));
    cells(sweeps.iter().copied()).into_iter().flat_map(of_cell)
}

fn row_id(machine: usize, index: usize) -> String {
    format!("sweep-{machine}-{index}")
}

fn figure(
    number: usize,
    machine: &str,
    cell: Cell,
    series: &[Series],
    stored: &[&Digest],
    positions: &[String],
    by: By,
) -> Figure {
    let point = |case: &Case, (index, at): (usize, &String)| {
        let here = stored.iter().enumerate().filter(|(_, sweep)| position(sweep, by) == *at);
        let measures: Vec<(usize, Measure)> =
            here.filter_map(|(index, sweep)| Some((index, throughput(sweep, case)?))).collect();
        let measure = match measures[..] {
            [(_, measure)] => measure,
            _ => Measure::of(&measures.iter().map(|(_, measure)| measure.value).collect::<Vec<_>>())?,
        };
        let text = format!("{at}: {} Gb/s, {} sweeps", words::measure(measure), measures.len());
        Some(Point::new((index + 1) as f64, measure, text, row_id(number, measures.first()?.0)))
    };
    let points = |case: &Case| positions.iter().enumerate().filter_map(|at| point(case, at)).collect();
    Figure {
        id: format!("history-{number}-{}", words::id(&cell.to_string())),
        caption: format!(
            "{machine}. Intervals (95 %) are over instances where a point is one sweep, and over sweeps where it is \
             several."
        ),
        ..figures::over_sweeps(cell, series, stored, (&by.to_string(), positions), points)
    }
}

/// The steps of all cases of one machine.
fn steps(stored: &[&Digest]) -> Vec<LevelStep> {
    let cases: Vec<Case> = cases(stored).collect();
    let tried = cases.len() * stored.len();
    let mut steps = Vec::new();
    for &case in &cases {
        let values: Vec<(usize, f64)> = stored
            .iter()
            .enumerate()
            .filter_map(|(index, one)| Some((index, throughput(one, &case)?.value.ln())))
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

fn claim(number: usize, machine: &str, step: &LevelStep, stored: &[&Digest]) -> Claim {
    let (before, after) = (stored[step.between.0], stored[step.between.1]);
    let (old, new) = (&before.manifest, &after.manifest);
    let mut causes = Vec::new();
    if old.program.revision != new.program.revision {
        causes.push(format!("commits {}..{}", old.program.revision, new.program.revision));
    }
    if kernel(before) != kernel(after) {
        causes.push(format!("kernel {} to {}", kernel(before), kernel(after)));
    }
    if causes.is_empty() {
        causes.push("neither the revision nor the kernel changed".to_owned());
    }
    let (case, gain, causes) = (step.case, words::gain(step.change.ratio()), list(&causes));
    let (from, to) = (&old.started, &new.started);
    Claim {
        text: format!("{case}: throughput {gain} between {from} and {to} ({causes}), on {machine}."),
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
