//! The workload that the benches share: a matrix of cases, cut into groups, each sample a burst on a
//! fresh instance. A bench picks what is measured.

#![allow(dead_code, reason = "each bench uses a part: the clock or the counters")]

pub mod baseline;
pub mod counted;
pub mod perf;
pub mod wall;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::Measurement;
use criterion::{
    AxisScale, BenchmarkGroup, BenchmarkId, Criterion, PlotConfiguration, SamplingMode, Throughput,
};
use sendpath::case::{Case, ChartAxis, Group, Matrix, Placement};
use sendpath::error::Result;
use sendpath::measure::burst::{time, warm_up};
use sendpath::measure::environment::Environment;
use sendpath::pair::{Mode, Setup, Testbed};
use sendpath::sample::{Sample, ZeroCopyCounts};
use sendpath::settings;

/// How a burst becomes a number.
pub trait Meter {
    /// What Criterion knows it as.
    type Measurement: Measurement;

    /// Hands it to Criterion.
    fn measurement(&self) -> Self::Measurement;

    /// Runs the burst and measures it.
    fn measure(
        &self,
        x: ChartAxis,
        iterations: u64,
        burst: impl FnOnce() -> Result<Sample>,
    ) -> Result<(Value<Self>, Sample)>;

    /// What Criterion divides by, where there is something to divide by.
    fn throughput(&self, case: &Case, x: ChartAxis) -> Option<Throughput>;
}

/// Bursts are no shorter: the first ones, by which Criterion finds how many iterations fit its time, would
/// show little but how they begin and end.
const SHORTEST: Duration = Duration::from_millis(2);

/// How many iterations a burst was: one is a message on every pair.
pub fn iterations_of(sample: &Sample) -> f64 {
    sample.messages as f64 / sample.pairs as f64
}

type Value<M> = <<M as Meter>::Measurement as Measurement>::Value;

/// Reads the settings, has `run` run its groups, and reports what failed.
pub fn main(matrices: impl IntoIterator<Item = Matrix>, run: impl FnOnce(&mut Suite, &[Matrix])) -> ExitCode {
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
    let placements = matrices[0].placements.clone();
    let mut suite = Suite { setup, placements, testbed: None, counting: false, failures: Vec::new() };
    // Criterion's own arguments are its affair; but to list names, or itself, needs no testbed.
    let idle = ["--list", "--help", "-h", "--version", "-V"];
    if !std::env::args().any(|argument| idle.contains(&argument.as_str())) {
        // Before Criterion makes a thread: an ordinary user's namespaces have to be.
        if let Err(error) = suite.start() {
            eprintln!("sendpath: {error}");
            return ExitCode::from(if error.is_bad_input() { 2 } else { 1 });
        }
    }
    run(&mut suite, &matrices);
    for failure in &suite.failures {
        eprintln!("sendpath: failed: {failure}");
    }
    if suite.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The testbed of a bench, and what went wrong on it.
pub struct Suite {
    setup: Setup,
    placements: Vec<Placement>,
    testbed: Option<Testbed>,
    /// A counter is open that a new client process would inherit.
    counting: bool,
    failures: Vec<String>,
}

/// What a failed sample unwinds with, out of Criterion's loop and into the next case.
struct Failed;

impl Suite {
    fn start(&mut self) -> Result<&mut Testbed> {
        let testbed = if let Some(testbed) = self.testbed.take() {
            testbed
        } else {
            let testbed = Testbed::start(&self.setup)?;
            println!("{}", Environment::read(&self.setup, testbed.effective(), &self.placements));
            testbed
        };
        Ok(self.testbed.insert(testbed))
    }

    /// Measures every case of `matrix` with `meter`, as far as Criterion's filter lets it. `criterion` is
    /// short-breathed by default; its arguments have the last word.
    pub fn run<M: Meter>(&mut self, criterion: Criterion, meter: &M, metric: &str, matrix: &Matrix) {
        let mut criterion = criterion.with_measurement(meter.measurement()).configure_from_args();
        if let Some(testbed) = &self.testbed {
            let environment = Environment::read(&self.setup, testbed.effective(), &self.placements);
            baseline::record_or_check(metric, &environment, &std::env::args().collect::<Vec<_>>());
        }
        for workload in matrix.workloads.iter().filter(|&&workload| !matrix.can_time(workload)) {
            println!("{metric}: {workload} is left out, since it has no round trip to time");
        }
        for group in matrix.groups() {
            self.run_group(&mut criterion, meter, metric, &group, matrix.x);
        }
        criterion.final_summary();
    }

    fn run_group<M: Meter>(
        &mut self,
        criterion: &mut Criterion<M::Measurement>,
        meter: &M,
        metric: &str,
        group: &Group,
        x: ChartAxis,
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
            if let Some(throughput) = meter.throughput(&case, x) {
                charts.throughput(throughput);
            }
            let along = match x {
                ChartAxis::PayloadBytes => format!("{}B", case.payload_bytes),
                ChartAxis::Threads => case.threads.to_string(),
            };
            let id = BenchmarkId::new(format!("{}/{}", case.path, case.layout), along);
            let unwound = catch_unwind(AssertUnwindSafe(|| self.bench(&mut charts, id, meter, case, x)));
            if let Err(panic) = unwound
                && !panic.is::<Failed>()
            {
                resume_unwind(panic);
            }
        }
        charts.finish();
    }

    fn bench<M: Meter>(
        &mut self,
        charts: &mut BenchmarkGroup<'_, M::Measurement>,
        id: BenchmarkId,
        meter: &M,
        case: Case,
        x: ChartAxis,
    ) {
        let mut counts: Option<ZeroCopyCounts> = None;
        charts.bench_function(id, |bencher| {
            bencher.iter_custom(|iterations| {
                let (value, sample) = self.sample(meter, case, iterations, x);
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
    fn sample<M: Meter>(
        &mut self,
        meter: &M,
        case: Case,
        iterations: u64,
        x: ChartAxis,
    ) -> (Value<M>, Sample) {
        let sampled = self.start().and_then(|testbed| {
            let mut instance = testbed.open(case)?;
            warm_up(&mut instance)?;
            let iteration_ns = instance.message_ns().unwrap_or_default();
            let duration = Duration::from_nanos((iteration_ns * iterations as f64) as u64).max(SHORTEST);
            meter.measure(x, iterations, || time(&mut instance, duration, Mode::Time))
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
