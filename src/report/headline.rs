//! The sentences: each is made of the data, and names the rows that it rests on.

use super::page::Claim;
use super::tables::ladder_name;
use super::winners::{Winner, comparisons, versus, winner};
use super::words::{self, Copied, case_row, comparison_row};
use crate::case::{Receiver, SendPath, Series, Source};
use crate::format::{bytes, distance, list, share};
use crate::results::analysis::{Analysis, ArmResult, CPU_TIME_IS_NOT_WHOLE, CellResult, SeriesComparison};
use crate::results::cost_model::{Fit, Ladder};
use crate::results::manifest::{Manifest, cpu_time_is_whole};
use crate::results::metric::Metric;
use crate::results::stats::{Verdict, median};

/// What all answers are made of.
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) analysis: &'a Analysis,
    pub(super) ladders: &'a [Ladder<'a>],
    pub(super) fits: &'a [(&'a Ladder<'a>, Series, Option<Fit>)],
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
    pub(super) fn copied(&self) -> Vec<(Series, Copied)> {
        self.zero_copy_series().into_iter().map(|series| (series, self.copied_of(series))).collect()
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

    /// What is to be used, in one sentence.
    pub(super) fn headline(&self) -> String {
        let Some(ladder) = self.ladders.first() else { return "Nothing was measured.".to_owned() };
        let use_what = Self::ranges(ladder);
        let zero = self.copied_sentence();
        format!("On this machine, by throughput with {}: {use_what}.{zero}", ladder_name(ladder))
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
        let mut claims: Vec<Claim> = self
            .ladders
            .iter()
            .take(SHOWN_LADDERS)
            .map(|ladder| Claim {
                text: format!("With {}: {}.", ladder_name(ladder), Self::ranges(ladder)),
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
        let given = words::reception(receiver, source);
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
