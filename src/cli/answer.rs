//! What a sweep says, for a browser and for a program.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report;
use crate::report::page::{Page, Trust};
use crate::results::analysis::Analysis;
use crate::results::decision::Decision;
use crate::results::store::{self, SCHEMA, StoredSweep};

/// Writes the page into the sweep's folder, and says where.
pub(super) fn write_page(
    folder: &Path,
    sweep: &StoredSweep,
    analysis: &Analysis,
    fragment_ns: f64,
    full: bool,
) -> anyhow::Result<(Page, PathBuf)> {
    let page = report::page_with(sweep, analysis, fragment_ns);
    let path = folder.join("report.html");
    store::replace(&path, report::render(&page, full)?.as_bytes())?;
    Ok((page, path))
}

/// What a program is told of a sweep: the decision, which terminal and page draw.
#[derive(Serialize)]
struct Told<'a> {
    schema: u32,
    headline: String,
    trust: Option<Trust>,
    decisions: Vec<Decision>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// The decision as JSON, with the words of the page's first lines.
pub(super) fn json(sweep: &StoredSweep, analysis: &Analysis, fragment_ns: f64) -> anyhow::Result<String> {
    let Page { headline, trust, warnings, .. } = report::page_with(sweep, analysis, fragment_ns);
    let decisions = report::decisions(&sweep.manifest, analysis, fragment_ns);
    let told = Told { schema: SCHEMA, headline, trust, decisions, warnings: &warnings };
    Ok(serde_json::to_string_pretty(&told)? + "\n")
}
