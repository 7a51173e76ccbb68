//! Who the client is: a child of this process, or a program elsewhere that a command reaches.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

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
    pub server_address: Option<SocketAddr>,
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

/// Reads the server's address for data connections: `ADDRESS`, of which any port will do (0), or
/// `ADDRESS:PORT`; an IPv6 address with a port stands in brackets.
///
/// # Errors
/// [`Error::Setting`] where it is none, or no connection can be made to it.
pub fn parse_server_address(text: &str) -> Result<SocketAddr> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = unbracketed.parse().map(|address: IpAddr| SocketAddr::from((address, 0)));
    match alone.or_else(|_| text.parse()) {
        Ok(read) if read.ip().is_unspecified() || read.ip().is_multicast() => {
            Err(Error::Setting(format!("server address {text:?}: no connection can be made to it")))
        }
        Ok(read) => Ok(read),
        Err(_) => Err(Error::Setting(format!(
            "server address {text:?}: expected an address of this machine, with or without a port: 10.0.0.1, \
             10.0.0.1:7001, fd00::1, [fd00::1]:7001"
        ))),
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
        for (text, read) in [
            ("10.0.0.1", "10.0.0.1:0"),
            ("10.0.0.1:7001", "10.0.0.1:7001"),
            ("fd00::1", "[fd00::1]:0"),
            ("[fd00::1]", "[fd00::1]:0"),
            ("[fd00::1]:7001", "[fd00::1]:7001"),
        ] {
            assert_eq!(parse_server_address(text).unwrap().to_string(), read);
        }
        for text in ["", "bob", "10.0.0", "10.0.0.1:", "10.0.0.1:70000", "0.0.0.0", "[::]:7001", "224.0.0.1"]
        {
            let error = parse_server_address(text).unwrap_err();
            assert!(error.is_bad_input() && error.to_string().contains(text), "{error}");
        }
    }
}
