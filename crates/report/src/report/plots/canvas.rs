//! Strokes, markers and words in design pixels, on any of plotters' backends.

use std::sync::LazyLock;

use plotters::coord::Shift;
use plotters::element::{DashedPathElement, Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Look;
use crate::error::{Error, Result};

/// Okabe and Ito's colours without black and yellow, on light paper and on dark: told apart by
/// colour-blind readers as well (<https://jfly.uni-koeln.de/color/>). There are no more than these
/// six that all readers tell apart, so those that follow differ from them and from each other by
/// their markers as well.
pub(in crate::report) const PALETTE: [[u32; 2]; 14] = [
    [0x00_72B2, 0x3F_A7E5],
    [0xD5_5E00, 0xF0_7A3C],
    [0x00_9E73, 0x2B_BF95],
    [0xCC_79A7, 0xE2_9BC3],
    [0xE6_9F00, 0xF2_B53A],
    [0x56_B4E9, 0xA6_DBFA],
    [0x7B_3294, 0xB9_86DE],
    [0x8C_510A, 0xC8_8F52],
    [0xB2_182B, 0xF2_7080],
    [0x01_665E, 0x58_C4B8],
    [0x6E_6E6E, 0xB4_B4B4],
    [0x80_8000, 0xC9_C94A],
    [0x1F_3A93, 0x8F_A2F4],
    [0xE7_298A, 0xFF_80BC],
];

/// Outlines of the markers, by style, in units of their radius: corners, and how often they come
/// again, each time a quarter further round. The first is a circle.
const MARKERS: [(u32, &[(f64, f64)]); 14] = [
    (0, &[]),
    (4, &[(-0.9, -0.9)]),
    (1, &[(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)]),
    (4, &[(0.0, -1.3)]),
    (1, &[(0.0, 1.25), (1.15, -0.85), (-1.15, -0.85)]),
    (1, &[(-1.2, -0.8), (1.2, -0.8), (1.2, 0.8), (-1.2, 0.8)]),
    (1, &[(0.0, -1.25), (1.19, -0.39), (0.73, 1.0), (-0.73, 1.0), (-1.19, -0.39)]),
    (1, &[(-1.25, 0.0), (0.85, -1.15), (0.85, 1.15)]),
    (1, &[(1.25, 0.0), (-0.85, -1.15), (-0.85, 1.15)]),
    (1, &[(-0.7, -1.25), (0.7, -1.25), (0.7, 1.25), (-0.7, 1.25)]),
    (4, &[(0.0, -1.5), (0.4, -0.4)]),
    (1, &[(0.0, -1.25), (1.1, -0.62), (1.1, 0.62), (0.0, 1.25), (-1.1, 0.62), (-1.1, -0.62)]),
    (4, &[(-0.45, -1.3), (0.45, -1.3), (0.45, -0.45)]),
    (4, &[(-1.2, -0.6), (-0.6, -1.2), (0.0, -0.6)]),
];

const FONT: &str = "sans-serif";
/// Under the licence beside it.
const UBUNTU_LIGHT: &[u8] = include_bytes!("../../../fonts/Ubuntu-Light.ttf");
const MARKER_PX: f64 = 4.2;
const DASH_PX: [f64; 2] = [7.0, 4.5];
/// Backends count in whole pixels: this many make a design pixel, so that nothing jumps to a grid.
pub(super) const UNIT: u32 = 4;

/// Plotters asks for the font by name wherever it measures or draws text.
static FONT_READY: LazyLock<bool> = LazyLock::new(|| {
    // Criterion, which draws with the same plotters, asks for other styles too.
    let styles = [FontStyle::Normal, FontStyle::Bold, FontStyle::Italic, FontStyle::Oblique];
    styles.into_iter().all(|style| register_font(FONT, style, UBUNTU_LIGHT).is_ok())
});

/// Makes the font known to plotters, which has none of its own: whoever draws with it in the same
/// program, as Criterion does in the benches, has to call this first. False if the font is none.
pub fn ready_font() -> bool {
    *FONT_READY
}

/// What is drawn with, whatever its colour turns out to be.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Text,
    Muted,
    Grid,
    Paper,
    Series(usize),
    /// As the series' colour, but dashed.
    Dashes(usize),
}

impl Ink {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let series = (0..PALETTE.len()).flat_map(|style| [Self::Series(style), Self::Dashes(style)]);
        [Self::Text, Self::Muted, Self::Grid, Self::Paper].into_iter().chain(series)
    }

    pub(super) fn sentinel(self) -> RGBColor {
        let code = match self {
            Self::Text => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Paper => 3,
            Self::Series(style) => 0x10 + style as u8,
            Self::Dashes(style) => 0x20 + style as u8,
        };
        RGBColor(1, 2, code)
    }

    fn on_white(self) -> RGBColor {
        let rgb = match self {
            Self::Text => 0x1C_1C1A,
            Self::Muted => 0x5C_5B57,
            Self::Grid => 0xE2_E0DA,
            Self::Paper => 0xFF_FFFF,
            Self::Series(style) | Self::Dashes(style) => PALETTE[style][0],
        };
        RGBColor((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8)
    }

    pub(super) fn in_svg(self, look: Look) -> String {
        let colour = match (look, self) {
            (Look::File, _) => hex(self.on_white()),
            (_, Self::Text) => "currentColor".to_owned(),
            (_, Self::Muted) => "var(--muted)".to_owned(),
            (_, Self::Grid) => "var(--grid)".to_owned(),
            (_, Self::Paper) => "var(--paper)".to_owned(),
            (_, Self::Series(style) | Self::Dashes(style)) => format!("var(--s{style})"),
        };
        match self {
            Self::Dashes(_) => {
                let [dash, gap] = DASH_PX.map(|px| px * f64::from(UNIT));
                format!("\"{colour}\" stroke-dasharray=\"{dash} {gap}\"")
            }
            _ => format!("\"{colour}\""),
        }
    }
}

/// One of plotters' drawing areas, in design pixels and inks.
pub(super) struct Canvas<'a, DB: DrawingBackend> {
    pub(super) area: DrawingArea<DB, Shift>,
    what: &'a str,
    /// Whether sentinels are replaced afterwards.
    vector: bool,
}

impl<'a, DB: DrawingBackend> Canvas<'a, DB> {
    pub(super) fn new(backend: DB, what: &'a str, vector: bool) -> Self {
        Self { area: backend.into_drawing_area(), what, vector }
    }

    pub(super) fn failed(&self, error: &DrawingAreaErrorKind<DB::ErrorType>) -> Error {
        Error::Report { what: format!("drawing {}", self.what), cause: error.to_string() }
    }

    pub(super) fn draw<E>(&self, element: &E) -> Result<()>
    where
        for<'b> &'b E: PointCollection<'b, (i32, i32)>,
        E: Drawable<DB>,
    {
        self.area.draw(element).map_err(|error| self.failed(&error))
    }

    pub(super) fn present(&self) -> Result<()> {
        self.area.present().map_err(|error| self.failed(&error))
    }

    fn colour(&self, ink: Ink) -> RGBColor {
        if self.vector { ink.sentinel() } else { ink.on_white() }
    }

    pub(super) fn line(&self, points: &[(f64, f64)], ink: Ink, width_px: f64) -> Result<()> {
        let style = self.colour(ink).stroke_width(to_unit(width_px) as u32);
        let points: Vec<_> = points.iter().map(at).collect();
        match ink {
            Ink::Dashes(_) if !self.vector => {
                let [dash, gap] = DASH_PX.map(to_unit);
                self.draw(&DashedPathElement::new(points, dash, gap, style))
            }
            _ => self.draw(&PathElement::new(points, style)),
        }
    }

    pub(super) fn polygon(&self, points: &[(f64, f64)], ink: Ink, alpha: f64) -> Result<()> {
        self.draw(&Polygon::new(points.iter().map(at).collect::<Vec<_>>(), self.colour(ink).mix(alpha)))
    }

    pub(super) fn text(&self, text: &Text) -> Result<()> {
        let style = |anchor| {
            let font = (FONT, text.em * 1.24 * f64::from(UNIT)).into_font();
            font.color(&self.colour(text.ink)).pos(Pos::new(anchor, VPos::Center))
        };
        let draw = |words: &str, anchor, place| {
            self.area.draw_text(words, &style(anchor), place).map_err(|error| self.failed(&error))
        };
        if self.vector {
            return draw(&text.words, text.anchor, at(&text.at));
        }
        // The bitmap backend sets letters too high, and the first of a word too near to the one
        // before.
        let words = || text.words.split_whitespace();
        let width = |word| style(HPos::Left).font.box_size(word).map_or(0, |(width, _)| width.cast_signed());
        let gap = to_unit(text.em * 0.3);
        let whole: i32 = words().map(|word| width(word) + gap).sum::<i32>() - gap;
        let (mut x, y) = at(&(text.at.0, text.at.1 + text.em * 0.2));
        x -= match text.anchor {
            HPos::Left => 0,
            HPos::Center => whole / 2,
            HPos::Right => whole,
        };
        for word in words() {
            draw(word, HPos::Left, (x, y))?;
            x += width(word) + gap;
        }
        Ok(())
    }

    /// Filled with a rim of paper, or hollow.
    pub(super) fn marker(&self, centre: (f64, f64), style: usize, hollow: bool) -> Result<()> {
        let series = Ink::Series(style);
        let (outer, inner) = if hollow {
            ((series, MARKER_PX + 0.5), (Ink::Paper, MARKER_PX - 1.6))
        } else {
            ((Ink::Paper, MARKER_PX + 1.2), (series, MARKER_PX))
        };
        for (ink, radius) in [outer, inner] {
            let (turns, corners) = MARKERS[style];
            if corners.is_empty() {
                self.draw(&Circle::new(at(&centre), to_unit(radius), self.colour(ink).filled()))?;
            } else {
                let turned = |turn: u32| {
                    let quarter = |(x, y): (f64, f64), _| (-y, x);
                    corners.iter().map(move |corner| (0..turn).fold(*corner, quarter))
                };
                let corner = |(x, y): (f64, f64)| (centre.0 + x * radius, centre.1 + y * radius);
                self.polygon(&(0..turns).flat_map(turned).map(corner).collect::<Vec<_>>(), ink, 1.0)?;
            }
        }
        Ok(())
    }
}

pub(super) fn to_unit(px: f64) -> i32 {
    (px * f64::from(UNIT)).round() as i32
}

pub(super) fn at(&(x, y): &(f64, f64)) -> (i32, i32) {
    (to_unit(x), to_unit(y))
}

pub(super) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// A line of text, its middle at the height of `at`.
pub(super) struct Text {
    pub(super) words: String,
    pub(super) at: (f64, f64),
    pub(super) em: f64,
    pub(super) ink: Ink,
    pub(super) anchor: HPos,
}

/// Width of `text`, with slack for wide fonts: the page sets it in the reader's.
pub(super) fn text_px(text: &str, em: f64) -> f64 {
    let finely = (FONT, em * 1.24 * 8.0).into_font().box_size(text);
    finely.map_or(text.chars().count() as f64 * em * 0.6, |(width, _)| f64::from(width) / 8.0 * 1.16)
}
