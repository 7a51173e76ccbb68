//! Whatever fails on one side, the other ends soon, with an error that names the cause; and nothing
//! is left behind.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{alone, anywhere, in_namespaces};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sendpath::case::{Case, Engine, Layout, Placement, SendPath, Series, Workload};
use sendpath::error::Error;
use sendpath::measure::burst::{of_messages, time, time_short, verify};
use sendpath::pair::{Burst, Client, Extent, Fault, FaultKind, Mode, Setup, SocketOptions, Testbed};
use sendpath::sample::Side;
use sendpath::topology::Topology;

/// The promise: the other side ends within this.
const LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, mode, path, engine] = &arguments[..]
        && mode == "write-to-closed"
    {
        return write_to_closed(path, engine);
    }
    common::side_by_side(vec![
        anywhere("a_byte_that_the_server_corrupts_is_found_and_named", corrupt_is_named),
        anywhere("a_timed_burst_checks_each_pairs_last_message", last_message_is_checked),
        anywhere("a_write_to_a_closed_connection_is_an_error_and_no_signal", no_sigpipe),
        anywhere("a_server_thread_that_panics_is_named", || panic_is_named(Side::Server)),
        anywhere("a_client_thread_that_panics_is_named", || panic_is_named(Side::Client)),
        anywhere("a_connection_that_the_server_resets_ends_both", || reset_ends_both(Side::Server)),
        anywhere("a_connection_that_the_client_resets_ends_both", || reset_ends_both(Side::Client)),
        anywhere("a_client_that_is_killed_is_named_with_its_signal", killed_client_is_named),
        anywhere("a_client_that_stands_still_is_named", stopped_client_is_named),
        anywhere("a_client_that_is_no_sendpath_is_refused", foreign_client_is_refused),
        anywhere("after_a_failed_case_the_next_one_runs", next_case_runs),
        anywhere("of_many_open_instances_the_others_go_on_when_one_fails", others_go_on),
        anywhere("each_path_counts_who_copied_how_much", copies_are_counted),
        anywhere(
            "a_burst_that_fails_after_its_last_message_leaves_the_testbed_in_order",
            late_failure_in_order,
        ),
        anywhere("a_pair_that_is_late_for_the_timed_part_is_waited_for", late_pair_is_waited_for),
        anywhere("a_pair_that_fails_in_the_lead_in_ends_all_others", lead_in_failure_ends_all),
        alone("the_pairs_of_a_timed_burst_end_together", pairs_end_together),
        alone("what_comes_after_the_last_byte_is_drain_and_no_part_of_the_window", drain_is_apart),
        in_namespaces("a_server_that_is_killed_leaves_nothing", || killed_leaves_nothing(Side::Server)),
        in_namespaces("a_client_that_is_killed_leaves_nothing", || killed_leaves_nothing(Side::Client)),
    ])
}

fn testbed(program: &str) -> Result<Testbed, Error> {
    Testbed::start(&Setup {
        topology: Topology::Loopback,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(PathBuf::from(program)),
    })
}

fn case(path: SendPath, workload: Workload) -> Case {
    let (layout, placement) = (Layout::Heap, Placement::Free);
    Case { workload, path, layout, payload_bytes: 4096, threads: 3, placement, ..Case::default() }
}

const PATHS: [SendPath; 3] = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];

/// Plants a fault in pair 1 of every path and workload, and hands each error to `check`.
fn plant(side: Side, kind: FaultKind, check: impl Fn(&Error)) -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for path in PATHS {
        for workload in [Workload::Rr, Workload::Stream] {
            let fault = Fault { side, pair: 1, at_message: 5, kind };
            let mut instance = testbed.open_with_fault(case(path, workload), Some(fault))?;
            let started = Instant::now();
            let error = instance
                .burst(Burst { lead_in_messages: 0, extent: Extent::Messages(1000), mode: Mode::Verify })
                .expect_err("the fault is noticed");
            assert!(started.elapsed() < LIMIT, "took {:?}: {error}", started.elapsed());
            check(&error);
        }
    }
    Ok(())
}

fn corrupt_is_named() -> Result<(), Failed> {
    plant(Side::Server, FaultKind::Corrupt, |error| {
        let text = error.to_string();
        assert!(text.contains("pair 1: message 5: field 3, byte 256"), "{text}");
    })
}

fn last_message_is_checked() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for path in PATHS {
        for (at_message, noticed) in [(8, false), (9, true)] {
            let fault = Fault { side: Side::Server, pair: 1, at_message, kind: FaultKind::Corrupt };
            let mut instance = testbed.open_with_fault(case(path, Workload::Rr), Some(fault))?;
            // Two messages are sent in turn: the other one is sent last, and is whole.
            let result = of_messages(&mut instance, 10, Mode::Time);
            if noticed {
                let text = result.expect_err("the last message is corrupt").to_string();
                assert!(text.contains("pair 1: message 9: field 3, byte 256"), "{text}");
            } else {
                result?;
            }
        }
    }
    Ok(())
}

/// Runs this test's own binary with SIGPIPE as a C program has it, which a Rust program has not.
fn no_sigpipe() -> Result<(), Failed> {
    for way in common::ways(Layout::Heap) {
        let status = std::process::Command::new(std::env::current_exe()?)
            .args(["write-to-closed", &way.path.to_string(), &way.engine.to_string()])
            .status()?;
        assert_eq!(status.code(), Some(0), "{}, {}: {status}", way.path, way.engine);
    }
    Ok(())
}

/// Sends on a connection whose peer is gone, until that is an error.
fn write_to_closed(path: &str, engine: &str) -> ExitCode {
    use nix::sys::signal::{SigHandler, signal};
    use sendpath::case::Axis;
    // SAFETY: the default disposition runs no code of this program.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.expect("a valid signal");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(std::net::TcpStream::connect(address).expect("a peer"));
    let (socket, _) = listener.accept().expect("a connection");
    let path = SendPath::parse(path).expect("a path");
    let engine = Engine::parse(engine).expect("an engine");
    let way = Series { engine, ..Series::new(path, Layout::Heap) };
    // SAFETY: nobody else sends on this connection.
    let sender = unsafe { sendpath::path::sender(way, socket, &vec![vec![512; 8]; 64], 64) };
    let mut sender = sender.expect("a sender");
    // splice(2) and sendfile(2) have no MSG_NOSIGNAL, and their senders say so: a program in Rust
    // ignores the signal.
    if matches!(path, SendPath::Splice | SendPath::File) {
        // SAFETY: to ignore a signal runs no code of this program.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.expect("a valid signal");
    }
    let mut send = || sender.message().map(drop).and_then(|()| sender.send());
    let failed = (0..32).any(|_| send().is_err());
    // Whoever goes on all the same gets errors, and no panic.
    let goes_on = (0..2).any(|_| send().is_ok());
    if failed && !goes_on { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn panic_is_named(side: Side) -> Result<(), Failed> {
    plant(side, FaultKind::Panic, |error| {
        let text = error.to_string();
        assert!(text.contains(&format!("{side} thread of pair 1 panicked: planted in message 5")), "{text}");
    })
}

fn reset_ends_both(side: Side) -> Result<(), Failed> {
    plant(side, FaultKind::Reset, |error| {
        let text = error.to_string();
        assert!(
            text.contains("Connection reset")
                || text.contains("closed the connection")
                || text.contains("not connected")
                || text.contains("Broken pipe"),
            "{text}"
        );
    })
}

/// Runs long bursts while `strike` is done to the client, and returns how they ended.
fn strike_client(workload: Workload, strike: Signal) -> Result<(Error, Duration), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    let pid = Pid::from_raw(i32::try_from(testbed.client_pid())?);
    let mut instance = testbed.open(case(PATHS[1], workload))?;
    verify(&mut instance)?; // under way
    let (sender, struck) = channel();
    let striker = std::thread::spawn(move || kill(pid, strike).map(|()| sender.send(Instant::now())));
    let error = loop {
        if let Err(error) = of_messages(&mut instance, 20_000, Mode::Time) {
            break error;
        }
    };
    let took = struck.recv()?.elapsed();
    striker.join().map_err(|_| "the striker panicked")???;
    if strike == Signal::SIGSTOP {
        kill(pid, Signal::SIGCONT)?;
    }
    Ok((error, took))
}

fn killed_client_is_named() -> Result<(), Failed> {
    for workload in [Workload::Rr, Workload::Stream] {
        let (error, took) = strike_client(workload, Signal::SIGKILL)?;
        assert!(took < LIMIT, "{took:?}");
        assert!(
            error.to_string().contains("client process ended during the run: killed by SIGKILL"),
            "{error}"
        );
    }
    Ok(())
}

fn stopped_client_is_named() -> Result<(), Failed> {
    let (error, took) = strike_client(Workload::Rr, Signal::SIGSTOP)?;
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    assert!(took < 2 * LIMIT, "{took:?}");
    Ok(())
}

fn foreign_client_is_refused() -> Result<(), Failed> {
    for program in ["/bin/true", "/nonexistent"] {
        let started = Instant::now();
        let Err(error) = testbed(program) else { return Err("it was taken".into()) };
        assert!(started.elapsed() < LIMIT, "{:?}: {error}", started.elapsed());
    }
    Ok(())
}

fn next_case_runs() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for path in PATHS {
        let fault = Fault { side: Side::Client, pair: 0, at_message: 0, kind: FaultKind::Panic };
        let mut instance = testbed.open_with_fault(case(path, Workload::Rr), Some(fault))?;
        verify(&mut instance).expect_err("the fault is noticed");
        drop(instance);
        verify(&mut testbed.open(case(path, Workload::Rr))?)?;
    }
    Ok(())
}

fn others_go_on() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    let mut instances = Vec::new();
    for path in PATHS {
        instances.push(testbed.open(case(path, Workload::Rr))?);
    }
    let fault = Fault { side: Side::Client, pair: 2, at_message: 30, kind: FaultKind::Reset };
    instances.push(testbed.open_with_fault(case(PATHS[0], Workload::Rr), Some(fault))?);
    for _round in 0..3 {
        for (number, instance) in instances.iter_mut().enumerate() {
            let result = of_messages(instance, 20, Mode::Time);
            assert!(result.is_ok() || number == 3, "{number}: {result:?}");
        }
    }
    let error = of_messages(&mut instances[3], 20, Mode::Time).expect_err("it failed before");
    assert!(error.to_string().contains("failed"), "{error}");
    for path in PATHS {
        verify(&mut testbed.open(case(path, Workload::Stream))?)?;
    }
    Ok(())
}

fn copies_are_counted() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for (path, [packed, sent, deferred]) in PATHS.into_iter().zip([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) {
        let case = case(path, Workload::Rr);
        let sample = of_messages(&mut testbed.open(case)?, 20, Mode::Time)?;
        let bytes = sample.messages * case.payload_bytes as u64;
        let (server, client) = (sample.server.copies, sample.client.copies);
        assert_eq!(server.user_to_user_bytes, packed * bytes, "{path}");
        assert_eq!(server.user_to_kernel_bytes, sent * bytes, "{path}");
        assert_eq!(server.deferred_bytes, deferred * bytes, "loopback and veth defer every copy");
        assert_eq!(client.kernel_to_user_bytes, bytes, "{path}");
        assert_eq!(client.user_to_user_bytes, 0, "{path}: received into one buffer");
    }
    Ok(())
}

/// As when the process loses its CPUs while a burst runs: the server's threads cannot be unpinned
/// after it, and the client's answer to that burst is still to come.
fn late_failure_in_order() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    let mut other = testbed.open(case(PATHS[0], Workload::Rr))?;
    for path in PATHS {
        let mut instance = testbed.open(case(path, Workload::Rr))?;
        testbed.fail_next_unpin();
        let error = of_messages(&mut instance, 20, Mode::Time).expect_err("no CPU is left");
        assert!(error.to_string().starts_with("sched_setaffinity(2)"), "{error}");
        // No question is answered with what belongs to another.
        of_messages(&mut other, 20, Mode::Time)?;
        drop(instance);
        verify(&mut testbed.open(case(path, Workload::Stream))?)?;
        assert!(testbed.is_alive());
    }
    Ok(())
}

/// The lead-in of one pair takes longer than any limit that was once set to it.
fn late_pair_is_waited_for() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    let kind = FaultKind::Slow { spin_ns: 2_200_000_000 };
    let fault = Fault { side: Side::Server, pair: 1, at_message: 0, kind };
    let mut instance = testbed.open_with_fault(case(PATHS[1], Workload::Rr), Some(fault))?;
    let extent = Extent::Time(Duration::from_millis(1));
    let (server, client) = instance.burst(Burst { lead_in_messages: 1, extent, mode: Mode::Time })?;
    assert!(client.messages >= 3, "the late pair has a message in the window, as the others have");
    assert_eq!(server.messages, client.messages);
    Ok(())
}

fn lead_in_failure_ends_all() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for side in [Side::Server, Side::Client] {
        for extent in [Extent::Messages(1000), Extent::Time(Duration::from_hours(1))] {
            // The others have passed their lead-in by then, and wait for this one.
            let fault = Fault { side, pair: 1, at_message: 3, kind: FaultKind::Panic };
            let mut instance = testbed.open_with_fault(case(PATHS[1], Workload::Rr), Some(fault))?;
            let started = Instant::now();
            let error = instance
                .burst(Burst { lead_in_messages: 4, extent, mode: Mode::Time })
                .expect_err("the fault is noticed");
            assert!(started.elapsed() < LIMIT, "took {:?}: {error}", started.elapsed());
            assert!(error.to_string().contains(&format!("{side} thread of pair 1 panicked")), "{error}");
        }
    }
    Ok(())
}

fn pairs_end_together() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for path in PATHS {
        let case = Case { threads: 64, placement: Placement::Paired, ..case(path, Workload::Rr) };
        let mut instance = testbed.open(case)?;
        verify(&mut instance)?;
        // Where pairs end by a count, the slow ones go on alone for most of every window. Where
        // somebody else has the CPUs, the end of one is late now and then.
        let mut at_work = 0.0_f64;
        for _ in 0..5 {
            let sample = time(&mut instance, Duration::from_millis(200), Mode::Time)?;
            at_work = at_work.max(sample.client.pairs_ns as f64 / 64.0 / sample.elapsed_ns as f64);
            // Each pair checks its last message, so each had one.
            assert_eq!(sample.client.verified_messages, 64, "{path}");
            if at_work > 0.8 {
                break;
            }
        }
        assert!(at_work > 0.8, "{path}: on average a pair was at work for {at_work} of the window at most");
    }
    Ok(())
}

fn drain_is_apart() -> Result<(), Failed> {
    let testbed = testbed(env!("CARGO_BIN_EXE_sendpath"))?;
    for path in PATHS {
        let spin_ns = 500_000_000;
        let kind = FaultKind::SlowDrain { spin_ns };
        let fault = Fault { side: Side::Server, pair: 1, at_message: 0, kind };
        let mut instance = testbed.open_with_fault(case(path, Workload::Rr), Some(fault))?;
        let sample = of_messages(&mut instance, 10, Mode::Time)?;
        assert!(sample.server.drain_ns >= spin_ns, "{path}: {}", sample.server.drain_ns);
        // Thirty messages take some 100 µs.
        assert!(sample.elapsed_ns < spin_ns, "{path}: {}", sample.elapsed_ns);
        assert_eq!(sample.elapsed_ns, sample.client.end_ns - sample.client.start_ns);
        // A lead-in's drain is over before the window begins.
        let sample = time_short(&mut instance, Duration::from_millis(4))?;
        assert!(sample.elapsed_ns < spin_ns, "{path}: {} after a lead-in", sample.elapsed_ns);
    }
    Ok(())
}

/// Kills one process of a run between anonymous namespaces. Both must go, and the namespaces with
/// them.
fn killed_leaves_nothing(victim: Side) -> Result<(), Failed> {
    // Before, inside and after bursts: the moments are spread by what the run has printed or done.
    for burst in [false, true] {
        let mut server = common::sendpath()
            .args(["run", "--duration", "1m", "--threads", "4"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut errors = BufReader::new(server.stderr.take().ok_or("no stderr")?);
        let mut line = String::new();
        errors.read_line(&mut line)?; // the settings: both processes run, the link is up
        let server_pid = i32::try_from(server.id())?;
        let client_pid = child_of(server_pid).ok_or("no client")?;
        if burst {
            while threads(client_pid) < 5 {
                std::thread::yield_now(); // the pairs' threads are made when the case opens
            }
        }
        let namespaces = [netns(server_pid), netns(client_pid)];
        assert!(namespaces.iter().all(Option::is_some), "{namespaces:?}");
        let pid = if victim == Side::Server { server_pid } else { client_pid };
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;

        // Both hold the pipe: its end is theirs.
        let (sender, ended) = channel();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            drop(errors.read_to_string(&mut text));
            drop(sender.send(text));
        });
        let text = ended.recv_timeout(LIMIT).map_err(|_| "a process is left")?;
        reader.join().map_err(|_| "the reader panicked")?;
        let status = server.wait()?;
        if victim == Side::Client {
            assert_eq!(status.code(), Some(1), "{text}");
            assert!(text.contains("killed by SIGKILL"), "{text}");
        }
        for namespace in namespaces.into_iter().flatten() {
            let holders: Vec<_> =
                processes().filter(|&pid| netns(pid).as_deref() == Some(&namespace)).collect();
            assert!(holders.is_empty(), "{} is held by {holders:?}", namespace.display());
        }
    }
    Ok(())
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn netns(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn threads(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn child_of(pid: i32) -> Option<i32> {
    processes().find(|&child| {
        let status = std::fs::read_to_string(Path::new("/proc").join(child.to_string()).join("status"));
        status.is_ok_and(|text| text.contains(&format!("\nPPid:\t{pid}\n")))
    })
}
