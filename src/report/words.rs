//! How cases, paths and comparisons are written on the page.

use std::fmt;

use crate::case::{Layout, Receiver, SendPath, Series, Situation, Source};
use crate::environment::{Effective, Topology};
use crate::format::{
    bytes, difference_with_interval, number_with_interval, rough_bytes, rough_bytes_range, share,
};
use crate::results::analysis::{Analysis, ArmResult, Measure, SeriesComparison};
use crate::results::crossing::{Crossing, Place};
use crate::results::manifest::Manifest;
use crate::results::record::Arm;
use crate::results::stats::Estimate;

/// A number with its interval, if it has one: `12.30 [12.10, 12.50]`.
pub(super) fn measure(measure: Measure) -> String {
    number_with_interval(measure.value, measure.interval)
}

/// How large a difference is, whichever its sign: `712.3 [660.1, 764.0]`.
pub(super) fn size_of(difference: Measure) -> String {
    if difference.value < 0.0 {
        let turned = |(low, high): (f64, f64)| (-high, -low);
        return measure(Measure { value: -difference.value, interval: difference.interval.map(turned) });
    }
    measure(difference)
}

/// A ratio as a difference: `+2.10 % [+1.80 %, +2.40 %]`.
pub(super) fn gain(ratio: Estimate) -> String {
    difference_with_interval(ratio.value, ratio.low, ratio.high)
}

pub(super) fn pairs(threads: usize) -> String {
    if threads == 1 { "1 pair".to_owned() } else { format!("{threads} pairs") }
}

/// What pairs do and where, and receiver and source where they are not the default: `rr, paired, receiver matched`.
pub(super) fn situation(situation: Situation) -> String {
    let Situation { workload, placement, receiver, source } = situation;
    let mut words = format!("{workload}, {placement}");
    if receiver != Receiver::default() {
        words = format!("{words}, {}", receiver_words(receiver));
    }
    if source != Source::default() {
        words = format!("{words}, source {source}");
    }
    words
}

/// The same as a sentence for a caption, with receiver and source explained.
pub(super) fn situation_sentence(situation: Situation) -> String {
    let Situation { workload, placement, receiver, source } = situation;
    let receiver = match receiver {
        Receiver::Buffer => "received into one buffer",
        Receiver::Fields => "received into eight fields",
        Receiver::Unpack => "received into one buffer and unpacked into eight fields",
        Receiver::Discard => {
            "dropped by the receiving kernel, without a copy to user memory (receiver discard)"
        }
        Receiver::Sink => {
            "received by nobody: the sender alone (receiver sink), whose frames are dropped uncopied and acknowledged all \
             the same"
        }
        Receiver::Matched => {
            "received as they were sent (receiver matched: two_copy unpacks, the others receive into eight fields)"
        }
    };
    let source = match source {
        Source::Hot => "from a small set that is sent in turn (source hot)",
        Source::Cold => "from a set that no cache holds (source cold)",
    };
    format!("Workload {workload}, placement {placement}. Messages {source}, {receiver}.")
}

/// A size where a path becomes the faster one, with its interval: `9.1 KiB (95 %: 4.8 to 11.7 KiB)`. None where the
/// ratios pass 1 nowhere inside of what was measured.
pub(super) fn crossing(crossing: Crossing, (smallest, largest): (usize, usize)) -> Option<String> {
    let Place::At(value) = crossing.value else { return None };
    let interval = match (crossing.low, crossing.high) {
        (Place::At(low), Place::At(high)) => rough_bytes_range(low, high),
        (low, high) => {
            let place = |place: Place| match place {
                Place::Below => format!("below {}", bytes(smallest as f64)),
                Place::At(at) => rough_bytes(at),
                Place::Beyond => format!("beyond {}", bytes(largest as f64)),
            };
            format!("{} to {}", place(low), place(high))
        }
    };
    Some(format!("{} (95 %: {interval})", rough_bytes(value)))
}

/// From which size on a path is faster than `other`, or that it is so at all sizes that were measured, or not yet at
/// the largest: `faster than two_copy from 9.1 KiB on (95 %: 4.8 to 11.7 KiB)`.
pub(super) fn break_even(found: Crossing, sizes: (usize, usize), other: &str) -> String {
    let (smallest, largest) = (bytes(sizes.0 as f64), bytes(sizes.1 as f64));
    match (found.value, crossing(found, sizes)) {
        (_, Some(at)) => format!("faster than {other} from {at}"),
        (Place::Beyond, None) => {
            let or = match found.low {
                Place::At(low) => format!(" (95 %: from {} on)", rough_bytes(low)),
                Place::Below => format!(" (95 %: anywhere, also below {smallest})"),
                Place::Beyond => String::new(),
            };
            format!("not yet faster than {other} at {largest}: a break-even would lie beyond it{or}")
        }
        (_, None) => {
            let or = match found.high {
                Place::At(high) => format!(" (95 %: up to {})", rough_bytes(high)),
                Place::Beyond => format!(" (95 %: anywhere, also beyond {largest})"),
                Place::Below => String::new(),
            };
            format!("faster than {other} from {smallest} on: a break-even would lie below it{or}")
        }
    }
}

/// The simplest of some paths, to be used where they differ too little to be chosen by speed: what copies more has
/// less to go wrong, and needs nothing of the kernel.
pub(super) fn simplest(series: &[Series]) -> Option<Series> {
    series.iter().copied().min_by_key(|&(path, layout)| (path as usize, layout as usize))
}

/// Receiver and source where they are not the default, to follow a noun: ` with receiver matched, source cold`.
pub(super) fn reception(receiver: Receiver, source: Source) -> String {
    let receiver = (receiver != Receiver::default()).then(|| receiver_words(receiver));
    let source = (source != Source::default()).then(|| format!("source {source}"));
    let named: Vec<String> = receiver.iter().cloned().chain(source).collect();
    let the = if receiver.as_deref().is_some_and(|word| word.starts_with("sender")) { "the " } else { "" };
    if named.is_empty() { String::new() } else { format!(" with {the}{}", named.join(", ")) }
}

fn receiver_words(receiver: Receiver) -> String {
    if receiver == Receiver::Sink { "sender alone".to_owned() } else { format!("receiver {receiver}") }
}

/// Where messages go in a sweep: what has to stand in a title so that the sender alone is not taken for the way to a
/// receiver, nor the other way round.
pub(super) struct Ways {
    both: bool,
    over: &'static str,
}

impl Ways {
    pub(super) fn of(manifest: &Manifest, analysis: &Analysis) -> Self {
        let is_there =
            |alone| analysis.cells.iter().any(|cell| (cell.cell.receiver == Receiver::Sink) == alone);
        let effective = manifest.environment.as_ref().map(|environment| &environment.effective);
        let is_in_memory = effective.is_some_and(Effective::stays_in_memory);
        let over = match effective.map(|effective| &effective.topology) {
            Some(Topology::Anonymous) => " over veth",
            Some(Topology::Loopback) => " over loopback",
            // Between named namespaces lies veth too, or the ports of network cards.
            Some(Topology::Named { .. }) if is_in_memory => " over veth",
            Some(Topology::Named { .. }) | None => "",
        };
        Self { both: is_there(true) && is_there(false), over }
    }

    /// The way to a receiver, to begin a sentence: `Over veth to a local receiver`.
    pub(super) fn to_a_receiver(&self) -> String {
        match self.over.trim_start().strip_prefix("over ") {
            Some(link) => format!("Over {link} to a local receiver"),
            None => "To a receiver".to_owned(),
        }
    }

    /// Receiver and source, to follow a noun: ` with the sender alone`, ` with a receiver over veth`.
    pub(super) fn reception(&self, receiver: Receiver, source: Source) -> String {
        match reception(receiver, source) {
            nothing if nothing.is_empty() && self.both => format!(" with a receiver{}", self.over),
            words => words,
        }
    }

    /// `to a receiver over veth`, or `sender alone`.
    pub(super) fn name(&self, receiver: Receiver) -> String {
        match receiver {
            Receiver::Sink => "sender alone".to_owned(),
            _ => format!("to a receiver{}", self.over),
        }
    }

    /// The same to follow a title, with a comma; nothing in a sweep that has one of the two.
    pub(super) fn suffix(&self, receiver: Receiver) -> String {
        if self.both { format!(", {}", self.name(receiver)) } else { String::new() }
    }
}

/// The path with its layout: `zero_copy, page`.
pub(super) fn plain((path, layout): Series) -> String {
    match layout {
        Layout::Heap => path.to_string(),
        Layout::Page => format!("{path}, page"),
    }
}

/// The same with what the kernel did. A `zero_copy` that was copied is never called so without saying it.
pub(super) fn series(series: Series, copied: Copied) -> String {
    match series.0 {
        SendPath::ZeroCopy => format!("{} ({copied})", plain(series)),
        SendPath::TwoCopy | SendPath::OneCopy => plain(series),
    }
}

/// What is known of `MSG_ZEROCOPY` sends: which share of them the kernel copied after all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Copied {
    /// The least and the greatest share of any one arm. Arms are never pooled: one of a hundred that was not copied
    /// would vanish in the others.
    Shares(f64, f64),
    /// No completion was recorded.
    Unknown,
}

impl Copied {
    /// Of each of some arms.
    pub(super) fn of<'a>(arms: impl Iterator<Item = &'a ArmResult>) -> Self {
        let shares = arms.filter_map(|arm| arm.zero_copy?.copied_share());
        shares.fold(Self::Unknown, |copied, share| match copied {
            Self::Unknown => Self::Shares(share, share),
            Self::Shares(least, most) => Self::Shares(least.min(share), most.max(share)),
        })
    }
}

/// Two numbers in words, or one where both are written alike: `12 % to 25 %`, `30 %`. And whether they are two.
pub(super) fn least_to_most(least: &str, most: &str) -> (String, bool) {
    if least == most { (most.to_owned(), false) } else { (format!("{least} to {most}"), true) }
}

/// The least and the greatest share of arms, which are never pooled: `30 %`, `30 % to 50 %` with what follows a range.
pub(super) fn shares(least: f64, most: f64, of: &str) -> String {
    match least_to_most(&share(least), &share(most)) {
        (range, true) => format!("{range}{of}, by case"),
        (one, false) => format!("{one}{of}"),
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Shares(least, most) => f.write_str(&shares(least, most, " copied")),
            Self::Unknown => f.write_str("copied or not: not recorded"),
        }
    }
}

/// The id of a case's row.
pub(super) fn case_row(arm: Arm) -> String {
    let control = if arm.control { "-control" } else { "" };
    format!("case-{}{control}", arm.case.to_string().replace('/', "-"))
}

/// The id of a comparison's row.
pub(super) fn comparison_row(comparison: &SeriesComparison) -> String {
    let cell = comparison.cell.to_string().replace('/', "-");
    let name = |(path, layout): Series| format!("{path}-{layout}");
    format!("{}-{cell}-{}-{}", comparison.metric, name(comparison.series), name(comparison.baseline))
}

/// Which colour and marker a series has, in every chart.
pub(super) fn style(series: Series) -> usize {
    match series {
        (SendPath::TwoCopy, Layout::Heap) => 0,
        (SendPath::OneCopy, Layout::Heap) => 1,
        (SendPath::ZeroCopy, Layout::Heap) => 2,
        (SendPath::ZeroCopy, Layout::Page) => 3,
        (SendPath::TwoCopy, Layout::Page) => 4,
        (SendPath::OneCopy, Layout::Page) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    #[test]
    fn a_copied_zero_copy_says_so_in_its_name() {
        let name = |copied| series((SendPath::ZeroCopy, Layout::Page), copied);
        assert_eq!(name(Copied::Shares(1.0, 1.0)), "zero_copy, page (100 % copied)");
        assert_eq!(name(Copied::Shares(0.9999, 0.9999)), "zero_copy, page (almost 100 % copied)");
        assert_eq!(name(Copied::Shares(0.0, 0.0)), "zero_copy, page (0 % copied)");
        assert_eq!(name(Copied::Shares(0.5, 1.0)), "zero_copy, page (50 % to 100 % copied, by case)");
        assert_eq!(name(Copied::Unknown), "zero_copy, page (copied or not: not recorded)");
        assert_eq!(series((SendPath::TwoCopy, Layout::Heap), Copied::Unknown), "two_copy");
    }

    #[test]
    fn equal_shares_are_written_once() {
        assert_eq!(shares(0.3, 0.300_01, " of the sends"), "30 % of the sends");
        assert_eq!(shares(0.3, 0.5, " of the sends"), "30 % to 50 % of the sends, by case");
    }

    #[test]
    fn a_break_even_lies_inside_of_what_was_measured_or_is_said_to_lie_outside() {
        let kib = |kib: f64| Place::At(kib * 1024.0);
        let said = |low, value, high| break_even(Crossing { value, low, high }, (64, 1 << 20), "two_copy");
        assert_eq!(
            said(kib(4.8), kib(9.1), kib(11.7)),
            "faster than two_copy from 9.1 KiB (95 %: 4.8 to 11.7 KiB)"
        );
        assert_eq!(
            said(Place::Below, kib(9.1), Place::Beyond),
            "faster than two_copy from 9.1 KiB (95 %: below 64 B to beyond 1 MiB)"
        );
        assert_eq!(
            said(Place::Below, Place::Below, kib(1.25)),
            "faster than two_copy from 64 B on: a break-even would lie below it (95 %: up to 1.2 KiB)"
        );
        assert_eq!(
            said(Place::Beyond, Place::Beyond, Place::Beyond),
            "not yet faster than two_copy at 1 MiB: a break-even would lie beyond it"
        );
    }

    #[test]
    fn receiver_and_source_are_named_where_they_are_not_the_default() {
        let of = |receiver, source| {
            let case = Case { receiver, source, ..Case::default() };
            situation(case.cell().situation())
        };
        assert_eq!(of(Receiver::Buffer, Source::Hot), "rr, paired");
        assert_eq!(of(Receiver::Matched, Source::Cold), "rr, paired, receiver matched, source cold");
    }
}
