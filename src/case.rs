//! What can be measured: one [`Case`], and the [`Matrix`] of cases that a bench walks.
//!
//! Pure: nothing here opens a socket, reads a file or needs a privilege.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

/// The smallest payload: one byte in each of the eight fields.
pub const MIN_PAYLOAD_BYTES: usize = 8;
/// The largest payload, 16 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
/// The most pairs that one case may have.
pub const MAX_THREADS: usize = 256;

/// Declares one axis of a case whose values are words.
macro_rules! axis {
    ($(#[$doc:meta])* $name:ident = $word:literal { $($(#[$value_doc:meta])* $value:ident,)+ }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize,
            Display, EnumString, VariantArray, VariantNames,
        )]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl Axis for $name {
            const NAME: &'static str = $word;
        }
    };
}

/// An axis whose values are words: [`Path`], [`Layout`], [`Workload`], [`Placement`].
pub trait Axis: FromStr + VariantNames {
    /// What a message to the user calls the axis.
    const NAME: &'static str;

    /// Reads one of the axis's words.
    ///
    /// # Errors
    /// [`CaseError::UnknownWord`], which lists the words there are.
    fn parse(word: &str) -> Result<Self, CaseError> {
        word.parse().map_err(|_| CaseError::UnknownWord {
            axis: Self::NAME,
            found: word.to_owned(),
            expected: Self::VARIANTS,
        })
    }
}

axis! {
    /// How a message leaves the server, and how the client takes it in.
    Path = "path" {
        /// Pack the fields into one buffer, `send`; `recv` into one buffer, unpack.
        TwoCopy,
        /// `sendmsg` with one iovec per field; `recvmsg` likewise.
        OneCopy,
        /// `sendmsg` with `MSG_ZEROCOPY`; the client as in `one_copy`.
        ZeroCopy,
    }
}

axis! {
    /// Where the fields of a message lie in memory.
    Layout = "layout" {
        /// As the allocator gives them: a 64 KiB message may straddle 24 pages.
        Heap,
        /// Each field starts on a page of its own.
        Page,
    }
}

axis! {
    /// What a pair does with its messages.
    Workload = "workload" {
        /// An 8-byte request, the whole message back; one in flight.
        Rr,
        /// Messages back to back; the client acknowledges the last of a burst.
        Stream,
    }
}

axis! {
    /// Which CPUs the two ends of a pair run on.
    Placement = "placement" {
        /// Both ends of a pair on one CPU, pairs dealt round-robin.
        Paired,
        /// Servers on one half of the CPUs, clients on the other.
        Split,
        /// Left to the scheduler.
        Free,
    }
}

/// Why a case, or a list of cases, was refused. Found before anything is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// A word that names nothing on this axis.
    #[error("unknown {axis} {found:?}: expected {}", .expected.join(", "))]
    UnknownWord {
        /// The axis, as in `path`.
        axis: &'static str,
        /// What was given.
        found: String,
        /// Every word of the axis.
        expected: &'static [&'static str],
    },
    /// Not a size at all.
    #[error("size {found:?} is not a number of bytes such as 64, 4K or 1M")]
    NotASize {
        /// What was given.
        found: String,
    },
    /// A size that no message can have.
    #[error("size {found:?} is out of range: a message has 8 bytes (one per field) to 16M")]
    SizeOutOfRange {
        /// What was given.
        found: String,
    },
    /// A thread count that is no number, or out of range.
    #[error("threads {found:?} is not a number of pairs from 1 to {MAX_THREADS}")]
    Threads {
        /// What was given.
        found: String,
    },
    /// A comma list with nothing in it.
    #[error("{variable} is empty: give a comma list, or unset it for the default")]
    EmptyList {
        /// The environment variable.
        variable: &'static str,
    },
    /// A comma list with an item that cannot be read.
    #[error("{variable}: {item}")]
    ListItem {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with the item.
        item: Box<CaseError>,
    },
    /// An item that stands twice in a comma list.
    #[error("{variable}: {found:?} stands twice")]
    Repeated {
        /// The environment variable.
        variable: &'static str,
        /// The item.
        found: String,
    },
}

/// Reads a number of bytes with an optional binary suffix: `64`, `4K`, `1M`.
///
/// # Errors
/// [`CaseError::NotASize`].
pub fn parse_bytes(text: &str) -> Result<usize, CaseError> {
    let not_a_size = || CaseError::NotASize { found: text.to_owned() };
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_size());
    }
    let number: usize = digits.parse().map_err(|_| not_a_size())?;
    number.checked_mul(1 << shift).ok_or_else(not_a_size)
}

/// Reads a payload size and holds it to the range that a message can have.
///
/// # Errors
/// [`CaseError::NotASize`], [`CaseError::SizeOutOfRange`].
pub fn parse_payload_bytes(text: &str) -> Result<usize, CaseError> {
    let bytes = parse_bytes(text)?;
    if (MIN_PAYLOAD_BYTES..=MAX_PAYLOAD_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(CaseError::SizeOutOfRange { found: text.to_owned() })
    }
}

/// Reads a number of pairs.
///
/// # Errors
/// [`CaseError::Threads`].
pub fn parse_threads(text: &str) -> Result<usize, CaseError> {
    match text.parse() {
        Ok(threads @ 1..=MAX_THREADS) => Ok(threads),
        _ => Err(CaseError::Threads { found: text.to_owned() }),
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// What a pair does.
    pub workload: Workload,
    /// How the server sends.
    pub path: Path,
    /// Where the fields lie.
    pub layout: Layout,
    /// Bytes in one message, all fields together.
    pub payload_bytes: usize,
    /// Pairs: one server thread and one client thread each.
    pub threads: usize,
    /// Where the two ends run.
    pub placement: Placement,
}

impl Case {
    /// Holds the numbers to the ranges that a case can have.
    ///
    /// # Errors
    /// [`CaseError::SizeOutOfRange`], [`CaseError::Threads`].
    pub fn check(&self) -> Result<(), CaseError> {
        parse_payload_bytes(&self.payload_bytes.to_string())?;
        parse_threads(&self.threads.to_string())?;
        Ok(())
    }
}

/// A path with its layout: a line in a chart.
pub type Series = (Path, Layout);

/// What cases have in common whose paths are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// What a pair does.
    pub workload: Workload,
    /// Bytes in one message, all fields together.
    pub payload_bytes: usize,
    /// Pairs.
    pub threads: usize,
    /// Where the two ends run.
    pub placement: Placement,
}

impl Cell {
    /// The cell's case of one series.
    #[must_use]
    pub fn case(self, (path, layout): Series) -> Case {
        let Self { workload, payload_bytes, threads, placement } = self;
        Case { workload, path, layout, payload_bytes, threads, placement }
    }
}

impl fmt::Display for Cell {
    /// As a case's id, without the path: `rr/65536B/4T/paired`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, payload_bytes, threads, placement } = self;
        write!(f, "{workload}/{payload_bytes}B/{threads}T/{placement}")
    }
}

impl Case {
    /// What it has in common with the cases that it is compared with.
    #[must_use]
    pub fn cell(&self) -> Cell {
        let &Self { workload, payload_bytes, threads, placement, .. } = self;
        Cell { workload, payload_bytes, threads, placement }
    }

    /// What it is compared by.
    #[must_use]
    pub fn series(&self) -> Series {
        (self.path, self.layout)
    }
}

impl fmt::Display for Case {
    /// The case's id, as in `rr/zero_copy/page/65536B/4T/paired`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, path, layout, payload_bytes, threads, placement } = self;
        write!(f, "{workload}/{path}/{layout}/{payload_bytes}B/{threads}T/{placement}")
    }
}

/// What stands on a chart's x axis, and so how the matrix is cut into charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X {
    /// A chart for each number of pairs, over payload sizes.
    PayloadBytes,
    /// A chart for each payload size, over numbers of pairs: of round trips, which a stream lacks.
    Threads,
}

/// The cases of one chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the cases have in common, as in `rr/4T/paired`.
    pub name: String,
    /// Series after series, each along the x axis.
    pub cases: Vec<Case>,
}

/// The axes whose product is measured. Paths and layouts go together as `series`, because not every
/// product of the two is worth a line in a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// What stands on a chart's x axis.
    pub x: X,
    /// What pairs do.
    pub workloads: Vec<Workload>,
    /// The lines of a chart.
    pub series: Vec<Series>,
    /// Payload sizes, in bytes.
    pub payload_bytes: Vec<usize>,
    /// Numbers of pairs.
    pub threads: Vec<usize>,
    /// Placements.
    pub placements: Vec<Placement>,
}

/// The four series of the default matrix: the studies' three paths on the heap, and `zero_copy` with
/// fields that keep a 64 KiB message within the kernel's 17 fragments.
const DEFAULT_SERIES: [Series; 4] = [
    (Path::TwoCopy, Layout::Heap),
    (Path::OneCopy, Layout::Heap),
    (Path::ZeroCopy, Layout::Heap),
    (Path::ZeroCopy, Layout::Page),
];

impl Matrix {
    /// Sizes from 64 B to 256 KiB (both studies' and one beyond) at 1 and 4 pairs.
    #[must_use]
    pub fn by_size() -> Self {
        Self {
            x: X::PayloadBytes,
            workloads: vec![Workload::Rr],
            series: DEFAULT_SERIES.to_vec(),
            payload_bytes: vec![64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 262_144],
            threads: vec![1, 4],
            placements: vec![Placement::Paired],
        }
    }

    /// 1 to 8 pairs at 64 KiB.
    #[must_use]
    pub fn by_threads() -> Self {
        Self { x: X::Threads, payload_bytes: vec![65536], threads: vec![1, 2, 4, 8], ..Self::by_size() }
    }

    /// The cells, in order.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        self.workloads.iter().flat_map(move |&workload| {
            self.placements.iter().flat_map(move |&placement| {
                self.threads.iter().flat_map(move |&threads| {
                    let cell = move |&payload_bytes| Cell { workload, payload_bytes, threads, placement };
                    self.payload_bytes.iter().map(cell)
                })
            })
        })
    }

    /// Cuts the matrix into charts.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let (outer, unit, inner) = match self.x {
            X::PayloadBytes => (&self.threads, 'T', &self.payload_bytes),
            X::Threads => (&self.payload_bytes, 'B', &self.threads),
        };
        let mut groups = Vec::new();
        for &workload in self.workloads.iter().filter(|&&workload| self.can_time(workload)) {
            for &placement in &self.placements {
                for &common in outer {
                    let case = |&(path, layout), along| {
                        let (payload_bytes, threads) = match self.x {
                            X::PayloadBytes => (along, common),
                            X::Threads => (common, along),
                        };
                        Case { workload, path, layout, payload_bytes, threads, placement }
                    };
                    let along = |series| inner.iter().map(move |&along| case(series, along));
                    groups.push(Group {
                        name: format!("{workload}/{common}{unit}/{placement}"),
                        cases: self.series.iter().flat_map(along).collect(),
                    });
                }
            }
        }
        groups
    }

    /// Whether the charts can show `workload`.
    #[must_use]
    pub fn can_time(&self, workload: Workload) -> bool {
        self.x == X::PayloadBytes || workload == Workload::Rr
    }

    /// Replaces each axis that a `SENDPATH_*` variable sets. `lookup` gives a variable's value.
    ///
    /// `SENDPATH_PATHS` alone keeps the default series of those paths; with `SENDPATH_LAYOUTS` every
    /// product of the two is measured.
    ///
    /// # Errors
    /// A list that is empty, repeats an item, or has an item that cannot be read.
    pub fn overridden(mut self, lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, CaseError> {
        fn replace<T>(axis: &mut Vec<T>, list: Option<Vec<T>>) {
            if let Some(list) = list {
                *axis = list;
            }
        }
        replace(&mut self.payload_bytes, list(&lookup, "SENDPATH_SIZES", parse_payload_bytes)?);
        replace(&mut self.threads, list(&lookup, "SENDPATH_THREADS", parse_threads)?);
        replace(&mut self.workloads, list(&lookup, "SENDPATH_WORKLOADS", Workload::parse)?);
        replace(&mut self.placements, list(&lookup, "SENDPATH_PLACEMENT", Placement::parse)?);
        let paths = list(&lookup, "SENDPATH_PATHS", Path::parse)?;
        let paths = paths.as_deref().unwrap_or(<Path as VariantArray>::VARIANTS);
        match list(&lookup, "SENDPATH_LAYOUTS", Layout::parse)? {
            None => self.series.retain(|(path, _)| paths.contains(path)),
            Some(layouts) => {
                self.series = paths
                    .iter()
                    .flat_map(|&path| layouts.iter().map(move |&layout| (path, layout)))
                    .collect();
            }
        }
        Ok(self)
    }
}

fn list<T: PartialEq>(
    lookup: impl Fn(&'static str) -> Option<String>,
    variable: &'static str,
    parse: impl Fn(&str) -> Result<T, CaseError>,
) -> Result<Option<Vec<T>>, CaseError> {
    let Some(text) = lookup(variable) else { return Ok(None) };
    if text.trim().is_empty() {
        return Err(CaseError::EmptyList { variable });
    }
    let mut items = Vec::new();
    for word in text.split(',').map(str::trim) {
        let item = parse(word).map_err(|item| CaseError::ListItem { variable, item: Box::new(item) })?;
        if items.contains(&item) {
            return Err(CaseError::Repeated { variable, found: word.to_owned() });
        }
        items.push(item);
    }
    Ok(Some(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(variables: &[(&'static str, &str)]) -> Result<Matrix, CaseError> {
        Matrix::by_size().overridden(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_id_names_every_axis() {
        let case = Case {
            workload: Workload::Rr,
            path: Path::ZeroCopy,
            layout: Layout::Page,
            payload_bytes: 65536,
            threads: 4,
            placement: Placement::Paired,
        };
        assert_eq!(case.to_string(), "rr/zero_copy/page/65536B/4T/paired");
    }

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(parse_payload_bytes("64"), Ok(64));
        assert_eq!(parse_payload_bytes("4K"), Ok(4096));
        assert_eq!(parse_payload_bytes("1M"), Ok(1 << 20));
        assert_eq!(parse_payload_bytes("16M"), Ok(MAX_PAYLOAD_BYTES));
    }

    #[test]
    fn sizes_that_no_message_can_have_are_refused() {
        for text in ["0", "7", "17M", "16777217"] {
            let error = parse_payload_bytes(text).unwrap_err();
            assert!(matches!(error, CaseError::SizeOutOfRange { .. }), "{text}: {error}");
        }
        for text in
            ["", "K", "64Q", "-8", "+8", "8 ", "1.5K", "1é", "99999999999999999999", "18446744073709551615M"]
        {
            let error = parse_payload_bytes(text).unwrap_err();
            assert!(matches!(error, CaseError::NotASize { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn threads_are_1_to_256() {
        assert_eq!(parse_threads("256"), Ok(256));
        for text in ["0", "257", "-1", "x", ""] {
            assert!(parse_threads(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!(
            Path::parse("three_copy").unwrap_err().to_string(),
            r#"unknown path "three_copy": expected two_copy, one_copy, zero_copy"#
        );
    }

    #[test]
    fn a_matrix_is_cut_into_charts_along_its_x_axis() {
        let by_size = Matrix::by_size().groups();
        assert_eq!(
            by_size.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(),
            ["rr/1T/paired", "rr/4T/paired"]
        );
        assert!(by_size.iter().all(|group| group.cases.len() == 4 * 9));
        let sizes: Vec<_> =
            by_size[1].cases[..3].iter().map(|case| (case.payload_bytes, case.threads)).collect();
        assert_eq!(sizes, [(64, 4), (256, 4), (1024, 4)]);

        let mut by_threads = Matrix::by_threads();
        by_threads.workloads = vec![Workload::Rr, Workload::Stream];
        let groups = by_threads.groups();
        assert_eq!(groups.len(), 1, "a stream has no round trip");
        assert_eq!(groups[0].name, "rr/65536B/paired");
        let threads: Vec<_> = groups[0].cases[..4].iter().map(|case| case.threads).collect();
        assert_eq!(threads, [1, 2, 4, 8]);
    }

    #[test]
    fn no_variable_leaves_the_default_matrix() {
        assert_eq!(matrix(&[]), Ok(Matrix::by_size()));
    }

    #[test]
    fn paths_alone_keep_their_default_series() {
        let matrix = matrix(&[("SENDPATH_PATHS", "zero_copy")]).unwrap();
        assert_eq!(matrix.series, [(Path::ZeroCopy, Layout::Heap), (Path::ZeroCopy, Layout::Page)]);
    }

    #[test]
    fn layouts_are_crossed_with_paths() {
        let matrix =
            matrix(&[("SENDPATH_PATHS", "two_copy,one_copy"), ("SENDPATH_LAYOUTS", "page, heap")]).unwrap();
        assert_eq!(
            matrix.series,
            [
                (Path::TwoCopy, Layout::Page),
                (Path::TwoCopy, Layout::Heap),
                (Path::OneCopy, Layout::Page),
                (Path::OneCopy, Layout::Heap)
            ]
        );
    }

    #[test]
    fn a_list_that_is_empty_strays_or_repeats_is_refused() {
        for (text, message) in [
            ("", "SENDPATH_SIZES is empty: give a comma list, or unset it for the default"),
            (" ", "SENDPATH_SIZES is empty: give a comma list, or unset it for the default"),
            ("64,", r#"SENDPATH_SIZES: size "" is not a number of bytes such as 64, 4K or 1M"#),
            ("64,x", r#"SENDPATH_SIZES: size "x" is not a number of bytes such as 64, 4K or 1M"#),
            ("1K,1024", r#"SENDPATH_SIZES: "1024" stands twice"#),
        ] {
            assert_eq!(matrix(&[("SENDPATH_SIZES", text)]).unwrap_err().to_string(), message);
        }
    }
}
