//! The files that the kernel describes itself in. What it does not have is told from what could not
//! be looked at.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{Error, Result};

/// Whether an error is of this moment, and says nothing of what was asked for: too many open files,
/// too little memory.
pub(crate) fn is_passing(errno: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EINTR, libc::EAGAIN];
    errno.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// What an answer holds; none where the kernel does not have it, or does not show it to this
/// process.
///
/// # Errors
/// [`File`](crate::path::Error::File) where the answer is a [passing](is_passing) error.
pub(crate) fn known<T>(call: &'static str, path: &Path, answer: io::Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(errno) if is_passing(&errno) => Err(Error::file(call, path)(errno)),
        Err(_) => Ok(None),
    }
}

/// The text of a file, without the line end.
///
/// # Errors
/// As [`known`].
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    Ok(known("open(2)", path, fs::read_to_string(path))?.map(|text| text.trim().to_owned()))
}

/// `/proc/cpuinfo` below `root`; empty where it is not there.
///
/// # Errors
/// As [`known`].
pub(crate) fn cpu_info(root: &Path) -> Result<CpuInfo> {
    read(&root.join("proc/cpuinfo")).map(|text| CpuInfo(text.unwrap_or_default()))
}

/// What the kernel says of each CPU.
pub(crate) struct CpuInfo(String);

impl CpuInfo {
    /// What stands behind `key`, CPU by CPU.
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.lines().filter_map(|line| line.split_once(':'));
        pairs.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    }

    /// Whether the first CPU has a flag.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.values("flags").next().is_some_and(|flags| flags.split_whitespace().any(|word| word == flag))
    }
}

/// What is in a folder, in order; nothing where there is no such folder. It is closed before
/// anything in it is opened.
///
/// # Errors
/// As [`known`].
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = known("opendir(3)", folder, fs::read_dir(folder))?;
    let mut paths: Vec<_> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Reads a list such as `0-3,8`; none where it is no such list.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// The running kernel's configuration, where it may be read; from the files below `root`.
///
/// # Errors
/// As [`known`].
pub(crate) fn configuration(root: &Path) -> Result<Option<String>> {
    let packed = root.join("proc/config.gz");
    let mut text = String::new();
    let unpacked = File::open(&packed).and_then(|file| GzDecoder::new(file).read_to_string(&mut text));
    if known("open(2)", &packed, unpacked)?.is_some() {
        return Ok(Some(text));
    }
    let release = read(&root.join("proc/sys/kernel/osrelease"))?.unwrap_or_default();
    match read(&root.join(format!("boot/config-{release}")))? {
        None => read(&root.join(format!("lib/modules/{release}/config"))),
        found => Ok(found),
    }
}

/// How many fragments a packet may have that the kernel makes of pages lent to it: its constant
/// `MAX_SKB_FRAGS`. None where the configuration cannot be read, which alone says it.
///
/// # Errors
/// As [`known`].
pub(crate) fn most_fragments(root: &Path, page_bytes: u64) -> Result<Option<u64>> {
    let Some(text) = configuration(root)? else { return Ok(None) };
    let set = text.lines().find_map(|line| line.strip_prefix("CONFIG_MAX_SKB_FRAGS=")?.parse().ok());
    // Before it could be set (Linux 6.4) it was worked out, so that a packet holds 64 KiB anywhere
    // in its pages.
    let was_fixed = text.lines().any(|line| line == "CONFIG_NET=y");
    Ok(set.or_else(|| was_fixed.then_some(((64 << 10) / page_bytes + 1).max(16))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_is_what_the_configuration_says_or_what_it_was_before_it_could_be_set() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(most_fragments(root.path(), 4096).unwrap(), None);
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        fs::write(root.path().join("proc/sys/kernel/osrelease"), "5.15.0\n").unwrap();
        for (text, page_bytes, most) in [
            ("CONFIG_NET=y\nCONFIG_MAX_SKB_FRAGS=45\n", 4096, Some(45)),
            ("CONFIG_NET=y\n", 4096, Some(17)),
            ("CONFIG_NET=y\n", 64 << 10, Some(16)),
            ("", 4096, None),
        ] {
            fs::write(root.path().join("boot/config-5.15.0"), text).unwrap();
            assert_eq!(most_fragments(root.path(), page_bytes).unwrap(), most, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_from_what_could_not_be_looked_at() {
        let path = Path::new("/proc/absent");
        assert_eq!(read(path).unwrap(), None);
        assert!(entries(path).unwrap().is_empty());
        let with = |code| known::<()>("open(2)", path, Err(io::Error::from_raw_os_error(code)));
        for code in [libc::ENOENT, libc::EACCES, libc::EINVAL, libc::EOPNOTSUPP] {
            assert_eq!(with(code).unwrap(), None, "{code}");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR, libc::EAGAIN] {
            let error = with(code).unwrap_err().to_string();
            assert!(error.starts_with("open(2) /proc/absent: "), "{error}");
        }
    }
}
