//! Lives on a rig: the real pairs, or what tests simulate of them.

use std::collections::HashMap;
use std::time::Duration;

use super::{Asked, Lives};
use crate::case::{Case, Receiver};
use crate::in_order::distinct;
use crate::results::fragment_cost::{Both, fragments_of};
use crate::results::metric::Metric;
use crate::results::observation::{Rounds, observation};
use crate::results::record::Arm;
use crate::results::stats::median;
use crate::sample::{Sample, ZeroCopyCounts};
use crate::sweep::{Rig, VISITS_PER_LIFE, Visits};

/// The case of an arm by the size that is looked at, in bytes.
pub type CaseAt = Box<dyn Fn(usize) -> Case>;

/// From which size on is one arm better than another?
pub struct Question {
    /// The arm that may pay.
    pub arm: CaseAt,
    /// What it is held against. At each size both have the same cell.
    pub baseline: CaseAt,
}

/// Lives of the arms of some questions, on a rig. What is asked for together is interleaved as the
/// cells of a sweep are.
pub struct RigLives<'q, R> {
    rig: R,
    questions: &'q [Question],
    seed: u64,
    batches: u64,
    zero_copy: Vec<ZeroCopyCounts>,
    fragments: FragmentCost,
    /// What a message takes by the baseline, in nanoseconds, by question and size: of each life.
    baseline_ns: HashMap<(usize, usize), Vec<f64>>,
}

/// What a card's driver adds to each message, which the sink has not.
#[derive(Clone, Copy, Debug, Default)]
pub struct FragmentCost {
    /// For a fragment, in nanoseconds.
    pub fragment_ns: f64,
    /// Payload of a segment, which decides how many there are.
    pub mss_bytes: Option<usize>,
}

impl FragmentCost {
    /// Of a message, in nanoseconds; none where its fragments are not known.
    fn of(&self, case: &Case) -> Option<f64> {
        if self.fragment_ns <= 0.0 || case.receiver != Receiver::Sink {
            return Some(0.0);
        }
        Some(self.fragment_ns * fragments_of(case, self.mss_bytes)?)
    }
}

impl<'q, R: Rig> RigLives<'q, R> {
    /// On `rig`. All orders are drawn from `seed`.
    pub fn new(rig: R, questions: &'q [Question], seed: u64) -> Self {
        let zero_copy = vec![ZeroCopyCounts::default(); questions.len()];
        let (fragments, baseline_ns) = (FragmentCost::default(), HashMap::new());
        Self { rig, questions, seed, batches: 0, zero_copy, fragments, baseline_ns }
    }

    /// Adds this to every message from now on.
    pub fn add_fragment_cost(&mut self, fragments: FragmentCost) {
        self.fragments = fragments;
    }

    /// What a fragment may cost until the arm of `question` is no longer ahead at a size at which
    /// it was measured to be `ratio` times as fast; none where fragments are not known, and
    /// infinite where it has no more than the baseline.
    pub(crate) fn bearable_ns(&self, question: usize, bytes: usize, ratio: f64) -> Option<f64> {
        let Question { arm, baseline } = self.questions.get(question)?;
        let cases = [arm(bytes), baseline(bytes)];
        let [ours, theirs] = cases.map(|case| {
            fragments_of(&case, self.fragments.mss_bytes).filter(|_| case.receiver == Receiver::Sink)
        });
        let baseline_ns = median(&mut self.baseline_ns.get(&(question, bytes))?.clone())?;
        let both = Both { baseline_ns, fragments: [ours?, theirs?] };
        Some(self.fragments.fragment_ns + both.bearable_ns(ratio))
    }

    /// What the kernel said of each question's arm, of all its timed zero-copy sends: were they
    /// copied?
    pub fn zero_copy(&self) -> &[ZeroCopyCounts] {
        &self.zero_copy
    }
}

impl<R: Rig> Lives for RigLives<'_, R> {
    fn live(&mut self, asked: &[Asked]) -> Vec<Result<f64, String>> {
        let arm = |case: Case| Arm { case, control: false };
        let arms_of = |&Asked { question, bytes }: &Asked| {
            let Question { arm: paying, baseline } = &self.questions[question];
            [arm(paying(bytes)), arm(baseline(bytes))]
        };
        let arms = distinct(asked.iter().flat_map(arms_of));
        // Each batch has orders of its own.
        let mut visits = Visits::new(&mut self.rig, arms.clone(), self.seed.wrapping_add(self.batches));
        self.batches += 1;
        visits.measure(VISITS_PER_LIFE as usize);
        let mut life = |arm: Arm| {
            let visits: Result<Vec<_>, String> = (0..VISITS_PER_LIFE).map(|_| visits.next(arm)).collect();
            Ok(visits?.into_iter().flatten().collect())
        };
        let lives: HashMap<Arm, Result<Vec<Sample>, String>> =
            arms.iter().map(|&arm| (arm, life(arm))).collect();
        let mut gains = Vec::new();
        for one in asked {
            let arms = arms_of(one);
            gains.push(log_ratio(&lives, arms, &self.fragments));
            if let Some(Ok(samples)) = lives.get(&arms[1]) {
                let of_message = |sample: &Sample| sample.elapsed_ns as f64 / sample.messages.max(1) as f64;
                let added_ns = self.fragments.of(&arms[1].case).unwrap_or_default();
                let ns = median(&mut samples.iter().map(of_message).collect::<Vec<_>>());
                let known = self.baseline_ns.entry((one.question, one.bytes)).or_default();
                known.extend(ns.map(|ns| ns * arms[1].case.threads as f64 + added_ns));
            }
            if let Some(Ok(samples)) = lives.get(&arms[0]) {
                let counts = samples.iter().filter_map(|sample| sample.server.zero_copy);
                counts.for_each(|counts| self.zero_copy[one.question] += counts);
            }
        }
        gains
    }

    fn elapsed(&self) -> Duration {
        self.rig.elapsed()
    }
}

/// How much better the first arm was than the second, in the median round of their life.
fn log_ratio(
    lives: &HashMap<Arm, Result<Vec<Sample>, String>>,
    [arm, baseline]: [Arm; 2],
    fragments: &FragmentCost,
) -> Result<f64, String> {
    let mut rounds: Rounds<Arm, Sample> = Rounds::new();
    for arm in [arm, baseline] {
        let added_ns = fragments.of(&arm.case).ok_or("the fragments of its messages are not known")?;
        // Pairs send at the same time.
        let added_ns = added_ns / arm.case.threads as f64;
        let samples = lives
            .get(&arm)
            .ok_or("not measured")?
            .as_ref()
            .map_err(|error| format!("{}: {error}", arm.case))?;
        for (round, sample) in (0..).zip(samples) {
            let added_ns = (added_ns * sample.messages as f64) as u64;
            let sample = Sample { elapsed_ns: sample.elapsed_ns + added_ns, ..sample.clone() };
            rounds.entry(round).or_default().insert(arm, sample);
        }
    }
    observation(&rounds, Metric::Throughput, arm, baseline)
        .ok_or_else(|| "the two have no round in common".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::{Range, Threshold, tune};
    use super::*;
    use crate::case::{Layout, SendPath};
    use crate::sweep::simulation::{BURST, Failure, Machine, SimulatedRig};

    /// From which size on `one_copy` is better.
    const CROSSING: f64 = 20_000.0;

    fn message_ns(case: Case) -> f64 {
        let bytes = case.payload_bytes as f64;
        // Both cost the same at the crossing.
        if case.path == SendPath::TwoCopy {
            1000.0 + 0.1 * bytes
        } else {
            1600.0 + (0.1 - 600.0 / CROSSING) * bytes
        }
    }

    /// Bursts of a thousand messages, on a machine that others share.
    fn rig(seed: u64) -> SimulatedRig {
        let truth = |case| (BURST.as_nanos() as f64 / 1000.0 / message_ns(case)).ln();
        SimulatedRig::new(seed, Machine::Shared, Duration::from_mins(1), truth)
    }

    fn at(path: SendPath) -> CaseAt {
        Box::new(move |payload_bytes| Case { path, payload_bytes, ..Case::default() })
    }

    fn questions() -> [Question; 2] {
        [SendPath::OneCopy, SendPath::ZeroCopy]
            .map(|path| Question { arm: at(path), baseline: at(SendPath::TwoCopy) })
    }

    #[test]
    fn a_life_has_ten_rounds_of_all_arms_of_a_size_and_says_what_the_arm_gains() {
        let questions = questions();
        let mut lives = RigLives::new(rig(1), &questions, 1);
        let asked: Vec<Asked> =
            [(0, 4096), (1, 4096), (0, 65536)].map(|(question, bytes)| Asked { question, bytes }).into();
        let gains: Vec<f64> = lives.live(&asked).into_iter().map(|gains| gains.unwrap()).collect();
        for (gains, Asked { bytes, .. }) in gains.into_iter().zip(&asked) {
            let case = |path| at(path)(*bytes);
            let truth = (message_ns(case(SendPath::TwoCopy)) / message_ns(case(SendPath::OneCopy))).ln();
            assert!((gains - truth).abs() < 0.05, "{bytes}: {gains} where it is {truth}");
        }
        // The baseline serves both questions.
        assert_eq!(lives.rig.bursts(), 10 * (3 + 2));
    }

    #[test]
    fn at_the_cost_that_a_fragment_may_have_the_two_take_the_same() {
        let at = |path, layout| -> CaseAt {
            let receiver = Receiver::Sink;
            Box::new(move |payload_bytes| Case { path, layout, payload_bytes, receiver, ..Case::default() })
        };
        let (arm, baseline) = (at(SendPath::ZeroCopy, Layout::Page), at(SendPath::TwoCopy, Layout::Heap));
        let questions = [Question { arm, baseline }];
        let live = |fragment_ns| {
            let mut lives = RigLives::new(rig(1), &questions, 1);
            lives.add_fragment_cost(FragmentCost { fragment_ns, mss_bytes: Some(1448) });
            let gain = *lives.live(&[Asked { question: 0, bytes: 65536 }])[0].as_ref().unwrap();
            (gain, lives.bearable_ns(0, 65536, gain.exp()).unwrap())
        };
        let ((free, bearable_ns), (_, still)) = (live(0.0), live(50.0));
        assert!(free > 0.1, "{free}");
        assert!((60.0..140.0).contains(&bearable_ns), "1,366 ns by 14 fragments: {bearable_ns}");
        assert!((bearable_ns - still).abs() < 20.0, "what is added is part of it: {bearable_ns} {still}");
        let (dear, _) = live(bearable_ns);
        assert!(dear.abs() < 0.05, "{dear}");
    }

    #[test]
    fn an_arm_that_fails_fails_alone_and_says_which_it_was() {
        let questions = questions();
        let fails = |arm: Arm| arm.case.path == SendPath::ZeroCopy;
        let rig = rig(1).failing(move |arm, _| fails(arm).then_some(Failure::Open));
        let mut lives = RigLives::new(rig, &questions, 1);
        let gains = lives.live(&[0, 1].map(|question| Asked { question, bytes: 4096 }));
        assert!(gains[0].is_ok());
        let error = gains[1].as_ref().unwrap_err();
        assert!(
            error.starts_with("rr/zero_copy/heap/4096B/1T/paired: ") && error.contains("simulated"),
            "{error}"
        );
    }

    #[test]
    fn from_bursts_to_a_threshold() {
        let range = Range { from_bytes: 64, to_bytes: 1 << 20, step_bytes: 8, precision: 0.1 };
        let questions = questions();
        let mut covered = 0;
        for seed in 0..100 {
            let mut lives = RigLives::new(rig(seed), &questions[..1], seed);
            let time = Duration::from_mins(1);
            let (answers, _) = tune(&mut lives, &[range], time, &AtomicBool::new(false), &mut |_| {});
            let Threshold::Found { low, high, .. } = answers[0].threshold else { panic!("{:?}", answers[0]) };
            assert!(high / low < 1.1 || !answers[0].is_precise, "{:?}", answers[0]);
            covered += u32::from((low..=high).contains(&CROSSING));
        }
        assert!(covered >= 92, "{covered} of 100");
    }
}
