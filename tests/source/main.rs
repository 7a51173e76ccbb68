//! What holds of the sources themselves, and of any bytes that are read. Nothing is measured here.

mod architecture;
mod bench_arguments;
mod bench_charts;
mod build_script;
mod fuzz;
mod fuzzing;
mod medians;
