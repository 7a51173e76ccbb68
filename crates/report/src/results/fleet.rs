//! Many machines that measured the same: which of them are out of the ordinary.
//!
//! What is ordinary is said by the machines themselves: in each case the median over machines, and
//! a spread that is theirs too, from the median distance to it. Neither moves when fewer than half
//! of the machines are out of the ordinary. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::analysis::Measure;
use super::digest::Digest;
use super::family::Family;
use super::metric::{Direction, Metric};
use super::stats::{Effect, Estimate, centre_and_spread, median, standard_errors};
use super::verdict::Verdict;
use crate::case::Case;
use crate::environment::Topology;
use crate::in_order::{distinct, grouped};

/// Of fewer machines it cannot be told which is out of the ordinary.
pub const MIN_MACHINES: usize = 5;

/// How messages travel: sweeps of different links are not one fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Between network namespaces of one machine.
    #[strum(serialize = "between network namespaces of each machine")]
    Memory,
    /// The loopback interface.
    #[strum(serialize = "over each machine's loopback interface")]
    Loopback,
    /// Something with a network card, or what looks like one.
    #[strum(serialize = "over a network")]
    Network,
    /// The sweep does not say.
    #[strum(serialize = "over a link that is not known")]
    Unknown,
}

impl Link {
    fn of(digest: &Digest) -> Self {
        match digest.manifest.environment.as_ref().map(|environment| &environment.effective) {
            None => Self::Unknown,
            Some(effective) if effective.topology == Topology::Loopback => Self::Loopback,
            Some(effective) if effective.topology == Topology::Anonymous || effective.stays_in_memory() => {
                Self::Memory
            }
            Some(_) => Self::Network,
        }
    }
}

/// What a sweep's numbers are of: its machine, or of two machines both, as `node-a to node-b`.
fn name(digest: &Digest) -> String {
    let host = &digest.manifest.host;
    let effective = digest.manifest.environment.as_ref().map(|environment| &environment.effective);
    match effective.and_then(|effective| effective.client.as_ref()).filter(|client| !client.is_the_servers) {
        Some(client) => format!("{host} to {}", client.host),
        None => host.clone(),
    }
}

/// The machines that measured over one kind of link.
#[derive(Clone, Debug)]
pub struct Fleet<'a> {
    /// The link.
    pub link: Link,
    /// The machines, by name.
    pub machines: Vec<Machine<'a>>,
    /// Every case that a machine measured, by every metric, in the order of the plans.
    pub cases: Vec<FleetCase>,
}

/// A machine with its sweeps, or a sender with its receiver.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// Its name.
    pub host: String,
    /// Its sweeps, the earliest first.
    pub sweeps: Vec<&'a Digest>,
}

/// What the machines say of one case by one metric.
#[derive(Clone, Debug)]
pub struct FleetCase {
    /// The case.
    pub case: Case,
    /// What is compared.
    pub metric: Metric,
    /// The median over machines: Gb/s, or ns.
    pub typical: f64,
    /// How much the machines differ: a standard deviation, as a share of the median (0.02: 2 %).
    /// None of too few.
    pub spread: Option<f64>,
    /// Each machine's, in the order of [`Fleet::machines`], as far as it measured the case.
    pub machines: Vec<Deviation>,
}

/// What one machine says of one case by one metric.
#[derive(Clone, Copy, Debug)]
pub struct Deviation {
    /// The machine, by its place in [`Fleet::machines`].
    pub machine: usize,
    /// Its own number, with its interval over instances, or over sweeps where there are three or
    /// more.
    pub measure: Measure,
    /// How much better it is than the median over machines, with the interval that the verdict is
    /// read off: as wide as machines differ, and as the number of machines and cases asks for. None
    /// where there are too few machines.
    pub gain: Option<Estimate>,
    /// What is read off it. A call marks a machine that is out of the ordinary.
    pub verdict: Verdict,
}

impl Fleet<'_> {
    /// All that is out of the ordinary: the case, and the machine in it.
    pub fn marked(&self) -> impl Iterator<Item = (&FleetCase, &Deviation)> {
        self.cases.iter().flat_map(|case| {
            case.machines
                .iter()
                .filter(|machine| machine.verdict.is_call())
                .map(move |machine| (case, machine))
        })
    }

    /// Whether there are enough machines to tell.
    pub fn can_tell(&self) -> bool {
        self.machines.len() >= MIN_MACHINES
    }

    /// The machine that is nearest to the median in all that it measured: what the others are held
    /// against where it is asked how they are made.
    pub fn most_ordinary(&self) -> Option<&Machine<'_>> {
        let mut distances: Vec<(f64, usize)> = vec![(0.0, 0); self.machines.len()];
        for (case, of) in self.cases.iter().flat_map(|case| case.machines.iter().map(move |of| (case, of))) {
            let (sum, count) = &mut distances[of.machine];
            *sum += (of.measure.value / case.typical).ln().abs();
            *count += 1;
        }
        let mean = |(sum, count): (f64, usize)| if count == 0 { f64::INFINITY } else { sum / count as f64 };
        let machines = self.machines.iter().zip(distances);
        machines
            .min_by(|(_, one), (_, other)| mean(*one).total_cmp(&mean(*other)))
            .map(|(machine, _)| machine)
    }
}

/// The fleets among some sweeps: one for each kind of link.
pub fn fleets(digests: &[Digest]) -> Vec<Fleet<'_>> {
    let mut by_link: BTreeMap<Link, BTreeMap<String, Vec<&Digest>>> = BTreeMap::new();
    for digest in digests {
        by_link.entry(Link::of(digest)).or_default().entry(name(digest)).or_default().push(digest);
    }
    let mut fleets = Vec::new();
    for (link, machines) in by_link {
        let machine = |(host, mut sweeps): (String, Vec<_>)| {
            sweeps.sort_by(|one: &&Digest, other| one.manifest.started.cmp(&other.manifest.started));
            Machine { host, sweeps }
        };
        let machines: Vec<Machine<'_>> = machines.into_iter().map(machine).collect();
        fleets.push(Fleet { link, cases: cases(&machines), machines });
    }
    fleets
}

/// What is compared.
type Subject = (Case, Metric);

fn cases(machines: &[Machine<'_>]) -> Vec<FleetCase> {
    let of_machine = |(index, machine)| {
        let own = move |subject| Some((subject, (index, Own::of(machine, subject)?)));
        subjects(machine).into_iter().filter_map(own)
    };
    let found = grouped(machines.iter().enumerate().flat_map(of_machine));
    let mut cases: Vec<(FleetCase, Vec<Effect>)> =
        found.into_iter().map(|(subject, found)| fleet_case(subject, &found)).collect();
    // To mark a machine is to say that something is wrong with it, so that not one is to be marked
    // by chance. (A bound on the share of false marks would let a machine that is rightly marked in
    // all its cases pay for another.)
    let compared = cases.iter().map(|(_, effects)| effects.len()).sum();
    let Family { confidence } = Family::without_a_false_call(compared, 1.0);
    for (case, effects) in &mut cases {
        for (machine, effect) in case.machines.iter_mut().zip(effects) {
            let gain = effect.ratio_at(confidence);
            machine.verdict = Verdict::of(gain, case.metric.margin());
            machine.gain = Some(gain);
        }
    }
    cases.into_iter().map(|(case, _)| case).collect()
}

/// All that a machine measured, each once.
fn subjects(machine: &Machine<'_>) -> Vec<Subject> {
    let cases = machine.sweeps.iter().flat_map(|sweep| &sweep.cases);
    distinct(cases.flat_map(|of| of.measures.iter().map(|(metric, _)| (of.case, *metric))))
}

/// What a machine says by itself.
#[derive(Clone, Copy, Debug)]
struct Own {
    measure: Measure,
    /// The logarithm of the number, more is better, and how sure it is of that.
    log: f64,
    standard_error: f64,
}

impl Own {
    fn of(machine: &Machine<'_>, (case, metric): Subject) -> Option<Self> {
        let sweeps: Vec<(Measure, f64)> = machine
            .sweeps
            .iter()
            .filter_map(|sweep| {
                let of = sweep.case(&case)?;
                let measure = of.measure(metric).filter(|measure| measure.value > 0.0)?;
                Some((measure, standard_error(measure, of.instances)))
            })
            .collect();
        let logs: Vec<f64> = sweeps.iter().map(|(measure, _)| measure.value.ln()).collect();
        let count = logs.len() as f64;
        let log = logs.iter().sum::<f64>() / count;
        let (measure, standard_error) = match (sweeps.as_slice(), Effect::of(&logs)) {
            ([], _) => return None,
            ([(measure, standard_error)], _) => (*measure, *standard_error),
            // The spread between sweeps has the machine's drift in it, which no interval inside a
            // sweep has.
            (_, Some(effect)) => (effect.ratio().into(), effect.standard_error),
            (two, None) => {
                let squares: f64 = two.iter().map(|(_, standard_error)| standard_error.powi(2)).sum();
                (Measure { value: log.exp(), interval: None }, squares.sqrt() / count)
            }
        };
        let sign = if metric.direction() == Direction::More { 1.0 } else { -1.0 };
        Some(Self { measure, log: sign * log, standard_error })
    }
}

/// The standard error of a logarithm, from the interval of the number; 0 where there is none.
fn standard_error(measure: Measure, instances: u64) -> f64 {
    let Some((low, high)) = measure.interval.filter(|(low, _)| *low > 0.0) else { return 0.0 };
    (high / low).ln() / 2.0 / standard_errors((instances.max(2) - 1) as f64)
}

/// The case without its verdicts, and how far each machine is from the median; nothing of that
/// where there are too few.
fn fleet_case((case, metric): Subject, found: &[(usize, Own)]) -> (FleetCase, Vec<Effect>) {
    let logs: Vec<f64> = found.iter().map(|(_, own)| own.log).collect();
    let deviations = deviations(&logs, &found.iter().map(|(_, own)| own.standard_error).collect::<Vec<_>>());
    let values = &mut found.iter().map(|(_, own)| own.measure.value).collect::<Vec<_>>();
    let machine = |&(machine, Own { measure, .. }): &(usize, Own)| Deviation {
        machine,
        measure,
        gain: None,
        verdict: Verdict::Undecided,
    };
    let case = FleetCase {
        case,
        metric,
        typical: median(values).unwrap_or(f64::NAN),
        spread: deviations.as_ref().map(|(spread, _)| spread.exp_m1()),
        machines: found.iter().map(machine).collect(),
    };
    (case, deviations.map(|(_, effects)| effects).unwrap_or_default())
}

/// How far each machine is from the median of all, beside how much machines differ: the spread, and
/// an effect for each. `logs` are the machines' numbers on a log scale, `own` their own standard
/// errors. None of too few machines, or of numbers that do not spread.
///
/// By the median distance, the distance of one machine from the median has as heavy a tail as
/// Student's t with half as many degrees of freedom as there are machines: the half that lies
/// nearest makes the spread. The unit test simulates that.
fn deviations(logs: &[f64], own: &[f64]) -> Option<(f64, Vec<Effect>)> {
    let machines = logs.len();
    let (centre, spread) = centre_and_spread(logs)?;
    if machines < MIN_MACHINES || spread == 0.0 {
        return None;
    }
    // The spread has the noise of the usual sweep in it. A machine that was measured worse than
    // that owes more.
    let usual = median(&mut own.to_vec())?.powi(2);
    let effect = |(log, own): (&f64, &f64)| Effect {
        log_mean: log - centre,
        standard_error: (spread.powi(2) + (own.powi(2) - usual).max(0.0)).sqrt(),
        instances: machines,
        degrees_of_freedom: (machines / 2) as f64,
    };
    Some((spread, logs.iter().zip(own).map(effect).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    const CASES: usize = 14;

    /// Fleets that differ by 3 % from machine to machine in all cases alike, and by 1 % in each;
    /// `odd` machines are slower by `slower` on a log scale. How many machines were marked in each
    /// fleet, among the ordinary and among the odd.
    fn marked(machines: usize, odd: usize, slower: f64, repeats: usize) -> Vec<(usize, usize)> {
        let mut rng = ChaCha8Rng::seed_from_u64(machines as u64);
        let (of_machine, of_case) = (Normal::new(0.0, 0.03).unwrap(), Normal::new(0.0, 0.01).unwrap());
        let mut fleet = || {
            let levels: Vec<f64> = (0..machines)
                .map(|machine| of_machine.sample(&mut rng) - if machine < odd { slower } else { 0.0 })
                .collect();
            let noisy: Vec<bool> = (0..machines).map(|_| rng.random_bool(0.1)).collect();
            let mut effects = Vec::new();
            for _ in 0..CASES {
                // One machine in ten was measured so badly that its own error is as large as the
                // fleet's spread.
                let own: Vec<f64> = noisy.iter().map(|noisy| if *noisy { 0.03 } else { 0.003 }).collect();
                let logs: Vec<f64> = levels
                    .iter()
                    .zip(&own)
                    .map(|(level, own)| {
                        level + of_case.sample(&mut rng) + Normal::new(0.0, *own).unwrap().sample(&mut rng)
                    })
                    .collect();
                effects.extend(deviations(&logs, &own).unwrap().1.into_iter().enumerate());
            }
            let Family { confidence } = Family::without_a_false_call(effects.len(), 1.0);
            let mut calls = vec![false; machines];
            for (machine, effect) in effects {
                calls[machine] |=
                    Verdict::of(effect.ratio_at(confidence), Metric::Throughput.margin()).is_call();
            }
            let count = |calls: &[bool]| calls.iter().filter(|call| **call).count();
            (count(&calls[odd..]), count(&calls[..odd]))
        };
        (0..repeats).map(|_| fleet()).collect()
    }

    #[test]
    fn at_most_one_fleet_in_twenty_marks_an_ordinary_machine() {
        for (machines, odd, slower, repeats) in [
            (5, 0, 0.0, 1000),
            (6, 0, 0.0, 1000),
            (8, 0, 0.0, 1000),
            (15, 0, 0.0, 600),
            (40, 0, 0.0, 400),
            (300, 0, 0.0, 100),
            (10, 1, 0.6, 600),
            (40, 4, 0.25, 400),
            (300, 30, 0.25, 60),
        ] {
            let fleets = marked(machines, odd, slower, repeats);
            let wrong = fleets.iter().filter(|(ordinary, _)| *ordinary > 0).count() as f64 / repeats as f64;
            print!("{machines} machines: {:.1} % of {repeats} fleets mark an ordinary one", wrong * 100.0);
            // Three standard errors of the simulation above 5 %.
            assert!(wrong <= 0.05 + 3.0 * (0.05 * 0.95 / repeats as f64).sqrt(), "{machines}: {wrong}");
            if odd > 0 {
                let found: usize = fleets.iter().map(|(_, found)| found).sum();
                let found = found as f64 / (odd * repeats) as f64;
                let percent = -(-slower).exp_m1() * 100.0;
                print!("; {:.1} % of {odd} that are slower by {percent:.0} % are marked", found * 100.0);
                assert!(found > 0.8, "{machines}: {found}");
            }
            println!();
        }
    }

    #[test]
    fn the_median_and_the_spread_are_those_of_the_machines() {
        // By hand: median 0.03, distances 0.03 0.02 0.01 0 0.01 0.02 0.97, their median 0.02, by
        // 1.4826 and 7 / 6.2.
        let logs = [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 1.0];
        let (spread, effects) = deviations(&logs, &[0.001; 7]).unwrap();
        assert!((spread - 0.033_478).abs() < 1e-5, "{spread}");
        assert!((effects[6].log_mean - 0.97).abs() < 1e-12);
        assert!((effects[6].degrees_of_freedom - 3.0).abs() < 1e-12);
        assert!(effects.iter().all(|effect| (effect.standard_error - spread).abs() < 1e-12));
        assert!(deviations(&logs[..4], &[0.001; 4]).is_none(), "too few");
        assert!(deviations(&[0.5; 9], &[0.001; 9]).is_none(), "no spread");
        // A sweep that says little of its machine owes that.
        let mut own = [0.001; 7];
        own[6] = 0.5;
        let (_, effects) = deviations(&logs, &own).unwrap();
        assert!((effects[6].standard_error - (spread.powi(2) + 0.25 - 1e-6).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_standard_error_is_read_back_from_its_interval() {
        let effect = Effect::of(&[1.0, 1.1, 0.9, 1.05, 0.97]).unwrap();
        let ratio = effect.ratio();
        let measure = Measure::from(ratio);
        assert!((standard_error(measure, 5) - effect.standard_error).abs() < 1e-9);
        assert!(standard_error(Measure { interval: None, ..measure }, 5).abs() < 1e-12);
    }
}
