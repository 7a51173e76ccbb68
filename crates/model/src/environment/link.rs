//! Where the two processes run, and the link between them, as data.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::EffectiveSocket;

/// Where the two processes run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// Two namespaces without a name, joined by veth.
    #[default]
    #[strum(to_string = "anonymous network namespaces joined by veth")]
    Anonymous,
    /// Two namespaces that exist under `/run/netns`.
    #[strum(to_string = "network namespaces {server} (server) and {client} (client)")]
    Named {
        /// Where the server runs.
        server: String,
        /// Where the client runs.
        client: String,
    },
    /// No namespaces: both ends in the present one, over 127.0.0.1.
    #[strum(to_string = "loopback, no namespaces")]
    Loopback,
    /// The server in the present namespace, the client wherever a peer's command starts it.
    #[strum(to_string = "a client that the peer's command starts")]
    Peer,
}

impl Topology {
    /// Reads what `SENDPATH_NETNS` and `--netns` take: `anonymous`, `loopback`, or the names of two
    /// namespaces as `SERVER,CLIENT`.
    ///
    /// # Errors
    /// What it takes, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "network namespaces {text:?}: expected SERVER,CLIENT (two names below /run/netns), \
                 anonymous or loopback"
            )
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
}

/// One end of the link, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The mask of its network.
    pub mask: IpAddr,
    /// The largest packet it takes, in bytes.
    pub mtu_bytes: u32,
    /// What drives it; none where the kernel does not say, as of `lo`.
    #[serde(default)]
    pub driver: Option<String>,
    /// Which of the offloads that the paths depend on are on; none where the kernel does not say.
    #[serde(default)]
    pub offloads: Option<Offloads>,
    /// Its queueing discipline (`tc qdisc`), `noqueue` where it has none; none where the kernel
    /// does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdisc: Option<String>,
    /// Its rings, queues and interrupts; none where there are none, as of veth, or the kernel does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Queues>,
    /// The hardware ports that it is stacked on, by name: what it sends may leave the machine
    /// there. None where that cannot be seen, or an earlier version did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Vec<String>>,
}

impl Interface {
    /// The driver and the offloads, in words.
    pub fn describe_port(&self) -> String {
        // What is not of the port is told elsewhere.
        let Self {
            name: _,
            address: _,
            mask: _,
            mtu_bytes: _,
            qdisc: _,
            driver,
            offloads,
            queues,
            hardware: _,
        } = self;
        let driver = driver.as_deref().unwrap_or("unknown");
        let offloads =
            offloads.map_or_else(|| "offloads unknown".to_owned(), |offloads| offloads.to_string());
        let queues = queues.as_ref().map_or_else(String::new, |queues| format!(", {queues}"));
        format!("driver {driver}, {offloads}{queues}")
    }

    /// Whether what it sends stays in this machine's memory, as far as what it is stacked on tells,
    /// or else its driver.
    pub(super) fn is_in_memory(&self) -> bool {
        if let Some(hardware) = &self.hardware {
            return hardware.is_empty();
        }
        self.driver.as_deref() == Some("veth") || self.address.is_loopback() || self.name == "lo"
    }
}

/// How a network port hands packets over, as `ethtool -g`, `-c` and `-l` and `/proc/interrupts`
/// show it. What the driver does not say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Packets that the receive and the transmit ring hold.
    pub ring_packets: Option<(u32, u32)>,
    /// How long the port waits for more packets before it interrupts, in microseconds: received and
    /// sent ones.
    pub coalesced_us: Option<(u32, u32)>,
    /// Queues: those that receive, send, and do both.
    pub queues: Option<(u32, u32, u32)>,
    /// The CPUs that each of its interrupts may go to, as `smp_affinity_list` has them.
    pub interrupt_cpus: Vec<String>,
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring_packets, coalesced_us, queues, interrupt_cpus } = self;
        let mut words = Vec::new();
        words.extend(ring_packets.map(|(receive, send)| format!("rings of {receive} and {send} packets")));
        words.extend(
            coalesced_us
                .map(|(receive, send)| format!("coalescing {receive} and {send} \u{b5}s (receive, send)")),
        );
        words.extend(queues.map(|(receive, send, both)| match (receive, send) {
            (0, 0) => format!("{both} queues"),
            _ => format!("{receive} receive and {send} send queues, {both} for both"),
        }));
        if !interrupt_cpus.is_empty() {
            words.push(format!("interrupts to CPUs {}", interrupt_cpus.join(" ")));
        }
        f.write_str(&words.join(", "))
    }
}

/// The link of the cases that nobody receives, and a connection's settings, read back from the
/// kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLink {
    /// The end that connections leave by. The other end is the only port of a bridge.
    pub interface: Interface,
    /// The address that connections are made to, which nobody has.
    pub peer: Ipv4Addr,
    /// `TCP_MAXSEG`: payload bytes of a segment.
    pub mss_bytes: u32,
    /// A data socket.
    pub socket: EffectiveSocket,
    /// Whether what the kernel does with acknowledgements is in the sender's CPU time, as it was
    /// tried; none in data of versions before this was asked. Where it is not, no CPU time is told.
    #[serde(default)]
    pub acknowledged_in_cpu_time: Option<bool>,
    /// Whether every case goes this way, so that the link between the two processes carries none.
    pub is_alone: bool,
}

impl SinkLink {
    /// Why no CPU time is told, where it is not.
    pub const CPU_TIME_IS_NOT_TOLD: &str = "this kernel processes the sink's acknowledgements outside of the sender's \
        thread, so that they are not in its CPU time";
}

impl fmt::Display for SinkLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, peer, mss_bytes, .. } = self;
        write!(
            f,
            "{} {} to {peer}, which nobody has: veth into a bridge without another port, MTU {}, MSS {mss_bytes} bytes",
            interface.name, interface.address, interface.mtu_bytes
        )?;
        if self.acknowledged_in_cpu_time == Some(false) {
            f.write_str(", acknowledgements processed outside of the sender's thread")?;
        }
        Ok(())
    }
}

/// What a network port does in the kernel's stead, as `ethtool -k` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "one for each offload")]
pub struct Offloads {
    /// Takes a packet from several pieces of memory.
    pub scatter_gather: bool,
    /// Computes the checksums of what is sent.
    pub tx_checksum: bool,
    /// Cuts large TCP packets into segments.
    pub tcp_segmentation: bool,
    /// The kernel joins received segments before the stack sees them.
    pub generic_receive: bool,
}

impl fmt::Display for Offloads {
    /// With `ethtool`'s short names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "on" } else { "off" };
        let Self { scatter_gather, tx_checksum, tcp_segmentation, generic_receive } = *self;
        let (sg, tx) = (word(scatter_gather), word(tx_checksum));
        let (tso, gro) = (word(tcp_segmentation), word(generic_receive));
        write!(f, "sg {sg}, tx {tx}, tso {tso}, gro {gro}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_two_names_or_a_word() {
        assert_eq!(Topology::parse("anonymous").unwrap(), Topology::Anonymous);
        assert_eq!(Topology::parse("loopback").unwrap(), Topology::Loopback);
        let named = Topology::Named { server: "ns_s".to_owned(), client: "ns_c".to_owned() };
        assert_eq!(Topology::parse("ns_s,ns_c").unwrap(), named);
        for text in ["", "ns_s", "ns_s,", ",ns_c", "a,b,c", "a,a", "../x,b", "a,b/c"] {
            assert!(Topology::parse(text).is_err(), "{text}");
        }
    }
}
