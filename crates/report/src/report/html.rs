//! The page as one HTML file that needs nothing else: no network, no fonts, no libraries.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::columns::{self, found, numbers, value, word, words};
use super::line_breaks;
use super::page::{Entry, Figure, Kind, Line, Page, Point, Scale, Table};
use super::plots::{self, Look, PALETTE};
use crate::error::{Error, Result};
use crate::format;

/// Sets `page` as an HTML document: `full` with a row for each case and each comparison, which is
/// most of it, and with links from each sentence to the rows that it rests on.
///
/// # Errors
///
/// Where a figure cannot be drawn.
pub fn render(page: &Page, full: bool) -> Result<String> {
    let leads = |index| index == 0 && !page.strips.is_empty();
    let pictures = page.figures.iter().enumerate().map(|(index, figure)| picture(figure, leads(index)));
    let pictures = pictures.collect::<Result<Vec<_>>>()?;
    set("report.html", context! { page => Serde(page), full, pictures })
}

/// Sets one of the templates, with what it asks for.
pub(super) fn set(template: &str, context: Value) -> Result<String> {
    let failed = |error: minijinja::Error| Error::Report {
        what: template.to_owned(),
        cause: error.display_debug_info().to_string(),
    };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
    environment.set_syntax(blocks);
    environment.add_filter("tied", |text: &str| line_breaks::tied(text));
    environment.add_filter("prose", |text: &str| Value::from_safe_string(line_breaks::prose(text)));
    environment.add_filter("command", |text: &str| Value::from_safe_string(line_breaks::command(text)));
    let colours = |scheme: usize| PALETTE.map(|both| format!("#{:06X}", both[scheme])).to_vec();
    environment.add_global("light", colours(0));
    environment.add_global("dark", colours(1));
    for (name, source) in [
        ("report.html", include_str!("templates/report.html")),
        ("front.html", include_str!("templates/front.html")),
        ("strips.html", include_str!("templates/strips.html")),
        ("style.html", include_str!("templates/style.html")),
    ] {
        environment.add_template(name, source).map_err(failed)?;
    }
    environment.get_template(template).and_then(|page| page.render(context)).map_err(failed)
}

/// What the template needs of a figure beside its words. The first figure of a sweep `leads`: it is
/// drawn for a phone as well.
fn picture(figure: &Figure, leads: bool) -> Result<Value> {
    let narrow = if leads { plots::svg(figure, Look::Narrow)? } else { String::new() };
    let (table, links) = data(figure);
    Ok(context! {
        wide => Value::from_safe_string(plots::svg(figure, Look::Wide)?),
        narrow => Value::from_safe_string(narrow),
        data => context! { table => Serde(table), links },
        left_out => plots::left_out(figure),
        // Whether the picture itself says what is missing, there being nothing else in it.
        empty => figure.lines.iter().all(|line| line.points.is_empty()),
    })
}

/// A figure's numbers, and the row of the page that each of them stands in.
fn data(figure: &Figure) -> (Table, Vec<String>) {
    type Row<'a> = (&'a Line, &'a Point);
    let Figure { x, y, lines, .. } = figure;
    let points = lines.iter().flat_map(|line| line.points.iter().map(move |point| (line, point)));
    let points: Vec<Row<'_>> = points.collect();
    let low = |(_, point): &Row<'_>| Some(point.interval?.0);
    let high = |(_, point): &Row<'_>| Some(point.interval?.1);
    let columns = vec![
        words("series", "The line of the figure.", |(line, _): &Row<'_>| word(&line.label)),
        numbers(&x.label, "The horizontal axis.", |(_, point): &Row<'_>| cell(x, Some(point.x))),
        numbers(&y.label, "The vertical axis.", |(_, point): &Row<'_>| cell(y, Some(point.y))),
        numbers("from", "The lower end of the interval: see the caption.", |row| cell(y, low(row))),
        numbers("to", "The upper end of the interval: see the caption.", |row| cell(y, high(row))),
    ];
    let mut table = columns::table(&points, |_| String::new(), columns);
    for (index, row) in table.rows.iter_mut().enumerate() {
        row.id = format!("{}-{}", figure.id, index + 1);
    }
    (table, points.iter().map(|(_, point)| point.row.clone()).collect())
}

fn cell(scale: &Scale, number: Option<f64>) -> Entry {
    let entry = |number| match scale.kind {
        Kind::Bytes => value(format::size(number), number),
        Kind::Number | Kind::Count | Kind::Ratio => {
            let text = format::significant(number, 5);
            // No more digits than are shown.
            let shown = text.parse().unwrap_or(number);
            value(text, shown)
        }
    };
    let named = |number| scale.name(number).map(|name| value(name.clone(), number));
    found(number.map(|number| named(number).unwrap_or_else(|| entry(number))), "no interval")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_same_page_is_set_the_same_way() {
        assert_eq!(render(&fixture::page(), true).unwrap(), render(&fixture::page(), true).unwrap());
    }

    #[test]
    fn hostile_text_stays_text() {
        let html = render(&fixture::page(), true).unwrap();
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("</script").count(), 1);
        assert!(!html.contains("<b>&amp;"));
        assert!(html.contains("{{ 7 * 7 }}"));
    }

    #[test]
    fn nothing_is_fetched() {
        let html = render(&fixture::page(), true).unwrap().replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "src=", "url(", "@import"] {
            assert!(!html.contains(word), "{word}");
        }
    }

    #[test]
    fn an_empty_cell_gives_its_reason_and_an_open_question_shows_itself() {
        let html = render(&fixture::page(), true).unwrap();
        assert!(
            html.contains(r#"<td class="n void" title="ENOENT: this machine has no such counter"></td>"#)
        );
        assert_eq!(html.matches(r#"class="question open""#).count(), 1);
    }

    #[test]
    fn a_large_page_stays_below_the_bound() {
        let mut page = fixture::page();
        let tail = page.figures[1].clone();
        page.figures.extend((6..=8).map(|n| Figure { id: format!("fig{n}"), ..tail.clone() }));
        let bytes = render(&page, true).unwrap().len();
        assert!(bytes < 1_500_000, "{bytes}");
    }

    #[test]
    fn a_page_without_data_is_still_a_page() {
        let mut page = fixture::page();
        page.figures.clear();
        page.maps.clear();
        page.verdict.clear();
        page.warnings.clear();
        page.cases.rows.clear();
        assert!(render(&page, true).unwrap().contains("No rows."));
    }
}
