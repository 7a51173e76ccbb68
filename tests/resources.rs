//! What a burst costs besides time: no allocation per message on either side, and bounded memory.
//!
//! This binary is the client of its own testbeds, so that one allocator counts in both processes.

mod common;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{anywhere, in_namespaces};
use libtest_mimic::Failed;
use sendpath::case::{Case, Cell, Engine, Layout, Placement, Receiver, SendPath, Shape, Workload};
use sendpath::measure::burst::{of_messages, verify};
use sendpath::pair::{Client, Mode, Setup, SocketOptions, Testbed, buffer_bytes};
use sendpath::sample::Side;
use sendpath::topology::Topology;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands every call on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Memory) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Where the client leaves its count when it ends.
const COUNT_FILE: &str = "SENDPATH_TEST_COUNT_FILE";

const PATHS: [SendPath; 3] = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("client") {
        let result = sendpath::pair::client::main(true, || serde_json::Value::Null);
        if let Some(file) = std::env::var_os(COUNT_FILE) {
            let count = ALLOCATIONS.load(Ordering::Relaxed).to_string();
            std::fs::write(file, count).expect("the count is written");
        }
        return if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    // SAFETY: this process has no second thread yet.
    unsafe { std::env::set_var(COUNT_FILE, folder.path().join("count")) };
    common::one_by_one(vec![
        anywhere("nothing_is_allocated_per_message_on_either_side", || nothing_per_message(Receiver::Buffer)),
        in_namespaces("nothing_is_allocated_per_message_into_the_sink", || {
            nothing_per_message(Receiver::Sink)
        }),
        in_namespaces("nothing_is_allocated_per_message_by_a_receiver_that_maps", || {
            nothing_per_message(Receiver::Mmap)
        }),
        anywhere("memory_of_256_pairs_is_bounded_on_either_side", memory_is_bounded),
    ])
}

fn testbed(topology: Topology) -> Result<Testbed, Failed> {
    testbed_of_mtu(topology, None)
}

fn testbed_of_mtu(topology: Topology, mtu_bytes: Option<u32>) -> Result<Testbed, Failed> {
    Ok(Testbed::start(&Setup {
        topology,
        mtu_bytes,
        socket: SocketOptions::default(),
        client: Client::Child(std::env::current_exe()?),
    })?)
}

fn case(workload: Workload, path: SendPath, payload_bytes: usize, threads: usize) -> Case {
    Case {
        workload,
        path,
        layout: Layout::Heap,
        payload_bytes,
        threads,
        placement: Placement::Free,
        ..Case::default()
    }
}

/// Allocations of the server and of the client in the life of a testbed that runs five bursts of
/// `messages`.
fn allocations(case: Case, mode: Mode, messages: u64) -> Result<(u64, u64), Failed> {
    let testbed = match case.receiver {
        Receiver::Sink => testbed(Topology::Anonymous)?,
        // Segments of whole pages, or nothing is mapped.
        Receiver::Mmap => testbed_of_mtu(Topology::Anonymous, Some(4096 + 52))?,
        _ => testbed(Topology::Loopback)?,
    };
    let mut instance = testbed.open(case)?;
    verify(&mut instance)?;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..5 {
        let sample = of_messages(&mut instance, messages, mode)?;
        if case.receiver == Receiver::Mmap && case.path == SendPath::ZeroCopy {
            assert_eq!(sample.client.copies.mapped_share(), Some(1.0), "{case}");
        }
    }
    let server = ALLOCATIONS.load(Ordering::Relaxed) - before;
    drop(instance);
    drop(testbed); // waits for the client
    let file = std::env::var_os(COUNT_FILE).ok_or("no file")?;
    Ok((server, std::fs::read_to_string(file)?.parse()?))
}

fn nothing_per_message(receiver: Receiver) -> Result<(), Failed> {
    for workload in [Workload::Rr, Workload::Stream] {
        for way in common::ways(Layout::Heap) {
            // What receives by mapping is looked at once, and what a clock adds by the paths that
            // are measured most.
            let is_studied = way.engine == Engine::Syscall && SendPath::STUDIED.contains(&way.path);
            if receiver == Receiver::Mmap && !is_studied {
                continue;
            }
            for mode in [Mode::TimeEach, Mode::Time].into_iter().take(if is_studied { 2 } else { 1 }) {
                // A field of each kind for the hybrids: one that is copied, and one that is not.
                let (shape, payload_bytes) = (Shape::Header, 24 + 8192);
                let cell = case(workload, SendPath::TwoCopy, payload_bytes, 2).cell();
                let mut case = Cell { receiver, shape, ..cell }.case(way);
                if receiver == Receiver::Mmap {
                    // Whole pages.
                    (case.shape, case.payload_bytes, case.layout) = (Shape::Equal, 64 << 10, Layout::Page);
                }
                let few = allocations(case, mode, 10)?;
                let many = allocations(case, mode, 2000)?;
                // Frames are decimal, and histograms sparse: longer bursts make some longer
                // vectors, of which growing costs an allocation now and then. A message each would
                // be 4,000 a burst.
                let slack = 200;
                assert!(many.0 <= few.0 + slack, "{case}, {mode:?}: server {} then {}", few.0, many.0);
                assert!(many.1 <= few.1 + slack, "{case}, {mode:?}: client {} then {}", few.1, many.1);
            }
        }
    }
    Ok(())
}

/// The most memory that a process has had resident, in bytes.
fn peak_bytes(pid: &str) -> Result<usize, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}

fn memory_is_bounded() -> Result<(), Failed> {
    for workload in [Workload::Rr, Workload::Stream] {
        for path in PATHS {
            let case = case(workload, path, 64 << 10, 256);
            let testbed = testbed(Topology::Loopback)?;
            let client = testbed.client_pid().to_string();
            let mut instance = testbed.open(case)?;
            verify(&mut instance)?;
            of_messages(&mut instance, 20, Mode::TimeEach)?;
            // The server's peak is that of all cases so far, which only makes this harder.
            for (side, pid) in [(Side::Server, "self"), (Side::Client, &client)] {
                let (peak, bound) = (peak_bytes(pid)?, 2 * buffer_bytes(&case, side)? + (64 << 20));
                assert!(peak <= bound, "{case}: {side} has {peak} bytes, bound {bound}");
            }
        }
    }
    Ok(())
}
