//! What a page says, before anything is drawn: every part of it is data, and so can be tested as
//! data.

use serde::Serialize;

use crate::results::analysis::Measure;
use crate::results::decision::Decision;

/// A whole report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// What was measured, where and when, in a line.
    pub title: String,
    /// The command that made the data, and the one that made the page.
    pub commands: Vec<String>,
    /// The answer in at most 25 words.
    pub headline: String,
    /// The list that headline, strips and terminal draw, in their order.
    pub decisions: Vec<Decision>,
    /// The same in at most fifteen lines of a terminal; empty where the page is not of one sweep.
    pub terminal: String,
    /// The decision: a strip for each situation, all along one axis. Empty where the page is not
    /// of one sweep.
    pub strips: Vec<Strip>,
    /// The sizes that were measured: where each stands on that axis, in percent, and its label.
    pub strip_ticks: Vec<(f64, String)>,
    /// How far to trust it; none where the page is not of one sweep.
    pub trust: Option<Trust>,
    /// What changed, case by case, where two places of a history are compared.
    pub dots: Vec<DotPlot>,
    /// What the first screen says below the headline.
    pub verdict: Vec<Claim>,
    /// What the reader has to know before believing any of it: rows that failed, noise, a copied
    /// zero-copy.
    pub warnings: Vec<String>,
    /// The figures, in order.
    pub figures: Vec<Figure>,
    /// Which figures there are not, and why: in a sentence for all.
    pub not_drawn: Option<String>,
    /// Which path is the cheapest, by size and threads: a map for each metric.
    pub maps: Vec<DecisionMap>,
    /// Fixed cost and cost per KiB of each path, with what follows from them.
    pub cost_model: Section,
    /// Who copied how many bytes.
    pub copy_ledger: Section,
    /// The figures of the study whose cases were measured, by the study's numbers; empty of other
    /// sweeps.
    pub study_figures: Vec<StudyFigure>,
    /// Six questions about the paths: see docs/book/src/studies.md.
    pub questions: Vec<Question>,
    /// A row for each case.
    pub cases: Table,
    /// A row for each comparison.
    pub comparisons: Table,
    /// Machine, limits and settings: name and value.
    pub environment: Vec<(String, String)>,
    /// What these numbers cannot show.
    pub limits: Vec<String>,
}

/// What a part of the page is about, to filter by; empty where it is about all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facets {
    /// Who receives: `sender alone`, `to a receiver`.
    pub receiver: String,
    /// Number of connections.
    pub connections: String,
    /// Whether the data are in cache.
    pub data: String,
    /// What is measured: `throughput`, `round trips` or `CPU`.
    pub metric: String,
}

/// Which way is the fastest from which size to which, in one situation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strip {
    /// The situation: `sender alone`.
    pub label: String,
    /// The same to filter by.
    pub facets: Facets,
    /// What else is to be known of it; may be empty.
    pub note: String,
    /// The strip in words.
    pub text: String,
    /// Its parts, by ascending size.
    pub spans: Vec<Span>,
    /// Where a part may end and the next begin: from where, and how wide, in percent.
    pub unsure: Vec<(f64, f64)>,
}

/// Sizes of which the same is said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// Where it begins on the axis, in percent.
    pub from: f64,
    /// How wide it is, in percent.
    pub width: f64,
    /// `best`, `close`, `open` or `gap`.
    pub kind: String,
    /// The [`Line::style`] of what is best.
    pub style: Option<usize>,
    /// What is said.
    pub text: String,
    /// The size where it begins, where that is an estimate; empty of the first.
    pub begins: String,
    /// The same with its numbers.
    pub tip: String,
}

/// Ratios with their intervals, one below the other along one logarithmic axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DotPlot {
    /// What is compared with what.
    pub title: String,
    /// Where a ratio stands on the axis, in percent, and the ratio.
    pub ticks: Vec<(f64, String)>,
    /// A row for each case.
    pub rows: Vec<Dot>,
}

/// A case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dot {
    /// Its name.
    pub label: String,
    /// Where the dot stands, in percent.
    pub at: f64,
    /// Where its interval begins.
    pub low: f64,
    /// How wide the interval is.
    pub width: f64,
    /// `faster`, `slower`, `same` or `undecided`.
    pub verdict: String,
    /// The numbers.
    pub text: String,
}

/// How far to trust a page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trust {
    /// `good`, `limited` or `bad`.
    pub mark: String,
    /// Why.
    pub text: String,
}

/// A sentence, and the rows that it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// The sentence.
    pub text: String,
    /// Ids of [`TableRow`]s.
    pub rows: Vec<String>,
}

/// A figure of a study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyFigure {
    /// The number that the study gave it.
    pub number: String,
    /// What it shows.
    pub shows: String,
    /// The figures that show it here, or what there is in their place.
    pub ids: Vec<String>,
    /// Why there is none; empty where there is one.
    pub missing: String,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    /// The question.
    pub text: String,
    /// Whether the data can say.
    pub answered: bool,
    /// The answer.
    pub answer: Vec<Claim>,
}

/// A table with words around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Section {
    /// How it was got.
    pub method: String,
    /// The numbers.
    pub table: Table,
    /// What follows from them.
    pub claims: Vec<Claim>,
}

/// A table that can be sorted by each of its columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each as long as `columns`.
    pub rows: Vec<TableRow>,
}

/// A column's head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// With the unit.
    pub name: String,
    /// What it is, in a sentence, for those who hover.
    pub about: String,
    /// Whether the cells are numbers: set flush right and sorted by value.
    pub numeric: bool,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableRow {
    /// What claims link to: unique in the page, fit for an HTML id.
    pub id: String,
    /// As many as there are columns.
    pub cells: Vec<Entry>,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    /// What is shown; empty where nothing was measured.
    pub text: String,
    /// What it is sorted by, where it is a number.
    pub value: Option<f64>,
    /// Why it is empty, or what else is to be known.
    pub note: Option<String>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Names its files: `fig1-throughput`.
    pub id: String,
    /// What to filter it by.
    pub facets: Facets,
    /// What it shows, and of which cases.
    pub title: String,
    /// How to read it, in a sentence or two.
    pub caption: String,
    /// The x axis.
    pub x: Scale,
    /// The y axis.
    pub y: Scale,
    /// The lines. Those without points are named in `missing`.
    pub lines: Vec<Line>,
    /// Why there is nothing, or not everything, to see: `(what, reason)`.
    pub missing: Vec<(String, String)>,
}

/// An axis of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scale {
    /// With the unit.
    pub label: String,
    /// Whether it is logarithmic.
    pub log: bool,
    /// What the values are.
    pub kind: Kind,
    /// What stands at 1, 2, and so on, where that is no number; empty otherwise.
    pub names: Vec<String>,
}

impl Scale {
    /// One of numbers.
    pub fn new(label: &str, log: bool, kind: Kind) -> Self {
        Self { label: label.to_owned(), log, kind, names: Vec::new() }
    }

    /// What stands at a value that has a name.
    pub fn name(&self, value: f64) -> Option<&String> {
        self.names.get((value as usize).checked_sub(1)?)
    }
}

/// How an axis writes its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// As they are.
    Number,
    /// Payload sizes: 64 B, 4 KiB, 1 MiB; a tick at each that was measured.
    Bytes,
    /// Whole numbers; a tick at each that was measured.
    Count,
    /// How many times as much: 0.5×, 1×, 2×.
    Ratio,
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What the legend calls it.
    pub label: String,
    /// Which colour and marker, from 0: the same for a path in every chart.
    pub style: usize,
    /// Whether it is drawn dashed, with hollow markers.
    pub dashed: bool,
    /// Its points, ascending in x.
    pub points: Vec<Point>,
}

/// A point of a line, with its interval: the figure's caption says which.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where it stands.
    pub x: f64,
    /// What was measured.
    pub y: f64,
    /// The interval's ends, where there is one.
    pub interval: Option<(f64, f64)>,
    /// Its numbers, shown when a pointer is over it.
    pub text: String,
    /// The [`TableRow`] that it stands in.
    pub row: String,
}

impl Point {
    /// Of what was measured, with its interval.
    pub fn new(x: f64, measure: impl Into<Measure>, text: String, row: String) -> Self {
        let Measure { value: y, interval } = measure.into();
        Self { x, y, interval, text, row }
    }
}

/// Which path is the cheapest by one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionMap {
    /// The metric.
    pub title: String,
    /// What to filter it by.
    pub facets: Facets,
    /// Heads of the columns: payload sizes.
    pub columns: Vec<String>,
    /// Heads of the rows (numbers of pairs), with their squares, as many as there are columns.
    pub rows: Vec<(String, Vec<Square>)>,
}

/// A square of a decision map.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Square {
    /// What it says: the winner, or those that cannot be told apart; empty where nothing can be
    /// said.
    pub text: String,
    /// The winner's [`Line::style`], where there is one winner.
    pub style: Option<usize>,
    /// By how much, or why it is blank.
    pub note: String,
    /// Rows that it rests on.
    pub rows: Vec<String>,
}
