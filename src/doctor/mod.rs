//! What this machine can and cannot measure, and what would make its numbers wrong.

mod files;
mod live;
pub(crate) mod model;

use std::path::PathBuf;

use strum::VariantArray;

use crate::event::Event;
use crate::pair::Setup;

use files::{Files, Rights};
pub use model::{Check, State};

/// The names of all checks, in the order of [`examine`].
#[must_use]
pub fn names() -> Vec<String> {
    let events = <Event as VariantArray>::VARIANTS.iter().map(ToString::to_string);
    let others = OTHERS.iter().map(|name| (*name).to_owned());
    events.chain(others).collect()
}

const OTHERS: [&str; 30] = [
    "paranoid",
    "machine",
    "user-namespaces",
    "optmem",
    "wmem",
    "rmem",
    "smt",
    "hybrid",
    "governor",
    "turbo",
    "load",
    "mitigations",
    "clock-source",
    "fragments",
    "cgroup-cpu",
    "cgroup-memory",
    "memlock",
    "cpus",
    "softirq-time",
    "zerocopy",
    "mapped-receive",
    "huge-pages",
    "uring",
    "uring-zerocopy",
    "uring-report",
    "uring-fixed",
    "uring-sqpoll",
    "namespaces",
    "veth-copy",
    "sink",
];

/// Looks at everything. The last checks try what they are about: they run a burst between two namespaces.
#[must_use]
pub fn examine(setup: &Setup) -> Vec<Check> {
    let mut checks = live::events();
    let rights = Rights::of_this_process();
    checks.extend(Files { root: PathBuf::from("/") }.checks(&rights));
    checks.extend([
        live::memlock(rights.ipc_lock),
        live::cpus(),
        live::softirq_time(),
        live::zero_copy_socket(),
        live::mapped_receive(),
        live::huge_pages(),
    ]);
    checks.extend(live::rings());
    checks.extend(live::namespaces(setup));
    checks
}
