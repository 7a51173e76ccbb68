//! Where the faults happen: two namespaces without a name, a veth pair between them, and what is
//! left there after a run.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, gettid};
use tempfile::TempDir;

pub const SENDPATH: &str = env!("CARGO_BIN_EXE_experiments");
/// The promise: whatever happens is said, and everything gone, within this.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What a call's error has become before the command sees it.
const TRANSLATED: [(&str, &str); 5] = [
    // By the C library, which makes a thread's stack, and asks for a device's number.
    ("SYS_mmap", "pthread_create(3)"),
    ("SYS_mprotect", "pthread_create(3)"),
    ("SYS_ioctl", "No such device"),
    // A connection that cannot say the token is one of a stranger.
    ("SYS_recvfrom", "no connection from the client"),
    // A control line that is reset means that the other side is gone.
    ("SYS_sendto", "the client process ended"),
];

/// The calling thread is in the server's namespace, another one stands in the client's. Both go
/// with this process.
pub struct Place {
    client_tid: Pid,
}

/// A run's own folder: what it prints, and its temporary folder.
pub struct Folder(TempDir);

/// How a run ended.
pub struct Ended {
    /// None where it had to be killed.
    pub status: Option<ExitStatus>,
    /// What is still there a while after.
    pub left: Vec<String>,
    /// Its standard error.
    pub text: String,
    /// Its standard output.
    pub printed: String,
}

impl Place {
    /// Makes the namespaces and the link. Every process that loses its parent becomes this
    /// process's child from now on, so that none is overlooked.
    pub fn make() -> anyhow::Result<Self> {
        set_child_subreaper(true).context("prctl(2) PR_SET_CHILD_SUBREAPER")?;
        let what = "unshare(2) CLONE_NEWNET: this takes root";
        unshare(CloneFlags::CLONE_NEWNET).context(what)?;
        let (sender, client) = channel();
        std::thread::Builder::new().name("in the client's namespace".to_owned()).spawn(move || {
            let _ = sender.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid())); // it is waited for
            loop {
                std::thread::park();
            }
        })?;
        let place = Self { client_tid: client.recv()?.context(what)? };
        let netns = place.client_netns();
        ip(&format!("link add wire type veth peer name wire netns {netns}"))?;
        ip("address add 10.79.0.1/24 dev wire")?;
        place.client_ip("address add 10.79.0.2/24 dev wire")?;
        for device in ["lo", "wire"] {
            ip(&format!("link set {device} up"))?;
            place.client_ip(&format!("link set {device} up"))?;
        }
        Ok(place)
    }

    fn client_netns(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", getpid(), self.client_tid)
    }

    /// The peer's command.
    pub fn peer(&self) -> String {
        format!("nsenter --net={} '{SENDPATH}' client", self.client_netns())
    }

    /// `ip` in the client's namespace.
    pub fn client_ip(&self, arguments: &str) -> anyhow::Result<()> {
        self.in_client("ip", arguments)
    }

    /// Any program in the client's namespace.
    pub fn in_client(&self, program: &str, arguments: &str) -> anyhow::Result<()> {
        done("nsenter", &format!("--net={} {program} {arguments}", self.client_netns()))
    }

    /// `sendpath` with arguments and the peer's command.
    pub fn command(&self, arguments: &str, folder: &Folder) -> anyhow::Result<Command> {
        let mut command = self.alone(arguments, folder)?;
        command.arg("--peer").arg(self.peer());
        Ok(command)
    }

    /// The same without a peer.
    #[expect(clippy::unused_self, reason = "it stands beside the other")]
    pub fn alone(&self, arguments: &str, folder: &Folder) -> anyhow::Result<Command> {
        let mut command = Command::new(SENDPATH);
        command.args(arguments.split_whitespace());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SENDPATH_")) {
            command.env_remove(name);
        }
        // Of a panic, what it says is looked for, not where it was.
        command.env_remove("RUST_BACKTRACE");
        command.env("TMPDIR", folder.temporary());
        command.stdin(Stdio::null());
        command.stdout(File::create(folder.path("stdout"))?).stderr(File::create(folder.path("stderr"))?);
        Ok(command)
    }

    /// What a run has left, looked for until nothing is or `until` has come. What still runs then
    /// is ended.
    pub fn left(&self, folder: &Folder, until: Instant) -> anyhow::Result<Vec<String>> {
        let mut left = Vec::new();
        while is_anything_below()? {
            if Instant::now() > until {
                left.extend(descendants().iter().map(|pid| format!("process {}", command_line(*pid))));
                kill_descendants()?;
                break;
            }
            sleep(Duration::from_millis(2));
        }
        for entry in fs::read_dir(folder.temporary())? {
            left.push(format!("file {}", entry?.path().display()));
        }
        for tid in [gettid(), self.client_tid] {
            let devices = fs::read_to_string(format!("/proc/self/task/{tid}/net/dev"))?;
            let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
            left.extend(
                names.filter(|name| !["lo", "wire"].contains(name)).map(|name| format!("link {name}")),
            );
        }
        Ok(left)
    }
}

impl Folder {
    pub fn make() -> anyhow::Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        fs::create_dir(folder.temporary())?;
        Ok(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn temporary(&self) -> PathBuf {
        self.path("temporary")
    }

    /// What the run wrote to its standard error.
    pub fn said(&self) -> String {
        self.text("stderr")
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// How a run in this folder ended.
    pub fn ended(&self, status: Option<ExitStatus>, left: Vec<String>) -> Ended {
        Ended { status, left, text: self.said(), printed: self.text("stdout") }
    }
}

impl Ended {
    /// Whether it ended with an exit code of its own, and said why where it failed.
    pub fn has_cause(&self) -> bool {
        match self.status.and_then(|status| status.code()) {
            Some(0) => true,
            Some(1 | 2 | 4) => {
                self.cause().is_some()
                    && !["panicked", "unwrap", "expect("].iter().any(|word| self.text.contains(word))
            }
            // `ab` is undecided, as its table says, or `tune` when its time was over.
            Some(3) => {
                self.text.contains("the time is over")
                    || ["Undecided: ", "Nothing was compared: "]
                        .iter()
                        .any(|word| self.printed.contains(word))
            }
            _ => false,
        }
    }

    /// Whether the cause is the call that failed: it says the call's name, or its error as C has
    /// it.
    pub fn names(&self, call: &str, errno: Errno) -> bool {
        let error = std::io::Error::from(errno).to_string();
        let cause = self.cause().unwrap_or_default();
        let is_translated = TRANSLATED.iter().any(|(of, into)| *of == call && cause.contains(into));
        is_translated || cause.contains(&error) || cause.contains(call.trim_start_matches("SYS_"))
    }

    /// What the command says of a failure: its last line with its own name and a cause behind it.
    fn cause(&self) -> Option<&str> {
        let is_one = |line: &&str| line.strip_prefix("sendpath: ").is_some_and(|cause| !cause.is_empty());
        self.text.lines().map(str::trim_start).rfind(is_one)
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let status = self.status.map_or("did not end".to_owned(), |status| status.to_string());
        let last = || self.text.lines().last().unwrap_or("nothing was said");
        format!("{status}: {}", self.cause().unwrap_or_else(last))
    }
}

/// `ip` in the server's namespace.
pub fn ip(arguments: &str) -> anyhow::Result<()> {
    done("ip", arguments)
}

/// Runs a program that has to succeed.
pub fn done(program: &str, arguments: &str) -> anyhow::Result<()> {
    let words = shlex::split(arguments).context("a quote is not closed")?;
    let output = Command::new(program).args(words).output().context(program.to_owned())?;
    let text = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program} {arguments}: {}", text.trim());
    Ok(())
}

/// Whether this process has a child, ended ones taken away. No run whose end somebody waits for may
/// be under way.
pub fn is_anything_below() -> nix::Result<bool> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(true),
            Ok(_) => {}
            Err(Errno::ECHILD) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

/// The processes that this one has started, and those that they have.
pub fn descendants() -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| Some(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)));
    let own = getpid();
    all.filter(|&pid| std::iter::successors(parent(pid), |&pid| parent(pid)).take(9).any(|pid| pid == own))
        .collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent > 0).then(|| Pid::from_raw(parent))
}

/// The words that a process was started with.
pub fn command_line(pid: Pid) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// Ends a process, if it is there.
pub fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL); // one that is gone is what was wanted
}

/// Ends what this process has started, stopped processes as well.
pub fn kill_descendants() -> nix::Result<()> {
    descendants().into_iter().for_each(end);
    while is_anything_below()? {
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
