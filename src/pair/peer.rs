//! Who the client is: a child of this process, or a program elsewhere that a command reaches.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How the client is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A child of this process: the `sendpath` command, by its file.
    Child(PathBuf),
    /// A command whose standard input and output lead to `sendpath client`, on whatever machine.
    Peer(Peer),
}

/// A client that a command starts or reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The command, in words. It is run without a shell.
    pub command: Vec<String>,
    /// Where the data connections are made to, where it was given.
    pub server_address: Option<ServerAddress>,
}

impl Peer {
    /// What the name of a program begins with that was brought over for one comparison. No other
    /// may be removed.
    pub const COPY_PREFIX: &str = "sendpath-peer-";

    /// Reads a command as a shell takes it apart: `ssh bob sendpath client`.
    ///
    /// # Errors
    /// [`Error::Setting`] where nothing is in it, or a quote is not closed.
    pub fn parse(text: &str) -> Result<Self> {
        match shlex::split(text) {
            Some(command) if !command.is_empty() => Ok(Self { command, server_address: None }),
            _ => Err(Error::Setting(format!(
                "peer {text:?}: expected a command whose standard input and output lead to `sendpath client`, as in \
                 'ssh bob sendpath client'"
            ))),
        }
    }
}

/// The server's address for data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// The address, which is on an interface of the server's.
    pub address: IpAddr,
    /// The port; 0 for any that is free.
    pub port: u16,
}

impl FromStr for ServerAddress {
    type Err = Error;

    /// Reads `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port stands in brackets.
    fn from_str(text: &str) -> Result<Self> {
        let alone = |address| Self { address, port: 0 };
        let with_port = |address: SocketAddr| Self { address: address.ip(), port: address.port() };
        let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let read = unbracketed.parse().map(alone).or_else(|_| text.parse().map(with_port));
        match read {
            Ok(Self { address, .. }) if address.is_unspecified() || address.is_multicast() => {
                Err(Error::Setting(format!("server address {text:?}: no connection can be made to it")))
            }
            Ok(read) => Ok(read),
            Err(_) => Err(Error::Setting(format!(
                "server address {text:?}: expected an address of this machine, with or without a port: 10.0.0.1, \
                 10.0.0.1:7001, fd00::1, [fd00::1]:7001"
            ))),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port } = *self;
        if port == 0 { address.fmt(f) } else { SocketAddr::from((address, port)).fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_apart_as_a_shell_does() {
        let peer = Peer::parse("ssh -p 2222 bob 'a path/sendpath' client").unwrap();
        assert_eq!(peer.command, ["ssh", "-p", "2222", "bob", "a path/sendpath", "client"]);
        for text in ["", "  ", "ssh 'bob"] {
            assert!(Peer::parse(text).unwrap_err().is_bad_input(), "{text:?}");
        }
    }

    #[test]
    fn a_servers_address_has_a_port_or_none() {
        for text in ["10.0.0.1", "10.0.0.1:7001", "fd00::1", "[fd00::1]:7001"] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        assert_eq!("[fd00::1]".parse::<ServerAddress>().unwrap().to_string(), "fd00::1");
        for text in ["", "bob", "10.0.0", "10.0.0.1:", "10.0.0.1:70000", "0.0.0.0", "[::]:7001", "224.0.0.1"]
        {
            let error = text.parse::<ServerAddress>().unwrap_err();
            assert!(error.is_bad_input() && error.to_string().contains(text), "{error}");
        }
    }
}
