//! The machine's two states. On a shared host a CPU is slower for some part of a second, by a tenth
//! or more, and that changes the ratio of two paths, not only their times. Where a sweep met both
//! states, the verdict is on the usual one, and the ratio in the other stands beside it where it
//! differs. They are not put together by their shares: a sweep's share of slow visits is known much
//! worse than its ratios, and its error would be most of the interval.

use std::collections::{HashMap, HashSet};

use super::stats::{Effect, median};
use crate::case::Cell;

/// A visit: the cell, the generation and its number in the life.
pub type Visit = (Cell, u64, u64);

/// As many visits as a state has to have.
const LEAST_VISITS: usize = 3;
/// States that are nearer to each other are not told apart: the levels' noise would make them.
const LEAST_DISTANCE: f64 = 0.07;
/// How far apart the states have to be for their spread (Ashman, Bird and Zepf, *Detecting
/// bimodality in astronomical datasets*, 1994, who take 2): the two halves of one normal
/// distribution have 2.7.
const LEAST_SEPARATION: f64 = 3.0;

/// Which visits found the machine in the state that is not the usual one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States {
    unusual: HashSet<Visit>,
    /// Whether that one is the slower.
    pub unusual_is_slower: bool,
    /// What share of the visits found it.
    pub unusual_share: f64,
}

impl States {
    /// Of each visit's level: the mean logarithm of the times of baseline and control, which do not
    /// know how the other paths did. (The baseline is in the ratio, too: a border between levels
    /// that noise alone can pass would favour a side, so that the two states have to lie well
    /// apart.) The cells' levels are laid over each other by their medians. Without two states, all
    /// is usual.
    pub fn of(levels: &[(Visit, f64)]) -> Self {
        let mut by_cell: HashMap<Cell, Vec<f64>> = HashMap::new();
        for &((cell, ..), level) in levels {
            by_cell.entry(cell).or_default().push(level);
        }
        let medians: HashMap<Cell, f64> =
            by_cell.into_iter().filter_map(|(cell, mut levels)| Some((cell, median(&mut levels)?))).collect();
        let above = |&(visit, level): &(Visit, f64)| Some((visit, level - medians.get(&visit.0)?));
        let above: Vec<(Visit, f64)> = levels.iter().filter_map(above).collect();
        let Some(border) = border(&above.iter().map(|(_, level)| *level).collect::<Vec<_>>()) else {
            return Self::default();
        };
        let (slow, fast): (Vec<_>, Vec<_>) = above.iter().partition(|(_, level)| *level >= border);
        let unusual_is_slower = slow.len() <= fast.len();
        let unusual = if unusual_is_slower { slow } else { fast };
        Self {
            unusual_is_slower,
            unusual_share: unusual.len() as f64 / above.len() as f64,
            unusual: unusual.into_iter().map(|(visit, _)| visit).collect(),
        }
    }

    /// Whether a visit found the machine in its usual state.
    pub fn is_usual(&self, visit: Visit) -> bool {
        !self.unusual.contains(&visit)
    }
}

/// The lowest level of the slow state; none where there are no two.
fn border(levels: &[f64]) -> Option<f64> {
    let mut sorted = levels.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Sums of the first so many, and of their squares, so that each split costs the same.
    let mut sums = vec![(0.0, 0.0)];
    for level in &sorted {
        let (sum, squares) = sums[sums.len() - 1];
        sums.push((sum + level, squares + level * level));
    }
    let spread = |from: usize, to: usize| {
        let count = (to - from) as f64;
        let mean = (sums[to].0 - sums[from].0) / count;
        (mean, (sums[to].1 - sums[from].1 - count * mean * mean).max(0.0))
    };
    let all = sorted.len();
    // The split that leaves least spread inside of the two (Otsu's).
    let places = LEAST_VISITS..(all + 1).saturating_sub(LEAST_VISITS);
    let within = |&at: &usize| spread(0, at).1 + spread(at, all).1;
    let at = places.min_by(|one, other| within(one).total_cmp(&within(other)))?;
    let ((fast, fast_squares), (slow, slow_squares)) = (spread(0, at), spread(at, all));
    let variance = fast_squares / (at - 1) as f64 + slow_squares / (all - at - 1) as f64;
    let separation = (2.0 / variance).sqrt() * (slow - fast);
    (slow - fast >= LEAST_DISTANCE && separation >= LEAST_SEPARATION).then_some(sorted[at])
}

/// A comparison in the machine's other state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OtherState {
    /// Whether the machine was slower in it.
    pub is_slower: bool,
    /// What share of the sweep's visits found it.
    pub share: f64,
    /// The effect in it.
    pub effect: Effect,
}

impl OtherState {
    /// The effect in the other state, if it differs from `usual` by more than `margin`, and by more
    /// than chance. `observations` has one for each life that met it.
    pub fn of(states: &States, usual: &Effect, observations: &[f64], margin: f64) -> Option<Self> {
        let effect = Effect::of(observations)?;
        let difference = effect.minus(usual);
        let differs = difference.log_mean.abs() > margin.ln_1p() && difference.p_value() < 0.01;
        differs.then_some(Self { is_slower: states.unusual_is_slower, share: states.unusual_share, effect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

    fn visits() -> impl Iterator<Item = Visit> {
        let cell = |visit: u64| Case { payload_bytes: 64 << (visit % 3), ..Case::default() }.cell();
        (0..90).map(move |visit| (cell(visit), visit / 15, visit / 3 % 5))
    }

    fn levels(rng: &mut ChaCha8Rng, slow_share: f64, slower: f64) -> Vec<(Visit, f64)> {
        let noise = Normal::new(9.0, 0.02).unwrap();
        let mut level = |visit: Visit| {
            let size = (visit.0.payload_bytes as f64).ln();
            noise.sample(rng) + size + if rng.random_bool(slow_share) { slower } else { 0.0 }
        };
        visits().map(|visit| (visit, level(visit))).collect()
    }

    #[test]
    fn two_states_are_found_where_there_are_two() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut found = |share, slower| {
            let states = (0..200).map(|_| States::of(&levels(&mut rng, share, slower)));
            states
                .filter(|states| states.unusual_share > 0.0)
                .map(|states| states.unusual_is_slower)
                .collect::<Vec<_>>()
        };
        let slow = found(0.2, 0.15);
        assert!(slow.len() >= 195 && slow.iter().all(|is_slower| *is_slower), "{}", slow.len());
        assert!(found(0.8, 0.15).iter().all(|is_slower| !is_slower), "mostly slow is usual");
        assert_eq!(found(0.2, 0.0).len(), 0, "noise has no states");
    }

    #[test]
    fn a_slow_visit_is_told_whatever_the_cell_s_own_level() {
        let slow: HashSet<Visit> = visits().step_by(7).collect();
        let level = |visit: Visit| {
            let own = (visit.0.payload_bytes as f64).ln() + 0.001 * (visit.1 as f64);
            own + if slow.contains(&visit) { 0.2 } else { 0.0 }
        };
        let states = States::of(&visits().map(|visit| (visit, level(visit))).collect::<Vec<_>>());
        assert!(visits().all(|visit| states.is_usual(visit) != slow.contains(&visit)));
        assert!((states.unusual_share - slow.len() as f64 / visits().count() as f64).abs() < 1e-12);
    }

    #[test]
    fn the_other_state_is_shown_where_it_differs() {
        let states = States { unusual_is_slower: true, unusual_share: 0.2, ..States::default() };
        let usual = Effect::of(&[0.001, -0.001, 0.002, 0.0]).unwrap();
        let other = |centre: f64| {
            OtherState::of(&states, &usual, &[centre, centre + 0.002, centre - 0.002, centre + 0.001], 0.02)
        };
        assert_eq!(other(0.08).map(|state| state.is_slower), Some(true));
        assert_eq!(other(0.001), None);
        assert_eq!(OtherState::of(&states, &usual, &[0.08, 0.08], 0.02), None, "two lives are too few");
    }
}
