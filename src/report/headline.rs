//! The sentences: each is made of the data, and names the rows that it rests on.

use super::page::Claim;
use super::tables::ladder_name;
use super::winners::{Winner, best_of, comparisons, fastest_path, versus, winner};
use super::words::{self, Copied, Ways, case_row, comparison_row};
use crate::case::{Receiver, SendPath, Series, Source};
use crate::format::{bytes, distance, list, share, significant};
use crate::results::analysis::{Analysis, ArmResult, CPU_TIME_IS_NOT_WHOLE, CellResult, SeriesComparison};
use crate::results::cost_model::{Fit, Ladder, crossing, passes_one};
use crate::results::manifest::{Manifest, cpu_time_is_whole};
use crate::results::metric::Metric;
use crate::results::stats::{Verdict, median};
use crate::results::summary::injections;

/// What all answers are made of.
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) analysis: &'a Analysis,
    pub(super) ladders: &'a [Ladder<'a>],
    pub(super) fits: &'a [(&'a Ladder<'a>, Series, Option<Fit>)],
    pub(super) ways: &'a Ways,
}

/// What is said of one size of a ladder.
#[derive(PartialEq)]
enum Said {
    /// This path is faster than every other.
    Path(SendPath),
    /// Something else, in words.
    Words(String),
}

fn is_alone(ladder: &Ladder<'_>) -> bool {
    ladder.situation.receiver == Receiver::Sink
}

/// How many ladders stand in the first screen.
const SHOWN_LADDERS: usize = 4;

pub(super) fn claim(text: impl Into<String>) -> Claim {
    Claim { text: text.into(), rows: Vec::new() }
}

impl Facts<'_> {
    pub(super) fn has(&self, series: Series) -> bool {
        self.manifest.plan.series.contains(&series)
    }

    pub(super) fn zero_copy_series(&self) -> Vec<Series> {
        self.manifest.plan.series.iter().copied().filter(|(path, _)| *path == SendPath::ZeroCopy).collect()
    }

    pub(super) fn arms(&self) -> impl Iterator<Item = &ArmResult> {
        self.analysis.cells.iter().flat_map(|cell| &cell.arms)
    }

    /// What the kernel did with the sends of each `zero_copy` series.
    fn copied(&self) -> Vec<(Series, Copied)> {
        self.zero_copy_series().into_iter().map(|series| (series, self.copied_of(series))).collect()
    }

    /// What the kernel did with the sends of `series` to one receiver.
    pub(super) fn copied_by(&self, reception: (Receiver, Source), series: Series) -> Copied {
        let arms = self.received_by(reception).into_iter().flat_map(|cell| &cell.arms);
        Copied::of(arms.filter(|arm| arm.arm.case.series() == series))
    }

    fn copied_of(&self, series: Series) -> Copied {
        Copied::of(self.arms().filter(|arm| arm.arm.case.series() == series))
    }

    pub(super) fn name(&self, series: Series) -> String {
        words::series(series, self.copied_of(series))
    }

    /// A series with what the kernel did in one ladder.
    pub(super) fn name_in(ladder: &Ladder<'_>, series: Series) -> String {
        words::series(series, Copied::of(ladder.arms(series)))
    }

    /// Every receiver with every source that were measured together, in the order of the plan. What is said of one
    /// does not hold of another.
    pub(super) fn receptions(&self) -> Vec<(Receiver, Source)> {
        let mut found = Vec::new();
        for cell in &self.analysis.cells {
            let reception = (cell.cell.receiver, cell.cell.source);
            if !found.contains(&reception) {
                found.push(reception);
            }
        }
        found
    }

    /// The cells of one receiver and source.
    pub(super) fn received_by(&self, (receiver, source): (Receiver, Source)) -> Vec<&CellResult> {
        let of = |cell: &&CellResult| (cell.cell.receiver, cell.cell.source) == (receiver, source);
        self.analysis.cells.iter().filter(of).collect()
    }

    fn comparisons(&self, metric: Metric) -> impl Iterator<Item = &SeriesComparison> {
        self.analysis
            .cells
            .iter()
            .flat_map(|cell| &cell.comparisons)
            .filter(move |comparison| comparison.metric == metric && !comparison.control)
    }

    /// What is to be used: in one sentence, or where the sender was measured alone and with a receiver, in two.
    pub(super) fn headline(&self) -> String {
        let Some(ladder) = self.ladders.first() else { return "Nothing was measured.".to_owned() };
        if let Some(alone) = self.ladders.iter().find(|ladder| is_alone(ladder)) {
            let received = self.ladders.iter().find(|ladder| !is_alone(ladder));
            let sentences = [Some(Self::sending_alone(alone)), received.map(|ladder| self.received(ladder))];
            return sentences.into_iter().flatten().collect::<Vec<_>>().join(" ");
        }
        let use_what = Self::ranges(ladder);
        let zero = self.copied_sentence();
        format!("On this machine, by throughput with {}: {use_what}.{zero}", ladder_name(ladder))
    }

    /// `Sending alone, not copied: two_copy up to about 4 KiB, one_copy to about 60 KiB, zero_copy from there, 2.3 times as
    /// fast as one_copy at 256 KiB.`
    fn sending_alone(ladder: &Ladder<'_>) -> String {
        let zero = |arm: &&ArmResult| !arm.arm.control && arm.arm.case.path == SendPath::ZeroCopy;
        let mut arms = ladder.cells.iter().flat_map(|cell| &cell.arms).filter(zero).peekable();
        let copied = match (arms.peek().is_some(), Copied::of(arms)) {
            (false, _) => String::new(),
            (true, Copied::Shares(_, 0.0)) => ", not copied".to_owned(),
            (true, copied) => format!(" (zero_copy: {copied})"),
        };
        format!("Sending alone{copied}: {}.{}", Self::paths_by_size(ladder), Self::zero_copy_passes(ladder))
    }

    /// From which sizes on zero-copy is faster than each other path, with a space before it: by the ratios, which have an
    /// answer where a verdict at the sizes themselves has none.
    fn zero_copy_passes(ladder: &Ladder<'_>) -> String {
        let zero = SendPath::ZeroCopy;
        // The plan's first layout of each path.
        let series = |path: SendPath| {
            let arms = &ladder.cells.first()?.arms;
            arms.iter().map(|arm| arm.arm.case.series()).find(|series| series.0 == path)
        };
        let passes = |path: SendPath| {
            let place = crossing(ladder, series(zero)?, series(path)?).and_then(words::crossing)?;
            Some(format!("{path} from {place}"))
        };
        let pairs: Vec<String> =
            [SendPath::TwoCopy, SendPath::OneCopy].into_iter().filter_map(passes).collect();
        if pairs.is_empty() {
            String::new()
        } else {
            format!(" Alone, {zero} is faster than {}.", pairs.join(", and than "))
        }
    }

    /// Which path is faster than all others over which sizes. Where one takes over from another is where the ratio of
    /// the two passes 1 between two measured sizes.
    fn paths_by_size(ladder: &Ladder<'_>) -> String {
        let said = |cell: &CellResult| match (fastest_path(cell), winner(cell, Metric::Throughput)) {
            (Some((path, _)), _) => Said::Path(path),
            (None, Winner::Tied(series, _)) => {
                let names: Vec<String> = series.into_iter().map(words::plain).collect();
                Said::Words(format!("{} do not differ", list(&names)))
            }
            (None, _) => Said::Words("the data cannot say".to_owned()),
        };
        let mut ranges: Vec<(Said, Vec<&CellResult>)> = Vec::new();
        for &cell in &ladder.cells {
            let said = said(cell);
            match ranges.last_mut() {
                Some((last, cells)) if *last == said => cells.push(cell),
                _ => ranges.push((said, vec![cell])),
            }
        }
        let size = |cell: &CellResult| bytes(cell.cell.payload_bytes as f64);
        let part = |(index, (said, cells)): (usize, &(Said, Vec<&CellResult>))| {
            let (first, last) = (cells.first()?, cells.last()?);
            let range = || {
                if cells.len() == 1 {
                    format!("at {}", size(first))
                } else {
                    format!("from {} to {}", size(first), size(last))
                }
            };
            let path = match said {
                Said::Words(words) => return Some(format!("{} {words}", range())),
                Said::Path(path) => path,
            };
            let is_path = |index: usize| matches!(ranges.get(index), Some((Said::Path(_), _)));
            let follows = index > 0 && is_path(index - 1);
            let until = is_path(index + 1)
                .then(|| Self::takes_over(last, ranges[index + 1].1.first()?))
                .flatten()
                .map_or_else(|| size(last), |at| format!("about {}", bytes(at)));
            Some(match (index, index + 1 == ranges.len()) {
                (0, true) if cells.len() > 1 => format!("{path} at every size {}", range()),
                (_, true) if follows => format!("{path} from there"),
                (_, true) if cells.len() > 1 => format!("{path} from {}", size(first)),
                (0, false) => format!("{path} up to {until}"),
                (_, false) if follows => format!("{path} to {until}"),
                _ => format!("{path} {}", range()),
            })
        };
        let mut parts: Vec<String> = ranges.iter().enumerate().filter_map(part).collect();
        if let Some((Said::Path(_), cells)) = ranges.last() {
            parts.extend(Self::largest_gain(cells));
        }
        parts.join(", ")
    }

    /// The size at which the fastest path of `after` passes that of `before`.
    fn takes_over(before: &CellResult, after: &CellResult) -> Option<f64> {
        let (old, new) = (fastest_path(before)?, fastest_path(after)?);
        let ratio = |cell| Some(versus(cell, Metric::Throughput, new, old)?.0.value);
        let (low, high) = (ratio(before)?, ratio(after)?);
        let sizes = (before.cell.payload_bytes, after.cell.payload_bytes);
        (low < 1.0 && high > 1.0).then(|| passes_one((sizes.0, low), (sizes.1, high)))
    }

    /// By how much the fastest path is ahead of the next, where it is the most.
    fn largest_gain(cells: &[&CellResult]) -> Option<String> {
        let gain = |cell: &&CellResult| {
            let best = fastest_path(cell)?;
            let next = best_of(cell, best.0, false)?;
            Some((versus(cell, Metric::Throughput, best, next)?.0.value, next, cell.cell.payload_bytes))
        };
        let most = cells.iter().filter_map(gain).max_by(|one, other| one.0.total_cmp(&other.0));
        most.map(|(ratio, (next, _), size)| {
            let ahead = if ratio >= 1.5 {
                format!("{} times as fast as {next}", significant(ratio, 2))
            } else {
                format!("{} faster than {next}", distance(ratio - 1.0))
            };
            format!("{ahead} at {}", bytes(size as f64))
        })
    }

    /// `Over veth to a local receiver the kernel copies it after all: zero_copy takes 12 % to 25 % longer than the best
    /// other path at every size from 64 B to 64 KiB.`
    fn received(&self, ladder: &Ladder<'_>) -> String {
        let way = self.ways.to_a_receiver();
        if self.zero_copy_series().is_empty() {
            return format!("{way}: {}.", Self::paths_by_size(ladder));
        }
        let zero = |arm: &&ArmResult| !arm.arm.control && arm.arm.case.path == SendPath::ZeroCopy;
        let kernel = match Copied::of(ladder.cells.iter().flat_map(|cell| &cell.arms).filter(zero)) {
            Copied::Unknown => "it was not recorded whether the kernel copies".to_owned(),
            Copied::Shares(_, 0.0) => "the kernel does not copy it".to_owned(),
            Copied::Shares(1.0, _) => "the kernel copies it after all".to_owned(),
            Copied::Shares(least, most) => {
                format!("the kernel copies {} to {} of the sends, by case", share(least), share(most))
            }
        };
        let (mut longer, mut faster, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for &cell in &ladder.cells {
            let both = best_of(cell, SendPath::ZeroCopy, true).zip(best_of(cell, SendPath::ZeroCopy, false));
            let found = both.and_then(|(zero, other)| versus(cell, Metric::Throughput, zero, other));
            let size = bytes(cell.cell.payload_bytes as f64);
            match found {
                Some((ratio, Verdict::Slower, _)) => longer.push((1.0 / ratio.value - 1.0, size)),
                // Faster than the best by its number may not be faster than each.
                Some((_, Verdict::Faster, _))
                    if fastest_path(cell).is_some_and(|(path, _)| path == SendPath::ZeroCopy) =>
                {
                    faster.push(size);
                }
                _ => open.push(size),
            }
        }
        let mut parts = Vec::new();
        if let (Some((_, first)), Some((_, last))) = (longer.first(), longer.last()) {
            let costs = || longer.iter().map(|(cost, _)| *cost);
            let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
            let cost = if longer.len() == 1 {
                distance(most)
            } else {
                format!("{} to {}", distance(least), distance(most))
            };
            let smallest = ladder.cells.first().map(|cell| bytes(cell.cell.payload_bytes as f64));
            let largest_is =
                |index: usize| ladder.cells.get(index).map(|cell| bytes(cell.cell.payload_bytes as f64));
            let in_a_row =
                smallest.as_ref() == Some(first) && largest_is(longer.len() - 1).as_ref() == Some(last);
            let sizes: Vec<String> = longer.iter().map(|(_, size)| size.clone()).collect();
            let at = if in_a_row && longer.len() > 1 {
                format!("at every size from {first} to {last}")
            } else {
                format!("at {}", list(&sizes))
            };
            parts.push(format!("zero_copy takes {cost} longer than the best other path {at}"));
        }
        if !faster.is_empty() {
            parts.push(format!("zero_copy is faster than all others at {}", list(&faster)));
        }
        if longer.is_empty() && faster.is_empty() {
            parts.push("whether zero_copy is slower there, the data cannot say".to_owned());
        } else if !open.is_empty() {
            parts.push(format!("no difference can be told at {}", list(&open)));
        }
        format!("{way} {kernel}: {}.", parts.join("; "))
    }

    /// A ladder's name, and in a sweep that has both ways, which of them it is.
    fn ladder_with_way(&self, ladder: &Ladder<'_>) -> String {
        let name = ladder_name(ladder);
        if is_alone(ladder) {
            name
        } else {
            name.replacen(')', &format!("{})", self.ways.suffix(ladder.situation.receiver)), 1)
        }
    }

    /// What the kernel did with `MSG_ZEROCOPY` sends, with a space before it; nothing where there were none.
    fn copied_sentence(&self) -> String {
        let copied = self.copied();
        let Some(&(_, first)) = copied.first() else { return String::new() };
        match first {
            _ if copied.iter().any(|(_, other)| *other != first) => {
                let each =
                    |(series, copied): &(Series, Copied)| format!("{}: {copied}", words::plain(*series));
                let each: Vec<String> = copied.iter().map(each).collect();
                format!(" What the kernel did with MSG_ZEROCOPY sends: {}.", each.join("; "))
            }
            Copied::Unknown => " Whether the kernel copied MSG_ZEROCOPY sends was not recorded.".to_owned(),
            Copied::Shares(_, 0.0) => " None of the MSG_ZEROCOPY sends was copied.".to_owned(),
            Copied::Shares(least, most) => match (share(least), share(most)) {
                (least, most) if least == most => {
                    format!(" The kernel copied {most} of the MSG_ZEROCOPY sends after all.")
                }
                (least, most) => {
                    format!(
                        " The kernel copied {least} to {most} of the MSG_ZEROCOPY sends after all, by case."
                    )
                }
            },
        }
    }

    /// Which series is the cheapest over which sizes of a ladder.
    fn ranges(ladder: &Ladder<'_>) -> String {
        let said = |cell: &CellResult| match winner(cell, Metric::Throughput) {
            Winner::Clear(series, _) => format!("use {}", Self::name_in(ladder, series)),
            Winner::Tied(series, _) => {
                let names: Vec<String> =
                    series.into_iter().map(|series| Self::name_in(ladder, series)).collect();
                format!("{} do not differ", list(&names))
            }
            Winner::Unknown(..) => "the data cannot say".to_owned(),
        };
        let mut ranges: Vec<(String, usize, usize)> = Vec::new();
        for cell in &ladder.cells {
            let (said, size) = (said(cell), cell.cell.payload_bytes);
            match ranges.last_mut() {
                Some((last, _, end)) if *last == said => *end = size,
                _ => ranges.push((said, size, size)),
            }
        }
        let ranges: Vec<String> = ranges
            .into_iter()
            .map(|(said, from, to)| {
                let (from, to) = (bytes(from as f64), bytes(to as f64));
                if from == to { format!("{said} at {from}") } else { format!("{said} from {from} to {to}") }
            })
            .collect();
        ranges.join("; ")
    }

    /// What stands below the headline.
    pub(super) fn verdict(&self) -> Vec<Claim> {
        let mut ladders: Vec<&Ladder<'_>> = self.ladders.iter().collect();
        ladders.sort_by_key(|ladder| !is_alone(ladder));
        let mut claims: Vec<Claim> = ladders
            .into_iter()
            .take(SHOWN_LADDERS)
            .map(|ladder| Claim {
                text: format!("With {}: {}.", self.ladder_with_way(ladder), Self::ranges(ladder)),
                rows: ladder
                    .cells
                    .iter()
                    .flat_map(|cell| cell.comparisons.iter())
                    .filter(|comparison| comparison.metric == Metric::Throughput && !comparison.control)
                    .map(comparison_row)
                    .collect(),
            })
            .collect();
        if self.ladders.len() > SHOWN_LADDERS {
            let more = self.ladders.len() - SHOWN_LADDERS;
            claims.push(claim(format!(
                "The decision maps show {more} more combinations of pairs, workload, placement, receiver and source."
            )));
        }
        if !self.zero_copy_series().is_empty() {
            claims.extend(self.zero_copy_wins());
        }
        claims.push(self.control());
        claims.extend(injections(self.manifest).map(|text| {
            let of_sink = |arm: &&ArmResult| arm.arm.case.receiver == Receiver::Sink;
            Claim { text, rows: self.arms().filter(of_sink).map(|arm| case_row(arm.arm)).collect() }
        }));
        claims
    }

    /// In how many cells a zero-copy series is better than every other path: a claim for each receiver and source.
    pub(super) fn zero_copy_wins(&self) -> Vec<Claim> {
        self.receptions().into_iter().map(|reception| self.zero_copy_wins_received_by(reception)).collect()
    }

    fn zero_copy_wins_received_by(&self, (receiver, source): (Receiver, Source)) -> Claim {
        let cells = self.received_by((receiver, source));
        let mut wins = Vec::new();
        let (mut judged, mut behind, mut plain) = (0, 0, 0);
        for &cell in &cells {
            let (zero, others): (Vec<&ArmResult>, Vec<&ArmResult>) = cell
                .arms
                .iter()
                .filter(|arm| !arm.arm.control)
                .partition(|arm| arm.arm.case.path == SendPath::ZeroCopy);
            let beats = |zero: &&ArmResult| {
                others.iter().all(|other| {
                    let (zero, other) = (zero.arm.case.series(), other.arm.case.series());
                    matches!(versus(cell, Metric::Throughput, zero, other), Some((_, Verdict::Faster, _)))
                })
            };
            if !others.is_empty() && zero.iter().any(beats) {
                wins.push(cell);
            }
            let known = zero.iter().flat_map(|zero| {
                others.iter().map(|other| {
                    versus(cell, Metric::Throughput, zero.arm.case.series(), other.arm.case.series())
                })
            });
            judged += usize::from(known.flatten().next().is_some());
            let best = |arms: &[&ArmResult]| {
                arms.iter()
                    .filter_map(|arm| Some(arm.throughput_gbps?.value))
                    .fold(None, |best: Option<f64>, gbps| Some(best.map_or(gbps, |best| best.max(gbps))))
            };
            if let (Some(zero), Some(other)) = (best(&zero), best(&others)) {
                plain += 1;
                behind += usize::from(zero < other);
            }
        }
        let zero = |arm: &&ArmResult| !arm.arm.control && arm.arm.case.path == SendPath::ZeroCopy;
        let copied: Vec<String> = self
            .zero_copy_series()
            .into_iter()
            .map(|series| {
                let arms = cells.iter().flat_map(|cell| &cell.arms).filter(zero);
                let copied = Copied::of(arms.filter(|arm| arm.arm.case.series() == series));
                format!("{}: {copied}", words::plain(series))
            })
            .collect();
        let given = self.ways.reception(receiver, source);
        let mut text = format!(
            "Zero-copy wins in {} of {} cells{given} ({}).",
            wins.len(),
            cells.len(),
            copied.join("; ")
        );
        if judged < cells.len() {
            text = format!(
                "{text} In {} of them there are too few repetitions for a verdict. By the plain numbers it is slower than the \
                 best other path in {behind} of {plain}.",
                cells.len() - judged
            );
        }
        let mut rows: Vec<String> = cells
            .iter()
            .flat_map(|cell| comparisons(cell, Metric::Throughput))
            .filter(|comparison| [comparison.series.0, comparison.baseline.0].contains(&SendPath::ZeroCopy))
            .map(comparison_row)
            .collect();
        if judged == 0 {
            rows = cells.iter().flat_map(|cell| &cell.arms).map(|arm| case_row(arm.arm)).collect();
        }
        Claim { text, rows }
    }

    /// What the control arm says of the noise.
    fn control(&self) -> Claim {
        let controls: Vec<&SeriesComparison> = self
            .analysis
            .cells
            .iter()
            .flat_map(|cell| &cell.comparisons)
            .filter(|comparison| comparison.control && comparison.metric == Metric::Throughput)
            .collect();
        let outcomes: Vec<_> =
            controls.iter().filter_map(|comparison| comparison.outcome.as_ref().ok()).collect();
        if outcomes.is_empty() {
            return claim(
                "There is no control arm, so the data cannot say how much of a difference is noise.",
            );
        }
        let called = outcomes
            .iter()
            .filter(|outcome| matches!(outcome.verdict, Verdict::Faster | Verdict::Slower))
            .count();
        let mut halves: Vec<f64> = outcomes
            .iter()
            .map(|outcome| {
                let ratio = outcome.effect.ratio();
                (ratio.high / ratio.low).sqrt() - 1.0
            })
            .collect();
        let half = median(&mut halves).unwrap_or_default();
        Claim {
            text: format!(
                "The control arm, which is {} a second time, was called different from it in {called} of {} cells. Half \
                 of the width of its interval is {} in the median cell.",
                self.name(self.manifest.plan.series[0]),
                outcomes.len(),
                distance(half)
            ),
            rows: controls.into_iter().map(comparison_row).collect(),
        }
    }

    /// Whether some bursts carried counters and others were timed.
    pub(super) fn counted_apart(&self) -> bool {
        self.arms().any(|arm| arm.counted.messages > 0 && arm.bursts > 0)
    }

    /// What has to be known before any of it is believed.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(reason) = &self.manifest.no_sink {
            warnings.push(format!("The sender alone (receiver sink) was not measured: {reason}"));
        }
        if !cpu_time_is_whole(self.manifest) {
            warnings.push(format!("There is no verdict by CPU time: {CPU_TIME_IS_NOT_WHOLE}."));
        }
        for arm in self.arms() {
            if let Some(error) = &arm.error {
                warnings.push(format!("{} failed: {error}", arm.arm.case));
            }
        }
        let noisy = self
            .comparisons(Metric::Throughput)
            .filter(|comparison| {
                comparison.outcome.as_ref().is_ok_and(|outcome| outcome.verdict == Verdict::TooNoisy)
            })
            .count();
        if noisy > 0 {
            let all = self.comparisons(Metric::Throughput).count();
            warnings.push(format!(
                "{noisy} of {all} comparisons by throughput are too noisy for a verdict: a longer sweep (--resume with \
                 --time) narrows their intervals."
            ));
        }
        if self.manifest.program.dirty {
            warnings
                .push("The program was built from a tree with changes that were not committed.".to_owned());
        }
        warnings
    }
}
