//! From which size on a way to send pays: the search for the sizes at which two ways cost the same.
//!
//! What is measured is a *life*, as in a sweep: new instances of two arms, ten rounds in random
//! order, and of those one number, the median log ratio. A sweep measures given sizes; here, what
//! was measured says which size is next. docs/book/src/tune.md has the method and how often it is
//! wrong.

mod curve;
pub mod format;
pub mod plan;
mod rig_lives;
mod search;

#[cfg(test)]
mod simulation;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

pub use rig_lives::{FragmentCost, Question, RigLives};
use search::{Look, Next, Search};
pub use search::{Measured, Range, Reason, Threshold};

/// After so many failures a question is given up: each may take a deadline of some seconds, and the
/// others need that time.
const MAX_FAILURES: u32 = 3;

/// One life that is to be had of a question's two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The question, by its number.
    pub question: usize,
    /// The size, in bytes.
    pub bytes: usize,
}

/// What is measured: the real pairs, or a simulation of them in tests.
pub trait Lives {
    /// One life of each that is asked for, side by side. Of each, how much better the arm was than
    /// the baseline, on a log scale; or why there is no such number.
    fn live(&mut self, asked: &[Asked]) -> Vec<Result<f64, String>>;

    /// The time since it was made.
    fn elapsed(&self) -> Duration;
}

/// What was found of a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// From which size on the arm pays.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// Whether it is as precise as was asked for.
    pub is_precise: bool,
    /// A size below at which it pays too, though not at sizes between.
    pub pays_below: Option<usize>,
    /// Lives that were measured.
    pub lives: usize,
    /// What was measured, by size.
    pub measured: Vec<Measured>,
    /// Why it was given up.
    pub failed: Option<String>,
}

/// Where it stands.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// Time that has been used.
    pub elapsed: Duration,
    /// What is measured next.
    pub asked: &'a [Asked],
    /// What could be said by now, of each question.
    pub thresholds: &'a [Threshold],
    /// A question that has just been given up, and why.
    pub failed: Option<(usize, &'a str)>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum StopReason {
    /// Every question has its answer.
    Answered,
    /// The time is over.
    Time,
    /// It was told to.
    Interrupted,
}

/// A question while it is looked into.
struct State {
    search: Search,
    look: Look,
    failures: u32,
    failed: Option<String>,
}

/// Looks for the threshold of each question, given by the range of its sizes, until all are as
/// precise as was asked for, `time` is over, or `interrupted` is set; then the lives that were
/// begun are finished first.
pub fn tune(
    lives: &mut impl Lives,
    questions: &[Range],
    time: Duration,
    interrupted: &AtomicBool,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> (Vec<Answer>, StopReason) {
    let state = |&range: &Range| {
        let search = Search::new(range);
        State { look: search.look(), search, failures: 0, failed: None }
    };
    let mut states: Vec<State> = questions.iter().map(state).collect();
    let began = lives.elapsed();
    let mut longest = Duration::ZERO;
    let reason = loop {
        let elapsed = lives.elapsed().saturating_sub(began);
        let asked: Vec<Asked> =
            states.iter().enumerate().flat_map(|(question, state)| state.asked(question)).collect();
        let thresholds: Vec<Threshold> = states.iter().map(|state| state.look.threshold).collect();
        if interrupted.load(Ordering::Relaxed) {
            break StopReason::Interrupted;
        }
        if asked.is_empty() {
            break StopReason::Answered;
        }
        // What is begun now should be over in time.
        if elapsed.saturating_add(longest * u32::try_from(asked.len()).unwrap_or(u32::MAX)) > time {
            break StopReason::Time;
        }
        let now = Progress { elapsed, asked: &asked, thresholds: &thresholds, failed: None };
        progress(&now);
        let gains = lives.live(&asked);
        let took = lives.elapsed().saturating_sub(began).saturating_sub(elapsed);
        longest = longest.max(took / u32::try_from(asked.len()).unwrap_or(u32::MAX));
        for (&Asked { question, bytes }, gains) in asked.iter().zip(gains) {
            let state = &mut states[question];
            match gains {
                Ok(log_ratio) => state.search.add(bytes, log_ratio),
                Err(error) => {
                    state.failures += 1;
                    if state.failures == MAX_FAILURES {
                        progress(&Progress { failed: Some((question, &error)), ..now });
                        state.failed = Some(error);
                    }
                }
            }
        }
        for state in &mut states {
            state.look = state.search.look();
        }
    };
    (states.into_iter().map(State::answer).collect(), reason)
}

impl State {
    /// What is to be measured of it next.
    fn asked(&self, question: usize) -> Vec<Asked> {
        let asked = |&bytes: &usize| Asked { question, bytes };
        match self.look.next {
            _ if self.failed.is_some() => Vec::new(),
            Next::Nothing => Vec::new(),
            Next::Posts => self.search.posts().iter().map(asked).collect(),
            Next::One(bytes) => vec![asked(&bytes)],
        }
    }

    fn answer(self) -> Answer {
        let Self { search, look: Look { threshold, next }, failed, .. } = self;
        Answer {
            threshold,
            is_precise: next == Next::Nothing,
            pays_below: search.pays_below(),
            lives: search.lives(),
            measured: search.measured(),
            failed,
        }
    }
}
