//! What this machine can and cannot measure, and what would make its numbers wrong.

mod files;
mod finding;
mod live;

use std::path::PathBuf;

use serde::Serialize;
use strum::VariantArray;

pub use crate::check::{Check, State};
use crate::environment::{ClientMachine, Interface};
use crate::error::Result;
use crate::event::Event;
use crate::pair::Setup;

use files::{Files, Rights};
use finding::Finding;

/// The names of all checks, in the order of [`examine`].
pub fn names() -> Vec<String> {
    let events = <Event as VariantArray>::VARIANTS.iter().map(ToString::to_string);
    let files = files::CHECKS.iter().map(|(name, _)| *name);
    let alone = live::ALONE.iter().map(|(name, _)| *name);
    let others = files.chain(alone).chain(live::RINGS).chain(live::BETWEEN_ENDS);
    events.chain(others.map(str::to_owned)).collect()
}

fn check(name: &str, looked: Result<Finding>) -> Check {
    looked.unwrap_or_else(|error| Finding::not_looked_at(&error)).named(name)
}

/// What is known of the two ends of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Examined {
    /// What this machine has, and what was tried between the two ends.
    pub checks: Vec<Check>,
    /// What the machine of a peer's client has; none without one, or where it could not be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ExaminedClient>,
}

/// What the machine of a peer's client has.
#[derive(Clone, Debug, Serialize)]
pub struct ExaminedClient {
    /// What it is.
    #[serde(flatten)]
    pub machine: ClientMachine,
    /// The two ends of the link: the server's and the client's.
    pub link: [Interface; 2],
    /// What it has.
    pub checks: Vec<Check>,
}

/// Looks at everything. The last checks try what they are about: they run a burst between two
/// namespaces, or to a peer's client.
pub fn examine(setup: &Setup) -> Examined {
    let mut checks = examine_alone();
    let (tried, client) = live::ends(setup);
    checks.extend(tried);
    Examined { checks, client }
}

/// Looks at what this machine has, without another end.
pub(crate) fn examine_alone() -> Vec<Check> {
    let mut checks = live::events();
    let rights = Rights::of_this_process();
    let files =
        Files { root: PathBuf::from("/"), cpus: live::used_cpus(), clock_read_ns: live::clock_read_ns() };
    checks.extend(files.checks(&rights));
    checks.extend(live::ALONE.iter().map(|(name, look)| check(name, look(&rights))));
    checks.extend(live::rings());
    checks
}
