//! The report on paper: Chromium prints it, poppler reads what came out.

use std::path::Path;
use std::process::Command;

use crate::chromium::{chromium, program};
use crate::common::{skip, where_possible};
use libtest_mimic::{Completion, Failed, Trial};
use regex::Regex;
use sendpath::report::page::{Page, Table};
use sendpath::report::render;

/// Below this, letters are too small to read on paper.
const LEAST_PT: f64 = 9.0;

/// What the browser takes where the page does not say: letter.
const LETTER: &str = "";
const A4: &str = "<style>@page { size: A4; } @page broad { size: A4 landscape; }</style>";

pub fn trials() -> Vec<Trial> {
    let trial = |name, page: fn() -> Result<Page, Failed>, paper| {
        where_possible(name, move || prints(&page()?, paper))
    };
    vec![
        trial("a_page_with_all_that_is_hard_to_print_loses_nothing", || Ok(crate::fixture::page()), LETTER),
        trial("a_sweep_s_page_loses_nothing_on_letter", measured, LETTER),
        trial("a_sweep_s_page_loses_nothing_on_a4", measured, A4),
        Trial::ignorable_test("a_default_minute_s_page_is_short_and_light", is_short),
    ]
}

/// The page of a stored sweep.
fn measured() -> Result<Page, Failed> {
    Ok(sendpath::report::page(&sendpath::results::store::read(Path::new("tests/golden/sweep"))?))
}

/// The page that a sweep writes by itself, without a row for each case.
fn is_short() -> Result<Completion, Failed> {
    let sweep = sendpath::results::store::read(Path::new("target-reports/reference"))?;
    let html = render(&sendpath::report::page(&sweep), false)?;
    assert!(html.len() <= 400_000, "{} bytes", html.len());
    let Some(chromium) = chromium() else { return skip(crate::chromium::NONE) };
    if program(&["pdftotext"]).is_none() {
        return skip("no pdftotext in PATH: poppler-utils has it");
    }
    let folder = tempfile::tempdir()?;
    let (path, pdf) = (folder.path().join("page.html"), folder.path().join("page.pdf"));
    std::fs::write(&path, html)?;
    let to = format!("--print-to-pdf={}", pdf.display());
    crate::chromium::open(&chromium, folder.path(), &["--no-pdf-header-footer", &to], &path)?;
    let sheets = poppler("pdftotext", &["-raw"], &pdf)?.matches('\u{c}').count();
    assert!((1..=8).contains(&sheets), "{sheets} sheets");
    Ok(Completion::Completed)
}

fn prints(page: &Page, paper: &str) -> Result<Completion, Failed> {
    let Some(chromium) = chromium() else { return skip(crate::chromium::NONE) };
    if program(&["pdftotext"]).is_none() || program(&["pdftohtml"]).is_none() {
        return skip("no pdftotext or no pdftohtml in PATH: poppler-utils has them");
    }
    let folder = tempfile::tempdir()?;
    let (html, pdf) = (folder.path().join("page.html"), folder.path().join("page.pdf"));
    std::fs::write(&html, render(page, true)?.replace("</head>", &format!("{paper}</head>")))?;
    let to = format!("--print-to-pdf={}", pdf.display());
    crate::chromium::open(&chromium, folder.path(), &["--no-pdf-header-footer", &to], &html)?;

    // In the order in which it was printed, cell by cell; what lies beside the paper is not in it.
    let text = poppler("pdftotext", &["-raw"], &pdf)?;
    let printed = Printed {
        sheets: text.split('\u{c}').map(without_space).collect(),
        // In thirds of a point, since sizes are written as whole numbers.
        drawn: poppler("pdftohtml", &["-xml", "-i", "-stdout", "-zoom", "3"], &pdf)?,
    };
    printed.letters_are_large_enough()?;
    for table in [&page.cost_model.table, &page.copy_ledger.table, &page.comparisons, &page.cases] {
        printed.has_all_of(table)?;
    }
    for (head, squares) in page.maps.iter().flat_map(|map| &map.rows) {
        for square in squares {
            printed
                .find(&format!("{}{}", square.text, square.note), &format!("a square of the map, {head}"))?;
        }
    }
    Ok(Completion::Completed)
}

fn poppler(program: &str, arguments: &[&str], pdf: &Path) -> Result<String, Failed> {
    let mut command = Command::new(program);
    command.args(arguments).arg(pdf);
    // pdftotext writes beside the file where it is not told otherwise.
    if program == "pdftotext" {
        command.arg("-");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{program}: {}: {}", output.status, crate::common::stderr(&output)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Where lines break on paper is of no account, nor is the dot that stands in an empty cell.
fn without_space(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace() && *letter != '·').collect()
}

struct Printed {
    /// The text of each sheet.
    sheets: Vec<String>,
    /// Sizes of sheets and letters.
    drawn: String,
}

impl Printed {
    fn numbers(&self, pattern: &str) -> Result<Vec<Vec<f64>>, Failed> {
        let found = Regex::new(pattern)?;
        let numbers = |found: regex::Captures<'_>| {
            found.iter().skip(1).flatten().map(|number| number.as_str().parse()).collect()
        };
        Ok(found.captures_iter(&self.drawn).map(numbers).collect::<Result<_, _>>()?)
    }

    fn letters_are_large_enough(&self) -> Result<(), Failed> {
        let sizes = self.numbers(r#"<fontspec [^>]*size="([0-9.]+)""#)?;
        let least = sizes.iter().flatten().copied().fold(f64::INFINITY, f64::min) / 3.0;
        if sizes.is_empty() || least < LEAST_PT {
            return Err(format!("letters of {least} pt, in {} sizes", sizes.len()).into());
        }
        Ok(())
    }

    /// The sheet that `text` stands on.
    fn find(&self, text: &str, what: &str) -> Result<usize, Failed> {
        let text = without_space(text);
        let on = self.sheets.iter().position(|sheet| sheet.contains(&text));
        on.ok_or_else(|| format!("{what} is not printed: {text}").into())
    }

    /// Each row is there with all its cells, under heads that are all there, on the same sheet.
    fn has_all_of(&self, table: &Table) -> Result<(), Failed> {
        let sheets = self.numbers(r#"<page [^>]*height="([0-9.]+)" width="([0-9.]+)""#)?;
        let heads: String = table.columns.iter().map(|column| without_space(&column.name)).collect();
        for row in &table.rows {
            let cells: String = row.cells.iter().map(|cell| cell.text.as_str()).collect();
            let on = self.find(&cells, &format!("row {}", row.id))?;
            if !self.sheets[on].contains(&heads) {
                return Err(format!("sheet {} has row {} without the heads {heads}", on + 1, row.id).into());
            }
            let (height, width) = (sheets[on][0], sheets[on][1]);
            assert!(
                table.columns.len() <= 8 || width > height,
                "{heads} stand on paper of {width} by {height}"
            );
        }
        Ok(())
    }
}
