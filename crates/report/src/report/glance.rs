//! The answer at a glance: the decision as a headline, as strips for the page, and as a few lines
//! for a terminal. All three are drawn from one list of [`Decision`]s.

use super::fragment_cost;
use super::page::{Span, Strip, Trust};
use super::words::{self, Copied, choice, choices};
use crate::case::{Placement, Receiver, SendPath, Series, Shape, Source, Workload};
use crate::format::{digits, share, size};
use crate::in_order::{ascending, distinct};
use crate::results::decision::{Choice, Decision, Gain, Range, Standing};
use crate::results::ladder::Ladder;
use crate::results::stats::Estimate;

/// A headline is read at a glance: so many words at most.
const HEADLINE_WORDS: usize = 25;
/// A terminal's width, in columns.
const COLUMNS: usize = 80;
/// A part of a strip is at least so wide, in percent.
const LEAST_WIDTH: f64 = 1.5;
/// Two sizes at borders stand beside each other from such a distance on, in percent.
const MARKS_APART: f64 = 6.0;
/// So many situations stand on a terminal at most, and so many lines; the others stand on the page.
const SHOWN: usize = 6;
const LINES: usize = 13;

/// A decision with the ladder that it was read off.
pub(super) type Decided<'a> = (&'a Ladder<'a>, Decision);

/// The decisions of a sweep: the sender alone first.
pub(super) fn decided<'a>(ladders: &'a [Ladder<'a>]) -> Vec<Decided<'a>> {
    let mut decided: Vec<_> = ladders.iter().map(|ladder| (ladder, Decision::of(ladder))).collect();
    decided.sort_by_key(|(ladder, _)| ladder.situation.receiver != Receiver::Sink);
    decided
}

/// The situation in as few words as tell it from the others.
fn label(ladder: &Ladder<'_>, decision: &Decision) -> String {
    let situation = decision.situation;
    let words = [
        Some(words::receiver_label(situation.receiver)),
        (decision.threads != 1).then(|| format!("{} connections", decision.threads)),
        (situation.workload == Workload::Stream).then(|| "stream".to_owned()),
        (situation.source == Source::Cold).then(|| "cold data".to_owned()),
        (situation.placement != Placement::Paired).then(|| situation.placement.to_string()),
        (situation.shape != Shape::default()).then(|| format!("shape {}", situation.shape)),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    words.join(", ") + &words::added_to(ladder)
}

/// The same at the beginning of a sentence.
pub(super) fn label_of(ladder: &Ladder<'_>, decision: &Decision) -> String {
    let label = label(ladder, decision);
    let (initial, rest) = label.split_at(1);
    initial.to_uppercase() + rest
}

/// `Sender alone: MSG_ZEROCOPY is the fastest from 45K to 1M`.
pub(super) fn where_best(ladder: &Ladder<'_>, decision: &Decision, one: Choice) -> String {
    let best = decision.ranges.iter().filter(|range| range.best() == Some(one));
    let sizes = best.map(|range| match [range.from_bytes, range.to_bytes].map(size) {
        [from, to] if from == to => format!("at {from}"),
        [from, to] => format!("from {from} to {to}"),
    });
    let sizes = sizes.collect::<Vec<_>>().join(", ");
    let sizes = if sizes.is_empty() { "at no size".to_owned() } else { sizes };
    format!("{}: {} is the fastest {sizes}", label_of(ladder, decision), choice(one))
}

/// Ratios at the smallest size and at the largest: `+2.0 % at 8K, +11 % at 64K`.
pub(super) fn at_both_ends(ratios: &[(usize, Estimate)]) -> String {
    let ends = [ratios.first(), ratios.last()].into_iter().flatten();
    distinct(ends.map(|(at, ratio)| format!("{} at {}", words::gain(*ratio), size(*at as f64)))).join(", ")
}

/// What is said of a range, in a few words.
fn said(standing: &Standing, by: &str) -> String {
    match standing {
        Standing::Best { choice: best, .. } => choice(*best),
        Standing::Close { choices: alike, .. } if alike.len() == 2 => choices(alike, by),
        Standing::Close { .. } => "several alike".to_owned(),
        Standing::Open { .. } => "undecided".to_owned(),
        Standing::NotMeasured => "not measured".to_owned(),
    }
}

/// `pack+send to 12K, writev to 48K, then MSG_ZEROCOPY`.
fn phrase(decision: &Decision) -> String {
    let Some((last, before)) = decision.ranges.split_last() else {
        return "nothing could be compared".to_owned();
    };
    let end = said(&last.standing, " or ");
    if before.is_empty() {
        return match decision.sizes[..] {
            [one] => format!("{end} at {}", size(one as f64)),
            _ => format!("{end} at every size"),
        };
    }
    let parts =
        before.iter().map(|range| format!("{} to {}", said(&range.standing, " or "), size(range.to_bytes)));
    format!("{}, then {end}", parts.collect::<Vec<_>>().join(", "))
}

/// The whole decision in a sentence, with its numbers.
pub(super) fn sentence(decision: &Decision) -> String {
    match decision.ranges[..] {
        [] => phrase(decision),
        ref ranges => ranges.iter().map(in_words).collect::<Vec<_>>().join(" · "),
    }
}

/// The last range alone, where all are more than can be read.
fn short_phrase(decision: &Decision) -> String {
    match decision.ranges.last() {
        Some(last) if decision.ranges.len() > 1 => {
            format!("{} from {}", said(&last.standing, " or "), size(last.from_bytes))
        }
        _ => phrase(decision),
    }
}

/// The situations that the headline is about: the first of the sender alone, and the first with a
/// receiver.
pub(super) fn spoken_of<'a, 'b>(decided: &'b [Decided<'a>]) -> Vec<&'b Decided<'a>> {
    let first = |alone: bool| {
        decided.iter().find(|(_, decision)| (decision.situation.receiver == Receiver::Sink) == alone)
    };
    [true, false].into_iter().filter_map(first).collect()
}

/// What is to be used, in at most 25 words: of the sender alone, and of the first receiver.
pub(super) fn headline(decided: &[Decided<'_>]) -> String {
    let spoken_of = spoken_of(decided);
    let sentence = |(ladder, decision): &Decided<'_>, phrase: fn(&Decision) -> String| {
        format!("{}: {}.", label_of(ladder, decision), phrase(decision))
    };
    let with = |phrase: fn(&Decision) -> String| {
        spoken_of.iter().map(|one| sentence(one, phrase)).collect::<Vec<_>>()
    };
    let fits = |sentences: &[String]| sentences.join(" ").split_whitespace().count() <= HEADLINE_WORDS;
    match spoken_of[..] {
        [] => "Nothing was measured.".to_owned(),
        [first, ..] => [
            with(phrase),
            vec![sentence(first, phrase)],
            with(short_phrase),
            vec![sentence(first, short_phrase)],
        ]
        .into_iter()
        .find(|sentences| fits(sentences))
        .unwrap_or_else(|| vec!["The strips below say which way is the fastest, by size.".to_owned()])
        .join(" "),
    }
}

/// By how much one is faster than the next: `2.7× writev`.
fn ahead(gain: &Gain) -> String {
    let ratio = gain.ratio.value;
    let by = if ratio >= 1.5 {
        format!("{}×", digits(ratio, 2))
    } else {
        format!("{} % over", digits((ratio - 1.0) * 100.0, 2))
    };
    format!("{by} {}", choice(gain.over))
}

/// `2.7× writev at 1M`.
fn ahead_at(gain: &Gain) -> String {
    format!("{} at {}", ahead(gain), size(gain.payload_bytes as f64))
}

/// Whether the kernel copied what a ladder's `MSG_ZEROCOPY` sends gave it; none where there are
/// none.
fn copied(ladder: &Ladder<'_>) -> Option<Copied> {
    let arms = ladder.cells.iter().flat_map(|cell| &cell.arms);
    let mut zero = arms.filter(|arm| !arm.arm.control && arm.arm.case.path == SendPath::ZeroCopy).peekable();
    zero.peek()?;
    Some(Copied::of(zero))
}

/// What the kernel did with `MSG_ZEROCOPY` there: `MSG_ZEROCOPY: about 100 % copied`.
fn note(ladder: &Ladder<'_>) -> Option<String> {
    copied(ladder).map(|copied| format!("MSG_ZEROCOPY: {copied}"))
}

/// From which size on a card's driver leaves zero-copy ahead, by what it takes for a fragment:
/// `from 64K if its driver takes under 83 ns a page, from 256K under 262 ns`.
fn with_a_card(ladder: &Ladder<'_>) -> Option<String> {
    let ahead = fragment_cost::bearable_by_size(ladder)?;
    let mut parts = ahead.iter().take(2).enumerate().map(|(index, (bytes, ns))| {
        let takes = if index == 0 { "if its driver takes under" } else { "under" };
        let page = if index == 0 { " a page" } else { "" };
        format!("from {} {takes} {ns:.0} ns{page}", size(*bytes as f64))
    });
    let first = parts.next()?;
    Some(parts.fold(first, |text, part| format!("{text}, {part}")))
}

/// Where a size stands between the smallest and the largest, in percent.
fn place(bytes: f64, (smallest, largest): (f64, f64)) -> f64 {
    if largest <= smallest { 0.0 } else { 100.0 * (bytes / smallest).ln() / (largest / smallest).ln() }
}

/// The strips of the page: one for each situation, all by one axis; and that axis' ticks.
pub(super) fn strips(decided: &[Decided<'_>], series: &[Series]) -> (Vec<Strip>, Vec<(f64, String)>) {
    let sizes = ascending(decided.iter().flat_map(|(_, decision)| decision.sizes.iter().copied()));
    let axis = match sizes[..] {
        [] => return (Vec::new(), Vec::new()),
        [first, .., last] => (first as f64, last as f64),
        [one] => (one as f64, one as f64),
    };
    let strip = |(ladder, decision): &Decided<'_>| {
        let within = decision.ranges.iter().filter_map(|range| range.begins_within_bytes);
        Strip {
            label: label(ladder, decision),
            facets: words::facets(decision.situation, Some(decision.threads), "throughput"),
            // One size alone is too narrow to bear its name.
            note: if decision.sizes.len() == 1 { phrase(decision) } else { note(ladder).unwrap_or_default() },
            text: phrase(decision),
            spans: spans(decision, axis, series),
            unsure: within
                .map(|(low, high)| (place(low, axis), place(high, axis) - place(low, axis)))
                .collect(),
        }
    };
    let ticks = sizes.iter().map(|bytes| (place(*bytes as f64, axis), size(*bytes as f64))).collect();
    (decided.iter().map(strip).collect(), ticks)
}

/// `writev, 10K to 46K: 25 % over pack+send at 16K; begins between 10K and 17K (95 %)`.
fn in_words(range: &Range) -> String {
    let begins = range.begins_within_bytes.map_or_else(String::new, |(low, high)| {
        format!("; begins between {} and {} (95 %)", size(low), size(high))
    });
    let more = match &range.standing {
        Standing::Best { gain, over_copying, .. } => {
            distinct([gain, over_copying].into_iter().flatten().map(ahead_at)).join(", ")
        }
        Standing::Close { choices: alike, share: within } => {
            format!("{} differ by less than {}", choices(alike, ", "), share(*within))
        }
        Standing::Open { choices: open } => {
            format!("which is the fastest is not known: {}", choices(open, " or "))
        }
        Standing::NotMeasured => "no size between was measured".to_owned(),
    };
    let more = if more.is_empty() { more } else { format!(": {more}") };
    let sizes = [range.from_bytes, range.to_bytes].map(size);
    let sizes = if sizes[0] == sizes[1] { format!("at {}", sizes[0]) } else { sizes.join(" to ") };
    format!("{}, {sizes}{more}{begins}", said(&range.standing, " ≈ "))
}

fn spans(decision: &Decision, axis: (f64, f64), series: &[Series]) -> Vec<Span> {
    let mut spans: Vec<Span> =
        decision.ranges.iter().enumerate().map(|of| span(of, &decision.sizes, axis, series)).collect();
    let mut marked = f64::NEG_INFINITY;
    for span in spans.iter_mut().filter(|span| !span.begins.is_empty()) {
        if span.from - marked < MARKS_APART {
            span.begins.clear();
        } else {
            marked = span.from;
        }
    }
    spans
}

/// A size at a border: `~12K` where it is an estimate.
fn about(bytes: f64, measured: &[usize]) -> String {
    let is_measured = measured.iter().any(|size| (*size as f64).total_cmp(&bytes).is_eq());
    format!("{}{}", if is_measured { "" } else { "~" }, size(bytes))
}

fn span((index, range): (usize, &Range), sizes: &[usize], axis: (f64, f64), series: &[Series]) -> Span {
    let (from, to) = (place(range.from_bytes, axis), place(range.to_bytes, axis));
    let (kind, style) = match &range.standing {
        Standing::Best { choice, .. } => {
            let own = series.iter().find(|one| Choice::of(**one) == *choice).copied();
            ("best", own.map(|one| words::style(one, series)))
        }
        Standing::Close { .. } => ("close", None),
        Standing::Open { .. } => ("open", None),
        Standing::NotMeasured => ("gap", None),
    };
    // One size alone is seen as well.
    let width = if axis.0 < axis.1 { (to - from).max(LEAST_WIDTH) } else { 100.0 };
    Span {
        from: from.min(100.0 - width),
        width,
        kind: kind.to_owned(),
        style,
        text: said(&range.standing, " ≈ "),
        begins: if index > 0 { about(range.from_bytes, sizes) } else { String::new() },
        tip: in_words(range),
    }
}

/// What a terminal shows when a sweep is over: at most fifteen lines of 80 columns, with the two
/// that name the folder and the page. Situations that have no room stand on the page alone.
pub(super) fn terminal(decided: &[Decided<'_>], trust: &Trust) -> String {
    let with = |situations: usize| lines(decided, &decided[..situations.min(decided.len())], trust);
    let fits = |text: &String| text.lines().count() <= LINES;
    (1..=SHOWN).rev().map(with).find(fits).unwrap_or_else(|| with(1))
}

fn lines(decided: &[Decided<'_>], shown: &[Decided<'_>], trust: &Trust) -> String {
    let Some((_, first)) = decided.first() else { return "nothing was measured\n".to_owned() };
    let alike = |one: &Decision| (one.situation.workload, one.situation.source);
    let shared = decided.iter().all(|(_, decision)| alike(decision) == alike(first));
    let (workload, source, where_else) = if shared {
        (first.situation.workload, first.situation.source, "")
    } else {
        (Workload::Rr, Source::Hot, " where nothing else is said")
    };
    let asked = match workload {
        Workload::Rr => "one request at a time",
        Workload::Stream => "messages back to back",
    };
    let mut lines = vec![format!("{asked}, {}{where_else}; ~ is an estimated size", source.in_words())];
    let mut labels: Vec<String> = Vec::new();
    for (index, (ladder, decision)) in shown.iter().enumerate() {
        // What differs from the line above in the number of connections alone says that alone.
        let is_alike = index > 0 && shown[index - 1].1.situation == decision.situation;
        let own = || label(ladder, decision);
        labels.push(if is_alike { format!(" {} connections", decision.threads) } else { own() });
    }
    let width =
        labels.iter().map(|label| label.chars().count() + 1).max().unwrap_or(0).clamp(15, COLUMNS / 2);
    let wrapped_words = |label: &str, width: usize, text: &str| {
        wrapped(label, width, text.split_inclusive(' ').map(str::to_owned))
    };
    for ((_, decision), label) in shown.iter().zip(&labels) {
        lines.push(wrapped(label, width, strip_in_text(decision)));
    }
    let copied = distinct(shown.iter().filter_map(|(ladder, decision)| {
        let to = if decision.situation.receiver == Receiver::Sink { "alone" } else { "to a receiver" };
        Some(format!("{} {to}", copied(ladder)?))
    }))
    .join(", ");
    let card = shown.first().and_then(|(ladder, _)| with_a_card(ladder)).unwrap_or_default();
    for (label, text) in [("MSG_ZEROCOPY", &copied), ("with a card", &card)] {
        if !text.is_empty() {
            lines.push(wrapped_words(label, width, text));
        }
    }
    if decided.len() > shown.len() {
        lines.push(format!("{} more situations stand on the page", decided.len() - shown.len()));
    }
    lines.push(wrapped_words("", 0, &trust.text));
    lines.join("\n") + "\n"
}

/// Parts that stay together, in lines of a terminal's width: beside a label that takes the first
/// `width` columns.
fn wrapped(label: &str, width: usize, parts: impl IntoIterator<Item = String>) -> String {
    let (mut lines, mut line) = (Vec::new(), format!("{label:width$}"));
    for part in parts {
        if line.chars().count() > width && line.chars().count() + part.trim_end().chars().count() > COLUMNS {
            lines.push(std::mem::replace(&mut line, " ".repeat(width)).trim_end().to_owned());
        }
        let is_first = line.chars().count() == width;
        line += if is_first { part.trim_start() } else { &part };
    }
    lines.push(line.trim_end().to_owned());
    lines.join("\n")
}

/// `64B ─pack+send─ ~12K ─writev─ ~48K ─MSG_ZEROCOPY─ 1M  2.7× writev`, in parts that stay
/// together.
fn strip_in_text(decision: &Decision) -> Vec<String> {
    let Some(first) = decision.ranges.first() else { return vec!["nothing could be compared".to_owned()] };
    let part = |(index, range): (usize, &Range)| {
        let from = if index == 0 { size(first.from_bytes) } else { String::new() };
        format!("{from} ─{}─ {}", said(&range.standing, "≈"), about(range.to_bytes, &decision.sizes))
    };
    let mut parts: Vec<String> = decision.ranges.iter().enumerate().map(part).collect();
    if let Some(Range { standing: Standing::Best { gain: Some(gain), .. }, .. }) = decision.ranges.last() {
        parts.push(format!("  {}", ahead(gain)));
    }
    parts
}
