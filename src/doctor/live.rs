//! What is tried: events, sockets, namespaces.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use socket2::{Domain, Type};
use strum::VariantArray;

use super::finding::Finding;
use super::{ExaminedClient, Rights};
use crate::case::{Case, Layout, Matrix, Placement, Receiver, SendPath};
use crate::check::{Check, ONE_BY_ONE, SINK, State};
use crate::counters::probe;
use crate::environment::{CopyCause, SinkLink, Topology, copy_cause};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host::{self, file, softirq};
use crate::measure::burst::of_messages;
use crate::message::{Message, page_bytes};
use crate::pair::{Client, Mode, Setup, Testbed};
use crate::path::uring::{self, Support};
use crate::path::{Socket, no_huge_pages};
use crate::sample::{CopiedBound, ZeroCopyCounts};
use crate::topology::affinity;

/// Counts a moment of work with each event, one at a time: together they might not fit the PMU.
pub(super) fn events() -> Vec<Check> {
    let check = |event: &Event| match probe(*event) {
        Ok(()) => Finding::ok("counted, kernel included").named(&event.to_string()),
        Err(reason) => Finding::refused(reason).named(&event.to_string()),
    };
    <Event as VariantArray>::VARIANTS.iter().map(check).collect()
}

type Look = fn(&Rights) -> Result<Finding>;

/// What is tried without another end, by name, in the order in which it is listed.
pub(super) const ALONE: [(&str, Look); 6] = [
    ("memlock", |rights| Ok(memlock(rights.ipc_lock))),
    ("cpus", |_| cpus()),
    ("softirq-time", |_| Ok(softirq_time(softirq::in_cpu_time()?))),
    ("zerocopy", |_| zero_copy(stream_socket()?.enable_zero_copy())),
    ("mapped-receive", |_| mapped_receive()),
    ("huge-pages", |_| huge_pages()),
];

fn memlock(ipc_lock: bool) -> Finding {
    let found = format!("RLIMIT_MEMLOCK is {}", host::memlock());
    if ipc_lock {
        Finding::ok(found + ", which does not bind this process")
    } else if host::memlock_bytes() >= 1 << 30 {
        Finding::ok(found)
    } else {
        Finding::limited(
            found + ": zero_copy may pin no more at a time, all of this user's connections together",
        )
        .lifted_by("sudo prlimit --memlock=unlimited --pid $$")
    }
}

fn cpus() -> Result<Finding> {
    let most = Matrix::by_threads().threads.into_iter().max().unwrap_or(1);
    let count = affinity::allowed_cpus()?.numbers().len();
    Ok(if count == 1 {
        Finding::limited("1 is allowed: placement split is impossible, and all pairs share it")
    } else if count < most {
        Finding::limited(format!("{count} are allowed: the {most} pairs of the default matrix share them"))
    } else {
        Finding::ok(format!("{count} are allowed"))
    })
}

/// The CPUs that pairs are dealt to; none where the kernel does not say.
pub(super) fn used_cpus() -> Vec<usize> {
    affinity::allowed_cpus().map(|cpus| cpus.numbers().to_vec()).unwrap_or_default()
}

/// How long it takes to read the clock that bursts are timed by, as they read it and by a system
/// call, in nanoseconds: the least of some trials, which nothing else has interrupted.
pub(super) fn clock_read_ns() -> [f64; 2] {
    const TRIALS: u32 = 20;
    const READS: u32 = 200;
    let least_of = |read: &dyn Fn()| {
        let trial = |_| {
            let began = Instant::now();
            (0..READS).for_each(|_| read());
            began.elapsed().as_nanos() as f64 / f64::from(READS)
        };
        (0..TRIALS).map(trial).fold(f64::INFINITY, f64::min)
    };
    let by_call = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one timespec, which is live.
        unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    };
    [
        least_of(&|| {
            let _ = std::hint::black_box(Instant::now());
        }),
        least_of(&by_call),
    ]
}

/// A socket is enough to tell what the kernel takes: no connection is needed.
fn stream_socket() -> Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None);
    socket.map(TcpStream::from).map_err(Error::call("socket(2)"))
}

/// Whether the kernel takes `SO_ZEROCOPY`.
fn zero_copy(tried: io::Result<()>) -> Result<Finding> {
    let call = "setsockopt(2) SO_ZEROCOPY";
    let Err(error) = tried else { return Ok(Finding::ok("the kernel takes SO_ZEROCOPY")) };
    if file::is_passing(&error) {
        return Err(Error::call(call)(error));
    }
    let cause = match error.raw_os_error() {
        Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => ": the kernel lacks it; TCP has it since Linux 4.14",
        _ => "",
    };
    Ok(Finding::unavailable(format!("{call}: {error}{cause}")))
}

/// Whether the kernel maps received pages.
fn mapped_receive() -> Result<Finding> {
    let call = "mmap(2) of a socket";
    match stream_socket()?.map_received(page_bytes()) {
        Err(error) if file::is_passing(&error) => Err(Error::call(call)(error)),
        Ok(_) => Ok(Finding::ok("the kernel maps received pages (receiver mmap)")),
        Err(error) => {
            Ok(Finding::unavailable(format!("receiver mmap: {call}: {error}: TCP has it since Linux 4.18")))
        }
    }
}

/// What the engines of `io_uring` need of the kernel.
pub(super) fn rings() -> Vec<Check> {
    let findings = uring::support().into_iter().map(|(what, support)| match support {
        Support::Has => Finding::ok(format!("{what}: the kernel has it")),
        Support::Lacks(refusal) => Finding::refused(refusal.to_string()),
        Support::NotKnown(error) => Finding::not_looked_at(&error.into()),
    });
    RINGS.into_iter().zip(findings).map(|(name, finding)| finding.named(name)).collect()
}

/// In the order of [`uring::support`].
pub(super) const RINGS: [&str; 5] =
    ["uring", "uring-zerocopy", "uring-report", "uring-fixed", "uring-sqpoll"];

/// Which kind of huge pages there are.
fn huge_pages() -> Result<Finding> {
    const BYTES: usize = 1 << 20;
    match Message::in_arena(&[vec![BYTES]], Layout::Huge) {
        Ok((_, arena)) => Ok(Finding::ok(format!("layout huge: {}", arena.pages()))),
        Err(error) if file::is_passing(&error) => {
            Err(Error::call("layout huge: mmap(2) and /proc/self/smaps")(error))
        }
        Err(error) => Ok(Finding::refused(format!("layout huge: {error}: {}", no_huge_pages(BYTES as u64)))),
    }
}

/// Whether softirq time is in the threads' CPU time.
fn softirq_time(in_cpu_time: Option<bool>) -> Finding {
    match in_cpu_time {
        Some(true) => Finding::ok("in the threads' CPU time"),
        Some(false) => Finding::limited(
            "not in the threads' CPU time (CONFIG_IRQ_TIME_ACCOUNTING): receiving, and over veth the copy of \
             zero_copy, are missing from it, and no verdict is based on CPU time",
        ),
        None => Finding::limited(
            "not known whether it is in the threads' CPU time: no verdict is based on CPU time; a readable \
             /boot/config-$(uname -r) or /proc/config.gz would tell",
        ),
    }
}

/// The checks that take two [`ends`].
pub(super) const BETWEEN_ENDS: [&str; 5] = [NAMESPACES, VETH_COPY, SINK, PEER, LINK_COPY];
const NAMESPACES: &str = "namespaces";
const VETH_COPY: &str = "veth-copy";
const PEER: &str = "peer";
const LINK_COPY: &str = "link-copy";

/// Joins two ends, and tries whether a zero-copy send between them is copied, and one into the
/// sink. The ends are namespaces, or this machine and a peer's client, which says what it has.
pub(super) fn ends(setup: &Setup) -> ([Check; 3], Option<ExaminedClient>) {
    let is_peer = matches!(setup.client, Client::Peer(_));
    let (joined, copy) = if is_peer { (PEER, LINK_COPY) } else { (NAMESPACES, VETH_COPY) };
    let refused = |finding: Finding, why: &str| {
        let untried = Finding::unavailable(format!("not tried: {why}"));
        ([finding.named(joined), untried.clone().named(copy), untried.named(SINK)], None)
    };
    if setup.topology == Topology::Loopback {
        let why = "loopback was asked for";
        return refused(Finding::unavailable(format!("not tried: {why}")), why);
    }
    let testbed = match Testbed::start(setup) {
        Ok(testbed) => testbed,
        Err(error) if is_peer => {
            let found = format!("not reached: {error}");
            return refused(Finding::refused(&*found), &found);
        }
        Err(error) => {
            return refused(
                Finding::refused(error.to_string()),
                &format!("no namespaces were made: {error}"),
            );
        }
    };
    let [copied, sink] = copies(&testbed, copy);
    if !is_peer {
        return ([Finding::ok(format!("tried: {}", setup.topology)).named(joined), copied, sink], None);
    }
    let effective = testbed.effective();
    let reached = effective.client.as_ref().map_or_else(String::new, ToString::to_string);
    let examined = testbed.examine_client().and_then(|found| {
        serde_json::from_value::<Vec<Check>>(found).map_err(|error| Error::Protocol(error.to_string()))
    });
    let (finding, checks) = match examined {
        Ok(checks) => (Finding::ok(format!("tried: {reached}")), checks),
        Err(error) => (Finding::limited(format!("tried: {reached}: {error}")), Vec::new()),
    };
    let link = [effective.server_link.clone(), effective.client_link.clone()];
    let client = effective.client.clone().map(|machine| ExaminedClient { machine, link, checks });
    ([finding.named(joined), copied, sink], client)
}

/// Whether zero-copy sends are copied, and why: those over the link, by the name of that check, and
/// those into the sink.
fn copies(testbed: &Testbed, link_copy: &str) -> [Check; 2] {
    [(link_copy, Receiver::default()), (SINK, Receiver::Sink)].map(|(name, receiver)| {
        let finding = match copied(testbed, receiver) {
            Ok(Some((counts, causes))) => {
                let sink = (receiver == Receiver::Sink).then(|| testbed.sink_link().ok()).flatten();
                let in_cpu_time = sink.and_then(|sink| sink.acknowledged_in_cpu_time);
                with_cpu_time(copy_finding(counts, &causes), in_cpu_time)
            }
            Ok(None) => Finding::unavailable(NO_COMPLETION),
            Err(error) => Finding::refused(format!("could not be tried: {error}")),
        };
        finding.named(name)
    })
}

const NO_COMPLETION: &str = "not tried: no completion arrived";

/// What was found of the sink, with what the sender's CPU time lacks.
fn with_cpu_time(finding: Finding, acknowledged_in_cpu_time: Option<bool>) -> Finding {
    if acknowledged_in_cpu_time != Some(false) {
        return finding;
    }
    let found =
        format!("{}; {}: no verdict is based on CPU time", finding.found, SinkLink::CPU_TIME_IS_NOT_TOLD);
    Finding { state: State::Limited, found, ..finding }
}

fn copied(testbed: &Testbed, receiver: Receiver) -> Result<Option<(ZeroCopyCounts, Vec<CopyCause>)>> {
    let case = Case {
        path: SendPath::ZeroCopy,
        layout: Layout::Page,
        placement: Placement::Free,
        receiver,
        ..Case::default()
    };
    let mut instance = testbed.open(case)?;
    // Into the sink, each send that is checked has a completion of its own.
    let counts = of_messages(&mut instance, 32, Mode::Verify)?.server.zero_copy;
    drop(instance);
    let Some((counts, copied)) = counts.and_then(|counts| Some((counts, counts.copied()?))) else {
        return Ok(None);
    };
    Ok(Some((counts, copy_cause::that_explain(copied, testbed.copy_causes(receiver)?))))
}

fn copy_finding(counts: ZeroCopyCounts, causes: &[CopyCause]) -> Finding {
    let Some(copied) = counts.copied() else {
        return Finding::unavailable(NO_COMPLETION);
    };
    let counted = if copied.bound == CopiedBound::Exact { ONE_BY_ONE } else { "" };
    let found =
        format!("tried: the kernel copied {copied} of {} MSG_ZEROCOPY sends{counted}", counts.completions);
    if copied.is_none() && causes.is_empty() {
        return Finding::ok(found);
    }
    let (whys, remedies): (Vec<String>, Vec<String>) =
        causes.iter().map(|cause| (cause.to_string(), cause.remedy())).unzip();
    let whys = if whys.is_empty() { "no cause was found".to_owned() } else { whys.join("; ") };
    let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
    Finding { remedy, ..Finding::limited(format!("{found}: {whys}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_errno_that_means_so_is_laid_on_the_kernels_age() {
        for (errno, is_old) in [
            (libc::ENOPROTOOPT, true),
            (libc::EOPNOTSUPP, true),
            (libc::ENETUNREACH, false),
            (libc::EPERM, false),
        ] {
            let check = zero_copy(Err(io::Error::from_raw_os_error(errno))).unwrap();
            assert_eq!(check.state, State::Unavailable);
            assert_eq!(check.found.contains("the kernel lacks it"), is_old, "{check:?}");
        }
        assert_eq!(zero_copy(Ok(())).unwrap().state, State::Ok);
    }

    #[test]
    fn a_limit_of_locked_memory_does_not_bind_a_process_with_the_right() {
        assert_eq!(memlock(true).state, State::Ok);
    }

    #[test]
    fn softirq_time_is_ok_only_where_it_is_known_to_be_in_cpu_time() {
        assert_eq!(softirq_time(Some(true)).state, State::Ok);
        for limited in [softirq_time(Some(false)), softirq_time(None)] {
            assert_eq!(limited.state, State::Limited);
            assert!(limited.found.contains("no verdict"), "{limited:?}");
        }
        assert_ne!(softirq_time(Some(false)).found, softirq_time(None).found);
    }

    #[test]
    fn a_copy_is_told_with_its_causes_and_remedies() {
        let of = |copied, notifications| ZeroCopyCounts {
            completions: 32,
            notifications,
            copied,
            ..ZeroCopyCounts::default()
        };
        let counted = copy_finding(of(0, 32), &[]);
        assert_eq!(counted.state, State::Ok);
        assert_eq!(with_cpu_time(counted.clone(), Some(true)), counted);
        let untold = with_cpu_time(counted.clone(), Some(false));
        assert!(untold.state == State::Limited && untold.found.contains("no verdict"), "{untold:?}");
        assert!(counted.found.ends_with("0 % of 32 MSG_ZEROCOPY sends, each with a completion of its own"));
        let bound = copy_finding(of(0, 31), &[]);
        assert!(bound.state == State::Limited && bound.found.contains("about 0 % of 32"), "{bound:?}");
        let unknown = copy_finding(of(8, 32), &[]);
        assert_eq!((unknown.state, unknown.remedy), (State::Limited, None));
        assert!(unknown.found.contains("25 %") && unknown.found.contains("no cause was found"));
        let off = CopyCause::NoScatterGather { device: "eth0".to_owned() };
        let known = copy_finding(of(32, 16), &[CopyCause::LocalReceiver, off]);
        assert!(known.found.contains("on this machine") && known.found.contains("eth0"), "{known:?}");
        let remedy = known.remedy.unwrap();
        assert!(remedy.contains("--receiver sink") && remedy.contains("ethtool -K eth0 sg on"), "{remedy}");
    }
}
