//! Reads the surroundings of a measurement.

use crate::case::{Placement, Receiver};
use crate::environment::{Effective, Environment, SinkLink};
use crate::error::Result;
use crate::host;
use crate::pair::{Setup, Testbed};

/// Reads the surroundings that the calling thread is in. `placements` are those to be measured.
///
/// # Errors
/// As [`host::machine`].
pub fn read(setup: &Setup, effective: &Effective, placements: &[Placement]) -> Result<Environment> {
    Ok(Environment {
        machine: host::machine()?,
        placements: placements.iter().map(|&placement| effective.describe(placement)).collect(),
        asked_buffers: setup.socket.buffers.to_string(),
        effective: effective.clone(),
        sink: None,
    })
}

/// As [`read`], for cases with `receivers`: with the sink's link where that is among them.
///
/// # Errors
/// As [`read`]; where nothing but a sink is asked for, and it cannot be made.
pub fn read_for(
    setup: &Setup,
    testbed: &Testbed,
    placements: &[Placement],
    receivers: &[Receiver],
) -> Result<Environment> {
    let mut environment = read(setup, testbed.effective(), placements)?;
    if receivers.contains(&Receiver::Sink) {
        let is_alone = receivers.iter().all(|&receiver| receiver == Receiver::Sink);
        environment.sink = match testbed.sink_link() {
            Ok(sink) => Some(SinkLink { is_alone, ..sink }),
            Err(error) if is_alone => return Err(error),
            // The others can be measured, and each case of the sink says why it cannot.
            Err(_) => None,
        };
    }
    Ok(environment)
}
