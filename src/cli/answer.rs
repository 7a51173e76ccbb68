//! What a sweep says, for a browser and for a program.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::output;
use crate::report;
use crate::report::page::{Page, Trust};
use crate::results::decision::Decision;
use crate::results::store::{self, SCHEMA};

/// Writes the page into the sweep's folder, and says where.
pub(super) fn write_page(folder: &Path, page: &Page, full: bool) -> anyhow::Result<PathBuf> {
    let path = folder.join("report.html");
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

/// The decision as JSON, with the words of the page's first lines.
pub(super) fn json(page: &Page) -> crate::error::Result<String> {
    let Page { headline, trust, decisions, warnings, .. } = page;
    let told = Told { schema: SCHEMA, headline, trust: trust.as_ref(), decisions, warnings };
    output::json(&told)
}
