//! Which cells are visited next. It goes by what the comparisons spread and what a life costs, and
//! never by which path is ahead: a choice by sign would favour one.

use std::time::Duration;

use super::CellState;
use crate::results::family::{Family, moderate};
use crate::results::stats::Effect;

/// Every cell has so many lives before any has more: fewer say too little about their own spread.
const EVEN_LIVES: usize = 4;
/// No cell is left with fewer lives, as far as the time allows, and none is precise before.
const LEAST_LIVES: usize = 8;
/// So many cells at least, if there are as many, are visited in a generation: other cells lie
/// between the visits of one.
const LEAST_CELLS: usize = 4;

/// Cells of which lives are to be had next, by their numbers; none where nothing is left to be
/// measured. `left` is the time that there is.
pub(super) fn next_cells(cells: &[CellState], left: Duration) -> Vec<usize> {
    let open: Vec<usize> = (0..cells.len()).filter(|&cell| !cells[cell].done).collect();
    let lives = |cell: usize| cells[cell].lives;
    if open.iter().any(|&cell| lives(cell) < EVEN_LIVES) {
        return open;
    }
    let short: Vec<usize> = open.iter().copied().filter(|&cell| lives(cell) < LEAST_LIVES).collect();
    let owed = |&cell: &usize| {
        let missing = u32::try_from(LEAST_LIVES - lives(cell)).unwrap_or(u32::MAX);
        cells[cell].cost.of_life(super::VISITS_PER_LIFE).unwrap_or_default() * missing
    };
    if !short.is_empty() && short.iter().map(owed).sum::<Duration>() >= left {
        return short;
    }
    // The variance of a mean over lives falls most for the time where its spread is large, its
    // lives are few and cheap: Neyman's allocation (Cochran, Sampling Techniques, 5.5).
    let spreads = spreads(cells);
    let need = |&cell: &usize| {
        let cost = cells[cell].cost.of_life(super::VISITS_PER_LIFE).unwrap_or_default().as_secs_f64();
        spreads[cell] / (cost.max(1e-9).sqrt() * lives(cell) as f64)
    };
    let mut by_need = open;
    by_need.sort_by(|one, other| need(other).total_cmp(&need(one)));
    by_need.truncate(by_need.len().div_ceil(2).max(LEAST_CELLS));
    by_need
}

/// Which cells are as precise as was asked for: the interval of each path against the baseline, as
/// it would be printed of a sweep that was not resumed and whose controls are quiet, is narrower
/// from end to end than `precision`.
pub(super) fn precise(cells: &[CellState], precision: f64) -> Vec<bool> {
    let effects = effects(cells);
    let family = Family::of(&effects.iter().flatten().copied().collect::<Vec<_>>(), 1);
    let is_narrow = |effect: &Effect| 2.0 * effect.half_width(family.confidence) <= precision.ln_1p();
    let of_cell = |(cell, effects): (&CellState, &Vec<Effect>)| {
        let measured = cell.judged().filter(|arm| !arm.is_given_up()).count();
        let others = cell.arms.iter().skip(1);
        let enough = others.filter(|arm| !arm.is_given_up()).all(|arm| arm.observations.len() >= LEAST_LIVES);
        enough && effects.len() >= measured && effects.iter().all(is_narrow)
    };
    cells.iter().zip(&effects).map(of_cell).collect()
}

/// The spread of each cell's observations: the root mean square over its arms.
fn spreads(cells: &[CellState]) -> Vec<f64> {
    let variance = |effect: &Effect| effect.standard_error.powi(2) * effect.instances as f64;
    let of_cell = |effects: &Vec<Effect>| {
        (effects.iter().map(variance).sum::<f64>() / effects.len().max(1) as f64).sqrt()
    };
    effects(cells).iter().map(of_cell).collect()
}

/// Each path against the baseline, by cell.
fn effects(cells: &[CellState]) -> Vec<Vec<Effect>> {
    let of_cell = |cell: &CellState| -> Vec<Effect> {
        let left = cell.judged().filter(|arm| !arm.is_given_up());
        left.filter_map(|arm| Effect::robust(&arm.observations)).collect()
    };
    let mut effects: Vec<Vec<Effect>> = cells.iter().map(of_cell).collect();
    moderate(effects.iter_mut().flatten());
    effects
}
