//! `target-reports/index.html`: one door to all that was measured. The newest sweep's decision, the
//! stored sweeps, and Criterion's groups by what they are.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use super::html;
use super::page::Page;
use crate::error::Result;
use crate::results::store;

/// The folder that the programs write into, where nothing else is asked for.
pub const HOME: &str = "target-reports";

/// Writes the door of `home` and returns where it is. `known` is a page that is at hand, and its
/// sweep's folder; where that is not the newest sweep, the newest is analysed.
///
/// # Errors
/// What cannot be written. A folder that cannot be read is left out.
pub fn write_front(home: &Path, known: Option<(&Path, &Page)>) -> Result<PathBuf> {
    let sweeps = sweeps(home);
    let newest = sweeps.first().map(|sweep| home.join(&sweep.folder));
    let known = known.filter(|(folder, _)| newest.as_deref() == Some(folder)).map(|(_, page)| page);
    let read = || Some(super::page(&store::read(newest.as_deref()?).ok()?));
    let analysed = if known.is_none() { read() } else { None };
    let context = context! {
        page => known.or(analysed.as_ref()).map(Serde),
        root => home.display().to_string(),
        pictures => sweeps.first().map(|sweep| pictures(home, &sweep.folder)),
        history => home.join("history.html").is_file(),
        groups => Serde(groups(&home.join("criterion"))),
        sweeps => Serde(sweeps),
    };
    let path = home.join("index.html");
    store::replace(&path, html::set("front.html", context)?.as_bytes())?;
    Ok(path)
}

/// A sweep of the folder.
#[derive(Serialize)]
struct Stored {
    folder: String,
    started: String,
    host: String,
    processor: String,
    kernel: String,
    /// Whether its page lies in it.
    page: bool,
}

/// The sweeps, the newest first.
fn sweeps(home: &Path) -> Vec<Stored> {
    let mut sweeps: Vec<Stored> = folders(home)
        .into_iter()
        .filter_map(|folder| {
            let manifest = store::read_manifest(&home.join(&folder)).ok()?;
            let machine = manifest.environment.map(|environment| environment.machine);
            let (processor, kernel) =
                machine.map(|machine| (machine.cpu_model, machine.kernel)).unwrap_or_default();
            let page = home.join(&folder).join("report.html").is_file();
            Some(Stored { folder, started: manifest.started, host: manifest.host, processor, kernel, page })
        })
        .collect();
    sweeps.sort_by(|one, other| other.started.cmp(&one.started));
    sweeps
}

/// A sweep's figures that `sendpath report` has drawn: what each is called, and where it lies.
fn pictures(home: &Path, folder: &str) -> Vec<(String, String)> {
    let picture = |name: &String| {
        let title = name.strip_prefix("fig")?.strip_suffix(".svg")?.replace('-', " ");
        Some((format!("Figure {title}"), format!("{folder}/{name}")))
    };
    names(&home.join(folder)).iter().filter_map(picture).collect()
}

/// A chart of Criterion's.
#[derive(Serialize)]
struct Group {
    title: String,
    folder: String,
    /// Whether it has lines: of one place there are none.
    picture: bool,
}

fn groups(criterion: &Path) -> Vec<Group> {
    let is_drawn = |name: &String| criterion.join(name).join("report/index.html").is_file();
    let group = |name: String| {
        let picture = criterion.join(&name).join("report/lines.svg").is_file();
        Some(Group { title: in_words(&name)?, folder: format!("criterion/{name}"), picture })
    };
    folders(criterion).into_iter().filter(is_drawn).filter_map(group).collect()
}

/// What a group of Criterion's is, by its folder's name: `bw_04_sink` or `rtt_K064`; none of the
/// folders that Criterion makes for a case, or another program's.
fn in_words(name: &str) -> Option<String> {
    let mut parts = name.split('_');
    let metric = match parts.next()? {
        "bw" => "Throughput",
        "rtt" => "Round trip",
        "cyc" => "CPU cycles of the server",
        "l1d" => "L1d load misses of the server",
        "llc" => "LLC load misses of the server",
        "mis" => "Cache misses of the server",
        "clk" => "CPU time of the server",
        "tsc" => "Time stamp counter of the server",
        _ => return None,
    };
    let place = parts.next()?;
    let number = |digits: &str| digits.parse::<f64>().ok();
    let place = match place.split_at_checked(1)? {
        ("B", bytes) => format!("{}B messages, by connections", number(bytes)?),
        (unit @ ("K" | "M"), count) => format!("{}{unit} messages, by connections", number(count)?),
        _ if place == "01" => "one connection, by size".to_owned(),
        _ => format!("{} connections, by size", number(place)?),
    };
    let rest = parts.map(|part| match part {
        "sink" => "sender alone",
        "cold" => "data not in cache",
        "stream" => "back to back",
        other => other,
    });
    Some(
        [format!("{metric}: {place}")]
            .into_iter()
            .chain(rest.map(str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
    )
}

fn folders(parent: &Path) -> Vec<String> {
    let mut names = names(parent);
    names.retain(|name| parent.join(name).is_dir());
    names
}

/// The names in a folder in their order; none where it cannot be read.
fn names(parent: &Path) -> Vec<String> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_said_in_words() {
        for (name, words) in [
            ("bw_01", "Throughput: one connection, by size"),
            ("bw_04_stream_sink", "Throughput: 4 connections, by size, back to back, sender alone"),
            ("rtt_K064", "Round trip: 64K messages, by connections"),
            ("cyc_B064_header", "CPU cycles of the server: 64B messages, by connections, header"),
            ("bw_K001.5", "Throughput: 1.5K messages, by connections"),
        ] {
            assert_eq!(in_words(name).as_deref(), Some(words));
        }
        for name in ["report", "environments", "two_heap", "bw", "bw_", "bw_é", "bw_Kx"] {
            assert_eq!(in_words(name), None, "{name}");
        }
    }
}
