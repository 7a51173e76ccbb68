//! What a device is stacked on, and so whether what it sends can leave this machine: a bridge has
//! ports, a macvlan a lower device, a tunnel a route.

use std::net::IpAddr;

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

/// Deeper than devices are stacked.
const MOST_LEVELS: u32 = 8;

/// A device of a network namespace.
#[derive(Clone, Debug)]
pub(super) struct Device {
    index: u32,
    name: String,
    kind: Kind,
    /// The number of the bridge or bond that it is a port of.
    controller: Option<u32>,
}

/// What a device does with what it is given.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Hands it to hardware: the kernel names no kind of it.
    Hardware,
    /// Keeps it in memory: loopback, or the other end of a veth pair.
    Memory,
    /// Hands it to its ports: a bridge, a bond.
    Ports,
    /// Hands it to this lower device of the namespace.
    Lower(u32),
    /// Wraps it up for another address.
    Tunnel(IpAddr),
    /// Hands it to a process, or to what cannot be seen from here.
    Unknown,
}

impl Device {
    pub(super) fn of(link: &LinkMessage) -> Self {
        let mut device =
            Self { index: link.header.index, name: String::new(), kind: Kind::Hardware, controller: None };
        let (mut lower, mut is_elsewhere, mut kind, mut remote) = (None, false, None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name.clone_from(name),
                LinkAttribute::Controller(index) => device.controller = Some(*index),
                LinkAttribute::Link(index) => lower = Some(*index).filter(|index| *index > 0),
                // The lower device is in another namespace, and its number means nothing here.
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(found) => kind = Some(found),
                            LinkInfo::Data(InfoData::Vxlan(data)) => remote = remote_of(data),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        device.kind = match kind {
            None if link.header.flags.contains(LinkFlags::Loopback) => Kind::Memory,
            None => Kind::Hardware,
            Some(InfoKind::Veth | InfoKind::Dummy) => Kind::Memory,
            Some(InfoKind::Bridge | InfoKind::Bond) => Kind::Ports,
            Some(InfoKind::Tun) => Kind::Unknown,
            Some(_) => match (lower, remote) {
                _ if is_elsewhere => Kind::Unknown,
                (Some(lower), _) => Kind::Lower(lower),
                (None, Some(remote)) => Kind::Tunnel(remote),
                (None, None) => Kind::Unknown,
            },
        };
        device
    }
}

fn remote_of(data: &[InfoVxlan]) -> Option<IpAddr> {
    data.iter().find_map(|info| match info {
        InfoVxlan::Group(address) => Some(IpAddr::V4(*address)),
        InfoVxlan::Group6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

/// The hardware ports at the bottom of the device `index`, by name; none where the stack leads to
/// what cannot be seen. `route` gives the device by which packets reach an address.
pub(super) fn hardware_below(
    devices: &[Device],
    index: u32,
    route: &mut dyn FnMut(IpAddr) -> Option<u32>,
) -> Option<Vec<String>> {
    descend(devices, index, route, MOST_LEVELS)
}

fn descend(
    devices: &[Device],
    index: u32,
    route: &mut dyn FnMut(IpAddr) -> Option<u32>,
    levels: u32,
) -> Option<Vec<String>> {
    let levels = levels.checked_sub(1)?;
    let device = devices.iter().find(|device| device.index == index)?;
    match device.kind {
        Kind::Hardware => Some(vec![device.name.clone()]),
        Kind::Memory => Some(Vec::new()),
        Kind::Lower(lower) => descend(devices, lower, route, levels),
        Kind::Tunnel(remote) => descend(devices, route(remote)?, route, levels),
        Kind::Unknown => None,
        Kind::Ports => {
            let mut found = Vec::new();
            for port in devices.iter().filter(|port| port.controller == Some(index)) {
                found.extend(descend(devices, port.index, route, levels)?);
            }
            Some(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, kind: Kind, controller: Option<u32>) -> Device {
        Device { index, name: format!("d{index}"), kind, controller }
    }

    #[test]
    fn hardware_is_found_through_whatever_is_stacked_on_it() {
        let remote = IpAddr::from([10, 1, 0, 2]);
        let devices = [
            device(1, Kind::Memory, None),
            device(2, Kind::Hardware, Some(4)),
            device(3, Kind::Memory, Some(5)),
            device(4, Kind::Ports, None),
            device(5, Kind::Ports, None),
            device(6, Kind::Lower(2), None),
            device(7, Kind::Lower(3), None),
            device(8, Kind::Lower(5), None),
            device(9, Kind::Tunnel(remote), None),
            device(10, Kind::Unknown, None),
            device(11, Kind::Lower(10), None),
            device(12, Kind::Lower(12), None),
            device(13, Kind::Lower(99), None),
        ];
        let mut to = 3;
        let mut of = |index, by: Option<u32>| {
            to = by.unwrap_or(to);
            hardware_below(&devices, index, &mut |address| (address == remote).then_some(to))
        };
        for memory in [1, 3, 5, 7, 8] {
            assert_eq!(of(memory, None), Some(Vec::new()), "{memory}");
        }
        for hardware in [2, 4, 6] {
            assert_eq!(of(hardware, None), Some(vec!["d2".to_owned()]), "{hardware}");
        }
        assert_eq!(of(9, Some(3)), Some(Vec::new()), "a tunnel over veth");
        assert_eq!(of(9, Some(2)), Some(vec!["d2".to_owned()]), "a tunnel over a card");
        for unknown in [10, 11, 12, 13, 99] {
            assert_eq!(of(unknown, None), None, "{unknown}");
        }
    }
}
