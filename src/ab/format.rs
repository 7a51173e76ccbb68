//! How a comparison is written: for a terminal, a pull request, and two services that keep
//! histories.
//!
//! What the two services take was read in their own source, and each rule below names the file that
//! it is from: [bencher](https://github.com/bencherdev/bencher) and
//! [github-action-benchmark](https://github.com/benchmark-action/github-action-benchmark).

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::format::{difference, distance, significant};
use crate::results::comparison::{Comparison, Failure, LeftOut, Outcome};
use crate::results::metric::{Direction, Metric};
use crate::results::stats::Estimate;
use crate::results::verdict::Verdict;

/// What a run as a whole says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// A comparison is worse.
    Regression,
    /// None is, and no case's throughput is worse by more than the margin.
    None,
    /// None is, and of some cases it cannot be told whether they are worse by more than the margin.
    Undecided,
    /// Nothing was compared.
    Nothing,
}

/// Concludes.
pub(crate) fn conclude(outcome: &Outcome) -> Conclusion {
    if outcome.comparisons.is_empty() {
        Conclusion::Nothing
    } else if outcome.comparisons.iter().any(|comparison| comparison.verdict == Verdict::Slower) {
        Conclusion::Regression
    } else if open(outcome).next().is_some() {
        Conclusion::Undecided
    } else {
        Conclusion::None
    }
}

/// Cases whose throughput may be worse by more than the margin.
fn open(outcome: &Outcome) -> impl Iterator<Item = &Comparison> {
    let may_be_worse = |comparison: &&Comparison| {
        comparison.metric == Metric::Throughput && comparison.lower_bound <= 1.0 - outcome.margin
    };
    outcome.comparisons.iter().filter(may_be_worse)
}

/// The conclusion in a sentence.
pub(crate) fn sentence(outcome: &Outcome) -> String {
    let of = |verdict| outcome.comparisons.iter().filter(|comparison| comparison.verdict == verdict).count();
    let (slower, faster) = (of(Verdict::Slower), of(Verdict::Faster));
    let all = outcome.comparisons.len();
    let margin = format!("{} %", significant(outcome.margin * 100.0, 3));
    let failed = match outcome.failures.len() {
        0 => String::new(),
        1 => "1 case failed. ".to_owned(),
        number => format!("{number} cases failed. "),
    };
    let concluded = match conclude(outcome) {
        Conclusion::Nothing if !failed.is_empty() => "Nothing was compared.".to_owned(),
        Conclusion::Nothing => "Nothing was compared: it takes three blocks at least.".to_owned(),
        Conclusion::Regression => {
            format!("Regression: {slower} of {all} comparisons are worse, {faster} better.")
        }
        Conclusion::None => format!(
            "No regression: of {all} comparisons none is worse, {faster} better, and no case has lost {margin} of its \
             throughput."
        ),
        Conclusion::Undecided => {
            let open: Vec<&Comparison> = open(outcome).collect();
            let worst = open.iter().map(|comparison| comparison.lower_bound).fold(1.0, f64::min);
            format!(
                "Undecided: of {all} comparisons none is worse, {faster} better, but {} of the cases may have lost \
                 {margin} of their throughput or more (the widest bound is {}): a longer --time narrows this.",
                open.len(),
                difference(worst)
            )
        }
    };
    failed + &concluded
}

/// What became of the value itself: more throughput, less time.
fn change_of(comparison: &Comparison) -> Estimate {
    comparison.metric.change(comparison.gain)
}

fn interval(gain: Estimate) -> String {
    format!("[{}, {}]", difference(gain.low), difference(gain.high))
}

const HEADS: [&str; 8] = ["case", "metric", "base", "change", "interval", "at worst", "could see", "verdict"];

/// What stands below these heads of a comparison.
fn cells(comparison: &Comparison) -> [String; 8] {
    let Comparison { case, metric, lower_bound, smallest_effect, .. } = comparison;
    [
        case.clone(),
        metric.name().to_owned(),
        comparison.base.map_or_else(String::new, |value| metric.value(value)),
        difference(change_of(comparison).value),
        interval(change_of(comparison)),
        difference(metric.direction().of_gain(*lower_bound)),
        distance(*smallest_effect),
        verdict(comparison),
    ]
}

/// For a terminal: every comparison, and what they come to.
pub(crate) fn text(outcome: &Outcome) -> String {
    format!("{}{}\n", table(outcome, |_| true), sentence(outcome))
}

/// For a terminal, where there are hundreds: what they come to, and those in which something was
/// found.
pub(crate) fn found(outcome: &Outcome) -> String {
    let is_found = |comparison: &Comparison| comparison.verdict.is_call();
    let rest = outcome.comparisons.iter().filter(|comparison| !is_found(comparison)).count();
    let rows = if rest < outcome.comparisons.len() || !outcome.failures.is_empty() {
        table(outcome, is_found)
    } else {
        String::new()
    };
    let rest = match rest {
        0 => String::new(),
        rest => format!("{rest} comparisons in which nothing was found for certain: --table shows them\n"),
    };
    rows + &rest
}

/// A row for each of those comparisons that `which` names, and for each case that failed.
fn table(outcome: &Outcome, which: fn(&Comparison) -> bool) -> String {
    let mut text = String::new();
    let shown = outcome.comparisons.iter().filter(|comparison| which(comparison)).map(cells);
    for row in [HEADS.map(str::to_owned)].into_iter().chain(shown) {
        let [case, metric, base, change, interval, at_worst, could_see, verdict] = row;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{case:<38} {metric:<17} {base:>12} {change:>9}  {interval:<22} {at_worst:>8} {could_see:>9}  {verdict}"
        );
    }
    for failure in &outcome.failures {
        let _ = writeln!(text, "{:<38} failed: {}", failure.case, failure.error);
    }
    for left_out in &outcome.left_out {
        let _ = writeln!(text, "{:<38} left out: {}", left_out.case, left_out.reason);
    }
    let _ = writeln!(text, "{LEGEND}{}", alone(outcome));
    text
}

/// What has to be said of cases that nobody receives, where there are any.
fn alone(outcome: &Outcome) -> &'static str {
    let mut cases = outcome.comparisons.iter().map(|comparison| comparison.case.as_str());
    if cases.any(|case| case.split('/').any(|word| word == "sink")) {
        " sink: the sender alone, nobody receives."
    } else {
        ""
    }
}

const LEGEND: &str = "More throughput is better, more time is worse. In 95 of 100 runs all intervals hold. \"at worst\": what the \
                      value changed to at most, for the worse, with 95 % confidence in that case alone. \"could see\": the \
                      smallest difference that such a run would call in 95 of 100 times.";

fn verdict(comparison: &Comparison) -> String {
    match comparison.verdict {
        Verdict::Faster => "better".to_owned(),
        Verdict::Slower => "WORSE".to_owned(),
        same => comparison.metric.verdict(same, comparison.gain, comparison.metric.least_difference()),
    }
}

/// What a comment begins with, for a workflow to find the one that it is to replace. It is not
/// shown.
pub(crate) const MARKER: &str = "<!-- sendpath ab -->";

/// A comment for a pull request where nothing could be compared.
pub(crate) fn markdown_of_failure(cause: &str) -> String {
    // Longer than any fence in the text, which would end the block.
    let longest = cause.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{MARKER}\n### sendpath: nothing was compared\n\n{fence}text\n{}\n{fence}\n", cause.trim_end())
}

/// A comment for a pull request.
pub(crate) fn markdown(outcome: &Outcome, base_name: &str, change_name: &str) -> String {
    let mut text = format!(
        "{MARKER}\n### sendpath: {}\n\n`{change_name}` against `{base_name}`, interleaved, {} blocks of fresh processes.\n\n",
        sentence(outcome),
        outcome.blocks
    );
    let row = |comparison: &Comparison| {
        let [case, metric, base, change, interval, at_worst, could_see, verdict] = cells(comparison);
        format!(
            "| `{case}` | {metric} | {base} | {change} {interval} | {at_worst} | {could_see} | {verdict} |\n"
        )
    };
    let head =
        "| case | metric | base | change | at worst | could see | verdict |\n|---|---|---|---|---|---|---|\n";
    let called = |comparison: &&Comparison| comparison.verdict.is_call();
    let first: Vec<&Comparison> = outcome.comparisons.iter().filter(called).collect();
    if !first.is_empty() {
        text += head;
        text.extend(first.iter().map(|comparison| row(comparison)));
        text += "\n";
    }
    for Failure { case, error } in &outcome.failures {
        let _ = writeln!(text, "**Failed**: `{case}`: {error}\n");
    }
    text += "<details><summary>All comparisons</summary>\n\n";
    text += head;
    text.extend(outcome.comparisons.iter().map(row));
    for LeftOut { case, reason } in &outcome.left_out {
        // A bar would end the cell.
        let _ = writeln!(text, "| `{case}` | | | left out: {} | | | |", reason.replace('|', "/"));
    }
    let _ = write!(text, "\n{LEGEND}{}\n\n</details>\n", alone(outcome));
    text
}

/// [Bencher Metric Format](https://bencher.dev/docs/reference/bencher-metric-format/) v0: the
/// change's values, with the ends of their intervals. None where there would be no value in it:
/// `bencher run` takes `{}` for a report without results
/// (`lib/bencher_adapter/src/adapters/json/v0.rs`, `adapter_json_v0_empty`).
pub(crate) fn bencher(outcome: &Outcome) -> Option<Value> {
    let mut cases = Map::new();
    for comparison in &outcome.comparisons {
        let Some(values) = change(comparison) else { continue };
        let (measure, factor) = bencher_measure(comparison);
        let [value, low, high] = values.map(|value| value * factor);
        let case = cases.entry(comparison.case.clone()).or_insert_with(|| json!({}));
        case[measure] = json!({ "value": value, "lower_value": low, "upper_value": high });
    }
    (!cases.is_empty()).then_some(Value::Object(cases))
}

/// The slug of Bencher's measure, and what a value is multiplied by to be in that measure's unit.
///
/// `throughput` and `latency` are built in, in operations per second and in nanoseconds
/// (`lib/bencher_json/src/project/measure/built_in.rs`). An operation is one message. Of other
/// slugs Bencher makes a measure without a unit, named like the slug; they are written as its own
/// are, in words and hyphens.
fn bencher_measure(comparison: &Comparison) -> (&'static str, f64) {
    match comparison.metric {
        Metric::Throughput => ("throughput", 1e9 / (8.0 * comparison.payload_bytes as f64)),
        Metric::P50 => ("latency", 1.0),
        Metric::P99 => ("latency-p99", 1.0),
        Metric::CpuPerByte => ("cpu-time-per-byte", 1.0),
    }
}

/// What github-action-benchmark takes: `customSmallerIsBetter` of metrics of which less is better,
/// else `customBiggerIsBetter`, since one file has one direction. None where it would be empty: the
/// action fails on that (`src/extract.ts`, `extractResult`: "No benchmark result was found").
pub(crate) fn github_action_benchmark(outcome: &Outcome, direction: Direction) -> Option<Value> {
    let entries = outcome.comparisons.iter().filter(|comparison| comparison.metric.direction() == direction);
    let entry = |comparison: &Comparison| {
        let [value, low, high] = change(comparison)?;
        Some(json!({
            "name": format!("{} {}", comparison.case, comparison.metric.slug()),
            "unit": comparison.metric.unit(),
            "value": value,
            "range": format!("± {}", significant((high - low) / 2.0, 3)),
            "extra": format!("{} against the base: {}", interval(change_of(comparison)), verdict(comparison)),
        }))
    };
    let entries: Vec<Value> = entries.filter_map(entry).collect();
    (!entries.is_empty()).then_some(Value::Array(entries))
}

/// The change's own value, with the interval: the base's, by what became of it.
fn change(comparison: &Comparison) -> Option<[f64; 3]> {
    let (base, change) = (comparison.base?, change_of(comparison));
    Some([base * change.value, base * change.low, base * change.high])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdicts: &[(Metric, Verdict)]) -> Outcome {
        let comparison = |&(metric, verdict): &(Metric, Verdict)| Comparison {
            case: "rr/two_copy/heap/64B/1T/paired".to_owned(),
            payload_bytes: 64,
            metric,
            gain: Estimate { value: 0.8, low: 0.75, high: 0.9 },
            control: None,
            lower_bound: if verdict == Verdict::Undecided { 0.97 } else { 0.99 },
            verdict,
            smallest_effect: 0.01,
            base: Some(1000.0),
        };
        let comparisons = verdicts.iter().map(comparison).collect();
        Outcome {
            blocks: 9,
            margin: 0.02,
            comparisons,
            failures: Vec::new(),
            left_out: Vec::new(),
            interrupted: false,
            cpu_time_is_whole: true,
        }
    }

    #[test]
    fn a_run_concludes_from_its_worst_verdict() {
        use Metric::{P99, Throughput};
        use Verdict::{Faster, Same, Slower, Undecided};
        for (verdicts, conclusion) in [
            (&[][..], Conclusion::Nothing),
            (&[(Throughput, Same), (P99, Undecided)], Conclusion::None),
            (&[(Throughput, Faster)], Conclusion::None),
            (&[(Throughput, Undecided), (P99, Same)], Conclusion::Undecided),
            (&[(Throughput, Undecided), (P99, Slower)], Conclusion::Regression),
        ] {
            assert_eq!(conclude(&outcome(verdicts)), conclusion, "{verdicts:?}");
        }
    }

    #[test]
    fn bencher_gets_its_own_measures_in_their_units() {
        let json = bencher(&outcome(&[
            (Metric::Throughput, Verdict::Slower),
            (Metric::P50, Verdict::Slower),
            (Metric::P99, Verdict::Slower),
            (Metric::CpuPerByte, Verdict::Slower),
        ]))
        .unwrap();
        let case = json["rr/two_copy/heap/64B/1T/paired"].as_object().unwrap();
        let measures: Vec<&str> = case.keys().map(String::as_str).collect();
        assert_eq!(measures, ["cpu-time-per-byte", "latency", "latency-p99", "throughput"]);
        let value = |measure: &str, key: &str| case[measure][key].as_f64().unwrap();
        // 800 Gb/s in messages of 512 bits.
        assert!((value("throughput", "value") / (800e9 / 512.0) - 1.0).abs() < 1e-9, "{json}");
        assert!((value("latency", "value") - 1250.0).abs() < 1e-9, "{json}");
        for measure in measures {
            assert!(value(measure, "lower_value") <= value(measure, "value"), "{measure}");
            assert!(value(measure, "value") <= value(measure, "upper_value"), "{measure}");
        }
    }

    #[test]
    fn github_action_benchmark_gets_one_direction_in_a_file() {
        let outcome = outcome(&[(Metric::Throughput, Verdict::Slower), (Metric::P50, Verdict::Slower)]);
        for (direction, name, unit) in
            [(Direction::Less, "rtt_p50_ns", "ns"), (Direction::More, "throughput_gbps", "Gb/s")]
        {
            let json = github_action_benchmark(&outcome, direction).unwrap();
            let entries = json.as_array().unwrap();
            assert_eq!(entries.len(), 1, "{json}");
            assert_eq!(entries[0]["name"], format!("rr/two_copy/heap/64B/1T/paired {name}"));
            assert_eq!(entries[0]["unit"], unit);
        }
    }

    #[test]
    fn a_service_gets_no_file_without_a_result() {
        let throughput = outcome(&[(Metric::Throughput, Verdict::Same)]);
        assert_eq!(github_action_benchmark(&throughput, Direction::Less), None);
        assert_eq!(github_action_benchmark(&outcome(&[]), Direction::More), None);
        assert_eq!(bencher(&outcome(&[])), None);
    }

    #[test]
    fn a_cause_does_not_end_its_block_in_a_comment() {
        let text = markdown_of_failure("error: expected ```` here");
        assert!(
            text.starts_with(MARKER) && text.contains("\n`````text\nerror: expected ```` here\n`````\n"),
            "{text}"
        );
        assert!(markdown_of_failure("error").contains("\n```text\nerror\n```\n"));
    }

    #[test]
    fn markdown_shows_what_was_called_first() {
        let text = markdown(
            &outcome(&[(Metric::Throughput, Verdict::Same), (Metric::P50, Verdict::Slower)]),
            "main",
            "a branch",
        );
        let (first, all) = text.split_once("<details>").unwrap();
        assert!(
            first.contains("Regression")
                && first.contains("median round trip")
                && !first.contains("throughput"),
            "{first}"
        );
        assert!(all.contains("throughput") && all.contains("median round trip"));
    }
}
