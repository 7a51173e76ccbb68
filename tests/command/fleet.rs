//! Many sweeps of many machines: which are called out of the ordinary, from which files, in what
//! memory.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{sendpath, stderr, whoever_runs_it};
use crate::generated::{self, Size};
use libtest_mimic::{Failed, Trial};
use nix::sys::resource::{Resource, setrlimit};
use sendpath::results::digest::Digest;
use sendpath::results::store;
use sendpath::sample::CopiedBound;
use serde_json::Value;

const SMALL: Size = Size { lives: 4, rounds: 2, bins: 8 };
/// The machine that is slower by a third.
const ODD: &str = "node-07";

pub fn trials() -> Vec<Trial> {
    vec![
        whoever_runs_it("the_odd_machine_is_marked_and_no_other", odd_machine),
        whoever_runs_it("few_machines_are_not_judged", few_machines),
        whoever_runs_it("a_summary_is_believed_where_it_is_of_these_samples", summaries),
        whoever_runs_it("a_copied_share_of_an_older_summary_is_a_bound", copied_shares),
        whoever_runs_it("the_page_has_a_line_for_each_machine", page),
        whoever_runs_it("two_kernels_in_turns_are_compared_in_two_lines_and_a_dot_for_each_case", kernels),
        whoever_runs_it("many_sweeps_take_little_memory", memory),
        whoever_runs_it("the_machine_bears_the_name_that_it_is_given", named),
    ]
}

fn compare(arguments: &[&str], folders: &[PathBuf]) -> Result<Output, Failed> {
    Ok(sendpath().arg("compare").args(arguments).args(folders).output()?)
}

/// Twelve machines with two sweeps each.
fn twelve(into: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut folders = Vec::new();
    for seed in 0..24 {
        let host = format!("node-{:02}", seed % 12);
        let slower = if host == ODD { 1.5 } else { 1.0 };
        folders.push(generated::sweep(into, &host, slower, seed, SMALL)?);
    }
    Ok(folders)
}

fn odd_machine() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let folders = twelve(into.path())?;
    let output = compare(&["--json"], &folders)?;
    assert!(output.status.success(), "{}", stderr(&output));
    let compared: Value = serde_json::from_slice(&output.stdout)?;
    let fleets = compared["fleets"].as_array().ok_or("no fleets")?;
    assert_eq!(fleets.len(), 1);
    assert_eq!(fleets[0]["machines"].as_array().map(Vec::len), Some(12));
    assert_eq!(fleets[0]["link"], "memory");
    let cases = fleets[0]["cases"].as_array().ok_or("no cases")?;
    let mut marked = 0;
    for machine in cases.iter().flat_map(|case| case["machines"].as_array().into_iter().flatten()) {
        if machine["marked"] == true {
            marked += 1;
            assert_eq!(machine["host"], ODD, "{machine}");
            let (low, high) = (machine["gain"]["low"].as_f64(), machine["gain"]["high"].as_f64());
            assert!(low < Some(1.0 / 1.5) && high < Some(1.0), "{machine}");
        }
    }
    assert!(marked >= 3, "{marked} of {} cases", cases.len());

    let text = compare(&[], &folders)?;
    let text = String::from_utf8(text.stdout)?;
    assert!(
        text.starts_with("12 machines, 24 sweeps, between network namespaces of each machine."),
        "{text}"
    );
    assert!(text.contains(&format!("{ODD} is out of the ordinary: rr/")), "{text}");
    assert_eq!(text.matches("is out of the ordinary").count(), marked, "{text}");

    assert_eq!(compare(&["--fail-on-regression"], &folders)?.status.code(), Some(1));
    assert_eq!(compare(&["--fail-on-regression", "--margin", "90%"], &folders)?.status.code(), Some(0));
    let ordinary: Vec<PathBuf> = folders
        .iter()
        .filter(|folder| !folder.ends_with(ODD) && !folder.to_string_lossy().ends_with(ODD))
        .cloned()
        .collect();
    assert_eq!(ordinary.len(), 22);
    let calm = compare(&["--fail-on-regression"], &ordinary)?;
    let text = String::from_utf8(calm.stdout)?;
    assert!(calm.status.success() && text.contains("no machine is out of the ordinary"), "{text}");
    Ok(())
}

fn few_machines() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let mut folders = Vec::new();
    for (seed, slower) in [(1, 1.0), (2, 1.0), (3, 2.0)] {
        folders.push(generated::sweep(into.path(), &format!("node-{seed}"), slower, seed, SMALL)?);
    }
    let output = compare(&["--fail-on-regression"], &folders)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}{}", stderr(&output));
    assert!(text.contains("takes 5"), "{text}");
    assert_eq!(compare(&[], &folders)?.status.code(), Some(0));
    // Two are compared with each other, as ever.
    let two = compare(&[], &folders[..2])?;
    let text = String::from_utf8_lossy(&two.stdout).into_owned();
    assert!(text.contains("\nNot interleaved: a change of the machine between the two"), "{text}");
    // One is none.
    assert_eq!(compare(&[], &folders[..1])?.status.code(), Some(2));
    folders.push(into.path().join("nowhere"));
    let missing = compare(&[], &folders)?;
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("nowhere"), "{}", stderr(&missing));
    Ok(())
}

fn summaries() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let folder = generated::sweep(into.path(), "node", 1.0, 1, SMALL)?;
    let (summary, samples) = (folder.join("summary.csv"), folder.join("samples.csv"));
    let of_samples = Digest::of(&store::read(&folder)?);
    let of_summary = Digest::read(&folder)?;
    assert_eq!(of_summary.cases.len(), of_samples.cases.len());
    assert!(!of_summary.cases.is_empty());
    for (one, other) in of_summary.cases.iter().zip(&of_samples.cases) {
        assert_eq!((one.case, one.instances), (other.case, other.instances));
        assert_eq!(one.measures.len(), other.measures.len());
        for ((metric, one), (_, other)) in one.measures.iter().zip(&other.measures) {
            // The summary has six digits.
            assert!((one.value / other.value - 1.0).abs() < 1e-5, "{metric}: {one:?} {other:?}");
            assert_eq!(one.interval.is_some(), other.interval.is_some());
        }
    }
    // A summary that says something else is believed, so that one can see which was read.
    let text = fs::read_to_string(&summary)?;
    let altered = text.replacen(&format!("{}", of_summary.cases[0].measures[0].1.value), "123456", 1);
    assert_ne!(text, altered);
    fs::write(&summary, &altered)?;
    let value = |digest: &Digest| digest.cases[0].measures[0].1.value;
    assert!((value(&Digest::read(&folder)?) - 123_456.0).abs() < 1e-9);
    // Not where rows were added since, nor where it cannot be read, nor where an earlier version
    // wrote it.
    let rows = fs::read_to_string(&samples)?;
    let last = rows.lines().last().ok_or("no rows")?;
    fs::write(&samples, format!("{rows}{last}\n"))?;
    assert!((value(&Digest::read(&folder)?) / value(&of_samples) - 1.0).abs() < 0.1);
    fs::write(&samples, &rows)?;
    for bad in
        [altered.replace("samples_bytes", "another"), altered.replace("two_copy", "no_copy"), String::new()]
    {
        fs::write(&summary, bad)?;
        assert_eq!(Digest::read(&folder)?, of_samples);
    }
    fs::remove_file(&summary)?;
    assert_eq!(Digest::read(&folder)?, of_samples);
    Ok(())
}

/// A summary from before there was a column that says so may be of a count or of a bound.
fn copied_shares() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    for name in ["environment.json", "samples.csv", "summary.csv"] {
        fs::copy(Path::new("tests/golden/sweep").join(name), into.path().join(name))?;
    }
    let summary = into.path().join("summary.csv");
    let text = fs::read_to_string(&summary)?.replace(",either,", ",exact,");
    for (text, expected) in [
        (text.clone(), CopiedBound::Exact),
        (text.replace("zero_copy_copied_is_bound", "another"), CopiedBound::Either),
    ] {
        fs::write(&summary, text)?;
        let digest = Digest::read(into.path())?;
        let mut bounds = digest.cases.iter().filter_map(|case| Some(case.copied?.bound)).peekable();
        assert!(bounds.peek().is_some());
        assert!(bounds.all(|bound| bound == expected), "{expected}");
    }
    Ok(())
}

fn page() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let folders = twelve(into.path())?;
    let digests: Vec<Digest> = folders.iter().map(|folder| Digest::read(folder)).collect::<Result<_, _>>()?;
    let page = sendpath::report::history(&digests, sendpath::report::By::Host);
    assert_eq!(crate::common::dangling(&page), [""; 0], "each claim's rows stand in the page");
    assert_eq!(page.headline, "12 machines, 24 sweeps: one is out of the ordinary.");
    assert_eq!((page.verdict.len(), page.cases.rows.len()), (1, 12));
    let claim = &page.verdict[0].text;
    assert!(
        claim.starts_with(ODD) && claim.contains('[') && claim.contains("in all that is recorded"),
        "{claim}"
    );
    let points = |figure: &sendpath::report::page::Figure| figure.lines[0].points.len();
    assert!(!page.figures.is_empty() && page.figures.iter().all(|figure| points(figure) == 12));
    assert!(page.comparisons.rows.iter().all(|row| row.cells[0].text == ODD));

    let html = into.path().join("fleet.html");
    let output = sendpath().args(["history", "--by", "host", "--out"]).arg(&html).args(&folders).output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let text = fs::read_to_string(&html)?;
    assert!(
        (0..12).all(|machine| text.contains(&format!("<td class=\"\">node-{machine:02}</td>"))),
        "a line for each"
    );
    Ok(())
}

/// Two kernels, booted in turns, three sweeps of each, of which the second is slower by a third.
fn kernels() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let mut folders = Vec::new();
    for seed in 0..6 {
        let (kernel, slower) = if seed % 2 == 0 { ("6.1.0", 1.0) } else { ("6.12.1", 1.5) };
        let folder = generated::sweep(into.path(), "server", slower, seed, SMALL)?;
        let path = folder.join("environment.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path)?)?;
        manifest["environment"]["kernel"] = kernel.into();
        fs::write(&path, serde_json::to_vec(&manifest)?)?;
        folders.push(folder);
    }
    let html = into.path().join("kernels.html");
    let output =
        sendpath().args(["history", "--by", "kernel", "--out"]).arg(&html).args(&folders).output()?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert!(output.status.success(), "{text}{}", stderr(&output));
    let digests: Vec<Digest> = folders.iter().map(|folder| Digest::read(folder)).collect::<Result<_, _>>()?;
    let page = sendpath::report::history(&digests, sendpath::report::By::Kernel);
    assert_eq!(page.dots.len(), 1, "{text} {:?}", page.warnings);
    let cases = page.dots[0].rows.len();
    let headline =
        format!("kernel 6.12.1 against 6.1.0: {cases} of {cases} cases slower, 0 faster, 0 undecided.");
    assert!(text.starts_with(&headline), "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("The largest change: rr/")), "{text}");
    let [dot, ..] = &page.dots[0].rows[..] else { return Err("no dots".into()) };
    assert!(dot.verdict == "slower" && dot.low + dot.width < 50.0, "{dot:?}");
    // The axis has the kernels' names.
    assert!(page.figures.iter().all(|figure| figure.x.names == ["6.1.0", "6.12.1"]));
    let page = fs::read_to_string(&html)?;
    assert!(page.contains(">6.12.1\n") || page.contains(">6.12.1<"), "no name on an axis");
    assert_eq!(page.matches("class=\"dot slower\"").count(), cases);

    // Of two sweeps each, nothing is said but that.
    let output =
        sendpath().args(["history", "--by", "kernel", "--out"]).arg(&html).args(&folders[..4]).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.starts_with("kernel 6.12.1 against 6.1.0: a comparison needs 3 sweeps of each."), "{text}");
    Ok(())
}

/// The bar for hundreds of sweeps is in `experiments/fleet.rs`. Here it is that the rows of all are
/// never in memory together.
fn memory() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let size = Size { lives: 8, rounds: 10, bins: 100 };
    let first = generated::sweep(into.path(), "node-00", 1.0, 0, size)?;
    let rows = fs::read(first.join("samples.csv"))?;
    let folders: Vec<PathBuf> = (1..120)
        .map(|seed| generated::sweep(into.path(), &format!("node-{seed:02}"), 1.0, seed, SMALL))
        .collect::<Result<_, _>>()?;
    for folder in &folders {
        // Rows without a summary have to be read.
        fs::write(folder.join("samples.csv"), &rows)?;
    }
    // As text the rows take less than in memory: who kept them all could not.
    let all_bytes = (rows.len() * folders.len()) as u64;
    let mut command = sendpath();
    command.arg("compare").args(&folders);
    let limit = move || setrlimit(Resource::RLIMIT_DATA, all_bytes, all_bytes).map_err(std::io::Error::from);
    // SAFETY: the call is async-signal-safe, and nothing else of the process is touched.
    unsafe { command.pre_exec(limit) };
    let output = command.output()?;
    assert!(output.status.success(), "within {all_bytes} bytes: {}", stderr(&output));
    Ok(())
}

fn named() -> Result<(), Failed> {
    let into = tempfile::tempdir()?;
    let folder = into.path().join("sweep");
    let output = sendpath()
        .args(["sweep", "--netns", "loopback", "--size", "64", "--threads", "1", "--time", "100ms", "--out"])
        .arg(&folder)
        .env("SENDPATH_HOST", "rack 3/node-7")
        .output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(store::read_manifest(&folder)?.host, "rack_3_node-7");
    Ok(())
}
