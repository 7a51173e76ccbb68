//! What would settle what is undecided: an estimate of the time that it takes, from the spread that
//! was seen.

use super::winners::pairs_of;
use crate::case::{Case, Layout, SendPath, Series};
use crate::format::exact_size;
use crate::in_order::{ascending, distinct};
use crate::results::analysis::CellResult;
use crate::results::decision::versus;
use crate::results::metric::Metric;
use crate::results::stats::Estimate;
use crate::results::verdict::Verdict;

/// What share of a sweep is timed bursts, at most: the rest is setting up, warming up, counting and
/// checking.
const TIMED_SHARE: f64 = 0.5;
/// A sweep that is shorter has too few visits of a cell for an interval.
pub(super) const LEAST_S: f64 = 10.0;
/// Nobody waits longer for one size.
pub(super) const MOST_S: f64 = 3600.0;

/// How many times as long a comparison has to be measured until its interval lies within the
/// margin, or excludes 1: an interval's width falls with the root of the time.
fn times_as_long(ratio: Estimate, margin: f64) -> f64 {
    let half_width = (ratio.high / ratio.low).ln() / 2.0;
    let distance = ratio.value.ln().abs();
    // Whichever of the two is reached first.
    let enough = distance.max(margin.ln_1p() - distance);
    (half_width / enough).powi(2)
}

/// How long a sweep of this cell alone would take, in seconds, to settle how two of its series
/// stand; none where it is settled.
pub(super) fn seconds(cell: &CellResult, metric: Metric, one: Series, other: Series) -> Option<f64> {
    let (ratio, verdict, _) = versus(cell, metric, one, other)?;
    let timed_ns: u64 = cell.arms.iter().map(|arm| arm.elapsed_ns).sum();
    (verdict == Verdict::Undecided)
        .then(|| timed_ns as f64 / 1e9 / TIMED_SHARE * times_as_long(ratio, metric.margin()))
}

/// The options of the sweep that would settle how `series` stand in some cells: `--size 8K
/// --threads 1 --receiver buffer --time 30s`. None where nothing is undecided, or where it would
/// take more than an hour for each size.
pub(super) fn options(cells: &[(&CellResult, &[Series])]) -> Option<String> {
    let open: Vec<(&CellResult, f64)> = cells
        .iter()
        .filter_map(|(cell, series)| {
            let needed =
                pairs_of(series).filter_map(|(one, other)| seconds(cell, Metric::Throughput, one, other));
            Some((*cell, needed.reduce(f64::max)?))
        })
        .collect();
    let first = open.first()?.0.cell;
    let needed: f64 = open.iter().map(|(_, seconds)| seconds.max(LEAST_S)).sum();
    if needed > MOST_S * open.len() as f64 {
        return None;
    }
    let list = |sizes: Vec<usize>| sizes.into_iter().map(exact_size).collect::<Vec<_>>().join(",");
    let sizes = distinct(open.iter().map(|(cell, _)| cell.cell.payload_bytes));
    let mut options = vec![format!("--size {}", list(sizes))];
    // Without options, a sweep has several numbers of pairs and both receivers.
    options.push(format!("--threads {} --receiver {}", first.threads, first.receiver));
    let plain = Case::default().cell();
    let mut also = |name: &str, differs: bool, value: String| {
        if differs {
            options.push(format!("--{name} {value}"));
        }
    };
    also("workload", first.workload != plain.workload, first.workload.to_string());
    also("placement", first.placement != plain.placement, first.placement.to_string());
    also("source", first.source != plain.source, first.source.to_string());
    // Commas and bars mean something to a shell.
    also("shape", first.shape != plain.shape, format!("'{}'", first.shape));
    let series: Vec<Series> = cells.iter().flat_map(|(_, series)| series.iter().copied()).collect();
    let is_plain = |one: &Series| SendPath::STUDIED.contains(&one.path) && one.departures().is_empty();
    let layouts = [Layout::Heap, Layout::Page];
    if !series.iter().all(|one| is_plain(one) && layouts.contains(&one.layout)) {
        // What a sweep without options does not have. The product may have more than is open.
        let words = |of: &dyn Fn(&Series) -> String| distinct(series.iter().map(of)).join(",");
        also("path", true, words(&|one| one.path.to_string()));
        also("layout", true, words(&|one| one.layout.to_string()));
        also("engine", true, words(&|one| one.engine.to_string()));
        let below = series.iter().filter(|one| one.path.has_threshold());
        let below = ascending(below.map(|one| one.copy_below_bytes));
        also("copy-below", !below.is_empty(), list(below));
    }
    options.push(format!("--time {}", time(needed)));
    Some(options.join(" "))
}

/// A time that is no more exact than the estimate: 10, 20, 30 or 40 seconds, or whole minutes.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        few if few <= 50.0 => format!("{:.0}s", (few / 10.0).ceil().max(1.0) * 10.0),
        more if more <= 600.0 => format!("{:.0}m", (more / 60.0).ceil()),
        many => format!("{:.0}m", (many / 300.0).ceil() * 5.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_scales_with_the_square_of_the_half_width_over_what_is_to_be_told() {
        let of = |log: f64, half: f64| Estimate {
            value: log.exp(),
            low: (log - half).exp(),
            high: (log + half).exp(),
        };
        let margin = 0.02_f64.ln_1p();
        assert!(
            (times_as_long(of(0.0, 2.0 * margin), 0.02) - 4.0).abs() < 1e-9,
            "until it lies within the margin"
        );
        assert!((times_as_long(of(0.03, 0.06), 0.02) - 4.0).abs() < 1e-9, "until it excludes 1");
    }

    #[test]
    fn times_and_sizes_are_what_the_command_line_takes() {
        assert_eq!([3.0, 21.0, 50.0, 51.0, 190.0, 700.0].map(time), ["10s", "30s", "50s", "1m", "4m", "15m"]);
        assert_eq!([64, 1000, 8192, 1 << 20].map(exact_size), ["64", "1000", "8K", "1M"]);
    }
}
