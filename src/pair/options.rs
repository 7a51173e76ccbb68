//! What is set on every data socket, and what the kernel made of it.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::case::parse_bytes;
use crate::environment::EffectiveSocket;
use crate::error::{Error, Result};
use crate::host;

/// The size of a socket's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Buffers {
    /// Asked for, in bytes. The kernel doubles it for its own bookkeeping, and without privilege
    /// caps it at `net.core.wmem_max` and `rmem_max` (`socket(7)`).
    Fixed(usize),
    /// Left to the kernel's autotuning: identical connections then differ for as long as they live.
    Auto,
}

impl Default for Buffers {
    fn default() -> Self {
        Self::Fixed(2 << 20)
    }
}

impl FromStr for Buffers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match parse_bytes(text) {
            Ok(bytes) if (4096..=1 << 30).contains(&bytes) => Ok(Self::Fixed(bytes)),
            _ => Err(Error::Setting(format!(
                "buffers {text:?}: expected auto, or 4K to 1024M in bytes such as 2M"
            ))),
        }
    }
}

impl fmt::Display for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes} bytes"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// What is set on every data socket, besides `TCP_NODELAY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// `SO_SNDBUF` and `SO_RCVBUF`.
    pub buffers: Buffers,
    /// `TCP_CONGESTION`. Fixed, because the machine's default may pace (`bbr`), and then the pacer
    /// is what a large message's time shows.
    pub congestion: String,
}

impl Default for SocketOptions {
    /// 2 MiB, and `reno`: built into every kernel and open to every user.
    fn default() -> Self {
        Self { buffers: Buffers::default(), congestion: "reno".to_owned() }
    }
}

impl SocketOptions {
    /// A stream socket that has them.
    pub(super) fn socket(&self, domain: Domain) -> Result<Socket> {
        let socket =
            Socket::new(domain, Type::STREAM, None).map_err(|errno| host::refused("socket(2)", errno))?;
        self.apply(&socket)?;
        Ok(socket)
    }

    /// The same, which resets its connection when it is closed: when an instance ends nothing is
    /// under way, and thousands of them would otherwise leave as many ports waiting.
    pub(super) fn resetting_socket(&self, domain: Domain) -> Result<Socket> {
        let socket = self.socket(domain)?;
        socket.set_linger(Some(Duration::ZERO)).map_err(Error::call("setsockopt(2) SO_LINGER"))?;
        Ok(socket)
    }

    /// Sets them on a socket: before `connect(2)` or `listen(2)`, since the window scale is fixed
    /// then.
    fn apply(&self, socket: &impl AsFd) -> Result<()> {
        if let Buffers::Fixed(bytes) = self.buffers {
            // The forced variants pass the sysctl caps, and take CAP_NET_ADMIN.
            setsockopt(socket, sockopt::SndBufForce, &bytes)
                .or_else(|_| setsockopt(socket, sockopt::SndBuf, &bytes))
                .map_err(Error::call("setsockopt(2) SO_SNDBUF"))?;
            setsockopt(socket, sockopt::RcvBufForce, &bytes)
                .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &bytes))
                .map_err(Error::call("setsockopt(2) SO_RCVBUF"))?;
        }
        setsockopt(socket, sockopt::TcpCongestion, &OsString::from(&self.congestion)).map_err(|errno| {
            Error::refused("setsockopt(2) TCP_CONGESTION", errno, format!(
                    "{:?} is not among net.ipv4.tcp_available_congestion_control ({}), or not allowed to this \
                     user; reno always is",
                    self.congestion,
                    host::sysctl("net/ipv4/tcp_available_congestion_control")
                ))
        })?;
        setsockopt(socket, sockopt::TcpNoDelay, &true).map_err(Error::call("setsockopt(2) TCP_NODELAY"))
    }
}

/// What the kernel says that `socket` has.
pub(super) fn effective(socket: &impl AsFd) -> Result<EffectiveSocket> {
    let read = || -> nix::Result<_> {
        let congestion = getsockopt(socket, sockopt::TcpCongestion)?;
        Ok(EffectiveSocket {
            send_buffer_bytes: getsockopt(socket, sockopt::SndBuf)?,
            recv_buffer_bytes: getsockopt(socket, sockopt::RcvBuf)?,
            congestion: congestion.to_string_lossy().trim_end_matches('\0').to_owned(),
            nodelay: getsockopt(socket, sockopt::TcpNoDelay)?,
        })
    };
    read().map_err(Error::call("getsockopt(2)"))
}
