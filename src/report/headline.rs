//! The sentences: each is made of the data, and names the rows that it rests on.

use super::page::Claim;
use super::tables::ladder_name;
use super::winners::{Winner, versus, winner};
use super::words::{self, Copied, bytes, case_row, comparison_row};
use crate::case::{SendPath, Series};
use crate::results::analysis::{Analysis, ArmResult, CellResult, Comparison, Metric};
use crate::results::cost_model::{Fit, Ladder};
use crate::results::stats::{Verdict, median};
use crate::results::store::Manifest;

/// What all answers are made of.
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) analysis: &'a Analysis,
    pub(super) ladders: &'a [Ladder<'a>],
    pub(super) fits: &'a [(&'a Ladder<'a>, Series, Option<Fit>)],
}

/// So many combinations of pairs, workload and placement stand in the first screen.
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

    pub(super) fn copied(&self) -> Copied {
        Copied::of(self.arms())
    }

    pub(super) fn name(&self, series: Series) -> String {
        words::series(series, self.copied())
    }

    fn comparisons(&self, metric: Metric) -> impl Iterator<Item = &Comparison> {
        self.analysis
            .cells
            .iter()
            .flat_map(|cell| &cell.comparisons)
            .filter(move |comparison| comparison.metric == metric && !comparison.control)
    }

    /// What is to be used, in one sentence.
    pub(super) fn headline(&self) -> String {
        let Some(ladder) = self.ladders.first() else { return "Nothing was measured.".to_owned() };
        let use_what = self.ranges(ladder);
        let zero = match self.copied() {
            _ if self.zero_copy_series().is_empty() => String::new(),
            Copied::Share(0.0) => " None of the MSG_ZEROCOPY sends was copied.".to_owned(),
            Copied::Share(share) => {
                format!(" The kernel copied {} of the MSG_ZEROCOPY sends after all.", words::percent(share))
            }
            Copied::Unknown => " Whether the kernel copied MSG_ZEROCOPY sends was not recorded.".to_owned(),
        };
        format!("On this machine, by throughput with {}: {use_what}.{zero}", ladder_name(ladder))
    }

    /// Which series is the cheapest over which sizes of a ladder.
    fn ranges(&self, ladder: &Ladder<'_>) -> String {
        let said = |cell: &CellResult| match winner(cell, Metric::Throughput) {
            Winner::Clear(series, _) => format!("use {}", self.name(series)),
            Winner::Tied(series, _) => {
                let names: Vec<String> = series.into_iter().map(|series| self.name(series)).collect();
                format!("{} make no difference", words::list(&names))
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
                text: format!("With {}: {}.", ladder_name(ladder), self.ranges(ladder)),
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
                "{more} more combinations of pairs, workload and placement: see the decision maps."
            )));
        }
        if !self.zero_copy_series().is_empty() {
            claims.push(self.zero_copy_wins());
        }
        claims.push(self.control());
        claims
    }

    /// In how many cells a zero-copy series is better than every other path.
    pub(super) fn zero_copy_wins(&self) -> Claim {
        let cells = &self.analysis.cells;
        let mut wins = Vec::new();
        let (mut judged, mut behind, mut plain) = (0, 0, 0);
        for cell in cells {
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
        let mut text = format!("Zero-copy wins in {} of {} cells", wins.len(), cells.len());
        let copied = match self.copied() {
            Copied::Share(share) => format!(" (the kernel copied {} of its sends).", words::percent(share)),
            Copied::Unknown => " (whether the kernel copied its sends was not recorded).".to_owned(),
        };
        text += &copied;
        if judged < cells.len() {
            text = format!(
                "{text} In {} of them there are too few repetitions for a verdict; by the plain numbers it is behind the \
                 best other path in {behind} of {plain}.",
                cells.len() - judged
            );
        }
        let mut rows: Vec<String> = self
            .comparisons(Metric::Throughput)
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
        let controls: Vec<&Comparison> = self
            .analysis
            .cells
            .iter()
            .flat_map(|cell| &cell.comparisons)
            .filter(|comparison| comparison.control && comparison.metric == Metric::Throughput)
            .collect();
        let outcomes: Vec<_> =
            controls.iter().filter_map(|comparison| comparison.outcome.as_ref().ok()).collect();
        if outcomes.is_empty() {
            return claim("There is no control arm: how much of a difference is noise cannot be said.");
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
                "The control arm, {} against itself, was called different in {called} of {} cells; its intervals are \
                 ±{:.2} % in the median cell.",
                self.name(self.manifest.plan.series[0]),
                outcomes.len(),
                half * 100.0
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
                "{noisy} of {all} comparisons by throughput are too noisy to say anything: a longer sweep (--resume \
                 with --time) narrows them."
            ));
        }
        if self.manifest.program.dirty {
            warnings
                .push("The program was built from a tree with changes that were not committed.".to_owned());
        }
        warnings
    }
}
