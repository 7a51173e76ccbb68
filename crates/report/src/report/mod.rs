//! The report of a sweep. The data become a [`page::Page`], which is then drawn. `headline` and
//! `study_questions` make its sentences from the data; tests read [`mod@page`].

mod columns;
mod dots;
mod figures;
mod fleet;
mod fragment_cost;
mod front;
mod glance;
mod headline;
mod history;
mod html;
mod line_breaks;
pub mod page;
mod plots;
mod settle;
mod study_questions;
mod tables;
#[cfg(test)]
mod tests;
mod trust;
mod winners;
mod words;

#[cfg(test)]
#[path = "../../../../tests/common/fixture.rs"]
mod fixture;

use headline::Facts;
use page::{Page, Section};

pub use fleet::{difference, too_few};
pub use front::{HOME, write_front};
pub use history::{By, history};
pub use html::render;
pub use plots::{Look, png, ready_font, svg};

use crate::case::{Receiver, Series, Shape};
use crate::results::analysis::{Analysis, analyse_stored};
use crate::results::cost_model::Fit;
use crate::results::fragment_cost::with_fragment_cost;
use crate::results::ladder::{Ladder, ladders};
use crate::results::metric::Metric;
use crate::results::store::StoredSweep;

/// Works out what the page of a sweep says.
pub fn page(sweep: &StoredSweep) -> Page {
    page_with(sweep, &analyse_stored(&sweep.manifest, &sweep.records), 0.0)
}

/// The same of a sweep that was analysed, where a card's driver takes `fragment_ns` nanoseconds for
/// each fragment: it moves what is said of the sender alone.
pub fn page_with(sweep: &StoredSweep, measured: &Analysis, fragment_ns: f64) -> Page {
    let manifest = &sweep.manifest;
    let analysis = with_fragment_cost(measured, fragment_ns);
    let all_ladders = ladders(&analysis);
    let fits: Vec<(&Ladder<'_>, Series, Option<Fit>)> = all_ladders
        .iter()
        .flat_map(|ladder| {
            let there = manifest.plan.series.iter().filter(|series| ladder.arms(**series).next().is_some());
            there.map(move |&series| (ladder, series, Fit::of(ladder, series)))
        })
        .collect();
    let everywhere = analysis.of_all_cells(&manifest.plan);
    let whole_ladders = ladders(&everywhere);
    let ways = words::Ways::of(manifest, &analysis);
    let facts = Facts {
        manifest,
        analysis: &analysis,
        ladders: &whole_ladders,
        all_ladders: &all_ladders,
        fits: &fits,
        ways: &ways,
    };
    let decided = glance::decided(&whole_ladders);
    let trust = trust::trust(manifest, &analysis);
    let (strips, strip_ticks) = glance::strips(&decided, &manifest.plan.series);
    let mut warnings = sweep.warnings.clone();
    warnings.extend(tables::contradictions(manifest, &analysis));
    warnings.extend(tables::sent_again(&analysis));
    warnings.extend(tables::heap_on_huge_pages(manifest));
    warnings.extend(facts.warnings());
    if fragment_ns > 0.0 {
        warnings.push(format!(
            "The throughput of the sender alone is not as it was measured: {} are added to the time of a message, for a \
             card's driver (--fragment-cost). CPU time and round trips are as measured.",
            words::by_fragment(fragment_ns)
        ));
    }
    let folder = sweep.folder.display();
    let option = if fragment_ns > 0.0 { format!(" --fragment-cost {fragment_ns}ns") } else { String::new() };
    let mut copy_ledger = tables::ledger(manifest, &analysis);
    copy_ledger.claims.extend(tables::sink_proof(manifest, &analysis));
    copy_ledger.claims.extend(tables::costs_per_kib(manifest, &all_ladders));
    let mut figures = figures::figures(manifest, &analysis, &all_ladders, &ways);
    figures.extend(fragment_cost::figures(&all_ladders, &ways));
    Page {
        title: format!("sendpath on {}, {}", manifest.host, manifest.started),
        commands: vec![
            manifest.command.join(" "),
            format!("{} report {folder}{option}", program(&manifest.command)),
        ],
        headline: glance::headline(&decided),
        strips,
        strip_ticks,
        terminal: glance::terminal(&decided, &trust),
        trust: Some(trust),
        dots: Vec::new(),
        verdict: facts.verdict(&decided),
        decisions: decided.iter().map(|(_, decision)| decision.clone()).collect(),
        warnings,
        study_figures: figures::of_study(manifest, &figures),
        figures,
        not_drawn: figures::not_drawn(manifest, &analysis),
        maps: Metric::OF_A_SWEEP
            .into_iter()
            .flat_map(|metric| winners::maps(&everywhere, metric, &ways))
            .collect(),
        cost_model: Section {
            method: COST_MODEL.to_owned(),
            table: tables::cost_model(&analysis, &fits),
            claims: Vec::new(),
        },
        copy_ledger,
        questions: facts.questions(&decided),
        cases: tables::cases(manifest, &analysis),
        comparisons: tables::comparisons(&analysis),
        environment: tables::environment(manifest),
        limits: limits(sweep, &facts),
    }
}

/// The program as it was called, so that the next command runs where the last one did.
fn program(command: &[String]) -> &str {
    let called = command.first().map_or("", String::as_str);
    if called.ends_with("sendpath") { called } else { "sendpath" }
}

const COST_MODEL: &str = "Time of a message on a pair = fixed cost + cost per KiB × size, fitted by least squares \
                          of relative distances over the sizes that were measured. The intervals (95 %) are the \
                          middle of a thousand lines, each through drawn times: the baseline's time, drawn by its \
                          spread between lives and the same for every path, by a ratio that is drawn by the \
                          spread of the paired ratios. So what moves all paths alike cancels in the difference of \
                          two. Where a measured time is more than 10 % off the line, a message does not cost what \
                          the line says: the row says so and has no interval.";

/// What the numbers cannot show.
fn limits(sweep: &StoredSweep, facts: &Facts<'_>) -> Vec<String> {
    use crate::environment::Topology;
    let Some(environment) = &sweep.manifest.environment else {
        return vec![
            "Another program measured these data: machine and settings are not recorded.".to_owned(),
        ];
    };
    let mut limits = Vec::new();
    limits.push(match &environment.effective.topology {
        Topology::Anonymous => "veth: data stay in this machine's memory; there is no DMA, no interrupt, no offload and no wire. \
                                The receive path runs in the sender's context, so the server's counts include much \
                                of the client's TCP work. veth cannot show what MSG_ZEROCOPY saves on a network \
                                card: use two real ports (netns-setup.sh up --nic)."
            .to_owned(),
        Topology::Loopback => "Loopback: no namespaces, no veth, no wire.".to_owned(),
        Topology::Named { .. } => {
            "Between named namespaces the link may be veth or real ports. The copied share says whether the kernel copied."
                .to_owned()
        }
        Topology::Peer => {
            "The client is another program's child, on this machine or another one: rows of `environment.json` say which. \
             The timed window is on its clock alone. What each side counts, and its CPU time, are its own machine's: \
             between unlike machines the two do not compare. The copied share says whether the kernel copied on the \
             server's side; the receiver's side copies in any case."
                .to_owned()
        }
    });
    if facts.manifest.plan.cells.iter().any(|cell| cell.receiver == Receiver::Sink) {
        limits.push(
            "Sender alone: the send path, TCP and veth are measured, and what goes into them; veth has no queueing discipline. \
             Nobody receives, so no contents are verified on a receiver. A network card's driver and its DMA are not in it: \
             docs/book/src/sink.md (What a card adds) says in which direction each moves the answer, and --fragment-cost \
             moves it."
                .to_owned(),
        );
    }
    if facts.counted_apart() {
        limits.push(
            "Times come from bursts without counters, and counts from other bursts, because counting costs time at every \
             context switch."
                .to_owned(),
        );
    }
    if tables::any_paired(&sweep.manifest) {
        limits.push(tables::SPLIT.to_owned());
    }
    let all_equal = facts.manifest.plan.cells.iter().all(|cell| cell.shape == Shape::Equal);
    limits.push(format!(
        "One connection per pair, {}, and with source hot a few messages that are sent again and again: a server that \
         touches its data for the first time has more cache misses than that. --source cold measures this.",
        if all_equal { "eight fields of equal size" } else { "messages of the shapes that are named" }
    ));
    limits.extend(
        [
            "Bursts of other paths run in between, so a burst begins with colder caches than one path alone would have. \
             Messages before each burst, which are not measured, remove most of this effect.",
            "Gb/s and CPU time are those of a typical round, the median of a life's rounds: a pause that hits few rounds is \
             not in them. It is in the mean, in p99 and in the longest round trip.",
            "A verdict says that two paths differ on this machine, with this kernel and these settings. It does not \
             carry over to another.",
        ]
        .map(str::to_owned),
    );
    limits
}
