//! Six questions about the paths, answered from the data, or not at all. docs/book/src/studies.md says where they
//! come from.

use super::figures::FIGURES_OF_COUNTERS;
use super::headline::{Facts, claim, sizes_of};
use super::page::{Claim, Question};
use super::tables::{ladder_name, ledger_row, model_row, stands_in_ledger};
use super::winners::{CLOSE, versus};
use super::words::{self, Copied, Reception, case_row, comparison_row, pairs};
use crate::case::{Layout, Receiver, SendPath, Series};
use crate::event::Event;
use crate::format::{bytes, difference, list, number, rough_difference, share, significant};
use crate::results::analysis::SeriesOutcome;
use crate::results::analysis::{ArmResult, CellResult};
use crate::results::cost_model::{Ladder, crossing, standing};
use crate::results::crossing::Place;
use crate::results::metric::Metric;
use crate::results::stats::{Effect, Estimate, median};
use crate::results::verdict::Verdict;
use crate::sample::Side;

/// A quantity of an arm, and what the field calls it.
type Quantity<'a> = (&'a str, &'a dyn Fn(&ArmResult) -> Option<f64>);

const TWO_COPY: Series = Series::new(SendPath::TwoCopy, Layout::Heap);
const ONE_COPY: Series = Series::new(SendPath::OneCopy, Layout::Heap);

/// Whether a series is one of those that the questions are about: the studies' paths by system calls, with the layouts
/// that they were asked of. Other ways to send have no part in the answers.
fn is_studied(series: Series) -> bool {
    let Series { path, layout, .. } = series;
    SendPath::STUDIED.contains(&path) && layout != Layout::Huge && series == Series::new(path, layout)
}

/// A number, or its least and greatest over cases, which are never pooled.
fn range_by_case(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match (significant(least, 3), significant(most, 3)) {
        (least, most) if least == most => most,
        (least, most) => format!("{least} to {most} (by case)"),
    }
}

impl Facts<'_> {
    /// The arms of the studied series.
    fn studied_arms(&self) -> impl Iterator<Item = &ArmResult> {
        self.arms().filter(|arm| is_studied(arm.arm.case.series()))
    }

    /// The studied series of the plan.
    fn studied_series(&self) -> impl Iterator<Item = Series> {
        self.manifest.plan.series.iter().copied().filter(|series| is_studied(*series))
    }

    /// Those of them that are `zero_copy`.
    fn studied_zero_copy(&self) -> Vec<Series> {
        self.studied_series().filter(|series| series.path == SendPath::ZeroCopy).collect()
    }

    /// All six, in order.
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
                &self.studied_zero_copy(),
            ),
            self.unexpected(),
        ]
    }

    fn why_not_zero_copy(&self) -> Question {
        let text = "Why does zero-copy not always give the best throughput?".to_owned();
        if self.studied_zero_copy().is_empty() {
            return Question { text, answered: false, answer: vec![claim("It was not in this sweep.")] };
        }
        let mut answer = self.zero_copy_wins(is_studied);
        let rows: Vec<String> =
            self.studied_arms().filter(|arm| arm.zero_copy.is_some()).map(|arm| case_row(arm.arm)).collect();
        let each = |reception: Reception| {
            self.studied_zero_copy()
                .into_iter()
                .map(move |series| (reception, series, self.copied_by(reception, series)))
        };
        let copied: Vec<_> = self.receptions().into_iter().flat_map(each).collect();
        if copied.iter().all(|(_, _, copied)| *copied == Copied::Unknown) {
            answer.push(claim(
                "The data cannot say why: no completion was recorded, so it is not known whether the kernel copied.",
            ));
            return Question { text, answered: false, answer };
        }
        for (reception, series, copied) in copied {
            let did = match copied {
                Copied::Unknown => continue,
                copied @ Copied::Shares { .. } if copied.is_none() => {
                    "the kernel copied none of the sends, as their completions say".to_owned()
                }
                copied @ Copied::Shares { .. } => format!("{copied}, as the completions of its sends say"),
            };
            let sent = |arm: &&ArmResult| {
                let case = arm.arm.case;
                arm.zero_copy.is_some() && (case.series(), Reception::of(case.cell())) == (series, reception)
            };
            let given = self.ways.reception(reception);
            let rows = self.studied_arms().filter(sent).map(|arm| case_row(arm.arm)).collect();
            answer.push(Claim { text: format!("{}{given}: {did}.", words::plain(series)), rows });
        }
        answer.push(Claim {
            text: "MSG_ZEROCOPY pins the pages of each send and queues a notification for it, copied or not \
                   (msg_zerocopy.rst of the kernel's documentation)."
                .to_owned(),
            rows: rows.clone(),
        });
        let mut answered = true;
        let small = self.cost_where_small();
        answered &= !small.is_empty();
        answer.extend(small);
        answer.extend(self.cost_by_message());
        let reads: Vec<f64> = self
            .arms()
            .filter_map(|arm| arm.zero_copy.filter(|counts| counts.sends > 0))
            .map(|counts| counts.notifications as f64 / counts.sends as f64)
            .collect();
        if !reads.is_empty() {
            let text = format!("A send took {} reads of the error queue on average.", range_by_case(&reads));
            answer.push(Claim { text, rows });
        }
        Question { text, answered, answer }
    }

    /// How much longer `zero_copy` takes than `one_copy` at the smallest size, where there is little to copy.
    fn cost_where_small(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for ladder in self.ladders {
            let Some(cell) = ladder.cells.first().filter(|cell| cell.cell.payload_bytes <= 4096) else {
                continue;
            };
            for series in self.studied_zero_copy() {
                if let Some((ratio, Verdict::Slower, comparison)) =
                    versus(cell, Metric::Throughput, series, ONE_COPY)
                {
                    claims.push(Claim {
                        text: format!(
                            "With {}, at {}, the throughput of {} differs from that of one_copy by {}. So little is copied at this size that the \
                             difference is the cost of pinning and of notifications.",
                            ladder_name(ladder),
                            bytes(cell.cell.payload_bytes as f64),
                            Self::name_in(ladder, series),
                            words::gain(ratio)
                        ),
                        rows: vec![comparison_row(comparison)],
                    });
                }
            }
        }
        claims
    }

    /// What `zero_copy` costs more than `one_copy` per message and by KiB, where the cost model holds.
    fn cost_by_message(&self) -> Vec<Claim> {
        let fit = |ladder: &Ladder<'_>, series: Series| {
            self.fits
                .iter()
                .find(|(at, of, _)| at.name() == ladder.name() && *of == series)
                .and_then(|(_, _, fit)| fit.as_ref())
        };
        let mut claims = Vec::new();
        for ladder in self.ladders {
            for series in self.studied_zero_copy() {
                let (Some(zero), Some(one)) = (fit(ladder, series), fit(ladder, ONE_COPY)) else { continue };
                // Where one of the two is no straight line, there is no interval, and the model's own table says so.
                let (fixed, by_kib) = zero.minus(one);
                let clear = match fixed.interval {
                    Some((low, _)) if low > 0.0 => "more",
                    Some((_, high)) if high < 0.0 => "less",
                    Some(_) | None => continue,
                };
                let layout = if series.layout == ONE_COPY.layout {
                    ""
                } else {
                    " (its fields lie on pages of their own)"
                };
                claims.push(Claim {
                    text: format!(
                        "With {}, a message by {}{layout} costs {} ns {clear} than by one_copy before its first byte, \
                         and each KiB {} ns {} (cost model).",
                        ladder_name(ladder),
                        Self::name_in(ladder, series),
                        words::size_of(fixed),
                        words::size_of(by_kib),
                        if by_kib.value < 0.0 { "less" } else { "more" },
                    ),
                    rows: vec![model_row(ladder, series), model_row(ladder, ONE_COPY)],
                });
            }
        }
        claims
    }

    /// The reason why an event is missing.
    fn missing(&self, events: &[Event]) -> Option<Claim> {
        let counted = |event: &&Event| {
            self.studied_arms().any(|arm| arm.counted.per_message(Side::Server, **event).is_some())
        };
        let missing: Vec<&Event> = events.iter().filter(|event| !counted(event)).collect();
        let first = missing.first()?;
        let reason = self.manifest.not_counted.get(&first.to_string());
        let names: Vec<String> = missing.iter().map(|event| event.unit().to_owned()).collect();
        Some(claim(format!(
            "The data cannot say: {} were not counted{}",
            list(&names),
            reason.map_or_else(|| ".".to_owned(), |reason| format!(": {reason}."))
        )))
    }

    fn cache_levels(&self) -> Question {
        let text = "Which cache level shows the most reduction in misses, and why?".to_owned();
        let levels = [Event::L1dLoadMisses, Event::LlcLoadMisses];
        if let Some(missing) = self.missing(&levels) {
            let mut answer = vec![missing];
            answer.extend(self.ledger_claims());
            return Question { text, answered: false, answer };
        }
        let mut answer = Vec::new();
        let mut answered = false;
        let others = || self.studied_series().filter(|series| *series != TWO_COPY);
        let receptions = self.receptions();
        for (reception, series) in
            receptions.into_iter().flat_map(|reception| others().map(move |series| (reception, series)))
        {
            let mut rows = Vec::new();
            let changes: Vec<(Event, Option<Effect>)> = levels
                .into_iter()
                .map(|event| (event, self.misses_against_two_copy(reception, series, event, &mut rows)))
                .collect();
            let shown: Vec<String> = changes
                .iter()
                .map(|(event, change)| match change {
                    Some(change) => format!("{} {}", event.unit(), words::gain(change.ratio())),
                    None => format!("{}: fewer than 3 cells", event.unit()),
                })
                .collect();
            // Only a reduction of the whole interval is one.
            let mut sure: Vec<(Event, Estimate)> = changes
                .iter()
                .filter_map(|(event, change)| Some((*event, (*change)?.ratio())))
                .filter(|(_, ratio)| ratio.high < 1.0)
                .collect();
            sure.sort_by(|one, other| one.1.value.total_cmp(&other.1.value));
            let most = match sure[..] {
                [] => "no reduction is larger than its interval, so the data cannot say".to_owned(),
                [(event, one), (_, other)] if one.high >= other.low => {
                    format!("both fall; {} fall the most, but the intervals overlap", event.unit())
                }
                [(event, _), ..] => format!("{} fall the most", event.unit()),
            };
            answered |= !sure.is_empty();
            answer.push(Claim {
                text: format!(
                    "{} against two_copy{}, the server's misses per message over the cells: {}; {most}.",
                    words::series(series, self.copied_by(reception, series)),
                    self.ways.reception(reception),
                    list(&shown)
                ),
                rows,
            });
        }
        answer.extend(self.ledger_claims());
        Question { text, answered, answer }
    }

    /// How many misses `series` has by those of `two_copy`: the mean over cells, on a log scale.
    fn misses_against_two_copy(
        &self,
        reception: Reception,
        series: Series,
        event: Event,
        rows: &mut Vec<String>,
    ) -> Option<Effect> {
        let mut logs = Vec::new();
        for cell in self.received_by(reception) {
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

    /// How often a payload byte is copied, by series: a claim for each receiver, source and shape.
    fn ledger_claims(&self) -> Vec<Claim> {
        self.receptions().into_iter().filter_map(|reception| self.ledger_claim(reception)).collect()
    }

    fn ledger_claim(&self, reception: Reception) -> Option<Claim> {
        let mut parts = Vec::new();
        let mut rows: Vec<String> = Vec::new();
        for series in self.studied_series() {
            let cells = self.received_by(reception);
            let arms: Vec<&ArmResult> = cells
                .into_iter()
                .flat_map(|cell| &cell.arms)
                .filter(|arm| arm.arm.case.series() == series && stands_in_ledger(self.manifest, arm))
                .collect();
            let copied_bytes = |arm: &&ArmResult| {
                let (server, client) = arm.copies;
                server.user_to_user_bytes
                    + server.user_to_kernel_bytes
                    + server.deferred_bytes
                    + client.kernel_to_user_bytes
                    + client.user_to_user_bytes
            };
            let payload = |arm: &&ArmResult| arm.copied_messages * arm.arm.case.payload_bytes as u64;
            // By arm: one that was not copied would vanish in the sum of all.
            let by_arm: Vec<f64> = arms
                .iter()
                .filter(|arm| payload(arm) > 0)
                .map(|arm| copied_bytes(arm) as f64 / payload(arm) as f64)
                .collect();
            if by_arm.is_empty() {
                continue;
            }
            let name = words::series(series, self.copied_by(reception, series));
            parts.push(format!("{name} {}", range_by_case(&by_arm)));
            for id in arms.iter().map(|arm| ledger_row(arm)) {
                if !rows.contains(&id) {
                    rows.push(id);
                }
            }
        }
        (!parts.is_empty()).then(|| Claim {
            text: format!(
                "Copies of each payload byte by a CPU{}{}: {}.",
                self.ways.reception(reception),
                if reception.receiver == Receiver::Sink { "" } else { ", both sides together" },
                list(&parts)
            ),
            rows,
        })
    }

    fn threads_and_caches(&self) -> Question {
        let text = "How does thread count interact with cache contention?".to_owned();
        let mut answer = Vec::new();
        let missing = self.missing(&[Event::LlcLoadMisses]);
        let mut answered = false;
        answer.extend(missing);
        // The size that was measured at most numbers of pairs.
        let cells = &self.analysis.cells;
        let key = |cell: &CellResult| (cell.cell.payload_bytes, cell.cell.situation());
        let count = |cell: &CellResult| cells.iter().filter(|other| key(other) == key(cell)).count();
        let Some(chosen) = cells.iter().rev().max_by_key(|cell| count(cell)).filter(|cell| count(cell) > 1)
        else {
            answer.push(claim("Only one number of pairs was measured."));
            return Question { text, answered: false, answer };
        };
        let mut alike: Vec<&CellResult> = cells.iter().filter(|cell| key(cell) == key(chosen)).collect();
        alike.sort_by_key(|cell| cell.cell.threads);
        let (Some(few), Some(many)) = (alike.first(), alike.last()) else {
            return Question { text, answered: false, answer };
        };
        for series in self.studied_series() {
            let arm = |cell: &CellResult| {
                cell.arms.iter().find(|arm| !arm.arm.control && arm.arm.case.series() == series).cloned()
            };
            let (Some(few), Some(many)) = (arm(few), arm(many)) else { continue };
            let rows = vec![case_row(few.arm), case_row(many.arm)];
            let name = words::series(series, Copied::of([&few, &many].into_iter()));
            let (threads, least) = (many.arm.case.threads, few.arm.case.threads);
            if let (Some(one), Some(all)) = (few.throughput_gbps, many.throughput_gbps) {
                answer.push(Claim {
                    text: format!(
                        "{} at {} ({}): {} Gb/s with {}, {} with {}.",
                        name,
                        bytes(few.arm.case.payload_bytes as f64),
                        words::situation(few.arm.case.cell().situation()),
                        words::measure(one),
                        pairs(least),
                        words::measure(all),
                        pairs(threads)
                    ),
                    rows: rows.clone(),
                });
            }
            let misses = |arm: &ArmResult| arm.counted.per_message(Side::Server, Event::LlcLoadMisses);
            if let (Some(before), Some(after)) = (misses(&few), misses(&many)) {
                let said = match (before.interval, after.interval) {
                    (Some((_, high)), Some((low, _))) if low > high => "more with more pairs",
                    (Some((low, _)), Some((_, high))) if high < low => "fewer with more pairs",
                    (Some(_), Some(_)) => "the intervals overlap, so the data cannot say",
                    _ => "without intervals the data cannot say whether that is a difference",
                };
                answered |= said.ends_with("pairs");
                answer.push(Claim {
                    text: format!(
                        "{}, LLC load misses of the server per message: {} with {}, {} with {}: {said}.",
                        name,
                        words::measure(before),
                        pairs(least),
                        words::measure(after),
                        pairs(threads)
                    ),
                    rows,
                });
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
                let text = format!("{}, {}: {said}.", Self::name_in(ladder, series), ladder_name(ladder));
                answer.push(Claim { text, rows });
            }
        }
        Question { text, answered, answer }
    }

    /// From which size on, by the ratios; and whether that is an answer.
    fn crossing(
        ladder: &Ladder<'_>,
        series: Series,
        points: &[(usize, Option<&SeriesOutcome>)],
    ) -> (bool, String) {
        let sizes: Vec<usize> = points.iter().map(|point| point.0).collect();
        if sizes.is_empty() {
            return (false, "nothing was measured".to_owned());
        }
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
                    "the data cannot say: there are too few repetitions for an interval (by the plain numbers it is \
                     faster at {ahead} of {} sizes)",
                    sizes.len()
                ),
            );
        }
        let open: Vec<String> = points
            .iter()
            .filter_map(|(size, outcome)| Some((size, (*outcome)?)))
            .filter(|(_, outcome)| outcome.verdict == Verdict::Undecided)
            .map(|(size, outcome)| {
                let (low, high) = (rough_difference(outcome.ratio.low), rough_difference(outcome.ratio.high));
                format!("{low} to {high} at {}", bytes(*size as f64))
            })
            .collect();
        let Some(found) = crossing(ladder, series, TWO_COPY) else {
            return (false, "the data cannot say: only one size was measured".to_owned());
        };
        let open = if open.is_empty() { String::new() } else { format!(" (undecided: {})", list(&open)) };
        if found.low == Place::Below && found.high == Place::Beyond {
            let mut outcomes = points.iter().filter_map(|point| point.1);
            if outcomes.all(|outcome| Verdict::of(outcome.ratio, CLOSE) == Verdict::Same) {
                let said =
                    format!("within {} of two_copy at every size, on neither side for certain", share(CLOSE));
                return (true, format!("{said}{open}"));
            }
            return (false, format!("the data cannot say{open}"));
        }
        (true, format!("{}{open}", words::break_even(found, sizes_of(ladder), "two_copy")))
    }

    /// What fits the cost model worst, or has the longest tail, and what was measured of it.
    fn unexpected(&self) -> Question {
        let text = "One unexpected result, explained by an OS or hardware concept.".to_owned();
        let studied = self.fits.iter().filter(|(_, series, _)| is_studied(*series));
        let missed = studied.filter_map(|(ladder, series, fit)| {
            let (size, ratio) = fit.as_ref()?.missed()?;
            Some((ladder.arms(*series).find(|arm| arm.arm.case.payload_bytes == size)?, ratio))
        });
        let far = |ratio: f64| (ratio - 1.0).abs();
        let worst = missed.max_by(|(_, one), (_, other)| far(*one).total_cmp(&far(*other)));
        if let Some((arm, ratio)) = worst {
            let rows = vec![case_row(arm.arm)];
            let found = Claim {
                text: format!(
                    "{}, {} with {} ({}): the time of a message differs by {} from the straight line through all sizes (a \
                     fixed cost and a cost per byte). No other case is as far from its line.",
                    words::series(arm.arm.case.series(), Copied::of(std::iter::once(arm))),
                    bytes(arm.arm.case.payload_bytes as f64),
                    pairs(arm.arm.case.threads),
                    words::situation(arm.arm.case.cell().situation()),
                    difference(ratio)
                ),
                rows,
            };
            return self.explained(text, found, arm, ratio > 1.0);
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
                "{}, {} with {} ({}): the 99th percentile of round trips is {} times the median. No other case has so \
                 large a ratio.",
                words::series(arm.arm.case.series(), Copied::of(std::iter::once(arm))),
                bytes(arm.arm.case.payload_bytes as f64),
                pairs(arm.arm.case.threads),
                words::situation(arm.arm.case.cell().situation()),
                significant(ratio, 3)
            ),
            rows: vec![case_row(arm.arm)],
        };
        self.explained(text, found, arm, true)
    }

    /// The mechanism, where a measured quantity of this arm stands out against the other paths of its cell. Only what
    /// took longer is looked into: that more of something goes with less time explains nothing.
    fn explained(&self, text: String, found: Claim, arm: &ArmResult, longer: bool) -> Question {
        let others: Vec<&ArmResult> = self
            .arms()
            .filter(|other| {
                !other.arm.control
                    && other.arm.case.cell() == arm.arm.case.cell()
                    && other.arm.case.path != arm.arm.case.path
            })
            .collect();
        let counted =
            |event: Event| move |arm: &ArmResult| Some(arm.counted.per_message(Side::Server, event)?.value);
        let (switches, faults, misses) =
            (counted(Event::ContextSwitches), counted(Event::PageFaults), counted(Event::LlcLoadMisses));
        let quantities: [Quantity<'_>; 3] = [
            ("context switches of the server per message (the scheduler)", &switches),
            ("page faults of the server per message (the memory manager)", &faults),
            ("LLC load misses of the server per message (the last level cache)", &misses),
        ];
        let mut answer = vec![found];
        for (name, of) in quantities.into_iter().filter(|_| longer) {
            let mut usual: Vec<f64> = others.iter().filter_map(|arm| of(arm)).collect();
            if let (Some(here), Some(usual)) = (of(arm), median(&mut usual))
                && here > 1.5 * usual
                && here - usual > 0.05
            {
                let mut rows: Vec<String> = vec![case_row(arm.arm)];
                rows.extend(others.iter().map(|arm| case_row(arm.arm)));
                answer.push(Claim {
                    text: format!(
                        "Measured with it: {name}: {}, against {} in the median of the other paths.",
                        number(here),
                        number(usual)
                    ),
                    rows,
                });
            }
        }
        // Calls that were made more than once for a message are a cost that only this path has.
        if let Some(counts) = arm.zero_copy.filter(|_| longer && arm.copied_messages > 0) {
            let by_message = |count: u64| count as f64 / arm.copied_messages as f64;
            if by_message(counts.sends) > 1.05 || by_message(counts.enobufs) > 0.01 {
                answer.push(Claim {
                    text: format!(
                        "Measured with it: {} sendmsg calls per message (short sends: the message lies on more pages than one \
                         packet takes), and {} calls refused with ENOBUFS (the limit of memory that may be pinned).",
                        number(by_message(counts.sends)),
                        number(by_message(counts.enobufs))
                    ),
                    rows: vec![case_row(arm.arm)],
                });
            }
        }
        let answered = answer.len() > 1;
        if !answered {
            let missing = if self.manifest.not_counted.is_empty() { "" } else { FIGURES_OF_COUNTERS };
            answer.push(claim(format!(
                "The data cannot say why: no counter differs much from those of the other paths{missing}."
            )));
        }
        Question { text, answered, answer }
    }
}
