//! What is named as a cause was looked for; what a limit does is an error; what is read is not
//! taken for something else.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use libtest_mimic::{Failed, Trial};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{anywhere, forbid, sendpath, stderr, whoever_runs_it};
use crate::topology::lasting;

pub fn trials() -> Vec<Trial> {
    vec![
        anywhere("a_filter_is_named_where_it_forbids_the_call", filter_is_named),
        whoever_runs_it("a_repository_that_git_refuses_is_told_from_none", git_refuses),
        anywhere("what_was_measured_before_a_failure_is_printed", printed_before_a_failure),
        anywhere("a_file_that_may_not_grow_is_an_error", file_size),
        anywhere("a_small_stack_is_raised_or_an_error", small_stack),
        anywhere("memory_that_cannot_be_had_is_an_error", little_memory),
        anywhere("a_folders_name_need_not_be_text", bytes_in_a_name),
        anywhere("the_executable_that_was_given_is_run_and_none_of_path", executable_of_this_folder),
        whoever_runs_it("a_mistyped_variable_is_refused_with_the_name_that_was_meant", mistyped_variable),
        lasting("a_labelled_address_has_the_device_that_it_is_on", LABEL),
        lasting("a_receiver_behind_a_bridge_of_veth_is_local", BRIDGE),
        lasting("a_queue_that_overflowed_is_named", QUEUE),
    ]
}

/// A quick run over loopback.
fn quick() -> Command {
    let mut command = sendpath();
    command.args(["run", "--netns", "loopback", "--size", "64", "--duration", "20ms"]);
    command
}

fn filter_is_named() -> Result<(), Failed> {
    let mut command = sendpath();
    command.args(["run", "--size", "64", "--duration", "1ms"]);
    forbid(&mut command, libc::SYS_unshare, libc::EPERM);
    let output = command.output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("a seccomp filter of this process forbids unshare(2)"), "{text}");
    assert!(text.contains("SENDPATH_NETNS=loopback"), "{text}");
    Ok(())
}

fn git_refuses() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let init = Command::new("git").current_dir(folder.path()).args(["init", "--quiet"]).output()?;
    assert!(init.status.success(), "{}", stderr(&init));
    let of = |variable: &str, value: &OsStr| {
        let mut command = sendpath();
        command.current_dir(folder.path()).args(["ab", "HEAD"]).env(variable, value);
        command.env("HOME", folder.path()).env("GIT_CONFIG_NOSYSTEM", "1").output()
    };
    for (output, word) in [
        // As git's own tests ask for it.
        (
            of("GIT_TEST_ASSUME_DIFFERENT_OWNER", OsStr::new("1"))?,
            "git refuses this one (fatal: detected dubious",
        ),
        (of("PATH", folder.path().as_os_str())?, "git is not to be found"),
    ] {
        let text = stderr(&output);
        assert!(output.status.code() == Some(2) && text.contains(word), "{word}: {text}");
        assert!(!text.contains("not in one"), "{text}");
    }
    Ok(())
}

fn printed_before_a_failure() -> Result<(), Failed> {
    let mut child = sendpath()
        .args(["run", "--netns", "loopback", "--size", "64", "--duration", "1h", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
    lines.next().ok_or("nothing was said")??;
    let client = loop {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
        if let Some(pid) = children.split_whitespace().next() {
            break Pid::from_raw(pid.parse()?);
        }
    };
    // Bursts of 50 ms: some are through once the client has used so much of a CPU's time.
    while cpu_ticks(client)? < 50 {
        std::thread::yield_now();
    }
    kill(client, Signal::SIGKILL)?;
    let mut text = String::new();
    child.stdout.take().ok_or("no stdout")?.read_to_string(&mut text)?;
    assert_eq!(child.wait()?.code(), Some(1));
    let result: serde_json::Value = serde_json::from_str(&text)?;
    assert!(result["messages"].as_u64() > Some(0), "{text}");
    assert!(result["failed"].as_str().is_some_and(|cause| cause.contains("client")), "{text}");
    Ok(())
}

/// What a process has used, in ticks of a hundredth of a second: utime and stime of
/// `proc_pid_stat(5)`.
fn cpu_ticks(pid: Pid) -> Result<u64, Failed> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').ok_or("no name")?.1.split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// Sets a limit of the command, the hard one as well.
fn limited(mut command: Command, resource: Resource, value: u64) -> Result<Output, Failed> {
    // SAFETY: setrlimit(2) may be called between fork and exec, and nothing is allocated.
    unsafe { command.pre_exec(move || setrlimit(resource, value, value).map_err(std::io::Error::from)) };
    Ok(command.output()?)
}

fn file_size() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut command = sendpath();
    command.args(["sweep", "--netns", "loopback", "--size", "64", "--time", "1s", "--out"]);
    command.arg(folder.path().join("sweep"));
    let output = limited(command, Resource::RLIMIT_FSIZE, 1024)?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{} {text}", output.status);
    assert!(text.contains("write(2)") && text.contains("File too large"), "{text}");
    Ok(())
}

fn small_stack() -> Result<(), Failed> {
    let output = limited(quick(), Resource::RLIMIT_STACK, 64 << 10)?;
    let text = stderr(&output);
    // Root may raise the hard limit.
    let is_named = output.status.code() == Some(1) && text.contains("RLIMIT_STACK is 64 KiB");
    assert!(output.status.success() || is_named, "{} {text}", output.status);
    Ok(())
}

fn little_memory() -> Result<(), Failed> {
    for (size, bytes) in [("4M", 24 << 20), ("4M", 40 << 20), ("64", 32 << 20)] {
        let mut command = sendpath();
        command.args(["run", "--netns", "loopback", "--threads", "2", "--duration", "20ms", "--size", size]);
        let output = limited(command, Resource::RLIMIT_AS, bytes)?;
        let text = stderr(&output);
        let is_of_the_loader = text.contains("error while loading shared libraries");
        assert!(matches!(output.status.code(), Some(0 | 1)) || is_of_the_loader, "{} {text}", output.status);
        assert!(!text.contains("panicked"), "{text}");
    }
    Ok(())
}

fn bytes_in_a_name() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(OsStr::from_bytes(b"bad\xff"));
    let mut command = sendpath();
    command.args([
        "sweep",
        "--netns",
        "loopback",
        "--size",
        "64",
        "--time",
        "1s",
        "--counters",
        "none",
        "--out",
    ]);
    let output = command.arg(&path).output()?;
    assert!(output.status.success(), "{} {}", output.status, stderr(&output));
    assert!(path.join("environment.json").is_file());
    Ok(())
}

fn executable_of_this_folder() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let decoys = folder.path().join("decoys");
    fs::create_dir(&decoys)?;
    let called = folder.path().join("called");
    let decoy = decoys.join("sendpath");
    fs::write(&decoy, format!("#!/bin/sh\ntouch '{}'\nexit 1\n", called.display()))?;
    fs::set_permissions(&decoy, fs::Permissions::from_mode(0o755))?;
    fs::copy(env!("CARGO_BIN_EXE_sendpath"), folder.path().join("sendpath"))?;
    let path = std::env::join_paths([&decoys, Path::new("/usr/bin"), Path::new("/bin")])?;
    let mut command = sendpath();
    command.args(["ab", "--base-bin", "sendpath", "--change-bin", "./sendpath", "--netns", "loopback"]);
    command.args(["--size", "64", "--path", "two_copy", "--blocks", "1", "--json"]);
    let output = command.current_dir(folder.path()).env("PATH", path).output()?;
    // One block decides nothing.
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(!called.exists(), "the one of PATH was run");
    Ok(())
}

fn mistyped_variable() -> Result<(), Failed> {
    let output = quick().env("SENDPATH_BUFFER", "auto").output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text, "sendpath: SENDPATH_BUFFER is no variable of sendpath; SENDPATH_BUFFERS is\n");
    Ok(())
}

const LABEL: &str = r#"
ip link set lo up
ip address add 127.0.0.2/8 dev lo label lo:1
"$SENDPATH" run --netns loopback --size 64 --duration 20ms
"#;

const BRIDGE: &str = r#"
ip link set lo up
unshare --net sleep 60 & other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
there="nsenter -t $other --net"
ip link add near type veth peer name far netns $other
ip link add bridge type bridge
ip link set near master bridge
ip address add 10.9.0.1/24 dev bridge
ip link set near up
ip link set bridge up
$there ip link set lo up
$there ip address add 10.9.0.2/24 dev far
$there ip link set far up
"$SENDPATH" run --path zero_copy --size 64K --duration 50ms --peer "$there $SENDPATH client" --json >result
grep -q '"cause": "local_receiver"' result
"#;

const QUEUE: &str = r#"
ip link set lo up
sysctl -qw net.core.somaxconn=1
"$SENDPATH" run --netns loopback --size 64 --threads 64 --duration 20ms 2>said && exit 0
grep -q 'net.core.somaxconn is 1, and 64 pairs connect at once' said
"#;
