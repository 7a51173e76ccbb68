//! `sendpath tune`: from which size on each path pays, on this machine.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::next_command::command_line;
use super::output::{self, note, print};
use super::progress::Shown;
use super::sweep::{parse_fragment_cost, parse_percent, parse_time, why_no_sink};
use super::{DONE, FAILED, INTERRUPTED, NOT_FOUND, PROGRAM, SetupOptions, interrupt, word};
use crate::case::{Cell, Layout, Matrix, Receiver, SendPath, Series, parse_bytes};
use crate::environment::{Environment, Machine};
use crate::error::{Error, Result};
use crate::format;
use crate::host;
use crate::measure::environment;
use crate::pair::Testbed;
use crate::program;
use crate::random;
use crate::results::store::SCHEMA;
use crate::settings::{self, Setting, Settings};
use crate::sweep::{Bursts, PairRig, Rig};
use crate::tune::format::{Found, Language, constants, table};
use crate::tune::plan::{FIELD_SHAPE, Line, baseline, lines};
use crate::tune::{
    Answer, Asked, FragmentCost, Measured, Progress, Question, Range, RigLives, StopReason, Threshold, tune,
};

const AFTER_HELP: &str = "\
Examples:
  sendpath tune                                        from which payload on do one_copy and zero_copy pay?
  sendpath tune --receiver buffer --threads 4          the same, to a receiver over veth
  sendpath tune --path zero_copy --engine syscall,uring --precision 5% --time 3m
  sendpath tune --path hybrid                          from which size on is a field better gathered than copied?
  sendpath tune --shape header --constant rust >src/thresholds.rs
  sendpath tune --json | jq '.answers[] | [.path, .against, .found.bytes]'

What it looks for:
  The size from which on a path is cheaper than two_copy, and zero_copy than one_copy as well. Of
  hybrid and hybrid_zero it is the threshold: with messages of seven equal fields and one of 64 KiB, the
  size from which on gathering those seven costs less than copying them into one buffer.

How it measures:
  As sweep: bursts of 4 ms in random order, ratios taken inside a round, connections and buffers made
  anew every ten rounds, which is a life. First sizes eight times apart, in two lives each; then one
  life after the other at an end of the present interval, where it shrinks it most. It ends when every
  interval is as narrow as --precision asks for, or when --time is over. METHODOLOGY.md says how often
  the interval is wrong.

What is printed:
  The interval holds the size at which the two cost the same, 95 times of 100. A path may pay from the
  smallest size on, or not up to the largest one. Where it pays at small sizes, not at larger ones, and
  again at still larger ones, the last threshold is given, and a line says so.

Exit codes: 0 found, 1 a path failed (the others are printed), 2 bad input (nothing was set up), 3 a
size was not found: a path pays nowhere, or more --time is needed, 130 interrupted (what was measured is
printed).";

/// Find the size from which on each path pays
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// How long to measure at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    time: Duration,
    /// Stop sooner, when each interval is narrower from end to end, as a share of the size
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    precision: f64,
    /// The smallest size [default: 64]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    from: Option<usize>,
    #[arg(help = "The largest size [default: 1M; of a hybrid path's fields: 32K, and no larger]")]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    to: Option<usize>,
    /// The seed of every random order [default: a new one]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// What your network card's driver takes for a fragment (80ns): added to each message of the
    /// sender alone
    #[arg(long, value_name = "TIME", value_parser = parse_fragment_cost)]
    fragment_cost: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print constants for a program, and the table on standard error
    #[arg(long, value_parser = word::<Language>(), value_name = "LANGUAGE", conflicts_with = "json")]
    constant: Option<Language>,
    #[command(flatten)]
    cases: Settings<settings::Sought>,
    #[command(flatten)]
    setup: SetupOptions,
}

/// What is measured, as far as it is known before anything is set up.
struct Plan {
    /// The cell of every case, but for size and fields.
    cell: Cell,
    /// Whether the receiver was asked for by name.
    receiver_is_given: bool,
    lines: Vec<Line>,
    ranges: Vec<Range>,
    /// What is added to a message for each of its fragments.
    fragment_ns: f64,
    /// Of every random order.
    seed: u64,
    /// When it was, in UTC.
    started: String,
}

impl Plan {
    fn new(options: &Options) -> Result<Self> {
        let axes = options.cases.axes()?;
        let cell = Cell {
            receiver: axes.receivers.first().copied().unwrap_or(Receiver::Sink),
            ..axes.case().cell()
        };
        let series = vec![
            baseline(),
            Series::new(SendPath::OneCopy, Layout::Heap),
            Series::new(SendPath::ZeroCopy, Layout::Page),
        ];
        let ways = Matrix { series, ..Matrix::by_size() }.overridden(&axes).series;
        let lines = lines(&ways);
        if lines.is_empty() {
            let baseline = baseline();
            let text = format!("--path: every path is held against {baseline}: name another");
            return Err(Error::Setting(text));
        }
        let has_payloads = lines.iter().any(|line| line.against.is_some());
        // A variable may be set for other commands; it decides nothing here.
        if !has_payloads && options.cases.options_alone().given(Setting::Shapes).is_some() {
            let text =
                format!("--shape: the threshold of hybrid is looked for with messages of {FIELD_SHAPE}");
            return Err(Error::Setting(text));
        }
        if has_payloads && cell.shape.own_payload_bytes().is_some() {
            let given = options.cases.given(Setting::Shapes).map(ToString::to_string).unwrap_or_default();
            return Err(Error::Setting(format!(
                "{given}: it has a size of its own, and the size is what is looked for: take equal, header or fields:N"
            )));
        }
        let range = |line: &Line| line.range(cell.shape, options.from, options.to, options.precision);
        let ranges: Vec<Range> = lines.iter().map(range).collect::<Result<_>>()?;
        for (line, range) in lines.iter().zip(&ranges) {
            let Question { arm, baseline } = line.question(cell);
            for bytes in [range.from_bytes, range.to_bytes] {
                arm(bytes).check()?;
                baseline(bytes).check()?;
            }
        }
        let receiver_is_given = !axes.receivers.is_empty();
        let fragment_ns = options.fragment_cost.unwrap_or_default();
        let seed = options.seed.map_or_else(random::number, Ok)?;
        let started = host::utc_now()?;
        Ok(Self { cell, receiver_is_given, lines, ranges, fragment_ns, seed, started })
    }

    /// Takes a receiver where the sink was not asked for by name and cannot be made.
    fn settle_receiver(&mut self, testbed: &Testbed) {
        if self.receiver_is_given {
            return;
        }
        if let Some(error) = why_no_sink(testbed, self.cell) {
            self.cell.receiver = Receiver::default();
            note(&format!("  note         receiver {}, not the sender alone: {error}", self.cell.receiver));
        }
    }

    /// Of what the thresholds are that are printed.
    fn conditions(&self) -> String {
        let Cell { threads, receiver, .. } = self.cell;
        let receiver = receiver.in_words();
        let added = match self.fragment_ns {
            ns if ns > 0.0 => format!(", {} ns a fragment added", format::significant(ns, 3)),
            _ => String::new(),
        };
        format!("{}, {receiver}{added}", self.cell.situation().in_words(threads))
    }

    /// All but the size, in words.
    fn description(&self) -> String {
        let Cell { workload, threads, placement, receiver, source, shape, .. } = self.cell;
        let pairs = if threads == 1 { "pair" } else { "pairs" };
        let is_payload = |line: &Line| line.against.is_some();
        let shape = match self.lines.iter().filter(|line| is_payload(line)).count() {
            0 => FIELD_SHAPE.to_owned(),
            payloads if payloads == self.lines.len() => shape.to_string(),
            _ => format!("{shape} (of hybrid {FIELD_SHAPE})"),
        };
        format!("receiver {receiver}, shape {shape}, {workload}, {threads} {pairs}, {placement}, {source}")
    }
}

/// Looks for the thresholds, and prints them.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let setup = options.setup.setup(PROGRAM.into())?;
    let mut plan = Plan::new(options)?;
    let interrupted = interrupt::catch()?;
    setup.check_placement(plan.cell.placement)?;
    let testbed = Testbed::start(&setup)?;
    plan.settle_receiver(&testbed);
    let environment = environment::read_for(&setup, &testbed, &[plan.cell.placement], &[plan.cell.receiver])?;
    note(environment.to_string().trim_end());
    note(&format!("  measured     {}, seed {}", plan.description(), plan.seed));
    let mut rig = PairRig::new(&setup, testbed);
    // As long as a sweep's, and timed as a whole: what a clock read per message costs is not in
    // them.
    rig.set_bursts(Bursts::Whole(Duration::ZERO));

    let questions: Vec<Question> = plan.lines.iter().map(|line| line.question(plan.cell)).collect();
    let mut lives = RigLives::new(rig, &questions, plan.seed);
    let mss_bytes = environment.sink.as_ref().and_then(|sink| usize::try_from(sink.mss_bytes).ok());
    lives.add_fragment_cost(FragmentCost { fragment_ns: plan.fragment_ns, mss_bytes });
    let (answers, end) = look(&plan, &mut lives, options.time, &interrupted);
    let zero_copy = lives.zero_copy().iter().copied();
    let found: Vec<Found> = (plan.lines.iter().zip(&plan.ranges).zip(answers).zip(zero_copy).enumerate())
        .map(|(question, (((&line, &range), answer), zero_copy))| {
            let bearable_ns = bearable_ns(&lives, question, &answer);
            Found { line, range, answer, zero_copy, bearable_ns }
        })
        .collect();

    let printed = match options.constant {
        Some(language) => {
            note(format!("{}:\n{}", plan.conditions(), table(&found)).trim_end());
            print(&constants(&found, language, &surroundings(&plan, &environment)))
        }
        None if options.json => {
            output::json(&json(&plan, &found, &environment, end)).and_then(|text| print(&text))
        }
        None => print(&format!("{}:\n{}", plan.conditions(), table(&found))),
    };
    for one in &found {
        if let Some(error) = &one.answer.failed {
            note(&format!("sendpath: {}: {error}", one.line));
        }
    }
    note(match end {
        StopReason::Interrupted => "interrupted: what was measured is printed",
        StopReason::Time => "the time is over",
        StopReason::Answered => "nothing is left to be measured",
    });
    printed?;
    let is_missing =
        |found: &Found| matches!(found.answer.threshold, Threshold::Never | Threshold::Undecided { .. });
    Ok(match end {
        StopReason::Interrupted => INTERRUPTED,
        _ if found.iter().any(|found| found.answer.failed.is_some()) => FAILED,
        _ if found.iter().any(is_missing) => NOT_FOUND,
        _ => DONE,
    })
}

/// What a card's driver may take for a fragment until the way is no longer ahead: at the sizes that
/// were measured well above its threshold.
fn bearable_ns<R: Rig>(lives: &RigLives<'_, R>, question: usize, answer: &Answer) -> Vec<(usize, f64)> {
    let Threshold::Found { high, .. } = answer.threshold else { return Vec::new() };
    let above = answer.measured.iter().filter(|measured| measured.bytes as f64 > 1.5 * high);
    let of = |measured: &Measured| {
        Some((measured.bytes, lives.bearable_ns(question, measured.bytes, measured.ratio.value)?))
    };
    above.filter_map(of).collect()
}

/// Looks for the thresholds, and shows how far it is.
fn look<R: Rig>(
    plan: &Plan,
    lives: &mut RigLives<'_, R>,
    time: Duration,
    interrupted: &AtomicBool,
) -> (Vec<Answer>, StopReason) {
    let shown = Shown::new(time);
    let mut standing: Vec<String> = Vec::new();
    let size = |bytes: usize| format::bytes(bytes as f64);
    let mut show = |progress: &Progress<'_>| {
        let &Progress { elapsed, asked, thresholds, failed } = progress;
        if let Some((question, error)) = failed {
            shown.line(&format!("failed       {}: {error}", plan.lines[question]));
            return;
        }
        // Each answer has a line when it is known, and when it becomes another.
        let now: Vec<String> = thresholds.iter().map(in_words).collect();
        for (question, words) in now.iter().enumerate() {
            let has_changed = standing.get(question).is_none_or(|before| before != words);
            if has_changed && !matches!(thresholds[question], Threshold::Undecided { .. }) {
                shown.line(&format!("{}: {words}, {} left", plan.lines[question], shown.left(elapsed)));
            }
        }
        standing = now;
        let what = || {
            let next = |asked: &Asked| format!("{} at {}", plan.lines[asked.question].way, size(asked.bytes));
            let mut next: Vec<String> = asked.iter().map(next).collect();
            next.dedup();
            next.join(", ")
        };
        shown.step(elapsed, what);
    };
    tune(lives, &plan.ranges, time, interrupted, &mut show)
}

/// An answer while it is still looked for: to two digits, as it may change.
fn in_words(threshold: &Threshold) -> String {
    match threshold {
        Threshold::Found { bytes, .. } => {
            let (scale, unit) = if *bytes < 1024.0 { (1.0, "B") } else { (1024.0, "KiB") };
            format!("from about {} {unit} on", format::significant(bytes / scale, 2))
        }
        Threshold::Always => "from the smallest size on".to_owned(),
        Threshold::Never => "not up to the largest size".to_owned(),
        Threshold::Undecided { .. } => "undecided".to_owned(),
    }
}

/// When, where and how it was measured, for the comment of a constant.
fn surroundings(plan: &Plan, environment: &Environment) -> Vec<String> {
    let arguments = command_line();
    let command = shlex::try_join(arguments.iter().skip(1).map(String::as_str)).unwrap_or_default();
    let Machine { kernel, cpu_model, .. } = &environment.machine;
    let day = plan.started.split('T').next().unwrap_or_default();
    vec![
        format!("Measured on {day}, Linux {kernel}, {cpu_model}:"),
        format!("{}.", plan.description()),
        format!("By `sendpath {command}`."),
    ]
}

fn json(plan: &Plan, found: &[Found], environment: &Environment, end: StopReason) -> serde_json::Value {
    let answer = |found: &Found| {
        let Found { line, range, answer, zero_copy, bearable_ns } = found;
        json!({
            "path": line.way.to_string(),
            "against": line.against(),
            "size_of": if line.against.is_some() { "payload" } else { "field" },
            "from_bytes": range.from_bytes,
            "to_bytes": range.to_bytes,
            "copied_share": zero_copy.copied_share(),
            "copied_is_bound": zero_copy.copied_is_bound(),
            "bearable_fragment_ns": bearable_ns
                .iter()
                .map(|(bytes, ns)| json!({ "bytes": bytes, "ns": ns.is_finite().then_some(*ns) }))
                .collect::<Vec<_>>(),
            "found": answer,
        })
    };
    let Cell { workload, threads, placement, receiver, source, shape, .. } = plan.cell;
    json!({
        "schema": SCHEMA,
        "program": program::this(),
        "started": plan.started,
        "command": command_line(),
        "seed": plan.seed,
        "fragment_cost_ns": plan.fragment_ns,
        "cell": {
            "workload": workload, "threads": threads, "placement": placement, "receiver": receiver, "source": source,
            "shape": shape,
        },
        "environment": environment,
        "end": end.to_string(),
        "answers": found.iter().map(answer).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_looked_for_is_said_roughly() {
        let found = |bytes| in_words(&Threshold::Found { bytes, low: 1.0, high: 1e6 });
        assert_eq!([812.0, 35_738.0].map(found), ["from about 812 B on", "from about 35 KiB on"]);
    }
}
