//! A client that a command starts or reaches: whatever goes wrong with it is said within ten
//! seconds, and nothing is left.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{anywhere, skip, where_possible};
use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sendpath::case::{Case, Layout, Placement, SendPath, Workload};
use sendpath::measure::burst::verify;
use sendpath::pair::{Client, Peer, Setup, SocketOptions, Testbed};
use sendpath::topology::Topology;
use serde_json::Value;

/// The promise: whatever happens is said within this.
const LIMIT: Duration = Duration::from_secs(10);
const SENDPATH: &str = env!("CARGO_BIN_EXE_sendpath");

pub fn trials() -> Vec<Trial> {
    vec![
        anywhere("every_path_is_verified_over_ipv4_and_ipv6", both_families),
        anywhere("a_peer_that_is_none_is_named_in_time", none_is_named),
        anywhere("a_peer_that_is_killed_or_stands_still_is_named_in_time", struck_is_named),
        anywhere("a_client_that_cannot_answer_says_why", cannot_answer),
        anywhere("what_a_peers_command_has_started_ends_with_the_run", nothing_is_left),
        anywhere("strangers_take_no_place_and_get_nothing", strangers_take_no_place),
        anywhere("a_sweep_goes_on_when_its_peer_was_killed", sweep_goes_on),
        anywhere("ab_brings_each_build_over_and_takes_it_away", ab_brings_builds_over),
        anywhere("doctor_examines_both_machines", doctor_examines_both),
        anywhere("what_is_no_frame_is_named_in_time", no_frame_is_named),
        where_possible("a_peers_command_cannot_ask_at_the_terminal", no_terminal),
        where_possible("between_namespaces_it_measures_as_the_built_in_client", between_namespaces),
        where_possible("a_wire_that_is_cut_is_named_in_time", cut_wire),
    ]
}

/// `sendpath` with arguments, and a peer's command.
fn with_peer(arguments: &str, peer: &str) -> Command {
    let mut command = crate::common::sendpath();
    command.args(arguments.split_whitespace()).arg("--peer").arg(peer);
    command
}

fn client() -> String {
    format!("'{SENDPATH}' client")
}

fn json(output: &Output) -> Result<Value, Failed> {
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, crate::common::stderr(output)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn testbed(address: IpAddr, port: u16) -> Result<Testbed, sendpath::error::Error> {
    let peer = Peer::parse(&client())?;
    let server_address = Some(SocketAddr::from((address, port)));
    Testbed::start(&Setup {
        topology: Topology::Peer,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Peer(Peer { server_address, ..peer }),
    })
}

fn case(path: SendPath) -> Case {
    let (workload, placement) = (Workload::Rr, Placement::Free);
    Case {
        workload,
        path,
        layout: Layout::Page,
        payload_bytes: 4096,
        threads: 3,
        placement,
        ..Case::default()
    }
}

fn both_families() -> Result<(), Failed> {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has_ipv6 {
        eprintln!("left out: ::1 is on no interface here");
    }
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in addresses.into_iter().take(if has_ipv6 { 2 } else { 1 }) {
        let testbed = testbed(address, 0)?;
        assert!(testbed.effective().is_one_machine());
        assert_eq!(testbed.effective().client_link.address, address);
        for path in [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy] {
            assert!(verify(&mut testbed.open(case(path))?)? > 0, "{path} over {address}");
        }
        assert_eq!(testbed.strangers(), 0);
    }
    Ok(())
}

/// Runs `sendpath` until it ends, which has to be within the limit.
fn ends(mut command: Command) -> Result<Output, Failed> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > LIMIT {
            child.kill()?;
            return Err(format!("not ended after {LIMIT:?}: {command:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

fn none_is_named() -> Result<(), Failed> {
    let older = "sh -c 'echo sendpath client 1 0123abc; cat >/dev/null'";
    let newer = "sh -c 'echo sendpath client 4000000000 0123abc; cat >/dev/null'";
    let torn = format!("sh -c \"'{SENDPATH}' client </dev/null; printf '\\\\377'\"");
    let endless = "cat /dev/zero";
    for (peer, said) in [
        ("/nonexistent/ssh bob", "there is no program /nonexistent/ssh"),
        ("true", "the client process ended during the run: exit status: 0"),
        (
            "sh -c 'echo Permission denied. >&2; exit 255'",
            "exit status: 255: its standard error says: Permission denied.",
        ),
        ("sh -c 'kill -KILL $$'", "killed by SIGKILL"),
        ("echo Welcome to bob", "\"Welcome to bob\" was said where the client's greeting was expected"),
        ("cat", "was said where the client's greeting was expected"),
        ("sleep 60", "no answer from the client process after"),
        ("sh -c 'echo waiting for a key >&2; sleep 60'", "its standard error says: waiting for a key"),
        ("sh -c 'read line </dev/tty && exec cat'", "/dev/tty"),
        (older, "(sendpath 0123abc) speaks version 1, and is older than this side"),
        (newer, "(sendpath 0123abc) speaks version 4000000000, and is newer than this side"),
        (&torn, "the client process ended during the run"),
        (endless, "was said where the client's greeting was expected"),
    ] {
        let output = ends(with_peer("run --size 64 --duration 50ms", peer))?;
        let text = crate::common::stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{peer}: {text}");
        assert!(text.contains(said), "{peer}: {text}");
        assert!(output.stdout.is_empty(), "{peer}");
    }
    Ok(())
}

/// Also where its answers go nowhere, which is no end of the run.
fn cannot_answer() -> Result<(), Failed> {
    let peer = format!("sh -c \"'{SENDPATH}' client >/dev/full\"");
    let output = ends(with_peer("run --size 64 --duration 50ms", &peer))?;
    let text = crate::common::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("write(2) to the control line: No space left on device"), "{text}");
    Ok(())
}

/// The processes below `pid` that are `sendpath client`.
fn clients_of(pid: u32) -> Vec<Pid> {
    let parent = |pid: i32| -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let is_below = |child: i32| {
        std::iter::successors(Some(child), |&child| parent(child))
            .take(8)
            .any(|each| each.cast_unsigned() == pid)
    };
    let is_client = |child: i32| {
        let words = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        words.starts_with(SENDPATH.as_bytes()) && words.ends_with(b"\0client\0")
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    all.filter(|&child| is_client(child) && is_below(child)).map(Pid::from_raw).collect()
}

fn is_there(pid: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits until `found` is something, within the limit.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T, Failed> {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if began.elapsed() > LIMIT {
            return Err(format!("no {what} after {LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A long run whose client's pairs are at work, and the client.
fn at_work(peer: &str) -> Result<(std::process::Child, Pid), Failed> {
    let mut command = with_peer("run --size 4K --threads 4 --duration 1m --server-address 127.0.0.1", peer);
    let server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let client = until("client at work", || {
        let client = clients_of(server.id()).pop()?;
        // Threads that have been made may not have begun: by then they have worked for a tenth of a
        // second.
        let stat = std::fs::read_to_string(format!("/proc/{client}/stat")).ok()?;
        let fields = stat.rsplit(") ").next()?.split(' ').collect::<Vec<_>>();
        let ticks: u64 = fields.get(11..13)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        (ticks > 10).then_some(client)
    })?;
    Ok((server, client))
}

fn struck_is_named() -> Result<(), Failed> {
    for (signal, said) in [
        (Signal::SIGKILL, "the client process ended during the run: killed by SIGKILL"),
        (Signal::SIGTERM, "the client process ended during the run: killed by SIGTERM"),
        (Signal::SIGSTOP, "stalled: no byte moved on any pair for"),
    ] {
        let (server, client) = at_work(&client())?;
        let began = Instant::now();
        kill(client, signal)?;
        let output = server.wait_with_output()?;
        assert!(began.elapsed() < LIMIT, "{signal}: {:?}", began.elapsed());
        let text = crate::common::stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(said), "{signal}: {text}");
        until("end of the client", || (!is_there(client)).then_some(()))?;
    }
    // A client that stands still for less than the limit goes on.
    let (server, client) = at_work(&client())?;
    kill(client, Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_secs(2)); // how long it stands still is what is tested
    kill(client, Signal::SIGCONT)?;
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGINT)?;
    let output = server.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130), "{}", crate::common::stderr(&output));
    Ok(())
}

/// Also where the client is a child of the command, and the server is killed outright.
fn nothing_is_left() -> Result<(), Failed> {
    for peer in [client(), format!("sh -c \"'{SENDPATH}' client; true\"")] {
        for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
            let (mut server, client) = at_work(&peer)?;
            kill(Pid::from_raw(server.id().cast_signed()), signal)?;
            server.wait()?;
            until("end of the client", || (!is_there(client)).then_some(()))?;
        }
    }
    Ok(())
}

/// Connects to `address` until told to stop, again and again, and says this and that. Counts the
/// connections, and the bytes that came back.
fn storm(address: SocketAddr, stop: &AtomicBool, connected: &AtomicU64, answered: &AtomicU64) {
    const SAID: [&[u8]; 6] =
        [&[], &[1, 0, 0, 0, 0, 0, 0, 0], &[7; 19], &[0; 20], &[7; 64], b"GET / HTTP/1.1\r\n\r\n"];
    let mut open: std::collections::VecDeque<TcpStream> = std::collections::VecDeque::new();
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut stranger) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            drop(stranger.write_all(SAID[times % SAID.len()]));
            drop(stranger.set_nonblocking(true));
            connected.fetch_add(1, Ordering::Relaxed);
            open.push_back(stranger);
            times += 1;
        }
        // Some stay, and say nothing more.
        if open.len() > 32
            && let Some(mut oldest) = open.pop_front()
        {
            let mut bytes = [0; 16];
            answered.fetch_add(oldest.read(&mut bytes).unwrap_or(0) as u64, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(1)); // about a thousand times a second
    }
}

fn strangers_take_no_place() -> Result<(), Failed> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let testbed = testbed(Ipv4Addr::LOCALHOST.into(), port)?;
    let (stop, connected, answered) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stormer = {
        let (stop, connected, answered) = (Arc::clone(&stop), Arc::clone(&connected), Arc::clone(&answered));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        std::thread::spawn(move || storm(address, &stop, &connected, &answered))
    };
    let measured = (|| {
        let began = Instant::now();
        let mut opened = 0_u64;
        // Each opening takes some milliseconds; a stranger has to have come into some of them.
        while testbed.strangers() < 20 && began.elapsed() < 2 * LIMIT {
            let since = Instant::now();
            let mut instance = testbed.open(case(SendPath::OneCopy))?;
            verify(&mut instance)?;
            assert!(since.elapsed() < LIMIT / 2, "took {:?}", since.elapsed());
            opened += 1;
        }
        Ok::<_, Failed>(opened)
    })();
    stop.store(true, Ordering::Relaxed);
    stormer.join().map_err(|_| "the storm panicked")?;
    let opened = measured?;
    assert!(testbed.strangers() >= 20, "{} of them in {opened} openings", testbed.strangers());
    assert!(testbed.strangers() <= connected.load(Ordering::Relaxed));
    assert_eq!(answered.load(Ordering::Relaxed), 0, "a stranger was sent something");
    Ok(())
}

fn sweep_goes_on() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let arguments = format!(
        "sweep --size 64,4K --threads 1 --receiver buffer --counters none --time 4s --server-address 127.0.0.1 --out {}",
        out.display()
    );
    let mut server = with_peer(&arguments, &client()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let samples = out.join("samples.csv");
    let rows = || std::fs::read_to_string(&samples).map_or(0, |text| text.lines().count());
    until("rows", || (rows() > 10).then_some(()))?;
    let client = until("client", || clients_of(server.id()).pop())?;
    kill(client, Signal::SIGKILL)?;
    let at_kill = rows();
    let mut text = String::new();
    server.stderr.take().ok_or("no stderr")?.read_to_string(&mut text)?;
    let status = server.wait()?;
    assert!(matches!(status.code(), Some(0 | 1)), "{status}: {text}");
    assert!(rows() > at_kill + 10, "{} rows, {at_kill} of them before: {text}", rows());
    let environment: Value = serde_json::from_slice(&std::fs::read(out.join("environment.json"))?)?;
    let client = &environment["environment"]["effective"]["client"];
    assert_eq!(client["is_the_servers"], true, "{client}");
    assert_eq!(client["kernel"], environment["environment"]["kernel"]);
    Ok(())
}

fn copies_in_tmp() -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir("/tmp").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(Peer::COPY_PREFIX.as_bytes())).collect()
}

fn ab_brings_builds_over() -> Result<(), Failed> {
    let before = copies_in_tmp();
    let ab = |peer: &str, copy: &str| {
        let mut command =
            with_peer("ab --size 64 --path two_copy --blocks 3 --json --server-address 127.0.0.1", peer);
        command.args(["--base-bin", SENDPATH, "--change-bin", SENDPATH, "--peer-copy", copy]);
        command.output()
    };
    let output = ab("{} client", "test -x {}")?;
    let text = crate::common::stderr(&output);
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}: {text}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["outcome"]["blocks"], 3, "{text}");
    assert_eq!(copies_in_tmp(), before, "a copy is left: {text}");
    // A copy that fails is no measurement, and leaves nothing either.
    let output = ab("{} client", "sh -c 'exit 7' {}")?;
    let text = crate::common::stderr(&output);
    assert!(text.contains("exit status: 7") && !output.status.success(), "{text}");
    assert_eq!(copies_in_tmp(), before, "a copy is left: {text}");
    for (peer, copy) in [("cat", "cp {} {}"), ("{} client", "true")] {
        let output = ab(peer, copy)?;
        assert_eq!(output.status.code(), Some(2), "{peer} {copy}: {}", crate::common::stderr(&output));
    }
    Ok(())
}

fn doctor_examines_both() -> Result<(), Failed> {
    let output = with_peer("doctor --json --server-address 127.0.0.1", &client()).output()?;
    let report = json(&output)?;
    let check = |of: &Value, name: &str| {
        of["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == name).cloned())
    };
    assert_eq!(check(&report, "peer").ok_or("no peer")?["state"], "ok", "{report}");
    let copied = check(&report, "link-copy").ok_or("no link-copy")?;
    assert_eq!(copied["state"], "limited", "{copied}");
    assert!(copied["found"].as_str().is_some_and(|text| text.contains("on this machine")), "{copied}");
    let client = &report["client"];
    assert!(check(client, "clock-source").is_some() && check(client, "peer").is_none(), "{client}");
    assert_eq!(client["link"][0]["name"], "lo");
    let output =
        with_peer("doctor --json --require peer", "sh -c 'echo no such host >&2; exit 255'").output()?;
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let refused = check(&report, "peer").ok_or("no peer")?;
    assert!(refused["found"].as_str().is_some_and(|text| text.contains("no such host")), "{refused}");
    Ok(())
}

/// Something else is said on the control line while it measures, which it does some time after the
/// client has its connection: in a burst, or between two of them.
fn no_frame_is_named() -> Result<(), Failed> {
    for delay in ["0.3", "0.35", "0.4"] {
        let connected = "until ls -l /proc/$$/fd | grep -q socket || ! test -d /proc/$$; do sleep 0.02; done";
        let peer = format!(
            "sh -c \"({connected}; sleep {delay}; printf '\\377\\377\\377\\377') & exec '{SENDPATH}' client\""
        );
        let output = ends(with_peer("run --size 64 --duration 30s --server-address 127.0.0.1", &peer))?;
        let text = crate::common::stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("a frame of 4294967295 bytes"), "{text}");
    }
    Ok(())
}

/// A terminal that this test makes.
fn no_terminal() -> Result<Completion, Failed> {
    if !Path::new("/usr/bin/script").exists() {
        return skip("the script program is missing");
    }
    let peer = "sh -c 'read line </dev/tty && exec cat'";
    let run = format!("'{SENDPATH}' run --size 64 --duration 50ms --peer \"{peer}\"");
    let mut command = crate::common::clean(Command::new("/usr/bin/script"));
    command.args(["--quiet", "--return", "--command", &run, "/dev/null"]);
    let output = ends(command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/dev/tty: No such device"), "it was asked: {text}");
    Ok(Completion::Completed)
}

fn between_namespaces() -> Result<Completion, Failed> {
    let Some(output) = in_namespaces("--json --duration 50ms", "")? else { return skip(NO_NAMESPACES) };
    let report = json(&output)?;
    let effective = &report["environment"]["effective"];
    assert_eq!(effective["server_link"]["name"], "wire_s", "{effective}");
    assert_eq!(effective["client_link"]["name"], "wire_c");
    assert_eq!(effective["client_link"]["driver"], "veth");
    assert_eq!(effective["client"]["is_the_servers"], true);
    assert_eq!(report["zero_copy"]["copied_share"], 1.0);
    assert!(report["zero_copy"]["copied_because"].to_string().contains("on this machine"));
    assert!(report["verified_messages"].as_u64().is_some_and(|messages| messages > 0));
    Ok(Completion::Completed)
}

fn cut_wire() -> Result<Completion, Failed> {
    // Half a second after a connection is established (01), however long that takes.
    let connected = "until grep -q ' 01 ' /proc/net/tcp; do sleep 0.02; done";
    let cut = format!("(timeout 8 sh -c \"{connected}\"; sleep 0.5; ip link set wire_s down) &");
    let Some(output) = in_namespaces("--duration 30s", &cut)? else { return skip(NO_NAMESPACES) };
    let text = crate::common::stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("stalled: no byte moved on any pair for"), "{text}");
    Ok(Completion::Completed)
}

const NO_NAMESPACES: &str = "ip, nsenter or unshare is missing, or namespaces are forbidden";

/// A run between two namespaces that this test makes, with nothing but `unshare`, `nsenter` and
/// `ip`: as two machines would have it. `meanwhile` is what the shell does first. None where there
/// cannot be any.
fn in_namespaces(options: &str, meanwhile: &str) -> Result<Option<Output>, Failed> {
    let is_root = nix::unistd::geteuid().is_root();
    let unshare = if is_root { "unshare --net" } else { "unshare --map-root-user --net" };
    // The other namespace lives as long as the process that waits in it for the end of its input.
    let script = format!(
        "set -eu
        mkfifo \"$1/held\" \"$1/ready\"
        unshare --net sh -c 'echo ready >\"$1/ready\"; exec cat \"$1/held\"' sh \"$1\" &
        other=$!
        read -r _ <\"$1/ready\"
        exec 4>\"$1/held\"
        ip link add wire_s type veth peer name wire_c
        ip link set wire_c netns $other
        ip address add 10.77.0.1/24 dev wire_s
        ip link set wire_s up
        nsenter --target $other --net ip address add 10.77.0.2/24 dev wire_c
        nsenter --target $other --net ip link set wire_c up
        {meanwhile}
        code=0
        '{SENDPATH}' run {options} --path zero_copy --layout page --peer \"nsenter --target $other --net '{SENDPATH}' client\" || code=$?
        exec 4>&-
        wait $other
        exit $code"
    );
    for needed in ["ip", "nsenter", "unshare"] {
        if !["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(needed).exists())
        {
            return Ok(None);
        }
    }
    let folder = tempfile::tempdir()?;
    let mut words = unshare.split(' ');
    let mut command = crate::common::clean(Command::new(words.next().ok_or("no words")?));
    command.args(words).args(["sh", "-c", &script, "sh"]).arg(folder.path());
    let output = ends(command)?;
    Ok((!crate::common::stderr(&output).contains("unshare failed")).then_some(output))
}
