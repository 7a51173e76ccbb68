//! Counters count whom they should, on this machine's own events; what is missing says why.

#![allow(clippy::unnecessary_wraps, reason = "a trial returns a result")]

mod common;
#[path = "../benches/support/perf.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod perf;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{anywhere, run, skip, stderr, where_possible};
use criterion::measurement::{Measurement, ValueFormatter};
use libtest_mimic::{Completion, Failed, Trial};
use nix::time::{ClockId, clock_gettime};
use perf::EventMeter;
use sendpath::case::{Case, Layout, Placement, SendPath, Workload};
use sendpath::counters::probe;
use sendpath::event::Event;
use sendpath::measure::burst::{of_messages, warm_up};
use sendpath::pair::{Client, Mode, Setup, SocketOptions, Testbed};
use sendpath::topology::Topology;

const WORK: Duration = Duration::from_millis(30);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|mode| mode == "work") {
        // Works once for each line, and says so: a client process.
        for _ in std::io::stdin().lines() {
            work();
            println!();
        }
        return ExitCode::SUCCESS;
    }
    common::one_by_one(vec![
        counting("the_meter_counts_server_threads_and_nobody_else", server_threads_alone),
        counting("the_meter_agrees_with_what_the_servers_threads_count", meter_agrees_with_threads),
        counting("the_meter_prints_an_event_in_its_own_unit", units_are_the_events_own),
        anywhere("a_missing_event_is_a_reason_and_no_panic", missing_is_a_reason),
        counting("every_counter_of_both_sides_is_a_number_or_a_reason", numbers_or_reasons),
        counting("root_of_a_user_namespace_is_no_root_to_the_counters", user_namespace_root),
        where_possible("without_the_right_to_count_the_kernel_nothing_is_half_counted", nothing_by_halves),
    ])
}

/// A test that needs the one event that nearly every kernel gives to everybody.
fn counting(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    where_possible(name, move || match probe(Event::TaskClock) {
        Err(reason) => skip(&reason),
        Ok(()) => test().map(|()| Completion::Completed),
    })
}

/// Burns a known amount of this thread's CPU time.
fn work() {
    let now = || {
        Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock"))
    };
    let until = now() + WORK;
    while now() < until {
        std::hint::spin_loop();
    }
}

/// A thread that works when told to.
struct Worker(
    Sender<()>,
    Receiver<()>,
    #[allow(dead_code, reason = "it ends with its channel")] JoinHandle<()>,
);

impl Worker {
    fn new() -> Self {
        let (start, starts) = channel::<()>();
        let (done, dones) = channel();
        let thread = std::thread::spawn(move || {
            for () in starts {
                work();
                let _ = done.send(());
            }
        });
        Self(start, dones, thread)
    }

    fn work(&self) -> Result<(), Failed> {
        self.0.send(())?;
        Ok(self.1.recv()?)
    }
}

fn server_threads_alone() -> Result<(), Failed> {
    assert_eq!(nix::unistd::gettid(), nix::unistd::getpid(), "this has to be the main thread");
    // As a bench has them: the client and the supervisor come first, then the counter, then the
    // pool, and at some time Criterion's workers, which have nothing to do inside a window.
    let mut client = std::process::Command::new(std::env::current_exe()?)
        .arg("work")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut orders = client.stdin.take().ok_or("no stdin")?;
    let mut answers = BufReader::new(client.stdout.take().ok_or("no stdout")?).lines();
    let supervisor = Worker::new();
    let meter = EventMeter::open(Event::TaskClock)?;
    let pool = [Worker::new(), Worker::new()];
    let criterions = Worker::new();
    criterions.work()?;
    for _ in 0..3 {
        meter.start();
        work();
        for worker in &pool {
            worker.work()?;
        }
        supervisor.work()?;
        writeln!(orders)?;
        answers.next().ok_or("the client is gone")??;
        let counted = Duration::from_nanos(meter.end(()));
        criterions.work()?;
        let server = 3 * WORK;
        // The two clocks do not tick at the same instants.
        assert!(counted + WORK / 2 > server, "{counted:?}: a server thread is missing");
        assert!(counted < server + WORK / 2, "{counted:?}: somebody else was counted");
    }
    drop(orders); // the client's sign to go
    client.wait()?;
    Ok(())
}

fn units_are_the_events_own() -> Result<(), Failed> {
    use criterion::Throughput;
    let meter = EventMeter::open(Event::TaskClock)?;
    let formatter: &dyn ValueFormatter = meter.formatter();
    assert_eq!(formatter.format_value(12.5), "12.5 CPU ns");
    assert_eq!(formatter.format_throughput(&Throughput::Bytes(4), 12.0), "3.0000 CPU ns/byte");
    let mut values = [8.0];
    assert_eq!(formatter.scale_throughputs(8.0, &Throughput::Bytes(4), &mut values), "CPU ns/byte");
    assert!((values[0] - 2.0).abs() < f64::EPSILON);
    Ok(())
}

fn missing_is_a_reason() -> Result<(), Failed> {
    let others = [Event::L1dLoadMisses, Event::LlcLoadMisses, Event::CacheMisses, Event::RefCycles];
    for event in others.into_iter().chain([Event::Cycles, Event::TaskClock]) {
        match EventMeter::open(event) {
            Ok(meter) => {
                meter.start();
                work();
                assert!(event != Event::Cycles || meter.end(()) > 0);
            }
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
    Ok(())
}

fn counters(arguments: &str) -> Result<serde_json::Value, Failed> {
    let output = run(&format!("--netns loopback --duration 300ms --json {arguments}"));
    if !output.status.success() {
        return Err(stderr(&output).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn numbers_or_reasons() -> Result<(), Failed> {
    let result = counters("--counters all --threads 2")?;
    for side in ["server", "client"] {
        let events = result["counters"][side].as_object().ok_or("no counters")?;
        let mut names = 0;
        for (name, counter) in events.iter().filter(|(_, counter)| counter.is_object()) {
            names += 1;
            let counted = counter["value"].is_u64() && counter["scaled"].is_boolean();
            let missing = counter["unavailable"].as_str().is_some_and(|reason| !reason.is_empty());
            assert!(counted != missing, "{side}: {name}: {counter}");
        }
        assert_eq!(names, 13, "{result}");
        let task_clock_ns = events["task_clock_ns"]["value"].as_f64().ok_or("the kernel counts this")?;
        let per_message_ns = events["task_clock_ns"]["per_message"].as_f64().ok_or("no share")?;
        let counted = result["counters"]["messages"].as_f64().ok_or("no messages")?;
        assert!((per_message_ns * counted / task_clock_ns - 1.0).abs() < 1e-9, "{result}");
    }
    assert!(counters("")?["counters"].is_null());
    Ok(())
}

/// Runs the command as somebody who may not count the kernel: this user, or as root nobody.
fn nothing_by_halves() -> Result<Completion, Failed> {
    let paranoid = sendpath::host::sysctl("kernel/perf_event_paranoid").parse::<i32>()?;
    if paranoid != 2 {
        // At 1 everybody may count the kernel, at 3 (Debian, Ubuntu) nobody anything.
        return skip(&format!("kernel.perf_event_paranoid is {paranoid}, and this is about 2"));
    }
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("sendpath");
    std::fs::copy(env!("CARGO_BIN_EXE_sendpath"), &program)?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut command = common::clean(std::process::Command::new(program));
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command
        .args(["run", "--netns", "loopback", "--duration", "50ms", "--json"])
        .args(["--counters", "context-switches,page-faults,task-clock"])
        .output()?;
    if !output.status.success() {
        return Err(stderr(&output).into());
    }
    let result: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let server = &result["counters"]["server"];
    for name in ["context_switches", "page_faults"] {
        let reason = server[name]["unavailable"].as_str().ok_or(format!("{name} is counted: {server}"))?;
        assert!(reason.contains("perf_event_paranoid"), "{reason}");
    }
    assert!(server["task_clock_ns"]["value"].as_u64() > Some(0), "{server}");
    Ok(Completion::Completed)
}

/// On a testbed: what Criterion's meter counts is what the server's own threads count, all of it
/// and no more; four pairs, so that three threads of the pool are in it.
fn meter_agrees_with_threads() -> Result<(), Failed> {
    let mut testbed = Testbed::start(&Setup {
        topology: Topology::Loopback,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(env!("CARGO_BIN_EXE_sendpath").into()),
    })?;
    let meter = EventMeter::open(Event::TaskClock)?;
    testbed.count(&[Event::TaskClock]);
    let mut instance = testbed.open(Case {
        workload: Workload::Rr,
        path: SendPath::OneCopy,
        layout: Layout::Heap,
        payload_bytes: 65_536,
        threads: 4,
        placement: Placement::Paired,
        ..Case::default()
    })?;
    warm_up(&mut instance)?;
    meter.start();
    let sample = of_messages(&mut instance, 4000, Mode::Time)?;
    let inherited_ns = meter.end(()) as f64;
    let own_ns = sample.server.counters[&Event::TaskClock].value().ok_or("not counted")? as f64;
    let ratio = inherited_ns / own_ns;
    assert!((1.0..1.1).contains(&ratio), "{ratio}: {inherited_ns} and {own_ns}");
    // The threads' CPU time has the context switches in it, which the task clock has not.
    let ratio = own_ns / (sample.server.user_ns + sample.server.system_ns) as f64;
    assert!((0.8..1.05).contains(&ratio), "{ratio} of getrusage's CPU time");
    Ok(())
}

/// An ordinary user's bench is root, in a user namespace, by the time that it opens its counters.
fn user_namespace_root() -> Result<(), Failed> {
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe()?)
        .args(["--exact", "a_missing_event_is_a_reason_and_no_panic"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", stderr(&output));
    Ok(())
}
