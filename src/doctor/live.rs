//! What is tried: events, sockets, namespaces.

use std::io;
use std::net::TcpStream;

use socket2::{Domain, Type};
use strum::VariantArray;

use super::{ExaminedClient, not_looked_at};
use crate::case::{Case, Layout, Matrix, Placement, Receiver, SendPath};
use crate::check::{Check, ONE_BY_ONE, SINK, State};
use crate::counters::probe;
use crate::environment::{CopyCause, SinkLink, Topology, copy_cause};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host::{self, file, softirq};
use crate::measure::burst::of_messages;
use crate::message::{Message, page_bytes};
use crate::pair::{Mode, Setup, Testbed};
use crate::path::Socket;
use crate::path::uring::{self, Support};
use crate::sample::{CopiedBound, ZeroCopyCounts};
use crate::topology::affinity;

/// Counts a moment of work with each event, one at a time: together they might not fit the PMU.
pub(super) fn events() -> Vec<Check> {
    let check = |event: &Event| match probe(*event) {
        Ok(()) => Check::ok(&event.to_string(), "counted, kernel included"),
        Err(reason) => Check::new(&event.to_string(), State::Unavailable, &reason, command_in(&reason)),
    };
    <Event as VariantArray>::VARIANTS.iter().map(check).collect()
}

/// The first command that a text has in backticks.
fn command_in(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

pub(super) fn memlock(ipc_lock: bool) -> Check {
    let found = format!("RLIMIT_MEMLOCK is {}", host::memlock());
    if ipc_lock {
        return Check::ok("memlock", format!("{found}, which does not bind this process"));
    }
    if host::memlock_bytes() >= 1 << 30 {
        return Check::ok("memlock", found);
    }
    let found =
        format!("{found}: zero_copy may pin no more at a time, all of this user's connections together");
    Check::new("memlock", State::Limited, found, Some("sudo prlimit --memlock=unlimited --pid $$"))
}

pub(super) fn cpus() -> Check {
    let most = Matrix::by_threads().threads.into_iter().max().unwrap_or(1);
    match affinity::allowed_cpus() {
        Err(error) => not_looked_at("cpus", &error),
        Ok(cpus) if cpus.numbers().len() == 1 => Check::new(
            "cpus",
            State::Limited,
            "1 is allowed: placement split is impossible, and all pairs share it",
            None,
        ),
        Ok(cpus) if cpus.numbers().len() < most => {
            let count = cpus.numbers().len();
            let found = format!("{count} are allowed: the {most} pairs of the default matrix share them");
            Check::new("cpus", State::Limited, found, None)
        }
        Ok(cpus) => Check::ok("cpus", format!("{} are allowed", cpus.numbers().len())),
    }
}

/// Whether the kernel takes `SO_ZEROCOPY`. A socket is enough to tell: no connection is needed.
pub(super) fn zero_copy_socket() -> Check {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None);
    match socket {
        Ok(socket) => zero_copy(TcpStream::from(socket).enable_zero_copy()),
        Err(error) => not_looked_at("zerocopy", &Error::call("socket(2)")(error)),
    }
}

fn zero_copy(tried: io::Result<()>) -> Check {
    let name = "zerocopy";
    let Err(error) = tried else {
        return Check::ok(name, "the kernel takes SO_ZEROCOPY");
    };
    if file::is_passing(&error) {
        return not_looked_at(name, &Error::call("setsockopt(2) SO_ZEROCOPY")(error));
    }
    let cause = match error.raw_os_error() {
        Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => ": the kernel lacks it; TCP has it since Linux 4.14",
        _ => "",
    };
    Check::new(name, State::Unavailable, format!("setsockopt(2) SO_ZEROCOPY: {error}{cause}"), None)
}

/// Whether the kernel maps received pages. A socket is enough to tell.
pub(super) fn mapped_receive() -> Check {
    let name = "mapped-receive";
    let socket = match socket2::Socket::new(Domain::IPV4, Type::STREAM, None) {
        Ok(socket) => TcpStream::from(socket),
        Err(error) => return not_looked_at(name, &Error::call("socket(2)")(error)),
    };
    match socket.map_received(page_bytes()) {
        Err(error) if file::is_passing(&error) => {
            not_looked_at(name, &Error::call("mmap(2) of a socket")(error))
        }
        Ok(_) => Check::ok(name, "the kernel maps received pages (receiver mmap)"),
        Err(error) => {
            let found = format!("receiver mmap: mmap(2) of a socket: {error}: TCP has it since Linux 4.18");
            Check::new(name, State::Unavailable, found, None)
        }
    }
}

/// What the engines of `io_uring` need of the kernel.
pub(super) fn rings() -> [Check; 5] {
    let mut names = RINGS.into_iter();
    uring::support().map(|(what, support)| {
        let name = names.next().unwrap_or_default();
        match support {
            Support::Has => Check::ok(name, format!("{what}: the kernel has it")),
            Support::Lacks(refusal) => {
                let text = refusal.to_string();
                Check::new(name, State::Unavailable, &text, command_in(&text))
            }
            Support::NotKnown(error) => not_looked_at(name, &error.into()),
        }
    })
}

/// In the order of [`uring::support`].
pub(super) const RINGS: [&str; 5] =
    ["uring", "uring-zerocopy", "uring-report", "uring-fixed", "uring-sqpoll"];

/// Which kind of huge pages there are.
pub(super) fn huge_pages() -> Check {
    let name = "huge-pages";
    match Message::in_arena(&[vec![1 << 20]], Layout::Huge) {
        Ok((_, arena)) => Check::ok(name, format!("layout huge: {}", arena.pages())),
        Err(error) if file::is_passing(&error) => {
            not_looked_at(name, &Error::call("layout huge: mmap(2) and /proc/self/smaps")(error))
        }
        Err(error) => Check::new(
            name,
            State::Unavailable,
            format!("layout huge: {error}"),
            Some("sudo sysctl vm.nr_hugepages=64"),
        ),
    }
}

/// Whether softirq time is in the threads' CPU time.
pub(super) fn softirq_time() -> Check {
    match softirq::in_cpu_time() {
        Ok(known) => softirq_check(known),
        Err(error) => not_looked_at("softirq-time", &error),
    }
}

fn softirq_check(in_cpu_time: Option<bool>) -> Check {
    let name = "softirq-time";
    let limited = |found: &str| Check::new(name, State::Limited, found, None);
    match in_cpu_time {
        Some(true) => Check::ok(name, "in the threads' CPU time"),
        Some(false) => limited(
            "not in the threads' CPU time (CONFIG_IRQ_TIME_ACCOUNTING): receiving, and over veth the copy of \
             zero_copy, are missing from it, and no verdict is based on CPU time",
        ),
        None => limited(
            "not known whether it is in the threads' CPU time: no verdict is based on CPU time; a readable \
             /boot/config-$(uname -r) or /proc/config.gz would tell",
        ),
    }
}

/// Tries namespaces, and whether a zero-copy send is copied: between them, and into the sink.
pub(super) fn namespaces(setup: &Setup) -> [Check; 3] {
    let untried = |why: &str| {
        let found = format!("not tried: {why}");
        let untried = |name| Check::new(name, State::Unavailable, &found, None);
        [untried(VETH_COPY), untried(SINK)]
    };
    let with = |namespaces: Check, [veth_copy, sink]: [Check; 2]| [namespaces, veth_copy, sink];
    if setup.topology == Topology::Loopback {
        let why = "loopback was asked for";
        let found = format!("not tried: {why}");
        return with(Check::new("namespaces", State::Unavailable, found, None), untried(why));
    }
    let testbed = match Testbed::start(setup) {
        Ok(testbed) => testbed,
        Err(error) => {
            let text = error.to_string();
            let refused = Check::new("namespaces", State::Unavailable, &text, command_in(&text));
            return with(refused, untried(&format!("no namespaces were made: {text}")));
        }
    };
    let made = Check::ok("namespaces", format!("tried: {}", setup.topology));
    with(made, [(VETH_COPY, Receiver::default()), (SINK, Receiver::Sink)].map(|way| copies(&testbed, way)))
}

/// Reaches a peer's client, and tries whether a zero-copy send to it is copied, and one into the
/// sink.
pub(super) fn peer(setup: &Setup) -> ([Check; 3], Option<ExaminedClient>) {
    let name = "peer";
    let testbed = match Testbed::start(setup) {
        Ok(testbed) => testbed,
        Err(error) => {
            let found = format!("not reached: {error}");
            let untried = |name| Check::new(name, State::Unavailable, format!("not tried: {found}"), None);
            let refused = Check::new(name, State::Unavailable, &found, command_in(&error.to_string()));
            return ([refused, untried(LINK_COPY), untried(SINK)], None);
        }
    };
    let [link, sink] =
        [(LINK_COPY, Receiver::default()), (SINK, Receiver::Sink)].map(|way| copies(&testbed, way));
    let effective = testbed.effective();
    let reached = effective.client.as_ref().map_or_else(String::new, ToString::to_string);
    let examined = testbed.examine_client().and_then(|found| {
        serde_json::from_value::<Vec<Check>>(found).map_err(|error| Error::Protocol(error.to_string()))
    });
    let (check, checks) = match examined {
        Ok(checks) => (Check::ok(name, format!("tried: {reached}")), checks),
        Err(error) => {
            (Check::new(name, State::Limited, format!("tried: {reached}: {error}"), None), Vec::new())
        }
    };
    let ends = [effective.server_link.clone(), effective.client_link.clone()];
    let client = effective.client.clone();
    ([check, link, sink], client.map(|machine| ExaminedClient { machine, link: ends, checks }))
}

const VETH_COPY: &str = "veth-copy";
const LINK_COPY: &str = "link-copy";

/// Whether zero-copy sends to `receiver` are copied, and why.
fn copies(testbed: &Testbed, (name, receiver): (&str, Receiver)) -> Check {
    match copied(testbed, receiver) {
        Ok(Some((counts, causes))) => {
            let check = copy_check(name, counts, &causes);
            let sink = (receiver == Receiver::Sink).then(|| testbed.sink_link().ok()).flatten();
            with_cpu_time(check, sink.and_then(|sink| sink.acknowledged_in_cpu_time))
        }
        Ok(None) => Check::new(name, State::Unavailable, "not tried: no completion arrived", None),
        Err(error) => {
            let text = error.to_string();
            Check::new(name, State::Unavailable, format!("could not be tried: {text}"), command_in(&text))
        }
    }
}

/// The sink's check, with what the sender's CPU time lacks.
fn with_cpu_time(check: Check, acknowledged_in_cpu_time: Option<bool>) -> Check {
    if acknowledged_in_cpu_time != Some(false) {
        return check;
    }
    let found =
        format!("{}; {}: no verdict is based on CPU time", check.found, SinkLink::CPU_TIME_IS_NOT_TOLD);
    Check { state: State::Limited, found, ..check }
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

fn copy_check(name: &str, counts: ZeroCopyCounts, causes: &[CopyCause]) -> Check {
    let Some(copied) = counts.copied() else {
        return Check::new(name, State::Unavailable, "not tried: no completion arrived", None);
    };
    let counted = if copied.bound == CopiedBound::Exact { ONE_BY_ONE } else { "" };
    let found =
        format!("tried: the kernel copied {copied} of {} MSG_ZEROCOPY sends{counted}", counts.completions);
    if copied.is_none() && causes.is_empty() {
        return Check::ok(name, found);
    }
    let (whys, remedies): (Vec<String>, Vec<String>) =
        causes.iter().map(|cause| (cause.to_string(), cause.remedy())).unzip();
    let whys = if whys.is_empty() { "no cause was found".to_owned() } else { whys.join("; ") };
    let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
    Check::new(name, State::Limited, format!("{found}: {whys}"), remedy.as_deref())
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
            let check = zero_copy(Err(io::Error::from_raw_os_error(errno)));
            assert_eq!(check.state, State::Unavailable);
            assert_eq!(check.found.contains("the kernel lacks it"), is_old, "{check:?}");
        }
        assert_eq!(zero_copy(Ok(())).state, State::Ok);
    }

    #[test]
    fn a_limit_of_locked_memory_does_not_bind_a_process_with_the_right() {
        assert_eq!(memlock(true).state, State::Ok);
    }

    #[test]
    fn softirq_time_is_ok_only_where_it_is_known_to_be_in_cpu_time() {
        assert_eq!(softirq_check(Some(true)).state, State::Ok);
        for limited in [softirq_check(Some(false)), softirq_check(None)] {
            assert_eq!(limited.state, State::Limited);
            assert!(limited.found.contains("no verdict"), "{limited:?}");
        }
        assert_ne!(softirq_check(Some(false)).found, softirq_check(None).found);
    }

    #[test]
    fn a_copy_is_told_with_its_causes_and_remedies() {
        let of = |copied, notifications| ZeroCopyCounts {
            completions: 32,
            notifications,
            copied,
            ..ZeroCopyCounts::default()
        };
        let counted = copy_check(SINK, of(0, 32), &[]);
        assert_eq!(counted.state, State::Ok);
        assert_eq!(with_cpu_time(counted.clone(), Some(true)), counted);
        let untold = with_cpu_time(counted.clone(), Some(false));
        assert!(untold.state == State::Limited && untold.found.contains("no verdict"), "{untold:?}");
        assert!(counted.found.ends_with("0 % of 32 MSG_ZEROCOPY sends, each with a completion of its own"));
        let bound = copy_check(SINK, of(0, 31), &[]);
        assert!(bound.state == State::Limited && bound.found.contains("about 0 % of 32"), "{bound:?}");
        let unknown = copy_check(SINK, of(8, 32), &[]);
        assert_eq!((unknown.state, unknown.remedy), (State::Limited, None));
        assert!(unknown.found.contains("25 %") && unknown.found.contains("no cause was found"));
        let off = CopyCause::NoScatterGather { device: "eth0".to_owned() };
        let known = copy_check(VETH_COPY, of(32, 16), &[CopyCause::LocalReceiver, off]);
        assert!(known.found.contains("on this machine") && known.found.contains("eth0"), "{known:?}");
        let remedy = known.remedy.unwrap();
        assert!(remedy.contains("--receiver sink") && remedy.contains("ethtool -K eth0 sg on"), "{remedy}");
    }
}
