//! Whether the time that a thread spends in softirqs is in its CPU time. There the kernel receives
//! what the thread sent over loopback or veth, and copies zero-copy data after all. A kernel that
//! accounts interrupt time by itself (`CONFIG_IRQ_TIME_ACCOUNTING`) takes it out of every thread's
//! time.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use once_cell::sync::OnceCell;

use super::file;
use crate::error::{Error, Result};

/// Options of a kernel that keeps softirq time out of threads' CPU time.
const OPTIONS: [&str; 2] = ["CONFIG_IRQ_TIME_ACCOUNTING=y", "CONFIG_VIRT_CPU_ACCOUNTING_NATIVE=y"];

/// How long a trial takes, and how many there are: some 10 ms in all. A trial is short, so that
/// some of them run without another thread on the CPU.
const TRIAL: Duration = Duration::from_micros(100);
const TRIALS: usize = 60;
/// At or above the first share of a trial, all of its time is in the thread's CPU time. At or below
/// the second, softirqs are left out: receiving takes some quarter of such a trial.
const ALL: f64 = 0.97;
const PART: f64 = 0.90;

/// Whether softirq time is in the threads' CPU time, by the kernel's configuration or else by a
/// trial; none where neither can tell. Found out once in the life of the process.
///
/// # Errors
/// A call that failed for a reason of this moment: what it would have told is asked for again the
/// next time.
pub(crate) fn in_cpu_time() -> Result<Option<bool>> {
    static KNOWN: OnceCell<Option<bool>> = OnceCell::new();
    KNOWN.get_or_try_init(|| Ok(configured(Path::new("/"))?.or(tried()?))).copied()
}

/// What the running kernel's configuration says; read from the files below `root`.
fn configured(root: &Path) -> Result<Option<bool>> {
    let Some(text) = file::configuration(root)? else { return Ok(None) };
    let command_line = file::read(&root.join("proc/cmdline"))?.unwrap_or_default();
    // The boot option that turns it off on x86.
    let off = command_line.split_whitespace().any(|word| word == "tsc=noirqtime");
    let apart = |line: &str| line == OPTIONS[1] || line == OPTIONS[0] && !off;
    // A file without options is no configuration.
    Ok(text.lines().any(|line| line.starts_with("CONFIG_")).then(|| !text.lines().any(apart)))
}

/// Sends packets to itself over loopback, which the kernel receives in a softirq of the same
/// thread, and compares the thread's CPU time with the time that passed. Trials that only compute
/// show whether the two agree at all here; a thread that shares its CPU has CPU time missing for
/// another reason, so the best trial counts.
fn tried() -> Result<Option<bool>> {
    match try_once() {
        Ok(shares) => Ok(judge(shares)),
        Err(errno) if file::is_passing(&errno) => Err(Error::call("send(2) to this process by UDP")(errno)),
        // Without loopback, for instance.
        Err(_) => Ok(None),
    }
}

fn try_once() -> io::Result<(f64, f64)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(socket.local_addr()?)?;
    // Loopback delivers before send(2) returns; this only keeps a lost packet from hanging the
    // trial.
    socket.set_read_timeout(Some(Duration::from_millis(10)))?;
    let mut packet = [0; 64];
    let mut send = || {
        socket.send(&packet)?;
        // A packet that does not come is no passing error: a firewall may keep all of them.
        socket.recv(&mut packet).map_err(|errno| io::Error::from(errno.kind()))
    };
    let (mut computing, mut sending) = (0.0_f64, 0.0_f64);
    for _ in 0..TRIALS {
        computing = computing.max(share(|| Ok(0))?);
        sending = sending.max(share(&mut send)?);
    }
    Ok((computing, sending))
}

fn judge(shares: (f64, f64)) -> Option<bool> {
    match shares {
        (computing, _) if computing < ALL => None,
        (_, sending) if sending >= ALL => Some(true),
        (_, sending) if sending <= PART => Some(false),
        _ => None,
    }
}

/// The share of a trial of `work` that is in the thread's CPU time.
fn share(mut work: impl FnMut() -> io::Result<usize>) -> io::Result<f64> {
    let (start, cpu_start) = (now(ClockId::CLOCK_MONOTONIC)?, now(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    loop {
        work()?;
        let elapsed_ns = now(ClockId::CLOCK_MONOTONIC)? - start;
        if elapsed_ns >= TRIAL.as_nanos() as i64 {
            let cpu_ns = now(ClockId::CLOCK_THREAD_CPUTIME_ID)? - cpu_start;
            return Ok(cpu_ns as f64 / elapsed_ns as f64);
        }
    }
}

fn now(clock: ClockId) -> nix::Result<i64> {
    Ok(clock_gettime(clock)?.num_nanoseconds())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::fake;

    const APART: &str = "CONFIG_X86=y\nCONFIG_IRQ_TIME_ACCOUNTING=y\n";
    const TOGETHER: &str = "CONFIG_X86=y\n# CONFIG_IRQ_TIME_ACCOUNTING is not set\n";

    fn kernel(files: &[(&str, &[u8])]) -> Option<bool> {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            fake::write(root.path(), path, bytes);
        }
        configured(root.path()).unwrap()
    }

    #[test]
    fn the_kernels_configuration_says_it_wherever_it_lies() {
        let release = ("proc/sys/kernel/osrelease", &b"6.1.0-x\n"[..]);
        for (text, known) in [
            (APART, Some(false)),
            (TOGETHER, Some(true)),
            ("CONFIG_VIRT_CPU_ACCOUNTING_NATIVE=y\n", Some(false)),
            ("", None),
        ] {
            let mut packed = GzEncoder::new(Vec::new(), Compression::default());
            packed.write_all(text.as_bytes()).unwrap();
            assert_eq!(kernel(&[("proc/config.gz", &packed.finish().unwrap())]), known, "{text}");
            assert_eq!(kernel(&[release, ("boot/config-6.1.0-x", text.as_bytes())]), known, "{text}");
            assert_eq!(kernel(&[release, ("lib/modules/6.1.0-x/config", text.as_bytes())]), known, "{text}");
        }
        // Another kernel's configuration says nothing of this one.
        assert_eq!(kernel(&[release, ("boot/config-5.10.0", APART.as_bytes())]), None);
        let off = ("proc/cmdline", &b"quiet tsc=noirqtime\n"[..]);
        assert_eq!(kernel(&[release, off, ("boot/config-6.1.0-x", APART.as_bytes())]), Some(true));
    }

    #[test]
    fn a_trial_is_believed_where_computing_is_accounted_in_full() {
        assert_eq!(judge((0.99, 0.99)), Some(true));
        assert_eq!(judge((0.99, 0.70)), Some(false));
        assert_eq!(judge((0.99, 0.93)), None, "neither all nor clearly a part");
        assert_eq!(judge((0.60, 0.50)), None, "the CPU was never this thread's alone");
    }

    #[test]
    fn a_trial_on_the_running_kernel_agrees_with_its_configuration() {
        let (configured, tried) = (configured(Path::new("/")).unwrap(), tried().unwrap());
        if let (Some(configured), Some(tried)) = (configured, tried) {
            assert_eq!(tried, configured);
        }
        assert_eq!(in_cpu_time().unwrap(), in_cpu_time().unwrap());
    }
}
