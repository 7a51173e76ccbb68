//! Files of a folder that a stranger may have made: how they are read and written.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};

/// `O_NONBLOCK` of `open(2)`, as most architectures have it (asm-generic/fcntl.h): a pipe without a
/// writer is not waited for.
const O_NONBLOCK: i32 = 0o4000;

/// Opens a file to read it; none where it is not there. What is no regular file, such as a pipe or
/// a device, has no end that could be relied on.
///
/// # Errors
/// [`Error::File`]; [`Error::Data`] where it is no regular file.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path) {
        Err(errno) if matches!(errno.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        opened => opened.map_err(Error::file("open(2)", path))?,
    };
    let metadata = file.metadata().map_err(Error::file("fstat(2)", path))?;
    if metadata.is_file() { Ok(Some(file)) } else { Err(data(path, "is no regular file".to_owned())) }
}

/// Reads all of `source`, which comes from the file at `path`, as long as that is no more than
/// `most_bytes`.
///
/// # Errors
/// [`Error::Data`] where it is more; otherwise what `failed` makes of the call's error.
pub(super) fn read(
    source: impl Read,
    path: &Path,
    most_bytes: u64,
    failed: impl FnOnce(std::io::Error) -> Error,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most_bytes {
        return Err(data(path, format!("has more than {most_bytes} bytes")));
    }
    Ok(bytes)
}

/// Keeps others from writing `file` as long as it is open. They ask as well.
///
/// # Errors
/// [`Error::Data`] where another program writes it.
pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(data(path, "is written by another sendpath: wait until that has ended".to_owned()))
        }
        // A file system without locks cannot keep anybody out.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Writes a file whole or not at all. A reader at the same time, or after a kill, finds the old
/// one.
///
/// # Errors
/// [`Error::File`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_by(path, |new, _| new.write_all(bytes).map_err(Error::file("write(2)", path)))
}

/// The same of what `write` writes, into a file or to a path with the name's extension. It has a
/// name that nobody can guess, and is made anew, so that no link leads elsewhere; a link in the
/// file's place is replaced, and not followed.
///
/// # Errors
/// [`Error::File`], and those of `write`.
pub fn replace_by(path: &Path, write: impl FnOnce(&mut File, &Path) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let extension = path.extension().map_or_else(String::new, |text| format!(".{}", text.display()));
    let mut new = tempfile::Builder::new()
        .prefix(".sendpath-")
        .suffix(&extension)
        // As of any file: what the process' mask leaves of it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(Error::file("open(2)", path))?;
    let place = new.path().to_owned();
    write(new.as_file_mut(), &place)?;
    // Dropped on the way here, it is removed: a part of a file is of no use.
    new.persist(path).map_err(|error| Error::file("rename(2)", path)(error.error))?;
    Ok(())
}

pub(super) fn data(path: &Path, problem: String) -> Error {
    Error::Data { path: path.display().to_string(), problem }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_what_is_written_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        let path = folder.path().join("summary.csv");
        symlink(&victim, &path).unwrap();
        symlink(&victim, folder.path().join("summary.csv.new")).unwrap();
        replace(&path, b"written").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "written");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        // What fails on the way leaves the old one, and nothing beside it.
        let failed = |_: &mut File, _: &Path| Err(data(&path, "planted".to_owned()));
        assert!(replace_by(&path, failed).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "written");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn only_regular_files_are_read_and_only_so_much_of_them() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(&folder.path().join("none")).unwrap().is_none());
        for path in [folder.path(), Path::new("/dev/zero")] {
            assert!(open(path).unwrap_err().to_string().contains("no regular file"), "{}", path.display());
        }
        let path = folder.path().join("some");
        fs::write(&path, "12345").unwrap();
        let read = |most| read(open(&path).unwrap().unwrap(), &path, most, Error::file("read(2)", &path));
        assert_eq!(read(5).unwrap(), b"12345");
        assert!(read(4).unwrap_err().to_string().contains("more than 4 bytes"));
    }

    #[test]
    fn two_do_not_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.csv");
        let first = File::create(&path).unwrap();
        lock(&first, &path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(lock(&second, &path).unwrap_err().to_string().contains("another sendpath"));
        drop(first);
        lock(&second, &path).unwrap();
    }
}
