//! What the benches share: the pairs that they run on, how a group's cases are measured before
//! Criterion asks for them, and what they do where a case fails. A bench picks its groups, its
//! settings and what is taken of a burst.

#![allow(dead_code, reason = "each bench uses a part: the clock or the counters")]

pub mod arguments;
pub mod baseline;
pub mod charts;
pub mod clock;
pub mod events;
pub mod metered;
pub mod perf;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::measurement::Measurement;
use criterion::{AxisScale, BenchmarkId, Criterion, PlotConfiguration, SamplingMode, Throughput};
use indicatif::ProgressBar;
use sendpath::case::{Case, Placement, Receiver};
use sendpath::environment::Environment;
use sendpath::error::Result;
use sendpath::event::Event;
use sendpath::measure::environment;
use sendpath::pair::{Setup, Testbed};
use sendpath::report;
use sendpath::results::record::{Arm, ROUNDS_PER_VISIT};
use sendpath::sample::{Sample, ZeroCopyCounts};
use sendpath::settings::{self, Settings};
use sendpath::sweep::{Bursts, PairRig, Rig, VISITS_PER_LIFE, Visit, Visits};

use arguments::{Arguments, Mode};
use charts::{ChartAxis, Charts, Group, line_id};
use metered::Metered;
use perf::EventMeter;

/// How much is measured of each case. Criterion calls it `sample_size` and `measurement_time`, and
/// its options of these names change it.
#[derive(Clone, Copy)]
pub struct Sampling {
    /// Visits of each case. One is one sample.
    pub visits: usize,
    /// The time of each case's bursts together.
    pub time: Duration,
    /// Resamples of Criterion's bootstrap.
    pub resamples: usize,
}

/// What is taken of a burst.
pub struct Metric<'m, V> {
    /// What its groups' names begin with. Criterion's charts have little room.
    pub id: &'static str,
    /// Started before each burst, and ended after it.
    pub meter: Option<(Event, &'m EventMeter)>,
    /// What all iterations of a burst come to, in nanoseconds or counts.
    pub amount: Box<dyn Fn(&Sample) -> f64 + 'm>,
    /// Such an amount as Criterion takes it.
    pub value: fn(f64) -> V,
}

/// The time of a burst, by iteration.
pub fn timed(id: &'static str, amount: fn(&Sample) -> f64) -> Metric<'static, Duration> {
    let value = |amount| Duration::from_nanos(amount as u64);
    Metric { id, meter: None, amount: Box::new(amount), value }
}

/// A line of a chart at one place of its x axis.
pub struct Bench {
    /// The line's name.
    pub line: String,
    /// The place's.
    pub place: String,
    /// What is measured.
    pub arm: Arm,
    /// What an iteration moves.
    pub throughput: Option<Throughput>,
}

/// Visits that `--quick` is likely to ask for: it doubles its iterations until they have taken a
/// tenth of a second.
const QUICK_VISITS: usize = 15;
/// Criterion's warm-up is one call, which takes longer than this.
const SHORTEST_WARM_UP: Duration = Duration::from_micros(1);

/// How many iterations a burst was: one is a message on every pair.
pub fn iterations_of(sample: &Sample) -> f64 {
    sample.messages as f64 / sample.pairs as f64
}

/// Reads the settings, has `run` measure the cases of `charts` as the settings change them, and
/// reports what failed.
pub fn main(charts: impl IntoIterator<Item = Charts>, run: impl FnOnce(&mut Pairs, &[Charts])) -> ExitCode {
    if !report::ready_font() {
        eprintln!("sendpath: no font for Criterion's charts");
    }
    // An experiment that is made like a bench has a program of its own package.
    let program = option_env!("CARGO_BIN_EXE_sendpath").or(option_env!("CARGO_BIN_EXE_experiments"));
    let program = PathBuf::from(program.expect("cargo says where the program is"));
    let settings = Settings::<settings::Matrix>::from_variables().and_then(|matrix| {
        Ok((matrix.axes()?, Settings::<settings::Link>::from_variables()?.setup(program)?))
    });
    let (charts, setup) = match settings {
        Ok((axes, setup)) => {
            (charts.into_iter().map(|charts| charts.overridden(&axes)).collect::<Vec<_>>(), setup)
        }
        Err(error) => {
            eprintln!("sendpath: {error}");
            return ExitCode::from(2);
        }
    };
    let (placements, receivers) = (charts[0].matrix.placements.clone(), charts[0].matrix.receivers.clone());
    let mut pairs = Pairs {
        setup: &setup,
        placements,
        receivers,
        arguments: Arguments::read(),
        sampling: Sampling { visits: 0, time: Duration::ZERO, resamples: 0 },
        rig: None,
        counting: false,
        failures: Vec::new(),
    };
    if pairs.arguments.mode != Mode::Idle {
        // Before Criterion makes a thread: an ordinary user's namespaces have to be.
        if let Err(error) = pairs.start() {
            eprintln!("sendpath: {error}");
            return ExitCode::from(if error.is_bad_input() { 2 } else { 1 });
        }
    }
    run(&mut pairs, &charts);
    for failure in &pairs.failures {
        eprintln!("sendpath: failed: {failure}");
    }
    if matches!(pairs.arguments.mode, Mode::Sample | Mode::Quick) {
        match report::write_front(Path::new(report::HOME), None) {
            Ok(door) => println!("all results: {}", door.display()),
            Err(error) => eprintln!("sendpath: {error}"),
        }
    }
    if pairs.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The testbed of a bench, what Criterion was asked for, and what went wrong.
pub struct Pairs<'a> {
    setup: &'a Setup,
    placements: Vec<Placement>,
    receivers: Vec<Receiver>,
    pub arguments: Arguments,
    sampling: Sampling,
    /// None where nothing is to be measured.
    rig: Option<PairRig<'a>>,
    /// A counter is open that a new client process would inherit.
    counting: bool,
    failures: Vec<String>,
}

/// What a case that failed unwinds with, out of Criterion's loop and into the next case.
struct Failed;

impl Pairs<'_> {
    fn start(&mut self) -> Result<()> {
        let testbed = Testbed::start(self.setup)?;
        println!("{}", self.environment(&testbed)?);
        self.rig = Some(PairRig::new(self.setup, testbed));
        Ok(())
    }

    fn environment(&self, testbed: &Testbed) -> Result<Environment> {
        environment::read_for(self.setup, testbed, &self.placements, &self.receivers)
    }

    /// Criterion with `sampling`, and with what its arguments change.
    pub fn criterion<M: Measurement + 'static>(
        &mut self,
        sampling: Sampling,
        measurement: M,
    ) -> Criterion<M> {
        let criterion = configured(sampling, measurement).configure_from_args();
        self.sampling = Sampling {
            visits: self.arguments.sample_size.unwrap_or(sampling.visits),
            time: self.arguments.measurement_time.unwrap_or(sampling.time),
            ..sampling
        };
        // A warm-up that was asked for comes before all of a group's samples.
        criterion.warm_up_time(SHORTEST_WARM_UP)
    }

    /// Criterion with `sampling`, whatever its arguments say.
    pub fn criterion_without_arguments<M: Measurement + 'static>(
        &mut self,
        sampling: Sampling,
        measurement: M,
    ) -> Criterion<M> {
        self.arguments = Arguments::default();
        self.sampling = sampling;
        configured(sampling, measurement).warm_up_time(SHORTEST_WARM_UP)
    }

    /// The testbed; none where nothing is to be measured.
    pub fn testbed(&self) -> Option<&Testbed> {
        self.rig.as_ref().map(PairRig::testbed)
    }

    /// The groups of `charts`; says which workloads they leave out.
    pub fn groups(metric: &str, charts: &Charts) -> Vec<Group> {
        for workload in charts.matrix.workloads.iter().filter(|&&workload| !charts.can_time(workload)) {
            println!("{metric}: {workload} is left out, since it has no round trip to time");
        }
        charts.groups()
    }

    /// Records where a baseline of `metric` is measured, or says how that differs from here.
    pub fn record_or_check_baseline(&self, metric: &str) {
        if let Some(testbed) = self.testbed()
            && let Ok(environment) = self.environment(testbed)
        {
            baseline::record_or_check(
                metric,
                &environment,
                &std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
            );
        }
    }

    /// Measures every case of `group`, a chart over `x`, as far as Criterion's filter lets it.
    pub fn bench_group<M: Measurement>(
        &mut self,
        criterion: &mut Criterion<M>,
        metric: &Metric<'_, M::Value>,
        x: ChartAxis,
        group: &Group,
        throughput: impl Fn(&Case) -> Option<Throughput>,
    ) {
        let scale = match x {
            ChartAxis::PayloadBytes => AxisScale::Logarithmic,
            ChartAxis::Threads => AxisScale::Linear,
        };
        let bench = |case: &Case| Bench {
            line: line_id(case.series()),
            place: x.id(case.cell()),
            arm: Arm { case: *case, control: false },
            throughput: throughput(case),
        };
        let benches: Vec<Bench> = group.cases.iter().map(bench).collect();
        self.bench_all(criterion, metric, &format!("{}/{}", metric.id, group.name), scale, &benches);
    }

    /// Measures `benches` interleaved, as far as Criterion's filter lets them, and hands their
    /// samples to Criterion.
    pub fn bench_all<M: Measurement>(
        &mut self,
        criterion: &mut Criterion<M>,
        metric: &Metric<'_, M::Value>,
        group: &str,
        scale: AxisScale,
        benches: &[Bench],
    ) {
        let Self { arguments, sampling, rig, counting, .. } = self;
        let mode = arguments.mode;
        let is_wanted = |bench: &&Bench| {
            let Bench { line, place, .. } = bench;
            arguments.lets_through(&format!("{group}/{line}/{place}"))
        };
        let arms: Vec<Arm> = benches.iter().filter(is_wanted).map(|bench| bench.arm).collect();
        let mut metered = rig.as_mut().map(|rig| {
            let burst = sampling.time.div_f64((sampling.visits as u64 * ROUNDS_PER_VISIT) as f64);
            rig.set_bursts(if metric.meter.is_some() { Bursts::Bare(burst) } else { Bursts::Whole(burst) });
            Metered { rig, meter: metric.meter, counting: *counting }
        });
        let mut visits = metered.as_mut().map(|rig| Visits::new(rig, arms.clone(), rand::random()));
        if let Some(visits) = &mut visits {
            let ahead = match mode {
                Mode::Sample => sampling.visits,
                Mode::Quick => QUICK_VISITS,
                Mode::Idle | Mode::Test | Mode::Profile => 0,
            };
            if ahead > 0 && !arms.is_empty() {
                println!("{group}: measuring {} interleaved, {ahead} visits of each", cases(arms.len()));
                warm_up(visits, &arms, arguments.warm_up_time.unwrap_or_default());
                measure(visits, ahead);
            }
        }

        let mut charts = criterion.benchmark_group(group);
        charts.plot_config(PlotConfiguration::default().summary_scale(scale));
        // Samples differ by their visit, not by their length.
        charts.sampling_mode(SamplingMode::Flat);
        let mut failures: Vec<(Arm, String)> = Vec::new();
        for Bench { line, place, arm, throughput } in benches {
            if let Some(throughput) = throughput {
                charts.throughput(throughput.clone());
            }
            let mut source = Source { visits: visits.as_mut(), arm: *arm, mode, calls: 0, counts: None };
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                charts.bench_function(BenchmarkId::new(line, place), |bencher| {
                    bencher.iter_custom(|iterations| match source.answer(iterations, &metric.amount) {
                        Ok(amount) => (metric.value)(amount),
                        Err(reason) => {
                            println!("\nfailed: {}: {reason}", arm.case);
                            failures.push((*arm, reason));
                            resume_unwind(Box::new(Failed))
                        }
                    });
                });
            }));
            if let Err(panic) = unwound
                && !panic.is::<Failed>()
            {
                resume_unwind(panic);
            }
            source.print_copied();
        }
        charts.finish();
        // A case can also fail after its last sample, while more is measured for another.
        for (arm, reason) in visits.iter().flat_map(Visits::failures) {
            if !failures.iter().any(|(known, _)| *known == arm) {
                failures.push((arm, reason.to_owned()));
            }
        }
        let texts = failures.into_iter().map(|(arm, reason)| format!("{}: {reason}", arm.case));
        self.failures.extend(texts);
    }
}

fn configured<M: Measurement + 'static>(sampling: Sampling, measurement: M) -> Criterion<M> {
    Criterion::default()
        .with_measurement(measurement)
        .sample_size(sampling.visits)
        .measurement_time(sampling.time)
        .nresamples(sampling.resamples)
}

fn cases(count: usize) -> String {
    if count == 1 { "1 case".to_owned() } else { format!("{count} cases") }
}

/// Measures so many visits of every case, and shows how far it is.
fn measure<R: Rig>(visits: &mut Visits<'_, R>, ahead: usize) {
    let life = usize::try_from(VISITS_PER_LIFE).unwrap_or(1);
    let bar = ProgressBar::new(ahead as u64);
    for target in (life..).step_by(life).take(ahead.div_ceil(life)) {
        visits.measure(target);
        bar.set_position(target as u64);
    }
    bar.finish_and_clear();
}

/// Runs the cases for `time` each, interleaved as the samples will be, and keeps nothing.
fn warm_up<R: Rig>(visits: &mut Visits<'_, R>, arms: &[Arm], time: Duration) {
    let began = Instant::now();
    let time = time * u32::try_from(arms.len()).unwrap_or(u32::MAX);
    let mut dropped = Visits::new(visits.rig(), arms.to_vec(), 0);
    let mut target = 0;
    while began.elapsed() < time {
        target += 1;
        dropped.measure(target);
        if arms.iter().all(|&arm| dropped.left(arm) == 0) {
            return; // all have failed, as they will again
        }
    }
}

/// Where the samples of a case come from.
struct Source<'v, 'r, R> {
    visits: Option<&'v mut Visits<'r, R>>,
    arm: Arm,
    mode: Mode,
    /// How often Criterion has asked.
    calls: u64,
    /// What the kernel said of the zero-copy sends of all samples.
    counts: Option<ZeroCopyCounts>,
}

impl<R: Rig> Source<'_, '_, R> {
    /// What `iterations` iterations come to by the next visit's bursts.
    ///
    /// Criterion first asks for one iteration, to learn how long it takes by the wall clock: it is
    /// shown the next visit, which the first sample then is. `--quick` goes by the wall clock, too.
    fn answer(
        &mut self,
        iterations: u64,
        amount: impl Fn(&Sample) -> f64,
    ) -> std::result::Result<f64, String> {
        let began = Instant::now();
        let Some(visits) = &mut self.visits else {
            unreachable!("Criterion asks for no sample where it only lists or loads")
        };
        let is_warm_up = self.mode == Mode::Sample && self.calls == 0;
        self.calls += 1;
        let visit = match self.mode {
            Mode::Idle | Mode::Test | Mode::Profile => {
                run(visits.rig(), self.arm, iterations).map_err(|error| error.to_string())?
            }
            _ if is_warm_up => visits.peek(self.arm)?.clone(),
            Mode::Sample | Mode::Quick => visits.next(self.arm)?,
        };
        let done: f64 = visit.iter().map(iterations_of).sum();
        let scale = iterations as f64 / done;
        if is_warm_up || self.mode == Mode::Quick {
            let elapsed_ns: u64 = visit.iter().map(|sample| sample.elapsed_ns).sum();
            let taken = Duration::from_nanos((elapsed_ns as f64 * scale) as u64);
            wait_until(began + taken.max(2 * SHORTEST_WARM_UP));
        }
        if !is_warm_up {
            for sampled in visit.iter().filter_map(|sample| sample.server.zero_copy) {
                *self.counts.get_or_insert_default() += sampled;
            }
        }
        Ok(visit.iter().map(amount).sum::<f64>() * scale)
    }

    fn print_copied(&self) {
        if let Some(counts) = self.counts
            && let Some(copied) = counts.copied()
        {
            println!("{:24}{counts}: the kernel copied {copied} of the sends", "zero copy:");
        }
    }
}

/// Runs bursts of a fresh instance until they are so many iterations.
fn run<R: Rig>(rig: &mut R, arm: Arm, iterations: u64) -> Result<Visit> {
    if !rig.is_alive() {
        rig.restart()?;
    }
    let mut instance = rig.open(arm)?;
    let mut visit = Visit::new();
    while visit.iter().map(iterations_of).sum::<f64>() < iterations as f64 {
        visit.push(rig.burst(&mut instance)?);
    }
    Ok(visit)
}

/// Waits without giving up the CPU for the last stretch: a sleep would come back late.
fn wait_until(end: Instant) {
    std::thread::sleep(
        end.saturating_duration_since(Instant::now()).saturating_sub(Duration::from_millis(1)),
    );
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}
