//! The report of a sweep: the data become a [`page::Page`], which is then drawn. Every sentence in it is made
//! of the data by `answers`; [`page`] is what a test reads.

mod answers;
mod figures;
mod html;
pub mod page;
mod plots;
mod tables;
mod winners;
mod words;

#[cfg(test)]
#[path = "../../tests/common/fixture.rs"]
mod fixture;

use answers::Facts;
use page::{Claim, Page, Section};

pub use html::render;
pub use plots::{Look, png, svg};

use crate::case::Series;
use crate::results::analysis::{Metric, analyse};
use crate::results::model::{Fit, Ladder, ladders};
use crate::results::store::Sweep;

/// Works out what the page of a sweep says.
#[must_use]
pub fn page(sweep: &Sweep) -> Page {
    let manifest = &sweep.manifest;
    let analysis = analyse(&manifest.plan, &sweep.records);
    let ladders = ladders(&analysis);
    let fits: Vec<(&Ladder<'_>, Series, Option<Fit>)> = ladders
        .iter()
        .flat_map(|ladder| {
            manifest.plan.series.iter().map(move |&series| (ladder, series, Fit::of(ladder, series)))
        })
        .collect();
    let facts = Facts { manifest, analysis: &analysis, ladders: &ladders, fits: &fits };
    let mut warnings = sweep.warnings.clone();
    warnings.extend(facts.warnings());
    let folder = sweep.folder.display();
    Page {
        title: format!("sendpath on {}, {}", manifest.host, manifest.started),
        commands: vec![manifest.command.join(" "), format!("sendpath report {folder}")],
        headline: facts.headline(),
        verdict: facts.verdict(),
        warnings,
        figures: figures::figures(manifest, &analysis, &ladders),
        maps: Metric::OF_A_SWEEP.into_iter().flat_map(|metric| winners::maps(&analysis, metric)).collect(),
        cost_model: Section {
            method: COST_MODEL.to_owned(),
            table: tables::cost_model(&fits),
            claims: Vec::new(),
        },
        copy_ledger: tables::ledger(manifest, &analysis),
        questions: facts.questions(),
        cases: tables::cases(manifest, &analysis),
        comparisons: tables::comparisons(&analysis),
        environment: tables::environment(manifest),
        limits: limits(sweep),
    }
}

const COST_MODEL: &str = "Time of a message on a pair = fixed cost + cost per KiB × size: least squares of relative \
                          distances over the sizes that were measured. The intervals (95 %) hold what instances differ \
                          by; that a straight line is a simplification shows in the misfit, not in them.";

/// What the numbers cannot show.
fn limits(sweep: &Sweep) -> Vec<String> {
    use crate::topology::Topology;
    let mut limits = Vec::new();
    match sweep.manifest.environment.as_ref().map(|environment| &environment.effective.topology) {
        Some(Topology::Anonymous) => limits.push(
            "veth: data stay in this machine's memory. MSG_ZEROCOPY is copied on the receiver's side after all, there is \
             no DMA, no interrupt, no offload and no wire; the receive path runs in the sender's context, so the \
             server's counts carry most of the client's TCP work. What zero-copy saves on a network card cannot be \
             seen here: use two real ports (netns-setup.sh up --nic)."
                .to_owned(),
        ),
        Some(Topology::Loopback) => limits.push(
            "Loopback: no namespaces, no veth, no wire; MSG_ZEROCOPY is copied after all.".to_owned(),
        ),
        Some(Topology::Named { .. }) => limits.push(
            "Between named namespaces the link may be veth or real ports; the copied share says what MSG_ZEROCOPY was."
                .to_owned(),
        ),
        None => limits.push("Data from elsewhere: what surrounded the measurement is not recorded here.".to_owned()),
    }
    limits.extend(
        [
            "One connection per pair, eight fields of equal size, buffers that are reused: a server that touches its data \
             for the first time, or whose messages lie scattered, has more cache misses than these.",
            "Bursts of other paths run in between, so a burst begins with colder caches than one path alone would have: \
             the comparison is fair, the absolute numbers are a little on the slow side.",
            "Times come from bursts without counters and counters from bursts of their own, because counting slows down a \
             small round trip by a fifth.",
            "A verdict says that two paths differ on this machine, with this kernel and these settings. It does not \
             carry over to another.",
        ]
        .map(str::to_owned),
    );
    limits
}

/// A claim's rows that stand nowhere in the page: none, if all is well.
#[must_use]
pub fn dangling(page: &Page) -> Vec<String> {
    let tables = [&page.cases, &page.comparisons, &page.cost_model.table, &page.copy_ledger.table];
    let known = |id: &String| tables.iter().any(|table| table.rows.iter().any(|row| row.id == *id));
    let claims = page
        .verdict
        .iter()
        .chain(page.questions.iter().flat_map(|question| &question.answer))
        .chain(&page.cost_model.claims)
        .chain(&page.copy_ledger.claims)
        .flat_map(|claim: &Claim| &claim.rows);
    let squares = page.maps.iter().flat_map(|map| map.rows.iter().flat_map(|(_, squares)| squares));
    let points = page.figures.iter().flat_map(|figure| figure.lines.iter().flat_map(|line| &line.points));
    claims
        .chain(squares.flat_map(|square| &square.rows))
        .chain(points.map(|point| &point.row))
        .filter(|id| !known(id))
        .cloned()
        .collect()
}
