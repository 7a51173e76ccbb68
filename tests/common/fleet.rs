//! A generated fleet: sweeps of machines that differ from each other by a few percent, for tests
//! and for `experiments/fleet.rs`. Each is a folder as `sendpath sweep` leaves it, rows and
//! summary.

use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use sendpath::error::Result;
use sendpath::results::analysis::analyse_stored;
use sendpath::results::manifest::Manifest;
use sendpath::results::record::{Arm, Record};
use sendpath::results::store::{self, Store};
use sendpath::results::summary;
use sendpath::sample::{RoundTrips, Sample, SideReport};

/// How large the sweeps are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub lives: u64,
    pub rounds: u64,
    /// Different round trips of a burst, which are most of a row's text.
    pub bins: u64,
}

/// Makes the folder of one sweep of `host`, whose messages all take `slower` times as long as they
/// otherwise would.
pub fn sweep(into: &Path, host: &str, slower: f64, seed: u64, size: Size) -> Result<PathBuf> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let normal = |rng: &mut ChaCha8Rng, deviation: f64| {
        Normal::new(0.0, deviation).expect("a deviation is positive").sample(rng)
    };
    let mut manifest: Manifest = serde_json::from_str(include_str!("../golden/sweep/environment.json"))
        .expect("the golden manifest is one");
    host.clone_into(&mut manifest.host);
    manifest.started = format!("2026-11-{:02}T12:00:{:02}Z", 1 + seed / 60 % 28, seed % 60);
    let of_machine = normal(&mut rng, 0.03).exp() * slower;
    let folder = into.join(format!("{seed:04}-{host}"));
    let mut store = Store::create(&folder, &manifest)?;
    for generation in 0..size.lives {
        for &cell in &manifest.plan.cells {
            for round in 0..size.rounds {
                let arms = manifest.plan.series_of(cell).map(|series| (cell.case(series), false));
                let arms: Vec<_> = arms.chain([(cell.case(manifest.plan.series[0]), true)]).collect();
                let records: Vec<Record> = arms
                    .into_iter()
                    .enumerate()
                    .map(|(position, (case, control))| {
                        let message_ns = (20_000.0 + case.payload_bytes as f64 / 4.0)
                            * of_machine
                            * normal(&mut rng, 0.02).exp();
                        Record {
                            generation,
                            round,
                            position: position as u64,
                            arm: Arm { case, control },
                            timed: true,
                            outcome: Ok(sample(&mut rng, message_ns, size.bins)),
                        }
                    })
                    .collect();
                store.append(&records)?;
            }
        }
    }
    summarise(&folder)?;
    Ok(folder)
}

/// Writes the summary, as the end of a sweep does.
pub fn summarise(folder: &Path) -> Result<()> {
    let read = store::read(folder)?;
    let analysis = analyse_stored(&read.manifest, &read.records);
    Ok(store::replace(&folder.join(summary::SUMMARY), &summary::csv(&read, &analysis)?)?)
}

fn sample(rng: &mut ChaCha8Rng, message_ns: f64, bins: u64) -> Sample {
    let each = 200_u64.div_ceil(bins);
    let messages = each * bins;
    let elapsed_ns = (message_ns * messages as f64) as u64;
    let bin = |bin: u64| ((message_ns * (0.9 + 0.3 * bin as f64 / bins as f64)) as u64, each);
    let round_trips = RoundTrips {
        sum_ns: elapsed_ns,
        count: messages,
        max_ns: (message_ns * rng.random_range(1.3..2.0)) as u64,
        histogram: (0..bins).map(bin).collect(),
    };
    let side = SideReport { user_ns: elapsed_ns / 20, system_ns: elapsed_ns / 3, ..SideReport::default() };
    let client = SideReport {
        start_ns: 1,
        end_ns: 1 + elapsed_ns,
        pairs_ns: elapsed_ns,
        round_trips: Some(round_trips),
        ..side.clone()
    };
    Sample { elapsed_ns, messages, pairs: 1, server: side, client }
}
