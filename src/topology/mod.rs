//! Where the two processes run, and how they are joined.
//!
//! | topology | server in | client in | joined by | who may |
//! |---|---|---|---|---|
//! | [`Topology::Anonymous`] | a network namespace of its own | likewise | a veth pair | root; others inside a user namespace |
//! | [`Topology::Named`] | a namespace made before | likewise | what was put there | root |
//! | [`Topology::Loopback`] | the namespace it was started in | likewise | `lo` | anyone |
//!
//! Anonymous namespaces have no name in the file system: the kernel takes them, and the veth pair in
//! them, away with the last process, however that ends.

pub mod affinity;
pub(crate) mod cache;
pub(crate) mod copy_causes;
mod cores;
mod ethtool;
mod netns;
mod sink;
mod veth;

use std::net::Ipv4Addr;

pub(crate) use self::sink::Sink;
pub use crate::environment::{Interface, Topology};
use crate::error::{Error, Result};
use crate::sample::Side;

/// Names and addresses in anonymous namespaces; `netns-setup.sh` uses the same for lasting ones.
const SERVER_LINK: (&str, Ipv4Addr) = ("veth_s", Ipv4Addr::new(10, 200, 1, 1));
const CLIENT_LINK: (&str, Ipv4Addr) = ("veth_c", Ipv4Addr::new(10, 200, 1, 2));
const PREFIX_BITS: u8 = 24;

/// The range of `--mtu`: the least that IPv4 asks of a link, to the most that veth takes.
const MTU_BYTES: std::ops::RangeInclusive<u32> = 576..=65535;

impl Topology {
    /// Refuses, before anything is set up, a namespace that does not exist and an MTU that cannot be
    /// set here.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self, mtu_bytes: Option<u32>) -> Result<()> {
        if let Self::Named { server, client } = self {
            netns::check_exists(server)?;
            netns::check_exists(client)?;
        }
        match (self, mtu_bytes) {
            (_, None) => Ok(()),
            (Self::Anonymous, Some(bytes)) if MTU_BYTES.contains(&bytes) => Ok(()),
            (Self::Anonymous, Some(bytes)) => Err(Error::Setting(format!(
                "MTU {bytes} is out of range: {} to {} bytes",
                MTU_BYTES.start(),
                MTU_BYTES.end()
            ))),
            (Self::Named { .. }, Some(_)) => Err(Error::Setting(
                "the MTU of lasting namespaces is set where they are made: netns-setup.sh up --mtu BYTES"
                    .to_owned(),
            )),
            (Self::Loopback, Some(_)) => {
                Err(Error::Setting("loopback's MTU belongs to the machine and is left alone".to_owned()))
            }
        }
    }

    /// Moves the calling thread, and the threads that it makes later, to where `side` runs. For good.
    /// An ordinary user's process must have no second thread yet.
    ///
    /// # Errors
    /// [`Error::Refused`], with the command that allows it.
    pub fn enter(&self, side: Side) -> Result<()> {
        match (self, side) {
            (Self::Anonymous, _) => netns::enter_anonymous(),
            (Self::Named { server, .. }, Side::Server) => netns::enter_named(server),
            (Self::Named { client, .. }, Side::Client) => netns::enter_named(client),
            (Self::Loopback, _) => Ok(()),
        }
    }

    /// Joins the server's namespace, which the caller is in, to that of the client process.
    ///
    /// # Errors
    /// A failed netlink request.
    pub fn join(&self, client_pid: u32, mtu_bytes: Option<u32>) -> Result<()> {
        if *self == Self::Anonymous {
            veth::Netlink::open()?.create_veth(SERVER_LINK.0, CLIENT_LINK.0, client_pid, mtu_bytes)?;
        }
        Ok(())
    }

    /// Gives `side`'s end of the link its address and brings it up. The caller is in that namespace.
    ///
    /// # Errors
    /// A failed netlink request.
    pub fn bring_up(&self, side: Side) -> Result<()> {
        if *self != Self::Anonymous {
            return Ok(());
        }
        let (name, address) = match side {
            Side::Server => SERVER_LINK,
            Side::Client => CLIENT_LINK,
        };
        let mut netlink = veth::Netlink::open()?;
        netlink.add_address(name, address, PREFIX_BITS)?;
        netlink.set_up(name)?;
        netlink.set_up("lo")
    }

    /// The interfaces over which a pair could run, in the namespace that the caller is in.
    ///
    /// # Errors
    /// A failed `getifaddrs(3)`, `socket(2)` or netlink request.
    pub fn interfaces(&self) -> Result<Vec<Interface>> {
        let addresses = nix::ifaddrs::getifaddrs().map_err(Error::call("getifaddrs(3)"))?;
        let mut netlink = veth::Netlink::open()?;
        let ethtool = ethtool::Ethtool::open()?;
        let mut interfaces = Vec::new();
        for entry in addresses {
            let (Some(address), Some(mask)) = (ipv4(entry.address), ipv4(entry.netmask)) else { continue };
            if address.is_loopback() == (*self == Self::Loopback) {
                let name = entry.interface_name;
                let mtu_bytes = netlink.mtu_bytes(&name)?;
                let (driver, offloads) = (ethtool.driver(&name), ethtool.offloads(&name));
                interfaces.push(Interface { name, address, mask, mtu_bytes, driver, offloads });
            }
        }
        Ok(interfaces)
    }
}

fn ipv4(address: Option<nix::sys::socket::SockaddrStorage>) -> Option<Ipv4Addr> {
    Some(address?.as_sockaddr_in()?.ip())
}

/// Picks the server's and the client's interface that share a subnet.
///
/// # Errors
/// [`Error::NoLink`] when no two do.
pub fn link(server: &[Interface], client: &[Interface]) -> Result<(Interface, Interface)> {
    let subnet = |interface: &Interface| interface.address.to_bits() & interface.mask.to_bits();
    server
        .iter()
        .flat_map(|ours| client.iter().map(move |theirs| (ours, theirs)))
        .find(|(ours, theirs)| ours.mask == theirs.mask && subnet(ours) == subnet(theirs))
        .map(|(ours, theirs)| (ours.clone(), theirs.clone()))
        .ok_or_else(|| {
            let list = |interfaces: &[Interface]| {
                let words: Vec<_> = interfaces.iter().map(|i| format!("{} {}", i.name, i.address)).collect();
                if words.is_empty() { "none".to_owned() } else { words.join(", ") }
            };
            Error::NoLink(format!(
                "the two namespaces share no IPv4 subnet: the server has {}; the client has {}: give both \
                 ends an address (netns-setup.sh up does)",
                list(server),
                list(client)
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: [u8; 4]) -> Interface {
        Interface {
            name: name.to_owned(),
            address: address.into(),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            mtu_bytes: 1500,
            driver: None,
            offloads: None,
        }
    }

    #[test]
    fn a_namespace_that_does_not_exist_is_refused_by_name() {
        let error = Topology::parse("sendpath-absent,b").unwrap().check(None).unwrap_err();
        assert!(error.is_bad_input());
        assert!(error.to_string().contains("sendpath-absent"), "{error}");
    }

    #[test]
    fn an_mtu_is_taken_only_where_the_link_is_made_for_the_run() {
        assert!(Topology::Anonymous.check(Some(9000)).is_ok());
        assert!(Topology::Anonymous.check(Some(575)).unwrap_err().is_bad_input());
        assert!(Topology::Loopback.check(Some(9000)).unwrap_err().is_bad_input());
    }

    #[test]
    fn the_link_is_the_subnet_that_both_ends_share() {
        let server = [interface("eth0", [192, 168, 0, 1]), interface("veth_s", [10, 200, 1, 1])];
        let client = [interface("veth_c", [10, 200, 1, 2])];
        let (ours, theirs) = link(&server, &client).unwrap();
        assert_eq!((ours.name.as_str(), theirs.name.as_str()), ("veth_s", "veth_c"));
        let error = link(&server[..1], &client).unwrap_err().to_string();
        assert!(error.contains("eth0 192.168.0.1") && error.contains("veth_c 10.200.1.2"), "{error}");
    }
}
