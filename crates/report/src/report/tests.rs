//! No sentence of a page contradicts the list of decisions: what is printed is read again, as a
//! person reads it, and held against the list at each size that was measured.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::page::Page;
use super::page_with;
use super::words;
use crate::case::{Cell, Engine, Receiver, SendPath};
use crate::results::analysis::{Analysis, CellResult};
use crate::results::decision::{Choice, Decision, Range, Standing};
use crate::results::manifest::Plan;
use crate::results::store::StoredSweep;
use crate::results::store::tests::manifest;
use crate::results::tests::{ALL, sweeps};

/// Sizes are printed to two digits: so near to a border either side is right.
const ROUNDED: f64 = 1.06;

/// `12K`, `~64B`.
fn bytes(text: &str) -> f64 {
    let text = text.trim().trim_start_matches('~');
    let (number, unit) = text.split_at(text.len() - 1);
    let times = match unit {
        "B" => 1.0,
        "K" => 1024.0,
        "M" => 1_048_576.0,
        other => panic!("no unit: {other:?} in {text:?}"),
    };
    number.parse::<f64>().unwrap_or_else(|_| panic!("no size: {text:?}")) * times
}

/// What a reader takes for the way to send, by ascending size: up to which size, and its name.
type Read<'a> = Vec<(f64, &'a str)>;

/// `pack+send to 15K, writev to 45K, then MSG_ZEROCOPY`; `writev at every size`.
fn phrase(text: &str) -> Read<'_> {
    let part = |part| match str::rsplit_once(part, " to ") {
        Some((name, upper)) => (bytes(upper), name),
        None => (f64::INFINITY, part.trim_start_matches("then ")),
    };
    match text.split_once(" at ").filter(|(name, _)| !name.contains(" to ")) {
        Some((name, _)) => vec![(f64::INFINITY, name)],
        None => text.split(", ").map(part).collect(),
    }
}

/// `64B ─pack+send─ ~15K ─writev─ 1M  2.7× pack+send`.
fn strip(text: &str) -> Read<'_> {
    let parts: Vec<&str> = text.split('─').collect();
    let upper = |text: &str| bytes(text.split_whitespace().next().expect("a size"));
    parts[1..].chunks(2).map(|part| (upper(part[1]), part[0])).collect()
}

/// How the list puts what it says of a size.
fn listed(decision: &Decision, size: usize, by: &str) -> String {
    match &decision.at(size).expect("it was measured").standing {
        Standing::Best { choice, .. } => words::choice(*choice),
        Standing::Close { choices, .. } if choices.len() == 2 => {
            choices.iter().map(|one| words::choice(*one)).collect::<Vec<_>>().join(by)
        }
        Standing::Close { .. } => "several alike".to_owned(),
        Standing::Open { .. } => "undecided".to_owned(),
        Standing::NotMeasured => "not measured".to_owned(),
    }
}

/// Holds what was read against the list, at all sizes that no border is near to.
fn holds(text: &str, read: &Read<'_>, decision: &Decision, by: &str) -> Result<(), TestCaseError> {
    for &size in &decision.sizes {
        let at = size as f64;
        let is_clear = |(upper, _): &&(f64, &str)| at * ROUNDED < *upper || *upper * ROUNDED < at;
        if !read[..read.len() - 1].iter().all(|one| is_clear(&one)) {
            continue;
        }
        let said = read.iter().find(|(upper, _)| at <= *upper * ROUNDED).expect("the last is the largest").1;
        prop_assert_eq!(said, listed(decision, size, by), "at {} of {:?}: {:?}", size, text, decision);
    }
    Ok(())
}

/// Whether one choice is the best at some measured size of which `holds` holds.
fn is_best_where(decision: &Decision, one: &str, holds: impl Fn(f64) -> bool) -> bool {
    let is_it = |size: usize| decision.at(size).and_then(Range::best).map(words::choice);
    decision.sizes.iter().any(|&size| holds(size as f64) && is_it(size).as_deref() == Some(one))
}

/// `writev is faster than pack+send from 15K (95 %: 10K to 17K): …`.
fn faster_from(text: &str, decision: &Decision, cells: &[CellResult]) -> Result<(), TestCaseError> {
    let (_, said) = text.split_once(": ").expect("a situation");
    // Nothing is said of a size at which one of the two was not measured.
    let both = |choice: &str| {
        let is_there = |cell: &&CellResult, name: &str| {
            cell.series().any(|one| one.engine == Engine::Syscall && words::choice(Choice::of(one)) == name)
        };
        let of_both = cells.iter().filter(|cell| {
            cell.cell.situation() == decision.situation
                && is_there(cell, choice)
                && is_there(cell, "pack+send")
        });
        of_both.map(|cell| cell.cell.payload_bytes as f64).collect::<Vec<_>>()
    };
    let Some((one, rest)) = said.split_once(" is faster than pack+send from ") else {
        if let Some((one, _)) = said.split_once(" is not yet faster than ") {
            let is_best = is_best_where(decision, one, |size| both(one).last() == Some(&size));
            prop_assert!(!is_best, "{} {:?}", text, decision);
        }
        return Ok(());
    };
    // `, and at 64B and 128B`: there it is the faster one as well.
    let also = |size: f64| {
        let named = rest.split_once(", and at ").and_then(|(_, named)| named.split_once(':'));
        named.is_some_and(|(sizes, _)| {
            sizes.replace(" and ", ", ").split(", ").any(|one| (bytes(one) / size - 1.0).abs() < 0.06)
        })
    };
    let interval = rest.split_once("(95 %: ").and_then(|(_, interval)| interval.split_once(')'));
    let interval = interval.and_then(|(interval, _)| interval.split_once(" to "));
    let is_size = |text: &str| text.starts_with(|digit: char| digit.is_ascii_digit());
    if let Some((low, high)) = interval.filter(|(low, high)| is_size(low) && is_size(high)) {
        let (low, high) = (bytes(low) / ROUNDED, bytes(high) * ROUNDED);
        prop_assert!(
            !is_best_where(decision, one, |size| size < low && !also(size) && both(one).contains(&size)),
            "{} {:?}",
            text,
            decision
        );
        prop_assert!(
            !is_best_where(decision, "pack+send", |size| size > high && both(one).contains(&size)),
            "{} {:?}",
            text,
            decision
        );
    } else if !rest.contains("95 %") {
        prop_assert!(
            !is_best_where(decision, "pack+send", |size| both(one).contains(&size)),
            "{} {:?}",
            text,
            decision
        );
    }
    Ok(())
}

/// `Sender alone: MSG_ZEROCOPY is the fastest from 45K to 1M; …`.
fn fastest_at(text: &str, decision: &Decision) -> Result<(), TestCaseError> {
    let Some((_, said)) = text.split_once(" is the fastest ") else { return Ok(()) };
    let (said, _) = said.split_once(';').expect("and how far behind it is elsewhere");
    let ranges: Vec<(f64, f64)> = said
        .split(", ")
        .filter(|part| *part != "at no size")
        .map(|part| match part.trim_start_matches("from ").split_once(" to ") {
            Some((from, to)) => (bytes(from), bytes(to)),
            None => [part.trim_start_matches("at "); 2].map(bytes).into(),
        })
        .collect();
    let zero = words::choice(Choice { path: SendPath::ZeroCopy, engine: Engine::Syscall });
    let is_within = |size: f64, by: f64| ranges.iter().any(|(from, to)| from / by <= size && size <= to * by);
    for &size in &decision.sizes {
        let (at, is_best) = (size as f64, listed(decision, size, "") == zero);
        prop_assert!(!is_best || is_within(at, ROUNDED), "{} at {}: {:?}", text, size, decision);
        prop_assert!(is_best || !is_within(at, 1.0 / ROUNDED), "{} at {}: {:?}", text, size, decision);
    }
    Ok(())
}

fn page_of(cells: &[CellResult]) -> Page {
    let mut manifest = manifest();
    let plan_cells: Vec<Cell> = cells.iter().map(|cell| cell.cell).collect();
    let series = ALL.into_iter().filter(|one| cells.iter().any(|cell| cell.arm(*one).is_some())).collect();
    manifest.plan = Plan { series, cells: plan_cells, only_in: Vec::new(), ..manifest.plan };
    let sweep = StoredSweep {
        folder: PathBuf::from("sweep"),
        manifest,
        records: Vec::new(),
        samples_bytes: 0,
        warnings: Vec::new(),
    };
    page_with(&sweep, &Analysis { cells: cells.to_vec(), controls: BTreeMap::new() }, 0.0)
}

/// The terminal's strips, a line for each situation.
fn strips_of(terminal: &str) -> Vec<String> {
    let mut strips: Vec<String> = Vec::new();
    for line in terminal.lines().skip(1) {
        let is_own = line.starts_with("sender alone ") || line.starts_with("to a receiver ");
        match strips.last_mut() {
            _ if is_own => strips.push(line.to_owned()),
            Some(last) if line.starts_with("       ") => *last += line,
            _ => break,
        }
    }
    strips
}

fn says_one_thing(page: &Page, cells: &[CellResult]) -> Result<(), TestCaseError> {
    let of = |label: &str| {
        let is_alone = label.to_lowercase().starts_with("sender alone");
        let found = page.decisions.iter().find(|one| (one.situation.receiver == Receiver::Sink) == is_alone);
        found.expect("there is a situation of each kind")
    };
    for sentence in page.headline.trim_end_matches('.').split(". ") {
        let Some((label, said)) = sentence.split_once(": ") else { continue };
        match said.split_once(" from ").filter(|(name, _)| !name.contains(" to ")) {
            // The last range alone, where all are more than can be read.
            Some((name, from)) => {
                let (decision, from) = (of(label), bytes(from));
                let sizes = decision.sizes.iter().filter(|size| **size as f64 > from * ROUNDED);
                for size in sizes {
                    prop_assert_eq!(name, listed(decision, *size, " or "), "{} {:?}", sentence, decision);
                }
            }
            None if said == "nothing could be compared" => {}
            None => holds(sentence, &phrase(said), of(label), " or ")?,
        }
    }
    for strip in page.strips.iter().filter(|strip| !strip.spans.is_empty()) {
        holds(&strip.text, &phrase(&strip.text), of(&strip.label), " or ")?;
        let read: Vec<(f64, &str)> = strip
            .spans
            .iter()
            .map(|span| {
                let place = span.tip.strip_prefix(span.text.as_str()).expect("the tip begins with the text");
                let place = place.split([':', ';']).next().expect("it has a beginning");
                let upper = place.rsplit_once(" to ").map_or_else(|| place.rsplit_once(' '), Some);
                (bytes(upper.expect("it names sizes").1), span.text.as_str())
            })
            .collect();
        holds(&strip.text, &read, of(&strip.label), " ≈ ")?;
    }
    let widths: Vec<usize> = page.terminal.lines().map(|line| line.chars().count()).collect();
    prop_assert!(widths.len() <= 13 && widths.iter().all(|width| *width <= 80), "{}", page.terminal);
    for line in strips_of(&page.terminal) {
        if line.contains('─') {
            let (label, _) = line.split_once('─').expect("it has a strip");
            holds(&line, &strip(&line), of(label), "≈")?;
        }
    }
    for map in page.maps.iter().filter(|map| map.title.contains("throughput")) {
        let decision = of(if map.title.contains("sender alone") { "sender alone" } else { "" });
        for (head, square) in map.columns.iter().zip(&map.rows[0].1) {
            let size = decision.sizes.iter().find(|size| (**size as f64).total_cmp(&bytes(head)).is_eq());
            let Some(&size) = size.filter(|_| square.style.is_some()) else { continue };
            prop_assert_eq!(&square.text, &listed(decision, size, " ≈ "), "{} {:?}", head, decision);
        }
    }
    for claim in page.questions.iter().flat_map(|question| &question.answer) {
        let Some((label, _)) = claim.text.split_once(": ") else { continue };
        fastest_at(&claim.text, of(label))?;
        if claim.text.contains("faster than pack+send") {
            faster_from(&claim.text, of(label), cells)?;
        }
    }
    for claim in &page.verdict {
        let Some(said) = claim.text.strip_prefix("Zero-copy wins in ") else { continue };
        let is_zero = |decision: &Decision, size: usize| {
            decision.at(size).and_then(Range::best).is_some_and(|one| one.path == SendPath::ZeroCopy)
        };
        let decision = of(if said.contains("sender alone") { "sender alone" } else { "" });
        let wins = decision.sizes.iter().filter(|size| is_zero(decision, **size)).count();
        prop_assert!(said.starts_with(&format!("{wins} of ")), "{} {:?}", claim.text, decision);
    }
    Ok(())
}

/// So many sweeps are made up: all of them in the long simulations.
fn sweeps_to_try() -> u32 {
    if std::env::var_os("SENDPATH_TEST_CAMPAIGN").is_some() { 10_000 } else { 2_000 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(sweeps_to_try()))]

    #[test]
    fn no_sentence_contradicts_the_list(
        alone in sweeps(Receiver::Sink),
        received in sweeps(Receiver::Buffer),
    ) {
        let cells = [alone, received].concat();
        says_one_thing(&page_of(&cells), &cells)?;
    }
}
