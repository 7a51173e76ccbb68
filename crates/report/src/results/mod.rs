//! What was measured, as it lies on disk, and what follows from it. Nothing here needs a socket.
//!
//! A sweep is a folder. [`store`] reads and writes its files: [`manifest`] is what
//! `environment.json` holds, and [`load`] in it what else the machine had to do; [`samples_csv`]
//! has the columns of `samples.csv`, and [`record`] is a row of it. Whoever made a folder, `files`
//! reads and writes what is in it.
//!
//! [`metric`] is what paths are compared by. [`observation`] is what one life says of two arms,
//! [`stats`] makes an effect of many observations, [`family`] says what many effects allow to be
//! said together, and [`verdict`] reads a verdict off an interval. [`tail`] has the quantiles, and
//! [`states`] tells the machine's slow visits from the others. [`analysis`] applies them to a whole
//! sweep. [`ladder`] cuts it into cells that differ in size alone, [`cost_model`] fits costs to
//! them, and [`crossing`] finds the size from which a path pays; [`summary`] writes it out as
//! `summary.csv`. [`compare`] holds one sweep against another; [`comparison`] is what comes of
//! that, and of two builds that `ab` measured. Of many sweeps [`digest`] keeps a few numbers each,
//! and [`fleet`] says which machine is out of the ordinary.

pub mod analysis;
pub mod compare;
pub mod comparison;
pub mod cost_model;
pub mod crossing;
pub mod decision;
pub mod digest;
pub mod family;
mod files;
pub mod fleet;
pub mod fragment_cost;
pub mod ladder;
pub mod load;
pub mod manifest;
pub mod metric;
pub mod observation;
pub mod record;
pub mod samples_csv;
pub mod states;
pub mod stats;
pub mod store;
pub mod summary;
pub mod tail;
#[cfg(test)]
pub(crate) mod tests;
pub mod verdict;
