//! Many simulated searches of each kind: how often is the interval wrong, and what would a grid of
//! sizes take? A thousand of each are the campaign (`experiments/simulations.sh`), of which
//! `cargo test` runs the first.
//!
//! What is simulated is a life: the log ratio that it gives. The search is the real one. How a life
//! comes about of bursts is tested in `rig_lives`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::search::Search;
use super::{Answer, Asked, Lives, Range, StopReason, Threshold, tune};
use crate::sweep::simulation::{first, slack};

const SEARCHES: u64 = 1000;
const RANGE: Range = Range { from_bytes: 64, to_bytes: 1 << 20, step_bytes: 8, precision: 0.1 };
/// What a life takes.
const LIFE: Duration = Duration::from_millis(100);
/// A time that no search takes.
const LONG: Duration = Duration::from_mins(1);

/// What a machine does to the lives.
#[derive(Clone, Copy, Debug)]
enum Machine {
    /// Lives differ by 0.4 to 1 %, independently.
    Calm,
    /// The same, and one life in seven is eight times as noisy.
    Hit,
    /// The same as calm, and for some lives at a time the ratio is shifted: by a third of a life's
    /// noise, correlated by 0.8 with the life before.
    Drifting,
}

/// What an arm gains on the baseline, by size.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Both cost a fixed part and a part by the byte, and they cost the same at the crossing. At
    /// small sizes the arm costs 16 to 57 % more, at large ones 26 to 45 % less.
    Costs,
    /// The same with a step of 4 % at some size up to 1.8 times above or below the crossing, as
    /// where fields pass a page.
    Step,
    /// As costs, with a slope that is less than half as steep below the crossing as above it.
    Bend,
    /// The same everywhere.
    Flat(f64),
    /// It pays up to a KiB, then it does not, and from the crossing on it does again.
    Twice,
}

struct Simulated {
    rng: ChaCha8Rng,
    machine: Machine,
    shape: Shape,
    /// The logarithm of the size from which on the arm pays.
    crossing: f64,
    /// How much more the arm costs at size 0, and what a byte costs by baseline and by arm.
    start: f64,
    by_byte: [f64; 2],
    step_at: f64,
    noise: f64,
    drift: f64,
    lives: u32,
    /// Questions whose arm fails.
    failing: fn(usize) -> bool,
}

impl Simulated {
    fn new(seed: u64, machine: Machine, shape: Shape) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let least = if matches!(shape, Shape::Twice) { 10e3_f64 } else { 300.0 };
        let crossing = rng.random_range(least.ln()..300e3_f64.ln());
        let start = rng.random_range(0.15_f64..0.45).exp();
        let gain = rng.random_range(-0.6_f64..-0.3).exp();
        let by_byte = (start - 1.0) / (crossing.exp() * (1.0 - gain));
        Self {
            machine,
            shape,
            crossing,
            start,
            by_byte: [by_byte, by_byte * gain],
            step_at: rng.random_range(-0.6..0.6),
            noise: rng.random_range(0.004..0.01),
            drift: 0.0,
            lives: 0,
            failing: |_| false,
            rng,
        }
    }

    fn truth(&self, bytes: usize) -> f64 {
        let bytes = bytes as f64;
        let costs = ((1.0 + self.by_byte[0] * bytes) / (self.start + self.by_byte[1] * bytes)).ln();
        let x = bytes.ln() - self.crossing;
        match self.shape {
            // At the crossing the two cost the same.
            Shape::Step if x > self.step_at && self.step_at > 0.0 => costs + 0.04,
            Shape::Step if x < self.step_at && self.step_at < 0.0 => costs - 0.04,
            Shape::Costs | Shape::Step => costs,
            Shape::Bend => {
                if x < 0.0 {
                    0.4 * costs
                } else {
                    costs
                }
            }
            Shape::Flat(level) => level,
            Shape::Twice => {
                if bytes < 1024.0 {
                    0.1
                } else {
                    costs
                }
            }
        }
    }

    fn normal(&mut self, sd: f64) -> f64 {
        Normal::new(0.0, sd).unwrap().sample(&mut self.rng)
    }

    fn life(&mut self, bytes: usize) -> f64 {
        self.lives += 1;
        let noise = match self.machine {
            Machine::Hit if self.rng.random_bool(1.0 / 7.0) => 8.0 * self.noise,
            _ => self.noise,
        };
        self.drift = 0.8 * self.drift + self.normal(0.6 * self.noise / 3.0);
        let drift = if matches!(self.machine, Machine::Drifting) { self.drift } else { 0.0 };
        self.truth(bytes) + drift + self.normal(noise)
    }

    fn covered(&self, threshold: Threshold) -> Option<bool> {
        let Threshold::Found { low, high, .. } = threshold else { return None };
        Some((low.ln()..=high.ln()).contains(&self.crossing))
    }
}

impl Lives for Simulated {
    fn live(&mut self, asked: &[Asked]) -> Vec<Result<f64, String>> {
        let life = |&Asked { question, bytes }: &Asked| {
            if (self.failing)(question) { Err("planted".to_owned()) } else { Ok(self.life(bytes)) }
        };
        asked.iter().map(life).collect()
    }

    fn elapsed(&self) -> Duration {
        LIFE * self.lives
    }
}

fn search(simulated: &mut Simulated, range: Range, time: Duration) -> Answer {
    let (mut answers, _) = tune(simulated, &[range], time, &AtomicBool::new(false), &mut |_| {});
    answers.remove(0)
}

fn median(mut values: Vec<f64>) -> f64 {
    crate::results::stats::median(&mut values).unwrap()
}

/// What many searches for a crossing came to.
struct Tally {
    found: usize,
    covered: usize,
    lives: f64,
    /// Half the interval's width, as a share of the size.
    half: f64,
}

fn searches(machine: Machine, shape: Shape, precision: f64) -> Tally {
    let (mut found, mut covered, mut lives, mut halves) = (0, 0, Vec::new(), Vec::new());
    for seed in 0..first(SEARCHES) {
        let mut simulated = Simulated::new(seed, machine, shape);
        let answer = search(&mut simulated, Range { precision, ..RANGE }, LONG);
        let covers = simulated.covered(answer.threshold);
        found += usize::from(covers.is_some());
        covered += usize::from(covers == Some(true));
        lives.push(answer.lives as f64);
        if let Threshold::Found { low, high, .. } = answer.threshold {
            halves.push((high / low).ln() / 2.0);
        }
    }
    Tally { found, covered, lives: median(lives), half: median(halves) }
}

#[test]
fn the_interval_of_a_planted_crossing_covers_it() {
    let mut bars = Vec::new();
    for (machine, shape, bar) in [
        (Machine::Calm, Shape::Costs, 0.95),
        (Machine::Hit, Shape::Costs, 0.95),
        (Machine::Drifting, Shape::Costs, 0.94),
        (Machine::Calm, Shape::Step, 0.93),
        (Machine::Calm, Shape::Bend, 0.75),
    ] {
        for precision in [0.1, 0.05] {
            let Tally { found, covered, lives, half } = searches(machine, shape, precision);
            let coverage = covered as f64 / found as f64;
            println!(
                "{machine:?} {shape:?}, precision {precision}: covered {coverage:.3} of {found}, {lives} lives, ± {half:.3}"
            );
            bars.push((found as u64 == first(SEARCHES), coverage, bar, machine, shape));
        }
    }
    for (all_found, coverage, bar, machine, shape) in bars {
        let reaches = coverage >= bar - slack(bar, first(SEARCHES));
        assert!(all_found && reaches, "{machine:?} {shape:?}: {coverage}");
    }
}

/// The lives of a grid, eight times the size being cut into so many steps, with so many lives at
/// each; and what the same fit says of them.
fn grid(steps: i32, lives: u32) -> (usize, f64) {
    let mut halves = Vec::new();
    let mut taken = 0;
    for seed in 0..first(SEARCHES / 4) {
        let mut simulated = Simulated::new(seed, Machine::Calm, Shape::Costs);
        let mut search = Search::new(RANGE);
        for _ in 0..lives {
            let sizes = (0..).map(|step| 64.0 * 8.0_f64.powf(f64::from(step) / f64::from(steps)));
            let sizes = sizes.map(|size| (size / 8.0).round() as usize * 8);
            for bytes in sizes.take_while(|&bytes| bytes < RANGE.to_bytes).chain([RANGE.to_bytes]) {
                let life = simulated.life(bytes);
                search.add(bytes, life);
            }
        }
        taken = search.lives();
        halves.push(match search.look().threshold {
            Threshold::Found { low, high, .. } => (high / low).ln() / 2.0,
            _ => f64::INFINITY,
        });
    }
    (taken, median(halves))
}

#[test]
fn it_takes_at_most_half_of_the_lives_that_a_grid_takes() {
    for precision in [0.1, 0.05] {
        let ours = searches(Machine::Calm, Shape::Costs, precision);
        let mut grids: Vec<(i32, u32)> =
            (1..=12).flat_map(|steps| (2..=40).map(move |lives| (steps, lives))).collect();
        let lives_of = |&(steps, lives): &(i32, u32)| (14 * steps as u32).div_ceil(3) * lives + lives;
        grids.sort_by_key(lives_of);
        // The cheapest of all grids with as narrow an interval.
        let narrow = |&(steps, lives): &(i32, u32)| {
            let (taken, half) = grid(steps, lives);
            (half <= ours.half).then_some((taken, steps, lives))
        };
        let (least, steps, lives) = grids.iter().find_map(narrow).unwrap();
        let factor = 8.0_f64.powf(1.0 / f64::from(steps));
        println!(
            "precision {precision}: {} lives for ± {:.3}; the cheapest grid takes {least}: a factor of {factor:.2}, {lives} lives \
             each",
            ours.lives, ours.half
        );
        assert!(2.0 * ours.lives <= least as f64, "{} against {least}", ours.lives);
    }
}

#[test]
fn what_pays_nowhere_or_everywhere_is_seldom_said_to_have_a_threshold() {
    let searches = first(SEARCHES);
    let most_false = ((0.05 + slack(0.05, searches)) * searches as f64) as u64;
    for (machine, level) in [
        (Machine::Calm, 0.0),
        (Machine::Calm, -0.005),
        (Machine::Calm, 0.005),
        (Machine::Calm, -0.03),
        (Machine::Calm, 0.03),
        (Machine::Hit, 0.0),
        (Machine::Hit, -0.03),
    ] {
        let mut said: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in 0..searches {
            let mut simulated = Simulated::new(seed, machine, Shape::Flat(level));
            let answer = search(&mut simulated, RANGE, LIFE * 150);
            let words = match answer.threshold {
                Threshold::Found { .. } => "found",
                Threshold::Always => "everywhere",
                Threshold::Never => "nowhere",
                Threshold::Undecided { .. } => "undecided",
            };
            *said.entry(words).or_default() += 1;
        }
        println!("{machine:?}, {:+.1} % everywhere: {said:?}", level * 100.0);
        let right = if level > 0.0 { "everywhere" } else { "nowhere" };
        let is_false = |answer: &&str| *answer != "undecided" && (*answer != right || level == 0.0);
        let false_claims: u64 =
            said.iter().filter(|(answer, _)| is_false(answer)).map(|(_, count)| count).sum();
        assert!(false_claims <= most_false, "{machine:?} {level}: {said:?}");
        let decided = said.get(right).copied().unwrap_or(0);
        assert!(level.abs() < 0.01 || decided >= searches - most_false, "{machine:?} {level}: {said:?}");
    }
}

#[test]
fn of_two_crossings_the_last_is_found_and_the_first_is_spoken_of() {
    let mut covered = 0;
    for seed in 0..200 {
        let mut simulated = Simulated::new(seed, Machine::Calm, Shape::Twice);
        let answer = search(&mut simulated, RANGE, LONG);
        assert_eq!(answer.pays_below, Some(512), "{answer:?}");
        covered += u32::from(simulated.covered(answer.threshold) == Some(true));
    }
    assert!(covered >= 188, "{covered} of 200");
    let mut simulated = Simulated::new(1, Machine::Calm, Shape::Costs);
    assert_eq!(search(&mut simulated, RANGE, LONG).pays_below, None);
}

#[test]
fn it_ends_when_the_time_is_over_and_says_what_is_known() {
    let run = |time: Duration| {
        let mut simulated = Simulated::new(3, Machine::Calm, Shape::Costs);
        let ended = tune(&mut simulated, &[RANGE], time, &AtomicBool::new(false), &mut |_| {});
        (ended.0[0].clone(), ended.1, simulated.elapsed())
    };
    // The posts are measured once, whatever that takes.
    let (answer, reason, elapsed) = run(Duration::from_millis(1));
    assert_eq!((reason, elapsed), (StopReason::Time, LIFE * 6));
    assert!(matches!(answer.threshold, Threshold::Undecided { low: 64, high: 1_048_576, .. }), "{answer:?}");
    let (answer, reason, elapsed) = run(LIFE * 19);
    assert_eq!((reason, answer.is_precise), (StopReason::Time, false));
    assert!(elapsed <= LIFE * 19 && answer.lives == 19, "{answer:?}");
    let (answer, reason, _) = run(LONG);
    assert_eq!((reason, answer.is_precise), (StopReason::Answered, true));
    assert_eq!(answer.measured.iter().map(|measured| measured.lives).sum::<usize>(), answer.lives);
    assert!(answer.measured.is_sorted_by_key(|measured| measured.bytes));
}

#[test]
fn interrupted_it_measures_no_more() {
    let mut simulated = Simulated::new(3, Machine::Calm, Shape::Costs);
    let (answers, reason) = tune(&mut simulated, &[RANGE], LONG, &AtomicBool::new(true), &mut |_| {});
    assert_eq!((reason, answers[0].lives), (StopReason::Interrupted, 0));
}

#[test]
fn a_question_that_fails_is_given_up_and_the_others_go_on() {
    let mut simulated =
        Simulated { failing: |question| question == 1, ..Simulated::new(3, Machine::Calm, Shape::Costs) };
    let mut given_up = Vec::new();
    let mut progress = |progress: &super::Progress<'_>| {
        given_up.extend(progress.failed.map(|(question, error)| (question, error.to_owned())));
    };
    let (answers, reason) = tune(&mut simulated, &[RANGE; 2], LONG, &AtomicBool::new(false), &mut progress);
    assert_eq!(given_up, [(1, "planted".to_owned())]);
    assert_eq!((answers[1].failed.as_deref(), answers[1].lives), (Some("planted"), 0));
    assert_eq!((reason, answers[0].is_precise), (StopReason::Answered, true));
}
