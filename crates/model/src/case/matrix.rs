//! What is measured: one [`Case`], the [`Cell`] of cases that are compared, and the [`Matrix`] that
//! a sweep or a bench walks.

use std::fmt;

use super::series::{default_copy_below_bytes, departure};
use super::{
    CaseError, DEFAULT_COPY_BELOW_BYTES, Engine, Layout, MAX_THREADS, Placement, Receiver, SendPath, Series,
    Shape, Source, Workload,
};
use crate::in_order::distinct;
use serde::{Deserialize, Serialize};

/// The smallest payload: one byte in each of the eight fields.
pub const MIN_PAYLOAD_BYTES: usize = 8;

/// The largest payload, 16 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// Reads a number of bytes, with a binary unit or without: `64`, `4K`, `1M`; `4KB`, `4 KiB` and
/// `4k` mean the same.
///
/// # Errors
/// [`CaseError::NotASize`].
pub fn parse_bytes(text: &str) -> Result<usize, CaseError> {
    let not_a_size = || CaseError::NotASize(text.to_owned());
    let (digits, unit) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        _ => return Err(not_a_size()),
    };
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
        Err(CaseError::SizeOutOfRange(text.to_owned()))
    }
}

/// Reads the size below which the hybrid paths copy a field.
///
/// # Errors
/// [`CaseError::Threshold`].
pub fn parse_copy_below(text: &str) -> Result<usize, CaseError> {
    match parse_bytes(text) {
        Ok(bytes @ 1..=MAX_PAYLOAD_BYTES) => Ok(bytes),
        _ => Err(CaseError::Threshold(text.to_owned())),
    }
}

/// Reads a number of pairs.
///
/// # Errors
/// [`CaseError::Threads`].
pub fn parse_threads(text: &str) -> Result<usize, CaseError> {
    match text.parse() {
        Ok(threads @ 1..=MAX_THREADS) => Ok(threads),
        _ => Err(CaseError::Threads(text.to_owned())),
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// What a pair does.
    pub workload: Workload,
    /// How the server sends.
    pub path: SendPath,
    /// Where the fields lie.
    pub layout: Layout,
    /// Bytes in one message, all fields together.
    pub payload_bytes: usize,
    /// Pairs: one server thread and one client thread each.
    pub threads: usize,
    /// Where the two ends run.
    pub placement: Placement,
    /// How the client takes the bytes in.
    pub receiver: Receiver,
    /// Which messages are sent.
    pub source: Source,
    /// How they are cut into fields.
    #[serde(default)]
    pub shape: Shape,
    /// How the path's call is made.
    #[serde(default)]
    pub engine: Engine,
    /// The hybrid paths copy fields of fewer bytes.
    #[serde(default = "default_copy_below_bytes")]
    pub copy_below_bytes: usize,
}

impl Default for Case {
    /// What `sendpath run` measures: a round trip of 64 KiB by `two_copy`, on one pair.
    fn default() -> Self {
        Self {
            workload: Workload::Rr,
            path: SendPath::TwoCopy,
            layout: Layout::Heap,
            payload_bytes: 64 << 10,
            threads: 1,
            placement: Placement::Paired,
            receiver: Receiver::default(),
            source: Source::default(),
            shape: Shape::default(),
            engine: Engine::default(),
            copy_below_bytes: DEFAULT_COPY_BELOW_BYTES,
        }
    }
}

impl Case {
    /// Holds the numbers to the ranges that a case can have, and refuses what does not go together.
    ///
    /// # Errors
    /// [`CaseError::SizeOutOfRange`], [`CaseError::Threads`], [`CaseError::ShapeAndSize`],
    /// [`CaseError::Engine`], [`CaseError::Layout`].
    pub fn check(&self) -> Result<(), CaseError> {
        parse_payload_bytes(&self.payload_bytes.to_string())?;
        parse_threads(&self.threads.to_string())?;
        self.shape.check(self.payload_bytes)?;
        self.series().check()
    }

    /// What it has in common with the cases that it is compared with.
    pub fn cell(&self) -> Cell {
        let &Self { workload, payload_bytes, threads, placement, receiver, source, shape, .. } = self;
        Cell { workload, payload_bytes, threads, placement, receiver, source, shape }
    }

    /// What it is compared by.
    pub fn series(&self) -> Series {
        let &Self { path, layout, engine, copy_below_bytes, .. } = self;
        Series { path, layout, engine, copy_below_bytes }
    }
}

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
    /// How the client takes the bytes in.
    pub receiver: Receiver,
    /// Which messages are sent.
    pub source: Source,
    /// How they are cut into fields.
    #[serde(default)]
    pub shape: Shape,
}

impl Cell {
    /// The cell's case of one series.
    pub fn case(self, series: Series) -> Case {
        let Self { workload, payload_bytes, threads, placement, receiver, source, shape } = self;
        let Series { path, layout, engine, copy_below_bytes } = series;
        let of_series = Case { path, layout, engine, copy_below_bytes, ..Case::default() };
        Case { workload, payload_bytes, threads, placement, receiver, source, shape, ..of_series }
    }

    /// What it has in common with the cells of one chart.
    pub fn situation(&self) -> Situation {
        let &Self { workload, placement, receiver, source, shape, .. } = self;
        Situation { workload, placement, receiver, source, shape }
    }
}

/// What cells have in common that may stand in one chart: all but the size and the number of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Situation {
    /// What a pair does.
    pub workload: Workload,
    /// Where the two ends run.
    pub placement: Placement,
    /// How the client takes the bytes in.
    pub receiver: Receiver,
    /// Which messages are sent.
    pub source: Source,
    /// How they are cut into fields.
    pub shape: Shape,
}

impl Situation {
    /// What every threshold depends on, in words that need no glossary:
    /// `one connection, request/response, data in cache`. Where the two ends run follows where it
    /// is not the default.
    pub fn in_words(self, threads: usize) -> String {
        let connections =
            if threads == 1 { "one connection".to_owned() } else { format!("{threads} connections") };
        let (workload, source) = (self.workload.in_words(), self.source.in_words());
        let placement = match self.placement {
            Placement::Paired => String::new(),
            placement => format!(", {placement}"),
        };
        format!("{connections}, {workload}, {source}{placement}")
    }

    /// The end of an id: receiver, source and shape, each left out where it is the default.
    pub fn departures(self) -> String {
        let Self { receiver, source, shape, .. } = self;
        departure(receiver, Receiver::default())
            + &departure(source, Source::default())
            + &departure(shape, Shape::default())
    }
}

impl fmt::Display for Cell {
    /// As a case's id, without the path: `rr/65536B/4T/paired`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, payload_bytes, threads, placement, .. } = self;
        write!(f, "{workload}/{payload_bytes}B/{threads}T/{placement}{}", self.situation().departures())
    }
}

impl fmt::Display for Case {
    /// The case's id, as in `rr/zero_copy/page/65536B/4T/paired`; receiver, source, shape, engine
    /// and threshold follow where they are not the default: `…/paired/matched/cold`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, path, layout, payload_bytes, threads, placement, .. } = self;
        write!(f, "{workload}/{path}/{layout}/{payload_bytes}B/{threads}T/{placement}")?;
        f.write_str(&self.cell().situation().departures())?;
        f.write_str(&self.series().departures())
    }
}

/// The axes whose product is measured. Paths and layouts go together as `series`, because not every
/// product of the two is worth a line in a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
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
    /// How clients take the bytes in.
    pub receivers: Vec<Receiver>,
    /// Which messages are sent.
    pub sources: Vec<Source>,
    /// How they are cut into fields. One that brings its own payload size takes the place of
    /// `payload_bytes`.
    pub shapes: Vec<Shape>,
}

/// The four series of the default matrix: the studies' three paths on the heap, and `zero_copy`
/// with fields that keep a 64 KiB message within the kernel's 17 fragments.
const DEFAULT_SERIES: [Series; 4] = [
    Series::new(SendPath::TwoCopy, Layout::Heap),
    Series::new(SendPath::OneCopy, Layout::Heap),
    Series::new(SendPath::ZeroCopy, Layout::Heap),
    Series::new(SendPath::ZeroCopy, Layout::Page),
];

impl Matrix {
    /// Sizes from 64 B to 256 KiB (both studies' and one beyond) at 1 and 4 pairs.
    pub fn by_size() -> Self {
        Self {
            workloads: vec![Workload::Rr],
            series: DEFAULT_SERIES.to_vec(),
            payload_bytes: vec![64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 262_144],
            threads: vec![1, 4],
            placements: vec![Placement::Paired],
            receivers: vec![Receiver::default()],
            sources: vec![Source::default()],
            shapes: vec![Shape::default()],
        }
    }

    /// 1 to 8 pairs at 64 KiB.
    pub fn by_threads() -> Self {
        Self { payload_bytes: vec![65536], threads: vec![1, 2, 4, 8], ..Self::by_size() }
    }

    /// The cells, in order: sizes vary first, then pairs, shapes, and so on.
    pub fn cells(&self) -> Vec<Cell> {
        fn each<T: Copy>(cells: Vec<Cell>, axis: &[T], with: impl Fn(Cell, T) -> Cell) -> Vec<Cell> {
            let along = |cell| axis.iter().map(|&value| with(cell, value)).collect::<Vec<_>>();
            cells.into_iter().flat_map(along).collect()
        }
        let cells = vec![Case::default().cell()];
        let cells = each(cells, &self.workloads, |cell, workload| Cell { workload, ..cell });
        let cells = each(cells, &self.placements, |cell, placement| Cell { placement, ..cell });
        let cells = each(cells, &self.receivers, |cell, receiver| Cell { receiver, ..cell });
        let cells = each(cells, &self.sources, |cell, source| Cell { source, ..cell });
        let cells = each(cells, &self.shapes, |cell, shape| Cell { shape, ..cell });
        let cells = each(cells, &self.threads, |cell, threads| Cell { threads, ..cell });
        let of_size = |cell, payload_bytes| Cell { payload_bytes, ..cell };
        cells.into_iter().flat_map(|cell| each(vec![cell], &self.sizes(cell.shape), of_size)).collect()
    }

    /// The payloads of `shape`: its own, or those of the matrix that it can have.
    fn sizes(&self, shape: Shape) -> Vec<usize> {
        match shape.own_payload_bytes() {
            Some(own_bytes) => vec![own_bytes],
            None => self.payload_bytes.iter().copied().filter(|&bytes| shape.check(bytes).is_ok()).collect(),
        }
    }

    /// Replaces each axis that `axes` sets.
    ///
    /// Paths alone keep the series of those paths, and a path that has none lies on the heap; with
    /// layouts, engines or thresholds every product that there is is measured.
    #[must_use]
    pub fn overridden(mut self, axes: &Axes) -> Self {
        fn replace<T: Clone>(axis: &mut Vec<T>, list: &[T]) {
            if !list.is_empty() {
                *axis = list.to_vec();
            }
        }
        replace(&mut self.payload_bytes, &axes.payload_bytes);
        replace(&mut self.threads, &axes.threads);
        replace(&mut self.workloads, &axes.workloads);
        replace(&mut self.placements, &axes.placements);
        replace(&mut self.receivers, &axes.receivers);
        replace(&mut self.sources, &axes.sources);
        replace(&mut self.shapes, &axes.shapes);
        self.series = axes.series(&self.series);
        self
    }
}

/// What a user puts in the place of a matrix's axes; an empty list leaves an axis as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axes {
    /// What pairs do.
    pub workloads: Vec<Workload>,
    /// How messages are sent.
    pub paths: Vec<SendPath>,
    /// Where fields lie.
    pub layouts: Vec<Layout>,
    /// Payload sizes, in bytes.
    pub payload_bytes: Vec<usize>,
    /// Numbers of pairs.
    pub threads: Vec<usize>,
    /// Placements.
    pub placements: Vec<Placement>,
    /// How clients take the bytes in.
    pub receivers: Vec<Receiver>,
    /// Which messages are sent.
    pub sources: Vec<Source>,
    /// How they are cut into fields.
    pub shapes: Vec<Shape>,
    /// How the paths' calls are made.
    pub engines: Vec<Engine>,
    /// Below which sizes the hybrid paths copy a field.
    pub copy_below_bytes: Vec<usize>,
}

impl Axes {
    /// Refuses lists of which something that was asked for would not be measured: a path that has
    /// none of the engines and layouts, a threshold without a path that has one, a size that no
    /// shape takes, a shape that takes none of the sizes.
    ///
    /// # Errors
    /// [`CaseError::Engine`], [`CaseError::Layout`], [`CaseError::NoHybrid`],
    /// [`CaseError::ShapeAndSize`].
    pub fn check(&self) -> Result<(), CaseError> {
        let engines = given_or(&self.engines, &[Engine::Syscall]);
        let layouts = given_or(&self.layouts, &[Layout::Heap]);
        for &path in &self.paths {
            let all = || {
                engines.iter().flat_map(|&engine| {
                    layouts.iter().map(move |&layout| Series::new(path, layout).by(engine).check())
                })
            };
            if all().all(|found| found.is_err()) {
                all().collect::<Result<(), _>>()?;
            }
        }
        if !self.copy_below_bytes.is_empty() && !self.paths.iter().any(|path| path.has_threshold()) {
            return Err(CaseError::NoHybrid);
        }
        let Self { payload_bytes: sizes, shapes, .. } = self;
        if sizes.is_empty() || shapes.is_empty() {
            return Ok(());
        }
        for shape in shapes.iter().filter(|shape| shape.own_payload_bytes().is_none()) {
            if sizes.iter().all(|&bytes| shape.check(bytes).is_err()) {
                sizes.iter().try_for_each(|&bytes| shape.check(bytes))?;
            }
        }
        // Where each shape brings its own payload, no other size would be measured.
        for &bytes in sizes {
            if shapes
                .iter()
                .all(|shape| shape.own_payload_bytes().is_some_and(|own_bytes| own_bytes != bytes))
            {
                shapes.iter().try_for_each(|shape| shape.check(bytes))?;
            }
        }
        Ok(())
    }

    /// The case of who takes one at a time: the first of each list, and the default of what is not
    /// given.
    pub fn case(&self) -> Case {
        fn first<T: Copy>(list: &[T], default: T) -> T {
            list.first().copied().unwrap_or(default)
        }
        let default = Case::default();
        let shape = first(&self.shapes, default.shape);
        let payload_bytes = shape.own_payload_bytes().unwrap_or(default.payload_bytes);
        Case {
            workload: first(&self.workloads, default.workload),
            path: first(&self.paths, default.path),
            layout: first(&self.layouts, default.layout),
            payload_bytes: first(&self.payload_bytes, payload_bytes),
            threads: first(&self.threads, default.threads),
            placement: first(&self.placements, default.placement),
            receiver: first(&self.receivers, default.receiver),
            source: first(&self.sources, default.source),
            shape,
            engine: first(&self.engines, default.engine),
            copy_below_bytes: first(&self.copy_below_bytes, default.copy_below_bytes),
        }
    }

    /// The series that these axes make of `default`: of each path, its layouts and engines there,
    /// where none are given.
    fn series(&self, default: &[Series]) -> Vec<Series> {
        let default_paths: Vec<SendPath> = default.iter().map(|series| series.path).collect();
        let mut series = Vec::new();
        for &path in given_or(&self.paths, &default_paths) {
            let of_path = || default.iter().filter(move |series| series.path == path);
            let default_layouts: Vec<Layout> = of_path().map(|series| series.layout).collect();
            for &layout in given_or(&self.layouts, given_or(&default_layouts, &[Layout::Heap])) {
                let alike = of_path().filter(|series| series.layout == layout);
                let default_engines: Vec<Engine> = alike.map(|series| series.engine).collect();
                for &engine in given_or(&self.engines, given_or(&default_engines, &[Engine::Syscall])) {
                    for &copy_below_bytes in given_or(&self.copy_below_bytes, &[DEFAULT_COPY_BELOW_BYTES]) {
                        series.push(Series::new(path, layout).by(engine).copying_below(copy_below_bytes));
                    }
                }
            }
        }
        distinct(series.into_iter().filter(|one| one.check().is_ok()))
    }
}

/// The list that was given, or else the other.
fn given_or<'l, T>(given: &'l [T], other: &'l [T]) -> &'l [T] {
    if given.is_empty() { other } else { given }
}

/// Reads a list with `separator` between its items.
///
/// # Errors
/// [`CaseError::EmptyList`], [`CaseError::Repeated`], or what `parse` says of an item.
pub fn parse_list<T: PartialEq>(
    text: &str,
    separator: char,
    parse: impl Fn(&str) -> Result<T, CaseError>,
) -> Result<Vec<T>, CaseError> {
    if text.trim().is_empty() {
        return Err(CaseError::EmptyList);
    }
    let mut items = Vec::new();
    for word in text.split(separator).map(str::trim) {
        let item = parse(word)?;
        if items.contains(&item) {
            return Err(CaseError::Repeated(word.to_owned()));
        }
        items.push(item);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_every_axis() {
        let case = Case {
            workload: Workload::Rr,
            path: SendPath::ZeroCopy,
            layout: Layout::Page,
            payload_bytes: 65536,
            threads: 4,
            placement: Placement::Paired,
            ..Case::default()
        };
        assert_eq!(case.to_string(), "rr/zero_copy/page/65536B/4T/paired");
        let apart = Case { receiver: Receiver::Matched, source: Source::Cold, ..case };
        assert_eq!(apart.to_string(), "rr/zero_copy/page/65536B/4T/paired/matched/cold");
        assert_eq!(apart.cell().to_string(), "rr/65536B/4T/paired/matched/cold");
    }

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(parse_payload_bytes("64"), Ok(64));
        assert_eq!(parse_payload_bytes("4K"), Ok(4096));
        for text in ["64KB", "64 KiB", "64k", "64kib", "65536", "65536B"] {
            assert_eq!(parse_payload_bytes(text), Ok(65536), "{text}");
        }
        for text in ["64  KiB", "64\rM", "64\n", "6 4K", " 64K"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_payload_bytes("1M"), Ok(1 << 20));
        assert_eq!(parse_payload_bytes("16M"), Ok(MAX_PAYLOAD_BYTES));
    }

    #[test]
    fn sizes_that_no_message_can_have_are_refused() {
        for text in ["0", "7", "17M", "16777217"] {
            let error = parse_payload_bytes(text).unwrap_err();
            assert!(matches!(error, CaseError::SizeOutOfRange(_)), "{text}: {error}");
        }
        for text in [
            "",
            "K",
            "64Q",
            "-8",
            "+8",
            " 8",
            "8 x",
            "1.5K",
            "1é",
            "99999999999999999999",
            "18446744073709551615M",
        ] {
            let error = parse_payload_bytes(text).unwrap_err();
            assert!(matches!(error, CaseError::NotASize(_)), "{text}: {error}");
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
    fn nothing_set_leaves_the_matrix_as_it_is() {
        assert_eq!(Matrix::by_size().overridden(&Axes::default()), Matrix::by_size());
    }

    #[test]
    fn paths_alone_keep_their_default_series() {
        let axes = Axes { paths: vec![SendPath::ZeroCopy], ..Axes::default() };
        let matrix = Matrix::by_size().overridden(&axes);
        assert_eq!(
            matrix.series,
            [Layout::Heap, Layout::Page].map(|layout| Series::new(SendPath::ZeroCopy, layout))
        );
    }

    #[test]
    fn layouts_are_crossed_with_paths() {
        let axes = Axes {
            paths: vec![SendPath::TwoCopy, SendPath::OneCopy],
            layouts: vec![Layout::Page, Layout::Heap],
            ..Axes::default()
        };
        assert_eq!(
            Matrix::by_size().overridden(&axes).series,
            [
                Series::new(SendPath::TwoCopy, Layout::Page),
                Series::new(SendPath::TwoCopy, Layout::Heap),
                Series::new(SendPath::OneCopy, Layout::Page),
                Series::new(SendPath::OneCopy, Layout::Heap)
            ]
        );
    }

    #[test]
    fn receivers_and_sources_multiply_the_cells() {
        let axes = Axes {
            receivers: vec![Receiver::Buffer, Receiver::Discard],
            sources: vec![Source::Hot, Source::Cold],
            threads: vec![1],
            ..Axes::default()
        };
        let matrix = Matrix::by_size().overridden(&axes);
        assert_eq!(matrix.cells().len(), 4 * 9);
    }

    #[test]
    fn a_list_that_is_empty_or_repeats_is_refused() {
        for (text, message) in [
            ("", "the list is empty: give a comma list, or leave it out for the default"),
            (" ", "the list is empty: give a comma list, or leave it out for the default"),
            ("64,", r#"size "" is not a number of bytes such as 64, 4K or 1M"#),
            ("64,x", r#"size "x" is not a number of bytes such as 64, 4K or 1M"#),
            ("1K,1024", r#""1024" stands twice"#),
        ] {
            assert_eq!(parse_list(text, ',', parse_payload_bytes).unwrap_err().to_string(), message);
        }
    }
}
