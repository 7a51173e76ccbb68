//! `sendpath ab`, `compare` and `history`, as a person calls them: verdicts, faults, and what is left behind.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use common::{anywhere, clean, sendpath, stderr};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn main() -> ExitCode {
    common::main(vec![
        anywhere("the_same_executable_twice_is_no_regression", same_twice),
        anywhere("a_setting_that_is_slower_is_a_regression", slower),
        anywhere("ab_s_bad_input_is_one_line_and_exit_2", bad_input),
        anywhere("a_worker_that_is_none_is_named_and_exit_4", no_worker),
        anywhere("a_revision_that_does_not_build_is_named_and_nothing_stays", broken_revision),
        anywhere("interrupted_in_a_build_it_leaves_nothing", interrupted_build),
        anywhere("interrupted_it_prints_what_it_has", interrupted),
        anywhere("two_sweeps_are_compared_and_what_only_one_has_is_listed", compare),
        anywhere("a_history_shows_every_sweep_and_leaves_out_what_is_none", history),
    ])
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_sendpath");
const SMALL: &str = "--netns loopback --placement free --path two_copy --layout heap";

fn ab(arguments: &str) -> Command {
    let mut command = sendpath();
    command.args(["ab", "--base-bin", PROGRAM, "--change-bin", PROGRAM]);
    command.args(SMALL.split_whitespace()).args(arguments.split_whitespace());
    command
}

fn same_twice() -> Result<(), Failed> {
    let output = ab("--size 64,4K --time 3s --json").output()?;
    let text = stderr(&output);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    let json: Value = serde_json::from_slice(&output.stdout)?;
    assert!(json["outcome"]["blocks"].as_u64() >= Some(3), "{json}");
    let comparisons = json["outcome"]["comparisons"].as_array().ok_or("no comparisons")?;
    assert!(comparisons.len() >= 2 * 4, "{json}");
    for comparison in comparisons {
        let gain = &comparison["gain"];
        let [low, value, high] = ["low", "value", "high"].map(|end| gain[end].as_f64().unwrap_or(f64::NAN));
        assert!(low <= value && value <= high, "{comparison}");
        assert!(
            comparison["control"].is_object() && comparison["smallest_effect"].as_f64() > Some(0.0),
            "{comparison}"
        );
    }
    Ok(())
}

fn slower() -> Result<(), Failed> {
    let output = ab("--size 1M --time 4s --change-env SENDPATH_BUFFERS=4K").output()?;
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
    refused(&outside("ab HEAD")?, 2, "in none");
    refused(&outside("ab")?, 2, "<BASE>");
    refused(&outside("ab --base-bin /nonexistent --change-bin /bin/true")?, 2, "/nonexistent is no file");
    refused(&outside("ab --base-bin /bin/true")?, 2, "--change-bin");
    refused(&outside("ab HEAD --base-env X")?, 2, "NAME=VALUE");
    refused(&outside("ab HEAD --size 3")?, 2, "8 bytes");
    let repository = repository("fn main() {}", None)?;
    let output = sendpath().current_dir(repository.path()).args(["ab", "no-such-revision"]).output()?;
    refused(&output, 2, "no-such-revision");
    Ok(())
}

fn no_worker() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let script = |name: &str, text: &str| -> Result<PathBuf, Failed> {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    };
    let old = script("old", "echo \"error: unrecognized subcommand 'worker'\" >&2; exit 2")?;
    let schema = script(
        "schema",
        "echo '{\"Ready\":{\"schema\":0,\"program\":{\"version\":\"0\",\"revision\":\"x\",\"dirty\":false}}}'; cat >/dev/null",
    )?;
    for (program, word) in [(old, "from before `ab`"), (schema, "schema 0")] {
        let output = sendpath()
            .args(["ab", "--netns", "loopback", "--change-bin", PROGRAM, "--base-bin"])
            .arg(program)
            .output()?;
        refused(&output, 4, word);
    }
    Ok(())
}

/// A repository with one commit: a package that is called as this one is.
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
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "--all"],
        &["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "one"],
    ] {
        assert!(Command::new("git").current_dir(folder.path()).args(arguments).status()?.success());
    }
    Ok(folder)
}

fn worktrees(repository: &Path) -> Result<usize, Failed> {
    let output = Command::new("git").current_dir(repository).args(["worktree", "list"]).output()?;
    Ok(String::from_utf8(output.stdout)?.lines().count())
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

fn interrupted_build() -> Result<(), Failed> {
    let build = "fn main() { std::thread::sleep(std::time::Duration::from_secs(30)); }";
    let (repository, temporary) = (repository("fn main() {}", Some(build))?, tempfile::tempdir()?);
    let mut child = clean(Command::new(PROGRAM))
        .current_dir(repository.path())
        .env("TMPDIR", temporary.path())
        .args(["ab", "HEAD"])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().ok_or("no stderr")?).read_line(&mut line)?;
    assert!(line.starts_with("building"), "{line}");
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    assert_eq!(child.wait()?.code(), Some(130));
    assert_eq!((worktrees(repository.path())?, left(temporary.path())?), (1, Vec::new()));
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
        .args(["sweep", "--time", "1s", "--threads", "1", "--counters", "none", "--size", sizes, "--out"])
        .arg(out)
        .args(SMALL.split_whitespace())
        .output()?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    Ok(())
}

fn compare() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    sweep(&first, "64,4K")?;
    sweep(&second, "64,8K")?;
    let output = sendpath().arg("compare").args([&first, &second]).args(["--margin", "50%"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{text}");
    assert!(text.starts_with("Not interleaved"), "{text}");
    assert!(text.contains("rr/two_copy/heap/64B/1T/free") && text.contains("throughput"), "{text}");
    for (folder, case) in [(&first, "4096B"), (&second, "8192B")] {
        assert!(
            text.contains(&format!("only in {}: rr/two_copy/heap/{case}/1T/free", folder.display())),
            "{text}"
        );
    }
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
    assert!(page.contains("2 sweeps of 1 machines: no step"), "{}", &page[..2000]);
    refused(&sendpath().arg("history").arg(folder.path()).output()?, 2, "no sweep to show");
    Ok(())
}
