//! The decision maps: which way is the best in each cell, by each metric.

use super::page::{DecisionMap, Square};
use super::words::{self, Ways, comparison_row};
use crate::case::{Receiver, SendPath, Series, Situation};
use crate::format::{self, size};
use crate::in_order::{ascending, distinct};
use crate::results::analysis::{Analysis, CellResult};
use crate::results::decision::{Choice, Standing, comparisons, standing_in};
use crate::results::metric::Metric;

/// Every two of some series.
pub(super) fn pairs_of(series: &[Series]) -> impl Iterator<Item = (Series, Series)> {
    series
        .iter()
        .enumerate()
        .flat_map(move |(index, &one)| series[..index].iter().map(move |&other| (one, other)))
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
        let sorted = |of: fn(&CellResult) -> usize| ascending(cells.iter().copied().map(of));
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
            (words::connections(threads), squares.collect())
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
            facets: words::facets(
                situation,
                None,
                match metric {
                    Metric::Throughput => "throughput",
                    Metric::P50 | Metric::P99 => "round trips",
                    Metric::CpuPerByte => "CPU",
                },
            ),
            columns: sizes.iter().map(|&bytes| size(bytes as f64)).collect(),
            rows: rows.collect(),
        }
    };
    situations.into_iter().map(map).collect()
}

fn square(cell: &CellResult, metric: Metric) -> Square {
    let all: Vec<Series> = cell.series().collect();
    // What it rests on: the comparisons in which one of `choices` stands.
    let square = |choices: &[Choice], text: String, style: Option<usize>, note: String| {
        let is_one = |series: Series| choices.contains(&Choice::of(series));
        let of_these =
            comparisons(cell, metric).filter(|found| is_one(found.series) || is_one(found.baseline));
        Square { text, style, note, rows: of_these.map(comparison_row).collect() }
    };
    match standing_in(cell, metric) {
        Some(Standing::Best { choice, gain, .. }) => {
            let note = gain.map_or_else(String::new, |gain| {
                format!("{} over {}", words::gain(metric.change(gain.ratio)), words::choice(gain.over))
            });
            let own = all.iter().find(|one| Choice::of(**one) == choice).copied();
            square(&[choice], words::choice(choice), own.map(|own| words::style(own, &all)), note)
        }
        Some(Standing::Close { choices, share }) => {
            let note = format!("within {} of each other", format::share(share));
            let text = if choices.len() > MANY {
                format!("{} alike", choices.len())
            } else {
                words::choices(&choices, " ≈ ")
            };
            square(&choices, text, None, note)
        }
        Some(Standing::Open { choices }) => {
            let note = if choices.len() > MANY {
                format!("undecided between {}", choices.len())
            } else {
                format!("undecided: {}", words::choices(&choices, " or "))
            };
            square(&choices, String::new(), None, note)
        }
        Some(Standing::NotMeasured) | None => {
            let reason = comparisons(cell, metric).find_map(|found| found.outcome.as_ref().err());
            let reason = reason.cloned().unwrap_or_else(|| "only one path was measured".to_owned());
            square(&[], String::new(), None, reason)
        }
    }
}

/// Of more choices than these, not each is named.
const MANY: usize = 4;
