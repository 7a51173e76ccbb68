//! Compares two stored sweeps: of two days, two kernels or two machines.
//!
//! The two were not interleaved. The machine's drift between them is in every number and in no
//! interval. Cases that only one of the two has are listed.

use std::collections::{BTreeMap, HashMap};

use super::analysis::CPU_TIME_IS_NOT_WHOLE;
use super::comparison::{Found, Outcome, read_together};
use super::family::Family;
use super::manifest::{HeapPages, Manifest, Plan, cpu_time_is_whole};
use super::metric::Metric;
use super::observation::{Replicates, Rounds, lives};
use super::record::{Arm, Record};
use super::store::StoredSweep;
use crate::case::Case;
use crate::sample::Sample;

/// What the comparison of two sweeps gives.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The cases that both have.
    pub outcome: Outcome,
    /// Cases of the first alone.
    pub only_first: Vec<String>,
    /// Cases of the second alone.
    pub only_second: Vec<String>,
    /// How the machines and their settings differ.
    pub differences: Vec<String>,
}

/// The timed samples of one sweep: by case, by generation.
type ByCase<'a> = HashMap<Case, BTreeMap<u64, Rounds<Arm, &'a Sample>>>;

/// Compares the second sweep with the first.
pub fn compare(first: &StoredSweep, second: &StoredSweep, margin: f64) -> Compared {
    let (ours, theirs) = (by_case(&second.records), by_case(&first.records));
    let listed = |of: &ByCase<'_>, other: &ByCase<'_>| {
        let mut cases: Vec<String> =
            of.keys().filter(|case| !other.contains_key(case)).map(ToString::to_string).collect();
        cases.sort();
        cases
    };
    let whole = [first, second].iter().all(|sweep| cpu_time_is_whole(&sweep.manifest));
    let mut found = Vec::new();
    let Plan { cells, .. } = &first.manifest.plan;
    for case in
        cells.iter().flat_map(|&cell| first.manifest.plan.series_of(cell).map(move |way| cell.case(way)))
    {
        let (Some(ours), Some(theirs)) = (ours.get(&case), theirs.get(&case)) else { continue };
        let arm = Arm { case, control: false };
        let [ours, theirs] = [ours, theirs].map(|lives| Replicates::of(lives.values()));
        for metric in Metric::OF_AB.into_iter().filter(|metric| whole || *metric != Metric::CpuPerByte) {
            let [now, before] = [&ours, &theirs].map(|of| of.level(metric, arm, &case));
            if let (Some(now), Some(before)) = (now, before) {
                let (change, base) = (now.minus(&before), theirs.value(metric, arm, &case));
                found.push(Found { case, metric, change, control: None, base });
            }
        }
    }
    let family = Family::without_a_false_call(found.len(), 1.0);
    let comparisons = read_together(found, family);
    let mut differences = match (&first.manifest.environment, &second.manifest.environment) {
        (Some(then), Some(now)) => then.differences(now),
        _ => vec!["one of the two sweeps does not say on which machine it was measured".to_owned()],
    };
    differences.extend(checked_differences(&first.manifest, &second.manifest));
    differences.extend(heap_differences(&first.manifest, &second.manifest));
    if !whole {
        differences.push(format!("there is no verdict by CPU time: {CPU_TIME_IS_NOT_WHOLE}"));
    }
    let blocks = |of: &ByCase<'_>| of.values().map(BTreeMap::len).max().unwrap_or(0);
    Compared {
        outcome: Outcome {
            cpu_time_is_whole: whole,
            blocks: blocks(&ours).min(blocks(&theirs)),
            margin,
            comparisons,
            failures: Vec::new(),
            left_out: Vec::new(),
            interrupted: false,
        },
        only_first: listed(&theirs, &ours),
        only_second: listed(&ours, &theirs),
        differences,
    }
}

/// What the machines' checks found differently of what an earlier version did not record of its
/// environment otherwise.
fn checked_differences(then: &Manifest, now: &Manifest) -> Vec<String> {
    let is_recorded = |manifest: &Manifest, name| {
        let tuning =
            manifest.environment.as_ref().and_then(|environment| environment.machine.tuning.as_ref());
        tuning.is_some_and(|tuning| match name {
            "turbo" => tuning.turbo.is_some(),
            "clock-source" => tuning.clock_source.is_some(),
            _ => true,
        })
    };
    let found = |manifest: &Manifest, name| {
        let check = manifest.checks.iter().find(|check| check.name == name)?;
        // The time that a read of the clock took stands behind its name.
        let found = if name == "clock-source" { check.found.split(':').next()? } else { &check.found };
        Some(found.to_owned())
    };
    let differs = |name: &'static str| {
        if is_recorded(then, name) && is_recorded(now, name) {
            return None;
        }
        let (then, now) = (found(then, name)?, found(now, name)?);
        (then != now).then(|| format!("{name} was {then:?} and is {now:?}"))
    };
    ["governor", "turbo", "mitigations", "clock-source"].into_iter().filter_map(differs).collect()
}

/// Cases of the layout `heap` that the allocator put on huge pages in one of the two, of those that
/// both have looked at.
fn heap_differences(then: &Manifest, now: &Manifest) -> Vec<String> {
    let pages = |heap: &HeapPages| if heap.is_huge { "huge" } else { "ordinary" };
    let differs = |then: &HeapPages| {
        let now = now.heap_pages.iter().find(|now| now.case == then.case && now.is_huge != then.is_huge)?;
        Some(format!("the heap of {} was on {} pages and is on {} ones", then.case, pages(then), pages(now)))
    };
    then.heap_pages.iter().filter_map(differs).collect()
}

/// The lives of each case, without the control.
fn by_case(records: &[Record]) -> ByCase<'_> {
    let mut of_case: HashMap<Case, Vec<&Record>> = HashMap::new();
    for record in
        records.iter().filter(|record| record.timed && !record.arm.control && record.outcome.is_ok())
    {
        of_case.entry(record.arm.case).or_default().push(record);
    }
    of_case.into_iter().map(|(case, records)| (case, lives(records))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Check, State};
    use crate::results::store::tests::manifest;

    #[test]
    fn what_the_checks_found_differently_is_a_difference_where_nothing_else_says_so() {
        let with = |found: &[(&str, &str)]| {
            let check = |&(name, found): &(&str, &str)| Check {
                name: name.to_owned(),
                state: State::Ok,
                found: found.to_owned(),
                remedy: None,
            };
            Manifest { checks: found.iter().map(check).collect(), ..manifest() }
        };
        let tuned = [("governor", "performance"), ("turbo", "off"), ("mitigations", "none active")];
        let then = with(&[&tuned[..], &[("clock-source", "tsc: a read takes 25 ns")]].concat());
        assert_eq!(checked_differences(&then, &then), [""; 0]);
        let again = with(&[&tuned[..], &[("clock-source", "tsc: a read takes 27 ns")]].concat());
        assert_eq!(checked_differences(&then, &again), [""; 0], "the same clock");
        let plain =
            [("governor", "powersave"), ("turbo", "on"), ("mitigations", "active"), ("clock-source", "hpet")];
        let now = checked_differences(&then, &with(&plain));
        assert_eq!(now.len(), 4, "{now:?}");
        assert!(now[0].starts_with("governor was \"performance\" and is \"powersave\""), "{now:?}");
        assert_eq!(checked_differences(&then, &with(&[])), [""; 0], "nobody looked");
    }

    #[test]
    fn a_heap_on_other_pages_is_a_difference_where_both_have_looked() {
        let with = |heaps: &[(&str, bool)]| {
            let heap = |&(case, is_huge): &(&str, bool)| HeapPages { case: case.to_owned(), is_huge };
            Manifest { heap_pages: heaps.iter().map(heap).collect(), ..manifest() }
        };
        let then = with(&[("a", false), ("b", true), ("c", true)]);
        let differences = heap_differences(&then, &with(&[("b", true), ("a", true)]));
        assert_eq!(differences, ["the heap of a was on ordinary pages and is on huge ones"]);
        assert!(heap_differences(&then, &with(&[])).is_empty());
    }
}
