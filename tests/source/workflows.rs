//! What the workflow `ab` does in its steps: its own scripts, run as a runner runs them, with
//! stand-ins for the programs that they call.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The marker by which the workflow finds its comment, as `sendpath ab --markdown` prints it.
fn marker() -> &'static str {
    include_str!("../golden/ab/markdown.md").lines().next().expect("the comment has lines")
}

/// The script of a step of .github/workflows/ab.yml.
fn step(name: &str) -> String {
    let workflow = include_str!("../../.github/workflows/ab.yml");
    let after = workflow.split(&format!("- name: {name}\n")).nth(1).expect("the step is there");
    let lines: Vec<&str> = after.lines().take_while(|line| !line.trim_start().starts_with("- ")).collect();
    let start = lines.iter().position(|line| line.trim() == "run: |").expect("the step has a script") + 1;
    let indent = lines[start].len() - lines[start].trim_start().len();
    let script: Vec<&str> = lines[start..].iter().map(|line| line.get(indent..).unwrap_or("")).collect();
    script.join("\n") + "\n"
}

/// A folder for a runner: programs that stand in for others, a checkout, and the files that a
/// runner gives a step.
struct Runner {
    folder: TempDir,
}

impl Runner {
    fn new() -> Self {
        let runner = Self { folder: tempfile::tempdir().expect("there is a temporary folder") };
        for folder in ["bin", "checkout", "temp"] {
            fs::create_dir(runner.path(folder)).expect("it is new");
        }
        // No runner has to have it, and this one does not.
        runner.program("sudo", "echo \"$@\" >>\"$FOLDER/sudo\"; exit 1");
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).expect("the folder is there");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is there");
    }

    fn git(&self, arguments: &str) -> String {
        let output = Command::new("git")
            .current_dir(self.path("checkout"))
            .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
            .args(arguments.split_whitespace())
            .output()
            .expect("there is git");
        assert!(output.status.success(), "git {arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("names are ASCII").trim().to_owned()
    }

    fn run(&self, step_name: &str, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        // As a runner does where a step names no shell.
        Command::new("bash")
            .args(["-e", "-c", &step(step_name)])
            .current_dir(self.path("checkout"))
            .env("PATH", path)
            .env("FOLDER", self.folder.path())
            .env("RUNNER_TEMP", self.path("temp"))
            .env("GITHUB_STEP_SUMMARY", self.path("summary"))
            .env("GITHUB_OUTPUT", self.path("output"))
            .env("GITHUB_REPOSITORY", "someone/sendpath")
            .envs(variables.iter().copied())
            .output()
            .expect("there is bash")
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A checkout whose base branch has gone on since the branch left it, and the two commits of the
/// base.
fn branched(runner: &Runner) -> (String, String) {
    runner.git("init --quiet --initial-branch main");
    runner.git("commit --quiet --allow-empty --message fork");
    let fork = runner.git("rev-parse HEAD");
    runner.git("commit --quiet --allow-empty --message later");
    let tip = runner.git("rev-parse HEAD");
    runner.git(&format!("checkout --quiet -b change {fork}"));
    runner.git("commit --quiet --allow-empty --message change");
    (fork, tip)
}

#[test]
fn a_pull_request_is_compared_with_what_it_branched_off_from() {
    let runner = Runner::new();
    let (fork, tip) = branched(&runner);
    runner.program(
        "cargo",
        "mkdir -p target/ab/release\n\
         printf '#!/bin/sh\\necho \"$@\" >\"$FOLDER/arguments\"\\necho the table\\nexit 1\\n' >target/ab/release/sendpath\n\
         chmod +x target/ab/release/sendpath\n\
         echo \"$@\" >\"$FOLDER/cargo\"",
    );
    let output = runner.run("compare", &[("BASE", &tip)]);
    assert!(output.status.success(), "the next steps are skipped: {}", text(&output));
    let arguments = runner.read("arguments");
    assert!(
        arguments.starts_with(&format!("ab {fork} HEAD ")) && arguments.contains("--markdown"),
        "{arguments}"
    );
    assert!(runner.read("cargo").contains("--target-dir target/ab"), "ab builds there as well");
    assert!(runner.read("sudo").contains("prlimit --memlock=unlimited --pid "), "{}", runner.read("sudo"));
    assert_eq!(
        (runner.read("output"), runner.read("temp/comment.md")),
        ("code=1\n".into(), "the table\n".into())
    );
    assert_eq!(runner.read("summary"), "the table\n");
}

#[test]
fn a_comment_stands_where_nothing_was_built_or_nothing_was_printed() {
    let killed = "mkdir -p target/ab/release && cd target/ab/release\n\
                  printf '#!/bin/sh\\nkill -9 $$\\n' >sendpath && chmod +x sendpath";
    for (base, cargo, code) in [("main", "exit 101", 4), ("main", killed, 137), ("origin/gone", killed, 4)] {
        let runner = Runner::new();
        branched(&runner);
        runner.program("cargo", cargo);
        let output = runner.run("compare", &[("BASE", base)]);
        assert!(output.status.success(), "{}", text(&output));
        let comment = runner.read("temp/comment.md");
        assert!(
            comment.starts_with(&format!("{}\n### sendpath: nothing was compared\n", marker())),
            "{comment}"
        );
        assert_eq!(runner.read("output"), format!("code={code}\n"));
    }
}

/// What the step `comment` has `gh` do, where an earlier comment has this number, or none is there.
fn posted(earlier: &str) -> (String, String) {
    let runner = Runner::new();
    fs::write(runner.path("temp/comment.md"), "the table\n").expect("the folder is there");
    runner.program(
        "gh",
        "if [[ $* == *--paginate* ]]; then printf '%s' \"$EARLIER\"; printf '%s\\n' \"$@\" >\"$FOLDER/asked\"\n\
         else echo \"$@\" >\"$FOLDER/posted\"; fi",
    );
    let output = runner.run("comment", &[("NUMBER", "7"), ("EARLIER", earlier)]);
    assert!(output.status.success(), "{}", text(&output));
    let body = format!("--field body=@{}", runner.path("temp/comment.md").display());
    (runner.read("asked"), runner.read("posted").replace(&body, "BODY"))
}

#[test]
fn the_comment_is_found_by_its_marker_and_replaced() {
    let (asked, posted_anew) = posted("");
    assert!(asked.contains("repos/someone/sendpath/issues/7/comments\n"), "{asked}");
    assert!(asked.contains(&format!(".body | startswith(\"{}\")", marker())), "{asked}");
    assert_eq!(posted_anew, "api --silent --method POST repos/someone/sendpath/issues/7/comments BODY\n");
    let (_, replaced) = posted("17\n18\n");
    assert_eq!(replaced, "api --silent --method PATCH repos/someone/sendpath/issues/comments/17 BODY\n");
}

#[test]
fn the_job_passes_where_nothing_is_worse_or_it_cannot_be_told() {
    let runner = Runner::new();
    for (code, passes) in [("0", true), ("3", true), ("1", false), ("2", false), ("4", false), ("", false)] {
        assert_eq!(runner.run("verdict", &[("CODE", code)]).status.success(), passes, "{code:?}");
    }
}

#[test]
fn every_action_is_pinned_by_its_hash() {
    for workflow in
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows")).expect("they are there")
    {
        let text = fs::read_to_string(workflow.expect("it can be listed").path()).expect("it can be read");
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
            let (action, version) = line.split_once(" # v").unwrap_or((line, ""));
            let hash = action.split('@').nth(1).unwrap_or_default();
            assert!(hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
            assert!(
                version.starts_with(|digit: char| digit.is_ascii_digit()),
                "{line}: which version is it?"
            );
        }
    }
}
