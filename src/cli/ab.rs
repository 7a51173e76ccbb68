//! `sendpath ab`: compares two revisions, or two executables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::progress::Shown;
use super::sweep::{parse_percent, parse_time};
use super::{DONE, INTERRUPTED, NOT_MEASURED, PROGRAM, SetupOptions, code_of, interrupt, output};
use crate::ab::build::RevisionBuilds;
use crate::ab::format::{self, conclude};
use crate::ab::peer_copy::{self, PeerCopy};
use crate::ab::worker::Build;
use crate::ab::{BlockPlan, BlockProgress, run as compare};
use crate::case::{Case, Cell, Layout, Matrix, SendPath, Series};
use crate::error::Error;
use crate::host::softirq;
use crate::pair::{Client, Setup, pin_problem};
use crate::random;
use crate::results::analysis::CPU_TIME_IS_NOT_WHOLE;
use crate::results::comparison::{Failure, LeftOut, Outcome};
use crate::results::metric::Direction;
use crate::settings::{self, Setting, Settings};

const AFTER_HELP: &str = "\
Examples:
  sendpath ab main                              the working tree against main
  sendpath ab v1.2 v1.3 --size 64K --time 60s
  sendpath ab main --receiver sink              the sender alone, without a scheduler in the round trip
  sendpath ab HEAD --markdown >comment.md       a comment for a pull request
  sendpath ab main --bencher >bencher.json      values for a service, without a verdict
  sendpath ab --base-bin old/sendpath --change-bin new/sendpath
  sendpath ab main --peer 'ssh bob {} client' --peer-copy 'scp {} bob:{}'      over a real wire
  sendpath ab HEAD HEAD --change-env SENDPATH_BUFFERS=auto      one build, two settings

How it compares:
  Each revision is built in release mode, in a git worktree in the temporary folder; the working
  tree is built where it is. All builds use target/ab, which is kept: dependencies are compiled
  once. Each block starts a process of the base, one of the change, and one more of the base as
  the control. Bursts of 4 ms alternate between them, and ratios are taken inside a round. The
  block is the unit of replication. After eight blocks, cases that are settled are left out, so that
  the others get their time; when all are, it ends before --time.

How it decides:
  A case is worse or better where its interval excludes no change, and is not within 0.5 % of it (p99:
  2 %). The intervals are so wide that in 95 of 100 runs of two equal builds not one of them excludes
  it. \"at worst\" is what a case has lost at most,
  with 95 % confidence in that case alone.

For services:
  With --bencher and --github-action-benchmark the exit code is 0 wherever it was measured, since the
  services drop what another exit code comes with, and judge by their own thresholds. The comparison
  is on standard error; --exit-code brings the codes 1 and 3 back.

Exit codes: 0 no case's throughput has lost --margin or more at worst, and nothing is worse;
1 a regression: something is worse; 2 bad input (nothing was set up); 3 undecided: more --time is
needed; 4 not measured (a build or a case failed, or a service would get no value); 130 interrupted (what was measured is printed).";

/// Compare two revisions, interleaved: is the change slower?
#[expect(clippy::struct_excessive_bools, reason = "one for each format; clap lets only one be given")]
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// The revision to compare with
    #[arg(value_name = "BASE", required_unless_present = "base_bin")]
    base: Option<String>,
    /// The revision that is judged [default: the working tree]
    #[arg(value_name = "CHANGE")]
    change: Option<String>,
    /// An executable in place of BASE
    #[arg(long, value_name = "FILE", requires = "change_bin", conflicts_with = "base")]
    base_bin: Option<PathBuf>,
    /// An executable in place of CHANGE
    #[arg(long, value_name = "FILE", requires = "base_bin")]
    change_bin: Option<PathBuf>,
    /// A variable for the base's processes only; may be given several times
    #[arg(long, value_name = "K=V", value_parser = parse_variable)]
    base_env: Vec<(String, String)>,
    /// A variable for the change's processes only; may be given several times
    #[arg(long, value_name = "K=V", value_parser = parse_variable)]
    change_env: Vec<(String, String)>,
    /// How long to measure, builds not counted
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_time)]
    time: Duration,
    /// End after this many blocks, if the time is not over before
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    blocks: Option<u32>,
    /// How much worse a case's throughput may be, as far as the data can tell, for exit code 0
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = parse_percent)]
    margin: f64,
    /// The seed of the random order [default: a new one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long, group = "format")]
    json: bool,
    /// Print a comment for a pull request
    #[arg(long, group = "format")]
    markdown: bool,
    /// Print Bencher Metric Format
    #[arg(long, group = "format")]
    bencher: bool,
    /// Print what github-action-benchmark takes as customSmallerIsBetter: the times
    #[arg(long, group = "format")]
    github_action_benchmark: bool,
    /// With --peer: the command that brings each build's own program over; {} is its path, here and
    /// there, in this command and in --peer: 'scp {} bob:{}'
    #[arg(long, value_name = "COMMAND", value_parser = parse_words)]
    peer_copy: Option<::std::vec::Vec<String>>, // with its path, or clap takes a list for many options
    /// Also write the throughputs, which it takes as customBiggerIsBetter, to FILE
    #[arg(long, value_name = "FILE", requires = "github_action_benchmark")]
    github_action_benchmark_throughput: Option<PathBuf>,
    /// Exit by the verdict with --bencher and --github-action-benchmark, too
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    matrix: Settings<settings::Matrix>,
    #[command(flatten)]
    setup: SetupOptions,
}

impl Options {
    /// Whether what is printed is for a service that judges by its own thresholds.
    fn is_for_a_service(&self) -> bool {
        self.bencher || self.github_action_benchmark
    }
}

fn parse_words(text: &str) -> Result<Vec<String>, String> {
    shlex::split(text)
        .filter(|words| !words.is_empty())
        .ok_or_else(|| format!("{text:?} is not a command in words, as a shell takes it apart"))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// Twelve cases: three paths at four sizes, from where the calls cost most to where the copies do.
fn default_matrix() -> Matrix {
    let series = vec![
        Series::new(SendPath::TwoCopy, Layout::Heap),
        Series::new(SendPath::OneCopy, Layout::Heap),
        Series::new(SendPath::ZeroCopy, Layout::Page),
    ];
    let payload_bytes = vec![64, 8 << 10, 64 << 10, 256 << 10];
    Matrix { series, payload_bytes, threads: vec![1], ..Matrix::by_size() }
}

/// Builds, compares, prints. What keeps it from that is in the comment as well, where one is asked
/// for: a workflow that posts it would else keep an old one.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let interrupted = interrupt::catch()?;
    let error = match measure(options, &interrupted) {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    if interrupted.load(Ordering::Relaxed) {
        comment_on_failure(options.markdown, "interrupted; nothing was compared");
        output::note("sendpath: interrupted; nothing was compared");
        return Ok(INTERRUPTED);
    }
    comment_on_failure(options.markdown, &format!("{error:#}"));
    if error.downcast_ref::<Error>().is_some_and(Error::is_bad_input) {
        return Err(error);
    }
    output::note(&format!("sendpath: {error:#}"));
    Ok(NOT_MEASURED)
}

/// What a comment says of a command line that `clap` refuses, if `ab` was asked for one there.
pub(super) fn comment_on_usage(mut arguments: impl Iterator<Item = OsString>, cause: &str) {
    let is_for_ab = arguments.nth(1).is_some_and(|command| command == "ab");
    comment_on_failure(is_for_ab && arguments.any(|argument| argument == "--markdown"), cause);
}

fn comment_on_failure(is_asked_for: bool, cause: &str) {
    if is_asked_for {
        // Where standard output cannot be written, what failed is still on standard error.
        drop(output::print(&format::markdown_of_failure(cause)));
    }
}

fn measure(options: &Options, interrupted: &AtomicBool) -> anyhow::Result<u8> {
    let setup = options.setup.setup(PROGRAM.into())?;
    let matrix = default_matrix().overridden(&options.matrix.axes()?);
    let of_cell = |cell: Cell| matrix.series.iter().map(move |&series| cell.case(series));
    let cases: Vec<_> = matrix.cells().into_iter().flat_map(of_cell).collect();
    check_peer_copy(options, &setup)?;
    for case in &cases {
        setup.check_placement(case.placement)?;
    }
    let given =
        [&options.base_bin, &options.change_bin].map(|file| file.as_deref().map(whole_path).transpose());
    let [base_bin, change_bin] = given;
    let given = base_bin?.zip(change_bin?);
    let (cases, left_out) = without_what_cannot_be_pinned(cases)?;
    // Holds the executables, which are removed when it is dropped.
    let mut builds = None;
    let (base_name, change_name, programs) = programs(options, given, &mut builds, interrupted)?;
    // Removed when they are dropped.
    let copies = peer_copies(options, &setup, &programs, interrupted)?;
    let build = |side: usize, variables: &[(String, String)]| {
        let copy = copies.as_ref().map(|copies| &copies[side.min(copies.len() - 1)]);
        let mut setup = options.setup.options_alone();
        if let Some(copy) = copy {
            setup = setup.with(Setting::Peer, copy.peer_command());
        }
        let arguments = setup.as_options().into_iter().map(OsString::from).collect();
        Build { program: programs[side].clone(), arguments, variables: variables.to_vec() }
    };
    let seed = options.seed.map_or_else(random::number, Ok)?;
    let plan = BlockPlan {
        cases,
        left_out,
        time: options.time,
        blocks: options.blocks.map(|blocks| blocks as usize),
        margin: options.margin,
        cpu_time_is_whole: softirq::in_cpu_time()? == Some(true),
        seed,
    };
    if !plan.cpu_time_is_whole {
        output::note(&format!("not compared by CPU time: {CPU_TIME_IS_NOT_WHOLE}"));
    }
    let (cases, time) = (plan.cases.len(), plan.time);
    output::note(&format!("{change_name} against {base_name}: {cases} cases, {time:?}, seed {seed}"));
    let shown = Shown::new(plan.time);
    let (base, change) = (build(0, &options.base_env), build(1, &options.change_env));
    let mut show = |progress| show(&shown, &plan, progress);
    let outcome = compare(&base, &change, &plan, interrupted, &mut show);
    drop(shown);
    let outcome = outcome?;
    if plan.cpu_time_is_whole && !outcome.cpu_time_is_whole {
        output::note(&format!("not compared by CPU time: {CPU_TIME_IS_NOT_WHOLE}"));
    }
    print(options, &outcome, &base_name, &change_name, seed)?;
    Ok(match conclude(&outcome) {
        _ if outcome.interrupted => INTERRUPTED,
        _ if !outcome.failures.is_empty() => NOT_MEASURED,
        // `bencher run` drops the output of a command that fails (bencher's
        // services/cli/src/bencher/sub/run/mod.rs, `generate_local_report`), and a workflow's step
        // ends there before the next one reads the file.
        _ if options.is_for_a_service() && !options.exit_code => DONE,
        conclusion => code_of(conclusion),
    })
}

/// The builds' programs on the peer's machine: one each, or one for both if they are one. None
/// where no copy was asked for.
fn peer_copies(
    options: &Options,
    setup: &Setup,
    programs: &[PathBuf; 2],
    interrupted: &AtomicBool,
) -> Result<Option<Vec<PeerCopy>>, Error> {
    let Client::Peer(peer) = &setup.client else { return Ok(None) };
    let Some(copy) = &options.peer_copy else {
        if programs[0] != programs[1] {
            output::note(
                "the peer's client is one build for both sides: what differs in the receiving half is not compared \
                 (--peer-copy brings each build's own over)",
            );
        }
        return Ok(None);
    };
    let distinct = if programs[0] == programs[1] { &programs[..1] } else { &programs[..] };
    let make = |program: &PathBuf| PeerCopy::make(program, copy, peer, interrupted);
    distinct.iter().map(make).collect::<Result<_, _>>().map(Some)
}

/// Refuses a copy that no peer would run.
fn check_peer_copy(options: &Options, setup: &Setup) -> Result<(), Error> {
    let Some(copy) = &options.peer_copy else { return Ok(()) };
    let has_place = |words: &[String]| words.iter().any(|word| word.contains(peer_copy::PLACEHOLDER));
    match &setup.client {
        Client::Child(_) => Err(Error::Setting("--peer-copy goes with --peer".to_owned())),
        Client::Peer(peer) if !has_place(&peer.command) || !has_place(copy) => Err(Error::Setting(
            "--peer-copy: {} stands for the program's path in both commands: --peer 'ssh bob {} client' --peer-copy \
             'scp {} bob:{}'"
                .to_owned(),
        )),
        Client::Peer(_) => Ok(()),
    }
}

/// The cases without those that the limit of locked memory forbids, which are said on standard
/// error.
fn without_what_cannot_be_pinned(cases: Vec<Case>) -> Result<(Vec<Case>, Vec<LeftOut>), Error> {
    let mut left_out = Vec::new();
    let mut kept = Vec::new();
    for case in cases {
        match pin_problem(&case) {
            Some(reason) => left_out.push(LeftOut { case: case.to_string(), reason }),
            None => kept.push(case),
        }
    }
    for LeftOut { case, reason } in &left_out {
        output::note(&format!("left out: {case}: {reason}"));
    }
    match left_out.first() {
        Some(LeftOut { reason, .. }) if kept.is_empty() => {
            Err(Error::Setting(format!("no case can be measured here: {reason}")))
        }
        _ => Ok((kept, left_out)),
    }
}

/// The whole path of an executable that was given. A name without a slash is the file of this
/// folder, and would be looked for by `PATH` where it is run.
fn whole_path(file: &Path) -> Result<PathBuf, Error> {
    let shown = file.display();
    match std::path::absolute(file) {
        Ok(whole) if whole.is_file() => Ok(whole),
        Err(errno) => Err(Error::Setting(format!("{shown}: {errno}"))),
        Ok(_) => Err(Error::Setting(format!("{shown} is not a file"))),
    }
}

/// The names of the two sides, and their executables.
fn programs(
    options: &Options,
    given: Option<(PathBuf, PathBuf)>,
    builds: &mut Option<RevisionBuilds>,
    interrupted: &AtomicBool,
) -> Result<(String, String, [PathBuf; 2]), Error> {
    if let Some((base, change)) = given {
        let name = |file: &Option<PathBuf>| file.iter().map(|file| file.display().to_string()).collect();
        return Ok((name(&options.base_bin), name(&options.change_bin), [base, change]));
    }
    let builds = builds.insert(RevisionBuilds::open()?);
    let revision = |text: &str| {
        let full = builds.resolve(text)?;
        Ok::<_, Error>((format!("{text} ({})", &full[..12.min(full.len())]), full))
    };
    let (base_name, base) = revision(options.base.as_deref().unwrap_or("HEAD"))?;
    let change = options.change.as_deref().map(revision).transpose()?;
    let (change_name, change) = match change {
        Some((name, revision)) => (name, Some(revision)),
        None if builds.is_dirty() => ("the working tree, with changes".to_owned(), None),
        None => ("the working tree".to_owned(), None),
    };
    output::note(&format!("building {base_name} …"));
    let base_program = builds.build(Some(&base), "base", interrupted)?;
    if change.as_ref() == Some(&base) {
        return Ok((base_name, change_name, [base_program.clone(), base_program]));
    }
    output::note(&format!("building {change_name} …"));
    let change_program = builds.build(change.as_deref(), "change", interrupted)?;
    Ok((base_name, change_name, [base_program, change_program]))
}

fn print(options: &Options, outcome: &Outcome, base: &str, change: &str, seed: u64) -> anyhow::Result<()> {
    if options.is_for_a_service() {
        // What the service gets has no verdicts, and no failures.
        output::note(format::text(outcome).trim_end());
    } else {
        // Standard output may be a file that nobody reads where it failed.
        for Failure { case, error } in &outcome.failures {
            output::note(&format!("sendpath: {case}: {error}"));
        }
    }
    let text = if options.json {
        let conclusion = format::sentence(outcome);
        output::json(&json!({
            "schema": crate::results::store::SCHEMA, "base": base, "change": change, "seed": seed,
            "conclusion": conclusion, "outcome": outcome,
        }))?
    } else if options.markdown {
        format::markdown(outcome, base, change)
    } else if options.bencher {
        output::json(&format::bencher(outcome).ok_or_else(|| no_value(outcome, "value"))?)?
    } else if options.github_action_benchmark {
        let of = |direction, what| {
            format::github_action_benchmark(outcome, direction).ok_or_else(|| no_value(outcome, what))
        };
        if let Some(path) = &options.github_action_benchmark_throughput {
            let text = output::json(&of(Direction::More, "throughput")?)?;
            std::fs::write(path, text).map_err(Error::file("write(2)", path))?;
        }
        output::json(&of(Direction::Less, "time")?)?
    } else {
        format::text(outcome)
    };
    Ok(output::print(&text)?)
}

/// Why a service would get a file without a value in it, and what to do.
fn no_value(outcome: &Outcome, what: &str) -> anyhow::Error {
    let cause = if outcome.comparisons.is_empty() {
        format::sentence(outcome)
    } else {
        "a stream has no round trips, and CPU time is compared only where it includes softirqs".to_owned()
    };
    anyhow::anyhow!("no {what} for the service: {cause}")
}

/// A bar on a terminal, a line for each block otherwise.
fn show(shown: &Shown, plan: &BlockPlan, progress: BlockProgress) {
    let BlockProgress { block, case, elapsed } = progress;
    let what = || format!("block {}, case {} of {}", block + 1, case + 1, plan.cases.len());
    if !shown.step(elapsed, what) && case == 0 {
        shown.line(&format!("block {}, {} left", block + 1, shown.left(elapsed)));
    }
}
