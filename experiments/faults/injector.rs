//! Fails system calls of other processes: a seccomp filter hands the calls that are asked for to
//! this process, which lets each go on or answers it with an error. See `seccomp_unotify(2)`.
//! Unlike `ptrace(2)` it needs no tracer on each side, follows every thread and child, and says
//! when the last of them is gone.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getpid;

use super::place::{SENDPATH, command_line, descendants, end, is_anything_below};

/// A call, by its name and number, and the error that it is given.
#[derive(Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    pub number: libc::c_long,
    pub errno: Errno,
}

/// Stands behind the name of a thread that is to become another program.
pub const FORK: &str = " (fork)";
pub const SERVER: &str = "server";
pub const CLIENT: &str = "client";

/// A call that is about to be made.
pub struct Made {
    /// `server` or `client`.
    pub side: &'static str,
    /// The thread's name; behind that of one that is to become another program stands [`FORK`].
    pub thread: String,
    pub number: libc::c_long,
    pub tid: u32,
    /// The first argument.
    pub argument: u64,
}

/// Runs `command` to its end, and asks `answer` what each of its `calls` is to fail with. What it
/// started has to be gone as well when `limit` is over; what is not is ended. Returns how it ended,
/// if it did, and what else was still there.
pub fn run(
    mut command: Command,
    calls: &[Call],
    limit: Duration,
    answer: &mut dyn FnMut(&Made) -> Option<Errno>,
) -> io::Result<(Option<ExitStatus>, Vec<String>)> {
    // A filter is one thread's, and inherited by what that starts.
    let listener = Arc::new(AtomicI32::new(UNKNOWN));
    let status = Arc::new(OnceLock::new());
    let filter = filter(calls);
    let starter = {
        let (listener, status) = (Arc::clone(&listener), Arc::clone(&status));
        std::thread::Builder::new().name("starter".to_owned()).spawn(move || {
            match install(&filter) {
                Ok(fd) => listener.store(fd, Ordering::Release),
                Err(error) => {
                    listener.store(FAILED, Ordering::Release);
                    return Err(error);
                }
            }
            // From here on this thread's own calls are handed over, too.
            let ended = command.spawn().and_then(|mut child| child.wait());
            ended.map(|ended| {
                let _ = status.set(ended);
            })
        })?
    };
    let listener = loop {
        match listener.load(Ordering::Acquire) {
            UNKNOWN => sleep(Duration::from_micros(100)),
            FAILED => break None,
            // SAFETY: the kernel has just made this descriptor, and nobody else closes it.
            fd => break Some(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    };
    let mut at_the_limit = None;
    if let Some(listener) = &listener {
        let deadline = Instant::now() + limit;
        loop {
            let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(20_u8))?;
            let state = fds[0].revents().unwrap_or(PollFlags::empty());
            if state.contains(PollFlags::POLLIN) {
                answer_one(listener, answer)?;
            } else if state.contains(PollFlags::POLLHUP) {
                break; // nobody is left who has the filter
            }
            if at_the_limit.is_none() && Instant::now() > deadline {
                let left = descendants().into_iter().map(|pid| format!("process {}", command_line(pid)));
                at_the_limit = Some((status.get().copied(), left.collect()));
                descendants().into_iter().for_each(end);
            }
            // What has lost its parent is this process's to take away.
            if starter.is_finished() {
                is_anything_below()?;
            }
        }
    }
    starter.join().map_err(|_| io::Error::other("the starting thread panicked"))??;
    Ok(at_the_limit.unwrap_or_else(|| (status.get().copied(), Vec::new())))
}

const UNKNOWN: i32 = -1;
const FAILED: i32 = -2;

/// Instructions of classic BPF that hand `calls` over, and allow all others.
fn filter(calls: &[Call]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)]; // seccomp_data.nr
    for call in calls {
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call.number as u32));
        filter.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    filter.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

/// Gives the calling thread the filter, and returns the descriptor at which calls are handed over.
fn install(filter: &[libc::sock_filter]) -> io::Result<i32> {
    let program =
        libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program points to live instructions, and the kernel only reads them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd as i32) }
}

/// Takes one call, and answers it.
fn answer_one(listener: &OwnedFd, answer: &mut dyn FnMut(&Made) -> Option<Errno>) -> io::Result<()> {
    // SAFETY: a structure of integers, of which zeros are values; the kernel asks for zeros.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is the one that this request fills.
    let got = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
    match Errno::result(got) {
        // Whoever made it has been killed meanwhile.
        Err(Errno::ENOENT | Errno::EINTR) => return Ok(()),
        got => got?,
    };
    let errno = made(&request).and_then(|made| answer(&made));
    let response = libc::seccomp_notif_resp {
        id: request.id,
        val: 0,
        error: errno.map_or(0, |errno| -(errno as i32)),
        flags: if errno.is_none() { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 },
    };
    // SAFETY: the structure is the one that this request reads.
    let sent =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    match Errno::result(sent) {
        Err(Errno::ENOENT) => Ok(()),
        sent => sent.map(|_| ()).map_err(Into::into),
    }
}

/// Who makes a call; none where it is neither side.
fn made(request: &libc::seccomp_notif) -> Option<Made> {
    let (tid, number, argument) = (request.pid, request.data.nr.into(), request.data.args[0]);
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
    let words = fs::read(format!("/proc/{tid}/cmdline")).ok()?;
    let mut words = words.split(|&byte| byte == 0);
    if words.next()? != SENDPATH.as_bytes() {
        return None;
    }
    let side = if words.next()? == b"client" { CLIENT } else { SERVER };
    let mut thread = field("Name:")?;
    // The server is this process's child; one of its own has the same words until it becomes
    // another program.
    if side == SERVER && field("PPid:")? != getpid().to_string() {
        thread += FORK;
    }
    Some(Made { side, thread, number, tid, argument })
}
