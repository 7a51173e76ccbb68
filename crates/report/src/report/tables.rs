//! The tables: every case, every comparison, the cost model, the copy ledger.

use std::ops::AddAssign;

use super::fragment_cost;
use super::page::{Claim, Column, Entry, Section, Table, TableRow};
use super::settle;
use super::words::{self, Copied, Reception, case_row, comparison_row, pairs};
use crate::case::{Case, Cell, Placement, Receiver, Series, Shape, Situation};
use crate::check::{ONE_BY_ONE, SINK};
use crate::environment::copy_cause;
use crate::event::Event;
use crate::format::{self, bytes, difference, distance, number};
use crate::fragments::{FragmentsSource, Told};
use crate::results::analysis::{Analysis, ArmResult, CellResult, Measure, SeriesComparison};
use crate::results::cost_model::{Fit, Ladder, message_ns};
use crate::results::manifest::Manifest;
use crate::results::states::OtherState;
use crate::sample::{CopiedBound, CopiedShare, Side, why_not_seen};

const WORKLOAD: &str = "rr: request and response; stream: messages back to back";
const PAIRS: &str = "server and client threads, one of each to a connection";
const PLACEMENT: &str = "where the two ends of a pair run";
const RECEIVER: &str = "how the client takes the bytes in, the same for every path that is compared; matched: as the path sends; sink: \
     nobody receives, the sender alone";
const SHAPE: &str = "how the payload is cut into fields: equal, eight equal ones; header, 24 bytes and the rest; fields:N, N equal \
     ones; sizes; a trace, messages of several shapes in turn, with their mean size";
const SOURCE: &str = "which messages are sent: hot, a small set in turn; cold, a set that no cache holds";

const KERNEL_SAYS: &str = "share of MSG_ZEROCOPY sends that the kernel copied, by their completions: counted where each send has a \
     notification of its own. \"about\": a bound, which may err on both sides, since the kernel joins the notifications of \
     neighbouring sends. \"at most\": an upper bound, of io_uring";

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

/// Why the client's cells are empty of the sender alone.
const NO_CLIENT: &str = "sender alone: nobody receives, so there is no client to measure";

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

/// The column of shapes, where there is another than the default.
fn shape_column<'a>(mut cells: impl Iterator<Item = &'a Cell>) -> Option<Column> {
    cells.any(|cell| cell.shape != Shape::default()).then(|| words_column("shape", SHAPE))
}

fn case_columns(manifest: &Manifest) -> Vec<Column> {
    let paired = any_paired(manifest);
    let by_side = |about: &str| if paired { format!("{about}. {SPLIT}") } else { about.to_owned() };
    let mut columns = vec![
        words_column(
            "path",
            "who copies: two_copy user space and kernel, one_copy the kernel, zero_copy neither unless copied. Other words are \
             explained under the machine and its settings",
        ),
        words_column("workload", WORKLOAD),
        number_column("size", "payload of a message"),
        number_column("pairs", PAIRS),
        words_column("placement", PLACEMENT),
        words_column("receiver", RECEIVER),
        words_column("source", SOURCE),
        number_column(
            "Gb/s",
            "payload bits received, divided by the time. Typical: the median of a life's rounds, averaged over \
             lives. Of the \
             baseline it is measured; of another path it is the baseline's times the ratio of the two, which is \
             taken inside of rounds",
        ),
        number_column("mean µs", "mean round trip: aggregate, with the slow ones in it"),
        number_column("p50 µs", "the median of all round trips of the case together"),
        number_column("p99 µs", "of all round trips of the case together, what 99 of 100 do not exceed"),
        number_column("p99.9 µs", "of all round trips of the case together, what 999 of 1000 do not exceed"),
        number_column("max µs", "the longest round trip"),
        number_column(
            "drain µs",
            "from the last byte received until the path is done with the burst: of zero_copy, its completions. The median \
             of the bursts, which is no part of the times to the left",
        ),
        number_column(
            "CPU ns per byte",
            "CPU time of both sides' threads per payload byte (receiver sink: the sender's, there is no other). \
             Typical, and as Gb/s: of another path than the baseline it is the baseline's by the ratio of the two",
        ),
        number_column("server CPU ns", &by_side("CPU time of the server's threads per message")),
        number_column("client CPU ns", &by_side("CPU time of the client's threads per message")),
        number_column(
            "copied",
            "share of MSG_ZEROCOPY sends that the kernel copied after all: counted, or \"about\" or \"at most\" so much",
        ),
        number_column(
            "ENOBUFS",
            "sends that were refused because no more memory may be pinned, and made again",
        ),
    ];
    columns.extend(shape_column(manifest.plan.cells.iter()));
    if !manifest.injections.is_empty() {
        columns.push(number_column(
            "injection ns",
            "sender alone: a request and an acknowledgement with no message between, which the sender injects. Part of every \
             message's time, the same for every path",
        ));
    }
    if !manifest.fragments.is_empty() {
        columns.push(number_column(
            "packets",
            "per message: what TCP hands to the link in one piece, up to 64 KiB",
        ));
        columns.push(number_column(
            "fragments",
            "per message: pieces of memory in its packets, which a network card's driver maps one by one",
        ));
    }
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
            measured(
                result.client_cpu_ns_per_message,
                &if case.receiver == Receiver::Sink {
                    NO_CLIENT.to_owned()
                } else {
                    why("CPU time was not recorded")
                },
            ),
            result.zero_copy.and_then(|counts| counts.copied()).map_or_else(
                || {
                    empty(&why(
                        "no completion: the path makes no MSG_ZEROCOPY sends, or they were not recorded",
                    ))
                },
                copied_share,
            ),
            result.zero_copy.map_or_else(
                || empty(&why("the path makes no MSG_ZEROCOPY sends, or they were not recorded")),
                |counts| value(counts.enobufs.to_string(), counts.enobufs as f64),
            ),
        ];
        cells.extend(shape_column(manifest.plan.cells.iter()).map(|_| word(case.shape.to_string())));
        if !manifest.injections.is_empty() {
            cells.push(manifest.injection_ns(case.cell()).map_or_else(
                || empty("a receiver acknowledges: nothing is injected"),
                |ns| value(number(ns), ns),
            ));
        }
        if !manifest.fragments.is_empty() {
            cells.extend(of_fragments(manifest.fragments(&case)));
        }
        cells.extend(COUNTED.iter().map(|(side, event)| {
            let no_client = *side == Side::Client && case.receiver == Receiver::Sink;
            let reason = manifest.not_counted.get(&event.to_string()).cloned();
            let reason = if no_client { Some(NO_CLIENT.to_owned()) } else { reason };
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

/// Packets and fragments of a message, with where they are from.
fn of_fragments(told: Option<&Told>) -> [Entry; 2] {
    let why_not = told.and_then(|told| told.not_counted.as_deref());
    let Some(fragments) = told.and_then(|told| told.fragments) else {
        return [(); 2].map(|()| empty(why_not.unwrap_or("no instance of this case was opened")));
    };
    let note = match (fragments.fragments_source, why_not) {
        (FragmentsSource::WorkedOut, Some(why_not)) => {
            format!("worked out, for it was not counted: {why_not}")
        }
        (source, _) => source.to_string().replace('_', " "),
    };
    [fragments.packets_per_message, fragments.fragments_per_message]
        .map(|count| Entry { note: Some(note.clone()), ..value(number(count), count) })
}

/// A row for each comparison.
pub(super) fn comparisons(analysis: &Analysis) -> Table {
    // What was found stands before what is seldom different between two rows: it is in sight without scrolling.
    let mut columns = vec![
        words_column("metric", "what is compared"),
        words_column("workload", WORKLOAD),
        number_column("size", "payload of a message"),
        number_column("pairs", PAIRS),
        words_column("receiver", RECEIVER),
        words_column("path", "the path that is compared"),
        words_column("against", "the path that it is compared with"),
        number_column(
            "difference",
            "of the value itself: more throughput is better, more time is worse. Throughput and CPU time: of \
             typical rounds, each path against the other inside of a round; p99: of all round trips together",
        ),
        number_column("from", &format!("the interval's lower end. {INTERVAL}")),
        number_column("to", &format!("the interval's upper end. {INTERVAL}")),
        words_column(
            "verdict",
            "read off the interval, and nothing else: same within the margin (2 %, of p99 10 %) where all of it \
             lies inside; faster or slower where it excludes 0; else undecided",
        ),
        number_column("instances", "independent observations"),
        words_column("placement", PLACEMENT),
        words_column("source", SOURCE),
    ];
    let shapes = shape_column(analysis.cells.iter().map(|cell| &cell.cell));
    let has_shapes = shapes.is_some();
    columns.extend(shapes);
    // In the order in which they are read: with the baseline first, which the text and summary.csv show as well.
    let baseline = analysis.cells.first().and_then(|cell| Some(cell.arms.first()?.arm.case.series()));
    let all =
        || analysis.cells.iter().flat_map(|cell| cell.comparisons.iter().map(move |found| (cell, found)));
    let is_with_baseline = |(_, found): &(&CellResult, &SeriesComparison)| Some(found.baseline) == baseline;
    let ordered: Vec<_> =
        all().filter(is_with_baseline).chain(all().filter(|found| !is_with_baseline(found))).collect();
    let remarks: Vec<String> = ordered.iter().map(|(cell, found)| remarks(cell, found).join("; ")).collect();
    let has_remarks = remarks.iter().any(|remark| !remark.is_empty());
    if has_remarks {
        columns.push(words_column("remarks", "what else is to be known of the comparison"));
    }
    let row = |(comparison, remark): (&SeriesComparison, &String)| {
        let cell = comparison.cell;
        let mut cells = vec![
            word(comparison.metric.name()),
            word(cell.workload.to_string()),
            value(bytes(cell.payload_bytes as f64), cell.payload_bytes as f64),
            value(cell.threads.to_string(), cell.threads as f64),
            word(cell.receiver.to_string()),
            word(words::plain(comparison.series)),
            word(words::plain(comparison.baseline)),
        ];
        match &comparison.outcome {
            Ok(outcome) => {
                let ratio = comparison.metric.change(outcome.ratio);
                let percent = |ratio: f64| value(difference(ratio), ratio);
                cells.extend([ratio.value, ratio.low, ratio.high].map(percent));
                let margin = comparison.metric.margin();
                cells.push(word(comparison.metric.verdict(outcome.verdict, outcome.ratio, margin)));
                cells.push(value(outcome.effect.instances.to_string(), outcome.effect.instances as f64));
            }
            Err(reason) => cells.extend((0..5).map(|_| empty(reason))),
        }
        cells.extend([word(cell.placement.to_string()), word(cell.source.to_string())]);
        if has_shapes {
            cells.push(word(cell.shape.to_string()));
        }
        if has_remarks {
            cells.push(if remark.is_empty() { empty("nothing else") } else { word(remark.clone()) });
        }
        TableRow { id: comparison_row(comparison), cells }
    };
    let rows = ordered.iter().map(|(_, found)| *found).zip(&remarks).map(row).collect();
    Table { columns, rows }
}

/// What an interval of the comparisons is.
const INTERVAL: &str = "It is as wide as the number of comparisons takes that are read together, so that of \
     those which are called \
     faster or slower at most 5 % are so by chance (false coverage rate, Benjamini and Yekutieli 2005). The \
     comparisons with the baseline are read together, and those of two other paths, each by one metric";

/// What is to be known of a comparison beside its verdict. Each is a sentence of its own.
fn remarks(cell: &CellResult, comparison: &SeriesComparison) -> Vec<String> {
    let needed = settle::seconds(cell, comparison.metric, comparison.series, comparison.baseline);
    let settled = needed.filter(|seconds| *seconds <= settle::MOST_S).map(|seconds| {
        format!(
            "a sweep of this size alone for {} would settle it",
            settle::time(seconds.max(settle::LEAST_S))
        )
    });
    let in_the_other = |state: &OtherState| {
        format!(
            "while the machine was {} ({} of the sweep's visits), which is not in the estimate: {}",
            if state.is_slower { "slower" } else { "faster" },
            format::share(state.share),
            words::gain(comparison.metric.change(state.effect.ratio()))
        )
    };
    let other = comparison.outcome.as_ref().ok().and_then(|outcome| outcome.other_state.as_ref());
    settled.into_iter().chain(other.map(in_the_other)).collect()
}

/// The row of a line of the cost model.
pub(super) fn model_row(ladder: &Ladder<'_>, series: Series) -> String {
    format!("model-{}-{}", words::id(&ladder.name()), words::id(&series.to_string()))
}

/// The cost model's lines.
pub(super) fn cost_model(fits: &[(&Ladder<'_>, Series, Option<Fit>)]) -> Table {
    let mut columns = vec![
        words_column("path", "who copies"),
        words_column("workload", WORKLOAD),
        number_column("pairs", PAIRS),
        words_column("placement", PLACEMENT),
        words_column("receiver", RECEIVER),
        words_column("source", SOURCE),
        number_column("fixed ns", "the time that a message takes on a pair, whatever its size"),
        number_column("ns per KiB", "the time that each KiB adds"),
        number_column(
            "fixed, more than the baseline",
            "the difference of the two lines' fixed costs, in ns, from ratios that are taken inside of rounds: \
             what moves both alike is not in its interval",
        ),
        number_column(
            "per KiB, more than the baseline",
            "the difference of what each KiB adds, in ns, likewise",
        ),
        number_column("worst misfit", "the largest distance between a measured time and the line"),
        number_column("at", "the size with the worst misfit"),
        words_column(
            "straight",
            "whether the line is within 10 % of each measured time: else it has no interval",
        ),
    ];
    let shapes = shape_column(fits.iter().flat_map(|(ladder, ..)| &ladder.cells).map(|cell| &cell.cell));
    let has_shapes = shapes.is_some();
    columns.extend(shapes);
    let fit_of = |of: &Ladder<'_>, series: Series| {
        let found = fits.iter().find(|(ladder, one, _)| ladder.name() == of.name() && *one == series);
        found.and_then(|(_, _, fit)| fit.as_ref())
    };
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
        let Some(fit) = fit else {
            cells.extend((0..7).map(|_| empty("a line needs three measured sizes")));
            cells.extend(has_shapes.then(|| word(situation.shape.to_string())));
            return TableRow { id: model_row(ladder, *series), cells };
        };
        let baseline = fits.first().map(|(_, baseline, _)| *baseline).filter(|baseline| baseline != series);
        let baseline = baseline.and_then(|baseline| fit_of(ladder, baseline));
        let no_interval = |fits: &[&Fit]| {
            if fits.iter().any(|fit| fit.missed().is_some()) {
                "no interval: the times do not lie on a straight line"
            } else {
                "no interval: too few instances"
            }
        };
        let entry = |measure: Measure, fits: &[&Fit]| Entry {
            note: measure.interval.is_none().then(|| no_interval(fits).to_owned()),
            ..value(words::measure(measure), measure.value)
        };
        cells.extend([entry(fit.fixed_ns, &[fit]), entry(fit.ns_per_kib, &[fit])]);
        match baseline {
            Some(baseline) => {
                let (fixed, by_kib) = fit.minus(baseline);
                cells.extend([fixed, by_kib].map(|measure| entry(measure, &[fit, baseline])));
            }
            None => cells.extend((0..2).map(|_| empty("this is the baseline, or the baseline has no line"))),
        }
        match fit.worst_misfit() {
            Some((at, ratio)) => cells
                .extend([value(difference(ratio), (ratio - 1.0).abs()), value(bytes(at as f64), at as f64)]),
            None => cells.extend([empty("no size"), empty("no size")]),
        }
        cells.push(word(match fit.missed() {
            None => "yes".to_owned(),
            Some((at, ratio)) => format!(
                "no: {} takes {} {} than the line says",
                bytes(at as f64),
                distance((ratio - 1.0).abs()),
                if ratio > 1.0 { "longer" } else { "less" }
            ),
        }));
        cells.extend(has_shapes.then(|| word(situation.shape.to_string())));
        TableRow { id: model_row(ladder, *series), cells }
    };
    Table { columns, rows: fits.iter().map(row).collect() }
}

/// Who copied how much of a message, by series, receiver, source, shape and size.
pub(super) fn ledger(manifest: &Manifest, analysis: &Analysis) -> Section {
    let mut columns = vec![
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
        number_column("kernel says", KERNEL_SAYS),
        words_column(
            "seen",
            "what the client found in messages of which every byte was overwritten right after the call: as they were \
             sent, so copied by then (or read by a device); as overwritten, so shared until then",
        ),
    ];
    let shapes = shape_column(analysis.cells.iter().map(|cell| &cell.cell));
    let has_shapes = shapes.is_some();
    columns.extend(shapes);
    let maps = analysis.cells.iter().any(|cell| cell.cell.receiver == Receiver::Mmap);
    columns.extend(maps.then(|| {
        number_column(
            "mapped",
            "bytes that the client received by mapping the pages that they came in: copied by nobody",
        )
    }));
    let mut kinds: Vec<(Reception, usize)> = Vec::new();
    for cell in &analysis.cells {
        let kind = (Reception::of(cell.cell), cell.cell.payload_bytes);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.sort_by_key(|(reception, size)| {
        let Reception { receiver, source, shape } = *reception;
        (receiver as usize, source as usize, shape, *size)
    });
    let mut rows = Vec::new();
    for &series in &manifest.plan.series {
        for &(reception, size) in &kinds {
            let Reception { receiver, source, shape } = reception;
            let arms: Vec<&ArmResult> = analysis
                .cells
                .iter()
                .flat_map(|cell| &cell.arms)
                .filter(|arm| ledger_row(arm) == ledger_row_of(series, reception, size))
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
            cells.push(kernel_says(&arms));
            cells.push(seen(&arms, receiver));
            cells.extend(has_shapes.then(|| word(shape.to_string())));
            cells.extend(maps.then(|| {
                let mapped = sum(|arm| arm.copies.1.mapped_bytes);
                value(number(mapped), mapped)
            }));
            rows.push(TableRow { id: ledger_row_of(series, reception, size), cells });
        }
    }
    Section {
        method: "Bytes per message that a CPU copied, as the paths count them: what they packed themselves, what \
                 their calls returned, and for MSG_ZEROCOPY the bytes of the calls whose completion says that the \
                 kernel copied. What the network device does is not in it. \"kernel says\" and \"seen\" are two tests of \
                 one thing: the completions' flag, and what the client found in a few messages, outside of all times, that \
                 the sender overwrote right after its call had returned."
            .to_owned(),
        table: Table { columns, rows },
        claims: copy_causes(manifest, analysis),
    }
}

/// What the kernel said of the sends of `arms`.
fn kernel_says(arms: &[&ArmResult]) -> Entry {
    let Some(counts) = sum(arms.iter().filter_map(|arm| arm.zero_copy)) else {
        return empty("nothing: the path makes no MSG_ZEROCOPY sends, or they were not recorded");
    };
    counts.copied().map_or_else(|| empty("nothing: no completion arrived"), copied_share)
}

/// A share with what it is, and why.
fn copied_share(copied: CopiedShare) -> Entry {
    let note = copied.bound.reason().map(str::to_owned);
    Entry { note, ..value(copied.to_string(), copied.share) }
}

/// What was seen of overwritten messages of `arms`.
fn seen(arms: &[&ArmResult], receiver: Receiver) -> Entry {
    let Some(seen) = sum(arms.iter().filter_map(|arm| arm.seen)) else {
        return empty(why_not_seen(receiver));
    };
    let text = match (seen.old_bytes, seen.new_bytes) {
        (_, 0) => "all as sent".to_owned(),
        (0, _) => "all as overwritten".to_owned(),
        (old, new) => format!("{} as sent", format::share(old as f64 / (old + new) as f64)),
    };
    Entry { note: Some(seen.to_string()), ..word(text) }
}

fn sum<T: AddAssign>(all: impl Iterator<Item = T>) -> Option<T> {
    all.reduce(|mut sum, next| {
        sum += next;
        sum
    })
}

/// Where nobody receives, nobody sees what was overwritten. What each KiB costs the sender stands for it: a copy takes
/// time by the byte.
pub(super) fn costs_per_kib(manifest: &Manifest, ladders: &[Ladder<'_>]) -> Vec<Claim> {
    let claim = |ladder: &Ladder<'_>| {
        let mut costs: Vec<(String, f64, [&ArmResult; 2])> = Vec::new();
        for &series in &manifest.plan.series {
            let arms: Vec<&ArmResult> = ladder
                .arms(series)
                .filter(|arm| stands_in_ledger(manifest, arm) && message_ns(arm).is_some())
                .collect();
            let Some(&[below, above]) = arms.last_chunk() else { continue };
            let [from, to] = [below, above].map(|arm| arm.arm.case.payload_bytes);
            let ns = message_ns(above)?.value - message_ns(below)?.value;
            let of_kib = (to - from) as f64 / 1024.0;
            let copied = Copied::of([below, above].into_iter());
            costs.push((words::series(series, copied), ns / of_kib, [below, above]));
        }
        let sizes = |arms: &[&ArmResult; 2]| arms.map(|arm| arm.arm.case.payload_bytes);
        let [from, to] = sizes(&costs.first()?.2);
        // Only what was measured between the same two sizes is alike.
        costs.retain(|(_, _, arms)| sizes(arms) == [from, to]);
        let shown: Vec<String> =
            costs.iter().map(|(name, ns, _)| format!("{name} {} ns", number(*ns))).collect();
        Some(Claim {
            text: format!(
                "{}: nobody receives, so no overwritten byte is seen. What speaks for the flag is the cost: from {} to {}, \
                 each KiB costs the sender {}.",
                ladder_name(ladder),
                bytes(from as f64),
                bytes(to as f64),
                shown.join(", ")
            ),
            rows: costs.iter().flat_map(|(_, _, arms)| arms.map(ledger_row)).collect(),
        })
    };
    ladders.iter().filter(|ladder| ladder.situation.receiver == Receiver::Sink).filter_map(claim).collect()
}

/// Where what was seen contradicts what the kernel said.
pub(super) fn contradictions(manifest: &Manifest, analysis: &Analysis) -> Vec<String> {
    let is_local =
        manifest.environment.as_ref().is_some_and(|environment| environment.effective.stays_in_memory());
    let arms = analysis.cells.iter().flat_map(|cell| &cell.arms);
    arms.filter_map(|result| {
        let text = result.seen?.contradiction(result.zero_copy.as_ref(), is_local)?;
        Some(format!("Contradiction: {}: {text}.", result.arm.case))
    })
    .collect()
}

/// Where the kernel sent segments again, so that the times are those of a link with loss.
pub(super) fn sent_again(analysis: &Analysis) -> Vec<String> {
    let arms = analysis.cells.iter().flat_map(|cell| &cell.arms);
    arms.filter_map(|result| {
        let segments = result.retransmitted_segments.filter(|segments| *segments > 0)?;
        let (were, control) =
            (if segments == 1 { "segment was" } else { "segments were" }, result.arm.control);
        Some(format!(
            "Sent again: {}{}: {segments} TCP {were} sent more than once, in {} messages. The times contain that.",
            result.arm.case,
            if control { " (control)" } else { "" },
            result.copied_messages
        ))
    })
    .collect()
}

/// Where the allocator put messages of the layout `heap` on huge pages: other machines' do not lie there.
pub(super) fn heap_on_huge_pages(manifest: &Manifest) -> Option<String> {
    let huge: Vec<_> =
        manifest.heap_pages.iter().filter(|heap| heap.is_huge).map(|heap| heap.case.as_str()).collect();
    (!huge.is_empty()).then(|| {
        format!(
            "On huge pages, by the allocator: {}. A message lies on fewer fragments there than the layout heap has elsewhere \
             (GLIBC_TUNABLES, or transparent huge pages: always).",
            huge.join(", ")
        )
    })
}

/// Why the kernel copied, by the way that the messages took: to a receiver, or into the sink.
fn copy_causes(manifest: &Manifest, analysis: &Analysis) -> Vec<Claim> {
    let of_way = |sink: bool| {
        let arms = analysis.cells.iter().flat_map(|cell| &cell.arms);
        let arms = arms.filter(|arm| (arm.arm.case.receiver == Receiver::Sink) == sink);
        let arms = arms.filter(|arm| stands_in_ledger(manifest, arm));
        let shares = arms.filter_map(|arm| Some((arm, arm.zero_copy?.copied()?)));
        let shares: Vec<(&ArmResult, CopiedShare)> = shares.collect();
        let (first, _) = shares.first()?;
        let found = manifest.copy_causes.to(first.arm.case.receiver)?.to_vec();
        let most = CopiedShare {
            share: shares.iter().map(|(_, copied)| copied.share).fold(0.0, f64::max),
            bound: shares.iter().map(|(_, copied)| copied.bound).max()?,
        };
        let causes = copy_cause::that_explain(most, found);
        if most.share == 0.0 && causes.is_empty() {
            return None;
        }
        let way = if sink { "In the sink" } else { "On the way to a receiver" };
        let text = format!(
            "{way}, why zero_copy was copied, as found when the sweep began: {}.",
            copy_cause::in_words(&causes)
        );
        let mut rows: Vec<String> = shares
            .iter()
            .filter(|(_, copied)| copied.share > 0.0 || most.share == 0.0)
            .map(|(arm, _)| ledger_row(arm))
            .collect();
        rows.dedup();
        Some(Claim { text, rows })
    };
    [false, true].into_iter().filter_map(of_way).collect()
}

/// That the sink copies nothing, where the timed sends cannot say it: what was counted before the sweep.
pub(super) fn sink_proof(manifest: &Manifest, analysis: &Analysis) -> Option<Claim> {
    let check = manifest.checks.iter().find(|check| check.name == SINK)?;
    let (counted, _) = check.found.trim_start_matches("tried: ").split_once(ONE_BY_ONE)?;
    let arms = analysis.cells.iter().flat_map(|cell| &cell.arms);
    let is_bound = |arm: &&ArmResult| {
        let bound = arm.zero_copy.and_then(|counts| counts.copied_is_bound());
        arm.arm.case.receiver == Receiver::Sink && bound.is_some_and(|bound| bound != CopiedBound::Exact)
    };
    let mut rows: Vec<String> =
        arms.filter(is_bound).filter(|arm| stands_in_ledger(manifest, arm)).map(ledger_row).collect();
    rows.dedup();
    let text = format!(
        "Into the sink, before the sweep and with one send in flight: {counted}{ONE_BY_ONE}. Of the sends of the sweep, several are in \
         flight."
    );
    (!rows.is_empty()).then_some(Claim { text, rows })
}

fn ledger_row_of(series: Series, reception: Reception, size: usize) -> String {
    let Reception { receiver, source, shape } = reception;
    let end = Situation { receiver, source, shape, ..Case::default().cell().situation() }.departures();
    words::id(&format!("copies-{series}-{size}B{end}"))
}

/// The row of the copy ledger that an arm is counted in.
pub(super) fn ledger_row(result: &ArmResult) -> String {
    let case = result.arm.case;
    ledger_row_of(case.series(), Reception::of(case.cell()), case.payload_bytes)
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
    lines.extend(words::explained(&manifest.plan));
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
    format!(
        "{} ({}{})",
        pairs(ladder.threads),
        words::situation(ladder.situation),
        fragment_cost::added_to(ladder)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::analysis::analyse_stored;
    use crate::results::manifest::HeapPages;
    use crate::results::samples_csv::tests::record;
    use crate::results::store::tests::manifest;

    #[test]
    fn what_was_sent_again_is_said_of_its_case_and_nothing_of_what_was_not_recorded() {
        let mut record = record();
        record.arm.control = false;
        let said = sent_again(&analyse_stored(&manifest(), &[record.clone(), record.clone()]));
        assert!(
            matches!(&said[..], [one] if one.contains("12 TCP segments were sent more than once")),
            "{said:?}"
        );
        for segments in [Some(0), None] {
            record.outcome.as_mut().unwrap().server.retransmitted_segments = segments;
            assert!(sent_again(&analyse_stored(&manifest(), &[record.clone()])).is_empty());
        }
    }

    #[test]
    fn a_heap_on_huge_pages_is_said() {
        let mut manifest = manifest();
        let heap = |case: &str, is_huge| HeapPages { case: case.to_owned(), is_huge };
        manifest.heap_pages = vec![heap("one", false)];
        assert_eq!(heap_on_huge_pages(&manifest), None);
        manifest.heap_pages.push(heap("two", true));
        assert!(heap_on_huge_pages(&manifest).is_some_and(|text| text.contains("allocator: two. A message")));
    }
}
