//! How cases, paths and comparisons are written on the page.

use std::fmt;

use super::page::Facets;
use super::plots::PALETTE;
use crate::case::{
    Cell, DEFAULT_COPY_BELOW_BYTES, Engine, Layout, Placement, Receiver, SendPath, Series, Shape, Situation,
    Source, Workload,
};
use crate::environment::{Effective, Topology};
use crate::format::{difference_with_interval, number_with_interval, share, significant, size, size_range};
use crate::in_order::distinct;
use crate::results::analysis::{Analysis, ArmResult, Measure, SeriesComparison};
use crate::results::crossing::{Crossing, Place};
use crate::results::decision::Choice;
use crate::results::ladder::Ladder;
use crate::results::manifest::{Manifest, Plan};
use crate::results::record::Arm;
use crate::results::stats::Estimate;
use crate::sample::{CopiedBound, CopiedShare};

/// A number with its interval, if it has one: `12.30 [12.10, 12.50]`.
pub(super) fn measure(measure: Measure) -> String {
    number_with_interval(measure.value, measure.interval)
}

/// A ratio as a difference: `+2.10 % [+1.80 %, +2.40 %]`.
pub(super) fn gain(ratio: Estimate) -> String {
    difference_with_interval(ratio.value, ratio.low, ratio.high)
}

/// What a choice is called by who knows the system calls.
pub(super) fn choice(choice: Choice) -> String {
    let path = match choice.path {
        SendPath::TwoCopy => "pack+send",
        SendPath::OneCopy => "writev",
        SendPath::ZeroCopy => "MSG_ZEROCOPY",
        SendPath::Hybrid => "hybrid",
        SendPath::HybridZero => "hybrid+MSG_ZEROCOPY",
        SendPath::Splice => "vmsplice",
        SendPath::File => "sendfile",
    };
    match choice.engine {
        Engine::Syscall => path.to_owned(),
        engine => format!("{path}/{engine}"),
    }
}

/// Several choices, with `by` between them.
pub(super) fn choices(choices: &[Choice], by: &str) -> String {
    choices.iter().map(|one| choice(*one)).collect::<Vec<_>>().join(by)
}

/// A series' name with its path called by what it calls: `MSG_ZEROCOPY, page (100 % copied)`.
pub(super) fn in_calls(of: Series, copied: Copied) -> String {
    series(of, copied).replacen(&of.path.to_string(), &called(of), 1)
}

/// The same without what was copied.
pub(super) fn plain_in_calls(of: Series) -> String {
    plain(of).replacen(&of.path.to_string(), &called(of), 1)
}

fn called(of: Series) -> String {
    choice(Choice { path: of.path, engine: Engine::Syscall })
}

pub(super) fn connections(threads: usize) -> String {
    if threads == 1 { "1 connection".to_owned() } else { format!("{threads} connections") }
}

/// Which messages go to whom: what is said of one does not hold of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reception {
    pub(super) receiver: Receiver,
    pub(super) source: Source,
    pub(super) shape: Shape,
}

impl Reception {
    pub(super) fn of(cell: Cell) -> Self {
        let Cell { receiver, source, shape, .. } = cell;
        Self { receiver, source, shape }
    }

    /// What of it is not the default.
    fn words(self) -> Vec<String> {
        let Self { receiver, source, shape } = self;
        let receiver = (receiver != Receiver::default()).then(|| receiver.in_words());
        let source = (source != Source::default()).then(|| source.in_words().to_owned());
        let shape = (shape != Shape::default()).then(|| format!("shape {shape}"));
        [receiver, source, shape].into_iter().flatten().collect()
    }
}

/// What connections do and with which data; placement, receiver and shape where they are not the
/// default: `request/response, data in cache, receiver matched`.
pub(super) fn situation(situation: Situation) -> String {
    let Situation { workload, placement, receiver, source, shape } = situation;
    let mut words = vec![workload.in_words().to_owned(), source.in_words().to_owned()];
    words.extend((placement != Placement::Paired).then(|| placement.to_string()));
    // The source has been named, whichever it is.
    words.extend(Reception { receiver, source: Source::default(), shape }.words());
    words.join(", ")
}

/// A situation to filter by: of one number of connections, or of all.
pub(super) fn facets(situation: Situation, threads: Option<usize>, metric: &str) -> Facets {
    Facets {
        receiver: receiver_label(situation.receiver),
        connections: threads.map_or_else(String::new, |threads| threads.to_string()),
        data: situation.source.in_words().to_owned(),
        metric: metric.to_owned(),
    }
}

/// Who receives, in a few words.
pub(super) fn receiver_label(receiver: Receiver) -> String {
    match receiver {
        Receiver::Sink => "sender alone".to_owned(),
        Receiver::Buffer => "to a receiver".to_owned(),
        other => format!("to receiver {other}"),
    }
}

/// The same as a sentence for a caption, with receiver, source and shape explained.
pub(super) fn situation_sentence(situation: Situation) -> String {
    let Situation { workload, placement, receiver, source, shape } = situation;
    let receiver = match receiver {
        Receiver::Buffer => "received into one buffer",
        Receiver::Fields => "received into eight fields",
        Receiver::Unpack => "received into one buffer and unpacked into eight fields",
        Receiver::Discard => {
            "dropped by the receiving kernel, without a copy to user memory (receiver discard)"
        }
        Receiver::Mmap => {
            "received by mapping their pages, where they are whole ones, and by a copy of the rest (receiver mmap)"
        }
        Receiver::Sink => {
            "received by nobody: the sender alone, whose frames are dropped uncopied and acknowledged all \
             the same"
        }
        Receiver::Matched => {
            "received as they were sent (receiver matched: two_copy unpacks, the others receive into eight fields)"
        }
    };
    let source = match source {
        Source::Hot => "from a small set that is sent in turn",
        Source::Cold => "from a set that no cache holds",
    };
    let shape =
        shape_sentence(shape).map_or_else(String::new, |sentence| format!(", of shape {shape} ({sentence})"));
    let workload = match workload {
        Workload::Rr => "One request at a time on a connection",
        Workload::Stream => "Messages back to back",
    };
    let placement = match placement {
        Placement::Paired => "its two ends on one CPU",
        Placement::Split => "its two ends on different CPUs",
        Placement::Free => "its two ends wherever the scheduler puts them",
    };
    format!("{workload}, {placement}. Messages come {source}{shape}, {receiver}.")
}

/// A size where a path becomes the faster one, with its interval: `9.1K (95 %: 4.8K to
/// 12K)`. None where the ratios pass 1 nowhere inside of what was measured.
pub(super) fn crossing(crossing: Crossing, (smallest, largest): (usize, usize)) -> Option<String> {
    let Place::At(value) = crossing.value else { return None };
    let interval = match (crossing.low, crossing.high) {
        (Place::At(low), Place::At(high)) => size_range(low, high),
        (low, high) => {
            let place = |place: Place| match place {
                Place::Below => format!("below {}", size(smallest as f64)),
                Place::At(at) => size(at),
                Place::Beyond => format!("beyond {}", size(largest as f64)),
            };
            format!("{} to {}", place(low), place(high))
        }
    };
    Some(format!("{} (95 %: {interval})", size(value)))
}

/// What a fragment costs, to as many digits as it is known: `83 ns a fragment`.
pub(super) fn by_fragment(fragment_ns: f64) -> String {
    format!("{} ns a fragment", significant(fragment_ns, 2))
}

/// From which size on a path is faster than `other`, or that it is so at all sizes that were
/// measured, or not yet at the largest: `faster than two_copy from 9.1K (95 %: 4.8K to
/// 12K)`.
pub(super) fn break_even(found: Crossing, sizes: (usize, usize), other: &str) -> String {
    let (smallest, largest) = (size(sizes.0 as f64), size(sizes.1 as f64));
    match (found.value, crossing(found, sizes)) {
        (_, Some(at)) => format!("faster than {other} from {at}"),
        (Place::Beyond, None) => {
            let or = match found.low {
                Place::At(low) => format!(" (95 %: from {} on)", size(low)),
                Place::Below => format!(" (95 %: anywhere, also below {smallest})"),
                Place::Beyond => String::new(),
            };
            format!("not yet faster than {other} at {largest}: a break-even would lie beyond it{or}")
        }
        (_, None) => {
            let or = match found.high {
                Place::At(high) => format!(" (95 %: up to {})", size(high)),
                Place::Beyond => format!(" (95 %: anywhere, also beyond {largest})"),
                Place::Below => String::new(),
            };
            format!("faster than {other} from {smallest} on: a break-even would lie below it{or}")
        }
    }
}

/// The connections of a ladder, with the rest of what its cells have in common.
pub(super) fn ladder(ladder: &Ladder<'_>) -> String {
    format!("{} ({}{})", connections(ladder.threads), situation(ladder.situation), added_to(ladder))
}

/// What was added to the times of a ladder for its fragments, to follow its other words: `, 80 ns a
/// fragment added`.
pub(super) fn added_to(ladder: &Ladder<'_>) -> String {
    match ladder.cells.first().map(|cell| cell.fragment_ns) {
        Some(fragment_ns) if fragment_ns > 0.0 => format!(", {} added", by_fragment(fragment_ns)),
        _ => String::new(),
    }
}

/// Receiver, source and shape where they are not the default, to follow a noun: ` with receiver
/// matched, data from memory`.
pub(super) fn reception(reception: Reception) -> String {
    let named = reception.words();
    let the = if reception.receiver == Receiver::Sink { "the " } else { "" };
    if named.is_empty() { String::new() } else { format!(" with {the}{}", named.join(", ")) }
}

/// Where messages go in a sweep: what has to stand in a title so that the sender alone is not taken
/// for the way to a receiver, nor the other way round.
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
            // Between named namespaces lies veth too, or the ports of network cards; to a peer,
            // loopback as well.
            Some(Topology::Named { .. } | Topology::Peer) if is_in_memory => match effective {
                Some(effective) if effective.server_link.name == "lo" => " over loopback",
                _ => " over veth",
            },
            Some(Topology::Named { .. } | Topology::Peer) | None => "",
        };
        Self { both: is_there(true) && is_there(false), over }
    }

    /// Receiver, source and shape, to follow a noun: ` with the sender alone`, ` with a receiver
    /// over veth`.
    pub(super) fn reception(&self, given: Reception) -> String {
        match reception(given) {
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

/// The path with what of it is not the default: `zero_copy, page, uring`.
pub(super) fn plain(series: Series) -> String {
    let variant = variant(series);
    if variant.is_empty() { series.path.to_string() } else { format!("{}, {variant}", series.path) }
}

/// What of a series is not the default beside its path: `page, uring`.
fn variant(series: Series) -> String {
    let Series { path: _, layout, engine, copy_below_bytes } = series;
    let layout = (layout != Layout::Heap).then(|| layout.to_string());
    let engine = (engine != Engine::Syscall).then(|| engine.to_string());
    let below = (copy_below_bytes != DEFAULT_COPY_BELOW_BYTES)
        .then(|| format!("copies below {}", size(copy_below_bytes as f64)));
    [layout, engine, below].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The same with what the kernel did. A `zero_copy` that was copied is never called so without
/// saying it.
pub(super) fn series(series: Series, copied: Copied) -> String {
    if series.path.is_zero_copy() { format!("{} ({copied})", plain(series)) } else { plain(series) }
}

/// What is known of `MSG_ZEROCOPY` sends: which share of them the kernel copied after all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Copied {
    /// Of some arms, which are never pooled: one of a hundred that was not copied would vanish in
    /// the others.
    Shares {
        /// The least share of any one arm.
        least: f64,
        /// The greatest.
        most: f64,
        /// What they are: of the arm of which the least is known.
        bound: CopiedBound,
    },
    /// No completion was recorded.
    Unknown,
}

impl Copied {
    /// Of each of some arms.
    pub(super) fn of<'a>(arms: impl Iterator<Item = &'a ArmResult>) -> Self {
        Self::of_shares(arms.filter_map(|arm| arm.zero_copy?.copied()))
    }

    /// Of the share of each of some arms.
    pub(super) fn of_shares(shares: impl Iterator<Item = CopiedShare>) -> Self {
        shares.fold(Self::Unknown, |copied, CopiedShare { share, bound: its }| match copied {
            Self::Unknown => Self::Shares { least: share, most: share, bound: its },
            Self::Shares { least, most, bound } => {
                Self::Shares { least: least.min(share), most: most.max(share), bound: bound.max(its) }
            }
        })
    }

    /// Whether the kernel is known to have copied most of it, in each case.
    pub(super) fn is_mostly(self) -> bool {
        matches!(self, Self::Shares { least, bound: CopiedBound::Exact | CopiedBound::Either, .. } if least > 0.5)
    }

    /// Whether it is known that the kernel copied nothing.
    pub(super) fn is_none(self) -> bool {
        matches!(self, Self::Shares { most: 0.0, bound: CopiedBound::Exact | CopiedBound::Upper, .. })
    }

    /// The least and the greatest share, in words that say what they are, and with what follows:
    /// `30 % copied`, `about 0 % copied`, `at most 30 % to 50 % copied, by case`.
    pub(super) fn shares(self, of: &str) -> String {
        let Self::Shares { least, most, bound } = self else { return self.to_string() };
        match least_to_most(&share(least), &share(most)) {
            (range, true) => format!("{}{range}{of}, by case", bound.prefix()),
            (_, false) => format!("{}{of}", CopiedShare { share: most, bound }),
        }
    }
}

/// Two numbers in words, or one where both are written alike: `12 % to 25 %`, `30 %`. And whether
/// they are two.
pub(super) fn least_to_most(least: &str, most: &str) -> (String, bool) {
    if least == most { (most.to_owned(), false) } else { (format!("{least} to {most}"), true) }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Shares { .. } => f.write_str(&self.shares(" copied")),
            Self::Unknown => f.write_str("copied or not: not recorded"),
        }
    }
}

/// A name in an id: one word.
pub(super) fn id(name: &str) -> String {
    name.replace(['/', ':', ',', '|'], "-")
}

/// The id of a case's row.
pub(super) fn case_row(arm: Arm) -> String {
    let control = if arm.control { "-control" } else { "" };
    format!("case-{}{control}", id(&arm.case.to_string()))
}

/// The id of a comparison's row.
pub(super) fn comparison_row(comparison: &SeriesComparison) -> String {
    let cell = id(&comparison.cell.to_string());
    let name = |series: Series| id(&series.to_string());
    format!("{}-{cell}-{}-{}", comparison.metric, name(comparison.series), name(comparison.baseline))
}

/// Which colour and marker a series has: the same in every chart, where it is one of those that are
/// often measured. Of the others each has the next that no series `among` which it stands has.
pub(super) fn style(series: Series, among: &[Series]) -> usize {
    if let Some(style) = own_style(series) {
        return style;
    }
    let others = among.iter().filter(|one| own_style(**one).is_none());
    let place = others.take_while(|one| **one != series).count();
    let is_taken = |style: &usize| among.iter().any(|one| own_style(*one) == Some(*style));
    let free: Vec<usize> = (0..PALETTE.len()).rev().filter(|style| !is_taken(style)).collect();
    // More series than styles: some look alike, and their names tell them apart.
    if free.is_empty() { place % PALETTE.len() } else { free[place % free.len()] }
}

/// The series that are often measured, in the order of their styles.
const OFTEN: [Series; 14] = [
    Series::new(SendPath::TwoCopy, Layout::Heap),
    Series::new(SendPath::OneCopy, Layout::Heap),
    Series::new(SendPath::ZeroCopy, Layout::Heap),
    Series::new(SendPath::ZeroCopy, Layout::Page),
    Series::new(SendPath::TwoCopy, Layout::Page),
    Series::new(SendPath::OneCopy, Layout::Page),
    Series::new(SendPath::ZeroCopy, Layout::Page).by(Engine::Uring),
    Series::new(SendPath::ZeroCopy, Layout::Page).by(Engine::UringFixed),
    Series::new(SendPath::OneCopy, Layout::Heap).by(Engine::Uring),
    Series::new(SendPath::Splice, Layout::Page),
    Series::new(SendPath::File, Layout::Heap),
    Series::new(SendPath::Hybrid, Layout::Heap),
    Series::new(SendPath::HybridZero, Layout::Heap),
    Series::new(SendPath::TwoCopy, Layout::Heap).by(Engine::Uring),
];

fn own_style(series: Series) -> Option<usize> {
    OFTEN.iter().position(|one| *one == series)
}

/// Whether its line is dashed, with hollow markers: where the call is not a system call of its own.
pub(super) fn is_dashed(series: Series) -> bool {
    series.engine != Engine::Syscall
}

/// What the words of a plan mean that the studies do not have: the word, and a sentence.
pub(super) fn explained(plan: &Plan) -> Vec<(String, String)> {
    let of_series = plan.series.iter().flat_map(|series| {
        [
            (format!("path {}", series.path), path_sentence(series.path).map(str::to_owned)),
            (format!("layout {}", series.layout), layout_sentence(series.layout).map(str::to_owned)),
            (format!("engine {}", series.engine), engine_sentence(series.engine).map(str::to_owned)),
        ]
    });
    let of_cells = plan.cells.iter().flat_map(|cell| {
        let maps = "the client maps whole pages of what arrives (TCP_ZEROCOPY_RECEIVE), and copies the rest";
        let receiver = (cell.receiver == Receiver::Mmap).then(|| maps.to_owned());
        [
            (format!("receiver {}", cell.receiver), receiver),
            (format!("shape {}", cell.shape), shape_sentence(cell.shape)),
        ]
    });
    distinct(of_series.chain(of_cells).filter_map(|(word, sentence)| Some((word, sentence?))))
}

fn path_sentence(path: SendPath) -> Option<&'static str> {
    match path {
        SendPath::TwoCopy | SendPath::OneCopy | SendPath::ZeroCopy => None,
        SendPath::Hybrid => Some(
            "fields below a threshold (4K where none is named) are copied into one buffer, larger ones are gathered: \
             sendmsg",
        ),
        SendPath::HybridZero => Some(
            "as hybrid, with MSG_ZEROCOPY; a message without a field as large as the threshold is copied as a whole",
        ),
        SendPath::Splice => Some(
            "vmsplice of the fields into a pipe and splice from there into the socket: nothing is copied on sending, and \
             only the receiver's word says when the memory may be written again",
        ),
        SendPath::File => Some(
            "sendfile from a file in memory in which the fields lie one after the other: nothing is copied on sending, and \
             only the receiver's word says when the file may be written again",
        ),
    }
}

fn layout_sentence(layout: Layout) -> Option<&'static str> {
    (layout == Layout::Huge)
        .then_some("each field starts on a page of its own, and the pages are parts of huge ones")
}

fn engine_sentence(engine: Engine) -> Option<&'static str> {
    match engine {
        Engine::Syscall => None,
        Engine::Uring => Some("the path's sends go through an io_uring: SEND, SENDMSG, SENDMSG_ZC"),
        Engine::UringFixed => Some(
            "as uring, from buffers that are registered once: their pages are not pinned anew for each send",
        ),
        Engine::UringSqpoll => Some(
            "as uring, with a kernel thread that takes the sends from the queue: no system call hands them over",
        ),
    }
}

fn shape_sentence(shape: Shape) -> Option<String> {
    Some(match shape {
        Shape::Equal => return None,
        Shape::Header => "two fields: a header of 24 bytes, and the rest".to_owned(),
        Shape::Fields(1) => "one field".to_owned(),
        Shape::Fields(fields) => format!("{fields} equal fields"),
        Shape::Sizes(_) => "fields of these sizes, in bytes".to_owned(),
        Shape::Trace(_) => {
            "messages of several shapes in turn, each as often as the number before its x says; the size is their mean"
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    #[test]
    fn of_several_arms_the_one_of_which_the_least_is_known_decides_what_the_shares_are() {
        let of = |bounds: &[CopiedBound]| {
            Copied::of_shares(bounds.iter().map(|&bound| CopiedShare { share: 0.0, bound }))
        };
        assert!(of(&[CopiedBound::Exact, CopiedBound::Upper]).is_none());
        assert!(!of(&[CopiedBound::Exact, CopiedBound::Either]).is_none());
        assert!(!of(&[CopiedBound::Either, CopiedBound::Upper]).is_none());
        assert_eq!(of(&[]), Copied::Unknown);
    }

    #[test]
    fn a_copied_zero_copy_says_so_in_its_name() {
        let name = |copied| series(Series::new(SendPath::ZeroCopy, Layout::Page), copied);
        let of = |least, most, bound| name(Copied::Shares { least, most, bound });
        assert_eq!(of(1.0, 1.0, CopiedBound::Exact), "zero_copy, page (100 % copied)");
        assert_eq!(of(0.9999, 0.9999, CopiedBound::Exact), "zero_copy, page (almost 100 % copied)");
        assert_eq!(of(0.0, 0.0, CopiedBound::Exact), "zero_copy, page (0 % copied)");
        assert_eq!(of(0.5, 1.0, CopiedBound::Exact), "zero_copy, page (50 % to 100 % copied, by case)");
        assert_eq!(of(0.0, 0.0, CopiedBound::Either), "zero_copy, page (about 0 % copied)");
        assert_eq!(of(0.0, 0.5, CopiedBound::Either), "zero_copy, page (about 0 % to 50 % copied, by case)");
        assert_eq!(of(0.0, 0.0, CopiedBound::Upper), "zero_copy, page (none copied)");
        assert_eq!(of(0.5, 0.5, CopiedBound::Upper), "zero_copy, page (at most 50 % copied)");
        assert_eq!(name(Copied::Unknown), "zero_copy, page (copied or not: not recorded)");
        assert_eq!(series(Series::new(SendPath::TwoCopy, Layout::Heap), Copied::Unknown), "two_copy");
    }

    #[test]
    fn equal_shares_are_written_once() {
        let of =
            |most| Copied::Shares { least: 0.3, most, bound: CopiedBound::Exact }.shares(" of the sends");
        assert_eq!(of(0.300_01), "30 % of the sends");
        assert_eq!(of(0.5), "30 % to 50 % of the sends, by case");
    }

    #[test]
    fn a_break_even_lies_inside_of_what_was_measured_or_is_said_to_lie_outside() {
        let kib = |kib: f64| Place::At(kib * 1024.0);
        let said = |low, value, high| break_even(Crossing { value, low, high }, (64, 1 << 20), "two_copy");
        assert_eq!(said(kib(4.8), kib(9.1), kib(11.7)), "faster than two_copy from 9.1K (95 %: 4.8K to 12K)");
        assert_eq!(
            said(Place::Below, kib(9.1), Place::Beyond),
            "faster than two_copy from 9.1K (95 %: below 64B to beyond 1M)"
        );
        assert_eq!(
            said(Place::Below, Place::Below, kib(1.25)),
            "faster than two_copy from 64B on: a break-even would lie below it (95 %: up to 1.2K)"
        );
        assert_eq!(
            said(Place::Beyond, Place::Beyond, Place::Beyond),
            "not yet faster than two_copy at 1M: a break-even would lie beyond it"
        );
    }

    #[test]
    fn workload_and_source_are_always_named_and_the_receiver_where_it_is_not_the_default() {
        let of = |receiver, source| {
            let case = Case { receiver, source, ..Case::default() };
            situation(case.cell().situation())
        };
        assert_eq!(of(Receiver::Buffer, Source::Hot), "request/response, data in cache");
        assert_eq!(
            of(Receiver::Matched, Source::Cold),
            "request/response, data from memory, receiver matched"
        );
        let trace = Case { shape: "3x64|1x24,512".parse().unwrap(), ..Case::default() }.cell().situation();
        assert_eq!(situation(trace), "request/response, data in cache, shape 3x64|1x24,512");
        let sentence = situation_sentence(trace);
        assert!(sentence.contains("of shape 3x64|1x24,512 (messages of several shapes"), "{sentence}");
        assert_eq!(id("rr/97x64|3x24,512K"), "rr-97x64-3x24-512K");
    }

    fn of(path: SendPath, layout: Layout) -> Series {
        Series::new(path, layout)
    }

    #[test]
    fn a_series_is_named_by_what_is_not_the_default() {
        let page = of(SendPath::ZeroCopy, Layout::Page);
        assert_eq!(plain(page.by(Engine::Uring)), "zero_copy, page, uring");
        let hybrid = of(SendPath::Hybrid, Layout::Heap);
        assert_eq!(
            (plain(hybrid), plain(hybrid.copying_below(1024))),
            ("hybrid".to_owned(), "hybrid, copies below 1K".to_owned())
        );
        let all = Copied::Shares { least: 1.0, most: 1.0, bound: CopiedBound::Exact };
        let zero = series(of(SendPath::HybridZero, Layout::Heap), all);
        assert_eq!(zero, "hybrid_zero (100 % copied)");
    }

    #[test]
    fn series_of_one_chart_look_different() {
        use strum::VariantArray;
        let mut series: Vec<Series> = SendPath::VARIANTS.iter().map(|&path| of(path, Layout::Heap)).collect();
        series.extend([512, 1024, 8192].map(|bytes| of(SendPath::Hybrid, Layout::Heap).copying_below(bytes)));
        series.extend([Engine::Uring, Engine::UringSqpoll].map(|engine| series[0].by(engine)));
        series.extend([of(SendPath::ZeroCopy, Layout::Huge), of(SendPath::Splice, Layout::Page)]);
        let mut styles: Vec<usize> = series.iter().map(|&one| style(one, &series)).collect();
        assert_eq!(styles[..3], [0, 1, 2], "the studied paths look as they always did");
        styles.sort_unstable();
        styles.dedup();
        assert_eq!(styles.len(), series.len(), "{styles:?}");
    }

    #[test]
    fn words_that_the_studies_do_not_have_are_explained_once() {
        let case = Case { receiver: Receiver::Mmap, shape: Shape::Header, ..Case::default() };
        let plan = |series: Vec<Series>, cell| Plan {
            profile: String::new(),
            seed: 0,
            precision: 0.01,
            series,
            cells: vec![cell; 2],
            only_in: Vec::new(),
        };
        let page = of(SendPath::ZeroCopy, Layout::Page);
        assert_eq!(explained(&plan(vec![page], Case::default().cell())), []);
        let splice = of(SendPath::Splice, Layout::Page);
        let found = explained(&plan(vec![page.by(Engine::Uring), splice, splice], case.cell()));
        let words: Vec<&str> = found.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["engine uring", "path splice", "receiver mmap", "shape header"]);
    }
}
