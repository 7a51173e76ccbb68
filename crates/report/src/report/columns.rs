//! Tables as lists of columns: a head, and what stands below it in each row, are one value.

use std::fmt::Display;

use super::page::{Column, Entry, Table, TableRow};

/// A column of a table whose rows are made of `T`s.
pub(super) struct Col<'a, T> {
    head: Column,
    cell: Box<dyn Fn(&T) -> Entry + 'a>,
}

/// A column of words.
pub(super) fn words<'a, T>(name: &str, about: &str, cell: impl Fn(&T) -> Entry + 'a) -> Col<'a, T> {
    let head = Column { name: name.to_owned(), about: about.to_owned(), numeric: false };
    Col { head, cell: Box::new(cell) }
}

/// A column of numbers.
pub(super) fn numbers<'a, T>(name: &str, about: &str, cell: impl Fn(&T) -> Entry + 'a) -> Col<'a, T> {
    let Col { head, cell } = words(name, about, cell);
    Col { head: Column { numeric: true, ..head }, cell }
}

/// A row for each of `rows`.
pub(super) fn table<'a, T: 'a>(
    rows: impl IntoIterator<Item = &'a T>,
    id: impl Fn(&T) -> String,
    columns: Vec<Col<'_, T>>,
) -> Table {
    let cells = |row: &T| columns.iter().map(|column| (column.cell)(row)).collect();
    let rows = rows.into_iter().map(|row| TableRow { id: id(row), cells: cells(row) }).collect();
    Table { columns: columns.into_iter().map(|column| column.head).collect(), rows }
}

/// A cell of words.
pub(super) fn word(text: impl Display) -> Entry {
    Entry { text: format!("{text}"), ..Entry::default() }
}

/// A cell with a number as it is written and as it is sorted by.
pub(super) fn value(text: impl Display, value: f64) -> Entry {
    Entry { value: Some(value), ..word(text) }
}

/// A cell with a whole number.
pub(super) fn count(number: u64) -> Entry {
    value(number, number as f64)
}

/// A cell without anything, and why.
pub(super) fn empty(reason: &str) -> Entry {
    Entry { note: Some(reason.to_owned()), ..Entry::default() }
}

/// A cell of what was found, or why there is nothing.
pub(super) fn found(entry: Option<Entry>, why_not: &str) -> Entry {
    entry.unwrap_or_else(|| empty(why_not))
}
