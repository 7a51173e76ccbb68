//! Where everything in a picture goes.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{DrawnAxis, tick_label};
use super::canvas::{Canvas, Ink, PALETTE, Text, UNIT, at, ready_font, text_px, to_unit};
use super::{Look, drawable, escape};
use crate::error::{Error, Result};
use crate::report::page::{Figure, Line, Point};

/// What goes where, in design pixels.
pub(super) struct Drawing<'a> {
    figure: &'a Figure,
    pub(super) size: (f64, f64),
    em: f64,
    /// Radius of what answers to the pointer: 24 pixels across on the screen, or more.
    hit_px: f64,
    /// Those with something to draw.
    pub(super) lines: Vec<&'a Line>,
    /// None where there is nothing to draw.
    axes: Option<(DrawnAxis, DrawnAxis)>,
    /// Where each line's sample stands in the legend, its text following.
    legend: Vec<(f64, f64)>,
    /// Whether the legend stands beside the lines' ends.
    beside: bool,
    /// Whether intervals are bars, and each line stands a little beside the others: where bands
    /// would hide each other.
    bars: bool,
    /// The frame's words.
    texts: Vec<Text>,
}

/// Width of a legend's sample, with the gap before its text.
const SAMPLE_PX: f64 = 36.0;

impl<'a> Drawing<'a> {
    pub(super) fn new(figure: &'a Figure, look: Look) -> Result<Self> {
        if !ready_font() {
            let cause = "the built-in font cannot be read".to_owned();
            return Err(Error::Report { what: format!("drawing {}", figure.id), cause });
        }
        let narrow = look == Look::Narrow;
        // Letters on paper are 9 points high or more: the page is as wide as the paper there, with
        // its margins.
        let (width, plot_height, em, hit_px) = match look {
            Look::File => (860.0, 330.0, 14.0, 0.0),
            Look::Wide => (800.0, 300.0, 14.0, 10.5),
            Look::Narrow => (360.0, 250.0, 13.0, 13.5),
        };
        let lines: Vec<_> =
            figure.lines.iter().filter(|line| line.points.iter().any(|p| drawable(figure, p))).collect();
        let mut plan = Self {
            figure,
            size: (width, 0.0),
            em,
            hit_px,
            lines,
            axes: None,
            legend: Vec::new(),
            beside: false,
            bars: false,
            texts: Vec::new(),
        };
        let mut top = if look == Look::File { 12.0 } else { 2.0 };
        let edge = if look == Look::File { 16.0 } else { 1.0 };
        if look == Look::File {
            plan.paragraph(&figure.title, (edge, width - edge), &mut top, em * 1.15, Ink::Text, HPos::Left);
            top += em * 0.5;
        }
        if plan.lines.is_empty() {
            plan.say_why_empty(edge, top);
            return Ok(plan);
        }

        plan.bars = hide_each_other(&plan.lines);
        let points =
            || plan.lines.iter().flat_map(|line| &line.points).filter(|point| drawable(figure, point));
        let widest = plan.lines.iter().map(|line| text_px(&line.label, em)).fold(0.0, f64::max);
        plan.beside = !narrow && widest < width * 0.25 && plan.lines.len() as f64 * em * 1.5 < plot_height;
        let xs = ascending(points().map(|point| point.x));
        let ys: Vec<f64> = points()
            .flat_map(|point| {
                [point.y].into_iter().chain(point.interval.into_iter().flat_map(|(a, b)| [a, b]))
            })
            .collect();
        let measured_ys = ascending(points().map(|point| point.y));

        let mut y = DrawnAxis::new(&figure.y, &ys, &measured_ys, (plot_height, 0.0), |_| em * 1.7);
        let labels = y.ticks.iter().flat_map(|(_, label)| label);
        let left = edge + labels.map(|label| text_px(label, em)).fold(0.0, f64::max) + 10.0;
        let x_extent = |label: &str| text_px(label, em) + em;
        let last = xs.last().map_or(0.0, |value| x_extent(&tick_label(*value, &figure.x)) / 2.0);
        let right = width - edge - if plan.beside { widest + SAMPLE_PX + 16.0 } else { last };
        if !plan.beside {
            plan.legend_above(widest, (edge, width - edge), &mut top);
        }
        plan.paragraph(&figure.y.label, (edge, width - edge), &mut top, em, Ink::Muted, HPos::Left);
        top += em * 0.6;
        let bottom = top + plot_height;
        y.px = (bottom, top);
        let x = DrawnAxis::new(&figure.x, &xs, &xs, (left, right), x_extent);
        if plan.beside {
            plan.legend_beside(&x, &y);
        }
        plan.label_ticks(&x, &y);
        let mut below = bottom + em * 2.0;
        plan.paragraph(&figure.x.label, (left, right), &mut below, em, Ink::Muted, HPos::Center);
        plan.size.1 = (below + edge + 2.0).ceil();
        plan.axes = Some((x, y));
        Ok(plan)
    }

    /// How far a line stands beside where its points are.
    fn aside_px(&self, index: usize) -> f64 {
        if !self.bars {
            return 0.0;
        }
        (index as f64 - (self.lines.len() - 1) as f64 / 2.0) * self.em * 0.6
    }

    pub(super) fn backend_size(&self) -> (u32, u32) {
        (self.size.0 as u32 * UNIT, self.size.1 as u32 * UNIT)
    }

    /// Sets `text` between two edges, in as many lines as it takes, and moves `top` below it.
    fn paragraph(&mut self, text: &str, edges: (f64, f64), top: &mut f64, em: f64, ink: Ink, anchor: HPos) {
        let x = if matches!(anchor, HPos::Center) { f64::midpoint(edges.0, edges.1) } else { edges.0 };
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let line = lines.last_mut().expect("there is a line from the start");
            if line.is_empty() || text_px(&format!("{line} {word}"), em) <= edges.1 - edges.0 {
                *line += if line.is_empty() { "" } else { " " };
                *line += word;
            } else {
                lines.push(word.to_owned());
            }
        }
        for words in lines {
            self.texts.push(Text { words, at: (x, *top + em * 0.7), em, ink, anchor });
            *top += em * 1.4;
        }
    }

    fn say_why_empty(&mut self, edge: f64, mut top: f64) {
        let (em, edges) = (self.em, (edge + self.em * 2.0, self.size.0 - edge - self.em * 2.0));
        top += em * 3.0;
        self.paragraph("Nothing to draw", edges, &mut top, em * 1.1, Ink::Text, HPos::Center);
        for (what, reason) in &self.figure.missing {
            self.paragraph(&format!("{what}: {reason}"), edges, &mut top, em, Ink::Muted, HPos::Center);
        }
        self.size.1 = (top + em * 3.0).ceil();
    }

    fn legend_above(&mut self, widest: f64, (left, right): (f64, f64), top: &mut f64) {
        let step = (SAMPLE_PX + widest + self.em * 1.2).min(right - left);
        let columns = ((right - left) / step) as usize;
        for index in 0..self.lines.len() {
            let (row, column) = ((index / columns) as f64, (index % columns) as f64);
            self.legend.push((left + column * step, *top + self.em * (0.8 + 1.6 * row)));
        }
        *top += self.em * (0.6 + 1.6 * self.lines.len().div_ceil(columns) as f64);
    }

    /// Puts each entry as near to its line's end as the others let it.
    fn legend_beside(&mut self, x: &DrawnAxis, y: &DrawnAxis) {
        let gap = self.em * 1.5;
        let ends: Vec<f64> = self.lines.iter().map(|line| y.at(self.end(line).y)).collect();
        let mut order: Vec<usize> = (0..ends.len()).collect();
        order.sort_by(|a, b| ends[*a].total_cmp(&ends[*b]));
        self.legend = ends.iter().map(|end| (x.px.1 + 16.0, *end)).collect();
        // Down where they are too close; then all up again by half of what the tight ones were
        // pushed.
        let push_down = |legend: &mut [(f64, f64)], mut free: f64| {
            for &index in &order {
                free = legend[index].1.max(free + gap);
                legend[index].1 = free;
            }
        };
        push_down(&mut self.legend, f64::NEG_INFINITY);
        let mut limit = y.px.0;
        for &index in order.iter().rev() {
            let eager = f64::midpoint(self.legend[index].1, ends[index]);
            self.legend[index].1 = eager.min(limit);
            limit = self.legend[index].1 - gap;
        }
        push_down(&mut self.legend, y.px.1 - gap);
    }

    fn label_ticks(&mut self, x: &DrawnAxis, y: &DrawnAxis) {
        let em = self.em;
        let mut put = |label: &Option<String>, at, anchor| {
            if let Some(words) = label.clone() {
                self.texts.push(Text { words, at, em, ink: Ink::Muted, anchor });
            }
        };
        for (value, label) in &x.ticks {
            put(label, (x.at(*value), y.px.0 + em * 1.25), HPos::Center);
        }
        for (value, label) in &y.ticks {
            put(label, (x.px.0 - 8.0, y.at(*value)), HPos::Right);
        }
    }

    fn drawable_runs(&self, line: &'a Line) -> impl Iterator<Item = &'a [Point]> {
        let figure = self.figure;
        line.points.split(move |point| !drawable(figure, point)).filter(|run| !run.is_empty())
    }

    fn end(&self, line: &'a Line) -> &'a Point {
        self.drawable_runs(line).flatten().last().expect("lines without a drawable point are left out")
    }

    pub(super) fn draw_frame<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<()> {
        let (width, height) = self.size;
        canvas.polygon(&[(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)], Ink::Paper, 1.0)?;
        if let Some((x, y)) = &self.axes {
            for (value, label) in &y.ticks {
                let to = if label.is_some() { x.px.1 } else { x.px.0 + 4.0 };
                // Where values lie on both sides of nothing, it is the line to look for.
                let is_zero = *value == 0.0 && y.at(*value) < y.px.0 - 1.0;
                let ink = if is_zero || label.is_none() { Ink::Muted } else { Ink::Grid };
                canvas.line(&[(x.px.0, y.at(*value)), (to, y.at(*value))], ink, 1.0)?;
            }
            for (value, label) in &x.ticks {
                let length = if label.is_some() { 6.0 } else { 3.5 };
                let tick = x.at(*value);
                canvas.line(&[(tick, y.px.0), (tick, y.px.0 + length)], Ink::Muted, 1.0)?;
            }
            canvas.line(&[(x.px.0, y.px.0), (x.px.1, y.px.0)], Ink::Muted, 1.0)?;
        } else {
            let inset = 1.0;
            let (right, bottom) = (width - inset, height - inset);
            let frame = [(inset, inset), (right, inset), (right, bottom), (inset, bottom), (inset, inset)];
            canvas.line(&frame, Ink::Grid, 1.0)?;
        }
        self.texts.iter().try_for_each(|text| canvas.text(text))
    }

    pub(super) fn draw_line<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, index: usize) -> Result<()> {
        let (Some((x, y)), line) = (&self.axes, self.lines[index]) else { return Ok(()) };
        let style = line.style % PALETTE.len();
        let stroke = if line.dashed { Ink::Dashes(style) } else { Ink::Series(style) };
        let aside = self.aside_px(index);
        let place = |point: &Point| (x.at(point.x) + aside, y.at(point.y));
        for run in self.drawable_runs(line) {
            let interval = |p: &Point| p.interval.filter(|(low, high)| low.is_finite() && high.is_finite());
            let end = |p: &Point| interval(p).map(|(low, high)| (x.at(p.x) + aside, y.at(low), y.at(high)));
            let intervals: Vec<_> = run.iter().map(end).collect();
            for band in intervals.split(Option::is_none) {
                let band: Vec<_> = band.iter().copied().flatten().collect();
                if self.bars || band.len() == 1 {
                    for (x, low, high) in band {
                        canvas.line(&[(x, low), (x, high)], Ink::Series(style), 1.25)?;
                        for end in [low, high] {
                            canvas.line(&[(x - 3.0, end), (x + 3.0, end)], Ink::Series(style), 1.25)?;
                        }
                    }
                } else if !band.is_empty() {
                    let above = band.iter().map(|&(x, _, high)| (x, high));
                    let below = band.iter().rev().map(|&(x, low, _)| (x, low));
                    canvas.polygon(&above.chain(below).collect::<Vec<_>>(), Ink::Series(style), 0.2)?;
                }
            }
            if run.len() > 1 {
                canvas.line(&run.iter().map(place).collect::<Vec<_>>(), stroke, 2.0)?;
            }
        }
        for point in self.drawable_runs(line).flatten() {
            canvas.marker(place(point), style, line.dashed)?;
        }

        let (left, middle) = self.legend[index];
        let end = place(self.end(line));
        if self.beside && x.px.1 - end.0 < (x.px.1 - x.px.0) * 0.1 && (middle - end.1).abs() > 3.0 {
            canvas.line(&[(end.0 + 7.0, end.1), (left - 4.0, middle)], Ink::Grid, 1.0)?;
        }
        canvas.line(&[(left, middle), (left + SAMPLE_PX - 8.0, middle)], stroke, 2.0)?;
        canvas.marker((left + (SAMPLE_PX - 8.0) / 2.0, middle), style, line.dashed)?;
        let at = (left + SAMPLE_PX, middle);
        let words = shorten(&line.label, self.size.0 - at.0, self.em);
        canvas.text(&Text { words, at, em: self.em, ink: Ink::Text, anchor: HPos::Left })
    }

    /// Invisible discs over the points, large enough for a finger, which say the points' numbers. A
    /// picture's first is the one that Tab stops at; the page's script goes on from there.
    pub(super) fn hit_circles(&self, index: usize) -> String {
        let (Some((x, y)), line) = (&self.axes, self.lines[index]) else { return String::new() };
        let aside = self.aside_px(index);
        let circle = |(number, point): (usize, &Point)| {
            let ((cx, cy), radius) = (at(&(x.at(point.x) + aside, y.at(point.y))), to_unit(self.hit_px));
            let tab = if (index, number) == (0, 0) { 0 } else { -1 };
            let (label, text) = (escape(&line.label), escape(&point.text));
            format!(
                "<circle class=\"hit\" cx=\"{cx}\" cy=\"{cy}\" r=\"{radius}\" role=\"img\" tabindex=\"{tab}\">\
                 <title>{label}: {text}</title></circle>\n"
            )
        };
        self.drawable_runs(line).flatten().enumerate().map(circle).collect()
    }
}

/// Each number once.
fn ascending(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    numbers
}

/// Whether some two lines have intervals at one place that overlap.
fn hide_each_other(lines: &[&Line]) -> bool {
    let ends = |line: &Line| -> Vec<(f64, (f64, f64))> {
        line.points.iter().filter_map(|point| Some((point.x, point.interval?))).collect()
    };
    let overlap = |one: &Line, other: &Line| {
        let others = ends(other);
        ends(one).into_iter().any(|(x, (low, high))| {
            others
                .iter()
                .any(|(at, (below, above))| at.total_cmp(&x).is_eq() && low < *above && *below < high)
        })
    };
    lines.iter().enumerate().any(|(index, one)| lines[..index].iter().any(|other| overlap(one, other)))
}

/// `text`, or as much of it as there is room for.
fn shorten(text: &str, room_px: f64, em: f64) -> String {
    let fits = |text: &String| text_px(text, em) <= room_px;
    let shorter = |kept| text.chars().take(kept).chain(['…']).collect();
    let all = std::iter::once(text.to_owned());
    all.chain((0..text.chars().count()).rev().map(shorter)).find(fits).unwrap_or_default()
}
