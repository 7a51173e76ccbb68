//! `sendpath sweep`: all cases, interleaved, into a folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::answer::{PAGE, json, json_line, row_lines, write_page};
use super::next_command::{command_line, next_command};
use super::output::{note, print};
use super::progress::Shown;
use super::{DONE, FAILED, INTERRUPTED, PROGRAM, SetupOptions, interrupt, run, word};
use crate::case::{Axes, Cell, Receiver, Shape};
use crate::counters;
use crate::doctor;
use crate::environment::{CopyCauses, Environment};
use crate::error::Error;
use crate::event::Event;
use crate::host;
use crate::host::load::LoadWatch;
use crate::in_order::distinct;
use crate::measure::environment;
use crate::pair::Testbed;
use crate::program;
use crate::random;
use crate::report;
use crate::results::analysis::analyse_stored;
use crate::results::store::{self, Manifest, OnlyIn, Plan, SCHEMA, Store};
use crate::results::{record::Record, stats::CONFIDENCE, summary};
use crate::settings::{self, Settings};
use crate::sweep::plan::Profile;
use crate::sweep::{Options as SweepOptions, PairRig, Progress, ROUNDS, StopReason, Sweep};
use crate::tune::plan::baseline;

const AFTER_HELP: &str = "\
Examples:
  sendpath sweep                                  to a receiver and the sender alone, in a minute
  sendpath sweep --receiver sink --threads 1      the sender alone
  sendpath sweep --profile study-a --time 2m
  sendpath sweep --path two_copy,zero_copy --engine syscall,uring
  sendpath sweep --path one_copy,hybrid --copy-below 1K,4K --shape 'header;24,512K'
  sendpath sweep --size 64K --threads 1,2 --placement paired,split --precision 0.5%
  sendpath sweep --resume target-reports/20261120T133000Z-0123456789ab-host --time 5m
  sendpath sweep --table                          a row for each case as well
  sendpath report --open target-reports/…         the page, and each figure as SVG and PNG

Profiles:
  quick     64 B to 1 MiB, rr, paired, 1 pair: to a receiver (buffer), at 64 and 256 KiB with 4 pairs
            too, and the sender alone (sink), which sends cold data from 16 KiB too, and from huge pages
            from 64 KiB: 71 cases, so that it fits a minute
  study-a   8 to 64 KiB at 4 pairs, 64 KiB at 6 to 12 pairs: 27 cases
  study-b   64 B to 4 KiB at 1 to 8 pairs: 48 cases
  full      both layouts, both workloads, all placements: 1440 cases, half an hour
  zero-copy 64 B to 1 MiB, rr, paired, 1 pair, to a receiver and the sender alone: the ways to send
            without a copy (MSG_ZEROCOPY, by io_uring, from registered buffers, splice, sendfile)
            against those with one, and on huge pages from 64 KiB: 115 cases, five minutes

How it measures:
  The paths of a cell (same size, threads, workload, placement, receiver, source, shape) run in
  turn, in bursts of 4 ms, in random order. Their connections and buffers are made anew every 10
  rounds, which is a generation; the rounds come in five visits, with visits of other cells between.
  two_copy runs twice: the difference between the two is the noise. After four generations, time goes
  to the cells whose comparisons are the least precise for what they cost. Counters cost time, and are
  carried in one visit of each cell at the end; a sweep that is interrupted has none. A path that
  fails is tried again in the next generation, until it has failed three times in a row. The rest is
  in METHODOLOGY.md, the columns in docs/book/src/format.md.

Exit codes: 0 measured, 1 a case failed (the others are there), 2 bad input (nothing was set up or
written over), 130 interrupted (what was measured is there; --resume goes on).";

/// Measure all cases, interleaved, into a folder
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Options {
    /// Which cases
    #[arg(long, value_parser = word::<Profile>(), value_name = "NAME", default_value_t = Profile::Quick)]
    profile: Profile,
    /// How long to measure: 60s, 5m [default: 60s; zero-copy: 5m; full: 30m]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,
    /// The folder to make [default: target-reports/UTC-REVISION-HOST]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Stop sooner, when each printed interval against the baseline is narrower
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = parse_percent)]
    precision: f64,
    /// Go on with a sweep that was interrupted, or make a longer one of it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["profile", "seed", "precision", "counters"])]
    resume: Option<PathBuf>,
    /// The seed of every random order [default: a new one, which is recorded]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// What is counted, on both sides: all, none or a comma list (see run --help)
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = Event::parse_list)]
    counters: ::std::vec::Vec<Event>, // as of run
    /// Print a row for each case as well
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// Print the decision as JSON, and nothing else
    #[arg(long)]
    json: bool,
    /// Print each row of samples.csv as a line of JSON when its round is measured, and the decision
    /// as the last line
    #[arg(long, conflicts_with_all = ["json", "table"])]
    ndjson: bool,
    /// Write no page (report.html)
    #[arg(long)]
    no_report: bool,
    #[command(flatten)]
    matrix: Settings<settings::Matrix>,
    #[command(flatten)]
    setup: SetupOptions,
}

pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= Duration::from_hours(24) => Ok(time),
        _ => Err(format!("time {text:?} is not a time with its unit, above 0 and up to 24h: 60s, 5m")),
    }
}

/// What a card's driver takes for a fragment, in nanoseconds.
pub(super) fn parse_fragment_cost(text: &str) -> Result<f64, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= Duration::from_millis(1) => Ok(time.as_nanos() as f64),
        _ => Err(format!("{text:?} is not a time with its unit, up to 1ms: 80ns")),
    }
}

pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("{text:?} is not a percentage from 0.01% to 100%")),
    }
}

/// Measures, and prints the folder of the data.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let setup = options.setup.setup(PROGRAM.into())?;
    let resumed = options.resume.as_deref().map(store::read).transpose()?;
    // Variables may have been set for the shell, with the first command in mind.
    if resumed.is_some() && options.matrix.options_alone().axes()? != Axes::default() {
        let text = "--resume goes on with the sweep's own cases: leave --size, --threads and the like out";
        return Err(Error::Setting(text.to_owned()).into());
    }
    let axes = options.matrix.axes()?;
    let mut plan = match &resumed {
        Some(sweep) => sweep.manifest.plan.clone(),
        None => plan(options, &axes)?,
    };
    let placements = distinct(plan.cells.iter().map(|cell| cell.placement));
    for &placement in &placements {
        setup.check_placement(placement)?;
    }
    let folder = options.out.clone().map_or_else(default_folder, Ok)?;
    if resumed.is_none() {
        store::refuse_existing(&folder)?;
    }
    let interrupted = interrupt::catch()?;
    // Before anything of our own runs.
    let load = LoadWatch::begin()?;
    if let Some(load) = &load
        && let Some(busy) = load.so_far()?.busy_with()
    {
        note(&format!("  busy         {busy}: differences will be hard to see until it comes to rest"));
    }

    let checks = doctor::examine(&setup).checks;
    let (events, not_counted) = match &resumed {
        Some(sweep) => (sweep.manifest.events.clone(), BTreeMap::new()),
        None => countable(&options.counters),
    };
    let testbed = Testbed::start(&setup)?;
    let mut no_sink = None;
    if resumed.is_none() {
        no_sink = without_sink(&testbed, &mut plan, &axes)?;
        without_huge_pages(&testbed, &mut plan);
    }
    let receivers: Vec<_> = plan.cells.iter().map(|cell| cell.receiver).collect();
    let environment = environment::read_for(&setup, &testbed, &placements, &receivers)?;
    note(environment.to_string().trim_end());
    let command = command_line();
    let (mut store, records) = if let Some(sweep) = resumed {
        same_surroundings(&sweep.manifest, &environment)?;
        sweep.warnings.iter().for_each(|warning| note(&format!("  note         {warning}")));
        (Store::resume(&sweep, command)?, sweep.records)
    } else {
        let manifest = Manifest {
            schema: SCHEMA,
            program: program::this(),
            started: host::utc_now()?,
            host: host(),
            command,
            resumed: Vec::new(),
            events: events.clone(),
            plan: plan.clone(),
            not_counted,
            environment: Some(environment),
            copy_causes: copy_causes(&testbed, &plan),
            checks,
            injections: Vec::new(),
            heap_pages: Vec::new(),
            fragments: BTreeMap::new(),
            no_sink,
            load: None,
        };
        (Store::create(&folder, &manifest)?, Vec::new())
    };
    let profile = plan.profile.parse().unwrap_or(options.profile);
    let limit = options.time.unwrap_or(Duration::from_secs(profile.default_seconds()));
    let sweep_options = SweepOptions { limit, events };
    note(&format!("  folder       {}", store.folder().display()));
    let (rig, go_on) = (PairRig::new(&setup, testbed), options.setup.as_options());
    let end = End { load, go_on: &go_on, options };
    measure(&plan, &sweep_options, rig, &mut store, &records, &interrupted, &end)
}

/// What is to be done when it is over.
struct End<'a> {
    load: Option<LoadWatch>,
    /// What a command needs besides to go on with the sweep.
    go_on: &'a [String],
    options: &'a Options,
}

fn plan(options: &Options, axes: &Axes) -> Result<Plan, Error> {
    let (series, cells, only_in) = options.profile.measured(axes);
    Ok(Plan {
        profile: options.profile.to_string(),
        seed: options.seed.map_or_else(random::number, Ok)?,
        precision: options.precision,
        series,
        cells,
        only_in,
    })
}

/// Leaves the cells that nobody receives out of `plan` where they cannot be had and were not asked
/// for by name, and says why.
fn without_sink(testbed: &Testbed, plan: &mut Plan, axes: &Axes) -> Result<Option<String>, Error> {
    let is_alone = |cell: &Cell| cell.receiver == Receiver::Sink;
    let Some(&alone) = plan.cells.iter().find(|cell| is_alone(cell)) else { return Ok(None) };
    let Some(error) = why_no_sink(testbed, alone) else { return Ok(None) };
    if !axes.receivers.is_empty() || plan.cells.iter().all(is_alone) {
        return Err(error);
    }
    plan.cells.retain(|cell| !is_alone(cell));
    leave_out(plan, |only| only.cells.iter().all(is_alone));
    note(&format!("  left out     the sender alone (receiver sink): {error}"));
    Ok(Some(error.to_string()))
}

/// Why nothing can be sent into the sink, as in `alone`: by its least message, on one pair.
pub(super) fn why_no_sink(testbed: &Testbed, alone: Cell) -> Option<Error> {
    let least = Cell { payload_bytes: 64, threads: 1, shape: Shape::default(), ..alone };
    testbed.open(least.case(baseline())).err()
}

/// Leaves the series that the profile has in some cells alone out of `plan` where it cannot be had:
/// there are machines without huge pages.
fn without_huge_pages(testbed: &Testbed, plan: &mut Plan) {
    let Some((series, cell)) =
        plan.only_in.first().and_then(|only| Some((only.series, *only.cells.first()?)))
    else {
        return;
    };
    if let Err(error) = testbed.open(cell.case(series)) {
        leave_out(plan, |only| only.series == series);
        note(&format!("  left out     layout {}: {error}", series.layout));
    }
}

/// Takes those series out of `plan` that it has in some cells alone, and that are `unwanted`.
fn leave_out(plan: &mut Plan, unwanted: impl Fn(&OnlyIn) -> bool) {
    let Plan { series, only_in, .. } = plan;
    series.retain(|one| !only_in.iter().any(|only| only.series == *one && unwanted(only)));
    only_in.retain(|only| !unwanted(only));
}

/// What makes the kernel copy on the ways that the plan's zero-copy messages take. A way that
/// cannot be looked at is left out: its cases say why.
fn copy_causes(testbed: &Testbed, plan: &Plan) -> CopyCauses {
    if plan.series.iter().all(|series| !series.path.is_zero_copy()) {
        return CopyCauses::default();
    }
    let causes = |is_sink: bool| {
        let mut receivers = plan.cells.iter().map(|cell| cell.receiver);
        testbed.copy_causes(receivers.find(|&receiver| (receiver == Receiver::Sink) == is_sink)?).ok()
    };
    CopyCauses { link: causes(false), sink: causes(true) }
}

/// Of the events that were asked for, those that can be counted here, and why the others cannot.
fn countable(events: &[Event]) -> (Vec<Event>, BTreeMap<String, String>) {
    let mut not_counted = BTreeMap::new();
    let mut counted = Vec::new();
    for &event in events {
        match counters::probe(event) {
            Ok(()) => counted.push(event),
            Err(reason) => drop(not_counted.insert(event.to_string(), reason)),
        }
    }
    (counted, not_counted)
}

fn default_folder() -> Result<PathBuf, Error> {
    let utc = host::utc_now()?.replace(['-', ':'], "");
    Ok(PathBuf::from(format!("target-reports/{utc}-{}-{}", program::this().name(), host())))
}

/// The machine's name, fit for a file's.
fn host() -> String {
    let name = host::host_name();
    let fit = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    name.chars().map(fit).collect()
}

/// Refuses to go on with a sweep where it was not begun.
fn same_surroundings(manifest: &Manifest, now: &Environment) -> Result<(), Error> {
    let Some(then) = &manifest.environment else {
        return Err(Error::Setting("--resume: the sweep was not measured by sendpath sweep".to_owned()));
    };
    let mut differ = then.differences(now);
    for (name, then, now) in [
        ("revision", manifest.program.name(), program::this().name()),
        ("host", manifest.host.clone(), host()),
    ] {
        if then != now {
            differ.push(format!("{name} was {then:?} and is {now:?}"));
        }
    }
    if differ.is_empty() {
        return Ok(());
    }
    Err(Error::Setting(format!("--resume: rows of two surroundings do not mix: {}", differ.join("; "))))
}

/// Measures, sums up, and says what came of it.
fn measure(
    plan: &Plan,
    options: &SweepOptions,
    rig: PairRig<'_>,
    store: &mut Store,
    records: &[Record],
    interrupted: &AtomicBool,
    after: &End<'_>,
) -> anyhow::Result<u8> {
    let mut lines = Lines { plan, shown: Shown::new(options.limit), first: None, generation: None };
    let mut used = Duration::ZERO;
    let found = rig.found();
    let mut sweep = Sweep::new(plan, options, rig, records);
    let &Options { table, json: as_json, ndjson, no_report, .. } = after.options;
    let mut keep = |records: &[Record]| {
        let found = found.borrow();
        store.keep_found(&found.injections, &found.heap_pages)?;
        store.keep_fragments(&found.fragments)?;
        store.append(records)?;
        if ndjson { print(&row_lines(records)) } else { Ok(()) }
    };
    let end = sweep.run(&mut keep, interrupted, &mut |progress| {
        used = progress.elapsed;
        lines.show(progress);
    });
    drop(lines);
    // Whatever ended it, what is there is summed up.
    let load = match &after.load {
        Some(load) => load.at_end().and_then(|load| Ok(store.keep_load(load)?)),
        None => Ok(()),
    };
    let folder = store.folder();
    let summed = store::read(folder).and_then(|read| {
        let analysis = analyse_stored(&read.manifest, &read.records);
        store::replace(&folder.join(summary::SUMMARY), &summary::csv(&read, &analysis)?)?;
        Ok((read, analysis))
    });
    // What kept it from measuring comes before what kept it from summing up.
    let end = end?;
    let (read, analysis) = summed?;
    let page = report::page_with(&read, &analysis, 0.0);
    let written = (!no_report).then(|| write_page(folder, &page, false));
    if no_report {
        // One of before the sweep was resumed would say what no longer holds. Most have none.
        drop(fs::remove_file(folder.join(PAGE)));
    }
    let answer = match (as_json, table) {
        _ if ndjson => json_line(&page)?,
        (true, _) => json(&page)?,
        (_, true) => format!("{}\n{}", summary::table(&read.manifest, &analysis), page.terminal),
        _ => page.terminal,
    };
    let printed = print(&answer);
    let failures: Vec<_> =
        analysis.arms().filter_map(|arm| Some((arm.arm.case, arm.error.as_ref()?))).collect();
    let strangers = found.borrow().strangers;
    if strangers > 0 {
        note(&format!("  strangers    {}", run::closed(strangers)));
    }
    for (case, error) in &failures {
        note(&format!("sendpath: {case}: {error}"));
    }
    match end {
        StopReason::Interrupted => {
            let left = options.limit.saturating_sub(used).as_secs().max(1);
            let arguments =
                ["sweep".into(), "--resume".into(), argument(folder), format!("--time={left}s").into()];
            let arguments = arguments.into_iter().chain(after.go_on.iter().map(OsString::from));
            note(&format!("interrupted: what was measured is kept; to go on:\n{}", next_command(arguments)));
        }
        StopReason::Time => note("the time is over"),
        StopReason::Precise if failures.len() < analysis.arms().count() => {
            note("every throughput is compared with the baseline's as precisely as was asked for");
        }
        StopReason::Precise if read.records.iter().any(|record| record.outcome.is_ok()) => {
            note("every case has failed in the end; what was measured before is kept");
        }
        StopReason::Precise => note("nothing could be measured"),
    }
    printed?;
    let rows = read.records.len();
    let place = match &written {
        Some(Ok(page)) => format!("page: {}", page.display()),
        Some(Err(_)) | None => next_command(["report".into(), argument(folder)]),
    };
    // A program that reads the answer finds nothing else in it.
    let place = format!("{rows} rows in {}\n{place}", folder.display());
    if as_json || ndjson {
        note(&place);
    } else {
        print(&format!("{place}\n"))?;
    }
    // What was measured has been said: now what could not be written.
    load?;
    written.transpose()?;
    Ok(match end {
        StopReason::Interrupted => INTERRUPTED,
        _ if failures.is_empty() => DONE,
        _ => FAILED,
    })
}

/// A folder as an argument that is not read as an option.
fn argument(folder: &Path) -> OsString {
    let looks_like_an_option = folder.as_os_str().as_encoded_bytes().starts_with(b"-");
    if looks_like_an_option { Path::new(".").join(folder).into() } else { folder.into() }
}

/// What is shown while it measures: a bar on a terminal; otherwise each case once, then each
/// generation.
struct Lines<'a> {
    plan: &'a Plan,
    shown: Shown,
    /// The first generation of this run, and the one that was shown last.
    first: Option<u64>,
    generation: Option<u64>,
}

impl Lines<'_> {
    fn show(&mut self, progress: &Progress<'_>) {
        let &Progress { generation, cell, round, elapsed, done_cells, .. } = progress;
        let planned = self.plan.cells[cell];
        if let Some((arm, error)) = progress.failed {
            self.shown.line(&format!("failed       {}: {error}", arm.case));
            return;
        }
        let what = || {
            let standing = (progress.standing)().into_iter().map(|(arm, effect)| {
                let (percent, half) =
                    (effect.log_mean.exp_m1() * 100.0, effect.half_width(CONFIDENCE).exp_m1() * 100.0);
                format!("{} {percent:+.1} ± {half:.1} %", arm.case.series())
            });
            let standing = standing.collect::<Vec<_>>().join(", ");
            format!("{planned}, generation {}, round {} of {ROUNDS}  {standing}", generation + 1, round + 1)
        };
        if self.shown.step(elapsed, what) || round > 0 {
            return;
        }
        let first = *self.first.get_or_insert(generation);
        self.generation.get_or_insert(generation);
        let cells = self.plan.cells.len();
        if generation == first {
            let cases = |cells: &[Cell]| cells.iter().map(|cell| self.plan.series_of(*cell).count()).sum();
            let (before, all): (usize, usize) = (cases(&self.plan.cells[..cell]), cases(&self.plan.cells));
            for (index, each) in self.plan.series_of(planned).enumerate() {
                self.shown.line(&format!("[{}/{all}] {}", before + index + 1, planned.case(each)));
            }
        } else if self.generation != Some(generation) {
            let left = self.shown.left(elapsed);
            let number = generation + 1;
            self.shown.line(&format!("generation {number}: {done_cells} of {cells} cells done, {left} left"));
            self.generation = Some(generation);
        }
    }
}
