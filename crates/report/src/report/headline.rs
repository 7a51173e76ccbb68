//! The sentences: each is made of the data, and names the rows that it rests on.

use super::fragment_cost;
use super::page::Claim;
use super::settle;
use super::winners::{Against, Winner, beats, best_of, comparisons, fastest_path, versus, winner};
use super::words::{self, Copied, Reception, Ways, case_row, comparison_row};
use crate::case::{Engine, Layout, Receiver, SendPath, Series};
use crate::format::{bytes, distance, list, share, significant};
use crate::in_order::{distinct, grouped};
use crate::results::analysis::{Analysis, ArmResult, CPU_TIME_IS_NOT_WHOLE, CellResult, SeriesComparison};
use crate::results::cost_model::{Fit, crossing};
use crate::results::crossing::Place;
use crate::results::ladder::Ladder;
use crate::results::manifest::{Manifest, cpu_time_is_whole};
use crate::results::metric::Metric;
use crate::results::summary;
use crate::results::summary::injections;
use crate::results::verdict::Verdict;

/// What all answers are made of.
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) analysis: &'a Analysis,
    /// Of the series that all cells have.
    pub(super) ladders: &'a [Ladder<'a>],
    /// Of all series.
    pub(super) all_ladders: &'a [Ladder<'a>],
    pub(super) fits: &'a [(&'a Ladder<'a>, Series, Option<Fit>)],
    pub(super) ways: &'a Ways,
}

/// How sizes and paths are put.
#[derive(Clone, Copy)]
enum Style {
    /// By path, whatever its layout, and by engine where that is part of the answer; with this word
    /// before it.
    Headline(&'static str),
    /// With layout and what the kernel did.
    Claim,
}

/// Sizes in a row of which the same is said.
struct Range<'a> {
    said: Winner,
    cells: Vec<&'a CellResult>,
}

impl<'a> Range<'a> {
    /// Adds the next size, of which the same is said.
    fn add(&mut self, cell: &'a CellResult, said: &Winner) {
        if let (Winner::Close(_, share), Winner::Close(_, within)) = (&mut self.said, said) {
            *share = within.max(*share);
        }
        self.cells.push(cell);
    }

    fn size(cell: Option<&&CellResult>) -> String {
        cell.map_or_else(String::new, |cell| bytes(cell.cell.payload_bytes as f64))
    }

    /// `at 4 KiB`, `up to 8 KiB` where larger sizes follow, or `from 64 B to 8 KiB`.
    fn sizes(&self, is_first: bool, is_last: bool) -> String {
        let (first, last) = (Self::size(self.cells.first()), Self::size(self.cells.last()));
        if self.cells.len() == 1 {
            format!("at {first}")
        } else if is_first && !is_last {
            format!("up to {last}")
        } else {
            format!("from {first} to {last}")
        }
    }
}

/// The smallest and the largest size of a ladder.
pub(super) fn sizes_of(ladder: &Ladder<'_>) -> (usize, usize) {
    let size = |cell: Option<&&CellResult>| cell.map_or(0, |cell| cell.cell.payload_bytes);
    (size(ladder.cells.first()), size(ladder.cells.last()))
}

fn is_alone(ladder: &Ladder<'_>) -> bool {
    ladder.situation.receiver == Receiver::Sink
}

/// Of more series than these, the headline names the best and not each pair.
const MANY: usize = 6;

/// Whether so many series were measured in a ladder.
fn has_many(ladder: &Ladder<'_>) -> bool {
    let series = |cell: &&CellResult| cell.arms.iter().filter(|arm| !arm.arm.control).count();
    ladder.cells.first().map_or(0, series) > MANY
}

/// How many ladders stand in the first screen.
const SHOWN_LADDERS: usize = 4;

pub(super) fn claim(text: impl Into<String>) -> Claim {
    Claim { text: text.into(), rows: Vec::new() }
}

/// What the kernel did with the sends of some series: `zero_copy: 100 % copied; zero_copy, page: 0
/// % copied`.
fn each_copied(series: impl Iterator<Item = (Series, Copied)>) -> String {
    let each = series.map(|(series, copied)| format!("{}: {copied}", words::plain(series)));
    each.collect::<Vec<_>>().join("; ")
}

/// What the kernel did with the sends of path `zero_copy` in a ladder; none where there were none.
fn zero_copied(ladder: &Ladder<'_>) -> Option<Copied> {
    let arms = ladder.cells.iter().flat_map(|cell| &cell.arms);
    let mut zero = arms.filter(|arm| !arm.arm.control && arm.arm.case.path == SendPath::ZeroCopy).peekable();
    zero.peek()?;
    Some(Copied::of(zero))
}

impl Facts<'_> {
    pub(super) fn has(&self, series: Series) -> bool {
        self.manifest.plan.series.contains(&series)
    }

    /// The series whose sends bear `MSG_ZEROCOPY`. Of one that failed everywhere there is nothing
    /// to say.
    fn zero_copy_series(&self) -> Vec<Series> {
        let failed = |series: Series| {
            let mut arms = self.arms().filter(|arm| arm.arm.case.series() == series);
            arms.all(|arm| arm.error.is_some() && arm.bursts == 0)
        };
        let all = self.manifest.plan.series.iter().copied();
        all.filter(|series| series.path.is_zero_copy() && !failed(*series)).collect()
    }

    /// Whether the path `zero_copy` was measured, however.
    fn has_zero_copy(&self) -> bool {
        self.manifest.plan.series.iter().any(|series| series.path == SendPath::ZeroCopy)
    }

    pub(super) fn arms(&self) -> impl Iterator<Item = &ArmResult> {
        self.analysis.arms()
    }

    /// What the kernel did with the sends of each `zero_copy` series.
    fn copied(&self) -> Vec<(Series, Copied)> {
        let of = |series| Copied::of(self.arms().filter(move |arm| arm.arm.case.series() == series));
        self.zero_copy_series().into_iter().map(|series| (series, of(series))).collect()
    }

    /// A series with what the kernel did in one ladder.
    pub(super) fn name_in(ladder: &Ladder<'_>, series: Series) -> String {
        words::series(series, Copied::of(ladder.arms(series)))
    }

    /// Every receiver with every source and shape that were measured together, in the order of the
    /// plan. What is said of one does not hold of another.
    fn receptions(&self) -> Vec<Reception> {
        distinct(self.analysis.cells.iter().map(|cell| Reception::of(cell.cell)))
    }

    /// The cells of one receiver, source and shape.
    fn received_by(&self, reception: Reception) -> Vec<&CellResult> {
        let of = |cell: &&CellResult| Reception::of(cell.cell) == reception;
        self.analysis.cells.iter().filter(of).collect()
    }

    fn comparisons(&self, metric: Metric) -> impl Iterator<Item = &SeriesComparison> {
        self.analysis
            .cells
            .iter()
            .flat_map(|cell| &cell.comparisons)
            .filter(move |comparison| comparison.metric == metric)
    }

    /// The ladders that the first sentences are about: the first of the sender alone, and the first
    /// with a receiver.
    pub(super) fn spoken_of(&self) -> Vec<&Ladder<'_>> {
        let first = |alone: bool| self.ladders.iter().find(|ladder| is_alone(ladder) == alone);
        [true, false].into_iter().filter_map(first).collect()
    }

    /// What is to be used: in one sentence, or where the sender was measured alone and with a
    /// receiver, in two. And what would settle what is undecided.
    pub(super) fn headline(&self) -> String {
        let ladders = self.spoken_of();
        let Some(first) = ladders.first() else { return "Nothing was measured.".to_owned() };
        let has_alone = is_alone(first);
        let sentence = |ladder: &&Ladder<'_>| match is_alone(ladder) {
            true => Self::sending_alone(ladder),
            false if has_alone => self.received(ladder),
            false => format!(
                "On this machine, by throughput with {}: {}.{}",
                words::ladder(ladder),
                Self::by_size(ladder, Style::Headline("use ")),
                self.copied_sentence()
            ),
        };
        let sentences = ladders.iter().map(sentence).chain(Self::settled_by(&ladders));
        sentences.collect::<Vec<_>>().join(" ")
    }

    /// `Sending alone (one connection, request/response, data in cache; not copied): two_copy up to
    /// 4 KiB (95 %: 3.1 to 5.2 KiB; past 16 KiB at 90 ns a fragment), zero_copy from there, 2.3
    /// times as fast as one_copy at 256 KiB.`
    fn sending_alone(ladder: &Ladder<'_>) -> String {
        let copied = match zero_copied(ladder) {
            None => String::new(),
            Some(copied) if copied.is_none() => "; not copied".to_owned(),
            Some(copied) => format!("; zero_copy: {copied}"),
        };
        let which = ladder.situation.in_words(ladder.threads) + &words::added_to(ladder);
        let by_size = Self::by_size(ladder, Style::Headline(""));
        let passes = Self::zero_copy_passes(ladder);
        format!("Sending alone ({which}{copied}): {by_size}.{passes}")
    }

    /// From which sizes on zero-copy is faster than each other path, with a space before it: by the
    /// ratios, which have an answer where a verdict at the sizes themselves has none. The path that
    /// it takes over from is not named again.
    fn zero_copy_passes(ladder: &Ladder<'_>) -> String {
        let ranges = Self::ranges(ladder, Style::Headline(""));
        let taken_over = ranges.windows(2).find_map(|pair| match (&pair[0].said, &pair[1].said) {
            (Winner::Clear(old, _), Winner::Clear(new, _)) if new.path == SendPath::ZeroCopy => {
                Self::takes_over(ladder, (*old, *new), &pair[0]).map(|_| old.path)
            }
            _ => None,
        });
        // The plan's first layout of each path.
        let series = |path: SendPath| {
            let arms = &ladder.cells.first()?.arms;
            arms.iter().map(|arm| arm.arm.case.series()).find(|series| series.path == path)
        };
        let passes = |path: SendPath| {
            let found = crossing(ladder, series(SendPath::ZeroCopy)?, series(path)?)?;
            Some(format!("{path} from {}", words::crossing(found, sizes_of(ladder))?))
        };
        let pairs: Vec<String> = [SendPath::TwoCopy, SendPath::OneCopy]
            .into_iter()
            .filter(|path| Some(*path) != taken_over)
            .filter_map(passes)
            .collect();
        if pairs.is_empty() {
            String::new()
        } else {
            format!(" Alone, zero_copy is faster than {}.", pairs.join(", and than "))
        }
    }

    /// A series as a headline names it: the path, and the engine where that is part of the answer.
    fn in_headline(series: Series, against: Against) -> Series {
        let engine = if against == Against::Series { series.engine } else { Engine::Syscall };
        Series::new(series.path, Layout::Heap).by(engine)
    }

    /// What is said of the sizes of a ladder, in ranges. Where the fastest two are series of one
    /// path, that path is the one to use.
    fn ranges<'a>(ladder: &Ladder<'a>, style: Style) -> Vec<Range<'a>> {
        let is_alike = |one: (Series, Against), other: (Series, Against)| match style {
            Style::Headline(_) => Self::in_headline(one.0, one.1) == Self::in_headline(other.0, other.1),
            Style::Claim => one.0 == other.0,
        };
        // Of many, a headline does not name those that are open: from size to size they are others.
        let is_short = matches!(style, Style::Headline(_)) && has_many(ladder);
        let said = |cell: &CellResult| match (winner(cell, Metric::Throughput), fastest_path(cell)) {
            (clear @ Winner::Clear(..), _) => clear,
            (_, Some(series)) => Winner::Clear(series, Against::Paths),
            (Winner::Open(_), None) if is_short => Winner::Open(Vec::new()),
            // Why there is nothing is said by the maps.
            (Winner::Nothing(_), None) => Winner::Nothing(String::new()),
            (other, None) => other,
        };
        let mut ranges: Vec<Range<'a>> = Vec::new();
        for &cell in &ladder.cells {
            let said = said(cell);
            let last = ranges.last_mut().filter(|range| match (&range.said, &said) {
                (Winner::Clear(last, by), Winner::Clear(series, against)) => {
                    is_alike((*last, *by), (*series, *against))
                }
                (Winner::Close(last, _), Winner::Close(series, _)) => last == series,
                (last, said) => last == said,
            });
            match last {
                Some(range) => range.add(cell, &said),
                None => ranges.push(Range { said, cells: vec![cell] }),
            }
        }
        ranges
    }

    /// Which path is to be used over which sizes. Where one takes over from another is where the
    /// ratio of the two passes 1. A headline says as well by how much the last one is ahead.
    fn by_size(ladder: &Ladder<'_>, style: Style) -> String {
        let ranges = Self::ranges(ladder, style);
        let (word, is_headline) = match style {
            Style::Headline(word) => (word, true),
            Style::Claim => ("use ", false),
        };
        let series_at = |index: usize| match ranges.get(index) {
            Some(Range { said: Winner::Clear(series, _), .. }) => Some(*series),
            _ => None,
        };
        let name = |series: Series, against: Against| match style {
            Style::Headline(_) => words::plain(Self::in_headline(series, against)),
            Style::Claim => Self::name_in(ladder, series),
        };
        // Of many, each with what the kernel did is more than can be read.
        let names = |series: &[Series]| match style {
            Style::Claim if !has_many(ladder) => {
                list(&series.iter().map(|series| Self::name_in(ladder, *series)).collect::<Vec<_>>())
            }
            _ => words::together(series),
        };
        let part = |(index, range): (usize, &Range<'_>)| {
            let (is_first, is_last) = (index == 0, index + 1 == ranges.len());
            let sizes = || range.sizes(is_first, is_last);
            let (series, against) = match &range.said {
                Winner::Nothing(_) => return format!("the data cannot say {}", sizes()),
                Winner::Open(series) => {
                    let which = match series.len() {
                        0 => return format!("no way is known to be the fastest {}", sizes()),
                        2 => format!("{} is faster", names(series)),
                        many if many > MANY => format!("{many} ways is the fastest"),
                        _ => format!("{} is the fastest", names(series)),
                    };
                    return format!("the data cannot say which of {which} {}", sizes());
                }
                Winner::Close(series, within) => {
                    let simplest = words::simplest(series).map_or_else(String::new, words::plain);
                    let simple = if series.len() == 2 { "simpler" } else { "simplest" };
                    return format!(
                        "{} are within {} of each other {} (take {simplest}, the {simple})",
                        names(series),
                        share(*within),
                        sizes()
                    );
                }
                Winner::Clear(series, against) => (*series, *against),
            };
            let path = name(series, against);
            let follows = index > 0 && series_at(index - 1).is_some();
            let next = series_at(index + 1);
            let until = next
                .and_then(|next| Self::takes_over(ladder, (series, next), range))
                .unwrap_or_else(|| Range::size(range.cells.last()));
            match (is_first, is_last) {
                (true, true) if range.cells.len() > 1 => format!("{word}{path} at every size {}", sizes()),
                (_, true) if follows => format!("{path} from there"),
                (_, true) if range.cells.len() > 1 => {
                    format!("{word}{path} from {}", Range::size(range.cells.first()))
                }
                (_, false) if follows && next.is_some() => format!("{path} to {until}"),
                (true, false) if next.is_some() || range.cells.len() > 1 => {
                    format!("{word}{path} up to {until}")
                }
                _ => format!("{word}{path} {}", sizes()),
            }
        };
        let mut parts: Vec<String> = ranges.iter().enumerate().map(part).collect();
        if let Some(Range { said: Winner::Clear(..), cells }) = ranges.last().filter(|_| is_headline) {
            parts.extend(Self::largest_gain(cells));
        }
        parts.join(", ")
    }

    /// The size at which the path of the next range passes that of `range`, where the ratios pass 1
    /// between the two.
    fn takes_over(ladder: &Ladder<'_>, (old, new): (Series, Series), range: &Range<'_>) -> Option<String> {
        let last = range.cells.last()?.cell.payload_bytes;
        let next = ladder.cells.iter().map(|cell| cell.cell.payload_bytes).find(|size| *size > last)?;
        let found = crossing(ladder, new, old)?;
        let is_between = matches!(found.value, Place::At(at) if (last as f64..=next as f64).contains(&at));
        words::crossing(found, sizes_of(ladder)).filter(|_| is_between)
    }

    /// `A sweep with --size 8K --time 30s would settle what is undecided (an estimate from the
    /// spread seen).`
    fn settled_by(ladders: &[&Ladder<'_>]) -> Option<String> {
        let options: Vec<String> = ladders
            .iter()
            .filter_map(|ladder| {
                let ranges = Self::ranges(ladder, Style::Claim);
                let open: Vec<(&CellResult, &[Series])> = ranges
                    .iter()
                    .filter_map(|range| match &range.said {
                        Winner::Close(series, _) | Winner::Open(series) => Some((range, series.as_slice())),
                        Winner::Clear(..) | Winner::Nothing(_) => None,
                    })
                    .flat_map(|(range, series)| range.cells.iter().map(move |cell| (*cell, series)))
                    .collect();
                settle::options(&open)
            })
            .collect();
        let sweeps = match &options[..] {
            [] => return None,
            [one] => format!("A sweep with {one}"),
            several => format!("Sweeps with {}", several.join(", and with ")),
        };
        Some(format!("{sweeps} would settle what is undecided (an estimate from the spread seen)."))
    }

    /// By how much the fastest path is ahead of the next, where it is the most.
    fn largest_gain(cells: &[&CellResult]) -> Option<String> {
        let gain = |cell: &&CellResult| {
            let best = fastest_path(cell)?;
            let next = best_of(cell, best.path, false)?;
            Some((versus(cell, Metric::Throughput, best, next)?.0.value, next, cell.cell.payload_bytes))
        };
        let most = cells.iter().filter_map(gain).max_by(|one, other| one.0.total_cmp(&other.0));
        most.map(|(ratio, Series { path: next, .. }, size)| {
            let ahead = if ratio >= 1.5 {
                format!("{} times as fast as {next}", significant(ratio, 2))
            } else {
                format!("{} faster than {next}", distance(ratio - 1.0))
            };
            format!("{ahead} at {}", bytes(size as f64))
        })
    }

    /// `Over veth to a local receiver the kernel copies it after all: zero_copy takes 12 % to 25 %
    /// longer than the best other path at every size from 64 B to 64 KiB.`
    fn received(&self, ladder: &Ladder<'_>) -> String {
        let which = ladder.situation.in_words(ladder.threads);
        let way = format!("{} ({which})", self.ways.to_a_receiver());
        if !self.has_zero_copy() {
            return format!("{way}: {}.", Self::by_size(ladder, Style::Headline("use ")));
        }
        let kernel = match zero_copied(ladder).unwrap_or(Copied::Unknown) {
            Copied::Unknown => "it was not recorded whether the kernel copies".to_owned(),
            copied @ Copied::Shares { .. } if copied.is_none() => "the kernel does not copy it".to_owned(),
            copied @ Copied::Shares { .. } if copied.is_all() => "the kernel copies it after all".to_owned(),
            copied @ Copied::Shares { .. } => format!("the kernel copies {}", copied.shares(" of the sends")),
        };
        let mut longer = Vec::new();
        for &cell in &ladder.cells {
            let both = best_of(cell, SendPath::ZeroCopy, true).zip(best_of(cell, SendPath::ZeroCopy, false));
            let found = both.and_then(|(zero, other)| versus(cell, Metric::Throughput, zero, other));
            if let Some((ratio, Verdict::Slower, _)) = found {
                longer.push((1.0 / ratio.value - 1.0, bytes(cell.cell.payload_bytes as f64)));
            }
        }
        let mut parts = vec![format!("{way} {kernel}")];
        if let (Some((_, first)), Some((_, last))) = (longer.first(), longer.last()) {
            let costs = || longer.iter().map(|(cost, _)| *cost);
            let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
            let (cost, _) = words::least_to_most(&distance(least), &distance(most));
            let sizes: Vec<String> = longer.iter().map(|(_, size)| size.clone()).collect();
            // From the smallest on, without a gap.
            let in_a_row = Range::size(ladder.cells.get(longer.len() - 1)) == *last;
            let at = if in_a_row && longer.len() > 1 {
                format!("at every size from {first} to {last}")
            } else {
                format!("at {}", list(&sizes))
            };
            parts.push(format!("zero_copy takes {cost} longer than the best other path {at}"));
        }
        let costs = parts.join(": ");
        format!("{costs}; {}.", Self::by_size(ladder, Style::Headline("use ")))
    }

    /// A ladder's name, and in a sweep that has both ways, which of them it is.
    fn ladder_with_way(&self, ladder: &Ladder<'_>) -> String {
        let name = words::ladder(ladder);
        if is_alone(ladder) {
            name
        } else {
            name.replacen(')', &format!("{})", self.ways.suffix(ladder.situation.receiver)), 1)
        }
    }

    /// What the kernel did with `MSG_ZEROCOPY` sends, with a space before it; nothing where there
    /// were none.
    fn copied_sentence(&self) -> String {
        let copied = self.copied();
        let Some(&(_, first)) = copied.first() else { return String::new() };
        match first {
            _ if copied.iter().any(|(_, other)| *other != first) => {
                let each = each_copied(copied.into_iter());
                format!(" What the kernel did with MSG_ZEROCOPY sends: {each}.")
            }
            Copied::Unknown => " Whether the kernel copied MSG_ZEROCOPY sends was not recorded.".to_owned(),
            copied @ Copied::Shares { .. } if copied.is_none() => {
                " None of the MSG_ZEROCOPY sends was copied.".to_owned()
            }
            copied @ Copied::Shares { .. } => {
                format!(" The kernel copied {}.", copied.shares(" of the MSG_ZEROCOPY sends after all"))
            }
        }
    }

    /// From which size on each path is faster than the baseline, with a space before it; where that
    /// was not said already.
    fn break_evens(ladder: &Ladder<'_>, said: &str) -> String {
        let Some((baseline, others)) = ladder.cells.first().and_then(|cell| cell.arms.split_first()) else {
            return String::new();
        };
        // Of many, the figures and the tables say it.
        if has_many(ladder) {
            return String::new();
        }
        let baseline = baseline.arm.case.series();
        let found = others.iter().filter(|arm| !arm.arm.control).filter_map(|arm| {
            let series = arm.arm.case.series();
            let found = crossing(ladder, series, baseline)?;
            let at = words::crossing(found, sizes_of(ladder)).filter(|at| !said.contains(at.as_str()))?;
            Some(format!("{} from {at}", Self::name_in(ladder, series)))
        });
        let found: Vec<String> = found.collect();
        if found.is_empty() {
            String::new()
        } else {
            format!(" Faster than {}: {}.", words::plain(baseline), list(&found))
        }
    }

    /// What stands below the headline.
    pub(super) fn verdict(&self) -> Vec<Claim> {
        let baseline = self.manifest.plan.series.first();
        let mut ladders: Vec<&Ladder<'_>> = self.ladders.iter().collect();
        ladders.sort_by_key(|ladder| !is_alone(ladder));
        let mut claims: Vec<Claim> = ladders
            .into_iter()
            .take(SHOWN_LADDERS)
            .map(|ladder| (ladder, Self::by_size(ladder, Style::Claim)))
            .map(|(ladder, by_size)| Claim {
                text: format!(
                    "With {}: {by_size}.{}",
                    self.ladder_with_way(ladder),
                    Self::break_evens(ladder, &by_size)
                ),
                rows: ladder
                    .cells
                    .iter()
                    .flat_map(|cell| cell.comparisons.iter())
                    .filter(|comparison| comparison.metric == Metric::Throughput)
                    .filter(|comparison| !has_many(ladder) || Some(&comparison.baseline) == baseline)
                    .map(comparison_row)
                    .collect(),
            })
            .collect();
        if self.ladders.len() > SHOWN_LADDERS {
            let more = self.ladders.len() - SHOWN_LADDERS;
            claims.push(claim(format!(
                "The decision maps show {more} more combinations of pairs, workload, placement, receiver, source and shape."
            )));
        }
        if self.has_zero_copy() {
            claims.extend(self.receptions().into_iter().map(|reception| self.zero_copy_wins(reception)));
        }
        claims.extend(self.all_ladders.iter().filter_map(|ladder| self.on_huge_pages(ladder)));
        claims.extend(fragment_cost::claims(self.all_ladders));
        claims.push(self.control());
        claims.extend(injections(self.manifest).map(|text| {
            let of_sink = |arm: &&ArmResult| arm.arm.case.receiver == Receiver::Sink;
            Claim { text, rows: self.arms().filter(of_sink).map(|arm| case_row(arm.arm)).collect() }
        }));
        claims
    }

    /// What huge pages gain over the ordinary pages that `zero_copy` is best on, where both were
    /// measured.
    fn on_huge_pages(&self, ladder: &Ladder<'_>) -> Option<Claim> {
        let huge = Series::new(SendPath::ZeroCopy, Layout::Huge);
        let page = Series::new(SendPath::ZeroCopy, Layout::Page);
        let measured = ladder.cells.iter().filter_map(|cell| {
            let (ratio, verdict, comparison) = versus(cell, Metric::Throughput, huge, page)?;
            let verdict = Metric::Throughput.verdict(verdict, ratio, Metric::Throughput.margin());
            let text =
                format!("{} at {} ({verdict})", words::gain(ratio), bytes(cell.cell.payload_bytes as f64));
            Some((text, comparison_row(comparison)))
        });
        let (gains, rows): (Vec<String>, Vec<String>) = measured.unzip();
        let text = format!(
            "Where you send by zero_copy, put the data on huge pages (layout huge): a message then lies in a few fragments \
             and not in one for each page, which a card's driver saves most of. Against ordinary pages, {}: {}.",
            self.ladder_with_way(ladder),
            list(&gains)
        );
        (!gains.is_empty()).then_some(Claim { text, rows })
    }

    /// In how many cells a series of path `zero_copy` is better than every other path, to one
    /// receiver, of one source and shape.
    fn zero_copy_wins(&self, reception: Reception) -> Claim {
        let cells = self.received_by(reception);
        let (mut wins, mut judged, mut behind, mut plain) = (0, 0, 0, 0);
        for &cell in &cells {
            let (zero, others): (Vec<Series>, Vec<Series>) =
                cell.series().partition(|one| one.path == SendPath::ZeroCopy);
            let known = |one: Series| {
                others.iter().filter_map(move |&other| versus(cell, Metric::Throughput, one, other))
            };
            let beats_all =
                |one: &Series| others.iter().all(|&other| beats(cell, Metric::Throughput, *one, other));
            wins += usize::from(!others.is_empty() && zero.iter().any(beats_all));
            judged += usize::from(zero.iter().any(|one| known(*one).next().is_some()));
            let best = |is_zero: bool| {
                Some(cell.arm(best_of(cell, SendPath::ZeroCopy, is_zero)?)?.throughput_gbps?.value)
            };
            if let (Some(zero), Some(other)) = (best(true), best(false)) {
                plain += 1;
                behind += usize::from(zero < other);
            }
        }
        let is_there = |series: &Series| cells.iter().any(|cell| cell.arm(*series).is_some());
        let copied = self.zero_copy_series().into_iter().filter(|one| one.path == SendPath::ZeroCopy);
        let copied = copied
            .filter(is_there)
            .map(|series| (series, Copied::of(cells.iter().filter_map(|cell| cell.arm(series)))));
        let given = self.ways.reception(reception);
        let mut text =
            format!("Zero-copy wins in {} of {} cells{given} ({}).", wins, cells.len(), each_copied(copied));
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
            .filter(|comparison| {
                [comparison.series.path, comparison.baseline.path].contains(&SendPath::ZeroCopy)
            })
            .map(comparison_row)
            .collect();
        if judged == 0 {
            let arms = cells.iter().flat_map(|cell| &cell.arms);
            rows = arms.map(|arm| case_row(arm.arm)).collect();
        }
        Claim { text, rows }
    }

    /// What the control arms say of the noise.
    fn control(&self) -> Claim {
        let is_control = |arm: &&ArmResult| arm.arm.control;
        Claim {
            text: summary::control(self.analysis),
            rows: self.arms().filter(is_control).map(|arm| case_row(arm.arm)).collect(),
        }
    }

    /// Whether some bursts carried counters and others were timed.
    pub(super) fn counted_apart(&self) -> bool {
        self.arms().any(|arm| arm.counted.messages > 0 && arm.bursts > 0)
    }

    /// Arms that failed, each once; those of a series that failed of one cause in several cells
    /// together.
    fn failures(&self) -> Vec<String> {
        let causes = self.arms().filter_map(|arm| Some(((arm.arm.case.series(), arm.error.as_ref()?), arm)));
        let text = |((series, error), arms): ((Series, &String), Vec<&ArmResult>)| match arms[..] {
            [one] => format!("{} failed: {error}", one.arm.case),
            _ => format!("{} failed in {} cells: {error}", words::plain(series), arms.len()),
        };
        grouped(causes).into_iter().map(text).collect()
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
        warnings.extend(self.failures());
        let with_baseline = || {
            let baseline = self.manifest.plan.series.first();
            self.comparisons(Metric::Throughput).filter(move |found| Some(&found.baseline) == baseline)
        };
        let is_undecided = |found: &&SeriesComparison| {
            found.outcome.as_ref().is_ok_and(|outcome| outcome.verdict == Verdict::Undecided)
        };
        let undecided = with_baseline().filter(is_undecided).count();
        if undecided > 0 {
            let all = with_baseline().count();
            warnings.push(format!(
                "{undecided} of {all} comparisons with the baseline by throughput are undecided: a longer sweep \
                 (--time) narrows their intervals. To go on with this one (--resume) is a second look, which has to be \
                 surer: it pays from about twice the time."
            ));
        }
        if self.manifest.program.dirty {
            warnings
                .push("The program was built from a tree with changes that were not committed.".to_owned());
        }
        warnings
    }
}
