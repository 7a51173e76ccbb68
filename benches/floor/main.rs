//! The suite's paths against the least code that moves the same bytes, interleaved in one run.
//!
//! `cargo bench --bench floor`; no part of a plain `cargo bench`. There are three floors (`raw.rs`), with
//! sockets set as the suite's and both ends on one CPU: `plain` moves one contiguous buffer by `send` and
//! `recv`; `pack` copies eight pieces together before and apart after, the least that `two_copy` can do;
//! `iovec` moves eight pieces by `sendmsg` and `recvmsg`, the least that `one_copy` can do. Where
//! `iperf3` is installed, `stream` runs against it.
//!
//! A round runs each rival of a size once, in random order, each over a new connection. Ratios are taken
//! inside a round; the table has their median and quartiles.

mod iperf;
mod raw;

use raw::Floor;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use sendpath::case::{Case, Layout, Placement, SendPath, Workload};
use sendpath::error::{Error, Result};
use sendpath::format::bytes;
use sendpath::measure::burst::{time, warm_up};
use sendpath::measure::environment::Environment;
use sendpath::pair::{Mode, Testbed};
use sendpath::settings::setup_from_variables;
use sendpath::topology::affinity::pin;

const ROUNDS: usize = 60;
const BURST_NS: u64 = 20_000_000;

/// What runs in a round.
#[derive(Clone, Copy, PartialEq)]
enum Rival {
    Floor(Floor),
    Suite(SendPath, Layout),
}

const PLAIN: Rival = Rival::Floor(Floor::Plain);
const IOVEC: Rival = Rival::Floor(Floor::Iovec);
const PACK: Rival = Rival::Floor(Floor::Pack);
const TWO_COPY: Rival = Rival::Suite(SendPath::TwoCopy, Layout::Heap);
const ONE_COPY: Rival = Rival::Suite(SendPath::OneCopy, Layout::Heap);
const ZERO_COPY: Rival = Rival::Suite(SendPath::ZeroCopy, Layout::Page);

/// A line of the table: how `of` compares with `to`, by time per round trip, and the bar for it.
struct Line {
    payload_bytes: usize,
    name: &'static str,
    of: Rival,
    to: Rival,
    bar: Option<Bar>,
}

enum Bar {
    /// Round trips per second, as a share of the other's.
    AtLeast(f64),
    /// Time of a round trip, as a multiple of the other's.
    AtMost(f64),
}

fn lines() -> Vec<Line> {
    let line = |payload_bytes, name, of, to, bar| Line { payload_bytes, name, of, to, bar };
    let mut lines = Vec::new();
    for (payload_bytes, two_copy, one_copy) in [
        (64, Some(Bar::AtLeast(0.98)), 0.98),
        (8 << 10, Some(Bar::AtLeast(0.98)), 0.98),
        (64 << 10, None, 0.97),
        (256 << 10, None, 0.97),
    ] {
        let mut add = |name, of, to, bar| lines.push(line(payload_bytes, name, of, to, bar));
        add("two_copy, round trips/s of the pack floor's", TWO_COPY, PACK, two_copy);
        add("one_copy, round trips/s of the iovec floor's", ONE_COPY, IOVEC, Some(Bar::AtLeast(one_copy)));
        add("two_copy, round trips/s of the plain floor's", TWO_COPY, PLAIN, None);
        add("one_copy, round trips/s of the plain floor's", ONE_COPY, PLAIN, None);
    }
    for (payload_bytes, bar) in [(64 << 10, 1.40), (256 << 10, 1.50)] {
        let bar = Some(Bar::AtMost(bar));
        lines.push(line(payload_bytes, "zero_copy page, round trip of two_copy's", ZERO_COPY, TWO_COPY, bar));
    }
    lines
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sendpath: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sendpath"));
    let setup = setup_from_variables(program)?;
    let mut testbed = Testbed::start(&setup)?;
    println!("{}", Environment::read(&setup, testbed.effective(), &[Placement::Paired]));
    let client_netns = File::open(format!("/proc/{}/ns/net", testbed.client_pid()))
        .map_err(Error::call("open(2) of the client's namespace"))?;

    println!("medians of {ROUNDS} rounds, one pair, both ends on one CPU (quartiles in brackets)");
    let mut lines = lines();
    lines.sort_by_key(|line| line.payload_bytes);
    for lines in lines.chunk_by(|a, b| a.payload_bytes == b.payload_bytes) {
        let rounds = rounds(&mut testbed, lines, &client_netns)?;
        for line in lines {
            print_line(line, &rounds);
        }
    }
    iperf::compare(&mut testbed, &client_netns)
}

/// The nanoseconds per round trip of every rival of `lines`, round by round.
fn rounds(testbed: &mut Testbed, lines: &[Line], client_netns: &File) -> Result<Vec<Vec<(Rival, f64)>>> {
    let mut rivals: Vec<Rival> = Vec::new();
    for rival in lines.iter().flat_map(|line| [line.of, line.to]) {
        if !rivals.contains(&rival) {
            rivals.push(rival);
        }
    }
    let payload_bytes = lines[0].payload_bytes;
    let mut messages = 200;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        shuffle(&mut rivals, round);
        let mut times = Vec::new();
        for &rival in &rivals {
            let elapsed_ns = once(testbed, rival, payload_bytes, messages, client_netns)?;
            times.push((rival, elapsed_ns as f64 / messages as f64));
        }
        if round == 0 {
            // The first round only finds how many messages fill a burst.
            messages = (BURST_NS as f64 / times[0].1) as u64;
        } else {
            rounds.push(times);
        }
    }
    Ok(rounds)
}

fn once(
    testbed: &mut Testbed,
    rival: Rival,
    payload_bytes: usize,
    messages: u64,
    client_netns: &File,
) -> Result<u64> {
    match rival {
        Rival::Floor(floor) => {
            let address = testbed.effective().server_link.address.to_bits();
            let cpus = testbed.effective().cpus.numbers().to_vec();
            let place = (address, client_netns.as_raw_fd(), cpus[0]);
            let elapsed_ns = raw::round_trips(floor, (payload_bytes, 200, messages), place);
            pin(&cpus)?;
            Ok(elapsed_ns)
        }
        Rival::Suite(path, layout) => {
            let mut instance = testbed.open(Case { path, layout, payload_bytes, ..Case::default() })?;
            warm_up(&mut instance)?;
            Ok(time(&mut instance, messages, Mode::Time)?.elapsed_ns)
        }
    }
}

fn print_line(line: &Line, rounds: &[Vec<(Rival, f64)>]) {
    let of =
        |times: &[(Rival, f64)], rival| times.iter().find(|(r, _)| *r == rival).map_or(f64::NAN, |t| t.1);
    let times = rounds.iter().map(|times| of(times, line.of) / of(times, line.to));
    let ratios = match line.bar {
        Some(Bar::AtMost(_)) => times.collect(),
        Some(Bar::AtLeast(_)) | None => times.map(f64::recip).collect(),
    };
    print_ratio(&bytes(line.payload_bytes as f64), line.name, ratios, line.bar.as_ref());
}

fn print_ratio(size: &str, name: &str, mut ratios: Vec<f64>, bar: Option<&Bar>) {
    ratios.sort_by(f64::total_cmp);
    let quantile = |share: f64| ratios[((ratios.len() - 1) as f64 * share).round() as usize];
    let (low, median, high) = (quantile(0.25), quantile(0.5), quantile(0.75));
    let verdict = |reached| if reached { "reached" } else { "SHORT" };
    let verdict = match bar {
        Some(Bar::AtLeast(bar)) => format!("  at least {bar:.2}: {}", verdict(median >= *bar)),
        Some(Bar::AtMost(bar)) => format!("  at most {bar:.2}: {}", verdict(median <= *bar)),
        None => String::new(),
    };
    println!("  {size:>7}  {name:<47} {median:.3} [{low:.3} {high:.3}]{verdict}");
}

/// Fisher and Yates, from a generator that is seeded by the round: the order of a run can be had again.
fn shuffle<T>(items: &mut [T], seed: usize) {
    let mut state = seed as u64 ^ 0x9E37_79B9_7F4A_7C15;
    for last in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (state >> 33) as usize % (last + 1));
    }
}
