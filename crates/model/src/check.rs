//! What a check of the machine comes out as: plain data.

use serde::{Deserialize, Serialize};

/// The name of the check that looks whether the sink copies.
pub const SINK: &str = "sink";
/// What it says where it counted: other shares of copied sends may be bounds.
pub const ONE_BY_ONE: &str = ", each with a completion of its own";

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but the numbers or a part of the matrix suffer.
    Limited,
    /// It does not work here, the kernel does not say, or it could not be looked at.
    Unavailable,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at; an event's own name for an event.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// The command that lifts it, where there is one.
    pub remedy: Option<String>,
}
