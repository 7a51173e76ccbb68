//! How often a sweep's verdicts are wrong on this machine:
//! `cargo bench -p experiments --bench sweep_campaign`, by name alone.
//!
//! Two campaigns: forty sweeps of `two_copy` against itself, where every call is false; and twenty
//! of it against itself with a planted cost, which has to be found.
//! docs/book/src/evidence/campaigns.md has the results.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use sendpath::case::{Case, Cell, Layout, SendPath, Series};
use sendpath::environment::CopyCauses;
use sendpath::measure::burst::time;
use sendpath::pair::{FaultKind, Mode, Setup, Testbed};
use sendpath::program;
use sendpath::results::analysis::analyse;
use sendpath::results::family::Family;
use sendpath::results::metric::Metric;
use sendpath::results::stats::Effect;
use sendpath::results::store::{self, Manifest, Plan, SCHEMA, Store};
use sendpath::results::verdict::Verdict;
use sendpath::settings::{Link, Settings};
use sendpath::sweep::{Options, PairRig, Sweep};

/// Sweeps of `two_copy` against itself.
const SWEEPS: u64 = 40;
/// Sweeps with a planted cost.
const PLANTED_SWEEPS: u64 = 20;
/// What the planted cost is of a round trip.
const PLANTED: f64 = 0.01;
/// Measuring time for each case.
const PER_CASE: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    let program = env!("CARGO_BIN_EXE_experiments").into();
    let setup = Settings::<Link>::from_variables()?.setup(program)?;
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(()); // nothing here is quick
    }

    let cells: Vec<Cell> =
        [64, 64 << 10].into_iter().flat_map(|size| [1, 4].map(|threads| cell(size, threads))).collect();
    let (mut sweeps_with_a_call, mut called, mut compared) = (0, 0, 0);
    for seed in 0..SWEEPS {
        let verdicts = sweep(&setup, seed, &cells, None)?;
        let false_calls = verdicts.iter().filter(|(verdict, _)| verdict.is_call()).count();
        compared += verdicts.len();
        called += false_calls;
        sweeps_with_a_call += u32::from(false_calls > 0);
    }
    println!(
        "two_copy against itself: {sweeps_with_a_call} of {SWEEPS} sweeps call a difference (at most 2), {called} of \
         {compared} cells"
    );

    let round_trip_ns = round_trip_ns(&setup)?;
    let spin_ns = spin_for(round_trip_ns * PLANTED);
    println!("planted in 64 KiB rr: {:.0} ns of {round_trip_ns:.0} ns by message", cost_of_spin(spin_ns));
    let mut found = 0;
    for seed in 0..PLANTED_SWEEPS {
        for (verdict, ratio) in sweep(&setup, seed, &[cell(64 << 10, 1)], Some(FaultKind::Slow { spin_ns }))?
        {
            println!("  {ratio}  {verdict}");
            found += usize::from(verdict == Verdict::Slower);
        }
    }
    println!(
        "a planted {:.0} % found in {found} of {PLANTED_SWEEPS} sweeps of {} s for each case (at least 19)",
        PLANTED * 100.0,
        PER_CASE.as_secs()
    );
    Ok(())
}

fn cell(payload_bytes: usize, threads: usize) -> Cell {
    Case { payload_bytes, threads, ..Case::default() }.cell()
}

/// One sweep of the baseline and its control; what is said of the control in each cell.
fn sweep(
    setup: &Setup,
    seed: u64,
    cells: &[Cell],
    planted: Option<FaultKind>,
) -> anyhow::Result<Vec<(Verdict, String)>> {
    let plan = Plan {
        profile: "campaign".to_owned(),
        seed,
        precision: 0.01,
        series: vec![Series::new(SendPath::TwoCopy, Layout::Heap)],
        cells: cells.to_vec(),
        only_in: Vec::new(),
    };
    let manifest = Manifest {
        schema: SCHEMA,
        program: program::this(),
        started: String::new(),
        host: String::new(),
        command: Vec::new(),
        resumed: Vec::new(),
        events: Vec::new(),
        plan: plan.clone(),
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
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sweep");
    let mut store = Store::create(&path, &manifest)?;
    // Two cases in each cell: the baseline and the control.
    let limit = PER_CASE * 2 * u32::try_from(cells.len())?;
    let options = Options { limit, events: Vec::new() };
    let rig = PairRig::new(setup, Testbed::start(setup)?);
    let rig = if let Some(kind) = planted { rig.with_planted_cost(kind) } else { rig };
    Sweep::new(&plan, &options, rig, &[]).run(
        &mut |records| Ok(store.append(records)?),
        &AtomicBool::new(false),
        &mut |_| {},
    )?;
    // The control is what is compared here, as a sweep compares paths. A difference of 1 % is to be
    // found, so that the margin is the one that `ab` has.
    let analysis = analyse(&plan, &store::read(&path)?.records, 1);
    let metric = Metric::Throughput;
    let effects: Vec<Effect> =
        analysis.cells.iter().filter_map(|cell| cell.controls.get(&metric)).copied().collect();
    anyhow::ensure!(effects.len() == cells.len(), "a cell has too few lives for an interval");
    let Family { confidence } = Family::of(&effects, 1);
    let verdict = |effect: &Effect| {
        let ratio = effect.ratio_at(confidence);
        let text = format!("{:.4} [{:.4} {:.4}]", ratio.value, ratio.low, ratio.high);
        (Verdict::of(ratio, metric.least_difference()), text)
    };
    Ok(effects.iter().map(verdict).collect())
}

/// A round trip of 64 KiB by `two_copy`, in nanoseconds.
fn round_trip_ns(setup: &Setup) -> anyhow::Result<f64> {
    let testbed = Testbed::start(setup)?;
    let mut instance = testbed.open(cell(64 << 10, 1).case(Series::new(SendPath::TwoCopy, Layout::Heap)))?;
    let mut bursts: Vec<f64> = Vec::new();
    for _ in 0..40 {
        let sample = time(&mut instance, Duration::from_millis(50), Mode::Time)?;
        bursts.push(sample.message_ns());
    }
    sendpath::results::stats::median(&mut bursts).context("no burst")
}

/// How long to ask for, so that the spin costs `cost_ns`: reading the clock takes time itself.
fn spin_for(cost_ns: f64) -> u64 {
    let asked = (0..cost_ns as u64).rev().find(|&ns| cost_of_spin(ns) <= cost_ns);
    asked.unwrap_or(0)
}

fn cost_of_spin(spin_ns: u64) -> f64 {
    let fault = FaultKind::Slow { spin_ns };
    let mut costs: Vec<f64> = (0..50).map(|_| fault.cost_ns(1000)).collect();
    sendpath::results::stats::median(&mut costs).unwrap_or_default()
}
