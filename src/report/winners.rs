//! Which series is the cheapest in a cell, and whether that can be said.

use super::page::{DecisionMap, Square};
use super::words::{self, Ways, comparison_row};
use crate::case::{Receiver, SendPath, Series, Situation};
use crate::format::{bytes, list};
use crate::results::analysis::{Analysis, ArmResult, CellResult, SeriesComparison};
use crate::results::metric::Metric;
use crate::results::stats::{Effect, Estimate, Verdict};

/// What can be said of a cell by one metric.
pub(super) enum Winner<'a> {
    /// This series is better than every other.
    Clear(Series, Vec<&'a SeriesComparison>),
    /// These are better than all others, and do not differ.
    Tied(Vec<Series>, Vec<&'a SeriesComparison>),
    /// It cannot be said, and why.
    Unknown(String, Vec<&'a SeriesComparison>),
}

/// The comparisons of a cell by a metric, without the control's.
pub(super) fn comparisons(cell: &CellResult, metric: Metric) -> impl Iterator<Item = &SeriesComparison> {
    cell.comparisons.iter().filter(move |comparison| comparison.metric == metric && !comparison.control)
}

/// How one series stands against another: the ratio (above 1 is better) and the verdict, turned round if that is
/// how they were compared.
pub(super) fn versus(
    cell: &CellResult,
    metric: Metric,
    series: Series,
    other: Series,
) -> Option<(Estimate, Verdict, &SeriesComparison)> {
    comparisons(cell, metric).find_map(|comparison| {
        let outcome = comparison.outcome.as_ref().ok()?;
        let (ratio, verdict) = (outcome.effect.ratio(), outcome.verdict);
        if (comparison.series, comparison.baseline) == (series, other) {
            return Some((ratio, verdict, comparison));
        }
        let exchanged = (ratio.inverted(), verdict.inverted(), comparison);
        ((comparison.series, comparison.baseline) == (other, series)).then_some(exchanged)
    })
}

/// Finds the cheapest.
pub(super) fn winner(cell: &CellResult, metric: Metric) -> Winner<'_> {
    let series: Vec<Series> = cell
        .arms
        .iter()
        .filter(|arm| !arm.arm.control && arm.error.is_none())
        .map(|arm| arm.arm.case.series())
        .collect();
    if let Some(reason) = comparisons(cell, metric).find_map(|comparison| comparison.outcome.as_ref().err())
        && comparisons(cell, metric).all(|comparison| comparison.outcome.is_err())
    {
        return Winner::Unknown(reason.clone(), Vec::new());
    }
    if series.len() < 2 {
        return Winner::Unknown("only one path was measured".to_owned(), Vec::new());
    }
    let beaten = |&one: &Series| {
        series.iter().any(|&other| matches!(versus(cell, metric, other, one), Some((_, Verdict::Faster, _))))
    };
    let left: Vec<Series> = series.iter().copied().filter(|one| !beaten(one)).collect();
    let among = |left: &[Series]| -> Vec<&SeriesComparison> {
        comparisons(cell, metric)
            .filter(|comparison| left.contains(&comparison.series) || left.contains(&comparison.baseline))
            .collect()
    };
    let rows = among(&left);
    if let [one] = left[..]
        && series.iter().all(|&other| {
            other == one || matches!(versus(cell, metric, one, other), Some((_, Verdict::Faster, _)))
        })
    {
        return Winner::Clear(one, rows);
    }
    let alike = |one: Series, other: Series| {
        one == other || matches!(versus(cell, metric, one, other), Some((_, Verdict::NoDifference, _)))
    };
    let noise = comparisons(cell, metric)
        .find_map(|comparison| comparison.outcome.as_ref().ok()?.control.filter(Effect::is_significant));
    let names = |left: &[Series]| list(&left.iter().copied().map(words::plain).collect::<Vec<_>>());
    if let Some(control) = noise {
        let shown = words::gain(metric.change(control.ratio()));
        return Winner::Unknown(
            format!(
                "the control arm, which is the baseline a second time, differs from it by {shown}, so this cell is too \
                 noisy; no path was faster than {}",
                names(&left)
            ),
            rows,
        );
    }
    if left.len() > 1 && left.iter().all(|&one| left.iter().all(|&other| alike(one, other))) {
        return Winner::Tied(left, rows);
    }
    Winner::Unknown(format!("too noisy to tell {} apart", names(&left)), rows)
}

/// The path that is faster than every other path in a cell, whatever its layout, with the fastest of its series.
pub(super) fn fastest_path(cell: &CellResult) -> Option<Series> {
    let arms = || cell.arms.iter().filter(|arm| !arm.arm.control && arm.error.is_none());
    let beats_other_paths = |one: Series| {
        let mut others = arms().map(|arm| arm.arm.case.series()).filter(|other| other.0 != one.0).peekable();
        others.peek().is_some()
            && others.all(|other| {
                matches!(versus(cell, Metric::Throughput, one, other), Some((_, Verdict::Faster, _)))
            })
    };
    arms()
        .filter(|arm| beats_other_paths(arm.arm.case.series()))
        .max_by(|one, other| {
            let gbps = |arm: &ArmResult| arm.throughput_gbps.map_or(0.0, |gbps| gbps.value);
            gbps(one).total_cmp(&gbps(other))
        })
        .map(|arm| arm.arm.case.series())
}

/// The fastest series of a path, or of all paths but that one, by the plain numbers.
pub(super) fn best_of(cell: &CellResult, path: SendPath, is_path: bool) -> Option<Series> {
    cell.arms
        .iter()
        .filter(|arm| !arm.arm.control && (arm.arm.case.path == path) == is_path)
        .filter_map(|arm| Some((arm.arm.case.series(), arm.throughput_gbps?.value)))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(series, _)| series)
}

/// A map for each workload, placement, receiver and source, by one metric.
pub(super) fn maps(analysis: &Analysis, metric: Metric, ways: &Ways) -> Vec<DecisionMap> {
    let mut situations: Vec<Situation> = Vec::new();
    for cell in &analysis.cells {
        if !situations.contains(&cell.cell.situation()) {
            situations.push(cell.cell.situation());
        }
    }
    let map = |situation: Situation| {
        let cells: Vec<&CellResult> =
            analysis.cells.iter().filter(|cell| cell.cell.situation() == situation).collect();
        let sorted = |of: fn(&CellResult) -> usize| {
            let mut values: Vec<usize> = cells.iter().copied().map(of).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let sizes = sorted(|cell| cell.cell.payload_bytes);
        let rows = sorted(|cell| cell.cell.threads).into_iter().map(|threads| {
            let squares = sizes.iter().map(|&payload_bytes| {
                let found = cells
                    .iter()
                    .find(|cell| (cell.cell.threads, cell.cell.payload_bytes) == (threads, payload_bytes));
                found.map_or_else(
                    || Square {
                        text: String::new(),
                        style: None,
                        note: "not in this sweep".to_owned(),
                        rows: Vec::new(),
                    },
                    |cell| square(cell, metric),
                )
            });
            (words::pairs(threads), squares.collect())
        });
        DecisionMap {
            title: {
                // The sender alone is named by its situation.
                let way = if situation.receiver == Receiver::Sink {
                    String::new()
                } else {
                    ways.suffix(situation.receiver)
                };
                format!("By {} ({}{way})", metric.name(), words::situation(situation))
            },
            columns: sizes.iter().map(|&size| bytes(size as f64)).collect(),
            rows: rows.collect(),
        }
    };
    situations.into_iter().map(map).collect()
}

fn square(cell: &CellResult, metric: Metric) -> Square {
    let ids = |rows: Vec<&SeriesComparison>| rows.into_iter().map(comparison_row).collect();
    match winner(cell, metric) {
        Winner::Clear(series, rows) => {
            // By how much it is better than the next.
            let margins = cell.arms.iter().filter(|arm| !arm.arm.control).filter_map(|arm| {
                let other = arm.arm.case.series();
                versus(cell, metric, series, other).map(|(ratio, _, _)| (ratio, other))
            });
            let next = margins.min_by(|(one, _), (other, _)| one.value.total_cmp(&other.value));
            let note = next.map_or_else(String::new, |(ratio, other)| {
                format!("{} against {}, the next", words::gain(metric.change(ratio)), words::plain(other))
            });
            Square { text: words::plain(series), style: Some(words::style(series)), note, rows: ids(rows) }
        }
        Winner::Tied(series, rows) => {
            let names: Vec<String> = series.into_iter().map(words::plain).collect();
            Square {
                text: names.join(" = "),
                style: None,
                note: "no difference between them".to_owned(),
                rows: ids(rows),
            }
        }
        Winner::Unknown(reason, rows) => {
            Square { text: String::new(), style: None, note: reason, rows: ids(rows) }
        }
    }
}
