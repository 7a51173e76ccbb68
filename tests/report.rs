//! What a report says of stored data: golden files, a study's table, and data that are no sweep.

mod common;

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitCode;

use common::anywhere;
use libtest_mimic::Failed;
use sendpath::case::{Case, Cell, Layout, Path, Placement, Workload};
use sendpath::counters::{Event, Reading};
use sendpath::measure::burst::Sample;
use sendpath::pair::{RoundTrips, SideReport};
use sendpath::report::page::Page;
use sendpath::results::record::{Arm, Record};
use sendpath::results::store::{self, Manifest, Plan, Program, SCHEMA, Store};

fn main() -> ExitCode {
    common::main(vec![anywhere("of_study_a_zero_copy_wins_in_0_of_8_cells", study_a)])
}

/// The table of study A as one burst of ten seconds for each row.
fn study_a_records() -> Vec<Record> {
    let table = include_str!("golden/study-a.csv");
    let record = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |index: usize| fields[index].parse::<f64>().expect("a number");
        let path = match fields[0] {
            "1" => Path::TwoCopy,
            "2" => Path::OneCopy,
            _ => Path::ZeroCopy,
        };
        let case = Case {
            workload: Workload::Rr,
            path,
            layout: Layout::Heap,
            payload_bytes: number(2) as usize,
            threads: number(3) as usize,
            placement: Placement::Free,
        };
        let elapsed_ns = (number(4) * 1e9) as u64;
        let messages = (number(5) / number(2)) as u64;
        let counted = |index: usize| Reading::Counted {
            value: number(index) as u64,
            enabled_ns: elapsed_ns,
            running_ns: elapsed_ns,
        };
        let server = SideReport {
            counters: BTreeMap::from([
                (Event::Cycles, counted(10)),
                (Event::L1dLoadMisses, counted(11)),
                (Event::LlcLoadMisses, counted(12)),
                (Event::ContextSwitches, counted(13)),
            ]),
            ..SideReport::default()
        };
        let round_trips = RoundTrips {
            sum_ns: (number(7) * 1e3 * messages as f64) as u64,
            count: messages,
            max_ns: (number(8) * 1e3) as u64,
            histogram: Vec::new(),
        };
        let client = SideReport {
            pairs_ns: elapsed_ns * case.threads as u64,
            round_trips: Some(round_trips),
            ..SideReport::default()
        };
        let sample = Sample { elapsed_ns, messages, pairs: case.threads as u64, server, client };
        let arm = Arm { case, control: false };
        Record { generation: 0, round: 0, position: 0, arm, timed: true, outcome: Ok(sample) }
    };
    table.lines().skip(1).map(record).collect()
}

/// Stores records as a sweep that some other program measured, and gives the folder.
fn stored(records: &[Record], into: &FilePath) -> Result<PathBuf, Failed> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut series = Vec::new();
    for record in records {
        let (cell, one) = (record.arm.case.cell(), record.arm.case.series());
        if !cells.contains(&cell) {
            cells.push(cell);
        }
        if !series.contains(&one) {
            series.push(one);
        }
    }
    let manifest = Manifest {
        schema: SCHEMA,
        program: Program { version: "0.0.0".to_owned(), revision: "unknown".to_owned(), dirty: false },
        started: "2026-01-01T00:00:00Z".to_owned(),
        host: "elsewhere".to_owned(),
        command: vec!["perf".to_owned(), "stat".to_owned()],
        plan: Plan { profile: "study-a".to_owned(), seed: 0, precision: 0.01, series, cells },
        not_counted: BTreeMap::new(),
        environment: None,
        checks: Vec::new(),
    };
    let folder = into.join("sweep");
    let mut store = Store::create(&folder, &manifest)?;
    store.append(records)?;
    Ok(folder)
}

fn page(folder: &FilePath) -> Result<Page, Failed> {
    let page = sendpath::report::page(&store::read(folder)?);
    assert_eq!(sendpath::report::dangling(&page), [""; 0], "each claim's rows stand in the page");
    Ok(page)
}

fn study_a() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let page = page(&stored(&study_a_records(), folder.path())?)?;
    let verdict: Vec<&str> = page.verdict.iter().map(|claim| claim.text.as_str()).collect();
    println!("{}\n{verdict:#?}\n{:#?}", page.headline, page.questions);
    assert!(verdict.iter().any(|text| text.contains("Zero-copy wins in 0 of 8 cells")), "{verdict:?}");
    Ok(())
}
