//! A sample: one burst, timed as a whole.

use std::time::Duration;

use crate::case::Workload;
use crate::error::Result;
use crate::pair::{Burst, Instance, Mode};
use crate::sample::Sample;

/// Runs one timed burst of `messages` on every pair.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn time(instance: &mut Instance<'_>, messages: u64, mode: Mode) -> Result<Sample> {
    time_after(instance, 0, messages, mode)
}

/// As [`time`], after `lead_in` messages on every pair that do not count.
fn time_after(instance: &mut Instance<'_>, lead_in: u64, messages: u64, mode: Mode) -> Result<Sample> {
    let pairs = instance.case().threads as u64;
    let (server, client) = instance.burst(Burst { lead_in, messages, mode })?;
    let elapsed_ns = client.end_ns.max(server.end_ns) - client.start_ns;
    Ok(Sample { elapsed_ns, messages: messages * pairs, pairs, server, client })
}

/// How long a burst of a round is meant to take: long enough that its beginning and end do not show, so short that
/// a round is over before the machine has changed.
const SHORT: Duration = Duration::from_millis(4);
/// It has at least so many messages, however long they take.
const SHORT_MESSAGES: u64 = 8;
/// So much of its length goes before it, untimed: other paths ran on these CPUs since this one's last burst.
const LEAD_IN: u64 = 16;

/// How many messages on every pair a burst of a round takes.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn calibrate_short(instance: &mut Instance<'_>) -> Result<u64> {
    Ok(calibrate(instance, SHORT)?.max(SHORT_MESSAGES))
}

/// Runs one of the short bursts that rounds are made of: with a lead-in, and each round trip timed.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn time_short(instance: &mut Instance<'_>, messages: u64) -> Result<Sample> {
    let mode = if instance.case().workload == Workload::Rr { Mode::TimeEach } else { Mode::Time };
    time_after(instance, (messages / LEAD_IN).max(2), messages, mode)
}

/// Runs one burst in which every byte is checked, and returns how many messages that were.
///
/// # Errors
/// [`Error::Corrupt`](crate::Error::Corrupt), or whatever else went wrong on either side.
pub fn verify(instance: &mut Instance<'_>) -> Result<u64> {
    let messages = messages_worth(instance, 1 << 20, 2, 8);
    let (_, client) = instance.burst(Burst { lead_in: 0, messages, mode: Mode::Verify })?;
    Ok(client.verified_messages)
}

/// Brings a new instance to where its samples are alike: every byte of the buffers touched and checked,
/// the congestion window open. Returns how many messages were checked.
///
/// # Errors
/// As [`verify`].
pub fn warm_up(instance: &mut Instance<'_>) -> Result<u64> {
    let verified = verify(instance)?;
    let messages = messages_worth(instance, 4 << 20, 4, 200);
    time(instance, messages, Mode::Time)?;
    Ok(verified)
}

/// How many messages on every pair take about `target`: found by doubling.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn calibrate(instance: &mut Instance<'_>, target: Duration) -> Result<u64> {
    let target_ns = target.as_nanos() as f64;
    let mut messages = 1;
    loop {
        let elapsed_ns = time(instance, messages, Mode::Time)?.elapsed_ns.max(1) as f64;
        // From a tenth of the target on, the burst's length foretells the rest.
        if elapsed_ns >= target_ns / 10.0 {
            return Ok(((messages as f64 * target_ns / elapsed_ns) as u64).max(1));
        }
        messages *= 2;
    }
}

fn messages_worth(instance: &Instance<'_>, bytes: usize, least: usize, most: usize) -> u64 {
    (bytes / instance.case().payload_bytes).clamp(least, most) as u64
}
