//! A dot for each case: by how much it changed, with its interval.

use super::page::{Dot, DotPlot};
use super::words;
use crate::format::significant;
use crate::results::comparison::Comparison;

/// Ratios that may bear a tick, and their inverses.
const TICKS: [f64; 9] = [1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 5.0, 10.0];
/// The axis goes so far to either side of 1 at least.
const LEAST: f64 = 1.02;
/// Two ticks stand so far apart at least, in percent.
const TICKS_APART: f64 = 9.0;

/// Of comparisons, in their order.
pub(super) fn plot(title: &str, compared: &[Comparison]) -> DotPlot {
    let ends = compared.iter().flat_map(|one| [one.gain.low, one.gain.high]);
    // As far to either side, so that no change stands in the middle.
    let most = ends.filter(|end| end.is_finite() && *end > 0.0).map(|end| end.ln().abs());
    let most = most.fold(LEAST.ln(), f64::max);
    let place = |ratio: f64| (50.0 + 50.0 * ratio.ln() / most).clamp(0.0, 100.0);
    let dot = |one: &Comparison| Dot {
        label: one.case.clone(),
        at: place(one.gain.value),
        low: place(one.gain.low),
        width: place(one.gain.high) - place(one.gain.low),
        verdict: one.verdict.to_string(),
        text: words::gain(one.gain),
    };
    // From the outermost inwards, as far as they do not cover each other.
    let mut ticks = vec![(50.0, "1×".to_owned())];
    let mut free = 100.0;
    for ratio in TICKS.into_iter().rev().filter(|ratio| ratio.ln() <= most) {
        let at = place(ratio);
        if at <= free && at >= 50.0 + TICKS_APART {
            ticks.push((at, significant(ratio, 3) + "×"));
            ticks.push((place(1.0 / ratio), significant(1.0 / ratio, 3) + "×"));
            free = at - TICKS_APART;
        }
    }
    DotPlot { title: title.to_owned(), ticks, rows: compared.iter().map(dot).collect() }
}
