//! What makes the kernel copy is planted in a namespace: the completions say that it did, and the
//! cause is named. And where they cannot say how much, because a capture came or went meanwhile,
//! the share is called a bound.

mod common;

use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{in_namespaces, measure, run, sendpath, skip, skip_without_root, stderr, where_possible};
use libtest_mimic::{Completion, Failed, Trial};
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg, send};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;
use sendpath::case::{Case, Engine, Layout, Placement, Receiver, SendPath, Series};
use sendpath::environment::CopyCause;
use sendpath::measure::burst::of_messages;
use sendpath::pair::{Client, Mode, Setup, SinkParts, SocketOptions, Testbed};
use sendpath::path::Socket;
use sendpath::results::analysis::analyse_stored;
use sendpath::results::{samples_csv, store, summary};
use sendpath::sample::ZeroCopyCounts;
use sendpath::topology::Topology;
use serde_json::Value;

/// The sending end of the sink.
const SENDER: &str = "sink_s";
/// Packets of every protocol; those of LLDP alone.
const ETH_P_ALL: u16 = 0x0003;
const ETH_P_LLDP: u16 = 0x88cc;
/// From `<linux/ethtool.h>`.
const SET_TX_CHECKSUM: u32 = 0x17;
const SET_SCATTER_GATHER: u32 = 0x19;

/// What lies in the sink's namespace for as long as this is kept.
type Planted = Option<OwnedFd>;

/// A name, what is planted in the sink, and what is found then. Each runs in a process of its own:
/// an ordinary user's namespaces are made before a process has a second thread.
type Plant = (&'static str, fn() -> io::Result<Planted>, fn(f64, &[CopyCause]));

const PLANTS: [Plant; 6] = [
    ("the_sink_with_nothing_in_it_copies_nothing", || Ok(None), nothing_is_copied),
    (
        "a_packet_socket_that_hears_one_protocol_copies_nothing",
        || packet_socket(ETH_P_LLDP, Some(SENDER)),
        nothing_is_copied,
    ),
    (
        "a_packet_socket_that_hears_all_on_the_port_is_named",
        || packet_socket(ETH_P_ALL, Some(SENDER)),
        |share, causes| {
            heard_by(Some(SENDER), share, causes);
        },
    ),
    (
        "a_packet_socket_that_hears_all_ports_is_named",
        || packet_socket(ETH_P_ALL, None),
        |share, causes| {
            heard_by(None, share, causes);
        },
    ),
    (
        "scatter_gather_that_is_off_is_named",
        || switch_off(SET_SCATTER_GATHER),
        |share, causes| {
            assert!(share > 0.0);
            assert!(causes.contains(&CopyCause::NoScatterGather { device: SENDER.to_owned() }), "{causes:?}");
        },
    ),
    (
        "a_transmit_checksum_that_is_off_is_named",
        || switch_off(SET_TX_CHECKSUM),
        |share, causes| {
            assert!(share > 0.0);
            assert!(causes.contains(&CopyCause::NoTxChecksum { device: SENDER.to_owned() }), "{causes:?}");
        },
    ),
];

/// A capture that listens during one half of some sends: a name, and whether it is the first half.
const CAPTURES: [(&str, bool); 2] = [
    ("a_capture_during_the_first_half_makes_the_share_a_bound", true),
    ("a_capture_during_the_second_half_makes_the_share_a_bound", false),
];

/// The same of `sendpath run` while it measures, and whether it prints JSON.
const CAPTURED_RUNS: [(&str, bool, bool); 4] = [
    ("run_calls_the_share_a_bound_where_a_capture_ended_meanwhile", true, false),
    ("run_calls_the_share_a_bound_where_a_capture_began_meanwhile", false, false),
    ("so_does_its_json_where_a_capture_ended_meanwhile", true, true),
    ("so_does_its_json_where_a_capture_began_meanwhile", false, true),
];

const TAP: Plant = ("a_tap_is_named", tap, |share, causes| {
    assert!(share > 0.0);
    assert_eq!(causes, [CopyCause::Tun { device: "tap_test".to_owned() }]);
});

const VETHS: [Plant; 2] = [
    (
        "a_veth_that_is_added_to_the_bridge_is_named",
        || veth(true),
        |share, causes| {
            assert!(share > 0.0);
            assert_eq!(causes, [CopyCause::BridgePort { device: "veth_test".to_owned() }]);
        },
    ),
    ("a_veth_that_is_no_port_of_the_bridge_is_not_named", || veth(false), nothing_is_copied),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, word, name] = &arguments[..]
        && word == "plant"
    {
        if let Some((_, is_first)) = CAPTURES.iter().find(|capture| capture.0 == name) {
            capture(*is_first);
        } else if let Some((_, is_first, is_json)) = CAPTURED_RUNS.iter().find(|run| run.0 == name) {
            captured_run(*is_first, *is_json).expect("a run");
        } else {
            plant(name);
        }
        return ExitCode::SUCCESS;
    }
    let mut trials: Vec<Trial> = PLANTS
        .iter()
        .map(|&(name, ..)| in_namespaces(name, move || in_a_process(name).map_err(Failed::from)))
        .collect();
    let captures = CAPTURES.iter().map(|capture| capture.0).chain(CAPTURED_RUNS.iter().map(|run| run.0));
    trials.extend(captures.map(|name| in_namespaces(name, move || in_a_process(name).map_err(Failed::from))));
    trials.push(where_possible(TAP.0, || {
        if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
            return skip_without_root(&format!("/dev/net/tun: {error}"));
        }
        if ip("-V").is_err() {
            return skip("the ip program is missing (package iproute2)");
        }
        in_a_process(TAP.0).map(|()| Completion::Completed).map_err(Failed::from)
    }));
    trials.extend(VETHS.iter().map(|&(name, ..)| {
        in_namespaces(name, move || {
            if ip("-V").is_err() {
                return skip("the ip program is missing (package iproute2)").map(drop);
            }
            in_a_process(name).map_err(Failed::from)
        })
    }));
    trials.extend([
        in_namespaces("a_local_receiver_is_named_by_run", local_receiver_is_named),
        in_namespaces("run_names_no_cause_where_nothing_was_copied", sink_has_no_cause),
        in_namespaces("io_urings_share_is_an_upper_bound", io_urings_share),
        in_namespaces("a_sweep_stores_the_causes_and_its_page_names_them", page_names_them),
        in_namespaces("doctor_names_the_cause_and_tries_the_sink", doctor_names_it),
    ]);
    common::side_by_side(trials)
}

fn in_a_process(name: &str) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = common::clean(Command::new(program)).args(["plant", name]).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(format!("{}\n{}", output.status, stderr(&output))) }
}

fn testbed() -> Testbed {
    let testbed = Testbed::start(&Setup {
        topology: Topology::Anonymous,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(PathBuf::from(env!("CARGO_BIN_EXE_sendpath"))),
    });
    testbed.expect("a testbed")
}

/// Plants, sends, looks, and has it judged.
fn plant(name: &str) {
    let (_, plant, judge) =
        PLANTS.into_iter().chain([TAP]).chain(VETHS).find(|plant| plant.0 == name).expect("a known name");
    let testbed = testbed();
    let planted = testbed.within_sink(|| Ok(plant())).expect("a sink").expect("planted");
    let case = Case {
        path: SendPath::ZeroCopy,
        layout: Layout::Page,
        placement: Placement::Free,
        receiver: Receiver::Sink,
        ..Case::default()
    };
    let mut instance = testbed.open(case).expect("an instance");
    let sample = of_messages(&mut instance, 200, Mode::Time).expect("a burst");
    let counts = sample.server.zero_copy.expect("zero_copy counts");
    assert_eq!(counts.completions, counts.sends, "every send completes");
    let share = counts.copied_share().expect("completions");
    let causes = testbed.copy_causes(Receiver::Sink).expect("causes");
    eprintln!("{counts}; {causes:?}");
    judge(share, &causes);
    drop(planted);
}

fn nothing_is_copied(share: f64, causes: &[CopyCause]) {
    assert!(share == 0.0, "{share}");
    assert_eq!(causes, []);
}

fn heard_by(port: Option<&str>, share: f64, causes: &[CopyCause]) {
    assert!(share > 0.0);
    let [CopyCause::PacketSocket { device, sockets: 1, owners }] = causes else { panic!("{causes:?}") };
    assert_eq!(device.as_deref(), port);
    let this = format!("(pid {})", std::process::id());
    assert!(matches!(&owners[..], [owner] if owner.ends_with(&this)), "{owners:?}");
}

/// Sends into the sink while a capture listens, and while none does. What the kernel says of all is
/// what the first half was, and so nothing may call it a count.
fn capture(is_first: bool) {
    /// With the other half as many packets as leave before an acknowledgement.
    const HALF: u64 = 4;
    static BYTES: [u8; 256] = [7; 256];
    /// `SO_EE_CODE_ZEROCOPY_COPIED` of `<linux/errqueue.h>`.
    const ZEROCOPY_COPIED: u8 = 1;

    let testbed = testbed();
    let SinkParts { connection, packets, frames: [_, acknowledgement] } =
        testbed.sink_parts().expect("a sink");
    connection.set_nodelay(true).expect("TCP_NODELAY");
    connection.enable_zero_copy().expect("SO_ZEROCOPY");
    let listen = || testbed.within_sink(|| Ok(packet_socket(ETH_P_ALL, Some(SENDER)))).expect("a sink");
    for is_captured in [is_first, !is_first] {
        let capture = is_captured.then(|| listen().expect("a packet socket"));
        for _ in 0..HALF {
            // The bytes are lent for as long as the process lives.
            let sent = send(connection.as_raw_fd(), &BYTES, MsgFlags::from_bits_retain(libc::MSG_ZEROCOPY))
                .expect("sent");
            assert_eq!(sent, BYTES.len());
        }
        drop(capture);
    }
    let sent_bytes = 2 * HALF * BYTES.len() as u64;
    let acknowledgement = acknowledging(acknowledgement, u32::try_from(sent_bytes).expect("a small number"));
    send(packets.as_raw_fd(), &acknowledgement, MsgFlags::empty()).expect("injected");

    let mut counts = ZeroCopyCounts { sends: 2 * HALF, sent_bytes, ..ZeroCopyCounts::default() };
    while counts.completions < counts.sends {
        let mut errors = [PollFd::new(connection.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut errors, 4000_u16), Ok(1), "no completion");
        let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in);
        let flags = MsgFlags::MSG_ERRQUEUE;
        let message = recvmsg::<()>(connection.as_raw_fd(), &mut [], Some(&mut space), flags).expect("one");
        for control in message.cmsgs().expect("all of them fit") {
            let ControlMessageOwned::Ipv4RecvErr(completed, _) = control else { panic!("{control:?}") };
            let calls = u64::from(completed.ee_data - completed.ee_info + 1);
            counts.notifications += 1;
            counts.completions += calls;
            if completed.ee_code == ZEROCOPY_COPIED {
                counts.copied += calls;
                counts.copied_bytes += calls * BYTES.len() as u64;
            }
        }
    }
    eprintln!("{counts}, copied {}", counts.copied);
    assert!(counts.notifications < counts.completions, "the kernel joined none: {counts}");
    assert_eq!(counts.copied, if is_first { counts.sends } else { 0 }, "half of them were copied");
    is_called_a_bound(counts, if is_first { "about 100 %" } else { "about 0 %" });
}

/// The frame that acknowledges nothing, made to acknowledge so many bytes now.
fn acknowledging(mut frame: Vec<u8>, bytes: u32) -> Vec<u8> {
    /// Where the addresses of IPv4 begin, and the segment of TCP; in this, what is acknowledged,
    /// the checksum, and the time stamp, by which an old segment is known.
    const ADDRESSES: usize = 26;
    const SEGMENT: usize = 34;
    const NUMBER: usize = 42;
    const CHECKSUM: usize = 50;
    const STAMP: usize = 58;
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    for (place, more) in [(NUMBER, bytes), (STAMP, now.num_milliseconds() as u32)] {
        let number: [u8; 4] = frame[place..place + 4].try_into().expect("four bytes");
        let number = u32::from_be_bytes(number).wrapping_add(more);
        frame[place..place + 4].copy_from_slice(&number.to_be_bytes());
    }
    frame[CHECKSUM..CHECKSUM + 2].fill(0);
    let words = frame[ADDRESSES..].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let tcp = libc::IPPROTO_TCP.unsigned_abs();
    let mut sum = words.sum::<u32>() + tcp + u32::try_from(frame.len() - SEGMENT).expect("a small number");
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

/// In text, JSON, both CSV files and on the page.
fn is_called_a_bound(counts: ZeroCopyCounts, words: &str) {
    let copied = counts.copied().expect("completions");
    assert_eq!(copied.to_string(), words);
    assert!(!copied.is_none());
    assert_eq!(serde_json::to_value(copied.bound).expect("a word"), "either");

    let mut sweep = store::read(Path::new("tests/golden/sweep")).expect("a sweep");
    for record in &mut sweep.records {
        if let Ok(sample) = &mut record.outcome
            && let Some(before) = &mut sample.server.zero_copy
        {
            *before = counts;
            let row = samples_csv::write(record);
            let at = samples_csv::columns().iter().position(|name| name == "zero_copy_copied_is_bound");
            assert_eq!(row[at.expect("the column")], "either");
        }
    }
    let analysis = analyse_stored(&sweep.manifest, &sweep.records);
    let summary = String::from_utf8(summary::csv(&sweep, &analysis).expect("a summary")).expect("text");
    let rows = |word: &str| summary.lines().filter(|row| row.contains(word)).count();
    assert_eq!((rows(",zero_copy,"), rows(",either,")), (3, 3), "{summary}");

    let page = sendpath::report::page(&sweep);
    let said =
        page.verdict.iter().map(|claim| &claim.text).chain(page.strips.iter().map(|strip| &strip.note));
    assert!(said.filter(|text| text.contains(words)).count() > 1, "{:?}", page.verdict);
    let html = sendpath::report::render(&page, true).expect("a page");
    let (said, bare) = (format!("({words} copied)"), format!("({} copied)", &words["about ".len()..]));
    assert!(html.contains(&said) && !html.contains(&bare), "{bare}");
    assert!(html.contains("keeps what the first one says of copying"), "the reason");
}

/// Measures with `sendpath run`, and listens in its sink until some packets have passed, or from
/// then on.
fn captured_run(is_first: bool, is_json: bool) -> io::Result<()> {
    /// Far fewer than pass in a second.
    const PACKETS: u64 = 1000;

    let mut run = sendpath();
    run.args(["run", "--path", "zero_copy", "--layout", "page", "--receiver", "sink", "--duration", "1s"])
        .args(is_json.then_some("--json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut run = run.spawn()?;
    let mut errors = BufReader::new(run.stderr.take().expect("a pipe"));
    errors.read_line(&mut String::new())?; // the settings: the sink is there
    enter_sink(run.id())?;
    while !is_first && sent_packets()? < PACKETS {
        thread::yield_now();
    }
    let mut capture = packet_socket(ETH_P_ALL, Some(SENDER))?;
    for _ in 0..PACKETS {
        recv(capture.as_ref().expect("a socket").as_raw_fd(), &mut [0; 64], MsgFlags::empty())?;
    }
    capture = capture.filter(|_| !is_first);
    let mut rest = String::new();
    errors.read_to_string(&mut rest)?;
    let output = run.wait_with_output()?;
    drop(capture);
    assert!(output.status.success(), "{rest}");
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}");
    if is_json {
        let zero_copy = &serde_json::from_str::<Value>(&text)?["zero_copy"];
        assert_eq!(zero_copy["copied_is_bound"], "either", "{zero_copy}");
    } else {
        assert!(text.contains(": the kernel copied about "), "{text}");
        assert!(text.contains("a bound, which may err on both sides"), "{text}");
    }
    Ok(())
}

/// Enters the network namespace of another process's sink, and of an ordinary user's the one in
/// which that is allowed. No other thread has begun yet.
fn enter_sink(pid: u32) -> io::Result<()> {
    let own = |namespace: &str| fs::read_link(format!("/proc/self/ns/{namespace}"));
    let mut networks = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().starts_with("net:[")) {
            networks.push(File::open(path)?);
        }
    }
    let users = format!("/proc/{pid}/ns/user");
    if fs::read_link(&users)? != own("user")? {
        setns(File::open(users)?, CloneFlags::CLONE_NEWUSER)?;
    }
    for network in networks {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        if if_nametoindex(SENDER).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::other("the process has no sink"))
}

/// Packets that the sender's end of the sink of this namespace has sent.
fn sent_packets() -> io::Result<u64> {
    /// After eight columns of what was received, and the bytes that were sent.
    const SENT: usize = 9;
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(SENDER)?.strip_prefix(':'));
    let column = line.and_then(|line| line.split_whitespace().nth(SENT));
    column.and_then(|packets| packets.parse().ok()).ok_or_else(|| io::Error::other(text.clone()))
}

/// A packet socket of a protocol, on one port or on all.
fn packet_socket(protocol: u16, port: Option<&str>) -> io::Result<Planted> {
    let protocol = protocol.to_be();
    // SAFETY: the call takes no pointer.
    let fd =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Some(port) = port {
        // SAFETY: zero is a value for every field of this structure.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(if_nametoindex(port)?).expect("a small number");
        let length = libc::socklen_t::try_from(size_of_val(&address)).expect("a small number");
        // SAFETY: the address is live and as long as `length` says.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Some(socket))
}

fn request(name: &str, data: *mut c_void) -> libc::ifreq {
    // SAFETY: zero is a value for every field of this structure.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = data.cast();
    request
}

/// As `ethtool -K sink_s ... off` does.
fn switch_off(command: u32) -> io::Result<Planted> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut value = [command, 0];
    let mut request = request(SENDER, value.as_mut_ptr().cast());
    // SAFETY: the request and the two words that it points to are live, and these commands read no
    // more.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(None)
}

/// A tap as the bridge's second port, which is flooded.
fn tap() -> io::Result<Planted> {
    let file: File =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = request("tap_test", std::ptr::null_mut());
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("two small bits");
    // SAFETY: the request is live, and the kernel writes no more than it.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    ip("link set tap_test master sink_b up")?;
    Ok(Some(file.into()))
}

/// A veth pair to another namespace, where nobody's address belongs to somebody. The near end is a
/// port of the bridge, or is not.
fn veth(is_port: bool) -> io::Result<Planted> {
    let sink = gettid();
    let somebody = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        ip("link add veth_peer address 02:53:50:00:00:02 type veth peer name veth_test")?;
        ip(&format!("link set veth_test netns {sink}"))?;
        ip("link set veth_peer up")?;
        ip("address add 10.200.2.2/32 dev veth_peer")?;
        // What it answers, a reset, goes to an Ethernet address that nobody has.
        ip("route add 10.200.2.1 dev veth_peer")?;
        ip("neighbour add 10.200.2.1 lladdr 02:53:50:00:00:03 dev veth_peer")?;
        File::open("/proc/thread-self/ns/net")
    };
    let netns = thread::scope(|threads| threads.spawn(somebody).join().expect("the thread ends"))?;
    if is_port {
        ip("link set veth_test master sink_b")?;
    }
    ip("link set veth_test up")?;
    // The kernel activates it some time later, on a thread of its own.
    let since = Instant::now();
    while is_port && !ip("-d link show dev veth_test")?.contains("state forwarding") {
        assert!(since.elapsed() < Duration::from_secs(4), "the port does not forward");
    }
    Ok(Some(netns.into()))
}

fn ip(arguments: &str) -> io::Result<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if !output.status.success() {
        return Err(io::Error::other(stderr(&output)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn local_receiver_is_named() -> Result<(), Failed> {
    let run_json = measure("--path zero_copy")?;
    let zero_copy = &run_json["zero_copy"];
    assert!(zero_copy["copied_share"].as_f64().is_some_and(|share| share > 0.0), "{zero_copy}");
    let because = zero_copy["copied_because"].as_array().ok_or("no causes")?;
    assert!(because.iter().any(|cause| cause["cause"] == "local_receiver"), "{zero_copy}");
    assert!(
        because.iter().all(|cause| !cause["remedy"].as_str().unwrap_or_default().is_empty()),
        "{zero_copy}"
    );
    let output = run("--path zero_copy --duration 20ms");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("the receiver is on this machine") && text.contains("--receiver sink"), "{text}");
    Ok(())
}

fn sink_has_no_cause() -> Result<(), Failed> {
    let zero_copy = &measure("--path zero_copy --receiver sink")?["zero_copy"];
    assert_eq!(zero_copy["copied_share"], 0.0, "{zero_copy}");
    assert_eq!(zero_copy["copied_because"], Value::Null, "{zero_copy}");
    Ok(())
}

fn io_urings_share() -> Result<(), Failed> {
    let way = Series::new(SendPath::ZeroCopy, Layout::Page).by(Engine::Uring);
    if !common::is_offered(way) {
        return Ok(());
    }
    let zero_copy = &measure("--path zero_copy --layout page --engine uring --receiver sink")?["zero_copy"];
    assert_eq!(zero_copy["notifications"], zero_copy["completions"], "{zero_copy}");
    // The first kernel that stacks notifications is also the first with a bundle of sends.
    let stacks = io_uring::IoUring::new(2)?.params().is_feature_recvsend_bundle();
    assert_eq!(zero_copy["copied_is_bound"], if stacks { "upper" } else { "exact" }, "{zero_copy}");
    Ok(())
}

fn page_names_them() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sweep");
    let output = sendpath()
        .args(["sweep", "--size", "4K", "--threads", "1", "--path", "two_copy,zero_copy"])
        .args(["--receiver", "buffer,sink", "--counters", "none", "--time", "1s", "--out"])
        .arg(&path)
        .output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let manifest: Value = serde_json::from_slice(&std::fs::read(path.join("environment.json"))?)?;
    assert_eq!(manifest["copy_causes"]["link"][0]["cause"], "local_receiver", "{}", manifest["copy_causes"]);
    assert_eq!(manifest["copy_causes"]["sink"], Value::Array(Vec::new()), "{}", manifest["copy_causes"]);
    let page = sendpath::report::page(&sendpath::results::store::read(&path)?);
    assert_eq!(common::dangling(&page), [""; 0]);
    let [why, proof] = &page.copy_ledger.claims[..] else { panic!("{:?}", page.copy_ledger.claims) };
    assert!(why.text.contains("the receiver is on this machine"), "{}", why.text);
    let counted = "the kernel copied 0 % of 32 MSG_ZEROCOPY sends, each with a completion of its own";
    assert!(proof.text.contains(counted), "{}", proof.text);
    Ok(())
}

fn doctor_names_it() -> Result<(), Failed> {
    let output = sendpath().args(["doctor", "--json"]).output()?;
    let doctor: Value = serde_json::from_slice(&output.stdout)?;
    let checks = doctor["checks"].as_array().ok_or("no checks")?;
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).ok_or(format!("no {name}"));
    let veth = check("veth-copy")?;
    assert_eq!(veth["state"], "limited", "{veth}");
    assert!(
        veth["found"].as_str().is_some_and(|found| found.contains("the receiver is on this machine")),
        "{veth}"
    );
    assert!(veth["remedy"].as_str().is_some_and(|remedy| remedy.contains("--receiver sink")), "{veth}");
    let sink = check("sink")?;
    assert_eq!(sink["state"], "ok", "{sink}");
    assert!(
        sink["found"].as_str().is_some_and(|found| found.contains("each with a completion of its own")),
        "{sink}"
    );
    Ok(())
}
