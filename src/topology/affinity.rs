//! Which CPU each thread is pinned to.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::case::Placement;
use crate::error::{Error, Result};
use crate::sample::Side;

/// The CPUs that this process may use, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpus(Vec<usize>);

impl Cpus {
    /// Those that the calling thread is allowed
    /// ([`sched_getaffinity(2)`](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html)), so
    /// that `taskset` and containers are obeyed.
    ///
    /// # Errors
    /// The call's errno.
    pub fn allowed() -> Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0)).map_err(Error::call("sched_getaffinity(2)"))?;
        Ok(Self((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()))
    }

    /// The CPUs, by the kernel's numbers.
    #[must_use]
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }

    /// The CPUs on which one end of pair number `pair` runs.
    ///
    /// # Errors
    /// [`Error::Setting`] where the placement needs more CPUs than there are.
    pub fn place(&self, placement: Placement, side: Side, pair: usize) -> Result<&[usize]> {
        let deal = |cpus: &'_ [usize]| pair % cpus.len()..pair % cpus.len() + 1;
        match placement {
            Placement::Free => Ok(&self.0),
            Placement::Paired => Ok(&self.0[deal(&self.0)]),
            Placement::Split if self.0.len() < 2 => Err(Error::Setting(
                "placement split needs two CPUs, and this process is allowed one: use paired or free"
                    .to_owned(),
            )),
            Placement::Split => {
                let (servers, clients) = self.0.split_at(self.0.len() / 2);
                Ok(match side {
                    Side::Server => &servers[deal(servers)],
                    Side::Client => &clients[deal(clients)],
                })
            }
        }
    }
}

impl Cpus {
    /// Says in words where pairs run.
    #[must_use]
    pub fn describe(&self, placement: Placement) -> String {
        let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (servers, clients) = self.0.split_at(self.0.len() / 2);
        match placement {
            Placement::Paired => {
                format!("paired: both ends of a pair on one CPU, dealt from {}", list(&self.0))
            }
            Placement::Split if servers.is_empty() => "split: impossible on one CPU".to_owned(),
            Placement::Split => format!("split: servers on {}, clients on {}", list(servers), list(clients)),
            Placement::Free => format!("free: any of {}", list(&self.0)),
        }
    }
}

/// Pins the calling thread to `cpus`
/// ([`sched_setaffinity(2)`](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html)).
///
/// # Errors
/// The call's errno.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let call = "sched_setaffinity(2)";
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).map_err(Error::call(call))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(Error::call(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(cpus: &[usize], placement: Placement, pairs: usize) -> Vec<(Vec<usize>, Vec<usize>)> {
        let cpus = Cpus(cpus.to_vec());
        let place = |side, pair| cpus.place(placement, side, pair).unwrap().to_vec();
        (0..pairs).map(|pair| (place(Side::Server, pair), place(Side::Client, pair))).collect()
    }

    #[test]
    fn paired_puts_both_ends_on_one_cpu_and_deals_round_robin() {
        let one = |cpu| (vec![cpu], vec![cpu]);
        assert_eq!(placed(&[3, 5], Placement::Paired, 3), [one(3), one(5), one(3)]);
    }

    #[test]
    fn split_keeps_servers_and_clients_apart() {
        let apart = |server, client| (vec![server], vec![client]);
        assert_eq!(placed(&[0, 1, 2], Placement::Split, 3), [apart(0, 1), apart(0, 2), apart(0, 1)]);
        let error = Cpus(vec![0]).place(Placement::Split, Side::Server, 0).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
    }

    #[test]
    fn free_leaves_every_cpu_open() {
        assert_eq!(placed(&[0, 1], Placement::Free, 1), [(vec![0, 1], vec![0, 1])]);
    }
}
