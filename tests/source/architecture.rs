//! Imports run one way: no two modules beside each other use each other, however long the way
//! around is. Between crates the compiler sees to that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module by its path: `pair::server`.
type Module = Vec<String>;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder of sources can be read") {
        let path = entry.expect("its entries, too").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The module that a file is: `pair/server/mod.rs` is `pair::server`, and `lib.rs` is the crate.
fn module(file: &Path) -> Module {
    let names = file.with_extension("");
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| !["mod", "lib", "main"].contains(&name.as_str())).collect()
}

/// The paths that a text uses, from `crate` on: `use crate::{a, b::{C, d}}` is `a`, `b::C` and
/// `b::d`. Tests at the end of a file may use what they like.
fn used(text: &str, module: &[String]) -> Vec<Module> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (root, above) in [("crate::", None), ("super::super::", Some(2)), ("super::", Some(1))] {
        for (start, _) in code.match_indices(root) {
            let before = &code[..start];
            let goes_on = before.ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter));
            // `pub(in crate::report)` says who sees a thing, and uses nothing.
            if goes_on || before.ends_with("pub(in ") || code[start + root.len()..].starts_with("super::") {
                continue;
            }
            let from = above.map_or(&[][..], |levels| &module[..module.len().saturating_sub(levels)]);
            paths(&code[start + root.len()..], from, &mut found);
        }
    }
    found
}

/// Takes the paths at the start of `text`, which follows `prefix::`, braces and all.
fn paths(text: &str, prefix: &[String], found: &mut Vec<Module>) {
    if let Some(inside) = text.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (index, letter) in inside.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    paths(inside[start..index].trim(), prefix, found);
                    start = index + 1;
                    if letter == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = [prefix, &[name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => paths(rest, &path, found),
        None => found.push(path),
    }
}

/// Which modules use which of those beside them, by the module that holds both.
fn uses(folder: &str) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
    let mut files = Vec::new();
    sources(Path::new(folder), &mut files);
    let inside = |file: &PathBuf| file.strip_prefix(folder).expect("it lies there").to_owned();
    let modules: Vec<Module> = files.iter().map(|file| module(&inside(file))).collect();
    let known: BTreeSet<&Module> = modules.iter().collect();
    let mut graph: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (file, user) in files.iter().zip(&modules) {
        // What only tests compile uses what it likes.
        if file.ends_with("tests.rs") {
            continue;
        }
        for path in used(&fs::read_to_string(file).expect("a source can be read"), user) {
            let Some(used) =
                (1..=path.len()).rev().map(|end| path[..end].to_vec()).find(|it| known.contains(it))
            else {
                continue;
            };
            let common = user.iter().zip(&used).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (user.get(common), used.get(common)) {
                let beside = graph.entry(user[..common].to_vec()).or_default();
                beside.entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    graph
}

/// A way from a module back to itself.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn go(
        uses: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        let last = way.last()?.clone();
        for next in uses.get(&last).into_iter().flatten() {
            if let Some(start) = way.iter().position(|name| name == next) {
                return Some(way[start..].to_vec());
            }
            if !done.contains(next) {
                way.push(next.clone());
                if let Some(circle) = go(uses, way, done) {
                    return Some(circle);
                }
                way.pop();
            }
        }
        done.insert(last);
        None
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|name| go(uses, &mut vec![name.clone()], &mut done))
}

#[test]
fn no_two_modules_use_each_other() {
    for folder in ["src", "crates/model/src", "crates/report/src"] {
        let graph = uses(folder);
        assert!(graph[&Vec::new()].len() > 1, "{folder}: its modules use each other one way at least");
        for (module, uses) in graph {
            assert_eq!(circle(&uses), None, "{folder}, in {}", module.join("::"));
        }
    }
}

#[test]
fn paths_are_found_however_they_are_written_and_a_circle_is_too() {
    let text = "
        use crate::case::{Case, Cell};
        use crate::{Error, measure::{burst::time, environment}};
        // crate::never
        let x = crate::topology::affinity::pin(1);
        pub(in crate::report) fn f() {}
        use sendpath_crate::other;
        use super::watch::Watch;
        use super::super::page;
    ";
    let found: Vec<String> =
        used(text, &["pair".to_owned(), "client".to_owned()]).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        [
            "case::Case",
            "case::Cell",
            "Error",
            "measure::burst::time",
            "measure::environment",
            "topology::affinity::pin",
            "page",
            "pair::watch::Watch"
        ]
    );
    let uses = |all: &[(&str, &str)]| {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (one, other) in all {
            uses.entry((*one).to_owned()).or_default().insert((*other).to_owned());
        }
        uses
    };
    assert_eq!(circle(&uses(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    assert!(circle(&uses(&[("a", "b"), ("b", "c"), ("c", "a")])).is_some());
}
