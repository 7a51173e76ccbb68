//! What the benches read from Criterion's arguments, so that they measure ahead what Criterion will
//! ask for.

#[path = "../../benches/support/arguments.rs"]
#[allow(dead_code, reason = "the benches call the rest")]
mod arguments;

use std::time::Duration;

use arguments::{Arguments, Mode};

fn parsed(arguments: &str) -> Arguments {
    let words = ["bench", "--bench"].into_iter().chain(arguments.split_whitespace());
    Arguments::parse(words.map(str::to_owned)).unwrap_or_else(|| panic!("{arguments} is refused"))
}

#[test]
fn the_mode_is_criterions() {
    for (arguments, mode) in [
        ("", Mode::Sample),
        ("--sample-size 20 -n", Mode::Sample),
        ("--save-baseline before", Mode::Sample),
        ("--quick", Mode::Quick),
        ("--test", Mode::Test),
        ("--profile-time 5", Mode::Profile),
        ("--list --format terse", Mode::Idle),
        ("-h", Mode::Idle),
        ("-V", Mode::Idle),
        ("--load-baseline=before --baseline after", Mode::Idle),
    ] {
        assert_eq!(parsed(arguments).mode, mode, "{arguments:?}");
    }
    let by_cargo_test = Arguments::parse(["bench".to_owned()]).map(|arguments| arguments.mode);
    assert_eq!(by_cargo_test, Some(Mode::Test), "without --bench Criterion only tests");
    assert!(Arguments::parse(["bench", "--no-such-option"].map(str::to_owned)).is_none());
    assert!(Arguments::parse(["bench", "("].map(str::to_owned)).is_none(), "no regular expression");
}

#[test]
fn times_and_sizes_are_read() {
    let arguments = parsed("--measurement-time 0.5 --warm-up-time=2 --sample-size 30");
    assert_eq!(arguments.sample_size, Some(30));
    assert_eq!(arguments.measurement_time, Some(Duration::from_millis(500)));
    assert_eq!(arguments.warm_up_time, Some(Duration::from_secs(2)));
    let arguments = parsed("");
    let unset = (arguments.sample_size, arguments.measurement_time, arguments.warm_up_time);
    assert_eq!(unset, (None, None, None));
}

#[test]
fn the_filter_lets_through_what_criterions_does() {
    let id = "bw/01/zero/page/K064";
    for (arguments, through) in [
        ("", true),
        ("zero/page", true),
        ("bw/01/(two|zero)/.*/K064", true),
        ("-s name zero", true),
        ("--color never zero", true),
        ("two", false),
        ("^zero", false),
        ("--exact bw/01/zero/page/K064", true),
        ("--exact bw/01/zero/page", false),
        ("--ignored zero", false),
    ] {
        assert_eq!(parsed(arguments).lets_through(id), through, "{arguments:?}");
    }
}
