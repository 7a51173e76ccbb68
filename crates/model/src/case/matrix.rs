//! What is measured: one [`Case`], the [`Cell`] of cases that are compared, and the [`Matrix`] that
//! a bench walks.

use std::fmt;

use super::series::default_copy_below_bytes;
use super::{
    CaseError, DEFAULT_COPY_BELOW_BYTES, Engine, Layout, MAX_PAYLOAD_BYTES, MAX_THREADS, MIN_PAYLOAD_BYTES,
    Placement, Receiver, SendPath, Series, Shape, Source, Workload,
};
use serde::{Deserialize, Serialize};

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

/// Reads the size below which the hybrid paths copy a field.
///
/// # Errors
/// [`CaseError::Threshold`].
pub fn parse_copy_below(text: &str) -> Result<usize, CaseError> {
    match parse_bytes(text) {
        Ok(bytes @ 1..=MAX_PAYLOAD_BYTES) => Ok(bytes),
        _ => Err(CaseError::Threshold { found: text.to_owned() }),
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
    #[must_use]
    pub fn case(self, series: Series) -> Case {
        let Self { workload, payload_bytes, threads, placement, receiver, source, shape } = self;
        let Series { path, layout, engine, copy_below_bytes } = series;
        Case {
            workload,
            path,
            layout,
            payload_bytes,
            threads,
            placement,
            receiver,
            source,
            shape,
            engine,
            copy_below_bytes,
        }
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

impl Cell {
    /// What it has in common with the cells of one chart.
    #[must_use]
    pub fn situation(&self) -> Situation {
        let &Self { workload, placement, receiver, source, shape, .. } = self;
        Situation { workload, placement, receiver, source, shape }
    }
}

impl Situation {
    /// What every threshold depends on, in words that need no glossary:
    /// `one connection, request/response, data in cache`. Where the two ends run follows where it
    /// is not the default.
    #[must_use]
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
    #[must_use]
    pub fn departures(self) -> String {
        let mut end = String::new();
        if self.receiver != Receiver::default() {
            end = format!("{end}/{}", self.receiver);
        }
        if self.source != Source::default() {
            end = format!("{end}/{}", self.source);
        }
        if self.shape != Shape::default() {
            end = format!("{end}/{}", self.shape);
        }
        end
    }
}

impl fmt::Display for Cell {
    /// As a case's id, without the path: `rr/65536B/4T/paired`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, payload_bytes, threads, placement, .. } = self;
        write!(f, "{workload}/{payload_bytes}B/{threads}T/{placement}{}", self.situation().departures())
    }
}

impl Case {
    /// What it has in common with the cases that it is compared with.
    #[must_use]
    pub fn cell(&self) -> Cell {
        let &Self { workload, payload_bytes, threads, placement, receiver, source, shape, .. } = self;
        Cell { workload, payload_bytes, threads, placement, receiver, source, shape }
    }

    /// What it is compared by.
    #[must_use]
    pub fn series(&self) -> Series {
        let &Self { path, layout, engine, copy_below_bytes, .. } = self;
        Series { path, layout, engine, copy_below_bytes }
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

/// What stands on a chart's x axis, and so how the matrix is cut into charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChartAxis {
    /// A chart for each number of pairs, over payload sizes.
    PayloadBytes,
    /// A chart for each payload size, over numbers of pairs: of round trips, which a stream lacks.
    Threads,
}

impl ChartAxis {
    /// Where a case stands on the axis, in an id of Criterion's: `K064`, or `04` pairs. Criterion
    /// sorts ids as texts, and its charts have room for some twenty letters.
    #[must_use]
    pub fn id(self, case: &Case) -> String {
        match self {
            Self::PayloadBytes => size_id(case.payload_bytes),
            Self::Threads => format!("{:02}", case.threads),
        }
    }
}

/// A size in an id of Criterion's: the unit and three digits, as in `B064`, `K256` and `M001`, and
/// decimals where the size is no multiple of the unit. The order of such texts is the order of the
/// sizes.
fn size_id(bytes: usize) -> String {
    let (letter, unit) = match bytes {
        0..1000 => ('B', 1),
        1000..1_024_000 => ('K', 1 << 10),
        _ => ('M', 1 << 20),
    };
    let decimals = (bytes % unit) as f64 / f64::from(unit as u32);
    let decimals = if decimals > 0.0 { decimals.to_string() } else { String::new() };
    format!("{letter}{:03}{}", bytes / unit, decimals.trim_start_matches('0'))
}

/// The cases of one chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the cases have in common, as in `04` pairs or `K064`; what departs from the default
    /// axes follows.
    pub name: String,
    /// Series after series, each along the x axis.
    pub cases: Vec<Case>,
}

/// The axes whose product is measured. Paths and layouts go together as `series`, because not every
/// product of the two is worth a line in a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// What stands on a chart's x axis.
    pub x: ChartAxis,
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
    #[must_use]
    pub fn by_size() -> Self {
        Self {
            x: ChartAxis::PayloadBytes,
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
    #[must_use]
    pub fn by_threads() -> Self {
        Self {
            x: ChartAxis::Threads,
            payload_bytes: vec![65536],
            threads: vec![1, 2, 4, 8],
            ..Self::by_size()
        }
    }

    /// The cells, in order.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        self.situations().flat_map(move |situation| {
            let Situation { workload, placement, receiver, source, shape } = situation;
            self.threads.iter().flat_map(move |&threads| {
                self.sizes(shape).into_iter().map(move |payload_bytes| Cell {
                    workload,
                    payload_bytes,
                    threads,
                    placement,
                    receiver,
                    source,
                    shape,
                })
            })
        })
    }

    /// The payloads of `shape`: its own, or those of the matrix that it can have.
    fn sizes(&self, shape: Shape) -> Vec<usize> {
        match shape.own_payload_bytes() {
            Some(own_bytes) => vec![own_bytes],
            None => self.payload_bytes.iter().copied().filter(|&bytes| shape.check(bytes).is_ok()).collect(),
        }
    }

    /// What all cases of one chart have in common, besides what the chart is of.
    fn situations(&self) -> impl Iterator<Item = Situation> {
        let Self { workloads, placements, receivers, sources, shapes, .. } = self;
        workloads.iter().flat_map(move |&workload| {
            placements.iter().flat_map(move |&placement| {
                receivers.iter().flat_map(move |&receiver| {
                    sources.iter().flat_map(move |&source| {
                        let situation =
                            move |&shape| Situation { workload, placement, receiver, source, shape };
                        shapes.iter().map(situation)
                    })
                })
            })
        })
    }

    /// Cuts the matrix into charts.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut groups = Vec::new();
        for situation in self.situations() {
            if !self.can_time(situation.workload) {
                continue;
            }
            let sizes = self.sizes(situation.shape);
            let (outer, inner) = match self.x {
                ChartAxis::PayloadBytes => (&self.threads, &sizes),
                ChartAxis::Threads => (&sizes, &self.threads),
            };
            let Situation { workload, placement, receiver, source, shape } = situation;
            for &common in outer {
                let case = |&series: &Series, along| {
                    let (payload_bytes, threads) = match self.x {
                        ChartAxis::PayloadBytes => (along, common),
                        ChartAxis::Threads => (common, along),
                    };
                    Cell { workload, payload_bytes, threads, placement, receiver, source, shape }.case(series)
                };
                let along = |series| inner.iter().map(move |&along| case(series, along));
                let mut name = match self.x {
                    ChartAxis::PayloadBytes => format!("{common:02}"),
                    ChartAxis::Threads => size_id(common),
                };
                if workload != Workload::Rr {
                    name = format!("{name}/{workload}");
                }
                if placement != Placement::Paired {
                    name = format!("{name}/{placement}");
                }
                groups.push(Group {
                    name: name + &situation.departures(),
                    cases: self.series.iter().flat_map(along).collect(),
                });
            }
        }
        groups
    }

    /// Whether the charts can show `workload`.
    #[must_use]
    pub fn can_time(&self, workload: Workload) -> bool {
        self.x == ChartAxis::PayloadBytes || workload == Workload::Rr
    }

    /// Replaces each axis that `axes` sets.
    ///
    /// Paths alone keep the series of those paths, and a path that has none lies on the heap; with
    /// layouts, engines or thresholds every product that there is is measured.
    #[must_use]
    pub fn overridden(mut self, axes: &Axes) -> Self {
        fn replace<T: Clone>(axis: &mut Vec<T>, list: Option<&Vec<T>>) {
            if let Some(list) = list {
                axis.clone_from(list);
            }
        }
        replace(&mut self.payload_bytes, axes.payload_bytes.as_ref());
        replace(&mut self.threads, axes.threads.as_ref());
        replace(&mut self.workloads, axes.workloads.as_ref());
        replace(&mut self.placements, axes.placements.as_ref());
        replace(&mut self.receivers, axes.receivers.as_ref());
        replace(&mut self.sources, axes.sources.as_ref());
        replace(&mut self.shapes, axes.shapes.as_ref());
        self.series = axes.series(&self.series);
        self
    }
}

/// What a user puts in the place of a matrix's axes; none leaves an axis as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axes {
    /// What pairs do.
    pub workloads: Option<Vec<Workload>>,
    /// How messages are sent.
    pub paths: Option<Vec<SendPath>>,
    /// Where fields lie.
    pub layouts: Option<Vec<Layout>>,
    /// Payload sizes, in bytes.
    pub payload_bytes: Option<Vec<usize>>,
    /// Numbers of pairs.
    pub threads: Option<Vec<usize>>,
    /// Placements.
    pub placements: Option<Vec<Placement>>,
    /// How clients take the bytes in.
    pub receivers: Option<Vec<Receiver>>,
    /// Which messages are sent.
    pub sources: Option<Vec<Source>>,
    /// How they are cut into fields.
    pub shapes: Option<Vec<Shape>>,
    /// How the paths' calls are made.
    pub engines: Option<Vec<Engine>>,
    /// Below which sizes the hybrid paths copy a field.
    pub copy_below_bytes: Option<Vec<usize>>,
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
        for &path in self.paths.iter().flatten() {
            let engines = self.engines.as_deref().unwrap_or(&[Engine::Syscall]);
            let layouts = self.layouts.as_deref().unwrap_or(&[Layout::Heap]);
            let all = || {
                engines.iter().flat_map(|&engine| {
                    layouts.iter().map(move |&layout| Series::new(path, layout).by(engine).check())
                })
            };
            if all().all(|found| found.is_err()) {
                all().collect::<Result<(), _>>()?;
            }
        }
        let has_hybrid = self.paths.iter().flatten().any(|path| path.has_threshold());
        if self.copy_below_bytes.is_some() && !has_hybrid {
            return Err(CaseError::NoHybrid);
        }
        let (Some(sizes), Some(shapes)) = (&self.payload_bytes, &self.shapes) else { return Ok(()) };
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
    #[must_use]
    pub fn case(&self) -> Case {
        fn first<T: Copy>(list: Option<&Vec<T>>, default: T) -> T {
            list.and_then(|list| list.first().copied()).unwrap_or(default)
        }
        let default = Case::default();
        let shape = first(self.shapes.as_ref(), default.shape);
        let payload_bytes = shape.own_payload_bytes().unwrap_or(default.payload_bytes);
        Case {
            workload: first(self.workloads.as_ref(), default.workload),
            path: first(self.paths.as_ref(), default.path),
            layout: first(self.layouts.as_ref(), default.layout),
            payload_bytes: first(self.payload_bytes.as_ref(), payload_bytes),
            threads: first(self.threads.as_ref(), default.threads),
            placement: first(self.placements.as_ref(), default.placement),
            receiver: first(self.receivers.as_ref(), default.receiver),
            source: first(self.sources.as_ref(), default.source),
            shape,
            engine: first(self.engines.as_ref(), default.engine),
            copy_below_bytes: first(self.copy_below_bytes.as_ref(), default.copy_below_bytes),
        }
    }

    /// The series that these axes make of `default`.
    fn series(&self, default: &[Series]) -> Vec<Series> {
        fn push(series: &mut Vec<Series>, one: Series) {
            if one.check().is_ok() && !series.contains(&one) {
                series.push(one);
            }
        }
        let mut paths: Vec<SendPath> = Vec::new();
        for path in self
            .paths
            .iter()
            .flatten()
            .copied()
            .chain(default.iter().map(|series| series.path).filter(|_| self.paths.is_none()))
        {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let mut series = Vec::new();
        for path in paths {
            let of_path = default.iter().filter(|series| series.path == path);
            let mut layouts: Vec<Layout> = match &self.layouts {
                Some(layouts) => layouts.clone(),
                None => of_path.map(|series| series.layout).collect(),
            };
            if layouts.is_empty() {
                layouts.push(Layout::Heap);
            }
            for layout in layouts {
                let known = default.iter().filter(|series| (series.path, series.layout) == (path, layout));
                let engines = match &self.engines {
                    Some(engines) => engines.clone(),
                    None => known.map(|series| series.engine).collect(),
                };
                let engines = if engines.is_empty() { vec![Engine::default()] } else { engines };
                for engine in engines {
                    for &copy_below_bytes in
                        self.copy_below_bytes.as_deref().unwrap_or(&[DEFAULT_COPY_BELOW_BYTES])
                    {
                        push(
                            &mut series,
                            Series::new(path, layout).by(engine).copying_below(copy_below_bytes),
                        );
                    }
                }
            }
        }
        series
    }
}

/// Reads a comma list.
///
/// # Errors
/// [`CaseError::EmptyList`], [`CaseError::Repeated`], or what `parse` says of an item.
pub fn parse_list<T: PartialEq>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, CaseError>,
) -> Result<Vec<T>, CaseError> {
    parse_separated(text, ',', parse)
}

/// Reads a list with `separator` between its items.
pub(super) fn parse_separated<T: PartialEq>(
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
            return Err(CaseError::Repeated { found: word.to_owned() });
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
    fn a_matrix_is_cut_into_charts_along_its_x_axis() {
        let by_size = Matrix::by_size().groups();
        assert_eq!(by_size.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["01", "04"]);
        assert!(by_size.iter().all(|group| group.cases.len() == 4 * 9));
        let sizes: Vec<_> =
            by_size[1].cases[..3].iter().map(|case| (case.payload_bytes, case.threads)).collect();
        assert_eq!(sizes, [(64, 4), (256, 4), (1024, 4)]);

        let mut by_threads = Matrix::by_threads();
        by_threads.workloads = vec![Workload::Rr, Workload::Stream];
        let groups = by_threads.groups();
        assert_eq!(groups.len(), 1, "a stream has no round trip");
        assert_eq!(groups[0].name, "K064");
        let threads: Vec<_> = groups[0].cases[..4].iter().map(|case| case.threads).collect();
        assert_eq!(threads, [1, 2, 4, 8]);
    }

    #[test]
    fn sizes_in_ids_sort_as_the_sizes_do() {
        let ids = [64, 999, 1000, 1024, 1500, 65536, 1000 << 10, 1 << 20, 16 << 20].map(size_id);
        assert_eq!(
            ids,
            ["B064", "B999", "K000.9765625", "K001", "K001.46484375", "K064", "M000.9765625", "M001", "M016"]
        );
        let mut last = String::new();
        for bytes in (MIN_PAYLOAD_BYTES..70_000).chain((70_000..=MAX_PAYLOAD_BYTES).step_by(997)) {
            let id = size_id(bytes);
            assert!(last < id, "{last} before {id}, which is {bytes} bytes");
            last = id;
        }
    }

    #[test]
    fn the_ids_of_the_default_charts_sort_along_the_x_axis_and_are_short() {
        for matrix in [Matrix::by_size(), Matrix::by_threads()] {
            let id = |case: &Case| format!("{}/{}", case.series().id(), matrix.x.id(case));
            let groups = matrix.groups();
            assert!(groups.is_sorted_by_key(|group| &group.name));
            for group in groups {
                for series in group.cases.chunk_by(|one, other| one.series() == other.series()) {
                    assert!(series.iter().map(id).is_sorted(), "{:?}", group.name);
                }
                // Criterion's smallest chart has 94 pixels for a label: these letters, and up to
                // `rtt/` before them.
                assert!(group.cases.iter().all(|case| group.name.len() + 1 + id(case).len() <= 17));
            }
        }
    }

    #[test]
    fn nothing_set_leaves_the_matrix_as_it_is() {
        assert_eq!(Matrix::by_size().overridden(&Axes::default()), Matrix::by_size());
    }

    #[test]
    fn paths_alone_keep_their_default_series() {
        let axes = Axes { paths: Some(vec![SendPath::ZeroCopy]), ..Axes::default() };
        let matrix = Matrix::by_size().overridden(&axes);
        assert_eq!(
            matrix.series,
            [Layout::Heap, Layout::Page].map(|layout| Series::new(SendPath::ZeroCopy, layout))
        );
    }

    #[test]
    fn layouts_are_crossed_with_paths() {
        let axes = Axes {
            paths: Some(vec![SendPath::TwoCopy, SendPath::OneCopy]),
            layouts: Some(vec![Layout::Page, Layout::Heap]),
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
    fn receivers_and_sources_multiply_the_cells_and_name_the_charts() {
        let axes = Axes {
            receivers: Some(vec![Receiver::Buffer, Receiver::Discard]),
            sources: Some(vec![Source::Hot, Source::Cold]),
            threads: Some(vec![1]),
            ..Axes::default()
        };
        let matrix = Matrix::by_size().overridden(&axes);
        assert_eq!(matrix.cells().count(), 4 * 9);
        let names: Vec<String> = matrix.groups().into_iter().map(|group| group.name).collect();
        assert_eq!(names, ["01", "01/cold", "01/discard", "01/discard/cold"]);
        let axes = Axes {
            workloads: Some(vec![Workload::Stream]),
            placements: Some(vec![Placement::Split, Placement::Paired]),
            threads: Some(vec![1]),
            ..Axes::default()
        };
        let names: Vec<String> =
            Matrix::by_size().overridden(&axes).groups().into_iter().map(|group| group.name).collect();
        assert_eq!(names, ["01/stream/split", "01/stream"]);
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
            assert_eq!(parse_list(text, parse_payload_bytes).unwrap_err().to_string(), message);
        }
    }
}
