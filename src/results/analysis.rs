//! From the rows of a sweep to what they say: an estimate for each case, a verdict for each comparison.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::manifest::{Manifest, Plan, cpu_time_is_whole};
use super::metric::Metric;
use super::observation::{Batches, Rounds, cpu_ns, enough_round_trips, observation};
use super::record::{Arm, Record};
use super::stats::{Effect, MARGIN, MIN_INSTANCES, Verdict, judge, median};
use crate::case::{Cell, Series, Workload};
use crate::event::{self, Event, Reading, Readings};
use crate::sample::{Copies, Sample, Seen, Side, ZeroCopyCounts};

/// A number, with its 95 % interval over instances where there are enough of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// The number.
    pub value: f64,
    /// The interval's ends.
    pub interval: Option<(f64, f64)>,
}

impl Measure {
    /// The same in another unit.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            value: self.value * factor,
            interval: self.interval.map(|(low, high)| (low * factor, high * factor)),
        }
    }

    /// The trimmed geometric mean of one positive number for each instance, or of fewer than an interval takes
    /// their plain one; none if one is not positive.
    #[must_use]
    pub fn of(by_instance: &[f64]) -> Option<Self> {
        if by_instance.is_empty() || by_instance.iter().any(|value| *value <= 0.0 || !value.is_finite()) {
            return None;
        }
        let logs: Vec<f64> = by_instance.iter().map(|value| value.ln()).collect();
        let plain = || (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        let ratio = Effect::of(&logs).map(|effect| effect.ratio());
        Some(Self {
            value: ratio.map_or_else(plain, |ratio| ratio.value),
            interval: ratio.map(|ratio| (ratio.low, ratio.high)),
        })
    }
}

/// All that a sweep says.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The plan's cells, in its order.
    pub cells: Vec<CellResult>,
}

/// What a sweep says of one cell.
#[derive(Clone, Debug)]
pub struct CellResult {
    /// The cell.
    pub cell: Cell,
    /// The plan's series, in its order; then the control, if there is one.
    pub arms: Vec<ArmResult>,
    /// Every two series, by every metric; then the control against the baseline.
    pub comparisons: Vec<SeriesComparison>,
}

/// What a sweep says of one arm.
#[derive(Clone, Debug)]
pub struct ArmResult {
    /// The case, or the control.
    pub arm: Arm,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Instances that were timed.
    pub instances: u64,
    /// Bursts that were timed.
    pub bursts: u64,
    /// Their messages.
    pub messages: u64,
    /// Their time, in nanoseconds.
    pub elapsed_ns: u64,
    /// From the last byte received until the path was done with the burst, in nanoseconds: the median of the bursts.
    pub drain_ns_per_burst: Option<f64>,
    /// Payload bits divided by time, in Gb/s.
    pub throughput_gbps: Option<Measure>,
    /// The mean round trip, in nanoseconds.
    pub rtt_mean_ns: Option<Measure>,
    /// Quantiles of the round trips, in nanoseconds: (share, value).
    pub rtt_quantiles_ns: [(f64, Option<Measure>); 4],
    /// The longest round trip.
    pub rtt_max_ns: Option<u64>,
    /// CPU time of the server's threads, in nanoseconds per message.
    pub server_cpu_ns_per_message: Option<Measure>,
    /// The client's.
    pub client_cpu_ns_per_message: Option<Measure>,
    /// Both sides', per payload byte.
    pub cpu_ns_per_byte: Option<Measure>,
    /// What was counted.
    pub counted: Counted,
    /// Who copied how much, of `copied_messages`: server and client.
    pub copies: (Copies, Copies),
    /// Messages that `copies` are of: timed or not.
    pub copied_messages: u64,
    /// What the kernel said of zero-copy sends.
    pub zero_copy: Option<ZeroCopyCounts>,
    /// What the client saw of messages that were overwritten right after they were sent.
    pub seen: Option<Seen>,
}

/// What was counted of an arm, over bursts of their own.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Messages of those bursts.
    pub messages: u64,
    /// The server's counts.
    pub server: Readings,
    /// The client's.
    pub client: Readings,
    /// By message, of each instance.
    by_instance: Vec<(u64, Readings, Readings)>,
}

impl Counted {
    /// How often `event` happened on one side, per message.
    #[must_use]
    pub fn per_message(&self, side: Side, event: Event) -> Option<Measure> {
        let count = |(messages, server, client): &(u64, Readings, Readings)| {
            let readings = if side == Side::Server { server } else { client };
            Some(readings.get(&event)?.value()? as f64 / *messages as f64)
        };
        let counts: Option<Vec<f64>> = self.by_instance.iter().map(count).collect();
        let counts = counts.filter(|counts| !counts.is_empty())?;
        if counts.contains(&0.0) {
            // A true zero has no logarithm: the mean, without an interval.
            return Some(Measure { value: counts.iter().sum::<f64>() / counts.len() as f64, interval: None });
        }
        Measure::of(&counts)
    }

    /// One event by another, on one side.
    #[must_use]
    pub fn ratio(&self, side: Side, event: Event, to: Event) -> Option<f64> {
        let readings = if side == Side::Server { &self.server } else { &self.client };
        let value = |event| readings.get(&event).and_then(Reading::value).map(|value| value as f64);
        Some(value(event)? / value(to).filter(|to| *to > 0.0)?)
    }
}

/// One series against another in one cell.
#[derive(Clone, Debug)]
pub struct SeriesComparison {
    /// What is compared.
    pub metric: Metric,
    /// Where.
    pub cell: Cell,
    /// What is held against `baseline`.
    pub series: Series,
    /// Whether `series` is the control, and so the baseline itself.
    pub control: bool,
    /// What it is held against.
    pub baseline: Series,
    /// What came out, or why nothing did.
    pub outcome: Result<SeriesOutcome, String>,
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesOutcome {
    /// How much better the series is than the baseline.
    pub effect: Effect,
    /// What the control arm of the same cell shows by the same metric.
    pub control: Option<Effect>,
    /// What that allows to be said.
    pub verdict: Verdict,
}

/// The timed rounds of a cell, by generation.
#[derive(Default)]
struct Timed<'a>(BTreeMap<u64, Rounds<Arm, &'a Sample>>);

impl<'a> Timed<'a> {
    fn new(records: &[&'a Record]) -> Self {
        let mut timed = Self::default();
        for record in records.iter().filter(|record| record.timed) {
            if let Ok(sample) = &record.outcome {
                let rounds = timed.0.entry(record.generation).or_default();
                rounds.entry(record.round).or_default().insert(record.arm, sample);
            }
        }
        timed
    }

    /// An arm's samples, by generation.
    fn of(&self, arm: Arm) -> impl Iterator<Item = Vec<&'a Sample>> {
        self.0.values().filter_map(move |rounds| {
            let samples: Vec<_> = rounds.values().filter_map(|round| round.get(&arm).copied()).collect();
            (!samples.is_empty()).then_some(samples)
        })
    }

    fn effect(&self, metric: Metric, arm: Arm, baseline: Arm) -> Result<Effect, String> {
        let observations = match metric {
            Metric::P99 => self.tails(arm, baseline, 0.99)?,
            _ => self.0.values().filter_map(|rounds| observation(rounds, metric, arm, baseline)).collect(),
        };
        Effect::of(&observations).ok_or_else(|| match observations.len() {
            0 => "no round in which both were measured".to_owned(),
            found => format!("{found} independent observations: an interval needs {MIN_INSTANCES}"),
        })
    }

    /// The log ratio of two arms' quantiles, one for each batch of neighbouring generations that has enough
    /// round trips.
    fn tails(&self, arm: Arm, baseline: Arm, share: f64) -> Result<Vec<f64>, String> {
        let mut batches = [Batches::new(share), Batches::new(share)];
        let mut ratios = Vec::new();
        for rounds in self.0.values() {
            for (batch, arm) in batches.iter_mut().zip([arm, baseline]) {
                rounds.values().filter_map(|round| round.get(&arm)).for_each(|sample| batch.add(sample));
            }
            if batches.iter().all(Batches::is_full)
                && let [Some(ours), Some(theirs)] = [batches[0].take(), batches[1].take()]
            {
                ratios.push((theirs / ours).ln());
            }
        }
        if ratios.is_empty() {
            return Err(format!(
                "a quantile of {share} needs {} round trips, each timed",
                enough_round_trips(share)
            ));
        }
        Ok(ratios)
    }
}

/// Works out all that a stored sweep says. By CPU time it says nothing where the kernel leaves a part of it out.
#[must_use]
pub fn analyse_stored(manifest: &Manifest, records: &[Record]) -> Analysis {
    let mut analysis = analyse(&manifest.plan, records);
    if !cpu_time_is_whole(manifest) {
        let comparisons = analysis.cells.iter_mut().flat_map(|cell| &mut cell.comparisons);
        for comparison in comparisons.filter(|comparison| comparison.metric == Metric::CpuPerByte) {
            comparison.outcome = Err(CPU_TIME_IS_NOT_WHOLE.to_owned());
        }
    }
    analysis
}

/// Why there is no verdict by CPU time.
pub const CPU_TIME_IS_NOT_WHOLE: &str = "this kernel leaves softirqs out of the threads' CPU time \
    (CONFIG_IRQ_TIME_ACCOUNTING), or it cannot be told, and over veth the softirq does a part of the work";

/// Works out all that the rows say.
#[must_use]
pub fn analyse(plan: &Plan, records: &[Record]) -> Analysis {
    let mut by_cell: HashMap<Cell, Vec<&Record>> = HashMap::new();
    for record in records {
        by_cell.entry(record.arm.case.cell()).or_default().push(record);
    }
    let none = Vec::new();
    let mut cells: Vec<CellResult> =
        plan.cells.iter().map(|&cell| cell_result(plan, cell, by_cell.get(&cell).unwrap_or(&none))).collect();
    for metric in Metric::OF_A_SWEEP {
        assign_verdicts(&mut cells, metric);
    }
    Analysis { cells }
}

/// Gives each comparison by one metric its verdict. All of them are judged together, since the correction for many
/// comparisons takes their number.
fn assign_verdicts(cells: &mut [CellResult], metric: Metric) {
    let mut outcomes: Vec<&mut SeriesOutcome> = cells
        .iter_mut()
        .flat_map(|cell| &mut cell.comparisons)
        .filter(|comparison| comparison.metric == metric)
        .filter_map(|comparison| comparison.outcome.as_mut().ok())
        .collect();
    let effects: Vec<_> = outcomes.iter().map(|outcome| (outcome.effect, outcome.control)).collect();
    for (outcome, verdict) in outcomes.iter_mut().zip(judge(&effects, MARGIN)) {
        outcome.verdict = verdict;
    }
}

fn cell_result(plan: &Plan, cell: Cell, records: &[&Record]) -> CellResult {
    let timed = Timed::new(records);
    let arm = |&series: &Series| Arm { case: cell.case(series), control: false };
    let baseline = arm(&plan.series[0]);
    let control = Arm { control: true, ..baseline };
    let mut arms: Vec<Arm> = plan.series.iter().map(arm).collect();
    arms.extend(records.iter().any(|record| record.arm == control).then_some(control));
    let arms: Vec<ArmResult> = arms.into_iter().map(|arm| arm_result(arm, &timed, records)).collect();

    let mut comparisons = Vec::new();
    for metric in Metric::OF_A_SWEEP {
        let noise = timed.effect(metric, control, baseline);
        let outcome = |of: &ArmResult, to: &ArmResult, control: Option<Effect>| {
            if metric == Metric::P99 && cell.workload == Workload::Stream {
                return Err("a stream has no round trips".to_owned());
            }
            // What was measured before a failure counts; with nothing, the failure is the reason.
            let effect = timed
                .effect(metric, of.arm, to.arm)
                .map_err(|reason| of.error.as_ref().or(to.error.as_ref()).cloned().unwrap_or(reason))?;
            Ok(SeriesOutcome { effect, control, verdict: Verdict::TooNoisy })
        };
        for (index, of) in arms.iter().enumerate() {
            let series = of.arm.case.series();
            let others = if of.arm.control { &arms[..1] } else { &arms[..index] };
            for to in others {
                let noise = if of.arm.control { None } else { noise.clone().ok() };
                comparisons.push(SeriesComparison {
                    metric,
                    cell,
                    series,
                    control: of.arm.control,
                    baseline: to.arm.case.series(),
                    outcome: outcome(of, to, noise),
                });
            }
        }
    }
    CellResult { cell, arms, comparisons }
}

fn arm_result(arm: Arm, timed: &Timed<'_>, records: &[&Record]) -> ArmResult {
    let payload_bytes = arm.case.payload_bytes as f64;
    let instances: Vec<Vec<&Sample>> = timed.of(arm).collect();
    let all = || instances.iter().flatten();
    let by_instance = |of: &dyn Fn(&Sample) -> f64| {
        let medians = instances
            .iter()
            .filter_map(|samples| median(&mut samples.iter().map(|sample| of(sample)).collect::<Vec<_>>()));
        Measure::of(&medians.collect::<Vec<_>>())
    };
    let per_message = |ns: f64, sample: &Sample| ns / sample.messages as f64;

    let mean = |samples: &Vec<&Sample>| {
        let trips = || samples.iter().filter_map(|sample| sample.client.round_trips.as_ref());
        let count: u64 = trips().map(|trips| trips.count).sum();
        (count > 0).then(|| trips().map(|trips| trips.sum_ns).sum::<u64>() as f64 / count as f64)
    };
    let means: Vec<f64> = instances.iter().filter_map(mean).collect();

    let mut result = ArmResult {
        arm,
        error: None,
        instances: instances.len() as u64,
        bursts: all().count() as u64,
        messages: all().map(|sample| sample.messages).sum(),
        elapsed_ns: all().map(|sample| sample.elapsed_ns).sum(),
        drain_ns_per_burst: median(
            &mut all().map(|sample| sample.server.drain_ns as f64).collect::<Vec<_>>(),
        ),
        throughput_gbps: by_instance(&|sample| {
            sample.messages as f64 * payload_bytes * 8.0 / sample.elapsed_ns as f64
        }),
        rtt_mean_ns: Measure::of(&means),
        rtt_quantiles_ns: [0.5, 0.9, 0.99, 0.999].map(|share| (share, quantile(&instances, share))),
        rtt_max_ns: all().filter_map(|sample| Some(sample.client.round_trips.as_ref()?.max_ns)).max(),
        server_cpu_ns_per_message: by_instance(&|sample| per_message(cpu_ns(&sample.server), sample)),
        client_cpu_ns_per_message: by_instance(&|sample| per_message(cpu_ns(&sample.client), sample)),
        cpu_ns_per_byte: by_instance(&|sample| {
            per_message(cpu_ns(&sample.server) + cpu_ns(&sample.client), sample) / payload_bytes
        }),
        counted: Counted::default(),
        copies: Default::default(),
        copied_messages: 0,
        zero_copy: None,
        seen: None,
    };
    let mut counted: BTreeMap<u64, (u64, Readings, Readings)> = BTreeMap::new();
    for record in records.iter().filter(|record| record.arm == arm) {
        let sample = match &record.outcome {
            Ok(sample) => sample,
            Err(error) => {
                result.error = Some(error.clone());
                continue;
            }
        };
        result.copied_messages += sample.messages;
        result.copies.0 += sample.server.copies;
        result.copies.1 += sample.client.copies;
        if let Some(counts) = sample.server.zero_copy {
            *result.zero_copy.get_or_insert_default() += counts;
        }
        if let Some(seen) = sample.client.seen {
            *result.seen.get_or_insert_default() += seen;
        }
        if !sample.server.counters.is_empty() || !sample.client.counters.is_empty() {
            let (messages, server, client) = counted.entry(record.generation).or_default();
            *messages += sample.messages;
            event::add(server, sample.server.counters.clone());
            event::add(client, sample.client.counters.clone());
        }
    }
    for (messages, server, client) in counted.values() {
        result.counted.messages += messages;
        event::add(&mut result.counted.server, server.clone());
        event::add(&mut result.counted.client, client.clone());
    }
    result.counted.by_instance = counted.into_values().collect();
    result
}

/// A quantile: the geometric mean of batches of instances, with its interval, or where those are too few, of
/// all round trips together.
fn quantile(instances: &[Vec<&Sample>], share: f64) -> Option<Measure> {
    let (mut whole, mut batch) = (Batches::new(share), Batches::new(share));
    let mut by_batch = Vec::new();
    for samples in instances {
        for sample in samples {
            whole.add(sample);
            batch.add(sample);
        }
        by_batch.extend(batch.take());
    }
    let over_batches = Measure::of(&by_batch).filter(|measure| measure.interval.is_some());
    over_batches.or(whole.take().map(|value| Measure { value, interval: None }))
}
