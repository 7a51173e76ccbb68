//! The driver and the offloads of a network port, by `SIOCETHTOOL` (see `netdevice(7)` and
//! `<linux/ethtool.h>`). Any user may ask for these.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::environment::Offloads;
use crate::error::{Error, Result};

const GET_DRIVER_INFO: u32 = 0x03;
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_SCATTER_GATHER: u32 = 0x18;
const GET_TCP_SEGMENTATION: u32 = 0x1e;
const GET_GENERIC_RECEIVE: u32 = 0x2b;

/// `struct ethtool_drvinfo` in bytes. The driver's name comes behind the command, in 32 bytes.
const DRIVER_INFO_BYTES: usize = 196;

/// A socket of the namespace that it was opened in, through which its ports are asked.
pub(super) struct Ethtool(Socket);

impl Ethtool {
    pub(super) fn open() -> Result<Self> {
        Socket::new(Domain::IPV4, Type::DGRAM, None).map(Self).map_err(Error::call("socket(2)"))
    }

    /// The driver's name; none where the kernel does not say.
    pub(super) fn driver(&self, port: &str) -> Option<String> {
        let mut info = [0; DRIVER_INFO_BYTES / 4];
        info[0] = GET_DRIVER_INFO;
        self.request(port, &mut info).ok()?;
        let bytes: Vec<u8> = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name: Vec<u8> = bytes.into_iter().take_while(|&byte| byte != 0).collect();
        (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
    }

    /// The offloads; none where the kernel does not say.
    pub(super) fn offloads(&self, port: &str) -> Option<Offloads> {
        let is_on = |command| {
            let mut value = [command, 0]; // `struct ethtool_value`
            self.request(port, &mut value).ok().map(|()| value[1] != 0)
        };
        Some(Offloads {
            scatter_gather: is_on(GET_SCATTER_GATHER)?,
            tx_checksum: is_on(GET_TX_CHECKSUM)?,
            tcp_segmentation: is_on(GET_TCP_SEGMENTATION)?,
            generic_receive: is_on(GET_GENERIC_RECEIVE)?,
        })
    }

    /// Has the kernel fill a command's structure, which is all 32-bit words or bytes and begins with the
    /// command.
    fn request(&self, port: &str, words: &mut [u32]) -> io::Result<()> {
        let needed_words = match words.first() {
            Some(&GET_DRIVER_INFO) => DRIVER_INFO_BYTES / 4,
            Some(&(GET_TX_CHECKSUM | GET_SCATTER_GATHER | GET_TCP_SEGMENTATION | GET_GENERIC_RECEIVE)) => 2,
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        let mut name = [0; libc::IFNAMSIZ];
        if words.len() != needed_words || port.len() >= name.len() {
            return Err(Errno::EINVAL.into());
        }
        for (to, from) in name.iter_mut().zip(port.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: words.as_mut_ptr().cast() };
        let mut request = libc::ifreq { ifr_name: name, ifr_ifru };
        // SAFETY: the request is live, its name ends in a zero byte, and its data are as long as the
        // command's structure, which is the most that the kernel writes.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        Errno::result(result).map(drop).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_says_its_offloads_and_an_absent_port_nothing() {
        let ethtool = Ethtool::open().unwrap();
        let offloads = ethtool.offloads("lo").unwrap();
        assert!(offloads.scatter_gather && offloads.tx_checksum, "{offloads}");
        assert_eq!(ethtool.offloads("absent0"), None);
        assert_eq!(ethtool.driver("absent0"), None);
        assert_eq!(ethtool.driver("a-name-that-is-too-long-for-any-port"), None);
    }
}
