//! What a sweep has stored, and whether it is all there.

use std::fs;
use std::path::Path;

use sendpath::results::store;

/// The whole lines of a sweep's samples; none where there are none yet.
pub fn whole_lines(sweep: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(sweep.join("samples.csv")).ok()?;
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n')? + 1);
    Some(bytes)
}

/// What is wrong with the rows of a sweep that had `stored` lines before.
pub fn lost(sweep: &Path, stored: Option<&[u8]>) -> Option<String> {
    let stored = stored?;
    let now = whole_lines(sweep).unwrap_or_default();
    if !now.starts_with(stored) {
        return Some(format!("of {} bytes of whole rows, some are gone or others", stored.len()));
    }
    match store::read(sweep) {
        Err(error) => Some(error.to_string()),
        Ok(read) => {
            let lines = now.split(|&byte| byte == b'\n').count() - 1;
            (read.records.len() + 1 != lines)
                .then(|| format!("{} records in {lines} lines", read.records.len()))
        }
    }
}
