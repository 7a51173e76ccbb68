//! The workload that the benches share: a matrix of cases, cut into groups, each sample a burst on a
//! fresh instance. A bench picks the metric's name and the matrix, with what stands on the x axis.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    AxisScale, BenchmarkGroup, BenchmarkId, Criterion, PlotConfiguration, SamplingMode, Throughput,
};
use sendpath::case::{Case, Group, Matrix, Placement, X};
use sendpath::error::Result;
use sendpath::measure::burst::{Sample, time, warm_up};
use sendpath::measure::environment::Environment;
use sendpath::pair::{Mode, Setup, Testbed};
use sendpath::path::ZeroCopyCounts;

/// Runs every case of `matrix`, as far as Criterion's filter lets it.
pub fn main(metric: &str, matrix: Matrix) -> ExitCode {
    let lookup = |variable| std::env::var(variable).ok();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sendpath"));
    let settings = matrix
        .overridden(lookup)
        .map_err(sendpath::Error::from)
        .and_then(|matrix| Ok((matrix, Setup::from_variables(program, lookup)?)));
    let (matrix, setup) = match settings {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("sendpath: {error}");
            return ExitCode::from(2);
        }
    };
    // Short, since there are many cases; what one run cannot settle, a sweep does. Set before the
    // arguments are read, so that `--sample-size` and the like have the last word.
    let mut criterion = Criterion::default()
        .sample_size(25)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .nresamples(20_000)
        .configure_from_args();
    let placements = matrix.placements.clone();
    let mut suite = Suite { setup, placements, testbed: None, failures: Vec::new() };
    if !std::env::args().any(|argument| argument == "--list") {
        // Before Criterion makes a thread: an ordinary user's namespaces have to be.
        if let Err(error) = suite.start() {
            eprintln!("sendpath: {error}");
            return ExitCode::from(if error.is_bad_input() { 2 } else { 1 });
        }
    }
    for workload in matrix.workloads.iter().filter(|&&workload| !matrix.can_time(workload)) {
        println!("{metric}: {workload} is left out, since it has no round trip to time");
    }
    for group in matrix.groups() {
        suite.run(&mut criterion, metric, &group, matrix.x);
    }
    criterion.final_summary();
    for failure in &suite.failures {
        eprintln!("sendpath: failed: {failure}");
    }
    if suite.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Suite {
    setup: Setup,
    placements: Vec<Placement>,
    testbed: Option<Testbed>,
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

    fn run(&mut self, criterion: &mut Criterion, metric: &str, group: &Group, x: X) {
        let mut charts = criterion.benchmark_group(format!("{metric}/{}", group.name));
        let scale = match x {
            X::PayloadBytes => AxisScale::Logarithmic,
            X::Threads => AxisScale::Linear,
        };
        charts.plot_config(PlotConfiguration::default().summary_scale(scale));
        // Samples differ by their instance, not by their length.
        charts.sampling_mode(SamplingMode::Flat);
        for &case in &group.cases {
            let id = match x {
                X::PayloadBytes => {
                    charts.throughput(Throughput::Bits((case.payload_bytes * case.threads * 8) as u64));
                    format!("{}B", case.payload_bytes)
                }
                X::Threads => case.threads.to_string(),
            };
            let id = BenchmarkId::new(format!("{}/{}", case.path, case.layout), id);
            let unwound = catch_unwind(AssertUnwindSafe(|| self.bench(&mut charts, id, case, x)));
            if let Err(panic) = unwound
                && !panic.is::<Failed>()
            {
                resume_unwind(panic);
            }
        }
        charts.finish();
    }

    fn bench(&mut self, charts: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, case: Case, x: X) {
        let mut counts: Option<ZeroCopyCounts> = None;
        charts.bench_function(id, |bencher| {
            bencher.iter_custom(|messages| {
                let sample = self.sample(case, messages);
                if let Some(sampled) = sample.server.zero_copy {
                    *counts.get_or_insert_default() += sampled;
                }
                Duration::from_nanos(match x {
                    X::PayloadBytes => sample.elapsed_ns,
                    X::Threads => sample.pair_ns(),
                })
            });
        });
        if let Some((counts, share)) = counts.and_then(|counts| Some((counts, counts.copied_share()?))) {
            println!("{:24}{counts}: the kernel copied {:.1} % of the sends", "zero copy:", share * 100.0);
        }
    }

    /// One sample: a burst of `messages` on every pair of a fresh instance.
    fn sample(&mut self, case: Case, messages: u64) -> Sample {
        let sampled = self.start().and_then(|testbed| {
            let mut instance = testbed.open(case)?;
            warm_up(&mut instance)?;
            time(&mut instance, messages, Mode::Time)
        });
        match sampled {
            Ok(sample) => sample,
            Err(error) => {
                println!("\nfailed: {case}: {error}");
                self.failures.push(format!("{case}: {error}"));
                // The next case gets a client that knows nothing of this.
                self.testbed = None;
                resume_unwind(Box::new(Failed))
            }
        }
    }
}
