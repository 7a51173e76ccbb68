//! The commands `ab`, `compare` and `history`: verdicts and exit codes, formats, faults, and what
//! is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{anywhere, clean, pinning_at_most, sendpath, stderr, whoever_runs_it};
use libtest_mimic::{Failed, Trial};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use sendpath::ab::worker::PROTOCOL;
use sendpath::sample::{RoundTrips, Sample, SideReport};
use serde::Deserialize;
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    vec![
        whoever_runs_it("the_exit_code_follows_from_the_numbers", exit_codes),
        whoever_runs_it("each_format_is_as_stored", formats),
        whoever_runs_it("every_key_of_json_is_documented_with_its_unit", documented),
        whoever_runs_it("a_service_gets_its_values_and_a_regression_is_no_failed_command", services),
        whoever_runs_it("a_service_gets_an_error_and_no_empty_file", nothing_for_a_service),
        whoever_runs_it("there_is_a_comment_whatever_fails", comments_on_failures),
        anywhere("what_a_limit_forbids_to_pin_is_left_out_and_said", beyond_memlock),
        whoever_runs_it("what_is_settled_is_measured_no_more", settled),
        anywhere("real_workers_are_compared_and_the_exit_code_is_that_of_the_verdicts", real_workers),
        anywhere("without_io_uring_its_cases_fail_alone_and_the_others_are_compared", without_io_uring),
        whoever_runs_it("a_setting_that_is_slower_is_a_regression", slower),
        whoever_runs_it("bad_input_of_ab_is_one_line_and_exit_2", bad_input),
        whoever_runs_it("a_program_without_a_worker_is_named_and_exit_4", no_worker),
        whoever_runs_it("another_protocol_is_refused_and_says_which_side_is_older", other_protocol),
        whoever_runs_it("each_revision_is_built_from_its_own_source", revisions),
        whoever_runs_it("a_revision_that_does_not_build_is_named_and_nothing_stays", broken_revision),
        whoever_runs_it("interrupted_in_a_build_it_leaves_nothing", interrupted_build),
        anywhere("interrupted_it_prints_what_it_has", interrupted),
        whoever_runs_it("the_exit_code_of_compare_follows_from_the_two_sweeps", compare),
        whoever_runs_it("compare_lists_the_cases_that_only_one_sweep_has", only_one_has),
        whoever_runs_it("a_history_shows_every_sweep_and_leaves_out_what_is_none", history),
    ]
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_sendpath");
const SMALL: &str = "--netns loopback --placement free --path two_copy --layout heap";

fn ab(arguments: &str) -> Command {
    let mut command = sendpath();
    command.args(["ab", "--base-bin", PROGRAM, "--change-bin", PROGRAM]);
    command.args(SMALL.split_whitespace()).args(arguments.split_whitespace());
    command
}

/// A program that answers as a worker does, with numbers that are given.
struct Fake {
    /// Nanoseconds for a message: the first process has the first, the next process the next, and
    /// so on in turn.
    message_ns: Vec<u64>,
}

/// The first line of a worker with this protocol.
fn ready(protocol: u32) -> String {
    format!(
        r#"{{"Ready":{{"protocol":{protocol},"program":{{"version":"0","revision":"fake","dirty":false}}}}}}"#
    )
}

const OPENED: &str = r#"{"Opened":{"burst_ns":1000}}"#;

/// The answer to a burst of 1000 messages of `message_ns` each, half of it on the CPU.
fn done(message_ns: u64) -> Result<String, Failed> {
    let (messages, elapsed_ns) = (1000, 1000 * message_ns);
    let side = SideReport {
        end_ns: elapsed_ns,
        pairs_ns: elapsed_ns,
        user_ns: elapsed_ns / 8,
        system_ns: elapsed_ns / 8,
        ..SideReport::default()
    };
    let round_trips = RoundTrips {
        sum_ns: elapsed_ns,
        count: messages,
        max_ns: message_ns,
        histogram: vec![(message_ns, messages)],
    };
    let client = SideReport { round_trips: Some(round_trips), ..side.clone() };
    let sample = Sample { elapsed_ns, messages, pairs: 1, server: side, client };
    Ok(format!(r#"{{"Done":{}}}"#, serde_json::to_string(&sample)?))
}

fn script(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

impl Fake {
    /// Writes it as a script.
    fn write(&self, path: &Path) -> Result<(), Failed> {
        let shown = path.display();
        fs::write(format!("{shown}.count"), "0\n")?;
        for (index, &message_ns) in self.message_ns.iter().enumerate() {
            fs::write(format!("{shown}.{index}"), done(message_ns)? + "\n")?;
        }
        let text = format!(
            "read -r count <'{shown}.count'\n\
             echo $((count + 1)) >'{shown}.count'\n\
             read -r sample <'{shown}'.$((count % {}))\n\
             echo '{}'\n\
             while read -r question; do\n\
                 case $question in\n\
                     *Open*) echo '{OPENED}' ;;\n\
                     *) printf '%s\\n' \"$sample\" ;;\n\
                 esac\n\
             done",
            self.message_ns.len(),
            ready(PROTOCOL),
        );
        script(path, &text)
    }
}

/// Compares fake workers in `folder`: the base takes 1000 ns, the change what is given.
fn fakes(folder: &Path, change_ns: &[u64], arguments: &str) -> Result<Output, Failed> {
    Fake { message_ns: vec![1000] }.write(&folder.join("base"))?;
    Fake { message_ns: change_ns.to_vec() }.write(&folder.join("change"))?;
    let command = "ab --base-bin ./base --change-bin ./change --size 64,4K --seed 1 --time 10m";
    let words = [command, SMALL, arguments].into_iter().flat_map(str::split_whitespace);
    Ok(sendpath().current_dir(folder).args(words).output()?)
}

fn exit_codes() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (change_ns, blocks, code, conclusion, verdict) in [
        (&[1000, 1001][..], 6, 0, "No regression", Some("same")),
        (&[800, 801], 6, 0, "No regression", Some("faster")),
        (&[1200, 1201], 6, 1, "Regression", Some("slower")),
        (&[1000, 400, 1000, 1000], 6, 3, "Undecided", Some("undecided")),
        (&[1200, 1201], 2, 3, "Nothing was compared", None),
    ] {
        let output = fakes(folder.path(), change_ns, &format!("--json --blocks {blocks}"))?;
        let text = String::from_utf8(output.stdout.clone())?;
        assert_eq!(output.status.code(), Some(code), "{change_ns:?}: {text}{}", stderr(&output));
        let json: Value = serde_json::from_str(&text)?;
        assert!(json["conclusion"].as_str().is_some_and(|text| text.starts_with(conclusion)), "{text}");
        assert_eq!(json["outcome"]["blocks"], blocks, "{text}");
        let comparisons = json["outcome"]["comparisons"].as_array().ok_or("no comparisons")?;
        assert_eq!(comparisons.len(), if verdict.is_some() { 2 * 4 } else { 0 }, "{text}");
        for comparison in comparisons {
            assert_eq!(comparison["verdict"].as_str(), verdict, "{comparison}");
        }
    }
    let failing =
        format!("echo '{}'\nread -r question\necho '{{\"Failed\":\"no such case\"}}'", ready(PROTOCOL));
    Fake { message_ns: vec![1000] }.write(&folder.path().join("base"))?;
    script(&folder.path().join("change"), &failing)?;
    let words = ["ab --base-bin ./base --change-bin ./change --size 64 --time 10m", SMALL];
    let output = sendpath()
        .current_dir(folder.path())
        .args(words.into_iter().flat_map(str::split_whitespace))
        .output()?;
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains("failed: change: ") && text.contains("no such case"), "{text}");
    Ok(())
}

/// Whether two values are the same, their numbers to nine digits: the last ones differ between
/// processors.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            (one - other).abs() <= 1e-9 * one.abs().max(1.0)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| alike(value, other)))
        }
        _ => one == other,
    }
}

/// Compares an output with its file in tests/golden/ab.
/// `SENDPATH_BLESS=1 cargo test --test command ab` writes the files.
fn golden(name: &str, text: &str) -> Result<(), Failed> {
    let path = Path::new("tests/golden/ab").join(name);
    if std::env::var_os("SENDPATH_BLESS").is_some() {
        fs::create_dir_all("tests/golden/ab")?;
        return Ok(fs::write(path, text)?);
    }
    let stored = fs::read_to_string(&path)?;
    let same = if path.extension().is_some_and(|extension| extension == "json") {
        alike(&serde_json::from_str(&stored)?, &serde_json::from_str(text)?)
    } else {
        stored == text
    };
    assert!(same, "differs from {} (SENDPATH_BLESS=1 writes it):\n{text}", path.display());
    Ok(())
}

fn formats() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (name, option) in [
        ("text.txt", ""),
        ("json.json", "--json"),
        ("markdown.md", "--markdown"),
        ("bencher.json", "--bencher --exit-code"),
        ("github-action-benchmark.json", "--github-action-benchmark --exit-code"),
    ] {
        let output = fakes(folder.path(), &[1200, 1210, 1190], &format!("--blocks 6 {option}"))?;
        assert_eq!(output.status.code(), Some(1), "{option}: {}", stderr(&output));
        golden(name, &String::from_utf8(output.stdout)?)?;
    }
    let options = "--github-action-benchmark --github-action-benchmark-throughput throughput.json";
    let output = fakes(folder.path(), &[1200, 1210, 1190], &format!("--blocks 6 {options}"))?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let written = fs::read_to_string(folder.path().join("throughput.json"))?;
    golden("github-action-benchmark-throughput.json", &written)
}

/// docs/book/src/format.md has a row for every key of the stored `json.json`.
fn documented() -> Result<(), Failed> {
    let stored: Value = serde_json::from_str(include_str!("../golden/ab/json.json"))?;
    let (_, section) = include_str!("../../docs/book/src/format.md")
        .split_once("## What ab prints with --json")
        .ok_or("no section")?;
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let (top, outcome) = (&stored, &stored["outcome"]);
    for (prefix, object) in [("", top), ("outcome.", outcome), ("", &outcome["comparisons"][0])] {
        for key in object.as_object().ok_or("no object")?.keys().filter(|key| *key != "outcome") {
            let word = format!("`{prefix}{key}");
            let is_named = |row: &&str| row.split('|').nth(1).is_some_and(|cell| cell.contains(&word));
            assert!(rows.iter().any(is_named), "{word}`");
        }
    }
    Ok(())
}

/// What Bencher's adapter takes: `JsonV0Results` of `lib/bencher_adapter/src/adapters/json/v0.rs`,
/// and `JsonNewMetric`.
type BencherResults = BTreeMap<String, BTreeMap<String, BencherMetric>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BencherMetric {
    value: f64,
    lower_value: Option<f64>,
    upper_value: Option<f64>,
}

/// What github-action-benchmark takes: `BenchmarkResult` of its `src/extract.ts`, which copies
/// these keys and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "that they are there, and of these types, is what is tested")]
struct BenchmarkResult {
    name: String,
    value: f64,
    unit: String,
    range: Option<String>,
    extra: Option<String>,
}

/// Both services take what a command printed only if it exits with 0: `bencher run` by its own rule
/// (`is_success` in `generate_local_report`, services/cli/src/bencher/sub/run/mod.rs),
/// github-action-benchmark since a workflow's step ends there.
fn taken_by_a_service(output: &Output) -> Result<String, Failed> {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("WORSE") && text.contains("Regression: "), "{text}");
    Ok(String::from_utf8(output.stdout.clone())?)
}

fn services() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let slower = |arguments: &str| fakes(folder.path(), &[1200, 1201], &format!("--blocks 6 {arguments}"));
    let bencher: BencherResults = serde_json::from_str(&taken_by_a_service(&slower("--bencher")?)?)?;
    assert_eq!(bencher.len(), 2);
    for (case, measures) in &bencher {
        // Built in, with these slugs and units: `create_measure!` in
        // lib/bencher_json/src/project/measure/built_in.rs.
        let value = |measure: &str| measures.get(measure).map(|metric| metric.value);
        assert!(value("latency").is_some_and(|ns| (1200.0..1202.0).contains(&ns)), "{case}");
        // One pair, so that a message takes what a round trip takes.
        assert!(value("throughput").is_some_and(|per_s| (8.2e5..8.4e5).contains(&per_s)), "{case}");
        for (measure, metric) in measures {
            let is_slug =
                measure.chars().all(|letter| letter.is_ascii_lowercase() || "-0123456789".contains(letter));
            assert!(
                is_slug,
                "{measure}: the server takes what is no slug for a name, and makes another slug of it"
            );
            assert!(metric.lower_value.is_some_and(|low| low <= metric.value), "{case} {measure}");
            assert!(metric.upper_value.is_some_and(|high| high >= metric.value), "{case} {measure}");
        }
    }
    let times = "--github-action-benchmark --github-action-benchmark-throughput more.json";
    let smaller: Vec<BenchmarkResult> = serde_json::from_str(&taken_by_a_service(&slower(times)?)?)?;
    let bigger: Vec<BenchmarkResult> = serde_json::from_slice(&fs::read(folder.path().join("more.json"))?)?;
    assert_eq!((smaller.len(), bigger.len()), (2 * 3, 2));
    assert!(bigger.iter().all(|entry| entry.name.ends_with(" throughput_gbps") && entry.unit == "Gb/s"));
    assert!(smaller.iter().all(|entry| !entry.name.contains("throughput") && entry.unit == "ns"));
    Ok(())
}

fn nothing_for_a_service() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let both = "--github-action-benchmark --github-action-benchmark-throughput more.json";
    for option in ["--bencher", "--github-action-benchmark", both] {
        let output = fakes(folder.path(), &[1000, 1001], &format!("--blocks 1 {option}"))?;
        refused(&output, 4, "Nothing was compared");
        assert!(!folder.path().join("more.json").exists(), "{option}");
    }
    refused(&ab("--github-action-benchmark-throughput more.json").output()?, 2, "--github-action-benchmark");
    Ok(())
}

/// The comment of a run that exits with `code`. It says what standard error says, and has the
/// marker by which a workflow finds the one before it.
fn comment_on_failure(output: &Output, code: i32, word: &str) -> Result<(), Failed> {
    let (text, comment) = (stderr(output), String::from_utf8(output.stdout.clone())?);
    assert_eq!(output.status.code(), Some(code), "{word}: {text}");
    assert!(text.contains(word), "{word}: {text}");
    assert!(comment.starts_with("<!-- sendpath ab -->\n### sendpath: "), "{word}: {comment}");
    assert!(comment.contains(word), "{word}: {comment}");
    Ok(())
}

fn comments_on_failures() -> Result<(), Failed> {
    let here = |arguments: &str| sendpath().args(arguments.split_whitespace()).output();
    comment_on_failure(&here("ab HEAD --blocks 0 --markdown")?, 2, "--blocks")?;
    comment_on_failure(
        &here("ab --markdown --base-bin /none --change-bin /bin/true")?,
        2,
        "/none is not a file",
    )?;
    comment_on_failure(
        &here("ab --markdown --base-bin /bin/true --change-bin /bin/true")?,
        4,
        "no error: /bin/true",
    )?;
    let (repository, temporary) = (repository("fn main() { no such thing }", None)?, tempfile::tempdir()?);
    let output = clean(Command::new(PROGRAM))
        .current_dir(repository.path())
        .env("TMPDIR", temporary.path())
        .args(["ab", "HEAD", "--markdown"])
        .output()?;
    comment_on_failure(&output, 4, "does not build: error")?;
    let folder = tempfile::tempdir()?;
    Fake { message_ns: vec![1000] }.write(&folder.path().join("base"))?;
    let failing =
        format!("echo '{}'\nread -r question\necho '{{\"Failed\":\"no such case\"}}'", ready(PROTOCOL));
    script(&folder.path().join("change"), &failing)?;
    let words = ["ab --base-bin ./base --change-bin ./change --size 64 --time 10m --markdown", SMALL];
    let words = words.into_iter().flat_map(str::split_whitespace);
    let output = sendpath().current_dir(folder.path()).args(words).output()?;
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let comment = String::from_utf8(output.stdout)?;
    let (first, all) = comment.split_once("<details>").ok_or("the comment has no table")?;
    assert!(first.contains("### sendpath: 1 case failed. Nothing was compared.\n"), "{comment}");
    assert!(
        first.contains("**Failed**: `rr/two_copy/heap/64B/1T/") && first.contains("no such case"),
        "{comment}"
    );
    assert!(!all.contains("no such case"), "{comment}");
    Ok(())
}

fn beyond_memlock() -> Result<(), Failed> {
    let limited = |arguments: &str| {
        let mut command = sendpath();
        command.args([
            "ab",
            "--base-bin",
            PROGRAM,
            "--change-bin",
            PROGRAM,
            "--netns",
            "loopback",
            "--blocks",
            "3",
        ]);
        command.args("--placement free --time 10m --markdown".split_whitespace());
        command.args(arguments.split_whitespace());
        // What hosted runners allow.
        pinning_at_most(&mut command, 64 << 10);
        command.output()
    };
    let output = limited("--path two_copy,zero_copy --layout page --size 4K,256K")?;
    let (text, comment) = (stderr(&output), String::from_utf8(output.stdout.clone())?);
    // Which verdict it is, is up to the machine. That it is one is not.
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{text}{comment}");
    let case = "rr/zero_copy/page/262144B/1T/free";
    assert!(text.contains(&format!("left out: {case}: RLIMIT_MEMLOCK is 65536 bytes, ")), "{text}");
    assert!(comment.contains(&format!("| `{case}` | | | left out: RLIMIT_MEMLOCK ")), "{comment}");
    assert!(
        !comment.contains("ailed") && comment.contains("| `rr/zero_copy/page/4096B/1T/free` | throughput |"),
        "{comment}"
    );
    comment_on_failure(
        &limited("--path zero_copy --layout page --size 256K")?,
        2,
        "no case can be measured here",
    )
}

/// A run of which all cases are settled ends before its time; another goes on.
fn settled() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let output = fakes(folder.path(), &[1000, 1001], "--json --blocks 40")?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), &json["outcome"]["blocks"]), (Some(0), &8.into()), "{json}");
    let output = fakes(folder.path(), &[1000, 400, 1000, 1000], "--json --blocks 12")?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), &json["outcome"]["blocks"]), (Some(0), &12.into()), "{json}");
    Ok(())
}

fn without_io_uring() -> Result<(), Failed> {
    let mut command = ab("--size 64 --blocks 4 --time 10m --json --engine syscall,uring");
    crate::common::forbid_io_uring(&mut command, libc::EPERM);
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(4), "a case has failed: {}", stderr(&output));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let comparisons = json["outcome"]["comparisons"].as_array().ok_or("no comparisons")?;
    assert!(!comparisons.is_empty(), "{json}");
    assert!(comparisons.iter().all(|found| found["case"] == "rr/two_copy/heap/64B/1T/free"), "{json}");
    let text = json.to_string();
    assert!(text.contains("/free/uring") && text.contains("io_uring_setup(2)"), "{text}");
    Ok(())
}

fn real_workers() -> Result<(), Failed> {
    let output = ab("--size 64,4K --blocks 4 --time 10m --json").output()?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(json["outcome"]["blocks"], 4, "{json}");
    let comparisons = json["outcome"]["comparisons"].as_array().ok_or("no comparisons")?;
    // A 99th percentile takes more round trips than a busy machine makes in a block, so that it may
    // be left out.
    for (size, metric) in [("64B", "throughput"), ("64B", "p50"), ("4096B", "throughput"), ("4096B", "p50")] {
        let case = format!("rr/two_copy/heap/{size}/1T/free");
        let found = comparisons.iter().filter(|found| found["case"] == *case && found["metric"] == metric);
        assert_eq!(found.count(), 1, "{case} {metric}: {json}");
    }
    for comparison in comparisons {
        let gain = &comparison["gain"];
        let [low, value, high] = ["low", "value", "high"].map(|end| gain[end].as_f64().unwrap_or(f64::NAN));
        assert!(0.0 < low && low <= value && value <= high, "{comparison}");
        assert!(
            comparison["control"].is_object() && comparison["smallest_effect"].as_f64() > Some(0.0),
            "{comparison}"
        );
    }
    // Which verdicts these are is up to the machine. The exit code has to be the one that follows
    // from them.
    let margin = json["outcome"]["margin"].as_f64().ok_or("no margin")?;
    let may_be_worse = |comparison: &Value| {
        comparison["metric"] == "throughput"
            && comparison["lower_bound"].as_f64().is_none_or(|bound| bound <= 1.0 - margin)
    };
    let code = match () {
        () if comparisons.iter().any(|comparison| comparison["verdict"] == "slower") => 1,
        () if comparisons.iter().any(may_be_worse) => 3,
        () => 0,
    };
    assert_eq!(output.status.code(), Some(code), "{json}");
    Ok(())
}

fn slower() -> Result<(), Failed> {
    let output = ab("--size 1M --blocks 6 --time 10m --change-env SENDPATH_BUFFERS=4K").output()?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    assert!(text.contains("WORSE") && text.contains("Regression"), "{text}");
    Ok(())
}

fn refused(output: &Output, code: i32, word: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{word}: {text}");
    assert!(
        text.lines().last().is_some_and(|line| line.starts_with("sendpath: ") && line.contains(word)),
        "{word}: {text}"
    );
    assert!(output.stdout.is_empty(), "{word}");
}

fn bad_input() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let outside =
        |arguments: &str| sendpath().current_dir(folder.path()).args(arguments.split_whitespace()).output();
    refused(&outside("ab HEAD")?, 2, "not in one");
    refused(&outside("ab")?, 2, "<BASE>");
    refused(&outside("ab --base-bin /nonexistent --change-bin /bin/true")?, 2, "/nonexistent is not a file");
    refused(&outside("ab --base-bin /bin/true")?, 2, "--change-bin");
    refused(&outside("ab HEAD --base-env X")?, 2, "NAME=VALUE");
    refused(&outside("ab HEAD --size 3")?, 2, "8 bytes");
    refused(&outside("ab HEAD --blocks 0")?, 2, "--blocks");
    let repository = repository("fn main() {}", None)?;
    let output = sendpath().current_dir(repository.path()).args(["ab", "no-such-revision"]).output()?;
    refused(&output, 2, "no-such-revision");
    let target = repository.path().join("target/ab");
    fs::create_dir_all(&target)?;
    let lock = fs::File::create(target.join("sendpath-ab.lock"))?;
    lock.lock()?;
    let output = sendpath().current_dir(repository.path()).args(["ab", "HEAD"]).output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("another ab is building in "), "{text}");
    Ok(())
}

/// Compares `program` with this build.
fn against(program: &Path) -> Result<Output, Failed> {
    let mut command = sendpath();
    command.args(["ab", "--netns", "loopback", "--change-bin", PROGRAM, "--base-bin"]).arg(program);
    Ok(command.output()?)
}

fn no_worker() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old");
    script(&path, "echo \"error: unrecognized subcommand 'worker'\" >&2; exit 2")?;
    refused(&against(&path)?, 4, "unrecognized subcommand 'worker': ");
    refused(&against(Path::new("/bin/true"))?, 4, "it ended and printed no error: /bin/true");
    Ok(())
}

fn other_protocol() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("other");
    let before = r#"{"Ready":{"schema":2,"program":{"version":"0","revision":"fake","dirty":false}}}"#;
    for (line, word) in [
        (before.to_owned(), "(revision fake) is older than this sendpath"),
        (ready(PROTOCOL - 1), "(revision fake) is older than this sendpath"),
        (ready(PROTOCOL + 1), "(revision fake) is newer than this sendpath"),
    ] {
        script(&path, &format!("echo '{line}'\ncat >/dev/null"))?;
        refused(&against(&path)?, 4, word);
    }
    Ok(())
}

/// A repository with one commit: a package of the name of this one.
fn repository(source: &str, build: Option<&str>) -> Result<tempfile::TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    let write = |path: &str, text: &str| -> Result<(), Failed> {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        Ok(fs::write(path, text)?)
    };
    write(
        "Cargo.toml",
        "[package]\nname = \"sendpath\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"sendpath\"\nversion = \"0.0.0\"\n")?;
    write("src/main.rs", source)?;
    if let Some(build) = build {
        write("build.rs", build)?;
    }
    write(".gitignore", "/target\n")?;
    git(folder.path(), "init --quiet")?;
    commit(folder.path())?;
    Ok(folder)
}

fn git(repository: &Path, arguments: &str) -> Result<String, Failed> {
    let output = Command::new("git").current_dir(repository).args(arguments.split_whitespace()).output()?;
    assert!(output.status.success(), "git {arguments}: {}", stderr(&output));
    Ok(String::from_utf8(output.stdout)?)
}

fn commit(repository: &Path) -> Result<(), Failed> {
    git(repository, "add --all")?;
    git(repository, "-c user.name=test -c user.email=test@localhost commit --quiet --message text")?;
    Ok(())
}

fn worktrees(repository: &Path) -> Result<usize, Failed> {
    Ok(git(repository, "worktree list")?.lines().count())
}

/// What ab left in a folder that is its own for temporary files.
fn left(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let entries = fs::read_dir(folder)?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.display().to_string().contains("sendpath-ab"))
        .collect())
}

/// A package whose program is a fake worker. Its number is in a package beside it, which it depends
/// on.
const FAKE: &str = r#"
use std::io::BufRead;

fn main() {
    // A second number for every second process, so that there is a spread.
    let count = std::env::current_exe().unwrap().with_extension("count");
    let started = std::fs::read_to_string(&count).unwrap_or_default();
    std::fs::write(&count, format!("{started}x")).unwrap();
    println!("{}", include_str!("ready.json"));
    for question in std::io::stdin().lock().lines() {
        let open = question.unwrap().contains("Open");
        println!("{}", if open { include_str!("opened.json") } else { number::DONE[started.len() % 2] });
    }
}
"#;

/// Writes the package `number`: nanoseconds for a message.
fn write_number(repository: &Path, message_ns: u64) -> Result<(), Failed> {
    let source = repository.join("number/src");
    fs::create_dir_all(&source)?;
    fs::write(
        source.join("lib.rs"),
        format!(
            "pub const DONE: [&str; 2] = [r#\"{}\"#, r#\"{}\"#];\n",
            done(message_ns)?,
            done(message_ns + 1)?
        ),
    )?;
    Ok(())
}

fn revisions() -> Result<(), Failed> {
    let (repository, temporary) = (repository("fn main() {}", None)?, tempfile::tempdir()?);
    let write = |path: &str, text: &str| fs::write(repository.path().join(path), text);
    write_number(repository.path(), 1000)?;
    write("src/main.rs", FAKE)?;
    write("src/ready.json", &ready(PROTOCOL))?;
    write("src/opened.json", OPENED)?;
    write("number/Cargo.toml", "[package]\nname = \"number\"\nversion = \"0.0.0\"\nedition = \"2024\"\n")?;
    write(
        "Cargo.toml",
        "[package]\nname = \"sendpath\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\nnumber.path = \"number\"\n[workspace]\n",
    )?;
    write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"number\"\nversion = \"0.0.0\"\n\n\
         [[package]]\nname = \"sendpath\"\nversion = \"0.0.0\"\ndependencies = [\n \"number\",\n]\n",
    )?;
    commit(repository.path())?;
    let ab = |arguments: &str| -> Result<(Option<i32>, Value, String), Failed> {
        let words = ["ab", arguments, "--json --size 64 --blocks 6 --time 10m", SMALL];
        let output = clean(Command::new(PROGRAM))
            .current_dir(repository.path())
            .env("TMPDIR", temporary.path())
            .args(words.into_iter().flat_map(str::split_whitespace))
            .output()?;
        let text = stderr(&output);
        assert_eq!((worktrees(repository.path())?, left(temporary.path())?), (1, Vec::new()), "{text}");
        let json = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {text}"))?;
        Ok((output.status.code(), json, text))
    };
    // The change's files are older than the checkout of the base, so that cargo alone would not
    // build them.
    write_number(repository.path(), 1200)?;
    let (code, json, text) = ab("HEAD")?;
    assert_eq!(code, Some(1), "{json}");
    assert!(text.contains("the working tree, with changes against HEAD ("), "{text}");
    commit(repository.path())?;
    // The second run finds the target folder of the first.
    let (code, json, _) = ab("HEAD HEAD~1")?;
    assert_eq!(code, Some(0), "{json}");
    assert!(json["conclusion"].as_str().is_some_and(|text| text.contains(" 4 better, ")), "{json}");
    let (code, json, _) = ab("HEAD HEAD")?;
    assert_eq!(code, Some(0), "{json}");
    assert_eq!(json["outcome"]["comparisons"][0]["verdict"], "same", "{json}");
    // The user's own builds are not touched.
    assert!(!repository.path().join("target/release").exists());
    Ok(())
}

fn broken_revision() -> Result<(), Failed> {
    let (repository, temporary) = (repository("fn main() { no such thing }", None)?, tempfile::tempdir()?);
    let output = clean(Command::new(PROGRAM))
        .current_dir(repository.path())
        .env("TMPDIR", temporary.path())
        .args(["ab", "HEAD"])
        .output()?;
    refused(&output, 4, "does not build: error");
    assert_eq!((worktrees(repository.path())?, left(temporary.path())?), (1, Vec::new()));
    Ok(())
}

/// Waits until the pipe has something to read, or until all who could write to it are gone; gives
/// what was read.
fn read_soon(pipe: &mut fs::File) -> Result<Vec<u8>, Failed> {
    let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], PollTimeout::from(60_000u16))?;
    assert_eq!(ready, 1, "nothing for 60 s");
    let mut bytes = vec![0; 16];
    let length = pipe.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

fn interrupted_build() -> Result<(), Failed> {
    // A terminal that is gone ends it as Ctrl-C does.
    [Signal::SIGINT, Signal::SIGHUP].into_iter().try_for_each(interrupted_build_by)
}

fn interrupted_build_by(signal: Signal) -> Result<(), Failed> {
    let temporary = tempfile::tempdir()?;
    let path = temporary.path().join("pipe");
    mkfifo(&path, Mode::S_IRWXU)?;
    let shown = path.display().to_string();
    let mut pipe = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
    let build = format!(
        "fn main() {{\n\
             let mut pipe = std::fs::OpenOptions::new().write(true).open({shown:?}).unwrap();\n\
             std::io::Write::write_all(&mut pipe, b\"started\").unwrap();\n\
             loop {{ std::thread::park() }}\n\
         }}\n"
    );
    let repository = repository("fn main() {}", Some(&build))?;
    let mut command = clean(Command::new(PROGRAM));
    command.current_dir(repository.path()).env("TMPDIR", temporary.path());
    // Whoever runs the tests may ignore it, as under nohup(1).
    // SAFETY: signal(2) may be called between fork and exec, and SIG_DFL is no handler.
    let heed = move || unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    // SAFETY: as above; nothing is allocated.
    unsafe { command.pre_exec(move || heed().map(drop).map_err(std::io::Error::from)) };
    let mut child = command.args(["ab", "HEAD"]).stderr(Stdio::null()).spawn()?;
    assert_eq!(read_soon(&mut pipe)?, b"started");
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    assert_eq!(child.wait()?.code(), Some(130));
    assert_eq!((worktrees(repository.path())?, left(temporary.path())?), (1, Vec::new()));
    // The end of the file: what cargo had started is gone as well.
    assert_eq!(read_soon(&mut pipe)?, b"");
    Ok(())
}

fn interrupted() -> Result<(), Failed> {
    let mut child =
        ab("--size 64 --time 10m --json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
    while !lines.next().ok_or("it ended")??.starts_with("block 5") {}
    std::thread::spawn(move || lines.for_each(drop));
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(json["outcome"]["interrupted"], true);
    assert!(json["outcome"]["comparisons"].as_array().is_some_and(|found| !found.is_empty()), "{json}");
    Ok(())
}

/// A short sweep into `out`.
fn sweep(out: &Path, sizes: &str) -> Result<(), Failed> {
    let output = sendpath()
        .args(["sweep", "--time", "1s", "--threads", "1", "--counters", "none", "--receiver", "buffer"])
        .args(["--size", sizes, "--out"])
        .arg(out)
        .args(SMALL.split_whitespace())
        .output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    Ok(())
}

/// Copies a sweep without the sizes in `without`. Its samples become those of six generations. A
/// message took the first of `message_ns` in every even generation, and the second in every odd
/// one; all other columns are those of the first generation.
fn copy_sweep(from: &Path, to: &Path, without: &[&str], message_ns: [u64; 2]) -> Result<(), Failed> {
    fs::create_dir_all(to)?;
    fs::copy(from.join("environment.json"), to.join("environment.json"))?;
    let mut rows = csv::Reader::from_path(from.join("samples.csv"))?;
    let mut copy = csv::Writer::from_path(to.join("samples.csv"))?;
    let columns = rows.headers()?.clone();
    copy.write_record(&columns)?;
    let column = |name: &str| columns.iter().position(|column| column == name).ok_or(name.to_owned());
    let [generation, size, timed, elapsed, messages] = [
        column("generation")?,
        column("payload_bytes")?,
        column("timed")?,
        column("elapsed_ns")?,
        column("messages")?,
    ];
    for row in rows.records() {
        let row = row?;
        if &row[generation] != "0" || &row[timed] != "1" || without.contains(&&row[size]) {
            continue;
        }
        for number in 0..6 {
            let elapsed_ns = row[messages].parse::<u64>()? * message_ns[number % 2];
            let cells = row.iter().enumerate().map(|(index, cell)| match index {
                _ if index == generation => number.to_string(),
                _ if index == elapsed => elapsed_ns.to_string(),
                _ => cell.to_owned(),
            });
            copy.write_record(cells)?;
        }
    }
    Ok(copy.flush()?)
}

fn compare() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (measured, first, second) =
        (folder.path().join("measured"), folder.path().join("first"), folder.path().join("second"));
    sweep(&measured, "64")?;
    copy_sweep(&measured, &first, &[], [1000, 1005])?;
    for (message_ns, code, conclusion, verdict) in [
        ([1000, 1005], 0, "No regression", "same"),
        ([800, 805], 0, "No regression", "faster"),
        ([1200, 1205], 1, "Regression", "slower"),
        ([700, 1400], 3, "Undecided", "undecided"),
    ] {
        copy_sweep(&measured, &second, &[], message_ns)?;
        // Drift is in it, so that what is found decides the exit code only where that is asked for.
        let output = sendpath().args(["compare", "--json"]).args([&first, &second]).output()?;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let gate = ["compare", "--json", "--fail-on-regression"];
        let output = sendpath().args(gate).args([&first, &second]).output()?;
        let text = String::from_utf8(output.stdout.clone())?;
        assert_eq!(output.status.code(), Some(code), "{text}{}", stderr(&output));
        let json: Value = serde_json::from_str(&text)?;
        assert!(json["conclusion"].as_str().is_some_and(|text| text.starts_with(conclusion)), "{text}");
        assert_eq!(json["interleaved"], false, "{text}");
        let comparison = &json["outcome"]["comparisons"][0];
        assert_eq!(
            (&comparison["metric"], &comparison["verdict"]),
            (&"throughput".into(), &verdict.into()),
            "{text}"
        );
    }
    copy_sweep(&measured, &second, &[], [1200, 1205])?;
    let output = sendpath().arg("compare").args([&first, &second]).output()?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.starts_with("Regression: ") && text.contains("\nNot interleaved"), "{text}");
    let line = text.lines().find(|line| line.contains("throughput")).ok_or("no throughput")?;
    for word in ["rr/two_copy/heap/64B/1T/free ", " 0.5107 Gb/s ", " -16.6", "WORSE"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    // What was not found stands in the table alone.
    copy_sweep(&measured, &second, &[], [1000, 1005])?;
    let printed = |table: &[&str]| -> Result<String, Failed> {
        let output = sendpath().arg("compare").args(table).args([&first, &second]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let (brief, whole) = (printed(&[])?, printed(&["--table"])?);
    let case = "rr/two_copy/heap/64B/1T/free ";
    assert!(
        brief.starts_with("No regression") && !brief.contains(case) && brief.contains("--table"),
        "{brief}"
    );
    assert!(whole.starts_with("No regression") && whole.contains(case), "{whole}");
    Ok(())
}

fn only_one_has() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (measured, first, second) =
        (folder.path().join("measured"), folder.path().join("first"), folder.path().join("second"));
    sweep(&measured, "64,4K,8K")?;
    copy_sweep(&measured, &first, &["4096"], [1000, 1005])?;
    copy_sweep(&measured, &second, &["8192"], [1000, 1005])?;
    let output = sendpath().arg("compare").args([&first, &second]).output()?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("only in ")).collect();
    let line =
        |folder: &Path, size: &str| format!("only in {}: rr/two_copy/heap/{size}/1T/free", folder.display());
    assert_eq!(listed, [line(&first, "8192B"), line(&second, "4096B")]);
    refused(&sendpath().arg("compare").args([first.as_path(), folder.path()]).output()?, 2, "is no sweep");
    Ok(())
}

fn history() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    sweep(&first, "64")?;
    sweep(&second, "64")?;
    let out = folder.path().join("history.html");
    let output = sendpath()
        .arg("history")
        .args([&first, &second, &folder.path().to_owned()])
        .args(["--by", "date", "--out"])
        .arg(&out)
        .output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("left out") && stderr(&output).contains("is no sweep"),
        "{}",
        stderr(&output)
    );
    let page = fs::read_to_string(&out)?;
    assert!(page.contains("2 sweeps of one machine: no step"), "{}", &page[..2000]);
    refused(&sendpath().arg("history").arg(folder.path()).output()?, 2, "no sweep to show");
    Ok(())
}
