//! What Criterion's arguments ask for, as far as it has to be known before Criterion asks for a
//! sample. Criterion reads them all itself, and refuses what it does not know.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use regex::Regex;

/// What is to be done with each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: Criterion lists names, prints its help, or loads what was measured before.
    Idle,
    /// It is run once (`--test`).
    Test,
    /// It is run for some time, and nothing is measured (`--profile-time`).
    Profile,
    /// It is sampled until two samples agree (`--quick`).
    Quick,
    /// It is sampled.
    Sample,
}

/// What Criterion was asked for.
pub struct Arguments {
    pub mode: Mode,
    pub sample_size: Option<usize>,
    pub measurement_time: Option<Duration>,
    pub warm_up_time: Option<Duration>,
    filter: Filter,
}

enum Filter {
    All,
    Nothing,
    Exactly(String),
    Matching(Regex),
}

/// Criterion's options that have a value.
const VALUED: [(&str, Option<char>); 17] = [
    ("color", Some('c')),
    ("colour", None),
    ("save-baseline", Some('s')),
    ("baseline", Some('b')),
    ("baseline-lenient", None),
    ("format", None),
    ("profile-time", None),
    ("load-baseline", None),
    ("sample-size", None),
    ("warm-up-time", None),
    ("measurement-time", None),
    ("nresamples", None),
    ("noise-threshold", None),
    ("confidence-level", None),
    ("significance-level", None),
    ("plotting-backend", None),
    ("output-format", None),
];
/// And those that have none.
const FLAGS: [(&str, Option<char>); 15] = [
    ("verbose", Some('v')),
    ("quiet", None),
    ("noplot", Some('n')),
    ("discard-baseline", None),
    ("list", None),
    ("ignored", None),
    ("exact", None),
    ("quick", None),
    ("test", None),
    ("bench", None),
    ("nocapture", None),
    ("show-output", None),
    ("include-ignored", None),
    ("version", Some('V')),
    ("help", Some('h')),
];

impl Default for Arguments {
    /// Everything is sampled.
    fn default() -> Self {
        Self {
            mode: Mode::Sample,
            sample_size: None,
            measurement_time: None,
            warm_up_time: None,
            filter: Filter::All,
        }
    }
}

impl Arguments {
    /// Those of this process.
    pub fn read() -> Self {
        let refused = Self { mode: Mode::Idle, ..Self::default() }; // Criterion says what is wrong
        Self::parse(std::env::args()).unwrap_or(refused)
    }

    /// None where Criterion would refuse them.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Option<Self> {
        let option = |(name, short): (&'static str, Option<char>)| {
            Arg::new(name).long(name).short(short).action(ArgAction::Append)
        };
        let flag = |named| option(named).action(ArgAction::Count);
        let matches = Command::new("")
            .disable_help_flag(true)
            .disable_version_flag(true)
            .arg(Arg::new("filter"))
            .args(VALUED.map(option))
            .args(FLAGS.map(flag))
            .try_get_matches_from(arguments)
            .ok()?;
        let given = |name| matches.get_count(name) > 0;
        let mode = if given("list")
            || given("help")
            || given("version")
            || text(&matches, "load-baseline").is_some()
        {
            Mode::Idle
        } else if given("test") || !given("bench") {
            Mode::Test
        } else if text(&matches, "profile-time").is_some() {
            Mode::Profile
        } else if given("quick") {
            Mode::Quick
        } else {
            Mode::Sample
        };
        let filter = match matches.get_one::<String>("filter") {
            _ if given("ignored") => Filter::Nothing,
            None => Filter::All,
            Some(text) if given("exact") => Filter::Exactly(text.clone()),
            Some(text) => Filter::Matching(Regex::new(text).ok()?),
        };
        let time = |name| Duration::try_from_secs_f64(text(&matches, name)?.parse().ok()?).ok();
        Some(Self {
            mode,
            sample_size: text(&matches, "sample-size").and_then(|size| size.parse().ok()),
            measurement_time: time("measurement-time"),
            warm_up_time: time("warm-up-time"),
            filter,
        })
    }

    /// Whether a case is to be measured, by its id.
    pub fn lets_through(&self, id: &str) -> bool {
        match &self.filter {
            Filter::All => true,
            Filter::Nothing => false,
            Filter::Exactly(text) => id == text,
            Filter::Matching(regex) => regex.is_match(id),
        }
    }
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_many::<String>(name)?.next_back().map(String::as_str)
}
