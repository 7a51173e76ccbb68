//! How cases, paths and comparisons are written on the page.

use std::fmt;

use crate::case::{Layout, Receiver, SendPath, Series, Situation, Source};
use crate::environment::Topology;
use crate::format::{bytes, difference_with_interval, number_with_interval, share};
use crate::results::analysis::{Analysis, ArmResult, Measure, SeriesComparison};
use crate::results::crossing::{Crossing, Place};
use crate::results::manifest::Manifest;
use crate::results::record::Arm;
use crate::results::stats::Estimate;

/// A number with its interval, if it has one: `12.30 [12.10, 12.50]`.
pub(super) fn measure(measure: Measure) -> String {
    number_with_interval(measure.value, measure.interval)
}

/// A ratio as a difference: `+2.10 % [+1.80 %, +2.40 %]`.
pub(super) fn gain(ratio: Estimate) -> String {
    difference_with_interval(ratio.value, ratio.low, ratio.high)
}

/// The end of a range of sizes that may be open.
pub(super) fn size_range(low: f64, high: f64) -> String {
    match (low > 0.0, high.is_finite()) {
        (true, true) => format!("[{}, {}]", bytes(low), bytes(high)),
        (false, true) => format!("[no lower end, {}]", bytes(high)),
        (true, false) => format!("[{}, no upper end]", bytes(low)),
        (false, false) => "[no end]".to_owned(),
    }
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

/// Where a path becomes the faster one, where the ratios pass 1 inside what was measured: `about 45 KiB (95 %
/// interval: 38 KiB to 52 KiB)`.
pub(super) fn crossing(crossing: Crossing) -> Option<String> {
    let place = |place: Place| match place {
        Place::Below => "below the smallest size".to_owned(),
        Place::At(at) => bytes(at),
        Place::Beyond => "beyond the largest size".to_owned(),
    };
    let Place::At(value) = crossing.value else { return None };
    Some(format!(
        "about {} (95 % interval: {} to {})",
        bytes(value),
        place(crossing.low),
        place(crossing.high)
    ))
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
        let over = match manifest.environment.as_ref().map(|environment| &environment.effective.topology) {
            Some(Topology::Anonymous) => " over veth",
            Some(Topology::Loopback) => " over loopback",
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

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Shares(least, most) if share(least) == share(most) => write!(f, "{} copied", share(most)),
            Self::Shares(least, most) => write!(f, "{} to {} copied, by case", share(least), share(most)),
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
    let against = if comparison.control { "control".to_owned() } else { name(comparison.series) };
    format!("{}-{cell}-{against}-{}", comparison.metric, name(comparison.baseline))
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
    fn receiver_and_source_are_named_where_they_are_not_the_default() {
        let of = |receiver, source| {
            let case = Case { receiver, source, ..Case::default() };
            situation(case.cell().situation())
        };
        assert_eq!(of(Receiver::Buffer, Source::Hot), "rr, paired");
        assert_eq!(of(Receiver::Matched, Source::Cold), "rr, paired, receiver matched, source cold");
    }
}
