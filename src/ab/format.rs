//! How a comparison is written: for a terminal, a pull request, and two services that keep histories.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::format::{difference, distance, significant};
use crate::results::comparison::{Comparison, Outcome};
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
#[must_use]
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
#[must_use]
pub(crate) fn sentence(outcome: &Outcome) -> String {
    let of = |verdict| outcome.comparisons.iter().filter(|comparison| comparison.verdict == verdict).count();
    let (slower, faster) = (of(Verdict::Slower), of(Verdict::Faster));
    let all = outcome.comparisons.len();
    let margin = format!("{} %", significant(outcome.margin * 100.0, 3));
    match conclude(outcome) {
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
    }
}

/// What became of the value itself: more throughput, less time.
fn change_of(comparison: &Comparison) -> Estimate {
    comparison.metric.change(comparison.gain)
}

fn interval(gain: Estimate) -> String {
    format!("[{}, {}]", difference(gain.low), difference(gain.high))
}

/// The base's value with its unit.
fn base(comparison: &Comparison) -> String {
    comparison.base.map_or_else(String::new, |value| comparison.metric.value(value))
}

/// For a terminal.
#[must_use]
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut text = format!(
        "{:<38} {:<17} {:>12} {:>9}  {:<22} {:>8} {:>9}  {}\n",
        "case", "metric", "base", "change", "interval", "at worst", "could see", "verdict"
    );
    for comparison in &outcome.comparisons {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<38} {:<17} {:>12} {:>9}  {:<22} {:>8} {:>9}  {}",
            comparison.case,
            comparison.metric.name(),
            base(comparison),
            difference(change_of(comparison).value),
            interval(change_of(comparison)),
            at_worst(comparison),
            distance(comparison.smallest_effect),
            verdict(comparison)
        );
    }
    for failure in &outcome.failures {
        let _ = writeln!(text, "{:<38} failed: {}", failure.case, failure.error);
    }
    let _ = writeln!(text, "{LEGEND}{}\n{}", alone(outcome), sentence(outcome));
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

/// What became of the value at worst.
fn at_worst(comparison: &Comparison) -> String {
    difference(comparison.metric.direction().of_gain(comparison.lower_bound))
}

fn verdict(comparison: &Comparison) -> String {
    match comparison.verdict {
        Verdict::Faster => "better".to_owned(),
        Verdict::Slower => "WORSE".to_owned(),
        same => comparison.metric.verdict(same, comparison.gain, comparison.metric.least_difference()),
    }
}

/// A comment for a pull request.
#[must_use]
pub(crate) fn markdown(outcome: &Outcome, base_name: &str, change_name: &str) -> String {
    let mut text = format!(
        "### sendpath: {}\n\n`{change_name}` against `{base_name}`, interleaved, {} blocks of fresh processes.\n\n",
        sentence(outcome),
        outcome.blocks
    );
    let row = |comparison: &Comparison| {
        format!(
            "| `{}` | {} | {} | {} {} | {} | {} | {} |\n",
            comparison.case,
            comparison.metric.name(),
            base(comparison),
            difference(change_of(comparison).value),
            interval(change_of(comparison)),
            at_worst(comparison),
            distance(comparison.smallest_effect),
            verdict(comparison)
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
    text += "<details><summary>All comparisons</summary>\n\n";
    text += head;
    text.extend(outcome.comparisons.iter().map(row));
    for failure in &outcome.failures {
        // A bar would end the cell.
        let _ =
            writeln!(text, "| `{}` | | | failed: {} | | | |", failure.case, failure.error.replace('|', "/"));
    }
    let _ = write!(text, "\n{LEGEND}{}\n\n</details>\n", alone(outcome));
    text
}

/// [Bencher Metric Format](https://bencher.dev/docs/reference/bencher-metric-format/): the change's values,
/// with the ends of their intervals.
#[must_use]
pub(crate) fn bencher(outcome: &Outcome) -> Value {
    let mut cases = Map::new();
    for comparison in &outcome.comparisons {
        let Some((value, low, high)) = change(comparison) else { continue };
        let case = cases.entry(comparison.case.clone()).or_insert_with(|| json!({}));
        case[comparison.metric.slug()] = json!({ "value": value, "lower_value": low, "upper_value": high });
    }
    Value::Object(cases)
}

/// What [github-action-benchmark](https://github.com/benchmark-action/github-action-benchmark) takes as
/// `customSmallerIsBetter`: times alone, since one file has one direction.
#[must_use]
pub(crate) fn github_action_benchmark(outcome: &Outcome) -> Value {
    let entries =
        outcome.comparisons.iter().filter(|comparison| comparison.metric.direction() == Direction::Less);
    let entry = |comparison: &Comparison| {
        let (value, low, high) = change(comparison)?;
        Some(json!({
            "name": format!("{} {}", comparison.case, comparison.metric.slug()),
            "unit": comparison.metric.unit(),
            "value": value,
            "range": format!("± {:.1}", (high - low) / 2.0),
            "extra": format!("{} against the base: {}", interval(change_of(comparison)), verdict(comparison)),
        }))
    };
    Value::Array(entries.filter_map(entry).collect())
}

/// The change's own value, with the interval: the base's, by what became of it.
fn change(comparison: &Comparison) -> Option<(f64, f64, f64)> {
    let (base, change) = (comparison.base?, change_of(comparison));
    Some((base * change.value, base * change.low, base * change.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdicts: &[(Metric, Verdict)]) -> Outcome {
        let comparison = |&(metric, verdict): &(Metric, Verdict)| Comparison {
            case: "rr/two_copy/heap/64B/1T/paired".to_owned(),
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
    fn bencher_metric_format_has_a_value_and_its_bounds_for_each_measure() {
        let json =
            bencher(&outcome(&[(Metric::Throughput, Verdict::Slower), (Metric::P99, Verdict::Slower)]));
        let case = &json["rr/two_copy/heap/64B/1T/paired"];
        let number = |value: &Value| value.as_f64().unwrap();
        assert_eq!(
            case["throughput_gbps"],
            json!({"value": 800.0, "lower_value": 750.0, "upper_value": 900.0})
        );
        assert!((number(&case["rtt_p99_ns"]["value"]) - 1250.0).abs() < 1e-9);
        // What the schema asks of each: no other keys, and the bounds around the value.
        for measure in case.as_object().unwrap().values() {
            let keys: Vec<&String> = measure.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["lower_value", "upper_value", "value"]);
            assert!(number(&measure["lower_value"]) <= number(&measure["value"]));
            assert!(number(&measure["value"]) <= number(&measure["upper_value"]));
        }
    }

    #[test]
    fn github_action_benchmark_has_times_alone_each_with_name_unit_and_value() {
        let json = github_action_benchmark(&outcome(&[
            (Metric::Throughput, Verdict::Slower),
            (Metric::P50, Verdict::Slower),
        ]));
        let entries = json.as_array().unwrap();
        assert_eq!(entries.len(), 1, "throughput has the other direction");
        assert!(
            entries[0]["name"].is_string() && entries[0]["unit"] == "ns" && entries[0]["value"].is_number()
        );
        assert!(entries[0]["range"].is_string() && entries[0]["extra"].is_string());
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
