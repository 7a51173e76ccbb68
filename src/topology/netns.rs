//! Network namespaces: made anew without a name, or entered by name. See `network_namespaces(7)`
//! and `user_namespaces(7)`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use nix::unistd::{getegid, geteuid};
use rustix::thread::CapabilitySet;

use crate::error::{Error, Result};
use crate::host;
use crate::limits::{self, Filtered, Found};

fn path(name: &str) -> PathBuf {
    // Where `ip netns add` puts them.
    PathBuf::from("/run/netns").join(name)
}

pub(super) fn check_exists(name: &str) -> Result<()> {
    let path = path(name);
    fs::metadata(&path).map(drop).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => ": make the lasting pair with `sudo ./netns-setup.sh up`",
            _ => "",
        };
        Error::Setting(format!("network namespace {name:?}: {}: {error}{remedy}", path.display()))
    })
}

pub(super) fn enter_named(name: &str) -> Result<()> {
    let path = path(name);
    let file = File::open(&path).map_err(Error::file("open(2)", &path))?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        let found = match errno {
            Errno::EPERM => host::lacks(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN").map(|found| Found {
                what: format!(
                    "{}, which entering a named namespace takes: run as root, or unset SENDPATH_NETNS to run in anonymous \
                     ones",
                    found.what
                ),
                ..found
            }),
            Errno::EINVAL if !is_a_namespace(&file) => {
                let what = format!("{} is a plain file, as a namespace leaves that is gone", path.display());
                Some(Found::new(what).lifted_by("sudo ./netns-setup.sh down; sudo ./netns-setup.sh up"))
            }
            _ => None,
        };
        let look_at = "whether it belongs to another user namespace (lsns), a seccomp filter, a security module";
        Error::refused("setns(2) into a network namespace", errno, limits::said(found, look_at))
    })
}

/// Whether a file lies in the file system of namespaces.
fn is_a_namespace(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// With the privilege, a new network namespace; without it, the same inside a new user namespace in
/// which the caller is root and may make links.
pub(super) fn enter_anonymous() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Err(Errno::EPERM) => {}
        result => {
            return result.map_err(|errno| {
                not_made(
                    "unshare(2) CLONE_NEWNET",
                    errno,
                    "or measure over loopback with SENDPATH_NETNS=loopback",
                )
            });
        }
    }
    let (user, group) = (geteuid(), getegid());
    let refused = |call, errno: i32| {
        let cause = host::no_user_namespace(Path::new("/"), errno);
        Error::refused(call, io::Error::from_raw_os_error(errno), cause)
    };
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| refused("unshare(2) CLONE_NEWUSER|CLONE_NEWNET", errno as i32))?;
    let write = |file: &str, text: String| {
        let path = PathBuf::from("/proc/self").join(file);
        fs::write(&path, text).map_err(|errno| match errno.raw_os_error() {
            // A security module that lets the namespace be made, and takes its rights away.
            Some(code @ (libc::EPERM | libc::EACCES)) => {
                refused("write(2) of the user namespace's id maps", code)
            }
            _ => Error::file("write(2)", &path)(errno),
        })
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// A network namespace could not be made. What else can be done stands behind the cause.
pub(super) fn not_made(call: &'static str, errno: Errno, instead: &str) -> Error {
    let limit = || host::sysctl("user/max_net_namespaces");
    let found = match errno {
        Errno::EPERM => host::lacks(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN")
            .or_else(|| limits::seccomp_filter(Path::new("/"), Filtered::Unshare)),
        Errno::ENOSPC if limit() == "0" => Some(
            Found::new("user.max_net_namespaces is 0, which forbids them")
                .lifted_by("sudo sysctl -w user.max_net_namespaces=10000"),
        ),
        Errno::EINVAL if !Path::new("/proc/self/ns/net").exists() => {
            Some(Found::new("this kernel has no network namespaces (CONFIG_NET_NS), or /proc is not mounted"))
        }
        _ => None,
    };
    let look_at =
        format!("user.max_net_namespaces (now {}), the memory that is left, a security module", limit());
    Error::refused(call, errno, format!("{}; {instead}", limits::said(found, &look_at)))
}
