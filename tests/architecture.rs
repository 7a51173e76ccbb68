//! Imports run one way: what a module may use is stated here, once, and every source file is held to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every top-level module with what it may use, in order: only what stands above it. What is said of `a` holds for
/// all in it, and `a::b` allows that one module of `a`.
const MAY_USE: [(&str, &str); 26] = [
    ("case", ""),
    ("format", ""),
    ("counts", "format"),
    ("fragments", "case"),
    ("event", "case"),
    ("sample", "case counts event"),
    ("message", "case counts"),
    ("pinning", ""),
    ("path", "case counts message pinning"),
    ("error", "case message path sample"),
    ("random", "error"),
    ("environment", "case error sample"),
    ("limits", "environment error pinning"),
    ("topology", "case environment error limits sample"),
    ("counters", "error event limits"),
    (
        "pair",
        "case counters counts environment error event fragments limits message path random sample topology",
    ),
    ("settings", "case environment error pair"),
    ("measure", "case counters environment error event limits pair path sample topology"),
    ("doctor", "case counters environment error event limits measure message pair path sample topology"),
    // What was measured is read and judged without a socket, a namespace or a counter.
    ("results", "case doctor::model environment error event format fragments sample"),
    ("sweep", "case counters error event fragments measure pair results sample"),
    ("tune", "case error event format results sample sweep"),
    ("ab", "case environment error format measure pair random results sample"),
    ("report", "case doctor::model environment error event format fragments results sample"),
    (
        "cli",
        "ab case counters doctor environment error event format fragments limits measure message pair random report results sample settings \
         sweep topology tune",
    ),
    // Reads any bytes as each of these does; only the tests and `fuzz/` use it.
    ("fuzzing", "case error pair path results sample settings"),
];

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

/// The top-level module that a file of `src` belongs to.
fn module(file: &Path) -> String {
    let inside = file.strip_prefix("src").expect("the file is in src");
    let first = inside.components().next().expect("it has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// What a text uses of the crate, as far as the path is written in lower case: `measure::environment`.
fn used(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let is_part_of_a_name =
            code[..start].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        // `pub(in crate::report)` says who sees a thing, and uses nothing.
        if is_part_of_a_name || code[..start].ends_with("pub(in ") {
            continue;
        }
        paths(&code[start + "crate::".len()..], "", &mut found);
    }
    found
}

/// Takes the paths at the start of `text`, which follows `prefix::`, braces and all.
fn paths(text: &str, prefix: &str, found: &mut Vec<String>) {
    if let Some(inside) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (index, letter) in inside.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let item = inside[start..index].trim();
                    if !item.is_empty() {
                        paths(item, prefix, found);
                    }
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
    // Types and functions end a path. The crate's own are those of `error`.
    if !name.starts_with(|letter: char| letter.is_lowercase()) {
        found.push(if prefix.is_empty() { "error".to_owned() } else { prefix.to_owned() });
        return;
    }
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match rest.strip_prefix("::") {
        Some(rest) if prefix.is_empty() => paths(rest, &path, found),
        _ => found.push(path),
    }
}

fn within(path: &str, allowed: &str) -> bool {
    path == allowed || path.strip_prefix(allowed).is_some_and(|rest| rest.starts_with("::"))
}

#[test]
fn the_table_itself_runs_one_way() {
    for (index, (name, uses)) in MAY_USE.iter().enumerate() {
        for used in uses.split_whitespace() {
            let top = used.split("::").next().unwrap();
            let above = MAY_USE[..index].iter().any(|(above, _)| *above == top);
            assert!(above, "{name} may use {used}, which does not stand above it");
        }
    }
}

#[test]
fn every_module_uses_what_it_may_and_nothing_else() {
    let allowed: BTreeMap<&str, &str> = MAY_USE.into_iter().collect();
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    assert!(files.len() > 40, "the sources are in src");
    let mut wrong = Vec::new();
    for file in &files {
        let user = module(file);
        if ["lib", "main"].contains(&user.as_str()) {
            continue;
        }
        let Some(may) = allowed.get(user.as_str()) else {
            wrong.push(format!("{}: module {user} is not in the table", file.display()));
            continue;
        };
        let text = fs::read_to_string(file).unwrap();
        // `super` must not lead out of the module, where the table would not see it. Tests, which stand further to the
        // right, have a level more.
        let levels = file.components().count() - 1 - usize::from(file.ends_with("mod.rs"));
        let out = format!("use {}", "super::".repeat(levels));
        wrong.extend(
            text.lines()
                .filter(|line| line.starts_with(&out))
                .map(|line| format!("{}: {line}: write it as crate::", file.display())),
        );
        for path in used(&text) {
            let allowed = || may.split_whitespace().any(|allowed| within(&path, allowed));
            if !within(&path, &user) && !allowed() {
                wrong.push(format!("{}: {user} must not use {path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_however_they_are_written() {
    let text = "
        use crate::case::{Case, Cell};
        use crate::{Error, measure::{burst::time, environment}};
        // crate::never
        let x = crate::topology::affinity::pin(1);
        pub(in crate::report) fn f() {}
        use sendpath_crate::other;
        use crate::{
            format,
            results::store::{self, Sweep},
        };
    ";
    assert_eq!(
        used(text),
        [
            "case",
            "case",
            "error",
            "measure::burst",
            "measure::environment",
            "topology::affinity",
            "format",
            "results::store"
        ]
    );
}
