//! What Criterion's baselines do not remember: where they were measured. Kept beside them, a file
//! for each name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sendpath::environment::Environment;

/// By metric: one bench saves some, another the others.
type Remembered = BTreeMap<String, Environment>;

/// Remembers the surroundings with `--save-baseline NAME`; with `--baseline NAME` says in a line
/// what differs.
pub fn record_or_check(metric: &str, environment: &Environment, arguments: &[String]) {
    let home =
        std::env::var_os("CRITERION_HOME").map_or_else(|| PathBuf::from("target/criterion"), PathBuf::from);
    if let Some(name) = value(arguments, &["--save-baseline", "-s"]) {
        if let Err(error) = save(&file(&home, name), metric, environment) {
            eprintln!("sendpath: where baseline {name} was measured could not be written down: {error}");
        }
    } else if let Some(name) = value(arguments, &["--baseline", "-b", "--baseline-lenient"])
        && let Some(line) = warning(&file(&home, name), name, metric, environment)
    {
        eprintln!("sendpath: {line}");
    }
}

fn file(home: &Path, name: &str) -> PathBuf {
    home.join("environments").join(format!("{name}.json"))
}

fn value<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(index, argument)| match argument.split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value),
        None if names.contains(&argument.as_str()) => arguments.get(index + 1).map(String::as_str),
        _ => None,
    })
}

fn read(file: &Path) -> Option<Remembered> {
    serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
}

fn save(file: &Path, metric: &str, environment: &Environment) -> std::io::Result<()> {
    let mut remembered = read(file).unwrap_or_default();
    remembered.insert(metric.to_owned(), environment.clone());
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    fs::write(file, serde_json::to_string_pretty(&remembered)?)
}

/// What makes the comparison one of two things.
fn warning(file: &Path, name: &str, metric: &str, now: &Environment) -> Option<String> {
    let Some(remembered) = read(file) else {
        return Some(format!(
            "where baseline {name} was measured is not known: it may have been another machine"
        ));
    };
    let Some(then) = remembered.get(metric) else {
        let metrics: Vec<&str> = remembered.keys().map(String::as_str).collect();
        return Some(format!(
            "baseline {name} has no {metric}, but {}: another event is not compared",
            metrics.join(", ")
        ));
    };
    let differences = then.differences(now);
    (!differences.is_empty()).then(|| {
        format!(
            "baseline {name} was measured elsewhere, and the change is not the code's alone: {}",
            differences.join("; ")
        )
    })
}
