//! The command line: what it refuses, what it prints, and its exit codes.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use crate::common::{alone, anywhere, run, sendpath, stderr, whoever_runs_it};
use libtest_mimic::{Failed, Trial};
use nix::sys::resource::{Resource, setrlimit};

pub fn trials() -> Vec<Trial> {
    vec![
        whoever_runs_it("bad_input_is_one_line_and_exit_2", bad_input_is_one_line_and_exit_2),
        whoever_runs_it("bad_variables_are_refused_too", bad_variables_are_refused_too),
        anywhere("json_has_every_field_in_its_unit", json_has_every_field_in_its_unit),
        whoever_runs_it("help_is_a_manual_with_examples", help_is_a_manual_with_examples),
        whoever_runs_it("every_help_is_the_golden_text", helps_are_golden),
        anywhere("text_has_each_figure_in_its_unit", text_has_each_figure),
        anywhere("discard_says_that_nothing_is_verified_and_why", discard_verifies_nothing),
        whoever_runs_it("an_error_names_what_the_user_wrote", error_names_what_was_written),
        anywhere("doctor_names_each_check_with_a_state", doctor_names_each_check),
        alone("doctor_requires_what_it_is_told_to", doctor_requires),
        alone("doctor_denies_nothing_for_want_of_descriptors", doctor_denies_nothing),
        anywhere("an_impossible_case_fails_with_exit_1", an_impossible_case_fails_with_exit_1),
        anywhere("what_is_measured_is_printed_where_standard_error_is_full", standard_error_may_be_full),
        anywhere("interrupted_it_prints_what_it_has", interrupted_it_prints_what_it_has),
    ]
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
        ("--engine epoll", "syscall, uring, uring_fixed, uring_sqpoll"),
        ("--path one_copy --engine uring_fixed", "no engine uring_fixed"),
        ("--path file --layout page", "no layout page"),
        ("--copy-below 4K", "hybrid"),
        ("--path hybrid --copy-below 0", "16M"),
        ("--shape round", "fields:N"),
        ("--shape 24,512K --size 64K", "524312 bytes"),
        ("--shape header --size 16", "25 bytes or more"),
        ("--shape @/nowhere/trace", "/nowhere/trace"),
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
    // Who may not read the kernel's trace is told why nothing was counted.
    let found = names(&result).replace(" fragments_not_counted", "");
    assert_eq!(
        found,
        "case client_system_ns client_user_ns contradiction counters cpu_split_is_reliable drain_ns_per_burst elapsed_ns \
         environment fragments_per_message fragments_source \
         heap_is_huge injection_ns mapped_share messages packets_per_message payload_bytes_total retransmitted_segments round_trips_per_s rtt_max_ns \
         rtt_mean_ns rtt_p50_ns rtt_p90_ns rtt_p999_ns rtt_p99_ns seen server_system_ns \
         server_user_ns strangers throughput_gbps verified_messages zero_copy"
    );
    assert_eq!(
        names(&result["zero_copy"]),
        "completions copied copied_because copied_bytes copied_is_bound copied_share enobufs notifications sends sent_bytes"
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

/// Set to anything, the golden texts are written anew instead of compared:
/// `SENDPATH_TEST_BLESS=1 cargo test --test command golden`.
const BLESS: &str = "SENDPATH_TEST_BLESS";

fn helps_are_golden() -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
    let help = |arguments: &[&str]| {
        // Without a terminal the width is what this variable says.
        let output = sendpath().args(arguments).arg("--help").env("COLUMNS", "100").output()?;
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        Ok::<_, Failed>(String::from_utf8(output.stdout)?)
    };
    let general = help(&[])?;
    let commands = general.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.map_while(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut commands: Vec<_> = commands.collect();
    assert!(commands.contains(&"run") && commands.contains(&"sweep"), "{general}");
    commands.push("sendpath");
    for &command in &commands {
        let text = if command == "sendpath" { general.clone() } else { help(&[command])? };
        let file = folder.join(format!("{command}.txt"));
        if std::env::var_os(BLESS).is_some() {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(&file, &text)?;
        }
        let golden =
            std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        assert_eq!(text, golden, "{command} --help; if that is meant, see {BLESS} in tests/command/cli.rs");
    }
    // None is left of a command that is gone.
    for file in std::fs::read_dir(&folder)? {
        let name = file?.path().file_stem().ok_or("no name")?.to_string_lossy().into_owned();
        assert!(commands.contains(&name.as_str()), "{name}.txt belongs to no command");
    }
    Ok(())
}

/// The lines of a run's text, by their names.
fn lines(arguments: &str) -> Result<BTreeMap<String, String>, Failed> {
    let output = run(&format!("--netns loopback --duration 50ms {arguments}"));
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout)?;
    let line = |line: &str| {
        let (name, value) = line.split_at_checked(14).ok_or_else(|| format!("too short: {line}"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.lines().map(line).collect()
}

/// The numbers of a text, and the words between them.
fn numbers(text: &str) -> (Vec<f64>, String) {
    let (mut numbers, mut words) = (Vec::new(), Vec::new());
    for word in text.split_whitespace() {
        match word.trim_end_matches(',').parse() {
            Ok(number) => numbers.push(number),
            Err(_) => words.push(word.trim_end_matches(',')),
        }
    }
    (numbers, words.join(" "))
}

/// The times of a line such as `mean 18.1 \u{b5}s, p50 17.5 \u{b5}s`, each behind its name, in
/// nanoseconds.
fn times_ns(line: &str, names: &[&str]) -> Result<Vec<f64>, Failed> {
    let parts: Vec<&str> = line.split(", ").collect();
    assert_eq!(parts.len(), names.len(), "{line}");
    let time = |(part, name): (&&str, &&str)| {
        let words: Vec<&str> = part.split(' ').collect();
        let [found, number, unit] = words[..] else { return Err(Failed::from(line)) };
        assert_eq!(found, *name, "{line}");
        let ns = match unit {
            "ns" => 1.0,
            "\u{b5}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => return Err(Failed::from(line)),
        };
        Ok(number.parse::<f64>()? * ns)
    };
    parts.iter().zip(names).map(time).collect()
}

fn text_has_each_figure() -> Result<(), Failed> {
    let lines = lines("--path zero_copy --size 8K --threads 2")?;
    let names: Vec<_> = lines.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "client",
            "copied as",
            "cpu",
            "drain",
            "messages",
            "packets",
            "round trip",
            "round trips",
            "seen",
            "server",
            "that is",
            "throughput",
            "verified",
            "zero copy"
        ]
    );
    let read = |name: &str, units: &str| {
        let (numbers, words) = numbers(&lines[name]);
        assert_eq!(words, units, "{name}: {}", lines[name]);
        numbers
    };
    let messages = read("messages", "in s bytes");
    let [messages, elapsed_s, bytes] = messages[..] else { return Err(format!("{messages:?}").into()) };
    assert!(messages > 0.0 && (bytes / messages - 8192.0).abs() < 1e-9, "{lines:?}");
    // The text rounds to the millisecond.
    let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.05;
    assert!(near(read("throughput", "Gb/s")[0], bytes * 8.0 / 1e9 / elapsed_s), "{lines:?}");
    assert!(near(read("round trips", "/s")[0], messages / elapsed_s), "{lines:?}");
    let round_trip_ns = times_ns(&lines["round trip"], &["mean", "p50", "p90", "p99", "p99.9", "max"])?;
    assert!(round_trip_ns[1..].is_sorted() && round_trip_ns[0] <= round_trip_ns[5], "{lines:?}");
    // Two pairs, each with one message in flight: their round trips fill the time.
    assert!(round_trip_ns[0] * messages <= 2.05 * elapsed_s * 1e9, "{lines:?}");
    let cpu = read("cpu", "% user % system of one CPU");
    let side = "% user % system of one CPU; the split between the sides is not to be relied on";
    let (server, client) = (read("server", side), read("client", side));
    for kind in [0, 1] {
        assert!((server[kind] + client[kind] - cpu[kind]).abs() < 0.2, "the sum of both sides: {lines:?}");
    }
    let counts = read(
        "zero copy",
        "sends completions in notifications ENOBUFS: the kernel copied about % of the sends after all",
    );
    assert!(counts[2] < counts[1], "it reaps two at a time: {lines:?}");
    assert!(lines["that is"].starts_with("a bound, which may err on both sides: "), "{lines:?}");
    assert!(counts[0] >= messages && (counts[0] - counts[1]).abs() < 0.5, "{lines:?}");
    assert!((counts[4] - 100.0).abs() < f64::EPSILON, "loopback copies all: {lines:?}");
    read("drain", "\u{b5}s after a burst's last byte for its completions (median)");
    assert!(read("verified", "messages besides every byte")[0] > 0.0);

    let stream = self::lines("--workload stream --placement split")?;
    assert_eq!(stream["round trip"], "not measured: a stream has none");
    assert!(!stream.contains_key("round trips") && !stream.contains_key("zero copy"), "{stream:?}");
    assert!(!stream["server"].contains("relied"), "{stream:?}");
    Ok(())
}

fn discard_verifies_nothing() -> Result<(), Failed> {
    let verified = lines("--receiver discard")?.remove("verified").ok_or("no such line")?;
    assert_eq!(verified, "0 messages: discard keeps no bytes");
    let output = run("--netns loopback --receiver discard --duration 10ms --json");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(result["verified_messages"], 0);
    Ok(())
}

fn error_names_what_was_written() -> Result<(), Failed> {
    for (option, variable, value, word) in [
        ("--size", "SENDPATH_SIZES", "64,x", "\"x\""),
        ("--path", "SENDPATH_PATHS", "three_copy", "three_copy"),
        ("--threads", "SENDPATH_THREADS", "1,1", "twice"),
        ("--receiver", "SENDPATH_RECEIVER", "", "empty"),
        ("--mtu", "SENDPATH_MTU", "big", "\"big\""),
    ] {
        let (mut by_variable, mut by_option) = (sendpath(), sendpath());
        by_variable.arg("sweep").env(variable, value);
        // An option goes before its variable.
        by_option.args(["sweep", &format!("{option}={value}")]).env(variable, "64");
        for (mut command, named, other) in [(by_variable, variable, option), (by_option, option, variable)] {
            let output = command.output()?;
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.starts_with(&format!("sendpath: {named}: ")) && text.contains(word), "{text}");
            assert!(!text.contains(other) && text.lines().count() == 1, "{text}");
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
    expected.retain(|name| !["peer", "link-copy"].contains(&name.as_str())); // with --peer alone
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

/// Where so few files may be open that something cannot be looked at, that is what is said of it.
fn doctor_denies_nothing() -> Result<(), Failed> {
    let doctor = |most_files: Option<u64>| {
        let mut command = sendpath();
        command.args(["doctor", "--json"]);
        if let Some(most) = most_files {
            let limit = move || setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(std::io::Error::from);
            // SAFETY: the call is async-signal-safe, and nothing else of the process is touched.
            unsafe { command.pre_exec(limit) };
        }
        command.output()
    };
    let checks = |output: &Output| -> Result<BTreeMap<String, (String, String)>, Failed> {
        let object: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let text = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let checks = object["checks"].as_array().ok_or("no checks")?.iter();
        // Numbers may differ from one moment to the next.
        let found = |check| text(check, "found").replace(|letter: char| letter.is_ascii_digit(), "");
        Ok(checks.map(|check| (text(check, "name"), (text(check, "state"), found(check)))).collect())
    };
    let whole = checks(&doctor(None)?)?;
    let mut said = 0;
    for most_files in 3..=40 {
        let output = doctor(Some(most_files))?;
        if !output.status.success() {
            // The dynamic loader itself needs one.
            let text = stderr(&output);
            assert!(text.contains("rror 24"), "{most_files} files: {text}");
            continue;
        }
        for (name, (state, found)) in checks(&output)? {
            let about_files = found.contains("Too many open files") || found.contains("RLIMIT_NOFILE");
            said += u32::from(about_files);
            let as_without_limit = whole[&name] == (state.clone(), found.clone()) || name == "load";
            assert!(about_files || as_without_limit, "{most_files} files: {name} is {state}: {found}");
        }
    }
    assert!(said > 0, "with the fewest, some cannot be looked at");
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

/// What is measured does not depend on somebody reading what is said beside it.
fn standard_error_may_be_full() -> Result<(), Failed> {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let mut command = sendpath();
    command.args(["run", "--json", "--size", "64", "--duration", "20ms", "--netns", "loopback"]);
    let output = command.stderr(full).output()?;
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice::<serde_json::Value>(&output.stdout)?;
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
