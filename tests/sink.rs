//! The sender alone: nothing is copied on the way, everything is acknowledged, and what can go
//! wrong is named.
//!
//! `SENDPATH_SINK_MESSAGES=100000 cargo test --test sink nothing_is_copied` sends so many messages
//! of each case.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use common::{in_namespaces, measure, run, sendpath, skip, skip_without_root, stderr, where_possible};
use libtest_mimic::{Completion, Failed, Trial};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use sendpath::case::{Case, Cell, Engine, Layout, Receiver, SendPath, Series, Workload};
use sendpath::measure::burst::{of_messages, time, warm_up};
use sendpath::pair::{Buffers, Client, Fault, FaultKind, Mode, Setup, SocketOptions, Testbed};
use sendpath::sample::Side;
use sendpath::topology::Topology;

/// The promise: what fails is an error within this.
const LIMIT: Duration = Duration::from_secs(5);
/// A stall is told after 3 s, and a second later for each look at which a thread may have waited
/// for a CPU.
const STALL_LIMIT: Duration = Duration::from_secs(9);
const PATHS: [SendPath; 3] = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];
const WORKLOADS: [Workload; 2] = [Workload::Rr, Workload::Stream];

fn main() -> ExitCode {
    common::one_by_one(vec![
        // First: the tests after it move this process to a user namespace, where nobody else is
        // known.
        where_possible("an_ordinary_user_needs_the_default_topology", ordinary_user_over_loopback),
        in_namespaces("text_and_json_say_that_the_sender_is_alone", said_to_be_alone),
        in_namespaces("a_counter_of_the_client_is_missing_with_a_reason", client_counters_are_missing),
        in_namespaces("messages_larger_than_the_buffers_are_sent", small_buffers),
        in_namespaces("a_run_that_is_killed_leaves_nothing", killed_leaves_nothing),
        in_namespaces("nothing_is_copied_and_every_send_completes", nothing_is_copied),
        in_namespaces("segments_are_those_of_an_ordinary_connection", ordinary_segments),
        in_namespaces("where_another_cpu_takes_frames_in_no_cpu_time_is_told", untold_cpu_time),
        in_namespaces("256_pairs_send_at_a_time", many_pairs),
        in_namespaces("cases_with_and_without_a_receiver_take_turns", both_on_one_testbed),
        in_namespaces("a_planted_panic_is_named", panic_is_named),
        struck("acknowledgements_that_never_come_are_named", "link set sink_s down", "the sink stalled"),
        struck("a_frame_that_is_refused_is_named", "link set sink_p down", "Network is down"),
        struck("a_link_that_is_gone_is_named", "link del sink_s", "send(2) of a frame into the sink"),
    ])
}

fn testbed() -> Result<Testbed, Failed> {
    testbed_with(SocketOptions::default())
}

fn testbed_with(socket: SocketOptions) -> Result<Testbed, Failed> {
    Ok(Testbed::start(&setup(socket))?)
}

fn setup(socket: SocketOptions) -> Setup {
    Setup {
        topology: Topology::Anonymous,
        mtu_bytes: None,
        socket,
        client: Client::Child(PathBuf::from(env!("CARGO_BIN_EXE_sendpath"))),
    }
}

fn case(path: SendPath, workload: Workload, payload_bytes: usize) -> Case {
    Case { path, workload, payload_bytes, receiver: Receiver::Sink, ..Case::default() }
}

fn messages() -> Result<u64, Failed> {
    match std::env::var("SENDPATH_SINK_MESSAGES") {
        Ok(text) => Ok(text.parse().map_err(|_| "SENDPATH_SINK_MESSAGES is not a number")?),
        Err(_) => Ok(300),
    }
}

/// TCP segments that were sent more than once, of all connections into the sink so far.
fn retransmitted_segments(testbed: &Testbed) -> Result<u64, Failed> {
    let text = testbed.within_sink(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")))??;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Err("no Tcp".into()) };
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "RetransSegs").ok_or("no RetransSegs")?;
    Ok(value.parse()?)
}

fn nothing_is_copied() -> Result<(), Failed> {
    let (testbed, messages) = (testbed()?, messages()?);
    for workload in WORKLOADS {
        for payload_bytes in [4 << 10, 64 << 10, 1 << 20] {
            let zero_copy = |way: &Series| way.path == SendPath::ZeroCopy;
            let ways = [Layout::Heap, Layout::Page].into_iter().flat_map(common::ways).filter(zero_copy);
            for way in ways {
                let case = case(SendPath::TwoCopy, workload, payload_bytes).cell().case(way);
                let mut instance = match testbed.open(case) {
                    // The memory of all messages is locked as one, beside the ring's.
                    Err(error) if common::is_beyond_memlock(&error.to_string()) => continue,
                    opened => opened?,
                };
                warm_up(&mut instance)?;
                let mut sent = |messages, mode| -> Result<_, Failed> {
                    let sample = of_messages(&mut instance, messages, mode)?;
                    let counts = sample.server.zero_copy.ok_or("no counts")?;
                    assert!(sample.messages >= messages, "{case}: {} messages", sample.messages);
                    assert_eq!(counts.copied, 0, "{case}: {counts}");
                    assert_eq!(counts.sent_bytes, sample.messages * payload_bytes as u64, "{case}: {counts}");
                    assert_eq!(counts.completions, counts.sends, "{case}: {counts}");
                    assert_eq!(retransmitted_segments(&testbed)?, 0, "{case}");
                    Ok((sample, counts))
                };
                // The proof: one message in flight, and its completion is read before the next is
                // sent. The completions of a message that took several calls may still be joined.
                let (sample, counts) = sent(messages, Mode::Verify)?;
                let copied = counts.copied().ok_or("no completions")?;
                assert!(copied.is_none() || counts.sends > sample.messages, "{case}: {copied}, {counts}");
                // And as it is timed, with several in flight.
                let (sample, _) = sent(messages.min(300), Mode::TimeEach)?;
                let round_trips = sample.client.round_trips.as_ref().map(|round_trips| round_trips.count);
                assert_eq!(round_trips, (workload == Workload::Rr).then_some(sample.messages), "{case}");
                let cost_ns = instance.injection_ns()?.ok_or("no cost")?;
                assert!(cost_ns > 0.0 && cost_ns < 1e9, "{cost_ns}");
            }
        }
    }
    Ok(())
}

/// Listens at the bridge's port, and compares what it sees with what is printed, and with what a
/// handshake would have left. A capture copies, so no path is zero-copy here.
fn ordinary_segments() -> Result<(), Failed> {
    /// From `<linux/tcp.h>`.
    const TIMESTAMPS_AND_SACK: u8 = 1 | 2;
    for mtu_bytes in [None, Some(9000)] {
        let testbed = Testbed::start(&Setup { mtu_bytes, ..setup(SocketOptions::default()) })?;
        let parts = testbed.sink_parts()?;
        assert_eq!(tcp_options(&parts.connection)? & TIMESTAMPS_AND_SACK, TIMESTAMPS_AND_SACK);
        for workload in WORKLOADS {
            let mut instance = testbed.open(case(SendPath::OneCopy, workload, 256 << 10))?;
            let capture = testbed.within_sink(|| Ok(capture("sink_p")))??;
            of_messages(&mut instance, 8, Mode::Time)?;
            let segments = captured(&capture)?;
            let mut largest_bytes = 0;
            // The stamps of the last frame of the peer's, and of the last one of the sender's.
            let (mut peers, mut senders) = (None::<[u32; 2]>, None::<[u32; 2]>);
            for segment in &segments {
                let [stamp_ms, echo_ms] =
                    segment.stamps_ms.ok_or_else(|| format!("no stamps: {segment:?}"))?;
                if segment.is_peers {
                    assert!(
                        peers.is_none_or(|last| last[0] <= stamp_ms && last[1] <= echo_ms),
                        "{segments:?}"
                    );
                    assert!(senders.is_none_or(|last| echo_ms <= last[0]), "not sent yet: {segments:?}");
                    peers = segment.stamps_ms;
                } else if segment.payload_bytes > 0 {
                    assert!(peers.is_none_or(|last| echo_ms == last[0]), "no echo: {segments:?}");
                    senders = segment.stamps_ms;
                    largest_bytes = largest_bytes.max(segment.cut_bytes);
                }
            }
            assert!(peers.is_some() && senders.is_some(), "{segments:?}");
            assert_eq!(testbed.sink_link()?.mss_bytes as usize, largest_bytes, "{segments:?}");
        }
    }
    Ok(())
}

/// A TCP segment, or several that a card would cut.
#[derive(Debug)]
struct Segment {
    /// Whether it was injected, for the peer that nobody is.
    is_peers: bool,
    payload_bytes: usize,
    /// How long a card would make the pieces; the payload where there is one alone.
    cut_bytes: usize,
    /// The time stamp, and the one that it echoes.
    stamps_ms: Option<[u32; 2]>,
}

/// A packet socket that listens to everything at an interface of this namespace, and is told how a
/// card would cut it ([`packet(7)`](https://man7.org/linux/man-pages/man7/packet.7.html),
/// `PACKET_VNET_HDR`).
fn capture(interface: &str) -> io::Result<OwnedFd> {
    let result = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let everything = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes no pointer; nobody else has the descriptor that it makes.
    let socket = unsafe { OwnedFd::from_raw_fd(result(libc::socket(libc::AF_PACKET, kind, 0))?) };
    for (level, option, value) in [
        (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUF, 16 << 20), // or as much as this user may have
    ] {
        let (value, length): (libc::c_int, _) = (value, size_of::<libc::c_int>() as u32);
        // SAFETY: the value is live and as long as is said.
        let set =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
        result(set)?;
    }
    // SAFETY: zero is a value for every field of this structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = everything;
    address.sll_ifindex = if_nametoindex(interface)?.cast_signed();
    let length = size_of_val(&address) as u32;
    // SAFETY: the address is live and as long as is said.
    result(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

/// The TCP segments that a capture has seen, in their order. Where its buffer was full, some are
/// missing.
fn captured(capture: &OwnedFd) -> Result<Vec<Segment>, Failed> {
    const VNET: usize = 10;
    const IP: usize = VNET + 14;
    const TCP: usize = IP + 20;
    let (mut segments, mut bytes) = (Vec::new(), vec![0; 128 << 10]);
    loop {
        let length = match rustix::net::recv(capture, &mut *bytes, rustix::net::RecvFlags::empty()) {
            Ok((_, length)) => length,
            Err(rustix::io::Errno::AGAIN) => return Ok(segments),
            Err(errno) => return Err(errno.into()),
        };
        let frame = &bytes[..length];
        if length < TCP + 20 || frame[IP] != 0x45 || frame[IP + 9] != libc::IPPROTO_TCP as u8 {
            continue; // the kernel's own, of IPv6
        }
        let header_bytes = usize::from(frame[TCP + 12] >> 4) * 4;
        let payload_bytes = length - TCP - header_bytes;
        let gso_bytes = usize::from(u16::from_ne_bytes([frame[4], frame[5]]));
        let word = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        segments.push(Segment {
            is_peers: frame[IP + 12..IP + 16] == [10, 200, 2, 2],
            payload_bytes,
            cut_bytes: if gso_bytes > 0 { gso_bytes } else { payload_bytes },
            stamps_ms: (header_bytes == 32 && frame[TCP + 20..TCP + 24] == [1, 1, 8, 10])
                .then(|| [word(TCP + 24), word(TCP + 28)]),
        });
    }
}

/// What a connection has agreed upon (`tcpi_options` of `TCP_INFO`, `tcp(7)`).
fn tcp_options(connection: &TcpStream) -> io::Result<u8> {
    // SAFETY: zero is a value for every field of this structure.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as u32;
    let fd = connection.as_raw_fd();
    // SAFETY: the buffer is live and as long as is said; the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if result == 0 { Ok(info.tcpi_options) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel hand the peer's frames to another CPU (RPS,
/// [scaling.rst](https://docs.kernel.org/networking/scaling.html)), as one with threads for that
/// hands them to a thread.
fn untold_cpu_time() -> Result<(), Failed> {
    let testbed = testbed()?;
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let (Some(own), Some(other)) = (cpus.next(), cpus.find(|&cpu| cpu < 32)) else {
        return skip("this needs two CPUs").map(drop);
    };
    let hand_over = |mask: u32| {
        testbed.within_sink(|| {
            // A thread's own mounts: the files of this namespace's interfaces are in a sysfs that
            // was mounted here.
            let set = || -> io::Result<()> {
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
                mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
                fs::write("/sys/class/net/sink_s/queues/rx-0/rps_cpus", format!("{mask:x}"))
            };
            Ok(set())
        })
    };
    if let Err(error) = hand_over(1 << other)? {
        let reason = format!("frames cannot be handed to another CPU here: {error}");
        return skip_without_root(&reason).map(drop);
    }
    let mut one = CpuSet::new();
    one.set(own)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    for (is_handed_over, mask) in [(true, 1 << other), (false, 0)] {
        hand_over(mask)??;
        assert_eq!(testbed.sink_link()?.acknowledged_in_cpu_time, Some(!is_handed_over));
        let mut instance = testbed.open(case(SendPath::OneCopy, Workload::Rr, 4096))?;
        let sample = of_messages(&mut instance, 20, Mode::Time)?;
        assert_eq!(sample.server.cpu_untold.is_some(), is_handed_over, "{:?}", sample.server.cpu_untold);
    }
    Ok(())
}

fn many_pairs() -> Result<(), Failed> {
    let testbed = testbed()?;
    for way in common::ways(Layout::Heap) {
        // Each ring takes descriptors and locked memory of its own.
        let threads = if way.engine == Engine::Syscall { 256 } else { 16 };
        let cell = Cell { threads, ..case(SendPath::TwoCopy, Workload::Rr, 4096).cell() };
        let case = cell.case(way);
        let mut instance = testbed.open(case)?;
        let sample = of_messages(&mut instance, 20, Mode::Time)?;
        assert_eq!(sample.messages, threads as u64 * 20, "{case}");
        assert_eq!(sample.server.zero_copy.map_or(0, |counts| counts.copied), 0, "{case}");
    }
    Ok(())
}

fn both_on_one_testbed() -> Result<(), Failed> {
    let testbed = testbed()?;
    let alone = case(SendPath::ZeroCopy, Workload::Rr, 64 << 10);
    let received = Case { receiver: Receiver::Buffer, ..alone };
    let (mut alone, mut received) = (testbed.open(alone)?, testbed.open(received)?);
    for _ in 0..3 {
        let copied = |sample: &sendpath::sample::Sample| sample.server.zero_copy.map(|counts| counts.copied);
        let sample = of_messages(&mut alone, 20, Mode::Verify)?;
        assert_eq!((copied(&sample), sample.client.verified_messages), (Some(0), 0));
        let sample = of_messages(&mut received, 20, Mode::Verify)?;
        assert_eq!((copied(&sample), sample.client.verified_messages), (Some(20), 20));
    }
    assert_eq!(received.injection_ns()?, None);
    Ok(())
}

fn panic_is_named() -> Result<(), Failed> {
    let testbed = testbed()?;
    for workload in WORKLOADS {
        let case = Case { threads: 3, ..case(SendPath::ZeroCopy, workload, 4096) };
        let fault = Fault { side: Side::Server, pair: 1, at_message: 5, kind: FaultKind::Panic };
        let mut instance = testbed.open_with_fault(case, Some(fault))?;
        let started = Instant::now();
        let error = of_messages(&mut instance, 1000, Mode::Time).expect_err("it panics").to_string();
        assert!(started.elapsed() < LIMIT, "took {:?}: {error}", started.elapsed());
        assert!(error.contains("server thread of pair 1 panicked: planted in message 5"), "{error}");
    }
    Ok(())
}

/// A test in which something happens to the sink's network between two bursts: `arguments` of `ip`.
fn struck(name: &str, arguments: &'static str, named: &'static str) -> Trial {
    in_namespaces(name, move || {
        if Command::new("ip").arg("-V").output().is_err() {
            return skip("the ip program is missing (package iproute2)").map(drop);
        }
        // A stall takes its time to be told: each path has another workload.
        for (path, workload) in [SendPath::TwoCopy, SendPath::ZeroCopy].into_iter().zip(WORKLOADS) {
            // A message is larger than the socket's buffer, which so fills; and an ordinary
            // user may pin it.
            let buffers = Buffers::Fixed(256 << 10);
            let testbed = testbed_with(SocketOptions { buffers, ..SocketOptions::default() })?;
            let case = Case { threads: 2, ..case(path, workload, 1 << 20) };
            let mut instance = testbed.open(case)?;
            of_messages(&mut instance, 2, Mode::Time)?;
            let output =
                testbed.within_sink(|| Ok(Command::new("ip").args(arguments.split(' ')).output()))??;
            assert!(output.status.success(), "{}", stderr(&output));
            let started = Instant::now();
            let result = time(&mut instance, Duration::from_millis(100), Mode::Time);
            let (took, error) = (started.elapsed(), result.expect_err("it is noticed").to_string());
            assert!(took < STALL_LIMIT, "{case}: took {took:?}: {error}");
            assert!(error.contains(named), "{case}: {error}");
            // The failed instance is closed, and the testbed runs the next case.
            let received = Case { receiver: Receiver::Buffer, payload_bytes: 4096, ..case };
            of_messages(&mut testbed.open(received)?, 10, Mode::Verify)?;
        }
        Ok(())
    })
}

fn said_to_be_alone() -> Result<(), Failed> {
    let result = measure("--receiver sink --path zero_copy --mtu 9000")?;
    assert_eq!(result["case"], "rr/zero_copy/heap/65536B/1T/paired/sink");
    for name in ["client_user_ns", "client_system_ns", "cpu_split_is_reliable", "counters"] {
        assert!(result[name].is_null(), "{name} is {}", result[name]);
    }
    assert!(result["injection_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{result}");
    assert_eq!(result["zero_copy"]["copied"], 0);
    assert_eq!(result["verified_messages"], 0);
    let sink = &result["environment"]["sink"];
    assert_eq!((&sink["interface"]["address"], &sink["peer"]), (&"10.200.2.1".into(), &"10.200.2.2".into()));
    assert_eq!(sink["interface"]["mtu_bytes"], 9000);
    // Without the headers of IPv4 and TCP, and the time stamps.
    assert_eq!(sink["mss_bytes"], 8948);
    assert!(measure("--size 64")?["injection_ns"].is_null());

    let output = run("--receiver sink --duration 10ms");
    let (text, settings) = (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output));
    for words in ["sender alone   nobody receives", "injection ", "0 messages: nobody receives"] {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
    for words in ["client", "split", "every byte"] {
        assert!(!text.contains(words), "{words:?}: {text}");
    }
    assert!(settings.contains("sink_s 10.200.2.1 to 10.200.2.2, which nobody has"), "{settings}");
    assert!(settings.contains("MTU 1500, MSS 1448 bytes") && !settings.contains("veth_s"), "{settings}");
    Ok(())
}

fn client_counters_are_missing() -> Result<(), Failed> {
    let result = measure("--receiver sink --counters task-clock,context-switches")?;
    let counters = &result["counters"];
    assert!(counters["server"]["task_clock_ns"]["value"].as_u64().is_some_and(|ns| ns > 0), "{counters}");
    for event in ["task_clock_ns", "context_switches"] {
        let reason = counters["client"][event]["unavailable"].as_str().unwrap_or_default();
        assert!(reason.contains("nobody receives"), "{counters}");
    }
    Ok(())
}

fn small_buffers() -> Result<(), Failed> {
    for path in PATHS {
        for workload in WORKLOADS {
            // An ordinary user may pin 8 MiB.
            let size = if path == SendPath::ZeroCopy { "4M" } else { "16M" };
            let result = measure(&format!(
                "--receiver sink --size {size} --buffers 4K --path {path} --workload {workload}"
            ))?;
            assert!(result["messages"].as_u64().is_some_and(|messages| messages > 0), "{result}");
        }
    }
    Ok(())
}

/// As an ordinary user over loopback there is no namespace in which a connection may be repaired.
fn ordinary_user_over_loopback() -> Result<Completion, Failed> {
    let mut command = sendpath();
    command.args(["run", "--receiver", "sink", "--netns", "loopback", "--duration", "10ms"]);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let started = Instant::now();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return skip(&format!("an ordinary user cannot run the command here: {error}")),
    };
    let text = stderr(&output);
    assert!(started.elapsed() < LIMIT, "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Operation not permitted") && text.contains("anonymous"), "{text}");
    Ok(Completion::Completed)
}

/// The network namespaces that a process is in, or holds open.
fn namespaces(pid: &str) -> BTreeSet<PathBuf> {
    let links = |folder: &str| {
        let entries = fs::read_dir(format!("/proc/{pid}/{folder}")).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok())
    };
    let is_netns = |target: &PathBuf| target.to_string_lossy().starts_with("net:[");
    links("fd").chain(links("ns")).filter(is_netns).collect()
}

fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse::<u32>().is_ok())
}

fn killed_leaves_nothing() -> Result<(), Failed> {
    let ours = namespaces("self");
    let mut server = sendpath()
        .args(["run", "--receiver", "sink", "--duration", "1m", "--threads", "4", "--path", "zero_copy"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut errors = BufReader::new(server.stderr.take().ok_or("no stderr")?);
    let mut line = String::new();
    errors.read_line(&mut line)?; // the settings: the sink is there
    let held: Vec<_> = namespaces(&server.id().to_string()).difference(&ours).cloned().collect();
    assert!(held.len() >= 2, "the server's own and the sink's: {held:?}");
    kill(Pid::from_raw(i32::try_from(server.id())?), Signal::SIGKILL)?;
    let killed = Instant::now();
    // Both processes hold the pipe: its end is theirs. They have a minute to measure, so a test
    // that hangs here ends.
    let mut text = String::new();
    errors.read_to_string(&mut text)?;
    server.wait()?;
    assert!(killed.elapsed() < LIMIT, "a process stayed for {:?}: {text}", killed.elapsed());
    // A namespace that no process is in or holds is taken away by the kernel, with every link in
    // it.
    for pid in processes() {
        let left: Vec<_> = namespaces(&pid).into_iter().filter(|netns| held.contains(netns)).collect();
        assert!(left.is_empty(), "process {pid} holds {left:?}");
    }
    Ok(())
}
