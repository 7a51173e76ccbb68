//! The answers as a table, and as constants for a program. Pure.

use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use super::plan::Line;
use super::{Answer, Range, Threshold};
use crate::case::{Layout, SendPath, Series};
use crate::format::{self, bytes_range};
use crate::in_order;
use crate::sample::ZeroCopyCounts;

/// A line of the table with all that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was looked for.
    pub line: Line,
    /// Among which sizes.
    pub range: Range,
    /// What was found.
    pub answer: Answer,
    /// What the kernel said of the way's zero-copy sends.
    pub zero_copy: ZeroCopyCounts,
    /// What a card's driver may take for a fragment until the way is no longer ahead, in
    /// nanoseconds: by size, well above the threshold.
    pub bearable_ns: Vec<(usize, f64)>,
}

/// A language that constants are printed in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Display, EnumMessage, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Language {
    /// `pub const NAME: usize = …;`
    Rust,
    /// `#define NAME …`
    C,
}

impl Found {
    /// From which size on it pays, in words.
    fn from(&self) -> String {
        match self.answer.threshold {
            _ if self.answer.failed.is_some() => "failed".to_owned(),
            Threshold::Found { bytes, .. } => format::bytes(bytes),
            Threshold::Always => format!("{} on, the smallest", format::bytes(self.range.from_bytes as f64)),
            Threshold::Never => format!("not up to {}", format::bytes(self.range.to_bytes as f64)),
            Threshold::Undecided { .. } => "undecided".to_owned(),
        }
    }

    /// The interval, or where it may be, in words.
    fn interval(&self) -> String {
        match self.answer.threshold {
            _ if self.answer.failed.is_some() => String::new(),
            Threshold::Found { low, high, .. } => bytes_range(low, high),
            Threshold::Always => self.at(self.range.from_bytes),
            Threshold::Never => self.at(self.range.to_bytes),
            Threshold::Undecided { low, high, .. } => {
                format!("from {}", bytes_range(low as f64, high as f64))
            }
        }
    }

    /// How much faster it was at a size.
    fn at(&self, bytes: usize) -> String {
        let measured = self.answer.measured.iter().find(|measured| measured.bytes == bytes);
        measured.map_or_else(String::new, |measured| {
            format!("{} at {}", format::rough_difference(measured.ratio.value), format::bytes(bytes as f64))
        })
    }

    /// What has to be said besides.
    fn notes(&self) -> Vec<String> {
        let (line, answer) = (self.line, &self.answer);
        let mut notes = Vec::new();
        if answer.failed.is_some() {
            return notes;
        }
        match answer.threshold {
            Threshold::Undecided { reason, .. } => {
                notes.push(format!("{line}: {reason}; more --time may decide it"));
            }
            Threshold::Found { .. } if !answer.is_precise => {
                let precision = self.range.precision * 100.0;
                notes.push(format!(
                    "{line}: the interval is wider than {precision} %; more --time narrows it"
                ));
            }
            _ => {}
        }
        let stays =
            self.bearable_ns.iter().filter(|(_, ns)| ns.is_finite() && *ns > 0.0).map(|(bytes, ns)| {
                format!("{} ns a fragment at {}", format::significant(*ns, 2), format::bytes(*bytes as f64))
            });
        let stays: Vec<String> = stays.collect();
        if !stays.is_empty() {
            let stays = format::list(&stays);
            notes.push(format!("{line}: with a card, up to {stays}"));
        }
        if let Some(below) = answer.pays_below {
            let below = format::bytes(below as f64);
            notes.push(format!("{line}: it pays at {below} too, but not at all sizes above"));
        }
        notes
    }
}

/// The table, and what has to be said besides.
pub fn table(found: &[Found]) -> String {
    let head = ["path", "cheaper than", "from", "95 % interval", "lives"].map(str::to_owned);
    let row = |found: &Found| {
        let Found { line, answer, .. } = found;
        let gathered = if line.against.is_none() { ", a gathered field" } else { "" };
        let way = format!("{}{gathered}", line.way);
        [way, line.against(), found.from(), found.interval(), answer.lives.to_string()]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(found.iter().map(row)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
            if column == 4 { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let mut notes: Vec<String> = found.iter().flat_map(Found::notes).collect();
    let pays_on_pages = |found: &Found| {
        let is_found = matches!(found.answer.threshold, Threshold::Found { .. } | Threshold::Always);
        let series = found.line.way;
        is_found && series.path == SendPath::ZeroCopy && series.layout != Layout::Huge
    };
    if found.iter().any(pays_on_pages) {
        notes
            .push("zero_copy: huge pages make fewer fragments, which a card saves: --layout huge".to_owned());
    }
    for (way, of_way) in ways(found) {
        if let Some(copied) = copied(&of_way) {
            notes.push(format!("{way}: {copied}"));
        }
        if of_way.len() > 1
            && let Threshold::Found { bytes, low, high } = hardest(&of_way).answer.threshold
        {
            let others: Vec<String> = of_way.iter().map(|found| found.line.against()).collect();
            let (others, at, range) = (format::list(&others), format::bytes(bytes), bytes_range(low, high));
            notes.push(format!("{way}: cheaper than {others} from {at} on (95 %: {range})"));
        }
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text.extend(notes.into_iter().map(|note| note + "\n"));
    text
}

/// What was found, way by way: payloads and fields apart.
fn ways(found: &[Found]) -> Vec<(Series, Vec<&Found>)> {
    in_order::grouped(found.iter().map(|found| (found.line.way, found)))
}

/// Who copied what a way was to send without a copy.
fn copied(of_way: &[&Found]) -> Option<String> {
    let mut counts = ZeroCopyCounts::default();
    for found in of_way {
        counts += found.zero_copy;
    }
    let copied = counts.copied()?;
    let words = if copied.share > 0.0 { "of its sends after all" } else { "of its sends" };
    Some(format!("the kernel copied {copied} {words}"))
}

/// Of what a way is held against, what is the hardest to beat: the last threshold, if there are
/// thresholds for all.
fn hardest<'f>(of_way: &[&'f Found]) -> &'f Found {
    let rank = |found: &Found| match found.answer.threshold {
        _ if found.answer.failed.is_some() => (3, 0.0),
        Threshold::Never => (3, 0.0),
        Threshold::Undecided { .. } => (2, 0.0),
        Threshold::Found { bytes, .. } => (1, bytes),
        Threshold::Always => (0, 0.0),
    };
    let harder = |hardest, found| if rank(found) > rank(hardest) { found } else { hardest };
    of_way[1..].iter().copied().fold(of_way[0], harder)
}

/// The answers as constants of a program: where there is no threshold, the largest number, so that
/// the program compiles and stays below it. `surroundings` are lines that say when, where and how it
/// was measured; they stand in each constant's comment.
pub(crate) fn constants(found: &[Found], language: Language, surroundings: &[String]) -> String {
    let ways = ways(found);
    let mut text = String::new();
    for (way, of_way) in &ways {
        let line = of_way[0].line;
        let is_alone = ways.iter().filter(|(other, _)| other.path == way.path).count() == 1;
        let name = if is_alone { way.path.to_string() } else { way.to_string() };
        let end = if line.against.is_none() { "COPY_BELOW_BYTES" } else { "FROM_BYTES" };
        let name = format!("{}_{end}", name.replace(['/', '-'], "_").to_uppercase());
        let others: Vec<String> = of_way.iter().map(|found| found.line.against()).collect();
        let what = match line.against {
            Some(_) => {
                format!("{way} is cheaper than {} from this payload on", format::list(&others))
            }
            None => format!("{way}: a field of so many bytes is cheaper gathered than copied"),
        };
        let hardest = hardest(of_way);
        let (value, said) = match hardest.answer.threshold {
            _ if hardest.answer.failed.is_some() => (None, ": not measured"),
            Threshold::Found { bytes, low, high } => {
                (Some(bytes), &*format!(", in bytes; 95 % interval {low:.0} to {high:.0}"))
            }
            Threshold::Always => {
                (Some(hardest.range.from_bytes as f64), ": the smallest size that was measured")
            }
            Threshold::Never => (None, ": not up to the largest size that was measured"),
            Threshold::Undecided { .. } => (None, ": undecided"),
        };
        let mut lines = vec![format!("{what}{said}.")];
        if let Some(copied) = copied(of_way) {
            lines.push(format!("There {copied}."));
        }
        if !of_way.iter().all(|found| found.bearable_ns.is_empty()) {
            lines.push("A card's driver moves it upwards (--fragment-cost); to a receiver on the same machine it is another.".to_owned());
        }
        lines.extend_from_slice(surroundings);
        if !text.is_empty() {
            text.push('\n');
        }
        text += &constant(language, &name, value, &lines);
    }
    text
}

fn constant(language: Language, name: &str, value: Option<f64>, lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| line.replace("*/", "* /")).collect();
    let comment =
        |start: &str| lines.iter().map(|line| [start, " ", line, "\n"].concat()).collect::<String>();
    match language {
        Language::Rust => {
            let value = value.map_or_else(|| "usize::MAX".to_owned(), grouped);
            format!("{}pub const {name}: usize = {value};\n", comment("///"))
        }
        Language::C => {
            let value = value.map_or_else(|| "SIZE_MAX".to_owned(), |value| format!("{value:.0}"));
            format!("/* {} */\n#define {name} {value}\n", lines.join("\n   "))
        }
    }
}

/// A whole number as Rust writes it: `35_738`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::plan::{baseline, lines};
    use super::super::{Measured, Reason};
    use super::*;
    use crate::case::Series;
    use crate::results::stats::Estimate;

    const FOUND: Threshold = Threshold::Found { bytes: 35_738.4, low: 34_816.0, high: 36_700.0 };
    const LATER: Threshold = Threshold::Found { bytes: 67_000.0, low: 65_000.0, high: 69_000.0 };
    const UNDECIDED: Threshold =
        Threshold::Undecided { low: 4096, high: 1 << 20, reason: Reason::LargestIsClose };

    fn found(line: Line, threshold: Threshold) -> Found {
        let ratio = Estimate { value: 0.877, low: 0.87, high: 0.88 };
        let range = Range { from_bytes: 64, to_bytes: 1 << 20, step_bytes: 8, precision: 0.1 };
        let measured = [64, 1 << 20].map(|bytes| Measured { bytes, ratio, lives: 2 }).into();
        let answer =
            Answer { threshold, is_precise: true, pays_below: None, lives: 24, measured, failed: None };
        Found { line, range, answer, zero_copy: ZeroCopyCounts::default(), bearable_ns: Vec::new() }
    }

    /// `one_copy` and `zero_copy` against `two_copy`, and `zero_copy` against `one_copy`.
    fn three(thresholds: [Threshold; 3]) -> Vec<Found> {
        let ways =
            [Series::new(SendPath::OneCopy, Layout::Heap), Series::new(SendPath::ZeroCopy, Layout::Page)];
        lines(&ways).into_iter().zip(thresholds).map(|(line, threshold)| found(line, threshold)).collect()
    }

    #[test]
    fn a_table_has_each_threshold_with_its_interval_and_where_all_are_beaten() {
        let mut all = three([Threshold::Always, FOUND, LATER]);
        all[1].zero_copy = ZeroCopyCounts { completions: 9, notifications: 9, ..ZeroCopyCounts::default() };
        all[1].bearable_ns = vec![(256 << 10, 262.4)];
        assert_eq!(
            table(&all),
            "\
path            cheaper than   from                  95 % interval   lives
one_copy/heap   two_copy/heap  64B on, the smallest  -12.3 % at 64B     24
zero_copy/page  two_copy/heap  34.9K                 34K to 35.8K       24
zero_copy/page  one_copy/heap  65.4K                 63.5K to 67.4K     24

zero_copy/page against two_copy/heap: with a card, up to 262 ns a fragment at 256K
zero_copy: huge pages make fewer fragments, which a card saves: --layout huge
zero_copy/page: the kernel copied 0 % of its sends
zero_copy/page: cheaper than two_copy/heap and one_copy/heap from 65.4K on (95 %: 63.5K to 67.4K)
"
        );
    }

    #[test]
    fn what_was_not_found_is_said_with_its_reason() {
        let mut all = three([UNDECIDED, Threshold::Never, FOUND]);
        all[2].answer.is_precise = false;
        all[2].answer.pays_below = Some(512);
        all[1].zero_copy =
            ZeroCopyCounts { completions: 9, notifications: 8, copied: 9, ..ZeroCopyCounts::default() };
        let text = table(&all);
        for part in [
            "undecided     from 4K to 1M",
            "not up to 1M  -12.3 % at 1M",
            "one_copy/heap against two_copy/heap: at the largest size the difference is within the noise; more --time",
            "the interval is wider than 10 %",
            "it pays at 512B too",
            "zero_copy/page: the kernel copied about 100 % of its sends after all",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("cheaper than two_copy/heap and"), "{text}");
    }

    #[test]
    fn a_constant_says_what_it_is_and_where_it_was_measured() {
        let all = three([Threshold::Never, FOUND, LATER]);
        let surroundings = ["Measured on 2026-01-02.".to_owned(), "By sendpath tune */".to_owned()];
        assert_eq!(
            constants(&all, Language::Rust, &surroundings),
            "\
/// one_copy/heap is cheaper than two_copy/heap from this payload on: not up to the largest size that was measured.
/// Measured on 2026-01-02.
/// By sendpath tune * /
pub const ONE_COPY_FROM_BYTES: usize = usize::MAX;

/// zero_copy/page is cheaper than two_copy/heap and one_copy/heap from this payload on, in bytes; 95 % interval 65000 to 69000.
/// Measured on 2026-01-02.
/// By sendpath tune * /
pub const ZERO_COPY_FROM_BYTES: usize = 67_000;
"
        );
        let text = constants(&all[..1], Language::C, &surroundings);
        assert!(text.ends_with("\n#define ONE_COPY_FROM_BYTES SIZE_MAX\n"), "{text}");
        let mut of_a_sink = three([Threshold::Never, FOUND, LATER]);
        of_a_sink[1].bearable_ns = vec![(256 << 10, 262.4)];
        assert!(constants(&of_a_sink, Language::Rust, &[]).contains("driver moves it upwards"));
        let text = constants(&all[1..2], Language::C, &surroundings);
        assert!(text.ends_with("   By sendpath tune * / */\n#define ZERO_COPY_FROM_BYTES 35738\n"), "{text}");
    }

    #[test]
    fn constants_of_one_path_are_told_apart_and_a_hybrid_has_its_own() {
        let page = |layout| Line { way: Series::new(SendPath::ZeroCopy, layout), against: Some(baseline()) };
        let hybrid = Line { way: Series::new(SendPath::Hybrid, Layout::Heap), against: None };
        let all = [page(Layout::Page), page(Layout::Heap), hybrid].map(|line| found(line, FOUND));
        let text = constants(&all, Language::C, &[]);
        for name in
            ["ZERO_COPY_PAGE_FROM_BYTES 35738", "ZERO_COPY_HEAP_FROM_BYTES", "HYBRID_COPY_BELOW_BYTES"]
        {
            assert!(text.contains(name), "{name}\n{text}");
        }
    }

    #[test]
    fn whole_numbers_are_grouped_by_thousands() {
        assert_eq!([64.0, 999.6, 35_738.0, 1_048_576.0].map(grouped), ["64", "1_000", "35_738", "1_048_576"]);
    }
}
