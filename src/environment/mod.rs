//! The surroundings of a measurement as plain data: what they are, not what was asked for. Nothing here
//! opens a socket or asks the kernel; [`measure::environment`](crate::measure::environment) reads them.

pub mod copy_cause;
mod cpus;
mod link;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use copy_cause::{CopyCause, CopyCauses};
pub use cpus::{Core, Cpus};
pub use link::{Interface, Offloads, SinkLink, Topology};

/// Machine, limits and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's name; on ARM the numbers that stand for it.
    pub cpu_model: String,
    /// Whether cores run two threads at a time; none where the kernel does not say.
    #[serde(default)]
    pub smt: Option<bool>,
    /// What the process's cgroups allow.
    #[serde(default)]
    pub cgroup: CgroupLimits,
    /// Whether a thread's CPU time includes what it spent in softirqs, where the kernel receives packets and
    /// veth copies zero-copy data. Where it does not, or where that is not known (none), CPU times do not
    /// compare.
    #[serde(default)]
    pub softirq_in_cpu_time: Option<bool>,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: String,
    /// `RLIMIT_NOFILE`.
    pub open_files: String,
    /// Sysctls that bear on the paths, as the server's namespace has them.
    pub sysctls: Vec<(String, String)>,
    /// Where pairs run, in words: a line for each placement that is measured.
    pub placements: Vec<String>,
    /// What was asked of the sockets, in words.
    pub asked_buffers: String,
    /// The settings as they came out.
    pub effective: Effective,
    /// The link of the cases that nobody receives; none where there are no such cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkLink>,
}

/// The smallest limits among a process's cgroup and those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// How many CPUs may be busy at a time, on average over a period; none where there is no limit.
    pub cpus: Option<f64>,
    /// Memory in bytes; none where there is no limit.
    pub memory_bytes: Option<u64>,
}

impl CgroupLimits {
    /// Whether there is a limit.
    #[must_use]
    pub fn any(&self) -> bool {
        self.cpus.is_some() || self.memory_bytes.is_some()
    }
}

impl fmt::Display for CgroupLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpus {
            Some(cpus) => write!(f, "CPU quota {cpus:.2} CPUs, ")?,
            None => f.write_str("no CPU quota, ")?,
        }
        match self.memory_bytes {
            Some(bytes) => write!(f, "memory limit {} MiB", bytes >> 20),
            None => f.write_str("no memory limit"),
        }
    }
}

/// The settings as they came out, read back from the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// Where the two processes run.
    pub topology: Topology,
    /// The CPUs that pairs are dealt to.
    pub cpus: Cpus,
    /// The server's end of the link.
    pub server_link: Interface,
    /// The client's end of the link.
    pub client_link: Interface,
    /// A data socket of the server's.
    pub server_socket: EffectiveSocket,
    /// A data socket of the client's.
    pub client_socket: EffectiveSocket,
}

/// What the kernel says a data socket has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveSocket {
    /// `SO_SNDBUF`: twice what was asked for, unless it was capped.
    pub send_buffer_bytes: usize,
    /// `SO_RCVBUF`, likewise.
    pub recv_buffer_bytes: usize,
    /// `TCP_CONGESTION`.
    pub congestion: String,
    /// `TCP_NODELAY`.
    pub nodelay: bool,
}

impl EffectiveSocket {
    /// The sizes of its two buffers, in words.
    fn buffers(&self) -> String {
        format!("{}/{} bytes", self.send_buffer_bytes, self.recv_buffer_bytes)
    }
}

impl Effective {
    /// Whether nothing but CPUs of this machine reads what is sent: veth or loopback, and no network card.
    #[must_use]
    pub fn stays_in_memory(&self) -> bool {
        let is_veth = |link: &Interface| link.driver.as_deref() == Some("veth");
        self.topology == Topology::Loopback || is_veth(&self.server_link) && is_veth(&self.client_link)
    }

    /// The sizes of both sockets' buffers, in words.
    fn buffers(&self) -> String {
        format!("{} (server), {} (client)", self.server_socket.buffers(), self.client_socket.buffers())
    }

    /// The MTUs of both ends, in words.
    fn mtu(&self) -> String {
        format!("{} and {} bytes", self.server_link.mtu_bytes, self.client_link.mtu_bytes)
    }
}

impl Environment {
    /// What differs between the two so that their numbers do not compare. Each entry names both values.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let facts = |of: &Self| {
            let effective = &of.effective;
            [
                ("cpu", of.cpu_model.clone()),
                ("cpus", format!("{:?}", effective.cpus.numbers())),
                ("smt", known(of.smt, "on", "off").to_owned()),
                ("cgroup", of.cgroup.to_string()),
                ("kernel", of.kernel.clone()),
                ("softirq in CPU time", known(of.softirq_in_cpu_time, "yes", "no").to_owned()),
                ("topology", effective.topology.to_string()),
                ("server port", effective.server_link.describe_port()),
                ("client port", effective.client_link.describe_port()),
                ("placement", of.placements.join("; ")),
                ("mtu", effective.mtu()),
                ("buffers", of.asked_buffers.clone()),
                ("effective buffers", effective.buffers()),
                ("congestion control", effective.server_socket.congestion.clone()),
                (
                    "sink",
                    of.sink.as_ref().map_or_else(
                        || "none".to_owned(),
                        |sink| format!("{sink}, {}", sink.interface.describe_port()),
                    ),
                ),
            ]
        };
        let pairs = facts(self).into_iter().zip(facts(now)).filter(|((_, then), (_, now))| then != now);
        pairs.map(|((name, then), (_, now))| format!("{name} was {then:?} and is {now:?}")).collect()
    }
}

fn known(value: Option<bool>, yes: &'static str, no: &'static str) -> &'static str {
    match value {
        Some(true) => yes,
        Some(false) => no,
        None => "unknown",
    }
}

impl fmt::Display for Environment {
    /// A line for each setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effective = &self.effective;
        let Effective { topology, cpus, server_link, client_link, server_socket, .. } = effective;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<12} {value}");
        line("topology", topology.to_string())?;
        if let Some(sink) = &self.sink {
            line("sink", sink.to_string())?;
            line("port", format!("{} (sink)", sink.interface.describe_port()))?;
            line(
                "buffers",
                format!("asked {}; send/receive {} (sink)", self.asked_buffers, sink.socket.buffers()),
            )?;
        }
        // Where nobody receives, no case goes over the link between the two processes.
        let has_receiver = self.sink.as_ref().is_none_or(|sink| !sink.is_alone);
        if has_receiver {
            line(
                "link",
                format!(
                    "{} {} (server), {} {} (client)",
                    server_link.name, server_link.address, client_link.name, client_link.address
                ),
            )?;
            for (side, link) in [("server", server_link), ("client", client_link)] {
                if link.driver.is_some() {
                    line("port", format!("{} ({side})", link.describe_port()))?;
                }
            }
            line("mtu", effective.mtu())?;
        }
        let cpu_numbers: Vec<_> = cpus.numbers().iter().map(ToString::to_string).collect();
        line("cpus", format!("{} of {}", cpu_numbers.join(","), self.cpu_model))?;
        if self.cgroup.any() {
            line("cgroup", self.cgroup.to_string())?;
        }
        for placement in &self.placements {
            line("placement", placement.clone())?;
        }
        line("kernel", self.kernel.clone())?;
        let no_verdict = "so that no verdict is based on CPU time";
        match self.softirq_in_cpu_time {
            Some(true) => {}
            Some(false) => line("cpu time", format!("without softirq time, {no_verdict}"))?,
            None => line("cpu time", format!("with or without softirq time is not known, {no_verdict}"))?,
        }
        if has_receiver {
            line("buffers", format!("asked {}; send/receive {}", self.asked_buffers, effective.buffers()))?;
        }
        line(
            "tcp",
            format!(
                "{}, nodelay {}",
                server_socket.congestion,
                if server_socket.nodelay { "on" } else { "off" }
            ),
        )?;
        let sysctls: Vec<_> = self.sysctls.iter().map(|(name, value)| format!("{name} {value}")).collect();
        line(
            "limits",
            format!("memlock {}, open files {}, {}", self.memlock, self.open_files, sysctls.join(", ")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let link = |name: &str, last| Interface {
            name: name.to_owned(),
            address: [10, 200, 1, last].into(),
            mask: [255, 255, 255, 0].into(),
            mtu_bytes: 1500,
            driver: Some("veth".to_owned()),
            offloads: Some(Offloads {
                scatter_gather: true,
                tx_checksum: true,
                tcp_segmentation: true,
                generic_receive: false,
            }),
        };
        let socket = EffectiveSocket {
            send_buffer_bytes: 4 << 20,
            recv_buffer_bytes: 4 << 20,
            congestion: "reno".to_owned(),
            nodelay: true,
        };
        Environment {
            kernel: "6.1.0".to_owned(),
            cpu_model: "a CPU".to_owned(),
            smt: Some(false),
            cgroup: CgroupLimits::default(),
            softirq_in_cpu_time: Some(true),
            memlock: "unlimited".to_owned(),
            open_files: "1024".to_owned(),
            sysctls: Vec::new(),
            placements: Vec::new(),
            asked_buffers: "2097152 bytes".to_owned(),
            effective: Effective {
                topology: Topology::Anonymous,
                cpus: vec![Core { node: 0, cpus: vec![0, 1] }].into(),
                server_link: link("veth_s", 1),
                client_link: link("veth_c", 2),
                server_socket: socket.clone(),
                client_socket: socket,
            },
            sink: None,
        }
    }

    type Change = fn(&mut Environment);

    #[test]
    fn surroundings_differ_in_whatever_changes_the_numbers() {
        let then = environment();
        assert_eq!(then.differences(&then), [""; 0]);
        let changes: [(&str, Change); 13] = [
            ("cpu ", |now| now.cpu_model = "another".to_owned()),
            ("cpus ", |now| now.effective.cpus = now.effective.cpus.clone().at_most(1)),
            ("smt ", |now| now.smt = Some(true)),
            ("cgroup ", |now| now.cgroup.cpus = Some(1.5)),
            ("cgroup ", |now| now.cgroup.memory_bytes = Some(1 << 30)),
            ("softirq in CPU time ", |now| now.softirq_in_cpu_time = None),
            ("server port ", |now| now.effective.server_link.driver = Some("ixgbe".to_owned())),
            ("client port ", |now| now.effective.client_link.offloads.as_mut().unwrap().tx_checksum = false),
            ("mtu ", |now| now.effective.client_link.mtu_bytes = 9000),
            ("effective buffers ", |now| now.effective.server_socket.send_buffer_bytes = 425_984),
            ("effective buffers ", |now| now.effective.server_socket.recv_buffer_bytes = 425_984),
            ("effective buffers ", |now| now.effective.client_socket.send_buffer_bytes = 425_984),
            ("effective buffers ", |now| now.effective.client_socket.recv_buffer_bytes = 425_984),
        ];
        for (name, change) in changes {
            let mut now = environment();
            change(&mut now);
            let differences = then.differences(&now);
            assert!(matches!(&differences[..], [one] if one.starts_with(name)), "{name}: {differences:?}");
        }
    }

    #[test]
    fn surroundings_that_an_earlier_version_stored_are_read() {
        let mut stored = serde_json::to_value(environment()).unwrap();
        for name in ["smt", "cgroup", "softirq_in_cpu_time"] {
            assert!(stored.as_object_mut().unwrap().remove(name).is_some(), "{name}");
        }
        stored["effective"]["cpus"] = serde_json::json!([0, 1]);
        for link in ["server_link", "client_link"] {
            let link = stored["effective"][link].as_object_mut().unwrap();
            link.retain(|name, _| name != "driver" && name != "offloads");
        }
        let earlier: Environment = serde_json::from_value(stored).unwrap();
        assert_eq!(earlier.effective.cpus.numbers(), [0, 1]);
        assert_eq!((earlier.smt, earlier.softirq_in_cpu_time), (None, None));
    }

    #[test]
    fn cpu_time_that_may_lack_softirq_time_is_said_to() {
        let mut environment = environment();
        assert!(!environment.to_string().contains("softirq"), "{environment}");
        for state in [Some(false), None] {
            environment.softirq_in_cpu_time = state;
            assert!(environment.to_string().contains("no verdict is based on CPU time"), "{environment}");
        }
    }

    #[test]
    fn a_cgroup_is_named_where_it_limits_something() {
        let mut environment = environment();
        assert!(!environment.to_string().contains("cgroup"), "{environment}");
        environment.cgroup = CgroupLimits { cpus: Some(1.5), memory_bytes: Some(512 << 20) };
        let text = environment.to_string();
        assert!(text.contains("cgroup       CPU quota 1.50 CPUs, memory limit 512 MiB"), "{text}");
    }
}
