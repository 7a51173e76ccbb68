//! What a network card's driver makes of the sink's answers: at which cost of a fragment they
//! change.

use super::figures::{by_size, representative};
use super::page::{Claim, Figure, Kind, Line, Point, Scale};
use super::words::{self, Copied, Ways, by_fragment, comparison_row};
use crate::case::{Layout, Receiver, SendPath, Series};
use crate::format::{list, significant, size};
use crate::results::decision::{Standing, standing_in, versus};
use crate::results::fragment_cost::bearable;
use crate::results::ladder::Ladder;
use crate::results::metric::Metric;
use crate::results::stats::Estimate;

/// The paths that copy, which a way without a copy has to beat.
const COPYING: [Series; 2] =
    [Series::new(SendPath::TwoCopy, Layout::Heap), Series::new(SendPath::OneCopy, Layout::Heap)];

/// The way without a copy that is spoken of: on pages of their own, or else the first that was
/// measured.
fn zero_copy(ladder: &Ladder<'_>) -> Option<Series> {
    let page = Series::new(SendPath::ZeroCopy, Layout::Page);
    let arms = ladder.cells.first()?.arms.iter();
    let mut measured = arms.map(|arm| arm.arm.case.series()).filter(|one| one.path == SendPath::ZeroCopy);
    if ladder.arms(page).next().is_some() { Some(page) } else { measured.next() }
}

/// A size, what a fragment may cost there, and the path that then is as fast.
type Bearable = (usize, Estimate, Series);

/// What a fragment may cost until another path is as fast: the least over the paths that copy, by
/// size.
fn against_copying(ladder: &Ladder<'_>, series: Series) -> Vec<Bearable> {
    let mut least: Vec<Bearable> = Vec::new();
    for baseline in COPYING {
        for (size, cost) in bearable(ladder, series, baseline) {
            match least.iter_mut().find(|(known, ..)| *known == size) {
                Some(known) if known.1.value <= cost.value => {}
                Some(known) => *known = (size, cost, baseline),
                None => least.push((size, cost, baseline)),
            }
        }
    }
    least.sort_by_key(|(size, ..)| *size);
    least
}

/// Up to which cost of a fragment a way without a copy stays ahead of those with one, at each size:
/// a claim for each ladder.
pub(super) fn claims(ladders: &[Ladder<'_>]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = ladders.iter().filter_map(claim).collect();
    if let Some(first) = claims.first_mut() {
        let why = "A card's driver works by the fragment, and there is none in the sink: the more it takes for one, the larger \
                   are the sizes from which zero-copy pays.";
        first.text = format!("{why} {}", first.text);
    }
    claims
}

/// At which sizes a way without a copy is the best while nobody receives, and what a fragment may
/// cost until it is not; with the path that then is as fast.
fn ahead(ladder: &Ladder<'_>) -> Option<(Series, Vec<Bearable>)> {
    let series = zero_copy(ladder).filter(|_| ladder.situation.receiver == Receiver::Sink)?;
    let is_best = |size: usize| {
        let cell = ladder.cells.iter().find(|cell| cell.cell.payload_bytes == size);
        let standing = cell.and_then(|cell| standing_in(cell, Metric::Throughput));
        matches!(standing, Some(Standing::Best { choice, .. }) if choice.path == SendPath::ZeroCopy)
    };
    let of_all = against_copying(ladder, series).into_iter();
    Some((series, of_all.filter(|(size, cost, _)| cost.value.is_finite() && is_best(*size)).collect()))
}

/// From which sizes on a way without a copy stays the best, and what a fragment may cost for that,
/// in nanoseconds.
pub(super) fn bearable_by_size(ladder: &Ladder<'_>) -> Option<Vec<(usize, f64)>> {
    let (_, ahead) = ahead(ladder)?;
    let mut sizes = ladder.cells.iter().rev().map(|cell| cell.cell.payload_bytes);
    let mut least = f64::INFINITY;
    let mut found: Vec<(usize, f64)> = Vec::new();
    // From the largest on, without a gap.
    for (size, cost, _) in ahead.into_iter().rev() {
        if sizes.next() != Some(size) {
            break;
        }
        least = least.min(cost.value);
        found.push((size, least));
    }
    found.reverse();
    Some(found)
}

fn claim(ladder: &Ladder<'_>) -> Option<Claim> {
    let (series, ahead) = ahead(ladder)?;
    let fragments = |size: usize, of: Series| {
        let arm = ladder.arms(of).find(|arm| arm.arm.case.payload_bytes == size)?;
        Some(significant(arm.fragments_per_message?, 3))
    };
    let stays = ahead.iter().map(|&(at, cost, baseline)| {
        let counts = fragments(at, series).zip(fragments(at, baseline));
        let counts = counts.map_or_else(String::new, |(ours, theirs)| {
            format!(" ({ours} fragments, {} {theirs})", words::plain(baseline))
        });
        format!("{} at {}{counts}", by_fragment(cost.value), size(at as f64))
    });
    let stays: Vec<String> = stays.collect();
    let text = format!(
        "With {}, {} stays ahead of the paths that copy up to {}.",
        words::ladder(ladder),
        words::in_calls(series, Copied::of(ladder.arms(series))),
        list(&stays)
    );
    let row = |&(size, _, baseline): &Bearable| row(ladder, size, series, baseline);
    (!ahead.is_empty()).then(|| Claim { text, rows: ahead.iter().filter_map(row).collect() })
}

fn row(ladder: &Ladder<'_>, size: usize, series: Series, baseline: Series) -> Option<String> {
    let cell = ladder.cells.iter().find(|cell| cell.cell.payload_bytes == size)?;
    versus(cell, Metric::Throughput, series, baseline).map(|(.., comparison)| comparison_row(comparison))
}

/// A figure for each of the ladders that are drawn.
pub(super) fn figures(ladders: &[Ladder<'_>], ways: &Ways) -> Vec<Figure> {
    representative(ladders).into_iter().filter_map(|ladder| figure(ladder, ways)).collect()
}

/// The crossing against the cost of a fragment: a line for each path that copies.
fn figure(ladder: &Ladder<'_>, ways: &Ways) -> Option<Figure> {
    let series = zero_copy(ladder).filter(|_| ladder.situation.receiver == Receiver::Sink)?;
    let line = |&baseline: &Series| {
        let costs = bearable(ladder, series, baseline);
        // From the last size at which it is behind: the line passes 0 where it pays with a driver
        // that costs nothing.
        let behind = costs.iter().rposition(|(_, cost)| cost.value <= 0.0).unwrap_or_default();
        let points = costs.into_iter().skip(behind).filter(|(_, cost)| cost.value.is_finite());
        let point = |(at, cost): (usize, Estimate)| {
            let ends = [cost.low, cost.high].map(|ns| significant(ns, 2)).join(" to ");
            let text = format!("{}: {} ({ends})", size(at as f64), by_fragment(cost.value));
            Some(Point::new(at as f64, cost, text, row(ladder, at, series, baseline)?))
        };
        Line {
            label: format!("than {}", words::plain(baseline)),
            style: words::style(baseline, &COPYING),
            dashed: false,
            points: points.filter_map(point).collect(),
        }
    };
    let lines: Vec<Line> = COPYING.iter().map(line).filter(|line| line.points.len() > 1).collect();
    let name = words::in_calls(series, Copied::of(ladder.arms(series)));
    let caption = format!(
        "The sink has no driver. A card's takes some time for each fragment, and {name} has more of them. Find yours on the \
         vertical axis (docs/book/src/sink.md says how to measure it): {name} is faster at the sizes where the line lies \
         above that. The line passes 0 where a driver that costs nothing would have the crossing. Intervals are of 95 %."
    );
    let title = format!("What a driver may take for a fragment until {name} is not faster any more");
    (!lines.is_empty()).then(|| Figure {
        y: Scale::new("ns a fragment", false, Kind::Number),
        ..by_size(("fig6-fragment-cost", &title), &caption, (ladder, ways), lines)
    })
}
