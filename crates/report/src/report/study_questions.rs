//! Six questions about the paths: each is answered in a sentence or two from the data, or not at
//! all. An answer is about the ladders of the headline, and what it rests on is in the tables.
//! docs/book/src/studies.md says where the questions come from.

use super::headline::{Facts, claim, sizes_of};
use super::page::{Claim, Question};
use super::tables::model_row;
use super::words::{self, Copied, case_row, comparison_row, pairs};
use crate::case::{Layout, SendPath, Series};
use crate::event::Event;
use crate::format::{bytes, difference, list, number, rough_difference, share, significant};
use crate::results::analysis::{ArmResult, CellResult};
use crate::results::cost_model::{crossing, standing};
use crate::results::crossing::Place;
use crate::results::decision::{CLOSE, versus};
use crate::results::ladder::Ladder;
use crate::results::metric::Metric;
use crate::results::stats::{Effect, median};
use crate::results::verdict::Verdict;
use crate::sample::{Side, ZeroCopyCounts};

/// What is said to a question, and whether that is an answer.
type Said = (bool, Claim);

/// What the field calls a quantity, whether it is worth a word beside what is usual, and what it is
/// of an arm.
type Quantity = (&'static str, fn(f64, f64) -> bool, fn(&ArmResult) -> Option<f64>);

/// More than half as much again, and more than next to nothing.
const STANDS_OUT: fn(f64, f64) -> bool = |here, usual| here > 1.5 * usual && here - usual > 0.05;

/// A count of zero-copy sends by message; `none` of who sends none.
fn by_message(arm: &ArmResult, none: f64, count: fn(ZeroCopyCounts) -> u64) -> Option<f64> {
    let Some(counts) = arm.zero_copy else { return Some(none) };
    (arm.copied_messages > 0).then(|| count(counts) as f64 / arm.copied_messages as f64)
}

const TWO_COPY: Series = Series::new(SendPath::TwoCopy, Layout::Heap);
const ONE_COPY: Series = Series::new(SendPath::OneCopy, Layout::Heap);

/// So much takes little time to copy.
const LITTLE_BYTES: usize = 4096;
/// What a path without a copy pays for.
const WHY_SLOWER: &str = "So little is copied at this size that what is lost is the cost of pinning the pages of each \
                          send and of its notification, which it has, copied or not (msg_zerocopy.rst of the \
                          kernel's documentation).";

/// The caches' levels, by what is counted of them.
const LEVELS: [Event; 2] = [Event::L1dLoadMisses, Event::LlcLoadMisses];

/// Whether a series is one of those that the questions are about: the studies' paths by system
/// calls, with the layouts that they were asked of. Other ways to send have no part in the answers.
fn is_studied(series: Series) -> bool {
    let Series { path, layout, .. } = series;
    SendPath::STUDIED.contains(&path) && layout != Layout::Huge && series == Series::new(path, layout)
}

/// What is the case with one of several series: whether that is an answer, the words, and the rows
/// that they rest on.
type Part = (bool, String, Vec<String>);

/// A sentence of what is the case with several series; none where there are none.
fn together(parts: impl Iterator<Item = Part>, sentence: impl FnOnce(String) -> String) -> Option<Said> {
    let parts: Vec<Part> = parts.collect();
    let is_answer = parts.iter().any(|(is_answer, ..)| *is_answer);
    let (texts, rows): (Vec<String>, Vec<Vec<String>>) =
        parts.into_iter().map(|(_, text, rows)| (text, rows)).unzip();
    let text = sentence(texts.join("; "));
    (!texts.is_empty()).then(|| (is_answer, Claim { text, rows: rows.concat() }))
}

/// Misses of the server per message.
fn misses(arm: &ArmResult, event: Event) -> Option<f64> {
    Some(arm.counted.per_message(Side::Server, event)?.value).filter(|count| *count > 0.0)
}

impl Facts<'_> {
    /// The studied series of a path.
    fn studied(&self, path: SendPath) -> impl Iterator<Item = Series> {
        let all = self.manifest.plan.series.iter().copied();
        all.filter(move |series| is_studied(*series) && series.path == path)
    }

    /// All six, in order.
    pub(super) fn questions(&self) -> Vec<Question> {
        let of_ladders = |answer: &dyn Fn(&Ladder<'_>) -> Option<Said>| -> Vec<Said> {
            self.spoken_of().into_iter().filter_map(answer).collect()
        };
        let outperforms = |path| {
            if self.studied(path).next().is_none() || !self.has(TWO_COPY) {
                return vec![(false, claim("One of the two was not in this sweep."))];
            }
            of_ladders(&|ladder| self.outperforms(ladder, path))
        };
        let mut small = of_ladders(&|ladder| self.where_little_is_copied(ladder));
        if self.studied(SendPath::ZeroCopy).next().is_none() {
            small = vec![(false, claim("It was not in this sweep."))];
        } else if small.iter().any(|(is_answer, _)| *is_answer) {
            small.push((true, claim(WHY_SLOWER)));
        }
        let answers = [
            ("Why does zero-copy not always give the best throughput?", small),
            (
                "Which cache level shows the most reduction in misses, and why?",
                self.missing(&LEVELS).unwrap_or_else(|| of_ladders(&|ladder| self.cache_levels(ladder))),
            ),
            (
                "How does thread count interact with cache contention?",
                self.missing(&[Event::LlcLoadMisses])
                    .unwrap_or_else(|| self.threads_and_caches().into_iter().collect()),
            ),
            (
                "At what message size does one-copy outperform two-copy on this system?",
                outperforms(SendPath::OneCopy),
            ),
            (
                "At what message size does zero-copy outperform two-copy on this system?",
                outperforms(SendPath::ZeroCopy),
            ),
            ("One unexpected result, explained by an OS or hardware concept.", self.unexpected()),
        ];
        let question = |(text, mut said): (&str, Vec<Said>)| {
            if said.is_empty() {
                said.push((false, claim("The data cannot say: too little of it was measured.")));
            }
            let answered = said.iter().any(|(is_answer, _)| *is_answer);
            let answer = said.into_iter().map(|(_, claim)| claim).collect();
            Question { text: text.to_owned(), answered, answer }
        };
        answers.into_iter().map(question).collect()
    }

    /// How `zero_copy` stands against `one_copy` at the smallest size, where there is little to
    /// copy; none where that is large.
    fn where_little_is_copied(&self, ladder: &Ladder<'_>) -> Option<Said> {
        let cell = ladder.cells.first().filter(|cell| cell.cell.payload_bytes <= LITTLE_BYTES)?;
        let parts = self.studied(SendPath::ZeroCopy).filter_map(|series| {
            let (ratio, verdict, found) = versus(cell, Metric::Throughput, series, ONE_COPY)?;
            let is_recorded = Copied::of(ladder.arms(series)) != Copied::Unknown;
            let words = Metric::Throughput.verdict(verdict, ratio, Metric::Throughput.margin());
            let (cost, mut rows) = self.fixed_cost(ladder, series).unwrap_or_default();
            rows.push(comparison_row(found));
            let text = format!("{} {} ({words}){cost}", Self::name_in(ladder, series), words::gain(ratio));
            Some((verdict == Verdict::Slower && is_recorded, text, rows))
        });
        let at = bytes(cell.cell.payload_bytes as f64);
        together(parts, |stand| {
            format!("Throughput at {at} against one_copy, {}: {stand}.", words::ladder(ladder))
        })
    }

    /// What a message costs more than by `one_copy` before its first byte, where the cost model
    /// holds and is sure of it.
    fn fixed_cost(&self, ladder: &Ladder<'_>, series: Series) -> Option<(String, Vec<String>)> {
        let fit = |of: Series| {
            let is_it = |at: &Ladder<'_>, one: Series| at.name() == ladder.name() && one == of;
            self.fits.iter().find(|(at, one, _)| is_it(at, *one))?.2.as_ref()
        };
        let (fixed, _) = fit(series)?.minus(fit(ONE_COPY)?);
        let more = match fixed.interval? {
            (low, _) if low > 0.0 => "more",
            (_, high) if high < 0.0 => "less",
            _ => return None,
        };
        let text =
            format!(", a message {} ns {more} before its first byte (cost model)", words::size_of(fixed));
        Some((text, [series, ONE_COPY].map(|one| model_row(ladder, one)).into()))
    }

    /// Those of the events that were not counted, and why.
    fn missing(&self, events: &[Event]) -> Option<Vec<Said>> {
        let counted = |event: &Event| {
            let mut arms = self.arms().filter(|arm| is_studied(arm.arm.case.series()));
            arms.any(|arm| arm.counted.per_message(Side::Server, *event).is_some())
        };
        let missing: Vec<&Event> = events.iter().filter(|event| !counted(event)).collect();
        let names: Vec<String> = missing.iter().map(|event| event.unit().to_owned()).collect();
        let reason = self.manifest.not_counted.get(&missing.first()?.to_string());
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let text = format!("The data cannot say: {} were not counted{reason}.", list(&names));
        Some(vec![(false, claim(text))])
    }

    /// How the server's misses by each path stand against those by `two_copy`: the mean over the
    /// sizes, on a log scale.
    fn cache_levels(&self, ladder: &Ladder<'_>) -> Option<Said> {
        let studied = [SendPath::OneCopy, SendPath::ZeroCopy].into_iter().flat_map(|path| self.studied(path));
        let parts = studied.map(|series| {
            let change = |event: Event| {
                let logs = ladder.cells.iter().filter_map(|cell| {
                    let (ours, theirs) = (cell.arm(series)?, cell.arm(TWO_COPY)?);
                    Some((misses(ours, event)? / misses(theirs, event)?).ln())
                });
                Effect::of(&logs.collect::<Vec<_>>()).map(|effect| effect.ratio())
            };
            let changes = LEVELS.map(|event| (event.unit(), change(event)));
            // Only a reduction of the whole interval is one.
            let falls = changes.iter().filter_map(|(unit, change)| Some((unit, (*change)?)));
            let mut falls: Vec<_> = falls.filter(|(_, ratio)| ratio.high < 1.0).collect();
            falls.sort_by(|(_, one), (_, other)| one.value.total_cmp(&other.value));
            let most = match falls[..] {
                [] => "no reduction is larger than its interval".to_owned(),
                [(unit, one), (_, other)] if one.high >= other.low => {
                    format!("both fall, {unit} the most, but the intervals overlap")
                }
                [(unit, _), ..] => format!("{unit} fall the most"),
            };
            let written = changes.map(|(unit, change)| {
                format!("{unit} {}", change.map_or_else(|| "at fewer than 3 sizes".to_owned(), words::gain))
            });
            let text = format!("{}: {}: {most}", Self::name_in(ladder, series), list(&written));
            let rows = ladder.arms(series).chain(ladder.arms(TWO_COPY)).map(|arm| case_row(arm.arm));
            (!falls.is_empty(), text, rows.collect())
        });
        let name = words::ladder(ladder);
        together(parts, |changes| {
            format!("The server's misses per message against two_copy, over the sizes, {name}: {changes}.")
        })
    }

    /// Misses of the last level cache with the fewest pairs and with the most, at the size that was
    /// measured at most numbers of pairs.
    fn threads_and_caches(&self) -> Option<Said> {
        let cells = &self.analysis.cells;
        let key = |cell: &CellResult| (cell.cell.payload_bytes, cell.cell.situation());
        let count = |cell: &CellResult| cells.iter().filter(|other| key(other) == key(cell)).count();
        let chosen = cells.iter().rev().max_by_key(|cell| count(cell))?;
        let mut alike: Vec<&CellResult> = cells.iter().filter(|cell| key(cell) == key(chosen)).collect();
        alike.sort_by_key(|cell| cell.cell.threads);
        let [few, .., many] = alike[..] else {
            return Some((false, claim("Only one number of pairs was measured.")));
        };
        let studied = SendPath::STUDIED.into_iter().flat_map(|path| self.studied(path));
        let parts = studied.filter_map(|series| {
            let arms = [few.arm(series)?, many.arm(series)?];
            let [before, after] = arms.map(|arm| arm.counted.per_message(Side::Server, Event::LlcLoadMisses));
            let (before, after) = (before?, after?);
            let (answers, said) = match (before.interval, after.interval) {
                (Some((_, high)), Some((low, _))) if low > high => (true, "more with more pairs"),
                (Some((low, _)), Some((_, high))) if high < low => (true, "fewer with more pairs"),
                (Some(_), Some(_)) => (false, "the intervals overlap, so the data cannot say"),
                _ => (false, "without intervals the data cannot say whether that is a difference"),
            };
            let name = words::series(series, Copied::of(arms.into_iter()));
            let text = format!("{name} {} and {}: {said}", words::measure(before), words::measure(after));
            Some((answers, text, arms.map(|arm| case_row(arm.arm)).into()))
        });
        together(parts, |said| {
            format!(
                "LLC load misses of the server per message at {} ({}), with {} and with {}: {said}.",
                bytes(chosen.cell.payload_bytes as f64),
                words::situation(chosen.cell.situation()),
                pairs(few.cell.threads),
                pairs(many.cell.threads)
            )
        })
    }

    /// From which size on the series of a path are faster than `two_copy`, by the ratios.
    fn outperforms(&self, ladder: &Ladder<'_>, path: SendPath) -> Option<Said> {
        let parts = self.studied(path).map(|series| {
            let (is_known, said) = Self::break_even(ladder, series);
            let compared = ladder.cells.iter().filter_map(|cell| {
                versus(cell, Metric::Throughput, series, TWO_COPY).map(|(.., found)| comparison_row(found))
            });
            (is_known, format!("{}: {said}", Self::name_in(ladder, series)), compared.collect())
        });
        together(parts, |said| format!("With {}: {said}.", words::ladder(ladder)))
    }

    /// From which size on `series` is faster than `two_copy`; and whether that is an answer.
    fn break_even(ladder: &Ladder<'_>, series: Series) -> (bool, String) {
        let standing = standing(ladder, series, TWO_COPY);
        let judged: Vec<_> = standing.into_iter().filter_map(|(size, found)| Some((size, found?))).collect();
        let open = judged.iter().filter(|(_, found)| found.verdict == Verdict::Undecided);
        let open = open.map(|(size, found)| {
            let (low, high) = (rough_difference(found.ratio.low), rough_difference(found.ratio.high));
            format!("{low} to {high} at {}", bytes(*size as f64))
        });
        let open: Vec<String> = open.collect();
        let open = if open.is_empty() { String::new() } else { format!(" (undecided: {})", list(&open)) };
        let is_close = judged.iter().all(|(_, found)| Verdict::of(found.ratio, CLOSE) == Verdict::Same);
        match crossing(ladder, series, TWO_COPY) {
            None if judged.is_empty() => {
                (false, "the data cannot say: there are too few repetitions for an interval".to_owned())
            }
            None => (false, "the data cannot say: only one size was measured".to_owned()),
            Some(found) if found.low != Place::Below || found.high != Place::Beyond => {
                (true, words::break_even(found, sizes_of(ladder), "two_copy") + &open)
            }
            Some(_) if is_close => {
                let close = share(CLOSE);
                let said =
                    format!("within {close} of two_copy at every size, on neither side for certain{open}");
                (true, said)
            }
            Some(_) => (false, format!("the data cannot say{open}")),
        }
    }

    /// What fits the cost model worst, or has the longest tail, and what was measured of it.
    fn unexpected(&self) -> Vec<Said> {
        let studied = self.fits.iter().filter(|(_, series, _)| is_studied(*series));
        let missed = studied.filter_map(|(ladder, series, fit)| {
            let (size, ratio) = fit.as_ref()?.missed()?;
            Some((ladder.arms(*series).find(|arm| arm.arm.case.payload_bytes == size)?, ratio))
        });
        let far = |ratio: f64| (ratio - 1.0).abs();
        let tails = self.arms().filter(|arm| !arm.arm.control).filter_map(|arm| {
            let [(_, median), _, (_, tail), _] = arm.rtt_quantiles_ns;
            Some((arm, tail?.value / median?.value))
        });
        let (arm, is_longer, found) = if let Some((arm, ratio)) =
            missed.max_by(|(_, one), (_, other)| far(*one).total_cmp(&far(*other)))
        {
            let found = format!(
                "the time of a message differs by {} from the straight line through all sizes (a fixed cost and a \
                 cost per byte). No other case is as far from its line.",
                difference(ratio)
            );
            (arm, ratio > 1.0, found)
        } else if let Some((arm, ratio)) = tails.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
            let ratio = significant(ratio, 3);
            let found = format!(
                "the 99th percentile of round trips is {ratio} times the median. No other case has so large a ratio."
            );
            (arm, true, found)
        } else {
            let said =
                "The data cannot say: too few sizes for a cost model, and no distribution of round trips.";
            return vec![(false, claim(said))];
        };
        let case = arm.arm.case;
        let text = format!(
            "{}, {} with {} ({}): {found}",
            words::series(case.series(), Copied::of(std::iter::once(arm))),
            bytes(case.payload_bytes as f64),
            pairs(case.threads),
            words::situation(case.cell().situation())
        );
        let found = (false, Claim { text, rows: vec![case_row(arm.arm)] });
        vec![found, self.explained(arm, is_longer)]
    }

    /// The mechanism, where a measured quantity of this arm stands out against the other paths of
    /// its cell. Only what took longer is looked into: that more of something goes with less time
    /// explains nothing.
    fn explained(&self, arm: &ArmResult, is_longer: bool) -> Said {
        const QUANTITIES: [Quantity; 5] = [
            ("context switches of the server per message (the scheduler)", STANDS_OUT, |arm| {
                Some(arm.counted.per_message(Side::Server, Event::ContextSwitches)?.value)
            }),
            ("page faults of the server per message (the memory manager)", STANDS_OUT, |arm| {
                Some(arm.counted.per_message(Side::Server, Event::PageFaults)?.value)
            }),
            ("LLC load misses of the server per message (the last level cache)", STANDS_OUT, |arm| {
                Some(arm.counted.per_message(Side::Server, Event::LlcLoadMisses)?.value)
            }),
            (
                "sendmsg calls per message (it lies on more pages than one packet takes)",
                |here, _| here > 1.05,
                |arm| by_message(arm, 1.0, |counts| counts.sends),
            ),
            (
                "sends refused with ENOBUFS per message (the limit of memory that may be pinned)",
                |here, _| here > 0.01,
                |arm| by_message(arm, 0.0, |counts| counts.enobufs),
            ),
        ];
        let others = || {
            let case = arm.arm.case;
            self.arms().filter(move |other| {
                let its = other.arm.case;
                !other.arm.control && its.cell() == case.cell() && its.path != case.path
            })
        };
        let stands_out = |(name, is_notable, of): &Quantity| {
            let (here, usual) = (of(arm)?, median(&mut others().filter_map(of).collect::<Vec<_>>())?);
            let text = format!(
                "Measured with it: {name}: {}, against {} in the median of the other paths.",
                number(here),
                number(usual)
            );
            is_notable(here, usual).then_some(text)
        };
        if let Some(text) = QUANTITIES.iter().find_map(stands_out).filter(|_| is_longer) {
            let rows = std::iter::once(arm).chain(others()).map(|arm| case_row(arm.arm)).collect();
            return (true, Claim { text, rows });
        }
        let missing = if self.manifest.not_counted.is_empty() {
            ""
        } else {
            ", and this machine's CPU counters could not be read"
        };
        let text = "The data cannot say why: no counter differs much from those of the other paths";
        (false, claim(format!("{text}{missing}.")))
    }
}
