//! A page with everything in it that a report may have to show: for unit tests and for the browser.

use sendpath::report::page::{
    Claim, Column, DecisionMap, Dot, DotPlot, Entry, Facets, Figure, Kind, Line, Page, Point, Question,
    Scale, Section, Span, Square, Strip, Table, TableRow, Trust,
};

/// What a careless host name or path could bring in.
pub const HOSTILE: &str = "</script><script>alert('x')</script> \"<b>&amp;{{ 7 * 7 }} #010200";

const SIZES: [f64; 8] = [64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];
const PATHS: [&str; 3] = ["two_copy", "one_copy", "zero_copy"];

fn scale(label: &str, log: bool, kind: Kind) -> Scale {
    Scale::new(label, log, kind)
}

fn point(x: f64, y: f64, margin: Option<f64>, row: usize) -> Point {
    let interval = margin.map(|margin| (y * (1.0 - margin), y * (1.0 + margin)));
    let text = match interval {
        Some((low, high)) => format!("{y:.3} (95 %: {low:.3} to {high:.3}) at {x}"),
        None => format!("{y:.3} at {x}, no interval"),
    };
    Point { x, y, interval, text, row: format!("case-{row}") }
}

fn line(label: &str, style: usize, dashed: bool, points: Vec<Point>) -> Line {
    Line { label: label.to_owned(), style, dashed, points }
}

fn claim(text: &str, rows: usize) -> Claim {
    Claim { text: text.to_owned(), rows: (0..rows).map(|row| format!("case-{row}")).collect() }
}

/// Where a size stands between the smallest and the largest.
fn percent(bytes: f64) -> f64 {
    100.0 * (bytes / SIZES[0]).ln() / (SIZES[7] / SIZES[0]).ln()
}

/// Every kind of part, with a crossing whose place is not sure.
fn facets(receiver: &str) -> Facets {
    Facets {
        receiver: receiver.to_owned(),
        connections: "4".to_owned(),
        data: HOSTILE.to_owned(),
        metric: "throughput".to_owned(),
    }
}

fn strip(label: &str) -> Strip {
    let span = |from: f64, to: f64, kind: &str, style: Option<usize>, text: &str, begins: &str| Span {
        from: percent(from),
        width: percent(to) - percent(from),
        kind: kind.to_owned(),
        style,
        text: text.to_owned(),
        begins: begins.to_owned(),
        tip: format!("{text}, {from} to {to} bytes {HOSTILE}"),
    };
    Strip {
        facets: facets(label),
        label: label.to_owned(),
        note: "MSG_ZEROCOPY is copied here".to_owned(),
        text: "pack+send to 4K, then MSG_ZEROCOPY".to_owned(),
        spans: vec![
            span(SIZES[0], SIZES[2], "close", None, "pack+send ≈ writev", ""),
            span(SIZES[2], 12_000.0, "best", Some(0), "pack+send", "1K"),
            span(12_000.0, SIZES[5], "best", Some(1), "writev", "12K"),
            span(SIZES[5], SIZES[6], "open", None, "undecided", ""),
            span(SIZES[6], SIZES[7], "gap", None, "not measured", ""),
        ],
        unsure: vec![(percent(9_000.0), percent(15_000.0) - percent(9_000.0))],
    }
}

/// Throughput against size on logarithmic axes: four lines, one of them dashed, one with a gap in
/// its band.
fn throughput() -> Figure {
    let gbps = |path: usize, bytes: f64| {
        let (fixed_ns, ns_per_kib) = [(9_000.0, 85.0), (9_300.0, 60.0), (14_000.0, 66.0)][path];
        bytes * 8.0 / (fixed_ns + bytes / 1024.0 * ns_per_kib)
    };
    let all = |path: usize, factor: f64| {
        let margin = |index: usize| (index != 3).then_some(0.02 + 0.03 * (index % 3) as f64);
        let points = SIZES.iter().enumerate();
        points.map(|(i, &x)| point(x, gbps(path, x) * factor, margin(i), path * 8 + i)).collect()
    };
    let mut lines: Vec<_> = (0..3).map(|path| line(PATHS[path], path, false, all(path, 1.0))).collect();
    lines.push(line("zero_copy, page", 2, true, all(2, 0.8)));
    Figure {
        facets: facets("to a receiver"),
        id: "fig1-throughput".to_owned(),
        title: "Throughput by message size, 1 pair, rr, heap".to_owned(),
        caption: "Higher is better. Bands are 95 % intervals over instances; both axes are logarithmic."
            .to_owned(),
        x: scale("payload of one message", true, Kind::Bytes),
        y: scale("throughput in Gb/s", true, Kind::Number),
        lines,
        missing: vec![("two_copy, page".to_owned(), "was not part of this sweep".to_owned())],
    }
}

/// Tail latency against pairs: linear and far apart, eight lines with long names.
fn tail() -> Figure {
    let pairs = [1.0, 2.0, 4.0, 8.0, 12.0];
    let points = |path: usize, factor: f64| {
        let y = |x: f64| (21.0 + 7.5 * x + path as f64 * 3.0) * factor;
        pairs.iter().enumerate().map(|(i, &x)| point(x, y(x), Some(0.06), path * 8 + i)).collect()
    };
    let mut lines = Vec::new();
    for (path, name) in PATHS.iter().enumerate() {
        lines.push(line(&format!("{name}, rr, fields from malloc"), path, false, points(path, 1.0)));
        lines.push(line(&format!("{name}, rr, fields on pages"), path, true, points(path, 1.4)));
    }
    Figure {
        facets: facets("to a receiver"),
        id: "fig2-tail".to_owned(),
        title: "99th percentile of the round trip by number of pairs, 64 KiB".to_owned(),
        caption: "Lower is better. All pairs share two CPUs, so that waiting grows with their number."
            .to_owned(),
        x: scale("pairs", false, Kind::Count),
        y: scale("p99 of the round trip in µs", false, Kind::Number),
        lines,
        missing: Vec::new(),
    }
}

/// Ratios close to 1, on a logarithmic axis that spans no decade; a lone point; a value that no
/// axis can show.
fn ratio() -> Figure {
    let ratios = [0.962, 0.971, 0.984, 0.997, 1.013, 1.042, 1.071, 1.088];
    let points = SIZES.iter().zip(ratios).enumerate();
    let mut hostile: Vec<_> = points.map(|(i, (&x, y))| point(x, y, Some(0.008), i)).collect();
    hostile.push(point(4_194_304.0, 0.0, None, 8));
    Figure {
        facets: facets("to a receiver"),
        id: "fig3-ratio".to_owned(),
        title: format!("Throughput against two_copy {HOSTILE}"),
        caption: "Above 1, the path is faster than two_copy.".to_owned(),
        x: scale("payload of one message", true, Kind::Bytes),
        y: scale("ratio to two_copy", true, Kind::Number),
        lines: vec![
            line(HOSTILE, 1, false, hostile),
            line("zero_copy", 2, false, vec![point(65536.0, 0.88, Some(0.03), 21)]),
            line("never measured", 3, false, Vec::new()),
        ],
        missing: vec![("never measured".to_owned(), HOSTILE.to_owned())],
    }
}

/// Many decades.
fn cost() -> Figure {
    let cycles =
        |path: usize, bytes: f64| [12_000.0, 13_000.0, 21_000.0][path] / bytes + 0.31 - 0.05 * path as f64;
    let points = |path| {
        SIZES.iter().enumerate().map(|(i, &x)| point(x, cycles(path, x), Some(0.03), path * 8 + i)).collect()
    };
    Figure {
        facets: facets("to a receiver"),
        id: "fig4-cost".to_owned(),
        title: "Cycles per byte by message size, both sides together".to_owned(),
        caption: "Lower is better.".to_owned(),
        x: scale("payload of one message", true, Kind::Bytes),
        y: scale("cycles per byte of payload, server and client together", true, Kind::Number),
        lines: (0..3).map(|path| line(PATHS[path], path, false, points(path))).collect(),
        missing: Vec::new(),
    }
}

fn nothing() -> Figure {
    let reason = "the kernel does not count last-level cache misses in this virtual machine: \
                  perf_event_open(2) says ENOENT; run the sweep on the host, with kernel.perf_event_paranoid at 1";
    Figure {
        facets: facets("to a receiver"),
        id: "fig5-misses".to_owned(),
        title: "Last-level cache misses per KiB".to_owned(),
        caption: "Lower is better.".to_owned(),
        x: scale("payload of one message", true, Kind::Bytes),
        y: scale("misses per KiB", true, Kind::Number),
        lines: PATHS.iter().enumerate().map(|(path, name)| line(name, path, false, Vec::new())).collect(),
        missing: vec![("llc-load-misses".to_owned(), reason.to_owned())],
    }
}

fn map(title: &str) -> DecisionMap {
    let square = |row: usize, column: usize| match (row, column) {
        (0, 2) | (2, 3) => Square {
            text: String::new(),
            style: None,
            note: "blank: the control arm differs from itself by 1.9 % here".to_owned(),
            rows: Vec::new(),
        },
        (_, 4) => Square {
            text: "one_copy = zero_copy".to_owned(),
            style: None,
            note: "they differ by less than 0.5 %".to_owned(),
            rows: vec!["case-12".to_owned()],
        },
        _ => {
            let style = usize::from(column > 2);
            let note = format!("by {}.{row} %, 95 % [{column}.1, {}.7]", column + 2, column + 3);
            Square {
                text: PATHS[style].to_owned(),
                style: Some(style),
                note,
                rows: vec!["case-3".to_owned()],
            }
        }
    };
    let columns = ["64 B", "256 B", "1 KiB", "4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB"];
    DecisionMap {
        facets: facets("to a receiver"),
        title: title.to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: ["1 pair", "4 pairs", "12 pairs"]
            .iter()
            .enumerate()
            .map(|(row, head)| {
                ((*head).to_owned(), (0..columns.len()).map(|column| square(row, column)).collect())
            })
            .collect(),
    }
}

fn table(prefix: &str, rows: usize, names: &[&str]) -> Table {
    let columns = names.iter().enumerate().map(|(index, name)| Column {
        name: (*name).to_owned(),
        about: format!("{name}, as docs/book/src/format.md defines it."),
        numeric: index > 0,
    });
    let cell = |row: usize, column: usize| {
        if column == 0 {
            let text = format!("rr {} heap {} KiB x{}", PATHS[row % 3], 1 << (row % 11), 1 + row % 4);
            return Entry { text, ..Entry::default() };
        }
        if (row * 7 + column).is_multiple_of(13) {
            let note = Some("ENOENT: this machine has no such counter".to_owned());
            return Entry { note, ..Entry::default() };
        }
        let value =
            ((row * 7919 + column * 104_729) % 100_003) as f64 / [1.0, 10.0, 100.0, 1000.0][column % 4];
        let note =
            (row % 17 == 3 && column == 2).then(|| "extrapolated: the event shared its counter".to_owned());
        Entry { text: format!("{value:.2}"), value: Some(value), note }
    };
    Table {
        columns: columns.collect(),
        rows: (0..rows)
            .map(|row| TableRow {
                id: format!("{prefix}-{row}"),
                cells: (0..names.len()).map(|column| cell(row, column)).collect(),
            })
            .collect(),
    }
}

fn dots() -> DotPlot {
    DotPlot {
        title: format!("kernel 6.12 against 6.1 {HOSTILE}"),
        ticks: vec![(50.0, "1×".to_owned()), (95.0, "1.2×".to_owned())],
        rows: ["slower", "same", "undecided", "faster"]
            .into_iter()
            .zip(1..)
            .map(|(verdict, row)| Dot {
                label: format!("rr/zero_copy/page/65536B/{row}T/paired {HOSTILE}"),
                at: 20.0 * f64::from(row),
                low: 20.0 * f64::from(row) - 10.0,
                width: 15.0,
                verdict: verdict.to_owned(),
                text: "+3.10 % [+1.20 %, +5.10 %]".to_owned(),
            })
            .collect(),
    }
}

/// The page.
pub fn page() -> Page {
    let question = |text: &str, answered, answer: &str| Question {
        text: text.to_owned(),
        answered,
        answer: vec![claim(answer, 2)],
    };
    let numbers = [
        "case",
        "throughput in Gb/s",
        "from",
        "to",
        "p50 in µs",
        "p99 in µs",
        "p99.9 in µs",
        "cycles per byte",
        "LLC misses per KiB",
        "context switches per message",
        "copied share in %",
        "ENOBUFS",
    ];
    let compared =
        ["comparison", "size", "pairs", "path", "against", "difference", "from", "to", "verdict", "p"];
    Page {
        title: "sendpath quick sweep: veth, 2 CPUs, Linux 6.12, 2026-11-20 13:00 UTC".to_owned(),
        commands: vec!["sendpath sweep --profile quick".to_owned(), format!("sendpath report {HOSTILE}")],
        headline: "On this machine, use two_copy below 16 KiB and one_copy above; zero_copy never pays."
            .to_owned(),
        decisions: Vec::new(),
        terminal: String::new(),
        strips: vec![strip("sender alone"), strip("to a receiver, 4 connections")],
        strip_ticks: SIZES.iter().map(|&size| (percent(size), format!("{size}B"))).collect(),
        trust: Some(Trust {
            mark: "limited".to_owned(),
            text: format!("sure: 3 of 4 comparisons; {HOSTILE}"),
        }),
        dots: vec![dots()],
        verdict: vec![
            claim(
                "One_copy is faster than two_copy from 16 KiB on: by 4.2 % at 64 KiB (95 %: 3.6 to 4.8 %).",
                2,
            ),
            claim(
                "MSG_ZEROCOPY was copied in 100 % of sends, so that it costs the bookkeeping and spares nothing.",
                7,
            ),
            claim("Below 4 KiB, packing beats walking iovecs by 1.6 to 3.8 %.", 4),
        ],
        warnings: vec![
            "Two cases failed, and are rows with their error.".to_owned(),
            "Six of 48 comparisons stay noisier than 1 %: the control arm moved.".to_owned(),
        ],
        figures: vec![throughput(), tail(), ratio(), cost(), nothing()],
        not_drawn: Some(format!("Not drawn, since they were not counted: cycles ({HOSTILE}).")),
        maps: vec![map("By throughput"), map("By p99 round trip")],
        cost_model: Section {
            method:
                "A line through the medians of time per message against size, by least squares on ratios; \
                     intervals by bootstrap over instances."
                    .to_owned(),
            table: table("model", 3, &["path", "fixed in ns", "from", "to", "per KiB in ns", "from", "to"]),
            claims: vec![claim("one_copy overtakes two_copy at 12.4 KiB (95 %: 9.8 to 15.1 KiB).", 3)],
        },
        copy_ledger: Section {
            method: "What the paths counted and the completions said, per byte of payload.".to_owned(),
            table: table(
                "ledger",
                3,
                &["path", "user to user", "user to kernel", "deferred", "kernel to user"],
            ),
            claims: Vec::new(),
        },
        study_figures: Vec::new(),
        questions: vec![
            question(
                "Why does one_copy win for large messages?",
                true,
                "It copies each byte once less on the sending side.",
            ),
            question(
                "At which size does zero_copy win?",
                false,
                "No size up to 1 MiB: every send was copied over veth.",
            ),
            question(HOSTILE, true, HOSTILE),
        ],
        cases: table("case", 100, &numbers),
        comparisons: table("comparison", 48, &compared),
        environment: vec![
            ("kernel".to_owned(), "Linux 6.12.48-amd64".to_owned()),
            ("cpu".to_owned(), "Some Vendor Server Processor at 2.6 GHz, 2 CPUs, 1 socket".to_owned()),
            ("host".to_owned(), HOSTILE.to_owned()),
            ("long".to_owned(), "x".repeat(300)),
        ],
        limits: vec![
            "Over veth there is no wire: what a network card does is not in these numbers.".to_owned(),
            "Intervals say what repeating on this machine would give, not what another machine would."
                .to_owned(),
        ],
    }
}
