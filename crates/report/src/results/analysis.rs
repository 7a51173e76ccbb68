//! From the rows of a sweep to what they say: an estimate for each case, a verdict for each
//! comparison.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::family::{ControlCheck, Family, moderate};
use super::manifest::{Manifest, Plan, cpu_time_is_whole};
use super::metric::Metric;
use super::observation::{Replicates, Rounds, cost_ns_per_message, lives, log_ratios};
use super::record::{Arm, ROUNDS_PER_VISIT, Record};
use super::states::{OtherState, States, Visit};
use super::stats::{Effect, Estimate, MIN_INSTANCES, median, too_few};
use super::tail::Pool;
use super::verdict::Verdict;
use crate::case::{Cell, Receiver, Series, Workload};
use crate::environment::SinkLink;
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

impl From<Estimate> for Measure {
    fn from(Estimate { value, low, high }: Estimate) -> Self {
        Self { value, interval: Some((low, high)) }
    }
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

    /// The geometric mean of one positive number for each instance; none if one is not positive.
    pub fn of(by_instance: &[f64]) -> Option<Self> {
        if by_instance.is_empty() || by_instance.iter().any(|value| *value <= 0.0 || !value.is_finite()) {
            return None;
        }
        let logs: Vec<f64> = by_instance.iter().map(|value| value.ln()).collect();
        let interval = Effect::of(&logs).map(|effect| effect.ratio()).map(|ratio| (ratio.low, ratio.high));
        Some(Self { value: (logs.iter().sum::<f64>() / logs.len() as f64).exp(), interval })
    }
}

/// All that a sweep says.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The plan's cells, in its order.
    pub cells: Vec<CellResult>,
    /// What the control arms say of the sweep as a whole, by metric.
    pub controls: BTreeMap<Metric, ControlCheck>,
}

impl Analysis {
    /// What it says of each arm of each cell.
    pub fn arms(&self) -> impl Iterator<Item = &ArmResult> {
        self.cells.iter().flat_map(|cell| &cell.arms)
    }

    /// The same without the series that the plan has in some cells alone: from size to size the
    /// same ones are compared.
    #[must_use]
    pub fn of_all_cells(&self, plan: &Plan) -> Self {
        let is_everywhere = |series: Series| plan.only_in.iter().all(|only| only.series != series);
        let mut whole = self.clone();
        for cell in &mut whole.cells {
            cell.arms.retain(|arm| is_everywhere(arm.arm.case.series()));
            cell.comparisons.retain(|found| is_everywhere(found.series) && is_everywhere(found.baseline));
        }
        whole
    }
}

/// What a sweep says of one cell.
#[derive(Clone, Debug)]
pub struct CellResult {
    /// The cell.
    pub cell: Cell,
    /// What a card's driver is taken to need for a fragment, in nanoseconds: 0 as it was measured.
    /// See `fragment_cost`.
    pub fragment_ns: f64,
    /// The plan's series, in its order; then the control, if there is one.
    pub arms: Vec<ArmResult>,
    /// Every two series, by every metric.
    pub comparisons: Vec<SeriesComparison>,
    /// The control against the baseline, which it is, by each metric that it was measured by.
    pub controls: BTreeMap<Metric, Effect>,
}

impl CellResult {
    /// How a series was compared with another by a metric.
    pub fn comparison(&self, metric: Metric, series: Series, baseline: Series) -> Option<&SeriesComparison> {
        let is_it = |found: &&SeriesComparison| {
            (found.metric, found.series, found.baseline) == (metric, series, baseline)
        };
        self.comparisons.iter().find(is_it)
    }

    /// What was measured in it, without the control.
    pub fn series(&self) -> impl Iterator<Item = Series> {
        self.arms.iter().filter(|arm| !arm.arm.control).map(|arm| arm.arm.case.series())
    }

    /// What it says of a series.
    pub fn arm(&self, series: Series) -> Option<&ArmResult> {
        self.arms.iter().find(|arm| arm.arm.case.series() == series && !arm.arm.control)
    }
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
    /// From the last byte received until the path was done with the burst, in nanoseconds: the
    /// median of the bursts.
    pub drain_ns_per_burst: Option<f64>,
    /// Payload bits divided by time, in Gb/s: of the baseline, and of another arm the baseline's by
    /// the ratio of the two.
    pub throughput_gbps: Option<Measure>,
    /// The logarithm of the arm's own Gb/s, with its spread over instances.
    pub throughput_log: Option<Effect>,
    /// The mean round trip, in nanoseconds.
    pub rtt_mean_ns: Option<Measure>,
    /// Quantiles of the round trips, in nanoseconds: (share, value).
    pub rtt_quantiles_ns: [(f64, Option<Measure>); 4],
    /// The longest round trip.
    pub rtt_max_ns: Option<u64>,
    /// CPU time of the server's threads and of the client's, in nanoseconds per message.
    pub cpu_ns_per_message: [Option<Measure>; 2],
    /// Both sides', per payload byte.
    pub cpu_ns_per_byte: Option<Measure>,
    /// What was counted.
    pub counted: Counted,
    /// Segments that the kernel sent again, over all bursts, timed or not; none where a burst did
    /// not record it.
    pub retransmitted_segments: Option<u64>,
    /// Who copied how much, of `copied_messages`: server and client.
    pub copies: (Copies, Copies),
    /// Messages that `copies` are of: timed or not.
    pub copied_messages: u64,
    /// Fragments of a message, which a card's driver would map one by one: where nobody receives,
    /// and where they are known.
    pub fragments_per_message: Option<f64>,
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
    /// What it is held against.
    pub baseline: Series,
    /// What came out, or why nothing did.
    pub outcome: Result<SeriesOutcome, String>,
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesOutcome {
    /// How much better the series is than the baseline, on the log scale.
    pub effect: Effect,
    /// The same as a ratio, above 1 where it is better, with the interval that is printed: at the
    /// confidence that the number of comparisons takes which are read together.
    pub ratio: Estimate,
    /// What is read off that interval.
    pub verdict: Verdict,
    /// The same in the machine's other state, where it was met in two and that one differs.
    pub other_state: Option<OtherState>,
}

/// The effect in the machine's usual state, and in the other, where it differs.
type Found = (Effect, Option<OtherState>);

/// The timed rounds of a cell, by generation.
struct Timed<'a>(BTreeMap<u64, Rounds<Arm, &'a Sample>>);

impl<'a> Timed<'a> {
    /// An arm's samples, by generation.
    fn of(&self, arm: Arm) -> impl Iterator<Item = Vec<&'a Sample>> {
        self.0.values().filter_map(move |rounds| {
            let samples: Vec<_> = rounds.values().filter_map(|round| round.get(&arm).copied()).collect();
            (!samples.is_empty()).then_some(samples)
        })
    }

    fn effect(&self, metric: Metric, arm: Arm, baseline: Arm, states: &States) -> Result<Found, String> {
        if metric.quantile().is_some() {
            return Ok((Replicates::of(self.0.values()).gain(metric, arm, baseline)?, None));
        }
        let [mut usual, mut other] =
            [true, false].map(|is_usual| self.observations(metric, arm, baseline, states, is_usual));
        if usual.len() < MIN_INSTANCES {
            // Too short for a state of its own: both together.
            usual = self.observations(metric, arm, baseline, &States::default(), true);
            other.clear();
        }
        let effect = Effect::robust(&usual).ok_or_else(|| match usual.len() {
            0 => "no round in which both were measured".to_owned(),
            found => too_few(found),
        })?;
        Ok((effect, OtherState::of(states, &effect, &other, metric.margin())))
    }

    /// What each life says of two arms in one of the machine's states.
    fn observations(
        &self,
        metric: Metric,
        arm: Arm,
        baseline: Arm,
        states: &States,
        is_usual: bool,
    ) -> Vec<f64> {
        let cell = arm.case.cell();
        let in_state = |generation: u64, round: u64| {
            states.is_usual((cell, generation, round / ROUNDS_PER_VISIT)) == is_usual
        };
        let of_life = |(&generation, rounds): (&u64, &Rounds<Arm, &'a Sample>)| {
            let ratios = log_ratios(rounds, metric, arm, baseline);
            let ratios = ratios.filter(|(round, _)| in_state(generation, *round));
            median(&mut ratios.map(|(_, log)| log).collect::<Vec<_>>())
        };
        self.0.iter().filter_map(of_life).collect()
    }

    /// How long messages of `arms` took in each visit of their cell: the mean logarithm.
    fn levels(&self, arms: [Arm; 2]) -> Vec<(Visit, f64)> {
        let mut visits: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
        for (&generation, rounds) in &self.0 {
            for (&round, samples) in rounds {
                let logs = arms
                    .iter()
                    .filter_map(|arm| Some(cost_ns_per_message(Metric::Throughput, samples.get(arm)?)?.ln()));
                visits.entry((generation, round / ROUNDS_PER_VISIT)).or_default().extend(logs);
            }
        }
        visits.retain(|_, logs| !logs.is_empty());
        let mean = |logs: &[f64]| logs.iter().sum::<f64>() / logs.len() as f64;
        let cell = arms[0].case.cell();
        visits.iter().map(|(&(generation, visit), logs)| ((cell, generation, visit), mean(logs))).collect()
    }
}

/// Works out all that a stored sweep says. By CPU time it says nothing where the kernel leaves a
/// part of it out.
pub fn analyse_stored(manifest: &Manifest, records: &[Record]) -> Analysis {
    let looks = u32::try_from(manifest.resumed.len()).unwrap_or(u32::MAX).saturating_add(1);
    let mut analysis = analyse(&manifest.plan, records, looks);
    // Those of a message that somebody receives are not spoken of.
    let arms = analysis.cells.iter_mut().flat_map(|cell| &mut cell.arms);
    for arm in arms.filter(|arm| arm.arm.case.receiver == Receiver::Sink) {
        arm.fragments_per_message = manifest.fragments_per_message(&arm.arm.case);
    }
    let is_whole = cpu_time_is_whole(manifest);
    let sink = manifest.environment.as_ref().and_then(|environment| environment.sink.as_ref());
    let is_told_in_sink = sink.is_none_or(|sink| sink.acknowledged_in_cpu_time != Some(false));
    let comparisons = analysis.cells.iter_mut().flat_map(|cell| &mut cell.comparisons);
    for comparison in comparisons.filter(|comparison| comparison.metric == Metric::CpuPerByte) {
        if !is_whole {
            comparison.outcome = Err(CPU_TIME_IS_NOT_WHOLE.to_owned());
        } else if comparison.cell.receiver == Receiver::Sink && !is_told_in_sink {
            comparison.outcome = Err(SinkLink::CPU_TIME_IS_NOT_TOLD.to_owned());
        }
    }
    analysis
}

/// Why there is no verdict by CPU time.
pub const CPU_TIME_IS_NOT_WHOLE: &str = "this kernel leaves softirqs out of the threads' CPU time \
    (CONFIG_IRQ_TIME_ACCOUNTING), or it cannot be told, and over veth the softirq does a part of the work";

/// Works out all that the rows say. It is the `looks`-th look at them, from 1: each time that a
/// sweep goes on is another.
pub fn analyse(plan: &Plan, records: &[Record], looks: u32) -> Analysis {
    let mut by_cell: HashMap<Cell, Vec<&Record>> = HashMap::new();
    for record in records {
        by_cell.entry(record.arm.case.cell()).or_default().push(record);
    }
    let none = Vec::new();
    let timed = |&cell: &Cell| {
        let records = by_cell.get(&cell).unwrap_or(&none);
        (cell, records, Timed(lives(records.iter().copied())))
    };
    let timed: Vec<_> = plan.cells.iter().map(timed).collect();
    let baseline = |cell: Cell, control: bool| Arm { case: cell.case(plan.series[0]), control };
    let levels = timed
        .iter()
        .flat_map(|(cell, _, timed)| timed.levels([false, true].map(|control| baseline(*cell, control))));
    let states = States::of(&levels.collect::<Vec<_>>());
    let mut cells: Vec<CellResult> = timed
        .iter()
        .map(|(cell, records, timed)| cell_result(plan, *cell, records, timed, &states))
        .collect();
    let mut controls = BTreeMap::new();
    for metric in Metric::OF_A_SWEEP {
        controls.insert(metric, read_together(&mut cells, metric, plan.series[0], looks));
    }
    for cell in &mut cells {
        follow_the_baseline(cell);
    }
    Analysis { cells, controls }
}

/// Gives each comparison by one metric its interval and its verdict. They are read together: those
/// with the baseline, which the tables and the page show, and those of two other arms, which the
/// decision maps take.
fn read_together(cells: &mut [CellResult], metric: Metric, baseline: Series, looks: u32) -> ControlCheck {
    for with_baseline in [true, false] {
        moderate(cells.iter_mut().flat_map(|cell| {
            let CellResult { comparisons, controls, .. } = cell;
            let control = controls.get_mut(&metric).filter(|_| with_baseline);
            let compared = outcomes(comparisons, metric, baseline, with_baseline);
            control.into_iter().chain(compared.map(|outcome| &mut outcome.effect))
        }));
    }
    let controls: Vec<Effect> = cells.iter().filter_map(|cell| cell.controls.get(&metric)).copied().collect();
    let check = ControlCheck::of(&controls);
    for with_baseline in [true, false] {
        let mut outcomes: Vec<&mut SeriesOutcome> = cells
            .iter_mut()
            .flat_map(|cell| outcomes(&mut cell.comparisons, metric, baseline, with_baseline))
            .collect();
        for outcome in &mut outcomes {
            outcome.effect = check.widened(outcome.effect);
        }
        let effects: Vec<Effect> = outcomes.iter().map(|outcome| outcome.effect).collect();
        let Family { confidence } = Family::of(&effects, looks);
        for outcome in outcomes {
            outcome.ratio = outcome.effect.ratio_at(confidence);
            outcome.verdict = Verdict::of(outcome.ratio, metric.margin());
        }
    }
    check
}

/// What came of the comparisons by one metric: those with the baseline, or the others.
fn outcomes(
    comparisons: &mut [SeriesComparison],
    metric: Metric,
    baseline: Series,
    with_baseline: bool,
) -> impl Iterator<Item = &mut SeriesOutcome> {
    let is_of_them = move |one: &&mut SeriesComparison| {
        one.metric == metric && (one.baseline == baseline) == with_baseline
    };
    comparisons.iter_mut().filter(is_of_them).filter_map(|one| one.outcome.as_mut().ok())
}

fn cell_result(
    plan: &Plan,
    cell: Cell,
    records: &[&Record],
    timed: &Timed<'_>,
    states: &States,
) -> CellResult {
    let arm = |series: Series| Arm { case: cell.case(series), control: false };
    let baseline = arm(plan.series[0]);
    let control = Arm { control: true, ..baseline };
    let series: Vec<ArmResult> =
        plan.series_of(cell).map(|series| arm_result(arm(series), timed, records)).collect();
    let (mut comparisons, mut controls) = (Vec::new(), BTreeMap::new());
    let effect = |metric, of: Arm, to: Arm| timed.effect(metric, of, to, states);
    for metric in Metric::OF_A_SWEEP {
        controls.extend(effect(metric, control, baseline).ok().map(|(effect, _)| (metric, effect)));
        let outcome = |of: &ArmResult, to: &ArmResult| {
            if metric == Metric::P99 && cell.workload == Workload::Stream {
                return Err("a stream has no round trips".to_owned());
            }
            // What was measured before a failure counts; with nothing, the failure is the reason.
            let (effect, other_state) = effect(metric, of.arm, to.arm)
                .map_err(|reason| of.error.as_ref().or(to.error.as_ref()).cloned().unwrap_or(reason))?;
            // The interval and the verdict are those of all cells together: see `read_together`.
            Ok(SeriesOutcome { effect, ratio: effect.ratio(), verdict: Verdict::Undecided, other_state })
        };
        for (index, of) in series.iter().enumerate() {
            comparisons.extend(series[..index].iter().map(|to| SeriesComparison {
                metric,
                cell,
                series: of.arm.case.series(),
                baseline: to.arm.case.series(),
                outcome: outcome(of, to),
            }));
        }
    }
    let has_control = records.iter().any(|record| record.arm == control);
    let arms = series.into_iter().chain(has_control.then(|| arm_result(control, timed, records))).collect();
    CellResult { cell, fragment_ns: 0.0, arms, comparisons, controls }
}

/// Gives each arm the baseline's throughput and CPU time, by the ratio of the two: a ratio is taken
/// inside a round, and the machine's drift between rounds is not in it. So the values of two arms,
/// divided, are the ratio that is printed.
fn follow_the_baseline(cell: &mut CellResult) {
    let CellResult { arms, comparisons, controls, .. } = cell;
    let Some((baseline, others)) = arms.split_first_mut() else { return };
    let gain = |arm: Arm, metric: Metric| {
        if arm.control {
            return controls.get(&metric).map(|effect| effect.log_mean.exp());
        }
        let of_arm = |comparison: &&SeriesComparison| {
            (comparison.metric, comparison.series) == (metric, arm.case.series())
                && comparison.baseline == baseline.arm.case.series()
        };
        let found = comparisons.iter().find(of_arm)?.outcome.as_ref().ok()?;
        Some(found.ratio.value)
    };
    for arm in others {
        let follow = |own: Option<Measure>, of: Option<Measure>, metric: Metric| {
            let change = metric.direction().of_gain(gain(arm.arm, metric)?);
            let own = own?;
            // Its interval stays as wide as its own lives make it.
            Some(own.scaled(of?.value * change / own.value))
        };
        arm.throughput_gbps =
            follow(arm.throughput_gbps, baseline.throughput_gbps, Metric::Throughput).or(arm.throughput_gbps);
        arm.cpu_ns_per_byte =
            follow(arm.cpu_ns_per_byte, baseline.cpu_ns_per_byte, Metric::CpuPerByte).or(arm.cpu_ns_per_byte);
    }
}

fn arm_result(arm: Arm, timed: &Timed<'_>, records: &[&Record]) -> ArmResult {
    let payload_bytes = arm.case.payload_bytes as f64;
    let instances: Vec<Vec<&Sample>> = timed.of(arm).collect();
    let all = || instances.iter().flatten();
    let medians = |of: &dyn Fn(&Sample) -> Option<f64>| -> Vec<f64> {
        let of_instance = |samples: &Vec<&Sample>| {
            median(&mut samples.iter().filter_map(|sample| of(sample)).collect::<Vec<_>>())
        };
        instances.iter().filter_map(of_instance).collect()
    };
    let by_instance = |of: &dyn Fn(&Sample) -> Option<f64>| Measure::of(&medians(of));
    let gbps =
        |sample: &Sample| Some(sample.messages as f64 * payload_bytes * 8.0 / sample.elapsed_ns as f64);
    let log_gbps: Vec<f64> = medians(&gbps).into_iter().map(f64::ln).collect();
    let per_message = |ns: Option<f64>, sample: &Sample| Some(ns? / sample.messages as f64);

    let mean = |samples: &Vec<&Sample>| {
        let trips = || samples.iter().filter_map(|sample| sample.client.round_trips.as_ref());
        let count: u64 = trips().map(|trips| trips.count).sum();
        (count > 0).then(|| trips().map(|trips| trips.sum_ns).sum::<u64>() as f64 / count as f64)
    };
    let means: Vec<f64> = instances.iter().filter_map(mean).collect();

    let pool = Replicates::of(timed.0.values()).round_trips(arm, &[arm]);

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
        throughput_gbps: by_instance(&gbps),
        throughput_log: Effect::of(&log_gbps),
        rtt_mean_ns: Measure::of(&means),
        rtt_quantiles_ns: [0.5, 0.9, 0.99, 0.999].map(|share| (share, quantile(&pool, share))),
        rtt_max_ns: all().filter_map(|sample| Some(sample.client.round_trips.as_ref()?.max_ns)).max(),
        cpu_ns_per_message: [
            by_instance(&|sample| per_message(sample.server.cpu_ns(), sample)),
            by_instance(&|sample| per_message(sample.client.cpu_ns(), sample)),
        ],
        cpu_ns_per_byte: by_instance(&|sample| {
            let both_ns = sample.server.cpu_ns()? + sample.client.cpu_ns()?;
            Some(per_message(Some(both_ns), sample)? / payload_bytes)
        }),
        counted: Counted::default(),
        copies: Default::default(),
        retransmitted_segments: Some(0),
        copied_messages: 0,
        fragments_per_message: None,
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
        let again = result.retransmitted_segments.zip(sample.server.retransmitted_segments);
        result.retransmitted_segments = again.map(|(sum, segments)| sum + segments);
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

/// A quantile of all of an arm's round trips, with its interval over instances.
fn quantile(pool: &Pool, share: f64) -> Option<Measure> {
    let value = pool.quantile_ns(share)?;
    let ratio = pool.effect(share).map(|effect| effect.ratio());
    Some(Measure { value, interval: ratio.map(|ratio| (ratio.low, ratio.high)) })
}
