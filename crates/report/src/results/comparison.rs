//! What a comparison of two sides gives, the same for two stored sweeps and for two builds.

use serde::Serialize;

use super::family::{Family, moderate};
use super::metric::Metric;
use super::stats::{Effect, Estimate};
use super::verdict::Verdict;
use crate::case::Case;

/// All comparisons of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Blocks that were measured to their end.
    pub blocks: usize,
    /// How much worse a case may be, as far as the data can tell, without being a reason to object
    /// (0.02: 2 %).
    pub margin: f64,
    /// A comparison for each case and metric.
    pub comparisons: Vec<Comparison>,
    /// Cases that could not be measured, and why.
    pub failures: Vec<Failure>,
    /// Cases that were not begun, since a limit of this machine forbids them.
    pub left_out: Vec<LeftOut>,
    /// Whether Ctrl-C or SIGTERM ended it early.
    pub interrupted: bool,
    /// Whether the threads' CPU time has the softirqs in it, on both sides. If not, nothing is
    /// compared by it.
    #[serde(skip)]
    pub cpu_time_is_whole: bool,
}

/// A case that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The case's id.
    pub case: String,
    /// Which process, and why.
    pub error: String,
}

/// A case that was not begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The case's id.
    pub case: String,
    /// Which limit forbids it, and what lifts that.
    pub reason: String,
}

/// The change against the base in one case, by one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The case's id.
    pub case: String,
    /// The size of the case's messages, in bytes.
    pub payload_bytes: usize,
    /// What is compared.
    pub metric: Metric,
    /// How much better the change is: above 1 is more throughput, shorter times, less CPU time.
    /// With an interval over blocks that is so wide that in 95 of 100 runs all intervals of the run
    /// hold.
    pub gain: Estimate,
    /// What the gain is not below, with 95 % confidence in this case alone.
    pub lower_bound: f64,
    /// The gain of the control, where there is one, with its 95 % interval.
    pub control: Option<Estimate>,
    /// What is read off the gain's interval.
    pub verdict: Verdict,
    /// The smallest difference that 95 of 100 such runs would find (0.01: 1 %).
    pub smallest_effect: f64,
    /// The base's own value: Gb/s, ns, or CPU ns per byte.
    pub base: Option<f64>,
}

/// The change against the base in one case, by one metric, before it is read together with others.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where.
    pub case: Case,
    /// What is compared.
    pub metric: Metric,
    /// How much better the change is.
    pub change: Effect,
    /// How much better the control is, where there is one.
    pub control: Option<Effect>,
    /// The base's own value.
    pub base: Option<f64>,
}

/// Gives each its interval and its verdict: its spread goes by what is usual by its metric, and its
/// confidence is that of the family.
pub fn read_together(mut found: Vec<Found>, family: Family) -> Vec<Comparison> {
    for metric in Metric::OF_AB {
        let of_metric = found.iter_mut().filter(|one| one.metric == metric);
        moderate(of_metric.flat_map(|one| [Some(&mut one.change), one.control.as_mut()]).flatten());
    }
    let compared = |Found { case, metric, change, control, base }: Found| {
        let gain = change.ratio_at(family.confidence);
        Comparison {
            case: case.to_string(),
            payload_bytes: case.payload_bytes,
            metric,
            gain,
            lower_bound: change.lower_bound(),
            control: control.map(|control| control.ratio()),
            verdict: Verdict::of(gain, metric.least_difference()),
            smallest_effect: change.smallest_effect(family.confidence),
            base,
        }
    };
    found.into_iter().map(compared).collect()
}
