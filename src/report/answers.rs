//! The sentences: each is made of the data, and names the rows that it rests on.

use super::figures::FIGURES_OF_COUNTERS;
use super::page::{Claim, Question};
use super::tables::{ladder_name, model_row};
use super::winners::{Winner, versus, winner};
use super::words::{self, Copied, bytes, case_row, comparison_row, number, pairs};
use crate::case::{Layout, Path, Series};
use crate::counters::Event;
use crate::error::Side;
use crate::results::analysis::{Analysis, ArmResult, CellResult, Comparison, Metric};
use crate::results::model::{Crossover, Fit, Ladder, crossover, standing};
use crate::results::stats::{Effect, Estimate, Verdict};
use crate::results::store::Manifest;

/// What all answers are made of.
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) analysis: &'a Analysis,
    pub(super) ladders: &'a [Ladder<'a>],
    pub(super) fits: &'a [(&'a Ladder<'a>, Series, Option<Fit>)],
}

const TWO_COPY: Series = (Path::TwoCopy, Layout::Heap);
const ONE_COPY: Series = (Path::OneCopy, Layout::Heap);

fn claim(text: impl Into<String>) -> Claim {
    Claim { text: text.into(), rows: Vec::new() }
}

/// A quantity of an arm, and what the field calls it.
type Quantity<'a> = (&'a str, &'a dyn Fn(&ArmResult) -> Option<f64>);

impl Facts<'_> {
    fn has(&self, series: Series) -> bool {
        self.manifest.plan.series.contains(&series)
    }

    fn zero_copy_series(&self) -> Vec<Series> {
        self.manifest.plan.series.iter().copied().filter(|(path, _)| *path == Path::ZeroCopy).collect()
    }

    fn arms(&self) -> impl Iterator<Item = &ArmResult> {
        self.analysis.cells.iter().flat_map(|cell| &cell.arms)
    }

    fn copied(&self) -> Copied {
        Copied::of(self.arms())
    }

    fn name(&self, series: Series) -> String {
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
            Copied::Share(share) => format!(
                " MSG_ZEROCOPY was copied in {} of sends, so here it shows what it costs and not what it saves.",
                words::percent(share)
            ),
            Copied::Unknown => " Whether the kernel copied MSG_ZEROCOPY sends was not recorded.".to_owned(),
        };
        format!("On this machine, by throughput with {}: {use_what}.{zero}", pairs(ladder.threads))
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
        let many = ranges.len() > 1;
        let ranges: Vec<String> = ranges
            .into_iter()
            .map(|(said, from, to)| {
                let (from, to) = (bytes(from as f64), bytes(to as f64));
                match (many, from == to) {
                    (_, true) => format!("{said} at {from}"),
                    (_, false) => format!("{said} from {from} to {to}"),
                }
            })
            .collect();
        ranges.join("; ")
    }

    /// What stands below the headline.
    pub(super) fn verdict(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = self
            .ladders
            .iter()
            .skip(1)
            .take(3)
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
        if !self.zero_copy_series().is_empty() {
            claims.push(self.zero_copy_wins());
        }
        claims.push(self.control());
        claims
    }

    /// In how many cells a zero-copy series is better than every other path.
    fn zero_copy_wins(&self) -> Claim {
        let cells = &self.analysis.cells;
        let mut wins = Vec::new();
        let (mut judged, mut behind, mut plain) = (0, 0, 0);
        for cell in cells {
            let (zero, others): (Vec<&ArmResult>, Vec<&ArmResult>) = cell
                .arms
                .iter()
                .filter(|arm| !arm.arm.control)
                .partition(|arm| arm.arm.case.path == Path::ZeroCopy);
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
        let rows = cells.iter().flat_map(|cell| &cell.arms).map(|arm| case_row(arm.arm)).collect();
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
        let half = crate::results::stats::median(&mut halves).unwrap_or_default();
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

    /// The studies' six questions.
    pub(super) fn questions(&self) -> Vec<Question> {
        vec![
            self.why_not_zero_copy(),
            self.cache_levels(),
            self.threads_and_caches(),
            self.outperforms(
                "At what message size does one-copy outperform two-copy on this system?",
                &[ONE_COPY],
            ),
            self.outperforms(
                "At what message size does zero-copy outperform two-copy on this system?",
                &self.zero_copy_series(),
            ),
            self.unexpected(),
        ]
    }

    fn why_not_zero_copy(&self) -> Question {
        let text = "Why does zero-copy not always give the best throughput?".to_owned();
        if self.zero_copy_series().is_empty() {
            return Question { text, answered: false, answer: vec![claim("It was not in this sweep.")] };
        }
        let mut answer = vec![self.zero_copy_wins()];
        let rows: Vec<String> =
            self.arms().filter(|arm| arm.zero_copy.is_some()).map(|arm| case_row(arm.arm)).collect();
        match self.copied() {
            Copied::Unknown => {
                answer.push(claim("The data cannot say why: no completion was recorded, so it is not known whether anything was sent without a copy."));
                return Question { text, answered: false, answer };
            }
            Copied::Share(share) if share > 0.0 => answer.push(Claim {
                text: format!(
                    "The kernel copied {} of the sends after all, as their completions say: those paid for pinning \
                     pages and for a notification, and were copied nevertheless.",
                    words::percent(share)
                ),
                rows: rows.clone(),
            }),
            Copied::Share(_) => answer.push(Claim {
                text: "No send was copied: what it costs instead is pinning pages and reading a notification.".to_owned(),
                rows: rows.clone(),
            }),
        }
        let mut answered = true;
        let fixed = self.dearer_by_message();
        answered &= !fixed.is_empty();
        answer.extend(fixed);
        let (mut sends, mut notifications) = (0, 0);
        for counts in self.arms().filter_map(|arm| arm.zero_copy) {
            sends += counts.sends;
            notifications += counts.notifications;
        }
        if sends > 0 {
            answer.push(Claim {
                text: format!(
                    "Each send took {} reads of the error queue on average.",
                    number(notifications as f64 / sends as f64)
                ),
                rows,
            });
        }
        Question { text, answered, answer }
    }

    /// What `zero_copy` costs more than `one_copy` by message and by KiB, by the cost model.
    fn dearer_by_message(&self) -> Vec<Claim> {
        let fit = |ladder: &Ladder<'_>, series: Series| {
            self.fits
                .iter()
                .find(|(at, of, _)| at.name() == ladder.name() && *of == series)
                .and_then(|(_, _, fit)| fit.as_ref())
        };
        let mut claims = Vec::new();
        for ladder in self.ladders {
            for series in self.zero_copy_series() {
                let (Some(zero), Some(one)) = (fit(ladder, series), fit(ladder, ONE_COPY)) else { continue };
                let (Some(z), Some(o)) = (zero.fixed_ns.interval, one.fixed_ns.interval) else { continue };
                let clear = if z.0 > o.1 {
                    "more"
                } else if z.1 < o.0 {
                    "less"
                } else {
                    continue;
                };
                let layout =
                    if series.1 == ONE_COPY.1 { "" } else { " (its fields lie on pages of their own)" };
                claims.push(Claim {
                    text: format!(
                        "With {}, a message by {}{layout} costs {} ns {clear} than by one_copy before its first byte, \
                         and each KiB {} instead of {} ns (cost model).",
                        ladder_name(ladder),
                        self.name(series),
                        number((zero.fixed_ns.value - one.fixed_ns.value).abs()),
                        number(zero.ns_per_kib.value),
                        number(one.ns_per_kib.value),
                    ),
                    rows: vec![model_row(ladder, series), model_row(ladder, ONE_COPY)],
                });
            }
        }
        claims
    }

    /// The reason why an event is missing.
    fn missing(&self, events: &[Event]) -> Option<Claim> {
        let counted =
            |event: &&Event| self.arms().any(|arm| arm.counted.per_message(Side::Server, **event).is_some());
        let missing: Vec<&Event> = events.iter().filter(|event| !counted(event)).collect();
        let first = missing.first()?;
        let reason = self.manifest.not_counted.get(&first.to_string());
        let names: Vec<String> = missing.iter().map(|event| event.unit().to_owned()).collect();
        Some(claim(format!(
            "The data cannot say: {} were not counted{}",
            words::list(&names),
            reason.map_or_else(|| ".".to_owned(), |reason| format!(": {reason}."))
        )))
    }

    fn cache_levels(&self) -> Question {
        let text = "Which cache level shows the most reduction in misses, and why?".to_owned();
        let levels = [Event::L1dLoadMisses, Event::LlcLoadMisses];
        if let Some(missing) = self.missing(&levels) {
            let mut answer = vec![missing];
            answer.extend(self.ledger_claim());
            return Question { text, answered: false, answer };
        }
        let mut answer = Vec::new();
        let mut answered = false;
        for series in self.manifest.plan.series.iter().copied().filter(|series| *series != TWO_COPY) {
            let mut rows = Vec::new();
            let changes: Vec<(Event, Option<Effect>)> = levels
                .into_iter()
                .map(|event| (event, self.misses_against_two_copy(series, event, &mut rows)))
                .collect();
            let shown: Vec<String> = changes
                .iter()
                .map(|(event, change)| match change {
                    Some(change) => format!("{} {}", event.unit(), words::gain(change.ratio())),
                    None => format!("{}: fewer than 3 cells", event.unit()),
                })
                .collect();
            // A reduction that the interval does not bear out is none.
            let mut sure: Vec<(Event, Estimate)> = changes
                .iter()
                .filter_map(|(event, change)| Some((*event, (*change)?.ratio())))
                .filter(|(_, ratio)| ratio.high < 1.0)
                .collect();
            sure.sort_by(|one, other| one.1.value.total_cmp(&other.1.value));
            let most = match sure[..] {
                [] => "no interval is clear of no reduction, so the data cannot say".to_owned(),
                [(event, one), (_, other)] if one.high >= other.low => {
                    format!("both fall, {} the most, though the intervals overlap", event.unit())
                }
                [(event, _), ..] => format!("the most reduction that is sure is in {}", event.unit()),
            };
            answered |= !sure.is_empty();
            answer.push(Claim {
                text: format!(
                    "{} against two_copy, the server's misses by message over the cells: {}; {most}.",
                    self.name(series),
                    words::list(&shown)
                ),
                rows,
            });
        }
        answer.extend(self.ledger_claim());
        Question { text, answered, answer }
    }

    /// How many misses `series` has by those of `two_copy`: the mean over cells, on a log scale.
    fn misses_against_two_copy(
        &self,
        series: Series,
        event: Event,
        rows: &mut Vec<String>,
    ) -> Option<Effect> {
        let mut logs = Vec::new();
        for cell in &self.analysis.cells {
            let arm = |series: Series| {
                cell.arms.iter().find(|arm| !arm.arm.control && arm.arm.case.series() == series)
            };
            let (Some(of), Some(to)) = (arm(series), arm(TWO_COPY)) else { continue };
            let misses = |arm: &ArmResult| {
                let count = arm.counted.per_message(Side::Server, event)?.value;
                (count > 0.0).then_some(count)
            };
            if let (Some(ours), Some(theirs)) = (misses(of), misses(to)) {
                logs.push((ours / theirs).ln());
                for id in [case_row(of.arm), case_row(to.arm)] {
                    if !rows.contains(&id) {
                        rows.push(id);
                    }
                }
            }
        }
        Effect::of(&logs)
    }

    /// How often a payload byte is copied, by series.
    fn ledger_claim(&self) -> Option<Claim> {
        let mut parts = Vec::new();
        let mut rows = Vec::new();
        for &series in &self.manifest.plan.series {
            let arms = || self.arms().filter(move |arm| arm.arm.case.series() == series);
            let copied: u64 = arms()
                .map(|arm| {
                    let (server, client) = arm.copies;
                    server.user_to_user_bytes
                        + server.user_to_kernel_bytes
                        + server.deferred_bytes
                        + client.kernel_to_user_bytes
                        + client.user_to_user_bytes
                })
                .sum();
            let payload: u64 =
                arms().map(|arm| arm.copied_messages * arm.arm.case.payload_bytes as u64).sum();
            if copied > 0 && payload > 0 {
                parts.push(format!("{} {}", self.name(series), number(copied as f64 / payload as f64)));
                let sizes = arms().map(|arm| arm.arm.case.payload_bytes).max().unwrap_or_default();
                rows.push(format!("copies-{}-{}-{sizes}B", series.0, series.1));
            }
        }
        (!parts.is_empty()).then(|| Claim {
            text: format!(
                "Copies of each payload byte by a CPU, both sides together: {}.",
                words::list(&parts)
            ),
            rows,
        })
    }

    fn threads_and_caches(&self) -> Question {
        let text = "How does thread count interact with cache contention?".to_owned();
        let mut answer = Vec::new();
        let missing = self.missing(&[Event::LlcLoadMisses]);
        let answered = missing.is_none();
        answer.extend(missing);
        // The size that was measured at most numbers of pairs.
        let cells = &self.analysis.cells;
        let count = |cell: &CellResult| {
            cells
                .iter()
                .filter(|other| {
                    (other.cell.payload_bytes, other.cell.workload, other.cell.placement)
                        == (cell.cell.payload_bytes, cell.cell.workload, cell.cell.placement)
                })
                .count()
        };
        let Some(chosen) = cells.iter().max_by_key(|cell| count(cell)).filter(|cell| count(cell) > 1) else {
            answer.push(claim("Only one number of pairs was measured."));
            return Question { text, answered: false, answer };
        };
        let key = |cell: &CellResult| (cell.cell.payload_bytes, cell.cell.workload, cell.cell.placement);
        let mut alike: Vec<&CellResult> = cells.iter().filter(|cell| key(cell) == key(chosen)).collect();
        alike.sort_by_key(|cell| cell.cell.threads);
        let (Some(few), Some(many)) = (alike.first(), alike.last()) else {
            return Question { text, answered: false, answer };
        };
        for &series in &self.manifest.plan.series {
            let arm = |cell: &CellResult| {
                cell.arms.iter().find(|arm| !arm.arm.control && arm.arm.case.series() == series).cloned()
            };
            let (Some(few), Some(many)) = (arm(few), arm(many)) else { continue };
            let rows = vec![case_row(few.arm), case_row(many.arm)];
            let (threads, least) = (many.arm.case.threads, few.arm.case.threads);
            if let (Some(one), Some(all)) = (few.throughput_gbps, many.throughput_gbps) {
                let mut text = format!(
                    "{} at {}: {} Gb/s with {}, {} with {}, {} times as much",
                    self.name(series),
                    bytes(few.arm.case.payload_bytes as f64),
                    number(one.value),
                    pairs(least),
                    number(all.value),
                    pairs(threads),
                    number(all.value / one.value)
                );
                let misses = |arm: &ArmResult| arm.counted.per_message(Side::Server, Event::LlcLoadMisses);
                if let (Some(before), Some(after)) = (misses(&few), misses(&many)) {
                    text = format!(
                        "{text}; LLC load misses by message {} and {}",
                        words::measure(before),
                        words::measure(after)
                    );
                }
                answer.push(Claim { text: text + ".", rows });
            }
        }
        Question { text, answered, answer }
    }

    fn outperforms(&self, text: &str, series: &[Series]) -> Question {
        let text = text.to_owned();
        if series.iter().all(|series| !self.has(*series)) || !self.has(TWO_COPY) {
            let answer = vec![claim("One of the two was not in this sweep.")];
            return Question { text, answered: false, answer };
        }
        let mut answered = false;
        let mut answer = Vec::new();
        for ladder in self.ladders {
            for &series in series.iter().filter(|series| self.has(**series)) {
                let points = standing(ladder, series, TWO_COPY);
                let rows = ladder
                    .cells
                    .iter()
                    .filter_map(|cell| versus(cell, Metric::Throughput, series, TWO_COPY))
                    .map(|(_, _, comparison)| comparison_row(comparison))
                    .collect();
                let (known, said) = Self::crossing(ladder, series, &points);
                answered |= known;
                let by_model = self.crossing_by_model(ladder, series);
                let text = format!("{}, {}: {said}.{by_model}", self.name(series), ladder_name(ladder));
                answer.push(Claim { text, rows });
            }
        }
        Question { text, answered, answer }
    }

    /// From which size on, by the ratios; and whether that is an answer.
    fn crossing(
        ladder: &Ladder<'_>,
        series: Series,
        points: &[(usize, Option<(Estimate, Verdict)>)],
    ) -> (bool, String) {
        let sizes: Vec<usize> = points.iter().map(|point| point.0).collect();
        let (Some(&least), Some(&most)) = (sizes.first(), sizes.last()) else {
            return (false, "nothing was measured".to_owned());
        };
        let judged = points.iter().filter(|point| point.1.is_some()).count();
        if judged == 0 {
            // Single runs: the plain numbers, and that they are no more.
            let ahead = ladder
                .cells
                .iter()
                .filter(|cell| {
                    let gbps = |series: Series| {
                        let arm = cell.arms.iter().find(|arm| arm.arm.case.series() == series)?;
                        Some(arm.throughput_gbps?.value)
                    };
                    matches!((gbps(series), gbps(TWO_COPY)), (Some(ours), Some(theirs)) if ours > theirs)
                })
                .count();
            return (
                false,
                format!(
                    "the data cannot say: no interval from so few repetitions (by the plain numbers it is ahead at \
                     {ahead} of {} sizes)",
                    sizes.len()
                ),
            );
        }
        let noisy: Vec<String> = points
            .iter()
            .filter(|point| !matches!(point.1, Some((_, verdict)) if verdict != Verdict::TooNoisy))
            .map(|point| bytes(point.0 as f64))
            .collect();
        let mut said = match crossover(ladder, series, TWO_COPY) {
            Crossover::Always => {
                format!("faster at every size from {} to {}", bytes(least as f64), bytes(most as f64))
            }
            Crossover::Never if noisy.len() == points.len() => "the data cannot say at any size".to_owned(),
            Crossover::Never => format!("no crossover up to {}", bytes(most as f64)),
            Crossover::UpTo(end) => {
                format!(
                    "faster below {}, and not beyond (measured to {})",
                    bytes(end as f64),
                    bytes(most as f64)
                )
            }
            Crossover::From(at) => match at.interval {
                Some((low, high)) => format!(
                    "from about {}; it lies between {} and {}",
                    bytes(at.value),
                    bytes(low),
                    bytes(high)
                ),
                None => format!("faster from {} on; below, the data cannot say", bytes(at.value)),
            },
        };
        if !noisy.is_empty() && noisy.len() < points.len() {
            said = format!("{said} (too noisy to say at {})", words::list(&noisy));
        }
        (noisy.len() < points.len(), said)
    }

    fn crossing_by_model(&self, ladder: &Ladder<'_>, series: Series) -> String {
        let fit = |series: Series| {
            let found = self.fits.iter().find(|(at, of, _)| at.name() == ladder.name() && *of == series);
            found.and_then(|(_, _, fit)| fit.as_ref())
        };
        let (Some(ours), Some(theirs)) = (fit(series), fit(TWO_COPY)) else { return String::new() };
        let sizes: Vec<usize> = ladder.cells.iter().map(|cell| cell.cell.payload_bytes).collect();
        let (Some(&least), Some(&most)) = (sizes.first(), sizes.last()) else { return String::new() };
        match ours.crossover(theirs, least, most) {
            Crossover::Always => " By the cost model: at every size.".to_owned(),
            Crossover::Never => " By the cost model: no crossover in this range.".to_owned(),
            Crossover::UpTo(end) => format!(" By the cost model: below {}.", bytes(end as f64)),
            Crossover::From(at) => {
                let interval = at.interval.map_or_else(
                    || " (without an interval)".to_owned(),
                    |(low, high)| format!(" [{}, {}]", bytes(low), bytes(high)),
                );
                format!(" By the cost model: from {}{interval}.", bytes(at.value))
            }
        }
    }

    /// What fits the cost model worst, or has the longest tail, and what was measured of it.
    fn unexpected(&self) -> Question {
        let text = "One unexpected result, explained by an OS or hardware concept.".to_owned();
        let mut worst: Option<(f64, &ArmResult, f64)> = None;
        for (ladder, series, fit) in self.fits {
            for &(size, ratio, clear) in fit.iter().flat_map(|fit| &fit.misfits) {
                let arm = ladder.arms(*series).find(|arm| arm.arm.case.payload_bytes == size);
                if let Some(arm) = arm.filter(|_| clear)
                    && worst.is_none_or(|(far, _, _)| ratio.ln().abs() > far)
                {
                    worst = Some((ratio.ln().abs(), arm, ratio));
                }
            }
        }
        if let Some((far, arm, ratio)) = worst.filter(|(far, _, _)| *far > 0.1) {
            let rows = vec![case_row(arm.arm)];
            let slower = if ratio > 1.0 { "more" } else { "less" };
            let found = Claim {
                text: format!(
                    "{}, {} with {}: a message takes {:.0} % {slower} time than a fixed cost and a cost by byte \
                     foretell from the other sizes, the largest such deviation.",
                    self.name(arm.arm.case.series()),
                    bytes(arm.arm.case.payload_bytes as f64),
                    pairs(arm.arm.case.threads),
                    (far.exp() - 1.0) * 100.0
                ),
                rows,
            };
            return self.explained(text, found, arm);
        }
        let tail = self
            .arms()
            .filter(|arm| !arm.arm.control)
            .filter_map(|arm| {
                let [(_, median), _, (_, tail), _] = arm.rtt_quantiles_ns;
                Some((tail?.value / median?.value, arm))
            })
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let Some((ratio, arm)) = tail else {
            let answer = vec![claim(
                "The data cannot say: too few sizes for a cost model, and no distribution of round trips.",
            )];
            return Question { text, answered: false, answer };
        };
        let found = Claim {
            text: format!(
                "{}, {} with {}: the 99th percentile of round trips is {} times the median, the worst such ratio.",
                self.name(arm.arm.case.series()),
                bytes(arm.arm.case.payload_bytes as f64),
                pairs(arm.arm.case.threads),
                number(ratio)
            ),
            rows: vec![case_row(arm.arm)],
        };
        self.explained(text, found, arm)
    }

    /// The mechanism, where a measured quantity of this arm stands out against the same path at the other sizes
    /// of its ladder.
    fn explained(&self, text: String, found: Claim, arm: &ArmResult) -> Question {
        let case = arm.arm.case;
        let others: Vec<&ArmResult> = self
            .arms()
            .filter(|other| {
                let of = other.arm.case;
                !other.arm.control
                    && of.series() == case.series()
                    && (of.workload, of.threads, of.placement)
                        == (case.workload, case.threads, case.placement)
                    && of.payload_bytes != case.payload_bytes
            })
            .collect();
        let sends = |arm: &ArmResult| {
            let counts = arm.zero_copy?;
            (arm.copied_messages > 0).then(|| counts.sends as f64 / arm.copied_messages as f64)
        };
        let enobufs = |arm: &ArmResult| {
            let counts = arm.zero_copy?;
            (arm.copied_messages > 0).then(|| counts.enobufs as f64 / arm.copied_messages as f64)
        };
        let switches =
            |arm: &ArmResult| Some(arm.counted.per_message(Side::Server, Event::ContextSwitches)?.value);
        let faults = |arm: &ArmResult| Some(arm.counted.per_message(Side::Server, Event::PageFaults)?.value);
        let misses = |arm: &ArmResult| {
            Some(
                arm.counted.per_message(Side::Server, Event::LlcLoadMisses)?.value
                    / arm.arm.case.payload_bytes as f64,
            )
        };
        let quantities: [Quantity<'_>; 5] = [
            ("sendmsg calls by message (short sends)", &sends),
            ("ENOBUFS by message (the limit of memory that may be pinned)", &enobufs),
            ("context switches of the server by message (the scheduler)", &switches),
            ("page faults of the server by message", &faults),
            ("LLC load misses of the server by byte (the working set has outgrown the cache)", &misses),
        ];
        let mut answer = vec![found];
        for (name, of) in quantities {
            let mut usual: Vec<f64> = others.iter().filter_map(|arm| of(arm)).collect();
            if let (Some(here), Some(usual)) = (of(arm), crate::results::stats::median(&mut usual))
                && here > 1.5 * usual
                && here - usual > 0.05
            {
                let mut rows: Vec<String> = vec![case_row(arm.arm)];
                rows.extend(others.iter().map(|arm| case_row(arm.arm)));
                answer.push(Claim {
                    text: format!(
                        "What goes with it, as measured: {name}: {}, against {} in the median of the other sizes.",
                        number(here),
                        number(usual)
                    ),
                    rows,
                });
            }
        }
        let answered = answer.len() > 1;
        if !answered {
            let missing = if self.manifest.not_counted.is_empty() { "" } else { FIGURES_OF_COUNTERS };
            answer.push(claim(format!(
                "The data cannot say why: nothing that was counted stands out at this size{missing}."
            )));
        }
        Question { text, answered, answer }
    }
}
