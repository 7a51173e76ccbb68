//! `summary.csv`: a row for each case, and the same in short for a terminal.
//! docs/book/src/format.md explains the columns.

use std::fmt::{Display, Write};

use strum::VariantArray;

use super::analysis::{Analysis, ArmResult, CellResult, Measure, SeriesComparison};
use super::family::ControlCheck;
use super::manifest::Manifest;
use super::metric::Metric;
use super::samples_csv::{event_name, of_case};
use super::store::{self, StoredSweep};
use crate::case::Receiver;
use crate::error::{Error, Result};
use crate::event::{Event, Reading};
use crate::format;
use crate::sample::Side;

/// The file.
pub const SUMMARY: &str = "summary.csv";
/// The column that says of which samples a summary was made.
pub const SAMPLES_BYTES: &str = "samples_bytes";

/// A row's columns: name and text.
type Row = Vec<(String, String)>;

/// The whole file.
///
/// # Errors
/// None that is known of; the CSV writer may have some.
pub fn csv(sweep: &StoredSweep, analysis: &Analysis) -> Result<Vec<u8>> {
    let rows = analysis.cells.iter().flat_map(|cell| cell.arms.iter().map(move |arm| row(sweep, cell, arm)));
    let (mut head, mut lines) = (None, Vec::new());
    for row in rows {
        let (names, texts): (Vec<_>, Vec<_>) = row.into_iter().unzip();
        head.get_or_insert(names);
        lines.push(texts);
    }
    let failed = |problem| Error::Data { path: SUMMARY.to_owned(), problem };
    store::text(head.into_iter().chain(lines)).map_err(failed)
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Six significant digits: more than any of the numbers has.
fn digits(value: f64) -> String {
    format::digits(value, 6)
}

fn put(row: &mut Row, name: &str, value: impl Display) {
    row.push((name.to_owned(), format!("{value}")));
}

fn put_measure(row: &mut Row, name: &str, measure: Option<Measure>) {
    let interval = measure.and_then(|measure| measure.interval);
    put(row, name, text(measure.map(|measure| digits(measure.value))));
    put(row, &format!("{name}_low"), text(interval.map(|(low, _)| digits(low))));
    put(row, &format!("{name}_high"), text(interval.map(|(_, high)| digits(high))));
}

fn row(sweep: &StoredSweep, cell: &CellResult, result: &ArmResult) -> Row {
    let StoredSweep { manifest, samples_bytes, .. } = sweep;
    let case = result.arm.case;
    let mut row = Row::new();
    put(&mut row, "revision", manifest.program.name());
    put(&mut row, "arm", if result.arm.control { "control" } else { "case" });
    row.extend(of_case(case));
    put(&mut row, "error", text(result.error.as_ref()));
    put(&mut row, "instances", result.instances);
    put(&mut row, "bursts", result.bursts);
    put(&mut row, "messages", result.messages);
    put(&mut row, "elapsed_ns", result.elapsed_ns);
    put(&mut row, "drain_ns_per_burst", text(result.drain_ns_per_burst.map(digits)));
    // Nobody received anything of what is sent into the sink, and no client copied.
    let received = case.receiver != Receiver::Sink;
    let received_bytes = received.then(|| result.messages.saturating_mul(case.payload_bytes as u64));
    put(&mut row, "received_bytes", text(received_bytes));
    put(&mut row, "injection_ns", text(manifest.injection_ns(cell.cell).map(digits)));
    let fragments = manifest.fragments(&case).and_then(|told| told.fragments);
    put(&mut row, "packets_per_message", text(fragments.map(|told| digits(told.packets_per_message))));
    put(&mut row, "fragments_per_message", text(fragments.map(|told| digits(told.fragments_per_message))));
    put(&mut row, "fragments_source", text(fragments.map(|told| told.fragments_source)));
    put_measure(&mut row, "throughput_gbps", result.throughput_gbps);
    put_measure(&mut row, "rtt_mean_ns", result.rtt_mean_ns);
    for ((_, measure), name) in result.rtt_quantiles_ns.iter().zip(["p50", "p90", "p99", "p999"]) {
        put_measure(&mut row, &format!("rtt_{name}_ns"), *measure);
    }
    put(&mut row, "rtt_max_ns", text(result.rtt_max_ns));
    for (side, cpu_ns) in ["server", "client"].iter().zip(result.cpu_ns_per_message) {
        put_measure(&mut row, &format!("{side}_cpu_ns_per_message"), cpu_ns);
    }
    put_measure(&mut row, "cpu_ns_per_byte", result.cpu_ns_per_byte);

    put(&mut row, "retransmitted_segments", text(result.retransmitted_segments));
    let counts = result.zero_copy;
    put(&mut row, "zero_copy_sends", text(counts.map(|counts| counts.sends)));
    put(
        &mut row,
        "zero_copy_copied_share",
        text(counts.and_then(|counts| counts.copied_share()).map(digits)),
    );
    put(&mut row, "zero_copy_copied_is_bound", text(counts.and_then(|counts| counts.copied_is_bound())));
    put(&mut row, "zero_copy_enobufs", text(counts.map(|counts| counts.enobufs)));
    let (server, client) = result.copies;
    for (name, bytes) in [
        ("server_user_to_user_bytes_per_message", server.user_to_user_bytes),
        ("server_user_to_kernel_bytes_per_message", server.user_to_kernel_bytes),
        ("server_deferred_bytes_per_message", server.deferred_bytes),
        ("client_kernel_to_user_bytes_per_message", client.kernel_to_user_bytes),
        ("client_user_to_user_bytes_per_message", client.user_to_user_bytes),
        ("client_mapped_bytes_per_message", client.mapped_bytes),
    ] {
        let messages = result.copied_messages;
        let known = messages > 0 && (received || !name.starts_with("client_"));
        put(&mut row, name, text(known.then(|| digits(bytes as f64 / messages as f64))));
    }

    let counted = &result.counted;
    put(&mut row, "counted_messages", counted.messages);
    for (side, readings) in [(Side::Server, &counted.server), (Side::Client, &counted.client)] {
        for &event in <Event as VariantArray>::VARIANTS {
            let name = format!("{side}_{}", event_name(event));
            put(&mut row, &name, text(readings.get(&event).and_then(Reading::value)));
            put_measure(&mut row, &format!("{name}_per_message"), counted.per_message(side, event));
        }
        let ratio = |event, to| text(counted.ratio(side, event, to).map(digits));
        put(&mut row, &format!("{side}_ipc"), ratio(Event::Instructions, Event::Cycles));
        put(&mut row, &format!("{side}_cache_miss_rate"), ratio(Event::CacheMisses, Event::CacheReferences));
        let cycles = counted.per_message(side, Event::Cycles);
        let by_byte = cycles.map(|cycles| digits(cycles.value / case.payload_bytes as f64));
        put(&mut row, &format!("{side}_cycles_per_byte"), text(by_byte));
    }

    for metric in Metric::OF_A_SWEEP {
        let outcome = against_baseline(cell, result, metric).and_then(|found| found.outcome.as_ref().ok());
        put_measure(&mut row, &format!("{metric}_gain"), outcome.map(|outcome| outcome.ratio.into()));
        put(&mut row, &format!("{metric}_verdict"), text(outcome.map(|outcome| outcome.verdict)));
    }
    put(&mut row, SAMPLES_BYTES, samples_bytes);
    row
}

/// The comparison of an arm with its cell's baseline; none of the baseline itself and of the
/// control.
fn against_baseline<'a>(
    cell: &'a CellResult,
    result: &ArmResult,
    metric: Metric,
) -> Option<&'a SeriesComparison> {
    let baseline = cell.arms.first()?.arm.case.series();
    let series = Some(result.arm.case.series()).filter(|_| !result.arm.control)?;
    cell.comparison(metric, series, baseline)
}

/// Throughput of every case, for a terminal.
pub fn table(manifest: &Manifest, analysis: &Analysis) -> String {
    let metric = Metric::Throughput;
    let longest = analysis.arms().map(|arm| arm.arm.case.to_string().len()).max().unwrap_or_default();
    let width = longest.clamp(46, 80);
    let mut table =
        format!("{:<width$} {:>9}  {:>30}  {}\n", "case", metric.unit(), "against the baseline", "verdict");
    for cell in &analysis.cells {
        for result in cell.arms.iter().filter(|result| !result.arm.control) {
            let name = result.arm.case.to_string();
            let gbps = text(result.throughput_gbps.map(|measure| format::number(measure.value)));
            let (change, verdict) = match against_baseline(cell, result, metric).map(|found| &found.outcome) {
                None => (String::new(), String::new()),
                Some(Err(reason)) => (String::new(), reason.clone()),
                Some(Ok(outcome)) => {
                    let change = metric.change(outcome.ratio);
                    (
                        format::difference_with_interval(change.value, change.low, change.high),
                        metric.verdict(outcome.verdict, outcome.ratio, metric.margin()),
                    )
                }
            };
            // Writing to a string does not fail.
            let _ = writeln!(table, "{name:<width$} {gbps:>9}  {change:>30}  {verdict}");
        }
    }
    let _ = writeln!(table, "{}", control(analysis));
    if let Some(injections) = injections(manifest) {
        let _ = writeln!(table, "{injections}");
    }
    table
}

/// What the control arms say, in a sentence for each metric that has to be spoken of.
pub fn control(analysis: &Analysis) -> String {
    let widened = |metric: Metric| {
        let check = analysis.controls.get(&metric).filter(|check| check.widening > 1.0)?;
        let times = format::significant(check.widening, 2);
        Some(format!(" The intervals of {} are widened {times} times, by its own controls.", metric.name()))
    };
    let others = Metric::OF_A_SWEEP.into_iter().filter(|metric| *metric != Metric::Throughput);
    let others: String = others.filter_map(widened).collect();
    let throughput = analysis.controls.get(&Metric::Throughput).filter(|check| check.controls > 0);
    let Some(&ControlCheck { controls, scatter, widening }) = throughput else {
        return "There is no control arm, so the data cannot say how much of a difference is noise."
            .to_owned();
    };
    let found = format!(
        "Control (the baseline a second time, in {controls} cells): its distance from the baseline is {} times what its \
         spread explains",
        format::significant(scatter, 2)
    );
    if widening > 1.0 {
        format!(
            "{found}, which is more than chance: every interval of throughput is widened by that.{others}"
        )
    } else {
        format!("{found}: no more than chance.{others}")
    }
}

/// What is part of every message's time where nobody receives, in a sentence; none where there is
/// no such cell.
pub fn injections(manifest: &Manifest) -> Option<String> {
    let costs = || manifest.injections.iter().map(|injection| injection.injection_ns);
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    let (least, most) = (format::time(least), format::time(most));
    (!manifest.injections.is_empty()).then(|| {
        let cost = if least == most { least } else { format!("{least} to {most}, by cell") };
        format!(
            "Sender alone: a request and an acknowledgement, which the sender injects for want of a receiver, take {cost} \
             with no message between. The times include them, the same for every path."
        )
    })
}
