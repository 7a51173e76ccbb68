//! One row of `samples.csv`: a burst, or the error that stands in its place.

use crate::case::Case;
use crate::sample::Sample;

/// Rounds of a visit: what is measured of a cell before another is visited.
pub const ROUNDS_PER_VISIT: u64 = 2;

/// What was measured of one arm in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which life of the instances, from 0. All arms of a cell are made anew together.
    pub generation: u64,
    /// The round within the generation, from 0.
    pub round: u64,
    /// The arm's place in the round's order, from 0.
    pub position: u64,
    /// What was measured.
    pub arm: Arm,
    /// Whether the burst's time counts. One whose threads carried counters is slower by them, so
    /// that its counters count and its time does not.
    pub timed: bool,
    /// The burst, or why there is none.
    pub outcome: Result<Sample, String>,
}

/// A case, or the control: the baseline case measured a second time, as if it were another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arm {
    /// The case.
    pub case: Case,
    /// Whether this is the control.
    pub control: bool,
}
