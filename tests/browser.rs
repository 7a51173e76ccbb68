//! The report in a real browser: Chromium opens it, wide and narrow, light and dark, and uses it.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::skip;
use libtest_mimic::{Completion, Failed, Trial};
use sendpath::report::page::Page;
use sendpath::report::render;

const LIMIT: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let views: [View; 6] = [
        ("a_wide_page_works", hostile, 1280, "light"),
        ("a_narrow_page_works", hostile, 390, "light"),
        ("a_wide_page_works_in_the_dark", hostile, 1280, "dark"),
        ("a_narrow_page_works_in_the_dark", hostile, 390, "dark"),
        ("a_sweep_s_page_works_wide", measured, 1280, "light"),
        ("a_sweep_s_page_works_narrow", measured, 390, "light"),
    ];
    let trial = |(name, page, width, scheme): View| {
        Trial::ignorable_test(name, move || works(&page()?, width, scheme))
    };
    common::main(views.map(trial).into())
}

/// A name, the page, how wide it is shown, and the colour scheme.
type View = (&'static str, fn() -> Result<Page, Failed>, u32, &'static str);

/// A page with everything that is hard to show.
#[expect(clippy::unnecessary_wraps, reason = "as the other")]
fn hostile() -> Result<Page, Failed> {
    Ok(fixture::page())
}

/// The page of a stored sweep.
fn measured() -> Result<Page, Failed> {
    Ok(sendpath::report::page(&sendpath::results::store::read(Path::new("tests/golden/sweep"))?))
}

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// Shows the page in a frame of its own, since a window has a least width, and lets [`CHECKS`] use it.
fn works(page: &Page, width: u32, scheme: &str) -> Result<Completion, Failed> {
    let Some(chromium) = chromium() else {
        return skip("no chromium, chromium-browser or google-chrome in PATH");
    };
    let html = render(page)?;
    let (head, rest) = html.split_once("<head>").ok_or("the page has no head")?;
    let watched = format!("{head}<head><script>{WATCH}</script>{rest}");
    let expected = serde_json::to_string(page)?.replace('<', "\\u003c");
    let outer = format!(
        "<!DOCTYPE html><meta charset=utf-8><body style=margin:0>\
         <iframe style=border:0;width:{width}px;height:900px srcdoc=\"{}\"></iframe><pre id=result>not run</pre>\
         <script>const width = {width}, scheme = '{scheme}', page = {expected};\n{CHECKS}</script>",
        watched.replace('&', "&amp;").replace('"', "&quot;"),
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("outer.html");
    std::fs::write(&file, outer)?;

    let dark = u8::from(scheme != "dark");
    let mut browser = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([
            "--disable-dev-shm-usage",
            "--window-size=1400,900",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={dark}"))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdout = browser.stdout.take().ok_or("the browser's output is piped")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut dom = String::new();
        let read = stdout.read_to_string(&mut dom).map(|_| dom);
        sender.send(read).ok();
    });
    let dom = receiver.recv_timeout(LIMIT);
    if dom.is_err() {
        browser.kill()?;
    }
    browser.wait()?;
    let dom = dom.map_err(|_| format!("the browser took longer than {} s", LIMIT.as_secs()))??;
    let result = dom.rsplit_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    match result {
        Some(("works", _)) => Ok(Completion::Completed),
        Some((failures, _)) => Err(failures.into()),
        None => Err(format!("the browser showed no result: {dom:.500}").into()),
    }
}

/// Runs before all else in the page: what goes wrong there is noted.
const WATCH: &str = "
window.wrong = [];
addEventListener('error', event => wrong.push('error: ' + event.message));
addEventListener('unhandledrejection', event => wrong.push('rejection: ' + event.reason));
addEventListener('securitypolicyviolation', event => wrong.push('fetched: ' + event.blockedURI));
for (const level of ['error', 'warn']) console[level] = (...words) => wrong.push(level + ': ' + words.join(' '));
window.alert = text => wrong.push('a hostile script ran: ' + text);
";

/// Runs outside of the page, and writes `works` or what does not.
const CHECKS: &str = r#"
const failures = [];
const check = (holds, what) => { if (!holds) failures.push(what); };
const same = (got, wanted, what) => {
  [got, wanted] = [JSON.stringify(got), JSON.stringify(wanted)];
  check(got === wanted, `${what}: ${got} instead of ${wanted}`);
};

function run(view) {
  const doc = view.document;
  const visible = element => element.getClientRects().length > 0;
  const tip = doc.getElementById("tip");
  same(view.innerWidth, width, "the frame's width");
  same(view.matchMedia("(prefers-color-scheme: dark)").matches, scheme === "dark", "dark");
  const [red] = view.getComputedStyle(doc.documentElement).backgroundColor.match(/\d+/g).map(Number);
  check(scheme === "dark" ? red < 64 : red > 192, `a background of ${red} in ${scheme}`);
  check(doc.documentElement.scrollWidth <= view.innerWidth, `${doc.documentElement.scrollWidth} px wide: overflows`);
  same(view.performance.getEntriesByType("resource").map(entry => entry.name), [], "requests");
  same(doc.querySelector("h1").textContent, page.headline, "headline");
  check(doc.querySelector("h1").getBoundingClientRect().bottom < 700, "the headline is not on the first screen");

  const shown = (figure, point) => (!figure.x.log || point.x > 0) && (!figure.y.log || point.y > 0);
  for (const figure of page.figures) {
    const element = doc.getElementById(figure.id);
    const pictures = [...element.querySelectorAll("svg")].filter(visible);
    same(pictures.length, 1, `${figure.id}: pictures to see`);
    check(pictures[0].getBoundingClientRect().height > 80, `${figure.id}: a picture without height`);
    const wanted = figure.lines.map(line => [line.label, line.points.filter(point => shown(figure, point)).length]);
    const got = [...pictures[0].querySelectorAll("[data-series]")];
    same(got.map(group => [group.dataset.series, group.querySelectorAll(".hit").length]),
      wanted.filter(([, points]) => points > 0), `${figure.id}: series and points`);
    for (const text of pictures[0].querySelectorAll("text")) {
      const [inner, outer] = [text.getBoundingClientRect(), doc.documentElement.getBoundingClientRect()];
      check(inner.left >= outer.left - 1 && inner.right <= outer.right + 1 || text.textContent.length > 60,
        `${figure.id}: cut text: ${text.textContent}`);
    }
    for (const group of got) {
      const line = figure.lines.find(line => line.label === group.dataset.series);
      const hit = group.querySelector(".hit");
      const { text, row } = line.points.filter(point => shown(figure, point))[0];
      same(hit.dataset.row, row, `${figure.id}: row`);
      for (const use of [
        () => hit.focus(),
        () => hit.dispatchEvent(new view.PointerEvent("pointerover", { bubbles: true })),
        () => hit.dispatchEvent(new view.MouseEvent("click", { bubbles: true })),
      ]) {
        tip.hidden = true;
        use();
        check(!tip.hidden && tip.textContent === `${line.label}: ${text}`, `${figure.id}: ${use} shows no numbers`);
      }
      hit.blur();
      check(tip.hidden, `${figure.id}: the numbers stay`);
    }
  }

  const squares = page.maps.flatMap(map => map.rows.flatMap(([, squares]) => squares));
  same([...doc.querySelectorAll(".map tbody td b")].map(b => b.textContent), squares.map(s => s.text), "squares");
  same([...doc.querySelectorAll(".map tbody td")].map(td => td.dataset.tip), squares.map(s => s.note), "notes");
  same(doc.querySelectorAll(".question.open").length, page.questions.filter(q => !q.answered).length, "open questions");

  const tables = [...doc.querySelectorAll("main > .box table.data")];
  for (const data of [page.cost_model.table, page.copy_ledger.table, page.comparisons, page.cases]) {
    const table = tables.find(table => table.tBodies[0].rows[0].id === data.rows[0].id);
    check(table, `no table with row ${data.rows[0].id}`);
    data.columns.forEach((column, index) => {
      for (const down of [false, true]) {
        const head = table.tHead.rows[0].cells[index];
        head.querySelector("button").click();
        same(head.getAttribute("aria-sort"), down ? "descending" : "ascending", "aria-sort");
        same(table.querySelectorAll("[aria-sort]").length, 1, "sorted columns");
        const entry = row => data.rows.find(other => other.id === row.id).cells[index];
        const entries = [...table.tBodies[0].rows].map(entry);
        same(entries.length, data.rows.length, "rows");
        const full = entries.filter(entry => column.numeric ? entry.value !== null : entry.text);
        check(entries.slice(0, full.length).every((entry, i) => entry === full[i]), `${column.name}: empties are not last`);
        const order = (a, b) => column.numeric ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
        check(full.every((entry, i) => i === 0 || (down ? -1 : 1) * order(full[i - 1], entry) <= 0),
          `${column.name}: not in order, ${down ? "down" : "up"}`);
      }
    });
  }
  for (const link of doc.querySelectorAll("a[href^='#']")) {
    check(doc.getElementById(link.hash.slice(1)), `${link.hash} leads nowhere`);
  }
  const ids = [...doc.querySelectorAll("[id]")].map(element => element.id);
  same(ids.filter((id, i) => ids.indexOf(id) !== i), [], "ids given twice");
  view.location.hash = page.cases.rows.at(-1).id;
  check(doc.querySelector("tr:target"), "a link to a row does not mark it");
  doc.querySelectorAll("details").forEach(details => { details.open = true; });
  check(doc.documentElement.scrollWidth <= view.innerWidth, "with its details open, the page overflows");
  failures.push(...view.wrong);
}

addEventListener("load", () => {
  try { run(document.querySelector("iframe").contentWindow); }
  catch (error) { failures.push(error.stack); }
  document.getElementById("result").textContent = failures.slice(0, 20).join("\n") || "works";
});
"#;
