//! What makes the kernel copy is planted in a namespace: the completions say that it did, and the cause is named.

mod common;

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use common::{in_namespaces, measure, run, sendpath, skip, skip_without_root, stderr};
use libtest_mimic::{Completion, Failed, Trial};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use sendpath::case::{Case, Layout, Placement, Receiver, SendPath};
use sendpath::environment::CopyCause;
use sendpath::measure::burst::of_messages;
use sendpath::pair::{Client, Mode, Setup, SocketOptions, Testbed};
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

/// A name, what is planted in the sink, and what is found then. Each runs in a process of its own: an ordinary user's
/// namespaces are made before a process has a second thread.
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
        return plant(name);
    }
    let mut trials: Vec<Trial> = PLANTS
        .iter()
        .map(|&(name, ..)| in_namespaces(name, move || in_a_process(name).map_err(Failed::from)))
        .collect();
    trials.push(Trial::ignorable_test(TAP.0, || {
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
        in_namespaces("a_sweep_stores_the_causes_and_its_page_names_them", page_names_them),
        in_namespaces("doctor_names_the_cause_and_tries_the_sink", doctor_names_it),
    ]);
    common::main(trials)
}

fn in_a_process(name: &str) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = common::clean(Command::new(program)).args(["plant", name]).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(format!("{}\n{}", output.status, stderr(&output))) }
}

/// Plants, sends, looks, and has it judged.
fn plant(name: &str) -> ExitCode {
    let (_, plant, judge) =
        PLANTS.into_iter().chain([TAP]).chain(VETHS).find(|plant| plant.0 == name).expect("a known name");
    let testbed = Testbed::start(&Setup {
        topology: Topology::Anonymous,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(PathBuf::from(env!("CARGO_BIN_EXE_sendpath"))),
    });
    let testbed = testbed.expect("a testbed");
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
    ExitCode::SUCCESS
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
    // SAFETY: the request and the two words that it points to are live, and these commands read no more.
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

/// A veth pair to another namespace, where nobody's address belongs to somebody. The near end is a port of the bridge,
/// or is not.
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
    assert_eq!(sendpath::report::dangling(&page), [""; 0]);
    let [claim] = &page.copy_ledger.claims[..] else { panic!("{:?}", page.copy_ledger.claims) };
    assert!(claim.text.contains("the receiver is on this machine"), "{}", claim.text);
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
    Ok(())
}
