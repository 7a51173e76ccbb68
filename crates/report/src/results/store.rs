//! A sweep's folder.
//!
//! ```text
//! 20261120T133000Z-0123456789ab-host/
//!     environment.json   what was measured, by what, where: written first
//!     samples.csv        a row for each burst; grows by each round
//!     samples.csv.gz     the same, compressed, where there is no samples.csv: for sweeps that are kept
//!     summary.csv        a row for each case, made of the two
//!     report.html, *.svg, *.png    made of the two by `sendpath report`
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::files::{self, data};
pub use super::files::{replace, replace_by};
pub use super::load::Load;
pub use super::manifest::{HeapPages, Injection, Manifest, OnlyIn, Plan, Program, SCHEMA};
use super::record::Record;
use super::samples_csv as columns;
use crate::error::{Error, Result};
use crate::fragments::Told;

const MANIFEST: &str = "environment.json";
const SAMPLES: &str = "samples.csv";
const COMPRESSED: &str = "samples.csv.gz";
/// A manifest has some ten thousand bytes, and the samples of a day some 7 GB.
const MOST_MANIFEST_BYTES: u64 = 64 << 20;
const MOST_SAMPLES_BYTES: u64 = 16 << 30;
/// Rows of samples are compressed to a fifth: what unpacks to so many times its bytes is no sweep.
const MOST_UNPACKED: u64 = 100;

/// A sweep as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSweep {
    /// Its folder.
    pub folder: PathBuf,
    /// `environment.json`.
    pub manifest: Manifest,
    /// `samples.csv`, or `samples.csv.gz`.
    pub records: Vec<Record>,
    /// How many bytes of it, uncompressed, the records were read from.
    pub samples_bytes: u64,
    /// What was wrong with the data and did not keep it from being read.
    pub warnings: Vec<String>,
}

/// A folder that is being written.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    manifest: Manifest,
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
        let samples = samples.map_err(Error::file("open(2)", &path))?;
        files::lock(&samples, &path)?;
        let mut store = Self { folder: folder.to_owned(), manifest: manifest.clone(), samples };
        store.write_lines([columns::columns()])?;
        Ok(store)
    }

    /// Opens a sweep that was read, to go on with it: notes the command line, and cuts off a torn
    /// last line.
    ///
    /// # Errors
    /// [`Error::Data`] where the samples are compressed; [`Error::File`].
    pub fn resume(sweep: &StoredSweep, command: Vec<String>) -> Result<Self> {
        let folder = &sweep.folder;
        let path = folder.join(SAMPLES);
        if !path.exists() && folder.join(COMPRESSED).exists() {
            let remedy = "holds the samples compressed, and rows cannot be added to it: gunzip it first";
            return Err(data(&folder.join(COMPRESSED), remedy.to_owned()));
        }
        let samples = OpenOptions::new().append(true).open(&path).map_err(Error::file("open(2)", &path))?;
        files::lock(&samples, &path)?;
        let (_, text) = self::samples(folder)?;
        let whole_bytes = whole_bytes(&text) as u64;
        if whole_bytes != sweep.samples_bytes {
            return Err(data(&path, "has grown since it was read: resume it once more".to_owned()));
        }
        let mut manifest = sweep.manifest.clone();
        manifest.resumed.push(command);
        manifest.write(folder)?;
        samples.set_len(whole_bytes).map_err(Error::file("ftruncate(2)", &path))?;
        Ok(Self { folder: folder.clone(), manifest, samples })
    }

    /// The folder.
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

    /// Keeps what injections cost and where heaps lay, beside what is known; writes nothing where
    /// nothing is new.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep_found(&mut self, injections: &[Injection], heap_pages: &[HeapPages]) -> Result<()> {
        let Manifest { injections: costs, heap_pages: heaps, .. } = &mut self.manifest;
        let before = (costs.len(), heaps.len());
        for new in injections {
            if !costs.iter().any(|injection| injection.cell == new.cell) {
                costs.push(*new);
            }
        }
        for new in heap_pages {
            if !heaps.iter().any(|heap| heap.case == new.case) {
                heaps.push(new.clone());
            }
        }
        if (costs.len(), heaps.len()) == before { Ok(()) } else { self.manifest.write(&self.folder) }
    }

    /// Keeps packets and fragments, beside what is known; writes nothing where nothing is new.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep_fragments(&mut self, fragments: &BTreeMap<String, Told>) -> Result<()> {
        let known = &mut self.manifest.fragments;
        let before = known.len();
        for (case, told) in fragments {
            if !known.contains_key(case) {
                known.insert(case.clone(), told.clone());
            }
        }
        if known.len() == before { Ok(()) } else { self.manifest.write(&self.folder) }
    }

    /// Keeps what else the machine had to do while it was measured.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn keep_load(&mut self, load: Load) -> Result<()> {
        self.manifest.load = Some(self.manifest.load.map_or(load, |before| before.worse(load)));
        self.manifest.write(&self.folder)
    }

    fn write_lines(&mut self, lines: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let path = self.folder.join(SAMPLES);
        let bytes = text(lines).map_err(|problem| data(&path, problem))?;
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
            "exists already, and nothing is overwritten (--resume goes on with a sweep)".to_owned(),
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
/// [`Error::Data`] where the folder is no sweep, is of a newer schema, or has a row that cannot be
/// read; [`Error::File`].
pub fn read(folder: &Path) -> Result<StoredSweep> {
    let manifest = read_manifest(folder)?;
    let (path, bytes) = samples(folder)?;
    let mut warnings = Vec::new();
    let whole = whole_bytes(&bytes);
    if whole < bytes.len() {
        warnings.push(format!(
            "{}: the last line is torn ({} bytes without an end), as after a kill or on a full disk: it is left out",
            path.display(),
            bytes.len() - whole
        ));
    }
    let records = records(&bytes[..whole]).map_err(|problem| data(&path, problem))?;
    let planned = |record: &&Record| manifest.plan.has(record.arm.case);
    let foreign = records.len() - records.iter().filter(planned).count();
    if foreign > 0 {
        warnings.push(format!(
            "{}: {foreign} rows belong to cases that are not in the plan: they are left out",
            path.display()
        ));
    }
    let mut keys = HashSet::new();
    let key = |record: &Record| (record.arm, record.generation, record.round, record.timed);
    let twice = records.iter().filter(|record| !keys.insert(key(record))).count();
    if twice > 0 {
        warnings.push(format!(
            "{}: {twice} rows stand there twice, as where two programs wrote at a time: no interval holds",
            path.display()
        ));
    }
    let samples_bytes = whole as u64;
    Ok(StoredSweep { folder: folder.to_owned(), manifest, records, samples_bytes, warnings })
}

/// Reads what a sweep measures, with what, and where; not what it measured.
///
/// # Errors
/// As [`read`].
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let Some(file) = files::open(&path)? else {
        return Err(data(folder, format!("is no sweep: it has no {MANIFEST}")));
    };
    let bytes = files::read(file, &path, MOST_MANIFEST_BYTES, Error::file("read(2)", &path))?;
    let text = String::from_utf8(bytes).map_err(|error| data(&path, error.to_string()))?;
    manifest(&text).map_err(|problem| data(&path, problem))
}

/// How many bytes a sweep's samples have, uncompressed, without reading them. Of compressed samples
/// it is what their last four bytes say (ISIZE, RFC 1952), which is all of a file with one member;
/// of others it is too little.
pub fn samples_bytes(folder: &Path) -> Option<u64> {
    if let Ok(metadata) = fs::metadata(folder.join(SAMPLES)) {
        return Some(metadata.len());
    }
    let mut file = File::open(folder.join(COMPRESSED)).ok()?;
    file.seek(SeekFrom::End(-4)).ok()?;
    let mut size = [0; 4];
    file.read_exact(&mut size).ok()?;
    Some(u64::from(u32::from_le_bytes(size)))
}

/// The rows of a sweep, and the file that has them: `samples.csv`, or where there is none
/// `samples.csv.gz`, which may have several members, as files have that were compressed one by one
/// and then joined.
fn samples(folder: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let plain = folder.join(SAMPLES);
    if let Some(file) = files::open(&plain)? {
        let bytes = files::read(file, &plain, MOST_SAMPLES_BYTES, Error::file("read(2)", &plain))?;
        return Ok((plain, bytes));
    }
    let path = folder.join(COMPRESSED);
    let Some(file) = files::open(&path)? else {
        return Err(data(folder, format!("has neither {SAMPLES} nor {COMPRESSED}")));
    };
    let packed_bytes = file.metadata().map_err(Error::file("fstat(2)", &path))?.len();
    let failed = |error| data(&path, format!("cannot be decompressed: {error}"));
    let bytes = files::read(MultiGzDecoder::new(file), &path, MOST_UNPACKED * packed_bytes, failed)?;
    Ok((path, bytes))
}

/// Reads a manifest, the schema first: a newer one may look different in all else.
fn manifest(text: &str) -> std::result::Result<Manifest, String> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    // Editors of other systems begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
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

/// `samples.csv` or a part of it, from rows of [`columns`].
///
/// # Errors
/// What the writer says.
pub fn text(lines: impl IntoIterator<Item = Vec<String>>) -> std::result::Result<Vec<u8>, String> {
    let mut text = ::csv::Writer::from_writer(Vec::new());
    for line in lines {
        text.write_record(line).map_err(|error| error.to_string())?;
    }
    text.into_inner().map_err(|error| error.to_string())
}

/// Reads the whole lines of `samples.csv`.
///
/// # Errors
/// Which line cannot be read, and why.
pub fn records(text: &[u8]) -> std::result::Result<Vec<Record>, String> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut rows = reader.records();
    let at = |line: usize, problem: String| format!("line {line}: {problem}");
    let header = rows.next().ok_or_else(|| "is empty".to_owned())?;
    header
        .map_err(|error| error.to_string())
        .and_then(|header| columns::check_header(&header))
        .map_err(|problem| at(1, problem))?;
    let records = rows.enumerate().map(|(index, row)| {
        let row = row.map_err(|error| error.to_string());
        row.and_then(|row| columns::read(&row)).map_err(|problem| at(index + 2, problem))
    });
    records.collect()
}

/// How much of a file consists of whole lines.
pub fn whole_bytes(text: &[u8]) -> usize {
    text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::super::samples_csv::tests::record;
    use super::*;
    use crate::environment::CopyCauses;
    use crate::fragments::{Fragments, FragmentsSource};

    pub(crate) fn manifest() -> Manifest {
        let case = record().arm.case;
        Manifest {
            schema: SCHEMA,
            program: Program {
                version: "0.1.0".to_owned(),
                revision: "0123456789ab".to_owned(),
                dirty: false,
            },
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
                only_in: Vec::new(),
            },
            not_counted: BTreeMap::new(),
            environment: None,
            copy_causes: CopyCauses::default(),
            checks: Vec::new(),
            injections: Vec::new(),
            heap_pages: Vec::new(),
            fragments: BTreeMap::new(),
            no_sink: None,
            load: None,
        }
    }

    fn stored(rounds: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep");
        let mut store = Store::create(&path, &manifest()).unwrap();
        for pair in rows(rounds).chunks(2) {
            store.append(pair).unwrap();
        }
        (folder, path)
    }

    /// Two rows for each round.
    fn rows(rounds: usize) -> Vec<Record> {
        (0..2 * rounds as u64).map(|round| Record { round, ..record() }).collect()
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
        assert_eq!((sweep.manifest, sweep.records), (manifest(), rows(3)));
        assert!(sweep.warnings.is_empty());
        assert_eq!(Some(sweep.samples_bytes), samples_bytes(&path));
    }

    #[test]
    fn a_byte_order_mark_changes_nothing() {
        let (_folder, path) = stored(3);
        let file = path.join(MANIFEST);
        fs::write(&file, format!("\u{feff}{}", fs::read_to_string(&file).unwrap())).unwrap();
        assert_eq!(read(&path).unwrap().manifest, manifest());
    }

    #[test]
    fn what_an_injection_costs_is_kept_once_for_each_cell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep");
        let mut store = Store::create(&path, &manifest()).unwrap();
        let of = |injection_ns| Injection { cell: record().arm.case.cell(), injection_ns };
        for injection_ns in [1500.0, 1700.0] {
            let heap = HeapPages { case: "rr/one_copy".to_owned(), is_huge: injection_ns > 1600.0 };
            store.keep_found(&[of(injection_ns)], std::slice::from_ref(&heap)).unwrap();
            let kept = read(&path).unwrap().manifest;
            assert_eq!(kept.injections, [of(1500.0)]);
            assert_eq!(kept.heap_pages.iter().map(|heap| heap.is_huge).collect::<Vec<_>>(), [false]);
            assert_eq!(kept.injection_ns(record().arm.case.cell()), Some(1500.0));
        }
    }

    #[test]
    fn packets_and_fragments_are_kept_once_for_each_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep");
        let mut store = Store::create(&path, &manifest()).unwrap();
        let case = record().arm.case;
        let of = |packets_per_message, not_counted: Option<&str>| Told {
            fragments: Some(Fragments {
                packets_per_message,
                fragments_per_message: 12.5,
                fragments_source: FragmentsSource::WorkedOut,
            }),
            not_counted: not_counted.map(str::to_owned),
        };
        for told in [of(1.0, Some("an ordinary user may not")), of(2.0, None)] {
            store.keep_fragments(&BTreeMap::from([(case.to_string(), told)])).unwrap();
            let kept = read(&path).unwrap().manifest;
            assert_eq!(kept.fragments(&case), Some(&of(1.0, Some("an ordinary user may not"))));
        }
        store.keep_fragments(&BTreeMap::from([("a stream".to_owned(), Told::default())])).unwrap();
        assert_eq!(read(&path).unwrap().manifest.fragments["a stream"].fragments, None);
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_samples_are_read_where_there_are_no_others_and_not_added_to() {
        let (_folder, path) = stored(3);
        let (plain, gz) = (path.join(SAMPLES), path.join(COMPRESSED));
        let bytes = fs::read(&plain).unwrap();
        let (one, other) = bytes.split_at(bytes.len() / 2);
        let members = [compressed(one), compressed(other)].concat();
        fs::write(&gz, b"is not looked at").unwrap();
        assert_eq!(read(&path).unwrap().records.len(), 6);

        fs::write(&gz, &members).unwrap();
        fs::remove_file(&plain).unwrap();
        let sweep = read(&path).unwrap();
        assert_eq!((sweep.records.len(), sweep.warnings.len()), (6, 0));
        assert_eq!(sweep.samples_bytes, bytes.len() as u64);
        assert_eq!(samples_bytes(&path), Some(other.len() as u64), "of several members the last one's");
        fs::write(&gz, compressed(&bytes)).unwrap();
        assert_eq!(samples_bytes(&path), Some(bytes.len() as u64));
        fs::write(&gz, &members).unwrap();
        let error = Store::resume(&sweep, vec!["again".to_owned()]).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("gunzip"), "{error}");
        assert_eq!(read(&path).unwrap().manifest, sweep.manifest, "nothing was noted");

        fs::write(&gz, &members[..members.len() - 9]).unwrap();
        assert!(problem(&path).contains("samples.csv.gz: cannot be decompressed"), "{}", problem(&path));
        fs::remove_file(&gz).unwrap();
        assert!(problem(&path).contains("neither samples.csv nor samples.csv.gz"), "{}", problem(&path));
    }

    #[test]
    fn a_folder_that_exists_is_not_written_over() {
        let (_folder, path) = stored(1);
        let error = Store::create(&path, &manifest()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("exists"), "{error}");
        assert_eq!(read(&path).unwrap().records.len(), 2);
    }

    #[test]
    fn a_torn_last_line_is_left_out_with_a_warning_and_cut_off_by_a_resume() {
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
            store.append(&rows(2)[3..]).unwrap();
            assert_eq!(read(&path).unwrap().manifest.resumed.last().unwrap(), &["again"]);
            assert_eq!(fs::read(&samples).unwrap(), whole);
        }
    }

    #[test]
    fn a_sweep_is_written_by_one_program_at_a_time_and_rows_that_stand_twice_are_named() {
        let (_folder, path) = stored(2);
        let sweep = read(&path).unwrap();
        let mut first = Store::resume(&sweep, vec!["first".to_owned()]).unwrap();
        let error = Store::resume(&sweep, vec!["second".to_owned()]).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("another sendpath"), "{error}");
        first.append(&rows(3)[4..]).unwrap();
        drop(first);
        // What was read before is not all that is there by now.
        let error = Store::resume(&sweep, vec!["second".to_owned()]).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("has grown"), "{error}");
        let now = read(&path).unwrap();
        assert_eq!((now.manifest.resumed.len(), now.records.len(), now.warnings.len()), (1, 6, 0));
        Store::resume(&now, vec!["third".to_owned()]).unwrap().append(&rows(1)).unwrap();
        let warnings = read(&path).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("2 rows stand there twice"), "{warnings:?}");
    }

    #[test]
    fn what_unpacks_to_far_more_than_rows_do_is_refused() {
        let (_folder, path) = stored(1);
        fs::remove_file(path.join(SAMPLES)).unwrap();
        fs::write(path.join(COMPRESSED), compressed(&vec![b'0'; 10 << 20])).unwrap();
        assert!(problem(&path).contains("has more than"), "{}", problem(&path));
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
        let mut store = Store { folder: PathBuf::from("sweep"), manifest: manifest(), samples: full };
        let error = store.append(&[record()]).unwrap_err().to_string();
        assert_eq!(error, "write(2) sweep/samples.csv: No space left on device (os error 28)");
    }
}
