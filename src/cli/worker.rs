//! `sendpath worker`: a process of a comparison, started by `sendpath ab`.
//!
//! The variable `SENDPATH_PLANT_SPIN_NS` makes each message of the first pair cost so many
//! nanoseconds more to send. It is for `experiments/ab-campaign.sh`, which gives it to one of the
//! two builds (`ab --change-env`) to see whether `ab` finds the cost. No other command reads it,
//! and no help names it.

use clap::Args;

use super::{DONE, PROGRAM, SetupOptions};
use crate::ab::worker;
use crate::error::{Error, Result};
use crate::pair::FaultKind;

const PLANT_SPIN_NS: &str = "SENDPATH_PLANT_SPIN_NS";

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    setup: SetupOptions,
}

/// Answers the questions on standard input until it ends.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let planted = planted()?;
    worker::serve(
        &options.setup.setup(PROGRAM.into())?,
        planted,
        std::io::stdin().lock(),
        std::io::stdout().lock(),
    )?;
    Ok(DONE)
}

fn planted() -> Result<Option<FaultKind>> {
    let Some(text) = std::env::var_os(PLANT_SPIN_NS) else { return Ok(None) };
    let spin_ns = text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        Error::Setting(format!("{PLANT_SPIN_NS}={} is not a number of nanoseconds", text.display()))
    })?;
    Ok(Some(FaultKind::Slow { spin_ns }))
}
