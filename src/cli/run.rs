//! `sendpath run`: one case, by hand.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::output::{self, note};
use super::progress::Shown;
use super::{DONE, FAILED, INTERRUPTED, PROGRAM, SetupOptions, interrupt};
use crate::case::{Case, Layout, Placement, Receiver, Workload};
use crate::environment::{CopyCause, Environment, copy_cause};
use crate::error::Error;
use crate::event::Event;
use crate::format;
use crate::fragments::{FragmentsSource, Told};
use crate::in_order::{distinct, grouped};
use crate::measure::burst::{long_duration, time, verify, warm_up};
use crate::measure::counters::{Counter, SideCounters};
use crate::measure::environment;
use crate::message::Pages;
use crate::pair::{Instance, Mode, Testbed};
use crate::results::stats::median;
use crate::sample::{CopiedBound, RoundTrips, Sample, Seen, SideReport, ZeroCopyCounts, why_not_seen};
use crate::settings::{self, Settings};

const AFTER_HELP: &str = "\
Examples:
  sendpath run --workload rr --path one_copy --size 64K --threads 4 --duration 2s
  sendpath run --workload stream --path one_copy --placement split
  sendpath run --path zero_copy --layout page --size 256K --json | jq .zero_copy
  sendpath run --receiver sink --path zero_copy --size 256K     the sender alone, nothing copied
  sendpath run --path zero_copy --engine uring_fixed            io_uring, from registered buffers
  sendpath run --path hybrid --copy-below 1K --shape 24,512K    a header and a body: one is copied
  sendpath run --shape '97x64|3x24,512K'  messages of two shapes: of each 100, 97 and 3
  sendpath run --shape @trace.txt         the same from a file: a weight and sizes on each line
  sendpath run --counters all             with the counters of both sides
  sendpath run --counters cycles,llc-load-misses --json | jq .counters
  sendpath run --netns ns_s,ns_c        between namespaces made by netns-setup.sh
  sendpath run --netns loopback         where no namespaces are allowed

What is printed:
  Throughput counts payload bits received. A round trip runs from before the 8-byte request to the
  whole message in place; a stream has none. CPU time is that of the pairs' threads on each side
  over the timed window. Over veth and loopback the kernel copies every zero_copy message after all,
  which the copied share says. A burst in which every byte is checked runs before and after.
  With --receiver sink nobody receives, so no byte is checked: the sender's thread injects requests
  and acknowledgements itself. What these cost is printed, and is part of each message's time.
  Counting costs at every context switch, so counters come from a second window of the same
  length, on new connections, and the figures above them are free of it.

Exit codes: 0 measured, 1 the case failed, 2 bad input (nothing was set up), 130 interrupted. What had
been measured before a failure or an interrupt is printed.";

/// Measure one case
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// About how long to measure, in bursts of 50 ms: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    duration: Duration,
    /// Count what the pairs' threads do, on both sides: all, none, or a comma list of cycles,
    /// instructions, branch-misses, l1d-load-misses, llc-load-misses, cache-references,
    /// cache-misses, dtlb-load-misses, ref-cycles, task-clock, context-switches, cpu-migrations,
    /// page-faults
    #[arg(long, value_name = "LIST", default_value = "none", value_parser = Event::parse_list)]
    counters: ::std::vec::Vec<Event>, // with its path, or clap takes it for an option that may be repeated
    /// Print one JSON object on stdout and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    case: Settings<settings::One>,
    #[command(flatten)]
    setup: SetupOptions,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let most = Duration::from_hours(1);
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= most => Ok(duration),
        _ => Err(format!("duration {text:?} is not a time with its unit, above 0 and up to 1h: 500ms, 2s")),
    }
}

/// Measures the case and prints it.
pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let case = options.case.axes()?.case();
    case.check().map_err(Error::from)?;
    let Case { placement, receiver, .. } = case;
    let setup = options.setup.setup(PROGRAM.into())?;
    setup.check_placement(placement)?;
    let interrupted = interrupt::catch()?;

    let mut testbed = Testbed::start(&setup)?;
    let environment = environment::read_for(&setup, &testbed, &[placement], &[receiver])?;
    note(format!("{case}\n{environment}").trim_end());
    let window = || measure(&mut testbed.open(case)?, options.duration, &interrupted).context(case);
    let timed = window()?;
    // Counting costs at every context switch, so what is timed is not counted, nor the other way
    // round.
    let counted = if options.counters.is_empty() || timed.failed.is_some() {
        None
    } else {
        testbed.count(&options.counters);
        Some(measure(&mut testbed.open(case)?, options.duration, &interrupted).context(case)?)
    };
    let mut report = timed.report(case, counted.as_ref(), environment);
    if let Some(ZeroCopy { counts, copied_because, .. }) = &mut report.zero_copy
        && timed.failed.is_none()
        && let Some(copied) = counts.copied()
    {
        let causes = copy_cause::that_explain(copied, testbed.copy_causes(receiver)?);
        *copied_because = (copied.share > 0.0 || !causes.is_empty())
            .then(|| causes.into_iter().map(Explained::of).collect());
    }
    report.strangers = testbed.strangers();
    output::print(&if options.json { output::json(&report)? } else { report.to_string() })?;
    if let Some(failed) = &report.failed {
        note(&format!("sendpath: {case}: {failed}: what is printed was measured before"));
        return Ok(FAILED);
    }
    Ok(if interrupted.load(Ordering::Relaxed) { INTERRUPTED } else { DONE })
}

/// Measures for `duration`. A failure after the first burst ends it, and leaves what was measured.
fn measure(
    instance: &mut Instance<'_>,
    duration: Duration,
    interrupted: &AtomicBool,
) -> anyhow::Result<Window> {
    let case = instance.case();
    let shown = Shown::new(duration);
    let mut window = Window::default();
    window.verified_messages += warm_up(instance)?;
    window.seen = instance.overwrite()?;
    window.told = instance.fragments(&mut None)?;
    loop {
        match time(instance, long_duration(instance).min(duration), Mode::TimeEach) {
            Ok(sample) => window.add(sample),
            Err(error) if window.messages > 0 => {
                window.failed = Some(error.to_string());
                return Ok(window);
            }
            Err(error) => return Err(error.into()),
        }
        shown.step(Duration::from_nanos(window.elapsed_ns), || case.to_string());
        if u128::from(window.elapsed_ns) >= duration.as_nanos() || interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    window.verified_messages += verify(instance)?;
    window.injection_ns = instance.injection_ns()?;
    window.pages = instance.pages();
    window.pages.dedup();
    window.heap_is_huge = instance.heap_is_huge()?;
    Ok(window)
}

/// How many have connected that were no client of the run.
pub(super) fn closed(count: u64) -> String {
    let connections = if count == 1 { "1 connection was" } else { &format!("{count} connections were") };
    format!("{connections} closed, for want of the run's token")
}

/// The bursts of a window, summed up.
#[derive(Default)]
struct Window {
    /// Why it ended before its time.
    failed: Option<String>,
    messages: u64,
    elapsed_ns: u64,
    server: SideReport,
    client: SideReport,
    round_trips: RoundTrips,
    drains_ns: Vec<f64>,
    verified_messages: u64,
    injection_ns: Option<f64>,
    seen: Option<Seen>,
    told: Told,
    pages: Vec<Pages>,
    heap_is_huge: Option<bool>,
}

impl Window {
    fn add(&mut self, sample: Sample) {
        self.drains_ns.push(sample.server.drain_ns as f64);
        if let Some(round_trips) = &sample.client.round_trips {
            self.round_trips += round_trips;
        }
        for (sum, side) in [(&mut self.server, sample.server), (&mut self.client, sample.client)] {
            let before = (self.messages > 0).then(|| std::mem::take(sum));
            *sum = SideReport::merge(before.into_iter().chain([side]));
        }
        self.messages += sample.messages;
        self.elapsed_ns += sample.elapsed_ns;
    }

    fn report(&self, case: Case, counted: Option<&Self>, environment: Environment) -> RunReport {
        let elapsed_ns = self.elapsed_ns.max(1) as f64;
        let payload_bytes_total = self.messages * case.payload_bytes as u64;
        let rr = case.workload == Workload::Rr;
        let quantile = |share| rr.then(|| self.round_trips.quantile_ns(share)).flatten();
        let has_client = case.receiver != Receiver::Sink;
        RunReport {
            case: case.to_string(),
            messages: self.messages,
            payload_bytes_total,
            elapsed_ns: self.elapsed_ns,
            throughput_gbps: payload_bytes_total as f64 * 8.0 / elapsed_ns,
            round_trips_per_s: rr.then(|| self.messages as f64 * 1e9 / elapsed_ns),
            rtt_mean_ns: rr.then(|| self.round_trips.mean_ns()).flatten(),
            rtt_p50_ns: quantile(0.5),
            rtt_p90_ns: quantile(0.9),
            rtt_p99_ns: quantile(0.99),
            rtt_p999_ns: quantile(0.999),
            rtt_max_ns: rr.then_some(self.round_trips.max_ns),
            server_user_ns: self.server.cpu_untold.is_none().then_some(self.server.user_ns),
            server_system_ns: self.server.cpu_untold.is_none().then_some(self.server.system_ns),
            server_cpu_untold: self.server.cpu_untold.clone(),
            client_user_ns: has_client.then_some(self.client.user_ns),
            client_system_ns: has_client.then_some(self.client.system_ns),
            cpu_split_is_reliable: has_client.then_some(case.placement == Placement::Split),
            injection_ns: self.injection_ns,
            packets_per_message: self.told.fragments.map(|found| found.packets_per_message),
            fragments_per_message: self.told.fragments.map(|found| found.fragments_per_message),
            fragments_source: self.told.fragments.map(|found| found.fragments_source),
            fragments_not_counted: self.told.not_counted.clone(),
            drain_ns_per_burst: median(&mut self.drains_ns.clone()),
            zero_copy: self.server.zero_copy.map(|counts| ZeroCopy {
                counts,
                copied_share: counts.copied_share(),
                copied_is_bound: counts.copied_is_bound(),
                copied_because: None,
            }),
            strangers: 0,
            failed: [Some(self), counted].into_iter().flatten().find_map(|window| window.failed.clone()),
            retransmitted_segments: self.server.retransmitted_segments,
            verified_messages: self.verified_messages,
            seen: self.seen,
            contradiction: self.seen.and_then(|seen| {
                seen.contradiction(self.server.zero_copy.as_ref(), environment.effective.stays_in_memory())
            }),
            mapped_share: (case.receiver == Receiver::Mmap)
                .then(|| self.client.copies.mapped_share())
                .flatten(),
            huge_pages: (case.layout == Layout::Huge).then(|| self.pages.clone()),
            heap_is_huge: self.heap_is_huge,
            receiver: case.receiver,
            counters: counted.map(|counted| {
                let payload_bytes = counted.messages * case.payload_bytes as u64;
                let side =
                    |side: &SideReport| SideCounters::new(&side.counters, counted.messages, payload_bytes);
                let (server, client) = (side(&counted.server), side(&counted.client));
                Sides { messages: counted.messages, server, client }
            }),
            environment,
        }
    }
}

/// What is printed. A number that was not measured is null.
#[derive(Serialize)]
struct RunReport {
    case: String,
    messages: u64,
    payload_bytes_total: u64,
    elapsed_ns: u64,
    throughput_gbps: f64,
    round_trips_per_s: Option<f64>,
    rtt_mean_ns: Option<f64>,
    rtt_p50_ns: Option<u64>,
    rtt_p90_ns: Option<u64>,
    rtt_p99_ns: Option<u64>,
    rtt_p999_ns: Option<u64>,
    rtt_max_ns: Option<u64>,
    server_user_ns: Option<u64>,
    server_system_ns: Option<u64>,
    /// Why these two are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_untold: Option<String>,
    client_user_ns: Option<u64>,
    client_system_ns: Option<u64>,
    /// Whether CPU time can be told apart between the sides: not where both ends of a pair share a
    /// CPU.
    cpu_split_is_reliable: Option<bool>,
    /// The mean time of a request and its acknowledgement, where the sender injects both.
    injection_ns: Option<f64>,
    /// What TCP hands to the link in one piece.
    packets_per_message: Option<f64>,
    /// Pieces of memory in the packets, which a card's driver maps one by one.
    fragments_per_message: Option<f64>,
    /// Where the two are from.
    fragments_source: Option<FragmentsSource>,
    /// Why they were not counted, where they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    fragments_not_counted: Option<String>,
    /// The median over bursts of the time that completions took after the last byte was received.
    drain_ns_per_burst: Option<f64>,
    zero_copy: Option<ZeroCopy>,
    /// Why it ended before its time, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Connections to the data port that did not say the run's token, and were closed.
    strangers: u64,
    /// TCP segments that the server's kernel sent more than once.
    retransmitted_segments: Option<u64>,
    verified_messages: u64,
    /// What the client saw of messages that were overwritten right after they were sent.
    seen: Option<Seen>,
    /// How that contradicts what the kernel said.
    contradiction: Option<String>,
    /// The share of the bytes that the client received by mapping pages, where it does that; it
    /// copied the others.
    mapped_share: Option<f64>,
    /// Of layout `huge`: which kind of pages the messages of the pairs got.
    #[serde(skip_serializing_if = "Option::is_none")]
    huge_pages: Option<Vec<Pages>>,
    /// Of layout `heap`: whether the allocator has put the messages into mappings with huge pages.
    heap_is_huge: Option<bool>,
    #[serde(skip)]
    receiver: Receiver,
    counters: Option<Sides>,
    environment: Environment,
}

#[derive(Serialize)]
struct Sides {
    /// Messages of the window that was counted, which is not the one that was timed.
    messages: u64,
    server: SideCounters,
    client: SideCounters,
}

#[derive(Serialize)]
struct ZeroCopy {
    #[serde(flatten)]
    counts: ZeroCopyCounts,
    copied_share: Option<f64>,
    /// Whether the share is a bound, and on which side.
    copied_is_bound: Option<CopiedBound>,
    /// Why; empty where no cause was found, and null where there was nothing to explain.
    copied_because: Option<Vec<Explained>>,
}

/// A cause as data and in words.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    cause: CopyCause,
    text: String,
    remedy: String,
}

impl Explained {
    fn of(cause: CopyCause) -> Self {
        Self { text: cause.to_string(), remedy: cause.remedy(), cause }
    }
}

impl RunReport {
    /// How many messages were compared byte by byte, or why none.
    fn verified(&self) -> String {
        match self.receiver {
            Receiver::Discard => "0 messages: discard keeps no bytes".to_owned(),
            Receiver::Sink => "0 messages: nobody receives, so that no byte can be compared".to_owned(),
            _ => format!("{} messages besides, every byte", self.verified_messages),
        }
    }

    /// Packets and fragments in words, and where they are from.
    fn packets(&self) -> String {
        let why_not = self.fragments_not_counted.as_deref().unwrap_or_default();
        let (Some(packets), Some(fragments)) = (self.packets_per_message, self.fragments_per_message) else {
            return format!("not counted: {why_not}");
        };
        let count = |count| format::significant(count, 4);
        let source = match self.fragments_source {
            Some(FragmentsSource::WorkedOut) => format!("worked out; not counted: {why_not}"),
            _ => "counted, in a burst of their own".to_owned(),
        };
        format!("{} with {} fragments to a message, {source}", count(packets), count(fragments))
    }

    /// CPU time in words: of all, and of each side.
    fn cpu(&self) -> Vec<(&'static str, String)> {
        let share = |ns: u64| format!("{:.1} %", ns as f64 * 100.0 / self.elapsed_ns.max(1) as f64);
        let cpu = |(user_ns, system_ns)| {
            format!("{} user, {} system, of one CPU", share(user_ns), share(system_ns))
        };
        let Some(server) = self.server_user_ns.zip(self.server_system_ns) else {
            let why = self.server_cpu_untold.as_deref().unwrap_or_default();
            return vec![("cpu", format!("not told: {why}"))];
        };
        let Some(client) = self.client_user_ns.zip(self.client_system_ns) else {
            return vec![("cpu", cpu(server))];
        };
        let apart = match self.cpu_split_is_reliable {
            Some(false) => "; the split between the sides is not to be relied on",
            _ => "",
        };
        let both = (server.0 + client.0, server.1 + client.1);
        vec![("cpu", cpu(both)), ("  server", cpu(server) + apart), ("  client", cpu(client) + apart)]
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<14} {value}");
        if self.receiver == Receiver::Sink {
            let alone = "nobody receives; the frames are dropped before anything copies them";
            line("sender alone", alone.to_owned())?;
        }
        let elapsed_s = self.elapsed_ns as f64 / 1e9;
        let Self { messages, payload_bytes_total, .. } = self;
        line("messages", format!("{messages} in {elapsed_s:.3} s, {payload_bytes_total} bytes"))?;
        line("throughput", format!("{:.3} Gb/s", self.throughput_gbps))?;
        match (self.round_trips_per_s, self.rtt_mean_ns) {
            (Some(rate), Some(mean_ns)) => {
                let shown = |ns: Option<u64>| ns.map_or_else(String::new, |ns| format::time(ns as f64));
                line("round trips", format!("{rate:.0} /s"))?;
                line(
                    "round trip",
                    format!(
                        "mean {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
                        format::time(mean_ns),
                        shown(self.rtt_p50_ns),
                        shown(self.rtt_p90_ns),
                        shown(self.rtt_p99_ns),
                        shown(self.rtt_p999_ns),
                        shown(self.rtt_max_ns)
                    ),
                )?;
            }
            _ => line("round trip", "not measured: a stream has none".to_owned())?,
        }
        for (name, value) in self.cpu() {
            line(name, value)?;
        }
        if let Some(injection_ns) = self.injection_ns {
            let part_of = if self.round_trips_per_s.is_some() {
                "part of each message's time"
            } else {
                "a stream has the acknowledgements alone, as part of its time"
            };
            line(
                "injection",
                format!(
                    "{} for a request and its acknowledgement without a message; {part_of}, the same for every path",
                    format::time(injection_ns)
                ),
            )?;
        }
        line("packets", self.packets())?;
        if let Some(ZeroCopy { counts, copied_because, .. }) = &self.zero_copy {
            let copied = counts.copied();
            let words = copied.map_or_else(String::new, |copied| {
                let after_all = if copied.is_none() { "" } else { " after all" };
                format!(": the kernel copied {copied} of the sends{after_all}")
            });
            line("zero copy", format!("{counts}{words}"))?;
            if let Some(reason) = copied.and_then(|copied| copied.bound.reason()) {
                line("  that is", reason.to_owned())?;
            }
            if let Some(causes) = copied_because {
                let causes: Vec<_> = causes.iter().map(|explained| explained.cause.clone()).collect();
                line("  copied as", copy_cause::in_words(&causes))?;
            }
            if let Some(drain_ns) = self.drain_ns_per_burst {
                let us = format!("{:.2} \u{b5}s", drain_ns / 1e3);
                line("drain", format!("{us} after a burst's last byte, for its completions (median)"))?;
            }
        }
        for pages in self.huge_pages.iter().flatten() {
            line("huge pages", pages.to_string())?;
        }
        if self.heap_is_huge == Some(true) {
            let why = "the allocator's, so that heap lies on fewer fragments than elsewhere (GLIBC_TUNABLES, or \
                       transparent huge pages: always)";
            line("huge pages", why.to_owned())?;
        }
        if let Some(mapped) = self.mapped_share {
            let share = format::share(mapped);
            line("mapped", format!("{share} of the bytes received; the others were copied"))?;
        }
        if let Some(again) = self.retransmitted_segments.filter(|again| *again > 0) {
            line("retransmitted", format!("{again} segments"))?;
        }
        if self.strangers > 0 {
            line("strangers", closed(self.strangers))?;
        }
        let seen = self.seen.map(|seen| seen.to_string());
        line("seen", seen.unwrap_or_else(|| why_not_seen(self.receiver).to_owned()))?;
        if let Some(contradiction) = &self.contradiction {
            line("contradiction", contradiction.clone())?;
        }
        line("verified", self.verified())?;
        let Some(sides) = &self.counters else { return Ok(()) };
        writeln!(f, "\ncounted over {} more messages, which are not in the figures above", sides.messages)?;
        write!(f, "{sides}")
    }
}

impl fmt::Display for Sides {
    /// A row for each event, both sides side by side; then the reasons for those that are missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, server: [String; 2], client: [String; 2]| {
            let ([server, server_message], [client, client_message]) = (server, client);
            writeln!(f, "{name:<18} {server:>16} {server_message:>12}  {client:>16} {client_message:>12}")
        };
        let words = |words: [&str; 2]| words.map(str::to_owned);
        row("counter", words(["server", "/message"]), words(["client", "/message"]))?;
        let mut missing: Vec<(&String, String)> = Vec::new();
        for (event, server) in &self.server.events {
            let Some(client) = self.client.events.get(event) else { continue };
            for counter in [server, client] {
                if let Counter::Unavailable { unavailable } = counter {
                    missing.push((unavailable, event.to_string()));
                }
            }
            let unit = if *event == Event::TaskClock { " ns" } else { "" };
            row(&format!("{event}{unit}"), cells(server), cells(client))?;
        }
        let Self { server, client, .. } = self;
        for (name, server, client) in [
            ("ipc", server.ipc, client.ipc),
            ("cache miss rate", server.cache_miss_rate, client.cache_miss_rate),
            ("cycles/byte", server.cycles_per_byte, client.cycles_per_byte),
        ] {
            if server.is_some() || client.is_some() {
                let cells = |value: Option<f64>| {
                    [value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}")), String::new()]
                };
                row(name, cells(server), cells(client))?;
            }
        }
        for (reason, names) in grouped(distinct(missing)) {
            writeln!(f, "not counted: {}: {reason}", names.join(", "))?;
        }
        let scaled = |side: &SideCounters| {
            side.events.values().any(|counter| matches!(counter, Counter::Counted { scaled: true, .. }))
        };
        if scaled(server) || scaled(client) {
            writeln!(f, "~ extrapolated: the event shared its counter with others")?;
        }
        Ok(())
    }
}

/// A counter's value and its share per message, as a table shows them; a missing one is blank.
fn cells(counter: &Counter) -> [String; 2] {
    match counter {
        Counter::Counted { value, scaled, per_message, .. } => {
            let mark = if *scaled { "~" } else { "" };
            [format!("{mark}{value}"), format!("{per_message:.3}")]
        }
        Counter::Unavailable { .. } => ["-".to_owned(), "-".to_owned()],
    }
}
