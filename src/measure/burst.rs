//! A sample: one burst, timed as a whole.

use std::time::Duration;

use crate::error::Result;
use crate::pair::{Burst, Extent, Instance, Mode};
use crate::sample::Sample;

/// Runs one timed burst of `duration`.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn time(instance: &mut Instance<'_>, duration: Duration, mode: Mode) -> Result<Sample> {
    sample(instance, Burst { lead_in_messages: 0, extent: Extent::Time(duration), mode })
}

/// Runs one burst of `messages` on every pair. Its time says little: the slower pairs finish alone.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn of_messages(instance: &mut Instance<'_>, messages: u64, mode: Mode) -> Result<Sample> {
    sample(instance, Burst { lead_in_messages: 0, extent: Extent::Messages(messages), mode })
}

fn sample(instance: &mut Instance<'_>, burst: Burst) -> Result<Sample> {
    let pairs = instance.case().threads as u64;
    let (server, client) = instance.burst(burst)?;
    let elapsed_ns = client.end_ns - client.start_ns;
    Ok(Sample { elapsed_ns, messages: client.messages, pairs, server, client })
}

/// How long a burst of a long window is to be: its beginning and its end do not show in it, with
/// many pairs on few CPUs either. `instance` has run a burst before.
pub fn long_duration(instance: &Instance<'_>) -> Duration {
    /// Messages on each pair.
    const MESSAGES: f64 = 64.0;
    let message_ns = instance.message_ns().unwrap_or_default();
    Duration::from_millis(50).max(Duration::from_nanos((message_ns * MESSAGES) as u64))
}

/// How long a burst of a round is meant to take: long enough that its beginning and end do not
/// show, so short that a round is over before the machine has changed.
const SHORT: Duration = Duration::from_millis(4);
/// A burst is long enough for about this many messages on each pair.
const SHORT_MESSAGES: f64 = 4.0;
/// The lead-in is the burst's length by this. It is not timed: other paths ran on these CPUs since
/// this one's last burst.
const LEAD_IN: f64 = 16.0;

/// What a message takes on a pair, in nanoseconds: the median of three bursts of some milliseconds,
/// so that one hiccup does not decide.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn probe_message_ns(instance: &mut Instance<'_>) -> Result<f64> {
    let mut message_ns = [0.0; 3];
    for probed_ns in &mut message_ns {
        *probed_ns = time(instance, SHORT / 2, Mode::Time)?.message_ns();
    }
    message_ns.sort_unstable_by(f64::total_cmp);
    Ok(message_ns[1])
}

/// How long the short bursts of a round are to be where a message takes so long. All arms of a cell
/// use the longest that any of them needs.
pub(crate) fn short_duration(message_ns: f64) -> Duration {
    SHORT.max(Duration::from_nanos((message_ns * SHORT_MESSAGES) as u64))
}

/// Runs one of the short bursts that rounds are made of: with a lead-in, and each round trip timed.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn time_short(instance: &mut Instance<'_>, duration: Duration) -> Result<Sample> {
    time_after_lead_in(instance, duration, Mode::TimeEach)
}

/// Runs one timed burst of `duration`, after a lead-in.
///
/// # Errors
/// Whatever went wrong on either side.
pub fn time_after_lead_in(instance: &mut Instance<'_>, duration: Duration, mode: Mode) -> Result<Sample> {
    let messages = instance.message_ns().map_or(0.0, |message_ns| duration.as_nanos() as f64 / message_ns);
    let lead_in_messages = ((messages / LEAD_IN) as u64).max(2);
    sample(instance, Burst { lead_in_messages, extent: Extent::Time(duration), mode })
}

/// Runs one burst in which every byte is checked, and returns how many messages that were on all
/// pairs together: none where the receiver keeps no bytes.
///
/// # Errors
/// [`Error::Corrupt`](crate::error::Error::Corrupt), or whatever else went wrong on either side.
pub fn verify(instance: &mut Instance<'_>) -> Result<u64> {
    let messages = messages_worth(instance, 1 << 20, 2, 8);
    Ok(of_messages(instance, messages, Mode::Verify)?.client.verified_messages)
}

/// Brings a new instance to where its samples are alike: every byte of the buffers touched and
/// checked, the congestion window open. Returns how many messages were checked.
///
/// # Errors
/// As [`verify`].
pub fn warm_up(instance: &mut Instance<'_>) -> Result<u64> {
    let verified = verify(instance)?;
    let messages = messages_worth(instance, 4 << 20, 4, 200);
    of_messages(instance, messages, Mode::Time)?;
    Ok(verified)
}

/// So many messages on every pair have about `bytes` in all.
fn messages_worth(instance: &Instance<'_>, bytes: usize, least: usize, most: usize) -> u64 {
    (bytes / instance.case().payload_bytes).clamp(least, most) as u64
}
