//! What a report says of stored data: golden files, a study's table, and data that are no sweep.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::anywhere;
use libtest_mimic::{Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sendpath::case::{
    Case, Cell, Engine, Layout, Placement, Receiver, SendPath, Series, Shape, Source, Workload,
};
use sendpath::environment::CopyCauses;
use sendpath::event::{Event, Reading};
use sendpath::fragments::{Fragments, FragmentsSource, Told};
use sendpath::report::page::{Claim, Line, Page};
use sendpath::results::analysis::CellResult;
use sendpath::results::load::Load;
use sendpath::results::manifest::{Manifest, OnlyIn, Plan, Program, SCHEMA};
use sendpath::results::metric::Metric;
use sendpath::results::record::{Arm, Record};
use sendpath::results::stats::Estimate;
use sendpath::results::store::{self, Store, StoredSweep};
use sendpath::results::summary;
use sendpath::results::verdict::Verdict;
use sendpath::sample::{RoundTrips, Sample, SideReport, ZeroCopyCounts};

pub fn trials() -> Vec<Trial> {
    vec![
        anywhere("of_study_a_zero_copy_wins_in_0_of_8_cells", study_a),
        anywhere("a_stored_sweep_gives_the_stored_summary_and_page", golden),
        anywhere("a_path_that_is_best_between_two_sizes_is_named", between_two_sizes),
        anywhere("headlines_are_read_at_a_glance", short_headlines),
        anywhere("on_a_busy_machine_no_more_time_is_advised", busy),
        anywhere("what_depends_on_the_machines_state_is_said_before_it_is_believed", other_state),
        anywhere("each_column_is_explained_in_format_md", columns_are_explained),
        anywhere("odd_sweeps_have_a_page_too", odd_sweeps),
        anywhere("receivers_and_sources_are_never_mixed", receivers),
        anywhere("copied_shares_are_never_pooled", copied_shares),
        anywhere("the_first_sentences_answer_for_the_sender_alone_and_for_a_receiver", first_sentences),
        anywhere("what_a_driver_takes_for_a_fragment_moves_what_is_said_of_the_sender_alone", fragment_cost),
        anywhere("a_series_of_some_cells_leaves_what_is_said_of_all_as_it_is", series_of_some_cells),
        anywhere("other_ways_are_named_apart_and_stay_out_of_the_six_questions", other_ways),
        anywhere("text_csv_tables_maps_and_figures_hold_to_one_verdict", one_verdict),
        anywhere("paths_that_are_close_are_said_to_be_in_numbers", close_paths),
        anywhere("without_softirqs_cpu_time_gives_no_verdict", cpu_time),
        anywhere("compressed_samples_give_the_same_page", compressed),
        anywhere("on_a_full_disk_the_full_disk_is_named_and_nothing_before_it", full_disk),
        anywhere("a_full_stdout_is_an_error_and_no_panic", full_stdout),
    ]
}

/// The table of study A as one burst of ten seconds for each row.
fn study_a_records() -> Vec<Record> {
    let table = include_str!("../golden/study-a.csv");
    let record = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |index: usize| fields[index].parse::<f64>().expect("a number");
        let path = match fields[0] {
            "1" => SendPath::TwoCopy,
            "2" => SendPath::OneCopy,
            _ => SendPath::ZeroCopy,
        };
        let case = Case {
            workload: Workload::Rr,
            path,
            layout: Layout::Heap,
            payload_bytes: number(2) as usize,
            threads: number(3) as usize,
            placement: Placement::Free,
            receiver: Receiver::Matched,
            source: Source::default(),
            ..Case::default()
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
fn stored(records: &[Record], into: &Path) -> Result<PathBuf, Failed> {
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
        resumed: Vec::new(),
        events: Vec::new(),
        plan: Plan {
            profile: "study-a".to_owned(),
            seed: 0,
            precision: 0.01,
            series,
            cells,
            only_in: Vec::new(),
        },
        not_counted: BTreeMap::new(),
        environment: None,
        copy_causes: CopyCauses::default(),
        checks: Vec::new(),
        injections: Vec::new(),
        heap_pages: Vec::new(),
        fragments: std::collections::BTreeMap::new(),
        no_sink: None,
        load: None,
    };
    let folder = into.join("sweep");
    let mut store = Store::create(&folder, &manifest)?;
    store.append(records)?;
    Ok(folder)
}

fn page(folder: &Path) -> Result<Page, Failed> {
    let page = sendpath::report::page(&store::read(folder)?);
    assert_eq!(crate::common::dangling(&page), [""; 0], "each claim's rows stand in the page");
    Ok(page)
}

fn study_a() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let page = page(&stored(&study_a_records(), folder.path())?)?;
    let verdict: Vec<&str> = page.verdict.iter().map(|claim| claim.text.as_str()).collect();
    assert!(verdict.iter().any(|text| text.contains("Zero-copy wins in 0 of 8 cells")), "{verdict:?}");
    // Its own figures stand there by its own numbers; of its counts, all were taken.
    let numbers: Vec<&str> = page.study_figures.iter().map(|figure| figure.number.as_str()).collect();
    assert_eq!(numbers, ["1", "2", "3a", "3b", "4"]);
    let is_there = |id: &String| page.figures.iter().any(|figure| figure.id == *id);
    for figure in &page.study_figures {
        assert!(
            figure.ids.iter().all(is_there) && figure.ids.is_empty() != figure.missing.is_empty(),
            "{figure:?}"
        );
    }
    // Without counters, CPU time stands in the place of what was counted.
    let mut plain = study_a_records();
    for record in &mut plain {
        let Ok(sample) = &mut record.outcome else { continue };
        sample.server.counters.clear();
    }
    let folder = tempfile::tempdir()?;
    let page = self::page(&stored(&plain, folder.path())?)?;
    let counted =
        page.study_figures.iter().filter(|figure| ["3a", "3b", "4"].contains(&figure.number.as_str()));
    assert!(counted.clone().count() == 3 && counted.clone().all(|figure| !figure.missing.is_empty()));
    Ok(())
}

/// `SENDPATH_BLESS=1 cargo test --test pages report` takes what comes out as what is expected from
/// now on.
fn golden() -> Result<(), Failed> {
    let folder = Path::new("tests/golden/sweep");
    let sweep = store::read(folder)?;
    let page = page(folder)?;
    let analysis = sendpath::results::analysis::analyse_stored(&sweep.manifest, &sweep.records);
    let summary = summary::csv(&sweep, &analysis)?;
    for (name, found) in
        [("summary.csv", summary), ("report.html", sendpath::report::render(&page, true)?.into_bytes())]
    {
        let path = folder.join(name);
        if std::env::var_os("SENDPATH_BLESS").is_some() {
            std::fs::write(&path, &found)?;
        }
        let (found, expected) = (String::from_utf8(found)?, std::fs::read_to_string(&path)?);
        if let Some((line, (found, expected))) =
            found.lines().zip(expected.lines()).enumerate().find(|(_, (found, expected))| found != expected)
        {
            return Err(format!("{name}, line {}:\n{found}\ninstead of\n{expected}", line + 1).into());
        }
        assert_eq!(found.len(), expected.len(), "{name}");
    }
    Ok(())
}

/// A minute on two CPUs of a Xeon, the sender alone: `two_copy` is the fastest at 8 KiB and
/// `zero_copy` at 64 KiB, but from 15 to 45 KiB it is `one_copy`, where no size was measured.
/// Sweeps of before 2026-12 said `zero_copy` from 21 KiB on.
fn between_two_sizes() -> Result<(), Failed> {
    let folder = Path::new("tests/golden/xeon-minute");
    let page = page(folder)?;
    assert_eq!(page.headline, "Sender alone: pack+send to 15K, writev to 45K, then MSG_ZEROCOPY.");
    let shown = &page.terminal;
    let strip = "sender alone   64B ─pack+send─ ~15K ─writev─ ~45K ─MSG_ZEROCOPY─ 1M  2.7× writev";
    assert!(shown.lines().any(|line| line == strip), "{shown}");
    assert!(shown.lines().count() <= 13 && shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let crossing = page.questions.iter().flat_map(|question| &question.answer);
    assert!(
        crossing.clone().any(|claim| claim.text.contains("faster than pack+send from 15K")),
        "{:?}",
        page.questions
    );
    Ok(())
}

fn short_headlines() -> Result<(), Failed> {
    let all = study_a_records();
    let mut failed = all.clone();
    for record in &mut failed {
        record.outcome = Err("sendmsg(2): it never works".to_owned());
    }
    let one: Vec<Record> = all.iter().take(1).cloned().collect();
    let mut folders: Vec<PathBuf> =
        ["tests/golden/sweep", "tests/golden/xeon-minute", "target-reports/reference", "target-reports/ways"]
            .map(PathBuf::from)
            .into();
    let made = [tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?];
    for (records, into) in [all, failed, one].iter().zip(&made) {
        folders.push(stored(records, into.path())?);
    }
    for folder in folders {
        let Page { headline, terminal, strips, .. } = page(&folder)?;
        let words = headline.split_whitespace().count();
        assert!((3..=25).contains(&words), "{}: {words} words: {headline}", folder.display());
        let is_wide = terminal.lines().any(|line| line.chars().count() > 80);
        assert!(!is_wide && !terminal.is_empty(), "{}: {terminal}", folder.display());
        for span in strips.iter().flat_map(|strip| &strip.spans) {
            let is_within = span.from >= 0.0 && span.width > 0.0 && span.from + span.width <= 100.0 + 1e-9;
            assert!(is_within, "{}: {span:?}", folder.display());
        }
    }
    Ok(())
}

fn busy() -> Result<(), Failed> {
    let mut sweep = store::read(Path::new("target-reports/ways"))?;
    let said = |sweep: &StoredSweep| {
        let Page { verdict, warnings, trust, .. } = sendpath::report::page(sweep);
        let all: Vec<String> = verdict.into_iter().map(|claim| claim.text).chain(warnings).collect();
        (all.join("\n"), trust.map_or_else(String::new, |trust| trust.mark))
    };
    let (quiet, _) = said(&sweep);
    assert!(quiet.contains("(--time)"), "{quiet}");
    sweep.manifest.load = Some(Load { before: 82.0, cpus: 2, ..Load::default() });
    let (busy, mark) = said(&sweep);
    assert!(!busy.contains("would settle") && !busy.contains("(--time)"), "{busy}");
    assert!(busy.contains("the machine was busy (load 82.0 on 2 CPUs)") && mark != "good", "{mark}: {busy}");
    Ok(())
}

fn other_state() -> Result<(), Failed> {
    for folder in ["target-reports/reference", "target-reports/ways"] {
        let page = sendpath::report::page(&store::read(Path::new(folder))?);
        let with_remark = page.comparisons.rows.iter().filter(|row| {
            let has = |word: &str| row.cells.iter().any(|cell| cell.text.contains(word));
            has("while the machine was") && has("throughput")
        });
        let count = with_remark.count();
        let said = page.warnings.iter().find(|warning| warning.starts_with("While the machine was"));
        let trust = page.trust.map(|trust| trust.text).unwrap_or_default();
        assert_eq!(said.is_some(), count > 0, "{folder}: {count}");
        assert!(said.is_none_or(|text| text.contains(&format!("{count} of "))), "{said:?}");
        assert_eq!(trust.contains("with the machine's state"), count > 0, "{trust}");
    }
    Ok(())
}

/// docs/book/src/format.md speaks of counters as `EVENT`, and of intervals as `…_low` and `…_high`.
fn columns_are_explained() -> Result<(), Failed> {
    let format = std::fs::read_to_string("docs/book/src/format.md")?;
    let (samples, summary) = format.split_once("## summary.csv").ok_or("no summary.csv in format.md")?;
    let events: Vec<String> = <Event as strum::VariantArray>::VARIANTS
        .iter()
        .map(|&event| sendpath::results::samples_csv::event_name(event))
        .collect();
    let explained = |text: &str, column: &str| {
        let mut name = column.to_owned();
        for side in ["server", "client"] {
            for event in &events {
                let counter = format!("{side}_{event}");
                let rest = name.strip_prefix(&counter).filter(|rest| {
                    [
                        "",
                        "_enabled_ns",
                        "_running_ns",
                        "_per_message",
                        "_per_message_low",
                        "_per_message_high",
                    ]
                    .contains(rest)
                });
                if let Some(rest) = rest {
                    name = format!("{side}_EVENT{rest}");
                }
            }
        }
        let plain = name.trim_end_matches("_low").trim_end_matches("_high");
        text.contains(&format!("`{name}`")) || text.contains(&format!("`{plain}`"))
    };
    for column in sendpath::results::samples_csv::columns() {
        assert!(explained(samples, &column), "samples.csv: {column}");
    }
    let stored = std::fs::read_to_string("tests/golden/sweep/summary.csv")?;
    for metric in <Metric as strum::VariantArray>::VARIANTS {
        let slug = format!(",{},", metric.slug());
        assert!(stored.lines().next().is_some_and(|head| head.contains(&slug)), "{slug}");
    }
    for column in stored.lines().next().ok_or("no header")?.split(',') {
        assert!(explained(summary, column), "summary.csv: {column}");
    }
    Ok(())
}

/// No row at all, one path alone, one that failed throughout, a stream: each has a page, and no
/// claim without rows.
fn odd_sweeps() -> Result<(), Failed> {
    let all = study_a_records();
    let one: Vec<Record> =
        all.iter().filter(|record| record.arm.case.path == SendPath::OneCopy).cloned().collect();
    let mut failed = all.clone();
    for record in &mut failed {
        record.outcome = Err("sendmsg(2): it never works".to_owned());
    }
    let mut stream = all.clone();
    for record in &mut stream {
        record.arm.case.workload = Workload::Stream;
        if let Ok(sample) = &mut record.outcome {
            sample.client.round_trips = None;
        }
    }
    for (records, word) in [(one, "not in this sweep"), (failed, "it never works"), (stream, "stream")] {
        let folder = tempfile::tempdir()?;
        let page = page(&stored(&records, folder.path())?)?;
        assert!(sendpath::report::render(&page, true)?.contains(word), "{word}");
    }
    let folder = tempfile::tempdir()?;
    let path = stored(&all, folder.path())?;
    let samples = std::fs::read_to_string(path.join("samples.csv"))?;
    std::fs::write(path.join("samples.csv"), format!("{}\n", samples.lines().next().ok_or("no header")?))?;
    let page = page(&path)?;
    assert!(sendpath::report::render(&page, true)?.contains("cannot say"), "{}", page.headline);
    Ok(())
}

/// A copy of the stored sweep, with its samples and environment alone.
fn copied_sweep(into: &Path) -> Result<PathBuf, Failed> {
    let folder = into.join("sweep");
    std::fs::create_dir(&folder)?;
    for name in ["samples.csv", "environment.json"] {
        std::fs::copy(Path::new("tests/golden/sweep").join(name), folder.join(name))?;
    }
    Ok(folder)
}

fn report(folder: &Path) -> Command {
    let mut command = crate::common::sendpath();
    command.arg("report").arg(folder);
    command
}

/// The table of study A as it was, and once more with other receiver, other source and every time
/// doubled.
fn receivers() -> Result<(), Failed> {
    let mut records = study_a_records();
    let others: Vec<Record> = records
        .iter()
        .cloned()
        .map(|mut record| {
            record.arm.case.receiver = Receiver::Buffer;
            record.arm.case.source = Source::Cold;
            if let Ok(sample) = &mut record.outcome {
                sample.elapsed_ns *= 2;
                sample.client.pairs_ns *= 2;
            }
            record
        })
        .collect();
    records.extend(others);
    let folder = tempfile::tempdir()?;
    let page = page(&stored(&records, folder.path())?)?;
    let rows = page.figures.iter().flat_map(|figure| figure.lines.iter().flat_map(|line| &line.points));
    for row in rows.map(|point| &point.row) {
        assert!(row.ends_with("-free-matched"), "the figures are of the first receiver: {row}");
    }
    for figure in &page.figures {
        assert!(figure.caption.contains("receiver matched"), "{}", figure.caption);
        let xs = |line: &Line| line.points.iter().map(|point| point.x).collect::<Vec<_>>();
        assert!(figure.lines.iter().map(xs).all(|xs| xs.is_sorted_by(|a, b| a < b)), "{}", figure.id);
    }
    assert_eq!(page.maps.len(), 2 * 3, "a map for each receiver and metric");
    for (map, end) in
        page.maps.iter().zip(["receiver matched)", "data from memory, free)"].into_iter().cycle())
    {
        assert!(map.title.ends_with(end), "{}", map.title);
    }
    let verdict: Vec<&str> = page.verdict.iter().map(|claim| claim.text.as_str()).collect();
    for given in ["0 of 8 cells with receiver matched", "0 of 8 cells with data from memory"] {
        assert!(verdict.iter().any(|text| text.contains(given)), "{given}: {verdict:?}");
    }
    assert!(page.headline.contains("receiver matched"), "{}", page.headline);
    Ok(())
}

/// One case that was not copied among many that were is seen, and each series has its own share.
fn copied_shares() -> Result<(), Failed> {
    let mut records = study_a_records();
    let mut pages = records.clone();
    pages.retain(|record| record.arm.case.path == SendPath::ZeroCopy);
    for record in &mut pages {
        record.arm.case.layout = Layout::Page;
    }
    records.extend(pages);
    for record in &mut records {
        let Case { path, layout, payload_bytes, .. } = record.arm.case;
        let copied = if layout == Layout::Page || payload_bytes == 8192 { 0 } else { 1000 };
        if let Ok(sample) = &mut record.outcome
            && path == SendPath::ZeroCopy
        {
            let counts = ZeroCopyCounts {
                sends: 1000,
                completions: 1000,
                notifications: 1000,
                copied,
                ..ZeroCopyCounts::default()
            };
            sample.server.zero_copy = Some(counts);
        }
    }
    let folder = tempfile::tempdir()?;
    let page = page(&stored(&records, folder.path())?)?;
    let given = "zero_copy: 0 % to 100 % copied, by case; zero_copy, page: 0 % copied";
    let verdict: Vec<&str> = page.verdict.iter().map(|claim| claim.text.as_str()).collect();
    assert!(verdict.iter().any(|text| text.contains(given)), "{verdict:?}");
    Ok(())
}

/// Rows as of a quiet machine: a message's time is `ns`, and generations differ by `spread`.
fn timed(ns: impl Fn(Case) -> Option<f64>, spread: f64) -> Vec<Record> {
    timed_of(&SendPath::STUDIED.map(|path| Series::new(path, Layout::Heap)), Shape::default(), ns, spread)
}

/// The same of other series, the first of which is the baseline, and of another shape.
fn timed_of(series: &[Series], shape: Shape, ns: impl Fn(Case) -> Option<f64>, spread: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for receiver in [Receiver::Buffer, Receiver::Sink] {
        for payload_bytes in [64, 4 << 10, 64 << 10, 256 << 10] {
            let cell = Case { payload_bytes, receiver, shape, ..Case::default() }.cell();
            for (index, &one) in series.iter().chain(&series[..1]).enumerate() {
                let case = cell.case(one);
                let Some(ns) = ns(case) else { continue };
                for generation in 0..12 {
                    let noise = ((generation * 7 + index as u64 * 5) % 11) as f64 / 5.0 - 1.0;
                    let messages = 1000;
                    let elapsed_ns = (ns * messages as f64 * (1.0 + spread * noise)) as u64;
                    let copied = if receiver == Receiver::Sink { 0 } else { messages };
                    let counts = ZeroCopyCounts {
                        sends: messages,
                        completions: messages,
                        notifications: messages,
                        copied,
                        ..Default::default()
                    };
                    let server = SideReport {
                        zero_copy: case.path.is_zero_copy().then_some(counts),
                        ..SideReport::default()
                    };
                    let client = SideReport { pairs_ns: elapsed_ns, ..SideReport::default() };
                    let sample = Sample { elapsed_ns, messages, pairs: 1, server, client };
                    let arm = Arm { case, control: index == series.len() };
                    records.push(row(generation, arm, sample));
                }
            }
        }
    }
    records
}

fn first_sentences() -> Result<(), Failed> {
    // Over veth zero-copy takes a quarter longer; alone it copies nothing, and pays for large
    // messages.
    let ns = |case: Case| {
        let kib = case.payload_bytes as f64 / 1024.0;
        let alone = case.receiver == Receiver::Sink;
        Some(match case.path {
            SendPath::TwoCopy => 4000.0 + 170.0 * kib,
            SendPath::OneCopy => 5000.0 + 115.0 * kib,
            SendPath::ZeroCopy if alone => 8000.0 + 30.0 * kib,
            _ => 1.25 * (4000.0 + 115.0 * kib),
        })
    };
    let headline = |records: &[Record]| -> Result<(Page, String), Failed> {
        let folder = tempfile::tempdir()?;
        let page = page(&stored(records, folder.path())?)?;
        let headline = page.headline.clone();
        Ok((page, headline))
    };
    let (page, both) = headline(&timed(ns, 0.001))?;
    // Costs are straight in bytes here, so each crossing is where the lines cross.
    assert_eq!(
        both,
        "Sender alone: pack+send to 18K, writev to 35K, then MSG_ZEROCOPY. To a receiver: pack+send to 18K, then writev."
    );
    let notes: Vec<&str> = page.strips.iter().map(|strip| strip.note.as_str()).collect();
    assert_eq!(notes, ["MSG_ZEROCOPY: 0 % copied", "MSG_ZEROCOPY: 100 % copied"]);
    let titles: Vec<&str> = page.figures.iter().map(|figure| figure.title.as_str()).collect();
    for figure in &page.figures {
        let alone = figure.title.ends_with("sender alone");
        assert!(alone || figure.title.ends_with("to a receiver"), "{titles:?}");
        let of_sink = |row: &String| row.contains("-sink");
        let mut points = figure.lines.iter().flat_map(|line| &line.points);
        assert!(points.all(|point| of_sink(&point.row) == alone), "{}: the two are not mixed", figure.title);
    }
    let mut ids: Vec<&str> = page.figures.iter().map(|figure| figure.id.as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
    for way in ["sender alone)", "to a receiver)"] {
        assert!(page.maps.iter().any(|map| map.title.ends_with(way)), "{way}");
    }

    let (doubtful, undecided) = headline(&timed(|case| ns(case).map(|_| 5000.0), 0.5))?;
    assert_eq!(undecided, "Sender alone: undecided at every size. To a receiver: undecided at every size.");
    let advice = |claim: &&Claim| claim.text.contains("would settle what is undecided");
    let advice = doubtful.verdict.iter().find(advice).ok_or("no advice")?;
    let start = "Sweeps with --size 64,4K,64K,256K --threads 1 --receiver sink --time ";
    assert!(advice.text.starts_with(start), "{advice:?}");
    let (_, received) =
        headline(&timed(|case| ns(case).filter(|_| case.receiver == Receiver::Buffer), 0.001))?;
    assert_eq!(received, "To a receiver: pack+send to 18K, then writev.");
    let (_, alone) = headline(&timed(|case| ns(case).filter(|_| case.receiver == Receiver::Sink), 0.001))?;
    assert_eq!(alone, "Sender alone: pack+send to 18K, writev to 35K, then MSG_ZEROCOPY.");
    Ok(())
}

/// A card's driver that takes more for a fragment than `zero_copy` saves by one makes `one_copy`
/// the faster one.
fn fragment_cost() -> Result<(), Failed> {
    let ns = |case: Case| {
        let kib = case.payload_bytes as f64 / 1024.0;
        Some(match case.path {
            SendPath::TwoCopy => 4000.0 + 170.0 * kib,
            SendPath::OneCopy => 5000.0 + 115.0 * kib,
            _ => 8000.0 + 30.0 * kib,
        })
    };
    let folder = tempfile::tempdir()?;
    let path = stored(&timed(ns, 0.001), folder.path())?;
    let sweep = store::read(&path)?;
    let analysis = sendpath::results::analysis::analyse_stored(&sweep.manifest, &sweep.records);
    let (free, dear) = (page(&path)?, sendpath::report::page_with(&sweep, &analysis, 150.0));
    assert_eq!(crate::common::dangling(&dear), [""; 0]);
    // At 64 KiB, zero_copy saves 2,440 ns and has 21 fragments more.
    assert_eq!(free.strips[0].text, "pack+send to 18K, writev to 35K, then MSG_ZEROCOPY");
    let begins = |page: &Page| page.strips[0].spans.last().map(|span| span.from);
    assert!(begins(&dear) > begins(&free) && dear.headline.contains("MSG_ZEROCOPY"), "{}", dear.headline);
    assert_eq!(free.strips[1], dear.strips[1], "there a fragment costs what it costs");
    assert!(dear.headline.contains("150 ns a fragment added"), "{}", dear.headline);
    assert!(dear.warnings.iter().any(|warning| warning.contains("--fragment-cost")), "{:?}", dear.warnings);

    // Up to which cost it stays ahead is a matter of what was measured, whatever was added.
    let costs = |page: &Page| -> Vec<f64> {
        let figure = page.figures.iter().find(|figure| figure.id == "fig6-fragment-cost-1T-sink");
        let lines = figure.into_iter().flat_map(|figure| &figure.lines);
        let large = lines.flat_map(|line| &line.points).filter(|point| point.x >= 65536.0);
        large.map(|point| point.y).collect()
    };
    let [from_free, from_dear] = [&free, &dear].map(costs);
    assert_eq!(from_free.len(), 4, "two sizes against two paths: {from_free:?}");
    assert!(from_free.iter().zip(&from_dear).all(|(one, other)| (one - other).abs() < 0.5), "{from_dear:?}");
    let nearest = from_free.iter().map(|ns| (ns - 2440.0 / 21.0).abs()).fold(f64::INFINITY, f64::min);
    assert!(nearest < 1.0, "{from_free:?}");

    // What was counted goes before what is worked out: here twice as many.
    let mut counted = sweep.clone();
    let case = Case { path: SendPath::ZeroCopy, receiver: Receiver::Sink, ..Case::default() };
    let fragments = Fragments {
        packets_per_message: 3.0,
        fragments_per_message: 45.0,
        fragments_source: FragmentsSource::Counted,
    };
    let told = Told { fragments: Some(fragments), not_counted: None };
    counted.manifest.fragments.insert(case.to_string(), told);
    let found = costs(&sendpath::report::page(&counted));
    assert!(found.iter().any(|ns| (ns - 2440.0 / 42.0).abs() < 1.0), "{found:?}");
    Ok(())
}

/// A series that some sizes alone have takes no part in what is said of all of them, and has a
/// sentence of its own.
fn series_of_some_cells() -> Result<(), Failed> {
    let huge = Series::new(SendPath::ZeroCopy, Layout::Huge);
    let ordinary = Series::new(SendPath::ZeroCopy, Layout::Page);
    let series = [Series::new(SendPath::TwoCopy, Layout::Heap), ordinary, huge];
    let ns = |case: Case| {
        let kib = case.payload_bytes as f64 / 1024.0;
        let is_there = case.receiver == Receiver::Sink && case.payload_bytes >= 64 << 10;
        match (case.path, case.layout) {
            (SendPath::TwoCopy, _) => Some(4000.0 + 170.0 * kib),
            (_, Layout::Huge) => is_there.then_some(3000.0 + 20.0 * kib),
            _ => Some(8000.0 + 30.0 * kib),
        }
    };
    let records = timed_of(&series, Shape::default(), ns, 0.001);
    let without: Vec<Record> =
        records.iter().filter(|record| record.arm.case.layout != Layout::Huge).cloned().collect();
    let (folder, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = stored(&records, folder.path())?;
    let mut manifest = store::read(&path)?.manifest;
    let cells = manifest.plan.cells.iter().filter(|cell| cell.payload_bytes >= 64 << 10);
    let cells = cells.filter(|cell| cell.receiver == Receiver::Sink).copied().collect();
    manifest.plan.only_in = vec![OnlyIn { series: huge, cells }];
    store::replace(&path.join("environment.json"), &serde_json::to_vec(&manifest)?)?;

    let (found, plain) = (page(&path)?, page(&stored(&without, other.path())?)?);
    assert_eq!(found.headline, plain.headline);
    let verdict: Vec<&str> = found.verdict.iter().map(|claim| claim.text.as_str()).collect();
    let advice = verdict.iter().filter(|text| text.contains("huge pages")).collect::<Vec<_>>();
    assert!(matches!(advice[..], [text] if text.contains("at 64K (faster)")), "{verdict:?}");
    assert_eq!(verdict.len(), plain.verdict.len() + 1, "{verdict:?}");
    let rows = |page: &Page| page.cases.rows.len();
    assert_eq!(rows(&found), rows(&plain) + 2, "a row for each case that was planned, and no other");
    let lines = |id: &str| {
        let figure = found.figures.iter().find(|figure| figure.id == id);
        figure.map(|figure| (figure.lines.len(), figure.missing.len()))
    };
    assert_eq!(lines("fig1-throughput-1T-sink"), Some((3, 0)));
    assert_eq!(lines("fig1-throughput-1T"), Some((2, 0)));
    Ok(())
}

/// Eight ways to send, as the profile `zero-copy` has them, and a hybrid.
fn other_ways() -> Result<(), Failed> {
    let [two, one] = [SendPath::TwoCopy, SendPath::OneCopy].map(|path| Series::new(path, Layout::Heap));
    let zero = Series::new(SendPath::ZeroCopy, Layout::Page);
    let series = [
        two,
        one,
        one.by(Engine::Uring),
        zero,
        zero.by(Engine::Uring),
        zero.by(Engine::UringFixed),
        Series::new(SendPath::Splice, Layout::Page),
        Series::new(SendPath::File, Layout::Heap),
        Series::new(SendPath::Hybrid, Layout::Heap).copying_below(1024),
    ];
    let ns = |case: Case| {
        let kib = case.payload_bytes as f64 / 1024.0;
        let by_engine = if case.engine == Engine::Syscall { 1.0 } else { 0.9 };
        Some(match case.path {
            SendPath::TwoCopy => 4000.0 + 170.0 * kib,
            SendPath::OneCopy | SendPath::Hybrid => (5000.0 + 115.0 * kib) * by_engine,
            SendPath::ZeroCopy => (8000.0 + 30.0 * kib) * by_engine,
            _ => 12000.0 + 60.0 * kib,
        })
    };
    let shape: Shape = "header".parse()?;
    let folder = tempfile::tempdir()?;
    let path = stored(&timed_of(&series, shape, ns, 0.001), folder.path())?;
    let read = store::read(&path)?;
    assert_eq!(read.manifest.plan.series, series, "{:?}", read.warnings);
    assert!(read.manifest.plan.cells.iter().all(|cell| cell.shape == shape));
    let page = page(&path)?;

    // Two engines of zero_copy are equally fast at the largest size: the path is what is to be
    // used.
    assert!(page.headline.contains("pack+send to "), "{}", page.headline);
    assert!(page.verdict.iter().any(|claim| claim.text.contains("shape header")), "{:?}", page.verdict);

    let drawn = page.figures.iter().find(|figure| figure.id.starts_with("fig1-throughput")).ok_or("none")?;
    assert_eq!(drawn.lines.len(), series.len());
    let mut looks: Vec<(usize, bool)> = drawn.lines.iter().map(|line| (line.style, line.dashed)).collect();
    assert_eq!(looks.iter().filter(|(_, dashed)| *dashed).count(), 3, "a line by io_uring is dashed");
    looks.sort_unstable();
    looks.dedup();
    assert_eq!(looks.len(), series.len(), "{looks:?}");
    let labels: Vec<&str> = drawn.lines.iter().map(|line| line.label.as_str()).collect();
    for label in
        ["MSG_ZEROCOPY, page, uring_fixed (", "vmsplice, page", "sendfile", "hybrid, copies below 1K"]
    {
        assert!(labels.iter().any(|found| found.starts_with(label)), "{label}: {labels:?}");
    }
    assert!(drawn.caption.contains("of shape header (two fields: a header of 24 bytes, and the rest)"));
    for table in [&page.cases, &page.comparisons, &page.cost_model.table] {
        let at = table.columns.iter().position(|column| column.name == "shape").ok_or("no column")?;
        assert!(table.rows.iter().all(|row| row.cells.len() == table.columns.len()));
        assert!(table.rows.iter().all(|row| row.cells[at].text == "header"));
    }
    for word in
        ["path splice", "path file", "path hybrid", "engine uring", "engine uring_fixed", "shape header"]
    {
        assert!(page.environment.iter().any(|(name, _)| name == word), "{word}");
    }
    for claim in page.questions.iter().flat_map(|question| &question.answer) {
        for other in ["uring", "splice", "file", "hybrid"] {
            let names = |text: &String| text.split([' ', '-', ',', '/']).any(|word| word.starts_with(other));
            assert!(!names(&claim.text) && !claim.rows.iter().any(names), "{other}: {claim:?}");
        }
    }
    Ok(())
}

/// The only round of a life.
fn row(generation: u64, arm: Arm, sample: Sample) -> Record {
    Record { generation, round: 0, position: 0, arm, timed: true, outcome: Ok(sample) }
}

/// Rows of three paths in cells of 64 B, 1 KiB and so on: by which logarithm `one_copy` and
/// `zero_copy` are faster than `two_copy` in each, how much visits differ, and how many visits
/// there are.
fn generated(gains: &[[f64; 2]], spread: f64, visits: u64, mut seed: u64) -> Vec<Record> {
    // A generator as plain as it gets: the numbers only have to differ.
    let mut noise = || {
        let mut one = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as f64 / f64::from(1_u32 << 31)
        };
        spread * (one() + one() + one() - 1.5)
    };
    let mut records = Vec::new();
    for (index, gains) in gains.iter().enumerate() {
        let arms = [
            (SendPath::TwoCopy, 0.0, false),
            (SendPath::OneCopy, gains[0], false),
            (SendPath::ZeroCopy, gains[1], false),
            (SendPath::TwoCopy, 0.0, true),
        ];
        for generation in 0..visits {
            for (path, gain, control) in arms {
                let case = Case { path, payload_bytes: 64 << (4 * index), ..Case::default() };
                let messages = 1000;
                let message_ns = 10_000.0 * (noise() - gain).exp();
                let elapsed_ns = (message_ns * messages as f64) as u64;
                let tail_ns = (2.0 * message_ns * (4.0 * noise()).exp()) as u64;
                let round_trips = RoundTrips {
                    sum_ns: elapsed_ns,
                    count: messages,
                    max_ns: tail_ns,
                    histogram: vec![
                        (message_ns as u64, messages - 20),
                        (tail_ns.max(message_ns as u64 + 1), 20),
                    ],
                };
                let client = SideReport {
                    pairs_ns: elapsed_ns,
                    round_trips: Some(round_trips),
                    ..SideReport::default()
                };
                let sample = Sample { elapsed_ns, messages, pairs: 1, server: SideReport::default(), client };
                let arm = Arm { case, control };
                records.push(row(generation, arm, sample));
            }
        }
    }
    records
}

/// Wherever a verdict stands, it is what one function reads off the interval that stands beside it.
fn one_verdict() -> Result<(), Failed> {
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let gain = prop_oneof![Just(0.0), -0.03..0.03_f64, -0.12..0.12_f64];
    let gains = prop::collection::vec([gain.clone(), gain], 1..5);
    let sweeps = (gains, 0.0..0.06_f64, 3..10_u64, any::<u64>());
    runner
        .run(&sweeps, |(gains, spread, visits, seed)| {
            holds_to_one_verdict(&generated(&gains, spread, visits, seed))
                .map_err(|failed| TestCaseError::fail(format!("{failed:?}")))
        })
        .map_err(|error| error.to_string().into())
}

fn holds_to_one_verdict(records: &[Record]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = stored(records, folder.path())?;
    let sweep = store::read(&path)?;
    let page = page(&path)?;
    let analysis = sendpath::results::analysis::analyse_stored(&sweep.manifest, &sweep.records);
    let text = summary::table(&sweep.manifest, &analysis);
    let csv = String::from_utf8(summary::csv(&sweep, &analysis)?)?;
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|column| *column == name).ok_or(format!("no {name}"));
    let shown =
        page.comparisons.columns.iter().position(|column| column.name == "verdict").ok_or("no column")?;
    let mut seen = 0;
    for cell in &analysis.cells {
        for comparison in &cell.comparisons {
            let metric = comparison.metric;
            let Ok(outcome) = &comparison.outcome else { continue };
            seen += 1;
            let verdict = Verdict::of(outcome.ratio, metric.margin());
            assert_eq!(outcome.verdict, verdict, "{comparison:?}");
            let words = metric.verdict(verdict, outcome.ratio, metric.margin());

            let name = |series: Series| series.to_string().replace('/', "-");
            let id = format!(
                "{metric}-{}-{}-{}",
                cell.cell.to_string().replace('/', "-"),
                name(comparison.series),
                name(comparison.baseline)
            );
            let row = page.comparisons.rows.iter().find(|row| row.id == id).ok_or(id)?;
            assert_eq!(row.cells[shown].text, words);

            let case = cell.cell.case(comparison.series);
            if comparison.baseline.path != SendPath::TwoCopy {
                continue;
            }
            if metric == Metric::Throughput {
                let name = format!("{case} ");
                let line = text.lines().find(|line| line.starts_with(&name)).ok_or(name)?;
                assert!(line.ends_with(&format!("  {words}")), "{line}: {words}");
                let points = page.figures.iter().filter(|figure| figure.id.starts_with("fig1-against"));
                let points: Vec<_> = points
                    .flat_map(|figure| &figure.lines)
                    .flat_map(|line| &line.points)
                    .filter(|point| point.row == row.id)
                    .collect();
                let drawn = Some((outcome.ratio.low, outcome.ratio.high));
                assert!(
                    !points.is_empty() && points.iter().all(|point| point.interval == drawn),
                    "{points:?}"
                );
            }
            let (arm, path_column, size_column) = (column("arm")?, column("path")?, column("payload_bytes")?);
            let is_case = |row: &&Vec<&str>| {
                (row[arm], row[path_column].to_owned(), row[size_column].to_owned())
                    == ("case", case.path.to_string(), case.payload_bytes.to_string())
            };
            let row = rows.iter().find(is_case).ok_or("no row in summary.csv")?;
            assert_eq!(row[column(&format!("{metric}_verdict"))?], verdict.to_string());
            let number = |name: &str| -> Result<f64, Failed> {
                Ok(row[column(&format!("{metric}_gain{name}"))?].parse()?)
            };
            let interval = Estimate { value: number("")?, low: number("_low")?, high: number("_high")? };
            let borders = [1.0, 1.0 + metric.margin(), 1.0 / (1.0 + metric.margin())];
            let rounds = |end: f64| borders.iter().any(|border| (end - border).abs() < 1e-5);
            // Six digits may not show how wide it is.
            let has_width = interval.low < interval.high;
            if has_width && !rounds(interval.low) && !rounds(interval.high) {
                assert_eq!(Verdict::of(interval, metric.margin()), verdict, "{row:?}");
            }
        }
        for metric in [Metric::Throughput, Metric::P99] {
            square_holds(&page, cell, metric)?;
        }
    }
    let control = summary::control(&analysis);
    assert_eq!(page.verdict.iter().filter(|claim| claim.text == control).count(), 1, "{control}");
    assert_eq!(text.lines().filter(|line| line.contains("ontrol")).collect::<Vec<_>>(), [control.as_str()]);
    assert!(page.comparisons.rows.iter().all(|row| !row.id.contains("control")));
    assert!(seen > 0, "there is something to hold to");
    Ok(())
}

/// A square names one path if, by the verdicts, it is better than each; several with `≈` if they
/// are no further than 5 % apart, or than the margin; and none else.
fn square_holds(page: &Page, cell: &CellResult, metric: Metric) -> Result<(), Failed> {
    let title = format!("By {} ", metric.name());
    let map = page.maps.iter().find(|map| map.title.starts_with(&title)).ok_or(title)?;
    let size = sendpath::format::size(cell.cell.payload_bytes as f64);
    let at = map.columns.iter().position(|column| *column == size).ok_or(size)?;
    let square = &map.rows[0].1[at];
    let paths = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];
    let ratio = |one: SendPath, other: SendPath| {
        cell.comparisons.iter().filter(|found| found.metric == metric).find_map(|found| {
            let ratio = found.outcome.as_ref().ok()?.ratio;
            match (found.series.path, found.baseline.path) {
                both if both == (one, other) => Some(ratio),
                both if both == (other, one) => Some(ratio.inverted()),
                _ => None,
            }
        })
    };
    let is = |one, other, verdict, margin| {
        ratio(one, other).is_some_and(|ratio| Verdict::of(ratio, margin) == verdict)
    };
    let beats_all = |one: &SendPath| {
        paths.iter().all(|other| other == one || is(*one, *other, Verdict::Faster, metric.margin()))
    };
    let best = paths.into_iter().find(beats_all);
    assert_eq!(square.style.is_some(), best.is_some(), "{square:?}");
    let name = |path: SendPath| match path {
        SendPath::TwoCopy => "pack+send",
        SendPath::OneCopy => "writev",
        _ => "MSG_ZEROCOPY",
    };
    if let Some(best) = best {
        assert_eq!(square.text, name(best));
        return Ok(());
    }
    let named: Vec<&str> = square.text.split(" ≈ ").collect();
    let named: Vec<SendPath> = paths.into_iter().filter(|path| named.contains(&name(*path))).collect();
    for (index, one) in named.iter().enumerate() {
        for other in &named[..index] {
            let margin = f64::max(0.05, metric.margin());
            assert!(is(*one, *other, Verdict::Same, margin), "{one} {other}: {square:?}");
            assert!(square.note.contains("within "), "{square:?}");
        }
    }
    Ok(())
}

/// Two paths differ by half a percent up to 1 KiB, and noise hides it; from 16 KiB on one is a
/// tenth faster.
fn close_paths() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let gains = [[-0.005, -0.3], [0.004, -0.3], [0.1, -0.3]];
    let page = page(&stored(&generated(&gains, 0.05, 12, 1), folder.path())?)?;
    let start = "To a receiver: pack+send or writev to ";
    assert!(
        page.headline.starts_with(start) && page.headline.ends_with(", then writev."),
        "{}",
        page.headline
    );
    let claims = page.verdict.iter().map(|claim| claim.text.as_str()).collect::<Vec<_>>();
    let (_, settled) = claims
        .iter()
        .find_map(|text| text.split_once("A sweep with --size 64,1K --threads 1 --receiver buffer --time "))
        .ok_or("no advice")?;
    let (time, _) = settled.split_once(" would settle what is undecided").ok_or("no end")?;
    assert!(humantime::parse_duration(time)?.as_secs() >= 20, "{time}");
    assert!(claims[0].contains("differ by less than 5 %"), "{claims:?}");
    let question =
        page.questions.iter().find(|question| question.text.contains("one-copy outperform")).ok_or("none")?;
    assert!(
        question.answered && question.answer[0].text.contains("faster than pack+send from "),
        "{question:?}"
    );
    assert!(page.headline.matches("cannot say").count() == 0, "{}", page.headline);
    Ok(())
}

fn cpu_time() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = copied_sweep(folder.path())?;
    let environment = path.join("environment.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&environment)?)?;
    for (whole, words) in [(true, false), (false, true)] {
        json["environment"]["softirq_in_cpu_time"] = whole.into();
        std::fs::write(&environment, json.to_string())?;
        let page = page(&path)?;
        let warned = page.warnings.iter().any(|warning| warning.contains("no verdict by CPU time"));
        assert_eq!(warned, words, "{:?}", page.warnings);
        let map = page.maps.iter().find(|map| map.title.contains("CPU")).ok_or("no map by CPU time")?;
        let squares: Vec<_> = map.rows.iter().flat_map(|(_, squares)| squares).collect();
        assert_eq!(squares.iter().all(|square| square.note.contains("softirq")), words, "{squares:?}");
        assert_eq!(squares.iter().all(|square| square.style.is_none()), words, "{squares:?}");
        let sweep = store::read(&path)?;
        let analysis = sendpath::results::analysis::analyse_stored(&sweep.manifest, &sweep.records);
        let summary = String::from_utf8(summary::csv(&sweep, &analysis)?)?;
        let column = summary
            .lines()
            .next()
            .and_then(|head| head.split(',').position(|column| column == "cpu_per_byte_verdict"));
        let column = column.ok_or("no such column")?;
        let compared =
            crate::common::sendpath().arg("compare").args([&path, &path]).arg("--json").output()?;
        let compared: serde_json::Value = serde_json::from_slice(&compared.stdout)?;
        let comparisons = compared["outcome"]["comparisons"].as_array().ok_or("no comparisons")?;
        assert_eq!(
            comparisons.iter().all(|comparison| comparison["metric"] != "cpu_per_byte"),
            words,
            "{compared}"
        );
        assert_eq!(compared["differences"].to_string().contains("CPU time"), words, "{compared}");
        let empty = summary.lines().skip(1).all(|row| row.split(',').nth(column) == Some(""));
        assert_eq!(empty, words, "{summary}");
    }
    Ok(())
}

fn compressed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = copied_sweep(folder.path())?;
    let samples = path.join("samples.csv");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&std::fs::read(&samples)?)?;
    std::fs::write(path.join("samples.csv.gz"), encoder.finish()?)?;
    std::fs::remove_file(&samples)?;
    let output = report(&path).output()?;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", crate::common::stderr(&output));
    assert!(!samples.exists(), "nothing was unpacked beside it");
    for name in ["summary.csv", "fig1-throughput-1T.png"] {
        assert!(path.join(name).exists(), "{name}");
    }
    assert_eq!(
        std::fs::read_to_string(path.join("summary.csv"))?,
        std::fs::read_to_string("tests/golden/sweep/summary.csv")?
    );
    Ok(())
}

/// No file may be larger than a page, as on a disk that is full.
fn full_disk() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = copied_sweep(folder.path())?;
    let samples = std::fs::read(path.join("samples.csv"))?;
    std::fs::write(path.join("samples.csv"), &samples[..samples.len() - 7])?;
    let output = report(&path).output()?;
    assert!(output.status.success(), "{}", crate::common::stderr(&output));
    assert!(crate::common::stderr(&output).contains("torn"), "{}", crate::common::stderr(&output));

    let before = std::fs::read_dir(&path)?.count();
    let mut limited = report(&path);
    crate::common::writing_at_most(&mut limited, 4096);
    let output = limited.output()?;
    assert_eq!(std::fs::read_dir(&path)?.count(), before, "a part of a file is left");
    let text = crate::common::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().next().is_some_and(|line| line.contains("File too large")), "{text}");
    Ok(())
}

fn full_stdout() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = copied_sweep(folder.path())?;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let output = report(&path).stdout(full).stderr(std::process::Stdio::piped()).output()?;
    let text = crate::common::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("sendpath: write(2) to standard output: No space left on device"), "{text}");
    Ok(())
}
