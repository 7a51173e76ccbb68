//! What remains of a sweep where many are read: a few numbers of each case, and none of its rows.
//!
//! They stand in `summary.csv`, so that hundreds of sweeps are read in a second. A summary that was
//! made of other samples than those that lie beside it, as after a kill, is not believed: then the
//! samples are read and analysed, a sweep at a time on each CPU, and let go of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, thread};

use super::analysis::{ArmResult, Measure, analyse_stored};
use super::manifest::{Manifest, cpu_time_is_whole};
use super::metric::Metric;
use super::samples_csv::read_case;
use super::store::{self, StoredSweep};
use super::summary::{SAMPLES_BYTES, SUMMARY};
use crate::case::Case;
use crate::error;
use crate::sample::{CopiedBound, CopiedShare};

/// How many sweeps are read at a time, at most: the rows of each take some ten MiB.
const MOST_READERS: usize = 8;

/// A sweep without its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// Its folder.
    pub folder: PathBuf,
    /// `environment.json`.
    pub manifest: Manifest,
    /// The cases that were measured, without the control.
    pub cases: Vec<CaseDigest>,
    /// What was wrong with the data and did not keep it from being read.
    pub warnings: Vec<String>,
}

/// What a sweep says of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseDigest {
    /// The case.
    pub case: Case,
    /// Instances that were timed.
    pub instances: u64,
    /// Its numbers, each with its interval over instances: those of [`Metric::OF_A_SWEEP`] that
    /// were measured.
    pub measures: Vec<(Metric, Measure)>,
    /// What share of the zero-copy sends the kernel copied after all.
    pub copied: Option<CopiedShare>,
}

impl CaseDigest {
    /// What was measured by one metric.
    pub fn measure(&self, metric: Metric) -> Option<Measure> {
        self.measures.iter().find(|(of, _)| *of == metric).map(|(_, measure)| *measure)
    }

    fn of(arm: &ArmResult) -> Self {
        let measure = |metric| match metric {
            Metric::Throughput => arm.throughput_gbps,
            Metric::CpuPerByte => arm.cpu_ns_per_byte,
            Metric::P50 | Metric::P99 => {
                let of_share = |(share, _): &&(f64, _)| Some(*share) == metric.quantile();
                arm.rtt_quantiles_ns.iter().find(of_share).and_then(|(_, measure)| *measure)
            }
        };
        Self {
            case: arm.arm.case,
            instances: arm.instances,
            measures: Metric::OF_A_SWEEP
                .into_iter()
                .filter_map(|metric| Some((metric, measure(metric)?)))
                .collect(),
            copied: arm.zero_copy.and_then(|counts| counts.copied()),
        }
    }
}

impl Digest {
    /// Of a sweep that was read.
    pub fn of(sweep: &StoredSweep) -> Self {
        let analysis = analyse_stored(&sweep.manifest, &sweep.records);
        let arms = analysis.arms().filter(|arm| !arm.arm.control);
        Self {
            folder: sweep.folder.clone(),
            manifest: sweep.manifest.clone(),
            cases: arms.map(CaseDigest::of).collect(),
            warnings: sweep.warnings.clone(),
        }
        .without_partial_cpu_time()
    }

    /// Reads a sweep for its numbers.
    ///
    /// # Errors
    /// As [`store::read`].
    pub fn read(folder: &Path) -> error::Result<Self> {
        let manifest = store::read_manifest(folder)?;
        let Some(cases) = summarised(folder) else { return Ok(Self::of(&store::read(folder)?)) };
        let planned = |of: &CaseDigest| manifest.plan.has(of.case);
        let cases = cases.into_iter().filter(planned).collect();
        Ok(Self { folder: folder.to_owned(), manifest, cases, warnings: Vec::new() }
            .without_partial_cpu_time())
    }

    /// What was measured of one case.
    pub fn case(&self, case: &Case) -> Option<&CaseDigest> {
        self.cases.iter().find(|of| of.case == *case)
    }

    /// CPU time that leaves a part out does not compare.
    fn without_partial_cpu_time(mut self) -> Self {
        if !cpu_time_is_whole(&self.manifest) {
            for case in &mut self.cases {
                case.measures.retain(|(metric, _)| *metric != Metric::CpuPerByte);
            }
        }
        self
    }
}

/// Reads many sweeps, several at a time where there are CPUs for it, and gives them in the order of
/// `folders`.
pub fn read_all(folders: &[PathBuf]) -> Vec<error::Result<Digest>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(folders.len()));
    let readers = thread::available_parallelism().map_or(1, usize::from).min(MOST_READERS);
    let read = || {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(folder) = folders.get(index)
        {
            let digest = Digest::read(folder);
            found.lock().unwrap_or_else(PoisonError::into_inner).push((index, digest));
        }
    };
    thread::scope(|scope| {
        // Where no thread is to be had, this one reads them all.
        for _ in 1..readers {
            drop(thread::Builder::new().spawn_scoped(scope, read));
        }
        read();
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, digest)| digest).collect()
}

/// What `summary.csv` says, if it was made of the samples that lie beside it and can be read;
/// otherwise the samples do.
fn summarised(folder: &Path) -> Option<Vec<CaseDigest>> {
    let text = fs::read(folder.join(SUMMARY)).ok()?;
    let samples_bytes = store::samples_bytes(folder)?.to_string();
    let mut reader = csv::Reader::from_reader(&text[..]);
    let columns = reader.headers().ok()?.clone();
    let mut cases = Vec::new();
    for row in reader.records() {
        let texts = row.ok()?;
        let row: SummaryRow<'_> = columns.iter().zip(&texts).collect();
        if row.get(SAMPLES_BYTES)? != &samples_bytes {
            return None;
        }
        if row.get("arm")? == &"case" {
            let case = columns.iter().position(|name| name == "workload")?;
            cases.push(digest(&row, read_case(texts.iter().skip(case)).ok()?)?);
        }
    }
    (!cases.is_empty()).then_some(cases)
}

/// The texts of a row, by column.
type SummaryRow<'a> = HashMap<&'a str, &'a str>;

/// What a row says of its case; none where it cannot be read.
fn digest(row: &SummaryRow<'_>, case: Case) -> Option<CaseDigest> {
    // A number may be missing, and nothing else may stand in its place.
    let number = |name: &str| match *row.get(name)? {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let mut measures = Vec::new();
    for metric in Metric::OF_A_SWEEP {
        let [value, low, high] = ["", "_low", "_high"].map(|end| number(&format!("{}{end}", metric.slug())));
        if let Some(value) = value? {
            measures.push((metric, Measure { value, interval: low?.zip(high?) }));
        }
    }
    let bound = || match row.get("zero_copy_copied_is_bound") {
        Some(word) => word.parse().ok(),
        // A summary from before this column does not say what the share is: a bound is never wrong.
        None => Some(CopiedBound::Either),
    };
    let copied = match number("zero_copy_copied_share")? {
        Some(share) => Some(CopiedShare { share, bound: bound()? }),
        None => None,
    };
    Some(CaseDigest { case, instances: row.get("instances")?.parse().ok()?, measures, copied })
}
