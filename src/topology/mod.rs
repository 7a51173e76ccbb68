//! Where the two processes run, and how they are joined.
//!
//! | topology | server in | client in | joined by | who may |
//! |---|---|---|---|---|
//! | [`Topology::Anonymous`] | a network namespace of its own | likewise | a veth pair | root; others inside a user namespace |
//! | [`Topology::Named`] | a namespace made before | likewise | what was put there | root |
//! | [`Topology::Loopback`] | the namespace it was started in | likewise | `lo` | anyone |
//! | [`Topology::Peer`] | the namespace it was started in | wherever the peer's command starts it | what is there | anyone |
//!
//! Anonymous namespaces have no name in the file system: the kernel takes them, and the veth pair
//! in them, away with the last process, however that ends.

pub mod affinity;
pub(crate) mod cache;
pub(crate) mod copy_causes;
mod cores;
mod ethtool;
mod netns;
mod sink;
mod stack;
mod veth;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::link::LinkAttribute;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;

use self::ethtool::Ethtool;
pub(crate) use self::sink::Sink;
use self::veth::{Netlink, named};
pub use crate::environment::{Interface, Topology};
use crate::error::{Error, Result};
use crate::host;
use crate::sample::Side;

/// Names and addresses in anonymous namespaces; `netns-setup.sh` uses the same for lasting ones.
const SERVER_LINK: (&str, Ipv4Addr) = ("veth_s", Ipv4Addr::new(10, 200, 1, 1));
const CLIENT_LINK: (&str, Ipv4Addr) = ("veth_c", Ipv4Addr::new(10, 200, 1, 2));
const PREFIX_BITS: u8 = 24;

/// The range of `--mtu`: the least that IPv4 asks of a link, to the most that veth takes.
const MTU_BYTES: std::ops::RangeInclusive<u32> = 576..=65535;

/// Refuses, before anything is set up, a namespace that does not exist and an MTU that cannot be
/// set here.
///
/// # Errors
/// [`Error::Setting`].
pub fn check(topology: &Topology, mtu_bytes: Option<u32>) -> Result<()> {
    if let Topology::Named { server, client } = topology {
        netns::check_exists(server)?;
        netns::check_exists(client)?;
    }
    let Some(bytes) = mtu_bytes else { return Ok(()) };
    let why_not = match topology {
        Topology::Anonymous if MTU_BYTES.contains(&bytes) => return Ok(()),
        Topology::Anonymous => {
            let (least, most) = (MTU_BYTES.start(), MTU_BYTES.end());
            return Err(Error::Setting(format!("MTU {bytes} is out of range: {least} to {most} bytes")));
        }
        Topology::Named { .. } => {
            "the MTU of lasting namespaces is set where they are made: netns-setup.sh up --mtu BYTES"
        }
        Topology::Loopback => "loopback's MTU belongs to the machine and is left alone",
        Topology::Peer => "the MTU of the link to a peer belongs to the machines and is left alone",
    };
    Err(Error::Setting(why_not.to_owned()))
}

/// Moves the calling thread, and the threads that it makes later, to where `side` runs. For good.
/// An ordinary user's process must have no second thread yet.
///
/// # Errors
/// [`Refused`](crate::path::Error::Refused), with the command that allows it.
pub fn enter(topology: &Topology, side: Side) -> Result<()> {
    if side == Side::Server {
        host::max_skb_frags()?; // it is not shown in there
    }
    match (topology, side) {
        (Topology::Anonymous, _) => netns::enter_anonymous(),
        (Topology::Named { server, .. }, Side::Server) => netns::enter_named(server),
        (Topology::Named { client, .. }, Side::Client) => netns::enter_named(client),
        (Topology::Loopback | Topology::Peer, _) => Ok(()),
    }
}

/// Joins the server's namespace, which the caller is in, to that of the client process.
///
/// # Errors
/// A failed netlink request.
pub fn join(topology: &Topology, client_pid: u32, mtu_bytes: Option<u32>) -> Result<()> {
    if *topology == Topology::Anonymous {
        let mut peer = named(CLIENT_LINK.0, mtu_bytes);
        peer.attributes.push(LinkAttribute::NetNsPid(client_pid));
        Netlink::open()?.create_veth(named(SERVER_LINK.0, mtu_bytes), peer)?;
    }
    Ok(())
}

/// Gives `side`'s end of the link its address and brings it up. The caller is in that namespace.
///
/// # Errors
/// A failed netlink request.
pub fn bring_up(topology: &Topology, side: Side) -> Result<()> {
    if *topology != Topology::Anonymous {
        return Ok(());
    }
    let (name, address) = match side {
        Side::Server => SERVER_LINK,
        Side::Client => CLIENT_LINK,
    };
    let mut netlink = Netlink::open()?;
    netlink.add_address(name, address, PREFIX_BITS)?;
    netlink.set_up(name)?;
    netlink.set_up("lo")
}

/// The interfaces over which a pair could run, in the namespace that the caller is in; those with
/// an IPv4 address first.
///
/// # Errors
/// A failed `socket(2)` or netlink request.
pub fn interfaces(topology: &Topology) -> Result<Vec<Interface>> {
    let fits = |address: IpAddr| address.is_loopback() == (*topology == Topology::Loopback);
    let (mut netlink, ethtool) = (Netlink::open()?, Ethtool::open()?);
    let found = addresses(&mut netlink)?.into_iter().filter(|found| fits(found.address));
    found.map(|found| interface(&mut netlink, &ethtool, found)).collect()
}

/// The end of the link by which packets from here reach `to`, as the kernel's routes have it, with
/// the address that connections have at this end. `from` is that address, where it is given.
///
/// # Errors
/// [`Error::NoLink`] where no route leads there; else the call that failed.
pub fn end_towards(from: Option<IpAddr>, to: IpAddr) -> Result<Interface> {
    let mut netlink = Netlink::open()?;
    let (index, source) = netlink.route(from, to)?;
    let device = if_indextoname(index).map_err(Error::call("if_indextoname(3)"))?;
    let device = device.to_string_lossy().into_owned();
    let address = from.unwrap_or(source);
    let own = addresses(&mut netlink)?.into_iter().find(|found| found.address == address);
    let found = OwnAddress { index, device, address, mask: own.map_or(address, |found| found.mask) };
    interface(&mut netlink, &Ethtool::open()?, found)
}

/// Refuses an address that no interface of this namespace has.
///
/// # Errors
/// [`Error::Setting`], with those that there are.
pub fn check_address(address: IpAddr) -> Result<()> {
    let addresses = addresses(&mut Netlink::open()?)?;
    if addresses.iter().any(|found| found.address == address) {
        return Ok(());
    }
    let words = addresses.iter().map(|OwnAddress { device, address, .. }| format!("{address} ({device})"));
    let words = list(words);
    Err(Error::Setting(format!("server address {address} is on no interface here; there are {words}")))
}

/// An address of this namespace.
struct OwnAddress {
    /// The number of the device that has it.
    index: u32,
    device: String,
    address: IpAddr,
    mask: IpAddr,
}

/// All of them but those that hold on one link alone, IPv4 first.
fn addresses(netlink: &mut Netlink) -> Result<Vec<OwnAddress>> {
    // Not getifaddrs(3): what it gives is the address's label, which need not be the device's name.
    let named = |(index, address, prefix_bits)| match if_indextoname(index) {
        Ok(name) => {
            let device = name.to_string_lossy().into_owned();
            Ok(Some(OwnAddress { index, device, address, mask: mask(address, prefix_bits) }))
        }
        // It is gone again.
        Err(Errno::ENXIO | Errno::ENODEV) => Ok(None),
        Err(errno) => Err(Error::call("if_indextoname(3)")(errno)),
    };
    let found = netlink.addresses()?.into_iter().map(named).filter_map(Result::transpose);
    let found = found.collect::<Result<Vec<_>>>()?.into_iter();
    let is_of_one_link =
        |address: IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let mut found: Vec<_> = found.filter(|found| !is_of_one_link(found.address)).collect();
    found.sort_by_key(|found| found.address.is_ipv6());
    Ok(found)
}

/// The mask of a network that its first bits tell from others.
fn mask(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let ones =
        |of_bits: u32| u128::MAX.checked_shl(of_bits - u32::from(prefix_bits).min(of_bits)).unwrap_or(0);
    match address {
        IpAddr::V4(_) => Ipv4Addr::from_bits(ones(32) as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(ones(128)).into(),
    }
}

/// The port of this namespace that has an address, as it is.
fn interface(netlink: &mut Netlink, ethtool: &Ethtool, found: OwnAddress) -> Result<Interface> {
    let OwnAddress { index, device, address, mask } = found;
    let (mtu_bytes, qdisc) = netlink.mtu_bytes_and_qdisc(index)?;
    let (driver, offloads, queues) =
        (ethtool.driver(&device), ethtool.offloads(&device), ethtool.queues(&device)?);
    let hardware = hardware_below(index)?;
    Ok(Interface { name: device, address, mask, mtu_bytes, driver, offloads, qdisc, queues, hardware })
}

/// The hardware ports that a device is stacked on; none where that cannot be seen. A kind of device
/// that is not understood is no reason to stop, so it is asked by sockets of its own.
fn hardware_below(index: u32) -> Result<Option<Vec<String>>> {
    let devices = match Netlink::open()?.devices() {
        Ok(devices) => devices,
        Err(error) if error.errno().is_some() => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut route = |to| Some(Netlink::open().ok()?.route(None, to).ok()?.0);
    Ok(stack::hardware_below(&devices, index, &mut route))
}

/// Picks the server's and the client's interface that share a subnet.
///
/// # Errors
/// [`Error::NoLink`] when no two do.
pub fn link(server: &[Interface], client: &[Interface]) -> Result<(Interface, Interface)> {
    links(server, client).into_iter().next().ok_or_else(|| {
        Error::NoLink(format!(
            "the two ends share no subnet: the server has {}; the client has {}: give both ends an address \
             (netns-setup.sh up does), or name the server's, where a route leads to it, with --server-address",
            addresses_of(server),
            addresses_of(client)
        ))
    })
}

/// As [`link`], between two machines: each may have subnets that only look alike, as those of
/// containers do.
///
/// # Errors
/// [`Error::NoLink`] when no two share a subnet, or more than two do.
pub fn link_between_machines(server: &[Interface], client: &[Interface]) -> Result<(Interface, Interface)> {
    // An address that both have is not the way from one to the other.
    let ours: Vec<Interface> = server
        .iter()
        .filter(|ours| client.iter().all(|theirs| theirs.address != ours.address))
        .cloned()
        .collect();
    let links = links(&ours, client);
    let mut devices: Vec<&str> = links.iter().map(|(ours, _)| ours.name.as_str()).collect();
    devices.dedup();
    if devices.len() > 1 {
        let ours: Vec<Interface> = links.iter().map(|(ours, _)| ours.clone()).collect();
        return Err(Error::NoLink(format!(
            "the two ends share more than one subnet: the server has {}: name the address to use with --server-address",
            addresses_of(&ours)
        )));
    }
    link(&ours, client)
}

/// The interfaces that share a subnet, in the order of the server's.
fn links(server: &[Interface], client: &[Interface]) -> Vec<(Interface, Interface)> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let subnet = |interface: &Interface| bits(interface.address) & bits(interface.mask);
    let share = |ours: &Interface, theirs: &Interface| {
        ours.address.is_ipv4() == theirs.address.is_ipv4()
            && ours.mask == theirs.mask
            && subnet(ours) == subnet(theirs)
    };
    server
        .iter()
        .flat_map(|ours| client.iter().map(move |theirs| (ours, theirs)))
        .filter(|(ours, theirs)| share(ours, theirs))
        .map(|(ours, theirs)| (ours.clone(), theirs.clone()))
        .collect()
}

fn addresses_of(interfaces: &[Interface]) -> String {
    list(interfaces.iter().map(|end| format!("{} {}", end.name, end.address)))
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: [u8; 4]) -> Interface {
        Interface {
            name: name.to_owned(),
            address: address.into(),
            mask: Ipv4Addr::new(255, 255, 255, 0).into(),
            mtu_bytes: 1500,
            driver: None,
            offloads: None,
            qdisc: None,
            queues: None,
            hardware: None,
        }
    }

    #[test]
    fn a_namespace_that_does_not_exist_is_refused_by_name() {
        let error = check(&Topology::parse("sendpath-absent,b").unwrap(), None).unwrap_err();
        assert!(error.is_bad_input());
        assert!(error.to_string().contains("sendpath-absent"), "{error}");
    }

    #[test]
    fn an_mtu_is_taken_only_where_the_link_is_made_for_the_run() {
        assert!(check(&Topology::Anonymous, Some(9000)).is_ok());
        assert!(check(&Topology::Anonymous, Some(575)).unwrap_err().is_bad_input());
        assert!(check(&Topology::Loopback, Some(9000)).unwrap_err().is_bad_input());
    }

    #[test]
    fn a_mask_has_as_many_ones_as_the_prefix_has_bits() {
        let of = |address: [u8; 4], bits| mask(address.into(), bits).to_string();
        assert_eq!(
            [0, 8, 24, 31, 32].map(|bits| of([10, 0, 0, 1], bits)),
            ["0.0.0.0", "255.0.0.0", "255.255.255.0", "255.255.255.254", "255.255.255.255"]
        );
        let v6 = |bits| mask(Ipv6Addr::LOCALHOST.into(), bits).to_string();
        assert_eq!(
            [0, 64, 128].map(v6),
            ["::", "ffff:ffff:ffff:ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
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

    #[test]
    fn between_machines_a_subnet_that_both_have_for_themselves_is_no_link() {
        let docker = interface("docker0", [172, 17, 0, 1]);
        let server = [docker.clone(), interface("eth0", [192, 168, 0, 1])];
        let (ours, theirs) =
            link_between_machines(&server, &[docker, interface("eth1", [192, 168, 0, 2])]).unwrap();
        assert_eq!((ours.name.as_str(), theirs.name.as_str()), ("eth0", "eth1"));
        let both = [interface("docker0", [172, 17, 0, 2]), interface("eth1", [192, 168, 0, 2])];
        let error = link_between_machines(&server, &both).unwrap_err().to_string();
        assert!(error.contains("docker0 172.17.0.1, eth0 192.168.0.1: name the address"), "{error}");
    }
}
