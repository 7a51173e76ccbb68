//! `sendpath sweep` and `sendpath report`, as a person calls them: what is on disk after whatever
//! end.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use crate::common::{anywhere, sendpath, stderr, whoever_runs_it};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sendpath::case::{Engine, Receiver};
use sendpath::results::store::{self, StoredSweep};
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    vec![
        anywhere("a_sweep_and_its_report_are_whole", whole),
        anywhere("its_answer_is_the_pages_in_text_and_json_and_as_a_table", answers),
        anywhere("no_report_leaves_the_page_out_and_says_how_to_make_it", no_report),
        anywhere("a_page_that_cannot_be_written_hides_no_answer", answer_without_page),
        anywhere("one_door_leads_to_all_that_was_measured", door),
        anywhere("a_seed_is_recorded", seed),
        anywhere("a_sweep_ends_when_all_is_precise", ends_when_precise),
        anywhere("interrupted_it_keeps_its_data_and_goes_on_with_resume", interrupted),
        anywhere("killed_it_has_lost_a_round_at_most", killed),
        anywhere("a_case_that_fails_is_a_row_and_the_others_go_on", failing_case),
        anywhere("without_io_uring_its_arms_fail_alone_and_the_others_are_measured", without_io_uring),
        anywhere("without_arguments_the_sender_alone_is_measured_too_or_said_to_be_left_out", both_ways),
        whoever_runs_it("bad_input_of_sweep_is_one_line_and_exit_2", bad_input_of_sweep),
        whoever_runs_it("bad_input_of_report_is_one_line_and_exit_2", bad_input_of_report),
        anywhere("what_cannot_be_written_is_named_and_exit_1", cannot_be_written),
        anywhere("a_full_standard_output_is_named_and_exit_1", full_output),
        anywhere("a_closed_standard_output_is_no_failure", closed_output),
    ]
}

/// Few and small cases over loopback, which any machine has.
const SMALL: &str = "--netns loopback --receiver buffer --size 64,4K --threads 1 --path two_copy,one_copy --placement free --counters task-clock";

fn sweep(arguments: &str, out: &Path) -> Command {
    let mut command = sendpath();
    command
        .arg("sweep")
        .args(SMALL.split_whitespace())
        .args(arguments.split_whitespace())
        .arg("--out")
        .arg(out);
    command
}

fn report(folder: &Path) -> Output {
    sendpath().arg("report").arg(folder).output().expect("the command starts")
}

fn read(folder: &Path) -> Result<StoredSweep, Failed> {
    Ok(store::read(folder)?)
}

/// What a sweep is told to end after as many generations as it takes at least: seven, one of which
/// is counted.
const SHORTEST: &str = "--time 10m --precision 100%";

/// A short sweep, and where it lies.
fn measured(arguments: &str) -> Result<(tempfile::TempDir, PathBuf, Output), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let output = sweep(arguments, &out).output()?;
    Ok((folder, out, output))
}

fn whole() -> Result<(), Failed> {
    let (_folder, out, output) = measured(SHORTEST)?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in ["[1/4] rr/two_copy/heap/64B/1T/free", "[4/4] rr/one_copy/heap/4096B/1T/free"] {
        assert!(text.contains(line), "{text}");
    }
    let sweep = read(&out)?;
    assert!(
        sweep.warnings.is_empty()
            && sweep.manifest.environment.is_some()
            && sweep.manifest.load.is_some()
            && !sweep.manifest.checks.is_empty()
    );
    assert!(sweep.records.iter().any(|record| record.arm.control), "there is a control arm");
    for record in &sweep.records {
        let sample = record.outcome.as_ref().map_err(Clone::clone)?;
        assert_eq!(record.timed, sample.server.counters.is_empty(), "what carries counters is not timed");
        assert_eq!(record.timed, sample.client.counters.is_empty());
    }
    assert!(sweep.records.iter().any(|record| !record.timed), "a generation is counted");
    let summary = fs::read_to_string(out.join("summary.csv"))?;
    assert_eq!(summary.lines().count(), 1 + 2 * 3, "a row for each case and each control:\n{summary}");

    let shown = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines.len() <= 15 && lines.iter().all(|line| line.chars().count() <= 80 || line.contains('/')),
        "{shown}"
    );
    assert!(shown.contains("to a receiver") && shown.contains("sure: "), "{shown}");
    let page = out.join("report.html");
    assert_eq!(lines.last().copied(), Some(format!("page: {}", page.display()).as_str()), "{shown}");
    let html = fs::read_to_string(page)?;
    assert!(html.contains("To a receiver") && html.len() < 400_000);
    let output = report(&out);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(out.join("fig1-throughput-1T.svg").exists() && out.join("fig1-throughput-1T.png").exists());
    assert_eq!(crate::common::dangling(&sendpath::report::page(&sweep)), [""; 0]);
    Ok(())
}

/// What is printed of a folder: by `sweep` when it ends, and by `report` later.
fn answers() -> Result<(), Failed> {
    let (_folder, out, output) = measured("--time 1ms --json")?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = sendpath::report::page(&read(&out)?);
    // Nothing else stands on standard output.
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let told_of = |name: &str| told.get(name).cloned().ok_or(format!("no {name}: {told}"));
    assert_eq!(told_of("decisions")?, serde_json::to_value(&page.decisions)?);
    assert_eq!(told_of("headline")?, page.headline.as_str());
    assert_eq!(told_of("trust")?, serde_json::to_value(&page.trust)?);
    assert!(stderr(&output).contains("page: "), "{}", stderr(&output));

    let output = sendpath().args(["report", "--json"]).arg(&out).output()?;
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout)?, told);
    let shown = String::from_utf8(report(&out).stdout)?;
    assert_eq!(shown, format!("{}page: {}\n", page.terminal, out.join("report.html").display()));

    let (_folder, out, output) = measured("--time 1ms --ndjson")?;
    let shown = String::from_utf8(output.stdout)?;
    let mut lines = shown.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let told = lines.pop().ok_or("nothing was printed")?;
    assert_eq!(told["headline"], sendpath::report::page(&read(&out)?).headline);
    let rows = fs::read_to_string(out.join("samples.csv"))?.lines().count() - 1;
    assert_eq!(lines.len(), rows);
    assert!(lines.iter().all(|line| line["path"].is_string() && line["elapsed_ns"].is_u64()), "{shown}");

    let (_folder, out, output) = measured("--time 1ms --table")?;
    let shown = String::from_utf8(output.stdout)?;
    let page = sendpath::report::page(&read(&out)?);
    let (table, answer) = shown.split_once(&page.terminal).ok_or(format!("no answer: {shown}"))?;
    assert!(table.contains("rr/two_copy/heap/4096B/1T/free"), "{shown}");
    assert!(answer.contains("rows in"), "{shown}");
    Ok(())
}

fn no_report() -> Result<(), Failed> {
    let (_folder, out, output) = measured("--time 1ms --no-report")?;
    let shown = String::from_utf8(output.stdout)?;
    assert!(!out.join("report.html").exists() && out.join("summary.csv").exists());
    let last = shown.lines().last().unwrap_or_default();
    assert!(last.contains(" report ") && shown.contains("to a receiver"), "{shown}");
    // What the last line says makes the page.
    assert_eq!(pasted(last)?.status.code(), Some(0), "{last}");
    assert!(out.join("report.html").exists());
    Ok(())
}

fn answer_without_page() -> Result<(), Failed> {
    let (_folder, out, _) = measured("--time 1ms")?;
    fs::remove_file(out.join("report.html"))?;
    fs::create_dir(out.join("report.html"))?;
    let output =
        sendpath().args(["sweep", "--netns", "loopback", "--time", "1ms", "--resume"]).arg(&out).output()?;
    let (shown, text) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("report.html"), "{text}");
    assert!(shown.contains("to a receiver") && shown.contains("sure: "), "{shown}");
    Ok(())
}

fn door() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let within = |arguments: &str| {
        let output = sendpath().current_dir(&folder).args(arguments.split_whitespace()).output()?;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        Ok::<String, Failed>(fs::read_to_string(folder.path().join("target-reports/index.html"))?)
    };
    let home = folder.path().join("target-reports");
    let html = within(&format!("sweep {SMALL} --time 1ms"))?;
    let names = fs::read_dir(&home)?.flatten().map(|entry| entry.file_name().into_string());
    let names = names.collect::<Result<Vec<_>, _>>().map_err(|_| "a name is no text")?;
    let sweep = names.iter().find(|name| name.ends_with('Z') || name.contains("Z-")).ok_or("no sweep")?;
    let page = sendpath::report::page(&read(&home.join(sweep))?);
    assert!(html.contains(&format!("{sweep}/report.html")) && html.contains(&page.title), "{names:?}");
    assert!(!html.contains("Criterion") && !html.contains("history.html"));

    // Criterion's charts join it, and the history; an older sweep takes no place of a newer one.
    let chart = home.join("criterion/bw_01/report");
    fs::create_dir_all(&chart)?;
    fs::write(chart.join("index.html"), "")?;
    fs::write(chart.join("lines.svg"), "")?;
    let html = within("history")?;
    assert!(html.contains("Throughput: one connection, by size") && html.contains("lines.svg"));
    assert!(html.contains("history.html") && html.contains(&page.title));
    let older = home.join("older");
    fs::create_dir(&older)?;
    for file in ["environment.json", "samples.csv"] {
        fs::copy(Path::new("tests/golden/sweep").join(file), older.join(file))?;
    }
    let html = within("report target-reports/older")?;
    assert!(html.contains(&page.title) && html.contains("older/report.html"));
    Ok(())
}

fn seed() -> Result<(), Failed> {
    let (_folder, out, output) = measured("--time 1ms --seed 7")?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(read(&out)?.manifest.plan.seed, 7);
    Ok(())
}

fn ends_when_precise() -> Result<(), Failed> {
    let (_folder, _out, output) = measured(SHORTEST)?;
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("as precisely as was asked for"), "{}", stderr(&output));
    Ok(())
}

/// Starts a long sweep and returns when it has measured something. The lines that follow on
/// standard error come from the thread, when it is over.
fn started(out: &Path) -> Result<(Child, JoinHandle<Vec<String>>), Failed> {
    let mut child =
        sweep("--time 10m --precision 0.01%", out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
    // The second generation: the first is on disk.
    while !lines.next().ok_or("it ended")??.starts_with("generation 2") {}
    Ok((child, std::thread::spawn(move || lines.map_while(Result::ok).collect())))
}

/// Runs a command that was printed, as a user pastes it.
fn pasted(command: &str) -> Result<Output, Failed> {
    Ok(crate::common::clean(Command::new("sh")).args(["-c", command]).output()?)
}

fn signal(child: &Child, signal: Signal) -> Result<(), Failed> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
}

fn interrupted() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("a sweep");
    let (mut child, lines) = started(&out)?;
    signal(&child, Signal::SIGINT)?;
    assert_eq!(child.wait()?.code(), Some(130));
    let before = read(&out)?;
    assert!(before.warnings.is_empty() && out.join("summary.csv").exists());

    let lines = lines.join().map_err(|_| "the reader panicked")?;
    let command = lines.last().ok_or("no line")?;
    let (start, time) = command.split_once("--time=").ok_or_else(|| format!("no time is left: {command}"))?;
    let (seconds, end) = time.split_once('s').ok_or("no unit")?;
    assert!(seconds.parse::<u64>()? <= 600, "{command}");
    // A variable that was set for all commands of the shell does not keep the printed one from
    // running.
    let resume = |more: &str| pasted(&format!("export SENDPATH_SIZES=64,4K; {start}--time=1s{end} {more}"));
    let output = resume("")?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let after = read(&out)?;
    assert_eq!(after.manifest.resumed.len(), 1, "the command line that went on is noted");
    assert_eq!(after.manifest.plan, before.manifest.plan);
    assert_eq!(after.records[..before.records.len()], before.records);
    let last = |sweep: &StoredSweep| sweep.records.iter().map(|record| record.generation).max();
    assert!(last(&after) > last(&before), "new generations, not the old ones again");

    assert_eq!(after.manifest.events, before.manifest.events);

    let output = resume("--size 64")?;
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = resume("--buffers 1M")?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("buffers was") && text.contains("do not mix"), "{text}");
    assert_eq!(read(&out)?, after);
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let (mut child, _lines) = started(&out)?;
    signal(&child, Signal::SIGKILL)?;
    child.wait()?;
    let sweep = read(&out)?;
    assert!(sweep.records.len() >= 2 * 3 * 10, "the first generation is there: {}", sweep.records.len());
    assert_eq!(report(&out).status.code(), Some(0));
    Ok(())
}

fn failing_case() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    // 64 pairs take more descriptors than there are, one pair does not. With this seed so many of
    // the failures follow each other that the connections of half-opened instances would fill the
    // listener's queue.
    let command = format!(
        "ulimit -n 60; exec {} sweep --netns loopback --receiver buffer --size 64 --threads 1,64 --path two_copy,one_copy --placement free \
         --counters none {SHORTEST} --seed 4 --out {}",
        env!("CARGO_BIN_EXE_sendpath"),
        out.display()
    );
    let output = crate::common::clean(Command::new("bash")).args(["-c", &command]).output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("RLIMIT_NOFILE"), "{text}");
    let sweep = read(&out)?;
    let failed = |threads| {
        sweep
            .records
            .iter()
            .filter(move |record| record.arm.case.threads == threads && record.outcome.is_err())
            .count()
    };
    assert_eq!((failed(1), failed(64)), (0, 3 * 3), "each arm of the one cell three times, and no more");
    assert!(sweep.records.iter().filter(|record| record.outcome.is_ok()).count() >= 6 * 3 * 10);
    let errors: Vec<_> = sweep.records.iter().filter_map(|record| record.outcome.as_ref().err()).collect();
    assert!(errors.iter().all(|error| error.contains("RLIMIT_NOFILE")), "{errors:?}");
    let summary = fs::read_to_string(out.join("summary.csv"))?;
    assert!(summary.contains("RLIMIT_NOFILE"), "{summary}");
    let output = report(&out);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(fs::read_to_string(out.join("report.html"))?.contains("RLIMIT_NOFILE"));
    Ok(())
}

fn without_io_uring() -> Result<(), Failed> {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("sweep");
        let mut command = sweep(&format!("{SHORTEST} --engine syscall,uring"), &out);
        crate::common::forbid_io_uring(&mut command, errno);
        let output = command.output()?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("a seccomp filter of this process forbids io_uring_setup(2)"), "{text}");
        for record in &read(&out)?.records {
            let by_ring = record.arm.case.engine == Engine::Uring;
            let error = record.outcome.as_ref().err();
            assert_eq!(error.is_some(), by_ring, "{}: {error:?}", record.arm.case);
            assert!(error.is_none_or(|error| error.contains("io_uring_setup(2)")), "{error:?}");
        }

        let mut doctor = sendpath();
        doctor.args(["doctor", "--json"]);
        crate::common::forbid_io_uring(&mut doctor, errno);
        let checks: serde_json::Value = serde_json::from_slice(&doctor.output()?.stdout)?;
        let checks = checks["checks"].as_array().ok_or("no checks")?.iter();
        let rings: Vec<_> = checks
            .filter(|check| check["name"].as_str().is_some_and(|name| name.starts_with("uring")))
            .collect();
        assert_eq!(rings.len(), 5);
        assert!(rings.iter().all(|check| check["state"] == "unavailable"), "{rings:?}");
    }
    Ok(())
}

/// Where a sink cannot be had, as over loopback without root, one line says why, and the rest is
/// measured. Asked for by name it is an error there.
fn both_ways() -> Result<(), Failed> {
    let few = |more: &str| {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("sweep");
        let mut command = sendpath();
        let few = "sweep --netns loopback --size 64,64K --counters none --time 4s --out";
        command.args(few.split_whitespace()).arg(&out).args(more.split_whitespace());
        Ok::<_, Failed>((command.output()?, out, folder))
    };
    let (output, out, _folder) = few("")?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let sweep = read(&out)?;
    let alone = |receiver: Receiver| receiver == Receiver::Sink;
    let cells = sweep.manifest.plan.cells.iter().filter(|cell| alone(cell.receiver)).count();
    let page = sendpath::report::page(&sweep);
    let (asked, asked_out, _asked_folder) = few("--receiver sink --threads 1 --path two_copy,zero_copy")?;
    if let Some(reason) = &sweep.manifest.no_sink {
        assert_eq!(cells, 0);
        let said: Vec<&str> = text.lines().filter(|line| line.contains("receiver sink")).collect();
        assert!(matches!(said[..], [line] if line.contains("left out")), "{text}");
        assert!(page.warnings.iter().any(|warning| warning.contains(reason)), "{:?}", page.warnings);
        assert_eq!(asked.status.code(), Some(1), "{}", stderr(&asked));
        assert!(!asked_out.exists() && stderr(&asked).contains("sink"), "{}", stderr(&asked));
        return Ok(());
    }
    assert_eq!((cells, sweep.manifest.injections.len()), (2, 2), "{text}");
    assert!(page.headline.starts_with("Sender alone"), "{}", page.headline);
    for record in sweep.records.iter().filter(|record| alone(record.arm.case.receiver)) {
        let sample = record.outcome.as_ref().map_err(Clone::clone)?;
        assert_eq!((sample.client.user_ns, sample.client.copies), Default::default());
        assert!(sample.server.zero_copy.is_none_or(|counts| counts.copied == 0), "nothing is copied");
    }
    assert_eq!(asked.status.code(), Some(0), "{}", stderr(&asked));
    Ok(())
}

fn refused(output: &Output, word: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{word}: {text}");
    assert_eq!(text.lines().count(), 1, "{word}: {text}");
    assert!(text.contains(word), "{word}: {text}");
    assert!(output.stdout.is_empty(), "{word}");
}

fn bad_input_of_sweep() -> Result<(), Failed> {
    for (arguments, word) in [
        ("--profile huge", "huge"),
        ("--time 0s", "time"),
        ("--time 25h", "24h"),
        ("--precision 0", "precision"),
        ("--precision x", "precision"),
        ("--seed x", "seed"),
        ("--size 64,x", "\"x\""),
        ("--threads 1,1", "twice"),
        ("--layout stack", "heap, page"),
        ("--counters flops", "flops"),
        ("--resume /nonexistent", "is no sweep"),
        ("--resume x --out y", "--out"),
        ("--resume x --seed 1", "--seed"),
    ] {
        let output = sendpath().arg("sweep").args(arguments.split_whitespace()).output()?;
        refused(&output, word);
    }
    let folder = tempfile::tempdir()?;
    refused(&sweep("", folder.path()).output()?, "exists");
    assert_eq!(fs::read_dir(folder.path())?.count(), 0, "nothing was written");
    Ok(())
}

fn bad_input_of_report() -> Result<(), Failed> {
    let (folder, out, _) = measured("--time 1ms")?;
    refused(&report(folder.path()), "is no sweep");
    refused(&report(Path::new("/dev/null")), "");

    let samples = out.join("samples.csv");
    let whole = fs::read_to_string(&samples)?;
    for (from, to, word) in [
        ("elapsed_ns", "elapsed_s", "elapsed_s"),
        (",rr,", ",NaN,", "NaN"),
        ("\n0,", "\nNaN,", "generation \"NaN\""),
    ] {
        fs::write(&samples, whole.replacen(from, to, 1))?;
        refused(&report(&out), word);
    }
    fs::write(&samples, &whole[..whole.len() - 7])?;
    let output = report(&out);
    assert_eq!(output.status.code(), Some(0), "a torn line is left out");
    assert!(stderr(&output).contains("torn"), "{}", stderr(&output));
    assert!(fs::read_to_string(out.join("report.html"))?.contains("torn"), "the page says so too");

    let manifest = out.join("environment.json");
    let json = fs::read_to_string(&manifest)?;
    let schema = format!("\"schema\": {}", store::SCHEMA);
    fs::write(&manifest, json.replacen(&schema, "\"schema\": 99", 1))?;
    refused(&report(&out), "schema 99 is newer");
    Ok(())
}

fn cannot_be_written() -> Result<(), Failed> {
    let output = sweep("--time 1ms", Path::new("/proc/sendpath/sweep")).output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("mkdir(2) /proc/sendpath/sweep"), "{text}");

    let (_folder, out, _) = measured("--time 1ms")?;
    fs::remove_file(out.join("report.html"))?;
    fs::create_dir(out.join("report.html"))?;
    let output = report(&out);
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("report.html"), "{text}");
    Ok(())
}

fn full_output() -> Result<(), Failed> {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let mut report = sendpath();
    report.arg("report").arg(&out);
    let mut run = sendpath();
    run.args(["run", "--netns", "loopback", "--size", "64", "--duration", "1ms"]);
    for mut command in [sweep("--time 1ms", &out), report, run] {
        let output = command.stdout(full()?).output()?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
        assert!(text.contains("write(2) to standard output: No space left"), "{command:?}: {text}");
    }
    assert!(
        out.join("summary.csv").exists() && out.join("report.html").exists(),
        "all but the printing is done"
    );
    Ok(())
}

fn closed_output() -> Result<(), Failed> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let (_folder, out, _) = measured("--time 1ms")?;
    let output = sendpath().arg("report").arg(&out).stdout(writer).output()?;
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    Ok(())
}
