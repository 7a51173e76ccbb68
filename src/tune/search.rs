//! Which size is measured next, and what can be said of what was measured. Pure: it neither
//! measures nor draws lots.
//!
//! A search begins with *posts*: sizes eight times apart, each measured in two lives, which show on
//! which side of 0 the log ratio is. Between the last post at which the arm loses and the first
//! from which on it pays, one size after the other is measured: each at an end of the present
//! interval, where it shrinks it most. The interval is Fieller's, of a parabola through what lies
//! in the surroundings; and since a parabola does not bend as every cost does, the interval holds
//! those of narrower surroundings as well.

use std::collections::BTreeMap;

use serde::Serialize;

use super::curve::{Curve, FAR, Root};
use crate::error::{Error, Result};
use crate::results::stats::{Effect, Estimate, median, spread_around};

/// A post is so many times as large as the one before.
const POST_FACTOR: usize = 8;
/// Each post is measured in so many lives before anything is said.
const POST_LIVES: usize = 2;
/// Of fewer lives at a size it cannot be told which lie far out.
const MIN_CLIPPED: usize = 4;
/// Of the first look at a post, the chance that it takes noise for a side. A look at k lives more
/// has this by the square of k + 1, so that all together have less than twice as much.
const POST_ERROR: f64 = 0.03;
/// The surroundings that the curve is fitted in, to either side, on the logarithm of the size.
const SURROUNDINGS: f64 = 1.5;
/// Narrower surroundings, whose fits have to agree.
const NARROWER: [f64; 3] = [0.7, 0.35, 0.18];
/// A fit in narrower surroundings takes so many lives.
const NARROWER_LIVES: usize = 8;
/// A fit takes so many different sizes.
const SIZES: usize = 4;
/// Fewer lives in the surroundings say too little about their own spread: a search that stopped at
/// them would stop where the spread happens to look small.
const LEAST_LIVES: usize = 14;
/// How far from the estimate the first sizes between two posts are, and how far the next ones may
/// be at most.
const FIRST_STEP: f64 = 0.5;
const LONGEST_STEP: f64 = 0.7;

/// Which sizes a search looks at, and how closely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest size, in bytes.
    pub from_bytes: usize,
    /// The largest size, in bytes.
    pub to_bytes: usize,
    /// Sizes between the two are multiples of so many bytes.
    pub step_bytes: usize,
    /// How narrow the interval is to be from end to end, as a share of the size.
    pub precision: f64,
}

impl Range {
    /// Refuses a range in which nothing can be found.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self) -> Result<()> {
        if self.from_bytes > 0 && self.from_bytes <= self.to_bytes / 4 {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "sizes from {} to {} bytes: the smallest is to be above 0, and the largest four times as large or more",
            self.from_bytes, self.to_bytes
        )))
    }

    fn posts(&self) -> Vec<usize> {
        let next = |bytes: &usize| Some(bytes * POST_FACTOR);
        let below = std::iter::successors(Some(self.from_bytes), next);
        // The last step may be shorter, but not by so much that it says nothing new.
        below.take_while(|bytes| bytes * 2 < self.to_bytes).chain([self.to_bytes]).collect()
    }
}

/// From which size on an arm pays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Threshold {
    /// From about so many bytes on.
    Found {
        /// The size at which the two cost the same, in bytes.
        bytes: f64,
        /// The lower end of its 95 % interval.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// At the smallest size already, and at all above that were looked at.
    Always,
    /// Not at the largest size.
    Never,
    /// It cannot be told from what was measured.
    Undecided {
        /// It does not pay below, as far as is known; in bytes.
        low: usize,
        /// It pays above, as far as is known.
        high: usize,
        /// Why it cannot be told.
        reason: Reason,
    },
}

/// Why a threshold cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The posts are not all measured.
    #[strum(to_string = "not all sizes were measured")]
    Unmeasured,
    /// At the largest size it is within the noise whether it pays.
    #[strum(to_string = "at the largest size the difference is within the noise")]
    LargestIsClose,
    /// At some sizes below those that it pays at, it is within the noise.
    #[strum(to_string = "over a wide range of sizes the difference is within the noise")]
    OthersAreClose,
    /// Where between two sizes it is has not been seen well enough.
    #[strum(to_string = "too few sizes between them were measured")]
    Coarse,
}

/// What was measured at one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The size.
    pub bytes: usize,
    /// How many times as fast as the baseline the arm was, with its 95 % interval by the spread
    /// that is usual among all sizes.
    pub ratio: Estimate,
    /// Lives.
    pub lives: usize,
}

/// What can be said of what was measured so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) threshold: Threshold,
    /// What is to be measured next; none where it is as precise as was asked for.
    pub(super) next: Next,
}

/// What is to be measured next, each in one life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    Nothing,
    /// All posts.
    Posts,
    One(usize),
}

/// On which side of 0 the log ratio at a post is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Loses,
    Unclear,
    Pays,
}

/// The search for one threshold.
#[derive(Clone, Debug)]
pub(super) struct Search {
    range: Range,
    posts: Vec<usize>,
    /// The log ratio of each life, by size.
    lives: BTreeMap<usize, Vec<f64>>,
}

impl Search {
    pub(super) fn new(range: Range) -> Self {
        Self { range, posts: range.posts(), lives: BTreeMap::new() }
    }

    /// Takes in what a life measured: how much better the arm was than the baseline, on a log
    /// scale.
    pub(super) fn add(&mut self, bytes: usize, log_ratio: f64) {
        self.lives.entry(bytes).or_default().push(log_ratio);
    }

    pub(super) fn lives(&self) -> usize {
        self.lives.values().map(Vec::len).sum()
    }

    pub(super) fn posts(&self) -> &[usize] {
        &self.posts
    }

    /// What was measured, by size.
    pub(super) fn measured(&self) -> Vec<Measured> {
        let spread = self.spread();
        let measured = |&bytes: &usize| {
            let effect = self.effect(bytes, &spread);
            Measured { bytes, ratio: effect.ratio(), lives: effect.instances }
        };
        self.lives.keys().map(measured).collect()
    }

    /// The largest post below one at which the arm loses, at which it pays all the same: there is
    /// more than one crossing.
    pub(super) fn pays_below(&self) -> Option<usize> {
        let sides = self.sides();
        let loses = sides.iter().rposition(|&side| side == Side::Loses)?;
        let pays = sides[..loses].iter().rposition(|&side| side == Side::Pays)?;
        Some(self.posts[pays])
    }

    pub(super) fn look(&self) -> Look {
        let undecided =
            |low, high, reason, next| Look { threshold: Threshold::Undecided { low, high, reason }, next };
        let decided = |threshold| Look { threshold, next: Next::Nothing };
        let Range { from_bytes, to_bytes, .. } = self.range;
        if self.posts.iter().any(|&bytes| self.at(bytes).len() < POST_LIVES) {
            return undecided(from_bytes, to_bytes, Reason::Unmeasured, Next::Posts);
        }
        let sides = self.sides();
        match sides.last() {
            Some(Side::Pays) => {}
            Some(Side::Loses) => return decided(Threshold::Never),
            _ => return undecided(from_bytes, to_bytes, Reason::LargestIsClose, Next::One(to_bytes)),
        }
        // From this post on it pays at all of them.
        let Some(below) = sides.iter().rposition(|&side| side != Side::Pays) else {
            return decided(Threshold::Always);
        };
        let pays = below + 1;
        let loses = sides[..pays].iter().rposition(|&side| side == Side::Loses);
        // One post may be so near that it stays unclear; the next to both sides of it are not.
        if let Some(loses) = loses
            && pays - loses <= 2
        {
            return self.between(self.posts[loses], self.posts[pays]);
        }
        let low = loses.map_or(from_bytes, |loses| self.posts[loses]);
        let unclear = (loses.map_or(0, |loses| loses + 1)..pays).map(|post| self.posts[post]);
        let next = unclear.min_by_key(|&bytes| self.at(bytes).len()).unwrap_or(from_bytes);
        undecided(low, self.posts[pays], Reason::OthersAreClose, Next::One(next))
    }

    /// Looks between two posts: it loses at `low` and pays at `high`.
    fn between(&self, low: usize, high: usize) -> Look {
        let undecided = |next| Look {
            threshold: Threshold::Undecided { low, high, reason: Reason::Coarse },
            next: Next::One(next),
        };
        let width = log(high) - log(low);
        let spread = self.spread();
        let [below, above] = [low, high].map(|bytes| self.effect(bytes, &spread).log_mean);
        let straight = log(low) + width * (below / (below - above)).clamp(0.05, 0.95);
        let inside = self.lives.range(low + 1..high).filter(|(bytes, _)| !self.posts.contains(bytes)).count();
        let step = FIRST_STEP.min(width / 4.0);
        let middle = straight.clamp(log(low) + 1.5 * step, log(high) - 1.5 * step);
        if inside < 2 {
            return undecided(self.round(middle + if inside == 0 { -step } else { step }));
        }
        let Some(fit) = self.fit(straight, width) else {
            return undecided(self.round(self.lighter(straight, 2.0 * step, [middle - step, middle + step])));
        };
        let Fit { root: Root { at, low: root_low, high: root_high }, from, to, lives } = fit;
        let target = self.range.precision.ln_1p();
        let ends = [
            root_low.unwrap_or(from).clamp(at - LONGEST_STEP, at - target / 2.0),
            root_high.unwrap_or(to).clamp(at + target / 2.0, at + LONGEST_STEP),
        ];
        let next = self.round(self.lighter(at, ends[1] - ends[0] + target, ends));
        let (Some(root_low), Some(root_high)) = (root_low, root_high) else { return undecided(next) };
        let is_precise = root_high - root_low <= target && lives >= LEAST_LIVES;
        Look {
            threshold: Threshold::Found { bytes: at.exp(), low: root_low.exp(), high: root_high.exp() },
            next: if is_precise { Next::Nothing } else { Next::One(next) },
        }
    }

    /// The end on whose side of `at` fewer lives lie, within `radius`.
    fn lighter(&self, at: f64, radius: f64, [low, high]: [f64; 2]) -> f64 {
        let lives_where = |is_near: &dyn Fn(f64) -> bool| -> usize {
            self.lives
                .iter()
                .filter(|(bytes, _)| is_near(log(**bytes) - at))
                .map(|(_, lives)| lives.len())
                .sum()
        };
        let below = lives_where(&|x| x < 0.0 && x > -radius);
        let above = lives_where(&|x| x >= 0.0 && x < radius);
        if below > above { high } else { low }
    }

    /// The fit between two posts that are `width` apart, around what `straight` says and then
    /// around what it says itself.
    fn fit(&self, straight: f64, width: f64) -> Option<Fit> {
        let (mut at, mut radius) = (straight, width);
        let mut fit = None;
        for _ in 0..4 {
            fit = Some(self.fit_in_reach(at, radius)?);
            let Fit { root, from, to, .. } = fit.as_ref()?;
            at = root.at;
            let half = (root.high.unwrap_or(*to) - root.low.unwrap_or(*from)) / 2.0;
            radius = (4.0 * half).min(width).max(SURROUNDINGS);
        }
        let mut fit = fit?;
        for radius in NARROWER {
            if let Some(other) = self.fit_within(at, radius, NARROWER_LIVES) {
                // Surroundings that are narrower than their own interval say nothing of its end.
                fit.root.low = fit.root.low.map(|low| low.min(other.root.low.unwrap_or(low)));
                fit.root.high = fit.root.high.map(|high| high.max(other.root.high.unwrap_or(high)));
            }
        }
        Some(fit)
    }

    /// The fit in surroundings of `radius`, or in as much wider ones as it takes.
    fn fit_in_reach(&self, at: f64, mut radius: f64) -> Option<Fit> {
        let all = log(self.range.to_bytes) - log(self.range.from_bytes);
        while radius < all {
            if let Some(fit) = self.fit_within(at, radius, SIZES + 2) {
                return Some(fit);
            }
            radius *= 1.25;
        }
        None
    }

    /// The fit in surroundings of `radius`; none where there are too few lives or sizes in them, or
    /// all to one side.
    fn fit_within(&self, at: f64, radius: f64, least_lives: usize) -> Option<Fit> {
        let near = || {
            self.lives
                .iter()
                .map(|(&bytes, lives)| (log(bytes), lives))
                .filter(|(x, _)| (x - at).abs() <= radius)
        };
        let (from, to) = (near().next()?.0, near().next_back()?.0);
        let points: Vec<(f64, f64)> =
            near().flat_map(|(x, lives)| lives.iter().map(move |&life| (x, life))).collect();
        if near().count() < SIZES || points.len() < least_lives || from >= at || to <= at {
            return None;
        }
        let root = Curve::through(&points)?.root(from, to)?;
        Some(Fit { root, from, to, lives: points.len() })
    }

    fn at(&self, bytes: usize) -> &[f64] {
        self.lives.get(&bytes).map_or(&[], Vec::as_slice)
    }

    /// What is usual among lives at the same size: the spread of one, as a standard error. By the
    /// median distance from their mean, so that a few that lie far out do not decide it.
    fn spread(&self) -> Effect {
        let mut distances = Vec::new();
        let mut degrees = 0.0;
        for lives in self.lives.values().filter(|lives| lives.len() > 1) {
            let mean = mean(lives);
            let free = (lives.len() - 1) as f64;
            let share = (free / lives.len() as f64).sqrt();
            // Of two lives, both are as far from their mean.
            let distinct = if lives.len() == 2 { 1 } else { lives.len() };
            distances.extend(lives.iter().take(distinct).map(|ratio| (ratio - mean).abs() / share));
            degrees += free;
        }
        let degrees_of_freedom = f64::max(degrees, 1.0);
        let standard_error = spread_around(&distances).unwrap_or_default();
        Effect { log_mean: 0.0, standard_error, instances: 1, degrees_of_freedom }
    }

    /// The mean at a size, as sure as `spread` lets it be, or less where its own lives differ more.
    /// Where there are enough to tell, what lies far out counts as if it lay at the border.
    fn effect(&self, bytes: usize, spread: &Effect) -> Effect {
        let mut lives = self.at(bytes).to_vec();
        let instances = lives.len();
        let centre = median(&mut lives).unwrap_or_default();
        if instances >= MIN_CLIPPED {
            let border = FAR * spread.standard_error;
            for ratio in &mut lives {
                *ratio = ratio.clamp(centre - border, centre + border);
            }
        }
        let log_mean = mean(&lives);
        let squares: f64 = lives.iter().map(|ratio| (ratio - log_mean).powi(2)).sum();
        let own = (squares / f64::max(instances as f64 - 1.0, 1.0)).sqrt();
        let standard_error = spread.standard_error.max(own) / (instances as f64).sqrt();
        Effect { log_mean, standard_error, instances, ..*spread }
    }

    /// Of each post.
    fn sides(&self) -> Vec<Side> {
        let spread = self.spread();
        self.posts.iter().map(|&bytes| self.side(bytes, &spread)).collect()
    }

    fn side(&self, bytes: usize, spread: &Effect) -> Side {
        let lives = self.at(bytes).len();
        if lives < POST_LIVES {
            return Side::Unclear;
        }
        let effect = self.effect(bytes, spread);
        let look = (lives + 1 - POST_LIVES) as f64;
        match effect.log_mean {
            _ if effect.p_value() > POST_ERROR / look.powi(2) => Side::Unclear,
            ratio if ratio > 0.0 => Side::Pays,
            _ => Side::Loses,
        }
    }

    /// The size that is measured for `x`.
    fn round(&self, x: f64) -> usize {
        let Range { from_bytes, to_bytes, step_bytes, .. } = self.range;
        let steps = (x.exp() / step_bytes as f64).round() as usize;
        (steps * step_bytes).clamp(from_bytes, to_bytes)
    }
}

/// Where the curve through some surroundings passes 0, from which size to which they go, and how
/// many lives are in them.
struct Fit {
    root: Root,
    from: f64,
    to: f64,
    lives: usize,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn log(bytes: usize) -> f64 {
    (bytes as f64).ln()
}
