//! The few requests to the kernel's routing netlink that veth pairs and a bridge need. See
//! `rtnetlink(7)`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

use super::stack::Device;
use crate::deadlines::{LINK_LIMIT, NETLINK_LIMIT};
use crate::error::{Error, Result};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// More than the kernel's answer to any of these requests.
const ANSWER_BYTES: usize = 64 << 10;

/// A socket to the routing netlink of the namespace that it was opened in.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let family = rustix::net::AddressFamily::NETLINK;
            // No protocol is NETLINK_ROUTE, which is 0.
            let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
            connect(&socket, &SocketAddrNetlink::new(0, 0))?; // to the kernel
            // The kernel answers at once; this only keeps a lost answer from hanging the run.
            set_socket_timeout(&socket, Timeout::Recv, Some(NETLINK_LIMIT))?;
            Ok(socket)
        };
        open().map(Self).map_err(Error::call("socket(2) AF_NETLINK"))
    }

    /// Makes a veth pair, of a link here and its `peer`, which may name another namespace.
    pub(super) fn create_veth(&mut self, mut link: LinkMessage, peer: LinkMessage) -> Result<()> {
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.create("netlink RTM_NEWLINK of a veth pair", link)
    }

    pub(super) fn create_bridge(&mut self, name: &str, mtu_bytes: u32) -> Result<()> {
        let mut link = named(name, Some(mtu_bytes));
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.create("netlink RTM_NEWLINK of a bridge", link)
    }

    fn create(&mut self, call: &'static str, link: LinkMessage) -> Result<()> {
        self.order(call, RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes `name` a port of the bridge `controller`.
    pub(super) fn set_controller(&mut self, name: &str, controller: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        link.attributes.push(LinkAttribute::Controller(self.index(controller)?));
        self.order("netlink RTM_NEWLINK of a bridge's port", RouteNetlinkMessage::NewLink(link), 0)
    }

    /// The number of the bridge that `name` is a port of; none if it is a port of none.
    pub(super) fn controller(&mut self, name: &str) -> Result<Option<u32>> {
        let mut attributes = self.link(name)?.attributes.into_iter();
        Ok(attributes.find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(index),
            _ => None,
        }))
    }

    /// Says once and for all which Ethernet address `address` has, so that nobody is asked.
    pub(super) fn add_neighbour(&mut self, name: &str, address: Ipv4Addr, mac: Mac) -> Result<()> {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.family = AddressFamily::Inet;
        neighbour.header.ifindex = self.index(name)?;
        neighbour.header.state = NeighbourState::Permanent;
        neighbour.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        let message = RouteNetlinkMessage::NewNeighbour(neighbour);
        self.order("netlink RTM_NEWNEIGH", message, NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(super) fn add_address(&mut self, name: &str, address: Ipv4Addr, prefix_bits: u8) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix_bits;
        message.header.index = self.index(name)?;
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
        ];
        let message = RouteNetlinkMessage::NewAddress(message);
        self.order("netlink RTM_NEWADDR", message, NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(super) fn set_up(&mut self, name: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.order("netlink RTM_NEWLINK up", RouteNetlinkMessage::NewLink(link), 0)
    }

    /// All addresses of this namespace: the device's number, the address and its prefix in bits.
    pub(super) fn addresses(&mut self) -> Result<Vec<(u32, IpAddr, u8)>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.exchange(message, NLM_F_DUMP).map_err(Error::call("netlink RTM_GETADDR"))?;
        let own = |answer| {
            let RouteNetlinkMessage::NewAddress(AddressMessage { header, attributes, .. }) = answer else {
                return None;
            };
            // Where there are both, the other is that of the link's other end.
            let find = |local: bool| {
                attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) if local => Some(*address),
                    AddressAttribute::Address(address) if !local => Some(*address),
                    _ => None,
                })
            };
            Some((header.index, find(true).or_else(|| find(false))?, header.prefix_len))
        };
        Ok(answers.into_iter().filter_map(own).collect())
    }

    /// All devices of this namespace.
    pub(super) fn devices(&mut self) -> Result<Vec<Device>> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.exchange(message, NLM_F_DUMP).map_err(Error::call("netlink RTM_GETLINK"))?;
        let device = |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(Device::of(&link)),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(device).collect())
    }

    pub(super) fn mtu_bytes_and_qdisc(&mut self, index: u32) -> Result<(u32, Option<String>)> {
        let (mut mtu_bytes, mut qdisc) = (None, None);
        let mut link = LinkMessage::default();
        link.header.index = index;
        for attribute in self.get_link(link)?.attributes {
            match attribute {
                LinkAttribute::Mtu(bytes) => mtu_bytes = Some(bytes),
                LinkAttribute::Qdisc(name) => qdisc = Some(name),
                _ => {}
            }
        }
        let none = || Error::call("netlink RTM_GETLINK")(io::Error::other(format!("no MTU of link {index}")));
        Ok((mtu_bytes.ok_or_else(none)?, qdisc))
    }

    /// The device by which packets reach `to`, and the address that they leave with. `from` is that
    /// address, where it is given: some routes depend on it.
    pub(super) fn route(&mut self, from: Option<IpAddr>, to: IpAddr) -> Result<(u32, IpAddr)> {
        let mut route = RouteMessage::default();
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        (route.header.address_family, route.header.destination_prefix_length) = (family, bits);
        route.attributes.push(RouteAttribute::Destination(to.into()));
        if let Some(from) = from {
            route.header.source_prefix_length = bits;
            route.attributes.push(RouteAttribute::Source(from.into()));
        }
        let call = "netlink RTM_GETROUTE";
        let none = |why: &dyn std::fmt::Display| {
            Error::NoLink(format!(
                "no route leads to {to} from here ({call}: {why}): give both ends addresses that reach each other"
            ))
        };
        let answer = self.exchange(RouteNetlinkMessage::GetRoute(route), 0);
        let answer = answer.map_err(|errno| match errno.raw_os_error() {
            // No route, or one that is unreachable, prohibit or blackhole (`ip-route(8)`).
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => none(&errno),
            _ => Error::call(call)(errno),
        })?;
        let Some(RouteNetlinkMessage::NewRoute(found)) = answer.into_iter().next_back() else {
            return Err(none(&"no answer"));
        };
        let (mut device, mut source) = (None, from);
        for attribute in found.attributes {
            match attribute {
                RouteAttribute::Oif(index) => device = Some(index),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address.into()),
                RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => source = Some(address.into()),
                _ => {}
            }
        }
        let (Some(device), Some(source)) = (device, source) else { return Err(none(&"no device")) };
        Ok((device, source))
    }

    /// Waits until the kernel has activated `name` after it was set up. It does so some time later,
    /// on a thread of its own, and until then drops what is sent there without an error
    /// (`noop_qdisc`).
    pub(super) fn wait_until_active(&mut self, name: &str) -> Result<()> {
        let since = Instant::now();
        let is_noop =
            |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Qdisc(qdisc) if qdisc == "noop");
        while self.link(name)?.attributes.iter().any(is_noop) {
            if since.elapsed() > LINK_LIMIT {
                return Err(Error::deadline("link that takes frames", LINK_LIMIT));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(super) fn link(&mut self, name: &str) -> Result<LinkMessage> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(link)
    }

    fn get_link(&mut self, link: LinkMessage) -> Result<LinkMessage> {
        let call = "netlink RTM_GETLINK";
        match self.request(call, RouteNetlinkMessage::GetLink(link), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            other => Err(Error::call(call)(io::Error::other(format!("unexpected: {other:?}")))),
        }
    }

    /// A link by its number.
    fn index(&mut self, name: &str) -> Result<u32> {
        Ok(self.link(name)?.header.index)
    }

    /// A request that is answered by an acknowledgement alone.
    fn order(&mut self, call: &'static str, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.request(call, message, flags).map(drop)
    }

    /// Sends one request and reads up to its acknowledgement. Returns the message that came before
    /// it, if one did.
    fn request(
        &mut self,
        call: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>> {
        let answers = self.exchange(message, flags).map_err(Error::call(call))?;
        Ok(answers.into_iter().next_back())
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(&self.0, &bytes, SendFlags::empty())?;

        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let (bytes, whole_bytes) = recv(&self.0, &mut buffer[..], RecvFlags::TRUNC)?;
            if bytes < whole_bytes {
                return Err(io::Error::other(format!("an answer of {whole_bytes} bytes")));
            }
            let mut rest = &buffer[..bytes];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    // An error of code zero is the acknowledgement.
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

/// The description of a link that is to be made; of the kernel's default MTU if none is given.
pub(super) fn named(name: &str, mtu_bytes: Option<u32>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.extend(mtu_bytes.map(LinkAttribute::Mtu));
    link
}
