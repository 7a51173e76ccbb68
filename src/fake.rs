//! Trees of files that tests put in the place of `/proc` and `/sys`.

use std::fs;
use std::path::Path;

/// Writes a file below `root`, and makes the folders that it takes.
pub(crate) fn write(root: &Path, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A tree of files: their paths and what they hold.
pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(root.path(), path, text);
    }
    root
}
