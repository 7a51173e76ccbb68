//! What Criterion's pages say of two benches that are the same:
//! `cargo bench -p experiments --bench criterion_campaign`, by name alone.
//!
//! `two_copy` is benched twice under two names in one group: interleaved as the benches do it, and
//! beside it one after the other, with an instance for each sample. 20 groups, or as many as the
//! first argument says. docs/book/src/evidence/campaigns.md has the results.

#[path = "../benches/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{AxisScale, Criterion, SamplingMode};
use sendpath::case::Case;
use sendpath::error::Result;
use sendpath::measure::burst::{time, warm_up};
use sendpath::pair::{Mode, Testbed};
use sendpath::results::record::Arm;
use sendpath::results::stats::median;
use support::charts::Charts;
use support::{Bench, Pairs, Sampling, iterations_of, timed};

const GROUPS: usize = 20;
/// The cases, in turn.
const CELLS: [(usize, usize); 10] = [
    (64, 1),
    (1 << 10, 1),
    (8 << 10, 1),
    (64 << 10, 1),
    (256 << 10, 1),
    (64, 4),
    (1 << 10, 4),
    (8 << 10, 4),
    (64 << 10, 4),
    (256 << 10, 4),
];
const NAMES: [&str; 2] = ["one", "other"];
/// As `benches/throughput.rs` has it.
const SAMPLING: Sampling = Sampling { visits: 80, time: Duration::from_millis(640), resamples: 20_000 };

fn main() -> ExitCode {
    let groups = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(GROUPS);
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS; // nothing here is quick
    }
    support::main([Charts::by_size()], |pairs, _| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut rows = Vec::new();
        for number in 0..groups {
            let (payload_bytes, threads) = CELLS[number % CELLS.len()];
            let case = Case { payload_bytes, threads, ..Case::default() };
            interleaved(pairs, folder.path(), &format!("interleaved-{number:02}"), case);
            one_after_the_other(pairs, folder.path(), &format!("in-turn-{number:02}"), case);
            let difference = |way: &str| difference(&folder.path().join(format!("{way}-{number:02}")));
            rows.push((case, [difference("interleaved"), difference("in-turn")]));
        }
        print(&rows);
    })
}

/// As the benches do it.
fn interleaved(pairs: &mut Pairs, folder: &Path, group: &str, case: Case) {
    let bench = |(name, control): (&str, bool)| Bench {
        line: name.to_owned(),
        place: "x".to_owned(),
        arm: Arm { case, control },
        throughput: None,
    };
    let benches: Vec<Bench> = NAMES.into_iter().zip([false, true]).map(bench).collect();
    let mut criterion =
        pairs.criterion_without_arguments(SAMPLING, WallTime).output_directory(folder).without_plots();
    let window = timed("", |sample| sample.elapsed_ns as f64);
    pairs.bench_all(&mut criterion, &window, group, AxisScale::Linear, &benches);
}

/// One bench after the other, and for each sample a fresh instance whose burst takes as long as
/// Criterion's iterations.
fn one_after_the_other(pairs: &mut Pairs, folder: &Path, group: &str, case: Case) {
    let mut criterion = Criterion::default()
        .sample_size(25)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .nresamples(20_000)
        .output_directory(folder)
        .without_plots();
    let testbed = pairs.testbed().expect("the testbed was started");
    let mut charts = criterion.benchmark_group(group);
    charts.sampling_mode(SamplingMode::Flat);
    for name in NAMES {
        charts.bench_function(format!("{name}/x"), |bencher| {
            bencher.iter_custom(|iterations| {
                sample(testbed, case, iterations).unwrap_or_else(|error| panic!("{case}: {error}"))
            });
        });
    }
    charts.finish();
}

fn sample(testbed: &Testbed, case: Case, iterations: u64) -> Result<Duration> {
    let mut instance = testbed.open(case)?;
    warm_up(&mut instance)?;
    let wanted = Duration::from_nanos((instance.message_ns().unwrap_or_default() * iterations as f64) as u64);
    let sample = time(&mut instance, wanted.max(Duration::from_millis(2)), Mode::Time)?;
    let iteration_ns = sample.elapsed_ns as f64 / iterations_of(&sample);
    Ok(Duration::from_nanos((iteration_ns * iterations as f64) as u64))
}

/// By how much the larger of a group's two medians exceeds the smaller, as Criterion wrote them
/// down.
fn difference(group: &Path) -> f64 {
    let [one, other] = NAMES.map(|name| {
        // GROUP/NAME/x where the name and the place are given apart, GROUP/NAME_x where they are
        // one text.
        let folders = [group.join(name).join("x"), group.join(format!("{name}_x"))];
        let files = folders.map(|folder| folder.join("new/estimates.json"));
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
        let text = text.unwrap_or_else(|| panic!("{}: Criterion wrote no estimates", group.display()));
        let estimates: serde_json::Value = serde_json::from_str(&text).expect("Criterion writes JSON");
        estimates["median"]["point_estimate"].as_f64().expect("there is a median")
    });
    one.max(other) / one.min(other) - 1.0
}

fn print(rows: &[(Case, [f64; 2])]) {
    println!("\ntwo_copy twice in one group: difference of the two medians");
    println!("{:>8} {:>5} {:>12} {:>18}", "size", "pairs", "interleaved", "one after another");
    for (case, [interleaved, in_turn]) in rows {
        let Case { payload_bytes, threads, .. } = case;
        let (interleaved, in_turn) = (interleaved * 100.0, in_turn * 100.0);
        println!("{payload_bytes:>8} {threads:>5} {interleaved:>10.2} % {in_turn:>16.2} %");
    }
    for (word, of) in [("median", median as fn(&mut [f64]) -> Option<f64>), ("largest", largest)] {
        let [interleaved, in_turn] =
            [0, 1].map(|way| of(&mut rows.iter().map(|(_, ways)| ways[way] * 100.0).collect::<Vec<_>>()));
        let (interleaved, in_turn) = (interleaved.unwrap_or_default(), in_turn.unwrap_or_default());
        println!("{word:>14} {interleaved:>10.2} % {in_turn:>16.2} %");
    }
    println!("(interleaved: the median at most 1 %, none above 3 %)");
}

fn largest(values: &mut [f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}
