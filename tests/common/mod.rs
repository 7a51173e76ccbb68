//! What the tests share: the command, what this machine offers, and skips that say why.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Output};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sys::resource::{Resource, setrlimit};
use sendpath::case::{Engine, Layout, Series};
use serde_json::Value;

/// The command under test, without the variables of whoever runs the tests.
pub fn sendpath() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_sendpath")))
}

pub fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SENDPATH_")) {
        command.env_remove(name);
    }
    command
}

/// Has `command` run where `io_uring_setup(2)` fails with `errno`, as under a container's seccomp
/// filter.
pub fn forbid_io_uring(command: &mut Command, errno: i32) {
    forbid(command, libc::SYS_io_uring_setup, errno);
}

/// Has `command` run where the system call of this number fails with `errno`.
pub fn forbid(command: &mut Command, call: libc::c_long, errno: i32) {
    use std::os::unix::process::CommandExt;

    let step = |code: u32, if_not: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: if_not, k };
    // Loads the number of the call, which is the first word of what a filter sees (`seccomp(2)`).
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program and its filter are live, and the kernel copies them.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if results == [0; 2] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec this makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// `sendpath run` with `arguments`, given as one line.
pub fn run(arguments: &str) -> Output {
    sendpath().arg("run").args(arguments.split_whitespace()).output().expect("the command starts")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON object of a run that has to succeed.
pub fn measure(arguments: &str) -> Result<Value, Failed> {
    let output = run(&format!("--json --duration 20ms {arguments}"));
    if !output.status.success() {
        return Err(format!("{arguments}: {}\n{}", output.status, stderr(&output)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Why anonymous namespaces cannot be made here; none if they can.
static NO_NAMESPACES: LazyLock<Option<String>> = LazyLock::new(|| {
    let output = run("--size 64 --duration 1ms");
    let refused = |text: &str| text.contains("unshare(2)") || text.contains("id maps");
    (!output.status.success()).then(|| stderr(&output)).filter(|text| refused(text))
});

/// Whether this machine has what a way to send takes; says once what is missing. A test that is
/// told that nothing may be skipped finds that out for itself.
pub fn is_offered(way: Series) -> bool {
    static ANSWERS: Mutex<Vec<(Engine, bool)>> = Mutex::new(Vec::new());
    if way.engine == Engine::Syscall || std::env::var_os("SENDPATH_TEST_NO_SKIP").is_some() {
        return true;
    }
    let mut answers = ANSWERS.lock().expect("no test panics here");
    if let Some((_, answer)) = answers.iter().find(|(engine, _)| *engine == way.engine) {
        return *answer;
    }
    let output = run(&format!("--path zero_copy --engine {} --size 64 --duration 1ms", way.engine));
    let answer = output.status.success();
    if !answer {
        eprintln!("left out: engine {}: {}", way.engine, stderr(&output).trim());
    }
    answers.push((way.engine, answer));
    answer
}

/// Every way to send with this layout that this machine has.
pub fn ways(layout: Layout) -> Vec<Series> {
    Series::every(layout).into_iter().filter(|way| is_offered(*way)).collect()
}

/// How many trials run at a time where they run beside each other: what they wait for is a window
/// that has to pass, more often than a CPU.
const AT_A_TIME: usize = 3;

/// Held together by trials that run beside each other, and by one alone that has to be alone.
static COMPANY: RwLock<()> = RwLock::new(());

/// A test that may find out that this machine has not what it needs, which [`skip`] says.
pub fn where_possible(
    name: impl Into<String>,
    test: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        let _others = COMPANY.read().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

/// A test that needs namespaces: skipped, with the reason, where the machine has none to offer.
pub fn in_namespaces(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    where_possible(name, move || with_namespaces(test))
}

/// A test that needs nothing but the loopback interface.
pub fn anywhere(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    where_possible(name, move || test().map(|()| Completion::Completed))
}

/// As [`anywhere`], of what asks for no right and meets no limit: what root and an ordinary user
/// run without a difference. `.ci/run`, which runs the tests as both, sets the variable the second
/// time.
pub fn whoever_runs_it(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let is_second = std::env::var_os("SENDPATH_TEST_SECOND_USER").is_some();
    anywhere(name, test).with_ignored_flag(is_second)
}

/// As [`anywhere`], of what others that run meanwhile would change: no trial runs beside it.
pub fn alone(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let _nobody = COMPANY.write().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

/// As [`in_namespaces`], of what pins or locks much memory: that is limited for a user, not for a
/// process, so that for an ordinary user it is alone.
pub fn pinning(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    if is_root() {
        return in_namespaces(name, test);
    }
    Trial::ignorable_test(name, move || {
        let _nobody = COMPANY.write().unwrap_or_else(PoisonError::into_inner);
        with_namespaces(test)
    })
}

fn with_namespaces(test: impl FnOnce() -> Result<(), Failed>) -> Result<Completion, Failed> {
    match &*NO_NAMESPACES {
        Some(reason) => skip(reason),
        None => test().map(|()| Completion::Completed),
    }
}

/// Lets the command pin so many bytes at most, root or not.
pub fn pinning_at_most(command: &mut Command, bytes: u64) {
    const CAP_IPC_LOCK: libc::c_ulong = 14; // linux/capability.h
    let limit = move || {
        // SAFETY: this prctl(2) takes numbers alone. An ordinary user may not, and has no need to.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) };
        setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes).map_err(std::io::Error::from)
    };
    // SAFETY: both calls are async-signal-safe, and nothing else of the process is touched.
    unsafe { command.pre_exec(limit) };
}

/// Lets the command write no file beyond so many bytes.
pub fn writing_at_most(command: &mut Command, bytes: u64) {
    let limit = move || {
        // SAFETY: the signal is ignored, so that write(2) fails: it is async-signal-safe.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes).map_err(std::io::Error::from)
    };
    // SAFETY: both calls are async-signal-safe, and nothing else of the process is touched.
    unsafe { command.pre_exec(limit) };
}

/// Skips, unless the one who runs the tests knows that this machine has what is missing.
pub fn skip(reason: &str) -> Result<Completion, Failed> {
    if std::env::var_os("SENDPATH_TEST_NO_SKIP").is_some() {
        return Err(format!("would be skipped: {reason}").into());
    }
    Ok(Completion::ignored_with(reason.trim()))
}

/// Whether an error says that an ordinary user may not lock so much memory. For root it would be a
/// fault.
pub fn is_beyond_memlock(error: &str) -> bool {
    !is_root() && error.contains("RLIMIT_MEMLOCK")
}

/// Whether this is root. Root of a user namespace of its own is an ordinary user still.
fn is_root() -> bool {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_every_user = users.split_whitespace().eq(["0", "0", "4294967295"]);
    nix::unistd::geteuid().is_root() && is_every_user
}

/// Skips what only root may do, whatever the one who runs the tests knows of the machine.
pub fn skip_without_root(reason: &str) -> Result<Completion, Failed> {
    if is_root() { skip(reason) } else { Ok(Completion::ignored_with(reason.trim())) }
}

/// As [`side_by_side`], the trials of many modules, each with its module's name, by which they can
/// be chosen.
pub fn of_modules<const N: usize>(modules: [(&str, Vec<Trial>); N]) -> ExitCode {
    let named = |(module, trials): (&str, Vec<Trial>)| {
        trials.into_iter().map(|trial| trial.with_kind(module)).collect::<Vec<_>>()
    };
    side_by_side(modules.into_iter().flat_map(named).collect())
}

/// Runs some trials at a time: none of them changes this process, and those that measure start
/// processes which do.
pub fn side_by_side(trials: Vec<Trial>) -> ExitCode {
    run_trials(trials, AT_A_TIME)
}

/// Runs the trials one after the other, on the main thread: they change what this process has once,
/// such as its namespaces.
pub fn one_by_one(trials: Vec<Trial>) -> ExitCode {
    run_trials(trials, 1)
}

fn run_trials(trials: Vec<Trial>, at_a_time: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_a_time);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A claim's rows that stand nowhere in the page: none, if all is well.
pub fn dangling(page: &sendpath::report::page::Page) -> Vec<String> {
    let tables = [&page.cases, &page.comparisons, &page.cost_model.table, &page.copy_ledger.table];
    let known = |id: &String| tables.iter().any(|table| table.rows.iter().any(|row| row.id == *id));
    let claims = page
        .verdict
        .iter()
        .chain(page.questions.iter().flat_map(|question| &question.answer))
        .chain(&page.cost_model.claims)
        .chain(&page.copy_ledger.claims)
        .flat_map(|claim| &claim.rows);
    let squares = page.maps.iter().flat_map(|map| map.rows.iter().flat_map(|(_, squares)| squares));
    let points = page.figures.iter().flat_map(|figure| figure.lines.iter().flat_map(|line| &line.points));
    claims
        .chain(squares.flat_map(|square| &square.rows))
        .chain(points.map(|point| &point.row))
        .filter(|id| !known(id))
        .cloned()
        .collect()
}
