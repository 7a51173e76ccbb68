//! What the benches share: the pairs that they run on, and what they do where a case fails. A bench picks its groups,
//! its settings of Criterion and what is measured of a burst.

#![allow(dead_code, reason = "each bench uses a part: the clock or the counters")]

pub mod baseline;
pub mod events;
pub mod perf;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::Measurement;
use criterion::{
    AxisScale, BenchmarkGroup, BenchmarkId, Criterion, PlotConfiguration, SamplingMode, Throughput,
};
use sendpath::case::{Case, ChartAxis, Group, Matrix, Placement, Receiver};
use sendpath::error::Result;
use sendpath::measure::burst::{time, warm_up};
use sendpath::measure::environment::Environment;
use sendpath::pair::{Mode, Setup, Testbed};
use sendpath::sample::{Sample, ZeroCopyCounts};
use sendpath::settings;

/// Runs a burst of the case that is measured.
pub type Burst<'a> = &'a mut dyn FnMut() -> Result<Sample>;

/// Bursts are no shorter. The first ones, by which Criterion finds how many iterations fit its time, would otherwise
/// show little but how they begin and end.
const SHORTEST: Duration = Duration::from_millis(2);

/// How many iterations a burst was: one is a message on every pair.
pub fn iterations_of(sample: &Sample) -> f64 {
    sample.messages as f64 / sample.pairs as f64
}

/// Reads the settings, has `run` measure the cases of `matrices` as the settings change them, and reports what failed.
pub fn main(matrices: impl IntoIterator<Item = Matrix>, run: impl FnOnce(&mut Pairs, &[Matrix])) -> ExitCode {
    if !sendpath::report::ready_font() {
        eprintln!("sendpath: no font for Criterion's charts");
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sendpath"));
    let settings =
        settings::axes_from_variables().and_then(|axes| Ok((axes, settings::setup_from_variables(program)?)));
    let (matrices, setup) = match settings {
        Ok((axes, setup)) => {
            (matrices.into_iter().map(|matrix| matrix.overridden(&axes)).collect::<Vec<_>>(), setup)
        }
        Err(error) => {
            eprintln!("sendpath: {error}");
            return ExitCode::from(2);
        }
    };
    let (placements, receivers) = (matrices[0].placements.clone(), matrices[0].receivers.clone());
    let mut pairs =
        Pairs { setup, placements, receivers, testbed: None, counting: false, failures: Vec::new() };
    // Where Criterion only lists names or prints its help, no testbed is needed.
    let idle = ["--list", "--help", "-h", "--version", "-V"];
    if !std::env::args().any(|argument| idle.contains(&argument.as_str())) {
        // Before Criterion makes a thread: an ordinary user's namespaces have to be.
        if let Err(error) = pairs.start() {
            eprintln!("sendpath: {error}");
            return ExitCode::from(if error.is_bad_input() { 2 } else { 1 });
        }
    }
    run(&mut pairs, &matrices);
    for failure in &pairs.failures {
        eprintln!("sendpath: failed: {failure}");
    }
    if pairs.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The testbed of a bench, and what went wrong on it.
pub struct Pairs {
    setup: Setup,
    placements: Vec<Placement>,
    receivers: Vec<Receiver>,
    testbed: Option<Testbed>,
    /// A counter is open that a new client process would inherit.
    counting: bool,
    failures: Vec<String>,
}

/// What a failed sample unwinds with, out of Criterion's loop and into the next case.
struct Failed;

impl Pairs {
    fn start(&mut self) -> Result<&mut Testbed> {
        let testbed = if let Some(testbed) = self.testbed.take() {
            testbed
        } else {
            let testbed = Testbed::start(&self.setup)?;
            println!("{}", self.environment(&testbed)?);
            testbed
        };
        Ok(self.testbed.insert(testbed))
    }

    fn environment(&self, testbed: &Testbed) -> Result<Environment> {
        Environment::read_for(&self.setup, testbed, &self.placements, &self.receivers)
    }

    /// The groups of `matrix`; says which workloads they leave out.
    pub fn groups(metric: &str, matrix: &Matrix) -> Vec<Group> {
        for workload in matrix.workloads.iter().filter(|&&workload| !matrix.can_time(workload)) {
            println!("{metric}: {workload} is left out, since it has no round trip to time");
        }
        matrix.groups()
    }

    /// Records where a baseline of `metric` is measured, or says how that differs from here.
    pub fn record_or_check_baseline(&self, metric: &str) {
        if let Some(testbed) = &self.testbed
            && let Ok(environment) = self.environment(testbed)
        {
            baseline::record_or_check(metric, &environment, &std::env::args().collect::<Vec<_>>());
        }
    }

    /// Measures every case of `group`, a chart over `x`, as far as Criterion's filter lets it. `measure` is given how
    /// many iterations the value is to stand for, and the burst.
    pub fn bench_group<M: Measurement>(
        &mut self,
        criterion: &mut Criterion<M>,
        metric: &str,
        x: ChartAxis,
        group: &Group,
        throughput: impl Fn(&Case) -> Option<Throughput>,
        measure: impl Fn(u64, Burst<'_>) -> Result<(M::Value, Sample)>,
    ) {
        let mut charts = criterion.benchmark_group(format!("{metric}/{}", group.name));
        let scale = match x {
            ChartAxis::PayloadBytes => AxisScale::Logarithmic,
            ChartAxis::Threads => AxisScale::Linear,
        };
        charts.plot_config(PlotConfiguration::default().summary_scale(scale));
        // Samples differ by their instance, not by their length.
        charts.sampling_mode(SamplingMode::Flat);
        for &case in &group.cases {
            if let Some(throughput) = throughput(&case) {
                charts.throughput(throughput);
            }
            let along = match x {
                ChartAxis::PayloadBytes => format!("{}B", case.payload_bytes),
                ChartAxis::Threads => case.threads.to_string(),
            };
            let id = BenchmarkId::new(format!("{}/{}", case.path, case.layout), along);
            let unwound = catch_unwind(AssertUnwindSafe(|| self.bench(&mut charts, id, case, &measure)));
            if let Err(panic) = unwound
                && !panic.is::<Failed>()
            {
                resume_unwind(panic);
            }
        }
        charts.finish();
    }

    fn bench<M: Measurement>(
        &mut self,
        charts: &mut BenchmarkGroup<'_, M>,
        id: BenchmarkId,
        case: Case,
        measure: &impl Fn(u64, Burst<'_>) -> Result<(M::Value, Sample)>,
    ) {
        let mut counts: Option<ZeroCopyCounts> = None;
        charts.bench_function(id, |bencher| {
            bencher.iter_custom(|iterations| {
                let (value, sample) = self.sample(case, iterations, measure);
                if let Some(sampled) = sample.server.zero_copy {
                    *counts.get_or_insert_default() += sampled;
                }
                value
            });
        });
        if let Some((counts, share)) = counts.and_then(|counts| Some((counts, counts.copied_share()?))) {
            println!("{:24}{counts}: the kernel copied {:.1} % of the sends", "zero copy:", share * 100.0);
        }
    }

    /// One sample: a burst of a fresh instance that takes about as long as `iterations` do, scaled to them. A burst
    /// by count would end with the slower pairs alone.
    fn sample<V>(
        &mut self,
        case: Case,
        iterations: u64,
        measure: &impl Fn(u64, Burst<'_>) -> Result<(V, Sample)>,
    ) -> (V, Sample) {
        let sampled = self.start().and_then(|testbed| {
            let mut instance = testbed.open(case)?;
            warm_up(&mut instance)?;
            let iteration_ns = instance.message_ns().unwrap_or_default();
            let duration = Duration::from_nanos((iteration_ns * iterations as f64) as u64).max(SHORTEST);
            measure(iterations, &mut || time(&mut instance, duration, Mode::Time))
        });
        sampled.unwrap_or_else(|error| {
            println!("\nfailed: {case}: {error}");
            self.failures.push(format!("{case}: {error}"));
            // The next case gets a client that knows nothing of this; but not where counters are open, which
            // would count it with the server.
            if !self.counting {
                self.testbed = None;
            }
            resume_unwind(Box::new(Failed))
        })
    }
}
