//! The suite's paths against the least code that moves the same bytes, interleaved in one run.
//!
//! `cargo bench -p experiments --bench floor`. There are five floors, with sockets set as the
//! suite's, as many messages in turn and the same CPUs. Four have the same receiver, one contiguous
//! buffer (`raw.rs`): `plain` sends one contiguous buffer by `send`; `pack` copies eight pieces
//! together before, the least that `two_copy` can do; `iovec` sends eight pieces by `sendmsg`, the
//! least that `one_copy` can do. These make the C library's calls; `in place` is `plain` without
//! any function around a system call. The fifth sends into the sink, by each path's calls, and
//! plays the peer as the suite does (`sink.rs`). Where `iperf3` is installed, `stream` runs against
//! it.
//!
//! A round runs each rival of a size and number of pairs once, in random order, each over new
//! connections. Ratios are taken inside a round; the table has their median and its
//! 95 % interval, of which the verdict is read off.
//! `-- 'K × 256' iperf3` chooses lines.

mod iperf;
#[path = "../ratios.rs"]
mod ratios;
mod raw;
mod sink;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use ratios::Median;
use raw::{Floor, Load};
use sendpath::case::{Case, Engine, Layout, Placement, Receiver, SendPath, Series};
use sendpath::error::{Error, Result};
use sendpath::format::bytes;
use sendpath::measure::burst::{long_duration, time, warm_up};
use sendpath::measure::environment;
use sendpath::pair::{Mode, Testbed, source_messages};
use sendpath::sample::Side;
use sendpath::settings::{Link, Settings};
use sendpath::topology::affinity::pin;

/// What runs in a round.
#[derive(Clone, Copy, PartialEq)]
enum Rival {
    Floor(Floor),
    Suite(SendPath, Layout),
    /// The same through the sink, where only the sender is there.
    SinkFloor(Series),
    SinkSuite(Series),
}

const PLAIN: Rival = Rival::Floor(Floor::Plain);
const IOVEC: Rival = Rival::Floor(Floor::Iovec);
const PACK: Rival = Rival::Floor(Floor::Pack);
const TWO_COPY: Rival = Rival::Suite(SendPath::TwoCopy, Layout::Heap);
const ONE_COPY: Rival = Rival::Suite(SendPath::OneCopy, Layout::Heap);
const IN_PLACE: Rival = Rival::Floor(Floor::InPlace);
const ZERO_COPY: Rival = Rival::Suite(SendPath::ZeroCopy, Layout::Page);

/// What is compared in rounds of its own.
struct Cell {
    payload_bytes: usize,
    threads: usize,
    rounds: usize,
    burst: Duration,
    lines: Vec<Line>,
}

/// A line of the table: how `of` compares with `to`, by time per round trip, and the bar for it.
struct Line {
    name: String,
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

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (payload_bytes, two_copy, one_copy) in [
        (64, Some(Bar::AtLeast(0.98)), 0.98),
        (8 << 10, Some(Bar::AtLeast(0.98)), 0.98),
        (64 << 10, None, 0.97),
        (256 << 10, None, 0.97),
    ] {
        let line = |name: &str, of, to, bar| Line { name: name.to_owned(), of, to, bar };
        let mut lines = vec![
            line("two_copy, round trips/s of the pack floor's", TWO_COPY, PACK, two_copy),
            line(
                "one_copy, round trips/s of the iovec floor's",
                ONE_COPY,
                IOVEC,
                Some(Bar::AtLeast(one_copy)),
            ),
            line("two_copy, round trips/s of the plain floor's", TWO_COPY, PLAIN, None),
            line("one_copy, round trips/s of the plain floor's", ONE_COPY, PLAIN, None),
            line("two_copy, round trips/s of plain calls in place", TWO_COPY, IN_PLACE, None),
            line("one_copy, round trips/s of plain calls in place", ONE_COPY, IN_PLACE, None),
            line("the plain floor, round trips/s of calls in place", PLAIN, IN_PLACE, None),
        ];
        let zero_copy = match payload_bytes {
            0x1_0000 => Some(1.40),
            0x4_0000 => Some(1.50),
            _ => None,
        };
        if let Some(most) = zero_copy {
            let bar = Some(Bar::AtMost(most));
            lines.push(line("zero_copy page, round trip of two_copy's", ZERO_COPY, TWO_COPY, bar));
        }
        cells.push(Cell { payload_bytes, threads: 1, rounds: 60, burst: Duration::from_millis(20), lines });
    }
    for threads in [4, 64, 256] {
        let bar = (threads > 4).then_some(Bar::AtLeast(0.95));
        let lines = vec![Line {
            name: "one_copy, round trips/s of the plain floor's".to_owned(),
            of: ONE_COPY,
            to: PLAIN,
            bar,
        }];
        let burst = Duration::from_millis(500);
        cells.push(Cell { payload_bytes: 64 << 10, threads, rounds: 21, burst, lines });
    }
    for payload_bytes in [64, 4 << 10, 64 << 10, 256 << 10, 1 << 20] {
        let is_studied =
            |way: &Series| way.engine == Engine::Syscall && SendPath::STUDIED.contains(&way.path);
        let line = |way: Series| Line {
            name: format!("{}{} sink, messages/s of its floor's", way.path, way.departures()),
            of: Rival::SinkSuite(way),
            to: Rival::SinkFloor(way),
            bar: Some(Bar::AtLeast(if is_studied(&way) { 0.95 } else { 0.97 })),
        };
        let ways = Series::every(Layout::Heap).into_iter();
        // The paths that are measured by default at every size, the others at three.
        let lines: Vec<Line> = match payload_bytes {
            0x40 | 0x1_0000 | 0x10_0000 => ways.map(line).collect(),
            _ => ways.filter(is_studied).map(line).collect(),
        };
        cells.push(Cell { payload_bytes, threads: 1, rounds: 60, burst: Duration::from_millis(20), lines });
    }
    cells
}

fn main() -> ExitCode {
    let outcome = match std::env::var(raw::CLIENT) {
        Ok(load) => raw::client(&load).map_err(Error::call("the floor's client")),
        Err(_) => run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sendpath: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_experiments"));
    let setup = Settings::<Link>::from_variables()?.setup(program)?;
    let testbed = Testbed::start(&setup)?;
    println!("{}", environment::read(&setup, testbed.effective(), &[Placement::Paired])?);
    let client_netns = File::open(format!("/proc/{}/ns/net", testbed.client_pid()))
        .map_err(Error::call("open(2) of the client's namespace"))?;

    println!(
        "medians of interleaved rounds, both ends of a pair on one CPU (95 % interval of the median in brackets)"
    );
    // As Criterion's: only what contains one of the words that are given.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    for mut cell in cells() {
        let size = cell.name();
        cell.lines.retain(|line| chosen(&format!("{size} {}", line.name)));
        let rounds = rounds(&testbed, &cell, &client_netns)?;
        for line in &cell.lines {
            print_line(&cell, line, &rounds);
        }
    }
    if chosen("iperf3") { iperf::compare(&testbed, &client_netns) } else { Ok(()) }
}

impl Cell {
    fn name(&self) -> String {
        format!("{} × {}", bytes(self.payload_bytes as f64), self.threads)
    }
}

/// The nanoseconds by round trip of every rival of `cell`, round by round.
fn rounds(testbed: &Testbed, cell: &Cell, client_netns: &File) -> Result<Vec<Vec<(Rival, f64)>>> {
    let mut rivals: Vec<Rival> = Vec::new();
    for rival in cell.lines.iter().flat_map(|line| [line.of, line.to]) {
        if !rivals.contains(&rival) {
            rivals.push(rival);
        }
    }
    // Seeded, so that a run can be repeated.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut rounds = Vec::new();
    for _ in 0..cell.rounds {
        rivals.shuffle(&mut rng);
        let times = rivals.iter().map(|&rival| Ok((rival, once(testbed, rival, cell, client_netns)?)));
        rounds.push(times.collect::<Result<Vec<_>>>()?);
    }
    Ok(rounds)
}

fn once(testbed: &Testbed, rival: Rival, cell: &Cell, client_netns: &File) -> Result<f64> {
    let case = Case { payload_bytes: cell.payload_bytes, threads: cell.threads, ..Case::default() };
    match rival {
        Rival::Floor(floor) => {
            let cpus = (0..case.threads)
                .map(|pair| Ok(testbed.effective().cpus.place(case.placement, Side::Server, pair)?[0]));
            let load = Load {
                floor,
                payload_bytes: case.payload_bytes,
                source_messages: source_messages(&case)?,
                warm_up: 200_u64.div_ceil(case.threads as u64).max(10),
                duration: cell.burst,
                cpus: cpus.collect::<Result<Vec<_>>>()?,
                server: (testbed.effective().server_link.address, 0).into(),
            };
            let outcome = raw::run(load, client_netns).map_err(Error::call("the floor"))?;
            Ok(outcome.round_trip_ns())
        }
        Rival::SinkFloor(way) => {
            let cpus = &testbed.effective().cpus;
            pin(&cpus.place(case.placement, Side::Server, 0)?[..1])?;
            let raw = || {
                let parts = testbed.sink_parts().map_err(std::io::Error::other)?;
                let messages = source_messages(&case).map_err(std::io::Error::other)?;
                let mut sender = sink::RawSender::new(way, case.payload_bytes, messages, parts)?;
                sender.run(cell.burst / 4)?;
                sender.run(cell.burst.max(Duration::from_millis(50)))
            };
            let message_ns = raw().map_err(Error::call("the sink's floor"));
            pin(cpus.numbers())?;
            message_ns
        }
        Rival::Suite(..) | Rival::SinkSuite(_) => {
            let case = match rival {
                Rival::Suite(path, layout) => Case { path, layout, ..case },
                Rival::SinkSuite(way) => Case { receiver: Receiver::Sink, ..case.cell().case(way) },
                Rival::Floor(_) | Rival::SinkFloor(_) => case,
            };
            let mut instance = testbed.open(case)?;
            warm_up(&mut instance)?;
            // As long as the bursts of `sendpath run`, where a cell does not ask for more.
            let duration = long_duration(&instance).max(cell.burst);
            let sample = time(&mut instance, duration, Mode::Time)?;
            Ok(sample.elapsed_ns as f64 / sample.messages as f64)
        }
    }
}

fn print_line(cell: &Cell, line: &Line, rounds: &[Vec<(Rival, f64)>]) {
    let of =
        |times: &[(Rival, f64)], rival| times.iter().find(|(r, _)| *r == rival).map_or(f64::NAN, |t| t.1);
    let times = rounds.iter().map(|times| of(times, line.of) / of(times, line.to));
    let ratios = match line.bar {
        Some(Bar::AtMost(_)) => times.collect(),
        Some(Bar::AtLeast(_)) | None => times.map(f64::recip).collect(),
    };
    print_ratio(&cell.name(), &line.name, ratios, line.bar.as_ref());
}

fn print_ratio(size: &str, name: &str, ratios: Vec<f64>, bar: Option<&Bar>) {
    let Some(median) = Median::of(ratios) else { return };
    let verdict = match bar {
        Some(Bar::AtLeast(bar)) => {
            format!("  at least {bar:.2}: {}", verdict(median.low >= *bar, median.high < *bar))
        }
        Some(Bar::AtMost(bar)) => {
            format!("  at most {bar:.2}: {}", verdict(median.high <= *bar, median.low > *bar))
        }
        None => String::new(),
    };
    println!("  {size:>13}  {name:<49} {median}{verdict}");
}

/// As everywhere: read off the interval that is printed.
fn verdict(is_reached: bool, is_short: bool) -> &'static str {
    match (is_reached, is_short) {
        (true, _) => "reached",
        (_, true) => "SHORT",
        _ => "undecided",
    }
}
