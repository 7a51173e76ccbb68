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
pub mod cache;
mod netns;
mod veth;

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sample::Side;

/// Names and addresses in anonymous namespaces; `netns-setup.sh` uses the same for lasting ones.
const SERVER_LINK: (&str, Ipv4Addr) = ("veth_s", Ipv4Addr::new(10, 200, 1, 1));
const CLIENT_LINK: (&str, Ipv4Addr) = ("veth_c", Ipv4Addr::new(10, 200, 1, 2));
const PREFIX_BITS: u8 = 24;

/// The range of `--mtu`: the least that IPv4 asks of a link, to the most that veth takes.
const MTU_BYTES: std::ops::RangeInclusive<u32> = 576..=65535;

/// Where the two processes run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// Two namespaces without a name, joined by veth.
    #[default]
    Anonymous,
    /// Two namespaces that exist under `/run/netns`.
    Named {
        /// Where the server runs.
        server: String,
        /// Where the client runs.
        client: String,
    },
    /// No namespaces: both ends in the present one, over 127.0.0.1.
    Loopback,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous network namespaces joined by veth"),
            Self::Named { server, client } => {
                write!(f, "network namespaces {server} (server) and {client} (client)")
            }
            Self::Loopback => f.write_str("loopback, no namespaces"),
        }
    }
}

impl Topology {
    /// Reads what `SENDPATH_NETNS` and `--netns` take: `anonymous`, `loopback`, or the names of two
    /// namespaces as `SERVER,CLIENT`.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::Setting(format!(
                "network namespaces {text:?}: expected SERVER,CLIENT (two names below /run/netns), \
                 anonymous or loopback"
            ))
        };
        match text {
            "anonymous" => return Ok(Self::Anonymous),
            "loopback" => return Ok(Self::Loopback),
            _ => {}
        }
        let (server, client) = text.split_once(',').ok_or_else(bad)?;
        let plain = |name: &str| !name.is_empty() && !name.contains(['/', ',']) && !name.starts_with('.');
        if server == client || !plain(server) || !plain(client) {
            return Err(bad());
        }
        Ok(Self::Named { server: server.to_owned(), client: client.to_owned() })
    }

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
    /// A failed `getifaddrs(3)` or netlink request.
    pub fn interfaces(&self) -> Result<Vec<Interface>> {
        let addresses = nix::ifaddrs::getifaddrs().map_err(Error::call("getifaddrs(3)"))?;
        let mut netlink = veth::Netlink::open()?;
        let mut interfaces = Vec::new();
        for entry in addresses {
            let (Some(address), Some(mask)) = (ipv4(entry.address), ipv4(entry.netmask)) else { continue };
            if address.is_loopback() == (*self == Self::Loopback) {
                let mtu_bytes = netlink.mtu_bytes(&entry.interface_name)?;
                interfaces.push(Interface { name: entry.interface_name, address, mask, mtu_bytes });
            }
        }
        Ok(interfaces)
    }
}

fn ipv4(address: Option<nix::sys::socket::SockaddrStorage>) -> Option<Ipv4Addr> {
    Some(address?.as_sockaddr_in()?.ip())
}

/// One end of the link, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    mask: Ipv4Addr,
    /// The largest packet it takes, in bytes.
    pub mtu_bytes: u32,
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
        }
    }

    #[test]
    fn a_topology_is_two_names_or_a_word() {
        assert_eq!(Topology::parse("anonymous").unwrap(), Topology::Anonymous);
        assert_eq!(Topology::parse("loopback").unwrap(), Topology::Loopback);
        let named = Topology::Named { server: "ns_s".to_owned(), client: "ns_c".to_owned() };
        assert_eq!(Topology::parse("ns_s,ns_c").unwrap(), named);
        for text in ["", "ns_s", "ns_s,", ",ns_c", "a,b,c", "a,a", "../x,b", "a,b/c"] {
            assert!(Topology::parse(text).unwrap_err().is_bad_input(), "{text}");
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
