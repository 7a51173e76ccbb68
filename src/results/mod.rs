//! What was measured, as it lies on disk, and what follows from it. Nothing here needs a socket.
//!
//! A sweep is a folder: [`store`] knows its files, [`samples_csv`] the columns of `samples.csv`, [`record`] a row
//! of it. [`stats`] says what rows may be concluded from; [`analysis`] applies it to a sweep, [`cost_model`]
//! fits costs to it, and [`summary`] writes it out as `summary.csv`. [`compare`] holds one sweep against another;
//! [`comparison`] is what comes of that, and of two builds that `ab` measured.

pub mod analysis;
pub mod compare;
pub mod comparison;
pub mod cost_model;
pub mod record;
pub mod samples_csv;
pub mod stats;
pub mod store;
pub mod summary;
