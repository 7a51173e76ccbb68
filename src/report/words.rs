//! How numbers and cases are written for a person.

use crate::case::{Layout, SendPath, Series};
use crate::results::analysis::{ArmResult, Comparison, Measure, Metric};
use crate::results::record::Arm;
use crate::results::stats::Estimate;

/// 64 B, 4 KiB, 1 MiB; what is no whole number of them with one decimal.
pub(super) fn bytes(bytes: f64) -> String {
    let scaled = |unit: f64, name: &str| {
        let number = bytes / unit;
        let decimals = usize::from(number.fract().abs() > 0.05 && number < 100.0);
        format!("{number:.decimals$} {name}")
    };
    if bytes < 1024.0 {
        format!("{bytes:.0} B")
    } else if bytes < 1024.0 * 1024.0 {
        scaled(1024.0, "KiB")
    } else {
        scaled(1024.0 * 1024.0, "MiB")
    }
}

/// Four significant digits.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    format!("{value:.*}", (3.0 - magnitude).clamp(0.0, 6.0) as usize)
}

/// A number with its interval, if it has one: `12.3 [12.1, 12.5]`.
pub(super) fn measure(measure: Measure) -> String {
    match measure.interval {
        Some((low, high)) => format!("{} [{}, {}]", number(measure.value), number(low), number(high)),
        None => number(measure.value),
    }
}

/// A ratio as a difference: `+2.1 % [+1.8 %, +2.4 %]`.
pub(super) fn gain(ratio: Estimate) -> String {
    let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    format!("{} [{}, {}]", percent(ratio.value), percent(ratio.low), percent(ratio.high))
}

/// What is compared.
pub(super) fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput => "throughput",
        Metric::P50 => "median round trip",
        Metric::P99 => "99th percentile of round trips",
        Metric::CpuPerByte => "CPU time per byte, both sides",
        Metric::ServerCpu => "CPU time of the server",
        Metric::ClientCpu => "CPU time of the client",
    }
}

/// A comparison's ratio as what became of the value itself: more throughput, less time.
pub(super) fn change(metric: Metric, better: Estimate) -> Estimate {
    match metric {
        Metric::Throughput => better,
        _ => Estimate { value: 1.0 / better.value, low: 1.0 / better.high, high: 1.0 / better.low },
    }
}

/// The end of a range of sizes that may be open.
pub(super) fn size_range(low: f64, high: f64) -> String {
    match (low > 0.0, high.is_finite()) {
        (true, true) => format!("[{}, {}]", bytes(low), bytes(high)),
        (false, true) => format!("[no lower end, {}]", bytes(high)),
        (true, false) => format!("[{}, no upper end]", bytes(low)),
        (false, false) => "[no end]".to_owned(),
    }
}

pub(super) fn pairs(threads: usize) -> String {
    if threads == 1 { "1 pair".to_owned() } else { format!("{threads} pairs") }
}

/// The path with its layout. A `zero_copy` that was copied is never called so without saying it.
pub(super) fn series((path, layout): Series, copied: Copied) -> String {
    let layout = match layout {
        Layout::Heap => "",
        Layout::Page => ", page",
    };
    match (path, copied) {
        (SendPath::ZeroCopy, Copied::Share(share)) => format!("{path}{layout} ({} copied)", percent(share)),
        (SendPath::ZeroCopy, Copied::Unknown) => format!("{path}{layout} (copied or not: not recorded)"),
        _ => format!("{path}{layout}"),
    }
}

/// A share as a percentage. What is not all or nothing is not rounded to it.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        whole if whole.fract() == 0.0 => format!("{whole:.0} %"),
        percent if percent > 99.9 => "almost 100 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// What is known of `MSG_ZEROCOPY` sends: which share the kernel copied after all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Copied {
    Share(f64),
    Unknown,
}

impl Copied {
    /// Of some arms together.
    pub(super) fn of<'a>(arms: impl Iterator<Item = &'a ArmResult>) -> Self {
        let (mut copied, mut completions) = (0, 0);
        for counts in arms.filter_map(|arm| arm.zero_copy) {
            copied += counts.copied;
            completions += counts.completions;
        }
        if completions == 0 { Self::Unknown } else { Self::Share(copied as f64 / completions as f64) }
    }
}

/// The id of a case's row.
pub(super) fn case_row(arm: Arm) -> String {
    let control = if arm.control { "-control" } else { "" };
    format!("case-{}{control}", arm.case.to_string().replace('/', "-"))
}

/// The id of a comparison's row.
pub(super) fn comparison_row(comparison: &Comparison) -> String {
    let cell = comparison.cell.to_string().replace('/', "-");
    let name = |(path, layout): Series| format!("{path}-{layout}");
    let against = if comparison.control { "control".to_owned() } else { name(comparison.series) };
    format!("{}-{cell}-{against}-{}", comparison.metric, name(comparison.baseline))
}

/// Which colour and marker a series has, in every chart.
pub(super) fn style(series: Series) -> usize {
    match series {
        (SendPath::TwoCopy, Layout::Heap) => 0,
        (SendPath::OneCopy, Layout::Heap) => 1,
        (SendPath::ZeroCopy, Layout::Heap) => 2,
        (SendPath::ZeroCopy, Layout::Page) => 3,
        (SendPath::TwoCopy, Layout::Page) => 4,
        (SendPath::OneCopy, Layout::Page) => 5,
    }
}

/// `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_binary_units() {
        let written = [64.0, 1024.0, 4096.0, 65536.0, 1_048_576.0, 10_000.0, 200_000.0].map(bytes);
        assert_eq!(written, ["64 B", "1 KiB", "4 KiB", "64 KiB", "1 MiB", "9.8 KiB", "195 KiB"]);
    }

    #[test]
    fn a_copied_zero_copy_says_so_in_its_name() {
        let name = |copied| series((SendPath::ZeroCopy, Layout::Page), copied);
        assert_eq!(name(Copied::Share(1.0)), "zero_copy, page (100 % copied)");
        assert_eq!(name(Copied::Share(0.9999)), "zero_copy, page (almost 100 % copied)");
        assert_eq!(name(Copied::Share(0.0)), "zero_copy, page (0 % copied)");
        assert_eq!(name(Copied::Unknown), "zero_copy, page (copied or not: not recorded)");
        assert_eq!(series((SendPath::TwoCopy, Layout::Heap), Copied::Unknown), "two_copy");
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(
            [0.0, 0.012_345, 1.0, 27.4741, 123_456.0].map(number),
            ["0", "0.01235", "1.000", "27.47", "123456"]
        );
    }
}
