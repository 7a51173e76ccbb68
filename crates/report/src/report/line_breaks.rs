//! Where a line of the page may not break: between a number and its unit, and inside a flag.

use minijinja::HtmlEscape;

const NO_BREAK_SPACE: char = '\u{a0}';

/// What stands after a number, with a space between.
const UNITS: [&str; 10] = ["%", "B", "KiB", "MiB", "GiB", "Gb/s", "ns", "µs", "ms", "s"];

/// `text` with each number tied to its unit. For attributes, which cannot hold more than that.
pub(super) fn tied(text: &str) -> String {
    let mut words = text.split(' ').peekable();
    let mut tied = String::with_capacity(text.len());
    while let Some(word) = words.next() {
        tied += word;
        let Some(next) = words.peek() else { break };
        let unit = next.trim_end_matches(|end: char| end.is_ascii_punctuation() && end != '%');
        let is_number = word.ends_with(|end: char| end.is_ascii_digit());
        tied.push(if is_number && UNITS.contains(&unit) { NO_BREAK_SPACE } else { ' ' });
    }
    tied
}

/// A command as HTML: its flags stay whole, and what is copied from the page is what was given.
pub(super) fn command(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            html.push(' ');
        }
        match flag(word) {
            Some((before, flag, after)) => {
                let [before, flag, after] = [before, flag, after].map(|part| HtmlEscape(part).to_string());
                html += &[&before, "<span class=\"flag\">", &flag, "</span>", &after].concat();
            }
            None => html += &HtmlEscape(word).to_string(),
        }
    }
    html
}

/// A sentence as HTML, with neither numbers nor flags torn apart.
pub(super) fn prose(text: &str) -> String {
    command(&tied(text))
}

/// A word's flag, with what stands before and after it: `(`, `--receiver`, `=buffer),`.
fn flag(word: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = word.split_at(word.find(|start: char| start.is_alphanumeric() || start == '-')?);
    let name = rest.trim_start_matches('-');
    let hyphens = rest.len() - name.len();
    let end = name.find(|end: char| !end.is_ascii_alphanumeric() && end != '-').unwrap_or(name.len());
    let is_flag = matches!(hyphens, 1 | 2) && name.starts_with(|start: char| start.is_ascii_alphabetic());
    is_flag.then(|| (before, &rest[..hyphens + end], &name[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_unit() {
        assert_eq!(tied("95 %) of 64 KiB, 1 pair"), "95\u{a0}%) of 64\u{a0}KiB, 1 pair");
        assert_eq!(tied("a B, 4 Bs, 3.5 µs."), "a B, 4 Bs, 3.5\u{a0}µs.");
        assert_eq!(tied("-6.0 % to +21.7 %"), "-6.0\u{a0}% to +21.7\u{a0}%");
        assert_eq!(tied(""), "");
    }

    #[test]
    fn a_flag_stays_whole_and_nothing_else_does() {
        assert_eq!(
            command("up (--nic IF), -j 2 --a=<b>"),
            "up (<span class=\"flag\">--nic</span> IF), <span class=\"flag\">-j</span> 2 \
             <span class=\"flag\">--a</span>=&lt;b&gt;"
        );
        for none in ["a-b", "-6.40 %", "--", "---x", "netns-setup.sh", "x --"] {
            assert_eq!(command(none), none);
        }
    }

    #[test]
    fn of_a_command_only_the_markup_is_new() {
        assert_eq!(command("sleep 2 s  --now "), "sleep 2 s  <span class=\"flag\">--now</span> ");
        assert_eq!(prose("--for 2 s"), "<span class=\"flag\">--for</span> 2\u{a0}s");
    }
}
