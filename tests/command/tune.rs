//! `sendpath tune`, as a person calls it: what it prints, in which form, and its exit codes.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};

use crate::common::{anywhere, in_namespaces, pinning_at_most, sendpath, stderr, whoever_runs_it};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    vec![
        in_namespaces("the_sender_alone_has_a_table_of_thresholds", sender_alone),
        anywhere("json_has_what_was_found_and_what_was_measured", json),
        anywhere("the_threshold_of_a_hybrid_is_looked_for_among_its_fields", hybrid),
        anywhere("constants_stand_alone_on_standard_output", constant),
        anywhere("a_path_that_fails_is_named_and_the_others_go_on", failing),
        anywhere("without_a_sink_it_is_said_who_receives", without_a_sink),
        anywhere("interrupted_it_prints_what_it_has", interrupted),
        whoever_runs_it("bad_input_of_tune_is_one_line_and_exit_2", bad_input),
    ]
}

/// `sendpath tune` with `arguments`, given as one line.
fn tune(arguments: &str) -> Result<Output, Failed> {
    Ok(sendpath().arg("tune").args(arguments.split_whitespace()).output()?)
}

/// Over loopback, which any machine has, and for no longer than it takes to measure something.
const SHORT: &str = "--netns loopback --receiver buffer --to 64K --time 3s";

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a threshold is found in so short a time is not up to the test.
fn has_ended(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 3))
}

fn sender_alone() -> Result<(), Failed> {
    let output = tune("--time 3s --seed 1")?;
    let (table, errors) = (stdout(&output), stderr(&output));
    assert!(has_ended(&output), "{errors}");
    let (of_what, rows) = table.split_once('\n').ok_or("no table")?;
    assert_eq!(of_what, "one connection, request/response, data in cache, sender alone:");
    let rows: Vec<Vec<&str>> = rows
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["path", "cheaper than", "from", "95 % interval", "lives"], "{table}");
    let pairs: Vec<_> = rows[1..4].iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(
        pairs,
        [
            ("one_copy/heap", "two_copy/heap"),
            ("zero_copy/page", "two_copy/heap"),
            ("zero_copy/page", "one_copy/heap")
        ],
        "{table}"
    );
    assert!(rows[1..4].iter().all(|row| row[4].parse::<u64>().is_ok_and(|lives| lives >= 6)), "{table}");
    assert!(table.contains("zero_copy/page: the kernel copied about 0 % of its sends\n"), "{table}");
    assert!(errors.contains("receiver sink, shape equal, rr, 1 pair, paired, hot, seed 1"), "{errors}");
    Ok(())
}

fn json() -> Result<(), Failed> {
    let output = tune(&format!("{SHORT} --path zero_copy --json"))?;
    assert!(has_ended(&output), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout)?;
    let answers = result["answers"].as_array().ok_or("no answers")?;
    assert_eq!(answers.len(), 1, "{result}");
    let answer = &answers[0];
    assert_eq!((&answer["path"], &answer["against"]), (&"zero_copy/page".into(), &"two_copy/heap".into()));
    assert_eq!(answer["copied_share"], 1.0, "loopback copies all");
    let found = &answer["found"];
    let measured = found["measured"].as_array().ok_or("nothing measured")?;
    let sizes: Vec<u64> = measured.iter().filter_map(|measured| measured["bytes"].as_u64()).collect();
    for post in [64, 512, 4096, 65536] {
        assert!(sizes.contains(&post), "{sizes:?}");
    }
    let lives: u64 = measured.iter().filter_map(|measured| measured["lives"].as_u64()).sum();
    assert_eq!(found["lives"], lives);
    let is_named =
        |answer: &Value| ["found", "always", "never", "undecided"].iter().any(|name| answer == name);
    assert!(is_named(&found["answer"]) && found["failed"].is_null(), "{found}");
    for part in ["program", "environment", "seed", "command", "cell", "end"] {
        assert!(!result[part].is_null(), "{part}: {result}");
    }
    // The code says what was found.
    let code = if found["answer"] == "found" || found["answer"] == "always" { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code), "{found}");
    Ok(())
}

fn hybrid() -> Result<(), Failed> {
    let output = tune("--netns loopback --receiver buffer --path hybrid --time 3s --json")?;
    assert!(has_ended(&output), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout)?;
    let answer = &result["answers"][0];
    assert_eq!((&answer["path"], &answer["size_of"]), (&"hybrid/heap".into(), &"field".into()), "{result}");
    assert_eq!(answer["to_bytes"], 32 << 10, "{result}");
    assert!(answer["found"]["lives"].as_u64() >= Some(4), "{result}");
    Ok(())
}

fn constant() -> Result<(), Failed> {
    for (language, comment) in [("rust", "///"), ("c", "/*")] {
        let output = tune(&format!("{SHORT} --path one_copy --constant {language}"))?;
        assert!(has_ended(&output), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.starts_with(comment) && text.contains("ONE_COPY_FROM_BYTES"), "{text}");
        assert!(
            text.contains("receiver buffer, shape equal") && text.contains("By `sendpath tune"),
            "{text}"
        );
        assert!(stderr(&output).contains("cheaper than"), "the table is on standard error");
    }
    Ok(())
}

fn failing() -> Result<(), Failed> {
    let mut command = sendpath();
    command.arg("tune").args(SHORT.split_whitespace());
    pinning_at_most(&mut command, 4096);
    let output = command.output()?;
    let (table, errors) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("sendpath: zero_copy/page against two_copy/heap: rr/zero_copy/page/"),
        "{errors}"
    );
    assert!(errors.contains("RLIMIT_MEMLOCK"), "{errors}");
    let row = |way: &str| table.lines().find(|line| line.starts_with(way)).map(str::to_owned);
    assert!(row("zero_copy/page").is_some_and(|row| row.contains("failed")), "{table}");
    assert!(row("one_copy/heap").is_some_and(|row| !row.contains("failed")), "{table}");
    Ok(())
}

fn without_a_sink() -> Result<(), Failed> {
    if nix::unistd::geteuid().is_root() {
        return Ok(()); // root has a sink over loopback, too
    }
    let output = tune("--netns loopback --to 64K --time 1s --path one_copy")?;
    assert!(has_ended(&output), "{}", stderr(&output));
    assert!(stderr(&output).contains("receiver buffer, not the sender alone: "), "{}", stderr(&output));
    Ok(())
}

fn interrupted() -> Result<(), Failed> {
    let mut child = sendpath()
        .args(["tune", "--netns", "loopback", "--receiver", "buffer", "--time", "1h", "--precision", "0.01%"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut errors = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
    let is_measuring =
        |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains(" measured "));
    errors.find(is_measuring).ok_or("it never measured")??;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let mut table = String::new();
    child.stdout.take().ok_or("no stdout")?.read_to_string(&mut table)?;
    assert_eq!(child.wait()?.code(), Some(130));
    assert!(table.contains("\npath ") && table.contains("zero_copy/page"), "{table}");
    Ok(())
}

fn bad_input() -> Result<(), Failed> {
    for (arguments, word) in [
        ("--path two_copy", "every path is held against two_copy/heap"),
        ("--path three_copy", "three_copy"),
        ("--threads 1,4", "one at a time"),
        ("--receiver buffer,sink", "one at a time"),
        ("--shape 24,512K", "a size of its own"),
        ("--from 4K --to 8K", "four times as large"),
        ("--from 0", "8 bytes"),
        ("--path hybrid --from 0", "above 0"),
        ("--path hybrid --shape header", "S,S,S,S,S,S,S,64K"),
        ("--to 17M", "16M"),
        ("--shape header --from 16", "header"),
        ("--precision 0", "percentage"),
        ("--time 0", "time"),
        ("--constant pascal", "pascal"),
        ("--constant c --json", "--json"),
    ] {
        let output = tune(arguments)?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
    // A variable that was set for a sweep is named.
    let output = sendpath().arg("tune").env("SENDPATH_THREADS", "1,4").output()?;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("SENDPATH_THREADS"), "{}", stderr(&output));
    Ok(())
}
