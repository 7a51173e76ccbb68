//! Figures as pictures: SVG for the page and for papers, PNG for slides, all by the same strokes.
//!
//! A [`Drawing`] decides what goes where, in design pixels; a [`Canvas`] draws it through one of
//! plotters' backends. In SVG, colours are written as sentinels and then replaced by CSS variables
//! or by colours.

mod axis;
mod canvas;
mod plan;

use std::path::Path;

use plotters::prelude::*;

use self::canvas::{Canvas, Ink, hex};
use self::plan::Drawing;
use super::page::{Figure, Point, Scale};
use crate::error::{Error, Result};

pub(super) use self::canvas::PALETTE;
pub use self::canvas::ready_font;

/// Where a picture is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Alone, in a file: with its title, on white.
    File,
    /// In the page, in its colours and with points that answer to the pointer.
    Wide,
    /// In the page on a phone.
    Narrow,
}

/// Draws `figure` as an SVG document, or as an `svg` element for the page.
///
/// # Errors
///
/// Where plotters has no font to measure text with.
pub fn svg(figure: &Figure, look: Look) -> Result<String> {
    let plan = Drawing::new(figure, look)?;
    let size = plan.backend_size();
    let class = match look {
        Look::File => format!("width=\"{}\" height=\"{}\" role=\"img\"", plan.size.0, plan.size.1),
        Look::Wide => "class=\"wide\" width=\"100%\" role=\"group\"".to_owned(),
        Look::Narrow => "class=\"narrow\" width=\"100%\" role=\"group\"".to_owned(),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" {class} aria-label=\"{}\" \
         stroke-linejoin=\"round\">\n",
        size.0,
        size.1,
        escape(&figure.title)
    );
    let layer = |draw: &dyn Fn(&Canvas<SVGBackend>) -> Result<()>| {
        let mut layer = String::new();
        let canvas = Canvas::new(SVGBackend::with_string(&mut layer, size), &figure.id, true);
        draw(&canvas)?;
        canvas.present()?;
        drop(canvas);
        let body = layer.split_once('\n').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
        Ok::<_, Error>(body.map_or_else(String::new, |(body, _)| body.replace(" opacity=\"1\"", "")))
    };
    svg += &layer(&|canvas| plan.draw_frame(canvas))?;
    for (index, line) in plan.lines.iter().enumerate() {
        svg += "<g data-series=\"";
        svg += &escape(&line.label);
        svg += "\">\n";
        svg += &layer(&|canvas| plan.draw_line(canvas, index))?;
        if look != Look::File {
            svg += &plan.hit_circles(index);
        }
        svg += "</g>\n";
    }
    for ink in Ink::all() {
        svg = svg.replace(&format!("\"{}\"", hex(ink.sentinel())), &ink.in_svg(look));
    }
    Ok(svg + "</svg>\n")
}

/// Draws `figure` into a PNG file at `path`, which has to end in `.png`.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn png(figure: &Figure, path: &Path) -> Result<()> {
    let plan = Drawing::new(figure, Look::File)?;
    let (width, height) = plan.backend_size();
    let mut fine = vec![0xFF; width as usize * height as usize * 3];
    let canvas = Canvas::new(BitMapBackend::with_buffer(&mut fine, (width, height)), &figure.id, false);
    plan.draw_frame(&canvas)?;
    for index in 0..plan.lines.len() {
        plan.draw_line(&canvas, index)?;
    }
    canvas.present()?;
    drop(canvas);

    // Plotters smooths thin lines alone: four pixels become one.
    let (half_width, half_height, stride) = (width / 2, height / 2, width as usize * 3);
    let mut smooth = Vec::with_capacity(fine.len() / 4);
    for y in 0..half_height as usize {
        for x in 0..half_width as usize {
            for byte in 0..3 {
                let at = y * 2 * stride + x * 6 + byte;
                let sum: u32 =
                    [at, at + 3, at + stride, at + stride + 3].map(|at| fine[at].into()).iter().sum();
                smooth.push((sum / 4) as u8);
            }
        }
    }
    let size = (half_width, half_height);
    let name = path.display().to_string();
    let canvas = Canvas::new(BitMapBackend::new(path, size), &name, false);
    if let Some(picture) = BitMapElement::with_ref((0, 0), size, &smooth) {
        canvas.draw(&picture)?;
    }
    canvas.present()
}

/// How many points of `figure` no axis can show: not finite, or not above 0 on a logarithmic one.
pub(super) fn left_out(figure: &Figure) -> usize {
    figure.lines.iter().flat_map(|line| &line.points).filter(|point| !drawable(figure, point)).count()
}

fn drawable(figure: &Figure, point: &Point) -> bool {
    let fits = |scale: &Scale, value: f64| value.is_finite() && (!scale.log || value > 0.0);
    fits(&figure.x, point.x) && fits(&figure.y, point.y)
}

fn escape(text: &str) -> String {
    minijinja::HtmlEscape(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(start).skip(1).filter_map(move |rest| rest.split_once(end)).map(|(inside, _)| inside)
    }

    #[test]
    fn every_line_with_a_point_is_a_series_with_as_many_points_and_no_more() {
        for (figure, look) in
            fixture::page().figures.iter().flat_map(|figure| [(figure, Look::Wide), (figure, Look::Narrow)])
        {
            let svg = svg(figure, look).unwrap();
            let mut series = between(&svg, "<g data-series=\"", "</g>");
            for line in &figure.lines {
                let points: Vec<_> = line.points.iter().filter(|point| drawable(figure, point)).collect();
                if points.is_empty() {
                    continue;
                }
                let group = series.next().unwrap();
                assert!(group.starts_with(&format!("{}\"", escape(&line.label))), "{group}");
                let texts: Vec<_> = between(group, "<title>", "</title>").collect();
                let wanted: Vec<_> =
                    points.iter().map(|p| escape(&format!("{}: {}", line.label, p.text))).collect();
                assert_eq!(texts, wanted);
                let xs: Vec<i32> =
                    between(group, "\"hit\" cx=\"", "\"").filter_map(|x| x.parse().ok()).collect();
                assert!(xs.is_sorted_by(|a, b| a < b), "{xs:?}");
                let colour = format!("fill=\"var(--s{})\"", line.style);
                let band = format!("opacity=\"0.2\" {colour}");
                let markers = group.matches(&colour).count() - group.matches(&band).count();
                assert_eq!(markers, points.len() + 1, "with the legend's: {group}");
            }
            assert_eq!(series.next(), None, "{}", figure.id);
        }
    }

    #[test]
    fn without_data_there_is_a_frame_and_a_reason() {
        let page = fixture::page();
        let figure = page.figures.last().unwrap();
        assert!(figure.lines.iter().all(|line| line.points.is_empty()));
        for look in [Look::File, Look::Wide, Look::Narrow] {
            let svg = svg(figure, look).unwrap();
            assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (1, 0), "{svg}");
            assert!(!svg.contains("data-series"));
            let words: String =
                between(&svg, "<text", "</text>").filter_map(|t| t.split_once(">\n")).map(|t| t.1).collect();
            for word in figure.missing[0].1.split_whitespace() {
                assert!(words.contains(word), "{word}: {words}");
            }
        }
    }

    #[test]
    fn no_interval_no_band() {
        let mut figure = fixture::page().figures.swap_remove(0);
        let bands = |figure: &Figure| svg(figure, Look::File).unwrap().matches("opacity=\"0.2\"").count();
        assert_eq!(bands(&figure), 0, "they overlap, and so are bars");
        for (line, factor) in figure.lines.iter_mut().zip([1.0, 10.0, 100.0, 1000.0]) {
            for point in &mut line.points {
                point.y *= factor;
                point.interval = point.interval.map(|(low, high)| (low * factor, high * factor));
            }
        }
        assert_eq!(bands(&figure), 8, "each line has a point without an interval in its midst");
        let points = figure.lines.iter_mut().flat_map(|line| &mut line.points);
        points.for_each(|point| point.interval = None);
        assert_eq!(bands(&figure), 0);
    }

    #[test]
    fn where_bands_would_hide_each_other_lines_stand_side_by_side() {
        let figure = &fixture::page().figures[0];
        let svg = svg(figure, Look::Wide).unwrap();
        let mut firsts: Vec<i32> = between(&svg, "<g data-series=\"", "</g>")
            .filter_map(|group| between(group, "\"hit\" cx=\"", "\"").next()?.parse().ok())
            .collect();
        let all = firsts.len();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), all, "{firsts:?}");
    }

    #[test]
    fn sentinels_do_not_outlive_the_drawing() {
        for figure in fixture::page().figures {
            for look in [Look::File, Look::Wide, Look::Narrow] {
                assert!(!svg(&figure, look).unwrap().contains("\"#0102"));
            }
            assert!(!svg(&figure, Look::File).unwrap().contains("var("));
        }
    }

    #[test]
    fn what_no_axis_can_show_is_counted() {
        let page = fixture::page();
        assert_eq!(page.figures.iter().map(left_out).collect::<Vec<_>>(), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_png_is_one_and_a_missing_folder_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("figure.png");
        let figure = &fixture::page().figures[0];
        png(figure, &file).unwrap();
        assert!(std::fs::read(&file).unwrap().starts_with(b"\x89PNG"));
        let nowhere = folder.path().join("none/figure.png");
        let error = png(figure, &nowhere).unwrap_err().to_string();
        assert!(error.contains("none/figure.png"), "{error}");
    }
}
