//! What counting costs, whether the ways of counting agree, and who pays for a message:
//! `cargo bench -p experiments --bench counting`.
//!
//! Rounds interleave what is compared; the figures are medians with their 95 % intervals.

#[path = "../benches/support/perf.rs"]
mod perf;
mod ratios;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use criterion::measurement::Measurement;
use perf::EventMeter;
use ratios::{Median, ratio};
use sendpath::case::{Case, Layout, Placement, SendPath, Workload};
use sendpath::error::{Error, Result};
use sendpath::event::{Event, Reading};
use sendpath::measure::burst::{time, warm_up};
use sendpath::measure::environment;
use sendpath::pair::{Mode, Testbed};
use sendpath::sample::{Sample, SideReport};
use sendpath::settings::{Link, Settings};

const ROUNDS: usize = 60;
const BURST: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sendpath: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_experiments"));
    let setup = Settings::<Link>::from_variables()?.setup(program)?;
    let mut testbed = Testbed::start(&setup)?;
    println!("{}", environment::read(&setup, testbed.effective(), &[Placement::Paired])?);
    // Opened before the first case, which makes the server's other threads.
    let meter = EventMeter::open(Event::TaskClock);
    let all = Event::parse_list("all")?;

    println!("medians of {ROUNDS} rounds (95 % interval of the median in brackets)");
    print("sendpath run --counters all, round trips/s of none's (rr, 64 B)", command()?);
    for (what, payload_bytes, events) in [
        ("all counters, of those without (rr, 64 B)", 64, &all[..]),
        ("task-clock alone, of those without (rr, 64 B)", 64, &[Event::TaskClock]),
        ("all counters, of those without (rr, 64 KiB)", 64 << 10, &all[..]),
    ] {
        let mut cost = Vec::new();
        for round in 0..ROUNDS {
            cost.push(ratio(round, events, &[], |events| {
                sample(&mut testbed, case(payload_bytes, 1), events).map(|sample| rate(&sample))
            })?);
        }
        print(&format!("a burst's round trips/s with {what}"), cost);
    }

    let large = case(64 << 10, 4);
    let (mut libraries, mut rusage, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        testbed.count(&[Event::TaskClock]);
        let mut instance = testbed.open(large)?;
        warm_up(&mut instance)?;
        if let Ok(meter) = &meter {
            meter.start();
        }
        let sample = time(&mut instance, BURST, Mode::Time)?;
        let inherited_ns = meter.as_ref().ok().map(|meter| meter.end(()) as f64);
        if let Some(own_ns) = task_clock_ns(&sample.server) {
            libraries.extend(inherited_ns.map(|inherited_ns| inherited_ns / own_ns));
            rusage.push(own_ns / cpu_ns(&sample.server));
        }
        share.push(cpu_ns(&sample.server) / (cpu_ns(&sample.server) + cpu_ns(&sample.client)));
    }
    print("task-clock, criterion-perf-events by perf-event2 (rr, 64 KiB, 4 pairs)", libraries);
    print("task-clock, perf-event2 by getrusage's user + system (the same)", rusage);
    print("server's share of both sides' CPU time (rr, 64 KiB, 4 pairs)", share);

    let stream = Case { workload: Workload::Stream, placement: Placement::Split, ..case(64 << 10, 1) };
    let mut rusage = Vec::new();
    for _ in 0..ROUNDS / 4 {
        let sample = sample(&mut testbed, stream, &[Event::TaskClock])?;
        rusage.extend(task_clock_ns(&sample.server).map(|own_ns| own_ns / cpu_ns(&sample.server)));
    }
    print("task-clock, perf-event2 by getrusage's (stream, 64 KiB, split)", rusage);
    Ok(())
}

/// The command's round trips per second with all counters, by those without, round by round.
fn command() -> Result<Vec<f64>> {
    let rate = |counters: &str| -> Result<f64> {
        let output = Command::new(env!("CARGO_BIN_EXE_experiments"))
            .args(["run", "--size", "64", "--duration", "300ms", "--json", "--counters", counters])
            .output()
            .map_err(Error::call("execve(2)"))?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| Error::Setting(String::from_utf8_lossy(&output.stderr).into_owned()))?;
        Ok(report["round_trips_per_s"].as_f64().unwrap_or(f64::NAN))
    };
    (0..ROUNDS).map(|round| ratio(round, "all", "none", rate)).collect()
}

fn case(payload_bytes: usize, threads: usize) -> Case {
    Case {
        workload: Workload::Rr,
        path: SendPath::OneCopy,
        layout: Layout::Heap,
        payload_bytes,
        threads,
        placement: Placement::Paired,
        ..Case::default()
    }
}

/// One burst of a fresh instance whose threads count `events`.
fn sample(testbed: &mut Testbed, case: Case, events: &[Event]) -> Result<Sample> {
    testbed.count(events);
    let mut instance = testbed.open(case)?;
    warm_up(&mut instance)?;
    time(&mut instance, BURST, Mode::Time)
}

fn rate(sample: &Sample) -> f64 {
    sample.messages as f64 / sample.elapsed_ns as f64
}

fn cpu_ns(side: &SideReport) -> f64 {
    (side.user_ns + side.system_ns) as f64
}

fn task_clock_ns(side: &SideReport) -> Option<f64> {
    side.counters.get(&Event::TaskClock).and_then(Reading::value).map(|ns| ns as f64)
}

fn print(name: &str, ratios: Vec<f64>) {
    match Median::of(ratios) {
        Some(median) => println!("  {name:<74} {median}"),
        None => println!("  {name:<74} not measured: the event cannot be counted here"),
    }
}
