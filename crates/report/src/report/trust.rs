//! How far a sweep is to be trusted: the line below the strips, and its mark.

use super::page::Trust;
use crate::format::digits;
use crate::results::analysis::{Analysis, SeriesComparison, SeriesOutcome};
use crate::results::decision::comparisons;
use crate::results::load::Load;
use crate::results::manifest::Manifest;
use crate::results::metric::Metric;
use crate::results::states::OtherState;
use crate::results::verdict::Verdict;

/// From which share of undecided comparisons on a sweep is `bad`.
const BAD: f64 = 0.4;
/// And from which on it is `limited`; or from which share of ratios on that change with the
/// machine's state.
const LIMITED: f64 = 0.05;

/// The verdict of each comparison with the baseline by throughput; none where nothing came of it.
pub(super) fn against_baseline(manifest: &Manifest, analysis: &Analysis) -> Vec<Option<Verdict>> {
    let all = analysis.cells.iter().flat_map(|cell| comparisons(cell, Metric::Throughput));
    let with_baseline = all.filter(|found| Some(&found.baseline) == manifest.plan.series.first());
    with_baseline.map(|found| found.outcome.as_ref().ok().map(|outcome| outcome.verdict)).collect()
}

/// A comparison, what came of it, and what came of it in the machine's other state.
pub(super) type InOtherState<'a> = (&'a SeriesComparison, &'a SeriesOutcome, &'a OtherState);

/// The ratios of throughput that were others in the machine's other state.
pub(super) fn other_states(analysis: &Analysis) -> Vec<InOtherState<'_>> {
    let all = analysis.cells.iter().flat_map(|cell| comparisons(cell, Metric::Throughput));
    let found = all.filter_map(|found| {
        let outcome = found.outcome.as_ref().ok()?;
        Some((found, outcome, outcome.other_state.as_ref()?))
    });
    found.collect()
}

/// How far the sweep is to be trusted.
pub(super) fn trust(manifest: &Manifest, analysis: &Analysis) -> Trust {
    let all = against_baseline(manifest, analysis);
    let sure = all.iter().flatten().filter(|verdict| **verdict != Verdict::Undecided).count();
    let failed = analysis.arms().filter(|arm| arm.error.is_some()).count();
    let widening = analysis.controls.get(&Metric::Throughput).map_or(1.0, |check| check.widening);
    let mut parts = vec![if all.is_empty() {
        "nothing was compared".to_owned()
    } else {
        format!("sure: {sure} of {} comparisons", all.len())
    }];
    if failed > 0 {
        parts.push(format!("{failed} {} failed", if failed == 1 { "case" } else { "cases" }));
    }
    if widening > 1.0 {
        parts.push(format!("noise widened the intervals {} times", digits(widening, 2)));
    }
    let changing = other_states(analysis).len();
    let compared = analysis.cells.iter().flat_map(|cell| comparisons(cell, Metric::Throughput)).count();
    let is_steady = changing as f64 <= LIMITED * compared as f64;
    if changing > 0 {
        let verb = if changing == 1 { "ratio changes" } else { "ratios change" };
        parts.push(format!("{changing} {verb} with the machine's state"));
    }
    let busy =
        manifest.load.as_ref().and_then(Load::busy_with).map(|with| format!("the machine was busy ({with})"));
    let is_quiet = busy.is_none();
    parts.extend(busy);
    let open = 1.0 - sure as f64 / all.len().max(1) as f64;
    let mark = match open {
        open if open > BAD => "bad",
        open if open > LIMITED || failed > 0 || widening > 1.0 || !is_steady || !is_quiet => "limited",
        _ => "good",
    };
    Trust { mark: mark.to_owned(), text: parts.join("; ") }
}
