//! A sweep's folder.
//!
//! ```text
//! 20261120T133000Z-0123456789ab-host/
//!     environment.json   what was measured, by what, where: written first
//!     samples.csv        a row for each burst; grows by each round
//!     summary.csv        a row for each case, made of the two
//!     report.html, *.svg, *.png    made of the two by `sendpath report`
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::Record;
use super::samples_csv as columns;
use crate::case::{Cell, Series};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::measure::doctor::Check;
use crate::measure::environment::Environment;

/// The version of the files' layout. Changes whenever a reader of the former one would go wrong.
pub const SCHEMA: u32 = 2;

const MANIFEST: &str = "environment.json";
const SAMPLES: &str = "samples.csv";

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
    /// What is counted, in generations of its own.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What is measured.
    pub plan: Plan,
    /// Events that cannot be counted here, each with the reason.
    pub not_counted: BTreeMap<String, String>,
    /// Machine, limits and settings as they came out; none of data from elsewhere.
    pub environment: Option<Environment>,
    /// What `sendpath doctor` found.
    pub checks: Vec<Check>,
}

/// The program that measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The git revision that it was built from, or `unknown`.
    pub revision: String,
    /// Whether its source had changes that were not committed.
    pub dirty: bool,
}

impl Program {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("SENDPATH_REVISION").to_owned(),
            dirty: env!("SENDPATH_DIRTY") == "true",
        }
    }

    /// The revision, with a mark if it is not all.
    #[must_use]
    pub fn name(&self) -> String {
        if self.dirty { format!("{}-dirty", self.revision) } else { self.revision.clone() }
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
}

/// A sweep as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Its folder.
    pub folder: PathBuf,
    /// `environment.json`.
    pub manifest: Manifest,
    /// `samples.csv`.
    pub records: Vec<Record>,
    /// What was wrong with the data and did not keep it from being read.
    pub warnings: Vec<String>,
}

/// A folder that is being written.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    samples: File,
}

impl Store {
    /// Makes the folder, with the manifest and a head for the samples.
    ///
    /// # Errors
    /// [`Error::Data`] where it exists; [`Error::File`].
    pub fn create(folder: &Path, manifest: &Manifest) -> Result<Self> {
        refuse_existing(folder)?;
        fs::create_dir_all(folder).map_err(Error::file("mkdir(2)", folder))?;
        manifest.write(folder)?;
        let path = folder.join(SAMPLES);
        let samples = OpenOptions::new().create_new(true).append(true).open(&path);
        let mut store =
            Self { folder: folder.to_owned(), samples: samples.map_err(Error::file("open(2)", &path))? };
        store.write_lines([columns::columns()])?;
        Ok(store)
    }

    /// Opens a sweep that was read, to go on with it: notes the command line, and cuts off a torn last line.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn resume(sweep: &Sweep, command: Vec<String>) -> Result<Self> {
        let folder = &sweep.folder;
        let mut manifest = sweep.manifest.clone();
        manifest.resumed.push(command);
        manifest.write(folder)?;
        let path = folder.join(SAMPLES);
        let text = fs::read(&path).map_err(Error::file("read(2)", &path))?;
        let samples = OpenOptions::new().append(true).open(&path).map_err(Error::file("open(2)", &path))?;
        samples.set_len(whole_bytes(&text) as u64).map_err(Error::file("ftruncate(2)", &path))?;
        Ok(Self { folder: folder.clone(), samples })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Appends a round's records, in one `write(2)`.
    ///
    /// # Errors
    /// [`Error::File`], as when the disk is full. What was written before stays.
    pub fn append(&mut self, records: &[Record]) -> Result<()> {
        self.write_lines(records.iter().map(columns::write))
    }

    fn write_lines(&mut self, lines: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let path = self.folder.join(SAMPLES);
        let mut text = ::csv::Writer::from_writer(Vec::new());
        for line in lines {
            text.write_record(line).map_err(|error| data(&path, error.to_string()))?;
        }
        let bytes = text.into_inner().map_err(|error| data(&path, error.to_string()))?;
        self.samples.write_all(&bytes).map_err(Error::file("write(2)", &path))
    }
}

/// Refuses a folder for a new sweep that is there already.
///
/// # Errors
/// [`Error::Data`].
pub fn refuse_existing(folder: &Path) -> Result<()> {
    if folder.exists() {
        return Err(data(
            folder,
            "exists already: nothing is written over (--resume goes on with a sweep)".to_owned(),
        ));
    }
    Ok(())
}

impl Manifest {
    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let json = serde_json::to_string_pretty(self).map_err(|error| data(&path, error.to_string()))?;
        replace(&path, (json + "\n").as_bytes())
    }
}

/// Reads a sweep.
///
/// # Errors
/// [`Error::Data`] where the folder is no sweep, is of a newer schema, or has a row that cannot be read;
/// [`Error::File`].
pub fn read(folder: &Path) -> Result<Sweep> {
    let path = folder.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Err(errno) if matches!(errno.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(data(folder, format!("is no sweep: it has no {MANIFEST}")));
        }
        result => result.map_err(Error::file("read(2)", &path))?,
    };
    let manifest = manifest(&text).map_err(|problem| data(&path, problem))?;

    let path = folder.join(SAMPLES);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(Error::file("read(2)", &path))?;
    let mut warnings = Vec::new();
    let whole = whole_bytes(&bytes);
    if whole < bytes.len() {
        warnings.push(format!(
            "{}: the last line is torn ({} bytes without an end), as by a kill: it is left out",
            path.display(),
            bytes.len() - whole
        ));
    }
    let mut reader =
        ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&bytes[..whole]);
    let mut rows = reader.records();
    let at = |line: usize, problem: String| data(&path, format!("line {line}: {problem}"));
    let header = rows.next().ok_or_else(|| data(&path, "is empty".to_owned()))?;
    header
        .map_err(|error| error.to_string())
        .and_then(|header| columns::check_header(&header))
        .map_err(|problem| at(1, problem))?;
    let records = rows.enumerate().map(|(index, row)| {
        let row = row.map_err(|error| error.to_string());
        row.and_then(|row| columns::read(&row)).map_err(|problem| at(index + 2, problem))
    });
    let records = records.collect::<Result<Vec<_>>>()?;
    let planned = |record: &&Record| {
        let case = record.arm.case;
        manifest.plan.cells.contains(&case.cell()) && manifest.plan.series.contains(&case.series())
    };
    let foreign = records.len() - records.iter().filter(planned).count();
    if foreign > 0 {
        warnings.push(format!(
            "{}: {foreign} rows are of cases that are not in the plan: they are left out",
            path.display()
        ));
    }
    Ok(Sweep { folder: folder.to_owned(), manifest, records, warnings })
}

/// Reads a manifest, the schema first: a newer one may look different in all else.
fn manifest(text: &str) -> std::result::Result<Manifest, String> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let Schema { schema } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if schema != SCHEMA {
        let which = if schema > SCHEMA { "newer" } else { "older" };
        return Err(format!(
            "schema {schema} is {which} than the {SCHEMA} that this sendpath reads: use the one that wrote it"
        ));
    }
    let manifest: Manifest = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if manifest.plan.series.is_empty() || manifest.plan.cells.is_empty() {
        return Err("the plan has no case".to_owned());
    }
    Ok(manifest)
}

/// How much of a file consists of whole lines.
fn whole_bytes(text: &[u8]) -> usize {
    text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

fn data(path: &Path, problem: String) -> Error {
    Error::Data { path: path.display().to_string(), problem }
}

/// Writes a file whole or not at all: whoever reads it meanwhile, or after a kill, has the old one.
///
/// # Errors
/// [`Error::File`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).map_err(|errno| {
        // What is there of it is of no use.
        drop(fs::remove_file(&new));
        Error::file("write(2)", path)(errno)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::samples_csv::tests::record;
    use super::*;

    pub(crate) fn manifest() -> Manifest {
        let case = record().arm.case;
        Manifest {
            schema: SCHEMA,
            program: Program::this(),
            started: "2026-11-20T13:30:00Z".to_owned(),
            host: "host".to_owned(),
            command: vec!["sendpath".to_owned(), "sweep".to_owned()],
            resumed: Vec::new(),
            events: Vec::new(),
            plan: Plan {
                profile: "quick".to_owned(),
                seed: 1,
                precision: 0.01,
                series: vec![case.series()],
                cells: vec![case.cell()],
            },
            not_counted: BTreeMap::new(),
            environment: None,
            checks: Vec::new(),
        }
    }

    fn stored(rounds: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep");
        let mut store = Store::create(&path, &manifest()).unwrap();
        for _ in 0..rounds {
            store.append(&[record(), record()]).unwrap();
        }
        (folder, path)
    }

    fn problem(path: &Path) -> String {
        let error = read(path).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        error.to_string()
    }

    #[test]
    fn a_sweep_is_read_as_it_was_written() {
        let (_folder, path) = stored(3);
        let sweep = read(&path).unwrap();
        assert_eq!((sweep.manifest, sweep.records), (manifest(), vec![record(); 6]));
        assert!(sweep.warnings.is_empty());
    }

    #[test]
    fn a_folder_that_exists_is_not_written_over() {
        let (_folder, path) = stored(1);
        let error = Store::create(&path, &manifest()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("exists"), "{error}");
        assert_eq!(read(&path).unwrap().records.len(), 2);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_said_so_and_cut_off_by_a_resume() {
        let (_folder, path) = stored(2);
        let samples = path.join(SAMPLES);
        let whole = fs::read(&samples).unwrap();
        let last_line = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
        for end in [last_line + 1, last_line + 40, whole.len() - 1] {
            fs::write(&samples, &whole[..end]).unwrap();
            let sweep = read(&path).unwrap();
            assert_eq!(sweep.records.len(), 3, "torn at {end}");
            assert!(sweep.warnings[0].contains("torn"), "{:?}", sweep.warnings);
            let mut store = Store::resume(&sweep, vec!["again".to_owned()]).unwrap();
            store.append(&[record()]).unwrap();
            assert_eq!(read(&path).unwrap().manifest.resumed.last().unwrap(), &["again"]);
            assert_eq!(fs::read(&samples).unwrap(), whole);
        }
    }

    #[test]
    fn what_is_no_sweep_says_so_in_one_line() {
        let (folder, path) = stored(1);
        assert!(problem(folder.path()).contains("is no sweep"));
        assert!(problem(&folder.path().join("nowhere")).contains("is no sweep"));

        let json = fs::read_to_string(path.join(MANIFEST)).unwrap();
        let newer = json.replacen("\"schema\": 2", "\"schema\": 3", 1);
        fs::write(path.join(MANIFEST), newer).unwrap();
        assert!(problem(&path).contains("schema 3 is newer"), "{}", problem(&path));
        fs::write(path.join(MANIFEST), &json[..40]).unwrap();
        assert!(problem(&path).contains(MANIFEST));
        fs::write(path.join(MANIFEST), &json).unwrap();

        let samples = fs::read_to_string(path.join(SAMPLES)).unwrap();
        for (from, to, word) in [
            ("elapsed_ns", "elapsed_s", "elapsed_s"),
            (",1000,", ",NaN,", "line 2: elapsed_ns \"NaN\""),
            ("round,position", "position", "round"),
        ] {
            fs::write(path.join(SAMPLES), samples.replacen(from, to, 1)).unwrap();
            let problem = problem(&path);
            assert!(problem.contains(word) && problem.lines().count() == 1, "{problem}");
        }
        fs::write(path.join(SAMPLES), "").unwrap();
        assert!(problem(&path).contains("empty"));
    }

    #[test]
    fn a_full_disk_is_named() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut store = Store { folder: PathBuf::from("sweep"), samples: full };
        let error = store.append(&[record()]).unwrap_err().to_string();
        assert_eq!(error, "write(2) sweep/samples.csv: No space left on device (os error 28)");
    }
}
