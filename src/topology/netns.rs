//! Network namespaces: made anew without a name, or entered by name. See `network_namespaces(7)`
//! and `user_namespaces(7)`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use crate::error::{Error, Result};
use crate::host;

fn path(name: &str) -> PathBuf {
    // Where `ip netns add` puts them.
    PathBuf::from("/run/netns").join(name)
}

pub(super) fn check_exists(name: &str) -> Result<()> {
    let path = path(name);
    fs::metadata(&path).map(drop).map_err(|error| {
        Error::Setting(format!(
            "network namespace {name:?}: {}: {error}: make the lasting pair with `sudo ./netns-setup.sh up`",
            path.display()
        ))
    })
}

pub(super) fn enter_named(name: &str) -> Result<()> {
    let file = File::open(path(name)).map_err(Error::call("open(2) of a network namespace"))?;
    let remedy = "named namespaces take root (CAP_SYS_ADMIN); unset SENDPATH_NETNS to run as an ordinary user in \
                  anonymous ones";
    setns(&file, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::refused("setns(2) into a network namespace", errno, remedy))
}

/// With the privilege, a new network namespace; without it, the same inside a new user namespace in
/// which the caller is root and may make links.
pub(super) fn enter_anonymous() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Err(Errno::EPERM) => {}
        result => return result.map_err(Error::call("unshare(2) CLONE_NEWNET")),
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Error::refused("unshare(2) CLONE_NEWUSER|CLONE_NEWNET", errno, remedy(errno, Path::new("/")))
    })?;
    let write = |file: &str, text: String| {
        let remedy = remedy(Errno::EPERM, Path::new("/"));
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|errno| Error::refused("write(2) of the user namespace's id maps", errno, remedy))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// What lifts the refusal: the first switch that is found to forbid user namespaces, among the
/// files below `root`.
fn remedy(errno: Errno, root: &Path) -> String {
    let lift = if errno == Errno::EINVAL {
        "this process already has a second thread: an ordinary user's namespaces must be made before it"
            .to_owned()
    } else if let Ok(Some(switch)) = host::forbids_user_namespaces(root) {
        format!("{} is {}; lift it with `{}`", switch.name, switch.forbids, switch.remedy())
    } else {
        "user namespaces are forbidden here, as containers do by seccomp; run as root, or start the \
         container with `--privileged`"
            .to_owned()
    };
    format!("{lift}; or measure over loopback with SENDPATH_NETNS=loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_the_switch_that_forbids() {
        for (name, value, command) in [
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
            ),
            ("kernel/unprivileged_userns_clone", "0", "`sudo sysctl -w kernel.unprivileged_userns_clone=1`"),
            ("user/max_user_namespaces", "0", "`sudo sysctl -w user.max_user_namespaces=10000`"),
            ("user/max_user_namespaces", "15000", "--privileged"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("proc/sys").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
            let text = remedy(Errno::EPERM, root.path());
            assert!(text.contains(command), "{name}: {text}");
            assert!(text.contains("SENDPATH_NETNS=loopback"));
        }
    }
}
