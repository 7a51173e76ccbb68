//! The surroundings of a measurement as plain data: what they are, not what was asked for. Nothing
//! here opens a socket or asks the kernel.

pub mod copy_cause;
mod cpus;
mod link;
mod machine;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::case::{CaseError, Placement};
use crate::sample::Side;

pub use copy_cause::{CopyCause, CopyCauses};
pub use cpus::{Core, Cpus};
pub use link::{Interface, Offloads, Queues, SinkLink, Topology};
pub use machine::{CgroupLimits, ClientMachine, Machine, Program, Tuning};

/// Machine, limits and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The machine that the server runs on, and the client with it unless [`Effective::client`]
    /// says otherwise.
    #[serde(flatten)]
    pub machine: Machine,
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
    /// What the client runs on, where a peer's command has started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientMachine>,
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
    /// Whether nothing but CPUs of this machine reads what is sent: veth or loopback, and no
    /// network card.
    pub fn stays_in_memory(&self) -> bool {
        self.is_one_machine() && self.server_link.is_in_memory() && self.client_link.is_in_memory()
    }

    /// Whether both ends run on this machine.
    pub fn is_one_machine(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.is_the_servers)
    }

    /// The CPUs that the pairs' ends of one side are dealt to, and how. Where the client has CPUs
    /// of its own, [`Placement::Split`] is as [`Placement::Paired`] for each side: the two ends of
    /// a pair share no CPU anyway.
    pub fn dealt(&self, placement: Placement, side: Side) -> (&Cpus, Placement) {
        let own = if placement == Placement::Split { Placement::Paired } else { placement };
        match (self.client_cpus(), side) {
            (None, _) => (&self.cpus, placement),
            (Some(_), Side::Server) => (&self.cpus, own),
            (Some(client), Side::Client) => (client, own),
        }
    }

    /// The CPUs on which one end of pair number `pair` runs.
    ///
    /// # Errors
    /// As [`Cpus::place`].
    pub fn place(&self, placement: Placement, side: Side, pair: usize) -> Result<&[usize], CaseError> {
        let (cpus, placement) = self.dealt(placement, side);
        cpus.place(placement, side, pair)
    }

    /// The client's CPUs, where they are not the server's.
    pub fn client_cpus(&self) -> Option<&Cpus> {
        let client = self.client.as_ref()?;
        (!client.is_the_servers || client.cpus != self.cpus).then_some(&client.cpus)
    }

    /// Says in words where pairs run.
    pub fn describe(&self, placement: Placement) -> String {
        match self.client_cpus() {
            None => self.cpus.describe(placement),
            Some(client) => {
                let (servers, clients) = (self.cpus.list(), client.list());
                format!("{placement}: servers on {servers} of their machine, clients on {clients} of theirs")
            }
        }
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
    /// Whether CPU time includes what was spent in softirqs, on both sides; none where that is not
    /// known of one.
    pub fn softirq_in_cpu_time(&self) -> Option<bool> {
        let server = self.machine.softirq_in_cpu_time;
        match &self.effective.client {
            None => server,
            Some(client) => Some(server? && client.machine.softirq_in_cpu_time?),
        }
    }

    /// What differs between the two so that their numbers do not compare. Each entry names both
    /// values. What only one of them has recorded is not said to differ.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = self.facts().into_iter().zip(now.facts());
        let differs = |((name, then), (_, now)): ((String, Option<String>), (_, Option<String>))| {
            let (then, now) = (then?, now?);
            (then != now).then(|| format!("{name} was {then:?} and is {now:?}"))
        };
        pairs.filter_map(differs).collect()
    }

    /// What bears on the numbers, by name; none of what an earlier version did not record.
    fn facts(&self) -> Vec<(String, Option<String>)> {
        // Every field is taken here by its name, so that a new one cannot be forgotten.
        let Self { machine, placements, asked_buffers, effective, sink } = self;
        let Machine {
            kernel,
            cpu_model,
            smt,
            cgroup,
            softirq_in_cpu_time,
            memlock: _, // these three: see `pinned_memory`
            open_files: _,
            sysctls: _,
            tuning,
        } = machine;
        let Effective { topology, cpus, server_link, client_link, server_socket, client_socket, client } =
            effective;
        // The two buffers are told together.
        let tcp =
            |EffectiveSocket { congestion, nodelay, send_buffer_bytes: _, recv_buffer_bytes: _ }: &_| {
                format!("{congestion}, nodelay {}", if *nodelay { "on" } else { "off" })
            };
        let port_of_sink = |sink: &SinkLink| format!("{sink}, {}", sink.interface.describe_port());
        let in_full = client.as_ref().map(ClientMachine::in_full);
        let facts = [
            ("cpu", cpu_model.clone()),
            ("cpus", format!("{:?}", cpus.numbers())),
            ("smt", known(*smt, "on", "off").to_owned()),
            ("cgroup", cgroup.to_string()),
            ("limits", machine.pinned_memory()),
            ("kernel", kernel.clone()),
            ("softirq in CPU time", known(*softirq_in_cpu_time, "yes", "no").to_owned()),
            ("topology", topology.to_string()),
            ("client", in_full.unwrap_or_else(|| "as the server".to_owned())),
            ("server port", server_link.describe_port()),
            ("client port", client_link.describe_port()),
            ("placement", placements.join("; ")),
            ("mtu", effective.mtu()),
            ("buffers", asked_buffers.clone()),
            ("effective buffers", effective.buffers()),
            ("congestion control", tcp(server_socket)),
            ("client's congestion control", tcp(client_socket)),
            ("sink", sink.as_ref().map_or_else(|| "none".to_owned(), port_of_sink)),
        ];
        let recorded_later = [
            ("server qdisc", server_link.qdisc.clone()),
            ("client qdisc", client_link.qdisc.clone()),
            ("sink qdisc", sink.as_ref().and_then(|sink| sink.interface.qdisc.clone())),
        ];
        let mut facts = facts.map(|(name, value)| (name.to_owned(), Some(value))).to_vec();
        facts.extend(recorded_later.map(|(name, value)| (name.to_owned(), value)));
        let client = client.as_ref().and_then(|client| client.machine.tuning.as_ref());
        for (whose, tuning) in [("", tuning.as_ref()), ("client's ", client)] {
            let words = tuning.cloned().unwrap_or_default().facts();
            facts.extend(words.map(|(name, value)| (format!("{whose}{name}"), tuning.and(value))));
        }
        facts
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
        let machine = &self.machine;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<12} {value}");
        line("topology", topology.to_string())?;
        if let Some(sink) = &self.sink {
            line("sink", sink.to_string())?;
            line("port", format!("{} (sink)", sink.interface.describe_port()))?;
            let buffers = sink.socket.buffers();
            line("buffers", format!("asked {}; send/receive {buffers} (sink)", self.asked_buffers))?;
        }
        let end_of_sink = self.sink.as_ref().map(|sink| (&sink.interface, "sink"));
        // Where nobody receives, no case goes over the link between the two processes.
        let has_receiver = self.sink.as_ref().is_none_or(|sink| !sink.is_alone);
        if has_receiver {
            let end = |link: &Interface, side| format!("{} {} ({side})", link.name, link.address);
            line("link", format!("{}, {}", end(server_link, "server"), end(client_link, "client")))?;
            for (side, link) in [("server", server_link), ("client", client_link)] {
                if link.driver.is_some() {
                    line("port", format!("{} ({side})", link.describe_port()))?;
                }
            }
            line("mtu", effective.mtu())?;
        }
        let ends_of_link =
            [(server_link, "server"), (client_link, "client")].into_iter().filter(|_| has_receiver);
        let qdisc = |(link, side): (&Interface, &str)| Some(format!("{} ({side})", link.qdisc.as_ref()?));
        let qdiscs: Vec<_> = end_of_sink.into_iter().chain(ends_of_link).filter_map(qdisc).collect();
        if !qdiscs.is_empty() {
            line("qdisc", qdiscs.join(", "))?;
        }
        line("cpus", format!("{} of {}", cpus.list(), machine.cpu_model))?;
        if machine.cgroup.any() {
            line("cgroup", machine.cgroup.to_string())?;
        }
        for placement in &self.placements {
            line("placement", placement.clone())?;
        }
        line("kernel", machine.kernel.clone())?;
        if let Some(tuning) = &machine.tuning {
            line("machine", tuning.to_string())?;
        }
        if let Some(client) = &effective.client {
            line("client", client.to_string())?;
        }
        let no_verdict = "so that no verdict is based on CPU time";
        match self.softirq_in_cpu_time() {
            Some(true) => {}
            Some(false) => line("cpu time", format!("without softirq time, {no_verdict}"))?,
            None => line("cpu time", format!("with or without softirq time is not known, {no_verdict}"))?,
        }
        if has_receiver {
            line("buffers", format!("asked {}; send/receive {}", self.asked_buffers, effective.buffers()))?;
        }
        let nodelay = if server_socket.nodelay { "on" } else { "off" };
        line("tcp", format!("{}, nodelay {nodelay}", server_socket.congestion))?;
        let Machine { memlock, open_files, sysctls, .. } = machine;
        let sysctls: Vec<_> = sysctls.iter().map(|(name, value)| format!("{name} {value}")).collect();
        line("limits", format!("memlock {memlock}, open files {open_files}, {}", sysctls.join(", ")))
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
            queues: None,
            hardware: None,
            mtu_bytes: 1500,
            qdisc: Some("noqueue".to_owned()),
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
            machine: Machine {
                kernel: "6.1.0".to_owned(),
                cpu_model: "a CPU".to_owned(),
                smt: Some(false),
                cgroup: CgroupLimits::default(),
                softirq_in_cpu_time: Some(true),
                memlock: "unlimited".to_owned(),
                open_files: "1024".to_owned(),
                sysctls: Vec::new(),
                tuning: Some(Tuning::default()),
            },
            placements: Vec::new(),
            asked_buffers: "2097152 bytes".to_owned(),
            effective: Effective {
                topology: Topology::Anonymous,
                cpus: vec![Core { node: 0, cpus: vec![0, 1] }].into(),
                server_link: link("veth_s", 1),
                client_link: link("veth_c", 2),
                server_socket: socket.clone(),
                client_socket: socket,
                client: None,
            },
            sink: None,
        }
    }

    fn client(is_the_servers: bool) -> ClientMachine {
        ClientMachine {
            host: "bob".to_owned(),
            program: Program {
                version: "0.1.0".to_owned(),
                revision: "0123456789ab".to_owned(),
                dirty: false,
            },
            is_the_servers,
            cpus: vec![Core { node: 0, cpus: vec![0, 1] }].into(),
            machine: environment().machine,
        }
    }

    type Change = fn(&mut Environment);

    fn tuning(of: &mut Environment) -> &mut Tuning {
        of.machine.tuning.get_or_insert_default()
    }

    #[test]
    fn surroundings_differ_in_whatever_changes_the_numbers() {
        let mut then = environment();
        let seen = tuning(&mut then);
        (seen.turbo, seen.clock_source) = (Some(false), Some("tsc".to_owned()));
        assert_eq!(then.differences(&then), [""; 0]);
        assert_eq!(then.differences(&environment()), [""; 0], "what an earlier version did not record");
        let changes: [(&str, Change); 29] = [
            ("limits ", |now| now.machine.memlock = "65536 bytes".to_owned()),
            ("server qdisc ", |now| now.effective.server_link.qdisc = Some("fq".to_owned())),
            ("client qdisc ", |now| now.effective.client_link.qdisc = Some("fq".to_owned())),
            ("transparent huge pages ", |now| {
                tuning(now).transparent_huge_pages = Some("always".to_owned());
            }),
            ("GLIBC_TUNABLES ", |now| {
                tuning(now).glibc_tunables = Some("glibc.malloc.hugetlb=1".to_owned());
            }),
            ("governor ", |now| tuning(now).governors = vec!["powersave".to_owned()]),
            ("mitigations ", |now| {
                let text = "Mitigation: PTI".to_owned();
                tuning(now).vulnerabilities.insert("meltdown".to_owned(), text);
            }),
            ("turbo ", |now| tuning(now).turbo = Some(true)),
            ("clock source ", |now| tuning(now).clock_source = Some("hpet".to_owned())),
            ("client's congestion control ", |now| now.effective.client_socket.nodelay = false),
            ("IOMMU ", |now| tuning(now).iommu = vec!["DMA-FQ".to_owned()]),
            ("CONFIG_MAX_SKB_FRAGS ", |now| tuning(now).most_fragments = Some(45)),
            ("net.core.max_skb_frags ", |now| tuning(now).max_skb_frags = Some(17)),
            ("client ", |now| {
                let mut client = client(false);
                client.machine.memlock = "65536 bytes".to_owned();
                now.effective.client = Some(client);
            }),
            ("client ", |now| now.effective.client = Some(client(false))),
            ("client port ", |now| now.effective.client_link.queues = Some(Queues::default())),
            ("cpu ", |now| now.machine.cpu_model = "another".to_owned()),
            ("cpus ", |now| now.effective.cpus = now.effective.cpus.clone().at_most(1)),
            ("smt ", |now| now.machine.smt = Some(true)),
            ("cgroup ", |now| now.machine.cgroup.cpus = Some(1.5)),
            ("cgroup ", |now| now.machine.cgroup.memory_bytes = Some(1 << 30)),
            ("softirq in CPU time ", |now| now.machine.softirq_in_cpu_time = None),
            ("server port ", |now| now.effective.server_link.driver = Some("ixgbe".to_owned())),
            ("client port ", |now| now.effective.client_link.offloads.as_mut().unwrap().tx_checksum = false),
            ("mtu ", |now| now.effective.client_link.mtu_bytes = 9000),
            ("effective buffers ", |now| now.effective.server_socket.send_buffer_bytes = 425_984),
            ("effective buffers ", |now| now.effective.server_socket.recv_buffer_bytes = 425_984),
            ("effective buffers ", |now| now.effective.client_socket.send_buffer_bytes = 425_984),
            ("effective buffers ", |now| now.effective.client_socket.recv_buffer_bytes = 425_984),
        ];
        for (name, change) in changes {
            let mut now = then.clone();
            change(&mut now);
            let differences = then.differences(&now);
            assert!(matches!(&differences[..], [one] if one.starts_with(name)), "{name}: {differences:?}");
        }
    }

    #[test]
    fn data_stay_in_memory_between_two_ends_of_veth_or_loopback_on_one_machine() {
        let of = |server: &str, client: &str| {
            let mut effective = environment().effective;
            for (link, driver) in [(&mut effective.server_link, server), (&mut effective.client_link, client)]
            {
                link.driver = (driver != "lo").then(|| driver.to_owned());
                link.name = driver.to_owned();
            }
            effective
        };
        assert!(of("veth", "veth").stays_in_memory() && of("lo", "lo").stays_in_memory());
        for (server, client) in [("veth", "ixgbe"), ("ixgbe", "veth"), ("ixgbe", "ixgbe")] {
            assert!(!of(server, client).stays_in_memory());
        }
        for is_the_servers in [true, false] {
            let client = Some(client(is_the_servers));
            let effective = Effective { topology: Topology::Peer, client, ..of("veth", "veth") };
            assert_eq!(effective.stays_in_memory(), is_the_servers, "veth may end in a pod on another node");
        }
    }

    #[test]
    fn what_a_device_is_stacked_on_says_more_than_its_driver() {
        for (driver, hardware, stays) in [
            ("bridge", Some(vec![]), true),
            ("macvlan", Some(vec![]), true),
            ("vxlan", Some(vec![]), true),
            ("bridge", Some(vec!["eth0".to_owned()]), false),
            ("bridge", None, false),
            ("veth", None, true),
        ] {
            let mut effective = environment().effective;
            effective.server_link.driver = Some(driver.to_owned());
            effective.server_link.hardware.clone_from(&hardware);
            assert_eq!(effective.stays_in_memory(), stays, "{driver} on {hardware:?}");
        }
    }

    #[test]
    fn a_client_with_cpus_of_its_own_is_dealt_to_those() {
        let mut effective = environment().effective;
        let place =
            |effective: &Effective, placement, side| effective.place(placement, side, 1).unwrap().to_vec();
        effective.client = Some(client(true));
        assert_eq!(place(&effective, Placement::Split, Side::Server), [0]);
        assert_eq!(place(&effective, Placement::Split, Side::Client), [1]);
        effective.client = Some(client(false));
        for placement in [Placement::Paired, Placement::Split] {
            assert_eq!(place(&effective, placement, Side::Server), [1]);
            assert_eq!(place(&effective, placement, Side::Client), [1], "pair 1 of CPUs 0 and 1, over there");
        }
        assert_eq!(place(&effective, Placement::Free, Side::Client), [0, 1]);
        let text = effective.describe(Placement::Split);
        assert_eq!(text, "split: servers on 0,1 of their machine, clients on 0,1 of theirs");
    }

    #[test]
    fn surroundings_that_an_earlier_version_stored_are_read() {
        let mut stored = serde_json::to_value(environment()).unwrap();
        for name in ["smt", "cgroup", "softirq_in_cpu_time"] {
            assert!(stored.as_object_mut().unwrap().remove(name).is_some(), "{name}");
        }
        assert!(stored.as_object_mut().unwrap().remove("tuning").is_some());
        stored["effective"]["cpus"] = serde_json::json!([0, 1]);
        for link in ["server_link", "client_link"] {
            let link = stored["effective"][link].as_object_mut().unwrap();
            link.retain(|name, _| !["driver", "offloads", "qdisc"].contains(&name.as_str()));
        }
        let earlier: Environment = serde_json::from_value(stored).unwrap();
        let differ = earlier.differences(&environment()).join("; ");
        assert!(!differ.contains("governor") && !differ.contains("qdisc"), "it did not look: {differ}");
        assert_eq!(earlier.effective.cpus.numbers(), [0, 1]);
        assert_eq!((earlier.machine.smt, earlier.machine.softirq_in_cpu_time), (None, None));
    }

    #[test]
    fn cpu_time_that_may_lack_softirq_time_is_said_to() {
        let mut environment = environment();
        assert!(!environment.to_string().contains("softirq"), "{environment}");
        for state in [Some(false), None] {
            environment.machine.softirq_in_cpu_time = state;
            assert!(environment.to_string().contains("no verdict is based on CPU time"), "{environment}");
        }
    }

    #[test]
    fn the_set_up_is_said_and_of_the_mitigations_those_that_cost_something() {
        let mut environment = environment();
        let vulnerabilities = &mut tuning(&mut environment).vulnerabilities;
        for (name, text) in
            [("l1tf", "Not affected"), ("mds", "Vulnerable"), ("retbleed", "Mitigation: IBRS")]
        {
            vulnerabilities.insert(name.to_owned(), text.to_owned());
        }
        let text = environment.to_string();
        assert!(text.contains("qdisc        noqueue (server), noqueue (client)"), "{text}");
        assert!(text.contains("mitigations retbleed, IOMMU none, CONFIG_MAX_SKB_FRAGS not known"), "{text}");
        environment.machine.tuning = None;
        assert!(!environment.to_string().contains("mitigations"), "nobody looked");
    }

    #[test]
    fn a_cgroup_is_named_where_it_limits_something() {
        let mut environment = environment();
        assert!(!environment.to_string().contains("cgroup"), "{environment}");
        environment.machine.cgroup = CgroupLimits { cpus: Some(1.5), memory_bytes: Some(512 << 20) };
        let text = environment.to_string();
        assert!(text.contains("cgroup       CPU quota 1.50 CPUs, memory limit 512 MiB"), "{text}");
    }
}
