//! Whether a send was copied, told without the kernel's word: messages are overwritten after the
//! call, and the receiver looks. And a kernel whose word is wrong is found out.

mod common;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use common::{clean, in_namespaces, measure, skip_without_root, where_possible};
use libtest_mimic::Failed;
use nix::sched::{CloneFlags, setns};
use sendpath::case::{Case, Layout, SendPath, Series};
use sendpath::measure::burst::{of_messages, warm_up};
use sendpath::measure::environment;
use sendpath::pair::{Client, Mode, Setup, SocketOptions, Testbed};
use sendpath::program;
use sendpath::report;
use sendpath::results::record::{Arm, Record};
use sendpath::results::store::{Manifest, Plan, SCHEMA, StoredSweep};
use sendpath::topology::Topology;

/// What the part of this program that runs in namespaces of its own ends with, where it cannot run.
const SKIPPED: i32 = 77;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("behind-xdp") {
        return behind_xdp();
    }
    let mut trials = Vec::new();
    for way in common::ways(Layout::Heap) {
        for (size, payload_bytes) in [("4K", 4096_u64), ("64K", 65536), ("256K", 262_144)] {
            let name = format!("over_veth_flag_and_bytes_agree/{}/{}/{size}", way.path, way.engine);
            trials.push(in_namespaces(&name, move || agree(way, payload_bytes)));
        }
    }
    trials.push(in_namespaces("many_pairs_of_a_stream_are_overwritten_too", || {
        let result = measure("--path zero_copy --workload stream --threads 8 --placement free")?;
        assert_eq!(result["seen"]["old_bytes"], 8 * 4 * 65536, "{result}");
        Ok(())
    }));
    trials.push(in_namespaces("of_a_trace_each_message_is_overwritten_as_long_as_it_is", || {
        let result = measure("--shape 1x128K|3x64")?;
        assert_eq!(result["seen"]["old_bytes"], (128 << 10) + 3 * 64, "four messages are one turn: {result}");
        Ok(())
    }));
    trials.push(in_namespaces("where_nothing_can_be_seen_there_is_no_number", || {
        // The messages of the last have 250 KiB on the average.
        for arguments in
            ["--receiver discard", "--size 512K", "--size 64K --buffers 64K", "--shape 1x10M|40x64"]
        {
            let result = measure(arguments)?;
            assert!(result["seen"].is_null() && result["contradiction"].is_null(), "{arguments}: {result}");
        }
        Ok(())
    }));
    trials.push(where_possible("behind_xdp_the_flag_is_wrong_and_the_bytes_tell", || {
        let output = clean(Command::new(std::env::current_exe()?)).arg("behind-xdp").output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(libtest_mimic::Completion::Completed),
            Some(SKIPPED) => skip_without_root(&text),
            _ => Err(format!("{}\n{text}", output.status).into()),
        }
    }));
    common::side_by_side(trials)
}

fn agree(way: Series, payload_bytes: u64) -> Result<(), Failed> {
    let Series { path, engine, .. } = way;
    let result = measure(&format!("--path {path} --engine {engine} --size {payload_bytes}"))?;
    // Pages that go through a pipe or out of a file are copied by the receiver alone.
    let is_shared = matches!(path, SendPath::Splice | SendPath::File);
    let (old_bytes, new_bytes) = if is_shared { (0, 4 * payload_bytes) } else { (4 * payload_bytes, 0) };
    assert_eq!(result["seen"]["old_bytes"], old_bytes, "{result}");
    assert_eq!(result["seen"]["new_bytes"], new_bytes, "{result}");
    assert!(result["contradiction"].is_null(), "{result}");
    if path == SendPath::ZeroCopy {
        assert_eq!(result["zero_copy"]["copied_share"], 1.0, "{result}");
    }
    Ok(())
}

/// In a process of its own, since the testbed moves it into a namespace.
fn behind_xdp() -> ExitCode {
    let program = match load_xdp_pass() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("bpf(2) BPF_PROG_LOAD: {error}: this user may load no XDP program");
            return ExitCode::from(SKIPPED as u8);
        }
    };
    match contradiction_behind_xdp(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn contradiction_behind_xdp(program: i32) -> Result<(), Box<dyn std::error::Error>> {
    let setup = Setup {
        topology: Topology::Anonymous,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(PathBuf::from(env!("CARGO_BIN_EXE_sendpath"))),
    };
    let testbed = Testbed::start(&setup)?;
    let namespace = File::open(format!("/proc/{}/ns/net", testbed.client_pid()))?;
    std::thread::spawn(move || -> io::Result<()> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        attach_xdp(program, "veth_c")
    })
    .join()
    .expect("the thread does not panic")?;

    let case = Case {
        path: SendPath::ZeroCopy,
        layout: Layout::Page,
        payload_bytes: 65536,
        threads: 1,
        ..Case::default()
    };
    let mut instance = testbed.open(case)?;
    warm_up(&mut instance)?;
    let seen = instance.overwrite()?.ok_or("nothing was overwritten")?;
    let mut sample = of_messages(&mut instance, 100, Mode::Time)?;
    let counts = sample.server.zero_copy.ok_or("no counts")?;
    eprintln!("{counts}, copied {}; {seen}", counts.copied);
    if (counts.copied, counts.completions) != (0, counts.sends) || seen.old_bytes != 4 * 65536 {
        return Err("the kernel was to deny the copies that XDP makes".into());
    }
    drop(instance);

    // And the page of a sweep that measured this says so.
    sample.client.seen = Some(seen);
    let arm = Arm { case, control: false };
    let record = Record { generation: 0, round: 0, position: 0, arm, timed: true, outcome: Ok(sample) };
    let manifest = Manifest {
        schema: SCHEMA,
        program: program::this(),
        started: "2026-11-20T13:30:00Z".to_owned(),
        host: "host".to_owned(),
        command: vec!["sendpath".to_owned(), "sweep".to_owned()],
        resumed: Vec::new(),
        events: Vec::new(),
        plan: Plan {
            profile: "quick".to_owned(),
            seed: 1,
            precision: 0.01,
            series: vec![case.series()],
            cells: vec![case.cell()],
            only_in: Vec::new(),
        },
        not_counted: std::collections::BTreeMap::new(),
        injections: Vec::new(),
        heap_pages: Vec::new(),
        fragments: std::collections::BTreeMap::new(),
        no_sink: None,
        load: None,
        copy_causes: sendpath::environment::CopyCauses::default(),
        environment: Some(environment::read(&setup, testbed.effective(), &[case.placement])?),
        checks: Vec::new(),
    };
    let folder = PathBuf::from("sweep");
    let page = report::page(&StoredSweep {
        folder,
        manifest,
        records: vec![record],
        samples_bytes: 0,
        warnings: Vec::new(),
    });
    let said =
        |warning: &&String| warning.starts_with("Contradiction: ") && warning.contains("no completion says");
    page.warnings.iter().find(said).ok_or("the page does not say so")?;
    Ok(())
}

/// The start of `union bpf_attr`, in words: see `<linux/bpf.h>` and `bpf(2)`.
fn bpf(command: libc::c_long, words: &[u32]) -> io::Result<i32> {
    let mut attributes = [0_u32; 32];
    attributes[..words.len()].copy_from_slice(words);
    // SAFETY: the attributes are live and as long as the call is told; what they point to outlives
    // it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size_of_val(&attributes)) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(i32::try_from(result).expect("a descriptor"))
    }
}

/// Loads an XDP program that passes every packet on.
fn load_xdp_pass() -> io::Result<i32> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    /// r0 = 2 (`XDP_PASS`); exit.
    static PROGRAM: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let halves = |address: usize| [address as u32, (address as u64 >> 32) as u32];
    let (instructions, license) = (halves(PROGRAM.as_ptr().addr()), halves(c"GPL".as_ptr().addr()));
    let words = [BPF_PROG_TYPE_XDP, 2, instructions[0], instructions[1], license[0], license[1]];
    bpf(BPF_PROG_LOAD, &words)
}

/// Attaches it to an interface of the calling thread's namespace, until this process ends.
fn attach_xdp(program: i32, interface: &str) -> io::Result<()> {
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_XDP: u32 = 37;
    let name = CString::new(interface).expect("a name without a zero");
    // SAFETY: the name is a live C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    bpf(BPF_LINK_CREATE, &[program.cast_unsigned(), index, BPF_XDP, 0]).map(drop)
}
