//! Looks for what makes the kernel copy `MSG_ZEROCOPY` sends: on the ports of a link and in the
//! sink.
//!
//! Each function looks in the namespace that the calling thread is in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use netlink_packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};
use nix::net::if_::{if_nameindex, if_nametoindex};

use super::ethtool::Ethtool;
use super::sink;
use super::veth::Netlink;
use crate::environment::{CopyCause, Effective, Topology};
use crate::error::{Error, Result};
use crate::host::file;

/// What `SIOCETHTOOL` calls the driver of tun and tap devices.
const TUN: &str = "tun";

/// At the end of a link that messages leave by.
///
/// # Errors
/// A failed `socket(2)` or netlink request, or `/proc` that cannot be read.
pub fn at_sender(device: &str) -> Result<Vec<CopyCause>> {
    let ethtool = Ethtool::open()?;
    let mut causes = packet_sockets(Some(device))?;
    causes.extend(of_driver(&ethtool, device)?);
    causes.extend(of_offloads(&ethtool, device));
    Ok(causes)
}

/// At the end of a link that messages arrive at.
///
/// # Errors
/// As [`at_sender`].
pub fn at_receiver(device: &str) -> Result<Vec<CopyCause>> {
    let mut causes = packet_sockets(Some(device))?;
    causes.extend(of_xdp(device)?);
    Ok(causes)
}

/// In the sink: its sending end, the bridge's port, and whatever has been added to it.
///
/// # Errors
/// As [`at_sender`].
pub fn in_sink() -> Result<Vec<CopyCause>> {
    let ethtool = Ethtool::open()?;
    let mut causes = packet_sockets(None)?;
    causes.extend(of_offloads(&ethtool, sink::SENDER));
    causes.extend(of_xdp(sink::PORT)?);
    for device in other_ports_of_the_bridge()? {
        let is_tun = ethtool.driver(&device).as_deref() == Some(TUN);
        causes.push(if is_tun { CopyCause::Tun { device } } else { CopyCause::BridgePort { device } });
    }
    Ok(causes)
}

/// The ports that somebody has added to the sink's bridge. What is flooded goes to each of them.
/// Whether it is copied there depends on who takes it in, which cannot be seen from here.
fn other_ports_of_the_bridge() -> Result<Vec<String>> {
    let mut netlink = Netlink::open()?;
    let Some(bridge) = netlink.controller(sink::PORT)? else { return Ok(Vec::new()) };
    let devices = if_nameindex().map_err(Error::call("if_nameindex(3)"))?;
    let mut ports = Vec::new();
    for device in &devices {
        let name = device.name().to_string_lossy().into_owned();
        if name != sink::PORT && netlink.controller(&name)? == Some(bridge) {
            ports.push(name);
        }
    }
    Ok(ports)
}

/// Whether a link ends on this machine, as far as that can be told from its two ends.
pub(crate) fn of_link(effective: &Effective) -> Option<CopyCause> {
    let is_local = match effective.topology {
        Topology::Anonymous | Topology::Loopback => true,
        // With one end of veth, the way may lead out of the machine.
        Topology::Named { .. } | Topology::Peer => effective.stays_in_memory(),
    };
    is_local.then_some(CopyCause::LocalReceiver)
}

fn of_driver(ethtool: &Ethtool, device: &str) -> Result<Option<CopyCause>> {
    let device = device.to_owned();
    Ok(match ethtool.driver(&device).as_deref() {
        Some(TUN) => Some(CopyCause::Tun { device }),
        // No device behind it reads memory.
        Some("veth") | None => None,
        Some(_) if hardware_below(&device)?.is_some_and(|ports| ports.is_empty()) => None,
        Some(_) => memory_is_encrypted(Path::new("/"))?.then_some(CopyCause::EncryptedMemory { device }),
    })
}

/// The hardware ports that a device is stacked on; none where that cannot be seen.
fn hardware_below(device: &str) -> Result<Option<Vec<String>>> {
    super::hardware_below(if_nametoindex(device).map_err(Error::call("if_nametoindex(3)"))?)
}

fn of_offloads(ethtool: &Ethtool, device: &str) -> Vec<CopyCause> {
    let Some(offloads) = ethtool.offloads(device) else { return Vec::new() };
    let device = || device.to_owned();
    let mut causes = Vec::new();
    if !offloads.scatter_gather {
        causes.push(CopyCause::NoScatterGather { device: device() });
    }
    if !offloads.tx_checksum {
        causes.push(CopyCause::NoTxChecksum { device: device() });
    }
    causes
}

fn of_xdp(device: &str) -> Result<Option<CopyCause>> {
    let is_attached =
        |xdp: &LinkXdp| matches!(xdp, LinkXdp::Attached(mode) if !matches!(mode, XdpAttached::None));
    let mut attributes = Netlink::open()?.link(device)?.attributes.into_iter();
    let attached = attributes
        .any(|attribute| matches!(attribute, LinkAttribute::Xdp(xdp) if xdp.iter().any(is_attached)));
    Ok(attached.then(|| CopyCause::ReceiverXdp { device: device.to_owned() }))
}

/// The packet sockets that hear what passes `device`; of any device if none.
fn packet_sockets(device: Option<&str>) -> Result<Vec<CopyCause>> {
    // Not /proc/net, which shows the namespace of the process's first thread.
    let text = fs::read_to_string("/proc/thread-self/net/packet")
        .map_err(Error::call("open(2) of /proc/thread-self/net/packet"))?;
    let index = device.map(if_nametoindex).transpose().map_err(Error::call("if_nametoindex(3)"))?;
    let mut heard: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for Listening { index: on, inode } in listening_sockets(&text) {
        if on == 0 || index.is_none_or(|index| index == on) {
            heard.entry(on).or_default().push(inode);
        }
    }
    let cause = |(on, inodes): (u32, Vec<u64>)| CopyCause::PacketSocket {
        device: (on != 0).then(|| name_of(on)),
        sockets: inodes.len(),
        owners: owners(&inodes),
    };
    Ok(heard.into_iter().map(cause).collect())
}

fn name_of(index: u32) -> String {
    let devices = if_nameindex().ok();
    let mut found = devices.iter().flatten().filter(|device| device.index() == index);
    found
        .next()
        .map_or_else(|| format!("number {index}"), |device| device.name().to_string_lossy().into_owned())
}

/// A packet socket that hears every protocol.
#[derive(Debug, PartialEq)]
struct Listening {
    /// The number of the port that it is bound to; 0 for all.
    index: u32,
    inode: u64,
}

/// Those of `/proc/net/packet` that hear every packet. One of protocol 0 hears nothing, one of
/// another protocol hears only what arrives of it, and one that is not running hears nothing
/// either: its port is down or gone.
fn listening_sockets(text: &str) -> Vec<Listening> {
    const ETH_P_ALL: &str = "0003";
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // sk RefCnt Type Proto Iface R Rmem User Inode
        let &[_, _, _, ETH_P_ALL, index, "1", _, _, inode] = &fields[..] else { return None };
        Some(Listening { index: index.parse().ok()?, inode: inode.parse().ok()? })
    };
    text.lines().filter_map(of_line).collect()
}

/// The processes that have one of these sockets open, among those whose files this user may see.
fn owners(inodes: &[u64]) -> Vec<String> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut owners = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| wanted.iter().any(|wanted| target.as_os_str() == wanted.as_str())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            owners.push(format!("{} (pid {pid})", name.trim()));
        }
    }
    owners
}

/// Whether this is a virtual machine whose memory the host cannot read, as far as the CPU's flags
/// say: `tdx_guest` stands there inside such a guest alone; `sev` stands on hosts as well, but
/// there without a hypervisor above.
fn memory_is_encrypted(root: &Path) -> Result<bool> {
    let cpu = file::cpu_info(root)?;
    Ok(cpu.has("tdx_guest") || (cpu.has("sev") && cpu.has("hypervisor")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_socket_counts_if_it_runs_and_hears_every_protocol() {
        let text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                    0000000000000000 3      3    0003   4     1 0      0      111\n\
                    0000000000000000 3      2    0003   0     1 0      1000   112\n\
                    0000000000000000 3      3    0003   5     0 0      0      113\n\
                    0000000000000000 3      3    88cc   4     1 0      0      114\n\
                    0000000000000000 3      3    0000   4     0 0      0      115\n";
        let expected = [Listening { index: 4, inode: 111 }, Listening { index: 0, inode: 112 }];
        assert_eq!(listening_sockets(text), expected);
    }

    #[test]
    fn encrypted_memory_is_said_only_of_a_guest() {
        let encrypted = |flags: &str| {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("proc")).unwrap();
            fs::write(root.path().join("proc/cpuinfo"), format!("flags\t\t: fpu {flags}\n")).unwrap();
            memory_is_encrypted(root.path()).unwrap()
        };
        assert!(encrypted("hypervisor tdx_guest"));
        assert!(encrypted("hypervisor sev sev_es"));
        for flags in ["", "hypervisor", "sev sev_es sev_snp", "hypervisor tdx_host_platform"] {
            assert!(!encrypted(flags), "{flags}");
        }
    }
}
