//! `sendpath sweep` and `sendpath report`, as a person calls them: what is on disk after whatever end.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};

use common::{anywhere, sendpath, stderr};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sendpath::results::store::{self, Sweep};

fn main() -> ExitCode {
    common::main(vec![
        anywhere("a_sweep_and_its_report_are_whole", whole),
        anywhere("a_seed_is_recorded_and_repeats_the_order", seeds),
        anywhere("a_sweep_ends_when_all_is_precise", ends_when_precise),
        anywhere("interrupted_it_keeps_its_data_and_goes_on_with_resume", interrupted),
        anywhere("killed_it_has_lost_a_round_at_most", killed),
        anywhere("a_case_that_fails_is_a_row_and_the_others_go_on", failing_case),
        anywhere("bad_input_of_sweep_is_one_line_and_exit_2", bad_input_of_sweep),
        anywhere("bad_input_of_report_is_one_line_and_exit_2", bad_input_of_report),
        anywhere("what_cannot_be_written_is_named_and_exit_1", cannot_be_written),
    ])
}

/// Few and small cases over loopback, which any machine has.
const SMALL: &str = "--netns loopback --size 64,4K --threads 1 --path two_copy,one_copy --placement free --counters task-clock";

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

fn read(folder: &Path) -> Result<Sweep, Failed> {
    Ok(store::read(folder)?)
}

/// A short sweep, and where it lies.
fn measured(arguments: &str) -> Result<(tempfile::TempDir, PathBuf, Output), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let output = sweep(arguments, &out).output()?;
    Ok((folder, out, output))
}

fn whole() -> Result<(), Failed> {
    let (_folder, out, output) = measured("--time 2s")?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in ["[1/4] rr/two_copy/heap/64B/1T/free", "[4/4] rr/one_copy/heap/4096B/1T/free"] {
        assert!(text.contains(line), "{text}");
    }
    let sweep = read(&out)?;
    assert!(
        sweep.warnings.is_empty()
            && sweep.manifest.environment.is_some()
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

    let output = report(&out);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = fs::read_to_string(out.join("report.html"))?;
    assert!(page.contains("On this machine") && page.len() < 1_500_000);
    assert!(out.join("fig1-throughput-1T.svg").exists() && out.join("fig1-throughput-1T.png").exists());
    assert_eq!(sendpath::report::dangling(&sendpath::report::page(&sweep)), [""; 0]);
    Ok(())
}

fn seeds() -> Result<(), Failed> {
    let order = |seed: &str| -> Result<Vec<_>, Failed> {
        let (_folder, out, _) = measured(&format!("--time 400ms --seed {seed}"))?;
        let sweep = read(&out)?;
        assert_eq!(sweep.manifest.plan.seed.to_string(), seed);
        Ok(sweep.records.iter().take(60).map(|record| record.arm).collect())
    };
    assert_eq!(order("7")?, order("7")?);
    assert_ne!(order("7")?, order("8")?);
    Ok(())
}

fn ends_when_precise() -> Result<(), Failed> {
    let (_folder, _out, output) = measured("--time 1m --precision 100%")?;
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("as precisely as was asked for"), "{}", stderr(&output));
    Ok(())
}

/// Starts a long sweep and returns when it has measured something.
fn started(out: &Path) -> Result<Child, Failed> {
    let mut child =
        sweep("--time 10m --precision 0.01%", out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
    // The second generation: the first is on disk.
    while !lines.next().ok_or("it ended")??.starts_with("generation 2") {}
    std::thread::spawn(move || lines.for_each(drop));
    Ok(child)
}

fn signal(child: &Child, signal: Signal) -> Result<(), Failed> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
}

fn interrupted() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let mut child = started(&out)?;
    signal(&child, Signal::SIGINT)?;
    assert_eq!(child.wait()?.code(), Some(130));
    let before = read(&out)?;
    assert!(before.warnings.is_empty() && out.join("summary.csv").exists());

    let resume = |more: &str| {
        let mut command = sendpath();
        command.args([
            "sweep",
            "--netns",
            "loopback",
            "--counters",
            "task-clock",
            "--time",
            "1s",
            "--resume",
        ]);
        command.arg(&out).args(more.split_whitespace()).output()
    };
    let output = resume("")?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let after = read(&out)?;
    assert_eq!(after.manifest.resumed.len(), 1, "the command line that went on is noted");
    assert_eq!(after.manifest.plan, before.manifest.plan);
    assert_eq!(after.records[..before.records.len()], before.records);
    let last = |sweep: &Sweep| sweep.records.iter().map(|record| record.generation).max();
    assert!(last(&after) > last(&before), "new generations, not the old ones again");

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
    let mut child = started(&out)?;
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
    // 64 pairs take more descriptors than there are, one pair does not.
    let command = format!(
        "ulimit -n 60; exec {} sweep --netns loopback --size 64 --threads 1,64 --path two_copy,one_copy --placement free \
         --counters none --time 1500ms --out {}",
        env!("CARGO_BIN_EXE_sendpath"),
        out.display()
    );
    let output = common::clean(Command::new("bash")).args(["-c", &command]).output()?;
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
    assert_eq!((failed(1), failed(64)), (0, 3), "each arm of the one cell once");
    assert!(sweep.records.iter().filter(|record| record.outcome.is_ok()).count() > 30);
    let summary = fs::read_to_string(out.join("summary.csv"))?;
    assert!(summary.contains("RLIMIT_NOFILE"), "{summary}");
    let output = report(&out);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(fs::read_to_string(out.join("report.html"))?.contains("RLIMIT_NOFILE"));
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
    let (folder, out, _) = measured("--time 300ms")?;
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
    fs::write(&manifest, json.replacen(&format!("\"schema\": {}", store::SCHEMA), "\"schema\": 99", 1))?;
    refused(&report(&out), "schema 99 is newer");
    Ok(())
}

fn cannot_be_written() -> Result<(), Failed> {
    let output = sweep("--time 300ms", Path::new("/proc/sendpath/sweep")).output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("mkdir(2) /proc/sendpath/sweep"), "{text}");

    let (_folder, out, _) = measured("--time 300ms")?;
    fs::create_dir(out.join("report.html.new"))?;
    let output = report(&out);
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("report.html"), "{text}");
    Ok(())
}
