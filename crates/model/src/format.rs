//! How sizes, numbers, times and percentages are written for people: one rule for each, wherever it
//! is printed.

/// A size to three significant digits: `64B`, `4K`, `9.77K`, `1M`. [`size`] has the fewest.
pub fn bytes(bytes: f64) -> String {
    let (scaled, unit) = match bytes {
        size if size >= f64::from(1 << 20) => (bytes / f64::from(1 << 20), "M"),
        size if size >= 1024.0 => (bytes / 1024.0, "K"),
        _ => (bytes, "B"),
    };
    format!("{}{unit}", significant(scaled, 3))
}

/// A range of such sizes: `34.1K to 36.4K`.
pub fn bytes_range(low: f64, high: f64) -> String {
    format!("{} to {}", bytes(low), bytes(high))
}

/// A size as the command line takes it, exact: `64`, `8K`, `1M`.
pub fn exact_size(bytes: usize) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

/// A size in the fewest letters: `64B`, `4.8K`, `12K`, `1M`. Whole ones are exact, others are
/// written to two digits, and to the unit from 100 on.
pub fn size(bytes: f64) -> String {
    let (value, unit) = match bytes {
        // From where the smaller unit would be written as 1024.
        many if many >= 1023.5 * 1024.0 => (many / 1_048_576.0, "M"),
        some if some >= 1023.5 => (some / 1024.0, "K"),
        few => (few, "B"),
    };
    let decimals = usize::from(unit != "B" && value < 9.95);
    let text = format!("{value:.decimals$}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A range of such sizes: `4.8K to 12K`.
pub fn size_range(low: f64, high: f64) -> String {
    format!("{} to {}", size(low), size(high))
}

/// A measured number, with its zeros: four significant digits, all of those before the point.
pub fn number(value: f64) -> String {
    digits(value, 4)
}

/// A number with its interval: `12.30 [12.10, 12.50]`.
pub fn number_with_interval(value: f64, interval: Option<(f64, f64)>) -> String {
    match interval {
        Some((low, high)) => format!("{} [{}, {}]", number(value), number(low), number(high)),
        None => number(value),
    }
}

/// `value` with `significant` digits, zeros included, and never as a power of ten. Digits before
/// the point are not rounded away.
pub fn digits(value: f64, significant: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.abs().to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (significant - 1 - magnitude).clamp(0, 12) as usize;
    format!("{value:.decimals$}")
}

/// As [`digits`], without zeros at the end.
pub fn significant(value: f64, digits: i32) -> String {
    let text = self::digits(value, digits);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A time in the unit that fits it, to four significant digits: `812 ns`, `20.35 µs`, `1.204 ms`.
pub fn time(ns: f64) -> String {
    let (scaled, unit) = match ns.abs() {
        time if time >= 1e9 => (ns / 1e9, "s"),
        time if time >= 1e6 => (ns / 1e6, "ms"),
        time if time >= 1e3 => (ns / 1e3, "µs"),
        _ => (ns, "ns"),
    };
    format!("{} {unit}", number(scaled))
}

/// A share of a whole. What is not all or nothing is not rounded to it.
pub fn share(share: f64) -> String {
    match share * 100.0 {
        all @ (0.0 | 100.0) => format!("{all:.0} %"),
        percent if percent > 99.9 => "almost 100 %".to_owned(),
        percent if percent < 0.1 => "almost 0 %".to_owned(),
        percent => {
            let text = format!("{percent:.1}");
            // What is written alike is read as equal.
            format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
        }
    }
}

/// A ratio as a difference, to a hundredth of a percent below ten percent and to a tenth above:
/// `+2.14 %`, `-12.3 %`.
pub fn difference(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    format!("{percent:+.*} %", decimals(percent))
}

/// As [`difference`], to a tenth of a percent throughout: `+2.1 %`.
pub fn rough_difference(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

/// As [`difference`], with an interval: `+2.14 % [+1.80 %, +2.41 %]`.
pub fn difference_with_interval(ratio: f64, low: f64, high: f64) -> String {
    format!("{} [{}, {}]", difference(ratio), difference(low), difference(high))
}

/// How far something may be from 1, without a sign: `0.52 %`. Rounded as [`difference`].
pub fn distance(distance: f64) -> String {
    let percent = distance * 100.0;
    format!("{percent:.*} %", decimals(percent))
}

fn decimals(percent: f64) -> usize {
    if percent.abs() < 10.0 { 2 } else { 1 }
}

/// `a, b and c`.
pub fn list(items: &[String]) -> String {
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
    fn sizes_are_written_to_three_digits() {
        let written = [64.0, 1000.0, 1024.0, 4096.0, 65536.0, 1_048_576.0, 10_000.0, 200_000.0].map(bytes);
        assert_eq!(written, ["64B", "1000B", "1K", "4K", "64K", "1M", "9.77K", "195K"]);
    }

    #[test]
    fn sizes_are_written_in_the_fewest_letters() {
        let written = [64.0, 812.4, 1023.7, 9318.4, 10_220.0, 16384.0, 200_000.0, 1_048_500.0, 1_363_149.0];
        let expected = ["64B", "812B", "1K", "9.1K", "10K", "16K", "195K", "1M", "1.3M"];
        assert_eq!(written.map(size), expected);
        assert_eq!(size_range(4915.2, 11980.8), "4.8K to 12K");
    }

    #[test]
    fn numbers_keep_four_digits_and_those_before_the_point() {
        assert_eq!(
            [0.0, 0.012_345, 1.0, 27.4741, 123_456.0, -2.5].map(number),
            ["0", "0.01235", "1.000", "27.47", "123456", "-2.500"]
        );
        assert_eq!(
            [1.0, 0.5, 100.0, 1.0 / 3.0].map(|value| significant(value, 4)),
            ["1", "0.5", "100", "0.3333"]
        );
        assert_eq!(number_with_interval(1.0, Some((0.9, 1.1))), "1.000 [0.9000, 1.100]");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(
            [0.0, 812.0, 20_350.0, 1_204_000.0, 2e9].map(time),
            ["0 ns", "812.0 ns", "20.35 µs", "1.204 ms", "2.000 s"]
        );
    }

    #[test]
    fn a_share_is_all_or_nothing_only_if_it_is() {
        assert_eq!(
            [0.0, 0.0001, 0.3, 0.300_01, 0.125, 0.9999, 1.0].map(share),
            ["0 %", "almost 0 %", "30 %", "30 %", "12.5 %", "almost 100 %", "100 %"]
        );
    }

    #[test]
    fn differences_have_a_sign_and_as_many_decimals_as_matter() {
        assert_eq!([1.0214, 0.877, 1.0].map(difference), ["+2.14 %", "-12.3 %", "+0.00 %"]);
        assert_eq!(difference_with_interval(1.02, 1.01, 1.03), "+2.00 % [+1.00 %, +3.00 %]");
        assert_eq!(distance(0.0052), "0.52 %");
        assert_eq!([0.95, 1.06, 1.0004].map(rough_difference), ["-5.0 %", "+6.0 %", "+0.0 %"]);
    }

    #[test]
    fn lists_read_as_sentences_do() {
        let of = |items: &[&str]| list(&items.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!([of(&[]), of(&["a"]), of(&["a", "b", "c"])], ["", "a", "a, b and c"]);
    }
}
