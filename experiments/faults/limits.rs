//! Each limit of a process (`setrlimit(2)`) at ten values, under which every command gives a result
//! or a named error. A death by signal counts, unless no program could have caught it: one that the
//! loader dies of as well, and the SIGKILL of `RLIMIT_CPU`.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::Tally;
use super::place::{Folder, LIMIT, Place, SENDPATH, kill_descendants};
use super::strikes::wait;

/// The limits, each with ten values: in bytes, seconds, or a number of things.
const LIMITS: [(&str, Resource, [u64; 10]); 10] = {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    [
        (
            "RLIMIT_AS",
            Resource::RLIMIT_AS,
            [MIB, 8 * MIB, 16 * MIB, 18 * MIB, 20 * MIB, 24 * MIB, 32 * MIB, 64 * MIB, 128 * MIB, 512 * MIB],
        ),
        (
            "RLIMIT_DATA",
            Resource::RLIMIT_DATA,
            [64 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB, 256 * MIB],
        ),
        (
            "RLIMIT_STACK",
            Resource::RLIMIT_STACK,
            [4 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 96 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, 4 * MIB],
        ),
        (
            "RLIMIT_FSIZE",
            Resource::RLIMIT_FSIZE,
            [0, 1, 100, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 64 * MIB],
        ),
        ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE, [0, 1, 3, 4, 6, 8, 10, 16, 24, 64]),
        ("RLIMIT_NPROC", Resource::RLIMIT_NPROC, [0, 1, 2, 3, 4, 6, 8, 12, 16, 64]),
        (
            "RLIMIT_MEMLOCK",
            Resource::RLIMIT_MEMLOCK,
            [0, 1, 4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 8 * MIB, 64 * MIB],
        ),
        ("RLIMIT_CPU", Resource::RLIMIT_CPU, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (
            "RLIMIT_CORE",
            Resource::RLIMIT_CORE,
            [0, 1, KIB, 4 * KIB, 64 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB],
        ),
        ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING, [0, 1, 2, 3, 4, 8, 16, 64, 256, 1024]),
    ]
};

/// The commands, each with what it is asked for. `{}` is a folder of its own, `{stored}` a sweep.
const COMMANDS: [(&str, &str); 5] = [
    ("run", "run --size 64K --threads 2 --path zero_copy --layout page --duration 100ms"),
    ("sweep", "sweep --size 64 --threads 1 --receiver buffer --counters none --time 1s --out {}"),
    ("tune", "tune --receiver buffer --time 1s"),
    ("ab", "ab --base-bin {program} --change-bin {program} --size 64 --path two_copy --blocks 1 --time 1s"),
    ("report", "report {stored}"),
];

/// Runs every command under every limit: a line of the table for each limit.
pub fn each(place: &Place) -> anyhow::Result<Vec<Tally>> {
    let folder = Folder::make()?;
    let stored = folder.path("sweep").display().to_string();
    let status = place.command(&COMMANDS[1].1.replace("{}", &stored), &folder)?.status()?;
    anyhow::ensure!(status.success(), "a sweep without a limit: {}", folder.said());
    LIMITS.iter().map(|(name, resource, values)| under(place, &stored, name, *resource, values)).collect()
}

fn under(
    place: &Place,
    stored: &str,
    name: &str,
    resource: Resource,
    values: &[u64],
) -> anyhow::Result<Tally> {
    let mut tally = Tally::new(format!("every command under {name}"));
    for (&value, (subject, arguments)) in
        values.iter().flat_map(|value| COMMANDS.map(|command| (value, command)))
    {
        let folder = Folder::make()?;
        let arguments = arguments
            .replace("{}", &folder.path("sweep").display().to_string())
            .replace("{program}", SENDPATH)
            .replace("{stored}", stored);
        let mut command = if subject == "report" {
            place.alone(&arguments, &folder)?
        } else {
            place.command(&arguments, &folder)?
        };
        limit(&mut command, resource, value);
        tally.times += 1;
        // What it says is written by this process: the limit may be one of files.
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // execve(2) itself may refuse, before there is a program.
        let Ok(mut child) = command.spawn() else { continue };
        let written = [
            child.stdout.take().map(|pipe| written(pipe, folder.path("stdout"))),
            child.stderr.take().map(|pipe| written(pipe, folder.path("stderr"))),
        ];
        let status = wait(&mut child, Instant::now() + 6 * LIMIT)?;
        written.into_iter().flatten().for_each(|thread| drop(thread.join()));
        let ended = folder.ended(status, place.left(&folder, Instant::now() + LIMIT)?);
        kill_descendants()?;
        let is_unnamed = match ended.status {
            None => {
                tally.hangs += 1;
                true
            }
            Some(status) => !ended.has_cause() && !is_beyond_a_program(status, resource, value, &ended.text),
        };
        tally.without_cause += u64::from(is_unnamed);
        tally.leftovers += ended.left.len() as u64;
        if is_unnamed || !ended.left.is_empty() {
            println!("    FOUND: {name} {value}: {subject}: {}; left {:?}", ended.in_words(), ended.left);
        }
    }
    Ok(tally)
}

/// Writes what comes out of a pipe to a file, until its end.
fn written(mut pipe: impl io::Read + Send + 'static, path: PathBuf) -> JoinHandle<io::Result<u64>> {
    std::thread::spawn(move || io::copy(&mut pipe, &mut File::create(path)?))
}

/// Sets both limits between fork and exec.
fn limit(command: &mut Command, resource: Resource, value: u64) {
    // SAFETY: setrlimit(2) may be called there, and nothing is allocated.
    unsafe { command.pre_exec(move || setrlimit(resource, value, value).map_err(io::Error::from)) };
}

/// Whether no program could have named an error: the kernel has killed it for its CPU time, or its
/// loader ends under this limit, before `main`.
fn is_beyond_a_program(status: ExitStatus, resource: Resource, value: u64, text: &str) -> bool {
    if resource == Resource::RLIMIT_CPU && status.signal() == Some(Signal::SIGKILL as i32) {
        return true;
    }
    if text.contains("error while loading shared libraries") {
        return true;
    }
    let mut loader = Command::new(SENDPATH);
    loader.env("LD_TRACE_LOADED_OBJECTS", "1");
    loader.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    limit(&mut loader, resource, value);
    !loader.status().is_ok_and(|status| status.success())
}
