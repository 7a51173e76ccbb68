//! Why a call was refused that has to do with processes, threads, files and namespaces. As in
//! [`limits`]: what is named as the cause was looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid, getuid};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use super::{cgroup, file, has_capability, sysctl};
use crate::error::{Error, Result};
use crate::limits::{self, Filtered, Found};

/// What a thread takes of the address space: the standard library's default.
const STACK_BYTES: u64 = 2 << 20;

/// The error of `call`, with the limit that caused it where one is found.
pub(crate) fn refused(call: &'static str, errno: io::Error) -> Error {
    let root = Path::new("/");
    let cause = match errno.raw_os_error() {
        Some(libc::EMFILE) => limits::open_files().to_string(),
        Some(libc::ENFILE) => {
            limits::said(None, "fs.file-max, and the files that all processes have open (fs.file-nr)")
        }
        Some(libc::EAGAIN) if call.starts_with("pthread") || call.starts_with("fork") => {
            limits::said(full_of_threads(root), THREADS_LOOK_AT)
        }
        Some(libc::EACCES | libc::EPERM) if call.contains("AF_PACKET") => limits::said(
            lacks(CapabilitySet::NET_RAW, "CAP_NET_RAW"),
            "a security module, and whether this user namespace is that of the network namespace",
        ),
        _ => return Error::call(call)(errno),
    };
    Error::refused(call, errno, cause)
}

const THREADS_LOOK_AT: &str = "RLIMIT_NPROC, the cgroup's pids.max, kernel.threads-max, kernel.pid_max, RLIMIT_AS, and \
                               the memory that is left";

/// A capability, where this process has it not in its own user namespace.
pub(crate) fn lacks(capability: CapabilitySet, name: &str) -> Option<Found> {
    (!limits::has_here(capability)).then(|| Found::new(format!("this process has no {name}")))
}

/// The limit that leaves no room for one more thread; from the files below `root`.
fn full_of_threads(root: &Path) -> Option<Found> {
    let own = getrlimit(Resource::Nproc).current.filter(|_| {
        let may_pass =
            has_capability(CapabilitySet::SYS_RESOURCE) || has_capability(CapabilitySet::SYS_ADMIN);
        !may_pass && !getuid().is_root()
    });
    let by_cgroup = cgroup::threads_left(root).ok()?.filter(|left| *left == 0).map(|_| {
        Found::new("the cgroup's pids.max is reached: raise it (docker run --pids-limit), or run fewer pairs")
    });
    by_cgroup
        .or_else(|| of_user(root, getuid(), own?))
        .or_else(|| of_machine(root))
        .or_else(|| limits::address_space(root, STACK_BYTES))
}

/// `RLIMIT_NPROC`, where the threads of `user` have reached it.
fn of_user(root: &Path, user: Uid, limit: u64) -> Option<Found> {
    let threads: u64 = fs::read_dir(root.join("proc"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let value =
                |key| status.lines().find_map(|line: &str| line.strip_prefix(key)?.split_whitespace().next());
            (value("Uid:")? == user.to_string()).then(|| value("Threads:")?.parse::<u64>().ok())?
        })
        .sum();
    (threads >= limit).then(|| {
        Found::new(format!("RLIMIT_NPROC is {limit}, and user {user} has {threads} threads"))
            .lifted_by("ulimit -u unlimited")
    })
}

/// `kernel.threads-max`, where the machine's threads have reached it.
fn of_machine(root: &Path) -> Option<Found> {
    let most = file::read(&root.join("proc/sys/kernel/threads-max")).ok()??.parse::<u64>().ok()?;
    let load = file::read(&root.join("proc/loadavg")).ok()??;
    let threads = load.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok()?;
    (threads >= most).then(|| {
        Found::new(format!("kernel.threads-max is {most}, and the machine has {threads} threads"))
            .lifted_by(format!("sudo sysctl -w kernel.threads-max={}", most.saturating_mul(2)))
    })
}

/// The error of `call` that was to run `program`.
pub(crate) fn not_run(call: &'static str, program: &Path, errno: io::Error) -> Error {
    if !matches!(errno.raw_os_error(), Some(libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::ENOTDIR)) {
        return refused(call, errno);
    }
    let shown = program.display();
    let cause = match file_of(program) {
        None => format!("there is no program {shown}; a line for a shell is given as sh -c '...'"),
        Some(file) if file.is_dir() => format!("{shown} is a folder"),
        Some(file) => limits::said(
            unusable(&file),
            &format!(
                "the rights of {} and of the folders above it, a mount with noexec, the loader that it names (file {shown})",
                file.display()
            ),
        ),
    };
    Error::refused(call, errno, cause)
}

/// The file that a program's name stands for: by `PATH`, unless there is a slash in it.
fn file_of(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 || program.is_absolute() {
        return program.exists().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What is wrong with a file that is there and was to be run.
fn unusable(file: &Path) -> Option<Found> {
    use nix::unistd::{AccessFlags, access};
    use std::io::Read;
    // Reading from a pipe could wait for ever.
    if !file.is_file() {
        return Some(Found::new(format!("{} is no regular file", file.display())));
    }
    if access(file, AccessFlags::X_OK).is_err() {
        return Some(
            Found::new(format!("{} may not be executed", file.display()))
                .lifted_by(format!("chmod +x {}", file.display())),
        );
    }
    let mut start = Vec::new();
    fs::File::open(file).ok()?.take(256).read_to_end(&mut start).ok()?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?).into_owned();
        let interpreter = line.split_whitespace().next()?.to_owned();
        return (!Path::new(&interpreter).exists()).then(|| {
            Found::new(format!("{} names the interpreter {interpreter}, which is not there", file.display()))
        });
    }
    (!start.starts_with(b"\x7fELF")).then(|| {
        Found::new(format!("{} is no program: it begins with neither #! nor the mark of ELF", file.display()))
    })
}

/// A sysctl that forbids user namespaces to ordinary users.
struct UserNamespaceSwitch {
    /// Its name, as `sysctl` takes it.
    name: &'static str,
    /// The value that forbids them.
    forbids: &'static str,
    /// A value that allows them.
    allows: &'static str,
    /// What a call that it forbids fails with.
    errnos: &'static [i32],
}

const USER_NAMESPACE_SWITCHES: [UserNamespaceSwitch; 3] = [
    UserNamespaceSwitch {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        forbids: "1",
        allows: "0",
        errnos: &[libc::EPERM, libc::EACCES],
    },
    UserNamespaceSwitch {
        name: "kernel.unprivileged_userns_clone",
        forbids: "0",
        allows: "1",
        errnos: &[libc::EPERM],
    },
    UserNamespaceSwitch {
        name: "user.max_user_namespaces",
        forbids: "0",
        allows: "10000",
        errnos: &[libc::ENOSPC, libc::EUSERS],
    },
];

/// What forbids user namespaces to an ordinary user, if something is found; from the files below
/// `root`. Of an `errno` that was seen, only what causes that one.
///
/// # Errors
/// A file that could not be read at this moment.
pub(crate) fn forbids_user_namespaces(root: &Path, errno: Option<i32>) -> Result<Option<Found>> {
    let causes = |code| errno.is_none_or(|errno| errno == code);
    // A filter comes before the kernel; then in the order of `create_user_ns` in
    // kernel/user_namespace.c.
    if causes(libc::EPERM) {
        if let Some(found) = limits::seccomp_filter(root, Filtered::Unshare) {
            return Ok(Some(found));
        }
        if is_chrooted(root)? {
            let what = "this process is in a chroot, where the kernel makes no user namespaces: start it outside of \
                        the chroot, or as root";
            return Ok(Some(Found::new(what)));
        }
        if !is_mapped(root, geteuid())? {
            let what =
                format!("this user namespace has no user for {}, whom this process runs as", geteuid());
            return Ok(Some(Found::new(what)));
        }
    }
    for switch in
        USER_NAMESPACE_SWITCHES.iter().filter(|switch| switch.errnos.iter().any(|code| causes(*code)))
    {
        let UserNamespaceSwitch { name, forbids, allows, .. } = switch;
        let path = root.join("proc/sys").join(name.replace('.', "/"));
        if file::read(&path)?.is_some_and(|value| value == *forbids) {
            let found =
                Found::new(format!("{name} is {forbids}, which forbids user namespaces to ordinary users"));
            return Ok(Some(found.lifted_by(format!("sudo sysctl -w {name}={allows}"))));
        }
    }
    Ok(None)
}

/// Whether this process's root is not that of its mount namespace, by the files below `root`.
/// False where that cannot be seen.
fn is_chrooted(root: &Path) -> Result<bool> {
    // The fifth word of a line is where it is mounted, as the process sees it.
    let mount = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.nth(3)?.to_owned()))
    };
    let read = |path: &str| -> Result<Option<Vec<(String, String)>>> {
        Ok(file::read(&root.join(path))?.map(|text| text.lines().filter_map(mount).collect()))
    };
    let Some(own) = read("proc/self/mountinfo")?.filter(|mounts| !mounts.is_empty()) else {
        return Ok(false);
    };
    // Outside of a chroot something is mounted at the root. In one, it is so only where its folder
    // is itself a mount: then the first process sees that one elsewhere.
    let Some((number, _)) = own.iter().rev().find(|(_, point)| point == "/") else { return Ok(true) };
    let of_first = read("proc/1/mountinfo")?.unwrap_or_default();
    Ok(of_first.iter().any(|(other, point)| other == number && point != "/"))
}

/// Whether the user namespace of this process knows `user`, by the files below `root`. True where
/// that cannot be seen.
fn is_mapped(root: &Path, user: Uid) -> Result<bool> {
    let Some(text) = file::read(&root.join("proc/self/uid_map"))? else { return Ok(true) };
    let holds = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some((first..first.saturating_add(count)).contains(&u64::from(user.as_raw())))
    };
    Ok(text.lines().filter_map(holds).any(|holds| holds))
}

/// What to say where a user namespace was refused by `errno`; from the files below `root`.
pub(crate) fn no_user_namespace(root: &Path, errno: i32) -> String {
    let found = match errno {
        libc::EINVAL => limits::status(root, "Threads:").filter(|threads| threads != "1").map(|threads| {
            Found::new(format!(
                "this process has {threads} threads: an ordinary user's namespaces have to be made before the second"
            ))
        }),
        errno => forbids_user_namespaces(root, Some(errno)).ok().flatten(),
    };
    let look_at = format!(
        "user.max_user_namespaces ({}) and user.max_net_namespaces ({}), a security module (AppArmor, SELinux), a seccomp \
         filter, whether the kernel has user namespaces (CONFIG_USER_NS)",
        sysctl("user/max_user_namespaces"),
        sysctl("user/max_net_namespaces")
    );
    let cause = limits::said(found, &look_at);
    format!("{cause}; root needs none; or measure over loopback with SENDPATH_NETNS=loopback")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::tree as root;

    #[test]
    fn only_an_errno_of_one_cause_names_it_unseen() {
        let of = |call, code| refused(call, io::Error::from_raw_os_error(code)).to_string();
        assert!(of("socket(2)", libc::EMFILE).contains("RLIMIT_NOFILE"));
        assert_eq!(of("socket(2)", libc::EACCES), "socket(2): Permission denied (os error 13)");
        let timed_out = of("connect(2)", libc::ETIMEDOUT);
        assert!(!timed_out.contains("somaxconn"), "a firewall may drop it: {timed_out}");
        let thread = of("pthread_create(3)", libc::EAGAIN);
        assert!(thread.contains("not known") || thread.contains("pids.max"), "{thread}");
    }

    #[test]
    fn a_limit_of_threads_is_to_blame_only_where_it_is_reached() {
        let status = |user, threads| format!("Name:\tx\nUid:\t{user}\t0\t0\t0\nThreads:\t{threads}\n");
        let root = root(&[
            ("proc/10/status", &status(1000, 30)),
            ("proc/11/status", &status(1000, 12)),
            ("proc/12/status", &status(0, 500)),
            ("proc/loadavg", "0.1 0.1 0.1 1/542 77\n"),
            ("proc/sys/kernel/threads-max", "600\n"),
        ]);
        let user = |limit| of_user(root.path(), Uid::from_raw(1000), limit);
        assert!(user(42).unwrap().what.contains("RLIMIT_NPROC is 42, and user 1000 has 42 threads"));
        assert_eq!(user(43), None);
        assert_eq!(of_machine(root.path()), None);
        fs::write(root.path().join("proc/sys/kernel/threads-max"), "542\n").unwrap();
        assert!(of_machine(root.path()).unwrap().what.contains("threads-max is 542"));
        let cgroup = [
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n"),
            ("cg/a/pids.max", "5\n"),
            ("cg/a/pids.current", "5\n"),
        ];
        let full = crate::fake::tree(&cgroup);
        assert!(full_of_threads(full.path()).unwrap().what.contains("pids.max"));
        fs::write(full.path().join("cg/a/pids.current"), "4\n").unwrap();
        assert_eq!(full_of_threads(full.path()), None);
    }

    const HOME: (&str, &str) =
        ("proc/self/mountinfo", "21 1 8:1 / / rw - ext4 /dev/a rw\n30 21 0:5 / /proc rw - proc proc rw\n");

    #[test]
    fn a_chroot_is_seen_by_its_mounts() {
        let folder = ("proc/self/mountinfo", "30 21 0:5 / /proc rw - proc proc rw\n");
        let mount = ("proc/self/mountinfo", "77 21 8:1 /r / rw - ext4 /dev/a rw\n");
        let first =
            ("proc/1/mountinfo", "21 1 8:1 / / rw - ext4 /dev/a rw\n77 21 8:1 /r /r rw - ext4 /dev/a rw\n");
        for (files, is_one) in [
            (&[][..], false),
            (&[HOME][..], false),
            (&[HOME, first], false),
            (&[folder], true),
            (&[mount], false),
            (&[mount, first], true),
        ] {
            assert_eq!(is_chrooted(root(files).path()).unwrap(), is_one, "{files:?}");
        }
        let text = no_user_namespace(root(&[folder]).path(), libc::EPERM);
        assert!(text.contains("in a chroot") && !text.contains("seccomp"), "{text}");
    }

    #[test]
    fn a_user_whom_the_namespace_does_not_know_is_told() {
        let of =
            |map: &str| is_mapped(root(&[("proc/self/uid_map", map)]).path(), Uid::from_raw(65_534)).unwrap();
        assert!(of("         0          0 4294967295\n"));
        assert!(!of("         0       1000          1\n") && !of(""));
        assert!(is_mapped(Path::new("/nowhere"), Uid::from_raw(1)).unwrap());
    }

    #[test]
    fn the_remedy_names_the_switch_that_forbids_and_no_other() {
        for (name, value, errno, command) in [
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                libc::EACCES,
                "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
            ),
            (
                "kernel/unprivileged_userns_clone",
                "0",
                libc::EPERM,
                "`sudo sysctl -w kernel.unprivileged_userns_clone=1`",
            ),
            (
                "user/max_user_namespaces",
                "0",
                libc::ENOSPC,
                "`sudo sysctl -w user.max_user_namespaces=10000`",
            ),
            ("user/max_user_namespaces", "0", libc::EPERM, "the cause is not known"),
            ("user/max_user_namespaces", "15000", libc::EPERM, "the cause is not known"),
        ] {
            let path = format!("proc/sys/{name}");
            let root = root(&[HOME, (&path, value)]);
            let text = no_user_namespace(root.path(), errno);
            assert!(text.contains(command), "{name}: {text}");
            assert!(text.contains("SENDPATH_NETNS=loopback"));
        }
    }

    #[test]
    fn a_second_thread_is_to_blame_only_where_there_is_one() {
        for (threads, is_said) in [("2", true), ("1", false)] {
            let status = format!("Threads:\t{threads}\n");
            let text = no_user_namespace(root(&[("proc/thread-self/status", &status)]).path(), libc::EINVAL);
            assert_eq!(text.contains("before the second"), is_said, "{text}");
        }
    }

    #[test]
    fn why_a_program_does_not_run_is_looked_up() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let why =
            |path: &Path, code| not_run("execve(2)", path, io::Error::from_raw_os_error(code)).to_string();
        for (path, code, said) in [
            (folder.path().join("absent"), libc::ENOENT, "there is no program"),
            (PathBuf::from("sendpath-absent"), libc::ENOENT, "there is no program"),
            (folder.path().to_owned(), libc::EACCES, "is a folder"),
            (file("plain", "x", 0o644), libc::EACCES, "may not be executed"),
            (
                file("script", "#!/absent/sh\n", 0o755),
                libc::ENOENT,
                "interpreter /absent/sh, which is not there",
            ),
            (file("text", "hello", 0o755), libc::ENOEXEC, "is no program"),
            (file("good", "#!/bin/sh\n", 0o755), libc::EACCES, "noexec"),
            (file("other", "#!/bin/sh\n", 0o755), libc::EMFILE, "RLIMIT_NOFILE"),
        ] {
            let text = why(&path, code);
            assert!(text.contains(said), "{}: {text}", path.display());
        }
    }
}
