//! The report in a real browser: Chromium opens it, wide and narrow, light and dark, and uses it.

use std::path::Path;

use crate::chromium::chromium;
use crate::common::{skip, where_possible};
use libtest_mimic::{Completion, Failed, Trial};
use sendpath::report::page::Page;
use sendpath::report::{render, write_front};

/// The variable that names axe's script. The tests fetch nothing themselves.
const AXE: &str = "SENDPATH_TEST_AXE";

pub fn trials() -> Vec<Trial> {
    let views: [View; 7] = [
        ("a_wide_page", hostile, 1280, "light"),
        ("a_narrow_page", hostile, 390, "light"),
        ("a_wide_page_in_the_dark", hostile, 1280, "dark"),
        ("a_narrow_page_in_the_dark", hostile, 390, "dark"),
        ("a_sweep_s_page_wide", measured, 1280, "light"),
        ("a_sweep_s_page_narrow", measured, 390, "light"),
        ("a_page_of_many_ways", many_ways, 1280, "light"),
    ];
    let trials = views.into_iter().flat_map(|(name, page, width, scheme)| {
        [("works", works as Check), ("shuts_nobody_out", accessible)].map(|(what, check)| {
            where_possible(format!("{name}_{what}"), move || check(&page()?, width, scheme))
        })
    });
    trials.chain([where_possible("the_door_shuts_nobody_out", door_is_accessible)]).collect()
}

/// The door to a sweep and to a chart of Criterion's.
fn door_is_accessible() -> Result<Completion, Failed> {
    let home = tempfile::tempdir()?;
    let chart = home.path().join("criterion/bw_01/report");
    std::fs::create_dir_all(&chart)?;
    std::fs::write(chart.join("index.html"), "")?;
    let sweep = home.path().join("sweep");
    std::fs::create_dir(&sweep)?;
    for file in ["environment.json", "samples.csv"] {
        std::fs::copy(Path::new("tests/golden/sweep").join(file), sweep.join(file))?;
    }
    audited(&std::fs::read_to_string(write_front(home.path(), None)?)?, 1280, "light")
}

/// What is to hold of a page at a width, in a colour scheme.
type Check = fn(&Page, u32, &str) -> Result<Completion, Failed>;

/// A name, the page, how wide it is shown, and the colour scheme.
type View = (&'static str, fn() -> Result<Page, Failed>, u32, &'static str);

/// A page with everything that is hard to show.
#[expect(clippy::unnecessary_wraps, reason = "as the other")]
fn hostile() -> Result<Page, Failed> {
    Ok(crate::fixture::page())
}

/// The page of a stored sweep.
fn measured() -> Result<Page, Failed> {
    Ok(sendpath::report::page(&sendpath::results::store::read(Path::new("tests/golden/sweep"))?))
}

/// The page of a sweep whose table of comparisons has every column filled, with the longest words.
fn many_ways() -> Result<Page, Failed> {
    Ok(sendpath::report::page(&sendpath::results::store::read(Path::new("target-reports/ways"))?))
}

/// Shows the page and lets [`CHECKS`] use it.
fn works(page: &Page, width: u32, scheme: &str) -> Result<Completion, Failed> {
    let expected = serde_json::to_string(page)?.replace('<', "\\u003c");
    let checks = format!("const width = {width}, scheme = '{scheme}', page = {expected};\n{CHECKS}");
    show(&render(page, true)?, width, scheme, WATCH, &checks)
}

/// Shows the page and lets axe look for what keeps people out:
/// <https://github.com/dequelabs/axe-core>.
fn accessible(page: &Page, width: u32, scheme: &str) -> Result<Completion, Failed> {
    audited(&render(page, true)?, width, scheme)
}

fn audited(html: &str, width: u32, scheme: &str) -> Result<Completion, Failed> {
    let Some(file) = std::env::var_os(AXE) else {
        return skip(&format!("{AXE} does not name axe.min.js, which npm's axe-core has"));
    };
    let axe =
        std::fs::read_to_string(&file).map_err(|error| format!("{AXE}: {}: {error}", file.display()))?;
    show(html, width, scheme, &axe.replace("</script", "<\\/script"), AUDIT)
}

/// Shows the page in a frame of its own, since a window has a least width. `inside` runs before all
/// else in the page, `outside` beside it; what that writes into `result` is the outcome.
fn show(html: &str, width: u32, scheme: &str, inside: &str, outside: &str) -> Result<Completion, Failed> {
    let Some(chromium) = chromium() else { return skip(crate::chromium::NONE) };
    let (head, rest) = html.split_once("<head>").ok_or("the page has no head")?;
    let watched = format!("{head}<head><script>{inside}</script>{rest}");
    let outer = format!(
        "<!DOCTYPE html><meta charset=utf-8><body style=margin:0>\
         <iframe style=border:0;width:{width}px;height:900px srcdoc=\"{}\"></iframe><pre id=result>not run</pre>\
         <script>{outside}</script>",
        watched.replace('&', "&amp;").replace('"', "&quot;"),
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("outer.html");
    std::fs::write(&file, outer)?;
    let blink = format!("--blink-settings=preferredColorScheme={}", u8::from(scheme != "dark"));
    let arguments = [&blink, "--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom"];
    let dom = crate::chromium::open(&chromium, folder.path(), &arguments, &file)?;
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

/// Runs axe in the page, and writes `works` or what it calls serious or critical.
const AUDIT: &str = r#"
addEventListener("load", async () => {
  const view = document.querySelector("iframe").contentWindow;
  const result = document.getElementById("result");
  try {
    view.document.querySelectorAll("details").forEach(details => { details.open = true; });
    const { violations, passes } = await view.axe.run(view.document, { preload: false });
    const faults = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    const where = ({ html, failureSummary }) => `${html.slice(0, 200)}: ${failureSummary}`;
    const text = faults.flatMap(({ id, help, nodes }) => [`${id}: ${help}`, ...nodes.slice(0, 3).map(where)]);
    if (passes.length < 20) text.push(`only ${passes.length} of axe's rules found anything to look at`);
    result.textContent = text.join("\n") || "works";
  } catch (error) { result.textContent = error.stack; }
});
"#;

/// Runs outside of the page, and writes `works` or what does not.
const CHECKS: &str = r#"
const failures = [];
const check = (holds, what) => { if (!holds) failures.push(what); };
const { compare } = new Intl.Collator("en", { numeric: true });
const same = (got, wanted, what) => {
  [got, wanted] = [JSON.stringify(got), JSON.stringify(wanted)];
  check(got === wanted, `${what}: ${got} instead of ${wanted}`);
};

function run(view) {
  const doc = view.document;
  const plain = text => text.replaceAll("\u00a0", " ");
  const visible = element => element.getClientRects().length > 0;
  const tip = doc.getElementById("tip");
  same(view.innerWidth, width, "the frame's width");
  same(view.matchMedia("(prefers-color-scheme: dark)").matches, scheme === "dark", "dark");
  const [red] = view.getComputedStyle(doc.documentElement).backgroundColor.match(/\d+/g).map(Number);
  check(scheme === "dark" ? red < 64 : red > 192, `a background of ${red} in ${scheme}`);
  check(doc.documentElement.scrollWidth <= view.innerWidth, `${doc.documentElement.scrollWidth} px wide: overflows`);
  same(view.performance.getEntriesByType("resource").map(entry => entry.name), [], "requests");
  same(plain(doc.querySelector("h1").textContent), page.headline, "headline");
  const height = width < 640 ? 844 : 800;
  for (const what of ["h1", ".strips", ".trust", "figure.lead svg"]) {
    const seen = [...doc.querySelectorAll(what)].filter(visible);
    check(seen.length > 0, `no ${what}`);
    if (page.title.startsWith("sendpath on")) {
      check(seen.every(one => one.getBoundingClientRect().bottom <= height), `${what} ends below the first screen`);
    }
  }
  same([...doc.querySelectorAll(".bar span")].map(span => plain(span.textContent)),
    page.strips.flatMap(strip => strip.spans.map(span => span.text)), "strips");
  doc.querySelectorAll("details").forEach(details => { details.open = true; });

  // The filter, the legend, and files of a figure.
  const filters = [...doc.querySelectorAll(".filter select")];
  const parts = [...doc.querySelectorAll("[data-metric]")];
  const facets = ["receiver", "connections", "data", "metric"];
  const choices = facets.filter(facet => new Set(parts.map(part => part.dataset[facet]).filter(Boolean)).size > 1);
  same(filters.map(select => select.name), choices, "filters");
  check(view.location.hash.length < 2, `an address from the start: ${view.location.hash}`);
  for (const select of filters) {
    const value = select.options[1].value;
    select.value = value;
    select.dispatchEvent(new view.Event("change"));
    const other = part => part.dataset[select.name] && part.dataset[select.name] !== value;
    check(parts.some(visible) && parts.filter(visible).every(part => !other(part)), `${select.name}: others are shown`);
    check(parts.filter(part => !other(part) && part.matches("figure")).every(visible), `${select.name}: its own are not shown`);
    same(new URLSearchParams(view.location.hash.slice(1)).get(select.name), value, "the address");
    select.value = "";
    select.dispatchEvent(new view.Event("change"));
    check(parts.every(visible), `${select.name}: not all are shown again`);
  }
  const entry = doc.querySelector("figure [data-series]");
  const alike = [...doc.querySelectorAll("[data-series]")].filter(line => line.dataset.series === entry.dataset.series);
  for (const off of [true, false]) {
    entry.querySelector("text").dispatchEvent(new view.MouseEvent("click", { bubbles: true }));
    check(alike.every(line => line.classList.contains("off") === off), "the legend takes no line away");
    same(view.getComputedStyle(entry.querySelector(".hit")).visibility, off ? "hidden" : "visible", "a point");
  }
  const saved = [];
  view.HTMLAnchorElement.prototype.click = function () { saved.push(this); };
  for (const figure of doc.querySelectorAll("figure:has(.save)")) {
    saved.length = 0;
    figure.querySelectorAll(".save button").forEach(button => { if (button.textContent !== "PNG") button.click(); });
    same(saved.map(link => link.download), [figure.id + ".svg", figure.id + ".csv"], "files");
    check(saved.every(link => link.href.startsWith("blob:")), "a file without contents");
  }
  same(doc.querySelectorAll(".save").length, page.figures.filter(figure => figure.lines.some(line => line.points.length)).length,
    "figures that can be saved");

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
      const [inner, outer] = [text.getBoundingClientRect(), pictures[0].getBoundingClientRect()];
      check(inner.left >= outer.left - 1 && inner.right <= outer.right + 1 || text.textContent.length > 60,
        `${figure.id}: cut text: ${text.textContent}`);
    }
    for (const group of got) {
      const line = figure.lines.find(line => line.label === group.dataset.series);
      const hit = group.querySelector(".hit");
      const { text } = line.points.filter(point => shown(figure, point))[0];
      for (const use of [
        () => hit.focus(),
        () => hit.dispatchEvent(new view.PointerEvent("pointerover", { bubbles: true })),
        () => hit.dispatchEvent(new view.MouseEvent("click", { bubbles: true })),
      ]) {
        tip.hidden = true;
        use();
        check(!tip.hidden && plain(tip.textContent) === `${line.label}: ${text}`, `${figure.id}: ${use} shows no numbers`);
      }
      hit.blur();
      check(tip.hidden, `${figure.id}: the numbers stay`);
    }

    const points = [...pictures[0].querySelectorAll(".hit")];
    const stops = () => points.filter(point => point.tabIndex === 0);
    same(stops().length, Math.min(points.length, 1), `${figure.id}: tab stops`);
    check(points.every(point => point.getAttribute("role") === "img" && point.ariaLabel), `${figure.id}: points without role or name`);
    const press = key => doc.activeElement.dispatchEvent(new view.KeyboardEvent("keydown", { key, bubbles: true }));
    const reached = new Set();
    points[0]?.focus();
    for (const line of got) {
      check(line.contains(doc.activeElement), `${figure.id}: ${line.dataset.series} is not reached by the down key`);
      press("Home");
      for (const point of line.querySelectorAll(".hit")) {
        check(doc.activeElement === point, `${figure.id}: the right key does not go along ${line.dataset.series}`);
        reached.add(doc.activeElement);
        press("ArrowRight");
      }
      press("Home");
      press("ArrowDown");
    }
    same(reached.size, points.length, `${figure.id}: points that keys reach`);
    same(stops(), points.filter(point => point === doc.activeElement), `${figure.id}: the tab stop stays behind`);
  }

  const squares = page.maps.flatMap(map => map.rows.flatMap(([, squares]) => squares));
  same([...doc.querySelectorAll(".map tbody td b")].map(b => plain(b.textContent)), squares.map(s => s.text), "squares");
  const notes = [...doc.querySelectorAll(".map tbody td small")];
  same(notes.map(note => plain(note.textContent)), squares.map(s => s.note), "notes");
  check(notes.every(note => note.scrollHeight <= note.clientHeight + 1), "a note in a map is cut");
  same(doc.querySelectorAll(".question.open").length, page.questions.filter(q => !q.answered).length, "open questions");

  const tables = [...doc.querySelectorAll("main > details > .box table.data")];
  for (const data of [page.cost_model.table, page.copy_ledger.table, page.comparisons, page.cases]) {
    const table = tables.find(table => table.tBodies[0].rows[0].id === data.rows[0].id);
    check(table, `no table with row ${data.rows[0].id}`);
    const seen = data === page.comparisons && width >= 1280 ? ["difference", "from", "to", "verdict"] : [];
    const edge = table.parentNode.getBoundingClientRect().right;
    check(edge <= view.innerWidth, `a table ends at ${edge} px`);
    for (const name of seen) {
      const index = data.columns.findIndex(column => column.name === name);
      const right = Math.max(...[...table.rows].map(row => row.cells[index].getBoundingClientRect().right));
      check(right <= edge, `comparisons: ${name} ends at ${right} px, what is in sight of the table at ${edge}`);
    }
    const cells = new Map(data.rows.map(row => [row.id, row.cells]));
    data.columns.forEach((column, index) => {
      for (const down of [false, true]) {
        const head = table.tHead.rows[0].cells[index];
        head.querySelector("button").click();
        same(head.getAttribute("aria-sort"), down ? "descending" : "ascending", "aria-sort");
        same(table.querySelectorAll("[aria-sort]").length, 1, "sorted columns");
        const entry = row => cells.get(row.id)[index];
        const entries = [...table.tBodies[0].rows].map(entry);
        same(entries.length, data.rows.length, "rows");
        const full = entries.filter(entry => column.numeric ? entry.value !== null : entry.text);
        check(entries.slice(0, full.length).every((entry, i) => entry === full[i]), `${column.name}: empties are not last`);
        const order = (a, b) => column.numeric ? a.value - b.value : compare(a.text, b.text);
        check(full.every((entry, i) => i === 0 || (down ? -1 : 1) * order(full[i - 1], entry) <= 0),
          `${column.name}: not in order, ${down ? "down" : "up"}`);
      }
    });
  }
  check([...doc.querySelectorAll("th")].every(head => head.textContent.trim()), "an empty head of a row or column");
  for (const link of doc.querySelectorAll("a[href^='#']")) {
    check(doc.getElementById(link.hash.slice(1)), `${link.hash} leads nowhere`);
  }
  const ids = [...doc.querySelectorAll("[id]")].map(element => element.id);
  same(ids.filter((id, i) => ids.indexOf(id) !== i), [], "ids given twice");
  view.location.hash = page.cases.rows.at(-1).id;
  check(doc.querySelector("tr:target"), "a link to a row does not mark it");
  doc.querySelectorAll("details").forEach(details => { details.open = true; });
  check(doc.documentElement.scrollWidth <= view.innerWidth, "with its details open, the page overflows");
  if (width < 640) {
    for (const target of [...doc.querySelectorAll("a, button, summary, .hit")].filter(visible)) {
      const box = target.getBoundingClientRect();
      check(box.width >= 24 && box.height >= 24, `a target of ${box.width} × ${box.height} px: ${target.outerHTML}`);
    }
  }
  const texts = doc.createTreeWalker(doc.body, view.NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data, parentElement } = texts.currentNode;
    if (!visible(parentElement) || parentElement.closest("svg, pre")) continue;
    check(!/\d %/.test(data), `a line may break before %: ${data}`);
    check(!/(^|[\s(])--[a-z]/.test(data) || parentElement.matches(".flag"), `a line may break in a flag: ${data}`);
  }
  check([...doc.querySelectorAll(".flag")].filter(visible).every(flag => flag.getClientRects().length === 1), "a torn flag");
  failures.push(...view.wrong);
}

addEventListener("load", () => {
  try { run(document.querySelector("iframe").contentWindow); }
  catch (error) { failures.push(error.stack); }
  document.getElementById("result").textContent = failures.slice(0, 20).join("\n") || "works";
});
"#;
