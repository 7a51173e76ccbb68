//! Ladders: cells of a sweep that differ in size alone.

use super::analysis::{Analysis, ArmResult, CellResult, Measure};
use crate::case::{Series, Situation};
use crate::in_order::grouped;

/// Cells that differ in size alone, ascending.
#[derive(Clone, Debug)]
pub struct Ladder<'a> {
    /// What pairs do, where, and how the bytes are taken in.
    pub situation: Situation,
    /// How many pairs there are.
    pub threads: usize,
    /// The cells.
    pub cells: Vec<&'a CellResult>,
}

/// Cuts an analysis into ladders.
pub fn ladders(analysis: &Analysis) -> Vec<Ladder<'_>> {
    let alike = grouped(analysis.cells.iter().map(|of| ((of.cell.situation(), of.cell.threads), of)));
    let ladders = alike.into_iter().map(|((situation, threads), mut cells)| {
        cells.sort_by_key(|of| of.cell.payload_bytes);
        Ladder { situation, threads, cells }
    });
    ladders.collect()
}

impl Ladder<'_> {
    /// What stands in every id of its cells: `rr/4T/paired`.
    pub fn name(&self) -> String {
        let Situation { workload, placement, .. } = self.situation;
        format!("{workload}/{}T/{placement}{}", self.threads, self.situation.departures())
    }

    /// A series' arm in each cell that measured it.
    pub fn arms(&self, series: Series) -> impl Iterator<Item = &ArmResult> {
        self.cells.iter().filter_map(move |cell| cell.arm(series))
    }
}

/// How long a message takes on a pair, in nanoseconds: the pair's time by its messages. None before
/// any was timed.
pub fn message_ns(arm: &ArmResult) -> Option<Measure> {
    let case = arm.arm.case;
    let bits = (case.payload_bytes * 8 * case.threads) as f64;
    let gbps = arm.throughput_gbps?;
    let ns = |gbps: f64| bits / gbps;
    Some(Measure { value: ns(gbps.value), interval: gbps.interval.map(|(low, high)| (ns(high), ns(low))) })
}
