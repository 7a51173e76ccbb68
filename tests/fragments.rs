//! Packets and fragments of a message: what the kernel's tracepoint counts is what is worked out
//! from the layout.

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use common::{in_namespaces, measure, skip, skip_without_root, where_possible};
use libtest_mimic::{Completion, Failed};
use nix::unistd::geteuid;
use sendpath::case::{Case, Layout, Receiver, SendPath};
use sendpath::counters::Frames;
use sendpath::fragments::Fragments;
use sendpath::measure::burst::warm_up;
use sendpath::pair::{Client, Setup, SocketOptions, Testbed};
use sendpath::topology::Topology;

fn main() -> ExitCode {
    common::one_by_one(vec![
        // First: the tests after it move an ordinary user to a namespace where it counts as root.
        where_possible("what_is_counted_is_what_is_worked_out", counted_and_worked_out),
        in_namespaces("they_stand_in_every_result", in_every_result),
    ])
}

/// Copies begin where those before them have left the allocator: one fragment more or less.
fn tolerance(path: SendPath) -> f64 {
    match path {
        SendPath::TwoCopy | SendPath::OneCopy | SendPath::Hybrid => 1.0,
        SendPath::ZeroCopy | SendPath::HybridZero | SendPath::Splice | SendPath::File => 0.0,
    }
}

fn counted_and_worked_out() -> Result<Completion, Failed> {
    let mut trace = match Frames::open(&["sink_p"]) {
        Ok(trace) => Some(trace),
        Err(errno) if geteuid().is_root() => return skip(&errno.to_string()),
        Err(errno) => return skip_without_root(&errno.to_string()),
    };
    let testbed = Testbed::start(&Setup {
        topology: Topology::Anonymous,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(PathBuf::from(env!("CARGO_BIN_EXE_sendpath"))),
    })?;
    let mut wrong = Vec::new();
    for way in [Layout::Heap, Layout::Page, Layout::Huge].into_iter().flat_map(common::ways) {
        for size_kib in [4, 8, 16, 32, 36, 64, 128, 256, 512, 1024] {
            let cell =
                Case { payload_bytes: size_kib << 10, receiver: Receiver::Sink, ..Case::default() }.cell();
            let case = cell.case(way);
            let mut instance = testbed.open(case)?;
            warm_up(&mut instance)?;
            let counted = instance.counted_fragments(&mut trace)??;
            let worked_out = instance.worked_out_fragments()??;
            let differ = |of: fn(&Fragments) -> f64| (of(&counted) - of(&worked_out)).abs();
            if differ(|found| found.packets_per_message) > 0.0
                || differ(|found| found.fragments_per_message) > tolerance(case.path)
            {
                wrong.push(format!("{case}: counted {counted:?}, worked out {worked_out:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(Completion::Completed)
}

fn in_every_result() -> Result<(), Failed> {
    for receiver in ["sink", "buffer"] {
        let found = measure(&format!("--path zero_copy --layout page --size 64K --receiver {receiver}"))?;
        assert_eq!(
            (&found["packets_per_message"], &found["fragments_per_message"]),
            (&2.0.into(), &17.0.into())
        );
        let is_counted = found["fragments_source"] == "counted";
        assert!(is_counted || found["fragments_source"] == "worked_out", "{found}");
        assert_eq!(
            found["fragments_not_counted"].is_string(),
            !is_counted,
            "a reason where there has to be one"
        );
    }
    // Of what is not worked out, there is a number where it was counted.
    let stream = measure("--workload stream --path zero_copy --layout page --size 64K --receiver sink")?;
    let is_known = stream["fragments_source"].is_string();
    assert_eq!(stream["fragments_per_message"].is_number(), is_known);
    assert_ne!(stream["fragments_not_counted"].is_string(), is_known);
    Ok(())
}
