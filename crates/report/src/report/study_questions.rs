//! Six questions about the paths: each is answered in a sentence or two, from the decision and from
//! what was counted. An answer is about the ladders of the headline, and what it rests on is in the
//! tables. docs/book/src/studies.md says where the questions come from.

use super::glance::{self, Decided};
use super::headline::{Facts, claim};
use super::page::{Claim, Question};
use super::words::{self, Copied, case_row, comparison_row, connections};
use crate::case::{Engine, Layout, SendPath, Series};
use crate::environment::Effective;
use crate::event::Event;
use crate::format::{list, number, share, significant, size};
use crate::results::analysis::{ArmResult, CellResult, Measure};
use crate::results::crossing::Place;
use crate::results::decision::{CLOSE, Choice, Gain, comparisons, crossing, over_copying, ratio_in};
use crate::results::ladder::Ladder;
use crate::results::metric::Metric;
use crate::results::stats::{Effect, Estimate, median};
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

/// The caches' levels, by what is counted of them.
const LEVELS: [Event; 2] = [Event::L1dLoadMisses, Event::LlcLoadMisses];

/// Whether a series is one of those that the questions are about: the studies' paths by system
/// calls, with the layouts that they were asked of. Other ways to send have no part in the answers.
fn is_studied(series: Series) -> bool {
    let Series { path, layout, .. } = series;
    SendPath::STUDIED.contains(&path) && layout != Layout::Huge && series == Series::new(path, layout)
}

/// A path by system calls, whatever its layout.
fn choice(path: SendPath) -> Choice {
    Choice { path, engine: Engine::Syscall }
}

/// The comparisons of two paths, by throughput.
fn rows(ladder: &Ladder<'_>, paths: [SendPath; 2]) -> Vec<String> {
    let are_they = |one: Series, other: Series| {
        is_studied(one) && is_studied(other) && paths.contains(&one.path) && paths.contains(&other.path)
    };
    let all = ladder.cells.iter().flat_map(|cell| comparisons(cell, Metric::Throughput));
    all.filter(|found| are_they(found.series, found.baseline)).map(comparison_row).collect()
}

/// Misses of the server per message.
fn misses(arm: &ArmResult, event: Event) -> Option<Measure> {
    arm.counted.per_message(Side::Server, event).filter(|count| count.value > 0.0)
}

/// A sentence of what is the case with several series: none of none.
fn together(
    parts: Vec<(bool, String, Vec<String>)>,
    sentence: impl FnOnce(String) -> String,
) -> Option<Said> {
    let is_answer = parts.iter().any(|(is_answer, ..)| *is_answer);
    let (texts, rows): (Vec<String>, Vec<Vec<String>>) =
        parts.into_iter().map(|(_, text, rows)| (text, rows)).unzip();
    (!texts.is_empty()).then(|| (is_answer, Claim { text: sentence(texts.join("; ")), rows: rows.concat() }))
}

impl Facts<'_> {
    /// The studied series, in the order of the paths.
    fn studied(&self) -> impl Iterator<Item = Series> {
        let all = self.manifest.plan.series.iter().copied();
        SendPath::STUDIED
            .into_iter()
            .flat_map(move |path| all.clone().filter(move |one| is_studied(*one) && one.path == path))
    }

    /// All six, in order.
    pub(super) fn questions(&self, decided: &[Decided<'_>]) -> Vec<Question> {
        let spoken_of = glance::spoken_of(decided);
        let of_each = |answer: &dyn Fn(&Decided<'_>) -> Option<Said>| -> Vec<Said> {
            spoken_of.iter().filter_map(|one| answer(one)).collect()
        };
        let first = spoken_of.first().map(|(ladder, _)| ladder);
        let answers = [
            ("Why does zero-copy not always give the best throughput?", of_each(&|one| self.zero_copy(one))),
            (
                "Which cache level shows the most reduction in misses, and why?",
                self.not_counted(&LEVELS, first.and_then(|ladder| self.cpu_time(ladder)))
                    .unwrap_or_else(|| of_each(&|(ladder, _)| self.cache_levels(ladder))),
            ),
            ("How does thread count interact with cache contention?", {
                let event = [Event::LlcLoadMisses];
                let by_cpu_time =
                    self.threads("CPU time of both sides, in ns per byte", |arm| arm.cpu_ns_per_byte);
                self.not_counted(&event, by_cpu_time).unwrap_or_else(|| {
                    let of = |arm: &ArmResult| misses(arm, Event::LlcLoadMisses);
                    self.threads("LLC load misses of the server per message", of).into_iter().collect()
                })
            }),
            (
                "At what message size does one-copy outperform two-copy on this system?",
                of_each(&|one| outperforms(one, SendPath::OneCopy)),
            ),
            (
                "At what message size does zero-copy outperform two-copy on this system?",
                of_each(&|one| outperforms(one, SendPath::ZeroCopy)),
            ),
            ("One unexpected result, explained by an OS or hardware concept.", {
                let copied = of_each(&|one| self.copied_after_all(one));
                if copied.is_empty() { self.longest_tail() } else { copied }
            }),
        ];
        let question = |(text, mut said): (&str, Vec<Said>)| {
            if said.is_empty() {
                said.push((false, claim("Too little of it was measured.")));
            }
            let answered = said.iter().any(|(is_answer, _)| *is_answer);
            let answer = said.into_iter().map(|(_, claim)| claim).collect();
            Question { text: text.to_owned(), answered, answer }
        };
        answers.into_iter().map(question).collect()
    }

    /// Where `zero_copy` is the fastest, by the list, and why it is not where it is not.
    fn zero_copy(&self, (ladder, decision): &Decided<'_>) -> Option<Said> {
        let zero = choice(SendPath::ZeroCopy);
        let copied = Copied::of(self.studied_arms(ladder, SendPath::ZeroCopy));
        let behind = ladder.cells.iter().find_map(|cell| over_copying(cell, zero))?;
        let is_slower = Verdict::of(behind.ratio, Metric::Throughput.margin()) == Verdict::Slower;
        let why = match copied {
            _ if !is_slower => "At no size was it found to be slower for certain.".to_owned(),
            Copied::Unknown => "Whether the kernel copied its sends was not recorded.".to_owned(),
            _ if copied.is_mostly() => format!(
                "The kernel copied {}: the copy is paid for, and the pinning of the pages and the notification of each \
                 send besides.",
                copied.shares(" of its sends after all")
            ),
            Copied::Shares { .. } => format!(
                "Each send pins its pages and is notified of (msg_zerocopy.rst){}: more than the copy of a small message \
                 costs.",
                self.fixed_cost(ladder, behind.over).unwrap_or_default()
            ),
        };
        let text = format!("{}; {}. {why}", glance::where_best(ladder, decision, zero), against(&behind));
        let rows = rows(ladder, [SendPath::ZeroCopy, behind.over.path]);
        Some((is_slower && copied != Copied::Unknown, Claim { text, rows }))
    }

    /// The arms of a studied path in a ladder.
    fn studied_arms<'a>(
        &self,
        ladder: &'a Ladder<'_>,
        path: SendPath,
    ) -> impl Iterator<Item = &'a ArmResult> {
        let series: Vec<Series> = self.studied().filter(|series| series.path == path).collect();
        series.into_iter().flat_map(|series| ladder.arms(series))
    }

    /// What a message costs more than by a path that copies, before its first byte, where the cost
    /// model holds and is sure of it: ` (1,020 ns more than writev before the first byte)`.
    fn fixed_cost(&self, ladder: &Ladder<'_>, than: Choice) -> Option<String> {
        let fit = |path: SendPath| {
            let is_it = |at: &Ladder<'_>, one: Series| {
                at.name() == ladder.name() && is_studied(one) && one.path == path
            };
            self.fits.iter().find(|(at, one, _)| is_it(at, *one))?.2.as_ref()
        };
        let (fixed, _) = fit(SendPath::ZeroCopy)?.minus(fit(than.path)?);
        fixed.interval.filter(|(low, _)| *low > 0.0)?;
        let more = significant(fixed.value, 2);
        Some(format!(", {more} ns more than {} before its first byte (cost model)", words::choice(than)))
    }

    /// What is said where one of the events was not counted, and why it was not; with what can be
    /// said in its place.
    fn not_counted(&self, events: &[Event], instead: Option<Said>) -> Option<Vec<Said>> {
        let counted = |event: &Event| {
            let mut arms = self.arms().filter(|arm| is_studied(arm.arm.case.series()));
            arms.any(|arm| arm.counted.per_message(Side::Server, *event).is_some())
        };
        let missing: Vec<&Event> = events.iter().filter(|event| !counted(event)).collect();
        let names: Vec<String> = missing.iter().map(|event| event.unit().to_owned()).collect();
        let reason = self.manifest.not_counted.get(&missing.first()?.to_string());
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let mut said = vec![(false, claim(format!("{} were not counted{reason}.", list(&names))))];
        said.extend(instead.map(|(_, Claim { text, rows })| {
            (false, Claim { text: format!("In their place: {text}"), rows })
        }));
        Some(said)
    }

    /// The CPU time of a byte by each path, at the largest size.
    fn cpu_time(&self, ladder: &Ladder<'_>) -> Option<Said> {
        let cell = ladder.cells.last()?;
        let part = |series: Series| {
            let arm = cell.arm(series)?;
            let text = format!(
                "{} {}",
                words::in_calls(series, Copied::of(std::iter::once(arm))),
                words::measure(arm.cpu_ns_per_byte?)
            );
            Some((true, text, vec![case_row(arm.arm)]))
        };
        together(self.studied().filter_map(part).collect(), |each| {
            let at = size(cell.cell.payload_bytes as f64);
            format!("CPU time of both sides at {at} with {}, in ns per byte: {each}.", words::ladder(ladder))
        })
    }

    /// How the server's misses by each path stand against those by `two_copy`: the mean over the
    /// sizes, on a log scale.
    fn cache_levels(&self, ladder: &Ladder<'_>) -> Option<Said> {
        let part = |series: Series| {
            let change = |event: Event| {
                let logs = ladder.cells.iter().filter_map(|cell| {
                    let (ours, theirs) = (cell.arm(series)?, cell.arm(TWO_COPY)?);
                    Some((misses(ours, event)?.value / misses(theirs, event)?.value).ln())
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
            let name = words::in_calls(series, Copied::of(ladder.arms(series)));
            let rows = ladder.arms(series).chain(ladder.arms(TWO_COPY)).map(|arm| case_row(arm.arm));
            (!falls.is_empty(), format!("{name}: {}: {most}", list(&written)), rows.collect())
        };
        let others = self.studied().filter(|series| series.path != SendPath::TwoCopy);
        together(others.map(part).collect(), |changes| {
            let ladder = words::ladder(ladder);
            format!("The server's misses per message against pack+send, over the sizes, {ladder}: {changes}.")
        })
    }

    /// A quantity with the fewest pairs and with the most, at the size that was measured at most
    /// numbers of pairs.
    fn threads(&self, what: &str, of: impl Fn(&ArmResult) -> Option<Measure>) -> Option<Said> {
        let cells = &self.analysis.cells;
        let key = |cell: &CellResult| (cell.cell.payload_bytes, cell.cell.situation());
        let count = |cell: &CellResult| cells.iter().filter(|other| key(other) == key(cell)).count();
        let chosen = cells.iter().rev().max_by_key(|cell| count(cell))?;
        let mut alike: Vec<&CellResult> = cells.iter().filter(|cell| key(cell) == key(chosen)).collect();
        alike.sort_by_key(|cell| cell.cell.threads);
        let [few, .., many] = alike[..] else {
            return Some((false, claim("only one number of connections was measured.")));
        };
        let part = |series: Series| {
            let arms = [few.arm(series)?, many.arm(series)?];
            let [before, after] = arms.map(&of);
            let (before, after) = (before?, after?);
            let (answers, said) = match (before.interval, after.interval) {
                (Some((_, high)), Some((low, _))) if low > high => (true, "more with more connections"),
                (Some((low, _)), Some((_, high))) if high < low => (true, "fewer with more connections"),
                (Some(_), Some(_)) => (false, "the intervals overlap"),
                _ => (false, "without intervals that may be no difference"),
            };
            let name = words::in_calls(series, Copied::of(arms.into_iter()));
            let text = format!("{name} {} and {}: {said}", words::measure(before), words::measure(after));
            Some((answers, text, arms.map(|arm| case_row(arm.arm)).into()))
        };
        together(self.studied().filter_map(part).collect(), |said| {
            format!(
                "{what} at {} ({}), with {} and with {}: {said}.",
                size(chosen.cell.payload_bytes as f64),
                words::situation(chosen.cell.situation()),
                connections(few.cell.threads),
                connections(many.cell.threads)
            )
        })
    }

    /// A path without a copy that is slower than one with a copy even at the largest size, since
    /// the kernel copied after all.
    fn copied_after_all(&self, (ladder, decision): &Decided<'_>) -> Option<Said> {
        let behind = over_copying(ladder.cells.last()?, choice(SendPath::ZeroCopy))?;
        let copied = Copied::of(self.studied_arms(ladder, SendPath::ZeroCopy));
        let is_slower = Verdict::of(behind.ratio, Metric::Throughput.margin()) == Verdict::Slower;
        if !is_slower || !copied.is_mostly() {
            return None;
        }
        let effective = self.manifest.environment.as_ref().map(|environment| &environment.effective);
        let why = if effective.is_some_and(Effective::stays_in_memory) {
            " The receiver is on this machine: before it hands a packet to a local socket, the kernel copies what the packet \
             only refers to (skb_orphan_frags_rx)."
        } else {
            ""
        };
        let text = format!(
            "{}: the path that is named after having no copy was copied in {}, and is the slower one even at the largest size: {}.{why}",
            glance::label_of(ladder, decision),
            copied.shares(" of its sends"),
            against(&behind)
        );
        Some((true, Claim { text, rows: rows(ladder, [SendPath::ZeroCopy, behind.over.path]) }))
    }

    /// The longest tail of round trips, and what was measured of it.
    fn longest_tail(&self) -> Vec<Said> {
        let tails = self.arms().filter(|arm| !arm.arm.control && is_studied(arm.arm.case.series()));
        let tails = tails.filter_map(|arm| {
            let [(_, median), _, (_, tail), _] = arm.rtt_quantiles_ns;
            Some((arm, tail?.value / median?.value))
        });
        let Some((arm, ratio)) = tails.max_by(|(_, one), (_, other)| one.total_cmp(other)) else {
            return Vec::new();
        };
        let case = arm.arm.case;
        let text = format!(
            "{}, {} with {} ({}): the 99th percentile of round trips is {} times the median. No other case has so large \
             a ratio.",
            words::in_calls(case.series(), Copied::of(std::iter::once(arm))),
            size(case.payload_bytes as f64),
            connections(case.threads),
            words::situation(case.cell().situation()),
            significant(ratio, 3)
        );
        vec![(false, Claim { text, rows: vec![case_row(arm.arm)] }), self.explained(arm)]
    }

    /// The mechanism, where a measured quantity of this arm stands out against the other paths of
    /// its cell.
    fn explained(&self, arm: &ArmResult) -> Said {
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
        if let Some(text) = QUANTITIES.iter().find_map(stands_out) {
            let rows = std::iter::once(arm).chain(others()).map(|arm| case_row(arm.arm)).collect();
            return (true, Claim { text, rows });
        }
        (
            false,
            claim(
                "Nothing that was counted explains it: no count differs much from those of the other paths.",
            ),
        )
    }
}

/// `at 8K it is -22.1 % [-23.0 %, -21.2 %] against writev`.
fn against(gain: &Gain) -> String {
    let (at, over) = (size(gain.payload_bytes as f64), words::choice(gain.over));
    format!("at {at} it is {} against {over}", words::gain(gain.ratio))
}

/// From which size on a path is faster than `two_copy`, by the ratios.
fn outperforms((ladder, decision): &Decided<'_>, path: SendPath) -> Option<Said> {
    let (one, other) = (choice(path), choice(SendPath::TwoCopy));
    let ratios: Vec<_> = ladder
        .cells
        .iter()
        .filter_map(|cell| Some((cell.cell.payload_bytes, ratio_in(cell, Metric::Throughput, one, other)?)))
        .collect();
    let (smallest, largest) = (ratios.first()?.0, ratios.last()?.0);
    let (ends, name) = (glance::at_both_ends(&ratios), words::choice(other));
    let is_close = ratios.iter().all(|(_, ratio)| Verdict::of(*ratio, CLOSE) == Verdict::Same);
    // Where the list passes from the one to the other, this says the same.
    let found = crossing(ladder, one, other).map(|found| match found.value {
        Place::At(_) => decision.border(other, one).unwrap_or(found),
        Place::Below | Place::Beyond => found,
    });
    let (is_known, said) = match found {
        None => (true, format!("against {name}")),
        Some(found) if found.low != Place::Below || found.high != Place::Beyond => {
            (true, words::break_even(found, (smallest, largest), &name))
        }
        Some(_) if is_close => (true, format!("within {} of {name} at every size", share(CLOSE))),
        Some(_) => (false, format!("not to be told from {name}")),
    };
    // A crossing is the last one: below it the path may have been the faster one before.
    let until = found.map_or(f64::INFINITY, |found| match found.value {
        Place::Below => 0.0,
        Place::At(bytes) => bytes,
        Place::Beyond => f64::INFINITY,
    });
    let margin = Metric::Throughput.margin();
    let is_faster = |(at, ratio): &&(usize, Estimate)| {
        found.is_some() && (*at as f64) < until && Verdict::of(*ratio, margin) == Verdict::Faster
    };
    let before: Vec<String> = ratios.iter().filter(is_faster).map(|(at, _)| size(*at as f64)).collect();
    let before = if before.is_empty() { before.concat() } else { format!(", and at {}", list(&before)) };
    let (label, one) = (glance::label_of(ladder, decision), words::choice(one));
    let text = format!("{label}: {one} is {said}{before}: {ends}.");
    Some((is_known, Claim { text, rows: rows(ladder, [path, SendPath::TwoCopy]) }))
}
