//! The command line: what it refuses, what it prints, and its exit codes.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

mod common;

use std::process::ExitCode;

use common::{anywhere, run, sendpath, stderr};
use libtest_mimic::Failed;

fn main() -> ExitCode {
    common::main(vec![
        anywhere("bad_input_is_one_line_and_exit_2", bad_input_is_one_line_and_exit_2),
        anywhere("bad_variables_are_refused_too", bad_variables_are_refused_too),
        anywhere("json_has_every_field_in_its_unit", json_has_every_field_in_its_unit),
        anywhere("help_is_a_manual_with_examples", help_is_a_manual_with_examples),
        anywhere("doctor_names_each_check_with_a_state", doctor_names_each_check),
        anywhere("doctor_requires_what_it_is_told_to", doctor_requires),
        anywhere("an_impossible_case_fails_with_exit_1", an_impossible_case_fails_with_exit_1),
        anywhere("interrupted_it_prints_what_it_has", interrupted_it_prints_what_it_has),
    ])
}

fn bad_input_is_one_line_and_exit_2() -> Result<(), Failed> {
    for (arguments, word) in [
        ("--size 0", "8 bytes"),
        ("--size 7", "8 bytes"),
        ("--size 17M", "16M"),
        ("--size 64Q", "64Q"),
        ("--threads 0", "256"),
        ("--threads 257", "256"),
        ("--path three_copy", "two_copy, one_copy, zero_copy"),
        ("--layout stack", "heap, page"),
        ("--workload crr", "rr, stream"),
        ("--placement pinned", "paired, split, free"),
        ("--duration 0", "duration"),
        ("--duration 0s", "duration"),
        ("--duration 2h", "1h"),
        ("--netns sendpath-none,sendpath-nil", "sendpath-none"),
        ("--netns one", "SERVER,CLIENT"),
        ("--mtu 12", "576"),
        ("--mtu big", "big"),
        ("--netns loopback --mtu 9000", "loopback"),
        ("--buffers 1", "4K"),
        ("--counters cycles,flops", "flops"),
        ("--bogus", "--bogus"),
    ] {
        let output = run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
    Ok(())
}

fn bad_variables_are_refused_too() -> Result<(), Failed> {
    for (variable, value) in [("SENDPATH_NETNS", "x"), ("SENDPATH_MTU", ""), ("SENDPATH_BUFFERS", "2Q")] {
        let output = sendpath().arg("run").env(variable, value).output()?;
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {}", stderr(&output));
    }
    Ok(())
}

fn json_has_every_field_in_its_unit() -> Result<(), Failed> {
    let output = run("--netns loopback --path zero_copy --size 8K --duration 10ms --json");
    assert!(output.status.success(), "{}", stderr(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let names = |value: &serde_json::Value| {
        let mut names: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(
        names(&result),
        "case client_system_ns client_user_ns counters elapsed_ns environment messages payload_bytes_total round_trips_per_s \
         rtt_max_ns rtt_mean_ns rtt_p50_ns rtt_p90_ns rtt_p999_ns rtt_p99_ns server_system_ns \
         server_user_ns throughput_gbps verified_messages zero_copy"
    );
    assert_eq!(
        names(&result["zero_copy"]),
        "completions copied copied_bytes copied_share enobufs notifications sends sent_bytes"
    );
    assert_eq!(result["case"], "rr/zero_copy/heap/8192B/1T/paired");
    Ok(())
}

fn help_is_a_manual_with_examples() -> Result<(), Failed> {
    for arguments in [&["--help"][..], &["run", "--help"], &["doctor", "--help"]] {
        let output = sendpath().args(arguments).output()?;
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.success());
        for part in ["Usage:", "Examples:", "Exit codes:"] {
            assert!(text.contains(part), "{arguments:?} lacks {part}");
        }
    }
    Ok(())
}

fn doctor_names_each_check() -> Result<(), Failed> {
    let output = sendpath().args(["doctor", "--json"]).output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let checks = report["checks"].as_array().ok_or("no checks")?;
    let names: Vec<_> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    let mut expected = sendpath::doctor::names();
    expected.sort();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    for check in checks {
        assert!(["ok", "limited", "unavailable"].contains(&check["state"].as_str().unwrap_or("")), "{check}");
        assert!(check["found"].as_str().is_some_and(|found| !found.is_empty()), "{check}");
    }
    Ok(())
}

fn doctor_requires() -> Result<(), Failed> {
    let doctor = |list: &str| sendpath().args(["doctor", "--netns", "loopback", "--require", list]).output();
    assert_eq!(doctor("task-clock,task_clock")?.status.code(), Some(0));
    let output = doctor("flops")?;
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1));
    let report = sendpath().args(["doctor", "--netns", "loopback", "--json"]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&report.stdout)?;
    let checks = report["checks"].as_array().ok_or("no checks")?;
    for check in checks.iter().filter(|check| check["name"] != "load") {
        let name = check["name"].as_str().ok_or("no name")?;
        let code = if check["state"] == "unavailable" { 3 } else { 0 };
        assert_eq!(doctor(name)?.status.code(), Some(code), "{check}");
    }
    Ok(())
}

fn an_impossible_case_fails_with_exit_1() -> Result<(), Failed> {
    let output = run("--netns loopback --congestion sendpath-none --duration 10ms");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("TCP_CONGESTION") && text.contains("reno"), "{text}");
    Ok(())
}

fn interrupted_it_prints_what_it_has() -> Result<(), Failed> {
    use std::io::{BufRead, BufReader, Read};
    let mut child = sendpath()
        .args(["run", "--netns", "loopback", "--duration", "1h", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    // The settings are printed when the two ends are joined, and by then signals are caught.
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().ok_or("no stderr")?).read_line(&mut line)?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
    let mut text = String::new();
    child.stdout.take().ok_or("no stdout")?.read_to_string(&mut text)?;
    assert_eq!(child.wait()?.code(), Some(130));
    let result: serde_json::Value = serde_json::from_str(&text)?;
    assert!(result["messages"].as_u64() > Some(0), "{text}");
    Ok(())
}
