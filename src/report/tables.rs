//! The tables: every case, every comparison, the cost model, the copy ledger.

use super::page::{Claim, Column, Entry, Section, Table, TableRow};
use super::words::{self, Copied, case_row, comparison_row, pairs};
use crate::case::{Placement, Receiver, Series, Source, departures};
use crate::environment::copy_cause;
use crate::event::Event;
use crate::format::{self, bytes, difference, number};
use crate::results::analysis::{Analysis, ArmResult, Measure, SeriesComparison};
use crate::results::cost_model::{Fit, Ladder};
use crate::results::manifest::Manifest;
use crate::sample::Side;

const WORKLOAD: &str = "rr: request and response; stream: messages back to back";
const PAIRS: &str = "server and client threads, one of each to a connection";
const PLACEMENT: &str = "where the two ends of a pair run";
const RECEIVER: &str =
    "how the client takes the bytes in, the same for every path that is compared; matched: as the path sends";
const SOURCE: &str = "which messages are sent: hot, a small set in turn; cold, a set that no cache holds";

/// Why the two sides of a case are not to be told apart by CPU time or counters.
pub(super) const SPLIT: &str = "Where both ends of a pair share a CPU (placement paired), do not rely on the split between \
                                server and client: the kernel books the switch between the two to one of them, and perf and \
                                getrusage do not agree on which. Rely on the sum of both sides.";

/// Whether some pairs have both ends on one CPU.
pub(super) fn any_paired(manifest: &Manifest) -> bool {
    manifest.plan.cells.iter().any(|cell| cell.placement == Placement::Paired)
}

fn words_column(name: &str, about: &str) -> Column {
    Column { name: name.to_owned(), about: about.to_owned(), numeric: false }
}

fn number_column(name: &str, about: &str) -> Column {
    Column { numeric: true, ..words_column(name, about) }
}

fn word(text: impl Into<String>) -> Entry {
    Entry { text: text.into(), value: None, note: None }
}

fn value(text: impl Into<String>, value: f64) -> Entry {
    Entry { text: text.into(), value: Some(value), note: None }
}

fn empty(reason: &str) -> Entry {
    Entry { note: Some(reason.to_owned()), ..Entry::default() }
}

fn measured(measure: Option<Measure>, why_not: &str) -> Entry {
    let Some(measure) = measure else { return empty(why_not) };
    let note = measure.interval.map(|(low, high)| format!("95 %: {} to {}", number(low), number(high)));
    Entry {
        text: number(measure.value),
        value: Some(measure.value),
        note: note
            .or_else(|| Some("no interval: too few instances, or a count of zero among them".to_owned())),
    }
}

/// What is shown of what was counted.
const COUNTED: [(Side, Event); 7] = [
    (Side::Server, Event::Cycles),
    (Side::Client, Event::Cycles),
    (Side::Server, Event::Instructions),
    (Side::Server, Event::L1dLoadMisses),
    (Side::Server, Event::LlcLoadMisses),
    (Side::Server, Event::ContextSwitches),
    (Side::Client, Event::ContextSwitches),
];

fn case_columns(manifest: &Manifest) -> Vec<Column> {
    let paired = any_paired(manifest);
    let by_side = |about: &str| if paired { format!("{about}. {SPLIT}") } else { about.to_owned() };
    let mut columns = vec![
        words_column(
            "path",
            "who copies: two_copy user space and kernel, one_copy the kernel, zero_copy neither unless copied",
        ),
        words_column("workload", WORKLOAD),
        number_column("size", "payload of a message"),
        number_column("pairs", PAIRS),
        words_column("placement", PLACEMENT),
        words_column("receiver", RECEIVER),
        words_column("source", SOURCE),
        number_column("Gb/s", "payload bits received, divided by the time"),
        number_column("mean µs", "mean round trip"),
        number_column("p50 µs", "median round trip"),
        number_column("p99 µs", "the round trip that 99 of 100 do not exceed"),
        number_column("p99.9 µs", "the round trip that 999 of 1000 do not exceed"),
        number_column("max µs", "the longest round trip"),
        number_column(
            "drain µs",
            "from the last byte received until the path is done with the burst: of zero_copy, its completions. The median \
             of the bursts, which is no part of the times to the left",
        ),
        number_column(
            "CPU ns per byte",
            "CPU time of both sides' threads per payload byte: what is compared",
        ),
        number_column("server CPU ns", &by_side("CPU time of the server's threads per message")),
        number_column("client CPU ns", &by_side("CPU time of the client's threads per message")),
        number_column("copied", "share of MSG_ZEROCOPY sends that the kernel copied after all"),
        number_column(
            "ENOBUFS",
            "sends that were refused because no more memory may be pinned, and made again",
        ),
    ];
    columns.extend(COUNTED.iter().map(|(side, event)| {
        let about = format!("{} of the {side}'s threads per message, kernel included", event.unit());
        number_column(&format!("{side} {}", event.unit()), &by_side(&about))
    }));
    columns
}

/// A row for each arm.
pub(super) fn cases(manifest: &Manifest, analysis: &Analysis) -> Table {
    let row = |result: &ArmResult| {
        let case = result.arm.case;
        let copied = Copied::of(std::iter::once(result));
        let mut name = words::series(case.series(), copied);
        if result.arm.control {
            name += " (control)";
        }
        let failed = result.error.as_deref();
        let why = |reason: &'static str| failed.map_or(reason.to_owned(), str::to_owned);
        let trips = why("a stream has no round trips, or too few were timed for this quantile");
        let us = |measure: Option<Measure>| measured(measure.map(|measure| measure.scaled(1e-3)), &trips);
        let mut cells = vec![
            Entry { note: failed.map(str::to_owned), ..word(name) },
            word(case.workload.to_string()),
            value(bytes(case.payload_bytes as f64), case.payload_bytes as f64),
            value(case.threads.to_string(), case.threads as f64),
            word(case.placement.to_string()),
            word(case.receiver.to_string()),
            word(case.source.to_string()),
            measured(result.throughput_gbps, &why("no burst of this case was timed")),
            us(result.rtt_mean_ns),
            us(result.rtt_quantiles_ns[0].1),
            us(result.rtt_quantiles_ns[2].1),
            us(result.rtt_quantiles_ns[3].1),
            result.rtt_max_ns.map_or_else(|| empty(&trips), |ns| value(number(ns as f64 / 1e3), ns as f64)),
            result.drain_ns_per_burst.map_or_else(
                || empty(&why("no burst of this case was timed")),
                |ns| value(number(ns / 1e3), ns),
            ),
            measured(result.cpu_ns_per_byte, &why("CPU time was not recorded")),
            measured(result.server_cpu_ns_per_message, &why("CPU time was not recorded")),
            measured(result.client_cpu_ns_per_message, &why("CPU time was not recorded")),
            result.zero_copy.and_then(|counts| counts.copied_share()).map_or_else(
                || {
                    empty(&why(
                        "no completion: the path makes no MSG_ZEROCOPY sends, or they were not recorded",
                    ))
                },
                |share| value(format::share(share), share),
            ),
            result.zero_copy.map_or_else(
                || empty(&why("the path makes no MSG_ZEROCOPY sends, or they were not recorded")),
                |counts| value(counts.enobufs.to_string(), counts.enobufs as f64),
            ),
        ];
        cells.extend(COUNTED.iter().map(|(side, event)| {
            let reason = manifest.not_counted.get(&event.to_string()).cloned();
            measured(
                result.counted.per_message(*side, *event),
                &reason.unwrap_or_else(|| why("it was not counted")),
            )
        }));
        TableRow { id: case_row(result.arm), cells }
    };
    let rows = analysis.cells.iter().flat_map(|cell| &cell.arms).map(row).collect();
    Table { columns: case_columns(manifest), rows }
}

/// A row for each comparison.
pub(super) fn comparisons(analysis: &Analysis) -> Table {
    let columns = vec![
        words_column("metric", "what is compared"),
        words_column("workload", WORKLOAD),
        number_column("size", "payload of a message"),
        number_column("pairs", PAIRS),
        words_column("placement", PLACEMENT),
        words_column("receiver", RECEIVER),
        words_column("source", SOURCE),
        words_column("path", "the path that is compared"),
        words_column("against", "the path that it is compared with"),
        number_column("difference", "of the value itself: more throughput is better, more time is worse"),
        number_column("from", "lower end of the 95 % interval over instances"),
        number_column("to", "upper end of the 95 % interval over instances"),
        number_column("instances", "independent observations"),
        words_column(
            "verdict",
            "faster or slower: significant after Holm's correction, larger than 0.5 %, and larger than what the control shows",
        ),
    ];
    let row = |comparison: &SeriesComparison| {
        let cell = comparison.cell;
        let of = if comparison.control { "control".to_owned() } else { words::plain(comparison.series) };
        let mut cells = vec![
            word(comparison.metric.name()),
            word(cell.workload.to_string()),
            value(bytes(cell.payload_bytes as f64), cell.payload_bytes as f64),
            value(cell.threads.to_string(), cell.threads as f64),
            word(cell.placement.to_string()),
            word(cell.receiver.to_string()),
            word(cell.source.to_string()),
            word(of),
            word(words::plain(comparison.baseline)),
        ];
        match &comparison.outcome {
            Ok(outcome) => {
                let ratio = comparison.metric.change(outcome.effect.ratio());
                let percent = |ratio: f64| value(difference(ratio), ratio);
                cells.extend([ratio.value, ratio.low, ratio.high].map(percent));
                cells.push(value(outcome.effect.instances.to_string(), outcome.effect.instances as f64));
                cells.push(word(comparison.metric.verdict(outcome.verdict)));
            }
            Err(reason) => cells.extend((0..5).map(|_| empty(reason))),
        }
        TableRow { id: comparison_row(comparison), cells }
    };
    Table { columns, rows: analysis.cells.iter().flat_map(|cell| &cell.comparisons).map(row).collect() }
}

/// The row of a line of the cost model.
pub(super) fn model_row(ladder: &Ladder<'_>, series: Series) -> String {
    format!("model-{}-{}-{}", ladder.name().replace('/', "-"), series.0, series.1)
}

/// The cost model's lines.
pub(super) fn cost_model(fits: &[(&Ladder<'_>, Series, Option<Fit>)]) -> Table {
    let columns = vec![
        words_column("path", "who copies"),
        words_column("workload", WORKLOAD),
        number_column("pairs", PAIRS),
        words_column("placement", PLACEMENT),
        words_column("receiver", RECEIVER),
        words_column("source", SOURCE),
        number_column("fixed ns", "the time that a message takes on a pair, whatever its size"),
        number_column("ns per KiB", "the time that each KiB adds"),
        number_column("worst misfit", "the largest distance between a measured time and the line"),
        number_column("at", "the size with the worst misfit"),
    ];
    let row = |(ladder, series, fit): &(&Ladder<'_>, Series, Option<Fit>)| {
        let situation = ladder.situation;
        let mut cells = vec![
            word(words::series(*series, Copied::of(ladder.arms(*series)))),
            word(situation.workload.to_string()),
            value(ladder.threads.to_string(), ladder.threads as f64),
            word(situation.placement.to_string()),
            word(situation.receiver.to_string()),
            word(situation.source.to_string()),
        ];
        match fit {
            None => cells.extend((0..4).map(|_| empty("a line needs three measured sizes"))),
            Some(fit) => {
                let entry = |measure: Measure| value(words::measure(measure), measure.value);
                cells.extend([entry(fit.fixed_ns), entry(fit.ns_per_kib)]);
                let worst = fit
                    .misfits
                    .iter()
                    .max_by(|(_, one, _), (_, other, _)| one.ln().abs().total_cmp(&other.ln().abs()));
                match worst {
                    Some(&(at, ratio, _)) => cells.extend([
                        value(difference(ratio), ratio.ln().abs()),
                        value(bytes(at as f64), at as f64),
                    ]),
                    None => cells.extend([empty("no size"), empty("no size")]),
                }
            }
        }
        TableRow { id: model_row(ladder, *series), cells }
    };
    Table { columns, rows: fits.iter().map(row).collect() }
}

/// Who copied how much of a message, by series, receiver, source and size.
pub(super) fn ledger(manifest: &Manifest, analysis: &Analysis) -> Section {
    let columns = vec![
        words_column("path", "who copies"),
        number_column("size", "payload of a message"),
        words_column("receiver", RECEIVER),
        words_column("source", SOURCE),
        number_column("server packs", "bytes copied from user memory to user memory"),
        number_column("into the kernel", "bytes copied from user memory before the call returned"),
        number_column(
            "deferred",
            "bytes sent by MSG_ZEROCOPY whose completion says that the kernel copied them after all",
        ),
        number_column("out of the kernel", "bytes copied to user memory on the client"),
        number_column("client unpacks", "bytes copied from user memory to user memory"),
        number_column("copies", "the sum of these per payload byte"),
    ];
    let mut kinds: Vec<(Receiver, Source, usize)> = Vec::new();
    for cell in &analysis.cells {
        let kind = (cell.cell.receiver, cell.cell.source, cell.cell.payload_bytes);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.sort_by_key(|kind| (kind.0 as usize, kind.1 as usize, kind.2));
    let mut rows = Vec::new();
    for &series in &manifest.plan.series {
        for &(receiver, source, size) in &kinds {
            let arms: Vec<&ArmResult> = analysis
                .cells
                .iter()
                .flat_map(|cell| &cell.arms)
                .filter(|arm| ledger_row(arm) == ledger_row_of(series, receiver, source, size))
                .filter(|arm| stands_in_ledger(manifest, arm))
                .collect();
            if arms.is_empty() {
                continue;
            }
            let messages: u64 = arms.iter().map(|arm| arm.copied_messages).sum();
            let sum = |of: fn(&ArmResult) -> u64| {
                arms.iter().map(|arm| of(arm)).sum::<u64>() as f64 / messages as f64
            };
            let parts = [
                sum(|arm| arm.copies.0.user_to_user_bytes),
                sum(|arm| arm.copies.0.user_to_kernel_bytes),
                sum(|arm| arm.copies.0.deferred_bytes),
                sum(|arm| arm.copies.1.kernel_to_user_bytes),
                sum(|arm| arm.copies.1.user_to_user_bytes),
            ];
            let mut cells = vec![
                word(words::series(series, Copied::of(arms.iter().copied()))),
                value(bytes(size as f64), size as f64),
                word(receiver.to_string()),
                word(source.to_string()),
            ];
            cells.extend(parts.map(|part| value(number(part), part)));
            let copies = parts.iter().sum::<f64>() / size as f64;
            cells.push(value(number(copies), copies));
            rows.push(TableRow { id: ledger_row_of(series, receiver, source, size), cells });
        }
    }
    Section {
        method: "Bytes per message that a CPU copied, as the paths count them: what they packed themselves, what \
                 their calls returned, and for MSG_ZEROCOPY the bytes of the calls whose completion says that the \
                 kernel copied. What the network device does is not in it."
            .to_owned(),
        table: Table { columns, rows },
        claims: copy_causes(manifest, analysis),
    }
}

/// Why the kernel copied, by the way that the messages took: to a receiver, or into the sink.
fn copy_causes(manifest: &Manifest, analysis: &Analysis) -> Vec<Claim> {
    let of_way = |sink: bool| {
        let arms = analysis.cells.iter().flat_map(|cell| &cell.arms);
        let arms = arms.filter(|arm| (arm.arm.case.receiver == Receiver::Sink) == sink);
        let arms = arms.filter(|arm| stands_in_ledger(manifest, arm));
        let shares = arms.filter_map(|arm| Some((arm, arm.zero_copy?.copied_share()?)));
        let shares: Vec<(&ArmResult, f64)> = shares.collect();
        let (first, _) = shares.first()?;
        let found = manifest.copy_causes.to(first.arm.case.receiver)?.to_vec();
        let most = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        let causes = copy_cause::that_explain(most, found);
        if most == 0.0 && causes.is_empty() {
            return None;
        }
        let way = if sink { "In the sink" } else { "On the way to a receiver" };
        let text = format!(
            "{way}, why zero_copy was copied, as found when the sweep began: {}.",
            copy_cause::in_words(&causes)
        );
        let mut rows: Vec<String> = shares
            .iter()
            .filter(|(_, share)| *share > 0.0 || most == 0.0)
            .map(|(arm, _)| ledger_row(arm))
            .collect();
        rows.dedup();
        Some(Claim { text, rows })
    };
    [false, true].into_iter().filter_map(of_way).collect()
}

fn ledger_row_of((path, layout): Series, receiver: Receiver, source: Source, size: usize) -> String {
    let end = departures(receiver, source).replace('/', "-");
    format!("copies-{path}-{layout}-{size}B{end}")
}

/// The row of the copy ledger that an arm is counted in.
pub(super) fn ledger_row(result: &ArmResult) -> String {
    let case = result.arm.case;
    ledger_row_of(case.series(), case.receiver, case.source, case.payload_bytes)
}

/// Whether copies were counted of an arm. Other programs, which record no environment, do not count them.
pub(super) fn stands_in_ledger(manifest: &Manifest, result: &ArmResult) -> bool {
    manifest.environment.is_some() && result.copied_messages > 0
}

/// Name and value of everything that describes the run.
pub(super) fn environment(manifest: &Manifest) -> Vec<(String, String)> {
    let mut lines = vec![
        ("measured".to_owned(), format!("{}, on {}", manifest.started, manifest.host)),
        (
            "program".to_owned(),
            format!("sendpath {}, revision {}", manifest.program.version, manifest.program.name()),
        ),
        (
            "plan".to_owned(),
            format!(
                "profile {}, {} cells of {} paths, seed {}, precision {} %",
                manifest.plan.profile,
                manifest.plan.cells.len(),
                manifest.plan.series.len(),
                manifest.plan.seed,
                manifest.plan.precision * 100.0
            ),
        ),
    ];
    if let Some(environment) = &manifest.environment {
        lines.extend(environment.to_string().lines().map(|line| {
            let (name, value) = line.trim().split_once(' ').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        }));
    }
    lines.extend(
        manifest
            .checks
            .iter()
            .filter(|check| !manifest.not_counted.contains_key(&check.name))
            .map(|check| (check.name.clone(), check.found.clone())),
    );
    let mut reasons: Vec<(&String, Vec<&str>)> = Vec::new();
    for (event, reason) in &manifest.not_counted {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, events)) => events.push(event),
            None => reasons.push((reason, vec![event])),
        }
    }
    lines.extend(
        reasons
            .into_iter()
            .map(|(reason, events)| ("not counted".to_owned(), format!("{}: {reason}", events.join(", ")))),
    );
    lines
}

/// The pairs of a ladder, with the rest of what its cells have in common.
pub(super) fn ladder_name(ladder: &Ladder<'_>) -> String {
    format!("{} ({})", pairs(ladder.threads), words::situation(ladder.situation))
}
