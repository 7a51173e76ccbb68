//! The tables: every case, every comparison, the cost model, the copy ledger.

use std::ops::AddAssign;

use super::columns::{self, Col, count, empty, found, numbers, value, word};
use super::page::{Claim, Entry, Section, Table};
use super::settle;
use super::words::{self, Copied, case_row, comparison_row};
use crate::case::{Case, Cell, Placement, Receiver, Series, Shape, Situation};
use crate::check::{ONE_BY_ONE, SINK};
use crate::environment::copy_cause;
use crate::event::Event;
use crate::format::{self, difference, distance, number, size};
use crate::fragments::{Fragments, FragmentsSource, Told};
use crate::in_order::{distinct, grouped};
use crate::results::analysis::{Analysis, ArmResult, CellResult, Measure, SeriesComparison, SeriesOutcome};
use crate::results::cost_model::Fit;
use crate::results::ladder::{Ladder, message_ns};
use crate::results::manifest::{Manifest, Plan};
use crate::results::states::OtherState;
use crate::sample::{CopiedBound, CopiedShare, Copies, Side, why_not_seen};

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

/// Where something was measured: workload, size, pairs, placement, receiver, source and shape.
fn places<'a, T: 'a>(cell: fn(&T) -> Cell) -> [Col<'a, T>; 7] {
    [
        columns::words("workload", "rr: request and response; stream: messages back to back", move |row| {
            word(cell(row).workload)
        }),
        numbers("size", "payload of a message", move |row| sized(cell(row).payload_bytes)),
        numbers("connections", "server and client threads, one of each to a connection", move |row| {
            count(cell(row).threads as u64)
        }),
        columns::words("placement", "where the two ends of a connection run", move |row| {
            word(cell(row).placement)
        }),
        columns::words(
            "receiver",
            "how the client takes the bytes in, the same for every path that is compared; matched: as the path sends; sink: \
             nobody receives, the sender alone",
            move |row| word(cell(row).receiver),
        ),
        columns::words(
            "source",
            "which messages are sent: hot, a small set in turn; cold, a set that no cache holds",
            move |row| word(cell(row).source),
        ),
        columns::words(
            "shape",
            "how the payload is cut into fields: equal, eight equal ones; header, 24 bytes and the rest; fields:N, N equal \
             ones; sizes; a trace, messages of several shapes in turn, with their mean size",
            move |row| word(cell(row).shape),
        ),
    ]
}

/// Whether there is another shape than the default, so that it has a column.
fn any_shaped(analysis: &Analysis) -> bool {
    analysis.cells.iter().any(|cell| cell.cell.shape != Shape::default())
}

fn sized(payload_bytes: usize) -> Entry {
    value(size(payload_bytes as f64), payload_bytes as f64)
}

fn plain(number: f64) -> Entry {
    value(format::number(number), number)
}

fn measured(measure: Option<Measure>, why_not: &str) -> Entry {
    let entry = |measure: Measure| {
        let note = measure.interval.map_or_else(
            || "no interval: too few instances, or a count of zero among them".to_owned(),
            |(low, high)| format!("95 %: {} to {}", number(low), number(high)),
        );
        Entry { note: Some(note), ..plain(measure.value) }
    };
    found(measure.map(entry), why_not)
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

/// Why there is no CPU time.
const UNTOLD: &str = "CPU time was not recorded";

/// Why a case has no number: it failed, or else for this reason.
fn why<'a>(arm: &'a ArmResult, reason: &'a str) -> &'a str {
    arm.error.as_deref().unwrap_or(reason)
}

/// The columns of round trips, in microseconds.
fn round_trips<'a>() -> [Col<'a, ArmResult>; 5] {
    let trips = |arm: &ArmResult, entry: Option<Entry>| {
        found(entry, why(arm, "a stream has no round trips, or too few were timed for this quantile"))
    };
    let us = |name: &str, about: &str, of: fn(&ArmResult) -> Option<Measure>| {
        numbers(name, about, move |arm: &ArmResult| {
            trips(arm, of(arm).map(|measure| measured(Some(measure.scaled(1e-3)), "")))
        })
    };
    [
        us("mean µs", "mean round trip: aggregate, with the slow ones in it", |arm| arm.rtt_mean_ns),
        us("p50 µs", "the median of all round trips of the case together", |arm| arm.rtt_quantiles_ns[0].1),
        us("p99 µs", "of all round trips of the case together, what 99 of 100 do not exceed", |arm| {
            arm.rtt_quantiles_ns[2].1
        }),
        us("p99.9 µs", "of all round trips of the case together, what 999 of 1000 do not exceed", |arm| {
            arm.rtt_quantiles_ns[3].1
        }),
        numbers("max µs", "the longest round trip", move |arm: &ArmResult| {
            trips(arm, arm.rtt_max_ns.map(|ns| value(number(ns as f64 / 1e3), ns as f64)))
        }),
    ]
}

/// The columns of each side: CPU time, and what was counted.
fn of_sides(manifest: &Manifest) -> ([Col<'_, ArmResult>; 2], impl Iterator<Item = Col<'_, ArmResult>>) {
    let paired = any_paired(manifest);
    let by_side = move |about: &str| if paired { format!("{about}. {SPLIT}") } else { about.to_owned() };
    // Of what nobody receives there is no client to measure.
    let or_no_client = move |side: Side, arm: &ArmResult, entry: Entry| {
        let has_none = side == Side::Client && arm.arm.case.receiver == Receiver::Sink;
        if has_none { empty(NO_CLIENT) } else { entry }
    };
    let cpu = |side: Side| {
        let about = by_side(&format!("CPU time of the {side}'s threads per message"));
        numbers(&format!("{side} CPU ns"), &about, move |arm: &ArmResult| {
            let cpu_ns = arm.cpu_ns_per_message[side as usize];
            or_no_client(side, arm, measured(cpu_ns, why(arm, UNTOLD)))
        })
    };
    let events = COUNTED.iter().map(move |&(side, event)| {
        let about = format!("{} of the {side}'s threads per message, kernel included", event.unit());
        numbers(&format!("{side} {}", event.unit()), &by_side(&about), move |arm: &ArmResult| {
            let reason = manifest.not_counted.get(&event.to_string()).map(String::as_str);
            let why_not = reason.unwrap_or_else(|| why(arm, "it was not counted"));
            or_no_client(side, arm, measured(arm.counted.per_message(side, event), why_not))
        })
    });
    ([Side::Server, Side::Client].map(cpu), events)
}

/// The columns of what was found out of a case's sends beside their times, where it was.
fn of_the_send(manifest: &Manifest) -> Vec<Col<'_, ArmResult>> {
    let fragments = |name: &str, about: &str, of: fn(&Fragments) -> f64| {
        numbers(name, about, move |arm: &ArmResult| of_fragments(manifest.fragments(&arm.arm.case), of))
    };
    let mut columns = Vec::new();
    if !manifest.injections.is_empty() {
        columns.push(numbers(
            "injection ns",
            "sender alone: a request and an acknowledgement with no message between, which the sender injects. Part of every \
             message's time, the same for every path",
            |arm: &ArmResult| {
                let ns = manifest.injection_ns(arm.arm.case.cell()).map(plain);
                found(ns, "a receiver acknowledges: nothing is injected")
            },
        ));
    }
    if !manifest.fragments.is_empty() {
        columns.extend([
            fragments(
                "packets",
                "per message: what TCP hands to the link in one piece, up to 64 KiB",
                |told| told.packets_per_message,
            ),
            fragments(
                "fragments",
                "per message: pieces of memory in its packets, which a network card's driver maps one by one",
                |told| told.fragments_per_message,
            ),
        ]);
    }
    columns
}

/// A row for each arm.
pub(super) fn cases(manifest: &Manifest, analysis: &Analysis) -> Table {
    let [workload, size, pairs, placement, receiver, source, shape] =
        places(|arm: &ArmResult| arm.arm.case.cell());
    let [mean, p50, p99, p999, max] = round_trips();
    let ([server_cpu, client_cpu], events) = of_sides(manifest);
    let name = |arm: &ArmResult| {
        let control = if arm.arm.control { " (control)" } else { "" };
        let name = words::series(arm.arm.case.series(), Copied::of(std::iter::once(arm)));
        Entry { note: arm.error.clone(), ..word(name + control) }
    };
    let mut columns = vec![
        columns::words(
            "path",
            "who copies: two_copy user space and kernel, one_copy the kernel, zero_copy neither unless copied. Other words are \
             explained under the machine and its settings",
            name,
        ),
        workload,
        size,
        pairs,
        placement,
        receiver,
        source,
        numbers(
            "Gb/s",
            "payload bits received, divided by the time. Typical: the median of a life's rounds, averaged over \
             lives. Of the \
             baseline it is measured; of another path it is the baseline's times the ratio of the two, which is \
             taken inside of rounds",
            |arm: &ArmResult| measured(arm.throughput_gbps, why(arm, "no burst of this case was timed")),
        ),
        mean,
        p50,
        p99,
        p999,
        max,
        numbers(
            "drain µs",
            "from the last byte received until the path is done with the burst: of zero_copy, its completions. The median \
             of the bursts, which is no part of the times to the left",
            |arm: &ArmResult| {
                let drain = arm.drain_ns_per_burst.map(|ns| value(number(ns / 1e3), ns));
                found(drain, why(arm, "no burst of this case was timed"))
            },
        ),
        numbers(
            "CPU ns per byte",
            "CPU time of both sides' threads per payload byte (receiver sink: the sender's, there is no other). \
             Typical, and as Gb/s: of another path than the baseline it is the baseline's by the ratio of the two",
            |arm: &ArmResult| measured(arm.cpu_ns_per_byte, why(arm, UNTOLD)),
        ),
        server_cpu,
        client_cpu,
        numbers(
            "copied",
            "share of MSG_ZEROCOPY sends that the kernel copied after all: counted, or \"about\" or \"at most\" so much",
            |arm: &ArmResult| {
                let reason = "no completion: the path makes no MSG_ZEROCOPY sends, or they were not recorded";
                found(arm.zero_copy.and_then(|counts| counts.copied()).map(copied_share), why(arm, reason))
            },
        ),
        numbers(
            "ENOBUFS",
            "sends that were refused because no more memory may be pinned, and made again",
            |arm: &ArmResult| {
                let reason = "the path makes no MSG_ZEROCOPY sends, or they were not recorded";
                found(arm.zero_copy.map(|counts| count(counts.enobufs)), why(arm, reason))
            },
        ),
    ];
    columns.extend(any_shaped(analysis).then_some(shape));
    columns.extend(of_the_send(manifest));
    columns.extend(events);
    columns::table(analysis.arms(), |arm| case_row(arm.arm), columns)
}

/// Packets or fragments of a message, with where they are from.
fn of_fragments(told: Option<&Told>, of: fn(&Fragments) -> f64) -> Entry {
    let why_not = told.and_then(|told| told.not_counted.as_deref());
    let Some(fragments) = told.and_then(|told| told.fragments) else {
        return empty(why_not.unwrap_or("no instance of this case was opened"));
    };
    let note = match (fragments.fragments_source, why_not) {
        (FragmentsSource::WorkedOut, Some(why_not)) => {
            format!("worked out, for it was not counted: {why_not}")
        }
        (source, _) => source.to_string().replace('_', " "),
    };
    Entry { note: Some(note), ..plain(of(&fragments)) }
}

/// A row of the comparisons.
type Compared<'a> = (&'a CellResult, &'a SeriesComparison);

/// A row for each comparison.
pub(super) fn comparisons(analysis: &Analysis) -> Table {
    // In the order in which they are read: with the baseline first, which the text and summary.csv
    // show as well.
    let baseline = analysis.cells.first().and_then(|cell| Some(cell.arms.first()?.arm.case.series()));
    let all = analysis.cells.iter().flat_map(|cell| cell.comparisons.iter().map(move |found| (cell, found)));
    let (mut rows, others): (Vec<_>, Vec<_>) = all.partition(|(_, found)| Some(found.baseline) == baseline);
    rows.extend(others);
    let [workload, size, pairs, placement, receiver, source, shape] =
        places(|(cell, _): &Compared<'_>| cell.cell);
    let of = |entry: fn(&SeriesComparison, &SeriesOutcome) -> Entry| {
        move |(_, found): &Compared<'_>| match &found.outcome {
            Ok(outcome) => entry(found, outcome),
            Err(reason) => empty(reason),
        }
    };
    // What was found stands before what is seldom different between two rows: it is in sight
    // without scrolling.
    let mut columns = vec![
        columns::words("metric", "what is compared", |(_, found): &Compared<'_>| word(found.metric.name())),
        workload,
        size,
        pairs,
        receiver,
        columns::words("path", "the path that is compared", |(_, found): &Compared<'_>| {
            word(words::plain(found.series))
        }),
        columns::words("against", "the path that it is compared with", |(_, found): &Compared<'_>| {
            word(words::plain(found.baseline))
        }),
        numbers(
            "difference",
            "of the value itself: more throughput is better, more time is worse. Throughput and CPU time: of \
             typical rounds, each path against the other inside of a round; p99: of all round trips together",
            of(|found, outcome| percent(found.metric.change(outcome.ratio).value)),
        ),
        numbers(
            "from",
            &format!("the interval's lower end. {INTERVAL}"),
            of(|found, outcome| percent(found.metric.change(outcome.ratio).low)),
        ),
        numbers(
            "to",
            &format!("the interval's upper end. {INTERVAL}"),
            of(|found, outcome| percent(found.metric.change(outcome.ratio).high)),
        ),
        columns::words(
            "verdict",
            "read off the interval, and nothing else: same within the margin (2 %, of p99 10 %) where all of it \
             lies inside; faster or slower where it excludes 0; else undecided",
            of(|SeriesComparison { metric, .. }, outcome| {
                word(metric.verdict(outcome.verdict, outcome.ratio, metric.margin()))
            }),
        ),
        numbers(
            "instances",
            "independent observations",
            of(|_, outcome| count(outcome.effect.instances as u64)),
        ),
        placement,
        source,
    ];
    columns.extend(any_shaped(analysis).then_some(shape));
    if rows.iter().any(|(cell, found)| !remarks(cell, found).is_empty()) {
        columns.push(columns::words(
            "remarks",
            "what else is to be known of the comparison",
            |(cell, comparison): &Compared<'_>| {
                let remarks = remarks(cell, comparison);
                found((!remarks.is_empty()).then(|| word(remarks.join("; "))), "nothing else")
            },
        ));
    }
    columns::table(&rows, |(_, found)| comparison_row(found), columns)
}

fn percent(ratio: f64) -> Entry {
    value(difference(ratio), ratio)
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
pub(super) fn cost_model(analysis: &Analysis, fits: &[(&Ladder<'_>, Series, Option<Fit>)]) -> Table {
    type Row<'a> = (&'a Ladder<'a>, Series, Option<Fit>);
    let [workload, _, pairs, placement, receiver, source, shape] =
        places(|(ladder, ..): &Row<'_>| ladder.cells[0].cell);
    let of = |entry: fn(&Fit) -> Entry| {
        move |(_, _, fit): &Row<'_>| found(fit.as_ref().map(entry), "a line needs three measured sizes")
    };
    // By how much a line exceeds that of the baseline, which is the first series.
    let more = |part: fn((Measure, Measure)) -> Measure| {
        move |(ladder, series, fit): &Row<'_>| {
            let baseline = fits.first().map(|(_, baseline, _)| *baseline).filter(|first| first != series);
            let is_baseline = |(at, one, _): &&(&Ladder<'_>, Series, Option<Fit>)| {
                at.name() == ladder.name() && Some(*one) == baseline
            };
            let baseline = fits.iter().find(is_baseline).and_then(|(_, _, fit)| fit.as_ref());
            match (fit, baseline) {
                (None, _) => empty("a line needs three measured sizes"),
                (_, None) => empty("this is the baseline, or the baseline has no line"),
                (Some(fit), Some(baseline)) => of_line(part(fit.minus(baseline)), &[fit, baseline]),
            }
        }
    };
    let mut columns = vec![
        columns::words("path", "who copies", |(ladder, series, _): &Row<'_>| {
            word(words::series(*series, Copied::of(ladder.arms(*series))))
        }),
        workload,
        pairs,
        placement,
        receiver,
        source,
        numbers(
            "fixed ns",
            "the time that a message takes on a connection, whatever its size",
            of(|fit| of_line(fit.fixed_ns, &[fit])),
        ),
        numbers("ns per KiB", "the time that each KiB adds", of(|fit| of_line(fit.ns_per_kib, &[fit]))),
        numbers(
            "fixed, more than the baseline",
            "the difference of the two lines' fixed costs, in ns, from ratios that are taken inside of rounds: \
             what moves both alike is not in its interval",
            more(|(fixed, _)| fixed),
        ),
        numbers(
            "per KiB, more than the baseline",
            "the difference of what each KiB adds, in ns, likewise",
            more(|(_, by_kib)| by_kib),
        ),
        numbers(
            "worst misfit",
            "the largest distance between a measured time and the line",
            of(|fit| {
                let worst = fit.worst_misfit();
                found(worst.map(|(_, ratio)| value(difference(ratio), (ratio - 1.0).abs())), "no size")
            }),
        ),
        numbers(
            "at",
            "the size with the worst misfit",
            of(|fit| found(fit.worst_misfit().map(|(at, _)| sized(at)), "no size")),
        ),
        columns::words(
            "straight",
            "whether the line is within 10 % of each measured time: else it has no interval",
            of(|fit| {
                word(fit.missed().map_or_else(
                    || "yes".to_owned(),
                    |(at, ratio)| {
                        let far = distance((ratio - 1.0).abs());
                        let less = if ratio > 1.0 { "longer" } else { "less" };
                        format!("no: {} takes {far} {less} than the line says", size(at as f64))
                    },
                ))
            }),
        ),
    ];
    columns.extend(any_shaped(analysis).then_some(shape));
    columns::table(fits, |(ladder, series, _)| model_row(ladder, *series), columns)
}

/// A cost by some lines.
fn of_line(cost: Measure, lines: &[&Fit]) -> Entry {
    let why_not = if lines.iter().any(|line| line.missed().is_some()) {
        "no interval: the times do not lie on a straight line"
    } else {
        "no interval: too few instances"
    };
    let note = cost.interval.is_none().then(|| why_not.to_owned());
    Entry { note, ..value(words::measure(cost), cost.value) }
}

/// Who copied how much of a message, by series, receiver, source, shape and size.
pub(super) fn ledger(manifest: &Manifest, analysis: &Analysis) -> Section {
    type Row<'a> = Vec<&'a ArmResult>;
    let [_, size, _, _, receiver, source, shape] = places(|arms: &Row<'_>| arms[0].arm.case.cell());
    let mut arms: Vec<_> = analysis.arms().filter(|arm| stands_in_ledger(manifest, arm)).collect();
    arms.sort_by_key(|arm| {
        let Case { receiver, source, shape, payload_bytes, .. } = arm.arm.case;
        let series = manifest.plan.series.iter().position(|one| *one == arm.arm.case.series());
        (series, receiver as usize, source as usize, shape, payload_bytes)
    });
    let rows = grouped(arms.into_iter().map(|arm| (ledger_row(arm), arm)));
    let rows: Vec<Row<'_>> = rows.into_iter().map(|(_, arms)| arms).collect();
    let copied = |name: &str, about: &str, of: fn(&Copies, &Copies) -> u64| {
        numbers(name, about, move |arms: &Row<'_>| plain(by_message(arms, of)))
    };
    let mut columns = vec![
        columns::words("path", "who copies", |arms: &Row<'_>| {
            word(words::series(arms[0].arm.case.series(), Copied::of(arms.iter().copied())))
        }),
        size,
        receiver,
        source,
        copied("server packs", "bytes copied from user memory to user memory", |server, _| {
            server.user_to_user_bytes
        }),
        copied("into the kernel", "bytes copied from user memory before the call returned", |server, _| {
            server.user_to_kernel_bytes
        }),
        copied(
            "deferred",
            "bytes sent by MSG_ZEROCOPY whose completion says that the kernel copied them after all",
            |server, _| server.deferred_bytes,
        ),
        copied("out of the kernel", "bytes copied to user memory on the client", |_, client| {
            client.kernel_to_user_bytes
        }),
        copied("client unpacks", "bytes copied from user memory to user memory", |_, client| {
            client.user_to_user_bytes
        }),
        numbers("copies", "the sum of these per payload byte", |arms: &Row<'_>| {
            plain(by_message(arms, all_copied) / arms[0].arm.case.payload_bytes as f64)
        }),
        numbers("kernel says", KERNEL_SAYS, |arms: &Row<'_>| kernel_says(arms)),
        columns::words(
            "seen",
            "what the client found in messages of which every byte was overwritten right after the call: as they were \
             sent, so copied by then (or read by a device); as overwritten, so shared until then",
            |arms: &Row<'_>| seen(arms),
        ),
    ];
    columns.extend(any_shaped(analysis).then_some(shape));
    if analysis.cells.iter().any(|cell| cell.cell.receiver == Receiver::Mmap) {
        columns.push(copied(
            "mapped",
            "bytes that the client received by mapping the pages that they came in: copied by nobody",
            |_, client| client.mapped_bytes,
        ));
    }
    Section {
        method: "Bytes per message that a CPU copied, as the paths count them: what they packed themselves, what \
                 their calls returned, and for MSG_ZEROCOPY the bytes of the calls whose completion says that the \
                 kernel copied. What the network device does is not in it. \"kernel says\" and \"seen\" are two tests of \
                 one thing: the completions' flag, and what the client found in a few messages, outside of all times, that \
                 the sender overwrote right after its call had returned."
            .to_owned(),
        table: columns::table(&rows, |arms| ledger_row(arms[0]), columns),
        claims: copy_causes(manifest, analysis),
    }
}

/// What server and client copied of a message, over some arms.
fn by_message(arms: &[&ArmResult], of: fn(&Copies, &Copies) -> u64) -> f64 {
    let all: u64 = arms.iter().map(|arm| of(&arm.copies.0, &arm.copies.1)).sum();
    all as f64 / arms.iter().map(|arm| arm.copied_messages).sum::<u64>() as f64
}

/// All that a CPU copied.
fn all_copied(server: &Copies, client: &Copies) -> u64 {
    server.user_to_user_bytes
        + server.user_to_kernel_bytes
        + server.deferred_bytes
        + client.kernel_to_user_bytes
        + client.user_to_user_bytes
}

/// What the kernel said of the sends of `arms`.
fn kernel_says(arms: &[&ArmResult]) -> Entry {
    let Some(counts) = sum(arms.iter().filter_map(|arm| arm.zero_copy)) else {
        return empty("nothing: the path makes no MSG_ZEROCOPY sends, or they were not recorded");
    };
    found(counts.copied().map(copied_share), "nothing: no completion arrived")
}

/// A share with what it is, and why.
fn copied_share(copied: CopiedShare) -> Entry {
    let note = copied.bound.reason().map(str::to_owned);
    Entry { note, ..value(copied.to_string(), copied.share) }
}

/// What was seen of overwritten messages of `arms`.
fn seen(arms: &[&ArmResult]) -> Entry {
    let Some(seen) = sum(arms.iter().filter_map(|arm| arm.seen)) else {
        return empty(why_not_seen(arms[0].arm.case.receiver));
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

/// Where nobody receives, nobody sees what was overwritten. What each KiB costs the sender stands
/// for it: a copy takes time by the byte.
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
                words::ladder(ladder),
                size(from as f64),
                size(to as f64),
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
    analysis
        .arms()
        .filter_map(|result| {
            let text = result.seen?.contradiction(result.zero_copy.as_ref(), is_local)?;
            Some(format!("Contradiction: {}: {text}.", result.arm.case))
        })
        .collect()
}

/// Whether the kernel sent segments again, so that the times are those of a link with loss.
pub(super) fn sent_again(analysis: &Analysis) -> Option<String> {
    let again = |arm: &&ArmResult| arm.retransmitted_segments.is_some_and(|segments| segments > 0);
    let (mut segments, mut messages, mut cases) = (0, 0, Vec::new());
    for arm in analysis.arms().filter(again) {
        segments += arm.retransmitted_segments.unwrap_or_default();
        messages += arm.copied_messages;
        cases.push((arm.retransmitted_segments, arm.arm.case));
    }
    let (_, worst) = cases.iter().max_by_key(|(segments, _)| *segments)?;
    let were = if segments == 1 { "TCP segment was" } else { "TCP segments were" };
    let of =
        if cases.len() == 1 { worst.to_string() } else { format!("{} cases, most of {worst}", cases.len()) };
    Some(format!(
        "{segments} {were} sent more than once, in {messages} messages ({of}). The times contain that."
    ))
}

/// Where the allocator put messages of the layout `heap` on huge pages: other machines' do not lie
/// there.
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
        let arms = analysis.arms().filter(|arm| (arm.arm.case.receiver == Receiver::Sink) == sink);
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
        let shown = shares.iter().filter(|(_, copied)| copied.share > 0.0 || most.share == 0.0);
        let rows = distinct(shown.map(|(arm, _)| ledger_row(arm)));
        Some(Claim { text, rows })
    };
    [false, true].into_iter().filter_map(of_way).collect()
}

/// That the sink copies nothing, where the timed sends cannot say it: what was counted before the
/// sweep.
pub(super) fn sink_proof(manifest: &Manifest, analysis: &Analysis) -> Option<Claim> {
    let check = manifest.checks.iter().find(|check| check.name == SINK)?;
    let (counted, _) = check.found.trim_start_matches("tried: ").split_once(ONE_BY_ONE)?;
    let is_bound = |arm: &&ArmResult| {
        let bound = arm.zero_copy.and_then(|counts| counts.copied_is_bound());
        arm.arm.case.receiver == Receiver::Sink && bound.is_some_and(|bound| bound != CopiedBound::Exact)
    };
    let arms = analysis.arms().filter(is_bound).filter(|arm| stands_in_ledger(manifest, arm));
    let rows = distinct(arms.map(ledger_row));
    let text = format!(
        "Into the sink, before the sweep and with one send in flight: {counted}{ONE_BY_ONE}. Of the sends of the sweep, several are in \
         flight."
    );
    (!rows.is_empty()).then_some(Claim { text, rows })
}

/// The row of the copy ledger that an arm is counted in.
pub(super) fn ledger_row(result: &ArmResult) -> String {
    let Case { receiver, source, shape, payload_bytes, .. } = result.arm.case;
    let end = Situation { receiver, source, shape, ..Case::default().cell().situation() }.departures();
    words::id(&format!("copies-{}-{payload_bytes}B{end}", result.arm.case.series()))
}

/// Whether copies were counted of an arm. Other programs, which record no environment, do not count
/// them.
pub(super) fn stands_in_ledger(manifest: &Manifest, result: &ArmResult) -> bool {
    manifest.environment.is_some() && result.copied_messages > 0
}

/// Name and value of everything that describes the run.
pub(super) fn environment(manifest: &Manifest) -> Vec<(String, String)> {
    let Plan { profile, seed, precision, series, cells, .. } = &manifest.plan;
    let (version, revision) = (&manifest.program.version, manifest.program.name());
    let (cells, paths, percent) = (cells.len(), series.len(), precision * 100.0);
    let plan =
        format!("profile {profile}, {cells} cells of {paths} paths, seed {seed}, precision {percent} %");
    let mut lines = vec![
        ("measured".to_owned(), format!("{}, on {}", manifest.started, manifest.host)),
        ("program".to_owned(), format!("sendpath {version}, revision {revision}")),
        ("plan".to_owned(), plan),
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
    let reasons = grouped(manifest.not_counted.iter().map(|(event, reason)| (reason, event.as_str())));
    let not_counted = |(reason, events): (&String, Vec<&str>)| {
        ("not counted".to_owned(), format!("{}: {reason}", events.join(", ")))
    };
    lines.extend(reasons.into_iter().map(not_counted));
    lines
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
            said.as_ref().is_some_and(|one| one.contains("12 TCP segments were sent more than once")),
            "{said:?}"
        );
        for segments in [Some(0), None] {
            record.outcome.as_mut().unwrap().server.retransmitted_segments = segments;
            assert!(sent_again(&analyse_stored(&manifest(), &[record.clone()])).is_none());
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
