//! Axes: their range, their ticks, and how values are written beside them.

use crate::format::{significant, size};
use crate::report::page::{Kind, Scale};

/// An axis, and where it lies.
pub(super) struct DrawnAxis {
    log: bool,
    /// Of the values, or of their logarithms.
    range: (f64, f64),
    pub(super) px: (f64, f64),
    pub(super) ticks: Vec<(f64, Option<String>)>,
}

impl DrawnAxis {
    /// `values` are what is to be seen, `measured` those with a tick where [`Kind`] wants it so,
    /// and `extent_px` is what a label takes along the axis.
    pub(super) fn new(
        scale: &Scale,
        values: &[f64],
        measured: &[f64],
        px: (f64, f64),
        extent_px: impl Fn(&str) -> f64,
    ) -> Self {
        let usable = values.iter().filter(|value| value.is_finite() && (!scale.log || **value > 0.0));
        let (mut low, high) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
        let number = matches!(scale.kind, Kind::Number | Kind::Ratio);
        if !scale.log && number && low >= 0.0 && high - low > high * 0.3 {
            low = 0.0;
        }
        let bend = |value: f64| if scale.log { value.log10() } else { value };
        let mut range = (bend(low), bend(high));
        let span = range.1 - range.0;
        let pad = if span > 0.0 { span * 0.05 } else { (range.1.abs() * 0.1).max(0.1) };
        range = (if low == 0.0 && number { 0.0 } else { range.0 - pad }, range.1 + pad);
        let mut axis = Self { log: scale.log, range, px, ticks: Vec::new() };

        let candidates = if number {
            axis.round_values()
        } else if scale.names.is_empty() {
            enough_ticks(measured, scale.kind)
        } else {
            measured.to_vec()
        };
        let mut free_until = f64::INFINITY;
        for value in candidates.into_iter().rev() {
            let label = tick_label(value, scale);
            let (along, half) = ((axis.at(value) - px.0).abs(), extent_px(&label) / 2.0);
            let fits = along + half <= free_until;
            if fits {
                free_until = along - half;
            }
            if fits || !number {
                axis.ticks.push((value, fits.then_some(label)));
            }
        }
        if number {
            axis.ticks.extend(axis.minor_values().into_iter().map(|value| (value, None)));
        }
        axis
    }

    /// What lies between the ticks of a logarithmic axis: 1, 2 and 5 of each decade, where they
    /// have no label and are not too many.
    fn minor_values(&self) -> Vec<f64> {
        let (low, high) = self.range;
        let length = (self.px.1 - self.px.0).abs();
        if !self.log || high - low <= 0.7 || length / (high - low) < 24.0 {
            return Vec::new();
        }
        let has_tick = |value: f64| self.ticks.iter().any(|(tick, _)| (tick / value).ln().abs() < 1e-6);
        self.of_each_decade(&[1.0, 2.0, 5.0]).filter(|value| !has_tick(*value)).collect()
    }

    /// These multiples of each decade of a logarithmic axis, as far as they lie on it.
    fn of_each_decade(&self, multiples: &[f64]) -> impl Iterator<Item = f64> {
        let (low, high) = self.range;
        let decades = low.floor() as i32..=high.ceil() as i32;
        let all = decades.flat_map(move |n| multiples.iter().map(move |m| m * 10f64.powi(n)));
        all.filter(move |value| (low..=high).contains(&value.log10()))
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let bent = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (bent - self.range.0) / (self.range.1 - self.range.0);
        self.px.0 + share.clamp(0.0, 1.0) * (self.px.1 - self.px.0)
    }

    /// Ascending values worth a tick: multiples of 1, 2 or 5; on a logarithmic axis 1, 2 and 5 of
    /// each decade, or where these are too many, powers of ten with equal distances.
    fn round_values(&self) -> Vec<f64> {
        let room = ((self.px.1 - self.px.0).abs() / 44.0).clamp(2.0, 8.0);
        let power = |exponent: i32| 10f64.powi(exponent);
        let (low, high) = self.range;
        if self.log && high - low > 0.7 {
            let all: Vec<f64> = self.of_each_decade(&[1.0, 2.0, 5.0]).collect();
            if (all.len() as f64) <= room * 1.5 && all.len() > 2 {
                return all;
            }
            if all.len() > 2 {
                let whole: Vec<f64> = self.of_each_decade(&[1.0]).collect();
                if whole.len() <= 2 {
                    return all;
                }
                let stride = ((high - low) / room).ceil().max(1.0) as i32;
                let is_kept = |value: &f64| value.log10().round() as i32 % stride == 0;
                return whole.into_iter().filter(is_kept).collect();
            }
        }
        let (low, high) = if self.log { (10f64.powf(low), 10f64.powf(high)) } else { (low, high) };
        let exponent = ((high - low) / room).log10().floor().clamp(-300.0, 300.0) as i32;
        let steps =
            [(5, -1), (1, 0), (2, 0), (5, 0), (1, 1)].map(|(m, n)| f64::from(m) * power(exponent + n));
        let widest = steps[1..].iter().position(|step| (high - low) / step <= room).map_or(4, |at| at + 1);
        let multiples = |step: f64| -> Vec<f64> {
            let first = (low / step).ceil() as i64;
            (first..).map(|n| n as f64 * step).take_while(|value| *value <= high).take(50).collect()
        };
        // Two ticks are too few to read a value between them.
        let values = multiples(steps[widest]);
        if values.len() > 2 { values } else { multiples(steps[widest - 1]) }
    }
}

/// Where it was measured; and where that is at two places, at round ones between them.
fn enough_ticks(measured: &[f64], kind: Kind) -> Vec<f64> {
    let [low, high] = *measured else { return measured.to_vec() };
    let between: Vec<f64> = match kind {
        Kind::Bytes => (0..40).map(|power| f64::from(power).exp2()).collect(),
        Kind::Count | Kind::Number | Kind::Ratio => {
            (0..12).map(|step| low.floor() + f64::from(step)).collect()
        }
    };
    let mut between: Vec<f64> = between.into_iter().filter(|value| low < *value && *value < high).collect();
    if kind == Kind::Count && high - low > 12.0 {
        between.clear();
    }
    // Three of them at most.
    let stride = between.len().div_ceil(3).max(1);
    let between = between.into_iter().skip(stride / 2).step_by(stride);
    [low].into_iter().chain(between).chain([high]).collect()
}

pub(super) fn tick_label(value: f64, scale: &Scale) -> String {
    if let Some(name) = scale.name(value) {
        return name.clone();
    }
    match scale.kind {
        Kind::Bytes => size(value),
        Kind::Ratio => significant(value, 3) + "×",
        Kind::Count | Kind::Number => {
            let (scaled, suffix) = match value.abs() {
                size if size >= 1e9 => (value / 1e9, "G"),
                size if size >= 1e6 => (value / 1e6, "M"),
                size if size >= 1e4 => (value / 1e3, "k"),
                _ => (value, ""),
            };
            // A hyphen is too short for a minus beside an axis.
            significant(scaled, 4).replace('-', "\u{2212}") + suffix
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(values: &[f64], log: bool, kind: Kind, length_px: f64) -> Vec<String> {
        let scale = Scale::new("", log, kind);
        let extent = |label: &str| label.len() as f64 * 8.0;
        let axis = DrawnAxis::new(&scale, values, values, (0.0, length_px), extent);
        axis.ticks.into_iter().rev().filter_map(|(_, label)| label).collect()
    }

    #[test]
    fn sizes_are_ticked_where_they_were_measured() {
        let sizes = [64.0, 1024.0, 65536.0, 1_048_576.0, 6_291_456.0];
        assert_eq!(labels(&sizes, true, Kind::Bytes, 800.0), ["64B", "1K", "64K", "1M", "6M"]);
        assert_eq!(labels(&[1.0, 4.0, 12.0], false, Kind::Count, 300.0), ["1", "4", "12"]);
        assert_eq!(labels(&[1.0, 4.0], false, Kind::Count, 300.0), ["1", "2", "3", "4"], "two are too few");
        assert_eq!(labels(&[64.0, 8192.0], true, Kind::Bytes, 800.0), ["64B", "256B", "1K", "4K", "8K"]);
    }

    #[test]
    fn what_does_not_fit_loses_its_label_and_not_its_tick() {
        let sizes: Vec<f64> = (6..=20).map(|power| f64::from(1 << power)).collect();
        let scale = Scale::new("", true, Kind::Bytes);
        let axis = DrawnAxis::new(&scale, &sizes, &sizes, (0.0, 400.0), |label| label.len() as f64 * 8.0);
        assert_eq!(axis.ticks.len(), sizes.len());
        let ends: Vec<_> = axis
            .ticks
            .iter()
            .filter_map(|(value, label)| Some((axis.at(*value), label.as_ref()?.len() as f64 * 4.0)))
            .collect();
        assert!(ends.len() > 4, "{ends:?}");
        assert!(ends.windows(2).all(|pair| pair[1].0 + pair[1].1 <= pair[0].0 - pair[0].1), "{ends:?}");
    }

    #[test]
    fn what_lies_beyond_an_axis_is_put_at_its_end() {
        let scale = Scale::new("", true, Kind::Number);
        let axis = DrawnAxis::new(&scale, &[1.0, 10.0], &[], (300.0, 0.0), |_| 20.0);
        assert_eq!([-1.0, 0.0, 1e9].map(|value| axis.at(value) as i32), [300, 300, 0]);
    }

    #[test]
    fn numbers_are_ticked_at_round_values() {
        let ticks = |low: f64, high: f64, log| labels(&[low, high], log, Kind::Number, 330.0).join(" ");
        assert_eq!(ticks(0.3, 40.0, true), "0.5 1 2 5 10 20 50");
        assert_eq!(ticks(0.02, 120.0, true), "0.1 1 10 100");
        assert_eq!(ticks(0.96, 1.09, true), "0.96 0.98 1 1.02 1.04 1.06 1.08");
        assert_eq!(ticks(12.0, 4_000_000.0, true), "10 100 1000 10k 100k 1M");
        assert_eq!(ticks(20.0, 170.0, false), "0 50 100 150");
        assert_eq!(ticks(0.0, 0.0, false), "0 0.02 0.04 0.06 0.08 0.1");
        assert_eq!(ticks(1.2, 9.0, true), "2 4 6 8", "2 and 5 alone would be too few");
        assert_eq!(ticks(-3.0, 3.0, false), "\u{2212}3 \u{2212}2 \u{2212}1 0 1 2 3");
    }

    proptest! {
        #[test]
        fn whatever_the_values_ticks_are_few_and_plain(
            values in prop::collection::vec(prop_oneof![1e-9..1e15f64, 0.9..1.1f64, Just(0.0), -1e6..1e6f64], 1..20),
            log: bool,
        ) {
            prop_assume!(!log || values.iter().any(|value| *value > 0.0));
            let labels = labels(&values, log, Kind::Number, 330.0);
            prop_assert!((3..=13).contains(&labels.len()), "{:?}", labels);
            prop_assert!(labels.iter().all(|label| !label.contains('e')), "{:?}", labels);
        }
    }
}
