//! The decision: which way to send is the fastest, from which size to which size, and how sure that
//! is. The page, the terminal and JSON draw this list, and decide nothing themselves.
//!
//! At a size that was measured it says what the printed intervals of the comparisons say, and
//! between two sizes what [`crossing`](super::crossing) expects there. A path is the best at a size
//! where it is *faster* than each other path, by the rule of every verdict.
//!
//! Layouts of a path are one path here: at each size the fastest of them stands for it.

use serde::{Serialize, Serializer};

use super::analysis::{CellResult, SeriesComparison};
use super::crossing::{Crossing, Known, Place, STEPS, between, on_the_way};
use super::ladder::{Ladder, message_ns};
use super::metric::Metric;
use super::stats::Estimate;
use super::verdict::Verdict;
use crate::case::{Engine, SendPath, Series, Situation};

/// Paths that differ by less than this (0.05: 5 %), or by less than the margin, are close: which of
/// them is the better may be open, but not whether it matters much.
pub const CLOSE: f64 = 0.05;

/// Between two sizes of which the larger is more than so many times the smaller, nothing is
/// interpolated: where not the same is said of both, nothing is said of what lies between.
const WIDEST_GAP: f64 = 16.0;

/// Where what is said changes between two places, these are halved so many times.
const HALVINGS: u32 = 20;

/// What is chosen: a path and what makes its calls. Layouts are not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// How a message leaves.
    pub path: SendPath,
    /// What makes the path's call.
    pub engine: Engine,
}

impl Choice {
    /// What a series is one of.
    pub fn of(series: Series) -> Self {
        Self { path: series.path, engine: series.engine }
    }

    fn copies(self) -> bool {
        matches!(self.path, SendPath::TwoCopy | SendPath::OneCopy) && self.engine == Engine::Syscall
    }
}

/// What is said of the sizes of a range.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// One is faster than every other.
    Best {
        /// Which.
        choice: Choice,
        /// By how much it is faster than the next, at the largest size of the range.
        #[serde(skip_serializing_if = "Option::is_none")]
        gain: Option<Gain>,
        /// By how much it is faster than the better of the plain paths that copy.
        #[serde(skip_serializing_if = "Option::is_none")]
        over_copying: Option<Gain>,
    },
    /// None of these is known to be faster than all others, and any two differ by less than a share
    /// (0.05: 5 %).
    Close {
        /// The fastest by its number first.
        choices: Vec<Choice>,
        /// The share.
        share: f64,
    },
    /// None of these is known to be faster than another, and they may differ by more.
    Open {
        /// The fastest by its number first.
        choices: Vec<Choice>,
    },
    /// No size between these two was measured, and they are too far apart to say what lies between.
    NotMeasured,
}

/// By how much a choice is faster than another at a size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gain {
    /// The size of the message, in bytes.
    pub payload_bytes: usize,
    /// What it is held against.
    pub over: Choice,
    /// The ratio, with the interval that is printed.
    pub ratio: Estimate,
}

/// Sizes of which the same is said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Where it begins: at a size that was measured, or where the one before ends.
    #[serde(serialize_with = "whole")]
    pub from_bytes: f64,
    /// Where it ends.
    #[serde(serialize_with = "whole")]
    pub to_bytes: f64,
    /// Between which sizes one path passes the other, at 95 %; none where it is not one path after
    /// another.
    #[serde(serialize_with = "whole_pair", skip_serializing_if = "Option::is_none")]
    pub begins_within_bytes: Option<(f64, f64)>,
    /// The sizes in it that were measured, ascending; none where it lies between two.
    #[serde(rename = "sizes_bytes")]
    pub sizes: Vec<usize>,
    /// What is said.
    #[serde(flatten)]
    pub standing: Standing,
}

impl Range {
    /// What is the best in it; none where that is not known.
    pub fn best(&self) -> Option<Choice> {
        match self.standing {
            Standing::Best { choice, .. } => Some(choice),
            _ => None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn whole<S: Serializer>(bytes: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.round() as u64)
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn whole_pair<S: Serializer>(pair: &Option<(f64, f64)>, serializer: S) -> Result<S::Ok, S::Error> {
    pair.map(|(low, high)| (low.round() as u64, high.round() as u64)).serialize(serializer)
}

/// What is to be used in one situation, with one number of pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// What pairs do, where, and how the bytes are taken in.
    #[serde(flatten)]
    pub situation: Situation,
    /// How many pairs there are.
    pub threads: usize,
    /// The sizes that were measured and compared, ascending.
    #[serde(rename = "sizes_bytes")]
    pub sizes: Vec<usize>,
    /// By ascending size, each beginning where the one before ends. Empty where nothing can be
    /// compared.
    pub ranges: Vec<Range>,
}

impl Decision {
    /// Reads it off a ladder.
    pub fn of(ladder: &Ladder<'_>) -> Self {
        let knots: Vec<Knot<'_>> =
            ladder.cells.iter().filter_map(|&cell| Knot::of(cell, Metric::Throughput)).collect();
        Self {
            situation: ladder.situation,
            threads: ladder.threads,
            sizes: knots.iter().map(|knot| knot.cell.cell.payload_bytes).collect(),
            ranges: ranges(&knots),
        }
    }

    /// Where the list passes from one choice to another for good, if it does: what is said of the
    /// two alone says the same.
    pub(crate) fn border(&self, from: Choice, to: Choice) -> Option<Crossing> {
        let is_it = |pair: &&[Range]| (pair[0].best(), pair[1].best()) == (Some(from), Some(to));
        let at = self.ranges.windows(2).rposition(|pair| is_it(&pair))? + 1;
        if self.ranges[at..].iter().any(|range| range.best() == Some(from)) {
            return None;
        }
        let Range { from_bytes, begins_within_bytes, .. } = &self.ranges[at];
        let (low, high) = begins_within_bytes.unwrap_or((*from_bytes, *from_bytes));
        let [value, low, high] = [*from_bytes, low, high].map(Place::At);
        Some(Crossing { value, low, high })
    }

    /// What it says of a size that was measured.
    pub fn at(&self, payload_bytes: usize) -> Option<&Range> {
        self.ranges.iter().find(|range| range.sizes.contains(&payload_bytes))
    }
}

/// The comparisons of a cell by a metric.
pub(crate) fn comparisons(cell: &CellResult, metric: Metric) -> impl Iterator<Item = &SeriesComparison> {
    cell.comparisons.iter().filter(move |comparison| comparison.metric == metric)
}

/// How one series stands against another: the ratio (above 1 is better) and the verdict, turned
/// round if that is how they were compared.
pub(crate) fn versus(
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

/// What can be said of one cell by a metric; none where fewer than two choices can be compared.
pub fn standing_in(cell: &CellResult, metric: Metric) -> Option<Standing> {
    let knot = Knot::of(cell, metric)?;
    let mut standing = Stretch::between(&knot, &knot).standing(knot.bytes());
    knot.add_gains(&mut standing);
    Some(standing)
}

/// How one choice stands against another in a cell.
pub(crate) fn ratio_in(cell: &CellResult, metric: Metric, one: Choice, other: Choice) -> Option<Estimate> {
    Knot::of(cell, metric)?.ratio(one, other)
}

/// By how much a choice is ahead of the better of the plain paths that copy; behind, where the
/// ratio is below 1.
pub(crate) fn over_copying(cell: &CellResult, choice: Choice) -> Option<Gain> {
    Knot::of(cell, Metric::Throughput)?.least_gain(choice, Choice::copies)
}

/// From which size on one choice is faster than another, with an interval; none where fewer than
/// two sizes have both.
pub(crate) fn crossing(ladder: &Ladder<'_>, one: Choice, other: Choice) -> Option<Crossing> {
    let knots = ladder.cells.iter().filter_map(|&cell| Knot::of(cell, Metric::Throughput));
    let points: Vec<Known> = knots.filter_map(|knot| knot.known(one, other)).collect();
    Crossing::of(&points)
}

/// A size that was measured, with the series that stands for each choice there.
struct Knot<'a> {
    cell: &'a CellResult,
    metric: Metric,
    choices: Vec<(Choice, Series)>,
}

impl<'a> Knot<'a> {
    /// The best series of each choice by its number. None where fewer than two can be compared.
    fn of(cell: &'a CellResult, metric: Metric) -> Option<Self> {
        let known = |one: Series, other: Series| versus(cell, metric, one, other).map(|(ratio, ..)| ratio);
        let arms = cell.arms.iter().filter(|arm| !arm.arm.control && arm.error.is_none());
        let mut choices: Vec<(Choice, Series)> = Vec::new();
        for series in arms.map(|arm| arm.arm.case.series()) {
            match choices.iter_mut().find(|(choice, _)| *choice == Choice::of(series)) {
                Some((_, best)) if known(series, *best).is_none_or(|ratio| ratio.value <= 1.0) => {}
                Some((_, best)) => *best = series,
                None => choices.push((Choice::of(series), series)),
            }
        }
        // One that cannot be compared with the first is left out.
        let first = choices.first()?.1;
        choices.retain(|(_, series)| *series == first || known(*series, first).is_some());
        (choices.len() >= 2).then_some(Self { cell, metric, choices })
    }

    fn bytes(&self) -> f64 {
        self.cell.cell.payload_bytes as f64
    }

    fn series(&self, choice: Choice) -> Option<Series> {
        self.choices.iter().find(|(known, _)| *known == choice).map(|(_, series)| *series)
    }

    fn ratio(&self, one: Choice, other: Choice) -> Option<Estimate> {
        versus(self.cell, self.metric, self.series(one)?, self.series(other)?).map(|(ratio, ..)| ratio)
    }

    /// What an interpolation starts from.
    fn known(&self, one: Choice, other: Choice) -> Option<Known> {
        Some(Known { bytes: self.bytes(), ratio: self.ratio(one, other)?, other_ns: self.ns(other)? })
    }

    /// The time of a message, in nanoseconds.
    fn ns(&self, choice: Choice) -> Option<f64> {
        Some(message_ns(self.cell.arm(self.series(choice)?)?)?.value)
    }

    /// Says by how much the best is ahead here.
    fn add_gains(&self, standing: &mut Standing) {
        if let Standing::Best { choice, gain, over_copying } = standing {
            *gain = self.least_gain(*choice, |_| true);
            *over_copying = self.least_gain(*choice, Choice::copies);
        }
    }

    /// By how much a choice is ahead of the nearest of some others.
    fn least_gain(&self, choice: Choice, among: impl Fn(Choice) -> bool) -> Option<Gain> {
        let others = self.choices.iter().map(|(other, _)| *other);
        let gains = others.filter(|other| *other != choice && among(*other)).filter_map(|over| {
            Some(Gain { payload_bytes: self.cell.cell.payload_bytes, over, ratio: self.ratio(choice, over)? })
        });
        gains.min_by(|one, other| one.ratio.value.total_cmp(&other.ratio.value))
    }
}

/// A stretch of sizes: one that was measured, or what lies between two.
struct Stretch<'k, 'a> {
    left: &'k Knot<'a>,
    right: &'k Knot<'a>,
    choices: Vec<Choice>,
}

impl<'k, 'a> Stretch<'k, 'a> {
    fn between(left: &'k Knot<'a>, right: &'k Knot<'a>) -> Self {
        let choices = left.choices.iter().map(|(choice, _)| *choice);
        Self { left, right, choices: choices.filter(|one| right.series(*one).is_some()).collect() }
    }

    /// How one choice stands against another at a size.
    fn ratio(&self, bytes: f64, one: Choice, other: Choice) -> Option<Estimate> {
        if self.left.bytes() >= self.right.bytes() {
            return self.left.ratio(one, other);
        }
        Some(between([self.left.known(one, other)?, self.right.known(one, other)?], bytes))
    }

    /// The choices by their number, the fastest first.
    fn ranked(&self, bytes: f64) -> Vec<Choice> {
        let Some(&first) = self.choices.first() else { return Vec::new() };
        let value = |one: Choice| {
            if one == first { 1.0 } else { self.ratio(bytes, one, first).map_or(0.0, |ratio| ratio.value) }
        };
        let mut ranked = self.choices.clone();
        ranked.sort_by(|one, other| value(*other).total_cmp(&value(*one)));
        ranked
    }

    /// What can be said of a size.
    fn standing(&self, bytes: f64) -> Standing {
        let ranked = self.ranked(bytes);
        let margin = self.left.metric.margin();
        let beats = |one: Choice, other: Choice| {
            let ratio = self.ratio(bytes, one, other);
            ratio.is_some_and(|ratio| Verdict::of(ratio, margin) == Verdict::Faster)
        };
        let beats_all = |one: &Choice| ranked.iter().all(|other| other == one || beats(*one, *other));
        if let Some(&choice) = ranked.iter().find(|one| beats_all(one)) {
            return Standing::Best { choice, gain: None, over_copying: None };
        }
        let first = ranked[0];
        let is_beaten = |one: Choice| ranked.iter().any(|&other| other != one && beats(other, one));
        let mut choices: Vec<Choice> = ranked.iter().copied().filter(|&one| !is_beaten(one)).collect();
        if choices.len() < 2 {
            // Whom the fastest does not beat is beaten by a third alone.
            choices = ranked.iter().copied().filter(|&one| one == first || !beats(first, one)).collect();
        }
        let within = |share: f64| {
            choices.iter().enumerate().all(|(index, &one)| {
                choices[..index].iter().all(|&other| {
                    let ratio = self.ratio(bytes, one, other);
                    ratio.is_some_and(|ratio| Verdict::of(ratio, share) == Verdict::Same)
                })
            })
        };
        match [margin, CLOSE].into_iter().find(|share| within(*share)) {
            Some(share) => Standing::Close { choices, share },
            None => Standing::Open { choices },
        }
    }

    /// Where something that holds at `low` holds no longer, below `high`.
    fn change(low: f64, high: f64, holds: impl Fn(f64) -> bool) -> f64 {
        let (mut low, mut high) = (low.ln(), high.ln());
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if holds(middle.exp()) { low = middle } else { high = middle }
        }
        f64::midpoint(low, high).exp()
    }
}

/// Sizes in a row of which the same is said.
#[derive(Debug)]
struct Run {
    from: f64,
    to: f64,
    standing: Standing,
    /// The sizes in it that were measured.
    sizes: Vec<usize>,
}

impl Run {
    /// Whether it is a range of its own. What is open only between two sizes is where one range
    /// ends and the next begins.
    fn is_range(&self) -> bool {
        !self.sizes.is_empty() || matches!(self.standing, Standing::Best { .. } | Standing::NotMeasured)
    }
}

/// The choices that are spoken of.
fn named(standing: &Standing) -> &[Choice] {
    match standing {
        Standing::Best { choice, .. } => std::slice::from_ref(choice),
        Standing::Close { choices, .. } | Standing::Open { choices } => choices,
        Standing::NotMeasured => &[],
    }
}

/// Whether the same is said, of the same choices.
fn is_alike(one: &Standing, other: &Standing) -> bool {
    let (names, others) = (named(one), named(other));
    std::mem::discriminant(one) == std::mem::discriminant(other)
        && names.len() == others.len()
        && names.iter().all(|name| others.contains(name))
}

/// Joins neighbours of which the same is said.
fn joined(runs: impl Iterator<Item = Run>) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for run in runs {
        match all.last_mut() {
            Some(last) if is_alike(&last.standing, &run.standing) => {
                last.to = run.to;
                last.sizes.extend(run.sizes);
                // Both are within the larger share.
                if let (Standing::Close { share, .. }, Standing::Close { share: other, .. }) =
                    (&mut last.standing, &run.standing)
                {
                    *share = share.max(*other);
                }
            }
            _ => all.push(run),
        }
    }
    all
}

/// What is said over all sizes, in pieces.
fn runs(knots: &[Knot<'_>]) -> Vec<Run> {
    let at_knots: Vec<Standing> =
        knots.iter().map(|knot| Stretch::between(knot, knot).standing(knot.bytes())).collect();
    let mut runs = Vec::new();
    for (index, knot) in knots.iter().enumerate() {
        let from = knot.bytes();
        let sizes = vec![knot.cell.cell.payload_bytes];
        runs.push(Run { from, to: from, standing: at_knots[index].clone(), sizes });
        let Some(next) = knots.get(index + 1) else { break };
        let (to, ends) = (next.bytes(), &at_knots[index..=index + 1]);
        let stretch = Stretch::between(knot, next);
        let mut push = |from, to, standing| runs.push(Run { from, to, standing, sizes: Vec::new() });
        // Of a choice that one end speaks of and the other has not, nothing is known in between.
        let is_known = ends.iter().flat_map(named).all(|choice| stretch.choices.contains(choice));
        if to / from > WIDEST_GAP || !is_known {
            // What is said of both ends is taken to hold between them.
            let holds = is_known && is_alike(&ends[0], &ends[1]);
            push(from, to, if holds { ends[0].clone() } else { Standing::NotMeasured });
            continue;
        }
        for step in 1..=STEPS {
            let place = |step: u32| on_the_way(from, to, step);
            // The end itself is the next knot's, which may have more choices.
            let (low, high) = (place(step - 1), if step == STEPS { to * (1.0 - 1e-9) } else { place(step) });
            let (before, after) = (stretch.standing(low), stretch.standing(high));
            let change = if is_alike(&before, &after) {
                high
            } else {
                Stretch::change(low, high, |bytes| is_alike(&stretch.standing(bytes), &before))
            };
            push(low, change, before);
            push(change, high, after);
        }
    }
    runs
}

/// The ranges, and where each begins.
fn ranges(knots: &[Knot<'_>]) -> Vec<Range> {
    let runs = joined(joined(runs(knots).into_iter()).into_iter().filter(Run::is_range));
    // Where each begins that has one before it: at the place, and within what.
    let borders: Vec<(f64, Option<(f64, f64)>)> = runs
        .windows(2)
        .map(|pair| {
            let within = (pair[0].to, pair[1].from);
            let is_crossing = pair.iter().all(|run| matches!(run.standing, Standing::Best { .. }));
            let is_wide = within.0 < within.1;
            (begins(knots, within, &pair[1].standing), Some(within).filter(|_| is_crossing && is_wide))
        })
        .collect();
    let range = |(index, run): (usize, Run)| {
        let begins = index.checked_sub(1).map(|before| borders[before]);
        let mut standing = run.standing;
        let is_in = |knot: &&Knot<'_>| run.sizes.contains(&knot.cell.cell.payload_bytes);
        if let Some(largest) = knots.iter().rfind(is_in) {
            largest.add_gains(&mut standing);
        }
        Range {
            from_bytes: begins.map_or(run.from, |(at, _)| at),
            to_bytes: borders.get(index).map_or(run.to, |(at, _)| *at),
            begins_within_bytes: begins.and_then(|(_, within)| within),
            sizes: run.sizes,
            standing,
        }
    };
    runs.into_iter().enumerate().map(range).collect()
}

/// Where in an uncertain stretch the next range begins: where its choice becomes the fastest by its
/// number for the last time; in the middle, on a log scale, where it has no choice of its own.
fn begins(knots: &[Knot<'_>], (low, high): (f64, f64), next: &Standing) -> f64 {
    let Standing::Best { choice, .. } = next else { return (low * high).sqrt() };
    let is_behind = |bytes: f64| {
        knots.windows(2).find(|pair| pair[0].bytes() <= bytes && bytes <= pair[1].bytes()).is_some_and(
            |pair| {
                let stretch = Stretch::between(&pair[0], &pair[1]);
                stretch.ranked(bytes).first() != Some(choice)
            },
        )
    };
    let place = |step: u32| on_the_way(low, high, step);
    match (0..=STEPS).rev().find(|step| is_behind(place(*step))) {
        None => low,
        Some(STEPS) => high,
        Some(step) => Stretch::change(place(step), place(step + 1), is_behind),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALL, ON_PAGES, ONE_COPY, SPLICE, TWO_COPY, ZERO_COPY, cell, sweeps};
    use super::*;
    use crate::case::{Cell, Receiver};
    use proptest::prelude::*;

    fn ladder(cells: &[CellResult]) -> Ladder<'_> {
        let Cell { threads, .. } = cells[0].cell;
        Ladder { situation: cells[0].cell.situation(), threads, cells: cells.iter().collect() }
    }

    fn best(range: &Range) -> Option<Series> {
        match range.standing {
            Standing::Best { choice, .. } => ALL.into_iter().find(|one| Choice::of(*one) == choice),
            _ => None,
        }
    }

    #[test]
    fn a_path_that_is_the_best_between_two_sizes_alone_is_in_the_list() {
        // As seen on a Xeon: two_copy is the fastest at 8 KiB, zero_copy at 64 KiB, and one_copy in
        // between.
        let of = |bytes: usize, [two, one, zero]: [f64; 3]| {
            cell(bytes, &[(TWO_COPY, two), (ONE_COPY, one), (ZERO_COPY, zero), (ON_PAGES, zero * 1.01)], 0.01)
        };
        let cells = [
            of(1024, [2500.0, 2650.0, 3300.0]),
            of(8192, [3900.0, 4050.0, 4700.0]),
            of(65536, [18_000.0, 15_200.0, 14_400.0]),
            of(1_048_576, [290_000.0, 170_000.0, 63_000.0]),
        ];
        let decision = Decision::of(&ladder(&cells));
        let found: Vec<_> = decision.ranges.iter().map(best).collect();
        assert_eq!(found, [Some(TWO_COPY), Some(ONE_COPY), Some(ZERO_COPY)], "{decision:?}");
        let begins: Vec<f64> = decision.ranges.iter().map(|range| range.from_bytes / 1024.0).collect();
        assert!((9.0..14.0).contains(&begins[1]) && (30.0..40.0).contains(&begins[2]), "{begins:?}");
        let Standing::Best { gain: Some(gain), over_copying: Some(over), .. } = &decision.ranges[2].standing
        else {
            panic!("{decision:?}")
        };
        assert_eq!((gain.payload_bytes, gain.over), (1_048_576, Choice::of(ONE_COPY)));
        assert!((gain.ratio.value / (170.0 / 63.0) - 1.0).abs() < 1e-9 && gain == over, "{gain:?}");
    }

    #[test]
    fn layouts_of_one_path_that_tie_are_one_path() {
        let cells = [cell(65536, &[(ONE_COPY, 20.0), (ZERO_COPY, 14.0), (ON_PAGES, 14.01)], 0.02)];
        let decision = Decision::of(&ladder(&cells));
        assert_eq!(decision.ranges.iter().map(best).collect::<Vec<_>>(), [Some(ZERO_COPY)], "{decision:?}");
    }

    #[test]
    fn between_sizes_that_are_far_apart_nothing_is_said() {
        let of = |bytes: usize, two: f64| cell(bytes, &[(TWO_COPY, two), (ONE_COPY, 1000.0)], 0.01);
        let cells = [of(64, 800.0), of(1 << 20, 1500.0)];
        let decision = Decision::of(&ladder(&cells));
        assert!(matches!(decision.ranges[1].standing, Standing::NotMeasured), "{decision:?}");
        assert_eq!(best(decision.at(64).unwrap()), Some(TWO_COPY));
        assert_eq!(best(decision.at(1 << 20).unwrap()), Some(ONE_COPY));
    }

    #[test]
    fn what_is_not_known_is_open_and_what_does_not_matter_is_close() {
        let of = |half: f64| {
            let cells = [cell(4096, &[(TWO_COPY, 1000.0), (ONE_COPY, 1005.0)], half)];
            Decision::of(&ladder(&cells)).ranges[0].standing.clone()
        };
        assert!(matches!(of(0.2), Standing::Open { .. }));
        assert!(matches!(of(0.03), Standing::Close { share: CLOSE, .. }));
        assert!(matches!(of(0.005), Standing::Close { share: 0.02, .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// No part of the list contradicts a verdict, a crossing, or another part.
        #[test]
        fn the_list_contradicts_nothing(cells in sweeps(Receiver::Sink)) {
            let ladder = ladder(&cells);
            let decision = Decision::of(&ladder);
            let Decision { sizes, ranges, .. } = &decision;
            prop_assert_eq!(ranges.is_empty(), sizes.is_empty());
            if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
                prop_assert_eq!((first.from_bytes, last.to_bytes), (sizes[0] as f64, sizes[sizes.len() - 1] as f64));
            }
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].to_bytes.total_cmp(&pair[1].from_bytes).is_eq());
                prop_assert!(pair[0].from_bytes <= pair[0].to_bytes && !is_alike(&pair[0].standing, &pair[1].standing));
                if let Some((low, high)) = pair[1].begins_within_bytes {
                    prop_assert!(low <= pair[1].from_bytes && pair[1].from_bytes <= high, "{:?}", pair[1]);
                }
            }
            // Beside a size that was measured, nothing is the best that is known to be slower
            // there.
            for cell in cells.iter().filter(|cell| decision.at(cell.cell.payload_bytes).is_some()) {
                let at = cell.cell.payload_bytes as f64;
                for range in ranges.iter().filter(|range| range.from_bytes <= at && at <= range.to_bytes) {
                    let Some(one) = range.best() else { continue };
                    let is_slower = |own: Series| {
                        cell.series().any(|other| {
                            Choice::of(other) != one
                                && versus(cell, Metric::Throughput, own, other)
                                    .is_some_and(|(ratio, ..)| ratio.high < 0.98)
                        })
                    };
                    let mut own = cell.series().filter(|series| Choice::of(*series) == one).peekable();
                    prop_assert!(own.peek().is_some(), "{range:?} at {at}: it is not there: {decision:?}");
                    prop_assert!(!own.all(is_slower), "{range:?} at {at}: {decision:?}");
                }
                // Those that are close are so two by two, and nobody beats one that is open.
                let Some(range) = decision.at(cell.cell.payload_bytes) else { continue };
                let verdicts = |margin: f64| {
                    let all: Vec<Series> = cell.series().filter(|one| named(&range.standing).contains(&Choice::of(*one))).collect();
                    let pairs = all.iter().flat_map(|&one| all.iter().map(move |&other| (one, other))).collect::<Vec<_>>();
                    pairs
                        .into_iter()
                        .filter(|(one, other)| Choice::of(*one) != Choice::of(*other))
                        .filter_map(|(one, other)| versus(cell, Metric::Throughput, one, other))
                        .map(|(ratio, ..)| Verdict::of(ratio, margin))
                        .collect::<Vec<_>>()
                };
                if let Standing::Close { share, .. } = range.standing {
                    prop_assert!(verdicts(share).contains(&Verdict::Same), "{decision:?}");
                }
            }
            // By the printed verdicts at each size.
            for cell in &cells {
                let beats = |one: Series, other: Series| {
                    versus(cell, Metric::Throughput, one, other).is_some_and(|(_, verdict, _)| verdict == Verdict::Faster)
                };
                let others = |of: Choice| cell.series().filter(move |one| Choice::of(*one) != of);
                let standing = decision.at(cell.cell.payload_bytes).map(|range| &range.standing);
                if let Some(Standing::Best { choice, .. }) = standing {
                    for other in others(*choice) {
                        let mut of_choice = cell.series().filter(|one| Choice::of(*one) == *choice);
                        prop_assert!(of_choice.any(|one| beats(one, other)), "{other:?} {decision:?}");
                    }
                }
                let packed = Choice::of(TWO_COPY);
                if others(packed).next().is_some() && others(packed).all(|other| beats(TWO_COPY, other)) {
                    let is_said = matches!(standing, Some(Standing::Best { choice, .. }) if *choice == packed);
                    prop_assert!(is_said, "{decision:?}");
                }
            }
            // By the crossings: past one's upper end its baseline is the best nowhere.
            for (series, baseline) in [(ONE_COPY, TWO_COPY), (SPLICE, TWO_COPY), (SPLICE, ONE_COPY)] {
                let is_everywhere = cells.iter().all(|cell| cell.arm(series).is_some() && cell.arm(baseline).is_some());
                let found = crossing(&ladder, Choice::of(series), Choice::of(baseline));
                let Some(found) = found.filter(|_| is_everywhere) else { continue };
                let Place::At(high) = found.high else { continue };
                for range in ranges.iter().filter(|range| range.from_bytes > high * 1.2) {
                    prop_assert!(best(range) != Some(baseline), "{found:?} {decision:?}");
                }
            }
        }
    }
}
