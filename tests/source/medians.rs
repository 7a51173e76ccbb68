//! The interval that the floor's verdicts are read off.

#[allow(dead_code, reason = "the experiments use the rest")]
#[path = "../../experiments/ratios.rs"]
mod ratios;

use ratios::Median;

#[test]
fn the_ends_are_those_of_the_sign_test() {
    let ends = |count: i32| {
        let median = Median::of((1..=count).map(f64::from).collect()).unwrap();
        (median.low, median.value, median.high)
    };
    // Conover, Practical Nonparametric Statistics, 3.2: of 20 the 6th and the 15th.
    assert_eq!([6, 9, 20].map(ends), [(1.0, 3.0, 6.0), (2.0, 5.0, 8.0), (6.0, 10.0, 15.0)]);
    assert_eq!(ends(5), (0.0, 3.0, f64::INFINITY), "fewer than six have no ends");
    assert!(Median::of(Vec::new()).is_none());
}
