//! Which series is the cheapest in a cell, and whether that can be said.

use super::page::{DecisionMap, Square};
use super::words::{self, Ways, comparison_row};
use crate::case::{Receiver, SendPath, Series, Situation};
use crate::format::bytes;
use crate::in_order::distinct;
use crate::results::analysis::{Analysis, CellResult, SeriesComparison};
use crate::results::metric::Metric;
use crate::results::stats::Estimate;
use crate::results::verdict::Verdict;

/// What can be said of a cell by one metric.
#[derive(Clone, PartialEq)]
pub(super) enum Winner {
    /// This series is better than every other, or than every other path.
    Clear(Series, Against),
    /// None of these is known to be better than another, and all differ by less than a share (0.05:
    /// 5 %).
    Close(Vec<Series>, f64),
    /// None of these is known to be better than another, and they may differ by more.
    Open(Vec<Series>),
    /// There is nothing to compare, and why.
    Nothing(String),
}

/// What a series is known to be better than.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Against {
    /// Every other series, so that its engine is part of the answer.
    Series,
    /// Every other path, and not every other series of its own.
    Paths,
}

/// Paths that differ by less than this (0.05: 5 %), or by less than the margin, are close: which of
/// them is the better may be open, but not whether it matters much.
pub(super) const CLOSE: f64 = 0.05;

/// The comparisons of a cell by a metric.
pub(super) fn comparisons(cell: &CellResult, metric: Metric) -> impl Iterator<Item = &SeriesComparison> {
    cell.comparisons.iter().filter(move |comparison| comparison.metric == metric)
}

/// How one series stands against another: the ratio (above 1 is better) and the verdict, turned
/// round if that is how they were compared.
pub(super) fn versus(
    cell: &CellResult,
    metric: Metric,
    series: Series,
    other: Series,
) -> Option<(Estimate, Verdict, &SeriesComparison)> {
    let known = |one, other| {
        let found = cell.comparison(metric, one, other)?;
        Some((found.outcome.as_ref().ok()?, found))
    };
    let as_it_was = known(series, other).map(|(of, found)| (of.ratio, of.verdict, found));
    as_it_was.or_else(|| {
        known(other, series).map(|(of, found)| (of.ratio.inverted(), of.verdict.inverted(), found))
    })
}

/// Whether one series is known to be better than another.
pub(super) fn beats(cell: &CellResult, metric: Metric, one: Series, other: Series) -> bool {
    versus(cell, metric, one, other).is_some_and(|(_, verdict, _)| verdict == Verdict::Faster)
}

/// The series that were measured in a cell.
fn measured(cell: &CellResult) -> impl Iterator<Item = Series> {
    let arms = cell.arms.iter().filter(|arm| !arm.arm.control && arm.error.is_none());
    arms.map(|arm| arm.arm.case.series())
}

/// Finds the cheapest.
pub(super) fn winner(cell: &CellResult, metric: Metric) -> Winner {
    let series: Vec<Series> = measured(cell).collect();
    if let Some(reason) = comparisons(cell, metric).find_map(|comparison| comparison.outcome.as_ref().err())
        && comparisons(cell, metric).all(|comparison| comparison.outcome.is_err())
    {
        return Winner::Nothing(reason.clone());
    }
    if series.len() < 2 {
        return Winner::Nothing("only one path was measured".to_owned());
    }
    let beats = |one: Series, other: Series| beats(cell, metric, one, other);
    let beats_all = |one: &&Series| series.iter().all(|other| other == *one || beats(**one, *other));
    if let Some(&one) = series.iter().find(beats_all) {
        return Winner::Clear(one, Against::Series);
    }
    let is_beaten = |one: &Series| series.iter().any(|&other| beats(other, *one));
    let mut left: Vec<Series> = series.iter().copied().filter(|one| !is_beaten(one)).collect();
    if let [one] = left[..] {
        // Whom it does not beat is beaten by a third alone.
        left.extend(series.iter().copied().filter(|&other| other != one && !beats(one, other)));
    }
    let within = |share: f64| {
        pairs_of(&left).all(|(one, other)| {
            versus(cell, metric, one, other)
                .is_some_and(|(ratio, _, _)| Verdict::of(ratio, share) == Verdict::Same)
        })
    };
    match [metric.margin(), CLOSE].into_iter().find(|share| within(*share)) {
        Some(share) if !left.is_empty() => Winner::Close(left, share),
        _ => Winner::Open(left),
    }
}

/// Every two of some series.
pub(super) fn pairs_of(series: &[Series]) -> impl Iterator<Item = (Series, Series)> {
    series
        .iter()
        .enumerate()
        .flat_map(move |(index, &one)| series[..index].iter().map(move |&other| (one, other)))
}

/// Of more series than these, not every pair is spoken of.
const MANY: usize = 4;

/// What is known of every two of `left`: `undecided: -3.0 % to +1.2 % (one_copy against two_copy)`.
fn how_they_stand(cell: &CellResult, metric: Metric, left: &[Series]) -> String {
    if left.len() > MANY {
        let known = pairs_of(left).filter_map(|(one, other)| versus(cell, metric, one, other));
        let (same, open): (Vec<_>, Vec<_>) = known.partition(|(_, verdict, _)| *verdict == Verdict::Same);
        return format!("of their pairs {} are the same, {} undecided", same.len(), open.len());
    }
    let stand = pairs_of(left).filter_map(|(one, other)| {
        let (ratio, verdict, _) = versus(cell, metric, one, other)?;
        let verdict = metric.verdict(verdict, ratio, metric.margin());
        Some(format!("{verdict} ({} against {})", words::plain(one), words::plain(other)))
    });
    let stand: Vec<String> = stand.collect();
    if stand.is_empty() { "too few repetitions to compare them".to_owned() } else { stand.join("; ") }
}

/// The path that is faster than every other path in a cell, whatever its layout, with the fastest
/// of its series.
pub(super) fn fastest_path(cell: &CellResult) -> Option<Series> {
    let beats_other_paths = |one: &Series| {
        let mut others = measured(cell).filter(|other| other.path != one.path).peekable();
        others.peek().is_some() && others.all(|other| beats(cell, Metric::Throughput, *one, other))
    };
    let gbps = |one: &Series| cell.arm(*one).and_then(|arm| Some(arm.throughput_gbps?.value)).unwrap_or(0.0);
    let fastest = measured(cell).filter(beats_other_paths);
    fastest.max_by(|one, other| gbps(one).total_cmp(&gbps(other)))
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

/// A map for each workload, placement, receiver, source and shape, by one metric.
pub(super) fn maps(analysis: &Analysis, metric: Metric, ways: &Ways) -> Vec<DecisionMap> {
    let situations = distinct(analysis.cells.iter().map(|cell| cell.cell.situation()));
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
                    || Square { note: "not in this sweep".to_owned(), ..Square::default() },
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
    // What it rests on: the comparisons in which one of `left` stands.
    let square = |left: &[Series], text: String, style: Option<usize>, note: String| {
        let of_left = comparisons(cell, metric)
            .filter(|found| left.contains(&found.series) || left.contains(&found.baseline));
        Square { text, style, note, rows: of_left.map(comparison_row).collect() }
    };
    match winner(cell, metric) {
        Winner::Clear(series, _) => {
            let all: Vec<Series> = cell.series().collect();
            // By how much it is better than the one that is next to it.
            let margins = all.iter().filter_map(|&other| Some((versus(cell, metric, series, other)?, other)));
            let next = margins.min_by(|((one, ..), _), ((other, ..), _)| one.value.total_cmp(&other.value));
            let note = next.map_or_else(String::new, |((ratio, verdict, _), other)| {
                let verdict = metric.verdict(verdict, ratio, metric.margin());
                let gain = words::gain(metric.change(ratio));
                format!("{gain}, {verdict} than {}", words::plain(other))
            });
            square(&[series], words::plain(series), Some(words::style(series, &all)), note)
        }
        Winner::Close(series, _) => {
            let is_same =
                |(one, other)| matches!(versus(cell, metric, one, other), Some((_, Verdict::Same, _)));
            let sign = if pairs_of(&series).all(is_same) { " = " } else { " ≈ " };
            let text = if series.len() > MANY {
                format!("{} {}", sign.trim(), words::together(&series))
            } else {
                series.iter().copied().map(words::plain).collect::<Vec<_>>().join(sign)
            };
            square(&series, text, None, how_they_stand(cell, metric, &series))
        }
        Winner::Open(series) => square(&series, String::new(), None, how_they_stand(cell, metric, &series)),
        Winner::Nothing(reason) => square(&[], String::new(), None, reason),
    }
}
