//! Sweeps that were made up, for the tests of what is said of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::analysis::{ArmResult, CellResult, Counted, Measure, SeriesComparison, SeriesOutcome};
use super::metric::Metric;
use super::record::Arm;
use super::stats::{Effect, Estimate};
use super::verdict::Verdict;
use crate::case::{Case, Engine, Layout, Receiver, SendPath, Series};

pub(crate) const TWO_COPY: Series = Series::new(SendPath::TwoCopy, Layout::Heap);
pub(crate) const ONE_COPY: Series = Series::new(SendPath::OneCopy, Layout::Heap);
pub(crate) const ZERO_COPY: Series = Series::new(SendPath::ZeroCopy, Layout::Heap);
pub(crate) const ON_PAGES: Series = Series::new(SendPath::ZeroCopy, Layout::Page);
pub(crate) const SPLICE: Series = Series::new(SendPath::Splice, Layout::Heap);
pub(crate) const BY_RING: Series = Series::new(SendPath::OneCopy, Layout::Heap).by(Engine::Uring);
/// What a generated sweep has, the baseline first.
pub(crate) const ALL: [Series; 6] = [TWO_COPY, ONE_COPY, ZERO_COPY, ON_PAGES, SPLICE, BY_RING];

fn arm(case: Case, ns: f64) -> ArmResult {
    let gbps = (case.payload_bytes * 8 * case.threads) as f64 / ns;
    ArmResult {
        arm: Arm { case, control: false },
        error: None,
        instances: 12,
        bursts: 120,
        messages: 12_000,
        elapsed_ns: 480_000_000,
        drain_ns_per_burst: None,
        throughput_gbps: Some(Measure { value: gbps, interval: None }),
        throughput_log: None,
        rtt_mean_ns: None,
        rtt_quantiles_ns: [0.5, 0.9, 0.99, 0.999].map(|share| (share, None)),
        rtt_max_ns: None,
        cpu_ns_per_message: [None, None],
        cpu_ns_per_byte: None,
        counted: Counted::default(),
        retransmitted_segments: None,
        copies: Default::default(),
        copied_messages: 0,
        fragments_per_message: None,
        zero_copy: None,
        seen: None,
    }
}

/// A cell in which messages take so long by each series, and ratios are known to so much.
pub(crate) fn cell(payload_bytes: usize, times: &[(Series, f64)], half: f64) -> CellResult {
    cell_to(Receiver::Sink, payload_bytes, times, half)
}

fn cell_to(receiver: Receiver, payload_bytes: usize, times: &[(Series, f64)], half: f64) -> CellResult {
    let plain = Case { receiver, payload_bytes, ..Case::default() }.cell();
    let compare = |&(series, ns): &(Series, f64), &(baseline, other_ns): &(Series, f64)| {
        let log_mean = f64::ln(other_ns / ns);
        let ratio =
            Estimate { value: log_mean.exp(), low: (log_mean - half).exp(), high: (log_mean + half).exp() };
        let effect = Effect { log_mean, standard_error: half / 2.2, instances: 12, degrees_of_freedom: 11.0 };
        let verdict = Verdict::of(ratio, Metric::Throughput.margin());
        let outcome = Ok(SeriesOutcome { effect, ratio, verdict, other_state: None });
        SeriesComparison { metric: Metric::Throughput, cell: plain, series, baseline, outcome }
    };
    let pairs = times
        .iter()
        .enumerate()
        .flat_map(|(index, one)| times[..index].iter().map(move |other| (one, other)));
    CellResult {
        cell: plain,
        fragment_ns: 0.0,
        arms: times.iter().map(|&(series, ns)| arm(plain.case(series), ns)).collect(),
        comparisons: pairs.map(|(one, other)| compare(one, other)).collect(),
        controls: BTreeMap::new(),
    }
}

/// Two to six series in three to nine sizes, with noise, and some cells missing.
pub(crate) fn sweeps(receiver: Receiver) -> impl Strategy<Value = Vec<CellResult>> {
    let size = prop::collection::btree_set(6u32..21, 3..=9);
    (2usize..=6, size, 0.002..0.15f64, any::<u64>()).prop_map(move |(count, sizes, half, seed)| {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let costs: Vec<(f64, f64)> =
            (0..count).map(|_| (rng.random_range(2000.0..3500.0), rng.random_range(0.05..0.3))).collect();
        let cells = sizes.into_iter().map(|power| {
            let bytes = 1usize << power;
            let mut times: Vec<(Series, f64)> = Vec::new();
            for (series, (fixed, by_byte)) in ALL.into_iter().zip(&costs) {
                let noise = 1.0 + half * rng.random_range(-1.0..1.0);
                // Some cells are missing.
                if rng.random_range(0.0..1.0) > 0.1 {
                    times.push((series, (fixed + by_byte * bytes as f64) * noise));
                }
            }
            if times.is_empty() {
                times.push((TWO_COPY, 1000.0));
            }
            cell_to(receiver, bytes, &times, half)
        });
        cells.collect()
    })
}
