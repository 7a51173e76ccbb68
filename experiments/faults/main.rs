//! What becomes of the suite when its surroundings fail:
//! `cargo bench -p experiments --bench faults`, as root, by name alone.
//!
//! Two network namespaces without a name, joined by a veth pair, with the client started by
//! `--peer`. `calls` fails each system call that either side makes, once at each place
//! (`calls.rs`); `strikes 200` kills and stops processes and cuts the link at random moments
//! (`strikes.rs`); `lossy 100000000` verifies so many messages over a link that loses frames
//! (`lossy.rs`); `limits` runs every command under each `setrlimit(2)` at ten values (`limits.rs`).
//! Words after `--` choose parts and numbers, as in `-- calls strikes 20 seed 7`;
//! without any, all run. The last lines are the table of docs/book/src/evidence/faults.md. The exit
//! code is 1 where anything in it is not 0.

mod calls;
mod injector;
mod limits;
mod lossy;
mod place;
mod stored;
mod strikes;

use std::process::ExitCode;

use anyhow::Context;
use place::Place;

/// A line of the table.
#[derive(Default)]
struct Tally {
    what: String,
    times: u64,
    hangs: u64,
    leftovers: u64,
    lost_rounds: u64,
    without_cause: u64,
}

impl Tally {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    fn is_clean(&self) -> bool {
        self.hangs + self.leftovers + self.lost_rounds + self.without_cause == 0
    }
}

/// What the words ask for.
struct Chosen {
    calls: bool,
    limits: bool,
    strikes: u64,
    lossy: u64,
    seed: u64,
}

impl Chosen {
    const STRIKES: u64 = 200;
    const MESSAGES: u64 = 100_000_000;

    fn parse(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        // Cargo gives `--bench` besides.
        let mut words = words.filter(|word| !word.starts_with('-')).peekable();
        let mut chosen = Self { calls: false, limits: false, strikes: 0, lossy: 0, seed: rand::random() };
        let mut any = false;
        while let Some(word) = words.next() {
            let number = words.next_if(|next| next.parse::<u64>().is_ok());
            let number = number.and_then(|number| number.parse().ok());
            any |= word != "seed";
            match word.as_str() {
                "calls" => chosen.calls = true,
                "limits" => chosen.limits = true,
                "strikes" => chosen.strikes = number.unwrap_or(Self::STRIKES),
                "lossy" => chosen.lossy = number.unwrap_or(Self::MESSAGES),
                "seed" => chosen.seed = number.context("seed: a number has to follow")?,
                _ => {
                    anyhow::bail!(
                        "{word:?}: expected calls, limits, strikes [NUMBER], lossy [MESSAGES], seed NUMBER"
                    )
                }
            }
        }
        if !any {
            chosen = Self {
                calls: true,
                limits: true,
                strikes: Self::STRIKES,
                lossy: Self::MESSAGES,
                seed: chosen.seed,
            };
        }
        Ok(chosen)
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS; // nothing here is quick
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sendpath: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was found.
fn run() -> anyhow::Result<bool> {
    let chosen = Chosen::parse(std::env::args().skip(1))?;
    println!("seed {}", chosen.seed);
    let place = Place::make()?;
    let mut tallies = Vec::new();
    if chosen.calls {
        tallies.extend(calls::fail_each(&place)?);
    }
    if chosen.limits {
        tallies.extend(limits::each(&place)?);
    }
    if chosen.strikes > 0 {
        tallies.extend(strikes::at_random(&place, chosen.strikes, chosen.seed)?);
    }
    if chosen.lossy > 0 {
        tallies.push(lossy::verify(&place, chosen.lossy)?);
    }
    println!("\n| what | times | hangs over 10 s | left behind | lost rounds | errors without a cause |");
    println!("|---|---|---|---|---|---|");
    for Tally { what, times, hangs, leftovers, lost_rounds, without_cause } in &tallies {
        println!("| {what} | {times} | {hangs} | {leftovers} | {lost_rounds} | {without_cause} |");
    }
    Ok(tallies.iter().all(Tally::is_clean))
}
