//! Why the kernel copied what was sent with `MSG_ZEROCOPY`, as data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::case::Receiver;
use crate::sample::CopiedShare;

/// A reason why the kernel copies what `MSG_ZEROCOPY` has lent to it
/// ([`msg_zerocopy.rst`](https://docs.kernel.org/networking/msg_zerocopy.html)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum CopyCause {
    /// The receiver is a socket of this machine.
    LocalReceiver,
    /// Packet sockets that listen to every protocol (`packet(7)`, `ETH_P_ALL`): each takes a copy.
    PacketSocket {
        /// The port that they listen on; none if on all.
        device: Option<String>,
        /// How many.
        sockets: usize,
        /// Whose they are, as far as the processes of this user show it.
        owners: Vec<String>,
    },
    /// An XDP program looks at what the port receives.
    ReceiverXdp {
        /// The receiving port.
        device: String,
    },
    /// The port takes no packet from several pieces of memory.
    NoScatterGather {
        /// The sending port.
        device: String,
    },
    /// The port computes no checksums.
    NoTxChecksum {
        /// The sending port.
        device: String,
    },
    /// The port belongs to a process, which reads packets from it.
    Tun {
        /// The port.
        device: String,
    },
    /// Somebody has added a port to the sink's bridge, and every frame is flooded to it. The kernel
    /// copies it if a socket or a process takes it in there.
    BridgePort {
        /// The port.
        device: String,
    },
    /// The memory of this virtual machine is encrypted, and its devices cannot read it.
    EncryptedMemory {
        /// The sending port.
        device: String,
    },
}

impl CopyCause {
    /// Whether the completions may say *not copied* all the same: the copy is made without telling
    /// them. Without scatter-gather that is so for a packet of several segments, which the kernel
    /// copies as it cuts it (`skb_segment`).
    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::ReceiverXdp { .. } | Self::NoScatterGather { .. } | Self::EncryptedMemory { .. })
    }

    /// What takes the cause away.
    pub fn remedy(&self) -> String {
        match self {
            Self::LocalReceiver => {
                "measure the sender alone (`--receiver sink`), or between two real network ports \
                                    (`sudo ./netns-setup.sh up --nic IF_S IF_C`)"
                    .to_owned()
            }
            Self::PacketSocket { owners, .. } => {
                let whose = if owners.is_empty() {
                    "`sudo ss -0 -p` names the owner".to_owned()
                } else {
                    owners.join(", ")
                };
                format!("end what listens ({whose}), or have it listen to the one protocol that it needs")
            }
            Self::ReceiverXdp { device } => {
                format!("`sudo ip link set dev {device} xdp off`, in the receiver's namespace")
            }
            Self::NoScatterGather { device } => {
                format!("`sudo ethtool -K {device} sg on`, in the sender's namespace")
            }
            Self::NoTxChecksum { device } => {
                format!("`sudo ethtool -K {device} tx on sg on`, in the sender's namespace")
            }
            Self::Tun { .. } => "send through another port than one of tun or tap".to_owned(),
            Self::BridgePort { device } => {
                format!("`sudo ip link set dev {device} nomaster`, in the sink's network namespace")
            }
            Self::EncryptedMemory { .. } => {
                "measure on a machine or virtual machine without memory encryption".to_owned()
            }
        }
    }
}

impl fmt::Display for CopyCause {
    /// One sentence, without its full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalReceiver => f.write_str(
                "the receiver is on this machine, and the kernel copies what it delivers to a local socket",
            ),
            Self::PacketSocket { device, sockets, owners } => {
                let listen = if *sockets == 1 { "packet socket listens" } else { "packet sockets listen" };
                let device = device
                    .as_deref()
                    .map_or_else(|| "all ports".to_owned(), |device| format!("port {device}"));
                write!(f, "{sockets} {listen} to every packet (ETH_P_ALL) of {device}")?;
                if !owners.is_empty() {
                    write!(f, ", of {}", owners.join(", "))?;
                }
                f.write_str(": the kernel makes a copy for each")
            }
            Self::ReceiverXdp { device } => write!(
                f,
                "an XDP program on the receiving port {device} has every packet copied, and the completions do not \
                 say so"
            ),
            Self::NoScatterGather { device } => write!(
                f,
                "port {device} has scatter-gather off, and so takes no packet from the pages of a message; the completions \
                 do not always say so"
            ),
            Self::NoTxChecksum { device } => write!(
                f,
                "port {device} has the checksums of what it sends off, and the kernel copies a packet to compute them"
            ),
            Self::Tun { device } => write!(
                f,
                "port {device} is a tun or tap device, and the kernel copies what a process will read"
            ),
            Self::BridgePort { device } => write!(
                f,
                "port {device} was added to the sink's bridge: every frame is flooded to it, and the kernel copies it \
                 where it is received"
            ),
            Self::EncryptedMemory { device } => write!(
                f,
                "this virtual machine's memory is encrypted: what port {device} sends goes through bounce buffers \
                 (swiotlb), and the completions do not say so"
            ),
        }
    }
}

/// The causes that were found on each of the ways that messages take. None of a way that was not
/// looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyCauses {
    /// On the link to a receiver.
    pub link: Option<Vec<CopyCause>>,
    /// In the sink.
    pub sink: Option<Vec<CopyCause>>,
}

impl CopyCauses {
    /// Of the way to `receiver`.
    pub fn to(&self, receiver: Receiver) -> Option<&[CopyCause]> {
        let found = if receiver == Receiver::Sink { &self.sink } else { &self.link };
        found.as_deref()
    }
}

/// Those of `found` that explain what was copied: all of them, unless it is known that nothing was;
/// then those that the completions do not show.
pub fn that_explain(copied: CopiedShare, found: Vec<CopyCause>) -> Vec<CopyCause> {
    found.into_iter().filter(|cause| !copied.is_none() || cause.is_unseen()).collect()
}

/// The causes with their remedies, in words. Where nothing was found, it says so.
pub fn in_words(causes: &[CopyCause]) -> String {
    if causes.is_empty() {
        return "no cause was found".to_owned();
    }
    let each = causes.iter().map(|cause| format!("{cause}; remedy: {}", cause.remedy()));
    each.collect::<Vec<_>>().join(". Also: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::CopiedBound;

    fn every_cause() -> Vec<CopyCause> {
        let device = || "eth0".to_owned();
        vec![
            CopyCause::LocalReceiver,
            CopyCause::PacketSocket { device: None, sockets: 2, owners: vec!["lldpd (pid 7)".to_owned()] },
            CopyCause::PacketSocket { device: Some(device()), sockets: 1, owners: Vec::new() },
            CopyCause::ReceiverXdp { device: device() },
            CopyCause::NoScatterGather { device: device() },
            CopyCause::NoTxChecksum { device: device() },
            CopyCause::Tun { device: device() },
            CopyCause::BridgePort { device: device() },
            CopyCause::EncryptedMemory { device: device() },
        ]
    }

    #[test]
    fn a_cause_is_stored_and_read_back() {
        for cause in every_cause() {
            let text = serde_json::to_string(&cause).unwrap();
            assert!(text.contains("\"cause\":"), "{text}");
            assert_eq!(serde_json::from_str::<CopyCause>(&text).unwrap(), cause);
        }
    }

    #[test]
    fn a_socket_is_named_with_its_port_and_its_owner() {
        let [_, all, one, ..] = &every_cause()[..] else { panic!("there are more") };
        assert!(
            all.to_string()
                .starts_with("2 packet sockets listen to every packet (ETH_P_ALL) of all ports, of lldpd"),
            "{all}"
        );
        assert!(all.remedy().contains("lldpd (pid 7)"));
        assert!(
            one.to_string().starts_with("1 packet socket listens to every packet (ETH_P_ALL) of port eth0:"),
            "{one}"
        );
        assert!(one.remedy().contains("ss -0 -p"));
    }

    #[test]
    fn what_was_not_copied_is_explained_only_by_what_completions_do_not_show() {
        let of = |share, bound| that_explain(CopiedShare { share, bound }, every_cause());
        assert_eq!(of(0.5, CopiedBound::Exact).len(), every_cause().len());
        assert_eq!(of(0.0, CopiedBound::Either).len(), every_cause().len(), "some may have been copied");
        for bound in [CopiedBound::Exact, CopiedBound::Upper] {
            assert!(of(0.0, bound).iter().all(CopyCause::is_unseen));
        }
        assert_eq!(in_words(&[]), "no cause was found");
        assert!(in_words(&every_cause()).contains("remedy: `sudo ethtool -K eth0 sg on`"));
    }
}
