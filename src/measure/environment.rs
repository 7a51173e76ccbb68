//! The surroundings of a measurement: what they are, not what was asked for.

use std::fmt;

use nix::sys::resource::Resource;
use serde::{Deserialize, Serialize};

use crate::case::Placement;
use crate::limits;
use crate::pair::{Effective, EffectiveSocket, Setup};

/// Machine, limits and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's name.
    pub cpu_model: String,
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
    /// Whether the CPU time of a thread holds the softirqs that ran in its place; none where that was not looked at.
    #[serde(default)]
    pub softirq_in_cpu_time: Option<bool>,
}

const SYSCTLS: [&str; 3] = ["net/core/optmem_max", "net/core/wmem_max", "net/core/rmem_max"];

impl Environment {
    /// Reads the surroundings that the calling thread is in. `placements` are those to be measured.
    #[must_use]
    pub fn read(setup: &Setup, effective: &Effective, placements: &[Placement]) -> Self {
        let kernel = nix::sys::utsname::uname()
            .map_or_else(|errno| format!("unknown: {errno}"), |name| name.release().to_string_lossy().into());
        Self {
            kernel,
            cpu_model: cpu_model(),
            memlock: limits::memlock(),
            open_files: limits::soft(Resource::RLIMIT_NOFILE),
            sysctls: SYSCTLS.iter().map(|name| ((*name).to_owned(), limits::sysctl(name))).collect(),
            placements: placements.iter().map(|&placement| effective.cpus.describe(placement)).collect(),
            asked_buffers: setup.socket.buffers.to_string(),
            effective: effective.clone(),
            softirq_in_cpu_time: None,
        }
    }
}

impl Environment {
    /// What is not as it was: why numbers of the two are not of one kind. Each names both.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let facts = |of: &Self| {
            let Effective { topology, cpus, server_link, server_socket, .. } = &of.effective;
            [
                ("cpu", of.cpu_model.clone()),
                ("cpus", format!("{:?}", cpus.numbers())),
                ("kernel", of.kernel.clone()),
                ("topology", topology.to_string()),
                ("placement", of.placements.join("; ")),
                ("mtu", server_link.mtu_bytes.to_string()),
                ("buffers", of.asked_buffers.clone()),
                ("congestion control", server_socket.congestion.clone()),
            ]
        };
        let pairs = facts(self).into_iter().zip(facts(now)).filter(|((_, then), (_, now))| then != now);
        pairs.map(|((name, then), (_, now))| format!("{name} was {then:?} and is {now:?}")).collect()
    }
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

impl fmt::Display for Environment {
    /// A line for each setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effective { topology, cpus, server_link, client_link, server_socket, client_socket } =
            &self.effective;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<12} {value}");
        line("topology", topology.to_string())?;
        line(
            "link",
            format!(
                "{} {} (server), {} {} (client)",
                server_link.name, server_link.address, client_link.name, client_link.address
            ),
        )?;
        line("mtu", format!("{} and {} bytes", server_link.mtu_bytes, client_link.mtu_bytes))?;
        let cpu_numbers: Vec<_> = cpus.numbers().iter().map(ToString::to_string).collect();
        line("cpus", format!("{} of {}", cpu_numbers.join(","), self.cpu_model))?;
        for placement in &self.placements {
            line("placement", placement.clone())?;
        }
        line("kernel", self.kernel.clone())?;
        let buffers = |socket: &EffectiveSocket| {
            format!("{}/{} bytes", socket.send_buffer_bytes, socket.recv_buffer_bytes)
        };
        line(
            "buffers",
            format!(
                "asked {}; send/receive {} (server), {} (client)",
                self.asked_buffers,
                buffers(server_socket),
                buffers(client_socket)
            ),
        )?;
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
