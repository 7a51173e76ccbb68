//! Processes are killed and stopped, and the link is cut, at random moments.

use std::collections::BTreeMap;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sendpath::sample::Side;

use super::Tally;
use super::place::{
    Ended, Folder, LIMIT, Place, SENDPATH, command_line, descendants, ip, is_anything_below, kill_descendants,
};
use super::stored::{lost, whole_lines};

/// For how long a stopped process stands still.
const STOPPED: Duration = Duration::from_secs(3);
/// For how long the link is down, in milliseconds.
const DOWN_MS: std::ops::RangeInclusive<u64> = 100..=1500;

#[derive(Clone, Copy, PartialEq)]
enum Subject {
    Run,
    Sweep,
    Ab,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Run, Self::Sweep, Self::Ab];

    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Sweep => "sweep",
            Self::Ab => "ab",
        }
    }

    fn arguments(self, folder: &Folder) -> String {
        match self {
            Self::Run => "run --size 16K --threads 2 --path zero_copy --layout page --duration 1s".to_owned(),
            Self::Sweep => format!(
                "sweep --size 64,16K --threads 1 --receiver buffer --counters none --time 2s --out {}",
                folder.path("sweep").display()
            ),
            Self::Ab => format!(
                "ab --base-bin {SENDPATH} --change-bin {SENDPATH} --size 64 --path two_copy --blocks 3 --time 2s"
            ),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Strike {
    Kill(Side),
    Stop(Side),
    Cut,
}

impl Strike {
    const ALL: [Self; 6] = [
        Self::Kill(Side::Server),
        Self::Kill(Side::Client),
        Self::Stop(Side::Server),
        Self::Stop(Side::Client),
        // As often as the others.
        Self::Cut,
        Self::Cut,
    ];

    fn name(self) -> String {
        match self {
            Self::Kill(side) => format!("SIGKILL of the {side}"),
            Self::Stop(side) => format!("SIGSTOP of the {side} for {} s", STOPPED.as_secs()),
            Self::Cut => format!("the link down for {} to {} ms", DOWN_MS.start(), DOWN_MS.end()),
        }
    }
}

/// Strikes `times` times, each in a run of its own.
pub fn at_random(place: &Place, times: u64, seed: u64) -> anyhow::Result<Vec<Tally>> {
    let mut usual = BTreeMap::new();
    for subject in Subject::ALL {
        let took = unstruck(place, subject)?;
        println!("strikes: `sendpath {}` takes {} ms", subject.name(), took.as_millis());
        usual.insert(subject.name(), took);
    }
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut struck = 0;
    // A strike may come when all is over: it is drawn again. That ends, whatever happens.
    for drawn in 0..times * 2 {
        if struck == times {
            break;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (drawn << 32));
        let subject = *Subject::ALL.choose(&mut rng).context("no subject")?;
        let strike = *Strike::ALL.choose(&mut rng).context("no strike")?;
        let usual = usual[subject.name()];
        let after = usual.mul_f64(rng.random_range(0.0..1.0));
        let Some(found) = once(place, subject, strike, after, usual, &mut rng)? else { continue };
        struck += 1;
        let name = format!("{}, `{}`", strike.name(), subject.name());
        println!("  {struck:>3}  {name:<42} after {:>4} ms  {}", after.as_millis(), found.ended.in_words());
        let tally = tallies.entry(name.clone()).or_insert_with(|| Tally::new(name));
        tally.times += 1;
        tally.hangs += u64::from(found.ended.status.is_none());
        tally.leftovers += u64::from(!found.ended.left.is_empty());
        tally.lost_rounds += u64::from(found.lost.is_some());
        tally.without_cause += u64::from(!found.has_cause);
        if found.ended.status.is_none() || !found.has_cause {
            println!("    FOUND: all that it said:\n{}", found.ended.text);
        }
        found.ended.left.iter().for_each(|left| println!("    FOUND: left behind: {left}"));
        found.lost.iter().for_each(|lost| println!("    FOUND: lost: {lost}"));
    }
    anyhow::ensure!(
        struck == times,
        "only {struck} of {times} strikes came before the end of what they were to strike"
    );
    Ok(tallies.into_values().collect())
}

/// What a strike led to.
struct Found {
    ended: Ended,
    /// Whether the end was the strike's own, or said why.
    has_cause: bool,
    /// What was stored before the strike and is not there after it.
    lost: Option<String>,
}

/// How long a subject takes that is left in peace.
fn unstruck(place: &Place, subject: Subject) -> anyhow::Result<Duration> {
    let folder = Folder::make()?;
    let began = Instant::now();
    let mut child = place.command(&subject.arguments(&folder), &folder)?.spawn()?;
    let status = wait(&mut child, began + 6 * LIMIT)?;
    let code = status.and_then(|status| status.code());
    // ab may be undecided.
    anyhow::ensure!(matches!(code, Some(0 | 3)), "{}: {}", subject.name(), folder.said());
    Ok(began.elapsed())
}

/// Waits for a child's end; none where it has not come by `until`, and the child had to be killed.
pub(super) fn wait(child: &mut Child, until: Instant) -> anyhow::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep(Duration::from_millis(2));
    }
}

/// One strike; none where there was nothing to strike any more.
fn once(
    place: &Place,
    subject: Subject,
    strike: Strike,
    after: Duration,
    usual: Duration,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<Option<Found>> {
    let folder = Folder::make()?;
    let mut command = place.command(&subject.arguments(&folder), &folder)?;
    let mut child = command.spawn()?;
    sleep(after);
    let stored = whole_lines(&folder.path("sweep"));
    let Some(victim) = struck(strike, &mut child, rng)? else {
        wait(&mut child, Instant::now() + usual + LIMIT)?;
        while is_anything_below()? {
            sleep(Duration::from_millis(2));
        }
        return Ok(None);
    };
    // What was struck may go on, and then takes its usual time.
    let until = Instant::now() + usual + LIMIT;
    let status = wait(&mut child, until)?;
    let mut ended = folder.ended(status, place.left(&folder, Instant::now() + LIMIT)?);
    kill_descendants()?;
    let is_killed = strike == Strike::Kill(Side::Server) && victim == child.id().cast_signed();
    let has_cause = is_killed || ended.status.is_none() || ended.has_cause();
    let lost = if subject == Subject::Sweep {
        let lost = lost(&folder.path("sweep"), stored.as_deref());
        // What it did not finish goes on where it is resumed.
        if lost.is_none() && stored.is_some() && !status.is_some_and(|status| status.success()) {
            resumed(place, &folder, &mut ended)?
        } else {
            lost
        }
    } else {
        None
    };
    Ok(Some(Found { ended, has_cause, lost }))
}

/// Strikes, and returns the process that was struck (0 for the link); none where there is none.
fn struck(strike: Strike, child: &mut Child, rng: &mut ChaCha8Rng) -> anyhow::Result<Option<i32>> {
    if child.try_wait()?.is_some() {
        return Ok(None);
    }
    if strike == Strike::Cut {
        ip("link set wire down")?;
        sleep(Duration::from_millis(rng.random_range(DOWN_MS)));
        ip("link set wire up")?;
        return Ok(Some(0));
    }
    let (Strike::Kill(side) | Strike::Stop(side)) = strike else { return Ok(None) };
    // ab has several of each. The client may not be there yet, or no more.
    let since = Instant::now();
    let victim = loop {
        let is_on = |pid: &Pid| {
            let words = command_line(*pid);
            let mut words = words.split(' ');
            words.next() == Some(SENDPATH) && (words.next() == Some("client")) == (side == Side::Client)
        };
        let all: Vec<Pid> = descendants().into_iter().filter(is_on).collect();
        if let Some(&victim) = all.choose(rng) {
            break victim;
        }
        if child.try_wait()?.is_some() || since.elapsed() > LIMIT {
            return Ok(None);
        }
    };
    let signal = if matches!(strike, Strike::Kill(_)) { Signal::SIGKILL } else { Signal::SIGSTOP };
    if kill(victim, signal).is_err() {
        return Ok(None);
    }
    if signal == Signal::SIGSTOP {
        sleep(STOPPED);
        let _ = kill(victim, Signal::SIGCONT); // one that was given up meanwhile is gone
    }
    Ok(Some(victim.as_raw()))
}

/// Goes on with a sweep that did not end well; what was lost in that.
fn resumed(place: &Place, folder: &Folder, ended: &mut Ended) -> anyhow::Result<Option<String>> {
    let sweep = folder.path("sweep");
    let stored = whole_lines(&sweep);
    let arguments = format!("sweep --time 500ms --resume {}", sweep.display());
    let mut command: Command = place.command(&arguments, folder)?;
    let status = wait(&mut command.spawn()?, Instant::now() + 2 * LIMIT)?;
    ended.left.extend(place.left(folder, Instant::now() + LIMIT)?);
    let has_more =
        whole_lines(&sweep).unwrap_or_default().len() > stored.as_deref().unwrap_or_default().len();
    // A failure that is stored stays one.
    let usual = i32::from(ended.status.and_then(|status| status.code()) == Some(1));
    if status.and_then(|status| status.code()) != Some(usual) || !has_more {
        return Ok(Some(format!("--resume did not go on: {status:?}: {}", folder.said())));
    }
    Ok(lost(&sweep, stored.as_deref()))
}
