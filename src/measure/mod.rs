//! Turns bursts into samples, and says in what surroundings they were taken.

pub mod burst;
pub(crate) mod counters;
pub mod environment;
