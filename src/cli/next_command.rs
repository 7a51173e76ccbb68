//! A command that the user may paste next: this program, as the user's shell finds it.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// A command line of this program with `arguments`, quoted for a shell. It runs as it is pasted, in
/// the folder that this process was started in.
pub(super) fn next_command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let surroundings = Surroundings {
        called_as: env::args_os().next().unwrap_or_default().into(),
        search_path: env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
        executable: env::current_exe().unwrap_or_default(),
        folder: env::current_dir().unwrap_or_default(),
    };
    let mut line = quoted(surroundings.program().as_os_str());
    for argument in arguments {
        line.push(' ');
        line.push_str(&quoted(argument.as_ref()));
    }
    line
}

/// This process's command line. What of it is no text is replaced, since JSON has nothing else.
pub(super) fn command_line() -> Vec<String> {
    env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// What it depends on how this program is called.
struct Surroundings {
    /// `argv[0]`.
    called_as: PathBuf,
    /// The folders of `PATH`.
    search_path: Vec<PathBuf>,
    executable: PathBuf,
    /// The folder that relative paths start from.
    folder: PathBuf,
}

impl Surroundings {
    /// The program's name, or a path to it with a slash in it.
    fn program(&self) -> PathBuf {
        let has_slash = self.called_as.as_os_str().as_bytes().contains(&b'/');
        if has_slash && is_executable(&self.folder.join(&self.called_as)) {
            return with_leading_dot(&self.called_as);
        }
        let found = self.search_path.iter().map(|folder| self.folder.join(folder).join("sendpath"));
        if found.into_iter().find(|file| is_executable(file)).is_some_and(|file| self.is_this(&file)) {
            return PathBuf::from("sendpath");
        }
        match self.executable.strip_prefix(&self.folder) {
            Ok(below) => with_leading_dot(below),
            Err(_) => self.executable.clone(),
        }
    }

    fn is_this(&self, file: &Path) -> bool {
        let identity = |file: &Path| file.metadata().ok().map(|file| (file.dev(), file.ino()));
        identity(file).is_some_and(|file| Some(file) == identity(&self.executable))
    }
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

/// A relative path as one that is not read as a command on `PATH` or as an option.
fn with_leading_dot(path: &Path) -> PathBuf {
    match path.components().next() {
        Some(Component::Normal(_)) => Path::new(".").join(path),
        _ => path.to_owned(),
    }
}

/// Quotes one word for a shell, if need be.
fn quoted(word: &OsStr) -> String {
    // A word with a NUL byte cannot have been an argument or a path.
    let bytes = shlex::bytes::try_quote(word.as_bytes()).unwrap_or_default().into_owned();
    std::ffi::OsString::from_vec(bytes).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A folder with `bin/sendpath`, `other/sendpath` and `target/release/sendpath`, all
    /// executable.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for place in ["bin", "other", "target/release"] {
            let place = folder.path().join(place);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("sendpath"), "").unwrap();
            fs::set_permissions(place.join("sendpath"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn program(folder: &Path, called_as: &str, search_path: &[&str], executable: &str) -> String {
        let surroundings = Surroundings {
            called_as: called_as.into(),
            search_path: search_path.iter().map(|place| folder.join(place)).collect(),
            executable: folder.join(executable),
            folder: folder.to_owned(),
        };
        surroundings.program().display().to_string()
    }

    #[test]
    fn called_by_a_path_it_is_named_by_that_path() {
        let home = folder();
        let named = |called_as: &str| program(home.path(), called_as, &["bin"], "target/release/sendpath");
        assert_eq!(named("./target/release/sendpath"), "./target/release/sendpath");
        assert_eq!(named("target/release/sendpath"), "./target/release/sendpath", "as cargo run calls it");
        assert_eq!(named("bin/../target/release/sendpath"), "./bin/../target/release/sendpath");
        let absolute = home.path().join("target/release/sendpath").display().to_string();
        assert_eq!(named(&absolute), absolute);
    }

    #[test]
    fn called_by_its_name_it_is_named_so_if_path_leads_to_it() {
        let home = folder();
        let named = |search_path: &[&str]| program(home.path(), "sendpath", search_path, "bin/sendpath");
        assert_eq!(named(&["none", "bin"]), "sendpath");
        assert_eq!(named(&["other", "bin"]), "./bin/sendpath", "another one comes first");
        assert_eq!(named(&[]), "./bin/sendpath");
    }

    #[test]
    fn elsewhere_it_is_named_by_where_it_lies() {
        let (home, elsewhere) = (folder(), tempfile::tempdir().unwrap());
        let executable = home.path().join("bin/sendpath");
        let surroundings = |called_as: &str| Surroundings {
            called_as: called_as.into(),
            search_path: Vec::new(),
            executable: executable.clone(),
            folder: elsewhere.path().to_owned(),
        };
        // A path that leads nowhere from here, as after a cd by a wrapper.
        assert_eq!(surroundings("./bin/sendpath").program(), executable);
        assert_eq!(surroundings("sendpath").program(), executable);
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        let words: Vec<String> = ["--resume", "it's a $HOME", "", "plain/path-1.2"].map(str::to_owned).into();
        let line: Vec<String> = words.iter().map(|word| quoted(OsStr::new(word))).collect();
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {}", line.join(" "))])
            .output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), words.join("\n") + "\n");
        assert_eq!((line[0].as_str(), line[3].as_str()), ("--resume", "plain/path-1.2"));
    }
}
