//! Many messages by every way to send, each byte of each checked.
//!
//! `SENDPATH_VERIFIED_MESSAGES=10000000 cargo test --release --test verified` is the long run;
//! docs/book/src/timed.md has its result.

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use common::in_namespaces;
use libtest_mimic::Failed;
use sendpath::case::{Case, Cell, Layout, Receiver, Series, Shape, Workload};
use sendpath::environment::Topology;
use sendpath::measure::burst::of_messages;
use sendpath::pair::{Client, Mode, Setup, SocketOptions, Testbed};

fn main() -> ExitCode {
    common::one_by_one(vec![in_namespaces("every_byte_of_many_messages_arrives_by_every_way", every_way)])
}

fn messages() -> Result<u64, Failed> {
    match std::env::var("SENDPATH_VERIFIED_MESSAGES") {
        Ok(text) => Ok(text.parse().map_err(|_| "SENDPATH_VERIFIED_MESSAGES is not a number")?),
        Err(_) => Ok(30_000),
    }
}

/// What is sent, to whom, and its share of all messages: small ones are many.
fn kinds() -> Vec<(Cell, f64)> {
    let cell = Case::default().cell();
    let kind = |workload, shape: &str, payload_bytes, receiver, share| {
        let shape: Shape = shape.parse().expect("a shape");
        let payload_bytes = shape.own_payload_bytes().unwrap_or(payload_bytes);
        (Cell { workload, shape, payload_bytes, receiver, threads: 2, ..cell }, share)
    };
    vec![
        kind(Workload::Stream, "equal", 64, Receiver::Buffer, 0.40),
        kind(Workload::Rr, "equal", 64, Receiver::Fields, 0.20),
        kind(Workload::Stream, "fields:64", 1000, Receiver::Unpack, 0.20),
        kind(Workload::Stream, "97x64|2x24,5000|1x24,128K", 0, Receiver::Mmap, 0.15),
        kind(Workload::Rr, "header", 16 << 10, Receiver::Buffer, 0.05),
    ]
}

fn every_way() -> Result<(), Failed> {
    let testbed = Testbed::start(&Setup {
        topology: Topology::Anonymous,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Child(PathBuf::from(env!("CARGO_BIN_EXE_sendpath"))),
    })?;
    let ways = [Layout::Heap, Layout::Page].into_iter().flat_map(common::ways);
    let ways: Vec<Series> = ways.collect();
    let (messages, mut verified, mut left_out) = (messages()?, 0, 0);
    for &way in &ways {
        for (cell, share) in kinds() {
            let case = cell.case(way.copying_below(512));
            let by_pair = (messages as f64 * share / (ways.len() * case.threads) as f64).ceil() as u64;
            let mut instance = match testbed.open(case) {
                // The memory of all messages is locked as one, beside the ring's.
                Err(error) if common::is_beyond_memlock(&error.to_string()) => {
                    eprintln!("left out: {case}: {error}");
                    left_out += by_pair * case.threads as u64;
                    continue;
                }
                opened => opened?,
            };
            let sample = of_messages(&mut instance, by_pair, Mode::Verify)
                .map_err(|error| format!("{case}: {error}"))?;
            assert_eq!(sample.client.verified_messages, sample.messages, "{case}");
            verified += sample.client.verified_messages;
        }
    }
    eprintln!("{verified} messages by {} ways, every byte as it was sent", ways.len());
    assert!(verified + left_out >= messages && verified > messages / 2);
    Ok(())
}
