//! What is shown on standard error while a command measures: a bar on a terminal, lines otherwise.
//! Neither has colours, so that there is nothing for `NO_COLOR` to switch off.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::note;

/// The time that has been used, and what is being done.
pub(super) struct Shown {
    limit: Duration,
    bar: Option<ProgressBar>,
}

impl Shown {
    /// Of something that takes up to `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {wide_msg}")
                .unwrap_or_else(|error| unreachable!("a constant template: {error}"));
            ProgressBar::new(millis(limit)).with_style(style)
        });
        Self { limit, bar }
    }

    /// Moves the bar, and has it say what is done and how much time is left. Without a bar nothing
    /// is shown, and false returned: it is for the caller to say which steps are worth a line.
    pub(super) fn step(&self, elapsed: Duration, what: impl FnOnce() -> String) -> bool {
        let Some(bar) = &self.bar else { return false };
        bar.set_position(millis(elapsed));
        bar.set_message(format!("{} left  {}", self.left(elapsed), what()));
        true
    }

    /// How much time is left, in whole seconds.
    pub(super) fn left(&self, elapsed: Duration) -> String {
        let left = Duration::from_secs(self.limit.saturating_sub(elapsed).as_secs());
        humantime::format_duration(left).to_string()
    }

    /// Shows a line that stays.
    pub(super) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => note(line),
        }
    }
}

impl Drop for Shown {
    /// Leaves no bar behind, however the command ends.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
