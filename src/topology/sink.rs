//! The sink: a network that takes every frame and copies none.
//!
//! A veth pair whose far end is the only port of an Ethernet bridge. A frame to an address that
//! nobody has is to be flooded to the bridge's other ports; there are none, so the kernel drops it,
//! before anything that would copy what a zero-copy send has lent to it ([`skb_orphan_frags_rx`]
//! stands after the bridge). A frame to an unknown address without a bridge is dropped as well, but
//! before Linux 6.17 only after the copy.
//!
//! It lies in a network namespace of its own, without a name: the kernel takes all of it away with
//! the process.
//!
//! [`skb_orphan_frags_rx`]: https://elixir.bootlin.com/linux/v6.1/source/net/core/dev.c

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;

use netlink_packet_route::link::LinkAttribute;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

use super::veth::{Mac, Netlink, named};
use super::{PREFIX_BITS, netns};
use crate::environment::{Interface, Topology};
use crate::error::{Error, Result};
use crate::host;
use crate::limits::{self, Found};

/// The veth's end that connections leave by.
pub(super) const SENDER: &str = "sink_s";
/// Its far end, the bridge's only port.
pub(super) const PORT: &str = Sink::PORT;
const BRIDGE: &str = "sink_b";

/// The sink's network, which lives as long as this.
#[derive(Debug)]
pub struct Sink {
    netns: File,
    /// The number of the interface at which frames that seem to come from the peer are sent.
    pub port_index: i32,
    /// The MTU of its link.
    pub mtu_bytes: u32,
}

impl Sink {
    /// Where its frames come in.
    pub const PORT: &str = "sink_p";
    /// The address that connections are made from.
    pub const SENDER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 2, 1);
    /// The address that they are made to, which nobody has.
    pub const NOBODY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 2, 2);
    /// The Ethernet address of the sending end.
    pub const SENDER_MAC: Mac = [0x02, 0x53, 0x50, 0, 0, 1];
    /// The Ethernet address that frames go to. No port has it.
    pub const NOBODY_MAC: Mac = [0x02, 0x53, 0x50, 0, 0, 2];
    /// As the kernel's for a veth.
    const DEFAULT_MTU_BYTES: u32 = 1500;

    /// Makes the network.
    ///
    /// # Errors
    /// [`Refused`](crate::path::Error::Refused) where a namespace or a bridge may not be made; else
    /// the call that failed.
    pub fn make(mtu_bytes: Option<u32>) -> Result<Self> {
        let mtu_bytes = mtu_bytes.unwrap_or(Self::DEFAULT_MTU_BYTES);
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
                let instead = "leave --netns (SENDPATH_NETNS) at its default, anonymous, or run as root";
                netns::not_made("unshare(2) CLONE_NEWNET of the sink", errno, instead)
            })?;
            let netns = File::open("/proc/thread-self/ns/net")
                .map_err(Error::call("open(2) of the sink's network namespace"))?;
            let mut netlink = Netlink::open()?;
            let mut sender = named(SENDER, Some(mtu_bytes));
            sender.attributes.push(LinkAttribute::Address(Self::SENDER_MAC.to_vec()));
            netlink.create_veth(sender, named(PORT, Some(mtu_bytes)))?;
            netlink.create_bridge(BRIDGE, mtu_bytes).map_err(no_bridge)?;
            netlink.set_controller(PORT, BRIDGE)?;
            netlink.add_address(SENDER, Self::SENDER_ADDRESS, PREFIX_BITS)?;
            for name in ["lo", BRIDGE, PORT, SENDER] {
                netlink.set_up(name)?;
            }
            // Its carrier comes with that of the sender's end, so it is activated later. A first
            // request that is dropped there would never be answered.
            for name in [PORT, SENDER] {
                netlink.wait_until_active(name)?;
            }
            netlink.add_neighbour(SENDER, Self::NOBODY_ADDRESS, Self::NOBODY_MAC)?;
            // A connection that rested may go on at the rate that it had: there is no network to be
            // careful of. Where this cannot be set, the acknowledgements walk through another slow
            // start.
            drop(fs::write("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"));
            // Nothing is lost here: a sender that was off its CPU for some milliseconds before it
            // acknowledged need not probe for a loss, which would send a segment again (RFC 8985,
            // tail loss probe).
            drop(fs::write("/proc/sys/net/ipv4/tcp_early_retrans", "0"));
            let port_index =
                if_nametoindex(PORT).map_err(Error::call("if_nametoindex(3) of the sink's port"))?;
            let port_index = i32::try_from(port_index).unwrap_or(i32::MAX);
            Ok(Self { netns, port_index, mtu_bytes })
        })
    }

    /// The end that connections leave by, as it is.
    ///
    /// # Errors
    /// A failed request, or [`Error::NoLink`] where it is gone.
    pub fn interface(&self) -> Result<Interface> {
        self.within(|| {
            let mut interfaces = super::interfaces(&Topology::Anonymous)?.into_iter();
            let found = interfaces.find(|interface| interface.address == Self::SENDER_ADDRESS);
            found.ok_or_else(|| Error::NoLink("the sink's link is gone from its namespace".to_owned()))
        })
    }

    /// Runs `work` on a thread inside the sink's namespace, where the sockets that it makes then
    /// stay.
    ///
    /// # Errors
    /// What `work` ends with, or a failed `setns(2)`.
    pub fn within<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        on_a_thread(|| {
            setns(&self.netns, CloneFlags::CLONE_NEWNET)
                .map_err(Error::call("setns(2) into the sink's network namespace"))?;
            work()
        })
    }
}

/// A bridge could not be made.
fn no_bridge(error: Error) -> Error {
    let look_at =
        "whether the module bridge can be loaded here (lsmod, dmesg); without a bridge a sink copies";
    error.explained(libc::EOPNOTSUPP, || limits::said(module_is_missing(Path::new("/")), look_at))
}

/// That the kernel has no bridges loaded, by the files below `root`.
fn module_is_missing(root: &Path) -> Option<Found> {
    if root.join("sys/module/bridge").exists() || !root.join("sys/module").exists() {
        return None;
    }
    let release = limits::release(root)?;
    let list = |name: &str| {
        let path = root.join("lib/modules").join(&release).join(name);
        fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.contains("/bridge.ko")))
    };
    let what = "this kernel has no bridges loaded, and without one a sink copies";
    Some(if list("modules.dep") {
        Found::new(what).lifted_by("sudo modprobe bridge")
    } else {
        Found::new(format!("{what}; a module of that name is not below /lib/modules/{release} either"))
    })
}

/// Runs `work` on a thread of its own, so that the caller stays in its namespace.
fn on_a_thread<R: Send>(work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    thread::scope(|threads| {
        let builder = thread::Builder::new().name("sink".to_owned());
        let thread =
            builder.spawn_scoped(threads, work).map_err(|errno| host::refused("pthread_create(3)", errno))?;
        thread.join().unwrap_or_else(|_| Err(Error::Protocol("the sink's thread panicked".to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn a_module_is_missed_only_where_it_is_not_loaded_and_loaded_only_where_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            fake::write(root.path(), path, text);
        };
        assert_eq!(module_is_missing(root.path()), None, "nothing can be seen");
        write("proc/sys/kernel/osrelease", "6.1.0\n");
        write("sys/module/veth/x", "");
        let none = module_is_missing(root.path()).unwrap();
        assert!(none.remedy.is_none() && none.what.contains("/lib/modules/6.1.0"), "{none}");
        write("lib/modules/6.1.0/modules.dep", "kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz\n");
        assert_eq!(module_is_missing(root.path()).unwrap().remedy.as_deref(), Some("sudo modprobe bridge"));
        write("sys/module/bridge/x", "");
        assert_eq!(module_is_missing(root.path()), None);
    }
}
