//! What a sweep says, for a browser and for a program.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::output;
use crate::error::{Error, Result};
use crate::report;
use crate::report::page::{Page, Trust};
use crate::results::decision::Decision;
use crate::results::record::Record;
use crate::results::samples_csv;
use crate::results::store::{self, SCHEMA};

/// A sweep's page, in its folder.
pub(super) const PAGE: &str = "report.html";

/// Writes the page into the sweep's folder, and says where.
pub(super) fn write_page(folder: &Path, page: &Page, full: bool) -> anyhow::Result<PathBuf> {
    let path = folder.join(PAGE);
    store::replace(&path, report::render(page, full)?.as_bytes())?;
    write_front(folder, Some(page))?;
    Ok(path)
}

/// Renews the door to all results, where what was written `beside` is one of them.
pub(super) fn write_front(beside: &Path, page: Option<&Page>) -> anyhow::Result<()> {
    if let Some(home) = beside.parent().filter(|parent| parent.ends_with(report::HOME)) {
        report::write_front(home, page.map(|page| (beside, page)))?;
    }
    Ok(())
}

/// What a program is told of a sweep: the decision, which terminal and page draw.
#[derive(Serialize)]
struct Told<'a> {
    schema: u32,
    headline: &'a str,
    trust: Option<&'a Trust>,
    decisions: &'a [Decision],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl<'a> Told<'a> {
    fn of(page: &'a Page) -> Self {
        let Page { headline, trust, decisions, warnings, .. } = page;
        Self { schema: SCHEMA, headline, trust: trust.as_ref(), decisions, warnings }
    }
}

/// The decision as JSON, with the words of the page's first lines.
pub(super) fn json(page: &Page) -> Result<String> {
    output::json(&Told::of(page))
}

/// The same in one line.
pub(super) fn json_line(page: &Page) -> Result<String> {
    let line = serde_json::to_string(&Told::of(page));
    line.map(|line| line + "\n").map_err(|error| Error::Protocol(error.to_string()))
}

/// Rows of `samples.csv` as lines of JSON: each number as one, and what a row does not have is not
/// there.
pub(super) fn row_lines(records: &[Record]) -> String {
    let value = |text: String| text.parse::<u64>().map_or(Value::String(text), Value::from);
    let line = |record| {
        let cells = samples_csv::columns().into_iter().zip(samples_csv::write(record));
        let object: Map<_, _> =
            cells.filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, value(text))).collect();
        Value::Object(object).to_string() + "\n"
    };
    records.iter().map(line).collect()
}
