//! `sendpath doctor`: what this machine can measure, and what would make its numbers wrong.

use super::output::{self, note, print};
use super::{DONE, MISSING, PROGRAM, SetupOptions};
use crate::check::{Check, State};
use crate::doctor::{ExaminedClient, examine, names};
use crate::environment::Interface;
use crate::error::Error;
use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  sendpath doctor
  sendpath doctor --json | jq '.checks[] | select(.state != \"ok\")'
  sendpath doctor --peer 'ssh bob sendpath client'    both machines, and the link between them
  sendpath doctor --require cycles,llc-load-misses && cargo bench --bench cycles

States:
  ok           as it should be
  limited      it works, but numbers suffer, or a part of the matrix does
  unavailable  this machine does not have it, or it could not be looked at: it says which

Exit codes: 0 always, but 3 when something that --require names is unavailable; 2 bad input.";

/// Say what this machine can and cannot measure, and what would make its numbers wrong
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// Exit with 3 if one of these checks is unavailable: a comma list of the names that are
    /// printed
    #[arg(long, value_name = "LIST")]
    require: Option<String>,
    /// Print one JSON object on stdout and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    setup: SetupOptions,
}

/// Looks, prints, and judges what was required.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let setup = options.setup.setup(PROGRAM.into())?;
    let required = required(options.require.as_deref())?;
    let examined = examine(&setup);
    let text = if options.json {
        output::json(&examined)?
    } else {
        let client = examined.client.as_ref().map_or_else(String::new, client);
        table(&examined.checks) + &client
    };
    print(&text)?;
    // With a peer there are other checks than without.
    let is_there = |name: &String| {
        examined.checks.iter().any(|check| check.name == *name && check.state != State::Unavailable)
    };
    let missing: Vec<_> = required.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(DONE);
    }
    note(&format!("sendpath: required, and unavailable: {}", missing.join(", ")));
    Ok(MISSING)
}

fn required(list: Option<&str>) -> Result<Vec<String>, Error> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let known = names();
    list.split(',')
        .map(|word| {
            let name = word.trim().replace('_', "-");
            if known.contains(&name) {
                Ok(name)
            } else {
                Err(Error::Setting(format!("--require {word:?}: expected some of {}", known.join(", "))))
            }
        })
        .collect()
}

/// The link to a peer's client, and what its machine has.
fn client(client: &ExaminedClient) -> String {
    let ExaminedClient { machine, link: [server, other], checks } = client;
    let end = |name: &str, end: &Interface| {
        let port = end.describe_port();
        format!("{name:<12} {} {}, MTU {} bytes, {port}\n", end.name, end.address, end.mtu_bytes)
    };
    format!(
        "\nThe link:\n{}{}\nThe client's machine, {}:\n{}",
        end("server", server),
        end("client", other),
        machine.host,
        table(checks)
    )
}

/// A row for each check. Checks that came out alike for one reason share it.
fn table(checks: &[Check]) -> String {
    let mut lines = Vec::new();
    for alike in checks.chunk_by(|a, b| a.state == b.state && a.found == b.found) {
        let (first, others) = (&alike[0], &alike[1..]);
        lines.push(format!("{:<12} {:<18}{}", first.state, first.name, first.found));
        lines.extend(first.remedy.iter().map(|remedy| format!("{:31}-> {remedy}", "")));
        for check in others {
            lines.push(format!("{:<12} {:<18}as {}", check.state, check.name, first.name));
        }
    }
    lines.join("\n") + "\n"
}
