//! Chromium without a window, with a profile of its own, for a minute at most.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::Failed;

const LIMIT: Duration = Duration::from_mins(1);

/// Why a test that shows the page is skipped.
pub const NONE: &str = "no chromium, chromium-browser or google-chrome in PATH";

/// The first of `names` that is in PATH.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// The browser, where there is one.
pub fn chromium() -> Option<PathBuf> {
    program(&["chromium", "chromium-browser", "google-chrome"])
}

/// What `chromium` prints when it opens `file` with `arguments`. `folder` is for its profile.
pub fn open(chromium: &Path, folder: &Path, arguments: &[&str], file: &Path) -> Result<String, Failed> {
    let mut browser = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg("--disable-dev-shm-usage")
        .args(arguments)
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let printed = read(&mut browser);
    if printed.is_err() {
        browser.kill()?;
    }
    browser.wait()?;
    printed
}

fn read(browser: &mut Child) -> Result<String, Failed> {
    let mut stdout = browser.stdout.take().ok_or("the browser's output is piped")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(std::io::read_to_string(&mut stdout)).ok());
    let printed = receiver.recv_timeout(LIMIT);
    Ok(printed.map_err(|_| format!("the browser took longer than {} s", LIMIT.as_secs()))??)
}
