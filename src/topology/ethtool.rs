//! The driver, the offloads and the queues of a network port, by `SIOCETHTOOL` (see `netdevice(7)`
//! and `<linux/ethtool.h>`). Any user may ask for these.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::environment::{Offloads, Queues};
use crate::error::{Error, Result};
use crate::host::file;

/// A command whose structure has so many words of 32 bits. The first is the command itself.
#[derive(Clone, Copy)]
struct Command<const WORDS: usize>(u32);

/// `struct ethtool_drvinfo`. The driver's name comes behind the command, in 32 bytes.
const GET_DRIVER_INFO: Command<49> = Command(0x03);
/// `struct ethtool_coalesce`.
const GET_COALESCE: Command<23> = Command(0x0e);
/// `struct ethtool_ringparam`.
const GET_RINGS: Command<9> = Command(0x10);
/// `struct ethtool_channels`.
const GET_CHANNELS: Command<9> = Command(0x3c);
/// `struct ethtool_value`, as the next.
const GET_TX_CHECKSUM: Command<2> = Command(0x16);
const GET_SCATTER_GATHER: Command<2> = Command(0x18);
const GET_TCP_SEGMENTATION: Command<2> = Command(0x1e);
const GET_GENERIC_RECEIVE: Command<2> = Command(0x2b);

/// A socket of the namespace that it was opened in, through which its ports are asked.
pub(super) struct Ethtool(Socket);

impl Ethtool {
    pub(super) fn open() -> Result<Self> {
        Socket::new(Domain::IPV4, Type::DGRAM, None).map(Self).map_err(Error::call("socket(2)"))
    }

    /// The driver's name; none where the kernel does not say.
    pub(super) fn driver(&self, port: &str) -> Option<String> {
        let info = self.ask(port, GET_DRIVER_INFO).ok()?;
        let bytes: Vec<u8> = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name: Vec<u8> = bytes.into_iter().take_while(|&byte| byte != 0).collect();
        (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
    }

    /// The offloads; none where the kernel does not say.
    pub(super) fn offloads(&self, port: &str) -> Option<Offloads> {
        let is_on = |command| self.ask(port, command).ok().map(|[_, value]| value != 0);
        Some(Offloads {
            scatter_gather: is_on(GET_SCATTER_GATHER)?,
            tx_checksum: is_on(GET_TX_CHECKSUM)?,
            tcp_segmentation: is_on(GET_TCP_SEGMENTATION)?,
            generic_receive: is_on(GET_GENERIC_RECEIVE)?,
        })
    }

    /// Rings, coalescing, queues and where the interrupts go; none where there is nothing of them.
    ///
    /// # Errors
    /// A file that could not be read at this moment.
    pub(super) fn queues(&self, port: &str) -> Result<Option<Queues>> {
        let queues = Queues {
            // What may be set comes first, in four words; then what is, in the same order: receive,
            // mini, jumbo, send.
            ring_packets: self.ask(port, GET_RINGS).ok().map(|rings| (rings[5], rings[8])),
            coalesced_us: self.ask(port, GET_COALESCE).ok().map(|words| (words[1], words[5])),
            // The most of receive, send, other and combined; then what there is.
            queues: self.ask(port, GET_CHANNELS).ok().map(|words| (words[5], words[6], words[8])),
            interrupt_cpus: interrupt_cpus(Path::new("/"), port)?,
        };
        // A veth says something of its channels, and has neither rings nor interrupts.
        Ok((queues.ring_packets.is_some() || !queues.interrupt_cpus.is_empty()).then_some(queues))
    }

    /// Has the kernel fill the command's structure.
    fn ask<const WORDS: usize>(&self, port: &str, command: Command<WORDS>) -> io::Result<[u32; WORDS]> {
        let mut words = [0; WORDS];
        words[0] = command.0;
        let mut name = [0; libc::IFNAMSIZ];
        if port.len() >= name.len() {
            return Err(Errno::EINVAL.into());
        }
        for (to, from) in name.iter_mut().zip(port.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: words.as_mut_ptr().cast() };
        let mut request = libc::ifreq { ifr_name: name, ifr_ifru };
        // SAFETY: the request is live, its name ends in a zero byte, and its data are as long as
        // the command's structure, which is the most that the kernel writes.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        Errno::result(result)?;
        Ok(words)
    }
}

/// The CPUs that a port's interrupts may go to, in the order of the interrupts' numbers; read from
/// the files below `root`. A virtio port's interrupts belong to the PCI device that it sits on.
fn interrupt_cpus(root: &Path, port: &str) -> Result<Vec<String>> {
    let device = root.join("sys/class/net").join(port).join("device");
    let mut entries = file::entries(&device.join("msi_irqs"))?;
    if entries.is_empty() {
        entries = file::entries(&device.join("../msi_irqs"))?;
    }
    let number = |entry: &Path| entry.file_name()?.to_str()?.parse::<u32>().ok();
    let numbers: BTreeSet<u32> = entries.iter().filter_map(|entry| number(entry)).collect();
    let cpus =
        |number: u32| file::read(&root.join(format!("proc/irq/{number}/smp_affinity_list"))).transpose();
    numbers.into_iter().filter_map(cpus).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fake;

    #[test]
    fn loopback_says_its_offloads_and_an_absent_port_nothing() {
        let ethtool = Ethtool::open().unwrap();
        let offloads = ethtool.offloads("lo").unwrap();
        assert!(offloads.scatter_gather && offloads.tx_checksum, "{offloads}");
        assert_eq!(ethtool.offloads("absent0"), None);
        assert_eq!(ethtool.driver("absent0"), None);
        assert_eq!(ethtool.driver("a-name-that-is-too-long-for-any-port"), None);
        assert_eq!(ethtool.queues("lo").unwrap(), None);
    }

    #[test]
    fn a_ports_interrupts_are_its_own_or_those_of_the_device_below() {
        for folder in ["sys/class/net/eth0/device/msi_irqs", "sys/devices/pci/msi_irqs"] {
            let root = tempfile::tempdir().unwrap();
            let write = |path: String, text: &str| {
                fake::write(root.path(), path, text);
            };
            for (number, cpus) in [(9, "0-3"), (24, "0"), (101, "1,3")] {
                write(format!("{folder}/{number}"), "msix");
                write(format!("proc/irq/{number}/smp_affinity_list"), &format!("{cpus}\n"));
            }
            if folder.contains("pci") {
                // A link to .../pci/virtio0, beside which the interrupts lie.
                fs::create_dir_all(root.path().join("sys/devices/pci/virtio0")).unwrap();
                fs::create_dir_all(root.path().join("sys/class/net/eth0")).unwrap();
                let device = root.path().join("sys/class/net/eth0/device");
                std::os::unix::fs::symlink(root.path().join("sys/devices/pci/virtio0"), device).unwrap();
            }
            assert_eq!(interrupt_cpus(root.path(), "eth0").unwrap(), ["0-3", "0", "1,3"], "{folder}");
            assert_eq!(interrupt_cpus(root.path(), "eth1").unwrap(), [""; 0]);
        }
    }
}
