//! `build.rs` in a repository of its own: the revision in the program is right, and nothing is
//! built twice.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs a command in `folder` and gives what it printed on both outputs.
fn run(folder: &Path, command: &str) -> Result<String> {
    let mut words = command.split_whitespace();
    let mut command = Command::new(words.next().ok_or("no command")?);
    // The variables of the cargo that runs this test are not for the package that is built here.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") || name.starts_with("GIT_"))
    {
        if name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    let output = command.current_dir(folder).args(words).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    Ok(text.trim().to_owned())
}

fn commit(folder: &Path) -> Result<String> {
    run(folder, "git add --all")?;
    run(folder, "git -c user.name=test -c user.email=test@localhost commit --quiet --message text")?;
    run(folder, "git rev-parse --short=12 HEAD")
}

/// Builds with `arguments`, and tells whether the package was compiled.
fn compiles(folder: &Path, arguments: &str) -> Result<bool> {
    let text = run(folder, &format!("cargo {arguments} --offline --locked --target-dir target -v"))?;
    assert!(text.contains("Compiling") != text.contains("Fresh"), "{text}");
    Ok(text.contains("Compiling"))
}

/// What the program says it was built from.
fn built_from(folder: &Path) -> Result<String> {
    run(folder, "target/debug/built")
}

/// A repository with this package's build script, and a clone of it.
fn clone() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let origin = folder.path().join("origin");
    for (path, text) in [
        ("Cargo.toml", "[package]\nname = \"built\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n"),
        ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"built\"\nversion = \"0.0.0\"\n"),
        (".gitignore", "/target\n"),
        ("build.rs", include_str!("../../build.rs")),
        ("README", "text\n"),
        (
            "src/main.rs",
            "fn main() { println!(\"{} {}\", env!(\"SENDPATH_REVISION\"), env!(\"SENDPATH_DIRTY\")); }\n",
        ),
    ] {
        let path = origin.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&origin))?;
        fs::write(path, text)?;
    }
    run(&origin, "git init --quiet")?;
    commit(&origin)?;
    run(folder.path(), "git clone --quiet origin clone")?;
    let clone = folder.path().join("clone");
    Ok((folder, clone))
}

#[test]
fn in_a_fresh_clone_only_the_first_command_compiles() -> Result<()> {
    let (_folder, clone) = clone()?;
    assert!(compiles(&clone, "build")?);
    assert!(!compiles(&clone, "build")?);
    // The tests are another target, in which the build script is not run again.
    compiles(&clone, "test --no-run")?;
    for arguments in ["build", "test --no-run", "build"] {
        assert!(!compiles(&clone, arguments)?, "{arguments}");
    }
    // Git rewrites the index in both: the program is the same.
    run(&clone, "touch README")?;
    run(&clone, "git status")?;
    run(&clone, "git update-index --force-write-index")?;
    assert!(!compiles(&clone, "build")?);
    Ok(())
}

#[test]
fn the_program_names_the_revision_and_whether_its_source_was_changed() -> Result<()> {
    let (_folder, clone) = clone()?;
    let first = run(&clone, "git rev-parse --short=12 HEAD")?;
    let builds = |expected: &str, why: &str| -> Result<()> {
        compiles(&clone, "build")?;
        assert_eq!(built_from(&clone)?, expected, "{why}");
        Ok(())
    };
    builds(&format!("{first} false"), "a fresh clone")?;
    fs::write(clone.join("README"), "another text\n")?;
    builds(&format!("{first} false"), "a change of a file that is not built")?;
    let main = clone.join("src/main.rs");
    let source = fs::read_to_string(&main)?;
    fs::write(&main, format!("{source}// changed\n"))?;
    builds(&format!("{first} true"), "a change")?;
    run(&clone, "git add src")?;
    builds(&format!("{first} true"), "a change that is staged")?;
    let second = commit(&clone)?;
    builds(&format!("{second} false"), "a change that is committed")?;
    fs::write(clone.join("src/more.rs"), "")?;
    builds(&format!("{second} true"), "a file that git does not know")?;
    fs::remove_file(clone.join("src/more.rs"))?;
    builds(&format!("{second} false"), "the same without it")?;
    run(&clone, &format!("git checkout --quiet {first}"))?;
    builds(&format!("{first} false"), "another revision")?;
    Ok(())
}
