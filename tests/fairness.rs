//! With one receiver for all, nothing but the sending differs between the paths: the client makes
//! the same calls for the same bytes, and its counters say the same.
//!
//! This binary is the client of its own testbeds: it becomes the `sendpath` command, traced by
//! `strace`.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use common::{anywhere, skip, where_possible};
use libtest_mimic::{Completion, Failed, Trial};
use sendpath::case::{Case, Placement, Receiver, SendPath, Workload};
use sendpath::event::Event;
use sendpath::measure::burst::{of_messages, warm_up};
use sendpath::pair::{Client, Mode, Setup, SocketOptions, Testbed, in_flight_messages};
use sendpath::sample::Copies;
use sendpath::topology::Topology;

/// The start of the files that strace writes, one for each thread of the client.
const TRACE: &str = "SENDPATH_TEST_TRACE";
const PROGRAM: &str = env!("CARGO_BIN_EXE_sendpath");
const PATHS: [SendPath; 3] = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];
const MESSAGES: u64 = 300;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("client") {
        return traced_client();
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    // SAFETY: this process has no second thread yet.
    unsafe { std::env::set_var(TRACE, folder.path().join("trace")) };
    let mut trials = vec![
        anywhere("the_client_counts_the_same_for_every_path", same_counters),
        traced("a_stream_never_has_more_in_flight_than_its_limit", in_flight_is_limited),
        traced("with_matched_receivers_the_clients_calls_differ", matched_differs),
    ];
    for receiver in [Receiver::Buffer, Receiver::Fields, Receiver::Unpack, Receiver::Discard] {
        let name = format!("the_client_makes_the_same_calls_for_every_path/{receiver}");
        trials.push(traced(&name, move || same_calls(receiver)));
    }
    common::one_by_one(trials)
}

/// Becomes the client, traced. Signals and exits are left out, as is what the calls carry beyond
/// eight bytes.
fn traced_client() -> ExitCode {
    let error = Command::new("strace")
        .args(["-ff", "-qq", "-xx", "-s", "8", "-e", "signal=none", "-o"])
        .arg(std::env::var_os(TRACE).expect("the test sets it"))
        .args([PROGRAM, "client"])
        .exec();
    eprintln!("strace: {error}");
    ExitCode::FAILURE
}

/// A test that needs `strace`: skipped, with the reason, where it cannot be had.
fn traced(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    where_possible(name, move || {
        let mut strace = Command::new("strace");
        match strace.args(["-qq", "-o", "/dev/null", "true"]).stdin(Stdio::null()).output() {
            Err(error) => skip(&format!("strace cannot be run ({error}): install it")),
            Ok(output) if !output.status.success() => {
                skip(&format!("strace may not trace: {}", common::stderr(&output)))
            }
            Ok(_) => test().map(|()| Completion::Completed),
        }
    })
}

fn testbed(program: PathBuf) -> Result<Testbed, Failed> {
    let (topology, socket) = (Topology::Loopback, SocketOptions::default());
    Ok(Testbed::start(&Setup { topology, mtu_bytes: None, socket, client: Client::Child(program) })?)
}

/// A system call on a pair's data connection.
struct Call {
    name: String,
    /// What its first eight bytes say as a number, where they are whole.
    number: Option<u64>,
    /// What it returned.
    bytes: u64,
}

/// What a pair's thread did in a traced burst.
struct Trace {
    /// On its data connection, in order.
    data: Vec<Call>,
    /// On all else, by name.
    others: BTreeMap<String, u64>,
}

impl Trace {
    fn work(&self) -> Work {
        let mut work = Work { bytes: BTreeMap::new(), requests: Vec::new() };
        for call in &self.data {
            *work.bytes.entry(call.name.clone()).or_default() += call.bytes;
            if call.name == "sendto" {
                work.requests.push(call.number.unwrap_or(u64::MAX));
            }
        }
        work
    }
}

/// Runs a burst of one pair whose client is traced.
fn trace(case: Case) -> Result<Trace, Failed> {
    let prefix = PathBuf::from(std::env::var_os(TRACE).ok_or("no trace file")?);
    let folder = prefix.parent().ok_or("no folder")?;
    for file in fs::read_dir(folder)? {
        fs::remove_file(file?.path())?;
    }
    let testbed = testbed(std::env::current_exe()?)?;
    let mut instance = testbed.open(case)?;
    of_messages(&mut instance, MESSAGES, Mode::Time)?;
    drop(instance);
    drop(testbed); // waits for strace, which has then written all
    read_trace(folder)
}

fn read_trace(folder: &Path) -> Result<Trace, Failed> {
    let mut texts = Vec::new();
    for file in fs::read_dir(folder)? {
        texts.push(fs::read_to_string(file?.path())?);
    }
    let connects = |line: &&str| line.starts_with("connect(") && line.contains("AF_INET, sin_port");
    let connect =
        texts.iter().flat_map(|text| text.lines()).find(connects).ok_or("no connection was made")?;
    let fd = connect.trim_start_matches("connect(").split(',').next().unwrap_or_default();
    // The main thread connects; the pair's thread is the other one that uses the connection.
    let others = texts.iter().filter(|text| !text.lines().any(|line| connects(&line)));
    let traces = others.map(|text| thread(text, fd)).collect::<Result<Vec<_>, _>>()?;
    let mut traces = traces.into_iter().filter(|trace| !trace.data.is_empty());
    let trace = traces.next().ok_or("no thread used the connection")?;
    assert!(traces.next().is_none(), "two threads used the connection");
    Ok(trace)
}

/// A thread's calls: `recvfrom(6, "\x00\x01"..., 64, 0, NULL, NULL) = 64`.
fn thread(text: &str, fd: &str) -> Result<Trace, Failed> {
    let mut trace = Trace { data: Vec::new(), others: BTreeMap::new() };
    for line in text.lines() {
        let (name, arguments) = line.split_once('(').ok_or_else(|| format!("no call: {line}"))?;
        let returned = arguments.rsplit_once(" = ").and_then(|(_, returned)| returned.split(' ').next());
        match returned.map(str::parse) {
            Some(Ok(bytes)) if arguments.split(',').next() == Some(fd) => {
                trace.data.push(Call { name: name.to_owned(), number: number(arguments), bytes });
            }
            _ => *trace.others.entry(name.to_owned()).or_default() += 1,
        }
    }
    Ok(trace)
}

/// The eight bytes that stand as `"\x01\x00…"` among a call's arguments.
fn number(arguments: &str) -> Option<u64> {
    let bytes = arguments.split('"').nth(1)?.split("\\x").skip(1);
    let bytes: Vec<_> = bytes.map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// What a pair's thread has to do, however often it is interrupted: bytes by call, and its requests
/// in order.
#[derive(Debug, PartialEq)]
struct Work {
    bytes: BTreeMap<String, u64>,
    requests: Vec<u64>,
}

fn same_calls(receiver: Receiver) -> Result<(), Failed> {
    let call = if receiver == Receiver::Fields { "recvmsg" } else { "recvfrom" };
    for workload in [Workload::Rr, Workload::Stream] {
        // A message arrives whole, so that one call receives it, with few exceptions.
        for payload_bytes in [64, 4096, 16 << 10] {
            // Besides the messages the client receives what the server counted, at the end of the
            // burst, and sends a last request for none.
            let mut bytes = BTreeMap::from([("recvfrom".to_owned(), 8)]);
            *bytes.entry(call.to_owned()).or_default() += MESSAGES * payload_bytes as u64;
            let mut first: Option<(Work, f64)> = None;
            for path in PATHS {
                let placement = Placement::Free;
                let case = Case { workload, path, payload_bytes, receiver, placement, ..Case::default() };
                let trace = trace(case)?;
                let work = trace.work();
                let mut expected = bytes.clone();
                expected.insert("sendto".to_owned(), 8 * work.requests.len() as u64);
                assert_eq!(work.bytes, expected, "{case}");
                assert_eq!(work.requests.iter().sum::<u64>(), MESSAGES, "{case}");
                assert_eq!(work.requests.last(), Some(&0), "{case}");
                let others: u64 = trace.others.values().sum();
                assert!(
                    others < MESSAGES / 3,
                    "{case}: a call per message is not its work: {:?}",
                    trace.others
                );

                let calls = trace.data.iter().filter(|made| made.name == call).count() as f64;
                let (first, first_calls) = first.get_or_insert((trace.work(), calls));
                assert_eq!(&work, first, "{case}");
                assert!((calls / *first_calls - 1.0).abs() < 0.1, "{case}: {calls} and {first_calls} calls");
                assert!(calls < 2.0 * MESSAGES as f64, "{case}: {calls} calls");
            }
        }
    }
    Ok(())
}

/// What the other tests look at can tell two receivers apart.
fn matched_differs() -> Result<(), Failed> {
    let work = |path| {
        let (receiver, placement) = (Receiver::Matched, Placement::Free);
        Ok::<_, Failed>(trace(Case { path, receiver, placement, ..Case::default() })?.work())
    };
    assert_ne!(work(SendPath::TwoCopy)?, work(SendPath::OneCopy)?);
    assert_eq!(work(SendPath::OneCopy)?, work(SendPath::ZeroCopy)?);
    Ok(())
}

/// On the wire: requests and bytes, in the order in which the client sent and received them.
fn in_flight_is_limited() -> Result<(), Failed> {
    for path in PATHS {
        for payload_bytes in [4096, 256 << 10] {
            let (workload, placement) = (Workload::Stream, Placement::Free);
            let case = Case { workload, path, payload_bytes, placement, ..Case::default() };
            let (mut asked, mut received_bytes, mut most) = (0, 0, 0);
            for call in &trace(case)?.data {
                if call.name == "sendto" {
                    asked += call.number.ok_or("a request is whole")?;
                } else {
                    received_bytes += call.bytes;
                }
                // What the server counted comes after the messages.
                assert!(received_bytes <= asked * payload_bytes as u64 + 8, "{case}: sent unasked");
                most = most.max(asked - (received_bytes / payload_bytes as u64).min(asked));
            }
            // The same limit for every path.
            let limit = in_flight_messages(&Case { path: SendPath::TwoCopy, ..case }) as u64;
            assert_eq!((asked, most), (MESSAGES, limit), "{case}");
        }
    }
    Ok(())
}

/// How far a counter per message may differ between the paths, and what an event counts of each
/// message at the most; an event that cannot be counted here is left out.
const COUNTED: [(Event, f64, f64); 3] = [
    // The client waits once for each message.
    (Event::ContextSwitches, 0.05, 1.1),
    (Event::PageFaults, 0.0, 0.0),
    (Event::Instructions, 0.03, f64::INFINITY),
];

/// At sizes at which a message arrives whole: over loopback the kernel cuts a large one of
/// `zero_copy` into more packets, since a packet holds 17 pieces of memory.
fn same_counters() -> Result<(), Failed> {
    let mut testbed = testbed(PathBuf::from(PROGRAM))?;
    testbed.count(&COUNTED.map(|(event, ..)| event));
    for payload_bytes in [64, 4096, 16 << 10] {
        let mut lowest: BTreeMap<Event, Vec<f64>> = BTreeMap::new();
        for path in PATHS {
            let case = Case { path, payload_bytes, placement: Placement::Paired, ..Case::default() };
            let mut instance = testbed.open(case)?;
            warm_up(&mut instance)?;
            let mut of_path = BTreeMap::new();
            for _ in 0..5 {
                let client = of_messages(&mut instance, 2000, Mode::Time)?.client;
                let kernel_to_user_bytes = client.messages * payload_bytes as u64;
                assert_eq!(client.copies, Copies { kernel_to_user_bytes, ..Copies::default() }, "{case}");
                for (&event, reading) in &client.counters {
                    if let Some(value) = reading.value() {
                        let per_message = value as f64 / client.messages as f64;
                        // The lowest is the one that other programs on the machine disturbed least.
                        let lowest = of_path.entry(event).or_insert(per_message);
                        *lowest = per_message.min(*lowest);
                    }
                }
            }
            for (event, per_message) in of_path {
                lowest.entry(event).or_default().push(per_message);
            }
        }
        for (event, tolerance, most) in COUNTED {
            let Some(values) = lowest.get(&event) else { continue };
            let (min, max) = (
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(0.0, f64::max),
            );
            assert!(
                max <= min * (1.0 + tolerance),
                "{event} per message of {payload_bytes} bytes: {values:?}"
            );
            assert!(max <= most, "{event} per message of {payload_bytes} bytes: {values:?}");
        }
    }
    Ok(())
}
