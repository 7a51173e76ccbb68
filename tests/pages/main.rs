//! What a page of stored data says, and how it looks in a browser and on paper. Nothing is measured
//! here.

#[path = "../common/chromium.rs"]
mod chromium;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/fixture.rs"]
mod fixture;

mod browser;
mod print;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::of_modules([
        ("report", report::trials()),
        ("browser", browser::trials()),
        ("print", print::trials()),
    ])
}
