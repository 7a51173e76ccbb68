//! `environment.json` as plain data: what a sweep measures, with what, and where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::load::Load;
use crate::case::{Case, Cell, Series};
use crate::check::Check;
pub use crate::environment::Program;
use crate::environment::{CopyCauses, Environment};
use crate::event::Event;
use crate::fragments::{Told, Wire, expected};

/// The version of the files' layout. Changes whenever a reader of the former one would go wrong.
pub const SCHEMA: u32 = 2;

/// `environment.json`: what a sweep measures, with what, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// What wrote it.
    pub program: Program,
    /// When the sweep began, in UTC: `2026-11-20T13:30:00Z`.
    pub started: String,
    /// The machine's name.
    pub host: String,
    /// The command line.
    pub command: Vec<String>,
    /// The command lines that went on with it.
    #[serde(default)]
    pub resumed: Vec<Vec<String>>,
    /// What is counted, in a visit of its own of each cell.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What is measured.
    pub plan: Plan,
    /// Events that cannot be counted here, each with the reason.
    pub not_counted: BTreeMap<String, String>,
    /// Machine, limits and settings as they came out; none of data from elsewhere.
    pub environment: Option<Environment>,
    /// What was found, when the sweep began, to make the kernel copy zero-copy sends.
    #[serde(default)]
    pub copy_causes: CopyCauses,
    /// What `sendpath doctor` found.
    pub checks: Vec<Check>,
    /// What the peer costs that the sender plays for itself, of each cell that nobody receives.
    #[serde(default)]
    pub injections: Vec<Injection>,
    /// Of each case with the layout `heap`, where its messages lay: in its first instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heap_pages: Vec<HeapPages>,
    /// Packets and fragments of a message, by case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fragments: BTreeMap<String, Told>,
    /// Why the cells that nobody receives were left out, where they were.
    #[serde(default)]
    pub no_sink: Option<String>,
    /// What else the machine had to do, and how fast it was; none where it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

/// Of a cell that nobody receives: what a request and an acknowledgement cost with no message
/// between.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Injection {
    /// The cell.
    pub cell: Cell,
    /// The mean of one request with its acknowledgement, in nanoseconds.
    pub injection_ns: f64,
}

/// Where the allocator had put the messages of a case with the layout `heap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapPages {
    /// The case's name.
    pub case: String,
    /// Whether into mappings with huge pages, where a field lies on fewer fragments than elsewhere.
    pub is_huge: bool,
}

/// Payload of a segment over an MTU of 1500, for data that do not say it.
const USUAL_MSS_BYTES: usize = 1448;

/// Fragments of a message of `case`, by how it is sent and where it lies; none where that is not
/// known.
pub fn fragments_of(case: &Case, mss_bytes: Option<usize>) -> Option<f64> {
    let wire = Wire::new(mss_bytes.unwrap_or(USUAL_MSS_BYTES));
    expected(case, &wire).ok().map(|found| found.fragments_per_message)
}

impl Manifest {
    /// What is known of the packets and fragments of a case's messages.
    pub fn fragments(&self, case: &Case) -> Option<&Told> {
        self.fragments.get(&case.to_string())
    }

    /// Fragments of a message of a case, as the sweep recorded them, or else worked out.
    pub fn fragments_per_message(&self, case: &Case) -> Option<f64> {
        let recorded = self.fragments(case).and_then(|told| told.fragments);
        let sink = self.environment.as_ref().and_then(|environment| environment.sink.as_ref());
        let mss_bytes = sink.and_then(|sink| usize::try_from(sink.mss_bytes).ok());
        recorded.map(|found| found.fragments_per_message).or_else(|| fragments_of(case, mss_bytes))
    }

    /// What was measured of a cell's injection.
    pub fn injection_ns(&self, cell: Cell) -> Option<f64> {
        self.injections
            .iter()
            .find(|injection| injection.cell == cell)
            .map(|injection| injection.injection_ns)
    }
}

/// What a sweep measures. With the seed it fixes the order of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the cells come from: a profile's name.
    pub profile: String,
    /// The seed of every random order.
    pub seed: u64,
    /// The sweep may end when every comparison's interval is narrower than this (0.01: 1 %).
    pub precision: f64,
    /// What is compared in each cell. The first is the baseline.
    pub series: Vec<Series>,
    /// Where it is compared.
    pub cells: Vec<Cell>,
    /// Those of the series that stand in some of the cells alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_in: Vec<OnlyIn>,
}

/// A series that is measured in these cells of a plan, and in no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlyIn {
    /// The series.
    pub series: Series,
    /// Its cells.
    pub cells: Vec<Cell>,
}

impl Plan {
    /// What is compared in one cell.
    pub fn series_of(&self, cell: Cell) -> impl Iterator<Item = Series> {
        let is_there = move |series: &Series| {
            self.only_in.iter().all(|only| only.series != *series || only.cells.contains(&cell))
        };
        self.series.iter().copied().filter(is_there)
    }

    /// Whether it has a case.
    pub fn has(&self, case: Case) -> bool {
        self.cells.contains(&case.cell()) && self.series_of(case.cell()).any(|one| one == case.series())
    }
}

/// Whether the CPU time that the kernel books to a thread is known to include the softirqs that ran
/// in its place. Data from elsewhere, which have no environment, are taken as they are.
pub fn cpu_time_is_whole(manifest: &Manifest) -> bool {
    manifest.environment.as_ref().is_none_or(|environment| environment.softirq_in_cpu_time() == Some(true))
}
