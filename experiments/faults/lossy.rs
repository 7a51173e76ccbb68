//! Every byte of many messages is compared over a link that loses frames.

use std::time::Instant;

use sendpath::case::{Case, Layout, Placement, Receiver, SendPath, Workload};
use sendpath::measure::burst::of_messages;
use sendpath::pair::{Client, Mode, Peer, Setup, SocketOptions, Testbed};
use sendpath::topology::Topology;

use super::Tally;
use super::place::{Place, done, ip};

/// Frames that are lost each way.
const LOSS: f64 = 0.002;
const PAIRS: usize = 8;
/// Sizes, and of how many messages one has each.
const SIZES: [(usize, u64); 4] = [(64, 1), (1000, 10), (16 << 10, 200), (256 << 10, 4000)];
/// Of how many messages one is a round trip: each waits for what was lost.
const ROUND_TRIPS: u64 = 50;
/// Messages on a pair between two lines of progress.
const CHUNK: u64 = 200_000;

/// A filter in classic BPF, as `tc-bpf(8)` takes it: drops some of the frames that arrive, at
/// random. It is in kernels that have no netem, and unlike a queue that overflows, it loses those
/// of a round trip as well.
fn filter() -> String {
    const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
    let (load, jump_if_at_least, end) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let lost = (LOSS * f64::from(u32::MAX)) as u32;
    // TC_ACT_OK is 0, TC_ACT_SHOT 2.
    format!("4,{load} 0 0 {RANDOM},{jump_if_at_least} 1 0 {lost},{end} 0 0 2,{end} 0 0 0")
}

/// Verifies about `messages` messages, and no fewer.
pub fn verify(place: &Place, messages: u64) -> anyhow::Result<Tally> {
    let filter = format!("filter add dev wire ingress bpf da bytecode '{}'", filter());
    for arguments in ["qdisc add dev wire clsact", &filter] {
        done("tc", arguments)?;
        place.in_client("tc", arguments)?;
    }
    // What was lost is sent again after some milliseconds, where the kernel waits 200 by default.
    ip("route change 10.79.0.0/24 dev wire rto_min 5ms")?;
    place.client_ip("route change 10.79.0.0/24 dev wire rto_min 5ms")?;
    let testbed = Testbed::start(&Setup {
        topology: Topology::Peer,
        mtu_bytes: None,
        socket: SocketOptions::default(),
        client: Client::Peer(Peer::parse(&place.peer())?),
    })?;
    println!("lossy: {} % of all frames are lost each way", LOSS * 100.0);
    let (began, mut verified, mut sent_again) = (Instant::now(), 0, 0);
    let paths = [SendPath::TwoCopy, SendPath::OneCopy, SendPath::ZeroCopy];
    for workload in [Workload::Rr, Workload::Stream] {
        for (payload_bytes, share) in SIZES.into_iter().rev() {
            for (number, path) in paths.into_iter().enumerate() {
                let all = if workload == Workload::Rr { messages / ROUND_TRIPS } else { messages };
                let mut left = (all / share / 3).max(100);
                // The last one makes up for what rounding has left out.
                if workload == Workload::Stream && share == 1 {
                    left = messages.saturating_sub(verified) / (3 - number as u64);
                }
                let layout = if path == SendPath::ZeroCopy { Layout::Page } else { Layout::Heap };
                let placement = Placement::Free;
                let receiver = if number == 0 { Receiver::Buffer } else { Receiver::Fields };
                let case = Case {
                    workload,
                    path,
                    layout,
                    payload_bytes,
                    threads: PAIRS,
                    placement,
                    receiver,
                    ..Case::default()
                };
                let mut instance = testbed.open(case)?;
                while left > 0 {
                    let each = left.div_ceil(PAIRS as u64).min(CHUNK);
                    // A byte that differs is an error, and ends all.
                    let sample = of_messages(&mut instance, each, Mode::Verify)?;
                    anyhow::ensure!(
                        sample.client.verified_messages == each * PAIRS as u64,
                        "not all were compared"
                    );
                    verified += sample.client.verified_messages;
                    sent_again += sample.server.retransmitted_segments.unwrap_or_default();
                    left = left.saturating_sub(each * PAIRS as u64);
                    let s = began.elapsed().as_secs();
                    println!(
                        "  {s:>5} s  {case:<44}  {verified:>11} messages verified, {sent_again} segments sent again"
                    );
                }
            }
        }
    }
    anyhow::ensure!(sent_again > 0, "no segment was sent again: the link was not lossy");
    let what = format!(
        "messages over a link that loses {} % of all frames ({sent_again} segments sent again, 0 messages corrupted)",
        LOSS * 100.0
    );
    Ok(Tally { times: verified, ..Tally::new(what) })
}
