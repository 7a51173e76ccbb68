//! The figures, as data: which arms stand in which, and why some do not.

use super::page::{Facets, Figure, Kind, Line, Point, Scale, StudyFigure};
use super::words::{self, Copied, Ways};
use crate::case::{Case, Cell, Placement, Receiver, Series, Workload};
use crate::event::Event;
use crate::format::{list, size};
use crate::in_order::{distinct, grouped};
use crate::results::analysis::{Analysis, ArmResult, CellResult, Measure};
use crate::results::decision::versus;
use crate::results::digest::Digest;
use crate::results::ladder::Ladder;
use crate::results::manifest::{Manifest, Plan};
use crate::results::metric::Metric;
use crate::sample::Side;

/// What a figure shows of an arm.
type Of<'a> = &'a dyn Fn(&ArmResult) -> Option<Measure>;

/// All figures of a sweep.
pub(super) fn figures(
    manifest: &Manifest,
    analysis: &Analysis,
    ladders: &[Ladder<'_>],
    ways: &Ways,
) -> Vec<Figure> {
    let series = &manifest.plan.series;
    let by_size = representative(ladders);
    let of_each = |(id, title, unit): Names<'_>, event: Option<Event>, of: Of<'_>| {
        let figure = |ladder: &&Ladder<'_>| {
            let mut figure = size_figure(series, ladder, ways, (id, title, unit), of);
            if let Some(event) = event {
                explain(&mut figure, manifest, ladder, event);
            }
            figure
        };
        by_size.iter().map(figure).collect::<Vec<_>>()
    };
    let counted = |event: Event| move |arm: &ArmResult| arm.counted.per_message(Side::Server, event);
    let misses = |event: Event, id: &str, title: &str| {
        of_each((id, title, "misses per message"), Some(event), &counted(event))
    };
    let cycles =
        |arm: &ArmResult| Some(counted(Event::Cycles)(arm)?.scaled(1.0 / arm.arm.case.payload_bytes as f64));
    // What differs comes first, of the sender alone: in Gb/s the lines lie on each other.
    let mut figures: Vec<Figure> =
        by_size.iter().filter_map(|ladder| against(series, ladder, ways)).collect();
    figures.sort_by_key(|figure| !figure.id.ends_with(ALONE));
    figures.extend(of_each(("fig1-throughput", "Throughput", "Gb/s"), None, &|arm| arm.throughput_gbps));
    figures.extend(latency(series, analysis, ways));
    figures.extend(misses(Event::L1dLoadMisses, "fig3a-l1d-misses", "L1d load misses of the server"));
    figures.extend(misses(Event::LlcLoadMisses, "fig3b-llc-misses", "LLC load misses of the server"));
    let names = ("fig4-cycles-per-byte", "CPU cycles of the server", "cycles per byte");
    figures.extend(of_each(names, Some(Event::Cycles), &cycles));
    figures.extend(by_size.iter().map(|ladder| {
        let alone = ladder.situation.receiver == Receiver::Sink;
        let title = if alone { "CPU time" } else { "CPU time of both sides" };
        let names = ("fig5-cpu-time-per-byte", title, "CPU ns per byte");
        size_figure(series, ladder, ways, names, &|arm| arm.cpu_ns_per_byte)
    }));
    // Why there is nothing to see is said in one line for all: see `not_drawn`.
    figures.retain(|figure| figure.lines.iter().any(|line| !line.points.is_empty()));
    figures
}

/// Which figures of counters there are not, and why, in a sentence.
pub(super) fn not_drawn(manifest: &Manifest, analysis: &Analysis) -> Option<String> {
    let events = [Event::L1dLoadMisses, Event::LlcLoadMisses, Event::Cycles];
    let is_counted =
        |event| analysis.arms().any(|arm| arm.counted.per_message(Side::Server, event).is_some());
    let reason = |event: &Event| {
        let reason = manifest.not_counted.get(&event.to_string()).map(String::as_str);
        let asked = manifest.events.contains(event);
        reason.unwrap_or(if asked {
            "no burst with counters was recorded"
        } else {
            "--counters did not name them"
        })
    };
    let missing = events.iter().filter(|event| !is_counted(**event));
    let reasons = grouped(missing.map(|event| (reason(event), event.unit().to_owned())));
    let parts: Vec<String> =
        reasons.into_iter().map(|(reason, events)| format!("{} ({reason})", list(&events))).collect();
    (!parts.is_empty()).then(|| format!("Not drawn, since they were not counted: {}.", parts.join("; ")))
}

/// The figures of a study whose cases were measured, by its numbers: see docs/book/src/studies.md.
pub(super) fn of_study(manifest: &Manifest, figures: &[Figure]) -> Vec<StudyFigure> {
    if !manifest.plan.profile.starts_with("study-") {
        return Vec::new();
    }
    let of = |(number, shows, is_of_counters): (&str, &str, bool)| {
        let found = |number: &str| -> Vec<String> {
            let (is_it, lead) = (format!("fig{number}-"), "fig1-against-");
            let ids = figures.iter().map(|figure| figure.id.clone());
            ids.filter(|id| id.starts_with(&is_it) && !id.starts_with(lead)).collect()
        };
        let own = found(number);
        let (ids, missing) = match own[..] {
            [] if is_of_counters => (found("5"), "not counted here (see question 2);"),
            [] => (own, "not measured"),
            _ => (own, ""),
        };
        StudyFigure { number: number.to_owned(), shows: shows.to_owned(), ids, missing: missing.to_owned() }
    };
    [
        ("1", "throughput by message size", false),
        ("2", "latency by number of threads", false),
        ("3a", "L1 cache misses by message size", true),
        ("3b", "LLC misses by message size", true),
        ("4", "CPU cycles per byte by message size", true),
    ]
    .map(of)
    .into()
}

/// What ends the id of a figure of the sender alone.
const ALONE: &str = "-sink";

/// The ladders that are drawn: of the first workload, placement, receiver and source, the one with
/// the fewest pairs and the one with the most; and the same of the sender alone, where it stands
/// beside a receiver. The others stand in the tables.
pub(super) fn representative<'a, 'b>(ladders: &'b [Ladder<'a>]) -> Vec<&'b Ladder<'a>> {
    let mut drawn = of_first(ladders.iter().collect());
    let is_alone = |ladder: &Ladder<'_>| ladder.situation.receiver == Receiver::Sink;
    if let Some(first) = ladders.first() {
        let other = ladders.iter().filter(|ladder| is_alone(ladder) != is_alone(first)).collect();
        drawn.extend(of_first(other));
    }
    drawn
}

/// Of the ladders in the first one's situation, the one with the fewest pairs and the one with the
/// most.
fn of_first<'a, 'b>(ladders: Vec<&'b Ladder<'a>>) -> Vec<&'b Ladder<'a>> {
    let Some(&first) = ladders.first() else { return Vec::new() };
    let most = ladders.iter().map(|ladder| ladder.cells.len()).max().unwrap_or(0).min(2);
    let alike: Vec<&Ladder<'_>> = ladders
        .into_iter()
        .filter(|ladder| ladder.situation == first.situation && ladder.cells.len() >= most)
        .collect();
    match alike[..] {
        [] => vec![first],
        [one] => vec![one],
        [one, .., last] => vec![one, last],
    }
}

/// What a figure is called, and its unit: id, title, unit.
type Names<'a> = (&'a str, &'a str, &'a str);

/// The id of a ladder's figure: `fig1-throughput-4T`, `fig1-throughput-1T-sink`.
fn figure_id(id: &str, ladder: &Ladder<'_>) -> String {
    let alone = if ladder.situation.receiver == Receiver::Sink { ALONE } else { "" };
    format!("{id}-{}T{alone}", ladder.threads)
}

fn size_figure(
    series: &[Series],
    ladder: &Ladder<'_>,
    ways: &Ways,
    (id, title, unit): Names<'_>,
    of: Of<'_>,
) -> Figure {
    let at = |arm: &ArmResult| {
        let at = arm.arm.case.payload_bytes as f64;
        (at, size(at))
    };
    let (lines, missing) = lines(series, |series| ladder.arms(series).collect(), of, unit, at);
    Figure {
        y: Scale::new(unit, true, Kind::Number),
        missing,
        ..by_size(
            (id, &format!("{title} by message size")),
            "Intervals (95 %) are over instances (new connections and buffers).",
            (ladder, ways),
            lines,
        )
    }
}

/// A figure of one ladder: its title and its caption say of which.
pub(super) fn by_size(
    (id, title): (&str, &str),
    caption: &str,
    (ladder, ways): (&Ladder<'_>, &Ways),
    lines: Vec<Line>,
) -> Figure {
    let metric = match id.get(..4) {
        Some("fig1" | "fig6") => "throughput",
        _ => "CPU",
    };
    Figure {
        id: figure_id(id, ladder),
        facets: words::facets(ladder.situation, Some(ladder.threads), metric),
        title: format!(
            "{title}, {}{}",
            words::connections(ladder.threads),
            ways.suffix(ladder.situation.receiver)
        ),
        caption: format!("{} {caption}", words::situation_sentence(ladder.situation)),
        x: Scale::new("message size", true, Kind::Bytes),
        y: Scale::new("", false, Kind::Number),
        lines,
        missing: Vec::new(),
    }
}

/// Throughput as a difference from the baseline's. On the scale of the figure before, the lines of
/// the paths cover each other.
fn against(series: &[Series], ladder: &Ladder<'_>, ways: &Ways) -> Option<Figure> {
    let (&baseline, others) = series.split_first().filter(|(_, others)| !others.is_empty())?;
    let line = |&one: &Series| {
        let points = ladder.cells.iter().filter_map(|cell| {
            let (ratio, _, comparison) = versus(cell, Metric::Throughput, one, baseline)?;
            let at = cell.cell.payload_bytes as f64;
            let text = format!("{}: {}", size(at), words::gain(ratio));
            Some(Point::new(at, ratio, text, words::comparison_row(comparison)))
        });
        series_line(one, Copied::of(ladder.arms(one)), series, points.collect())
    };
    let there: Vec<_> = others
        .iter()
        .map(|series| (series, ladder.arms(*series).count()))
        .filter(|(_, arms)| *arms > 0)
        .collect();
    let lines: Vec<Line> = there.iter().map(|(series, _)| line(series)).collect();
    let missing =
        lines.iter().zip(&there).filter(|(line, (_, arms))| line.points.len() < *arms).map(|(line, _)| {
            (line.label.clone(), "too few instances for an interval, or a case that failed".to_owned())
        });
    let missing = missing.collect();
    let id = format!("fig1-against-{}", words::id(&baseline.to_string()));
    let baseline = words::in_calls(baseline, Copied::of(ladder.arms(baseline)));
    let caption = format!(
        "Ratios are taken within a round, which removes the machine's drift. Intervals are those that the verdicts \
         are read off: as wide as the number of comparisons takes. Above 1× is faster than {baseline}. Path two_copy is pack+send, one_copy \
         is writev, zero_copy is MSG_ZEROCOPY."
    );
    let title = format!("Times as fast as {baseline} by size");
    Some(Figure {
        y: Scale::new("times the throughput", true, Kind::Ratio),
        missing,
        ..by_size((&id, &title), &caption, (ladder, ways), lines)
    })
}

/// Round trips by number of connections: the mean and the 99th percentile.
fn latency(series: &[Series], analysis: &Analysis, ways: &Ways) -> Vec<Figure> {
    let rr: Vec<_> = analysis.cells.iter().filter(|cell| cell.cell.workload == Workload::Rr).collect();
    let key = |cell: &CellResult| (cell.cell.payload_bytes, cell.cell.situation());
    // The size that was measured at most numbers of pairs; of those the one nearest to 64 KiB.
    // Of equals the last is taken: turned round, the first, which is what the other figures show.
    let Some(chosen) = rr.iter().rev().max_by_key(|cell| {
        let alike = |other: &&&CellResult| key(other) == key(cell);
        let distance = (cell.cell.payload_bytes as f64 / 65536.0).log2().abs();
        (rr.iter().filter(alike).count(), std::cmp::Reverse((distance * 16.0) as u64))
    }) else {
        return Vec::new();
    };
    let (payload_bytes, situation) = key(chosen);
    let arms = |series: Series| {
        let mut arms: Vec<&ArmResult> = rr
            .iter()
            .filter(|cell| key(cell) == (payload_bytes, situation))
            .flat_map(|cell| &cell.arms)
            .filter(|arm| arm.arm.case.series() == series && !arm.arm.control)
            .collect();
        arms.sort_by_key(|arm| arm.arm.case.threads);
        arms
    };
    let figure = |id: &str, title: &str, of: Of<'_>| {
        let at = |arm: &ArmResult| (arm.arm.case.threads as f64, words::connections(arm.arm.case.threads));
        let of = |arm: &ArmResult| Some(of(arm)?.scaled(1e-3));
        let (lines, missing) = lines(series, arms, &of, "µs", at);
        Figure {
            id: id.to_owned(),
            facets: words::facets(situation, None, "round trips"),
            title: format!(
                "{title} by number of connections, {} messages{}",
                size(payload_bytes as f64),
                ways.suffix(situation.receiver)
            ),
            caption: format!(
                "{} Intervals (95 %) are over instances. With more connections than CPUs a round trip includes \
                 waiting for the others.",
                words::situation_sentence(situation)
            ),
            x: Scale::new("connections", false, Kind::Count),
            y: Scale::new("µs", true, Kind::Number),
            lines,
            missing,
        }
    };
    vec![
        figure("fig2-latency-mean", "Mean round trip", &|arm| arm.rtt_mean_ns),
        figure("fig2-latency-p99", "99th percentile of round trips", &|arm| arm.rtt_quantiles_ns[2].1),
    ]
}

/// A line for each series that has arms, and of which lines something is missing, and why.
fn lines<'a>(
    all: &[Series],
    arms: impl Fn(Series) -> Vec<&'a ArmResult>,
    of: Of<'_>,
    unit: &str,
    x: impl Fn(&ArmResult) -> (f64, String),
) -> (Vec<Line>, Vec<(String, String)>) {
    let point = |arm: &&ArmResult| {
        let measure = of(arm).filter(|measure| measure.value > 0.0)?;
        let (at, name) = x(arm);
        let text = format!(
            "{name}: {} {unit}{}; {} instances, {} bursts",
            words::measure(measure),
            if measure.interval.is_some() { "" } else { " (no interval)" },
            arm.instances,
            arm.bursts
        );
        Some(Point::new(at, measure, text, words::case_row(arm.arm)))
    };
    let (mut lines, mut missing) = (Vec::new(), Vec::new());
    for &series in all {
        let arms = arms(series);
        if arms.is_empty() {
            continue;
        }
        let points: Vec<Point> = arms.iter().filter_map(point).collect();
        let is_whole = points.len() == arms.len() && !points.is_empty();
        let line = series_line(series, Copied::of(arms.iter().copied()), all, points);
        if !is_whole {
            let failed = arms.iter().find_map(|arm| arm.error.as_deref());
            let is_measured = |arm: &&ArmResult| arm.bursts > 0 || arm.counted.messages > 0;
            let reason = failed.unwrap_or(if arms.iter().any(is_measured) {
                "not measured, or too few round trips or counts for this number"
            } else {
                "no burst of this case was measured"
            });
            missing.push((line.label.clone(), reason.to_owned()));
        }
        lines.push(line);
    }
    (lines, missing)
}

/// Says of a figure of the server's counts why they are missing, or what they are worth.
fn explain(figure: &mut Figure, manifest: &Manifest, ladder: &Ladder<'_>, event: Event) {
    if ladder.situation.placement == Placement::Paired {
        figure.caption += " Both ends of a connection share a CPU, so do not rely on the split of the counts between server and \
                           client.";
    }
    if let Some(reason) = manifest.not_counted.get(&event.to_string()) {
        figure.missing = vec![(event.unit().to_owned(), reason.clone())];
    }
}

/// Every cell that some sweep measured, with every series.
pub(super) fn cells<'a>(sweeps: impl Iterator<Item = &'a Digest>) -> Vec<(Cell, Vec<Series>)> {
    let plans = sweeps.map(|sweep| &sweep.manifest.plan);
    let of_plan = |plan: &'a Plan| plan.cells.iter().map(|&cell| (cell, plan.series_of(cell)));
    let cells = grouped(plans.flat_map(of_plan)).into_iter();
    cells.map(|(cell, series)| (cell, distinct(series.into_iter().flatten()))).collect()
}

/// The throughput of one cell, by sweep or by machine: without an id and a caption.
pub(super) fn over_sweeps(
    cell: Cell,
    all: &[Series],
    sweeps: &[&Digest],
    (x, names): (&str, &[String]),
    points: impl Fn(&Case) -> Vec<Point>,
) -> Figure {
    let line = |&series: &Series| {
        let case = cell.case(series);
        let shares = sweeps.iter().filter_map(|sweep| sweep.case(&case)?.copied);
        series_line(series, Copied::of_shares(shares), all, points(&case))
    };
    Figure {
        id: String::new(),
        facets: Facets::default(),
        title: format!(
            "Throughput of {} messages, {} ({})",
            size(cell.payload_bytes as f64),
            words::connections(cell.threads),
            words::situation(cell.situation())
        ),
        caption: String::new(),
        x: Scale { names: names.to_vec(), ..Scale::new(x, false, Kind::Count) },
        y: Scale::new("Gb/s", false, Kind::Number),
        lines: all.iter().map(line).collect(),
        missing: Vec::new(),
    }
}

/// A series' line, with its name and its look.
fn series_line(series: Series, copied: Copied, among: &[Series], points: Vec<Point>) -> Line {
    let label = words::in_calls(series, copied);
    Line { label, style: words::style(series, among), dashed: words::is_dashed(series), points }
}
